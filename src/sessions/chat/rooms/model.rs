//! An exhaustive model of the rooms: three users, one of them at another address, a room that
//! begins and ends on the only port, and the ticks. It tries every order of events, breadth first,
//! until no new state appears.
//!
//! Each step is one action of a server thread under the rooms' lock. In every state:
//!
//! 1. the port is in exactly one place: on the stack, held by a thread that ends a room, or in the
//!    room; the same is true of each place in the room;
//! 2. a room exists exactly while it has a member, a reservation, or a connected caller, which may
//!    have been rejected but has not disconnected yet;
//! 3. a passcode admits at most one connection, for the user and from the address for which it was
//!    issued, and no user is in a room twice.
#![cfg(test)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use portal_core::clock::Ticks;
use portal_core::exhaustive::{self, walk};
use portal_core::seat::Phase;
use portal_core::seat::Ticket;
use portal_core::test_support::guest_from;

const PEOPLE: usize = 3;
const ADDRESSES: [u8; PEOPLE] = [1, 1, 2];

#[derive(Clone, Copy, Debug)]
enum RoomStep {
    /// The clock advances.
    Tick,
    /// This user sends `JOIN`; the room is created if it does not exist.
    Join(usize),
    /// This user sends `JOIN` with `<here/>`.
    JoinHere(usize),
    /// This user connects to the room's port.
    Connect(usize),
    /// This user's connection sends the newest passcode of the other user.
    Say(usize, usize),
    /// This user's connection sends something else.
    SayNonsense(usize),
    /// This user sends `LEAVE`, or its main connection ends.
    Leave(usize),
    /// This user's connection to the room ends.
    HangUp(usize),
    /// The room's timer thread checks the deadlines.
    Expire,
    /// The thread of a room that has closed pushes the port.
    Push,
}

/// The users' connections. They are closed before the search begins, so nothing is written to them.
struct Cast {
    mains: Vec<Arc<Connection>>,
    connections: Vec<Arc<Connection>>,
}

#[derive(Clone)]
struct RoomsWorld {
    cast: Arc<Cast>,
    now: Tick,
    rooms: Rooms,
    /// All rooms share one handle, because no threads serve them.
    handle: Arc<RoomHandle>,
    /// The only port, when it is free.
    ports: WorkloadStack,
    in_hand: Option<PortToken>,
    /// True for each user whose connection is open, even if the room has rejected it.
    connected: [bool; PEOPLE],
    tickets: [Option<Ticket>; PEOPLE],
    /// True for each user whose newest ticket has admitted a connection.
    used: [bool; PEOPLE],
}

fn name() -> Name {
    Name::new("lobby").unwrap()
}

impl Cast {
    fn new() -> Cast {
        let all = |first: u16| {
            let connections = (0..PEOPLE).map(|person| {
                let address = Ipv4Addr::new(127, 0, 0, ADDRESSES[person]);
                let connection = guest_from(SocketAddr::from((address, first + person as u16)));
                connection.outbox.cut(portal_wire::CloseReason::PeerClosed);
                connection
            });
            connections.collect()
        };
        Cast {
            mains: all(4000),
            connections: all(5000),
        }
    }

    /// The index of the user.
    fn person(&self, main: &Arc<Connection>) -> usize {
        let is_it = |there: &Arc<Connection>| Arc::ptr_eq(there, main);
        self.mains.iter().position(is_it).unwrap()
    }
}

impl RoomsWorld {
    fn new() -> RoomsWorld {
        let second = Duration::from_secs(1);
        let ticks = |count| Ticks::covering(second * count, second);
        let timeouts = Timeouts {
            reserve: ticks(2),
            handshake: ticks(1),
            idle: None,
            idle_soon: None,
            total: None,
        };
        RoomsWorld {
            cast: Arc::new(Cast::new()),
            now: Tick(0),
            rooms: Rooms::new(timeouts, 0),
            handle: RoomHandle::for_test(Port::MAX),
            ports: WorkloadStack::new(Port::new(50005)),
            in_hand: None,
            connected: [false; PEOPLE],
            tickets: Default::default(),
            used: [false; PEOPLE],
        }
    }

