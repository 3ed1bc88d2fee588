//! The limits of the core, with their units and reasons. The limits for frames and documents are in
//! [`portal_wire::limits`], those for sockets in [`portal_net::limits`].

pub(crate) use portal_net::limits::{ACCEPT_BACKOFF, WORKER_BACKLOG};

/// Limit on the bytes queued for one client's socket. A client that exceeds it is disconnected as
/// too slow. The output of one sender's turn is far smaller.
pub const MAX_OUTBOX_BYTES: usize = 1024 * 1024;

/// Limit on the bytes of messages, and of replies, that a turn collects before it sends them and
/// continues. Output can be longer than the input (`'` becomes six bytes), so limiting the input is
/// not enough.
pub const MAX_TURN_BYTES: usize = 64 * 1024;

/// Bytes of long replies that may be queued for one connection in addition to [`MAX_OUTBOX_BYTES`],
/// so that a client is not too slow because the server answered at length. Further requests do not
/// raise it.
pub const MAX_EXEMPT_BYTES: usize = 2 * 1024 * 1024;

/// Number of bytes that a timer thread takes out of an outbox for one write.
pub const FLUSH_CHUNK: usize = 64 * 1024;

/// The longest datagram that the UDP portal reads, in bytes. A longer one is truncated.
pub const DATAGRAM: usize = 2048;
