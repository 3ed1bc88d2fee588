//! Where a person's lines come from: a line editor on a terminal, plain lines from anywhere else.
//!
//! On a terminal two threads work. `keys` reads what is typed, takes out what would end the editor,
//! and hands it on a line at a time through a pseudo-terminal; `keyboard` edits it. So what is typed
//! ahead stays with `keys`, which can throw it away before a question, and a prompt that is no longer
//! true can be replaced in the middle of a line.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rustix::event::Timespec;
use rustix::process::{Signal, kill_current_process_group};

use super::editor::{Edited, LineEditor, Manner, Printer};
use super::filter::{BURST, BURST_PAUSE, Filter, Key, LONGEST_PASTE, WAKE};
use super::tty::{
    Answered, EditorInput, HiddenTerminal, RawTerminal, Ready, Wakened, Waker, ask_hidden,
    is_in_foreground, is_interactive, wait, wait_to_be_woken, waker,
};
use crate::limits::THREAD_STACK;

/// What the person did. `T` is what a prompt stands for: where a line goes that is typed at it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed<T> {
    /// A line.
    Line {
        /// What was typed.
        text: String,
        /// What the prompt stood for when the first character was typed; `None` where there are no
        /// prompts.
        under: Option<T>,
    },
    /// A paste that is longer than any message. Nothing of it was taken.
    TooMuch {
        /// How many bytes it was.
        bytes: usize,
        /// How many lines.
        lines: usize,
    },
    /// Something was typed before a question was shown. It is no answer, and was thrown away.
    PassedOver,
    /// A question that must not be answered by a pipe has to be asked, and there is no terminal.
    NoTerminal,
    /// Ctrl-D, Ctrl-C, or the end of a pipe.
    End,
    /// The terminal has gone away.
    Gone,
}

/// How something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A line, which may have been typed ahead.
    Line,
    /// An answer: what was typed before the question was shown is none.
    Answer,
    /// An answer of which nothing is shown and nothing is remembered.
    Hidden,
}

/// What the person is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt<T> {
    /// Stands before the line.
    pub(crate) name: String,
    /// How.
    pub(crate) ask: Ask,
    /// What it stands for.
    pub(crate) target: T,
}

/// What is done with what was typed before a prompt was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// It was typed for the prompt before, which was replaced from outside.
    KeepsTarget,
    /// The person's own line led to the prompt, so it is meant for that.
    Meant,
    /// The person's own line could not be done, and they have not seen that: it is thrown away.
    ThrownAway,
}

/// What the threads share.
struct Desk<T> {
    state: Mutex<State<T>>,
    waker: Waker,
}

struct State<T> {
    /// The prompt that is to be shown, and what has been typed ahead of it.
    asked: Option<(Prompt<T>, Ahead)>,
    closing: bool,
    /// The editor has a prompt on the screen.
    is_editing: bool,
    /// The key that ends its line has been handed to it.
    line_ended: bool,
    /// It is to be woken, to look at the two at the top or to draw the line anew.
    wake_wanted: bool,
    /// This process was stopped, and goes on.
    was_stopped: bool,
    /// The terminal is left alone, because this process is in the background.
    is_parked: bool,
    /// What was typed and not handed on yet, and under which prompt.
    ahead: VecDeque<(Key, Option<T>)>,
    /// What the prompt on the screen stands for.
    visible: Option<T>,
}

impl<T> State<T> {
    /// Whether somebody else may have had the terminal: then its modes have to be set anew, and the
    /// line drawn.
    fn takes_terminal_up(&mut self) -> bool {
        let anew = self.was_stopped | self.is_parked;
        (self.was_stopped, self.is_parked) = (false, false);
        self.wake_wanted |= anew;
        anew
    }
}

/// What the editor is to do next.
enum Next<T> {
    /// Show this prompt; the line that waits was typed under another one, if there is a target here.
    Show {
        begun_under: Option<T>,
        passed_over: bool,
    },
    /// A newer one is there.
    Newer,
    Close,
}

/// The threads `keyboard` and `keys`.
pub(crate) struct Keyboard<T> {
    typed: Receiver<Typed<T>>,
    touched: Receiver<()>,
    /// Says that there is a prompt. Disconnected, it ends the thread that waits for one.
    asks: Option<Sender<()>>,
    desk: Arc<Desk<T>>,
    /// Disconnects when the threads end.
    done: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
    terminal: Option<Arc<RawTerminal>>,
    /// What the editor reads from. It has to be there for as long as the editor is.
    input: Option<Arc<EditorInput>>,
}

