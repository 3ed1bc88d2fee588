//! Detects connections whose first bytes belong to TLS or to the PROXY protocol.

use std::fmt;

/// The type of a TLS handshake record, which is the first byte of every TLS connection.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// The signature that begins every PROXY protocol header of version 2.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A protocol that the first bytes of a connection reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// TLS, whose first byte is the type of a handshake record. No text begins with that byte.
    Tls,
    /// The PROXY protocol, with its version. A proxy sends its header before the client's bytes.
    Proxy(u8),
}

impl Opening {
    /// Returns the protocol that begins with `bytes`; `None` for any other protocol, or if more
    /// bytes are needed.
    pub fn of(bytes: &[u8]) -> Option<Opening> {
        let version_1 = [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN"];
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            Some(Opening::Tls)
        } else if version_1.iter().any(|line| bytes.starts_with(line)) {
            Some(Opening::Proxy(1))
        } else if bytes.starts_with(PROXY_V2) {
            Some(Opening::Proxy(2))
        } else {
            None
        }
    }
}

/// Formats a sentence that states the protocol and the fix.
impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opening::Tls => {
                f.write_str("the peer speaks TLS, but this server was started without --tls")
            }
            Opening::Proxy(version) => write!(
                f,
                "the connection begins with a PROXY protocol header (version {version}), which this \
                 server does not support: turn it off at the proxy (HAProxy: no send-proxy; nginx: \
                 proxy_protocol off; Caddy: no proxy_protocol in the transport)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_openings_are_recognised() {
        for (bytes, opening) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], Some(Opening::Tls)),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
                Some(Opening::Proxy(1)),
            ),
            (b"PROXY TCP6 ::1 ::1 5 6\r\n", Some(Opening::Proxy(1))),
            (b"PROXY UNKNOWN\r\n", Some(Opening::Proxy(1))),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
                Some(Opening::Proxy(2)),
            ),
            (b"\r\n\r\n\0\r\nQUIT", None),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", None),
            (b"PROXY / HTTP/1.1\r\n", None),
            (b"GET / HTTP/1.1\r\n", None),
            (b"", None),
        ] {
            assert_eq!(Opening::of(bytes), opening, "{bytes:?}");
        }
    }
}
