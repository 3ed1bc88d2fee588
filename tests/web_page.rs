//! Two pages in a real browser and a client in a terminal chat with each other. Needs `chromium`
//! and `chromedriver`; without them, the tests report that they did not run, unless REQUIRE_BROWSER
//! is set.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use browser::Browser;
use portal_chat::board::{Board, Redactor};
use portal_chat::server::{Settings, WebEntrance};
use serde_json::json;
use support::sentences;
use support::terminal::Terminal;
use support::{Client, PATIENCE, TestServer, message, temporary_file};

const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");

fn start(settings: Settings) -> TestServer {
    TestServer::start(&Settings {
        web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
        ..settings
    })
}

fn entrance(server: &TestServer) -> SocketAddr {
    server.server.web().unwrap()
}

/// Waits until the chosen conversation contains `text`.
fn wait_for_text(browser: &Browser, text: &str) {
    let text = json!(text);
    browser.wait_until(&format!(
        "document.getElementById('log').textContent.includes({text})"
    ));
}

fn send_text(browser: &Browser, text: &str) {
    browser.type_text("#text", &format!("{text}\u{e007}"));
}

/// Chooses a conversation in the sidebar.
fn choose(browser: &Browser, key: &str) {
    let key = json!(key);
    browser.wait_until(&format!("conversations.get({key})"));
    browser.run(&format!("sidebar.calls.choose({key})"));
}

fn enter_name(browser: &Browser, name: &str) {
    browser.wait_until(
        "window.chatHasStarted && session.isIn && !document.getElementById('welcome').hidden",
    );
    browser.type_text("#name", &format!("{name}\u{e007}"));
}

fn enter_password(browser: &Browser, password: &str) {
    browser.wait_until("!document.getElementById('password-part').hidden");
    browser.type_text("#password", &format!("{password}\u{e007}"));
}

/// Waits until the page has logged in and is in the lobby.
fn wait_for_lobby(browser: &Browser, name: &str) {
    browser.wait_until(&format!(
        "session.name === '{name}' && chosen?.key === 'room:lobby' && chosen.isMember"
    ));
}

#[test]
fn pages_and_a_terminal_chat() {
    let Some(browser) = Browser::start("chat") else {
        return;
    };
    let server = start(Settings {
        workers: 4,
        accounts: Some(temporary_file("web-accounts")),
        ..Settings::default()
    });
    let page = entrance(&server);
    let first = browser.window();
    browser.open(page);
    enter_name(&browser, "alice");
    enter_password(&browser, "a long password");
    wait_for_lobby(&browser, "alice");
    // The other user has a separate browser, so none of alice's data is stored there.
    let other = Browser::start("chat-other").unwrap();
    other.open(page);
    enter_name(&other, "bob");
    enter_password(&other, "another password");
    wait_for_lobby(&other, "bob");
    // As partners, in neighbouring seats.
    choose(&other, "partner");
    wait_for_text(&other, sentences::IS_YOUR_PARTNER);
    send_text(&other, "hello beside me");
    choose(&browser, "partner");
    wait_for_text(&browser, "hello beside me");
    send_text(&browser, "hello to you");
    wait_for_text(&other, "hello to you");

    // In a room, together with a terminal.
    let port = server.server.portal().port().to_string();
    let file = temporary_file("web-password");
    std::fs::write(&file, "carols password\n").unwrap();
    let arguments = ["127.0.0.1", &port, "carol", "--no-color"];
    let mut carol = Terminal::start(CLIENT, &arguments, &[]);
    carol.wait_for_prompt("choose a password for carol");
    carol.type_line("carols password");
    carol.wait_for_prompt("repeat the password");
    carol.type_line("carols password");
    carol.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_CAROL);
    carol.type_line("/join lobby");
    carol.wait_for_text(sentences::YOU_JOINED_LOBBY);
    choose(&browser, "room:lobby");
    send_text(&browser, "from a page to the room");
    carol.wait_for_text("from a page to the room");
    carol.type_line("/send lobby from the terminal to the room");
    wait_for_text(&browser, "from the terminal to the room");
    choose(&other, "room:lobby");
    wait_for_text(&other, "from a page to the room");
    wait_for_text(&other, "from the terminal to the room");

    // Messages to one user, and to everyone.
    send_text(&other, "/msg carol only for you");
    carol.wait_for_text("only for you");
    carol.type_line("/msg bob and only for you");
    choose(&other, "person:carol");
    wait_for_text(&other, "and only for you");
    send_text(&other, "/all everybody");
    carol.wait_for_text("everybody");

    // The connection breaks, and the name and the room are restored automatically.
    browser.switch_to(&first);
    browser.run("session.socket.close()");
    browser.wait_until("session.link === 2");
    wait_for_lobby(&browser, "alice");
    wait_for_text(&browser, sentences::YOU_WERE_DISCONNECTED);
    send_text(&browser, "alice is back");
    carol.wait_for_text("alice is back");
    let old = browser.run(
        "return chosen.items.filter((item) => item.text === 'from the terminal to the room').length",
    );
    assert_eq!(old, 1, "a line of the history is not shown twice");
}

