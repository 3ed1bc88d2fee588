//! Line wrapping at the terminal's width. Continuation lines are indented and marked, so that they
//! can't pass for another user's line.

use unicode_width::UnicodeWidthStr as _;

use portal_wire::{columns_at_most, columns_of};

/// The prefix of each continuation line.
pub const GOES_ON: &str = "      | ";

/// Minimum width of the text, in columns. A narrower terminal wraps the lines itself.
const NARROWEST: usize = 8;

/// Splits `text` at its line feeds and, if the terminal's width in `columns` is known, wherever a
/// line would not fit. The first line begins after `before` columns.
pub fn lines(text: &str, before: usize, columns: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let start = if lines.is_empty() {
            before
        } else {
            GOES_ON.len()
        };
        match columns {
            Some(columns) => wrap(line, start, columns, GOES_ON.len(), &mut lines),
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Wraps one line at its spaces, and appends the pieces to `lines`. The first piece begins after
/// `start` columns, the others after `indent`.
pub fn wrap(line: &str, start: usize, columns: usize, indent: usize, lines: &mut Vec<String>) {
    let room_after = |taken: usize| columns.saturating_sub(taken).max(NARROWEST);
    let mut room = room_after(start);
    let mut current = String::new();
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        let word = expanded(word, start + width);
        let visible = columns_at_most(word.trim_end_matches(' '));
        if width > 0 && width + visible > room {
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            (width, room) = (0, room_after(indent));
        }
        if visible <= room {
            width += columns_at_most(&word);
            current.push_str(&word);
            continue;
        }
        if is_link(word.trim_end()) {
            // The terminal wraps it, so that it can be copied and opened whole. It has no spaces,
            // so it can't pass for another user's line.
            width = visible;
            current.push_str(&word);
            continue;
        }
        // Split a word that is longer than a line at the end of the line.
        for character in word.chars() {
            let wide = columns_of(character);
            if width + wide > room {
                lines.push(std::mem::take(&mut current));
                (width, room) = (0, room_after(indent));
            }
            width += wide;
            current.push(character);
        }
    }
    lines.push(current.trim_end().to_owned());
}

fn is_link(word: &str) -> bool {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain
        && ["http://", "https://"]
            .iter()
            .any(|scheme| word.starts_with(scheme))
}

/// Expands each tab to the next multiple of eight columns.
fn expanded(word: &str, at: usize) -> String {
    const STOP: usize = 8;
    let mut text = String::with_capacity(word.len());
    for character in word.chars() {
        if character == '\t' {
            let here = at + text.width();
            text.extend(std::iter::repeat_n(' ', STOP - here % STOP));
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_goes_on_below() {
        assert_eq!(
            lines("one two three", 6, Some(16)),
            ["one two", "three"],
            "ten columns are left in the first line"
        );
        assert_eq!(lines("one\ntwo", 6, None), ["one", "two"]);
        assert_eq!(lines("", 6, Some(80)), [""]);
        assert_eq!(lines("a\tb", 0, Some(80)), ["a       b"]);
        assert_eq!(lines("漢字漢字漢字", 0, Some(8)), ["漢字漢字", "漢字"]);
        let link = format!("https://chat.example/{}", "x".repeat(60));
        assert_eq!(
            lines(&format!("see {link} now"), 6, Some(40)),
            ["see", &link, "now"],
            "a link is whole"
        );
        // Some terminals draw these characters one column wide, others two or more. The line must
        // fit in any case.
        let signs = "\u{70f}".repeat(12);
        assert_eq!(
            lines(&signs, 0, Some(8)),
            ["\u{70f}".repeat(8), "\u{70f}".repeat(4)]
        );
        let family = "👩\u{200d}👩\u{200d}👧 ";
        assert_eq!(lines(&family.repeat(2), 0, Some(8)), [family.trim_end(); 2]);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_and_nothing_is_lost(
            text in "([a-z]{1,30}| |漢|\u{301}){0,40}", before in 0_usize..20, columns in 30_usize..90
        ) {
            let cut = lines(&text, before, Some(columns));
            for (number, line) in cut.iter().enumerate() {
                let start = if number == 0 { before } else { GOES_ON.len() };
                prop_assert!(start + line.width() <= columns, "{line:?}");
            }
            let solid = |text: &str| text.replace(' ', "");
            prop_assert_eq!(solid(&cut.concat()), solid(&text));
        }
    }
}
