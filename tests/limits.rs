//! Limits and their messages: seats per address, the message rate, descriptors, a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::process::{Command, Stdio};

use portal_chat::server::{Rate, Settings};
use support::running::{Running, program};
use support::sentences;
use support::{
    Client, TestServer, command, handshake, login, message, password, temporary_file, ticket,
};

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const FULL: &str = "<SERVER><command>FULL</command></SERVER>";

#[test]
fn seats_per_address_are_limited() {
    let server = TestServer::start(&Settings {
        workers: 6,
        max_per_address: Some(2),
        ..Settings::default()
    });
    let (alice, _) = server.seat();
    // A reservation counts like a seat.
    let (promised, _) = ticket(&server.request_port());
    assert_eq!(server.request_port().trim_end(), FULL);
    server.wait_for_event("full", None);
    let portal = server.server.portal();
    ticket(&Client::connect_from(ELSEWHERE, portal).rest());
    // An expired reservation and a departure both free a seat.
    server.tick(3);
    server.wait_for_event("seat-free", Some(promised));
    let (bob, _) = server.seat();
    assert_eq!(server.request_port().trim_end(), FULL);
    drop(alice);
    server.wait_for_event("closed", None);
    server.wait_for_event("seat-free", None);
    let (carol, _) = server.seat();
    drop((bob, carol));
    server.assert_all_ports_freed();
}

#[test]
fn seats_per_address_on_a_single_port() {
    let server = TestServer::start(&Settings {
        single_port: Some(5),
        max_per_address: Some(1),
        ..Settings::default()
    });
    let (alice, _) = server.seat();
    let portal = server.server.portal();
    assert_eq!(Client::connect(portal).line(), FULL);
    let mut other = Client::connect_from(ELSEWHERE, portal);
    assert!(other.line().contains("seat='2'"));
    drop(alice);
    server.wait_for_event("seat-free", None);
    assert!(
        Client::connect(portal)
            .line()
            .contains("Connection successful")
    );
}

#[test]
fn fast_sender_is_delayed_and_notified_once() {
    let number = |number| NonZeroU32::new(number).unwrap();
    let server = TestServer::start(&Settings {
        workers: 2,
        rate: Some(Rate {
            burst: number(3),
            per_second: number(2),
        }),
        ..Settings::default()
    });
    let ((mut alice, _), (mut bob, _)) = (server.seat(), server.seat());
    alice.line_with("PARTNER JOINED");
    bob.line_with("PARTNER JOINED");
    let all: String = (0..8).map(|n| message(&format!("m{n}")) + "\n").collect();
    alice.send(all.as_bytes());
    for n in 0..3 {
        assert!(bob.line().contains(&format!(">m{n}<")));
    }
    assert!(alice.line().contains("<notice>"));
    for n in [3, 4, 5, 6, 7] {
        if n % 2 == 1 {
            assert!(bob.has_received_nothing(), "before its tick");
            server.tick(1);
        }
        assert!(bob.line().contains(&format!(">m{n}<")));
    }
    // No other client is delayed, and neither is the shutdown.
    bob.send_line(&message("I am not the one"));
    assert!(
        alice.line().contains("I am not the one"),
        "and notified once"
    );
    alice.send_line(&(message("a") + "\n" + &message("b") + "\n" + &message("c")));
    bob.line_with(">a<");
    server.server.stop();
}

