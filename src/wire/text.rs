//! Text from the network on its way to a terminal or into a document.

use unicode_general_category::{GeneralCategory as Category, get_general_category};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The maximum number of combining marks on one character: more than any script needs, and too few
/// to reach into the lines above and below.
const MARKS: usize = 4;

/// Makes `text` safe for a terminal. `U+FFFD` replaces invisible characters and characters that
/// could move the cursor, change a colour or reverse the reading direction. A space replaces a line
/// feed or a tab.
///
/// Some invisible characters are part of a word or an emoji. They stay only in these places: a
/// joiner between two letters, after a letter of a script that needs joiners or between two emoji,
/// a variation selector after the character that it varies, and the tags of a flag. In a long run
/// of combining marks, only the first `MARKS` stay.
///
/// The page for browsers uses the same table, in `web/page/characters.js`.
pub fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for_each_shown(text, |character, shown| match (character, shown) {
        ('\t' | '\n', _) => printed.push(' '),
        (_, Shown::Itself) => printed.push(character),
        (_, Shown::Replaced) => printed.push(char::REPLACEMENT_CHARACTER),
        (_, Shown::Omitted) => {}
    });
    printed
}

/// The way [`printable`] shows a character at its position in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Unchanged.
    Itself,
    /// As `U+FFFD`.
    Replaced,
    /// Not at all: it is one combining mark too many.
    Omitted,
}

/// Calls `show` with each character of `text`, in order. A tab and a line feed are
/// [`Shown::Replaced`].
pub fn for_each_shown(text: &str, mut show: impl FnMut(char, Shown)) {
    let mut rest = text.chars();
    let (mut before, mut marks) = (Class::Unseen, 0);
    while let Some(character) = rest.next() {
        let mut class = Class::of(character);
        match class {
            Class::Mark | Class::ScriptMark => marks += 1,
            // An invisible character does not allow more marks.
            Class::Variation => {}
            _ if matches!(character, JOINER | NON_JOINER) => {}
            _ => marks = 0,
        }
        if marks > MARKS && matches!(class, Class::Mark | Class::ScriptMark) {
            show(character, Shown::Omitted);
            continue;
        }
        match (character, class) {
            (JOINER, _) if before.is_emoji() && next_is(&rest, |next| next == Class::Emoji) => {
                show(character, Shown::Itself);
            }
            (JOINER | NON_JOINER, _) if before.takes_joiner() => show(character, Shown::Itself),
            (JOINER | NON_JOINER, _) if before.is_letter() && next_is(&rest, Class::is_letter) => {
                show(character, Shown::Itself);
            }
            (_, Class::Variation) if !before.can_vary() => {
                show(character, Shown::Replaced);
                class = Class::Unseen;
            }
            (_, Class::Unseen) => show(character, Shown::Replaced),
            (FLAG, _) => {
                let tags = flag_tags(rest.as_str());
                show(character, Shown::Itself);
                tags.chars().for_each(|tag| show(tag, Shown::Itself));
                rest = rest.as_str()[tags.len()..].chars();
            }
            _ => show(character, Shown::Itself),
        }
        before = match class {
            _ if character == ' ' => Class::Unseen,
            // A letter with a mark is still a letter.
            Class::Mark if before.is_letter() => before,
            _ => class,
        };
    }
}

const JOINER: char = '\u{200d}';
const NON_JOINER: char = '\u{200c}';

/// The black flag. Tags after it turn it into a region's flag (`GBSCT` in tag characters:
/// Scotland).
const FLAG: char = '\u{1f3f4}';

/// The class of a character, which determines how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Shown unchanged.
    Plain,
    /// Invisible.
    Unseen,
    /// Combined with the character before it.
    Mark,
    /// An emoji, or part of one.
    Emoji,
    /// Only changes the look of the character before it.
    Variation,
    /// A letter in any script other than those below.
    Letter,
    /// A letter of a script that uses joiners.
    ScriptLetter,
    /// A mark of such a script.
    ScriptMark,
}

