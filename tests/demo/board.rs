//! `make demo-board`: a server with its board, and visitors that act out the nine rules of seed 000
//! in turn, with a caption for each. It begins when somebody watches and goes round until Ctrl-C.
//!
//! `DEMO_PACE=2` is twice as fast as the 4 seconds that a step takes (and the tick with it), and
//! `DEMO_ROUNDS=1` ends it after one round. `--events FILE` records it, to be shown with
//! `chatserver replay FILE`.
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

/// How many ticks a step takes.
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
                "demo-board: its only option is --events FILE, which records the rules into FILE"
            );
            std::process::exit(2);
        }
    };
    let address = std::env::var("BOARD").unwrap_or("127.0.0.1:8050".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!(
            "demo-board: BOARD={address}: it is an address with a port, such as 127.0.0.1:8050"
        );
        std::process::exit(2);
    };
    let shown = |portal, board| {
        println!("portal   {portal}");
        println!(
            "board    http://{board}/  shows it, in a browser; it begins when you watch, and Ctrl-C ends it"
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
            (CantPerform::Record(error), Some(file)) => eprintln!(
                "demo-board: can't write {} ({error}): choose another --events FILE",
                file.display()
            ),
            (CantPerform::Record(error) | CantPerform::Listen(error), _) => eprintln!(
                "demo-board: the board can't listen on {address} ({error}): BOARD=127.0.0.1:0 chooses a free port"
            ),
        }
        std::process::exit(2);
    }
}

/// What can be in the way.
#[derive(Debug)]
pub enum CantPerform {
    /// The board has no address to listen at.
    Listen(io::Error),
    /// The recording has no file to be written to.
    Record(io::Error),
}

