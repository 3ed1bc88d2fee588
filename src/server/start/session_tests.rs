//! Tests for sessions whose turn is cut short, and for sessions whose client does not read.
#![cfg(test)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use portal_core::transport::{Transport, XmlLines};
use portal_sessions::{at_worker::AtWorker, turn::Session};

use crate::chat::Connection;
use crate::clock::Clock;
use crate::event::Events;
use crate::limits;
use crate::start::{Server, Settings};
use crate::wire::{CloseReason, ServerDoc};
use portal_core::test_support::{connection, received};

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
fn unread_replays_are_queued_up_to_a_limit() {
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
    let bound = limits::MAX_OUTBOX_BYTES + limits::MAX_EXEMPT_BYTES + limits::HISTORY;
    let mut most = 0;
    while !connection.outbox.has_ended() {
        most = most.max(connection.outbox.pending());
        clock.beat();
        std::thread::yield_now();
    }
    assert!(most > limits::MAX_OUTBOX_BYTES && most <= bound, "{most}");
    assert_eq!(connection.outbox.ended(), Some(CloseReason::TooSlow));
    alice.sends("PING", "");
    alice.reads(">PONG<");
    server.stop();
}

/// Returns the messages that the partner receives from a turn of three messages; `at_first` runs
/// before the turn.
fn received_of_a_turn(at_first: impl FnOnce(&Connection)) -> (CloseReason, Vec<String>) {
    let clock = Clock::new();
    let events = Events::new(clock.clone());
    let settings = Settings {
        port: 0,
        ..Settings::default()
    };
    let server = Server::start(&settings, clock, events).unwrap();
    let state = &server.chat;
    let seats = state.seats.all();
    let ((alice, hers), bob) = (connection("alice"), connection("bob"));
    for (seat, connection) in seats.iter().zip([&alice, &bob.0]) {
        let welcome = ServerDoc::Notice("welcome".into());
        state.pairs.enter(seat.number, connection, &welcome);
    }
    // Alice sends only the bytes that arrived with her passcode.
    hers.shutdown(std::net::Shutdown::Write).unwrap();
    let said: String = (0..3)
        .map(|number| format!("<CLIENT><message>{number}</message></CLIENT>\n"))
        .collect();
    let stream = alice.outbox.stream();
    let (mut decoder, _) = XmlLines::new(8192).open(stream, seats[0].port);
    decoder.read_from(&mut said.as_bytes()).unwrap();
    at_first(&alice);
    let end = Session::new(state, AtWorker::new(&seats[0]), &alice).run(&mut *decoder);
    let messages = received(bob).into_iter();
    let is_hers = |word: &String| word.parse::<u8>().is_ok();
    (end, messages.filter(is_hers).collect())
}

#[test]
fn a_turn_ends_with_its_session() {
    let all = ["0", "1", "2"].map(str::to_owned).to_vec();
    assert_eq!(received_of_a_turn(|_| {}), (CloseReason::PeerClosed, all));
    // After a kick, the messages of the turn are not delivered.
    let ended = received_of_a_turn(|alice| {
        alice.outbox.end(CloseReason::Kicked);
    });
    assert_eq!(ended, (CloseReason::Kicked, Vec::new()));
}
