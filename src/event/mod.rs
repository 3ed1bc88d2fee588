//! What happened, as a type. Everything that the server does is told here, once; the console,
//! the event file and the tests are readers of it.
//!
//! Telling never waits: each reader has a bounded queue, and an event that finds it full is
//! counted as dropped for that reader. A server that nobody watches does not even build events.

mod readers;
mod record;
mod shutter;

pub use readers::{ReaderThread, start_console, start_event_file};
pub use record::{Detail, Record};
pub use shutter::Shutter;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;

use crate::clock::{Clock, Tick, Ticks};
use crate::net::Port;
use crate::seat::Passcode;
use crate::wire::{ErrorCode, ServerDoc};

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

/// Everything that can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A server has begun, with these workers and rules.
    Started {
        /// Each worker's port, in the order of the seats.
        ports: Vec<Port>,
        /// The clock's period, in whole seconds.
        tick_seconds: u64,
        /// How many ticks a reservation stands.
        reserve: Ticks,
        /// How many ticks a caller has for the passcode.
        handshake: Ticks,
        /// After how many ticks without a word a session ends, if ever.
        idle: Option<Ticks>,
        /// After how many ticks a session ends in any case, if ever.
        total: Option<Ticks>,
    },
    /// A listener is bound.
    Listening {
        /// `portal-tcp`, `portal-udp` or `workers`.
        role: &'static str,
        /// Where; for the workers, the first of them.
        address: SocketAddr,
    },
    /// The portal reserved a seat and said so.
    Ticket {
        /// The worker's port.
        port: Port,
        /// Who asked.
        asker: SocketAddr,
        /// What it has to say there, with `--show-passcodes`.
        passcode: Option<String>,
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
    },
    /// A message went to the partner.
    Relayed {
        /// The speaker's port.
        from: Port,
        /// The partner's port.
        to: Port,
        /// The text's length.
        bytes: usize,
        /// The text, with `--show-messages`.
        text: Option<String>,
    },
    /// A message had nobody to go to.
    NobodyThere {
        /// The speaker's port.
        from: Port,
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
    WrongPassword {
        /// The worker's port.
        port: Port,
        /// The name that was claimed.
        name: String,
    },
    /// A message went to everyone who is logged in.
    Public {
        /// The speaker's port.
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
        end: End,
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
    /// A line of the accounts file is no account. It is kept.
    DamagedAccount {
        /// The line's number, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
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
        end: End,
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
    },
    /// A socket call returned (`--trace`).
    Called {
        /// Its name.
        call: &'static str,
        /// The other side; for a listener, its own address.
        address: Option<SocketAddr>,
        /// How many bytes were asked for or offered, where it is about bytes.
        wanted: Option<usize>,
        /// How many there were, or why it failed.
        result: Result<usize, String>,
        /// The bytes, escaped.
        bytes: String,
    },
    /// The clock moved on.
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

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said `TERMINATE`.
    Terminate,
    /// The client gave up on a silent server.
    ClientIdle,
    /// The client had been connected for as long as it wanted.
    ClientTotal,
    /// The client closed the connection without a word.
    Gone,
    /// The connection broke.
    Broken,
    /// No passcode within the handshake timeout.
    Silent,
    /// The wrong passcode.
    WrongPasscode,
    /// A callback that nobody may ask for.
    BadCallback,
    /// Nobody answered the worker's call.
    NoAnswer,
    /// Nothing heard within the idle timeout.
    Idle,
    /// Connected for the total timeout.
    Total,
    /// A web page's browser, at a port without a passcode.
    Http,
    /// A frame over the limit.
    TooLong,
    /// Too many refusals in a row.
    TooManyErrors,
    /// The client did not read what was sent to it.
    TooSlow,
    /// Too many wrong passwords.
    WrongPassword,
    /// The same person logged in elsewhere.
    TakenOver,
    /// The operator removed the client.
    Kicked,
    /// The server is going down.
    Shutdown,
    /// The thread that served the client panicked.
    Panicked,
}

impl End {
    /// The word for it in an event line.
    pub fn word(self) -> &'static str {
        match self {
            End::Terminate => "terminate",
            End::ClientIdle => "client-idle-timeout",
            End::ClientTotal => "client-total-time-timeout",
            End::Gone => "gone",
            End::Broken => "broken",
            End::Silent => "handshake-timeout",
            End::WrongPasscode => "wrong-passcode",
            End::BadCallback => "bad-callback",
            End::NoAnswer => "no-answer",
            End::Idle => "idle-timeout",
            End::Total => "total-time-timeout",
            End::Http => "http-request",
            End::TooLong => "too-long",
            End::TooManyErrors => "too-many-errors",
            End::TooSlow => "too-slow",
            End::WrongPassword => "wrong-password",
            End::TakenOver => "taken-over",
            End::Kicked => "kicked",
            End::Shutdown => "shutdown",
            End::Panicked => "panicked",
        }
    }

    /// What the client is told as the last thing, when it is the server that ends the session
    /// and has not told it already.
    pub fn farewell(self) -> Option<ServerDoc<'static>> {
        match self {
            End::Silent | End::Idle => Some(ServerDoc::IdleTimeout),
            End::Total => Some(ServerDoc::TotalTimeTimeout),
            End::TooSlow => Some(ServerDoc::TooSlow),
            End::TakenOver => Some(ServerDoc::TakenOver),
            End::Shutdown => Some(ServerDoc::Shutdown),
            End::Terminate
            | End::ClientIdle
            | End::ClientTotal
            | End::Gone
            | End::Broken
            | End::WrongPasscode
            | End::BadCallback
            | End::NoAnswer
            | End::Http
            | End::TooLong
            | End::TooManyErrors
            | End::WrongPassword
            | End::Kicked
            | End::Panicked => None,
        }
    }
}

