//! How fast one client may talk (`--rate`): so many at once, and then so many a second.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Tick;

/// What `--rate BURST/PER_SECOND` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many documents may come at once.
    pub burst: NonZeroU32,
    /// How many more each second.
    pub per_second: NonZeroU32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.burst, self.per_second)
    }
}

/// One client's allowance. It grows with every tick, up to the burst.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    burst: u64,
    per_tick: u64,
    left: u64,
    at: Tick,
}

impl Pace {
    /// A full allowance.
    pub(crate) fn new(rate: Rate, tick: Duration, now: Tick) -> Pace {
        let burst = u64::from(rate.burst.get());
        let per_tick = u64::from(rate.per_second.get()) * tick.as_millis() as u64 / 1000;
        Pace {
            burst,
            per_tick: per_tick.max(1),
            left: burst,
            at: now,
        }
    }

    /// Takes one document off the allowance; `false` when none is left before the next tick.
    pub(crate) fn take(&mut self, now: Tick) -> bool {
        let ticks = now.0.saturating_sub(self.at.0);
        let grown = self
            .left
            .saturating_add(ticks.saturating_mul(self.per_tick));
        self.left = grown.min(self.burst.max(self.per_tick));
        self.at = now;
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(burst: u32, per_second: u32, tick: u64) -> Pace {
        let rate = Rate {
            burst: NonZeroU32::new(burst).unwrap(),
            per_second: NonZeroU32::new(per_second).unwrap(),
        };
        Pace::new(rate, Duration::from_secs(tick), Tick(0))
    }

    fn taken(pace: &mut Pace, now: u64) -> usize {
        (0..1000).take_while(|_| pace.take(Tick(now))).count()
    }

    #[test]
    fn a_burst_and_then_so_many_a_tick() {
        let mut pace = pace(5, 2, 1);
        assert_eq!(taken(&mut pace, 0), 5);
        assert_eq!(taken(&mut pace, 1), 2);
        assert_eq!(taken(&mut pace, 2), 2);
        assert_eq!(taken(&mut pace, 100), 5, "no more than a burst is saved up");
        let mut slow = self::pace(1, 3, 2);
        assert_eq!((taken(&mut slow, 0), taken(&mut slow, 1)), (1, 6));
    }
}
