//! Closes the connections of vanished clients, whose machine lost power or whose network is down.
//!
//! While data is unacknowledged, Linux sends no keepalive probes, and it gives up only after about
//! 16 minutes. `TCP_USER_TIMEOUT` would close the connection sooner, but would also close that of a
//! client that is alive but does not read. Therefore one thread checks the kernel's state of each
//! connection every few seconds. No other thread wakes for this, and a seat without a client costs
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Subscription, Tick, Ticks};
use crate::seats::SharedSeat;
use crate::state::ServerState;

/// The state of the thread `liveness`.
pub struct Liveness {
    /// The server's state.
    pub state: Arc<ServerState>,
    /// The time after which a peer whose kernel answers nothing is considered vanished.
    pub limit: Duration,
    /// The time between two checks.
    pub every: Ticks,
}

impl Liveness {
    /// Runs the thread `liveness`: checks until the clock stops.
    pub fn run(&self, subscription: &Subscription) {
        let ServerState { clock, panics, .. } = &*self.state;
        let next = || Tick(clock.now().0 + self.every.get() - 1);
        while subscription.wait_past(next()) {
            panics.caught(|| self.look());
        }
    }

    fn look(&self) {
        let seats = self.state.seats.all().iter();
        for connection in seats.filter_map(SharedSeat::connection) {
            connection.outbox.check_peer(self.limit);
        }
        for connection in self.state.service.connections_without_a_seat() {
            connection.outbox.check_peer(self.limit);
        }
    }
}
