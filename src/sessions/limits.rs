//! The limits of sessions and rooms, with their units and reasons. Those of output are in
//! [`portal_core::limits`].

use std::time::Duration;

pub(crate) use portal_core::limits::{MAX_EXEMPT_BYTES, MAX_TURN_BYTES};
pub(crate) use portal_wire::limits::MAX_NAME_BYTES;

/// Limit on the rooms that one user has joined or is joining, so that one login can't take every
/// room.
pub const MAX_ROOMS_PER_USER: usize = 8;

/// Limit on the history that a room sends to a new member, in bytes on the wire, regardless of
/// `--history`. The oldest messages are dropped first.
pub const HISTORY: usize = 256 * 1024;

const _: () = assert!(
    MAX_ROOMS_PER_USER * HISTORY <= MAX_EXEMPT_BYTES,
    "a user who joins every room that it may must not be too slow for their histories"
);

/// Members whose turns follow each other within this time form a crowd: the recipients' timer
/// threads, not the senders, collect the messages and write them. (Measured with 50 senders: 1.5 to
/// 2.4 million deliveries per second with this limit, and with ten times this limit; 1.0 to 2.4
/// million with 300 µs; 0.4 million without collecting.)
pub const CROWD_WINDOW: Duration = Duration::from_micros(1000);

/// Maximum number of messages in one reply to `HISTORY`. The reply has at most [`HISTORY`] bytes.
pub const HISTORY_PAGE: usize = 100;

/// Number of messages in one conversation that the journal keeps in memory: two replies to
/// `HISTORY`. Their text has at most [`HISTORY`] bytes.
pub const MEMORY_LINES: usize = 2 * HISTORY_PAGE;

/// Limit on the memory used by all these messages, in bytes: 64 KiB for each of 128 conversations.
pub const MEMORY_BYTES: usize = 8 * 1024 * 1024;

/// Number of gaps that the journal remembers.
pub const GAPS: usize = 1000;

/// Bytes of replies that one client may request at once, beyond [`REPLY_FACTOR`]: enough to rejoin
/// every room without waiting after a reconnect.
pub const REPLY_BURST: usize = MAX_ROOMS_PER_USER * HISTORY + HISTORY;

/// Bytes of replies that one client may request per tick after that. Further requests wait for the
/// next tick.
pub const REPLIES_PER_TICK: usize = HISTORY;

/// Replies of up to this many times the bytes that the client has sent are free, so ordinary chat
/// and its replies never wait.
pub const REPLY_FACTOR: usize = 4;

/// The maximum length of the reason for a ban, a removal or a report, in bytes. A longer one is
/// truncated.
pub const MAX_REASON_BYTES: usize = 200;

/// Minimum number of ticks between two reports from one client.
pub const REPORT_EVERY: u64 = 10;

/// Number of changes to rooms' rules that one client may make in a burst. Any user may create a
/// room, and each change is a line in a file.
pub const ROOM_CHANGES: i64 = 60;

/// Number of further changes per tick.
pub const ROOM_CHANGES_PER_TICK: i64 = 1;

/// The maximum length of a room's topic, in bytes.
pub const MAX_TOPIC_BYTES: usize = 500;

/// Number of rejected documents in a row after which the connection is closed.
pub const ERRORS_IN_A_ROW: u32 = 10;

/// A message from another server is written by the thread that received it if the message has at
/// most this many recipients, otherwise by the recipients' timer threads.
pub const DIRECT_WRITES: usize = 16;

/// Maximum length of a password, in bytes.
pub const PASSWORD: usize = 128;

/// Number of wrong passwords on one connection after which it is closed.
pub const WRONG_PASSWORDS: u32 = 3;

/// Number of replies that may be pending for one client. At this limit, nothing more is read from
/// the client.
pub const MAX_PENDING_REPLIES: usize = 256;

/// Time after which a pending reply is dropped. A backplane fulfils it within a second.
pub const PENDING_REPLY_PATIENCE: Duration = Duration::from_secs(4);

/// Maximum number of threads, per address, for pending callers of rooms. A class of students who
/// type their passcodes by hand needs many at once.
pub const ROOM_CALLERS_PER_ADDRESS: usize = 48;
