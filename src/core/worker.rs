//! A worker: one thread, one port, one client at a time (seed 000, rules 3 to 6 and 9).
//!
//! A client connects and has one chance to send the passcode. With the right passcode, it can chat
//! until its visit ends; see [`crate::visit`]. The timer thread enforces the timeouts: it shuts the
//! socket down, and the read in the session returns.

use std::net::SocketAddr;
use std::sync::Arc;

use portal_net::{Listener, Stream};
use portal_wire::{CloseReason, Handshake, ServerDoc};

use crate::event::CoreEvent;
use crate::handshake::first_frame;
use crate::limits;
use crate::seat::{Arrival, SeatRequest};
use crate::seats::SharedSeat;
use crate::sockets::{ConnectionFactory, OpenedConnection};
use crate::state::ServerState;
use crate::visit::{Entrance, Visit, abandon};

/// Moves a visit to a connection that the server opens to the client, if the client requested that
/// with its passcode (seed 000, "contrast").
pub trait Dialer: Send + Sync {
    /// Replaces the visit's connection with the new one, and returns the welcome for it.
    ///
    /// # Errors
    /// The reason for rejecting the client, which has been notified.
    fn dial(
        &self,
        visit: &mut Visit<'_>,
        handshake: &Handshake,
    ) -> Result<ServerDoc<'static>, CloseReason>;
}

/// The state shared by all workers.
pub struct Worker {
    /// The server's state.
    pub state: Arc<ServerState>,
    /// Creates connections from accepted sockets.
    pub factory: ConnectionFactory,
    /// Connects to clients that request a callback.
    pub dialer: Arc<dyn Dialer>,
}

/// One worker's port.
struct WorkerPort<'w> {
    worker: &'w Worker,
    listener: &'w Listener,
}

impl Worker {
    /// The worker's thread: accepts until the clock stops.
    pub fn run(&self, seat: &SharedSeat, listener: &Listener) {
        let port = WorkerPort {
            worker: self,
            listener,
        };
        let is_over = || self.state.clock.is_stopped();
        self.state
            .accept_loop
            .accept_each(listener, is_over, |stream, peer| {
                port.receive(seat, stream, peer)
            });
    }
}

impl WorkerPort<'_> {
    /// Serves one client, from its connection until the seat is free again.
    fn receive(&self, seat: &SharedSeat, stream: Stream, peer: SocketAddr) {
        let (state, port) = (&self.worker.state, seat.port);
        let mut arrived = None;
        let end = state.panics.ended_by(|| {
            arrived = self.arrive(seat, stream, peer);
            CloseReason::PeerClosed
        });
        if let Some(opened) = arrived {
            state.events.emit(|| CoreEvent::Arrived { port, peer });
            Visit::new(state, seat, opened).run(self);
        } else if end == CloseReason::Panicked {
            abandon(state, seat, self, end);
        }
    }

    /// Asks the seat whether this client is expected. If so, stores the connection in the seat,
    /// where the timer thread finds it; otherwise rejects it.
    fn arrive(
        &self,
        seat: &SharedSeat,
        stream: Stream,
        peer: SocketAddr,
    ) -> Option<OpenedConnection> {
        let state = &self.worker.state;
        // A web page on the client's own machine must not use up the client's only attempt.
        let stream = self
            .worker
            .state
            .accept_loop
            .transport
            .screen(stream, seat.port)?;
        let now = state.clock.now();
        let label = seat.port.to_string();
        let arrival = seat.with_seat(|occupied| match occupied.seat.arrive(peer.ip(), now) {
            Arrival::Expected => {
                state.panics.fail_point("let-in");
                let (factory, timer) = (&self.worker.factory, seat.timer.clone());
                let opened = factory.connection(stream, seat.port, &label, timer);
                occupied.connection = Some(Arc::clone(&opened.0));
                Ok(opened)
            }
            Arrival::Unexpected => Err(stream),
        });
        arrival
            .map_err(|stream| self.reject(seat, stream, peer))
            .ok()
    }

    fn reject(&self, seat: &SharedSeat, stream: Stream, peer: SocketAddr) {
        let (port, room) = (seat.port, None);
        let accept_loop = &self.worker.state.accept_loop;
        accept_loop.turn_away(stream, &ServerDoc::WrongPasscode { port, room });
        // At shutdown, the server itself may connect to wake this thread (not on Linux).
        if !self.worker.state.clock.is_stopped() {
            let events = &accept_loop.events;
            events.emit(|| CoreEvent::UnexpectedConnection { port, peer });
        }
    }
}

impl Entrance for WorkerPort<'_> {
    fn admit(&self, visit: &mut Visit<'_>) -> Result<ServerDoc<'static>, CloseReason> {
        let (state, port) = (visit.state, visit.seat.port);
        state.panics.fail_point("handshake");
        let mut established = || {
            let now = state.clock.now();
            visit
                .seat
                .with_seat(|occupied| occupied.seat.hands_shaken(now));
        };
        let transport = &self.worker.factory.transport;
        transport.establish(&visit.connection, None, port, &mut established)?;
        let first = first_frame(&visit.connection, None, &mut *visit.decoder)?;
        let wish = match &first {
            Some(handshake) if handshake.callback.is_some() => SeatRequest::BeCalled,
            _ => SeatRequest::Stay,
        };
        let passcode = first.as_ref().map(|handshake| &*handshake.passcode);
        visit.check_passcode(passcode, wish)?;
        match first {
            Some(handshake) if wish == SeatRequest::BeCalled => {
                self.worker.dialer.dial(visit, &handshake)
            }
            _ => Ok(ServerDoc::Welcome {
                port,
                room: None,
                max: None,
            }),
        }
    }

    /// Rejects the connections that are waiting now, at most as many as the kernel queues (the
    /// backlog and one), so that a stream of unexpected connections can't block the port for its
    /// next client.
    fn reject_waiting(&self, seat: &SharedSeat) {
        let listener = self.listener;
        if listener.set_nonblocking(true).is_err() {
            return;
        }
        for _ in 0..=limits::WORKER_BACKLOG {
            let Ok((stream, peer)) = listener.accept() else {
                break;
            };
            self.reject(seat, stream, peer);
        }
        // A non-blocking listener would make the accept loop spin, so this retries until it works.
        while listener.set_nonblocking(false).is_err() {
            std::thread::sleep(limits::ACCEPT_BACKOFF);
        }
    }
}
