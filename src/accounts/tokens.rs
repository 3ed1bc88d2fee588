//! Session tokens, in a file alongside the accounts or, in a cluster, in Redis.
//!
//! A token is 256 random bits. The server keeps only its hash, together with the hashes of the name
//! and the password. The file is therefore of no use to a thief, and a changed password or a
//! deleted account revokes the token immediately, on every server, without another write.
//!
//! The file has one line for each change: `alice HASH SECONDS` for a token that is valid until that
//! time (Unix), `alice HASH ended` and `alice ended`. The server only appends lines, each in a
//! single write that reaches the disk before the change is confirmed. At startup, it rewrites the
//! file if most lines are no longer needed. Deleting the file revokes every token, even while the
//! server runs. Without a path, the tokens last only as long as the server runs.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portal_cli::text_file::without_mark;
use portal_core::event::Events;
use portal_core::service::Refusal;
use portal_net::lock::{Mutex, Rank};
use portal_sessions::accounts::Accounts as _;
use portal_sessions::tokens::SessionTokens;
use portal_wire::{ErrorCode, Name};
use sha2::{Digest as _, Sha256};

use crate::SharedAccounts;
use crate::disk_file::DiskFile;
use crate::limits;

/// Number of bits in a token, divided by eight.
const TOKEN_BYTES: usize = 32;

const ENDED: &str = "ended";

/// An error with the tokens file.
#[derive(Debug)]
pub enum TokenError {
    /// The file can't be opened, read or written.
    File(PathBuf, io::Error),
    /// Another server uses the file.
    InUse(PathBuf),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::File(path, error) => write!(
                f,
                "the tokens file {} can't be used ({error}): give the user who runs this server \
                 read and write permission for it and its folder, or choose another folder with \
                 --accounts FILE",
                path.display()
            ),
            TokenError::InUse(path) => write!(
                f,
                "another server is using the tokens file {}: stop that server, or choose another \
                 folder with --accounts FILE",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TokenError {}

/// Tokens that several servers share. `None` means that they can't be reached, and nothing has
/// changed.
pub trait TokenDirectory: Send + Sync {
    /// Adds a token that is valid until `until`, and removes the expired and the oldest ones so
    /// that there are at most `most`.
    fn add(&self, name: &Name, token: &StoredToken, most: usize) -> Option<()>;

    /// Returns whether there is a currently valid token with this hash.
    fn has(&self, name: &Name, hash: &str) -> Option<bool>;

    /// Removes the token with this hash, or all tokens for the name. Returns the number of removed
    /// tokens.
    fn remove(&self, name: &Name, hash: Option<&str>) -> Option<usize>;
}

/// The stored part of a token: its hash and its expiry time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// In hexadecimal digits.
    pub hash: String,
    /// The expiry time, in seconds since the Unix epoch.
    pub until: u64,
}

/// The source of the time, which tests replace.
type Now = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// The tokens issued by one server, or shared by several.
pub struct SharedTokens {
    accounts: Option<Arc<SharedAccounts>>,
    directory: Option<Arc<dyn TokenDirectory>>,
    local: Mutex<Local>,
    now: Now,
    events: Events,
}

/// The tokens in memory, and the file.
struct Local {
    path: Option<PathBuf>,
    file: Option<DiskFile>,
    tokens: Tokens,
}

/// Each name's tokens, by the name's key, the oldest one first.
#[derive(Default)]
struct Tokens(HashMap<String, Vec<StoredToken>>);

impl SharedTokens {
    /// Reads the file at `path`, and locks it against other servers. The file is created with the
    /// first token. With a `directory`, there is no file.
    ///
    /// # Errors
    /// [`TokenError`] if the file can't be opened, locked or read.
    pub fn open(
        path: Option<&Path>,
        accounts: Option<Arc<SharedAccounts>>,
        directory: Option<Arc<dyn TokenDirectory>>,
        events: &Events,
    ) -> Result<SharedTokens, TokenError> {
        SharedTokens::open_at(path, accounts, directory, events, Box::new(SystemTime::now))
    }

