//! Starting and stopping: messages, errors, and no leftovers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use portal_chat::clock::Clock;
use portal_chat::event::Events;
use portal_chat::server::{Portals, Server, Settings, StartError};
use support::{Client, TestServer, message, ticket};

/// Counts this process's threads that have a server's name.
fn server_threads(server: &Server) -> usize {
    let ports: Vec<String> = server.workers().iter().map(ToString::to_string).collect();
    std::fs::read_dir("/proc/self/task")
        .map(|tasks| {
            tasks
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
                .filter(|name| ports.iter().any(|port| name.trim_end().ends_with(port)))
                .count()
        })
        .unwrap_or(0)
}

#[test]
fn shutdown_notifies_clients_and_frees_ports() {
    let server = TestServer::with_workers(4);
    let portal = server.server.portal();
    let workers = server.server.workers().to_vec();
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    let (greeting_port, _) = ticket(&server.request_port());
    let mut greeting = server.connect(greeting_port);
    server.wait_for_event("arrived", Some(greeting_port));
    // One more port is reserved, but no client connects.
    server.request_port();
    if cfg!(target_os = "linux") {
        // Each seat has a worker and a timer. A thread sets its name when it first runs, which may
        // be later.
        let start = std::time::Instant::now();
        while server_threads(&server.server) != 8 {
            assert!(
                start.elapsed() < support::PATIENCE,
                "not every thread has its name"
            );
            std::thread::yield_now();
        }
    }

    let events = server.stop();
    let first = |word: &str| events.iter().position(|event| event.kind == word);
    assert!(
        first("shutting-down").unwrap() < first("closed").unwrap(),
        "clients are disconnected after the shutdown is reported"
    );
    for guest in [&mut alice, &mut bob, &mut greeting] {
        let last = guest.rest();
        assert!(
            last.ends_with("<SERVER><command>SHUTDOWN</command></SERVER>\n"),
            "{last}"
        );
    }
    TcpListener::bind(portal).expect("the TCP portal's port is free");
    UdpSocket::bind(portal).expect("the UDP portal's port is free");
    for port in workers {
        TcpListener::bind((portal.ip(), port.get())).expect("a worker's port is free");
    }
}

#[test]
fn partner_left_precedes_no_partner() {
    let server = TestServer::with_workers(2);
    for _ in 0..50 {
        let (mut alice, _) = server.seat();
        let (bob, _) = server.seat();
        alice.line_with("PARTNER JOINED");
        bob.reset();
        // Meanwhile, Bob is being dropped: the first message finds a broken connection, the others
        // a closed one.
        for _ in 0..20 {
            alice.send_line(&support::message("are you there?"));
        }
        let received = alice.line_with("PARTNER");
        assert!(received.contains("PARTNER LEFT"), "{received}");
        drop(alice);
        server.assert_all_ports_freed();
    }
}

#[test]
fn server_stops_while_clients_connect() {
    for _ in 0..10 {
        let server = TestServer::with_workers(8);
        let portal = server.server.portal();
        let (mut alice, _) = server.seat();
        let visitors: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    // Visits until the portal is gone.
                    while let Ok(stream) = std::net::TcpStream::connect(portal) {
                        drop(stream);
                    }
                })
            })
            .collect();
        alice.send_line(&message("hello"));
        server.server.stop();
        for visitor in visitors {
            visitor.join().unwrap();
        }
    }
}

/// A single wake-up of a timer may announce both a due tick and the shutdown that follows
/// immediately.
#[test]
fn tick_before_the_shutdown_does_not_block_timers() {
    for _ in 0..20 {
        let server = TestServer::with_workers(8);
        for _ in 0..8 {
            server.request_port();
        }
        // The reservations last two ticks, and expire at the third.
        server.tick(3);
        server.clock.stop();
        server.server.stop();
    }
}

