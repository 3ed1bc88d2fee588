//! `make demo-board`: a server with its board, and visitors that act out the nine rules of seed 000
//! in turn, with a caption for each. It starts once a viewer watches, and repeats until Ctrl-C.
//!
//! `DEMO_PACE=2` is twice as fast as the default of 4 seconds per step (and speeds up the tick,
//! too). `DEMO_ROUNDS=1` stops it after one round. `--events FILE` records it for
//! `chatserver replay FILE`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    unreachable_pub,
    dead_code
)]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::{Clock, Tick, Ticker};
use portal_chat::event::{
    CoreEvent, EventQueue, Events, ReaderThread, ServerEvent, start_event_file,
};
use portal_chat::net::threads::Roster;
use portal_chat::server::{Server, Settings};

#[path = "../support/patience.rs"]
mod patience;
mod visitor;
pub use patience::PATIENCE;
use visitor::{Ticket, Visitor};

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
                "demo-board: the only option is --events FILE, which records the run in FILE"
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
            "board    http://{board}/  open this in a browser to start the demo; press Ctrl-C to stop it"
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
                "demo-board: can't listen on {address} for the board ({error}): BOARD=127.0.0.1:0 \
                 chooses a free port"
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
/// the next tick follows one period after `ticked` has returned.
pub fn perform(
    address: SocketAddr,
    port: u16,
    step: Duration,
    rounds: u64,
    recording: Option<&Path>,
    announce: impl FnOnce(SocketAddr, SocketAddr),
    ticked: impl Fn(Tick) + Send + 'static,
) -> Result<(), DemoError> {
    // The board shows every thread from here on.
    Roster::of_this_thread();
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
        emitter.emit(|| CoreEvent::Ticked { told: reported });
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
        let workers: Vec<String> = self.workers.iter().map(u16::to_string).collect();
        self.rule(
            "Rule 1: a portal and four workers. Each thread waits for a client",
            &format!("portal {}", workers.join(" ")),
        );
        self.pause(2.0);
        self.rules_2_and_3();
        self.messages();
        self.rules_4_and_5();

        self.rule(
            "Rule 6: carol is silent for too long, so she receives IDLE TIMEOUT",
            "ticker top-port",
        );
        let mut carol = self.seat_called("carol");
        carol.receive("IDLE TIMEOUT");
        self.wait_for("seat-free");
        self.pause(1.0);
        self.rule(
            "Rule 6, too: dora is active, but her total time runs out",
            "ticker top-port",
        );
        let mut dora = self.seat_called("dora");
        let mut number = 0;
        while !dora.receives_within("TOTAL TIME TIMEOUT", self.step / 2) {
            number += 1;
            dora.message(&format!("I could go on, {number}"));
        }
        self.pause(1.0);
        self.rule_7();

        self.rule(
            "Rule 8: each tick brings hal closer to his timeout",
            "ticker top-port",
        );
        let mut hal = self.seat_called("hal");
        // The tick that the timer wants goes to the timer, and ends the visit.
        hal.receive("IDLE TIMEOUT");
        self.wait_for("seat-free");
        self.pause(1.0);

        self.rule("Rule 9: zoe sends TERMINATE to leave", "stack top-port");
        let mut zoe = self.seat_called("zoe");
        self.pause(0.8);
        zoe.command("TERMINATE", "");
        self.wait_for("seat-free");
        self.pause(1.5);
        self.restore_the_stack();
    }

    /// Brings the ports on the stack into their first order, in which two clients in a row are
    /// partners.
    fn restore_the_stack(&self) {
        self.rule("The end. The show begins again", "stack");
        let mut seated: Vec<(u16, Visitor)> = Vec::new();
        for _ in &self.workers {
            let ticket = self.request_port().expect("a port");
            seated.push((ticket.0.port(), self.take_seat(&ticket)));
        }
        seated.sort_by_key(|(port, _)| *port);
        while let Some((_, visitor)) = seated.pop() {
            self.queue.events().try_iter().for_each(drop);
            visitor.leave();
            self.wait_for("seat-free");
        }
        self.pause(1.0);
    }

    fn rules_2_and_3(&self) {
        self.rule(
            "Rule 2: the portal gives a client the top port of the stack",
            "stack portal",
        );
        let ticket = self.request_port().expect("a port");
        self.pause(0.6);
        let port = ticket.0.port();
        self.caption(
            "Rule 3: the client connects to the worker on that port",
            &port.to_string(),
        );
        let mut alice = self.take_seat(&ticket);
        alice.log_in("alice");
        self.pause(0.8);
        let next = self.server.free_ports()[0];
        self.caption(
            "Rule 3, too: partners talk. The worker that reads also writes",
            &format!("{port} {next}"),
        );
        let mut bob = self.seat();
        bob.log_in("bob");
        self.pause(0.8);
        for (speaker, text) in [(&mut alice, "hello bob"), (&mut bob, "hello alice")] {
            speaker.message(text);
            self.pause(0.6);
        }
        alice.message("from my socket to yours");
        self.pause(0.8);
        self.end_act(vec![alice, bob]);
    }

    fn messages(&self) {
        self.rule(
            "More messages: to everyone, to one user, to a room",
            "rooms",
        );
        let names = ["alice", "bob", "carol"];
        let [mut alice, mut bob, mut carol] = names.map(|name| self.seat_called(name));
        self.pause(0.3);
        // Each of them sends a message; otherwise, one would be idle for too long.
        alice.command("PM", "<message>hello, everyone</message>");
        self.pause(0.5);
        bob.command("DM", "<to>carol</to><message>only for you</message>");
        self.pause(0.5);
        for member in [&mut alice, &mut carol] {
            member.command("JOIN", "<room>lobby</room><here/>");
            member.receive("JOINED");
        }
        self.pause(0.4);
        carol.command("SAY", "<room>lobby</room><message>hello, lobby</message>");
        self.pause(0.6);
        self.end_act(vec![alice, bob, carol]);
    }

    fn rules_4_and_5(&self) {
        self.rule(
            "Rule 4: if a client does not connect, its port returns to the stack",
            "stack",
        );
        self.request_port().expect("a port");
        self.wait_for("no-show");
        self.pause(1.0);

        let last = self.workers[3];
        self.rule(
            "Rule 5: a client without a ticket is rejected",
            &last.to_string(),
        );
        let mut stray = Visitor::at(SocketAddr::new(self.portal.ip(), last));
        stray.receive("Wrong handshake passcode");
        self.pause(1.0);
        self.rule(
            "Rules 5a and 5b: each request gets a new passcode, which is sent once",
            "portal",
        );
        let ticket = self.request_port().expect("a port");
        self.pause(0.5);
        let mut carol = self.take_seat(&ticket);
        carol.log_in("carol");
        self.pause(0.8);
        // Another request gets another port, and another passcode.
        self.request_port().expect("a port");
        self.pause(0.8);
        self.end_act(vec![carol]);
        self.rule(
            "Rule 5c: a client has only one attempt. A wrong passcode ends its visit",
            "portal top-port",
        );
        let (worker, passcode) = self.request_port().expect("a port");
        self.pause(0.5);
        let mut dave = Visitor::at(worker);
        dave.passcode("guessed");
        dave.receive("Wrong handshake passcode");
        self.pause(0.8);
        let look = worker.port().to_string();
        self.caption("Rule 5d: the old passcode no longer admits a client", &look);
        // Without a ticket for this port, the passcode would not even be read.
        self.request_port().expect("a port");
        self.pause(0.3);
        let mut again = Visitor::at(worker);
        again.passcode(&passcode);
        again.receive("Wrong handshake passcode");
        self.pause(1.0);
    }

    fn rule_7(&self) {
        self.rule(
            "Rule 7: all workers are occupied, so the portal sends FULL",
            "stack portal",
        );
        let mut alice = self.seat();
        let mut bob = self.seat();
        let erin = self.seat();
        let mut frank = self.seat();
        assert!(self.request_port().is_none(), "FULL");
        self.pause(0.8);
        // Otherwise they would time out before the rule ends.
        for visitor in [&mut alice, &mut bob, &mut frank] {
            visitor.message("I am staying");
        }
        self.caption(
            "Rule 7: another client leaves, so the one that asks again gets its port",
            "stack portal",
        );
        erin.leave();
        self.pause(0.5);
        let gina = self.seat_called("gina");
        self.pause(0.8);
        self.end_act(vec![alice, bob, frank, gina]);
    }

    /// Shows the caption of a rule, after all clients of the previous rule have left. In `look`,
    /// `top-port` stands for the port that the next client gets.
    fn rule(&self, text: &str, look: &str) {
        while self.server.free_ports().len() < self.workers.len() {
            thread::sleep(self.step / 20);
        }
        self.pause(0.5);
        let top = self.server.free_ports()[0].to_string();
        self.caption(text, &look.replace("top-port", &top));
    }

    /// Shows a caption, and marks the part of the board that the next act is about.
    fn caption(&self, text: &str, look: &str) {
        self.events.emit(|| ServerEvent::Caption {
            text: text.to_owned(),
            look: Some(look.to_owned()),
        });
        self.pause(0.25);
    }

    /// Ends an act. The act's clients leave afterwards, so a viewer who pauses here still sees
    /// them.
    fn end_act(&self, actors: Vec<Visitor>) {
        self.events.emit(|| ServerEvent::ActEnded {});
        self.pause(0.5);
        actors.into_iter().for_each(Visitor::leave);
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

    fn request_port(&self) -> Option<Ticket> {
        // Discard the events so far.
        self.queue.events().try_iter().for_each(drop);
        visitor::request_port(self.portal)
    }

    fn take_seat(&self, (worker, passcode): &Ticket) -> Visitor {
        let mut visitor = Visitor::at(*worker);
        self.pause(0.3);
        visitor.passcode(passcode);
        visitor.receive("Connection successful");
        visitor
    }

    fn seat(&self) -> Visitor {
        self.take_seat(&self.request_port().expect("a port"))
    }

    fn seat_called(&self, name: &str) -> Visitor {
        let mut visitor = self.seat();
        visitor.log_in(name);
        visitor
    }
}
