//! Old messages: the id and the time of each message, and the interface to the journal that keeps
//! it.
//!
//! Every message except those between partners belongs to a [`Conversation`] and gets a [`Stamp`].
//! A [`Journal`] keeps it. [`MemoryJournal`] keeps the last messages in each conversation in
//! memory; other journals also store them elsewhere.

mod memory;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use portal_wire::{Name, Relay, Scope, ServerDoc, escaped_bytes, time};

pub use memory::MemoryJournal;

/// The messages that one group of users sees. Names are keys, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Conversation {
    /// The public messages.
    Public,
    /// The messages in a room.
    Room(String),
    /// The direct messages between two users, whose names are in alphabetical order.
    Direct(String, String),
}

impl Conversation {
    /// The messages in this room.
    pub fn room(name: &Name) -> Conversation {
        Conversation::Room(name.key())
    }

    /// The messages between these two users.
    pub fn direct(one: &Name, other: &Name) -> Conversation {
        let (one, other) = (one.key(), other.key());
        match one <= other {
            true => Conversation::Direct(one, other),
            false => Conversation::Direct(other, one),
        }
    }

    /// Returns whether these are direct messages that the user with this key (a name in lower case)
    /// has sent or received.
    pub fn is_direct_of(&self, key: &str) -> bool {
        matches!(self, Conversation::Direct(one, other) if one == key || other == key)
    }
}

/// A message's id, and the time at which it was sent.
///
/// An id is the time in microseconds since the Unix epoch, increased if necessary: each id is
/// greater than every id that this server has seen before. Ids therefore keep growing after a
/// restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The message's id, unique in its conversation.
    pub id: u64,
    /// The time of sending.
    pub sent_at: SystemTime,
}

impl Stamp {
    /// The stamp of a message whose id is known. The time is taken from the id.
    pub fn of(id: u64) -> Stamp {
        let sent_at = time::from_microseconds(id);
        Stamp { id, sent_at }
    }
}

/// An old message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its id and its time.
    pub stamp: Stamp,
    /// The sender's name.
    pub from: Arc<str>,
    /// The recipient's name, if it is a direct message.
    pub to: Option<Arc<str>>,
    /// The text.
    pub text: Arc<str>,
    /// True for an action, as in "alice waves".
    pub me: bool,
}

/// Maximum length of an old message's frame without its text and names, in bytes: the document
/// around it, the mark of an action, the time, the id, and the framing.
const OLD_FRAME_BYTES: usize = 192;

impl HistoryEntry {
    /// The maximum length of the message's frame in a conversation of `scope`, in bytes.
    pub(crate) fn written_bytes(&self, scope: &Scope<'_>) -> usize {
        let room = match scope {
            Scope::Room(name) => name.len(),
            _ => 0,
        };
        let names = escaped_bytes(&self.from) + self.to.as_deref().map_or(0, escaped_bytes) + room;
        OLD_FRAME_BYTES + names + escaped_bytes(&self.text)
    }

    /// The message's document, for a conversation of `scope`. With `gap`, messages right before it
    /// may be missing.
    pub(crate) fn doc(&self, scope: Scope<'static>, gap: bool) -> ServerDoc<'_> {
        ServerDoc::Relay(Relay {
            scope,
            from: (&*self.from).into(),
            to: self.to.as_deref().map(Into::into),
            text: (&*self.text).into(),
            me: self.me,
            old: true,
            gap,
            time: Some(time::rfc_3339(self.stamp.sent_at).into()),
            id: Some(self.stamp.id),
        })
    }
}

/// A part of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Only messages with smaller ids.
    pub before: Option<u64>,
    /// Only messages with greater ids. If this is set, the oldest of them are returned, otherwise
    /// the newest.
    pub after: Option<u64>,
    /// The maximum number of messages.
    pub most: usize,
}

impl Range {
    /// The last messages of a conversation.
    pub fn last(most: usize) -> Range {
        let (before, after) = (None, None);
        Range {
            before,
            after,
            most,
        }
    }

    /// Returns whether a message with this id is between the bounds.
    pub fn contains(&self, id: u64) -> bool {
        self.before.is_none_or(|before| id < before) && self.after.is_none_or(|after| id > after)
    }

    /// Makes a page from `entries`, which are in order and between the bounds.
    pub fn page(&self, mut entries: Vec<HistoryEntry>) -> HistoryPage {
        let surplus = entries.len().saturating_sub(self.most);
        match self.after {
            Some(_) => entries.truncate(self.most),
            None => drop(entries.drain(..surplus)),
        }
        HistoryPage {
            entries,
            more: surplus > 0,
            gaps: Vec::new(),
        }
    }
}

