//! Every command in the parts *Run* and *Look* of the lessons is played against the real programs,
//! with free ports instead of those on the page.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::running::{Running, program};
use support::terminal::Terminal;
use support::{sentences, temporary_file};

const LADDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lesson/ladder");
const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");
const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");

/// The name of each page, and the commands in its two parts, in order.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut pages: Vec<_> = fs::read_dir(LADDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.sort();
    let commands = |text: &str| -> Vec<String> {
        let parts = ["## Run", "## Look"].iter().flat_map(|part| {
            let (_, rest) = text.split_once(part).unwrap();
            let part = rest.split("\n## ").next().unwrap();
            part.split("```sh\n").skip(1)
        });
        parts
            .flat_map(|block| block.split("```").next().unwrap().lines())
            .map(str::to_owned)
            .collect()
    };
    let page = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, commands(&fs::read_to_string(path).unwrap()))
    };
    pages.iter().map(page).collect()
}

/// The value of a variable that is passed to `make`.
fn variable(command: &str, name: &str) -> Option<String> {
    let (_, rest) = command.split_once(&format!("{name}="))?;
    Some(match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next().unwrap().to_owned(),
        None => rest.split(' ').next().unwrap().to_owned(),
    })
}

/// A running server for a page, on a port that the system chooses.
struct Server {
    process: Running,
    port: String,
    accounts: std::path::PathBuf,
}

