//! The browsers' entrance, from outside: seats, replies and close codes as in PROTOCOL section 11.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use portal_chat::limits;
use portal_chat::server::{Settings, WebEntrance};
use support::sentences;
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

fn entrance(server: &TestServer) -> SocketAddr {
    server.server.web().unwrap()
}

/// Connects a browser and takes a seat.
fn browser(server: &TestServer) -> (WebClient, String) {
    let mut browser = WebClient::connect(entrance(server));
    let port = browser.take_seat();
    (browser, port)
}

#[test]
fn browser_takes_and_releases_a_seat() {
    let server = TestServer::start(&settings(2));
    let (mut alice, _) = server.seat();
    alice.line_with("NO PARTNER");
    let (mut bob, port) = browser(&server);
    assert_eq!(port, server.worker(1).to_string());
    let partner = bob.text_with("PARTNER JOINED");
    assert!(partner.contains(&server.worker(0).to_string()), "{partner}");
    bob.send_text(&message("from the browser"));
    let received = alice.line_with("from the browser");
    assert!(received.contains(&format!("from='{port}'")), "{received}");
    alice.send_line(&message("from the terminal \u{1F44B}"));
    let received = bob.text_with("from the terminal");
    assert!(!received.contains('\n'), "a document has no line feed here");
    bob.send_text(&command("TERMINATE", ""));
    assert_eq!(bob.close_code(), 1000);
    alice.line_with("PARTNER LEFT");
    drop(alice);
    server.assert_all_ports_freed();
}

#[test]
fn wrong_late_and_missing_passcodes_close() {
    let server = TestServer::start(&settings(2));
    let mut wrong = WebClient::connect(entrance(&server));
    wrong.text();
    wrong.send_text(&handshake("0123456789abcdef0123456789abcdef"));
    assert!(wrong.text().contains("Wrong handshake passcode"));
    assert_eq!(wrong.close_code(), 1008);
    // The browser is disconnected before its seat is free again.
    server.wait_for_event("seat-free", None);

    // The passcode is due within the reservation timeout of two ticks, instead of one tick as on a
    // worker's port.
    let mut late = WebClient::connect(entrance(&server));
    late.text();
    server.tick(2);
    assert!(!late.has_received_data());
    server.tick(1);
    assert!(late.text().contains("IDLE TIMEOUT"));
    assert_eq!(late.close_code(), 1008);
    server.wait_for_event("seat-free", None);

    let mut gone = WebClient::connect(entrance(&server));
    gone.text();
    drop(gone);
    server.wait_for_event("no-show", None);
    server.assert_all_ports_freed();
}

#[test]
fn full_server_sends_full_and_closes() {
    let server = TestServer::start(&settings(2));
    let (_one, _two) = (browser(&server), browser(&server));
    let mut third = WebClient::connect(entrance(&server));
    assert_eq!(third.text(), "<SERVER><command>FULL</command></SERVER>");
    assert_eq!(third.close_code(), 1013);
}

#[test]
fn worker_rejects_callers_during_a_browsers_visit() {
    let server = TestServer::start(&settings(2));
    let mut waiting = WebClient::connect(entrance(&server));
    let ticket = waiting.text();
    let passcode = ticket.split("Passcode>").nth(1).unwrap();
    let passcode = passcode.split('<').next().unwrap();
    // The correct passcode from the correct address is still valid only on the browser's
    // connection.
    let mut stray = server.connect(server.worker(0));
    stray.try_send((handshake(passcode) + "\n").as_bytes());
    assert!(stray.rest().contains("Wrong handshake passcode"));
    waiting.send_text(&handshake(passcode));
    assert!(waiting.text().contains("Connection successful"));
    // Strays in the worker's backlog when the browser leaves do not become the next client.
    for _ in 0..20 {
        let strays: Vec<Client> = (0..4).map(|_| server.connect(server.worker(0))).collect();
        drop(waiting);
        let freed = server.worker(0);
        server.wait_for_event("seat-free", Some(freed));
        let (client, port) = server.seat();
        assert_eq!(port, freed);
        drop((client, strays));
        server.wait_for_event("seat-free", Some(freed));
        waiting = WebClient::connect(entrance(&server));
        waiting.take_seat();
    }
    drop(waiting);
    server.assert_all_ports_freed();
}

