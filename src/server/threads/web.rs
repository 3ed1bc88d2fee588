//! The browser's door (`--web`): on one connection it is first the portal and then the worker, for somebody who
//! has nothing but a browser.
//!
//! `web-8080` accepts; each connection has a thread, which answers one `GET`. If that asks for a WebSocket, the
//! thread takes a seat off the workload stack, says the passcode, hears it, and serves the session: the same
//! seats, timekeepers and sessions as behind a worker's port. While it holds the seat, that worker's port turns
//! everyone away, and it is this thread that clears up and puts the port back.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::callback;
use crate::clock::Ticks;
use crate::event::{ChatEvent, EntranceEvent};
use crate::hall::Connection;
use crate::limits;
use crate::net::{Host, Listener, Pending, PendingConnections, Port, Stream, Tap, reachable};
use crate::seat::{SeatNumber, Ticket, Verdict, Wish};
use crate::server::accepting::{Accepting, back_off};
use crate::server::guard::keepalive::Keepalive;
use crate::server::seats::SharedSeat;
use crate::server::session::{AtWorker, Session, Sessions, first_frame};
use crate::server::sockets::{Opened, Sockets};
use crate::web::event::emit_refused;
use crate::web::http::{self, Refusal, Refused, Rules};
use crate::web::{Page, upgrade};
use crate::wire::{CloseReason, ErrorCode, Handshake, ServerDoc};
use portal_core::transport::Decoder;
use portal_entrances::WebSocket;

/// What the door's threads use.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) sessions: Arc<Sessions>,
    /// With the transport of a WebSocket.
    pub(crate) accepting: Accepting,
    pub(crate) sockets: Sockets,
    /// Browsers without a seat.
    pub(crate) callers: Arc<PendingConnections>,
    pub(crate) rules: Rules,
    pub(crate) page: Arc<Page>,
    pub(crate) port: Port,
    /// After how long a browser that says nothing is asked whether it is there.
    pub(crate) ping_every: Ticks,
    pub(crate) web_socket: Arc<WebSocket>,
    /// Where the workers listen; `None` where everyone sits at a single port.
    pub(crate) workers: Option<Host>,
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

impl Door {
    /// The thread `web-8080`: accepts until the clock stops.
    pub(crate) fn run(&self, listener: &Listener) {
        let is_over = || self.sessions.clock.is_stopped();
        self.accepting.accept_each(listener, is_over, |stream, _| {
            self.sessions.panics.caught(|| {
                let door = self.clone();
                let share = self.rules.share_of(stream.peer());
                self.callers.admit(stream, share, "browser", move |caller| {
                    door.sessions.panics.caught(|| door.serve(caller));
                });
            });
        });
    }

    /// One connection, from the request to the end.
    fn serve(&self, caller: Pending) {
        // A caller that closes the connection before the end needs no response.
        if let Ok(Some((stream, begun))) = self.answer(&caller) {
            self.visit(caller, stream, &begun);
        } else {
            caller.stream().share().close();
        }
    }

    /// Answers the request. If it was for a WebSocket, that is open now, and what came behind the request is
    /// returned with it. The stream's peer is the client then, also behind a trusted proxy.
    fn answer(&self, caller: &Pending) -> io::Result<Option<(Stream, Vec<u8>)>> {
        let stream = caller.stream();
        if let Err(error) = caller.handshake() {
            http::refuse_plain_text(stream, &error);
            if !stream.is_secured() {
                return Ok(None);
            }
            let (port, peer, error) = (self.port, stream.peer(), error.to_string());
            let events = &self.sessions.events;
            events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
            return Ok(None);
        }
        let request = match http::read_request(caller, &self.rules)? {
            Ok(request) => request,
            Err(refused) => return self.refuse(stream, &refused),
        };
        match request.path.as_str() {
            "/" => self.page.answer(stream, &request).map(|()| None),
            "/chat" => match upgrade(stream, &request, &self.rules.hosts)? {
                Ok(()) => {
                    stream.set_read_timeout(None)?;
                    let stream = stream.on_behalf_of(request.client);
                    Ok(Some((stream, request.rest)))
                }
                Err(refusal) => self.refuse(stream, &request.refused(refusal)),
            },
            _ => self.refuse(stream, &request.refused(Refusal::NotFound)),
        }
    }

