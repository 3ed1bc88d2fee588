//! The limits of the journal, with their units and reasons.

use std::time::Duration;

/// Time for which the writer collects messages after the first one. The disk is synchronized once
/// per transaction, so messages that are up to this old may be lost in a power cut.
pub const BATCH_TIME: Duration = Duration::from_millis(50);

/// Number of messages at which the writer stops collecting.
pub const BATCH_ROWS: usize = 500;

/// Maximum number of messages that wait for the disk: half a minute at two thousand per second.
pub const QUEUE_ROWS: usize = 65_536;

/// Maximum total size of the texts and names of these messages, in bytes.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Maximum time that the operator's command waits for a deletion to reach the disk.
pub const DELETION_PATIENCE: Duration = Duration::from_secs(5);

/// Pause after a failure that may be temporary, such as a full disk.
pub const RETRY: Duration = Duration::from_secs(1);

/// Interval at which an idle writer checks for messages that are too old.
pub const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Number of messages that one retention step deletes. It is small, so that no step delays a batch
/// for long.
pub const RETENTION_ROWS: usize = 200;

/// Number of pages that one retention step returns to the file system: 1 MiB.
pub const RETENTION_PAGES: u32 = 256;

/// Default number of days for which messages are kept.
pub const KEEP_DAYS: u32 = 30;

/// Default limit on the length of the file's used pages, in bytes.
pub const MAX_BYTES: u64 = 1 << 30;

/// Time for which SQLite waits for another program's lock on the file, such as a backup's.
pub const BUSY: Duration = Duration::from_secs(1);

/// Maximum number of idle connections kept for readers. Each has a cache of up to 2 MiB.
pub const READERS: usize = 4;

/// Maximum number of conversations whose numbers the writer caches.
pub const KNOWN_CONVERSATIONS: usize = 10_000;
