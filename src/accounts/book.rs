//! The accounts in memory and on disk. Writers wait for the disk; readers do not.
//!
//! Concurrent writers share one write and one `fsync`: the first one writes all waiting entries,
//! and the others wait for the outcome. The disk is the bottleneck: with one `fsync` each, the last
//! of six registrations would wait six times as long.

use std::collections::HashSet;
use std::io;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::disk_file::DiskFile;
#[cfg(test)]
use super::disk_file::Sync;
use super::lines::{Account, ByKey, CHANGED, DELETED, Damage, read};
use portal_cli::text_file::without_mark;
use portal_net::lock::{Condvar, Mutex, Rank};
use portal_wire::Name;

pub(super) struct Book {
    path: PathBuf,
    /// The accounts that have been written to disk. A leaf lock, never held during disk access or
    /// hashing.
    by_key: Mutex<ByKey>,
    /// The entries waiting to be written. A leaf lock.
    waiting: Mutex<PendingBatch>,
    /// Notified when the write of a batch succeeds or fails.
    written: Condvar,
    /// Locked by the writing thread.
    file: Mutex<DiskFile>,
    /// The keys of the names on damaged lines. A leaf lock.
    reserved: Mutex<HashSet<String>>,
    /// Set after the file was replaced.
    rescued: Mutex<Option<Rescued>>,
}

/// The result of switching to a new accounts file while the server is running.
pub struct Rescued {
    /// The number of accounts added to the new file.
    pub count: usize,
    /// The damaged lines in the new file.
    pub damage: Vec<Damage>,
}

#[derive(Default)]
struct PendingBatch {
    /// True while a thread is writing. New entries then go into the next batch.
    is_writing: bool,
    batch: Batch,
}

/// Entries that are written together.
#[derive(Default)]
struct Batch {
    entries: Vec<PendingEntry>,
    /// Set once, after the write.
    outcome: Arc<OnceLock<Result<(), WriteFailure>>>,
}

/// A new account, or a new password for an existing one.
pub(super) struct PendingEntry {
    pub(super) name: Name,
    pub(super) hash: String,
    /// True if the entry replaces the password of an existing account.
    pub(super) is_change: bool,
    /// Number of password versions that the entry represents: more than one if this server has
    /// missed versions from another server.
    pub(super) count: u64,
}

/// Returns the lines that raise an account's version by `count`. They all contain `hash`, the hash
/// of the latest password.
fn lines_of(name: &Name, hash: &str, is_change: bool, count: u64) -> String {
    let word = |number: u64| if is_change || number > 0 { CHANGED } else { "" };
    let line = |number| {
        format!("{name} {hash} {}", word(number))
            .trim_end()
            .to_owned()
            + "\n"
    };
    (0..count).map(line).collect()
}

/// An error that all writers in a batch receive.
#[derive(Clone)]
struct WriteFailure(io::ErrorKind, String);

/// The result of [`Book::open`].
pub(super) struct OpenedFile {
    pub(super) book: Book,
    pub(super) damage: Vec<Damage>,
    /// True if other users had access to the file before it was opened. Opening it revoked their
    /// access.
    pub(super) was_open_to_others: bool,
}

