//! From HTTP to a WebSocket (RFC 6455, section 4): the opening handshake, as a server does its part of it.

use std::io;

use base64ct::{Base64, Encoding as _};
use sha1::{Digest as _, Sha1};

use super::http::{self, Refusal, Request};
use crate::net::Stream;

/// What the answer's hash is made with, so that nothing that was not made for WebSocket gives it by accident.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Answers a request for a WebSocket. `Ok(Some(refusal))`: it was none, or came from a page of another site, and
/// has been refused.
///
/// # Errors
/// What the socket reports.
pub(crate) fn upgrade(stream: &Stream, request: &Request) -> io::Result<Option<Refusal>> {
    let scheme = if stream.is_secured() { "https" } else { "http" };
    let key = match agreed_key(request, scheme) {
        Ok(key) => key,
        Err(refusal) => {
            http::refuse(stream, refusal)?;
            return Ok(Some(refusal));
        }
    };
    let fields = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        accept(&key)
    );
    http::switch_protocols(stream, &fields)?;
    Ok(None)
}

fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(MAGIC);
    Base64::encode_string(&hash.finalize())
}

/// The request's key, if all that has to be in it is in it.
fn agreed_key(request: &Request, scheme: &str) -> Result<String, Refusal> {
    // A browser always says from where a page comes that opens a WebSocket, and lets any page open one: so
    // this is what keeps strangers' pages out. Programs that are no browsers need not say it.
    if let Some(origin) = request.field("origin")
        && origin != format!("{scheme}://{}", request.host)
    {
        return Err(Refusal::Forbidden);
    }
    let is_upgrade = request.field_has("upgrade", "websocket")
        && request.field_has("connection", "upgrade")
        && request.field("sec-websocket-version").as_deref() == Some("13");
    if !is_upgrade {
        return Err(Refusal::UpgradeRequired);
    }
    let key = request.field("sec-websocket-key").unwrap_or_default();
    // 16 random bytes.
    let is_key = Base64::decode_vec(&key).is_ok_and(|bytes| bytes.len() == 16);
    is_key.then_some(key).ok_or(Refusal::BadRequest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::http::tests::parsed;

    #[test]
    fn the_answer_is_the_one_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn only_a_websocket_of_an_own_page_is_agreed_to() {
        let asked = |change: (&str, &str)| {
            let head = "GET /chat HTTP/1.1\r\nHost: 192.0.2.7:8080\r\nUpgrade: websocket\r\n\
                        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://192.0.2.7:8080";
            let head = head.replace(change.0, change.1);
            agreed_key(&parsed(&head).unwrap(), "http")
        };
        assert!(asked(("", "")).is_ok());
        assert!(asked(("\r\nOrigin: http://192.0.2.7:8080", "")).is_ok());
        for origin in [
            "null",
            "http://192.0.2.7",
            "http://192.0.2.7:8081",
            "https://192.0.2.7:8080",
            "http://localhost:8080",
            "http://evil.example",
        ] {
            let change = (
                "Origin: http://192.0.2.7:8080",
                &*format!("Origin: {origin}"),
            );
            assert_eq!(asked(change), Err(Refusal::Forbidden), "{origin}");
        }
        for change in [
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Connection: keep-alive, Upgrade", "Connection: close"),
            ("Version: 13", "Version: 8"),
        ] {
            assert_eq!(asked(change), Err(Refusal::UpgradeRequired));
        }
        for key in ["", "dGhlIHNhbXBsZQ==", "not base64"] {
            let change = ("dGhlIHNhbXBsZSBub25jZQ==", key);
            assert_eq!(asked(change), Err(Refusal::BadRequest), "{key}");
        }
    }
}
