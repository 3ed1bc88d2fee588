//! Starts threads, and explains why the system refuses one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::limits;

/// Starts a thread with this name, which may have at most 15 bytes.
///
/// # Errors
/// The system's error, with an explanation if a sandbox is the cause.
pub fn start(
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let builder = Builder::new()
        .name(name.into())
        .stack_size(limits::THREAD_STACK);
    builder.spawn(run).map_err(explained)
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
pub fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => io::Error::new(
            error.kind(),
            format!(
                "can't create a thread: {error}. A sandbox (seccomp) forbids the system call \
                 clone3, as Docker before 20.10.10 does. Update Docker or the sandbox, or start the \
                 container with `--security-opt seccomp=unconfined`"
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
    fn threads_are_counted_and_their_tokens_return() {
        let budget = ThreadBudget::of(2);
        let (first, second) = (budget.take(), budget.clone().take());
        assert!(first.is_some() && second.is_some() && budget.take().is_none());
        drop(first);
        assert!(budget.take().is_some());
    }
}
