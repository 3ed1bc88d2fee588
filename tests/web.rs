//! The browser's door, from outside: seats, words and ends as PROTOCOL section 11 has them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use portal_chat::limits;
use portal_chat::server::{Settings, WebEntrance};
use support::web::{Frame, TEXT, WebClient, masked};
use support::{Client, PATIENCE, TestServer, command, handshake, login, message};

const ANY: &str = "127.0.0.1:0";

fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        web: Some(WebEntrance::at(ANY.parse().unwrap())),
        ..Settings::default()
    }
}

fn door(server: &TestServer) -> SocketAddr {
    server.server.web().unwrap()
}

/// A browser in a seat.
fn browser(server: &TestServer) -> (WebClient, String) {
    let mut browser = WebClient::connect(door(server));
    let port = browser.take_seat();
    (browser, port)
}

#[test]
fn a_browser_takes_a_seat_has_a_partner_and_gives_it_back() {
    let server = TestServer::start(&settings(2));
    let (mut alice, _) = server.seat();
    alice.line_with("NO PARTNER");
    let (mut bob, port) = browser(&server);
    assert_eq!(port, server.worker(1).to_string());
    let partner = bob.text_with("PARTNER JOINED");
    assert!(partner.contains(&server.worker(0).to_string()), "{partner}");
    bob.say(&message("from the browser"));
    let heard = alice.line_with("from the browser");
    assert!(heard.contains(&format!("from='{port}'")), "{heard}");
    alice.send_line(&message("from the terminal \u{1F44B}"));
    let heard = bob.text_with("from the terminal");
    assert!(
        !heard.contains('\n'),
        "a document has no line feed behind it here"
    );
    bob.say(&command("TERMINATE", ""));
    assert_eq!(bob.close_code(), 1000);
    alice.line_with("PARTNER LEFT");
    drop(alice);
    server.assert_all_ports_freed();
}

#[test]
fn a_wrong_passcode_a_late_one_and_none_at_all() {
    let server = TestServer::start(&settings(2));
    let mut wrong = WebClient::connect(door(&server));
    wrong.text();
    wrong.say(&handshake("0123456789abcdef0123456789abcdef"));
    assert!(wrong.text().contains("Wrong handshake passcode"));
    assert_eq!(wrong.close_code(), 1008);
    // A browser is disconnected before its seat is free again.
    server.wait_for_event("seat-free", None);

    // Due within the time of a reservation, two ticks, and not in one as on a worker's port.
    let mut late = WebClient::connect(door(&server));
    late.text();
    server.tick(2);
    assert!(!late.has_received_data());
    server.tick(1);
    assert!(late.text().contains("IDLE TIMEOUT"));
    assert_eq!(late.close_code(), 1008);
    server.wait_for_event("seat-free", None);

    let mut gone = WebClient::connect(door(&server));
    gone.text();
    drop(gone);
    server.wait_for_event("no-show", None);
    server.assert_all_ports_freed();
}

#[test]
fn full_is_said_and_closed() {
    let server = TestServer::start(&settings(2));
    let (_one, _two) = (browser(&server), browser(&server));
    let mut third = WebClient::connect(door(&server));
    assert_eq!(third.text(), "<SERVER><command>FULL</command></SERVER>");
    assert_eq!(third.close_code(), 1013);
}

