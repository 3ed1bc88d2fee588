//! Locks with a checked order.
//!
//! Two threads that take the same two locks in different orders can deadlock. Therefore the
//! server's locks have ranks, and a thread may take a lock only if its rank is higher than that of
//! every lock that the thread holds. In debug builds, and so in every test, a violation aborts the
//! process with a message. (A panic would not be enough, because the server catches panics that
//! occur in one client's visit.) In release builds, these types only wrap those from `parking_lot`,
//! at no extra cost.
//!
//! The map in `lib.rs` lists the locks with each rank.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// The order of the locks. A thread that holds a lock may take only locks listed after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rank {
    /// The pairs, the users and the rooms. A thread never holds two of these locks at once.
    Registry,
    /// One client's replies that depend on other servers.
    PendingReplies,
    /// The reserve file descriptor.
    ReserveFd,
    /// The outbox of one client.
    Outbox,
    /// The TLS state of one connection.
    Tls,
    /// The state of the connections to Redis.
    ClusterState,
    /// The accounts file, the policies file, or the tokens file.
    AccountsFile,
    /// All other locks. No lock is taken while one of them is held.
    Leaf,
}

/// A mutex with a rank, by default [`Rank::Leaf`].
#[derive(Debug)]
pub struct Mutex<T> {
    #[cfg(debug_assertions)]
    rank: Rank,
    inner: parking_lot::Mutex<T>,
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> Mutex<T> {
    /// Creates a leaf lock.
    pub fn new(value: T) -> Mutex<T> {
        Mutex::ranked(Rank::Leaf, value)
    }

    #[cfg_attr(not(debug_assertions), expect(unused_variables))]
    pub fn ranked(rank: Rank, value: T) -> Mutex<T> {
        Mutex {
            #[cfg(debug_assertions)]
            rank,
            inner: parking_lot::Mutex::new(value),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = order::HeldLock::take(self.rank);
        MutexGuard {
            inner: self.inner.lock(),
            #[cfg(debug_assertions)]
            held,
        }
    }
}

/// A guard that holds a [`Mutex`].
pub struct MutexGuard<'m, T> {
    inner: parking_lot::MutexGuard<'m, T>,
    #[cfg(debug_assertions)]
    held: order::HeldLock,
}

impl<T> MutexGuard<'_, T> {
    /// Releases the mutex while `action` runs.
    pub fn unlocked<U>(guard: &mut Self, action: impl FnOnce() -> U) -> U {
        #[cfg(debug_assertions)]
        let _released = guard.held.release();
        parking_lot::MutexGuard::unlocked(&mut guard.inner, action)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A condition variable for [`Mutex`].
#[derive(Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Releases the mutex and waits for a notification.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.0.wait(&mut guard.inner);
    }

    /// Like [`Condvar::wait`], but gives up at `until`.
    pub fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Instant,
    ) -> parking_lot::WaitTimeoutResult {
        self.0.wait_until(&mut guard.inner, until)
    }
}

/// Asserts that this thread may read from a socket or write to one: it must hold only that
/// connection's locks, so that no other client has to wait for the call.
#[inline]
pub(crate) fn assert_free_for_io() {
    #[cfg(debug_assertions)]
    order::assert_free_for_io();
}

#[cfg(debug_assertions)]
mod order {
    use std::cell::{Cell, RefCell};
    use std::io::Write as _;

    use super::Rank;

    thread_local! {
        /// The locks that this thread holds, in the order in which it took them.
        static HELD: RefCell<Vec<(u64, Rank)>> = const { RefCell::new(Vec::new()) };
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }

    /// One lock that this thread holds. A thread may release its locks in any order.
    #[derive(Debug)]
    pub(super) struct HeldLock {
        number: u64,
        rank: Rank,
    }

    impl HeldLock {
        pub(super) fn take(rank: Rank) -> HeldLock {
            HELD.with_borrow(|held| {
                if let Err(sentence) = may_take(held.iter().map(|(_, rank)| *rank), rank) {
                    give_up(&sentence);
                }
            });
            HeldLock::push(rank)
        }

