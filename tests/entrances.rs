//! Idle callers at an entrance, and clients that request more than their share, block no other
//! client.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portal_chat::limits;
use portal_chat::net::Port;
use portal_chat::server::Settings;
use portal_chat::wire::CloseReason;
use socket2::SockRef;
use support::sentences;
use support::{Client, TestServer, command, handshake, login, message, ticket};

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Takes a seat and logs in, on a server without passwords.
fn log_in(server: &TestServer, name: &str) -> Client {
    let (mut client, _) = server.seat();
    client.send_line(&login(name));
    client.line_with(">WELCOME<");
    client
}

fn at(server: &TestServer, port: Port) -> SocketAddr {
    SocketAddr::new(server.server.portal().ip(), port.get())
}

/// Sends JOIN, and returns the ticket for the room.
fn join(client: &mut Client, room: &str) -> (Port, String) {
    client.send_line(&command("JOIN", &format!("<room>{room}</room>")));
    ticket(&client.line_with(">JOINED<"))
}

#[test]
fn idle_callers_of_a_room_block_no_member() {
    let server = TestServer::with_workers(4);
    let mut alice = log_in(&server, "alice");
    for from in [ELSEWHERE, server.server.portal().ip()] {
        let (port, passcode) = join(&mut alice, "lobby");
        let connect = || Client::connect_from(from, at(&server, port));
        let mut silent: Vec<Client> = (0..2 * limits::HANDSHAKES).map(|_| connect()).collect();
        // An evicted caller receives the reason.
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

/// Takes a seat on a single port.
fn take_seat(server: &TestServer) -> Client {
    let mut client = Client::connect(server.server.portal());
    client.line_with("Connection successful");
    client
}

fn single_port(seats: usize, max_per_address: Option<usize>) -> TestServer {
    TestServer::start(&Settings {
        single_port: Some(seats),
        max_per_address,
        ..Settings::default()
    })
}

fn assert_full(server: &TestServer, from: IpAddr) {
    let mut client = Client::connect_from(from, server.server.portal());
    assert!(client.line().contains("FULL"));
}

#[test]
fn full_single_port_evicts_an_idle_client() {
    let server = single_port(3, None);
    let (_alice, _bob, mut alone) = (take_seat(&server), take_seat(&server), take_seat(&server));
    alone.line_with("NO PARTNER");
    assert_full(&server, ELSEWHERE);
    server.tick(30);
    // This caller receives FULL, too, but the next one gets a seat.
    assert_full(&server, ELSEWHERE);
    let reason = alone.line_with("<notice>");
    assert!(
        reason.contains(sentences::YOUR_SEAT_WAS_GIVEN_AWAY),
        "{reason}"
    );
    alone.assert_closed();
    let left = server.wait_for_event("closed", None);
    assert!(left.line().contains("end evicted"), "{}", left.line());
    server.wait_for_event("seat-free", None);
    let mut next = Client::connect(server.server.portal());
    assert!(next.line().contains("seat='3'"));
}

#[test]
fn full_single_port_keeps_partners_and_active_clients() {
    let server = single_port(3, None);
    let (mut listener, mut speaker, mut pinger) =
        (take_seat(&server), take_seat(&server), take_seat(&server));
    pinger.send_line(&command("PING", ""));
    pinger.line_with("PONG");
    server.tick(30);
    for _ in 0..3 {
        assert_full(&server, ELSEWHERE);
    }
    speaker.send_line(&message("still here"));
    listener.line_with("still here");
    pinger.send_line(&command("PING", ""));
    pinger.line_with("PONG");
}

#[test]
fn full_address_evicts_only_its_own_clients() {
    let server = single_port(3, Some(1));
    let mut other = Client::connect_from(ELSEWHERE, server.server.portal());
    other.line_with("NO PARTNER");
    let third = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
    let mut partner = Client::connect_from(third, server.server.portal());
    partner.line_with("PARTNER JOINED");
    drop(partner);
    other.line_with("PARTNER LEFT");
    // The oldest client has no partner and no traffic, but its address is different from the
    // caller's.
    let mut speaker = take_seat(&server);
    speaker.send_line(&command("PING", ""));
    speaker.line_with("PONG");
    server.tick(30);
    assert_full(&server, server.server.portal().ip());
    other.send_line(&command("PING", ""));
    other.line_with("PONG");
}

/// First lines of HTTP requests.
const REQUESTS: [&str; 5] = [
    "POST / HTTP/1.1",
    "get / HTTP/1.1",
    "QUERY /search HTTP/1.1",
    "PROPFIND / HTTP/1.1",
    "\r\nGET / HTTP/1.1",
];

#[test]
fn browser_at_the_portal_uses_no_ticket() {
    let server = TestServer::with_workers(2);
    for _ in 0..20 {
        let mut browser = Client::connect(server.server.portal());
        browser.try_send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:50000\r\n\r\n");
        let reply = String::from_utf8(browser.rest_of_bytes()).unwrap();
        // The portal sends first, so it may not have seen the request in time.
        assert!(
            reply.starts_with("HTTP/1.1 400") || reply.contains("<Port>"),
            "{reply}"
        );
    }
    // No tick has passed.
    let _seated = [server.seat(), server.seat()];
    server.wait_for_event("wrong-protocol", None);
}

#[test]
fn ticket_of_a_browser_is_reused() {
    for first_line in REQUESTS {
        let server = TestServer::with_workers(2);
        let mut browsers: Vec<Client> = (0..2)
            .map(|_| {
                let mut browser = Client::connect(server.server.portal());
                ticket(&browser.rest());
                browser
            })
            .collect();
        for browser in &mut browsers {
            browser.try_send(format!("{first_line}\r\nHost: 127.0.0.1:50000\r\n\r\n").as_bytes());
        }
        let _seated = [server.seat(), server.seat()];
        let mut late = Client::connect(server.server.portal());
        assert!(late.line().contains("FULL"), "{first_line:?}");
    }
}

#[test]
fn single_port_recognises_every_http_method() {
    let server = single_port(2, None);
    for first_line in REQUESTS {
        let mut browser = Client::connect(server.server.portal());
        browser.try_send(format!("{first_line}\r\nHost: 127.0.0.1:50000\r\n\r\n").as_bytes());
        let received = server.wait_for_event("closed", None);
        assert!(
            received.line().contains("http"),
            "{first_line:?}: {}",
            received.line()
        );
    }
}

#[test]
fn proxy_header_at_the_portal_uses_no_ticket() {
    let server = TestServer::with_workers(2);
    for (header, version) in [
        (&b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"[..], "version 1)"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x05\0\x06",
            "version 2)",
        ),
    ] {
        // The portal has already replied, so it sees the header when the next caller connects.
        let mut proxy = Client::connect(server.server.portal());
        ticket(&proxy.rest());
        proxy.try_send(header);
        drop(server.seat());
        let received = server.wait_for_event("wrong-protocol", None);
        assert!(received.line().contains(version), "{}", received.line());
    }
    server.assert_all_ports_freed();
}

#[test]
fn ticket_of_another_protocol_stays_valid() {
    let server = TestServer::with_workers(2);
    let mut caller = Client::connect(server.server.portal());
    let (port, passcode) = ticket(&caller.rest());
    caller.try_send(b"CLIENT>>> hello\r\n");
    let _other = server.seat();
    let mut client = server.connect(port);
    client.send_line(&handshake(&passcode));
    assert!(client.line().contains("Connection successful"));
}

#[test]
fn rooms_per_user_are_limited() {
    let server = TestServer::start(&Settings {
        workers: 2,
        rooms: limits::MAX_ROOMS_PER_USER + 1,
        ..Settings::default()
    });
    let mut alice = log_in(&server, "alice");
    for number in 0..limits::MAX_ROOMS_PER_USER {
        alice.send_line(&command("JOIN", &format!("<room>r{number}</room><here/>")));
        alice.line_with(">JOINED<");
    }
    for here in ["<here/>", ""] {
        alice.send_line(&command("JOIN", &format!("<room>more</room>{here}")));
        let refused = alice.line_with("no-room-left");
        assert!(refused.contains(sentences::LEAVE_ONE_FIRST), "{refused}");
    }
    // The refusal has created no room.
    alice.send_line(&command("ROOMS", ""));
    let rooms = alice.line_with(">ROOMS<");
    assert!(!rooms.contains("more") && rooms.contains("r7"), "{rooms}");
    alice.send_line(&command("LEAVE", "<room>r0</room>"));
    alice.line_with(">LEFT<");
    join(&mut alice, "more");
    drop(alice);
    server.assert_all_rooms_end();
}

/// Fills a room's history, and returns the number of bytes that a new member receives.
fn fill_history(server: &TestServer, speaker: &mut Client, room: &str) -> usize {
    speaker.send_line(&command("JOIN", &format!("<room>{room}</room><here/>")));
    speaker.line_with(">JOINED<");
    let text = "x".repeat(7000);
    for _ in 0..limits::HISTORY / text.len() + 1 {
        let parts = format!("<room>{room}</room><message>{text}</message>");
        speaker.send_line(&command("SAY", &parts));
        speaker.line_with(">SENT<");
    }
    let mut member = log_in(server, "member");
    member.send_line(&command("JOIN", &format!("<room>{room}</room><here/>")));
    member.send_line(&command("PING", ""));
    let mut bytes = 0;
    loop {
        let line = member.line();
        if line.contains(">PONG<") {
            break;
        }
        bytes += if line.contains("old='yes'") {
            line.len() + 1
        } else {
            0
        };
    }
    drop(member);
    server.wait_for_event("seat-free", None);
    assert!(
        bytes <= limits::HISTORY && bytes > limits::HISTORY / 8 * 7,
        "{bytes}"
    );
    bytes
}

fn with_history() -> TestServer {
    TestServer::start(&Settings {
        workers: 4,
        history: 1000,
        ..Settings::default()
    })
}

#[test]
fn rejoining_every_room_takes_no_tick() {
    let server = with_history();
    let (mut alice, mut bob) = (log_in(&server, "alice"), log_in(&server, "bob"));
    let rooms: Vec<String> = (0..limits::MAX_ROOMS_PER_USER)
        .map(|n| format!("r{n}"))
        .collect();
    for room in &rooms {
        fill_history(&server, &mut alice, room);
    }
    for room in &rooms {
        bob.send_line(&command("JOIN", &format!("<room>{room}</room><here/>")));
    }
    bob.send_line(&command("PING", ""));
    bob.line_with(">PONG<");
}

/// The clock is stopped during the requests, so only the ticks after them allow more than the
/// burst.
#[test]
fn replays_beyond_the_burst_wait_for_ticks() {
    const TIMES: usize = 30;
    let server = with_history();
    let (mut alice, mut bob) = (log_in(&server, "alice"), log_in(&server, "bob"));
    let replay = fill_history(&server, &mut alice, "lobby");
    for _ in 0..TIMES {
        bob.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        bob.send_line(&command("LEAVE", "<room>lobby</room>"));
    }
    bob.send_line(&command("PING", ""));
    alice.send_line(&command("PING", ""));
    alice.line_with(">PONG<");
    let before = server.clock.now().0;
    server.with_running_clock(|| {
        for _ in 0..TIMES {
            bob.line_with(">JOINED<");
            bob.line_with(">LEFT<");
        }
        bob.line_with(">PONG<");
    });
    let ticks = (server.clock.now().0 - before) as usize;
    // The last request may cost more than the remaining allowance.
    let waited_for = TIMES * replay - limits::REPLY_BURST - replay;
    assert!(
        ticks >= waited_for / limits::REPLIES_PER_TICK,
        "{ticks} ticks"
    );
}

#[test]
fn long_replies_wait_for_ticks() {
    let server = with_history();
    let mut alice = log_in(&server, "alice");
    alice.send_line(&command("JOIN", "<room>r</room><here/>"));
    let topic = "&apos;".repeat(limits::MAX_TOPIC_BYTES);
    let parts = format!("<room>r</room><topic>{topic}</topic>");
    alice.send_line(&command("TOPIC", &parts));
    let reply = alice.line_with(">TOPIC<").len() + 1;
    let request = command("TOPIC", "<room>r</room>");
    let charged = reply - limits::REPLY_FACTOR * (request.len() + 1);
    let times = 3 * limits::REPLY_BURST / charged;
    let before = server.clock.now().0;
    server.with_running_clock(|| {
        for _ in 0..times {
            alice.send_line(&request);
            alice.line_with(">TOPIC<");
        }
    });
    let ticks = (server.clock.now().0 - before) as usize;
    let waited_for = 2 * limits::REPLY_BURST - 2 * reply;
    assert!(
        ticks >= waited_for / limits::REPLIES_PER_TICK,
        "{ticks} ticks"
    );
}

/// A client that requests replays repeatedly and reads nothing is disconnected. The client receives
/// no more replays than fit into its fixed share of the server's memory and into the sockets'
/// buffers.
#[test]
fn unread_replays_are_bounded() {
    let server = with_history();
    let (mut alice, mut bob) = (log_in(&server, "alice"), log_in(&server, "bob"));
    fill_history(&server, &mut alice, "lobby");
    SockRef::from(&bob.stream)
        .set_recv_buffer_size(4096)
        .unwrap();
    server.pending_events();
    for _ in 0..200 {
        bob.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        bob.send_line(&command("LEAVE", "<room>lobby</room>"));
    }
    let mut replays = 0;
    server.with_running_clock(|| server.wait_for_close(CloseReason::TooSlow, None));
    alice.send_line(&command("PING", ""));
    while alice.line_with("<command>") != "<SERVER><command>PONG</command></SERVER>" {
        replays += 1;
    }
    // Alice has been notified of each join and each leave.
    let share = limits::MAX_OUTBOX_BYTES + limits::MAX_EXEMPT_BYTES;
    let sockets = 4 * limits::SEND_BUFFER + (4 << 20);
    assert!(
        replays / 2 <= (share + sockets) / limits::HISTORY + 2,
        "{replays}"
    );
}

#[test]
fn topic_length_is_limited() {
    let server = TestServer::with_workers(2);
    let (mut alice, mut bob) = (log_in(&server, "alice"), log_in(&server, "bob"));
    for client in [&mut alice, &mut bob] {
        client.send_line(&command("JOIN", "<room>r</room><here/>"));
        client.line_with(">JOINED<");
    }
    let topic = |length| format!("<room>r</room><topic>{}</topic>", "x".repeat(length));
    alice.send_line(&command("TOPIC", &topic(limits::MAX_TOPIC_BYTES + 1)));
    let refused = alice.line_with("<error");
    assert!(
        refused.contains("bad-topic") && refused.contains("500"),
        "{refused}"
    );
    alice.send_line(&command("TOPIC", &topic(limits::MAX_TOPIC_BYTES)));
    alice.line_with(">TOPIC<");
    let received = bob.line_with(">TOPIC<");
    assert!(
        received.len() > limits::MAX_TOPIC_BYTES,
        "only the short topic arrives: {received}"
    );
}

#[test]
fn history_does_not_disconnect_a_new_member() {
    let server = TestServer::start(&Settings {
        workers: 4,
        history: 1000,
        ..Settings::default()
    });
    let mut alice = log_in(&server, "alice");
    let mut bob = log_in(&server, "bob");
    // Escaped, an apostrophe takes six bytes.
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
    // Bob requests the history of all rooms before he reads any of it.
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
fn badly_encoded_passcode_gets_a_hint() {
    let server = TestServer::start(&Settings {
        workers: 2,
        trace: true,
        ..Settings::default()
    });
    let caller = || {
        let (port, passcode) = ticket(&server.request_port());
        (server.connect(port), handshake(&passcode))
    };
    let utf_16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let (mut lines, passcode) = caller();
    lines.send(passcode.replace('>', ">\n").as_bytes());
    assert!(lines.line().contains(sentences::A_DOCUMENT_IS_ONE_LINE));
    assert!(lines.line().contains("Wrong handshake passcode"));
    let (mut wide, passcode) = caller();
    wide.send(&utf_16(&format!("{passcode}\n")));
    assert!(wide.line().contains("UTF-16"));
    drop((lines, wide));
    server.assert_all_ports_freed();
    let (mut endless, passcode) = caller();
    endless.send(passcode.as_bytes());
    // Wait until the passcode has been read, so that the tick follows it.
    server.wait_for("the passcode read", |event| {
        let bytes = event.text("bytes").filter(|_| event.kind == "read");
        bytes.is_some_and(|bytes| bytes.contains(&passcode))
    });
    server.with_running_clock(|| {
        assert!(
            endless
                .line()
                .contains(sentences::NO_LINE_FEED_AFTER_YOUR_DOCUMENT)
        )
    });
    assert!(endless.line().contains("IDLE TIMEOUT"));
}
