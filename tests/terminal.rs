//! Both programs on a terminal: invalid bytes, questions, pastes, resized windows, background jobs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use portal_chat::server::Settings;
use support::sentences;
use support::terminal::{COLUMNS, REPLACEMENT, Terminal};
use support::{Client, TestServer, login, password, temporary_file};

const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");
const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");

fn client(server: &TestServer, options: &[&str]) -> Terminal {
    let port = server.server.portal().port().to_string();
    let arguments: Vec<&str> = ["127.0.0.1", &port]
        .into_iter()
        .chain(options.iter().copied())
        .collect();
    Terminal::start(CLIENT, &arguments, &[])
}

fn with_accounts(name: &str) -> TestServer {
    TestServer::start(&Settings {
        accounts: Some(temporary_file(name)),
        ..Settings::default()
    })
}

fn chatserver(options: &[&str]) -> Terminal {
    let arguments: Vec<&str> = ["0", "--no-passwords"]
        .into_iter()
        .chain(options.iter().copied())
        .collect();
    let mut server = Terminal::start(SERVER, &arguments, &[]);
    server.wait_for_prompt("operator>");
    server
}

/// Every non-ASCII byte: alone, before a letter, before Enter.
fn bad_bytes() -> impl Iterator<Item = Vec<u8>> {
    (0x80..=0xff_u8).flat_map(|byte| [vec![byte], vec![byte, b'n'], vec![byte, b'\r']])
}

#[test]
fn echo_programs_set_the_window_title() {
    let arguments = ["echo", "0", "--one-at-a-time"];
    let mut server = Terminal::start(SERVER, &arguments, &[]);
    server.wait_for_text(sentences::ENTER_YOUR_IP_ADDRESS);
    assert_eq!(server.title(), "Echo server, one client at a time");
    server.type_line("");
    server.wait_for_text("Listening on 127.0.0.1");
    let mut client = Terminal::start(CLIENT, &["echo"], &[("TERM", "dumb")]);
    client.wait_for_text(sentences::ENTER_THE_SERVERS_IP_ADDRESS);
    assert_eq!(client.title(), "");
}

