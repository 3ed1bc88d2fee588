//! The database: its tables, and the queries that write and read them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use portal_cli::private::{self, Privacy};
use portal_sessions::journal::{Conversation, HistoryEntry, Range, Stamp};
use portal_wire::time;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, params};

use crate::limits;
use crate::queue::Item;

/// The version of the tables, in `PRAGMA user_version`.
const VERSION: i64 = 1;

/// `PRAGMA application_id`, by which `file` recognizes the database: "Chat".
const APPLICATION: i64 = 0x4368_6174;

const TABLES: &str = "
    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY,
        -- 'public', 'room lobby', 'direct alice bob'; in lower case
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE messages (
        -- in the order of arrival
        number INTEGER PRIMARY KEY,
        conversation INTEGER NOT NULL REFERENCES conversations,
        id INTEGER NOT NULL,
        -- milliseconds since 1970
        time INTEGER NOT NULL,
        sender TEXT NOT NULL,
        recipient TEXT,
        -- 1 for /me
        action INTEGER NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (conversation, id)
    ) STRICT;
    CREATE TABLE topics (
        room TEXT PRIMARY KEY,
        topic TEXT NOT NULL,
        username TEXT NOT NULL,
        time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- messages near these ids may be missing
    CREATE TABLE gaps (id INTEGER PRIMARY KEY) STRICT;
    -- For people.
    CREATE VIEW history AS
        SELECT name AS conversation, strftime('%Y-%m-%dT%H:%M:%fZ', time / 1000.0, 'unixepoch') AS time,
            sender, recipient, action, text, id
        FROM messages JOIN conversations ON conversations.number = conversation
        ORDER BY messages.number;
";

/// The reason why the file can't be used.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// It is not a database, or its content is inconsistent.
    Damaged(String),
    /// It was written by a newer version of the server.
    Newer(i64),
    /// It is another program's database.
    Foreign,
    /// Any other failure, which may be temporary: a full disk, a lock, a missing permission.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Damaged(reason) | StoreError::Failed(reason) => f.write_str(reason),
            StoreError::Newer(version) => write!(
                f,
                "it was written by a newer version of the server (format {version}; this version reads {VERSION})"
            ),
            StoreError::Foreign => f.write_str("it is another program's database"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged(reason)
            }
            _ => match error {
                // A value or a table that this program does not write.
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..) => StoreError::Damaged(reason),
                _ => StoreError::Failed(reason),
            },
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> StoreError {
        StoreError::Failed(error.to_string())
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// The name of a conversation in the database.
pub(crate) fn name_of(conversation: &Conversation) -> String {
    match conversation {
        Conversation::Public => "public".to_owned(),
        Conversation::Room(room) => format!("room {room}"),
        Conversation::Direct(one, other) => format!("direct {one} {other}"),
    }
}

/// An id, or a count, as SQLite stores it.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn milliseconds(time: SystemTime) -> i64 {
    integer(time::microseconds(time) / 1000)
}

/// Reads a message from a row with the columns `id, time, sender, recipient, action, text`.
pub(crate) fn entry(row: &Row<'_>) -> rusqlite::Result<HistoryEntry> {
    let time: i64 = row.get(1)?;
    let since = Duration::from_millis(time.unsigned_abs());
    Ok(HistoryEntry {
        stamp: Stamp {
            id: row.get::<_, i64>(0)?.unsigned_abs(),
            sent_at: SystemTime::UNIX_EPOCH + since,
        },
        from: row.get::<_, String>(2)?.into(),
        to: row.get::<_, Option<String>>(3)?.map(Into::into),
        me: row.get(4)?,
        text: row.get::<_, String>(5)?.into(),
    })
}