/// How long the threads may take to end: longer only where the terminal takes nothing any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// So much typed ahead is kept; what is more stays in the system's queue.
const AHEAD: usize = 4096;

impl<T: Clone + PartialEq + Send + 'static> Keyboard<T> {
    /// Starts reading: with a line editor if both standard input and output are a terminal, and
    /// then there is a printer, too.
    ///
    /// # Errors
    /// What the system says when it has no thread, or no pseudo-terminal, to give.
    pub(crate) fn start(manner: Manner) -> io::Result<(Keyboard<T>, Option<Printer>)> {
        let (sender, typed) = bounded(16);
        let (touch, touched) = bounded(1);
        let (running, done) = bounded::<()>(0);
        let (asks, asked) = bounded(1);
        let (waker, wakened) = waker()?;
        let desk = Arc::new(Desk {
            state: Mutex::new(State {
                asked: None,
                closing: false,
                is_editing: false,
                line_ended: false,
                wake_wanted: false,
                was_stopped: false,
                is_parked: false,
                ahead: VecDeque::new(),
                visible: None,
            }),
            waker,
        });
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
        // A terminal that can't move its cursor (TERM=dumb) gets plain lines, too.
        let only_in_foreground = manner.only_in_foreground;
        let editing = if is_interactive() {
            LineEditor::new(manner)
        } else {
            None
        };
        let Some((editor, printer)) = editing else {
            let reader = PlainReader {
                desk,
                typed: sender,
                touch,
                wakened,
                read: Vec::new(),
                hidden: None,
                at_end: false,
                only_in_foreground,
            };
            // Not joined: it may be in the middle of a read that nothing wakes.
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
            keys.run();
            drop(still_running);
        })?);
        keyboard.threads.push(
            // The editor's own buffers need more than the other threads' stacks.
            Builder::new().name("keyboard".to_owned()).spawn(move || {
                edit(editor, &desk, &terminal, &sender, &asked);
                drop(running);
            })?,
        );
        Ok((keyboard, Some(printer)))
    }

    /// What the person did, in order.
    pub(crate) fn typed(&self) -> &Receiver<Typed<T>> {
        &self.typed
    }

    /// Something comes on it when a key has been pressed.
    pub(crate) fn touched(&self) -> &Receiver<()> {
        &self.touched
    }

    /// Whether there is a line editor, and so a prompt on the screen.
    pub(crate) fn is_editing(&self) -> bool {
        self.terminal.is_some()
    }

    /// Lets the person type the next line under `prompt`, which replaces the one that may be on the
    /// screen, with what has been typed so far. `ahead` is about what they have typed before they see it.
    pub(crate) fn prompt(&self, prompt: Prompt<T>, ahead: Ahead) {
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

    /// This process was stopped and goes on: whoever has had the terminal meanwhile may have left it in
    /// another state.
    pub(crate) fn resume(&self) {
        self.desk.state.lock().was_stopped = true;
        self.desk.waker.wake();
    }

    /// Whether the terminal is left alone, because this process is in the background.
    pub(crate) fn is_parked(&self) -> bool {
        self.desk.state.lock().is_parked
    }

    /// This process may be in the foreground again: the thread that waits for that looks.
    pub(crate) fn look(&self) {
        self.desk.waker.wake();
    }

    /// Ends the editor, wherever it is, with the terminal as it was before. Takes no longer than a
    /// second, whatever the terminal does.
    pub(crate) fn close(mut self) {
        {
            let mut state = self.desk.state.lock();
            state.closing = true;
            state.wake_wanted = true;
        }
        self.desk.waker.wake();
        self.asks = None;
        if self.terminal.is_none() {
            // A question on the terminal sets its modes right before it ends.
            let _ = self.done.recv_timeout(PATIENCE);
        } else if self.done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected) {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        drop(self.input.take());
        restore_terminal();
    }
}

/// The terminal that this process has taken over. One, as a process has one terminal.
static TERMINAL: Mutex<Option<Arc<RawTerminal>>> = Mutex::new(None);

