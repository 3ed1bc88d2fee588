//! How a server takes part in a chat of several, and why it can't.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::EngineAddress;
use crate::limits;

/// How a server takes part in a chat of several.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Where the engine is.
    pub engine: EngineAddress,
    /// What tells this server apart from the others: letters, digits, `_`, `.`, `:` and `-`.
    pub id: String,
    /// Where the others send people.
    pub address: Option<IpAddr>,
    /// What the names of all keys begin with, so that several chats can have one engine.
    pub prefix: String,
    /// If Redis is not there yet, the start waits for it, and calls this once with the reason. Without
    /// it, the start fails.
    pub wait: Option<fn(&ClusterError)>,
    /// How long a server that says nothing is taken to live. It says something three times as often.
    pub lease: Duration,
}

impl ClusterSettings {
    /// As usual, with that engine and id.
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

/// Whether that tells a server apart: it stands between spaces in the engine's notes.
pub fn is_cluster_id(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_fine)
}

/// Why a server can't take part.
#[derive(Debug)]
pub enum ClusterError {
    /// The engine can't be reached, or answers with an error.
    Engine {
        /// Where it was looked for.
        address: String,
        /// What the system or the engine says.
        reason: String,
        /// What to do about it.
        cure: &'static str,
        /// Redis can't be reached, or is still loading: it may be there in a moment.
        is_temporary: bool,
    },
    /// Another server that lives has this id.
    IdTaken(String),
    /// Another server that lives has another rule for names.
    OtherRules {
        /// Its id.
        server: String,
        /// Whether names have passwords there.
        passwords: bool,
    },
    /// The system gives no thread.
    NoThread(std::io::Error),
}

impl ClusterError {
    /// Whether it may be over in a moment.
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