#[test]
fn while_a_browser_has_the_seat_its_worker_turns_everyone_away() {
    let server = TestServer::start(&settings(2));
    let mut waiting = WebClient::connect(door(&server));
    let ticket = waiting.text();
    let passcode = ticket.split("Passcode>").nth(1).unwrap();
    let passcode = passcode.split('<').next().unwrap();
    // With the right passcode, from the right address: it is for this connection alone.
    let mut stray = server.connect(server.worker(0));
    stray.try_send((handshake(passcode) + "\n").as_bytes());
    assert!(stray.rest().contains("Wrong handshake passcode"));
    waiting.say(&handshake(passcode));
    assert!(waiting.text().contains("Connection successful"));
    // Strays in the worker's backlog, at the moment in which the browser goes, are not the next
    // client's.
    for _ in 0..20 {
        let strays: Vec<Client> = (0..4).map(|_| server.connect(server.worker(0))).collect();
        drop(waiting);
        let freed = server.worker(0);
        server.wait_for_event("seat-free", Some(freed));
        let (client, port) = server.seat();
        assert_eq!(port, freed);
        drop((client, strays));
        server.wait_for_event("seat-free", Some(freed));
        waiting = WebClient::connect(door(&server));
        waiting.take_seat();
    }
    drop(waiting);
    server.assert_all_ports_freed();
}

#[test]
fn on_a_single_port_the_welcome_comes_at_once() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..settings(2)
    });
    let mut bob = WebClient::connect(door(&server));
    let welcome = bob.text();
    assert!(
        welcome.contains("type='single'") && welcome.contains("seat='1'"),
        "{welcome}"
    );
    bob.say(&command("TERMINATE", ""));
    assert_eq!(bob.close_code(), 1000);
    server.assert_all_ports_freed();
}

#[test]
fn browsers_and_terminals_hear_each_other_in_one_room_and_by_name() {
    let server = TestServer::start(&settings(4));
    let (mut alice, _) = server.seat();
    let (mut bob, _) = browser(&server);
    let (mut carol, _) = browser(&server);
    alice.send_line(&login("alice"));
    alice.line_with("WELCOME");
    for (browser, name) in [(&mut bob, "bob"), (&mut carol, "carol")] {
        browser.say(&login(name));
        browser.text_with("WELCOME");
        browser.say(&command("JOIN", "<room>lobby</room><here/>"));
        browser.text_with("JOINED");
    }
    alice.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    alice.line_with("JOINED");
    let say = |text: &str| {
        command(
            "SAY",
            &format!("<room>lobby</room><message>{text}</message>"),
        )
    };
    bob.say(&say("one from the browser"));
    for heard in [
        alice.line_with("one from the browser"),
        carol.text_with("one from the browser"),
    ] {
        assert!(
            heard.contains("from='bob' scope='room' room='lobby'"),
            "{heard}"
        );
    }
    alice.send_line(&say("two from the line"));
    bob.text_with("two from the line");
    carol.text_with("two from the line");
    carol.say(&command(
        "DM",
        "<to>alice</to><message>only for you</message>",
    ));
    carol.text_with("<count>1</count>");
    let heard = alice.line_with("only for you");
    assert!(heard.contains("scope='direct'"), "{heard}");
    alice.send_line(&command("PM", "<message>for all</message>"));
    bob.text_with("for all");
    carol.text_with("for all");
}

