//! The server's documents, one row for each command, and how they are read and written.

use std::borrow::Cow;
use std::net::IpAddr;

use roxmltree::Node;

use super::doc::{DocError, ErrorCode, Secret};
use super::documents::documents;
use super::elements::{
    Access, Elsewhere, Flag, Hidden, IsNew, List, NeighbourElement, Number, Optional, OrEmpty,
    PortNumber, RoomAccess, RoomList, Text, Trimmed, attribute, child, element, empty, is_yes,
    parse, port_from, rooted, text_of, trimmed,
};
use super::text::escape_into;
use crate::Port;
use crate::limits;

const WELCOME: &str = "Connection successful";
const CALLING_BACK: &str = "Calling back";
const WRONG_PASSCODE: &str = "Wrong handshake passcode";

documents! {
    /// A server's document, which is the content of one frame.
    pub enum ServerDoc<'a> {
        /// The portal's reply: the client must connect to this port with this passcode.
        Ticket {
            /// The worker's port.
            port: Port,
            /// The passcode that the client must send first.
            passcode: Cow<'a, str>,
        },
        /// The passcode was correct.
        Welcome {
            /// The port of the worker or the room.
            port: Port,
            /// The room's name, on a room's port.
            room: Option<Cow<'a, str>>,
            /// The longest frame accepted from the client, in bytes, if it is not the default.
            max: Option<usize>,
        },
        /// The passcode was correct, and the worker is about to call the client. The connection is
        /// closed afterwards.
        CallingBack {
            /// The worker's port.
            port: Port,
        },
        /// The welcome of a worker that has called the client, with the passcode as proof of
        /// identity.
        CalledBack {
            /// The worker's port.
            port: Port,
            /// The passcode with which the client requested the callback.
            passcode: Cow<'a, str>,
            /// The longest frame accepted from the client, in bytes, if it is not the default.
            max: Option<usize>,
        },
        /// The welcome of a server with one port, which needs no passcode.
        WelcomeSingle {
            /// The number of the seat, from 1.
            seat: u32,
            /// The longest frame accepted from the client, in bytes, if it is not the default.
            max: Option<usize>,
        },
        /// The passcode was wrong. The connection is closed afterwards.
        WrongPasscode {
            /// The port of the worker or the room.
            port: Port,
            /// The room's name, on a room's port.
            room: Option<Cow<'a, str>>,
        },
        /// A chat message from another client.
        Relay(Relay<'a>),
        /// A message from the server to its users.
        Notice(Cow<'a, str>),
        /// The server has rejected the client's document.
        Error {
            /// The kind of error, for programs.
            code: ErrorCode,
            /// The sentence, for users.
            sentence: Cow<'a, str>,
        },
        ;
        /// Answers `JOIN` with `<here/>`: the room's messages arrive on this connection.
        "JOINED" if is_here => JoinedHere {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
        },
        /// Like `FULL`, if another server in the chat has free seats.
        "FULL" if is_elsewhere => FullHere {
            /// The other server.
            there: Elsewhere<'a> = NeighbourElement "elsewhere",
        },
        /// The portal's other reply: every worker is occupied.
        "FULL" => Full,
        /// Answers `JOIN`: the client must open a second connection to this address, with this
        /// passcode, for the room.
        "JOINED" => Joined {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The server's address, as the client reached it.
            address: IpAddr = Number "address",
            /// The room's port.
            port: Port = PortNumber "Port",
            /// The passcode, valid for one connection.
            passcode: Cow<'a, str> = Trimmed "HandshakePasscode",
        },
        /// The topic of a room, for its members.
        "TOPIC" => Topic {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The topic; empty if there is none.
            topic: Cow<'a, str> = Text "topic",
            /// The user who set the topic.
            username: Cow<'a, str> = OrEmpty "username",
        },
        /// Answers `LEAVE`. Also sent to a user whom a moderator has removed from the room.
        "LEFT" => Left {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The moderator who removed the user.
            by: Option<Cow<'a, str>> = Optional "by",
            /// The moderator's reason.
            reason: Option<Cow<'a, str>> = Optional "reason",
        },
        /// Answers `ROOM` and, after a change, is sent to every member.
        "ROOM" => Room {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The access to the room.
            access: RoomAccess = Access "access",
            /// Set if only the room's moderators may send messages.
            moderated: bool = Flag "moderated",
            /// The room's moderators, in order of appointment.
            moderators: Vec<Cow<'a, str>> = List "moderator",
        },
        /// Another user has invited the client to a room.
        "INVITED" => Invited {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The name of the user who sent the invitation.
            username: Cow<'a, str> = Text "username",
        },
        /// Answers `ROOMS`.
        "ROOMS" => Rooms {
            /// Each room's name and number of members.
            rooms: Vec<(Cow<'a, str>, usize)> = RoomList "room",
        },
        /// Answers `HISTORY`. The old messages follow.
        "HISTORY" => History {
            /// The room's name, if they are a room's.
            room: Option<Cow<'a, str>> = Optional "room",
            /// The other user's name, if they are direct messages.
            with: Option<Cow<'a, str>> = Optional "with",
            /// The number of messages that follow.
            count: usize = Number "count",
            /// Set if there are more messages in the range.
            more: bool = Flag "more",
        },
        /// Another user has joined one of the client's rooms.
        "ROOM JOINED" => RoomJoined {
            /// The user's name.
            username: Cow<'a, str> = Text "username",
            /// The room's name.
            room: Cow<'a, str> = Text "room",
        },
        /// Another user has left one of the client's rooms.
        "ROOM LEFT" => RoomLeft {
            /// The user's name.
            username: Cow<'a, str> = Text "username",
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The reason, as in `USER LEFT`.
            reason: Option<Cow<'a, str>> = Optional "reason",
        },
        /// `partner` occupies the partner seat: it has just arrived, or was there before the
        /// welcome.
        "PARTNER JOINED" => PartnerJoined {
            /// The `from` of the partner's messages.
            partner: Cow<'a, str> = Text "partner",
        },
        /// The partner has logged in, and uses that name from now on.
        "PARTNER LOGGED IN" => PartnerLoggedIn {
            /// The `from` of the partner's messages.
            partner: Cow<'a, str> = Text "partner",
        },
        /// The partner seat has become free.
        "PARTNER LEFT" => PartnerLeft {
            /// The `from` of the partner's messages.
            partner: Cow<'a, str> = Text "partner",
            /// The reason, as the word used in the event, if the client did not leave of its own
            /// accord.
            reason: Option<Cow<'a, str>> = Optional "reason",
        },
        /// The partner seat is empty. Also the reply to a message.
        "NO PARTNER" => NoPartner,
        /// The idle timeout is near: the client is disconnected unless it becomes active.
        "IDLE SOON" => IdleSoon {
            /// The time that is left, in seconds.
            seconds: u64 = Number "seconds",
        },
        /// Answers `PING`.
        "PONG" => Pong,
        /// Farewell: the client was inactive for too long.
        "IDLE TIMEOUT" => IdleTimeout,
        /// Farewell: the client was connected for the maximum time.
        "TOTAL TIME TIMEOUT" => TotalTimeTimeout,
        /// Farewell: the client did not read what was sent to it.
        "TOO SLOW" => TooSlow,
        /// Farewell: the server is shutting down.
        "SHUTDOWN" => Shutdown,
        /// Farewell: the operator or a moderator removed the client.
        "KICKED" => Kicked {
            /// The reason; may be empty.
            reason: Cow<'a, str> = OrEmpty "reason",
            /// The moderator; `None` is the operator.
            by: Option<Cow<'a, str>> = Optional "by",
        },
        /// Farewell: the same user has logged in on another connection.
        "TAKEN OVER" => TakenOver,
        /// Answers `LOGIN`: requests the password.
        "PASSWORD" => Password {
            /// The name has no account yet, and the next password becomes its password.
            new_account: bool = IsNew "account",
        },
        /// Answers the correct password (or `LOGIN`, if no password is needed): the client is
        /// logged in.
        "WELCOME" => LoggedIn {
            /// The name as it was registered.
            username: Cow<'a, str> = Text "username",
            /// Set if the user is a moderator.
            moderator: bool = Flag "moderator",
        },
        /// Answers `TOKEN`.
        "TOKEN" => Token {
            /// The session token, valid only for this name.
            token: Secret<'a> = Hidden "token",
        },
        /// Answers `MEMBERS`.
        "MEMBERS" => Members {
            /// The room's name.
            room: Cow<'a, str> = Text "room",
            /// The members, in alphabetical order.
            users: Vec<Cow<'a, str>> = List "user",
        },
        /// Answers `WHO`.
        "WHO" => Who {
            /// All users who are logged in, in alphabetical order.
            users: Vec<Cow<'a, str>> = List "user",
        },
        /// Answers `PASSWD`: the new password has been written to disk.
        "PASSWD" => PasswordChanged,
        /// Answers `PM` alone: the next message is public.
        "PM" => PublicNext,
        /// Answers `DM` alone.
        "DM" => DirectList {
            /// All other users who are logged in, in alphabetical order.
            users: Vec<Cow<'a, str>> = List "user",
        },
        /// Answers a message that was queued for this many recipients.
        "SENT" => Sent {
            /// The number of outboxes that accepted it.
            count: usize = Number "count",
        },
        /// A user has logged in.
        "USER JOINED" => UserJoined {
            /// The user's name.
            username: Cow<'a, str> = Text "username",
        },
        /// A user who was logged in has left.
        "USER LEFT" => UserLeft {
            /// The user's name.
            username: Cow<'a, str> = Text "username",
            /// The reason, as the word used in the event, if the client did not leave of its own
            /// accord.
            reason: Option<Cow<'a, str>> = Optional "reason",
        },
    }
}

/// Returns whether this is `FULL` with `<elsewhere>`.
fn is_elsewhere(root: Node<'_, '_>) -> bool {
    child(root, "elsewhere").is_some()
}

/// Returns whether this is `JOINED` with `<here/>`.
fn is_here(root: Node<'_, '_>) -> bool {
    child(root, "here").is_some()
}

impl<'a> ServerDoc<'a> {
    /// Returns a welcome with the longest frame that the server accepts; `None` for all other
    /// documents.
    pub(super) fn announcing(&self, longest: usize) -> Option<ServerDoc<'a>> {
        let mut welcome = match self {
            ServerDoc::Welcome { .. }
            | ServerDoc::WelcomeSingle { .. }
            | ServerDoc::CalledBack { .. } => self.clone(),
            _ => return None,
        };
        if let ServerDoc::Welcome { max, .. }
        | ServerDoc::WelcomeSingle { max, .. }
        | ServerDoc::CalledBack { max, .. } = &mut welcome
        {
            *max = Some(longest);
        }
        Some(welcome)
    }
}

/// The audience of a message.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The client in the partner seat.
    #[default]
    Partner,
    /// All users who are logged in.
    Public,
    /// One user.
    Direct,
    /// The members of the room with this name.
    Room(Cow<'a, str>),
}

impl Scope<'_> {
    /// Returns the same scope without copying the room's name.
    pub fn as_borrowed(&self) -> Scope<'_> {
        match self {
            Scope::Partner => Scope::Partner,
            Scope::Public => Scope::Public,
            Scope::Direct => Scope::Direct,
            Scope::Room(name) => Scope::Room(name.as_ref().into()),
        }
    }
}

