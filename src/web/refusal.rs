//! Refused HTTP requests. Each has a status, a sentence with the reason and the fix, and an event.

use std::fmt;
use std::net::SocketAddr;

use portal_net::Opening;

/// The reason for refusing a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request violates HTTP/1.1.
    BadRequest(&'static str),
    /// The connection begins with another protocol. A TLS client gets no response, because it could
    /// not read one.
    Opening(Opening),
    /// The request is not encrypted, but this port requires TLS.
    PlainText,
    NotFound,
    /// A page from another site requested the WebSocket.
    Forbidden {
        origin: String,
        host: String,
    },
    /// The method is neither GET nor HEAD.
    MethodNotAllowed,
    /// The Host is not a name of this server. It may be another site's name that resolves to this
    /// machine (DNS rebinding), and pages from that site must not read this server's pages.
    MisdirectedRequest {
        host: String,
    },
    /// The path is for a WebSocket, but the request is not an upgrade to WebSocket version 13.
    UpgradeRequired,
    TargetTooLong,
    HeadTooLong,
    VersionNotSupported,
    /// Too many browsers are connected.
    Unavailable,
}

/// Maximum length of a displayed name from the network, in characters.
const SHOWN: usize = 80;

/// Makes `text` from the network safe to show in a terminal, a page or a log.
fn shown(text: &str) -> String {
    let harmless = |character: char| match character {
        '\x20'..='\x7e' if character != '"' => character,
        _ => '?',
    };
    let mut shown: String = text.chars().take(SHOWN).map(harmless).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown += "...";
    }
    shown
}

impl Refusal {
    pub fn status(&self) -> &'static str {
        match self {
            Refusal::BadRequest(_) | Refusal::Opening(_) | Refusal::PlainText => "400 Bad Request",
            Refusal::Forbidden { .. } => "403 Forbidden",
            Refusal::NotFound => "404 Not Found",
            Refusal::MethodNotAllowed => "405 Method Not Allowed",
            Refusal::TargetTooLong => "414 URI Too Long",
            Refusal::MisdirectedRequest { .. } => "421 Misdirected Request",
            Refusal::UpgradeRequired => "426 Upgrade Required",
            Refusal::HeadTooLong => "431 Request Header Fields Too Large",
            Refusal::Unavailable => "503 Service Unavailable",
            Refusal::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// Returns the additional header fields of the response.
    pub(super) fn fields(&self) -> &'static str {
        match self {
            Refusal::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Refusal::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        }
    }
}

/// Formats the reason and the fix.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::BadRequest(reason) => f.write_str(reason),
            Refusal::Opening(opening) => opening.fmt(f),
            Refusal::PlainText => {
                f.write_str("this port requires TLS: use https:// instead of http://")
            }
            Refusal::NotFound => f.write_str(
                "there is no page at that path; a reverse proxy that serves this server below a path \
                 must remove that path from the requests (nginx: end proxy_pass with a slash)",
            ),
            Refusal::Forbidden { origin, host } => {
                let (origin, host) = (shown(origin), shown(host));
                if origin == "null" {
                    return f.write_str(
                        "a page without an origin (a file or a sandboxed frame) is not allowed to \
                         connect: open the page that this server serves",
                    );
                }
                let name = origin.split_once("://").map_or(&*origin, |(_, name)| name);
                write!(
                    f,
                    "a page from {origin} is not allowed to connect to {host}; if it is this \
                     server's own page behind a reverse proxy, start the server with --web-name \
                     {name}, or make the proxy forward the Host header with its port (nginx: \
                     proxy_set_header Host $http_host)"
                )
            }
            Refusal::MethodNotAllowed => f.write_str("this server accepts only GET and HEAD requests"),
            Refusal::MisdirectedRequest { host } => write!(
                f,
                "{host} is not a name of this server; use the machine's address instead, start the \
                 server with --web and --web-name {host}, or make the proxy send an address in the \
                 Host header",
                host = shown(host)
            ),
            Refusal::UpgradeRequired => f.write_str(
                "this path is for WebSocket connections, but the request is not an upgrade over \
                 HTTP/1.1; a reverse proxy must forward the upgrade (nginx: proxy_http_version \
                 1.1, proxy_set_header Upgrade $http_upgrade and proxy_set_header Connection \
                 \"upgrade\")",
            ),
            Refusal::TargetTooLong => f.write_str("the request line is longer than 8 KiB"),
            Refusal::HeadTooLong => f.write_str(
                "the request's headers are longer than 32 KiB; delete this site's cookies",
            ),
            Refusal::VersionNotSupported => f.write_str(
                "this server supports only HTTP/1.1 and HTTP/1.0; configure the proxy to use one of them",
            ),
            Refusal::Unavailable => f.write_str("too many browsers are connected; try again later"),
        }
    }
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRequest {
    pub refusal: Refusal,
    pub client: SocketAddr,
    /// True if the method was HEAD, so the response has no content.
    pub is_head: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_the_fix_and_nothing_harmful() {
        let forbidden = |origin: &str| {
            let (origin, host) = (origin.to_owned(), "127.0.0.1:8080".to_owned());
            Refusal::Forbidden { origin, host }.to_string()
        };
        assert!(forbidden("https://chat.example:8443").contains("--web-name chat.example:8443,"));
        assert!(forbidden("null").contains("open the page"));
        let host = "a\u{1b}[2J\"\u{202e}<".to_owned() + &"x".repeat(1000);
        let misdirected = Refusal::MisdirectedRequest { host }.to_string();
        assert!(
            misdirected.contains("--web-name a?[2J??<xxx"),
            "{misdirected}"
        );
        assert!(misdirected.len() < 500, "{misdirected}");
    }
}
