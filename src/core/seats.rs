//! The workers' seats: their state, the stack of free ports, and the number of seats per address.
//!
//! A seat's port is on the workload stack, held by a thread ([`HeldSeat`]), or with its seat.
//! Dropping a held port puts it back, even during a panic, so no port is ever lost.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::{Alarm, Deadline, Tick};
use crate::connection::Connection;
use crate::event::{CoreEvent, Events, Place};
use crate::guard::keepalive::Keepalive;
use crate::notify::Notifier;
use crate::seat::{
    Asker, Passcode, PasscodeKind, PortToken, Seat, SeatNumber, Ticket, WorkloadStack,
};
use portal_net::lock::Mutex;
use portal_net::{Port, host_of};

/// All seats, the stack of the free ones, and the number of seats per address. Each lock is a leaf.
pub struct Seats {
    seats: Vec<SharedSeat>,
    stack: Mutex<WorkloadStack>,
    passcodes: PasscodeKind,
    per_address: SeatsPerAddress,
    events: Events,
}

/// One seat, shared by the portal, its worker and its timer thread.
pub struct SharedSeat {
    /// The seat's number, from 1.
    pub number: SeatNumber,
    /// The worker's port, or the single port.
    pub port: Port,
    /// Wakes the timer thread to flush spilled output.
    pub timer: Notifier,
    /// The next tick that the timer thread must see. Written only under `occupied`'s lock.
    alarm: Alarm,
    occupied: Mutex<SeatSlot>,
}

/// A seat and its client's connection. One lock guards both, so closing the seat closes the
/// connection that belongs to it and not the next one.
pub struct SeatSlot {
    /// The seat's state.
    pub seat: Seat,
    /// The address whose share of seats includes this one, from the reservation until the port is
    /// returned.
    counted: Option<IpAddr>,
    /// Set from the client's arrival until the worker has cleaned up.
    pub connection: Option<Arc<Connection>>,
    /// Checks whether the client's program still answers, if the entrance requires that.
    pub keepalive: Option<Keepalive>,
}

impl SeatSlot {
    /// The next deadline of the seat or its keepalive.
    fn deadline(&self) -> Option<Deadline> {
        let keepalive = self.keepalive.as_ref().map(Keepalive::deadline);
        [self.seat.deadline(), keepalive]
            .into_iter()
            .flatten()
            .min()
    }
}

impl SharedSeat {
    /// Creates a free seat. `alarm` and `timer` belong to its timer thread.
    pub fn new(
        (number, port): (SeatNumber, Port),
        seat: Seat,
        alarm: Alarm,
        timer: Notifier,
    ) -> SharedSeat {
        SharedSeat {
            number,
            port,
            timer,
            alarm,
            occupied: Mutex::new(SeatSlot {
                seat,
                counted: None,
                connection: None,
                keepalive: None,
            }),
        }
    }

    /// Runs `action` on the seat under its lock, then sets the alarm to the new deadline. There is
    /// no other access to the seat, so the alarm is always right.
    pub fn with_seat<T>(&self, action: impl FnOnce(&mut SeatSlot) -> T) -> T {
        let mut occupied = self.occupied.lock();
        let result = action(&mut occupied);
        self.alarm.set(occupied.deadline());
        result
    }

    /// The seat's connection, welcomed or not.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.with_seat(|occupied| occupied.connection.clone())
    }

    /// Restarts the idle timeout of `connection` if it is still in the seat. Returns whether it is.
    pub fn touch(&self, connection: &Arc<Connection>, now: Tick) -> bool {
        self.with_seat(|occupied| {
            let there = occupied.connection.as_ref();
            let is_there = there.is_some_and(|there| Arc::ptr_eq(there, connection));
            if is_there {
                connection.touch(now);
                occupied.seat.touch(now);
            }
            is_there
        })
    }
}

/// Number of seats that each address has reserved or taken (`--max-per-ip`).
struct SeatsPerAddress {
    most: AtomicUsize,
    /// The counts of addresses that have a seat, under a leaf lock.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl SeatsPerAddress {
    /// Counts one more seat for `address`; `false` if that would exceed its share.
    fn count(&self, address: IpAddr) -> bool {
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        let may = *count < self.most.load(Ordering::Relaxed);
        *count += usize::from(may);
        may
    }

