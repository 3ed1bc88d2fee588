//! What every thread of the server that accepts does when a caller can't be taken in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use crate::event::{Events, What};
use crate::limits;
use crate::net::{Listener, Spare, Stream};
use crate::web::http::{self, Refusal};
use crate::wire::{CloseCode, Codec, ServerDoc};

/// What a thread that accepts needs besides its listener.
#[derive(Clone)]
pub(super) struct Accepting {
    /// Where it is told that a caller can't be taken in.
    pub(super) events: Events,
    /// A descriptor that is kept for telling such a caller.
    spare: Arc<Spare>,
    /// How a caller is told anything.
    pub(super) codec: Codec,
}

impl Accepting {
    /// Keeps a descriptor from now on, for all threads that accept.
    pub(super) fn new(events: Events, codec: Codec) -> Accepting {
        Accepting {
            events,
            spare: Arc::new(Spare::hold()),
            codec,
        }
    }

    /// The same, for callers to whom another codec speaks.
    pub(super) fn speaking(&self, codec: Codec) -> Accepting {
        Accepting {
            codec,
            ..self.clone()
        }
    }

    /// [`Listener::accept_each`], for a thread of the server.
    pub(super) fn accept_each(
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
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            let full = if self.codec.is_web() {
                http::refusal(Refusal::Unavailable).into_bytes()
            } else {
                self.codec.server_frame(&ServerDoc::Full)
            };
            self.spare.turn_one_away(listener, &full);
        }
        back_off(&self.events, "accept", error);
    }

    /// Says one last thing to a caller and closes the connection. (Who has to shake hands first, and is not expected, is closed without a word.)
    pub(super) fn turn_away(&self, stream: Stream, last_word: &ServerDoc<'_>) {
        stream.send_and_close(&self.codec.server_frame(last_word));
    }

    /// Tells a caller that there is no seat.
    pub(super) fn say_full(&self, stream: Stream, peer: SocketAddr) {
        let mut full = self.codec.server_frame(&ServerDoc::Full);
        self.codec.write_close(CloseCode::Full, &mut full);
        stream.send_and_close(&full);
        self.events.tell(|| What::Full { asker: peer });
    }
}

/// After a failed accept: without a rest the loop would fail half a million times a second for as
/// long as descriptors are short.
pub(super) fn back_off(events: &Events, doing: &'static str, error: &io::Error) {
    trouble(events, doing, error);
    thread::sleep(limits::ACCEPT_BACKOFF);
}

/// Tells that the system has refused something.
pub(super) fn trouble(events: &Events, doing: &'static str, error: &io::Error) {
    let error = error.to_string();
    events.tell(|| What::Trouble { doing, error });
}
