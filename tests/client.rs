//! The client program, driven through pipes as a script would, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use portal_chat::server::{Portals, Settings};
use portal_chat::wire::CloseReason;
use support::running::{Running, program};
use support::sentences;
use support::{TestServer, message, without_timeouts};

struct Program {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: BufReader<ChildStdout>,
}

impl Program {
    fn start(server: &TestServer, options: &[&str]) -> Program {
        let portal = server.server.portal();
        let address = [portal.ip().to_string(), portal.port().to_string()];
        Program::start_with(
            address
                .iter()
                .map(String::as_str)
                .chain(options.iter().copied()),
        )
    }

    fn start_with<'a>(arguments: impl Iterator<Item = &'a str>) -> Program {
        let mut child = program(env!("CARGO_BIN_EXE_chatclient"))
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

    fn type_text(&mut self, line: &str) {
        writeln!(self.keyboard.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Reads lines until one contains `part`, and returns it.
    fn wait_for_line(&mut self, part: &str) -> String {
        let mut passed = String::new();
        loop {
            let mut line = String::new();
            if self.screen.read_line(&mut line).unwrap() == 0 {
                panic!("the client exited without printing {part:?}; its output:\n{passed}");
            }
            if line.contains(part) {
                return line;
            }
            passed += &line;
        }
    }

    /// Closes the input, and returns the exit code and the rest of both outputs.
    fn wait_for_exit(mut self) -> (i32, String) {
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

/// A server without timeouts, so that a client may take any time to start.
fn with_workers(workers: usize) -> TestServer {
    TestServer::start(&Settings {
        workers,
        ..without_timeouts()
    })
}

#[test]
fn two_clients_chat_and_leave() {
    let server = with_workers(2);
    let mut alice = Program::start(&server, &[]);
    alice.wait_for_line(sentences::YOU_HAVE_NO_PARTNER);
    let mut bob = Program::start(&server, &["--portal", "udp"]);
    bob.wait_for_line(sentences::YOU_ARE_TALKING_TO);
    alice.wait_for_line(sentences::YOU_ARE_TALKING_TO);
    alice.type_text("hello <bob> & all");
    assert_eq!(
        bob.wait_for_line("hello"),
        format!("{}: hello <bob> & all\n", server.worker(0))
    );
    bob.type_text("/me waves");
    assert_eq!(
        alice.wait_for_line("waves"),
        format!("* {} waves\n", server.worker(1))
    );
    bob.type_text("/help");
    bob.wait_for_line("/quit");
    bob.type_text("/quit");
    assert_eq!(bob.wait_for_exit().0, 0);
    alice.wait_for_line(sentences::LEFT_YOU_HAVE_NO_PARTNER_NOW);
    assert_eq!(
        alice.wait_for_exit().0,
        0,
        "the end of the input is a way to leave, too"
    );
    for _ in 0..2 {
        server.wait_for_close(CloseReason::Terminate, None);
    }
    server.assert_all_ports_freed();
}

#[test]
fn client_detects_a_single_port() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..without_timeouts()
    });
    let mut alice = Program::start(&server, &["alice"]);
    alice.wait_for_line(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    let mut bob = Program::start(&server, &[]);
    bob.wait_for_line(sentences::YOU_ARE_TALKING_TO_ALICE);
    bob.type_text("%%alice%is plain chat from somebody without a name");
    alice.wait_for_line("2: %alice%is plain chat");
    let (code, output_text) = Program::start(&server, &["--retry", "0"]).wait_for_exit();
    assert_eq!(code, 3, "{output_text}");
    assert_eq!((alice.wait_for_exit().0, bob.wait_for_exit().0), (0, 0));
}

#[test]
fn no_retry_exits_at_once_if_full() {
    let server = with_workers(2);
    let _guests = (server.seat(), server.seat());
    let (code, output_text) = Program::start(&server, &["--retry", "0"]).wait_for_exit();
    assert_eq!(code, 3, "{output_text}");
    assert!(output_text.contains("full"), "{output_text}");
}

#[test]
fn waiting_client_gets_a_freed_seat() {
    let server = with_workers(2);
    let (first, _second) = (server.seat(), server.seat());
    let mut waiting = Program::start(&server, &[]);
    server.wait_for_event("full", None);
    drop(first);
    waiting.wait_for_line(sentences::YOU_ARE_TALKING_TO);
    assert_eq!(waiting.wait_for_exit().0, 0);
}

#[test]
fn client_shows_the_reason_for_the_end() {
    let settings = Settings {
        workers: 2,
        portals: Portals::Both,
        idle_timeout: Some(Duration::from_secs(3)),
        ..without_timeouts()
    };
    let server = TestServer::start(&settings);
    let mut idle = Program::start(&server, &["--reconnect"]);
    idle.wait_for_line(sentences::YOU_HAVE_NO_PARTNER);
    server.tick(4);
    idle.wait_for_line(sentences::YOU_WERE_IDLE_FOR_TOO_LONG);
    assert_eq!(
        idle.wait_for_exit().0,
        1,
        "and it does not come back, because it was not the link"
    );

    let mut shut_down = Program::start(&server, &[]);
    shut_down.wait_for_line(sentences::YOU_HAVE_NO_PARTNER);
    server.server.stop();
    shut_down.wait_for_line("shutting down");
    assert_eq!(shut_down.wait_for_exit().0, 1);
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let server = with_workers(2);
    let (mut mallory, _) = server.seat();
    let mut victim = Program::start(&server, &[]);
    mallory.line_with("PARTNER JOINED");
    mallory.send_line(&message(
        "\u{9b}31mred\u{202e}&#10;mallory: \u{7f}second line",
    ));
    let first = victim.wait_for_line("red");
    let second = victim.wait_for_line("second");
    assert!(
        !(first + second.trim_end())
            .trim_end()
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}'))
    );
    assert!(
        second.starts_with("    "),
        "a second line can't pass for another user's: {second}"
    );
}

#[test]
fn oversized_message_is_not_sent() {
    let server = with_workers(2);
    let mut alice = Program::start(&server, &[]);
    alice.wait_for_line(sentences::YOU_HAVE_NO_PARTNER);
    alice.type_text(&"x".repeat(9000));
    alice.type_text("short");
    alice.wait_for_line(sentences::YOU_HAVE_NO_PARTNER);
    let (code, output_text) = alice.wait_for_exit();
    assert_eq!(code, 1, "a script learns that something was not sent");
    assert!(
        output_text.contains("too long"),
        "on standard error: {output_text}"
    );
}

#[test]
fn exit_code_distinguishes_bad_option_and_missing_server() {
    let (code, output_text) = Program::start_with(["--frobnicate"].into_iter()).wait_for_exit();
    assert_eq!(code, 2);
    assert!(
        output_text.contains("--frobnicate") && output_text.contains("--help"),
        "{output_text}"
    );
    let closed_port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = closed_port.local_addr().unwrap().port().to_string();
    let (code, output_text) =
        Program::start_with(["127.0.0.1", port.as_str()].into_iter()).wait_for_exit();
    assert_eq!(code, 1);
    assert!(output_text.contains("make run-server"), "{output_text}");
}

#[test]
fn server_prints_the_next_step() {
    let mut child = Running::start(
        program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--workers", "2", "--no-passwords"])
            .stdout(Stdio::piped()),
    );
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains(sentences::CTRL_C_TO_STOP_THE_SERVER) {
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
fn unwritable_trace_does_not_end_the_client() {
    let server = with_workers(2);
    let portal = server.server.portal().port().to_string();
    let nowhere = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = program(env!("CARGO_BIN_EXE_chatclient"))
        .args(["127.0.0.1", &portal, "--trace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(nowhere)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn port_in_use_exits_with_code_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = program(env!("CARGO_BIN_EXE_chatserver"))
        .arg(&port)
        .output()
        .unwrap();
    let output_text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{output_text}");
    assert_eq!(output_text.lines().count(), 1, "{output_text}");
    assert!(
        output_text.contains(&port) && output_text.contains("PORT"),
        "{output_text}"
    );
}

#[test]
fn conflicting_ports_exit_with_code_2() {
    for (arguments, named) in [
        (&["8080", "--web"][..], ["PORT 8080", "--web"]),
        (&["8049", "--board"], ["--workers 4", "--board"]),
        (
            &["--web", "127.0.0.1:8050", "--board", "--check"],
            ["--web", "--board"],
        ),
    ] {
        let mut server = program(env!("CARGO_BIN_EXE_chatserver"));
        let output = server.args(arguments).output().unwrap();
        let output_text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output_text}");
        assert_eq!(output_text.lines().count(), 1, "{output_text}");
        assert!(
            named.iter().all(|name| output_text.contains(name)),
            "{output_text}"
        );
        assert!(!output_text.contains("process"), "{output_text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

/// Runs the client with all of its input available from the start, as in a pipe. Returns the exit
/// code, standard output and standard error.
fn script(server: &TestServer, options: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut program = Program::start(server, options);
    let mut keyboard = program.keyboard.take().unwrap();
    // A client that exits early does not read everything.
    let _ = keyboard.write_all(input);
    drop(keyboard);
    let (mut out, mut err) = (String::new(), String::new());
    // A second request for the users waits for a tick.
    server.with_running_clock(|| {
        program.screen.read_to_string(&mut out).unwrap();
        let mut stderr = program.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
    });
    (program.child.wait().unwrap().code().unwrap(), out, err)
}

#[test]
fn script_receives_all_replies() {
    let server = with_workers(4);
    for _ in 0..20 {
        let (code, out, err) = script(&server, &["alice"], b"/names\n");
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("online (1): alice"), "{out}");
    }
    server.assert_all_ports_freed();
    let (mut bob, his) = server.seat();
    bob.send_line(&support::login("bob"));
    bob.line_with("WELCOME");
    let input = b"/msg bob one\n/msg nobody two\n/all three\nfour";
    let (code, out, _) = script(&server, &["alice"], input);
    assert_eq!(code, 1, "something was refused: {out}");
    assert_eq!(out.matches("* sent\n").count(), 2, "{out}");
    assert!(
        out.contains(sentences::NOBODY_IS_NOT_ONLINE_NAMES_LISTS_THE_USERS),
        "{out}"
    );
    for text in ["one", "three", "four"] {
        bob.line_with(&format!("<message>{text}</message>"));
    }
    server.assert_all_ports_freed_except(&[his]);
}

/// `/history` shows the conversation to which typed lines are sent, with the user's own messages.
#[test]
fn history_shows_the_conversation_in_the_prompt() {
    let server = TestServer::start(&Settings {
        accounts: Some(support::temporary_file("client-history")),
        ..without_timeouts()
    });
    let (mut bob, _) = server.seat();
    bob.send_line(&support::login("bob"));
    bob.line_with("PASSWORD");
    bob.send_line(&support::password("sesame"));
    bob.line_with("WELCOME");
    let secret = support::temporary_file("client-history-secret");
    std::fs::write(&secret, "sesame\n").unwrap();
    let options = ["alice", "--password-file", secret.to_str().unwrap()];
    let input =
        b"/all one\n/history\n/msg bob two\n/query bob\n/history 5\n/query carol\n/history\n";
    let (code, out, err) = script(&server, &options, input);
    std::fs::remove_file(&secret).unwrap();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let all = out
        .split_once("* the last message to everyone:\n")
        .unwrap()
        .1;
    let (first, _) = all.split_once('\n').unwrap();
    assert!(
        first.starts_with("[earlier, ") && first.ends_with("] alice to all: one"),
        "{out}"
    );
    let direct = out.split_once("* the last message with bob:\n").unwrap().1;
    let (first, _) = direct.split_once('\n').unwrap();
    assert!(first.ends_with("] alice to bob: two"), "{out}");
    assert!(
        out.contains(sentences::THE_SERVER_HAS_NO_OLD_MESSAGES_WITH_CAROL),
        "{out}"
    );
}

#[test]
fn script_joins_a_room_and_sends() {
    let server = with_workers(2);
    let input = b"/join lobby\n/send lobby one\n/to lobby\ntwo\n/leave lobby\nthree\n/to\n";
    let (code, out, err) = script(&server, &["alice"], input);
    assert_eq!(
        out.matches("[lobby] nobody else is in this room").count(),
        2,
        "{out}"
    );
    assert!(out.contains(sentences::YOU_LEFT_LOBBY), "{out}");
    assert!(
        err.contains(sentences::NOT_SENT_YOU_ARE_NO_LONGER_IN_LOBBY),
        "a line for a room goes to no other recipient: {err}"
    );
    assert_eq!(code, 1);
    server.assert_all_rooms_end();
}

#[test]
fn unknown_commands_in_a_pipe_are_text() {
    let server = with_workers(2);
    let (mut bob, _) = server.seat();
    let input = b"/usr/bin\nPM\nDM\n// a comment\n\ttab\t\nEX\n/etc/passwd is a file\n";
    let (code, out, err) = script(&server, &[], input);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    bob.line_with("PARTNER JOINED");
    for text in [
        "/usr/bin",
        "PM",
        "DM",
        "// a comment",
        "&#9;tab&#9;",
        "EX",
        "/etc/passwd is a file",
    ] {
        assert!(
            bob.line()
                .ends_with(&format!("<message>{text}</message></CLIENT>")),
            "{text}"
        );
    }
    let (code, out, _) = script(
        &server,
        &["alice", "--commands"],
        b"PM\nto all\nDM\nEX\nnever said\n",
    );
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("not delivered") && out.contains(sentences::NOBODY_ELSE_IS_LOGGED_IN),
        "{out}"
    );
    bob.line_with("<partner>alice</partner>");
}

#[test]
fn last_line_without_line_feed_is_sent() {
    let server = with_workers(2);
    let (mut bob, _) = server.seat();
    let (code, _, _) = script(&server, &[], b"whole\nhalf");
    assert_eq!(code, 0);
    bob.line_with("whole");
    bob.line_with("half");
    server.wait_for_event("seat-free", None);
    // A plain socket that sends an unterminated message gets the same result.
    let (port, passcode) = support::ticket(&server.request_port());
    let mut nc = server.connect(port);
    nc.send_line(&support::handshake(&passcode));
    nc.send(message("the end").as_bytes());
    nc.stream.shutdown(std::net::Shutdown::Write).unwrap();
    bob.line_with("the end");
    assert!(nc.rest().contains("Connection successful"));
}

#[test]
fn tabs_and_odd_characters_survive_a_pipe() {
    let server = with_workers(2);
    let mut bob = Program::start(&server, &[]);
    bob.wait_for_line(sentences::YOU_HAVE_NO_PARTNER);
    let (code, _, _) = script(
        &server,
        &[],
        b"a\tb\n\tindented\nodd \xef\xbf\xbd\xc2\x9b\n",
    );
    assert_eq!(code, 0);
    assert!(bob.wait_for_line("a\tb").ends_with(": a\tb\n"));
    bob.wait_for_line(": \tindented");
    bob.wait_for_line("odd \u{fffd}\u{fffd}");
}

#[test]
fn client_exits_if_its_reader_closes() {
    let server = with_workers(2);
    let portal = server.server.portal().port().to_string();
    let mut child = program(env!("CARGO_BIN_EXE_chatclient"))
        .args(["127.0.0.1", &portal])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    screen.read_line(&mut first).unwrap();
    assert!(first.contains(sentences::CONNECTED_ON_PORT), "{first}");
    drop(screen);
    // The next output has no reader.
    let (_bob, _) = server.seat();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Runs the client without a terminal, as cron does.
fn without_a_terminal(
    server: &TestServer,
    options: &[&str],
    password: Option<&str>,
) -> (i32, String) {
    let portal = server.server.portal().port().to_string();
    let mut command = Command::new("setsid");
    command
        .args(["-w", env!("CARGO_BIN_EXE_chatclient"), "127.0.0.1", &portal])
        .args(options)
        .env_remove("CHAT_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(password) = password {
        command.env("CHAT_PASSWORD", password);
    }
    let mut child = command.spawn().unwrap();
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(b"first line\nsecond line\n");
    let output = server
        .with_running_clock(|| child.wait_with_output())
        .unwrap();
    let output_text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output_text)
}

#[test]
fn chat_line_is_never_used_as_password() {
    let server = TestServer::start(&Settings {
        accounts: Some(support::temporary_file("no-terminal")),
        ..without_timeouts()
    });
    let (code, output_text) = without_a_terminal(&server, &["alice"], None);
    assert_eq!(code, 1, "{output_text}");
    assert!(output_text.contains("--password-file"), "{output_text}");
    let file = support::temporary_file("password");
    std::fs::write(&file, "secret\nmore\n").unwrap();
    let (code, output_text) = without_a_terminal(
        &server,
        &["alice", "--password-file", file.to_str().unwrap()],
        None,
    );
    assert!(
        output_text.contains(sentences::YOU_ARE_LOGGED_IN_AS_ALICE),
        "{output_text}"
    );
    assert_eq!(code, 1, "there was no partner: {output_text}");
    server.wait_for_event("registered", None);
    let (_, output_text) = without_a_terminal(&server, &["alice"], Some("secret"));
    assert!(
        output_text.contains(sentences::YOU_ARE_LOGGED_IN_AS_ALICE),
        "{output_text}"
    );
    let (code, output_text) = without_a_terminal(&server, &["alice"], Some("first line"));
    assert_eq!(code, 1, "{output_text}");
    assert!(
        output_text.contains(sentences::WRONG_PASSWORD_FOR_ALICE),
        "{output_text}"
    );
    let _ = std::fs::remove_file(file);
}

#[test]
fn saved_settings_apply_only_without_a_server_argument() {
    let server = with_workers(4);
    let file = support::temporary_file("client.conf");
    let config = file.to_str().unwrap().to_owned();
    let (code, out, err) = script(
        &server,
        &["alice", "--save", "--config", &config],
        b"/names\n",
    );
    assert_eq!(code, 0, "{out}{err}");
    let run = |options: &[&str]| {
        let mut program = Program::start_with(options.iter().copied());
        drop(program.keyboard.take());
        program.wait_for_exit().1
    };
    let with = run(&["--config", &config]);
    assert!(
        with.contains(sentences::YOU_ARE_LOGGED_IN_AS_ALICE),
        "{with}"
    );
    let portal = server.server.portal().port().to_string();
    let without = run(&["127.0.0.1", &portal, "--config", &config]);
    assert!(
        !without.contains(sentences::YOU_ARE_LOGGED_IN_AS_ALICE),
        "{without}"
    );
    let _ = std::fs::remove_file(file);
}

#[test]
fn installed_programs_do_not_mention_make() {
    let mut child = Running::start(
        program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--no-passwords", "--quiet"])
            .env_remove("CARGO_MANIFEST_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    );
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains(sentences::CTRL_C_TO_STOP_THE_SERVER) {
        assert_ne!(screen.read_line(&mut shown).unwrap(), 0, "{shown}");
    }
    assert!(
        shown.contains("/chatclient 127.0.0.1 ") && !shown.contains("make"),
        "{shown}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The room's connection closes when its member leaves; the two ends may be noticed in either
/// order.
#[test]
fn script_leaves_a_room_once() {
    let server = with_workers(4);
    for round in 0..20 {
        let input = b"/join lobby\n/topic lobby tea\n/leave lobby\n";
        let (code, out, err) = script(&server, &["alice"], input);
        assert_eq!((code, err.as_str()), (0, ""), "round {round}: {out}");
        assert!(
            out.contains(sentences::YOU_LEFT_LOBBY),
            "round {round}: {out}"
        );
    }
}

/// The client receives the list of users only after it has logged in, and a script's first line
/// arrives immediately.
#[test]
fn first_line_of_a_script_ignores_timing() {
    let server = with_workers(4);
    let (mut bob, _) = server.seat();
    bob.send_line(&support::login("bob"));
    bob.line_with("WELCOME");
    for round in 0..20 {
        let (code, out, err) = script(&server, &["alice"], b"/to bob\nfor bob alone\n");
        assert_eq!((code, err.as_str()), (0, ""), "round {round}: {out}");
        assert!(bob.line_with("direct").contains("for bob alone"));
        // This could be meant only for bob, and the client can't ask.
        let (code, _, err) = script(&server, &["alice"], b"/pm bob secret\n");
        assert_eq!(code, 1, "round {round}");
        assert!(
            err.contains(sentences::BOB_IS_ONLINE),
            "round {round}: {err}"
        );
    }
}

/// A failed choice of a recipient must not redirect the following lines to another one.
#[test]
fn script_sends_nothing_after_a_refused_recipient() {
    let server = with_workers(4);
    let (mut bob, _) = server.seat();
    let named: &[&str] = &["alice"];
    let seed: &[&str] = &["alice", "--commands"];
    for (options, input) in [
        (seed, "DM\nbob\nsecret\n"),
        (&["--commands"][..], "PM\nsecret\n"),
        (&["--commands"][..], "DM\nzed\nsecret\n"),
        (&[][..], "/to all\nsecret\n"),
        (&[][..], "/query zed\nsecret\n"),
        (named, "/query\nsecret\n"),
        (named, "/to nowhere\nsecret\n"),
        (&["server"][..], "secret\n"),
        (&[][..], "/login two words\nsecret\n"),
    ] {
        let (code, out, err) = script(&server, options, input.as_bytes());
        assert_eq!(code, 1, "{input}: {out}{err}");
        assert!(err.contains("not sent"), "{input}: {err}");
    }
    let (code, out, err) = script(&server, &[], b"/to nowhere\n/to\nthe end\n");
    assert_eq!(code, 1, "{out}{err}");
    let mut received = String::new();
    while !received.contains("the end") {
        received += &bob.line();
    }
    assert!(
        !received.contains("secret") && !received.contains(">bob<"),
        "{received}"
    );
}

/// A recorded dialogue with the client of seed 002 needs no option.
#[test]
fn dialogue_of_seed_002_works_through_a_pipe_with_a_password() {
    let server = TestServer::start(&Settings {
        accounts: Some(support::temporary_file("dialogue")),
        ..without_timeouts()
    });
    let secret = support::temporary_file("dialogue-secret");
    std::fs::write(&secret, "sesame\n").unwrap();
    let options = ["alice", "--password-file", secret.to_str().unwrap()];
    let (code, out, err) = script(&server, &options, b"PM\nto all\nDM\nEX\nnever sent\n");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("not delivered") && out.contains(sentences::NOBODY_ELSE_IS_LOGGED_IN),
        "{out}"
    );
    // Any other first line means that PM is text.
    let (code, out, _) = script(&server, &options, b"/to all\nhello\nPM\n");
    assert_eq!(code, 0, "{out}");
    assert_eq!(out.matches("not delivered").count(), 2, "{out}");
    std::fs::remove_file(&secret).unwrap();
}
