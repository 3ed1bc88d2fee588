//! What every thread of the server that accepts does when a caller can't be taken in.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::cluster::Cluster;
use crate::event::{ChatEvent, Events};
use crate::limits;
use crate::net::{Listener, Port, Spare, Stream};
use crate::server::guard::foreign::Foreign;
use crate::web::http::{self, Refusal};
use crate::wire::{CloseCode, Codec, Elsewhere, ErrorCode, ServerDoc};

/// What a thread that accepts needs besides its listener.
#[derive(Clone)]
pub(super) struct Accepting {
    /// Where it is told that a caller can't be taken in.
    pub(super) events: Events,
    /// A descriptor that is kept for telling such a caller.
    spare: Arc<Spare>,
    /// How a caller is told anything.
    pub(super) codec: Codec,
    /// The other servers, if there are any.
    cluster: Arc<OnceLock<Cluster>>,
    /// Whether callers speak TLS, and are not to be sent where nobody does.
    is_tls: bool,
}

impl Accepting {
    /// Keeps a descriptor from now on, for all threads that accept.
    pub(super) fn new(
        events: Events,
        codec: Codec,
        cluster: Arc<OnceLock<Cluster>>,
        is_tls: bool,
    ) -> Accepting {
        Accepting {
            events,
            spare: Arc::new(Spare::hold()),
            codec,
            cluster,
            is_tls,
        }
    }

    /// That there is no seat, and where there is one, if another server of the chat has some.
    pub(super) fn full(&self) -> ServerDoc<'static> {
        let elsewhere = || {
            let there = self.cluster.get()?.elsewhere(self.is_tls)?;
            let (address, port) = (there.address?, Port::new(there.load.port)?);
            let scheme = if there.load.tls { "https" } else { "http" };
            let page = |port| format!("{scheme}://{}/", SocketAddr::new(address, port));
            Some(ServerDoc::FullHere {
                there: Elsewhere {
                    address,
                    port,
                    web: there.load.web.map(|port| page(port).into()),
                },
            })
        };
        if self.codec.is_original() {
            return ServerDoc::Full;
        }
        elsewhere().unwrap_or(ServerDoc::Full)
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

    /// Closes a connection of another protocol, with an explanation that its program can show. A TLS
    /// client reports that it got plain text; without an answer, it would take the server for overloaded.
    pub(super) fn refuse(&self, stream: Stream, foreign: Foreign, port: Port, peer: SocketAddr) {
        self.events.emit(|| foreign.event(port, peer));
        match foreign {
            Foreign::Http => stream.send_and_close(NOT_HTTP),
            Foreign::Other(opening) => {
                let sentence = opening.to_string().into();
                let code = ErrorCode::Malformed;
                self.turn_away(stream, &ServerDoc::Error { code, sentence });
            }
        }
    }

    /// Tells a caller that there is no seat.
    pub(super) fn say_full(&self, stream: Stream, peer: SocketAddr) {
        let mut full = self.codec.server_frame(&self.full());
        self.codec.write_close(CloseCode::Full, &mut full);
        stream.send_and_close(&full);
        self.events.emit(|| ChatEvent::Full { asker: peer });
    }
}

/// The response to an HTTP request at a port for chat clients.
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\n\
    This port is for chat clients and does not speak HTTP. The page for browsers has its own port:\n\
    the server prints its address if it was started with --web.\n";

/// After a failed accept: without a rest the loop would fail half a million times a second for as
/// long as descriptors are short.
pub(super) fn back_off(events: &Events, doing: &'static str, error: &io::Error) {
    trouble(events, doing, error);
    thread::sleep(limits::ACCEPT_BACKOFF);
}

/// Reports that the system has refused something; repeated failures are counted.
pub(super) fn trouble(events: &Events, doing: &'static str, error: &io::Error) {
    events.emit_failure(doing, error.to_string());
}