/// Puts the terminal back into the state in which it was found. Waits for nothing.
pub(crate) fn restore_terminal() {
    if let Some(mut terminal) = TERMINAL.try_lock()
        && let Some(terminal) = terminal.take()
    {
        terminal.restore();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(THREAD_STACK)
        .spawn(run)
}

impl<T: Clone + PartialEq> Desk<T> {
    fn take(&self) -> Option<(Prompt<T>, Ahead)> {
        self.state.lock().asked.take()
    }

    fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// The editor is about to show `prompt`.
    fn begin(&self, prompt: &Prompt<T>, ahead: Ahead, terminal: &RawTerminal) -> Next<T> {
        let mut state = self.state.lock();
        if state.closing {
            return Next::Close;
        }
        if state.asked.is_some() {
            return Next::Newer;
        }
        let mut passed_over = false;
        if prompt.ask != Ask::Line || ahead == Ahead::ThrownAway {
            passed_over = !state.ahead.is_empty() | terminal.flush_input();
            state.ahead.clear();
        }
        if ahead == Ahead::Meant {
            for (_, under) in &mut state.ahead {
                *under = Some(prompt.target.clone());
            }
        }
        let begun_under = state.ahead.front().and_then(|(_, under)| under.clone());
        state.visible = Some(prompt.target.clone());
        state.is_editing = true;
        state.line_ended = false;
        state.wake_wanted = false;
        drop(state);
        self.waker.wake();
        Next::Show {
            begun_under,
            passed_over,
        }
    }

    fn finish(&self) {
        self.state.lock().is_editing = false;
    }
}

/// The thread `keyboard`: shows prompts and edits lines until it is closed.
fn edit<T: Clone + PartialEq + Send + 'static>(
    mut editor: LineEditor,
    desk: &Desk<T>,
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
                Next::Close => return,
                Next::Newer => {
                    if let Some(newer) = desk.take() {
                        replace(&mut editor, &mut prompt, newer.0, &mut line, &mut begun);
                        ahead = newer.1;
                    }
                    continue;
                }
                Next::Show {
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
            let hidden = prompt.ask == Ask::Hidden;
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
                    ahead = Ahead::KeepsTarget;
                    if let Some(newer) = desk.take() {
                        replace(&mut editor, &mut prompt, newer.0, &mut line, &mut begun);
                        ahead = newer.1;
                    }
                }
                Edited::End => break Typed::End,
                Edited::Failed { text, cursor } => {
                    // An error of the editor is nobody's wish to leave.
                    line = (text, cursor);
                    ahead = Ahead::KeepsTarget;
                    let _ = asks.recv_timeout(BURST_PAUSE);
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

/// Goes over to another prompt, with what has been typed so far, which keeps the target that it was
/// begun under. An answer never becomes chat, nor chat an answer.
fn replace<T: Clone + PartialEq>(
    editor: &mut LineEditor,
    prompt: &mut Prompt<T>,
    newer: Prompt<T>,
    line: &mut (String, usize),
    begun: &mut Option<T>,
) {
    if line.0.is_empty() {
        // Nothing has been typed, or what was is gone and the rest of it may still come.
    } else if prompt.ask != newer.ask {
        if prompt.ask != Ask::Hidden {
            editor.remember(&line.0);
        }
        *line = (String::new(), 0);
        // The rest of it, typed by somebody who has not seen the new prompt yet, is none for it.
        begun.get_or_insert_with(|| prompt.target.clone());
    } else if begun.is_none() {
        *begun = Some(prompt.target.clone());
    }
    if begun.as_ref() == Some(&newer.target) {
        *begun = None;
    }
    *prompt = newer;
}

/// The thread `keys`.
struct Keys<T> {
    desk: Arc<Desk<T>>,
    typed: Sender<Typed<T>>,
    touch: Sender<()>,
    wakened: Wakened,
    terminal: Arc<RawTerminal>,
    input: Arc<EditorInput>,
    filter: Filter,
    only_in_foreground: bool,
}

impl<T: Clone + PartialEq> Keys<T> {
    fn run(mut self) {
        loop {
            self.hand_on();
            if self.desk.is_closing() {
                return;
            }
            if self.only_in_foreground && !is_in_foreground(&*self.terminal) {
                // To read now would stop this process. Somebody wakes this thread when that may
                // have changed.
                self.desk.state.lock().is_parked = true;
                wait_to_be_woken(&self.wakened, None);
                continue;
            }
            if self.desk.state.lock().takes_terminal_up() {
                let _ = self.terminal.make_raw();
                continue;
            }
            let is_full = self.desk.state.lock().ahead.len() > AHEAD;
            let ready = if is_full {
                wait_to_be_woken(&self.wakened, None)
            } else {
                wait(&*self.terminal, &self.wakened, self.patience())
            };
            let keys = match ready {
                Ready::Woken => continue,
                Ready::Nothing if self.filter.holds_escape() => self.filter.give_up_waiting(),
                Ready::Nothing => {
                    // The key that should have ended the line has not.
                    self.desk.state.lock().line_ended = false;
                    continue;
                }
                Ready::Input if self.only_in_foreground && !is_in_foreground(&*self.terminal) => {
                    continue;
                }
                Ready::Input => match self.read() {
                    Some(keys) => keys,
                    None => {
                        let _ = self.typed.send(Typed::Gone);
                        return;
                    }
                },
            };
            let _ = self.touch.try_send(());
            for key in keys {
                self.take(key);
            }
        }
    }

    /// How long to wait for keys, where something has to be done if none come.
    fn patience(&self) -> Option<Timespec> {
        let state = self.desk.state.lock();
        let waits = self.filter.holds_escape() || (state.is_editing && state.line_ended);
        waits.then(|| timespec(BURST_PAUSE))
    }

    /// What one read brings, or a whole burst. `None` when the terminal has gone.
    fn read(&mut self) -> Option<Vec<Key>> {
        let mut bytes = vec![0; 4096];
        let count = match self.terminal.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(Vec::new()),
            Err(_) => return None,
        };
        bytes.truncate(count);
        if count <= BURST || self.filter.is_in_paste(&bytes) {
            return Some(self.filter.take(&bytes));
        }
        // More than anybody types at once: the rest of it decides whether it is taken.
        let mut much = None;
        while wait(&*self.terminal, &self.wakened, Some(timespec(BURST_PAUSE))) == Ready::Input {
            let mut more = [0; 4096];
            let Ok(count @ 1..) = self.terminal.read(&mut more) else {
                break;
            };
            let more = &more[..count];
            if bytes.len() + count <= LONGEST_PASTE && much.is_none() {
                bytes.extend_from_slice(more);
                continue;
            }
            let (total, lines) = much.get_or_insert_with(|| (bytes.len(), line_ends(&bytes)));
            *total += count;
            *lines += line_ends(more);
        }
        Some(match much {
            None => self.filter.take(&bytes),
            Some((bytes, lines)) => vec![Key::TooMuch {
                bytes,
                lines: lines.max(1),
            }],
        })
    }

    /// Takes one key: most wait for the editor.
    fn take(&mut self, key: Key) {
        const CTRL_C: u8 = 3;
        match key {
            Key::TooMuch { bytes, lines } => {
                let _ = self.typed.send(Typed::TooMuch { bytes, lines });
            }
            Key::Suspend => {
                self.terminal.restore();
                let _ = kill_current_process_group(Signal::TSTP);
                // Here it goes on. Where somebody has put it into the background, it finds out.
                if is_in_foreground(&*self.terminal) {
                    let _ = self.terminal.make_raw();
                    self.desk.state.lock().wake_wanted = true;
                }
            }
            key => {
                let mut state = self.desk.state.lock();
                let is_asked = state.is_editing && !state.line_ended;
                if key == Key::Ends(CTRL_C) && !is_asked {
                    // Nobody is being asked for anything, and this must not wait.
                    state.ahead.clear();
                    drop(state);
                    let _ = self.typed.send(Typed::End);
                } else {
                    let under = state.visible.clone();
                    state.ahead.push_back((key, under));
                }
            }
        }
        self.hand_on();
    }

    /// Hands the editor what it may have: keys up to the one that ends its line, or word that there
    /// is another prompt. Nothing is written under the lock, for a stuck terminal holds it up.
    fn hand_on(&self) {
        loop {
            let mut state = self.desk.state.lock();
            if !state.is_editing || state.line_ended {
                return;
            }
            if state.wake_wanted {
                state.wake_wanted = false;
                // Until it begins anew, nothing more is for it.
                state.line_ended = true;
                drop(state);
                let keys: String = WAKE.iter().collect();
                return self.input.write(keys.as_bytes());
            }
            match state.ahead.pop_front() {
                None => return,
                Some((Key::Within(keys), _)) => {
                    drop(state);
                    self.input.write(&keys);
                }
                Some((Key::Ends(key), _)) => {
                    state.line_ended = true;
                    drop(state);
                    self.input.write(&[key]);
                }
                Some(_) => {}
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn line_ends(bytes: &[u8]) -> usize {
    let is_end = |byte: &&u8| matches!(byte, b'\n' | b'\r');
    bytes.iter().filter(is_end).count()
}

/// The thread `keyboard` where there is no line editor: one line each time that it is asked.
struct PlainReader<T> {
    desk: Arc<Desk<T>>,
    typed: Sender<Typed<T>>,
    touch: Sender<()>,
    wakened: Wakened,
    /// What was read and not told yet.
    read: Vec<u8>,
    /// After a question whose answer is not shown, nothing is shown until something else is asked.
    hidden: Option<HiddenTerminal>,
    at_end: bool,
    only_in_foreground: bool,
}

/// The longest line that is kept; what is more of it is passed over.
const LONGEST_LINE: usize = 1024 * 1024;

impl<T: Clone + PartialEq> PlainReader<T> {
    fn run(mut self, asks: &Receiver<()>) {
        while asks.recv().is_ok() {
            let mut prompt = self.desk.take().map(|(prompt, _)| prompt);
            while let Some(asking) = prompt.take() {
                let typed = if asking.ask == Ask::Hidden {
                    let mut hidden = self.hidden.take();
                    let answered = ask_hidden(&mut hidden, &asking.name, &self.wakened, || {
                        self.is_wanted_elsewhere()
                    });
                    self.hidden = hidden;
                    match answered {
                        Answered::Line(text) => Some(Typed::Line {
                            text,
                            under: Some(asking.target.clone()),
                        }),
                        Answered::Nothing => Some(Typed::End),
                        Answered::NoTerminal => Some(Typed::NoTerminal),
                        Answered::Woken => None,
                    }
                } else {
                    self.hidden = None;
                    self.next_line()
                };
                if self.desk.is_closing() {
                    return;
                }
                let Some(typed) = typed else {
                    // Woken: there is another prompt, or else this one still stands.
                    let newer = self.desk.take().map(|(prompt, _)| prompt);
                    prompt = Some(newer.unwrap_or(asking));
                    continue;
                };
                let is_end = typed == Typed::End;
                if self.typed.send(typed).is_err() || is_end {
                    return;
                }
            }
        }
    }

    /// The next line; `None` if this thread was woken for something else.
    fn next_line(&mut self) -> Option<Typed<T>> {
        let stdin = io::stdin();
        let is_terminal = stdin.is_terminal();
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + end).collect();
                return Some(line_of(&line));
            }
            if self.at_end {
                let line = std::mem::take(&mut self.read);
                return Some(if line.is_empty() {
                    Typed::End
                } else {
                    line_of(&line)
                });
            }
            self.read.truncate(LONGEST_LINE);
            searched = self.read.len();
            if self.only_in_foreground && is_terminal && !is_in_foreground(&stdin) {
                self.desk.state.lock().is_parked = true;
                wait_to_be_woken(&self.wakened, None);
                if self.is_wanted_elsewhere() {
                    return None;
                }
                continue;
            }
            self.desk.state.lock().is_parked = false;
            if wait(&stdin, &self.wakened, None) == Ready::Woken {
                if self.is_wanted_elsewhere() {
                    return None;
                }
                continue;
            }
            let mut more = [0; 16 * 1024];
            match rustix::io::read(&stdin, &mut more) {
                Ok(0) => self.at_end = true,
                Ok(count) => {
                    self.read.extend_from_slice(&more[..count]);
                    let _ = self.touch.try_send(());
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => self.at_end = true,
            }
        }
    }

    fn is_wanted_elsewhere(&self) -> bool {
        let state = self.desk.state.lock();
        state.closing || state.asked.is_some()
    }
}

/// A line without what ends it. What is no UTF-8 in it is shown as that.
fn line_of<T>(line: &[u8]) -> Typed<T> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Typed::Line {
        text: String::from_utf8_lossy(line).into_owned(),
        under: None,
    }
}
