//! The XML dialect: documents rooted in `CLIENT` or `SERVER`, one to a frame.
//!
//! Reading is lenient where XML is (either quote, attributes in any order, elements that nobody
//! asked for) and strict where it protects: no DTD, few nodes, and the size was capped by the
//! frame before. Parsed documents are never walked recursively and never printed with `{:?}`,
//! because a deep one would overflow the stack.

use std::borrow::Cow;

use roxmltree::{Document, Node, ParsingOptions, StringStorage};

use super::doc::{
    CallbackRequest, ClientCommand, ClientDoc, DocError, ErrorCode, Relay, Scope, Secret, ServerDoc,
};
use super::text::escape_into;
use crate::limits;
use crate::net::Port;

const WELCOME: &str = "Connection successful";
const CALLING_BACK: &str = "Calling back";
const WRONG_PASSCODE: &str = "Wrong handshake passcode";

pub(super) fn read_client(frame: &str) -> Result<ClientDoc<'_>, DocError> {
    if let Some(text) = plainest_message(frame) {
        return Ok(ClientDoc::say(text));
    }
    let document = parse(frame, limits::XML_NODES)?;
    let root = rooted(&document, "CLIENT")?;
    if let Some(command) = child(root, "command") {
        return read_client_command(root, text_of(command).trim()).map(ClientDoc::Command);
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
fn plainest_message(frame: &str) -> Option<&str> {
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

fn read_client_command<'f>(root: Node<'_, 'f>, name: &str) -> Result<ClientCommand<'f>, DocError> {
    let needs = |element| part(root, element);
    let message = child(root, "message");
    let me = is_yes(root, "me") || message.is_some_and(|message| is_yes(message, "me"));
    Ok(match name {
        "TERMINATE" | "EX" | "DISCONNECT" => ClientCommand::Terminate,
        "IDLE TIMEOUT" => ClientCommand::IdleTimeout,
        "TOTAL TIME TIMEOUT" => ClientCommand::TotalTimeTimeout,
        "PING" => ClientCommand::Ping,
        "PORT" => ClientCommand::Port,
        "LOGIN" => ClientCommand::Login {
            username: trimmed(needs("username")?),
        },
        "PASSWORD" => ClientCommand::Password(Secret(needs("password")?)),
        "JOIN" => ClientCommand::Join {
            room: trimmed(needs("room")?),
            here: child(root, "here").is_some(),
        },
        "SAY" => ClientCommand::Say {
            room: trimmed(needs("room")?),
            message: needs("message")?,
            me,
        },
        "TOPIC" => ClientCommand::Topic {
            room: trimmed(needs("room")?),
            topic: child(root, "topic").map(text_of),
        },
        "LEAVE" => ClientCommand::Leave {
            room: trimmed(needs("room")?),
        },
        "ROOMS" => ClientCommand::Rooms,
        "WHO" => ClientCommand::Who,
        "STAY" => ClientCommand::Stay,
        "PASSWD" => ClientCommand::Passwd {
            old: Secret(needs("old")?),
            new: Secret(needs("new")?),
        },
        "PM" | "BM" if message.is_none() && child(root, "cancel").is_some() => {
            ClientCommand::PublicCancel
        }
        "PM" | "BM" => ClientCommand::Public {
            message: message.map(text_of),
            me,
        },
        "DM" if message.is_none() && child(root, "to").is_none() => ClientCommand::DirectList,
        "DM" => ClientCommand::Direct {
            to: trimmed(needs("to")?),
            message: needs("message")?,
            me,
        },
        other => return Err(DocError::UnknownCommand(other.to_owned())),
    })
}

/// The text of a child element that has to be there.
fn part<'f>(root: Node<'_, 'f>, element: &'static str) -> Result<Cow<'f, str>, DocError> {
    child(root, element)
        .map(text_of)
        .ok_or(DocError::Missing(element))
}

/// The texts of all child elements of that name.
fn parts<'f>(root: Node<'_, 'f>, element: &'static str) -> Vec<Cow<'f, str>> {
    root.children()
        .filter(|node| node.has_tag_name(element))
        .map(text_of)
        .collect()
}

