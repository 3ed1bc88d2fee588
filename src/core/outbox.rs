//! The output path to one client's socket. Any thread can send through it, and no sender blocks.
//!
//! The contract for all holders of an outbox:
//!
//! 1. Frames arrive in the order in which they were sent, each whole and once, or not at all
//!    because the connection ended.
//! 2. Sending MUST NOT block. If the socket is full, the outbox *spills*: the rest waits in the
//!    queue, later frames queue up behind it, and the client's timer thread writes them.
//! 3. The queue is bounded. A client that lets it overflow is too slow: it is disconnected, and no
//!    other client notices.
//! 4. The lock is held only during writes that cannot block. `Outbox::append_doc` writes nothing,
//!    so it may be called under a registry's lock; methods that write may not.
//! 5. The connection ends once, for one reason: the first one counts.
//!
//! In the ordinary case, the thread that read a message does one `send` per recipient and turn. It
//! allocates nothing and wakes only the recipient. Measured on a pair: 2,000 messages, one at a
//! time, take 2,000 `recvfrom`, 2,000 `sendto` and no `futex` (`strace -f`). In windows of 64, a
//! message of 64 bytes takes 1,400 instructions of this program (callgrind), half of them to encode
//! the document again. When fifty clients talk at once, 2.2 million deliveries take fewer than
//! 118,000 `sendto` and 97,000 `futex`, including those of the fifty clients themselves (`perf
//! stat`): the timer threads write the output left to them (`Outbox::enqueue_encoded`) about twenty
//! messages at a time.

mod silence;
mod waiting;

use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits;
use crate::notify::Notifier;
use crate::transport::{Encoder, RequestId};
use portal_net::Stream;
use portal_net::lock::{Condvar, Mutex, MutexGuard, Rank};
use portal_wire::{CloseReason, Frames, ServerDoc};
use silence::Silence;
use waiting::Backlog;

/// One client's socket and its output queue.
pub struct Outbox {
    stream: Stream,
    /// Wakes the timer thread to write spilled output.
    timer: Notifier,
    /// Time limit for a single write by the timer thread.
    patience: Duration,
    queue: Mutex<OutputQueue>,
    /// Notified when a write outside the lock has finished.
    written: Condvar,
    /// Set once the connection is over, so that the reader can check it without the lock. The
    /// reader must check it after every read: on Linux a socket that was shut down still receives,
    /// so a client that never stops sending would be served forever.
    over: AtomicBool,
    /// Set once the socket has been shut down, so that it is not shut down again.
    shut: AtomicBool,
}

/// The state guarded by the outbox's lock. (The order of the fields was chosen for the cache; see
/// [`Backlog`].)
#[repr(C)]
struct OutputQueue {
    state: QueueState,
    /// Set once the socket's write timeout is set. That happens when it is first needed, because
    /// most connections never need it.
    is_patient: bool,
    /// Bytes of queued replies that do not count against the client; at most
    /// [`limits::MAX_EXEMPT_BYTES`].
    exempt_bytes: usize,
    waiting: Backlog,
    encoder: Box<dyn Encoder>,
    silence: Silence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueState {
    /// Senders write to the socket.
    Open,
    /// The socket was full: senders append, and the timer thread writes.
    Spilled,
    /// The last frame is in the queue; the timer thread has until its next tick to write it.
    Ending(CloseReason),
    /// Nothing is written after this.
    Closed(CloseReason),
}

/// The result of sending frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// The frames were written or queued.
    Yes,
    /// The connection is over; the frames were dropped.
    Closed,
}

/// The result of one step of the timer thread's flushing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// The queue is empty.
    Done,
    /// Output is still queued: check the deadlines, then flush again.
    More,
    /// Another thread is writing. If the connection is ending, the thread that reads from it waits
    /// for that write and finishes the connection ([`Outbox::hang_up`]).
    Busy,
}

