//! What the person sees: one line for each thing that happens, above the line being typed.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, unbounded};
use jiff::Zoned;

use super::commands::Timestamp;
use super::trace::TraceOut;
use crate::limits::THREAD_STACK;
use crate::terminal::{Palette, Printer, TIME};
use crate::wire::{Relay, Scope, printable};

/// How many lines may wait for the terminal before the client stops reading from the server.
const LINES_BEHIND: usize = 1000;

/// How long the last lines may take at the end, if the person is in the middle of a search.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints nothing: up a line and down again. Once it has been taken by the editor, everything
/// printed before it has been shown.
const NOTHING: &str = "\x1b[A\n";

/// Rings, and prints nothing.
const BELL: &str = "\x07\x1b[A\n";

const DATE_AND_TIME: &str = "%Y-%m-%d %H:%M:%S";

/// Where lines are shown.
pub(super) struct Screen {
    palette: Palette,
    timestamp: Cell<Timestamp>,
    out: Out,
}

enum Out {
    /// Standard output as it is, for a script.
    Plain,
    /// Above the line being typed. Showing can block (during a history search, for one), so a
    /// thread does it.
    Above {
        /// Its lines are shown there, too.
        trace: TraceOut,
        lines: Sender<String>,
        /// Something comes on it when the terminal has caught up.
        caught_up: Receiver<()>,
        shown: Receiver<()>,
        printer: Option<JoinHandle<()>>,
    },
}

impl Screen {
    /// Plain lines on standard output.
    pub(super) fn plain(palette: Palette) -> Screen {
        Screen {
            palette,
            // A script wants the same line at any time of the day.
            timestamp: Cell::new(Timestamp::Off),
            out: Out::Plain,
        }
    }

    /// Lines above the editor that `printer` belongs to; starts the thread `printer`.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub(super) fn above(
        palette: Palette,
        mut printer: Printer,
        trace: TraceOut,
    ) -> io::Result<Screen> {
        let (lines, to_show) = unbounded::<String>();
        let (done, shown) = bounded::<()>(0);
        let (tell, caught_up) = bounded(1);
        let builder = Builder::new()
            .name("printer".to_owned())
            .stack_size(THREAD_STACK);
        let printer = builder.spawn(move || {
            for line in &to_show {
                if printer(line.clone()).is_err() {
                    // The editor has gone; the terminal is in its ordinary state again.
                    let _ = write!(io::stdout(), "{line}");
                }
                if to_show.len() == LINES_BEHIND / 2 {
                    let _ = tell.try_send(());
                }
            }
            let _ = printer(NOTHING.to_owned());
            drop(done);
        })?;
        trace.show_above(lines.clone());
        Ok(Screen {
            palette,
            timestamp: Cell::new(Timestamp::Time),
            out: Out::Above {
                trace,
                lines,
                caught_up,
                shown,
                printer: Some(printer),
            },
        })
    }

    /// Whether a person types below the lines.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self.out, Out::Above { .. })
    }

    /// Whether so many lines wait for the terminal that no more should be fetched.
    pub(super) fn is_behind(&self) -> bool {
        match &self.out {
            Out::Plain => false,
            Out::Above { lines, .. } => lines.len() > LINES_BEHIND,
        }
    }

    /// Something comes on it when a terminal that was behind has caught up.
    pub(super) fn caught_up(&self) -> Receiver<()> {
        match &self.out {
            Out::Plain => never(),
            Out::Above { caught_up, .. } => caught_up.clone(),
        }
    }

    /// What stands before each line from now on.
    pub(super) fn set_timestamp(&self, timestamp: Timestamp) {
        self.timestamp.set(timestamp);
    }

    /// Rings the terminal's bell.
    pub(super) fn ring(&self) {
        if let Out::Above { lines, .. } = &self.out {
            let _ = lines.send(BELL.to_owned());
        }
    }

    /// What somebody else said. What names `me` stands out.
    pub(super) fn relay(&self, relay: &Relay<'_>, me: Option<&str>) {
        let name = self.palette.name(&printable(&relay.from));
        let mut text = in_lines(&relay.text);
        if me.is_some_and(|me| names(&text, me)) {
            text = self.palette.called(&text);
        }
        let (room, to) = match &relay.scope {
            Scope::Partner => (String::new(), ""),
            Scope::Public => (String::new(), " to all"),
            Scope::Direct => (String::new(), " to you"),
            Scope::Room(room) if relay.old => (format!("[{}, earlier] ", printable(room)), ""),
            Scope::Room(room) => (format!("[{}] ", printable(room)), ""),
        };
        let room = self.palette.faint(&room);
        if relay.me {
            self.line(&format!("{room}* {name}{to} {text}"));
        } else {
            self.line(&format!("{room}{name}{to}: {text}"));
        }
    }

    /// What the server or the client has to say.
    pub(super) fn notice(&self, text: &str) {
        self.line(&self.palette.notice(&format!("* {}", in_lines(text))));
    }

    /// What has gone wrong.
    pub(super) fn trouble(&self, text: &str) {
        self.line(&self.palette.trouble(&format!("! {}", in_lines(text))));
    }

    /// Text of our own, shown as it is.
    pub(super) fn text(&self, text: &str) {
        self.show(format!("{text}\n"));
    }

    fn line(&self, line: &str) {
        let format = match self.timestamp.get() {
            Timestamp::Off => return self.show(format!("{line}\n")),
            Timestamp::Time => TIME,
            Timestamp::DateTime => DATE_AND_TIME,
        };
        let now = Zoned::now().strftime(format).to_string();
        self.show(format!("{} {line}\n", self.palette.faint(&now)));
    }

    fn show(&self, lines: String) {
        match &self.out {
            Out::Plain => {
                // Nobody reads any more (`chatclient | head`): there is nobody to complain to.
                let mut out = io::stdout().lock();
                let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
            }
            Out::Above { lines: sender, .. } => {
                let _ = sender.send(lines);
            }
        }
    }

    /// Waits until every line has been shown, as far as the editor lets it, then lets `stop_editor`
    /// end the editor, and ends the printer.
    pub(super) fn close(self, stop_editor: impl FnOnce()) {
        let Out::Above {
            trace,
            lines,
            shown,
            printer,
            ..
        } = self.out
        else {
            return stop_editor();
        };
        trace.show_plainly();
        drop(lines);
        let in_time = shown.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout);
        stop_editor();
        if let Some(printer) = printer
            && (in_time || shown.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout))
        {
            let _ = printer.join();
        }
    }
}

/// Text that may have several lines, each made harmless, those after the first indented so that
/// none can pass for a line of somebody else.
fn in_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n        ")
}

/// Whether `me` stands in `text` as a word of its own.
fn names(text: &str, me: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.split(|c: char| !is_part(c))
        .map(|word| word.trim_end_matches('.'))
        .any(|word| word.eq_ignore_ascii_case(me))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_line_can_not_pass_for_somebody_elses() {
        assert_eq!(
            in_lines("hi\n12:00 bob: I owe you\u{1b}[2J"),
            "hi\n        12:00 bob: I owe you\u{fffd}[2J"
        );
    }

    #[test]
    fn one_hears_ones_name() {
        for (text, heard) in [
            ("hi Bob, how are you", true),
            ("bob", true),
            ("ask bob.", true),
            ("bobby", false),
            ("bob-2", false),
        ] {
            assert_eq!(names(text, "bob"), heard, "{text}");
        }
    }
}
