//! Three servers, an engine that is killed, stopped and started again at random, and people who
//! count every message.
//!
//! `make soak CLUSTER=1 SECONDS=120 SEED=7` runs it for long; `cargo test` for a few seconds. Nine
//! people talk in one room, three on each server; guests come and go on all three, and on a fourth
//! server that is killed again and again, under the same few names. A message that was answered
//! `SENT` to all has to reach all, once, and after everything that its speaker said before,
//! whatever happened to the engine. In the end nobody is left in it: no name, no room, and every
//! seat is back.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

#[path = "support/engine.rs"]
mod engine;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::Redis;
use portal_chat::cluster::ClusterSettings;
use portal_chat::server::Settings;
use support::running::Running;
use support::{Client, PATIENCE, TestServer, command, login};

const PEOPLE: usize = 3;
const SERVERS: usize = 3;

/// Numbers that depend on the seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a speaker knows of one of their messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It went to all.
    Sent,
    /// The engine was away: it went to those on the same server.
    SentHere,
    /// It may have been heard or not.
    Unsure,
    /// Nobody has heard it.
    Refused,
}

/// One of the nine.
struct Person {
    server: usize,
    client: Client,
    said: Vec<Fate>,
    /// What was heard: for each speaker the numbers, in the order in which they came.
    heard: BTreeMap<String, Vec<usize>>,
    /// How many things are missing, as the server has told.
    missed: u64,
    is_lost: bool,
}

impl Person {
    fn new(servers: &[TestServer], server: usize, name: &str) -> Person {
        let (mut client, _) = servers[server].seat();
        client.send_line(&login(name));
        client.line_with("WELCOME");
        client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        client.line_with("JOINED");
        Person {
            server,
            client,
            said: Vec::new(),
            heard: BTreeMap::new(),
            missed: 0,
            is_lost: false,
        }
    }

    /// Takes in a line; returns what became of the own message, if it says so.
    fn take(&mut self, line: &str) -> Option<Fate> {
        let between = |begin: &str, end: &str| {
            let rest = line.split_once(begin)?.1;
            Some(rest.split_once(end)?.0.to_owned())
        };
        if line.contains("scope='room'") && !line.contains("old='") {
            let from = between("from='", "'").unwrap();
            let number = between("<message>", "<").unwrap().parse().unwrap();
            self.heard.entry(from).or_default().push(number);
        } else if line.contains("are unreachable: until") {
            self.is_lost = true;
        } else if line.contains("are back") {
            self.is_lost = false;
        } else if line.contains("from other servers") {
            let number = line.split(|c: char| !c.is_ascii_digit());
            self.missed += number
                .filter_map(|word| word.parse::<u64>().ok())
                .next()
                .unwrap();
        } else if let Some(count) = between("<count>", "<") {
            return Some(match count.parse::<usize>().unwrap() {
                count if count == SERVERS * PEOPLE - 1 => Fate::Sent,
                count if count == PEOPLE - 1 => Fate::SentHere,
                // Somebody is being told of anew.
                _ => Fate::Unsure,
            });
        } else if line.contains("code='unsure'") {
            return Some(Fate::Unsure);
        } else if line.contains("<error") {
            return Some(Fate::Refused);
        }
        None
    }

    fn say(&mut self) -> Fate {
        let number = self.said.len();
        let text = format!("<room>lobby</room><message>{number}</message>");
        self.client.send_line(&command("SAY", &text));
        let fate = loop {
            let line = self.client.line();
            if let Some(fate) = self.take(&line) {
                break fate;
            }
        };
        self.said.push(fate);
        fate
    }
}

