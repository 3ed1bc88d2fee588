//! Rooms under load: 16 users, 4 ports, 10,000 rounds of joining, sending, leaving, disconnecting
//! and resetting, in an order that a printed seed determines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use portal_chat::server::Settings;
use support::{Client, TestServer, command, handshake, login, message};

const USERS: usize = 16;
const ROUNDS: usize = 10_000;
/// More names than ports, so that some rooms can't be created.
const NAMES: [&str; 6] = ["lobby", "attic", "cellar", "garden", "kitchen", "roof"];

/// Held for reading while a user joins a room, and for writing during a tick. Thus only the
/// reservations of clients that never connect expire, even on a slow machine.
static CONNECTING: RwLock<()> = RwLock::new(());

/// A reproducible random number generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

struct User {
    name: String,
    main: Client,
    rooms: HashMap<&'static str, Membership>,
    sent: u64,
    counts: Counts,
}

/// One membership of one room.
struct Membership {
    connection: Client,
    /// The last number received from each sender.
    received: HashMap<String, u64>,
}

#[derive(Default, Debug)]
struct Counts {
    joined: usize,
    no_room_left: usize,
    received: usize,
}

impl Membership {
    /// Records a received line, and checks that each sender's numbers increase.
    fn record(&mut self, line: &str, counts: &mut Counts) {
        let Some((_, rest)) = line.split_once("from='") else {
            return;
        };
        let sender = rest.split('\'').next().unwrap().to_owned();
        let number: u64 = rest
            .split("<message>")
            .nth(1)
            .unwrap()
            .split('<')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let before = self.received.insert(sender, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{line} after {before:?}"
        );
        counts.received += 1;
    }

    /// Reads until a line contains `part`. Returns `false` at the end of the connection.
    fn read_until(&mut self, part: &str, counts: &mut Counts) -> bool {
        while let Some(line) = self.connection.next_line() {
            self.record(&line, counts);
            if line.contains(part) {
                return true;
            }
        }
        false
    }
}

impl User {
    fn round(&mut self, dice: &mut Dice, host: SocketAddr) {
        let name = NAMES[dice.roll(NAMES.len())];
        match dice.roll(10) {
            0..4 if !self.rooms.contains_key(name) => self.join(name, host, dice.roll(12)),
            0..7 => self.send(name),
            7 => self.leave(name),
            8 => drop(self.rooms.remove(name)),
            _ => {
                if let Some(room) = self.rooms.remove(name) {
                    room.connection.reset();
                }
            }
        }
    }

    fn join(&mut self, name: &'static str, host: SocketAddr, behaviour: usize) {
        let _connecting = CONNECTING.read();
        self.main
            .send_line(&command("JOIN", &format!("<room>{name}</room>")));
        let reply = loop {
            let line = self.main.line();
            if line.contains("<command>JOINED</command><room>") || line.contains("<error") {
                break line;
            }
        };
        if reply.contains("<error") {
            // Already a member: the server has not noticed yet that the last connection is gone.
            assert!(
                reply.contains("no-room-left") || reply.contains("already-member"),
                "{reply}"
            );
            self.counts.no_room_left += usize::from(reply.contains("no-room-left"));
            return;
        }
        let (port, passcode) = support::ticket(&reply);
        if behaviour == 0 {
            // The client never connects.
            return;
        }
        let address = SocketAddr::new(host.ip(), port.get());
        let mut connection = Client::connect(address);
        if behaviour == 1 {
            connection.send_line(&handshake("0"));
            return;
        }
        connection.send_line(&handshake(&passcode));
        let welcome = connection.line();
        assert!(welcome.contains("Connection successful"), "{welcome}");
        self.rooms.insert(
            name,
            Membership {
                connection,
                received: HashMap::new(),
            },
        );
        self.counts.joined += 1;
    }

    fn send(&mut self, name: &str) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        self.sent += 1;
        room.connection.send_line(&message(&self.sent.to_string()));
        assert!(
            room.read_until("<command>SENT", &mut self.counts),
            "{} received no reply",
            self.name
        );
    }

    fn leave(&mut self, name: &str) {
        self.main
            .send_line(&command("LEAVE", &format!("<room>{name}</room>")));
        let reply = loop {
            let line = self.main.line();
            if line.contains("<command>LEFT") || line.contains("<error") {
                break line;
            }
        };
        if let Some(mut room) = self.rooms.remove(name) {
            assert!(reply.contains("<command>LEFT"), "{reply}");
            // Pending messages still arrive, and then the connection is closed.
            assert!(!room.read_until("never said", &mut self.counts));
        }
    }
}

/// Counts this process's threads that belong to rooms.
fn room_threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names
        .filter(|name| {
            ["room-", "member-", "writer-"]
                .iter()
                .any(|kind| name.starts_with(kind))
        })
        .count()
}

#[test]
fn ten_thousand_rounds_lose_no_port_or_thread() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed_0004);
    println!("seed {seed:#x}");
    let server = TestServer::start(&Settings {
        workers: USERS,
        rooms: 4,
        history: 0,
        idle_timeout: None,
        ..Settings::default()
    });
    let host = server.server.portal();
    let users: Vec<User> = (0..USERS)
        .map(|number| {
            let (mut main, _) = server.seat();
            let name = format!("p{number}");
            main.send_line(&login(&name));
            main.line_with("WELCOME");
            User {
                name,
                main,
                rooms: HashMap::new(),
                sent: 0,
                counts: Counts::default(),
            }
        })
        .collect();
    let is_over = AtomicBool::new(false);
    let counts: Vec<Counts> = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let none_connecting = CONNECTING.write();
                server.tick(1);
                drop(none_connecting);
                std::thread::yield_now();
            }
        });
        let threads: Vec<_> = users
            .into_iter()
            .enumerate()
            .map(|(number, mut user)| {
                threads.spawn(move || {
                    let mut dice = Dice(seed + number as u64 * 7919 + 1);
                    for _ in 0..ROUNDS / USERS {
                        user.round(&mut dice, host);
                    }
                    user.counts
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join());
        let counts: Vec<_> = counts.collect();
        is_over.store(true, Ordering::Release);
        counts.into_iter().map(Result::unwrap).collect()
    });
    let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
    let (joined, refused, received) = (
        sum(|c| c.joined),
        sum(|c| c.no_room_left),
        sum(|c| c.received),
    );
    println!(
        "{joined} joined, {refused} times no room was left, {received} messages received in order"
    );
    assert!(
        joined > 300 && refused > 10 && received > 1000,
        "the rounds did too little"
    );
    server.assert_all_rooms_end();
    server.assert_all_ports_freed();
    server.server.stop();
    assert_eq!(room_threads(), 0);
}