    /// The number of members, reservations and callers, except those that `step` removes.
    fn staying(&self, step: RoomStep, cast: &Cast) -> usize {
        let Some(room) = self.rooms.by_key.values().next() else {
            return 0;
        };
        let in_time = |deadline: Option<Deadline>| {
            !matches!(step, RoomStep::Expire)
                || !deadline.is_some_and(|deadline| deadline.is_past(self.now))
        };
        let hangs_up = |connection: &Arc<Connection>| matches!(step, RoomStep::HangUp(person) if Arc::ptr_eq(&cast.connections[person], connection));
        let places = room.members.iter().filter(|member| {
            let leaves =
                matches!(step, RoomStep::Leave(person) if cast.person(&member.main) == person);
            let hangs_up = member.connection.as_ref().is_some_and(hangs_up);
            !leaves && !hangs_up && in_time(member.seat.deadline())
        });
        let callers = room
            .callers
            .iter()
            .filter(|caller| !hangs_up(&caller.connection) && in_time(Some(caller.until)));
        places.count() + callers.count()
    }

    fn take(&mut self, step: RoomStep, cast: &Cast) {
        let name = name();
        let staying = self.staying(step, cast);
        let before = self.in_hand.is_some();
        self.change(step, cast, &name);
        let has_ended = self.in_hand.is_some() && !before;
        assert!(
            !has_ended || staying == 0,
            "a room ended while a user was in it"
        );
    }

    fn change(&mut self, step: RoomStep, cast: &Cast, name: &Name) {
        match step {
            RoomStep::Tick => self.now.0 += 1,
            RoomStep::Join(person) => {
                if !self.rooms.exists(name) {
                    let Some(token) = self.ports.pop() else {
                        return;
                    };
                    let port = token.port();
                    self.rooms
                        .open(name, (token, port), PEOPLE, Arc::clone(&self.handle));
                }
                let who = Name::new(&format!("p{person}")).unwrap();
                let seat = SeatNumber::from_index(person);
                let main = &cast.mains[person];
                match self.rooms.reserve(
                    name,
                    &Joiner {
                        main,
                        who: &who,
                        seat,
                    },
                    self.now,
                ) {
                    Ok((_, ticket)) => {
                        let known = self.tickets.iter().flatten();
                        for before in known {
                            assert_ne!(
                                before.passcode, ticket.passcode,
                                "a passcode was issued twice"
                            );
                        }
                        self.tickets[person] = Some(ticket);
                        self.used[person] = false;
                    }
                    Err(error) => assert_eq!(error, RoomError::AlreadyMember),
                }
            }
            RoomStep::JoinHere(person) => {
                if !self.rooms.exists(name) {
                    let Some(token) = self.ports.pop() else {
                        return;
                    };
                    let port = token.port();
                    self.rooms
                        .open(name, (token, port), PEOPLE, Arc::clone(&self.handle));
                }
                let who = Name::new(&format!("p{person}")).unwrap();
                let seat = SeatNumber::from_index(person);
                let main = &cast.mains[person];
                match self.rooms.enter_here(
                    name,
                    &Joiner {
                        main,
                        who: &who,
                        seat,
                    },
                    self.now,
                ) {
                    // A ticket for an earlier room with this name is no longer valid.
                    Ok(_) => self.tickets[person] = None,
                    Err(error) => assert_eq!(error, RoomError::AlreadyMember),
                }
            }
            RoomStep::Connect(person) => {
                let caller = &cast.connections[person];
                let called = self.rooms.add_caller(name, caller, self.now);
                self.connected[person] = called.is_ok();
            }
            RoomStep::Say(person, whose) => {
                let said = self.tickets[whose].clone();
                let said = said.as_ref().map(|ticket| ticket.passcode.reveal());
                let caller = &cast.connections[person];
                let admission = self.rooms.admit(name, caller, said, self.now);
                let Admission::Admitted { main, .. } = admission else {
                    return;
                };
                assert_eq!(cast.person(&main), whose, "another user's place");
                assert_eq!(ADDRESSES[person], ADDRESSES[whose], "from another address");
                assert!(!self.used[whose], "a passcode used twice");
                self.used[whose] = true;
            }
            RoomStep::SayNonsense(person) => {
                let caller = &cast.connections[person];
                let admission = self.rooms.admit(name, caller, None, self.now);
                assert!(matches!(admission, Admission::Refused));
            }
            RoomStep::Leave(person) => {
                if let Ok(departed) = self.rooms.leave(name, &cast.mains[person]) {
                    self.ended(departed);
                }
            }
            RoomStep::HangUp(person) => {
                self.connected[person] = false;
                let departed = self.rooms.hang_up(name, &cast.connections[person]);
                self.ended(departed);
            }
            RoomStep::Expire => {
                let (_, departed) = self.rooms.expire(name, self.now);
                self.ended(departed);
            }
            RoomStep::Push => {
                let token = self.in_hand.take().unwrap();
                self.ports.push(token);
            }
        }
    }

    fn ended(&mut self, departed: Departure) {
        if let Some(ended) = departed.ended {
            let before = self.in_hand.replace(ended.token);
            assert!(before.is_none(), "two rooms had the port");
        }
    }

