//! The line editor: one line with a prompt. Other threads may print above it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event,
    EventContext, EventHandler, ExternalPrinter as _, Helper, KeyCode, KeyEvent, Modifiers,
    Movement, RepeatCount,
};
use unicode_width::UnicodeWidthStr as _;

use super::filter::WAKE;
use super::invisible::{decode, drawn, encode, is_drawn_otherwise};
use super::tty::{LowDescriptors, columns};
use super::{Palette, time_of_day};
use crate::output;
use crate::text_file::{self, TextError};
use portal_core::clock::slowed;
use portal_wire::printable;

/// Completes the last word before the cursor. Returns the word's byte offset and its completions.
pub type Complete = Box<dyn Fn(&str) -> (usize, Vec<String>) + Send>;

/// Prints above the line being typed. May block while no line is being edited.
pub type Printer = Box<dyn FnMut(String) -> rustyline::Result<()> + Send>;

/// The settings of the line editor.
pub struct EditorOptions {
    /// The colours of the prompt.
    pub palette: Palette,
    pub complete: Complete,
    pub history: Option<LineHistory>,
    /// Leave the terminal alone while in the background, instead of being stopped by the system.
    pub only_in_foreground: bool,
}

/// The outcome of editing a line.
pub(super) enum Edited {
    /// Enter.
    Line(String),
    /// One of our own keys: there is another prompt, or the line must be redrawn.
    Woken {
        /// The text so far.
        text: String,
        /// The cursor's position in the text, in bytes.
        cursor: usize,
    },
    /// Ctrl-C, or Ctrl-D on an empty line.
    End,
    /// The editor failed.
    Failed {
        /// The text so far.
        text: String,
        /// The cursor's position in the text, in bytes.
        cursor: usize,
    },
}

/// Maximum number of lines kept from earlier runs.
const HISTORY: usize = 1000;

/// A line shorter than this, in bytes, is redrawn in full at every key press, so that the time in
/// its prompt advances. For a longer line, only the changes are drawn.
const DRAWN_WHOLE: usize = 400;

pub(super) struct LineEditor {
    turn: Arc<Turn>,
    editor: Editor<Prompter, DefaultHistory>,
    line: Arc<Mutex<LineState>>,
    history: Option<LineHistory>,
    descriptors: Arc<LowDescriptors>,
}

/// The state that our own keys read and change.
#[derive(Default)]
struct LineState {
    /// The line and the cursor as of the last key press.
    text: String,
    cursor: usize,
    /// Set if the line had text and was then emptied.
    was_emptied: bool,
    /// The terminal's width when the line was last drawn.
    columns: usize,
    /// Set if the line must stay blank, because another one replaces it.
    is_blank: bool,
    woken: bool,
}

impl LineEditor {
    /// Creates an editor and a printer that prints above it. `None` if the terminal doesn't support
    /// that.
    pub(super) fn new(manner: EditorOptions) -> Option<(LineEditor, Printer)> {
        let config = Config::builder()
            // Show one candidate after another. A list would need keys to page through it.
            .completion_type(CompletionType::Circular)
            // Escape counts as a key by itself if nothing follows within 20 ms.
            .keyseq_timeout(Some(20))
            .max_history_size(HISTORY)
            .ok()?
            // The palette decides whether to use colours. Without this setting, the editor would
            // not ask for our prompt, which contains the time, if NO_COLOR is set.
            .color_mode(ColorMode::Forced)
            .build();
        let descriptors = Arc::new(LowDescriptors::default());
        if !descriptors.give_up() {
            return None;
        }
        let mut editor = Editor::with_config(config).ok()?;
        let line = Arc::new(Mutex::new(LineState::default()));
        let turn = Arc::new(Turn::new(slowed(DRAWN_WITHIN)));
        editor.set_helper(Some(Prompter {
            turn: Arc::clone(&turn),
            descriptors: Arc::clone(&descriptors),
            palette: manner.palette,
            complete: manner.complete,
            hidden: AtomicBool::new(false),
            prompt_width: AtomicUsize::new(0),
            line: Arc::clone(&line),
        }));
        // A quoted character could be one of our own keys, and then nothing would wake the editor.
        for quoting in ['V', 'Q'] {
            editor.bind_sequence(KeyEvent::ctrl(quoting), Cmd::Noop);
        }
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        let [remember, draw, end] = WAKE;
        for (key, does) in [
            (remember, WakeStep::Remember),
            (draw, WakeStep::Draw),
            (end, WakeStep::End),
        ] {
            let line = Arc::clone(&line);
            editor.bind_sequence(
                KeyEvent(KeyCode::Char(key), Modifiers::NONE),
                EventHandler::Conditional(Box::new(OwnKey { does, line })),
            );
        }
        let mut printer = editor.create_external_printer().ok()?;
        if let Some(history) = &manner.history {
            for entry in &history.lines {
                let _ = editor.add_history_entry(encode(entry));
            }
        }
        let editor = LineEditor {
            turn: Arc::clone(&turn),
            editor,
            line,
            history: manner.history,
            descriptors,
        };
        editor.descriptors.keep();
        let print = move |text| turn.print(|| printer.print(text));
        Some((editor, Box::new(print)))
    }

