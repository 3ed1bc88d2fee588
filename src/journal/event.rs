//! The kinds of events about the journal.

portal_core::event_kinds! {
    /// An event about the journal's file.
    pub enum JournalEvent {
        /// The file is open. `bytes` is the length of its used pages.
        JournalOpen = "journal-open" { file: String, bytes: u64 },
        /// Messages can't be written for now; they wait in the queue.
        JournalFailing = "journal-failing" { file: String, reason: String },
        /// Messages are written again.
        JournalWorks = "journal-works" { file: String },
        /// The file is damaged. It was renamed to `kept`, and a new file begins.
        JournalDamaged = "journal-damaged" { file: String, kept: String, reason: String },
        /// The file is not used until the next start; `fix` is advice for the operator.
        JournalOff = "journal-off" { file: String, reason: String, fix: String },
        /// `count` messages were delivered but are not in the file.
        JournalMissed = "journal-missed" { count: u64 },
    }
}
