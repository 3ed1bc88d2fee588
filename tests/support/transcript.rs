//! Plays a transcript: a text file in which people talk to a server, line by line.
//!
//! ```text
//! # A line like this one explains.
//! server workers=2 idle-timeout=5      the server's settings; the first line, or left out
//! alice sits                           asks, connects, says the passcode, hears who is beside
//! alice asks                           asks the TCP portal and reads what it says
//! alice asks by datagram               asks the UDP portal, always from the same socket
//! alice connects to 50001              (also: `from 127.0.0.2`, and `to {port}` for a room's)
//! alice sends <CLIENT>…</CLIENT>       one line; \xff is a byte, {9000 x} is 9000 times x
//! alice sends half <CLIENT>            the same without the line feed
//! alice gets <SERVER>…{code}…          the next line; {code} stands for whatever is there, and
//!                                      from then on for that same text
//! alice gets nothing                   so far
//! alice is disconnected                by the server, and in order
//! alice disconnects                    herself
//! alice resets                         herself, without the usual courtesy
//! tick 3                               three ticks pass
//! event no-show 50001                  waits until the server tells of it
//! free 50001 50002                     the workload stack, the next port to go out first
//! code differs from other
//! ```
//!
//! The ports that the system chose stand in the text as 50000 (portal), 50001 and so on.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use portal_chat::net::Port;
use portal_chat::server::{Portals, Settings};

use super::{Client, TestServer, UdpAsker, temporary_file};

const FIRST_PORT: u16 = 50000;

/// Plays the transcript and panics, naming its line, where the server does otherwise.
pub fn play(name: &str, text: &str) {
    play_with(name, text, |_| {});
}

/// Plays the transcript against a server with one port for everyone. Seat 1 stands in the text as
/// 50001, as it would on a worker's port.
pub fn play_on_single_port(name: &str, text: &str) {
    play_with(name, text, |settings| {
        settings.single_port = Some(settings.workers);
        // The same transcript may be played on workers' ports at the same time.
        settings.accounts = settings
            .accounts
            .take()
            .map(|path| path.with_extension("single"));
    });
}

/// Plays the transcript with every write cut into single bytes, the server's and the clients'. What
/// one side writes is then never what the other one reads.
pub fn play_chopped(name: &str, text: &str) {
    play_with(name, text, |settings| {
        settings.chop = NonZeroUsize::new(1);
        settings.accounts = settings
            .accounts
            .take()
            .map(|path| path.with_extension("chopped"));
    });
}

/// Plays the transcript with TLS on every port. Returns whether it could be: there are no datagrams
/// then.
#[cfg(feature = "tls")]
pub fn play_secured(name: &str, text: &str) -> bool {
    if text.contains("by datagram") || text.contains("portal=udp") {
        return false;
    }
    let (server, client) = super::tls::both();
    super::tls::secure_clients(Some(client));
    play_with(name, text, |settings| {
        settings.tls = Some(server);
        settings.portals = Portals::Tcp;
        settings.accounts = settings
            .accounts
            .take()
            .map(|path| path.with_extension("secured"));
    });
    super::tls::secure_clients(None);
    true
}

fn play_with(name: &str, text: &str, change: impl FnOnce(&mut Settings)) {
    let mut lines = text
        .lines()
        .map(str::trim)
        .zip(1..)
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let mut settings = Settings::default();
    if let Some((line, _)) = lines.next_if(|(line, _)| line.starts_with("server ")) {
        settings = settings_from(line);
    }
    change(&mut settings);
    let mut stage = Stage {
        server: TestServer::start(&settings),
        clients: HashMap::new(),
        askers: HashMap::new(),
        asked: HashMap::new(),
        names: HashMap::new(),
        line: String::new(),
        is_chopped: settings.chop.is_some(),
        is_secured: settings.tls.is_some(),
    };
    for (line, number) in lines {
        stage.line = format!("{name}:{number}: {line}");
        stage.play(line);
    }
    stage.clients.clear();
    stage.server.assert_all_rooms_end();
    stage.server.assert_all_ports_come_back();
    stage.server.server.stop();
}

