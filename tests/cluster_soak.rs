//! Three servers, a Redis that is killed, suspended and restarted at random, and users that count
//! every message.
//!
//! `make soak CLUSTER=1 SECONDS=120 SEED=7` runs it for a long time; `cargo test` runs it for a few
//! seconds. Nine users chat in one room, three on each server. Guests with a few names join and
//! leave on all three, and on a fourth server that is killed repeatedly. A message with the reply
//! `SENT` to all must reach all members, once, and after all earlier messages of its sender,
//! whatever happens to Redis. At the end, Redis contains no names or rooms, and every seat is free.
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
use support::sentences;
use support::{Client, PATIENCE, TestServer, command, login};

const USERS_PER_SERVER: usize = 3;
const SERVERS: usize = 3;

/// A random number generator that depends only on the seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The sender's knowledge of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// Sent to all members.
    Sent,
    /// Sent to members on the same server, because Redis was unreachable.
    SentLocally,
    /// Possibly delivered.
    Unsure,
    /// Not delivered.
    Refused,
}

/// One of the nine users.
struct User {
    server: usize,
    client: Client,
    outcomes: Vec<Outcome>,
    /// The received numbers of each sender, in the order of arrival.
    received: BTreeMap<String, Vec<usize>>,
    /// The number of missing messages that the server has reported.
    missed: u64,
    is_lost: bool,
}

impl User {
    fn new(servers: &[TestServer], server: usize, name: &str) -> User {
        let (mut client, _) = servers[server].seat();
        client.send_line(&login(name));
        client.line_with("WELCOME");
        client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        client.line_with("JOINED");
        User {
            server,
            client,
            outcomes: Vec::new(),
            received: BTreeMap::new(),
            missed: 0,
            is_lost: false,
        }
    }

    /// Processes a line. Returns the outcome of the user's own message if the line contains it.
    fn process(&mut self, line: &str) -> Option<Outcome> {
        let between = |begin: &str, end: &str| {
            let rest = line.split_once(begin)?.1;
            Some(rest.split_once(end)?.0.to_owned())
        };
        if line.contains("scope='room'") && !line.contains("old='") {
            let from = between("from='", "'").unwrap();
            let number = between("<message>", "<").unwrap().parse().unwrap();
            self.received.entry(from).or_default().push(number);
        } else if line.contains(sentences::ARE_UNREACHABLE_UNTIL) {
            self.is_lost = true;
        } else if line.contains("are back") {
            self.is_lost = false;
        } else if line.contains(sentences::FROM_OTHER_SERVERS) {
            let number = line.split(|c: char| !c.is_ascii_digit());
            self.missed += number
                .filter_map(|word| word.parse::<u64>().ok())
                .next()
                .unwrap();
        } else if let Some(count) = between("<count>", "<") {
            return Some(match count.parse::<usize>().unwrap() {
                count if count == SERVERS * USERS_PER_SERVER - 1 => Outcome::Sent,
                count if count == USERS_PER_SERVER - 1 => Outcome::SentLocally,
                // A member is being announced again.
                _ => Outcome::Unsure,
            });
        } else if line.contains("code='unsure'") {
            return Some(Outcome::Unsure);
        } else if line.contains("<error") {
            return Some(Outcome::Refused);
        }
        None
    }

    fn send(&mut self) -> Outcome {
        let number = self.outcomes.len();
        let text = format!("<room>lobby</room><message>{number}</message>");
        self.client.send_line(&command("SAY", &text));
        let outcome = loop {
            let line = self.client.line();
            if let Some(outcome) = self.process(&line) {
                break outcome;
            }
        };
        self.outcomes.push(outcome);
        outcome
    }
}

