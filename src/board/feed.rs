//! Distributes events to the viewers: one thread processes them and appends updates to each
//! viewer's bounded queue.
//!
//! No thread waits for a viewer. If a viewer's queue is full, the viewer is removed. Once the
//! viewer has read its queue, it starts again with the complete snapshot. Events that occur close
//! together form one update, and [`TrafficGate`] limits the traffic events, so a busy server costs
//! the board no more than a quiet one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::{Map, Value, json};

use portal_core::clock::Tick;
use portal_core::event::{CoreEvent, Event, EventQueue, FieldValue, TOO_FAST, TrafficGate};
use portal_net::lock::Mutex;

use super::redactor::Redactor;
use super::snapshot::Snapshot;

/// Minimum interval between two updates.
const TOGETHER: Duration = Duration::from_millis(80);

/// Maximum number of traffic events per update. A viewer could not follow more.
const TRAFFIC: u32 = 40;

/// Maximum number of events that arrive in one update.
const BATCH: usize = 8 * 1024;

/// Number of past events that a new viewer gets.
pub(super) const REMEMBERED: usize = 600;

/// Maximum number of queued updates for a viewer, enough for about five seconds.
const WAITING: usize = 64;

/// The feed of a running server.
pub(super) struct Feed {
    gate: TrafficGate,
    shared: Mutex<FeedState>,
}

struct FeedState {
    log: EventLog,
    viewers: Vec<Sender<Arc<str>>>,
    is_over: bool,
}

impl Feed {
    pub(super) fn new(gate: TrafficGate, redactor: Redactor) -> Feed {
        Feed {
            gate,
            shared: Mutex::new(FeedState {
                log: EventLog::new(redactor),
                viewers: Vec::new(),
                is_over: false,
            }),
        }
    }

    /// Adds a viewer. Returns the complete current state and the queue of updates, or `None` if the
    /// feed has stopped.
    pub(super) fn watch(&self) -> Option<(String, Receiver<Arc<str>>)> {
        let mut shared = self.shared.lock();
        let (sender, receiver) = bounded(WAITING);
        if shared.is_over {
            return None;
        }
        shared.viewers.push(sender);
        Some((shared.log.so_far(&Value::Null), receiver))
    }

    /// Runs the thread `board-feed`: processes events until the server or the board stops.
    pub(super) fn serve(&self, queue: &EventQueue, stopped: &Receiver<()>) {
        loop {
            let first = select! {
                recv(queue.events()) -> first => first.ok(),
                // Events that are already queued are still shown.
                recv(stopped) -> _ => queue.events().try_recv().ok(),
            };
            let Some(first) = first else { break };
            let more = queue.events().try_iter().take(BATCH - 1);
            let lost = queue.take_dropped();
            let unseen = self.gate.take_missed();
            let is_watched = self.take_in(std::iter::once(first).chain(more), lost, unseen);
            // Stopping the board interrupts this wait.
            let _ = stopped.recv_timeout(TOGETHER);
            self.gate.open_for(if is_watched { TRAFFIC } else { 0 });
        }
        self.gate.open_for(0);
        let mut shared = self.shared.lock();
        shared.is_over = true;
        shared.viewers.clear();
    }

    /// Processes events and sends an update. Returns `false` if there are no viewers.
    fn take_in(&self, events: impl Iterator<Item = Event>, lost: u64, unseen: u64) -> bool {
        let mut shared = self.shared.lock();
        let mut shown: Vec<Arc<str>> = events.map(|event| shared.log.take_in(event)).collect();
        if lost > 0 {
            let (count, reason) = (lost, TOO_FAST.to_owned());
            let kind = CoreEvent::LinesMissing { count, reason };
            let missing = Event::new(shared.log.tick(), kind);
            shown.push(shared.log.take_in(missing));
        }
        if shared.viewers.is_empty() {
            return false;
        }
        let rest = json!({ "unseen": unseen });
        let news: Arc<str> = news(&shown, &rest).into();
        // A viewer with a full queue is too slow. Removing it here disconnects its channel.
        shared
            .viewers
            .retain(|viewer| viewer.try_send(Arc::clone(&news)).is_ok());
        true
    }
}