#[test]
fn port_in_use_is_named_and_nothing_stays_open() {
    // Linux has many loopback addresses. At a separate one, no outgoing connection from another
    // test uses the ports next to the taken one; otherwise a server would wait up to a minute for
    // them.
    let [.., high, low] = std::process::id().to_be_bytes();
    let bind = match cfg!(target_os = "linux") {
        true => Ipv4Addr::new(127, 77, high, low),
        false => Ipv4Addr::LOCALHOST,
    };
    let start = || {
        let taken = TcpListener::bind((bind, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        // The taken port is the second worker's, so the portal and a worker are bound before it.
        let settings = Settings {
            bind: bind.into(),
            port: port - 2,
            ..Settings::default()
        };
        let clock = Clock::new();
        let error = Server::start(&settings, clock.clone(), Events::new(clock)).err();
        (taken, port, error.unwrap())
    };
    // Another process may be using one of the other ports, which is then reported instead, but not
    // every time.
    let mut tries = (0..20).map(|_| start());
    let found = tries.find(|(_, port, error)| {
        matches!(error, StartError::PortTaken { address, .. } if address.port() == *port)
    });
    let (_taken, port, error) = found.expect("the taken port is named");
    let text = error.to_string();
    // On Linux, the system reports which process is using the port; on other systems, an external
    // tool does.
    let owner = if cfg!(target_os = "linux") {
        format!("(process {})", std::process::id())
    } else {
        "ss -tulnp".to_owned()
    };
    assert!(
        text.contains(&port.to_string()) && text.contains(&owner),
        "{text}"
    );
    TcpListener::bind((bind, port - 2)).expect("the portal's port was closed");
}

#[test]
fn invalid_addresses_and_ports_are_refused() {
    let start = |settings: Settings| {
        let clock = Clock::new();
        Server::start(&settings, clock.clone(), Events::new(clock))
            .err()
            .unwrap()
    };
    let foreign = Settings {
        port: 0,
        bind: "192.0.2.77".parse().unwrap(),
        ..Settings::default()
    };
    assert!(matches!(start(foreign), StartError::NotOurs(_)));
    let beyond = Settings {
        port: 65533,
        portals: Portals::Udp,
        ..Settings::default()
    };
    let refused = start(beyond);
    assert!(
        matches!(
            refused,
            StartError::PortsRunOut { .. } | StartError::PortTaken { .. }
        ),
        "{refused}"
    );
}

#[test]
fn server_accepts_mapped_ipv4_addresses() {
    let settings = Settings {
        workers: 2,
        bind: "::".parse().unwrap(),
        ..Settings::default()
    };
    if TcpListener::bind("[::]:0").is_err() {
        eprintln!("this machine has no IPv6; nothing to test");
        return;
    }
    let server = TestServer::start(&settings);
    let portal = format!("127.0.0.1:{}", server.server.portal().port());
    let (port, passcode) = ticket(&Client::connect(portal.parse().unwrap()).rest());
    let mut client = Client::connect(format!("127.0.0.1:{port}").parse().unwrap());
    client.send_line(&support::handshake(&passcode));
    assert!(client.line().contains("Connection successful"));
}

#[test]
fn thousand_clients_chat_in_pairs() {
    let server = TestServer::with_workers(1000);
    let mut guests: Vec<Client> = (0..1000).map(|_| server.seat().0).collect();
    for (index, guest) in guests.iter_mut().enumerate() {
        guest.send_line(&message(&format!("I am number {index}")));
    }
    for (index, guest) in guests.iter_mut().enumerate() {
        let partner = index ^ 1;
        let received = guest.line_with("<message>I am");
        assert!(
            received.contains(&format!("I am number {partner}<")),
            "{index} received {received}"
        );
    }
    let more = server.request_port();
    assert!(more.contains("FULL"), "{more}");
    let started = std::time::Instant::now();
    server.server.stop();
    // For information only: the duration of a stop is not checked.
    println!("stopped 1000 workers in {:?}", started.elapsed());
}
