//! Messages and topics that survive the server: an orderly restart, and a server that is killed.
#![cfg(all(unix, feature = "journal"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portal_chat::journal::{Exporter, Form, JournalSettings, Selection};
use portal_chat::server::Settings;
use support::running::{Running, program};
use support::{Client, TestServer, command, login, sentences, temporary_file};

/// A database that is deleted on drop.
struct Journal(PathBuf);

impl Journal {
    fn new(name: &str) -> Journal {
        let journal = Journal(temporary_file(name));
        journal.delete();
        journal
    }

    fn settings(&self) -> Settings {
        Settings {
            journal: Some(JournalSettings::new(&self.0)),
            ..Settings::default()
        }
    }

    /// The lines of the export, as text or as JSON.
    fn lines(&self, form: Form) -> Vec<String> {
        let mut lines = Vec::new();
        let keep = |line: &str| {
            lines.push(line.to_owned());
            true
        };
        let exporter = Exporter::open(&self.0).unwrap();
        exporter.lines(&Selection::default(), form, keep).unwrap();
        lines
    }

    /// Asserts that no id occurs twice, and that the database is intact.
    fn assert_sound(&self) {
        let ids: Vec<u64> = self
            .lines(Form::Json)
            .iter()
            .map(|line| line.split("\"id\":").nth(1).unwrap())
            .map(|rest| rest.split(',').next().unwrap().parse().unwrap())
            .collect();
        let once: BTreeSet<u64> = ids.iter().copied().collect();
        assert!(ids.is_sorted() && once.len() == ids.len());
        let database = rusqlite::Connection::open(&self.0).unwrap();
        let answer: String = database
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .unwrap();
        assert_eq!(answer, "ok");
    }

