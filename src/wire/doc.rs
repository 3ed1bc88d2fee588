//! Types that clients' and servers' documents have in common.

use std::borrow::Cow;
use std::fmt;

/// `<callback>`: the port and address at which the client listens for the callback, not checked
/// yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackRequest {
    /// The text of `<Port>`.
    pub port: String,
    /// The text of `<Address>`, if present.
    pub address: Option<String>,
}

/// A client's first frame on a worker's or a room's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The passcode from the portal, if the client is honest.
    pub passcode: String,
    /// Set if the client wants to be called back instead of using this connection.
    pub callback: Option<CallbackRequest>,
}

/// A password in a document. The `Debug` output omits it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<'a>(pub Cow<'a, str>);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Generates the error codes, each with its word on the wire.
macro_rules! error_codes {
    ($( $(#[$about:meta])* $Code:ident $word:literal, )*) => {
        /// The reason why a server rejects a client's document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $( $(#[$about])* $Code, )*
            /// A code that this version does not know, for example from a newer server.
            Unknown,
        }

        impl ErrorCode {
            #[cfg(test)]
            const ALL: &[ErrorCode] = &[$( ErrorCode::$Code, )*];

            /// Returns the word on the wire.
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
    /// A required element is missing.
    Missing "missing",
    /// The command requires a login, or `PASSWORD` came before `LOGIN`.
    LoginFirst "login-first",
    /// `LOGIN` or `PASSWORD` from a client that is already logged in.
    AlreadyLoggedIn "already-logged-in",
    /// The name is not 1 to 32 ASCII letters, digits, `_`, `.` or `-`.
    BadName "bad-name",
    /// The password is not 1 to 128 bytes long, or it is new and contains control, invisible or
    /// unassigned characters.
    BadPassword "bad-password",
    /// A topic of more than 500 bytes.
    BadTopic "bad-topic",
    /// The wrong password for the account.
    WrongPassword "wrong-password",
    /// The session token is not valid, or is for a different name.
    BadToken "bad-token",
    /// Another client uses this name, and names are not protected by passwords.
    NameInUse "name-in-use",
    /// A callback to a machine other than the client's own, or to a port below 1024.
    BadCallback "bad-callback",
    /// No user with this name is logged in.
    NoSuchUser "no-such-user",
    /// The server could not store the account, or the account's line in the file is damaged.
    NotSaved "not-saved",
    /// `JOIN` from a member of the room.
    AlreadyMember "already-member",
    /// The ports of all rooms are in use.
    NoRoomLeft "no-room-left",
    /// No room has this name.
    NoSuchRoom "no-such-room",
    /// The client is not a member of the room.
    NotAMember "not-a-member",
    /// The server can't read the messages, or does not keep them.
    NoHistory "no-history",
    /// The request needs the other servers, which can't be reached now. Nothing was done.
    Unreachable "unreachable",
    /// The other servers did not answer in time. The request may or may not have been executed.
    Unsure "unsure",
    /// A ban, or a removal less than a minute ago; the connection is closed.
    Banned "banned",
    /// The name has no account, and registration is closed.
    RegistrationClosed "registration-closed",
    /// The name has no account, and a new one needs an invitation.
    InvitationNeeded "invitation-needed",
    /// The invitation does not exist, or was used.
    BadInvitation "bad-invitation",
    /// The user may not send messages now.
    Muted "muted",
    /// The command is for moderators, or moderators may not do this.
    NotAllowed "not-allowed",
    /// The room admits only users who were invited.
    InviteOnly "invite-only",
    /// The room has a password, and none or a wrong one was sent.
    RoomPassword "room-password",
    /// Only the room's moderators may send messages there.
    Moderated "moderated",
    /// The rules of a room can't be changed in this way.
    BadRule "bad-rule",
    /// The duration of a ban or a mute is not a number with a unit.
    BadDuration "bad-duration",
    /// A frame over the limit; the connection is closed.
    TooLong "too-long",
    /// Too many rejected documents in a row; the connection is closed.
    TooManyErrors "too-many-errors",
}

/// The reason why a frame is not a document in this protocol. The connection stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocError {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// Not well-formed XML, with the parser's reason.
    NotXml(String),
    /// The wrong root element for this side.
    WrongRoot {
        /// The correct root: `CLIENT` or `SERVER`.
        expected: &'static str,
    },
    /// An unknown command.
    UnknownCommand(String),
    /// A required element is missing.
    Missing(&'static str),
    /// An element is not a number, or not one in its range.
    BadNumber(&'static str),
}

impl DocError {
    /// Returns the error code for the client.
    pub fn code(&self) -> ErrorCode {
        match self {
            DocError::NotUtf8 => ErrorCode::NotUtf8,
            DocError::NotXml(_) | DocError::WrongRoot { .. } => ErrorCode::Malformed,
            DocError::UnknownCommand(_) => ErrorCode::UnknownCommand,
            DocError::Missing(_) | DocError::BadNumber(_) => ErrorCode::Missing,
        }
    }
}

impl fmt::Display for DocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocError::NotUtf8 => f.write_str("the bytes are not UTF-8 text"),
            DocError::NotXml(reason) => write!(f, "not an XML document: {reason}"),
            DocError::WrongRoot { expected } => {
                write!(f, "the root element must be <{expected}>")
            }
            DocError::UnknownCommand(name) => write!(f, "no such command: {name}"),
            DocError::Missing(element) => write!(f, "<{element}> is missing"),
            DocError::BadNumber(element) => write!(f, "<{element}> is not a valid number"),
        }
    }
}

impl std::error::Error for DocError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_a_secret() {
        assert_eq!(format!("{:?}", Secret("moon".into())), "Secret(…)");
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        let unknown = DocError::UnknownCommand("DANCE".to_owned());
        let wrong_root = DocError::WrongRoot { expected: "CLIENT" };
        for (error, code, sentence) in [
            (
                DocError::NotUtf8,
                ErrorCode::NotUtf8,
                "the bytes are not UTF-8 text",
            ),
            (unknown, ErrorCode::UnknownCommand, "no such command: DANCE"),
            (
                wrong_root,
                ErrorCode::Malformed,
                "the root element must be <CLIENT>",
            ),
            (
                DocError::Missing("to"),
                ErrorCode::Missing,
                "<to> is missing",
            ),
        ] {
            assert_eq!(
                (error.code(), error.to_string()),
                (code, sentence.to_owned())
            );
        }
    }

    #[test]
    fn every_error_code_is_found_under_its_word() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_word(code.word()), *code);
        }
        assert_eq!(ErrorCode::from_word("coffee"), ErrorCode::Unknown);
    }
}