/// Starts a reverse proxy that serves `entrance` below `/chat/`, until the tests finish.
fn proxy_with_path(entrance: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for browser in listener.incoming() {
            std::thread::spawn(move || forward_request(browser?, TcpStream::connect(entrance)?));
        }
    });
    address
}

/// Removes the path from the request and forwards everything else unchanged.
fn forward_request(mut browser: TcpStream, mut entrance: TcpStream) -> io::Result<u64> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        browser.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    entrance.write_all(head.replacen(" /chat/", " /", 1).as_bytes())?;
    let (mut from, mut to) = (browser.try_clone()?, entrance.try_clone()?);
    std::thread::spawn(move || io::copy(&mut from, &mut to));
    io::copy(&mut entrance, &mut browser)
}

#[test]
fn page_works_below_a_proxy_path() {
    let Some(browser) = Browser::start("below") else {
        return;
    };
    let server = start(Settings::default());
    browser.open_url(&format!(
        "http://{}/chat/",
        proxy_with_path(entrance(&server))
    ));
    let seated = server.wait_for_event("seated", None);
    assert!(seated.line().contains("via web"), "{}", seated.line());
    enter_name(&browser, "alice");
    wait_for_lobby(&browser, "alice");
    // The icon, the manifest and the service worker also work below the path.
    browser.wait_until("alerts.worker?.scope.endsWith('/chat/')");
    browser.run("window.found = null; Promise.all([...document.querySelectorAll('link')].map((link) => fetch(link.href))).then((all) => { window.found = all.map((answer) => answer.status); })");
    browser.wait_until("window.found");
    assert_eq!(browser.run("return window.found"), json!([200, 200, 200]));
}

#[test]
fn texts_stay_text() {
    let Some(browser) = Browser::start("targets") else {
        return;
    };
    let server = start(Settings {
        workers: 2,
        ..Settings::default()
    });
    browser.open(entrance(&server));
    browser.wait_until("session.isIn");
    browser.run("window.harmed = 0; window.alert = () => { window.harmed += 1; }");
    let (mut mallory, _) = server.seat();
    browser.run("document.getElementById('guest').click()");
    wait_for_text(&browser, sentences::IS_YOUR_PARTNER);
    // Any input is shown as text.
    for text in [
        "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;".to_owned(),
        format!(
            "https://example.org/a?b=c, javascript:alert(1) {}",
            "x".repeat(4000)
        ),
        format!("\u{202e}gnp.exe a{}", "\u{301}".repeat(200)),
        "the last of them".to_owned(),
    ] {
        mallory.send_line(&message(&text));
    }
    wait_for_text(&browser, "the last of them");
    assert_eq!(browser.run("return window.harmed"), 0);
    let count = |selector: &str| {
        browser.run(&format!(
            "return document.querySelectorAll('{selector}').length"
        ))
    };
    assert_eq!(count("#log img, #log script"), 0);
    assert_eq!(count("#log a"), 1);
    let link =
        browser.run("const link = document.querySelector('#log a'); return [link.href, link.rel]");
    assert_eq!(
        link,
        json!(["https://example.org/a?b=c", "noopener noreferrer"])
    );
    let shown = browser.run("return document.getElementById('log').textContent");
    let shown = shown.as_str().unwrap();
    assert!(!shown.contains('\u{202e}') && !shown.contains(&"\u{301}".repeat(5)));
    // Nothing is wider than the window, not even on a phone.
    for (width, height) in [(1280, 720), (390, 844), (360, 640)] {
        browser.set_view(width, height, "light");
        let wide = browser.run(
            "return [...document.querySelectorAll('#log li, #log .text')].filter((line) => line.getBoundingClientRect().right > innerWidth).length",
        );
        assert_eq!(wide, 0, "at {width}");
        let box_is_seen = browser.run("const box = document.getElementById('text').getBoundingClientRect(); return box.top > 0 && box.bottom <= innerHeight && box.width > 150");
        assert_eq!(box_is_seen, true, "at {width}");
    }
    // Text entered while disconnected is kept, and marked as not sent.
    browser.run("session.leave()");
    mallory.line_with("PARTNER LEFT");
    browser.wait_until("!session.isIn");
    browser.type_text("#text", "into nothing\u{e007}");
    wait_for_text(&browser, sentences::NOT_SENT_YOU_ARE_NOT_CONNECTED);
    drop::<Client>(mallory);
}

