//! The journal in memory: the last messages in each conversation.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Conversation, HistoryEntry, HistoryPage, Journal, Range, Unreadable};
use crate::limits;
use portal_net::lock::Mutex;
use portal_wire::Name;

/// Keeps the last [`limits::MEMORY_LINES`] messages in each conversation until a room ends or the
/// server stops.
#[derive(Default)]
pub struct MemoryJournal(
    /// A leaf lock.
    Mutex<Conversations>,
);

#[derive(Default)]
struct Conversations {
    tails: BTreeMap<Conversation, Tail>,
    /// The conversations, ordered by their last messages. The one that has been idle for the
    /// longest is evicted first.
    by_age: BTreeMap<u64, Conversation>,
    last_age: u64,
    bytes: usize,
    /// The last gaps, ordered by id.
    gaps: VecDeque<u64>,
    /// The users whose direct messages were deleted, each with the id up to which they were
    /// deleted.
    deleted: HashMap<String, u64>,
}

#[derive(Default)]
struct Tail {
    /// Ordered by id.
    entries: VecDeque<HistoryEntry>,
    bytes: usize,
    /// Its key in `by_age`.
    age: u64,
}

/// The number of bytes counted for an entry.
fn bytes_of(entry: &HistoryEntry) -> usize {
    size_of::<HistoryEntry>() + entry.text.len() + entry.from.len()
}

impl Tail {
    /// Adds an entry, which is almost always the newest.
    fn insert(&mut self, entry: HistoryEntry) {
        let id = entry.stamp.id;
        let at = self.entries.partition_point(|there| there.stamp.id < id);
        if self
            .entries
            .get(at)
            .is_none_or(|there| there.stamp.id != id)
        {
            self.bytes += bytes_of(&entry);
            self.entries.insert(at, entry);
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.bytes -= bytes_of(&first);
        }
    }

    fn is_too_long(&self) -> bool {
        self.entries.len() > limits::MEMORY_LINES || self.bytes > limits::HISTORY
    }
}

impl Conversations {
    /// Returns whether a direct message was sent before its sender's or its recipient's account was
    /// deleted.
    fn is_deleted(&self, conversation: &Conversation, entry: &HistoryEntry) -> bool {
        let Conversation::Direct(one, other) = conversation else {
            return false;
        };
        let last = [one, other].map(|key| self.deleted.get(key).copied());
        last.into_iter().flatten().max() >= Some(entry.stamp.id)
    }

    fn append(&mut self, conversation: &Conversation, entries: Vec<HistoryEntry>) {
        if entries.is_empty() {
            return;
        }
        self.last_age += 1;
        // Look it up first, so that the key is copied only for a new conversation.
        let (key, mut tail) = match self.tails.get_mut(conversation) {
            Some(tail) => (self.by_age.remove(&tail.age), std::mem::take(tail)),
            None => (None, Tail::default()),
        };
        let before = tail.bytes;
        for entry in entries {
            tail.insert(entry);
        }
        while tail.is_too_long() {
            tail.forget_first();
        }
        self.bytes = self.bytes + tail.bytes - before;
        tail.age = self.last_age;
        let key = key.unwrap_or_else(|| conversation.clone());
        self.by_age.insert(tail.age, key);
        match self.tails.get_mut(conversation) {
            Some(there) => *there = tail,
            None => drop(self.tails.insert(conversation.clone(), tail)),
        }
        while self.bytes > limits::MEMORY_BYTES {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                break;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, conversation: &Conversation) {
        if let Some(tail) = self.tails.remove(conversation) {
            self.by_age.remove(&tail.age);
            self.bytes -= tail.bytes;
        }
    }
}

impl MemoryJournal {
    /// Removes the messages that belong to a deleted account.
    pub fn without_deleted(
        &self,
        conversation: &Conversation,
        mut entries: Vec<HistoryEntry>,
    ) -> Vec<HistoryEntry> {
        let conversations = self.0.lock();
        if !conversations.deleted.is_empty() {
            entries.retain(|entry| !conversations.is_deleted(conversation, entry));
        }
        entries
    }

    /// All gaps, ordered by id.
    pub fn gaps(&self) -> Vec<u64> {
        self.0.lock().gaps.iter().copied().collect()
    }

    /// The messages of a conversation between the bounds, in order.
    pub fn entries(&self, conversation: &Conversation, range: Range) -> Vec<HistoryEntry> {
        let conversations = self.0.lock();
        let tail = conversations.tails.get(conversation);
        let entries = tail.into_iter().flat_map(|tail| &tail.entries);
        entries
            .filter(|entry| range.contains(entry.stamp.id))
            .cloned()
            .collect()
    }
}

impl Journal for MemoryJournal {
    fn last_id(&self) -> u64 {
        0
    }

    fn append(&self, conversation: &Conversation, entries: Vec<HistoryEntry>) {
        let entries = self.without_deleted(conversation, entries);
        self.0.lock().append(conversation, entries);
    }

