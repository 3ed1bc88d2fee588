//! The seam to the other servers of one chat.
//!
//! The core asks a [`Backplane`] before it acts, and acts by itself when the answer is that there
//! are no others. A backplane with others delivers later, in the order that is the same on all
//! servers: it calls [`BackplaneEvents`] on its own threads, never under a lock of the core.

use std::time::SystemTime;

use portal_wire::{Elsewhere, Name};

use crate::hall::Unwritten;

/// The client that sends or changes something: a session and its name.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'s> {
    /// The session that has logged in.
    pub session: u64,
    /// Its name.
    pub name: &'s Name,
}

/// The recipients of a message on all servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients<'r> {
    /// All clients that have logged in.
    Everyone,
    /// The members of a room.
    Room(&'r Name),
    /// One client.
    One(&'r Name),
}

/// The result of a request to the other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted for that many recipients besides the sender.
    Sent(usize),
    /// No client has that name.
    NoSuchUser,
    /// The sender has lost its name, or is not in the room (any more).
    NotYours,
    /// Not done: the other servers can't be reached.
    Unreachable,
    /// Done or not: there was no answer in time.
    Unsure,
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// This server does it alone, now.
    Local,
    /// The reply will be called with the outcome.
    Pending,
    /// It is not done.
    Refused(Outcome),
}

/// Called once with a request's outcome. Must not block; what it appends for clients is written when
/// the [`Unwritten`] is dropped.
pub type Reply = Box<dyn FnOnce(Outcome, &mut Unwritten) + Send>;

/// The result of a claim for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The session has the name.
    Granted,
    /// Another session has the name and keeps it.
    InUse,
    /// The other servers can't be reached.
    Unreachable,
}

/// A room as the other servers know it when it begins here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Identifies this beginning of the room when it ends.
    pub token: u64,
    /// The name in its first spelling.
    pub name: String,
    /// The topic, and who set it.
    pub topic: Option<(String, String)>,
    /// The last messages, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// A message in a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The sender's name.
    pub from: String,
    /// The text.
    pub text: String,
    /// An action, as in "alice waves".
    pub me: bool,
    /// The time of sending.
    pub sent_at: SystemTime,
}

/// What several servers decide and deliver together. The default of each method is a chat of one
/// server, [`Alone`].
///
/// Methods that take a lock's holder's changes ([`Backplane::join`], [`Backplane::leave`],
/// [`Backplane::release`], [`Backplane::detach`]) never block. The others may wait for a second.
pub trait Backplane: Send + Sync {
    /// Publishes messages: each a text, and whether it is an action. With [`Route::Pending`], the
    /// recipients get them through [`BackplaneEvents`]; `reply` was called with each text and has
    /// returned what is called with its outcome. Without a sender, messages can't be published.
    fn publish(
        &self,
        sender: Option<Sender<'_>>,
        to: Recipients<'_>,
        messages: &mut dyn Iterator<Item = (&str, bool)>,
        reply: &mut dyn FnMut(&str) -> Reply,
    ) -> Route {
        let _ = (sender, to, messages, reply);
        Route::Local
    }

    /// Sets a room's topic; like [`Backplane::publish`].
    fn set_topic(
        &self,
        sender: Option<Sender<'_>>,
        room: &Name,
        topic: &str,
        reply: &mut dyn FnMut(&str) -> Reply,
    ) -> Route {
        let _ = (sender, room, topic, reply);
        Route::Local
    }

    /// Whether joins and departures reach clients through [`BackplaneEvents`], and are not announced
    /// by the core itself.
    fn announces_presence(&self) -> bool {
        false
    }

    /// Claims a name for a session. `granted` is called in the order in which all servers grant
    /// names, and only if the name is granted; its argument says whether the name is taken from
    /// another session here. `is_ours` says whether a session here has the name already: then it may
    /// be taken over although the other servers can't be reached.
    fn claim(
        &self,
        sender: Sender<'_>,
        take_over: bool,
        is_ours: bool,
        granted: Box<dyn FnOnce(bool) + Send>,
    ) -> Claim {
        let _ = (sender, is_ours);
        granted(take_over);
        Claim::Granted
    }

