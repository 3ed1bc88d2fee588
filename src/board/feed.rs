//! From the events to those who watch: one thread takes them in, and hands what is new to a bounded
//! queue for each viewer.
//!
//! Nobody waits for a viewer. One whose queue is full is forgotten, and begins anew with the whole
//! picture when it gets there. What happens within a moment travels together, and of the traffic only
//! so much is let in ([`Shutter`]), so that a server at full speed costs a board no more than a slow
//! one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::{Value, json};

use super::picture::Picture;
use super::veil::Veil;
use crate::event::{Event, EventQueue, Record, Shutter, TOO_FAST};
use crate::limits;
use crate::lock::Mutex;

/// What happened within so long is shown together.
const TOGETHER: Duration = Duration::from_millis(80);

/// So much of the traffic is shown in that time: more than anybody can see.
const TRAFFIC: u32 = 40;

/// So many events a newcomer gets to see.
pub(super) const REMEMBERED: usize = 600;

/// So many things may wait for one viewer: five seconds of them.
const WAITING: usize = 64;

/// A running server, for those who watch it.
pub(super) struct Feed {
    shutter: Shutter,
    shared: Mutex<Shared>,
}

struct Shared {
    story: Story,
    viewers: Vec<Sender<Arc<str>>>,
    is_over: bool,
}

impl Feed {
    pub(super) fn new(shutter: Shutter, veil: Veil) -> Feed {
        Feed {
            shutter,
            shared: Mutex::new(Shared {
                story: Story::new(veil),
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
        Some((shared.story.so_far(&Value::Null), receiver))
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
            let more = queue.events().try_iter().take(limits::EVENT_QUEUE);
            let lost = queue.take_dropped();
            let unseen = self.shutter.take_missed();
            let is_watched = self.take_in(std::iter::once(first).chain(more), lost, unseen);
            // Cut short by the end of the board.
            let _ = stopped.recv_timeout(TOGETHER);
            self.shutter.open_for(if is_watched { TRAFFIC } else { 0 });
        }
        self.shutter.open_for(0);
        let mut shared = self.shared.lock();
        shared.is_over = true;
        shared.viewers.clear();
    }

    /// Returns whether anybody watches.
    fn take_in(&self, events: impl Iterator<Item = Event>, lost: u64, unseen: u64) -> bool {
        let mut shared = self.shared.lock();
        let mut shown: Vec<Arc<str>> = events
            .map(|event| shared.story.take_in(event.record()))
            .collect();
        if let Some(missing) = Event::missing(shared.story.picture.tick(), lost, TOO_FAST) {
            shown.push(shared.story.take_in(missing.record()));
        }
        let picture = shared.story.picture.take_changes();
        if shared.viewers.is_empty() {
            return false;
        }
        let rest = json!({ "picture": picture, "unseen": unseen });
        let news: Arc<str> = news(&shown, &rest).into();
        // Whose queue is full has been too slow; it finds its channel disconnected.
        shared
            .viewers
            .retain(|viewer| viewer.try_send(Arc::clone(&news)).is_ok());
        true
    }
}

/// The picture and the last events.
pub(super) struct Story {
    pub(super) picture: Picture,
    veil: Veil,
    told: u64,
    /// As they were sent.
    last: VecDeque<Arc<str>>,
}

impl Story {
    pub(super) fn new(veil: Veil) -> Story {
        Story {
            picture: Picture::default(),
            veil,
            told: 0,
            last: VecDeque::new(),
        }
    }

    /// Takes an event in, and returns it as the page gets it: one JSON object.
    pub(super) fn take_in(&mut self, mut record: Record) -> Arc<str> {
        self.veil.lay_over(&mut record);
        let about = self.picture.take_in(&record);
        self.told += 1;
        let shown = json!({
            "n": self.told,
            "time": record.time.as_millisecond(),
            "tick": record.tick.0,
            "thread": record.thread,
            "event": record.event,
            "details": record.details,
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
        let picture = self.picture.whole();
        let rest = json!({ "whole": true, "picture": picture, "replay": replay });
        news(self.last.iter(), &rest)
    }
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
    use crate::clock::Clock;
    use crate::event::{Events, What};

    #[test]
    fn events_that_found_no_room_are_a_line_of_the_story() {
        let mut events = Events::new(Clock::new(), false);
        let (queue, shutter) = events.add_reader_with_shutter(1);
        for _ in 0..3 {
            events.tell(|| What::ShuttingDown { why: None });
        }
        let veil = Veil {
            texts: false,
            secrets: false,
        };
        let feed = Feed::new(shutter, veil);
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
