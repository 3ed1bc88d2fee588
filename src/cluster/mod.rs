//! The other servers, behind an engine that exists: a Redis keeps what all servers of a chat have in common.
//!
//! Names, public and direct messages and rooms are shared; seats, passcodes and pairs stay each server's own. Nothing
//! distributed is invented here. What has to happen in one step is a script that the engine runs (`cluster/scripts`);
//! order is the order of its streams; a server that lives holds a *lease*, a key that the engine forgets when it is not
//! renewed, and every change asks for it first, which is the *fence*.
//!
//! Two threads do it. `cluster-out` (`cluster/out.rs`) takes asks from a queue, and sends those that have gathered as one batch.
//! `cluster-in` (`cluster/incoming.rs`) is blocked in a read of the streams, and hands on what comes to whoever [`Hears`] it.
//! Everybody, also on the speaker's own server, hears what was said when it is read back: so there is one order for all.
//!
//! Who asks for something gives a function that is called with what became of it, by `cluster-out`: a speaker does
//! not wait. If the connection breaks while asks are in flight, what became of them is [`Fate::Unsure`], and they are
//! not sent again: so nothing is done twice. After every break the server says anew what it has, names and members, and
//! the engine's notes are made to fit that.

#[cfg(not(feature = "cluster"))]
mod absent;
#[cfg(feature = "cluster")]
mod address;
#[cfg(feature = "cluster")]
mod engine;
#[cfg(feature = "cluster")]
mod incoming;
#[cfg(feature = "cluster")]
mod member;
#[cfg(feature = "cluster")]
mod out;
#[cfg(feature = "cluster")]
mod shared;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::hall::{Account, Name};
use crate::limits;

#[cfg(not(feature = "cluster"))]
pub use absent::{Cluster, EngineAddress};
#[cfg(feature = "cluster")]
pub use address::EngineAddress;
#[cfg(feature = "cluster")]
pub use member::Cluster;

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

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterError::Engine { address, reason } => write!(
                f,
                "the engine at {address} can't be used ({reason}): start a Redis 7 there (`redis-server`), or name another \
                 with --cluster redis://HOST:PORT"
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

/// What this server says of itself, for the others and their operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Seats in all, and how many are free.
    pub seats: usize,
    /// How many of them are free.
    pub free: usize,
    /// The portal's port.
    pub port: u16,
    /// Where browsers are let in, if they are.
    pub web: Option<u16>,
    /// All ports speak TLS.
    pub tls: bool,
}

/// A server of the chat, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What it is called.
    pub id: String,
    /// It holds its lease.
    pub lives: bool,
    /// Where it sends people to itself, if it knows.
    pub address: Option<IpAddr>,
    /// How much is going on there.
    pub load: Load,
    /// How long the engine took to answer it last.
    pub lag: Duration,
}

/// Who hears what comes from the engine: this server's people. Nothing here may wait.
pub trait Hears: Send + Sync {
    /// Something has come.
    fn hear(&self, news: News<'_>);
    /// Everybody who has logged in here: the session's number and the name.
    fn people(&self) -> Vec<(u64, Name)>;
    /// Every room here, by its name.
    fn rooms(&self) -> Vec<Name>;
    /// Every member of a room here: room, session and name.
    fn members(&self) -> Vec<(Name, u64, Name)>;
    /// Every account that this server has in its file.
    fn accounts(&self) -> Vec<Account>;
    /// How much is going on here.
    fn load(&self) -> Load;
}

/// What comes from the engine.
#[derive(Debug)]
pub enum News<'n> {
    /// Somebody has logged in, here or elsewhere.
    Joined {
        /// Who.
        name: &'n str,
        /// The session, if it is here.
        here: Option<u64>,
    },
    /// Somebody has gone.
    Left {
        /// Who.
        name: &'n str,
    },
    /// A public message.
    Said(Spoken<'n>),
    /// Somebody has come into a room.
    RoomJoined {
        /// The room.
        room: &'n str,
        /// Who.
        name: &'n str,
        /// The session, if it is here.
        here: Option<u64>,
    },
    /// Somebody has left a room.
    RoomLeft {
        /// The room.
        room: &'n str,
        /// Who.
        name: &'n str,
    },
    /// Something said in a room.
    RoomSaid {
        /// The room.
        room: &'n str,
        /// What.
        spoken: Spoken<'n>,
        /// When, in seconds since 1970, by the engine's clock.
        at: i64,
    },
    /// What a room is about.
    Topic {
        /// The room.
        room: &'n str,
        /// Who says so, and what (empty: nothing any more).
        spoken: Spoken<'n>,
    },
    /// Something for one person here.
    Direct {
        /// The session that it is for.
        to: u64,
        /// What.
        spoken: Spoken<'n>,
        /// Is set once it has been handed over.
        handed: &'n mut bool,
    },
    /// That session's name is somebody else's now.
    TakenOver(u64),
    /// The engine is away.
    Lost {
        /// How that showed.
        reason: &'n str,
    },
    /// It is back.
    Back,
    /// So many of what others said can't be had any more.
    Missed {
        /// Of the public ones, or of that room.
        room: Option<&'n str>,
        /// How many things were said, or came and went; `None`: the engine has forgotten all, and can't tell.
        count: Option<u64>,
    },
    /// Something went wrong that the operator should know.
    Trouble {
        /// In doing what.
        doing: &'static str,
        /// Why.
        error: String,
    },
}

/// What somebody said.
#[derive(Clone, Copy, Debug)]
pub struct Spoken<'n> {
    /// Who.
    pub from: &'n str,
    /// What.
    pub text: &'n str,
    /// An action.
    pub me: bool,
    /// The speaker's session, if it is here.
    pub here: Option<u64>,
}

/// What became of an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has its place in the order; so many people were there besides the speaker.
    Sent(usize),
    /// Nobody has that name.
    Nobody,
    /// The speaker does not have the name, or is not in the room (any more).
    NotYours,
    /// The engine is away, and it was not sent.
    Unreachable,
    /// No answer came: it may have been done or not.
    Unsure,
}

/// What became of the wish for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is this session's.
    Yes,
    /// Somebody has it and keeps it.
    InUse,
    /// The engine is away, or did not answer.
    Unreachable,
}

/// A room as the others know it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Says which beginning of the room it was, when it ends.
    pub token: u64,
    /// Its name as it was spelled first.
    pub name: String,
    /// What it is about, and who said so.
    pub topic: Option<(String, String)>,
    /// What was said last: when (in seconds since 1970), who, an action, what.
    pub history: Vec<(i64, String, bool, String)>,
}

/// Who speaks: a session and its name.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'s> {
    /// The number of the session that has logged in.
    pub session: u64,
    /// As whom.
    pub name: &'s Name,
}

impl Speaker<'_> {
    #[cfg(feature = "cluster")]
    fn args(&self) -> Vec<String> {
        vec![
            self.session.to_string(),
            self.name.key(),
            self.name.to_string(),
        ]
    }
}

/// Called with what became of an ask, by `cluster-out` or by whoever asked. It may not wait.
pub type Done = Box<dyn FnOnce(Fate) + Send>;
