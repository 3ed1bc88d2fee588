//! The limits of the journal, with their units and reasons.

use std::time::Duration;

/// Time for which the writer collects messages after the first one. The disk is synchronized once
/// per transaction, and a message that is this old at a power cut may be lost.
pub const BATCH_TIME: Duration = Duration::from_millis(50);

/// Number of messages at which the writer stops to collect.
pub const BATCH_ROWS: usize = 500;

/// Maximum number of messages that wait for the disk: half a minute of two thousand a second.
pub const QUEUE_ROWS: usize = 65_536;

/// Maximum number of bytes of their texts and names.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Time for which the operator's command waits for a deletion on the disk.
pub const DELETION_PATIENCE: Duration = Duration::from_secs(5);

/// Pause after a failure that may pass, such as a full disk.
pub const RETRY: Duration = Duration::from_secs(1);

/// Interval at which an idle writer looks for messages that are too old.
pub const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Number of messages that one step of the retention deletes, so that no step delays a batch for
/// long.
pub const RETENTION_ROWS: usize = 200;

/// Number of pages that one step returns to the file system: 1 MiB.
pub const RETENTION_PAGES: u32 = 256;

/// Number of days for which messages are kept, unless the operator chooses another.
pub const KEEP_DAYS: u32 = 30;

/// The length of the messages in the file, in bytes, unless the operator chooses another.
pub const MAX_BYTES: u64 = 1 << 30;

/// Time for which SQLite waits for another program's lock on the file, such as a backup's.
pub const BUSY: Duration = Duration::from_secs(1);

/// Number of idle connections that are kept for readers. Each has a cache of up to 2 MiB.
pub const READERS: usize = 4;

/// Number of conversations whose numbers the writer remembers.
pub const KNOWN_CONVERSATIONS: usize = 10_000;
