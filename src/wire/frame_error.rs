//! Errors in a stream of frames.

use std::fmt;

use crate::CloseReason;

/// The reason why a stream can no longer be split into frames. The connection must be closed,
/// because the start of the next frame is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A frame is longer than `limit` bytes. The reader does not wait for the rest of it.
    TooLong {
        /// The longest frame allowed, in bytes.
        limit: usize,
    },
    /// An invalid length prefix: more than five bytes, or a negative length.
    BadLength,
    /// Frames that violate this WebSocket rule.
    NotWebSocket(&'static str),
    /// Binary data on a WebSocket: documents are text.
    Binary,
    /// WebSocket text that is not UTF-8.
    NotUtf8,
    /// A protocol other than the chat's, or a violation of an entrance's own rule.
    Rejected {
        /// The reason for closing the connection.
        reason: CloseReason,
        /// The sentence for the client, if the client can read one.
        sentence: Option<String>,
    },
    /// Not an error: the peer has closed its WebSocket, possibly with a code.
    Closed {
        /// The peer's close code.
        code: Option<u16>,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { limit } => {
                write!(f, "message too long: send at most {limit} bytes")
            }
            FrameError::BadLength => f.write_str("invalid length prefix before a message"),
            FrameError::NotWebSocket(rule) => write!(f, "bad WebSocket frame (RFC 6455): {rule}"),
            FrameError::Binary => f.write_str("binary data is not supported; send text"),
            FrameError::NotUtf8 => f.write_str("a text message must be UTF-8"),
            FrameError::Rejected { reason, sentence } => {
                f.write_str(sentence.as_deref().unwrap_or(reason.word()))
            }
            FrameError::Closed { .. } => f.write_str("the peer has closed the WebSocket"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_the_peer_did_wrong() {
        let rejected = |sentence: Option<&str>| FrameError::Rejected {
            reason: CloseReason::BINARY,
            sentence: sentence.map(str::to_owned),
        };
        for (error, sentence) in [
            (
                FrameError::TooLong { limit: 8 },
                "message too long: send at most 8 bytes",
            ),
            (
                FrameError::BadLength,
                "invalid length prefix before a message",
            ),
            (
                FrameError::NotWebSocket("masked"),
                "bad WebSocket frame (RFC 6455): masked",
            ),
            (FrameError::NotUtf8, "a text message must be UTF-8"),
            (rejected(Some("use TLS")), "use TLS"),
            (rejected(None), "binary"),
        ] {
            assert_eq!(error.to_string(), sentence);
        }
    }
}
