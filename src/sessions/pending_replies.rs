//! The queue of one client's replies. Replies that depend on other servers arrive later; the queue
//! keeps all replies in request order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::chat::{Connection, Unwritten};
use crate::limits;
use portal_core::transport::RequestId;
use portal_net::lock::{Condvar, Mutex, MutexGuard, Rank};
use portal_wire::{Frames, ServerDoc};

/// The replies to one client. The thread that reads from the client reserves places, and the
/// backplane's threads fulfil them. Once the first place is fulfilled, all complete replies up to
/// the next open place are appended to the outbox.
pub(crate) struct PendingReplies {
    connection: Arc<Connection>,
    queue: Mutex<ReplyQueue>,
    /// Notified when replies have been appended.
    appended: Condvar,
}

#[derive(Default)]
struct ReplyQueue {
    /// `None` until it is fulfilled.
    replies: VecDeque<Option<Frames>>,
    /// The number of the first reply in the queue.
    first: u64,
}

/// A reply's place in the queue, and the request that it answers.
#[derive(Clone, Copy)]
pub(crate) struct ReplySlot {
    number: u64,
    request: RequestId,
}

impl PendingReplies {
    pub(crate) fn new(connection: &Arc<Connection>) -> Arc<PendingReplies> {
        Arc::new(PendingReplies {
            connection: Arc::clone(connection),
            queue: Mutex::ranked(Rank::PendingReplies, ReplyQueue::default()),
            appended: Condvar::new(),
        })
    }

    /// Reserves a place for a reply. Waits while [`limits::MAX_PENDING_REPLIES`] are pending.
    pub(crate) fn reserve(&self, request: RequestId) -> ReplySlot {
        let mut queue = self.queue.lock();
        self.wait_until(&mut queue, limits::MAX_PENDING_REPLIES - 1);
        queue.replies.push_back(None);
        let number = queue.first + queue.replies.len() as u64 - 1;
        ReplySlot { number, request }
    }

    /// Waits until at most `most` replies are pending. A backplane fulfils each within a second. If
    /// that fails because a thread has panicked, the pending replies are dropped.
    fn wait_until(&self, queue: &mut MutexGuard<'_, ReplyQueue>, most: usize) {
        let until = Instant::now() + limits::PENDING_REPLY_PATIENCE;
        while queue.replies.len() > most {
            if self.appended.wait_until(queue, until).timed_out() {
                queue.first += queue.replies.len() as u64;
                queue.replies.clear();
            }
        }
    }

    /// Fulfils the reply in `slot` with `doc`.
    pub(crate) fn fulfil(&self, slot: ReplySlot, doc: &ServerDoc<'_>, unwritten: &mut Unwritten) {
        let outbox = &self.connection.outbox;
        let mut frames = Frames::default();
        outbox.encode(doc, slot.request, &mut frames);
        let mut queue = self.queue.lock();
        let index = slot.number.checked_sub(queue.first);
        if let Some(there) = index.and_then(|index| queue.replies.get_mut(index as usize)) {
            *there = Some(frames);
        }
        // Append under the lock, to keep the order; write after it is released.
        let mut bytes = 0;
        while let Some(Some(_)) = queue.replies.front() {
            if let Some(Some(frames)) = queue.replies.pop_front() {
                outbox.append(&frames);
                bytes += frames.len();
            }
            queue.first += 1;
        }
        self.appended.notify_all();
        drop(queue);
        if bytes > 0 {
            unwritten.add(&self.connection, bytes);
        }
    }

    /// Queues a complete reply behind the pending ones. Returns false if none is pending.
    pub(crate) fn queue_behind(&self, frames: &Frames) -> bool {
        let mut queue = self.queue.lock();
        self.wait_until(&mut queue, limits::MAX_PENDING_REPLIES - 1);
        if queue.replies.is_empty() {
            return false;
        }
        queue.replies.push_back(Some(frames.clone()));
        true
    }

    /// Waits until no reply is pending.
    pub(crate) fn wait(&self) {
        self.wait_until(&mut self.queue.lock(), 0);
    }
}