#[test]
fn wrong_passwords_delay_only_their_address() {
    let file = temporary_file("guesses");
    let server = TestServer::start(&Settings {
        workers: 2,
        accounts: Some(file.clone()),
        ..Settings::default()
    });
    let log_in_from = |from: IpAddr, name: &str| {
        let portal = server.server.portal();
        let (port, passcode) = ticket(&Client::connect_from(from, portal).rest());
        let mut client = Client::connect_from(from, SocketAddr::new(portal.ip(), port.get()));
        client.send_line(&handshake(&passcode));
        client.send_line(&login(name));
        client.line_with("<command>PASSWORD");
        (client, port)
    };
    let here = server.server.portal().ip();
    let disconnect = |client: Client, port| {
        drop(client);
        server.wait_for_event("seat-free", Some(port));
    };
    let (mut alice, port) = log_in_from(here, "alice");
    alice.send_line(&password("right"));
    alice.line_with("WELCOME");
    disconnect(alice, port);
    for from in [here, ELSEWHERE] {
        let (mut thief, port) = log_in_from(from, "alice");
        for _ in 0..3 {
            // The first three get an immediate reply.
            thief.send_line(&password("guess"));
            thief.line_with("wrong-password");
        }
        thief.assert_closed();
        disconnect(thief, port);
    }
    // From an address with an earlier successful login, the correct password works immediately.
    let (mut alice, port) = log_in_from(here, "alice");
    alice.send_line(&password("right"));
    alice.line_with("WELCOME");
    disconnect(alice, port);
    // From another address, it must wait. If its client leaves in the meantime, the seat is freed.
    let (mut waiting, port) = log_in_from(ELSEWHERE, "alice");
    waiting.send_line(&password("right"));
    drop(waiting);
    server.with_running_clock(|| server.wait_for_event("seat-free", Some(port)));
    let (mut again, _) = log_in_from(ELSEWHERE, "alice");
    again.send_line(&password("right"));
    // This does not delay another client.
    let (mut bob, _) = log_in_from(here, "bob");
    bob.send_line(&password("secret"));
    bob.line_with("WELCOME");
    again.line_with("PARTNER LOGGED IN");
    assert!(again.has_received_nothing());
    server.tick(1);
    again.line_with("<command>WELCOME");
    server.server.stop();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn delayed_client_that_disconnects_frees_its_seat() {
    let number = |number| NonZeroU32::new(number).unwrap();
    let server = TestServer::start(&Settings {
        workers: 2,
        rate: Some(Rate {
            burst: number(1),
            per_second: number(1),
        }),
        ..Settings::default()
    });
    let (mut alice, port) = server.seat();
    let all: String = (0..100).map(|n| message(&format!("m{n}")) + "\n").collect();
    alice.send(all.as_bytes());
    alice.line_with("delayed");
    alice.stream.shutdown(std::net::Shutdown::Write).unwrap();
    server.with_running_clock(|| {
        alice.line_with(sentences::DISCONNECTED_BEFORE_THE_SERVER_HAD_HANDLED);
        alice.assert_closed();
        server.wait_for_event("seat-free", Some(port));
    });
}

/// A new member receives at most the limit, and the newest messages, even with a large `--history`.
#[test]
fn history_is_limited_in_bytes() {
    let server = TestServer::start(&Settings {
        history: 1000,
        ..Settings::default()
    });
    let join = |name: &str| {
        let (mut client, _) = server.seat();
        client.send_line(&login(name));
        client.line_with("<command>WELCOME");
        client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        client.line_with("<command>JOINED");
        client
    };
    let mut alice = join("alice");
    let count = portal_chat::limits::HISTORY / 7000 + 10;
    for number in 0..count {
        let text = format!("<room>lobby</room><message>{number:07000}</message>");
        alice.send_line(&command("SAY", &text));
        alice.line_with("SENT");
    }
    let mut bob = join("bob");
    bob.send_line(&command("PING", ""));
    let mut old = Vec::new();
    loop {
        let line = bob.line();
        if line.contains("PONG") {
            break;
        }
        if let Some((_, text)) = line.split_once("<message>0") {
            old.push(text.split('<').next().unwrap().parse::<usize>().unwrap());
        }
    }
    // On the wire, each message has a few more bytes.
    let most = portal_chat::limits::HISTORY / 7000;
    let kept = old.len();
    assert!((most - 2..=most).contains(&kept), "{kept} of {most}");
    assert_eq!(old, (count - kept..count).collect::<Vec<_>>());
}

/// A server process, started by a shell that sets a limit first.
struct Program {
    child: Running,
    portal: SocketAddr,
}

impl Program {
    fn start(limit: &str, options: &str) -> Program {
        let program = env!("CARGO_BIN_EXE_chatserver");
        let mut child = Running::start(
            Command::new("sh")
                .args(["-c", &format!("{limit}; exec {program} 0 {options}")])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        screen.read_line(&mut line).unwrap();
        let portal = line.split_whitespace().nth(1);
        let portal = portal.expect("the server has started").parse().unwrap();
        std::thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
        Program { child, portal }
    }

    fn seat(&self) -> Client {
        let (port, passcode) = ticket(&Client::connect(self.portal).rest());
        let mut client = Client::connect(SocketAddr::new(self.portal.ip(), port.get()));
        client.send_line(&support::handshake(&passcode));
        client.line_with("Connection successful");
        client
    }

    /// Stops the server. Returns its output on standard error.
    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        let mut errors = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{errors}");
        errors
    }
}

#[test]
fn server_without_descriptors_sends_full() {
    // Each room needs three descriptors: its listener, the one that its `accept` keeps ready for
    // the next caller, and its member's. So in one of three cases, the member's is missing.
    let refused: Vec<String> = (56..59).map(run_out_of_descriptors).collect();
    assert!(refused.iter().any(|reply| reply == FULL), "{refused:?}");
}

/// Returns the reply to the first client without a descriptor.
fn run_out_of_descriptors(limit: u32) -> String {
    let server = Program::start(
        &format!("ulimit -n {limit}"),
        "--workers 2 --rooms 30 --no-passwords --announce 0",
    );
    let (mut alice, mut bob) = (server.seat(), server.seat());
    for (client, name) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        client.send_line(&login(name));
        client.line_with("<command>WELCOME");
    }
    let mut members = Vec::new();
    let mut rooms = 0;
    let refused = loop {
        let room = format!("<room>r{rooms}</room>");
        // The limit on rooms per user.
        let joiner = match rooms < portal_chat::limits::MAX_ROOMS_PER_USER {
            true => &mut alice,
            false => &mut bob,
        };
        joiner.send_line(&command("JOIN", &room));
        let is_reply = |line: &String| line.contains("<command>JOINED") || line.contains("<error");
        let reply = loop {
            let line = joiner.line();
            if is_reply(&line) {
                break line;
            }
        };
        if reply.contains("<error") {
            break reply;
        }
        let (port, passcode) = ticket(&reply);
        let mut member = Client::connect(SocketAddr::new(server.portal.ip(), port.get()));
        member.send_line(&support::handshake(&passcode));
        let welcome = member.line();
        if !welcome.contains("Connection successful") {
            assert_eq!(welcome, FULL);
            break welcome;
        }
        members.push(member);
        rooms += 1;
        assert!(rooms < 30, "the descriptors never ran out");
    };
    assert!(
        refused.contains("no-room-left") || refused == FULL,
        "{refused}"
    );
    // The portal has no descriptor left, but still replies.
    for _ in 0..3 {
        assert_eq!(Client::connect(server.portal).rest().trim_end(), FULL);
    }
    alice.send_line(&message("still here"));
    bob.line_with("still here");
    // A freed descriptor is used again.
    members.clear();
    for room in 0..rooms {
        alice.send_line(&command("LEAVE", &format!("<room>r{room}</room>")));
    }
    loop {
        bob.send_line(&command("JOIN", "<room>later</room>"));
        if bob.line_with("<SERVER>").contains("JOINED") {
            break;
        }
    }
    drop((alice, bob));
    server.stop();
    refused
}

