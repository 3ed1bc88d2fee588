//! A limit on the traffic that one reader gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Lets a number of events through and counts the rest, until its reader opens it again. While it
/// is closed, an event costs one atomic load, so a board can be open while a million messages pass.
#[derive(Clone)]
pub struct TrafficGate(Arc<Inner>);

struct Inner {
    left: AtomicU32,
    /// Set if missed events are counted.
    counts: AtomicBool,
    missed: OwnLine,
}

/// A counter on its own cache line, so that counting does not slow down readers of the other
/// fields.
#[repr(align(128))]
struct OwnLine(AtomicU64);

impl TrafficGate {
    pub(super) fn new() -> TrafficGate {
        TrafficGate(Arc::new(Inner {
            left: AtomicU32::new(0),
            counts: AtomicBool::new(false),
            missed: OwnLine(AtomicU64::new(0)),
        }))
    }

    /// Lets the next `count` events through, regardless of the previous count. With 0, closes the
    /// gate, and missed events are not counted.
    pub fn open_for(&self, count: u32) {
        self.0.counts.store(count > 0, Ordering::Relaxed);
        self.0.left.store(count, Ordering::Relaxed);
    }

    /// Returns the number of missed events since the last call.
    pub fn take_missed(&self) -> u64 {
        self.0.missed.0.swap(0, Ordering::Relaxed)
    }

    pub(super) fn lets_through(&self) -> bool {
        let left = &self.0.left;
        // Load first: a load leaves the cache line shared.
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
