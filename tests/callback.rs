//! Callbacks, in which the server connects to the client: they reach only the requesting client,
//! and cost one reservation if there is no answer.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use portal_chat::net::Port;
use portal_chat::server::Settings;
use portal_chat::wire::CloseReason;
use socket2::{Domain, Socket, Type};
use support::running::program;
use support::sentences;
use support::{Client, TestServer, message, ticket};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A client at 127.0.0.2 that has a ticket and is connected to its worker.
struct Caller {
    port: Port,
    passcode: String,
    worker: Client,
}

impl Caller {
    fn connect(server: &TestServer) -> Caller {
        let portal = server.server.portal();
        let (port, passcode) = ticket(&Client::connect_from(ELSEWHERE, portal).rest());
        let worker = Client::connect_from(ELSEWHERE, SocketAddr::new(portal.ip(), port.get()));
        Caller {
            port,
            passcode,
            worker,
        }
    }

    fn request_callback(&mut self, callback: &str) {
        let passcode = &self.passcode;
        self.worker.send_line(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode><callback>{callback}</callback></CLIENT>"
        ));
    }

    fn expect_calling_back(&mut self) {
        let port = self.port;
        assert_eq!(
            self.worker.rest(),
            format!(
                "<SERVER type='worker' port='{port}'><message>Calling back</message></SERVER>\n"
            )
        );
    }
}

fn port_element(listener: &TcpListener) -> String {
    format!("<Port>{}</Port>", listener.local_addr().unwrap().port())
}

fn wait_for_close(server: &TestServer, port: Port, expected: CloseReason) {
    server.wait_for_close(expected, Some(port));
    server.wait_for_event("seat-free", Some(port));
}

#[test]
fn session_continues_on_the_callback() {
    let server = TestServer::start(&Settings {
        workers: 2,
        trace: true,
        ..Settings::default()
    });
    let listener = TcpListener::bind((ELSEWHERE, 0)).unwrap();
    let mut caller = Caller::connect(&server);
    let request_address = caller.worker.stream.local_addr().unwrap();
    caller.request_callback(&format!(
        "{}<Address>{ELSEWHERE}</Address>",
        port_element(&listener)
    ));
    caller.expect_calling_back();
    let request_address = request_address.to_string();
    server.wait_for("the requesting connection closed", |event| {
        event.kind == "close" && event.text("address") == Some(&request_address)
    });
    let (called, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), HERE, "from the portal's address");
    let mut alice = Client::over(called);
    let (port, passcode) = (caller.port, &caller.passcode);
    assert_eq!(
        alice.line(),
        format!(
            "<SERVER type='worker' port='{port}'><HandshakePasscode>{passcode}</HandshakePasscode>\
             <message>Connection successful</message></SERVER>"
        )
    );
    alice.line_with("NO PARTNER");
    let (mut bob, bobs_port) = server.seat();
    alice.line_with("PARTNER JOINED");
    bob.line_with("PARTNER JOINED");
    alice.send_line(&message("called"));
    assert_eq!(
        bob.line(),
        format!("<CLIENT from='{port}'><message>called</message></CLIENT>")
    );
    bob.send_line(&message("calling"));
    assert_eq!(
        alice.line(),
        format!("<CLIENT from='{bobs_port}'><message>calling</message></CLIENT>")
    );
    // The passcode has already been used to admit a client, so it is useless to an eavesdropper.
    let mut thief = Client::connect_from(ELSEWHERE, SocketAddr::new(HERE, port.get()));
    alice.send_line("<CLIENT><command>TERMINATE</command></CLIENT>");
    alice.assert_closed();
    assert!(thief.line().contains("Wrong handshake passcode"));
    wait_for_close(&server, port, CloseReason::Terminate);
    drop(bob);
    server.assert_all_ports_freed();
}

#[test]
fn only_the_requesting_client_is_called() {
    let server = TestServer::with_workers(2);
    let victim = TcpListener::bind((HERE, 0)).unwrap();
    victim.set_nonblocking(true).unwrap();
    for callback in [
        format!("{}<Address>{HERE}</Address>", port_element(&victim)),
        format!("{}<Address>localhost</Address>", port_element(&victim)),
        format!("<Port>{}</Port>", server.server.portal().port()),
        format!("<Port>{}</Port>", server.worker(0)),
        format!("<Port>{}</Port>", server.worker(1)),
        "<Port>22</Port>".to_owned(),
        "<Port>0</Port>".to_owned(),
        "<Port>70000</Port>".to_owned(),
        String::new(),
    ] {
        let mut caller = Caller::connect(&server);
        caller.request_callback(&callback);
        let reply = caller.worker.rest();
        assert!(
            reply.starts_with("<SERVER><error code='bad-callback'>") && reply.lines().count() == 1,
            "{callback}: {reply}"
        );
        wait_for_close(&server, caller.port, CloseReason::Entrance("bad-callback"));
        // The passcode is used up.
        let mut again = server.connect(caller.port);
        again.send_line(&support::handshake(&caller.passcode));
        assert!(again.line().contains("Wrong handshake passcode"));
    }
    assert_eq!(
        victim.accept().unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "no connection arrived"
    );
    server.assert_all_ports_freed();
}