    fn uncount(&self, address: IpAddr) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// The reason why a client is not given a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSeat {
    /// The workload stack is empty.
    AllTaken,
    /// The client's address already has the maximum number of seats (`--max-per-ip`).
    AddressHasItsShare,
}

/// A port that has left the stack and is not with its seat yet. Dropping it puts the port back.
pub struct HeldSeat<'s> {
    seats: &'s Seats,
    token: Option<PortToken>,
    address: IpAddr,
}

impl HeldSeat<'_> {
    /// Calls `sit` under the seat's lock to give the port to its seat. Then, under the same lock,
    /// calls `then` with the result and `value`. If the seat is not free, `sit` returns the port
    /// token, and the caller gets `value` back.
    pub fn claim_with<T, V, U>(
        mut self,
        value: V,
        sit: impl FnOnce(&mut Seat, PortToken) -> Result<T, PortToken>,
        then: impl FnOnce(&SharedSeat, &mut SeatSlot, T, V) -> U,
    ) -> Result<U, V> {
        let number = self.token.as_ref().map(PortToken::seat);
        let shared = number.and_then(|number| self.seats.seat(number));
        let (Some(shared), Some(token)) = (shared, self.token.take()) else {
            return Err(value);
        };
        shared.with_seat(|occupied| match sit(&mut occupied.seat, token) {
            Ok(seated) => {
                occupied.counted = Some(self.address);
                Ok(then(shared, occupied, seated, value))
            }
            Err(token) => {
                self.token = Some(token);
                Err(value)
            }
        })
    }
}

impl Drop for HeldSeat<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.seats.stack.lock().push(token);
            self.seats.uncount(self.address);
        }
    }
}

impl Seats {
    /// Creates the seats, all free. `most_per_address`, if it is set, limits the seats per address.
    pub fn new(
        seats: Vec<SharedSeat>,
        passcodes: PasscodeKind,
        most_per_address: Option<usize>,
        events: Events,
    ) -> Seats {
        Seats {
            stack: Mutex::new(WorkloadStack::new(seats.iter().map(|seat| seat.port))),
            seats,
            passcodes,
            per_address: SeatsPerAddress {
                most: AtomicUsize::new(most_per_address.unwrap_or(usize::MAX)),
                counts: Mutex::default(),
            },
            events,
        }
    }

    /// Changes the limit on the seats per address. Seats that are taken stay taken.
    pub fn limit_per_address(&self, most: Option<usize>) {
        let most = most.unwrap_or(usize::MAX);
        self.per_address.most.store(most, Ordering::Relaxed);
    }

    /// Takes the seats without a listening worker (`missing`) off the stack.
    pub fn hold_back(&self, missing: impl Fn(SeatNumber) -> bool) -> Vec<PortToken> {
        self.stack.lock().hold_back(missing)
    }

    /// Puts the port of a held-back seat on the stack once its worker is listening. `missing` are
    /// the seats that are still held back.
    pub fn add(&self, token: PortToken, missing: impl Fn(SeatNumber) -> bool) {
        let port = token.port();
        // Emit under the lock, as in `put_back`.
        let mut stack = self.stack.lock();
        stack.add(token, missing);
        self.events.emit(|| CoreEvent::PortReady { port });
    }

    /// All seats, ordered by number.
    pub fn all(&self) -> &[SharedSeat] {
        &self.seats
    }

    /// The seat with this number.
    pub fn seat(&self, number: SeatNumber) -> Option<&SharedSeat> {
        self.seats.get(number.index())
    }

    /// The place of the client in this seat, for an event.
    pub fn place(&self, number: SeatNumber) -> Place {
        let is_single = matches!(&self.seats[..], [one, two, ..] if one.port == two.port);
        match self.seat(number) {
            Some(seat) if !is_single => Place::Port(seat.port),
            _ => Place::Seat(number),
        }
    }

    /// The ports on the stack, in the order in which they will be taken.
    pub fn free_ports(&self) -> Vec<Port> {
        let mut ports: Vec<Port> = self.stack.lock().ports().collect();
        ports.reverse();
        ports
    }

