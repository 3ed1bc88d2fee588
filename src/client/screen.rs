//! The screen: one line for each event, above the line being typed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IsTerminal as _};

use jiff::Zoned;
use jiff::civil::Date;
use unicode_width::UnicodeWidthStr as _;

use super::commands::{HelpLine, Timestamp};
use portal_cli::output::{self, Output};
use portal_cli::terminal::layout::{self, GOES_ON};
use portal_cli::terminal::{NAME_COLOURS, Palette, TIME, columns};
use portal_wire::{Relay, Scope, columns_at_most, printable, printable_text};

/// Rings the bell.
const BELL: &str = "\x07";

/// Clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

const DATE_AND_TIME: &str = "%Y-%m-%d %H:%M:%S";

/// The client's output.
pub(super) struct Screen {
    palette: Palette,
    timestamp: Cell<Timestamp>,
    /// The date of the last line.
    day: Cell<Option<Date>>,
    colours: RefCell<Colours>,
    /// Set if the user may be away; new lines are then marked.
    away: Cell<bool>,
    /// Set if writing failed for a reason other than a closed pipe.
    failed: Cell<bool>,
    marked: Cell<bool>,
    out: Out,
}

/// The colour of each name: a name keeps its colour, which differs from those of the most recently
/// added names.
#[derive(Default)]
struct Colours {
    by_name: HashMap<String, usize>,
    recent: Vec<usize>,
}

impl Colours {
    fn of(&mut self, name: &str) -> usize {
        let key = name.to_ascii_lowercase();
        if let Some(colour) = self.by_name.get(&key) {
            return *colour;
        }
        let sum = key.bytes().fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        let colour = (0..NAME_COLOURS)
            .map(|step| (sum + step) % NAME_COLOURS)
            .find(|colour| !self.recent.contains(colour))
            .unwrap_or(0);
        self.recent.push(colour);
        if self.recent.len() > NAME_COLOURS / 2 {
            self.recent.remove(0);
        }
        self.by_name.insert(key, colour);
        colour
    }
}

enum Out {
    /// Plain standard output, for a script or a terminal without a line editor.
    Plain {
        /// Set if the reader has closed the pipe.
        reader_gone: Cell<bool>,
    },
    /// Lines above the one being typed, until the main loop draws them.
    Above(RefCell<String>),
}

impl Screen {
    fn new(palette: Palette, timestamp: Timestamp, out: Out) -> Screen {
        Screen {
            palette,
            timestamp: Cell::new(timestamp),
            day: Cell::new(None),
            colours: RefCell::default(),
            away: Cell::new(false),
            failed: Cell::new(false),
            marked: Cell::new(false),
            out,
        }
    }

    /// Creates a screen that prints plain lines on standard output.
    pub(super) fn plain(palette: Palette) -> Screen {
        let reader_gone = Cell::new(false);
        // A script needs output that does not depend on the time of day.
        Screen::new(palette, Timestamp::Off, Out::Plain { reader_gone })
    }

    /// Creates a screen whose lines appear above the one being typed.
    pub(super) fn above(palette: Palette) -> Screen {
        Screen::new(palette, Timestamp::Time, Out::Above(RefCell::default()))
    }

    /// Returns the lines to draw above the one being typed.
    pub(super) fn take_lines(&self) -> String {
        match &self.out {
            Out::Plain { .. } => String::new(),
            Out::Above(lines) => lines.take(),
        }
    }

    /// Returns whether lines are shown with the time.
    pub(super) fn shows_time(&self) -> bool {
        self.timestamp.get() != Timestamp::Off
    }

    /// Returns whether a user types at prompts below the lines.
    pub(super) fn has_prompts(&self) -> bool {
        matches!(self.out, Out::Above(_))
    }

    /// Returns whether the reader of the output has closed the pipe (`| head -1`).
    pub(super) fn reader_is_gone(&self) -> bool {
        matches!(&self.out, Out::Plain { reader_gone } if reader_gone.get())
    }

    /// Returns whether writing the output failed (for example, because the disk is full).
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Sets the kind of timestamp shown before each further line.
    pub(super) fn set_timestamp(&self, timestamp: Timestamp) {
        self.timestamp.set(timestamp);
    }

