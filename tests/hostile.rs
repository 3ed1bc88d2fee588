//! Strangers, broken clients and attackers on raw sockets affect no other client: the honest pair
//! continues, and afterwards every port can be assigned, each exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::net::UdpSocket;
use std::time::Duration;

use portal_chat::server::Settings;
use portal_chat::wire::CloseReason;
use support::{Client, TestServer, UdpClient, handshake, is_about, message, ticket};

/// Checks that every port can be assigned, each exactly once, and that the portal then sends FULL.
fn assert_each_port_is_assigned_once(server: &TestServer) {
    server.assert_all_ports_freed();
    let ports: Vec<_> = server
        .server
        .workers()
        .iter()
        .map(|_| ticket(&server.request_port()).0)
        .collect();
    let distinct: BTreeSet<_> = ports.iter().collect();
    assert_eq!(distinct.len(), server.server.workers().len(), "{ports:?}");
    assert!(server.request_port().contains("FULL"));
}

#[test]
fn hostile_callers_free_their_port() {
    let server = TestServer::with_workers(4);
    let deep = format!("{}\n", "<a>".repeat(100_000));
    let giant = "x".repeat(1 << 20);
    let first_words: [&[u8]; 9] = [
        b"",
        b"\n",
        b"\x00\x01\x02\xff\xfe\n",
        b"<CLIENT><HandshakePasscode>",
        b"<CLIENT><HandshakePasscode></HandshakePasscode></CLIENT>\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><CLIENT>&b;</CLIENT>\n",
        deep.as_bytes(),
        giant.as_bytes(),
    ];
    for reset in [false, true] {
        for words in first_words {
            let (port, _) = ticket(&server.request_port());
            let mut caller = server.connect(port);
            caller.try_send(words);
            if reset {
                caller.reset();
            } else {
                drop(caller);
            }
            // A caller whose request arrives before it is accepted gets no ticket. Other tickets
            // expire.
            let end = server.wait_for("the end of the visit", |event| {
                ["seat-free", "wrong-protocol"].contains(&&*event.kind) && is_about(event, port)
            });
            if end.kind == "wrong-protocol" {
                server.tick(4);
                server.wait_for_event("seat-free", Some(port));
            }
        }
    }
    assert_each_port_is_assigned_once(&server);
}

#[test]
fn hostile_clients_free_their_port() {
    let server = TestServer::with_workers(2);
    let (mut partner, partner_port) = server.seat();
    partner.line_with("NO PARTNER");
    let giant = format!("<CLIENT><message>{}", "x".repeat(1 << 20));
    for words in [&b"<CLIENT><mess"[..], b"\xff\xff\n\xff\n", giant.as_bytes()] {
        for reset in [false, true] {
            let (mut guest, port) = server.seat();
            partner.line_with("PARTNER JOINED");
            guest.try_send(words);
            if reset {
                guest.reset();
            } else {
                drop(guest);
            }
            server.wait_for_event("seat-free", Some(port));
            partner.line_with("PARTNER LEFT");
        }
    }
    partner.send_line("<CLIENT><command>TERMINATE</command></CLIENT>");
    server.wait_for_event("seat-free", Some(partner_port));
    assert_each_port_is_assigned_once(&server);
}

#[test]
fn passcode_is_valid_once_on_one_port() {
    let server = TestServer::with_workers(4);
    let (port, passcode) = ticket(&server.request_port());
    let (other_port, _) = ticket(&server.request_port());
    let mut first = server.connect(port);
    first.send_line(&handshake(&passcode));
    assert!(first.line().contains("Connection successful"));

    // Reuse the passcode on the same port: the connection waits in the backlog until the first
    // client has left.
    let mut second = server.connect(port);
    second.send_line(&handshake(&passcode));
    // Use it on another port, which is reserved for this address: this uses up the only attempt.
    let mut elsewhere = server.connect(other_port);
    elsewhere.send_line(&handshake(&passcode));
    assert!(elsewhere.line().contains("Wrong handshake passcode"));
    elsewhere.assert_closed();
    assert!(second.has_received_nothing());
    drop(first);
    assert!(second.line().contains("Wrong handshake passcode"));
    second.assert_closed();
    drop((second, elsewhere));
    assert_each_port_is_assigned_once(&server);
}

#[test]
fn strays_in_the_backlog_are_rejected() {
    let server = TestServer::with_workers(2);
    for _ in 0..20 {
        let (guest, port) = server.seat();
        let mut strays: Vec<Client> = (0..5).map(|_| server.connect(port)).collect();
        strays.pop().unwrap().reset();
        drop(guest);
        // They are rejected before the port returns to the stack. Otherwise one of them could be
        // taken for the client with the next reservation.
        let rejected = Cell::new(0);
        server.wait_for("the port freed", |event| {
            if event.kind == "unexpected-connection" && is_about(event, port) {
                rejected.set(rejected.get() + 1);
            }
            event.kind == "seat-free" && is_about(event, port)
        });
        assert_eq!(rejected.get(), 5);
        let (next, next_port) = server.seat();
        assert_eq!(next_port, port, "the port freed last is assigned first");
        for stray in &mut strays {
            assert!(stray.line().contains("Wrong handshake passcode"));
            stray.assert_closed();
        }
        drop(next);
        server.wait_for_event("seat-free", Some(port));
    }
    assert_each_port_is_assigned_once(&server);
}