#[test]
fn single_port_welcomes_at_once() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..settings(2)
    });
    let mut bob = WebClient::connect(entrance(&server));
    let welcome = bob.text();
    assert!(
        welcome.contains("type='single'") && welcome.contains("seat='1'"),
        "{welcome}"
    );
    bob.send_text(&command("TERMINATE", ""));
    assert_eq!(bob.close_code(), 1000);
    server.assert_all_ports_freed();
}

#[test]
fn browsers_and_terminals_share_rooms_and_names() {
    let server = TestServer::start(&settings(4));
    let (mut alice, _) = server.seat();
    let (mut bob, _) = browser(&server);
    let (mut carol, _) = browser(&server);
    alice.send_line(&login("alice"));
    alice.line_with("WELCOME");
    for (browser, name) in [(&mut bob, "bob"), (&mut carol, "carol")] {
        browser.send_text(&login(name));
        browser.text_with("WELCOME");
        browser.send_text(&command("JOIN", "<room>lobby</room><here/>"));
        browser.text_with("JOINED");
    }
    alice.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    alice.line_with("JOINED");
    let say_in_lobby = |text: &str| {
        command(
            "SAY",
            &format!("<room>lobby</room><message>{text}</message>"),
        )
    };
    bob.send_text(&say_in_lobby("one from the browser"));
    for received in [
        alice.line_with("one from the browser"),
        carol.text_with("one from the browser"),
    ] {
        assert!(
            received.contains("from='bob' scope='room' room='lobby'"),
            "{received}"
        );
    }
    alice.send_line(&say_in_lobby("two from the line"));
    bob.text_with("two from the line");
    carol.text_with("two from the line");
    carol.send_text(&command(
        "DM",
        "<to>alice</to><message>only for you</message>",
    ));
    carol.text_with("<count>1</count>");
    let received = alice.line_with("only for you");
    assert!(received.contains("scope='direct'"), "{received}");
    alice.send_line(&command("PM", "<message>for all</message>"));
    bob.text_with("for all");
    carol.text_with("for all");
}

#[test]
fn each_close_code_follows_its_document() {
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
    // An unmasked frame.
    ended(
        &|browser| browser.stream.write_all(b"\x81\x02hi").unwrap(),
        "not masked",
        1002,
    );
    // The announced length is enough to reject the frame: the server does not wait for the data or
    // allocate memory for it.
    ended(
        &|browser| {
            let mut head = vec![TEXT, 0x80 | 127];
            head.extend((1_u64 << 40).to_be_bytes());
            browser.stream.write_all(&head).unwrap();
        },
        "8192",
        1009,
    );
    // Endless empty fragments.
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
    // The same happens before the passcode.
    let mut early = WebClient::connect(entrance(&server));
    early.text();
    early.send(0x82, b"x");
    assert_eq!(early.close_code(), 1003);
    // The server's shutdown.
    let (mut last, _) = browser(&server);
    server.server.stop();
    last.text_with("SHUTDOWN");
    assert_eq!(last.close_code(), 1001);
}