    fn open_at(
        path: Option<&Path>,
        accounts: Option<Arc<SharedAccounts>>,
        directory: Option<Arc<dyn TokenDirectory>>,
        events: &Events,
        now: Now,
    ) -> Result<SharedTokens, TokenError> {
        let path = path.filter(|_| directory.is_none()).map(Path::to_owned);
        let mut local = Local {
            path,
            file: None,
            tokens: Tokens::default(),
        };
        if let Some(path) = &local.path
            && path.symlink_metadata().is_ok()
        {
            local.open_file(seconds(now()), events)?;
        }
        Ok(SharedTokens {
            accounts,
            directory,
            local: Mutex::ranked(Rank::AccountsFile, local),
            now,
            events: events.clone(),
        })
    }

    fn now(&self) -> u64 {
        seconds((self.now)())
    }

    /// Returns the name as it was registered, and the hash of its password; `None` if it has no
    /// account. Without accounts, every name counts as registered.
    fn owner(&self, name: &Name) -> Result<Option<(Name, String)>, Refusal> {
        let Some(accounts) = &self.accounts else {
            return Ok(Some((name.clone(), String::new())));
        };
        // Another server may have changed the password.
        match accounts.lookup(name, None) {
            Ok(_) => Ok(accounts
                .find(name)
                .map(|account| (account.name, account.hash))),
            Err(refusal) if refusal.code == ErrorCode::NotSaved => Err(refusal),
            // The refusal concerns a new registration, so the name has no account.
            Err(_) => Ok(None),
        }
    }

    /// Runs `action` on the tokens in memory; appends the line that it returns to the file first.
    fn change<T>(
        &self,
        action: impl FnOnce(&Tokens, u64) -> (Option<Line>, T),
    ) -> Result<T, Refusal> {
        let mut local = self.local.lock();
        let now = self.now();
        let changed = local.follow(now, &self.events).and_then(|()| {
            let (line, result) = action(&local.tokens, now);
            if let Some(line) = line {
                local.append(line, now, &self.events)?;
            }
            Ok(result)
        });
        changed.map_err(|error| {
            drop(local);
            self.events
                .emit_failure("store a session token", error.to_string());
            Refusal {
                code: ErrorCode::NotSaved,
                sentence:
                    "the server can't store session tokens at the moment; log in with your password"
                        .to_owned(),
            }
        })
    }
}

impl SessionTokens for SharedTokens {
    fn issue(&self, name: &Name) -> Result<String, Refusal> {
        let mut bytes = [0; TOKEN_BYTES];
        let owner = self.owner(name)?;
        let random = getrandom::fill(&mut bytes).map_err(|error| error.to_string());
        let (Some((_, password)), Ok(())) = (owner, random) else {
            return Err(Refusal {
                code: ErrorCode::NotSaved,
                sentence: "the server can't create a session token at the moment".to_owned(),
            });
        };
        let token = hex(&bytes);
        let stored = StoredToken {
            hash: hash(name, &token, &password),
            until: self.now() + limits::TOKEN_VALID.as_secs(),
        };
        match &self.directory {
            Some(directory) => {
                let added = directory.add(name, &stored, limits::TOKENS_PER_NAME);
                added.ok_or_else(unreachable)?;
            }
            None => self.change(|_, _| (Some(Line::Issued(name.key(), stored)), ()))?,
        }
        Ok(token)
    }

    fn check(&self, name: &Name, token: &str) -> Result<Option<Name>, Refusal> {
        let Some((name, password)) = self.owner(name)? else {
            return Ok(None);
        };
        let hash = hash(&name, token, &password);
        let is_valid = match &self.directory {
            Some(directory) => directory.has(&name, &hash).ok_or_else(unreachable)?,
            None => self.change(|tokens, now| (None, tokens.has(&name, &hash, now)))?,
        };
        Ok(is_valid.then_some(name))
    }

