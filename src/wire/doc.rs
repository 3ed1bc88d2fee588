//! The documents as types: everything that a client or a server can say, and nothing else.

use std::borrow::Cow;
use std::fmt;

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
    },
    /// `<command>`: for the server alone.
    Command(ClientCommand),
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

/// The commands of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCommand {
    /// Ends the session (seed 000, rule 9).
    Terminate,
    /// The client gives up: it has heard nothing from the server (seed 000, revision 1).
    IdleTimeout,
    /// The client gives up: it has been connected for as long as it wanted to be.
    TotalTimeTimeout,
    /// Asks for a `PONG`; counts as no activity.
    Ping,
    /// The datagram that asks the UDP portal for a port. The portal does not look at it.
    Port,
}

impl ClientCommand {
    const ALL: [ClientCommand; 5] = [
        ClientCommand::Terminate,
        ClientCommand::IdleTimeout,
        ClientCommand::TotalTimeTimeout,
        ClientCommand::Ping,
        ClientCommand::Port,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ClientCommand::Terminate => "TERMINATE",
            ClientCommand::IdleTimeout => "IDLE TIMEOUT",
            ClientCommand::TotalTimeTimeout => "TOTAL TIME TIMEOUT",
            ClientCommand::Ping => "PING",
            ClientCommand::Port => "PORT",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<ClientCommand> {
        Self::ALL.into_iter().find(|command| command.name() == name)
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
    /// A worker's welcome: the passcode was right.
    Welcome {
        /// The worker's port.
        port: Port,
    },
    /// A worker's refusal; it closes the connection after it.
    WrongPasscode {
        /// The worker's port.
        port: Port,
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

/// A message on its way to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay<'a> {
    /// Who said it: a name, or the number of a seat's port.
    pub from: Cow<'a, str>,
    /// What was said.
    pub text: Cow<'a, str>,
    /// An action, as in "alice waves".
    pub me: bool,
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
    /// A frame over the limit; the connection is closed.
    TooLong,
    /// Too many refusals in a row; the connection is closed.
    TooManyErrors,
    /// A code that this version does not know (in a client, of a newer server).
    Unknown,
}

impl ErrorCode {
    const ALL: [ErrorCode; 6] = [
        ErrorCode::Malformed,
        ErrorCode::NotUtf8,
        ErrorCode::UnknownCommand,
        ErrorCode::Missing,
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
    fn every_command_is_found_under_its_name() {
        for command in ClientCommand::ALL {
            assert_eq!(ClientCommand::from_name(command.name()), Some(command));
        }
        assert_eq!(ClientCommand::from_name("FULL"), None);
    }

    #[test]
    fn every_error_code_is_found_under_its_word() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_word(code.word()), code);
        }
        assert_eq!(ErrorCode::from_word("coffee"), ErrorCode::Unknown);
    }
}
