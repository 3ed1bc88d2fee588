//! The documents as types: everything that a client or a server can say, and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::net::Port;

/// What a client says in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientDoc<'a> {
    /// `<message>`: chat. The partner sees it.
    Message {
        /// What was said.
        text: Cow<'a, str>,
        /// `me='yes'`: an action, as in "alice waves".
        me: bool,
    },
    /// `<HandshakePasscode>`: the first frame on a worker's port. Only the server sees it.
    Handshake {
        /// What the portal gave, if this is an honest client.
        passcode: Cow<'a, str>,
        /// The client wants to be called instead of staying on this connection.
        callback: Option<CallbackRequest>,
    },
    /// `<command>`: for the server alone.
    Command(ClientCommand<'a>),
}

impl<'a> ClientDoc<'a> {
    /// A plain chat message.
    pub fn say(text: impl Into<Cow<'a, str>>) -> ClientDoc<'a> {
        ClientDoc::Message {
            text: text.into(),
            me: false,
        }
    }
}

/// `<callback>`: where the client listens and wants to be called. Not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackRequest {
    /// What stands in `<Port>`.
    pub port: String,
    /// What stands in `<Address>`, if there is one.
    pub address: Option<String>,
}

/// A client's first frame on a worker's or a room's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// What the portal gave, if this is an honest client.
    pub passcode: String,
    /// The client wants to be called instead of staying on this connection.
    pub callback: Option<CallbackRequest>,
}

/// The commands of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand<'a> {
    /// `TERMINATE` (also `EX` and `DISCONNECT`, as the seeds call it): ends the session.
    Terminate,
    /// `IDLE TIMEOUT`: the client gives up, having heard nothing from the server (seed 000,
    /// revision 1).
    IdleTimeout,
    /// `TOTAL TIME TIMEOUT`: the client gives up, having been connected for as long as it wanted.
    TotalTimeTimeout,
    /// `PING`: asks for a `PONG`; counts as no activity.
    Ping,
    /// `PORT`: the datagram that asks the UDP portal for a port. The portal does not look at it.
    Port,
    /// `LOGIN`: who the client is.
    Login {
        /// The name, not checked yet.
        username: Cow<'a, str>,
    },
    /// `PASSWORD`: the proof.
    Password(Secret<'a>),
    /// `WHO`: who is logged in.
    Who,
    /// `PM` (also `BM`): a public message, or the wish to say one next.
    Public {
        /// What to say to everyone; `None` makes the next message the public one.
        message: Option<Cow<'a, str>>,
        /// An action.
        me: bool,
    },
    /// `PM` with `<cancel/>`: the public message that `PM` alone announced will not be said.
    PublicCancel,
    /// `STAY`: the person is there, although they say nothing. Counts as activity; has no answer.
    Stay,
    /// `PASSWD`: another password for the account.
    Passwd {
        /// The password so far.
        old: Secret<'a>,
        /// The password from now on.
        new: Secret<'a>,
    },
    /// `JOIN`: into a room, which is made if there is none of that name.
    Join {
        /// The room's name, not checked yet.
        room: Cow<'a, str>,
        /// `<here/>`: to be spoken and heard on this connection, without one of the room's own.
        here: bool,
    },
    /// `SAY`: says something in a room, on the main connection.
    Say {
        /// The room's name, not checked yet.
        room: Cow<'a, str>,
        /// What.
        message: Cow<'a, str>,
        /// An action.
        me: bool,
    },
    /// `TOPIC`: what a room is about.
    Topic {
        /// The room's name, not checked yet.
        room: Cow<'a, str>,
        /// What it is about from now on; `None` asks.
        topic: Option<Cow<'a, str>>,
    },
    /// `LEAVE`: out of a room.
    Leave {
        /// The room's name, not checked yet.
        room: Cow<'a, str>,
    },
    /// `ROOMS`: which rooms there are.
    Rooms,
    /// `DM` alone: who could be written to.
    DirectList,
    /// `DM` with `<to>` and `<message>`.
    Direct {
        /// For whom.
        to: Cow<'a, str>,
        /// What.
        message: Cow<'a, str>,
        /// An action.
        me: bool,
    },
}

