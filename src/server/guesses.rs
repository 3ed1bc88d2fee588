//! A growing pause for who guesses passwords.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::clock::Tick;
use crate::hall::Name;

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
pub(super) struct Guesses {
    /// A leaf lock.
    wrong: Mutex<HashMap<(IpAddr, String), Wrong>>,
}

struct Wrong {
    count: u32,
    last: Tick,
}

impl Guesses {
    /// How many ticks the next password from there has to wait before it is looked at.
    pub(super) fn pause(&self, address: IpAddr, name: &Name, now: Tick) -> u64 {
        let key = (address.to_canonical(), name.key());
        match self.wrong.lock().get(&key) {
            Some(wrong) if now.0 < wrong.last.0.saturating_add(FORGOTTEN) => {
                let over = wrong.count.saturating_sub(SLIPS);
                if wrong.count < SLIPS {
                    0
                } else {
                    (1_u64 << over.min(16)).min(LONGEST)
                }
            }
            _ => 0,
        }
    }

    /// A password was wrong.
    pub(super) fn wrong(&self, address: IpAddr, name: &Name, now: Tick) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MOST {
            let mut ages: Vec<u64> = wrong.values().map(|wrong| wrong.last.0).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            wrong.retain(|_, wrong| wrong.last.0 > middle);
        }
        let key = (address.to_canonical(), name.key());
        let entry = wrong.entry(key).or_insert(Wrong {
            count: 0,
            last: now,
        });
        if now.0 >= entry.last.0.saturating_add(FORGOTTEN) {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    /// A password was right.
    pub(super) fn right(&self, address: IpAddr, name: &Name) {
        let key = (address.to_canonical(), name.key());
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
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pauses.push(guesses.pause(here, &alice, Tick(5)));
            guesses.wrong(here, &alice, Tick(5));
        }
        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 30]);
        assert_eq!(guesses.pause(here, &bob, Tick(5)), 0);
        assert_eq!(guesses.pause(there, &alice, Tick(5)), 0);
        assert_eq!(guesses.pause(here, &alice, Tick(604)), 30);
        assert_eq!(guesses.pause(here, &alice, Tick(605)), 0);
        guesses.right(here, &alice);
        assert_eq!(guesses.pause(here, &alice, Tick(5)), 0);
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
