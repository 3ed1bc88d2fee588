//! A single port for all clients (`--single-port`; seeds 001, 002 and 003), without a portal or
//! passcodes.
//!
//! The accept thread starts one thread per connection. Seats, timers and state are the same as with
//! workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use portal_core::accept_loop::{AcceptLoop, trouble};
use portal_core::clock::{Deadline, Tick, Ticks};
use portal_core::connection::Connection;
use portal_core::seat::SeatNumber;
use portal_core::seats::{NoSeat, SharedSeat};
use portal_core::service::Refusal;
use portal_core::sockets::{ConnectionFactory, OpenedConnection};
use portal_core::state::ServerState;
use portal_core::transport::Transport;
use portal_core::visit::{Entrance, Visit, abandon};
use portal_net::{Listener, PendingConnections, Share, Stream, host_of, threads};
use portal_wire::{CloseReason, ServerDoc};

use crate::limits;

/// The state of the single port's thread.
pub struct SinglePort {
    pub state: Arc<ServerState>,
    pub accept_loop: AcceptLoop,
    pub factory: ConnectionFactory,
    /// Minimum time that a silent client keeps its seat when the server is full.
    pub handshake: Ticks,
    /// The callers that receive FULL over TLS.
    pub callers: Arc<PendingConnections>,
}

impl SinglePort {
    /// Runs the thread `single-50000`, which accepts connections until the clock stops, then joins
    /// the connections' threads.
    pub fn run(&self, listener: &Listener) {
        let (state, mut connections) = (&self.state, Vec::new());
        let is_over = || state.clock.is_stopped();
        self.accept_loop
            .accept_each(listener, is_over, |stream, peer| {
                connections.retain(|thread: &JoinHandle<()>| !thread.is_finished());
                state.panics.caught(|| {
                    state.panics.fail_point("single");
                    let now = state.clock.now();
                    if let Some(refusal) = self.accept_loop.check_ban(peer, now) {
                        return self.send_last(stream, peer, LastWord::Banned(refusal));
                    }
                    match self.claim_seat(stream, peer) {
                        Ok((number, opened)) => {
                            connections.extend(self.start(number, opened));
                        }
                        Err(stream) => self.send_last(stream, peer, LastWord::Full),
                    }
                });
            });
        for connection in connections {
            // Each thread catches its own panics. If one panicked anyway, it has exited.
            let _ = connection.join();
        }
    }

    /// Sends a final document to a caller. Over TLS this needs a handshake, and therefore a thread.
    fn send_last(&self, stream: Stream, peer: SocketAddr, last_word: LastWord) {
        if !stream.is_secured() {
            return last_word.send(&self.accept_loop, stream, peer);
        }
        let accepting = self.accept_loop.clone();
        self.callers
            .admit(stream, Share::default(), "full", move |caller| {
                if caller.handshake_within(limits::TIME_FOR_FULL).is_ok() {
                    last_word.send(&accepting, caller.stream().share(), peer);
                }
            });
    }

    /// Takes a seat in one step, because there is no passcode to wait for. If no seat is free,
    /// evicts a client to make room for the next caller, and returns the stream.
    fn claim_seat(
        &self,
        stream: Stream,
        peer: SocketAddr,
    ) -> Result<(SeatNumber, OpenedConnection), Stream> {
        let now = self.state.clock.now();
        let held = match self.state.seats.take(peer.ip()) {
            Ok(held) => held,
            Err(reason) => {
                self.evict_one(reason, peer, now);
                return Err(stream);
            }
        };
        held.claim_with(
            stream,
            |seat, token| seat.occupy(token, now),
            |shared, occupied, (), stream| {
                let (label, timer) = (shared.number.to_string(), shared.timer.clone());
                let opened = self.factory.connection(stream, shared.port, &label, timer);
                occupied.connection = Some(Arc::clone(&opened.0));
                (shared.number, opened)
            },
        )
    }

    /// Evicts one client to make room for the next caller: of all candidates, the one that
    /// connected first. Candidates have been connected for longer than the handshake timeout, and
    /// either have not completed their TLS handshake, or have no partner and have sent nothing, not
    /// even a `PING`. A silent client with a partner keeps its seat. If the newcomer's address has
    /// used up its seats, only clients at that address are candidates.
    fn evict_one(&self, reason: NoSeat, newcomer: SocketAddr, now: Tick) {
        let host = host_of(newcomer.ip());
        let occupied = |seat: &SharedSeat| Some((seat.number, seat.connection()?));
        let seats = self.state.seats.all().iter();
        let evictable = seats
            .filter_map(occupied)
            .filter(|(_, there)| reason == NoSeat::AllTaken || host_of(there.peer.ip()) == host)
            .filter(|(_, there)| Deadline::after(there.since, self.handshake).is_past(now))
            .filter(|(_, there)| !there.outbox.has_ended())
            .filter_map(|(number, there)| Some((self.why_evictable(number, &there)?, there)));
        match evictable.min_by_key(|(_, there)| there.since) {
            None => {}
            Some((CloseReason::Evicted, there)) => {
                let sentence = "your seat was given to another client: the server is full, you \
                                have no partner, and you have sent nothing; try again later";
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
        let service = &self.state.service;
        if service.welcomed(number).is_none() {
            return Some(CloseReason::HandshakeTimeout);
        }
        let has_partner = service.welcomed(number.partner()).is_some();
        (!has_partner && connection.read_at().is_none()).then_some(CloseReason::Evicted)
    }

    /// Starts a thread for a new client, or sends FULL.
    fn start(&self, number: SeatNumber, opened: OpenedConnection) -> Option<JoinHandle<()>> {
        let connection = Arc::clone(&opened.0);
        let (state, entrance) = (Arc::clone(&self.state), self.entrance());
        let thread = threads::start(format!("seat-{number}"), move || {
            if let Some(seat) = state.seats.seat(number) {
                Visit::new(&state, seat, opened).run(&entrance);
            }
        });
        let events = &self.accept_loop.events;
        let failed = |error| {
            trouble(events, "start a connection's thread", &error);
            connection.outbox.send_doc(&ServerDoc::Full);
            if let Some(seat) = self.state.seats.seat(number) {
                let end = CloseReason::PeerClosed;
                abandon(&self.state, seat, &self.entrance(), end);
            }
        };
        thread.map_err(failed).ok()
    }

    fn entrance(&self) -> AnyClient {
        let transport = Arc::clone(&self.factory.transport);
        AnyClient { transport }
    }
}

/// The reason why a caller gets no seat.
enum LastWord {
    Full,
    Banned(Refusal),
}

impl LastWord {
    fn send(&self, accept_loop: &AcceptLoop, stream: Stream, peer: SocketAddr) {
        match self {
            LastWord::Full => accept_loop.send_full(stream, peer),
            LastWord::Banned(refusal) => accept_loop.turn_away(stream, &refusal.doc()),
        }
    }
}

/// Admits every client.
struct AnyClient {
    transport: Arc<dyn Transport>,
}

impl Entrance for AnyClient {
    fn admit(&self, visit: &mut Visit<'_>) -> Result<ServerDoc<'static>, CloseReason> {
        let port = visit.seat.port;
        self.transport
            .establish(&visit.connection, None, port, &mut || {})?;
        Ok(ServerDoc::WelcomeSingle {
            seat: visit.seat.number.get(),
            max: None,
        })
    }
}
