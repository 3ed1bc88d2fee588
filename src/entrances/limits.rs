//! The limits of the entrances, with their units and reasons.

use std::time::Duration;

/// Timeout for a caller that receives only FULL from the single port.
pub const TIME_FOR_FULL: Duration = Duration::from_secs(2);

/// Idle time after which a browser is pinged, and the timeout for its answer.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);

/// Timeout for a worker to reject the connections that arrived at its port while a browser had its
/// seat.
pub const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(10);

/// Maximum number of callbacks to one address per tick.
pub const CALLBACKS_A_TICK: u32 = 2;

/// Interval at which a thread waiting for a worker checks whether the server is stopping.
pub(crate) const STOP_CHECK: Duration = Duration::from_millis(250);
