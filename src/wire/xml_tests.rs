//! Tests of documents as XML: documents that were written can be read, and the fixed strings match
//! the protocol.
#![cfg(test)]

use std::borrow::Cow;

use crate::Port;
use crate::client_doc::{ClientCommand, ClientDoc, plainest_message};
use crate::client_doc::{read_client, write_client};
use crate::doc::{CallbackRequest, DocError, ErrorCode, Secret};
use crate::elements::{Elsewhere, RoomAccess, child, parse, text_of};
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

/// Every field of every command, once with each optional part and once without.
#[test]
fn commands_of_a_server_have_these_forms() {
    let secret = || Secret("t0k".into());
    let there = |web: Option<&'static str>| Elsewhere {
        address: "::1".parse().unwrap(),
        port: port(50000),
        web: web.map(Into::into),
    };
    let rooms = vec![("lobby".into(), 3), ("a&b".into(), 0)];
    for (doc, content) in [
        (
            ServerDoc::JoinedHere {
                room: "lobby".into(),
            },
            "JOINED</command><room>lobby</room><here/>",
        ),
        (
            ServerDoc::FullHere { there: there(None) },
            "FULL</command><elsewhere><address>::1</address><Port>50000</Port></elsewhere>",
        ),
        (
            ServerDoc::FullHere {
                there: there(Some("http://b/")),
            },
            "FULL</command><elsewhere><address>::1</address><Port>50000</Port><web>http://b/</web></elsewhere>",
        ),
        (
            ServerDoc::Joined {
                room: "lobby".into(),
                address: "127.0.0.1".parse().unwrap(),
                port: port(50005),
                passcode: "abc".into(),
            },
            "JOINED</command><room>lobby</room><address>127.0.0.1</address><Port>50005</Port><HandshakePasscode>abc</HandshakePasscode>",
        ),
        (
            ServerDoc::Topic {
                room: "lobby".into(),
                topic: "tea".into(),
                username: "bob".into(),
            },
            "TOPIC</command><room>lobby</room><topic>tea</topic><username>bob</username>",
        ),
        (
            ServerDoc::Left {
                room: "lobby".into(),
                by: None,
                reason: None,
            },
            "LEFT</command><room>lobby</room>",
        ),
        (
            ServerDoc::Left {
                room: "lobby".into(),
                by: Some("bob".into()),
                reason: Some("no".into()),
            },
            "LEFT</command><room>lobby</room><by>bob</by><reason>no</reason>",
        ),
        (
            ServerDoc::Room {
                room: "lobby".into(),
                access: RoomAccess::Invite,
                moderated: true,
                moderators: vec!["alice".into(), "bob".into()],
            },
            "ROOM</command><room>lobby</room><access>invite</access><moderated/><moderator>alice</moderator><moderator>bob</moderator>",
        ),
        (
            ServerDoc::Room {
                room: "lobby".into(),
                access: RoomAccess::Password,
                moderated: false,
                moderators: Vec::new(),
            },
            "ROOM</command><room>lobby</room><access>password</access>",
        ),
        (
            ServerDoc::Invited {
                room: "lobby".into(),
                username: "bob".into(),
            },
            "INVITED</command><room>lobby</room><username>bob</username>",
        ),
        (
            ServerDoc::Rooms { rooms },
            "ROOMS</command><room members='3'>lobby</room><room members='0'>a&amp;b</room>",
        ),
        (
            ServerDoc::History {
                room: Some("lobby".into()),
                with: None,
                count: 2,
                more: true,
            },
            "HISTORY</command><room>lobby</room><count>2</count><more/>",
        ),
        (
            ServerDoc::History {
                room: None,
                with: Some("bob".into()),
                count: 0,
                more: false,
            },
            "HISTORY</command><with>bob</with><count>0</count>",
        ),
        (
            ServerDoc::IdleSoon { seconds: 30 },
            "IDLE SOON</command><seconds>30</seconds>",
        ),
        (
            ServerDoc::Kicked {
                reason: "".into(),
                by: None,
            },
            "KICKED</command><reason></reason>",
        ),
        (
            ServerDoc::Password { new_account: true },
            "PASSWORD</command><account>new</account>",
        ),
        (
            ServerDoc::Password { new_account: false },
            "PASSWORD</command><account>existing</account>",
        ),
        (
            ServerDoc::LoggedIn {
                username: "bob".into(),
                moderator: true,
            },
            "WELCOME</command><username>bob</username><moderator/>",
        ),
        (
            ServerDoc::Token { token: secret() },
            "TOKEN</command><token>t0k</token>",
        ),
        (
            ServerDoc::Who {
                users: vec!["alice".into(), "bob".into()],
            },
            "WHO</command><user>alice</user><user>bob</user>",
        ),
        (
            ServerDoc::Sent { count: 7 },
            "SENT</command><count>7</count>",
        ),
    ] {
        let bytes = format!("<SERVER><command>{content}</SERVER>");
        assert_eq!(server(&doc), bytes);
        assert_eq!(read_server(&bytes).unwrap(), doc);
    }
    for missing in [
        "<SERVER><command>TOPIC</command><room>lobby</room></SERVER>",
        "<SERVER><command>SENT</command><count>many</count></SERVER>",
        "<SERVER><command>JOINED</command><room>a</room><address>127.0.0.1</address><Port>0</Port><HandshakePasscode>abc</HandshakePasscode></SERVER>",
    ] {
        let error = read_server(missing).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Missing, "{missing}");
    }
}

