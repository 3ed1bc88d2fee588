//! What comes from the other servers, and who hears it.

use std::net::IpAddr;
use std::time::Duration;

use crate::accounts::Account;
use crate::hall::Unwritten;
use crate::wire::Name;

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
    /// Something has come. What it makes people hear is written when the turn is over.
    fn hear(&self, news: News<'_>, unwritten: &mut Unwritten);
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
        at: u64,
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
    /// All servers of the chat, this one among them, as they were heard of last.
    Servers(&'n [Neighbour]),
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