        fn push(rank: Rank) -> HeldLock {
            let number = NEXT.replace(NEXT.get() + 1);
            HELD.with_borrow_mut(|held| held.push((number, rank)));
            HeldLock { number, rank }
        }

        /// Marks the lock as released for the lifetime of the result.
        pub(super) fn release(&mut self) -> Released<'_> {
            self.pop();
            Released(self)
        }

        fn pop(&self) {
            HELD.with_borrow_mut(|held| held.retain(|(number, _)| *number != self.number));
        }
    }

    impl Drop for HeldLock {
        fn drop(&mut self) {
            self.pop();
        }
    }

    pub(super) struct Released<'h>(&'h mut HeldLock);

    impl Drop for Released<'_> {
        fn drop(&mut self) {
            self.0.number = HeldLock::push(self.0.rank).forget();
        }
    }

    impl HeldLock {
        fn forget(self) -> u64 {
            let number = self.number;
            std::mem::forget(self);
            number
        }
    }

    /// Checks whether a thread that holds `held` may take a lock of this rank.
    pub(super) fn may_take(held: impl Iterator<Item = Rank>, rank: Rank) -> Result<(), String> {
        match held.max() {
            Some(highest) if highest >= rank => Err(format!(
                "lock order violated: {rank:?} taken while {highest:?} is held"
            )),
            _ => Ok(()),
        }
    }

    /// Checks whether a thread that holds `held` may read from a socket or write to one.
    pub(super) fn may_do_io(mut held: impl Iterator<Item = Rank>) -> Result<(), String> {
        let shared = held.find(|rank| !matches!(rank, Rank::Outbox | Rank::Tls | Rank::ReserveFd));
        shared.map_or(Ok(()), |rank| {
            Err(format!("socket used while a lock of rank {rank:?} is held"))
        })
    }

    pub(super) fn assert_free_for_io() {
        HELD.with_borrow(|held| {
            if let Err(sentence) = may_do_io(held.iter().map(|(_, rank)| *rank)) {
                give_up(&sentence);
            }
        });
    }

    fn give_up(sentence: &str) -> ! {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        let trace = std::backtrace::Backtrace::force_capture();
        let _ = writeln!(std::io::stderr(), "{sentence} (thread {name})\n{trace}");
        std::process::abort()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::order::{may_do_io, may_take};
    use super::*;

    #[test]
    fn a_lock_is_taken_only_under_those_of_lower_rank() {
        let may = |held: &[Rank], rank| may_take(held.iter().copied(), rank).is_ok();
        assert!(may(&[], Rank::Registry));
        assert!(may(&[Rank::Registry], Rank::Outbox));
        assert!(may(&[Rank::Registry, Rank::Outbox], Rank::Tls));
        assert!(!may(&[Rank::Registry], Rank::Registry));
        assert!(!may(&[Rank::Outbox], Rank::Registry));
        assert!(!may(&[Rank::Leaf], Rank::Leaf));
        assert!(!may(&[Rank::Registry, Rank::Leaf], Rank::Outbox));
    }

    #[test]
    fn sockets_are_used_only_under_locks_of_one_connection() {
        let may = |held: &[Rank]| may_do_io(held.iter().copied()).is_ok();
        assert!(may(&[]));
        assert!(may(&[Rank::Outbox, Rank::Tls]));
        assert!(!may(&[Rank::Registry]));
        assert!(!may(&[Rank::Registry, Rank::Outbox]));
        assert!(!may(&[Rank::Leaf]));
    }

    #[test]
    fn a_released_lock_does_not_count() {
        let outer = Mutex::ranked(Rank::Outbox, 1);
        let inner = Mutex::ranked(Rank::Registry, 2);
        let mut guard = outer.lock();
        let both = MutexGuard::unlocked(&mut guard, || *inner.lock());
        assert_eq!(both + *guard, 3);
        drop(guard);
        // Locks may be released in any order.
        let (first, second) = (Mutex::ranked(Rank::Registry, ()), Mutex::new(()));
        let first_guard = first.lock();
        let second_guard = second.lock();
        drop(first_guard);
        drop(second_guard);
        assert_free_for_io();
        drop(first.lock());
    }
}
