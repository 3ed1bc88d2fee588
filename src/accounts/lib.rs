//! User names and passwords, stored in a file.
//!
//! The file has one line for each account: the name and the password's Argon2id hash as a PHC
//! string. Empty lines and lines that begin with `#` are ignored. A line that ends in the word
//! `changed` replaces the password of an account on an earlier line; `alice deleted` deletes the
//! account. The server only appends lines. Each is written in one piece, and is on disk before the
//! registration is confirmed. A confirmed account therefore survives a crash, and a crash leaves at
//! most one torn line, at the end of the file.
//!
//! A crash or an editor may damage a line. The name at its beginning stays reserved, because it may
//! have an owner: no client can register it until the operator corrects the line. In a cluster, the
//! name is reserved on this server only: a shared reservation would have to be released when the
//! line is corrected or when this server stops. On the other servers, the account in Redis or in
//! their own file protects the name.
//!
//! Passwords are hashed in the form that `prepared` returns. Older hashes may have been made from
//! the password as typed. If a password matches only as typed, its hash is replaced.
//!
//! If the file is deleted or replaced while the server is running, the next registration detects
//! this and adds every account that is missing from the new file. An account can therefore be
//! removed with an editor only while the server is stopped; the console's command `delete` works at
//! any time.

mod book;
mod disk_file;
mod hasher;
pub mod limits;
mod lines;
pub mod policies;
mod policy_lines;
mod prepared;
mod room_rules;
mod service;
mod tokens;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};

pub use book::Rescued;
use book::{Book, OpenedFile, PendingEntry};
use hasher::Hasher;
pub use lines::{Account, Damage};
use portal_cli::private::NotPrivate;
use portal_net::lock::{Condvar, Mutex};
pub use portal_sessions::accounts::{PasswordChange, PasswordCheck};
use portal_wire::Name;
use prepared::prepared;
pub use service::{AccountDirectory, AccountEvent, Register, Registration, SharedAccounts};
pub use tokens::{SharedTokens, StoredToken, TokenDirectory, TokenError};

/// Maximum number of password changes by which another server's account may be ahead of ours.
const MOST_CHANGES: u64 = 10_000;

/// The accounts in one file.
pub struct Accounts {
    book: Book,
    /// The idle hashers, at most [`limits::HASHERS`].
    hashers: (Sender<Hasher>, Receiver<Hasher>),
    /// Keys of the names that are being registered or changed. A leaf lock.
    busy: Mutex<HashSet<String>>,
    /// Notified when a name leaves `busy`.
    arrived: Condvar,
}

/// Exclusive access to an account that is being registered or changed. Other registrations and
/// password changes for the same name wait; those for other names do not.
struct Busy<'a> {
    accounts: &'a Accounts,
    key: String,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.accounts.busy.lock().remove(&self.key);
        self.accounts.arrived.notify_all();
    }
}

/// A borrowed hasher. Dropping this returns it, even after a panic; otherwise no client could log
/// in again.
struct Borrowed<'a> {
    hasher: Hasher,
    home: &'a Sender<Hasher>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let _ = self.home.try_send(std::mem::take(&mut self.hasher));
    }
}

/// An error concerning the accounts file or a single account.
#[derive(Debug)]
pub enum AccountError {
    /// The file can't be opened, read or written.
    File(PathBuf, io::Error),
    /// Another server is using the file.
    InUse(PathBuf),
    /// Hashing failed, most likely because memory ran out.
    Hash(String),
    /// Other servers may have the account, but they can't be reached.
    Undecided,
    /// The name is on a damaged line.
    Reserved(Name),
    /// The new password contains a forbidden character.
    Unprintable,
    /// The name has no account.
    Unknown(Name),
    /// The account is shared with other servers.
    Shared,
    /// Another server has a different password for the account, and neither is newer.
    Differs(Name),
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountError::File(path, error) if NotPrivate::cause(error).is_some() => {
                write!(f, "the accounts file {} can't be used: {error}", path.display())
            }
            AccountError::File(path, error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "the accounts file {} can't be used ({error}): give the user who runs this server \
                 read and write permission for it and its folder, choose another file with \
                 --accounts FILE, or start with --no-passwords",
                path.display()
            ),
            AccountError::File(path, error) => write!(
                f,
                "the accounts file {} can't be used ({error}): choose another file with --accounts \
                 FILE, or start with --no-passwords",
                path.display()
            ),
            AccountError::InUse(path) => write!(
                f,
                "another server is using the accounts file {}: stop that server, choose another \
                 file with --accounts FILE, or start with --no-passwords",
                path.display()
            ),
            AccountError::Reserved(name) => write!(
                f,
                "{name}'s account can't be used, because its line in the accounts file is damaged: \
                 restore that line"
            ),
            AccountError::Unprintable => f.write_str(
                "a password must not contain control, invisible or unassigned characters; choose another",
            ),
            AccountError::Unknown(name) => write!(
                f,
                "{name} has no account; `accounts` lists the accounts"
            ),
            AccountError::Shared => f.write_str(
                "an account that several servers share can't be deleted, because another server \
                 would restore it; ban the name instead",
            ),
            AccountError::Undecided => f.write_str("the other servers can't be reached"),
            AccountError::Differs(name) => write!(
                f,
                "{name} has a different password on another server, and neither is newer: stop one \
                 of the two servers and delete {name}'s line from that server's accounts file"
            ),
            AccountError::Hash(reason) => write!(f, "the password can't be hashed ({reason})"),
        }
    }
}

