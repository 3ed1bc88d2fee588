//! The protocol of the programs from seed 000: plain strings in revision 0, XML in revisions 1 and
//! 2.
//!
//! Only the exact strings of the handshake, the timeouts and TERMINATE have a meaning. Everything
//! else is chat and is sent to the partner unchanged. Bytes that are not UTF-8 arrive as U+FFFD, as
//! .NET decodes them. The server sends only documents that those programs know.

use super::client_doc::{self, ClientCommand, ClientDoc};
use super::server_doc::{self, Relay, Scope, ServerDoc};
use crate::Port;

const FULL: &str = "SERVER>>> FULL";
const TERMINATE: &str = "CLIENT>>> TERMINATE";
const IDLE_TIMEOUT: &str = "SERVER>>> IDLE TIMEOUT";
const TOTAL_TIME_TIMEOUT: &str = "SERVER>>> TOTAL TIME TIMEOUT";

/// Returns whether the original programs know a document.
fn is_known(doc: &ServerDoc<'_>) -> bool {
    matches!(
        doc,
        ServerDoc::Ticket { .. }
            | ServerDoc::Full
            | ServerDoc::Welcome { .. }
            | ServerDoc::WrongPasscode { .. }
            | ServerDoc::IdleTimeout
            | ServerDoc::TotalTimeTimeout
            | ServerDoc::Relay(_)
    )
}

/// Encodes a server's document as the content of a frame; `None` if the original programs have no
/// such document.
pub(super) fn server_content(doc: &ServerDoc<'_>, plain: bool) -> Option<Vec<u8>> {
    if !is_known(doc) {
        return None;
    }
    let content = match doc {
        // Unchanged, even if it is empty or not a document.
        ServerDoc::Relay(relay) => relay.text.as_bytes().to_vec(),
        _ if !plain => {
            let mut content = Vec::with_capacity(128);
            server_doc::write_server(doc, &mut content);
            content
        }
        ServerDoc::Ticket { port, passcode } => {
            format!("SERVER>>>Port=>{port},HandshakeCode={passcode}").into_bytes()
        }
        ServerDoc::Welcome { port, .. } => {
            format!("SERVER{port}>>> Connection successful").into_bytes()
        }
        ServerDoc::WrongPasscode { port, .. } => {
            format!("SERVER{port}>>> Wrong handshake passcode").into_bytes()
        }
        ServerDoc::Full => FULL.as_bytes().to_vec(),
        ServerDoc::IdleTimeout => IDLE_TIMEOUT.as_bytes().to_vec(),
        ServerDoc::TotalTimeTimeout => TOTAL_TIME_TIMEOUT.as_bytes().to_vec(),
        _ => return None,
    };
    Some(content)
}

/// Reads a client's input after the welcome.
pub(super) fn read_client(frame: &[u8], plain: bool) -> ClientDoc<'_> {
    let command = match std::str::from_utf8(frame) {
        Ok(TERMINATE) if plain => Some(ClientCommand::Terminate),
        Ok("<CLIENT><command>TERMINATE</command></CLIENT>") if !plain => {
            Some(ClientCommand::Terminate)
        }
        Ok("<CLIENT><command>IDLE TIMEOUT</command></CLIENT>") if !plain => {
            Some(ClientCommand::IdleTimeout)
        }
        Ok("<CLIENT><command>TOTAL TIME TIMEOUT</command></CLIENT>") if !plain => {
            Some(ClientCommand::TotalTimeTimeout)
        }
        _ => None,
    };
    match command {
        Some(command) => ClientDoc::Command(command),
        None => ClientDoc::Message {
            text: String::from_utf8_lossy(frame),
            me: false,
        },
    }
}

/// Reads the passcode from a client's first frame; `None` if it is not a handshake. The plain
/// string also contains the worker's port, which must be `port`.
pub(super) fn read_passcode(frame: &[u8], plain: bool, port: Port) -> Option<String> {
    let text = std::str::from_utf8(frame).ok()?;
    if plain {
        let prefix = format!("CLIENT{port}>>>HandshakeCode=");
        return text.strip_prefix(&prefix).map(str::to_owned);
    }
    // Compare the whole string, like those programs: no blanks, no comments, no second element.
    let passcode = text
        .strip_prefix("<CLIENT><HandshakePasscode>")?
        .strip_suffix("</HandshakePasscode></CLIENT>")?;
    (!passcode.contains(['<', '&'])).then(|| passcode.to_owned())
}