/// A page of a conversation's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The messages, oldest first.
    pub entries: Vec<HistoryEntry>,
    /// True if there are more messages between the bounds: newer ones if the range begins after an
    /// id, otherwise older ones.
    pub more: bool,
    /// The gaps in the journal, each as an id near which messages may be missing, in order.
    pub gaps: Vec<u64>,
}

impl HistoryPage {
    /// The messages, each with a flag that is true if messages right before it may be missing.
    pub(crate) fn entries_and_gaps(&self) -> impl Iterator<Item = (&HistoryEntry, bool)> {
        let before = self.entries.iter().map(|entry| Some(entry.stamp.id));
        let before = std::iter::once(None).chain(before);
        self.entries.iter().zip(before).map(|(entry, before)| {
            let first = self.gaps.partition_point(|gap| Some(*gap) <= before);
            let is_next = self
                .gaps
                .get(first)
                .is_some_and(|gap| *gap < entry.stamp.id);
            (entry, before.is_some() && is_next)
        })
    }

    /// Drops the messages that do not fit into a reply of `bytes` bytes: the last ones if the range
    /// begins after an id, otherwise the first ones.
    pub(crate) fn within(mut self, bytes: usize, scope: &Scope<'_>, range: Range) -> HistoryPage {
        let mut left = bytes;
        let mut fits = |entry: &&HistoryEntry| {
            let taken = left.checked_sub(entry.written_bytes(scope));
            left = taken.unwrap_or(0);
            taken.is_some()
        };
        let all = self.entries.len();
        if range.after.is_some() {
            let kept = self.entries.iter().take_while(&mut fits).count();
            self.entries.truncate(kept);
        } else {
            let kept = self.entries.iter().rev().take_while(&mut fits).count();
            self.entries.drain(..all - kept);
        }
        self.more |= self.entries.len() < all;
        self
    }
}

/// A room's initial state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomRecord {
    /// The topic, and the name of the user who set it.
    pub topic: Option<(String, String)>,
    /// The last messages, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// The journal can't be read at present. An event states the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server can't read old messages right now; try again later")
    }
}

impl std::error::Error for Unreadable {}

/// Keeps messages and topics.
///
/// [`Journal::append`], [`Journal::note_gap`], [`Journal::set_topic`] and [`Journal::end_room`] may
/// be called under a registry's lock, so they never block. The others may wait for a disk.
pub trait Journal: Send + Sync {
    /// The highest message id in the journal; 0 if the journal is empty.
    fn last_id(&self) -> u64;

    /// Keeps messages in a conversation.
    fn append(&self, conversation: &Conversation, entries: Vec<HistoryEntry>);

    /// Notes that messages near this id may be missing: other servers sent these messages, but this
    /// server did not receive them.
    fn note_gap(&self, id: u64) {
        let _ = id;
    }

    /// Returns a part of a conversation.
    ///
    /// # Errors
    /// [`Unreadable`].
    fn page(&self, conversation: &Conversation, range: Range) -> Result<HistoryPage, Unreadable>;

    /// Keeps a room's topic and the name of the user who set it; an empty topic removes it.
    fn set_topic(&self, room: &Name, topic: &str, username: &str) {
        let _ = (room, topic, username);
    }

    /// Returns the stored state of a room that begins, with at most `most` messages.
    fn begin_room(&self, room: &Name, most: usize) -> RoomRecord {
        let _ = (room, most);
        RoomRecord::default()
    }

    /// Notes that a room has ended on this server.
    fn end_room(&self, room: &Name) {
        let _ = room;
    }

    /// Deletes the direct messages, with ids up to `last`, of a user whose account is deleted,
    /// because the next owner of the name must not read them. Later appends of such messages are
    /// dropped.
    ///
    /// # Errors
    /// [`Unreadable`] if the messages are still on disk after a few seconds.
    fn delete_direct(&self, username: &Name, last: u64) -> Result<(), Unreadable>;
}

/// Stamps the messages that a server handles, and passes them to its journal.
pub struct History {
    journal: Arc<dyn Journal>,
    /// The highest id so far.
    last: AtomicU64,
    /// False if names have no passwords. A name then does not identify a person, so the next client
    /// with that name must not read the messages of the last one.
    keeps_direct: bool,
}

impl History {
    /// Creates a history. Messages get ids above all those in `journal`. Direct messages are kept
    /// if `keeps_direct` is true.
    pub fn new(journal: Arc<dyn Journal>, keeps_direct: bool) -> History {
        History {
            last: AtomicU64::new(journal.last_id()),
            journal,
            keeps_direct,
        }
    }

    /// The journal.
    pub fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    /// Returns whether direct messages are kept.
    pub(crate) fn keeps_direct(&self) -> bool {
        self.keeps_direct
    }

