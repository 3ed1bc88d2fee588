//! A user's terminal: the line editor, the colours, the time of day. The client and the server's
//! operator console both use it.
//!
//! One thread (`keys`) reads the terminal and sends typed events; it never writes. The program's
//! main loop owns the rest, in an [`Input`]: the line being typed, the prompt and the output that
//! waits to be drawn. Each event carries the number of the prompt that was on the screen, so text
//! that was typed ahead of a question can be dropped.

mod draw;
mod exchange;
mod history;
mod input;
mod keyboard;
mod keys;
pub mod layout;
mod line;
mod plain;
#[cfg_attr(not(unix), path = "tty_elsewhere.rs")]
mod tty;

pub use exchange::{InputEvent, Prompt, PromptKind, TypeAhead, Typed};
pub use history::LineHistory;
pub(crate) use input::restore_terminal;
pub use input::{Input, InputOptions, restore_after_panics};
pub use line::Complete;
pub use tty::{columns, has_terminal, is_in_foreground, is_interactive};

use std::io::{self, IsTerminal as _};

use jiff::Zoned;
use jiff::tz::TimeZone;

use portal_wire::printable;

use crate::output;

/// The strftime format of the time of day.
pub const TIME: &str = "%H:%M";

/// The number of colours for names. Notices and errors have other colours.
pub const NAME_COLOURS: usize = 8;

/// Sets the title of the terminal's window. Does nothing if the output is not a terminal, or if the
/// terminal would print the title.
pub fn set_title(title: &str) {
    let can = std::env::var("TERM").is_ok_and(|name| name != "dumb" && name != "linux");
    if can && io::stdout().is_terminal() {
        // OSC 0 of xterm, which every terminal with a window supports.
        let _ = output::print(&format!("\x1b]0;{title}\x07"));
    }
}

/// The colours of each kind of line.
#[derive(Clone, Copy)]
pub struct Palette {
    color: bool,
}

impl Palette {
    /// Uses colours if `wanted` and supported by the terminal, unless `NO_COLOR` is set.
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

    /// Paints text that must be white on black, whatever the terminal's own colours are.
    pub fn white_on_black(self, text: &str) -> String {
        self.paint("97;40", text)
    }

    /// Paints another user's name in one of [`NAME_COLOURS`] colours.
    pub fn name(self, text: &str, colour: usize) -> String {
        const CODES: [&str; NAME_COLOURS] = [
            "1;36", "1;32", "1;34", "1;35", "1;96", "1;92", "1;94", "1;95",
        ];
        self.paint(CODES[colour % NAME_COLOURS], text)
    }

    /// Paints text that mentions the user.
    pub fn called(self, text: &str) -> String {
        self.paint("1;35", text)
    }

    /// Paints the user's own name, in the prompt.
    pub fn own(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Paints a message from the server or from the client itself.
    pub fn notice(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Paints an error.
    pub fn trouble(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Paints less important text.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Returns a warning if the variable `TZ` specifies an unknown time zone, in which case times are
/// shown in UTC.
pub fn unknown_time_zone() -> Option<String> {
    let zone = std::env::var_os("TZ")?;
    TimeZone::try_system().err()?;
    let zone = printable(&zone.to_string_lossy());
    Some(format!(
        "times are shown in UTC: the time zone TZ={zone} is unknown on this machine; correct TZ, or install tzdata"
    ))
}

/// The outcome of waiting for the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "elsewhere, there are only lines")
)]
enum Ready {
    /// There is input, or the end of the input has been reached.
    Input,
    /// The terminal accepts more output.
    Output,
    /// Another thread has used the waker.
    Woken,
    /// The wait has timed out.
    Nothing,
}

/// The outcome of a question that is asked on the terminal itself.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "elsewhere, such questions can't be asked")
)]
enum Answered {
    Line(String),
    /// Ctrl-D or Ctrl-C, or the terminal was closed.
    Nothing,
    /// Another thread woke this one first.
    Woken,
    /// There is no terminal to ask on.
    NoTerminal,
}

/// Returns the time of day as shown in the prompt.
fn time_of_day() -> String {
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
