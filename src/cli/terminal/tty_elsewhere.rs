//! In the place of `tty.rs` where terminals are not as on Unix (on Windows): everybody reads and
//! writes plain lines, and nothing is asked on a terminal whose answer must not be shown. A
//! password comes from a file or a variable there.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::outcome::{Answered, Ready};

/// How wide a terminal is taken to be.
const COLUMNS: usize = 80;

/// There is no background in which a program may not read.
pub fn is_in_foreground<T>(_: T) -> bool {
    true
}

/// How many columns standard output has.
pub fn columns() -> usize {
    COLUMNS
}

/// No terminal here sends a signal when it is closed.
pub fn has_terminal() -> bool {
    false
}

/// A stub: this system has no line editor.
#[derive(Default)]
pub(super) struct LowDescriptors;

impl LowDescriptors {
    pub(super) fn keep(&self) {}

    pub(super) fn give_up(&self) -> bool {
        true
    }
}

/// Whether there can be a line editor.
pub fn is_interactive() -> bool {
    false
}

/// There is no such key.
pub(super) fn stop_this_job() {}

/// Reads what there is on standard input, once there is something.
///
/// # Errors
/// What the system says.
pub(super) fn read_input(into: &mut [u8]) -> io::Result<usize> {
    io::stdin().lock().read(into)
}

/// Does not wait: a read that follows does, and can't be woken.
pub(super) fn wait<T>(_: T, woken: &Wakened, _: Option<Duration>) -> Ready {
    match woken.0.try_recv() {
        Ok(()) => Ready::Woken,
        Err(_) => Ready::Input,
    }
}

/// Waits until somebody wakes this thread.
pub(super) fn wait_to_be_woken(woken: &Wakened, most: Option<Duration>) -> Ready {
    let came = match most {
        Some(most) => woken.0.recv_timeout(most).is_ok(),
        None => woken.0.recv().is_ok(),
    };
    if came { Ready::Woken } else { Ready::Nothing }
}

/// Wakes a thread that waits for input.
pub(super) struct Waker(Sender<()>);

/// The other end of a [`Waker`].
pub(super) struct Wakened(Receiver<()>);

/// A waker and what it wakes.
pub(super) fn waker() -> io::Result<(Waker, Wakened)> {
    let (waker, wakened) = bounded(1);
    Ok((Waker(waker), Wakened(wakened)))
}

impl Waker {
    pub(super) fn wake(&self) {
        // Full means that it is awake already.
        let _ = self.0.try_send(());
    }
}

/// A terminal that hands over every key: there is none.
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
}

/// What a line editor would read from: there is none.
pub(super) struct EditorInput(Infallible);

impl EditorInput {
    pub(super) fn in_place_of_standard_input() -> io::Result<EditorInput> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn write(&self, _: &[u8]) {
        match self.0 {}
    }
}

/// A terminal that shows nothing of what is typed: there is none.
pub(super) struct HiddenTerminal(Infallible);

/// Asks nobody.
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
