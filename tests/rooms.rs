//! Rooms that come and go: 16 people, 4 ports, 10,000 rounds of joining, talking, leaving, dropping
//! and resetting, in an order that a printed seed decides.
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

const PEOPLE: usize = 16;
const ROUNDS: usize = 10_000;
/// More names than ports, so that some rooms can't be made.
const NAMES: [&str; 6] = ["lobby", "attic", "cellar", "garden", "kitchen", "roof"];

/// A person holds it for reading while joining a room, and each tick holds it for writing. Thus
/// only clients that never connect run out of time, even on a slow machine.
static ON_THE_WAY: RwLock<()> = RwLock::new(());

/// Numbers that look random and can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

struct Person {
    name: String,
    main: Client,
    rooms: HashMap<&'static str, Membership>,
    said: u64,
    counts: Counts,
}

/// One stay in one room.
struct Membership {
    connection: Client,
    /// The last number heard from each sender.
    heard: HashMap<String, u64>,
}

#[derive(Default, Debug)]
struct Counts {
    joined: usize,
    no_room_left: usize,
    heard: usize,
}

impl Membership {
    /// Notes a line that was heard: each sender's numbers only grow.
    fn note(&mut self, line: &str, counts: &mut Counts) {
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
        let before = self.heard.insert(sender, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{line} after {before:?}"
        );
        counts.heard += 1;
    }

    /// Reads on until a line with `part`.
    fn until(&mut self, part: &str, counts: &mut Counts) -> bool {
        while let Some(line) = self.connection.next_line() {
            self.note(&line, counts);
            if line.contains(part) {
                return true;
            }
        }
        false
    }
}

impl Person {
    fn round(&mut self, dice: &mut Dice, host: SocketAddr) {
        let name = NAMES[dice.roll(NAMES.len())];
        match dice.roll(10) {
            0..4 if !self.rooms.contains_key(name) => self.join(name, host, dice.roll(12)),
            0..7 => self.say(name),
            7 => self.leave(name),
            8 => drop(self.rooms.remove(name)),
            _ => {
                if let Some(room) = self.rooms.remove(name) {
                    room.connection.reset();
                }
            }
        }
    }

    fn join(&mut self, name: &'static str, host: SocketAddr, mood: usize) {
        let _on_the_way = ON_THE_WAY.read();
        self.main
            .send_line(&command("JOIN", &format!("<room>{name}</room>")));
        let answer = loop {
            let line = self.main.line();
            if line.contains("<command>JOINED</command><room>") || line.contains("<error") {
                break line;
            }
        };
        if answer.contains("<error") {
            // Already a member: the server has not noticed yet that the last connection is gone.
            assert!(
                answer.contains("no-room-left") || answer.contains("already-member"),
                "{answer}"
            );
            self.counts.no_room_left += usize::from(answer.contains("no-room-left"));
            return;
        }
        let (port, passcode) = support::ticket(&answer);
        if mood == 0 {
            // Never comes.
            return;
        }
        let address = SocketAddr::new(host.ip(), port.get());
        let mut connection = Client::connect(address);
        if mood == 1 {
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
                heard: HashMap::new(),
            },
        );
        self.counts.joined += 1;
    }

    fn say(&mut self, name: &str) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        self.said += 1;
        room.connection.send_line(&message(&self.said.to_string()));
        assert!(
            room.until("<command>SENT", &mut self.counts),
            "{} was not answered",
            self.name
        );
    }

    fn leave(&mut self, name: &str) {
        self.main
            .send_line(&command("LEAVE", &format!("<room>{name}</room>")));
        let answer = loop {
            let line = self.main.line();
            if line.contains("<command>LEFT") || line.contains("<error") {
                break line;
            }
        };
        if let Some(mut room) = self.rooms.remove(name) {
            assert!(answer.contains("<command>LEFT"), "{answer}");
            // What was on its way still comes, and then the end: nothing more, ever.
            assert!(!room.until("never said", &mut self.counts));
        }
    }
}

/// How many of this process's threads belong to rooms.
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
fn ten_thousand_rounds_lose_no_port_no_thread_and_no_order() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed_0004);
    println!("seed {seed:#x}");
    let server = TestServer::start(&Settings {
        workers: PEOPLE,
        rooms: 4,
        history: 0,
        idle_timeout: None,
        ..Settings::default()
    });
    let host = server.server.portal();
    let people: Vec<Person> = (0..PEOPLE)
        .map(|number| {
            let (mut main, _) = server.seat();
            let name = format!("p{number}");
            main.send_line(&login(&name));
            main.line_with("WELCOME");
            Person {
                name,
                main,
                rooms: HashMap::new(),
                said: 0,
                counts: Counts::default(),
            }
        })
        .collect();
    let is_over = AtomicBool::new(false);
    let counts: Vec<Counts> = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let nobody = ON_THE_WAY.write();
                server.tick(1);
                drop(nobody);
                std::thread::yield_now();
            }
        });
        let threads: Vec<_> = people
            .into_iter()
            .enumerate()
            .map(|(number, mut person)| {
                threads.spawn(move || {
                    let mut dice = Dice(seed + number as u64 * 7919 + 1);
                    for _ in 0..ROUNDS / PEOPLE {
                        person.round(&mut dice, host);
                    }
                    person.counts
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join());
        let counts: Vec<_> = counts.collect();
        is_over.store(true, Ordering::Release);
        counts.into_iter().map(Result::unwrap).collect()
    });
    let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
    let (joined, refused, heard) = (sum(|c| c.joined), sum(|c| c.no_room_left), sum(|c| c.heard));
    println!("{joined} joined, {refused} times no room was left, {heard} messages heard in order");
    assert!(
        joined > 300 && refused > 10 && heard > 1000,
        "the rounds went nowhere"
    );
    server.assert_all_rooms_end();
    server.assert_all_ports_freed();
    server.server.stop();
    assert_eq!(room_threads(), 0);
}
