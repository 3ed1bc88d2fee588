//! The first frame on a connection, which should be the passcode.

use crate::connection::Connection;
use crate::transport::{Decoder, Input};
use portal_net::{Pending, is_timeout};
use portal_wire::{ClientDoc, CloseReason, ErrorCode, FrameError, Handshake, ServerDoc};

/// Waits for the first frame and returns the passcode in it. Returns `Ok(None)` for any other
/// frame; if the mistake is obvious, the client gets an error that explains it.
///
/// A caller without a seat is `pending`: if it takes too long, it yields its thread to other
/// callers.
pub fn first_frame(
    connection: &Connection,
    pending: Option<&Pending>,
    decoder: &mut dyn Decoder,
) -> Result<Option<Handshake>, CloseReason> {
    let outbox = &connection.outbox;
    let refuse = |sentence: &str| {
        outbox.send_doc(&ServerDoc::Error {
            code: ErrorCode::Malformed,
            sentence: sentence.into(),
        });
    };
    loop {
        match decoder.next_input() {
            Ok(Some(Input::Document {
                read: Ok(doc @ ClientDoc::Handshake { .. }),
                ..
            })) => return Ok(doc.into_handshake()),
            Ok(Some(Input::Document { frame, .. })) => {
                if let Some(sentence) = why_no_passcode(frame) {
                    refuse(sentence);
                }
                return Ok(None);
            }
            Ok(Some(Input::Alive { reply })) => {
                outbox.send(&reply);
                continue;
            }
            Ok(None) => {}
            Err(FrameError::TooLong { .. } | FrameError::BadLength) => return Ok(None),
            Err(error) => {
                if let FrameError::Rejected {
                    sentence: Some(sentence),
                    ..
                } = &error
                {
                    refuse(sentence);
                }
                return Err(CloseReason::from(&error));
            }
        }
        let read = match pending {
            Some(pending) => decoder.read_from(&mut &*pending),
            None => decoder.read_from(&mut outbox.stream()),
        };
        match read {
            Ok(0) if decoder.end_of_stream() => {}
            Ok(0) => return Err(CloseReason::PeerClosed),
            Ok(_) if outbox.has_ended() => return Err(CloseReason::ConnectionReset),
            // Lets the timer thread send an error that mentions the missing line feed.
            Ok(_) if decoder.unfinished().ends_with(b"</CLIENT>") => {
                connection.note_missing_line_feed()
            }
            Ok(_) => {}
            Err(error) if pending.is_some() && is_timeout(&error) => {
                connection.end_silent();
                return Err(CloseReason::HandshakeTimeout);
            }
            Err(_) => return Err(CloseReason::ConnectionReset),
        }
    }
}

/// Explains why a frame that was probably meant as a passcode is not valid.
fn why_no_passcode(frame: &[u8]) -> Option<&'static str> {
    let begins_as_utf_16 = frame.starts_with(b"\xff\xfe") || frame.starts_with(b"\xfe\xff");
    if begins_as_utf_16 || frame.contains(&0) {
        return Some("the line is not UTF-8; send your lines in UTF-8, not in UTF-16");
    }
    let text = String::from_utf8_lossy(frame);
    let text = text.trim();
    (text.starts_with("<CLIENT") && !text.ends_with("</CLIENT>"))
        .then_some("a document is one line, but this line ends before the document does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obvious_mistakes_are_explained() {
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