#[test]
fn event_file_on_a_full_disk_is_reported() {
    let server = Program::start(":", "--workers 2 --no-passwords --quiet --events /dev/full");
    let (mut alice, mut bob) = (server.seat(), server.seat());
    for n in 0..100 {
        alice.send_line(&message(&format!("message {n}")));
        bob.line_with(&format!("message {n}<"));
    }
    drop((alice, bob));
    let errors = server.stop();
    assert!(
        errors.contains(sentences::CANT_WRITE_TO_THE_EVENT_FILE_DEVFULL)
            && errors.contains(sentences::KEEPS_RUNNING),
        "{errors}"
    );
}

#[test]
fn directory_as_file_is_refused_at_start() {
    for option in ["--events", "--accounts"] {
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", option])
            .arg(std::env::temp_dir())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(
            errors.contains(option) && errors.contains("irectory"),
            "{errors}"
        );
    }
}

#[test]
fn full_disk_confirms_no_lost_account() {
    let file = temporary_file("full-disk");
    let options = format!("--workers 2 --accounts {}", file.display());
    // Files are limited to 512 or 1024 bytes, depending on the shell, and a write beyond that fails
    // without a signal.
    let server = Program::start("trap '' XFSZ; ulimit -f 1", &options);
    let mut confirmed: Vec<String> = Vec::new();
    loop {
        let name = format!("user{}", confirmed.len());
        let mut client = server.seat();
        client.send_line(&login(&name));
        client.line_with("<account>new");
        client.send_line(&password(&name));
        // The welcome, or an error.
        let reply = loop {
            let reply = client.line();
            if reply.contains("WELCOME") || reply.contains("<error") {
                break reply;
            }
        };
        if reply.contains("<error") {
            assert!(reply.contains("code='not-saved'"), "{reply}");
            break;
        }
        confirmed.push(name);
        assert!(confirmed.len() < 50, "the disk was never full");
    }
    assert!(!confirmed.is_empty());
    // Existing accounts can still log in.
    let mut first = server.seat();
    first.send_line(&login("user0"));
    first.line_with("<account>existing");
    first.send_line(&password("user0"));
    first.line_with("<command>WELCOME");
    drop(first);
    server.stop();

    let server = Program::start(":", &options);
    for name in confirmed {
        let mut client = server.seat();
        client.send_line(&login(&name));
        client.line_with("<account>existing");
        client.send_line(&password(&name));
        client.line_with("<command>WELCOME");
    }
    server.stop();
    std::fs::remove_file(file).unwrap();
}

/// The operator's `who` shows for how long each client has been idle.
#[test]
fn messages_in_a_room_count_as_activity_of_the_client() {
    let server = TestServer::start(&support::without_timeouts());
    let (mut alice, port) = server.seat();
    alice.send_line(&support::login("alice"));
    alice.line_with("WELCOME");
    alice.send_line(&support::command("JOIN", "<room>lobby</room>"));
    let (room, passcode) = support::ticket(&alice.line_with("<command>JOINED"));
    let mut member = server.connect(room);
    member.send_line(&support::handshake(&passcode));
    member.line_with("Connection successful");
    server.tick(5);
    // The second reply shows that the first message has been handled completely.
    for text in ["hello", "again"] {
        member.send_line(&support::message(text));
        member.line_with("<command>SENT");
    }
    let state = server.server.state();
    let seat = state.seats.all().iter().find(|seat| seat.port == port);
    let connection = seat.unwrap().connection().unwrap();
    assert_eq!(connection.last_activity(), Some(state.clock.now()));
}
