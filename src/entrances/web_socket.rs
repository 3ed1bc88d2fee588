//! The browser protocol: each WebSocket message (RFC 6455) is one XML document.

use std::io::{self, Read};
use std::net::SocketAddr;

use portal_core::transport::{Decoder, Encoder, Encoding, Input, RequestId, Transport};
use portal_net::{Port, Stream, Tap};
use portal_wire::{CloseCode, CloseReason, Codec, FrameError, FrameReader, ServerDoc, WebInput};

/// The WebSocket transport.
pub struct WebSocket {
    codec: Codec,
}

impl WebSocket {
    /// Creates the transport. Messages from clients may be up to `max_frame` bytes long.
    pub fn new(max_frame: usize) -> WebSocket {
        let codec = Codec::web(max_frame);
        WebSocket { codec }
    }

    /// Like [`Transport::open`], for a client from which the bytes `begun` have already been read.
    /// With `needs_passcode`, its first message is its passcode.
    pub(crate) fn open_after(
        &self,
        stream: &Stream,
        begun: &[u8],
        needs_passcode: bool,
    ) -> (Box<dyn Decoder>, Box<dyn Encoder>) {
        let codec = self.codec;
        let decoder = WebSocketDecoder {
            frames: codec.reader().after(begun),
            codec,
            tap: stream.tap().clone(),
            peer: stream.peer(),
            has_begun: !needs_passcode,
        };
        (Box::new(decoder), Box::new(WebSocketEncoder { codec }))
    }
}

impl Transport for WebSocket {
    fn open(&self, stream: &Stream, _: Port) -> (Box<dyn Decoder>, Box<dyn Encoder>) {
        self.open_after(stream, &[], true)
    }

    fn last_word(&self, doc: &ServerDoc<'_>) -> Vec<u8> {
        let mut frames = self.codec.server_frame(doc);
        let code = match doc {
            ServerDoc::Full | ServerDoc::FullHere { .. } => CloseCode::Full,
            _ => CloseCode::Refused,
        };
        self.codec.write_close(code, &mut frames);
        frames
    }
}

struct WebSocketDecoder {
    frames: FrameReader,
    codec: Codec,
    /// Records the content of frames, because the bytes on the wire are masked.
    tap: Tap,
    peer: SocketAddr,
    has_begun: bool,
}

impl Decoder for WebSocketDecoder {
    fn read_from(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.frames.read_from(source)
    }

    fn next_input(&mut self) -> Result<Option<Input<'_>>, FrameError> {
        // A first message that is too long is not a wrong passcode: it has its own close code.
        let rejected = |error: FrameError| match error {
            FrameError::TooLong { .. } if !self.has_begun => FrameError::Rejected {
                reason: CloseReason::TooLong,
                sentence: None,
            },
            error => error,
        };
        Ok(match self.frames.next_web_input().map_err(rejected)? {
            None => None,
            // Answer pings after the messages that were read with them.
            Some(WebInput::Pongs(reply)) => Some(Input::Alive { reply }),
            Some(WebInput::Message(frame)) => {
                self.has_begun = true;
                self.tap.saw_frame(self.peer, frame);
                Some(Input::Document {
                    frame,
                    read: self.codec.read_client(frame),
                    is_verbatim: false,
                    request: RequestId::default(),
                })
            }
        })
    }
}

struct WebSocketEncoder {
    codec: Codec,
}

impl Encoder for WebSocketEncoder {
    fn encoding(&self) -> Encoding {
        Encoding::of::<WebSocketEncoder>(0)
    }

    fn encode(&mut self, doc: &ServerDoc<'_>, _: RequestId, out: &mut Vec<u8>) {
        self.codec.write_server(doc, out);
    }

    fn encode_ping(&mut self, out: &mut Vec<u8>) {
        self.codec.write_ping(out);
    }

    fn encode_close(&mut self, reason: CloseReason, out: &mut Vec<u8>) {
        self.codec.write_close(close_code(reason), out);
    }
}

/// Returns the WebSocket close code for a reason (RFC 6455, section 7.4).
fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        CloseReason::Terminate
        | CloseReason::ClientIdleTimeout
        | CloseReason::ClientTotalTimeout
        | CloseReason::PeerClosed
        | CloseReason::ConnectionReset
        | CloseReason::Unacknowledged
        | CloseReason::PingTimeout => CloseCode::Normal,
        CloseReason::Shutdown => CloseCode::GoingAway,
        CloseReason::BAD_FRAMES => CloseCode::ProtocolError,
        CloseReason::BINARY => CloseCode::Unsupported,
        CloseReason::NOT_UTF8 => CloseCode::NotUtf8,
        CloseReason::TooLong => CloseCode::TooLong,
        CloseReason::Panicked => CloseCode::Failed,
        CloseReason::HandshakeTimeout
        | CloseReason::WrongPasscode
        | CloseReason::IdleTimeout
        | CloseReason::TotalTimeout
        | CloseReason::TooManyErrors
        | CloseReason::TooSlow
        | CloseReason::WrongPassword
        | CloseReason::TakenOver
        | CloseReason::Kicked
        | CloseReason::Banned
        | CloseReason::Evicted
        | CloseReason::Entrance(_) => CloseCode::Refused,
    }
}
