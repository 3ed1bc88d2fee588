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
    rooms: BTreeMap<String, RoomCard>,
    caption: Option<String>,
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

#[derive(Default)]
struct Changed {
    /// True if the complete snapshot must be sent, because another server started or a listener was
    /// added.
    whole: bool,
    cards: BTreeSet<SeatKey>,
    stack: bool,
    rooms: bool,
}

#[derive(Default)]
struct Card {
    phase: Phase,
    /// The number of the current visit, counted over all seats; 0 between visits.
    visit: u64,
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
    /// The reason why the last visit ended.
    end: Option<String>,
    is_web: bool,
}

struct RoomCard {
    name: String,
    port: u64,
    members: BTreeSet<String>,
}

/// The seat and the visit that an event belongs to.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct EventSubject {
    pub(super) seat: Option<u64>,
    /// The visit, which lasts from the ticket until the port is back on the stack.
    pub(super) visit: Option<u64>,
    /// The partner's seat, for a message to the partner.
    pub(super) to: Option<u64>,
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
        let before = seat.and_then(|seat| self.cards.get(&seat).map(|card| card.visit));
        self.change(event, seat);
        let after = seat.and_then(|seat| self.cards.get(&seat).map(|card| card.visit));
        // The event that begins or ends a visit is part of that visit.
        let visit = [after, before]
            .into_iter()
            .flatten()
            .find(|visit| *visit > 0);
        let to = match &*event.kind {
            "relayed" if self.is_single() => seat.and_then(|seat| self.partner(seat)),
            "relayed" => event.number("to"),
            _ => None,
        };
        let web = seat.and_then(|seat| self.cards.get(&seat));
        let web = web.is_some_and(|card| card.is_web);
        EventSubject {
            seat,
            visit,
            to,
            web,
        }
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
            return None;
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
            of_thread()
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
                    self.changed.whole = true;
                    if role == "single" {
                        self.number_the_seats();
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
                self.caption = event.text("text").map(str::to_owned);
                return;
            }
            "shutting-down" => {
                self.is_over = true;
                return;
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
        match &*event.kind {
            "ticket" => {
                card.phase = Phase::Reserved;
                card.visit = visits + 1;
                card.asker = text("asker");
                card.is_web = event.text("via") == Some("web");
                card.end = None;
                card.until = Some(fires(rules.reserve));
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
        self.changed.cards.insert(key);
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
        let keys: Vec<SeatKey> = event.text("ports").map(read_ranges).unwrap_or_default();
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
        self.order = (1..=self.order.len() as u64).collect();
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
                let members = BTreeSet::new();
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
                if let Some(room) = self.rooms.get_mut(&key) {
                    room.members.insert(who);
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
        let rooms = self
            .rooms
            .values()
            .map(|room| json!({ "name": room.name, "port": room.port, "members": room.members }));
        rooms.collect()
    }

    /// Returns the complete snapshot.
    pub(super) fn whole(&self) -> Value {
        let mut snapshot = self.common();
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

    /// Returns the changes since the previous call. A card that is no longer shown is `null`. If
    /// the result contains `rules`, it is the complete snapshot.
    pub(super) fn take_changes(&mut self) -> Value {
        let changed = std::mem::take(&mut self.changed);
        if changed.whole {
            return self.whole();
        }
        let mut snapshot = self.common();
        let cards = changed.cards.iter();
        let cards: serde_json::Map<String, Value> = cards
            .map(|key| (key.to_string(), self.card(*key)))
            .collect();
        snapshot["cards"] = Value::Object(cards);
        if changed.stack {
            snapshot["stack"] = self.stack();
        }
        if changed.rooms {
            snapshot["rooms"] = self.rooms();
        }
        snapshot
    }

    fn common(&self) -> Value {
        json!({ "tick": self.tick, "caption": self.caption, "over": self.is_over })
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
                to: None,
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
        assert_eq!(snapshot.take_in(&relayed).to, Some(1));
        snapshot.take_in(&event("1 seat-2 seat-free port=50001"));
        assert_eq!(snapshot.stack.last(), Some(&2));
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
        assert!(snapshot.rooms["lobby"].members.contains("alice"));
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
        let events = [listening, TICKET, ARRIVED, SEATED, LEFT, FREED, TICKET];
        let mut snapshot = after(&[]);
        snapshot.take_changes();
        let mut shown = snapshot.whole();
        for line in events {
            snapshot.take_in(&event(line));
            let changes = snapshot.take_changes();
            for (key, value) in changes.as_object().unwrap() {
                if key == "cards" && changes["rules"].is_null() {
                    for (seat, card) in value.as_object().unwrap() {
                        shown["cards"][seat] = card.clone();
                    }
                } else {
                    shown[key] = value.clone();
                }
            }
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