#[test]
fn invalid_bytes_do_not_end_the_console() {
    let mut server = chatserver(&["--quiet"]);
    for bytes in bad_bytes() {
        server.type_text(bytes);
    }
    server.type_text("\x15");
    server.type_line("who");
    server.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn invalid_bytes_do_not_end_the_client() {
    let server = with_accounts("bytes");
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_prompt("choose a password for alice>");
    for bytes in bad_bytes().filter(|bytes| !bytes.ends_with(b"\r")) {
        alice.type_text(bytes);
    }
    alice.type_text("\x15");
    alice.type_line("pw");
    alice.wait_for_prompt("repeat the password>");
    alice.type_text(b"\xfc\xe9\x80p\xffw\r");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    for bytes in bad_bytes().filter(|bytes| !bytes.ends_with(b"\r")) {
        alice.type_text(bytes);
    }
    alice.type_text("\x15");
    alice.type_line("PM");
    alice.wait_for_prompt("message for everyone>");
    alice.type_text(b"\xfcall\xff\r");
    alice.wait_for_text("not delivered");
    alice.type_line("/quit");
    assert_eq!(alice.wait_for_exit(), 0);
}

#[test]
fn input_before_a_question_does_not_answer_it() {
    let server = with_accounts("ahead");
    // The line is typed before the client starts, and so before any question.
    let port = server.server.portal().port();
    let script = format!("read -r go; exec {CLIENT} 127.0.0.1 {port} alice");
    let mut alice = Terminal::start("sh", &["-c", &script], &[]);
    alice.type_text("go\ra line of chat\r");
    alice.wait_for_prompt("choose a password for alice>");
    alice.wait_for_text("was ignored");
    assert!(!alice.contents().contains(sentences::REPEAT_THE_PASSWORD));
    // An extra Enter repeats the question, and the next line is still not chat.
    alice.type_text("\r");
    alice.wait_for_text(sentences::NOTHING_WAS_SENT);
    alice.wait_for_prompt("choose a password for alice>");
    alice.type_line("pw");
    alice.wait_for_prompt("repeat the password>");
    alice.type_line("pw");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    server.wait_for_event("registered", None);
    // Both lines at once: the second was typed before its question.
    alice.type_text("/passwd\rpw\rnew\rnew\r");
    alice.wait_for_prompt("current password for alice>");
    alice.type_line("pw");
    alice.wait_for_prompt("new password for alice>");
    alice.type_line("new");
    alice.wait_for_prompt("repeat the new password>");
    alice.type_line("new");
    alice.wait_for_text(sentences::YOUR_PASSWORD_WAS_CHANGED);
}

#[test]
fn pasted_lines_are_separate_commands() {
    let server = TestServer::with_workers(4);
    let (mut bob, _) = server.seat();
    bob.send_line(&login("bob"));
    bob.line_with("WELCOME");
    let (mut carol, _) = server.seat();
    carol.send_line(&login("carol"));
    carol.line_with("WELCOME");
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    alice.type_text("\x1b[200~/msg bob one\n/msg carol two\nand three\x1b[201~");
    alice.wait_for_text("and three");
    alice.type_text("\r");
    assert!(bob.line_with("direct").contains("<message>one</message>"));
    assert!(
        carol
            .line_with("direct")
            .contains("<message>two&#10;and three</message>")
    );
    // One invalid line, and none of the lines is executed.
    alice.type_text("\x1b[200~/msg bob four\n/mgs carol five\n\x1b[201~\r");
    alice.wait_for_text(sentences::THE_PASTE_WAS_NOT_SENT);
    alice.wait_for_prompt("alice, alone>");
    alice.type_text("\x1b[200~/msg bob six\n\x1b[201~\r");
    assert!(bob.line_with("direct").contains("six"));
    // Several lines of text are one message.
    let (mut dave, _) = server.seat();
    dave.line_with("PARTNER JOINED");
    alice.wait_for_prompt("alice to ");
    alice.type_text("\x1b[200~a\tb\nc\x1b[201~\r");
    assert!(
        dave.line_with("message")
            .contains("<message>a&#9;b&#10;c</message>")
    );
}

/// The user pasted all lines before seeing the result of the first ones.
#[test]
fn rest_of_paste_is_dropped_after_refusal() {
    let server = with_accounts("rest-of-a-paste");
    let (mut bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    for paste in [
        "/to lobby\nsecret one",
        "/login bo\nsecret two",
        "/query bob\nsecret three",
        "/login two words\nsecret four",
    ] {
        alice.type_text(format!("\x1b[200~{paste}\x1b[201~\r"));
        alice.wait_for_text("not sent");
        // Input before the next prompt is discarded.
        alice.wait_for("a prompt", |alice| alice.line().ends_with('>'));
        alice.type_line("/cancel");
        alice.wait_for_prompt("you to");
        alice.type_line("/clear");
        alice.wait_for("a clear screen", |alice| {
            !alice.contents().contains("not sent")
        });
    }
    // Input ahead of a refusal is also discarded without bracketed paste.
    alice.type_text("/to lobby\rsecret five\r");
    alice.wait_for_text("was ignored");
    alice.wait_for_prompt("you to");
    alice.type_line("/login alice");
    alice.wait_for_prompt("choose a password for alice>");
    alice.type_line("pw");
    alice.wait_for_prompt("repeat the password>");
    alice.type_line("pw");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    alice.type_text("\x1b[200~/passwd\nsecret six\x1b[201~\r");
    alice.wait_for_prompt("current password for alice>");
    alice.wait_for_text("not sent");
    alice.type_line("/cancel");
    // Accepted commands delay the lines after them.
    alice.type_text("\x1b[200~/join lobby\n/to lobby\nfor the room\x1b[201~\r");
    alice.wait_for_prompt("alice in lobby>");
    alice.wait_for_text(sentences::NOBODY_ELSE_IS_IN_THIS_ROOM);
    alice.type_line("/to");
    alice.wait_for_prompt("alice to");
    alice.type_line("the end");
    let mut received = String::new();
    while !received.contains("the end") {
        received += &bob.line();
    }
    assert!(
        !received.contains("secret") && !received.contains("for the room"),
        "{received}"
    );
}

#[test]
fn signal_restores_the_terminal() {
    let server = TestServer::with_workers(2);
    let port = server.server.portal().port().to_string();
    for signal in ["-TERM", "-HUP", "-INT", "-QUIT"] {
        let script = format!(
            "{CLIENT} 127.0.0.1 {port} & wait $!; stty -a | grep -q ' icanon' && echo whole"
        );
        // In the foreground, as in a shell without job control.
        let script = script.replace(" & wait $!", "");
        let mut shell = Terminal::start("/bin/sh", &["-c", &script], &[]);
        shell.wait_for_prompt("you, alone>");
        let child = Command::new("pgrep")
            .args(["-P", &shell.process_id().to_string()])
            .output()
            .unwrap();
        let id = String::from_utf8(child.stdout).unwrap().trim().to_owned();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        shell.wait_for_text("whole");
        assert!(!shell.is_bracketed_paste_on(), "{signal}");
        server.wait_for_event("seat-free", None);
    }
}

#[test]
fn operator_pastes_several_commands() {
    let mut server = chatserver(&["--quiet"]);
    server.type_text("\x1b[200~say one\nsay two\nwho\x1b[201~");
    server.type_text("\r");
    server.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    assert_eq!(server.contents().matches("sent to 0 clients").count(), 2);
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn oversized_paste_is_refused() {
    let server = TestServer::with_workers(2);
    let (mut bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    for paste in [
        "a line of no great length\r".repeat(10_000),
        "x".repeat(100_000),
        format!("\x1b[200~{}\x1b[201~", "a line\n".repeat(10_000)),
    ] {
        let drawn = alice.drawn;
        alice.type_text(&paste);
        alice.wait_for_text(sentences::THE_PASTE_WAS_NOT_SENT);
        alice.type_text("\x15/clear\r");
        alice.wait_for("a clear screen", |alice| {
            !alice.contents().contains(sentences::THE_PASTE_WAS_NOT_SENT)
        });
        assert!(
            alice.drawn - drawn < 200_000,
            "{} bytes drawn",
            alice.drawn - drawn
        );
    }
    alice.type_line("still here");
    assert!(bob.line_with("message").contains("still here"));
}

#[test]
fn narrowed_window_redraws_the_line() {
    let server = TestServer::with_workers(2);
    let (_bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    alice.type_text("a line that is longer than the window is going to be in a moment");
    alice.wait_for_text("in a moment");
    alice.resize(30, 40);
    let shows_once = |alice: &mut Terminal, end: &str| {
        let solid: String = alice.contents().split_whitespace().collect();
        solid.ends_with(end) && solid.matches("alinethatis").count() == 1
    };
    // The screen keeps the first 40 columns, so the line is redrawn for the new width.
    alice.wait_for("the redrawn line", |alice| shows_once(alice, "inamoment"));
    alice.type_text("!");
    alice.wait_for("the line once", |alice| shows_once(alice, "inamoment!"));
}

#[test]
fn any_key_resets_the_idle_timeout() {
    let server = TestServer::start(&Settings {
        workers: 2,
        idle_timeout: Some(Duration::from_secs(6)),
        ..Settings::default()
    });
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you, alone>");
    server.tick(5);
    alice.wait_for_text(sentences::THE_SERVER_WILL_DISCONNECT_YOU);
    alice.type_text("x");
    server.wait_for_event("activity", None);
    server.tick(4);
    alice.type_text("\x15");
    alice.type_line("/help quit");
    alice.wait_for_text(sentences::LEAVE_ALSO_EX_ALONE);
    assert!(!alice.contents().contains(sentences::FOR_TOO_LONG));
}

#[test]
fn client_without_partner_sends_to_a_name() {
    let server = TestServer::with_workers(4);
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_prompt("alice, alone>");
    let mut bob = client(&server, &["bob"]);
    bob.wait_for_prompt("bob to ");
    let mut carol = client(&server, &["carol"]);
    carol.wait_for_prompt("carol, alone>");
    carol.type_line("%alice%hello from afar");
    alice.wait_for_text("hello from afar");
    // A message without a recipient still reaches no client.
    carol.type_line("50% off");
    carol.wait_for_text(sentences::NOT_SENT_YOU_HAVE_NO_PARTNER);
    assert!(!alice.contents().contains("50% off") && !bob.contents().contains("afar"));
}

#[test]
fn long_lines_continue_indented() {
    let server = TestServer::with_workers(2);
    let (mut mallory, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    let forged = format!("{}12:00 bob: I owe you", " ".repeat(usize::from(COLUMNS)));
    mallory.send_line(&support::message(&forged));
    alice.wait_for_text("I owe you");
    let contents = alice.contents();
    let line = contents
        .lines()
        .find(|line| line.contains("I owe"))
        .unwrap();
    assert!(line.starts_with("      | "), "{line}");
}

#[test]
fn background_server_serves_and_resumes() {
    let mut shell = Terminal::start("/bin/sh", &["-i", "-m"], &[("PS1", "sh> ")]);
    shell.wait_for_prompt("");
    shell.wait_for_text("sh> ");
    shell.type_line(&format!("{SERVER} 0 --no-passwords &"));
    shell.wait_for_text(sentences::CTRL_C_TO_STOP_THE_SERVER);
    let shown = shell.contents();
    let portal = shown.split_once("portal   ").unwrap().1;
    let portal = portal.split_whitespace().next().unwrap().parse().unwrap();
    assert!(
        Client::connect(portal).rest().contains("<Port>"),
        "it serves"
    );
    shell.type_line("jobs");
    shell.wait_for_text("Running");
    assert!(!shell.contents().contains("Stopped"));
    shell.type_line("fg");
    shell.wait_for_text("operator>");
    shell.type_line("who");
    shell.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    shell.type_line("stop");
    shell.wait_for_text("Stopped.");
    shell.type_line("exit");
    shell.wait_for_exit();
}

#[test]
fn ignored_signal_stays_ignored() {
    let script = format!("trap '' HUP; exec {SERVER} 0 --no-passwords");
    let mut server = Terminal::start("/bin/sh", &["-c", &script], &[]);
    server.wait_for_prompt("operator>");
    let kill = |signal: &str, server: &Terminal| {
        let id = server.process_id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    };
    kill("-HUP", &server);
    server.type_line("who");
    server.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    kill("-TERM", &server);
    server.wait_for_text("why signal SIGTERM");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn client_restores_the_terminal() {
    let server = TestServer::with_workers(2);
    let port = server.server.portal().port().to_string();
    let script = format!("{CLIENT} 127.0.0.1 {port}; stty -a | grep -q ' icanon' && echo whole");
    let mut shell = Terminal::start("/bin/sh", &["-c", &script], &[]);
    shell.wait_for_prompt("you, alone>");
    shell.type_line("/quit");
    shell.wait_for_text("whole");
}

#[test]
fn piped_output_asks_for_password_on_terminal() {
    let server = with_accounts("tee");
    let port = server.server.portal().port().to_string();
    for (variables, pipe) in [("", "| cat"), ("TERM=dumb", "")] {
        let script = format!("{variables} {CLIENT} 127.0.0.1 {port} alice {pipe}");
        let mut alice = Terminal::start("/bin/sh", &["-c", &script], &[]);
        let is_new = pipe == "| cat";
        if is_new {
            alice.wait_for_text(sentences::CHOOSE_A_PASSWORD_FOR_ALICE);
            alice.type_line("pw");
            alice.wait_for_text(sentences::REPEAT_THE_PASSWORD_AGAIN);
        } else {
            alice.wait_for_text(sentences::PASSWORD_FOR_ALICE);
        }
        alice.type_line("pw");
        alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
        assert!(!alice.contents().contains("pw"), "{}", alice.contents());
        alice.type_line("/quit");
        alice.wait_for_exit();
    }
}

#[test]
fn times_use_the_time_zone_in_tz() {
    let server = TestServer::with_workers(2);
    let port = server.server.portal().port().to_string();
    let knows_zones = std::path::Path::new("/usr/share/zoneinfo/Asia/Kolkata").exists();
    for (zone, minutes, is_known) in [
        ("Asia/Kolkata", 330, knows_zones),
        ("XYZ-5:30", 330, true),
        ("Nowhere/Land", 0, false),
    ] {
        let minutes = if is_known { minutes } else { 0 };
        let time = || {
            let now = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
            now.strftime("%H:%M").to_string()
        };
        let before = time();
        let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port], &[("TZ", zone)]);
        alice.wait_for_text(sentences::TYPE_A_MESSAGE);
        let screen = alice.contents();
        let warning = format!("times are shown in UTC: the time zone TZ={zone} is unknown");
        assert_eq!(screen.contains(&warning), !is_known, "{screen}");
        alice.type_line("/quit");
        alice.wait_for_exit();
        let (screen, after) = (alice.contents(), time());
        assert!(
            screen.contains(&before) || screen.contains(&after),
            "{before} {screen}"
        );
    }
}

#[test]
fn history_keeps_lines_but_no_passwords() {
    let server = with_accounts("history");
    let home = temporary_file("history-home");
    let port = server.server.portal().port().to_string();
    let start = || {
        let variables = [("XDG_STATE_HOME", home.to_str().unwrap())];
        Terminal::start(CLIENT, &["127.0.0.1", &port, "alice"], &variables)
    };
    let mut alice = start();
    alice.wait_for_prompt("choose a password for");
    alice.type_line("geheim");
    alice.wait_for_prompt("repeat the password>");
    alice.type_line("geheim");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    alice.type_line("/help bell");
    alice.wait_for_text(sentences::WHEN_TO_RING);
    alice.type_line("/quit");
    assert_eq!(alice.wait_for_exit(), 0);
    let mut alice = start();
    alice.wait_for_prompt("password for alice>");
    alice.type_line("geheim");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    alice.type_text("\x1b[A\x1b[A");
    alice.wait_for("the line before /quit", |alice| {
        alice.line().ends_with("/help bell")
    });
    let kept = std::fs::read_to_string(home.join("portal-chat/history")).unwrap();
    assert!(!kept.contains("geheim"), "{kept}");
    std::fs::write(home.join("portal-chat/history"), b"one\ntw\xf6\n").unwrap();
    let mut alice = start();
    alice.wait_for_text("portal-chat/history, line 2: the byte 0xF6 is not UTF-8");
    assert_eq!(alice.wait_for_exit(), 2);
    let _ = std::fs::remove_dir_all(home);
}

#[test]
fn registered_name_needs_its_password() {
    // The plain sockets in these tests speak the same protocol.
    let server = with_accounts("wire");
    let (mut bob, _) = server.seat();
    bob.send_line(&login("alice"));
    bob.line_with("PASSWORD");
    bob.send_line(&password("other"));
    bob.line_with("WELCOME");
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_prompt("password for alice>");
    alice.type_line("wrong");
    alice.wait_for_text(sentences::WRONG_PASSWORD_FOR_ALICE);
    alice.wait_for_prompt("password for alice>");
    server.wait_for_event("password-wrong", None);
}

#[test]
fn the_prompt_returns_after_every_refusal_of_a_room() {
    let server = TestServer::with_workers(4);
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_prompt("alice, alone>");
    let mut bob = client(&server, &["bob"]);
    bob.wait_for_prompt("bob to alice>");
    alice.type_line("/join den");
    alice.wait_for_prompt("alice in den>");
    let refused = |bob: &mut Terminal| {
        bob.type_line("/join den");
        bob.wait_for_text("! server: ");
        bob.wait_for_prompt("bob to alice>");
        bob.type_line("/clear");
    };
    alice.type_line("/room den invite");
    server.wait_for_event("room-rule", None);
    refused(&mut bob);
    alice.type_line("/room den password tea");
    server.wait_for_event("room-rule", None);
    refused(&mut bob);
    bob.type_line("/join den tea");
    bob.wait_for_prompt("bob in den>");
    alice.type_line("/kick bob in den");
    bob.wait_for_text("alice removed you from den");
    bob.wait_for_prompt("bob to alice>");
    bob.type_line("/clear");
    refused(&mut bob);
    bob.type_line("/ignore alice");
    bob.wait_for_text("invitations from alice are hidden now");
    alice.type_line("/invite bob");
    alice.wait_for_text("bob may join den");
    // The reply arrives after the invitation.
    bob.type_line("/names");
    bob.wait_for_text("online (2)");
    assert!(!bob.contents().contains("invited you"));
    bob.type_line("/ignore alice");
    bob.wait_for_text("invitations from alice are shown again");
    alice.type_line("/invite bob");
    bob.wait_for_text("alice invited you to the room den");
    bob.type_line("/join den");
    bob.wait_for_prompt("bob in den>");
}

/// A frozen ssh or a paused terminal: the output is never read.
#[test]
fn server_with_stuck_terminal_ends_at_signal() {
    let pair = native_pty_system().openpty(PtySize::default()).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_chatserver"));
    command.args(["0", "--workers", "2", "--no-passwords"]);
    command.env("TERM", "xterm");
    command.cwd(std::env::temp_dir());
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let mut screen = pair.master.try_clone_reader().unwrap();
    let (mut seen, mut bytes) = (String::new(), [0; 4096]);
    while !seen.contains("operator>") {
        let count = screen.read(&mut bytes).unwrap();
        assert!(count > 0, "{seen}");
        seen += &String::from_utf8_lossy(&bytes[..count]);
    }
    // From here on the output is not read, and the replies exceed the kernel's buffer.
    let mut keys = pair.master.take_writer().unwrap();
    for _ in 0..100 {
        keys.write_all(b"help\r").unwrap();
    }
    let id = child.process_id().unwrap().to_string();
    let (ended, has_ended) = channel();
    let waiting = std::thread::spawn(move || ended.send(child.wait().unwrap().exit_code()));
    Command::new("kill").args(["-INT", &id]).status().unwrap();
    let code = has_ended.recv_timeout(support::PATIENCE);
    if code.is_err() {
        Command::new("kill").args(["-KILL", &id]).status().unwrap();
    }
    waiting.join().unwrap().unwrap();
    assert_eq!(code, Ok(0));
}

/// Reversed direction, invisible letters, a control character and a bare variation selector.
const INVISIBLE: &str = "a\u{202e}b\u{3164}c\u{200b}d\u{2800}e\u{fe0f}\u{fe0f}f\u{e0041}g";

#[test]
fn sender_and_recipient_see_the_same_line() {
    let server = TestServer::with_workers(2);
    let (mut bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to ");
    let drawn = portal_chat::wire::printable(INVISIBLE).replace('\u{fffd}', REPLACEMENT);
    let is_drawn = |line: &str| {
        let rest = line.split_once("> ").map(|(_, rest)| rest);
        let is_invisible = |c: char| INVISIBLE.contains(c) && !c.is_ascii() && c != '\u{fe0f}';
        assert!(!line.contains(is_invisible), "{line:?}");
        rest.map(str::trim_end) == Some(drawn.trim_end())
    };
    for pasted in [false, true] {
        let keys = if pasted {
            format!("\x1b[200~{INVISIBLE}\x1b[201~")
        } else {
            INVISIBLE.to_owned()
        };
        alice.type_text(keys);
        alice.wait_for("the line", |alice| is_drawn(&alice.line()));
        alice.type_text("\r");
        let received = bob.line_with("g</");
        assert!(received.contains(INVISIBLE), "{received:?}");
        // The line appears as sent, and as recalled from the history.
        alice.wait_for("the sent line", |alice| {
            alice.contents().lines().any(&is_drawn)
        });
        alice.type_text("\x1b[A");
        alice.wait_for("the line of the history", |alice| is_drawn(&alice.line()));
        // The editor and the terminal agree on the cursor.
        alice.type_text("\x7f\x7f\x7fXY");
        let shorter: Vec<char> = drawn.chars().collect();
        let edited: String = shorter[..shorter.len() - 3].iter().collect::<String>() + "XY";
        alice.wait_for("the edited line", |alice| alice.line().ends_with(&edited));
        alice.type_text("\x15");
    }
    alice.type_line("/no\u{202e}thing");
    alice.wait_for_text(sentences::THERE_IS_NO_COMMAND);
    assert!(!alice.contents().contains('\u{202e}'));
    // Input after a refusal counts from the next prompt on.
    alice.wait_for_prompt("you to ");
    alice.type_line("/quit");
    alice.wait_for_exit();
}

#[test]
fn prompts_show_no_invisible_characters() {
    let server = TestServer::with_workers(2);
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_prompt("alice, alone>");
    let mut bob = client(&server, &["bob"]);
    bob.wait_for_prompt("bob to ");
    alice.wait_for_text("bob joined");
    alice.type_line("DM");
    alice.wait_for_prompt("recipient>");
    alice.type_line("b\u{202e}\u{200b}ob");
    alice.wait_for_prompt(&format!("message for b{REPLACEMENT}{REPLACEMENT}ob>"));
    let mut operator = chatserver(&["--quiet"]);
    operator.type_line("nothing\u{202e}\u{85}");
    operator.wait_for_text(&format!("unknown command nothing{REPLACEMENT}"));
    operator.type_line("kick b\u{202e}ob");
    operator.wait_for_text(&format!("no client is named b{REPLACEMENT}ob"));
    assert!(!operator.contents().contains('\u{202e}'));
}

#[test]
fn console_with_many_descriptors() {
    let mut server = chatserver(&["--workers", "600", "--quiet"]);
    server.type_line("who");
    server.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn unfinished_input_does_not_disable_the_keys() {
    let server = TestServer::with_workers(2);
    let (mut bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    // A paste without its end marker, and then Ctrl-C, which clears the line.
    alice.type_text("\x1b[200~never ends");
    alice.type_text("\x03");
    alice.wait_for("an empty line", |alice| alice.line().ends_with('>'));
    alice.type_text("the rest\x1b[201~");
    // A pause also ends it.
    alice.type_text("\x1b[200~ends late");
    alice.wait_for("the paste", |alice| alice.line().ends_with("ends late"));
    alice.type_text("!\r");
    bob.line_with("<message>ends late!</message>");
    for begun in ["\x1b]11;", "\x1bP", "\x1b_", "\x1b[", "\x1bO", "\x1b[M"] {
        alice.type_text("gone");
        alice.wait_for("the text", |alice| alice.line().ends_with("gone"));
        alice.type_text(begun);
        // In the oldest mouse encoding, three raw bytes follow.
        alice.type_text(if begun.ends_with('M') {
            "   \x03"
        } else {
            "\x03"
        });
        alice.wait_for("an empty line", |alice| alice.line().ends_with('>'));
    }
    alice.type_line("still here");
    bob.line_with("<message>still here</message>");
    alice.type_text("\x1b]11;");
    alice.type_text("\x03");
    assert_eq!(alice.wait_for_exit(), 0, "on an empty line, Ctrl-C leaves");
}

#[test]
fn terminals_answers_leave_the_text_alone() {
    let server = TestServer::with_workers(2);
    let (mut bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    for answer in [
        "\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
        "\x1bP>|xterm(390)\x1b\\",
        "\x1b_Gi=31;OK\x1b\\",
        "\x1b[<0;10;12M",
        "\x1b[97;5u",
        "\x1b[48;40;100;800;1000t",
        "\x1bOP",
    ] {
        alice.type_line(&format!("hel{answer}lo"));
        assert!(
            bob.line_with("<message>")
                .contains("<message>hello</message>"),
            "{answer:?}"
        );
    }
}

#[test]
fn nothing_of_a_hidden_line_comes_back() {
    let server = with_accounts("hidden");
    let mut alice = client(&server, &["alice"]);
    alice.wait_for_prompt("choose a password for alice>");
    // A pasted password may end with a line feed; the keys that kill and undo keep nothing.
    alice.type_text("geheim\x15geheim\x17geheim\x1f\x15");
    alice.type_text("\x1b[200~geheim\r\n\x1b[201~\r");
    alice.wait_for_prompt("repeat the password>");
    alice.type_line("geheim");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    alice.wait_for_prompt("alice, alone>");
    for keys in ["\x19", "\x1f", "\x1b[A", "\x12geh"] {
        alice.type_text(keys);
        alice.type_text("\x07|");
        alice.wait_for("the end of the line", |alice| alice.line().ends_with('|'));
        assert!(!alice.contents().contains("geheim"), "{keys:?}");
        alice.type_text("\x15");
        alice.wait_for("an empty line", |alice| alice.line().ends_with('>'));
    }
    // A line of chat does not become a password.
    alice.type_line("/names");
    alice.wait_for_text("online (1)");
    alice.type_line("/passwd");
    alice.wait_for_prompt("current password for alice>");
    alice.type_text("\x1b[A\r");
    alice.wait_for_text(sentences::NOTHING_WAS_SENT);
}

#[test]
fn a_draft_survives_the_way_through_the_history() {
    let server = TestServer::with_workers(2);
    let (mut bob, _) = server.seat();
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you to");
    alice.type_line("sent");
    alice.type_text("draft\x1b[A");
    alice.wait_for("the line before", |alice| alice.line().ends_with("> sent"));
    alice.type_text("\x1b[B\r");
    bob.line_with("<message>draft</message>");
}

#[test]
fn the_operator_reloads_at_the_terminal() {
    let mut server = chatserver(&[]);
    server.type_line("reload");
    server.wait_for_text("can be reloaded");
    server.wait_for_prompt("operator>");
}

#[test]
fn ctrl_l_clears_the_screen_and_keeps_the_line() {
    let server = TestServer::with_workers(2);
    let mut alice = client(&server, &[]);
    alice.wait_for_prompt("you, alone>");
    alice.type_text("a line\x1b[D\x0c");
    alice.wait_for("the line alone", |alice| {
        let screen = alice.contents();
        screen.lines().count() == 1 && screen.ends_with("alone> a line")
    });
    alice.type_text("x");
    alice.wait_for("the cursor in its place", |alice| {
        alice.contents().ends_with("alone> a linxe")
    });
}