#[test]
fn messages_arrive_in_fragments_between_pings() {
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
    let received = alice.line_with("gr\u{fc}");
    assert!(received.contains("gr\u{fc}\u{df}e \u{1F44B}"), "{received}");
    // Only the last of several pings that arrive together needs a pong.
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
fn suspended_browser_is_pinged_and_loses_its_seat() {
    let server = TestServer::start(&Settings {
        idle_timeout: None,
        ..settings(2)
    });
    let (mut asleep, port) = browser(&server);
    let (mut awake, _) = browser(&server);
    // Thirty ticks of silence, and one too many.
    for _ in 0..31 {
        server.tick(1);
    }
    for browser in [&mut asleep, &mut awake] {
        while browser.frame() != Frame::Ping {}
    }
    awake.send(0x8a, b"");
    awake.send_text(&command("PING", ""));
    awake.text_with("PONG");
    for _ in 0..31 {
        server.tick(1);
    }
    assert_eq!(asleep.close_code(), 1000);
    let left = server.wait_for("the suspended browser has left", |event| {
        event.kind == "closed" && event.text("end") == Some("asleep")
    });
    assert!(left.line().contains(&port), "{}", left.line());
    awake.send_text(&command("PING", ""));
    awake.text_with("PONG");
}

#[test]
fn foreign_origins_and_hosts_are_refused() {
    let server = TestServer::start(&Settings {
        web: Some(WebEntrance {
            names: vec!["chat.example".to_owned()],
            ..WebEntrance::at(ANY.parse().unwrap())
        }),
        ..settings(2)
    });
    let address = entrance(&server);
    let port = address.port();
    let response_to = |fields: &str| WebClient::request(address, fields).1;
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
        let response = response_to(&format!("{own}Origin: {origin}\r\n"));
        assert!(response.starts_with("HTTP/1.1 403"), "{origin}: {response}");
        refused("403 Forbidden", "is not allowed to connect");
    }
    for fields in [
        &format!("{own}Origin: http://{address}\r\n"),
        // A proxy that terminates TLS, with and without forwarding the Host.
        &format!("{own}Origin: https://{address}\r\n"),
        &format!("{own}Origin: https://chat.example\r\n"),
        "Host: chat.example\r\nOrigin: https://chat.example\r\n",
        &format!("Host: chat.example:{port}\r\n"),
    ] {
        let response = response_to(fields);
        assert!(response.starts_with("HTTP/1.1 101"), "{fields}: {response}");
    }
    let response = response_to(&format!("Host: evil.example:{port}\r\n"));
    assert!(response.starts_with("HTTP/1.1 421"), "{response}");
    let fix = format!("--web-name evil.example:{port}");
    refused("421 Misdirected Request", &fix);
    let (mut refused, _) = WebClient::request(address, "Host: evil.example\r\n");
    let mut sentence = String::new();
    refused.stream.read_to_string(&mut sentence).unwrap();
    assert!(sentence.contains("--web-name evil.example,"), "{sentence}");
}

/// Starts an entrance that trusts proxies, with one seat for each address.
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
fn trusted_proxy_names_the_client() {
    let server = behind_a_proxy(&["127.0.0.1", "10.0.0.0/8"]);
    let request_with = |fields: &str| {
        WebClient::request(entrance(&server), &format!("Host: localhost\r\n{fields}")).0
    };
    let mut alice = request_with("X-Forwarded-For: 198.51.100.66, 203.0.113.1, 10.1.2.3\r\n");
    alice.take_seat();
    let seated = server.wait_for_event("seated", None);
    assert!(
        seated.line().contains("peer 203.0.113.1:"),
        "{}",
        seated.line()
    );
    let mut second = request_with("X-Forwarded-For: 203.0.113.1\r\n");
    assert!(second.text().contains("FULL"));
    let full = server.wait_for_event("full", None);
    assert!(
        full.line().contains("asker 203.0.113.1:"),
        "{}",
        full.line()
    );
    let mut bob = request_with("Forwarded: for=\"[2001:db8::1]:4711\";proto=https\r\n");
    bob.take_seat();
    let seated = server.wait_for_event("seated", None);
    assert!(
        seated.line().contains("peer [2001:db8::1]:4711"),
        "{}",
        seated.line()
    );
    bob.send_text(&message("through a proxy"));
    alice.text_with("through a proxy");
    request_with("X-Forwarded-For: 203.0.113.9\r\nOrigin: http://evil.example\r\n");
    let refused = server.wait_for_event("http-refused", None);
    assert!(
        refused.line().contains("peer 203.0.113.9:"),
        "{}",
        refused.line()
    );
}

