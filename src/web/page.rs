//! The page on which people chat: one document, which loads nothing.

use std::io;
use std::net::SocketAddr;

use super::http::{self, Request};
use crate::net::Stream;

const PAGE: &str = include_str!("page/chat.html");
const STYLE: &str = include_str!("page/chat.css");
const SCRIPTS: [&str; 4] = [
    include_str!("page/documents.js"),
    include_str!("page/session.js"),
    include_str!("page/screen.js"),
    include_str!("page/chat.js"),
];

/// The page, and what it is told about the server.
pub(crate) struct Page {
    /// Where the board is, if there is one.
    pub(crate) board: Option<SocketAddr>,
    /// Whether names have passwords here.
    pub(crate) has_passwords: bool,
}

impl Page {
    /// Answers a request with it.
    pub(crate) fn answer(&self, stream: &Stream, request: &Request) -> io::Result<()> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let nonce = format!("{:032x}", u128::from_be_bytes(random));
        let (style, script) = (STYLE, SCRIPTS.concat());
        let board = self.board_for(&request.host);
        // The board speaks TLS where the page does.
        let scheme = if stream.is_secured() { "https" } else { "http" };
        let board = board.map_or(String::new(), |board| format!("{scheme}://{board}/"));
        let passwords = if self.has_passwords { "yes" } else { "no" };
        let body = PAGE
            .replace("{{board}}", &board)
            .replace("{{passwords}}", passwords)
            .replace("{{nonce}}", &nonce)
            .replace("{{style}}", style)
            .replace("{{script}}", &script);
        http::answer_page(stream, request, &body, &nonce)
    }

    /// Where whoever sees this page finds the board; `None` if they can't: the board listens at one address,
    /// and they have come to another one.
    fn board_for(&self, host: &str) -> Option<String> {
        let board = self.board?;
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let is_there = board.ip().is_unspecified()
            || (board.ip().is_loopback() && is_loopback(name))
            || name.trim_matches(['[', ']']).parse() == Ok(board.ip());
        is_there.then(|| format!("{name}:{}", board.port()))
    }
}

fn is_loopback(name: &str) -> bool {
    let ip = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_is_linked_where_it_can_be_reached() {
        let link = |board: &str, host: &str| {
            let page = Page {
                board: board.parse().ok(),
                has_passwords: false,
            };
            page.board_for(host)
        };
        let there = |address: &str| Some(address.to_owned());
        for (board, host, wanted) in [
            ("127.0.0.1:8050", "localhost:8080", there("localhost:8050")),
            ("127.0.0.1:8050", "127.0.0.1", there("127.0.0.1:8050")),
            ("127.0.0.1:8050", "192.0.2.7:8080", None),
            ("0.0.0.0:8050", "192.0.2.7:8080", there("192.0.2.7:8050")),
            (
                "[::]:8050",
                "[2001:db8::1]:8080",
                there("[2001:db8::1]:8050"),
            ),
            ("192.0.2.7:8050", "192.0.2.7:8080", there("192.0.2.7:8050")),
            ("", "localhost", None),
        ] {
            assert_eq!(link(board, host), wanted, "{board} {host}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = [PAGE, STYLE, &SCRIPTS.concat()].concat();
        for loading in [
            " src=",
            "<link",
            "@import",
            "url(",
            "http-equiv",
            "importScripts",
        ] {
            assert!(!page.contains(loading), "{loading}");
        }
        // Nor does anything in it end the element that it stands in.
        assert!(SCRIPTS.iter().all(|script| !script.contains("</")));
    }
}