/// A message that the server relays to another client.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct Relay<'a> {
    /// The audience.
    pub scope: Scope<'a>,
    /// The sender: a name, or the number of a seat's port.
    pub from: Cow<'a, str>,
    /// The text.
    pub text: Cow<'a, str>,
    /// Set for an action, as in "alice waves".
    pub me: bool,
    /// Set if the message was sent before the recipient joined.
    pub old: bool,
    /// Set in an old message if messages right before it may be missing.
    pub gap: bool,
    /// The recipient, in an old direct message.
    pub to: Option<Cow<'a, str>>,
    /// The time at which it was sent (RFC 3339, UTC). Partners' messages have none.
    pub time: Option<Cow<'a, str>>,
    /// The message's id, unique in its conversation; a later message has a greater one. Partners'
    /// messages have none.
    pub id: Option<u64>,
}

pub(super) fn read_server(frame: &str) -> Result<ServerDoc<'_>, DocError> {
    let document = parse(frame, limits::XML_NODES_FROM_SERVER)?;
    let root = document.root_element();
    if root.has_tag_name("CLIENT") {
        let message = child(root, "message").ok_or(DocError::Missing("message"))?;
        let from = root.attribute("from").unwrap_or("?").to_owned();
        let me = is_yes(root, "me");
        let old = is_yes(root, "old");
        let gap = is_yes(root, "gap");
        let time = attribute(root, "time").ok();
        let to = attribute(root, "to").ok();
        let id = root.attribute("id").and_then(|id| id.parse().ok());
        let scope = match root.attribute("scope") {
            Some("public") => Scope::Public,
            Some("direct") => Scope::Direct,
            Some("room") => Scope::Room(attribute(root, "room")?),
            _ => Scope::Partner,
        };
        return Ok(ServerDoc::Relay(Relay {
            scope,
            from: from.into(),
            text: text_of(message),
            me,
            old,
            gap,
            to,
            time,
            id,
        }));
    }
    let root = rooted(&document, "SERVER")?;
    if let Some(error) = child(root, "error") {
        let code = ErrorCode::from_word(error.attribute("code").unwrap_or_default());
        return Ok(ServerDoc::Error {
            code,
            sentence: text_of(error),
        });
    }
    if let Some(notice) = child(root, "notice") {
        return Ok(ServerDoc::Notice(text_of(notice)));
    }
    if let Some(command) = child(root, "command") {
        return ServerDoc::read_command(root, text_of(command).trim());
    }
    if let Some(message) = child(root, "message") {
        let max = root.attribute("max").and_then(|max| max.parse().ok());
        if root.attribute("type") == Some("single") {
            let seat = root.attribute("seat").and_then(|seat| seat.parse().ok());
            let seat = seat.ok_or(DocError::Missing("seat"))?;
            return Ok(ServerDoc::WelcomeSingle { seat, max });
        }
        let port = root
            .attribute("port")
            .and_then(port_from)
            .ok_or(DocError::Missing("port"))?;
        return match text_of(message).trim() {
            WELCOME => Ok(match child(root, "HandshakePasscode") {
                Some(passcode) => ServerDoc::CalledBack {
                    port,
                    passcode: trimmed(text_of(passcode)),
                    max,
                },
                None => ServerDoc::Welcome {
                    port,
                    room: attribute(root, "room").ok(),
                    max,
                },
            }),
            CALLING_BACK => Ok(ServerDoc::CallingBack { port }),
            WRONG_PASSCODE => Ok(ServerDoc::WrongPasscode {
                port,
                room: attribute(root, "room").ok(),
            }),
            other => Err(DocError::UnknownCommand(other.to_owned())),
        };
    }
    let port = child(root, "Port").ok_or(DocError::Missing("Port"))?;
    let port = port_from(text_of(port).trim()).ok_or(DocError::Missing("Port"))?;
    let passcode =
        child(root, "HandshakePasscode").ok_or(DocError::Missing("HandshakePasscode"))?;
    Ok(ServerDoc::Ticket {
        port,
        passcode: trimmed(text_of(passcode)),
    })
}

