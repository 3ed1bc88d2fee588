//! Emitting events, and the bounded queue of each reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use portal_net::lock::Mutex;

use super::traffic_gate::TrafficGate;
use super::{CoreEvent, Event, EventKind, Field, SocketCall};
use crate::clock::Clock;
use crate::seat::Passcode;
use crate::tick::Tick;

/// A handle for emitting events.
#[derive(Clone)]
pub struct Events {
    clock: Clock,
    with_texts: bool,
    with_passcodes: bool,
    with_calls: bool,
    with_threads: bool,
    readers: Vec<Reader>,
    observer: Option<Arc<dyn EventObserver>>,
    /// Number of events dropped because a reader's queue was full, for all readers together.
    dropped: Arc<AtomicU64>,
    /// Recent failures, under a leaf lock that all handles share.
    failures: Arc<Mutex<HashMap<FailureKey, Repeats>>>,
}

#[derive(Clone)]
struct Reader {
    events: Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// Set for a reader that gets socket calls and traffic at a limited rate.
    gate: Option<TrafficGate>,
}

/// The failed operation, and the system's reason.
type FailureKey = (&'static str, String);

/// A failure that may repeat hundreds of times a minute.
struct Repeats {
    emitted_at: Tick,
    last: Tick,
    /// Number of failures since the last event.
    unreported: u64,
}

/// Number of ticks between two events for a repeated failure. Each of these events contains a
/// count.
const REPORT_EVERY: u64 = 60;
/// Number of ticks without a repetition after which a failure is considered over. A final event
/// then reports the remaining count.
const OVER_AFTER: u64 = 10;
/// Maximum number of different failures that are counted at a time. Each further one causes an
/// event immediately.
const FAILURES: usize = 64;

/// The frequency of a kind of event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Volume {
    /// A few per visit.
    Change,
    /// At most one per tick and client.
    Pulse,
    /// One per message.
    Traffic,
    /// Several per message.
    Call,
}

/// Observes each event when it is emitted, for example to count it. Unlike a reader, it misses no
/// event.
pub trait EventObserver: Send + Sync {
    /// Called when an event of this kind is emitted. The emitting thread may hold any lock, so this
    /// must neither block nor take a lock.
    fn observe(&self, kind: &'static str, fields: &[Field]);
}

/// One reader's queue of events.
pub struct EventQueue {
    events: Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventQueue {
    /// The events in order. The channel disconnects when the last [`Events`] handle is dropped.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Returns the number of events dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Events {
    /// Creates a handle that uses `clock`'s ticks, without readers. Message texts, passcodes and
    /// socket calls are off.
    pub fn new(clock: Clock) -> Events {
        Events {
            clock,
            with_texts: false,
            with_passcodes: false,
            with_calls: false,
            with_threads: false,
            readers: Vec::new(),
            observer: None,
            dropped: Arc::default(),
            failures: Arc::default(),
        }
    }

    /// Includes the texts of messages in all later events.
    pub fn show_texts(&mut self) {
        self.with_texts = true;
    }

    /// Includes passcodes in all later events.
    pub fn show_passcodes(&mut self) {
        self.with_passcodes = true;
    }

    /// Sends socket calls to every reader from now on.
    pub fn show_calls(&mut self) {
        self.with_calls = true;
    }

    /// Returns whether any reader gets socket calls.
    pub fn want_calls(&self) -> bool {
        self.with_calls || self.readers.iter().any(|reader| reader.gate.is_some())
    }

    /// Reports the start and the exit of each thread to every reader from now on.
    pub fn show_threads(&mut self) {
        self.with_threads = true;
    }

    /// Returns whether any reader needs the start and the exit of each thread.
    pub fn want_threads(&self) -> bool {
        self.with_threads || self.readers.iter().any(|reader| reader.gate.is_some())
    }

    /// Adds a reader whose queue has room for `capacity` events. It gets the events from this
    /// handle and from clones made later, so readers are added before the server starts.
    pub fn add_reader(&mut self, capacity: usize) -> EventQueue {
        self.add(capacity, None)
    }

    /// Adds a reader that gets every change. Its gate limits the traffic and the socket calls, and
    /// is closed at first.
    pub fn add_gated_reader(&mut self, capacity: usize) -> (EventQueue, TrafficGate) {
        let gate = TrafficGate::new();
        (self.add(capacity, Some(gate.clone())), gate)
    }

    /// Sets the observer for events from this handle and from clones made later. Socket calls are
    /// not observed.
    pub fn observe_with(&mut self, observer: Arc<dyn EventObserver>) {
        self.observer = Some(observer);
    }

    /// The number of events dropped because a reader's queue was full, for all readers and handles
    /// together.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    fn add(&mut self, capacity: usize, gate: Option<TrafficGate>) -> EventQueue {
        let (sender, events) = bounded(capacity);
        let dropped = Arc::<AtomicU64>::default();
        self.readers.push(Reader {
            events: sender,
            dropped: Arc::clone(&dropped),
            gate,
        });
        EventQueue { events, dropped }
    }

