//! The terminal itself: its modes, its size, and who is in its foreground. Where there is no such
//! thing as on Unix, `tty_elsewhere.rs` stands in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::string::FromUtf8Error;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetpgrp,
    tcgetwinsize, tcsetattr,
};

use super::outcome::{Answered, Ready};
use portal_wire::printable;

/// How wide a terminal is taken to be that does not say.
const COLUMNS: u16 = 80;

/// Whether this process may read from the terminal and change its modes: not while it runs in the
/// background (`program &`), where the system would stop it for that.
pub fn is_in_foreground(terminal: impl AsFd) -> bool {
    match tcgetpgrp(terminal) {
        Ok(group) => group == getpgrp(),
        // Not this process's controlling terminal: nobody stops it there.
        Err(Errno::NOTTY) => true,
        Err(_) => false,
    }
}

/// How many columns standard output has.
pub fn columns() -> usize {
    let size = tcgetwinsize(io::stdout());
    let columns = size.map_or(COLUMNS, |size| size.ws_col);
    usize::from(if columns == 0 { COLUMNS } else { columns })
}

/// Stops this program and who is in its pipeline, as Ctrl-Z does, until the shell lets it go on.
pub(super) fn stop_this_job() {
    let _ = kill_current_process_group(Signal::TSTP);
}

/// Reads what there is on standard input, once there is something.
///
/// # Errors
/// `Interrupted` and `WouldBlock` are worth another try.
pub(super) fn read_input(into: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(io::stdin(), into)?)
}

/// Waits until there is something to read, or somebody wakes this thread.
pub(super) fn wait(input: impl AsFd, woken: &Wakened, most: Option<Duration>) -> Ready {
    wait_for(Some(input.as_fd()), woken, most)
}

/// Waits until somebody wakes this thread.
pub(super) fn wait_to_be_woken(woken: &Wakened, most: Option<Duration>) -> Ready {
    wait_for(None, woken, most)
}

fn wait_for(input: Option<BorrowedFd<'_>>, woken: &Wakened, most: Option<Duration>) -> Ready {
    let most = most.map(|most| Timespec {
        tv_sec: most.as_secs().cast_signed(),
        tv_nsec: most.subsec_nanos().into(),
    });
    loop {
        let mut fds = vec![PollFd::new(&woken.0, PollFlags::IN)];
        if let Some(input) = &input {
            fds.push(PollFd::new(input, PollFlags::IN));
        }
        match poll(&mut fds, most.as_ref()) {
            Ok(0) => return Ready::Nothing,
            Ok(_) if !fds[0].revents().is_empty() => {
                woken.drain();
                return Ready::Woken;
            }
            Ok(_) => return Ready::Input,
            Err(Errno::INTR) => {}
            // What can't be waited for can be read, and says why it can't.
            Err(_) => return Ready::Input,
        }
    }
}

/// Wakes a thread that waits for input.
pub(super) struct Waker(OwnedFd);

/// The other end of a [`Waker`].
pub(super) struct Wakened(OwnedFd);

/// A waker and what it wakes.
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
        // Full means that it is awake already.
        let _ = rustix::io::write(&self.0, b"w");
    }
}

impl Wakened {
    fn drain(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.0, &mut bytes).is_ok_and(|count| count > 0) {}
    }
}

/// A terminal that hands over every key as it is typed, and shows none by itself. Dropping it gives
/// the terminal its modes back, without waiting for what is still to be written to it.
pub(super) struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Takes over the terminal that standard input is.
    pub(super) fn take_over() -> io::Result<RawTerminal> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let raw = RawTerminal { terminal, before };
        raw.make_raw()?;
        Ok(raw)
    }

    /// Sets the modes, also after a shell has set its own while this process was stopped.
    pub(super) fn make_raw(&self) -> io::Result<()> {
        let mut modes = self.before.clone();
        modes.make_raw();
        // A line feed goes on beginning a new line: what is printed comes from many places.
        modes.output_modes = self.before.output_modes;
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &modes)?)
    }

    /// Gives the terminal the modes back that it had. In the background somebody else has it, and
    /// the system would stop this process for touching it.
    pub(super) fn restore(&self) {
        if !is_in_foreground(&self.terminal) {
            return;
        }
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }

    /// Throws away what has been typed and not been read.
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