/// Encodes a client's document as the content of a frame; `None` if the original programs have no
/// such document.
pub(super) fn client_content(doc: &ClientDoc<'_>, plain: bool) -> Option<Vec<u8>> {
    match doc {
        ClientDoc::Message { text, .. } if plain => Some(text.as_bytes().to_vec()),
        ClientDoc::Command(ClientCommand::Terminate) if plain => Some(TERMINATE.into()),
        ClientDoc::Message { text, .. } => Some(xml_content(&ClientDoc::message(text.as_ref()))),
        ClientDoc::Handshake { .. }
        | ClientDoc::Command(
            ClientCommand::Terminate | ClientCommand::IdleTimeout | ClientCommand::TotalTimeTimeout,
        ) if !plain => Some(xml_content(doc)),
        _ => None,
    }
}

/// Encodes the passcode as the content of a client's first frame.
pub(super) fn handshake_content(port: Port, passcode: &str, plain: bool) -> Vec<u8> {
    if plain {
        format!("CLIENT{port}>>>HandshakeCode={passcode}").into_bytes()
    } else {
        xml_content(&ClientDoc::Handshake {
            passcode: passcode.into(),
            callback: None,
        })
    }
}

fn xml_content(doc: &ClientDoc<'_>) -> Vec<u8> {
    let mut content = Vec::with_capacity(64);
    client_doc::write_client(doc, &mut content);
    content
}

/// Reads a server's output. Everything except the server's own strings is chat: the text of a chat
/// document, otherwise the frame itself.
pub(super) fn read_server(frame: &[u8], plain: bool) -> ServerDoc<'_> {
    let known = std::str::from_utf8(frame).ok().and_then(|text| {
        if plain {
            read_plain(text)
        } else {
            server_doc::read_server(text).ok()
        }
    });
    let text = match known {
        Some(ServerDoc::Relay(relay)) => relay.text,
        Some(doc) if is_known(&doc) => return doc,
        _ => String::from_utf8_lossy(frame),
    };
    // The original programs have no names, and only the partner can send chat.
    ServerDoc::Relay(Relay {
        scope: Scope::Partner,
        from: "partner".into(),
        text,
        ..Relay::default()
    })
}

