//! TLS handshake errors.

use std::fmt;
use std::io;

use super::opening::Opening;

/// The reason why a TLS handshake failed.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer's first bytes, which are not TLS.
    PlainText(Vec<u8>),
    /// One side rejected the handshake. Contains the reason given by the TLS library.
    Refused(String),
    /// The connection failed, or the handshake timed out.
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
            HandshakeError::Io(error) => write!(f, "the TLS handshake did not complete: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}
