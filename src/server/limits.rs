//! The limits of the server and its clients, with their units and reasons. The limits of what travels
//! are in [`portal_wire::limits`], those of
//! sockets in [`portal_net::limits`].

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

/// How many connections the portal's listener lets wait: std's own 128 is too short for a class
/// that starts at once. The kernel caps it at `net.core.somaxconn`.
pub const PORTAL_BACKLOG: i32 = 4096;

/// Events that may wait for the console or for the event file before further ones are counted
/// as dropped instead.
pub const EVENT_QUEUE: usize = 8 * 1024;

/// How long the end waits for a console whose terminal is paused.
pub const CONSOLE_PATIENCE: Duration = Duration::from_secs(1);

/// How long before the idle timeout whoever says nothing is warned, where a third of the timeout is
/// not shorter: time enough to notice it and to press a key.
pub const IDLE_SOON: Duration = Duration::from_secs(60);

/// Slightly longer than the system keeps the port of a closed connection (60 s on Linux). The start
/// waits this long for the portal's port, or for the first worker's port.
pub const TIME_WAIT: Duration = Duration::from_secs(65);
/// How long the start waits for a port that an outgoing connection of some program has: many are short.
pub const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// How often a port is tried that such a connection has, and how often somebody who waits for a socket looks whether
/// the server has ended.
pub const BIND_PAUSE: Duration = Duration::from_millis(250);
