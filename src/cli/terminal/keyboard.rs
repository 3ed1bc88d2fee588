//! The user's input: through a line editor on a terminal, otherwise as plain lines.
//!
//! On a terminal, there are two threads. `keys` reads the input, removes the keys that would end
//! the editor, and passes on one line at a time through a pseudo-terminal; `keyboard` edits the
//! line. Therefore text typed ahead stays with `keys`, which can discard it before a question, and
//! an outdated prompt can be replaced while a line is being edited.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::editor::{Edited, EditorOptions, LineEditor, Printer};
use super::editor_shared::{EditorAction, EditorShared, Prompt, PromptKind, TypeAhead, Typed};
use super::filter::{Filter, KEY_PAUSE};
use super::keys::Keys;
use super::plain::PlainReader;
use super::tty::{EditorInput, RawTerminal, is_interactive, waker};
use portal_core::clock::slowed;
use portal_net::threads;

/// The threads `keyboard` and `keys`.
pub struct Keyboard<T> {
    typed: Receiver<Typed<T>>,
    touched: Receiver<()>,
    /// Announces a prompt. Dropping it ends the thread that waits for one.
    asks: Option<Sender<()>>,
    desk: Arc<EditorShared<T>>,
    /// Disconnects when the threads end.
    done: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
    terminal: Option<Arc<RawTerminal>>,
    /// The editor's input. It must live as long as the editor.
    input: Option<Arc<EditorInput>>,
}

/// A line editor that has not begun its first line.
pub struct PreparedEditor {
    /// `None` means plain lines: without a terminal, or on one that can't move its cursor
    /// (TERM=dumb).
    editing: Option<(LineEditor, Printer)>,
    only_in_foreground: bool,
}

impl PreparedEditor {
    /// Opens the editor's descriptors and reserves some for its lines. A program that opens many
    /// descriptors must call this first (see `tty::LowDescriptors`), or it gets plain lines.
    pub fn new(manner: EditorOptions) -> PreparedEditor {
        let only_in_foreground = manner.only_in_foreground;
        let editing = is_interactive().then(|| LineEditor::new(manner));
        PreparedEditor {
            editing: editing.flatten(),
            only_in_foreground,
        }
    }
}

/// Maximum time to wait for the threads to end. They take longer only if the terminal accepts no
/// output.
const PATIENCE: Duration = Duration::from_secs(1);

impl<T: Clone + PartialEq + Send + 'static> Keyboard<T> {
    /// Starts reading. If both standard input and output are terminals, there is a line editor and
    /// a printer.
    ///
    /// # Errors
    ///
    /// An I/O error if the system can't provide a thread or a pseudo-terminal.
    pub fn start(editor: PreparedEditor) -> io::Result<(Keyboard<T>, Option<Printer>)> {
        let (sender, typed) = bounded(16);
        let (touch, touched) = bounded(1);
        let (running, done) = bounded::<()>(0);
        let (asks, asked) = bounded(1);
        let (waker, wakened) = waker()?;
        let desk = Arc::new(EditorShared::new(waker));
        let mut keyboard = Keyboard {
            typed,
            touched,
            asks: Some(asks),
            desk: Arc::clone(&desk),
            done,
            threads: Vec::new(),
            terminal: None,
            input: None,
        };
        let PreparedEditor {
            editing,
            only_in_foreground,
        } = editor;
        let Some((editor, printer)) = editing else {
            let reader = PlainReader {
                desk,
                typed: sender,
                touch,
                wakened,
                read: Vec::new(),
                lines: 0,
                hidden: None,
                at_end: false,
                only_in_foreground,
            };
            // This thread is not joined, because it may be blocked in a read that can't be
            // interrupted.
            spawn("keyboard", move || {
                reader.run(&asked);
                drop(running);
            })?;
            return Ok((keyboard, None));
        };
        let terminal = Arc::new(RawTerminal::take_over()?);
        *TERMINAL.lock() = Some(Arc::clone(&terminal));
        let input = Arc::new(EditorInput::in_place_of_standard_input()?);
        keyboard.input = Some(Arc::clone(&input));
        keyboard.terminal = Some(Arc::clone(&terminal));
        let keys = Keys {
            desk: Arc::clone(&desk),
            typed: sender.clone(),
            touch,
            wakened,
            terminal: Arc::clone(&terminal),
            input,
            filter: Filter::default(),
            only_in_foreground,
        };
        let still_running = running.clone();
        keyboard.threads.push(spawn("keys", move || {
            let _restores = RestoresTerminal;
            keys.run();
            drop(still_running);
        })?);
        keyboard.threads.push(
            // The editor's buffers need a larger stack than the other threads have.
            threads::start_large("keyboard", move || {
                let _restores = RestoresTerminal;
                edit(editor, &desk, &terminal, &sender, &asked);
                drop(running);
            })?,
        );
        Ok((keyboard, Some(printer)))
    }

    /// Returns the channel that receives the user's input, in order.
    pub fn typed(&self) -> &Receiver<Typed<T>> {
        &self.typed
    }

    /// Returns a channel that receives a value when a key is pressed.
    pub fn touched(&self) -> &Receiver<()> {
        &self.touched
    }

    /// Returns whether there is a line editor, and therefore a prompt on the screen.
    pub fn is_editing(&self) -> bool {
        self.terminal.is_some()
    }

    /// Lets the user type the next line at `prompt`. It replaces the prompt on the screen, if there
    /// is one, and keeps the text typed so far. `ahead` determines how to treat text typed before
    /// the user sees the prompt.
    pub fn prompt(&self, prompt: Prompt<T>, ahead: TypeAhead) {
        {
            let mut state = self.desk.state.lock();
            state.asked = Some((prompt, ahead));
            state.wake_wanted = true;
        }
        self.desk.waker.wake();
        if let Some(asks) = &self.asks {
            let _ = asks.try_send(());
        }
    }

    /// Takes over the terminal again after this process was stopped and has resumed. Another
    /// program may have left the terminal in another state.
    pub fn resume(&self) {
        self.desk.state.lock().was_stopped = true;
        self.desk.waker.wake();
    }

    /// Returns whether this process leaves the terminal alone because it is in the background.
    pub fn is_parked(&self) -> bool {
        self.desk.state.lock().is_parked
    }

    /// Makes the waiting thread check whether this process is in the foreground again.
    pub fn look(&self) {
        self.desk.waker.wake();
    }

    /// Ends the editor in any state, and restores the terminal. Takes at most a second, whatever
    /// the terminal does.
    pub fn close(mut self) {
        {
            let mut state = self.desk.state.lock();
            state.closing = true;
            state.wake_wanted = true;
        }
        self.desk.waker.wake();
        self.asks = None;
        if self.terminal.is_none() {
            // A hidden question restores the terminal's modes right before it ends.
            let _ = self.done.recv_timeout(slowed(PATIENCE));
        } else if self.done.recv_timeout(slowed(PATIENCE)) == Err(RecvTimeoutError::Disconnected) {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        drop(self.input.take());
        restore_terminal();
    }
}

