//! The answers to requests that are not met: each a status, a sentence with the fix, and an event.

use std::fmt;
use std::net::SocketAddr;

use crate::event::{Events, What};
use crate::net::{Opening, Port};

/// Why a request is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It breaks the rules of HTTP/1.1.
    BadRequest(&'static str),
    /// The connection begins with another protocol. TLS gets no answer, which it could not read.
    Opening(Opening),
    /// It is not encrypted, and this port speaks TLS alone.
    PlainText,
    NotFound,
    /// The page that made the browser ask for a WebSocket is none of this server's.
    Forbidden {
        origin: String,
        host: String,
    },
    /// Anything but GET and HEAD.
    MethodNotAllowed,
    /// The browser means another site, whose name somebody has pointed at this machine (DNS rebinding): its pages
    /// must not read what is shown here.
    MisdirectedRequest {
        host: String,
    },
    /// That path is a WebSocket's, in version 13, and the request is for none.
    UpgradeRequired,
    TargetTooLong,
    HeadTooLong,
    VersionNotSupported,
    /// As many are connected as may be.
    Unavailable,
}

/// How much of a name from the network is shown.
const SHOWN: usize = 80;

/// `text` from the network, harmless wherever it is shown.
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
    pub(super) fn status(&self) -> &'static str {
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

    /// Header fields that belong to it.
    pub(super) fn fields(&self) -> &'static str {
        match self {
            Refusal::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Refusal::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        }
    }
}

/// The reason and the fix, in a sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::BadRequest(reason) => f.write_str(reason),
            Refusal::Opening(opening) => opening.fmt(f),
            Refusal::PlainText => {
                f.write_str("this port speaks TLS alone: use https:// instead of http://")
            }
            Refusal::NotFound => f.write_str(
                "there is nothing at that path; a reverse proxy that serves this below a path of its \
                 own must remove that path from its requests (nginx: end proxy_pass with a slash)",
            ),
            Refusal::Forbidden { origin, host } => {
                let (origin, host) = (shown(origin), shown(host));
                if origin == "null" {
                    return f.write_str(
                        "a page without an origin (a file, or a frame in a sandbox) may not connect: \
                         open the page that this server serves",
                    );
                }
                let name = origin.split_once("://").map_or(&*origin, |(_, name)| name);
                write!(
                    f,
                    "a page of {origin} may not connect, because it asks for {host}; if that page is \
                     this server's own, behind a reverse proxy, start the server with --web-name {name}, \
                     or let the proxy pass the Host on with its port (nginx: proxy_set_header Host \
                     $http_host)"
                )
            }
            Refusal::MethodNotAllowed => f.write_str("only GET and HEAD are answered here"),
            Refusal::MisdirectedRequest { host } => write!(
                f,
                "{host} is not a name of this server; if it is to be one, start the server with --web \
                 and --web-name {host}, or else ask by an address, or let the proxy send one as the \
                 Host",
                host = shown(host)
            ),
            Refusal::UpgradeRequired => f.write_str(
                "this path is for a WebSocket, and the request asks for none over HTTP/1.1; a reverse \
                 proxy must pass the upgrade on (nginx: proxy_http_version 1.1, proxy_set_header Upgrade \
                 $http_upgrade and proxy_set_header Connection \"upgrade\")",
            ),
            Refusal::TargetTooLong => f.write_str("the request line is longer than 8 KiB"),
            Refusal::HeadTooLong => f.write_str(
                "the request's header is longer than 32 KiB; delete this site's cookies",
            ),
            Refusal::VersionNotSupported => f.write_str(
                "this server speaks HTTP/1.1 and HTTP/1.0; let a proxy use one of them to reach it",
            ),
            Refusal::Unavailable => f.write_str("too many browsers are connected; try again later"),
        }
    }
}

/// A request that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    /// Whose request it is.
    pub(crate) client: SocketAddr,
    /// It was HEAD: the answer has no content.
    pub(crate) is_head: bool,
}

impl Refused {
    /// Emits the event for it, if it is one that an operator has to know of: not for what does not exist, for which
    /// browsers ask by themselves.
    pub(crate) fn tell(&self, events: &Events, port: Port) {
        let peer = self.client;
        match &self.refusal {
            Refusal::NotFound => {}
            Refusal::Opening(opening @ Opening::Tls) => {
                let error = opening.to_string();
                events.tell(|| What::TlsFailed { port, peer, error });
            }
            refusal => events.tell(|| What::HttpRefused {
                port,
                peer,
                status: refusal.status().to_owned(),
                reason: refusal.to_string(),
            }),
        }
    }
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
