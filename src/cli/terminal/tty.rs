//! The terminal itself: its modes, its size, and its foreground process group. On systems other
//! than Unix, `tty_elsewhere.rs` replaces this file.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::string::FromUtf8Error;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetpgrp,
    tcgetwinsize, tcsetattr,
};

use super::{Answered, Ready};
use portal_wire::printable;

/// The assumed width of a terminal that does not report one.
const COLUMNS: u16 = 80;

/// Returns whether this process may read from the terminal and change its modes. In the background
/// (`program &`), the system would stop it for doing so.
pub fn is_in_foreground(terminal: impl AsFd) -> bool {
    match tcgetpgrp(terminal) {
        Ok(group) => group == getpgrp(),
        // This is not the process's controlling terminal, so the system does not stop the process.
        Err(Errno::NOTTY) => true,
        Err(_) => false,
    }
}

/// The width of standard output, in columns.
pub fn columns() -> usize {
    let size = tcgetwinsize(io::stdout());
    let columns = size.map_or(COLUMNS, |size| size.ws_col);
    usize::from(if columns == 0 { COLUMNS } else { columns })
}

/// Stops this program and the others in its pipeline, as Ctrl-Z does, until the shell resumes them.
pub(super) fn stop_this_job() {
    let _ = kill_current_process_group(Signal::TSTP);
}

/// Reads from standard input, after it has become readable.
///
/// # Errors
///
/// After `Interrupted` and `WouldBlock`, the caller should retry.
pub(super) fn read_input(into: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(io::stdin(), into)?)
}

/// Waits until there is input on standard input, or another thread wakes this one.
pub(super) fn wait_for_input(woken: &Wakened) -> Ready {
    wait(Some(io::stdin().as_fd()), None, woken, None)
}

/// Waits until another thread wakes this one.
pub(super) fn wait_to_be_woken(woken: &Wakened) {
    wait(None, None, woken, None);
}

/// Waits until there is input, `output` accepts more, or another thread wakes this one.
fn wait(
    input: Option<BorrowedFd<'_>>,
    output: Option<BorrowedFd<'_>>,
    woken: &Wakened,
    most: Option<Duration>,
) -> Ready {
    let most = most.map(|most| Timespec {
        tv_sec: most.as_secs().cast_signed(),
        tv_nsec: most.subsec_nanos().into(),
    });
    let mut fds = vec![PollFd::new(&woken.0, PollFlags::IN)];
    fds.extend(
        input
            .as_ref()
            .map(|input| PollFd::new(input, PollFlags::IN)),
    );
    let inputs = fds.len();
    fds.extend(
        output
            .as_ref()
            .map(|output| PollFd::new(output, PollFlags::OUT)),
    );
    loop {
        match poll(&mut fds, most.as_ref()) {
            Ok(0) => return Ready::Nothing,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // If the wait fails, let the read report the error.
            Err(_) => return Ready::Input,
        }
        let is_ready = |fds: &[PollFd<'_>]| fds.iter().any(|fd| !fd.revents().is_empty());
        if is_ready(&fds[..1]) {
            woken.drain();
            return Ready::Woken;
        }
        return match is_ready(&fds[1..inputs]) {
            true => Ready::Input,
            false => Ready::Output,
        };
    }
}

/// Wakes a thread that waits for input.
pub(super) struct Waker(OwnedFd);

/// The other end of a [`Waker`].
pub(super) struct Wakened(OwnedFd);

/// Creates a waker and its other end.
pub(super) fn waker() -> io::Result<(Waker, Wakened)> {
    let (read, write) = rustix::pipe::pipe()?;
    for end in [&read, &write] {
        fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((Waker(write), Wakened(read)))
}

impl Waker {
    pub(super) fn wake(&self) {
        // A full pipe means that the thread is already awake.
        let _ = rustix::io::write(&self.0, b"w");
    }
}

impl Wakened {
    fn drain(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.0, &mut bytes).is_ok_and(|count| count > 0) {}
    }
}

/// Switches bracketed paste on and off: the terminal marks pasted text.
const MARK_PASTES: &str = "\x1b[?2004h";
const NO_MARKS: &str = "\x1b[?2004l";

/// A terminal that delivers each key as it is typed, without echo, and that never blocks a writer.
/// Dropping it restores the terminal's modes, without waiting for pending output.
pub(super) struct RawTerminal {
    terminal: OwnedFd,
    screen: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Takes over the terminal on standard input.
    pub(super) fn take_over() -> io::Result<RawTerminal> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        // Open it again, because the other programs that share standard output must not find it
        // non-blocking.
        let again = if cfg!(target_os = "linux") {
            "/dev/fd/1"
        } else {
            "/dev/tty"
        };
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let screen = match rustix::fs::open(again, flags, Mode::empty()) {
            Ok(screen) => screen,
            Err(_) => io::stdout().as_fd().try_clone_to_owned()?,
        };
        let raw = RawTerminal {
            terminal,
            screen,
            before,
        };
        raw.make_raw()?;
        Ok(raw)
    }

    /// Sets the modes, and sets them again if a shell changed them while this process was stopped.
    pub(super) fn make_raw(&self) -> io::Result<()> {
        let mut modes = self.before.clone();
        modes.make_raw();
        // A line feed must still begin a new line, because output comes from many places.
        modes.output_modes = self.before.output_modes;
        tcsetattr(&self.terminal, OptionalActions::Now, &modes)?;
        let _ = self.write(MARK_PASTES.as_bytes());
        Ok(())
    }

    /// Restores the original modes. Does nothing in the background, where another program uses the
    /// terminal, and the system would stop this process for touching it.
    pub(super) fn restore(&self) {
        if !is_in_foreground(&self.terminal) {
            return;
        }
        let _ = self.write(NO_MARKS.as_bytes());
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }

    /// Writes as much as the terminal accepts right now, and returns the number of bytes written.
    ///
    /// # Errors
    /// Any I/O error except `WouldBlock`.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.screen, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            written => Ok(written?),
        }
    }

    /// Writes all of `bytes`, or what the terminal accepts within `most`.
    pub(super) fn write_within(&self, mut bytes: &[u8], most: Duration) {
        let until = Instant::now() + most;
        while let (false, Ok(count)) = (bytes.is_empty(), self.write(bytes)) {
            bytes = &bytes[count..];
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            };
            let ready = poll(
                &mut [PollFd::new(&self.screen, PollFlags::OUT)],
                Some(&left),
            );
            if !bytes.is_empty() && ready == Ok(0) {
                return;
            }
        }
    }

    /// Waits until there is input (if `reads`), the terminal accepts more output (if `writes`), or
    /// another thread wakes this one.
    pub(super) fn wait(
        &self,
        (reads, writes): (bool, bool),
        woken: &Wakened,
        most: Option<Duration>,
    ) -> Ready {
        let input = reads.then(|| self.terminal.as_fd());
        wait(input, writes.then(|| self.screen.as_fd()), woken, most)
    }

    /// Discards unread input. Returns whether there was any.
    pub(super) fn flush_input(&self) -> bool {
        let waits = rustix::io::ioctl_fionread(&self.terminal).is_ok_and(|count| count > 0);
        let _ = tcflush(&self.terminal, QueueSelector::IFlush);
        waits
    }

    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.terminal, into)?)
    }
}

