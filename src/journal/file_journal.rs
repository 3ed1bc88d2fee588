//! The journal in a file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use portal_core::event::Events;
use portal_net::lock::Mutex;
use portal_net::threads;
use portal_sessions::journal::{
    Conversation, HistoryEntry, HistoryPage, Journal, MemoryJournal, Range, RoomRecord, Unreadable,
};
use portal_wire::Name;

use crate::limits;
use crate::queue::{Item, Queue};
use crate::store::{JournalReader, Store, StoreError};
use crate::writer::{self, Writer};

/// The settings of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The database.
    pub file: PathBuf,
    /// The time for which messages are kept.
    pub keep: Duration,
    /// Maximum length of the file, in bytes. Beyond it, the oldest messages are deleted.
    pub max_bytes: u64,
    /// False if direct messages are kept only in memory.
    pub direct: bool,
}

impl JournalSettings {
    /// The default settings for this file.
    pub fn new(file: impl Into<PathBuf>) -> JournalSettings {
        JournalSettings {
            file: file.into(),
            keep: Duration::from_secs(u64::from(limits::KEEP_DAYS) * 24 * 60 * 60),
            max_bytes: limits::MAX_BYTES,
            direct: true,
        }
    }
}

/// State shared by the thread `journal` and the sessions' threads. Each field has its own leaf
/// lock.
pub(crate) struct JournalState {
    pub(crate) settings: JournalSettings,
    pub(crate) events: Events,
    pub(crate) queue: Queue,
    pub(crate) readers: Readers,
    /// The gaps, and the last messages in case the file can't be used.
    pub(crate) memory: MemoryJournal,
}

impl JournalState {
    /// Marks a gap, in memory and in the file.
    pub(crate) fn note_gap(&self, id: u64) {
        self.memory.note_gap(id);
        self.queue.push_always(Item::Gap(id));
    }
}

/// The connections of readers. No lock is held while one is used.
#[derive(Default)]
pub(crate) struct Readers(Mutex<ReaderPool>);

#[derive(Default)]
struct ReaderPool {
    /// Set while there is a file to read.
    is_open: bool,
    /// The number of the current file. A connection to an earlier file, which was renamed, is not
    /// used again.
    generation: u64,
    idle: Vec<JournalReader>,
}

impl ReaderPool {
    /// Takes the idle connections out, and makes the others belong to an earlier file.
    fn retire(&mut self) -> Vec<JournalReader> {
        self.generation += 1;
        std::mem::take(&mut self.idle)
    }
}

impl Readers {
    /// Records that there is a new file, or no file.
    pub(crate) fn change(&self, is_open: bool) {
        let mut pool = self.0.lock();
        pool.is_open = is_open;
        let old = pool.retire();
        drop(pool);
        drop(old);
    }

    /// Closes the idle connections now, and the others when they are returned.
    pub(crate) fn close(&self) {
        let old = self.0.lock().retire();
        drop(old);
    }

    /// Calls `read` with a connection. Returns `None` if there is no file.
    fn with<T>(
        &self,
        file: &std::path::Path,
        read: impl FnOnce(&JournalReader) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (generation, idle) = {
            let mut pool = self.0.lock();
            if !pool.is_open {
                return Ok(None);
            }
            (pool.generation, pool.idle.pop())
        };
        let reader = match idle {
            Some(reader) => reader,
            None => JournalReader::open(file)?,
        };
        let result = read(&reader)?;
        let mut pool = self.0.lock();
        let is_of_use = pool.generation == generation && pool.idle.len() < limits::READERS;
        let surplus = if is_of_use {
            pool.idle.push(reader);
            None
        } else {
            Some(reader)
        };
        // Closing a connection may access the file, so release the lock first.
        drop(pool);
        drop(surplus);
        Ok(Some(result))
    }
}

/// Keeps messages and topics in a file. Also keeps the last messages in each conversation in
/// memory, in case the file can't be used.
pub struct FileJournal {
    shared: Arc<JournalState>,
    last_id: u64,
    /// The writer, until its thread starts.
    writer: Mutex<Option<Writer>>,
}

