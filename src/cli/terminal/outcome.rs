//! The outcomes of waiting for the user, the same on every system.

/// The outcome of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ready {
    /// There is input, or the end of the input has been reached.
    Input,
    /// Another thread has used the waker.
    Woken,
    /// The wait has timed out.
    Nothing,
}

/// The outcome of a question that is asked on the terminal itself.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(
    not(unix),
    expect(
        dead_code,
        reason = "on other systems, questions can't be asked on the terminal itself"
    )
)]
pub(super) enum Answered {
    Line(String),
    /// Ctrl-D or Ctrl-C, or the terminal was closed.
    Nothing,
    /// Another thread woke this one first.
    Woken,
    /// There is no terminal to ask on.
    NoTerminal,
}
