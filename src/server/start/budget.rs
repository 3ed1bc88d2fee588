//! Checks the system's limits on threads and descriptors before anything starts.
//!
//! The system does not reliably refuse to create a thread that exceeds its limits. On Linux, every
//! thread uses four of the process's memory maps, and creating a thread with the last of them
//! aborts the whole process. Threads are therefore counted here, and refused before that happens.

use std::fmt;
use std::fs;
use std::path::Path;

use super::Settings;
use crate::limits;
use crate::threads::ThreadBudget;

/// Memory maps per thread: its stack, its signal stack, and the guard below each.
const MAPS_A_THREAD: usize = 4;
/// The share of the memory maps that threads may use, per mille. The allocator needs the rest.
const MAPS_PER_MILLE: usize = 985;
/// Threads of the program besides the server's own: main, signals, keyboard, console, and so on.
const OTHER_THREADS: usize = 8;
/// Descriptors besides the server's sockets: standard input and output, files, the signal pipe.
const OTHER_DESCRIPTORS: usize = 32;

/// Number of files that the journal has open: three for the writer, and three for each of four
/// readers.
const JOURNAL_FILES: usize = 15;

/// The threads and sockets that a server needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// The maximum number of the server's own threads, without rooms.
    pub(crate) threads: usize,
    /// Number of sockets when every seat is taken.
    pub(crate) sockets: usize,
}

impl Needs {
    /// Counts what a server with these settings needs at most.
    pub(super) fn of(settings: &Settings) -> Needs {
        let seats = settings.single_port.unwrap_or(settings.workers);
        let listeners = if settings.single_port.is_some() {
            1
        } else {
            // One per worker, and two for the portal.
            seats + 2
        };
        let (viewers, board) = match settings.board {
            // One thread per viewer and per pending request, the accept thread, and the feed.
            Some(_) => (limits::VIEWERS + limits::HANDSHAKES, 2),
            None => (0, 0),
        };
        // The accept thread, and one per request.
        let metrics = settings.metrics.map_or(0, |_| 1 + limits::HANDSHAKES);
        let (browsers, listener) = match &settings.web {
            // A browser in a seat has its own thread, besides the seat's worker.
            Some(_) => (seats, 1),
            None => (0, 0),
        };
        // Callers that are not authenticated yet: their threads, and the descriptors of parked callers.
        // Without TLS and browsers, only callers at room ports can be pending, and they are refused if
        // descriptors run out.
        let has_pending = settings.tls.is_some() || settings.web.is_some();
        let pending = usize::from(has_pending) * limits::HANDSHAKES;
        let parked = [
            has_pending,
            settings.board.is_some(),
            settings.metrics.is_some(),
        ]
        .map(|has_callers| if has_callers { limits::PARKED } else { 0 })
        .iter()
        .sum::<usize>();
        #[cfg(feature = "journal")]
        let journal = usize::from(settings.journal.is_some());
        #[cfg(not(feature = "journal"))]
        let journal = 0;
        // Per seat, a timer and a worker, or a timer and a connection's thread. The other four are the
        // ticker, the portal's two threads, and `liveness`.
        Needs {
            threads: 2 * seats
                + 4
                + journal
                + viewers
                + board
                + metrics
                + browsers
                + listener
                + limits::HANDSHAKES,
            // The database, its log and its index, for the writer and the readers.
            sockets: JOURNAL_FILES * journal
                + listeners
                + seats
                + viewers
                + board
                + metrics
                + browsers
                + listener
                + pending
                + parked,
        }
    }
}

/// A limit of this machine, and how much of it this process can still use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The limited resource: `threads` or `descriptors`.
    pub of: &'static str,
    /// The system's name for the limit.
    pub name: &'static str,
    /// Its value.
    pub value: usize,
    /// Number of further threads or descriptors that this process can have.
    pub left: usize,
    /// Number of threads or descriptors that the server needs.
    pub needed: usize,
    /// The command that raises the limit.
    pub cure: String,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit {
            of,
            name,
            value,
            left,
            needed,
            cure,
        } = self;
        write!(
            f,
            "{needed} {of} are needed, but only {left} are available ({name} is {value}): raise the \
             limit with `{cure}`"
        )
    }
}

/// Checks whether the limits allow `needs`, and returns the number of threads that remain for
/// rooms. If the system does not publish its limits, nothing is refused.
///
/// # Errors
/// Every limit that is too low.
pub(crate) fn check(needs: Needs) -> Result<ThreadBudget, Vec<Limit>> {
    let threads = needs.threads + OTHER_THREADS;
    let descriptors = needs.sockets + OTHER_DESCRIPTORS;
    let limits: Vec<Limit> = [
        maps(threads),
        threads_of_all(threads),
        threads_of_user(threads),
        threads_of_group(threads),
        open_files(descriptors),
    ]
    .into_iter()
    .flatten()
    .collect();
    let broken: Vec<Limit> = limits
        .iter()
        .filter(|limit| limit.needed > limit.left)
        .cloned()
        .collect();
    if !broken.is_empty() {
        return Err(broken);
    }
    let left = limits.iter().filter(|limit| limit.of == "threads");
    let left = left.map(|limit| limit.left - limit.needed).min();
    Ok(ThreadBudget::of(left.unwrap_or(usize::MAX)))
}

