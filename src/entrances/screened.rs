//! Rejects callers that use other protocols, and completes TLS handshakes, before the first
//! document.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use portal_core::connection::Connection;
use portal_core::event::Events;
use portal_core::transport::{Decoder, Encoder, Input, Transport};
use portal_net::lock::Mutex;
use portal_net::{Opening, Pending, Port, Stream};
use portal_web::event::EntranceEvent;
use portal_wire::{CloseReason, ErrorCode, FrameError, ServerDoc};

use crate::foreign::{Foreign, HTTP_REQUEST, TLS_FAILED, is_http, is_tls};

/// A transport for ports to which browsers, TLS clients and proxies may connect by mistake.
pub struct Screened<T> {
    transport: T,
    events: Events,
    needs_passcode: bool,
    own_callers: OwnCallers,
}

/// The addresses from which this server connects to its own workers. Such a connection is closed
/// without an answer; it serves only to show that all earlier ones have been accepted. A leaf lock.
#[derive(Clone, Default)]
pub struct OwnCallers(Arc<Mutex<HashSet<SocketAddr>>>);

impl OwnCallers {
    /// Adds an address. Dropping the guard removes it.
    pub(crate) fn add(&self, address: SocketAddr) -> OwnCaller<'_> {
        self.0.lock().insert(address);
        OwnCaller {
            callers: self,
            address,
        }
    }
}

/// An address in [`OwnCallers`].
pub(crate) struct OwnCaller<'c> {
    callers: &'c OwnCallers,
    address: SocketAddr,
}

impl Drop for OwnCaller<'_> {
    fn drop(&mut self) {
        self.callers.0.lock().remove(&self.address);
    }
}

impl<T: Transport> Screened<T> {
    /// Screens clients for `transport`. If the port needs no passcode, also rejects HTTP requests
    /// that arrive late, because any web page can make its visitor's browser send one.
    pub fn new(
        transport: T,
        events: Events,
        needs_passcode: bool,
        own_callers: OwnCallers,
    ) -> Screened<T> {
        Screened {
            transport,
            events,
            needs_passcode,
            own_callers,
        }
    }
}

impl<T: Transport> Transport for Screened<T> {
    fn open(&self, stream: &Stream, port: Port) -> (Box<dyn Decoder>, Box<dyn Encoder>) {
        let (decoder, encoder) = self.transport.open(stream, port);
        let decoder = ScreeningDecoder {
            decoder,
            events: self.events.clone(),
            port,
            peer: stream.peer(),
            has_begun: false,
            needs_passcode: self.needs_passcode,
        };
        (Box::new(decoder), encoder)
    }

    fn screen(&self, stream: Stream, port: Port) -> Option<Stream> {
        if self.own_callers.0.lock().contains(&stream.peer()) {
            return None;
        }
        let Some(foreign) = Foreign::peek(&stream) else {
            return Some(stream);
        };
        let peer = stream.peer();
        self.events.emit(|| foreign.event(port, peer));
        match foreign {
            Foreign::Http => stream.send_and_close(NOT_HTTP),
            // With an answer, a TLS client reports that it received plain text. Without one, it
            // would report an overloaded server.
            Foreign::Other(opening) => {
                let sentence = opening.to_string().into();
                let code = ErrorCode::Malformed;
                stream.send_and_close(&self.last_word(&ServerDoc::Error { code, sentence }));
            }
        }
        None
    }

    fn establish(
        &self,
        connection: &Connection,
        pending: Option<&Pending>,
        port: Port,
        established: &mut dyn FnMut(),
    ) -> Result<(), CloseReason> {
        let (outbox, peer) = (&connection.outbox, connection.peer);
        if !outbox.stream().is_secured() {
            return Ok(());
        }
        let done = match pending {
            Some(pending) => pending.handshake(),
            None => outbox.stream().shake_hands(None),
        };
        done.map_err(|error| {
            // If the server itself closed the connection during the handshake, the server's reason
            // takes precedence.
            if !outbox.has_ended() {
                let error = error.to_string();
                let events = &self.events;
                events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
            }
            TLS_FAILED
        })?;
        established();
        self.events
            .emit(|| EntranceEvent::TlsEstablished { port, peer });
        Ok(())
    }

    fn last_word(&self, doc: &ServerDoc<'_>) -> Vec<u8> {
        self.transport.last_word(doc)
    }
}

/// The response to an HTTP request on a port for chat clients.
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\n\
    This port is for chat clients and does not speak HTTP. The page for browsers has its own port;\n\
    a server started with --web prints that page's address.\n";

struct ScreeningDecoder {
    decoder: Box<dyn Decoder>,
    events: Events,
    port: Port,
    peer: SocketAddr,
    /// True after the first frame with content.
    has_begun: bool,
    needs_passcode: bool,
}

impl Decoder for ScreeningDecoder {
    fn read_from(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.decoder.read_from(source)
    }

    fn next_input(&mut self) -> Result<Option<Input<'_>>, FrameError> {
        if self.has_begun {
            return self.decoder.next_input();
        }
        if is_tls(self.decoder.unfinished()) {
            let (port, peer) = (self.port, self.peer);
            let error = Opening::Tls.to_string();
            let sentence = Some(error.clone());
            self.events
                .emit(|| EntranceEvent::TlsFailed { port, peer, error });
            let reason = TLS_FAILED;
            return Err(FrameError::Rejected { reason, sentence });
        }
        let input = self.decoder.next_input()?;
        // An HTTP request may begin with empty lines.
        if let Some(Input::Document { frame, .. }) = &input
            && !frame.trim_ascii().is_empty()
        {
            self.has_begun = true;
            if !self.needs_passcode && is_http(frame) {
                let (reason, sentence) = (HTTP_REQUEST, None);
                return Err(FrameError::Rejected { reason, sentence });
            }
        }
        Ok(input)
    }

    fn end_of_stream(&mut self) -> bool {
        self.decoder.end_of_stream()
    }

    fn unfinished(&self) -> &[u8] {
        self.decoder.unfinished()
    }
}
