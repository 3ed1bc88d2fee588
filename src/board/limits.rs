//! The limits of the board, with their units and reasons.

use std::time::Duration;

/// Events that may wait for the board, which shows changes but must not miss one.
pub const BOARD_QUEUE: usize = 64 * 1024;

/// Browsers that may watch the board at the same time.
pub const VIEWERS: usize = 100;

/// Time that the end of the board waits for its viewers' threads.
pub(crate) const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);