    /// Emits an event from the current thread. `kind` is called only if there is a reader or an
    /// observer.
    pub fn emit<K: EventKind>(&self, kind: impl FnOnce() -> K) {
        self.emit_at(Volume::Change, kind);
    }

    /// Like [`Events::emit`], for events that may occur in every tick.
    pub fn emit_pulse<K: EventKind>(&self, kind: impl FnOnce() -> K) {
        self.emit_at(Volume::Pulse, kind);
    }

    /// Like [`Events::emit`], for events that occur with every message.
    pub fn emit_traffic<K: EventKind>(&self, kind: impl FnOnce() -> K) {
        self.emit_at(Volume::Traffic, kind);
    }

    /// Like [`Events::emit`], for a socket call.
    pub fn emit_call(&self, call: impl FnOnce() -> SocketCall) {
        self.emit_at(Volume::Call, call);
    }

    /// Reports a failed system call. The first failure causes an event immediately. Repeated ones
    /// are counted, and an event reports their number every `REPORT_EVERY` ticks.
    pub fn emit_failure(&self, doing: &'static str, error: String) {
        let now = self.clock.now();
        let times = {
            let mut failures = self.failures.lock();
            let is_full = failures.len() >= FAILURES;
            match failures.get_mut(&(doing, error.clone())) {
                Some(repeats) => {
                    repeats.last = now;
                    repeats.unreported += 1;
                    if now.0 - repeats.emitted_at.0 < REPORT_EVERY {
                        return;
                    }
                    repeats.emitted_at = now;
                    Some(std::mem::take(&mut repeats.unreported))
                }
                None if is_full => None,
                None => {
                    let repeats = Repeats {
                        emitted_at: now,
                        last: now,
                        unreported: 0,
                    };
                    failures.insert((doing, error.clone()), repeats);
                    None
                }
            }
        };
        self.emit(|| CoreEvent::Error {
            doing,
            error,
            times,
        });
    }

    /// Emits a tick, and the final counts of failures that have stopped.
    pub fn emit_tick(&self, reported: usize) {
        self.emit_pulse(|| CoreEvent::Ticked { told: reported });
        let now = self.clock.now();
        self.emit_counts(|repeats| now.0 - repeats.last.0 >= OVER_AFTER);
    }

    /// Emits the unreported count of each failure that `is_over`, and forgets the failure.
    fn emit_counts(&self, is_over: impl Fn(&Repeats) -> bool) {
        let over: Vec<(FailureKey, Repeats)> = {
            let mut failures = self.failures.lock();
            failures.extract_if(|_, repeats| is_over(repeats)).collect()
        };
        for ((doing, error), Repeats { unreported, .. }) in over {
            if unreported > 0 {
                self.emit(|| CoreEvent::Error {
                    doing,
                    error,
                    times: Some(unreported),
                });
            }
        }
    }

    /// Emits all unreported counts, when the server stops.
    pub fn emit_last_counts(&self) {
        self.emit_counts(|_| true);
    }

    fn emit_at<K: EventKind>(&self, volume: Volume, kind: impl FnOnce() -> K) {
        let wants = |reader: &&Reader| match &reader.gate {
            _ if matches!(volume, Volume::Change | Volume::Pulse) => true,
            Some(gate) => gate.lets_through(),
            None => volume == Volume::Traffic || self.with_calls,
        };
        // Ask each gate only once, because asking counts the event.
        let mut readers = self.readers.iter().filter(wants);
        let first = readers.next();
        let observer = self.observer.as_ref().filter(|_| volume != Volume::Call);
        if first.is_none() && observer.is_none() {
            return;
        }
        let (kind, fields) = kind().into_parts();
        if let Some(observer) = observer {
            observer.observe(kind, &fields);
        }
        let Some(mut reader) = first else { return };
        let event = Event::of_parts(self.clock.now(), kind, fields);
        for next in readers {
            self.queue(reader, volume, event.clone());
            reader = next;
        }
        self.queue(reader, volume, event);
    }

