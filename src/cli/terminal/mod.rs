//! A person at a terminal: the line editor, the colours, the time of day. The client and the
//! operator's console of the server both use it.

mod editor;
mod editor_shared;
mod filter;
mod invisible;
mod keyboard;
mod keys;
pub mod layout;
mod outcome;
mod plain;
#[cfg_attr(not(unix), path = "tty_elsewhere.rs")]
mod tty;

pub use editor::{Complete, EditorOptions, History, Printer};
pub use editor_shared::{Prompt, PromptKind, TypeAhead, Typed};
pub(crate) use keyboard::restore_terminal;
pub use keyboard::{Keyboard, PreparedEditor};
pub use tty::{columns, has_terminal, is_in_foreground, is_interactive};

use std::io::{self, IsTerminal as _};

use jiff::Zoned;
use jiff::tz::TimeZone;

use portal_wire::printable;

use crate::output;

/// How the time of day is written.
pub const TIME: &str = "%H:%M";

/// How many colours there are for names: none of those of notices and troubles.
pub const NAME_COLOURS: usize = 8;

/// Gives the terminal's window a title; not where the output is no terminal, or one that would
/// print it.
pub fn set_title(title: &str) {
    let can = std::env::var("TERM").is_ok_and(|name| name != "dumb" && name != "linux");
    if can && io::stdout().is_terminal() {
        // OSC 0 of xterm, which every terminal with a window takes.
        let _ = output::print(&format!("\x1b]0;{title}\x07"));
    }
}

/// The colours of the kinds of lines.
#[derive(Clone, Copy)]
pub struct Palette {
    color: bool,
}

impl Palette {
    /// Colours if `wanted`, on a terminal that can, unless `NO_COLOR` is set.
    pub fn new(wanted: bool) -> Palette {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Palette {
            color: wanted && !refused && io::stdout().is_terminal(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// What has to be white on black, whatever the terminal's own colours are.
    pub fn white_on_black(self, text: &str) -> String {
        self.paint("97;40", text)
    }

    /// Somebody else's name, in one of [`NAME_COLOURS`] colours.
    pub fn name(self, text: &str, colour: usize) -> String {
        const CODES: [&str; NAME_COLOURS] = [
            "1;36", "1;32", "1;34", "1;35", "1;96", "1;92", "1;94", "1;95",
        ];
        self.paint(CODES[colour % NAME_COLOURS], text)
    }

    /// Text in which the person is named.
    pub fn called(self, text: &str) -> String {
        self.paint("1;35", text)
    }

    /// One's own name, in the prompt.
    pub fn own(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What the server or the client itself says.
    pub fn notice(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What has gone wrong.
    pub fn trouble(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// A warning if the variable `TZ` names an unknown time zone, so that times are shown in UTC.
pub fn unknown_time_zone() -> Option<String> {
    let zone = std::env::var_os("TZ")?;
    TimeZone::try_system().err()?;
    let zone = printable(&zone.to_string_lossy());
    Some(format!(
        "times are in UTC: the time zone TZ={zone} is not known on this machine (correct it, or install tzdata)"
    ))
}

/// The time of day, as it stands in the prompt.
pub(crate) fn time_of_day() -> String {
    Zoned::now().strftime(TIME).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colour_where_none_is_wanted() {
        let palette = Palette { color: false };
        assert_eq!(palette.name("bob", 3) + &palette.trouble("!"), "bob!");
        assert_eq!(Palette { color: true }.own("you"), "\x1b[32myou\x1b[0m");
    }
}