impl Book {
    /// Opens the file (or creates it with mode 0600), locks it against other servers, and reads it.
    /// Returns `Ok(None)` if another server has locked it.
    ///
    /// # Errors
    /// System errors, and `InvalidInput` for a symbolic link. A user with write access to the
    /// folder could point the link at another user's file, and this server would then append to
    /// that file.
    pub(super) fn open(path: &Path) -> io::Result<Option<OpenedFile>> {
        let Some((disk, bytes, was_open_to_others)) = DiskFile::open(path)? else {
            return Ok(None);
        };
        let (by_key, damage) = read(without_mark(&bytes)?);
        let book = Book {
            path: path.to_owned(),
            by_key: Mutex::new(by_key),
            waiting: Mutex::default(),
            written: Condvar::new(),
            file: Mutex::ranked(Rank::AccountsFile, disk),
            reserved: Mutex::new(names_in(&damage)),
            rescued: Mutex::new(None),
        };
        Ok(Some(OpenedFile {
            book,
            damage,
            was_open_to_others,
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the account with this name.
    pub(super) fn find(&self, name: &Name) -> Option<Account> {
        self.by_key.lock().get(&name.key()).cloned()
    }

    /// Returns whether the name is on a damaged line and has no account.
    pub(super) fn is_reserved(&self, name: &Name) -> bool {
        let key = name.key();
        let stands_there = self.reserved.lock().contains(&key);
        stands_there && !self.by_key.lock().contains_key(&key)
    }

    pub(super) fn all(&self) -> Vec<Account> {
        self.by_key.lock().values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.lock().len()
    }

    pub(super) fn take_rescued(&self) -> Option<Rescued> {
        self.rescued.lock().take()
    }

    /// Appends an entry. On return, the entry is on disk.
    ///
    /// # Errors
    /// System errors. In that case, nothing has changed.
    pub(super) fn append(&self, entry: PendingEntry) -> io::Result<()> {
        let mut waiting = self.waiting.lock();
        waiting.batch.entries.push(entry);
        let outcome = Arc::clone(&waiting.batch.outcome);
        loop {
            if let Some(outcome) = outcome.get() {
                let outcome = outcome.clone();
                return outcome.map_err(|WriteFailure(kind, reason)| io::Error::new(kind, reason));
            }
            if waiting.is_writing {
                self.written.wait(&mut waiting);
                continue;
            }
            waiting.is_writing = true;
            let batch = take(&mut waiting.batch);
            drop(waiting);
            let written = self.write(&batch.entries);
            let failure = |error: io::Error| WriteFailure(error.kind(), error.to_string());
            // Set only here, by the writing thread.
            let _ = batch.outcome.set(written.map_err(failure));
            waiting = self.waiting.lock();
            waiting.is_writing = false;
            self.written.notify_all();
        }
    }

    /// Deletes an account. When this returns, the deletion is on disk.
    ///
    /// # Errors
    /// System errors. In that case, nothing has changed.
    pub(super) fn delete(&self, name: &Name) -> io::Result<()> {
        let mut disk = self.file.lock();
        if disk.is_elsewhere()? {
            self.follow(&mut disk)?;
        }
        disk.append(&format!("{name} {DELETED}\n"))?;
        self.by_key.lock().remove(&name.key());
        Ok(())
    }

    /// Writes a batch to disk, then updates the accounts in memory.
    fn write(&self, entries: &[PendingEntry]) -> io::Result<()> {
        let mut disk = self.file.lock();
        if disk.is_elsewhere()? {
            self.follow(&mut disk)?;
        }
        let line =
            |entry: &PendingEntry| lines_of(&entry.name, &entry.hash, entry.is_change, entry.count);
        let lines: String = entries.iter().map(line).collect();
        disk.append(&lines)?;
        let mut by_key = self.by_key.lock();
        for PendingEntry {
            name, hash, count, ..
        } in entries
        {
            // The name keeps its original spelling.
            let account = by_key.entry(name.key()).or_insert_with(|| Account {
                name: name.clone(),
                hash: String::new(),
                version: 0,
            });
            account.hash.clone_from(hash);
            account.version += count;
        }
        Ok(())
    }

    /// Switches to the new file at the path and adds the accounts that are missing from it.
    fn follow(&self, disk: &mut DiskFile) -> io::Result<()> {
        let (mut opened, bytes) = disk.reopen()?;
        let (there, damage) = read(without_mark(&bytes)?);
        let known = self.by_key.lock().clone();
        let lacking = known.iter().filter(|(key, _)| !there.contains_key(*key));
        let lines: Vec<String> = lacking
            .map(|(_, there)| lines_of(&there.name, &there.hash, false, there.version))
            .collect();
        // If any of this fails, `disk` still refers to the old file, so the next registration tries
        // again. A line that is written twice counts only once.
        opened.append(&lines.concat())?;
        *disk = opened;
        *self.reserved.lock() = names_in(&damage);
        let count = lines.len();
        *self.rescued.lock() = Some(Rescued { count, damage });
        self.by_key.lock().extend(there);
        Ok(())
    }

    /// Returns the number of entries in the next batch.
    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.waiting.lock().batch.entries.len()
    }

    /// Replaces `fsync`.
    #[cfg(test)]
    pub(super) fn sync_with(&self, sync: Sync) {
        self.file.lock().sync_with(sync);
    }
}

fn names_in(damage: &[Damage]) -> HashSet<String> {
    let names = damage.iter().filter_map(|damage| damage.name.as_ref());
    names.map(Name::key).collect()
}
