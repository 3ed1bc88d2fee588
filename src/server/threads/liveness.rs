//! Ends the connections of clients that have vanished: their machine lost its power, or the network
//! is gone.
//!
//! While bytes are waiting to be acknowledged, Linux sends no keepalive probes, and by itself it gives up
//! after some sixteen minutes. `TCP_USER_TIMEOUT` would end that sooner, but also for a client that
//! is there and only does not read. So one thread looks every few seconds at what the system knows of
//! each connection. No other thread wakes for that, and a seat without a client costs nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Subscription, Tick, Ticks};
use crate::server::seats::SharedSeat;
use crate::server::session::Sessions;

/// What the thread `liveness` uses.
pub(crate) struct Liveness {
    pub(crate) sessions: Arc<Sessions>,
    /// How long a peer's system may leave everything unanswered.
    pub(crate) limit: Duration,
    /// How often to look.
    pub(crate) every: Ticks,
}

impl Liveness {
    /// The thread `liveness`: looks until the clock stops.
    pub(crate) fn run(&self, subscription: &Subscription) {
        let Sessions { clock, panics, .. } = &*self.sessions;
        let next = || Tick(clock.now().0 + self.every.get() - 1);
        while subscription.wait_past(next()) {
            panics.caught(|| self.look());
        }
    }

    fn look(&self) {
        let seats = self.sessions.seats.all().iter();
        for connection in seats.filter_map(SharedSeat::connection) {
            connection.outbox.check_peer(self.limit);
        }
        for connection in self.sessions.rooms.with(|rooms| rooms.connections()) {
            connection.outbox.check_peer(self.limit);
        }
    }
}
