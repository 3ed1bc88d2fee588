//! The accounts in memory and on the disk: whoever appends waits for the disk, whoever reads does
//! not.
//!
//! Those who append at the same time share one write and one `fsync`: the first of them does it for
//! all who have come by then, and the others wait for the outcome. (The disk is what is slow here;
//! with one `fsync` for each, six who register would keep the last one waiting six times as long.)

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

/// All accounts.
pub(super) struct Book {
    path: PathBuf,
    /// What is on the disk. A leaf lock, never held over the disk or over hashing.
    by_key: Mutex<ByKey>,
    /// Who waits for the disk. A leaf lock.
    waiting: Mutex<PendingBatch>,
    /// Notified when a batch has been written, or could not be.
    written: Condvar,
    /// Locked by the one who writes.
    file: Mutex<DiskFile>,
    /// The keys of the names on damaged lines. A leaf lock.
    reserved: Mutex<HashSet<String>>,
    /// Set after the file was found replaced.
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
    /// Somebody writes. Whoever comes now goes with the next batch.
    is_writing: bool,
    batch: Batch,
}

/// What is going to be written together.
#[derive(Default)]
struct Batch {
    entries: Vec<PendingEntry>,
    /// Set once.
    outcome: Arc<OnceLock<Result<(), WriteFailure>>>,
}

/// An account, or another password for one.
pub(super) struct PendingEntry {
    pub(super) name: Name,
    pub(super) hash: String,
    /// It replaces the password of an account that is there.
    pub(super) is_change: bool,
    /// How many passwords it counts for: more than one if it comes from another server, which had
    /// others before it.
    pub(super) count: u64,
}

/// The lines of the file that make an account have that many passwords more, this one the last.
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

/// An error that everybody in a batch hears.
#[derive(Clone)]
struct WriteFailure(io::ErrorKind, String);

/// The file.
struct DiskFile {
    file: File,
    path: PathBuf,
    /// How long it is as far as it is whole; what a failed write left behind it goes.
    length: u64,
    /// `fsync`; a test puts a slow disk here.
    sync: Sync,
}

type Sync = Box<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

/// What opening the file came to.
pub(super) struct OpenedFile {
    pub(super) book: Book,
    pub(super) damage: Vec<Damage>,
    /// Others could read it, which they can't any more.
    pub(super) was_open_to_others: bool,
}

impl Book {
    /// Opens the file, or creates it for the server's user alone (mode 0600), locks it against
    /// other servers and reads it. `Ok(None)`: another server has it.
    ///
    /// # Errors
    /// What the system says, and `InvalidInput` for a symbolic link: whoever may write the folder
    /// could aim it at a file of somebody else's, which this server would then append to.
    pub(super) fn open(path: &Path) -> io::Result<Option<OpenedFile>> {
        if path.is_symlink() {
            let reason = "it is a link; name the file itself";
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
            // A line that was torn by a crash stays, but the next one begins on its own.
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

    /// The account of that name, as it was registered, and its hash.
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

    /// Appends an account, or another password for one. When it returns, that is on the disk.
    ///
    /// # Errors
    /// What the system says; then nothing has changed.
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
            // It is set only here, by the one who writes.
            let _ = batch.outcome.set(written.map_err(failure));
            waiting = self.waiting.lock();
            waiting.is_writing = false;
            self.written.notify_all();
        }
    }

    /// Writes a batch, and notes it once it is on the disk.
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
            // The name stays as it was spelled first.
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

    /// Goes over to the file that is at the path now, and writes what it lacks.
    fn follow(&self, disk: &mut DiskFile) -> io::Result<()> {
        let mut file = open_to_append(&disk.path)?;
        if let Err(error) = file.try_lock() {
            return Err(match error {
                TryLockError::WouldBlock => io::Error::other("another server has the new file"),
                TryLockError::Error(error) => error,
            });
        }
        let (bytes, there, damage) = read_file(&mut file)?;
        let known = self.by_key.lock().clone();
        let lacking = known.iter().filter(|(key, _)| !there.contains_key(*key));
        let lines: Vec<String> = lacking
            .map(|(_, there)| lines_of(&there.name, &there.hash, false, there.version))
            .collect();
        // Should any of this fail, the next registration comes here again, because the old file is
        // still the one that is written to; what was written twice then counts once.
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

    /// How many wait to go with the next batch.
    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.waiting.lock().batch.entries.len()
    }

    /// A disk whose `fsync` is this one.
    #[cfg(test)]
    pub(super) fn sync_with(&self, sync: Sync) {
        self.file.lock().sync = sync;
    }
}

impl DiskFile {
    /// Appends lines and waits until they are on the disk. What fails half-way is taken back, so
    /// that the next line does not continue it.
    fn append(&mut self, lines: &str) -> io::Result<()> {
        // Somebody may have edited the file, or a failed line could not be taken back: then begin
        // on a line of our own, and never cut off what we did not write.
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
                // If even that fails, the next line begins on its own.
                let _ = self.file.set_len(length);
                Err(error)
            }
        }
    }
}

/// The bytes of the file, its accounts, and its damaged lines.
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

/// A new file survives a power cut only once the folder that names it is on the disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Takes the file away from everybody but its owner. Returns whether somebody else could read or
/// write it.
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
