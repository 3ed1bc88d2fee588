//! The chat page. It is a single document; the only other files are its icons, its manifest and its
//! service worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::document::{Document, File};
use super::http::{self, Request};
use portal_net::lock::Mutex;
use portal_net::{Port, Stream};

const PAGE: &str = include_str!("page/chat.html");
const STYLE: &str = include_str!("page/chat.css");
/// Runs before the other scripts, and in browsers that are too old for them.
const START: &str = include_str!("page/start.js");
const SCRIPTS: [&str; 20] = [
    include_str!("page/characters.js"),
    include_str!("page/documents.js"),
    include_str!("page/commands.js"),
    include_str!("page/text.js"),
    include_str!("page/store.js"),
    include_str!("page/session.js"),
    include_str!("page/conversations.js"),
    include_str!("page/menus.js"),
    include_str!("page/log.js"),
    include_str!("page/composer.js"),
    include_str!("page/alerts.js"),
    include_str!("page/welcome.js"),
    include_str!("page/sidebar.js"),
    include_str!("page/people.js"),
    include_str!("page/messages.js"),
    include_str!("page/person.js"),
    include_str!("page/dialogs.js"),
    include_str!("page/look.js"),
    include_str!("page/obey.js"),
    include_str!("page/page.js"),
];

/// The files that go with the page: path, type and content.
const FILES: [(&str, &str, &[u8]); 5] = [
    (
        "/service-worker.js",
        "text/javascript; charset=utf-8",
        include_bytes!("page/service-worker.js"),
    ),
    (
        "/manifest.webmanifest",
        "application/manifest+json",
        include_bytes!("page/manifest.webmanifest"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_bytes!("page/icon.svg"),
    ),
    (
        "/icon-192.png",
        "image/png",
        include_bytes!("page/icon-192.png"),
    ),
    (
        "/icon-512.png",
        "image/png",
        include_bytes!("page/icon-512.png"),
    ),
];

/// The server settings that the chat page needs.
#[derive(Clone)]
pub struct PageSettings {
    /// The address of the board.
    pub board: Option<SocketAddr>,
    /// The port of the page, with which a browser recognises a proxy.
    pub port: Port,
    /// The room that a user who logs in joins.
    pub room: String,
    /// True if names are protected with passwords.
    pub has_passwords: bool,
    /// The minimum number of characters in a new password.
    pub min_password: usize,
    /// The text for the first visit.
    pub greeting: Option<String>,
}

/// The chat page and the files that go with it.
pub struct Page {
    /// The settings that the document shows, and the document.
    document: Mutex<(PageSettings, Arc<Document>)>,
    files: Vec<(&'static str, File)>,
}

impl Page {
    /// Creates the page. Compressing it takes more of the stack than the threads of connections
    /// have.
    pub fn new(settings: PageSettings) -> Page {
        let file = |(path, kind, content)| (path, File::new(kind, content));
        let document = Arc::new(document(&settings));
        Page {
            document: Mutex::new((settings, document)),
            files: FILES.map(file).into(),
        }
    }

    /// Changes the settings while the server runs.
    pub fn change(&self, change: impl FnOnce(&mut PageSettings)) {
        let mut settings = self.document.lock().0.clone();
        change(&mut settings);
        let document = Arc::new(document(&settings));
        *self.document.lock() = (settings, document);
    }

    /// Answers a request for the page or for one of its files. Returns false, without an answer, if
    /// there is no such file.
    pub fn answer(&self, stream: &Stream, request: &Request) -> io::Result<bool> {
        if request.path == "/" {
            let document = Arc::clone(&self.document.lock().1);
            http::answer_page(stream, request, &document)?;
            return Ok(true);
        }
        let file = self.files.iter().find(|(path, _)| *path == request.path);
        let Some((_, file)) = file else {
            return Ok(false);
        };
        http::answer_file(stream, request, file).map(|()| true)
    }
}

fn document(settings: &PageSettings) -> Document {
    Document::new(PAGE, STYLE, &[START, &script()], &settings.to_json())
}

/// The page's scripts, concatenated into one.
fn script() -> String {
    SCRIPTS.concat()
}

impl PageSettings {
    fn to_json(&self) -> String {
        let board = self.board.map_or("null".to_owned(), |board| {
            format!(r#"{{"ip":"{}","port":{}}}"#, board.ip(), board.port())
        });
        format!(
            r#"{{"board":{board},"port":{},"room":{},"passwords":{},"least":{},"greeting":{}}}"#,
            self.port,
            json_text(&self.room),
            self.has_passwords,
            self.min_password,
            self.greeting
                .as_deref()
                .map_or("null".to_owned(), json_text)
        )
    }
}

/// Returns `text` as a JSON string.
fn json_text(text: &str) -> String {
    let mut json = String::from('"');
    for character in text.chars() {
        match character {
            '"' => json += "\\\"",
            '\\' => json += "\\\\",
            control if control.is_control() => json += &format!("\\u{:04x}", u32::from(control)),
            other => json.push(other),
        }
    }
    json.push('"');
    json
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

    /// Runs the page's own function on every character and, in different contexts, on the
    /// characters at both ends of each run. Without `node`, the test reports that it was skipped,
    /// or fails if REQUIRE_NODE is set.
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

    fn settings() -> PageSettings {
        PageSettings {
            board: "127.0.0.1:8050".parse().ok(),
            port: Port::new(8080).unwrap(),
            room: "lobby".to_owned(),
            has_passwords: true,
            min_password: 8,
            greeting: Some("a \"b\" \\ \n</script>".to_owned()),
        }
    }

    #[test]
    fn settings_are_json() {
        assert_eq!(
            settings().to_json(),
            r#"{"board":{"ip":"127.0.0.1","port":8050},"port":8080,"room":"lobby","passwords":true,"least":8,"greeting":"a \"b\" \\ \u000a</script>"}"#
        );
    }

    #[test]
    fn other_settings_have_another_tag() {
        let page = Page::new(settings());
        let etag = || page.document.lock().1.etag().to_owned();
        let before = etag();
        page.change(|settings| settings.greeting = None);
        assert_ne!(etag(), before);
        page.change(|settings| settings.greeting = self::settings().greeting);
        assert_eq!(etag(), before);
    }

    /// Measured as a browser receives them: at most 40 KB for the page and the files that it loads
    /// on the first visit.
    #[test]
    fn the_page_is_small() {
        let page = Page::new(settings());
        let first = page.document.lock().1.compressed().len();
        let beside: usize = page
            .files
            .iter()
            .filter_map(|(_, file)| file.compressed())
            .map(<[u8]>::len)
            .sum();
        assert!(first + beside <= 40 * 1024, "{first} and {beside} bytes");
    }

    #[test]
    fn the_page_loads_only_its_own_icons_and_manifest() {
        let page = [PAGE, STYLE, START, &script()].concat();
        for loading in [" src=", "@import", "url(", "http-equiv", "importScripts"] {
            assert!(!page.contains(loading), "{loading}");
        }
        let links: Vec<&str> = PAGE
            .split("<link ")
            .skip(1)
            .filter_map(|link| link.split("href=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(links, ["icon.svg", "icon-192.png", "manifest.webmanifest"]);
        // A closing tag would close the element that contains the script.
        assert!(!START.contains("</") && SCRIPTS.iter().all(|script| !script.contains("</")));
    }
}
