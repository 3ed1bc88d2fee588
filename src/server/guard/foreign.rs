//! Callers that speak another protocol than the chat's, told apart by their first bytes.
//!
//! A web page can make its reader's browser connect to any port, so a browser's request must not cost a seat. No
//! document of the chat begins like one.

use std::net::SocketAddr;

use crate::event::What;
use crate::net::{Opening, Port, Stream};

/// How many of a caller's first bytes are looked at.
const LOOK: usize = 16;

/// A protocol that is not spoken here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Foreign {
    /// An HTTP request.
    Http,
    /// A TLS handshake, where the server was started without TLS, or the header of a reverse proxy.
    Other(Opening),
}

impl Foreign {
    /// The protocol that begins with `bytes`, if it is a foreign one.
    pub(crate) fn of(bytes: &[u8]) -> Option<Foreign> {
        match Opening::of(bytes) {
            // The original programs' frames begin with their length, which may be that byte alone.
            Some(Opening::Tls) if !is_tls(bytes) => None,
            Some(opening) => Some(Foreign::Other(opening)),
            None => is_http(bytes).then_some(Foreign::Http),
        }
    }

    /// The event that reports a caller at `port` that speaks it.
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

    /// Looks at what has arrived on a fresh connection, without waiting and without taking it.
    pub(crate) fn peek(stream: &Stream) -> Option<Foreign> {
        let mut look = [0; LOOK];
        let count = stream.peek_now(&mut look).ok()?;
        let is_expected =
            |found: &Foreign| *found == Foreign::Other(Opening::Tls) && stream.is_secured();
        Foreign::of(&look[..count]).filter(|found| !is_expected(found))
    }
}

/// Whether a frame is the first line of an HTTP request (RFC 9112, section 3).
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

/// Whether that begins with a TLS record of a handshake, in any version (RFC 8446, section 5.1). No text does.
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