/// A password on its way. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<'a>(pub Cow<'a, str>);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a server says in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerDoc<'a> {
    /// The portal's answer: go to this port with this passcode.
    Ticket {
        /// The worker's port.
        port: Port,
        /// What to say there first.
        passcode: Cow<'a, str>,
    },
    /// The portal's other answer: every worker is occupied.
    Full,
    /// The passcode was right.
    Welcome {
        /// The worker's port, or the room's.
        port: Port,
        /// The room's name, at a room's port.
        room: Option<Cow<'a, str>>,
        /// The longest frame taken from the client, where it is not the usual one.
        max: Option<usize>,
    },
    /// The passcode was right, and the worker is about to call; the connection is closed after it.
    CallingBack {
        /// The worker's port.
        port: Port,
    },
    /// The welcome of a worker that has called the client, with the proof that it is the one.
    CalledBack {
        /// The worker's port.
        port: Port,
        /// What the client said when it asked to be called.
        passcode: Cow<'a, str>,
        /// The longest frame taken from the client, where it is not the usual one.
        max: Option<usize>,
    },
    /// The welcome of a server with one port, where nobody needs a passcode.
    WelcomeSingle {
        /// The number of the seat, from 1.
        seat: u32,
        /// The longest frame taken from the client, where it is not the usual one.
        max: Option<usize>,
    },
    /// The passcode was wrong; the connection is closed after it.
    WrongPasscode {
        /// The worker's port, or the room's.
        port: Port,
        /// The room's name, at a room's port.
        room: Option<Cow<'a, str>>,
    },
    /// Answers `JOIN`: a second connection to there, with that passcode, is the room's.
    Joined {
        /// The room's name.
        room: Cow<'a, str>,
        /// The server's address, as the asker reached it.
        address: IpAddr,
        /// The room's port.
        port: Port,
        /// Good for one connection.
        passcode: Cow<'a, str>,
    },
    /// Answers `JOIN` with `<here/>`: what is said in the room comes on this connection.
    JoinedHere {
        /// The room's name.
        room: Cow<'a, str>,
    },
    /// What a room is about, for its members.
    Topic {
        /// The room's name.
        room: Cow<'a, str>,
        /// What it is about; empty if nobody has said.
        topic: Cow<'a, str>,
        /// Who said so.
        username: Cow<'a, str>,
    },
    /// Answers `LEAVE`.
    Left {
        /// The room's name.
        room: Cow<'a, str>,
    },
    /// Answers `ROOMS`.
    Rooms {
        /// Each room's name and how many are in it.
        rooms: Vec<(Cow<'a, str>, usize)>,
    },
    /// Somebody has come into a room that one is in.
    RoomJoined {
        /// Who.
        username: Cow<'a, str>,
        /// The room's name.
        room: Cow<'a, str>,
    },
    /// Somebody has left a room that one is in.
    RoomLeft {
        /// Who.
        username: Cow<'a, str>,
        /// The room's name.
        room: Cow<'a, str>,
    },
    /// Chat that somebody else said.
    Relay(Relay<'a>),
    /// The partner seat is taken by `partner` (now, or since before the welcome).
    PartnerJoined {
        /// What `from` will say in its messages.
        partner: Cow<'a, str>,
    },
    /// The partner seat has become free.
    PartnerLeft {
        /// What `from` said in its messages.
        partner: Cow<'a, str>,
    },
    /// Nobody is in the partner seat; answers a message, too.
    NoPartner,
    /// The idle timeout is near: who says nothing until then is removed.
    IdleSoon {
        /// How many seconds are left.
        seconds: u64,
    },
    /// The answer to `PING`.
    Pong,
    /// Farewell: nothing heard for too long.
    IdleTimeout,
    /// Farewell: connected for as long as anybody may be.
    TotalTimeTimeout,
    /// Farewell: the client did not read what was sent to it.
    TooSlow,
    /// Farewell: the server is going down.
    Shutdown,
    /// Farewell: the operator removed the client.
    Kicked {
        /// Why, in the operator's words; may be empty.
        reason: Cow<'a, str>,
    },
    /// Farewell: the same user logged in again elsewhere.
    TakenOver,
    /// Answers `LOGIN`: the password, please.
    Password {
        /// The name has no account yet: the password that comes will be its password.
        new_account: bool,
    },
    /// Answers the right password (or `LOGIN`, where none is needed): logged in.
    LoggedIn {
        /// The name as it was registered.
        username: Cow<'a, str>,
    },
    /// Answers `WHO`.
    Who {
        /// Everyone who is logged in, in alphabetical order.
        users: Vec<Cow<'a, str>>,
    },
    /// Answers `PASSWD`: the new password is on the disk.
    PasswordChanged,
    /// Answers `PM` alone: the next message will be public.
    PublicNext,
    /// Answers `DM` alone.
    DirectList {
        /// Everyone else who is logged in, in alphabetical order.
        users: Vec<Cow<'a, str>>,
    },
    /// A public or direct message has been handed to this many people.
    Sent {
        /// How many outboxes took it.
        count: usize,
    },
    /// Somebody has logged in.
    UserJoined {
        /// Who.
        username: Cow<'a, str>,
    },
    /// Somebody who was logged in has gone.
    UserLeft {
        /// Who.
        username: Cow<'a, str>,
    },
    /// What the server tells people in words.
    Notice(Cow<'a, str>),
    /// What the client sent can't be done.
    Error {
        /// The kind, for programs.
        code: ErrorCode,
        /// The sentence, for people.
        sentence: Cow<'a, str>,
    },
}

/// Who a message was for.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The partner seat.
    #[default]
    Partner,
    /// Everyone who is logged in.
    Public,
    /// One person.
    Direct,
    /// The members of the room of that name.
    Room(Cow<'a, str>),
}

impl Scope<'_> {
    /// The same scope, without a copy of the room's name.
    pub fn as_borrowed(&self) -> Scope<'_> {
        match self {
            Scope::Partner => Scope::Partner,
            Scope::Public => Scope::Public,
            Scope::Direct => Scope::Direct,
            Scope::Room(name) => Scope::Room(name.as_ref().into()),
        }
    }
}