/// A pseudo-terminal in the place of standard input: the editor reads what is written into this
/// end. Dropping it puts the real terminal back.
pub(super) struct EditorInput {
    writer: OwnedFd,
    real: OwnedFd,
}

impl EditorInput {
    pub(super) fn in_place_of_standard_input() -> io::Result<EditorInput> {
        let real = io::stdin().as_fd().try_clone_to_owned()?;
        let writer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        // macOS can't say so in the same call; no other program is started meanwhile.
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::CLOEXEC)?;
        grantpt(&writer)?;
        unlockpt(&writer)?;
        let name = ptsname(&writer, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let reader = rustix::fs::open(&*name, flags, Mode::empty())?;
        let mut modes = tcgetattr(&reader)?;
        modes.make_raw();
        tcsetattr(&reader, OptionalActions::Now, &modes)?;
        rustix::stdio::dup2_stdin(&reader)?;
        Ok(EditorInput { writer, real })
    }

    pub(super) fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match rustix::io::write(&self.writer, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for EditorInput {
    fn drop(&mut self) {
        let _ = rustix::stdio::dup2_stdin(&self.real);
    }
}

/// The terminal itself, showing nothing of what is typed on it. Dropping it shows it again.
pub(super) struct HiddenTerminal {
    terminal: File,
    before: Termios,
}

impl HiddenTerminal {
    /// `None` if there is no terminal.
    fn open() -> Option<HiddenTerminal> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
        let terminal = terminal.ok()?;
        let before = tcgetattr(&terminal).ok()?;
        Some(HiddenTerminal { terminal, before })
    }

    /// Asks, wherever standard input and output go. What was typed before the question is thrown
    /// away.
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
            // In one write, because another program of a pipeline may use the same terminal.
            let _ = screen.write_all(format!("{}: ", printable(question)).as_bytes());
            let answered = read_hidden(&self.terminal, woken, &is_wanted_elsewhere);
            let _ = writeln!(screen);
            if let Ok(answered) = answered {
                return answered;
            }
            let sentence = "Not sent, because it is not UTF-8: set the terminal to UTF-8, and type the line again.";
            let _ = writeln!(screen, "{sentence}");
        }
    }
}

impl Drop for HiddenTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Asks on the terminal, and shows nothing of what is typed: not even before the next question,
/// which may be one of this kind, until `hidden` is dropped. A thread that is woken gives the
/// question up if it `is_wanted_elsewhere`.
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
        if wait(terminal, woken, None) == Ready::Woken {
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
            // Backspace takes back a character, which may have several bytes; Ctrl-U takes all.
            8 | 127 => while line.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {},
            21 => line.clear(),
            other => line.push(other),
        }
    }
    String::from_utf8(line).map(Answered::Line)
}

/// Whether this process belongs to a terminal at all: a service does not. A terminal that is closed
/// sends SIGHUP to those that do.
pub fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Descriptors reserved for the line editor. It opens two for each line and waits for them with
/// `select`, which supports no descriptor above 1023. Otherwise a server with many sockets would
/// use them all.
#[derive(Default)]
pub(super) struct LowDescriptors(Mutex<Vec<OwnedFd>>);

impl LowDescriptors {
    /// More than the editor needs, because connections may take some between the release of these
    /// descriptors and the editor's next open.
    const KEPT: usize = 16;

    /// Reserves as many as are available.
    pub(super) fn keep(&self) {
        let mut kept = self.0.lock();
        while kept.len() < Self::KEPT {
            match lowest() {
                Some(descriptor) => kept.push(descriptor),
                None => return,
            }
        }
    }

    /// Releases them for the editor. Returns whether it can use the next one.
    pub(super) fn give_up(&self) -> bool {
        self.0.lock().clear();
        lowest().is_some()
    }
}

/// Duplicates standard input to the lowest free descriptor, if `select` supports it and the next
/// few.
fn lowest() -> Option<OwnedFd> {
    const FEW: i32 = 4;
    let lowest = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 0).ok()?;
    (lowest.as_raw_fd() < libc::FD_SETSIZE as i32 - FEW).then_some(lowest)
}

/// Whether a person sits at both ends of this process.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