type Details = Vec<(&'static str, Detail)>;

impl From<Port> for Detail {
    fn from(port: Port) -> Detail {
        Detail::Number(port.get().into())
    }
}

impl From<SocketAddr> for Detail {
    fn from(address: SocketAddr) -> Detail {
        Detail::Text(address.to_string())
    }
}

impl From<usize> for Detail {
    fn from(number: usize) -> Detail {
        Detail::Number(number as u64)
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Detail {
        Detail::Text(text.to_owned())
    }
}

impl What {
    /// The word for it, in event lines and in the transcripts of the tests.
    pub fn word(&self) -> &'static str {
        self.parts().0
    }

    /// The word and the details, from which both readers make their line.
    fn parts(&self) -> (&'static str, Details) {
        match self {
            What::Started {
                ports,
                tick_seconds,
                reserve,
                handshake,
                idle,
                total,
            } => (
                "started",
                vec![
                    ("ports", Detail::Text(ranges(ports))),
                    ("period", Detail::Number(*tick_seconds)),
                    ("reserve", Detail::Number(reserve.get())),
                    ("handshake", Detail::Number(handshake.get())),
                    ("idle", Detail::Number(idle.map_or(0, Ticks::get))),
                    ("total", Detail::Number(total.map_or(0, Ticks::get))),
                ],
            ),
            What::Listening { role, address } => (
                "listening",
                vec![("role", (*role).into()), ("address", (*address).into())],
            ),
            What::Ticket {
                port,
                asker,
                passcode,
            } => {
                let mut details = vec![("port", (*port).into()), ("asker", (*asker).into())];
                details.extend(passcode.as_deref().map(|code| ("passcode", code.into())));
                ("ticket", details)
            }
            What::TicketAgain { port, asker } => (
                "ticket-again",
                vec![("port", (*port).into()), ("asker", (*asker).into())],
            ),
            What::Full { asker } => ("full", vec![("asker", (*asker).into())]),
            What::NoShow { port } => ("no-show", vec![("port", (*port).into())]),
            What::Arrived { port, peer } => ("arrived", at(*port, *peer)),
            What::Calling { port, peer } => ("calling", at(*port, *peer)),
            What::Stray { port, peer } => ("stray", at(*port, *peer)),
            What::WrongPasscode { port, peer } => ("wrong-passcode", at(*port, *peer)),
            What::Seated { port, peer } => ("seated", at(*port, *peer)),
            What::Relayed {
                from,
                to,
                bytes,
                text,
            } => {
                let mut details = vec![
                    ("from", (*from).into()),
                    ("to", (*to).into()),
                    ("bytes", (*bytes).into()),
                ];
                details.extend(text.as_deref().map(|text| ("text", text.into())));
                ("relayed", details)
            }
            What::NobodyThere { from } => ("nobody-there", vec![("from", (*from).into())]),
            What::Registered { port, name } => ("registered", person(*port, name)),
            What::LoggedIn { port, name } => ("logged-in", person(*port, name)),
            What::PasswordChanged { port, name } => ("password-changed", person(*port, name)),
            What::WrongPassword { port, name } => ("password-wrong", person(*port, name)),
            What::Public {
                from,
                name,
                count,
                text,
            } => {
                let mut details = person(*from, name);
                details.push(("count", (*count).into()));
                details.extend(text.as_deref().map(|text| ("text", text.into())));
                ("public", details)
            }
            What::Direct {
                from,
                name,
                to,
                text,
            } => {
                let mut details = person(*from, name);
                details.push(("to", to.as_str().into()));
                details.extend(text.as_deref().map(|text| ("text", text.into())));
                ("direct", details)
            }
            What::NoSuchUser { from, name, to } => {
                let mut details = person(*from, name);
                details.push(("to", to.as_str().into()));
                ("no-such-user", details)
            }
            What::RoomOpened { port, room } => ("room-opened", in_room(*port, room)),
            What::RoomEnded { port, room } => ("room-ended", in_room(*port, room)),
            What::RoomJoined { port, room, name } => {
                let mut details = in_room(*port, room);
                details.push(("name", name.as_str().into()));
                ("room-joined", details)
            }
            What::RoomLeft { room, name, end } => (
                "room-left",
                vec![
                    ("room", room.as_str().into()),
                    ("name", name.as_str().into()),
                    ("end", end.word().into()),
                ],
            ),
            What::RoomSaid {
                port,
                room,
                name,
                count,
                text,
            } => {
                let mut details = in_room(*port, room);
                details.push(("name", name.as_str().into()));
                details.push(("count", (*count).into()));
                details.extend(text.as_deref().map(|text| ("text", text.into())));
                ("room-said", details)
            }
            What::DamagedAccount { line, reason } => (
                "damaged-account",
                vec![("line", (*line).into()), ("reason", (*reason).into())],
            ),
            What::Refused { port, code } => (
                "refused",
                vec![("port", (*port).into()), ("code", code.word().into())],
            ),
            What::Left { port, peer, end } => {
                let mut details = at(*port, *peer);
                details.push(("end", end.word().into()));
                ("left", details)
            }
            What::Freed { port, passcode } => {
                let mut details = vec![("port", (*port).into())];
                details.extend(passcode.as_deref().map(|code| ("passcode", code.into())));
                ("freed", details)
            }
            What::Heard { port } => ("heard", vec![("port", (*port).into())]),
            What::Caption { text } => ("caption", vec![("text", text.as_str().into())]),
            What::Panicked { message, place } => (
                "panicked",
                vec![
                    ("message", message.as_str().into()),
                    ("place", place.as_str().into()),
                ],
            ),
            What::Trouble { doing, error } => (
                "trouble",
                vec![("doing", (*doing).into()), ("error", error.as_str().into())],
            ),
            What::Called {
                call,
                address,
                wanted,
                result,
                bytes,
            } => {
                let mut details: Details = Vec::new();
                details.extend(address.map(|address| ("address", address.into())));
                details.extend(wanted.map(|wanted| ("wanted", wanted.into())));
                match result {
                    Ok(got) if wanted.is_some() => details.push(("got", (*got).into())),
                    Ok(_) => {}
                    Err(reason) => details.push(("failed", reason.as_str().into())),
                }
                if !bytes.is_empty() {
                    details.push(("bytes", bytes.as_str().into()));
                }
                (call, details)
            }
            What::Ticked { told } => ("tick", vec![("told", (*told).into())]),
            What::ShuttingDown { why } => (
                "shutting-down",
                why.iter().map(|why| ("why", why.as_str().into())).collect(),
            ),
        }
    }

    /// The port of the seat that it is about, if it is about one.
    pub fn port(&self) -> Option<Port> {
        match self {
            What::Ticket { port, .. }
            | What::TicketAgain { port, .. }
            | What::NoShow { port }
            | What::Arrived { port, .. }
            | What::Calling { port, .. }
            | What::Stray { port, .. }
            | What::WrongPasscode { port, .. }
            | What::Seated { port, .. }
            | What::Refused { port, .. }
            | What::Left { port, .. }
            | What::Freed { port, .. }
            | What::Heard { port }
            | What::Registered { port, .. }
            | What::LoggedIn { port, .. }
            | What::PasswordChanged { port, .. }
            | What::WrongPassword { port, .. }
            | What::Public { from: port, .. }
            | What::Direct { from: port, .. }
            | What::NoSuchUser { from: port, .. }
            | What::RoomOpened { port, .. }
            | What::RoomEnded { port, .. }
            | What::RoomJoined { port, .. }
            | What::RoomSaid { port, .. }
            | What::Relayed { from: port, .. }
            | What::NobodyThere { from: port } => Some(*port),
            What::Started { .. }
            | What::Caption { .. }
            | What::Listening { .. }
            | What::Full { .. }
            | What::Panicked { .. }
            | What::DamagedAccount { .. }
            | What::RoomLeft { .. }
            | What::Trouble { .. }
            | What::Called { .. }
            | What::Ticked { .. }
            | What::ShuttingDown { .. } => None,
        }
    }
}

fn in_room(port: Port, room: &str) -> Details {
    vec![("port", port.into()), ("room", room.into())]
}

fn person(port: Port, name: &str) -> Details {
    vec![("port", port.into()), ("name", name.into())]
}

fn at(port: Port, peer: SocketAddr) -> Details {
    vec![("port", port.into()), ("peer", peer.into())]
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

impl Event {
    /// As it is written down.
    pub fn record(&self) -> Record {
        let (event, details) = self.what.parts();
        let details = details.into_iter();
        Record {
            time: self.time,
            tick: self.tick,
            thread: self.thread.clone(),
            event: event.into(),
            details: details
                .map(|(name, detail)| (name.into(), detail))
                .collect(),
        }
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

/// Where events are told.
#[derive(Clone)]
pub struct Events {
    clock: Clock,
    with_texts: bool,
    with_passcodes: bool,
    with_calls: bool,
    readers: Vec<Reader>,
}

#[derive(Clone)]
struct Reader {
    events: Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// For a reader that wants to see calls, but only so much of the traffic.
    shutter: Option<Shutter>,
}

/// How much there is of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Somebody's coming and going, a tick.
    Change,
    /// One for each message.
    Traffic,
    /// Some for each message (`--trace`).
    Call,
}

/// One reader's end: the events that wait for it, and how many found no room.
pub struct EventQueue {
    events: Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventQueue {
    /// The events in order. The channel disconnects when nobody is left to tell any.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// How many events were dropped since this was last asked.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Events {
    /// Events stamped with `clock`'s time that nobody reads yet. `with_texts`: chat texts, too.
    pub fn new(clock: Clock, with_texts: bool) -> Events {
        Events {
            clock,
            with_texts,
            with_passcodes: false,
            with_calls: false,
            readers: Vec::new(),
        }
    }

    /// From now on passcodes are told, too (`--show-passcodes`).
    pub fn show_passcodes(&mut self) {
        self.with_passcodes = true;
    }

    /// From now on every reader is told of socket calls (`--trace`).
    pub fn show_calls(&mut self) {
        self.with_calls = true;
    }

    /// Whether anybody wants to be told of socket calls.
    pub fn want_calls(&self) -> bool {
        self.with_calls || self.readers.iter().any(|reader| reader.shutter.is_some())
    }

    /// Adds a reader for whom up to `capacity` events wait. Only this handle and the clones made
    /// of it later tell it anything, so readers come before the server.
    pub fn add_reader(&mut self, capacity: usize) -> EventQueue {
        self.add(capacity, None)
    }

    /// Adds a reader that is told of every change, and of as much of the traffic, with its socket
    /// calls, as the shutter lets through. It begins shut.
    pub fn add_reader_with_shutter(&mut self, capacity: usize) -> (EventQueue, Shutter) {
        let shutter = Shutter::new();
        (self.add(capacity, Some(shutter.clone())), shutter)
    }

    fn add(&mut self, capacity: usize, shutter: Option<Shutter>) -> EventQueue {
        let (sender, events) = bounded(capacity);
        let dropped = Arc::<AtomicU64>::default();
        self.readers.push(Reader {
            events: sender,
            dropped: Arc::clone(&dropped),
            shutter,
        });
        EventQueue { events, dropped }
    }

    /// Tells what happened in this thread. `what` is called only if somebody reads.
    pub fn tell(&self, what: impl FnOnce() -> What) {
        self.tell_of(Kind::Change, what);
    }

    /// As [`Events::tell`], for what happens with every message.
    pub fn tell_traffic(&self, what: impl FnOnce() -> What) {
        self.tell_of(Kind::Traffic, what);
    }

    /// As [`Events::tell`], for what happens with every call of a socket.
    pub fn tell_call(&self, what: impl FnOnce() -> What) {
        self.tell_of(Kind::Call, what);
    }

    fn tell_of(&self, kind: Kind, what: impl FnOnce() -> What) {
        let wants = |reader: &&Reader| match &reader.shutter {
            _ if kind == Kind::Change => true,
            Some(shutter) => shutter.lets_through(),
            None => kind == Kind::Traffic || self.with_calls,
        };
        // Each is asked once, because a shutter counts.
        let mut readers = self.readers.iter().filter(wants);
        let Some(mut reader) = readers.next() else {
            return;
        };
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        let event = Event {
            tick: self.clock.now(),
            time: Timestamp::now(),
            thread,
            what: what(),
        };
        for next in readers {
            reader.tell(event.clone());
            reader = next;
        }
        reader.tell(event);
    }

    /// A passcode for an event, if passcodes are shown.
    pub fn passcode(&self, passcode: &Passcode) -> Option<String> {
        self.with_passcodes.then(|| passcode.reveal().to_owned())
    }

    /// `text` for an event, if texts are shown.
    pub fn text(&self, text: &str) -> Option<String> {
        self.with_texts.then(|| text.to_owned())
    }
}

impl Reader {
    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_shutter_lets_changes_through_and_so_much_of_the_traffic() {
        let mut events = Events::new(Clock::new(), false);
        let plain = events.add_reader(16);
        let (board, shutter) = events.add_reader_with_shutter(16);
        let tell = || {
            events.tell(|| What::ShuttingDown { why: None });
            events.tell_traffic(|| What::ShuttingDown { why: None });
            events.tell_call(|| What::ShuttingDown { why: None });
        };
        tell();
        assert_eq!((plain.events().len(), board.events().len()), (2, 1));
        shutter.open_for(3);
        tell();
        tell();
        assert_eq!((plain.events().len(), board.events().len()), (6, 6));
        assert_eq!((shutter.take_missed(), shutter.take_missed()), (1, 0));
        shutter.open_for(0);
        tell();
        assert_eq!(shutter.take_missed(), 0);
    }

    fn event(what: What) -> Event {
        Event {
            tick: Tick(12),
            time: Timestamp::UNIX_EPOCH,
            thread: "worker-50001".to_owned(),
            what,
        }
    }

    fn relayed(text: &str) -> Event {
        let (from, to) = (Port::new(50001).unwrap(), Port::new(50002).unwrap());
        event(What::Relayed {
            from,
            to,
            bytes: text.len(),
            text: Some(text.to_owned()),
        })
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

    #[test]
    fn a_full_reader_loses_events_and_knows_how_many() {
        let mut events = Events::new(Clock::new(), false);
        let (slow, quick) = (events.add_reader(1), events.add_reader(8));
        for _ in 0..4 {
            events.tell(|| What::ShuttingDown { why: None });
        }
        assert_eq!(
            (
                slow.events().len(),
                slow.take_dropped(),
                slow.take_dropped()
            ),
            (1, 3, 0)
        );
        assert_eq!((quick.events().len(), quick.take_dropped()), (4, 0));
    }

    #[test]
    fn nothing_is_built_when_nobody_reads() {
        Events::new(Clock::new(), true).tell(|| panic!("built"));
    }
}
