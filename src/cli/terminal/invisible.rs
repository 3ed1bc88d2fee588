//! Invisible characters in the line editor.
//!
//! A terminal must show the line being typed in the same way as a received line: with `U+FFFD` in
//! place of each invisible character (see [`printable`](portal_wire::printable)). The editor
//! computes the cursor's column from its own text, in which invisible characters have no width. So
//! inside the editor, a private-use character, one column wide, stands in for each invisible
//! character. The finished line contains the characters that were typed.

use unicode_width::UnicodeWidthChar as _;

use portal_wire::{Class, Shown, for_each_shown};

/// Converts `text` to the editor's form.
pub(super) fn encode(text: &str) -> String {
    encode_if(text, |_| true)
}

/// Like [`encode`], for keys. Control characters are kept, because they are editor commands.
pub(super) fn encode_typed(text: &str) -> String {
    encode_if(text, |character| !character.is_control())
}

fn encode_if(text: &str, may_be_encoded: impl Fn(char) -> bool) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(text.len());
    let (last, mut at) = (text.chars().count() - 1, 0);
    for_each_shown(text, |character, shown| {
        // At either end, the treatment of a joiner or selector depends on the text around these
        // keys.
        let is_sure = !depends_on_place(character) || (1..last).contains(&at);
        at += 1;
        encoded.push(match (shown, stand_in(character)) {
            (Shown::Replaced, Some(other)) if is_sure && may_be_encoded(character) => other,
            // Otherwise it would be mistaken for the character that it stands for.
            _ if decoded(character) != character => char::REPLACEMENT_CHARACTER,
            _ => character,
        });
    });
    encoded
}

/// Converts the editor's text back to what was typed.
pub(super) fn decode(text: &str) -> String {
    text.chars().map(decoded).collect()
}

/// Returns the editor's text as the terminal shows it, with as many columns as the editor counts.
pub(super) fn drawn(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut drawn = String::with_capacity(text.len());
    let mut characters = text.chars();
    for_each_shown(&decode(text), |character, shown| {
        let kept = characters.next().unwrap_or(character);
        match shown {
            _ if matches!(character, '\n' | '\t') => drawn.push(character),
            Shown::Omitted => {}
            Shown::Itself if kept == character => drawn.push(character),
            _ => {
                let width = kept.width().unwrap_or(0);
                drawn.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, width));
            }
        }
    });
    drawn
}

/// Returns whether the editor must draw the whole line to show this character.
pub(super) fn is_drawn_otherwise(character: char) -> bool {
    matches!(Class::of(character), Class::Unseen | Class::Variation)
}

/// Returns whether the neighbouring characters determine whether this one is shown.
fn depends_on_place(character: char) -> bool {
    matches!(
        character,
        '\u{200c}' | '\u{200d}' | '\u{e0020}'..='\u{e007f}'
    ) || Class::of(character) == Class::Variation
}

/// The private-use planes whose characters stand for those of planes 1 and 0.
const FOR_PLANE_1: u32 = 0xf_0000;
const FOR_PLANE_0: u32 = 0x10_0000;
/// The characters that stand for `U+E0000` to `U+E0FFF`. (In plane 0, this range is for private use
/// and is displayed as `U+FFFD`, so it needs no stand-ins.)
const FOR_TAGS: u32 = FOR_PLANE_0 + 0xe000;
const TAGS: u32 = 0xe_0000;

/// Returns the stand-in for an invisible, zero-width character.
fn stand_in(character: char) -> Option<char> {
    let is_invisible = is_drawn_otherwise(character) && character.width().unwrap_or(0) == 0;
    if !is_invisible || matches!(character, '\n' | '\t') {
        return None;
    }
    let code = u32::from(character);
    char::from_u32(match code {
        0..=0xffff => FOR_PLANE_0 + code,
        0x1_0000..=0x1_ffff => FOR_PLANE_1 + (code - 0x1_0000),
        0xe_0000..=0xe_0fff => FOR_TAGS + (code - TAGS),
        _ => return None,
    })
}

/// Returns the character that `character` stands for, or itself.
fn decoded(character: char) -> char {
    let code = u32::from(character);
    let original = match code {
        FOR_TAGS..=0x10_efff => TAGS + (code - FOR_TAGS),
        FOR_PLANE_0.. => code - FOR_PLANE_0,
        FOR_PLANE_1.. => 0x1_0000 + (code - FOR_PLANE_1),
        _ => return character,
    };
    let original = char::from_u32(original);
    let is_legacy = |original: &char| stand_in(*original) == Some(character);
    original.filter(is_legacy).unwrap_or(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portal_wire::printable;
    use proptest::prelude::*;

    fn columns(text: &str) -> usize {
        text.chars().map(|c| c.width().unwrap_or(0)).sum()
    }

    #[test]
    fn each_invisible_character_has_its_own_stand_in() {
        let mut taken = std::collections::HashSet::new();
        for character in '\0'..=char::MAX {
            let text = format!("a{character}b");
            let encoded = encode(&text);
            if decoded(character) == character {
                assert_eq!(decode(&encoded), text, "{character:?}");
            }
            let wanted = match character {
                '\t' | '\n' => text,
                _ => printable(&text),
            };
            let shown = drawn(&encoded);
            assert_eq!(columns(&shown), columns(&encoded), "{character:?}");
            // A two-column character is drawn as two replacement characters.
            assert_eq!(shown.replace("\u{fffd}\u{fffd}", "\u{fffd}"), wanted);
            if let Some(other) = stand_in(character) {
                assert!(taken.insert(other), "{character:?}");
                assert_eq!(other.width(), Some(1), "{character:?}");
            }
        }
    }

    #[test]
    fn a_joiner_that_is_typed_alone_stays() {
        // An input method sends one character at a time.
        let typed: String = "می\u{200c}خواهم"
            .chars()
            .map(|c| encode_typed(&c.to_string()))
            .collect();
        assert_eq!(typed, "می\u{200c}خواهم");
        assert_eq!(encode_typed("\u{1}\u{7f}"), "\u{1}\u{7f}");
        assert_eq!(drawn("a\u{200d}"), "a");
    }

    proptest! {
        #[test]
        fn what_is_drawn_has_the_editors_columns_and_nothing_invisible(text in any::<String>()) {
            let encoded = encode(&text);
            let shown = drawn(&encoded);
            prop_assert_eq!(columns(&shown), columns(&encoded));
            for (character, printed) in shown.chars().zip(printable(&shown).chars()) {
                prop_assert!(character == printed || matches!(character, '\n' | '\t'));
            }
        }
    }
}
