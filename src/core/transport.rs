//! Encoding of one connection's documents.
//!
//! A transport has two halves, because the connection's own thread reads while other threads encode
//! for it: the thread owns the [`Decoder`], and the outbox's lock guards the [`Encoder`]. The core
//! has one transport, [`XmlLines`]; entrances have others.

use std::any::TypeId;
use std::io::{self, Read};

use portal_net::{Pending, Port, Stream};
use portal_wire::{
    ClientDoc, CloseReason, Codec, DocError, FrameError, FrameReader, Frames, ServerDoc,
};

use crate::connection::Connection;

/// Opens connections for one protocol.
pub trait Transport: Send + Sync {
    /// Returns the two halves for a new connection of a client at `port`.
    fn open(&self, stream: &Stream, port: Port) -> (Box<dyn Decoder>, Box<dyn Encoder>);

    /// Rejects a client whose first bytes, as far as they have arrived, belong to another protocol.
    /// Otherwise returns the stream, with all bytes still to be read. Does not block.
    fn screen(&self, stream: Stream, port: Port) -> Option<Stream> {
        let _ = port;
        Some(stream)
    }

    /// Completes a handshake that must precede the first document, then calls `established`. A
    /// caller without a seat is `pending`: it yields its thread to others if its handshake takes
    /// too long.
    ///
    /// # Errors
    /// The reason for closing the connection; the event for it is emitted.
    fn establish(
        &self,
        connection: &Connection,
        pending: Option<&Pending>,
        port: Port,
        established: &mut dyn FnMut(),
    ) -> Result<(), CloseReason> {
        let _ = (connection, pending, port, established);
        Ok(())
    }

    /// Returns a final document for a rejected client, followed by the bytes that close the
    /// connection.
    fn last_word(&self, doc: &ServerDoc<'_>) -> Vec<u8>;
}

/// Input from a client.
pub enum Input<'d> {
    /// A frame with a document.
    Document {
        /// The frame's content, as it arrived.
        frame: &'d [u8],
        /// The document, or the reason why the frame is not one.
        read: Result<ClientDoc<'d>, DocError>,
        /// True if the message is relayed unchanged: `%name%` in it does not specify its recipient
        /// (seed 003).
        is_verbatim: bool,
        /// Identifies the request to the encoder of its reply.
        request: RequestId,
    },
    /// Frames without a document, such as pings.
    Alive {
        /// The replies to send back.
        reply: Frames,
    },
}

/// Identifies a request to the encoder of its reply. The default is for documents that are not
/// replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestId(pub u32);

/// Turns the bytes that one client sends into documents.
pub trait Decoder: Send {
    /// Calls `read` once and keeps the bytes. Returns how many; 0 at the end of the stream.
    ///
    /// # Errors
    /// Any error from `read` except `Interrupted`, after which the read is retried.
    fn read_from(&mut self, source: &mut dyn Read) -> io::Result<usize>;

    /// Returns the next input in the bytes read so far, or `None` if more must be read.
    ///
    /// # Errors
    /// [`FrameError`]; no more input can be expected after it.
    fn next_input(&mut self) -> Result<Option<Input<'_>>, FrameError>;

    /// Notes the end of the stream. Returns whether that completes one more frame.
    fn end_of_stream(&mut self) -> bool {
        false
    }

    /// The bytes read so far that are not a whole frame.
    fn unfinished(&self) -> &[u8] {
        &[]
    }
}

/// Turns the documents for one client into bytes.
pub trait Encoder: Send {
    /// The encoding of a broadcast. It covers everything in the encoder's state that affects a
    /// broadcast: connections with the same encoding receive the same bytes.
    fn encoding(&self) -> Encoding;

    /// Appends the frames of `doc`, which may be none. `request` is the request that it answers.
    fn encode(&mut self, doc: &ServerDoc<'_>, request: RequestId, out: &mut Vec<u8>);

    /// Appends a frame that the client's program answers automatically, if the protocol has one.
    fn encode_ping(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Appends the frame that closes the connection, if the protocol has one.
    fn encode_close(&mut self, reason: CloseReason, out: &mut Vec<u8>) {
        let _ = (reason, out);
    }
}

/// Identifies an encoding: the encoder's type, and a number for its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encoding {
    encoder: TypeId,
    state: u64,
}

impl Encoding {
    /// The encoding of the encoders of type `E` in this state.
    pub fn of<E: Encoder + 'static>(state: u64) -> Encoding {
        let encoder = TypeId::of::<E>();
        Encoding { encoder, state }
    }
}

/// The protocol of seeds 000 to 004: one XML document per line.
#[derive(Clone, Copy, Debug)]
pub struct XmlLines {
    codec: Codec,
}

impl XmlLines {
    /// Creates the transport. Lines from clients may have up to `max_frame` bytes.
    pub fn new(max_frame: usize) -> XmlLines {
        let codec = Codec::xml(max_frame);
        XmlLines { codec }
    }
}

impl Transport for XmlLines {
    fn open(&self, _: &Stream, _: Port) -> (Box<dyn Decoder>, Box<dyn Encoder>) {
        let (frames, codec) = (self.codec.reader(), self.codec);
        (
            Box::new(XmlLineDecoder { frames, codec }),
            Box::new(XmlLineEncoder { codec }),
        )
    }

    fn last_word(&self, doc: &ServerDoc<'_>) -> Vec<u8> {
        self.codec.server_frame(doc)
    }
}

struct XmlLineDecoder {
    frames: FrameReader,
    codec: Codec,
}

impl Decoder for XmlLineDecoder {
    fn read_from(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.frames.read_from(source)
    }

    fn next_input(&mut self) -> Result<Option<Input<'_>>, FrameError> {
        let codec = self.codec;
        let input = |frame| Input::Document {
            frame,
            read: codec.read_client(frame),
            is_verbatim: false,
            request: RequestId::default(),
        };
        Ok(self.frames.next_frame()?.map(input))
    }

    fn end_of_stream(&mut self) -> bool {
        self.frames.end_last_line()
    }

    fn unfinished(&self) -> &[u8] {
        self.frames.unfinished()
    }
}

/// Encodes each document as one line of XML.
#[derive(Default)]
pub(crate) struct XmlLineEncoder {
    codec: Codec,
}

impl Encoder for XmlLineEncoder {
    fn encoding(&self) -> Encoding {
        Encoding::of::<XmlLineEncoder>(0)
    }

    fn encode(&mut self, doc: &ServerDoc<'_>, _: RequestId, out: &mut Vec<u8>) {
        self.codec.write_server(doc, out);
    }
}