pub(super) fn read_server(frame: &str) -> Result<ServerDoc<'_>, DocError> {
    let document = parse(frame, limits::XML_NODES_FROM_SERVER)?;
    let root = document.root_element();
    if root.has_tag_name("CLIENT") {
        let message = child(root, "message").ok_or(DocError::Missing("message"))?;
        let from = root.attribute("from").unwrap_or("?").to_owned();
        let me = is_yes(root, "me");
        let old = is_yes(root, "old");
        let time = attribute(root, "time").ok();
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
            time,
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
        return read_server_command(root, text_of(command).trim());
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

fn read_server_command<'f>(root: Node<'_, 'f>, name: &str) -> Result<ServerDoc<'f>, DocError> {
    let needs = |element| part(root, element);
    Ok(match name {
        "FULL" => ServerDoc::Full,
        "PONG" => ServerDoc::Pong,
        "PARTNER JOINED" => ServerDoc::PartnerJoined {
            partner: needs("partner")?,
        },
        "PARTNER LEFT" => ServerDoc::PartnerLeft {
            partner: needs("partner")?,
        },
        "NO PARTNER" => ServerDoc::NoPartner,
        "IDLE SOON" => ServerDoc::IdleSoon {
            seconds: needs("seconds")?
                .trim()
                .parse()
                .map_err(|_| DocError::Missing("seconds"))?,
        },
        "IDLE TIMEOUT" => ServerDoc::IdleTimeout,
        "TOTAL TIME TIMEOUT" => ServerDoc::TotalTimeTimeout,
        "TOO SLOW" => ServerDoc::TooSlow,
        "SHUTDOWN" => ServerDoc::Shutdown,
        "KICKED" => ServerDoc::Kicked {
            reason: needs("reason").unwrap_or_default(),
        },
        "TAKEN OVER" => ServerDoc::TakenOver,
        "PASSWORD" => ServerDoc::Password {
            new_account: needs("account")?.trim() == "new",
        },
        "WELCOME" => ServerDoc::LoggedIn {
            username: needs("username")?,
        },
        "WHO" => ServerDoc::Who {
            users: parts(root, "user"),
        },
        "JOINED" if child(root, "here").is_some() => ServerDoc::JoinedHere {
            room: needs("room")?,
        },
        "TOPIC" => ServerDoc::Topic {
            room: needs("room")?,
            topic: needs("topic")?,
            username: needs("username").unwrap_or_default(),
        },
        "JOINED" => ServerDoc::Joined {
            room: needs("room")?,
            address: needs("address")?
                .trim()
                .parse()
                .map_err(|_| DocError::Missing("address"))?,
            port: port_from(needs("Port")?.trim()).ok_or(DocError::Missing("Port"))?,
            passcode: trimmed(needs("HandshakePasscode")?),
        },
        "LEFT" => ServerDoc::Left {
            room: needs("room")?,
        },
        "ROOMS" => ServerDoc::Rooms {
            rooms: root
                .children()
                .filter(|node| node.has_tag_name("room"))
                .map(|node| {
                    let members = node
                        .attribute("members")
                        .and_then(|count| count.parse().ok());
                    (text_of(node), members.unwrap_or(0))
                })
                .collect(),
        },
        "ROOM JOINED" => ServerDoc::RoomJoined {
            username: needs("username")?,
            room: needs("room")?,
        },
        "ROOM LEFT" => ServerDoc::RoomLeft {
            username: needs("username")?,
            room: needs("room")?,
        },
        "PASSWD" => ServerDoc::PasswordChanged,
        "PM" => ServerDoc::PublicNext,
        "DM" => ServerDoc::DirectList {
            users: parts(root, "user"),
        },
        "SENT" => ServerDoc::Sent {
            count: needs("count")?.trim().parse().unwrap_or(0),
        },
        "USER JOINED" => ServerDoc::UserJoined {
            username: needs("username")?,
        },
        "USER LEFT" => ServerDoc::UserLeft {
            username: needs("username")?,
        },
        other => return Err(DocError::UnknownCommand(other.to_owned())),
    })
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
        ClientDoc::Command(command) => write_client_command(command, out),
    }
    out.extend_from_slice(b"</CLIENT>");
}

