//! `make demo-board`: a server with its board, and visitors that act out the nine rules of seed 000
//! in turn, with a caption for each. It starts once a viewer watches, and repeats until Ctrl-C.
//!
//! `DEMO_PACE=2` is twice as fast as the default of 4 seconds per step (and speeds up the tick,
//! too). `DEMO_ROUNDS=1` ends it after one round. `--events FILE` records it for `chatserver replay
//! FILE`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    unreachable_pub,
    dead_code
)]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::{Clock, Tick, Ticker};
use portal_chat::event::{
    ChatEvent, EventQueue, Events, ReaderThread, ServerEvent, start_event_file,
};
use portal_chat::server::{Server, Settings};

#[path = "../support/patience.rs"]
mod patience;
pub use patience::PATIENCE;

/// The number of ticks per step.
const TICKS_A_STEP: f64 = 4.0;

fn main() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<f64>().ok();
    let pace = number("DEMO_PACE").unwrap_or(4.0).max(0.04);
    let rounds = number("DEMO_ROUNDS").map_or(u64::MAX, |rounds| rounds as u64);
    let mut words = std::env::args_os().skip(1);
    let recording = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(option), Some(file), None) if option == "--events" => Some(PathBuf::from(file)),
        _ => {
            eprintln!(
                "demo-board: the only option is --events FILE, which records the run to FILE"
            );
            std::process::exit(2);
        }
    };
    let address = std::env::var("BOARD").unwrap_or("127.0.0.1:8050".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!(
            "demo-board: BOARD={address} is not an address with a port, such as 127.0.0.1:8050"
        );
        std::process::exit(2);
    };
    let shown = |portal, board| {
        println!("portal   {portal}");
        println!(
            "board    http://{board}/  open this in a browser to start the demo; Ctrl-C ends it"
        );
    };
    let pace = Duration::from_secs_f64(pace);
    if let Err(error) = perform(
        address,
        Settings::default().port,
        pace,
        rounds,
        recording.as_deref(),
        shown,
        |_| {},
    ) {
        match (&error, &recording) {
            (DemoError::Record(error), Some(file)) => eprintln!(
                "demo-board: can't write {} ({error}): choose another --events FILE",
                file.display()
            ),
            (DemoError::Record(error) | DemoError::Listen(error), _) => eprintln!(
                "demo-board: the board can't listen on {address} ({error}): BOARD=127.0.0.1:0 chooses a free port"
            ),
        }
        std::process::exit(2);
    }
}

/// The reason why the demo can't start.
#[derive(Debug)]
pub enum DemoError {
    /// The board can't listen on its address.
    Listen(io::Error),
    /// The recording can't be created.
    Record(io::Error),
}

/// Starts a board at `address` and a server with its portal at `port` (0 means any free ports),
/// announces both addresses, waits for a viewer, and acts out the rules. Events are also written to
/// the file `recording`, as with the server's `--events`. `ticked` is called after each tick, and
/// the next tick follows one period after it has returned.
pub fn perform(
    address: SocketAddr,
    port: u16,
    step: Duration,
    rounds: u64,
    recording: Option<&Path>,
    announce: impl FnOnce(SocketAddr, SocketAddr),
    ticked: impl Fn(Tick) + Send + 'static,
) -> Result<(), DemoError> {
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    events.show_texts();
    let redactor = Redactor {
        texts: true,
        secrets: true,
    };
    let board =
        Board::live(address, &mut events, redactor, None, &[]).map_err(DemoError::Listen)?;
    let recording = match recording {
        Some(file) => {
            let queue = events.add_reader(1 << 16);
            Some(start_event_file(queue, file, None).map_err(DemoError::Record)?)
        }
        None => None,
    };
    let queue = events.add_reader(1 << 16);
    let seconds = Duration::from_secs;
    let settings = Settings {
        port,
        reserve_timeout: seconds(4),
        handshake_timeout: seconds(2),
        idle_timeout: Some(seconds(12)),
        total_timeout: Some(seconds(28)),
        show_passcodes: true,
        ..Settings::default()
    };
    // The seed's ports, or any others if those are taken.
    let server = Server::start(&settings, clock.clone(), events.clone()).or_else(|_| {
        let settings = Settings {
            port: 0,
            ..settings
        };
        Server::start(&settings, clock.clone(), events.clone())
    });
    let server = server.expect("a server");
    let emitter = events.clone();
    let period = step.div_f64(TICKS_A_STEP);
    let ticker = Ticker::start(clock.clone(), period, move |now, reported| {
        emitter.emit(|| ChatEvent::Ticked { told: reported });
        ticked(now);
    });
    let ticker = ticker.expect("a thread");

    announce(server.portal(), board.address());
    while board.watching() == 0 {
        thread::sleep(Duration::from_millis(50));
    }
    let demo = Demo {
        portal: server.portal(),
        workers: server.workers().iter().map(|port| port.get()).collect(),
        server,
        events,
        queue,
        step,
        clock,
    };
    for _ in 0..rounds {
        demo.one_round();
    }
    let Demo { server, events, .. } = demo;
    ticker.stop();
    server.stop();
    drop(events);
    board.stop();
    recording.map(ReaderThread::finish);
    Ok(())
}

