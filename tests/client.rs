//! The client program, driven through pipes like a script would, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use portal_chat::event::{End, What};
use portal_chat::server::{Portals, Settings};
use support::{TestServer, message};

struct Program {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: BufReader<ChildStdout>,
}

impl Program {
    fn start(server: &TestServer, options: &[&str]) -> Program {
        let portal = server.server.portal();
        let place = [portal.ip().to_string(), portal.port().to_string()];
        Program::start_with(
            place
                .iter()
                .map(String::as_str)
                .chain(options.iter().copied()),
        )
    }

    fn start_with<'a>(arguments: impl Iterator<Item = &'a str>) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chatclient"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take();
        let screen = BufReader::new(child.stdout.take().unwrap());
        Program {
            child,
            keyboard,
            screen,
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Reads lines until one contains `part`, and returns it.
    fn shows(&mut self, part: &str) -> String {
        let mut passed = String::new();
        loop {
            let mut line = String::new();
            if self.screen.read_line(&mut line).unwrap() == 0 {
                panic!("the client ended without showing {part:?}; it showed:\n{passed}");
            }
            if line.contains(part) {
                return line;
            }
            passed += &line;
        }
    }

    /// Ends the input and returns the exit code and what was left to read on both outputs.
    fn ends(mut self) -> (i32, String) {
        drop(self.keyboard.take());
        let mut rest = String::new();
        self.screen.read_to_string(&mut rest).unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        (self.child.wait().unwrap().code().unwrap(), rest)
    }
}

#[test]
fn two_clients_talk_and_leave_in_order() {
    let server = TestServer::with_workers(2);
    let mut alice = Program::start(&server, &[]);
    alice.shows("nobody is beside you");
    let mut bob = Program::start(&server, &["--portal", "udp"]);
    bob.shows("you are talking to");
    alice.shows("you are talking to");
    alice.types("hello <bob> & all");
    assert_eq!(
        bob.shows("hello"),
        format!("{}: hello <bob> & all\n", server.worker(0))
    );
    bob.types("/me waves");
    assert_eq!(
        alice.shows("waves"),
        format!("* {} waves\n", server.worker(1))
    );
    bob.types("/help");
    bob.shows("/quit");
    bob.types("/quit");
    assert_eq!(bob.ends().0, 0);
    alice.shows("has left");
    assert_eq!(
        alice.ends().0,
        0,
        "the end of the input is a way to leave, too"
    );
    for _ in 0..2 {
        server.wait_for("TERMINATE", |what| {
            matches!(
                what,
                What::Left {
                    end: End::Terminate,
                    ..
                }
            )
        });
    }
    server.assert_all_ports_come_back();
}

#[test]
fn the_client_finds_out_by_itself_that_there_is_one_port() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..Settings::default()
    });
    let mut alice = Program::start(&server, &["alice"]);
    alice.shows("you are alice now");
    let mut bob = Program::start(&server, &[]);
    bob.shows("you are talking to alice");
    bob.types("%%alice%is plain chat from somebody without a name");
    alice.shows("2: %alice%is plain chat");
    let (code, said) = Program::start(&server, &["--retry", "0"]).ends();
    assert_eq!(code, 3, "{said}");
    assert_eq!((alice.ends().0, bob.ends().0), (0, 0));
}

#[test]
fn a_full_server_is_given_up_at_once_when_told_so() {
    let server = TestServer::with_workers(2);
    let _guests = (server.seat(), server.seat());
    let (code, said) = Program::start(&server, &["--retry", "0"]).ends();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("full"), "{said}");
}

#[test]
fn a_client_that_waits_gets_in_when_somebody_leaves() {
    let server = TestServer::with_workers(2);
    let (first, _second) = (server.seat(), server.seat());
    let mut waiting = Program::start(&server, &[]);
    server.wait_for_event("full", None);
    drop(first);
    waiting.shows("you are talking to");
    assert_eq!(waiting.ends().0, 0);
}

#[test]
fn the_reason_is_shown_when_the_server_ends_it() {
    let settings = Settings {
        workers: 2,
        portals: Portals::Both,
        idle_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    };
    let server = TestServer::start(&settings);
    let mut idle = Program::start(&server, &["--reconnect"]);
    idle.shows("nobody is beside you");
    server.tick(4);
    idle.shows("you have said nothing for too long");
    assert_eq!(
        idle.ends().0,
        1,
        "and it does not come back, because it was not the link"
    );

    let mut shut_down = Program::start(&server, &[]);
    shut_down.shows("nobody is beside you");
    server.server.stop();
    shut_down.shows("shutting down");
    assert_eq!(shut_down.ends().0, 1);
}

#[test]
fn no_control_character_from_the_network_reaches_the_terminal() {
    let server = TestServer::with_workers(2);
    let (mut mallory, _) = server.seat();
    let mut victim = Program::start(&server, &[]);
    mallory.line_with("PARTNER JOINED");
    mallory.send_line(&message(
        "\u{9b}31mred\u{202e}&#10;mallory: \u{7f}second line",
    ));
    let first = victim.shows("red");
    let second = victim.shows("second");
    assert!(
        !(first + second.trim_end())
            .trim_end()
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}'))
    );
    assert!(
        second.starts_with("    "),
        "a second line can't pass for one of somebody else: {second}"
    );
}

#[test]
fn what_is_too_long_is_not_sent() {
    let server = TestServer::with_workers(2);
    let mut alice = Program::start(&server, &[]);
    alice.shows("nobody is beside you");
    alice.types(&"x".repeat(9000));
    alice.types("short");
    alice.shows("nobody is beside you");
    let (code, said) = alice.ends();
    assert_eq!(code, 1, "a script learns that something was not sent");
    assert!(said.contains("too long"), "on standard error: {said}");
}

#[test]
fn a_bad_option_and_a_missing_server_are_told_apart_by_the_exit_code() {
    let (code, said) = Program::start_with(["--frobnicate"].into_iter()).ends();
    assert_eq!(code, 2);
    assert!(
        said.contains("--frobnicate") && said.contains("--help"),
        "{said}"
    );
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port().to_string();
    let (code, said) = Program::start_with(["127.0.0.1", port.as_str()].into_iter()).ends();
    assert_eq!(code, 1);
    assert!(said.contains("make run-server"), "{said}");
}

#[test]
fn the_server_program_says_what_to_do_next_and_stops_with_code_0() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chatserver"))
        .args(["0", "--workers", "2", "--no-passwords"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("Ctrl-C ends the server") {
        assert_ne!(screen.read_line(&mut shown).unwrap(), 0, "{shown}");
    }
    assert!(shown.contains("make run-client PORT="), "{shown}");
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    screen.read_to_string(&mut shown).unwrap();
    assert!(
        shown.contains("shutting-down") && shown.trim_end().ends_with("Stopped."),
        "{shown}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_trace_that_nobody_reads_does_not_end_the_client() {
    let server = TestServer::with_workers(2);
    let portal = server.server.portal().port().to_string();
    let nowhere = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_chatclient"))
        .args(["127.0.0.1", &portal, "--trace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(nowhere)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_taken_port_is_one_sentence_and_code_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_chatserver"))
        .arg(&port)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&port) && said.contains("PORT"), "{said}");
}
