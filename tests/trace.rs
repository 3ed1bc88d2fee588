//! `--trace` and `--chop`: every socket call is visible, and one write is not one read.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::num::NonZeroUsize;

use portal_chat::server::Settings;
use support::{TestServer, message};

const CALLS: [&str; 8] = [
    "accept", "bind", "close", "connect", "listen", "read", "shutdown", "write",
];

/// Returns the server's socket calls while one client connects, sends a message and leaves, each as
/// its event line from the thread's name on.
fn calls_of_a_visit(settings: &Settings) -> Vec<String> {
    let server = TestServer::start(settings);
    let (mut client, port) = server.seat();
    client.line_with("NO PARTNER");
    client.send_line(&message("hi"));
    client.line_with("NO PARTNER");
    drop(client);
    let mut calls = Vec::new();
    loop {
        let event = server.wait_for("a call, or the end", |event| {
            CALLS.contains(&&*event.kind) || event.kind == "seat-free"
        });
        if event.kind == "seat-free" {
            return calls;
        }
        let line = event.line();
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        calls.push(words.join(" ").replace(&port.to_string(), "50001"));
    }
}

#[test]
fn trace_shows_every_call_with_its_bytes() {
    let calls = calls_of_a_visit(&Settings {
        trace: true,
        ..Settings::default()
    });
    for call in [
        "bind", "listen", "accept", "read", "write", "shutdown", "close",
    ] {
        let matches = |line: &&String| line.split(' ').nth(1) == Some(call);
        assert!(
            calls.iter().any(|line| matches(&line)),
            "no {call}: {calls:#?}"
        );
    }
    let has = |parts: &[&str]| {
        let all = |line: &&String| parts.iter().all(|part| line.contains(part));
        assert!(
            calls.iter().any(|line| all(&line)),
            "{parts:?} in {calls:#?}"
        );
    };
    has(&[
        "worker-50001 read address 127.0.0.1:",
        "got 39 bytes \"<CLIENT><message>hi</message></CLIENT>\\n\"",
    ]);
    has(&["portal-tcp write address 127.0.0.1:", "<HandshakePasscode>"]);
}

#[test]
fn chop_splits_writes() {
    let calls = calls_of_a_visit(&Settings {
        trace: true,
        chop: NonZeroUsize::new(5),
        ..Settings::default()
    });
    let writes: Vec<&String> = calls
        .iter()
        .filter(|line| line.contains(" write "))
        .collect();
    assert!(writes.len() > 50, "{writes:#?}");
    assert!(
        writes.iter().all(|line| ["1", "2", "3", "4", "5"]
            .iter()
            .any(|wanted| line.contains(&format!("wanted {wanted} got {wanted} ")))),
        "{writes:#?}"
    );
}

#[test]
fn calls_are_not_traced_by_default() {
    assert_eq!(calls_of_a_visit(&Settings::default()), Vec::<String>::new());
}
