//! A worker's timekeeper: a thread that enforces the seat's deadlines and writes out what a full
//! socket left over.
//!
//! The worker can't do either, because it is blocked in a read. This thread sleeps by its bell,
//! which the ticker rings when it has sent a tick that is due here, and an outbox when something has
//! to be written. It ends a session by shutting the socket down, which makes the worker's read
//! return.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::house::{House, Post};
use super::panics::report_panic;
use crate::bell::Bell;
use crate::clock::Subscription;
use crate::event::{End, What};
use crate::hall::Guest;
use crate::outbox::Flush;
use crate::seat::Expiry;
use crate::wire::ServerDoc;

/// The timer's thread: runs until the clock stops, and then sees the guest out.
pub(super) fn serve(house: &House, post: &Post, subscription: &Subscription, bell: &Bell) {
    loop {
        bell.wait();
        // The tick only makes room for the next one: what time it is, the clock says.
        let _ = subscription.ticks().try_recv();
        // The clock is asked, and not the channel, which hands out a last tick before it tells that
        // it is disconnected: the bell may have been rung once for both.
        if house.clock.is_stopped() {
            return see_out(house, post);
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| keep_time(house, post))) {
            let end = report_panic(&house.events, panic.as_ref());
            if let Some(guest) = post.with_seat(|occupied| occupied.connection.clone()) {
                guest.outbox.cut(end);
            }
        }
    }
}

/// Looks at the deadlines and writes out what was spilled, by turns, until nothing waits. Each
/// write takes a tick at most, so no deadline is missed over a socket that takes nothing.
fn keep_time(house: &House, post: &Post) {
    house.may_panic("timer");
    loop {
        let guest = enforce_deadlines(house, post);
        let flush = guest.map(|guest| guest.outbox.write_out());
        let waits = matches!(flush, Some(Flush::More | Flush::Stuck));
        if !waits || house.clock.is_stopped() {
            return;
        }
    }
}

/// Ends what is past its deadline. Returns whoever is connected.
fn enforce_deadlines(house: &House, post: &Post) -> Option<Arc<Guest>> {
    let now = house.clock.now();
    let mut shown = None;
    let (expiry, guest) = post.with_seat(|occupied| {
        let next = || {
            let next = house.passcodes.random();
            shown = house.events.passcode(&next);
            next
        };
        (occupied.seat.expire(now, next), occupied.connection.clone())
    });
    let end = match expiry {
        None => return guest,
        Some(Expiry::NoShow(lease)) => {
            house.events.tell(|| What::NoShow { port: post.port });
            house.put_back(lease, shown);
            return guest;
        }
        Some(Expiry::IdleSoon) => {
            if let (Some(guest), Some(soon)) = (&guest, house.idle_soon) {
                let seconds = soon.get().saturating_mul(house.tick.as_secs().max(1));
                guest.outbox.send_doc(&ServerDoc::IdleSoon { seconds });
            }
            return guest;
        }
        Some(Expiry::Handshake) => End::Silent,
        Some(Expiry::NoAnswer) => End::NoAnswer,
        Some(Expiry::Idle) => End::Idle,
        Some(Expiry::Total) => End::Total,
    };
    if let Some(guest) = &guest {
        guest.outbox.end(end);
    }
    guest
}

/// The server is going down: nobody gets in any more, and whoever is here is told.
fn see_out(house: &House, post: &Post) {
    let (lease, guest) =
        post.with_seat(|occupied| (occupied.seat.bar(), occupied.connection.clone()));
    if let Some(lease) = lease {
        // Its passcode is good for nobody any more.
        house.put_back(lease, None);
    }
    if let Some(guest) = guest {
        guest.outbox.end(End::Shutdown);
        guest.outbox.write_out();
    }
}