#[test]
fn each_end_has_its_code_and_its_words_come_first() {
    let server = TestServer::start(&settings(8));
    let ended = |send: &dyn Fn(&mut WebClient), words: &str, code: u16| {
        let (mut browser, _) = browser(&server);
        send(&mut browser);
        if !words.is_empty() {
            browser.text_with(words);
        }
        assert_eq!(browser.close_code(), code, "{words}");
    };
    ended(&|browser| browser.send(0x82, b"binary"), "binary", 1003);
    ended(&|browser| browser.send(TEXT, b"\xff\xfe"), "UTF-8", 1007);
    ended(&|browser| browser.send(TEXT, &[b'x'; 9000]), "8192", 1009);
    ended(
        &|browser| browser.send(0x88, &1000_u16.to_be_bytes()),
        "",
        1000,
    );
    ended(&|browser| browser.send(0x88, &[]), "", 1000);
    for (first, payload) in [
        (0x91, &b"a reserved bit"[..]),
        (0x83, b"an opcode that means nothing"),
        (0x80, b"goes on with nothing"),
        (0x09, b"a ping in pieces"),
        (0x89, &[b'x'; 126]),
        (0x88, b"\x03"),
        (0x88, &1005_u16.to_be_bytes()),
    ] {
        ended(&|browser| browser.send(first, payload), "RFC 6455", 1002);
    }
    // Not masked.
    ended(
        &|browser| browser.stream.write_all(b"\x81\x02hi").unwrap(),
        "not masked",
        1002,
    );
    // The announced length is enough: nothing is waited for and nothing is set aside.
    ended(
        &|browser| {
            let mut head = vec![TEXT, 0x80 | 127];
            head.extend((1_u64 << 40).to_be_bytes());
            browser.stream.write_all(&head).unwrap();
        },
        "8192",
        1009,
    );
    // Fragments without end, and without content.
    ended(
        &|browser| {
            browser.send(0x01, b"");
            for _ in 0..8192 {
                let _ = browser.try_send(0x00, b"");
            }
        },
        "8192",
        1009,
    );
    // Also before the passcode.
    let mut early = WebClient::connect(door(&server));
    early.text();
    early.send(0x82, b"x");
    assert_eq!(early.close_code(), 1003);
    // The server's end.
    let (mut last, _) = browser(&server);
    server.server.stop();
    last.text_with("SHUTDOWN");
    assert_eq!(last.close_code(), 1001);
}

#[test]
fn messages_come_in_pieces_with_pings_between() {
    let server = TestServer::start(&settings(2));
    let (mut alice, _) = server.seat();
    let (mut bob, _) = browser(&server);
    let whole = message("gr\u{fc}\u{df}e \u{1F44B}");
    let mut bytes = Vec::new();
    let pieces: Vec<&[u8]> = whole.as_bytes().chunks(3).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let first = match index {
            0 => 0x01,
            _ if index + 1 == pieces.len() => 0x80,
            _ => 0x00,
        };
        bytes.extend(masked(first, piece));
        bytes.extend(masked(0x89, format!("ping {index}").as_bytes()));
    }
    // One byte at a time.
    for byte in bytes {
        bob.stream.write_all(&[byte]).unwrap();
    }
    let heard = alice.line_with("gr\u{fc}");
    assert!(heard.contains("gr\u{fc}\u{df}e \u{1F44B}"), "{heard}");
    // The last ping is answered; of those that come together, that is enough.
    let last = format!("ping {}", pieces.len() - 1).into_bytes();
    loop {
        if let Frame::Pong(payload) = bob.frame()
            && payload == last
        {
            break;
        }
    }
}

#[test]
fn a_browser_that_sleeps_is_asked_and_then_its_seat_is_free() {
    let server = TestServer::start(&Settings {
        idle_timeout: None,
        ..settings(2)
    });
    let (mut asleep, port) = browser(&server);
    let (mut awake, _) = browser(&server);
    // Thirty ticks of silence, and one that is one too many.
    for _ in 0..31 {
        server.tick(1);
    }
    for browser in [&mut asleep, &mut awake] {
        while browser.frame() != Frame::Ping {}
    }
    awake.send(0x8a, b"");
    awake.say(&command("PING", ""));
    awake.text_with("PONG");
    for _ in 0..31 {
        server.tick(1);
    }
    assert_eq!(asleep.close_code(), 1000);
    let left = server.wait_for("the sleeping browser has left", |event| {
        event.kind == "closed" && event.text("end") == Some("asleep")
    });
    assert!(left.line().contains(&port), "{}", left.line());
    awake.say(&command("PING", ""));
    awake.text_with("PONG");
}

