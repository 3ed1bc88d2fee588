//! Plays a transcript: a text file with clients' actions and the server's replies, line by line.
//!
//! ```text
//! # A comment.
//! server workers=2 idle-timeout=5      the server's settings, optional, on the first line
//! alice sits                           takes a seat, and receives the document about the partner
//! alice asks                           connects to the TCP portal and reads its reply
//! alice asks by datagram               sends a datagram to the UDP portal, always from one socket
//! alice connects to 50001              (also: `from 127.0.0.2`, and `to {port}` for a room's)
//! alice sends <CLIENT>…</CLIENT>       one line; \xff is a byte, {9000 x} is x, 9000 times
//! alice sends half <CLIENT>            a line without its line feed
//! alice gets <SERVER>…{code}…          the next line; {code} matches any text, and later on
//!                                      only that same text; a message's `time` and `id` are
//!                                      compared only if the line has them
//! alice gets nothing                   no data has arrived so far
//! alice is disconnected                the server has closed the connection normally
//! alice disconnects                    closes the connection
//! alice resets                         resets the connection
//! tick 3                               the clock ticks three times
//! event no-show 50001                  waits for the event
//! operator bans bob 10m too loud       (also an address or a network; `unbans`, `kicks`, `mutes`,
//!                                      `unmutes`, and `appoints` a moderator)
//! operator invites {code}              creates an invitation
//! free 50001 50002                     the workload stack; the first port is assigned next
//! code differs from other
//! ```
//!
//! In the text, the ports that the kernel chose are replaced by 50000 (portal), 50001 and so on.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use portal_chat::accounts::Register;
use portal_chat::accounts::policies::read_subject;
use portal_chat::net::Port;
use portal_chat::server::{Portals, Settings};
use portal_chat::sessions::policies::Rule;
use portal_chat::wire::Name;
use portal_chat::wire::time::read_duration;

use super::{Client, TestServer, UdpClient, temporary_file};

const FIRST_PORT: u16 = 50000;

/// Plays the transcript. Panics with the line at which the server behaves differently.
pub fn play(name: &str, text: &str) {
    play_with(name, text, |_| {});
}

/// Plays the transcript against a server with a single port. In the text, seat 1 is 50001, as it
/// would be on a worker's port.
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

/// Plays the transcript with every write split into single bytes, on both sides. The boundaries of
/// writes and reads then never match.
pub fn play_chopped(name: &str, text: &str) {
    play_with(name, text, |settings| {
        settings.chop = NonZeroUsize::new(1);
        settings.accounts = settings
            .accounts
            .take()
            .map(|path| path.with_extension("chopped"));
    });
}

