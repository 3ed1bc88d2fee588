//! The lessons' servers do what the slides show.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use portal_chat::lesson::{one_at_a_time, thread_per_client};
use portal_chat::net::{Listener, Tap};
use support::{Client, PATIENCE};

/// Runs a server while `visit` does something, and then ends it.
fn with_server(
    serve: fn(&Listener, portal_chat::lesson::Say<'_>) -> std::io::Result<()>,
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
    loop {
        let line = said
            .recv_timeout(PATIENCE)
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
fn a_line_without_end_is_not_hoarded() {
    with_server(thread_per_client::serve, |address, said| {
        let mut endless = Client::connect(address);
        endless.try_send(&vec![b'x'; 1 << 20]);
        wait_for(said, "too long");
        endless.assert_closed();
    });
}

#[test]
fn the_two_programs_talk() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_chatserver"))
        .args(["echo", "0", "--one-at-a-time", "--bind", "127.0.0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
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
    let mut client = Command::new(env!("CARGO_BIN_EXE_chatclient"))
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