struct Demo {
    portal: SocketAddr,
    workers: Vec<u16>,
    server: Server,
    events: Events,
    queue: EventQueue,
    step: Duration,
    clock: Clock,
}

impl Demo {
    fn one_round(&self) {
        self.rule(
            "Rule 1: a portal, and a worker on each port. Each is a thread that blocks in accept",
        );
        self.pause(2.0);

        self.caption(
            "Rule 2: a client connects to the portal, which takes the top port off the stack",
        );
        let ticket = self.request_port().expect("a port");
        self.pause(0.6);
        self.caption(
            "Rule 3: the client connects to the worker on that port, and sends the passcode",
        );
        let mut alice = self.take_seat(&ticket);
        alice.log_in("alice");
        self.pause(0.8);
        let mut bob = self.take_seat(&self.request_port().expect("a port"));
        bob.log_in("bob");
        self.pause(0.8);
        for (speaker, text) in [
            (0, "hello bob"),
            (1, "hello alice"),
            (0, "from my socket to yours"),
        ] {
            let speaker = if speaker == 0 { &mut alice } else { &mut bob };
            speaker.message(text);
            self.pause(0.4);
        }

        drop((alice, bob));
        self.rules_4_and_5();

        self.rule("Rule 6: carol sends nothing until the idle timeout, and receives IDLE TIMEOUT");
        let mut carol = self.take_seat(&self.request_port().expect("a port"));
        carol.log_in("carol");
        carol.receive("IDLE TIMEOUT");
        self.pause(1.0);
        self.rule("Rule 6, too: after the total time, dora is disconnected, however active she is");
        let mut dora = self.take_seat(&self.request_port().expect("a port"));
        dora.log_in("dora");
        let mut number = 0;
        while !dora.receives_within("TOTAL TIME TIMEOUT", self.step / 2) {
            number += 1;
            dora.message(&format!("I could go on, {number}"));
        }
        self.pause(1.0);
        self.rule_7();

        self.rule(
            "Rule 8: the ticker emulates the clock interrupt; each tick brings hal closer to his idle timeout",
        );
        let mut hal = self.take_seat(&self.request_port().expect("a port"));
        hal.log_in("hal");
        self.pause(2.0);
        drop(hal);

        self.rule("Rule 9: a client sends TERMINATE to leave");
        let mut zoe = self.take_seat(&self.request_port().expect("a port"));
        zoe.log_in("zoe");
        self.pause(0.8);
        zoe.send_line("<CLIENT><command>TERMINATE</command></CLIENT>");
        self.wait_for("seat-free");
        self.pause(1.5);
    }

