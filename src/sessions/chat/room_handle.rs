//! A handle to a room's threads.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portal_net::lock::Mutex;
use portal_net::{Listener, Port};

use portal_core::clock::Alarm;
use portal_core::notify::Notifier;
use portal_core::seat::PortToken;

/// Wakes a room's threads. Used by the thread that closes the room.
pub(crate) struct RoomHandle {
    pub(crate) port: Port,
    /// The listener of the thread `room-50005`, which closes it on exit.
    pub(crate) listener: Weak<Listener>,
    /// The next tick that `timer-50005` must see. Written only under the rooms' lock.
    pub(crate) alarm: Alarm,
    /// Wakes `timer-50005`.
    pub(crate) timer: Notifier,
    pub(crate) closed: AtomicBool,
    /// Identifies this instance of the room to the other servers.
    pub(crate) attachment: AtomicU64,
    /// The token for the room's port, once the room has closed.
    pub(crate) token: Mutex<Option<PortToken>>,
}

impl RoomHandle {
    /// Closes the room to new connections. `room-50005` then cleans up and returns `token`.
    pub(crate) fn close(&self, token: Option<PortToken>) {
        *self.token.lock() = token;
        self.closed.store(true, Ordering::Release);
        self.timer.notify();
        if let Some(listener) = self.listener.upgrade() {
            listener.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
impl RoomHandle {
    /// A room without threads.
    pub(super) fn for_test(port: Port) -> std::sync::Arc<RoomHandle> {
        let timer = portal_core::clock::Clock::new().subscribe_timer();
        std::sync::Arc::new(RoomHandle {
            port,
            listener: Weak::new(),
            alarm: timer.alarm(),
            timer: timer.notifier(),
            closed: AtomicBool::new(false),
            attachment: AtomicU64::new(0),
            token: Mutex::new(None),
        })
    }
}
