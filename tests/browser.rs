//! A real browser watches the board: it sees each of the nine rules happen, and client input is
//! never anything but text. Needs `chromium` and `chromedriver`; without them, the tests report
//! that they did not run, unless REQUIRE_BROWSER is set.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/sentences.rs"]
mod sentences;
#[path = "demo/board.rs"]
mod show;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use browser::Browser;
use portal_chat::board::{Board, Redactor};
use portal_chat::clock::{Clock, Tick};
use portal_chat::event::Recording;
use portal_chat::event::{CoreEvent, Events, ServerEvent};
use portal_chat::server::{Server, Settings};
use portal_chat::wire::{Revision, printable};
use serde_json::{Value, json};
use show::PATIENCE;

const ANY: &str = "127.0.0.1:0";

/// Hides message texts and passcodes.
const REDACTOR: Redactor = Redactor {
    texts: false,
    secrets: false,
};

/// Records the page about thirty times per second and at each tick, whenever its content has
/// changed.
const WATCH: &str = r#"
    window.seen = [];
    const text = (part) => part ? part.textContent : '';
    window.look = () => {
        const cards = {};
        for (const card of document.querySelectorAll('.card')) {
            cards[text(card.querySelector('.port'))] = {
                phase: text(card.querySelector('.phase')),
                left: text(card.querySelector('.left')),
                passcode: text(card.querySelector('.passcode')),
                who: text(card.parentElement.querySelector('.who')),
            };
        }
        const look = {
            caption: text(document.getElementById('caption')),
            stack: [...document.querySelectorAll('#stack li')].map(text),
            cards,
            messages: [...document.querySelectorAll('.message')].map(text),
            told: document.querySelectorAll('.beat').length,
            looked: [...document.querySelectorAll('.looked')].map((part) => part.dataset.look),
            refused: state.events.filter((event) => event.event === 'wrong-passcode').length,
            events: [...document.querySelectorAll('#events li .word')].slice(-12).map(text),
        };
        const last = window.seen[window.seen.length - 1];
        if (JSON.stringify(last) !== JSON.stringify(look)) window.seen.push(look);
    };
    setInterval(window.look, 30);
"#;

fn cards(look: &Value) -> impl Iterator<Item = &Value> {
    look["cards"].as_object().unwrap().values()
}

fn has_phase(look: &Value, phase: &str) -> bool {
    cards(look).any(|card| card["phase"] == phase)
}

fn ports(look: &Value) -> usize {
    look["stack"].as_array().unwrap().len()
}

fn happened(look: &Value, event: &str) -> bool {
    look["events"]
        .as_array()
        .unwrap()
        .iter()
        .any(|word| word == event)
}

