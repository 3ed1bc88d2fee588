//! Starts threads, keeps a roster of them, and explains why the system refuses to start one.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::limits;
use crate::lock::Mutex;

thread_local! {
    /// The roster of this thread, which every thread that it starts joins.
    static ROSTER: RefCell<Option<Roster>> = const { RefCell::new(None) };
}

/// The names of a server's running threads.
///
/// A thread joins the roster of the thread that starts it, and leaves the roster on exit. The
/// roster is inherited rather than passed on, so that no thread can be forgotten: a thread that
/// another crate starts, or that a later version adds, is on the roster too.
#[derive(Clone, Default)]
pub struct Roster {
    state: Arc<Mutex<RosterState>>,
}

/// Guarded by a leaf lock. The observer is called while the lock is held, so that it learns of
/// every thread exactly once, and of each start before the exit.
#[derive(Default)]
struct RosterState {
    names: Vec<String>,
    observer: Option<ThreadObserver>,
}

/// A function that is called with each change to a roster. It must not block or take a lock.
pub type ThreadObserver = Box<dyn Fn(ThreadChange<'_>) + Send + Sync>;

/// A change to a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadChange<'n> {
    /// A thread with this name has started.
    Started(&'n str),
    /// A thread with this name is about to exit.
    Ended(&'n str),
}

/// A thread's entry in its roster. Dropping it removes the entry.
struct Entry {
    roster: Roster,
    name: String,
}

impl Roster {
    /// Returns the current thread's roster. Without one, the current thread becomes the first
    /// thread of a new roster.
    pub fn of_this_thread() -> Roster {
        ROSTER.with_borrow_mut(|roster| {
            let roster = roster.get_or_insert_with(|| {
                let roster = Roster::default();
                let name = std::thread::current().name().unwrap_or("?").to_owned();
                roster.state.lock().names.push(name);
                roster
            });
            roster.clone()
        })
    }

    /// Calls `observer` with each running thread, then with every change. It replaces the previous
    /// observer.
    pub fn observe(&self, observer: ThreadObserver) {
        let mut state = self.state.lock();
        for name in &state.names {
            observer(ThreadChange::Started(name));
        }
        state.observer = Some(observer);
    }

    /// Adds the current thread, and makes this the roster of the threads that it starts.
    fn join(self, name: String) -> Entry {
        ROSTER.set(Some(self.clone()));
        let mut state = self.state.lock();
        if let Some(observer) = &state.observer {
            observer(ThreadChange::Started(&name));
        }
        state.names.push(name.clone());
        drop(state);
        Entry { roster: self, name }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.roster.state.lock();
        if let Some(at) = state.names.iter().position(|name| *name == self.name) {
            state.names.swap_remove(at);
        }
        if let Some(observer) = &state.observer {
            observer(ThreadChange::Ended(&self.name));
        }
    }
}

/// Starts a thread with this name, which may have at most 15 bytes.
///
/// # Errors
/// The system's error, with an explanation if a sandbox is the cause.
pub fn start(
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start_with(Builder::new().stack_size(limits::THREAD_STACK), name, run)
}

/// Like [`start`], with a stack of the system's usual size.
///
/// # Errors
/// The same errors as [`start`].
pub fn start_large(
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start_with(Builder::new(), name, run)
}

fn start_with(
    builder: Builder,
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let name = name.into();
    let roster = ROSTER.with_borrow(Clone::clone);
    let builder = builder.name(name.clone());
    let thread = builder.spawn(move || {
        let _entry = roster.map(|roster| roster.join(name));
        run();
    });
    thread.map_err(explained)
}

/// The number of threads that the server may still start. Clones share it.
#[derive(Clone, Debug)]
pub struct ThreadBudget {
    left: Arc<AtomicUsize>,
}

/// Permission to run one thread, which returns to the budget on drop.
#[derive(Debug)]
pub struct ThreadToken {
    left: Arc<AtomicUsize>,
}

impl ThreadBudget {
    /// Creates a budget of `threads` threads.
    pub fn of(threads: usize) -> ThreadBudget {
        ThreadBudget {
            left: Arc::new(AtomicUsize::new(threads)),
        }
    }

    /// Takes the permission to run one more thread; `None` if the budget is used up.
    pub fn take(&self) -> Option<ThreadToken> {
        let left = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, left)
            .ok()?;
        Some(ThreadToken {
            left: Arc::clone(&self.left),
        })
    }
}

/// Starts a thread that counts against the budget.
///
/// # Errors
/// The budget is used up, or the system can't create a thread.
pub fn spawn(
    budget: &ThreadBudget,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    spawn_with(take(budget)?, name, run)
}

/// Takes the permission to run one more thread.
///
/// # Errors
/// The budget is used up.
pub fn take(budget: &ThreadBudget) -> io::Result<ThreadToken> {
    let too_many = || io::Error::other("the server has as many threads as this machine allows");
    budget.take().ok_or_else(too_many)
}

/// Like [`spawn`], for a thread that already has its token.
///
/// # Errors
/// The system can't create a thread.
pub fn spawn_with(
    token: ThreadToken,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start(name, move || {
        run();
        drop(token);
    })
}

impl Drop for ThreadToken {
    fn drop(&mut self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }
}

/// Explains an `error` from creating a thread. EPERM and ENOSYS mean that a system call filter
/// forbids it; exceeding a limit on the number of threads gives other errors.
fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => io::Error::new(
            error.kind(),
            format!(
                "can't create a thread: {error}. A sandbox (seccomp) blocks the system call \
                 clone3, as Docker before 20.10.10 does. Update Docker or the sandbox, or start \
                 the container with `--security-opt seccomp=unconfined`"
            ),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_that_forbids_threads_is_named_and_a_limit_is_not() {
        for (number, is_sandbox) in [
            (libc::EPERM, true),
            (libc::ENOSYS, true),
            (libc::EAGAIN, false),
            (libc::ENOMEM, false),
        ] {
            let shown = explained(io::Error::from_raw_os_error(number)).to_string();
            assert_eq!(shown.contains("seccomp=unconfined"), is_sandbox, "{shown}");
        }
    }

    #[test]
    fn a_roster_has_the_threads_that_its_threads_start_until_they_end() {
        // Use a separate thread, because this test must not put other tests' threads on a roster.
        let test = std::thread::Builder::new().name("first".to_owned());
        let test = test.spawn(|| {
            let roster = Roster::of_this_thread();
            let (told, heard) = crossbeam_channel::unbounded();
            let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
            let outer = start("outer", move || {
                let inner = start("inner", move || {
                    let _ = wait.recv();
                });
                let inner = inner.unwrap();
                inner.join().unwrap();
            });
            while roster.state.lock().names.len() < 3 {
                std::thread::yield_now();
            }
            roster.observe(Box::new(move |change| {
                told.send(format!("{change:?}")).unwrap();
            }));
            drop(go_on);
            outer.unwrap().join().unwrap();
            let mut changes: Vec<String> = heard.try_iter().collect();
            // The threads that are running already, in any order.
            changes[..3].sort();
            let named = |change: &str, name: &str| format!("{change}({name:?})");
            assert_eq!(
                changes,
                [
                    named("Started", "first"),
                    named("Started", "inner"),
                    named("Started", "outer"),
                    named("Ended", "inner"),
                    named("Ended", "outer"),
                ]
            );
        });
        test.unwrap().join().unwrap();
    }

    #[test]
    fn threads_are_counted_and_their_tokens_return() {
        let budget = ThreadBudget::of(2);
        let (first, second) = (budget.take(), budget.clone().take());
        assert!(first.is_some() && second.is_some() && budget.take().is_none());
        drop(first);
        assert!(budget.take().is_some());
    }
}
