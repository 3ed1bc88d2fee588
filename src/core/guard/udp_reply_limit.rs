//! Decides which datagrams the UDP portal answers.
//!
//! The source address of a datagram can be forged, and the victim at that address receives the
//! answer. To make the portal useless for amplification, an answer is never longer than the
//! request, except for the original programs, which send short requests. An address that does not
//! use its tickets gets few answers. A forger can still reserve a few seats in the name of other
//! addresses, for the duration of a reservation.

use std::net::IpAddr;

use super::per_address_limit::PerAddressLimit;
use crate::clock::Tick;
use portal_net::Port;
use portal_wire::{ServerDoc, server_datagram};

/// Limit on the unused tickets of one address. A whole class behind one router uses its tickets
/// immediately, and clients that receive no answer will soon ask again.
const UNUSED_TICKETS: usize = 5;
/// Limit per address and tick on answers that issue no new ticket: FULL, and a repeated ticket.
const OTHERS_A_TICK: u32 = 5;

/// An answer to a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UdpReply {
    /// A ticket that the sender already has.
    Again,
    /// A new ticket.
    Ticket {
        /// Number of tickets that the same address has not used yet.
        unused: usize,
    },
    /// There is no free seat.
    Full,
}

/// Decides for each datagram. A request from this machine itself is always answered, because the
/// answer can't be aimed at another machine.
pub(crate) struct UdpReplyLimit {
    others: PerAddressLimit,
}

impl UdpReplyLimit {
    pub(crate) fn new() -> UdpReplyLimit {
        UdpReplyLimit {
            others: PerAddressLimit::new(OTHERS_A_TICK),
        }
    }

    /// Returns whether a datagram from `address` may be answered with `answer` at `now`.
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
    fn unused_tickets_are_limited_per_address_and_used_ones_are_not() {
        let mut courtesy = UdpReplyLimit::new();
        let mut allows = |unused| courtesy.allows(STRANGER, UdpReply::Ticket { unused }, Tick(1));
        assert!((0..100).all(|_| allows(0)) && allows(4) && !allows(5));
        let here = IpAddr::from([127, 0, 0, 1]);
        assert!(courtesy.allows(here, UdpReply::Ticket { unused: 100 }, Tick(1)));
    }

    #[test]
    fn answers_without_a_new_ticket_are_limited_per_tick() {
        let mut courtesy = UdpReplyLimit::new();
        let mut answered = |tick| {
            (0..100)
                .filter(|_| courtesy.allows(STRANGER, UdpReply::Full, Tick(tick)))
                .count()
        };
        assert_eq!((answered(1), answered(1), answered(2)), (5, 0, 5));
    }

    #[test]
    fn a_regular_request_is_as_long_as_any_answer() {
        assert!(portal_wire::portal_request().len() >= longest_answer());
    }
}