impl std::error::Error for AccountError {}

/// A proposed change to an account. The servers that share the account decide on it together.
pub enum AccountRequest<'w> {
    /// Registers the account.
    New { name: &'w Name, hash: &'w str },
    /// Replaces the account's password.
    Change {
        /// The account before the change.
        account: &'w Account,
        /// The new password's hash.
        hash: &'w str,
    },
}

/// The decision about an [`AccountRequest`].
pub enum Decided {
    /// The request is granted.
    Ours,
    /// A request on another server came first; this is the resulting account.
    Theirs(Account),
    /// No decision is possible at present.
    Unknown,
}

/// The result of [`Accounts::open`].
pub struct OpenAccounts {
    /// The accounts.
    pub accounts: Accounts,
    /// The damaged lines in the file; all other lines are valid.
    pub damage: Vec<Damage>,
    /// True if other users had access to the file before it was opened. Opening it revoked their
    /// access.
    pub was_open_to_others: bool,
}

impl Accounts {
    /// Opens the file (or creates it with mode 0600), locks it against other servers, and reads it.
    ///
    /// # Errors
    /// [`AccountError`] if the file can't be opened, locked or read, or is a symbolic link.
    pub fn open(path: &Path) -> Result<OpenAccounts, AccountError> {
        let opened = Book::open(path)
            .map_err(|error| AccountError::File(path.to_owned(), error))?
            .ok_or_else(|| AccountError::InUse(path.to_owned()))?;
        let OpenedFile {
            book,
            damage,
            was_open_to_others,
        } = opened;
        let hashers = bounded(limits::HASHERS);
        for _ in 0..limits::HASHERS {
            let _ = hashers.0.try_send(Hasher::default());
        }
        let accounts = Accounts {
            book,
            hashers,
            busy: Mutex::default(),
            arrived: Condvar::new(),
        };
        Ok(OpenAccounts {
            accounts,
            damage,
            was_open_to_others,
        })
    }

    pub fn all(&self) -> Vec<Account> {
        self.book.all()
    }

    /// Adopts another server's account if it is newer than the local one. On return, the account is
    /// on disk.
    ///
    /// # Errors
    /// [`AccountError::Differs`], or [`AccountError::File`] if the account can't be stored.
    pub fn adopt(&self, theirs: &Account) -> Result<(), AccountError> {
        let ours = self.book.find(&theirs.name);
        let before = ours.as_ref().map_or(0, |ours| ours.version);
        if ours.is_some_and(|ours| ours.version == theirs.version && ours.hash != theirs.hash)
            || !lines::is_hash(&theirs.hash)
        {
            return Err(AccountError::Differs(theirs.name.clone()));
        }
        // A larger difference is implausible for one of our servers.
        let count = theirs.version.saturating_sub(before).min(MOST_CHANGES);
        if count == 0 {
            return Ok(());
        }
        self.append(PendingEntry {
            name: theirs.name.clone(),
            hash: theirs.hash.clone(),
            is_change: before > 0,
            count,
        })
    }

    pub(crate) fn find(&self, name: &Name) -> Option<Account> {
        self.book.find(name)
    }

    /// Returns whether the name has an account.
    pub fn knows(&self, name: &Name) -> bool {
        self.book.find(name).is_some()
    }

    pub fn path(&self) -> &Path {
        self.book.path()
    }

    /// Returns whether the name is reserved because it is on a damaged line in the file.
    pub fn is_reserved(&self, name: &Name) -> bool {
        self.book.is_reserved(name)
    }

    /// Returns the result if the file has been replaced since the last call.
    pub fn take_rescued(&self) -> Option<Rescued> {
        self.book.take_rescued()
    }

