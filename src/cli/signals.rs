//! The signals that end a program, as something that a thread can wait for.
//!
//! A signal that was ignored when the program was started stays ignored: that is how `nohup` and a
//! shell script's `&` say that the program is to outlive them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::SIGINT;
#[cfg(unix)]
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGQUIT, SIGTERM, SIGXFSZ},
    iterator::{Handle, Signals},
};

#[cfg(not(unix))]
use elsewhere::{Handle, Signals};

use crate::terminal::restore_terminal;
use portal_net::threads;

/// Ended by a second signal, as a shell reports it.
const INTERRUPTED: i32 = 130;

/// What a signal says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "elsewhere no signal says more than to end")
)]
pub enum Signal {
    /// To end, and by which signal.
    End(&'static str),
    /// The program was stopped and goes on, perhaps in the foreground.
    GoesOn,
    /// To read its files anew (SIGHUP, where [`Listening::reads_anew`] is set).
    ReadAnew,
}

/// What the thread `signals` tells, and how to end it.
pub struct Listening {
    /// What was told.
    pub receiver: Receiver<Signal>,
    /// The program is on its way to its end: the next signal ends it at once. Set by the first
    /// signal, or by whoever ends the program without one.
    pub ending: Arc<AtomicBool>,
    /// SIGHUP asks to read files anew, as it does of programs without a terminal, and does not end
    /// it.
    pub reads_anew: Arc<AtomicBool>,
    /// Ends the thread.
    pub handle: Handle,
}

/// Starts the thread `signals`. The first signal is told; at a second one somebody will not wait
/// any longer, for what may be a paused terminal, and the process ends on the spot.
///
/// # Errors
/// What the system says when it has no thread to give.
pub fn listen() -> io::Result<Listening> {
    // A write beyond `ulimit -f` then fails like one to a full disk, and does not end the process.
    #[cfg(unix)]
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = signals()?;
    let handle = signals.handle();
    let (sender, receiver) = bounded(4);
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
            let _ = sender.try_send(signal_event);
        }
    })?;
    Ok(Listening {
        receiver,
        ending,
        reads_anew,
        handle,
    })
}

/// Those that end a program, but for those that it was told to outlive, and the one by which it
/// goes on after a stop.
#[cfg(unix)]
fn signals() -> io::Result<Signals> {
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0)
        .chain([SIGCONT]);
    Signals::new(wanted)
}

#[cfg(not(unix))]
fn signals() -> io::Result<Signals> {
    Signals::new([SIGINT, signal_hook::consts::SIGTERM])
}

/// Where no thread can wait for a signal (on Windows), it looks for one now and then.
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

/// The signals that are ignored, a bit each. Where the system does not tell, none is taken to be.
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
    fn what_is_ignored_is_read_from_the_mask() {
        let ignored = ignored_in("Name:\tx\nSigIgn:\t0000000000001001\n");
        let is_ignored = |signal: i32| ignored & (1 << (signal - 1)) != 0;
        assert!(is_ignored(SIGHUP) && !is_ignored(SIGINT) && !is_ignored(SIGTERM));
        assert_eq!(ignored_in("nothing"), 0);
    }
}
