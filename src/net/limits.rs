//! The limits of sockets, and of connections that are not authenticated yet, with their units and
//! reasons.

use std::time::Duration;

/// How many connections std lets wait at a worker's listener, and so the most strays that one
/// turn of clearing the backlog turns away.
pub const WORKER_BACKLOG: usize = 128;

/// The stack of each server thread, in bytes. The XML parser does not recurse and nothing else
/// nests, so this is generous; only the pages that are touched cost memory.
pub const THREAD_STACK: usize = 256 * 1024;

/// Threads for callers that are not authenticated yet: TLS handshakes with the portal, browsers'
/// requests, callers of rooms without a passcode, and callers that are told over TLS that the
/// server is full.
pub const HANDSHAKES: usize = 64;
/// Threads of these for one address. A class behind one address waits for a moment. If the callers
/// of one address stop in the middle of their handshakes, the other addresses still have three
/// quarters of the threads.
pub const HANDSHAKES_PER_ADDRESS: usize = 16;
/// Unauthenticated callers that may wait for a thread. Each costs a descriptor.
pub const PARKED: usize = 256;
/// Time that a caller may keep its thread waiting for its next byte while others wait for a thread.
/// This is longer than a round trip even of a phone.
pub const NEXT_BYTE_WITHIN: Duration = Duration::from_secs(1);
/// The same for all bytes of a caller together. A TLS handshake and a request take two or three
/// round trips.
pub const WAITING_WITHIN: Duration = Duration::from_secs(3);
/// Timeout for a TLS handshake if no seat's timer ends it.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Unread bytes that are taken from a socket before it is dropped, so that the kernel closes it
/// in order instead of resetting it over what it still delivers.
pub const DRAIN: usize = 64 * 1024;

/// With so many bytes unread, a peer may have run out of window, which a socket that was shut down
/// never opens again: it is reset, so that the peer is not stuck in its write for a minute. Below,
/// it is closed in order, and the last words are sure to arrive.
pub const RESET_FROM: usize = 16 * 1024;

/// A machine that vanishes sends no end of its connection. After so long a silence the system asks
/// it whether it is still there (TCP keepalive) …
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// … asks again so often …
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// … and gives it up after so many questions: two minutes in all.
pub const KEEPALIVE_TRIES: u32 = 4;
/// Timeout for a client whose kernel acknowledges nothing. The kernel sends no keepalive probes
/// while data is unacknowledged, so the server checks itself, ten times in this period. A client
/// that does not read has a closed window, but its kernel acknowledges the window probes. For such
/// a client, the outbox limits the waiting bytes, not the time. On systems that do not report
/// acknowledgements (all except Linux), the system's own timeout applies, which takes longer.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(100);
/// Maximum time between two retransmissions or window probes, on Linux 6.15 or newer; otherwise it
/// is 120 s. If a client has shrunk its window to zero, the kernel ends the connection twice this
/// time after its last answer, which must not be earlier than [`UNACKNOWLEDGED`].
pub const RETRANSMIT_EVERY: Duration = Duration::from_secs(60);
/// How much of what was written to a client the system keeps for it, in bytes (Linux takes it
/// twice, to count its own bookkeeping). Left to itself it keeps up to 4 MB: 20 people who do not
/// read held 1.15 GB in 16 rooms.
pub const SEND_BUFFER: usize = 256 * 1024;

/// Ports below it belong to the system's services. A server that could be sent there by a callback
/// would lend its own privileges to whoever asks.
pub const FIRST_ORDINARY_PORT: u16 = 1024;

/// Maximum time from the disappearance of a client to the end of its connection, on Linux 6.15 or
/// newer. The period of [`UNACKNOWLEDGED`] begins at the check after two unanswered window probes.
/// On older kernels, this may take two minutes longer for a client whose window was closed.
pub const VANISHED_WITHIN: Duration = Duration::from_secs(240);

/// Pause after an accept that failed for want of descriptors or memory. Without it, accepting
/// would fail half a million times a second.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
