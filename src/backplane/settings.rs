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
    /// Identifies this server: letters, digits, `_`, `.`, `:` and `-`.
    pub id: String,
    /// The address to which other servers redirect clients.
    pub address: Option<IpAddr>,
    /// The prefix of all keys. Several clusters with different prefixes can share one Redis.
    pub prefix: String,
    /// If Redis is not reachable yet, the server waits for it, and calls this once with the reason.
    /// `None`: the start fails.
    pub wait: Option<fn(&ClusterError)>,
    /// The time after which a silent server is considered dead. A server renews its lease three
    /// times as often.
    pub lease: Duration,
}

impl ClusterSettings {
    /// The default settings, with that Redis and id.
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

/// Returns whether the text can be an id. Ids are separated by spaces in Redis.
pub fn is_cluster_id(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_fine)
}

/// The reason why a server can't join a cluster.
#[derive(Debug)]
pub enum ClusterError {
    /// Redis is unreachable, or replies with an error.
    Engine {
        /// The address of Redis.
        address: String,
        /// The error of the system or of Redis.
        reason: String,
        /// The fix.
        cure: &'static str,
        /// Redis is unreachable, or is still loading: a retry may succeed.
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
    /// Returns whether a retry may succeed.
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
                "the engine at {address} can't be used ({reason}): {cure}"
            ),
            ClusterError::IdTaken(id) => write!(
                f,
                "another server that is running is called {id}: give this one a name of its own with --cluster-id NAME"
            ),
            ClusterError::OtherRules { server, passwords } => {
                let (theirs, cure) = if *passwords {
                    ("keeps passwords", "start this one without --no-passwords")
                } else {
                    (
                        "keeps no passwords",
                        "start this one with --no-passwords, too",
                    )
                };
                write!(
                    f,
                    "the server {server} of the same chat {theirs}, and this one would not: {cure}, or name another chat with --cluster-prefix"
                )
            }
            ClusterError::NoThread(error) => {
                write!(f, "the system gives no more threads ({error})")
            }
        }
    }
}

impl std::error::Error for ClusterError {}