#[test]
fn page_retries_if_full_and_shows_the_reason() {
    let Some(browser) = Browser::start("full") else {
        return;
    };
    let server = start(Settings {
        workers: 2,
        ..Settings::default()
    });
    let (alice, _) = server.seat();
    let (bob, port) = server.seat();
    browser.open(entrance(&server));
    browser.wait_until(
        "document.getElementById('card-state').textContent.includes('full (attempt 2)')",
    );
    drop(bob);
    server.wait_for_event("seat-free", Some(port));
    browser.wait_until("session.isIn");
    // The operator's reason is shown at the end, and the page does not reconnect on its own.
    assert!(server.server.kick(&port.to_string(), "too loud"));
    browser.wait_until(
        "document.getElementById('card-state').textContent.includes('operator removed you. Reason: too loud')",
    );
    assert_eq!(browser.run("return session.timer"), json!(null));
    browser.run("document.querySelector('#card-state button').click()");
    browser.wait_until("session.isIn");
    // When the server shuts down, the page waits for it to return.
    drop(alice);
    server.server.stop();
    browser
        .wait_until("document.getElementById('card-state').textContent.includes('shutting down')");
    browser.wait_until("session.timer !== null");
}

/// Over https and wss, with a self-signed certificate.
#[test]
#[cfg(feature = "tls")]
fn page_chats_over_tls() {
    let Some(browser) = Browser::start_with("tls", &["--ignore-certificate-errors"]) else {
        return;
    };
    let (tls, client) = support::tls::both();
    let server = start(Settings {
        workers: 2,
        tls: Some(tls),
        ..Settings::default()
    });
    support::tls::use_tls(Some(client));
    let (mut bob, _) = server.seat();
    browser.open_url(&format!("https://{}/", entrance(&server)));
    browser.wait_until("window.chatHasStarted && session.isIn");
    browser.run("document.getElementById('guest').click()");
    wait_for_text(&browser, sentences::IS_YOUR_PARTNER);
    assert_eq!(
        browser.run("return session.socket.url.startsWith('wss://')"),
        true
    );
    send_text(&browser, "in secret");
    assert!(bob.line_with("<message>").contains("in secret"));
    bob.send_line(&message("and back"));
    wait_for_text(&browser, "and back");
    support::tls::use_tls(None);
}

