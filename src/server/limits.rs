//! The limits of the server and its clients, with their units and reasons: those of this crate, and
//! those of all other crates, which this module re-exports.

use std::time::Duration;

pub use portal_accounts::limits::*;
#[cfg(feature = "cluster")]
pub use portal_backplane::limits::*;
pub use portal_board::limits::*;
pub use portal_cli::limits::*;
pub use portal_core::limits::*;
pub use portal_entrances::limits::*;
pub use portal_net::limits::*;
pub use portal_wire::limits::*;

/// Limit on a recorded run from a pipe, in bytes. (A regular file has no limit.)
pub const PIPED_RECORDING: usize = 256 * 1024 * 1024;

/// The backlog of the portal's listener, in connections. std's own 128 is too short for a class
/// that starts at once. The kernel caps it at `net.core.somaxconn`.
pub const PORTAL_BACKLOG: i32 = 4096;

/// Capacity of the queue of events for the console, and of that for the event file. Further events
/// are dropped and counted.
pub const EVENT_QUEUE: usize = 8 * 1024;

/// The time that the shutdown waits for a console on a paused terminal.
pub const CONSOLE_PATIENCE: Duration = Duration::from_secs(1);

/// The time before the idle timeout at which a silent client is warned, or a third of the timeout
/// if that is shorter. It is long enough to notice the warning and to press a key.
pub const IDLE_SOON: Duration = Duration::from_secs(60);

/// Slightly longer than the system keeps the port of a closed connection (60 s on Linux). The start
/// waits this long for the portal's port, or for the first worker's port.
pub const TIME_WAIT: Duration = Duration::from_secs(65);
/// The time that the start waits for a port that an open outgoing connection uses. Many of these
/// connections are short.
pub const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// The interval at which the start retries such a port, and at which a thread that waits for a
/// socket checks whether the server is shutting down.
pub const BIND_PAUSE: Duration = Duration::from_millis(250);
