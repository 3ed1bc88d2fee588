//! `make demo`: a server, two clients that follow a script, and the output of all three, line by
//! line as it appears. It exits on its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_macros)]

use std::cell::RefCell;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The time limit for each line.
const PATIENCE: Duration = Duration::from_secs(120);

const SCRIPT: &[(&str, &str)] = &[
    ("alice", "Hello! Which port did you get?"),
    (
        "bob",
        "The one next to yours. My message goes from my socket to my worker's thread,",
    ),
    ("bob", "and that same thread writes it into your socket."),
    ("alice", "So there is a thread for each of us?"),
    (
        "bob",
        "Two, even: a worker that blocks in read(), and a timer that waits for ticks.",
    ),
    ("alice", "/me takes notes"),
    ("bob", "Bye!"),
];

struct Actor {
    name: &'static str,
    child: Child,
    keyboard: Option<ChildStdin>,
}

struct Stage {
    lines: Receiver<(&'static str, String)>,
    sender: Sender<(&'static str, String)>,
    /// The lines that were printed but not yet waited for: two programs may print in either order.
    printed: RefCell<Vec<(&'static str, String)>>,
    pace: Duration,
}

fn main() {
    // DEMO_PACE=0 runs it as fast as possible.
    let pace = std::env::var("DEMO_PACE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2.0);
    let (sender, lines) = channel();
    let stage = Stage {
        lines,
        sender,
        printed: RefCell::default(),
        pace: Duration::from_secs_f64(pace),
    };

    caption("A server starts: a portal, two workers with a timer each, and a ticker.");
    let mut server = stage.start(
        "server",
        "chatserver",
        &["0", "--workers", "2", "--show-messages", "--no-passwords"],
    );
    let portal = stage.wait_for("server", "portal ");
    let port = portal
        .split(':')
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap()
        .to_owned();
    stage.wait_for("server", "portal-udp");

    caption("Alice connects to the portal over TCP, and receives a worker's port and a passcode.");
    let mut alice = stage.start("alice", "chatclient", &["127.0.0.1", &port]);
    stage.wait_for("alice", "you have no partner");
    stage.pause();
    caption("Bob sends a datagram to the portal. He gets the seat next to Alice's.");
    let mut bob = stage.start(
        "bob",
        "chatclient",
        &["127.0.0.1", &port, "--portal", "udp"],
    );
    stage.wait_for("alice", "you are talking to");

    caption("They chat.");
    for (actor, line) in SCRIPT {
        stage.pause();
        let (speaker, listener) = if *actor == "alice" {
            (&mut alice, "bob")
        } else {
            (&mut bob, "alice")
        };
        println!("{}", column(actor, &format!("> {line}")));
        writeln!(speaker.keyboard.as_mut().unwrap(), "{line}").unwrap();
        stage.wait_for(listener, line.strip_prefix("/me ").unwrap_or(line));
    }
    stage.pause();

    caption("Bob leaves with TERMINATE: his passcode changes, and his port returns to the stack.");
    stage.finish(&mut bob);
    stage.wait_for("alice", "left; you have no partner");
    stage.pause();
    caption("Ctrl-C stops the server. Alice is notified, and every thread is joined.");
    interrupt(&server);
    stage.wait_for("alice", "shutting down");
    stage.finish(&mut alice);
    stage.wait_for("server", "Stopped.");
    let status = server.child.wait().expect("the server exits");
    assert!(status.success(), "the server exited with {status}");
    println!(
        "\nNext: run `make run-server`, then `make run-client` in two other terminals.\n\
         `make demo-board` shows the rules in a browser; `make lessons` explains them."
    );
}

impl Stage {
    fn start(&self, name: &'static str, program: &str, arguments: &[&str]) -> Actor {
        let mut child = Command::new(path_of(program))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "can't start {program} ({error}); run `make demo`, which builds the program \
                     first"
                )
            });
        let keyboard = child.stdin.take();
        let out = BufReader::new(child.stdout.take().unwrap());
        let sender = self.sender.clone();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send((name, line)).is_err() {
                    break;
                }
            }
        });
        Actor {
            name,
            child,
            keyboard,
        }
    }

    /// Prints the lines of all programs until `actor` has printed one that contains `part`, after
    /// the line that the previous call waited for.
    fn wait_for(&self, actor: &str, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.take_line(actor, part) {
                return line;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((name, line)) => self.print(name, line),
                Err(RecvTimeoutError::Timeout) => panic!("{actor} never printed {part:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("all programs have exited"),
            }
        }
    }

    fn print(&self, name: &'static str, line: String) {
        println!("{}", column(name, &line));
        self.printed.borrow_mut().push((name, line));
    }

    /// Returns the line of `actor` that contains `part`, and removes that line and all lines before
    /// it.
    fn take_line(&self, actor: &str, part: &str) -> Option<String> {
        let mut printed = self.printed.borrow_mut();
        let index = printed
            .iter()
            .position(|(name, line)| *name == actor && line.contains(part))?;
        let (_, line) = printed.remove(index);
        let mut seen = 0;
        printed.retain(|(name, _)| {
            seen += 1;
            seen > index || *name != actor
        });
        Some(line)
    }

    fn pause(&self) {
        thread::sleep(self.pace);
        while let Ok((name, line)) = self.lines.try_recv() {
            self.print(name, line);
        }
    }

    fn finish(&self, actor: &mut Actor) {
        drop(actor.keyboard.take());
        let status = actor.child.wait().expect("the program exits");
        println!("{}", column(actor.name, &format!("(exited, {status})")));
    }
}

/// The path of a program in this program's folder.
fn path_of(program: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.join(program)
}

fn interrupt(actor: &Actor) {
    let pid = actor.child.id().to_string();
    let status = Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .expect("kill");
    assert!(status.success());
}

fn caption(text: &str) {
    println!("\n{}", paint("1", &fold("== ", "   ", text)));
}

/// The width at which lines are wrapped, in columns.
const WIDTH: usize = 80;

/// `text` after `first`, wrapped between words; further lines begin with `next`.
fn fold(first: &str, next: &str, text: &str) -> String {
    let mut folded = first.to_owned();
    let mut column = first.chars().count();
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            folded.push('\n');
            folded.push_str(next);
            column = next.chars().count();
        } else if index > 0 {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += length;
    }
    folded
}

fn column(actor: &str, line: &str) -> String {
    let code = match actor {
        "alice" => "36",
        "bob" => "35",
        _ => "2",
    };
    let lines = fold("          ", "          ", line);
    let lines = lines.lines().enumerate().map(|(index, line)| {
        let name = if index == 0 { actor } else { "" };
        format!("{}{}", paint(code, &format!("{name:>7} |")), &line[9..])
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn paint(code: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !std::io::stdout().is_terminal() {
        text.to_owned()
    } else {
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
