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

/// Limit on the rooms that one user has joined or is joining, so that one login can't take every
/// room.
pub const MAX_ROOMS_PER_USER: usize = 8;

/// Limit on the history that a room sends to a new member, in bytes on the wire, regardless of
/// `--history`. The oldest messages are dropped first.
pub const HISTORY: usize = 256 * 1024;

/// Bytes of replayed history that may be queued for one connection in addition to
/// [`MAX_OUTBOX_BYTES`]: the histories of all the rooms that one user may be in. Joining more often
/// does not raise it.
pub const HISTORY_EXEMPTION: usize = MAX_ROOMS_PER_USER * HISTORY;

/// Number of bytes that a timer thread takes out of an outbox for one write.
pub const FLUSH_CHUNK: usize = 64 * 1024;

/// The longest datagram that the UDP portal reads, in bytes. A longer one is truncated.
pub const DATAGRAM: usize = 2048;