    /// Lets the user edit a line. `initial` is the text to begin with and the cursor's position in
    /// bytes.
    pub(super) fn edit(&mut self, name: &str, hidden: bool, initial: (&str, usize)) -> Edited {
        {
            let mut line = self.line.lock();
            *line = LineState {
                text: initial.0.to_owned(),
                cursor: initial.1,
                ..LineState::default()
            };
        }
        let prompt = format!("{TIME_PLACE} {}> ", printable(name));
        if let Some(helper) = self.editor.helper_mut() {
            helper.hidden.store(hidden, Ordering::Relaxed);
            helper.prompt_width.store(prompt.width(), Ordering::Relaxed);
        }
        let initial = initial
            .0
            .split_at_checked(initial.1)
            .unwrap_or(("", initial.0));
        if !self.descriptors.give_up() {
            // Connections are using all descriptors. The caller retries, because a connection may
            // end.
            let (text, cursor) = (initial.0.to_owned() + initial.1, initial.0.len());
            return Edited::Failed { text, cursor };
        }
        self.turn.begins();
        let edited = self.editor.readline_with_initial(&prompt, initial);
        self.turn.is_now(Editing::Not);
        self.descriptors.keep();
        let line = self.line.lock();
        let (text, cursor) = (line.text.clone(), line.cursor);
        match edited {
            Ok(_) if line.woken => {
                go_back_up(&prompt, &text);
                Edited::Woken { text, cursor }
            }
            Ok(text) => Edited::Line(decode(&text)),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Edited::End,
            Err(_) => Edited::Failed { text, cursor },
        }
    }

    /// Returns whether the line had text at some point and was then emptied.
    pub(super) fn was_emptied(&self) -> bool {
        self.line.lock().was_emptied
    }

    /// Adds a line to the history, for the arrow keys and for the next run.
    pub(super) fn remember(&mut self, text: &str) {
        // The line is valid even if the history rejects it.
        let text = decode(text);
        let entry = encode(&text);
        let is_new = self.editor.add_history_entry(entry).unwrap_or(false);
        if let (true, Some(history)) = (is_new, &self.history) {
            history.append(&text);
        }
    }
}

impl LineState {
    /// Returns how many rows to move the cursor down, so that the editor clears the right ones. A
    /// terminal that becomes wider joins the rows of the line, and moves the cursor up with the end
    /// of the line. The editor would still clear the old number of rows, including rows above the
    /// line.
    fn rows_to_go_down(&self, prompt_width: usize) -> usize {
        let now = columns();
        if self.columns == 0 || self.columns >= now || self.text.contains('\n') {
            return 0;
        }
        let cells = prompt_width + self.text.get(..self.cursor).unwrap_or_default().width();
        (cells / self.columns).saturating_sub(cells / now)
    }

    /// Returns how many rows are left above those that the editor has cleared. A terminal that
    /// becomes narrower wraps the end of the line, and the cursor, onto new rows that the editor
    /// does not know about.
    fn rows_left_above(&mut self, prompt: &str) -> usize {
        let now = columns();
        let before = std::mem::replace(&mut self.columns, now);
        if before <= now || self.text.contains('\n') {
            return 0;
        }
        let cells = prompt.width() + self.text.get(..self.cursor).unwrap_or_default().width();
        (cells / now).saturating_sub(cells / before)
    }
}

