//! The state that the board shows. It depends only on events, so a replay ends with the same
//! snapshot as the run itself. (Events that two threads emit at the same time may be recorded in
//! one order and shown in the other. The events of one seat are always in order.)
//!
//! The snapshot contains nothing about messages, because the board does not receive all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use portal_core::clock::Tick;
use portal_core::event::Event;
use portal_core::seat::Phase;

/// A server's state, derived from its events.
#[derive(Default)]
pub(super) struct Snapshot {
    tick: u64,
    rules: SeatRules,
    /// The addresses of the listeners, by role: `portal-tcp`, `portal-udp`, `single`, `workers`.
    listeners: BTreeMap<String, String>,
    /// The workload stack from bottom to top, as in the server.
    stack: Vec<SeatKey>,
    cards: BTreeMap<SeatKey, Card>,
    /// The seats, in order. The first two are partners, the next two are partners, and so on.
    order: Vec<SeatKey>,
    /// Number of seats. In single-port mode, they all share that one port.
    seats: usize,
    rooms: BTreeMap<String, RoomCard>,
    /// Number of running threads, by name. A room has several writers of the same name.
    threads: BTreeMap<String, u64>,
    /// The seat that each thread serves. The workers' own threads are not listed. On a single port,
    /// nothing else identifies the seat of an event.
    serving: HashMap<String, SeatKey>,
    caption: Option<Caption>,
    visits: u64,
    is_over: bool,
    /// The changes since the last call to [`Snapshot::take_changes`].
    changed: Changed,
}

/// A worker's port, or a seat's number on a single port.
type SeatKey = u64;

#[derive(Default)]
struct SeatRules {
    tick_seconds: u64,
    reserve: u64,
    handshake: u64,
    /// 0 means no limit, here and in `total`.
    idle: u64,
    total: u64,
}

/// An explanation, and the part of the board that it is about.
struct Caption {
    text: String,
    look: Option<String>,
}

#[derive(Default)]
struct Changed {
    /// True if the complete snapshot must be sent, because another server started.
    whole: bool,
    listeners: bool,
    cards: BTreeSet<SeatKey>,
    stack: bool,
    rooms: bool,
    threads: BTreeSet<String>,
    caption: bool,
    over: bool,
}

#[derive(Default)]
struct Card {
    phase: Phase,
    /// The number of the current visit, counted over all seats; 0 between visits.
    visit: u64,
    /// The thread that serves the visit: the worker's, or that of a browser's connection.
    thread: Option<String>,
    asker: Option<String>,
    peer: Option<String>,
    name: Option<String>,
    /// The tick at which the reservation, the handshake or the callback times out.
    until: Option<u64>,
    idle_until: Option<u64>,
    total_until: Option<u64>,
    /// The passcode, with `--show-passcodes`.
    passcode: Option<String>,
    /// Number of times that the passcode changed.
    changes: u64,
    /// The reason for the end of the last visit.
    end: Option<String>,
    is_web: bool,
}

struct RoomCard {
    name: String,
    port: u64,
    /// The members by name.
    members: BTreeMap<String, Member>,
}

/// A member of a room.
struct Member {
    /// The member's seat at a worker, if it is known.
    seat: Option<SeatKey>,
    /// The thread that reads the member's input to the room.
    thread: String,
}

/// The seat and the visit that an event belongs to.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct EventSubject {
    pub(super) seat: Option<u64>,
    /// The visit, which lasts from the ticket until the port is back on the stack.
    pub(super) visit: Option<u64>,
    /// The thread that serves the visit.
    pub(super) by: Option<String>,
    /// The seats of a message's recipients.
    pub(super) to: Vec<u64>,
    /// True if the client is a browser, which uses WebSocket frames.
    pub(super) web: bool,
}

/// The text on the card of a worker that is not listening yet.
const PORT_BUSY: &str = "its port is busy";

/// If there are more seats than this, free seats have no cards.
const SHOWN_CARDS: usize = 256;
/// Maximum number of ports shown, counted from the top of the stack.
const SHOWN_PORTS: usize = 64;

impl Snapshot {
    /// Updates the snapshot with an event, and returns the event's subject.
    pub(super) fn take_in(&mut self, event: &Event) -> EventSubject {
        self.tick = self.tick.max(event.tick.0);
        let seat = self.seat_of(event);
        let visit_and_thread = |snapshot: &Snapshot| {
            let card = seat.and_then(|seat| snapshot.cards.get(&seat))?;
            (card.visit > 0).then(|| (card.visit, card.thread.clone(), card.is_web))
        };
        let before = visit_and_thread(self);
        self.change(event, seat);
        // The event that begins or ends a visit is part of that visit.
        let visit = visit_and_thread(self).or(before);
        let (visit, by, web) = visit.map_or((None, None, false), |(visit, by, web)| {
            (Some(visit), by, web)
        });
        EventSubject {
            seat,
            visit,
            by,
            to: self.recipients(event, seat),
            web,
        }
    }

