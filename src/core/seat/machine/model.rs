//! An exhaustive model of two seats, three callers, the portal, the workers, the timers and the
//! ticks. It tries every order of events, breadth first, until no new state appears.
//!
//! Each step is one action of a server thread under one lock. Between two steps, any other thread
//! may run. To keep the number of states finite, passcodes are distinguished only as *current* or
//! *stale*, and deadlines by the number of ticks left. In every state, and at every step:
//!
//! 1. each port is in exactly one place: on the stack, held by one thread, or in its seat;
//! 2. a passcode admits at most one connection, to the port and from the address for which it was
//!    issued, and is never issued again, except to a UDP client that repeats its request;
//! 3. an unexpected connection changes nothing about the seat.
#![cfg(test)]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::exhaustive::{self, walk};
use crate::seat::WorkloadStack;

const SEATS: usize = 2;
const CALLERS: usize = 3;
const FIRST_PORT: u16 = 50001;

/// Alice and Bob share an address; Mallory has another one. Bob asks by datagram.
const ADDRESSES: [u8; CALLERS] = [1, 1, 2];
const BY_DATAGRAM: [bool; CALLERS] = [false, true, false];

fn address(caller: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, ADDRESSES[caller]).into()
}

fn asker(caller: usize) -> Asker {
    let peer = SocketAddr::new(address(caller), 4000 + caller as u16);
    if BY_DATAGRAM[caller] {
        Asker::by_datagram(peer)
    } else {
        Asker::by_connection(peer)
    }
}

/// The next action of one thread.
#[derive(Clone, Copy, Debug)]
enum SeatStep {
    /// The clock advances.
    Tick,
    /// The portal serves this caller: takes a port off the stack, or repeats a ticket.
    Ask(usize),
    /// On a single port: the caller is accepted and takes a seat immediately.
    Sit(usize),
    /// The second entrance takes a seat for the caller. The caller sends the passcode on the same
    /// connection.
    Open(usize),
    /// The portal reserves the seat whose port it holds.
    Reserve,
    /// The portal revokes the ticket that it gave to the caller, in any state of the seat.
    Revoke(usize, usize),
    /// The caller connects to the seat's port and waits in the backlog.
    Connect(usize, usize),
    /// The seat's worker accepts the first connection in its backlog.
    Accept(usize),
    /// The worker reads the caller's first frame: the newest passcode that the caller has for this
    /// seat.
    Present(usize),
    /// Like `Present`, but the caller asks to be called.
    PresentAndBeCalled(usize),
    /// The caller answers the call.
    Answered(usize),
    /// The worker reads a first frame that is not a passcode.
    PresentNonsense(usize),
    /// The worker reads a message.
    Hear(usize),
    /// The caller closes the connection, and the worker closes the seat.
    End(usize),
    /// The worker rejects the first connection in its backlog.
    TurnAway(usize),
    /// The worker has rejected all waiting connections. It changes the passcode and takes the port.
    Free(usize),
    /// The timer thread checks the deadlines.
    Expire(usize),
    /// A thread pushes the port that it holds.
    Push(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    Accepting,
    Serving(usize),
}

#[derive(Clone)]
struct SeatWorld {
    now: Tick,
    stack: WorkloadStack,
    seats: [Seat; SEATS],
    /// The seat whose port the portal holds, and the caller that it is for.
    portal: Option<(usize, usize)>,
    portal_token: Option<PortToken>,
    /// Ports that a worker or a timer thread is about to push.
    in_hand: [Option<PortToken>; SEATS],
    workers: [WorkerState; SEATS],
    backlogs: [VecDeque<usize>; SEATS],
    /// The caller that the second entrance serves in each seat, while the seat's worker still
    /// accepts connections.
    doors: [Option<usize>; SEATS],
    connected: [bool; CALLERS],
    /// The newest passcode that each caller was given for each seat.
    tickets: [[Option<Rc<Passcode>>; SEATS]; CALLERS],
    /// The caller that was given the passcode of each seat, and whether the passcode has admitted a
    /// connection.
    given: [Option<usize>; SEATS],
    admitted: [bool; SEATS],
    next_passcode: u128,
    ways: Ways,
}

/// The entrances in a search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    /// The portal and the workers.
    Portal,
    /// The portal and the workers, and an entrance that is portal and worker in one.
    PortalAndDoor,
    /// One port for all callers, and no portal.
    Single,
}