/// A message on its way to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay<'a> {
    /// Who it is for.
    pub scope: Scope<'a>,
    /// Who said it: a name, or the number of a seat's port.
    pub from: Cow<'a, str>,
    /// What was said.
    pub text: Cow<'a, str>,
    /// An action, as in "alice waves".
    pub me: bool,
    /// Said before the one who gets it came in.
    pub old: bool,
    /// When an old message was said (RFC 3339, UTC).
    pub time: Option<Cow<'a, str>>,
}

/// Why a server refuses what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Not XML, or not rooted in `CLIENT`.
    Malformed,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A `<command>` that this server does not know.
    UnknownCommand,
    /// An element that has to be there is not.
    Missing,
    /// The command is for people who are logged in, or `PASSWORD` came before `LOGIN`.
    LoginFirst,
    /// `LOGIN` or `PASSWORD` from somebody who is logged in.
    AlreadyLoggedIn,
    /// Not 1 to 32 ASCII letters, digits, `_`, `.` or `-`.
    BadName,
    /// Not 1 to 128 bytes.
    BadPassword,
    /// Not the account's password.
    WrongPassword,
    /// Somebody else goes by that name, where names are not protected by passwords.
    NameInUse,
    /// A callback to another machine than the asker's own, or to a port below 1024.
    BadCallback,
    /// Nobody of that name is logged in.
    NoSuchUser,
    /// The server could not store the account.
    NotSaved,
    /// `JOIN` from somebody who is in that room.
    AlreadyMember,
    /// Every room's port is in use.
    NoRoomLeft,
    /// There is no room of that name.
    NoSuchRoom,
    /// `LEAVE` from somebody who is not in that room.
    NotAMember,
    /// A frame over the limit; the connection is closed.
    TooLong,
    /// Too many refusals in a row; the connection is closed.
    TooManyErrors,
    /// A code that this version does not know (in a client, of a newer server).
    Unknown,
}

