//! State that the backplane's two threads share with the sessions' threads.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use portal_net::lock::{Condvar, Mutex, Rank};
use portal_sessions::backplane::{BackplaneEvent, Outcome, Reply};
use portal_sessions::chat::Unwritten;

use crate::address::EngineAddress;
use crate::engine::{self, CallingServer, End};
use crate::host::BackplaneHost;
use crate::limits;
use crate::peer_server::{Load, PeerServer};
use crate::settings::ClusterSettings;

/// State that more than one thread uses. Each mutable field has its own lock. The lock of `state`
/// has the rank [`Rank::ClusterState`], and all others are leaves.
pub(super) struct SharedState {
    pub(super) engine: EngineAddress,
    pub(super) lease: Duration,
    /// `passwords` or `names`. Servers with different rules can't join the same chat.
    pub(super) rules: &'static str,
    /// Set at startup.
    host: OnceLock<BackplaneHost>,
    pub(super) server_id: String,
    prefix: String,
    address: Option<std::net::IpAddr>,
    /// The incarnations under which this server has taken leases, the current one last.
    boots: Mutex<Vec<String>>,
    pub(super) places: StreamOffsets,
    state: Mutex<LinkState>,
    up: AtomicBool,
    stopped: AtomicBool,
    /// Notified when the server stops.
    ends: (Mutex<()>, Condvar),
    servers: Mutex<Vec<PeerServer>>,
    noticed: Mutex<Noticed>,
    /// Pending replies to direct messages, each held until another server confirms receipt, with
    /// the time of sending.
    awaited: Mutex<BTreeMap<u64, (Instant, Reply)>>,
    last_awaited: AtomicU64,
}

/// The state of the two threads' connections.
#[derive(Default)]
struct LinkState {
    out: bool,
    incoming: bool,
    /// True if clients have been notified of the loss.
    is_loss_notified: bool,
    /// The reason for a lost connection, until it has been reported.
    unreported: Option<String>,
}

/// The last notice to clients about the connection to Redis.
#[derive(Default)]
struct Noticed {
    /// True if it reported a loss.
    is_lost: bool,
    /// The time of the last notice.
    sent: Option<Instant>,
    /// Number of consecutive notices without a pause of [`limits::CLUSTER_NOTICES_FORGOTTEN`].
    in_a_row: u32,
}

impl Noticed {
    /// Returns whether to notify clients now that the connection is lost (`is_lost`) or restored.
    /// The first loss and the first recovery cause a notice immediately; later notices are at least
    /// [`limits::CLUSTER_NOTICE_EVERY`] apart.
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

/// Identifies the connection of `cluster-out` or `cluster-in`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Out,
    In,
}

/// The JSON that a server publishes about itself in Redis.
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