impl Outbox {
    /// Creates the outbox of a new connection. `timer` wakes the thread that writes spilled output.
    /// Each of its writes may take up to `patience`, which is one tick.
    pub fn new(
        stream: Stream,
        encoder: Box<dyn Encoder>,
        timer: Notifier,
        patience: Duration,
    ) -> Outbox {
        let queue = OutputQueue {
            waiting: Backlog::default(),
            encoder,
            silence: Silence::default(),
            exempt_bytes: 0,
            is_patient: false,
            state: QueueState::Open,
        };
        Outbox {
            stream,
            timer,
            patience,
            queue: Mutex::ranked(Rank::Outbox, queue),
            written: Condvar::new(),
            over: AtomicBool::new(false),
            shut: AtomicBool::new(false),
        }
    }

    /// The socket, for reading. Reading and writing share one descriptor.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Appends the frames of a document to `frames`. `request` is the request that the document
    /// answers.
    pub fn encode(&self, doc: &ServerDoc<'_>, request: RequestId, frames: &mut Frames) {
        let encoder = &mut self.queue.lock().encoder;
        frames.push(|out| encoder.encode(doc, request, out));
    }

    /// Sends whole frames: writes what the socket accepts right now, and queues the rest.
    pub fn send(&self, frames: &Frames) -> Queued {
        self.send_encoded(|_| frames)
    }