#[test]
fn browser_sees_each_of_the_nine_rules() {
    let Some(browser) = Browser::start("rules") else {
        return;
    };
    // The first tick waits until the browser is watching, and every tick waits until the browser
    // has seen the previous one.
    let browser = Arc::new(browser);
    let watching = Arc::clone(&browser);
    let is_watching = Arc::new(AtomicBool::new(false));
    let is_running = Arc::clone(&is_watching);
    let ticked = move |Tick(now): Tick| {
        while !is_running.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(10));
        }
        watching.wait_until(&format!("state.tick >= {now}"));
        watching.run("window.look()");
    };
    let (announce, announced) = channel();
    let recording =
        std::env::temp_dir().join(format!("portal-chat-recorded-{}.jsonl", std::process::id()));
    let file = recording.clone();
    let playing = thread::spawn(move || {
        show::perform(
            ANY.parse().unwrap(),
            0,
            Duration::from_millis(500),
            1,
            Some(&file),
            |_, board| {
                announce.send(board).unwrap();
            },
            ticked,
        )
        .expect("the rules are acted out");
    });
    browser.open(announced.recv_timeout(PATIENCE).unwrap());
    browser.run(WATCH);
    // Otherwise, the show would wait for *Next* at its first caption.
    browser.run("timeline.toEnd()");
    is_watching.store(true, Ordering::Release);
    while !playing.is_finished() {
        thread::sleep(Duration::from_millis(100));
    }
    playing.join().unwrap();
    // The recording can be replayed, with its captions.
    let recorded = std::fs::read_to_string(&recording).unwrap();
    std::fs::remove_file(&recording).unwrap();
    for rule in 1..=9 {
        assert!(recorded.contains(&format!("Rule {rule}: ")), "rule {rule}");
    }
    check_that_rules_start_on_a_clean_board(&recorded);
    browser.wait_until("document.body.classList.contains('lost')");

    let seen = browser.run("return window.seen");
    let seen = seen.as_array().unwrap();
    // The snapshots under the captions that begin with `rule`.
    let during = |rule: &str| -> Vec<&Value> {
        let looks: Vec<&Value> = seen
            .iter()
            .filter(|look| look["caption"].as_str().unwrap().starts_with(rule))
            .collect();
        assert!(!looks.is_empty(), "{rule} was not shown");
        looks
    };
    let expect_seen = |rule: &str, what: &str, wanted: &dyn Fn(&Value) -> bool| {
        assert!(during(rule).into_iter().any(wanted), "{rule}: no {what}");
    };

    expect_seen("Rule 1:", "pile of four ports", &|look| ports(look) == 4);
    expect_seen("Rule 1:", "four free workers", &|look| {
        cards(look).filter(|card| card["phase"] == "free").count() == 4
    });
    expect_seen("Rule 2:", "port less on the stack", &|look| {
        ports(look) == 3
    });
    expect_seen("Rule 2:", "reserved card with its countdown", &|look| {
        cards(look).any(|card| {
            card["phase"] == "reserved" && card["left"].as_str().unwrap().contains("to connect")
        })
    });
    expect_seen("Rule 3:", "greeting", &|look| has_phase(look, "greeting"));
    expect_seen("Rule 3:", "seated alice", &|look| {
        cards(look).any(|card| {
            card["phase"] == "seated" && card["who"].as_str().unwrap().starts_with("alice")
        })
    });
    let message = |look: &Value, message: &str| {
        let messages = look["messages"].as_array().unwrap();
        messages.iter().any(|text| text == message)
    };
    expect_seen("Rule 3, too:", "message on its way", &|look| {
        message(look, "partner hello bob")
    });
    for kind in [
        "everyone hello, everyone",
        "direct only for you",
        "room hello, lobby",
    ] {
        expect_seen("More messages:", kind, &|look| message(look, kind));
    }
    // The caption marks what to look at.
    let looked = |look: &Value, part: &str| {
        let parts = look["looked"].as_array().unwrap();
        parts.iter().any(|there| there == part)
    };
    for (rule, part) in [
        ("Rule 2:", "stack"),
        ("Rule 2:", "portal"),
        ("Rule 4:", "stack"),
        ("Rule 8:", "ticker"),
    ] {
        expect_seen(rule, part, &|look| looked(look, part));
    }
    for left in [
        "3 ticks to connect",
        "2 ticks to connect",
        "1 tick to connect",
    ] {
        expect_seen("Rule 4:", left, &|look| {
            cards(look).any(|card| card["left"].as_str().unwrap().starts_with(left))
        });
    }
    expect_seen("Rule 4:", "no-show", &|look| happened(look, "no-show"));
    expect_seen("Rule 4:", "port that is out", &|look| ports(look) == 3);
    expect_seen("Rule 4:", "port that went back", &|look| ports(look) == 4);
    expect_seen("Rule 4:", "passcode that has changed", &|look| {
        cards(look).any(|card| card["passcode"].as_str().unwrap().contains("no. 2"))
    });
    expect_seen("Rule 5:", "unexpected-connection", &|look| {
        happened(look, "unexpected-connection")
    });
    expect_seen("Rules 5a", "carol", &|look| {
        cards(look).any(|card| card["who"].as_str().unwrap().starts_with("carol"))
    });
    expect_seen("Rule 5c:", "wrong passcode", &|look| {
        happened(look, "wrong-passcode")
    });
    let refused = |look: &Value| look["refused"].as_u64().unwrap();
    let before = during("Rule 5c:").into_iter().map(refused).max().unwrap();
    expect_seen("Rule 5d:", "old passcode refused", &|look| {
        refused(look) > before
    });
    expect_seen("Rule 6:", "end by idleness", &|look| {
        cards(look).any(|card| card["who"] == "last visit: idle")
    });
    expect_seen("Rule 6, too:", "end by total time", &|look| {
        cards(look).any(|card| card["who"] == "last visit: total time")
    });
    expect_seen("Rule 7:", "empty stack", &|look| ports(look) == 0);
    expect_seen("Rule 7:", "FULL", &|look| happened(look, "full"));
    let told = |look: &&Value| look["told"].as_u64() > Some(0);
    assert!(
        seen.iter().any(|look| told(&look)),
        "no tick reached a timer"
    );
    // The board shows the caption's subject: a client whose ticks run down.
    let left = |look: &&Value| {
        let hal = cards(look).find(|card| card["who"].as_str().unwrap().starts_with("hal"));
        hal.map(|card| card["left"].as_str().unwrap().to_owned())
    };
    let lefts: BTreeSet<String> = during("Rule 8:").iter().filter_map(left).collect();
    assert!(lefts.len() > 1, "hal's ticks do not run down: {lefts:?}");
    expect_seen("Rule 9:", "end by TERMINATE", &|look| {
        cards(look).any(|card| card["who"] == "last visit: TERMINATE")
    });

    browser.run("document.getElementById('show-ladder').click()");
    let ladder = browser
        .run("return [...document.querySelectorAll('#ladder svg text')].map((t) => t.textContent)");
    let ladder: Vec<&str> = ladder
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for label in [
        "requests a port",
        "the passcode",
        "Connection successful",
        "hello bob",
        "client did not connect",
        "unexpected",
        "a wrong passcode",
        "IDLE TIMEOUT",
        "FULL",
        "TOTAL TIME TIMEOUT",
        "TERMINATE",
        "new passcode; port back on the stack",
    ] {
        // A long label is truncated if its lane is narrow.
        let is_label = |text: &&&str| {
            text.trim_end_matches('…').len() > 3 && label.starts_with(text.trim_end_matches('…'))
        };
        assert!(
            ladder.iter().any(|text| is_label(&text)),
            "no {label} in {ladder:?}"
        );
    }
    let arrows =
        browser.run("return document.querySelectorAll('#ladder svg line[marker-end]').length");
    assert!(arrows.as_u64().unwrap() > 40, "{arrows}");

    // The same works with the keyboard; the picture can be saved; a story has its title.
    let key = |key: &str| {
        browser.run(&format!("document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"));
    };
    key("b");
    browser.wait_until("!document.getElementById('board').hidden");
    browser.run("document.querySelector('.card').click()");
    browser.wait_until("document.querySelectorAll('#story-steps .frame').length > 2");
    // A line without a line feed is a partial frame; a browser's frames have no line feed.
    let meanings = |event: &str| {
        browser.run(&format!(
            "return frames({event}).map((frame) => frame.meaning).join()"
        ))
    };
    let piece = r#"details: { bytes: '"\\x81\\x1c<SERVER><command>PONG</command></SERVER>"' }"#;
    for (event, is_part) in [
        (format!("{{ event: 'write', web: false, {piece} }}"), true),
        (format!("{{ event: 'write', web: true, {piece} }}"), false),
        (format!("{{ event: 'frame', web: true, {piece} }}"), false),
    ] {
        let meaning = meanings(&event);
        let meaning = meaning.as_str().unwrap();
        assert_eq!(
            meaning.contains("incomplete frame"),
            is_part,
            "{event}: {meaning}"
        );
        assert!(
            meaning.contains(sentences::A_TEST_OF_THE_CONNECTION),
            "{meaning}"
        );
    }
    key("Escape");
    browser.wait_until("document.getElementById('story').hidden");
    let saved = browser
        .run("return new XMLSerializer().serializeToString(ladder.draw(1240, colours()).svg)");
    assert!(
        saved
            .as_str()
            .unwrap()
            .starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"")
    );
    let width = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert!(
        width[0].as_u64() <= width[1].as_u64(),
        "the page is wider than the projector"
    );
}