/// Unicode's Default_Ignorable_Code_Point: programs that do not know these characters show nothing
/// for them.
const DEFAULT_IGNORABLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Invisible letters, symbols and marks that are not [`DEFAULT_IGNORABLE`]: the empty Braille
/// pattern, a musical note without a head, and fillers of Khitan and hieroglyphs.
const BLANK: [char; 5] = [
    '\u{2800}',
    '\u{1d159}',
    '\u{16fe4}',
    '\u{13441}',
    '\u{13442}',
];

/// Visible format characters: Arabic, Syriac and Kaithi signs that are written below or around the
/// digits that follow them.
const VISIBLE_FORMAT: [(char, char); 7] = [
    ('\u{600}', '\u{605}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
];

/// The [`DEFAULT_IGNORABLE`] characters that select a different glyph for the character before
/// them.
const VARIATION: [(char, char); 4] = [
    ('\u{180b}', '\u{180d}'),
    ('\u{180f}', '\u{180f}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{e0100}', '\u{e01ef}'),
];

/// The ranges of the scripts that use joiners and non-joiners: Arabic, Indic and related ones.
const SCRIPTS_WITH_JOINERS: [(char, char); 7] = [
    ('\u{600}', '\u{109f}'),
    ('\u{1700}', '\u{1cff}'),
    ('\u{a800}', '\u{abff}'),
    ('\u{fb50}', '\u{fdff}'),
    ('\u{fe70}', '\u{fefe}'),
    ('\u{10a00}', '\u{11fff}'),
    ('\u{1e900}', '\u{1e95f}'),
];

fn is_in(ranges: &[(char, char)], character: char) -> bool {
    ranges
        .iter()
        .any(|&(first, last)| (first..=last).contains(&character))
}

/// Returns the maximum number of columns of `text` in a terminal. Terminals differ: some draw a
/// glyph for a format character, draw the parts of a joined emoji side by side, or draw an emoji
/// with a selector twice as wide.
pub fn columns_at_most(text: &str) -> usize {
    let one_by_one: usize = text.chars().map(columns_of).sum();
    one_by_one.max(text.width())
}

/// Returns the maximum number of columns that a character can occupy, whatever precedes it.
pub fn columns_of(character: char) -> usize {
    match character {
        '\u{fe0f}' => 1,
        _ if is_in(&VISIBLE_FORMAT, character) => 1,
        _ => character.width().unwrap_or(0),
    }
}

/// Returns whether a program that does not know the character shows nothing for it.
pub fn is_default_ignorable(character: char) -> bool {
    is_in(&DEFAULT_IGNORABLE, character)
}

impl Class {
    /// Returns the class of a character.
    pub fn of(character: char) -> Class {
        if character.is_ascii_alphabetic() {
            return Class::Letter;
        }
        if matches!(character, ' '..='~') {
            return Class::Plain;
        }
        if is_in(&VARIATION, character) {
            return Class::Variation;
        }
        if is_default_ignorable(character) || BLANK.contains(&character) {
            return Class::Unseen;
        }
        let has_joiners = is_in(&SCRIPTS_WITH_JOINERS, character);
        match get_general_category(character) {
            Category::Format if is_in(&VISIBLE_FORMAT, character) => Class::Plain,
            Category::Control
            | Category::Format
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned
            | Category::LineSeparator
            | Category::ParagraphSeparator => Class::Unseen,
            Category::NonspacingMark | Category::EnclosingMark if has_joiners => Class::ScriptMark,
            Category::NonspacingMark | Category::EnclosingMark => Class::Mark,
            // Arrows (one is an emoji, the others are symbols) and skin tones.
            Category::OtherSymbol | Category::ModifierSymbol => Class::Emoji,
            Category::MathSymbol if character == '\u{2194}' => Class::Emoji,
            Category::LowercaseLetter
            | Category::UppercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
            | Category::SpacingMark
                if has_joiners =>
            {
                Class::ScriptLetter
            }
            Category::LowercaseLetter
            | Category::UppercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter => Class::Letter,
            _ => Class::Plain,
        }
    }

    /// Returns whether a joiner after this character may form a larger emoji. (A variation selector
    /// may come before the joiner.)
    fn is_emoji(self) -> bool {
        matches!(self, Class::Emoji | Class::Variation)
    }

    fn takes_joiner(self) -> bool {
        matches!(self, Class::ScriptLetter | Class::ScriptMark)
    }

    fn is_letter(self) -> bool {
        matches!(self, Class::Letter | Class::ScriptLetter)
    }

    fn can_vary(self) -> bool {
        !matches!(self, Class::Unseen | Class::Variation)
    }
}

fn next_is(rest: &std::str::Chars<'_>, is_wanted: impl FnOnce(Class) -> bool) -> bool {
    let next = rest.clone().next();
    next.is_some_and(|next| is_wanted(Class::of(next)))
}

/// Returns the tags at the beginning of `text` that turn a black flag into a different flag: three
/// to six letters and digits, and the end tag.
fn flag_tags(text: &str) -> &str {
    let is_tag = |c: &char| matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
    const END: char = '\u{e007f}';
    let tags = text.chars().take_while(is_tag).count();
    let end = text.char_indices().nth(tags);
    match end {
        Some((at, END)) if (3..=6).contains(&tags) => &text[..at + END.len_utf8()],
        _ => "",
    }
}

/// Like [`printable`], but keeps tabs. Tabs do no harm in a terminal, and text that is passed on
/// through a pipe must not change.
pub fn printable_text(text: &str) -> String {
    let mut lines = text.split('\t').map(printable);
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, more| text + "\t" + &more)
}

