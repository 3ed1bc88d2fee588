//! The values that pass between the main loop and the thread that reads: prompts, and typed lines.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::keys::Key;
use super::tty::Waker;

/// Input from the user. `T` is the target of a prompt: the destination of a line typed at it.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed<T> {
    Line {
        text: String,
        /// The prompt's target when the first character was typed; `None` if there are no prompts.
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
    /// The thread that reads the input has failed.
    Failed,
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
    /// The text before the line. It may contain text from the network.
    pub name: String,
    pub ask: PromptKind,
    /// The destination of the line.
    pub target: T,
}

/// The handling of text that was typed before a prompt was shown.
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

/// An event for the reading thread, for [`Input::take`](super::Input::take).
pub struct InputEvent<T>(pub(super) ReaderEvent<T>);

pub(super) enum ReaderEvent<T> {
    /// A key, and the number of the prompt under which it was typed.
    Key {
        key: Key,
        prompt: u64,
    },
    /// The terminal accepts more output.
    Writable,
    /// This process is in the foreground again.
    Foreground,
    /// There was input, possibly only part of a line.
    Touched,
    Typed(Typed<T>),
}

/// The state that the main loop shares with the thread that reads.
pub(super) struct Shared<T> {
    /// The next prompt for plain lines.
    pub(super) asked: Mutex<Option<Prompt<T>>>,
    /// The number of the prompt on the screen.
    pub(super) prompt: AtomicU64,
    pub(super) wants_output: AtomicBool,
    /// Set if this process leaves the terminal alone because it is in the background.
    pub(super) is_parked: AtomicBool,
    pub(super) closing: AtomicBool,
    pub(super) waker: Waker,
}

impl<T> Shared<T> {
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
