//! Standard output and standard error. Either can be full, closed or not ready, and a failed write
//! must not stop a thread. `print!` and `eprint!` panic in that case, so clippy.toml forbids them.

use std::io::{self, Write};

use portal_wire::printable_lines;

mod lines;

pub use lines::LineWriter;

/// One of the two output streams, without std's buffer, so that the caller knows which bytes were
/// not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Stderr,
}

impl Output {
    /// Writes the whole text in one piece, without output from other threads of this process in
    /// between.
    ///
    /// # Errors
    /// Any I/O error; `BrokenPipe` if the reader has closed the pipe.
    pub fn print(self, text: &str) -> io::Result<()> {
        match self {
            Output::Stdout => with_lock(self, io::stdout().lock(), text),
            Output::Stderr => with_lock(self, io::stderr().lock(), text),
        }
    }
}

fn with_lock<L>(mut output: Output, _lock: L, text: &str) -> io::Result<()> {
    output.write_all(text.as_bytes())
}

/// Prints the output that the user requested. It is not an error if the reader has closed the pipe
/// (`| head -1`).
///
/// # Errors
/// Any other I/O error, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    match Output::Stdout.print(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Returns the error message for output that a program could not print.
pub fn not_written(error: &io::Error) -> String {
    format!("can't write to standard output ({error}): redirect it to another file or pipe")
}

/// Formats a count with its noun: `1 person`, `2 people`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Prints a message for the user on standard error. The message may quote a file or a command line,
/// so it is made safe for a terminal. If standard error can't be written to either, the message is
/// lost.
pub fn report(text: &str) {
    let _ = Output::Stderr.print(&printable_lines(text));
}

#[cfg(unix)]
impl Write for Output {
    /// If the descriptor is non-blocking, waits until it is writable: another process that shares
    /// it may have set `O_NONBLOCK`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use rustix::io::Errno;
        loop {
            let written = match self {
                Output::Stdout => rustix::io::write(io::stdout(), bytes),
                Output::Stderr => rustix::io::write(io::stderr(), bytes),
            };
            match written {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_until_ready()?,
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
impl Output {
    fn wait_until_ready(self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::io::Errno;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let ready = match self {
            Output::Stdout => poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None),
            Output::Stderr => poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None),
        };
        match ready {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// On other systems, output goes through std's own streams and is flushed immediately.
#[cfg(not(unix))]
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout => {
                let mut out = io::stdout();
                out.write_all(bytes).and_then(|()| out.flush())?;
            }
            Output::Stderr => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
