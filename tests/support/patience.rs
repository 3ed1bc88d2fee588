//! How long a test waits for what has to come.
#![allow(unreachable_pub, missing_docs)]

use std::time::Duration;

/// Guards a test against waiting for ever. It passes without waiting that long; only a failure takes it. (What looks
/// for a bug that is known to be there waits for less.)
pub const PATIENCE: Duration = Duration::from_secs(match option_env!("TEST_PATIENCE") {
    Some(_) => 20,
    None => 120,
});
