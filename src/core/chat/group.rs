//! Saying something to many: the fan-out, the one that every group uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Connection, MessageBatch, Unwritten};
use crate::limits;
use crate::outbox::Queued;

/// A group of people to whom something can be said. It knows who spoke last and when, not who is
/// in it: whoever delivers brings a snapshot of the members, taken under the lock that guards
/// them, so that no shared lock is held over a write.
pub(crate) struct Group {
    born: Instant,
    /// When the last turn was, in nanoseconds since `born`, and whose.
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

/// Hands what was `batch` on some server to everyone in `members` but the session `except`, and
/// returns how many took it. Where they are many, their timekeepers write it: the one thread that
/// reads for all of them has more to read.
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
    /// Hands what was `batch` to everyone in `members` but the speaker, and returns how many took
    /// it.
    ///
    /// Usually the speaker's thread writes to each. When another member's turn was only a moment
    /// ago ([`limits::CROWD_WINDOW`]), many are talking, and then each recipient's timekeeper does
    /// it: fifty speakers would otherwise do fifty small writes to everyone.
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

    /// Two plain stores that may interleave with another speaker's: a wrong answer costs a wake-up
    /// or a write, never a message.
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
