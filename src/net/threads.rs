//! Starts threads, and explains why the system refuses one.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::limits;

/// Starts a thread with this name, which has at most 15 bytes.
///
/// # Errors
/// The system's error, with an explanation if a sandbox causes it.
pub fn start(
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let builder = Builder::new()
        .name(name.into())
        .stack_size(limits::THREAD_STACK);
    builder.spawn(run).map_err(explained)
}

/// Explains an `error` from creating a thread. EPERM and ENOSYS mean that a system call filter
/// forbids it; limits on the number of threads have other error numbers.
pub fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => io::Error::new(
            error.kind(),
            format!(
                "no thread can be created: {error}. A sandbox (seccomp) forbids the system call \
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
    fn a_sandbox_that_forbids_threads_is_named_and_a_limit_is_none() {
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
}
