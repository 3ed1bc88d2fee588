//! Output that can't be written: a full disk, a closed pipe, a slow reader. No program panics, and
//! no program hides the error if its output was its only purpose.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/running.rs"]
mod running;
#[path = "support/sentences.rs"]
mod sentences;

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

/// A file on a full disk.
fn full_disk() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// A pipe with a closed reader.
fn closed_pipe() -> Stdio {
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

/// The command lines of programs that only print something.
fn print_commands() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut print_commands = Vec::new();
    for program in [SERVER, CLIENT, CHECKER] {
        for arguments in [
            &["--help"][..],
            &["--version"],
            &["--man"],
            &["--completions", "bash"],
        ] {
            print_commands.push((program, arguments.to_vec()));
        }
    }
    print_commands.push((CHECKER, vec!["1"]));
    print_commands.push((CHECKER, vec!["1", "--list"]));
    print_commands.push((CHECKER, vec!["1", "true {port}"]));
    print_commands.push((SERVER, vec!["--check", "0", "--no-passwords"]));
    print_commands
}

#[test]
fn unwritable_output_is_an_error() {
    for (program, arguments) in print_commands() {
        let output = run(program, &arguments, full_disk(), Stdio::piped());
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{program} {arguments:?}: {reason}"
        );
        assert!(
            reason.contains(sentences::CANT_WRITE_TO_STANDARD_OUTPUT)
                && !reason.contains("panicked"),
            "{program} {arguments:?}: {reason}"
        );
    }
}

#[test]
fn closed_pipe_is_not_an_error() {
    for (program, arguments) in print_commands() {
        // The check itself fails, because `true` is not a server.
        let expected = i32::from(arguments.contains(&"true {port}"));
        let output = run(program, &arguments, closed_pipe(), Stdio::piped());
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), &*reason),
            (Some(expected), ""),
            "{program} {arguments:?}"
        );
    }
}

/// A port without a listener.
fn no_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn exit_code_does_not_depend_on_standard_error() {
    let port = no_server().to_string();
    for stderr in [full_disk as fn() -> Stdio, closed_pipe] {
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

/// Starts a server in `folder` and waits until it is listening.
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
    // The ticks start last.
    let tick = "\"event\":\"tick\"";
    while !std::fs::read_to_string(&events).is_ok_and(|text| text.contains(tick)) {
        std::thread::yield_now();
    }
    server
}

/// Uses TLS, because SIGHUP then does not terminate a server whose controlling terminal is a
/// different one.
#[cfg(feature = "tls")]
#[test]
fn server_continues_without_output() {
    for (name, output) in [("full", full_disk as fn() -> Stdio), ("gone", closed_pipe)] {
        let folder = Folder::new(name);
        let mut server = server(&folder, &["--tls"], output(), output());
        // The server reports the reload on standard error, and reloads before it exits.
        server.signal("-HUP");
        server.signal("-TERM");
        assert_eq!(server.wait().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn slow_reader_of_a_pipe_gets_every_line() {
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
fn server_continues_at_the_file_size_limit() {
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
        sentence.contains(sentences::CANT_WRITE_TO_THE_EVENT_FILE_EVENTS_FILE),
        "{sentence}"
    );
    // After that report, a signal still shuts the server down in an orderly way.
    let mut screen = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(screen.any(|line| line.unwrap().contains(sentences::CTRL_C_TO_STOP_THE_SERVER)));
    server.signal("-TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
