//! The life of a connection: handshake, welcome, session, cleanup.
//!
//! The order of the cleanup matters. The client leaves all registries before its connection is
//! closed. The connections that arrived while the seat was taken are rejected before the passcode
//! changes and the port is returned to the stack, so none of them can be mistaken for the next
//! client. A panic affects only this client: the cleanup is the same, and a step that has already
//! been done does nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use portal_net::Port;
use portal_wire::{CloseReason, ServerDoc};

use crate::connection::Connection;
use crate::event::{CoreEvent, Place};
use crate::panics::Panics;
use crate::seat::{SeatRequest, Verdict};
use crate::seats::SharedSeat;
use crate::sockets::OpenedConnection;
use crate::state::ServerState;
use crate::transport::Decoder;

/// The way clients get a seat.
pub trait Entrance {
    /// Performs all steps from the connection to the welcome, and returns the welcome.
    ///
    /// # Errors
    /// The reason for rejecting the client, which has been notified.
    fn admit(&self, visit: &mut Visit<'_>) -> Result<ServerDoc<'static>, CloseReason>;

    /// The entrance's name in events; `None` for the workers.
    fn name(&self) -> Option<&'static str> {
        None
    }

    /// Rejects the connections that have arrived at the seat's port during the visit.
    fn reject_waiting(&self, seat: &SharedSeat) {
        let _ = seat;
    }

    /// The event for the end of a visit.
    fn end_event(
        &self,
        port: Port,
        peer: SocketAddr,
        end: CloseReason,
        _admitted: bool,
    ) -> CoreEvent {
        CoreEvent::Closed { port, peer, end }
    }
}

/// A connection in a seat.
pub struct Visit<'v> {
    /// The server's state.
    pub state: &'v ServerState,
    /// The seat. It is reserved for this visit or taken by it.
    pub seat: &'v SharedSeat,
    /// The client.
    pub connection: Arc<Connection>,
    /// Decodes the client's input.
    pub decoder: Box<dyn Decoder>,
}

impl<'v> Visit<'v> {
    /// Creates the visit of a connection that has taken its seat.
    pub fn new(
        state: &'v ServerState,
        seat: &'v SharedSeat,
        opened: OpenedConnection,
    ) -> Visit<'v> {
        let (connection, decoder) = opened;
        Visit {
            state,
            seat,
            connection,
            decoder,
        }
    }

    /// Serves the client until its connection is closed and the seat is free.
    pub fn run(mut self, entrance: &impl Entrance) {
        let (state, seat) = (self.state, self.seat);
        let mut admitted = false;
        let end = state.panics.ended_by(|| {
            let welcome = match entrance.admit(&mut self) {
                Ok(welcome) => welcome,
                Err(end) => return end,
            };
            let now = state.clock.now();
            if let Err(end) = state.accept_loop.reject_if_banned(&self.connection, now) {
                return end;
            }
            admitted = true;
            let (port, peer) = (seat.port, self.connection.peer);
            let via = entrance.name();
            let seat_number = match state.seats.place(seat.number) {
                Place::Port(_) => None,
                Place::Seat(number) => Some(number.get().into()),
            };
            state.events.emit(|| CoreEvent::Seated {
                port,
                peer,
                via,
                seat: seat_number,
            });
            let (connection, decoder) = (&self.connection, &mut *self.decoder);
            state.service.serve(seat, connection, &welcome, decoder)
        });
        // The last handle closes the socket. It must be the seat's, so drop this one before the
        // cleanup.
        drop(self);
        clear_up_twice(&state.panics, end, |end| {
            clear_up(state, seat, entrance, end, admitted);
        });
    }

    /// Presents a passcode to the seat, which accepts the right one once.
    ///
    /// # Errors
    /// The reason for rejecting the client, which has been notified.
    pub fn check_passcode(
        &self,
        passcode: Option<&str>,
        wish: SeatRequest,
    ) -> Result<(), CloseReason> {
        let (port, peer, now) = (self.seat.port, self.connection.peer, self.state.clock.now());
        let check = |occupied: &mut crate::seats::SeatSlot| {
            occupied.seat.check_passcode(passcode, wish, now)
        };
        match self.seat.with_seat(check) {
            Verdict::Admitted => Ok(()),
            Verdict::Refused => {
                let events = &self.state.events;
                events.emit(|| CoreEvent::WrongPasscode { port, peer });
                let outbox = &self.connection.outbox;
                outbox.send_doc(&ServerDoc::WrongPasscode { port, room: None });
                Err(CloseReason::WrongPasscode)
            }
            Verdict::TooLate => Err(CloseReason::PeerClosed),
        }
    }
}

/// Frees a seat whose visit can't begin, for the reason `end`.
pub fn abandon(state: &ServerState, seat: &SharedSeat, entrance: &impl Entrance, end: CloseReason) {
    clear_up_twice(&state.panics, end, |end| {
        clear_up(state, seat, entrance, end, false);
    });
}

/// Cleans up after a visit that ended for the reason `end`. If the cleanup panics, repeats it from
/// the beginning.
pub(crate) fn clear_up_twice(panics: &Panics, end: CloseReason, clear_up: impl Fn(CloseReason)) {
    let cleared = panics.ended_by(|| {
        clear_up(end);
        CloseReason::PeerClosed
    });
    if cleared == CloseReason::Panicked {
        panics.caught(|| clear_up(end));
    }
}

fn clear_up(
    state: &ServerState,
    seat: &SharedSeat,
    entrance: &impl Entrance,
    end: CloseReason,
    admitted: bool,
) {
    // This may no longer be the connection that the visit began with.
    if let Some(connection) = seat.connection() {
        let end = state.take_out(seat, &connection, end);
        let (port, peer) = (seat.port, connection.peer);
        let event = || entrance.end_event(port, peer, end, admitted);
        state.events.emit(event);
    } else {
        seat.with_seat(|occupied| occupied.seat.close());
    }
    state.panics.fail_point("clear-up");
    entrance.reject_waiting(seat);
    state.seats.free(seat);
}
