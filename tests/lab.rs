//! The laboratory (`make lab`): each button makes a real client do what the button says, on real
//! sockets, and only for the laboratory's own page. No server's board has such a button.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
#[path = "demo/lab.rs"]
mod lab;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use browser::Browser;
use lab::{ACTIONS, Lab, PATIENCE};
use portal_chat::board::{Board, Redactor};
use portal_chat::clock::Clock;
use portal_chat::event::{Event, EventQueue, Events};

const ANY: &str = "127.0.0.1:0";

/// A laboratory whose clock ticks only on demand.
struct TestLab {
    lab: Lab,
    clock: Clock,
    queue: EventQueue,
}

impl TestLab {
    fn open() -> TestLab {
        let clock = Clock::new();
        let mut events = Events::new(clock.clone());
        let queue = events.add_reader(1 << 16);
        let lab = Lab::open(ANY.parse().unwrap(), 0, &clock, events).unwrap();
        TestLab { lab, clock, queue }
    }

    /// Sends a request with these header fields, and returns the answer.
    fn request(&self, request: &str, fields: &str) -> String {
        ask(self.lab.address, request, fields)
    }

    /// Presses a button, and returns the status and the sentence.
    fn press(&self, button: &str) -> (String, String) {
        let origin = format!("Origin: http://{}\r\n", self.lab.address);
        let answer = self.request(&format!("POST /lab/{button}"), &origin);
        let (head, sentence) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, sentence.to_owned())
    }

    fn done(&self, button: &str) {
        let (status, sentence) = self.press(button);
        assert_eq!(status, "200", "{button}: {sentence}");
    }

    /// The next event of this kind.
    fn wait_for(&self, kind: &str) -> Event {
        let until = Instant::now() + PATIENCE;
        loop {
            let event = self.queue.events().recv_deadline(until);
            let event = event.unwrap_or_else(|_| panic!("no {kind}"));
            if event.kind == kind {
                return event;
            }
        }
    }

    /// Ticks until an event of this kind.
    fn tick_until(&self, kind: &str) -> Event {
        let until = Instant::now() + PATIENCE;
        loop {
            self.clock.beat();
            let next = std::time::Duration::from_millis(20);
            while let Ok(event) = self.queue.events().recv_timeout(next) {
                if event.kind == kind {
                    return event;
                }
            }
            assert!(Instant::now() < until, "no {kind}");
        }
    }
}