    /// Notes that messages from other servers may be missing at this time.
    pub fn note_gap(&self) {
        self.journal.note_gap(self.stamp(1).id);
    }

    /// Deletes all direct messages that a user has sent or received so far.
    ///
    /// # Errors
    /// [`Unreadable`] if the messages are still on disk after a few seconds.
    pub fn delete_direct(&self, username: &Name) -> Result<(), Unreadable> {
        self.journal.delete_direct(username, self.stamp(1).id)
    }

    /// Returns the stamp of the first of `count` messages. The others get the ids that follow.
    pub(crate) fn stamp(&self, count: usize) -> Stamp {
        let sent_at = SystemTime::now();
        let now = time::microseconds(sent_at);
        let first = |last: u64| now.max(last.saturating_add(1));
        let next = |last| Some(first(last).saturating_add((count as u64).saturating_sub(1)));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let id = first(last.unwrap_or_else(|last| last));
        Stamp { id, sent_at }
    }

    /// Returns the stamp of a message from any server: `stamp` if the servers have agreed on one,
    /// otherwise a new one.
    pub(crate) fn agreed(&self, stamp: Option<Stamp>) -> Stamp {
        let Some(stamp) = stamp else {
            return self.stamp(1);
        };
        self.last.fetch_max(stamp.id, Ordering::Relaxed);
        stamp
    }

    /// Keeps a direct message.
    pub(crate) fn keep_direct(
        &self,
        (from, to): (&Name, &Name),
        text: &str,
        me: bool,
        stamp: Stamp,
    ) {
        if !self.keeps_direct {
            return;
        }
        let entry = HistoryEntry {
            stamp,
            from: from.as_str().into(),
            to: Some(to.as_str().into()),
            text: text.into(),
            me,
        };
        let conversation = Conversation::direct(from, to);
        self.journal.append(&conversation, vec![entry]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portal_wire::Codec;
    use proptest::prelude::*;

    #[test]
    fn ids_increase_and_exceed_every_id_seen() {
        let history = History::new(Arc::new(MemoryJournal::default()), true);
        let first = history.stamp(3);
        let next = history.stamp(1);
        assert!(next.id >= first.id + 3);
        assert!(first.id.abs_diff(time::microseconds(first.sent_at)) < 1_000);
        let future = Stamp::of(next.id + 1_000_000_000_000);
        assert_eq!(history.agreed(Some(future)), future);
        assert_eq!(history.stamp(1).id, future.id + 1);
        assert_eq!(history.agreed(Some(first)), first);
        assert_eq!(history.agreed(None).id, future.id + 2);
    }

    #[test]
    fn a_gap_belongs_to_the_message_after_it() {
        let entry = |id| HistoryEntry {
            stamp: Stamp::of(id),
            from: "alice".into(),
            to: None,
            text: "hello".into(),
            me: false,
        };
        for (gaps, marked) in [
            (vec![], vec![]),
            (vec![5], vec![]),
            (vec![15], vec![20]),
            (vec![10], vec![]),
            (vec![20], vec![]),
            (vec![5, 20, 25, 27], vec![30]),
            (vec![11, 29, 40], vec![20, 30]),
        ] {
            let page = HistoryPage {
                entries: [10, 20, 30].map(entry).into(),
                more: false,
                gaps: gaps.clone(),
            };
            let found = page.entries_and_gaps().filter(|(_, gap)| *gap);
            let found: Vec<u64> = found.map(|(entry, _)| entry.stamp.id).collect();
            assert_eq!(found, marked, "{gaps:?}");
        }
    }

    #[test]
    fn two_users_share_one_conversation_in_either_order() {
        let name = |text| Name::new(text).unwrap();
        let direct = |one, other| Conversation::direct(&name(one), &name(other));
        assert_eq!(direct("Bob", "alice"), direct("ALICE", "bob"));
        assert_ne!(direct("bob", "alice"), direct("bob", "carol"));
    }

    proptest! {
        #[test]
        fn an_old_frame_is_never_longer_than_its_estimate(text in any::<String>(), me: bool, is_direct: bool) {
            let longest = "n".repeat(portal_wire::limits::MAX_NAME_BYTES);
            let scope = if is_direct { Scope::Direct } else { Scope::Room(longest.clone().into()) };
            let to = is_direct.then(|| longest.as_str().into());
            let entry = HistoryEntry { stamp: Stamp::of(u64::MAX), from: longest.as_str().into(), to, text: text.into(), me };
            for codec in [Codec::xml(8192), Codec::web(8192)] {
                let mut frame = Vec::new();
                codec.write_server(&entry.doc(scope.clone(), true), &mut frame);
                prop_assert!(frame.len() <= entry.written_bytes(&scope), "{}", frame.len());
            }
        }
    }
}
