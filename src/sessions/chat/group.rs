//! Delivery to many recipients: the fan-out that every group uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Connection, MessageBatch, Unwritten};
use crate::limits;
use portal_core::outbox::Queued;

/// A group of recipients. It records the last sender and the time of that sender's turn, but not
/// the members. The caller passes a snapshot of the members, taken under the lock that guards them,
/// so no shared lock is held during a write.
pub(crate) struct Group {
    born: Instant,
    /// The time of the last turn, in nanoseconds since `born`, and its sender.
    last_turn: AtomicU64,
    last_speaker: AtomicU64,
}

impl Default for Group {
    fn default() -> Group {
        Group {
            born: Instant::now(),
            last_turn: AtomicU64::new(0),
            last_speaker: AtomicU64::new(0),
        }
    }
}

/// Queues a batch from any server for all `members` except the session `except`, and returns how
/// many members it was queued for. If there are more than [`limits::DIRECT_WRITES`], their timer
/// threads write it, because the calling thread reads for all of them and must not fall behind.
pub(crate) fn send_to_each(
    members: &[Arc<Connection>],
    batch: &mut MessageBatch,
    except: Option<u64>,
    unwritten: &mut Unwritten,
) -> usize {
    let are_many = members.len() > limits::DIRECT_WRITES;
    let mut hand = |member: &Arc<Connection>| match are_many {
        true => batch.send_to(member, true),
        false => batch.append_to(member, unwritten),
    };
    members
        .iter()
        .filter(|member| except.is_none() || Some(member.session()) != except)
        .filter(|member| hand(member) == Queued::Yes)
        .count()
}

impl Group {
    /// Queues a batch for all `members` except the sender, and returns how many members it was
    /// queued for.
    ///
    /// Usually the sender's thread writes to each member. If another member's turn was less than
    /// [`limits::CROWD_WINDOW`] ago, many members are talking, and each recipient's timer thread
    /// writes instead. Otherwise, fifty senders would make fifty small writes to each member.
    pub(crate) fn deliver(
        &self,
        members: &[Arc<Connection>],
        speaker: &Arc<Connection>,
        batch: &mut MessageBatch,
    ) -> usize {
        let crowded = self.is_crowded(speaker);
        members
            .iter()
            .filter(|member| !Arc::ptr_eq(member, speaker))
            .filter(|member| batch.send_to(member, crowded) == Queued::Yes)
            .count()
    }

    /// Returns whether another member's turn was less than [`limits::CROWD_WINDOW`] ago. The two
    /// swaps may interleave with another sender's. A wrong result costs a wakeup or a write, never
    /// a message.
    fn is_crowded(&self, speaker: &Arc<Connection>) -> bool {
        let me = Arc::as_ptr(speaker) as u64;
        let now = self.born.elapsed().as_nanos() as u64;
        let before = self.last_turn.swap(now, Ordering::Relaxed);
        let another = self.last_speaker.swap(me, Ordering::Relaxed) != me;
        another
            && before != 0
            && now.saturating_sub(before) < limits::CROWD_WINDOW.as_nanos() as u64
    }
}