    /// Takes a port off the stack for a client at `address`.
    ///
    /// # Errors
    /// [`NoSeat`], with the reason.
    pub fn take(&self, address: IpAddr) -> Result<HeldSeat<'_>, NoSeat> {
        let address = host_of(address);
        if !self.per_address.count(address) {
            return Err(NoSeat::AddressHasItsShare);
        }
        // The stack's lock is released before the seat's is taken. In between, only this thread has
        // the port.
        let token = self.stack.lock().pop();
        if token.is_none() {
            self.uncount(address);
        }
        let token = token.ok_or(NoSeat::AllTaken)?;
        Ok(HeldSeat {
            seats: self,
            token: Some(token),
            address,
        })
    }

    /// Reserves `held` for `asker` from `now` on, unless the server is shutting down. `reply` is
    /// called under the seat's lock, so that the reservation is announced before the arrival.
    pub(crate) fn reserve(
        &self,
        held: HeldSeat<'_>,
        asker: Asker,
        now: Tick,
        reply: impl FnOnce(&Ticket),
    ) -> Option<Ticket> {
        let reserved = held.claim_with(
            reply,
            |seat, token| seat.reserve(token, asker, now),
            |_, _, ticket, reply| {
                reply(&ticket);
                ticket
            },
        );
        reserved.ok()
    }

    /// Revokes the reservation of `ticket`, if it still exists.
    pub(crate) fn revoke(&self, ticket: &Ticket) {
        let Some(shared) = self.seats.iter().find(|seat| seat.port == ticket.port) else {
            return;
        };
        let (next, shown) = self.next_passcode();
        let revoked = shared.with_seat(|occupied| occupied.seat.revoke(&ticket.passcode, || next));
        if let Some(token) = revoked {
            let port = shared.port;
            self.events.emit(|| CoreEvent::NoShow { port });
            self.put_back(token, shown);
        }
    }

    /// The last step of a session: changes the seat's passcode, and returns its port to the stack.
    pub fn free(&self, shared: &SharedSeat) {
        let (next, shown) = self.next_passcode();
        if let Some(token) = shared.with_seat(|occupied| occupied.seat.free(next)) {
            self.put_back(token, shown);
        }
    }

    /// A new passcode for a seat that becomes free, and its text for events, if passcodes are
    /// shown.
    pub(crate) fn next_passcode(&self) -> (Passcode, Option<String>) {
        let next = self.passcodes.random();
        let shown = self.events.passcode(&next);
        (next, shown)
    }

    /// Puts the port of a free seat back on the stack, and emits the event. `passcode` is the new
    /// one, if passcodes are shown.
    pub(crate) fn put_back(&self, token: PortToken, passcode: Option<String>) {
        let port = token.port();
        if let Some(shared) = self.seat(token.seat())
            && let Some(address) = shared.with_seat(|occupied| occupied.counted.take())
        {
            self.uncount(address);
        }
        // Emit under the lock: no thread can take the port before that, so the events are in order.
        // Emitting never blocks.
        let mut stack = self.stack.lock();
        stack.push(token);
        self.events.emit(|| CoreEvent::SeatFree { port, passcode });
    }

    fn uncount(&self, address: IpAddr) {
        self.per_address.uncount(address);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::clock::Ticks;
    use crate::seat::Timeouts;
    use crate::test_support::connection;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Creates free seats; each address may have at most `most` of them.
    fn seats(count: u16, most: Option<usize>) -> (Seats, Clock) {
        let clock = Clock::new();
        let second = Duration::from_secs(1);
        let ticks = |count| Ticks::covering(second * count, second);
        let timeouts = Timeouts {
            reserve: ticks(2),
            handshake: ticks(2),
            idle: Some(ticks(5)),
            idle_soon: None,
            total: None,
        };
        let seat = |number: u16| {
            let timer = clock.subscribe_timer();
            let place = (
                SeatNumber::from_index(number.into()),
                Port::new(50001 + number).unwrap(),
            );
            let seat = Seat::new(PasscodeKind::Hex.random(), timeouts);
            SharedSeat::new(place, seat, timer.alarm(), timer.notifier())
        };
        let events = Events::new(clock.clone());
        let all = (0..count).map(seat).collect();
        (Seats::new(all, PasscodeKind::Hex, most, events), clock)
    }

    #[test]
    fn a_reservation_that_is_dropped_no_longer_counts_for_its_address() {
        let (seats, _) = seats(4, Some(1));
        for _ in 0..3 {
            let held = seats.take(HERE);
            assert!(held.is_ok(), "the previous one was dropped");
            assert!(seats.take(HERE).is_err(), "one at a time");
        }
        assert_eq!(seats.free_ports().len(), 4);
    }

    #[test]
    fn a_new_limit_counts_the_seats_that_are_taken() {
        let (seats, _) = seats(4, None);
        let taken = (seats.take(HERE), seats.take(HERE));
        seats.limit_per_address(Some(2));
        assert!(seats.take(HERE).is_err(), "it has two");
        seats.limit_per_address(Some(3));
        assert!(seats.take(HERE).is_ok());
        drop(taken);
        seats.limit_per_address(None);
        assert_eq!(seats.free_ports().len(), 4);
    }

    #[test]
    fn an_address_that_finds_no_seat_is_not_counted() {
        let (seats, _) = seats(2, Some(3));
        let taken = (seats.take(HERE), seats.take(HERE));
        for _ in 0..3 {
            assert!(seats.take(HERE).is_err(), "all are taken");
        }
        drop(taken);
        assert!(seats.take(HERE).is_ok());
    }

    #[test]
    fn a_port_is_held_back_until_its_worker_listens() {
        let (seats, _) = seats(4, None);
        let port = |number: u16| Port::new(50000 + number).unwrap();
        let mut held_back = seats.hold_back(|seat| seat.get() == 2);
        assert_eq!(seats.free_ports(), [port(3), port(4), port(1)]);
        let second = held_back.pop().unwrap();
        assert_eq!((second.port(), held_back.len()), (port(2), 0));
        seats.add(second, |_| false);
        assert_eq!(seats.free_ports().len(), 4);
    }

    #[test]
    fn a_revoked_reservation_frees_its_seat_and_no_other() {
        let (seats, clock) = seats(4, None);
        let asker = Asker::by_connection((HERE, 1).into());
        let reserve = || {
            let held = seats.take(HERE).ok().unwrap();
            seats.reserve(held, asker, clock.now(), |_| {}).unwrap()
        };
        let (first, second) = (reserve(), reserve());
        seats.revoke(&second);
        assert_eq!(seats.free_ports()[0], second.port);
        assert!(!seats.free_ports().contains(&first.port));
        seats.revoke(&second);
        assert_eq!(seats.free_ports().len(), 3, "nothing is left to revoke");
        let third = reserve();
        assert_eq!(third.port, second.port);
        seats.revoke(&second);
        assert_eq!(seats.free_ports().len(), 2, "that was an earlier passcode");
    }

    #[test]
    fn seats_on_one_port_are_named_by_their_numbers() {
        let (two, _) = seats(2, None);
        assert!(
            matches!(two.place(SeatNumber::from_index(1)), Place::Port(port) if port.get() == 50002)
        );
        let (mut single, _) = seats(2, None);
        single.seats[1].port = single.seats[0].port;
        let second = SeatNumber::from_index(1);
        assert!(matches!(single.place(second), Place::Seat(number) if number == second));
    }

    #[test]
    fn only_the_connection_in_a_seat_keeps_it() {
        let (seats, clock) = seats(2, None);
        let ((alice, _alice), (before, _before)) = (connection("alice"), connection("before"));
        let held = seats.take(HERE).ok().unwrap();
        let now = clock.now();
        let seated = held.claim_with(
            (),
            |seat, token| seat.occupy(token, now),
            |shared, occupied, (), ()| {
                occupied.connection = Some(Arc::clone(&alice));
                shared.number
            },
        );
        let seat = seats.seat(seated.unwrap()).unwrap();
        let deadline = || seat.with_seat(|occupied| occupied.seat.deadline());
        let at_first = deadline();
        clock.beat();
        // The previous client's session may not be over yet, and may still receive output.
        assert!(!seat.touch(&before, clock.now()));
        assert_eq!(deadline(), at_first);
        assert!(seat.touch(&alice, clock.now()));
        assert!(deadline() > at_first);
    }
}