    /// Returns the seats of a message's recipients, as far as the board knows them.
    fn recipients(&self, event: &Event, sender: Option<SeatKey>) -> Vec<SeatKey> {
        match &*event.kind {
            "relayed" if self.is_single() => {
                let partner = sender.and_then(|sender| self.partner(sender));
                partner.into_iter().collect()
            }
            "relayed" => event.number("to").into_iter().collect(),
            "direct" => {
                let to = event.text("to").and_then(|name| self.seat_called(name));
                to.into_iter().collect()
            }
            "public" => {
                let others = |is_named: bool| -> Vec<SeatKey> {
                    let seated = self.cards.iter().filter(|(key, card)| {
                        card.phase == Phase::Seated
                            && Some(**key) != sender
                            && (card.name.is_some() || !is_named)
                    });
                    seated.map(|(key, _)| *key).collect()
                };
                let named = others(true);
                let is_complete = event.number("count") == Some(named.len() as u64);
                if is_complete { named } else { others(false) }
            }
            "room-said" => {
                let room = event.text("room").map(str::to_ascii_lowercase);
                let room = room.and_then(|room| self.rooms.get(&room));
                let members = room.into_iter().flat_map(|room| room.members.values());
                let seats = members.filter_map(|member| member.seat);
                seats.filter(|seat| Some(*seat) != sender).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the seat of the client with this name, or of the unnamed client at the port that
    /// `name` contains.
    fn seat_called(&self, name: &str) -> Option<SeatKey> {
        let is_it = |card: &Card| {
            let own = card.name.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let named = self.cards.iter().find(|(_, card)| is_it(card));
        let key = named.map(|(key, _)| *key).or_else(|| name.parse().ok())?;
        self.cards.contains_key(&key).then_some(key)
    }

    /// Returns the tick of the last event.
    pub(super) fn tick(&self) -> Tick {
        Tick(self.tick)
    }

    fn is_single(&self) -> bool {
        self.listeners.contains_key("single")
    }

    fn partner(&self, seat: SeatKey) -> Option<SeatKey> {
        let at = self.order.iter().position(|key| *key == seat)?;
        self.order.get(at ^ 1).copied()
    }

    fn seat_of(&self, event: &Event) -> Option<SeatKey> {
        if event.kind.starts_with("room-") {
            // The port is the room's. The member's seat is that of its session at a worker.
            return event.text("name").and_then(|name| self.seat_called(name));
        }
        // A socket call is attributed to its peer's seat, because a worker's thread also writes to
        // its partner's socket.
        if let Some(address) = event.text("address")
            && let Some((key, _)) = self.cards.iter().find(|(_, card)| {
                card.peer.as_deref() == Some(address) || card.asker.as_deref() == Some(address)
            })
        {
            return Some(*key);
        }
        let port = event.number("port").or_else(|| event.number("from"));
        let of_thread = || {
            let (role, number) = event.thread.rsplit_once('-')?;
            let number = number.parse().ok()?;
            matches!(role, "worker" | "timer" | "seat").then_some(number)
        };
        let key = if self.is_single() || port.is_none() {
            let serving = self.serving.get(&event.thread).copied();
            event.number("seat").or(serving).or_else(of_thread)
        } else {
            port
        };
        key.filter(|key| self.cards.contains_key(key))
    }

    fn change(&mut self, event: &Event, seat: Option<SeatKey>) {
        match &*event.kind {
            "started" => return self.begin(event),
            "listening" => {
                if let (Some(role), Some(address)) = (event.text("role"), event.text("address")) {
                    self.listeners.insert(role.to_owned(), address.to_owned());
                    self.changed.listeners = true;
                    if role == "single" {
                        self.number_the_seats();
                        self.changed.whole = true;
                    }
                }
                return;
            }
            "ports-busy" => {
                let busy = event.text("ports").map(read_ranges).unwrap_or_default();
                for key in &busy {
                    if let Some(card) = self.cards.get_mut(key) {
                        card.phase = Phase::Closing;
                        card.end = Some(PORT_BUSY.to_owned());
                        self.changed.cards.insert(*key);
                    }
                }
                self.stack.retain(|there| !busy.contains(there));
                return self.pairs_first();
            }
            "caption" => {
                self.caption = event.text("text").map(|text| Caption {
                    text: text.to_owned(),
                    look: event.text("look").map(str::to_owned),
                });
                self.changed.caption = true;
                return;
            }
            "shutting-down" => {
                self.is_over = true;
                self.changed.over = true;
                return;
            }
            "thread-started" | "thread-ended" => {
                return self.change_thread(event);
            }
            "room-opened" | "room-ended" | "room-joined" | "room-left" => {
                return self.change_room(event);
            }
            _ => {}
        }
        let Some(key) = seat else { return };
        let visits = self.visits;
        let Some(card) = self.cards.get_mut(&key) else {
            return;
        };
        // A timeout fires at the first tick after its deadline.
        let fires = |ticks: u64| event.tick.0 + ticks + 1;
        let fires_if = |ticks: u64| (ticks > 0).then(|| fires(ticks));
        let rules = &self.rules;
        let text = |name: &str| event.text(name).map(str::to_owned);
        // The thread that serves the client, if this event shows it.
        let mut server = None;
        match &*event.kind {
            "ticket" => {
                card.visit = visits + 1;
                card.asker = text("asker");
                card.is_web = event.text("via") == Some("web");
                card.end = None;
                card.until = Some(fires(rules.reserve));
                if card.is_web {
                    // One connection is both portal and worker, so no arrival follows.
                    card.phase = Phase::Greeting;
                    card.peer = text("asker");
                    card.total_until = fires_if(rules.total);
                    server = Some(event.thread.clone());
                } else {
                    card.phase = Phase::Reserved;
                }
                card.passcode = text("passcode").or(card.passcode.take());
                self.visits += 1;
                self.stack.retain(|there| *there != key);
                self.changed.stack = true;
            }
            "no-show" => {
                card.phase = Phase::Closing;
                card.until = None;
                card.end = Some("no-show".to_owned());
            }
            "arrived" => {
                card.phase = Phase::Greeting;
                card.peer = text("peer");
                card.until = Some(fires(rules.handshake));
                card.total_until = fires_if(rules.total);
                server = Some(event.thread.clone());
            }
            "tls-established" if card.phase == Phase::Greeting => {
                card.until = Some(fires(rules.handshake));
            }
            "calling" => {
                card.phase = Phase::Calling;
                card.peer = text("peer");
                card.until = Some(fires(rules.reserve));
            }
            "seated" => {
                if card.visit == 0 {
                    // On a single port, there is no ticket.
                    card.visit = visits + 1;
                    card.total_until = fires_if(rules.total);
                    self.visits += 1;
                    self.stack.retain(|there| *there != key);
                    self.changed.stack = true;
                }
                card.phase = Phase::Seated;
                card.is_web = event.text("via") == Some("web");
                server = Some(event.thread.clone());
                card.peer = text("peer");
                card.until = None;
                card.idle_until = fires_if(rules.idle);
            }
            // A room's thread may emit this after the session has ended.
            "activity" if card.phase == Phase::Seated => card.idle_until = fires_if(rules.idle),
            "logged-in" => card.name = text("name"),
            "closed" => {
                card.phase = Phase::Closing;
                card.until = None;
                card.idle_until = None;
                card.total_until = None;
                card.end = text("end");
            }
            "port-ready" => {
                *card = Card::default();
                let partner = self.partner(key);
                let beside = self.stack.iter().position(|there| Some(*there) == partner);
                self.stack.insert(beside.unwrap_or(self.stack.len()), key);
                self.pairs_first();
            }
            "seat-free" => {
                if let Some(thread) = &card.thread {
                    self.serving.remove(thread);
                }
                *card = Card {
                    changes: card.changes + 1,
                    passcode: text("passcode"),
                    end: card.end.take(),
                    ..Card::default()
                };
                self.stack.retain(|there| *there != key);
                self.stack.push(key);
                self.changed.stack = true;
            }
            _ => return,
        }
        if let Some(thread) = server
            && let Some(card) = self.cards.get_mut(&key)
        {
            card.thread = Some(thread.clone());
            self.serving.insert(thread, key);
        }
        self.changed.cards.insert(key);
    }

    fn change_thread(&mut self, event: &Event) {
        let Some(name) = event.text("name") else {
            return;
        };
        let count = self.threads.entry(name.to_owned()).or_default();
        if event.kind == "thread-started" {
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
        }
        if *count == 0 {
            self.threads.remove(name);
        }
        self.changed.threads.insert(name.to_owned());
    }

    /// Moves the seats whose partner seat is busy to the bottom of the stack, as the server does.
    fn pairs_first(&mut self) {
        let is_busy = |key: &SeatKey| {
            let card = self.cards.get(key);
            card.is_some_and(|card| card.end.as_deref() == Some(PORT_BUSY))
        };
        let pairs = self.order.chunks_exact(2).flat_map(|pair| match pair {
            [one, other] => vec![(*one, is_busy(other)), (*other, is_busy(one))],
            _ => Vec::new(),
        });
        let alone: HashMap<SeatKey, bool> = pairs.collect();
        self.stack
            .sort_by_key(|key| !alone.get(key).copied().unwrap_or(false));
        self.changed.stack = true;
    }

    fn begin(&mut self, event: &Event) {
        let number = |name: &str| event.number(name).unwrap_or(0);
        let ports = event.text("ports").unwrap_or_default();
        let keys: Vec<SeatKey> = read_ranges(ports);
        let listed = ports.split_whitespace().count();
        let cards = keys.iter().map(|key| (*key, Card::default())).collect();
        // A file may contain several runs, and each starts with an empty snapshot.
        *self = Snapshot {
            tick: event.tick.0,
            rules: SeatRules {
                tick_seconds: number("period"),
                reserve: number("reserve"),
                handshake: number("handshake"),
                idle: number("idle"),
                total: number("total"),
            },
            // The first port is on top.
            stack: keys.iter().rev().copied().collect(),
            seats: listed.max(keys.len()),
            order: keys,
            cards,
            visits: self.visits,
            changed: Changed {
                whole: true,
                ..Changed::default()
            },
            ..Snapshot::default()
        };
    }

    /// Identifies the seats by number, because they all share a single port.
    fn number_the_seats(&mut self) {
        self.order = (1..=self.seats as u64).collect();
        self.cards = self
            .order
            .iter()
            .map(|key| (*key, Card::default()))
            .collect();
        self.stack = self.order.iter().rev().copied().collect();
    }

    fn change_room(&mut self, event: &Event) {
        let Some(name) = event.text("room") else {
            return;
        };
        // Room names are case-insensitive.
        let key = name.to_ascii_lowercase();
        let port = event.number("port").unwrap_or(0);
        let who = event.text("name").unwrap_or("?").to_owned();
        match &*event.kind {
            "room-opened" => {
                let members = BTreeMap::new();
                let name = name.to_owned();
                let room = RoomCard {
                    name: name.clone(),
                    port,
                    members,
                };
                self.rooms.insert(key, room);
            }
            "room-ended" => {
                // Another room with that name may already be open on another port.
                if self.rooms.get(&key).is_some_and(|room| room.port == port) {
                    self.rooms.remove(&key);
                }
            }
            "room-joined" => {
                let member = Member {
                    seat: self.seat_called(&who),
                    thread: event.thread.clone(),
                };
                if let Some(room) = self.rooms.get_mut(&key) {
                    room.members.insert(who, member);
                }
            }
            _ => {
                if let Some(room) = self.rooms.get_mut(&key) {
                    room.members.remove(&who);
                }
            }
        }
        self.changed.rooms = true;
    }

    fn is_shown(&self, card: &Card) -> bool {
        self.cards.len() <= SHOWN_CARDS || card.phase != Phase::Free
    }

    fn card(&self, key: SeatKey) -> Value {
        let Some(card) = self.cards.get(&key) else {
            return Value::Null;
        };
        if !self.is_shown(card) {
            return Value::Null;
        }
        json!({
            "at": self.order.iter().position(|there| *there == key),
            "phase": card.phase.word(),
            "visit": card.visit,
            "thread": card.thread,
            "web": card.is_web,
            "asker": card.asker,
            "peer": card.peer,
            "name": card.name,
            "until": card.until,
            "idle": card.idle_until,
            "total": card.total_until,
            "passcode": card.passcode,
            "changes": card.changes,
            "end": card.end,
            "partner": self.partner(key),
        })
    }

    fn stack(&self) -> Value {
        let top: Vec<SeatKey> = self.stack.iter().rev().take(SHOWN_PORTS).copied().collect();
        json!({ "count": self.stack.len(), "top": top })
    }

    fn rooms(&self) -> Value {
        let members = |room: &RoomCard| -> Value {
            let members = room.members.iter();
            let members = members.map(|(name, member)| {
                json!({ "name": name, "seat": member.seat, "thread": member.thread })
            });
            members.collect()
        };
        let rooms = self.rooms.values();
        let rooms = rooms
            .map(|room| json!({ "name": room.name, "port": room.port, "members": members(room) }));
        rooms.collect()
    }

    /// Returns the complete snapshot.
    pub(super) fn whole(&self) -> Value {
        let mut snapshot = json!({
            "tick": self.tick,
            "caption": self.caption(),
            "over": self.is_over,
            "threads": self.threads,
        });
        let keys = self.order.iter();
        let cards: serde_json::Map<String, Value> = keys
            .map(|key| (key.to_string(), self.card(*key)))
            .filter(|(_, card)| !card.is_null())
            .collect();
        snapshot["cards"] = Value::Object(cards);
        snapshot["stack"] = self.stack();
        snapshot["rooms"] = self.rooms();
        snapshot["seats"] = self.cards.len().into();
        snapshot["rules"] = json!({
            "period": self.rules.tick_seconds,
            "reserve": self.rules.reserve,
            "handshake": self.rules.handshake,
            "idle": self.rules.idle,
            "total": self.rules.total,
        });
        snapshot["listeners"] = json!(self.listeners);
        snapshot
    }

    /// Returns what has changed since the previous call. A card that is no longer shown, or a
    /// thread that has exited, is `null`. If the result contains `rules`, it is the complete
    /// snapshot.
    pub(super) fn take_changes(&mut self) -> Value {
        let changed = std::mem::take(&mut self.changed);
        if changed.whole {
            return self.whole();
        }
        let mut snapshot = serde_json::Map::new();
        if !changed.cards.is_empty() {
            let cards = changed.cards.iter();
            let cards: serde_json::Map<String, Value> = cards
                .map(|key| (key.to_string(), self.card(*key)))
                .collect();
            snapshot.insert("cards".to_owned(), Value::Object(cards));
        }
        if !changed.threads.is_empty() {
            let threads = changed.threads.into_iter();
            let threads: serde_json::Map<String, Value> = threads
                .map(|name| {
                    let count = self.threads.get(&name).copied();
                    (name, count.into())
                })
                .collect();
            snapshot.insert("threads".to_owned(), Value::Object(threads));
        }
        let mut add = |is_changed: bool, name: &str, value: &dyn Fn() -> Value| {
            if is_changed {
                snapshot.insert(name.to_owned(), value());
            }
        };
        add(changed.listeners, "listeners", &|| json!(self.listeners));
        add(changed.stack, "stack", &|| self.stack());
        add(changed.rooms, "rooms", &|| self.rooms());
        add(changed.caption, "caption", &|| self.caption());
        add(changed.over, "over", &|| self.is_over.into());
        Value::Object(snapshot)
    }

    fn caption(&self) -> Value {
        let caption = self.caption.as_ref();
        caption.map_or(
            Value::Null,
            |caption| json!({ "text": caption.text, "look": caption.look }),
        )
    }
}

/// Parses port ranges such as `50001-50003 7`. Each port counts once: a range ends before the first
/// port that has already been listed. (Otherwise a line of 96 KB that repeats `1-65535` would
/// create hundreds of millions of cards.)
fn read_ranges(text: &str) -> Vec<SeatKey> {
    let parts = text.split_whitespace();
    let ranges = parts.filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: u16 = last.parse().ok()?;
        let first: u16 = first.parse().ok()?;
        Some(first..=last)
    });
    let mut named = BTreeSet::new();
    let mut ports = Vec::new();
    for mut range in ranges {
        ports.extend(range.by_ref().take_while(|&port| named.insert(port)));
    }
    ports.into_iter().map(SeatKey::from).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use portal_core::event::FieldValue;

    use super::*;

    /// Returns the snapshot after events such as `3 portal-tcp ticket port=50001 asker=1.2.3.4:5`.
    fn after(events: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let begin =
            "0 main started ports=50001-50004 period=1 reserve=2 handshake=1 idle=5 total=9";
        for line in std::iter::once(&begin).chain(events) {
            snapshot.take_in(&event(line));
        }
        snapshot
    }

    fn event(line: &str) -> Event {
        let mut words = line.split(' ').map(str::to_owned);
        let (tick, thread) = (words.next().unwrap(), words.next().unwrap());
        let kind = words.next().unwrap();
        let fields = words.map(|word| {
            let (name, value) = word.split_once('=').unwrap();
            let value = match value.parse() {
                Ok(number) => FieldValue::Number(number),
                Err(_) => FieldValue::Text(value.to_owned().into()),
            };
            (name.to_owned().into(), value)
        });
        Event {
            tick: Tick(tick.parse().unwrap()),
            time: SystemTime::UNIX_EPOCH,
            thread,
            kind: kind.into(),
            fields: fields.collect(),
        }
    }

    fn phase(snapshot: &Snapshot, key: SeatKey) -> &'static str {
        snapshot.cards[&key].phase.word()
    }

    const TICKET: &str = "3 portal-tcp ticket port=50001 asker=127.0.0.1:9";
    const ARRIVED: &str = "4 worker-50001 arrived port=50001 peer=127.0.0.1:10";
    const SEATED: &str = "4 worker-50001 seated port=50001 peer=127.0.0.1:10";
    const LEFT: &str = "9 worker-50001 closed port=50001 peer=127.0.0.1:10 end=terminate";
    const FREED: &str = "9 worker-50001 seat-free port=50001";

    #[test]
    fn each_port_of_a_recording_is_one_card_however_often_it_is_named() {
        assert_eq!(
            read_ranges("50001-50003 7 9-8 x 50002-50009 70000"),
            [50001, 50002, 50003, 7]
        );
        assert_eq!(read_ranges(&"1-65535 ".repeat(12 * 1024)).len(), 65535);
    }

    #[test]
    fn a_port_that_is_busy_is_not_on_the_stack_until_its_worker_listens() {
        const BUSY: &str = "0 main ports-busy ports=50001-50002 reason=time-wait";
        const LATER: &str = "0 main ports-busy ports=50002-50002 reason=time-wait";
        const READY: &str = "7 late-workers port-ready port=50002";
        let snapshot = after(&[BUSY]);
        assert_eq!(snapshot.stack, [50004, 50003]);
        assert_eq!(phase(&snapshot, 50002), "closing");
        assert_eq!(after(&[LATER]).stack, [50001, 50004, 50003]);
        let snapshot = after(&[LATER, READY]);
        assert_eq!(snapshot.stack, [50002, 50001, 50004, 50003]);
        assert_eq!(phase(&snapshot, 50002), "free");
        assert_eq!(after(&[BUSY, READY]).stack, [50002, 50004, 50003]);
    }

    #[test]
    fn a_visit_goes_from_the_stack_through_the_card_back_to_the_stack() {
        let snapshot = after(&[]);
        assert_eq!(snapshot.stack, [50004, 50003, 50002, 50001]);
        let snapshot = after(&[TICKET]);
        assert_eq!(phase(&snapshot, 50001), "reserved");
        assert_eq!(snapshot.stack, [50004, 50003, 50002]);
        assert_eq!(
            snapshot.cards[&50001].until,
            Some(6),
            "it times out after two full ticks"
        );
        // With TLS, the handshake timeout for the passcode begins after the TLS handshake.
        let secured = "5 worker-50001 tls-established port=50001 peer=127.0.0.1:10";
        let until = |events: &[&str]| after(events).cards[&50001].until;
        let arrived = until(&[TICKET, ARRIVED]);
        assert_eq!(
            until(&[TICKET, ARRIVED, secured]),
            arrived.map(|tick| tick + 1)
        );
        let snapshot = after(&[TICKET, ARRIVED, SEATED]);
        let card = &snapshot.cards[&50001];
        assert_eq!((card.idle_until, card.total_until), (Some(10), Some(14)));
        let snapshot = after(&[
            TICKET,
            ARRIVED,
            SEATED,
            "7 worker-50001 activity port=50001",
        ]);
        assert_eq!(snapshot.cards[&50001].idle_until, Some(13));
        let snapshot = after(&[TICKET, ARRIVED, SEATED, LEFT]);
        assert_eq!(phase(&snapshot, 50001), "closing");
        let snapshot = after(&[TICKET, ARRIVED, SEATED, LEFT, FREED]);
        assert_eq!(
            (phase(&snapshot, 50001), snapshot.cards[&50001].changes),
            ("free", 1)
        );
        assert_eq!(snapshot.stack, [50004, 50003, 50002, 50001]);
    }

    #[test]
    fn every_event_of_a_visit_knows_its_visit() {
        let mut snapshot = after(&[]);
        for (visit, start) in [(1, 0), (2, 1)] {
            let _ = start;
            for line in [TICKET, ARRIVED, SEATED, LEFT, FREED] {
                let about = snapshot.take_in(&event(line));
                assert_eq!(about.visit, Some(visit), "{line}");
                assert_eq!(about.seat, Some(50001), "{line}");
            }
        }
    }

    #[test]
    fn a_call_belongs_to_the_socket_that_it_is_about() {
        let mut snapshot = after(&[TICKET, ARRIVED, SEATED]);
        let write = "5 worker-50002 write address=127.0.0.1:10 wanted=3";
        let about = snapshot.take_in(&event(write));
        assert_eq!(
            about,
            EventSubject {
                seat: Some(50001),
                visit: Some(1),
                by: Some("worker-50001".to_owned()),
                to: Vec::new(),
                web: false,
            }
        );
    }

    #[test]
    fn on_a_single_port_the_thread_tells_the_seat() {
        let mut snapshot = after(&["0 main listening role=single address=127.0.0.1:50000"]);
        snapshot.take_in(&event("1 seat-2 seated port=50001 peer=127.0.0.1:10"));
        assert_eq!(phase(&snapshot, 2), "seated");
        let relayed = event("1 seat-2 relayed from=seat-2 to=seat-1 bytes=3");
        assert_eq!(snapshot.take_in(&relayed).to, [1]);
        snapshot.take_in(&event("1 seat-2 seat-free port=50001"));
        assert_eq!(snapshot.stack.last(), Some(&2));
    }

    #[test]
    fn a_card_names_the_thread_that_serves_its_client() {
        let thread = |events: &[&str]| after(events).cards[&50001].thread.clone();
        assert_eq!(thread(&[TICKET]), None, "its worker still accepts");
        let worker = Some("worker-50001".to_owned());
        assert_eq!(thread(&[TICKET, ARRIVED]), worker);
        assert_eq!(thread(&[TICKET, ARRIVED, SEATED, LEFT]), worker);
        assert_eq!(thread(&[TICKET, ARRIVED, SEATED, LEFT, FREED]), None);
        // A browser's thread took the port off the stack, and there is no arrival.
        let web = "3 browser-34 ticket port=50001 asker=127.0.0.1:9 via=web";
        let snapshot = after(&[web]);
        assert_eq!(phase(&snapshot, 50001), "greeting");
        assert_eq!(thread(&[web]), Some("browser-34".to_owned()));
        let seated = "3 browser-34 seated port=50001 peer=127.0.0.1:9 via=web";
        let mut snapshot = after(&[web, seated]);
        let said = event("4 browser-34 relayed from=50001 to=50002 bytes=2");
        let subject = snapshot.take_in(&said);
        assert_eq!(subject.by, Some("browser-34".to_owned()));
        assert_eq!(subject.to, [50002]);
    }

    #[test]
    fn a_single_port_has_as_many_seats_as_it_is_listed() {
        let mut snapshot = Snapshot::default();
        for line in [
            "0 main started ports=50000_50000_50000_50000 period=1 reserve=2 handshake=1 idle=5 total=0",
            "0 main listening role=single address=127.0.0.1:50000",
        ] {
            let mut event = event(line);
            for (_, value) in &mut event.fields {
                if let FieldValue::Text(text) = value {
                    *text = text.replace('_', " ").into();
                }
            }
            snapshot.take_in(&event);
        }
        assert_eq!(snapshot.order, [1, 2, 3, 4]);
        assert_eq!(snapshot.stack, [4, 3, 2, 1]);
    }

    #[test]
    fn a_browser_at_a_single_port_has_the_seat_that_its_event_names() {
        let mut snapshot = after(&["0 main listening role=single address=127.0.0.1:50000"]);
        snapshot.take_in(&event(
            "1 browser-7 seated port=50001 peer=127.0.0.1:10 via=web seat=2",
        ));
        assert_eq!(phase(&snapshot, 2), "seated");
        snapshot.take_in(&event("2 browser-7 logged-in port=50001 name=alice"));
        assert_eq!(snapshot.cards[&2].name.as_deref(), Some("alice"));
        snapshot.take_in(&event("3 browser-7 seat-free port=50001"));
        assert_eq!(phase(&snapshot, 2), "free");
    }

    #[test]
    fn each_message_knows_the_seats_that_it_reaches() {
        let mut snapshot = after(&[]);
        for (port, name) in [(50001, "alice"), (50002, "bob"), (50003, "carol")] {
            for line in [
                format!("1 worker-{port} seated port={port} peer=127.0.0.1:{port}"),
                format!("1 worker-{port} logged-in port={port} name={name}"),
            ] {
                snapshot.take_in(&event(&line));
            }
        }
        snapshot.take_in(&event("2 worker-50004 seated port=50004 peer=127.0.0.1:4"));
        for line in [
            "2 worker-50001 room-opened port=50005 room=lobby",
            "2 member-1 room-joined port=50005 room=lobby name=alice",
            "2 member-2 room-joined port=50005 room=lobby name=carol",
        ] {
            snapshot.take_in(&event(line));
        }
        for (line, from, to) in [
            (
                "3 worker-50001 public port=50001 name=alice count=2",
                50001,
                vec![50002, 50003],
            ),
            (
                "3 worker-50001 public port=50001 name=alice count=3",
                50001,
                vec![50002, 50003, 50004],
            ),
            (
                "3 worker-50002 direct port=50002 name=bob to=Carol",
                50002,
                vec![50003],
            ),
            (
                "3 worker-50002 direct port=50002 name=bob to=zoe",
                50002,
                vec![],
            ),
            (
                "3 member-1 room-said port=50005 room=Lobby name=alice count=1",
                50001,
                vec![50003],
            ),
        ] {
            let subject = snapshot.take_in(&event(line));
            assert_eq!((subject.seat, subject.to), (Some(from), to), "{line}");
        }
    }

    #[test]
    fn threads_of_one_name_are_counted() {
        let writer = "1 writer-50005 thread-started name=writer-50005";
        let ended = "2 writer-50005 thread-ended name=writer-50005";
        assert_eq!(after(&[writer, writer]).threads["writer-50005"], 2);
        assert_eq!(after(&[writer, writer, ended]).threads["writer-50005"], 1);
        assert!(after(&[writer, ended, ended]).threads.is_empty());
    }

    #[test]
    fn a_browser_is_one_until_its_seat_is_freed() {
        let mut snapshot = after(&["1 browser-1 ticket port=50001 asker=127.0.0.1:10 via=web"]);
        let seated = event("1 browser-1 seated port=50001 peer=127.0.0.1:10 via=web");
        snapshot.take_in(&seated);
        let write = event("2 worker-50002 write address=127.0.0.1:10");
        assert!(snapshot.take_in(&write).web);
        snapshot.take_in(&event("3 browser-1 seat-free port=50001"));
        snapshot.take_in(&event("4 portal-tcp ticket port=50001 asker=127.0.0.1:10"));
        assert!(!snapshot.take_in(&write).web);
    }

    #[test]
    fn rooms_come_and_go() {
        let opened = "1 worker-50001 room-opened port=50005 room=lobby";
        let joined = "1 member-50005 room-joined port=50005 room=lobby name=alice";
        let snapshot = after(&[opened, joined]);
        let member = &snapshot.rooms["lobby"].members["alice"];
        assert_eq!((&*member.thread, member.seat), ("member-50005", None));
        let left = "2 member-50005 room-left room=LOBBY name=alice end=terminate";
        let ended = "2 room-50005 room-ended port=50005 room=lobby";
        assert!(
            after(&[opened, joined, left]).rooms["lobby"]
                .members
                .is_empty()
        );
        assert!(after(&[opened, joined, left, ended]).rooms.is_empty());
    }

    #[test]
    fn changes_make_of_an_earlier_picture_the_later_one() {
        let listening = "0 main listening role=portal-tcp address=127.0.0.1:50000";
        let events = [
            listening,
            "0 portal-tcp thread-started name=portal-tcp",
            TICKET,
            "3 main caption text=look look=50001",
            ARRIVED,
            SEATED,
            "4 portal-tcp thread-ended name=portal-tcp",
            LEFT,
            FREED,
            TICKET,
        ];
        let mut snapshot = after(&[]);
        snapshot.take_changes();
        let mut shown = snapshot.whole();
        for line in events {
            snapshot.take_in(&event(line));
            let changes = snapshot.take_changes();
            for (key, value) in changes.as_object().unwrap() {
                let is_part = ["cards", "threads"].contains(&&**key) && changes["rules"].is_null();
                if !is_part {
                    shown[key] = value.clone();
                    continue;
                }
                for (part, value) in value.as_object().unwrap() {
                    let parts = shown[key].as_object_mut().unwrap();
                    match value {
                        Value::Null => drop(parts.remove(part)),
                        value => drop(parts.insert(part.clone(), value.clone())),
                    }
                }
            }
            // Each event carries its own tick.
            shown["tick"] = snapshot.tick.into();
            assert_eq!(shown, snapshot.whole(), "{line}");
        }
    }

    #[test]
    fn of_thousands_of_seats_only_the_taken_are_shown() {
        let mut snapshot = Snapshot::default();
        let begin =
            "0 main started ports=40001-48000 period=1 reserve=2 handshake=1 idle=5 total=0";
        snapshot.take_in(&event(begin));
        snapshot.take_in(&event("1 portal-tcp ticket port=40001 asker=127.0.0.1:9"));
        let whole = snapshot.whole();
        assert_eq!(whole["cards"].as_object().unwrap().len(), 1);
        assert_eq!(whole["stack"]["count"], 7999);
        assert_eq!(whole["stack"]["top"].as_array().unwrap().len(), SHOWN_PORTS);
    }
}