#[test]
fn nothing_is_lost_or_doubled_or_out_of_order_whatever_happens_to_the_engine() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("SOAK_SECONDS").unwrap_or(6);
    let seed = number("SEED").unwrap_or(1);
    let servers: Vec<TestServer> = (0..SERVERS)
        .map(|index| {
            let settings = ClusterSettings {
                lease: Duration::from_secs(3),
                ..ClusterSettings::new(redis.url().parse().unwrap(), format!("server-{index}"))
            };
            TestServer::start(&Settings {
                single_port: Some(20),
                announce_up_to: 0,
                cluster: Some(settings),
                ..Settings::default()
            })
        })
        .collect();
    let mut people: BTreeMap<String, Person> = (0..SERVERS * PEOPLE)
        .map(|index| {
            let name = format!("p{index}");
            (name.clone(), Person::new(&servers, index % SERVERS, &name))
        })
        .collect();
    let (is_over, spoken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (faults, lives) = thread::scope(|threads| {
        for person in people.values_mut() {
            threads.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    person.say();
                    spoken.fetch_add(1, Ordering::Relaxed);
                    // So that thousands are said, and not millions, of which each is looked at.
                    thread::sleep(Duration::from_millis(3));
                }
            });
        }
        for (index, server) in servers.iter().enumerate() {
            let mut dice = Dice(seed * 97 + index as u64 + 1);
            let is_over = &is_over;
            threads.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    let (client, _) = server.seat();
                    be_a_guest(client, &mut dice);
                }
            });
        }
        let mut dice = Dice(seed * 97 + SERVERS as u64 + 1);
        let (is_over, url) = (&is_over, redis.url());
        let mortal = threads.spawn(move || {
            let mut lives = 0;
            while !is_over.load(Ordering::Acquire) {
                lives += usize::from(live_and_be_killed(&url, lives, &mut dice));
            }
            lives
        });
        let faults = torment(&mut redis, &mut Dice(seed), Duration::from_secs(seconds));
        is_over.store(true, Ordering::Release);
        (faults, mortal.join().unwrap())
    });
    let last = all_hear_all(&mut people);
    let summary = check(&people, &last);
    println!(
        "seed {seed}: {faults} faults, a server killed {lives} times, {} said, {summary}",
        spoken.load(Ordering::Relaxed)
    );
    drop(people);
    for server in &servers {
        server.assert_all_rooms_end();
        server.assert_all_ports_freed();
    }
    // The server that was killed, and who was on it, is buried by the others.
    let until = Instant::now() + PATIENCE;
    let count = |key: &str| redis.command(&format!("HLEN portal-chat:{key}"));
    while count("servers") != format!(":{SERVERS}\r\n") || count("names") != ":0\r\n" {
        assert!(Instant::now() < until, "somebody is left");
        thread::sleep(Duration::from_millis(100));
    }
    for server in servers {
        server.stop();
    }
    for key in ["names", "rooms", "servers"] {
        assert_eq!(
            redis.command(&format!("HLEN portal-chat:{key}")),
            ":0\r\n",
            "{key}"
        );
    }
}

/// Kills, stops and starts the engine again until the time is up; returns how often.
fn torment(redis: &mut Redis, dice: &mut Dice, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut faults = 0;
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(300 + dice.roll(1500)));
        faults += 1;
        match dice.roll(3) {
            0 => redis.restart(),
            1 => {
                redis.kill();
                thread::sleep(Duration::from_millis(dice.roll(3000)));
                redis.restart();
            }
            _ => {
                redis.stop();
                thread::sleep(Duration::from_millis(100 + dice.roll(4000)));
                redis.resume();
            }
        }
    }
    faults
}

/// Somebody who comes under one of a few names, talks in a room of their own, and goes, often
/// without a word.
fn be_a_guest(mut client: Client, dice: &mut Dice) {
    client.send_line(&login(&format!("guest-{}", dice.roll(3))));
    let answer = loop {
        match client.next_line() {
            Some(line) if line.contains("WELCOME") || line.contains("<error") => break line,
            Some(_) => {}
            None => return,
        }
    };
    if answer.contains("WELCOME") {
        for line in [
            command("JOIN", "<room>attic</room><here/>"),
            command("SAY", "<room>attic</room><message>boo</message>"),
        ] {
            client.try_send(format!("{line}\n").as_bytes());
        }
        if dice.roll(2) == 0 {
            client.try_send(b"<CLIENT><command>TERMINATE</command></CLIENT>\n");
            while client.next_line().is_some() {}
        }
    }
    thread::sleep(Duration::from_millis(20 + dice.roll(50)));
}

