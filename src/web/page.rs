//! The chat page. It is a single document that loads nothing else.

use std::io;
use std::net::SocketAddr;

use super::http::{self, Request};
use portal_net::Stream;

const PAGE: &str = include_str!("page/chat.html");
const STYLE: &str = include_str!("page/chat.css");
const SCRIPTS: [&str; 5] = [
    include_str!("page/characters.js"),
    include_str!("page/documents.js"),
    include_str!("page/session.js"),
    include_str!("page/screen.js"),
    include_str!("page/chat.js"),
];

/// The chat page, with the server settings that it needs.
pub struct Page {
    /// The address of the board.
    pub board: Option<SocketAddr>,
    /// True if names are protected with passwords.
    pub has_passwords: bool,
}

impl Page {
    /// Answers a request with the page.
    pub fn answer(&self, stream: &Stream, request: &Request) -> io::Result<()> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let nonce = format!("{:032x}", u128::from_be_bytes(random));
        let (style, script) = (STYLE, SCRIPTS.concat());
        let board = self.board_for(&request.host);
        // The board uses TLS if the page does.
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

    /// Returns the board's host and port, for a browser that requested the page from `host`.
    /// Returns `None` if the board listens on an address that the browser can't reach.
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
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use portal_wire::{Class, printable};

    /// Returns all characters that a text may contain.
    fn characters() -> impl Iterator<Item = char> {
        '\0'..=char::MAX
    }

    /// Encodes the classes of all code points in the format of `characters.js`.
    fn runs() -> String {
        let name = |code: u32| match char::from_u32(code).map(Class::of) {
            Some(Class::Plain) => 'P',
            Some(Class::Mark) => 'M',
            Some(Class::Emoji) => 'E',
            Some(Class::Variation) => 'V',
            Some(Class::Letter) => 'A',
            Some(Class::ScriptLetter) => 'L',
            Some(Class::ScriptMark) => 'K',
            // A UTF-16 surrogate.
            Some(Class::Unseen) | None => 'U',
        };
        let names: Vec<char> = (0..=char::MAX.into()).map(name).collect();
        let mut runs = String::new();
        for run in names.chunk_by(|one, other| one == other) {
            runs.push(run[0]);
            runs += &in_base_36(run.len());
        }
        runs
    }

    fn in_base_36(number: usize) -> String {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let digit = char::from(DIGITS[number % 36]);
        match number / 36 {
            0 => digit.to_string(),
            more => in_base_36(more) + &digit.to_string(),
        }
    }

    const CHARACTERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/page/characters.js");

    /// Checks the table, which `make pages` writes.
    #[test]
    fn the_page_has_the_terminals_table_of_characters() {
        let script = std::fs::read_to_string(CHARACTERS).unwrap();
        let (before, rest) = script.split_once("const RUNS = '").unwrap();
        let (found, after) = rest.split_once('\'').unwrap();
        let wanted = runs();
        if std::env::var_os("WRITE_PAGES").is_some() {
            let script = format!("{before}const RUNS = '{wanted}'{after}");
            std::fs::write(CHARACTERS, script).unwrap();
        } else {
            assert!(
                found == wanted,
                "the table in src/web/page/characters.js differs from src/wire/text.rs: run `make pages`"
            );
        }
    }

    /// Runs the page's own function on every character, and on those at both ends of each run in
    /// different contexts. Without `node`, the test reports that it did not run, or fails if
    /// REQUIRE_NODE is set.
    #[test]
    fn the_page_and_the_terminal_show_the_same_text() {
        const PLACES: [(&str, &str); 8] = [
            ("", ""),
            ("\u{645}", "\u{645}"),
            ("👩", "👩"),
            ("a\u{301}\u{200c}", "\u{200d}b"),
            ("a\u{200d}", "b"),
            ("e\u{301}\u{301}\u{301}\u{301}", "\u{301}"),
            ("🏴\u{e0067}\u{e0062}\u{e0073}", "\u{e007f}"),
            ("क\u{200d}\u{fe0f}", "\u{200c}\u{fe0f}"),
        ];
        // The page keeps tabs and line feeds.
        let all: Vec<char> = characters()
            .filter(|character| !matches!(character, '\t' | '\n'))
            .collect();
        let runs = all.chunk_by(|one, other| Class::of(*one) == Class::of(*other));
        let ends: Vec<char> = runs.flat_map(|run| [run[0], run[run.len() - 1]]).collect();
        let everywhere = PLACES.iter().flat_map(|(before, after)| {
            ends.iter()
                .map(move |character| format!("{before}{character}{after}"))
        });
        let texts: Vec<String> = all
            .iter()
            .map(|character| format!("a{character}b"))
            .chain(everywhere)
            .collect();
        let script = std::fs::read_to_string(CHARACTERS).unwrap()
            + "const lines = require('fs').readFileSync(0, 'utf8').split('\\n');
               process.stdout.write(lines.map(shown).join('\\n'));";
        let node = Command::new("node")
            .args(["-e", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut node) = node else {
            assert!(
                std::env::var_os("REQUIRE_NODE").is_none(),
                "`node` is missing, and REQUIRE_NODE is set"
            );
            #[allow(clippy::disallowed_macros)]
            {
                eprintln!("NOT RUN: `node`, which runs the page's function, is missing");
            }
            return;
        };
        // The script reads all input before it writes output, so this does not block.
        let mut input = node.stdin.take().unwrap();
        input.write_all(texts.join("\n").as_bytes()).unwrap();
        drop(input);
        let output = node.wait_with_output().unwrap();
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).unwrap();
        let shown: Vec<&str> = output.split('\n').collect();
        assert_eq!(shown.len(), texts.len());
        for (text, shown) in texts.iter().zip(shown) {
            assert_eq!(shown, printable(text), "{text:?}");
        }
    }

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
        // A closing tag would end the element that contains the script.
        assert!(SCRIPTS.iter().all(|script| !script.contains("</")));
    }
}