impl SeatWorld {
    fn new(ways: Ways) -> SeatWorld {
        let second = Duration::from_secs(1);
        let ticks = |count: u64| Ticks::covering(second * count as u32, second);
        let timeouts = Timeouts {
            reserve: ticks(2),
            handshake: ticks(1),
            idle: Some(ticks(1)),
            idle_soon: Some(ticks(1)),
            total: Some(ticks(2)),
        };
        let ports = (0..SEATS).filter_map(|seat| Port::new(FIRST_PORT + seat as u16));
        SeatWorld {
            now: Tick(0),
            stack: WorkloadStack::new(ports),
            seats: std::array::from_fn(|seat| {
                Seat::new(Passcode::from_bits(seat as u128), timeouts)
            }),
            portal: None,
            portal_token: None,
            in_hand: Default::default(),
            workers: [WorkerState::Accepting; SEATS],
            backlogs: Default::default(),
            connected: [false; CALLERS],
            tickets: Default::default(),
            given: [None; SEATS],
            admitted: [false; SEATS],
            next_passcode: SEATS as u128,
            doors: [None; SEATS],
            ways,
        }
    }

    fn fresh_passcode(&mut self, seat: usize) -> Passcode {
        self.given[seat] = None;
        self.admitted[seat] = false;
        self.next_passcode += 1;
        Passcode::from_bits(self.next_passcode)
    }

