//! The program that is checked: started on a free port, and ended with everything that it has
//! started.

use std::collections::BTreeSet;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Socket, Type};

use portal_core::clock::slowed;

use super::failure::Failure;
use portal_cli::output;

/// Where the port goes in a command.
pub(super) const PORT: &str = "{port}";

/// Where a folder of its own goes, for a server that keeps something.
pub(super) const FOLDER: &str = "{folder}";

/// Which end of the connections the student builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The checker is its clients.
    Server,
    /// The checker is its server, and types.
    Client,
}

/// How much of what a program prints is kept, in bytes: the end of it, where the reason stands.
const KEPT: usize = 4 * 1024;

/// Where ports for the programs are looked for, and how often.
const PORTS: Range<u16> = 10_000..32_000;
const TRIES: usize = 100;

/// How long the last words of a program that has ended are waited for, and the end of those that it
/// had started.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What has been started and made, and has to be gone when the checker is.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs {
    left: Arc<Mutex<Leftover>>,
}

#[derive(Debug, Default)]
struct Leftover {
    /// The process groups that run now. Each program is the leader of a group of its own, so that
    /// its children end with it; so Ctrl-C reaches the checker alone, which has to end them.
    running: BTreeSet<i32>,
    /// The folders for what the programs keep.
    folders: BTreeSet<PathBuf>,
}

impl Programs {
    /// None yet. From now on a signal that ends the checker ends them first.
    ///
    /// # Errors
    /// When the system can't hand over signals.
    pub(super) fn ended_by_signals() -> io::Result<Programs> {
        let programs = Programs::default();
        let left = Arc::clone(&programs.left);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    // Held until the end, so that no other program is started meanwhile.
                    let left = left.lock();
                    left.running.iter().copied().for_each(kill_group);
                    for folder in &left.folders {
                        let _ = std::fs::remove_dir_all(folder);
                    }
                    output::report("\nchatcheck: interrupted\n");
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
    /// Of a client, the checker is the server, and types.
    pub(super) kind: Kind,
    /// How many ports after its own a server of the rung uses.
    pub(super) more_ports: u16,
    /// How long an answer may take.
    pub(super) patience: Duration,
    /// How long it may take until it listens.
    pub(super) start_within: Duration,
    pub(super) programs: &'p Programs,
}

impl<'p> Launch<'p> {
    /// The server, for one check, on a port that was free a moment ago, with a folder of its own if
    /// its command asks for one.
    ///
    /// # Errors
    /// When no port is free, no folder can be made, or `sh` can't be started.
    pub(super) fn start(&self) -> Result<Subject<'p>, Failure> {
        let wrong = |error: io::Error| Failure::wanted("a program that runs").came(error);
        let (address, claims) = free_ports(self.more_ports).map_err(wrong)?;
        let mut line = self.command.replace(PORT, &address.port().to_string());
        let folder = match line.contains(FOLDER) {
            true => Some(ServerFolder::new(self.programs).map_err(wrong)?),
            false => None,
        };
        if let Some(folder) = &folder {
            line = line.replace(FOLDER, &folder.path.to_string_lossy());
        }
        let listener = match self.kind {
            Kind::Client => Some(TcpListener::bind(address).map_err(wrong)?),
            Kind::Server => None,
        };
        let process = Process::start(&line, self.kind, self.programs).map_err(wrong)?;
        Ok(Subject {
            address,
            patience: self.patience,
            start_within: self.start_within,
            line,
            kind: self.kind,
            process: Mutex::new(process),
            has_been_reached: AtomicBool::new(false),
            folder,
            listener: Mutex::new(listener),
            programs: self.programs,
            _claims: claims,
        })
    }
}

/// A port of this machine's that is free, as `more` after it are, and what keeps them free of other
/// checkers until it is dropped.
///
/// Between now and the moment when the program binds it, somebody else could. So it is none from
/// which the system takes ports for outgoing connections (on Linux, they begin at 32768); and for
/// other checkers, which look for one in the same way, the UDP port of the same number is a sign
/// that it is taken.
///
/// # Errors
/// When none of many is free.
fn free_ports(more: u16) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let port = PORTS.start + u16::from_be_bytes(bytes) % (PORTS.end - more - PORTS.start);
        let claimed: io::Result<Vec<UdpSocket>> = (port..=port + more)
            .map(|port| {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let claim = UdpSocket::bind(address)?;
                bind_as_a_beginner(address).map(|()| claim)
            })
            .collect();
        match claimed {
            Ok(claims) => return Ok((SocketAddr::from((Ipv4Addr::LOCALHOST, port)), claims)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Binds, and lets go again, as a program does that has not asked for SO_REUSEADDR: it can't while
/// old connections of that port are in TIME_WAIT.
fn bind_as_a_beginner(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())
}

/// An empty folder for what a server keeps, gone when it is dropped.
#[derive(Debug)]
struct ServerFolder<'p> {
    path: PathBuf,
    programs: &'p Programs,
}

