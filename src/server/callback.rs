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

use super::accepting::trouble;
use super::house::{House, Post};
use super::session::{Home, Session};
use crate::event::{End, What};
use crate::hall::Guest;
use crate::limits;
use crate::net::Stream;
use crate::outbox::Outbox;
use crate::seat::Phase;
use crate::wire::{CallbackRequest, ErrorCode, ServerDoc};

/// Calls the client that asked for it on the connection of `asker`, and serves it. The seat is in
/// its `Calling` phase. Returns why it is over.
pub(super) fn serve(
    house: &House,
    post: &Post,
    asker: Arc<Guest>,
    request: &CallbackRequest,
    passcode: &str,
) -> End {
    let port = post.port;
    let here = asker.outbox.stream().local_addr();
    let allowed = target(request, asker.peer).filter(|target| !is_ours(house, *target, &here));
    let Some(target) = allowed else {
        let code = ErrorCode::BadCallback;
        asker.outbox.send_doc(&ServerDoc::Error {
            code,
            sentence: format!(
                "a worker calls nobody but the address that asked ({}), no port below {}, and \
                 not itself",
                asker.peer.ip().to_canonical(),
                limits::FIRST_ORDINARY_PORT
            )
            .into(),
        });
        house.events.tell(|| What::Refused { port, code });
        return End::BadCallback;
    };
    let guest = match prepare(house, post, &asker, target) {
        Ok(guest) => Arc::new(guest),
        Err(error) => {
            trouble(&house.events, "open a socket for a callback", &error);
            return End::NoAnswer;
        }
    };
    // From here on it is the call that the timer thread ends, and no longer the asker's connection.
    let is_wanted = post.with_seat(|occupied| {
        let is_wanted = occupied.seat.phase() == Phase::Calling;
        if is_wanted {
            occupied.connection = Some(Arc::clone(&guest));
        }
        is_wanted
    });
    if !is_wanted {
        return End::NoAnswer;
    }
    asker.outbox.send_doc(&ServerDoc::CallingBack { port });
    asker.outbox.hang_up(End::Terminate);
    // Closed now, and not when the session that it asked for is over.
    drop(asker);
    house.events.tell(|| What::Calling { port, peer: target });

    let call = guest.outbox.stream().call(|| !guest.outbox.is_over());
    let now = house.clock.now();
    if call.is_err() || !post.with_seat(|occupied| occupied.seat.answered(now)) {
        return End::NoAnswer;
    }
    house.events.tell(|| What::Seated { port, peer: target });
    // The passcode is the proof of who calls. It has let somebody in, and admits nobody else.
    let welcome = ServerDoc::CalledBack {
        port,
        passcode: passcode.into(),
        max: house.codec.announced_max(),
    };
    house.pairs.enter(post.number, &guest, &welcome);
    let mut frames = guest.outbox.codec().reader();
    Session::new(house, Home::Worker(post), &guest).run(&mut frames)
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

/// Whether that is one of this server's own ports, for an asker on the same machine: a worker that
/// talks with itself is a seat taken by nobody.
fn is_ours(house: &House, target: SocketAddr, here: &io::Result<SocketAddr>) -> bool {
    let asker = target.ip().to_canonical();
    let is_here = asker.is_loopback()
        || here
            .as_ref()
            .is_ok_and(|here| here.ip().to_canonical() == asker);
    let port = target.port();
    let mut ours = house.posts.iter().map(|post| post.port.get());
    is_here && (port == house.portal.get() || ours.any(|our| our == port))
}

/// A guest that is not connected yet. It will be called from the address at which it asked.
fn prepare(house: &House, post: &Post, asker: &Guest, target: SocketAddr) -> io::Result<Guest> {
    let here = asker.outbox.stream().local_addr()?;
    let stream = Stream::unconnected(here, target, &house.tap)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(house.tick))?;
    let outbox = Outbox::new(stream, house.codec, post.timer.clone(), house.tick);
    let label = post.port.to_string();
    Ok(Guest::new(outbox, target, &label, house.clock.now()))
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
