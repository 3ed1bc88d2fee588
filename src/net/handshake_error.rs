//! Why two sides do not come to speak TLS.

use std::fmt;
use std::io;

use super::opening::Opening;

/// What became of a handshake that failed.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer's first bytes, which are not TLS.
    PlainText(Vec<u8>),
    /// One of the two refused: why, in TLS' words.
    Refused(String),
    /// The connection broke, or it took too long.
    Io(io::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::PlainText(first) => match Opening::of(first) {
                Some(opening) => opening.fmt(f),
                None => f.write_str("the peer does not speak TLS: it sent plain text"),
            },
            HandshakeError::Refused(reason) => write!(f, "the TLS handshake failed: {reason}"),
            HandshakeError::Io(error) => write!(f, "the TLS handshake broke off: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}
