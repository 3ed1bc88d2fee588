//! The entrance for browsers (`--web`): one connection serves as both portal and worker.
//!
//! The thread `web-8080` accepts connections. Each connection has its own thread, which answers one
//! `GET`. If the request is for a WebSocket, the thread takes a seat off the workload stack, sends
//! the passcode, checks the client's reply, and serves the session, using the same seats, timers
//! and state as a worker. While it holds the seat, the seat's worker rejects all connections to its
//! port. At the end, this thread cleans up and returns the port to the stack.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use portal_core::accept_loop::{AcceptLoop, back_off};
use portal_core::clock::Ticks;
use portal_core::event::CoreEvent;
use portal_core::guard::keepalive::Keepalive;
use portal_core::handshake::first_frame;
use portal_core::seat::{SeatNumber, SeatRequest, Ticket};
use portal_core::seats::SharedSeat;
use portal_core::sockets::{ConnectionFactory, OpenedConnection};
use portal_core::state::ServerState;
use portal_core::visit::{Entrance, Visit};
use portal_net::{
    Host, Listener, Pending, PendingConnections, Port, Stream, Tap, is_timeout, reachable,
};
use portal_web::event::{EntranceEvent, emit_refused};
use portal_web::http::{self, Refusal, RefusedRequest, SharedRules};
use portal_web::{Page, upgrade};
use portal_wire::{CloseReason, ErrorCode, Handshake, ServerDoc};

use crate::callback::BAD_CALLBACK;
use crate::limits;
use crate::screened::OwnCallers;
use crate::web_socket::WebSocket;

/// State shared by the threads of this entrance.
#[derive(Clone)]
pub struct BrowserEntrance {
    pub state: Arc<ServerState>,
    /// Uses the WebSocket transport.
    pub accept_loop: AcceptLoop,
    pub factory: ConnectionFactory,
    /// Browsers that do not have a seat yet.
    pub callers: Arc<PendingConnections>,
    pub rules: SharedRules,
    pub page: Arc<Page>,
    pub port: Port,
    /// Idle time after which a browser is pinged.
    pub ping_every: Ticks,
    pub web_socket: Arc<WebSocket>,
    /// The addresses from which this server connects to its own workers.
    pub own_callers: OwnCallers,
    /// The address of the workers; `None` if all clients share a single port.
    pub workers: Option<Host>,
}

impl BrowserEntrance {
    /// Runs the thread `web-8080`, which accepts connections until the clock stops.
    pub fn run(&self, listener: &Listener) {
        let is_over = || self.state.clock.is_stopped();
        self.accept_loop
            .accept_each(listener, is_over, |stream, _| {
                self.state.panics.caught(|| {
                    let door = self.clone();
                    let share = self.rules.get().share_of(stream.peer());
                    self.callers.admit(stream, share, "browser", move |caller| {
                        door.state.panics.caught(|| door.serve(caller));
                    });
                });
            });
    }

    /// Serves one connection, from the request until it closes.
    fn serve(&self, caller: Pending) {
        // A caller that closes the connection early needs no response.
        if let Ok(Some((stream, begun))) = self.answer(&caller) {
            self.visit(caller, stream, &begun);
        } else {
            caller.stream().share().close();
        }
    }

    /// Answers the request. If it is for a WebSocket, completes the upgrade, and returns the stream
    /// and the bytes that followed the request. The stream's peer address is the client's, even
    /// behind a trusted proxy.
    fn answer(&self, caller: &Pending) -> io::Result<Option<(Stream, Vec<u8>)>> {
        let stream = caller.stream();
        if let Err(error) = caller.handshake() {
            http::refuse_plain_text(stream, &error);
            if !stream.is_secured() {
                return Ok(None);
            }
            let (port, peer, error) = (self.port, stream.peer(), error.to_string());
            let events = &self.state.events;
            events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
            return Ok(None);
        }
        let rules = self.rules.get();
        let request = match http::read_request(caller, &rules)? {
            Ok(request) => request,
            Err(refused) => return self.refuse(stream, &refused),
        };
        match request.path.as_str() {
            "/chat" => match upgrade(stream, &request, &rules.hosts)? {
                Ok(()) => {
                    stream.set_read_timeout(None)?;
                    let stream = stream.on_behalf_of(request.client);
                    Ok(Some((stream, request.rest)))
                }
                Err(refusal) => self.refuse(stream, &request.refused(refusal)),
            },
            _ => match self.page.answer(stream, &request)? {
                true => Ok(None),
                false => self.refuse(stream, &request.refused(Refusal::NotFound)),
            },
        }
    }

    fn refuse<T>(&self, stream: &Stream, refused: &RefusedRequest) -> io::Result<Option<T>> {
        emit_refused(&self.state.events, refused, self.port);
        http::refuse_request(stream, refused).map(|()| None)
    }

    /// Serves one browser, from the reservation until its seat is free again.
    fn visit(&self, caller: Pending, stream: Stream, begun: &[u8]) {
        let peer = stream.peer();
        let now = self.state.clock.now();
        if let Some(refusal) = self.accept_loop.check_ban(peer, now) {
            return self.accept_loop.turn_away(stream, &refusal.doc());
        }
        let (number, opened, ticket) = match self.take_a_seat(stream, peer, begun) {
            Ok(taken) => taken,
            Err(stream) => return self.accept_loop.send_full(stream, peer),
        };
        let Some(seat) = self.state.seats.seat(number) else {
            return;
        };
        // From now on, the seat's timer enforces the deadlines, so the caller is no longer pending.
        drop(caller);
        let browser = Browser { door: self, ticket };
        Visit::new(&self.state, seat, opened).run(&browser);
    }

