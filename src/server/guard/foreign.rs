//! Detects callers that do not speak the chat protocol by their first bytes.
//!
//! A web page can make its reader's browser connect to any port, so a browser's request must not
//! cost a seat. No chat document begins like an HTTP request.

use std::net::SocketAddr;

use crate::event::What;
use crate::net::{Opening, Port, Stream};

/// Number of a caller's first bytes that are inspected.
const LOOK: usize = 16;

/// A protocol other than the chat's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Foreign {
    /// An HTTP request.
    Http,
    /// A TLS handshake although the server was started without TLS, or a PROXY protocol header.
    Other(Opening),
}

impl Foreign {
    /// Returns the foreign protocol that begins with `bytes`, if there is one.
    pub(crate) fn of(bytes: &[u8]) -> Option<Foreign> {
        match Opening::of(bytes) {
            // The original programs' frames begin with their length, which may be this byte.
            Some(Opening::Tls) if !is_tls(bytes) => None,
            Some(opening) => Some(Foreign::Other(opening)),
            None => is_http(bytes).then_some(Foreign::Http),
        }
    }

    /// The event for a caller at `port` that speaks this protocol.
    pub(crate) fn event(self, port: Port, peer: SocketAddr) -> What {
        match self {
            Foreign::Other(opening @ Opening::Tls) => What::TlsFailed {
                port,
                peer,
                error: opening.to_string(),
            },
            Foreign::Other(opening @ Opening::Proxy(_)) => What::WrongProtocol {
                port,
                peer,
                protocol: opening.to_string(),
            },
            Foreign::Http => What::WrongProtocol {
                port,
                peer,
                protocol: "http".to_owned(),
            },
        }
    }

    /// Peeks at the first bytes of a new connection, without waiting and without removing them.
    pub(crate) fn peek(stream: &Stream) -> Option<Foreign> {
        let mut look = [0; LOOK];
        let count = stream.peek_now(&mut look).ok()?;
        let is_expected =
            |found: &Foreign| *found == Foreign::Other(Opening::Tls) && stream.is_secured();
        Foreign::of(&look[..count]).filter(|found| !is_expected(found))
    }
}

/// Returns whether a frame is the first line of an HTTP request (RFC 9112, section 3).
pub(crate) fn is_http(line: &[u8]) -> bool {
    const METHODS: [&str; 10] = [
        "GET ",
        "POST ",
        "OPTIONS ",
        "PUT ",
        "HEAD ",
        "DELETE ",
        "CONNECT ",
        "PATCH ",
        "TRACE ",
        "PRI * HTTP/2",
    ];
    METHODS
        .iter()
        .any(|method| line.starts_with(method.as_bytes()))
}

/// Returns whether the bytes begin with a TLS handshake record of any version (RFC 8446, section
/// 5.1). No text begins like that.
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x16\x03")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browsers_first_bytes_are_foreign_and_a_clients_are_not() {
        for (bytes, found) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Foreign::Http)),
            (b"OPTIONS * HTTP/1.1", Some(Foreign::Http)),
            (b"POST /chat", Some(Foreign::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(Foreign::Http)),
            (b"\x16\x03\x01\x02\x00", Some(Foreign::Other(Opening::Tls))),
            (b"PROXY TCP4 192.0", Some(Foreign::Other(Opening::Proxy(1)))),
            (
                b"PROXY UNKNOWN\r\n",
                Some(Foreign::Other(Opening::Proxy(1))),
            ),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
                Some(Foreign::Other(Opening::Proxy(2))),
            ),
            (b"<CLIENT><command>", None),
            (b"CLIENT>>> hello", None),
            (b"GETTING there", None),
            (b"get / http/1.1", None),
            (b"\x16", None),
            (b"", None),
        ] {
            assert_eq!(
                Foreign::of(bytes),
                found,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