/// A message's attributes appear only if they are set, in this order.
#[test]
fn relayed_messages_have_these_forms() {
    let plain = |scope| Relay {
        scope,
        from: "bob".into(),
        text: "hi".into(),
        ..Relay::default()
    };
    let everything = Relay {
        me: true,
        old: true,
        gap: true,
        to: Some("al".into()),
        time: Some("2026-01-02T03:04:05.006Z".into()),
        id: Some(9),
        ..plain(Scope::Direct)
    };
    for (relay, attributes) in [
        (plain(Scope::Partner), ""),
        (plain(Scope::Public), " scope='public'"),
        (plain(Scope::Direct), " scope='direct'"),
        (plain(Scope::Room("a".into())), " scope='room' room='a'"),
        (
            everything,
            " scope='direct' to='al' me='yes' old='yes' gap='yes' time='2026-01-02T03:04:05.006Z' id='9'",
        ),
    ] {
        let bytes = format!("<CLIENT from='bob'{attributes}><message>hi</message></CLIENT>");
        let doc = ServerDoc::Relay(relay);
        assert_eq!(server(&doc), bytes);
        assert_eq!(read_server(&bytes).unwrap(), doc);
    }
}

/// Every field of every command with fields, and the other names of a command.
#[test]
fn commands_of_a_client_have_these_forms() {
    let secret = |text: &'static str| Secret(text.into());
    for (command, me, content) in [
        (ClientCommand::PublicCancel, false, "PM</command><cancel/>"),
        (ClientCommand::DirectList, false, "DM</command>"),
        (ClientCommand::Terminate, false, "TERMINATE</command>"),
        (
            ClientCommand::Login {
                username: "bob".into(),
            },
            false,
            "LOGIN</command><username>bob</username>",
        ),
        (
            ClientCommand::Password {
                password: secret(" p "),
            },
            false,
            "PASSWORD</command><password> p </password>",
        ),
        (
            ClientCommand::Public {
                message: None,
                me: false,
            },
            false,
            "PM</command>",
        ),
        (
            ClientCommand::Public {
                message: Some("hi".into()),
                me: true,
            },
            true,
            "PM</command><message>hi</message>",
        ),
        (
            ClientCommand::Resume {
                username: "bob".into(),
                token: secret("t"),
            },
            false,
            "RESUME</command><username>bob</username><token>t</token>",
        ),
        (
            ClientCommand::Passwd {
                old: secret("a"),
                new: secret("b"),
            },
            false,
            "PASSWD</command><old>a</old><new>b</new>",
        ),
        (
            ClientCommand::Join {
                room: "lobby".into(),
                here: true,
                password: Some(secret("p")),
            },
            false,
            "JOIN</command><room>lobby</room><here/><password>p</password>",
        ),
        (
            ClientCommand::Join {
                room: "lobby".into(),
                here: false,
                password: None,
            },
            false,
            "JOIN</command><room>lobby</room>",
        ),
        (
            ClientCommand::Say {
                room: "lobby".into(),
                message: "hi".into(),
                me: true,
            },
            true,
            "SAY</command><room>lobby</room><message>hi</message>",
        ),
        (
            ClientCommand::Direct {
                to: "bob".into(),
                message: "hi".into(),
                me: false,
            },
            false,
            "DM</command><to>bob</to><message>hi</message>",
        ),
        (
            ClientCommand::Room {
                room: "lobby".into(),
                access: None,
                password: None,
                moderated: None,
                moderator: Some("bob".into()),
                remove: true,
            },
            false,
            "ROOM</command><room>lobby</room><moderator>bob</moderator><remove/>",
        ),
        (
            ClientCommand::Ban {
                username: "bob".into(),
                duration: Some("10m".into()),
                reason: "".into(),
            },
            false,
            "BAN</command><username>bob</username><duration>10m</duration><reason></reason>",
        ),
        (
            ClientCommand::History {
                room: None,
                with: Some("bob".into()),
                before: Some(7),
                after: None,
                count: Some(10),
            },
            false,
            "HISTORY</command><with>bob</with><before>7</before><count>10</count>",
        ),
    ] {
        let me = if me { " me='yes'" } else { "" };
        let bytes = format!("<CLIENT{me}><command>{content}</CLIENT>");
        let doc = ClientDoc::Command(command);
        let mut out = Vec::new();
        write_client(&doc, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), bytes);
        assert_eq!(read_client(&bytes).unwrap(), doc);
    }
    for (other, usual) in [
        ("EX</command>", "TERMINATE</command>"),
        ("DISCONNECT</command>", "TERMINATE</command>"),
        (
            "BM</command><message>hi</message>",
            "PM</command><message>hi</message>",
        ),
        (
            "LOGIN</command><username> bob </username>",
            "LOGIN</command><username>bob</username>",
        ),
        (
            "KICK</command><username>bob</username>",
            "KICK</command><username>bob</username><reason></reason>",
        ),
    ] {
        let read = |content: &str| {
            let frame = format!("<CLIENT><command>{content}</CLIENT>");
            let mut out = Vec::new();
            write_client(&read_client(&frame).unwrap(), &mut out);
            out
        };
        assert_eq!(read(other), read(usual), "{other}");
    }
    let bad_number = "<CLIENT><command>HISTORY</command><before>soon</before></CLIENT>";
    let error = read_client(bad_number).unwrap_err();
    assert_eq!(error, DocError::BadNumber("before"));
    assert_eq!(error.code(), ErrorCode::Missing);
    assert_eq!(error.to_string(), "<before> is not a valid number");
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