    fn check(&self) {
        let room = self.rooms.by_key.values().next();
        let places = self.ports.ports().len()
            + usize::from(self.in_hand.is_some())
            + usize::from(room.is_some());
        assert_eq!(places, 1, "the port is in {places} places");
        let Some(room) = room else { return };
        // A rejected caller is not in `callers`, but its connection is still open. The room ends
        // when it closes.
        let somebody_hangs_up = self.connected.contains(&true);
        assert!(
            !room.members.is_empty() || !room.callers.is_empty() || somebody_hangs_up,
            "an empty room continues to exist"
        );
        assert_eq!(
            room.members.len() + room.free_places.ports().count(),
            PEOPLE
        );
        for (index, member) in room.members.iter().enumerate() {
            let twice = room.members[..index]
                .iter()
                .any(|other| Arc::ptr_eq(&other.main, &member.main));
            assert!(!twice, "in the room twice");
            let is_seated = member.seat.phase() == Phase::Seated;
            assert_eq!(is_seated, member.connection.is_some());
        }
    }
}

impl exhaustive::World for RoomsWorld {
    type Step = RoomStep;

    fn steps(&self) -> Vec<RoomStep> {
        let mut steps = vec![RoomStep::Tick];
        if self.rooms.exists(&name()) {
            steps.push(RoomStep::Expire);
        }
        if self.in_hand.is_some() {
            steps.push(RoomStep::Push);
        }
        for person in 0..PEOPLE {
            steps.extend([
                RoomStep::Join(person),
                RoomStep::JoinHere(person),
                RoomStep::Leave(person),
            ]);
            if self.connected[person] {
                steps.extend((0..PEOPLE).map(|whose| RoomStep::Say(person, whose)));
                steps.extend([RoomStep::SayNonsense(person), RoomStep::HangUp(person)]);
            } else if self.rooms.exists(&name()) {
                steps.push(RoomStep::Connect(person));
            }
        }
        steps
    }

    fn after(&self, step: RoomStep) -> RoomsWorld {
        let mut after = self.clone();
        after.take(step, &Arc::clone(&self.cast));
        after.check();
        after
    }

    /// The first two users share an address, so exchanging them makes no difference.
    fn canonical(&self) -> Vec<u8> {
        self.seen_from([0, 1, 2]).min(self.seen_from([1, 0, 2]))
    }
}

impl RoomsWorld {
    /// The state in a few bytes, with the users in this order.
    fn seen_from(&self, order: [usize; PEOPLE]) -> Vec<u8> {
        let cast = &self.cast;
        let room = self.rooms.by_key.values().next();
        let left = |deadline: Deadline| 1 + deadline.left(self.now) as u8;
        let mut state = vec![u8::from(self.in_hand.is_some()), u8::from(room.is_some())];
        for person in order {
            state.extend([
                u8::from(self.connected[person]),
                u8::from(self.used[person]),
            ]);
            let member = room.and_then(|room| {
                let is_theirs = |member: &&Member| cast.person(&member.main) == person;
                room.members.iter().find(is_theirs)
            });
            state.push(member.map_or(0, |member| 1 + member.seat.phase() as u8));
            state.push(
                member
                    .and_then(|member| member.seat.deadline())
                    .map_or(0, left),
            );
            // The user who opened the member's connection.
            let connection = member.and_then(|member| member.connection.as_ref());
            state.push(connection.map_or(0, |there| {
                let is_it = |connection: &Arc<Connection>| Arc::ptr_eq(connection, there);
                let own = order.iter().position(|own| is_it(&cast.connections[*own]));
                own.map_or(PEOPLE as u8 + 1, |own| 1 + own as u8)
            }));
            let caller = room.and_then(|room| {
                let is_theirs = |caller: &&PendingMember| {
                    Arc::ptr_eq(&caller.connection, &cast.connections[person])
                };
                room.callers.iter().find(is_theirs)
            });
            state.push(caller.map_or(0, |caller| left(caller.until)));
            // The validity of the newest ticket.
            state.push(match (&self.tickets[person], member) {
                (None, _) => 0,
                (Some(ticket), Some(member))
                    if member.seat.would_admit(
                        member.main.peer.ip(),
                        ticket.passcode.reveal(),
                        self.now,
                    ) =>
                {
                    2
                }
                (Some(_), _) => 1,
            });
        }
        state
    }
}

#[test]
fn in_every_order_of_events_a_room_ends_exactly_when_it_is_empty() {
    assert!(
        walk(RoomsWorld::new()) > 1000,
        "the search explored too few worlds"
    );
}