    fn queue(&self, reader: &Reader, volume: Volume, event: Event) {
        if !reader.queue(volume, event) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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
    /// Only changes may use the second half of the queue, so that traffic can't displace them.
    /// Returns `false` if the event is dropped.
    fn queue(&self, volume: Volume, event: Event) -> bool {
        let has_room = volume == Volume::Change
            || self
                .events
                .capacity()
                .is_none_or(|most| self.events.len() < most.div_ceil(2));
        let is_queued = has_room && self.events.try_send(event).is_ok();
        if !is_queued {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_changes_through_and_limits_traffic() {
        let mut events = Events::new(Clock::new());
        let plain = events.add_reader(16);
        let (board, gate) = events.add_gated_reader(16);
        let call = || SocketCall {
            call: "read",
            address: None,
            wanted: None,
            got: None,
            failed: None,
            bytes: None,
        };
        let fail = || {
            events.emit(|| CoreEvent::ShuttingDown { why: None });
            events.emit_traffic(|| CoreEvent::ShuttingDown { why: None });
            events.emit_call(call);
        };
        fail();
        assert_eq!((plain.events().len(), board.events().len()), (2, 1));
        gate.open_for(3);
        fail();
        fail();
        assert_eq!((plain.events().len(), board.events().len()), (6, 6));
        assert_eq!((gate.take_missed(), gate.take_missed()), (1, 0));
        gate.open_for(0);
        fail();
        assert_eq!(gate.take_missed(), 0);
    }

    #[test]
    fn a_full_queue_drops_and_counts_events() {
        let mut events = Events::new(Clock::new());
        let (slow, quick) = (events.add_reader(1), events.add_reader(8));
        for _ in 0..4 {
            events.emit(|| CoreEvent::ShuttingDown { why: None });
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
    fn an_observer_sees_all_events_except_socket_calls_even_without_readers() {
        #[derive(Default)]
        struct Kinds(Mutex<Vec<(&'static str, usize)>>);
        impl EventObserver for Kinds {
            fn observe(&self, kind: &'static str, fields: &[Field]) {
                self.0.lock().push((kind, fields.len()));
            }
        }
        let kinds = Arc::new(Kinds::default());
        let mut events = Events::new(Clock::new());
        events.observe_with(Arc::clone(&kinds) as _);
        events.emit_traffic(|| CoreEvent::ShuttingDown { why: None });
        let full = events.add_reader(1);
        for _ in 0..3 {
            events.emit(|| CoreEvent::Ticked { told: 7 });
        }
        let call = SocketCall {
            call: "read",
            address: None,
            wanted: None,
            got: None,
            failed: None,
            bytes: None,
        };
        events.show_calls();
        events.emit_call(|| call);
        let ticks = [("tick", 1); 3];
        assert_eq!(
            *kinds.0.lock(),
            [&[("shutting-down", 0)][..], &ticks].concat()
        );
        assert_eq!(events.dropped().load(Ordering::Relaxed), 3);
        assert_eq!(full.take_dropped(), 3);
    }

    #[test]
    fn a_repeated_failure_is_reported_once_and_counted() {
        let clock = Clock::new();
        let mut events = Events::new(clock.clone());
        let queue = events.add_reader(1000);
        let (no_more, other) = ("too many open files", "out of memory");
        let fails = |error: &str| events.clone().emit_failure("accept", error.to_owned());
        let reported = || {
            let reported = queue.events().try_iter();
            let failures = reported.filter(|event| event.kind == "error");
            let parts = |event: Event| {
                let error = event.text("error").unwrap();
                (error.to_owned(), event.number("times"))
            };
            failures.map(parts).collect::<Vec<_>>()
        };
        let one = |error: &str, times| vec![(error.to_owned(), times)];
        // Ten failures per second for 120 s.
        fails(no_more);
        assert_eq!(reported(), one(no_more, None));
        for tick in 1..=120 {
            clock.beat();
            events.emit_tick(0);
            (0..10).for_each(|_| fails(no_more));
            match tick {
                60 => assert_eq!(reported(), one(no_more, Some(591))),
                120 => assert_eq!(reported(), one(no_more, Some(600))),
                _ => assert_eq!(reported(), []),
            }
        }
        // A different failure has its own event.
        fails(other);
        assert_eq!(reported(), one(other, None));
        // The failure is over: its unreported count is emitted, if there is one.
        for tick in 1..=20 {
            clock.beat();
            events.emit_tick(0);
            match tick {
                10 => assert_eq!(reported(), one(no_more, Some(9))),
                _ => assert_eq!(reported(), []),
            }
        }
        fails(no_more);
        fails(no_more);
        assert_eq!(reported(), one(no_more, None));
        events.emit_last_counts();
        assert_eq!(reported(), one(no_more, Some(1)));
        // The number of remembered failures is limited.
        for number in 0..2 * FAILURES {
            fails(&number.to_string());
        }
        assert_eq!(reported().len(), 2 * FAILURES);
        assert_eq!(events.failures.lock().len(), FAILURES);
    }

    #[test]
    fn events_are_not_built_without_readers() {
        Events::new(Clock::new()).emit(|| -> CoreEvent { panic!("built") });
    }

    #[test]
    fn traffic_leaves_room_for_changes() {
        let mut events = Events::new(Clock::new());
        let queue = events.add_reader(8);
        let what = || CoreEvent::ShuttingDown { why: None };
        for _ in 0..100 {
            events.emit_traffic(what);
            events.emit_pulse(what);
        }
        assert_eq!((queue.events().len(), queue.take_dropped()), (4, 196));
        for _ in 0..4 {
            events.emit(what);
        }
        assert_eq!((queue.events().len(), queue.take_dropped()), (8, 0));
    }
}
