//! What happened, as a type.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::record::Record;
use crate::clock::{Tick, Ticks};
use crate::net::Port;
use crate::seat::SeatNumber;
use crate::wire::{CloseReason, ErrorCode};

/// One thing that happened, when, and in which thread.
#[derive(Clone, Debug)]
pub struct Event {
    /// The clock's count.
    pub tick: Tick,
    /// The time of day, for the event file, which may hold several runs.
    pub time: Timestamp,
    /// The thread that did it.
    pub thread: String,
    /// What it did.
    pub what: What,
}

/// By which door somebody has come, where there is another one than the portal's and the workers'.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The browser's.
    Web,
}

/// The place of a client: its port, or its seat if all clients share a single port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A worker's port.
    Port(Port),
    /// A seat of the single port, named like its thread.
    Seat(SeatNumber),
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Place::Port(port) => port.serialize(serializer),
            Place::Seat(number) => serializer.collect_str(&format_args!("seat-{number}")),
        }
    }
}

/// Everything that can happen.
///
/// This is the one description of each: its word, and its details in their order, for the file, the board
/// and the console. What may be left out is left out there.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The engine between this server and the others is away.
    ClusterLost {
        /// How that showed.
        reason: String,
    },
    /// It is back.
    ClusterBack,
    /// Another server of the chat, as it was heard of last.
    ClusterServer {
        /// What it is called.
        server: String,
        /// It is taken to live.
        lives: bool,
        /// How many of its seats are taken.
        taken: usize,
        /// How many it has.
        seats: usize,
        /// How long the engine took to answer it last, in microseconds.
        lag: u64,
    },
    /// Things that were said on other servers can't be had any more.
    ClusterMissed {
        /// In that room, or in public.
        room: Option<String>,
        /// How many, if that is known.
        count: Option<u64>,
    },
    /// A server has begun, with these workers and rules.
    Started {
        /// Each worker's port, in the order of the seats.
        #[serde(serialize_with = "as_ranges")]
        ports: Vec<Port>,
        /// The clock's period, in whole seconds.
        #[serde(rename = "period")]
        tick_seconds: u64,
        /// How many ticks a reservation stands.
        reserve: Ticks,
        /// How many ticks a caller has for the passcode.
        handshake: Ticks,
        /// After how many ticks without a word a session ends, if ever.
        #[serde(serialize_with = "or_zero")]
        idle: Option<Ticks>,
        /// After how many ticks a session ends in any case, if ever.
        #[serde(serialize_with = "or_zero")]
        total: Option<Ticks>,
    },
    /// A listener is bound.
    Listening {
        /// `portal-tcp`, `portal-udp` or `workers`.
        role: &'static str,
        /// Where; for the workers, the first of them.
        address: SocketAddr,
    },
    /// Workers' ports can't be bound yet; the server serves without their seats.
    PortsBusy {
        /// The ports.
        #[serde(serialize_with = "as_ranges")]
        ports: Vec<Port>,
        /// The use of the ports.
        reason: &'static str,
    },
    /// A worker listens on a port that was busy before; the port is on the workload stack.
    PortReady {
        /// The worker's port.
        port: Port,
    },
    /// The portal reserved a seat and said so.
    Ticket {
        /// The worker's port.
        port: Port,
        /// Who asked.
        asker: SocketAddr,
        /// What it has to say there, with `--show-passcodes`.
        passcode: Option<String>,
        /// How it came, if not by the portal.
        via: Option<Via>,
    },
    /// A UDP client asked again while its reservation stood.
    TicketAgain {
        /// The worker's port.
        port: Port,
        /// Who asked.
        asker: SocketAddr,
    },
    /// The portal had no seat to give.
    Full {
        /// Who asked.
        asker: SocketAddr,
    },
    /// Who was promised the seat did not come.
    NoShow {
        /// The worker's port.
        port: Port,
    },
    /// The expected caller is connected.
    Arrived {
        /// The worker's port.
        port: Port,
        /// Who.
        peer: SocketAddr,
    },
    /// The right passcode, from a client that wants to be called: the worker calls. From here on
    /// the peer is the address that is called.
    Calling {
        /// The worker's port.
        port: Port,
        /// Where the client listens.
        peer: SocketAddr,
    },
    /// The caller and this server speak TLS with each other. At a worker's port and a room's, the caller has the handshake
    /// timeout for the passcode from here on. (Not told of connections to the portal and to the browsers' door.)
    Secured {
        /// The port that was called.
        port: Port,
        /// Who.
        peer: SocketAddr,
    },
    /// A caller and this server did not come to speak TLS with each other, or to speak without it.
    TlsFailed {
        /// The port that was called.
        port: Port,
        /// Who.
        peer: SocketAddr,
        /// Why.
        error: String,
    },
    /// A caller did not speak the chat protocol and was rejected.
    WrongProtocol {
        /// The port of the entrance.
        port: Port,
        /// The caller.
        peer: SocketAddr,
        /// The protocol: `http`, `tls`, or the PROXY protocol with its version.
        protocol: String,
    },
    /// A request to the page or the board was refused; the response had the reason.
    HttpRefused {
        /// The port of the page or the board.
        port: Port,
        /// The client's address; behind a trusted proxy, the one that the proxy states.
        peer: SocketAddr,
        /// The response's status, such as `403 Forbidden`.
        status: String,
        /// The reason and the fix.
        reason: String,
    },
    /// Somebody came who was not expected, and was turned away.
    Stray {
        /// The worker's port.
        port: Port,
        /// Who.
        peer: SocketAddr,
    },
    /// The caller's first frame was not the passcode.
    WrongPasscode {
        /// The worker's port.
        port: Port,
        /// Who.
        peer: SocketAddr,
    },
    /// The caller's first frame was the passcode.
    Seated {
        /// The worker's port.
        port: Port,
        /// Who.
        peer: SocketAddr,
        /// How it came, if not to the worker's port.
        via: Option<Via>,
    },
    /// A message went to the partner.
    Relayed {
        /// The sender.
        from: Place,
        /// The partner.
        to: Place,
        /// The text's length.
        bytes: usize,
        /// The text, with `--show-messages`.
        text: Option<String>,
    },
    /// A message had nobody to go to.
    NobodyThere {
        /// The sender.
        from: Place,
    },
    /// A name was registered: the account is on the disk.
    Registered {
        /// The worker's port.
        port: Port,
        /// The name.
        name: String,
    },
    /// Somebody has logged in.
    LoggedIn {
        /// The worker's port.
        port: Port,
        /// The name.
        name: String,
    },
    /// Somebody has changed their password: the new one is on the disk.
    PasswordChanged {
        /// The worker's port.
        port: Port,
        /// The name.
        name: String,
    },
    /// Not the account's password.
    #[serde(rename = "password-wrong")]
    WrongPassword {
        /// The worker's port.
        port: Port,
        /// The name that was claimed.
        name: String,
    },
    /// A message went to everyone who is logged in.
    Public {
        /// The speaker's port.
        #[serde(rename = "port")]
        from: Port,
        /// The speaker's name.
        name: String,
        /// How many it was handed to.
        count: usize,
        /// The text, with `--show-messages`.
        text: Option<String>,
    },
    /// A message went to one person.
    Direct {
        /// The speaker's port.
        #[serde(rename = "port")]
        from: Port,
        /// The speaker's name.
        name: String,
        /// The target's name.
        to: String,
        /// The text, with `--show-messages`.
        text: Option<String>,
    },
    /// A message was for somebody who is not here.
    NoSuchUser {
        /// The speaker's port.
        #[serde(rename = "port")]
        from: Port,
        /// The speaker's name.
        name: String,
        /// The name that nobody has.
        to: String,
    },
    /// A room has begun.
    RoomOpened {
        /// Its port.
        port: Port,
        /// Its name.
        room: String,
    },
    /// A room has ended, and its port is free.
    RoomEnded {
        /// Its port.
        port: Port,
        /// Its name.
        room: String,
    },
    /// Somebody has come into a room.
    RoomJoined {
        /// Its port.
        port: Port,
        /// Its name.
        room: String,
        /// Who.
        name: String,
    },
    /// Somebody has left a room.
    RoomLeft {
        /// The room's name.
        room: String,
        /// Who.
        name: String,
        /// Why.
        end: CloseReason,
    },
    /// A message went to a room.
    RoomSaid {
        /// Its port.
        port: Port,
        /// Its name.
        room: String,
        /// The speaker's name.
        name: String,
        /// How many it was handed to.
        count: usize,
        /// The text, with `--show-messages`.
        text: Option<String>,
    },
    /// A line of the accounts file is not an account. It stays, and no client can register its
    /// name.
    DamagedAccount {
        /// The line's number, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
        /// The correction for the operator.
        fix: &'static str,
        /// The name at its beginning, if there is one.
        name: Option<String>,
        /// The file.
        file: String,
    },
    /// What a client sent could not be done; it was told.
    Refused {
        /// The worker's port.
        port: Port,
        /// Why.
        code: ErrorCode,
    },
    /// A session is over.
    Left {
        /// The worker's port.
        port: Port,
        /// Who.
        peer: SocketAddr,
        /// Why.
        end: CloseReason,
    },
    /// The passcode has changed and the port is back on the workload stack.
    Freed {
        /// The worker's port.
        port: Port,
        /// The new one, with `--show-passcodes`.
        passcode: Option<String>,
    },
    /// Somebody seated has said something, for the first time in this tick: its idle time begins
    /// anew.
    Heard {
        /// The worker's port.
        port: Port,
    },
    /// A word to those who watch a demonstration.
    Caption {
        /// What is to be seen.
        text: String,
    },
    /// A thread panicked over one client; it goes on with the next.
    Panicked {
        /// What it said.
        message: String,
        /// Where in the source.
        place: String,
    },
    /// A listener could not accept, or a reply could not be sent; it tries again.
    Trouble {
        /// What failed.
        doing: &'static str,
        /// The system's reason.
        error: String,
        /// Number of failures since the last such event, if the failure repeats.
        times: Option<u64>,
    },
    /// Lines of this stream (the console, the event file, the board) are missing before this one.
    LinesMissing {
        /// How many.
        count: u64,
        /// The system's reason, or that events came too fast.
        reason: String,
    },
    /// A socket call returned (`--trace`). Its name is the event's word.
    Called {
        /// Its name.
        call: &'static str,
        /// The other side; for a listener, its own address.
        address: Option<SocketAddr>,
        /// How many bytes were asked for or offered, where it is about bytes.
        wanted: Option<usize>,
        /// How many there were, where it is about bytes.
        got: Option<usize>,
        /// Why it failed.
        failed: Option<String>,
        /// The bytes, escaped, if there were any.
        bytes: Option<String>,
    },
    /// The clock moved on.
    #[serde(rename = "tick")]
    Ticked {
        /// How many timer threads were told.
        told: usize,
    },
    /// The server is going down.
    ShuttingDown {
        /// Why: a signal, the operator; nothing where a program stops its own server.
        why: Option<String>,
    },
}