fn settings_from(line: &str) -> Settings {
    let mut settings = Settings::default();
    for setting in line.split_whitespace().skip(1) {
        let (name, value) = setting.split_once('=').expect("a setting is name=value");
        let seconds = || Duration::from_secs(value.parse().unwrap());
        match name {
            "workers" => settings.workers = value.parse().unwrap(),
            "tick" => settings.tick = seconds(),
            "reserve-timeout" => settings.reserve_timeout = seconds(),
            "handshake-timeout" => settings.handshake_timeout = seconds(),
            "idle-timeout" => settings.idle_timeout = Some(seconds()),
            "total-timeout" => settings.total_timeout = Some(seconds()),
            "accounts" => settings.accounts = Some(temporary_file(value)),
            "announce" => settings.announce_up_to = value.parse().unwrap(),
            "rooms" => settings.rooms = value.parse().unwrap(),
            "history" => settings.history = value.parse().unwrap(),
            "max-message" => settings.max_message = value.parse().unwrap(),
            "motd" => settings.message_of_the_day = Some(value.to_owned()),
            "portal" => {
                settings.portals = match value {
                    "tcp" => Portals::Tcp,
                    "udp" => Portals::Udp,
                    _ => Portals::Both,
                }
            }
            other => panic!("no such setting: {other}"),
        }
    }
    settings
}

struct Stage {
    server: TestServer,
    clients: HashMap<String, Client>,
    askers: HashMap<String, UdpAsker>,
    /// What the portal said to somebody and has not been looked at.
    asked: HashMap<String, String>,
    names: HashMap<String, String>,
    line: String,
    is_chopped: bool,
    is_secured: bool,
}

impl Stage {
    fn play(&mut self, line: &str) {
        let (who, action) = line.split_once(' ').unwrap_or((line, ""));
        match who {
            "tick" => return self.server.tick(action.parse().unwrap()),
            "event" => return self.event(action),
            "free" => return self.free(action),
            _ => {}
        }
        if let Some(other) = action.strip_prefix("differs from ") {
            assert_ne!(self.names[who], self.names[other], "{}", self.line);
            return;
        }
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match (verb, rest) {
            ("asks", "") => {
                let answer = self.server.ask();
                self.asked.insert(who.to_owned(), answer);
            }
            ("asks", "by datagram") => {
                let portal = self.server.server.portal();
                let asker = self
                    .askers
                    .entry(who.to_owned())
                    .or_insert_with(|| UdpAsker::new(portal));
                let answer = asker.ask();
                self.asked.insert(who.to_owned(), answer + "\n");
            }
            ("sits", "") => {
                let (client, _) = self.server.seat();
                self.clients.insert(who.to_owned(), client);
                let seated = self.client(who).line();
                assert!(seated.contains("PARTNER"), "{seated}");
            }
            ("connects", to) => self.connect(who, to.strip_prefix("to ").unwrap()),
            ("sends", text) => {
                let (text, end) = text
                    .strip_prefix("half ")
                    .map_or((text, "\n"), |half| (half, ""));
                let mut bytes = self.filled_in(text);
                bytes.extend_from_slice(end.as_bytes());
                // A giant goes out at once: the server hangs up in the middle of it, and what is
                // sent to a closed connection resets it, answer and all.
                if self.is_chopped && bytes.len() < 1000 {
                    bytes
                        .iter()
                        .for_each(|byte| self.client(who).try_send(&[*byte]));
                } else {
                    self.client(who).send(&bytes);
                }
            }
            ("gets", "nothing") => {
                let line = self.line.clone();
                assert!(self.client(who).has_heard_nothing(), "{line}");
            }
            // With TLS, who is not expected is closed without a word.
            ("gets", pattern)
                if self.is_secured
                    && pattern.contains("Wrong handshake passcode")
                    && self.client(who).is_closed_without_a_word() => {}
            ("gets", pattern) => {
                let got = match self.asked.remove(who) {
                    Some(answer) => answer.trim_end().to_owned(),
                    None => {
                        let line = self.line.clone();
                        self.client(who)
                            .next_line()
                            .unwrap_or_else(|| panic!("{line}\n  but the connection is closed"))
                    }
                };
                let got = self.with_stage_ports(&self.with_stage_seats(&got));
                self.compare(pattern, &got);
            }
            ("is", "disconnected") => {
                let line = self.line.clone();
                let next = self.client(who).next_line();
                assert_eq!(next, None, "{line}");
            }
            ("disconnects", "") => drop(self.clients.remove(who)),
            ("resets", "") => self.clients.remove(who).unwrap().reset(),
            _ => panic!("{}\n  is not a line that the player knows", self.line),
        }
    }

