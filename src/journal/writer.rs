//! The thread `journal`: writes batches, and deletes old messages.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::event::JournalEvent;
use crate::file_journal::JournalState;
use crate::limits;
use crate::queue::{Item, Missed, Next};
use crate::store::{Store, StoreError};

/// The owner of the file.
pub(crate) struct Writer {
    shared: Arc<JournalState>,
    store: Option<Store>,
    /// Identifies the open file, to detect that it was removed or replaced.
    identity: Option<FileIdentity>,
    /// Set once the file can no longer be used.
    is_off: bool,
    /// Set while a temporary failure has been reported and not resolved.
    is_failing: bool,
}

/// The result of an attempt to write.
enum Written {
    Yes,
    /// A new file has begun: try again.
    Again,
    /// Try again later.
    Later,
}

/// Writes until the server stops and nothing is left.
pub(crate) fn run(mut writer: Writer) {
    let shared = Arc::clone(&writer.shared);
    let queue = &shared.queue;
    let (mut retained, mut has_more) = (Instant::now(), true);
    loop {
        let idle = match has_more {
            true => Duration::ZERO,
            false => limits::RETENTION_EVERY,
        };
        let next = queue.next(idle, limits::BATCH_TIME);
        if let Some(reason) = queue.take_damage() {
            writer.set_aside(&reason, SystemTime::now());
        }
        match next {
            Next::Write(items) => match writer.write(&items) {
                Written::Yes => queue.written(items.len()),
                Written::Again => {}
                Written::Later if queue.is_stopped() => break,
                Written::Later => {
                    queue.pause(limits::RETRY);
                    continue;
                }
            },
            Next::Idle => {}
            Next::Stop => break,
        }
        writer.missed(queue.take_missed());
        if has_more || retained.elapsed() >= limits::RETENTION_EVERY {
            has_more = writer.retain(SystemTime::now());
            retained = Instant::now();
        }
    }
    writer.report_missed(queue.close());
    // The last connection to close moves the write-ahead log into the database, so that a copy of
    // this one file is complete.
    shared.readers.close();
}

/// The device and the number of a file.
type FileIdentity = (u64, u64);

