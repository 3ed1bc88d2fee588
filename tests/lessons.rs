//! The lessons' servers behave as on the slides.
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
use support::sentences;
use support::{Client, PATIENCE};

/// Runs a server during `visit`, and then stops it.
fn with_server(
    serve: fn(&Listener, portal_chat::lesson::Print<'_>) -> std::io::Result<()>,
    visit: impl FnOnce(SocketAddr, &Receiver<String>),
) {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(anywhere, &Tap::default()).unwrap();
    let address = listener.address();
    let (sender, output) = channel();
    let sender = std::sync::Mutex::new(sender);
    thread::scope(|threads| {
        threads.spawn(|| {
            let print = |text: &str| sender.lock().unwrap().send(text.to_owned()).unwrap();
            // Returns an error when the listener is shut down.
            assert!(serve(&listener, &print).is_err());
        });
        visit(address, &output);
        listener.wake();
    });
}

fn wait_for(output: &Receiver<String>, part: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let line = output
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("{part} was never printed"));
        if line.contains(part) {
            return line;
        }
    }
}

#[test]
fn second_client_waits_in_the_backlog() {
    with_server(one_at_a_time::serve, |address, output| {
        let (mut first, mut second) = (Client::connect(address), Client::connect(address));
        second.send_line("I was second");
        first.send_line("hello");
        assert_eq!(first.line(), "From server -> hello");
        let line = wait_for(output, "From client -> hello");
        assert!(
            line.contains(&first.stream.local_addr().unwrap().to_string()),
            "{line}"
        );
        assert!(second.has_received_nothing());
        first.send_line("Exit");
        wait_for(output, "has left");
        let line = wait_for(output, "Client connected");
        assert!(line.ends_with(&format!(" to {address}")), "{line}");
        assert_eq!(second.line(), "From server -> I was second");
        drop(second);
        wait_for(output, "has left");
    });
}

#[test]
fn no_client_waits_with_a_thread_per_client() {
    with_server(thread_per_client::serve, |address, output| {
        let (mut first, mut second) = (Client::connect(address), Client::connect(address));
        second.send_line("second");
        assert_eq!(second.line(), "From server -> second");
        first.send_line("first");
        assert_eq!(first.line(), "From server -> first");
        second.send_line("exit");
        second.assert_closed();
        drop(first);
        wait_for(output, "has left");
        wait_for(output, "has left");
    });
}

#[test]
fn last_line_without_line_feed_gets_a_reply() {
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
fn endless_line_closes_the_connection() {
    with_server(thread_per_client::serve, |address, output| {
        let mut endless = Client::connect(address);
        endless.try_send(&vec![b'x'; 1 << 20]);
        wait_for(output, "too long");
        endless.assert_closed();
    });
}

#[test]
fn reset_is_reported_as_interrupted() {
    with_server(one_at_a_time::serve, |address, output| {
        Client::connect(address).reset();
        wait_for(output, "was interrupted");
    });
}

/// Runs `chatclient echo ARGUMENTS` with `typed` as its input. Returns the output on both streams,
/// and the exit code.
fn echo_client(arguments: &[&str], typed: &[u8]) -> (String, i32) {
    let mut client = program(env!("CARGO_BIN_EXE_chatclient"))
        .arg("echo")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The client may have exited without reading.
    let _ = client.stdin.take().unwrap().write_all(typed);
    let output = client.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8(text).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn each_error_has_its_message_and_exit_code() {
    // Bound, so that no other process uses the port, but not listening.
    let not_listening =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    not_listening.bind(&anywhere.into()).unwrap();
    let address = not_listening.local_addr().unwrap().as_socket().unwrap();
    let closed_port = address.port().to_string();
    let (output, code) = echo_client(&["127.0.0.1", &closed_port], b"");
    assert!(
        output.contains(sentences::NO_PROGRAM_IS_LISTENING) && code == 1,
        "{output}"
    );
    let (output, code) = echo_client(&["no address", &closed_port], b"");
    assert!(
        output.contains("no address is not an IP address") && code == 1,
        "{output}"
    );
    // A server that closes the connection without a reply.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let closing_server = thread::spawn(move || {
        let (stream, _) = server.accept().unwrap();
        BufReader::new(stream)
            .read_line(&mut String::new())
            .unwrap();
    });
    let (output, code) = echo_client(&["localhost", &port], b"hello\nthere\n");
    closing_server.join().unwrap();
    assert!(
        output.contains(sentences::CLOSED_THE_CONNECTION) && code == 1,
        "{output}"
    );
    let (output, code) = echo_client(&["--bogus"], b"");
    assert!(output.contains("--bogus") && code == 2, "{output}");
}

#[test]
fn echo_client_and_server_work_together() {
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
    let text = String::from_utf8(output.stdout).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(
        output.status.success() && text.contains("From server -> hello\n"),
        "{text}"
    );
}