    fn end(&self, name: &Name, token: &str) -> Result<(), Refusal> {
        let Some((name, password)) = self.owner(name)? else {
            return Ok(());
        };
        let hash = hash(&name, token, &password);
        match &self.directory {
            Some(directory) => {
                let removed = directory.remove(&name, Some(&hash));
                removed.map(drop).ok_or_else(unreachable)
            }
            None => self.change(|tokens, now| {
                let is_valid = tokens.has(&name, &hash, now);
                (is_valid.then(|| Line::Ended(name.key(), Some(hash))), ())
            }),
        }
    }

    fn end_all(&self, name: &Name) -> Result<usize, Refusal> {
        match &self.directory {
            Some(directory) => directory.remove(name, None).ok_or_else(unreachable),
            None => self.change(|tokens, now| {
                let count = tokens.count(name, now);
                let line = (count > 0).then(|| Line::Ended(name.key(), None));
                (line, count)
            }),
        }
    }
}

fn unreachable() -> Refusal {
    Refusal {
        code: ErrorCode::Unreachable,
        sentence: "the other servers can't be reached, and they share the session tokens; try again in a minute"
            .to_owned(),
    }
}

/// Returns the stored hash of a token, which depends on the name and the hash of its password.
fn hash(name: &Name, token: &str, password: &str) -> String {
    let mut hash = Sha256::new();
    for part in [name.key().as_str(), token, password] {
        // Include the lengths, so that different parts never produce the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.as_ref().map_or(0, Duration::as_secs)
}

impl Tokens {
    fn has(&self, name: &Name, hash: &str, now: u64) -> bool {
        let theirs = self.0.get(&name.key());
        // The comparison need not take constant time: it compares hashes, so its timing reveals
        // nothing about the token.
        theirs.is_some_and(|theirs| {
            theirs
                .iter()
                .any(|there| there.hash == hash && there.until > now)
        })
    }

    fn count(&self, name: &Name, now: u64) -> usize {
        let theirs = self.0.get(&name.key());
        theirs.map_or(0, |theirs| {
            theirs.iter().filter(|there| there.until > now).count()
        })
    }

    fn apply(&mut self, line: Line, now: u64) {
        match line {
            Line::Issued(_, token) if token.until <= now => {}
            Line::Issued(key, token) => {
                let theirs = self.0.entry(key).or_default();
                theirs.retain(|there| there.until > now);
                theirs.push(token);
                let extra = theirs.len().saturating_sub(limits::TOKENS_PER_NAME);
                theirs.drain(..extra);
                self.limit(now);
            }
            Line::Ended(key, Some(hash)) => {
                if let Some(theirs) = self.0.get_mut(&key) {
                    theirs.retain(|there| there.hash != hash);
                }
            }
            Line::Ended(key, None) => drop(self.0.remove(&key)),
        }
    }

    /// Limits memory use: without passwords, there may be any number of names.
    fn limit(&mut self, now: u64) {
        if self.0.len() <= limits::NAMES_WITH_TOKENS {
            return;
        }
        self.0
            .retain(|_, theirs| theirs.iter().any(|there| there.until > now));
        if self.0.len() > limits::NAMES_WITH_TOKENS {
            let until = |theirs: &[StoredToken]| theirs.last().map_or(0, |token| token.until);
            let oldest = self.0.iter().min_by_key(|(_, theirs)| until(theirs));
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.0.remove(&key);
            }
        }
    }

    /// The lines in a file with these tokens.
    fn lines(&self) -> Vec<Line> {
        let theirs = |(key, theirs): (&String, &Vec<StoredToken>)| {
            let key = key.clone();
            let line = move |there: &StoredToken| Line::Issued(key.clone(), there.clone());
            theirs.iter().map(line).collect::<Vec<Line>>()
        };
        self.0.iter().flat_map(theirs).collect()
    }
}

/// A line in the file. The first part is a name's key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Issued(String, StoredToken),
    /// Without a hash, all tokens for the name have been revoked.
    Ended(String, Option<String>),
}

