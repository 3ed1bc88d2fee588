//! Runs `make demo` to its end, as fast as possible.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

/// The demo waits for each line that it announces, and exits with an error if one is missing.
#[test]
fn demo_runs_to_its_end() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("DEMO_PACE", "0")
        // Slow timeouts, for a busy machine.
        .env("CHAT_TEST_CLOCK", "100")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("Stopped."), "{text}");
}