    /// The session has left; follows everything that it sent.
    fn release(&self, sender: Sender<'_>) {
        let _ = sender;
    }

    /// A room begins here. Returns what the others know of it; `None` if there are no others.
    fn attach(&self, room: &Name, history: usize) -> Option<Attached> {
        let _ = (room, history);
        None
    }

    /// A room has ended here that was attached with `token`.
    fn detach(&self, room: &Name, token: u64) {
        let _ = (room, token);
    }

    /// The session has joined a room here.
    fn join(&self, sender: Sender<'_>, room: &Name) {
        let _ = (sender, room);
    }

    /// The session has left a room here; follows everything that it sent there.
    fn leave(&self, sender: Sender<'_>, room: &Name) {
        let _ = (sender, room);
    }

    /// The names of all clients on all servers; `None` if only those here are known.
    fn users(&self) -> Option<Vec<String>> {
        None
    }

    /// The rooms on all servers with their numbers of members; `None` if only those here are known.
    fn rooms(&self) -> Option<Vec<(String, usize)>> {
        None
    }

    /// Another server with a free seat, for a client that finds none here.
    fn full_redirect(&self) -> Option<Elsewhere<'static>> {
        None
    }
}

/// A chat of one server.
pub struct Alone;

impl Backplane for Alone {}

/// Gets what the other servers deliver. Methods must not block.
pub trait BackplaneEvents: Send + Sync {
    /// Something has arrived. What it appends for clients is written when `unwritten` is dropped.
    fn on_event(&self, event: BackplaneEvent<'_>, unwritten: &mut Unwritten);

    /// All clients that have logged in here: session and name.
    fn users(&self) -> Vec<(u64, Name)>;

    /// The names of all rooms here.
    fn rooms(&self) -> Vec<Name>;

    /// All members of rooms here: room, session and name.
    fn members(&self) -> Vec<(Name, u64, Name)>;
}

/// Something from the other servers, or, in the common order, from this one. `here` is the session
/// that caused it, if it is on this server.
#[derive(Debug)]
pub enum BackplaneEvent<'e> {
    /// A client has logged in.
    Joined {
        /// Its name.
        name: &'e str,
        /// Its session.
        here: Option<u64>,
    },
    /// A client has left.
    Left {
        /// Its name.
        name: &'e str,
    },
    /// A public message.
    Public(RemoteMessage<'e>),
    /// A client has joined a room.
    RoomJoined {
        /// The room's key.
        room: &'e str,
        /// The client's name.
        name: &'e str,
        /// Its session.
        here: Option<u64>,
    },
    /// A client has left a room.
    RoomLeft {
        /// The room's key.
        room: &'e str,
        /// The client's name.
        name: &'e str,
    },
    /// A message to a room.
    Room {
        /// The room's key.
        room: &'e str,
        /// The message.
        message: RemoteMessage<'e>,
        /// The time of sending.
        sent_at: SystemTime,
    },
    /// A room's topic; an empty text removes it.
    Topic {
        /// The room's key.
        room: &'e str,
        /// The topic.
        message: RemoteMessage<'e>,
    },
    /// A message for one client here.
    Direct {
        /// The recipient's session.
        to: u64,
        /// The message.
        message: RemoteMessage<'e>,
        /// Set to true if the message was queued for the recipient.
        queued: &'e mut bool,
    },
    /// That session has lost its name to another one.
    TakenOver(u64),
    /// All clients here are to be told something.
    Notice(&'e str),
}

/// A message in the common order.
#[derive(Clone, Copy, Debug)]
pub struct RemoteMessage<'e> {
    /// The sender's name.
    pub from: &'e str,
    /// The text.
    pub text: &'e str,
    /// An action, as in "alice waves".
    pub me: bool,
    /// The sender's session, if it is here.
    pub here: Option<u64>,
}
