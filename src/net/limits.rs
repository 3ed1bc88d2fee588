//! Limits of sockets, and of connections that are not authenticated yet, with their units and
//! reasons.

use std::time::Duration;

/// Backlog of a worker's listener, the same as std's. Also the maximum number of unexpected
/// connections that one pass over the backlog rejects.
pub const WORKER_BACKLOG: usize = 128;

/// Stack size of each server thread, in bytes. The XML parser does not recurse and nothing else
/// nests, so this is generous. Only the pages that a thread touches cost memory.
pub const THREAD_STACK: usize = 256 * 1024;

/// Maximum number of threads for callers that are not authenticated yet: TLS handshakes with the
/// portal, browsers' requests, callers of rooms without a passcode, and callers that receive FULL
/// over TLS.
pub const HANDSHAKES: usize = 64;
/// Maximum number of these threads for one address. A class behind one address waits for a moment.
/// If the callers of one address stall in their handshakes, the other addresses still have three
/// quarters of the threads.
pub const HANDSHAKES_PER_ADDRESS: usize = 16;
/// Maximum number of unauthenticated callers that wait for a thread. Each costs a descriptor.
pub const PARKED: usize = 256;
/// Maximum time that a caller may keep its thread waiting for its next byte while others wait for a
/// thread. Longer than a round trip, even from a phone.
pub const NEXT_BYTE_WITHIN: Duration = Duration::from_secs(1);
/// Like [`NEXT_BYTE_WITHIN`], for all bytes of a caller together. A TLS handshake and a request
/// take two or three round trips.
pub const WAITING_WITHIN: Duration = Duration::from_secs(3);
/// Timeout for a TLS handshake if no seat's timer ends it.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Maximum number of unread bytes to read and discard before a socket is closed. Unread bytes would
/// make the kernel reset the connection and lose the bytes that it is still delivering.
pub const DRAIN: usize = 64 * 1024;

/// Number of unread bytes from which a connection is reset instead of closed in order. With so many
/// unread, the peer may have used up its window, and the window of a socket that was shut down
/// never reopens. The reset keeps the peer from being stuck in its write for a minute. With fewer,
/// the connection is closed in order, and the last bytes sent are sure to arrive.
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
/// while data is unacknowledged, so the server checks itself, ten times in this period. A client
/// that does not read has a closed window, but its kernel acknowledges the window probes. For such
/// a client, the outbox limits the waiting bytes, not the time. Systems that do not report
/// acknowledgements (all except Linux) apply their own timeout, which is longer.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(100);
/// Maximum time between two retransmissions or window probes, on Linux 6.15 or newer. Older kernels
/// use 120 s. If a client has shrunk its window to zero, the kernel ends the connection twice this
/// time after the client's last answer. That must not happen earlier than [`UNACKNOWLEDGED`].
pub const RETRANSMIT_EVERY: Duration = Duration::from_secs(60);
/// Size of the kernel's send buffer for a client, in bytes. (Linux doubles it to count its own
/// bookkeeping.) By default, the buffer grows up to 4 MB: 20 clients that did not read held 1.15 GB
/// in 16 rooms.
pub const SEND_BUFFER: usize = 256 * 1024;

/// The lowest port that a callback may use. Lower ports belong to the system's services, and a
/// callback to one would lend the server's privileges to the client.
pub const FIRST_ORDINARY_PORT: u16 = 1024;

/// Maximum time from the disappearance of a client to the end of its connection, on Linux 6.15 or
/// newer. The period of [`UNACKNOWLEDGED`] begins at the first check after two unanswered window
/// probes. On older kernels, this may take two minutes longer for a client whose window was closed.
pub const VANISHED_WITHIN: Duration = Duration::from_secs(240);

/// Pause after an accept that failed because descriptors or memory ran out. Without it, accepts
/// would fail half a million times per second.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