    /// Takes a port off the stack for the browser at `peer`. Returns the seat, the connection and,
    /// if there are workers, the ticket. If no seat is free, returns the stream.
    fn take_a_seat(
        &self,
        stream: Stream,
        peer: SocketAddr,
        begun: &[u8],
    ) -> Result<(SeatNumber, OpenedConnection, Option<Ticket>), Stream> {
        let state = &self.state;
        let now = state.clock.now();
        let Ok(held) = state.seats.take(peer.ip()) else {
            return Err(stream);
        };
        held.claim_with(
            stream,
            |seat, token| match self.workers {
                Some(_) => seat.begin_handshake(token, now).map(Some),
                None => seat.occupy(token, now).map(|()| None),
            },
            |shared, occupied, ticket, stream| {
                if let Some(ticket) = &ticket {
                    state.events.emit(|| CoreEvent::Ticket {
                        port: ticket.port,
                        asker: peer,
                        passcode: state.events.passcode(&ticket.passcode),
                        via: Some("web"),
                    });
                }
                let label = match self.workers {
                    Some(_) => shared.port.to_string(),
                    None => shared.number.to_string(),
                };
                let timer = shared.timer.clone();
                let halves = self.web_socket.open_after(&stream, begun, ticket.is_some());
                let opened = self.factory.connection_with(stream, halves, &label, timer);
                occupied.connection = Some(Arc::clone(&opened.0));
                occupied.keepalive = Some(Keepalive::new(self.ping_every, now));
                (shared.number, opened, ticket)
            },
        )
    }

    /// Waits until the worker has rejected all connections that have already arrived at its port.
    /// The worker accepts connections in order, so it is enough to connect last and wait for the
    /// rejection.
    fn wait_for_the_worker(&self, worker: SocketAddr) -> io::Result<()> {
        let mut anywhere = worker;
        anywhere.set_port(0);
        let stream = Stream::unconnected(anywhere, worker, &Tap::default())?;
        let here = stream.local_addr()?;
        let _known = self.own_callers.add(here);
        stream
            .call(|| !self.state.clock.is_stopped())
            .and_then(|()| self.read_to_the_end(&stream))
    }

    /// Reads until the worker closes the connection. Also returns when the server shuts down,
    /// because workers then stop accepting connections.
    fn read_to_the_end(&self, mut stream: &Stream) -> io::Result<()> {
        stream.set_read_timeout(Some(limits::STOP_CHECK))?;
        let until = Instant::now() + limits::TURNED_AWAY_WITHIN;
        let mut last_word = [0; 256];
        while !self.state.clock.is_stopped() {
            match stream.read(&mut last_word) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_timeout(&error) && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A browser in a seat. It has a ticket if it must send a passcode.
struct Browser<'d> {
    door: &'d BrowserEntrance,
    ticket: Option<Ticket>,
}

impl Entrance for Browser<'_> {
    fn name(&self) -> Option<&'static str> {
        Some("web")
    }

    fn admit(&self, visit: &mut Visit<'_>) -> Result<ServerDoc<'static>, CloseReason> {
        let Some(ticket) = &self.ticket else {
            let seat = visit.seat.number.get();
            return Ok(ServerDoc::WelcomeSingle { seat, max: None });
        };
        let outbox = &visit.connection.outbox;
        outbox.send_doc(&ServerDoc::Ticket {
            port: ticket.port,
            passcode: ticket.passcode.reveal().into(),
        });
        visit.state.panics.fail_point("handshake");
        let first = first_frame(&visit.connection, None, &mut *visit.decoder)?;
        if let Some(Handshake {
            callback: Some(_), ..
        }) = first
        {
            visit.connection.outbox.send_doc(&ServerDoc::Error {
                code: ErrorCode::BadCallback,
                sentence: "callbacks to browsers are not supported: omit <callback>".into(),
            });
            return Err(BAD_CALLBACK);
        }
        let passcode = first.map(|handshake| handshake.passcode);
        visit.check_passcode(passcode.as_deref(), SeatRequest::Stay)?;
        Ok(ServerDoc::Welcome {
            port: visit.seat.port,
            room: None,
            max: None,
        })
    }

    /// Waits until the worker has rejected all connections that have arrived at its port.
    fn reject_waiting(&self, seat: &SharedSeat) {
        let (door, state) = (self.door, &self.door.state);
        let Some(host) = door.workers else { return };
        let worker = reachable(host.at(seat.port.get()));
        while !state.clock.is_stopped()
            && let Err(error) = door.wait_for_the_worker(worker)
        {
            let doing = "empty a worker's backlog";
            back_off(&state.events, doing, &error);
        }
    }

    fn end_event(
        &self,
        port: Port,
        peer: SocketAddr,
        end: CloseReason,
        admitted: bool,
    ) -> CoreEvent {
        match end {
            // The client reserved a seat and left without sending the passcode.
            CloseReason::PeerClosed | CloseReason::ConnectionReset if !admitted => {
                CoreEvent::NoShow { port }
            }
            end => CoreEvent::Closed { port, peer, end },
        }
    }
}