fn ask(address: SocketAddr, request: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn each_button_does_on_real_sockets_what_it_says() {
    let lab = TestLab::open();
    // Callers without a seat.
    lab.done("wrong");
    lab.wait_for("wrong-passcode");
    assert_eq!(lab.wait_for("closed").text("end"), Some("wrong-passcode"));
    lab.done("knock");
    lab.wait_for("unexpected-connection");
    lab.done("no-show");
    let reserved = lab.wait_for("ticket").number("port");
    assert_eq!(lab.tick_until("no-show").number("port"), reserved);
    lab.done("silent");
    lab.wait_for("arrived");
    let closed = lab.tick_until("closed");
    assert_eq!(closed.text("end"), Some("handshake-timeout"));

    // Two clients chat.
    lab.done("enter");
    let first = lab.wait_for("seated").number("port").unwrap();
    assert_eq!(lab.wait_for("logged-in").text("name"), Some("alice"));
    lab.done("enter");
    let second = lab.wait_for("seated").number("port").unwrap();
    assert_eq!(lab.wait_for("logged-in").text("name"), Some("bob"));
    lab.done("say");
    let relayed = lab.wait_for("relayed");
    assert_eq!(
        (relayed.number("from"), relayed.number("to")),
        (Some(second), Some(first))
    );
    lab.done(&format!("say?seat={first}"));
    assert_eq!(
        lab.wait_for("relayed").number("from"),
        Some(first),
        "the selected client"
    );
    lab.done("everyone");
    assert_eq!(lab.wait_for("public").number("count"), Some(1));
    let (_, sentence) = lab.press("room");
    assert!(sentence.contains("its only member"), "{sentence}");
    assert_eq!(lab.wait_for("room-said").text("room"), Some("lobby"));
    let (_, sentence) = lab.press(&format!("room?seat={first}"));
    assert!(sentence.ends_with("has sent the message"), "{sentence}");
    lab.wait_for("room-said");

    // A client that is stopped reads nothing, however much arrives; then it continues.
    lab.done(&format!("stop?seat={first}"));
    lab.done("say");
    lab.wait_for("relayed");
    assert!(lab.lab.class.has_unread(u16::try_from(first).unwrap()));
    assert!(
        lab.request("GET /lab/stopped", "")
            .ends_with(&format!("\r\n{first}"))
    );
    lab.done(&format!("continue?seat={first}"));
    let until = Instant::now() + PATIENCE;
    while lab.lab.class.has_unread(u16::try_from(first).unwrap()) {
        assert!(Instant::now() < until, "it does not go on");
        std::thread::yield_now();
    }

    lab.done("terminate");
    assert_eq!(lab.wait_for("closed").text("end"), Some("terminate"));
    lab.wait_for("seat-free");
    lab.done(&format!("vanish?seat={first}"));
    assert_eq!(lab.wait_for("closed").text("end"), Some("gone"));
    lab.wait_for("seat-free");

    // A client that never reads is disconnected when its partner floods it; the partner stays.
    lab.done("never-read");
    let deaf = lab.wait_for("seated").number("port");
    lab.done("enter");
    lab.wait_for("logged-in");
    lab.done("flood");
    let closed = lab.wait_for("closed");
    assert_eq!(
        (closed.number("port"), closed.text("end")),
        (deaf, Some("too-slow"))
    );
    // While it is still flooding, its messages have no recipient.
    lab.wait_for("no-partner");

    // All seats taken: the next client gets a message that says so.
    while lab.press("enter").0 == "200" {}
    let (status, sentence) = lab.press("enter");
    assert_eq!(status, "409", "{sentence}");
    lab.wait_for("full");
}

#[test]
fn buttons_obey_only_the_laboratorys_own_page() {
    let lab = TestLab::open();
    let address = lab.lab.address;
    let status = |request: &str, fields: &str| {
        let answer = lab.request(request, fields);
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("POST /lab/enter", ""), "403");
    assert_eq!(
        status("POST /lab/enter", "Origin: http://evil.example\r\n"),
        "403"
    );
    let own = format!("Origin: http://{address}\r\n");
    assert_eq!(status("POST /lab/no-such-button", &own), "409");
    assert_eq!(status("POST /", &own), "405");
    assert_eq!(status("DELETE /lab/enter", &own), "405");
    // A button can't be pressed with a link or a picture.
    assert_eq!(status("GET /lab/enter", ""), "404");
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        "POST /lab/enter HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    let kinds: Vec<String> = lab
        .queue
        .events()
        .try_iter()
        .map(|event| event.kind.into_owned())
        .collect();
    for kind in ["ticket", "caption", "seated"] {
        assert!(!kinds.iter().any(|there| there == kind), "{kinds:?}");
    }
    // It starts only on a loopback address.
    let clock = Clock::new();
    let events = Events::new(clock.clone());
    let open = Lab::open("0.0.0.0:0".parse().unwrap(), 0, &clock, events);
    assert!(open.is_err_and(|error| error.to_string().contains("loopback")));
}

#[test]
fn a_servers_board_has_no_button_and_changes_nothing() {
    let mut events = Events::new(Clock::new());
    let queue = events.add_reader(64);
    let redactor = Redactor {
        texts: true,
        secrets: true,
    };
    let board = Board::live(ANY.parse().unwrap(), &mut events, redactor, None, &[]).unwrap();
    let address = board.address();
    let own = format!("Origin: http://{address}\r\n");
    for (action, _) in ACTIONS {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = ask(address, &format!("{method} /lab/{action}"), &own);
            assert!(
                answer.starts_with("HTTP/1.1 405"),
                "{method} {action}: {answer}"
            );
        }
        let answer = ask(address, &format!("GET /lab/{action}"), "");
        assert!(answer.starts_with("HTTP/1.1 404"), "{action}: {answer}");
    }
    for path in ["/", "/board.js", "/scene.js", "/timeline.js"] {
        let part = ask(address, &format!("GET {path}"), "");
        assert!(
            part.starts_with("HTTP/1.1 200") && !part.contains("POST") && !part.contains("fetch("),
            "{path}"
        );
    }
    for path in ["/lab.js", "/lab.css"] {
        let part = ask(address, &format!("GET {path}"), "");
        assert!(part.starts_with("HTTP/1.1 404"), "{path}");
    }
    // The refusals are events; nothing else has happened.
    assert!(
        queue
            .events()
            .try_iter()
            .all(|event| event.kind == "http-refused")
    );
}

#[test]
fn page_has_every_button_and_shows_what_they_do() {
    let Some(browser) = Browser::start("lab") else {
        return;
    };
    let lab = TestLab::open();
    browser.open(lab.lab.address);
    browser.wait_until("document.querySelectorAll('.card').length === 4");
    let buttons = browser.run("return [...document.querySelectorAll('#lab button')].map((button) => button.dataset.action)");
    let mut shown: Vec<&str> = buttons
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut known: Vec<&str> = ACTIONS.iter().map(|(action, _)| *action).collect();
    shown.sort_unstable();
    known.sort_unstable();
    assert_eq!(shown, known);
    let press = |action: &str| {
        browser.run(&format!(
            "document.querySelector('[data-action={action}]').click()"
        ));
    };
    press("enter");
    browser.wait_until("[...document.querySelectorAll('.card.seated')].length === 1 && document.querySelector('.client.there .who').textContent === 'alice'");
    press("knock");
    browser.wait_until("[...document.querySelectorAll('#events .word')].some((word) => word.textContent === 'unexpected-connection')");
    browser.wait_until(
        "state.caption.text.includes('without a ticket') && document.querySelector('.looked')",
    );
    press("terminate");
    browser.wait_until("!document.querySelector('.card.seated')");
}
