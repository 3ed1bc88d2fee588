//! The one loop in which callers are accepted, for every thread that does it: the portal, the workers,
//! the single port, the rooms.

use std::io;
use std::net::SocketAddr;
use std::thread;

use crate::event::{Events, What};
use crate::limits;
use crate::net::{Listener, Spare, Stream};
use crate::wire::{Codec, ServerDoc};

/// What is needed when a caller can't be taken in.
pub(super) struct Callers<'s> {
    /// Where that is told.
    pub(super) events: &'s Events,
    /// A descriptor that is kept for this.
    pub(super) spare: &'s Spare,
    /// How a caller is told FULL.
    pub(super) codec: Codec,
}

/// Accepts until it `is_over`, and hands each caller to `serve`. One who connects only to wake this
/// thread, because it is over, is handed to nobody.
pub(super) fn accept_each(
    listener: &Listener,
    callers: &Callers<'_>,
    is_over: impl Fn() -> bool,
    mut serve: impl FnMut(Stream, SocketAddr),
) {
    // Looked at before the accept, too: clearing a backlog, or turning somebody away for want of a
    // descriptor, may have taken the connection that was meant to wake this thread, and then no
    // other one comes.
    while !is_over() {
        let accepted = listener.accept();
        if is_over() {
            return;
        }
        match accepted {
            Ok((stream, peer)) => serve(stream, peer),
            Err(error) => accept_failed(callers, listener, &error),
        }
    }
}

/// After an `accept` that failed. A caller who can't be taken in for want of a descriptor is told
/// FULL with the one that is kept for this, instead of being left waiting.
fn accept_failed(callers: &Callers<'_>, listener: &Listener, error: &io::Error) {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
        let full = callers.codec.server_frame(&ServerDoc::Full);
        callers.spare.turn_one_away(listener, &full);
    }
    back_off(callers.events, "accept", error);
}

/// After a failed accept: without a rest the loop would fail half a million times a second for as
/// long as descriptors are short.
pub(super) fn back_off(events: &Events, doing: &'static str, error: &io::Error) {
    trouble(events, doing, error);
    thread::sleep(limits::ACCEPT_BACKOFF);
}

/// Tells that the system has refused something.
pub(super) fn trouble(events: &Events, doing: &'static str, error: &io::Error) {
    let error = error.to_string();
    events.tell(|| What::Trouble { doing, error });
}
