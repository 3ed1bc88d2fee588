//! The client's documents, one row for each command, and how they are read and written.

use std::borrow::Cow;

use roxmltree::Node;

use super::doc::{CallbackRequest, DocError, Handshake, Secret};
use super::documents::documents;
use super::elements::{
    Flag, Hidden, Me, Optional, OptionalHidden, OptionalNumber, OrEmpty, Text, Trimmed, child,
    element, empty, is_yes, parse, rooted, text_of, trimmed,
};
use crate::limits;

/// A client's document, which is the content of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientDoc<'a> {
    /// `<message>`: chat for the partner.
    Message {
        /// The text.
        text: Cow<'a, str>,
        /// `me='yes'`: an action, as in "alice waves".
        me: bool,
    },
    /// `<HandshakePasscode>`: the first frame on a worker's port, for the server only.
    Handshake {
        /// The passcode from the portal, if the client is honest.
        passcode: Cow<'a, str>,
        /// Set if the client wants to be called back instead of using this connection.
        callback: Option<CallbackRequest>,
    },
    /// `<command>`: for the server only.
    Command(ClientCommand<'a>),
}

impl<'a> ClientDoc<'a> {
    /// Returns the handshake, if this is one.
    pub fn into_handshake(self) -> Option<Handshake> {
        match self {
            ClientDoc::Handshake { passcode, callback } => Some(Handshake {
                passcode: passcode.into_owned(),
                callback,
            }),
            _ => None,
        }
    }