    /// Rings the terminal's bell.
    pub(super) fn ring(&self) {
        self.draw(BELL.to_owned());
    }

    pub(super) fn clear(&self) {
        self.draw(CLEAR.to_owned());
    }

    /// Shows a desktop notification, if the terminal supports it (OSC 9).
    pub(super) fn notify(&self, text: &str) {
        let text: String = printable(text).chars().take(200).collect();
        self.draw(format!("\x1b]9;{text}\x07"));
    }

    /// Sets whether the user may be away. A mark is then shown before the first unread line.
    pub(super) fn set_away(&self, away: bool) {
        let was_away = self.away.replace(away);
        if was_away && !away {
            self.marked.set(false);
        }
    }

    fn mark_unread(&self) {
        if self.has_prompts() && self.away.get() && !self.marked.replace(true) {
            self.show(self.palette.faint("---- unread ----") + "\n");
        }
    }

    fn draw(&self, commands: String) {
        if let Out::Above(lines) = &self.out {
            *lines.borrow_mut() += &commands;
        }
    }

    /// Shows another user's message. Highlights text that mentions `me`.
    pub(super) fn relay(&self, relay: &Relay<'_>, me: Option<&str>) {
        self.mark_unread();
        let from = printable(&relay.from);
        let name = self
            .palette
            .name(&from, self.colours.borrow_mut().of(&relay.from));
        let is_me = |name: &str| me.is_some_and(|me| me.eq_ignore_ascii_case(name));
        let to = match (&relay.scope, &relay.to) {
            (Scope::Partner | Scope::Room(_), _) => String::new(),
            (Scope::Public, _) => " to all".to_owned(),
            (Scope::Direct, Some(to)) if !is_me(to) => format!(" to {}", printable(to)),
            (Scope::Direct, _) => " to you".to_owned(),
        };
        let room = match &relay.scope {
            Scope::Room(room) => Some(printable(room)),
            _ => None,
        };
        let earlier = relay
            .old
            .then(|| match relay.time.as_deref().and_then(local_time) {
                Some(time) => format!("earlier, {time}"),
                None => "earlier".to_owned(),
            });
        let tags: Vec<String> = room.into_iter().chain(earlier).collect();
        let place = if tags.is_empty() {
            String::new()
        } else {
            format!("[{}] ", tags.join(", "))
        };
        let (before, plain) = if relay.me {
            (format!("* {name}{to} "), format!("* {from}{to} "))
        } else {
            (format!("{name}{to}: "), format!("{from}{to}: "))
        };
        let is_called = me.is_some_and(|me| mentions(&relay.text, me));
        self.line(
            &(self.palette.faint(&place) + &before),
            columns_at_most(&place) + columns_at_most(&plain),
            &relay.text,
            |text| {
                if is_called {
                    self.palette.called(text)
                } else {
                    text.to_owned()
                }
            },
        );
    }

    /// Shows a message from the server or from the client itself.
    pub(super) fn notice(&self, text: &str) {
        self.line("", 0, &format!("* {text}"), |text| {
            self.palette.notice(text)
        });
    }

    /// Shows an error.
    pub(super) fn trouble(&self, text: &str) {
        self.line("", 0, &format!("! {text}"), |text| {
            self.palette.trouble(text)
        });
    }

    /// Reports that something was not sent, and why. For a script, the report goes to standard
    /// error.
    pub(super) fn not_sent(&self, text: &str) {
        match &self.out {
            Out::Above(_) => self.trouble(text),
            Out::Plain { .. } => {
                output::report(&format!("! {}\n", printable(text)));
            }
        }
    }

    pub(super) fn help(&self, lines: &[HelpLine]) {
        const COLUMN: usize = 30;
        let width = if self.is_terminal() {
            columns()
        } else {
            usize::MAX
        };
        let mut text = String::new();
        for line in lines {
            let indent = if line.explanation.is_empty() {
                ""
            } else {
                "  "
            };
            let usage = format!("{indent}{}", line.usage.trim_end());
            let mut explained = Vec::new();
            layout::wrap(&line.explanation, COLUMN, width, COLUMN, &mut explained);
            let mut explained = explained.into_iter();
            if usage.width() < COLUMN {
                let first = explained.next().unwrap_or_default();
                text += &format!("{usage:<COLUMN$}{first}\n");
            } else {
                text += &format!("{usage}\n");
            }
            for more in explained {
                text += &format!("{:COLUMN$}{more}\n", "");
            }
        }
        self.show(text);
    }

