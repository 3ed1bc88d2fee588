//! State shared by the keyboard's threads: the prompt to show, and the keys typed ahead of it.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::filter::Key;
use super::tty::{RawTerminal, Waker};

/// Input from the user. `T` is the target of a prompt: the destination of a line typed at it.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed<T> {
    Line {
        text: String,
        /// The prompt's target when the first character was typed; `None` without prompts.
        under: Option<T>,
    },
    /// A paste longer than the longest message. It was discarded.
    TooMuch { bytes: usize, lines: usize },
    /// A line that is not UTF-8 text, or input that can't be read. Contains the reason and the fix.
    NotText(String),
    /// Text that was typed before a question was shown. It is not an answer, and was discarded.
    PassedOver,
    /// There is no terminal for a question that must not be answered from a pipe.
    NoTerminal,
    /// Ctrl-D, Ctrl-C, or the end of a pipe.
    End,
    /// The terminal was closed.
    Gone,
}

/// The kind of input that a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// A line, which may have been typed ahead.
    Line,
    /// An answer. Text typed before the question was shown does not count.
    Answer,
    /// An answer that is neither shown nor stored.
    Hidden,
}

/// A request for input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt<T> {
    /// The text before the line.
    pub name: String,
    pub ask: PromptKind,
    /// The destination of the line.
    pub target: T,
}

/// How to treat text that was typed before a prompt was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeAhead {
    /// It belongs to the previous prompt, which was replaced because of an event other than
    /// keyboard input.
    KeepsTarget,
    /// It belongs to the new prompt, because the user's own line led to that prompt.
    Meant,
    /// It is discarded: the user's own line failed, and the user has not seen that yet.
    ThrownAway,
}

pub(super) struct EditorShared<T> {
    pub(super) state: Mutex<EditorState<T>>,
    pub(super) waker: Waker,
}

pub(super) struct EditorState<T> {
    /// The next prompt to show, and how to treat text typed ahead of it.
    pub(super) asked: Option<(Prompt<T>, TypeAhead)>,
    pub(super) closing: bool,
    /// Set if the editor is showing a prompt.
    pub(super) is_editing: bool,
    /// Set if the editor has received the key that ends its line.
    pub(super) line_ended: bool,
    /// Set if the editor must wake up, to check `asked` and `closing` or to redraw the line.
    pub(super) wake_wanted: bool,
    /// Set if this process was stopped and has resumed.
    pub(super) was_stopped: bool,
    /// Set if this process leaves the terminal alone because it is in the background.
    pub(super) is_parked: bool,
    /// Keys that have not been passed on yet, each with the target under which it was typed.
    pub(super) ahead: VecDeque<(Key, Option<T>)>,
    /// The target of the prompt on the screen.
    pub(super) visible: Option<T>,
    /// How to treat the input being read. A new prompt updates this under the same lock.
    pub(super) incoming: Incoming<T>,
}

/// The prompt under which the input being read was typed.
#[derive(Debug)]
pub(super) struct Incoming<T> {
    pub(super) under: Option<T>,
    /// Set if the input was typed before a question was shown, or before the user saw an error.
    pub(super) is_thrown_away: bool,
}

impl<T> EditorState<T> {
    /// Returns whether another program may have used the terminal. Its modes must then be set
    /// again, and the line redrawn.
    pub(super) fn takes_terminal_up(&mut self) -> bool {
        let again = self.was_stopped | self.is_parked;
        (self.was_stopped, self.is_parked) = (false, false);
        self.wake_wanted |= again;
        again
    }
}

/// The editor's next step.
pub(super) enum EditorAction<T> {
    /// Show this prompt. `begun_under` is the target under which the waiting line was typed, if
    /// there is one.
    Show {
        begun_under: Option<T>,
        passed_over: bool,
    },
    /// There is a newer prompt to show instead.
    Newer,
    Close,
}

impl<T: Clone + PartialEq> EditorShared<T> {
    pub(super) fn new(waker: Waker) -> EditorShared<T> {
        EditorShared {
            state: Mutex::new(EditorState {
                asked: None,
                closing: false,
                is_editing: false,
                line_ended: false,
                wake_wanted: false,
                was_stopped: false,
                is_parked: false,
                ahead: VecDeque::new(),
                visible: None,
                incoming: Incoming {
                    under: None,
                    is_thrown_away: false,
                },
            }),
            waker,
        }
    }

    pub(super) fn take(&self) -> Option<(Prompt<T>, TypeAhead)> {
        self.state.lock().asked.take()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Prepares the editor to show `prompt`.
    pub(super) fn begin(
        &self,
        prompt: &Prompt<T>,
        ahead: TypeAhead,
        terminal: &RawTerminal,
    ) -> EditorAction<T> {
        let mut state = self.state.lock();
        if state.closing {
            return EditorAction::Close;
        }
        if state.asked.is_some() {
            return EditorAction::Newer;
        }
        let mut passed_over = false;
        if prompt.ask != PromptKind::Line || ahead == TypeAhead::ThrownAway {
            passed_over = !state.ahead.is_empty() | terminal.flush_input();
            state.ahead.clear();
            state.incoming.is_thrown_away = true;
        }
        if ahead == TypeAhead::Meant {
            state.incoming.under = Some(prompt.target.clone());
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
        EditorAction::Show {
            begun_under,
            passed_over,
        }
    }

    pub(super) fn finish(&self) {
        self.state.lock().is_editing = false;
    }
}