#[test]
fn redis_faults_lose_or_duplicate_nothing() {
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
    let mut users: BTreeMap<String, User> = (0..SERVERS * USERS_PER_SERVER)
        .map(|index| {
            let name = format!("p{index}");
            (name.clone(), User::new(&servers, index % SERVERS, &name))
        })
        .collect();
    let (is_over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (faults, lives) = thread::scope(|threads| {
        for user in users.values_mut() {
            threads.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    user.send();
                    sent.fetch_add(1, Ordering::Relaxed);
                    // Limits the messages to thousands instead of millions, because each one is
                    // checked.
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
                    visit_as_guest(client, &mut dice);
                }
            });
        }
        let mut dice = Dice(seed * 97 + SERVERS as u64 + 1);
        let (is_over, url) = (&is_over, redis.url());
        let short_lived = threads.spawn(move || {
            let mut lives = 0;
            while !is_over.load(Ordering::Acquire) {
                lives += usize::from(run_and_kill_server(&url, lives, &mut dice));
            }
            lives
        });
        let faults = cause_faults(&mut redis, &mut Dice(seed), Duration::from_secs(seconds));
        is_over.store(true, Ordering::Release);
        (faults, short_lived.join().unwrap())
    });
    let last = expect_last_messages(&mut users);
    let summary = check(&users, &last);
    println!(
        "seed {seed}: {faults} faults, a server killed {lives} times, {} sent, {summary}",
        sent.load(Ordering::Relaxed)
    );
    drop(users);
    for server in &servers {
        server.assert_all_rooms_end();
        server.assert_all_ports_freed();
    }
    // The other servers remove the killed server and its users.
    let until = Instant::now() + PATIENCE;
    let count = |key: &str| redis.command(&format!("HLEN portal-chat:{key}"));
    while count("servers") != format!(":{SERVERS}\r\n") || count("names") != ":0\r\n" {
        assert!(Instant::now() < until, "a server or a name is left");
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

/// Kills, suspends and restarts Redis until the time is up. Returns the number of faults.
fn cause_faults(redis: &mut Redis, dice: &mut Dice, time: Duration) -> usize {
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

/// Logs in with one of a few names, sends to a separate room, and leaves, often without
/// `TERMINATE`.
fn visit_as_guest(mut client: Client, dice: &mut Dice) {
    client.send_line(&login(&format!("guest-{}", dice.roll(3))));
    let reply = loop {
        match client.next_line() {
            Some(line) if line.contains("WELCOME") || line.contains("<error") => break line,
            Some(_) => {}
            None => return,
        }
    };
    if reply.contains("WELCOME") {
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

/// Runs a server in its own process for a while, with guests, and kills it together with some of
/// the guests. Returns `false` if the server did not start because Redis was unreachable.
fn run_and_kill_server(url: &str, lives: usize, dice: &mut Dice) -> bool {
    // Reuse IDs: a server with a dead server's ID must wait until that server's lease has expired.
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
    let has_started = address.is_some();
    if let Some(address) = address {
        let end = Instant::now() + Duration::from_millis(500 + dice.roll(2500));
        let mut guests = Vec::new();
        while Instant::now() < end {
            visit_as_guest(Client::connect(address), dice);
            let mut client = Client::connect(address);
            client.send_line(&login(&format!("guest-{}", dice.roll(3))));
            guests.push(client);
            guests.truncate(5);
        }
        server.kill().unwrap();
    }
    server.wait().unwrap();
    has_started
}

/// Once Redis is reachable again, each user sends one more message, and all users receive it.
/// Returns the numbers of these messages.
fn expect_last_messages(users: &mut BTreeMap<String, User>) -> BTreeMap<String, usize> {
    let until = Instant::now() + PATIENCE;
    for user in users.values_mut() {
        while user.send() != Outcome::Sent {
            assert!(Instant::now() < until, "Redis is still unreachable");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let last: BTreeMap<String, usize> = users
        .iter()
        .map(|(name, user)| (name.clone(), user.outcomes.len() - 1))
        .collect();
    for (name, user) in users.iter_mut() {
        let has_all = |user: &User| {
            last.iter().all(|(other, number)| {
                other == name
                    || user.received.get(other).and_then(|there| there.last()) == Some(number)
            })
        };
        while !has_all(user) {
            let line = user.client.line();
            user.process(&line);
        }
    }
    last
}

/// Checks the rules of delivery.
fn check(users: &BTreeMap<String, User>, last: &BTreeMap<String, usize>) -> String {
    let mut counts = [0; 4];
    for (speaker, user) in users {
        for outcome in &user.outcomes {
            counts[*outcome as usize] += 1;
        }
        for (listener, other) in users.iter().filter(|(name, _)| *name != speaker) {
            let received = &other.received[speaker];
            assert!(
                received.is_sorted_by(|one, next| one < next),
                "{listener} received {speaker} twice or out of order"
            );
            assert_eq!(received.last(), last.get(speaker));
            let is_near = user.server == other.server;
            let mut lost = 0;
            for (number, outcome) in user.outcomes.iter().enumerate() {
                let is_received = received.binary_search(&number).is_ok();
                match outcome {
                    Outcome::Sent if !is_received => lost += 1,
                    Outcome::SentLocally => {
                        assert_eq!(
                            is_received, is_near,
                            "{listener}: {speaker}'s {number}, sent on one server only"
                        );
                    }
                    Outcome::Refused => {
                        assert!(!is_received, "{listener}: {speaker}'s {number} was refused")
                    }
                    Outcome::Sent | Outcome::Unsure => {}
                }
            }
            assert!(
                lost <= other.missed,
                "{listener}: {lost} of {speaker}'s are lost"
            );
        }
    }
    let [sent, local, unsure, refused] = counts;
    format!("{sent} to all, {local} on one server, {unsure} unsure, {refused} refused")
}