    fn set_mode(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn delete(&self) {
        for end in ["", "-wal", "-shm"] {
            let mut name = self.0.clone().into_os_string();
            name.push(end);
            let _ = std::fs::remove_file(name);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.delete();
    }
}

/// A client that has logged in and joined the lobby.
fn in_the_lobby(server: &TestServer, name: &str) -> Client {
    let (mut client, _) = server.seat();
    client.line_with("PARTNER");
    client.send_line(&login(name));
    client.line_with("<command>WELCOME");
    client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    client.line_with("<command>JOINED");
    client
}

#[test]
fn restart_brings_history_and_topics_back() {
    let journal = Journal::new("journal-restart");
    let server = TestServer::start(&journal.settings());
    let mut alice = in_the_lobby(&server, "alice");
    for text in ["one", "two", "three"] {
        let say = format!("<room>lobby</room><message>{text}</message>");
        alice.send_line(&command("SAY", &say));
        alice.line_with("<command>SENT");
    }
    alice.send_line(&command("TOPIC", "<room>lobby</room><topic>cats</topic>"));
    alice.line_with("<topic>cats<");
    alice.send_line(&command("PM", "<message>hello all</message>"));
    alice.line_with("<command>SENT");
    let public = "<command>HISTORY</command><count>1</count>";
    alice.send_line(&command("HISTORY", ""));
    alice.line_with(public);
    let before = alice.line_with("hello all");
    server.stop();

    let settings = Settings {
        history: 2,
        ..journal.settings()
    };
    let server = TestServer::start(&settings);
    let mut bob = in_the_lobby(&server, "bob");
    assert!(bob.line().contains("<topic>cats</topic><username>alice<"));
    assert!(bob.line().contains("<message>two<"));
    assert!(bob.line().contains("<message>three<"));
    bob.send_line(&command("HISTORY", "<room>lobby</room>"));
    bob.line_with("<count>3</count>");
    let ids = ["one", "two", "three"].map(|text| id(&bob.line_with(text)));
    assert!(ids.is_sorted(), "{ids:?}");
    bob.send_line(&command("HISTORY", ""));
    bob.line_with(public);
    assert_eq!(bob.line(), before, "the id and the time are the same");
    // Ids continue.
    let say = "<room>lobby</room><message>four</message>";
    bob.send_line(&command("SAY", say));
    bob.line_with("<command>SENT");
    let after = format!("<room>lobby</room><after>{}</after>", ids[2]);
    bob.send_line(&command("HISTORY", &after));
    bob.line_with("<count>1</count>");
    assert!(id(&bob.line_with("four")) > id(&before));
    // A topic that was removed stays removed, and a room that closes keeps its history.
    bob.send_line(&command("TOPIC", "<room>lobby</room><topic></topic>"));
    bob.line_with("<command>TOPIC");
    bob.send_line(&command("LEAVE", "<room>lobby</room>"));
    bob.line_with("<command>LEFT");
    server.wait_for_event("room-ended", None);
    bob.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    bob.line_with("<command>JOINED");
    assert!(bob.line().contains("<message>three<"));
    assert!(bob.line().contains("<message>four<"));
    server.stop();
}

fn id(message: &str) -> u64 {
    let (_, after) = message.split_once(" id='").expect(message);
    after.split('\'').next().unwrap().parse().unwrap()
}

fn server(file: &Path) -> (Running, SocketAddr) {
    let mut server = Running::start(
        program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--single-port", "--no-passwords", "--journal"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let port = server.first_port();
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A server is killed while a client sends. All data that another program has seen in the file is
/// still there, once and in order, and the next server continues.
#[test]
fn nothing_that_was_committed_is_lost_when_the_server_is_killed() {
    let journal = Journal::new("journal-killed");
    let mut sent = 0;
    for round in 1..=4 {
        let (mut running, address) = server(&journal.0);
        let mut client = Client::connect(address);
        client.line_with("Connection successful");
        client.send_line(&login("alice"));
        client.line_with("<command>WELCOME");
        let committed = loop {
            for _ in 0..100 {
                sent += 1;
                let message = format!("<message>number {sent}.</message>");
                client.send_line(&command("PM", &message));
                client.line_with("<command>SENT");
            }
            let lines = journal.lines(Form::Text);
            let needed = round * 150;
            if lines.len() >= needed {
                break lines;
            }
        };
        // More messages are in flight when the server is killed.
        for _ in 0..100 {
            sent += 1;
            let message = format!("<message>number {sent}.</message>");
            client.send_line(&command("PM", &message));
        }
        running.kill().unwrap();
        running.wait().unwrap();
        let kept = journal.lines(Form::Text);
        assert_eq!(kept[..committed.len()], committed, "round {round}");
    }
    journal.assert_sound();
}

#[test]
fn export_prints_a_room_as_text_or_json() {
    let journal = Journal::new("journal-export");
    let server = TestServer::start(&journal.settings());
    let mut alice = in_the_lobby(&server, "alice");
    let say = "<room>lobby</room><message>it&apos;s</message>";
    alice.send_line(&command("SAY", say));
    alice.line_with("<command>SENT");
    alice.send_line(&command("PM", "<message>hello all</message>"));
    alice.line_with("<command>SENT");
    server.stop();
    let export = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_chatserver"))
            .arg("journal")
            .arg(&journal.0)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = export(&["--room", "Lobby", "--since", "2026-01-01"]);
    assert_eq!(code, Some(0));
    assert!(text.ends_with("Z [lobby] alice: it's\n"), "{text}");
    assert_eq!(text.lines().count(), 1);
    let (_, text) = export(&["--json", "--public"]);
    assert!(
        text.contains(r#""conversation":"public""#) && text.contains("hello all"),
        "{text}"
    );
    assert_eq!(export(&["--until", "2026-01-01"]).1, "");
    let (code, text) = export(&["--since", "yesterday"]);
    assert!(
        code == Some(2) && text.contains("2026-11-29T18:30"),
        "{text}"
    );
    journal.delete();
    let (code, text) = export(&[]);
    assert!(
        code == Some(2) && text.contains(sentences::CANT_READ_THE_JOURNAL),
        "{text}"
    );
}

#[test]
fn check_does_not_touch_the_file() {
    let journal = Journal::new("journal-check");
    let check = || {
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--no-passwords", "--check"])
            .args(["--journal-keep", "7", "--journal"])
            .arg(&journal.0)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = check();
    assert!(text.contains("--journal-keep       7 days"), "{text}");
    assert!(text.contains(sentences::THE_SERVER_WILL_CREATE), "{text}");
    assert!(!journal.0.exists());
    // A damaged file is reported, and stays where it is.
    std::fs::write(&journal.0, "x".repeat(5_000)).unwrap();
    journal.set_mode(0o600);
    let text = check();
    assert!(text.contains(sentences::IS_NOT_A_DATABASE), "{text}");
    assert_eq!(std::fs::read(&journal.0).unwrap().len(), 5_000);
}

#[test]
fn a_journal_that_others_can_read_is_refused_with_the_fix() {
    let journal = Journal::new("journal-exposed");
    TestServer::start(&journal.settings()).stop();
    journal.set_mode(0o644);
    for options in [&["--check"][..], &[]] {
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--no-passwords", "--journal"])
            .arg(&journal.0)
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let fix = format!("run `chmod o= {}`", journal.0.display());
        assert!(text.contains(&fix), "{text}");
    }
}

/// Takes minutes, and requires a disk that writes in less than a second:
/// `cargo test --test journal -- --ignored`.
#[test]
#[ignore = "kills a hundred servers"]
fn a_hundred_kills_lose_nothing_older_than_a_second() {
    let journal = Journal::new("journal-hundred");
    let mut sent: u64 = 0;
    for round in 1..=100 {
        let (mut running, address) = server(&journal.0);
        let mut client = Client::connect(address);
        client.line_with("Connection successful");
        client.send_line(&login("alice"));
        client.line_with("<command>WELCOME");
        let begun = Instant::now();
        let mut answered = Vec::new();
        // Kill each server at a different moment of the writer's batch.
        let length = Duration::from_millis(1_100 + 7 * round);
        while begun.elapsed() < length {
            sent += 1;
            let message = format!("<message>number {sent}.</message>");
            client.send_line(&command("PM", &message));
            client.line_with("<command>SENT");
            answered.push((sent, Instant::now()));
            // Send only a few hundred messages per second, because each round reads the whole
            // journal.
            std::thread::sleep(Duration::from_millis(2));
        }
        let killed = Instant::now();
        running.kill().unwrap();
        running.wait().unwrap();
        let lines = journal.lines(Form::Text);
        let number = |line: &String| {
            let number = line.rsplit("number ").next()?.strip_suffix('.')?;
            number.parse().ok()
        };
        let kept: BTreeSet<u64> = lines.iter().filter_map(number).collect();
        for (number, at) in answered {
            if killed.duration_since(at) > Duration::from_secs(1) {
                assert!(kept.contains(&number), "round {round}: {number}");
            }
        }
    }
    journal.assert_sound();
}
