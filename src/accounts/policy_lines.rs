//! Reads and writes the lines of the policies file.
//!
//! ```text
//! ban alice 2026-11-30T12:00:00.000Z bob too loud
//! ban 192.0.2.0/24 forever (operator)
//! unban alice bob
//! mute carol 2026-11-30T12:00:00.000Z (operator)
//! unmute carol (operator)
//! moderator bob on
//! moderator bob off
//! invite 4kqm-7xtd-w2fn
//! invited 4kqm-7xtd-w2fn dave
//! room lobby open alice
//! room lobby invite alice
//! room lobby password $argon2id$v=19$m=19456,t=2,p=1$… alice
//! room lobby moderated on
//! room lobby moderator bob on
//! room lobby invited carol on
//! room lobby mute dave 2026-11-30T12:00:00.000Z alice
//! room lobby unmute dave alice
//! ```
//!
//! A crash may cut the last line short. The order of the words ensures that a truncated line is
//! never a rule about another name.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::lines::is_hash;
use portal_net::Network;
use portal_sessions::policies::Banned;
use portal_wire::time::{read_rfc_3339, rfc_3339};
use portal_wire::{Name, printable};

/// The author of the operator's rules. It is not a valid name.
const OPERATOR: &str = "(operator)";
/// The word for the expiry time of a permanent rule.
const FOREVER: &str = "forever";
const ON: &str = "on";
const OFF: &str = "off";
/// The rule of a room whose earlier rules have ended.
const RESET: &str = "reset";

/// A change to the rules, as one line in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PolicyLine {
    Ban(Banned, Term),
    /// A moderator lifted a ban; `None` is the operator.
    Unban(Banned, Option<Name>),
    Mute(Name, Term),
    /// A moderator lifted a mute; `None` is the operator.
    Unmute(Name, Option<Name>),
    /// The user becomes a moderator (true), or stops being one (false).
    Moderator(Name, bool),
    /// An invitation, valid for one registration.
    Invite(String),
    /// The user with this name has used the invitation.
    Invited(String, Name),
    /// A rule of a room.
    Room(Name, RoomLine),
}

/// A change to a room's rules. An author of `None` is the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoomLine {
    /// The rules begin here: those in earlier lines ended along with an earlier room.
    Reset,
    /// Every user may join.
    Open(Option<Name>),
    /// Only invited users may join.
    Invite(Option<Name>),
    /// Users who were not invited need the password with this hash.
    Password(String, Option<Name>),
    /// Only moderators may send messages (true), or every member may (false).
    Moderated(bool),
    /// The user becomes a moderator of the room (true), or stops being one (false).
    Moderator(Name, bool),
    /// The user is invited (true), or no longer invited (false).
    Invited(Name, bool),
    Mute(Name, Term),
    Unmute(Name, Option<Name>),
}

impl RoomLine {
    /// Reads the words after the room's name.
    fn read(text: &str) -> Result<RoomLine, &'static str> {
        if text == RESET {
            return Ok(RoomLine::Reset);
        }
        let (kind, rest) = text.split_once(' ').ok_or("its rule is missing")?;
        let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let name = || {
            let name = Name::new(first).filter(Name::is_for_a_person);
            name.ok_or("a name in it is missing or invalid")
        };
        let is_on = |word| match word {
            ON => Ok(true),
            OFF => Ok(false),
            _ => Err("its last word is neither `on` nor `off`"),
        };
        Ok(match kind {
            "open" => RoomLine::Open(read_author(first)?),
            "invite" => RoomLine::Invite(read_author(first)?),
            "password" if !is_hash(first) => return Err("its hash is incomplete"),
            "password" => RoomLine::Password(first.to_owned(), read_author(rest)?),
            "moderated" => RoomLine::Moderated(is_on(first)?),
            "moderator" => RoomLine::Moderator(name()?, is_on(rest)?),
            "invited" => RoomLine::Invited(name()?, is_on(rest)?),
            "mute" => RoomLine::Mute(name()?, read_term(rest)?),
            "unmute" => RoomLine::Unmute(name()?, read_author(rest)?),
            _ => return Err("its rule is unknown"),
        })
    }
}

fn on_or_off(is_on: bool) -> &'static str {
    if is_on { ON } else { OFF }
}