/// The terminal that this process has taken over. A process has only one.
static TERMINAL: Mutex<Option<Arc<RawTerminal>>> = Mutex::new(None);

/// Restores the terminal's original state. Does not block.
pub(crate) fn restore_terminal() {
    if let Some(mut terminal) = TERMINAL.try_lock()
        && let Some(terminal) = terminal.take()
    {
        terminal.restore();
    }
}

/// Restores the terminal if it is dropped by a panic, so that the program can continue without an
/// editor.
struct RestoresTerminal;

impl Drop for RestoresTerminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            restore_terminal();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    threads::start(name, run)
}

/// The thread `keyboard`: shows prompts and edits lines until it is closed.
fn edit<T: Clone + PartialEq + Send + 'static>(
    mut editor: LineEditor,
    desk: &EditorShared<T>,
    terminal: &RawTerminal,
    typed: &Sender<Typed<T>>,
    asks: &Receiver<()>,
) {
    while asks.recv().is_ok() {
        let Some((mut prompt, mut ahead)) = desk.take() else {
            continue;
        };
        let mut line = (String::new(), 0);
        let mut begun: Option<T> = None;
        let done = loop {
            let (begun_under, passed_over) = match desk.begin(&prompt, ahead, terminal) {
                EditorAction::Close => return,
                EditorAction::Newer => {
                    if let Some(newer) = desk.take() {
                        replace(&mut editor, &mut prompt, newer.0, &mut line, &mut begun);
                        ahead = newer.1;
                    }
                    continue;
                }
                EditorAction::Show {
                    begun_under,
                    passed_over,
                } => (begun_under, passed_over),
            };
            if passed_over && typed.send(Typed::PassedOver).is_err() {
                return;
            }
            if let Some(under) = begun_under.filter(|under| *under != prompt.target) {
                begun.get_or_insert(under);
            }
            let hidden = prompt.ask == PromptKind::Hidden;
            let edited = editor.edit(&prompt.name, hidden, (&line.0, line.1));
            desk.finish();
            if editor.was_emptied() {
                begun = None;
            }
            match edited {
                Edited::Line(text) => {
                    if !hidden {
                        editor.remember(&text);
                    }
                    let under = begun.unwrap_or_else(|| prompt.target.clone());
                    break Typed::Line {
                        text,
                        under: Some(under),
                    };
                }
                Edited::Woken { text, cursor } => {
                    line = (text, cursor);
                    ahead = TypeAhead::KeepsTarget;
                    if let Some(newer) = desk.take() {
                        replace(&mut editor, &mut prompt, newer.0, &mut line, &mut begun);
                        ahead = newer.1;
                    }
                }
                Edited::End => break Typed::End,
                Edited::Failed { text, cursor } => {
                    // An error in the editor does not mean that the user wants to leave.
                    line = (text, cursor);
                    ahead = TypeAhead::KeepsTarget;
                    let _ = asks.recv_timeout(KEY_PAUSE);
                    if desk.is_closing() {
                        return;
                    }
                }
            }
        };
        let is_end = done == Typed::End;
        if typed.send(done).is_err() || is_end {
            return;
        }
    }
}

/// Switches to another prompt. The text typed so far keeps the target under which it was begun. An
/// answer never becomes chat, and chat never becomes an answer.
fn replace<T: Clone + PartialEq>(
    editor: &mut LineEditor,
    prompt: &mut Prompt<T>,
    newer: Prompt<T>,
    line: &mut (String, usize),
    begun: &mut Option<T>,
) {
    if line.0.is_empty() {
        // Nothing has been typed, or the text was deleted and its rest may still arrive.
    } else if prompt.ask != newer.ask {
        if prompt.ask != PromptKind::Hidden {
            editor.remember(&line.0);
        }
        *line = (String::new(), 0);
        // The user has not seen the new prompt yet, so the rest of the line is not for it.
        begun.get_or_insert_with(|| prompt.target.clone());
    } else if begun.is_none() {
        *begun = Some(prompt.target.clone());
    }
    if begun.as_ref() == Some(&newer.target) {
        *begun = None;
    }
    *prompt = newer;
}
