//! Output that can't be written: a full disk, a closed pipe, a slow reader. No program panics, and
//! no program hides the error if its output was its only purpose.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/running.rs"]
mod running;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use running::Running;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");
const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");
const CHECKER: &str = env!("CARGO_BIN_EXE_chatcheck");

/// A full disk.
fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// A pipe with a closed reader.
fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run(program: &str, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .output()
        .unwrap()
}

/// The command line of a program that only prints something.
fn asked() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut asked = Vec::new();
    for program in [SERVER, CLIENT, CHECKER] {
        for question in [
            &["--help"][..],
            &["--version"],
            &["--man"],
            &["--completions", "bash"],
        ] {
            asked.push((program, question.to_vec()));
        }
    }
    asked.push((CHECKER, vec!["1"]));
    asked.push((CHECKER, vec!["1", "--list"]));
    asked.push((CHECKER, vec!["1", "true {port}"]));
    asked.push((SERVER, vec!["--check", "0", "--no-passwords"]));
    asked
}

#[test]
fn an_answer_that_can_not_be_written_is_a_failure_with_a_reason() {
    for (program, question) in asked() {
        let output = run(program, &question, full(), Stdio::piped());
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{program} {question:?}: {reason}"
        );
        assert!(
            reason.contains("can't write to standard output") && !reason.contains("panicked"),
            "{program} {question:?}: {reason}"
        );
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    for (program, question) in asked() {
        // The check itself fails, because `true` is no server.
        let wanted = i32::from(question.contains(&"true {port}"));
        let output = run(program, &question, gone(), Stdio::piped());
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), &*reason),
            (Some(wanted), ""),
            "{program} {question:?}"
        );
    }
}

/// A port without a listener.
fn no_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn the_exit_code_does_not_depend_on_standard_error() {
    let port = no_server().to_string();
    for stderr in [full as fn() -> Stdio, gone] {
        for (program, arguments, code) in [
            (CLIENT, vec!["127.0.0.1", &*port], 1),
            (CLIENT, vec!["--nonsense"], 2),
            (SERVER, vec!["--nonsense"], 2),
            (SERVER, vec!["0", "--events", "/nowhere/at/all"], 2),
            (SERVER, vec!["replay", "/nowhere/at/all"], 2),
            (SERVER, vec!["echo", "8080", "--bind", "192.0.2.1"], 2),
            (CLIENT, vec!["echo", "127.0.0.1", &*port], 1),
            (CHECKER, vec!["1", "--nonsense"], 2),
            (CHECKER, vec!["1", "--only", "nonsense", "true"], 2),
        ] {
            let output = run(program, &arguments, Stdio::null(), stderr());
            assert_eq!(output.status.code(), Some(code), "{program} {arguments:?}");
        }
    }
}

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("portal-chat-output-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a server in `folder` and waits until it listens.
fn server(folder: &Folder, more: &[&str], stdout: Stdio, stderr: Stdio) -> Running {
    let events = folder.0.join("events");
    let server = Running::start(
        Command::new(SERVER)
            .args(["0", "--no-passwords", "--bind", "127.0.0.1", "--events"])
            .arg(&events)
            .args(more)
            .current_dir(&folder.0)
            .env("XDG_STATE_HOME", &folder.0)
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr),
    );
    // The ticks begin last.
    let tick = "\"event\":\"tick\"";
    while !std::fs::read_to_string(&events).is_ok_and(|text| text.contains(tick)) {
        std::thread::yield_now();
    }
    server
}

/// Uses TLS, because SIGHUP then does not end a server whose controlling terminal is another one.
#[cfg(feature = "tls")]
#[test]
fn a_server_goes_on_although_nothing_that_it_prints_can_be_written() {
    for (name, output) in [("full", full as fn() -> Stdio), ("gone", gone)] {
        let folder = Folder::new(name);
        let mut server = server(&folder, &["--tls"], output(), output());
        // The server reports the reload on standard error, and does it before it ends.
        server.signal("-HUP");
        server.signal("-TERM");
        assert_eq!(server.wait().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn a_slow_reader_of_a_pipe_that_never_blocks_gets_every_line() {
    let folder = Folder::new("slow");
    let (reader, writer) = std::io::pipe().unwrap();
    // The smallest possible pipe: the first lines fill it, and the test reads none until the server
    // is up.
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    let more = ["--trace", "--workers", "100"];
    let server = server(&folder, &more, writer.into(), Stdio::null());
    let events = std::fs::read_to_string(folder.0.join("events")).unwrap();
    let mut missing = events.matches("\"event\":\"listen\"").count();
    assert!(missing > 100, "{events}");
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap();
        assert!(!line.contains("lines-missing"), "{line}");
        missing -= usize::from(line.contains("  listen  "));
        if missing == 0 {
            break;
        }
    }
    drop(server);
    assert_eq!(missing, 0);
}

/// A file size limit, which an operator may set with `ulimit -f` or LimitFSIZE=.
#[test]
fn a_server_goes_on_beside_a_file_that_may_not_grow() {
    let folder = Folder::new("limit");
    let script = format!(
        "ulimit -f 1; exec {SERVER} 0 --no-passwords --bind 127.0.0.1 --trace --events events"
    );
    let mut server = Running::start(
        Command::new("sh")
            .args(["-c", &script])
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut sentence = String::new();
    let stderr = server.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut sentence).unwrap();
    assert!(
        sentence.contains("the event file events can't be written (File too large"),
        "{sentence}"
    );
    // After that report, a signal still ends the server in order.
    let mut screen = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(screen.any(|line| line.unwrap().contains("Ctrl-C ends the server")));
    server.signal("-TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