    fn take(&mut self, step: SeatStep) {
        match step {
            SeatStep::Tick => self.now.0 += 1,
            SeatStep::Ask(caller) => {
                let again = self
                    .seats
                    .iter()
                    .position(|seat| seat.ticket_again(asker(caller), self.now).is_some());
                if let Some(seat) = again {
                    let ticket = self.seats[seat]
                        .ticket_again(asker(caller), self.now)
                        .unwrap();
                    assert_eq!(
                        self.given[seat],
                        Some(caller),
                        "a ticket was repeated to another client"
                    );
                    self.tickets[caller][seat] = Some(Rc::new(ticket.passcode));
                } else if let Some(token) = self.stack.pop() {
                    self.portal = Some((token.seat().index(), caller));
                    self.portal_token = Some(token);
                }
            }
            SeatStep::Sit(caller) => {
                let Some(token) = self.stack.pop() else {
                    return;
                };
                let seat = token.seat().index();
                self.seats[seat].occupy(token, self.now).unwrap();
                self.workers[seat] = WorkerState::Serving(caller);
                self.connected[caller] = true;
            }
            SeatStep::Open(caller) => {
                let Some(token) = self.stack.pop() else {
                    return;
                };
                let seat = token.seat().index();
                let ticket = self.seats[seat].begin_handshake(token, self.now).unwrap();
                self.assert_never_given(seat, &ticket);
                self.given[seat] = Some(caller);
                self.tickets[caller][seat] = Some(Rc::new(ticket.passcode));
                self.doors[seat] = Some(caller);
                self.connected[caller] = true;
            }
            SeatStep::Reserve => {
                let (seat, caller) = self.portal.take().unwrap();
                let token = self.portal_token.take().unwrap();
                let ticket = self.seats[seat]
                    .reserve(token, asker(caller), self.now)
                    .unwrap();
                self.assert_never_given(seat, &ticket);
                self.given[seat] = Some(caller);
                self.tickets[caller][seat] = Some(Rc::new(ticket.passcode));
            }
            SeatStep::Connect(caller, seat) => {
                self.connected[caller] = true;
                self.backlogs[seat].push_back(caller);
            }
            SeatStep::Accept(seat) => {
                let caller = self.backlogs[seat].pop_front().unwrap();
                let before = self.seats[seat].clone();
                match self.seats[seat].arrive(address(caller), self.now) {
                    Arrival::Expected => {
                        let to = self.given[seat].expect("no client was sent here");
                        assert_eq!(
                            ADDRESSES[to], ADDRESSES[caller],
                            "admitted from another address"
                        );
                        self.workers[seat] = WorkerState::Serving(caller);
                    }
                    Arrival::Unexpected => {
                        assert_eq!(
                            before, self.seats[seat],
                            "an unexpected connection changed the seat"
                        );
                        self.connected[caller] = false;
                    }
                }
            }
            SeatStep::Present(seat) => self.check_passcode(seat, SeatRequest::Stay),
            SeatStep::PresentAndBeCalled(seat) => self.check_passcode(seat, SeatRequest::BeCalled),
            SeatStep::Answered(seat) => {
                let was = self.seats[seat].phase();
                let seated = self.seats[seat].answered(self.now);
                assert_eq!(
                    seated,
                    was == Phase::Calling,
                    "a call was answered in the phase {was:?}"
                );
            }
            SeatStep::PresentNonsense(seat) => {
                let verdict = self.seats[seat].check_passcode(None, SeatRequest::Stay, self.now);
                assert_eq!(verdict, Verdict::Refused);
            }
            SeatStep::Hear(seat) => self.seats[seat].touch(self.now),
            SeatStep::End(seat) => self.seats[seat].close(),
            SeatStep::TurnAway(seat) => {
                let caller = self.backlogs[seat].pop_front().unwrap();
                self.connected[caller] = false;
            }
            SeatStep::Free(seat) => {
                let Some(caller) = self.served(seat) else {
                    return;
                };
                let next = self.fresh_passcode(seat);
                let token = self.seats[seat].free(next).expect("closing");
                assert!(
                    self.in_hand[seat].replace(token).is_none(),
                    "two threads hold one port"
                );
                self.workers[seat] = WorkerState::Accepting;
                self.doors[seat] = None;
                self.connected[caller] = false;
            }
            SeatStep::Expire(seat) => {
                let next = Passcode::from_bits(self.next_passcode + 1);
                let expiry = self.seats[seat].expire(self.now, || next);
                if let Some(Expiry::NoShow(token)) = expiry {
                    // The seat already has the next passcode.
                    self.fresh_passcode(seat);
                    assert!(
                        self.in_hand[seat].replace(token).is_none(),
                        "two threads hold one port"
                    );
                }
            }
            SeatStep::Revoke(caller, seat) => {
                let Some(ticket) = self.tickets[caller][seat].clone() else {
                    return;
                };
                let before = self.seats[seat].phase();
                let next = Passcode::from_bits(self.next_passcode + 1);
                if let Some(token) = self.seats[seat].revoke(&ticket, || next) {
                    assert_eq!(before, Phase::Reserved, "a seat was taken from a client");
                    assert_eq!(
                        self.given[seat],
                        Some(caller),
                        "another client's ticket was revoked"
                    );
                    self.fresh_passcode(seat);
                    assert!(
                        self.in_hand[seat].replace(token).is_none(),
                        "two threads hold one port"
                    );
                }
            }
            SeatStep::Push(seat) => self.stack.push(self.in_hand[seat].take().unwrap()),
        }
    }

    fn assert_never_given(&self, seat: usize, ticket: &Ticket) {
        for others in &self.tickets {
            assert!(
                others[seat].as_deref() != Some(&ticket.passcode),
                "a passcode was issued twice"
            );
        }
    }

    /// The callers in this search. With a second entrance, two callers at one address are enough,
    /// and keep the search short.
    fn callers(&self) -> std::ops::Range<usize> {
        match self.ways {
            Ways::PortalAndDoor => 0..2,
            Ways::Portal | Ways::Single => 0..CALLERS,
        }
    }

    /// The caller that the seat's worker or the second entrance serves.
    fn served(&self, seat: usize) -> Option<usize> {
        match self.workers[seat] {
            WorkerState::Serving(caller) => Some(caller),
            WorkerState::Accepting => self.doors[seat],
        }
    }

