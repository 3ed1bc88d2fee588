//! Those who only sit at a door, and those who ask for more than their share, keep nobody else out.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portal_chat::limits;
use portal_chat::net::Port;
use portal_chat::server::Settings;
use support::{Client, TestServer, command, handshake, login, message, ticket};

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Somebody who has logged in, where names need no password.
fn somebody(server: &TestServer, name: &str) -> Client {
    let (mut client, _) = server.seat();
    client.send_line(&login(name));
    client.line_with(">WELCOME<");
    client
}

fn at(server: &TestServer, port: Port) -> SocketAddr {
    SocketAddr::new(server.server.portal().ip(), port.get())
}

/// A ticket for a room, which is made if there is none.
fn join(client: &mut Client, room: &str) -> (Port, String) {
    client.send_line(&command("JOIN", &format!("<room>{room}</room>")));
    ticket(&client.line_with(">JOINED<"))
}

#[test]
fn strangers_at_a_rooms_door_keep_no_member_out() {
    let server = TestServer::with_workers(4);
    let mut alice = somebody(&server, "alice");
    for from in [ELSEWHERE, server.server.portal().ip()] {
        let (port, passcode) = join(&mut alice, "lobby");
        let sit = || Client::connect_from(from, at(&server, port));
        let mut silent: Vec<Client> = (0..3 * limits::CALLERS_TO_SPARE).map(|_| sit()).collect();
        // Who has been silent for longest goes first.
        silent[0].line_with("IDLE TIMEOUT");
        let mut member = server.connect(port);
        member.send_line(&handshake(&passcode));
        assert!(member.line().contains("Connection successful"), "{from}");
        alice.send_line(&command("LEAVE", "<room>lobby</room>"));
        alice.line_with(">LEFT<");
        drop((silent, member));
    }
    drop(alice);
    server.assert_all_rooms_end();
}

#[test]
fn who_sits_at_a_single_port_without_a_word_goes_when_somebody_wants_in() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..Settings::default()
    });
    let portal = server.server.portal();
    let sit = || {
        let mut client = Client::connect(portal);
        client.line_with("Connection successful");
        client
    };
    let (mut silent, mut lively) = (sit(), sit());
    lively.send_line(&message("hello"));
    silent.line_with("hello");
    let full = |client: &mut Client| client.line().contains("FULL");
    assert!(full(&mut Client::connect(portal)));
    server.tick(30);
    // This one hears FULL, too, but the next one gets in.
    assert!(full(&mut Client::connect(portal)));
    silent.line_with("IDLE TIMEOUT");
    silent.assert_closed();
    server.wait_for_event("freed", None);
    let mut newcomer = Client::connect(portal);
    assert!(newcomer.line().contains("seat='1'"));
    lively.send_line(&message("still here"));
    newcomer.line_with("still here");
}

#[test]
fn one_person_is_in_so_many_rooms_and_no_more() {
    let server = TestServer::start(&Settings {
        workers: 2,
        rooms: limits::ROOMS_A_PERSON + 1,
        ..Settings::default()
    });
    let mut alice = somebody(&server, "alice");
    for number in 0..limits::ROOMS_A_PERSON {
        alice.send_line(&command("JOIN", &format!("<room>r{number}</room><here/>")));
        alice.line_with(">JOINED<");
    }
    alice.send_line(&command("JOIN", "<room>more</room><here/>"));
    let refused = alice.line_with("no-room-left");
    assert!(refused.contains("leave one first"), "{refused}");
    alice.send_line(&command("LEAVE", "<room>r0</room>"));
    alice.line_with(">LEFT<");
    join(&mut alice, "more");
    drop(alice);
    server.assert_all_rooms_end();
}

#[test]
fn a_list_comes_once_a_tick() {
    let server = TestServer::with_workers(2);
    let mut alice = somebody(&server, "alice");
    for list in ["WHO", "ROOMS"] {
        alice.send_line(&command(list, ""));
        alice.line_with(list);
        for _ in 0..2 {
            alice.send_line(&command(list, ""));
        }
        alice.send_line(&command("PING", ""));
        assert!(alice.has_heard_nothing(), "the second list waits");
        server.tick(1);
        alice.line_with(list);
        assert!(alice.has_heard_nothing(), "and so does the third");
        server.tick(1);
        alice.line_with(list);
        alice.line_with("PONG");
        server.tick(1);
    }
}

#[test]
fn what_was_said_before_makes_no_newcomer_too_slow() {
    let server = TestServer::start(&Settings {
        workers: 4,
        history: 1000,
        ..Settings::default()
    });
    let mut alice = somebody(&server, "alice");
    let mut bob = somebody(&server, "bob");
    // An apostrophe is six bytes on its way.
    let text = "'".repeat(4000);
    let rooms = ["one", "two", "three", "four"];
    for room in rooms {
        alice.send_line(&command("JOIN", &format!("<room>{room}</room><here/>")));
        alice.line_with(">JOINED<");
        for _ in 0..100 {
            let parts = format!("<room>{room}</room><message>{text}</message>");
            alice.send_line(&command("SAY", &parts));
            alice.line_with(">SENT<");
        }
    }
    // Bob asks for all of it at once, and reads nothing until he has.
    for room in rooms {
        bob.send_line(&command("JOIN", &format!("<room>{room}</room><here/>")));
    }
    for _ in rooms {
        alice.line_with(">ROOM JOINED<");
    }
    bob.send_line(&command("PING", ""));
    bob.line_with("PONG");
}

#[test]
fn who_says_the_passcode_in_other_clothes_is_told_what_is_wrong_with_them() {
    let server = TestServer::with_workers(2);
    let caller = || {
        let (port, passcode) = ticket(&server.ask());
        (server.connect(port), handshake(&passcode))
    };
    let utf_16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let (mut lines, passcode) = caller();
    lines.send(passcode.replace('>', ">\n").as_bytes());
    assert!(lines.line().contains("a document is one line"));
    assert!(lines.line().contains("Wrong handshake passcode"));
    let (mut wide, passcode) = caller();
    wide.send(&utf_16(&format!("{passcode}\n")));
    assert!(wide.line().contains("UTF-16"));
    drop((lines, wide));
    server.assert_all_ports_come_back();
    let (mut endless, passcode) = caller();
    endless.send(passcode.as_bytes());
    server.ticking(|| assert!(endless.line().contains("no line feed after your document")));
    assert!(endless.line().contains("IDLE TIMEOUT"));
}
