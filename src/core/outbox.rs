//! The way to one client's socket: whoever has something for the client writes it here, and never
//! waits.
//!
//! The contract, for all who hold an outbox:
//!
//! 1. What is handed over arrives in the order in which it was handed over, whole, once, or not
//!    at all because the connection ended.
//! 2. Handing over MUST NOT block. A socket that is full makes the outbox *spill*: the rest waits
//!    here, later frames queue up behind it, and the client's own timer thread writes it out.
//! 3. What waits is bounded. A client that lets it overflow is too slow: it is disconnected and
//!    nobody else notices.
//! 4. The lock is held over writes that cannot block, and only over those. So it may be taken
//!    under the hall's lock for `Outbox::append_doc`, which writes nothing, but not for the rest.
//! 5. The connection ends once, for one reason: the first one given counts.
//!
//! In the ordinary case that is one `send` per recipient and turn, made by the thread that read the
//! message, with no allocation and nobody woken but the recipient. Counted on a pair: 2,000
//! messages, one at a time, are 2,000 `recvfrom`, 2,000 `sendto` and no `futex` (`strace -f`); in
//! windows of 64, a message of 64 bytes is 1,400 instructions of this program (callgrind), half of
//! them for writing the document anew. When fifty talk at once, 2.2 million deliveries are fewer
//! than 118,000 `sendto` and 97,000 `futex`, those of the fifty themselves included (`perf stat`):
//! what is left for the timer threads (`Outbox::enqueue_encoded`) goes out some twenty at a time.

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

/// One client's socket and what waits for it.
pub struct Outbox {
    stream: Stream,
    /// Wakes the timer thread to write out what was spilled.
    timer: Notifier,
    /// How long one of that thread's writes may take.
    patience: Duration,
    queue: Mutex<OutputQueue>,
    /// Notified when a write outside of the lock has ended.
    written: Condvar,
    /// Set once the connection is over, for the reader to see without taking the lock. It has to
    /// look after every read: on Linux a socket that was shut down goes on receiving, so a client
    /// that never stops sending would never be left.
    over: AtomicBool,
    /// The socket has been shut down, which once is enough.
    shut: AtomicBool,
}

/// Guarded by the outbox's own lock. (In an order for the cache; see [`Backlog`].)
#[repr(C)]
struct OutputQueue {
    state: QueueState,
    /// The socket's write timeout has been set: only when it is first needed, because most
    /// connections never come to that.
    is_patient: bool,
    /// Bytes of waiting history that do not count against the client; at most
    /// [`limits::HISTORY_EXEMPTION`].
    exempt_bytes: usize,
    waiting: Backlog,
    encoder: Box<dyn Encoder>,
    silence: Silence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueState {
    /// Who has something writes it to the socket.
    Open,
    /// The socket was full: everyone appends, the timer thread writes.
    Spilled,
    /// The last frame is in the queue; the timer thread has until its next tick to write it.
    Ending(CloseReason),
    /// Nothing goes out any more.
    Closed(CloseReason),
}

/// What became of frames that were handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// They are on their way.
    Yes,
    /// The connection is over; they were not taken.
    Closed,
}

/// What a timekeeper's turn at the queue has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Nothing waits.
    Done,
    /// Something waits: look at the deadlines and come again.
    More,
    /// Somebody else is writing. If the connection is ending, the thread that reads from it waits
    /// for that and finishes it ([`Outbox::hang_up`]).
    Busy,
}

impl Outbox {
    /// The outbox of a fresh connection. `timer` wakes the thread that writes what was spilled, and
    /// each of its writes may take as long as `patience`: one tick.
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

    /// The socket, to read from. Reading and writing share one descriptor.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Appends the frames of a document to `frames`. `request` is the request that it answers.
    pub fn encode(&self, doc: &ServerDoc<'_>, request: RequestId, frames: &mut Frames) {
        let encoder = &mut self.queue.lock().encoder;
        frames.push(|out| encoder.encode(doc, request, out));
    }

