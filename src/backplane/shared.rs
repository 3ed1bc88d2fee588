//! What the two threads and those who ask share.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use portal_core::backplane::{BackplaneEvent, Outcome, Reply};
use portal_core::hall::Unwritten;
use portal_net::lock::{Condvar, Mutex, Rank};

use crate::address::EngineAddress;
use crate::engine::{self, Caller};
use crate::host::Host;
use crate::limits;
use crate::neighbour::{Load, Neighbour};
use crate::settings::ClusterSettings;

/// Everything that more than one thread uses. Each field guards itself. `state` has the rank
/// [`Rank::ClusterState`], and all other locks are leaves.
pub(super) struct Shared {
    pub(super) engine: EngineAddress,
    pub(super) lease: Duration,
    /// `passwords` or `names`: servers with different rules can't be one chat.
    pub(super) rules: &'static str,
    /// Set at the start.
    host: OnceLock<Host>,
    pub(super) caller_id: String,
    prefix: String,
    address: Option<std::net::IpAddr>,
    /// This server's boots, the present one last. Each is a lease that it took.
    boots: Mutex<Vec<String>>,
    pub(super) places: Places,
    state: Mutex<State>,
    up: AtomicBool,
    stopped: AtomicBool,
    /// Notified at the end.
    ends: (Mutex<()>, Condvar),
    servers: Mutex<Vec<Neighbour>>,
    noticed: Mutex<Noticed>,
    /// Those who wait to hear that what they said to one person was handed over there.
    awaited: Mutex<BTreeMap<u64, (Instant, Reply)>>,
    last_awaited: AtomicU64,
}

/// Whether each of the two threads has a connection, and whether people have been told that one has not.
#[derive(Default)]
struct State {
    out: bool,
    incoming: bool,
    is_told_lost: bool,
    /// Why the connection was given up, until `cluster-out` has reported it.
    unreported: Option<String>,
}

/// What clients know about the connection to Redis.
#[derive(Default)]
struct Noticed {
    /// They know that it is lost.
    is_lost: bool,
    /// When they were notified last.
    sent: Option<Instant>,
    /// How often, without a pause of [`limits::CLUSTER_NOTICES_FORGOTTEN`].
    in_a_row: u32,
}

impl Noticed {
    /// Whether clients are to be notified now that the connection `is_lost`, or not: at once the first
    /// time that it is lost and restored, later not more often than [`limits::CLUSTER_NOTICE_EVERY`].
    fn is_due(&mut self, is_lost: bool, now: Instant) -> bool {
        if self.is_lost == is_lost {
            return false;
        }
        let since = self.sent.map(|sent| now.saturating_duration_since(sent));
        if since.is_none_or(|since| since >= limits::CLUSTER_NOTICES_FORGOTTEN) {
            self.in_a_row = 0;
        }
        let is_due =
            self.in_a_row < 2 || since.is_none_or(|since| since >= limits::CLUSTER_NOTICE_EVERY);
        if is_due {
            self.is_lost = is_lost;
            self.sent = Some(now);
            self.in_a_row += 1;
        }
        is_due
    }
}

/// One of the two threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Out,
    In,
}

/// What a server says of itself, as it stands in the engine.
#[derive(Serialize, Deserialize)]
struct Info {
    address: Option<std::net::IpAddr>,
    seats: usize,
    free: usize,
    port: u16,
    web: Option<u16>,
    tls: bool,
    lag_us: u64,
}

impl Neighbour {
    pub(super) fn read(id: String, lives: bool, info: &str) -> Option<Neighbour> {
        let info: Info = serde_json::from_str(info).ok()?;
        Some(Neighbour {
            id,
            lives,
            address: info.address,
            load: Load {
                seats: info.seats,
                free: info.free,
                port: info.port,
                web: info.web,
                tls: info.tls,
            },
            lag: Duration::from_micros(info.lag_us),
        })
    }
}

impl Shared {
    pub(super) fn new(settings: &ClusterSettings, passwords: bool) -> Shared {
        Shared {
            engine: settings.engine.clone(),
            lease: settings.lease,
            rules: if passwords { "passwords" } else { "names" },
            host: OnceLock::new(),
            caller_id: settings.id.clone(),
            prefix: settings.prefix.clone(),
            address: settings.address,
            boots: Mutex::new(vec![random_word()]),
            places: Places::default(),
            state: Mutex::ranked(Rank::ClusterState, State::default()),
            up: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            ends: Default::default(),
            servers: Mutex::default(),
            noticed: Mutex::default(),
            awaited: Mutex::default(),
            last_awaited: AtomicU64::new(0),
        }
    }

