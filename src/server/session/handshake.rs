//! The first frame on a connection: the passcode, or anything else.

use crate::event::End;
use crate::net::Port;
use crate::outbox::Outbox;
use crate::wire::{FrameReader, Handshake};

/// Waits for the first frame and looks for a passcode in it. `Ok(None)` is any other frame.
pub(crate) fn first_frame(
    outbox: &Outbox,
    port: Port,
    frames: &mut FrameReader,
) -> Result<Option<Handshake>, End> {
    loop {
        match frames.next_frame() {
            Ok(Some(frame)) => return Ok(outbox.codec().read_handshake(frame, port)),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        match frames.read_from(&mut outbox.stream()) {
            Ok(0) if frames.end_last_line() => {}
            Ok(0) => return Err(End::Gone),
            Ok(_) if outbox.has_ended() => return Err(End::Broken),
            Ok(_) => {}
            Err(_) => return Err(End::Broken),
        }
    }
}
