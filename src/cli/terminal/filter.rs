//! A filter that converts terminal input into keys that the line editor can handle.
//!
//! The editor exits at a byte that is not UTF-8, takes time quadratic in the length of a paste, and
//! can't be restarted in the middle of a line. So all input passes through this filter first. The
//! filter is pure: bytes in, keys out.

use std::time::Duration;

use super::invisible::encode_typed;

/// Maximum length of a paste, in bytes: that of the longest message.
pub(super) const LONGEST_PASTE: usize = 8 * 1024;

/// More bytes than this at once can't have been typed by hand: they are a paste from a terminal
/// without bracketed paste.
pub(super) const BURST: usize = 512;

/// A burst ends after a pause of this length. Shorter pauses occur within a paste on a busy
/// machine.
pub(super) const BURST_PAUSE: Duration = Duration::from_millis(200);

/// How long to wait for more input after a few bytes, because they may be the beginning of a burst.
pub(super) const TYPING_PAUSE: Duration = Duration::from_millis(2);

/// Maximum time between the bytes of one key.
pub(super) const KEY_PAUSE: Duration = Duration::from_millis(30);

/// The keys that make the editor stop and show another prompt. They are private-use characters,
/// which the filter removes from the input. The first saves the line and moves to its end, the
/// second redraws the whole line, and the third ends the editing.
pub(super) const WAKE: [char; 3] = ['\u{f8f0}', '\u{f8f1}', '\u{f8f2}'];

/// Ctrl-Z.
const SUSPEND: u8 = 26;

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// Input for the editor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Keys that do not end the line.
    Within(Vec<u8>),
    /// A key that ends the line: Enter, Ctrl-C, Ctrl-D.
    Ends(u8),
    /// Ctrl-Z.
    Suspend,
    /// A paste that is too long. It is discarded.
    TooMuch { bytes: usize, lines: usize },
}

/// Converts bytes into keys.
#[derive(Default)]
pub(super) struct Filter {
    /// An incomplete character or escape sequence.
    held: Vec<u8>,
    paste: Option<Paste>,
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
}