fn as_ranges<S: Serializer>(ports: &[Port], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&ranges(ports))
}

fn or_zero<S: Serializer>(ticks: &Option<Ticks>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(ticks.map_or(0, Ticks::get))
}

/// Ports in their order, with those that follow each other as a range: `50001-50004 50010`.
fn ranges(ports: &[Port]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let follows = |one: &Port, other: &Port| u32::from(one.get()) + 1 == u32::from(other.get());
    for range in ports.chunk_by(follows) {
        match range {
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [one] => parts.push(one.to_string()),
            [] => {}
        }
    }
    parts.join(" ")
}

impl What {
    /// The word for it, in event lines and in the transcripts of the tests, and its details in their order.
    pub fn described(&self) -> (String, Map<String, Value>) {
        // Every event is a struct, and its fields are plain values.
        let Ok(Value::Object(mut details)) = serde_json::to_value(self) else {
            return Default::default();
        };
        details.retain(|_, detail| !detail.is_null());
        let word = details.shift_remove("event");
        let word = details.shift_remove("call").or(word);
        let word = word.and_then(|word| word.as_str().map(str::to_owned));
        (word.unwrap_or_default(), details)
    }
}

impl Event {
    /// As it is written down.
    pub fn record(&self) -> Record {
        let (event, details) = self.what.described();
        Record {
            time: self.time,
            tick: self.tick,
            thread: self.thread.clone(),
            event,
            details,
        }
    }

