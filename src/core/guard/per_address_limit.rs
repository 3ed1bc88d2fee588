//! A limit per client address and tick.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::clock::Tick;
use portal_net::host_of;

/// Maximum number of addresses that are counted within a tick. Further addresses are rejected until
/// the next tick.
const ADDRESSES: usize = 4096;

/// A count per address, reset at each tick.
pub struct PerAddressLimit {
    most: u32,
    tick: Tick,
    counts: HashMap<IpAddr, u32>,
}

impl PerAddressLimit {
    /// Creates a limit of `most` per address and tick.
    pub fn new(most: u32) -> PerAddressLimit {
        PerAddressLimit {
            most,
            tick: Tick(0),
            counts: HashMap::new(),
        }
    }

    /// Counts one more use by `address` at `now`. Returns false if that exceeds the limit.
    pub fn allows(&mut self, address: IpAddr, now: Tick) -> bool {
        let address = host_of(address);
        if self.tick != now {
            self.tick = now;
            self.counts.clear();
        }
        if self.counts.len() >= ADDRESSES && !self.counts.contains_key(&address) {
            return false;
        }
        let count = self.counts.entry(address).or_default();
        *count += 1;
        *count <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_limited_per_tick() {
        let mut answers = PerAddressLimit::new(5);
        let mut answered = |last: u8, tick| {
            (0..100)
                .filter(|_| answers.allows(IpAddr::from([192, 0, 2, last]), Tick(tick)))
                .count()
        };
        assert_eq!((answered(7, 1), answered(8, 1), answered(7, 1)), (5, 5, 0));
        assert_eq!(answered(7, 2), 5);
    }

    #[test]
    fn a_flood_of_addresses_does_not_fill_the_memory() {
        let mut answers = PerAddressLimit::new(1);
        for number in 0..100_000_u32 {
            answers.allows(IpAddr::from((0xc000_0000 + number).to_be_bytes()), Tick(1));
        }
        assert_eq!(answers.counts.len(), ADDRESSES);
    }
}