    /// Hands over whole frames and writes them if the socket takes them.
    pub(crate) fn send(&self, frames: &Frames) -> Queued {
        self.send_encoded(|_| frames)
    }

    /// As [`Outbox::send`], for frames that depend on the encoder.
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

    /// Hands over whole frames for the timer thread to write, together with whatever else gathers
    /// until it does: for a crowd that talks at once, in which every speaker would otherwise do a
    /// small write to every listener.
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

    /// Hands over one document; see `Outbox::send`.
    pub fn send_doc(&self, doc: &ServerDoc<'_>) -> Queued {
        let mut frames = Frames::default();
        self.send_encoded(|encoder| {
            frames.push(|out| encoder.encode(doc, RequestId::default(), out));
            &frames
        })
    }

    /// Asks the other side whether it is there, by the framing's own means.
    pub(crate) fn send_ping(&self) -> Queued {
        let mut frames = Frames::default();
        self.send_encoded(|encoder| {
            frames.push(|out| encoder.encode_ping(out));
            &frames
        })
    }

    /// Hands over one document and writes nothing, so it may be called under the hall's lock.
    /// Whoever appends calls [`Outbox::flush`] after that lock is released.
    pub(crate) fn append_doc(&self, doc: &ServerDoc<'_>) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        queue.push_doc(doc);
        Queued::Yes
    }

    /// As [`Outbox::append_doc`], for frames.
    pub(crate) fn append(&self, frames: &Frames) -> Queued {
        self.append_encoded(|_| frames)
    }

    /// As [`Outbox::append`], for frames that depend on the encoder.
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
    pub(crate) fn append_reply(&self, doc: &ServerDoc<'_>) -> usize {
        self.append_to(&mut self.queue.lock(), doc)
    }

