//! What travels: a byte stream is cut into frames, and each frame holds one small document.
//!
//! Nothing here opens a socket, starts a thread or takes a lock, and nothing outside imports the
//! XML parser. A [`Codec`] is chosen once per connection; whoever holds it speaks in typed
//! documents ([`ClientDoc`], [`ServerDoc`]) and never sees an angle bracket.
//!
//! ```
//! use portal_chat::wire::{ClientDoc, Codec, FrameReader};
//!
//! let codec = Codec::default();
//! let mut bytes = Vec::new();
//! codec.write_client(&ClientDoc::say("hello"), &mut bytes);
//! assert_eq!(bytes, b"<CLIENT><message>hello</message></CLIENT>\n");
//!
//! let mut frames = FrameReader::new(codec.max_frame);
//! frames.read_from(&mut bytes.as_slice())?;
//! let frame = frames.next_frame()?.expect("one whole frame");
//! assert_eq!(codec.read_client(frame)?, ClientDoc::say("hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod doc;
mod frame;
mod text;
mod xml;

pub use doc::{ClientCommand, ClientDoc, DocError, ErrorCode, Relay, Scope, Secret, ServerDoc};
pub use frame::{FrameError, FrameReader};
pub use text::printable;

use crate::limits;

/// How one connection's documents become bytes and back.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// The longest frame taken from the other side, in bytes without the line feed.
    pub max_frame: usize,
}

impl Default for Codec {
    fn default() -> Codec {
        Codec {
            max_frame: limits::MAX_FRAME,
        }
    }
}

impl Codec {
    /// Appends a client's document to `out` as one frame.
    pub fn write_client(&self, doc: &ClientDoc<'_>, out: &mut Vec<u8>) {
        xml::write_client(doc, out);
        out.push(b'\n');
    }

    /// Appends a server's document to `out` as one frame.
    pub fn write_server(&self, doc: &ServerDoc<'_>, out: &mut Vec<u8>) {
        xml::write_server(doc, out);
        out.push(b'\n');
    }

    /// A server's document as one frame.
    pub fn server_frame(&self, doc: &ServerDoc<'_>) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128);
        self.write_server(doc, &mut frame);
        frame
    }

    /// Reads what a client said from one frame.
    ///
    /// # Errors
    /// [`DocError`]: each variant has the code that the client is answered with.
    pub fn read_client<'f>(&self, frame: &'f [u8]) -> Result<ClientDoc<'f>, DocError> {
        xml::read_client(utf8(frame)?)
    }

    /// Reads what a server said from one frame.
    ///
    /// # Errors
    /// [`DocError`], also for a document that this version does not know.
    pub fn read_server<'f>(&self, frame: &'f [u8]) -> Result<ServerDoc<'f>, DocError> {
        xml::read_server(utf8(frame)?)
    }
}

/// A server's document as a datagram: no frame, because one datagram is one message.
pub fn server_datagram(doc: &ServerDoc<'_>) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(128);
    xml::write_server(doc, &mut datagram);
    datagram
}

/// The datagram that asks the UDP portal for a port, padded to be no shorter than any answer, so
/// that nobody can use the portal to multiply traffic aimed at somebody else.
pub fn portal_request() -> Vec<u8> {
    const LONGEST_ANSWER: usize = 160;
    let mut datagram = Vec::with_capacity(LONGEST_ANSWER);
    xml::write_client(&ClientDoc::Command(ClientCommand::Port), &mut datagram);
    let end = datagram.len() - "</CLIENT>".len();
    let padding = LONGEST_ANSWER.saturating_sub(datagram.len() + "<padding></padding>".len());
    let padding = format!("<padding>{}</padding>", ".".repeat(padding));
    datagram.splice(end..end, padding.into_bytes());
    datagram
}

fn utf8(frame: &[u8]) -> Result<&str, DocError> {
    std::str::from_utf8(frame).map_err(|_| DocError::NotUtf8)
}
