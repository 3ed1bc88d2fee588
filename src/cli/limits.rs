//! Limits for text files, with units and reasons.

use std::time::Duration;

/// Maximum size, in bytes, of text read from a pipe or a device instead of a file: `/dev/zero`
/// never ends.
pub const PIPED_TEXT: usize = 1024 * 1024;

/// Timeout for a silent pipe that is used instead of a file. The writer may be a password manager
/// that is waiting for its user.
pub const PIPE_PATIENCE: Duration = Duration::from_secs(60);