#[test]
fn wrong_passcode_causes_no_callback() {
    let server = TestServer::with_workers(2);
    let listener = TcpListener::bind((ELSEWHERE, 0)).unwrap();
    let mut caller = Caller::connect(&server);
    caller.passcode = "0".repeat(32);
    caller.request_callback(&port_element(&listener));
    assert!(caller.worker.rest().contains("Wrong handshake passcode"));
    wait_for_close(&server, caller.port, CloseReason::WrongPasscode);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn refused_callback_ends_at_once() {
    let server = TestServer::with_workers(2);
    // Bound but not listening, so that no other process can use the port.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ELSEWHERE, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let mut caller = Caller::connect(&server);
    caller.request_callback(&format!("<Port>{port}</Port>"));
    caller.expect_calling_back();
    wait_for_close(&server, caller.port, CloseReason::Entrance("no-answer"));
    server.assert_all_ports_freed();
}

/// A listener that accepts no connection because its backlog is full, and the connections that fill
/// it.
fn full_listener() -> (Socket, Vec<Socket>, u16) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::new(ELSEWHERE, 0).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    });
    let waiting = waiting.collect();
    (listener, waiting, address.as_socket().unwrap().port())
}

#[test]
fn unanswered_callback_times_out() {
    let server = TestServer::with_workers(4);
    let (_listener, _waiting, port) = full_listener();
    let mut caller = Caller::connect(&server);
    caller.request_callback(&format!("<Port>{port}</Port>"));
    caller.expect_calling_back();
    server.wait_for_event("calling", Some(caller.port));
    server.tick(2);
    // Meanwhile, other clients are served.
    let (mut bob, _) = server.seat();
    bob.line_with("NO PARTNER");
    assert_eq!(server.server.free_ports().len(), 2);
    server.tick(1);
    wait_for_close(&server, caller.port, CloseReason::Entrance("no-answer"));
    assert_eq!(server.server.free_ports().len(), 3);
    drop(bob);
    server.assert_all_ports_freed();
}

#[test]
fn shutdown_does_not_wait_for_a_callback() {
    let server = TestServer::with_workers(2);
    let (_listener, _waiting, port) = full_listener();
    let mut caller = Caller::connect(&server);
    caller.request_callback(&format!("<Port>{port}</Port>"));
    caller.expect_calling_back();
    server.wait_for_event("calling", Some(caller.port));
    server.server.stop();
}

#[test]
fn client_program_accepts_a_callback() {
    let server = TestServer::with_workers(2);
    let portal = server.server.portal();
    let mut program = program(env!("CARGO_BIN_EXE_chatclient"))
        .args(["127.0.0.1", &portal.port().to_string(), "--callback"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut wait_for_line = |part: &str| {
        let line = screen.find(|line| line.as_ref().unwrap().contains(part));
        line.expect(part).unwrap()
    };
    assert!(
        wait_for_line(sentences::THE_WORKER_CALLED_BACK_ON).contains(&server.worker(0).to_string())
    );
    server.wait_for_event("calling", None);
    let (mut bob, _) = server.seat();
    wait_for_line(sentences::YOU_ARE_TALKING_TO);
    let mut keyboard = program.stdin.take().unwrap();
    writeln!(keyboard, "hello").unwrap();
    bob.line_with("<message>hello</message>");
    bob.send_line(&message("hello yourself"));
    wait_for_line("hello yourself");
    drop(keyboard);
    assert!(program.wait().unwrap().success());
    bob.line_with("PARTNER LEFT");
}

#[test]
fn client_program_rejects_an_impostor() {
    // The test's own portal and worker, which let another client connect first.
    let portal = TcpListener::bind((HERE, 0)).unwrap();
    let worker = TcpListener::bind((HERE, 0)).unwrap();
    let mut program = program(env!("CARGO_BIN_EXE_chatclient"))
        .args([
            "127.0.0.1",
            &portal.local_addr().unwrap().port().to_string(),
        ])
        .arg("--callback")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let port = worker.local_addr().unwrap().port();
    writeln!(
        portal.accept().unwrap().0,
        "<SERVER type='worker'><Port>{port}</Port><HandshakePasscode>abc</HandshakePasscode></SERVER>"
    )
    .unwrap();
    let mut requester = Client::over(worker.accept().unwrap().0);
    let request = requester.line();
    let (_, rest) = request.split_once("<callback><Port>").expect(&request);
    let back: u16 = rest.split_once('<').unwrap().0.parse().unwrap();
    let mut impostor = Client::connect(SocketAddr::new(HERE, back));
    impostor.send_line(&format!(
        "<SERVER type='worker' port='{port}'><HandshakePasscode>abd</HandshakePasscode>\
         <message>Connection successful</message></SERVER>"
    ));
    requester.send_line(&format!(
        "<SERVER type='worker' port='{port}'><message>Calling back</message></SERVER>"
    ));
    impostor.assert_closed();
    let mut right = TcpStream::connect((HERE, back)).unwrap();
    writeln!(
        right,
        "<SERVER type='worker' port='{port}'><HandshakePasscode>abc</HandshakePasscode>\
         <message>Connection successful</message></SERVER>\n\
         <CLIENT from='x'><message>it is me</message></CLIENT>"
    )
    .unwrap();
    let screen = BufReader::new(program.stdout.take().unwrap());
    let lines = screen.lines().map(Result::unwrap);
    let mut right = Some(right);
    let shown: Vec<String> = lines
        .inspect(|line| {
            if line.contains("it is me") {
                drop((program.stdin.take(), right.take()));
            }
        })
        .collect();
    assert!(
        shown.iter().any(|line| line.contains("x: it is me")),
        "{shown:?}"
    );
    program.wait().unwrap();
}
