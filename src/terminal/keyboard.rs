//! Where a person's lines come from: a line editor on a terminal, plain lines from a pipe.

use std::borrow::Cow;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper, KeyEvent,
};
use signal_hook::consts::SIGINT;

use super::{Palette, time_of_day};
use crate::limits::THREAD_STACK;

/// What the person did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// A line, and whether it was typed at a hidden prompt; `None` where there are no prompts.
    Line {
        /// What was typed.
        text: String,
        /// At which kind of prompt.
        hidden: Option<bool>,
    },
    /// Ctrl-D, Ctrl-C, or the end of a pipe.
    End,
}

/// What the person is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    /// Stands before the line.
    pub(crate) name: String,
    /// Show nothing of what is typed, and do not remember it.
    pub(crate) hidden: bool,
}

/// What Tab can make of the last word before the cursor: where that word begins, and what it may
/// become.
pub(crate) type Complete = Box<dyn Fn(&str) -> (usize, Vec<String>) + Send>;

/// Prints above the line being typed. It can block, for as long as nobody is asked for a line.
pub(crate) type Printer = Box<dyn FnMut(String) -> rustyline::Result<()> + Send>;

/// The thread `keyboard`.
pub(crate) struct Keyboard {
    typed: Receiver<Typed>,
    /// The next prompt; the editor waits for it, so that a prompt can depend on what
    /// the line before it did. Disconnected, it ends the editor.
    prompts: Option<Sender<Prompt>>,
    closing: Arc<AtomicBool>,
    /// Disconnects when the thread ends.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// Starts reading: with a line editor if both standard input and output are a terminal, and
    /// then there is a printer, too.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub(crate) fn start(
        palette: Palette,
        complete: Complete,
    ) -> io::Result<(Keyboard, Option<Printer>)> {
        let (sender, typed) = bounded(16);
        let (running, done) = bounded::<()>(0);
        let closing = Arc::new(AtomicBool::new(false));
        let builder = Builder::new().name("keyboard".to_owned());
        // A terminal that can't move its cursor (TERM=dumb) gets plain lines, too.
        let editing = if is_interactive() {
            edit_above(palette, complete)
        } else {
            None
        };
        if let Some((editor, mut printer)) = editing {
            let (prompts, next_prompt) = bounded(1);
            let noticed = Arc::clone(&closing);
            let thread = builder.spawn(move || {
                edit(editor, &sender, &next_prompt, &noticed);
                drop(running);
            })?;
            let (prompts, thread) = (Some(prompts), Some(thread));
            let keyboard = Keyboard {
                typed,
                prompts,
                closing,
                done,
                thread,
            };
            Ok((keyboard, Some(Box::new(move |line| printer.print(line)))))
        } else {
            // Nothing wakes a read of a pipe, so this thread is never joined; it ends with the
            // process.
            builder.stack_size(THREAD_STACK).spawn(move || {
                read_lines(&sender);
                drop(running);
            })?;
            Ok((
                Keyboard {
                    typed,
                    prompts: None,
                    closing,
                    done,
                    thread: None,
                },
                None,
            ))
        }
    }

    /// What the person did, in order.
    pub(crate) fn typed(&self) -> &Receiver<Typed> {
        &self.typed
    }

    /// Lets the person type the next line.
    pub(crate) fn prompt(&self, prompt: Prompt) {
        if let Some(prompts) = &self.prompts {
            // Full means that a prompt is on its way already.
            let _ = prompts.try_send(prompt);
        }
    }

    /// Ends the editor, wherever it is, with the terminal as it was before.
    pub(crate) fn close(mut self) {
        self.closing.store(true, Ordering::Release);
        self.prompts = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A signal makes the editor return from its read. One that comes a moment before it reads
        // is lost on it, so look whether it has ended, and try again.
        WAKING_THE_EDITOR.store(true, Ordering::Release);
        for _ in 0..WAKE_TRIES {
            if self.done.recv_timeout(WAKE_PAUSE) == Err(RecvTimeoutError::Disconnected) {
                let _ = thread.join();
                WAKING_THE_EDITOR.store(false, Ordering::Release);
                return;
            }
            let _ = signal_hook::low_level::raise(SIGINT);
        }
        // It is stuck in writing to a terminal that is paused, and will never set it right.
        restore_terminal();
    }
}

