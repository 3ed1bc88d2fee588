//! What the server's threads share, and the locks around it.
//!
//! Lock order: hall, then seat, then outbox; the stack is a leaf. Never two of one kind. No lock
//! but an outbox's own is held over a write, none over a read or an accept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::accepting::Callers;
use super::budget::ThreadBudget;
use super::guesses::Guesses;
use super::pace::Rate;
use super::room_handle::{RoomHandle, ServeRoom};

use crate::clock::{Alarm, Clock, Ticks};
use crate::event::{Events, What};
use crate::hall::{Accounts, Guest, Pairs, People, Rooms};
use crate::net::{Port, Spare, Tap, host_of};
use crate::seat::{Asker, Lease, PasscodeKind, Seat, SeatNumber, Ticket, WorkloadStack};
use crate::wake::Waker;
use crate::wire::Codec;

/// Everything that is shared. Each field guards itself.
pub(super) struct House {
    pub(super) clock: Clock,
    pub(super) events: Events,
    pub(super) codec: Codec,
    pub(super) passcodes: PasscodeKind,
    /// One tick, which is also the longest that a timer thread's write may take.
    pub(super) tick: Duration,
    pub(super) stack: Mutex<WorkloadStack>,
    /// For callers who come when there is no descriptor left.
    pub(super) spare: Spare,
    /// Who has guessed passwords.
    pub(super) guesses: Guesses,
    /// How fast one client may talk.
    pub(super) rate: Option<Rate>,
    /// How long before the idle timeout a guest is warned.
    pub(super) idle_soon: Option<Ticks>,
    /// Who has how many seats, if that is limited.
    pub(super) visitors: Option<Visitors>,
    /// The portal's port, or the single one.
    pub(super) portal: Port,
    pub(super) posts: Vec<Post>,
    pub(super) pairs: Pairs,
    pub(super) people: People,
    /// Guarded by one lock, under which people join and rooms end.
    pub(super) rooms: Mutex<Rooms<Arc<RoomHandle>>>,
    /// The threads of the rooms' doors, to be joined. A leaf lock.
    pub(super) room_threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where rooms listen, and whether the system chooses their ports.
    pub(super) bind: IpAddr,
    pub(super) any_port: bool,
    /// For the threads that are started later: the rooms'.
    pub(super) thread_budget: ThreadBudget,
    /// What a room's thread does.
    pub(super) serve_room: ServeRoom<House>,
    /// For every socket that is opened later.
    pub(super) tap: Tap,
    /// For threads that are started later and share all this.
    pub(super) this: Weak<House>,
    /// `None` where names are not protected by passwords.
    pub(super) accounts: Option<Accounts>,
    /// What greets whoever logs in.
    pub(super) message_of_the_day: Option<String>,
    /// Where the next panic is to be, in a test.
    #[cfg(test)]
    pub(super) panic_at: Mutex<Option<&'static str>>,
}

/// Where one worker and its timer thread work: a port and its seat.
pub(super) struct Post {
    pub(super) number: SeatNumber,
    pub(super) port: Port,
    /// Wakes the timer thread to write out what was spilled.
    pub(super) timer: Waker,
    /// The next tick that the timer thread has to see. Written only under `seat`'s lock.
    alarm: Alarm,
    seat: Mutex<OccupiedSeat>,
}

/// A seat and the connection of whoever is in it; one lock for both, so that whoever closes the
/// seat closes the connection that belongs to it and not the next one.
pub(super) struct OccupiedSeat {
    pub(super) seat: Seat,
    /// Whose seat it counts as, from the reservation until its port goes back.
    pub(super) counted: Option<IpAddr>,
    /// Set from the arrival until the worker has cleared up.
    pub(super) connection: Option<Arc<Guest>>,
}

impl Post {
    pub(super) fn new(lease: (SeatNumber, Port), seat: Seat, alarm: Alarm, timer: Waker) -> Post {
        let (number, port) = lease;
        let seat = Mutex::new(OccupiedSeat {
            seat,
            counted: None,
            connection: None,
        });
        Post {
            number,
            port,
            timer,
            alarm,
            seat,
        }
    }

    /// Does something to the seat under its lock and sets the alarm to what its state then asks
    /// for, which is why there is no other way to the seat.
    pub(super) fn with_seat<T>(&self, action: impl FnOnce(&mut OccupiedSeat) -> T) -> T {
        let mut occupied: MutexGuard<'_, OccupiedSeat> = self.seat.lock();
        let result = action(&mut occupied);
        self.alarm.set(occupied.seat.deadline());
        result
    }
}

/// How many seats each address has reserved or taken (`--max-per-ip`).
pub(super) struct Visitors {
    most: usize,
    /// A leaf lock. Only addresses that have a seat are in it.
    seats: Mutex<HashMap<IpAddr, usize>>,
}

impl Visitors {
    /// Each address may have so many.
    pub(super) fn of(most: usize) -> Visitors {
        Visitors {
            most,
            seats: Mutex::default(),
        }
    }

