//! The first frame on a connection: the passcode, or anything else.

use crate::event::{EntranceEvent, Events};
use crate::hall::Connection;
use crate::net::{Opening, Pending, Port, is_timeout};
use crate::server::guard::foreign::{TLS_FAILED, is_tls};
use crate::wire::{CloseReason, ErrorCode, FrameReader, Handshake, ServerDoc};

/// Comes to speak TLS with a caller, if this server speaks it. Its timekeeper ends what takes too long; `note` tells it
/// that this is over, and only after that it is told to others.
///
/// # Errors
/// There is nothing more to be said; it has been told of.
pub(crate) fn shake_hands(
    connection: &Connection,
    pending: Option<&Pending>,
    port: Port,
    events: &Events,
    note: impl FnOnce(),
) -> Result<(), CloseReason> {
    let (outbox, peer) = (&connection.outbox, connection.peer);
    if !outbox.stream().is_secured() {
        return Ok(());
    }
    let shaken = match pending {
        Some(pending) => pending.handshake(),
        None => outbox.stream().shake_hands(None),
    };
    shaken.map_err(|error| {
        // Whoever was ended in the middle of it was ended for another reason.
        if !outbox.has_ended() {
            tell_no_tls(connection, port, events, error.to_string());
        }
        TLS_FAILED
    })?;
    note();
    events.emit(|| EntranceEvent::Secured { port, peer });
    Ok(())
}

fn tell_no_tls(connection: &Connection, port: Port, events: &Events, error: String) {
    let peer = connection.peer;
    events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
}

/// Waits for the first frame and looks for a passcode in it. `Ok(None)` is any other frame; if it is plain
/// why there is no passcode in it, the client has been told.
///
/// A caller without a seat is `pending`: it yields to others if it keeps its thread waiting.
pub(crate) fn first_frame(
    connection: &Connection,
    pending: Option<&Pending>,
    port: Port,
    events: &Events,
    frames: &mut FrameReader,
) -> Result<Option<Handshake>, CloseReason> {
    let outbox = &connection.outbox;
    loop {
        match frames.next_frame() {
            Ok(Some(frame)) => {
                if outbox.codec().is_web() {
                    outbox.stream().tap().saw_frame(connection.peer, frame);
                }
                let handshake = outbox.codec().read_handshake(frame, port);
                if handshake.is_none()
                    && !outbox.codec().is_original()
                    && let Some(sentence) = why_no_passcode(frame)
                {
                    outbox.send_doc(&ServerDoc::Error {
                        code: ErrorCode::Malformed,
                        sentence: sentence.into(),
                    });
                }
                return Ok(handshake);
            }
            Ok(None) => {}
            // A browser's frames have an end of their own.
            Err(error) if outbox.codec().is_web() => return Err(CloseReason::from(&error)),
            Err(_) => return Ok(None),
        }
        if let Some(pongs) = frames.take_pongs() {
            outbox.send(&pongs);
        }
        let read = match pending {
            Some(pending) => frames.read_from(&mut &*pending),
            None => frames.read_from(&mut outbox.stream()),
        };
        match read {
            Ok(0) if frames.end_last_line() => {}
            Ok(0) => return Err(CloseReason::PeerClosed),
            Ok(_) if outbox.has_ended() => return Err(CloseReason::ConnectionReset),
            Ok(_) if is_tls(frames.unfinished()) => {
                let error = Opening::Tls.to_string();
                outbox.send_doc(&ServerDoc::Error {
                    code: ErrorCode::Malformed,
                    sentence: error.as_str().into(),
                });
                tell_no_tls(connection, port, events, error);
                return Err(TLS_FAILED);
            }
            // For the timekeeper, which has to say what is waited for.
            Ok(_) if frames.unfinished().ends_with(b"</CLIENT>") => connection.lacks_a_line_feed(),
            Ok(_) => {}
            Err(error) if pending.is_some() && is_timeout(&error) => {
                connection.end_silent();
                return Err(CloseReason::HandshakeTimeout);
            }
            Err(_) => return Err(CloseReason::ConnectionReset),
        }
    }
}

/// Why somebody who may well know the passcode has not said it in this frame.
fn why_no_passcode(frame: &[u8]) -> Option<&'static str> {
    let begins_as_utf_16 = frame.starts_with(b"\xff\xfe") || frame.starts_with(b"\xfe\xff");
    if begins_as_utf_16 || frame.contains(&0) {
        return Some("that is no UTF-8: write your lines in UTF-8, not in UTF-16");
    }
    let text = String::from_utf8_lossy(frame);
    let text = text.trim();
    (text.starts_with("<CLIENT") && !text.ends_with("</CLIENT>"))
        .then_some("a document is one line, and yours ends in the middle of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_told_is_told() {
        let utf_16: Vec<u8> = "<CLIENT>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let why = |frame: &[u8]| why_no_passcode(frame).unwrap_or_default().to_owned();
        assert!(why(&utf_16).contains("UTF-16"));
        assert!(why(b"<CLIENT>").contains("one line"));
        for plain in [
            "<CLIENT><HandshakePasscode>x</HandshakePasscode></CLIENT>",
            "hello",
            "",
        ] {
            assert_eq!(why(plain.as_bytes()), "", "{plain}");
        }
    }
}
