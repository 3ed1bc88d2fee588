//! The workload stack: the free ports, taken from the top (seed 000, rule 2).
//!
//! It is a stack rather than a queue because the seed specifies one. The port that was freed last
//! is taken first, so a quiet server keeps to its first ports, and a teacher sees the same ones all
//! morning.

use std::fmt;

use portal_wire::Port;

/// The number of a seat, counted from 1. Seats 1 and 2 are partners, seats 3 and 4 are partners,
/// and so on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeatNumber(u32);

impl SeatNumber {
    /// Returns the number of the seat at `index`, counted from 0.
    pub fn from_index(index: usize) -> SeatNumber {
        SeatNumber(u32::try_from(index + 1).unwrap_or(u32::MAX))
    }

    /// The number, counted from 1.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The index in a list of seats, counted from 0.
    pub fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The partner seat.
    pub fn partner(self) -> SeatNumber {
        let (pair, side) = self.pair_and_side();
        SeatNumber::from_index(pair * 2 + (1 - side))
    }

    /// The index of its pair, counted from 0, and its side of the pair (0 or 1).
    pub fn pair_and_side(self) -> (usize, usize) {
        (self.index() / 2, self.index() % 2)
    }
}

impl fmt::Display for SeatNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to a seat and its port. Each seat has one token, which can't be copied. The token is
/// on the stack or, while the seat is in use, in the seat. Code that pushes a port twice therefore
/// does not compile. (Only tests can clone a token: the model clones whole worlds.)
#[derive(PartialEq, Eq, Hash, Debug)]
#[cfg_attr(any(test, feature = "test-support"), derive(Clone))]
pub struct PortToken {
    seat: SeatNumber,
    port: Port,
}

impl PortToken {
    /// The seat that it is for.
    pub fn seat(&self) -> SeatNumber {
        self.seat
    }

    /// The seat's port.
    pub fn port(&self) -> Port {
        self.port
    }
}

/// The free ports. The server guards the stack with one lock, which is a leaf: no other lock is
/// taken under it.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "test-support"), derive(Clone))]
pub struct WorkloadStack {
    free: Vec<PortToken>,
}

impl WorkloadStack {
    /// Creates a stack of `ports`. Seats are numbered in port order, and the first one is taken
    /// first. Port tokens are created only here.
    pub fn new(ports: impl IntoIterator<Item = Port>) -> WorkloadStack {
        let numbered = ports.into_iter().enumerate();
        let mut free: Vec<PortToken> = numbered
            .map(|(index, port)| PortToken {
                seat: SeatNumber::from_index(index),
                port,
            })
            .collect();
        free.reverse();
        WorkloadStack { free }
    }

    /// Takes the port that was pushed last; `None` if all are in use.
    pub fn pop(&mut self) -> Option<PortToken> {
        self.free.pop()
    }

    /// Puts a port back.
    pub fn push(&mut self, token: PortToken) {
        self.free.push(token);
    }

    /// Removes and returns the ports of the seats in `missing`. Of the rest, complete pairs are
    /// taken first, then seats whose partner is missing.
    pub fn hold_back(&mut self, missing: impl Fn(SeatNumber) -> bool) -> Vec<PortToken> {
        let is_missing = |token: &mut PortToken| missing(token.seat());
        let mut held_back: Vec<PortToken> = self.free.extract_if(.., is_missing).collect();
        held_back.reverse();
        self.pairs_first(missing);
        held_back
    }

    /// Adds a held-back port, next to its partner's if that is on the stack. Seats whose partner is
    /// still `missing` are taken last.
    pub fn add(&mut self, token: PortToken, missing: impl Fn(SeatNumber) -> bool) {
        let partner = token.seat().partner();
        let beside = self.free.iter().position(|there| there.seat() == partner);
        self.free.insert(beside.unwrap_or(self.free.len()), token);
        self.pairs_first(missing);
    }

    fn pairs_first(&mut self, missing: impl Fn(SeatNumber) -> bool) {
        self.free
            .sort_by_key(|token| !missing(token.seat().partner()));
    }

    /// The free ports. The last one is taken next.
    pub fn ports(&self) -> impl ExactSizeIterator<Item = Port> {
        self.free.iter().map(PortToken::port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack_of(numbers: &[u16]) -> WorkloadStack {
        WorkloadStack::new(numbers.iter().filter_map(|&number| Port::new(number)))
    }

    #[test]
    fn the_first_port_of_a_new_stack_is_taken_first() {
        let mut stack = stack_of(&[50001, 50002, 50003]);
        let order: Vec<u16> = std::iter::from_fn(|| stack.pop())
            .map(|token| token.port().get())
            .collect();
        assert_eq!(order, [50001, 50002, 50003]);
        assert_eq!(stack.pop(), None);
    }

    #[test]
    fn the_port_freed_last_is_taken_first() {
        let mut stack = stack_of(&[50001, 50002, 50003]);
        let (first, second) = (stack.pop().unwrap(), stack.pop().unwrap());
        stack.push(first);
        stack.push(second);
        assert_eq!(stack.pop().unwrap().port().get(), 50002);
        assert_eq!(stack.pop().unwrap().port().get(), 50001);
    }

    #[test]
    fn complete_pairs_are_taken_first_while_ports_are_missing() {
        let mut stack = stack_of(&[50001, 50002, 50003, 50004, 50005, 50006, 50007, 50008]);
        let mut missing: Vec<u32> = vec![1, 6, 7, 8];
        let order = |stack: &WorkloadStack| {
            let ports = stack.ports().map(|port| port.get() - 50000);
            let mut order: Vec<u16> = ports.collect();
            order.reverse();
            order
        };
        let mut held_back = stack.hold_back(|seat| missing.contains(&seat.get()));
        assert_eq!(order(&stack), [3, 4, 2, 5]);
        let mut add = |stack: &mut WorkloadStack, number: u32| {
            missing.retain(|&there| there != number);
            let index = held_back
                .iter()
                .position(|token| token.seat().get() == number);
            stack.add(held_back.remove(index.unwrap()), |seat| {
                missing.contains(&seat.get())
            });
        };
        // A seat with a missing partner is taken last, but it is on the stack.
        add(&mut stack, 7);
        assert_eq!(order(&stack), [3, 4, 7, 2, 5]);
        add(&mut stack, 8);
        assert_eq!(order(&stack), [3, 4, 7, 8, 2, 5]);
        let mut taken = vec![stack.pop().unwrap()];
        add(&mut stack, 1);
        assert_eq!(order(&stack), [4, 7, 8, 2, 1, 5]);
        // The client in the other seat of the pair waits for a partner, so this port is taken next.
        while !stack.free.is_empty() {
            taken.extend(stack.pop());
        }
        add(&mut stack, 6);
        assert_eq!(order(&stack), [6]);
        assert!(held_back.is_empty());
    }

    #[test]
    fn adjacent_seats_are_partners() {
        let seats: Vec<_> = (0..4).map(SeatNumber::from_index).collect();
        let places: Vec<_> = seats.iter().map(|seat| seat.pair_and_side()).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(seats[2].to_string(), "3");
    }
}