fn write_client_command(command: &ClientCommand<'_>, out: &mut Vec<u8>) {
    let mut say = |name: &str, parts: &[(&str, &str)]| {
        element("command", name, out);
        for (part, text) in parts {
            element(part, text, out);
        }
    };
    match command {
        ClientCommand::Terminate => say("TERMINATE", &[]),
        ClientCommand::IdleTimeout => say("IDLE TIMEOUT", &[]),
        ClientCommand::TotalTimeTimeout => say("TOTAL TIME TIMEOUT", &[]),
        ClientCommand::Ping => say("PING", &[]),
        ClientCommand::Port => say("PORT", &[]),
        ClientCommand::Login { username } => say("LOGIN", &[("username", username)]),
        ClientCommand::Password(Secret(password)) => say("PASSWORD", &[("password", password)]),
        ClientCommand::Join { room, here } => {
            say("JOIN", &[("room", room)]);
            if *here {
                out.extend_from_slice(b"<here/>");
            }
        }
        ClientCommand::Say { room, message, .. } => {
            say("SAY", &[("room", room), ("message", message)]);
        }
        ClientCommand::Topic { room, topic: None } => say("TOPIC", &[("room", room)]),
        ClientCommand::Topic {
            room,
            topic: Some(topic),
        } => say("TOPIC", &[("room", room), ("topic", topic)]),
        ClientCommand::Leave { room } => say("LEAVE", &[("room", room)]),
        ClientCommand::Rooms => say("ROOMS", &[]),
        ClientCommand::Who => say("WHO", &[]),
        ClientCommand::Stay => say("STAY", &[]),
        ClientCommand::Passwd {
            old: Secret(old),
            new: Secret(new),
        } => say("PASSWD", &[("old", old), ("new", new)]),
        ClientCommand::PublicCancel => {
            say("PM", &[]);
            out.extend_from_slice(b"<cancel/>");
        }
        ClientCommand::Public { message: None, .. } => say("PM", &[]),
        ClientCommand::Public {
            message: Some(message),
            ..
        } => say("PM", &[("message", message)]),
        ClientCommand::DirectList => say("DM", &[]),
        ClientCommand::Direct { to, message, .. } => {
            say("DM", &[("to", to), ("message", message)]);
        }
    }
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
            seat_says(*port, room.as_deref(), *max, WELCOME, out);
        }
        ServerDoc::CallingBack { port } => seat_says(*port, None, None, CALLING_BACK, out),
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
            seat_says(*port, room.as_deref(), None, WRONG_PASSCODE, out);
        }
        ServerDoc::WelcomeSingle { seat, max } => {
            out.extend_from_slice(format!("<SERVER type='single' seat='{seat}'").as_bytes());
            longest_frame(*max, out);
            element("message", WELCOME, out);
        }
        ServerDoc::Joined {
            room,
            address,
            port,
            passcode,
        } => {
            let (address, port) = (address.to_string(), port.to_string());
            let parts = [
                ("room", room.as_ref()),
                ("address", &address),
                ("Port", &port),
                ("HandshakePasscode", passcode),
            ];
            command("JOINED", &parts, out);
        }
        ServerDoc::JoinedHere { room } => {
            command("JOINED", &[("room", room)], out);
            out.extend_from_slice(b"<here/>");
        }
        ServerDoc::Topic {
            room,
            topic,
            username,
        } => {
            let parts = [("room", room), ("topic", topic), ("username", username)];
            command(
                "TOPIC",
                &parts.map(|(name, text)| (name, text.as_ref())),
                out,
            );
        }
        ServerDoc::Left { room } => command("LEFT", &[("room", room)], out),
        ServerDoc::Rooms { rooms } => {
            command("ROOMS", &[], out);
            for (room, members) in rooms {
                out.extend_from_slice(format!("<room members='{members}'>").as_bytes());
                escape_into(room, out);
                out.extend_from_slice(b"</room>");
            }
        }
        ServerDoc::RoomJoined { username, room } => {
            command(
                "ROOM JOINED",
                &[("username", username), ("room", room)],
                out,
            );
        }
        ServerDoc::RoomLeft { username, room } => {
            command("ROOM LEFT", &[("username", username), ("room", room)], out);
        }
        ServerDoc::PartnerJoined { partner } => {
            command("PARTNER JOINED", &[("partner", partner)], out)
        }
        ServerDoc::PartnerLeft { partner } => command("PARTNER LEFT", &[("partner", partner)], out),
        ServerDoc::Kicked { reason } => command("KICKED", &[("reason", reason)], out),
        ServerDoc::Full => command("FULL", &[], out),
        ServerDoc::NoPartner => command("NO PARTNER", &[], out),
        ServerDoc::IdleSoon { seconds } => {
            command("IDLE SOON", &[("seconds", &seconds.to_string())], out);
        }
        ServerDoc::Pong => command("PONG", &[], out),
        ServerDoc::IdleTimeout => command("IDLE TIMEOUT", &[], out),
        ServerDoc::TotalTimeTimeout => command("TOTAL TIME TIMEOUT", &[], out),
        ServerDoc::TooSlow => command("TOO SLOW", &[], out),
        ServerDoc::Shutdown => command("SHUTDOWN", &[], out),
        ServerDoc::TakenOver => command("TAKEN OVER", &[], out),
        ServerDoc::Password { new_account } => {
            let account = if *new_account { "new" } else { "existing" };
            command("PASSWORD", &[("account", account)], out);
        }
        ServerDoc::LoggedIn { username } => command("WELCOME", &[("username", username)], out),
        ServerDoc::Who { users } => list("WHO", users, out),
        ServerDoc::PasswordChanged => command("PASSWD", &[], out),
        ServerDoc::PublicNext => command("PM", &[], out),
        ServerDoc::DirectList { users } => list("DM", users, out),
        ServerDoc::Sent { count } => command("SENT", &[("count", &count.to_string())], out),
        ServerDoc::UserJoined { username } => {
            command("USER JOINED", &[("username", username)], out)
        }
        ServerDoc::UserLeft { username } => command("USER LEFT", &[("username", username)], out),
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
    if relay.me {
        out.extend_from_slice(b" me='yes'");
    }
    if relay.old {
        out.extend_from_slice(b" old='yes'");
    }
    if let Some(time) = &relay.time {
        out.extend_from_slice(b" time='");
        escape_into(time, out);
        out.push(b'\'');
    }
    out.push(b'>');
    element("message", &relay.text, out);
    out.extend_from_slice(b"</CLIENT>");
}

