//! Callers that speak another protocol than the chat's, told apart by their first bytes.
//!
//! A web page can make its reader's browser connect to any port, so a browser's request must not cost a seat. No
//! document of the chat begins like one.

use std::fmt;

use crate::net::{Opening, Stream};

/// How many of a caller's first bytes are looked at.
const LOOK: usize = 16;

/// A protocol that is not spoken here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Foreign {
    /// An HTTP request.
    Http,
    /// A TLS handshake, where the server was started without TLS.
    Tls,
    /// A PROXY protocol header in that version: a reverse proxy in front of this port, where the client's own bytes
    /// come too late.
    Proxy(u8),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::Http => f.write_str("http"),
            Foreign::Tls => f.write_str("tls"),
            Foreign::Proxy(version) => write!(
                f,
                "PROXY protocol (version {version}; turn it off at the proxy)"
            ),
        }
    }
}

impl Foreign {
    /// The protocol that begins with `bytes`, if it is a foreign one.
    pub(crate) fn of(bytes: &[u8]) -> Option<Foreign> {
        if is_tls(bytes) {
            Some(Foreign::Tls)
        } else if let Some(Opening::Proxy(version)) = Opening::of(bytes) {
            Some(Foreign::Proxy(version))
        } else {
            is_http(bytes).then_some(Foreign::Http)
        }
    }

    /// Looks at what has arrived on a fresh connection, without waiting and without taking it.
    pub(crate) fn peek(stream: &Stream) -> Option<Foreign> {
        let mut look = [0; LOOK];
        let count = stream.peek_now(&mut look).ok()?;
        // Where TLS is spoken it is not foreign.
        Foreign::of(&look[..count]).filter(|found| *found == Foreign::Http || !stream.is_secured())
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
            (b"\x16\x03\x01\x02\x00", Some(Foreign::Tls)),
            (b"PROXY TCP4 192.0", Some(Foreign::Proxy(1))),
            (b"PROXY UNKNOWN\r\n", Some(Foreign::Proxy(1))),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
                Some(Foreign::Proxy(2)),
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