impl FileJournal {
    /// Opens the file, or creates it if it does not exist. If that fails, emits an event with the
    /// reason, and keeps the messages in memory.
    pub fn open(settings: &JournalSettings, events: &Events) -> FileJournal {
        FileJournal::with_rows(settings, events, limits::QUEUE_ROWS)
    }

    /// Like [`FileJournal::open`], with a queue of `rows` messages.
    pub(crate) fn with_rows(
        settings: &JournalSettings,
        events: &Events,
        rows: usize,
    ) -> FileJournal {
        let shared = Arc::new(JournalState {
            settings: settings.clone(),
            events: events.clone(),
            queue: Queue::new(rows),
            readers: Readers::default(),
            memory: MemoryJournal::default(),
        });
        let mut writer = Writer::new(Arc::clone(&shared));
        let (last_id, gaps) = writer.open().map_or((0, Vec::new()), |store| {
            (
                store.last_id().unwrap_or(0),
                store.gaps().unwrap_or_default(),
            )
        });
        for id in gaps {
            shared.memory.note_gap(id);
        }
        FileJournal {
            shared,
            last_id,
            writer: Mutex::new(Some(writer)),
        }
    }

    /// Starts the thread `journal`. [`FileJournal::stop`] stops it.
    ///
    /// # Errors
    /// The system can't create a thread.
    pub fn start(&self) -> io::Result<Option<JoinHandle<()>>> {
        let writer = self.writer.lock().take();
        let thread = writer.map(|writer| threads::start("journal", move || writer::run(writer)));
        thread.transpose()
    }

    /// Makes the thread write the rest of the queue, and then exit. Does not wait for that.
    pub fn stop(&self) {
        self.shared.queue.stop();
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&JournalReader) -> Result<T, StoreError>,
    ) -> Result<Option<T>, Unreadable> {
        let result = self.shared.readers.with(&self.shared.settings.file, read);
        result.map_err(|error| {
            let reason = error.to_string();
            self.shared
                .events
                .emit_failure("read the journal", reason.clone());
            if let StoreError::Damaged(_) = error {
                self.shared.queue.report_damage(reason);
            }
            Unreadable
        })
    }

    fn goes_to_the_file(&self, conversation: &Conversation) -> bool {
        self.shared.settings.direct || !matches!(conversation, Conversation::Direct(..))
    }
}

impl Journal for FileJournal {
    fn last_id(&self) -> u64 {
        self.last_id
    }

    fn append(&self, conversation: &Conversation, entries: Vec<HistoryEntry>) {
        let entries = self.shared.memory.without_deleted(conversation, entries);
        if self.goes_to_the_file(conversation) {
            let item = |entry: &HistoryEntry| Item::Message(conversation.clone(), entry.clone());
            self.shared.queue.push(entries.iter().map(item));
        }
        self.shared.memory.append(conversation, entries);
    }

    fn page(&self, conversation: &Conversation, range: Range) -> Result<HistoryPage, Unreadable> {
        // Read in this order, because a message moves from the queue to the file.
        let mut entries = self.shared.memory.entries(conversation, range);
        let pending = self.shared.queue.pending(conversation, &range);
        entries.extend(pending.entries);
        if self.goes_to_the_file(conversation) && !pending.replaces_the_file {
            let kept = self.read(|reader| reader.page(conversation, &range))?;
            entries.extend(kept.into_iter().flatten());
        }
        entries.sort_by_key(|entry| entry.stamp.id);
        entries.dedup_by_key(|entry| entry.stamp.id);
        Ok(HistoryPage {
            gaps: self.shared.memory.gaps(),
            ..range.page(entries)
        })
    }

    fn note_gap(&self, id: u64) {
        self.shared.note_gap(id);
    }

    fn set_topic(&self, room: &Name, topic: &str, username: &str) {
        self.shared.queue.push([Item::Topic {
            room: room.key(),
            topic: topic.to_owned(),
            username: username.to_owned(),
        }]);
    }