impl Line {
    /// Reads a line. Returns `None` for an empty or incomplete line, such as the last one before a
    /// power cut.
    fn read(line: &str) -> Option<Line> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = || Name::new(words.first()?).map(|name| name.key());
        let is_hash =
            |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match words[..] {
            [_, ENDED] => Some(Line::Ended(key()?, None)),
            [_, hash, ENDED] if is_hash(hash) => Some(Line::Ended(key()?, Some(hash.to_owned()))),
            [_, hash, until] if is_hash(hash) => {
                let (hash, until) = (hash.to_owned(), until.parse().ok()?);
                Some(Line::Issued(key()?, StoredToken { hash, until }))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Issued(key, StoredToken { hash, until }) => write!(f, "{key} {hash} {until}"),
            Line::Ended(key, Some(hash)) => write!(f, "{key} {hash} {ENDED}"),
            Line::Ended(key, None) => write!(f, "{key} {ENDED}"),
        }
    }
}

impl Local {
    /// Opens the file at the path, and reads it.
    fn open_file(&mut self, now: u64, events: &Events) -> Result<(), TokenError> {
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        let failed = |error| TokenError::File(path.clone(), error);
        let opened = DiskFile::open(&path).map_err(failed)?;
        let (file, bytes, was_open) = opened.ok_or_else(|| TokenError::InUse(path.clone()))?;
        if was_open {
            let text = format!(
                "other users had access to {}; access is now restricted to its owner (mode 0600)",
                path.display()
            );
            events.emit_failure("protect the tokens file", text);
        }
        let bytes = without_mark(&bytes).map_err(|fault| failed(fault.into()))?;
        let text = String::from_utf8_lossy(bytes);
        let mut tokens = Tokens::default();
        let mut count = 0;
        for line in text.lines() {
            count += 1;
            if let Some(line) = Line::read(line) {
                tokens.apply(line, now);
            }
        }
        let lines = tokens.lines();
        self.tokens = tokens;
        self.file = Some(file);
        if count > 2 * lines.len() + limits::TOKENS_PER_NAME {
            self.write_anew(&path, &lines).map_err(failed)?;
        }
        Ok(())
    }

    /// Replaces the file with one that contains only these lines. A crash leaves either the old
    /// file or the new one.
    fn write_anew(&mut self, path: &Path, lines: &[Line]) -> io::Result<()> {
        // `with_extension` would replace the `.tokens`, and that may be a file of the operator's.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let in_use = || io::Error::other("another server is using it");
        let (mut file, _, _) = DiskFile::open(&beside)?.ok_or_else(in_use)?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        file.append(&text)?;
        drop(file);
        // Until this rename, the lock on the old file excludes other servers.
        std::fs::rename(&beside, path)?;
        let (file, _, _) = DiskFile::open(path)?.ok_or_else(in_use)?;
        self.file = Some(file);
        Ok(())
    }

    /// If the file has been deleted or replaced, switches to the current one.
    fn follow(&mut self, now: u64, events: &Events) -> Result<(), TokenError> {
        let (Some(path), Some(file)) = (self.path.clone(), &self.file) else {
            return Ok(());
        };
        let is_elsewhere = file.is_elsewhere();
        if is_elsewhere.map_err(|error| TokenError::File(path, error))? {
            self.open_file(now, events)?;
        }
        Ok(())
    }

    fn append(&mut self, line: Line, now: u64, events: &Events) -> Result<(), TokenError> {
        if let Some(path) = self.path.clone() {
            if self.file.is_none() {
                self.open_file(now, events)?;
            }
            if let Some(file) = &mut self.file {
                let written = file.append(&format!("{line}\n"));
                written.map_err(|error| TokenError::File(path, error))?;
            }
        }
        self.tokens.apply(line, now);
        Ok(())
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
