//! The accounts in memory and on disk. Writers wait for the disk; readers do not.
//!
//! Concurrent writers share one write and one `fsync`: the first one writes all waiting entries,
//! and the others wait for the outcome. The disk is the bottleneck: with one `fsync` each, the last
//! of six registrations would wait six times as long.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::lines::{Account, ByKey, CHANGED, Damage, read};
use portal_cli::files::is_elsewhere;
use portal_cli::private::Privacy;
use portal_cli::text_file::{open_private_to_append, without_mark};
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
    /// The damaged lines of the new file.
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

/// A new account, or a new password of an existing one.
pub(super) struct PendingEntry {
    pub(super) name: Name,
    pub(super) hash: String,
    /// True if the entry replaces the password of an existing account.
    pub(super) is_change: bool,
    /// Number of password versions that the entry stands for. It is more than one if the entry
    /// comes from another server that also had earlier versions.
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

/// An error that all writers of a batch receive.
#[derive(Clone)]
struct WriteFailure(io::ErrorKind, String);

/// The open accounts file.
struct DiskFile {
    file: File,
    path: PathBuf,
    /// The length in bytes, without the remains of a failed write.
    length: u64,
    /// `fsync`; a test replaces it to simulate a slow disk.
    sync: Sync,
}

type Sync = Box<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

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
    /// The system's errors, and those of [`Privacy::Accounts`]. In particular, no symbolic link is
    /// followed: a user with write access to the folder could point it at another user's file, to
    /// which this server would then append.
    pub(super) fn open(path: &Path) -> io::Result<Option<OpenedFile>> {
        let is_new = !path.exists();
        let mut file = open_private_to_append(path, Privacy::Accounts)?;
        let was_open_to_others = keep_to_owner(&file)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_new {
            sync_folder_of(path)?;
        }
        let (bytes, by_key, damage) = read_file(&mut file)?;
        if bytes.last().is_some_and(|&last| last != b'\n') {
            // Keep a line torn by a crash, but start the next entry on a new line.
            file.write_all(b"\n").and_then(|()| file.sync_all())?;
        }
        let length = file.metadata()?.len();
        let disk = DiskFile {
            file,
            path: path.to_owned(),
            length,
            sync: Box::new(File::sync_data),
        };
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

    /// Writes a batch to disk, then updates the accounts in memory.
    fn write(&self, entries: &[PendingEntry]) -> io::Result<()> {
        let mut disk = self.file.lock();
        if is_elsewhere(&disk.file, &disk.path)? {
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
        let mut file = open_private_to_append(&disk.path, Privacy::Accounts)?;
        keep_to_owner(&file)?;
        if let Err(error) = file.try_lock() {
            return Err(match error {
                TryLockError::WouldBlock => io::Error::other("another server uses the new file"),
                TryLockError::Error(error) => error,
            });
        }
        let (bytes, there, damage) = read_file(&mut file)?;
        let known = self.by_key.lock().clone();
        let lacking = known.iter().filter(|(key, _)| !there.contains_key(*key));
        let lines: Vec<String> = lacking
            .map(|(_, there)| lines_of(&there.name, &there.hash, false, there.version))
            .collect();
        // If any of this fails, `disk` still refers to the old file, so the next registration tries
        // again. A line that is written twice counts only once.
        let begin = if bytes.last().is_some_and(|&last| last != b'\n') {
            "\n"
        } else {
            ""
        };
        file.write_all((begin.to_owned() + &lines.concat()).as_bytes())?;
        file.sync_all()?;
        sync_folder_of(&disk.path)?;
        disk.length = file.metadata()?.len();
        disk.file = file;
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
        self.file.lock().sync = sync;
    }
}

impl DiskFile {
    /// Appends lines and waits until they are on disk. A failed write is undone, so that the next
    /// write does not continue a partial line.
    fn append(&mut self, lines: &str) -> io::Result<()> {
        // An editor may have changed the file, or part of a failed write may remain. In either
        // case, start on a new line. Truncating to `length` never removes text that the server did
        // not write.
        let length = self.file.metadata()?.len();
        let begin = if length == self.length { "" } else { "\n" };
        self.length = length;
        let text = begin.to_owned() + lines;
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| (self.sync)(&self.file));
        match written {
            Ok(()) => {
                self.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If this fails as well, the next append starts on a new line.
                let _ = self.file.set_len(length);
                Err(error)
            }
        }
    }
}

/// Returns the file's bytes, accounts and damaged lines.
fn read_file(file: &mut File) -> io::Result<(Vec<u8>, ByKey, Vec<Damage>)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (by_key, damage) = read(without_mark(&bytes)?);
    Ok((bytes, by_key, damage))
}

fn names_in(damage: &[Damage]) -> HashSet<String> {
    let names = damage.iter().filter_map(|damage| damage.name.as_ref());
    names.map(Name::key).collect()
}

/// Syncs the folder of a new file. The file survives a power failure only if its directory entry is
/// on disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Restricts the file to its owner. Returns whether other users had access to it.
#[cfg(unix)]
fn keep_to_owner(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;

    let mut permissions = file.metadata()?.permissions();
    let is_open = file.metadata()?.is_file() && permissions.mode() & 0o077 != 0;
    if is_open {
        permissions.set_mode(0o600);
        file.set_permissions(permissions)?;
    }
    Ok(is_open)
}

#[cfg(not(unix))]
fn keep_to_owner(_: &File) -> io::Result<bool> {
    Ok(false)
}