/// Checks that no client of the previous rule is left when a rule's caption appears.
fn check_that_rules_start_on_a_clean_board(recorded: &str) {
    let mut taken = BTreeSet::new();
    let mut rules = 0;
    for line in recorded.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let port = event["port"].as_u64();
        match event["event"].as_str().unwrap() {
            "ticket" => assert!(taken.insert(port)),
            "seat-free" => assert!(taken.remove(&port)),
            "caption" => {
                let text = event["text"].as_str().unwrap();
                // These captions continue the previous one.
                let continues = ["Rule 3", "Rule 5d:", "Rule 7: another client"];
                if !continues.iter().any(|rule| text.starts_with(rule)) {
                    assert!(taken.is_empty(), "{text}: {taken:?}");
                    rules += 1;
                }
            }
            _ => {}
        }
    }
    assert!(rules >= 10, "{rules}");
}

/// A frame as .NET writes it.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = text.len();
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Takes a seat on a server with revision 0, whose texts may be long.
fn take_legacy_seat(server: &Server) -> TcpStream {
    let mut ticket = String::new();
    TcpStream::connect(server.portal())
        .unwrap()
        .read_to_string(&mut ticket)
        .unwrap();
    let number = |after: &str| {
        let rest = ticket.split_once(after).unwrap().1;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let (port, code) = (number("Port=>"), number("HandshakeCode="));
    let address = SocketAddr::new(server.portal().ip(), port.parse().unwrap());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(&frame(&format!("CLIENT{port}>>>HandshakeCode={code}")))
        .unwrap();
    let mut response = Vec::new();
    while !String::from_utf8_lossy(&response).contains("successful") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
    }
    stream
}