/// Starts a board at `address` and a server whose portal is at `port` (0: any that are free), says
/// where they are, waits until somebody watches, and plays. What happens is written into the file
/// `recording` as well, as the server does with `--events`. After each tick `ticked` is called, and
/// the next one comes a tick's time after it has returned.
pub fn perform(
    address: SocketAddr,
    port: u16,
    step: Duration,
    rounds: u64,
    recording: Option<&Path>,
    announce: impl FnOnce(SocketAddr, SocketAddr),
    ticked: impl Fn(Tick) + Send + 'static,
) -> Result<(), CantPerform> {
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    events.show_texts();
    let redactor = Redactor {
        texts: true,
        secrets: true,
    };
    let board =
        Board::live(address, &mut events, redactor, None, &[]).map_err(CantPerform::Listen)?;
    let recording = match recording {
        Some(file) => {
            let queue = events.add_reader(1 << 16);
            Some(start_event_file(queue, file, None).map_err(CantPerform::Record)?)
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
    // The ports of the seed, or any others if those are taken.
    let server = Server::start(&settings, clock.clone(), events.clone()).or_else(|_| {
        let settings = Settings {
            port: 0,
            ..settings
        };
        Server::start(&settings, clock.clone(), events.clone())
    });
    let server = server.expect("a server");
    let telling = events.clone();
    let period = step.div_f64(TICKS_A_STEP);
    let ticker = Ticker::start(clock.clone(), period, move |now, told| {
        telling.emit(|| ChatEvent::Ticked { told });
        ticked(now);
    });
    let ticker = ticker.expect("a thread");

    announce(server.portal(), board.address());
    while board.watching() == 0 {
        thread::sleep(Duration::from_millis(50));
    }
    let stage = Stage {
        portal: server.portal(),
        workers: server.workers().iter().map(|port| port.get()).collect(),
        server,
        events,
        queue,
        step,
        clock,
    };
    for _ in 0..rounds {
        stage.one_round();
    }
    let Stage { server, events, .. } = stage;
    ticker.stop();
    server.stop();
    drop(events);
    board.stop();
    recording.map(ReaderThread::finish);
    Ok(())
}

struct Stage {
    portal: SocketAddr,
    workers: Vec<u16>,
    server: Server,
    events: Events,
    queue: EventQueue,
    step: Duration,
    clock: Clock,
}

impl Stage {
    fn one_round(&self) {
        self.rule(
            "Rule 1: a portal, and a worker on each port. Each is a thread, blocked in accept",
        );
        self.pause(2.0);

        self.caption("Rule 2: a client asks the portal, which takes the top port off the stack");
        let ticket = self.request_port().expect("a port");
        self.pause(0.6);
        self.caption("Rule 3: it connects to the worker on that port, and says the passcode");
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

        self.rule("Rule 6: carol says nothing for the idle timeout, and is told so");
        let mut carol = self.take_seat(&self.request_port().expect("a port"));
        carol.log_in("carol");
        carol.hear("IDLE TIMEOUT");
        self.pause(1.0);
        self.rule("Rule 6, too: after the total time, however active, it is over for dora");
        let mut dora = self.take_seat(&self.request_port().expect("a port"));
        dora.log_in("dora");
        let mut number = 0;
        while !dora.has_heard("TOTAL TIME TIMEOUT", self.step / 2) {
            number += 1;
            dora.message(&format!("I could go on, {number}"));
        }
        self.pause(1.0);
        self.rule_7();

        self.rule(
            "Rule 8: the ticker stands for the clock's interrupt; each tick brings hal nearer to his idle timeout",
        );
        let mut hal = self.take_seat(&self.request_port().expect("a port"));
        hal.log_in("hal");
        self.pause(2.0);
        drop(hal);

        self.rule("Rule 9: a client that wants to leave says TERMINATE");
        let mut zoe = self.take_seat(&self.request_port().expect("a port"));
        zoe.log_in("zoe");
        self.pause(0.8);
        zoe.say("<CLIENT><command>TERMINATE</command></CLIENT>");
        self.wait_for("seat-free");
        self.pause(1.5);
    }

    fn rules_4_and_5(&self) {
        self.rule("Rule 4: a client asks and does not come. Its time runs out; the port goes back");
        self.request_port().expect("a port");
        self.wait_for("no-show");
        self.pause(1.0);

        self.rule("Rule 5: who goes to a worker without visiting the portal is turned away");
        let mut stray = Visitor::at(SocketAddr::new(self.portal.ip(), self.workers[3]));
        stray.hear("Wrong handshake passcode");
        self.pause(1.0);
        self.rule("Rules 5a and 5b: the passcode comes from the portal, and is said once");
        let ticket = self.request_port().expect("a port");
        self.pause(0.5);
        let mut carol = self.take_seat(&ticket);
        carol.log_in("carol");
        self.pause(0.8);
        drop(carol);
        self.rule("Rule 5c: a wrong passcode has only one chance");
        let (worker, passcode) = self.request_port().expect("a port");
        self.pause(0.5);
        let mut dave = Visitor::at(worker);
        dave.say("<CLIENT><HandshakePasscode>guessed</HandshakePasscode></CLIENT>");
        dave.hear("Wrong handshake passcode");
        self.pause(0.8);
        self.caption(
            "Rule 5d: and the passcode has changed, so the old one is good for nothing now",
        );
        let mut again = Visitor::at(worker);
        again.say(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        again.hear("Wrong handshake passcode");
        self.pause(1.0);
    }

    fn rule_7(&self) {
        self.rule("Rule 7: all are occupied, so the portal says FULL");
        let mut alice = self.take_seat(&self.request_port().expect("a port"));
        let mut bob = self.take_seat(&self.request_port().expect("a port"));
        let erin = self.take_seat(&self.request_port().expect("a port"));
        let mut frank = self.take_seat(&self.request_port().expect("a port"));
        assert!(self.request_port().is_none(), "FULL");
        self.pause(0.8);
        // Or they would be idle for too long before the rule is over.
        for visitor in [&mut alice, &mut bob, &mut frank] {
            visitor.message("I am staying");
        }
        self.caption("Rule 7: the client sleeps and asks again; meanwhile somebody has left");
        drop(erin);
        self.pause(0.5);
        let mut gina = self.take_seat(&self.request_port().expect("a port"));
        gina.log_in("gina");
        self.pause(0.8);
        drop((alice, bob, frank, gina));
    }

    /// The caption of a rule, which begins when nobody is left of the one before.
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

    /// Waits for the next event of that kind.
    fn wait_for(&self, kind: &str) {
        // In all: the clock ticks on, and each tick is an event.
        let until = Instant::now() + PATIENCE;
        loop {
            let event = self.queue.events().recv_deadline(until);
            if event.expect("an event").kind == kind {
                return;
            }
        }
    }

    /// Where to go and what to say there, or `None` when all are occupied.
    fn request_port(&self) -> Option<(SocketAddr, String)> {
        // What has happened so far is not waited for any more.
        self.queue.events().try_iter().for_each(drop);
        let answer = Visitor::at(self.portal).hear("<");
        let part = |element: &str| {
            let rest = answer.split_once(&format!("<{element}>"))?.1;
            Some(rest.split_once('<')?.0.to_owned())
        };
        let port = part("Port")?.parse().ok()?;
        let worker = SocketAddr::new(self.portal.ip(), port);
        Some((worker, part("HandshakePasscode")?))
    }

    fn take_seat(&self, (worker, passcode): &(SocketAddr, String)) -> Visitor {
        let mut visitor = Visitor::at(*worker);
        self.pause(0.3);
        visitor.say(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        visitor.hear("Connection successful");
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

    fn say(&mut self, line: &str) {
        // Whether it is still heard, the next answer shows.
        let _ = writeln!(self.0.get_mut(), "{line}");
    }

    fn message(&mut self, text: &str) {
        self.say(&format!("<CLIENT><message>{text}</message></CLIENT>"));
    }

    fn log_in(&mut self, name: &str) {
        self.say(&format!(
            "<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>"
        ));
        self.hear("WELCOME");
    }

    /// The next line that has `part` in it.
    fn hear(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.0.read_line(&mut line).expect(part) > 0 {
            if line.contains(part) {
                return line;
            }
            line.clear();
        }
        panic!("the connection was closed before {part:?}");
    }

    /// Reads what comes within `patience`; whether `part` was in it.
    fn has_heard(&mut self, part: &str, patience: Duration) -> bool {
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
