//! The accounts: who may use which name, on disk.
//!
//! The file has one line for each account, the name and the password's Argon2id hash in the usual
//! notation (a PHC string); empty lines and lines that begin with `#` are comments. A line that ends
//! in the word `changed` replaces the password of an account further up. Lines are only
//! ever appended, each in one write that is on the disk before the registration is confirmed. So
//! whatever happens, a confirmed account is there afterwards, and the worst that a crash leaves
//! behind is one torn line at the end.
//!
//! Should the file be deleted or replaced while the server runs, the next registration notices, and
//! the new file gets every account that it lacks: what was confirmed is kept. So an account is
//! removed while the server is stopped.

mod hasher;

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use argon2::password_hash::phc::PasswordHash;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::Name;
use crate::files::is_elsewhere;
use crate::limits;
use hasher::Hasher;

/// The file, and what stood in it.
pub struct Accounts {
    path: PathBuf,
    /// A leaf lock, held over the append and its `fsync` but never over hashing. Only those who
    /// register wait for it.
    book: Mutex<Book>,
    /// One for each password that may be hashed at a time.
    hashers: (Sender<Hasher>, Receiver<Hasher>),
}

struct Book {
    file: File,
    /// Where it was opened.
    path: PathBuf,
    /// It has been found replaced, and so many accounts were written into the new one.
    rescued: Option<usize>,
    /// How long the file is as far as it is whole; what a failed write left behind it goes.
    length: u64,
    by_key: HashMap<String, (Name, String)>,
}

/// A hasher in use. It goes back when this is dropped, also by a panic, or nobody could ever log in
/// again.
struct Borrowed<'a> {
    hasher: Hasher,
    home: &'a Sender<Hasher>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let _ = self.home.try_send(std::mem::take(&mut self.hasher));
    }
}

/// A line of the file that is no account. It stays as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Why the accounts can't be used, or one can't be stored.
#[derive(Debug)]
pub enum AccountError {
    /// The file can't be opened, read or written.
    File(PathBuf, io::Error),
    /// Another server has it.
    InUse(PathBuf),
    /// The hashing failed, for want of memory most likely.
    Hash(String),
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountError::File(path, error) => write!(
                f,
                "the accounts file {} can't be used ({error}): choose another with --accounts \
                 FILE, or start with --no-passwords",
                path.display()
            ),
            AccountError::InUse(path) => write!(
                f,
                "another server uses the accounts file {}: stop it, or choose another with \
                 --accounts FILE, or start with --no-passwords",
                path.display()
            ),
            AccountError::Hash(reason) => write!(f, "the password can't be hashed ({reason})"),
        }
    }
}

impl std::error::Error for AccountError {}

/// What somebody's wish for another password came to.
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordChange {
    /// The new one is on the disk.
    Changed,
    /// The old one was not the account's.
    Wrong,
    /// Nobody wants to know any more.
    GivenUp,
}

/// What a password came to.
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// There was no account; now there is one, and it is on the disk.
    Registered(Name),
    /// It is the account's password. The name is spelled as it was registered.
    Right(Name),
    /// It is not.
    Wrong,
    /// Nobody wants to know any more.
    GivenUp,
}

