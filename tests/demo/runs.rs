//! `make demo` is played to its end, as quickly as it can be.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

/// It waits for each line that it announces, and ends with an error if one does not come.
#[test]
fn the_demonstration_comes_to_its_end() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("DEMO_PACE", "0")
        // No client is too late, even on a busy machine.
        .env("CHAT_TEST_CLOCK", "100")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("Stopped."), "{said}");
}