    fn refuse<T>(&self, stream: &Stream, refused: &Refused) -> io::Result<Option<T>> {
        emit_refused(&self.sessions.events, refused, self.port);
        http::refuse_request(stream, refused).map(|()| None)
    }

    /// One browser, from the portal's answer to the free seat.
    fn visit(&self, caller: Pending, stream: Stream, begun: &[u8]) {
        let peer = stream.peer();
        let (number, (connection, mut decoder), ticket) =
            match self.take_a_seat(stream, peer, begun) {
                Ok(taken) => taken,
                Err(stream) => return self.accepting.say_full(stream, peer),
            };
        let Some(seat) = self.sessions.seats.seat(number) else {
            return;
        };
        // The seat's timer now limits this thread, so it is no longer pending.
        drop(caller);
        let panics = &self.sessions.panics;
        let mut is_seated = false;
        let end = panics.ended_by(|| {
            let max = None;
            let welcome = match &ticket {
                Some(ticket) => {
                    connection.outbox.send_doc(&ServerDoc::Ticket {
                        port: ticket.port,
                        passcode: ticket.passcode.reveal().into(),
                    });
                    if let Err(end) = self.hear_passcode(seat, &connection, &mut *decoder) {
                        return end;
                    }
                    let (port, room) = (seat.port, None);
                    ServerDoc::Welcome { port, room, max }
                }
                None => {
                    let seat = seat.number.get();
                    ServerDoc::WelcomeSingle { seat, max }
                }
            };
            is_seated = true;
            self.sessions
                .pairs
                .enter(seat.number, &connection, &welcome);
            let port = seat.port;
            self.sessions.events.emit(|| ChatEvent::Seated {
                port,
                peer,
                via: Some("web"),
            });
            Session::new(&self.sessions, AtWorker::new(seat), &connection).run(&mut *decoder)
        });
        let clear_up = || self.clear_up(seat, &connection, end, is_seated);
        if panics.ended_by(|| {
            clear_up();
            CloseReason::PeerClosed
        }) == CloseReason::Panicked
        {
            // From the beginning: each step does nothing if it has been done already.
            panics.caught(clear_up);
        }
    }

    /// Takes a port off the stack for the browser at `peer`: its seat, the connection that is now in it, and what
    /// it has to say, if anything. Without a seat the stream is handed back.
    fn take_a_seat(
        &self,
        stream: Stream,
        peer: SocketAddr,
        begun: &[u8],
    ) -> Result<(SeatNumber, Opened, Option<Ticket>), Stream> {
        let sessions = &self.sessions;
        let now = sessions.clock.now();
        let Ok(held) = sessions.seats.take(peer.ip()) else {
            return Err(stream);
        };
        held.sit(
            stream,
            |seat, lease| match self.workers {
                Some(_) => seat.greet(lease, now).map(Some),
                None => seat.sit(lease, now).map(|()| None),
            },
            |shared, occupied, ticket, stream| {
                if let Some(ticket) = &ticket {
                    sessions.events.emit(|| ChatEvent::Ticket {
                        port: ticket.port,
                        asker: peer,
                        passcode: sessions.events.passcode(&ticket.passcode),
                        via: Some("web"),
                    });
                }
                let label = match self.workers {
                    Some(_) => shared.port.to_string(),
                    None => shared.number.to_string(),
                };
                let timer = shared.timer.clone();
                let halves = self.web_socket.open_after(&stream, begun);
                let opened = self.sockets.connection_with(stream, halves, &label, timer);
                occupied.connection = Some(Arc::clone(&opened.0));
                occupied.keepalive = Some(Keepalive::new(self.ping_every, now));
                (shared.number, opened, ticket)
            },
        )
    }