impl AsFd for RawTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The terminal with echo turned off. Dropping this value restores the echo.
pub(super) struct HiddenTerminal {
    terminal: File,
    before: Termios,
}

impl HiddenTerminal {
    /// Opens the terminal. `None` if there is none.
    fn open() -> Option<HiddenTerminal> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
        let terminal = terminal.ok()?;
        let before = tcgetattr(&terminal).ok()?;
        Some(HiddenTerminal { terminal, before })
    }

    /// Asks on the terminal, even if standard input and output are redirected. Discards text that
    /// was typed before the question.
    fn ask(
        &self,
        question: &str,
        woken: &Wakened,
        is_wanted_elsewhere: impl Fn() -> bool,
    ) -> Answered {
        let mut modes = self.before.clone();
        modes.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON);
        modes.local_modes |= LocalModes::ISIG;
        if tcsetattr(&self.terminal, OptionalActions::Flush, &modes).is_err() {
            return Answered::NoTerminal;
        }
        let mut screen = &self.terminal;
        loop {
            // Use a single write, because another program in a pipeline may use the same terminal.
            let _ = screen.write_all(format!("{}: ", printable(question)).as_bytes());
            let answered = read_hidden(&self.terminal, woken, &is_wanted_elsewhere);
            let _ = writeln!(screen);
            if let Ok(answered) = answered {
                return answered;
            }
            let sentence = "Not sent: the line is not UTF-8. Set the terminal to UTF-8, and type the line again.";
            let _ = writeln!(screen, "{sentence}");
        }
    }
}

impl Drop for HiddenTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Asks on the terminal without echo. Echo stays off until `hidden` is dropped, because the next
/// question may be hidden, too. When another thread wakes this one, cancels the question if it
/// `is_wanted_elsewhere`.
pub(super) fn ask_hidden(
    hidden: &mut Option<HiddenTerminal>,
    question: &str,
    woken: &Wakened,
    is_wanted_elsewhere: impl Fn() -> bool,
) -> Answered {
    if hidden.is_none() {
        *hidden = HiddenTerminal::open();
    }
    match hidden {
        Some(terminal) => terminal.ask(question, woken, is_wanted_elsewhere),
        None => Answered::NoTerminal,
    }
}

fn read_hidden(
    terminal: &File,
    woken: &Wakened,
    is_wanted_elsewhere: impl Fn() -> bool,
) -> Result<Answered, FromUtf8Error> {
    let mut line = Vec::new();
    loop {
        if wait(Some(terminal.as_fd()), None, woken, None) == Ready::Woken {
            if is_wanted_elsewhere() {
                return Ok(Answered::Woken);
            }
            continue;
        }
        let mut byte = [0];
        match rustix::io::read(terminal, &mut byte) {
            Ok(1) => {}
            Err(Errno::INTR) => continue,
            _ => return Ok(Answered::Nothing),
        }
        match byte[0] {
            b'\n' | b'\r' => break,
            4 if line.is_empty() => return Ok(Answered::Nothing),
            // Backspace deletes a character, which may have several bytes; Ctrl-U deletes all.
            8 | 127 => while line.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {},
            21 => line.clear(),
            other => line.push(other),
        }
    }
    String::from_utf8(line).map(Answered::Line)
}

/// Returns whether this process has a controlling terminal; a service has none. When a terminal is
/// closed, its processes receive SIGHUP.
pub fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Returns whether standard input and output are both terminals.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Returns whether [`RawTerminal`] works here: the terminal must be able to move its cursor.
pub(super) fn can_edit() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    is_interactive() && !["dumb", "cons25", "emacs"].contains(&&*term)
}