pub(super) fn write_server(doc: &ServerDoc<'_>, out: &mut Vec<u8>) {
    match doc {
        ServerDoc::Relay(relay) => return write_relay(relay, out),
        ServerDoc::Ticket { port, passcode } => {
            out.extend_from_slice(b"<SERVER type='worker'>");
            element("Port", &port.to_string(), out);
            element("HandshakePasscode", passcode, out);
        }
        ServerDoc::Welcome { port, room, max } => {
            connection_doc(*port, room.as_deref(), *max, WELCOME, out);
        }
        ServerDoc::CallingBack { port } => connection_doc(*port, None, None, CALLING_BACK, out),
        ServerDoc::CalledBack {
            port,
            passcode,
            max,
        } => {
            out.extend_from_slice(format!("<SERVER type='worker' port='{port}'").as_bytes());
            longest_frame(*max, out);
            element("HandshakePasscode", passcode, out);
            element("message", WELCOME, out);
        }
        ServerDoc::WrongPasscode { port, room } => {
            connection_doc(*port, room.as_deref(), None, WRONG_PASSCODE, out);
        }
        ServerDoc::WelcomeSingle { seat, max } => {
            out.extend_from_slice(format!("<SERVER type='single' seat='{seat}'").as_bytes());
            longest_frame(*max, out);
            element("message", WELCOME, out);
        }
        ServerDoc::Notice(text) => {
            out.extend_from_slice(b"<SERVER>");
            element("notice", text, out);
        }
        ServerDoc::Error { code, sentence } => {
            out.extend_from_slice(b"<SERVER><error code='");
            out.extend_from_slice(code.word().as_bytes());
            out.extend_from_slice(b"'>");
            escape_into(sentence, out);
            out.extend_from_slice(b"</error>");
        }
        command => {
            out.extend_from_slice(b"<SERVER>");
            command.write_command(out);
            if matches!(command, ServerDoc::JoinedHere { .. }) {
                empty("here", out);
            }
        }
    }
    out.extend_from_slice(b"</SERVER>");
}