    /// Shows one of the client's own texts, unchanged.
    pub(super) fn text(&self, text: &str) {
        self.show(format!("{text}\n"));
    }

    fn is_terminal(&self) -> bool {
        self.has_prompts() || io::stdout().is_terminal()
    }

    /// Shows `text` after `before`, which is `width` columns wide, on as many lines as needed.
    fn line(&self, before: &str, width: usize, text: &str, paint: impl Fn(&str) -> String) {
        let now = Zoned::now();
        let stamp = match self.timestamp.get() {
            Timestamp::Off => String::new(),
            Timestamp::Time => now.strftime(TIME).to_string() + " ",
            Timestamp::DateTime => now.strftime(DATE_AND_TIME).to_string() + " ",
        };
        let today = now.date();
        if self.timestamp.get() == Timestamp::Time
            && self
                .day
                .replace(Some(today))
                .is_some_and(|day| day != today)
        {
            let day = now.strftime("---- %A, %Y-%m-%d ----").to_string();
            self.show(self.palette.faint(&day) + "\n");
        }
        let columns = self.is_terminal().then(columns);
        let text = text
            .split('\n')
            .map(printable_text)
            .collect::<Vec<_>>()
            .join("\n");
        let lines = layout::lines(&text, stamp.width() + width, columns);
        let mut shown = self.palette.faint(&stamp) + before;
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                shown += "\n";
                shown += &self.palette.faint(GOES_ON);
            }
            shown += &paint(line);
        }
        self.show(shown + "\n");
    }

    /// Shows lines of `--trace`, which are safe for a terminal.
    pub(super) fn show_lines(&self, lines: String) {
        self.draw(lines);
    }

    fn show(&self, lines: String) {
        match &self.out {
            Out::Plain { reader_gone } => {
                if let Err(error) = Output::Stdout.print(&lines) {
                    let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
                    if !is_gone && !reader_gone.get() {
                        output::report(&format!("! {}\n", output::not_written(&error)));
                        self.failed.set(true);
                    }
                    reader_gone.set(true);
                }
            }
            Out::Above(_) => self.draw(lines),
        }
    }
}

/// Formats a server's time (RFC 3339) in the local time zone, with the date unless it is today.
fn local_time(time: &str) -> Option<String> {
    let now = Zoned::now();
    let then = time
        .parse::<jiff::Timestamp>()
        .ok()?
        .to_zoned(now.time_zone().clone());
    let format = if then.date() == now.date() {
        TIME
    } else {
        "%Y-%m-%d %H:%M"
    };
    Some(then.strftime(format).to_string())
}

/// Returns whether `text` contains `me` as a whole word.
pub(super) fn mentions(text: &str, me: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.split(|c: char| !is_part(c))
        .map(|word| word.trim_end_matches('.'))
        .any(|word| word.eq_ignore_ascii_case(me))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hears_ones_name() {
        for (text, heard) in [
            ("hi Bob, how are you", true),
            ("bob", true),
            ("ask bob.", true),
            ("bobby", false),
            ("bob-2", false),
        ] {
            assert_eq!(mentions(text, "bob"), heard, "{text}");
        }
    }

    #[test]
    fn neighbours_have_different_colours_and_keep_them() {
        let mut colours = Colours::default();
        let names = ["alice", "bob", "carol", "dave", "eve"];
        let first: Vec<usize> = names.map(|name| colours.of(name)).to_vec();
        for pair in first.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        let again: Vec<usize> = names.map(|name| colours.of(&name.to_uppercase())).to_vec();
        assert_eq!(first, again);
    }

    #[test]
    fn a_time_is_shown_with_its_date_unless_that_is_today() {
        let now = Zoned::now();
        let utc = now.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        assert_eq!(local_time(&utc), Some(now.strftime(TIME).to_string()));
        assert!(
            local_time("2020-06-01T12:00:00Z")
                .unwrap()
                .starts_with("2020-0")
        );
        assert_eq!(local_time("yesterday"), None);
    }
}