impl Filter {
    /// Takes the bytes of one read, and returns the keys in them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let used = if self.paste.is_some() {
                self.take_pasted(rest, &mut keys)
            } else {
                self.take_typed(rest, &mut keys)
            };
            if used == 0 {
                self.held = rest.to_vec();
                break;
            }
            rest = &rest[used..];
        }
        keys
    }

    /// Returns whether `bytes` belong to a paste that the terminal has bracketed.
    pub(super) fn is_in_paste(&self, bytes: &[u8]) -> bool {
        self.paste.is_some() || find(bytes, PASTE_BEGINS).is_some()
    }

    /// Returns whether the last bytes were the beginning of an escape sequence, or the Escape key.
    pub(super) fn holds_escape(&self) -> bool {
        self.held.first() == Some(&b'\x1b')
    }

    /// Returns the bytes held back. Nothing followed what looked like the beginning of an escape
    /// sequence, so it was not one.
    pub(super) fn give_up_waiting(&mut self) -> Vec<Key> {
        vec![Key::Within(std::mem::take(&mut self.held))]
    }

    /// Takes the first key of `input`. Returns the number of bytes used, or 0 if the rest has not
    /// arrived yet.
    fn take_typed(&mut self, input: &[u8], keys: &mut Vec<Key>) -> usize {
        if input.starts_with(PASTE_BEGINS) {
            self.paste = Some(Paste::default());
            return PASTE_BEGINS.len();
        }
        match input[0] {
            // The start marker of a paste may arrive in pieces.
            b'\x1b' if PASTE_BEGINS.starts_with(input) => 0,
            b'\x1b' => {
                let length = escape_sequence(input);
                add(keys, &input[..length]);
                length
            }
            end @ (b'\r' | b'\n' | 3 | 4) => {
                keys.push(Key::Ends(if end == b'\n' { b'\r' } else { end }));
                1
            }
            0 => 1,
            SUSPEND => {
                keys.push(Key::Suspend);
                1
            }
            _ => {
                let run = input.iter().position(|&byte| {
                    matches!(byte, 0 | 3 | 4 | SUSPEND | b'\r' | b'\n' | b'\x1b')
                });
                let whole = run.is_some();
                let run = &input[..run.unwrap_or(input.len())];
                let held = if whole { 0 } else { unfinished(run) };
                let text = readable(&run[..run.len() - held]);
                // A tab between characters that arrived together was not pressed to complete a
                // word.
                let has_tab = text.trim_end_matches('\t').contains('\t');
                let is_plain = |c: char| !c.is_control() || c == '\t';
                if (run.len() > BURST || has_tab) && text.chars().all(is_plain) {
                    // The editor inserts a paste in one piece, and draws it once.
                    let pasted = [PASTE_BEGINS, text.as_bytes(), PASTE_ENDS].concat();
                    add(keys, &pasted);
                } else {
                    add(keys, text.as_bytes());
                }
                run.len() - held
            }
        }
    }

    fn take_pasted(&mut self, input: &[u8], keys: &mut Vec<Key>) -> usize {
        let Some(paste) = &mut self.paste else {
            return 0;
        };
        paste.tail.extend_from_slice(input);
        let end = find(&paste.tail, PASTE_ENDS);
        // Keep the last bytes, which may be the beginning of the marker.
        let take = end.unwrap_or(paste.tail.len().saturating_sub(PASTE_ENDS.len() - 1));
        let text: Vec<u8> = paste.tail.drain(..take).collect();
        paste.bytes += text.len();
        paste.lines += text
            .iter()
            .filter(|&&byte| matches!(byte, b'\n' | b'\r'))
            .count();
        if paste.bytes <= LONGEST_PASTE {
            paste.text.extend_from_slice(&text);
        }
        let Some(_) = end else {
            return input.len();
        };
        let after = paste.tail.len() - PASTE_ENDS.len();
        keys.push(if paste.bytes > LONGEST_PASTE {
            Key::TooMuch {
                bytes: paste.bytes,
                lines: paste.lines.max(1),
            }
        } else {
            let text: String = readable(&paste.text)
                .chars()
                .filter(|&character| {
                    !character.is_control() || matches!(character, '\n' | '\r' | '\t')
                })
                .collect();
            Key::Within([PASTE_BEGINS, text.as_bytes(), PASTE_ENDS].concat())
        });
        self.paste = None;
        input.len() - after
    }
}

/// Appends keys to the previous ones if those are of the same kind.
fn add(keys: &mut Vec<Key>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    match keys.last_mut() {
        Some(Key::Within(before)) => before.extend_from_slice(bytes),
        _ => keys.push(Key::Within(bytes.to_vec())),
    }
}

/// Returns the text in `bytes`, without invalid UTF-8 and without our own keys. Invisible
/// characters are encoded for the editor.
fn readable(bytes: &[u8]) -> String {
    let text: String = bytes
        .utf8_chunks()
        .flat_map(|chunk| chunk.valid().chars())
        .filter(|character| !WAKE.contains(character))
        .collect();
    encode_typed(&text)
}

/// Returns the number of bytes at the end that may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        Err(_) => {
            let last = bytes
                .utf8_chunks()
                .last()
                .map_or(0, |chunk| chunk.invalid().len());
            let tail = &bytes[bytes.len() - last..];
            match std::str::from_utf8(tail) {
                Err(error) if error.error_len().is_none() => last,
                _ => 0,
            }
        }
        Ok(_) => 0,
    }
}

