//! The signals that terminate a program, delivered over a channel.
//!
//! A signal that was ignored when the program started stays ignored: this is how `nohup` and a
//! shell script's `&` let a program outlive them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::SIGINT;
#[cfg(unix)]
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGQUIT, SIGTERM, SIGWINCH, SIGXFSZ},
    iterator::{Handle, Signals},
};

#[cfg(not(unix))]
use elsewhere::{Handle, Signals};

use crate::terminal::restore_terminal;
use portal_net::threads;

/// The exit code after a second signal: the one that a shell reports for SIGINT.
const INTERRUPTED: i32 = 130;

/// Maximum number of signals that wait for the program.
const WAITING: usize = 8;

/// The meaning of a signal for the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "on other systems, signals only end the program")
)]
pub enum Signal {
    /// Shut down. Contains the signal's name.
    End(&'static str),
    /// The program was stopped and has resumed, possibly in the foreground.
    GoesOn,
    /// The terminal's size has changed.
    Resized,
    /// Reload the files (SIGHUP, if [`Listening::reads_anew`] is set).
    ReadAnew,
}

/// The signals received by the thread `signals`, and the controls of that thread.
pub struct Listening {
    pub receiver: Receiver<Signal>,
    /// Set while the program is shutting down: the next signal then terminates it immediately. The
    /// first signal sets it, as does a program that shuts down without a signal.
    pub ending: Arc<AtomicBool>,
    /// Set if SIGHUP makes the program reload its files instead of terminating it, as is usual for
    /// programs without a terminal.
    pub reads_anew: Arc<AtomicBool>,
    /// Stops the thread.
    pub handle: Handle,
}

/// Starts the thread `signals`. It sends the first signal to the receiver. A second signal
/// terminates the process immediately, because the user does not want to wait any longer, for
/// example for a paused terminal.
///
/// # Errors
///
/// An I/O error if the system can't start a thread.
pub fn listen() -> io::Result<Listening> {
    // Without a handler, a write beyond `ulimit -f` would kill the process. With one, it fails like
    // a write to a full disk.
    #[cfg(unix)]
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = signals()?;
    let handle = signals.handle();
    let (sender, receiver) = bounded(WAITING);
    let ending = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&ending);
    let reads_anew = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    let may_read_anew = Arc::clone(&reads_anew);
    threads::start("signals", move || {
        for signal in signals.forever() {
            let signal_event = match signal {
                #[cfg(unix)]
                SIGCONT => Signal::GoesOn,
                #[cfg(unix)]
                SIGWINCH => Signal::Resized,
                SIGINT => Signal::End("SIGINT"),
                #[cfg(unix)]
                SIGHUP if may_read_anew.load(Ordering::Acquire) => Signal::ReadAnew,
                #[cfg(unix)]
                SIGHUP => Signal::End("SIGHUP"),
                #[cfg(unix)]
                SIGQUIT => Signal::End("SIGQUIT"),
                _ => Signal::End("SIGTERM"),
            };
            if matches!(signal_event, Signal::End(_)) && noticed.swap(true, Ordering::AcqRel) {
                restore_terminal();
                std::process::exit(INTERRUPTED);
            }
            // However often the window is resized, leave room for the signals that matter.
            if signal_event != Signal::Resized || sender.len() < WAITING / 2 {
                let _ = sender.try_send(signal_event);
            }
        }
    })?;
    Ok(Listening {
        receiver,
        ending,
        reads_anew,
        handle,
    })
}

/// The signals that terminate a program, except those ignored at startup, and the signals that
/// concern the terminal.
#[cfg(unix)]
fn signals() -> io::Result<Signals> {
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0)
        .chain([SIGCONT, SIGWINCH]);
    Signals::new(wanted)
}

#[cfg(not(unix))]
fn signals() -> io::Result<Signals> {
    Signals::new([SIGINT, signal_hook::consts::SIGTERM])
}

/// Polls for signals on systems where no thread can wait for them (Windows).
#[cfg(not(unix))]
mod elsewhere {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    const PAUSE: Duration = Duration::from_millis(100);

    pub struct Signals {
        came: Vec<(i32, Arc<AtomicBool>)>,
        is_closed: Arc<AtomicBool>,
    }

    pub(crate) struct Handle(Arc<AtomicBool>);

    impl Handle {
        pub fn close(&self) {
            self.0.store(true, Ordering::Release);
        }
    }

    impl Signals {
        pub(super) fn new<const N: usize>(wanted: [i32; N]) -> io::Result<Signals> {
            let mut came = Vec::new();
            for signal in wanted {
                let flag = Arc::default();
                signal_hook::flag::register(signal, Arc::clone(&flag))?;
                came.push((signal, flag));
            }
            let is_closed = Arc::default();
            Ok(Signals { came, is_closed })
        }

        pub(super) fn handle(&self) -> Handle {
            Handle(Arc::clone(&self.is_closed))
        }

        pub(super) fn forever(&mut self) -> impl Iterator<Item = i32> + '_ {
            std::iter::from_fn(|| {
                while !self.is_closed.load(Ordering::Acquire) {
                    for (signal, flag) in &self.came {
                        if flag.swap(false, Ordering::AcqRel) {
                            return Some(*signal);
                        }
                    }
                    std::thread::sleep(PAUSE);
                }
                None
            })
        }
    }
}

/// Returns the ignored signals, one bit each; 0 if the system does not report them.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

#[cfg(any(unix, test))]
fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let ignored = ignored_in("Name:\tx\nSigIgn:\t0000000000001001\n");
        let is_ignored = |signal: i32| ignored & (1 << (signal - 1)) != 0;
        assert!(is_ignored(SIGHUP) && !is_ignored(SIGINT) && !is_ignored(SIGTERM));
        assert_eq!(ignored_in("nothing"), 0);
    }
}
