//! The queue between the threads that deliver messages and the thread `journal`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use portal_net::lock::{Condvar, Mutex};
use portal_sessions::journal::{Conversation, HistoryEntry, Range};

use crate::limits;

/// An item to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Conversation, HistoryEntry),
    /// The topic of a room; an empty text removes it.
    Topic {
        room: String,
        topic: String,
        username: String,
    },
    /// Messages near this id are missing.
    Gap(u64),
    /// The deletion of all direct messages, up to an id, of the user with this key.
    DeleteDirect(String, u64),
}

/// The messages in a conversation that are in the queue.
pub(crate) struct Pending {
    pub(crate) entries: Vec<HistoryEntry>,
    /// True if the messages in the file will be deleted before these are written.
    pub(crate) replaces_the_file: bool,
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Message(_, entry) => size_of::<Item>() + entry.text.len() + entry.from.len(),
            Item::Topic { topic, .. } => size_of::<Item>() + topic.len(),
            Item::Gap(_) => size_of::<Item>(),
            Item::DeleteDirect(key, _) => size_of::<Item>() + key.len(),
        }
    }
}

/// The writer's next action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write these items, which stay in the queue until [`Queue::written`].
    Write(Vec<Item>),
    /// No item has arrived for a while.
    Idle,
    /// The server has stopped, and nothing is left.
    Stop,
}

/// Items that were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) count: u64,
    /// The ids of the first and the last message among them.
    pub(crate) ids: Option<(u64, u64)>,
}

impl Missed {
    fn add(&mut self, item: &Item) {
        self.count += 1;
        if let Item::Message(_, entry) = item {
            let id = entry.stamp.id;
            let (first, last) = self.ids.unwrap_or((id, id));
            self.ids = Some((first.min(id), last.max(id)));
        }
    }
}

/// A bounded queue. Each item stays in the queue until it is on disk, so readers find it in one
/// place or the other.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Notified when the writer has something to do.
    changed: Condvar,
    /// Notified when the writer has written something, or the queue is closed.
    progressed: Condvar,
    rows: usize,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// The items that were dropped since the last report.
    missed: Missed,
    /// Numbers of items so far: appended, and written.
    appended: u64,
    written: u64,
    /// Set once the file can no longer be used: all items are then dropped.
    is_closed: bool,
    is_stopped: bool,
    /// The reason why a reader considers the file damaged.
    damage: Option<String>,
}

