//! What the documents of both sides have in common.

use std::borrow::Cow;
use std::fmt;

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

/// A password on its way. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<'a>(pub Cow<'a, str>);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Makes the codes, each with its word on the wire.
macro_rules! error_codes {
    ($( $(#[$about:meta])* $Code:ident $word:literal, )*) => {
        /// Why a server refuses what a client sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $( $(#[$about])* $Code, )*
            /// A code that this version does not know (in a client, of a newer server).
            Unknown,
        }

        impl ErrorCode {
            #[cfg(test)]
            const ALL: &[ErrorCode] = &[$( ErrorCode::$Code, )*];

            /// The word on the wire.
            pub fn word(self) -> &'static str {
                match self {
                    $( ErrorCode::$Code => $word, )*
                    ErrorCode::Unknown => "unknown",
                }
            }

            pub(super) fn from_word(word: &str) -> ErrorCode {
                match word {
                    $( $word => ErrorCode::$Code, )*
                    _ => ErrorCode::Unknown,
                }
            }
        }
    };
}

error_codes! {
    /// Not XML, or not rooted in `CLIENT`.
    Malformed "malformed",
    /// Bytes that are not UTF-8.
    NotUtf8 "not-utf8",
    /// A `<command>` that this server does not know.
    UnknownCommand "unknown-command",
    /// An element that has to be there is not.
    Missing "missing",
    /// The command is for people who are logged in, or `PASSWORD` came before `LOGIN`.
    LoginFirst "login-first",
    /// `LOGIN` or `PASSWORD` from somebody who is logged in.
    AlreadyLoggedIn "already-logged-in",
    /// Not 1 to 32 ASCII letters, digits, `_`, `.` or `-`.
    BadName "bad-name",
    /// Not 1 to 128 bytes, or a new password with control, invisible or unassigned characters.
    BadPassword "bad-password",
    /// A topic of more than 500 bytes.
    BadTopic "bad-topic",
    /// Not the account's password.
    WrongPassword "wrong-password",
    /// Somebody else goes by that name, where names are not protected by passwords.
    NameInUse "name-in-use",
    /// A callback to another machine than the asker's own, or to a port below 1024.
    BadCallback "bad-callback",
    /// Nobody of that name is logged in.
    NoSuchUser "no-such-user",
    /// The server could not store the account, or the account's line in the file is damaged.
    NotSaved "not-saved",
    /// `JOIN` from somebody who is in that room.
    AlreadyMember "already-member",
    /// Every room's port is in use.
    NoRoomLeft "no-room-left",
    /// There is no room of that name.
    NoSuchRoom "no-such-room",
    /// `LEAVE` from somebody who is not in that room.
    NotAMember "not-a-member",
    /// It needs the other servers, and they can't be reached now. Nothing was done.
    Unreachable "unreachable",
    /// The other servers did not answer in time: it may have been done or not.
    Unsure "unsure",
    /// A frame over the limit; the connection is closed.
    TooLong "too-long",
    /// Too many refusals in a row; the connection is closed.
    TooManyErrors "too-many-errors",
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
            assert_eq!(ErrorCode::from_word(code.word()), *code);
        }
        assert_eq!(ErrorCode::from_word("coffee"), ErrorCode::Unknown);
    }
}