    /// Like [`Outbox::send`], for frames that depend on the encoder.
    pub(crate) fn send_encoded<'f>(
        &self,
        frames: impl FnOnce(&mut dyn Encoder) -> &'f Frames,
    ) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        let frames = frames(&mut *queue.encoder);
        if queue.state == QueueState::Open && queue.waiting.is_empty() {
            let sent = self.write_now(&mut queue, frames.bytes());
            if sent < frames.len() && !queue.has_ended() {
                queue.waiting.push(frames, sent);
                self.spill(&mut queue);
            }
        } else {
            queue.waiting.push(frames, 0);
            self.write_waiting(&mut queue);
        }
        self.settle(queue)
    }

    /// Queues whole frames for the timer thread, which writes them together with everything else
    /// queued by then. This is for a crowd that talks at once: otherwise, each sender would make a
    /// small write for each recipient.
    pub(crate) fn enqueue_encoded<'f>(
        &self,
        frames: impl FnOnce(&mut dyn Encoder) -> &'f Frames,
    ) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        let frames = frames(&mut *queue.encoder);
        queue.waiting.push(frames, 0);
        self.spill(&mut queue);
        self.settle(queue)
    }

    /// Sends one document; see `Outbox::send`.
    pub fn send_doc(&self, doc: &ServerDoc<'_>) -> Queued {
        let mut frames = Frames::default();
        self.send_encoded(|encoder| {
            frames.push(|out| encoder.encode(doc, RequestId::default(), out));
            &frames
        })
    }

    /// Sends a ping, if the transport has one.
    pub(crate) fn send_ping(&self) -> Queued {
        let mut frames = Frames::default();
        self.send_encoded(|encoder| {
            frames.push(|out| encoder.encode_ping(out));
            &frames
        })
    }

    /// Queues one document and writes nothing, so it may be called under a registry's lock. The
    /// caller calls [`Outbox::flush`] after it has released that lock.
    pub fn append_doc(&self, doc: &ServerDoc<'_>) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        queue.push_doc(doc);
        Queued::Yes
    }

    /// Like [`Outbox::append_doc`], for frames.
    pub fn append(&self, frames: &Frames) -> Queued {
        self.append_encoded(|_| frames)
    }

    /// Like [`Outbox::append`], for frames that depend on the encoder.
    pub(crate) fn append_encoded<'f>(
        &self,
        frames: impl FnOnce(&mut dyn Encoder) -> &'f Frames,
    ) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        let frames = frames(&mut *queue.encoder);
        queue.waiting.push(frames, 0);
        Queued::Yes
    }

    /// Like [`Outbox::append_doc`]; returns the number of bytes appended.
    pub fn append_reply(&self, doc: &ServerDoc<'_>) -> usize {
        self.append_to(&mut self.queue.lock(), doc)
    }

    /// Like [`Outbox::append_reply`], for a part of a long reply: up to [`limits::MAX_EXEMPT_BYTES`]
    /// do not count against the client until the queue is empty again.
    pub fn append_exempt_reply(&self, doc: &ServerDoc<'_>) -> usize {
        let mut queue = self.queue.lock();
        let bytes = self.append_to(&mut queue, doc);
        queue.exempt_bytes = (queue.exempt_bytes + bytes).min(limits::MAX_EXEMPT_BYTES);
        bytes
    }

    fn append_to(&self, queue: &mut OutputQueue, doc: &ServerDoc<'_>) -> usize {
        if queue.has_ended() {
            return 0;
        }
        let before = queue.waiting.pending();
        queue.push_doc(doc);
        queue.waiting.pending() - before
    }

    /// The number of bytes that the socket has not accepted yet.
    pub fn pending(&self) -> usize {
        self.queue.lock().waiting.pending()
    }

    /// Writes as much of the queue as the socket accepts right now.
    pub fn flush(&self) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        self.write_waiting(&mut queue);
        self.settle(queue)
    }

    /// Ends the connection for the reason `end`, sending the matching farewell as the last frame.
    /// If the socket does not accept the farewell right now, the timer thread has one tick to write
    /// it. Returns false if the connection had already ended.
    pub fn end(&self, end: CloseReason) -> bool {
        self.end_saying(end, end.farewell().as_ref())
    }

    /// Like [`Outbox::end`], with the caller's own farewell.
    pub fn end_saying(&self, end: CloseReason, farewell: Option<&ServerDoc<'_>>) -> bool {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return false;
        }
        if let Some(farewell) = farewell {
            queue.push_doc(farewell);
        }
        queue.push_close(end);
        self.write_waiting(&mut queue);
        self.finish(queue, end);
        true
    }

    /// Ends the connection if the peer's kernel has answered nothing for `limit`, which means that
    /// the peer has vanished. The kernel of a peer that does not read still answers; only the
    /// queue's limit applies to that peer.
    pub(crate) fn check_peer(&self, limit: Duration) {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return;
        }
        if let Some(delivery) = self.stream.delivery()
            && queue.silence.lasts(&delivery, Instant::now(), limit)
        {
            drop(queue);
            self.end(CloseReason::Unacknowledged);
        }
    }

    /// Closes the connection immediately, without flushing the queue, and wakes the reader.
    pub fn cut(&self, end: CloseReason) {
        let mut queue = self.queue.lock();
        if !matches!(queue.state, QueueState::Closed(_)) {
            queue.state = QueueState::Closed(queue.ended().unwrap_or(end));
            queue.waiting.clear();
        }
        drop(queue);
        self.shut_socket();
    }

    /// The last step of the thread that reads from the socket. That thread owns the end of the
    /// connection, from the farewell to the close. It ends the connection if nothing else has, and
    /// closes it so that the peer is not left hanging.
    ///
    /// A farewell that is queued behind other output gets at most one more tick. If the timer
    /// thread is in the middle of a write, which takes at most a tick, that write finishes first. A
    /// thread that finds the writer busy at the end may rely on this.
    pub fn hang_up(&self, end: CloseReason) {
        self.end(end);
        loop {
            {
                let mut queue = self.queue.lock();
                if queue.waiting.is_in_flight() {
                    self.written.wait(&mut queue);
                }
            }
            if self.write_out() != Flush::Busy {
                break;
            }
        }
        self.cut(end);
        if self.stream.drain() >= portal_net::limits::RESET_FROM {
            self.stream.reset_on_close();
        }
    }

    /// Returns whether the connection is over. Input that arrives after the end does not count.
    pub fn has_ended(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The reason for the end, if this server ended the connection or found it broken.
    pub fn ended(&self) -> Option<CloseReason> {
        self.queue.lock().ended()
    }

    /// One step of the timer thread (and, at the very end, of the worker): writes up to
    /// [`limits::FLUSH_CHUNK`] bytes of spilled output, without the lock and for at most one tick
    /// (the stream's write timeout).
    ///
    /// An ending connection gets one such step for its farewell and is then cut.
    pub fn write_out(&self) -> Flush {
        let mut queue = self.queue.lock();
        if queue.state == QueueState::Spilled && !queue.waiting.is_in_flight() {
            // Let senders that are only waiting for a processor append first, so that one write
            // takes all of their output. This is what makes a crowd cheap: fifty clients received
            // 0.2 million deliveries per second without it and 2.2 million with it. Without it, a
            // woken thread runs before the thread that woke it has reached the next outbox.
            MutexGuard::unlocked(&mut queue, thread::yield_now);
        }
        if queue.waiting.is_in_flight() {
            return Flush::Busy;
        }
        let ending = match queue.state {
            QueueState::Spilled => None,
            QueueState::Ending(end) => Some(end),
            QueueState::Open | QueueState::Closed(_) => return Flush::Done,
        };
        // The last step takes the whole queue, because no other step follows.
        let mut pieces = vec![queue.waiting.take()];
        while ending.is_some() && !queue.waiting.is_empty() {
            pieces.push(queue.waiting.take());
        }
        drop(queue);

        let result = match ending {
            None => self.write_once(&pieces),
            Some(_) => self.write_for_a_tick(&pieces),
        };

        let mut queue = self.queue.lock();
        queue
            .waiting
            .wrote(result.as_ref().map_or(0, |&count| count), pieces);
        self.written.notify_all();
        if result.is_err() {
            drop(queue);
            self.cut(CloseReason::ConnectionReset);
            return Flush::Done;
        }
        if matches!(queue.state, QueueState::Closed(_)) {
            return Flush::Done;
        }
        if queue.waiting.is_empty() {
            if let Some(end) = queue.ended() {
                self.finish(queue, end);
            } else {
                queue.state = QueueState::Open;
                queue.exempt_bytes = 0;
            }
            return Flush::Done;
        }
        drop(queue);
        match ending {
            Some(end) => {
                self.cut(end);
                Flush::Done
            }
            None => Flush::More,
        }
    }

    /// Performs one blocking write, of at most one piece. Returns the number of bytes written, fewer
    /// if the write timeout expires or the stream can't take more at once.
    fn write_once(&self, pieces: &[Vec<u8>]) -> io::Result<usize> {
        let Some(piece) = pieces.iter().find(|piece| !piece.is_empty()) else {
            return Ok(0);
        };
        match (&self.stream).write(piece) {
            Err(error) if is_full(&error) => Ok(0),
            result => result,
        }
    }

    /// Writes the pieces in order, for at most a tick altogether. Returns the number of bytes
    /// written.
    fn write_for_a_tick(&self, pieces: &[Vec<u8>]) -> io::Result<usize> {
        let until = Instant::now() + self.patience;
        let mut written = 0;
        for piece in pieces {
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(written);
                }
                // The connection is about to be closed, so nobody needs the old timeout.
                self.stream.set_write_timeout(Some(left))?;
                match (&self.stream).write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        written += count;
                        rest = &rest[count..];
                    }
                    Err(error) if is_full(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(written)
    }

    /// Writes as much of `waiting` as the socket accepts, unless that is the timer thread's task.
    fn write_waiting(&self, queue: &mut OutputQueue) {
        if queue.state != QueueState::Open || queue.waiting.is_empty() {
            return;
        }
        self.offer(queue);
        if queue.waiting.is_empty() {
            queue.exempt_bytes = 0;
        } else if !queue.has_ended() {
            self.spill(queue);
        }
    }

    /// Performs one non-blocking write; returns the number of bytes that the socket accepted.
    fn write_now(&self, queue: &mut OutputQueue, bytes: &[u8]) -> usize {
        match self.stream.send_now(bytes) {
            Ok(count) => count,
            Err(error) if is_full(&error) => 0,
            Err(_) => {
                queue.state = QueueState::Closed(CloseReason::ConnectionReset);
                0
            }
        }
    }

    fn spill(&self, queue: &mut OutputQueue) {
        if queue.state == QueueState::Open {
            queue.state = QueueState::Spilled;
            if !queue.is_patient {
                // If this fails, a write may take longer; the end of the connection still
                // interrupts it.
                let _ = self.stream.set_write_timeout(Some(self.patience));
                queue.is_patient = true;
            }
            self.notify_timer();
        }
    }

    /// Writes as much of `waiting` as the socket accepts right now. Must not be called while
    /// another thread is writing.
    fn offer(&self, queue: &mut OutputQueue) {
        while !queue.waiting.is_empty() {
            let piece = queue.waiting.take();
            let sent = self.write_now(queue, &piece);
            let is_full = sent < piece.len();
            queue.waiting.wrote(sent, vec![piece]);
            if is_full {
                break;
            }
        }
    }

    /// The last step of every send: checks whether the queue is too long or the socket has failed.
    fn settle(&self, mut queue: MutexGuard<'_, OutputQueue>) -> Queued {
        if queue.is_too_long() && !queue.waiting.is_in_flight() {
            // The client is not necessarily too slow: output for the timer thread may never have
            // been offered to the socket.
            self.offer(&mut queue);
        }
        if queue.is_too_long() && !queue.has_ended() {
            // Drop output that the client will not read, to make room for the reason. The rest of a
            // partly written frame must stay, or the client would read the reason as part of it.
            // (If there is no farewell, nothing needs to stay.)
            let farewell = CloseReason::TooSlow.farewell();
            let mut last_word = Frames::default();
            let encoder = &mut queue.encoder;
            if let Some(farewell) = &farewell {
                last_word.push(|out| encoder.encode(farewell, RequestId::default(), out));
            }
            last_word.push(|out| encoder.encode_close(CloseReason::TooSlow, out));
            if last_word.is_empty() {
                queue.waiting.clear();
            } else {
                queue.waiting.keep_torn_frame();
            }
            queue.waiting.push(&last_word, 0);
            self.finish(queue, CloseReason::TooSlow);
            return Queued::Closed;
        }
        if queue.has_ended() {
            drop(queue);
            self.shut_socket();
            return Queued::Closed;
        }
        Queued::Yes
    }

    /// Closes the connection if nothing is queued; otherwise leaves the queue to the timer thread.
    fn finish(&self, mut queue: MutexGuard<'_, OutputQueue>, end: CloseReason) {
        if matches!(queue.state, QueueState::Closed(_)) {
            drop(queue);
            self.shut_socket();
        } else if queue.waiting.pending() == 0 {
            queue.state = QueueState::Closed(end);
            drop(queue);
            self.shut_socket();
        } else {
            queue.state = QueueState::Ending(end);
            self.over.store(true, Ordering::Release);
            drop(queue);
            self.notify_timer();
        }
    }

    /// Wakes the timer thread, which flushes the queue and notices the end of the connection.
    pub fn notify_timer(&self) {
        self.timer.notify();
    }

    /// Wakes the thread that is blocked in a read from this socket or a write to it. Bytes already
    /// written are still delivered.
    fn shut_socket(&self) {
        self.over.store(true, Ordering::Release);
        // A socket that is still connecting must be shut down again later.
        if !self.shut.load(Ordering::Acquire) && self.stream.shutdown(Shutdown::Both).is_ok() {
            self.shut.store(true, Ordering::Release);
        }
    }
}

impl OutputQueue {
    fn is_too_long(&self) -> bool {
        self.waiting.pending() > limits::MAX_OUTBOX_BYTES + self.exempt_bytes
    }

    fn push_doc(&mut self, doc: &ServerDoc<'_>) {
        let encoder = &mut self.encoder;
        self.waiting
            .push_with(|piece| encoder.encode(doc, RequestId::default(), piece));
    }

    fn push_close(&mut self, reason: CloseReason) {
        let encoder = &mut self.encoder;
        self.waiting
            .push_with(|piece| encoder.encode_close(reason, piece));
    }

    fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    fn ended(&self) -> Option<CloseReason> {
        match self.state {
            QueueState::Open | QueueState::Spilled => None,
            QueueState::Ending(end) | QueueState::Closed(end) => Some(end),
        }
    }
}

/// Returns whether a write failed only because the socket is full. An expired write timeout is
/// `WouldBlock` on Unix, and `TimedOut` elsewhere.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