    /// Like [`Outbox::append_reply`], for replayed history: up to [`limits::HISTORY_EXEMPTION`]
    /// bytes of it do not count against the client until the queue is empty again.
    pub(crate) fn append_history(&self, doc: &ServerDoc<'_>) -> usize {
        let mut queue = self.queue.lock();
        let bytes = self.append_to(&mut queue, doc);
        queue.exempt_bytes = (queue.exempt_bytes + bytes).min(limits::HISTORY_EXEMPTION);
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

    /// Writes what was appended, as far as the socket takes it now.
    pub(crate) fn flush(&self) -> Queued {
        let mut queue = self.queue.lock();
        if queue.has_ended() {
            return Queued::Closed;
        }
        self.write_waiting(&mut queue);
        self.settle(queue)
    }

    /// Ends the connection for `end`, with its farewell as the last frame if the socket takes it
    /// now, or within a tick by the timer thread's hand. Returns whether this was the first end.
    pub fn end(&self, end: CloseReason) -> bool {
        self.end_saying(end, end.farewell().as_ref())
    }

    /// As [`Outbox::end`], with a farewell of the caller's own.
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
    /// the peer has vanished. The kernel of a peer that does not read still answers; only the limit
    /// of the queue applies to it.
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

    /// Cuts the connection at once, whatever waits. The reader wakes.
    pub fn cut(&self, end: CloseReason) {
        let mut queue = self.queue.lock();
        if !matches!(queue.state, QueueState::Closed(_)) {
            queue.state = QueueState::Closed(queue.ended().unwrap_or(end));
            queue.waiting.clear();
        }
        drop(queue);
        self.shut_socket();
    }

    /// The last act of the thread that reads from the socket, which owns the end of the connection,
    /// from the last word to the close: ends it if nobody has, and closes it so that the peer is
    /// not left hanging. A farewell that had to queue up behind other things gets its chance, a
    /// tick at most; and if the timer thread is in the middle of a write, which takes a tick at
    /// most, that comes first. Whoever else finds the writer busy at the end may rely on this.
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

    /// Whether the connection is over, so that what is still read from it no longer counts.
    pub fn has_ended(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Why the connection ended, if this side ended it or found it broken.
    pub fn ended(&self) -> Option<CloseReason> {
        self.queue.lock().ended()
    }

    /// The timer thread's turn (and, at the very end, the worker's): writes up to
    /// [`limits::FLUSH_CHUNK`] of what was spilled, with no lock held and for at most one tick (the
    /// stream's write timeout).
    ///
    /// An ending connection gets one such turn for its farewell and is then cut.
    pub(crate) fn write_out(&self) -> Flush {
        let mut queue = self.queue.lock();
        if queue.state == QueueState::Spilled && !queue.waiting.is_in_flight() {
            // Whoever is about to say something, and only waits for a processor, says it first, so
            // that one write takes it all. When many talk at once, this is what makes them cheap:
            // fifty of them got 0.2 million deliveries a second without it and 2.2 with it, because
            // a thread that is woken runs before the one that woke it has come to the next outbox.
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
        // The last turn takes all that waits, because there is no other.
        let mut pieces = vec![queue.waiting.take()];
        while ending.is_some() && !queue.waiting.is_empty() {
            pieces.push(queue.waiting.take());
        }
        drop(queue);

        let result = self.write_pieces(&pieces);

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

    /// Writes one piece after the other, as long as each is taken whole; returns how many bytes
    /// were taken. Only the write that is not taken whole waits, and for a tick at most.
    fn write_pieces(&self, pieces: &[Vec<u8>]) -> io::Result<usize> {
        let mut written = 0;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            match (&self.stream).write(piece) {
                Ok(count) => {
                    written += count;
                    if count < piece.len() {
                        break;
                    }
                }
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Writes all of `waiting` that the socket takes, unless that is the timer thread's task.
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

    /// One write that can't block; returns how many bytes the socket took.
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
                // Should it fail, a write may take longer; the connection's end wakes it all the
                // same.
                let _ = self.stream.set_write_timeout(Some(self.patience));
                queue.is_patient = true;
            }
            self.notify_timer();
        }
    }

    /// Writes as much of `waiting` as the socket takes now, while nobody else writes.
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

    /// The end of every hand-over: looks whether the queue has grown too long or the socket broke.
    fn settle(&self, mut queue: MutexGuard<'_, OutputQueue>) -> Queued {
        if queue.is_too_long() && !queue.waiting.is_in_flight() {
            // Nobody has been too slow yet: what was left for the timer thread may not have been
            // offered to the socket at all.
            self.offer(&mut queue);
        }
        if queue.is_too_long() && !queue.has_ended() {
            // What the client will not read anyway makes room for the reason. The rest of the
            // frame that is partly out has to stay, or the reason would be read as part of it.
            // (An original program is told no reason, so there nothing has to stay.)
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

    /// Closes if nothing waits, or leaves what waits to the timer thread.
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

    /// Wakes the thread that writes what was spilled, for it to see that the connection is over.
    pub(crate) fn notify_timer(&self) {
        self.timer.notify();
    }

    /// Wakes the thread that is blocked in a read or a write of this socket. What was written
    /// before is still delivered.
    fn shut_socket(&self) {
        self.over.store(true, Ordering::Release);
        // A socket that is still connecting has to be shut down again later.
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

/// Whether a write failed only because the socket is full: `WouldBlock` on Unix also when a write
/// timeout has passed, `TimedOut` elsewhere.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::NotifyReceiver;
    use crate::transport::XmlLineEncoder;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    /// An outbox, what wakes its timer thread, and the client's end.
    fn outbox() -> (Arc<Outbox>, NotifyReceiver, TcpStream) {
        outbox_with(Duration::from_secs(20))
    }

    fn outbox_with(write_timeout: Duration) -> (Arc<Outbox>, NotifyReceiver, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let stream = Stream::from(listener.accept().unwrap().0);
        let notifications = NotifyReceiver::new();
        let outbox = Outbox::new(
            stream,
            Box::<XmlLineEncoder>::default(),
            notifications.notifier(),
            write_timeout,
        );
        (Arc::new(outbox), notifications, client)
    }

    fn text(kilobytes: usize) -> ServerDoc<'static> {
        ServerDoc::Notice("x".repeat(kilobytes * 1024).into())
    }

    /// Sends until the socket is full and the outbox has spilled.
    fn fill(outbox: &Outbox) -> usize {
        let mut sent = 0;
        while outbox.queue.lock().state == QueueState::Open {
            assert_eq!(outbox.send_doc(&text(32)), Queued::Yes);
            sent += 1;
            assert!(sent < 2000, "the socket is full, and nobody has noticed");
        }
        sent
    }

    fn documents(mut client: TcpStream) -> Vec<String> {
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert!(all.ends_with('\n'), "the last frame is whole");
        all.lines().map(str::to_owned).collect()
    }

    /// The timer thread is in a write when the session ends, and does not come again: the seat has
    /// lost its connection. The last words are whole and arrive all the same.
    #[test]
    fn last_words_arrive_after_a_write_that_was_under_way() {
        for _ in 0..5 {
            let (outbox, _wakes, client) = outbox();
            let mut sent = 0;
            let is_under_way = || outbox.queue.lock().waiting.is_in_flight();
            // A write that is over before it is seen can be begun again, as the client does not
            // read yet.
            let writing = loop {
                // The kernel may make room after it has been full.
                if outbox.queue.lock().state == QueueState::Open {
                    sent += fill(&outbox);
                    // More than the timer takes at once, so that it leaves something.
                    for _ in 0..8 {
                        outbox.send_doc(&text(32));
                    }
                    sent += 8;
                }
                let timer = Arc::clone(&outbox);
                let writing = thread::spawn(move || timer.write_out());
                while !is_under_way() && !writing.is_finished() {
                    thread::yield_now();
                }
                if !writing.is_finished() {
                    break writing;
                }
                writing.join().unwrap();
            };
            let worker = Arc::clone(&outbox);
            let ending = thread::spawn(move || {
                worker.send_doc(&ServerDoc::Pong);
                worker.hang_up(CloseReason::Shutdown);
            });
            let received = documents(client);
            writing.join().unwrap();
            ending.join().unwrap();
            assert_eq!(received.len(), sent + 2);
            assert!(received[received.len() - 2].contains("PONG"));
            assert!(received[received.len() - 1].contains("SHUTDOWN"));
        }
    }

    #[test]
    fn an_open_outbox_writes_at_once_and_wakes_nobody() {
        let (outbox, notifications, client) = outbox();
        assert_eq!(outbox.append_doc(&ServerDoc::Pong), Queued::Yes);
        assert_eq!(outbox.send_doc(&ServerDoc::NoPartner), Queued::Yes);
        assert!(outbox.end(CloseReason::IdleTimeout));
        assert!(
            !outbox.end(CloseReason::TotalTimeout),
            "the first reason counts"
        );
        assert_eq!(outbox.send_doc(&ServerDoc::Pong), Queued::Closed);
        assert_eq!(outbox.ended(), Some(CloseReason::IdleTimeout));
        assert!(notifications.try_next().is_none());
        let expected = ["PONG", "NO PARTNER", "IDLE TIMEOUT"];
        assert_eq!(
            documents(client),
            expected.map(|name| format!("<SERVER><command>{name}</command></SERVER>"))
        );
    }

    #[test]
    fn a_spilled_outbox_keeps_the_order_and_opens_again() {
        let (outbox, notifications, client) = outbox();
        let sent = fill(&outbox);
        assert!(notifications.try_next().is_some());
        assert_eq!(outbox.send_doc(&ServerDoc::Pong), Queued::Yes);
        let reader = std::thread::spawn(move || documents(client));
        while outbox.write_out() != Flush::Done {}
        assert!(outbox.queue.lock().state == QueueState::Open);
        outbox.end(CloseReason::Shutdown);
        let received = reader.join().unwrap();
        assert_eq!(received.len(), sent + 2);
        assert!(received[sent].contains("PONG") && received[sent + 1].contains("SHUTDOWN"));
    }

    #[test]
    fn a_client_that_does_not_read_is_too_slow_and_is_told_so_if_it_reads_again() {
        let (outbox, notifications, client) = outbox();
        fill(&outbox);
        assert!(notifications.try_next().is_some());
        let mut extra = 0;
        while outbox.send_doc(&text(32)) == Queued::Yes {
            extra += 1;
            // While nobody reads, the system takes more and more into the socket, as it sees fit.
            assert!(
                extra * 32 * 1024 <= 8 * limits::MAX_OUTBOX_BYTES,
                "the queue is bounded"
            );
        }
        assert_eq!(outbox.ended(), Some(CloseReason::TooSlow));
        assert!(notifications.try_next().is_some());
        let reader = std::thread::spawn(move || documents(client));
        while outbox.write_out() != Flush::Done {}
        let received = reader.join().unwrap();
        assert!(
            received.last().unwrap().contains("TOO SLOW"),
            "{:?}",
            received.last().map(|l| &l[..40])
        );
        assert!(received.iter().all(|document| document.starts_with("<SERVER>") && document.ends_with("</SERVER>")));
    }

    #[test]
    fn a_farewell_that_nobody_reads_is_cut_short_after_one_turn() {
        let (outbox, notifications, _client) = outbox_with(Duration::from_millis(20));
        fill(&outbox);
        while outbox.write_out() == Flush::More {}
        outbox.end(CloseReason::IdleTimeout);
        assert!(notifications.try_next().is_some());
        assert_eq!(outbox.write_out(), Flush::Done);
        assert!(outbox.queue.lock().state == QueueState::Closed(CloseReason::IdleTimeout));
        assert_eq!(
            (outbox.stream()).read(&mut [0; 8]).unwrap(),
            0,
            "the reader wakes"
        );
    }

    #[test]
    fn what_was_never_offered_to_the_socket_makes_nobody_too_slow() {
        let (outbox, _wakes, client) = outbox();
        let mut frames = Frames::default();
        for _ in 0..4096 {
            frames.push(|out| out.extend(b"<SERVER><notice>x</notice></SERVER>\n"));
        }
        let rounds = limits::MAX_OUTBOX_BYTES / frames.len() + 4;
        let reader = std::thread::spawn(move || documents(client).len());
        for _ in 0..rounds {
            // As a crowd does it; the timer thread never gets its turn here.
            while outbox.queue.lock().is_too_long() {
                std::thread::yield_now();
            }
            assert_eq!(outbox.enqueue_encoded(|_| &frames), Queued::Yes);
        }
        while outbox.write_out() != Flush::Done {}
        outbox.end(CloseReason::Terminate);
        assert_eq!(reader.join().unwrap(), rounds * 4096);
    }

    /// A client that joins and leaves repeatedly gets no more space in the queue than one that
    /// joins all rooms once.
    #[test]
    fn replayed_history_raises_the_limit_by_a_fixed_amount() {
        let (outbox, _wakes, _client) = outbox();
        fill(&outbox);
        let history = text(limits::HISTORY / 1024);
        let mut replays = 0;
        while outbox.append_history(&history) > 0 {
            replays += 1;
            outbox.flush();
            let bound = limits::MAX_OUTBOX_BYTES + limits::HISTORY_EXEMPTION;
            assert!(outbox.has_ended() || outbox.pending() <= bound);
            // As long as the client does not read, the kernel may enlarge the socket's buffers.
            assert!(replays < 100, "the queue is bounded");
        }
        assert_eq!(outbox.ended(), Some(CloseReason::TooSlow));
        assert!(replays >= limits::MAX_ROOMS_PER_USER, "{replays}");
    }

    #[test]
    fn a_broken_socket_is_found_out_and_wakes_the_reader() {
        let (outbox, _wakes, client) = outbox();
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        while outbox.send_doc(&ServerDoc::Pong) == Queued::Yes {}
        assert_eq!(outbox.ended(), Some(CloseReason::ConnectionReset));
    }
}