    pub fn len(&self) -> usize {
        self.book.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the password of an account, or registers the account if it does not exist. Blocks
    /// until one of the [`limits::HASHERS`] hashers is free, and then for the 20 ms that hashing
    /// takes. Only a registration, or the replacement of an older hash, waits for the disk. Once a
    /// hasher is free, `given_up` is called to check whether the client has disconnected.
    ///
    /// # Errors
    /// [`AccountError`] if the account can't be stored. In that case, it does not exist.
    pub fn check(
        &self,
        name: &Name,
        password: &str,
        given_up: impl Fn() -> bool,
    ) -> Result<PasswordCheck, AccountError> {
        self.check_among(name, password, given_up, |_| Decided::Ours)
    }

    /// Like [`Accounts::check`], for accounts shared with other servers: `decide` asks those
    /// servers before an account is registered.
    ///
    /// # Errors
    /// The same errors as [`Accounts::check`], and also [`AccountError::Undecided`] and
    /// [`AccountError::Differs`].
    pub fn check_among(
        &self,
        name: &Name,
        password: &str,
        given_up: impl Fn() -> bool,
        decide: impl Fn(AccountRequest<'_>) -> Decided,
    ) -> Result<PasswordCheck, AccountError> {
        let busy = loop {
            if let Some(account) = self.book.find(name) {
                let mut borrowed = self.borrow_hasher();
                if given_up() {
                    return Ok(PasswordCheck::GivenUp);
                }
                let proof = proof(&mut borrowed.hasher, &account.hash, password);
                drop(borrowed);
                if proof == Proof::AsTyped {
                    self.prepare_hash(&account, password, &decide);
                }
                return Ok(verdict(proof, account.name));
            }
            if self.is_reserved(name) {
                return Err(AccountError::Reserved(name.clone()));
            }
            // Another client may be registering the same name. If it succeeds, check the password
            // against its account.
            match self.begin(name) {
                Some(busy) if !self.knows(name) => break busy,
                _ => {}
            }
        };
        let wanted = prepared(password).ok_or(AccountError::Unprintable)?;
        let hash = {
            let mut borrowed = self.borrow_hasher();
            if given_up() {
                return Ok(PasswordCheck::GivenUp);
            }
            borrowed.hasher.hash(&wanted).map_err(AccountError::Hash)?
        };
        match decide(AccountRequest::New { name, hash: &hash }) {
            Decided::Ours => {}
            Decided::Unknown => return Err(AccountError::Undecided),
            Decided::Theirs(account) => {
                self.adopt(&account)?;
                drop(busy);
                let proof = proof(&mut self.borrow_hasher().hasher, &account.hash, password);
                return Ok(verdict(proof, account.name));
            }
        }
        self.append(PendingEntry {
            name: name.clone(),
            hash,
            is_change: false,
            count: 1,
        })?;
        drop(busy);
        Ok(PasswordCheck::Registered(name.clone()))
    }

    /// Replaces the password of an account if `old` is its current password. Blocks like
    /// [`Accounts::check`], except that it computes two hashes.
    ///
    /// # Errors
    /// [`AccountError`] if the new password can't be stored. In that case, the old one remains
    /// valid.
    pub fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: impl Fn() -> bool,
    ) -> Result<PasswordChange, AccountError> {
        self.change_among(name, old, new, given_up, |_| Decided::Ours)
    }

    /// Like [`Accounts::change`], for accounts shared with other servers: `decide` asks those
    /// servers before anything changes.
    ///
    /// # Errors
    /// The same errors as [`Accounts::change`], and also [`AccountError::Undecided`] and
    /// [`AccountError::Differs`].
    pub fn change_among(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: impl Fn() -> bool,
        decide: impl Fn(AccountRequest<'_>) -> Decided,
    ) -> Result<PasswordChange, AccountError> {
        let wanted = prepared(new).ok_or(AccountError::Unprintable)?;
        let busy = loop {
            if let Some(busy) = self.begin(name) {
                break busy;
            }
        };
        let changed = {
            let mut borrowed = self.borrow_hasher();
            if given_up() {
                return Ok(PasswordChange::GivenUp);
            }
            let account = self.book.find(name);
            let account = account
                .filter(|there| proof(&mut borrowed.hasher, &there.hash, old) != Proof::Wrong);
            let Some(account) = account else {
                return Ok(PasswordChange::Wrong);
            };
            let hash = borrowed.hasher.hash(&wanted).map_err(AccountError::Hash)?;
            drop(borrowed);
            match decide(AccountRequest::Change {
                account: &account,
                hash: &hash,
            }) {
                Decided::Ours => hash,
                Decided::Unknown => return Err(AccountError::Undecided),
                // Another server has just changed the password, so `old` is no longer valid.
                Decided::Theirs(theirs) => {
                    self.adopt(&theirs)?;
                    return Ok(PasswordChange::Wrong);
                }
            }
        };
        self.append(PendingEntry {
            name: name.clone(),
            hash: changed,
            is_change: true,
            count: 1,
        })?;
        drop(busy);
        Ok(PasswordChange::Changed)
    }

    /// Replaces the password of an account without checking the old one. Returns the name as it was
    /// registered.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], and the same errors as [`Accounts::change_among`].
    pub fn reset_among(
        &self,
        name: &Name,
        password: &str,
        decide: impl Fn(AccountRequest<'_>) -> Decided,
    ) -> Result<Name, AccountError> {
        let wanted = prepared(password).ok_or(AccountError::Unprintable)?;
        let (_busy, account) = self.begin_change(name)?;
        let hash = self.borrow_hasher().hasher.hash(&wanted);
        let hash = hash.map_err(AccountError::Hash)?;
        let wish = AccountRequest::Change {
            account: &account,
            hash: &hash,
        };
        match decide(wish) {
            Decided::Ours => {}
            Decided::Unknown => return Err(AccountError::Undecided),
            Decided::Theirs(theirs) => {
                self.adopt(&theirs)?;
                return Err(AccountError::Undecided);
            }
        }
        self.append(PendingEntry {
            name: account.name.clone(),
            hash,
            is_change: true,
            count: 1,
        })?;
        Ok(account.name)
    }

    /// Deletes an account. Returns the name as it was registered.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] and [`AccountError::File`].
    pub fn delete(&self, name: &Name) -> Result<Name, AccountError> {
        let (_busy, account) = self.begin_change(name)?;
        let deleted = self.book.delete(&account.name);
        deleted.map_err(|error| AccountError::File(self.book.path().to_owned(), error))?;
        Ok(account.name)
    }

    fn registered(&self, name: &Name) -> Result<Account, AccountError> {
        match self.book.find(name) {
            Some(account) => Ok(account),
            None if self.book.is_reserved(name) => Err(AccountError::Reserved(name.clone())),
            None => Err(AccountError::Unknown(name.clone())),
        }
    }

    /// Checks whether [`Accounts::delete`] would find the account.
    ///
    /// # Errors
    /// [`AccountError::Unknown`]; [`AccountError::Reserved`] if its line is damaged.
    pub fn check_registered(&self, name: &Name) -> Result<(), AccountError> {
        self.registered(name).map(drop)
    }

    fn begin_change(&self, name: &Name) -> Result<(Busy<'_>, Account), AccountError> {
        let busy = loop {
            if let Some(busy) = self.begin(name) {
                break busy;
            }
        };
        Ok((busy, self.registered(name)?))
    }

    /// Replaces the hash of a password as typed with a hash of its prepared form, on all servers
    /// that have the account. If this fails, the old hash stays valid and the next login tries
    /// again.
    fn prepare_hash(
        &self,
        account: &Account,
        password: &str,
        decide: impl Fn(AccountRequest<'_>) -> Decided,
    ) {
        let (Some(password), Some(_busy)) = (prepared(password), self.begin(&account.name)) else {
            return;
        };
        let is_same = |there: Account| there.hash == account.hash;
        if !self.book.find(&account.name).is_some_and(is_same) {
            return;
        }
        let Ok(hash) = self.borrow_hasher().hasher.hash(&password) else {
            return;
        };
        let wish = AccountRequest::Change {
            account,
            hash: &hash,
        };
        let _ = match decide(wish) {
            Decided::Ours => self.append(PendingEntry {
                name: account.name.clone(),
                hash,
                is_change: true,
                count: 1,
            }),
            Decided::Theirs(theirs) => self.adopt(&theirs),
            Decided::Unknown => Ok(()),
        };
    }

    /// Begins a registration or a password change for the name. If one is already in progress,
    /// waits for it to finish and returns `None`.
    fn begin(&self, name: &Name) -> Option<Busy<'_>> {
        let mut busy = self.busy.lock();
        if busy.insert(name.key()) {
            return Some(Busy {
                accounts: self,
                key: name.key(),
            });
        }
        self.arrived.wait(&mut busy);
        None
    }

    fn append(&self, entry: PendingEntry) -> Result<(), AccountError> {
        let written = self.book.append(entry);
        written.map_err(|error| AccountError::File(self.book.path().to_owned(), error))
    }

    fn borrow_hasher(&self) -> Borrowed<'_> {
        Borrowed {
            // `self` owns both ends, so the channel never disconnects.
            hasher: self.hashers.1.recv().unwrap_or_default(),
            home: &self.hashers.0,
        }
    }
}

/// The result of comparing a typed password with a hash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The hash matches the password's prepared form.
    Prepared,
    /// The hash matches the password as typed, which differs from its prepared form.
    AsTyped,
    Wrong,
}

fn proof(hasher: &mut Hasher, hash: &str, password: &str) -> Proof {
    let prepared = prepared(password);
    if let Some(prepared) = &prepared
        && hasher.verify(hash, prepared)
    {
        return Proof::Prepared;
    }
    if prepared.as_deref() != Some(password) && hasher.verify(hash, password) {
        return Proof::AsTyped;
    }
    Proof::Wrong
}

fn verdict(proof: Proof, name: Name) -> PasswordCheck {
    match proof {
        Proof::Prepared | Proof::AsTyped => PasswordCheck::Right(name),
        Proof::Wrong => PasswordCheck::Wrong,
    }
}

/// Returns the number of accounts and the number of damaged lines in `bytes`.
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub fn read_accounts(bytes: &[u8]) -> (usize, usize) {
    let (accounts, damage) = lines::read(bytes);
    (accounts.len(), damage.len())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn an_unreadable_file_is_reported_with_the_missing_permission() {
        let error = io::ErrorKind::PermissionDenied.into();
        let sentence = AccountError::File("accounts.txt".into(), error).to_string();
        let advice = "give the user who runs this server read and write permission for it";
        assert!(sentence.contains(advice), "{sentence}");
    }

    pub(crate) struct TempFile(pub(crate) PathBuf);

    impl TempFile {
        pub(crate) fn new(test: &str) -> TempFile {
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

    fn open(path: &Path) -> (Accounts, Vec<Damage>) {
        let opened = Accounts::open(path).unwrap();
        (opened.accounts, opened.damage)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn check(accounts: &Accounts, who: &str, password: &str) -> PasswordCheck {
        accounts.check(&name(who), password, || false).unwrap()
    }

    #[test]
    fn an_account_is_registered_once_and_survives_a_restart() {
        let file = TempFile::new("restart");
        let (accounts, damage) = open(&file.0);
        assert!(damage.is_empty() && !accounts.knows(&name("Alice")));
        assert_eq!(
            check(&accounts, "Alice", "one"),
            PasswordCheck::Registered(name("alice"))
        );
        assert_eq!(check(&accounts, "aLiCe", "two"), PasswordCheck::Wrong);
        drop(accounts);

        let (accounts, damage) = open(&file.0);
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
    fn a_changed_password_survives_a_restart() {
        let file = TempFile::new("changed");
        let (accounts, _) = open(&file.0);
        check(&accounts, "Alice", "one");
        let change = |old, new| accounts.change(&name("alice"), old, new, || false).unwrap();
        assert_eq!(change("two", "three"), PasswordChange::Wrong);
        assert_eq!(change("one", "two"), PasswordChange::Changed);
        assert_eq!(change("two", "three"), PasswordChange::Changed);
        assert_eq!(check(&accounts, "alice", "one"), PasswordCheck::Wrong);
        drop(accounts);
        let (accounts, damage) = open(&file.0);
        assert_eq!((damage, accounts.len()), (vec![], 1));
        assert_eq!(check(&accounts, "alice", "two"), PasswordCheck::Wrong);
        let PasswordCheck::Right(spelled) = check(&accounts, "alice", "three") else {
            panic!("refused")
        };
        assert_eq!(spelled.as_str(), "Alice");
        let alone = file.text().lines().nth(1).unwrap().to_owned();
        drop(accounts);
        std::fs::write(&file.0, alone + "\n").unwrap();
        let (_, damage) = open(&file.0);
        assert_eq!(damage.len(), 1, "a change without an account is damage");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_has_access_to_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let file = TempFile::new("mode");
        let mode = || std::fs::metadata(&file.0).unwrap().permissions().mode() & 0o777;
        drop(open(&file.0));
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Accounts::open(&file.0).unwrap().was_open_to_others && mode() == 0o600);
        assert!(!Accounts::open(&file.0).unwrap().was_open_to_others);
        // If others can write the file, its content may not be the server's.
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o660)).unwrap();
        let error = Accounts::open(&file.0).err().unwrap().to_string();
        let command = format!("run `chmod g-w,o= {}`", file.0.display());
        assert!(error.contains(&command), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn another_users_file_is_refused_at_startup_and_as_a_replacement() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let file = TempFile::new("other-owner");
        let (accounts, _) = open(&file.0);
        if chown(&file.0, Some(54321), None).is_err() {
            portal_cli::output::report(
                "NOT TESTED in part: only root can give a file to another user\n",
            );
            return;
        }
        let error = Accounts::open(&file.0).err().unwrap().to_string();
        assert!(error.contains("the user with id 54321"), "{error}");
        std::fs::remove_file(&file.0).unwrap();
        std::fs::write(&file.0, "").unwrap();
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file.0, Some(54321), None).unwrap();
        let name = Name::new("alice").unwrap();
        let Err(error) = accounts.check(&name, "one", || false) else {
            panic!("registered in another user's file")
        };
        assert!(error.to_string().contains("chown 0 "), "{error}");
        assert_eq!(file.text(), "");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_refused() {
        let (file, link) = (TempFile::new("linked"), TempFile::new("link"));
        std::os::unix::fs::symlink(&file.0, &link.0).unwrap();
        let Err(error) = Accounts::open(&link.0) else {
            panic!("opened a link")
        };
        assert!(
            error.to_string().contains("it is a symbolic link"),
            "{error}"
        );
    }

    #[test]
    fn two_servers_cant_share_a_file() {
        let file = TempFile::new("lock");
        let _first = open(&file.0);
        let second = Accounts::open(&file.0);
        assert!(matches!(second, Err(AccountError::InUse(_))));
    }

    #[test]
    fn damaged_lines_are_reported_and_kept_and_affect_no_other_line() {
        let file = TempFile::new("damage");
        let (accounts, _) = open(&file.0);
        check(&accounts, "alice", "one");
        drop(accounts);
        let line = file.text();
        let torn = line.trim_end()[..line.len() - 5].replace("alice", "Bob");
        let damaged = format!("# comment\n{line}nonsense\n\u{e9} x\n{line}{torn}");
        std::fs::write(&file.0, &damaged).unwrap();

        let (accounts, damage) = open(&file.0);
        let lines: Vec<usize> = damage.iter().map(|damage| damage.line).collect();
        assert_eq!((lines, accounts.len()), (vec![3, 4, 5, 6], 1));
        assert_eq!(
            check(&accounts, "alice", "one"),
            PasswordCheck::Right(name("alice"))
        );
        for who in ["bob", "nonsense"] {
            let refused = accounts.check(&name(who), "two", || false);
            assert!(matches!(refused, Err(AccountError::Reserved(_))), "{who}");
        }
        assert_eq!(
            check(&accounts, "carol", "two"),
            PasswordCheck::Registered(name("carol"))
        );
        drop(accounts);
        let text = file.text();
        assert!(
            text.starts_with(&(damaged + "\ncarol $argon2id$")),
            "nothing is rewritten"
        );
        // The operator restores the line.
        std::fs::write(&file.0, text.replace(&torn, &line.replace("alice", "Bob"))).unwrap();
        let (accounts, _) = open(&file.0);
        let right = check(&accounts, "bob", "one");
        assert_eq!(right, PasswordCheck::Right(name("bob")));
    }

    #[test]
    fn the_name_on_a_damaged_line_is_found_whatever_the_damage() {
        let file = TempFile::new("reserved");
        let (accounts, _) = open(&file.0);
        check(&accounts, "alice", "one");
        drop(accounts);
        let whole = file.text().trim_end().replace("alice ", "");
        let other = whole.clone() + " changed";
        for (line, reserved) in [
            (b"bob".to_vec(), true),
            (format!("bob\t{whole}").into_bytes(), true),
            (format!(" bob {whole}").into_bytes(), true),
            (format!("bob:{whole}").into_bytes(), true),
            (format!("bob {other}").into_bytes(), true),
            ([b"bob $argon2id\xe4", whole.as_bytes()].concat(), true),
            ([b"bob\xe9 ", whole.as_bytes()].concat(), false),
            (b"# bob \xe4".to_vec(), false),
        ] {
            std::fs::write(&file.0, &line).unwrap();
            let (accounts, damage) = open(&file.0);
            let shown = String::from_utf8_lossy(&line);
            assert_eq!(accounts.is_reserved(&name("Bob")), reserved, "{shown}");
            let is_comment = line.starts_with(b"#");
            assert_eq!(damage.len(), usize::from(!is_comment), "{shown}");
        }
    }

    #[test]
    fn an_accounts_file_means_the_same_however_an_editor_saves_it() {
        let file = TempFile::new("saved");
        let (accounts, _) = open(&file.0);
        check(&accounts, "alice", "one");
        check(&accounts, "bob", "two");
        drop(accounts);
        for (how, bytes) in portal_cli::test_support::same_texts(&file.text()) {
            std::fs::write(&file.0, bytes).unwrap();
            let (accounts, damage) = open(&file.0);
            assert_eq!((damage, accounts.len()), (vec![], 2), "{how}");
            let right = check(&accounts, "alice", "one");
            assert_eq!(right, PasswordCheck::Right(name("alice")), "{how}");
            check(&accounts, "carol", "three");
            drop(accounts);
            let (accounts, damage) = open(&file.0);
            assert_eq!((damage, accounts.len()), (vec![], 3), "{how}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_not_an_accounts_file_is_refused() {
        let file = TempFile::new("other");
        std::fs::write(&file.0, b"\xff\xfea\0 \0").unwrap();
        let refused = |path: &Path| Accounts::open(path).err().unwrap().to_string();
        assert!(refused(&file.0).contains("UTF-16"));
        std::fs::remove_file(&file.0).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file.0).status();
        assert!(made.unwrap().success());
        assert!(refused(&file.0).contains("not a regular file"));
    }

    #[test]
    fn a_hash_of_another_form_is_replaced_after_a_correct_password() {
        let file = TempFile::new("forms");
        let (decomposed, composed) = ("pa\u{308}ss", "p\u{e4}ss");
        let hash = Hasher::default().hash(decomposed).unwrap();
        std::fs::write(&file.0, format!("Alice {hash}\n")).unwrap();
        let (accounts, _) = open(&file.0);
        let right = PasswordCheck::Right(name("alice"));
        assert_eq!(check(&accounts, "alice", "pass"), PasswordCheck::Wrong);
        assert_eq!(check(&accounts, "alice", composed), PasswordCheck::Wrong);
        assert_eq!(file.text().lines().count(), 1);
        assert_eq!(check(&accounts, "alice", decomposed), right);
        for _ in 0..2 {
            assert_eq!(check(&accounts, "alice", composed), right);
            assert_eq!(check(&accounts, "alice", decomposed), right);
        }
        assert_eq!(accounts.all()[0].version, 2);
        drop(accounts);
        let text = file.text();
        assert!(
            text.ends_with(" changed\n") && text.lines().count() == 2,
            "{text}"
        );
        let (accounts, damage) = open(&file.0);
        assert!(damage.is_empty());
        assert_eq!(check(&accounts, "alice", composed), right);
    }

    #[test]
    fn a_hash_is_replaced_only_as_the_other_servers_decide() {
        let file = TempFile::new("decided");
        let (decomposed, composed) = ("pa\u{308}ss", "p\u{e4}ss");
        let old = Hasher::default().hash(decomposed).unwrap();
        std::fs::write(&file.0, format!("alice {old}\n")).unwrap();
        let (accounts, _) = open(&file.0);
        let right = PasswordCheck::Right(name("alice"));
        let login = |password, decide: &dyn Fn(AccountRequest<'_>) -> Decided| {
            accounts
                .check_among(&name("alice"), password, || false, decide)
                .unwrap()
        };
        assert_eq!(login(decomposed, &|_| Decided::Unknown), right);
        assert_eq!(accounts.all()[0].hash, old, "servers are unreachable");
        let theirs = Account {
            hash: Hasher::default().hash(composed).unwrap(),
            version: 2,
            ..accounts.all()[0].clone()
        };
        let decide = |wish: AccountRequest<'_>| {
            assert!(matches!(wish, AccountRequest::Change { account, .. } if account.version == 1));
            Decided::Theirs(theirs.clone())
        };
        assert_eq!(login(decomposed, &decide), right);
        assert_eq!(accounts.all(), vec![theirs.clone()]);
        assert_eq!(login(decomposed, &|_| panic!("it is prepared")), right);
    }

    #[test]
    fn a_new_password_contains_no_invisible_character() {
        let file = TempFile::new("unseen");
        let (accounts, _) = open(&file.0);
        let refused = accounts.check(&name("alice"), "a\u{7}", || false);
        assert!(matches!(refused, Err(AccountError::Unprintable)));
        check(&accounts, "alice", "one");
        let refused = accounts.change(&name("alice"), "one", "\u{200b}", || false);
        assert!(matches!(refused, Err(AccountError::Unprintable)));
        // An older account may have such a password.
        let hash = Hasher::default().hash("a\u{7}").unwrap();
        drop(accounts);
        std::fs::write(&file.0, format!("alice {hash}\n")).unwrap();
        let (accounts, _) = open(&file.0);
        let right = PasswordCheck::Right(name("alice"));
        assert_eq!(check(&accounts, "alice", "a\u{7}"), right);
    }

    #[cfg(unix)]
    #[test]
    fn a_deleted_or_replaced_file_gets_the_missing_accounts() {
        let file = TempFile::new("replaced");
        let (accounts, _) = open(&file.0);
        check(&accounts, "alice", "one");
        check(&accounts, "bob", "two");
        let before = file.text();
        std::fs::remove_file(&file.0).unwrap();
        check(&accounts, "carol", "three");
        assert_eq!(accounts.take_rescued().unwrap().count, 2);
        assert!(accounts.take_rescued().is_none());

        // An editor replaces the file: bob's line is removed, and a comment is added.
        let kept: Vec<&str> = before
            .lines()
            .filter(|line| line.starts_with("alice"))
            .collect();
        let edited = file.0.with_extension("new");
        std::fs::write(&edited, format!("# ours\n{}", kept.concat())).unwrap();
        std::fs::rename(&edited, &file.0).unwrap();
        check(&accounts, "dave", "four");
        assert_eq!(accounts.take_rescued().unwrap().count, 2);
        drop(accounts);

        assert!(file.text().starts_with("# ours\nalice $argon2id$"));
        let (accounts, damage) = open(&file.0);
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

    /// The test's `fsync` counts its calls, and blocks until the test releases it.
    #[test]
    fn logins_do_not_wait_for_the_disk_and_registrations_share_a_write() {
        let file = TempFile::new("slow");
        let (accounts, _) = open(&file.0);
        check(&accounts, "alice", "one");
        let (asked, is_asked) = bounded(100);
        let (go, goes) = bounded::<()>(100);
        accounts.book.sync_with(Box::new(move |file| {
            asked.send(()).unwrap();
            goes.recv().unwrap();
            file.sync_data()
        }));
        let names = ["a", "b", "c", "d", "e", "f"];
        std::thread::scope(|threads| {
            let accounts = &accounts;
            let register = |who| threads.spawn(move || check(accounts, who, "secret"));
            let mut registering = vec![register("a")];
            is_asked.recv().unwrap();
            registering.extend(names[1..].iter().map(|who| register(who)));
            // A rival registers the same name at the same time.
            let rival = threads.spawn(move || check(accounts, "A", "other"));
            assert_eq!(
                check(accounts, "alice", "one"),
                PasswordCheck::Right(name("alice"))
            );
            assert_eq!(check(accounts, "alice", "two"), PasswordCheck::Wrong);
            assert_eq!(accounts.len(), 1, "nothing is confirmed yet");
            // Wait until all other registrations have been hashed and queued behind the busy disk.
            while accounts.book.waits() < names.len() - 1 {
                std::thread::yield_now();
            }
            for _ in 0..2 {
                go.send(()).unwrap();
            }
            for (who, registered) in names.iter().zip(registering) {
                let who = PasswordCheck::Registered(name(who));
                assert_eq!(registered.join().unwrap(), who);
            }
            assert_eq!(rival.join().unwrap(), PasswordCheck::Wrong);
            assert_eq!(is_asked.len(), 1, "the other five were one batch");
        });
        drop(accounts);
        assert_eq!(open(&file.0).0.len(), 7);
    }

    #[test]
    fn a_deletion_survives_a_restart_and_frees_the_name() {
        let file = TempFile::new("deleted");
        let (accounts, _) = open(&file.0);
        check(&accounts, "Alice", "one");
        check(&accounts, "bob", "two");
        assert_eq!(accounts.delete(&name("alice")).unwrap(), name("Alice"));
        let unknown = accounts.delete(&name("alice"));
        assert!(matches!(unknown, Err(AccountError::Unknown(_))));
        let registered = PasswordCheck::Registered(name("alice"));
        assert_eq!(check(&accounts, "alice", "three"), registered);
        drop(accounts);
        let (accounts, damage) = open(&file.0);
        assert_eq!((accounts.len(), damage.len()), (2, 0));
        let right = PasswordCheck::Right(name("alice"));
        assert_eq!(check(&accounts, "alice", "three"), right);
        drop(accounts);
        // Cut short by a crash: the name stays reserved.
        std::fs::write(&file.0, "carol delet").unwrap();
        let (accounts, damage) = open(&file.0);
        assert_eq!(damage.len(), 1);
        assert!(accounts.is_reserved(&name("carol")));
    }

    #[test]
    fn a_password_can_be_reset_without_the_old_one() {
        let file = TempFile::new("reset");
        let (accounts, _) = open(&file.0);
        check(&accounts, "Alice", "one");
        let reset = accounts.reset_among(&name("alice"), "two", |_| Decided::Ours);
        assert_eq!(reset.unwrap(), name("Alice"));
        assert_eq!(check(&accounts, "alice", "one"), PasswordCheck::Wrong);
        let right = PasswordCheck::Right(name("Alice"));
        assert_eq!(check(&accounts, "alice", "two"), right);
        let refused = accounts.reset_among(&name("alice"), "three", |_| Decided::Unknown);
        assert!(matches!(refused, Err(AccountError::Undecided)));
        assert_eq!(check(&accounts, "alice", "two"), right);
    }

    #[test]
    fn a_disk_failure_creates_no_account_and_leaves_no_line() {
        let file = TempFile::new("failing");
        let (accounts, _) = open(&file.0);
        check(&accounts, "alice", "one");
        let before = file.text();
        accounts
            .book
            .sync_with(Box::new(|_| Err(io::Error::other("no"))));
        let refused = accounts.check(&name("bob"), "two", || false);
        assert!(matches!(refused, Err(AccountError::File(..))));
        let changed = accounts.change(&name("alice"), "one", "two", || false);
        assert!(matches!(changed, Err(AccountError::File(..))));
        assert_eq!((file.text(), accounts.len()), (before, 1));
        assert_eq!(check(&accounts, "alice", "two"), PasswordCheck::Wrong);
    }
}
