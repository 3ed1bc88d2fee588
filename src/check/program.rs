//! The program that is checked: started on a free port, and ended with everything that it has started.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::options::PORT;
use super::talk::{Failure, Talk};

/// How much of what a program prints is kept, in bytes: the end of it, where the reason stands.
const KEPT: usize = 4 * 1024;

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

/// The server of one check.
#[derive(Debug)]
pub(super) struct Subject<'p> {
    command: String,
    programs: &'p Programs,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// How long an answer may take.
    pub(super) patience: Duration,
    /// How long it may take until it listens.
    pub(super) start_within: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// Somebody has been let in: from then on, a refusal is the program's fault.
    has_been_reached: bool,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl<'p> Subject<'p> {
    /// The server that `command` starts. It does not run before [`Subject::start`].
    pub(super) fn new(
        command: &str,
        patience: Duration,
        start_within: Duration,
        programs: &'p Programs,
    ) -> Subject<'p> {
        Subject {
            command: command.to_owned(),
            programs,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            patience,
            start_within,
            state: Mutex::default(),
        }
    }

    /// A subject that runs, on a port that was free a moment ago.
    ///
    /// # Errors
    /// When no port is free, or `sh` can't be started.
    pub(super) fn started(&self) -> Result<Subject<'p>, Failure> {
        let wrong = |error: io::Error| Failure::wanted("a program that runs").came(error);
        // Until the program binds it, somebody else may: a moment that no program without a port of its own
        // can avoid. The next check gets another one.
        let free = TcpListener::bind(self.address).map_err(wrong)?;
        let address = free.local_addr().map_err(wrong)?;
        drop(free);
        let line = self.command.replace(PORT, &address.port().to_string());
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
        keep_the_end(child.stdout.take(), &printed);
        keep_the_end(child.stderr.take(), &printed);
        Ok(Subject {
            command: line,
            programs: self.programs,
            address,
            patience: self.patience,
            start_within: self.start_within,
            state: Mutex::new(State {
                child: Some(child),
                has_been_reached: false,
                printed,
            }),
        })
    }

    /// A new client of it, who is called `who` in what is said of it.
    ///
    /// # Errors
    /// When the program does not let it in.
    pub(super) fn connect(&self, who: &str) -> Result<Talk, Failure> {
        Talk::connect(self, who)
    }

    /// Whether somebody has been let in before.
    pub(super) fn has_been_reached(&self) -> bool {
        self.state.lock().has_been_reached
    }

    pub(super) fn is_reached(&self) {
        self.state.lock().has_been_reached = true;
    }

    /// How the program has ended, if it has.
    pub(super) fn end(&self) -> Option<ExitStatus> {
        self.state.lock().child.as_mut()?.try_wait().ok()?
    }

    /// The end of what it has printed.
    pub(super) fn printed(&self) -> String {
        let printed = Arc::clone(&self.state.lock().printed);
        let printed = printed.lock();
        String::from_utf8_lossy(&printed).into_owned()
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.state.get_mut().child.take() {
            let mut running = self.programs.running.lock();
            // Its number is not another's before it has been waited for.
            kill_group(id_of(&child));
            let _ = child.wait();
            running.remove(&id_of(&child));
        }
    }
}

fn id_of(child: &Child) -> i32 {
    // The system's process numbers fit.
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

/// Reads what a program prints, so that it never waits for a reader, and keeps the end of it.
fn keep_the_end(output: Option<impl Read + Send + 'static>, kept: &Arc<Mutex<Vec<u8>>>) {
    let Some(mut output) = output else { return };
    let kept = Arc::clone(kept);
    thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            let mut kept = kept.lock();
            kept.extend_from_slice(&bytes[..count]);
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
    });
}
