//! A worker: one thread, one port, one client at a time (seed 000, rules 3 to 6 and 9).
//!
//! Read it top to bottom: a caller connects; the worker lets it say the passcode, once; whoever
//! is right chats until something ends it; then the worker clears up, changes the passcode and
//! puts its port back on the workload stack. The timeouts are the timer thread's business: it
//! shuts the socket down, and the read in here returns.

use std::net::SocketAddr;
use std::sync::Arc;

use super::callback;
use crate::event::ChatEvent;
use crate::hall::Connection;
use crate::limits;
use crate::net::{Listener, Stream};
use crate::seat::{Arrival, Verdict, Wish};
use crate::server::accepting::Accepting;
use crate::server::seats::SharedSeat;
use crate::server::session::{AtWorker, Session, Sessions, first_frame};
use crate::server::sockets::{Opened, Sockets};
use crate::wire::{CloseReason, ErrorCode, Handshake, ServerDoc};
use portal_core::transport::Decoder;

/// Who is turned away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Nobody expected them.
    Stray,
    /// The browser's door has called, to learn that those before it have been turned away.
    OurOwn,
}

/// What every worker uses.
pub(crate) struct Worker {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) accepting: Accepting,
    pub(crate) sockets: Sockets,
}

impl Worker {
    /// The worker's thread: accepts until the clock stops.
    pub(crate) fn run(&self, seat: &SharedSeat, listener: &Listener) {
        let is_over = || self.sessions.clock.is_stopped();
        self.accepting
            .accept_each(listener, is_over, |stream, peer| {
                self.receive(seat, listener, stream, peer);
            });
    }

    /// One caller, from the connection to the free seat.
    fn receive(&self, seat: &SharedSeat, listener: &Listener, stream: Stream, peer: SocketAddr) {
        let panics = &self.sessions.panics;
        let end = panics.ended_by(|| {
            let Some((connection, mut decoder)) = self.let_in(seat, stream, peer) else {
                return CloseReason::PeerClosed;
            };
            let port = seat.port;
            self.accepting
                .events
                .emit(|| ChatEvent::Arrived { port, peer });
            // Whatever goes wrong over one client costs that client alone: the clearing up is the same.
            let end = panics.ended_by(|| self.serve(seat, connection, &mut *decoder));
            self.clear_up(seat, listener, end);
            CloseReason::PeerClosed
        });
        if end == CloseReason::Panicked {
            // From the beginning: each step does nothing if it has been done already.
            panics.caught(|| self.clear_up(seat, listener, end));
        }
    }

    /// Asks the seat whether this caller is expected. If so, the connection is in the seat, for the
    /// timekeeper to find; if not, it has been turned away.
    fn let_in(&self, seat: &SharedSeat, stream: Stream, peer: SocketAddr) -> Option<Opened> {
        // A web page on the client's own machine must not use up the client's only attempt.
        let stream = self.accepting.transport.screen(stream, seat.port)?;
        let now = self.sessions.clock.now();
        let label = seat.port.to_string();
        let arrival = seat.with_seat(|occupied| {
            if occupied.own_caller == Some(peer) {
                return Err((stream, Caller::OurOwn));
            }
            match occupied.seat.arrive(peer.ip(), now) {
                Arrival::Expected => {
                    self.sessions.panics.may_panic("let-in");
                    let timer = seat.timer.clone();
                    let opened = self.sockets.connection(stream, seat.port, &label, timer);
                    occupied.connection = Some(Arc::clone(&opened.0));
                    Ok(opened)
                }
                Arrival::Stray => Err((stream, Caller::Stray)),
            }
        });
        arrival
            .map_err(|(stream, caller)| self.turn_away(seat, stream, peer, caller))
            .ok()
    }

    fn turn_away(&self, seat: &SharedSeat, stream: Stream, peer: SocketAddr, caller: Caller) {
        let (port, room) = (seat.port, None);
        self.accepting
            .turn_away(stream, &ServerDoc::WrongPasscode { port, room });
        // At the end there comes one more, from the server itself, to wake this thread.
        if caller == Caller::Stray && !self.sessions.clock.is_stopped() {
            self.accepting
                .events
                .emit(|| ChatEvent::Stray { port, peer });
        }
    }

