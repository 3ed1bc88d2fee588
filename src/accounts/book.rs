//! The accounts in memory and on the disk. Writers wait for the disk; readers do not.
//!
//! Concurrent writers share one write and one `fsync`: the first of them writes the entries of all
//! that are waiting, and the others wait for the outcome. The disk is the bottleneck: with one
//! `fsync` each, the last of six registrations would wait six times as long.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::lines::{Account, ByKey, CHANGED, Damage, read};
use portal_cli::files::is_elsewhere;
use portal_cli::text_file::{open_to_append, without_mark};
use portal_net::lock::{Condvar, Mutex, Rank};
use portal_wire::Name;

pub(super) struct Book {
    path: PathBuf,
    /// The accounts that are on the disk. A leaf lock, never held during disk access or hashing.
    by_key: Mutex<ByKey>,
    /// The entries that wait for the disk. A leaf lock.
    waiting: Mutex<PendingBatch>,
    /// Notified when a batch has been written, or has failed.
    written: Condvar,
    /// Locked by the thread that writes.
    file: Mutex<DiskFile>,
    /// The keys of the names on damaged lines. A leaf lock.
    reserved: Mutex<HashSet<String>>,
    /// Set after the file was replaced.
    rescued: Mutex<Option<Rescued>>,
}

/// The outcome after the accounts file was replaced while the server was running.
pub struct Rescued {
    /// The number of accounts written into the new file.
    pub count: usize,
    /// The damaged lines of the new file.
    pub damage: Vec<Damage>,
}

#[derive(Default)]
struct PendingBatch {
    /// A thread is writing; new entries go into the next batch.
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
    /// The entry replaces the password of an existing account.
    pub(super) is_change: bool,
    /// Number of passwords that the entry counts for; more than one if it comes from another
    /// server, which had earlier ones.
    pub(super) count: u64,
}

/// Returns the lines that add `count` passwords to an account, `hash` the last of them.
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
    /// The length without the remains of a failed write, in bytes.
    length: u64,
    /// `fsync`; a test replaces it to simulate a slow disk.
    sync: Sync,
}

type Sync = Box<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

/// The result of [`Book::open`].
pub(super) struct OpenedFile {
    pub(super) book: Book,
    pub(super) damage: Vec<Damage>,
    /// Other users had access to the file, which opening it has removed.
    pub(super) was_open_to_others: bool,
}

impl Book {
    /// Opens the file, or creates it with mode 0600, locks it against other servers, and reads it.
    /// `Ok(None)` if another server has locked it.
    ///
    /// # Errors
    /// The system's errors, and `InvalidInput` for a symbolic link: a user with write access to the
    /// folder could point it at another user's file, to which this server would then append.
    pub(super) fn open(path: &Path) -> io::Result<Option<OpenedFile>> {
        if path.is_symlink() {
            let reason = "it is a symbolic link; name the file itself";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let is_new = !path.exists();
        let mut file = open_to_append(path)?;
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
            // A line torn by a crash stays, but the next line must start on its own.
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

    /// Returns the account of that name.
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

    /// Appends an entry. When this returns, the entry is on the disk.
    ///
    /// # Errors
    /// The system's errors; then nothing has changed.
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
            // Set only here, by the thread that writes.
            let _ = batch.outcome.set(written.map_err(failure));
            waiting = self.waiting.lock();
            waiting.is_writing = false;
            self.written.notify_all();
        }
    }

    /// Writes a batch, and updates the accounts in memory once it is on the disk.
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
            // The name keeps its first spelling.
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

    /// Switches to the new file at the path, and writes the accounts that it lacks.
    fn follow(&self, disk: &mut DiskFile) -> io::Result<()> {
        let mut file = open_to_append(&disk.path)?;
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
        // If any of this fails, the next registration retries it, because writes still go to the
        // old file. A line that was written twice then counts once.
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
    /// Appends lines and waits until they are on the disk. A failed write is undone, so that the
    /// next line does not continue it.
    fn append(&mut self, lines: &str) -> io::Result<()> {
        // An editor may have changed the file, or a failed line may remain. In these cases the
        // lines start on a new line, and a truncation never removes what the server did not write.
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

/// Returns the bytes of the file, its accounts, and its damaged lines.
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

/// Syncs the folder of a new file: the file survives a power cut only if its folder entry is on the
/// disk.
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
