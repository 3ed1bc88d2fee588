//! The ends of things, met politely: seats for one address, a rate, descriptors, a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::process::{Command, Stdio};

use portal_chat::server::{Rate, Settings};
use support::running::{Running, program};
use support::{
    Client, TestServer, command, handshake, login, message, password, temporary_file, ticket,
};

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const FULL: &str = "<SERVER><command>FULL</command></SERVER>";

#[test]
fn one_address_gets_so_many_seats_and_no_more() {
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
    // The one who never came, and the one who leaves, make room.
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
fn on_a_single_port_too() {
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
fn who_talks_too_fast_is_told_once_and_delayed_and_loses_nothing() {
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
    // Nobody else is held up, and the end is not delayed.
    bob.send_line(&message("I am not the one"));
    assert!(alice.line().contains("I am not the one"), "and told once");
    alice.send_line(&(message("a") + "\n" + &message("b") + "\n" + &message("c")));
    bob.line_with(">a<");
    server.server.stop();
}

#[test]
fn who_has_guessed_waits_but_not_the_owner_and_a_wait_ends_with_its_connection() {
    let file = temporary_file("guesses");
    let server = TestServer::start(&Settings {
        workers: 2,
        accounts: Some(file.clone()),
        ..Settings::default()
    });
    let claims_from = |from: IpAddr, name: &str| {
        let portal = server.server.portal();
        let (port, passcode) = ticket(&Client::connect_from(from, portal).rest());
        let mut client = Client::connect_from(from, SocketAddr::new(portal.ip(), port.get()));
        client.send_line(&handshake(&passcode));
        client.send_line(&login(name));
        client.line_with("<command>PASSWORD");
        (client, port)
    };
    let here = server.server.portal().ip();
    let frees = |client: Client, port| {
        drop(client);
        server.wait_for_event("seat-free", Some(port));
    };
    let (mut alice, port) = claims_from(here, "alice");
    alice.send_line(&password("right"));
    alice.line_with("WELCOME");
    frees(alice, port);
    for from in [here, ELSEWHERE] {
        let (mut thief, port) = claims_from(from, "alice");
        for _ in 0..3 {
            // The first three are answered at once.
            thief.send_line(&password("guess"));
            thief.line_with("wrong-password");
        }
        thief.assert_closed();
        frees(thief, port);
    }
    // From where the password was right before, it is right at once, and only who is wrong waits.
    let (mut alice, port) = claims_from(here, "alice");
    alice.send_line(&password("right"));
    alice.line_with("WELCOME");
    frees(alice, port);
    // From elsewhere it waits, and when its client has gone it holds no seat.
    let (mut waiting, port) = claims_from(ELSEWHERE, "alice");
    waiting.send_line(&password("right"));
    drop(waiting);
    server.with_running_clock(|| server.wait_for_event("seat-free", Some(port)));
    let (mut again, _) = claims_from(ELSEWHERE, "alice");
    again.send_line(&password("right"));
    // Somebody else is not held up meanwhile.
    let (mut bob, _) = claims_from(here, "bob");
    bob.send_line(&password("secret"));
    bob.line_with("WELCOME");
    again.line_with("PARTNER JOINED");
    assert!(again.has_received_nothing());
    server.tick(1);
    again.line_with("<command>WELCOME");
    server.server.stop();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn who_hangs_up_while_being_delayed_is_told_and_holds_no_seat() {
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
        alice.line_with("disconnected before the server had handled all of your input");
        alice.assert_closed();
        server.wait_for_event("seat-free", Some(port));
    });
}

/// A newcomer gets at most the limit, and the newest messages, even with a large `--history`.
#[test]
fn a_room_remembers_no_more_bytes_than_the_limit() {
    let server = TestServer::start(&Settings {
        history: 1000,
        ..Settings::default()
    });
    let joins = |name: &str| {
        let (mut client, _) = server.seat();
        client.send_line(&login(name));
        client.line_with("<command>WELCOME");
        client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        client.line_with("<command>JOINED");
        client
    };
    let mut alice = joins("alice");
    let count = portal_chat::limits::HISTORY / 7000 + 10;
    for number in 0..count {
        let text = format!("<room>lobby</room><message>{number:07000}</message>");
        alice.send_line(&command("SAY", &text));
        alice.line_with("SENT");
    }
    let mut bob = joins("bob");
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
    // Each message has some more bytes on the wire.
    let most = portal_chat::limits::HISTORY / 7000;
    let kept = old.len();
    assert!((most - 2..=most).contains(&kept), "{kept} of {most}");
    assert_eq!(old, (count - kept..count).collect::<Vec<_>>());
}

/// A server's program, started by a shell that sets a limit first.
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

    /// Ends it in order; returns what it said on standard error.
    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

#[test]
fn without_descriptors_callers_are_told_full_and_life_goes_on() {
    // Each room takes three: its listener, the one that its `accept` has ready for the next caller,
    // and its member's. So in one of three cases it is the member for whom there is none.
    let refused: Vec<String> = (56..59).map(run_out_of_descriptors).collect();
    assert!(refused.iter().any(|answer| answer == FULL), "{refused:?}");
}

/// Returns what the first one was told for whom there was no descriptor.
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
        // Nobody may be in more.
        let joiner = match rooms < portal_chat::limits::MAX_ROOMS_PER_USER {
            true => &mut alice,
            false => &mut bob,
        };
        joiner.send_line(&command("JOIN", &room));
        let answer = joiner.line_with("<SERVER>");
        if answer.contains("<error") {
            break answer;
        }
        let (port, passcode) = ticket(&answer);
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
    // The portal has none to answer with, and answers.
    for _ in 0..3 {
        assert_eq!(Client::connect(server.portal).rest().trim_end(), FULL);
    }
    alice.send_line(&message("still here"));
    bob.line_with("still here");
    // A descriptor that comes back is of use again.
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
fn an_event_file_on_a_full_disk_is_told_and_the_chat_goes_on() {
    let server = Program::start(":", "--workers 2 --no-passwords --quiet --events /dev/full");
    let (mut alice, mut bob) = (server.seat(), server.seat());
    for n in 0..100 {
        alice.send_line(&message(&format!("message {n}")));
        bob.line_with(&format!("message {n}<"));
    }
    drop((alice, bob));
    let said = server.stop();
    assert!(
        said.contains("event file /dev/full can't be written") && said.contains("continues"),
        "{said}"
    );
}

#[test]
fn a_file_that_can_not_be_one_is_refused_at_the_start() {
    for option in ["--events", "--accounts"] {
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", option])
            .arg(std::env::temp_dir())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(option) && said.contains("irectory"), "{said}");
    }
}

#[test]
fn on_a_full_disk_no_account_is_confirmed_that_is_not_there_afterwards() {
    let file = temporary_file("full-disk");
    let options = format!("--workers 2 --accounts {}", file.display());
    // Files may have a kilobyte or half of it, and a write beyond that is an error, no signal.
    let server = Program::start("trap '' XFSZ; ulimit -f 1", &options);
    let mut confirmed: Vec<String> = Vec::new();
    loop {
        let name = format!("user{}", confirmed.len());
        let mut client = server.seat();
        client.send_line(&login(&name));
        client.line_with("<account>new");
        client.send_line(&password(&name));
        // The welcome, or the reason why not.
        let answer = loop {
            let answer = client.line();
            if answer.contains("WELCOME") || answer.contains("<error") {
                break answer;
            }
        };
        if answer.contains("<error") {
            assert!(answer.contains("code='not-saved'"), "{answer}");
            break;
        }
        confirmed.push(name);
        assert!(confirmed.len() < 50, "the disk was never full");
    }
    assert!(!confirmed.is_empty());
    // Who has an account gets in all the same.
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
