//! A bell: how a thread that sleeps for several reasons is woken for each of them.
//!
//! A worker's timekeeper waits for ticks and for work at once. `crossbeam_channel::select!` could do
//! that, but a thread that is about to sleep in it first yields the processor a few times, in case
//! something comes: with fifty people talking, that was 1.7 million `sched_yield` for 0.77 million
//! writes. A thread that waits for a bell sleeps at once, and looks into its channel of ticks when it
//! wakes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

/// One thread sleeps by it, any thread may ring it. Clones are the same bell.
#[derive(Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rung: AtomicBool,
    /// Set before `rung` is looked at for the first time, so that whoever rings after that look
    /// finds it: both swap the same flag, and a swap sees all that came before the last one.
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// A bell that nobody has rung yet.
    pub fn new() -> Bell {
        Bell::default()
    }

    /// Wakes the thread that sleeps by it, or the one that is about to. Never waits. Ringing twice
    /// before that thread looks is ringing once.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel)
            && let Some(sleeper) = self.0.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until it is rung, if it has not been since the last time. Always called by the same
    /// thread: another one would not be woken.
    pub fn wait(&self) {
        self.0.sleeper.get_or_init(thread::current);
        while !self.was_rung() {
            thread::park();
        }
    }

    /// Whether it has been rung since this was last asked, or waited for.
    pub fn was_rung(&self) -> bool {
        self.0.rung.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn ringing_twice_is_ringing_once() {
        let bell = Bell::new();
        bell.ring();
        bell.ring();
        bell.wait();
        assert!(!bell.was_rung());
    }

    /// Whoever has something says so after putting it there, and the sleeper looks after waking: so
    /// nothing is left lying, however the two meet.
    #[test]
    fn no_ring_is_missed() {
        const COUNT: u64 = 100_000;
        let (bell, put, taken) = (Bell::new(), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|threads| {
            threads.spawn(|| {
                while taken.load(Ordering::Acquire) < COUNT {
                    bell.wait();
                    taken.store(put.load(Ordering::Acquire), Ordering::Release);
                }
            });
            for number in 1..=COUNT {
                put.store(number, Ordering::Release);
                bell.ring();
                while number % 100 == 0 && taken.load(Ordering::Acquire) < number {
                    thread::yield_now();
                }
            }
        });
    }
}