    /// Returns an event of this thread for `count` missing lines, if any are missing.
    pub(crate) fn missing(tick: Tick, count: u64, reason: &str) -> Option<Event> {
        (count > 0).then(|| Event {
            tick,
            time: Timestamp::now(),
            thread: std::thread::current().name().unwrap_or("?").to_owned(),
            what: What::LinesMissing {
                count,
                reason: reason.to_owned(),
            },
        })
    }

    /// One aligned line for people; see [`Record::line`].
    pub fn line(&self) -> String {
        self.record().line()
    }

    /// One JSON object, for programs; see [`Record::json`].
    pub fn json(&self) -> String {
        self.record().json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What) -> Event {
        Event {
            tick: Tick(12),
            time: Timestamp::UNIX_EPOCH,
            thread: "worker-50001".to_owned(),
            what,
        }
    }

    fn relayed(text: &str) -> Event {
        let place = |port| Place::Port(Port::new(port).unwrap());
        let (from, to) = (place(50001), place(50002));
        event(What::Relayed {
            from,
            to,
            bytes: text.len(),
            text: Some(text.to_owned()),
        })
    }

    #[test]
    fn ports_that_follow_each_other_are_a_range() {
        let ports = |numbers: &[u16]| {
            let ports: Vec<Port> = numbers.iter().filter_map(|&n| Port::new(n)).collect();
            ranges(&ports)
        };
        assert_eq!(
            ports(&[50001, 50002, 50003, 7, 65535, 9]),
            "50001-50003 7 65535 9"
        );
    }

