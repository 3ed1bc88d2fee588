//! The thread `keys`: it reads the terminal, and sends keys.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::Ready;
use super::exchange::{InputEvent, ReaderEvent, Shared, Typed};
use super::keys::{CTRL_C, Key, KeyParser, LONGEST_PASTE, line_ends};
use super::tty::{RawTerminal, Wakened, is_in_foreground};

/// More bytes than this in one read can't have been typed by hand: they are a paste from a terminal
/// without bracketed paste.
const BURST: usize = 512;

/// A burst ends after a pause of this length. Shorter pauses occur within a paste on a busy
/// machine.
const BURST_PAUSE: Duration = Duration::from_millis(200);

/// Time to wait for more input after a few bytes, because they may be the beginning of a burst.
const TYPING_PAUSE: Duration = Duration::from_millis(2);

/// Maximum time between the first and the last byte of an escape sequence.
const SEQUENCE_TIME: Duration = Duration::from_millis(500);

/// A paste whose end marker does not arrive ends after a pause of this length.
const PASTE_PAUSE: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct KeyReader<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) events: Sender<InputEvent<T>>,
    pub(super) wakened: Wakened,
    pub(super) terminal: Arc<RawTerminal>,
    pub(super) only_in_foreground: bool,
}

impl<T> KeyReader<T> {
    pub(super) fn run(self) {
        let mut parser = KeyParser::default();
        let (mut prompt, mut begun) = (0, Instant::now());
        while !self.shared.is_closing() {
            if self.must_wait() {
                continue;
            }
            if !parser.is_waiting() {
                // Load this before the wait, because another prompt wakes this thread after the
                // prompt was drawn.
                prompt = self.shared.prompt.load(Ordering::Acquire);
            }
            let limit = match parser.is_in_paste() {
                // A short pause ends a cancelled paste, so that the next keys count again.
                true if parser.is_cancelled() => BURST_PAUSE,
                true => PASTE_PAUSE,
                false => SEQUENCE_TIME.saturating_sub(begun.elapsed()),
            };
            let writes = self.shared.wants_output.load(Ordering::Acquire);
            let limit = parser.is_waiting().then_some(limit);
            let keys = match self.terminal.wait((true, writes), &self.wakened, limit) {
                Ready::Woken => continue,
                Ready::Output => {
                    self.shared.wants_output.store(false, Ordering::Release);
                    if self.events.send(InputEvent(ReaderEvent::Writable)).is_err() {
                        return;
                    }
                    continue;
                }
                Ready::Nothing => parser.give_up(),
                Ready::Input if self.is_in_background() => continue,
                Ready::Input => {
                    let Some(keys) = self.read(&mut parser) else {
                        let gone = ReaderEvent::Typed(Typed::Gone);
                        let _ = self.events.send(InputEvent(gone));
                        return;
                    };
                    if limit.is_none() || !keys.is_empty() {
                        begun = Instant::now();
                    }
                    keys
                }
            };
            for key in keys {
                if self
                    .events
                    .send(InputEvent(ReaderEvent::Key { key, prompt }))
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    fn is_in_background(&self) -> bool {
        self.only_in_foreground && !is_in_foreground(&*self.terminal)
    }

    /// Waits while a read would stop this process. Another thread wakes this one when that may have
    /// changed. Returns whether it has waited.
    fn must_wait(&self) -> bool {
        let is_parked = self.is_in_background();
        let was_parked = self.shared.is_parked.swap(is_parked, Ordering::AcqRel);
        if is_parked {
            self.terminal.wait((false, false), &self.wakened, None);
        } else if was_parked {
            let _ = self.events.send(InputEvent(ReaderEvent::Foreground));
        }
        is_parked
    }

    /// Reads the available input, or a whole burst. `None` if the terminal was closed.
    fn read(&self, parser: &mut KeyParser) -> Option<Vec<Key>> {
        let mut bytes = vec![0; 4096];
        let count = match self.terminal.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(Vec::new()),
            Err(_) => return None,
        };
        bytes.truncate(count);
        let mut keys = parser.take(&bytes);
        if parser.is_waiting() || count <= BURST && !self.has_more(TYPING_PAUSE) {
            return Some(keys);
        }
        // Too much to have been typed by hand. Its total length decides whether it is accepted.
        let (mut size, mut lines, mut is_interrupted) = (count, line_ends(&bytes), false);
        while self.has_more(if size > BURST {
            BURST_PAUSE
        } else {
            TYPING_PAUSE
        }) {
            let mut more = [0; 4096];
            let Ok(count @ 1..) = self.terminal.read(&mut more) else {
                break;
            };
            size += count;
            lines += line_ends(&more[..count]);
            if size <= LONGEST_PASTE {
                keys.extend(parser.take(&more[..count]));
            }
            if parser.is_in_paste() {
                return Some(keys);
            }
            // An endless flood must not hold back a Ctrl-C.
            is_interrupted |= size > LONGEST_PASTE && more[..count].contains(&CTRL_C);
            if is_interrupted {
                break;
            }
        }
        if size > LONGEST_PASTE {
            let (bytes, lines) = (size, lines.max(1));
            keys = vec![Key::TooMuch { bytes, lines }];
            keys.extend(is_interrupted.then_some(Key::Ctrl('c')));
        }
        Some(keys)
    }

    fn has_more(&self, pause: Duration) -> bool {
        loop {
            match self
                .terminal
                .wait((true, false), &self.wakened, Some(pause))
            {
                Ready::Input => return true,
                // The event that woke this thread can wait until the whole burst has arrived.
                // Otherwise, if the event was a new prompt, the rest of the burst would count as
                // typed at that prompt.
                Ready::Woken if pause == BURST_PAUSE => {}
                Ready::Woken => return false,
                Ready::Output | Ready::Nothing => return false,
            }
        }
    }
}