impl Accounts {
    /// Opens the file, or creates it for the server's user alone (mode 0600), locks it against
    /// other servers and reads it. Returns what is wrong with it, line by line; all other lines
    /// count.
    ///
    /// # Errors
    /// [`AccountError`] when the file can't be opened, locked or read.
    pub fn open(path: &Path) -> Result<(Accounts, Vec<Damage>), AccountError> {
        let failed = |error| AccountError::File(path.to_owned(), error);
        let is_new = !path.exists();
        let mut file = open_private(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AccountError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if is_new {
            sync_folder_of(path).map_err(failed)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.last().is_some_and(|&last| last != b'\n') {
            // A line that was torn by a crash stays, but the next one begins on its own.
            file.write_all(b"\n")
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
        }
        let length = file.metadata().map_err(failed)?.len();
        let (by_key, damage) = read(&bytes);
        let hashers = bounded(limits::HASHERS);
        for _ in 0..limits::HASHERS {
            let _ = hashers.0.try_send(Hasher::default());
        }
        let book = Mutex::new(Book {
            file,
            path: path.to_owned(),
            rescued: None,
            length,
            by_key,
        });
        Ok((
            Accounts {
                path: path.to_owned(),
                book,
                hashers,
            },
            damage,
        ))
    }

    /// Whether there is an account of that name.
    pub fn knows(&self, name: &Name) -> bool {
        self.book.lock().by_key.contains_key(&name.key())
    }

    /// Whether the file has been replaced since this was last asked, and how many accounts were
    /// written into the new one.
    pub fn take_rescued(&self) -> Option<usize> {
        self.book.lock().rescued.take()
    }

    /// How many accounts there are.
    pub fn len(&self) -> usize {
        self.book.lock().by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the password of an account, or makes the account if there is none. Blocks for the
    /// 20 ms that hashing takes, and before that until fewer than [`limits::HASHERS`] others are
    /// at it. `given_up` is asked after that wait, in case nobody wants to know any more.
    ///
    /// # Errors
    /// [`AccountError`] when the account can't be stored. Then there is none.
    pub fn check(
        &self,
        name: &Name,
        password: &str,
        given_up: impl Fn() -> bool,
    ) -> Result<PasswordCheck, AccountError> {
        let mut borrowed = self.borrow_hasher();
        if given_up() {
            return Ok(PasswordCheck::GivenUp);
        }
        self.check_now(&mut borrowed.hasher, name, password)
    }

    /// Replaces the password of an account, if `old` is its password so far. Blocks as [`Accounts::check`] does,
    /// for two hashings.
    ///
    /// # Errors
    /// [`AccountError`] when the new password can't be stored. Then the old one still counts.
    pub fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: impl Fn() -> bool,
    ) -> Result<PasswordChange, AccountError> {
        let mut borrowed = self.borrow_hasher();
        if given_up() {
            return Ok(PasswordChange::GivenUp);
        }
        let known = self.book.lock().by_key.get(&name.key()).cloned();
        let Some((name, hash)) = known else {
            return Ok(PasswordChange::Wrong);
        };
        if !borrowed.hasher.verify(&hash, old) {
            return Ok(PasswordChange::Wrong);
        }
        let changed = borrowed.hasher.hash(new).map_err(AccountError::Hash)?;
        let mut book = self.book.lock();
        // Another connection may have changed it while this one was hashing.
        if book.by_key.get(&name.key()).map(|(_, now)| now) != Some(&hash) {
            return Ok(PasswordChange::Wrong);
        }
        book.append(&format!("{name} {changed} {CHANGED}\n"))
            .map_err(|error| AccountError::File(self.path.clone(), error))?;
        book.by_key.insert(name.key(), (name, changed));
        Ok(PasswordChange::Changed)
    }

    fn borrow_hasher(&self) -> Borrowed<'_> {
        Borrowed {
            // Both ends are here, so the channel never disconnects.
            hasher: self.hashers.1.recv().unwrap_or_default(),
            home: &self.hashers.0,
        }
    }

    fn check_now(
        &self,
        hasher: &mut Hasher,
        name: &Name,
        password: &str,
    ) -> Result<PasswordCheck, AccountError> {
        let known = self.book.lock().by_key.get(&name.key()).cloned();
        if let Some((name, hash)) = known {
            return Ok(verdict(hasher.verify(&hash, password), name));
        }
        let hash = hasher.hash(password).map_err(AccountError::Hash)?;
        let mut book = self.book.lock();
        // Somebody may have registered the name while the password was being hashed.
        if let Some((name, hash)) = book.by_key.get(&name.key()).cloned() {
            drop(book);
            return Ok(verdict(hasher.verify(&hash, password), name));
        }
        book.append(&format!("{name} {hash}\n"))
            .map_err(|error| AccountError::File(self.path.clone(), error))?;
        book.by_key.insert(name.key(), (name.clone(), hash));
        Ok(PasswordCheck::Registered(name.clone()))
    }
}

impl Book {
    /// Appends a line and waits until it is on the disk. A line that fails half-way is taken back,
    /// so that the next one does not continue it.
    fn append(&mut self, line: &str) -> io::Result<()> {
        if is_elsewhere(&self.file, &self.path)? {
            self.follow()?;
        }
        self.append_here(line)
    }

