//! The rows that the prompt and the line occupy.

use unicode_width::UnicodeWidthChar as _;

use portal_wire::{Shown, for_each_shown};

/// A row and a column, both counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Place {
    /// Returns the place after a `text` that starts at this place, on a terminal with `columns`
    /// columns. A text that ends at the edge ends in the row below.
    pub(super) fn after(mut self, text: &str, columns: usize) -> Place {
        for character in text.chars() {
            let width = character.width().unwrap_or(0);
            if character == '\n' {
                self = Place {
                    row: self.row + 1,
                    column: 0,
                };
                continue;
            }
            if self.column + width > columns {
                self.row += 1;
                self.column = 0;
            }
            self.column += width;
        }
        if self.column >= columns {
            self.row += 1;
            self.column = 0;
        }
        self
    }
}

/// Returns the line as the terminal shows it, and the part of it before the cursor. Invisible
/// characters are shown like those of a received line.
pub(super) fn shown_line(line: &str, cursor: usize) -> (String, usize) {
    let (mut shown, mut at, mut place) = (String::with_capacity(line.len()), 0, None);
    for_each_shown(line, |character, how| {
        if at >= cursor && place.is_none() {
            place = Some(shown.len());
        }
        at += character.len_utf8();
        match (character, how) {
            ('\n', _) => shown.push('\n'),
            ('\t', _) => {
                let column = shown
                    .rsplit('\n')
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .count();
                shown.extend(std::iter::repeat_n(' ', 8 - column % 8));
            }
            (_, Shown::Itself) => shown.push(character),
            (_, Shown::Replaced) => shown.push(char::REPLACEMENT_CHARACTER),
            (_, Shown::Omitted) => {}
        }
    });
    let place = place.unwrap_or(shown.len());
    (shown, place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portal_wire::printable;
    use proptest::prelude::*;

    fn place(row: usize, column: usize) -> Place {
        Place { row, column }
    }

    #[test]
    fn wide_characters_wrap_before_the_edge() {
        let after = |text: &str, columns| Place::default().after(text, columns);
        assert_eq!(after("abc", 4), place(0, 3));
        assert_eq!(after("abcd", 4), place(1, 0));
        assert_eq!(after("abc漢", 4), place(1, 2));
        assert_eq!(after("ab\ncd", 4), place(1, 2));
        assert_eq!(after("e\u{301}", 4), place(0, 1));
    }

    #[test]
    fn invisible_characters_are_shown_like_those_of_a_received_line() {
        let line = "a\u{202e}b\u{200b}\tc";
        let (shown, before) = shown_line(line, 4);
        assert_eq!(shown, "a\u{fffd}b\u{fffd}    c");
        assert_eq!(&shown[..before], "a\u{fffd}");
        let typed = "می\u{200c}خواهم";
        assert_eq!(
            shown_line(typed, typed.len()),
            (typed.to_owned(), typed.len())
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_has_nothing_invisible(text in any::<String>()) {
            let (shown, _) = shown_line(&text, 0);
            let flat = |text: &str| text.replace(['\n', '\t'], " ").replace(' ', "");
            prop_assert_eq!(flat(&shown), flat(&printable(&text)));
        }
    }
}
