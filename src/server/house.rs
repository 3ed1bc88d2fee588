//! What the server's threads share, and the locks around it.
//!
//! Lock order: hall, then seat, then outbox; the stack is a leaf. Never two of one kind. No lock
//! but an outbox's own is held over a write, none over a read or an accept.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard};

use super::budget::ThreadBudget;
use super::room::Door;

use crate::clock::{Alarm, Clock};
use crate::event::{Events, What};
use crate::hall::{Accounts, Guest, Pairs, People, Rooms};
use crate::net::{Port, Tap};
use crate::seat::{Asker, Lease, PasscodeKind, Seat, SeatNumber, Ticket, WorkloadStack};
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
    /// The portal's port, or the single one.
    pub(super) portal: Port,
    pub(super) posts: Vec<Post>,
    pub(super) pairs: Pairs,
    pub(super) people: People,
    /// Guarded by one lock, under which people join and rooms end.
    pub(super) rooms: Mutex<Rooms<Arc<Door>>>,
    /// The threads of the rooms' doors, to be joined. A leaf lock.
    pub(super) room_threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where rooms listen, and whether the system chooses their ports.
    pub(super) bind: IpAddr,
    pub(super) any_port: bool,
    /// For the threads that are started later: the rooms'.
    pub(super) thread_budget: ThreadBudget,
    /// For every socket that is opened later.
    pub(super) tap: Tap,
    /// For threads that are started later and share all this.
    pub(super) this: Weak<House>,
    /// `None` where names are not protected by passwords.
    pub(super) accounts: Option<Accounts>,
    /// What greets whoever logs in.
    pub(super) message_of_the_day: Option<String>,
}

/// Where one worker and its timer thread work: a port and its seat.
pub(super) struct Post {
    pub(super) number: SeatNumber,
    pub(super) port: Port,
    /// Wakes the timer thread to write out what was spilled. Its channel holds one.
    pub(super) work: Sender<()>,
    /// The next tick that the timer thread has to see. Written only under `seat`'s lock.
    alarm: Alarm,
    seat: Mutex<OccupiedSeat>,
}

/// A seat and the connection of whoever is in it; one lock for both, so that whoever closes the
/// seat closes the connection that belongs to it and not the next one.
pub(super) struct OccupiedSeat {
    pub(super) seat: Seat,
    /// Set from the arrival until the worker has cleared up.
    pub(super) connection: Option<Arc<Guest>>,
}

impl Post {
    pub(super) fn new(
        lease: (SeatNumber, Port),
        seat: Seat,
        alarm: Alarm,
        work: Sender<()>,
    ) -> Post {
        let (number, port) = lease;
        let seat = Mutex::new(OccupiedSeat {
            seat,
            connection: None,
        });
        Post {
            number,
            port,
            work,
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

impl House {
    /// Takes a seat off the stack and promises it to `asker`; `None` when all are occupied.
    pub(super) fn reserve(&self, asker: Asker) -> Option<Ticket> {
        // The stack's lock is released before the seat's is taken. In between the port is in the
        // portal's hand, in neither of both, and nobody else can get at it.
        let lease = self.stack.lock().pop()?;
        let post = &self.posts[lease.seat().index()];
        let now = self.clock.now();
        match post.with_seat(|occupied| occupied.seat.reserve(lease, asker, now)) {
            Ok(ticket) => Some(ticket),
            Err(lease) => {
                self.stack.lock().push(lease);
                None
            }
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
        if let Some(lease) = post.with_seat(|occupied| occupied.seat.free(next)) {
            self.put_back(lease);
        }
    }

    /// Puts a port back on the stack, now that its seat is free, and says so.
    pub(super) fn put_back(&self, lease: Lease) {
        let port = lease.port();
        self.stack.lock().push(lease);
        self.events.tell(|| What::Freed { port });
    }
}
