//! A limit on the rate of one client's documents (`--rate`): a burst, and then a number per second.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use portal_core::clock::Tick;

/// The value of `--rate BURST/PER_SECOND`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Number of documents that may arrive in one burst.
    pub burst: NonZeroU32,
    /// Number of further documents per second.
    pub per_second: NonZeroU32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.burst, self.per_second)
    }
}

impl Rate {
    /// Creates one client's allowance of documents, for ticks of length `tick`.
    pub(crate) fn allowance(self, tick: Duration, now: Tick) -> TokenBucket {
        let millis = i64::try_from(tick.as_millis()).unwrap_or(i64::MAX);
        let per_tick = i64::from(self.per_second.get()).saturating_mul(millis) / 1000;
        TokenBucket::new(i64::from(self.burst.get()), per_tick.max(1), now)
    }
}

/// An allowance that grows at each tick, up to a burst.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    most: i64,
    per_tick: i64,
    /// Negative if the last charge exceeded the remaining tokens.
    left: i64,
    at: Tick,
}

impl TokenBucket {
    /// Creates a full bucket.
    pub(crate) fn new(burst: i64, per_tick: i64, now: Tick) -> TokenBucket {
        TokenBucket {
            most: burst.max(per_tick),
            per_tick,
            left: burst,
            at: now,
        }
    }

    /// Returns whether any token is left at `now`.
    pub(crate) fn has_tokens(&mut self, now: Tick) -> bool {
        let ticks = i64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(i64::MAX);
        self.at = now;
        self.earn(ticks.saturating_mul(self.per_tick));
        self.left > 0
    }

    /// Adds tokens, up to the burst.
    pub(crate) fn earn(&mut self, tokens: i64) {
        self.left = self.left.saturating_add(tokens).min(self.most);
    }

    /// Takes tokens, even more than are left.
    pub(crate) fn spend(&mut self, tokens: i64) {
        self.left = self.left.saturating_sub(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(burst: u32, per_second: u32, tick: u64) -> TokenBucket {
        let rate = Rate {
            burst: NonZeroU32::new(burst).unwrap(),
            per_second: NonZeroU32::new(per_second).unwrap(),
        };
        rate.allowance(Duration::from_secs(tick), Tick(0))
    }

    fn taken(bucket: &mut TokenBucket, now: u64) -> usize {
        let take = |_: &i32| {
            let may = bucket.has_tokens(Tick(now));
            bucket.spend(i64::from(may));
            may
        };
        (0..1000).take_while(take).count()
    }

    #[test]
    fn an_overdraft_is_repaid_by_later_ticks() {
        let mut bucket = TokenBucket::new(100, 10, Tick(0));
        bucket.spend(125);
        assert!(!bucket.has_tokens(Tick(2)));
        assert!(bucket.has_tokens(Tick(3)));
        bucket.earn(1000);
        bucket.spend(100);
        assert!(
            !bucket.has_tokens(Tick(3)),
            "no more than the burst accumulates"
        );
    }

    #[test]
    fn a_burst_and_then_a_fixed_number_per_tick() {
        let mut pace = pace(5, 2, 1);
        assert_eq!(taken(&mut pace, 0), 5);
        assert_eq!(taken(&mut pace, 1), 2);
        assert_eq!(taken(&mut pace, 2), 2);
        assert_eq!(taken(&mut pace, 100), 5, "no more than a burst accumulates");
        let mut slow = self::pace(1, 3, 2);
        assert_eq!((taken(&mut slow, 0), taken(&mut slow, 1)), (1, 6));
    }
}