    /// Presents the caller's newest passcode to the seat and checks the verdict.
    fn check_passcode(&mut self, seat: usize, wish: SeatRequest) {
        let Some(caller) = self.served(seat) else {
            return;
        };
        let passcode = self.tickets[caller][seat].clone();
        let was = self.seats[seat].phase();
        match self.seats[seat].check_passcode(
            passcode.as_deref().map(Passcode::reveal),
            wish,
            self.now,
        ) {
            Verdict::Admitted => {
                let to = self.given[seat].expect("a passcode that was not issued admits no client");
                assert_eq!(
                    ADDRESSES[to], ADDRESSES[caller],
                    "admitted from another address"
                );
                assert_eq!(
                    passcode, self.tickets[to][seat],
                    "admitted with a passcode other than the one issued"
                );
                assert!(!self.admitted[seat], "a passcode was admitted twice");
                self.admitted[seat] = true;
            }
            Verdict::Refused => {
                let is_right =
                    self.given[seat] == Some(caller) && passcode == self.tickets[caller][seat];
                assert!(
                    !is_right || passcode.is_none(),
                    "the right passcode was refused"
                );
            }
            Verdict::TooLate => assert_ne!(was, Phase::Greeting),
        }
    }

    /// Checks invariant 1.
    fn check(&self) {
        for (index, seat) in self.seats.iter().enumerate() {
            let port = FIRST_PORT + index as u16;
            let on_stack = self
                .stack
                .ports()
                .filter(|there| there.get() == port)
                .count();
            let in_portal = usize::from(self.portal.is_some_and(|(held, _)| held == index));
            let in_hand = usize::from(self.in_hand[index].is_some());
            let in_seat = usize::from(seat.phase() != Phase::Free);
            let places = on_stack + in_portal + in_hand + in_seat;
            assert_eq!(
                places,
                1,
                "port {port}: stack {on_stack}, portal {in_portal}, hand {in_hand}, {:?}",
                seat.phase()
            );
        }
    }
}

impl exhaustive::World for SeatWorld {
    type Step = SeatStep;

    /// All steps that are possible now.
    fn steps(&self) -> Vec<SeatStep> {
        let mut steps = vec![SeatStep::Tick];
        let is_free = |caller: &usize| !self.connected[*caller];
        if self.ways == Ways::PortalAndDoor {
            steps.extend(self.callers().filter(is_free).map(SeatStep::Open));
        }
        if self.ways == Ways::Single {
            steps.extend(self.callers().filter(is_free).map(SeatStep::Sit));
        } else if self.portal.is_some() {
            steps.push(SeatStep::Reserve);
        } else {
            steps.extend(self.callers().map(SeatStep::Ask));
        }
        for seat in 0..SEATS {
            if self.ways != Ways::Single {
                let free_callers = self.callers().filter(is_free);
                steps.extend(free_callers.map(|caller| SeatStep::Connect(caller, seat)));
            }
            // The portal can detect the protocol of a caller only over TCP.
            let revocable = self
                .callers()
                .filter(|caller| !BY_DATAGRAM[*caller] && self.tickets[*caller][seat].is_some());
            steps.extend(revocable.map(|caller| SeatStep::Revoke(caller, seat)));
            if self.workers[seat] == WorkerState::Accepting && !self.backlogs[seat].is_empty() {
                steps.push(SeatStep::Accept(seat));
            }
            let is_at_door = self.doors[seat].is_some();
            let serving = match self.served(seat) {
                Some(caller) => WorkerState::Serving(caller),
                None => WorkerState::Accepting,
            };
            match (serving, self.seats[seat].phase()) {
                (WorkerState::Accepting, _) => {}
                (WorkerState::Serving(_), Phase::Greeting) => {
                    steps.extend([
                        SeatStep::Present(seat),
                        SeatStep::PresentNonsense(seat),
                        SeatStep::End(seat),
                    ]);
                    if !is_at_door {
                        steps.push(SeatStep::PresentAndBeCalled(seat));
                    }
                }
                (WorkerState::Serving(_), Phase::Calling) => {
                    steps.extend([SeatStep::Answered(seat), SeatStep::End(seat)])
                }
                (WorkerState::Serving(_), Phase::Seated) => {
                    steps.extend([SeatStep::Hear(seat), SeatStep::End(seat)])
                }
                (WorkerState::Serving(_), Phase::Closing) => {
                    // The worker may still read a late frame, or get a late answer to its call,
                    // after the timer thread has closed the seat.
                    steps.extend([
                        SeatStep::Present(seat),
                        SeatStep::Hear(seat),
                        SeatStep::Answered(seat),
                    ]);
                    // The second entrance waits until the worker has rejected the connections that
                    // arrived in the meantime.
                    if self.backlogs[seat].is_empty() {
                        steps.push(SeatStep::Free(seat));
                    } else if !is_at_door {
                        steps.push(SeatStep::TurnAway(seat));
                    }
                }
                (WorkerState::Serving(_), phase) => {
                    panic!("a worker serves a seat that is {phase:?}")
                }
            }
            steps.push(SeatStep::Expire(seat));
            if self.in_hand[seat].is_some() {
                steps.push(SeatStep::Push(seat));
            }
        }
        steps
    }

