//! The limits of a cluster, with their units and reasons.

use std::time::Duration;

/// Duration of a lease. A server renews its lease after a third of this time, and is considered
/// dead if it does not renew it in time.
pub const LEASE: Duration = Duration::from_secs(6);
/// Timeout for a request to Redis or another server. After that, the outcome is unknown.
pub const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two attempts to reconnect to Redis. It doubles with each attempt, up to
/// [`CLUSTER_LONGEST_PAUSE`]. The first attempt after a stable connection is immediate.
pub const CLUSTER_RETRY: Duration = Duration::from_millis(150);
/// Maximum number of requests queued for Redis.
pub const CLUSTER_QUEUE: usize = 64 * 1024;
/// Maximum number of requests in a batch.
pub const CLUSTER_BATCH: usize = 200;

/// Age at which a connection is considered stable.
pub const CLUSTER_STABLE: Duration = Duration::from_secs(10);
/// Maximum pause between two attempts to reconnect to Redis.
pub const CLUSTER_LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Minimum interval between two notices about the other servers, after the first two.
pub const CLUSTER_NOTICE_EVERY: Duration = Duration::from_secs(10);
/// Time without a notice after which the next one is again sent immediately.
pub const CLUSTER_NOTICES_FORGOTTEN: Duration = Duration::from_secs(60);
/// Pause between two attempts to reach Redis during startup.
pub const CLUSTER_START_RETRY: Duration = Duration::from_secs(1);