impl serde::Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl ErrorCode {
    const ALL: [ErrorCode; 19] = [
        ErrorCode::Malformed,
        ErrorCode::NotUtf8,
        ErrorCode::UnknownCommand,
        ErrorCode::Missing,
        ErrorCode::LoginFirst,
        ErrorCode::AlreadyLoggedIn,
        ErrorCode::BadName,
        ErrorCode::BadPassword,
        ErrorCode::WrongPassword,
        ErrorCode::NameInUse,
        ErrorCode::BadCallback,
        ErrorCode::NoSuchUser,
        ErrorCode::NotSaved,
        ErrorCode::AlreadyMember,
        ErrorCode::NoRoomLeft,
        ErrorCode::NoSuchRoom,
        ErrorCode::NotAMember,
        ErrorCode::TooLong,
        ErrorCode::TooManyErrors,
    ];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            ErrorCode::Malformed => "malformed",
            ErrorCode::NotUtf8 => "not-utf8",
            ErrorCode::UnknownCommand => "unknown-command",
            ErrorCode::Missing => "missing",
            ErrorCode::LoginFirst => "login-first",
            ErrorCode::AlreadyLoggedIn => "already-logged-in",
            ErrorCode::BadName => "bad-name",
            ErrorCode::BadPassword => "bad-password",
            ErrorCode::WrongPassword => "wrong-password",
            ErrorCode::NameInUse => "name-in-use",
            ErrorCode::BadCallback => "bad-callback",
            ErrorCode::NoSuchUser => "no-such-user",
            ErrorCode::NotSaved => "not-saved",
            ErrorCode::AlreadyMember => "already-member",
            ErrorCode::NoRoomLeft => "no-room-left",
            ErrorCode::NoSuchRoom => "no-such-room",
            ErrorCode::NotAMember => "not-a-member",
            ErrorCode::TooLong => "too-long",
            ErrorCode::TooManyErrors => "too-many-errors",
            ErrorCode::Unknown => "unknown",
        }
    }

    pub(super) fn from_word(word: &str) -> ErrorCode {
        Self::ALL
            .into_iter()
            .find(|code| code.word() == word)
            .unwrap_or(ErrorCode::Unknown)
    }
}

/// Why a frame is not a document of this protocol. The connection stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocError {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// Not well-formed XML, with the parser's reason.
    NotXml(String),
    /// The root element is not the one of that side.
    WrongRoot {
        /// `CLIENT` or `SERVER`.
        expected: &'static str,
    },
    /// A command that nobody here knows.
    UnknownCommand(String),
    /// An element is absent.
    Missing(&'static str),
}

impl DocError {
    /// The code that a client is answered with.
    pub fn code(&self) -> ErrorCode {
        match self {
            DocError::NotUtf8 => ErrorCode::NotUtf8,
            DocError::NotXml(_) | DocError::WrongRoot { .. } => ErrorCode::Malformed,
            DocError::UnknownCommand(_) => ErrorCode::UnknownCommand,
            DocError::Missing(_) => ErrorCode::Missing,
        }
    }
}

impl fmt::Display for DocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocError::NotUtf8 => f.write_str("the bytes are not UTF-8 text"),
            DocError::NotXml(reason) => write!(f, "not an XML document: {reason}"),
            DocError::WrongRoot { expected } => {
                write!(f, "the outermost element has to be <{expected}>")
            }
            DocError::UnknownCommand(name) => write!(f, "no such command: {name}"),
            DocError::Missing(element) => write!(f, "there is no <{element}> in it"),
        }
    }
}

impl std::error::Error for DocError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_is_found_under_its_word() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_word(code.word()), code);
        }
        assert_eq!(ErrorCode::from_word("coffee"), ErrorCode::Unknown);
    }
}
