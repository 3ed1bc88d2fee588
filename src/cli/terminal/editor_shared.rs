//! What the threads of a keyboard share: the prompt that is to be shown, and what has been typed
//! ahead of it.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::filter::Key;
use super::tty::{RawTerminal, Waker};

/// What the person did. `T` is what a prompt stands for: where a line goes that is typed at it.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed<T> {
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
    /// A line that is not UTF-8 text, or input that can't be read: the reason and the fix.
    NotText(String),
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
pub enum PromptKind {
    /// A line, which may have been typed ahead.
    Line,
    /// An answer: what was typed before the question was shown is none.
    Answer,
    /// An answer of which nothing is shown and nothing is remembered.
    Hidden,
}

/// What the person is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt<T> {
    /// Stands before the line.
    pub name: String,
    /// How.
    pub ask: PromptKind,
    /// What it stands for.
    pub target: T,
}

/// What is done with what was typed before a prompt was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeAhead {
    /// It was typed for the prompt before, which was replaced from outside.
    KeepsTarget,
    /// The person's own line led to the prompt, so it is meant for that.
    Meant,
    /// The person's own line could not be done, and they have not seen that: it is thrown away.
    ThrownAway,
}

/// What the threads share.
pub(super) struct EditorShared<T> {
    pub(super) state: Mutex<EditorState<T>>,
    pub(super) waker: Waker,
}

pub(super) struct EditorState<T> {
    /// The prompt that is to be shown, and what has been typed ahead of it.
    pub(super) asked: Option<(Prompt<T>, TypeAhead)>,
    pub(super) closing: bool,
    /// The editor has a prompt on the screen.
    pub(super) is_editing: bool,
    /// The key that ends its line has been handed to it.
    pub(super) line_ended: bool,
    /// It is to be woken, to look at the two at the top or to draw the line anew.
    pub(super) wake_wanted: bool,
    /// This process was stopped, and goes on.
    pub(super) was_stopped: bool,
    /// The terminal is left alone, because this process is in the background.
    pub(super) is_parked: bool,
    /// What was typed and not handed on yet, and under which prompt.
    pub(super) ahead: VecDeque<(Key, Option<T>)>,
    /// What the prompt on the screen stands for.
    pub(super) visible: Option<T>,
    /// What becomes of that which is being read: no prompt comes between it and its reader.
    pub(super) incoming: Incoming<T>,
}

/// Under which prompt that was typed which is being read now.
#[derive(Debug)]
pub(super) struct Incoming<T> {
    pub(super) under: Option<T>,
    /// It has been typed before a question was shown, or before a refusal was seen.
    pub(super) is_thrown_away: bool,
}

impl<T> EditorState<T> {
    /// Whether somebody else may have had the terminal: then its modes have to be set anew, and the
    /// line drawn.
    pub(super) fn takes_terminal_up(&mut self) -> bool {
        let anew = self.was_stopped | self.is_parked;
        (self.was_stopped, self.is_parked) = (false, false);
        self.wake_wanted |= anew;
        anew
    }
}

/// What the editor is to do next.
pub(super) enum EditorAction<T> {
    /// Show this prompt; the line that waits was typed under another one, if there is a target
    /// here.
    Show {
        begun_under: Option<T>,
        passed_over: bool,
    },
    /// A newer one is there.
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

    /// The editor is about to show `prompt`.
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
