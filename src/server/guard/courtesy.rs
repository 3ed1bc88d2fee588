//! Which datagrams the UDP portal answers.
//!
//! The sender of a datagram can be forged, and whoever is named there gets the answer. So that
//! nobody can aim this portal at somebody else with profit, an answer is never longer than what was
//! asked with, and one address gets few of them. What a forger can still do, is to have seats
//! reserved for others, for as long as a reservation stands.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::clock::Tick;
use crate::net::{Port, host_of};
use crate::wire::{ServerDoc, server_datagram};

/// Answers to one address within a tick. A whole class behind one router asks again in a moment.
const ANSWERS_A_TICK: u32 = 5;
/// More addresses than these are not told apart within a tick.
const ADDRESSES: usize = 4096;

/// Decides for each datagram. Whoever asks from this machine itself is always answered: there is
/// nobody to be hit.
pub(crate) struct Courtesy {
    longest_answer: usize,
    tick: Tick,
    answered: HashMap<IpAddr, u32>,
}

impl Courtesy {
    pub(crate) fn new() -> Courtesy {
        let longest = ServerDoc::Ticket {
            port: Port::MAX,
            passcode: "f".repeat(32).into(),
        };
        Courtesy {
            longest_answer: server_datagram(&longest).len(),
            tick: Tick(0),
            answered: HashMap::new(),
        }
    }

    /// Whether a datagram of `length` bytes from `address` is worth an answer at `now`.
    pub(crate) fn allows(&mut self, address: IpAddr, length: usize, now: Tick) -> bool {
        let address = host_of(address);
        if address.is_loopback() {
            return true;
        }
        if length < self.longest_answer {
            return false;
        }
        if self.tick != now {
            self.tick = now;
            self.answered.clear();
        }
        if self.answered.len() >= ADDRESSES && !self.answered.contains_key(&address) {
            return false;
        }
        let answers = self.answered.entry(address).or_default();
        *answers += 1;
        *answers <= ANSWERS_A_TICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::portal_request;

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn nobody_gets_more_than_was_sent_in_their_name() {
        let mut courtesy = Courtesy::new();
        let honest = portal_request().len();
        assert!(courtesy.allows(STRANGER, honest, Tick(0)));
        assert!(!courtesy.allows(STRANGER, 40, Tick(0)));
        assert!(courtesy.allows(IpAddr::from([127, 0, 0, 1]), 0, Tick(0)));
    }

    #[test]
    fn one_address_gets_a_few_answers_a_tick() {
        let mut courtesy = Courtesy::new();
        let answers = |courtesy: &mut Courtesy, address: IpAddr, tick| {
            (0..100)
                .filter(|_| courtesy.allows(address, 200, Tick(tick)))
                .count()
        };
        assert_eq!(answers(&mut courtesy, STRANGER, 1), 5);
        assert_eq!(answers(&mut courtesy, IpAddr::from([192, 0, 2, 8]), 1), 5);
        assert_eq!(answers(&mut courtesy, STRANGER, 1), 0);
        assert_eq!(answers(&mut courtesy, STRANGER, 2), 5);
    }

    #[test]
    fn a_flood_of_addresses_does_not_fill_the_memory() {
        let mut courtesy = Courtesy::new();
        for number in 0..100_000_u32 {
            courtesy.allows(
                IpAddr::from((0xc000_0000 + number).to_be_bytes()),
                200,
                Tick(1),
            );
        }
        assert_eq!(courtesy.answered.len(), ADDRESSES);
    }
}