fn seat_says(port: Port, room: Option<&str>, max: Option<usize>, message: &str, out: &mut Vec<u8>) {
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

/// The last attribute of a welcome, and the end of its tag.
fn longest_frame(max: Option<usize>, out: &mut Vec<u8>) {
    if let Some(max) = max {
        out.extend_from_slice(format!(" max='{max}'").as_bytes());
    }
    out.push(b'>');
}

fn command(name: &str, parts: &[(&str, &str)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<SERVER>");
    element("command", name, out);
    for (part, text) in parts {
        element(part, text, out);
    }
}

fn list(name: &str, users: &[Cow<'_, str>], out: &mut Vec<u8>) {
    let users: Vec<(&str, &str)> = users.iter().map(|user| ("user", user.as_ref())).collect();
    command(name, &users, out);
}

fn element(name: &str, text: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    escape_into(text, out);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn parse(frame: &str, nodes_limit: u32) -> Result<Document<'_>, DocError> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit,
        ..Default::default()
    };
    Document::parse_with_options(frame, options)
        .map_err(|error| DocError::NotXml(error.to_string()))
}

fn rooted<'d, 'f>(
    document: &'d Document<'f>,
    expected: &'static str,
) -> Result<Node<'d, 'f>, DocError> {
    let root = document.root_element();
    if root.has_tag_name(expected) {
        Ok(root)
    } else {
        Err(DocError::WrongRoot { expected })
    }
}

fn child<'d, 'f>(root: Node<'d, 'f>, name: &str) -> Option<Node<'d, 'f>> {
    root.children().find(|node| node.has_tag_name(name))
}

/// All the text directly inside an element. It borrows from the frame unless something in it was
/// escaped or an element nobody knows stands in its middle.
fn text_of<'f>(element: Node<'_, 'f>) -> Cow<'f, str> {
    let mut texts = element
        .children()
        .filter(Node::is_text)
        .filter_map(|node| node.text_storage());
    let Some(first) = texts.next() else {
        return Cow::Borrowed("");
    };
    let mut text = match first {
        StringStorage::Borrowed(text) => Cow::Borrowed(*text),
        StringStorage::Owned(text) => Cow::Owned(text.to_string()),
    };
    for more in texts {
        text.to_mut().push_str(more);
    }
    text
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

fn attribute<'f>(node: Node<'_, 'f>, name: &'static str) -> Result<Cow<'f, str>, DocError> {
    let value = node.attribute(name).ok_or(DocError::Missing(name))?;
    Ok(Cow::Owned(value.to_owned()))
}

fn is_yes(node: Node<'_, '_>, attribute: &str) -> bool {
    node.attribute(attribute) == Some("yes")
}

fn port_from(digits: &str) -> Option<Port> {
    digits.parse().ok().and_then(Port::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(doc: &ServerDoc<'_>) -> String {
        let mut out = Vec::new();
        write_server(doc, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    #[test]
    fn the_fixed_strings_are_those_of_the_protocol() {
        let ticket = ServerDoc::Ticket {
            port: port(50001),
            passcode: "abc".into(),
        };
        let error = ServerDoc::Error {
            code: ErrorCode::TooLong,
            sentence: "8 < 9".into(),
        };
        let relay = Relay {
            scope: Scope::Partner,
            from: "50001".into(),
            text: "it's".into(),
            me: false,
            old: false,
            time: None,
        };
        for (doc, bytes) in [
            (
                ticket,
                "<SERVER type='worker'><Port>50001</Port><HandshakePasscode>abc</HandshakePasscode></SERVER>",
            ),
            (ServerDoc::Full, "<SERVER><command>FULL</command></SERVER>"),
            (
                ServerDoc::Welcome {
                    port: port(50001),
                    room: None,
                    max: None,
                },
                "<SERVER type='worker' port='50001'><message>Connection successful</message></SERVER>",
            ),
            (
                ServerDoc::WrongPasscode {
                    port: port(50001),
                    room: None,
                },
                "<SERVER type='worker' port='50001'><message>Wrong handshake passcode</message></SERVER>",
            ),
            (
                ServerDoc::CallingBack { port: port(50001) },
                "<SERVER type='worker' port='50001'><message>Calling back</message></SERVER>",
            ),
            (
                ServerDoc::CalledBack {
                    port: port(50001),
                    passcode: "abc".into(),
                    max: None,
                },
                "<SERVER type='worker' port='50001'><HandshakePasscode>abc</HandshakePasscode><message>Connection successful</message></SERVER>",
            ),
            (
                ServerDoc::WelcomeSingle {
                    seat: 3,
                    max: Some(4096),
                },
                "<SERVER type='single' seat='3' max='4096'><message>Connection successful</message></SERVER>",
            ),
            (
                ServerDoc::CalledBack {
                    port: port(50001),
                    passcode: "abc".into(),
                    max: None,
                },
                "<SERVER type='worker' port='50001'><HandshakePasscode>abc</HandshakePasscode><message>Connection successful</message></SERVER>",
            ),
            (
                ServerDoc::IdleTimeout,
                "<SERVER><command>IDLE TIMEOUT</command></SERVER>",
            ),
            (
                ServerDoc::TotalTimeTimeout,
                "<SERVER><command>TOTAL TIME TIMEOUT</command></SERVER>",
            ),
            (
                ServerDoc::PartnerJoined {
                    partner: "50002".into(),
                },
                "<SERVER><command>PARTNER JOINED</command><partner>50002</partner></SERVER>",
            ),
            (
                error,
                "<SERVER><error code='too-long'>8 &lt; 9</error></SERVER>",
            ),
            (
                ServerDoc::Relay(relay),
                "<CLIENT from='50001'><message>it&apos;s</message></CLIENT>",
            ),
        ] {
            assert_eq!(server(&doc), bytes);
            assert_eq!(read_server(bytes).unwrap(), doc);
        }
    }

    #[test]
    fn reading_is_lenient_about_quotes_order_and_strangers() {
        let frame = r#"<?xml version="1.0"?><CLIENT new="1" me="yes"><mood/><message>a<b/>b</message></CLIENT>"#;
        let said = ClientDoc::Message {
            text: "ab".into(),
            me: true,
        };
        assert_eq!(read_client(frame).unwrap(), said);
        let frame = "<CLIENT><command> TERMINATE </command></CLIENT>";
        assert_eq!(
            read_client(frame).unwrap(),
            ClientDoc::Command(ClientCommand::Terminate)
        );
    }

    #[test]
    fn a_handshake_may_ask_for_a_call() {
        for (frame, address) in [
            (
                "<CLIENT><HandshakePasscode>abc</HandshakePasscode><callback><Port>6000</Port></callback></CLIENT>",
                None,
            ),
            (
                "<CLIENT><HandshakePasscode>abc</HandshakePasscode><callback><Port>6000</Port><Address>::1</Address></callback></CLIENT>",
                Some("::1".to_owned()),
            ),
        ] {
            let doc = ClientDoc::Handshake {
                passcode: "abc".into(),
                callback: Some(CallbackRequest {
                    port: "6000".to_owned(),
                    address,
                }),
            };
            assert_eq!(read_client(frame).unwrap(), doc);
            let mut out = Vec::new();
            write_client(&doc, &mut out);
            assert_eq!(out, frame.as_bytes());
        }
    }

    #[test]
    fn an_unescaped_text_is_borrowed_from_the_frame() {
        let Ok(ClientDoc::Message { text, .. }) =
            read_client("<CLIENT><message>hi</message></CLIENT>")
        else {
            panic!("not a message")
        };
        assert!(matches!(text, Cow::Borrowed("hi")));
    }

    #[test]
    fn what_is_no_document_is_refused_with_the_reason() {
        for (frame, code) in [
            ("", ErrorCode::Malformed),
            ("hello", ErrorCode::Malformed),
            ("<CLIENT><message>", ErrorCode::Malformed),
            (
                "<SERVER><command>FULL</command></SERVER>",
                ErrorCode::Malformed,
            ),
            (
                "<client><message>x</message></client>",
                ErrorCode::Malformed,
            ),
            ("<CLIENT/>", ErrorCode::Missing),
            (
                "<CLIENT><command>DANCE</command></CLIENT>",
                ErrorCode::UnknownCommand,
            ),
            (
                "<CLIENT><message>&#27;[2J</message></CLIENT>",
                ErrorCode::Malformed,
            ),
            (
                "<!DOCTYPE x [<!ENTITY a 'b'>]><CLIENT><message>&a;</message></CLIENT>",
                ErrorCode::Malformed,
            ),
        ] {
            assert_eq!(read_client(frame).unwrap_err().code(), code, "{frame}");
        }
    }

    #[test]
    fn a_deep_document_is_refused_on_a_small_stack() {
        let deep = "<a>".repeat(100_000);
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        let refused = thread
            .spawn(move || read_client(&deep).unwrap_err().code())
            .unwrap();
        assert_eq!(refused.join().unwrap(), ErrorCode::Malformed);
    }

    #[test]
    fn the_deepest_document_allowed_fits_into_half_a_threads_stack() {
        let thread = std::thread::Builder::new().stack_size(limits::THREAD_STACK / 2);
        let parsed = thread.spawn(|| {
            let deepest = (1..=limits::XML_NODES as usize)
                .map(|depth| {
                    format!(
                        "<CLIENT>{}{}</CLIENT>",
                        "<a>".repeat(depth),
                        "</a>".repeat(depth)
                    )
                })
                .take_while(|deep| parse(deep, limits::XML_NODES).is_ok())
                .count();
            // And with as many attributes as a frame has room for.
            let wide: String = (0..1000).map(|n| format!("a{n}='' ")).collect();
            let _ = read_client(&format!("<CLIENT {wide}/>"));
            deepest
        });
        let deepest = parsed.unwrap().join().unwrap();
        assert!(deepest > limits::XML_NODES as usize / 2, "{deepest}");
    }

    proptest! {
        #[test]
        fn a_text_survives_the_way_there_and_back(text in "[^\\p{Cc}\u{fffe}\u{ffff}]{0,200}", me: bool) {
            let doc = ClientDoc::Message { text: text.into(), me };
            let mut out = Vec::new();
            write_client(&doc, &mut out);
            prop_assert_eq!(read_client(std::str::from_utf8(&out).unwrap()).unwrap(), doc);
        }

        #[test]
        fn the_plainest_message_is_what_the_parser_says(
            text in "([a-z ]|\\PC|[<>&;'\"\\]/!\\-]|\\p{Cc}|[\u{fffd}-\u{ffff}]|&lt;|</message>){0,12}"
        ) {
            let frame = format!("<CLIENT><message>{text}</message></CLIENT>");
            if let Some(plain) = plainest_message(&frame) {
                let document = parse(&frame, limits::XML_NODES).expect("the parser takes it");
                let message = child(document.root_element(), "message").expect("a message");
                prop_assert_eq!(text_of(message), plain);
                prop_assert_eq!(document.root_element().children().count(), 1);
            }
        }

        #[test]
        fn whatever_is_written_can_be_read_and_is_one_line(from in any::<String>(), text in any::<String>()) {
            let relay = Relay {
                scope: Scope::Partner,
                from: from.into(),
                text: text.into(),
                me: false,
                old: false,
                time: None,
            };
            let bytes = server(&ServerDoc::Relay(relay));
            prop_assert!(!bytes.contains('\n'));
            prop_assert!(matches!(read_server(&bytes), Ok(ServerDoc::Relay(_))));
        }

        #[test]
        fn no_text_makes_the_parser_panic(frame in "(<|>|/|CLIENT|message|command|&|'|=|[a-z ]){0,40}") {
            let _ = read_client(&frame);
            let _ = read_server(&frame);
        }
    }
}