/// Returns the length of the escape sequence at the beginning of `input`. Enter after a lone Escape
/// is not part of it.
fn escape_sequence(input: &[u8]) -> usize {
    match input.get(1) {
        Some(b'[' | b'O') => {
            let end = input[2..]
                .iter()
                .position(|byte| (0x40..=0x7e).contains(byte));
            end.map_or(input.len(), |end| end + 3)
        }
        Some(b'\r' | b'\n' | 3 | 4) | None => 1,
        Some(byte) if byte.is_ascii() => 2,
        Some(_) => 1,
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(text: &str) -> Key {
        Key::Within(text.as_bytes().to_vec())
    }

    #[test]
    fn a_byte_that_is_no_text_is_passed_over_wherever_it_comes() {
        for byte in 0x80..=0xff_u8 {
            let mut filter = Filter::default();
            let mut keys = filter.take(&[byte]);
            keys.extend(filter.take(b"n"));
            keys.extend(filter.take(&[b'a', byte, b'b', byte, b'\r']));
            keys.extend(filter.take(&[byte, b'\r']));
            let text: Vec<u8> = keys
                .iter()
                .flat_map(|key| match key {
                    Key::Within(bytes) => bytes.clone(),
                    Key::Ends(end) => vec![*end],
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(text, b"nab\r\r", "{byte:x}");
        }
    }

    #[test]
    fn a_character_that_comes_in_pieces_is_whole() {
        let mut filter = Filter::default();
        let keys: Vec<Key> = "gr\u{fc}\u{df}e \u{1f980}\r"
            .bytes()
            .flat_map(|byte| filter.take(&[byte]))
            .collect();
        let text: Vec<u8> = keys
            .into_iter()
            .flat_map(|key| match key {
                Key::Within(bytes) => bytes,
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "gr\u{fc}\u{df}e \u{1f980}"
        );
    }

    #[test]
    fn lines_end_at_their_keys_and_at_nothing_else() {
        let mut filter = Filter::default();
        assert_eq!(
            filter.take(b"hi\rx\x03\x04"),
            [
                within("hi"),
                Key::Ends(b'\r'),
                within("x"),
                Key::Ends(3),
                Key::Ends(4)
            ]
        );
        assert_eq!(
            filter.take(b"\x1b[A\x1bOB\x1bf"),
            [within("\x1b[A\x1bOB\x1bf")]
        );
        assert_eq!(filter.take(b"\x1b\r"), [within("\x1b"), Key::Ends(b'\r')]);
        assert_eq!(filter.take(b"\x1b"), []);
        assert!(filter.holds_escape());
        assert_eq!(filter.give_up_waiting(), [within("\x1b")]);
        assert_eq!(filter.take("\u{f8f2}\u{f8f0}q".as_bytes()), [within("q")]);
    }

    #[test]
    fn a_paste_is_one_key_however_it_arrives() {
        let pasted = b"\x1b[200~/msg bob a\n\tb\x1b[31m\x07\x1b[201~!";
        let whole = [within("\x1b[200~/msg bob a\n\tb[31m\x1b[201~"), within("!")];
        let mut filter = Filter::default();
        let keys = filter.take(pasted);
        assert_eq!(keys.len(), 1, "the keys after it are added to it: {keys:?}");
        let mut filter = Filter::default();
        let keys: Vec<Key> = pasted
            .iter()
            .flat_map(|&byte| filter.take(&[byte]))
            .collect();
        assert_eq!(keys, whole);
    }

    #[test]
    fn a_paste_that_is_too_much_is_counted_and_not_handed_on() {
        let mut filter = Filter::default();
        let mut keys = filter.take(b"\x1b[200~");
        for _ in 0..10_000 {
            keys.extend(filter.take(b"a line\n"));
        }
        keys.extend(filter.take(b"\x1b[201~ok"));
        let much = Key::TooMuch {
            bytes: 70_000,
            lines: 10_000,
        };
        assert_eq!(keys, [much, within("ok")]);
    }

    #[test]
    fn a_tab_amid_what_comes_at_once_is_text_and_one_that_is_pressed_is_a_key() {
        let mut filter = Filter::default();
        assert_eq!(filter.take(b"/msg bo\t"), [within("/msg bo\t")]);
        assert_eq!(filter.take(b"\t"), [within("\t")]);
        let literal = |text: &str| within(&format!("\x1b[200~{text}\x1b[201~"));
        assert_eq!(
            filter.take(b"x\ty\r\tz\r"),
            [
                literal("x\ty"),
                Key::Ends(b'\r'),
                literal("\tz"),
                Key::Ends(b'\r')
            ]
        );
    }

    #[test]
    fn a_burst_is_handed_on_as_one_piece() {
        let mut filter = Filter::default();
        let burst = "x".repeat(BURST + 1);
        let keys = filter.take((burst.clone() + "\r").as_bytes());
        assert_eq!(
            keys,
            [
                within(&format!("\x1b[200~{burst}\x1b[201~")),
                Key::Ends(b'\r')
            ]
        );
    }
}
