//! The board's server side: the page and its stream, admission, redaction, and replays that end in
//! the same state as the run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::Clock;
use portal_chat::event::Recording;
use portal_chat::event::{CoreEvent, Events, ServerEvent, start_event_file};
use portal_chat::net::Port;
use portal_chat::server::{Server, Settings};
use portal_chat::wire::CloseReason;
use serde_json::Value;
use support::PATIENCE;
use support::sentences;

const ANY: &str = "127.0.0.1:0";
const NOTHING: Redactor = Redactor {
    texts: false,
    secrets: false,
};
const EVERYTHING: Redactor = Redactor {
    texts: true,
    secrets: true,
};

/// Sends `request` to a board, and reads its response until the end of the connection.
fn response(board: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(board).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The board may respond and close before everything is written.
    let _ = stream.write_all(request);
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    response
}

fn get(board: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    response(board, request.as_bytes())
}

/// A viewer's stream.
struct Viewer {
    stream: BufReader<TcpStream>,
    picture: Value,
    events: Vec<Value>,
}

impl Viewer {
    fn of(board: SocketAddr, query: &str) -> Viewer {
        let mut stream = TcpStream::connect(board).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /events{query} HTTP/1.1\r\nHost: {board}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut viewer = Viewer {
            stream: BufReader::new(stream),
            picture: Value::Null,
            events: Vec::new(),
        };
        assert!(viewer.next(), "the whole picture arrives first");
        viewer
    }

    /// Applies the next update. Returns `false` at the end.
    fn next(&mut self) -> bool {
        let mut kind = String::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "cut off");
            if let Some(name) = line.strip_prefix("event: ") {
                kind = name.trim().to_owned();
            }
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            if kind == "end" {
                return false;
            }
            let news: Value = serde_json::from_str(data).unwrap();
            if news["whole"] == true {
                self.events.clear();
                self.picture = news["picture"].clone();
            }
            for event in news["events"].as_array().unwrap() {
                self.change(event);
                self.events.push(event.clone());
            }
            return true;
        }
    }

    /// Applies an event's changes, as the page does.
    fn change(&mut self, event: &Value) {
        let change = event["change"].as_object().unwrap();
        if change.contains_key("rules") {
            self.picture = event["change"].clone();
            return;
        }
        for (name, value) in change {
            match value.as_object() {
                Some(parts) if name == "cards" || name == "threads" => {
                    let there = self.picture[name].as_object_mut().unwrap();
                    for (part, value) in parts {
                        if value.is_null() {
                            there.remove(part);
                        } else {
                            there.insert(part.clone(), value.clone());
                        }
                    }
                }
                _ => self.picture[name] = value.clone(),
            }
        }
        let tick = self.picture["tick"].as_u64().max(event["tick"].as_u64());
        self.picture["tick"] = tick.into();
    }

    /// Applies updates until an event with this name arrives.
    fn wait_for(&mut self, event: &str) -> Value {
        loop {
            if let Some(found) = self.events.iter().find(|there| there["event"] == event) {
                return found.clone();
            }
            assert!(self.next(), "the stream ended without {event}");
        }
    }

    fn read_to_end(mut self) -> Viewer {
        while self.next() {}
        self
    }
}

/// A server with a board, and a clock that ticks only on demand.
struct TestBoard {
    server: Server,
    clock: Clock,
    events: Events,
    board: Board,
}

impl TestBoard {
    fn new(settings: &Settings, redactor: Redactor) -> TestBoard {
        let clock = Clock::new();
        let mut events = Events::new(clock.clone());
        if redactor.texts {
            events.show_texts();
        }
        let board = Board::live(ANY.parse().unwrap(), &mut events, redactor, None, &[]).unwrap();
        let settings = Settings {
            port: 0,
            ..settings.clone()
        };
        let server = Server::start(&settings, clock.clone(), events.clone()).unwrap();
        TestBoard {
            server,
            clock,
            board,
            events,
        }
    }

