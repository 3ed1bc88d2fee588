//! The normalized form in which a password is hashed. It does not depend on how a keyboard or an
//! operating system composes characters.

use unicode_general_category::{GeneralCategory as Category, get_general_category};
use unicode_normalization::UnicodeNormalization as _;

use portal_wire::is_default_ignorable;

/// Prepares `password` according to the OpaqueString profile of RFC 8265: applies Unicode
/// Normalization Form C, and replaces every other kind of space with an ASCII space. Letter case is
/// preserved. Returns `None` if the password contains a character that the profile forbids.
///
/// The profile's contextual rules prevent identifiers that look alike. A password is never shown,
/// so characters that are subject to such a rule are always allowed.
pub(super) fn prepared(password: &str) -> Option<String> {
    let spaced = password
        .chars()
        .map(|character| match get_general_category(character) {
            Category::SpaceSeparator => ' ',
            _ => character,
        });
    let prepared: String = spaced.nfc().collect();
    prepared.chars().all(is_allowed).then_some(prepared)
}

/// Returns whether a character is in the FreeformClass of RFC 8264, or has a contextual rule there.
fn is_allowed(character: char) -> bool {
    const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];
    if JOINERS.contains(&character) {
        return true;
    }
    // The exceptions in section 9.6, and the old Hangul letters in section 9.9, which have composed
    // forms.
    let is_exception = matches!(
        character,
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}'
    );
    let is_old_hangul = matches!(
        character,
        '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{d7b0}'..='\u{d7ff}'
    );
    let is_of_no_class = matches!(
        get_general_category(character),
        Category::Control
            | Category::Format
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned
            | Category::LineSeparator
            | Category::ParagraphSeparator
    );
    !(is_exception || is_old_hangul || is_of_no_class || is_default_ignorable(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_same_however_it_is_composed() {
        for (typed, wanted) in [
            ("secret", "secret"),
            ("Two Words", "Two Words"),
            ("pa\u{308}ssword", "p\u{e4}ssword"),
            ("p\u{e4}ssword", "p\u{e4}ssword"),
            ("two\u{a0}words\u{3000}", "two words "),
            ("\u{212b}", "\u{c5}"),
            // The same syllable, as separate letters and composed.
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            ("\u{1f916} \u{2603}", "\u{1f916} \u{2603}"),
        ] {
            assert_eq!(prepared(typed).as_deref(), Some(wanted), "{typed:?}");
        }
        // A full-width letter makes a different password, because the profile does not map widths.
        assert_ne!(prepared("\u{ff41}"), prepared("a"));
    }

    #[test]
    fn invisible_characters_are_not_allowed_in_a_password() {
        for typed in [
            "a\u{7}",
            "a\u{ad}b",
            "\u{202e}a",
            "\u{feff}a",
            "\u{3164}",
            "\u{e000}",
            "\u{378}",
        ] {
            assert_eq!(prepared(typed), None, "{typed:?}");
        }
    }
}