#[test]
fn untrusted_proxy_can_not_name_a_client() {
    for trusted in [&[][..], &["127.0.0.2", "203.0.113.0/24"]] {
        let server = behind_a_proxy(trusted);
        let request_with = |fields: &str| {
            WebClient::request(entrance(&server), &format!("Host: localhost\r\n{fields}")).0
        };
        let mut alice = request_with("X-Forwarded-For: 203.0.113.1\r\n");
        alice.take_seat();
        let mut second = request_with("Forwarded: for=203.0.113.2\r\n");
        assert!(second.text().contains("FULL"));
        let full = server.wait_for_event("full", None);
        assert!(full.line().contains("asker 127.0.0.1:"), "{}", full.line());
    }
}

/// Sends these bytes to the entrance, and returns the response.
fn response_to(entrance: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(entrance).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn requests_are_read_as_in_rfc_9112() {
    let server = TestServer::start(&settings(2));
    let address = entrance(&server);
    let get = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let page = response_to(address, get.as_bytes());
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let length = format!("\r\nContent-Length: {}", body.len());
    assert!(head.contains(&length), "{head}");
    // The scheme is unknown, so the page may use both.
    assert!(
        head.contains(&format!("ws://{address} wss://{address}")),
        "{head}"
    );
    // All of its URLs are relative, so that a proxy can serve it below a path.
    assert!(!body.contains("'/chat'") && !body.contains("=\"/"));
    let response = response_to(address, get.replace("GET", "HEAD").as_bytes());
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&length) && body.is_empty(), "{response}");
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
        let response = response_to(address, request.as_bytes());
        let begin: String = request.chars().take(40).collect();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{begin:?}: {response}"
        );
    }
}

#[test]
fn other_protocols_are_named_in_an_event() {
    let server = TestServer::start(&settings(2));
    let address = entrance(&server);
    // The beginning of a TLS ClientHello: the server closes the connection immediately, without a
    // response.
    assert_eq!(
        response_to(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ""
    );
    let event = server.wait_for_event("tls-failed", None);
    assert!(event.line().contains("without --tls"), "{}", event.line());
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
        let response = response_to(address, header);
        assert!(
            response.starts_with("HTTP/1.1 400")
                && response.contains(sentences::TURN_IT_OFF_AT_THE_PROXY),
            "{response}"
        );
        let event = server.wait_for_event("http-refused", None);
        assert!(event.line().contains(version), "{}", event.line());
    }
}

#[test]
fn page_is_one_constant_document_and_loads_only_its_icons() {
    let server = TestServer::start(&settings(2));
    let address = entrance(&server);
    let get = |request: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        let _ = stream.read_to_string(&mut response);
        response
    };
    let page = get(&format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("default-src 'none'") && !head.contains("unsafe"),
        "{head}"
    );
    // The policy allows the two scripts and the style by their hashes, and nothing else.
    assert_eq!(body.matches("<script>").count(), 2);
    assert_eq!(head.matches("'sha256-").count(), 3, "{head}");
    for source in ["img-src 'self'", "manifest-src 'self'", "worker-src 'self'"] {
        assert!(head.contains(source), "{head}");
    }
    assert!(!body.contains("{{"), "an unfilled placeholder");
    // The page is the same for every request, so a browser that has it gets no copy.
    let again = get(&format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert_eq!(again, page);
    let etag = head.split("ETag: ").nth(1).unwrap().lines().next().unwrap();
    for (known, status) in [
        (etag.to_owned(), "304"),
        (format!("\"other\", W/{etag}"), "304"),
        ("*".to_owned(), "304"),
        ("\"other\"".to_owned(), "200"),
    ] {
        let field = format!("If-None-Match: {known}");
        let response = get(&format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\n{field}\r\n\r\n"
        ));
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")),
            "{known}: {response}"
        );
        assert_eq!(response.contains("<html"), status == "200");
    }
    for (codings, is_compressed) in [
        ("gzip, deflate, br", true),
        ("GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("identity", false),
    ] {
        let head = get(&format!(
            "HEAD / HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: {codings}\r\n\r\n"
        ));
        assert_eq!(
            head.contains("Content-Encoding: gzip"),
            is_compressed,
            "{codings}: {head}"
        );
        assert!(head.contains("Vary: Accept-Encoding") && head.ends_with("\r\n\r\n"));
    }
    for (file, kind) in [
        ("/service-worker.js", "text/javascript"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/icon.svg", "image/svg+xml"),
        ("/icon-192.png", "image/png"),
    ] {
        let head = get(&format!("HEAD {file} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains(&format!("Content-Type: {kind}")),
            "{file}: {head}"
        );
        assert!(head.contains("default-src 'none'"), "{file}: {head}");
    }
    for (request, status) in [
        ("GET /nothing HTTP/1.1", "404"),
        ("POST / HTTP/1.1", "405"),
        ("GET /chat HTTP/1.1", "426"),
        ("nonsense", "400"),
    ] {
        let response = get(&format!("{request}\r\nHost: {address}\r\n\r\n"));
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {response}"
        );
    }
    let long = get(&format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nA: {}\r\n\r\n",
        "x".repeat(40_000)
    ));
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
}

