//! The configuration file: its contents, and the changes when it is read again.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use support::running::{Running, program};
use support::{Client, PATIENCE, command, handshake, login, sentences, temporary_file, ticket};

const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");

/// A server with the configuration file `config`, its portal, and its lines on standard error.
struct Configured {
    running: Running,
    portal: SocketAddr,
    errors: Receiver<String>,
}

impl Configured {
    fn start(config: &Path) -> Configured {
        Configured::start_with(config, &["--no-passwords"])
    }

    fn start_with(config: &Path, options: &[&str]) -> Configured {
        let mut running = Running::start(
            program(SERVER)
                .arg("--config")
                .arg(config)
                .arg("0")
                .args(options)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let (sender, errors) = channel();
        let stderr = BufReader::new(running.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut lines = stderr.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        let portal = ([127, 0, 0, 1], running.first_port()).into();
        Configured {
            running,
            portal,
            errors,
        }
    }

    /// Makes the server read the file again; returns the first line of its report that contains
    /// `part`.
    fn reload(&self, part: &str) -> String {
        self.running.signal("-HUP");
        loop {
            let line = self.errors.recv_timeout(PATIENCE).expect(part);
            if line.contains(part) {
                return line;
            }
        }
    }

    fn greeting(&self, name: &str) -> String {
        let (port, passcode) = ticket(&Client::connect(self.portal).rest());
        let mut client = Client::connect((self.portal.ip(), port.get()).into());
        client.send_line(&handshake(&passcode));
        client.line_with("Connection successful");
        client.send_line(&login(name));
        client.line_with("notice")
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let folder = temporary_file(name);
    std::fs::create_dir_all(&folder).unwrap();
    Folder(folder)
}

#[test]
fn sighup_applies_what_can_change_and_reports_what_needs_a_restart() {
    let folder = folder("config-reload");
    let (config, motd) = (folder.0.join("chat.toml"), folder.0.join("motd"));
    let write = |text: &str| {
        let motd = motd.display();
        std::fs::write(&config, format!("motd = \"{motd}\"\n{text}")).unwrap();
    };
    std::fs::write(&motd, "first").unwrap();
    write("workers = 6\n");
    let server = Configured::start(&config);
    assert!(server.greeting("alice").contains("first"));

    // Change the text but not its length.
    std::fs::write(&motd, "other").unwrap();
    write("workers = 8\nrate = \"20/5\"\nmax-per-ip = 1\n");
    let line = server.reload("changed");
    for setting in ["--motd", "--rate 20/5", "--max-per-ip 1"] {
        assert!(line.contains(setting), "{line}");
    }
    let line = server.errors.recv_timeout(PATIENCE).unwrap();
    assert!(
        line.contains(sentences::A_RESTART_IS_NEEDED_FOR_THE_NEW_WORKERS),
        "{line}"
    );
    assert!(server.greeting("bob").contains("other"));

    // If one line is wrong, nothing changes.
    std::fs::write(&motd, "third").unwrap();
    write("worker = 8\n");
    let line = server.reload("the old settings remain in effect");
    assert!(line.contains("chat.toml, line 2: "), "{line}");
    assert!(line.contains(sentences::DID_YOU_MEAN_WORKERS), "{line}");

    write("workers = 6\nrate = \"20/5\"\nmax-per-ip = 1\n");
    let line = server.reload("changed");
    assert!(
        line.contains("--motd") && !line.contains("--rate"),
        "{line}"
    );
    server.reload("no setting has changed");
}

#[test]
fn the_rules_for_registrations_change_without_a_restart() {
    let folder = folder("config-register");
    let (config, accounts) = (folder.0.join("chat.toml"), folder.0.join("accounts"));
    let write = |rules: &str| {
        let accounts = accounts.display();
        std::fs::write(&config, format!("accounts = \"{accounts}\"\n{rules}")).unwrap();
    };
    write("");
    let server = Configured::start_with(&config, &[]);
    let answer = |name: &str, password: Option<&str>| {
        let (port, passcode) = ticket(&Client::connect(server.portal).rest());
        let mut client = Client::connect((server.portal.ip(), port.get()).into());
        client.send_line(&handshake(&passcode));
        client.line_with("Connection successful");
        client.send_line(&login(name));
        let Some(password) = password else {
            return client.line_with("error");
        };
        client.line_with("<command>PASSWORD");
        client.send_line(&command(
            "PASSWORD",
            &format!("<password>{password}</password>"),
        ));
        // News about other clients may arrive before the answer.
        loop {
            let line = client.line();
            if line.contains(">WELCOME<") || line.contains("error") {
                return line;
            }
        }
    };
    let assert_answer = |name, password, part: &str| {
        let answer = answer(name, password);
        assert!(answer.contains(part), "{name}: {answer}");
    };
    assert_answer("alice", Some("short"), ">WELCOME<");
    write("min-password = 8\n");
    server.reload("changed --min-password 8");
    assert_answer("bob", Some("short"), "'bad-password'");
    assert_answer("alice", Some("short"), ">WELCOME<");
    write("register = \"closed\"\n");
    server.reload("changed --min-password 1, --register closed");
    assert_answer("bob", None, "'registration-closed'");
    assert_answer("alice", Some("short"), ">WELCOME<");
    write("register = \"invite\"\n");
    server.reload("changed --register invite");
    assert_answer("bob", None, "'invitation-needed'");
}

#[test]
fn a_limit_of_the_file_holds_for_the_next_clients() {
    let folder = folder("config-limit");
    let config = folder.0.join("chat.toml");
    std::fs::write(&config, "workers = 4\n").unwrap();
    let server = Configured::start(&config);
    let ask = || Client::connect(server.portal).rest();
    let (one, two) = (ask(), ask());
    assert!(one.contains("HandshakePasscode") && two.contains("HandshakePasscode"));
    std::fs::write(&config, "workers = 4\nmax-per-ip = 2\n").unwrap();
    server.reload("changed --max-per-ip 2");
    let third = ask();
    assert!(!third.contains("HandshakePasscode"), "{third}");
    std::fs::write(&config, "workers = 4\n").unwrap();
    server.reload("changed --max-per-ip no limit");
    assert!(ask().contains("HandshakePasscode"));
}

#[test]
fn check_prints_the_settings_of_the_file_and_the_command_line() {
    let folder = folder("config-check");
    let config = folder.0.join("chat.toml");
    std::fs::write(
        &config,
        "workers = 6\nhistory = 7\nboard = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let checked = |options: &[&str]| {
        let output = Command::new(SERVER)
            .args(["0", "--no-passwords", "--check", "--config"])
            .arg(&config)
            .args(options)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.code())
    };
    let (said, code) = checked(&["--workers", "2"]);
    assert_eq!(code, Some(0), "{said}");
    for (option, value) in [
        ("--config", config.to_str().unwrap()),
        ("--workers", "2"),
        ("--history", "7"),
        ("--board", "127.0.0.1:0"),
    ] {
        let line = format!("  {option:<20} {value}\n");
        assert!(said.contains(&line), "{line}: {said}");
    }
    std::fs::write(&config, "workers = 7\n").unwrap();
    let (said, code) = checked(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("chat.toml, line 1: ") && said.contains("even number"),
        "{said}"
    );
}
