//! A replacement for `tty.rs` on systems without Unix terminals (Windows). Input and output are
//! plain lines, and there are no hidden questions on the terminal. A password comes from a file or
//! a variable.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Answered, Ready};

/// The assumed width of a terminal.
const COLUMNS: usize = 80;

/// Always `true`: a program in the background may read, too.
pub fn is_in_foreground<T>(_: T) -> bool {
    true
}

/// The width of standard output, in columns.
pub fn columns() -> usize {
    COLUMNS
}

/// Always `false`: on this system, closing a terminal sends no signal.
pub fn has_terminal() -> bool {
    false
}

/// Always `false`: there is no line editor.
pub fn is_interactive() -> bool {
    false
}

/// Does nothing: there is no Ctrl-Z.
pub(super) fn stop_this_job() {}

/// Reads from standard input; blocks until there is input.
///
/// # Errors
///
/// Any I/O error.
pub(super) fn read_input(into: &mut [u8]) -> io::Result<usize> {
    io::stdin().lock().read(into)
}

/// Never `true`: there is no line editor.
pub(super) fn can_edit() -> bool {
    false
}

/// Does not wait. The read that follows blocks, and can't be woken.
pub(super) fn wait_for_input(woken: &Wakened) -> Ready {
    match woken.0.try_recv() {
        Ok(()) => Ready::Woken,
        Err(_) => Ready::Input,
    }
}

/// Waits until another thread wakes this one.
pub(super) fn wait_to_be_woken(woken: &Wakened) {
    let _ = woken.0.recv();
}

/// Wakes a thread that waits for input.
pub(super) struct Waker(Sender<()>);

/// The other end of a [`Waker`].
pub(super) struct Wakened(Receiver<()>);

/// Creates a waker and its other end.
pub(super) fn waker() -> io::Result<(Waker, Wakened)> {
    let (waker, wakened) = bounded(1);
    Ok((Waker(waker), Wakened(wakened)))
}

impl Waker {
    pub(super) fn wake(&self) {
        // A full channel means that the thread is already awake.
        let _ = self.0.try_send(());
    }
}

/// A stub: this system has no raw mode.
pub(super) struct RawTerminal(Infallible);

impl RawTerminal {
    pub(super) fn take_over() -> io::Result<RawTerminal> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn make_raw(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn restore(&self) {
        match self.0 {}
    }

    pub(super) fn flush_input(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(super) fn write(&self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(super) fn write_within(&self, _: &[u8], _: Duration) {
        match self.0 {}
    }

    pub(super) fn wait(&self, _: (bool, bool), _: &Wakened, _: Option<Duration>) -> Ready {
        match self.0 {}
    }
}

/// A stub: this system does not support hidden input.
pub(super) struct HiddenTerminal(Infallible);

/// Asks nothing, because this system does not support hidden input.
pub(super) fn ask_hidden(
    hidden: &mut Option<HiddenTerminal>,
    _: &str,
    _: &Wakened,
    _: impl Fn() -> bool,
) -> Answered {
    match hidden {
        Some(terminal) => match terminal.0 {},
        None => Answered::NoTerminal,
    }
}