    fn seat(&self) -> Guest {
        let mut response = String::new();
        let mut portal = TcpStream::connect(self.server.portal()).unwrap();
        portal.read_to_string(&mut response).unwrap();
        let part = |element: &str| {
            let rest = response.split_once(&format!("<{element}>")).unwrap().1;
            rest.split_once('<').unwrap().0.to_owned()
        };
        let port = part("Port").parse().unwrap();
        let worker = SocketAddr::new(self.server.portal().ip(), port);
        let mut guest = Guest(BufReader::new(TcpStream::connect(worker).unwrap()));
        guest.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        let passcode = part("HandshakePasscode");
        guest.send_line(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        guest.expect_line("Connection successful");
        guest
    }

    /// Stops the server and then the board. The viewers receive everything.
    fn end(self) {
        self.clock.stop();
        self.server.stop();
        drop(self.events);
        self.board.stop();
    }
}

struct Guest(BufReader<TcpStream>);

impl Guest {
    fn send_line(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    fn expect_line(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {part}");
        }
    }
}

#[test]
fn page_has_a_strict_policy() {
    let board_server = TestBoard::new(&Settings::default(), NOTHING);
    let board = board_server.board.address();
    for path in [
        "/",
        "/board.css",
        "/parts.js",
        "/story.js",
        "/states.js",
        "/threads.js",
        "/timeline.js",
        "/scene.js",
        "/flights.js",
        "/ladder.js",
        "/board.js",
        "/icon.svg",
    ] {
        let page = get(board, path);
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {page}");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "nosniff",
            "no-store",
        ] {
            assert!(page.contains(part), "{path}: {part}");
        }
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        let length = format!("Content-Length: {}", body.len());
        assert!(head.ends_with(&length), "{head}");
        // Nothing is loaded from other sites, and the page itself contains no script or style.
        for part in [
            "https:",
            "<style",
            "style=",
            "onclick",
            "innerHTML",
            "eval(",
        ] {
            assert!(!body.contains(part), "{path}: {part}");
        }
    }
    let long = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        (
            "GET /../Cargo.toml HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404",
        ),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        (&long, "431"),
        ("\r\nGET / HTTP/1.0\r\n\r\n", "200"),
        ("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        (
            "GET http://localhost/ HTTP/1.1\r\nHost: other\r\n\r\n",
            "200",
        ),
    ] {
        let response = response(board, request.as_bytes());
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {response}"
        );
    }
    board_server.end();
}

#[test]
fn refused_request_is_an_event() {
    let mut events = Events::new(Clock::new());
    let queue = events.add_reader(16);
    let names = ["chat.example:8443".to_owned()];
    let board = Board::live(ANY.parse().unwrap(), &mut events, NOTHING, None, &names).unwrap();
    let request_page = |host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        response(board.address(), request.as_bytes())
    };
    assert!(request_page("chat.example").starts_with("HTTP/1.1 200"));
    let refused = request_page("evil.example");
    let fix = "--web-name evil.example";
    assert!(
        refused.starts_with("HTTP/1.1 421") && refused.contains(fix),
        "{refused}"
    );
    let line = queue.events().recv_timeout(PATIENCE).unwrap().line();
    assert!(
        line.contains("http-refused") && line.contains(fix),
        "{line}"
    );
    let port = board.address().port().to_string();
    assert!(line.contains(&port), "{line}");
    // A proxy can serve the pages below a path.
    let page = get(board.address(), "/") + &get(board.address(), "/board.js");
    assert!(!page.contains("=\"/") && !page.contains("'/events'"));
}