fn write_relay(relay: &Relay<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<CLIENT from='");
    escape_into(&relay.from, out);
    match &relay.scope {
        Scope::Partner => out.push(b'\''),
        Scope::Public => out.extend_from_slice(b"' scope='public'"),
        Scope::Direct => out.extend_from_slice(b"' scope='direct'"),
        Scope::Room(room) => {
            out.extend_from_slice(b"' scope='room' room='");
            escape_into(room, out);
            out.push(b'\'');
        }
    }
    if let Some(to) = &relay.to {
        out.extend_from_slice(b" to='");
        escape_into(to, out);
        out.push(b'\'');
    }
    if relay.me {
        out.extend_from_slice(b" me='yes'");
    }
    if relay.old {
        out.extend_from_slice(b" old='yes'");
    }
    if relay.gap {
        out.extend_from_slice(b" gap='yes'");
    }
    if let Some(time) = &relay.time {
        out.extend_from_slice(b" time='");
        escape_into(time, out);
        out.push(b'\'');
    }
    if let Some(id) = relay.id {
        out.extend_from_slice(format!(" id='{id}'").as_bytes());
    }
    out.push(b'>');
    element("message", &relay.text, out);
    out.extend_from_slice(b"</CLIENT>");
}

fn connection_doc(
    port: Port,
    room: Option<&str>,
    max: Option<usize>,
    message: &str,
    out: &mut Vec<u8>,
) {
    let kind = if room.is_some() { "room" } else { "worker" };
    out.extend_from_slice(format!("<SERVER type='{kind}' port='{port}'").as_bytes());
    if let Some(room) = room {
        out.extend_from_slice(b" room='");
        escape_into(room, out);
        out.push(b'\'');
    }
    longest_frame(max, out);
    element("message", message, out);
}

/// Appends the last attribute of a welcome and the end of its tag.
fn longest_frame(max: Option<usize>, out: &mut Vec<u8>) {
    if let Some(max) = max {
        out.extend_from_slice(format!(" max='{max}'").as_bytes());
    }
    out.push(b'>');
}
