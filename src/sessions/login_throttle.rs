//! Login throttling: the delay grows with each wrong password.

use std::collections::HashMap;
use std::net::IpAddr;

use portal_core::clock::Tick;
use portal_net::host_of;
use portal_net::lock::Mutex;
use portal_wire::Name;

/// Number of wrong passwords in a row that count as typos and cause no delay.
const SLIPS: u32 = 3;
/// Maximum delay after one wrong password, and maximum total wait, in ticks.
const LONGEST: u64 = 30;
/// Number of ticks without a wrong password after which the earlier ones are forgotten.
const FORGOTTEN: u64 = 600;
/// Maximum number of entries of each kind. When it is reached, the older half is dropped.
const MOST: usize = 10_000;

/// Records of wrong and correct passwords, by the client's address and the name. (By address alone,
/// a class behind one router would wait for its slowest typist. By name alone, any client could
/// lock the name's owner out.)
#[derive(Default)]
pub struct LoginThrottle {
    /// Guarded by a leaf lock.
    known: Mutex<PasswordRecord>,
}

#[derive(Default)]
struct PasswordRecord {
    wrong: HashMap<Key, Wrong>,
    /// The tick of the last correct password.
    right: HashMap<Key, Tick>,
}

type Key = (IpAddr, String);

struct Wrong {
    count: u32,
    last: Tick,
    /// The last slot that was assigned.
    slot: Tick,
}

impl Wrong {
    fn is_forgotten(&self, now: Tick) -> bool {
        now.0 >= self.last.0.saturating_add(FORGOTTEN)
    }
}

/// The time at which a password may be checked. A slot that is returned unused
/// ([`LoginThrottle::give_back`]) is assigned to the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// The first tick at which it may be checked.
    pub at: Tick,
    pause: u64,
}

impl LoginThrottle {
    /// Assigns the next slot for an attempt from `address` at the password of `name`. It is `now`,
    /// or, after wrong guesses, up to `LONGEST` ticks later. Concurrent attempts over several
    /// connections get consecutive slots within that time.
    pub(crate) fn slot(&self, address: IpAddr, name: &Name, now: Tick) -> Slot {
        let mut known = self.known.lock();
        match known.wrong.get_mut(&key(address, name)) {
            Some(wrong) if wrong.count >= SLIPS && !wrong.is_forgotten(now) => {
                let pause = (1_u64 << (wrong.count - SLIPS).min(16)).min(LONGEST);
                let next = now.0.max(wrong.slot.0) + pause;
                wrong.slot = Tick(next.min(now.0 + LONGEST));
                Slot {
                    at: wrong.slot,
                    pause,
                }
            }
            _ => Slot { at: now, pause: 0 },
        }
    }

    /// Takes back the slot of a client that disconnected without using it.
    pub(crate) fn give_back(&self, address: IpAddr, name: &Name, slot: Slot) {
        let mut known = self.known.lock();
        if let Some(wrong) = known.wrong.get_mut(&key(address, name))
            && wrong.slot == slot.at
        {
            wrong.slot = Tick(slot.at.0.saturating_sub(slot.pause));
        }
    }

    /// Returns whether `address` has sent the correct password for `name` before. If so, a password
    /// is checked before the wait, and only a wrong one waits.
    pub(crate) fn was_right(&self, address: IpAddr, name: &Name) -> bool {
        self.known.lock().right.contains_key(&key(address, name))
    }

    /// Records a wrong password.
    pub fn wrong(&self, address: IpAddr, name: &Name, now: Tick) {
        let mut known = self.known.lock();
        forget_the_oldest(&mut known.wrong, |wrong| wrong.last);
        let entry = known.wrong.entry(key(address, name)).or_insert(Wrong {
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

    /// Records a correct password.
    pub fn right(&self, address: IpAddr, name: &Name, now: Tick) {
        let mut known = self.known.lock();
        known.wrong.remove(&key(address, name));
        forget_the_oldest(&mut known.right, |&at| at);
        known.right.insert(key(address, name), now);
    }
}

fn key(address: IpAddr, name: &Name) -> Key {
    (host_of(address), name.key())
}

/// Drops the older half of a full map.
fn forget_the_oldest<V>(map: &mut HashMap<Key, V>, at: impl Fn(&V) -> Tick) {
    if map.len() >= MOST {
        let mut ages: Vec<u64> = map.values().map(|value| at(value).0).collect();
        ages.sort_unstable();
        let middle = ages[ages.len() / 2];
        map.retain(|_, value| at(value).0 > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn the_delay_grows_per_name_and_address_and_expires() {
        let guesses = LoginThrottle::default();
        let (alice, bob) = (name("alice"), name("bob"));
        let (mut pauses, mut now) = (Vec::new(), Tick(5));
        for _ in 0..9 {
            let slot = guesses.slot(HERE, &alice, now).at;
            pauses.push(slot.0 - now.0);
            now = slot;
            guesses.wrong(HERE, &alice, now);
        }
        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 30]);
        assert_eq!(guesses.slot(HERE, &bob, now).at, now);
        assert_eq!(guesses.slot(THERE, &alice, now).at, now);
        let later = Tick(now.0 + FORGOTTEN);
        assert_eq!(guesses.slot(HERE, &alice, later).at, later);
        guesses.right(HERE, &alice, now);
        assert_eq!(guesses.slot(HERE, &alice, now).at, now);
    }

    #[test]
    fn concurrent_attempts_queue_for_at_most_thirty_ticks() {
        let (guesses, alice, now) = (LoginThrottle::default(), name("alice"), Tick(5));
        for _ in 0..SLIPS + 3 {
            guesses.wrong(HERE, &alice, now);
        }
        let waits = |now| guesses.slot(HERE, &alice, now).at.0 - now.0;
        assert_eq!([(); 6].map(|()| waits(now)), [8, 16, 24, 30, 30, 30]);
        assert!((0..1000).all(|_| waits(now) == 30));
        assert_eq!(waits(Tick(100)), 8, "the earlier attempts no longer count");
    }

    #[test]
    fn a_returned_slot_goes_to_the_next_attempt() {
        let (guesses, alice, now) = (LoginThrottle::default(), name("alice"), Tick(5));
        for _ in 0..SLIPS + 3 {
            guesses.wrong(HERE, &alice, now);
        }
        for _ in 0..100 {
            let slot = guesses.slot(HERE, &alice, now);
            assert_eq!(slot.at, Tick(13));
            guesses.give_back(HERE, &alice, slot);
        }
    }

    #[test]
    fn addresses_with_a_correct_password_are_remembered() {
        let (guesses, alice) = (LoginThrottle::default(), name("alice"));
        assert!(!guesses.was_right(HERE, &alice));
        guesses.right(HERE, &alice, Tick(1));
        assert!(guesses.was_right(HERE, &alice) && !guesses.was_right(THERE, &alice));
        assert!(!guesses.was_right(HERE, &name("bob")));
    }

    #[test]
    fn the_number_of_records_is_bounded() {
        let guesses = LoginThrottle::default();
        for number in 0..MOST * 3 {
            let name = name(&format!("n{number}"));
            guesses.wrong(HERE, &name, Tick(number as u64));
            guesses.right(THERE, &name, Tick(number as u64));
        }
        let known = guesses.known.lock();
        assert!(known.wrong.len() <= MOST && known.right.len() <= MOST);
    }
}
