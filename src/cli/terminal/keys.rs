//! The thread `keys`: reads the input, and passes it to the editor one line at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::editor_shared::{EditorShared, Incoming, Typed};
use super::filter::{
    BURST, BURST_PAUSE, Filter, KEY_PAUSE, Key, LONGEST_PASTE, TYPING_PAUSE, WAKE,
};
use super::outcome::Ready;
use super::tty::{
    EditorInput, RawTerminal, Wakened, is_in_foreground, stop_this_job, wait, wait_to_be_woken,
};

/// Maximum number of keys held for the editor; further input stays in the system's queue.
const AHEAD: usize = 4096;

/// The state of the thread `keys`.
pub(super) struct Keys<T> {
    pub(super) desk: Arc<EditorShared<T>>,
    pub(super) typed: Sender<Typed<T>>,
    pub(super) touch: Sender<()>,
    pub(super) wakened: Wakened,
    pub(super) terminal: Arc<RawTerminal>,
    pub(super) input: Arc<EditorInput>,
    pub(super) filter: Filter,
    pub(super) only_in_foreground: bool,
}

impl<T: Clone + PartialEq> Keys<T> {
    pub(super) fn run(mut self) {
        loop {
            self.hand_on();
            if self.desk.is_closing() {
                return;
            }
            if self.only_in_foreground && !is_in_foreground(&*self.terminal) {
                // A read would stop this process now. Another thread wakes this one when that may
                // have changed.
                self.desk.state.lock().is_parked = true;
                wait_to_be_woken(&self.wakened, None);
                continue;
            }
            if self.desk.state.lock().takes_terminal_up() {
                let _ = self.terminal.make_raw();
                continue;
            }
            if !self.filter.is_in_paste(&[]) {
                // Do this before waiting, because a thread that shows another prompt wakes this
                // thread first.
                let mut state = self.desk.state.lock();
                state.incoming = Incoming {
                    under: state.visible.clone(),
                    is_thrown_away: false,
                };
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
                    // The key that should have ended the line did not end it.
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
            let mut thrown_away = false;
            for key in keys {
                thrown_away |= !self.take(key);
            }
            if thrown_away {
                let _ = self.typed.send(Typed::PassedOver);
            }
        }
    }

    /// Returns the timeout for keys, if something must be done when none arrive.
    fn patience(&self) -> Option<Duration> {
        let state = self.desk.state.lock();
        let waits = self.filter.holds_escape() || (state.is_editing && state.line_ended);
        waits.then_some(KEY_PAUSE)
    }

    /// Reads the available input, or a whole burst. `None` if the terminal was closed.
    fn read(&mut self) -> Option<Vec<Key>> {
        let mut bytes = vec![0; 4096];
        let count = match self.terminal.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(Vec::new()),
            Err(_) => return None,
        };
        bytes.truncate(count);
        let mut much = None;
        loop {
            if self.filter.is_in_paste(&bytes) {
                return Some(self.filter.take(&bytes));
            }
            // Too much to have been typed by hand. Its total length decides whether it is accepted.
            let pause = if bytes.len() > BURST {
                BURST_PAUSE
            } else {
                TYPING_PAUSE
            };
            match wait(&*self.terminal, &self.wakened, Some(pause)) {
                Ready::Input => {}
                // The wake-up can wait until the whole burst has arrived.
                Ready::Woken => continue,
                Ready::Nothing => break,
            }
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

    /// Handles one key. Most keys wait for the editor. Returns `false` for a key that was typed
    /// before a question was shown.
    fn take(&mut self, key: Key) -> bool {
        const CTRL_C: u8 = 3;
        match key {
            Key::TooMuch { bytes, lines } => {
                let _ = self.typed.send(Typed::TooMuch { bytes, lines });
            }
            Key::Suspend => {
                self.terminal.restore();
                stop_this_job();
                // The process resumes here. If it is in the background now, `run` will notice.
                if is_in_foreground(&*self.terminal) {
                    let _ = self.terminal.make_raw();
                    self.desk.state.lock().wake_wanted = true;
                }
            }
            key => {
                let mut state = self.desk.state.lock();
                let is_asked = state.is_editing && !state.line_ended;
                if key == Key::Ends(CTRL_C) && !is_asked {
                    // No prompt is open, and this key must not wait.
                    state.ahead.clear();
                    drop(state);
                    let _ = self.typed.send(Typed::End);
                } else if state.incoming.is_thrown_away && key != Key::Ends(CTRL_C) {
                    return false;
                } else {
                    let under = state.incoming.under.clone();
                    state.ahead.push_back((key, under));
                }
            }
        }
        self.hand_on();
        true
    }

    /// Passes keys to the editor, up to the one that ends its line or those that announce another
    /// prompt. Writes nothing while holding the lock, because a stuck terminal would block the
    /// write.
    fn hand_on(&self) {
        loop {
            let mut state = self.desk.state.lock();
            if !state.is_editing || state.line_ended {
                return;
            }
            if state.wake_wanted {
                state.wake_wanted = false;
                // Pass no more keys to the editor until it begins the next line.
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

fn line_ends(bytes: &[u8]) -> usize {
    let is_end = |byte: &&u8| matches!(byte, b'\n' | b'\r');
    bytes.iter().filter(is_end).count()
}