fn maps(needed: usize) -> Option<Limit> {
    let value = number_in("/proc/sys/vm/max_map_count")?;
    let used = fs::read_to_string("/proc/self/maps").ok()?.lines().count();
    let for_threads = (value * MAPS_PER_MILLE / 1000).saturating_sub(used);
    let wanted = (needed * MAPS_A_THREAD + used) / MAPS_PER_MILLE * 1000 + 2000;
    Some(Limit {
        of: "threads",
        name: "vm.max_map_count",
        value,
        left: for_threads / MAPS_A_THREAD,
        needed,
        cure: format!("sudo sysctl -w vm.max_map_count={wanted}"),
    })
}

fn threads_of_all(needed: usize) -> Option<Limit> {
    let value = number_in("/proc/sys/kernel/threads-max")?;
    // In "0.50 0.40 0.30 2/345 6789", 345 is the number of threads.
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let there = load.split('/').nth(1)?.split(' ').next()?.parse().ok()?;
    Some(Limit {
        of: "threads",
        name: "kernel.threads-max",
        value,
        left: value.saturating_sub(there),
        needed,
        cure: format!(
            "sudo sysctl -w kernel.threads-max={}",
            there + needed + 1000
        ),
    })
}

fn threads_of_user(needed: usize) -> Option<Limit> {
    let value = process_limit("Max processes")?;
    // The system does not publish the number of this user's threads; the shell has at least one.
    Some(Limit {
        of: "threads",
        name: "ulimit -u",
        value,
        left: value.saturating_sub(1),
        needed,
        cure: format!("ulimit -u {}", needed + 1000),
    })
}

/// The limit of a container, a service or a user's slice: the tightest one from this process's own
/// control group up to the root.
fn threads_of_group(needed: usize) -> Option<Limit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut tightest: Option<Limit> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        // In a container, the path may be relative to the host's hierarchy, which is not visible
        // here, but the root is.
        for group in Path::new(path).ancestors() {
            let folder = Path::new(root).join(group.strip_prefix("/").unwrap_or(group));
            let (Some(value), Some(there)) = (
                number_in(folder.join("pids.max")),
                number_in(folder.join("pids.current")),
            ) else {
                continue;
            };
            let left = value.saturating_sub(there);
            if tightest.as_ref().is_none_or(|limit| left < limit.left) {
                tightest = Some(Limit {
                    of: "threads",
                    name: "pids.max of the control group",
                    value,
                    left,
                    needed,
                    cure: format!(
                        "echo {} | sudo tee {}",
                        there + needed + 100,
                        folder.join("pids.max").display()
                    ),
                });
            }
        }
    }
    tightest
}

/// Raises this process's soft limit of descriptors to the hard limit. The soft limit is low (1024
/// on most systems) because of programs that use `select`. If it can't be raised, it stays
/// unchanged.
pub(crate) fn raise_descriptor_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let current = maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

fn open_files(needed: usize) -> Option<Limit> {
    let value = process_limit("Max open files")?;
    let used = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(Limit {
        of: "descriptors",
        name: "ulimit -Hn",
        value,
        left: value.saturating_sub(used),
        needed,
        // The soft limit already equals the hard one, which only root may raise.
        cure: raise_descriptors(used + needed),
    })
}

/// Returns the command that allows programs started from this shell `wanted` descriptors.
pub(crate) fn raise_descriptors(wanted: usize) -> String {
    format!("sudo prlimit --pid $$ --nofile={wanted}")
}

fn number_in(path: impl AsRef<Path>) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns the soft limit with this name, or `None` if it is unknown or unlimited.
fn process_limit(name: &str) -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excessive_needs_are_refused_with_the_limit_and_the_fix() {
        let needs = Needs {
            threads: 40_000_000,
            sockets: 2,
        };
        let Err(limits) = check(needs) else {
            // This system does not publish its limits.
            assert!(number_in("/proc/sys/vm/max_map_count").is_none());
            return;
        };
        let text = limits[0].to_string();
        assert!(text.contains("40000008 threads are needed"), "{text}");
        assert!(text.contains("sudo sysctl -w vm.max_map_count=1"), "{text}");
    }

    #[test]
    fn a_small_server_fits() {
        assert!(
            check(Needs {
                threads: 10,
                sockets: 10
            })
            .is_ok()
        );
    }
}
