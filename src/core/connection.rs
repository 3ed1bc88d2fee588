//! A connected client: its outbox, its identity and its counters.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock::Tick;
use crate::limits;
use crate::outbox::{Outbox, Queued};
use crate::transport::Encoder;
use portal_net::lock::Mutex;
use portal_wire::{CloseReason, ErrorCode, Frames, Name, ServerDoc};

/// One client, shared by all threads that may send to it.
pub struct Connection {
    /// The output queue of its socket.
    pub outbox: Outbox,
    /// The address of the client.
    pub peer: SocketAddr,
    /// The tick at which it connected.
    pub since: Tick,
    /// The name of the thread that serves it.
    thread: OnceLock<Box<str>>,
    /// Guarded by a leaf lock.
    identity: Mutex<ClientIdentity>,
    /// The tick of the last activity, or [`NEVER`].
    last_activity: AtomicU64,
    /// The tick of the last read since the welcome, or [`NEVER`].
    read_at: AtomicU64,
    /// Set if the client sent a complete document without a line feed before it was admitted.
    lacks_a_line_feed: AtomicBool,
    /// Bytes of replies that were appended under a lock of the chat and have not been charged yet.
    uncharged: AtomicUsize,
    /// The messages that it has sent, and the bytes of their text.
    sent: Tally,
    /// The messages that were queued for it, and the bytes of their frames.
    got: Tally,
}

/// The session number of the newest connection.
static LAST_SESSION: AtomicU64 = AtomicU64::new(0);

/// The value that means "no tick".
const NEVER: u64 = u64::MAX;

struct ClientIdentity {
    /// The number of its session. A room connection has the number of its main connection.
    session: u64,
    /// The value of `from` in its messages: the port of its seat, or its name after login.
    label: Arc<str>,
    /// Its name, after login.
    name: Option<Name>,
}

