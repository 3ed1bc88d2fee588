//! Callbacks (seed 000, "contrast"): the server connects to the client.
//!
//! The client sends the passcode to the worker's port as usual, together with the number of a port
//! on which it listens. The worker closes that connection and connects to the client. It connects
//! only to the address that the request came from, so a client can't direct it at another host.
//! After the callback, the session is like any other; the direction of the connection makes no
//! difference.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portal_core::accept_loop::trouble;
use portal_core::connection::Connection;
use portal_core::event::CoreEvent;
use portal_core::guard::per_address_limit::PerAddressLimit;
use portal_core::seat::Phase;
use portal_core::sockets::ConnectionFactory;
use portal_core::timer::NO_ANSWER;
use portal_core::visit::Visit;
use portal_core::worker::Dialer;
use portal_net::Stream;
use portal_net::limits as net_limits;
use portal_net::lock::Mutex;
use portal_web::event::EntranceEvent;
use portal_wire::{CallbackRequest, CloseReason, ErrorCode, Handshake, ServerDoc};

use crate::limits;

/// The client requested a callback that the server refuses.
pub(crate) const BAD_CALLBACK: CloseReason = CloseReason::Entrance("bad-callback");

/// Connects to clients that request a callback.
pub struct Callbacks {
    pub factory: ConnectionFactory,
    /// This server's ports, other than those of its workers and rooms.
    pub other_ports: Vec<u16>,
    /// Number of callbacks to each address. A leaf lock.
    pub per_address: Mutex<PerAddressLimit>,
}

impl Dialer for Callbacks {
    /// Connects to a client whose seat is in the phase [`Phase::Calling`].
    fn dial(
        &self,
        visit: &mut Visit<'_>,
        handshake: &Handshake,
    ) -> Result<ServerDoc<'static>, CloseReason> {
        let (state, seat, asker) = (visit.state, visit.seat, &visit.connection);
        let (port, events) = (seat.port, &state.events);
        if asker.outbox.stream().is_secured() {
            let sentence = "callbacks are not supported with TLS: omit --callback".to_owned();
            return Err(refuse(visit, sentence));
        }
        let here = asker.outbox.stream().local_addr();
        let is_own = |port| self.other_ports.contains(&port) || state.listens_at(port);
        let is_allowed = |target: &SocketAddr| !is_here(*target, &here) || !is_own(target.port());
        let Some(target) = handshake
            .callback
            .as_ref()
            .and_then(|request| target(request, asker.peer))
            .filter(is_allowed)
        else {
            let sentence = format!(
                "a callback must go to the address that requested it ({}), to port {} or higher, \
                 and not to this server itself",
                asker.peer.ip().to_canonical(),
                net_limits::FIRST_ORDINARY_PORT
            );
            return Err(refuse(visit, sentence));
        };
        let now = state.clock.now();
        if !self.per_address.lock().allows(asker.peer.ip(), now) {
            let most = limits::CALLBACKS_A_TICK;
            let sentence = format!(
                "the limit is {most} callbacks per tick and address; try again after the next tick"
            );
            return Err(refuse(visit, sentence));
        }
        let (connection, decoder) = match to_call(asker, target, &self.factory) {
            Ok(stream) => {
                let timer = seat.timer.clone();
                self.factory
                    .connection(stream, port, &port.to_string(), timer)
            }
            Err(error) => {
                trouble(events, "open a socket for a callback", &error);
                return Err(NO_ANSWER);
            }
        };
        // From now on, a timeout cancels the callback rather than closing the client's first
        // connection.
        let is_wanted = seat.with_seat(|occupied| {
            let is_wanted = occupied.seat.phase() == Phase::Calling;
            if is_wanted {
                occupied.connection = Some(Arc::clone(&connection));
            }
            is_wanted
        });
        if !is_wanted {
            return Err(NO_ANSWER);
        }
        asker.outbox.send_doc(&ServerDoc::CallingBack { port });
        asker.outbox.hang_up(CloseReason::Terminate);
        // Close the client's first connection now rather than at the end of the session.
        (visit.connection, visit.decoder) = (connection, decoder);
        events.emit(|| EntranceEvent::Calling { port, peer: target });

        let outbox = &visit.connection.outbox;
        let call = outbox.stream().call(|| !outbox.has_ended());
        let now = state.clock.now();
        if call.is_err() || !seat.with_seat(|occupied| occupied.seat.answered(now)) {
            return Err(NO_ANSWER);
        }
        // The passcode proves the server's identity to the client. It has already been used, so it
        // admits no other client.
        Ok(ServerDoc::CalledBack {
            port,
            passcode: handshake.passcode.clone().into(),
            max: None,
        })
    }
}

fn refuse(visit: &Visit<'_>, sentence: String) -> CloseReason {
    let (port, code) = (visit.seat.port, ErrorCode::BadCallback);
    let sentence = sentence.into();
    visit
        .connection
        .outbox
        .send_doc(&ServerDoc::Error { code, sentence });
    let events = &visit.state.events;
    events.emit(|| CoreEvent::Refused { port, code });
    BAD_CALLBACK
}

/// Returns the address for the callback if it is allowed, that is, if it is the client's own
/// address with an unprivileged port.
fn target(request: &CallbackRequest, asker: SocketAddr) -> Option<SocketAddr> {
    let port: u16 = request.port.parse().ok()?;
    if port < net_limits::FIRST_ORDINARY_PORT {
        return None;
    }
    if let Some(address) = &request.address {
        let address: IpAddr = address.parse().ok()?;
        if address.to_canonical() != asker.ip().to_canonical() {
            return None;
        }
    }
    let mut target = asker;
    target.set_port(port);
    Some(target)
}

/// Returns whether an address belongs to this machine, judging by the request's local address
/// `here`. A worker that connected to its own server would waste its seat on a chat with itself.
fn is_here(target: SocketAddr, here: &io::Result<SocketAddr>) -> bool {
    let asker = target.ip().to_canonical();
    asker.is_loopback()
        || here
            .as_ref()
            .is_ok_and(|here| here.ip().to_canonical() == asker)
}

/// Creates an unconnected socket, bound to the local address at which the request arrived.
fn to_call(
    asker: &Connection,
    target: SocketAddr,
    factory: &ConnectionFactory,
) -> io::Result<Stream> {
    let asked_on = asker.outbox.stream();
    let stream = Stream::unconnected(asked_on.local_addr()?, target, asked_on.tap())?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(factory.tick))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_go_only_to_the_caller_on_an_unprivileged_port() {
        let called = |asker: &str, port: &str, address: Option<&str>| {
            let request = CallbackRequest {
                port: port.to_owned(),
                address: address.map(str::to_owned),
            };
            target(&request, asker.parse().unwrap()).map(|target| target.to_string())
        };
        let asker = "127.0.0.2:40000";
        let itself = Some("127.0.0.2:6000".to_owned());
        assert_eq!(called(asker, "6000", None), itself);
        assert_eq!(called(asker, "6000", Some("127.0.0.2")), itself);
        assert_eq!(called(asker, "6000", Some("::ffff:127.0.0.2")), itself);
        for (port, address) in [
            ("6000", Some("127.0.0.1")),
            ("6000", Some("localhost")),
            ("6000", Some("")),
            ("1023", None),
            ("0", None),
            ("65536", None),
            ("", None),
        ] {
            assert_eq!(called(asker, port, address), None, "{port} {address:?}");
        }
    }
}
