//! The user's input: through a line editor on a terminal, otherwise as plain lines.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, bounded, never};
use parking_lot::Mutex;

use super::draw::{Place, shown_line};
use super::exchange::{InputEvent, Prompt, PromptKind, ReaderEvent, Shared, TypeAhead, Typed};
use super::history::LineHistory;
use super::keyboard::KeyReader;
use super::keys::Key;
use super::line::{Complete, Edited, LineEditor};
use super::plain::PlainReader;
use super::tty::{RawTerminal, can_edit, columns, is_in_foreground, stop_this_job, waker};
use super::{Palette, time_of_day};
use portal_core::clock::slowed;
use portal_net::threads;
use portal_wire::printable;

/// The settings of the input.
pub struct InputOptions {
    /// The colours of the prompt.
    pub palette: Palette,
    pub complete: Complete,
    pub history: LineHistory,
    /// Leave the terminal alone while in the background, instead of being stopped by the system.
    pub only_in_foreground: bool,
}

/// The thread that reads, and the line being typed.
pub struct Input<T> {
    events: Receiver<InputEvent<T>>,
    shared: Arc<Shared<T>>,
    /// Disconnects when the thread exits.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    /// Input that [`Input::next_typed`] has not returned yet.
    typed: VecDeque<Typed<T>>,
    has_ended: bool,
    /// `None` means plain lines.
    editing: Option<Editing<T>>,
}

/// The line editor and the rows that it has drawn.
struct Editing<T> {
    terminal: Arc<RawTerminal>,
    palette: Palette,
    editor: LineEditor,
    /// The answer to a hidden question. Nothing else ever contains it.
    secret: String,
    prompt: Option<Prompt<T>>,
    /// The target under which the line was begun, if it is not that of the prompt.
    begun: Option<T>,
    /// Keys that wait for a prompt, each with the number of the prompt under which it was typed.
    ahead: VecDeque<(Key, u64)>,
    /// The number of the latest prompt, and its target.
    latest: (u64, Option<T>),
    /// Earlier prompts whose keys keep their targets.
    outdated: VecDeque<(u64, T)>,
    /// Keys typed at prompts earlier than this one are dropped.
    dropped_before: u64,
    has_dropped: bool,
    shows_time: bool,
    /// A line above the prompt that changes in place.
    status: String,
    /// Output that waits to be drawn above the prompt.
    pending: String,
    /// The rows on the screen, up to the cursor.
    drawn: Option<Drawn>,
    is_dirty: bool,
    /// Output that the terminal has not accepted yet.
    out: Vec<u8>,
}

struct Drawn {
    before_cursor: String,
    /// With its colours, if the cursor is at its end.
    whole: Option<String>,
    columns: usize,
}

/// Maximum number of keys that wait for a prompt.
const MAX_KEYS_AHEAD: usize = 4096;
/// Maximum number of earlier prompts whose keys may still arrive.
const MAX_OUTDATED: usize = 64;
/// Maximum number of bytes that wait for a slow terminal. Beyond this limit, the program should
/// stop producing output.
const MAX_BYTES_BEHIND: usize = 64 * 1024;
/// Maximum time, on exit, for each of two writes to the terminal, and for the thread to exit. Only
/// a terminal that accepts no output uses all of it.
const PATIENCE: Duration = Duration::from_secs(1);