    fn begin_room(&self, room: &Name, most: usize) -> RoomRecord {
        let pending = self.shared.queue.pending_topic(&room.key());
        let topic = match pending {
            Some(topic) => Some(topic),
            None => {
                let topic = self.read(|reader| reader.topic(&room.key()));
                topic.ok().flatten().flatten()
            }
        };
        let history = self.page(&Conversation::room(room), Range::last(most));
        RoomRecord {
            topic: topic
                .filter(|(topic, _)| !topic.is_empty())
                .map(|(topic, by)| (by, topic)),
            history: history.map(|page| page.entries).unwrap_or_default(),
        }
    }

    fn end_room(&self, room: &Name) {
        self.shared.memory.end_room(room);
    }

    fn delete_direct(&self, username: &Name, last: u64) -> Result<(), Unreadable> {
        // Do this first. From then on, late messages are dropped on arrival, so the queued deletion
        // need not cover them.
        self.shared.memory.delete_direct(username, last)?;
        // The file may contain direct messages from a time when they were kept there.
        let queue = &self.shared.queue;
        queue.push_always(Item::DeleteDirect(username.key(), last));
        match queue.flush(limits::DELETION_PATIENCE) {
            true => Ok(()),
            false => Err(Unreadable),
        }
    }
}

impl Writer {
    /// Opens the file, or a new one if it is damaged. If that fails, emits an event with the
    /// reason.
    pub(crate) fn open(&mut self) -> Option<&Store> {
        self.reopen(SystemTime::now());
        self.store()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::queue::tests::message;
    use crate::test_support::{JournalFolder, events, so_far};
    use portal_core::event::{Event, EventQueue};

    fn ids(journal: &FileJournal, conversation: &Conversation, range: Range) -> Vec<u64> {
        let page = journal.page(conversation, range).unwrap();
        page.entries.iter().map(|entry| entry.stamp.id).collect()
    }

    fn lobby() -> Name {
        Name::new("Lobby").unwrap()
    }

    fn append(journal: &FileJournal, conversation: &Conversation, id: u64) {
        journal.append(conversation, vec![message(id, "hello")]);
    }

    /// Waits until the thread has written everything in the queue and has exited.
    fn finish(journal: &FileJournal) {
        let thread = journal.start().unwrap();
        journal.stop();
        if let Some(thread) = thread {
            thread.join().unwrap();
        }
    }

    /// Keeps messages of any age, because the ids in these tests are times close to the Unix epoch.
    fn settings(file: PathBuf) -> JournalSettings {
        JournalSettings {
            keep: Duration::MAX,
            ..JournalSettings::new(file)
        }
    }

    fn open(folder: &JournalFolder) -> (FileJournal, EventQueue) {
        let (events, queue) = events();
        let settings = settings(folder.file());
        (FileJournal::open(&settings, &events), queue)
    }

    fn found<'e>(events: &'e [Event], kind: &str) -> &'e Event {
        let found = events.iter().find(|event| event.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {events:?}"))
    }

    #[test]
    fn a_deleted_users_direct_messages_are_removed_at_once_and_from_the_file() {
        let folder = JournalFolder::new("delete-direct");
        let name = |name| Name::new(name).unwrap();
        // In a `LIKE` pattern, `_` would match any character.
        let (alice, bob) = (name("alice"), name("b_b"));
        let direct = Conversation::direct(&alice, &bob);
        let others = [
            Conversation::direct(&alice, &name("bob")),
            Conversation::direct(&alice, &name("b_b_")),
            Conversation::room(&bob),
            Conversation::Public,
        ];
        let check = |journal: &FileJournal, left: &[u64]| {
            assert_eq!(ids(journal, &direct, Range::last(9)), left);
            for other in &others {
                assert_eq!(ids(journal, other, Range::last(9)), [1], "{other:?}");
            }
        };
        let (journal, _) = open(&folder);
        append(&journal, &direct, 1);
        for other in &others {
            append(&journal, other, 1);
        }
        finish(&journal);
        let (journal, _) = open(&folder);
        append(&journal, &direct, 2);
        check(&journal, &[1, 2]);
        // Delete the messages in the file, in the queue and in memory.
        let thread = journal.start().unwrap();
        journal.delete_direct(&name("B_B"), 2).unwrap();
        check(&journal, &[]);
        // Append a message that arrives late, and one from the name's next owner.
        append(&journal, &direct, 2);
        append(&journal, &direct, 3);
        check(&journal, &[3]);
        journal.stop();
        thread.unwrap().join().unwrap();
        check(&journal, &[3]);
        let (journal, _) = open(&folder);
        check(&journal, &[3]);
    }

