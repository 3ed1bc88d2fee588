//! A worker's timekeeper: a thread that enforces the seat's deadlines and writes out what a full
//! socket left over.
//!
//! The worker can't do either, because it is blocked in a read. This thread blocks on one channel, in
//! which the ticks that are due here arrive, and word from an outbox that something has to be
//! written. It judges the deadlines by the tick that it was sent. It ends a session by shutting the
//! socket down, which makes the worker's read return.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::house::{House, Post};
use super::panics::report_panic;
use crate::clock::{Tick, Timekeeping};
use crate::event::{End, What};
use crate::hall::Guest;
use crate::outbox::Flush;
use crate::seat::Expiry;
use crate::wake::{Wake, Wakes};
use crate::wire::ServerDoc;

/// The timer's thread: runs until the clock stops, and then sees the guest out.
pub(super) fn serve(house: &House, post: &Post, timer: &Timekeeping) {
    let mut now = Tick::default();
    loop {
        let kept = catch_unwind(AssertUnwindSafe(|| {
            keep_time(house, post, timer.wakes(), &mut now)
        }));
        if let Err(panic) = kept {
            let end = report_panic(&house.events, panic.as_ref());
            if let Some(guest) = post.with_seat(|occupied| occupied.connection.clone()) {
                guest.outbox.cut(end);
            }
        } else {
            return see_out(house, post);
        }
    }
}

/// Looks at the deadlines at each tick, and writes out what was spilled, until the clock stops. Each
/// write takes a tick at most, and between two of them the ticks are looked at, so no deadline is
/// missed over a socket that takes nothing.
fn keep_time(house: &House, post: &Post, wakes: &Wakes, now: &mut Tick) {
    let mut waits = false;
    loop {
        let wake = if waits {
            wakes.try_next().unwrap_or(Wake::Work)
        } else {
            wakes.next()
        };
        house.may_panic("timer");
        match wake {
            Wake::Tick(tick) => *now = tick,
            Wake::Work => {}
            Wake::Stop => return,
        }
        let guest = enforce_deadlines(house, post, *now);
        let flush = guest.map(|guest| guest.outbox.write_out());
        waits = matches!(flush, Some(Flush::More | Flush::Stuck));
    }
}

/// Ends what is past its deadline. Returns whoever is connected.
fn enforce_deadlines(house: &House, post: &Post, now: Tick) -> Option<Arc<Guest>> {
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
