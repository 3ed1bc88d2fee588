//! Floods of connections that never authenticate: each entrance respects its limit of threads, and
//! a client can still connect.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::Clock;
use portal_chat::event::Events;
use portal_chat::limits;
use portal_chat::server::{Settings, WebEntrance};
use support::{Client, PATIENCE, TestServer, command, handshake, login, ticket};

/// More callers than handshake threads and parked connections together.
const FLOOD: usize = limits::HANDSHAKES + limits::PARKED + 30;

fn flood(entrance: SocketAddr) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect_timeout(&entrance, PATIENCE).unwrap();
    (0..FLOOD).map(connect).collect()
}

/// Counts the threads of this process whose names begin with each of these words.
fn threads(names: &[&'static str]) -> BTreeMap<&'static str, usize> {
    let mut counts: BTreeMap<&'static str, usize> = names.iter().map(|name| (*name, 0)).collect();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // The thread may have exited already.
        let comm = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        if let Some(name) = names.iter().find(|name| comm.starts_with(**name)) {
            *counts.entry(*name).or_default() += 1;
        }
    }
    counts
}

fn assert_within(names: &[&'static str], maximum: usize) {
    let counts = threads(names);
    assert!(counts.values().sum::<usize>() <= maximum, "{counts:?}");
}

fn get(address: SocketAddr) {
    let mut stream = support::tunnelled(TcpStream::connect(address).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

fn web() -> Option<WebEntrance> {
    Some(WebEntrance::at("127.0.0.1:0".parse().unwrap()))
}

/// One test, because all tests in a file share one process, and so its threads.
#[test]
fn every_entrance_limits_its_threads() {
    check_portal_and_workers();
    check_browsers_entrance();
    check_board();
    check_room();
    #[cfg(feature = "tls")]
    check_tls();
}

fn check_portal_and_workers() {
    let server = TestServer::with_workers(4);
    let (port, _) = ticket(&server.request_port());
    let worker = SocketAddr::new(server.server.portal().ip(), port.get());
    let _strays: Vec<TcpStream> = (0..limits::WORKER_BACKLOG / 2)
        .map(|_| TcpStream::connect(worker).unwrap())
        .collect();
    server.seat();
    assert_within(&["worker-", "portal-"], 4 + 2);
}

fn check_browsers_entrance() {
    let server = TestServer::start(&Settings {
        web: web(),
        ..Settings::default()
    });
    let entrance = server.server.web().unwrap();
    let _flood = flood(entrance);
    get(entrance);
    assert_within(&["browser-"], limits::HANDSHAKES);
}

fn check_board() {
    let mut events = Events::new(Clock::new());
    events.show_texts();
    let redactor = Redactor {
        texts: true,
        secrets: true,
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let board = Board::live(any, &mut events, redactor, None, &[]).unwrap();
    let entrance = board.address();
    let watching: Vec<TcpStream> = (0..limits::VIEWERS + 20)
        .map(|_| {
            let mut stream = TcpStream::connect(entrance).unwrap();
            let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    let _flood = flood(entrance);
    get(entrance);
    assert_within(&["viewer-"], limits::VIEWERS + limits::HANDSHAKES);
    drop(watching);
    board.stop();
}

fn check_room() {
    let server = TestServer::with_workers(2);
    let (mut alice, _) = server.seat();
    alice.send_line(&login("alice"));
    alice.line_with(">WELCOME<");
    alice.send_line(&command("JOIN", "<room>lobby</room>"));
    let (port, passcode) = ticket(&alice.line_with(">JOINED<"));
    let room = SocketAddr::new(server.server.portal().ip(), port.get());
    let _flood: Vec<TcpStream> = (0..limits::WORKER_BACKLOG)
        .map(|_| TcpStream::connect(room).unwrap())
        .collect();
    let mut member = Client::connect(room);
    member.send_line(&handshake(&passcode));
    assert!(member.line().contains("Connection successful"));
    // The member has two threads, and up to `HANDSHAKES` other callers have one each. If all
    // callers from this address were evicted at once, their threads may still be exiting.
    let maximum = 2 + limits::HANDSHAKES;
    let until = Instant::now() + PATIENCE;
    while threads(&["member-", "writer-"]).values().sum::<usize>() > maximum {
        assert!(Instant::now() < until, "more than {maximum} threads");
        std::thread::yield_now();
    }
}

#[cfg(feature = "tls")]
fn check_tls() {
    use support::tls::{both, use_tls};

    let (tls, client) = both();
    let start = |settings: Settings| {
        TestServer::start(&Settings {
            tls: Some(tls.clone()),
            ..settings
        })
    };
    let with_client = |action: &dyn Fn()| {
        use_tls(Some(client.clone()));
        action();
        use_tls(None);
    };

    let server = start(Settings::default());
    let _at_portal = flood(server.server.portal());
    with_client(&|| drop(server.seat()));
    assert_within(&["portal-tls"], limits::HANDSHAKES);

    let server = start(Settings {
        single_port: Some(2),
        ..Settings::default()
    });
    let portal = server.server.portal();
    let _seated = [
        TcpStream::connect(portal).unwrap(),
        TcpStream::connect(portal).unwrap(),
    ];
    let _at_single_port = flood(portal);
    with_client(&|| assert!(Client::connect(portal).line().contains("FULL")));
    assert_within(&["full-", "seat-"], limits::HANDSHAKES + 2);

    let server = start(Settings {
        web: web(),
        ..Settings::default()
    });
    let entrance = server.server.web().unwrap();
    let _at_web = flood(entrance);
    with_client(&|| get(entrance));
    assert_within(&["browser-"], limits::HANDSHAKES);
}