    #[test]
    fn a_line_is_aligned_and_harmless() {
        assert_eq!(
            relayed("\u{1b}[2Jhi").line(),
            "    12  worker-50001     relayed         from 50001  to 50002  bytes 6  text \u{fffd}[2Jhi"
        );
    }

    #[test]
    fn a_json_line_is_one_object_without_control_characters() {
        assert_eq!(
            relayed("a \"b\"\n\\").json(),
            r#"{"time":"1970-01-01T00:00:00.000Z","tick":12,"thread":"worker-50001","event":"relayed","from":50001,"to":50002,"bytes":7,"text":"a \"b\"\u000a\\"}"#
        );
    }

    /// One of each, with and without what may be left out.
    fn every() -> Vec<What> {
        let port = Port::new(50001).unwrap();
        let other = Port::new(50002).unwrap();
        let peer: SocketAddr = "[2001:db8::1]:40000".parse().unwrap();
        let ticks = |count| {
            crate::clock::Ticks::covering(
                std::time::Duration::from_secs(count),
                std::time::Duration::from_secs(1),
            )
        };
        let name = || "alice".to_owned();
        let room = || "lobby".to_owned();
        let some = |text: &str| Some(text.to_owned());
        vec![
            What::ClusterLost {
                reason: "a reason".to_owned(),
            },
            What::ClusterBack,
            What::ClusterServer {
                server: "two".to_owned(),
                lives: true,
                taken: 1,
                seats: 4,
                lag: 250,
            },
            What::ClusterMissed {
                room: Some(room()),
                count: Some(3),
            },
            What::ClusterMissed {
                room: None,
                count: None,
            },
            What::Started {
                ports: vec![port, other],
                tick_seconds: 1,
                reserve: ticks(2),
                handshake: ticks(1),
                idle: Some(ticks(300)),
                total: None,
            },
            What::Listening {
                role: "workers",
                address: peer,
            },
            What::Ticket {
                port,
                asker: peer,
                passcode: some("abc"),
                via: None,
            },
            What::Ticket {
                port,
                asker: peer,
                passcode: None,
                via: Some(Via::Web),
            },
            What::TicketAgain { port, asker: peer },
            What::Full { asker: peer },
            What::NoShow { port },
            What::Arrived { port, peer },
            What::Calling { port, peer },
            What::Secured { port, peer },
            What::TlsFailed {
                port,
                peer,
                error: "a reason".to_owned(),
            },
            What::WrongProtocol {
                port,
                peer,
                protocol: "http".to_owned(),
            },
            What::HttpRefused {
                port,
                peer,
                status: "403 Forbidden".to_owned(),
                reason: "a reason".to_owned(),
            },
            What::Stray { port, peer },
            What::WrongPasscode { port, peer },
            What::Seated {
                port,
                peer,
                via: None,
            },
            What::Seated {
                port,
                peer,
                via: Some(Via::Web),
            },
            What::Relayed {
                from: Place::Port(port),
                to: Place::Port(other),
                bytes: 2,
                text: some("h\u{85}i"),
            },
            What::Relayed {
                from: Place::Port(port),
                to: Place::Port(other),
                bytes: 2,
                text: None,
            },
            What::Relayed {
                from: Place::Seat(SeatNumber::from_index(0)),
                to: Place::Seat(SeatNumber::from_index(1)),
                bytes: 2,
                text: None,
            },
            What::NobodyThere {
                from: Place::Port(port),
            },
            What::PortsBusy {
                ports: vec![port, Port::new(50002).unwrap()],
                reason: "a reason",
            },
            What::PortReady { port },
            What::Registered { port, name: name() },
            What::LoggedIn { port, name: name() },
            What::PasswordChanged { port, name: name() },
            What::WrongPassword { port, name: name() },
            What::Public {
                from: port,
                name: name(),
                count: 3,
                text: some("a \"b\"\\\n"),
            },
            What::Direct {
                from: port,
                name: name(),
                to: "bob".to_owned(),
                text: None,
            },
            What::NoSuchUser {
                from: port,
                name: name(),
                to: "bob".to_owned(),
            },
            What::RoomOpened { port, room: room() },
            What::RoomEnded { port, room: room() },
            What::RoomJoined {
                port,
                room: room(),
                name: name(),
            },
            What::RoomLeft {
                room: room(),
                name: name(),
                end: CloseReason::ClientIdleTimeout,
            },
            What::RoomSaid {
                port,
                room: room(),
                name: name(),
                count: 0,
                text: some("hi"),
            },
            What::DamagedAccount {
                file: "accounts.txt".to_owned(),
                line: 7,
                reason: "it is not UTF-8",
                fix: "delete it",
                name: Some(name()),
            },
            What::Refused {
                port,
                code: ErrorCode::BadName,
            },
            What::Left {
                port,
                peer,
                end: CloseReason::TotalTimeout,
            },
            What::Freed {
                port,
                passcode: None,
            },
            What::Heard { port },
            What::Caption {
                text: "look".to_owned(),
            },
            What::Panicked {
                message: "oops".to_owned(),
                place: "here:1:2".to_owned(),
            },
            What::Trouble {
                doing: "accept",
                error: "no".to_owned(),
                times: None,
            },
            What::Trouble {
                doing: "accept",
                error: "no".to_owned(),
                times: Some(12),
            },
            What::LinesMissing {
                count: 3,
                reason: "a reason".to_owned(),
            },
            What::Called {
                call: "bind",
                address: Some(peer),
                wanted: None,
                got: None,
                failed: None,
                bytes: None,
            },
            What::Called {
                call: "read",
                address: Some(peer),
                wanted: Some(10),
                got: Some(2),
                failed: None,
                bytes: some("\"hi\""),
            },
            What::Called {
                call: "write",
                address: None,
                wanted: Some(10),
                got: None,
                failed: some("no"),
                bytes: None,
            },
            What::Ticked { told: 3 },
            What::ShuttingDown { why: None },
            What::ShuttingDown {
                why: some("operator"),
            },
        ]
    }

    /// The event files of before can be replayed, and whoever reads them with a program goes on doing so.
    #[test]
    fn every_event_is_written_as_ever() {
        let lines: Vec<String> = every()
            .into_iter()
            .flat_map(|what| {
                let event = event(what);
                [event.line(), event.json()]
            })
            .collect();
        assert_eq!(lines.join("\n"), include_str!("lines.txt").trim_end());
    }
}