/// Plays the transcript with TLS on every port. Returns `false` if the transcript needs datagrams,
/// which TLS excludes.
#[cfg(feature = "tls")]
pub fn play_over_tls(name: &str, text: &str) -> bool {
    if text.contains("by datagram") || text.contains("portal=udp") {
        return false;
    }
    let (server, client) = super::tls::both();
    super::tls::use_tls(Some(client));
    play_with(name, text, |settings| {
        settings.tls = Some(server);
        settings.portals = Portals::Tcp;
        settings.accounts = settings
            .accounts
            .take()
            .map(|path| path.with_extension("secured"));
    });
    super::tls::use_tls(None);
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
    let mut player = Player {
        server: TestServer::start(&settings),
        clients: HashMap::new(),
        udp_clients: HashMap::new(),
        replies: HashMap::new(),
        names: HashMap::new(),
        line: String::new(),
        is_chopped: settings.chop.is_some(),
        is_secured: settings.tls.is_some(),
    };
    for (line, number) in lines {
        player.line = format!("{name}:{number}: {line}");
        player.play(line);
    }
    player.clients.clear();
    player.server.assert_all_rooms_end();
    player.server.assert_all_ports_freed();
    player.server.server.stop();
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
            "register" if value == "closed" => settings.register = Register::Closed,
            "register" => settings.register = Register::Invite,
            "min-password" => settings.min_password = value.parse().unwrap(),
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

struct Player {
    server: TestServer,
    clients: HashMap<String, Client>,
    udp_clients: HashMap<String, UdpClient>,
    /// The portal's replies that no line has compared yet, by client.
    replies: HashMap<String, String>,
    names: HashMap<String, String>,
    line: String,
    is_chopped: bool,
    is_secured: bool,
}

impl Player {
    fn play(&mut self, line: &str) {
        let (name, action) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "tick" => return self.server.tick(action.parse().unwrap()),
            "event" => return self.event(action),
            "free" => return self.free(action),
            "operator" => return self.operate(action),
            _ => {}
        }
        if let Some(other) = action.strip_prefix("differs from ") {
            assert_ne!(self.names[name], self.names[other], "{}", self.line);
            return;
        }
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match (verb, rest) {
            ("asks", "") => {
                let reply = self.server.request_port();
                self.replies.insert(name.to_owned(), reply);
            }
            ("asks", "by datagram") => {
                let portal = self.server.server.portal();
                let udp_client = self
                    .udp_clients
                    .entry(name.to_owned())
                    .or_insert_with(|| UdpClient::new(portal));
                let reply = udp_client.request_port();
                self.replies.insert(name.to_owned(), reply + "\n");
            }
            ("sits", "") => {
                let (client, _) = self.server.seat();
                self.clients.insert(name.to_owned(), client);
                let seated = self.client(name).line();
                assert!(seated.contains("PARTNER"), "{seated}");
            }
            ("connects", to) => self.connect(name, to.strip_prefix("to ").unwrap()),
            ("sends", text) => {
                let (text, end) = text
                    .strip_prefix("half ")
                    .map_or((text, "\n"), |half| (half, ""));
                let mut bytes = self.expand(text);
                bytes.extend_from_slice(end.as_bytes());
                // A huge line is sent in one write: the server closes the connection in the middle
                // of it, and a write to a closed connection causes a reset that discards the reply.
                if self.is_chopped && bytes.len() < 1000 {
                    bytes
                        .iter()
                        .for_each(|byte| self.client(name).try_send(&[*byte]));
                } else {
                    self.client(name).send(&bytes);
                }
            }
            ("gets", "nothing") => {
                let line = self.line.clone();
                assert!(self.client(name).has_received_nothing(), "{line}");
            }
            // With TLS, an unexpected connection is closed without a reply.
            ("gets", pattern)
                if self.is_secured
                    && pattern.contains("Wrong handshake passcode")
                    && self.client(name).is_closed_without_data() => {}
            ("gets", pattern) => {
                let got = match self.replies.remove(name) {
                    Some(reply) => reply.trim_end().to_owned(),
                    None => {
                        let line = self.line.clone();
                        self.client(name)
                            .next_line()
                            .unwrap_or_else(|| panic!("{line}\n  but the connection is closed"))
                    }
                };
                let got = self.with_transcript_ports(&self.with_transcript_seats(&got));
                self.compare(pattern, &without_stamp(&got, pattern));
            }
            ("is", "disconnected") => {
                let line = self.line.clone();
                let next = self.client(name).next_line();
                assert_eq!(next, None, "{line}");
            }
            ("disconnects", "") => drop(self.clients.remove(name)),
            ("resets", "") => self.clients.remove(name).unwrap().reset(),
            _ => panic!("{}\n  is not a known line", self.line),
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let line = &self.line;
        self.clients
            .get_mut(name)
            .unwrap_or_else(|| panic!("{line}\n  {name} is not connected"))
    }

    fn connect(&mut self, name: &str, to: &str) {
        let (port, from) = to.split_once(" from ").unwrap_or((to, ""));
        // A room's port is known only from the reply to JOIN.
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
        self.clients.insert(name.to_owned(), client);
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
        // With TLS, the passcode's timeout starts after the TLS handshake.
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

    fn operate(&mut self, action: &str) {
        let (verb, rest) = action.split_once(' ').unwrap();
        let (whom, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (first, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let duration = read_duration(first);
        let reason = if duration.is_some() { reason } else { rest };
        let name = || Name::new(whom).unwrap();
        let banned = || read_subject(whom).unwrap();
        let server = &self.server.server;
        let rule = match verb {
            "invites" => {
                let name = whom.trim_matches(['{', '}']).to_owned();
                let code = server.policies().invite().unwrap();
                self.names.insert(name, code);
                return;
            }
            "kicks" => return assert!(server.kick(whom, rest), "{}", self.line),
            "appoints" => {
                let policies = server.policies();
                return policies.set_moderator(&name(), true).unwrap();
            }
            "bans" => Rule::Ban(banned(), duration, reason.to_owned()),
            "unbans" => Rule::Unban(banned()),
            "mutes" => Rule::Mute(name(), duration),
            "unmutes" => Rule::Unmute(name()),
            _ => panic!("{}\n  is not something that the operator does", self.line),
        };
        server.chat().change_rule(None, rule).unwrap();
    }

    fn real_port(&self, player: &str) -> Port {
        let number: u16 = player.parse().unwrap();
        self.server.worker(usize::from(number - FIRST_PORT - 1))
    }

    /// On a single port, returns `text` with the seat numbers of clients without a name replaced by
    /// the transcript's ports.
    fn with_transcript_seats(&self, text: &str) -> String {
        if !self.server.is_single {
            return text.to_owned();
        }
        (1..=9).fold(text.to_owned(), |text, seat| {
            let port = FIRST_PORT + seat;
            text.replace(&format!("from='{seat}'"), &format!("from='{port}'"))
                .replace(&format!("<partner>{seat}<"), &format!("<partner>{port}<"))
        })
    }

    /// Returns `text` with the server's ports replaced by the transcript's ports.
    fn with_transcript_ports(&self, text: &str) -> String {
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

    /// Compares a received line with a pattern in which `{name}` matches any text up to a `<`.
    fn compare(&mut self, pattern: &str, got: &str) {
        let mut rest = got;
        let mut left = pattern;
        while let Some((literal, after)) = left.split_once('{') {
            let (name, after) = after.split_once('}').expect("a closing brace");
            rest = rest
                .strip_prefix(literal)
                .unwrap_or_else(|| panic!("{}\n  but got {got}", self.line));
            // The value extends to the next markup: an element's end, or an attribute's.
            let value = &rest[..rest.find(['<', '\'']).unwrap_or(rest.len())];
            rest = &rest[value.len()..];
            let known = self
                .names
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
            assert_eq!(
                known, value,
                "{}\n  {name} had another value before",
                self.line
            );
            left = after;
        }
        assert_eq!(rest, left, "{}\n  but got {got}", self.line);
    }

    /// Returns the bytes of `text`, with names, repetitions and `\x` bytes replaced.
    fn expand(&self, text: &str) -> Vec<u8> {
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

/// Removes the attributes `time` and `id` from a message if the pattern does not have them.
fn without_stamp(got: &str, pattern: &str) -> String {
    let mut got = got.to_owned();
    let end = got.find('>').filter(|_| got.starts_with("<CLIENT "));
    for name in [" id='", " time='"] {
        let begin = got.find(name).filter(|begin| Some(*begin) < end);
        if let Some(begin) = begin.filter(|_| !pattern.contains(name)) {
            let value = begin + name.len();
            let length = got[value..].find('\'').expect("a closing quote");
            got.replace_range(begin..=value + length, "");
        }
    }
    got
}
