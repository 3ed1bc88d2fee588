//! A worker: one thread, one port, one client at a time (seed 000, rules 3 to 6 and 9).
//!
//! Read it top to bottom: a caller connects; the worker lets it say the passcode, once; whoever
//! is right chats until something ends it; then the worker clears up, changes the passcode and
//! puts its port back on the workload stack. The timeouts are the timer thread's business: it
//! shuts the socket down, and the read in here returns.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::accepting::accept_each;
use super::callback;
use super::handshake::first_frame;
use super::house::{House, Post};
use super::leaving::leave_seat;
use super::panics::{caught, report_panic};
use super::session::{Home, Session};
use crate::event::{End, What};
use crate::hall::Guest;
use crate::limits;
use crate::net::{Listener, Stream};
use crate::outbox::Outbox;
use crate::seat::{Arrival, Verdict, Wish};
use crate::wire::{Handshake, ServerDoc};

/// The worker's thread: accepts until the clock stops.
pub(super) fn serve(house: &House, post: &Post, listener: &Listener) {
    let is_over = || house.clock.is_stopped();
    accept_each(listener, &house.callers(), is_over, |stream, peer| {
        receive(house, post, listener, stream, peer);
    });
}

/// One caller, from the connection to the free seat.
fn receive(house: &House, post: &Post, listener: &Listener, stream: Stream, peer: SocketAddr) {
    let welcome = || welcome_and_clear_up(house, post, listener, stream, peer);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(welcome)) {
        let end = report_panic(&house.events, panic.as_ref());
        // From the beginning: what has been cleared up already is cleared up by doing nothing.
        caught(&house.events, || clear_up(house, post, listener, end));
    }
}

fn welcome_and_clear_up(
    house: &House,
    post: &Post,
    listener: &Listener,
    stream: Stream,
    peer: SocketAddr,
) {
    let Some(guest) = let_in(house, post, stream, peer) else {
        return;
    };
    house.events.tell(|| What::Arrived {
        port: post.port,
        peer,
    });
    // Whatever goes wrong over one client costs that client alone: the clearing up is the same.
    let end = catch_unwind(AssertUnwindSafe(|| visit(house, post, guest)))
        .unwrap_or_else(|panic| report_panic(&house.events, panic.as_ref()));
    clear_up(house, post, listener, end);
}

/// Asks the seat whether this caller is expected. If so, the connection is in the seat, for the
/// timer thread to find; if not, it has been turned away.
fn let_in(house: &House, post: &Post, stream: Stream, peer: SocketAddr) -> Option<Arc<Guest>> {
    // It can't fail on a socket that has just been accepted; if it did, the connection would be
    // slower but not wrong.
    let _ = stream.set_nodelay(true);
    let now = house.clock.now();
    let label = post.port.to_string();
    let arrival = post.with_seat(|occupied| match occupied.seat.arrive(peer.ip(), now) {
        Arrival::Expected => {
            house.may_panic("let-in");
            let outbox = Outbox::new(stream, house.codec, post.timer.clone(), house.tick);
            let guest = Arc::new(Guest::new(outbox, peer, &label, now));
            occupied.connection = Some(Arc::clone(&guest));
            Ok(guest)
        }
        Arrival::Stray => Err(stream),
    });
    arrival
        .map_err(|stream| turn_away(house, post, stream, peer))
        .ok()
}

fn turn_away(house: &House, post: &Post, stream: Stream, peer: SocketAddr) {
    stream.send_and_close(&house.codec.server_frame(&ServerDoc::WrongPasscode {
        port: post.port,
        room: None,
    }));
    // At the end there comes one more, from the server itself, to wake this thread.
    if !house.clock.is_stopped() {
        house.events.tell(|| What::Stray {
            port: post.port,
            peer,
        });
    }
}

/// The handshake, and the session after it. Returns why it is over.
fn visit(house: &House, post: &Post, guest: Arc<Guest>) -> End {
    let peer = guest.peer;
    let outbox = &guest.outbox;
    house.may_panic("handshake");
    let mut frames = outbox.codec().reader();
    let said = match first_frame(outbox, post.port, &mut frames) {
        Ok(said) => said,
        Err(end) => return end,
    };
    let (passcode, callback) = match said {
        Some(Handshake { passcode, callback }) => (Some(passcode), callback),
        None => (None, None),
    };
    let wish = if callback.is_some() {
        Wish::BeCalled
    } else {
        Wish::Stay
    };
    let now = house.clock.now();
    match post.with_seat(|occupied| occupied.seat.present(passcode.as_deref(), wish, now)) {
        Verdict::Admitted => {}
        Verdict::Refused => {
            house.events.tell(|| What::WrongPasscode {
                port: post.port,
                peer,
            });
            outbox.send_doc(&ServerDoc::WrongPasscode {
                port: post.port,
                room: None,
            });
            return End::WrongPasscode;
        }
        Verdict::TooLate => return End::Gone,
    }
    if let (Some(request), Some(passcode)) = (callback, passcode) {
        return callback::serve(house, post, guest, &request, &passcode);
    }
    house.events.tell(|| What::Seated {
        port: post.port,
        peer,
    });
    house.pairs.enter(
        post.number,
        &guest,
        &ServerDoc::Welcome {
            port: post.port,
            room: None,
            max: outbox.codec().announced_max(),
        },
    );
    Session::new(house, Home::Worker(post), &guest).run(&mut frames)
}

/// Makes the seat ready for the next guest. The order matters: nobody may find the guest in the
/// hall when its connection is closed, and everyone who came while it was seated is turned away
/// before the passcode changes and the port goes back, so that none of them can be taken for the
/// next guest.
fn clear_up(house: &House, post: &Post, listener: &Listener, end: End) {
    // After a callback, it is not the connection that the worker accepted that is in the seat.
    if let Some(guest) = post.with_seat(|occupied| occupied.connection.clone()) {
        leave_seat(house, post, &guest, end);
    } else {
        // Nobody but a caller over whom this thread has panicked.
        post.with_seat(|occupied| occupied.seat.close());
    }
    house.may_panic("clear-up");
    turn_backlog_away(house, post, listener);
    house.free_seat(post);
}

/// Turns away who connected while the seat was taken: what waits now, and at most as many as can
/// wait, so that a stream of strays can't keep the port from its next guest.
fn turn_backlog_away(house: &House, post: &Post, listener: &Listener) {
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    for _ in 0..=limits::WORKER_BACKLOG {
        let Ok((stream, peer)) = listener.accept() else {
            break;
        };
        turn_away(house, post, stream, peer);
    }
    // A listener that stayed non-blocking would make the accept loop spin, so insist.
    while listener.set_nonblocking(false).is_err() {
        std::thread::sleep(limits::ACCEPT_BACKOFF);
    }
}
