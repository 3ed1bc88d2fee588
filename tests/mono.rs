//! Our server and our client with a C# program under Mono, which uses .NET's own `BinaryWriter` and
//! `BinaryReader` (seed 000, revisions 0, 1 and 2).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use portal_chat::server::{Portals, Settings};
use portal_chat::wire::Revision;
use support::{TestServer, running, temporary_file};

const REVISIONS: [(Revision, &str); 3] = [
    (Revision::V0, "0"),
    (Revision::V1, "1"),
    (Revision::V2, "2"),
];

/// Compiles the C# program. Returns `None`, after a message, if Mono is not installed. CI sets
/// REQUIRE_MONO, so that the test is not skipped by accident there.
fn compile_csharp(test: &str) -> Option<PathBuf> {
    let program = temporary_file(test).with_extension("exe");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mono/original.cs");
    let compiler = Command::new("mcs")
        .arg(format!("-out:{}", program.display()))
        .arg(source)
        .output();
    let has_mono = Command::new("mono").arg("--version").output().is_ok();
    match compiler {
        Ok(output) if has_mono => {
            assert!(output.status.success(), "mcs: {output:?}");
            Some(program)
        }
        _ => {
            assert!(
                std::env::var_os("REQUIRE_MONO").is_none(),
                "Mono is not installed"
            );
            // Written directly, because the test harness captures the output of `eprintln!`.
            let _ = writeln!(
                io::stderr(),
                "NOT TESTED: {test}, because Mono is not installed \
                 (apt-get install mono-mcs mono-runtime)"
            );
            None
        }
    }
}

struct Program {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take();
        let screen = BufReader::new(child.stdout.take().unwrap()).lines();
        Program {
            child,
            keyboard,
            screen,
        }
    }

    fn type_text(&mut self, line: &str) {
        writeln!(self.keyboard.as_mut().unwrap(), "{line}").unwrap();
    }

    fn next_line(&mut self) -> String {
        self.screen.next().expect("one more line").unwrap()
    }

    /// Skips lines until one contains `part`.
    fn wait_for_line(&mut self, part: &str) {
        while !self.next_line().contains(part) {}
    }

    /// Closes the input and waits for the program to exit.
    fn wait_for_exit(mut self) {
        drop(self.keyboard.take());
        self.screen.by_ref().for_each(drop);
        assert!(self.child.wait().unwrap().success());
    }
}

fn words(revision: Revision, plain: &str, xml: &str) -> String {
    if revision == Revision::V0 { plain } else { xml }.to_owned()
}

#[test]
fn csharp_clients_chat_through_our_server() {
    let Some(program) = compile_csharp("csharp_clients_chat_through_our_server") else {
        return;
    };
    for (revision, number) in REVISIONS {
        let server = TestServer::start(&Settings {
            workers: 2,
            compat: Some(revision),
            portals: if revision.asks_by_udp() {
                Portals::Udp
            } else {
                Portals::Tcp
            },
            idle_timeout: Some(Duration::from_secs(5)),
            ..Settings::default()
        });
        let portal = server.server.portal().port().to_string();
        let visit = |port: usize| {
            let mut guest = Program::start(
                Command::new("mono")
                    .arg(&program)
                    .args(["client", number, &portal]),
            );
            let ticket = guest.next_line();
            let port = server.worker(port);
            assert!(ticket.contains(&port.to_string()), "{ticket}");
            let plain = format!("SERVER{port}>>> Connection successful");
            let xml = format!(
                "<SERVER type='worker' port='{port}'><message>Connection successful</message></SERVER>"
            );
            assert_eq!(guest.next_line(), words(revision, &plain, &xml));
            guest
        };
        let (mut alice, mut bob) = (visit(0), visit(1));
        // A length prefix of one byte, one of two bytes, and more bytes than characters.
        for text in ["hello", &"x".repeat(300), "Grüße, 世界", "<no> XML &"] {
            alice.type_text(text);
            assert_eq!(bob.next_line(), text);
            bob.type_text(text);
            assert_eq!(alice.next_line(), text);
        }
        bob.type_text(&words(
            revision,
            "CLIENT>>> TERMINATE",
            "<CLIENT><command>TERMINATE</command></CLIENT>",
        ));
        assert_eq!(bob.next_line(), "(closed)");
        bob.wait_for_exit();
        server.wait_for_event("seat-free", Some(server.worker(1)));
        server.tick(6);
        let farewell = "<SERVER><command>IDLE TIMEOUT</command></SERVER>";
        assert_eq!(
            alice.next_line(),
            words(revision, "SERVER>>> IDLE TIMEOUT", farewell)
        );
        assert_eq!(alice.next_line(), "(closed)");
        alice.wait_for_exit();
        server.assert_all_ports_freed();
    }
    let _ = std::fs::remove_file(program);
}

#[test]
fn our_client_chats_with_a_csharp_server() {
    let Some(program) = compile_csharp("our_client_chats_with_a_csharp_server") else {
        return;
    };
    for (revision, number) in REVISIONS {
        let mut server =
            Program::start(Command::new("mono").arg(&program).args(["server", number]));
        let portal = server.next_line();
        let portal = portal.strip_prefix("portal ").unwrap();
        let mut client = Program::start(running::program(env!("CARGO_BIN_EXE_chatclient")).args([
            "127.0.0.1",
            portal,
            "--compat",
            number,
        ]));
        let handshake = server.next_line();
        assert!(handshake.contains("123456789"), "{handshake}");
        for text in ["hello", &"x".repeat(300), "Grüße, 世界"] {
            client.type_text(text);
            let xml = format!("<CLIENT><message>{text}</message></CLIENT>");
            assert_eq!(server.next_line(), words(revision, text, &xml));
            server.type_text(&words(revision, text, &xml));
            client.wait_for_line(text);
        }
        client.wait_for_exit();
        let goodbye = "<CLIENT><command>TERMINATE</command></CLIENT>";
        assert_eq!(
            server.next_line(),
            words(revision, "CLIENT>>> TERMINATE", goodbye)
        );
        assert_eq!(server.next_line(), "(closed)");
        server.wait_for_exit();
    }
    let _ = std::fs::remove_file(program);
}
