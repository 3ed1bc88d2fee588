//! Lines from a pipe, a file, or a terminal without a line editor.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::exchange::{InputEvent, PromptKind, ReaderEvent, Shared, Typed};
use super::tty::{
    HiddenTerminal, Wakened, ask_hidden, is_in_foreground, read_input, wait_for_input,
    wait_to_be_woken,
};
use super::{Answered, Ready};
use crate::text_file::{self, Fault};

/// The thread `keys` without a line editor: it reads one line per request.
pub(super) struct PlainReader<T> {
    shared: Arc<Shared<T>>,
    events: Sender<InputEvent<T>>,
    wakened: Wakened,
    /// Bytes that have been read but not delivered yet.
    read: Vec<u8>,
    /// The number of lines delivered so far.
    lines: usize,
    /// Set by a hidden question: echo stays off until a question of another kind.
    hidden: Option<HiddenTerminal>,
    at_end: bool,
    only_in_foreground: bool,
}

/// Maximum length of a line, in bytes; the rest of a longer line is dropped.
const LONGEST_LINE: usize = 1024 * 1024;

impl<T: Clone + PartialEq> PlainReader<T> {
    pub(super) fn new(
        shared: Arc<Shared<T>>,
        events: Sender<InputEvent<T>>,
        wakened: Wakened,
        only_in_foreground: bool,
    ) -> PlainReader<T> {
        PlainReader {
            shared,
            events,
            wakened,
            read: Vec::new(),
            lines: 0,
            hidden: None,
            at_end: false,
            only_in_foreground,
        }
    }

    pub(super) fn run(mut self) {
        let mut prompt = None;
        while !self.shared.is_closing() {
            prompt = self.shared.asked.lock().take().or(prompt);
            let Some(asking) = &prompt else {
                wait_to_be_woken(&self.wakened);
                continue;
            };
            let typed = if asking.ask == PromptKind::Hidden {
                let (name, target) = (asking.name.clone(), asking.target.clone());
                let mut hidden = self.hidden.take();
                let wanted = || self.is_wanted_elsewhere();
                let answered = ask_hidden(&mut hidden, &name, &self.wakened, wanted);
                self.hidden = hidden;
                match answered {
                    Answered::Line(text) => Some(Typed::Line {
                        text,
                        under: Some(target),
                    }),
                    Answered::Nothing => Some(Typed::End),
                    Answered::NoTerminal => Some(Typed::NoTerminal),
                    Answered::Woken => None,
                }
            } else {
                self.hidden = None;
                self.next_line()
            };
            // `None` means that this thread was woken. The prompt may have been replaced;
            // otherwise, it is still current.
            if let Some(typed) = typed {
                prompt = None;
                let is_end = typed == Typed::End;
                if self
                    .events
                    .send(InputEvent(ReaderEvent::Typed(typed)))
                    .is_err()
                    || is_end
                {
                    return;
                }
            }
        }
    }

    /// Reads the next line. `None` if this thread was woken for another reason.
    fn next_line(&mut self) -> Option<Typed<T>> {
        let stdin = io::stdin();
        let is_terminal = stdin.is_terminal();
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + end).collect();
                return Some(self.typed(&line));
            }
            if self.at_end {
                let line = std::mem::take(&mut self.read);
                return Some(if line.is_empty() {
                    Typed::End
                } else {
                    self.typed(&line)
                });
            }
            self.read.truncate(LONGEST_LINE);
            searched = self.read.len();
            if self.only_in_foreground && is_terminal && !is_in_foreground(&stdin) {
                self.shared.is_parked.store(true, Ordering::Release);
                wait_to_be_woken(&self.wakened);
                if self.is_wanted_elsewhere() {
                    return None;
                }
                continue;
            }
            self.shared.is_parked.store(false, Ordering::Release);
            if wait_for_input(&self.wakened) == Ready::Woken {
                if self.is_wanted_elsewhere() {
                    return None;
                }
                continue;
            }
            let mut more = [0; 16 * 1024];
            match read_input(&mut more) {
                Ok(0) => self.at_end = true,
                Ok(count) => {
                    self.read.extend_from_slice(&more[..count]);
                    let _ = self.events.send(InputEvent(ReaderEvent::Touched));
                }
                Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => {}
                // A closed terminal has no more input.
                Err(_) if is_terminal => self.at_end = true,
                Err(error) => {
                    self.at_end = true;
                    self.read.clear();
                    let error = Fault::from(error).of(Path::new(STANDARD_INPUT));
                    return Some(Typed::NotText(error.to_string()));
                }
            }
        }
    }

    fn is_wanted_elsewhere(&self) -> bool {
        self.shared.is_closing() || self.shared.asked.lock().is_some()
    }
}

/// The name of standard input in error messages.
const STANDARD_INPUT: &str = "standard input";

impl<T> PlainReader<T> {
    /// Converts a line. Removes the byte order mark from the first line.
    fn typed(&mut self, line: &[u8]) -> Typed<T> {
        self.lines += 1;
        let line = match self.lines {
            1 => text_file::without_mark(line),
            _ => Ok(line),
        };
        match line.and_then(text_file::line_of) {
            Ok(text) => Typed::Line {
                text: text.to_owned(),
                under: None,
            },
            Err(fault) => {
                let error = fault.at(Path::new(STANDARD_INPUT), self.lines);
                Typed::NotText(error.to_string())
            }
        }
    }
}
