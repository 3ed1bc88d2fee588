//! The other direction (seed 000, "contrast"): the server connects to the client.
//!
//! The client says the passcode on the worker's port as usual, and with it a port of its own on
//! which it listens. The worker hangs up and calls. It only ever calls the address that the request
//! came from, so nobody can aim it at somebody else. Which of two programs is the client is a
//! matter of who speaks the protocol's part, then, and not of who connects: after the call the
//! session is the same as ever.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::event::{ChatEvent, EntranceEvent};
use crate::hall::Connection;
use crate::limits;
use crate::net::Stream;
use crate::seat::Phase;
use crate::server::accepting::trouble;
use crate::server::seats::SharedSeat;
use crate::server::session::{AtWorker, Session, Sessions};
use crate::server::sockets::Sockets;
use crate::wire::{CallbackRequest, CloseReason, ErrorCode, ServerDoc};

/// The client asked for a callback that the server does not make.
pub(crate) const BAD_CALLBACK: CloseReason = CloseReason::Entrance("bad-callback");
/// The client did not accept the callback.
pub(crate) const NO_ANSWER: CloseReason = CloseReason::Entrance("no-answer");

/// Calls the client that asked for it on the connection of `asker`, and serves it. The seat is in
/// its `Calling` phase. Returns why it is over.
pub(crate) fn serve(
    sessions: &Sessions,
    sockets: &Sockets,
    seat: &SharedSeat,
    asker: Arc<Connection>,
    request: &CallbackRequest,
    passcode: &str,
) -> CloseReason {
    let (port, events) = (seat.port, &sessions.events);
    let here = asker.outbox.stream().local_addr();
    let is_allowed =
        |target: &SocketAddr| !is_here(*target, &here) || !sessions.listens_at(target.port());
    let allowed = target(request, asker.peer).filter(is_allowed);
    let Some(target) = allowed else {
        let sentence = format!(
            "a worker calls nobody but the address that asked ({}), no port below {}, and \
             not this server itself",
            asker.peer.ip().to_canonical(),
            limits::FIRST_ORDINARY_PORT
        );
        return refuse(sessions, seat, &asker, sentence);
    };
    let now = sessions.clock.now();
    if !sessions.callbacks.lock().allows(asker.peer.ip(), now) {
        let most = limits::CALLBACKS_A_TICK;
        let sentence = format!("an address is called {most} times a tick; ask again in a moment");
        return refuse(sessions, seat, &asker, sentence);
    }
    let (connection, mut decoder) = match to_call(&asker, target, sockets) {
        Ok(stream) => {
            let timer = seat.timer.clone();
            sockets.connection(stream, port, &port.to_string(), timer)
        }
        Err(error) => {
            trouble(events, "open a socket for a callback", &error);
            return NO_ANSWER;
        }
    };
    // From here on it is the call that the timekeeper ends, and no longer the asker's connection.
    let is_wanted = seat.with_seat(|occupied| {
        let is_wanted = occupied.seat.phase() == Phase::Calling;
        if is_wanted {
            occupied.connection = Some(Arc::clone(&connection));
        }
        is_wanted
    });
    if !is_wanted {
        return NO_ANSWER;
    }
    asker.outbox.send_doc(&ServerDoc::CallingBack { port });
    asker.outbox.hang_up(CloseReason::Terminate);
    // Closed now, and not when the session that it asked for is over.
    drop(asker);
    events.emit(|| EntranceEvent::Calling { port, peer: target });

    let outbox = &connection.outbox;
    let call = outbox.stream().call(|| !outbox.has_ended());
    let now = sessions.clock.now();
    if call.is_err() || !seat.with_seat(|occupied| occupied.seat.answered(now)) {
        return NO_ANSWER;
    }
    events.emit(|| ChatEvent::Seated {
        port,
        peer: target,
        via: None,
    });
    // The passcode is the proof of who calls. It has let somebody in, and admits nobody else.
    let welcome = ServerDoc::CalledBack {
        port,
        passcode: passcode.into(),
        max: None,
    };
    sessions.pairs.enter(seat.number, &connection, &welcome);
    Session::new(sessions, AtWorker::new(seat), &connection).run(&mut *decoder)
}

fn refuse(
    sessions: &Sessions,
    seat: &SharedSeat,
    asker: &Connection,
    sentence: String,
) -> CloseReason {
    let (port, code) = (seat.port, ErrorCode::BadCallback);
    asker.outbox.send_doc(&ServerDoc::Error {
        code,
        sentence: sentence.into(),
    });
    sessions.events.emit(|| ChatEvent::Refused { port, code });
    BAD_CALLBACK
}

/// Where to call, if that is allowed: the asker's own address and a port of its own.
fn target(request: &CallbackRequest, asker: SocketAddr) -> Option<SocketAddr> {
    let port: u16 = request.port.parse().ok()?;
    if port < limits::FIRST_ORDINARY_PORT {
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

/// Whether an address is this machine's, as far as whoever asked at `here` shows. A worker that calls a
/// port of its own server talks with itself, and its seat is taken by nobody.
fn is_here(target: SocketAddr, here: &io::Result<SocketAddr>) -> bool {
    let asker = target.ip().to_canonical();
    asker.is_loopback()
        || here
            .as_ref()
            .is_ok_and(|here| here.ip().to_canonical() == asker)
}

/// A socket that is not connected yet. The target will be called from the address at which it asked.
fn to_call(asker: &Connection, target: SocketAddr, sockets: &Sockets) -> io::Result<Stream> {
    let asked_on = asker.outbox.stream();
    let stream = Stream::unconnected(asked_on.local_addr()?, target, asked_on.tap())?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(sockets.tick))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asker_is_called_and_on_an_ordinary_port() {
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
