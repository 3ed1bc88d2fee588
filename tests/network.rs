//! The addresses on which a server listens, and the ports for which it waits, in isolated networks.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::Clock;
use portal_chat::event::Events;
use portal_chat::server::{Portals, Server, Settings, WebEntrance};
use support::network::{LOOPBACK, is_inside_isolated_network, leave_in_time_wait};
use support::running::Running;
use support::sentences;
use support::{Client, TestServer, UdpClient, handshake, ticket};

const LOCAL: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// One test per system default, because the test runs again under its own name.
fn listens_over_both(test: &str, bindv6only: u8) {
    let setup = format!("{LOOPBACK} && echo {bindv6only} > /proc/sys/net/ipv6/bindv6only");
    if !is_inside_isolated_network(test, &setup) {
        return;
    }
    let everywhere: SocketAddr = "[::]:0".parse().unwrap();
    let server = TestServer::start(&Settings {
        bind: "::".parse().unwrap(),
        workers: 2,
        max_per_address: Some(1),
        web: Some(WebEntrance::at(everywhere)),
        ..Settings::default()
    });
    let mut events = Events::new(Clock::new());
    let redactor = Redactor {
        texts: false,
        secrets: false,
    };
    let board = Board::live(everywhere, &mut events, redactor, None, &[]).unwrap();
    let portal = server.server.portal().port();
    for ip in LOCAL {
        let (port, passcode) = ticket(&Client::connect((ip, portal).into()).rest());
        let event = server.wait_for_event("ticket", None);
        let asker = format!("asker {}", SocketAddr::new(ip, 0))
            .trim_end_matches('0')
            .to_owned();
        assert!(event.line().contains(&asker), "{}", event.line());
        let mut client = Client::connect((ip, port.get()).into());
        client.send_line(&handshake(&passcode));
        assert!(client.line().contains("Connection successful"));
        // The address already has its only seat, which also counts over UDP.
        let reply = UdpClient::new((ip, portal).into()).request_port();
        assert!(reply.contains("FULL"), "{reply}");
        for page in [server.server.web().unwrap(), board.address()] {
            let mut browser = Client::connect((ip, page.port()).into());
            browser.send(
                format!(
                    "GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
                    SocketAddr::new(ip, page.port())
                )
                .as_bytes(),
            );
            assert!(browser.line().starts_with("HTTP/1.1 200"));
        }
        drop(client);
        server.wait_for_event("seat-free", Some(port));
    }
}

#[test]
fn ipv6_wildcard_accepts_ipv4_by_default() {
    listens_over_both("ipv6_wildcard_accepts_ipv4_by_default", 0);
}

#[test]
fn ipv6_wildcard_accepts_ipv4_with_bindv6only() {
    listens_over_both("ipv6_wildcard_accepts_ipv4_with_bindv6only", 1);
}

#[test]
fn server_starts_with_a_port_in_time_wait() {
    let name = "server_starts_with_a_port_in_time_wait";
    if !is_inside_isolated_network(name, LOOPBACK) {
        return;
    }
    leave_in_time_wait(([127, 0, 0, 1], 50002).into());
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    let queue = events.add_reader(100);
    let settings = Settings::default();
    let server = Server::start(&settings, clock, events).unwrap();
    assert_eq!(server.missing_at_start(), 1);
    let free: Vec<u16> = server.free_ports().iter().map(|port| port.get()).collect();
    assert_eq!(free, [50003, 50004, 50001], "the whole pair first");
    let (port, passcode) = ticket(&Client::connect(server.portal()).rest());
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, port.get()).into());
    client.send_line(&handshake(&passcode));
    assert!(client.line().contains("Connection successful"));
    let event: Vec<String> = queue
        .events()
        .try_iter()
        .map(|event| event.line())
        .collect();
    let busy = "ports-busy      ports 50002  reason a closed outgoing connection still occupies it (TIME_WAIT)";
    assert!(event.iter().any(|line| line.contains(busy)), "{event:#?}");
}

#[test]
fn check_does_not_wait_for_time_wait() {
    let name = "check_does_not_wait_for_time_wait";
    if !is_inside_isolated_network(name, LOOPBACK) {
        return;
    }
    let ports = [50000, 50001, 50002, 8080];
    for port in ports {
        leave_in_time_wait(([127, 0, 0, 1], port).into());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatserver"));
    command.args(["--workers", "2", "--no-passwords", "--web", "--check"]);
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!((output.status.code(), &*err), (Some(0), ""), "{out}");
    let sentence = "Ports 50000, 50001, 50002, 8080 are in TIME_WAIT because of a closed outgoing \
                    connection; they will be free within a minute.\nThe server can start.\n";
    assert!(out.ends_with(sentence), "{out}");
}

#[test]
fn server_does_not_listen_without_a_free_port() {
    let name = "server_does_not_listen_without_a_free_port";
    if !is_inside_isolated_network(name, LOOPBACK) {
        return;
    }
    for port in [50001, 50002] {
        leave_in_time_wait(([127, 0, 0, 1], port).into());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatserver"));
    command.args(["--workers", "2", "--no-passwords", "--web=127.0.0.1:8080"]);
    let mut server = Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut warning = String::new();
    let mut stderr = BufReader::new(server.stderr.take().unwrap());
    stderr.read_line(&mut warning).unwrap();
    assert!(
        warning.contains(sentences::PORT_50001_IS_IN_USE_BY_A_CLOSED),
        "{warning}"
    );
    for port in [50000, 50001, 8080] {
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{port}");
    }
}

#[test]
fn port_in_use_is_refused_despite_time_wait() {
    let name = "port_in_use_is_refused_despite_time_wait";
    if !is_inside_isolated_network(name, LOOPBACK) {
        return;
    }
    leave_in_time_wait(([127, 0, 0, 1], 50001).into());
    let _other = std::net::TcpListener::bind("127.0.0.1:50003").unwrap();
    let settings = Settings {
        portals: Portals::Tcp,
        ..Settings::default()
    };
    let clock = Clock::new();
    let events = Events::new(clock.clone());
    let refused = Server::start(&settings, clock, events)
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains(sentences::PORT_50003_ON_LOOPBACK_IS_TAKEN_BY_NETWORK),
        "{refused}"
    );
}
