//! Where the person's lines come from: a line editor on a terminal, plain lines from a pipe.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Editor, Helper};
use signal_hook::consts::SIGINT;

use super::screen::{Palette, Screen, time_of_day};
use crate::limits::THREAD_STACK;

/// What the person did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-D, Ctrl-C, or the end of a pipe.
    End,
}

/// The thread `keyboard`.
pub(super) struct Keyboard {
    typed: Receiver<Typed>,
    /// The name in the next prompt; the editor waits for it, so that a prompt can depend on what
    /// the line before it did. Disconnected, it ends the editor.
    prompts: Option<Sender<String>>,
    closing: Arc<AtomicBool>,
    /// Disconnects when the thread ends.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// Starts reading: with a line editor if both standard input and output are a terminal.
    /// Returns the screen that goes with it.
    ///
    /// # Errors
    /// What the terminal or the system reports.
    pub(super) fn start(palette: Palette) -> io::Result<(Keyboard, Screen)> {
        let (sender, typed) = bounded(16);
        let (running, done) = bounded::<()>(0);
        let closing = Arc::new(AtomicBool::new(false));
        let builder = Builder::new().name("keyboard".to_owned());
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let mut editor = editor(palette).map_err(io::Error::other)?;
            let printer = editor.create_external_printer().map_err(io::Error::other)?;
            let (prompts, next_prompt) = bounded(1);
            let noticed = Arc::clone(&closing);
            let thread = builder.spawn(move || {
                edit(editor, &sender, &next_prompt, &noticed);
                drop(running);
            })?;
            let screen = Screen::above(palette, printer)?;
            let thread = Some(thread);
            Ok((
                Keyboard {
                    typed,
                    prompts: Some(prompts),
                    closing,
                    done,
                    thread,
                },
                screen,
            ))
        } else {
            // Nothing wakes a read of a pipe, so this thread is never joined; it ends with the
            // process.
            builder.stack_size(THREAD_STACK).spawn(move || {
                read_lines(&sender);
                drop(running);
            })?;
            let keyboard = Keyboard {
                typed,
                prompts: None,
                closing,
                done,
                thread: None,
            };
            Ok((keyboard, Screen::plain(palette)))
        }
    }

    /// What the person did, in order.
    pub(super) fn typed(&self) -> &Receiver<Typed> {
        &self.typed
    }

    /// Lets the person type the next line behind `name`.
    pub(super) fn prompt(&self, name: &str) {
        if let Some(prompts) = &self.prompts {
            // Full means that a prompt is on its way already.
            let _ = prompts.try_send(name.to_owned());
        }
    }

    /// Ends the editor, wherever it is, with the terminal as it was before.
    pub(super) fn close(mut self) {
        self.closing.store(true, Ordering::Release);
        self.prompts = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A signal makes the editor return from its read. One that comes a moment before it reads
        // is lost on it, so look whether it has ended, and try again.
        while self.done.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            let _ = signal_hook::low_level::raise(SIGINT);
        }
        let _ = thread.join();
    }
}

type LineEditor = Editor<Prompter, DefaultHistory>;

fn editor(palette: Palette) -> rustyline::Result<LineEditor> {
    let config = Config::builder().auto_add_history(true).build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Prompter { palette }));
    Ok(editor)
}

fn edit(
    mut editor: LineEditor,
    typed: &Sender<Typed>,
    prompts: &Receiver<String>,
    closing: &AtomicBool,
) {
    while let Ok(name) = prompts.recv() {
        if closing.load(Ordering::Acquire) {
            return;
        }
        let line = match editor.readline(&format!("{TIME_PLACE} {name}> ")) {
            Ok(line) => Typed::Line(line),
            Err(ReadlineError::Signal(_)) if !closing.load(Ordering::Acquire) => continue,
            Err(_) => Typed::End,
        };
        let is_end = line == Typed::End;
        if typed.send(line).is_err() || is_end {
            return;
        }
    }
}

fn read_lines(typed: &Sender<Typed>) {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                if typed.send(Typed::Line(text)).is_err() {
                    return;
                }
            }
        }
    }
    let _ = typed.send(Typed::End);
}

/// Stands in the prompt where the time of day will be; the editor counts its width.
const TIME_PLACE: &str = "00:00";

/// Shows the time in the prompt. The editor draws the prompt once more when a line is finished,
/// so a line that was said keeps the time at which it was said.
struct Prompter {
    palette: Palette,
}

impl Highlighter for Prompter {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        _default: bool,
    ) -> std::borrow::Cow<'b, str> {
        let name = prompt.strip_prefix(TIME_PLACE).unwrap_or(prompt);
        (self.palette.faint(&time_of_day()) + &self.palette.own(name)).into()
    }

    fn highlight_char(&self, _line: &str, _pos: usize, kind: CmdKind) -> bool {
        kind == CmdKind::ForcedRefresh
    }
}

impl Completer for Prompter {
    type Candidate = String;
}

impl Hinter for Prompter {
    type Hint = String;
}

impl Validator for Prompter {}

impl Helper for Prompter {}