#[test]
fn half_a_frame_hits_the_idle_timeout() {
    let server = TestServer::start(&Settings {
        workers: 2,
        idle_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    });
    let (mut guest, port) = server.seat();
    guest.line_with("NO PARTNER");
    guest.send(b"<CLIENT><message>half");
    server.tick(4);
    guest.line_with("IDLE TIMEOUT");
    guest.assert_closed();
    server.wait_for_close(CloseReason::IdleTimeout, Some(port));
    drop(guest);
    assert_each_port_is_assigned_once(&server);
}

#[test]
fn endless_sender_hits_the_total_timeout() {
    let server = TestServer::start(&Settings {
        workers: 2,
        total_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    });
    let (guest, port) = server.seat();
    let mut flooder = guest.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let line = message("again and again") + "\n";
        while flooder.write_all(line.as_bytes()).is_ok() {}
    });
    server.wait_for_event("no-partner", None);
    server.tick(4);
    let left = server.wait_for_event("closed", Some(port));
    let end = left.text("end").unwrap();
    assert!(["total-time-timeout", "too-slow"].contains(&end), "{end}");
    drop(guest);
    flood.join().unwrap();
    assert_each_port_is_assigned_once(&server);
}

#[test]
fn partner_that_does_not_read_is_dropped() {
    let server = TestServer::with_workers(4);
    let (mut speaker, _) = server.seat();
    let (mut non_reader, non_reader_port) = server.seat();
    let (mut third, _) = server.seat();
    let (mut fourth, _) = server.seat();
    speaker.line_with("PARTNER JOINED");
    third.line_with("PARTNER JOINED");
    fourth.line_with("PARTNER JOINED");
    let line = message(&"x".repeat(8000)) + "\n";
    let mut sent = 0;
    // The sender continues until its partner has left; the other pair chats.
    while speaker.has_received_nothing() {
        speaker.send(line.as_bytes());
        sent += 1;
        if sent % 100 == 0 {
            third.send_line(&message("ping"));
            assert!(fourth.line().contains("ping"));
        }
        assert!(sent < 10_000, "the partner was never dropped");
    }
    let reply = speaker.line();
    assert!(
        reply.contains("PARTNER LEFT") || reply.contains("NO PARTNER"),
        "{reply}"
    );
    server.wait_for_close(CloseReason::TooSlow, Some(non_reader_port));
    // The partner had one tick to read the reason before the connection was cut, so only the last
    // line may be incomplete.
    let received = String::from_utf8(non_reader.rest_of_bytes()).unwrap();
    let whole = &received[..=received.rfind('\n').unwrap()];
    assert!(
        whole
            .lines()
            .all(|line| line.starts_with('<') && line.ends_with('>'))
    );
}

#[test]
fn udp_client_gets_only_one_port() {
    let server = TestServer::with_workers(4);
    let udp_client = UdpClient::new(server.server.portal());
    let first = udp_client.request_port();
    for _ in 0..20 {
        assert_eq!(udp_client.request_port(), first);
    }
    assert_eq!(server.server.free_ports().len(), 3);
    let other = UdpClient::new(server.server.portal());
    assert_ne!(ticket(&other.request_port()).0, ticket(&first).0);
    drop((udp_client, other));
    assert_each_port_is_assigned_once(&server);
}

/// Two portals would reply to each other forever after one forged datagram.
#[test]
fn portal_ignores_replies_of_portals() {
    let server = TestServer::with_workers(4);
    let portal = server.server.portal();
    // Replies from another portal, sent from its own port, and those from the original programs.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_client = UdpClient::new(portal);
    for reply in [&udp_client.request_port(), "SERVER>>> FULL", "  <SERVER>"] {
        other.send_to(reply.as_bytes(), portal).unwrap();
    }
    // A reply from the portal's own port: the same port is free on another address of this machine.
    let itself =
        cfg!(target_os = "linux").then(|| UdpSocket::bind(("127.0.0.2", portal.port())).unwrap());
    if let Some(itself) = &itself {
        itself.send_to(&[b' '; 300], portal).unwrap();
    }
    // The portal handles datagrams in order, so this reply shows that it ignored the earlier ones.
    let last = UdpClient::new(portal);
    assert_ne!(
        ticket(&last.request_port()).0,
        ticket(&udp_client.request_port()).0
    );
    assert_eq!(server.server.free_ports().len(), 2, "nothing is reserved");
    for socket in [Some(other), itself].into_iter().flatten() {
        socket.set_nonblocking(true).unwrap();
        let reply = socket.recv(&mut [0; 1000]);
        assert!(reply.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }
}

#[test]
fn odd_datagrams_get_the_same_reply() {
    let server = TestServer::with_workers(2);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut replies = Vec::new();
    for datagram in [&b""[..], b"\xff", &[b'x'; 60_000]] {
        socket.send_to(datagram, server.server.portal()).unwrap();
        let mut reply = [0; 1000];
        let (count, from) = socket.recv_from(&mut reply).unwrap();
        assert_eq!(from, server.server.portal());
        replies.push(reply[..count].to_vec());
    }
    assert!(replies[0].starts_with(b"<SERVER type='worker'><Port>"));
    assert!(replies.iter().all(|reply| *reply == replies[0]));
}

#[test]
fn portal_sends_its_whole_reply() {
    let server = TestServer::with_workers(2);
    let mut talker = Client::connect(server.server.portal());
    talker.try_send(&vec![b'x'; 1 << 20]);
    let reply = talker.rest();
    assert!(
        reply.starts_with("<SERVER type='worker'>") && reply.ends_with("</SERVER>\n"),
        "{reply}"
    );
}
