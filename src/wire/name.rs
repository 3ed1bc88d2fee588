//! Names of users and rooms.

use std::cmp::Ordering;
use std::fmt;

use crate::limits;

/// A name: 1 to 32 ASCII letters, digits, `_`, `.` or `-`. Names that differ only in case are
/// equal. (A room may have a name that a user may not; see [`Name::is_for_a_person`].)
#[derive(Clone, Debug)]
pub struct Name(Box<str>);

impl Name {
    /// Returns `text` as a name; `None` if it is not a valid one.
    pub fn new(text: &str) -> Option<Name> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let valid = (1..=limits::MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        valid.then(|| Name(text.into()))
    }

    /// Returns whether a user may have this name. Digits alone could be mistaken for a seat, and
    /// `server` for the server.
    pub fn is_for_a_person(&self) -> bool {
        let is_number = self.0.bytes().all(|byte| byte.is_ascii_digit());
        !is_number && !self.0.eq_ignore_ascii_case("server")
    }

    /// Returns the name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a form that is equal for all spellings of the name. It sorts names regardless of
    /// case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// The destination that the beginning of a text specifies, in the syntax of seed 003.
#[derive(Debug, PartialEq, Eq)]
pub enum Addressed<'t> {
    /// `%NAME%rest`: `rest` is for the user NAME, even if NAME is not a valid name. Such a text is
    /// never chat; otherwise a typo would show a stranger what was meant for one user.
    One {
        /// The text between the percent signs.
        name: &'t str,
        /// The message.
        rest: &'t str,
    },
    /// Plain chat. `%%` at its beginning stands for one `%`.
    Chat(&'t str),
}

impl Addressed<'_> {
    /// Parses the beginning of `text`.
    pub fn read(text: &str) -> Addressed<'_> {
        let Some(after) = text.strip_prefix('%') else {
            return Addressed::Chat(text);
        };
        if after.starts_with('%') {
            return Addressed::Chat(after);
        }
        match after.split_once('%') {
            Some((name, rest)) => Addressed::One { name, rest },
            None => Addressed::Chat(text),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Alphabetical order, regardless of case.
impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let lower = |name: &Name| {
            name.0
                .bytes()
                .map(|byte| byte.to_ascii_lowercase())
                .collect()
        };
        let (mine, theirs): (Vec<u8>, Vec<u8>) = (lower(self), lower(other));
        mine.cmp(&theirs)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_ascii_and_ignore_case() {
        for good in ["a", "Alice", "x_1.2-3", &"n".repeat(32)] {
            assert!(Name::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "two words",
            "émile",
            "a/b",
            "<b>",
            "a\n",
            &"n".repeat(33),
        ] {
            assert!(Name::new(bad).is_none(), "{bad}");
        }
        let alice = Name::new("Alice").unwrap();
        assert_eq!(Some(&alice), Name::new("aLICE").as_ref());
        assert_eq!(
            (alice.as_str(), alice.to_string()),
            ("Alice", "Alice".to_owned())
        );
        assert_eq!(alice.key(), "alice");
        let bob = Name::new("BOB").unwrap();
        assert_ne!(alice, bob);
        assert_eq!(alice.partial_cmp(&bob), Some(Ordering::Less));
        assert_eq!(bob.cmp(&Name::new("bob").unwrap()), Ordering::Equal);
        for (name, is_for_a_person) in [
            ("50001", false),
            ("1", false),
            ("Server", false),
            ("server2", true),
            ("1a", true),
            ("-1", true),
        ] {
            assert_eq!(
                Name::new(name).unwrap().is_for_a_person(),
                is_for_a_person,
                "{name}"
            );
        }
    }

    #[test]
    fn a_recipient_is_named_in_percent_signs() {
        for (text, name, rest) in [
            ("%bob%hello", "bob", "hello"),
            ("%bob%50% off", "bob", "50% off"),
            ("%not a name%x", "not a name", "x"),
            ("% 5 % of", " 5 ", " of"),
            ("%bob%", "bob", ""),
        ] {
            assert_eq!(
                Addressed::read(text),
                Addressed::One { name, rest },
                "{text}"
            );
        }
        for (text, chat) in [
            ("", ""),
            ("100%", "100%"),
            ("hello %bob%", "hello %bob%"),
            ("%bob", "%bob"),
            ("%", "%"),
            ("%%", "%"),
            ("%%bob%hello", "%bob%hello"),
            ("%%%x%", "%%x%"),
        ] {
            assert_eq!(Addressed::read(text), Addressed::Chat(chat), "{text}");
        }
    }
}