    #[test]
    fn messages_and_topics_survive_a_restart() {
        let folder = JournalFolder::new("restart");
        let (journal, _) = open(&folder);
        let room = Conversation::room(&lobby());
        for id in 1..=500 {
            append(&journal, &room, id);
        }
        journal.set_topic(&lobby(), "cats", "alice");
        // Read before the writer has started, and again after a restart.
        let last = (491..=500).collect::<Vec<u64>>();
        assert_eq!(ids(&journal, &room, Range::last(10)), last);
        assert_eq!(journal.begin_room(&lobby(), 1).topic.unwrap().1, "cats");
        finish(&journal);
        drop(journal);
        let (journal, queue) = open(&folder);
        assert_eq!(journal.last_id(), 500);
        let begun = journal.begin_room(&lobby(), 3);
        assert_eq!(begun.topic, Some(("alice".to_owned(), "cats".to_owned())));
        let begun = begun.history.iter().map(|entry| entry.stamp.id);
        assert_eq!(begun.collect::<Vec<_>>(), [498, 499, 500]);
        // The messages on disk, in the queue and in memory form one history.
        append(&journal, &room, 501);
        journal.end_room(&lobby());
        append(&journal, &room, 502);
        assert_eq!(ids(&journal, &room, Range::last(4)), [499, 500, 501, 502]);
        let after = Range {
            after: Some(499),
            ..Range::last(2)
        };
        assert_eq!(ids(&journal, &room, after), [500, 501]);
        assert!(journal.page(&room, after).unwrap().more);
        let events = so_far(&queue);
        assert!(
            events.iter().all(|event| event.kind == "journal-open"),
            "{events:?}"
        );
    }

    #[test]
    fn a_stopped_journal_is_complete_in_its_file() {
        let folder = JournalFolder::new("stopped");
        let (journal, _) = open(&folder);
        append(&journal, &Conversation::room(&lobby()), 1);
        let thread = journal.start().unwrap().unwrap();
        // A reader that is idle still has the file open.
        while journal.shared.readers.0.lock().idle.is_empty() {
            journal.begin_room(&lobby(), 1);
        }
        journal.stop();
        thread.join().unwrap();
        assert!(!folder.path("journal.db-wal").exists());
        let copy = folder.path("copy.db");
        std::fs::copy(folder.file(), &copy).unwrap();
        let copy = rusqlite::Connection::open(copy).unwrap();
        let count = copy.query_row("SELECT count(*) FROM messages", [], |row| row.get(0));
        assert_eq!(count, Ok(1));
    }

    #[cfg(unix)]
    #[test]
    fn a_removed_file_is_reported_and_begun_again() {
        let folder = JournalFolder::new("removed");
        let (journal, queue) = open(&folder);
        std::fs::remove_file(folder.file()).unwrap();
        append(&journal, &Conversation::Public, 1);
        finish(&journal);
        let events = so_far(&queue);
        let reason = found(&events, "journal-failing").text("reason").unwrap();
        assert!(reason.starts_with("it was removed"), "{reason}");
        assert!(found(&events, "journal-works").text("file").is_some());
        drop(journal);
        let (journal, _) = open(&folder);
        assert_eq!(ids(&journal, &Conversation::Public, Range::last(9)), [1]);
    }

