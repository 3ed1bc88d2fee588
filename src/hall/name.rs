//! What somebody may be called.

use std::fmt;

use crate::limits;

/// A name: 1 to 32 ASCII letters, digits, `_`, `.` or `-`. Two names that differ only in case are
/// the same name.
#[derive(Clone, Debug)]
pub struct Name(Box<str>);

impl Name {
    /// `text` as a name, or `None` if it can't be one.
    pub fn new(text: &str) -> Option<Name> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let valid = (1..=limits::NAME).contains(&text.len()) && text.bytes().all(allowed);
        valid.then(|| Name(text.into()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that is the same for all spellings of the name; sorts names as people do.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Splits `%NAME%rest` (seed 003) into the name and the rest; `None` if `text` is plain chat.
    pub fn addressed(text: &str) -> Option<(Name, &str)> {
        let (name, rest) = text.strip_prefix('%')?.split_once('%')?;
        Some((Name::new(name)?, rest))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain_and_their_case_does_not_count() {
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
        assert_eq!(Name::new("Alice"), Name::new("aLICE"));
    }

    #[test]
    fn an_address_in_percent_signs() {
        let split = |text| Name::addressed(text).map(|(name, rest)| (name.to_string(), rest));
        assert_eq!(split("%bob%hello"), Some(("bob".to_owned(), "hello")));
        assert_eq!(split("%bob%50% off"), Some(("bob".to_owned(), "50% off")));
        for chat in ["100%", "%%", "%not a name%x", "hello %bob%", "%bob"] {
            assert_eq!(split(chat), None, "{chat}");
        }
    }
}