#[test]
fn silent_connections_block_no_browser() {
    let server = TestServer::start(&settings(4));
    // More callers than handshake threads and parked connections together.
    let silent: Vec<TcpStream> = (0..limits::HANDSHAKES + limits::PARKED)
        .map(|_| TcpStream::connect(entrance(&server)).unwrap())
        .collect();
    // Seated clients do not count.
    let seated: Vec<_> = (0..4).map(|_| browser(&server)).collect();
    let mut full = WebClient::connect(entrance(&server));
    assert!(full.text().contains("FULL"));
    drop((silent, seated));
    server.assert_all_ports_freed();
}

#[test]
fn browser_is_marked_in_events() {
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
fn thousand_failed_browsers_free_every_seat() {
    let server = TestServer::start(&Settings {
        // The ticks time out callers that are never served. A served caller has enough time even on
        // a slow machine.
        idle_timeout: None,
        ..settings(64)
    });
    let (mut alice, hers) = server.seat();
    let (mut bob, his) = server.seat();
    let address = entrance(&server);
    server.with_running_clock(|| {
        std::thread::scope(|threads| {
            for number in 0..10 {
                threads.spawn(move || {
                    for visit in 0..100 {
                        // Some find the server or the entrance full; that is a valid response.
                        let Ok((mut browser, _)) =
                            WebClient::try_request(address, "Host: localhost\r\n")
                        else {
                            continue;
                        };
                        match (number + visit) % 4 {
                            // Sends nothing, until the server closes the connection.
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
            // Meanwhile, other clients are served as usual.
            for number in 0..200 {
                alice.send_line(&message(&format!("number {number}")));
                bob.line_with(&format!("number {number}<"));
            }
        });
        server.assert_all_ports_freed_except(&[hers, his]);
    });
    drop((alice, bob));
    server.assert_all_ports_freed();
}

#[test]
fn server_stops_while_browsers_connect() {
    for round in 0..10 {
        let server = TestServer::start(&settings(8));
        let address = entrance(&server);
        let mut seated: Vec<_> = (0..3).map(|_| browser(&server)).collect();
        let silent = WebClient::connect(address);
        let undecided = TcpStream::connect(address).unwrap();
        let visitors: Vec<_> = (0..4)
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
        // Each connection may be in any state by then.
        for _ in 0..20 * round {
            std::thread::yield_now();
        }
        let begun = std::time::Instant::now();
        server.server.stop();
        for (browser, _) in &mut seated {
            browser.text_with("SHUTDOWN");
            assert_eq!(browser.close_code(), 1001);
        }
        for visitor in visitors {
            visitor.join().unwrap();
        }
        assert!(begun.elapsed() < PATIENCE);
        drop((silent, undecided));
    }
}
