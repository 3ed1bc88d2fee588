//! Metrics of a running server in the Prometheus text format, and its health checks.
//!
//! Counters count events as they are emitted ([`EventObserver`]), and bytes as sockets transfer
//! them. They are atomics, because an event may be emitted under any lock. Gauges are read from the
//! server's state at each request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

#[cfg(feature = "cluster")]
use portal_backplane::RedisBackplane;
use portal_core::event::{EventObserver, Events, Field, FieldValue};
use portal_sessions::state::ChatState;
pub use portal_web::status::Status;

use crate::clock::slowed;
use crate::net::Call;
use crate::seat::Phase;
use crate::start::{Server, Settings};

/// Number of tick periods without a tick after which the server is reported as stuck.
const STUCK_AFTER: u32 = 10;

/// Counts since the start. Shared by all threads that emit events or use sockets.
#[derive(Debug, Default)]
pub struct Counters {
    /// By entrance.
    connections: CountsByWord,
    /// By kind of recipient.
    messages: CountsByWord,
    /// By reason.
    refused: CountsByWord,
    /// By reason.
    closed: CountsByWord,
    received: AtomicU64,
    sent: AtomicU64,
    /// Milliseconds from the start of [`ServerStatus`] to the last tick.
    ticked: AtomicU64,
    begun: OnceLock<Instant>,
    is_single: AtomicBool,
}