    fn rules_4_and_5(&self) {
        self.rule("Rule 4: a client gets a port and does not connect. The reservation expires; the port returns to the stack");
        self.request_port().expect("a port");
        self.wait_for("no-show");
        self.pause(1.0);

        self.rule(
            "Rule 5: a client that connects to a worker without visiting the portal is rejected",
        );
        let mut stray = Visitor::at(SocketAddr::new(self.portal.ip(), self.workers[3]));
        stray.receive("Wrong handshake passcode");
        self.pause(1.0);
        self.rule("Rules 5a and 5b: the passcode comes from the portal, and is sent once");
        let ticket = self.request_port().expect("a port");
        self.pause(0.5);
        let mut carol = self.take_seat(&ticket);
        carol.log_in("carol");
        self.pause(0.8);
        drop(carol);
        self.rule("Rule 5c: a client has only one attempt at the passcode");
        let (worker, passcode) = self.request_port().expect("a port");
        self.pause(0.5);
        let mut dave = Visitor::at(worker);
        dave.send_line("<CLIENT><HandshakePasscode>guessed</HandshakePasscode></CLIENT>");
        dave.receive("Wrong handshake passcode");
        self.pause(0.8);
        self.caption("Rule 5d: the passcode has changed, so the old one is invalid now");
        let mut again = Visitor::at(worker);
        again.send_line(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        again.receive("Wrong handshake passcode");
        self.pause(1.0);
    }

    fn rule_7(&self) {
        self.rule("Rule 7: all workers are occupied, so the portal sends FULL");
        let mut alice = self.take_seat(&self.request_port().expect("a port"));
        let mut bob = self.take_seat(&self.request_port().expect("a port"));
        let erin = self.take_seat(&self.request_port().expect("a port"));
        let mut frank = self.take_seat(&self.request_port().expect("a port"));
        assert!(self.request_port().is_none(), "FULL");
        self.pause(0.8);
        // Otherwise they would time out before the rule ends.
        for visitor in [&mut alice, &mut bob, &mut frank] {
            visitor.message("I am staying");
        }
        self.caption("Rule 7: the client sleeps and tries again; meanwhile a client has left");
        drop(erin);
        self.pause(0.5);
        let mut gina = self.take_seat(&self.request_port().expect("a port"));
        gina.log_in("gina");
        self.pause(0.8);
        drop((alice, bob, frank, gina));
    }

    /// Shows the caption of a rule, after all clients of the previous rule have left.
    fn rule(&self, text: &str) {
        while self.server.free_ports().len() < self.workers.len() {
            thread::sleep(self.step / 20);
        }
        self.pause(0.5);
        self.caption(text);
    }

    fn caption(&self, text: &str) {
        self.events.emit(|| ServerEvent::Caption {
            text: text.to_owned(),
        });
        self.pause(0.25);
    }

    /// Waits for whole ticks, so that at least one tick shows the current state.
    fn pause(&self, steps: f64) {
        let ticks = (steps * TICKS_A_STEP).ceil() as u64;
        let Tick(now) = self.clock.now();
        self.clock.subscribe().wait_past(Tick(now + ticks - 1));
    }

    /// Waits for the next event of this kind.
    fn wait_for(&self, kind: &str) {
        // A limit for the whole wait, because each tick is an event.
        let until = Instant::now() + PATIENCE;
        loop {
            let event = self.queue.events().recv_deadline(until);
            if event.expect("an event").kind == kind {
                return;
            }
        }
    }

    /// Requests a port. Returns the worker's address and the passcode, or `None` if the portal is
    /// full.
    fn request_port(&self) -> Option<(SocketAddr, String)> {
        // Discard the events so far.
        self.queue.events().try_iter().for_each(drop);
        let reply = Visitor::at(self.portal).receive("<");
        let part = |element: &str| {
            let rest = reply.split_once(&format!("<{element}>"))?.1;
            Some(rest.split_once('<')?.0.to_owned())
        };
        let port = part("Port")?.parse().ok()?;
        let worker = SocketAddr::new(self.portal.ip(), port);
        Some((worker, part("HandshakePasscode")?))
    }

    fn take_seat(&self, (worker, passcode): &(SocketAddr, String)) -> Visitor {
        let mut visitor = Visitor::at(*worker);
        self.pause(0.3);
        visitor.send_line(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        visitor.receive("Connection successful");
        visitor
    }
}

struct Visitor(BufReader<TcpStream>);

impl Visitor {
    fn at(address: SocketAddr) -> Visitor {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Visitor(BufReader::new(stream))
    }

    fn send_line(&mut self, line: &str) {
        // The next reply shows whether it has arrived.
        let _ = writeln!(self.0.get_mut(), "{line}");
    }

    fn message(&mut self, text: &str) {
        self.send_line(&format!("<CLIENT><message>{text}</message></CLIENT>"));
    }

    fn log_in(&mut self, name: &str) {
        self.send_line(&format!(
            "<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>"
        ));
        self.receive("WELCOME");
    }

    /// Returns the next line that contains `part`.
    fn receive(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.0.read_line(&mut line).expect(part) > 0 {
            if line.contains(part) {
                return line;
            }
            line.clear();
        }
        panic!("the connection was closed before {part:?}");
    }

    /// Reads for `patience`, and returns whether a line contained `part`.
    fn receives_within(&mut self, part: &str, patience: Duration) -> bool {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
        let mut line = String::new();
        while self.0.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line.contains(part) {
                return true;
            }
            line.clear();
        }
        false
    }
}
