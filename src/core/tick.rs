//! The server's time in whole ticks: points in time, durations and deadlines. It reads no clock.

use std::time::Duration;

/// A point in time: the number of ticks since the clock's start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Tick(pub u64);

/// A duration in whole ticks, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticks(u64);

impl Ticks {
    /// The number of ticks.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number of ticks that `duration` takes, rounded up, for a clock that ticks every
    /// `period`. A duration of zero takes one tick, because a deadline must be in the future.
    pub fn covering(duration: Duration, period: Duration) -> Ticks {
        let ticks = duration.as_nanos().div_ceil(period.as_nanos().max(1));
        Ticks(u64::try_from(ticks).unwrap_or(u64::MAX / 2).max(1))
    }
}

/// The last tick before a timeout. The deadline is past from the next tick on, so a timeout of `d`
/// fires between `d` and `d` plus one tick, never earlier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Deadline(Tick);

impl Deadline {
    /// The deadline that is past from the tick after `tick` on.
    pub fn at(tick: Tick) -> Deadline {
        Deadline(tick)
    }

    /// The deadline for an operation that may take `ticks` from `now` on.
    pub fn after(now: Tick, ticks: Ticks) -> Deadline {
        Deadline(Tick(now.0.saturating_add(ticks.0)))
    }

    /// The deadline that fires `ticks` before this one.
    pub(crate) fn earlier_by(self, ticks: Ticks) -> Deadline {
        Deadline(Tick((self.0).0.saturating_sub(ticks.0)))
    }

    /// Returns whether the deadline is past at `now`.
    pub fn is_past(self, now: Tick) -> bool {
        now > self.0
    }

    /// The first tick that is past the deadline.
    pub(crate) fn fires_at(self) -> Tick {
        Tick((self.0).0.saturating_add(1))
    }

    /// The number of ticks from `now` until the deadline fires; 0 if it is past.
    pub fn left(self, now: Tick) -> u64 {
        self.fires_at().0.saturating_sub(now.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_duration_is_rounded_up_to_ticks() {
        assert_eq!(Ticks::covering(SECOND * 2, SECOND), Ticks(2));
        assert_eq!(Ticks::covering(SECOND * 3, SECOND * 2), Ticks(2));
        assert_eq!(Ticks::covering(Duration::ZERO, SECOND), Ticks(1));
        assert_eq!(Ticks::covering(SECOND * 7, SECOND * 2).get(), 4);
        let longest = Ticks::covering(Duration::MAX, Duration::from_nanos(1));
        assert_eq!(
            longest.get(),
            u64::MAX / 2,
            "the sum of two such is in range"
        );
    }

    #[test]
    fn a_deadline_fires_between_its_duration_and_one_tick_more() {
        let deadline = Deadline::after(Tick(10), Ticks(2));
        assert!(!deadline.is_past(Tick(12)));
        assert!(deadline.is_past(Tick(13)));
        assert_eq!(deadline.fires_at(), Tick(13));
        assert_eq!((deadline.left(Tick(10)), deadline.left(Tick(14))), (3, 0));
    }
}