/// Checks that only the file's owner or root could have put it there, and that no other user has
/// access to it. A file that does not exist passes.
///
/// # Errors
/// The system's error, with [`portal_cli::private::NotPrivate`] as its cause if the file is
/// exposed.
pub fn check_privacy(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match private::open(options.read(true), path, Privacy::Log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates the file, readable only by its owner, unless it exists. Returns its path with all links
/// resolved, because SQLite is opened without following any.
fn create(path: &Path) -> io::Result<PathBuf> {
    check_privacy(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let whole = std::path::absolute(path)?;
    let folder = whole.parent().unwrap_or(Path::new("/")).canonicalize()?;
    Ok(folder.join(whole.file_name().unwrap_or_default()))
}

/// The writer's connection.
pub(crate) struct Store {
    connection: Connection,
    /// A cache of the conversations' numbers.
    numbers: BTreeMap<Conversation, i64>,
}

impl Store {
    /// Opens the file, and creates it if it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Store> {
        let path = create(path)?;
        // No URIs: `file:x` is an ordinary file name.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(limits::BUSY)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        let mut store = Store {
            connection,
            numbers: BTreeMap::new(),
        };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&mut self) -> Result<()> {
        let connection = &self.connection;
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (version, application) = (pragma("user_version")?, pragma("application_id")?);
        if version > VERSION && application == APPLICATION {
            return Err(StoreError::Newer(version));
        }
        let tables: i64 =
            connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let is_new = tables == 0 && version == 0;
        if !is_new && application != APPLICATION {
            return Err(StoreError::Foreign);
        }
        if is_new {
            // This must be set before the first table is created.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            let reason = format!(
                "SQLite can't use a write-ahead log in that folder (the journal mode is {mode})"
            );
            return Err(StoreError::Failed(reason));
        }
        // A committed transaction must be on disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        if is_new {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        // Detect a read-only file now rather than on the first message.
        if self.connection.is_readonly("main")? {
            let reason = "the file is read-only".to_owned();
            return Err(StoreError::Failed(reason));
        }
        Ok(())
    }

    /// The highest id; 0 if there is no message. Messages arrive almost in order of id, so it is in
    /// one of the last rows.
    pub(crate) fn last_id(&self) -> Result<u64> {
        let sql = "SELECT MAX(id) FROM (SELECT id FROM messages ORDER BY number DESC LIMIT 1000)";
        let last: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(last.unwrap_or(0).unsigned_abs())
    }

    /// The last gaps, ordered by id.
    pub(crate) fn gaps(&self) -> Result<Vec<u64>> {
        let sql = "SELECT id FROM (SELECT id FROM gaps ORDER BY id DESC LIMIT ?1) ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let most = integer(portal_sessions::limits::GAPS as u64);
        let ids = statement.query_map([most], |row| row.get::<_, i64>(0))?;
        let ids = ids.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(ids.into_iter().map(i64::unsigned_abs).collect())
    }

    /// Writes items in one transaction.
    pub(crate) fn write(&mut self, items: &[Item]) -> Result<()> {
        if self.numbers.len() > limits::KNOWN_CONVERSATIONS {
            self.numbers.clear();
        }
        let written = write_items(&mut self.connection, &mut self.numbers, items);
        if written.is_err() {
            // Forget the numbers from the transaction that was rolled back.
            self.numbers.clear();
        }
        written
    }

    /// Does one retention step: deletes a few messages that are older than `keep` at `now`, or the
    /// oldest ones if the file has more than `most` bytes. Returns whether another step is needed.
    pub(crate) fn retain(&mut self, now: SystemTime, keep: Duration, most: u64) -> Result<bool> {
        let until = now.checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH);
        let until_id = integer(time::microseconds(until));
        let rows = limits::RETENTION_ROWS as i64;
        let is_too_long = self.bytes()? > most;
        let limit = if is_too_long { i64::MAX } else { until_id };
        let transaction = self.connection.transaction()?;
        let deleted = transaction.execute(
            "DELETE FROM messages WHERE number IN
                (SELECT number FROM (SELECT number, id FROM messages ORDER BY number LIMIT ?2)
                    WHERE id < ?1)",
            params![limit, rows],
        )?;
        transaction.commit()?;
        if deleted == 0 {
            self.forget_the_silent(milliseconds(until))?;
            // A gap that is older than every message no longer separates any messages.
            let sql = "DELETE FROM gaps WHERE id < ?1";
            self.connection.execute(sql, [until_id])?;
        }
        self.return_pages()?;
        let is_still_too_long = is_too_long && deleted > 0 && self.bytes()? > most;
        Ok(deleted == limits::RETENTION_ROWS || is_still_too_long)
    }

    /// Returns a few free pages to the file system. Each row of the result is one page.
    fn return_pages(&self) -> Result<()> {
        let sql = format!("PRAGMA incremental_vacuum({})", limits::RETENTION_PAGES);
        let mut statement = self.connection.prepare(&sql)?;
        let mut pages = statement.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    /// Deletes the conversations that have no messages, along with their topics if those are also
    /// too old.
    fn forget_the_silent(&mut self, until: i64) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let deleted = transaction.execute(
            "DELETE FROM conversations WHERE NOT EXISTS
                (SELECT 1 FROM messages WHERE conversation = conversations.number)",
            [],
        )?;
        transaction.execute(
            "DELETE FROM topics WHERE time < ?1 AND NOT EXISTS
                (SELECT 1 FROM conversations WHERE name = 'room ' || room)",
            [until],
        )?;
        transaction.commit()?;
        if deleted > 0 {
            self.numbers.clear();
        }
        Ok(())
    }

    /// Moves everything in the write-ahead log into the database. If that fails, the log keeps it.
    pub(crate) fn checkpoint(&self) {
        let _ = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// The length of the used pages, in bytes.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let pragma = |name| {
            let connection = &self.connection;
            connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok(pages.unsigned_abs() * pragma("page_size")?.unsigned_abs())
    }

    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages: u32) {
        let _ = self
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0));
    }

    /// Closes the damaged file without writing to it again, and renames it. Returns its new name.
    pub(crate) fn abandon(
        store: Option<Store>,
        path: &Path,
        now: SystemTime,
    ) -> io::Result<PathBuf> {
        if let Some(store) = store {
            let connection = store.connection;
            let quietly = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = connection.set_db_config(quietly, true);
        }
        set_aside(path, now)
    }
}

