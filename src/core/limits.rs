//! The limits of the core, with their units and reasons. Those of what travels are in
//! [`portal_wire::limits`], those of sockets in [`portal_net::limits`].

use std::time::Duration;

pub(crate) use portal_net::limits::{ACCEPT_BACKOFF, WORKER_BACKLOG};
pub(crate) use portal_wire::limits::MAX_NAME_BYTES;

/// Maximum time between the turns of two members that makes them a crowd. The timer threads of a
/// crowd's recipients gather the messages and write them, instead of each sender. (Measured with 50
/// senders: 1.5 to 2.4 million deliveries a second with this limit and with ten times as much; 1.0
/// to 2.4 with 300 µs; 0.4 without gathering.)
pub const CROWD_WINDOW: Duration = Duration::from_micros(1000);

/// Limit on the bytes that wait for one client's socket. A client that exceeds it is disconnected
/// as too slow. It is far more than one sender's turn can hold.
pub const MAX_OUTBOX_BYTES: usize = 1024 * 1024;

/// Frames that a turn gathers, or answers, in bytes, before they are handed over in the middle of
/// it. What is read is written longer (`'` becomes six bytes), so a turn has to be bounded again.
pub const MAX_TURN_BYTES: usize = 64 * 1024;

/// Limit on the rooms that one person has joined or is joining, so that one login can't take every
/// room.
pub const MAX_ROOMS_PER_USER: usize = 8;

/// Limit on the history that a room sends to a new member, in bytes on the wire, whatever
/// `--history` says. The oldest messages are dropped first.
pub const HISTORY: usize = 256 * 1024;

/// Bytes of replayed history that may wait for one connection in addition to [`OUTBOX`]: the
/// histories of all the rooms that one person may be in. Joining more often does not raise it.
pub const HISTORY_EXEMPTION: usize = MAX_ROOMS_PER_USER * HISTORY;

/// Bytes of replies that one client may request at once, beyond [`REPLY_FACTOR`]: enough to rejoin
/// every room without a wait after a reconnect.
pub const REPLY_BURST: usize = HISTORY_EXEMPTION + HISTORY;
/// Bytes of replies that one client may request per tick after that. Its next request waits for the
/// next tick.
pub const REPLIES_PER_TICK: usize = HISTORY;
/// Replies of up to this many times the bytes that the client has sent are free, so ordinary talk
/// and its replies never wait.
pub const REPLY_FACTOR: usize = 4;

/// The longest topic of a room, in bytes.
pub const MAX_TOPIC_BYTES: usize = 500;

/// What a timer thread takes out of an outbox for one write, in bytes.
pub const FLUSH_CHUNK: usize = 64 * 1024;

/// Refused documents in a row before the connection is closed.
pub const ERRORS_IN_A_ROW: u32 = 10;

/// Recipients of a message from elsewhere to whom the thread that received it writes itself. If
/// there are more, the recipients' timer threads write it.
pub const DIRECT_WRITES: usize = 16;

/// The longest password, in bytes.
pub const PASSWORD: usize = 128;

/// Wrong passwords on one connection before it is closed.
pub const WRONG_PASSWORDS: u32 = 3;

/// Replies that may be pending for one client before nothing more is read from it.
pub const MAX_PENDING_REPLIES: usize = 256;

/// Time after which a pending reply is given up. A backplane fulfils it within a second.
pub const PENDING_REPLY_PATIENCE: Duration = Duration::from_secs(4);

/// The longest datagram that the UDP portal looks at, in bytes; more is cut off unseen.
pub const DATAGRAM: usize = 2048;

/// The same for the callers of rooms. A class that types its passcodes by hand takes its time.
pub const ROOM_CALLERS_PER_ADDRESS: usize = 48;
