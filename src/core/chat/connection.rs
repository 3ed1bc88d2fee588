//! One client who is connected: the way to it, and what is known of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock::Tick;
use crate::limits;
use crate::outbox::{Outbox, Queued};
use crate::transport::Encoder;
use portal_net::lock::Mutex;
use portal_wire::{CloseReason, ErrorCode, Frames, Name, ServerDoc};

/// One client, shared by all who may have something for it.
pub struct Connection {
    /// The way to its socket.
    pub outbox: Outbox,
    /// Where it came from.
    pub peer: SocketAddr,
    /// When it connected.
    pub since: Tick,
    /// The name of the thread that serves it.
    thread: OnceLock<Box<str>>,
    /// Who it is. A leaf lock.
    identity: Mutex<ClientIdentity>,
    /// The tick, or [`NEVER`].
    last_activity: AtomicU64,
    /// The tick of the last read since the welcome, or [`NEVER`].
    read_at: AtomicU64,
    /// It has sent a whole document before it was let in, and no line feed.
    lacks_a_line_feed: AtomicBool,
    /// Bytes of replies that were appended under a lock of the hall and are not charged yet.
    uncharged: AtomicUsize,
    /// Messages and bytes of text that it sent, and that were handed to it.
    sent: Tally,
    got: Tally,
}

/// The number of the connection that was made last.
static LAST_SESSION: AtomicU64 = AtomicU64::new(0);

/// No tick.
const NEVER: u64 = u64::MAX;

struct ClientIdentity {
    /// The number of the session that it belongs to: its own, or in a room its main connection's.
    session: u64,
    /// What `from` says in its messages: its seat's port, later its name.
    label: Arc<str>,
    /// Its name, once it has logged in.
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
    /// A client that has just connected and goes by `label` for now.
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

    /// Notes that the current thread serves it.
    pub(crate) fn is_served_here(&self) {
        let name = std::thread::current().name().unwrap_or_default().into();
        let _ = self.thread.set(name);
    }

    /// The name of the thread that serves it.
    pub fn thread(&self) -> &str {
        self.thread.get().map_or("", |name| name)
    }

    /// What `from` says in its messages.
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.identity.lock().label)
    }

    /// Its name, if it has logged in.
    pub fn name(&self) -> Option<Name> {
        self.identity.lock().name.clone()
    }

    /// The number of the session that it belongs to: one for each person who is connected.
    pub fn session(&self) -> u64 {
        self.identity.lock().session
    }

    /// In a room it goes by the name of its main connection and belongs to its session, but it has
    /// not logged in itself.
    pub(super) fn rename(&self, name: &Name, main: &Connection) {
        let session = main.session();
        let mut identity = self.identity.lock();
        identity.label = name.as_str().into();
        identity.session = session;
    }

    /// It has logged in as `name`, and that is what `from` says from now on.
    pub(super) fn set_name(&self, name: &Name) {
        let mut identity = self.identity.lock();
        identity.label = name.as_str().into();
        identity.name = Some(name.clone());
    }

    /// Hands over the frames of `messages` messages. With `later`, they wait for the timekeeper to
    /// write them, together with whatever else gathers until it does.
    pub(super) fn hand<'f>(
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

    /// As [`Connection::hand`], but it is [`Unwritten`] that sees to it that they are written.
    pub(super) fn append<'f>(
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

    /// Notes that something of any kind was read from the client.
    pub(crate) fn count_read(&self, now: Tick) {
        self.read_at.store(now.0, Ordering::Relaxed);
    }

    /// The tick of the last read since the welcome, if there was one.
    pub fn read_at(&self) -> Option<Tick> {
        let tick = self.read_at.load(Ordering::Relaxed);
        (tick != NEVER).then_some(Tick(tick))
    }

    /// Notes that it has sent a whole document, but not the line feed after it.
    pub(crate) fn lacks_a_line_feed(&self) {
        self.lacks_a_line_feed.store(true, Ordering::Release);
    }

    /// Ends it because it has not said the passcode in time. If all that was missing is the line
    /// feed, it is told so.
    pub(crate) fn end_silent(&self) {
        if self.lacks_a_line_feed.load(Ordering::Acquire) {
            self.outbox.send_doc(&ServerDoc::Error {
                code: ErrorCode::Malformed,
                sentence: "there was no line feed after your document, so it was still waited for"
                    .into(),
            });
        }
        self.outbox.end(CloseReason::HandshakeTimeout);
    }

    /// Adds `bytes` of a reply to the client's own request.
    pub(super) fn charge_reply(&self, bytes: usize) {
        self.uncharged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes of such replies since the last call.
    pub(crate) fn take_charged_replies(&self) -> usize {
        self.uncharged.swap(0, Ordering::Relaxed)
    }

    /// Notes that it said a message of `bytes` bytes.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.add(1, bytes);
    }

    /// Notes that it was heard at `now`.
    pub fn touch(&self, now: Tick) {
        self.last_activity.store(now.0, Ordering::Relaxed);
    }

    /// When it was heard last, if ever.
    pub fn last_activity(&self) -> Option<Tick> {
        let tick = self.last_activity.load(Ordering::Relaxed);
        (tick != NEVER).then_some(Tick(tick))
    }

    /// Messages and bytes that it sent.
    pub fn sent(&self) -> (u64, u64) {
        self.sent.read()
    }

    /// Messages and bytes that were handed to it.
    pub fn got(&self) -> (u64, u64) {
        self.got.read()
    }
}

/// Those for whom something was appended that has not been written yet. It is written at the latest
/// when this is dropped: whoever handles many things in one turn has one write for each client, and
/// not one for each thing.
#[derive(Default)]
pub struct Unwritten {
    connections: Vec<Arc<Connection>>,
    bytes: usize,
}

impl Unwritten {
    /// So many bytes were appended for that one. From [`limits::MAX_TURN_BYTES`] bytes on all is
    /// written in between, so it may not be called under a lock.
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

/// Writes what was appended for each of `connections`, once the lock under which that happened is
/// released.
pub(crate) fn flush_all(connections: &[Arc<Connection>]) {
    for connection in connections {
        connection.outbox.flush();
    }
}