#[test]
fn viewer_sees_a_whole_visit() {
    let board_server = TestBoard::new(&Settings::default(), EVERYTHING);
    let mut viewer = Viewer::of(board_server.board.address(), "");
    let mut guest = board_server.seat();
    let seated = viewer.wait_for("seated");
    let seat = seated["seat"].to_string();
    assert_eq!(viewer.picture["cards"][&seat]["phase"], "seated");
    assert_eq!(viewer.picture["stack"]["count"], 3);
    guest.send_line("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
    viewer.wait_for("logged-in");
    assert_eq!(viewer.picture["cards"][&seat]["name"], "alice");
    // A later viewer gets the same picture, and the events so far.
    let late = Viewer::of(board_server.board.address(), "");
    assert_eq!(late.picture, viewer.picture);
    assert_eq!(late.events.first().unwrap()["event"], "started");
    guest.send_line("<CLIENT><command>TERMINATE</command></CLIENT>");
    let freed = viewer.wait_for("seat-free");
    assert_eq!(freed["visit"], seated["visit"]);
    assert_eq!(viewer.picture["cards"][&seat]["phase"], "free");
    assert_eq!(viewer.picture["stack"]["count"], 4);
    board_server.end();
    assert_eq!(viewer.read_to_end().picture["over"], true);
}

#[test]
fn viewer_sees_the_countdown_of_ticks() {
    let board_server = TestBoard::new(&Settings::default(), NOTHING);
    let mut viewer = Viewer::of(board_server.board.address(), "");
    let mut response = String::new();
    let mut portal = TcpStream::connect(board_server.server.portal()).unwrap();
    portal.read_to_string(&mut response).unwrap();
    let seat = viewer.wait_for("ticket")["seat"].to_string();
    // The reservation lasts two ticks, and expires at the next one.
    assert_eq!(viewer.picture["cards"][&seat]["until"], 3);
    for _ in 0..3 {
        let (tick, subscribers) = board_server.clock.beat();
        board_server
            .events
            .emit(|| CoreEvent::Ticked { told: subscribers });
        assert!(tick.0 <= 3);
    }
    viewer.wait_for("seat-free");
    assert_eq!(viewer.picture["tick"], 3);
    assert_eq!(
        viewer.picture["cards"][&seat]["changes"], 1,
        "the passcode has changed"
    );
    assert_eq!(viewer.picture["cards"][&seat]["end"], "no-show");
    board_server.end();
}

#[test]
fn redacted_page_contains_no_texts_or_secrets() {
    let settings = Settings {
        accounts: Some(temporary("accounts")),
        ..Settings::default()
    };
    let board_server = TestBoard::new(&settings, NOTHING);
    let mut viewer = Viewer::of(board_server.board.address(), "");
    // Text events are recorded only while a viewer is watching, starting with the next event.
    let mut guest = board_server.seat();
    while !viewer.events.iter().any(|event| event["event"] == "read") {
        guest.send_line("<CLIENT><message>wh1sper</message></CLIENT>");
        board_server.events.emit(|| CoreEvent::Ticked { told: 0 });
        assert!(viewer.next());
    }
    guest.send_line("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
    guest.send_line("<CLIENT><command>PASSWORD</command><password>s3cret</password></CLIENT>");
    viewer.wait_for("logged-in");
    board_server.end();
    let viewer = viewer.read_to_end();
    let all = serde_json::to_string(&viewer.events).unwrap() + &viewer.picture.to_string();
    assert!(
        all.contains("<message>…") && all.contains("<password>…"),
        "{all}"
    );
    for secret in ["s3cret", "wh1sper", "\"passcode\":\""] {
        assert!(!all.contains(secret), "{secret}");
    }
    let _ = std::fs::remove_file(settings.accounts.unwrap());
}

fn temporary(what: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("portal-chat-board-{what}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn replay_ends_in_the_picture_of_the_run() {
    let file = temporary("events");
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    events.show_texts();
    let board = Board::live(ANY.parse().unwrap(), &mut events, EVERYTHING, None, &[]).unwrap();
    let writing = start_event_file(events.add_reader(1 << 16), &file, None).unwrap();
    let settings = Settings {
        port: 0,
        show_passcodes: true,
        idle_timeout: Some(std::time::Duration::from_secs(4)),
        ..Settings::default()
    };
    let server = Server::start(&settings, clock.clone(), events.clone()).unwrap();
    let board_server = TestBoard {
        server,
        clock,
        board,
        events,
    };
    let mut viewer = Viewer::of(board_server.board.address(), "");
    let (mut alice, mut bob, carol) = (
        board_server.seat(),
        board_server.seat(),
        board_server.seat(),
    );
    alice.send_line("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
    alice.send_line("<CLIENT><command>JOIN</command><room>lobby</room></CLIENT>");
    alice.expect_line("JOINED");
    for round in 0..3 {
        let (_, subscribers) = board_server.clock.beat();
        board_server
            .events
            .emit(|| CoreEvent::Ticked { told: subscribers });
        bob.send_line(&format!("<CLIENT><message>{round}</message></CLIENT>"));
        alice.expect_line(&format!("<message>{round}<"));
    }
    // Free the seats one after another, because events from two threads may be written in either
    // order.
    let mut freed = 0;
    for guest in [carol, bob, alice] {
        drop(guest);
        freed += 1;
        while viewer
            .events
            .iter()
            .filter(|event| event["event"] == "seat-free")
            .count()
            < freed
        {
            assert!(viewer.next());
        }
    }
    board_server.end();
    assert!(writing.finish());
    let live = viewer.read_to_end();

    let recording = Recording::read(&file).unwrap();
    let replay = Board::replay(ANY.parse().unwrap(), recording.events, 1000.0, EVERYTHING).unwrap();
    let again = Viewer::of(replay.address(), "").read_to_end();
    assert_eq!(again.picture, live.picture);
    let changes = |viewer: &Viewer| -> Vec<String> {
        let is_change = |event: &&Value| {
            ["ticket", "seated", "closed", "seat-free"]
                .iter()
                .any(|word| event["event"] == *word)
        };
        viewer
            .events
            .iter()
            .filter(is_change)
            .map(|event| event["details"].to_string())
            .collect()
    };
    assert_eq!(changes(&again), changes(&live));
    assert!(changes(&again).len() >= 12);

    // From the middle, one step at a time, the replay reaches the same final state.
    let count: usize = again.events.len();
    let mut last = Value::Null;
    for from in count - 3..count {
        let stepped = Viewer::of(replay.address(), &format!("?from={from}&count=1")).read_to_end();
        last = stepped.picture;
    }
    assert_eq!(last, live.picture);
    let stopped = Viewer::of(replay.address(), "?from=5&count=0").read_to_end();
    assert_eq!(stopped.events.len(), 5);
    replay.stop();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn recording_of_version_0_2_0_still_plays() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/0.2.0.jsonl");
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.left_out(), 0);
    let kinds: Vec<&str> = recording.events.iter().map(|event| &*event.kind).collect();
    for renamed in [
        "ticket-resent",
        "unexpected-connection",
        "activity",
        "no-partner",
        "closed",
        "seat-free",
    ] {
        assert!(kinds.contains(&renamed), "{renamed}: {kinds:?}");
    }
    let replay = Board::replay(ANY.parse().unwrap(), recording.events, 1000.0, NOTHING).unwrap();
    let seated = Viewer::of(replay.address(), "?from=10&count=0").read_to_end();
    assert_eq!(seated.picture["stack"]["count"], 1);
    assert_eq!(seated.picture["cards"]["24201"]["phase"], "seated");
    let end = Viewer::of(replay.address(), "").read_to_end();
    assert_eq!(end.picture["stack"]["count"], 2);
    assert_eq!(end.picture["cards"]["24201"]["phase"], "free");
    replay.stop();
}

#[test]
fn invalid_recording_is_refused_with_its_line() {
    let file = temporary("nonsense");
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Recording::read(&file).unwrap_err().to_string()
    };
    assert!(refused("").contains(sentences::CONTAINS_NO_EVENTS));
    assert!(refused("# a comment\nhello\nhello\n").contains("line 2 of"));
    let event = r#"{"time":"1970-01-01T00:00:00Z","tick":1,"thread":"main","event":"tick"}"#;
    std::fs::write(&file, format!("{event}\n{}\n{event}\n", &event[..20])).unwrap();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.left_out(), 1, "a line that a crash has truncated");
    // Nonsense in a request affects only that request.
    let replay = Board::replay(ANY.parse().unwrap(), recording.events, 1000.0, NOTHING).unwrap();
    for query in ["?speed=nan", "?speed=inf&from=-1", "?from=9999&count=x"] {
        let viewer = Viewer::of(replay.address(), query).read_to_end();
        assert!(viewer.events.len() <= 2);
    }
    replay.stop();
    std::fs::remove_file(&file).unwrap();
    assert!(
        Recording::read(&file)
            .unwrap_err()
            .to_string()
            .contains(sentences::CANT_BE_READ)
    );
}

#[test]
fn viewers_that_do_not_read_delay_no_others() {
    let board_server = TestBoard::new(&Settings::default(), EVERYTHING);
    let board = board_server.board.address();
    let mut watching: Vec<Viewer> = (0..50).map(|_| Viewer::of(board, "")).collect();
    let not_reading: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(board).unwrap();
            stream
                .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    let port = Port::new(50001).unwrap();
    for _ in 0..2000 {
        board_server.events.emit(|| CoreEvent::Closed {
            port,
            peer: ANY.parse().unwrap(),
            end: CloseReason::PeerClosed,
        });
    }
    board_server.events.emit(|| ServerEvent::Caption {
        text: "the last caption".to_owned(),
        look: None,
    });
    for viewer in &mut watching {
        viewer.wait_for("caption");
        assert_eq!(viewer.picture["caption"]["text"], "the last caption");
    }
    // This is the maximum. The next viewer is still admitted, and the address with the most viewers
    // loses its newest one.
    let request_page = || {
        let mut stream = TcpStream::connect(board).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {board}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = String::new();
        BufReader::new(&stream).read_line(&mut status).unwrap();
        assert!(status.contains("200"), "{status}");
        stream
    };
    let room = portal_chat::limits::VIEWERS - watching.len() - not_reading.len();
    let mut more: Vec<TcpStream> = (0..room).map(|_| request_page()).collect();
    assert_eq!(board_server.board.watching(), portal_chat::limits::VIEWERS);
    let latest = request_page();
    let mut newest = more.pop().unwrap();
    assert_eq!(
        newest.read_to_end(&mut Vec::new()).map(|_| ()).ok(),
        Some(()),
        "its connection is closed"
    );
    assert_eq!(board_server.board.watching(), portal_chat::limits::VIEWERS);
    assert!(get(board, "/").contains("200 OK"));
    drop((more, latest));
    drop(not_reading);
    board_server.end();
    for viewer in watching {
        viewer.read_to_end();
    }
}

/// The other client may even be at the viewer's own address, like a student's script on the
/// teacher's machine.
#[test]
fn hundred_streams_of_another_client_leave_a_viewer_unharmed() {
    let board_server = TestBoard::new(&Settings::default(), NOTHING);
    let board = board_server.board.address();
    let stream = || {
        let mut stream = TcpStream::connect(board).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {board}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = String::new();
        BufReader::new(&stream).read_line(&mut status).unwrap();
        assert!(status.contains("200"), "{status}");
        stream
    };
    let mut first = Viewer::of(board, "");
    // These viewers read nothing.
    let flood: Vec<TcpStream> = (0..100).map(|_| stream()).collect();
    // A second viewer connects when all places are taken.
    let mut second = Viewer::of(board, "");
    let guest = board_server.seat();
    for viewer in [&mut first, &mut second] {
        let seat = viewer.wait_for("seated")["seat"].to_string();
        assert_eq!(viewer.picture["cards"][&seat]["phase"], "seated");
    }
    drop(guest);
    for viewer in [&mut first, &mut second] {
        viewer.wait_for("seat-free");
        assert_eq!(viewer.picture["stack"]["count"], 4);
    }
    drop(flood);
    board_server.end();
    for viewer in [first, second] {
        assert_eq!(viewer.read_to_end().picture["over"], true);
    }
}