    /// Creates a plain chat message.
    pub fn message(text: impl Into<Cow<'a, str>>) -> ClientDoc<'a> {
        ClientDoc::Message {
            text: text.into(),
            me: false,
        }
    }
}

documents! {
    /// The commands that a client sends.
    pub enum ClientCommand<'a> {
        ;
        /// `PM` with `<cancel/>`: cancels the public message that `PM` alone announced.
        "PM" | "BM" if gives_up => PublicCancel,
        /// `DM` alone: requests the list of possible recipients.
        "DM" if is_alone => DirectList,
        /// `TERMINATE` (also `EX` and `DISCONNECT`, as the seeds call it): ends the session.
        "TERMINATE" | "EX" | "DISCONNECT" => Terminate,
        /// `IDLE TIMEOUT`: the client disconnects because it has received nothing from the server
        /// (seed 000, revision 1).
        "IDLE TIMEOUT" => IdleTimeout,
        /// `TOTAL TIME TIMEOUT`: the client disconnects because it has been connected for as long
        /// as it wanted.
        "TOTAL TIME TIMEOUT" => TotalTimeTimeout,
        /// `PING`: requests a `PONG`. Does not count as activity.
        "PING" => Ping,
        /// `PORT`: the datagram that requests a port from the UDP portal. The portal ignores its
        /// content.
        "PORT" => Port,
        /// `LOGIN`: the name of the user.
        "LOGIN" => Login {
            /// The name, not checked yet.
            username: Cow<'a, str> = Trimmed "username",
        },
        /// `PASSWORD`: the proof of identity.
        "PASSWORD" => Password {
            /// The password to check.
            password: Secret<'a> = Hidden "password",
        },
        /// `WHO`: requests the list of users who are logged in.
        "WHO" => Who,
        /// `PM` (also `BM`): sends a public message, or announces one.
        "PM" | "BM" => Public {
            /// The message for all users; `None` makes the next message public.
            message: Option<Cow<'a, str>> = Optional "message",
            /// Set for an action.
            me: bool = Me "me",
        },
        /// `TOKEN`: requests a session token, with which the client can log in later.
        "TOKEN" => Token,
        /// `RESUME`: logs in with a session token.
        "RESUME" => Resume {
            /// The name, not checked yet.
            username: Cow<'a, str> = Trimmed "username",
            /// The token to check.
            token: Secret<'a> = Hidden "token",
        },
        /// `LOGOUT`: revokes a session token, and ends the session.
        "LOGOUT" => Logout {
            /// The token.
            token: Secret<'a> = Hidden "token",
        },
        /// `MEMBERS`: requests the names of a room's members.
        "MEMBERS" => Members {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
        },
        /// `STAY`: counts as activity without a message. Has no reply.
        "STAY" => Stay,
        /// `PASSWD`: changes the account's password.
        "PASSWD" => Passwd {
            /// The old password.
            old: Secret<'a> = Hidden "old",
            /// The new password.
            new: Secret<'a> = Hidden "new",
        },
        /// `JOIN`: joins a room, which is created if it does not exist.
        "JOIN" => Join {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// `<here/>`: uses this connection for the room's messages, instead of a separate
            /// connection to the room.
            here: bool = Flag "here",
            /// The room's password, if it has one.
            password: Option<Secret<'a>> = OptionalHidden "password",
        },
        /// `SAY`: sends a message to a room on the main connection.
        "SAY" => Say {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// The text.
            message: Cow<'a, str> = Text "message",
            /// Set for an action.
            me: bool = Me "me",
        },
        /// `TOPIC`: sets or requests a room's topic.
        "TOPIC" => Topic {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// The new topic; `None` requests the current one.
            topic: Option<Cow<'a, str>> = Optional "topic",
        },
        /// `LEAVE`: leaves a room.
        "LEAVE" => Leave {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
        },
        /// `ROOMS`: requests the list of rooms.
        "ROOMS" => Rooms,
        /// `ROOM`: requests a room's rules, or changes one of them.
        "ROOM" => Room {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// The new access: `open`, `invite` or `password`.
            access: Option<Cow<'a, str>> = Optional "access",
            /// The room's password from now on.
            password: Option<Secret<'a>> = OptionalHidden "password",
            /// `yes` lets only the room's moderators send messages; `no` lets every member.
            moderated: Option<Cow<'a, str>> = Optional "moderated",
            /// The user who becomes a moderator of the room.
            moderator: Option<Cow<'a, str>> = Optional "moderator",
            /// Set if the user stops being a moderator of the room instead.
            remove: bool = Flag "remove",
        },
        /// `INVITE`: invites a user to a room.
        "INVITE" => Invite {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// The user's name.
            username: Cow<'a, str> = Trimmed "username",
        },
        /// `INVITATION`: the code of an invitation, for the account that is registered next.
        "INVITATION" => Invitation {
            /// The code.
            code: Secret<'a> = Hidden "code",
        },
        /// `KICK`: a moderator disconnects a client, or removes a user from a room.
        "KICK" => Kick {
            /// The room's name, not checked yet; `None` means the server.
            room: Option<Cow<'a, str>> = Optional "room",
            /// The client's name, or the port of its seat.
            username: Cow<'a, str> = Trimmed "username",
            /// The reason for the client; may be empty.
            reason: Cow<'a, str> = OrEmpty "reason",
        },
        /// `MUTE`: a moderator forbids a user from sending messages.
        "MUTE" => Mute {
            /// The only room where that applies; `None` means everywhere.
            room: Option<Cow<'a, str>> = Optional "room",
            /// The user's name.
            username: Cow<'a, str> = Trimmed "username",
            /// The duration, such as `10m`; `None` means until `UNMUTE`.
            duration: Option<Cow<'a, str>> = Optional "duration",
        },
        /// `UNMUTE`: a moderator lifts a mute.
        "UNMUTE" => Unmute {
            /// The room of the mute, if it is a room's.
            room: Option<Cow<'a, str>> = Optional "room",
            /// The user's name.
            username: Cow<'a, str> = Trimmed "username",
        },
        /// `BAN`: a moderator bans a name.
        "BAN" => Ban {
            /// The name.
            username: Cow<'a, str> = Trimmed "username",
            /// The duration, such as `10m`; `None` means until `UNBAN`.
            duration: Option<Cow<'a, str>> = Optional "duration",
            /// The reason for the client; may be empty.
            reason: Cow<'a, str> = OrEmpty "reason",
        },
        /// `UNBAN`: a moderator lifts a ban.
        "UNBAN" => Unban {
            /// The name.
            username: Cow<'a, str> = Trimmed "username",
        },
        /// `REPORT`: reports a user to the operator and the moderators.
        "REPORT" => Report {
            /// The user's name, or the port of a seat.
            username: Cow<'a, str> = Trimmed "username",
            /// The reason.
            reason: Cow<'a, str> = Text "reason",
        },
        /// `HISTORY`: requests old messages in a conversation: a room's, those with another user,
        /// or, without `<room>` and `<with>`, the public ones.
        "HISTORY" => History {
            /// The room's name, not checked yet.
            room: Option<Cow<'a, str>> = Optional "room",
            /// The other user's name, not checked yet.
            with: Option<Cow<'a, str>> = Optional "with",
            /// Only messages with smaller ids.
            before: Option<u64> = OptionalNumber "before",
            /// Only messages with greater ids. If this is set, the oldest of them are returned,
            /// otherwise the newest.
            after: Option<u64> = OptionalNumber "after",
            /// The maximum number of messages.
            count: Option<usize> = OptionalNumber "count",
        },
        /// `DM` with `<to>` and `<message>`: sends a direct message.
        "DM" => Direct {
            /// The recipient's name.
            to: Cow<'a, str> = Trimmed "to",
            /// The text.
            message: Cow<'a, str> = Text "message",
            /// Set for an action.
            me: bool = Me "me",
        },
    }
}

