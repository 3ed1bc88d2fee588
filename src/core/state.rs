//! The state that the threads of a server share.

use std::sync::Arc;

use portal_wire::CloseReason;

use crate::accept_loop::AcceptLoop;
use crate::clock::Clock;
use crate::connection::Connection;
use crate::event::Events;
use crate::panics::Panics;
use crate::seats::{Seats, SharedSeat};
use crate::service::Service;

/// The state of a running server. Each field that changes has its own lock.
pub struct ServerState {
    /// The time in ticks, and the stop signal.
    pub clock: Clock,
    /// Emits events.
    pub events: Events,
    /// Catches panics.
    pub panics: Panics,
    /// All seats, and the workload stack.
    pub seats: Arc<Seats>,
    /// Accepts and rejects callers.
    pub accept_loop: AcceptLoop,
    /// Serves the clients in the seats.
    pub service: Arc<dyn Service>,
}

impl ServerState {
    /// Returns whether a worker or the service listens on this port.
    pub fn listens_at(&self, port: u16) -> bool {
        let mut seats = self.seats.all().iter();
        seats.any(|seat| seat.port.get() == port) || self.service.listens_at(port)
    }

    /// Closes a connection that the service has forgotten. Afterwards, the seat is closing. Returns
    /// the effective reason, which is the earlier one if the timer or a full socket had already
    /// ended the connection.
    pub(crate) fn take_out(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        end: CloseReason,
    ) -> CloseReason {
        self.service.forget(seat.number, connection);
        seat.with_seat(|occupied| {
            occupied.seat.close();
            occupied.connection = None;
            occupied.keepalive = None;
        });
        connection.outbox.hang_up(end);
        connection.outbox.ended().unwrap_or(end)
    }
}