    #[cfg(unix)]
    #[test]
    fn a_renamed_file_is_complete_in_its_new_place() {
        let folder = JournalFolder::new("renamed");
        let (journal, _) = open(&folder);
        append(&journal, &Conversation::Public, 1);
        let thread = journal.start().unwrap().unwrap();
        let is_written = || {
            let reader = JournalReader::open(&folder.file()).unwrap();
            let page = reader.page(&Conversation::Public, &Range::last(9));
            !page.unwrap().is_empty()
        };
        while !is_written() {
            std::thread::yield_now();
        }
        let old = folder.path("old.db");
        std::fs::rename(folder.file(), &old).unwrap();
        append(&journal, &Conversation::Public, 2);
        journal.stop();
        thread.join().unwrap();
        for (file, id) in [(old, 1), (folder.file(), 2)] {
            let database = rusqlite::Connection::open(file).unwrap();
            let there = database.query_row("SELECT id FROM messages", [], |row| row.get(0));
            assert_eq!(there, Ok(id));
        }
    }

    #[test]
    fn direct_messages_stay_in_memory_if_configured() {
        let folder = JournalFolder::new("direct");
        let settings = JournalSettings {
            direct: false,
            ..settings(folder.file())
        };
        let (events, _queue) = events();
        let direct = Conversation::Direct("alice".to_owned(), "bob".to_owned());
        let journal = FileJournal::open(&settings, &events);
        append(&journal, &direct, 1);
        append(&journal, &Conversation::Public, 2);
        assert_eq!(ids(&journal, &direct, Range::last(9)), [1]);
        finish(&journal);
        let journal = FileJournal::open(&settings, &events);
        assert!(ids(&journal, &direct, Range::last(9)).is_empty());
        assert_eq!(ids(&journal, &Conversation::Public, Range::last(9)), [2]);
    }

    #[test]
    fn a_full_queue_counts_messages_and_memory_keeps_the_last_ones() {
        let folder = JournalFolder::new("full");
        let (events, queue) = events();
        let settings = settings(folder.file());
        let journal = FileJournal::with_rows(&settings, &events, 3);
        for id in 1..=5 {
            append(&journal, &Conversation::Public, id);
        }
        let all = |journal: &FileJournal| ids(journal, &Conversation::Public, Range::last(9));
        assert_eq!(all(&journal), [1, 2, 3, 4, 5]);
        finish(&journal);
        let events = so_far(&queue);
        assert_eq!(found(&events, "journal-missed").number("count"), Some(2));
        drop(journal);
        let (journal, _) = open(&folder);
        append(&journal, &Conversation::Public, 9);
        assert_eq!(all(&journal), [1, 2, 3, 9]);
        let page = journal.page(&Conversation::Public, Range::last(9));
        assert_eq!(page.unwrap().gaps, [4, 5]);
    }

