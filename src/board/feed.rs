//! From the events to those who watch: one thread takes them in, and hands what is new to a bounded
//! queue for each viewer.
//!
//! Nobody waits for a viewer. One whose queue is full is forgotten, and begins anew with the whole
//! picture when it gets there. What happens within a moment travels together, and of the traffic
//! only so much is let in ([`TrafficGate`]), so that a server at full speed costs a board no more
//! than a slow one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::{Map, Value, json};

use portal_core::event::{ChatEvent, Event, EventQueue, FieldValue, TOO_FAST, TrafficGate};
use portal_net::lock::Mutex;

use super::redactor::Redactor;
use super::snapshot::Snapshot;

/// What happened within so long is shown together.
const TOGETHER: Duration = Duration::from_millis(80);

/// So much of the traffic is shown in that time: more than anybody can see.
const TRAFFIC: u32 = 40;

/// Events that are handled together at most.
const BATCH: usize = 8 * 1024;

/// So many events a newcomer gets to see.
pub(super) const REMEMBERED: usize = 600;

/// So many things may wait for one viewer: five seconds of them.
const WAITING: usize = 64;

/// A running server, for those who watch it.
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

    /// Begins to watch: everything so far, and what comes. `None` when there is nothing to come.
    pub(super) fn watch(&self) -> Option<(String, Receiver<Arc<str>>)> {
        let mut shared = self.shared.lock();
        let (sender, receiver) = bounded(WAITING);
        if shared.is_over {
            return None;
        }
        shared.viewers.push(sender);
        Some((shared.log.so_far(&Value::Null), receiver))
    }

    /// The thread `board-feed`: takes events in until there are no more to come, or the board is
    /// stopped.
    pub(super) fn serve(&self, queue: &EventQueue, stopped: &Receiver<()>) {
        loop {
            let first = select! {
                recv(queue.events()) -> first => first.ok(),
                // What is there by now is still shown.
                recv(stopped) -> _ => queue.events().try_recv().ok(),
            };
            let Some(first) = first else { break };
            let more = queue.events().try_iter().take(BATCH);
            let lost = queue.take_dropped();
            let unseen = self.gate.take_missed();
            let is_watched = self.take_in(std::iter::once(first).chain(more), lost, unseen);
            // Cut short by the end of the board.
            let _ = stopped.recv_timeout(TOGETHER);
            self.gate.open_for(if is_watched { TRAFFIC } else { 0 });
        }
        self.gate.open_for(0);
        let mut shared = self.shared.lock();
        shared.is_over = true;
        shared.viewers.clear();
    }

    /// Returns whether anybody watches.
    fn take_in(&self, events: impl Iterator<Item = Event>, lost: u64, unseen: u64) -> bool {
        let mut shared = self.shared.lock();
        let mut shown: Vec<Arc<str>> = events.map(|event| shared.log.take_in(event)).collect();
        if lost > 0 {
            let (count, reason) = (lost, TOO_FAST.to_owned());
            let kind = ChatEvent::LinesMissing { count, reason };
            let missing = Event::new(shared.log.snapshot.tick(), kind);
            shown.push(shared.log.take_in(missing));
        }
        let snapshot = shared.log.snapshot.take_changes();
        if shared.viewers.is_empty() {
            return false;
        }
        let rest = json!({ "picture": snapshot, "unseen": unseen });
        let news: Arc<str> = news(&shown, &rest).into();
        // Whose queue is full has been too slow; it finds its channel disconnected.
        shared
            .viewers
            .retain(|viewer| viewer.try_send(Arc::clone(&news)).is_ok());
        true
    }
}

/// The picture and the last events.
pub(super) struct EventLog {
    pub(super) snapshot: Snapshot,
    redactor: Redactor,
    event_count: u64,
    /// As they were sent.
    last: VecDeque<Arc<str>>,
}

impl EventLog {
    pub(super) fn new(redactor: Redactor) -> EventLog {
        EventLog {
            snapshot: Snapshot::default(),
            redactor,
            event_count: 0,
            last: VecDeque::new(),
        }
    }

    /// Takes an event in, and returns it as the page gets it: one JSON object.
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
            "to": about.to,
            "web": about.web,
        });
        let shown: Arc<str> = shown.to_string().into();
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(Arc::clone(&shown));
        shown
    }

    /// All that a newcomer needs. `replay` says where a recorded run is.
    pub(super) fn so_far(&self, replay: &Value) -> String {
        let snapshot = self.snapshot.whole();
        let rest = json!({ "whole": true, "picture": snapshot, "replay": replay });
        news(self.last.iter(), &rest)
    }
}

/// Milliseconds since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The fields by name, in their order.
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

/// What a viewer gets: `events`, which are JSON already, and the members of `rest`.
pub(super) fn news<'e>(events: impl IntoIterator<Item = &'e Arc<str>>, rest: &Value) -> String {
    let events: Vec<&str> = events.into_iter().map(|event| &**event).collect();
    let mut news = rest.to_string();
    // In the place of the last brace.
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
            events.emit(|| ChatEvent::ShuttingDown { why: None });
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
