//! The protocol of seed 000's own programs, for `--compat`.

use std::io::{self, Read};

use portal_core::transport::{Decoder, Encoder, Encoding, Input, RequestId, Transport};
use portal_net::{Port, Stream};
use portal_wire::{ClientDoc, Codec, FrameError, FrameReader, Revision, ServerDoc};

/// The transport of length-prefixed strings: plain text in revision 0, XML in revisions 1 and 2.
pub struct Legacy {
    codec: Codec,
}

impl Legacy {
    /// Creates the transport for a revision.
    pub fn new(revision: Revision) -> Legacy {
        let codec = Codec::legacy(revision);
        Legacy { codec }
    }
}

impl Transport for Legacy {
    fn open(&self, _: &Stream, port: Port) -> (Box<dyn Decoder>, Box<dyn Encoder>) {
        let codec = self.codec;
        let decoder = LegacyDecoder {
            frames: codec.reader(),
            codec,
            port,
            has_begun: false,
        };
        (Box::new(decoder), Box::new(LegacyEncoder { codec }))
    }

    fn last_word(&self, doc: &ServerDoc<'_>) -> Vec<u8> {
        match doc {
            // These programs have no message for a ban; after FULL, they ask again.
            ServerDoc::Error { .. } => self.codec.server_frame(&ServerDoc::Full),
            doc => self.codec.server_frame(known(doc)),
        }
    }
}

/// Replaces a document that these programs do not understand.
fn known<'d, 'a>(doc: &'d ServerDoc<'a>) -> &'d ServerDoc<'a> {
    match doc {
        ServerDoc::FullHere { .. } => &ServerDoc::Full,
        doc => doc,
    }
}

struct LegacyDecoder {
    frames: FrameReader,
    codec: Codec,
    port: Port,
    has_begun: bool,
}

impl Decoder for LegacyDecoder {
    fn read_from(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.frames.read_from(source)
    }

    fn next_input(&mut self) -> Result<Option<Input<'_>>, FrameError> {
        let Some(frame) = self.frames.next_frame()? else {
            return Ok(None);
        };
        // Only the first frame can be a passcode. Later, the same text is chat.
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let handshake = self.codec.read_handshake(frame, self.port);
        let read = match handshake.filter(|_| is_first) {
            Some(handshake) => Ok(ClientDoc::Handshake {
                passcode: handshake.passcode.into(),
                callback: None,
            }),
            None => self.codec.read_client(frame),
        };
        let request = RequestId::default();
        Ok(Some(Input::Document {
            frame,
            read,
            is_verbatim: true,
            request,
        }))
    }

    fn unfinished(&self) -> &[u8] {
        self.frames.unfinished()
    }
}

struct LegacyEncoder {
    codec: Codec,
}

impl Encoder for LegacyEncoder {
    fn encoding(&self) -> Encoding {
        Encoding::of::<LegacyEncoder>(0)
    }

    fn encode(&mut self, doc: &ServerDoc<'_>, _: RequestId, out: &mut Vec<u8>) {
        self.codec.write_server(known(doc), out);
    }
}