/// The latest events, and the snapshots before and after them. A viewer can go back to the first
/// one, one event at a time.
pub(super) struct EventLog {
    snapshot: Snapshot,
    /// The snapshot before the first of the latest events.
    before: Snapshot,
    redactor: Redactor,
    event_count: u64,
    /// The latest events, also as JSON.
    last: VecDeque<(Event, Arc<str>)>,
}

impl EventLog {
    pub(super) fn new(redactor: Redactor) -> EventLog {
        EventLog {
            snapshot: Snapshot::default(),
            before: Snapshot::default(),
            redactor,
            event_count: 0,
            last: VecDeque::new(),
        }
    }

    /// Returns the tick of the last event.
    pub(super) fn tick(&self) -> Tick {
        self.snapshot.tick()
    }

    /// Processes an event, and returns it as a JSON object for the page, with the changes that it
    /// makes to the snapshot.
    pub(super) fn take_in(&mut self, mut event: Event) -> Arc<str> {
        self.redactor.lay_over(&mut event);
        let about = self.snapshot.take_in(&event);
        self.event_count += 1;
        let shown = json!({
            "n": self.event_count,
            "time": milliseconds(event.time),
            "tick": event.tick.0,
            "thread": event.thread,
            "event": event.kind,
            "details": details(&event),
            "seat": about.seat,
            "visit": about.visit,
            "by": about.by,
            "to": about.to,
            "web": about.web,
            "change": self.snapshot.take_changes(),
        });
        let shown: Arc<str> = shown.to_string().into();
        if self.last.len() == REMEMBERED
            && let Some((first, _)) = self.last.pop_front()
        {
            self.before.take_in(&first);
            self.before.take_changes();
        }
        self.last.push_back((event, Arc::clone(&shown)));
        shown
    }

    /// Returns the first update for a new viewer. `replay` is the position in a recorded run.
    pub(super) fn so_far(&self, replay: &Value) -> String {
        let snapshot = self.before.whole();
        let rest = json!({ "whole": true, "picture": snapshot, "replay": replay });
        news(self.last.iter().map(|(_, shown)| shown), &rest)
    }
}

/// Converts a time to milliseconds since the Unix epoch.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns an event's fields by name, in order.
fn details(event: &Event) -> Map<String, Value> {
    let value = |value: &FieldValue| match value {
        FieldValue::Text(text) => Value::from(&**text),
        FieldValue::Number(number) => Value::from(*number),
        FieldValue::Flag(flag) => Value::from(*flag),
    };
    let fields = event.fields.iter();
    fields
        .map(|(name, there)| (name.to_string(), value(there)))
        .collect()
}

/// Builds an update from `events`, which are already JSON, and the members of `rest`.
pub(super) fn news<'e>(events: impl IntoIterator<Item = &'e Arc<str>>, rest: &Value) -> String {
    let events: Vec<&str> = events.into_iter().map(|event| &**event).collect();
    let mut news = rest.to_string();
    // Insert the events before the closing brace.
    news.pop();
    news + ",\"events\":[" + &events.join(",") + "]}"
}

#[cfg(test)]
mod tests {
    use super::*;
    use portal_core::clock::Clock;
    use portal_core::event::Events;

    #[test]
    fn events_that_found_no_room_are_a_line_of_the_story() {
        let mut events = Events::new(Clock::new());
        let (queue, gate) = events.add_gated_reader(1);
        for _ in 0..3 {
            events.emit(|| CoreEvent::ShuttingDown { why: None });
        }
        let redactor = Redactor {
            texts: false,
            secrets: false,
        };
        let feed = Feed::new(gate, redactor);
        // There is no viewer yet.
        feed.take_in(queue.events().try_iter(), queue.take_dropped(), 0);
        let (so_far, _) = feed.watch().unwrap();
        let so_far: Value = serde_json::from_str(&so_far).unwrap();
        let last = &so_far["events"][1];
        assert_eq!(
            (&last["event"], &last["details"]["count"]),
            (&json!("lines-missing"), &json!(2))
        );
    }
}
