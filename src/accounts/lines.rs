//! Reads the lines of the accounts file.

use std::collections::HashMap;

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;

use crate::limits;
use portal_wire::Name;

/// The latest state of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name, spelled as it was registered.
    pub name: Name,
    /// The hash of its password, as a PHC string.
    pub hash: String,
    /// Number of passwords that the account has had, including the current one. The higher version
    /// is the newer one.
    pub version: u64,
}

/// The accounts, indexed by the keys of their names.
pub(super) type ByKey = HashMap<String, Account>;

/// Returns whether `hash` is valid and quick enough to check. It may come from another server.
pub(super) fn is_hash(hash: &str) -> bool {
    let line = read_line(format!("somebody {hash}").as_bytes());
    line.is_ok_and(|line| line.is_some_and(|(_, hash, _)| !hash.is_empty()))
}

/// A line in the file that is not a valid entry. It is left unchanged.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// The line number, counted from 1.
    pub line: usize,
    /// The reason why the line is invalid.
    pub reason: &'static str,
    /// Advice for the operator.
    pub fix: &'static str,
    /// The name at the beginning of the line, if there is one. It may have an owner, so no client
    /// can register it.
    pub name: Option<Name>,
}

const RESTORE: &str = "restore the line from a backup, or delete it to free the name";
const CORRECT: &str = "correct the line, or delete it";
const DELETE: &str = "delete one of the two lines";

/// Parses a file's bytes (without a byte order mark) into accounts and damaged lines.
pub(super) fn read(bytes: &[u8]) -> (ByKey, Vec<Damage>) {
    let mut by_key = ByKey::new();
    let mut damage = Vec::new();
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        let mut damaged = |reason, fix| {
            let name = name_of(line);
            damage.push(Damage {
                line: number,
                reason,
                fix: if name.is_some() { fix } else { CORRECT },
                name,
            });
        };
        match read_line(line) {
            Ok(None) => {}
            Ok(Some((name, _, AccountLine::Deleted))) => {
                by_key.remove(&name.key());
            }
            Ok(Some((name, hash, AccountLine::Changed))) => match by_key.get_mut(&name.key()) {
                // The name keeps its original spelling.
                Some(account) => {
                    account.hash = hash;
                    account.version += 1;
                }
                None => damaged(
                    "it changes the password of a name that has no account on an earlier line",
                    RESTORE,
                ),
            },
            Ok(Some((name, _, AccountLine::Account))) if by_key.contains_key(&name.key()) => {
                damaged(
                    "the name has an account on an earlier line, and that line is used",
                    DELETE,
                );
            }
            Ok(Some((name, hash, AccountLine::Account))) => {
                let (key, version) = (name.key(), 1);
                by_key.insert(
                    key,
                    Account {
                        name,
                        hash,
                        version,
                    },
                );
            }
            Err(reason) => damaged(reason, RESTORE),
        }
    }
    (by_key, damage)
}

/// Returns the name at the beginning of a line, regardless of what follows it.
fn name_of(line: &[u8]) -> Option<Name> {
    let line = line.trim_ascii_start();
    let text = line.utf8_chunks().next()?.valid();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    // If a non-ASCII letter or an invalid byte follows, this is only part of another name.
    let is_whole = line.get(end).is_none_or(u8::is_ascii);
    Name::new(&text[..end]).filter(|_| is_whole)
}

/// The word at the end of a line that replaces a password.
pub(super) const CHANGED: &str = "changed";

/// The word after the name in a line that deletes an account.
pub(super) const DELETED: &str = "deleted";

/// The effect of a line in the file.
enum AccountLine {
    /// Deletes an account.
    Deleted,
    /// Registers an account.
    Account,
    /// Replaces the password of an account.
    Changed,
}

fn read_line(line: &[u8]) -> Result<Option<(Name, String, AccountLine)>, &'static str> {
    // A comment may be in any encoding.
    if line.starts_with(b"#") {
        return Ok(None);
    }
    let text = std::str::from_utf8(line)
        .map_err(|_| "it is not UTF-8")?
        .trim_end_matches('\r');
    if text.is_empty() {
        return Ok(None);
    }
    let (name, hash) = text
        .split_once(' ')
        .ok_or("it has no space between the name and the hash")?;
    let name = Name::new(name).ok_or("it does not begin with a name")?;
    if !name.is_for_a_person() {
        return Err("the name is a number, or `server`, and can't be used to log in");
    }
    if hash == DELETED {
        return Ok(Some((name, String::new(), AccountLine::Deleted)));
    }
    let (hash, kind) = match hash.split_once(' ') {
        Some((hash, CHANGED)) => (hash, AccountLine::Changed),
        _ => (hash, AccountLine::Account),
    };
    // A hash truncated by a crash may still be well-formed, so its length is checked.
    const WHOLE: usize = 32;
    let parsed = PasswordHash::new(hash).map_err(|_| "the hash is incomplete")?;
    if parsed.salt.is_none() || parsed.hash.is_none_or(|output| output.len() != WHOLE) {
        return Err("the hash is incomplete");
    }
    // A password check must not exhaust the machine's resources, whatever the line contains.
    let cost = Params::try_from(&parsed).map_err(|_| "the hash is incomplete")?;
    let work = u64::from(cost.m_cost()) * u64::from(cost.t_cost());
    if work > limits::HASH_WORK || cost.p_cost() > limits::HASH_LANES {
        return Err("checking its password would take too long");
    }
    Ok(Some((name, hash.to_owned(), kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_absurd_costs_is_damaged() {
        let line = |costs: &str| {
            let (salt, hash) = ("A".repeat(22), "A".repeat(43));
            let line = format!("alice $argon2id$v=19${costs}${salt}${hash}\n");
            let (accounts, damage) = read(line.as_bytes());
            (accounts.len(), damage.len())
        };
        assert_eq!(line("m=19456,t=2,p=1"), (1, 0));
        for absurd in [
            "m=4194304,t=2,p=1",
            "m=19456,t=4000,p=1",
            "m=19456,t=2,p=200",
        ] {
            assert_eq!(line(absurd), (0, 1), "{absurd}");
        }
    }
}