#[test]
fn a_document_has_a_limited_number_of_nodes() {
    let frame = |elements: usize| {
        let many = "<x/>".repeat(elements);
        format!("<CLIENT><command>WHO</command>{many}</CLIENT>")
    };
    assert!(read_client(&frame(limits::XML_NODES as usize / 2)).is_ok());
    let too_many = frame(limits::XML_NODES as usize);
    assert!(matches!(read_client(&too_many), Err(DocError::NotXml(_))));
}

#[test]
fn a_message_without_markup_needs_no_parser() {
    let plainest = |text: &str| {
        let frame = format!("<CLIENT><message>{text}</message></CLIENT>");
        plainest_message(&frame).map(str::to_owned)
    };
    for text in ["", " ", "hello, world", "grüße > 'x' \""] {
        assert_eq!(plainest(text).as_deref(), Some(text));
    }
    for text in ["a<b/>", "&amp;", "]", "\u{1f}", "\t", "\u{fffe}"] {
        assert_eq!(plainest(text), None, "{text:?}");
    }
}

#[test]
fn dm_needs_a_message_and_a_recipient_or_neither() {
    let dm = |parts: &str| read_client_owned(&format!("<command>DM</command>{parts}"));
    assert_eq!(dm(""), Ok("DirectList".to_owned()));
    assert_eq!(dm("<to>bob</to>"), Err(DocError::Missing("message")));
    assert_eq!(dm("<message>hi</message>"), Err(DocError::Missing("to")));
}

fn read_client_owned(parts: &str) -> Result<String, DocError> {
    let frame = format!("<CLIENT>{parts}</CLIENT>");
    match read_client(&frame)? {
        ClientDoc::Command(command) => Ok(format!("{command:?}")),
        other => Ok(format!("{other:?}")),
    }
}

#[test]
fn a_borrowed_scope_is_the_same_scope() {
    let room = Scope::Room("lobby".into());
    for scope in [Scope::Partner, Scope::Public, Scope::Direct, room] {
        assert_eq!(scope.as_borrowed(), scope);
    }
}