/// Like [`printable_text`], for text with several lines.
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable_text).collect();
    lines.join("\n")
}

/// Escapes `text` for XML and replaces control characters. (For the checker, which exists only on
/// Unix.)
#[cfg(unix)]
pub fn xml_text(text: &str) -> String {
    let mut escaped = Vec::with_capacity(text.len());
    escape_into(text, &mut escaped);
    String::from_utf8_lossy(&escaped).into_owned()
}

/// Returns the maximum number of bytes of `text` after escaping.
pub fn escaped_bytes(text: &str) -> usize {
    let byte = |byte: u8| if needs_care(byte) { 6 } else { 1 };
    text.bytes().map(byte).sum()
}

/// Returns whether a byte may need escaping: markup, a control character, or the first byte of a
/// character to replace (0xC2 of a C1 control character, 0xEF of U+FFFE).
fn needs_care(byte: u8) -> bool {
    matches!(
        byte,
        0..=0x1f | 0x7f | b'&' | b'<' | b'>' | b'"' | b'\'' | 0xc2 | 0xef
    )
}

/// Appends `text`, escaped for XML. Control characters are never written: tab, line feed and
/// carriage return become references, all others `U+FFFD`.
pub(super) fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    // Most texts need no escaping. Without an early exit, this loop compiles to code that checks
    // many bytes at a time.
    if !bytes
        .iter()
        .fold(false, |any, &byte| any | needs_care(byte))
    {
        return out.extend_from_slice(bytes);
    }
    // Runs of plain bytes are copied whole.
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (replacement, width): (&[u8], usize) = match bytes[at] {
            b'&' => (b"&amp;", 1),
            b'<' => (b"&lt;", 1),
            b'>' => (b"&gt;", 1),
            b'"' => (b"&quot;", 1),
            b'\'' => (b"&apos;", 1),
            b'\t' => (b"&#9;", 1),
            b'\n' => (b"&#10;", 1),
            b'\r' => (b"&#13;", 1),
            0..=0x1f | 0x7f => ("\u{fffd}".as_bytes(), 1),
            0xc2 if bytes.get(at + 1).is_some_and(|&second| second < 0xa0) => {
                ("\u{fffd}".as_bytes(), 2)
            }
            // XML does not allow U+FFFE and U+FFFF; a reader would reject the whole document.
            0xef if matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])) => {
                ("\u{fffd}".as_bytes(), 3)
            }
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(replacement);
        at += width;
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape_into(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn markup_and_control_characters_are_escaped() {
        assert_eq!(escaped("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&apos;");
        assert_eq!(escaped("1\t2\n3\r4"), "1&#9;2&#10;3&#13;4");
        #[cfg(unix)]
        assert_eq!(xml_text("a<\u{1b}>"), "a&lt;\u{fffd}&gt;");
        assert_eq!((escaped_bytes("a b"), escaped_bytes("a<b")), (3, 8));
        assert_eq!(
            escaped("\u{1b}[2J\u{9b}31m\u{7f}é\u{ffff}"),
            "\u{fffd}[2J\u{fffd}31m\u{fffd}é\u{fffd}"
        );
    }

    #[test]
    fn each_character_has_a_class_and_a_width() {
        use Class::{Emoji, Letter, Mark, Plain, ScriptLetter, ScriptMark, Unseen, Variation};
        for (character, class, columns) in [
            ('a', Letter, 1),
            ('é', Letter, 1),
            ('世', Letter, 2),
            ('5', Plain, 1),
            ('\u{2192}', Plain, 1), // an arrow
            ('\u{2194}', Emoji, 1), // an arrow that has an emoji form
            ('\u{600}', Plain, 1),  // a visible format character
            ('\u{301}', Mark, 0),
            ('\u{915}', ScriptLetter, 1), // a letter of Hindi
            ('\u{93e}', ScriptLetter, 1), // a vowel of Hindi, beside its consonant
            ('\u{94d}', ScriptMark, 0),   // a vowel killer of Hindi
            ('😀', Emoji, 2),
            ('\u{fe0f}', Variation, 1),
            ('\u{200d}', Unseen, 0),
            ('\u{2800}', Unseen, 1),
            ('\u{7}', Unseen, 0),
        ] {
            assert_eq!(Class::of(character), class, "{character:?}");
            assert_eq!(columns_of(character), columns, "{character:?}");
        }
        // Some terminals draw one emoji, others two with a joiner between them.
        assert_eq!(columns_at_most("a世"), 3);
        assert_eq!(columns_at_most("👩\u{200d}💻"), 4);
    }

    #[test]
    fn joiners_and_marks_are_shown_where_they_belong() {
        let accented = "e\u{301}".repeat(20);
        assert_eq!(
            printable(&accented),
            accented,
            "each letter has marks of its own"
        );
        for (text, shown) in [
            ("a\u{200d}😀", "a\u{fffd}😀"),
            ("é\u{200d}", "é\u{fffd}"),
            ("😀\u{301}\u{200d}😀", "😀\u{301}\u{fffd}😀"),
            ("😀\u{200d}😀", "😀\u{200d}😀"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_terminal_gets_no_commands() {
        assert_eq!(
            printable("\u{1b}[31mred\u{9b}0m\u{7}"),
            "\u{fffd}[31mred\u{fffd}0m\u{fffd}"
        );
        assert_eq!(
            printable("two\nlines\tand \u{202e}reversed"),
            "two lines and \u{fffd}reversed"
        );
        assert_eq!(printable("Grüße, 漢字 🦀"), "Grüße, 漢字 🦀");
        assert_eq!(printable_text("\ta\u{1b}\t"), "\ta\u{fffd}\t");
        assert_eq!(
            printable_lines("a\u{1b}\n\tb\r\n"),
            "a\u{fffd}\n\tb\u{fffd}\n"
        );
    }

    #[test]
    fn invisible_characters_are_replaced_and_emoji_stay_whole() {
        for unseen in [
            "\u{200b}",
            "\u{200e}",
            "\u{2060}",
            "\u{feff}",
            "\u{ad}",
            "\u{61c}",
            "\u{2028}",
            "\u{e000}",
            "\u{e0041}",
            "\u{e007f}",
            "\u{378}",
            "\u{34f}",
            "\u{180e}",
            "\u{17b4}",
            "\u{2800}",
            "\u{3164}",
            "\u{115f}",
            "\u{1160}",
            "\u{ffa0}",
            "\u{1d159}",
            "\u{fff9}",
            "\u{13430}",
            "\u{fffe}",
        ] {
            let text = format!("a{unseen}b");
            assert_eq!(printable(&text), "a\u{fffd}b", "{unseen:?}");
        }
        for emoji in [
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "👩🏽\u{200d}🚀",
            "🙂\u{200d}\u{2194}\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "🏴\u{200d}☠\u{fe0f}",
            // The flags of Scotland and of Texas.
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "🏴\u{e0075}\u{e0073}\u{e0074}\u{e0078}\u{e007f}!",
            "é",
            "e\u{301}",
        ] {
            assert_eq!(printable(emoji), emoji);
        }
    }

    #[test]
    fn words_keep_their_joiners_and_numbers_their_signs() {
        for text in [
            // Persian: I want; Hindi: a half letter; Malayalam: he; Sinhala: Sri Lanka.
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "അവന്\u{200d} വന്നു",
            "ශ්\u{200d}රී",
            "\u{600}١٢ \u{6dd}٣ \u{110bd}\u{11083}",
            // German: two letters that must not form a ligature. Latin, Cyrillic, Greek and Han.
            "Auf\u{200c}lage",
            "a\u{200d}b",
            "я\u{200c}λ漢\u{200d}a",
            "e\u{301}\u{200c}e\u{301}",
            "a\u{200c}م\u{200d}b",
            // A Mongolian letter and a Han character, each in a variant form.
            "\u{1820}\u{180b}",
            "\u{845b}\u{e0100}",
        ] {
            assert_eq!(printable(text), text);
        }
        for (text, wanted) in [
            ("a\u{200d}", "a\u{fffd}"),
            ("\u{200c}a", "\u{fffd}a"),
            ("a\u{200d} b", "a\u{fffd} b"),
            ("a\u{200c}1", "a\u{fffd}1"),
            ("1\u{200c}a", "1\u{fffd}a"),
            ("1\u{301}\u{200c}a", "1\u{301}\u{fffd}a"),
            ("a\u{200c}\u{200d}b", "a\u{fffd}\u{fffd}b"),
            ("م\u{200c}\u{200c}م", "م\u{200c}\u{fffd}م"),
            (" \u{200d}م", " \u{fffd}م"),
            ("👩\u{200d}a", "👩\u{fffd}a"),
            ("\u{fe0f}", "\u{fffd}"),
            (" \u{fe0f}", " \u{fffd}"),
            ("a\u{fe0f}\u{fe0f}", "a\u{fe0f}\u{fffd}"),
            // Tags without a flag, without an end, and too few.
            ("a\u{e0067}\u{e007f}", "a\u{fffd}\u{fffd}"),
            (
                "🏴\u{e0067}\u{e0062}\u{e0073}",
                "🏴\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("🏴\u{e007f}", "🏴\u{fffd}"),
        ] {
            assert_eq!(printable(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn combining_marks_are_limited() {
        for invisible in ["\u{fe0f}", "\u{200d}", "\u{200c}"] {
            let tower = "क".to_owned() + &("\u{94d}".to_owned() + invisible).repeat(1000);
            let marks = printable(&tower).matches('\u{94d}').count();
            assert_eq!(marks, MARKS, "{invisible:?}");
        }
        let tower = "e".to_owned() + &"\u{301}".repeat(1000);
        assert_eq!(printable(&tower), "e".to_owned() + &"\u{301}".repeat(MARKS));
    }

    proptest! {
        #[test]
        fn escaped_text_contains_no_markup_and_no_control_character(text in any::<String>()) {
            let escaped = escaped(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(char::is_control));
            prop_assert!(escaped.len() <= escaped_bytes(&text));
        }

        #[test]
        fn printable_text_contains_no_control_character(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(char::is_control));
        }

        #[test]
        fn printable_text_is_unchanged(text in any::<String>()) {
            let shown = printable(&text);
            prop_assert_eq!(printable(&shown), shown);
        }
    }
}
