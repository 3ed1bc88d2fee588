//! Detects, by their first bytes, callers that use other protocols.
//!
//! Any web page can make its visitor's browser connect to any port, so a browser's request must not
//! occupy a seat. No chat document begins like an HTTP request.

use std::net::SocketAddr;

use portal_net::{Opening, Port, Stream};
use portal_web::event::EntranceEvent;
use portal_web::http::is_token;
use portal_wire::CloseReason;

/// An HTTP request arrived at a port that requires no passcode.
pub(crate) const HTTP_REQUEST: CloseReason = CloseReason::Entrance("http-request");
/// The TLS handshake failed, or only one side uses TLS.
pub(crate) const TLS_FAILED: CloseReason = CloseReason::Entrance("tls-failed");

/// Number of bytes that are inspected at the start of a connection. An HTTP request with an unusual
/// method and a target longer than this is not recognized.
const LOOK: usize = 1024;

/// A protocol other than the chat's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Foreign {
    Http,
    /// A TLS handshake with a server that was started without TLS, or a PROXY protocol header.
    Other(Opening),
}

impl Foreign {
    /// Detects a foreign protocol by its first `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Option<Foreign> {
        match Opening::of(bytes) {
            // A frame from seed 000's programs begins with its length, which may have the same
            // value.
            Some(Opening::Tls) if !is_tls(bytes) => None,
            Some(opening) => Some(Foreign::Other(opening)),
            None => is_http(bytes).then_some(Foreign::Http),
        }
    }

    /// Returns the event for a caller at `port` that uses this protocol.
    pub(crate) fn event(self, port: Port, peer: SocketAddr) -> EntranceEvent {
        match self {
            Foreign::Other(opening @ Opening::Tls) => EntranceEvent::TlsFailed {
                port,
                peer,
                error: opening.to_string(),
            },
            Foreign::Other(opening @ Opening::Proxy(_)) => EntranceEvent::WrongProtocol {
                port,
                peer,
                protocol: opening.to_string(),
            },
            Foreign::Http => EntranceEvent::WrongProtocol {
                port,
                peer,
                protocol: "http".to_owned(),
            },
        }
    }

    /// Peeks at the first bytes of a new connection, without waiting for them or consuming them.
    pub(crate) fn peek(stream: &Stream) -> Option<Foreign> {
        let mut look = [0; LOOK];
        let count = stream.peek_now(&mut look).ok()?;
        let is_expected =
            |found: &Foreign| *found == Foreign::Other(Opening::Tls) && stream.is_secured();
        Foreign::of(&look[..count]).filter(|found| !is_expected(found))
    }
}

/// Returns whether the bytes begin like an HTTP request (RFC 9112, section 3): `METHOD TARGET
/// HTTP/`, possibly after empty lines. For the usual methods, the method and a space are enough,
/// because the target may be long.
pub(crate) fn is_http(bytes: &[u8]) -> bool {
    const USUAL: [&str; 9] = [
        "GET ", "POST ", "OPTIONS ", "PUT ", "HEAD ", "DELETE ", "CONNECT ", "PATCH ", "TRACE ",
    ];
    let mut line = bytes;
    while let Some(rest) = after_empty_line(line) {
        line = rest;
    }
    let is_usual = |method: &&str| line.starts_with(method.as_bytes());
    USUAL.iter().any(is_usual) || is_request_line(line)
}

/// If `bytes` begins with an empty line, returns the bytes after it.
fn after_empty_line(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"\r").unwrap_or(bytes);
    rest.strip_prefix(b"\n")
}

fn is_request_line(line: &[u8]) -> bool {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return false;
    };
    let is_target = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    is_token(method) && is_target && version.starts_with(b"HTTP/")
}

/// Returns whether the bytes begin with a TLS handshake record of any version (RFC 8446, section
/// 5.1). No text begins this way.
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
            (b"get / HTTP/1.1\r\n", Some(Foreign::Http)),
            (
                b"QUERY /search HTTP/1.1\r\nHost: a\r\n",
                Some(Foreign::Http),
            ),
            (b"PROPFIND /a%20b HTTP/1.1", Some(Foreign::Http)),
            (b"M-SEARCH * HTTP/", Some(Foreign::Http)),
            (b"\r\nGET / HTTP/1.1\r\n", Some(Foreign::Http)),
            (b"\r\n\n\r\nquery / HTTP/1.1\r\n", Some(Foreign::Http)),
            (b"\r\nPOST ", Some(Foreign::Http)),
            (b"QUERY /search", None),
            (b"QUERY  HTTP/1.1", None),
            (b"QUERY / b HTTP/1.1", None),
            (b"two words", None),
            (b"who: knows HTTP/1.1?", None),
            (b"I know\nwhat HTTP/1.1 is", None),
            (b"<CLIENT> <command> HTTP/1.1", None),
            (b"\r\n<CLIENT><command>", None),
            (b"\r\n", None),
            (b"\r\n\r\n", None),
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
