//! What one client is still owed: answers that another server has a part in come later, and in the order in which they
//! were asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::hall::{Connection, Unwritten};
use crate::limits;
use crate::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::wire::{Frames, ServerDoc};
use portal_core::transport::Request;

/// The answers that one client is owed. The thread that reads from the client adds to it, `cluster-out` and `cluster-in`
/// fill in what they have heard, and whoever fills in the first one hands over all that are ready.
pub(super) struct Answers {
    connection: Arc<Connection>,
    owed: Mutex<Owed>,
    /// Notified when answers have been handed over.
    paid: Condvar,
}

#[derive(Default)]
struct Owed {
    /// `None` while it is awaited.
    answers: VecDeque<Option<Frames>>,
    /// The number of the first one.
    first: u64,
}

impl Answers {
    pub(super) fn new(connection: &Arc<Connection>) -> Arc<Answers> {
        Arc::new(Answers {
            connection: Arc::clone(connection),
            owed: Mutex::ranked(Rank::PendingReplies, Owed::default()),
            paid: Condvar::new(),
        })
    }

    /// An answer that comes later; returns its number. Waits while the client is owed as many as it may be: each of
    /// them comes within a moment, if only to say that nothing is known.
    pub(super) fn owe(&self) -> u64 {
        let mut owed = self.owed.lock();
        self.wait_until(&mut owed, limits::CLUSTER_OWED - 1);
        owed.answers.push_back(None);
        owed.first + owed.answers.len() as u64 - 1
    }

    /// Waits until no more than `most` are owed. Each comes within [`limits::CLUSTER_PATIENCE`]; should a thread have
    /// panicked that was to bring one, nobody waits for ever.
    fn wait_until(&self, owed: &mut MutexGuard<'_, Owed>, most: usize) {
        let until = Instant::now() + 4 * limits::CLUSTER_PATIENCE;
        while owed.answers.len() > most {
            if self.paid.wait_until(owed, until).timed_out() {
                owed.first += owed.answers.len() as u64;
                owed.answers.clear();
            }
        }
    }

    /// The answer with that number.
    pub(super) fn pay(
        &self,
        (number, request): (u64, Request),
        answer: &ServerDoc<'_>,
        unwritten: &mut Unwritten,
    ) {
        let outbox = &self.connection.outbox;
        let mut frames = Frames::default();
        outbox.encode(answer, request, &mut frames);
        let mut owed = self.owed.lock();
        let index = number.checked_sub(owed.first);
        if let Some(there) = index.and_then(|index| owed.answers.get_mut(index as usize)) {
            *there = Some(frames);
        }
        // Appended under the lock, for the order; written after it.
        let mut bytes = 0;
        while let Some(Some(_)) = owed.answers.front() {
            if let Some(Some(frames)) = owed.answers.pop_front() {
                outbox.append(&frames);
                bytes += frames.len();
            }
            owed.first += 1;
        }
        self.paid.notify_all();
        drop(owed);
        if bytes > 0 {
            unwritten.add(&self.connection, bytes);
        }
    }

    /// Something that stands behind what is owed; `false` if nothing is.
    pub(super) fn put_behind(&self, frames: &Frames) -> bool {
        let mut owed = self.owed.lock();
        self.wait_until(&mut owed, limits::CLUSTER_OWED - 1);
        if owed.answers.is_empty() {
            return false;
        }
        owed.answers.push_back(Some(frames.clone()));
        true
    }

    /// Waits until nothing is owed.
    pub(super) fn wait(&self) {
        self.wait_until(&mut self.owed.lock(), 0);
    }
}