impl Queue {
    /// Creates a queue of at most `rows` items.
    pub(crate) fn new(rows: usize) -> Queue {
        Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            progressed: Condvar::new(),
            rows,
        }
    }

    /// Appends items. Those for which there is no space are dropped and counted.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = Item>) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        let before = state.items.len();
        for item in items {
            let bytes = state.bytes + item.bytes();
            if state.items.len() >= self.rows || bytes > limits::QUEUE_BYTES {
                state.missed.add(&item);
                continue;
            }
            state.bytes = bytes;
            state.appended += 1;
            state.items.push_back(item);
        }
        let now = state.items.len();
        // The writer is waiting for the first item, or for a full batch.
        if before == 0 || (before < limits::BATCH_ROWS && now >= limits::BATCH_ROWS) {
            self.changed.notify_all();
        }
    }

    /// Appends an item for which there is always space, because it is rare: a gap, or a deletion by
    /// the operator.
    pub(crate) fn push_always(&self, item: Item) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.bytes += item.bytes();
        state.appended += 1;
        state.items.push_back(item);
        self.changed.notify_all();
    }

    /// Waits until everything that was appended so far is on disk. Returns false if that takes
    /// longer than `patience`.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        let wanted = state.appended;
        while state.written < wanted && !state.is_closed {
            if self.progressed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.written >= wanted && !state.is_closed
    }

    /// Waits up to `idle` for an item, and then collects more for `collect`.
    pub(crate) fn next(&self, idle: Duration, collect: Duration) -> Next {
        let mut state = self.state.lock();
        let until = Instant::now() + idle;
        while state.items.is_empty() && !state.is_stopped && state.damage.is_none() {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return Next::Idle;
            }
        }
        if state.items.is_empty() {
            return if state.is_stopped {
                Next::Stop
            } else {
                Next::Idle
            };
        }
        let until = Instant::now() + collect;
        while state.items.len() < limits::BATCH_ROWS && !state.is_stopped {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        let items = state.items.iter().take(limits::BATCH_ROWS);
        Next::Write(items.cloned().collect())
    }

    /// Removes the first `count` items, which are now on disk.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.state.lock();
        let items: Vec<Item> = state.items.drain(..count).collect();
        state.bytes -= items.iter().map(Item::bytes).sum::<usize>();
        state.written += count as u64;
        self.progressed.notify_all();
    }

    /// Returns the items that were dropped since the last call.
    pub(crate) fn take_missed(&self) -> Missed {
        std::mem::take(&mut self.state.lock().missed)
    }

    /// Drops all items, including those appended later. Returns the number of items that are lost,
    /// including those dropped earlier but not yet reported.
    pub(crate) fn close(&self) -> u64 {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.bytes = 0;
        let items = std::mem::take(&mut state.items);
        self.progressed.notify_all();
        items.len() as u64 + std::mem::take(&mut state.missed).count
    }

    /// Makes the writer write the rest of the queue, and then exit.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Waits for `time`, or until the server stops.
    pub(crate) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.is_stopped {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Reports to the writer that a reader has found the file damaged.
    pub(crate) fn report_damage(&self, reason: String) {
        self.state.lock().damage.get_or_insert(reason);
        self.changed.notify_all();
    }

    pub(crate) fn take_damage(&self) -> Option<String> {
        self.state.lock().damage.take()
    }

    /// The messages in a conversation that are not on disk yet.
    pub(crate) fn pending(&self, conversation: &Conversation, range: &Range) -> Pending {
        let mut pending = Pending {
            entries: Vec::new(),
            replaces_the_file: false,
        };
        for item in &self.state.lock().items {
            match item {
                Item::Message(there, entry)
                    if there == conversation && range.contains(entry.stamp.id) =>
                {
                    pending.entries.push(entry.clone());
                }
                Item::DeleteDirect(key, _) if conversation.is_direct_of(key) => {
                    pending.entries.clear();
                    pending.replaces_the_file = true;
                }
                _ => {}
            }
        }
        pending
    }

    /// A room's last topic that is not on disk yet, and the user who set it.
    pub(crate) fn pending_topic(&self, wanted: &str) -> Option<(String, String)> {
        let state = self.state.lock();
        state.items.iter().rev().find_map(|item| match item {
            Item::Topic {
                room,
                topic,
                username,
            } if room == wanted => Some((topic.clone(), username.clone())),
            _ => None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use portal_sessions::journal::Stamp;

    pub(crate) fn message(id: u64, text: &str) -> HistoryEntry {
        HistoryEntry {
            stamp: Stamp::of(id),
            from: "alice".into(),
            to: None,
            text: text.into(),
            me: false,
        }
    }

    fn item(id: u64) -> Item {
        Item::Message(Conversation::Public, message(id, "x"))
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn an_item_stays_until_it_is_written_and_a_full_queue_counts_the_rest() {
        let queue = Queue::new(3);
        queue.push((1..=5).map(item));
        let missed = Missed {
            count: 2,
            ids: Some((4, 5)),
        };
        assert_eq!(queue.take_missed(), missed);
        assert_eq!(queue.take_missed(), Missed::default());
        let written = Next::Write((1..=3).map(item).collect());
        assert_eq!(queue.next(NOW, NOW), written);
        assert_eq!(queue.next(NOW, NOW), written);
        queue.written(2);
        let range = Range::last(9);
        let pending = queue.pending(&Conversation::Public, &range);
        assert_eq!(pending.entries.len(), 1);
        assert!(
            queue
                .pending(&Conversation::Room("lobby".to_owned()), &range)
                .entries
                .is_empty()
        );
        queue.push([item(6)]);
        queue.written(2);
        assert_eq!(queue.state.lock().bytes, 0);
        assert_eq!(queue.next(NOW, NOW), Next::Idle);
        queue.stop();
        assert_eq!(queue.next(NOW, NOW), Next::Stop);
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let queue = Queue::new(limits::QUEUE_ROWS);
        queue.push((1..=limits::BATCH_ROWS as u64 + 1).map(item));
        // A full batch is returned without waiting this long.
        let Next::Write(items) = queue.next(NOW, Duration::from_secs(600)) else {
            panic!("there is something to write");
        };
        assert_eq!(items.len(), limits::BATCH_ROWS);
    }

    #[test]
    fn the_queue_is_bounded_by_bytes_too() {
        let queue = Queue::new(limits::QUEUE_ROWS);
        let long = "x".repeat(limits::QUEUE_BYTES / 4);
        let long = Item::Message(Conversation::Public, message(1, &long));
        queue.push(std::iter::repeat_n(long, 5));
        assert_eq!(queue.take_missed().count, 2);
        assert_eq!(queue.close(), 3);
        queue.push([item(1)]);
        assert_eq!((queue.close(), queue.next(NOW, NOW)), (0, Next::Idle));
    }

    #[test]
    fn a_full_queue_has_space_for_a_deletion() {
        let queue = Queue::new(1);
        queue.push([item(1), item(2)]);
        let deletion = Item::DeleteDirect("alice".to_owned(), 2);
        queue.push_always(deletion.clone());
        assert_eq!(queue.take_missed().count, 1);
        assert!(!queue.flush(NOW));
        assert_eq!(queue.next(NOW, NOW), Next::Write(vec![item(1), deletion]));
        queue.written(2);
        assert!(queue.flush(NOW));
        assert_eq!(queue.state.lock().bytes, 0);
        queue.close();
        assert!(!queue.flush(NOW), "a closed queue writes nothing");
    }

    #[test]
    fn the_last_topic_wins() {
        let queue = Queue::new(9);
        let topic = |topic: &str| Item::Topic {
            room: "lobby".to_owned(),
            topic: topic.to_owned(),
            username: "alice".to_owned(),
        };
        queue.push([topic("cats"), topic(""), item(1)]);
        let last = Some((String::new(), "alice".to_owned()));
        assert_eq!(queue.pending_topic("lobby"), last);
        assert_eq!(queue.pending_topic("attic"), None);
    }
}
