//! The wire format: a byte stream is split into frames, and each frame holds one small document.
//!
//! This crate opens no socket, starts no thread and takes no lock, and no other crate imports the
//! XML parser. Each connection has a [`Codec`], chosen once. The code that uses it works with typed
//! documents ([`ClientDoc`], [`ServerDoc`]) and never sees XML.
//!
//! ```
//! use portal_wire::{ClientDoc, Codec, FrameReader};
//!
//! let codec = Codec::default();
//! let mut bytes = Vec::new();
//! codec.write_client(&ClientDoc::message("hello"), &mut bytes);
//! assert_eq!(bytes, b"<CLIENT><message>hello</message></CLIENT>\n");
//!
//! let mut frames = FrameReader::new(codec.max_frame);
//! frames.read_from(&mut bytes.as_slice())?;
//! let frame = frames.next_frame()?.expect("one whole frame");
//! assert_eq!(codec.read_client(frame)?, ClientDoc::message("hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]

mod client_doc;
mod close_reason;
mod doc;
mod documents;
mod elements;
mod frame;
mod frame_error;
mod frames;
mod legacy;
pub mod limits;
mod name;
mod port;
mod server_doc;
mod text;
pub mod time;
mod websocket;
mod well_formed;
#[cfg(test)]
mod xml_tests;

pub use client_doc::{ClientCommand, ClientDoc};
pub use close_reason::CloseReason;
pub use doc::{CallbackRequest, DocError, ErrorCode, Handshake, Secret};
pub use elements::{Elsewhere, RoomAccess};
pub use frame::{FrameReader, Framing, WebInput};
pub use frame_error::FrameError;
pub use frames::Frames;
pub use name::{Addressed, Name};
pub use port::Port;
pub use server_doc::{Relay, Scope, ServerDoc};
pub use text::{
    Class, Shown, columns_at_most, columns_of, for_each_shown, is_default_ignorable,
    printable_lines,
};
pub use text::{escaped_bytes, xml_text};
pub use text::{printable, printable_text};
pub use websocket::{CloseCode, write_close as write_websocket_close};

use std::fmt;

/// The dialect of documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// XML, as `protocol` describes it.
    Xml,
    /// The plain strings in seed 000, revision 0.
    LegacyPlain,
    /// The XML in seed 000, revisions 1 and 2.
    LegacyXml,
}

/// The revision of the original program (seed 000) at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revision {
    /// TCP portal, plain strings.
    V0,
    /// TCP portal, XML.
    V1,
    /// UDP portal, XML.
    V2,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Revision::V0 => "0",
            Revision::V1 => "1",
            Revision::V2 => "2",
        })
    }
}

impl Revision {
    /// Returns whether the portal of this revision uses UDP.
    pub fn asks_by_udp(self) -> bool {
        self == Revision::V2
    }
}

/// The encoding of one connection's documents: the framing and the dialect, chosen once.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// The longest frame accepted from the peer, in bytes, without its delimiter or length prefix.
    pub max_frame: usize,
    framing: Framing,
    dialect: Dialect,
}

impl Default for Codec {
    fn default() -> Codec {
        Codec::xml(limits::MAX_FRAME)
    }
}

impl Codec {
    /// Returns the codec for XML lines, which accepts frames of up to `max_frame` bytes.
    pub fn xml(max_frame: usize) -> Codec {
        Codec {
            max_frame,
            framing: Framing::Line,
            dialect: Dialect::Xml,
        }
    }

    /// Returns the codec for the original programs of this revision.
    pub fn legacy(revision: Revision) -> Codec {
        let dialect = match revision {
            Revision::V0 => Dialect::LegacyPlain,
            Revision::V1 | Revision::V2 => Dialect::LegacyXml,
        };
        Codec {
            max_frame: limits::MAX_LEGACY_FRAME,
            framing: Framing::LengthPrefixed,
            dialect,
        }
    }

