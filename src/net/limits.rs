//! Limits for sockets and for connections that are not authenticated yet, with units and reasons.

use std::time::Duration;

/// Backlog of a worker's listener, in connections; the same as std's. The kernel queues one more.
pub const WORKER_BACKLOG: usize = 128;

/// Stack size of each server thread, in bytes. The XML parser does not recurse and nothing else
/// nests deeply, so this is generous. Only the pages that a thread touches use memory.
pub const THREAD_STACK: usize = 256 * 1024;

/// Maximum number of threads for callers that are not authenticated yet: TLS handshakes with the
/// portal, browsers' requests, room connections that have not sent a passcode yet, and callers that
/// receive FULL over TLS.
pub const HANDSHAKES: usize = 64;
/// Maximum number of these threads per address. A class behind one address has to wait briefly. If
/// the callers from one address stall in their handshakes, three quarters of the threads remain
/// available to other addresses.
pub const HANDSHAKES_PER_ADDRESS: usize = 16;
/// Maximum number of unauthenticated callers waiting for a thread. Each uses a file descriptor.
pub const PARKED: usize = 256;
/// Maximum time that a thread waits for a caller's next byte while other callers wait for a thread.
/// Longer than a round trip, even on a mobile network.
pub const NEXT_BYTE_WITHIN: Duration = Duration::from_secs(1);
/// Like [`NEXT_BYTE_WITHIN`], but in total, for all bytes from a caller. A TLS handshake and a
/// request take two or three round trips.
pub const WAITING_WITHIN: Duration = Duration::from_secs(3);
/// Timeout for a TLS handshake that no seat's timer covers.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Maximum number of unread bytes to read and discard before a socket is closed. Otherwise, unread
/// bytes would make the kernel reset the connection and discard sent bytes that have not been
/// delivered yet.
pub const DRAIN: usize = 64 * 1024;

/// Number of unread bytes at or above which a connection is reset instead of closed gracefully. At
/// that point, the peer may have filled the window, and the window of a socket that was shut down
/// never reopens. The reset keeps the peer from blocking in its write for a minute. With fewer
/// unread bytes, the connection is closed gracefully, and the last bytes sent are sure to arrive.
pub const RESET_FROM: usize = 16 * 1024;

/// Idle time before the first TCP keepalive probe. A machine that vanishes sends no FIN, so the
/// system must probe it.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// Interval between keepalive probes.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// Number of unanswered keepalive probes after which the system closes the connection, two minutes
/// after it became idle.
pub const KEEPALIVE_TRIES: u32 = 4;
/// Timeout for a client whose kernel acknowledges nothing. The kernel sends no keepalive probes
/// while data is unacknowledged, so the server itself checks, ten times in this period. A client
/// that does not read has a closed window, but its kernel acknowledges the window probes. The
/// outbox limits how many bytes may wait for such a client, but not for how long. Systems that do
/// not report acknowledgements (all except Linux) apply their own, longer timeout.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(100);
/// Maximum time between two retransmissions or window probes, on Linux 6.15 or newer. Older kernels
/// use 120 s. If a client's window has shrunk to zero, the kernel closes the connection twice this
/// long after the client's last answer. That must not be earlier than [`UNACKNOWLEDGED`].
pub const RETRANSMIT_EVERY: Duration = Duration::from_secs(60);
/// Size of the kernel's send buffer for a client, in bytes. (Linux doubles it to allow for its own
/// bookkeeping.) By default, the buffer can grow to 4 MB: 20 clients in 16 rooms that did not read
/// held 1.15 GB of kernel memory.
pub const SEND_BUFFER: usize = 256 * 1024;

/// The lowest port that a callback may use. Lower ports belong to the system's services, and a
/// callback to one would lend the server's privileges to the client.
pub const FIRST_ORDINARY_PORT: u16 = 1024;

/// Maximum time between a client's disappearance and the end of its connection, on Linux 6.15 or
/// newer. The period of [`UNACKNOWLEDGED`] begins at the first check after two unanswered window
/// probes. On older kernels, this may take two minutes longer for a client whose window was closed.
pub const VANISHED_WITHIN: Duration = Duration::from_secs(240);

/// Pause after an accept that failed because descriptors or memory ran out. Without it, accepts
/// would fail half a million times per second.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