    /// The worker's part: the browser has one chance to say the passcode.
    fn hear_passcode(
        &self,
        seat: &SharedSeat,
        connection: &Connection,
        decoder: &mut dyn Decoder,
    ) -> Result<(), CloseReason> {
        let (sessions, outbox) = (&self.sessions, &connection.outbox);
        let (port, peer) = (seat.port, connection.peer);
        sessions.panics.may_panic("handshake");
        let passcode = match first_frame(connection, None, decoder)? {
            Some(Handshake {
                callback: Some(_), ..
            }) => {
                outbox.send_doc(&ServerDoc::Error {
                    code: ErrorCode::BadCallback,
                    sentence: "a browser can't be called".into(),
                });
                return Err(callback::BAD_CALLBACK);
            }
            said => said.map(|said| said.passcode),
        };
        let now = sessions.clock.now();
        match seat.with_seat(|occupied| occupied.seat.present(passcode.as_deref(), Wish::Stay, now))
        {
            Verdict::Admitted => Ok(()),
            Verdict::Refused => {
                sessions
                    .events
                    .emit(|| ChatEvent::WrongPasscode { port, peer });
                outbox.send_doc(&ServerDoc::WrongPasscode { port, room: None });
                Err(CloseReason::WrongPasscode)
            }
            Verdict::TooLate => Err(CloseReason::PeerClosed),
        }
    }

    /// Makes the seat ready for the next one, in the worker's order: nobody may find this one in the hall when
    /// its connection is closed, and everyone who came to the worker's port meanwhile is turned away before the
    /// passcode changes and the port goes back.
    fn clear_up(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        end: CloseReason,
        is_seated: bool,
    ) {
        let sessions = &self.sessions;
        if is_seated {
            sessions.end(seat, connection, end);
        } else {
            let port = seat.port;
            match sessions.take_out(seat, connection, end) {
                // It has asked for a seat and not taken it.
                CloseReason::PeerClosed | CloseReason::ConnectionReset => {
                    sessions.events.emit(|| ChatEvent::NoShow { port })
                }
                end => {
                    let peer = connection.peer;
                    sessions.events.emit(|| ChatEvent::Left { port, peer, end });
                }
            }
        }
        sessions.panics.may_panic("clear-up");
        if let Some(host) = self.workers {
            let worker = reachable(host.at(seat.port.get()));
            while !sessions.clock.is_stopped()
                && let Err(error) = self.wait_for_the_worker(seat, worker)
            {
                back_off(
                    &sessions.events,
                    "see that a worker's backlog is empty",
                    &error,
                );
            }
        }
        sessions.seats.free(seat);
    }

    /// Returns once the worker has turned away everyone who had come to its port by now. The worker accepts in
    /// the order in which they came, so it is enough to come last and to be turned away.
    fn wait_for_the_worker(&self, seat: &SharedSeat, worker: SocketAddr) -> io::Result<()> {
        let mut anywhere = worker;
        anywhere.set_port(0);
        let stream = Stream::unconnected(anywhere, worker, &Tap::default())?;
        let here = stream.local_addr()?;
        seat.with_seat(|occupied| occupied.own_caller = Some(here));
        let called = stream
            .call(|| !self.sessions.clock.is_stopped())
            .and_then(|()| self.read_to_the_end(&stream));
        seat.with_seat(|occupied| occupied.own_caller = None);
        called
    }

    /// Reads until the worker has closed. At the server's end no worker accepts any more, and nobody waits for one.
    fn read_to_the_end(&self, mut stream: &Stream) -> io::Result<()> {
        stream.set_read_timeout(Some(limits::BIND_PAUSE))?;
        let until = Instant::now() + limits::TURNED_AWAY_WITHIN;
        let mut last_word = [0; 256];
        while !self.sessions.clock.is_stopped() {
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