    /// Returns the codec for browsers: XML in WebSocket messages.
    pub fn web(max_frame: usize) -> Codec {
        Codec {
            max_frame,
            framing: Framing::WebSocket,
            dialect: Dialect::Xml,
        }
    }

    fn is_web(&self) -> bool {
        self.framing == Framing::WebSocket
    }

    /// Appends the frame that closes a connection after the last document; nothing if the end of
    /// the stream closes it.
    pub fn write_close(&self, code: CloseCode, out: &mut Vec<u8>) {
        if self.is_web() {
            websocket::write_close(code as u16, out);
        }
    }

    /// Appends the framing's ping, if it has one.
    pub fn write_ping(&self, out: &mut Vec<u8>) {
        if self.is_web() {
            websocket::write_ping(out);
        }
    }

    fn announced_max(&self) -> Option<usize> {
        let usual = self.is_legacy() || self.max_frame == limits::MAX_FRAME;
        (!usual).then_some(self.max_frame)
    }

    /// Adapts this codec to a server that has announced that it accepts frames of up to `max`
    /// bytes.
    pub fn taking(mut self, max: Option<usize>) -> Codec {
        self.max_frame = max.unwrap_or(self.max_frame);
        self
    }

    /// Returns whether the peer is one of the original programs, which only chat.
    pub fn is_legacy(&self) -> bool {
        self.dialect != Dialect::Xml
    }

    fn is_plain(&self) -> bool {
        self.dialect == Dialect::LegacyPlain
    }

    /// Creates a reader for the peer's frames.
    pub fn reader(&self) -> FrameReader {
        FrameReader::with(self.framing, self.max_frame)
    }

    /// Creates a reader for a server's frames, which may be longer than a client's.
    pub fn reader_of_server(&self) -> FrameReader {
        FrameReader::with(self.framing, limits::MAX_SERVER_FRAME)
    }

    /// Appends a client's document to `out` as one frame; nothing if the dialect has no such
    /// document.
    pub fn write_client(&self, doc: &ClientDoc<'_>, out: &mut Vec<u8>) {
        if !self.is_legacy() {
            return self
                .framing
                .write(out, |out| client_doc::write_client(doc, out));
        }
        if let Some(content) = legacy::client_content(doc, self.is_plain()) {
            self.framing
                .write(out, |out| out.extend_from_slice(&content));
        }
    }

    /// Appends a server's document to `out` as one frame; nothing if the dialect has no such
    /// document.
    ///
    /// A welcome announces the longest frame, unless that is [`limits::MAX_FRAME`].
    pub fn write_server(&self, doc: &ServerDoc<'_>, out: &mut Vec<u8>) {
        let announcing = self.announced_max().and_then(|max| doc.announcing(max));
        let doc = announcing.as_ref().unwrap_or(doc);
        if !self.is_legacy() {
            return self
                .framing
                .write(out, |out| server_doc::write_server(doc, out));
        }
        if let Some(content) = legacy::server_content(doc, self.is_plain()) {
            self.framing
                .write(out, |out| out.extend_from_slice(&content));
        }
    }

    /// Appends a client's first frame on `port` to `out`. (The original programs do not support
    /// callbacks.)
    pub fn write_handshake(&self, port: Port, handshake: &Handshake, out: &mut Vec<u8>) {
        if !self.is_legacy() {
            let doc = ClientDoc::Handshake {
                passcode: handshake.passcode.as_str().into(),
                callback: handshake.callback.clone(),
            };
            return self.write_client(&doc, out);
        }
        let content = legacy::handshake_content(port, &handshake.passcode, self.is_plain());
        self.framing
            .write(out, |out| out.extend_from_slice(&content));
    }

    /// Encodes a server's document as one frame.
    pub fn server_frame(&self, doc: &ServerDoc<'_>) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128);
        self.write_server(doc, &mut frame);
        frame
    }