/// Renames the file and its write-ahead log, to a name that does not exist yet.
fn set_aside(path: &Path, now: SystemTime) -> io::Result<PathBuf> {
    let with = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let seconds = time::microseconds(now) / 1_000_000;
    let names = (seconds..).map(|number| with(path, &format!(".damaged-{number}")));
    let mut free = names.filter(|name| name.symlink_metadata().is_err());
    let kept = free.next().unwrap_or_else(|| with(path, ".damaged"));
    std::fs::rename(path, &kept)?;
    for end in ["-wal", "-shm"] {
        match std::fs::rename(with(path, end), with(&kept, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(kept)
}

fn write_items(
    connection: &mut Connection,
    numbers: &mut BTreeMap<Conversation, i64>,
    items: &[Item],
) -> Result<()> {
    let transaction = connection.transaction()?;
    {
        // If two servers share the file, the same message may arrive twice.
        let mut insert = transaction.prepare(
            "INSERT OR IGNORE INTO messages (conversation, id, time, sender, recipient, action, text)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for item in items {
            match item {
                Item::Message(conversation, entry) => {
                    let number = match numbers.get(conversation) {
                        Some(number) => *number,
                        None => number_of(&transaction, conversation)?,
                    };
                    numbers.insert(conversation.clone(), number);
                    insert.execute(params![
                        number,
                        integer(entry.stamp.id),
                        milliseconds(entry.stamp.sent_at),
                        entry.from,
                        entry.to,
                        entry.me,
                        entry.text,
                    ])?;
                }
                Item::Topic { room, topic, .. } if topic.is_empty() => {
                    transaction.execute("DELETE FROM topics WHERE room = ?1", [room])?;
                }
                Item::Topic {
                    room,
                    topic,
                    username,
                } => {
                    transaction.execute(
                        "INSERT OR REPLACE INTO topics VALUES (?1, ?2, ?3, ?4)",
                        params![room, topic, username, milliseconds(SystemTime::now())],
                    )?;
                }
                Item::Gap(id) => {
                    let sql = "INSERT OR IGNORE INTO gaps VALUES (?1)";
                    transaction.execute(sql, [integer(*id)])?;
                }
                // A name contains no character that is special in a GLOB pattern.
                Item::DeleteDirect(key, last) => {
                    transaction.execute(
                        "DELETE FROM messages WHERE id <= ?2 AND conversation IN
                            (SELECT number FROM conversations
                                WHERE name GLOB 'direct ' || ?1 || ' *'
                                    OR name GLOB 'direct * ' || ?1)",
                        params![key, integer(*last)],
                    )?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn number_of(transaction: &Transaction<'_>, conversation: &Conversation) -> Result<i64> {
    let name = name_of(conversation);
    transaction.execute(
        "INSERT OR IGNORE INTO conversations (name) VALUES (?1)",
        [&name],
    )?;
    let sql = "SELECT number FROM conversations WHERE name = ?1";
    Ok(transaction.query_row(sql, [&name], |row| row.get(0))?)
}

/// A reader's connection.
pub(crate) struct JournalReader {
    connection: Connection,
}

impl JournalReader {
    pub(crate) fn open(path: &Path) -> Result<JournalReader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(limits::BUSY)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(JournalReader { connection })
    }

    /// Returns the connection, for other queries, after checking the format of the file.
    pub(crate) fn checked(self) -> Result<Connection> {
        let pragma = |name| {
            let connection = &self.connection;
            connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let version = pragma("user_version")?;
        if pragma("application_id")? != APPLICATION {
            return Err(StoreError::Foreign);
        }
        if version > VERSION {
            return Err(StoreError::Newer(version));
        }
        Ok(self.connection)
    }

    /// Returns the messages in a range, in order, plus one more if there are more.
    pub(crate) fn page(
        &self,
        conversation: &Conversation,
        range: &Range,
    ) -> Result<Vec<HistoryEntry>> {
        let order = if range.after.is_some() { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT id, time, sender, recipient, action, text FROM messages
                WHERE conversation = (SELECT number FROM conversations WHERE name = ?1)
                    AND id > ?2 AND id < ?3
                ORDER BY id {order} LIMIT ?4"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let bounds = params![
            name_of(conversation),
            range.after.map_or(-1, integer),
            range.before.map_or(i64::MAX, integer),
            integer(range.most as u64).saturating_add(1),
        ];
        let rows = statement.query_map(bounds, entry)?;
        let mut entries = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if range.after.is_none() {
            entries.reverse();
        }
        Ok(entries)
    }

    /// A room's topic, and the user who set it.
    pub(crate) fn topic(&self, room: &str) -> Result<Option<(String, String)>> {
        let sql = "SELECT topic, username FROM topics WHERE room = ?1";
        let topic = self
            .connection
            .query_row(sql, [room], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(topic.optional()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::queue::tests::message;
    use crate::test_support::JournalFolder;

    fn write(store: &mut Store, conversation: &Conversation, ids: std::ops::RangeInclusive<u64>) {
        let item = |id: u64| Item::Message(conversation.clone(), message(id, &format!("<{id}>")));
        store.write(&ids.map(item).collect::<Vec<_>>()).unwrap();
    }

    fn ids(path: &Path, conversation: &Conversation, range: Range) -> Vec<u64> {
        let entries = JournalReader::open(path)
            .unwrap()
            .page(conversation, &range);
        let entries = entries.unwrap().into_iter();
        entries.map(|entry| entry.stamp.id).collect()
    }

    fn all(path: &Path, conversation: &Conversation) -> Vec<u64> {
        ids(path, conversation, Range::last(usize::MAX))
    }

    #[test]
    fn every_field_of_a_message_round_trips() {
        let folder = JournalFolder::new("store-all");
        let path = folder.file();
        let mut store = Store::open(&path).unwrap();
        let conversation = Conversation::Direct("alice".to_owned(), "bob".to_owned());
        let entry = HistoryEntry {
            stamp: Stamp {
                id: 17,
                sent_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_973_400_123),
            },
            from: "Bob".into(),
            to: Some("ALICE".into()),
            text: "it's \u{0} <&> \u{1f600}".into(),
            me: true,
        };
        let item = Item::Message(conversation.clone(), entry.clone());
        store.write(&[item.clone(), item]).unwrap();
        let reader = JournalReader::open(&path).unwrap();
        assert_eq!(
            reader.page(&conversation, &Range::last(9)).unwrap(),
            [entry]
        );
        drop(store);
        assert_eq!(Store::open(&path).unwrap().last_id().unwrap(), 17);
    }

    #[test]
    fn a_page_has_one_more_message_than_requested() {
        let folder = JournalFolder::new("store-page");
        let path = folder.file();
        let mut store = Store::open(&path).unwrap();
        let lobby = Conversation::Room("lobby".to_owned());
        write(&mut store, &lobby, 1..=9);
        write(&mut store, &Conversation::Public, 4..=6);
        let range = |before, after, most| Range {
            before,
            after,
            most,
        };
        for (asked, found) in [
            (range(None, None, 2), vec![7, 8, 9]),
            (range(Some(5), None, 2), vec![2, 3, 4]),
            (range(None, Some(5), 2), vec![6, 7, 8]),
            (range(Some(7), Some(5), 2), vec![6]),
            (range(Some(u64::MAX), Some(9), 2), vec![]),
            (range(Some(0), None, 2), vec![]),
            (range(None, Some(0), 1), vec![1, 2]),
        ] {
            assert_eq!(ids(&path, &lobby, asked), found, "{asked:?}");
        }
        assert_eq!(all(&path, &Conversation::Public), [4, 5, 6]);
        assert!(all(&path, &Conversation::Room("attic".to_owned())).is_empty());
    }

    #[test]
    fn a_topic_is_replaced_and_removed() {
        let folder = JournalFolder::new("store-topic");
        let mut store = Store::open(&folder.file()).unwrap();
        let reader = JournalReader::open(&folder.file()).unwrap();
        let mut set = |topic: &str| {
            let item = Item::Topic {
                room: "lobby".to_owned(),
                topic: topic.to_owned(),
                username: "alice".to_owned(),
            };
            store.write(&[item]).unwrap();
            reader.topic("lobby").unwrap()
        };
        let by_alice = |topic: &str| Some((topic.to_owned(), "alice".to_owned()));
        assert_eq!(set("cats"), by_alice("cats"));
        assert_eq!(set("dogs"), by_alice("dogs"));
        assert_eq!(set(""), None);
    }

    #[test]
    fn old_messages_are_deleted_a_few_at_a_time() {
        let folder = JournalFolder::new("store-keep");
        let path = folder.file();
        let mut store = Store::open(&path).unwrap();
        let rows = limits::RETENTION_ROWS as u64;
        write(&mut store, &Conversation::Public, 1..=rows + 2);
        let new = 60_000_000;
        write(&mut store, &Conversation::Public, new..=new + 1);
        write(&mut store, &Conversation::Room("lobby".to_owned()), 5..=5);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(90);
        let mut step = || {
            let keep = Duration::from_secs(60);
            store.retain(now, keep, u64::MAX).unwrap()
        };
        assert!(step());
        assert!(!step());
        assert!(!step());
        assert_eq!(all(&path, &Conversation::Public), [new, new + 1]);
        // A new conversation is not confused with the one that no longer has messages.
        write(&mut store, &Conversation::Room("attic".to_owned()), 7..=7);
        write(&mut store, &Conversation::Room("lobby".to_owned()), 8..=8);
        assert_eq!(all(&path, &Conversation::Room("attic".to_owned())), [7]);
        assert_eq!(all(&path, &Conversation::Room("lobby".to_owned())), [8]);
    }

    #[test]
    fn a_file_over_its_limit_loses_its_oldest_messages_and_shrinks() {
        let folder = JournalFolder::new("store-max");
        let path = folder.file();
        let mut store = Store::open(&path).unwrap();
        let text = "x".repeat(1_000);
        for id in 1..=4_000 {
            let item = Item::Message(Conversation::Public, message(id, &text));
            store.write(&[item]).unwrap();
        }
        let most = 2 << 20;
        assert!(store.bytes().unwrap() > most);
        let (now, keep) = (SystemTime::UNIX_EPOCH, Duration::MAX);
        let mut steps = 1;
        while store.retain(now, keep, most).unwrap() {
            steps += 1;
        }
        assert!(steps > 1 && store.bytes().unwrap() <= most);
        let kept = all(&path, &Conversation::Public);
        assert!(
            kept.len() > 400 && kept.ends_with(&[3_999, 4_000]),
            "{}",
            kept.len()
        );
        assert!(kept.windows(2).all(|ids| ids[1] == ids[0] + 1));
        // The free pages are returned to the file system, a few at a time.
        for _ in 0..20 {
            store.retain(now, keep, most).unwrap();
        }
        drop(store);
        assert!(std::fs::metadata(&path).unwrap().len() <= most + (1 << 20));
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        let folder = JournalFolder::new("store-mode");
        drop(Store::open(&folder.file()).unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.file())
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_and_files_that_others_can_read_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = JournalFolder::new("store-exposed");
        drop(Store::open(&folder.file()).unwrap());
        let link = folder.path("link.db");
        std::os::unix::fs::symlink(folder.file(), &link).unwrap();
        assert!(matches!(Store::open(&link), Err(StoreError::Failed(_))));
        let open_to_all = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(folder.file(), open_to_all).unwrap();
        assert!(matches!(
            Store::open(&folder.file()),
            Err(StoreError::Failed(_))
        ));
        // A link to the folder is fine.
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.file(), private).unwrap();
        let folders = folder.path("folder");
        std::os::unix::fs::symlink(folder.file().parent().unwrap(), &folders).unwrap();
        drop(Store::open(&folders.join("journal.db")).unwrap());
    }

    #[test]
    fn a_foreign_file_is_distinguished_from_a_damaged_one() {
        let folder = JournalFolder::new("store-foreign");
        let path = folder.file();
        folder.write(&[b'x'; 5_000]);
        assert!(matches!(Store::open(&path), Err(StoreError::Damaged(_))));
        std::fs::remove_file(&path).unwrap();
        folder.write(b"");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE cats (name)").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Foreign)));
        drop(other);
        std::fs::remove_file(&path).unwrap();
        drop(Store::open(&path).unwrap());
        let newer = Connection::open(&path).unwrap();
        newer
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(newer);
        assert!(matches!(Store::open(&path), Err(StoreError::Newer(2))));
        let reader = JournalReader::open(&path).unwrap();
        assert!(matches!(reader.checked(), Err(StoreError::Newer(2))));
        assert!(matches!(
            Store::open(&folder.path("nowhere/journal.db")),
            Err(StoreError::Failed(_))
        ));
    }
}