fn read_plain(text: &str) -> Option<ServerDoc<'static>> {
    let port = |digits: &str| digits.parse().ok().and_then(Port::new);
    match text {
        FULL => return Some(ServerDoc::Full),
        IDLE_TIMEOUT => return Some(ServerDoc::IdleTimeout),
        TOTAL_TIME_TIMEOUT => return Some(ServerDoc::TotalTimeTimeout),
        _ => {}
    }
    if let Some(ticket) = text.strip_prefix("SERVER>>>Port=>") {
        let (digits, passcode) = ticket.split_once(",HandshakeCode=")?;
        return Some(ServerDoc::Ticket {
            port: port(digits)?,
            passcode: passcode.to_owned().into(),
        });
    }
    let (digits, said) = text.strip_prefix("SERVER")?.split_once(">>> ")?;
    let (port, room) = (port(digits)?, None);
    match said {
        "Connection successful" => Some(ServerDoc::Welcome {
            port,
            room,
            max: None,
        }),
        "Wrong handshake passcode" => Some(ServerDoc::WrongPasscode { port, room }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> Port {
        Port::new(50001).unwrap()
    }

    #[test]
    fn the_plain_strings_are_those_of_revision_0() {
        let room = None;
        for (doc, string) in [
            (
                ServerDoc::Ticket {
                    port: port(),
                    passcode: "123456789".into(),
                },
                "SERVER>>>Port=>50001,HandshakeCode=123456789",
            ),
            (ServerDoc::Full, "SERVER>>> FULL"),
            (
                ServerDoc::Welcome {
                    port: port(),
                    room: room.clone(),
                    max: None,
                },
                "SERVER50001>>> Connection successful",
            ),
            (
                ServerDoc::WrongPasscode { port: port(), room },
                "SERVER50001>>> Wrong handshake passcode",
            ),
            (ServerDoc::IdleTimeout, "SERVER>>> IDLE TIMEOUT"),
            (ServerDoc::TotalTimeTimeout, "SERVER>>> TOTAL TIME TIMEOUT"),
        ] {
            assert_eq!(server_content(&doc, true).unwrap(), string.as_bytes());
            assert_eq!(read_server(string.as_bytes(), true), doc);
        }
        assert_eq!(
            read_passcode(b"CLIENT50001>>>HandshakeCode=1", true, port()).unwrap(),
            "1"
        );
        assert_eq!(
            read_passcode(b"CLIENT50002>>>HandshakeCode=1", true, port()),
            None
        );
        assert_eq!(
            read_client(b"CLIENT>>> TERMINATE", true),
            ClientDoc::Command(ClientCommand::Terminate)
        );
    }

    /// Each revision has its own strings; those of the other one are chat.
    #[test]
    fn commands_have_one_form_in_each_revision() {
        let message = ClientDoc::message("hi");
        let handshake = ClientDoc::Handshake {
            passcode: "1".into(),
            callback: None,
        };
        let [terminate, idle, total] = [
            ClientCommand::Terminate,
            ClientCommand::IdleTimeout,
            ClientCommand::TotalTimeTimeout,
        ]
        .map(ClientDoc::Command);
        for (doc, plain, xml) in [
            (
                &message,
                Some("hi"),
                "<CLIENT><message>hi</message></CLIENT>",
            ),
            (
                &terminate,
                Some("CLIENT>>> TERMINATE"),
                "<CLIENT><command>TERMINATE</command></CLIENT>",
            ),
            (
                &idle,
                None,
                "<CLIENT><command>IDLE TIMEOUT</command></CLIENT>",
            ),
            (
                &total,
                None,
                "<CLIENT><command>TOTAL TIME TIMEOUT</command></CLIENT>",
            ),
            (
                &handshake,
                None,
                "<CLIENT><HandshakePasscode>1</HandshakePasscode></CLIENT>",
            ),
        ] {
            let plain = plain.map(|text| text.as_bytes().to_vec());
            assert_eq!(client_content(doc, true), plain);
            assert_eq!(client_content(doc, false).unwrap(), xml.as_bytes());
        }
        let who = ClientDoc::Command(ClientCommand::Who);
        assert_eq!(client_content(&who, false), None);
        for doc in [&terminate, &idle, &total] {
            let xml = client_content(doc, false).unwrap();
            assert_eq!(read_client(&xml, false), *doc);
            assert!(matches!(read_client(&xml, true), ClientDoc::Message { .. }));
        }
        let plain = client_content(&terminate, true).unwrap();
        assert!(matches!(
            read_client(&plain, false),
            ClientDoc::Message { .. }
        ));
        let passcode = handshake_content(port(), "1", false);
        assert_eq!(read_passcode(&passcode, false, port()).unwrap(), "1");
        for other in ["<a/>", "&lt;"] {
            let frame = format!("<CLIENT><HandshakePasscode>{other}</HandshakePasscode></CLIENT>");
            assert_eq!(read_passcode(frame.as_bytes(), false, port()), None);
        }
    }

    #[test]
    fn any_other_frame_is_chat_and_unchanged() {
        for plain in [true, false] {
            for text in [
                "",
                "SERVER>>> FULL",
                "<CLIENT>",
                "<CLIENT><command>FULL</command></CLIENT>",
                "CLIENT>>> TERMINATE ",
            ] {
                let ClientDoc::Message { text: said, .. } = read_client(text.as_bytes(), plain)
                else {
                    panic!("{text} is not chat")
                };
                assert_eq!(said, text);
            }
        }
        assert_eq!(read_client(b"a\xff", true), ClientDoc::message("a\u{fffd}"));
        assert_eq!(server_content(&ServerDoc::NoPartner, false), None);
        let relay = ServerDoc::Relay(Relay {
            text: "hi".into(),
            ..Relay::default()
        });
        for plain in [true, false] {
            assert_eq!(server_content(&relay, plain).unwrap(), b"hi");
        }
    }

    #[test]
    fn our_client_shows_the_text_of_a_document_and_anything_else_unchanged() {
        let shown = |frame: &'static [u8]| match read_server(frame, false) {
            ServerDoc::Relay(relay) => {
                let from = (relay.scope, relay.from.as_ref());
                assert_eq!(from, (Scope::Partner, "partner"));
                relay.text.into_owned()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            shown(b"<CLIENT from='bob' scope='public'><message>hi</message></CLIENT>"),
            "hi"
        );
        // The original programs do not know this command.
        let pong = "<SERVER><command>PONG</command></SERVER>";
        assert_eq!(shown(pong.as_bytes()), pong);
        assert_eq!(
            shown(b"<CLIENT><message>hi &amp; bye</message></CLIENT>"),
            "hi & bye"
        );
        assert_eq!(shown(b"just text"), "just text");
        assert_eq!(
            shown(b"<SERVER><command>DANCE</command></SERVER>"),
            "<SERVER><command>DANCE</command></SERVER>"
        );
    }
}
