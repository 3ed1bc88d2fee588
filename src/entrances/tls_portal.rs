//! The portal over TLS (`--tls`).

use std::net::SocketAddr;
use std::sync::Arc;

use portal_core::portal::Portal;
use portal_core::seat::Asker;
use portal_net::{Listener, Pending, PendingConnections, Port, Share};
use portal_web::event::EntranceEvent;

/// Like [`Portal::run_tcp`], over TLS. A caller can delay its handshake, so each caller gets its
/// own thread, and is assigned a port only after the handshake.
pub fn run(portal: &Portal, callers: &Arc<PendingConnections>, listener: &Listener) {
    let is_over = || portal.clock.is_stopped();
    let port = listener.port();
    portal
        .accept_loop
        .accept_each(listener, is_over, |stream, peer| {
            let portal = portal.clone();
            callers.admit(stream, Share::default(), "portal-tls", move |caller| {
                portal
                    .panics
                    .caught(|| answer(&portal, &caller, port, peer));
            });
        });
}

fn answer(portal: &Portal, caller: &Pending, port: Port, peer: SocketAddr) {
    if let Err(error) = caller.handshake() {
        let error = error.to_string();
        let events = &portal.accept_loop.events;
        events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
        return;
    }
    let answer = portal.answer(Asker::by_connection(peer), peer);
    portal.panics.fail_point("portal-tcp");
    let answer = portal.as_document(&answer);
    let stream = caller.stream().share();
    portal.accept_loop.turn_away(stream, &answer);
}
