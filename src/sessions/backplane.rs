//! The interface to the other servers of one chat.
//!
//! The core asks a [`Backplane`] before it acts, and acts alone if there are no other servers. A
//! backplane shared with other servers delivers later, in the same order on all servers: it calls
//! [`BackplaneEvents`] on its own threads, never while a core lock is held.

use portal_wire::{Elsewhere, Name, Scope};

use crate::chat::Unwritten;
use crate::journal::{HistoryEntry, Stamp};

/// The client that makes a request: its session and its name.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'s> {
    /// The session that has logged in.
    pub session: u64,
    /// Its name.
    pub name: &'s Name,
}

/// The recipients of a message on all servers. `N` is a name, owned or borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients<N> {
    /// All clients that have logged in.
    Everyone,
    /// The members of a room.
    Room(N),
    /// One client.
    One(N),
}

impl Recipients<Name> {
    pub(crate) fn scope(&self) -> Scope<'static> {
        match self {
            Recipients::Everyone => Scope::Public,
            Recipients::Room(room) => Scope::Room(room.to_string().into()),
            Recipients::One(_) => Scope::Direct,
        }
    }
}

impl Recipients<&Name> {
    /// The same recipients, with their names copied.
    pub(crate) fn cloned(self) -> Recipients<Name> {
        match self {
            Recipients::Everyone => Recipients::Everyone,
            Recipients::Room(room) => Recipients::Room(room.clone()),
            Recipients::One(name) => Recipients::One(name.clone()),
        }
    }
}

/// The result of a request to the other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted for this number of recipients, not counting the sender. A direct message has the
    /// stamp on which the servers agreed, if they did.
    Sent(usize, Option<Stamp>),
    /// No client has this name.
    NoSuchUser,
    /// The sender has lost its name, or is not a member of the room.
    NotYours,
    /// Not done: the other servers are unreachable.
    Unreachable,
    /// Unknown: there was no reply in time.
    Unsure,
}

/// The routing decision for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// This server performs it alone, immediately.
    Local,
    /// The request's [`Reply`] will be called with the outcome.
    Pending,
    /// The request is rejected.
    Refused(Outcome),
}

/// Called once with a request's outcome. Must not block. The documents that it appends for clients
/// are written when the [`Unwritten`] is dropped.
pub type Reply = Box<dyn FnOnce(Outcome, &mut Unwritten) + Send>;

/// The result of claiming a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The session has the name.
    Granted,
    /// Another session has the name and keeps it.
    InUse,
    /// The other servers are unreachable.
    Unreachable,
}

/// A room's state on the other servers when the room begins here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Identifies this instance of the room when it is detached.
    pub token: u64,
    /// The name as its creator spelled it.
    pub name: String,
    /// The topic, and the client that set it.
    pub topic: Option<(String, String)>,
    /// The last messages, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// Decisions and deliveries shared among several servers. The default methods are those of a single
/// server, [`Alone`].
///
/// Methods that report changes made under a lock ([`Backplane::join`], [`Backplane::leave`],
/// [`Backplane::release`], [`Backplane::detach`]) never block. The others may wait for up to 1 s.
pub trait Backplane: Send + Sync {
    /// Publishes messages, each as its text and a flag for actions. With [`Route::Pending`], the
    /// recipients receive them through [`BackplaneEvents`]. In that case, `reply` was called with
    /// each message, and the [`Reply`] that it returned will be called with the outcome. A message
    /// without a sender can't be published.
    fn publish(
        &self,
        sender: Option<Sender<'_>>,
        to: Recipients<&Name>,
        messages: &mut dyn Iterator<Item = (&str, bool)>,
        reply: &mut dyn FnMut((&str, bool)) -> Reply,
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
        reply: &mut dyn FnMut((&str, bool)) -> Reply,
    ) -> Route {
        let _ = (sender, room, topic, reply);
        Route::Local
    }

    /// Returns whether joins and departures reach clients through [`BackplaneEvents`]; otherwise
    /// the core announces them itself.
    fn announces_presence(&self) -> bool {
        false
    }

    /// Claims a name for a session. `granted` is called only if the name is granted, in the order
    /// in which all servers grant names. Its argument is true if the name is taken from another
    /// session here. `is_ours` is true if a session here already has the name; it can then be taken
    /// over even while the other servers are unreachable.
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

    /// Releases the name of a session that has left; ordered after everything that the session
    /// sent.
    fn release(&self, sender: Sender<'_>) {
        let _ = sender;
    }

    /// Attaches a room that begins here. Returns its state on the other servers, or `None` if there
    /// are no other servers.
    fn attach(&self, room: &Name, history: usize) -> Option<Attached> {
        let _ = (room, history);
        None
    }

    /// Detaches a room that was attached with `token` and has ended here.
    fn detach(&self, room: &Name, token: u64) {
        let _ = (room, token);
    }

    /// Reports that the session has joined a room here.
    fn join(&self, sender: Sender<'_>, room: &Name) {
        let _ = (sender, room);
    }

    /// Reports that the session has left a room here; ordered after everything that it sent there.
    fn leave(&self, sender: Sender<'_>, room: &Name) {
        let _ = (sender, room);
    }

    /// The names of all clients on all servers, or `None` if only those here are known.
    fn users(&self) -> Option<Vec<String>> {
        None
    }

    /// The rooms on all servers, each with its number of members, or `None` if only those here are
    /// known.
    fn rooms(&self) -> Option<Vec<(String, usize)>> {
        None
    }

    /// The names of a room's members on all servers, or `None` if only those here are known.
    fn room_members(&self, room: &Name) -> Option<Vec<String>> {
        let _ = room;
        None
    }

    /// Another server with a free seat, for a client when this server has none.
    fn full_redirect(&self) -> Option<Elsewhere<'static>> {
        None
    }
}

/// The backplane of a chat with a single server.
pub struct Alone;

impl Backplane for Alone {}

/// Receives deliveries from the other servers. Methods must not block.
pub trait BackplaneEvents: Send + Sync {
    /// Handles an event. The documents that it appends for clients are written when `unwritten` is
    /// dropped.
    fn on_event(&self, event: BackplaneEvent<'_>, unwritten: &mut Unwritten);

    /// All clients that have logged in here, as session and name.
    fn users(&self) -> Vec<(u64, Name)>;

    /// The names of all rooms here.
    fn rooms(&self) -> Vec<Name>;

    /// All members of rooms here, as room, session and name.
    fn members(&self) -> Vec<(Name, u64, Name)>;
}

/// An event from the other servers or, in the common order, from this one. `here` is the session
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
    /// A session has lost its name to another one.
    TakenOver(u64),
    /// A notice for all clients here.
    Notice(&'e str),
    /// Messages from other servers were lost.
    Missed,
}

/// A message in the common order.
#[derive(Clone, Copy, Debug)]
pub struct RemoteMessage<'e> {
    /// The sender's name.
    pub from: &'e str,
    /// The text.
    pub text: &'e str,
    /// True for an action, as in "alice waves".
    pub me: bool,
    /// The sender's session, if it is here.
    pub here: Option<u64>,
    /// The message's stamp, unless its server does not stamp messages.
    pub stamp: Option<Stamp>,
}