impl PeerServer {
    pub(super) fn read(id: String, lives: bool, info: &str) -> Option<PeerServer> {
        let info: Info = serde_json::from_str(info).ok()?;
        Some(PeerServer {
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

impl SharedState {
    pub(super) fn new(settings: &ClusterSettings, passwords: bool) -> SharedState {
        SharedState {
            engine: settings.engine.clone(),
            lease: settings.lease,
            rules: if passwords { "passwords" } else { "names" },
            host: OnceLock::new(),
            server_id: settings.id.clone(),
            prefix: settings.prefix.clone(),
            address: settings.address,
            boots: Mutex::new(vec![random_word()]),
            places: StreamOffsets::default(),
            state: Mutex::ranked(Rank::ClusterState, LinkState::default()),
            up: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            ends: Default::default(),
            servers: Mutex::default(),
            noticed: Mutex::default(),
            awaited: Mutex::default(),
            last_awaited: AtomicU64::new(0),
        }
    }

    pub(super) fn set_host(&self, host: BackplaneHost) {
        // This is called only once, so it can't fail.
        let _ = self.host.set(host);
    }

    /// Returns the interface to this server, once it has been set.
    pub(super) fn host(&self) -> Option<&BackplaneHost> {
        self.host.get()
    }

    pub(super) fn caller(&self) -> CallingServer {
        CallingServer {
            prefix: self.prefix.clone(),
            id: self.server_id.clone(),
            incarnation: self.boots.lock().last().cloned().unwrap_or_default(),
        }
    }

    /// Starts a new incarnation. A lost lease is never resumed, so requests under it stay fenced
    /// off.
    pub(super) fn boot_anew(&self) {
        self.boots.lock().push(random_word());
    }

    /// Returns the session of an owner, if it is on this server. An owner consists of a server's
    /// id, its incarnation, a session and a name.
    pub(super) fn session_here(&self, owner: &str) -> Option<u64> {
        let mut words = owner.split(' ');
        let (id, incarnation, session) = (words.next()?, words.next()?, words.next()?);
        let is_here =
            id == self.server_id && self.boots.lock().iter().any(|there| there == incarnation);
        session.parse().ok().filter(|_| is_here)
    }

    /// Returns the full name of a stream.
    pub(super) fn stream(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Returns the name of a stream without the prefix.
    pub(super) fn stream_name<'n>(&self, key: &'n str) -> &'n str {
        key.strip_prefix(&self.prefix).unwrap_or(key)
    }

    /// Returns this server's load, ports and lag as JSON.
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

    /// Notifies a client here that another session has taken over its name.
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

    /// Waits for `time`, or until the server stops.
    pub(super) fn pause(&self, time: Duration) {
        let mut guard = self.ends.0.lock();
        if !self.is_stopped() {
            self.ends.1.wait_until(&mut guard, Instant::now() + time);
        }
    }

    /// Marks a thread's connection as working.
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
        let was_told = std::mem::take(&mut state.is_loss_notified);
        state.unreported = None;
        drop(state);
        if let Some(host) = self.host().filter(|_| was_told) {
            host.back();
            self.notify();
        }
    }

    /// Marks a thread's connection as broken. The caller must not hold a lock, because this
    /// notifies clients.
    pub(super) fn mark_down(&self, side: Side, reason: &str) {
        self.give_up(side, reason);
        self.report_loss();
    }

    /// Marks a thread's connection as broken without notifying clients, so it may be called under a
    /// registry's lock. `cluster-out` reports the break.
    pub(super) fn give_up(&self, side: Side, reason: &str) {
        let mut state = self.state.lock();
        state.out = false;
        // The reading thread notices a break on its own. The writing thread would notice it only
        // when it sends, so its connection is always marked.
        if side == Side::In {
            state.incoming = false;
        }
        self.up.store(false, Ordering::Release);
        if !self.is_stopped() && !state.is_loss_notified {
            state.unreported.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Reports a break that has not been reported yet.
    pub(super) fn report_loss(&self) {
        let mut state = self.state.lock();
        let Some(reason) = state.unreported.take() else {
            return;
        };
        state.is_loss_notified = true;
        drop(state);
        if let Some(host) = self.host() {
            host.lost(&reason);
            self.notify();
        }
    }

    /// Notifies clients that the connection is lost or restored, if a notice is due.
    pub(super) fn notify(&self) {
        let is_lost = !self.is_up();
        let is_due = self.noticed.lock().is_due(is_lost, Instant::now());
        if let Some(host) = self.host().filter(|_| is_due && !self.is_stopped()) {
            host.notify(is_lost);
        }
    }

    /// Returns whether `cluster-out` may continue to use its connection.
    pub(super) fn is_out_fine(&self) -> bool {
        self.state.lock().out
    }

    pub(super) fn servers(&self) -> Vec<PeerServer> {
        self.servers.lock().clone()
    }

    pub(super) fn set_servers(&self, servers: Vec<PeerServer>) {
        if let Some(host) = self.host() {
            host.update_load(&servers, &self.server_id);
        }
        *self.servers.lock() = servers;
    }

    /// Stores the reply to a direct message until the other server sends a receipt. Returns the
    /// receipt's number.
    pub(super) fn await_receipt(&self, done: Reply) -> u64 {
        let number = self.last_awaited.fetch_add(1, Ordering::Relaxed) + 1;
        self.awaited.lock().insert(number, (Instant::now(), done));
        number
    }

    /// Completes the direct message with this receipt number.
    pub(super) fn receipt(&self, number: u64, outcome: Outcome, unwritten: &mut Unwritten) {
        let found = self.awaited.lock().remove(&number);
        if let Some((_, done)) = found {
            done(outcome, unwritten);
        }
    }

    /// Replies "unsure" to each direct message that has waited for a receipt for at least `after`.
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

/// The positions up to which the streams have been read here.
#[derive(Default)]
pub(super) struct StreamOffsets(Mutex<OffsetTable>);

#[derive(Default)]
struct OffsetTable {
    places: BTreeMap<String, StreamPosition>,
    last_token: u64,
    /// The epoch in which this server took its lease.
    epoch: String,
}

/// The result of comparing a position with its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// The stream is unchanged or has grown.
    Fine,
    /// Redis lost all its data. Reading continues from the start of the new stream.
    NewEpoch,
    /// The stream was deleted, or restored from an older snapshot. Reading continues from the start
    /// if the stream was recreated, otherwise from its end.
    WentBack,
    /// The stream was deleted and recreated, and already has at least as many entries as were read
    /// before. The new entries up to this number have not been read.
    Overtook(u64),
}

/// A session's messages to a stream that have not been read back here.
#[derive(Default)]
struct Open {
    /// The highest known entry number of its messages.
    last_sent: u64,
    /// Number of messages without a reply from Redis.
    on_the_way: usize,
    is_unsure: bool,
}

struct StreamPosition {
    read: u64,
    /// Every entry up to this one has been delivered to the clients here.
    delivered: u64,
    /// Number of times that the stream was created, as far as this server knows.
    born: u64,
    /// The position at the last check.
    checked: u64,
    /// True after a reconnect: each unsure message is either in the stream already, or lost.
    is_settling: bool,
    /// The epoch in which the stream has been read so far.
    epoch: String,
    /// The messages of each session here that have not been read back.
    open: BTreeMap<u64, Open>,
    /// Distinguishes this run of a room from the next, which may begin before this one is detached.
    token: u64,
}

impl StreamPosition {
    /// Moves the position to `to` in a stream whose end is now `end`. A message that was sent
    /// before the stream changed is lost. A later one has a number of at most `end`.
    fn rewind(&mut self, to: u64, end: u64) {
        (self.read, self.checked, self.delivered) = (to, to, to);
        for open in self.open.values_mut() {
            open.last_sent = open.last_sent.min(end);
        }
    }

    /// Bounds the number of each unsure message by the stream's current end, unless some messages
    /// of its session are still in flight.
    fn settle(&mut self, end: u64) {
        self.is_settling = false;
        for open in self.open.values_mut().filter(|open| open.is_unsure) {
            if open.on_the_way > 0 {
                self.is_settling = true;
                continue;
            }
            open.last_sent = open.last_sent.max(end);
            open.is_unsure = false;
        }
    }
}

impl StreamOffsets {
    /// Sets the epoch for positions that are added later.
    pub(super) fn set_epoch(&self, epoch: &str) {
        epoch.clone_into(&mut self.0.lock().epoch);
    }

    /// Adds a stream, to be read from the position `from` on. Returns a token for
    /// [`StreamOffsets::detach`].
    pub(super) fn set(&self, stream: &str, from: engine::StreamEnd) -> u64 {
        let mut table = self.0.lock();
        table.last_token += 1;
        let token = table.last_token;
        let place = StreamPosition {
            read: from.end,
            delivered: from.end,
            born: from.born,
            checked: from.end,
            is_settling: false,
            epoch: table.epoch.clone(),
            open: BTreeMap::new(),
            token,
        };
        table.places.insert(stream.to_owned(), place);
        token
    }

    /// Counts a message that a session here is sending to the stream.
    pub(super) fn count_sending(&self, stream: &str, session: u64) {
        if let Some(place) = self.0.lock().places.get_mut(stream) {
            place.open.entry(session).or_default().on_the_way += 1;
        }
    }

    /// Records the result: the message's entry number, or the reason why there is none.
    pub(super) fn count_sent(&self, stream: &str, session: u64, became: Result<u64, Outcome>) {
        let mut table = self.0.lock();
        let place = table.places.get_mut(stream);
        let Some(open) = place.and_then(|place| place.open.get_mut(&session)) else {
            return;
        };
        open.on_the_way = open.on_the_way.saturating_sub(1);
        match became {
            Ok(number) => open.last_sent = open.last_sent.max(number),
            Err(outcome) => open.is_unsure |= outcome == Outcome::Unsure,
        }
    }

    /// Returns whether all of a session's messages to the stream have been delivered here. If not,
    /// its next message must not be delivered only on this server while Redis is unreachable,
    /// because it would overtake the earlier ones.
    pub(super) fn is_read_back(&self, stream: &str, session: u64) -> bool {
        let table = self.0.lock();
        let Some(place) = table.places.get(stream) else {
            return true;
        };
        place.open.get(&session).is_none_or(|open| {
            open.on_the_way == 0 && !open.is_unsure && place.delivered >= open.last_sent
        })
    }

    /// Records a reconnect: each unsure message is now in its stream, or lost.
    pub(super) fn is_back(&self) {
        for place in self.0.lock().places.values_mut() {
            place.is_settling = true;
        }
    }

    pub(super) fn has(&self, stream: &str) -> bool {
        self.0.lock().places.contains_key(stream)
    }

    /// Moves the position to the entry `to`. Returns the number of skipped entries, or `None` if
    /// the entry was already read or the stream is no longer being read.
    pub(super) fn advance(&self, stream: &str, to: u64) -> Option<u64> {
        let mut table = self.0.lock();
        let place = table.places.get_mut(stream)?;
        let left_out = to.checked_sub(place.read + 1)?;
        place.read = to;
        place.born += u64::from(to == 1);
        // Every 1024 entries, remove the sessions whose messages have been read back.
        if to.is_multiple_of(1024) {
            place
                .open
                .retain(|_, open| open.on_the_way > 0 || open.is_unsure || open.last_sent >= to);
        }
        Some(left_out)
    }

    /// Records that the entry `number` has been delivered to the clients here.
    pub(super) fn has_delivered(&self, stream: &str, number: u64) {
        if let Some(place) = self.0.lock().places.get_mut(stream) {
            place.delivered = place.delivered.max(number);
        }
    }

    /// Compares the position in a stream with the stream's `end` in `epoch`.
    pub(super) fn check(&self, stream: &str, end: End, epoch: &str) -> Checked {
        let mut table = self.0.lock();
        let Some(place) = table.places.get_mut(stream) else {
            return Checked::Fine;
        };
        if place.epoch != epoch {
            // All entries are numbered from 1 again.
            epoch.clone_into(&mut place.epoch);
            place.born = 0;
            place.rewind(0, end.number);
            return Checked::NewEpoch;
        }
        let End { number: end, born } = end;
        if place.is_settling {
            place.settle(end);
        }
        // An older snapshot has a lower creation count.
        place.born = place.born.min(born.unwrap_or(place.born));
        // A new stream is counted when its first entry is read.
        let is_unread = place.read == 0 && end > 0;
        let counted = place.born + u64::from(is_unread);
        let has_begun_again = born.is_some_and(|born| born > counted);
        let is_back = end < place.read;
        let before = std::mem::replace(&mut place.checked, place.read);
        if is_back {
            // Nothing has been read from a recreated stream yet.
            place.rewind(if has_begun_again { 0 } else { end }, end);
        }
        if end == 0 {
            place.born = born.unwrap_or(0);
        } else if let Some(born) = born.filter(|_| has_begun_again) {
            place.born = born - u64::from(place.read == 0);
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
}

/// Returns a unique word of sixteen hexadecimal digits.
pub(super) fn random_word() -> String {
    let mut bytes = [0; 8];
    // This can't fail: without random numbers, the server would not have started.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portal_core::clock::Clock;
    use portal_core::event::Events;
    use portal_sessions::backplane::BackplaneEvents;
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
    fn after_a_stream_goes_back_no_entry_is_delivered_twice() {
        let places = StreamOffsets::default();
        let read = || places.all()[0].1;
        places.set("all", engine::StreamEnd { end: 0, born: 0 });
        for number in 1..=5 {
            assert_eq!(places.advance("all", number), Some(0));
        }
        let check = |number, born| places.check("all", End { number, born }, "");
        assert_eq!(check(5, Some(1)), Checked::Fine, "it was created once");
        // Restored from an older snapshot.
        assert_eq!(check(3, Some(1)), Checked::WentBack);
        assert_eq!(read(), 3);
        assert_eq!(check(3, Some(1)), Checked::Fine);
        // Deleted, with two new entries.
        assert_eq!(check(2, Some(2)), Checked::WentBack);
        assert_eq!(read(), 0);
        assert_eq!(places.advance("all", 1), Some(0));
        assert_eq!(places.advance("all", 2), Some(0));
        assert_eq!(check(2, Some(2)), Checked::Fine);
        // Deleted, with more new entries than had been read.
        assert_eq!(check(9, Some(3)), Checked::Overtook(2));
        assert_eq!(read(), 2);
        assert_eq!(check(9, Some(3)), Checked::Fine);
        // Deleted, with no new entries.
        assert_eq!(check(0, Some(3)), Checked::WentBack);
        assert_eq!(read(), 0);
        assert_eq!(check(0, None), Checked::Fine, "no longer known");
        // Redis has lost all its data: each entry since then is read once.
        let restored = |number| {
            let born = Some(1);
            places.check("all", End { number, born }, "restored")
        };
        assert_eq!(places.advance("all", 1), Some(0));
        assert_eq!(restored(1), Checked::NewEpoch);
        assert_eq!((read(), places.advance("all", 1)), (0, Some(0)));
        assert_eq!(restored(1), Checked::Fine);
        // A room attached in the new epoch is read from its own position.
        places.set_epoch("restored");
        places.set("room:lobby", engine::StreamEnd { end: 2, born: 1 });
        let born = Some(1);
        let lobby = places.check("room:lobby", End { number: 2, born }, "restored");
        assert_eq!(lobby, Checked::Fine);
    }

    #[test]
    fn a_session_is_read_back_once_its_messages_are_delivered_despite_reconnects() {
        let places = StreamOffsets::default();
        places.set("all", engine::StreamEnd { end: 0, born: 1 });
        let is_read_back = || places.is_read_back("all", 7);
        assert!(is_read_back());
        places.count_sending("all", 7);
        places.count_sent("all", 7, Ok(1));
        places.is_back();
        assert!(!is_read_back(), "it has not been read yet");
        places.advance("all", 1);
        assert!(!is_read_back(), "it has not been delivered yet");
        places.has_delivered("all", 1);
        assert!(is_read_back());
        // Two more messages are in the stream, but that is known only after a reconnect.
        for _ in 2..=3 {
            places.count_sending("all", 7);
            places.count_sent("all", 7, Err(Outcome::Unsure));
        }
        places.is_back();
        assert!(!is_read_back());
        let (number, born) = (3, Some(1));
        assert_eq!(places.check("all", End { number, born }, ""), Checked::Fine);
        places.has_delivered("all", 2);
        assert!(!is_read_back());
        places.has_delivered("all", 3);
        assert!(is_read_back());
    }

    #[test]
    fn a_session_is_not_read_back_while_its_message_in_a_new_stream_is_unread() {
        let places = StreamOffsets::default();
        places.set("all", engine::StreamEnd { end: 9, born: 1 });
        let is_read_back = || places.is_read_back("all", 7);
        let count_sending = || places.count_sending("all", 7);
        let count_sent = |number| places.count_sent("all", 7, Ok(number));
        count_sending();
        count_sent(12);
        // That message was in the deleted stream. The next ones are in the new one.
        count_sending();
        count_sent(1);
        count_sending();
        let (number, born) = (1, Some(2));
        assert_eq!(
            places.check("all", End { number, born }, ""),
            Checked::WentBack
        );
        count_sent(2);
        for number in 1..=2 {
            assert!(!is_read_back());
            assert_eq!(places.advance("all", number), Some(0));
            places.has_delivered("all", number);
        }
        assert!(is_read_back());
    }

    /// A stream in Redis and its reader. Each entry is the time at which it was pushed.
    #[derive(Default)]
    struct Walk {
        places: StreamOffsets,
        now: usize,
        entries: Vec<usize>,
        born: u64,
        epoch: usize,
        /// True if Redis was restarted, so the reader must reconnect.
        must_check: bool,
        was_deleted: bool,
        delivered: Vec<usize>,
        pushed: Vec<usize>,
        reported: Option<usize>,
    }

    impl Walk {
        fn step(&mut self, operation: u32) {
            self.now += 1;
            match operation {
                0 => {
                    self.born += u64::from(self.entries.is_empty());
                    self.entries.push(self.now);
                    self.pushed.push(self.now);
                }
                1 => {
                    self.was_deleted = true;
                    self.entries.clear();
                }
                2 => {
                    self.was_deleted = true;
                    self.entries.clear();
                    self.born = 0;
                    self.epoch += 1;
                    self.must_check = true;
                }
                3 => {
                    if self.must_check {
                        self.step(4);
                    }
                    let from = self.places.all()[0].1 as usize;
                    for number in from..self.entries.len() {
                        let left_out = self.places.advance("all", number as u64 + 1);
                        assert_eq!(left_out, Some(0));
                        self.delivered.push(self.entries[number]);
                    }
                }
                _ => {
                    self.must_check = false;
                    let end = End {
                        number: self.entries.len() as u64,
                        born: Some(self.born),
                    };
                    let checked = self.places.check("all", end, &self.epoch.to_string());
                    if let Checked::Overtook(last) = checked {
                        self.delivered.extend(&self.entries[..last as usize]);
                    }
                    if checked != Checked::Fine {
                        assert!(self.was_deleted, "nothing was lost");
                        self.reported = Some(self.now);
                    }
                }
            }
        }
    }

    #[test]
    fn each_entry_of_a_stream_arrives_once_or_its_loss_is_reported() {
        const STEPS: u32 = 8;
        for walk in 0..5_u32.pow(STEPS) {
            let mut there = Walk::default();
            there.places.set_epoch("0");
            there
                .places
                .set("all", engine::StreamEnd { end: 0, born: 0 });
            let mut steps: Vec<u32> = (0..STEPS).map(|step| walk / 5_u32.pow(step) % 5).collect();
            steps.extend([4, 3, 4, 3]);
            for step in &steps {
                there.step(*step);
            }
            for entry in &there.pushed {
                let times = there.delivered.iter().filter(|&there| there == entry);
                let is_reported = there.reported.is_some_and(|reported| reported > *entry);
                match times.count() {
                    0 => assert!(is_reported, "{entry} is lost: {steps:?}"),
                    1 => {}
                    _ => panic!("{entry} arrives twice: {steps:?}"),
                }
            }
        }
    }

    #[test]
    fn a_flapping_connection_causes_one_notice_every_ten_seconds() {
        let (mut notices, start) = (Noticed::default(), Instant::now());
        let mut sent = Vec::new();
        // The connection breaks and recovers five times per second for 90 s.
        for tick in 0..900_u64 {
            let now = start + std::time::Duration::from_millis(100 * tick);
            if notices.is_due(tick % 2 == 0, now) {
                sent.push(tick / 10);
            }
        }
        assert_eq!(sent, [0, 0, 10, 20, 30, 40, 50, 60, 70, 80]);
        // A single break later on causes a notice immediately, as does the recovery.
        let later = start + std::time::Duration::from_secs(200);
        let is_lost = !notices.is_lost;
        assert!(notices.is_due(is_lost, later) && notices.is_due(!is_lost, later));
        assert!(!notices.is_due(!is_lost, later));
    }

    #[test]
    fn a_break_found_under_a_registry_lock_is_reported_after_its_release() {
        let notices = Arc::new(Notices::default());
        let settings = ClusterSettings::new("redis://127.0.0.1".parse().unwrap(), "one");
        let shared = SharedState::new(&settings, false);
        shared.set_host(BackplaneHost {
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
        assert!(notices().starts_with("the other servers are unreachable"));
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
