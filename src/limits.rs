//! The limits of the server and its clients, with their units and reasons. The limits of what travels
//! are in [`portal_wire::limits`], those of
//! sockets in [`portal_net::limits`].

use std::time::Duration;

pub use portal_cli::limits::*;
pub use portal_net::limits::*;
pub use portal_wire::limits::*;

/// The longest password, in bytes.
pub const PASSWORD: usize = 128;

/// Limit on a recorded run from a pipe, in bytes. (A regular file has no limit.)
pub const PIPED_RECORDING: usize = 256 * 1024 * 1024;

/// Wrong passwords on one connection before it is closed.
pub const WRONG_PASSWORDS: u32 = 3;

/// Passwords that are hashed at a time. Each takes 20 ms of a core and 19 MiB; a crowd of logins
/// waits here, in its own threads, and leaves the other cores to those who chat.
pub const HASHERS: usize = 1;

/// The work of a password's hash that an accounts file may ask for, in KiB times passes: eight times that of
/// ours (19 MiB, twice). A line that asks for more, by mistake or by malice, could stop every login.
pub const HASH_WORK: u64 = 8 * 2 * 19 * 1024;
/// And how many lanes, for the same reason.
pub const HASH_LANES: u32 = 4;

/// How long after one member's turn another member's counts as a crowd talking: then the
/// recipients' own threads gather what is said instead of each speaker writing to each. (Measured
/// with 50 speakers: 1.5 to 2.4 million deliveries a second with this, as with ten times as much; 1.0 to
/// 2.4 with 300 µs; 0.4 without.)
pub const CROWD: Duration = Duration::from_micros(1000);

/// What may wait for one client's socket, in bytes, before the client counts as too slow: a good
/// deal more than one turn of a speaker can hold.
pub const OUTBOX: usize = 1024 * 1024;

/// Frames that a turn gathers, or answers, in bytes, before they are handed over in the middle of
/// it. What is read is written longer (`'` becomes six bytes), so a turn has to be bounded again.
pub const TURN: usize = 64 * 1024;

/// How many rooms one person may be in or on the way to, so that one login can't take every room.
pub const ROOMS_A_PERSON: usize = 8;

/// Limit on the history that a room sends to a new member, in bytes on the wire, whatever
/// `--history` says. The oldest messages are dropped first.
pub const HISTORY: usize = 256 * 1024;

/// Bytes of replayed history that may wait for one connection in addition to [`OUTBOX`]: the
/// histories of all the rooms that one person may be in. Joining more often does not raise it.
pub const HISTORY_EXEMPTION: usize = ROOMS_A_PERSON * HISTORY;

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

/// How many connections the portal's listener lets wait: std's own 128 is too short for a class
/// that starts at once. The kernel caps it at `net.core.somaxconn`.
pub const PORTAL_BACKLOG: i32 = 4096;

/// Events that may wait for the console or for the event file before further ones are counted
/// as dropped instead.
pub const EVENT_QUEUE: usize = 8 * 1024;

/// Events that may wait for the board, which shows changes but must not miss one.
pub const BOARD_QUEUE: usize = 64 * 1024;

/// Browsers that may watch the board at the same time.
pub const VIEWERS: usize = 100;

/// The same for the callers of rooms. A class that types its passcodes by hand takes its time.
pub const ROOM_CALLERS_PER_ADDRESS: usize = 48;
/// Timeout for a caller that is only told that the single port is full.
pub const TIME_FOR_FULL: Duration = Duration::from_secs(2);

/// After how long a browser that says nothing is asked whether it is there; it has as long again to answer.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);

/// How long a worker may take to turn away whoever has come to its port while a browser had its seat.
pub const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(10);

/// How long the end waits for a console whose terminal is paused.
pub const CONSOLE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a listener rests after an accept that failed for want of descriptors or memory:
/// it would fail half a million times a second otherwise.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The longest datagram that the UDP portal looks at, in bytes; more is cut off unseen.
pub const DATAGRAM: usize = 2048;

/// How long before the idle timeout whoever says nothing is warned, where a third of the timeout is
/// not shorter: time enough to notice it and to press a key.
pub const IDLE_SOON: Duration = Duration::from_secs(60);

/// How many callbacks one address gets within a tick.
pub const CALLBACKS_A_TICK: u32 = 2;

/// Slightly longer than the system keeps the port of a closed connection (60 s on Linux). The start
/// waits this long for the portal's port, or for the first worker's port.
pub const TIME_WAIT: Duration = Duration::from_secs(65);
/// How long the start waits for a port that an outgoing connection of some program has: many are short.
pub const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// How often a port is tried that such a connection has, and how often somebody who waits for a socket looks whether
/// the server has ended.
pub const BIND_PAUSE: Duration = Duration::from_millis(250);

/// How long a server of several that says nothing is taken to live; it says something three times as often.
pub const LEASE: Duration = Duration::from_secs(6);
/// How long somebody waits for what the engine or another server answers; then it is not known.
pub const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a server waits between two tries to reach an engine that is away; six times as long after many.
pub const CLUSTER_RETRY: Duration = Duration::from_millis(150);
/// How many asks may wait for the engine.
pub const CLUSTER_QUEUE: usize = 64 * 1024;
/// How many asks go out together.
pub const CLUSTER_BATCH: usize = 200;
/// How many answers one client may be owed before what it says is left unread.
pub const CLUSTER_OWED: usize = 256;
/// Up to how many hear it, the thread that reads the engine writes to each itself; beyond, their timekeepers do.
pub const CLUSTER_WRITES: usize = 16;
