//! The program under test. It runs on a free port, and is stopped along with everything that it
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

/// The placeholder for the port in a command.
pub(super) const PORT: &str = "{port}";

/// The placeholder for the folder of a server that keeps files.
pub(super) const FOLDER: &str = "{folder}";

/// The side of the connection on which the student's program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The checker acts as the clients.
    Server,
    /// The checker acts as the server, and types the input.
    Client,
}

/// The number of bytes of a program's output that are kept: the last ones, because they contain the
/// error message.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The range of the programs' ports, and the number of attempts to find a free one.
const PORTS: Range<u16> = 10_000..32_000;
const TRIES: usize = 100;

/// The time limit for reading the rest of an exited program's output, and for its child processes
/// to exit.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// The processes and folders that must be removed before the checker exits.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs {
    remaining: Arc<Mutex<Remaining>>,
}

#[derive(Debug, Default)]
struct Remaining {
    /// The process groups that are running. Each program leads its own group, so that its children
    /// are stopped along with it. Ctrl-C therefore reaches only the checker, which must stop the
    /// groups.
    running: BTreeSet<i32>,
    /// The folders for the programs' files.
    folders: BTreeSet<PathBuf>,
}

impl Programs {
    /// Creates an empty list of programs. From then on, a signal that terminates the checker first
    /// stops the programs in the list.
    ///
    /// # Errors
    /// The signal handlers could not be installed.
    pub(super) fn ended_by_signals() -> io::Result<Programs> {
        let programs = Programs::default();
        adopt_orphans();
        let remaining = Arc::clone(&programs.remaining);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    // Held until exit, so that no other program starts in the meantime.
                    let remaining = remaining.lock();
                    remaining.running.iter().copied().for_each(kill_group);
                    kill_orphans(&remaining.running);
                    for folder in &remaining.folders {
                        let _ = std::fs::remove_dir_all(folder);
                    }
                    output::report("\nchatcheck: interrupted\n");
                    std::process::exit(128 + signal);
                }
            })?;
        Ok(programs)
    }
}