    /// Reads a client's first frame on `port`; `None` if it contains no passcode.
    pub fn read_handshake(&self, frame: &[u8], port: Port) -> Option<Handshake> {
        if self.is_legacy() {
            let passcode = legacy::read_passcode(frame, self.is_plain(), port)?;
            return Some(Handshake {
                passcode,
                callback: None,
            });
        }
        self.read_client(frame).ok()?.into_handshake()
    }

    /// Reads a client's document from one frame.
    ///
    /// # Errors
    /// [`DocError`]; each variant has the error code for the client. Frames from an original
    /// program cause no error, because any frame without another meaning is chat.
    pub fn read_client<'f>(&self, frame: &'f [u8]) -> Result<ClientDoc<'f>, DocError> {
        if self.is_legacy() {
            return Ok(legacy::read_client(frame, self.is_plain()));
        }
        client_doc::read_client(utf8(frame)?)
    }

    /// Reads a server's document from one frame.
    ///
    /// # Errors
    /// [`DocError`], including for a document that this version does not know.
    pub fn read_server<'f>(&self, frame: &'f [u8]) -> Result<ServerDoc<'f>, DocError> {
        if self.is_legacy() {
            return Ok(legacy::read_server(frame, self.is_plain()));
        }
        server_doc::read_server(utf8(frame)?)
    }
}

/// Encodes a server's document as a datagram, without framing, because one datagram is one message.
pub fn server_datagram(doc: &ServerDoc<'_>) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(128);
    server_doc::write_server(doc, &mut datagram);
    datagram
}

/// Returns the datagram that requests a port from the UDP portal. It is padded to be no shorter
/// than any reply, so that the portal can't be used to amplify traffic against a third party.
pub fn portal_request() -> Vec<u8> {
    const LONGEST_ANSWER: usize = 160;
    let mut datagram = Vec::with_capacity(LONGEST_ANSWER);
    client_doc::write_client(&ClientDoc::Command(ClientCommand::Port), &mut datagram);
    let end = datagram.len() - "</CLIENT>".len();
    let padding = LONGEST_ANSWER.saturating_sub(datagram.len() + "<padding></padding>".len());
    let padding = format!("<padding>{}</padding>", ".".repeat(padding));
    datagram.splice(end..end, padding.into_bytes());
    datagram
}

