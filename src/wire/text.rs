//! Text from the network on its way to a terminal or into a document.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// The most combining marks that one character may carry: more than any script needs, and few enough not to
/// reach into the lines above and below.
const MARKS: usize = 4;

/// `text` with everything that could move a cursor, change a colour, reverse the reading
/// direction or not be seen replaced by `U+FFFD`, and a line feed or a tab by a space: what a terminal may get.
///
/// That is, of Unicode's general categories: control characters (`ESC` begins most of a terminal's commands,
/// U+009B all of them at once), format characters but for the joiners inside of emoji, line and paragraph
/// separators, and what is private or unassigned. Of a long run of combining marks the first few are left.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0;
    let mut characters = text.chars().peekable();
    let mut before = None;
    while let Some(character) = characters.next() {
        let is_mark = matches!(
            get_general_category(character),
            Category::NonspacingMark | Category::EnclosingMark
        );
        marks = if is_mark { marks + 1 } else { 0 };
        match character {
            '\t' | '\n' => shown.push(' '),
            ' '..='~' => shown.push(character),
            JOINER if is_emoji(before) && is_emoji(characters.peek().copied()) => {
                shown.push(character);
            }
            _ if marks > MARKS => {}
            _ if is_unseen(character) => shown.push(char::REPLACEMENT_CHARACTER),
            _ => shown.push(character),
        }
        before = Some(character);
    }
    shown
}

const JOINER: char = '\u{200d}';

fn is_unseen(character: char) -> bool {
    matches!(
        get_general_category(character),
        Category::Control
            | Category::Format
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned
            | Category::LineSeparator
            | Category::ParagraphSeparator
    )
}

/// Whether a character may be joined into an emoji: a picture, a skin, or the mark that makes it colourful.
fn is_emoji(character: Option<char>) -> bool {
    character.is_some_and(|character| {
        let category = get_general_category(character);
        character == '\u{fe0f}'
            || matches!(category, Category::OtherSymbol | Category::ModifierSymbol)
                && !character.is_ascii()
    })
}

/// As [`printable`], but a tab stays one: it harms no terminal, and what is handed on through a pipe
/// must not change.
pub fn printable_text(text: &str) -> String {
    let mut lines = text.split('\t').map(printable);
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, more| text + "\t" + &more)
}

/// `text` escaped for XML, and without control characters. (For the checker, which is there on Unix alone.)
#[cfg(unix)]
pub(crate) fn xml_text(text: &str) -> String {
    let mut escaped = Vec::with_capacity(text.len());
    escape_into(text, &mut escaped);
    String::from_utf8_lossy(&escaped).into_owned()
}

/// At most how many bytes `text` has when it is escaped.
pub(crate) fn escaped_bytes(text: &str) -> usize {
    let byte = |byte: u8| if needs_care(byte) { 6 } else { 1 };
    text.bytes().map(byte).sum()
}

/// Whether a byte may be one to be escaped: mark-up, a control character, or the first byte of a
/// character that is to be replaced (0xC2 of a C1 control character, 0xEF of U+FFFE).
fn needs_care(byte: u8) -> bool {
    matches!(
        byte,
        0..=0x1f | 0x7f | b'&' | b'<' | b'>' | b'"' | b'\'' | 0xc2 | 0xef
    )
}

/// Appends `text` escaped for XML. Control characters are never written: tab, line feed and
/// carriage return become references, all others `U+FFFD`.
pub(super) fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    // Nearly always nothing needs care. Without an early way out of it, the compiler makes of this
    // a look at many bytes at a time.
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
            // XML allows no U+FFFE and no U+FFFF; a reader would refuse the whole document.
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
        assert_eq!(
            escaped("\u{1b}[2J\u{9b}31m\u{7f}é\u{ffff}"),
            "\u{fffd}[2J\u{fffd}31m\u{fffd}é\u{fffd}"
        );
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
    }

    #[test]
    fn what_is_not_seen_is_shown_and_an_emoji_stays_whole() {
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
            "\u{378}",
            "\u{200d}",
        ] {
            assert_eq!(
                printable(&format!("a{unseen}b")),
                "a\u{fffd}b",
                "{unseen:?}"
            );
        }
        for emoji in [
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "👩🏽\u{200d}🚀",
            "é",
            "e\u{301}",
        ] {
            assert_eq!(printable(emoji), emoji);
        }
        let tower = "e".to_owned() + &"\u{301}".repeat(1000);
        assert_eq!(printable(&tower), "e".to_owned() + &"\u{301}".repeat(MARKS));
    }

    proptest! {
        #[test]
        fn what_is_escaped_holds_no_markup_and_no_control_character(text in any::<String>()) {
            let escaped = escaped(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(char::is_control));
            prop_assert!(escaped.len() <= escaped_bytes(&text));
        }

        #[test]
        fn what_is_printable_holds_no_control_character(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(char::is_control));
        }
    }
}