/// Makes this process the parent of processes whose own parents have exited, so that
/// [`kill_orphans`] finds those that have left their process group (setsid, double fork).
fn adopt_orphans() {
    // Without it, such processes outlive the check, as on other systems.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Kills the adopted processes, and then the processes that are orphaned by this. Skips the shells,
/// which are in `running`, because they are stopped along with their groups.
fn kill_orphans(running: &BTreeSet<i32>) {
    #[cfg(target_os = "linux")]
    for _ in 0..MAX_GENERATIONS {
        let orphans: Vec<i32> = children()
            .into_iter()
            .filter(|id| !running.contains(id))
            .collect();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans.into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = running;
}

/// The process IDs of this process's children. Each thread has its own list.
#[cfg(target_os = "linux")]
fn children() -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = threads.filter_map(|thread| {
        let list = thread.ok()?.path().join("children");
        std::fs::read_to_string(list).ok()
    });
    lists
        .flat_map(|list| {
            let ids = list.split_whitespace().map(str::parse);
            ids.filter_map(Result::ok).collect::<Vec<i32>>()
        })
        .collect()
}

fn kill_group(id: i32) {
    if let Some(group) = Pid::from_raw(id) {
        // The group may have exited already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The maximum number of times that [`kill_orphans`] looks for children of killed processes.
#[cfg(target_os = "linux")]
const MAX_GENERATIONS: usize = 100;

/// The parameters for starting a program, once per check.
#[derive(Debug)]
pub(super) struct Launch<'p> {
    pub(super) command: &'p str,
    pub(super) kind: Kind,
    /// The number of ports after its own that a server for the rung uses.
    pub(super) more_ports: u16,
    /// The time limit for a reply; `None` depends on the machine's load when the program starts.
    pub(super) patience: Option<Duration>,
    /// The time limit for the program to listen.
    pub(super) start_within: Duration,
    pub(super) programs: &'p Programs,
}

impl<'p> Launch<'p> {
    /// Returns the same parameters for another command.
    pub(super) fn with_command<'c>(&self, command: &'c str) -> Launch<'c>
    where
        'p: 'c,
    {
        Launch {
            command,
            kind: self.kind,
            more_ports: self.more_ports,
            patience: self.patience,
            start_within: self.start_within,
            programs: self.programs,
        }
    }

    /// Starts the program for one check, on a port of this `parity` that was just found to be free,
    /// with its own folder if its command contains one.
    ///
    /// # Errors
    /// No port is free, no folder can be created, or `sh` can't be started.
    pub(super) fn start(&self, parity: Parity) -> Result<Subject<'p>, Failure> {
        let wrong = |error: io::Error| Failure::expected("a running program").received(error);
        let (address, claims) = free_ports(self.more_ports, parity).map_err(wrong)?;
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
            patience: self.patience.unwrap_or_else(default_patience),
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

/// The time limit for a reply on an idle machine, and the largest factor by which a busy machine
/// extends it.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_LOAD: f64 = 24.0;

/// The time limit for a reply now. If each core has n runnable threads, a server gets about 1/n of
/// the time that it would get on its own.
fn default_patience() -> Duration {
    // On systems without this file, the machine counts as idle.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    PATIENCE.mul_f64(load_per_core(&load, cores).clamp(1.0, MAX_LOAD))
}

/// The runnable threads per core, from the text of `/proc/loadavg`: the average of the last minute,
/// or their number now if that is higher. Returns 0 if the text has another form.
fn load_per_core(loadavg: &str, cores: usize) -> f64 {
    let mut words = loadavg.split_whitespace();
    let average = words.next().and_then(|word| word.parse::<f64>().ok());
    let running = words.nth(2).and_then(|word| word.split('/').next());
    let now = running.and_then(|word| word.parse::<f64>().ok());
    let load = average.unwrap_or_default().max(now.unwrap_or_default());
    // The number of cores always fits into a u32.
    load / f64::from(u32::try_from(cores).unwrap_or(u32::MAX))
}

/// The parity of a program's own port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parity {
    Even,
    Odd,
}

/// Finds a free port of 127.0.0.1 of this `parity`, followed by `more` free ports. The sockets in
/// the result reserve them against other checkers.
///
/// Another program could bind the port before the program under test does. It is therefore not one
/// of the ports that the kernel uses for outgoing connections (on Linux, they begin at 32768).
/// Other checkers search in the same way; for them, a bound UDP port of the same number marks a
/// port as taken.
///
/// # Errors
/// None of the ports tried is free.
fn free_ports(more: u16, parity: Parity) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let port = PORTS.start + u16::from_be_bytes(bytes) % (PORTS.end - more - PORTS.start);
        let port = port / 2 * 2 + u16::from(parity == Parity::Odd);
        let claimed: io::Result<Vec<UdpSocket>> = (port..=port + more)
            .map(|port| {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let claim = UdpSocket::bind(address)?;
                bind_without_reuse(address).map(|()| claim)
            })
            .collect();
        match claimed {
            Ok(claims) => return Ok((SocketAddr::from((Ipv4Addr::LOCALHOST, port)), claims)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Binds the port and releases it, without SO_REUSEADDR, as a beginner's program does. The bind
/// fails while old connections on the port are in TIME_WAIT.
fn bind_without_reuse(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())
}

/// An empty folder for a server's files, removed on drop.
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
        let mut remaining = programs.remaining.lock();
        std::fs::create_dir(&path)?;
        remaining.folders.insert(path.clone());
        drop(remaining);
        Ok(ServerFolder { path, programs })
    }
}

impl Drop for ServerFolder<'_> {
    fn drop(&mut self) {
        let mut remaining = self.programs.remaining.lock();
        let _ = std::fs::remove_dir_all(&self.path);
        remaining.folders.remove(&self.path);
    }
}

/// The program of one check.
#[derive(Debug)]
pub(super) struct Subject<'p> {
    /// The address at which it listens.
    pub(super) address: SocketAddr,
    pub(super) patience: Duration,
    pub(super) start_within: Duration,
    /// The command line that started it.
    line: String,
    kind: Kind,
    /// Declared before `folder`, so that the process is stopped first.
    process: Mutex<Process<'p>>,
    /// True once a connection has been accepted. After that, a refused connection is the program's
    /// fault.
    has_been_reached: AtomicBool,
    folder: Option<ServerFolder<'p>>,
    /// The checker's listener, if the program is a client.
    pub(super) listener: Mutex<Option<TcpListener>>,
    programs: &'p Programs,
    /// Sockets that mark the ports as taken for other checkers.
    _claims: Vec<UdpSocket>,
}