/// Takes a seat and logs in.
fn take_seat_as(server: &Server, name: &str) -> TcpStream {
    let mut ticket = String::new();
    let mut portal = TcpStream::connect(server.portal()).unwrap();
    portal.read_to_string(&mut ticket).unwrap();
    let part = |element: &str| {
        let (_, rest) = ticket.split_once(&format!("<{element}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let port = part("Port").parse().unwrap();
    let worker = SocketAddr::new(server.portal().ip(), port);
    let mut stream = TcpStream::connect(worker).unwrap();
    let passcode = part("HandshakePasscode");
    let requests = format!(
        "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n\
         <CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>\n"
    );
    stream.write_all(requests.as_bytes()).unwrap();
    stream
}

/// Returns the visible texts that are too small for the last row of a class.
fn too_small(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('body *')]
            .filter((part) => part.checkVisibility() && [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
            .filter((part) => parseFloat(getComputedStyle(part).fontSize) < 16)
            .map((part) => part.tagName + ': ' + part.textContent)",
    )
}

/// Returns the visible texts whose contrast with their background is less than 4.5 (WCAG AA).
fn low_contrast(browser: &Browser) -> Value {
    browser.run(
        r"const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const rgba = (colour) => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        const light = (colour) => {
            const [r, g, b] = colour.map((part) => part / 255)
                .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (part) => {
            for (let at = part; at; at = at.parentElement) {
                const rect = at instanceof SVGElement && at.tagName === 'g' && at.querySelector(':scope > rect');
                const colour = rect ? getComputedStyle(rect).fill : getComputedStyle(at).backgroundColor;
                if (rgba(colour)[3] === 255) return rgba(colour);
                if (at.tagName === 'svg' && at.closest('#ladder')) return rgba(getComputedStyle(at.querySelector('rect')).fill);
            }
            return [255, 255, 255, 255];
        };
        return [...document.querySelectorAll('body *')]
            .filter((part) => part.checkVisibility() && [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
            .filter((part) => !part.closest('.flight, title, option') && !part.getAnimations({ subtree: false }).length
                && !part.closest('[data-thread]')?.getAnimations().length)
            .map((part) => {
                const style = getComputedStyle(part);
                const text = rgba(part instanceof SVGElement ? style.fill : style.color);
                const [one, other] = [light(text.slice(0, 3)), light(behind(part).slice(0, 3))];
                return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), part];
            })
            .filter(([ratio]) => ratio < 4.5)
            .map(([ratio, part]) => ratio.toFixed(1) + ' ' + part.tagName + '.' + part.getAttribute('class') + ': ' + part.textContent)",
    )
}

/// Returns the parts of the board that are cut off, or outside the window.
fn cut_off(browser: &Browser) -> Value {
    browser.run(
        "const parts = '.card, .card .port, .card .phase, .card .code, .client .who, .card .thread, .entrance .thread, #caption, #threads li b';
        const cut = [...document.querySelectorAll(parts)].filter((part) => part.checkVisibility())
            .filter((part) => part.tagName !== 'B' || part.textContent.length <= 15)
            .filter((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== 'inline');
        const cards = [...document.querySelectorAll('.card')].filter((card) => card.checkVisibility());
        const outside = cards.filter((card) => {
            const own = [...card.children].filter((part) => part.checkVisibility() && !part.classList.contains('socket'));
            const at = card.getBoundingClientRect();
            return own.some((part) => part.getBoundingClientRect().bottom > at.bottom + 1);
        });
        return [...cut, ...outside].map((part) => part.className + ': ' + part.textContent);",
    )
}

/// On a projector, the board fills the window, however many seats there are, and is readable from
/// the back row. On a phone, the cards are stacked in one column. With BOARD_PICTURES=folder,
/// screenshots are saved there.
#[test]
fn class_fits_into_the_window() {
    for seats in [4, 12, 32] {
        let Some(browser) = Browser::start(&format!("class-{seats}")) else {
            return;
        };
        let clock = Clock::new();
        let mut events = Events::new(clock.clone());
        events.show_texts();
        let board = Board::live(ANY.parse().unwrap(), &mut events, REDACTOR, None, &[]).unwrap();
        let settings = Settings {
            port: 0,
            workers: seats,
            ..Settings::default()
        };
        let server = Server::start(&settings, clock, events.clone()).unwrap();
        let class: Vec<TcpStream> = (0..seats)
            .map(|number| take_seat_as(&server, &format!("student-{number:02}")))
            .collect();
        browser.open(board.address());
        events.emit(|| ServerEvent::Caption {
            text: "Rule 1: a portal and its workers. Each thread waits for a client".to_owned(),
            look: Some("stack".to_owned()),
        });
        for (width, height, scheme) in [
            (1280, 720, "light"),
            (1280, 720, "dark"),
            (1920, 1080, "light"),
            (1920, 1080, "dark"),
            (390, 844, "light"),
        ] {
            browser.set_view(width, height, scheme);
            let about = format!("{seats} seats, {width} wide, {scheme}");
            let save = |view: &str| {
                if let Some(folder) = std::env::var_os("BOARD_PICTURES") {
                    let name = format!("{view}-{seats}-{width}-{scheme}.b64");
                    std::fs::write(Path::new(&folder).join(name), browser.screenshot()).unwrap();
                }
            };
            let key = |key: &str| {
                browser.run(&format!("document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"));
            };
            browser.wait_until(&format!(
                "[...document.querySelectorAll('.client .who')].filter((who) => who.textContent.startsWith('student-')).length === {seats}"
            ));
            browser.wait_until("!document.querySelector('.flight') && document.getElementById('caption').textContent");
            assert_eq!(cut_off(&browser), json!([]), "{about}");
            // (On a phone, innerWidth would grow with the page.)
            let wide = browser.run("return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{about}: {wide}");
            assert_eq!(low_contrast(&browser), json!([]), "{about}");
            save("board");
            if width < 700 {
                continue;
            }
            // The board fills the window, and no part of it is outside.
            let filled = browser.run(
                "const at = (id) => document.getElementById(id).getBoundingClientRect();
                 const [cards, events, time] = ['cards', 'events-side', 'time'].map(at);
                 const last = document.querySelector('#cards .place:last-child').getBoundingClientRect();
                 return [cards.width / innerWidth, innerWidth - cards.right, last.bottom - events.top, innerHeight - time.bottom]",
            );
            let [share, right, below, bottom] = [0, 1, 2, 3].map(|at| filled[at].as_f64().unwrap());
            assert!(
                share > 0.8 && (0.0..20.0).contains(&right),
                "{about}: {filled}"
            );
            assert!(
                (-20.0..=0.0).contains(&below) && bottom.abs() < 1.0,
                "{about}: {filled}"
            );
            if width == 1920 {
                let sizes = browser.run(
                    "return ['#caption', '.card .port', '#stack', '#events li .word']
                        .map((part) => parseFloat(getComputedStyle(document.querySelector(part)).fontSize))",
                );
                let least = [48.0, 40.0, 40.0, 28.0];
                for (size, least) in sizes.as_array().unwrap().iter().zip(least) {
                    // Rounding of the unit may cost a thousandth.
                    assert!(size.as_f64().unwrap() > least - 0.1, "{about}: {sizes}");
                }
            }
            assert_eq!(
                too_small(&browser),
                json!([]),
                "{about}: small text on the board"
            );

            key("h");
            let threads = browser.run("return [...document.querySelectorAll('#threads li')].map((item) => item.dataset.thread)");
            let names: Vec<&str> = threads
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            for role in ["worker-", "timer-"] {
                let count = names.iter().filter(|name| name.starts_with(role)).count();
                assert_eq!(count, seats, "{about}: {names:?}");
            }
            assert_eq!(cut_off(&browser), json!([]), "{about}: threads");
            assert_eq!(low_contrast(&browser), json!([]), "{about}: threads");
            save("threads");

            key("l");
            let heads = browser.run(
                "const heads = [...document.querySelectorAll('#ladder .names g')].map((text) => text.getBoundingClientRect());
                 return [heads.length, heads.filter((head, at) => at > 0 && head.left < heads[at - 1].right).length]",
            );
            // One lane for each client and each worker, and one for the portal.
            assert_eq!(
                heads,
                json!([2 * seats + 1, 0]),
                "{about}: lanes, and heads that overlap"
            );
            let newest = browser.run(
                "const box = document.getElementById('ladder-scroll').getBoundingClientRect();
                 const at = [...document.querySelectorAll('#ladder .row')].filter((row) => row.querySelector('circle')).at(-1).querySelector('circle').getBoundingClientRect();
                 return [at.left > box.left, at.right < box.right, at.bottom < box.bottom]",
            );
            assert_eq!(
                newest,
                json!([true, true, true]),
                "{about}: the newest row is in sight"
            );
            assert_eq!(
                too_small(&browser),
                json!([]),
                "{about}: small text on the ladder"
            );
            assert_eq!(low_contrast(&browser), json!([]), "{about}: ladder");
            save("ladder");
            key("?");
            assert_eq!(
                too_small(&browser),
                json!([]),
                "{about}: small text in the legend"
            );
            assert_eq!(low_contrast(&browser), json!([]), "{about}: legend");
            assert_eq!(
                browser.run("return document.getElementById('legend').checkVisibility()"),
                true
            );
            save("legend");
            key("Escape");
            key("b");

            // The story of a seat begins with its states, the current one marked.
            browser.run("document.querySelector('.card').click()");
            let marked = browser.run(
                "return [...document.querySelectorAll('#diagram .now text, #diagram .made text')].map((text) => text.textContent)",
            );
            assert_eq!(marked, json!(["right passcode", "seated"]), "{about}");
            assert_eq!(low_contrast(&browser), json!([]), "{about}: story");
            if seats <= 8 {
                browser.wait_until(
                    "[...document.querySelectorAll('.card')].every((card) => card.getBoundingClientRect().right \
                     < document.getElementById('story').getBoundingClientRect().left)",
                );
            }
            save("story");
            key("Escape");
        }
        drop(class);
        server.stop();
    }
}

#[test]
fn running_board_can_be_paused_and_stepped() {
    let Some(browser) = Browser::start("keys") else {
        return;
    };
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    events.show_texts();
    let board = Board::live(ANY.parse().unwrap(), &mut events, REDACTOR, None, &[]).unwrap();
    let caption = |text: &str| {
        events.emit(|| ServerEvent::Caption {
            text: text.to_owned(),
            look: None,
        });
    };
    let key = |key: &str| {
        browser.run(&format!("document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"));
    };
    let shows = |caption: &str, link: &str| {
        browser.wait_until(&format!(
            "document.getElementById('caption').textContent === '{caption}' \
             && document.getElementById('link').textContent.startsWith('{link}')"
        ));
    };
    browser.open(board.address());
    browser.wait_until("timeline.first !== null");
    // A show waits for the class at its first caption.
    caption("one");
    shows("one", "paused; n plays this act");
    caption("two");
    shows("one", "paused; 1 step behind");
    caption("three");
    shows("one", "paused; 2 steps behind");
    key("ArrowRight");
    shows("two", "paused; 1 step behind");
    key("ArrowLeft");
    shows("one", "paused; 2 steps behind");
    key(" ");
    shows("three", "live");
    caption("four");
    shows("four", "live");
    // Stepping back also pauses.
    key("ArrowLeft");
    shows("three", "paused; 1 step behind");

    // If the show is paused inside an act, *Next* plays the rest of that act, and at the end of an
    // act, the next one.
    let asked = || {
        let asker = ANY.parse().unwrap();
        events.emit(|| CoreEvent::Full { asker });
    };
    asked();
    asked();
    caption("five");
    asked();
    caption("six");
    key("n");
    shows("four", "paused; 3 steps behind; end of the act");
    key("ArrowLeft");
    shows("four", "paused; 4 steps behind");
    key("n");
    shows("four", "paused; 3 steps behind; end of the act");
    key("n");
    shows("five", "paused; 1 step behind; end of the act");
    drop(events);
    board.stop();
}

#[test]
fn late_board_counts_the_missing_events() {
    let Some(browser) = Browser::start("late") else {
        return;
    };
    let mut events = Events::new(Clock::new());
    events.show_texts();
    let board = Board::live(ANY.parse().unwrap(), &mut events, REDACTOR, None, &[]).unwrap();
    browser.open(board.address());
    browser.wait_until("document.getElementById('link').textContent === 'live'");
    browser.run("timeline.toEnd()");
    let has_note =
        "document.getElementById('events').textContent.includes('earlier events are not shown')";
    assert_eq!(browser.run(&format!("return {has_note}")), json!(false));
    for number in 0..700 {
        events.emit(|| ServerEvent::Caption {
            text: format!("caption {number}"),
            look: None,
        });
    }
    browser.wait_until("document.getElementById('caption').textContent === 'caption 699'");
    browser.open(board.address());
    browser.wait_until(&has_note.replace("earlier", "100 earlier"));
    drop(events);
    board.stop();
}

#[test]
fn client_input_is_shown_as_text() {
    let Some(browser) = Browser::start("text") else {
        return;
    };
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    events.show_texts();
    let redactor = Redactor {
        texts: true,
        secrets: true,
    };
    let board = Board::live(ANY.parse().unwrap(), &mut events, redactor, None, &[]).unwrap();
    let settings = Settings {
        port: 0,
        compat: Some(Revision::V0),
        ..Settings::default()
    };
    let server = Server::start(&settings, clock, events.clone()).unwrap();
    browser.open(board.address());
    browser.wait_until("document.querySelectorAll('.card').length === 4");
    browser.run("window.harmed = 0; window.alert = () => { window.harmed += 1; }");
    let before = browser
        .run("return document.querySelectorAll('*').length")
        .as_u64()
        .unwrap();

    let mut speaker = take_legacy_seat(&server);
    let mut listener = take_legacy_seat(&server);
    let reader = thread::spawn(move || std::io::copy(&mut listener, &mut std::io::sink()));
    let word = "x".repeat(60 * 1024);
    let texts = [
        "<script>alert(1)</script><img src=x onerror=alert(2)>",
        "\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}gnp.exe",
        &word,
        "the last of them",
    ];
    // Texts are not recorded until the board has received an event, so the message is sent until it
    // is shown.
    for text in texts {
        let shown: String = printable(text).chars().take(20).collect();
        let condition = format!(
            "[...document.querySelectorAll('#events .details')].some((line) => line.textContent.includes({}))",
            json!(shown)
        );
        let until = Instant::now() + PATIENCE;
        while browser.run(&format!("return {condition}")) != true {
            assert!(Instant::now() < until, "{shown} was never shown");
            speaker.write_all(&frame(text)).unwrap();
            thread::sleep(Duration::from_millis(200));
        }
    }
    browser.run(
        "document.getElementById('show-ladder').click(); document.querySelector('.card').click()",
    );
    browser.wait_until("document.querySelectorAll('#story-steps li').length > 3");
    assert_eq!(browser.run("return window.harmed"), 0);
    assert_eq!(
        browser.run("return document.querySelectorAll('script').length"),
        9
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('img, [onerror]').length"),
        0
    );
    let after = browser
        .run("return document.querySelectorAll('*').length")
        .as_u64()
        .unwrap();
    assert!(after > before);
    let longest = browser.run("return Math.max(...[...document.querySelectorAll('#events .details, #story-steps p, #story-steps code')].map((p) => p.textContent.length))");
    assert!(longest.as_u64().unwrap() < 3000, "{longest}");
    let width = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert!(
        width[0].as_u64() <= width[1].as_u64(),
        "the page has become wider"
    );
    drop(speaker);
    server.stop();
    drop(events);
    board.stop();
    let _ = reader.join();
}

/// A recording may contain any word, including the names of JavaScript's object properties.
#[test]
fn unknown_words_do_not_stop_the_page() {
    let Some(browser) = Browser::start("words") else {
        return;
    };
    let file = std::env::temp_dir().join(format!("portal-chat-words-{}.jsonl", std::process::id()));
    let line = |event: &str, details: &str| {
        format!(
            "{{\"time\":\"1970-01-01T00:00:00Z\",\"tick\":1,\"thread\":\"worker-7\",\"event\":\"{event}\"{details}}}\n"
        )
    };
    let mut lines = line(
        "started",
        r#","ports":"7-8","period":1,"reserve":2,"handshake":1,"idle":5,"total":9"#,
    );
    for word in ["constructor", "__proto__", "toString", "hasOwnProperty"] {
        lines += &line("seated", r#","port":7,"peer":"127.0.0.1:9""#);
        lines += &line(
            "closed",
            &format!(r#","port":7,"peer":"127.0.0.1:9","end":"{word}","{word}":"{word}""#),
        );
        lines += &line(word, &format!(r#","port":7,"{word}":1"#));
    }
    lines += &line("caption", r#","text":"the end""#);
    std::fs::write(&file, lines).unwrap();
    let recording = Recording::read(&file).unwrap();
    let everything = Redactor {
        texts: true,
        secrets: true,
    };
    let replay = Board::replay(ANY.parse().unwrap(), recording.events, 1000.0, everything).unwrap();
    browser.open(replay.address());
    browser.wait_until("document.getElementById('caption').textContent.includes('the end')");
    browser.run(
        "document.getElementById('show-ladder').click(); document.querySelector('.card').click()",
    );
    browser.wait_until("document.querySelectorAll('#story-steps li').length >= 8");
    browser.wait_until("document.querySelectorAll('#ladder .row').length >= 8");
    replay.stop();
    std::fs::remove_file(&file).unwrap();
}

/// A recorded run has the controls of a running server. It is longer than the part that the page
/// fetches in one request.
#[test]
fn recorded_run_can_be_paused_stepped_and_played_act_by_act() {
    let Some(browser) = Browser::start("recorded") else {
        return;
    };
    let clock = Clock::new();
    let mut events = Events::new(clock);
    let queue = events.add_reader(4096);
    const COUNT: usize = 2500;
    for number in 0..COUNT {
        events.emit(|| ServerEvent::Caption {
            text: format!("caption {number}"),
            look: None,
        });
    }
    let recording = queue.events().try_iter().collect();
    let replay = Board::replay(ANY.parse().unwrap(), recording, 1000.0, REDACTOR).unwrap();
    let key = |key: &str| {
        browser.run(&format!("document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"));
    };
    let shows = |number: usize| {
        browser.wait_until(&format!(
            "document.getElementById('caption').textContent === 'caption {number}' \
             && document.getElementById('place').textContent === 'event {} of {COUNT}'",
            number + 1
        ));
    };
    let is_paused = "timeline.mode === 'paused'";
    browser.open(replay.address());
    shows(COUNT - 1);
    browser.wait_until(is_paused);
    key("ArrowLeft");
    shows(COUNT - 2);
    key("ArrowRight");
    shows(COUNT - 1);
    browser.run("timeline.seek(10)");
    shows(9);
    key("ArrowRight");
    shows(10);
    key("n");
    shows(11);
    browser.wait_until(is_paused);
    key("e");
    shows(COUNT - 1);
    // Seek to a position that is no longer, or not yet, in the page's memory.
    browser.run("timeline.events.splice(0, 2000); timeline.states.splice(0, 2000); timeline.at -= 2000; timeline.first = timeline.states[0]");
    browser.run("timeline.seek(700)");
    shows(699);
    key("ArrowLeft");
    shows(698);
    // Played from there, it reaches its end again.
    key(" ");
    shows(COUNT - 1);
    replay.stop();
}
