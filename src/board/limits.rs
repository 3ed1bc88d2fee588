//! The limits of the board, with their units and reasons.

use std::time::Duration;

/// Maximum number of queued events for the board. It is large because the board must not miss a
/// change.
pub const BOARD_QUEUE: usize = 64 * 1024;

/// Maximum number of browsers that can watch the board at the same time.
pub const VIEWERS: usize = 100;

/// Time that the viewers' threads have to finish when the board shuts down.
pub(crate) const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);