impl<'p> ServerFolder<'p> {
    fn new(programs: &'p Programs) -> io::Result<ServerFolder<'p>> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let name = format!("chatcheck-{:016x}", u64::from_be_bytes(bytes));
        let path = std::env::temp_dir().join(name);
        let mut left = programs.left.lock();
        std::fs::create_dir(&path)?;
        left.folders.insert(path.clone());
        drop(left);
        Ok(ServerFolder { path, programs })
    }
}

impl Drop for ServerFolder<'_> {
    fn drop(&mut self) {
        let mut left = self.programs.left.lock();
        let _ = std::fs::remove_dir_all(&self.path);
        left.folders.remove(&self.path);
    }
}

/// The server of one check, as long as that is played.
#[derive(Debug)]
pub(super) struct Subject<'p> {
    /// Where it listens.
    pub(super) address: SocketAddr,
    pub(super) patience: Duration,
    pub(super) start_within: Duration,
    /// The command line that has started it.
    line: String,
    kind: Kind,
    /// Ends before its folder goes.
    process: Mutex<Process<'p>>,
    /// Somebody has been let in: from then on, a refusal is the program's fault.
    has_been_reached: AtomicBool,
    folder: Option<ServerFolder<'p>>,
    /// Where it finds a server, if the program is a client.
    pub(super) listener: Mutex<Option<TcpListener>>,
    programs: &'p Programs,
    /// Tell other checkers that these ports are taken.
    _claims: Vec<UdpSocket>,
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
        self.process.lock().end()
    }

    /// The folder that it was given.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(|folder| folder.path.as_path())
    }

    /// Ends it at once, as `kill -9` does, and returns when nobody listens for it any more.
    pub(super) fn kill(&self) {
        let mut process = self.process.lock();
        process.kill();
        // The shell is waited for; the server is a child of it, and takes a moment longer. (Where
        // nobody asks how such children have ended, they stay in the group for ever.)
        let until = Instant::now() + LAST_WORDS;
        let group = Pid::from_raw(id_of(&process.child));
        while group.is_some_and(|group| test_kill_process_group(group).is_ok())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts it again, with the same command. It has to be killed before.
    ///
    /// # Errors
    /// When `sh` can't be started.
    pub(super) fn start_again(&self) -> Result<(), Failure> {
        let again = Process::start(&self.line, self.kind, self.programs);
        *self.process.lock() =
            again.map_err(|error| Failure::wanted("a program that runs").came(error))?;
        self.has_been_reached.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Types `text`.
    ///
    /// # Errors
    /// When the program has closed its standard input.
    pub(super) fn types(&self, text: &str) -> Result<(), Failure> {
        let mut process = self.process.lock();
        let keyboard = process.keyboard.as_mut();
        let typed = keyboard.map(|keyboard| keyboard.write_all(text.as_bytes()));
        let failure = || Failure::wanted("the program to read what is typed");
        match typed {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(failure().came(error)),
            None => Err(failure()),
        }
    }

    /// The keyboard's input has ended, as with Ctrl-D.
    pub(super) fn types_no_more(&self) {
        self.process.lock().keyboard = None;
    }

    /// The end of what it has printed. Of a program that has ended, its last words are waited for:
    /// they may be on their way. Not for long, since a child of it may have the pipe for ever.
    pub(super) fn printed(&self) -> String {
        self.process.lock().printed()
    }
}

/// A program that has been started, in a process group of its own. It ends when this is dropped.
#[derive(Debug)]
struct Process<'p> {
    child: Child,
    /// What is typed goes here, if it is a client.
    keyboard: Option<ChildStdin>,
    printed: Arc<Mutex<Vec<u8>>>,
    /// The threads that read what it prints.
    readers: Vec<JoinHandle<()>>,
    programs: &'p Programs,
}

impl<'p> Process<'p> {
    fn start(line: &str, kind: Kind, programs: &'p Programs) -> io::Result<Process<'p>> {
        // Held until it is in the list, so that a signal in between does not miss it.
        let mut left = programs.left.lock();
        let mut child = Command::new("sh")
            .args(["-c", line])
            .stdin(match kind {
                Kind::Client => Stdio::piped(),
                // It has nothing to read: our own takes what is typed for its operator's words.
                Kind::Server => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        left.running.insert(id_of(&child));
        drop(left);
        let printed = Arc::default();
        let out = keep_the_end(child.stdout.take(), &printed);
        let err = keep_the_end(child.stderr.take(), &printed);
        Ok(Process {
            keyboard: child.stdin.take(),
            child,
            printed,
            readers: [out, err].into_iter().flatten().collect(),
            programs,
        })
    }

    fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok()?
    }

    fn printed(&mut self) -> String {
        let until = Instant::now() + slowed(LAST_WORDS);
        while self.end().is_some()
            && self.readers.iter().any(|reader| !reader.is_finished())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(2));
        }
        String::from_utf8_lossy(&self.printed.lock()).into_owned()
    }

    fn kill(&mut self) {
        let mut left = self.programs.left.lock();
        // Its number may be somebody else's once it has been waited for and is not in the list any
        // more.
        if left.running.contains(&id_of(&self.child)) {
            kill_group(id_of(&self.child));
            let _ = self.child.wait();
            // Not before: a signal has to find it in the list for as long as it may run.
            left.running.remove(&id_of(&self.child));
        }
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        self.kill();
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