fn utf8(frame: &[u8]) -> Result<&str, DocError> {
    std::str::from_utf8(frame).map_err(|_| DocError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVISIONS: [Revision; 3] = [Revision::V0, Revision::V1, Revision::V2];

    fn welcome() -> ServerDoc<'static> {
        ServerDoc::Welcome {
            port: Port::new(50001).unwrap(),
            room: None,
            max: None,
        }
    }

    #[test]
    fn only_revision_2_asks_by_udp() {
        assert_eq!(REVISIONS.map(|one| one.to_string()), ["0", "1", "2"]);
        assert_eq!(REVISIONS.map(Revision::asks_by_udp), [false, false, true]);
    }

    #[test]
    fn a_welcome_announces_an_unusual_limit() {
        let has_max = |codec: Codec| {
            let frame = codec.server_frame(&welcome());
            String::from_utf8_lossy(&frame).contains(" max='4096'")
        };
        assert!(has_max(Codec::xml(4096)) && has_max(Codec::web(4096)));
        let usual = Codec::default();
        assert!(!String::from_utf8_lossy(&usual.server_frame(&welcome())).contains("max"));
        assert!(!has_max(Codec::legacy(Revision::V1).taking(Some(4096))));
        assert_eq!(usual.taking(Some(7)).max_frame, 7);
        assert_eq!(usual.taking(None).max_frame, limits::MAX_FRAME);
    }

    #[test]
    fn only_browsers_get_pings_and_close_frames() {
        let written = |codec: Codec| {
            let mut out = Vec::new();
            codec.write_ping(&mut out);
            codec.write_close(CloseCode::Full, &mut out);
            out
        };
        assert_eq!(written(Codec::web(8192)), b"\x89\x00\x88\x02\x03\xf5");
        for other in [Codec::default(), Codec::legacy(Revision::V0)] {
            assert!(written(other).is_empty());
        }
    }

    #[test]
    fn each_codec_writes_its_own_bytes_and_reads_them() {
        let terminate = ClientDoc::Command(ClientCommand::Terminate);
        let (xml, plain) = (
            "<CLIENT><command>TERMINATE</command></CLIENT>",
            "CLIENT>>> TERMINATE",
        );
        let (xml_full, plain_full) = ("<SERVER><command>FULL</command></SERVER>", "SERVER>>> FULL");
        let line = |text: &str| format!("{text}\n").into_bytes();
        let counted = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let legacy = Codec::legacy;
        for (codec, client, server) in [
            (Codec::default(), line(xml), line(xml_full)),
            (legacy(Revision::V0), counted(plain), counted(plain_full)),
            (legacy(Revision::V1), counted(xml), counted(xml_full)),
            (legacy(Revision::V2), counted(xml), counted(xml_full)),
        ] {
            let mut out = Vec::new();
            codec.write_client(&terminate, &mut out);
            assert_eq!(out, client);
            assert_eq!(codec.server_frame(&ServerDoc::Full), server);
            let frame = |bytes: &[u8]| {
                let mut reader = codec.reader().after(bytes);
                reader.next_frame().unwrap().expect("a frame").to_vec()
            };
            assert_eq!(codec.read_client(&frame(&client)), Ok(terminate.clone()));
            assert_eq!(codec.read_server(&frame(&server)), Ok(ServerDoc::Full));
        }
    }

    #[test]
    fn a_handshake_is_read_as_it_was_written() {
        let port = Port::new(50001).unwrap();
        let handshake = Handshake {
            passcode: "123456789".to_owned(),
            callback: None,
        };
        let legacy = REVISIONS.map(Codec::legacy);
        for codec in legacy.into_iter().chain([Codec::default()]) {
            let mut out = Vec::new();
            codec.write_handshake(port, &handshake, &mut out);
            let mut reader = codec.reader();
            reader.read_from(&mut &out[..]).unwrap();
            let frame = reader.next_frame().unwrap().expect("a frame");
            assert_eq!(codec.read_handshake(frame, port), Some(handshake.clone()));
            assert_eq!(codec.read_handshake(b"hello", port), None);
        }
    }

    #[test]
    fn a_server_may_send_longer_frames_than_a_client() {
        let frame = [&[b'x'; limits::MAX_FRAME + 1][..], b"\n"].concat();
        let read = |mut reader: FrameReader| {
            let mut rest = &frame[..];
            loop {
                match reader.next_frame()?.map(<[u8]>::len) {
                    None if reader.read_from(&mut rest).unwrap() > 0 => {}
                    length => return Ok(length),
                }
            }
        };
        let codec = Codec::default();
        assert_eq!(
            read(codec.reader_of_server()),
            Ok(Some(limits::MAX_FRAME + 1))
        );
        let limit = limits::MAX_FRAME;
        assert_eq!(read(codec.reader()), Err(FrameError::TooLong { limit }));
    }

    /// The request for a port is as long as the longest reply, so that the portal amplifies nothing.
    #[test]
    fn a_datagram_is_one_document_without_framing() {
        let request = portal_request();
        assert_eq!(request.len(), 160);
        assert_eq!(
            Codec::default().read_client(&request),
            Ok(ClientDoc::Command(ClientCommand::Port))
        );
        let full = server_datagram(&ServerDoc::Full);
        assert_eq!(full, b"<SERVER><command>FULL</command></SERVER>");
        let not_text = Codec::default().read_server(b"<SERVER>\xff</SERVER>");
        assert_eq!(not_text, Err(DocError::NotUtf8));
    }
}