/// How often the editor is woken at the end, and how long it may take each time.
const WAKE_TRIES: u32 = 100;
const WAKE_PAUSE: Duration = Duration::from_millis(20);

/// Whether the signals that come now are our own. One flag for the process, as there is one
/// terminal for it.
static WAKING_THE_EDITOR: AtomicBool = AtomicBool::new(false);

/// Whether a signal that comes now is our own, to end the editor, and nobody's wish to leave.
pub(crate) fn is_waking_the_editor() -> bool {
    WAKING_THE_EDITOR.load(Ordering::Acquire)
}

/// Whether a person sits at both ends of this process.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Puts the terminal back into its ordinary state when the editor can't do it any more.
pub(crate) fn restore_terminal() {
    if io::stdin().is_terminal() {
        // Without `stty` there is nothing left to try.
        let _ = Command::new("stty").arg("sane").status();
    }
}

/// An editor, and the way to print above it; `None` where the terminal can't do that.
fn edit_above(
    palette: Palette,
    complete: Complete,
) -> Option<(LineEditor, impl ExternalPrinter + Send + 'static)> {
    let mut editor = editor(palette, complete).ok()?;
    let printer = editor.create_external_printer().ok()?;
    Some((editor, printer))
}

type LineEditor = Editor<Prompter, DefaultHistory>;

fn editor(palette: Palette, complete: Complete) -> rustyline::Result<LineEditor> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        // Whether to use colours is the palette's decision. Without this the editor would not
        // ask for our prompt, and so for the time in it, where NO_COLOR is set.
        .color_mode(ColorMode::Forced)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Prompter {
        palette,
        complete,
        hidden: false,
    }));
    // The editor suspends, but comes back without its line editing (rustyline 19).
    editor.bind_sequence(KeyEvent::ctrl('Z'), Cmd::Noop);
    Ok(editor)
}

fn edit(
    mut editor: LineEditor,
    typed: &Sender<Typed>,
    prompts: &Receiver<Prompt>,
    closing: &AtomicBool,
) {
    while let Ok(prompt) = prompts.recv() {
        if let Some(helper) = editor.helper_mut() {
            helper.hidden = prompt.hidden;
        }
        let line = loop {
            if closing.load(Ordering::Acquire) {
                return;
            }
            match editor.readline(&format!("{TIME_PLACE} {}> ", prompt.name)) {
                Ok(text) => {
                    let hidden = Some(prompt.hidden);
                    break Typed::Line { text, hidden };
                }
                // A signal that was not for us, such as a change of the window's size.
                Err(ReadlineError::Signal(_)) => {}
                Err(_) => break Typed::End,
            }
        };
        if let Typed::Line { text, .. } = &line
            && !prompt.hidden
        {
            // Only a history that is full of errors refuses a line; the line counts all the same.
            let _ = editor.add_history_entry(text.as_str());
        }
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
                if typed.send(Typed::Line { text, hidden: None }).is_err() {
                    return;
                }
            }
        }
    }
    let _ = typed.send(Typed::End);
}

/// Stands in the prompt where the time of day will be; the editor counts its width.
const TIME_PLACE: &str = "00:00";

/// Shows the time in the prompt: that of the last key, so a line that was said keeps the time at
/// which it was said.
struct Prompter {
    palette: Palette,
    complete: Complete,
    hidden: bool,
}

impl Highlighter for Prompter {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        if self.hidden {
            " ".repeat(line.chars().count()).into()
        } else {
            line.into()
        }
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        _default: bool,
    ) -> Cow<'b, str> {
        let name = prompt.strip_prefix(TIME_PLACE).unwrap_or(prompt);
        (self.palette.faint(&time_of_day()) + &self.palette.own(name)).into()
    }

    fn highlight_char(&self, _line: &str, _pos: usize, _kind: CmdKind) -> bool {
        // Draw the whole line anew at every key: a hidden one must not show the key itself, and
        // the time in the prompt goes on.
        true
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
        if self.hidden {
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
}

impl Validator for Prompter {}

impl Helper for Prompter {}
