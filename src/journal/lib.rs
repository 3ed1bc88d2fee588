//! Messages and topics that survive a restart, in an SQLite database.
//!
//! [`FileJournal`] implements [`Journal`](portal_sessions::journal::Journal). Each message goes
//! into a bounded queue, and the thread `journal` writes the queued messages in one transaction. No
//! client waits for the disk: if the queue is full, messages are delivered but not kept, and an
//! event counts them. Readers have their own connections to the database, so they do not wait for
//! the writer. Every reply includes the messages that are still in the queue.
//!
//! SQLite was chosen because it is well known: `sqlite3 FILE 'SELECT * FROM history'` shows the
//! messages, and `sqlite3 FILE '.backup copy.db'` makes a backup while the server runs. A log file
//! of our own would need an index, a versioned format, and tools for both.
//!
//! The file is never trusted. If other users can read or replace it, the server does not start. If
//! it has any other fault, the server continues with the last messages in each conversation in
//! memory, and an event states the reason. A damaged file is renamed and reported, and a new one
//! begins.

mod event;
mod export;
mod file_journal;
pub mod limits;
mod queue;
mod store;
#[cfg(test)]
mod test_support;
mod writer;

pub use event::JournalEvent;
pub use export::{ExportError, Exporter, Form, Selection};
pub use file_journal::{FileJournal, JournalSettings};
pub use store::check_privacy;
