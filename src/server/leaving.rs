//! The end of somebody's time in a seat.

use std::sync::Arc;

use super::house::{House, Post};
use super::rooms;
use crate::event::{End, What};
use crate::hall::Guest;

/// Takes a guest out of everything and closes the connection. The seat is closing after it, and
/// still to be freed.
pub(super) fn leave_seat(house: &House, post: &Post, guest: &Arc<Guest>, end: End) {
    let (outbox, peer) = (&guest.outbox, guest.peer);
    rooms::leave_all(house, guest);
    house.people.leave(guest);
    house.pairs.leave(post.number, guest);
    post.with_seat(|occupied| {
        occupied.seat.close();
        occupied.connection = None;
    });
    // If the timer thread or a full socket has ended it before, that is the reason that counts.
    outbox.hang_up(end);
    house.events.tell(|| What::Left {
        port: post.port,
        peer,
        end: outbox.ended().unwrap_or(end),
    });
}