#[derive(Default)]
struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    fn add(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (
            self.messages.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

impl Connection {
    /// Creates a client that has just connected. `label` is its label until it logs in.
    pub fn new(outbox: Outbox, peer: SocketAddr, label: &str, now: Tick) -> Connection {
        Connection {
            outbox,
            peer,
            since: now,
            thread: OnceLock::new(),
            identity: Mutex::new(ClientIdentity {
                session: LAST_SESSION.fetch_add(1, Ordering::Relaxed) + 1,
                label: label.into(),
                name: None,
            }),
            last_activity: AtomicU64::new(NEVER),
            read_at: AtomicU64::new(NEVER),
            lacks_a_line_feed: AtomicBool::new(false),
            uncharged: AtomicUsize::new(0),
            sent: Tally::default(),
            got: Tally::default(),
        }
    }

    /// Records that the current thread serves the client.
    pub fn record_serving_thread(&self) {
        let name = std::thread::current().name().unwrap_or_default().into();
        let _ = self.thread.set(name);
    }

    /// The name of the thread that serves it.
    pub fn thread(&self) -> &str {
        self.thread.get().map_or("", |name| name)
    }

    /// The value of `from` in its messages.
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.identity.lock().label)
    }

    /// The word for the other users, if the server has ended the connection.
    pub fn reason_for_others(&self) -> Option<Cow<'static, str>> {
        self.outbox.ended()?.word_for_others().map(Into::into)
    }

    /// Its name, if it has logged in.
    pub fn name(&self) -> Option<Name> {
        self.identity.lock().name.clone()
    }

    /// The number of its session. All connections of one user share this number.
    pub fn session(&self) -> u64 {
        self.identity.lock().session
    }

    /// Gives a room connection the name and the session of its main connection. The room connection
    /// itself is not logged in.
    pub fn rename(&self, name: &Name, main: &Connection) {
        let session = main.session();
        let mut identity = self.identity.lock();
        identity.label = name.as_str().into();
        identity.session = session;
    }

    /// Records that it has logged in as `name`, which is its label from now on.
    pub fn set_name(&self, name: &Name) {
        let mut identity = self.identity.lock();
        identity.label = name.as_str().into();
        identity.name = Some(name.clone());
    }

    /// Queues the frames of `messages` messages. With `later`, the timer thread writes them,
    /// together with all other output that gathers in the meantime.
    pub fn hand<'f>(
        &self,
        messages: usize,
        later: bool,
        frames: impl FnOnce(&mut dyn Encoder) -> &'f Frames,
    ) -> Queued {
        let mut bytes = 0;
        let counted = |encoder: &mut dyn Encoder| {
            let frames = frames(encoder);
            bytes = frames.len();
            frames
        };
        let queued = if later {
            self.outbox.enqueue_encoded(counted)
        } else {
            self.outbox.send_encoded(counted)
        };
        self.count(queued, bytes, messages)
    }

    /// Like [`Connection::hand`], but [`Unwritten`] writes the frames.
    pub fn append<'f>(
        &self,
        messages: usize,
        frames: impl FnOnce(&mut dyn Encoder) -> &'f Frames,
    ) -> Queued {
        let mut bytes = 0;
        let queued = self.outbox.append_encoded(|encoder| {
            let frames = frames(encoder);
            bytes = frames.len();
            frames
        });
        self.count(queued, bytes, messages)
    }

    fn count(&self, queued: Queued, bytes: usize, messages: usize) -> Queued {
        if queued == Queued::Yes {
            self.got.add(messages, bytes);
        }
        queued
    }

    /// Records that input of any kind was read from the client.
    pub fn count_read(&self, now: Tick) {
        self.read_at.store(now.0, Ordering::Relaxed);
    }

    /// The tick of the last read since the welcome, if there was one.
    pub fn read_at(&self) -> Option<Tick> {
        let tick = self.read_at.load(Ordering::Relaxed);
        (tick != NEVER).then_some(Tick(tick))
    }

    /// Records that the client has sent a complete document without the line feed after it.
    pub fn note_missing_line_feed(&self) {
        self.lacks_a_line_feed.store(true, Ordering::Release);
    }

    /// Ends the connection because the passcode did not arrive in time. If only the line feed was
    /// missing, the client gets an error that explains it.
    pub fn end_silent(&self) {
        if self.lacks_a_line_feed.load(Ordering::Acquire) {
            self.outbox.send_doc(&ServerDoc::Error {
                code: ErrorCode::Malformed,
                sentence:
                    "there was no line feed after your document, so the server waited for more"
                        .into(),
            });
        }
        self.outbox.end(CloseReason::HandshakeTimeout);
    }

    /// Charges the client for `bytes` of a reply to its own request.
    pub fn charge_reply(&self, bytes: usize) {
        self.uncharged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes that were charged since the last call.
    pub fn take_charged_replies(&self) -> usize {
        self.uncharged.swap(0, Ordering::Relaxed)
    }

    /// Counts a message that it has sent, with `bytes` bytes of text.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.add(1, bytes);
    }

    /// Records activity by the client at `now`.
    pub fn touch(&self, now: Tick) {
        self.last_activity.store(now.0, Ordering::Relaxed);
    }

    /// The tick of the last activity, if there was any.
    pub fn last_activity(&self) -> Option<Tick> {
        let tick = self.last_activity.load(Ordering::Relaxed);
        (tick != NEVER).then_some(Tick(tick))
    }

    /// The number of messages that it has sent, and the number of bytes in their text.
    pub fn sent(&self) -> (u64, u64) {
        self.sent.read()
    }

    /// The number of messages that were queued for it, and the number of bytes in their frames.
    pub fn got(&self) -> (u64, u64) {
        self.got.read()
    }
}

/// The connections with appended output that is not written yet. It is written when this is
/// dropped, if not before. A thread that handles many events in one turn thus makes one write per
/// client instead of one per event.
#[derive(Default)]
pub struct Unwritten {
    connections: Vec<Arc<Connection>>,
    bytes: usize,
}

impl Unwritten {
    /// Adds a connection for which `bytes` bytes were appended. At [`limits::MAX_TURN_BYTES`]
    /// bytes, writes all output, so it must not be called under a lock.
    pub fn add(&mut self, connection: &Arc<Connection>, bytes: usize) {
        self.connections.push(Arc::clone(connection));
        self.bytes += bytes;
        if self.bytes >= limits::MAX_TURN_BYTES {
            self.write();
        }
    }

    fn write(&mut self) {
        self.connections.sort_unstable_by_key(Arc::as_ptr);
        self.connections
            .dedup_by(|one, other| Arc::ptr_eq(one, other));
        flush_all(&self.connections);
        self.connections.clear();
        self.bytes = 0;
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.write();
    }
}

/// Writes the appended output of each of `connections`. Called after the lock under which it was
/// appended is released.
pub fn flush_all(connections: &[Arc<Connection>]) {
    for connection in connections {
        connection.outbox.flush();
    }
}
