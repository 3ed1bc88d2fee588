//! A growing pause for who guesses passwords.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::clock::Tick;
use crate::hall::Name;
use crate::net::host_of;

/// So many wrong passwords in a row are taken for slips of the finger.
const SLIPS: u32 = 3;
/// The longest pause, in ticks.
const LONGEST: u64 = 30;
/// After so many ticks without a guess, an address is a stranger again.
const FORGOTTEN: u64 = 600;
/// More are not kept: the oldest are forgotten first.
const MOST: usize = 10_000;

/// Wrong passwords, by the address that they came from and the name that they were for. (By the
/// address alone, a class behind one router would wait for its clumsiest pupil; by the name alone,
/// anybody could lock its owner out.)
#[derive(Default)]
pub(crate) struct Guesses {
    /// A leaf lock.
    wrong: Mutex<HashMap<(IpAddr, String), Wrong>>,
}

struct Wrong {
    count: u32,
    last: Tick,
    /// The last slot that was given out.
    slot: Tick,
}

impl Wrong {
    fn is_forgotten(&self, now: Tick) -> bool {
        now.0 >= self.last.0.max(self.slot.0).saturating_add(FORGOTTEN)
    }
}

impl Guesses {
    /// The tick at which a password from there is looked at: `now`, or later for who has guessed
    /// before. Those who come at once, over several connections, get one slot after the other.
    pub(crate) fn slot(&self, address: IpAddr, name: &Name, now: Tick) -> Tick {
        let mut wrong = self.wrong.lock();
        match wrong.get_mut(&(host_of(address), name.key())) {
            Some(wrong) if wrong.count >= SLIPS && !wrong.is_forgotten(now) => {
                let pause = (1_u64 << (wrong.count - SLIPS).min(16)).min(LONGEST);
                let slot = Tick(now.0.max(wrong.slot.0) + pause);
                wrong.slot = slot;
                slot
            }
            _ => now,
        }
    }

    /// A password was wrong.
    pub(crate) fn wrong(&self, address: IpAddr, name: &Name, now: Tick) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MOST {
            let mut ages: Vec<u64> = wrong.values().map(|wrong| wrong.last.0).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            wrong.retain(|_, wrong| wrong.last.0 > middle);
        }
        let key = (host_of(address), name.key());
        let entry = wrong.entry(key).or_insert(Wrong {
            count: 0,
            last: now,
            slot: now,
        });
        if entry.is_forgotten(now) {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    /// A password was right.
    pub(crate) fn right(&self, address: IpAddr, name: &Name) {
        let key = (host_of(address), name.key());
        self.wrong.lock().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_for_one_name_from_one_address_and_is_forgotten() {
        let guesses = Guesses::default();
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let (alice, bob) = (Name::new("alice").unwrap(), Name::new("bob").unwrap());
        let (mut pauses, mut now) = (Vec::new(), Tick(5));
        for _ in 0..9 {
            let slot = guesses.slot(here, &alice, now);
            pauses.push(slot.0 - now.0);
            now = slot;
            guesses.wrong(here, &alice, now);
        }
        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 30]);
        assert_eq!(guesses.slot(here, &bob, now), now);
        assert_eq!(guesses.slot(there, &alice, now), now);
        // Whoever comes over two connections at once waits twice as long on the second.
        let slots = [(); 2].map(|()| guesses.slot(here, &alice, now).0 - now.0);
        assert_eq!(slots, [30, 60]);
        let later = Tick(now.0 + 60 + FORGOTTEN);
        assert_eq!(guesses.slot(here, &alice, later), later);
        guesses.right(here, &alice);
        assert_eq!(guesses.slot(here, &alice, now), now);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let guesses = Guesses::default();
        for number in 0..MOST * 3 {
            let name = Name::new(&format!("n{number}")).unwrap();
            guesses.wrong(IpAddr::from([127, 0, 0, 1]), &name, Tick(number as u64));
        }
        assert!(guesses.wrong.lock().len() <= MOST);
    }
}