/// A server of its own process takes part, has guests for a while, and is killed with some of them
/// in it. Whether it got so far: without an engine it does not start.
fn live_and_be_killed(url: &str, lives: usize, dice: &mut Dice) -> bool {
    // Sometimes the same again, which has to wait until the dead one's lease is over.
    let id = format!("mortal-{}", lives % 2);
    let mut server = Running::start(
        Command::new(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--single-port", "--no-passwords", "--quiet"])
            .args(["--cluster", url, "--cluster-id", &id])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.ok()?;
        line.strip_prefix("single ")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    let has_begun = address.is_some();
    if let Some(address) = address {
        let end = Instant::now() + Duration::from_millis(500 + dice.roll(2500));
        let mut staying = Vec::new();
        while Instant::now() < end {
            be_a_guest(Client::connect(address), dice);
            let mut client = Client::connect(address);
            client.send_line(&login(&format!("guest-{}", dice.roll(3))));
            staying.push(client);
            staying.truncate(5);
        }
        server.kill().unwrap();
    }
    server.wait().unwrap();
    has_begun
}

/// When the engine is there again, everybody says one thing more, and everybody hears it. Returns
/// the number of that.
fn all_hear_all(people: &mut BTreeMap<String, Person>) -> BTreeMap<String, usize> {
    let until = Instant::now() + PATIENCE;
    for person in people.values_mut() {
        while person.say() != Fate::Sent {
            assert!(Instant::now() < until, "the engine has not come back");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let last: BTreeMap<String, usize> = people
        .iter()
        .map(|(name, person)| (name.clone(), person.said.len() - 1))
        .collect();
    for (name, person) in people.iter_mut() {
        let has_all = |person: &Person| {
            last.iter().all(|(other, number)| {
                other == name
                    || person.heard.get(other).and_then(|there| there.last()) == Some(number)
            })
        };
        while !has_all(person) {
            let line = person.client.line();
            person.take(&line);
        }
    }
    last
}

/// Each rule of what may be heard.
fn check(people: &BTreeMap<String, Person>, last: &BTreeMap<String, usize>) -> String {
    let mut counts = [0; 4];
    for (speaker, person) in people {
        for fate in &person.said {
            counts[*fate as usize] += 1;
        }
        for (listener, other) in people.iter().filter(|(name, _)| *name != speaker) {
            let heard = &other.heard[speaker];
            assert!(
                heard.is_sorted_by(|one, next| one < next),
                "{listener} heard {speaker} twice or out of order"
            );
            assert_eq!(heard.last(), last.get(speaker));
            let is_near = person.server == other.server;
            let mut lost = 0;
            for (number, fate) in person.said.iter().enumerate() {
                let is_heard = heard.binary_search(&number).is_ok();
                match fate {
                    Fate::Sent if !is_heard => lost += 1,
                    Fate::SentHere => {
                        assert_eq!(
                            is_heard, is_near,
                            "{listener}: {speaker}'s {number}, said there alone"
                        );
                    }
                    Fate::Refused => {
                        assert!(!is_heard, "{listener}: {speaker}'s {number} was refused")
                    }
                    Fate::Sent | Fate::Unsure => {}
                }
            }
            assert!(
                lost <= other.missed,
                "{listener}: {lost} of {speaker}'s are lost"
            );
        }
    }
    let [sent, here, unsure, refused] = counts;
    format!("{sent} to all, {here} on one server, {unsure} unsure, {refused} refused")
}
