//! Which datagrams the UDP portal answers.
//!
//! The sender of a datagram can be forged, and whoever is named there gets the answer. So that
//! nobody can aim this portal at somebody else with profit, an answer is never longer than what was
//! asked with, and one address gets few of them. What a forger can still do, is to have seats
//! reserved for others, for as long as a reservation stands.

use std::net::IpAddr;

use super::per_tick::PerTick;
use crate::clock::Tick;
use crate::net::Port;
use crate::wire::{ServerDoc, server_datagram};

/// Answers to one address within a tick. A whole class behind one router asks again in a moment.
const ANSWERS_A_TICK: u32 = 5;

/// Decides for each datagram. Whoever asks from this machine itself is always answered: there is
/// nobody to be hit.
pub(crate) struct Courtesy {
    longest_answer: usize,
    answers: PerTick,
}

impl Courtesy {
    pub(crate) fn new() -> Courtesy {
        let longest = ServerDoc::Ticket {
            port: Port::MAX,
            passcode: "f".repeat(32).into(),
        };
        Courtesy {
            longest_answer: server_datagram(&longest).len(),
            answers: PerTick::new(ANSWERS_A_TICK),
        }
    }

    /// Whether a datagram of `length` bytes from `address` is worth an answer at `now`.
    pub(crate) fn allows(&mut self, address: IpAddr, length: usize, now: Tick) -> bool {
        if address.to_canonical().is_loopback() {
            return true;
        }
        length >= self.longest_answer && self.answers.allows(address, now)
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
}
