//! One port for everyone (`--single-port`; seeds 001, 002 and 003): no portal and no passcode.
//!
//! The thread that accepts hands each connection to a thread of its own, and that thread stays with
//! it. Everything behind the door is as on a worker's port: the same seats from the same stack, the
//! same timers, the same sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::clock::{Deadline, Tick, Ticks};
use crate::event::ChatEvent;
use crate::hall::Connection;
use crate::limits;
use crate::net::{Listener, PendingConnections, Share, Stream, host_of};
use crate::seat::SeatNumber;
use crate::server::accepting::{Accepting, trouble};
use crate::server::seats::{NoSeat, SharedSeat};
use crate::server::session::{AtWorker, Session, Sessions};
use crate::server::sockets::{Opened, Sockets};
use crate::wire::{CloseReason, ServerDoc};
use portal_core::transport::{Decoder, Transport};

/// What the single port's thread uses.
pub(crate) struct SinglePort {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) accepting: Accepting,
    pub(crate) sockets: Sockets,
    /// Minimum time that a silent client keeps its seat if the server is full.
    pub(crate) handshake: Ticks,
    /// Callers that are told over TLS that the server is full.
    pub(crate) callers: Arc<PendingConnections>,
}

impl SinglePort {
    /// The thread `single-50000`: accepts until the clock stops, and then waits for the connections.
    pub(crate) fn run(&self, listener: &Listener) {
        let (sessions, mut connections) = (&self.sessions, Vec::new());
        let is_over = || sessions.clock.is_stopped();
        self.accepting
            .accept_each(listener, is_over, |stream, peer| {
                connections.retain(|thread: &JoinHandle<()>| !thread.is_finished());
                sessions.panics.caught(|| {
                    sessions.panics.may_panic("single");
                    match self.sit_down(stream, peer) {
                        Ok((number, opened)) => {
                            connections.extend(self.start(number, opened));
                        }
                        Err(stream) => self.say_full(stream, peer),
                    }
                });
            });
        for connection in connections {
            // Each catches what may panic; if one ended by a panic all the same, it ended.
            let _ = connection.join();
        }
    }

    /// Sends FULL to a caller. Over TLS this takes a handshake, and therefore a thread.
    fn say_full(&self, stream: Stream, peer: SocketAddr) {
        if !stream.is_secured() {
            return self.accepting.say_full(stream, peer);
        }
        let accepting = self.accepting.clone();
        self.callers
            .admit(stream, Share::default(), "full", move |caller| {
                if caller.handshake_within(limits::TIME_FOR_FULL).is_ok() {
                    accepting.say_full(caller.stream().share(), peer);
                }
            });
    }

    /// Nobody has to prove anything here, so the seat is taken in one step. Without one the caller is
    /// handed back.
    fn sit_down(&self, stream: Stream, peer: SocketAddr) -> Result<(SeatNumber, Opened), Stream> {
        let now = self.sessions.clock.now();
        let held = match self.sessions.seats.take(peer.ip()) {
            Ok(held) => held,
            Err(reason) => {
                self.evict_one(reason, peer, now);
                return Err(stream);
            }
        };
        held.sit(
            stream,
            |seat, lease| seat.sit(lease, now),
            |shared, occupied, (), stream| {
                let (label, timer) = (shared.number.to_string(), shared.timer.clone());
                let opened = self.sockets.connection(stream, shared.port, &label, timer);
                occupied.connection = Some(Arc::clone(&opened.0));
                (shared.number, opened)
            },
        )
    }

    /// Makes room for the next caller. Candidates have been connected for longer than the handshake
    /// timeout, and either have not completed their TLS handshake, or have no partner and have sent
    /// nothing, not even a `PING`. Evicts the candidate that connected first. A listening client
    /// with a partner keeps its seat. If the newcomer's address has used up its seats, only clients
    /// of that address are candidates.
    fn evict_one(&self, reason: NoSeat, newcomer: SocketAddr, now: Tick) {
        let host = host_of(newcomer.ip());
        let occupied = |seat: &SharedSeat| Some((seat.number, seat.connection()?));
        let seats = self.sessions.seats.all().iter();
        let evictable = seats
            .filter_map(occupied)
            .filter(|(_, there)| reason == NoSeat::AllTaken || host_of(there.peer.ip()) == host)
            .filter(|(_, there)| Deadline::after(there.since, self.handshake).is_past(now))
            .filter(|(_, there)| !there.outbox.has_ended())
            .filter_map(|(number, there)| Some((self.why_evictable(number, &there)?, there)));
        match evictable.min_by_key(|(_, there)| there.since) {
            None => {}
            Some((CloseReason::Evicted, there)) => {
                let sentence = "your seat goes to another client: the server is full, and you have no partner and \
                                have sent nothing; connect again when there is room";
                let farewell = ServerDoc::Notice(sentence.into());
                there
                    .outbox
                    .end_saying(CloseReason::Evicted, Some(&farewell));
            }
            Some((end, there)) => {
                there.outbox.end(end);
            }
        }
    }

    /// Returns the reason for evicting the client in seat `number`, if it may be evicted.
    fn why_evictable(&self, number: SeatNumber, connection: &Connection) -> Option<CloseReason> {
        let pairs = &self.sessions.pairs;
        if pairs.connection(number).is_none() {
            return Some(CloseReason::HandshakeTimeout);
        }
        let has_partner = pairs.connection(number.partner()).is_some();
        (!has_partner && connection.read_at().is_none()).then_some(CloseReason::Evicted)
    }

    /// Starts the thread of a newcomer, or says FULL.
    fn start(
        &self,
        number: SeatNumber,
        (connection, mut decoder): Opened,
    ) -> Option<JoinHandle<()>> {
        let transport = Arc::clone(&self.sockets.transport);
        let (sessions, served) = (Arc::clone(&self.sessions), Arc::clone(&connection));
        let builder = Builder::new()
            .name(format!("seat-{number}"))
            .stack_size(limits::THREAD_STACK);
        let thread = builder.spawn(move || {
            if let Some(seat) = sessions.seats.seat(number) {
                let end = sessions
                    .panics
                    .ended_by(|| serve(&sessions, seat, &served, &*transport, &mut *decoder));
                sessions.end(seat, &served, end);
                sessions.seats.free(seat);
            }
        });
        thread
            .map_err(|error| {
                trouble(
                    &self.accepting.events,
                    "start a connection's thread",
                    &error,
                );
                connection.outbox.send_doc(&ServerDoc::Full);
                if let Some(seat) = self.sessions.seats.seat(number) {
                    self.sessions
                        .end(seat, &connection, CloseReason::PeerClosed);
                    self.sessions.seats.free(seat);
                }
            })
            .ok()
    }
}

fn serve(
    sessions: &Sessions,
    seat: &SharedSeat,
    connection: &Arc<Connection>,
    transport: &dyn Transport,
    decoder: &mut dyn Decoder,
) -> CloseReason {
    let (port, peer) = (seat.port, connection.peer);
    if let Err(end) = transport.establish(connection, None, port, &mut || {}) {
        return end;
    }
    sessions.events.emit(|| ChatEvent::Seated {
        port,
        peer,
        via: None,
    });
    let welcome = ServerDoc::WelcomeSingle {
        seat: seat.number.get(),
        max: None,
    };
    sessions.pairs.enter(seat.number, connection, &welcome);
    Session::new(sessions, AtWorker::new(seat), connection).run(decoder)
}