    fn after(&self, step: SeatStep) -> SeatWorld {
        let mut after = self.clone();
        after.take(step);
        after.check();
        after
    }

    /// The state in a few bytes, without irrelevant differences: the current tick, the digits of
    /// the passcodes, and the order of the two seats.
    fn canonical(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(64);
        self.add_seat(0, &mut state);
        let second = state.len();
        self.add_seat(1, &mut state);
        if state[..second] > state[second..] {
            state.rotate_left(second);
        }
        state
    }
}

impl SeatWorld {
    /// Adds the state of one seat, without its number.
    fn add_seat(&self, seat: usize, state: &mut Vec<u8>) {
        let number = |who: Option<usize>| who.map_or(0, |who| who as u8 + 1);
        self.seats[seat].canonical(self.now, state);
        let port = FIRST_PORT + seat as u16;
        let on_stack = self.stack.ports().position(|there| there.get() == port);
        let asks = self.portal.filter(|(held, _)| *held == seat);
        state.extend([
            number(on_stack),
            number(asks.map(|(_, caller)| caller)),
            u8::from(self.in_hand[seat].is_some()),
            match self.workers[seat] {
                WorkerState::Accepting => 0,
                WorkerState::Serving(caller) => number(Some(caller)),
            },
            number(self.doors[seat]),
        ]);
        let backlog = self.backlogs[seat].iter();
        state.extend(backlog.map(|caller| number(Some(*caller))));
        state.extend([0, number(self.given[seat]), u8::from(self.admitted[seat])]);
        // Each caller's passcode for the seat: none, a stale one, or the current one.
        state.extend(self.tickets.iter().map(|tickets| match &tickets[seat] {
            None => 0,
            Some(passcode) => 1 + u8::from(**passcode == self.seats[seat].passcode),
        }));
    }
}

impl Seat {
    fn canonical(&self, now: Tick, into: &mut Vec<u8>) {
        into.push(self.phase() as u8);
        let mut left = |deadline: Option<Deadline>| {
            into.push(deadline.map_or(0, |deadline| 1 + deadline.left(now) as u8));
        };
        match &self.state {
            SeatState::Free | SeatState::Closing { .. } => {}
            SeatState::Reserved { until, asker, .. } => {
                left(Some(*until));
                let whose = (0..CALLERS).position(|caller| super::model::asker(caller) == *asker);
                into.push(whose.expect("one of the callers") as u8);
            }
            SeatState::Greeting { until, total, .. } | SeatState::Calling { until, total, .. } => {
                left(Some(*until));
                left(*total);
            }
            SeatState::Seated { idle, total, .. } => {
                left(*idle);
                left(*total);
            }
        }
    }
}

#[test]
fn in_every_order_of_events_each_port_is_in_one_place_and_each_passcode_admits_once() {
    let states = walk(SeatWorld::new(Ways::Portal));
    assert!(states > 10_000, "the search explored too few worlds");
}

#[test]
fn a_second_entrance_keeps_the_invariants() {
    let states = walk(SeatWorld::new(Ways::PortalAndDoor));
    assert!(states > 10_000, "the search explored too few worlds");
}

#[test]
fn a_single_port_keeps_the_invariants() {
    let states = walk(SeatWorld::new(Ways::Single));
    assert!(states > 100, "the search explored too few worlds");
}