/// Moves the cursor back up after the editor has blanked its line and begun a new one below.
fn go_back_up(prompt: &str, text: &str) {
    let width = prompt.width() + text.split('\n').next_back().unwrap_or_default().width();
    // If the line would have ended exactly at the edge, the editor has begun an extra line.
    let at_the_edge = !text.contains('\n') && width > 0 && width.is_multiple_of(columns());
    let up = if at_the_edge {
        "\x1b[2A\r"
    } else {
        "\x1b[1A\r"
    };
    let _ = output::print(up);
}

/// The effects of our own keys, in the order of [`WAKE`].
#[derive(Clone, Copy)]
enum WakeStep {
    /// Saves the line and the cursor, and moves to the end.
    Remember,
    /// Redraws the whole line, so that the editor redraws it next time, too.
    Draw,
    /// Removes the line from the screen and ends the editing.
    End,
}

struct OwnKey {
    does: WakeStep,
    line: Arc<Mutex<LineState>>,
}

impl ConditionalEventHandler for OwnKey {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        let mut line = self.line.lock();
        Some(match self.does {
            WakeStep::Remember => {
                line.text = context.line().to_owned();
                line.cursor = context.pos();
                line.woken = true;
                Cmd::Move(Movement::EndOfBuffer)
            }
            WakeStep::Draw => Cmd::Repaint,
            WakeStep::End => {
                line.is_blank = true;
                Cmd::AcceptLine
            }
        })
    }
}

/// A placeholder for the time of day in the prompt; the editor counts its width.
const TIME_PLACE: &str = "00:00";

/// Coordinates output to the terminal. The editor's printer checks whether a line is being edited,
/// and if not, writes directly to the terminal. A line that began between the check and the write
/// would be overwritten and not redrawn.
struct Turn {
    editing: Mutex<Editing>,
    changed: Condvar,
    /// The time limit for drawing a line for the first time.
    drawn_within: Duration,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Editing {
    /// No line is being edited, and text is written at once.
    #[default]
    Not,
    /// A line has been begun but not drawn yet.
    Begins,
    /// A line is being edited, and the editor prints above it.
    Drawn,
}

/// See [`Turn::drawn_within`].
const DRAWN_WITHIN: Duration = Duration::from_millis(500);

impl Turn {
    fn new(drawn_within: Duration) -> Turn {
        Turn {
            editing: Mutex::default(),
            changed: Condvar::new(),
            drawn_within,
        }
    }

    /// Records that the editor begins a line. Waits until no other thread is writing directly to
    /// the terminal.
    fn begins(&self) {
        self.is_now(Editing::Begins);
    }

    fn is_now(&self, editing: Editing) {
        *self.editing.lock() = editing;
        self.changed.notify_all();
    }

    /// Records that the line has been drawn.
    fn is_drawn(&self) {
        let mut editing = self.editing.lock();
        if *editing == Editing::Begins {
            *editing = Editing::Drawn;
            self.changed.notify_all();
        }
    }

    fn print<T>(&self, print: impl FnOnce() -> T) -> T {
        let mut editing = self.editing.lock();
        if *editing == Editing::Begins {
            let is_still = |editing: &mut Editing| *editing == Editing::Begins;
            self.changed
                .wait_while_for(&mut editing, is_still, self.drawn_within);
        }
        // Hold the lock only if no line is being edited. Otherwise the editor's own thread prints,
        // and may need the lock.
        let nobody_begins = (*editing == Editing::Not).then_some(editing);
        let printed = print();
        drop(nobody_begins);
        printed
    }
}

/// Shows the time of the last key press in the prompt, so that a sent line shows when it was sent.
struct Prompter {
    turn: Arc<Turn>,
    descriptors: Arc<LowDescriptors>,
    palette: Palette,
    complete: Complete,
    hidden: AtomicBool,
    /// In columns.
    prompt_width: AtomicUsize,
    line: Arc<Mutex<LineState>>,
}

impl Highlighter for Prompter {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        if self.line.lock().is_blank {
            "".into()
        } else if self.hidden.load(Ordering::Relaxed) {
            " ".repeat(line.chars().count()).into()
        } else {
            drawn(line).into()
        }
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        _default: bool,
    ) -> Cow<'b, str> {
        // The editor has already opened its descriptors for this line.
        self.descriptors.keep();
        self.turn.is_drawn();
        if self.line.lock().is_blank {
            return "".into();
        }
        let above = self.line.lock().rows_left_above(prompt);
        let name = prompt.strip_prefix(TIME_PLACE).unwrap_or(prompt);
        // Clear each of these rows, and everything below.
        let clear = "\x1b[A\x1b[2K".repeat(above) + if above > 0 { "\x1b[J" } else { "" };
        (clear + &self.palette.faint(&time_of_day()) + &self.palette.own(&drawn(name))).into()
    }

    fn highlight_char(&self, line: &str, pos: usize, kind: CmdKind) -> bool {
        let before = line
            .get(..pos)
            .and_then(|before| before.chars().next_back());
        // A hidden line must never show the key itself.
        self.hidden.load(Ordering::Relaxed)
            || line.len() < DRAWN_WHOLE
            || kind == CmdKind::ForcedRefresh
            || self.line.lock().woken
            || before.is_some_and(is_drawn_otherwise)
    }
}