impl<T: Clone + PartialEq + Send + 'static> Input<T> {
    /// Starts the thread that reads. If both standard input and output are terminals, there is a
    /// line editor.
    ///
    /// # Errors
    ///
    /// An I/O error if the system can't provide a thread, or the terminal's modes can't be set.
    pub fn start(options: InputOptions) -> io::Result<Input<T>> {
        let (sender, events) = bounded(64);
        let (running, done) = bounded::<()>(0);
        let (waker, wakened) = waker()?;
        let shared = Arc::new(Shared {
            asked: Mutex::new(None),
            prompt: AtomicU64::new(0),
            wants_output: AtomicBool::new(false),
            is_parked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            waker,
        });
        let mut input = Input {
            events,
            shared: Arc::clone(&shared),
            done,
            thread: None,
            typed: VecDeque::new(),
            has_ended: false,
            editing: None,
        };
        let only_in_foreground = options.only_in_foreground;
        if !can_edit() {
            let reader = PlainReader::new(shared, sender, wakened, only_in_foreground);
            // This thread is not joined, because it may be blocked in a read that can't be
            // interrupted.
            threads::start("keys", move || {
                reader.run();
                drop(running);
            })?;
            return Ok(input);
        }
        let terminal = Arc::new(RawTerminal::take_over()?);
        *TERMINAL.lock() = Some(Arc::clone(&terminal));
        let reader = KeyReader {
            shared,
            events: sender,
            wakened,
            terminal: Arc::clone(&terminal),
            only_in_foreground,
        };
        input.editing = Some(Editing {
            terminal,
            palette: options.palette,
            editor: LineEditor::new(options.history, options.complete),
            secret: String::new(),
            prompt: None,
            begun: None,
            ahead: VecDeque::new(),
            latest: (0, None),
            outdated: VecDeque::new(),
            dropped_before: 0,
            has_dropped: false,
            shows_time: true,
            status: String::new(),
            pending: String::new(),
            drawn: None,
            is_dirty: false,
            out: Vec::new(),
        });
        input.thread = Some(threads::start("keys", move || {
            reader.run();
            drop(running);
        })?);
        Ok(input)
    }

    /// Returns the events from the thread. Pass each of them to [`Input::take`].
    pub fn events(&self) -> &Receiver<InputEvent<T>> {
        &self.events
    }

    /// Returns whether there is a line editor, and therefore a prompt on the screen.
    pub fn is_editing(&self) -> bool {
        self.editing.is_some()
    }

    /// Returns whether the user has begun a line.
    pub fn has_draft(&self) -> bool {
        let editing = self.editing.as_ref();
        editing.is_some_and(|editing| !editing.editor.text().is_empty())
    }

    /// Handles an event. Returns whether it shows that the user is active.
    pub fn take(&mut self, event: Result<InputEvent<T>, RecvError>) -> bool {
        let Ok(InputEvent(event)) = event else {
            self.events = never();
            if !self.has_ended {
                self.typed.push_back(Typed::Failed);
            }
            return false;
        };
        match (event, &mut self.editing) {
            (ReaderEvent::Typed(typed), _) => {
                self.has_ended |= matches!(typed, Typed::End | Typed::Gone);
                self.typed.push_back(typed);
            }
            (ReaderEvent::Foreground, _) => self.resume(),
            (ReaderEvent::Key { key, prompt }, Some(editing)) => {
                if key == Key::Ctrl('z') {
                    editing.suspend();
                    self.resume();
                } else {
                    editing.take(key, prompt);
                }
                return true;
            }
            (ReaderEvent::Touched, _) => return true,
            // The next `draw` writes the rest.
            (ReaderEvent::Writable | ReaderEvent::Key { .. }, _) => {}
        }
        false
    }

    /// Returns the next input that results from the events so far.
    pub fn next_typed(&mut self) -> Option<Typed<T>> {
        let next = self.typed.pop_front();
        next.or_else(|| self.editing.as_mut()?.next())
    }

    /// Lets the user type the next line at `prompt`. It replaces the prompt on the screen, if there
    /// is one, and keeps the text typed so far. `ahead` determines how to treat text typed before
    /// the user sees the prompt.
    pub fn prompt(&mut self, prompt: Prompt<T>, ahead: TypeAhead) {
        match &mut self.editing {
            None => *self.shared.asked.lock() = Some(prompt),
            Some(editing) => {
                let number = editing.ask(prompt, ahead);
                self.shared.prompt.store(number, Ordering::Release);
            }
        }
        self.shared.waker.wake();
    }

    /// Changes the text of the prompt on the screen, whose target stays the same.
    pub fn rename(&mut self, name: String) {
        if let Some(editing) = &mut self.editing
            && let Some(prompt) = &mut editing.prompt
        {
            editing.is_dirty |= prompt.name != name;
            prompt.name = name;
        }
    }

    /// Prints lines above the prompt, at the next [`Input::draw`]. They must be safe for a
    /// terminal.
    pub fn print(&mut self, lines: &str) {
        if let Some(editing) = &mut self.editing {
            editing.pending += lines;
        }
    }

    /// Sets the line above the prompt. An empty one is not shown.
    pub fn set_status(&mut self, status: &str) {
        if let Some(editing) = &mut self.editing {
            editing.is_dirty |= editing.status != status;
            status.clone_into(&mut editing.status);
        }
    }

    /// Shows or hides the time of day in the prompt.
    pub fn show_time(&mut self, shows_time: bool) {
        if let Some(editing) = &mut self.editing {
            editing.is_dirty |= editing.shows_time != shows_time;
            editing.shows_time = shows_time;
        }
    }

    /// Returns whether so much output is waiting for the terminal that the program should produce
    /// no more.
    pub fn is_behind(&self) -> bool {
        let editing = self.editing.as_ref();
        editing.is_some_and(|it| it.pending.len() + it.out.len() > MAX_BYTES_BEHIND)
    }

    /// Draws the changes. Never blocks: the rest follows when the terminal accepts it.
    pub fn draw(&mut self) {
        let is_parked = self.is_parked();
        if let Some(editing) = &mut self.editing {
            editing.draw(is_parked);
            if !editing.out.is_empty() && !self.shared.wants_output.swap(true, Ordering::AcqRel) {
                self.shared.waker.wake();
            }
        }
    }

    /// Redraws the prompt for the terminal's new size.
    pub fn resize(&mut self) {
        if let Some(editing) = &mut self.editing {
            editing.is_dirty = true;
        }
    }

    /// Takes over the terminal again after this process was stopped and has resumed. Another
    /// program may have left the terminal in a different state.
    pub fn resume(&mut self) {
        if let Some(editing) = &mut self.editing
            && is_in_foreground(&*editing.terminal)
        {
            let _ = editing.terminal.make_raw();
            editing.is_dirty = true;
            editing.drawn = Some(Drawn {
                before_cursor: String::new(),
                whole: None,
                columns: columns(),
            });
        }
        self.look();
    }

    /// Returns whether this process leaves the terminal alone because it is in the background.
    pub fn is_parked(&self) -> bool {
        self.shared.is_parked.load(Ordering::Acquire)
    }

    /// Makes the thread check whether this process is in the foreground again.
    pub fn look(&self) {
        self.shared.waker.wake();
    }

    /// Draws what remains, stops the thread and restores the terminal. Takes at most three seconds,
    /// whatever the terminal does.
    pub fn close(mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.waker.wake();
        // The thread may be waiting for room in the channel.
        self.events = never();
        let is_parked = self.is_parked();
        if let Some(editing) = &mut self.editing {
            editing.leave_line();
            editing.prompt = None;
            // The first round may only write output that the terminal did not accept before.
            for _ in 0..2 {
                editing.draw(is_parked);
                let out = std::mem::take(&mut editing.out);
                editing.terminal.write_within(&out, slowed(PATIENCE));
            }
        }
        if self.done.recv_timeout(slowed(PATIENCE)) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Input<T> {
    /// Restores the terminal, even after a panic.
    fn drop(&mut self) {
        restore_terminal();
    }
}

impl<T: Clone + PartialEq> Editing<T> {
    fn take(&mut self, key: Key, prompt: u64) {
        if key == Key::Ctrl('c') && self.prompt.is_none() {
            // This key must take effect immediately.
            self.ahead.clear();
        }
        if self.ahead.len() < MAX_KEYS_AHEAD {
            self.ahead.push_back((key, prompt));
        } else {
            self.has_dropped = true;
        }
    }

    fn next(&mut self) -> Option<Typed<T>> {
        while let Some((key, _)) = self.ahead.front() {
            let is_interrupt = *key == Key::Ctrl('c');
            if self.prompt.is_none() && !is_interrupt {
                break;
            }
            let (key, under) = self.ahead.pop_front()?;
            if under < self.dropped_before && !is_interrupt {
                self.has_dropped = true;
                continue;
            }
            if self.has_dropped {
                self.ahead.push_front((key, under));
                break;
            }
            let typed = self.press(key, under);
            if typed.is_some() {
                return typed;
            }
        }
        std::mem::take(&mut self.has_dropped).then_some(Typed::PassedOver)
    }

    /// Prepares to show `prompt`. Returns its number.
    fn ask(&mut self, prompt: Prompt<T>, ahead: TypeAhead) -> u64 {
        self.is_dirty = true;
        let (number, target) = (self.latest.0 + 1, prompt.target.clone());
        let (before, under) = std::mem::replace(&mut self.latest, (number, Some(target)));
        if prompt.ask != PromptKind::Line || ahead == TypeAhead::ThrownAway {
            self.dropped_before = number;
            self.has_dropped |= self.terminal.flush_input();
        }
        match (ahead, under) {
            (TypeAhead::Meant, _) => self.outdated.clear(),
            (_, Some(under)) => self.outdated.push_back((before, under)),
            (_, None) => {}
        }
        if self.outdated.len() > MAX_OUTDATED {
            self.outdated.pop_front();
        }
        if let Some(old) = self.prompt.take() {
            self.replace(old, &prompt);
        }
        self.prompt = Some(prompt);
        number
    }

    /// Switches to another prompt. The text typed so far keeps the target under which it was begun.
    /// An answer never becomes chat, and chat never becomes an answer.
    fn replace(&mut self, old: Prompt<T>, newer: &Prompt<T>) {
        let is_empty = self.editor.text().is_empty() && self.secret.is_empty();
        if !is_empty && old.ask != newer.ask {
            self.secret.clear();
            let line = self.editor.take_line();
            self.editor.remember(&line);
        }
        if !is_empty {
            // Do this even if the line was taken away: the rest of the line is not for the new
            // prompt, which the user has not seen yet.
            self.begun.get_or_insert(old.target);
        }
        self.begun.take_if(|begun| *begun == newer.target);
    }

    /// Handles a key at the prompt.
    fn press(&mut self, key: Key, number: u64) -> Option<Typed<T>> {
        let prompt = self.prompt.clone();
        if let Key::TooMuch { bytes, lines } = key {
            return Some(Typed::TooMuch { bytes, lines });
        }
        let Some(prompt) = prompt else {
            return Some(Typed::End);
        };
        self.is_dirty = true;
        if key == Key::Ctrl('l') {
            // Clear only the output that precedes the key.
            self.pending += "\x1b[H\x1b[2J";
            return None;
        }
        let is_hidden = prompt.ask == PromptKind::Hidden;
        let was_empty = self.is_empty();
        if was_empty && self.begun.is_none() && number < self.latest.0 {
            let under = self.outdated.iter().find(|(last, _)| *last >= number);
            let under = under.map(|(_, under)| under.clone());
            self.begun = under.filter(|under| *under != prompt.target);
        }
        let edited = if is_hidden {
            self.press_hidden(key)
        } else {
            if key == Key::Enter {
                self.editor.end_search();
                self.leave_line();
            }
            self.editor.press(key)
        };
        match edited {
            Edited::More => {
                if self.is_empty() && !was_empty {
                    self.begun = None;
                }
                None
            }
            Edited::End => Some(Typed::End),
            Edited::Line(text) => {
                if is_hidden {
                    self.leave_line();
                } else {
                    self.editor.remember(&text);
                }
                self.prompt = None;
                let under = Some(self.begun.take().unwrap_or(prompt.target));
                Some(Typed::Line { text, under })
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.editor.text().is_empty() && self.secret.is_empty()
    }

    /// Handles a key at a hidden question. There is no cursor, no history, and nothing to undo.
    fn press_hidden(&mut self, key: Key) -> Edited {
        let secret = &mut self.secret;
        match key {
            Key::Enter => return Edited::Line(std::mem::take(secret)),
            Key::Ctrl('c' | 'd') if secret.is_empty() => return Edited::End,
            Key::Ctrl('c' | 'u') => secret.clear(),
            Key::Text(text) | Key::Paste(text) => secret.push_str(&text),
            Key::Backspace => drop(secret.pop()),
            Key::Ctrl('w') => {
                let words = secret.trim_end();
                let end = words.rfind(' ').map_or(0, |space| space + 1);
                secret.truncate(end);
            }
            _ => {}
        }
        Edited::More
    }

    /// Leaves the line on the screen, as it is.
    fn leave_line(&mut self) {
        if self.prompt.is_some() {
            let (whole, _) = self.rows();
            self.pending += &(whole + "\n");
        }
    }

    /// The rows of the status, the prompt and the line with their colours, and the plain text
    /// before the cursor.
    fn rows(&self) -> (String, [String; 2]) {
        let Some(prompt) = &self.prompt else {
            return (String::new(), Default::default());
        };
        let palette = self.palette;
        let status = match &*self.status {
            "" => String::new(),
            status => status.to_owned() + "\n",
        };
        let time = match self.shows_time {
            true => time_of_day() + " ",
            false => String::new(),
        };
        let name = self.editor.search_prompt();
        let name = printable(name.as_ref().unwrap_or(&prompt.name)) + "> ";
        let (line, cursor) = match prompt.ask {
            PromptKind::Hidden => (String::new(), 0),
            _ => shown_line(self.editor.text(), self.editor.cursor()),
        };
        let before = format!("{status}{time}{name}");
        let painted = palette.notice(&status) + &palette.faint(&time) + &palette.own(&name) + &line;
        (painted, [before.clone() + &line[..cursor], before + &line])
    }

    fn draw(&mut self, is_parked: bool) {
        if !self.out.is_empty() {
            self.flush();
        }
        if !self.out.is_empty() || self.pending.is_empty() && !self.is_dirty {
            return;
        }
        self.is_dirty = false;
        let columns = columns();
        let (painted, [before_cursor, plain]) = match is_parked {
            true => Default::default(),
            false => self.rows(),
        };
        let end = Place::default().after(&plain, columns);
        let at_edge = end.column == 0 && end.row > 0 && !plain.ends_with('\n');
        let is_at_end = before_cursor == plain;
        let mut frame = String::new();
        let drawn = self.drawn.take();
        let old = drawn.as_ref().and_then(|drawn| drawn.whole.as_ref());
        let same_width = drawn.as_ref().is_some_and(|drawn| drawn.columns == columns);
        match old.and_then(|old| painted.strip_prefix(&**old)) {
            Some(more) if self.pending.is_empty() && same_width && is_at_end => frame += more,
            _ => {
                if let Some(drawn) = &drawn {
                    // A terminal whose width has changed has wrapped the rows again.
                    let rows = Place::default().after(&drawn.before_cursor, columns).row;
                    frame += "\r";
                    if rows > 0 {
                        frame += &format!("\x1b[{rows}A");
                    }
                    frame += "\x1b[J";
                }
                frame += &std::mem::take(&mut self.pending);
                frame += &painted;
            }
        }
        if at_edge && !frame.is_empty() {
            // Only another character makes the terminal begin the next row.
            frame += " \r";
        }
        let cursor = Place::default().after(&before_cursor, columns);
        if !is_at_end {
            if end.row > cursor.row {
                frame += &format!("\x1b[{}A", end.row - cursor.row);
            }
            frame += "\r";
            if cursor.column > 0 {
                frame += &format!("\x1b[{}C", cursor.column);
            }
        }
        if !painted.is_empty() {
            self.drawn = Some(Drawn {
                before_cursor,
                whole: is_at_end.then_some(painted),
                columns,
            });
        }
        self.out = frame.into_bytes();
        self.flush();
    }

    fn flush(&mut self) {
        while !self.out.is_empty() {
            match self.terminal.write(&self.out) {
                Ok(0) => return,
                Ok(count) => drop(self.out.drain(..count)),
                // The terminal is gone, which the reading thread reports.
                Err(_) => self.out.clear(),
            }
        }
    }

    /// Stops this program, as Ctrl-Z does, until the shell resumes it.
    fn suspend(&mut self) {
        let prompt = self.prompt.take();
        self.is_dirty = true;
        self.draw(false);
        self.prompt = prompt;
        self.terminal.restore();
        stop_this_job();
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

/// Makes a panic in any thread restore the terminal before its message is printed. Returns a
/// channel that receives a value after a panic, so that the program can exit.
pub fn restore_after_panics() -> Receiver<()> {
    let (sender, panicked) = bounded(1);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore_terminal();
        before(info);
        let _ = sender.try_send(());
    }));
    panicked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_any_thread_is_reported() {
        let panicked = restore_after_panics();
        assert!(panicked.is_empty());
        let thread = std::thread::spawn(|| panic!("a test of the report"));
        thread.join().unwrap_err();
        assert_eq!(panicked.try_recv(), Ok(()));
    }
}
