//! Tests that a panic anywhere affects only the client that caused it.
#![cfg(test)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{EventQueue, Events};
use crate::start::{Server, Settings};

const PATIENCE: Duration = Duration::from_secs(120);

struct Stage {
    server: Server,
    clock: Clock,
    events: EventQueue,
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn at(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn sends(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    /// Reads up to a line that contains `part`, or to the end.
    fn receives(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.0.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line.contains(part) {
                return line;
            }
            line.clear();
        }
        "the end".to_owned()
    }
}

fn part(text: &str, element: &str) -> String {
    let rest = text.split_once(&format!("<{element}>")).expect(text).1;
    rest.split_once('<').unwrap().0.to_owned()
}

impl Stage {
    fn new(settings: Settings) -> Stage {
        let clock = Clock::new();
        let mut told = Events::new(clock.clone());
        let events = told.add_reader(1 << 10);
        let settings = Settings {
            port: 0,
            workers: 4,
            ..settings
        };
        let server = Server::start(&settings, clock.clone(), told).unwrap();
        Stage {
            server,
            clock,
            events,
        }
    }

    fn panic_at(&self, place: &'static str) {
        *self.server.panics.next_at.lock().unwrap() = Some(place);
    }

    /// Waits for the event `panicked`, and checks its message and source location.
    fn has_panicked(&self, at: &str) {
        loop {
            let event = self.events.events().recv_timeout(PATIENCE).expect(at);
            if event.kind == "panicked" {
                let text = |name| event.text(name).unwrap();
                assert_eq!(text("message"), format!("made to panic at {at}"));
                assert!(text("place").contains("panics.rs:"), "{event:?}");
                return;
            }
        }
    }

    fn ticket(&self) -> (SocketAddr, String) {
        let answer = Client::at(self.server.portal()).receives("<Port>");
        let mut worker = self.server.portal();
        worker.set_port(part(&answer, "Port").parse().unwrap());
        (worker, part(&answer, "HandshakePasscode"))
    }

    fn seat(&self) -> Client {
        let (worker, passcode) = self.ticket();
        let mut client = Client::at(worker);
        client.sends(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        assert!(client.receives("Connection").contains("successful"));
        client
    }

    fn wait_for_all_ports(&self) {
        let all = self.server.workers().len();
        while self.server.free_ports().len() < all {
            self.clock.beat();
            let _ = self.events.events().recv_timeout(Duration::from_millis(10));
        }
    }

    /// Checks that clients can still connect and chat, and that every port is free again at the
    /// end.
    fn goes_on(self) {
        self.wait_for_all_ports();
        let (mut alice, mut bob) = (self.seat(), self.seat());
        alice.sends("<CLIENT><message>still here</message></CLIENT>");
        assert!(bob.receives("still here").contains("<message>"));
        drop((alice, bob));
        self.wait_for_all_ports();
        self.server.stop();
    }
}

#[test]
fn a_panic_in_the_portal_costs_one_answer() {
    for place in ["portal", "portal-tcp"] {
        let stage = Stage::new(Settings::default());
        stage.panic_at(place);
        assert_eq!(Client::at(stage.server.portal()).receives("<"), "the end");
        stage.has_panicked(place);
        stage.goes_on();
    }
    let stage = Stage::new(Settings::default());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    stage.panic_at("portal-udp");
    socket.send_to(b"?", stage.server.portal()).unwrap();
    stage.has_panicked("portal-udp");
    socket.send_to(b"?", stage.server.portal()).unwrap();
    let mut answer = [0; 500];
    let count = socket.recv(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..count]).contains("<Port>"));
    stage.goes_on();
}

#[test]
fn a_panic_in_a_worker_costs_one_caller() {
    for place in ["let-in", "handshake"] {
        let stage = Stage::new(Settings::default());
        let (worker, _) = stage.ticket();
        stage.panic_at(place);
        assert_eq!(Client::at(worker).receives("<"), "the end");
        stage.has_panicked(place);
        stage.goes_on();
    }
}

#[test]
fn after_a_panic_the_cleanup_is_repeated() {
    let stage = Stage::new(Settings::default());
    let (alice, mut bob) = (stage.seat(), stage.seat());
    assert!(bob.receives("PARTNER JOINED").contains("JOINED"));
    stage.panic_at("clear-up");
    drop(alice);
    assert!(bob.receives("PARTNER LEFT").contains("LEFT"));
    stage.has_panicked("clear-up");
    drop(bob);
    stage.goes_on();
}

#[test]
fn after_a_panic_in_a_session_the_partner_is_notified() {
    let stage = Stage::new(Settings::default());
    let (mut alice, mut bob) = (stage.seat(), stage.seat());
    // After the PONGs, both sessions wait for input, so alice's message causes the panic.
    for client in [&mut alice, &mut bob] {
        client.sends("<CLIENT><command>PING</command></CLIENT>");
        assert!(client.receives("PONG").contains("PONG"));
    }
    stage.panic_at("session");
    alice.sends("<CLIENT><message>oops</message></CLIENT>");
    assert_eq!(alice.receives("oops"), "the end");
    assert!(bob.receives("PARTNER LEFT").contains("PARTNER LEFT"));
    stage.has_panicked("session");
    drop(bob);
    stage.goes_on();
}

#[test]
fn a_panic_in_a_timer_costs_its_client() {
    let stage = Stage::new(Settings {
        idle_timeout: Some(Duration::from_secs(2)),
        ..Settings::default()
    });
    let mut alice = stage.seat();
    stage.panic_at("timer");
    for _ in 0..3 {
        stage.clock.beat();
    }
    assert_eq!(alice.receives("IDLE"), "the end");
    stage.has_panicked("timer");
    stage.goes_on();
}

#[test]
fn a_panic_in_a_room_costs_one_caller() {
    for place in ["room", "room-timer", "room-writer"] {
        let stage = Stage::new(Settings::default());
        let mut alice = stage.seat();
        alice.sends("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
        alice.sends("<CLIENT><command>JOIN</command><room>r</room></CLIENT>");
        let joined = alice.receives("JOINED</command><room>");
        let mut there = stage.server.portal();
        there.set_port(part(&joined, "Port").parse().unwrap());
        if place == "room-timer" {
            stage.panic_at(place);
            for _ in 0..3 {
                stage.clock.beat();
            }
            stage.has_panicked(place);
            // The next tick completes the work of this one.
            stage.clock.beat();
        } else {
            stage.panic_at(place);
            let mut caller = Client::at(there);
            if place == "room-writer" {
                // The writer may have panicked, and the connection closed, before this write.
                let passcode = part(&joined, "HandshakePasscode");
                let _ = writeln!(
                    caller.0.get_mut(),
                    "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
                );
            }
            caller.receives("nothing more");
            stage.has_panicked(place);
        }
        drop(alice);
        while stage.server.chat().rooms.free_ports() < Settings::default().rooms {
            stage.clock.beat();
            let _ = stage
                .events
                .events()
                .recv_timeout(Duration::from_millis(10));
        }
        stage.goes_on();
    }
}

#[test]
fn a_panic_on_a_single_port_costs_one_caller() {
    let stage = Stage::new(Settings {
        single_port: Some(2),
        ..Settings::default()
    });
    stage.panic_at("single");
    assert_eq!(Client::at(stage.server.portal()).receives("<"), "the end");
    stage.has_panicked("single");
    let mut client = Client::at(stage.server.portal());
    assert!(client.receives("Connection").contains("seat='1'"));
}
