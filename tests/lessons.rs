//! The lessons' servers do what the slides show.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use portal_chat::lesson::{one_at_a_time, thread_per_client};
use portal_chat::net::{Listener, Tap};
use support::running::{Running, program};
use support::{Client, PATIENCE};

/// Runs a server while `visit` does something, and then ends it.
fn with_server(
    serve: fn(&Listener, portal_chat::lesson::Print<'_>) -> std::io::Result<()>,
    visit: impl FnOnce(SocketAddr, &Receiver<String>),
) {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(anywhere, &Tap::default()).unwrap();
    let address = listener.address();
    let (sender, said) = channel();
    let sender = std::sync::Mutex::new(sender);
    thread::scope(|threads| {
        threads.spawn(|| {
            let say = |text: &str| sender.lock().unwrap().send(text.to_owned()).unwrap();
            // Ends with an error when the listener is shut down.
            assert!(serve(&listener, &say).is_err());
        });
        visit(address, &said);
        listener.wake();
    });
}

fn wait_for(said: &Receiver<String>, part: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let line = said
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("{part} was never said"));
        if line.contains(part) {
            return line;
        }
    }
}

#[test]
fn one_at_a_time_the_second_client_waits_in_the_backlog() {
    with_server(one_at_a_time::serve, |address, said| {
        let (mut first, mut second) = (Client::connect(address), Client::connect(address));
        second.send_line("I was second");
        first.send_line("hello");
        assert_eq!(first.line(), "From server -> hello");
        let line = wait_for(said, "From client -> hello");
        assert!(
            line.contains(&first.stream.local_addr().unwrap().to_string()),
            "{line}"
        );
        assert!(second.has_heard_nothing());
        first.send_line("Exit");
        wait_for(said, "has gone");
        let line = wait_for(said, "Client connected");
        assert!(line.ends_with(&format!(" to {address}")), "{line}");
        assert_eq!(second.line(), "From server -> I was second");
        drop(second);
        wait_for(said, "has gone");
    });
}

#[test]
fn with_a_thread_per_client_nobody_waits() {
    with_server(thread_per_client::serve, |address, said| {
        let (mut first, mut second) = (Client::connect(address), Client::connect(address));
        second.send_line("second");
        assert_eq!(second.line(), "From server -> second");
        first.send_line("first");
        assert_eq!(first.line(), "From server -> first");
        second.send_line("exit");
        second.assert_closed();
        drop(first);
        wait_for(said, "has gone");
        wait_for(said, "has gone");
    });
}

#[test]
fn a_last_line_without_a_line_feed_is_answered() {
    with_server(one_at_a_time::serve, |address, _| {
        let mut client = Client::connect(address);
        client.send(b"one\ntwo");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.line(), "From server -> one");
        assert_eq!(client.line(), "From server -> two");
        client.assert_closed();
    });
}

#[test]
fn a_line_without_end_is_not_hoarded() {
    with_server(thread_per_client::serve, |address, said| {
        let mut endless = Client::connect(address);
        endless.try_send(&vec![b'x'; 1 << 20]);
        wait_for(said, "too long");
        endless.assert_closed();
    });
}

#[test]
fn a_client_that_is_killed_is_told_from_one_that_leaves() {
    with_server(one_at_a_time::serve, |address, said| {
        Client::connect(address).reset();
        wait_for(said, "has been interrupted");
    });
}

/// What `chatclient echo ARGUMENTS` says on both outputs when that is typed, and its exit code.
fn echo_client(arguments: &[&str], typed: &[u8]) -> (String, i32) {
    let mut client = program(env!("CARGO_BIN_EXE_chatclient"))
        .arg("echo")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A client that has ended before reads nothing.
    let _ = client.stdin.take().unwrap().write_all(typed);
    let output = client.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        String::from_utf8(said).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn each_kind_of_error_has_its_own_words_and_code() {
    // Bound, so that it is nobody else's, and not listening.
    let unheard = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    unheard.bind(&anywhere.into()).unwrap();
    let address = unheard.local_addr().unwrap().as_socket().unwrap();
    let nobody = address.port().to_string();
    let (said, code) = echo_client(&["127.0.0.1", &nobody], b"");
    assert!(said.contains("nobody listens there") && code == 1, "{said}");
    let (said, code) = echo_client(&["no address", &nobody], b"");
    assert!(
        said.contains("no address is no IP address") && code == 1,
        "{said}"
    );
    // A server that hangs up without an answer.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let hangs_up = thread::spawn(move || {
        let (stream, _) = server.accept().unwrap();
        BufReader::new(stream)
            .read_line(&mut String::new())
            .unwrap();
    });
    let (said, code) = echo_client(&["localhost", &port], b"hello\nthere\n");
    hangs_up.join().unwrap();
    assert!(said.contains("has hung up") && code == 1, "{said}");
    let (said, code) = echo_client(&["--bogus"], b"");
    assert!(said.contains("--bogus") && code == 2, "{said}");
}

#[test]
fn the_two_programs_talk() {
    let mut server = Running::start(
        program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["echo", "0", "--one-at-a-time", "--bind", "127.0.0.1"])
            .stdout(Stdio::piped()),
    );
    let mut screen = BufReader::new(server.stdout.take().unwrap());
    let mut shown = String::new();
    screen.read_line(&mut shown).unwrap();
    let port = shown
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    let mut client = program(env!("CARGO_BIN_EXE_chatclient"))
        .args(["echo", "127.0.0.1", port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client
        .stdin
        .take()
        .unwrap()
        .write_all(b"hello\nExit\n")
        .unwrap();
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(
        output.status.success() && said.contains("From server -> hello\n"),
        "{said}"
    );
}
