//! What the server keeps with each room: the way to wake its threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::budget::ThreadToken;
use crate::clock::{Alarm, Timekeeping};
use crate::hall::Name;
use crate::net::{Listener, Port};
use crate::seat::Lease;
use crate::wake::Waker;

/// The function that a room's thread runs. `S` is what the server's threads share. Whoever makes rooms
/// is handed it, and need not know what is done there.
pub(super) type ServeRoom<S> =
    fn(&Arc<S>, &Name, &Arc<RoomHandle>, Arc<Listener>, Timekeeping, ThreadToken);

/// What the server keeps with each room: the way to wake its threads.
pub(super) struct RoomHandle {
    pub(super) port: Port,
    /// `room-50005` has the other end, and closes the listener when it ends.
    pub(super) listener: Weak<Listener>,
    /// The next tick that `timer-50005` has to see. Written only under the rooms' lock.
    pub(super) alarm: Alarm,
    /// Wakes `timer-50005`.
    pub(super) timer: Waker,
    pub(super) closed: AtomicBool,
    /// The right to the room's port, from the moment the room has ended.
    pub(super) lease: Mutex<Option<Lease>>,
}

impl RoomHandle {
    /// Nobody comes in any more: `room-50005` clears up and puts `lease` back.
    pub(super) fn close(&self, lease: Lease) {
        *self.lease.lock() = Some(lease);
        self.closed.store(true, Ordering::Release);
        self.timer.wake();
        if let Some(listener) = self.listener.upgrade() {
            listener.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
