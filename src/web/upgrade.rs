//! The server's part of a WebSocket's opening handshake (RFC 6455, section 4).

use std::io;

use base64ct::{Base64, Encoding as _};
use sha1::{Digest as _, Sha1};

use super::http::{self, Hosts, Refusal, Request};
use portal_net::Stream;

/// Hashed together with the request's key, so that only a WebSocket server sends the right answer.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Accepts a WebSocket request. If the request is not valid, or comes from a page on another site,
/// returns the refusal without sending it.
///
/// # Errors
/// Writing to the socket failed.
pub fn upgrade(
    stream: &Stream,
    request: &Request,
    hosts: &Hosts,
) -> io::Result<Result<(), Refusal>> {
    let key = match agreed_key(request, hosts) {
        Ok(key) => key,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let fields = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        accept(&key)
    );
    http::switch_protocols(stream, &fields).map(Ok)
}

fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(MAGIC);
    Base64::encode_string(&hash.finalize())
}

/// Checks a WebSocket request, and returns its key.
fn agreed_key(request: &Request, hosts: &Hosts) -> Result<String, Refusal> {
    // Browsers let any page open a WebSocket to any host, but always send the page's origin. This
    // check rejects other sites' pages. Programs other than browsers need not send an Origin.
    if let Some(origin) = request.field("origin")
        && !hosts.own_page(&origin, &request.host)
    {
        let host = request.host.clone();
        return Err(Refusal::Forbidden { origin, host });
    }
    // Ignore an upgrade over HTTP/1.0 (RFC 9110, 7.8).
    let is_upgrade = request.is_1_1
        && !request.is_head
        && request.field_has("upgrade", "websocket")
        && request.field_has("connection", "upgrade")
        && request.field("sec-websocket-version").as_deref() == Some("13");
    if !is_upgrade {
        return Err(Refusal::UpgradeRequired);
    }
    let has_content = request.field("transfer-encoding").is_some()
        || request
            .field("content-length")
            .is_some_and(|length| length != "0");
    if has_content {
        // Content would be parsed as frames.
        return Err(Refusal::BadRequest(
            "a WebSocket request must not have a body",
        ));
    }
    let key = request.field("sec-websocket-key").unwrap_or_default();
    // The key must be 16 bytes.
    let is_key = Base64::decode_vec(&key).is_ok_and(|bytes| bytes.len() == 16);
    let no_key = Refusal::BadRequest("the request's Sec-WebSocket-Key is not 16 bytes in base64");
    is_key.then_some(key).ok_or(no_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::parsed;

    #[test]
    fn the_answer_matches_the_example_in_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn only_a_websocket_of_an_own_page_is_accepted() {
        let asked = |change: (&str, &str)| {
            let head = "GET /chat HTTP/1.1\r\nHost: 192.0.2.7:8080\r\nUpgrade: websocket\r\n\
                        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://192.0.2.7:8080";
            let head = head.replace(change.0, change.1);
            agreed_key(&parsed(&head).unwrap(), &Hosts::default())
        };
        assert!(asked(("", "")).is_ok());
        assert!(asked(("\r\nOrigin: http://192.0.2.7:8080", "")).is_ok());
        for origin in [
            "null",
            "http://192.0.2.7",
            "http://192.0.2.7:8081",
            "http://localhost:8080",
            "http://evil.example",
        ] {
            let change = (
                "Origin: http://192.0.2.7:8080",
                &*format!("Origin: {origin}"),
            );
            let refusal = asked(change).unwrap_err();
            assert!(
                matches!(refusal, Refusal::Forbidden { .. }),
                "{origin}: {refusal}"
            );
        }
        // The scheme may differ, because a proxy may terminate TLS.
        assert!(asked(("Origin: http:", "Origin: https:")).is_ok());
        for change in [
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Connection: keep-alive, Upgrade", "Connection: close"),
            ("Version: 13", "Version: 8"),
            // The request that nginx sends by default.
            ("HTTP/1.1", "HTTP/1.0"),
            ("GET", "HEAD"),
        ] {
            assert_eq!(asked(change), Err(Refusal::UpgradeRequired));
        }
        for content in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
            let refusal =
                asked(("Version: 13", &*format!("Version: 13\r\n{content}"))).unwrap_err();
            assert!(
                matches!(refusal, Refusal::BadRequest(_)),
                "{content}: {refusal}"
            );
        }
        for key in ["", "dGhlIHNhbXBsZQ==", "not base64"] {
            let change = ("dGhlIHNhbXBsZSBub25jZQ==", key);
            let refusal = asked(change).unwrap_err();
            assert!(
                matches!(refusal, Refusal::BadRequest(_)),
                "{key}: {refusal}"
            );
        }
    }
}