impl Server {
    fn start(arguments: &str) -> Server {
        let accounts = temporary_file("pages-accounts");
        let mut words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let is_echo = words.first().is_some_and(|word| word == "echo");
        if is_echo {
            words[1] = "0".to_owned();
        } else {
            words.retain(|word| word.len() < 5 || word.parse::<u16>().is_err());
            words.insert(0, "0".to_owned());
            words.extend(["--accounts".to_owned(), accounts.display().to_string()]);
            for word in &mut words {
                if word == "--web" {
                    "--web=127.0.0.1:0".clone_into(word);
                }
            }
        }
        let mut process = Running::start(
            program(SERVER)
                .args(&words)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let ready = if is_echo {
            "listen"
        } else {
            sentences::CTRL_C_TO_STOP_THE_SERVER
        };
        let port = Server::read_port(&mut process, ready, arguments);
        Server {
            process,
            port,
            accounts,
        }
    }

    /// Reads the server's output until it is ready, and finds its port there.
    fn read_port(process: &mut Child, ready: &str, arguments: &str) -> String {
        let out = BufReader::new(process.stdout.take().unwrap());
        let errors = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        for reader in [
            Box::new(out) as Box<dyn std::io::BufRead + Send>,
            Box::new(errors),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in reader.lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        drop(sender);
        let mut port = None;
        let mut shown = String::new();
        loop {
            let line = lines
                .recv_timeout(support::PATIENCE)
                .unwrap_or_else(|_| panic!("`{arguments}` is not ready: {shown}"));
            if port.is_none() {
                port = line.split("127.0.0.1:").nth(1).map(|rest| {
                    rest.chars()
                        .take_while(char::is_ascii_digit)
                        .collect::<String>()
                });
            }
            shown.push_str(&line);
            shown.push('\n');
            if let Some(port) = port.take_if(|_| shown.contains(ready)) {
                // The rest of the output must not fill the pipe.
                std::thread::spawn(move || lines.iter().count());
                return port;
            }
        }
    }

    /// Runs a command from the page that inspects the server.
    fn look(&self, command: &str) -> Output {
        let command = command
            .replace(
                "\"$(pgrep -u \"$(id -u)\" -n chatserver)\"",
                &self.process.id().to_string(),
            )
            .replace(":8080", &format!(":{}", self.port))
            .replace(" 8080", &format!(" {}", self.port))
            .replace(":50000", &format!(":{}", self.port))
            .replace(
                "~/.local/state/portal-chat/accounts.txt",
                &self.accounts.display().to_string(),
            );
        Command::new("sh").args(["-c", &command]).output().unwrap()
    }
}

/// Plays a client from the page, which types `lines`.
fn play_client(server: &Server, command: &str, lines: &str) -> String {
    let mut words: Vec<String> = match variable(command, "ARGS") {
        Some(arguments) => arguments.split_whitespace().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    let is_echo = words.first().is_some_and(|word| word == "echo");
    if is_echo {
        words[2].clone_from(&server.port);
    } else {
        let name = variable(command, "NAME");
        words = ["127.0.0.1".to_owned(), server.port.clone()]
            .into_iter()
            .chain(name)
            .collect();
    }
    let mut client = program(CLIENT)
        .args(&words)
        .env("CHAT_PASSWORD", "open sesame")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = client.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {shown}");
    shown
}

#[test]
fn run_and_look_work_as_printed() {
    for (page, commands) in commands() {
        let mut server = None;
        for command in &commands {
            let arguments = variable(command, "ARGS").unwrap_or_default();
            if arguments.contains("--cluster") || page.starts_with("9-") {
                // `tests/cluster.rs` plays the last rung against a Redis.
                continue;
            }
            if command.starts_with("make run-server") {
                server = Some(Server::start(&arguments));
                continue;
            }
            let server = server
                .as_ref()
                .unwrap_or_else(|| panic!("{page}: no server"));
            if command.starts_with("make run-client") && arguments.starts_with("echo") {
                let shown = play_client(server, command, "hello\nExit\n");
                assert!(shown.contains("From server -> hello"), "{page}: {shown}");
            } else if command.starts_with("make run-client") {
                let name = variable(command, "NAME");
                let lines = if name.is_some() { "/names\n" } else { "" };
                let shown = play_client(server, command, lines);
                if let Some(name) = name {
                    assert!(
                        shown.contains(&format!("logged in as {name}")),
                        "{page}: {shown}"
                    );
                }
            } else if command.starts_with("ps ") || command.starts_with("ss -") {
                let output = server.look(command);
                let shown = String::from_utf8_lossy(&output.stdout);
                let expected = if command.starts_with("ps ") {
                    "main"
                } else {
                    "State"
                };
                let is_installed = output.status.code() != Some(127);
                assert!(
                    !is_installed || shown.contains(expected) || shown.contains("chatserver"),
                    "{page}: {command}: {shown}"
                );
            } else if command.starts_with("cat ~") {
                let output = server.look(command);
                let shown = String::from_utf8_lossy(&output.stdout);
                assert!(shown.contains("alice $argon2"), "{page}: {shown}");
            } else {
                // Interactive tools, or a chain of them, as `tests/tls.rs` plays it.
                let known = ["nc ", "top ", "mkfifo ", "printf ", "cat -v "];
                assert!(
                    known.iter().any(|tool| command.starts_with(tool)),
                    "{page}: this test does not know `{command}`"
                );
            }
        }
        if let Some(server) = server {
            let _ = fs::remove_file(server.accounts);
        }
    }
}

/// Exercise 2.2, on a terminal: the console must not depend on low descriptors.
#[test]
fn thousand_workers_start_on_a_terminal() {
    let page = Path::new(LADDER).join("2-a-thread-for-each-client.md");
    let text = fs::read_to_string(page).unwrap();
    let arguments = "--workers 1000 --quiet";
    assert!(text.contains(&format!("ARGS='{arguments}'")));
    let words: Vec<&str> = ["0", "--no-passwords"]
        .into_iter()
        .chain(arguments.split(' '))
        .collect();
    let mut server = Terminal::start(SERVER, &words, &[]);
    server.wait_for_text(sentences::CTRL_C_TO_STOP_THE_SERVER);
    server.type_line("who");
    server.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    server.type_text("\u{3}");
    assert_eq!(server.wait_for_exit(), 0);
}
