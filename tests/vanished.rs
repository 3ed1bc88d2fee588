//! A vanished machine is detected on every kind of connection, and a client that merely does not
//! read stays connected. Packets are really dropped: the server and the client are in separate
//! network namespaces, which require root and `ip`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portal_chat::event::Event;
use portal_chat::server::{Settings, WebEntrance};
use portal_chat::wire::CloseReason;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::SockRef;
use support::web::WebClient;
use support::{Client, TestServer, command, handshake, login, message, ticket};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The limit for acknowledgements in these tests: slightly longer than the first retransmission
/// timeout.
const LIMIT: Duration = Duration::from_millis(300);

/// Two simulated machines with a cable between them.
struct Machines {
    server: String,
    client: String,
}

fn ip(arguments: &str) -> bool {
    let ip = Command::new("ip")
        .args(arguments.split_whitespace())
        .output();
    ip.is_ok_and(|output| output.status.success())
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

impl Machines {
    /// Returns `None`, with a message, if this user or this machine can't create namespaces.
    fn start() -> Option<Machines> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("{role}-{}-{number}", std::process::id());
        let machines = Machines {
            server: name("server"),
            client: name("client"),
        };
        let Machines { server, client } = &machines;
        let cable = format!("link add eth0 netns {server} type veth peer name eth0 netns {client}");
        if !ip(&format!("netns add {server}")) || !ip(&format!("netns add {client}")) || !ip(&cable)
        {
            eprintln!("NOT TESTED: network namespaces take root, and `ip` of iproute2");
            return None;
        }
        for (namespace, address) in [(server, SERVER), (client, CLIENT)] {
            must(&format!("-n {namespace} addr add {address}/24 dev eth0"));
            must(&format!("-n {namespace} link set lo up"));
            must(&format!("-n {namespace} link set eth0 up"));
        }
        Some(machines)
    }

    /// Drops all packets to and from the client's machine.
    fn client_vanishes(&self) {
        must(&format!("-n {} addr flush dev eth0", self.client));
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            ip(&format!("netns del {namespace}"));
        }
    }
}

/// Calls `action` on this machine. Threads and sockets that it creates stay there. Its clients use
/// TLS if this thread's do.
fn on<T: Send>(machine: &str, action: impl FnOnce() -> T + Send) -> T {
    #[cfg(feature = "tls")]
    let tls = support::tls::this_threads_client();
    thread::scope(|threads| {
        let there = threads.spawn(|| {
            let namespace = File::open(format!("/run/netns/{machine}")).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            #[cfg(feature = "tls")]
            support::tls::use_tls(tls);
            action()
        });
        there
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn settings() -> Settings {
    Settings {
        bind: SERVER.into(),
        workers: 2,
        idle_timeout: None,
        unacknowledged: LIMIT,
        ..Settings::default()
    }
}

fn is_end(event: &Event, expected: CloseReason) -> bool {
    ["closed", "room-left"].contains(&&*event.kind) && event.text("end") == Some(expected.word())
}

/// Alice is on the server's machine. `connect` connects bob from the other machine. Bob then
/// vanishes, and alice sends him a message.
fn check_vanished_client<B: Send>(
    settings: &Settings,
    connect: impl FnOnce(&TestServer) -> B + Send,
    send: impl FnOnce(&mut Client) + Send,
) {
    let Some(machines) = Machines::start() else {
        return;
    };
    on(&machines.server, || {
        let server = TestServer::start(settings);
        let (mut alice, _) = server.seat();
        let bob = on(&machines.client, || connect(&server));
        machines.client_vanishes();
        send(&mut alice);
        server.with_running_clock(|| {
            server.wait_for("bob has vanished", |event| {
                is_end(event, CloseReason::Unacknowledged)
            });
        });
        alice.send_line(&command("PING", ""));
        alice.line_with("PONG");
        drop(bob);
        server.server.stop();
    });
}

fn send_hello(alice: &mut Client) {
    alice.send_line(&message("hello"));
}

#[test]
fn vanished_at_a_worker() {
    check_vanished_client(&settings(), TestServer::seat, send_hello);
}

#[test]
fn vanished_at_a_single_port() {
    let single = Settings {
        single_port: Some(2),
        ..settings()
    };
    check_vanished_client(&single, TestServer::seat, send_hello);
}

#[test]
fn vanished_in_a_browser() {
    let with_web = Settings {
        web: Some(WebEntrance::at(SocketAddr::from((SERVER, 0)))),
        ..settings()
    };
    let connect = |server: &TestServer| {
        let mut bob = WebClient::connect(server.server.web().unwrap());
        bob.take_seat();
        bob
    };
    check_vanished_client(&with_web, connect, send_hello);
}

#[test]
#[cfg(feature = "tls")]
fn vanished_over_tls() {
    let (tls, client) = support::tls::both();
    let encrypted = Settings {
        tls: Some(tls),
        ..settings()
    };
    support::tls::use_tls(Some(client));
    check_vanished_client(&encrypted, TestServer::seat, send_hello);
}

#[test]
fn vanished_after_a_callback() {
    let connect = |server: &TestServer| {
        let listener = TcpListener::bind((CLIENT, 0)).unwrap();
        let (port, passcode) = ticket(&server.request_port());
        let callback = listener.local_addr().unwrap().port();
        let request = format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode><callback><Port>{callback}</Port></callback></CLIENT>"
        );
        server.connect(port).send_line(&request);
        let mut bob = Client::over(listener.accept().unwrap().0);
        bob.line_with("Connection successful");
        bob
    };
    check_vanished_client(&settings(), connect, send_hello);
}

#[test]
fn vanished_in_a_room() {
    let connect = |server: &TestServer| {
        let (mut main, _) = server.seat();
        main.send_line(&login("bob"));
        main.send_line(&command("JOIN", "<room>lobby</room>"));
        let (port, passcode) = ticket(&main.line_with(">JOINED<"));
        let mut member = server.connect(port);
        member.send_line(&handshake(&passcode));
        member.line_with("Connection successful");
        (main, member)
    };
    let send = |alice: &mut Client| {
        alice.send_line(&login("alice"));
        alice.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    };
    check_vanished_client(&settings(), connect, send);
}

/// Bob reads nothing for ten times the limit, with much more pending than his kernel accepts, and
/// loses no message. Then his machine vanishes while his window is closed.
#[test]
fn paused_reader_stays_until_its_machine_vanishes() {
    const MESSAGES: usize = 100;
    let Some(machines) = Machines::start() else {
        return;
    };
    on(&machines.server, || {
        let server = TestServer::start(&settings());
        let (mut alice, _) = server.seat();
        let mut bob = on(&machines.client, || {
            let (bob, _) = server.seat();
            SockRef::from(&bob.stream)
                .set_recv_buffer_size(4096)
                .unwrap();
            bob
        });
        bob.line_with("PARTNER JOINED");
        let send_all = |alice: &mut Client| {
            for number in 0..MESSAGES {
                alice.send_line(&message(&format!("{number}{}", "x".repeat(4000))));
            }
            alice.send_line(&command("PING", ""));
            alice.line_with("PONG");
        };
        send_all(&mut alice);
        for _ in 0..30 {
            server.tick(1);
            thread::sleep(LIMIT / 3);
        }
        for number in 0..MESSAGES {
            bob.line_with(&format!(">{number}x"));
        }
        send_all(&mut alice);
        machines.client_vanishes();
        server.with_running_clock(|| {
            server.wait_for("bob has vanished", |event| {
                is_end(event, CloseReason::Unacknowledged)
            });
        });
        server.server.stop();
    });
}