impl Counters {
    /// Counts the bytes of a socket call, excluding the overhead of TLS.
    pub(crate) fn count_call(&self, call: &Call<'_>) {
        let bytes = match call.name {
            "read" | "recv_from" => &self.received,
            "write" | "send_to" => &self.sent,
            _ => return,
        };
        if let Ok(count) = call.result {
            bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl EventObserver for Counters {
    fn observe(&self, kind: &'static str, fields: &[Field]) {
        let word = |name: &str| {
            let field = fields.iter().find(|(there, _)| there == name);
            field.and_then(|(_, value)| match value {
                FieldValue::Text(Cow::Borrowed(word)) => Some(*word),
                _ => None,
            })
        };
        match kind {
            "seated" if self.is_single.load(Ordering::Relaxed) => {
                self.connections.add(word("via").unwrap_or("single-port"));
            }
            "seated" => self.connections.add(word("via").unwrap_or("portal")),
            "relayed" => self.messages.add("partner"),
            "public" => self.messages.add("public"),
            "direct" => self.messages.add("direct"),
            "room-said" => self.messages.add("room"),
            "closed" => self.closed.add(word("end").unwrap_or("other")),
            // A client's document, counted by error code.
            "refused" => self.refused.add(word("code").unwrap_or("other")),
            // Connections and requests for a seat, counted by kind of event.
            "full"
            | "no-show"
            | "wrong-passcode"
            | "unexpected-connection"
            | "tls-failed"
            | "wrong-protocol"
            | "http-refused" => self.refused.add(kind),
            "password-wrong" => self.refused.add("wrong-password"),
            "token-wrong" => self.refused.add("bad-token"),
            "tick" => {
                if let Some(begun) = self.begun.get() {
                    self.ticked
                        .store(millis(begun.elapsed()), Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

/// Counts occurrences of a small set of words, which need not be known in advance, without a lock.
#[derive(Debug)]
struct CountsByWord {
    /// Filled from the front.
    places: [SeatPlace; WORDS],
    /// Counts all words that arrived after the places were used up.
    other: AtomicU64,
}

/// Maximum number of words. There are fewer error codes than this, and fewer close reasons.
const WORDS: usize = 64;

#[derive(Debug, Default)]
struct SeatPlace {
    word: OnceLock<&'static str>,
    count: AtomicU64,
}

impl Default for CountsByWord {
    fn default() -> CountsByWord {
        CountsByWord {
            places: std::array::from_fn(|_| SeatPlace::default()),
            other: AtomicU64::new(0),
        }
    }
}

impl CountsByWord {
    fn add(&self, word: &'static str) {
        let place = self.places.iter().find(|place| {
            // Another thread may have claimed the place in the meantime, possibly for the same
            // word.
            *place.word.get_or_init(|| word) == word
        });
        let count = place.map_or(&self.other, |place| &place.count);
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts, and 0 for each of `words` without a count.
    fn read(&self, words: &[&'static str]) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<_, _> = words.iter().map(|word| (*word, 0)).collect();
        let places = self.places.iter();
        counts.extend(places.map_while(|place| {
            let count = place.count.load(Ordering::Relaxed);
            Some((*place.word.get()?, count))
        }));
        let other = self.other.load(Ordering::Relaxed);
        if other > 0 {
            *counts.entry("other").or_default() += other;
        }
        counts
    }
}

/// The state of the server, from before startup until after shutdown.
pub struct ServerStatus {
    counters: Arc<Counters>,
    dropped: Arc<AtomicU64>,
    begun: Instant,
    started_at: SystemTime,
    tick: Duration,
    /// Set once the server has started.
    server: OnceLock<ObservedServer>,
    is_stopping: AtomicBool,
}

/// Weak references to the server's state. With a strong one, the thread that answers a request
/// could be the one that drops the server.
struct ObservedServer {
    state: Weak<ChatState>,
    #[cfg(feature = "cluster")]
    cluster: Option<Weak<RedisBackplane>>,
}

impl ServerStatus {
    /// Creates the status of a server that will start with these settings. Starts counting the
    /// events from this handle and from clones made later.
    pub fn new(settings: &Settings, events: &mut Events) -> (Arc<ServerStatus>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let begun = *counters.begun.get_or_init(Instant::now);
        let is_single = settings.single_port.is_some();
        counters.is_single.store(is_single, Ordering::Relaxed);
        events.observe_with(Arc::clone(&counters) as _);
        let status = ServerStatus {
            counters: Arc::clone(&counters),
            dropped: events.dropped(),
            begun,
            started_at: SystemTime::now(),
            tick: slowed(settings.tick),
            server: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
        };
        (Arc::new(status), counters)
    }

    /// Records that the server has started.
    pub fn has_started(&self, server: &Server) {
        let started = ObservedServer {
            state: Arc::downgrade(server.chat()),
            #[cfg(feature = "cluster")]
            cluster: server.shared_cluster().map(Arc::downgrade),
        };
        // Only this function sets it, and the function is called once, so this can't fail.
        let _ = self.server.set(started);
    }

    /// Records that the server is about to stop.
    pub fn will_stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    fn state(&self) -> Option<Arc<ChatState>> {
        self.server.get()?.state.upgrade()
    }
}

impl Status for ServerStatus {
    fn health(&self) -> Result<(), String> {
        if self.server.get().is_none() || self.is_stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        let ticked = Duration::from_millis(self.counters.ticked.load(Ordering::Relaxed));
        let since = self.begun.elapsed().saturating_sub(ticked);
        if ticked.is_zero() || since <= self.tick * STUCK_AFTER {
            return Ok(());
        }
        let since = since.as_secs();
        Err(format!(
            "the clock has not ticked for {since} s; restart the server"
        ))
    }

    fn readiness(&self) -> Result<(), String> {
        if self.is_stopping.load(Ordering::Acquire) {
            return Err("shutting down".to_owned());
        }
        if self.server.get().is_none() {
            return Err("starting".to_owned());
        }
        let state = self.state().filter(|state| !state.clock.is_stopped());
        let Some(state) = state else {
            return Err("shutting down".to_owned());
        };
        if state.seats.free_ports().is_empty() {
            let seats = state.seats.all().len();
            return Err(format!("full: all {seats} seats are taken"));
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        let mut page = Exposition::default();
        let version = env!("CARGO_PKG_VERSION");
        page.family("portal_chat_build_info", "gauge", "Version of the server.");
        page.sample("portal_chat_build_info", Some(("version", version)), 1);
        page.single(
            "portal_chat_start_time_seconds",
            "gauge",
            "Start time of the server, in seconds since the Unix epoch.",
            seconds(
                self.started_at
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
        );
        page.single(
            "portal_chat_uptime_seconds",
            "gauge",
            "Time since the server started, in seconds.",
            seconds(self.begun.elapsed()),
        );
        if let Some(threads) = threads() {
            page.single(
                "portal_chat_threads",
                "gauge",
                "Number of threads in the process.",
                threads,
            );
        }
        self.counted(&mut page);
        if let Some(state) = self.state() {
            gauges(&state, &mut page);
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = self.server.get().and_then(|server| server.cluster.as_ref())
            && let Some(cluster) = cluster.upgrade()
        {
            backplane(&cluster, &mut page);
        }
        page.0
    }
}

impl ServerStatus {
    fn counted(&self, page: &mut Exposition) {
        let counters = &self.counters;
        let entrance = match counters.is_single.load(Ordering::Relaxed) {
            true => "single-port",
            false => "portal",
        };
        page.counts(
            "portal_chat_connections_total",
            "Clients admitted to a seat, by entrance.",
            "entrance",
            &counters.connections.read(&[entrance, "web"]),
        );
        page.counts(
            "portal_chat_sessions_closed_total",
            "Sessions closed, by reason.",
            "reason",
            &counters.closed.read(&[]),
        );
        page.counts(
            "portal_chat_messages_total",
            "Messages delivered, by kind of recipient.",
            "to",
            &counters
                .messages
                .read(&["partner", "public", "direct", "room"]),
        );
        page.counts(
            "portal_chat_refused_total",
            "Connections, requests and documents refused, by reason.",
            "reason",
            &counters
                .refused
                .read(&["full", "wrong-passcode", "wrong-password"]),
        );
        for (name, about, count) in [
            (
                "portal_chat_received_bytes_total",
                "Bytes received from clients, excluding TLS overhead.",
                &counters.received,
            ),
            (
                "portal_chat_sent_bytes_total",
                "Bytes sent to clients, excluding TLS overhead.",
                &counters.sent,
            ),
            (
                "portal_chat_events_dropped_total",
                "Events dropped because a reader (console, event file or board) was too slow.",
                &*self.dropped,
            ),
        ] {
            page.single(name, "counter", about, count.load(Ordering::Relaxed));
        }
    }
}

fn gauges(state: &ChatState, page: &mut Exposition) {
    const PHASES: [Phase; 6] = [
        Phase::Free,
        Phase::Reserved,
        Phase::Greeting,
        Phase::Calling,
        Phase::Seated,
        Phase::Closing,
    ];
    let mut seats: BTreeMap<_, u64> = PHASES.iter().map(|phase| (phase.word(), 0)).collect();
    let mut connections = Vec::new();
    for seat in state.seats.all() {
        let (phase, connection) =
            seat.with_seat(|occupied| (occupied.seat.phase(), occupied.connection.clone()));
        *seats.entry(phase.word()).or_default() += 1;
        connections.extend(connection);
    }
    page.family("portal_chat_seats", "gauge", "Number of seats, by state.");
    for (phase, count) in seats {
        page.sample("portal_chat_seats", Some(("state", phase)), count);
    }
    page.single(
        "portal_chat_users",
        "gauge",
        "Clients that are logged in.",
        state.users.names().len(),
    );
    let (rooms, in_rooms) = state
        .rooms
        .with(|rooms| (rooms.names().len(), rooms.connections()));
    page.single("portal_chat_rooms", "gauge", "Number of rooms.", rooms);
    connections.extend(in_rooms);
    let waiting: usize = connections.iter().map(|there| there.outbox.pending()).sum();
    page.single(
        "portal_chat_outbox_bytes",
        "gauge",
        "Bytes queued for clients whose sockets are full.",
        waiting,
    );
}

#[cfg(feature = "cluster")]
fn backplane(cluster: &RedisBackplane, page: &mut Exposition) {
    page.single(
        "portal_chat_backplane_up",
        "gauge",
        "1 if Redis is reachable, otherwise 0.",
        u8::from(cluster.is_up()),
    );
    page.family(
        "portal_chat_backplane_lag_seconds",
        "gauge",
        "Duration of each server's last request to Redis, in seconds.",
    );
    for server in cluster.servers().iter().filter(|server| server.lives) {
        let lag = seconds(server.lag);
        let label = Some(("server", &*server.id));
        page.sample("portal_chat_backplane_lag_seconds", label, lag);
    }
}

/// Returns the number of threads of this process, if the system publishes it.
fn threads() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("Threads:"))?;
    count.trim().parse().ok()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Text in the Prometheus format.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// Begins a family of samples.
    fn family(&mut self, name: &str, kind: &str, about: &str) {
        self.line(format_args!("# HELP {name} {about}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        match label {
            None => self.line(format_args!("{name} {value}")),
            Some((label, text)) => {
                self.line(format_args!(
                    "{name}{{{label}=\"{}\"}} {value}",
                    Escaped(text)
                ));
            }
        }
    }

    fn single(&mut self, name: &str, kind: &str, about: &str, value: impl Display) {
        self.family(name, kind, about);
        self.sample(name, None, value);
    }

    fn counts(&mut self, name: &str, about: &str, label: &str, counts: &BTreeMap<&str, u64>) {
        self.family(name, "counter", about);
        for (word, count) in counts {
            self.sample(name, Some((label, word)), count);
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// The value of a label, between quotation marks.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::event::{CoreEvent, SessionEvent};
    use crate::wire::Port;

    #[test]
    fn each_word_has_its_own_count() {
        let counts = CountsByWord::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for word in ["one", "two", "one"] {
                        counts.add(word);
                    }
                });
            }
        });
        let read = counts.read(&["three"]);
        assert_eq!(read, BTreeMap::from([("one", 8), ("three", 0), ("two", 4)]));
    }

    #[test]
    fn words_without_a_place_are_counted_together() {
        let counts = CountsByWord::default();
        for number in 0..WORDS + 3 {
            counts.add(number.to_string().leak());
        }
        let read = counts.read(&[]);
        assert_eq!((read.len(), read["other"]), (WORDS + 1, 3));
    }

    #[test]
    fn events_are_counted_by_kind_and_reason() {
        let mut events = Events::new(Clock::new());
        let (status, _) = ServerStatus::new(&Settings::default(), &mut events);
        let (port, peer) = (Port::new(50001).unwrap(), ([127, 0, 0, 1], 9).into());
        events.emit(|| CoreEvent::Seated {
            port,
            peer,
            via: None,
            seat: None,
        });
        events.emit(|| CoreEvent::Seated {
            port,
            peer,
            via: Some("web"),
            seat: None,
        });
        events.emit(|| CoreEvent::Full { asker: peer });
        events.emit(|| SessionEvent::WrongPassword {
            port,
            name: "alice".to_owned(),
        });
        let page = status.metrics();
        for line in [
            "portal_chat_connections_total{entrance=\"portal\"} 1",
            "portal_chat_connections_total{entrance=\"web\"} 1",
            "portal_chat_refused_total{reason=\"full\"} 1",
            "portal_chat_refused_total{reason=\"wrong-password\"} 1",
            "portal_chat_refused_total{reason=\"wrong-passcode\"} 0",
            "portal_chat_messages_total{to=\"room\"} 0",
        ] {
            assert!(page.lines().any(|there| there == line), "{line}: {page}");
        }
        assert!(!page.contains("alice"), "{page}");
    }

    #[test]
    fn a_label_value_is_escaped() {
        let mut page = Exposition::default();
        page.sample("a", Some(("b", "\"\\\n\u{1b}")), 1);
        assert_eq!(page.0, "a{b=\"\\\"\\\\\\n\u{fffd}\"} 1\n");
    }
}