    /// Goes over to the file that is at the path now, and writes what it lacks.
    fn follow(&mut self) -> io::Result<()> {
        let mut file = open_private(&self.path)?;
        if let Err(error) = file.try_lock() {
            return Err(match error {
                TryLockError::WouldBlock => io::Error::other("another server has the new file"),
                TryLockError::Error(error) => error,
            });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (there, _) = read(&bytes);
        let lacking = self
            .by_key
            .iter()
            .filter(|(key, _)| !there.contains_key(*key));
        let lines: Vec<String> = lacking
            .map(|(_, (name, hash))| format!("{name} {hash}\n"))
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
        sync_folder_of(&self.path)?;
        self.length = file.metadata()?.len();
        self.file = file;
        self.rescued = Some(lines.len());
        self.by_key.extend(there);
        Ok(())
    }

    fn append_here(&mut self, line: &str) -> io::Result<()> {
        // Somebody may have edited the file, or a failed line could not be taken back: then begin
        // on a line of our own, and never cut off what we did not write.
        let length = self.file.metadata()?.len();
        let line = if length == self.length {
            line.to_owned()
        } else {
            format!("\n{line}")
        };
        self.length = length;
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += line.len() as u64;
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

fn verdict(is_right: bool, name: Name) -> PasswordCheck {
    if is_right {
        PasswordCheck::Right(name)
    } else {
        PasswordCheck::Wrong
    }
}

/// How many accounts and how many damaged lines there are in `bytes`.
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub fn read_accounts(bytes: &[u8]) -> (usize, usize) {
    let (accounts, damage) = read(bytes);
    (accounts.len(), damage.len())
}

fn read(bytes: &[u8]) -> (HashMap<String, (Name, String)>, Vec<Damage>) {
    let mut by_key = HashMap::new();
    let mut damage = Vec::new();
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        match read_line(line) {
            Ok(None) => {}
            Ok(Some((name, hash, Line::Changed))) => match by_key.get_mut(&name.key()) {
                // The name stays as it was spelled first.
                Some((_, before)) => *before = hash,
                None => damage.push(Damage {
                    line: number,
                    reason: "it changes the password of a name that has no account further up",
                }),
            },
            Ok(Some((name, _, Line::Account))) if by_key.contains_key(&name.key()) => {
                damage.push(Damage {
                    line: number,
                    reason: "the name has an account further up, which counts",
                });
            }
            Ok(Some((name, hash, Line::Account))) => {
                by_key.insert(name.key(), (name, hash));
            }
            Err(reason) => damage.push(Damage {
                line: number,
                reason,
            }),
        }
    }
    (by_key, damage)
}

/// The word at the end of a line that replaces a password.
const CHANGED: &str = "changed";

/// What a line of the file does.
enum Line {
    /// Makes an account.
    Account,
    /// Replaces the password of one.
    Changed,
}

fn read_line(line: &[u8]) -> Result<Option<(Name, String, Line)>, &'static str> {
    let text = std::str::from_utf8(line)
        .map_err(|_| "it is not UTF-8")?
        .trim_end_matches('\r');
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (name, hash) = text
        .split_once(' ')
        .ok_or("there is no space between name and hash")?;
    let name = Name::new(name).ok_or("it does not begin with a name")?;
    if !name.is_for_a_person() {
        return Err("the name is a number, or the server's; nobody can log in under it");
    }
    let (hash, kind) = match hash.split_once(' ') {
        Some((hash, CHANGED)) => (hash, Line::Changed),
        _ => (hash, Line::Account),
    };
    // A hash that a crash cut short may still be well-formed; only one of full length is whole.
    const WHOLE: usize = 32;
    let parsed = PasswordHash::new(hash).map_err(|_| "the hash is not whole")?;
    if parsed.salt.is_none() || parsed.hash.is_none_or(|output| output.len() != WHOLE) {
        return Err("the hash is not whole");
    }
    Ok(Some((name, hash.to_owned(), kind)))
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A new file survives a power cut only once the folder that names it is on the disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TempFile(PathBuf);

    impl TempFile {
        fn new(test: &str) -> TempFile {
            let name = format!("portal-chat-{test}-{}.txt", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_file(&path);
            TempFile(path)
        }

        fn text(&self) -> String {
            std::fs::read_to_string(&self.0).unwrap()
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn check(accounts: &Accounts, who: &str, password: &str) -> PasswordCheck {
        accounts.check(&name(who), password, || false).unwrap()
    }

    #[test]
    fn an_account_is_made_once_and_is_there_after_a_restart() {
        let file = TempFile::new("restart");
        let (accounts, damage) = Accounts::open(&file.0).unwrap();
        assert!(damage.is_empty() && !accounts.knows(&name("Alice")));
        assert_eq!(
            check(&accounts, "Alice", "one"),
            PasswordCheck::Registered(name("alice"))
        );
        assert_eq!(check(&accounts, "aLiCe", "two"), PasswordCheck::Wrong);
        drop(accounts);

        let (accounts, damage) = Accounts::open(&file.0).unwrap();
        assert_eq!((damage, accounts.len()), (vec![], 1));
        let PasswordCheck::Right(spelled) = check(&accounts, "ALICE", "one") else {
            panic!("refused")
        };
        assert_eq!(spelled.as_str(), "Alice", "as it was registered");
        let text = file.text();
        assert!(
            text.starts_with("Alice $argon2id$v=19$") && text.lines().count() == 1,
            "{text}"
        );
        assert!(!text.contains("one"));
    }

    #[test]
    fn a_password_that_was_changed_is_the_new_one_after_a_restart() {
        let file = TempFile::new("changed");
        let (accounts, _) = Accounts::open(&file.0).unwrap();
        check(&accounts, "Alice", "one");
        let change = |old, new| accounts.change(&name("alice"), old, new, || false).unwrap();
        assert_eq!(change("two", "three"), PasswordChange::Wrong);
        assert_eq!(change("one", "two"), PasswordChange::Changed);
        assert_eq!(change("two", "three"), PasswordChange::Changed);
        assert_eq!(check(&accounts, "alice", "one"), PasswordCheck::Wrong);
        drop(accounts);
        let (accounts, damage) = Accounts::open(&file.0).unwrap();
        assert_eq!((damage, accounts.len()), (vec![], 1));
        assert_eq!(check(&accounts, "alice", "two"), PasswordCheck::Wrong);
        let PasswordCheck::Right(spelled) = check(&accounts, "alice", "three") else {
            panic!("refused")
        };
        assert_eq!(spelled.as_str(), "Alice");
        let alone = file.text().lines().nth(1).unwrap().to_owned();
        drop(accounts);
        std::fs::write(&file.0, alone + "\n").unwrap();
        let (_, damage) = Accounts::open(&file.0).unwrap();
        assert_eq!(damage.len(), 1, "a change of nothing is damage");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let file = TempFile::new("mode");
        let _accounts = Accounts::open(&file.0).unwrap();
        assert_eq!(
            std::fs::metadata(&file.0).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn two_servers_can_not_share_a_file() {
        let file = TempFile::new("lock");
        let _first = Accounts::open(&file.0).unwrap();
        let second = Accounts::open(&file.0);
        assert!(matches!(second, Err(AccountError::InUse(_))));
    }

    #[test]
    fn damaged_lines_are_reported_kept_and_harm_no_other() {
        let file = TempFile::new("damage");
        let (accounts, _) = Accounts::open(&file.0).unwrap();
        check(&accounts, "alice", "one");
        drop(accounts);
        let line = file.text();
        let torn = line.trim_end()[..line.len() - 5].replace("alice", "bob");
        let damaged = format!("# comment\n{line}nonsense\n\u{e9} x\n{line}{torn}");
        std::fs::write(&file.0, &damaged).unwrap();

        let (accounts, damage) = Accounts::open(&file.0).unwrap();
        let lines: Vec<usize> = damage.iter().map(|damage| damage.line).collect();
        assert_eq!((lines, accounts.len()), (vec![3, 4, 5, 6], 1));
        assert_eq!(
            check(&accounts, "alice", "one"),
            PasswordCheck::Right(name("alice"))
        );
        assert_eq!(
            check(&accounts, "bob", "two"),
            PasswordCheck::Registered(name("bob"))
        );
        drop(accounts);
        assert!(
            file.text().starts_with(&(damaged + "\nbob $argon2id$")),
            "nothing is rewritten"
        );
        let (accounts, _) = Accounts::open(&file.0).unwrap();
        assert_eq!(
            check(&accounts, "bob", "two"),
            PasswordCheck::Right(name("bob"))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_deleted_or_replaced_gets_what_it_lacks() {
        let file = TempFile::new("replaced");
        let (accounts, _) = Accounts::open(&file.0).unwrap();
        check(&accounts, "alice", "one");
        check(&accounts, "bob", "two");
        let before = file.text();
        std::fs::remove_file(&file.0).unwrap();
        check(&accounts, "carol", "three");
        assert_eq!(
            (accounts.take_rescued(), accounts.take_rescued()),
            (Some(2), None)
        );

        // An editor saves a new file with bob's line taken out and a comment put in.
        let kept: Vec<&str> = before
            .lines()
            .filter(|line| line.starts_with("alice"))
            .collect();
        let edited = file.0.with_extension("new");
        std::fs::write(&edited, format!("# ours\n{}", kept.concat())).unwrap();
        std::fs::rename(&edited, &file.0).unwrap();
        check(&accounts, "dave", "four");
        assert_eq!(accounts.take_rescued(), Some(2));
        drop(accounts);

        assert!(file.text().starts_with("# ours\nalice $argon2id$"));
        let (accounts, damage) = Accounts::open(&file.0).unwrap();
        assert_eq!((damage, accounts.len()), (vec![], 4));
        for (who, password) in [
            ("alice", "one"),
            ("bob", "two"),
            ("carol", "three"),
            ("dave", "four"),
        ] {
            assert_eq!(
                check(&accounts, who, password),
                PasswordCheck::Right(name(who))
            );
        }
    }

    #[test]
    fn a_folder_is_refused_by_name() {
        let Err(error) = Accounts::open(&std::env::temp_dir()) else {
            panic!("opened a folder")
        };
        assert!(error.to_string().contains("--accounts"), "{error}");
    }
}
