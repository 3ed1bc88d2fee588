//! The settings of a server in a cluster, and the errors that prevent it from joining.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::EngineAddress;
use crate::limits;

/// The settings of a server in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    pub engine: EngineAddress,
    /// This server's id: 1 to 64 ASCII letters, digits, `_`, `.`, `:` and `-`.
    pub id: String,
    /// The address to which other servers redirect clients.
    pub address: Option<IpAddr>,
    /// The prefix of all keys. Several clusters with different prefixes can share one Redis.
    pub prefix: String,
    /// Called once with the reason if Redis is unreachable at startup; the server then waits for
    /// it. With `None`, startup fails.
    pub wait: Option<fn(&ClusterError)>,
    /// Duration of the lease; see [`limits::LEASE`].
    pub lease: Duration,
}

impl ClusterSettings {
    /// Creates the default settings for the given Redis and id.
    pub fn new(engine: EngineAddress, id: impl Into<String>) -> ClusterSettings {
        ClusterSettings {
            engine,
            id: id.into(),
            address: None,
            wait: None,
            prefix: "portal-chat:".to_owned(),
            lease: limits::LEASE,
        }
    }
}

/// Returns whether the text is a valid server id. The scripts separate ids with spaces.
pub fn is_cluster_id(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_fine)
}

/// The reason why a server can't join a cluster.
#[derive(Debug)]
pub enum ClusterError {
    /// Redis is unreachable, or replies with an error.
    Engine {
        address: String,
        /// The error reported by the system or by Redis.
        reason: String,
        /// The fix, for the operator.
        cure: &'static str,
        /// True if a retry may succeed: Redis is unreachable or still loading.
        is_temporary: bool,
    },
    /// Another running server has this id.
    IdTaken(String),
    /// Another running server has a different rule for names.
    OtherRules {
        server: String,
        /// True if the other server protects names with passwords.
        passwords: bool,
    },
    /// The system can't start a thread.
    NoThread(std::io::Error),
}

impl ClusterError {
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, ClusterError::Engine { is_temporary, .. } if *is_temporary)
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterError::Engine {
                address,
                reason,
                cure,
                ..
            } => write!(
                f,
                "can't use the Redis server at {address} ({reason}): {cure}"
            ),
            ClusterError::IdTaken(id) => write!(
                f,
                "another running server has the id {id}: choose a different id with --cluster-id \
                 NAME"
            ),
            ClusterError::OtherRules { server, passwords } => {
                let (theirs, cure) = if *passwords {
                    ("uses passwords", "start this one without --no-passwords")
                } else {
                    (
                        "does not use passwords",
                        "start this one with --no-passwords as well",
                    )
                };
                write!(
                    f,
                    "the server {server} in the same chat {theirs}, unlike this one: {cure}, or \
                     choose another chat with --cluster-prefix"
                )
            }
            ClusterError::NoThread(error) => {
                write!(f, "the system can't start another thread ({error})")
            }
        }
    }
}

impl std::error::Error for ClusterError {}
