//! The kinds of events at entrances that use protocols other than the core's.

use std::net::SocketAddr;

use portal_core::event::Events;
use portal_net::{Opening, Port};

use crate::http::{Refusal, RefusedRequest};

portal_core::event_kinds! {
    /// An event at the entrance on `port`. `peer` is the client's address; behind a trusted proxy,
    /// it is the address that the proxy reports.
    pub enum EntranceEvent {
        /// The worker is connecting to the client, which requested a callback.
        Calling = "calling" { port: Port, peer: SocketAddr },
        /// The TLS handshake is complete, and the handshake timeout for the passcode begins. The
        /// portal and the browser entrance do not emit this event.
        TlsEstablished = "tls-established" { port: Port, peer: SocketAddr },
        /// A TLS handshake failed, or a client used TLS with a server that was started without TLS.
        TlsFailed = "tls-failed" { port: Port, peer: SocketAddr, error: String },
        /// A client that used another protocol was rejected. `protocol` is `http`, or the PROXY
        /// protocol's version.
        WrongProtocol = "wrong-protocol" { port: Port, peer: SocketAddr, protocol: String },
        /// An HTTP request was refused. `status` is the status of the response.
        HttpRefused = "http-refused" {
            port: Port, peer: SocketAddr, status: String, reason: String
        },
    }
}

/// Emits the event for a refused HTTP request at `port`. Emits nothing if the path does not exist,
/// because browsers request some paths automatically.
pub fn emit_refused(events: &Events, refused: &RefusedRequest, port: Port) {
    let peer = refused.client;
    match &refused.refusal {
        Refusal::NotFound => {}
        Refusal::Opening(opening @ Opening::Tls) => {
            let error = opening.to_string();
            events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
        }
        refusal => events.emit(|| EntranceEvent::HttpRefused {
            port,
            peer,
            status: refusal.status().to_owned(),
            reason: refusal.to_string(),
        }),
    }
}
