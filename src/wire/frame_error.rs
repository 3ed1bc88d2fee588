//! Why a stream of bytes can be no stream of frames.

use std::fmt;

use crate::CloseReason;

/// Why the stream can't be cut into frames any more. The connection has to be closed: where the
/// next frame would begin is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A frame is longer than `limit` bytes; the rest of it was not waited for.
    TooLong {
        /// The longest frame allowed, in bytes.
        limit: usize,
    },
    /// A length prefix that is none: more than five bytes, or negative.
    BadLength,
    /// Frames that break a rule of WebSocket's: which.
    NotWebSocket(&'static str),
    /// Binary data on a WebSocket: documents are text.
    Binary,
    /// A WebSocket's text that is no UTF-8.
    NotUtf8,
    /// Another protocol than the chat's, or a rule of one entrance: the reason for closing the
    /// connection, and what the client is told.
    Rejected {
        /// The reason.
        reason: CloseReason,
        /// The sentence, if the client can read one.
        sentence: Option<String>,
    },
    /// No error: the other side has closed its WebSocket, and may have said why.
    Closed {
        /// The close code that it sent.
        code: Option<u16>,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { limit } => {
                write!(f, "a message may be {limit} bytes long; send shorter ones")
            }
            FrameError::BadLength => f.write_str("the length before a message makes no sense"),
            FrameError::NotWebSocket(rule) => write!(f, "that is no WebSocket (RFC 6455): {rule}"),
            FrameError::Binary => f.write_str("binary data means nothing here; send text"),
            FrameError::NotUtf8 => f.write_str("a text message has to be UTF-8"),
            FrameError::Rejected { reason, sentence } => {
                f.write_str(sentence.as_deref().unwrap_or(reason.word()))
            }
            FrameError::Closed { .. } => f.write_str("the other side has closed the WebSocket"),
        }
    }
}

impl std::error::Error for FrameError {}
