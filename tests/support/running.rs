//! A program that runs until somebody ends it, and ends with its test, also if that is red.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

/// The clock factor of programs that tests start. A tick takes minutes, so none of their own
/// timeouts expires before the test's. A test that waits for such a timeout uses `.env(CLOCK,
/// "1")`.
pub const CLOCK: &str = "CHAT_TEST_CLOCK";
pub const SLOW: &str = "100";

/// One of our programs, started as by `make`, with enough time on a busy machine.
pub fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    // Cargo sets the first one; a test may also be run without it.
    command
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .env(CLOCK, SLOW);
    command
}

/// It has been started by a test, and is killed when this is dropped.
pub struct Running(Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().unwrap())
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
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
