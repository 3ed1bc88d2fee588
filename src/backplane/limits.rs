//! The limits of a chat of several servers, with their units and reasons.

use std::time::Duration;

/// How long a server of several that says nothing is taken to live; it says something three times as often.
pub const LEASE: Duration = Duration::from_secs(6);
/// How long somebody waits for what the engine or another server answers; then it is not known.
pub const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a server waits between two tries to reach an engine that is away; six times as long after many.
pub const CLUSTER_RETRY: Duration = Duration::from_millis(150);
/// How many asks may wait for the engine.
pub const CLUSTER_QUEUE: usize = 64 * 1024;
/// How many asks go out together.
pub const CLUSTER_BATCH: usize = 200;

/// A connection that has lasted for so long is not about to break again.
pub const CLUSTER_STABLE: Duration = Duration::from_secs(10);
/// The longest pause between two tries to reach Redis.
pub const CLUSTER_LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The least time between two notices about the other servers, after the first two.
pub const CLUSTER_NOTICE_EVERY: Duration = Duration::from_secs(10);
/// After so long without one, notices are sent at once again.
pub const CLUSTER_NOTICES_FORGOTTEN: Duration = Duration::from_secs(60);
/// Pause between two tries to reach Redis while the server starts.
pub const CLUSTER_START_RETRY: Duration = Duration::from_secs(1);