    /// The handshake, and the session after it. Returns why it is over.
    fn serve(
        &self,
        seat: &SharedSeat,
        connection: Arc<Connection>,
        decoder: &mut dyn Decoder,
    ) -> CloseReason {
        let (sessions, events) = (&self.sessions, &self.accepting.events);
        let (port, peer) = (seat.port, connection.peer);
        let outbox = &connection.outbox;
        sessions.panics.may_panic("handshake");
        let mut established = || {
            let now = sessions.clock.now();
            seat.with_seat(|occupied| occupied.seat.hands_shaken(now));
        };
        let transport = &self.sockets.transport;
        if let Err(end) = transport.establish(&connection, None, port, &mut established) {
            return end;
        }
        let said = match first_frame(&connection, None, decoder) {
            Ok(said) => said,
            Err(end) => return end,
        };
        let (passcode, callback) = match said {
            Some(Handshake { passcode, callback }) => (Some(passcode), callback),
            None => (None, None),
        };
        if callback.is_some() && outbox.stream().is_secured() {
            let sentence = "with TLS this server calls nobody: leave --callback out";
            outbox.send_doc(&ServerDoc::Error {
                code: ErrorCode::BadCallback,
                sentence: sentence.into(),
            });
            return callback::BAD_CALLBACK;
        }
        let wish = if callback.is_some() {
            Wish::BeCalled
        } else {
            Wish::Stay
        };
        let now = sessions.clock.now();
        match seat.with_seat(|occupied| occupied.seat.present(passcode.as_deref(), wish, now)) {
            Verdict::Admitted => {}
            Verdict::Refused => {
                events.emit(|| ChatEvent::WrongPasscode { port, peer });
                outbox.send_doc(&ServerDoc::WrongPasscode { port, room: None });
                return CloseReason::WrongPasscode;
            }
            Verdict::TooLate => return CloseReason::PeerClosed,
        }
        if let (Some(request), Some(passcode)) = (callback, passcode) {
            return callback::serve(
                sessions,
                &self.sockets,
                seat,
                connection,
                &request,
                &passcode,
            );
        }
        events.emit(|| ChatEvent::Seated {
            port,
            peer,
            via: None,
        });
        let welcome = ServerDoc::Welcome {
            port,
            room: None,
            max: None,
        };
        sessions.pairs.enter(seat.number, &connection, &welcome);
        Session::new(sessions, AtWorker::new(seat), &connection).run(decoder)
    }

    /// Makes the seat ready for the next client. The order matters: nobody may find this one in the
    /// hall when its connection is closed, and everyone who came while it was seated is turned away
    /// before the passcode changes and the port goes back, so that none of them can be taken for the
    /// next client.
    fn clear_up(&self, seat: &SharedSeat, listener: &Listener, end: CloseReason) {
        // After a callback, it is not the connection that the worker accepted that is in the seat.
        if let Some(connection) = seat.connection() {
            self.sessions.end(seat, &connection, end);
        } else {
            // Nobody but a caller over whom this thread has panicked.
            seat.with_seat(|occupied| occupied.seat.close());
        }
        self.sessions.panics.may_panic("clear-up");
        self.turn_backlog_away(seat, listener);
        self.sessions.seats.free(seat);
    }

    /// Turns away who connected while the seat was taken: what waits now, and at most as many as can
    /// wait, so that a stream of strays can't keep the port from its next client.
    fn turn_backlog_away(&self, seat: &SharedSeat, listener: &Listener) {
        if listener.set_nonblocking(true).is_err() {
            return;
        }
        for _ in 0..=limits::WORKER_BACKLOG {
            let Ok((stream, peer)) = listener.accept() else {
                break;
            };
            self.turn_away(seat, stream, peer, Caller::Stray);
        }
        // A listener that stayed non-blocking would make the accept loop spin, so insist.
        while listener.set_nonblocking(false).is_err() {
            std::thread::sleep(limits::ACCEPT_BACKOFF);
        }
    }
}
