//! Starting and stopping: what is told, what is refused, and that nothing is left over.
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

/// How many of this process's threads bear one of the server's names.
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
fn everyone_is_told_and_the_ports_are_free_at_once() {
    let server = TestServer::with_workers(4);
    let portal = server.server.portal();
    let workers = server.server.workers().to_vec();
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    let (greeting_port, _) = ticket(&server.request_port());
    let mut greeting = server.connect(greeting_port);
    server.wait_for_event("arrived", Some(greeting_port));
    // One more is reserved, and nobody comes.
    server.request_port();
    if cfg!(target_os = "linux") {
        // A worker and a timer each. A thread names itself when it first runs, which may be later.
        let start = std::time::Instant::now();
        while server_threads(&server.server) != 8 {
            assert!(
                start.elapsed() < support::PATIENCE,
                "not every thread has its name"
            );
            std::thread::yield_now();
        }
    }

    let told = server.stop();
    let first = |word: &str| told.iter().position(|event| event.kind == word);
    assert!(
        first("shutting-down").unwrap() < first("closed").unwrap(),
        "who is sent away is told of after the reason for it"
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
fn nobody_is_told_that_there_is_no_partner_before_the_partner_has_left() {
    let server = TestServer::with_workers(2);
    for _ in 0..50 {
        let (mut alice, _) = server.seat();
        let (bob, _) = server.seat();
        alice.line_with("PARTNER JOINED");
        bob.reset();
        // Into the moment in which bob is being dropped: the first finds the connection broken, the
        // others ended.
        for _ in 0..20 {
            alice.send_line(&support::message("are you there?"));
        }
        let heard = alice.line_with("PARTNER");
        assert!(heard.contains("PARTNER LEFT"), "{heard}");
        drop(alice);
        server.assert_all_ports_freed();
    }
}

#[test]
fn a_server_can_be_stopped_while_people_come_and_talk() {
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

/// A timer may be woken once for a tick that is due and for the end, which follows at once.
#[test]
fn a_tick_right_before_the_end_keeps_no_timer_from_ending() {
    for _ in 0..20 {
        let server = TestServer::with_workers(8);
        for _ in 0..8 {
            server.request_port();
        }
        // Two ticks long, and past at the third.
        server.tick(3);
        server.clock.stop();
        server.server.stop();
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_stays_open() {
    // Linux has loopback addresses enough. At one of its own, no outgoing connection of another
    // test's has the ports beside the taken one, for which a server would wait up to a minute.
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
    // Somebody else may have one of the other ports; then that one is named. Not each time.
    let mut tries = (0..20).map(|_| start());
    let found = tries.find(|(_, port, error)| {
        matches!(error, StartError::PortTaken { address, .. } if address.port() == *port)
    });
    let (_taken, port, error) = found.expect("the taken port is named");
    let text = error.to_string();
    // Linux tells who has it; elsewhere a tool does.
    let who = if cfg!(target_os = "linux") {
        format!("(process {})", std::process::id())
    } else {
        "ss -tulnp".to_owned()
    };
    assert!(
        text.contains(&port.to_string()) && text.contains(&who),
        "{text}"
    );
    TcpListener::bind((bind, port - 2)).expect("the portal's port was let go");
}

#[test]
fn an_address_that_is_not_ours_and_ports_beyond_the_last_are_refused() {
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
fn it_listens_on_ipv6_and_knows_a_mapped_address() {
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
fn a_thousand_guests_talk_in_pairs() {
    let server = TestServer::with_workers(1000);
    let mut guests: Vec<Client> = (0..1000).map(|_| server.seat().0).collect();
    for (index, guest) in guests.iter_mut().enumerate() {
        guest.send_line(&message(&format!("I am number {index}")));
    }
    for (index, guest) in guests.iter_mut().enumerate() {
        let partner = index ^ 1;
        let heard = guest.line_with("<message>I am");
        assert!(
            heard.contains(&format!("I am number {partner}<")),
            "{index} heard {heard}"
        );
    }
    let more = server.request_port();
    assert!(more.contains("FULL"), "{more}");
    let started = std::time::Instant::now();
    server.server.stop();
    // Only to be read: how long a stop takes is not a matter of right and wrong.
    println!("stopped 1000 workers in {:?}", started.elapsed());
}
