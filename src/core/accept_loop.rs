//! Accepts connections, and rejects those that the server can't serve.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use crate::clock::Tick;
use crate::connection::Connection;
use crate::event::{CoreEvent, Events};
use crate::limits;
use crate::service::{AdmissionPolicy, Refusal};
use crate::transport::Transport;
use portal_net::{Listener, ReserveFd, Stream};
use portal_wire::{CloseReason, ServerDoc};

/// The state shared by all accepting threads.
#[derive(Clone)]
pub struct AcceptLoop {
    /// Receives an event for each connection that can't be served.
    pub events: Events,
    /// A spare descriptor, used to reject a caller when no other descriptor is left.
    spare: Arc<ReserveFd>,
    /// Encodes the rejection.
    pub transport: Arc<dyn Transport>,
    /// The bytes sent to a caller when no descriptor is left.
    no_descriptor: Arc<[u8]>,
    admission: Arc<dyn AdmissionPolicy>,
}

impl AcceptLoop {
    /// Reserves the spare descriptor.
    pub fn new(
        events: Events,
        transport: Arc<dyn Transport>,
        admission: Arc<dyn AdmissionPolicy>,
    ) -> AcceptLoop {
        AcceptLoop {
            events,
            spare: Arc::new(ReserveFd::hold()),
            no_descriptor: transport.last_word(&ServerDoc::Full).into(),
            transport,
            admission,
        }
    }

    /// The document for a client when no seat is free. It points to another server with a free
    /// seat, if one is known.
    pub fn full(&self) -> ServerDoc<'static> {
        match self.admission.full_redirect() {
            Some(there) => ServerDoc::FullHere { there },
            None => ServerDoc::Full,
        }
    }

    /// Returns the reason for rejecting a caller whose address is banned, and emits the event.
    pub fn check_ban(&self, peer: SocketAddr, now: Tick) -> Option<Refusal> {
        let refusal = self.admission.refuse_address(peer.ip(), now)?;
        self.events.emit(|| CoreEvent::Rejected {
            peer,
            name: None,
            reason: refusal.sentence.clone(),
        });
        Some(refusal)
    }

    /// Rejects a client that has presented its passcode, if its address is banned.
    ///
    /// # Errors
    /// The reason for rejecting the client, which has been notified.
    pub fn reject_if_banned(&self, connection: &Connection, now: Tick) -> Result<(), CloseReason> {
        match self.check_ban(connection.peer, now) {
            None => Ok(()),
            Some(refusal) => {
                connection.outbox.send_doc(&refusal.doc());
                Err(CloseReason::Banned)
            }
        }
    }

    /// Returns a copy of this loop for callers that use another transport. They receive
    /// `no_descriptor` when no descriptor is left.
    pub fn speaking(&self, transport: Arc<dyn Transport>, no_descriptor: &[u8]) -> AcceptLoop {
        AcceptLoop {
            transport,
            no_descriptor: no_descriptor.into(),
            ..self.clone()
        }
    }

    /// Like [`Listener::accept_each`], with the server's error handling.
    pub fn accept_each(
        &self,
        listener: &Listener,
        is_over: impl Fn() -> bool,
        serve: impl FnMut(Stream, SocketAddr),
    ) {
        listener.accept_each(is_over, serve, |error| self.accept_failed(listener, error));
    }

    /// Handles an error from `accept`. If no descriptor is left, rejects the caller with the spare
    /// one rather than letting it wait.
    fn accept_failed(&self, listener: &Listener, error: &io::Error) {
        if portal_net::lacks_descriptors(error) {
            self.spare.turn_one_away(listener, &self.no_descriptor);
        }
        back_off(&self.events, "accept", error);
    }

    /// Sends one last document to a caller and closes the connection. (A caller whose handshake is
    /// not complete is disconnected without a reply.)
    pub fn turn_away(&self, stream: Stream, last_word: &ServerDoc<'_>) {
        stream.send_and_close(&self.transport.last_word(last_word));
    }

    /// Rejects a caller because no seat is free.
    pub fn send_full(&self, stream: Stream, peer: SocketAddr) {
        self.turn_away(stream, &self.full());
        self.events.emit(|| CoreEvent::Full { asker: peer });
    }
}

/// Reports a failed accept and pauses. Without the pause, the loop would fail half a million times
/// per second while no descriptor is available.
pub fn back_off(events: &Events, doing: &'static str, error: &io::Error) {
    trouble(events, doing, error);
    thread::sleep(limits::ACCEPT_BACKOFF);
}

/// Reports a failed system call; repeated failures are counted.
pub fn trouble(events: &Events, doing: &'static str, error: &io::Error) {
    events.emit_failure(doing, error.to_string());
}