#[test]
fn pages_of_other_sites_and_names_of_others_are_refused() {
    let server = TestServer::start(&Settings {
        web: Some(WebEntrance {
            names: vec!["chat.example".to_owned()],
            ..WebEntrance::at(ANY.parse().unwrap())
        }),
        ..settings(2)
    });
    let address = door(&server);
    let port = address.port();
    let answered = |fields: &str| WebClient::request(address, fields).1;
    let refused = |status: &str, part: &str| {
        let refused = server.wait_for(status, |event| {
            event.kind == "http-refused" && event.text("status") == Some(status)
        });
        assert!(refused.line().contains(part), "{}", refused.line());
    };
    let own = format!("Host: {address}\r\n");
    for origin in [
        "http://evil.example",
        "null",
        &format!("http://localhost:{port}"),
        "http://127.0.0.1",
        "https://chat.example:8443",
    ] {
        let answer = answered(&format!("{own}Origin: {origin}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403"), "{origin}: {answer}");
        refused("403 Forbidden", "may not connect");
    }
    for fields in [
        &format!("{own}Origin: http://{address}\r\n"),
        // A proxy that terminates TLS, with and without forwarding the Host.
        &format!("{own}Origin: https://{address}\r\n"),
        &format!("{own}Origin: https://chat.example\r\n"),
        "Host: chat.example\r\nOrigin: https://chat.example\r\n",
        &format!("Host: chat.example:{port}\r\n"),
    ] {
        let answer = answered(fields);
        assert!(answer.starts_with("HTTP/1.1 101"), "{fields}: {answer}");
    }
    let answer = answered(&format!("Host: evil.example:{port}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    let fix = format!("--web-name evil.example:{port}");
    refused("421 Misdirected Request", &fix);
    let (mut refused, _) = WebClient::request(address, "Host: evil.example\r\n");
    let mut sentence = String::new();
    refused.stream.read_to_string(&mut sentence).unwrap();
    assert!(sentence.contains("--web-name evil.example,"), "{sentence}");
}

/// An entrance that trusts a proxy on this machine, with one seat for each address.
fn behind_a_proxy(trusted_proxies: &[&str]) -> TestServer {
    let trusted_proxies = trusted_proxies.iter().map(|text| text.parse().unwrap());
    TestServer::start(&Settings {
        max_per_address: Some(1),
        web: Some(WebEntrance {
            trusted_proxies: trusted_proxies.collect(),
            ..WebEntrance::at(ANY.parse().unwrap())
        }),
        ..settings(4)
    })
}

#[test]
fn limits_and_events_are_about_the_client_behind_a_trusted_proxy() {
    let server = behind_a_proxy(&["127.0.0.1", "10.0.0.0/8"]);
    let by =
        |fields: &str| WebClient::request(door(&server), &format!("Host: localhost\r\n{fields}")).0;
    let mut alice = by("X-Forwarded-For: 198.51.100.66, 203.0.113.1, 10.1.2.3\r\n");
    alice.take_seat();
    let seated = server.wait_for_event("seated", None);
    assert!(
        seated.line().contains("peer 203.0.113.1:"),
        "{}",
        seated.line()
    );
    let mut second = by("X-Forwarded-For: 203.0.113.1\r\n");
    assert!(second.text().contains("FULL"));
    let full = server.wait_for_event("full", None);
    assert!(
        full.line().contains("asker 203.0.113.1:"),
        "{}",
        full.line()
    );
    let mut bob = by("Forwarded: for=\"[2001:db8::1]:4711\";proto=https\r\n");
    bob.take_seat();
    let seated = server.wait_for_event("seated", None);
    assert!(
        seated.line().contains("peer [2001:db8::1]:4711"),
        "{}",
        seated.line()
    );
    bob.say(&message("through a proxy"));
    alice.text_with("through a proxy");
    by("X-Forwarded-For: 203.0.113.9\r\nOrigin: http://evil.example\r\n");
    let refused = server.wait_for_event("http-refused", None);
    assert!(
        refused.line().contains("peer 203.0.113.9:"),
        "{}",
        refused.line()
    );
}

#[test]
fn nobody_else_can_claim_an_address() {
    for trusted in [&[][..], &["127.0.0.2", "203.0.113.0/24"]] {
        let server = behind_a_proxy(trusted);
        let by = |fields: &str| {
            WebClient::request(door(&server), &format!("Host: localhost\r\n{fields}")).0
        };
        let mut alice = by("X-Forwarded-For: 203.0.113.1\r\n");
        alice.take_seat();
        let mut second = by("Forwarded: for=203.0.113.2\r\n");
        assert!(second.text().contains("FULL"));
        let full = server.wait_for_event("full", None);
        assert!(full.line().contains("asker 127.0.0.1:"), "{}", full.line());
    }
}

/// Returns the entrance's response to these bytes.
fn answered(door: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_are_read_as_rfc_9112_has_it() {
    let server = TestServer::start(&settings(2));
    let address = door(&server);
    let get = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let page = answered(address, get.as_bytes());
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let length = format!("\r\nContent-Length: {}", body.len());
    assert!(head.contains(&length), "{head}");
    // The scheme is not known, so the page may use both.
    assert!(
        head.contains(&format!("ws://{address} wss://{address}")),
        "{head}"
    );
    // All of its URLs are relative, so that a proxy can serve it below a path.
    assert!(!body.contains("'/chat'") && !body.contains("=\"/"));
    let answer = answered(address, get.replace("GET", "HEAD").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&length) && body.is_empty(), "{answer}");
    for (request, status) in [
        (format!("\r\n\r\n{get}"), "200"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "200"),
        (
            format!("GET http://{address} HTTP/1.1\r\nHost: other\r\n\r\n"),
            "200",
        ),
        (
            get.replace(
                "\r\n\r\n",
                &format!("\r\nA: {}\r\n\r\n", "a".repeat(16 * 1024)),
            ),
            "200",
        ),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "a".repeat(8000 - 15)
            ),
            "404",
        ),
        (
            get.replace(
                "\r\n\r\n",
                &format!("\r\nA: {}\r\n\r\n", "a".repeat(300_000)),
            ),
            "431",
        ),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "a".repeat(300_000)
            ),
            "414",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "505"),
    ] {
        let answer = answered(address, request.as_bytes());
        let begin: String = request.chars().take(40).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{begin:?}: {answer}"
        );
    }
}