/// Returns whether this is `PM` with `<cancel/>` and no message.
fn gives_up(root: Node<'_, '_>) -> bool {
    child(root, "message").is_none() && child(root, "cancel").is_some()
}

/// Returns whether this is `DM` alone.
fn is_alone(root: Node<'_, '_>) -> bool {
    child(root, "message").is_none() && child(root, "to").is_none()
}

pub(super) fn read_client(frame: &str) -> Result<ClientDoc<'_>, DocError> {
    if let Some(text) = plainest_message(frame) {
        return Ok(ClientDoc::message(text));
    }
    let document = parse(frame, limits::XML_NODES)?;
    let root = rooted(&document, "CLIENT")?;
    if let Some(command) = child(root, "command") {
        return ClientCommand::read_command(root, text_of(command).trim()).map(ClientDoc::Command);
    }
    if let Some(passcode) = child(root, "HandshakePasscode") {
        return Ok(ClientDoc::Handshake {
            passcode: trimmed(text_of(passcode)),
            callback: child(root, "callback").map(read_callback),
        });
    }
    let message = child(root, "message").ok_or(DocError::Missing("message"))?;
    let me = is_yes(root, "me") || is_yes(message, "me");
    Ok(ClientDoc::Message {
        text: text_of(message),
        me,
    })
}

/// Returns the text of the most common document: a message without escapes. The parser would return
/// the same text (a property test compares the two) but take 0.9 µs, which is more than all other
/// processing of a message.
pub(super) fn plainest_message(frame: &str) -> Option<&str> {
    let text = frame
        .strip_prefix("<CLIENT><message>")?
        .strip_suffix("</message></CLIENT>")?;
    // Left to the parser: markup, control characters, `]]>`, and U+FFFE and U+FFFF, which XML
    // forbids and which begin with 0xef.
    let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'<' | b'&' | b']' | 0xef);
    // Without an early exit, many bytes are checked at a time.
    let all_plain = text.bytes().fold(true, |all, byte| all & is_plain(byte));
    all_plain.then_some(text)
}

fn read_callback(callback: Node<'_, '_>) -> CallbackRequest {
    let part = |name| child(callback, name).map(|node| text_of(node).trim().to_owned());
    CallbackRequest {
        port: part("Port").unwrap_or_default(),
        address: part("Address"),
    }
}

pub(super) fn write_client(doc: &ClientDoc<'_>, out: &mut Vec<u8>) {
    let me = match doc {
        ClientDoc::Message { me, .. }
        | ClientDoc::Command(
            ClientCommand::Public { me, .. }
            | ClientCommand::Direct { me, .. }
            | ClientCommand::Say { me, .. },
        ) => *me,
        _ => false,
    };
    out.extend_from_slice(if me {
        b"<CLIENT me='yes'>"
    } else {
        b"<CLIENT>"
    });
    match doc {
        ClientDoc::Message { text, .. } => element("message", text, out),
        ClientDoc::Handshake { passcode, callback } => {
            element("HandshakePasscode", passcode, out);
            if let Some(CallbackRequest { port, address }) = callback {
                out.extend_from_slice(b"<callback>");
                element("Port", port, out);
                if let Some(address) = address {
                    element("Address", address, out);
                }
                out.extend_from_slice(b"</callback>");
            }
        }
        ClientDoc::Command(command) => {
            command.write_command(out);
            if *command == ClientCommand::PublicCancel {
                empty("cancel", out);
            }
        }
    }
    out.extend_from_slice(b"</CLIENT>");
}
