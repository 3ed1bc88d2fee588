//! The bytes from a terminal, converted to keys.
//!
//! `vte` finds the end of every escape sequence, including a terminal's late answers. It can't
//! distinguish a key from a sequence that never ends, so the caller must time out.

use vte::{Params, Parser, Perform};

/// Maximum length of a paste, in bytes: that of the longest message.
pub(super) const LONGEST_PASTE: usize = 8 * 1024;

pub(super) const CTRL_C: u8 = 3;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// A key, or several characters that arrived together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Text(String),
    /// Text that the terminal has marked as pasted. Its lines are separated by line feeds.
    Paste(String),
    /// A paste that is longer than [`LONGEST_PASTE`]; it is discarded.
    TooMuch {
        bytes: usize,
        lines: usize,
    },
    Enter,
    AltEnter,
    Tab,
    Backspace,
    AltBackspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Up,
    Down,
    Home,
    End,
    /// A lower-case letter or `_`.
    Ctrl(char),
    Alt(char),
}

/// Converts bytes to keys.
#[derive(Default)]
pub(super) struct KeyParser {
    parser: Parser,
    found: Found,
    /// The last byte was Escape.
    escape: bool,
    paste: Option<Paste>,
}

/// The keys found so far, and the sequence that has begun.
#[derive(Default)]
struct Found {
    keys: Vec<Key>,
    in_sequence: bool,
    /// `ESC O` has begun: the next letter ends it.
    in_ss3: bool,
    /// The number of following bytes to skip, because they belong to the last sequence.
    skip: usize,
    pastes: bool,
}

/// The input since a paste began.
#[derive(Default)]
struct Paste {
    text: Vec<u8>,
    /// The size of the paste, including discarded bytes.
    bytes: usize,
    lines: usize,
    /// The last bytes, because the end marker may arrive in pieces.
    tail: Vec<u8>,
    /// Ctrl-C was pressed: the rest is discarded.
    is_cancelled: bool,
}

impl KeyParser {
    /// Takes the bytes of one read, and returns the keys in them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        for &byte in bytes {
            self.take_byte(byte);
        }
        literal_tabs(std::mem::take(&mut self.found.keys))
    }

    fn take_byte(&mut self, byte: u8) {
        if let Some(paste) = &mut self.paste {
            match paste.take(byte) {
                Pasted::More => {}
                Pasted::End => self.end_paste(),
                Pasted::Interrupted => {
                    self.end_paste();
                    self.found.keys.push(Key::Ctrl('c'));
                    self.paste = Some(Paste {
                        is_cancelled: true,
                        ..Paste::default()
                    });
                }
            }
            return;
        }
        if self.found.skip > 0 {
            self.found.skip -= 1;
            return;
        }
        if byte == CTRL_C {
            self.forget();
            return self.found.keys.push(Key::Ctrl('c'));
        }
        if byte == ESCAPE {
            if self.escape {
                self.parser.advance(&mut self.found, &[ESCAPE]);
            }
            self.found.in_ss3 = false;
            self.escape = true;
            return;
        }
        if std::mem::take(&mut self.escape) {
            return self.after_escape(byte);
        }
        if self.found.in_ss3 {
            self.found.in_ss3 = byte.is_ascii_digit() || byte == b';';
            if !self.found.in_ss3 {
                let key = match byte {
                    // The keypad's Enter. After `ESC [`, the letter introduces a mouse event.
                    b'M' => Some(Key::Enter),
                    byte => cursor_key(char::from(byte), false),
                };
                self.found.keys.extend(key);
            }
            return;
        }
        self.parser.advance(&mut self.found, &[byte]);
        if std::mem::take(&mut self.found.pastes) {
            self.paste = Some(Paste::default());
        }
    }

    fn after_escape(&mut self, byte: u8) {
        match byte {
            b'\r' | b'\n' | 8 | DELETE => {
                self.forget();
                let is_enter = matches!(byte, b'\r' | b'\n');
                self.found.keys.push(if is_enter {
                    Key::AltEnter
                } else {
                    Key::AltBackspace
                });
            }
            b'O' => {
                self.forget();
                self.found.in_ss3 = true;
            }
            0..0x20 => {
                self.forget();
                self.parser.advance(&mut self.found, &[byte]);
            }
            _ => {
                self.found.in_sequence = true;
                self.parser.advance(&mut self.found, &[ESCAPE, byte]);
            }
        }
    }

    fn end_paste(&mut self) {
        let Some(paste) = self.paste.take() else {
            return;
        };
        if paste.is_cancelled {
            return;
        }
        if paste.bytes > LONGEST_PASTE {
            return self.found.keys.push(Key::TooMuch {
                bytes: paste.bytes,
                lines: paste.lines.max(1),
            });
        }
        let text = valid(&paste.text).replace("\r\n", "\n").replace('\r', "\n");
        let is_text = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        let text: String = text.chars().filter(is_text).collect();
        if !text.is_empty() {
            self.found.keys.push(Key::Paste(text));
        }
    }

    /// Returns whether a paste has begun and not ended.
    pub(super) fn is_in_paste(&self) -> bool {
        self.paste.is_some()
    }

    /// Returns whether Ctrl-C has cancelled the paste, so that its rest is discarded.
    pub(super) fn is_cancelled(&self) -> bool {
        self.paste.as_ref().is_some_and(|paste| paste.is_cancelled)
    }

    /// Returns whether the last bytes were the beginning of a sequence or of a paste.
    pub(super) fn is_waiting(&self) -> bool {
        let found = &self.found;
        self.escape || found.in_sequence || found.in_ss3 || found.skip > 0 || self.paste.is_some()
    }

    /// Stops waiting for the end of a sequence or a paste, which did not arrive in time. Further
    /// bytes are keys again.
    pub(super) fn give_up(&mut self) -> Vec<Key> {
        if let Some(paste) = &mut self.paste {
            let tail = std::mem::take(&mut paste.tail);
            paste.add(&tail);
        }
        self.end_paste();
        self.forget();
        literal_tabs(std::mem::take(&mut self.found.keys))
    }

    /// Forgets the sequence that has begun.
    fn forget(&mut self) {
        let keys = std::mem::take(&mut self.found.keys);
        *self = KeyParser::default();
        self.found.keys = keys;
    }
}

