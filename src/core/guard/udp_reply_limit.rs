//! Which datagrams the UDP portal answers.
//!
//! The sender of a datagram can be forged, and whoever is named there gets the answer. So that
//! nobody can aim this portal at somebody else with profit, an answer is never longer than what was
//! asked with (but to the original programs, which ask briefly), and few go to an address from
//! which nobody comes. What a forger can still do, is to have a few seats reserved for others, for
//! as long as a reservation stands.

use std::net::IpAddr;

use super::per_address_limit::PerAddressLimit;
use crate::clock::Tick;
use portal_net::Port;
use portal_wire::{ServerDoc, server_datagram};

/// Tickets that an address may have and not have used. A whole class behind one router uses them at
/// once, and those who got no answer ask again in a moment.
const UNUSED_TICKETS: usize = 5;
/// Answers to one address within a tick that promise nothing new: FULL, and a ticket once more.
const OTHERS_A_TICK: u32 = 5;

/// What a datagram may be answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UdpReply {
    /// A ticket that its sender has already.
    Again,
    /// A new ticket, while so many that went to the same address have not been used.
    Ticket {
        /// How many.
        unused: usize,
    },
    /// That there is no seat.
    Full,
}

/// Decides for each datagram. Whoever asks from this machine itself is always answered: there is
/// nobody to be hit.
pub(crate) struct UdpReplyLimit {
    others: PerAddressLimit,
}

impl UdpReplyLimit {
    /// No datagram has been answered yet.
    pub(crate) fn new() -> UdpReplyLimit {
        UdpReplyLimit {
            others: PerAddressLimit::new(OTHERS_A_TICK),
        }
    }

    /// Whether a datagram from `address` may be answered with `answer` at `now`.
    pub(crate) fn allows(&mut self, address: IpAddr, answer: UdpReply, now: Tick) -> bool {
        match answer {
            _ if address.to_canonical().is_loopback() => true,
            UdpReply::Ticket { unused } => unused < UNUSED_TICKETS,
            UdpReply::Again | UdpReply::Full => self.others.allows(address, now),
        }
    }
}

/// The length of the longest answer, in bytes.
pub(crate) fn longest_answer() -> usize {
    let longest = ServerDoc::Ticket {
        port: Port::MAX,
        passcode: "f".repeat(32).into(),
    };
    server_datagram(&longest).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn an_address_from_which_nobody_comes_gets_few_tickets_and_one_that_uses_them_any_number() {
        let mut courtesy = UdpReplyLimit::new();
        let mut allows = |unused| courtesy.allows(STRANGER, UdpReply::Ticket { unused }, Tick(1));
        assert!((0..100).all(|_| allows(0)) && allows(4) && !allows(5));
        let here = IpAddr::from([127, 0, 0, 1]);
        assert!(courtesy.allows(here, UdpReply::Ticket { unused: 100 }, Tick(1)));
    }

    #[test]
    fn what_promises_nothing_new_is_said_a_few_times_a_tick() {
        let mut courtesy = UdpReplyLimit::new();
        let mut answered = |tick| {
            (0..100)
                .filter(|_| courtesy.allows(STRANGER, UdpReply::Full, Tick(tick)))
                .count()
        };
        assert_eq!((answered(1), answered(1), answered(2)), (5, 0, 5));
    }

    #[test]
    fn an_honest_question_is_as_long_as_any_answer() {
        assert!(portal_wire::portal_request().len() >= longest_answer());
    }
}
