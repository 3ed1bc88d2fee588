//! What every thread of the server that accepts does when a caller can't be taken in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use crate::backplane::Backplane;
use crate::event::{ChatEvent, Events};
use crate::limits;
use crate::transport::Transport;
use portal_net::{Listener, Spare, Stream};
use portal_wire::ServerDoc;

/// What a thread that accepts needs besides its listener.
#[derive(Clone)]
pub struct AcceptLoop {
    /// Where it is told that a caller can't be taken in.
    pub events: Events,
    /// A descriptor that is kept for telling such a caller.
    spare: Arc<Spare>,
    /// How a caller is told anything.
    pub transport: Arc<dyn Transport>,
    /// Sent to a caller if there is no descriptor for it.
    no_descriptor: Arc<[u8]>,
    backplane: Arc<dyn Backplane>,
}

impl AcceptLoop {
    /// Keeps a descriptor from now on, for all threads that accept.
    pub fn new(
        events: Events,
        transport: Arc<dyn Transport>,
        backplane: Arc<dyn Backplane>,
    ) -> AcceptLoop {
        AcceptLoop {
            events,
            spare: Arc::new(Spare::hold()),
            no_descriptor: transport.last_word(&ServerDoc::Full).into(),
            transport,
            backplane,
        }
    }

    /// That there is no seat, and where there is one, if another server of the chat has some.
    pub fn full(&self) -> ServerDoc<'static> {
        match self.backplane.full_redirect() {
            Some(there) => ServerDoc::FullHere { there },
            None => ServerDoc::Full,
        }
    }

    /// The same, for callers of another protocol, who are sent `no_descriptor` if there is none for
    /// them.
    pub fn speaking(&self, transport: Arc<dyn Transport>, no_descriptor: &[u8]) -> AcceptLoop {
        AcceptLoop {
            transport,
            no_descriptor: no_descriptor.into(),
            ..self.clone()
        }
    }

    /// [`Listener::accept_each`], for a thread of the server.
    pub fn accept_each(
        &self,
        listener: &Listener,
        is_over: impl Fn() -> bool,
        serve: impl FnMut(Stream, SocketAddr),
    ) {
        listener.accept_each(is_over, serve, |error| self.accept_failed(listener, error));
    }

    /// After an `accept` that failed. A caller who can't be taken in for want of a descriptor is told
    /// FULL with the one that is kept for this, instead of being left waiting.
    fn accept_failed(&self, listener: &Listener, error: &io::Error) {
        if portal_net::lacks_descriptors(error) {
            self.spare.turn_one_away(listener, &self.no_descriptor);
        }
        back_off(&self.events, "accept", error);
    }

    /// Says one last thing to a caller and closes the connection. (Who has to shake hands first, and is not expected, is closed without a word.)
    pub fn turn_away(&self, stream: Stream, last_word: &ServerDoc<'_>) {
        stream.send_and_close(&self.transport.last_word(last_word));
    }

    /// Tells a caller that there is no seat.
    pub fn say_full(&self, stream: Stream, peer: SocketAddr) {
        self.turn_away(stream, &self.full());
        self.events.emit(|| ChatEvent::Full { asker: peer });
    }
}

/// After a failed accept: without a rest the loop would fail half a million times a second for as
/// long as descriptors are short.
pub fn back_off(events: &Events, doing: &'static str, error: &io::Error) {
    trouble(events, doing, error);
    thread::sleep(limits::ACCEPT_BACKOFF);
}

/// Reports that the system has refused something; repeated failures are counted.
pub fn trouble(events: &Events, doing: &'static str, error: &io::Error) {
    events.emit_failure(doing, error.to_string());
}
