//! The program that is checked: started on a free port, and ended with everything that it has started.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Socket, Type};

use super::failure::Failure;
use super::options::PORT;

/// How much of what a program prints is kept, in bytes: the end of it, where the reason stands.
const KEPT: usize = 4 * 1024;

/// Where ports for the programs are looked for, and how often.
const PORTS: Range<u16> = 10_000..32_000;
const TRIES: usize = 100;

/// How long the last words of a program that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The process groups that run now. Each program is the leader of a group of its own, so that its children end
/// with it; so Ctrl-C reaches the checker alone, which has to end them.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs {
    running: Arc<Mutex<BTreeSet<i32>>>,
}

impl Programs {
    /// None yet. From now on a signal that ends the checker ends them first.
    ///
    /// # Errors
    /// When the system can't hand over signals.
    pub(super) fn ended_by_signals() -> io::Result<Programs> {
        let programs = Programs::default();
        let running = Arc::clone(&programs.running);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    // Held until the end, so that no other program is started meanwhile.
                    let running = running.lock();
                    running.iter().copied().for_each(kill_group);
                    let _ = io::Write::write_all(&mut io::stderr(), b"\nchatcheck: interrupted\n");
                    std::process::exit(128 + signal);
                }
            })?;
        Ok(programs)
    }
}

fn kill_group(id: i32) {
    if let Some(group) = Pid::from_raw(id) {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// How a server is started, again and again.
#[derive(Debug)]
pub(super) struct Launch<'p> {
    pub(super) command: &'p str,
    /// How long an answer may take.
    pub(super) patience: Duration,
    /// How long it may take until it listens.
    pub(super) start_within: Duration,
    pub(super) programs: &'p Programs,
}

impl<'p> Launch<'p> {
    /// The server, for one check, on a port that was free a moment ago.
    ///
    /// # Errors
    /// When no port is free, or `sh` can't be started.
    pub(super) fn start(&self) -> Result<Subject<'p>, Failure> {
        let wrong = |error: io::Error| Failure::wanted("a program that runs").came(error);
        let (address, claim) = free_port().map_err(wrong)?;
        let line = self.command.replace(PORT, &address.port().to_string());
        // Held until it is in the list, so that a signal in between does not miss it.
        let mut running = self.programs.running.lock();
        let mut child = Command::new("sh")
            .args(["-c", &line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(wrong)?;
        running.insert(id_of(&child));
        drop(running);
        let printed = Arc::default();
        let out = keep_the_end(child.stdout.take(), &printed);
        let err = keep_the_end(child.stderr.take(), &printed);
        Ok(Subject {
            address,
            patience: self.patience,
            start_within: self.start_within,
            programs: self.programs,
            _claim: claim,
            child: Mutex::new(child),
            has_been_reached: AtomicBool::new(false),
            printed,
            readers: [out, err].into_iter().flatten().collect(),
        })
    }
}

/// A port of this machine's that is free, and what keeps it free of other checkers until it is dropped.
///
/// Between now and the moment when the program binds it, somebody else could. So it is none from which the system
/// takes ports for outgoing connections (on Linux, they begin at 32768); and for other checkers, which look for one in
/// the same way, the UDP port of the same number is a sign that it is taken.
///
/// # Errors
/// When none of many is free.
fn free_port() -> io::Result<(SocketAddr, UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let port = PORTS.start + u16::from_be_bytes(bytes) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let claimed =
            UdpSocket::bind(address).and_then(|claim| bind_as_a_beginner(address).map(|()| claim));
        match claimed {
            Ok(claim) => return Ok((address, claim)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Binds, and lets go again, as a program does that has not asked for SO_REUSEADDR: it can't while old connections of
/// that port are in TIME_WAIT.
fn bind_as_a_beginner(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())
}

/// The server of one check, as long as that is played.
#[derive(Debug)]
pub(super) struct Subject<'p> {
    /// Where it listens.
    pub(super) address: SocketAddr,
    pub(super) patience: Duration,
    pub(super) start_within: Duration,
    programs: &'p Programs,
    /// Tells other checkers that this port is taken.
    _claim: UdpSocket,
    child: Mutex<Child>,
    /// Somebody has been let in: from then on, a refusal is the program's fault.
    has_been_reached: AtomicBool,
    printed: Arc<Mutex<Vec<u8>>>,
    /// The threads that read what it prints.
    readers: Vec<JoinHandle<()>>,
}

impl Subject<'_> {
    /// Whether somebody has been let in before.
    pub(super) fn has_been_reached(&self) -> bool {
        self.has_been_reached.load(Ordering::Relaxed)
    }

    /// Somebody has been let in.
    pub(super) fn is_reached(&self) {
        self.has_been_reached.store(true, Ordering::Relaxed);
    }

    /// How the program has ended, if it has.
    pub(super) fn end(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().ok()?
    }

    /// The end of what it has printed. Of a program that has ended, its last words are waited for: they may be on
    /// their way. Not for long, since a child of it may have the pipe for ever.
    pub(super) fn printed(&self) -> String {
        let until = Instant::now() + LAST_WORDS;
        let is_reading = || self.readers.iter().any(|reader| !reader.is_finished());
        while self.end().is_some() && is_reading() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        String::from_utf8_lossy(&self.printed.lock()).into_owned()
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let mut running = self.programs.running.lock();
        kill_group(id_of(child));
        let _ = child.wait();
        // Not before: a signal has to find it in the list for as long as it may run.
        running.remove(&id_of(child));
    }
}

fn id_of(child: &Child) -> i32 {
    // The system's process numbers fit.
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

/// Reads what a program prints, so that it never waits for a reader, and keeps the end of it.
fn keep_the_end(
    output: Option<impl Read + Send + 'static>,
    kept: &Arc<Mutex<Vec<u8>>>,
) -> Option<JoinHandle<()>> {
    let mut output = output?;
    let kept = Arc::clone(kept);
    Some(thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            let mut kept = kept.lock();
            kept.extend_from_slice(&bytes[..count]);
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
    }))
}