    fn client(&mut self, who: &str) -> &mut Client {
        let line = &self.line;
        self.clients
            .get_mut(who)
            .unwrap_or_else(|| panic!("{line}\n  {who} is not connected"))
    }

    fn connect(&mut self, who: &str, to: &str) {
        let (port, from) = to.split_once(" from ").unwrap_or((to, ""));
        // A room's port is known only from the answer to JOIN.
        let number = match port
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            Some(name) => self.names[name].parse().unwrap(),
            None => self.real_port(port).get(),
        };
        let address = SocketAddr::new(self.server.server.portal().ip(), number);
        let client = match from.parse::<IpAddr>() {
            Ok(local) => Client::connect_from(local, address),
            Err(_) => Client::connect(address),
        };
        self.clients.insert(who.to_owned(), client);
    }

    fn event(&mut self, text: &str) {
        let (word, port) = text.split_once(' ').unwrap_or((text, ""));
        let (port, detail) = port.split_once(' ').unwrap_or((port, ""));
        let port = (!port.is_empty()).then(|| self.real_port(port));
        let event = self.server.wait_for_event(word, port);
        assert!(
            event.line().contains(detail),
            "{}\n  but it was: {}",
            self.line,
            event.line()
        );
        // With TLS, the passcode's time begins when hands are shaken.
        if word == "arrived" && self.is_secured {
            self.server.wait_for_event("tls-established", port);
        }
    }

    fn free(&self, ports: &str) {
        let expected: Vec<Port> = ports
            .split_whitespace()
            .map(|port| self.real_port(port))
            .collect();
        assert_eq!(self.server.server.free_ports(), expected, "{}", self.line);
    }

    fn real_port(&self, stage: &str) -> Port {
        let number: u16 = stage.parse().unwrap();
        self.server.worker(usize::from(number - FIRST_PORT - 1))
    }

    /// On a single port: `text` with the seats' numbers, where they stand for somebody without a
    /// name, replaced by the ports that the transcript knows them by.
    fn with_stage_seats(&self, text: &str) -> String {
        if !self.server.is_single {
            return text.to_owned();
        }
        (1..=9).fold(text.to_owned(), |text, seat| {
            let port = FIRST_PORT + seat;
            text.replace(&format!("from='{seat}'"), &format!("from='{port}'"))
                .replace(&format!("<partner>{seat}<"), &format!("<partner>{port}<"))
        })
    }

    /// `text` with every number that is one of the server's ports replaced by the port that the
    /// transcript knows it by.
    fn with_stage_ports(&self, text: &str) -> String {
        let mut replaced = String::new();
        for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let index = self
                .server
                .server
                .workers()
                .iter()
                .position(|port| port.to_string() == word);
            match index {
                Some(index) => {
                    replaced += &(FIRST_PORT + 1 + index as u16).to_string();
                    replaced += &piece[word.len()..];
                }
                None => replaced += piece,
            }
        }
        replaced
    }

    /// Compares what came with a pattern in which `{name}` stands for any text up to a `<`.
    fn compare(&mut self, pattern: &str, got: &str) {
        let mut rest = got;
        let mut left = pattern;
        while let Some((literal, after)) = left.split_once('{') {
            let (name, after) = after.split_once('}').expect("a closing brace");
            rest = rest
                .strip_prefix(literal)
                .unwrap_or_else(|| panic!("{}\n  but got {got}", self.line));
            // Up to the next mark-up: an element's end, or an attribute's.
            let value = &rest[..rest.find(['<', '\'']).unwrap_or(rest.len())];
            rest = &rest[value.len()..];
            let known = self
                .names
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
            assert_eq!(
                known, value,
                "{}\n  {name} was something else before",
                self.line
            );
            left = after;
        }
        assert_eq!(rest, left, "{}\n  but got {got}", self.line);
    }

    /// The bytes of `text` with names, repetitions and `\x` bytes filled in.
    fn filled_in(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '\\']) {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            if let Some(hex) = rest[at..].strip_prefix("\\x") {
                bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                rest = &hex[2..];
            } else {
                let (name, after) = rest[at + 1..].split_once('}').unwrap();
                match name.split_once(' ') {
                    Some((count, what)) => {
                        bytes.extend(what.repeat(count.parse().unwrap()).bytes())
                    }
                    None => bytes.extend(self.names[name].bytes()),
                }
                rest = after;
            }
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }
}
