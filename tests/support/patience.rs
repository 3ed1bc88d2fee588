//! The time limit for expected events in tests.
#![allow(unreachable_pub, missing_docs)]

use std::time::Duration;

/// Keeps a test from waiting forever. Only a failing test reaches it. (Tests that look for a known
/// bug use a shorter limit.)
pub const PATIENCE: Duration = Duration::from_secs(match option_env!("TEST_PATIENCE") {
    Some(_) => 20,
    None => 120,
});