impl Completer for Prompter {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        if self.hidden.load(Ordering::Relaxed) {
            return Ok((0, Vec::new()));
        }
        let (start, words) = (self.complete)(&line[..pos]);
        let pair = |word: String| Pair {
            display: word.clone(),
            replacement: word + " ",
        };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

impl Hinter for Prompter {
    type Hint = String;

    /// Records the line. Offers no hint; what matters is that the editor calls this function at
    /// every change.
    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        let mut state = self.line.lock();
        let down = state.rows_to_go_down(self.prompt_width.load(Ordering::Relaxed));
        if down > 0 {
            let _ = output::print(&"\n".repeat(down));
        }
        if !state.woken {
            state.was_emptied |= line.is_empty() && !state.text.is_empty();
            line.clone_into(&mut state.text);
            state.cursor = pos;
        }
        None
    }
}

impl Validator for Prompter {}

impl Helper for Prompter {}

/// The lines from earlier runs, and the file in which they are stored.
#[derive(Clone, Debug)]
pub struct LineHistory {
    file: PathBuf,
    /// Oldest first.
    lines: Vec<String>,
}

impl LineHistory {
    /// Reads the file, which may not exist yet.
    ///
    /// # Errors
    /// See [`TextError`].
    pub fn read(file: PathBuf) -> Result<LineHistory, TextError> {
        let text = text_file::read_own(&file)?.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let recent = &lines[lines.len().saturating_sub(HISTORY)..];
        let lines = recent.iter().map(|line| unescaped(line)).collect();
        Ok(LineHistory { file, lines })
    }

    /// Appends a line for the next run. Only the user may read the file (mode 0600). If the write
    /// fails, the line is missing from the next run.
    fn append(&self, text: &str) {
        let _ = text_file::append_line(&self.file, &escaped(text));
    }
}

/// Escapes line ends, NUL bytes and backslashes, so that the text fits on one line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\0', "\\0")
}

fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => {}
            },
            (other, false) => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// Keeps a test from waiting forever.
    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn a_text_of_several_lines_is_one_line_of_history() {
        for text in [
            "plain",
            "two\nlines",
            "back\\slash \\n",
            "\\",
            "a\\\nb",
            "\0\\0\r",
        ] {
            let line = escaped(text);
            assert!(!line.contains(['\n', '\r', '\0']));
            assert_eq!(unescaped(&line), text);
        }
    }

    #[test]
    fn what_is_printed_waits_until_a_line_that_begins_is_drawn() {
        let turn = Arc::new(Turn::new(LONG));
        turn.begins();
        let (happens, happened) = channel();
        let (printer, prints) = (Arc::clone(&turn), happens.clone());
        let printing = thread::spawn(move || printer.print(|| prints.send("printed").unwrap()));
        // Without the lock, the thread would have printed by now.
        for _ in 0..1_000 {
            thread::yield_now();
        }
        happens.send("drawn").unwrap();
        turn.is_drawn();
        printing.join().unwrap();
        let order: Vec<&str> = happened.try_iter().collect();
        assert_eq!(order, ["drawn", "printed"]);
    }

    #[test]
    fn no_line_begins_while_something_is_written_past_the_editor() {
        let turn = Turn::new(LONG);
        turn.print(|| assert!(turn.editing.is_locked()));
        // While a line is being edited, the editor itself prints, and must be able to report that
        // it has redrawn the line.
        turn.begins();
        turn.is_drawn();
        turn.print(|| turn.is_drawn());
    }

    #[test]
    fn a_line_that_is_never_drawn_keeps_nothing_from_being_printed() {
        let turn = Turn::new(Duration::ZERO);
        turn.begins();
        assert_eq!(turn.print(|| "printed"), "printed");
    }
}