    #[test]
    fn nothing_is_deleted_if_the_file_cant_be_used() {
        let folder = JournalFolder::new("delete-foreign");
        folder.write(b"");
        let other = rusqlite::Connection::open(folder.file()).unwrap();
        other.execute_batch("CREATE TABLE cats (name)").unwrap();
        let (journal, _) = open(&folder);
        let bob = Name::new("bob").unwrap();
        assert_eq!(journal.delete_direct(&bob, 2), Err(Unreadable));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_reported_and_nothing_new_is_lost() {
        let folder = JournalFolder::new("damaged");
        let content = b"not a database, but something that must not be lost".repeat(100);
        folder.write(&content);
        let (journal, queue) = open(&folder);
        append(&journal, &Conversation::Public, 1);
        finish(&journal);
        let events = so_far(&queue);
        let damaged = found(&events, "journal-damaged");
        let kept = PathBuf::from(damaged.text("kept").unwrap());
        assert_eq!(std::fs::read(kept).unwrap(), content);
        assert_eq!(
            ids(&open(&folder).0, &Conversation::Public, Range::last(9)),
            [1]
        );
    }

    /// A page in the middle of the file is overwritten, which is detected only when it is read.
    #[test]
    fn a_corrupted_page_found_by_a_reader_sets_the_file_aside() {
        let folder = JournalFolder::new("page");
        let (journal, _) = open(&folder);
        for id in 1..=5_000 {
            append(&journal, &Conversation::Public, id);
        }
        finish(&journal);
        drop(journal);
        let mut bytes = std::fs::read(folder.file()).unwrap();
        let (begin, end) = (bytes.len() / 8, bytes.len() - bytes.len() / 8);
        bytes[begin..end].fill(0x5a);
        std::fs::write(folder.file(), &bytes).unwrap();
        let (journal, queue) = open(&folder);
        append(&journal, &Conversation::Public, 5_001);
        let mut readings = (0..50).map(|page| {
            let before = Some(page * 100 + 1);
            let range = Range {
                before,
                ..Range::last(100)
            };
            journal.page(&Conversation::Public, range)
        });
        assert!(readings.any(|page| page == Err(Unreadable)));
        finish(&journal);
        let events = so_far(&queue);
        let kept = found(&events, "journal-damaged").text("kept").unwrap();
        assert_eq!(std::fs::read(kept).unwrap().len(), bytes.len());
        assert!(ids(&open(&folder).0, &Conversation::Public, Range::last(9)).ends_with(&[5_001]));
    }

    #[test]
    fn a_newer_versions_file_is_left_alone_and_memory_is_used() {
        let folder = JournalFolder::new("newer");
        let (journal, _) = open(&folder);
        append(&journal, &Conversation::Public, 1);
        finish(&journal);
        drop(journal);
        let newer = rusqlite::Connection::open(folder.file()).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        drop(newer);
        let before = std::fs::read(folder.file()).unwrap();
        let (journal, queue) = open(&folder);
        append(&journal, &Conversation::Public, 2);
        assert_eq!(ids(&journal, &Conversation::Public, Range::last(9)), [2]);
        finish(&journal);
        let events = so_far(&queue);
        let off = found(&events, "journal-off");
        assert!(
            off.text("reason").unwrap().contains("newer version"),
            "{off:?}"
        );
        assert!(off.text("fix").unwrap().contains("--journal"), "{off:?}");
        assert_eq!(std::fs::read(folder.file()).unwrap(), before);
    }

    #[test]
    fn a_file_that_cant_be_created_is_reported_and_messages_are_counted() {
        let folder = JournalFolder::new("nowhere");
        let (events, queue) = events();
        let settings = settings(folder.path("nowhere/journal.db"));
        let journal = FileJournal::open(&settings, &events);
        append(&journal, &Conversation::Public, 1);
        assert_eq!(ids(&journal, &Conversation::Public, Range::last(9)), [1]);
        finish(&journal);
        let events = so_far(&queue);
        assert!(found(&events, "journal-failing").text("reason").is_some());
        assert_eq!(found(&events, "journal-missed").number("count"), Some(1));
    }

    /// The folder appears while the server runs, like a disk that is mounted late.
    #[test]
    fn messages_wait_until_the_file_can_be_created() {
        let folder = JournalFolder::new("late");
        let (events, queue) = events();
        let settings = settings(folder.path("late/journal.db"));
        let journal = FileJournal::open(&settings, &events);
        append(&journal, &Conversation::Public, 1);
        std::fs::create_dir(folder.path("late")).unwrap();
        finish(&journal);
        let events = so_far(&queue);
        found(&events, "journal-failing");
        found(&events, "journal-works");
        let journal = FileJournal::open(&settings, &crate::test_support::events().0);
        assert_eq!(ids(&journal, &Conversation::Public, Range::last(9)), [1]);
    }

    /// SQLite is configured to refuse to grow the file beyond a number of pages, as on a full disk.
    #[test]
    fn a_full_disk_is_reported_and_committed_messages_survive() {
        let folder = JournalFolder::new("disk");
        let (journal, queue) = open(&folder);
        append(&journal, &Conversation::Public, 1);
        let mut writer = journal.writer.lock().take().unwrap();
        writer.limit_pages(12);
        let thread = std::thread::spawn(move || writer::run(writer));
        for id in 2..=2_000 {
            append(&journal, &Conversation::Public, id);
        }
        journal.stop();
        thread.join().unwrap();
        let events = so_far(&queue);
        let reason = found(&events, "journal-failing").text("reason").unwrap();
        assert!(reason.contains("full"), "{reason}");
        let missed = found(&events, "journal-missed").number("count").unwrap();
        let kept = ids(&open(&folder).0, &Conversation::Public, Range::last(9_999));
        assert_eq!(kept.len() as u64 + missed, 2_000);
    }
}