    pub(super) fn set_host(&self, host: Host) {
        // It is set only at the start.
        let _ = self.host.set(host);
    }

    /// This server, from the start on.
    pub(super) fn host(&self) -> Option<&Host> {
        self.host.get()
    }

    pub(super) fn caller(&self) -> Caller {
        Caller {
            prefix: self.prefix.clone(),
            id: self.caller_id.clone(),
            boot: self.boots.lock().last().cloned().unwrap_or_default(),
        }
    }

    /// A lease that was lost is not taken up again: whatever was asked under it stays behind the fence.
    pub(super) fn boot_anew(&self) {
        self.boots.lock().push(random_word());
    }

    /// The session of an owner, which is a server's id, a boot, a session and a name, if it is here.
    pub(super) fn session_here(&self, owner: &str) -> Option<u64> {
        let mut words = owner.split(' ');
        let (id, boot, session) = (words.next()?, words.next()?, words.next()?);
        let is_here = id == self.caller_id && self.boots.lock().iter().any(|there| there == boot);
        session.parse().ok().filter(|_| is_here)
    }

    /// The whole name of a stream.
    pub(super) fn stream(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name of a stream without what all begin with.
    pub(super) fn stream_name<'n>(&self, key: &'n str) -> &'n str {
        key.strip_prefix(&self.prefix).unwrap_or(key)
    }

    /// What this server says of itself.
    pub(super) fn info(&self, lag: Duration) -> String {
        let load = self.host().map(|host| (host.load)()).unwrap_or_default();
        let info = Info {
            address: self.address,
            seats: load.seats,
            free: load.free,
            port: load.port,
            web: load.web,
            tls: load.tls,
            lag_us: u64::try_from(lag.as_micros()).unwrap_or(u64::MAX),
        };
        serde_json::to_string(&info).unwrap_or_default()
    }

    /// Tells a client here that its name belongs to another session.
    pub(super) fn taken_over(&self, session: u64) {
        if let Some(host) = self.host() {
            let event = BackplaneEvent::TakenOver(session);
            host.clients.on_event(event, &mut Unwritten::default());
        }
    }

    pub(super) fn trouble(&self, doing: &'static str, error: String) {
        if let Some(host) = self.host() {
            host.events.emit_failure(doing, error);
        }
    }

    pub(super) fn missed(&self, room: Option<&str>, count: Option<u64>) {
        if let Some(host) = self.host() {
            host.missed(room, count);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let _guard = self.ends.0.lock();
        self.ends.1.notify_all();
    }

    /// Waits, but not beyond the end.
    pub(super) fn pause(&self, time: Duration) {
        let mut guard = self.ends.0.lock();
        if !self.is_stopped() {
            self.ends.1.wait_until(&mut guard, Instant::now() + time);
        }
    }

    /// One thread's connection works now.
    pub(super) fn works(&self, side: Side) {
        let mut state = self.state.lock();
        match side {
            Side::Out => state.out = true,
            Side::In => state.incoming = true,
        }
        if !state.out || !state.incoming || self.is_up() {
            return;
        }
        self.places.is_back();
        self.up.store(true, Ordering::Release);
        let was_told = std::mem::take(&mut state.is_told_lost);
        state.unreported = None;
        drop(state);
        if let Some(host) = self.host().filter(|_| was_told) {
            host.back();
            self.notify();
        }
    }

    /// Marks the connection of the calling thread as broken. No lock may be held, because this
    /// notifies people.
    pub(super) fn is_broken(&self, side: Side, reason: &str) {
        self.give_up(side, reason);
        self.report_loss();
    }

    /// Gives up the connection of one thread. This notifies no one, so it may be called under a
    /// registry's lock. `cluster-out` reports it.
    pub(super) fn give_up(&self, side: Side, reason: &str) {
        let mut state = self.state.lock();
        state.out = false;
        // The reading thread notices a break by itself. The writing thread notices it only when it
        // sends, so it must always check.
        if side == Side::In {
            state.incoming = false;
        }
        self.up.store(false, Ordering::Release);
        if !self.is_stopped() && !state.is_told_lost {
            state.unreported.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Notifies people of a break, unless they have been notified of it.
    pub(super) fn report_loss(&self) {
        let mut state = self.state.lock();
        let Some(reason) = state.unreported.take() else {
            return;
        };
        state.is_told_lost = true;
        drop(state);
        if let Some(host) = self.host() {
            host.lost(&reason);
            self.notify();
        }
    }

    /// Notifies clients that the connection is lost or restored, if they do not know and it is time.
    pub(super) fn notify(&self) {
        let is_lost = !self.is_up();
        let is_due = self.noticed.lock().is_due(is_lost, Instant::now());
        if let Some(host) = self.host().filter(|_| is_due && !self.is_stopped()) {
            host.notify(is_lost);
        }
    }

    /// Whether `cluster-out` may go on with its connection.
    pub(super) fn is_out_fine(&self) -> bool {
        self.state.lock().out
    }

    pub(super) fn servers(&self) -> Vec<Neighbour> {
        self.servers.lock().clone()
    }

    pub(super) fn set_servers(&self, servers: Vec<Neighbour>) {
        if let Some(host) = self.host() {
            host.heard_of(&servers, &self.caller_id);
        }
        *self.servers.lock() = servers;
    }

    /// Keeps a speaker until the other server says what became of it; returns the number by which it does.
    pub(super) fn await_receipt(&self, done: Reply) -> u64 {
        let number = self.last_awaited.fetch_add(1, Ordering::Relaxed) + 1;
        self.awaited.lock().insert(number, (Instant::now(), done));
        number
    }

    /// What became of something for one person.
    pub(super) fn receipt(&self, number: u64, outcome: Outcome, unwritten: &mut Unwritten) {
        let found = self.awaited.lock().remove(&number);
        if let Some((_, done)) = found {
            done(outcome, unwritten);
        }
    }

    /// Those who have waited for longer than that hear that it is not known.
    pub(super) fn give_up_receipts(&self, after: Duration) {
        let mut awaited = self.awaited.lock();
        let late: Vec<u64> = awaited
            .iter()
            .take_while(|(_, (since, _))| since.elapsed() >= after)
            .map(|(number, _)| *number)
            .collect();
        let late: Vec<Reply> = late
            .iter()
            .filter_map(|number| Some(awaited.remove(number)?.1))
            .collect();
        drop(awaited);
        let mut unwritten = Unwritten::default();
        for done in late {
            done(Outcome::Unsure, &mut unwritten);
        }
    }
}

/// How far each stream has been read here.
#[derive(Default)]
pub(super) struct Places(Mutex<Table>);

#[derive(Default)]
struct Table {
    places: BTreeMap<String, Place>,
    last_token: u64,
}

/// The result of comparing a place with its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// The stream has only grown.
    Fine,
    /// The stream has gone back to an older snapshot, or was deleted. It is read on from its new
    /// beginning, or otherwise from its end.
    WentBack,
    /// The stream was deleted, and has more entries again than had been read. Up to this entry, none
    /// has been read since then.
    Overtook(u64),
}

/// What one session has said in a stream, as far as that is not certain to have been heard here.
#[derive(Default)]
struct Open {
    /// Where the last of it stands that has a place.
    said: u64,
    on_the_way: usize,
    is_unsure: bool,
}

struct Place {
    read: u64,
    /// How often the stream has begun, as far as its reader knows.
    born: u64,
    /// How far it had been read at the last check.
    checked: u64,
    /// What is open of each session here that has said something in it.
    open: BTreeMap<u64, Open>,
    /// A room that has ended here may have begun again before its end is noted.
    token: u64,
}

impl Places {
    /// A stream is read from there on. Returns a token for its end.
    pub(super) fn set(&self, stream: &str, from: engine::Place) -> u64 {
        let mut table = self.0.lock();
        table.last_token += 1;
        let token = table.last_token;
        let place = Place {
            read: from.end,
            born: from.born,
            checked: from.end,
            open: BTreeMap::new(),
            token,
        };
        table.places.insert(stream.to_owned(), place);
        token
    }

    /// A session here says something in it.
    pub(super) fn says(&self, stream: &str, session: u64) {
        if let Some(place) = self.0.lock().places.get_mut(stream) {
            place.open.entry(session).or_default().on_the_way += 1;
        }
    }

    /// What became of that: its place in the count, or why it has none.
    pub(super) fn has_said(&self, stream: &str, session: u64, became: Result<u64, Outcome>) {
        let mut table = self.0.lock();
        let place = table.places.get_mut(stream);
        let Some(open) = place.and_then(|place| place.open.get_mut(&session)) else {
            return;
        };
        open.on_the_way = open.on_the_way.saturating_sub(1);
        match became {
            Ok(number) => open.said = open.said.max(number),
            Err(outcome) => open.is_unsure |= outcome == Outcome::Unsure,
        }
    }

    /// Whether everything that a session has said in it has been heard here. Only then may it say the next thing here
    /// alone while the engine is away, or that would be heard before what it said before.
    pub(super) fn is_heard_out(&self, stream: &str, session: u64) -> bool {
        let table = self.0.lock();
        let Some(place) = table.places.get(stream) else {
            return true;
        };
        place
            .open
            .get(&session)
            .is_none_or(|open| open.on_the_way == 0 && !open.is_unsure && place.read >= open.said)
    }

    /// The engine is back: what was not known is in the streams, or not at all.
    pub(super) fn is_back(&self) {
        for place in self.0.lock().places.values_mut() {
            place.open.retain(|_, open| open.on_the_way > 0);
        }
    }

    pub(super) fn has(&self, stream: &str) -> bool {
        self.0.lock().places.contains_key(stream)
    }

    /// Read up to there: returns how many were left out, or `None` if this has been read, or is read no more.
    pub(super) fn advance(&self, stream: &str, to: u64) -> Option<u64> {
        let mut table = self.0.lock();
        let place = table.places.get_mut(stream)?;
        let left_out = to.checked_sub(place.read + 1)?;
        place.read = to;
        place.born += u64::from(to == 1);
        // Once in a while, what has been heard is forgotten.
        if to.is_multiple_of(1024) {
            place
                .open
                .retain(|_, open| open.on_the_way > 0 || open.is_unsure || open.said > to);
        }
        Some(left_out)
    }

    /// Compares a place with its stream, whose last entry is `end` and which has begun `born` times.
    pub(super) fn check(&self, stream: &str, end: u64, born: Option<u64>) -> Checked {
        let mut table = self.0.lock();
        let Some(place) = table.places.get_mut(stream) else {
            return Checked::Fine;
        };
        let has_begun_again = born.is_some_and(|born| born > place.born);
        let is_back = end < place.read;
        let before = std::mem::replace(&mut place.checked, place.read);
        if is_back {
            // Nothing after a new beginning has been read yet. Its first entry will be counted.
            place.read = if has_begun_again { 0 } else { end };
            place.checked = place.read;
            place.open.clear();
        }
        if let Some(born) = born.filter(|_| has_begun_again) {
            place.born = if is_back { born - 1 } else { born };
        }
        match (is_back, has_begun_again) {
            (false, false) => Checked::Fine,
            (true, _) => Checked::WentBack,
            (false, true) => Checked::Overtook(before),
        }
    }

    pub(super) fn detach(&self, room: &str, token: u64) {
        let stream = format!("room:{room}");
        let mut table = self.0.lock();
        if table
            .places
            .get(&stream)
            .is_some_and(|place| place.token == token)
        {
            table.places.remove(&stream);
        }
    }

    pub(super) fn all(&self) -> Vec<(String, u64)> {
        let table = self.0.lock();
        let places = table.places.iter();
        places
            .map(|(stream, place)| (stream.clone(), place.read))
            .collect()
    }

    /// The engine has forgotten everything, and counts from 1 again.
    pub(super) fn begin_anew(&self) {
        for place in self.0.lock().places.values_mut() {
            place.read = 0;
            place.open.clear();
        }
    }
}

/// Sixteen hexadecimal digits that nobody else has.
pub(super) fn random_word() -> String {
    let mut bytes = [0; 8];
    // Without random numbers the server has not started.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portal_core::backplane::BackplaneEvents;
    use portal_core::clock::Clock;
    use portal_core::event::Events;
    use portal_wire::Name;

    use super::*;

    /// The notices that clients receive.
    #[derive(Default)]
    struct Notices(Mutex<Vec<String>>);

    impl BackplaneEvents for Notices {
        fn on_event(&self, event: BackplaneEvent<'_>, _: &mut Unwritten) {
            match event {
                BackplaneEvent::Notice(text) => self.0.lock().push(text.to_owned()),
                event => panic!("{event:?}"),
            }
        }

        fn users(&self) -> Vec<(u64, Name)> {
            Vec::new()
        }

        fn rooms(&self) -> Vec<Name> {
            Vec::new()
        }

        fn members(&self) -> Vec<(Name, u64, Name)> {
            Vec::new()
        }
    }

    #[test]
    fn a_stream_that_has_gone_back_is_read_on_from_where_nothing_is_heard_twice() {
        let places = Places::default();
        let read = || places.all()[0].1;
        places.set("all", engine::Place { end: 0, born: 0 });
        for number in 1..=5 {
            assert_eq!(places.advance("all", number), Some(0));
        }
        let check = |end, born| places.check("all", end, born);
        assert_eq!(check(5, Some(1)), Checked::Fine, "it has begun once");
        // An older snapshot.
        assert_eq!(check(3, Some(1)), Checked::WentBack);
        assert_eq!(read(), 3);
        assert_eq!(check(3, Some(1)), Checked::Fine);
        // It was deleted, and has two entries since then.
        assert_eq!(check(2, Some(2)), Checked::WentBack);
        assert_eq!(read(), 0);
        assert_eq!(places.advance("all", 1), Some(0));
        assert_eq!(places.advance("all", 2), Some(0));
        assert_eq!(check(2, Some(2)), Checked::Fine);
        // It was deleted, and has more entries by now than have been read: some of these are new.
        assert_eq!(check(9, Some(3)), Checked::Overtook(2));
        assert_eq!(read(), 2);
        assert_eq!(check(9, Some(3)), Checked::Fine);
        // It was deleted, and nothing was said since then.
        assert_eq!(check(0, Some(3)), Checked::WentBack);
        assert_eq!(read(), 0);
        assert_eq!(check(0, None), Checked::Fine, "not known any more");
    }

    #[test]
    fn a_connection_that_breaks_again_and_again_is_a_notice_in_ten_seconds() {
        let (mut notices, start) = (Noticed::default(), Instant::now());
        let mut sent = Vec::new();
        // It breaks and comes back five times a second, for a minute and a half.
        for tick in 0..900_u64 {
            let now = start + std::time::Duration::from_millis(100 * tick);
            if notices.is_due(tick % 2 == 0, now) {
                sent.push(tick / 10);
            }
        }
        assert_eq!(sent, [0, 0, 10, 20, 30, 40, 50, 60, 70, 80]);
        // A single break later on is a notice at once, and so is its end.
        let later = start + std::time::Duration::from_secs(200);
        let is_lost = !notices.is_lost;
        assert!(notices.is_due(is_lost, later) && notices.is_due(!is_lost, later));
        assert!(!notices.is_due(!is_lost, later));
    }

    #[test]
    fn a_break_found_under_a_registrys_lock_is_reported_without_it() {
        let notices = Arc::new(Notices::default());
        let settings = ClusterSettings::new("redis://127.0.0.1".parse().unwrap(), "one");
        let shared = Shared::new(&settings, false);
        shared.set_host(Host {
            events: Events::new(Clock::new()),
            clients: Arc::clone(&notices) as _,
            load: Box::new(Load::default),
            accounts: Box::new(Vec::new),
        });
        let notices = || std::mem::take(&mut *notices.0.lock()).join(", ");
        shared.works(Side::Out);
        shared.works(Side::In);
        {
            let registry = Mutex::ranked(Rank::Registry, ());
            let _held = registry.lock();
            shared.give_up(Side::Out, "the queue is full");
        }
        assert!(!shared.is_up() && !shared.is_out_fine());
        assert_eq!(notices(), "");
        shared.report_loss();
        shared.report_loss();
        assert!(notices().starts_with("the other servers can't be reached"));
        shared.works(Side::Out);
        assert_eq!(notices(), "the other servers are back");
        // A break that ends before it is reported is not reported.
        shared.give_up(Side::Out, "the queue is full");
        shared.works(Side::Out);
        shared.report_loss();
        assert!(shared.is_up());
        assert_eq!(notices(), "");
    }
}
