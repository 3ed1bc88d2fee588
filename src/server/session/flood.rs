//! Tests that the queue of a client that sends requests and does not read stays bounded.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::Events;
use crate::limits;
use crate::server::{Server, Settings};
use crate::wire::CloseReason;

struct Client(BufReader<TcpStream>);

impl Client {
    fn at(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        let patience = Duration::from_secs(120);
        stream.set_read_timeout(Some(patience)).unwrap();
        Client(BufReader::new(stream))
    }

    fn sends(&mut self, command: &str, parts: &str) {
        let socket = self.0.get_mut();
        writeln!(
            socket,
            "<CLIENT><command>{command}</command>{parts}</CLIENT>"
        )
        .unwrap();
    }

    fn reads(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {part}");
        }
    }

    fn logs_in(&mut self, name: &str) {
        self.sends("LOGIN", &format!("<username>{name}</username>"));
        self.reads(">WELCOME<");
    }
}

#[test]
fn replays_that_nobody_reads_wait_up_to_a_fixed_amount() {
    let settings = Settings {
        port: 0,
        single_port: Some(2),
        history: 1000,
        idle_timeout: None,
        ..Settings::default()
    };
    let clock = Clock::new();
    let events = Events::new(clock.clone());
    let server = Server::start(&settings, clock.clone(), events).unwrap();
    let mut alice = Client::at(server.portal());
    alice.logs_in("alice");
    alice.sends("JOIN", "<room>lobby</room><here/>");
    let text = "x".repeat(7000);
    for _ in 0..limits::HISTORY / text.len() + 1 {
        alice.sends(
            "SAY",
            &format!("<room>lobby</room><message>{text}</message>"),
        );
        alice.reads(">SENT<");
    }
    let mut bob = Client::at(server.portal());
    bob.logs_in("bob");
    let connected = server.connected();
    let bobs = connected
        .iter()
        .find(|there| &*there.connection.label() == "bob");
    let connection = Arc::clone(&bobs.unwrap().connection);
    for _ in 0..200 {
        bob.sends("JOIN", "<room>lobby</room><here/>");
        bob.sends("LEAVE", "<room>lobby</room>");
    }
    // The queue may hold one more replay until the thread that appended it checks the limit.
    let bound = limits::OUTBOX + limits::HISTORY_EXEMPTION + limits::HISTORY;
    let mut most = 0;
    while !connection.outbox.has_ended() {
        most = most.max(connection.outbox.pending());
        clock.beat();
        std::thread::yield_now();
    }
    assert!(most > limits::OUTBOX && most <= bound, "{most}");
    assert_eq!(connection.outbox.ended(), Some(CloseReason::TooSlow));
    alice.sends("PING", "");
    alice.reads(">PONG<");
    server.stop();
}
