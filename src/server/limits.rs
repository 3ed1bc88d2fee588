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
pub use portal_sessions::limits::*;
pub use portal_wire::limits::*;

/// Maximum length of a recorded run that is read from a pipe, in bytes. (A regular file has no
/// limit.)
pub const PIPED_RECORDING: usize = 256 * 1024 * 1024;

/// The backlog of the portal's listener, in connections. The standard library's 128 is too small
/// for a class that starts all at once. The kernel caps it at `net.core.somaxconn`.
pub const PORTAL_BACKLOG: i32 = 4096;

/// Capacity of the console's event queue, and of the event file's, in events. Further events are
/// dropped and counted.
pub const EVENT_QUEUE: usize = 8 * 1024;

/// Maximum time that the shutdown waits for a console on a paused terminal.
pub const CONSOLE_PATIENCE: Duration = Duration::from_secs(1);

/// A silent client is warned this long before the idle timeout, or a third of the timeout before it
/// if that is shorter. This leaves enough time to notice the warning and press a key.
pub const IDLE_SOON: Duration = Duration::from_secs(60);

/// Maximum time that startup waits for the portal's port, or for the first worker's port. This is
/// slightly longer than the system keeps the port of a closed connection (60 s on Linux).
pub const TIME_WAIT: Duration = Duration::from_secs(65);
/// Maximum time that startup waits for a port that an open outgoing connection is using. Many of
/// these connections are short-lived.
pub const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// Interval at which startup retries such a port, and at which a thread waiting for a socket checks
/// whether the server is shutting down.
pub const BIND_PAUSE: Duration = Duration::from_millis(250);