#[test]
fn other_protocols_at_the_door_are_named_in_an_event() {
    let server = TestServer::start(&settings(2));
    let address = door(&server);
    // The beginning of a TLS hello: the server closes at once, without a response.
    assert_eq!(
        answered(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ""
    );
    let told = server.wait_for_event("tls-failed", None);
    assert!(told.line().contains("without --tls"), "{}", told.line());
    for (header, version) in [
        (
            &b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n"[..],
            "version 1",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c",
            "version 2",
        ),
    ] {
        let answer = answered(address, header);
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("turn it off at the proxy"),
            "{answer}"
        );
        let told = server.wait_for_event("http-refused", None);
        assert!(told.line().contains(version), "{}", told.line());
    }
}

#[test]
fn the_page_is_one_document_and_may_load_nothing() {
    let server = TestServer::start(&settings(2));
    let address = door(&server);
    let get = |request: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let page = get(&format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let nonce = head
        .split("'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    assert!(
        head.contains("default-src 'none'") && !head.contains("unsafe"),
        "{head}"
    );
    assert_eq!(body.matches("<script").count(), 1);
    assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(!body.contains("{{"), "a place that was not filled in");
    let again = get(&format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(!again.contains(nonce), "the same nonce twice");
    for (request, status) in [
        ("GET /nothing HTTP/1.1", "404"),
        ("POST / HTTP/1.1", "405"),
        ("GET /chat HTTP/1.1", "426"),
        ("nonsense", "400"),
    ] {
        let answer = get(&format!("{request}\r\nHost: {address}\r\n\r\n"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
    let long = get(&format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nA: {}\r\n\r\n",
        "x".repeat(40_000)
    ));
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
}

#[test]
fn silent_connections_keep_no_browser_out() {
    let server = TestServer::start(&settings(4));
    // More callers than threads and parking places together.
    let silent: Vec<TcpStream> = (0..limits::HANDSHAKES + limits::PARKED)
        .map(|_| TcpStream::connect(door(&server)).unwrap())
        .collect();
    // Those who are seated do not count.
    let seated: Vec<_> = (0..4).map(|_| browser(&server)).collect();
    let mut full = WebClient::connect(door(&server));
    assert!(full.text().contains("FULL"));
    drop((silent, seated));
    server.assert_all_ports_freed();
}

#[test]
fn a_browser_is_told_apart_in_the_events() {
    let server = TestServer::start(&settings(2));
    let (_bob, port) = browser(&server);
    let seated = server.wait_for_event("seated", None);
    assert!(
        seated.line().contains("via web") && seated.line().contains(&port),
        "{}",
        seated.line()
    );
    assert!(seated.thread.starts_with("browser-"), "{}", seated.thread);
}

#[test]
fn a_thousand_browsers_that_come_to_nothing_leave_every_seat_as_it_was() {
    let server = TestServer::start(&Settings {
        // The ticks end callers that are never served. A served caller has enough time on a slow
        // machine.
        idle_timeout: None,
        ..settings(64)
    });
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    let address = door(&server);
    server.with_running_clock(|| {
        std::thread::scope(|threads| {
            for number in 0..10 {
                threads.spawn(move || {
                    for visit in 0..100 {
                        // Some find the server full, or the door; that is an answer, too.
                        let Ok((mut browser, _)) =
                            WebClient::try_request(address, "Host: localhost\r\n")
                        else {
                            continue;
                        };
                        match (number + visit) % 4 {
                            // Says nothing, until it is sent away.
                            0 if visit % 10 == 0 => while browser.try_frame().is_ok() {},
                            0 | 1 => drop(browser),
                            2 => {
                                let _ = browser.stream.write_all(&[0xff; 100]);
                                while browser.try_frame().is_ok() {}
                            }
                            _ => {
                                let _ = browser.try_frame();
                                let _ = browser.stream.write_all(&masked(TEXT, b"<CLIENT>")[..7]);
                            }
                        }
                    }
                });
            }
            // Meanwhile others are served as ever.
            for number in 0..200 {
                alice.send_line(&message(&format!("number {number}")));
                bob.line_with(&format!("number {number}<"));
            }
        });
        server.assert_all_ports_freed_except(2);
    });
    drop((alice, bob));
    server.assert_all_ports_freed();
}

#[test]
fn a_server_can_be_stopped_while_browsers_come_and_go() {
    for round in 0..10 {
        let server = TestServer::start(&settings(8));
        let address = door(&server);
        let mut staying: Vec<_> = (0..3).map(|_| browser(&server)).collect();
        let silent = WebClient::connect(address);
        let asking = TcpStream::connect(address).unwrap();
        let coming: Vec<_> = (0..4)
            .map(|number| {
                std::thread::spawn(move || {
                    while let Ok((mut browser, head)) =
                        WebClient::try_request(address, "Host: localhost\r\n")
                    {
                        if !head.starts_with("HTTP/1.1 101") {
                            break;
                        }
                        let _ = browser.try_frame();
                        if (number + round) % 2 == 0 {
                            let _ = browser.try_send(0x88, &1000_u16.to_be_bytes());
                        }
                    }
                })
            })
            .collect();
        // Wherever each of them is by then.
        for _ in 0..20 * round {
            std::thread::yield_now();
        }
        let begun = std::time::Instant::now();
        server.server.stop();
        for (browser, _) in &mut staying {
            browser.text_with("SHUTDOWN");
            assert_eq!(browser.close_code(), 1001);
        }
        for coming in coming {
            coming.join().unwrap();
        }
        assert!(begun.elapsed() < PATIENCE);
        drop((silent, asking));
    }
}
