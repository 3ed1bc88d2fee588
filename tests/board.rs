//! The board's server side: the page and its stream, who is let in, what a projector does not get
//! to see, and that a replay ends in the picture of the run itself.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::Clock;
use portal_chat::event::Recording;
use portal_chat::event::{ChatEvent, Events, ServerEvent, start_event_file};
use portal_chat::net::Port;
use portal_chat::server::{Server, Settings};
use portal_chat::wire::CloseReason;
use serde_json::Value;
use support::PATIENCE;

const ANY: &str = "127.0.0.1:0";
const NOTHING: Redactor = Redactor {
    texts: false,
    secrets: false,
};
const EVERYTHING: Redactor = Redactor {
    texts: true,
    secrets: true,
};

/// What a board answers to `request`, to the end of the connection.
fn answer(board: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(board).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may answer, and close, before all of it is written.
    let _ = stream.write_all(request);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(board: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    answer(board, request.as_bytes())
}

/// Somebody who watches.
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
        assert!(viewer.next(), "the whole picture comes first");
        viewer
    }

    /// Takes in what comes next; `false` when it is the end.
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
            }
            if !news["picture"]["rules"].is_null() {
                self.picture = Value::Object(serde_json::Map::new());
            }
            for (name, value) in news["picture"].as_object().unwrap() {
                match value.as_object() {
                    Some(cards) if name == "cards" && !self.picture["cards"].is_null() => {
                        for (seat, card) in cards {
                            self.picture["cards"][seat] = card.clone();
                        }
                    }
                    _ => self.picture[name] = value.clone(),
                }
            }
            self.events
                .extend(news["events"].as_array().unwrap().iter().cloned());
            return true;
        }
    }

    /// Watches until an event of that name has come.
    fn wait_for(&mut self, event: &str) -> Value {
        loop {
            if let Some(found) = self.events.iter().find(|there| there["event"] == event) {
                return found.clone();
            }
            assert!(self.next(), "the end, and no {event}");
        }
    }

    fn until_the_end(mut self) -> Viewer {
        while self.next() {}
        self
    }
}

/// A server with a board, and a clock that stands still.
struct Stage {
    server: Server,
    clock: Clock,
    events: Events,
    board: Board,
}

impl Stage {
    fn new(settings: &Settings, redactor: Redactor) -> Stage {
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
        Stage {
            server,
            clock,
            board,
            events,
        }
    }