    /// Counts one more seat for `address`; `false` if that would be one too many.
    fn come(&self, address: IpAddr) -> bool {
        let mut seats = self.seats.lock();
        let count = seats.entry(address).or_default();
        let may = *count < self.most;
        *count += usize::from(may);
        may
    }

    fn leave(&self, address: IpAddr) {
        let mut seats = self.seats.lock();
        if let Some(count) = seats.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                seats.remove(&address);
            }
        }
    }
}

/// A port on its way from the stack to its seat. Should its thread panic on that way, it goes back.
pub(super) struct Hand<'h> {
    house: &'h House,
    lease: Option<Lease>,
    address: IpAddr,
}

impl<'h> Hand<'h> {
    /// Where it goes.
    pub(super) fn post(&self) -> Option<&'h Post> {
        let lease = self.lease.as_ref()?;
        self.house.posts.get(lease.seat().index())
    }

    /// Puts the port into its seat with `sit`, which gives it back when the seat is not free.
    pub(super) fn give<T>(
        mut self,
        occupied: &mut OccupiedSeat,
        sit: impl FnOnce(&mut Seat, Lease) -> Result<T, Lease>,
    ) -> Option<T> {
        let lease = self.lease.take()?;
        match sit(&mut occupied.seat, lease) {
            Ok(seated) => {
                occupied.counted = Some(self.address);
                Some(seated)
            }
            Err(lease) => {
                self.lease = Some(lease);
                None
            }
        }
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.house.stack.lock().push(lease);
            self.house.uncount(self.address);
        }
    }
}

impl House {
    /// What a thread that accepts needs for callers who can't be taken in.
    pub(super) fn callers(&self) -> Callers<'_> {
        Callers {
            events: &self.events,
            spare: &self.spare,
            codec: self.codec,
        }
    }

    /// Takes a port off the stack for somebody at `address`; `None` when all are occupied, or that
    /// address has as many as it may have.
    pub(super) fn take_port(&self, address: IpAddr) -> Option<Hand<'_>> {
        let address = host_of(address);
        let mut hand = Hand {
            house: self,
            lease: None,
            address,
        };
        if let Some(visitors) = &self.visitors
            && !visitors.come(address)
        {
            return None;
        }
        // The stack's lock is released before the seat's is taken. In between the port is in this
        // thread's hand, in neither of both, and nobody else can get at it.
        hand.lease = self.stack.lock().pop();
        if hand.lease.is_none() {
            self.uncount(address);
            return None;
        }
        Some(hand)
    }

    /// Takes a seat off the stack and promises it to `asker`; `None` when there is none for them.
    /// `tell` is called under the seat's lock, so that nobody is told of the arrival first.
    pub(super) fn reserve(&self, asker: Asker, tell: impl FnOnce(&Ticket)) -> Option<Ticket> {
        let hand = self.take_port(asker.address())?;
        self.may_panic("portal");
        let now = self.clock.now();
        hand.post()?.with_seat(|occupied| {
            let ticket = hand.give(occupied, |seat, lease| seat.reserve(lease, asker, now))?;
            tell(&ticket);
            Some(ticket)
        })
    }

    fn uncount(&self, address: IpAddr) {
        if let Some(visitors) = &self.visitors {
            visitors.leave(address);
        }
    }

    /// The port of the seat beside `number`, for the event line.
    pub(super) fn partner_port(&self, number: SeatNumber) -> Option<Port> {
        let (pair, side) = number.pair_and_side();
        self.posts.get(pair * 2 + (1 - side)).map(|post| post.port)
    }

    /// The last step of a session: the seat's passcode changes, and its port goes back on the
    /// stack.
    pub(super) fn free_seat(&self, post: &Post) {
        let next = self.passcodes.random();
        let shown = self.events.passcode(&next);
        if let Some(lease) = post.with_seat(|occupied| occupied.seat.free(next)) {
            self.put_back(lease, shown);
        }
    }

    /// Puts a port back on the stack, now that its seat is free, and says so. `passcode` is the new
    /// one, if it is to be shown.
    pub(super) fn put_back(&self, lease: Lease, passcode: Option<String>) {
        let port = lease.port();
        if self.visitors.is_some()
            && let Some(post) = self.posts.get(lease.seat().index())
            && let Some(address) = post.with_seat(|occupied| occupied.counted.take())
        {
            self.uncount(address);
        }
        // Told under the lock, before anybody can take the port again, so that nobody is told the other
        // way round. Telling never waits.
        let mut stack = self.stack.lock();
        stack.push(lease);
        self.events.tell(|| What::Freed { port, passcode });
    }

    /// A place at which a test may make this thread panic, to see that it costs one client alone.
    /// Outside of tests there is nothing here.
    pub(super) fn may_panic(&self, place: &'static str) {
        #[cfg(test)]
        if self.panic_at.lock().take_if(|at| *at == place).is_some() {
            panic!("made to panic at {place}");
        }
        let _ = place;
    }
}
