//! Telling what happened, and the bounded queue of each reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::shutter::Shutter;
use super::what::{Event, What};
use crate::clock::{Clock, Tick};
use crate::net::{Opening, Port};
use crate::seat::Passcode;
use crate::web::http::{Refusal, Refused};

/// Where events are told.
#[derive(Clone)]
pub struct Events {
    clock: Clock,
    with_texts: bool,
    with_passcodes: bool,
    with_calls: bool,
    readers: Vec<Reader>,
    /// Recent failures. A leaf lock, shared by all handles.
    failures: Arc<Mutex<HashMap<Failure, Repeats>>>,
}

#[derive(Clone)]
struct Reader {
    events: Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// For a reader that wants to see calls, but only so much of the traffic.
    shutter: Option<Shutter>,
}

/// The failed operation, and the system's reason.
type Failure = (&'static str, String);

/// A failure that may repeat hundreds of times a minute.
struct Repeats {
    told_at: Tick,
    last: Tick,
    /// Number of failures since the last event.
    untold: u64,
}

/// Number of ticks between two events for a repeated failure; each has a count.
const TOLD_EVERY: u64 = 60;
/// Number of ticks without the failure after which it is over, and an event has the rest of the
/// count.
const OVER_AFTER: u64 = 10;
/// Number of different failures that are counted at a time. Each further one gets an event at once.
const FAILURES: usize = 64;

/// How much there is of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Somebody's coming and going.
    Change,
    /// A tick, or that somebody was heard: only the board needs it.
    Pulse,
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
            failures: Arc::default(),
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

    /// Emits the event for a refused HTTP request at `port`, except if the path does not exist: browsers
    /// request some paths on their own.
    pub(crate) fn tell_refused(&self, refused: &Refused, port: Port) {
        let peer = refused.client;
        match &refused.refusal {
            Refusal::NotFound => {}
            Refusal::Opening(opening @ Opening::Tls) => {
                let error = opening.to_string();
                self.tell(|| What::TlsFailed { port, peer, error });
            }
            refusal => self.tell(|| What::HttpRefused {
                port,
                peer,
                status: refusal.status().to_owned(),
                reason: refusal.to_string(),
            }),
        }
    }

    /// As [`Events::tell`], for what only moves the board's clock on.
    pub fn tell_pulse(&self, what: impl FnOnce() -> What) {
        self.tell_of(Kind::Pulse, what);
    }

    /// As [`Events::tell`], for what happens with every message.
    pub fn tell_traffic(&self, what: impl FnOnce() -> What) {
        self.tell_of(Kind::Traffic, what);
    }

    /// As [`Events::tell`], for what happens with every call of a socket.
    pub fn tell_call(&self, what: impl FnOnce() -> What) {
        self.tell_of(Kind::Call, what);
    }

    /// Reports that the system has refused something. The first failure is an event at once;
    /// repeated ones are counted, and an event has their number once a minute.
    pub fn tell_trouble(&self, doing: &'static str, error: String) {
        let now = self.clock.now();
        let times = {
            let mut failures = self.failures.lock();
            let is_full = failures.len() >= FAILURES;
            match failures.get_mut(&(doing, error.clone())) {
                Some(repeats) => {
                    repeats.last = now;
                    repeats.untold += 1;
                    if now.0 - repeats.told_at.0 < TOLD_EVERY {
                        return;
                    }
                    repeats.told_at = now;
                    Some(std::mem::take(&mut repeats.untold))
                }
                None if is_full => None,
                None => {
                    let repeats = Repeats {
                        told_at: now,
                        last: now,
                        untold: 0,
                    };
                    failures.insert((doing, error.clone()), repeats);
                    None
                }
            }
        };
        self.tell(|| What::Trouble {
            doing,
            error,
            times,
        });
    }

    /// Emits a tick, and the final counts of failures that have stopped.
    pub fn tell_tick(&self, told: usize) {
        self.tell_pulse(|| What::Ticked { told });
        let now = self.clock.now();
        self.tell_counts(|repeats| now.0 - repeats.last.0 >= OVER_AFTER);
    }

    /// Emits the unreported count of each failure that `is_over`, and forgets the failure.
    fn tell_counts(&self, is_over: impl Fn(&Repeats) -> bool) {
        let over: Vec<(Failure, Repeats)> = {
            let mut failures = self.failures.lock();
            failures.extract_if(|_, repeats| is_over(repeats)).collect()
        };
        for ((doing, error), Repeats { untold, .. }) in over {
            if untold > 0 {
                self.tell(|| What::Trouble {
                    doing,
                    error,
                    times: Some(untold),
                });
            }
        }
    }

    /// Emits all unreported counts, at the end of the server.
    pub fn tell_last_counts(&self) {
        self.tell_counts(|_| true);
    }

    fn tell_of(&self, kind: Kind, what: impl FnOnce() -> What) {
        let wants = |reader: &&Reader| match &reader.shutter {
            _ if matches!(kind, Kind::Change | Kind::Pulse) => true,
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
            reader.tell(kind, event.clone());
            reader = next;
        }
        reader.tell(kind, event);
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
    /// What comes with every message has half of the queue, so that what matters is not lost in it: a
    /// change is dropped only when changes alone fill the other half.
    fn tell(&self, kind: Kind, event: Event) {
        let has_room = kind == Kind::Change
            || self
                .events
                .capacity()
                .is_none_or(|most| self.events.len() < most.div_ceil(2));
        if !has_room || self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_failure_that_repeats_is_told_once_and_counted() {
        let clock = Clock::new();
        let mut events = Events::new(clock.clone(), false);
        let queue = events.add_reader(1000);
        let (no_more, other) = ("too many open files", "out of memory");
        let fails = |error: &str| events.clone().tell_trouble("accept", error.to_owned());
        let told = || {
            let told = queue.events().try_iter();
            let troubles = told.filter_map(|event| match event.what {
                What::Trouble { error, times, .. } => Some((error, times)),
                _ => None,
            });
            troubles.collect::<Vec<_>>()
        };
        let one = |error: &str, times| vec![(error.to_owned(), times)];
        // Ten failures a second, for two minutes.
        fails(no_more);
        assert_eq!(told(), one(no_more, None));
        for tick in 1..=120 {
            clock.beat();
            events.tell_tick(0);
            (0..10).for_each(|_| fails(no_more));
            match tick {
                60 => assert_eq!(told(), one(no_more, Some(591))),
                120 => assert_eq!(told(), one(no_more, Some(600))),
                _ => assert_eq!(told(), []),
            }
        }
        // A different failure has its own event.
        fails(other);
        assert_eq!(told(), one(other, None));
        // The failure is over: its unreported count is emitted, if there is one.
        for tick in 1..=20 {
            clock.beat();
            events.tell_tick(0);
            match tick {
                10 => assert_eq!(told(), one(no_more, Some(9))),
                _ => assert_eq!(told(), []),
            }
        }
        fails(no_more);
        fails(no_more);
        assert_eq!(told(), one(no_more, None));
        events.tell_last_counts();
        assert_eq!(told(), one(no_more, Some(1)));
        // The number of remembered failures is limited.
        for number in 0..2 * FAILURES {
            fails(&number.to_string());
        }
        assert_eq!(told().len(), 2 * FAILURES);
        assert_eq!(events.failures.lock().len(), FAILURES);
    }

    #[test]
    fn nothing_is_built_when_nobody_reads() {
        Events::new(Clock::new(), true).tell(|| panic!("built"));
    }

    #[test]
    fn traffic_leaves_room_for_what_matters() {
        let mut events = Events::new(Clock::new(), false);
        let queue = events.add_reader(8);
        let what = || What::ShuttingDown { why: None };
        for _ in 0..100 {
            events.tell_traffic(what);
            events.tell_pulse(what);
        }
        assert_eq!((queue.events().len(), queue.take_dropped()), (4, 196));
        for _ in 0..4 {
            events.tell(what);
        }
        assert_eq!((queue.events().len(), queue.take_dropped()), (8, 0));
    }
}