impl fmt::Display for RoomLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoomLine::Reset => f.write_str(RESET),
            RoomLine::Open(by) => write!(f, "open {}", shown(by.as_ref())),
            RoomLine::Invite(by) => write!(f, "invite {}", shown(by.as_ref())),
            RoomLine::Password(hash, by) => write!(f, "password {hash} {}", shown(by.as_ref())),
            RoomLine::Moderated(is_on) => write!(f, "moderated {}", on_or_off(*is_on)),
            RoomLine::Moderator(name, is_on) => write!(f, "moderator {name} {}", on_or_off(*is_on)),
            RoomLine::Invited(name, is_on) => write!(f, "invited {name} {}", on_or_off(*is_on)),
            RoomLine::Mute(name, term) => write!(f, "mute {name} {term}"),
            RoomLine::Unmute(name, by) => write!(f, "unmute {name} {}", shown(by.as_ref())),
        }
    }
}

/// The expiry time of a rule, its author and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// `None` if the rule is permanent.
    pub(super) end: Option<SystemTime>,
    /// The moderator; `None` is the operator.
    pub(super) by: Option<Name>,
    /// The reason; may be empty.
    pub(super) reason: String,
}

impl Term {
    /// Creates the term of a rule that begins now. Without a duration, the rule is permanent.
    pub(super) fn new(duration: Option<Duration>, by: Option<&Name>, reason: &str) -> Term {
        Term {
            end: duration.and_then(|duration| SystemTime::now().checked_add(duration)),
            by: by.cloned(),
            reason: reason.to_owned(),
        }
    }
}

fn shown(by: Option<&Name>) -> &str {
    by.map_or(OPERATOR, Name::as_str)
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.end.map_or(FOREVER.to_owned(), rfc_3339))?;
        f.write_str(" ")?;
        f.write_str(shown(self.by.as_ref()))?;
        if !self.reason.is_empty() {
            write!(f, " {}", printable(&self.reason))?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyLine::Ban(whom, term) => write!(f, "ban {whom} {term}"),
            PolicyLine::Unban(whom, by) => write!(f, "unban {whom} {}", shown(by.as_ref())),
            PolicyLine::Mute(name, term) => write!(f, "mute {name} {term}"),
            PolicyLine::Unmute(name, by) => write!(f, "unmute {name} {}", shown(by.as_ref())),
            PolicyLine::Moderator(name, true) => write!(f, "moderator {name} {ON}"),
            PolicyLine::Moderator(name, false) => write!(f, "moderator {name} {OFF}"),
            PolicyLine::Invite(code) => write!(f, "invite {code}"),
            PolicyLine::Invited(code, name) => write!(f, "invited {code} {name}"),
            PolicyLine::Room(name, line) => write!(f, "room {name} {line}"),
        }
    }
}

/// Reads the subject of a ban: an address, a network or a name. An address takes precedence,
/// because a name may look like one. An IPv6 address represents its whole /64, because a single
/// host may own all of it.
pub fn read_subject(text: &str) -> Option<Banned> {
    if let Ok(network) = text.parse::<Network>() {
        let is_one_v6 =
            text.contains(':') && !text.contains('/') && !network.to_string().contains('.');
        let wider = is_one_v6
            .then(|| format!("{text}/64").parse().ok())
            .flatten();
        return Some(Banned::Network(wider.unwrap_or(network)));
    }
    let name = Name::new(text).filter(Name::is_for_a_person);
    name.map(Banned::Name)
}

impl PolicyLine {
    /// Reads one line. Returns `Ok(None)` for an empty line or a comment.
    pub(super) fn read(line: &[u8]) -> Result<Option<PolicyLine>, &'static str> {
        // A comment may be in any encoding.
        if line.starts_with(b"#") {
            return Ok(None);
        }
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(None);
        }
        let (kind, rest) = text.split_once(' ').ok_or("it has only one word")?;
        let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let subject = || read_subject(first).ok_or("the second word is not a name or an address");
        let name = |text| {
            let name = Name::new(text).filter(Name::is_for_a_person);
            name.ok_or("a name in it is missing or invalid")
        };
        let line = match kind {
            "ban" => PolicyLine::Ban(subject()?, read_term(rest)?),
            "unban" => PolicyLine::Unban(subject()?, read_author(rest)?),
            "mute" => PolicyLine::Mute(name(first)?, read_term(rest)?),
            "unmute" => PolicyLine::Unmute(name(first)?, read_author(rest)?),
            "moderator" if rest == ON => PolicyLine::Moderator(name(first)?, true),
            "moderator" if rest == OFF => PolicyLine::Moderator(name(first)?, false),
            "moderator" => return Err("its last word is neither `on` nor `off`"),
            "invite" if !is_code(first) => return Err("its code is incomplete"),
            "invite" if !rest.is_empty() => return Err("it has too many words"),
            "invite" => PolicyLine::Invite(first.to_owned()),
            "invited" => PolicyLine::Invited(first.to_owned(), name(rest)?),
            "room" => {
                let room = Name::new(first).ok_or("its second word is not the name of a room")?;
                PolicyLine::Room(room, RoomLine::read(rest)?)
            }
            _ => return Err("its first word is unknown"),
        };
        Ok(Some(line))
    }
}