impl Subject<'_> {
    /// Returns `true` if a connection has been accepted before.
    pub(super) fn has_been_reached(&self) -> bool {
        self.has_been_reached.load(Ordering::Relaxed)
    }

    /// Records that a connection has been accepted.
    pub(super) fn record_reached(&self) {
        self.has_been_reached.store(true, Ordering::Relaxed);
    }

    /// The exit status, if the program has exited.
    pub(super) fn end(&self) -> Option<ExitStatus> {
        self.process.lock().end()
    }

    /// The server's folder, if it has one.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(|folder| folder.path.as_path())
    }

    /// Kills the program as `kill -9` does, and waits briefly until its process group is gone.
    pub(super) fn kill(&self) {
        let mut process = self.process.lock();
        process.kill();
        // The shell has been reaped; the server is its child and may exit slightly later. (If no
        // process reaps such children, they stay in the group as zombies.)
        let until = Instant::now() + EXIT_GRACE;
        let group = Pid::from_raw(id_of(&process.child));
        while group.is_some_and(|group| test_kill_process_group(group).is_ok())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the killed program again, with the same command.
    ///
    /// # Errors
    /// `sh` can't be started.
    pub(super) fn start_again(&self) -> Result<(), Failure> {
        let again = Process::start(&self.line, self.kind, self.programs);
        *self.process.lock() =
            again.map_err(|error| Failure::expected("a running program").received(error))?;
        self.has_been_reached.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes `text` to the program's standard input.
    ///
    /// # Errors
    /// The program has closed its standard input.
    pub(super) fn type_text(&self, text: &str) -> Result<(), Failure> {
        let mut process = self.process.lock();
        let keyboard = process.keyboard.as_mut();
        let typed = keyboard.map(|keyboard| keyboard.write_all(text.as_bytes()));
        let failure = || Failure::expected("the program to read its standard input");
        match typed {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(failure().received(error)),
            None => Err(failure()),
        }
    }

    /// Closes the program's standard input, as Ctrl-D does.
    pub(super) fn close_keyboard(&self) {
        self.process.lock().keyboard = None;
    }

    /// The end of the program's output. After the program has exited, waits briefly for the rest,
    /// which may still be in the pipe. The wait is limited because a child process may keep the
    /// pipe open.
    pub(super) fn printed(&self) -> String {
        self.process.lock().printed()
    }
}

/// A running program in its own process group. It is killed on drop.
#[derive(Debug)]
struct Process<'p> {
    child: Child,
    /// Standard input, if the program is a client.
    keyboard: Option<ChildStdin>,
    printed: Arc<Mutex<Vec<u8>>>,
    /// The threads that read its output.
    readers: Vec<JoinHandle<()>>,
    programs: &'p Programs,
}

impl<'p> Process<'p> {
    fn start(line: &str, kind: Kind, programs: &'p Programs) -> io::Result<Process<'p>> {
        // Held until the process is in the list, so that a signal in between does not miss it.
        let mut remaining = programs.remaining.lock();
        let mut child = Command::new("sh")
            .args(["-c", line])
            .stdin(match kind {
                Kind::Client => Stdio::piped(),
                // A server needs no input; ours would read the checker's input as operator
                // commands.
                Kind::Server => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        remaining.running.insert(id_of(&child));
        drop(remaining);
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
        let until = Instant::now() + slowed(EXIT_GRACE);
        while self.end().is_some()
            && self.readers.iter().any(|reader| !reader.is_finished())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(2));
        }
        String::from_utf8_lossy(&self.printed.lock()).into_owned()
    }

    fn kill(&mut self) {
        let mut remaining = self.programs.remaining.lock();
        // After a process has been reaped and removed from the list, its ID may belong to another
        // process.
        if remaining.running.contains(&id_of(&self.child)) {
            kill_group(id_of(&self.child));
            let _ = self.child.wait();
            // Remove it only now: until the process has exited, a signal must find it in the list.
            remaining.running.remove(&id_of(&self.child));
            kill_orphans(&remaining.running);
        }
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn id_of(child: &Child) -> i32 {
    // Process IDs fit into an i32.
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

/// Reads a program's output, so that the program never blocks on a full pipe, and keeps the last
/// part of the output.
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
            let surplus = kept.len().saturating_sub(MAX_KEPT_BYTES);
            kept.drain(..surplus);
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_the_higher_of_average_and_now() {
        let load = |text| load_per_core(text, 2);
        assert!((load("6.00 3.00 1.00 1/300 4242\n") - 3.0).abs() < 0.01);
        assert!((load("0.10 3.00 1.00 7/300 4242\n") - 3.5).abs() < 0.01);
        for other in ["", "load: 6", "6.00"] {
            assert!(load(other) <= 3.0, "{other}");
        }
    }
}
