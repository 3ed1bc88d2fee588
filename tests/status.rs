//! The state of the server for programs: /healthz, /readyz and /metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use portal_chat::clock::Clock;
use portal_chat::event::Events;
use portal_chat::metrics::{ServerStatus, Status as _};
use portal_chat::server::{Server, Settings};
use support::running::{Running, program};
use support::{Client, PATIENCE, handshake, sentences, ticket};

const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");

/// The response to a request, until the connection is closed.
fn answer(to: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(to: SocketAddr, path: &str) -> (String, String) {
    let answer = answer(to, "GET", path);
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let status = head.lines().next().unwrap().to_owned();
    (status, body.to_owned())
}

fn value(page: &str, sample: &str) -> f64 {
    let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
    let mut values = lines.filter(|(there, _)| *there == sample);
    let value = values.next().unwrap_or_else(|| panic!("{sample}: {page}"));
    value.1.parse().unwrap()
}

/// A server with its state, and no listener for it.
fn observed(workers: usize) -> (Server, Arc<ServerStatus>, Clock) {
    let mut settings = Settings {
        port: 0,
        workers,
        ..Settings::default()
    };
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    let (status, counters) = ServerStatus::new(&settings, &mut events);
    settings.counters = Some(counters);
    let ready = status.readiness();
    assert_eq!(ready, Err("starting".to_owned()));
    let server = Server::start(&settings, clock.clone(), events).unwrap();
    status.has_started(&server);
    (server, status, clock)
}

/// Takes a seat.
fn seat(server: &Server) -> Client {
    let (port, passcode) = ticket(&Client::connect(server.portal()).rest());
    let at = SocketAddr::new(server.portal().ip(), port.get());
    let mut client = Client::connect(at);
    client.send_line(&handshake(&passcode));
    client.line_with("Connection successful");
    client
}

#[test]
fn a_server_is_ready_while_it_has_a_free_seat() {
    let (server, status, _clock) = observed(2);
    assert_eq!(status.readiness(), Ok(()));
    let _alice = seat(&server);
    assert_eq!(status.readiness(), Ok(()));
    let _bob = seat(&server);
    let full = "full: all 2 seats are taken".to_owned();
    assert_eq!(status.readiness(), Err(full));
    assert_eq!(status.health(), Ok(()), "it works all the same");
    status.will_stop();
    assert_eq!(status.readiness(), Err("shutting down".to_owned()));
    server.stop();
    assert_eq!(status.readiness(), Err("shutting down".to_owned()));
    assert!(!status.metrics().contains("portal_chat_seats{"));
}

#[test]
fn the_numbers_are_those_of_the_conversation() {
    let (server, status, _clock) = observed(4);
    let mut alice = seat(&server);
    let mut bob = seat(&server);
    alice.send_line("<CLIENT><message>hello</message></CLIENT>");
    bob.line_with("hello");
    // A message is counted after its delivery, and before the reply to the next request.
    alice.send_line("<CLIENT><command>PING</command></CLIENT>");
    alice.line_with("PONG");
    let _nothing = Client::connect(server.portal()).rest();
    let page = status.metrics();
    for (sample, wanted) in [
        ("portal_chat_seats{state=\"seated\"}", 2.0),
        ("portal_chat_seats{state=\"reserved\"}", 1.0),
        ("portal_chat_seats{state=\"free\"}", 1.0),
        ("portal_chat_connections_total{entrance=\"portal\"}", 2.0),
        ("portal_chat_messages_total{to=\"partner\"}", 1.0),
        ("portal_chat_outbox_bytes", 0.0),
        ("portal_chat_events_dropped_total", 0.0),
    ] {
        assert_eq!(value(&page, sample), wanted, "{sample}: {page}");
    }
    assert!(value(&page, "portal_chat_received_bytes_total") > 40.0);
    assert!(value(&page, "portal_chat_sent_bytes_total") > 40.0);
    assert!(value(&page, "portal_chat_threads") > 4.0);
    drop((alice, bob));
    server.stop();
    let page = status.metrics();
    assert_eq!(
        value(&page, "portal_chat_messages_total{to=\"partner\"}"),
        1.0,
        "a counter never decreases"
    );
}

/// Starts the program with these options. Returns it with the addresses of its board and metrics.
fn started(options: &[&str]) -> (Running, Vec<SocketAddr>) {
    let mut running = Running::start(
        program(SERVER)
            .args(["0", "--no-passwords", "--workers", "2"])
            .args(options)
            .stdout(Stdio::piped()),
    );
    let output = std::io::BufReader::new(running.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(output).map(Result::unwrap);
    let mut addresses = Vec::new();
    for line in lines.by_ref() {
        let is_ours = line.starts_with("board ") || line.starts_with("metrics ");
        let address = line.split_once("http://").filter(|_| is_ours);
        let address = address.and_then(|(_, rest)| rest.split('/').next());
        addresses.extend(address.map(|text| text.parse::<SocketAddr>().unwrap()));
        if line.contains(sentences::CTRL_C_TO_STOP_THE_SERVER) {
            break;
        }
    }
    std::thread::spawn(move || lines.count());
    (running, addresses)
}

#[test]
fn the_paths_are_on_the_metrics_listener_and_on_the_boards() {
    let (mut server, addresses) = started(&["--metrics", "127.0.0.1:0", "--board", "127.0.0.1:0"]);
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for &address in &addresses {
        for path in ["/healthz", "/readyz"] {
            let wanted = ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned());
            assert_eq!(get(address, path), wanted);
        }
        let (_, page) = get(address, "/metrics");
        assert_eq!(value(&page, "portal_chat_seats{state=\"free\"}"), 2.0);
        let head = answer(address, "HEAD", "/metrics");
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(head.ends_with("\r\n\r\n"), "a HEAD has no content");
        // No request changes anything.
        for method in ["POST", "PUT", "DELETE"] {
            let refused = answer(address, method, "/readyz");
            assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
        }
        let (missing, _) = get(address, "/nothing");
        assert_eq!(missing, "HTTP/1.1 404 Not Found");
    }
    // A page on another site can't read them through the reader's browser.
    let mut stream = TcpStream::connect(addresses[0]).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut refused = String::new();
    stream.read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 421"), "{refused}");
    server.signal("-TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_that_waits_for_its_start_answers_that_it_works_and_is_not_ready() {
    // Nothing listens there, so the server waits for its Redis.
    if !cfg!(feature = "cluster") {
        return;
    }
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = format!("redis://{}", nowhere.local_addr().unwrap());
    drop(nowhere);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = free.local_addr().unwrap();
    drop(free);
    let mut server = Running::start(
        program(SERVER)
            .args(["0", "--no-passwords", "--workers", "2", "--cluster", &redis])
            .args(["--metrics", &metrics.to_string()])
            .stderr(Stdio::piped()),
    );
    server.first_error_with("Waiting for Redis");
    assert!(get(metrics, "/healthz").0.contains("200"));
    let (status, reason) = get(metrics, "/readyz");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(reason, "starting\n");
    assert!(
        get(metrics, "/metrics")
            .1
            .contains("portal_chat_uptime_seconds ")
    );
    server.signal("-TERM");
    let _ = server.wait();
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let (server, status, _clock) = observed(4);
    let _alice = seat(&server);
    let checking = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checking) = checking else {
        // Written directly, because the test harness would hide it.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"NOT TESTED: the metrics with promtool, which is not installed (Debian: prometheus)\n",
        );
        return;
    };
    let page = status.metrics();
    let mut input = checking.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let said = checking.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success() && text.is_empty(), "{text}\n{page}");
}

/// The rules for Prometheus's text format that promtool checks, and its naming conventions.
#[test]
fn every_sample_belongs_to_a_family_with_a_conventional_name() {
    let (server, status, _clock) = observed(2);
    let page = status.metrics();
    server.stop();
    let (mut families, mut current) = (Vec::new(), None::<(String, String)>);
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            assert!(
                !families.contains(&name.to_owned()),
                "{name} is there twice"
            );
            families.push(name.to_owned());
            current = None;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(families.last().unwrap(), name);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            current = Some((name.to_owned(), kind.to_owned()));
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(current.as_ref().unwrap().0, name, "{line}");
            let (_, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
        }
    }
    assert!(families.len() >= 14, "{families:?}");
}