    fn note_gap(&self, id: u64) {
        let gaps = &mut self.0.lock().gaps;
        let at = gaps.partition_point(|there| *there < id);
        gaps.insert(at, id);
        if gaps.len() > limits::GAPS {
            gaps.pop_front();
        }
    }

    fn page(&self, conversation: &Conversation, range: Range) -> Result<HistoryPage, Unreadable> {
        Ok(HistoryPage {
            gaps: self.gaps(),
            ..range.page(self.entries(conversation, range))
        })
    }

    fn end_room(&self, room: &Name) {
        self.0.lock().forget(&Conversation::room(room));
    }

    fn delete_direct(&self, username: &Name, last: u64) -> Result<(), Unreadable> {
        let key = username.key();
        let mut conversations = self.0.lock();
        let tails = conversations.tails.keys();
        let direct: Vec<Conversation> = tails
            .filter(|there| there.is_direct_of(&key))
            .cloned()
            .collect();
        for conversation in direct {
            conversations.forget(&conversation);
        }
        conversations.deleted.insert(key, last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Stamp;

    fn entry(id: u64, bytes: usize) -> HistoryEntry {
        HistoryEntry {
            stamp: Stamp::of(id),
            from: "alice".into(),
            to: None,
            text: "x".repeat(bytes).into(),
            me: false,
        }
    }

    fn ids(journal: &MemoryJournal, conversation: &Conversation, range: Range) -> (Vec<u64>, bool) {
        let page = journal.page(conversation, range).unwrap();
        let ids = page.entries.iter().map(|entry| entry.stamp.id);
        (ids.collect(), page.more)
    }

    fn room(number: usize) -> Conversation {
        Conversation::Room(format!("room-{number}"))
    }

    #[test]
    fn a_page_has_the_newest_messages_before_an_id_or_the_oldest_after_it() {
        let journal = MemoryJournal::default();
        let lobby = room(0);
        // One message was delivered late, and one twice.
        for id in [1, 2, 4, 3, 4, 5] {
            journal.append(&lobby, vec![entry(id, 1)]);
        }
        let range = |before, after, most| Range {
            before,
            after,
            most,
        };
        for (asked, answer) in [
            (range(None, None, 9), (vec![1, 2, 3, 4, 5], false)),
            (range(None, None, 2), (vec![4, 5], true)),
            (range(Some(4), None, 2), (vec![2, 3], true)),
            (range(None, Some(2), 2), (vec![3, 4], true)),
            (range(Some(5), Some(2), 9), (vec![3, 4], false)),
            (range(None, Some(5), 9), (vec![], false)),
            (range(Some(1), None, 9), (vec![], false)),
        ] {
            assert_eq!(ids(&journal, &lobby, asked), answer, "{asked:?}");
        }
        assert_eq!(ids(&journal, &Conversation::Public, Range::last(9)).0, []);
    }

    #[test]
    fn a_conversation_is_limited_in_messages_and_bytes() {
        let journal = MemoryJournal::default();
        let most = limits::MEMORY_LINES as u64;
        for id in 1..=most + 5 {
            journal.append(&room(0), vec![entry(id, 1)]);
        }
        let kept = ids(&journal, &room(0), Range::last(usize::MAX)).0;
        assert_eq!(kept, (6..=most + 5).collect::<Vec<_>>());
        journal.append(&room(0), vec![entry(most + 6, limits::HISTORY - 200)]);
        let kept = ids(&journal, &room(0), Range::last(usize::MAX)).0;
        assert!(kept.len() < 5 && kept.ends_with(&[most + 6]), "{kept:?}");
    }

    #[test]
    fn the_conversation_idle_for_longest_is_evicted_first() {
        let journal = MemoryJournal::default();
        let (bytes, mut id) = (limits::HISTORY / 2, 0);
        let fit = limits::MEMORY_BYTES / (bytes + size_of::<HistoryEntry>() + 5);
        let mut send = |number| {
            id += 1;
            journal.append(&room(number), vec![entry(id, bytes)]);
        };
        (0..fit).for_each(&mut send);
        send(0);
        send(0);
        send(fit);
        let is_kept = |number| !ids(&journal, &room(number), Range::last(1)).0.is_empty();
        assert!(is_kept(0) && !is_kept(1) && is_kept(fit));
        let conversations = journal.0.lock();
        assert!(conversations.bytes <= limits::MEMORY_BYTES);
        assert_eq!(conversations.by_age.len(), conversations.tails.len());
        let sum: usize = conversations.tails.values().map(|tail| tail.bytes).sum();
        assert_eq!(conversations.bytes, sum);
    }

    #[test]
    fn a_room_that_ends_is_forgotten() {
        let journal = MemoryJournal::default();
        let lobby = Name::new("Lobby").unwrap();
        journal.append(&Conversation::room(&lobby), vec![entry(1, 1)]);
        journal.end_room(&lobby);
        let conversations = journal.0.lock();
        assert!(conversations.tails.is_empty() && conversations.by_age.is_empty());
        assert_eq!(conversations.bytes, 0);
    }
}
