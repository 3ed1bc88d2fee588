//! How a reader that wants to see the traffic gets some of it and never slows it down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Lets so much of the traffic through and counts the rest. Whoever is at the other end opens it
/// again when it has looked at what came. Shut, it costs a message a look at one number: that is how
/// a board can be watched while a million messages go by.
#[derive(Clone)]
pub struct Shutter(Arc<Inner>);

struct Inner {
    left: AtomicU32,
    /// Whether anybody wants to know how much was missed.
    counts: AtomicBool,
    missed: OwnLine,
}

/// On a cache line of its own, so that counting does not take the other numbers away from the
/// processors that only look at them.
#[repr(align(128))]
struct OwnLine(AtomicU64);

impl Shutter {
    pub(super) fn new() -> Shutter {
        Shutter(Arc::new(Inner {
            left: AtomicU32::new(0),
            counts: AtomicBool::new(false),
            missed: OwnLine(AtomicU64::new(0)),
        }))
    }

    /// Lets the next `count` through, and no more, whatever was left. Shut (0), it does not even
    /// count.
    pub fn open_for(&self, count: u32) {
        self.0.counts.store(count > 0, Ordering::Relaxed);
        self.0.left.store(count, Ordering::Relaxed);
    }

    /// How much was not let through since this was last asked.
    pub fn take_missed(&self) -> u64 {
        self.0.missed.0.swap(0, Ordering::Relaxed)
    }

    pub(super) fn lets_through(&self) -> bool {
        let left = &self.0.left;
        // The plain look first: it does not take the line away from the other processors.
        let is_open = left.load(Ordering::Relaxed) > 0
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        if !is_open && self.0.counts.load(Ordering::Relaxed) {
            self.0.missed.0.fetch_add(1, Ordering::Relaxed);
        }
        is_open
    }
}