/// The effect of one byte in a paste.
enum Pasted {
    More,
    End,
    Interrupted,
}

impl Paste {
    fn take(&mut self, byte: u8) -> Pasted {
        if byte == CTRL_C {
            return Pasted::Interrupted;
        }
        self.tail.push(byte);
        if self.tail == PASTE_ENDS {
            return Pasted::End;
        }
        while !PASTE_ENDS.starts_with(&self.tail) {
            let first = self.tail.remove(0);
            self.add(&[first]);
        }
        Pasted::More
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.lines += line_ends(bytes);
        if self.bytes <= LONGEST_PASTE {
            self.text.extend_from_slice(bytes);
        }
    }
}

impl Perform for Found {
    fn print(&mut self, character: char) {
        self.in_sequence = false;
        if character == char::from(DELETE) {
            return self.keys.push(Key::Backspace);
        }
        if character == char::REPLACEMENT_CHARACTER {
            // Bytes that are not UTF-8.
            return;
        }
        match self.keys.last_mut() {
            Some(Key::Text(text)) => text.push(character),
            _ => self.keys.push(Key::Text(character.into())),
        }
    }

    fn execute(&mut self, byte: u8) {
        let key = match byte {
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            8 => Key::Backspace,
            1..=26 => Key::Ctrl(char::from(byte - 1 + b'a')),
            0x1f => Key::Ctrl('_'),
            _ => return,
        };
        // Controls inside a sequence are part of it, except those that cancel it.
        if !self.in_sequence {
            self.keys.push(key);
        }
        self.in_sequence &= !matches!(byte, 0x18 | 0x1a);
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, last: char) {
        self.in_sequence = false;
        let mut numbers = params.iter().map(|numbers| numbers[0]);
        let (first, second) = (numbers.next().unwrap_or(0), numbers.next());
        if ignore || !intermediates.is_empty() {
            return;
        }
        // Control, or Alt.
        let by_word = matches!(second, Some(3 | 5));
        match (last, first) {
            // The oldest mouse encoding, in which three more bytes follow.
            ('M', 0) if second.is_none() => self.skip = 3,
            // The function keys of the Linux console.
            ('[', _) => self.skip = 1,
            ('~', 200) => self.pastes = true,
            ('~', 1 | 7) => self.keys.push(Key::Home),
            ('~', 4 | 8) => self.keys.push(Key::End),
            ('~', 3) => self.keys.push(Key::Delete),
            _ => self.keys.extend(cursor_key(last, by_word)),
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        self.in_sequence = false;
        // No terminal sends such a sequence. It is Alt with a punctuation key, followed by another
        // key.
        if let Some((sign, others)) = intermediates.split_first() {
            let typed = others.iter().chain([&byte]);
            let text: String = typed.map(|byte| char::from(*byte)).collect();
            self.keys.push(Key::Alt(char::from(*sign)));
            self.keys.push(Key::Text(text));
        } else if byte.is_ascii_alphanumeric() {
            self.keys
                .push(Key::Alt(char::from(byte.to_ascii_lowercase())));
        }
    }

    fn osc_dispatch(&mut self, _params: &[&[u8]], _bell: bool) {
        self.in_sequence = false;
    }

    fn unhook(&mut self) {
        self.in_sequence = false;
    }
}

fn cursor_key(last: char, by_word: bool) -> Option<Key> {
    Some(match (last, by_word) {
        ('A', _) => Key::Up,
        ('B', _) => Key::Down,
        ('C', false) => Key::Right,
        ('C', true) => Key::WordRight,
        ('D', false) => Key::Left,
        ('D', true) => Key::WordLeft,
        ('H', _) => Key::Home,
        ('F', _) => Key::End,
        _ => return None,
    })
}

/// If other characters arrived together with a tab and follow it, the tab was not pressed to
/// complete a word.
fn literal_tabs(keys: Vec<Key>) -> Vec<Key> {
    let mut literal: Vec<Key> = Vec::with_capacity(keys.len());
    let mut after = false;
    for key in keys.into_iter().rev() {
        match (key, literal.last_mut()) {
            (Key::Tab, Some(Key::Text(text))) if after => text.insert(0, '\t'),
            (Key::Text(before), Some(Key::Text(text))) if after => text.insert_str(0, &before),
            (key, _) => literal.push(key),
        }
        after = matches!(literal.last(), Some(Key::Text(_)));
    }
    literal.reverse();
    literal
}

/// The number of line endings in `bytes`.
pub(super) fn line_ends(bytes: &[u8]) -> usize {
    let is_end = |byte: &&u8| matches!(byte, b'\n' | b'\r');
    bytes.iter().filter(is_end).count()
}

/// Returns the text in `bytes`, without bytes that are not UTF-8.
fn valid(bytes: &[u8]) -> String {
    bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Key {
        Key::Text(text.to_owned())
    }

    fn keys(bytes: &[u8]) -> Vec<Key> {
        KeyParser::default().take(bytes)
    }

    fn keys_one_by_one(bytes: &[u8]) -> Vec<Key> {
        let mut parser = KeyParser::default();
        bytes
            .iter()
            .flat_map(|&byte| parser.take(&[byte]))
            .collect()
    }

    /// The text that these keys would type.
    fn typed(keys: Vec<Key>) -> String {
        keys.into_iter()
            .map(|key| match key {
                Key::Text(text) => text,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Replies and reports from terminals, which no key sends.
    const ANSWERS: [&str; 18] = [
        "\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
        "\x1b]4;1;rgb:aaaa/0000/0000\x07",
        "\x1b]52;c;aGVsbG8=\x07",
        "\x1bP>|xterm(390)\x1b\\",
        "\x1bP1+r544e=787465726d\x1b\\",
        "\x1b_Gi=31;OK\x1b\\",
        "\x1b^private\x1b\\",
        "\x1bXstring\x1b\\",
        "\x1b[?62;22c",
        "\x1b[>41;390;0c",
        "\x1b[12;40R",
        "\x1b[<0;10;12M",
        "\x1b[M !!",
        "\x1b[32;10;12M",
        "\x1b[97;5u",
        "\x1b[48;40;100;800;1000t",
        "\x1b[I",
        "\x1bOP",
    ];

    #[test]
    fn a_terminals_answers_leave_the_text_alone() {
        for answer in ANSWERS {
            let bytes = format!("hel{answer}lo").into_bytes();
            assert_eq!(typed(keys(&bytes)), "hello", "{answer:?}");
            assert_eq!(typed(keys_one_by_one(&bytes)), "hello", "{answer:?}");
        }
    }

    #[test]
    fn alt_with_a_sign_swallows_no_key() {
        for sign in ['.', '#', '/'] {
            let found = keys(format!("abc\x1b{sign}XYZ").as_bytes());
            assert_eq!(found, [text("abc"), Key::Alt(sign), text("XYZ")]);
        }
    }

    #[test]
    fn ctrl_c_ends_every_unfinished_sequence() {
        for answer in ANSWERS {
            for length in 1..answer.len() {
                let mut parser = KeyParser::default();
                parser.take(&answer.as_bytes()[..length]);
                // In the oldest mouse encoding, three raw bytes follow.
                let is_raw = answer.starts_with("\x1b[M") && length >= 3;
                let found = parser.take(b"\x03ok");
                if !is_raw {
                    assert_eq!(found, [Key::Ctrl('c'), text("ok")], "{answer:?} {length}");
                }
                // A pause also ends the sequence.
                let mut parser = KeyParser::default();
                parser.take(&answer.as_bytes()[..length]);
                parser.give_up();
                assert!(!parser.is_waiting());
                assert_eq!(
                    parser.take(b"\x03"),
                    [Key::Ctrl('c')],
                    "{answer:?} {length}"
                );
            }
        }
    }

    #[test]
    fn a_paste_that_never_ends_is_ended_by_a_pause_or_by_ctrl_c() {
        let mut parser = KeyParser::default();
        assert_eq!(parser.take(b"\x1b[200~one\rtwo\x1b[2"), []);
        assert!(parser.is_in_paste());
        assert_eq!(parser.give_up(), [Key::Paste("one\ntwo[2".to_owned())]);
        assert_eq!(parser.take(b"three\r"), [text("three"), Key::Enter]);
        let found = keys(b"\x1b[200~one\x03two\r\x03\x1b[201~three");
        assert_eq!(
            found,
            [
                Key::Paste("one".to_owned()),
                Key::Ctrl('c'),
                Key::Ctrl('c'),
                text("three")
            ],
            "what follows Ctrl-C in a paste is never typed"
        );
    }

    #[test]
    fn a_paste_is_one_key_however_it_arrives() {
        let pasted = b"\x1b[200~/msg bob a\r\n\tb\x1b[31m\x07\xff\x1b[201~!";
        let whole = [Key::Paste("/msg bob a\n\tb[31m".to_owned()), text("!")];
        assert_eq!(keys(pasted), whole);
        assert_eq!(keys_one_by_one(pasted), whole);
        let much = format!("\x1b[200~{}\x1b[201~ok", "a line\n".repeat(10_000));
        let (bytes, lines) = (70_000, 10_000);
        assert_eq!(
            keys(much.as_bytes()),
            [Key::TooMuch { bytes, lines }, text("ok")]
        );
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_passed_over() {
        for byte in 0x80..=0xff_u8 {
            let mut parser = KeyParser::default();
            let mut found = parser.take(&[byte]);
            found.extend(parser.take(b"n"));
            found.extend(parser.take(&[b'a', byte, b'b', byte, b'c']));
            assert_eq!(typed(found), "nabc", "{byte:x}");
        }
        assert_eq!(
            typed(keys_one_by_one("gr\u{fc}\u{df}e \u{1f980}".as_bytes())),
            "gr\u{fc}\u{df}e \u{1f980}"
        );
    }

    #[test]
    fn keys_are_known_by_their_sequences() {
        for (bytes, key) in [
            ("\x1b[A", Key::Up),
            ("\x1bOB", Key::Down),
            ("\x1b[1;5C", Key::WordRight),
            ("\x1b[1;3D", Key::WordLeft),
            ("\x1bf", Key::Alt('f')),
            ("\x1b\x7f", Key::AltBackspace),
            ("\x1b\r", Key::AltEnter),
            ("\x1b[3~", Key::Delete),
            ("\x1b[H", Key::Home),
            ("\x1b[4~", Key::End),
            ("\x7f", Key::Backspace),
            ("\x1f", Key::Ctrl('_')),
            ("\n", Key::Enter),
        ] {
            assert_eq!(
                keys(bytes.as_bytes()),
                std::slice::from_ref(&key),
                "{bytes:?}"
            );
            assert_eq!(keys_one_by_one(bytes.as_bytes()), [key], "{bytes:?}");
        }
    }

    #[test]
    fn a_tab_among_text_is_text_and_one_that_is_pressed_is_a_key() {
        assert_eq!(keys(b"/msg bo\t"), [text("/msg bo"), Key::Tab]);
        assert_eq!(
            keys(b"x\ty\r\tz\r"),
            [text("x\ty"), Key::Enter, text("\tz"), Key::Enter]
        );
    }

    proptest! {
        #[test]
        fn whatever_arrives_text_counts_again_after_a_pause(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = KeyParser::default();
            for part in bytes.chunks(7) {
                parser.take(part);
            }
            parser.give_up();
            prop_assert!(!parser.is_waiting());
            let found = parser.take(b"hello");
            prop_assert_eq!(found, [text("hello")]);
        }
    }
}
