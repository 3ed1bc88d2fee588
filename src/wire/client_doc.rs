//! What a client can say, one row for each command, and how it is read and written.

use std::borrow::Cow;

use roxmltree::Node;

use super::doc::{CallbackRequest, DocError, Handshake, Secret};
use super::documents::documents;
use super::elements::{
    Flag, Hidden, Me, Optional, Text, Trimmed, child, element, empty, is_yes, parse, rooted,
    text_of, trimmed,
};
use crate::limits;

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
    /// The handshake, if this is one.
    pub fn into_handshake(self) -> Option<Handshake> {
        match self {
            ClientDoc::Handshake { passcode, callback } => Some(Handshake {
                passcode: passcode.into_owned(),
                callback,
            }),
            _ => None,
        }
    }

    /// A plain chat message.
    pub fn message(text: impl Into<Cow<'a, str>>) -> ClientDoc<'a> {
        ClientDoc::Message {
            text: text.into(),
            me: false,
        }
    }
}

documents! {
    /// The commands of a client.
    pub enum ClientCommand<'a> {
        ;
        /// `PM` with `<cancel/>`: the public message that `PM` alone announced will not be said.
        "PM" | "BM" if gives_up => PublicCancel,
        /// `DM` alone: who could be written to.
        "DM" if is_alone => DirectList,
        /// `TERMINATE` (also `EX` and `DISCONNECT`, as the seeds call it): ends the session.
        "TERMINATE" | "EX" | "DISCONNECT" => Terminate,
        /// `IDLE TIMEOUT`: the client gives up, having heard nothing from the server (seed 000,
        /// revision 1).
        "IDLE TIMEOUT" => IdleTimeout,
        /// `TOTAL TIME TIMEOUT`: the client gives up, having been connected for as long as it
        /// wanted.
        "TOTAL TIME TIMEOUT" => TotalTimeTimeout,
        /// `PING`: asks for a `PONG`; counts as no activity.
        "PING" => Ping,
        /// `PORT`: the datagram that asks the UDP portal for a port. The portal does not look at
        /// it.
        "PORT" => Port,
        /// `LOGIN`: who the client is.
        "LOGIN" => Login {
            /// The name, not checked yet.
            username: Cow<'a, str> = Trimmed "username",
        },
        /// `PASSWORD`: the proof.
        "PASSWORD" => Password {
            /// What the client says it is.
            password: Secret<'a> = Hidden "password",
        },
        /// `WHO`: who is logged in.
        "WHO" => Who,
        /// `PM` (also `BM`): a public message, or the wish to say one next.
        "PM" | "BM" => Public {
            /// What to say to everyone; `None` makes the next message the public one.
            message: Option<Cow<'a, str>> = Optional "message",
            /// An action.
            me: bool = Me "me",
        },
        /// `STAY`: the person is there, although they say nothing. Counts as activity; has no
        /// answer.
        "STAY" => Stay,
        /// `PASSWD`: another password for the account.
        "PASSWD" => Passwd {
            /// The password so far.
            old: Secret<'a> = Hidden "old",
            /// The password from now on.
            new: Secret<'a> = Hidden "new",
        },
        /// `JOIN`: into a room, which is made if there is none of that name.
        "JOIN" => Join {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// `<here/>`: to be spoken and heard on this connection, without one of the room's own.
            here: bool = Flag "here",
        },
        /// `SAY`: says something in a room, on the main connection.
        "SAY" => Say {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// What.
            message: Cow<'a, str> = Text "message",
            /// An action.
            me: bool = Me "me",
        },
        /// `TOPIC`: what a room is about.
        "TOPIC" => Topic {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
            /// What it is about from now on; `None` asks.
            topic: Option<Cow<'a, str>> = Optional "topic",
        },
        /// `LEAVE`: out of a room.
        "LEAVE" => Leave {
            /// The room's name, not checked yet.
            room: Cow<'a, str> = Trimmed "room",
        },
        /// `ROOMS`: which rooms there are.
        "ROOMS" => Rooms,
        /// `DM` with `<to>` and `<message>`.
        "DM" => Direct {
            /// For whom.
            to: Cow<'a, str> = Trimmed "to",
            /// What.
            message: Cow<'a, str> = Text "message",
            /// An action.
            me: bool = Me "me",
        },
    }
}

/// `PM` with `<cancel/>` and no message.
fn gives_up(root: Node<'_, '_>) -> bool {
    child(root, "message").is_none() && child(root, "cancel").is_some()
}

/// `DM` alone.
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

/// The text of the document that nearly all of them are: a message in which nothing is escaped. The
/// parser would say the same (a property test holds the two together) and take 0.9 µs for it, more
/// than everything else that a message costs.
pub(super) fn plainest_message(frame: &str) -> Option<&str> {
    let text = frame
        .strip_prefix("<CLIENT><message>")?
        .strip_suffix("</message></CLIENT>")?;
    // Left to the parser: mark-up, control characters, `]]>`, and the two characters of the last
    // plane before the emoji that XML forbids, which begin with 0xef.
    let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'<' | b'&' | b']' | 0xef);
    // Without an early way out, many bytes are looked at together.
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