    fn seat(&self) -> Guest {
        let mut answer = String::new();
        let mut portal = TcpStream::connect(self.server.portal()).unwrap();
        portal.read_to_string(&mut answer).unwrap();
        let part = |element: &str| {
            let rest = answer.split_once(&format!("<{element}>")).unwrap().1;
            rest.split_once('<').unwrap().0.to_owned()
        };
        let port = part("Port").parse().unwrap();
        let worker = SocketAddr::new(self.server.portal().ip(), port);
        let mut guest = Guest(BufReader::new(TcpStream::connect(worker).unwrap()));
        guest.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        let passcode = part("HandshakePasscode");
        guest.says(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
        guest.hears("Connection successful");
        guest
    }

    /// Ends the server and then the board; the viewers hear all of it.
    fn end(self) {
        self.clock.stop();
        self.server.stop();
        drop(self.events);
        self.board.stop();
    }
}

struct Guest(BufReader<TcpStream>);

impl Guest {
    fn says(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    fn hears(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {part}");
        }
    }
}

#[test]
fn the_page_comes_with_a_strict_policy_and_everything_else_is_refused() {
    let stage = Stage::new(&Settings::default(), NOTHING);
    let board = stage.board.address();
    for path in [
        "/",
        "/board.css",
        "/board.js",
        "/ladder.js",
        "/story.js",
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
        // Nothing is loaded from elsewhere, and no script or style stands in the page itself.
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
        let answer = answer(board, request.as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
    stage.end();
}

#[test]
fn a_refused_request_is_an_event_and_the_pages_names_are_the_boards() {
    let mut events = Events::new(Clock::new());
    let queue = events.add_reader(16);
    let names = ["chat.example:8443".to_owned()];
    let board = Board::live(ANY.parse().unwrap(), &mut events, NOTHING, None, &names).unwrap();
    let ask = |host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        answer(board.address(), request.as_bytes())
    };
    assert!(ask("chat.example").starts_with("HTTP/1.1 200"));
    let refused = ask("evil.example");
    let fix = "--web-name evil.example";
    assert!(
        refused.starts_with("HTTP/1.1 421") && refused.contains(fix),
        "{refused}"
    );
    let told = queue.events().recv_timeout(PATIENCE).unwrap().line();
    assert!(
        told.contains("http-refused") && told.contains(fix),
        "{told}"
    );
    let port = board.address().port().to_string();
    assert!(told.contains(&port), "{told}");
    // A proxy can serve the pages below a path.
    let page = get(board.address(), "/") + &get(board.address(), "/board.js");
    assert!(!page.contains("=\"/") && !page.contains("'/events'"));
}

#[test]
fn whoever_watches_sees_a_visit_from_the_ticket_to_the_freed_port() {
    let stage = Stage::new(&Settings::default(), EVERYTHING);
    let mut viewer = Viewer::of(stage.board.address(), "");
    let mut guest = stage.seat();
    let seated = viewer.wait_for("seated");
    let seat = seated["seat"].to_string();
    assert_eq!(viewer.picture["cards"][&seat]["phase"], "seated");
    assert_eq!(viewer.picture["stack"]["count"], 3);
    guest.says("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
    viewer.wait_for("logged-in");
    assert_eq!(viewer.picture["cards"][&seat]["name"], "alice");
    // A newcomer gets the same picture, and what has happened so far.
    let late = Viewer::of(stage.board.address(), "");
    assert_eq!(late.picture, viewer.picture);
    assert_eq!(late.events.first().unwrap()["event"], "started");
    guest.says("<CLIENT><command>TERMINATE</command></CLIENT>");
    let freed = viewer.wait_for("seat-free");
    assert_eq!(freed["visit"], seated["visit"]);
    assert_eq!(viewer.picture["cards"][&seat]["phase"], "free");
    assert_eq!(viewer.picture["stack"]["count"], 4);
    stage.end();
    assert_eq!(viewer.until_the_end().picture["over"], true);
}

#[test]
fn a_tick_is_counted_down_and_what_it_ends_is_shown() {
    let stage = Stage::new(&Settings::default(), NOTHING);
    let mut viewer = Viewer::of(stage.board.address(), "");
    let mut answer = String::new();
    let mut portal = TcpStream::connect(stage.server.portal()).unwrap();
    portal.read_to_string(&mut answer).unwrap();
    let seat = viewer.wait_for("ticket")["seat"].to_string();
    // Two ticks long, and past at the next.
    assert_eq!(viewer.picture["cards"][&seat]["until"], 3);
    for _ in 0..3 {
        let (tick, told) = stage.clock.beat();
        stage.events.emit(|| ChatEvent::Ticked { told });
        assert!(tick.0 <= 3);
    }
    viewer.wait_for("seat-free");
    assert_eq!(viewer.picture["tick"], 3);
    assert_eq!(
        viewer.picture["cards"][&seat]["changes"], 1,
        "the passcode has changed"
    );
    assert_eq!(viewer.picture["cards"][&seat]["end"], "no-show");
    stage.end();
}

#[test]
fn without_leave_no_word_no_passcode_and_no_password_reaches_the_page() {
    let settings = Settings {
        accounts: Some(temporary("accounts")),
        ..Settings::default()
    };
    let stage = Stage::new(&settings, NOTHING);
    let mut viewer = Viewer::of(stage.board.address(), "");
    // The shutter opens when somebody watches and something has happened.
    let mut guest = stage.seat();
    while !viewer.events.iter().any(|event| event["event"] == "read") {
        guest.says("<CLIENT><message>wh1sper</message></CLIENT>");
        stage.events.emit(|| ChatEvent::Ticked { told: 0 });
        assert!(viewer.next());
    }
    guest.says("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
    guest.says("<CLIENT><command>PASSWORD</command><password>s3cret</password></CLIENT>");
    viewer.wait_for("logged-in");
    stage.end();
    let viewer = viewer.until_the_end();
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
fn a_replay_ends_in_the_picture_of_the_run_itself() {
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
    let stage = Stage {
        server,
        clock,
        board,
        events,
    };
    let mut viewer = Viewer::of(stage.board.address(), "");
    let (mut alice, mut bob, carol) = (stage.seat(), stage.seat(), stage.seat());
    alice.says("<CLIENT><command>LOGIN</command><username>alice</username></CLIENT>");
    alice.says("<CLIENT><command>JOIN</command><room>lobby</room></CLIENT>");
    alice.hears("JOINED");
    for round in 0..3 {
        let (_, told) = stage.clock.beat();
        stage.events.emit(|| ChatEvent::Ticked { told });
        bob.says(&format!("<CLIENT><message>{round}</message></CLIENT>"));
        alice.hears(&format!("<message>{round}<"));
    }
    // One after the other: what two threads tell at once may be written in another order.
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
    stage.end();
    assert!(writing.finish());
    let live = viewer.until_the_end();

    let recording = Recording::read(&file).unwrap();
    let replay = Board::replay(ANY.parse().unwrap(), recording.events, 1000.0, EVERYTHING).unwrap();
    let again = Viewer::of(replay.address(), "").until_the_end();
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

    // From the middle, one step at a time, it gets to the same end.
    let count: usize = again.events.len();
    let mut last = Value::Null;
    for from in count - 3..count {
        let stepped =
            Viewer::of(replay.address(), &format!("?from={from}&count=1")).until_the_end();
        last = stepped.picture;
    }
    assert_eq!(last, live.picture);
    let stopped = Viewer::of(replay.address(), "?from=5&count=0").until_the_end();
    assert_eq!(stopped.events.len(), 5);
    replay.stop();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_recording_of_version_0_2_0_still_plays() {
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
    let seated = Viewer::of(replay.address(), "?from=10&count=0").until_the_end();
    assert_eq!(seated.picture["stack"]["count"], 1);
    assert_eq!(seated.picture["cards"]["24201"]["phase"], "seated");
    let end = Viewer::of(replay.address(), "").until_the_end();
    assert_eq!(end.picture["stack"]["count"], 2);
    assert_eq!(end.picture["cards"]["24201"]["phase"], "free");
    replay.stop();
}

#[test]
fn a_file_that_is_no_recording_is_refused_by_line() {
    let file = temporary("nonsense");
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Recording::read(&file).unwrap_err().to_string()
    };
    assert!(refused("").contains("contains no events"));
    assert!(refused("# a comment\nhello\nhello\n").contains("line 2 of"));
    let event = r#"{"time":"1970-01-01T00:00:00Z","tick":1,"thread":"main","event":"tick"}"#;
    std::fs::write(&file, format!("{event}\n{}\n{event}\n", &event[..20])).unwrap();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.left_out(), 1, "a line that a crash has torn");
    // Nor does nonsense in a request cost more than that request.
    let replay = Board::replay(ANY.parse().unwrap(), recording.events, 1000.0, NOTHING).unwrap();
    for query in ["?speed=nan", "?speed=inf&from=-1", "?from=9999&count=x"] {
        let viewer = Viewer::of(replay.address(), query).until_the_end();
        assert!(viewer.events.len() <= 2);
    }
    replay.stop();
    std::fs::remove_file(&file).unwrap();
    assert!(
        Recording::read(&file)
            .unwrap_err()
            .to_string()
            .contains("can't be read")
    );
}

#[test]
fn viewers_that_read_nothing_hold_nobody_up_and_fifty_hear_everything() {
    let stage = Stage::new(&Settings::default(), EVERYTHING);
    let board = stage.board.address();
    let mut watching: Vec<Viewer> = (0..50).map(|_| Viewer::of(board, "")).collect();
    let deaf: Vec<TcpStream> = (0..20)
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
        stage.events.emit(|| ChatEvent::Closed {
            port,
            peer: ANY.parse().unwrap(),
            end: CloseReason::PeerClosed,
        });
    }
    stage.events.emit(|| ServerEvent::Caption {
        text: "that was much".to_owned(),
    });
    for viewer in &mut watching {
        viewer.wait_for("caption");
        assert_eq!(viewer.picture["caption"], "that was much");
    }
    // This is the maximum. The next viewer is also admitted, and the address with the most loses
    // its oldest.
    let ask = || {
        let mut stream = TcpStream::connect(board).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {board}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = String::new();
        BufReader::new(&stream).read_line(&mut status).unwrap();
        assert!(status.contains("200"), "{status}");
        stream
    };
    let room = portal_chat::limits::VIEWERS - watching.len() - deaf.len();
    let more: Vec<TcpStream> = (0..room).map(|_| ask()).collect();
    assert_eq!(stage.board.watching(), portal_chat::limits::VIEWERS);
    let newcomer = ask();
    let mut oldest = watching.remove(0).stream;
    assert_eq!(
        oldest.read_to_end(&mut Vec::new()).map(|_| ()).ok(),
        Some(()),
        "its connection is closed"
    );
    assert_eq!(stage.board.watching(), portal_chat::limits::VIEWERS);
    assert!(get(board, "/").contains("200 OK"));
    drop((more, newcomer));
    drop(deaf);
    stage.end();
    for viewer in watching {
        viewer.until_the_end();
    }
}
