//! Runs `make demo` to its end, as fast as possible, and checks what `make lab` refuses.
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

/// Its buttons make clients misbehave, so no other machine may press them.
#[test]
fn laboratory_refuses_to_listen_for_others() {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .env("LAB", "0.0.0.0:0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(reason.contains("loopback"), "{reason}");
}
