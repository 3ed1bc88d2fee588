//! The limits of text files, with their units and reasons.

use std::time::Duration;

/// Limit on text from a pipe or a device that is used instead of a file, in bytes: `/dev/zero` has
/// no end.
pub const PIPED_TEXT: usize = 1024 * 1024;

/// Timeout for a silent pipe that is used instead of a file. Its writer may be a password manager
/// that waits for its user.
pub const PIPE_PATIENCE: Duration = Duration::from_secs(60);
