//! One port for everyone (`--single-port`; seeds 001, 002 and 003): no portal and no passcode.
//!
//! The thread that accepts hands each connection to a thread of its own, and that thread stays with
//! it. Everything behind the door is as on a worker's port: the same seats from the same stack, the
//! same timers, the same sessions.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;

use super::accepting::{accept_each, trouble};
use super::house::{Hand, House, Post};
use super::leaving::leave_seat;
use super::panics::{caught, report_panic};
use super::session::{Home, Session};
use crate::event::{End, What};
use crate::hall::Guest;
use crate::limits;
use crate::net::{Listener, Stream};
use crate::outbox::Outbox;
use crate::seat::Seat;
use crate::wire::ServerDoc;

/// The thread `single-50000`: accepts until the clock stops, and then waits for the connections.
pub(super) fn serve(house: &House, listener: &Listener) {
    let mut connections = Vec::new();
    let is_over = || house.clock.is_stopped();
    accept_each(listener, &house.callers(), is_over, |stream, peer| {
        connections.retain(|thread: &std::thread::JoinHandle<()>| !thread.is_finished());
        caught(&house.events, || {
            house.may_panic("single");
            connections.extend(seat(house, stream, peer));
        });
    });
    for connection in connections {
        // Each catches what may panic; if one ended by a panic all the same, it ended.
        let _ = connection.join();
    }
}

/// Gives a newcomer a seat and a thread, or says FULL.
fn seat(house: &House, stream: Stream, peer: SocketAddr) -> Option<std::thread::JoinHandle<()>> {
    // It can't fail on a socket that has just been accepted.
    let _ = stream.set_nodelay(true);
    // First, so that no seat is taken for a thread that can't be had.
    let sharing = house.this.upgrade()?;
    let Some(hand) = house.take_port(peer.ip()) else {
        full(house, stream, peer);
        return None;
    };
    let (post, guest) = match sit_down(house, hand, stream, peer) {
        Ok(seated) => seated,
        Err(stream) => {
            full(house, stream, peer);
            return None;
        }
    };
    let number = post.number;
    let visitor = Arc::clone(&guest);
    let builder = Builder::new()
        .name(format!("seat-{number}"))
        .stack_size(limits::THREAD_STACK);
    let thread = builder.spawn(move || {
        let post = &sharing.posts[number.index()];
        let end = catch_unwind(AssertUnwindSafe(|| visit(&sharing, post, &visitor)))
            .unwrap_or_else(|panic| report_panic(&sharing.events, panic.as_ref()));
        leave_seat(&sharing, post, &visitor, end);
        sharing.free_seat(post);
    });
    match thread {
        Ok(thread) => Some(thread),
        Err(error) => {
            trouble(&house.events, "start a connection's thread", &error);
            guest.outbox.send_doc(&ServerDoc::Full);
            leave_seat(house, post, &guest, End::Gone);
            house.free_seat(post);
            None
        }
    }
}

type SeatedGuest<'h> = (&'h Post, Arc<Guest>);

/// Nobody has to prove anything here, so the seat is taken in one step.
fn sit_down<'h>(
    house: &'h House,
    hand: Hand<'h>,
    stream: Stream,
    peer: SocketAddr,
) -> Result<SeatedGuest<'h>, Stream> {
    let Some(post) = hand.post() else {
        return Err(stream);
    };
    let now = house.clock.now();
    let guest = post.with_seat(|occupied| {
        let sit = |seat: &mut Seat, lease| seat.sit(lease, now);
        if hand.give(occupied, sit).is_none() {
            return Err(stream);
        }
        let outbox = Outbox::new(stream, house.codec, post.timer.clone(), house.tick);
        let guest = Arc::new(Guest::new(outbox, peer, &post.number.to_string(), now));
        occupied.connection = Some(Arc::clone(&guest));
        Ok(guest)
    })?;
    Ok((post, guest))
}

fn full(house: &House, stream: Stream, peer: SocketAddr) {
    stream.send_and_close(&house.codec.server_frame(&ServerDoc::Full));
    house.events.tell(|| What::Full { asker: peer });
}

fn visit(house: &House, post: &Post, guest: &Arc<Guest>) -> End {
    let (port, peer) = (post.port, guest.peer);
    house.events.tell(|| What::Seated { port, peer });
    house.pairs.enter(
        post.number,
        guest,
        &ServerDoc::WelcomeSingle {
            seat: post.number.get(),
            max: house.codec.announced_max(),
        },
    );
    let mut frames = guest.outbox.codec().reader();
    Session::new(house, Home::Worker(post), guest)
        .refusing_http()
        .run(&mut frames)
}
