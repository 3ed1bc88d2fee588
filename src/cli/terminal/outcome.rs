//! What waiting for a person came to, on every system.

/// What a wait came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ready {
    /// There is something to read, or nothing will ever come.
    Input,
    /// The waker has been used.
    Woken,
    /// The time is up.
    Nothing,
}

/// What a question on the terminal itself came to.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(
    not(unix),
    expect(
        dead_code,
        reason = "elsewhere nothing is asked on the terminal itself"
    )
)]
pub(super) enum Answered {
    /// The line that was typed.
    Line(String),
    /// Ctrl-D, Ctrl-C or the end of the terminal.
    Nothing,
    /// Somebody woke this thread first.
    Woken,
    /// There is no terminal to ask on.
    NoTerminal,
}
