//! The limits of the entrances, with their units and reasons.

use std::time::Duration;

/// Timeout for a caller that is only told that the single port is full.
pub const TIME_FOR_FULL: Duration = Duration::from_secs(2);

/// After how long a browser that says nothing is asked whether it is there; it has as long again to answer.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);

/// How long a worker may take to turn away whoever has come to its port while a browser had its seat.
pub const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(10);

/// How many callbacks one address gets within a tick.
pub const CALLBACKS_A_TICK: u32 = 2;

/// How often a thread that waits for a worker checks whether the server has stopped.
pub(crate) const STOP_CHECK: Duration = Duration::from_millis(250);
