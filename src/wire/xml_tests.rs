//! Tests of documents as XML: documents that were written can be read, and the fixed strings match
//! the protocol.
#![cfg(test)]

use std::borrow::Cow;

use crate::Port;
use crate::client_doc::{ClientCommand, ClientDoc, plainest_message};
use crate::client_doc::{read_client, write_client};
use crate::doc::{CallbackRequest, ErrorCode};
use crate::elements::{child, parse, text_of};
use crate::limits;
use crate::server_doc::{Relay, Scope, ServerDoc};
use crate::server_doc::{read_server, write_server};
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
        ..Relay::default()
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
fn reading_is_lenient_about_quotes_order_and_unknown_elements() {
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
fn a_handshake_may_request_a_callback() {
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
    let Ok(ClientDoc::Message { text, .. }) = read_client("<CLIENT><message>hi</message></CLIENT>")
    else {
        panic!("not a message")
    };
    assert!(matches!(text, Cow::Borrowed("hi")));
}

#[test]
fn an_invalid_document_is_refused_with_the_reason() {
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
    // Half the stack of a server thread.
    let thread = std::thread::Builder::new().stack_size(128 * 1024);
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
        // With as many attributes as fit into a frame.
        let wide: String = (0..1000).map(|n| format!("a{n}='' ")).collect();
        let _ = read_client(&format!("<CLIENT {wide}/>"));
        deepest
    });
    let deepest = parsed.unwrap().join().unwrap();
    assert!(deepest > limits::XML_NODES as usize / 2, "{deepest}");
}

proptest! {
    #[test]
    fn a_text_round_trips(text in "[^\\p{Cc}\u{fffe}\u{ffff}]{0,200}", me: bool) {
        let doc = ClientDoc::Message { text: text.into(), me };
        let mut out = Vec::new();
        write_client(&doc, &mut out);
        prop_assert_eq!(read_client(std::str::from_utf8(&out).unwrap()).unwrap(), doc);
    }

    #[test]
    fn the_plainest_message_agrees_with_the_parser(
        text in "([a-z ]|\\PC|[<>&;'\"\\]/!\\-]|\\p{Cc}|[\u{fffd}-\u{ffff}]|&lt;|&#xD800;|&#x110000;|&#65;|<a xmlns:b=''/>|</message>){0,12}"
    ) {
        let frame = format!("<CLIENT><message>{text}</message></CLIENT>");
        if let Some(plain) = plainest_message(&frame) {
            let document = parse(&frame, limits::XML_NODES).expect("the parser accepts it");
            let message = child(document.root_element(), "message").expect("a message");
            prop_assert_eq!(text_of(message), plain);
            prop_assert_eq!(document.root_element().children().count(), 1);
        }
    }

    #[test]
    fn every_written_document_can_be_read_and_is_one_line(from in any::<String>(), text in any::<String>()) {
        let relay = Relay {
            scope: Scope::Partner,
            from: from.into(),
            text: text.into(),
            ..Relay::default()
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
