//! A running program that is killed when its test finishes, even if the test fails.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

/// The environment variable with the clock factor for programs that tests start. A tick takes
/// minutes, so none of their own timeouts expires before the test's. A test that waits for such a
/// timeout uses `.env(CLOCK, "1")`.
pub const CLOCK: &str = "CHAT_TEST_CLOCK";
pub const SLOW: &str = "100";

/// A command for one of our programs, as `make` starts it, with slow timeouts for a busy machine.
pub fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    // Cargo sets the first variable, but a test may also run without Cargo.
    command
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .env(CLOCK, SLOW);
    command
}

/// A child process that is killed on drop.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().unwrap())
    }

    /// Sends a signal, as `kill` does.
    pub fn signal(&self, signal: &str) {
        let pid = self.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Suspends the process, and waits until it is suspended.
    pub fn stop(&self) {
        self.signal("-STOP");
        let is_stopped = || {
            let pid = self.id().to_string();
            let ps = Command::new("ps")
                .args(["-o", "stat=", "-p", &pid])
                .output();
            ps.unwrap().stdout.starts_with(b"T")
        };
        while !is_stopped() {
            std::thread::yield_now();
        }
    }

    /// The first line on standard error, a pipe, that contains `part`. The rest is read and
    /// dropped.
    pub fn first_error_with(&mut self, part: &str) -> String {
        let output = BufReader::new(self.stderr.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains(part));
        std::thread::spawn(move || lines.count());
        line.unwrap()
    }

    /// The first port on 127.0.0.1 in the output of a server whose standard output is a pipe. The
    /// rest of the output is read and dropped.
    pub fn first_port(&mut self) -> u16 {
        let output = BufReader::new(self.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let port = lines.find_map(|line| {
            let port = line.split("127.0.0.1:").nth(1)?;
            port.split_whitespace().next()?.parse().ok()
        });
        std::thread::spawn(move || lines.count());
        port.unwrap()
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