/// Returns the identity of the file with this path, without opening it: closing a second descriptor
/// of a database would release SQLite's locks.
#[cfg(unix)]
fn identity_of(path: &std::path::Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Always `None`: on other systems, an open file can't be replaced.
#[cfg(not(unix))]
fn identity_of(_: &std::path::Path) -> Option<FileIdentity> {
    None
}

impl Writer {
    /// Creates a writer that has not opened its file.
    pub(crate) fn new(shared: Arc<JournalState>) -> Writer {
        Writer {
            shared,
            store: None,
            identity: None,
            is_off: false,
            is_failing: false,
        }
    }

    /// The database, if it is open.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Simulates a disk that is full at `pages` pages.
    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages: u32) {
        if let Some(store) = &mut self.store {
            store.limit_pages(pages);
        }
    }

    fn file(&self) -> String {
        shown(&self.shared.settings.file)
    }

    /// Opens the file, unless it is open or can no longer be used. Renames a damaged file. Begins a
    /// new file if the old one was removed or replaced.
    pub(crate) fn reopen(&mut self, now: SystemTime) {
        if self.store.is_some() && self.identity != identity_of(&self.shared.settings.file) {
            self.shared.readers.change(false);
            // If the file was only renamed, it must be complete in its new place.
            if let Some(store) = self.store.take() {
                store.checkpoint();
            }
            self.fails("it was removed, renamed or replaced; a new one begins".to_owned());
        }
        if self.is_off || self.store.is_some() {
            return;
        }
        match Store::open(&self.shared.settings.file) {
            Ok(store) => self.begin(store),
            Err(StoreError::Damaged(reason)) => self.set_aside(&reason, now),
            Err(error @ (StoreError::Newer(_) | StoreError::Foreign)) => {
                let fix = "choose another file with --journal";
                self.turn_off(&error.to_string(), fix);
            }
            Err(StoreError::Failed(reason)) => self.fails(reason),
        }
    }

    fn begin(&mut self, store: Store) {
        let (file, bytes) = (self.file(), store.bytes().unwrap_or(0));
        self.store = Some(store);
        self.identity = identity_of(&self.shared.settings.file);
        self.shared.readers.change(true);
        let events = &self.shared.events;
        events.emit(|| JournalEvent::JournalOpen { file, bytes });
    }

    fn write(&mut self, items: &[Item]) -> Written {
        self.reopen(SystemTime::now());
        let Some(store) = &mut self.store else {
            return Written::Later;
        };
        match store.write(items) {
            Ok(()) => {
                self.works();
                Written::Yes
            }
            Err(StoreError::Damaged(reason)) => {
                self.set_aside(&reason, SystemTime::now());
                match self.store {
                    Some(_) => Written::Again,
                    None => Written::Later,
                }
            }
            Err(error) => {
                self.fails(error.to_string());
                Written::Later
            }
        }
    }

    /// Does one retention step. Returns whether another one is needed.
    fn retain(&mut self, now: SystemTime) -> bool {
        let settings = &self.shared.settings;
        let (keep, most) = (settings.keep, settings.max_bytes);
        let Some(store) = &mut self.store else {
            return false;
        };
        match store.retain(now, keep, most) {
            Ok(has_more) => has_more,
            Err(StoreError::Damaged(reason)) => {
                self.set_aside(&reason, now);
                false
            }
            Err(error) => {
                self.fails(error.to_string());
                false
            }
        }
    }

    /// Renames the damaged file, and begins a new one.
    fn set_aside(&mut self, reason: &str, now: SystemTime) {
        let path = self.shared.settings.file.clone();
        let store = self.store.take();
        self.shared.readers.change(false);
        let kept = match Store::abandon(store, &path, now) {
            Ok(kept) => kept,
            Err(error) => {
                let reason = format!("it is damaged ({reason}) and can't be renamed: {error}");
                let fix = "move it out of the way and restart the server";
                return self.turn_off(&reason, fix);
            }
        };
        let (file, kept, reason) = (shown(&path), shown(&kept), reason.to_owned());
        let events = &self.shared.events;
        events.emit(|| JournalEvent::JournalDamaged { file, kept, reason });
        match Store::open(&path) {
            Ok(store) => self.begin(store),
            Err(error) => self.fails(error.to_string()),
        }
    }

    fn turn_off(&mut self, reason: &str, fix: &str) {
        self.is_off = true;
        self.shared.readers.change(false);
        let file = self.file();
        let (reason, fix) = (reason.to_owned(), fix.to_owned());
        let events = &self.shared.events;
        events.emit(|| JournalEvent::JournalOff { file, reason, fix });
        let missed = self.shared.queue.close();
        self.report_missed(missed);
    }

    fn fails(&mut self, reason: String) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let file = self.file();
            let events = &self.shared.events;
            events.emit(|| JournalEvent::JournalFailing { file, reason });
        }
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            let file = self.file();
            let events = &self.shared.events;
            events.emit(|| JournalEvent::JournalWorks { file });
        }
    }

    /// Reports the items that were dropped, and marks the gap that they leave.
    fn missed(&self, missed: Missed) {
        let (first, last) = match missed.ids {
            Some((first, last)) => (Some(first), Some(last).filter(|last| *last > first)),
            None => (None, None),
        };
        for id in first.into_iter().chain(last) {
            self.shared.note_gap(id);
        }
        self.report_missed(missed.count);
    }

    fn report_missed(&self, count: u64) {
        if count > 0 {
            let events = &self.shared.events;
            events.emit(|| JournalEvent::JournalMissed { count });
        }
    }
}

/// A path for an event.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