/// `make pictures`: the pictures of the README (the ladder diagram) and the guide, from the real
/// pages. With `PICTURES=folder`, it saves the chat page there as a laptop and as a phone show it.
#[test]
#[ignore = "it asserts nothing; `make pictures` runs it"]
fn pictures() {
    use base64ct::{Base64, Encoding as _};
    let Some(browser) = Browser::start("pictures") else {
        return;
    };
    let settings = Settings {
        workers: 4,
        web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
        ..Settings::default()
    };
    let redactor = Redactor {
        texts: true,
        secrets: false,
    };
    let (server, board_server) = TestServer::start_with(&settings, |events| {
        Board::live("127.0.0.1:0".parse().unwrap(), events, redactor, None, &[]).unwrap()
    });
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let save = |path: &std::path::Path, picture: &str| {
        std::fs::write(path, Base64::decode_vec(picture).unwrap()).unwrap();
    };
    browser.set_view(1280, 720, "light");
    browser.open(board_server.address());
    let board = browser.window();
    let chat = browser.new_window();
    browser.switch_to(&chat);
    browser.set_view(1280, 720, "light");
    let (mut bob, _) = server.seat();
    browser.open(entrance(&server));
    bob.send_line(&support::login("bob"));
    bob.line_with("WELCOME");
    bob.send_line(&support::command("JOIN", "<room>lobby</room><here/>"));
    bob.line_with("JOINED");
    let say = |bob: &mut Client, text: &str| {
        bob.send_line(&support::command(
            "SAY",
            &format!("<room>lobby</room><message>{text}</message>"),
        ));
    };
    enter_name(&browser, "alice");
    wait_for_lobby(&browser, "alice");
    say(&mut bob, "hello alice, I am in a terminal");
    say(&mut bob, "and here is a page: https://example.org/sockets");
    say(&mut bob, "مرحبا");
    wait_for_text(&browser, "example.org");
    send_text(&browser, "I am in a browser, with nothing installed");
    say(
        &mut bob,
        "there you are: `let listener = TcpListener::bind(address)?;`",
    );
    bob.send_line(&support::command(
        "DM",
        "<to>alice</to><message>only for you</message>",
    ));
    bob.send_line(&message("look, the board shows it"));
    wait_for_text(&browser, "there you are");
    browser.wait_until("conversations.get('person:bob')");
    if let Ok(folder) = std::env::var("PICTURES") {
        for (name, width, height) in [("laptop", 1280, 720), ("phone", 390, 844)] {
            for scheme in ["light", "dark"] {
                browser.set_view(width, height, scheme);
                browser.run(&format!("people.toggle({})", width > 640));
                let path = format!("{folder}/{name}-{scheme}.png");
                save(std::path::Path::new(&path), &browser.screenshot());
            }
        }
        browser.set_view(1280, 720, "light");
    }
    browser.run("people.toggle(true)");
    browser.wait_until("document.querySelectorAll('#names button').length === 2");
    let chat_picture = browser.screenshot();
    save(&root.join("src/web/page/chat.png"), &chat_picture);
    browser.switch_to(&board);
    // The messages so far have arrived.
    browser.wait_until("!document.querySelector('.message')");
    // The README's picture, with the usual ports in place of those that the system chose.
    browser.run("document.getElementById('ticks').checked = false");
    let ladder = browser
        .run("return new XMLSerializer().serializeToString(ladder.draw(1240, colours(), 17).svg)");
    let mut ladder = ladder.as_str().unwrap().to_owned();
    for (port, usual) in server.server.workers().iter().zip(50001..) {
        ladder = ladder.replace(&port.to_string(), &format!("{usual}"));
    }
    std::fs::write(root.join("src/guide/ladder.svg"), ladder + "\n").unwrap();
    bob.send_line(&message("look, the board shows it"));
    browser.wait_until("document.querySelector('.message')");
    let board_picture = browser.screenshot();
    save(&root.join("src/board/board.png"), &board_picture);
    // Both pages side by side, drawn by the browser itself.
    let both = std::env::temp_dir().join(format!("portal-chat-both-{}.html", std::process::id()));
    let image = |picture: &str| format!("<img src='data:image/png;base64,{picture}'>");
    std::fs::write(
        &both,
        format!(
            "<style>body {{ margin: 0; display: flex; gap: 8px; background: #888 }} \
             img {{ width: 796px }}</style>{}{}",
            image(&chat_picture),
            image(&board_picture)
        ),
    )
    .unwrap();
    browser.set_view(1600, 448, "light");
    browser.open_url(&format!("file://{}", both.display()));
    browser.wait_until("[...document.images].every((image) => image.complete)");
    save(
        &root.join("src/guide/chat-and-board.png"),
        &browser.screenshot(),
    );
    std::fs::remove_file(both).unwrap();
    drop(server);
    board_server.stop();
}

/// A page on another site, on its own port: every request gets this document.
fn start_other_site(page: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    page.len()
                );
                let _ = stream.write_all((head + page).as_bytes());
            });
        }
    });
    address
}

#[test]
fn page_of_another_site_takes_no_seat() {
    let Some(browser) = Browser::start("other-site") else {
        return;
    };
    // The clock is stopped, so the reservation for a browser's ticket never expires.
    let server = TestServer::with_workers(4);
    browser.open(start_other_site("<title>another site</title>"));
    let portal = server.server.portal();
    browser.run(&format!(
        "window.tries = 0;
         (async () => {{
             for (; window.tries < 64; window.tries++) {{
                 await fetch('http://{portal}/' + window.tries, {{mode: 'no-cors'}}).catch(() => null);
             }}
         }})();"
    ));
    browser.wait_until("window.tries === 64");
    server.wait_for_event("wrong-protocol", None);
    let _seated: Vec<_> = (0..4).map(|_| server.seat()).collect();
}