fn read_author(by: &str) -> Result<Option<Name>, &'static str> {
    match by {
        OPERATOR => Ok(None),
        by => Name::new(by).map(Some).ok_or("its author is not a name"),
    }
}

/// The characters in an invitation's code: no two of them look alike.
pub(super) const CODE_LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
/// The length of an invitation's code: three groups of four letters with a hyphen between them. It
/// has 60 bits, too many to guess.
pub(super) const CODE_LENGTH: usize = 14;

/// Returns whether `text` has the form of an invitation's code.
pub(super) fn is_code(text: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        4 | 9 => byte == b'-',
        _ => CODE_LETTERS.contains(&byte),
    };
    text.len() == CODE_LENGTH && text.bytes().enumerate().all(is_right)
}

fn read_term(text: &str) -> Result<Term, &'static str> {
    let (end, rest) = text
        .split_once(' ')
        .ok_or("its end time or its author is missing")?;
    let (by, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let end = match end {
        FOREVER => None,
        end => Some(read_rfc_3339(end).ok_or("its end time is neither a time nor `forever`")?),
    };
    let by = read_author(by)?;
    let reason = printable(reason).to_string();
    Ok(Term { end, by, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "ban alice 2026-11-30T12:00:00.000Z bob too  loud
ban 192.0.2.0/24 forever (operator)
ban 2001:db8::/64 forever (operator) a reason
unban alice bob
unban 192.0.2.0/24 (operator)
mute carol 2026-11-30T12:00:00.000Z (operator)
unmute carol (operator)
moderator bob on
moderator bob off
invite 4kqm-7xtd-w2fn
invited 4kqm-7xtd-w2fn dave
room lobby open alice
room lobby invite (operator)
room lobby password $argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g alice
room lobby moderated on
room lobby moderated off
room lobby moderator bob on
room lobby moderator bob off
room lobby invited carol on
room lobby invited carol off
room lobby mute dave forever alice
room lobby unmute dave alice";

    #[test]
    fn every_line_is_written_as_it_was_read() {
        for line in LINES.lines() {
            let read = PolicyLine::read(line.as_bytes()).unwrap().unwrap();
            assert_eq!(read.to_string(), line);
        }
    }

    #[test]
    fn a_truncated_line_is_never_a_rule_about_another_name() {
        for line in LINES.lines() {
            let subject = line.split(' ').nth(1).unwrap();
            for end in 0..line.len() {
                if let Ok(Some(read)) = PolicyLine::read(&line.as_bytes()[..end]) {
                    assert_eq!(read.to_string().split(' ').nth(1), Some(subject));
                }
            }
        }
    }

    #[test]
    fn an_invalid_line_is_damaged() {
        for line in [
            "ban",
            "ban alice",
            "ban alice tomorrow bob",
            "ban alice forever",
            "ban alice forever b!b",
            "ban al!ce forever bob",
            "ban 192.0.2.0/33 forever bob",
            "mute 192.0.2.1! forever bob",
            "mute server forever bob",
            "unban alice",
            "unmute alice",
            "moderator bob",
            "invite 4kqm-7xtd-w2f",
            "invited code",
            "exile bob",
            "room lobby",
            "room lobby exile bob",
            "room lob!by open alice",
            "room lobby open",
            "room lobby password secret alice",
            "room lobby moderated maybe",
            "room lobby moderator bob",
            "room lobby invited",
            "room lobby mute 50001 forever bob",
        ] {
            assert!(PolicyLine::read(line.as_bytes()).is_err(), "{line}");
        }
        assert!(PolicyLine::read(b"ban \xff forever bob").is_err());
        for nothing in ["", "\r", "# ban alice"] {
            assert_eq!(PolicyLine::read(nothing.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn a_subject_that_is_an_address_is_not_a_name() {
        for (text, shown) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("2001:db8::7", Some("2001:db8::7/64")),
            ("2001:db8::7/128", Some("2001:db8::7")),
            ("alice", Some("alice")),
            ("192.0.2", Some("192.0.2")),
            ("50001", None),
            ("server", None),
            ("a b", None),
            ("", None),
        ] {
            let subject = read_subject(text).map(|subject| subject.to_string());
            assert_eq!(subject.as_deref(), shown, "{text}");
        }
    }
}
