//! The chat page in a real browser, on a phone and on a laptop: regression tests, and the features
//! that users find on it. Needs `chromium` and `chromedriver`; without them, the tests report that
//! they did not run, unless REQUIRE_BROWSER is set.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;

use browser::Browser;
use portal_chat::server::{Settings, WebEntrance};
use serde_json::{Value, json};
use support::{Client, PATIENCE, TestServer, command, login, message, password, temporary_file};

const PHONE: (u32, u32) = (390, 844);
const LAPTOP: (u32, u32) = (1280, 720);
const BOTH: [(u32, u32); 2] = [PHONE, LAPTOP];

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";
const UP: &str = "\u{e013}";
const SHIFT: &str = "\u{e008}";
const ESCAPE: &str = "\u{e00c}";

/// A server, and a browser that shows its page.
struct Page {
    browser: Browser,
    server: TestServer,
}

impl Page {
    /// Opens the page of a server whose names have no passwords. `None` if there is no browser.
    fn open(test: &str, size: (u32, u32)) -> Option<Page> {
        Page::open_with(test, size, Settings::default())
    }

    fn open_with(test: &str, (width, height): (u32, u32), settings: Settings) -> Option<Page> {
        let browser = Browser::start(&format!("page-{test}-{width}"))?;
        let server = TestServer::start(&Settings {
            web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
            workers: 8,
            ..settings
        });
        browser.set_view(width, height, "light");
        let page = Page { browser, server };
        page.reload();
        Some(page)
    }

    fn entrance(&self) -> SocketAddr {
        self.server.server.web().unwrap()
    }

    fn reload(&self) {
        self.open_at("");
    }

    /// Opens the page at this query and fragment.
    fn open_at(&self, rest: &str) {
        // Changing only the fragment would not reload the page.
        self.browser.open_url("about:blank");
        let url = format!("http://{}/{rest}", self.entrance());
        self.browser.open_url(&url);
        self.wait("window.chatHasStarted && session.isIn");
    }

    fn wait(&self, condition: &str) {
        self.browser.wait_until(condition);
    }

    fn run(&self, script: &str) -> Value {
        self.browser.run(script)
    }

    /// The value of an expression.
    fn get(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"))
    }

    fn holds(&self, expression: &str) -> bool {
        self.get(&format!("Boolean({expression})")) == true
    }

    fn click(&self, selector: &str) {
        self.wait(&format!("document.querySelector({})", json!(selector)));
        self.run(&format!(
            "document.querySelector({}).click()",
            json!(selector)
        ));
    }

    /// Clicks the button with this text in the element that `selector` finds.
    fn press(&self, selector: &str, text: &str) {
        let find = format!(
            "[...document.querySelectorAll({})].find((button) => button.textContent.startsWith({}))",
            json!(format!("{selector} button")),
            json!(text)
        );
        self.wait(&find);
        self.run(&format!("{find}.click()"));
    }

    fn type_text(&self, selector: &str, keys: &str) {
        self.browser.type_text(selector, keys);
    }

    fn send(&self, text: &str) {
        self.type_text("#text", &format!("{text}{ENTER}"));
    }

    /// Logs in without a password, and waits for the room.
    fn log_in(&self, name: &str) {
        self.type_text("#name", &format!("{name}{ENTER}"));
        self.wait("session.name && chosen?.key === 'room:lobby' && chosen.isMember && session.identity.token");
    }

    fn wait_for_text(&self, text: &str) {
        self.wait(&format!(
            "document.getElementById('log').textContent.includes({})",
            json!(text)
        ));
    }

    /// Waits until the log has observed its new size. Until then, it mistakes a user's scroll for
    /// the browser's own.
    fn wait_until_resized(&self) {
        self.run(
            "window.isDrawn = false;
             requestAnimationFrame(() => requestAnimationFrame(() => (window.isDrawn = true)));",
        );
        self.wait("window.isDrawn");
    }

    /// The processor time that the page's main thread has used, in seconds. It does not depend on
    /// the machine's other load.
    fn processor_time(&self) -> f64 {
        let threads = json!({ "timeDomain": "threadTicks" });
        self.browser.devtools("Performance.enable", &threads);
        let all = self.browser.devtools("Performance.getMetrics", &json!({}));
        let all = all["metrics"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == "TaskDuration");
        found.unwrap()["value"].as_f64().unwrap()
    }

    /// A client at a worker's port, which has logged in and is in the lobby.
    fn member(&self, name: &str) -> Client {
        let (mut client, _) = self.server.seat();
        client.send_line(&login(name));
        client.line_with("WELCOME");
        client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        client.line_with("JOINED");
        client
    }

    /// Returns the elements that `selector` finds and that are not wholly inside the window, or are
    /// too small to touch.
    fn outside(&self, selector: &str) -> Value {
        self.run(&format!(
            "return [...document.querySelectorAll({})].filter((part) => part.checkVisibility({{ visibilityProperty: true, opacityProperty: true }})).filter((part) => {{
                const at = part.getBoundingClientRect();
                const isControl = part.matches('button, input:not([type=checkbox]), textarea');
                return at.left < 0 || at.top < 0 || at.right > innerWidth || at.bottom > innerHeight || (isControl && (at.width < 40 || at.height < 32));
            }}).map((part) => `${{part.tagName}} ${{part.id}} ${{part.textContent.slice(0, 20)}} ${{JSON.stringify(part.getBoundingClientRect())}}`)",
            json!(selector)
        ))
    }
}

fn say(client: &mut Client, text: &str) {
    let text = text.replace('\n', "&#10;");
    client.send_line(&command(
        "SAY",
        &format!("<room>lobby</room><message>{text}</message>"),
    ));
}

fn direct(client: &mut Client, to: &str, text: &str) {
    client.send_line(&command(
        "DM",
        &format!("<to>{to}</to><message>{text}</message>"),
    ));
}

/// An accounts file for a test.
fn accounts(test: &str) -> Option<PathBuf> {
    Some(temporary_file(&format!("page-{test}")))
}

// --- faults that the page has had

#[test]
fn every_panel_and_dialog_is_usable_by_touch() {
    let Some(page) = Page::open("touch", PHONE) else {
        return;
    };
    assert_eq!(page.outside("#login *"), json!([]), "the card");
    page.log_in("alice");
    let mut friends: Vec<Client> = (1..=6)
        .map(|number| page.member(&format!("friend{number}")))
        .collect();
    for friend in &mut friends {
        direct(friend, "alice", "hello");
    }
    page.wait("conversations.unread === 6 && conversations.all.size === 9");
    for width in [320, 390, 600, 768] {
        page.browser.set_view(width, 700, "light");
        page.wait(&format!("innerWidth === {width} && Math.abs(document.getElementById('shell').clientHeight - innerHeight) < 2"));
        let check = |what: &str, selector: &str| {
            assert_eq!(page.outside(selector), json!([]), "{what} at {width}");
        };
        check(
            "the conversation",
            "#main > header, #main button, #text, #log",
        );
        if width < 768 {
            assert_eq!(
                page.get("document.getElementById('badge').textContent"),
                "6"
            );
            check("the badge", "#badge");
            page.click("#open-sidebar");
            page.wait("document.getElementById('sidebar').getBoundingClientRect().left === 0");
        }
        check(
            "the conversations",
            "#sidebar, #sidebar button, #sidebar .count",
        );
        check("the chosen one", "#conversations [aria-current]");
        page.click("#settings");
        check("the settings", ".menu, .menu button");
        page.run("closeMenu()");
        for opener in ["#join-room", "#find-person"] {
            page.click(opener);
            page.wait("document.querySelector('dialog .choices button')");
            check(opener, "dialog, dialog button, dialog input");
            page.press("dialog", "Cancel");
        }
        page.run("sidebar.toggle(false)");
        page.click("#show-people");
        page.wait("document.querySelectorAll('#names button').length === 7");
        check("the people", "#people, #people button");
        page.run("document.querySelectorAll('#names button')[1].click()");
        check("a person's menu", ".menu, .menu button");
        page.press(".menu", "Report");
        check("the report", "dialog, dialog button, dialog input");
        page.press("dialog", "Cancel");
        page.run("people.toggle(false)");
        page.click("#room-menu");
        check("the room's menu", ".menu, .menu button");
        page.run("closeMenu(); composer.set('/')");
        check("the suggestions", "#suggestions");
        page.run("composer.set(''); showLook(true)");
        check("the documents", "#look, #look button");
        page.run("showLook(false)");
        let wide = page.get("document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(width.into()), "{wide} of {width}");
    }
}

#[test]
fn messages_of_one_moment_and_of_a_break_all_arrive() {
    for size in BOTH {
        let Some(page) = Page::open("moment", size) else {
            return;
        };
        // The clock of this browser is ten minutes ahead.
        page.browser.devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            &json!({ "source": "const real = Date.now; Date.now = () => real() + 600000; const R = Date; Date = class extends R { constructor(...all) { if (all.length) super(...all); else super(R.now()); } }; Date.now = R.now;" }),
        );
        let mut bob = page.member("bob");
        for number in 0..5 {
            say(&mut bob, &format!("line {number} of this moment"));
        }
        bob.line_with("SENT");
        page.reload();
        page.log_in("alice");
        page.wait_for_text("line 4");
        let texts = "chosen.items.filter((item) => !item.note).map((item) => item.text).join()";
        let lines = |count: usize| -> String {
            let lines: Vec<String> = (0..count)
                .map(|n| format!("line {n} of this moment"))
                .collect();
            lines.join()
        };
        assert_eq!(page.get(texts), lines(5), "a later member sees all of them");
        page.send("from alice");
        page.wait("chosen.items.at(-1).state === 'delivered'");
        page.run("session.socket.close()");
        page.server.wait_for_event("room-left", None);
        say(&mut bob, "during the break");
        page.wait("session.link === 2 && session.name === 'alice' && chosen.isMember");
        page.wait_for_text("during the break");
        assert_eq!(
            page.get(texts),
            format!("{},from alice,during the break", lines(5)),
            "each once, in order"
        );
    }
}

/// Joins texts with commas, as JavaScript does.
trait Joined {
    fn join(&self) -> String;
}

impl Joined for Vec<String> {
    fn join(&self) -> String {
        self.as_slice().join(",")
    }
}

#[test]
fn drafts_stay_in_their_conversation() {
    for size in BOTH {
        let Some(page) = Page::open("drafts", size) else {
            return;
        };
        page.log_in("alice");
        let mut bob = page.member("bob");
        direct(&mut bob, "alice", "psst");
        page.wait("conversations.get('person:bob')");
        let text = "document.getElementById('text').value";
        for draft in ["for the room", "/me waves", "/topic cats", "/leave"] {
            page.run("choose('room:lobby')");
            page.type_text("#text", draft);
            page.run("choose('person:bob')");
            assert_eq!(
                page.get(text),
                "",
                "{draft} is not in the other conversation"
            );
            page.type_text("#text", "for bob");
            page.run("choose('room:lobby')");
            assert_eq!(page.get(text), draft);
            page.run("composer.set(''); choose('person:bob')");
            assert_eq!(page.get(text), "for bob");
            page.run("composer.set('')");
        }
        // The partner's seat gets another client: the draft waits for a confirmation, even a
        // command. (bob is alice's partner.)
        page.run("choose('partner')");
        page.type_text("#text", "/me tells bob a secret");
        drop(bob);
        page.wait("session.partner === null");
        let (mut mallory, _) = page.server.seat();
        page.wait("session.partner !== null");
        page.type_text("#text", ENTER);
        page.wait("chosen.items.at(-1).tone === 'trouble'");
        assert_eq!(page.get(text), "/me tells bob a secret");
        assert!(mallory.has_received_only("PARTNER"));
        page.type_text("#text", ENTER);
        assert!(
            mallory
                .line_with("<message>")
                .contains("tells bob a secret")
        );
    }
}

#[test]
fn state_changes_with_the_answer_only() {
    let settings = Settings {
        accounts: accounts("state"),
        ..Settings::default()
    };
    let Some(page) = Page::open_with("state", LAPTOP, settings) else {
        return;
    };
    // mallory has an account.
    let (mut mallory, _) = page.server.seat();
    mallory.send_line(&login("mallory"));
    mallory.line_with("PASSWORD");
    mallory.send_line(&password("mallorys own"));
    mallory.line_with("WELCOME");
    page.type_text("#name", &format!("alice{ENTER}"));
    page.wait("!document.getElementById('password-part').hidden");
    page.type_text("#password", &format!("alices password{ENTER}"));
    page.wait("session.identity?.token && chosen.isMember");
    page.run("window.out = []; session.listener.travelled = (way, text) => { if (way === 'out') window.out.push(text); };");
    // A login that the server refuses changes nothing.
    page.run("session.login('mallory')");
    page.wait("conversations.get('room:lobby') && session.requests.length === 0");
    page.run("session.socket.close()");
    page.wait("session.link === 2 && session.name === 'alice'");
    let sent = page.get("window.out.join()");
    let sent = sent.as_str().unwrap();
    assert!(!sent.contains("alices password"), "{sent}");
    assert!(!sent.contains("PASSWORD"), "{sent}");
    // Without a token, the page uses the password, but only for the password's own name.
    page.run("window.out = []; session.identity = { name: 'alice', token: null, password: 'alices password' }; session.login('mallory'); session.socket.close()");
    page.wait("session.link === 3 && session.name === 'alice' && session.identity.token");
    let sent = page.get("window.out.join()");
    let login_of_mallory = sent.as_str().unwrap().find("mallory").unwrap();
    let after = &sent.as_str().unwrap()[login_of_mallory..];
    let (before_alice, _) = after.split_once("alice").unwrap();
    assert!(!before_alice.contains("PASSWORD"), "{sent}");
    // JOIN twice on a slow connection: alice is in the room, and is in it again after a reconnect.
    page.run("session.join('cats'); session.join('cats')");
    page.wait("conversations.get('room:cats')?.isMember && session.requests.length === 0");
    page.run("session.socket.close()");
    page.wait("session.link === 4 && conversations.get('room:cats').isMember && conversations.get('room:lobby').isMember");
}

#[test]
fn sending_again_leaves_a_newer_draft_alone() {
    for size in BOTH {
        let Some(page) = Page::open("again", size) else {
            return;
        };
        page.log_in("alice");
        let mut bob = page.member("bob");
        page.run("session.leave()");
        page.wait("!session.isIn");
        page.send("said into nothing");
        page.wait("document.querySelector('.message.failed .retry')");
        page.type_text("#text", "a newer draft");
        page.click("#state button");
        page.wait("session.name === 'alice' && chosen.isMember");
        page.press(".message.failed", "Send again");
        assert!(bob.line_with("<message>").contains("said into nothing"));
        page.wait("chosen.items.at(-1).state === 'delivered'");
        assert_eq!(
            page.get("document.getElementById('text').value"),
            "a newer draft"
        );
        assert_eq!(
            page.get("document.querySelectorAll('.message.failed').length"),
            0
        );
        assert_eq!(
            page.get("chosen.items.filter((item) => item.mine).length"),
            1
        );
    }
}

#[test]
fn a_log_at_its_end_stays_there() {
    let Some(page) = Page::open("end", PHONE) else {
        return;
    };
    page.log_in("alice");
    let mut bob = page.member("bob");
    for number in 0..100 {
        say(&mut bob, &format!("line {number}"));
    }
    page.wait_for_text("line 99");
    let is_at_end = "document.getElementById('log').scrollHeight - document.getElementById('log').scrollTop - document.getElementById('log').clientHeight < 2";
    page.wait(is_at_end);
    // A phone's keyboard takes half of the window.
    page.browser.set_view(390, 400, "light");
    page.wait(is_at_end);
    page.browser.set_view(844, 390, "light");
    page.wait(is_at_end);
    // The composer grows.
    page.run("composer.set('a\\nb\\nc\\nd\\ne')");
    page.wait(is_at_end);
    page.run("composer.set(''); choose('everyone'); choose('room:lobby')");
    page.wait(is_at_end);
    // While the user reads earlier lines, new ones are counted and do not scroll the log.
    page.browser.set_view(390, 844, "light");
    page.wait(is_at_end);
    page.wait_until_resized();
    page.run("document.getElementById('log').scrollTop = 700");
    page.wait("!document.getElementById('newest').hidden");
    let top = page.get("document.getElementById('log').scrollTop");
    say(&mut bob, "while you read");
    page.wait("document.getElementById('newest').textContent === '↓ 1 new'");
    assert_eq!(page.get("document.getElementById('log').scrollTop"), top);
    assert!(page.holds("document.title.startsWith('(1) ')"));
    // After a switch to another conversation and back, the scroll position is the same.
    page.run("choose('everyone'); choose('room:lobby')");
    let moved = page.get(&format!(
        "Math.abs(document.getElementById('log').scrollTop - {top})"
    ));
    assert!(moved.as_f64().unwrap() < 60.0, "{moved}");
    // The page scrolls to the user's own message.
    page.send("mine");
    page.wait(is_at_end);
    page.wait("!document.title.startsWith('(1)')");
}

#[test]
fn a_click_on_a_name_opens_the_actions() {
    let Some(page) = Page::open("name-click", PHONE) else {
        return;
    };
    page.log_in("alice");
    let mut bob = page.member("bob");
    say(&mut bob, "hello");
    page.wait_for_text("hello");
    page.click(".message .from");
    page.press(".menu", "Private message");
    page.wait("chosen.key === 'person:bob'");
}

#[test]
fn links_end_where_the_url_ends() {
    let Some(page) = Page::open("links", LAPTOP) else {
        return;
    };
    for (text, address) in [
        (
            "see https://example.org/a?b=c, please",
            "https://example.org/a?b=c",
        ),
        (
            "(https://en.wikipedia.org/wiki/Socket_(computing))",
            "https://en.wikipedia.org/wiki/Socket_(computing)",
        ),
        (
            "https://en.wikipedia.org/wiki/A_(b)_(c).",
            "https://en.wikipedia.org/wiki/A_(b)_(c)",
        ),
        ("[https://example.org/x]", "https://example.org/x"),
        (
            "https://example.org/x?a[]=1!",
            "https://example.org/x?a[]=1",
        ),
        ("“https://example.org/q”", "https://example.org/q"),
        ("«https://example.org/q»…", "https://example.org/q"),
        ("https://example.org/x…", "https://example.org/x"),
        ("見て、https://example.org/x。次", "https://example.org/x"),
        ("（https://example.org/x）", "https://example.org/x"),
        ("「https://example.org/x」", "https://example.org/x"),
        ("https://example.org/x、", "https://example.org/x"),
        ("HTTPS://EXAMPLE.ORG", "HTTPS://EXAMPLE.ORG"),
    ] {
        let found = page.get(&format!(
            "[...linked({}).querySelectorAll('a')].map((link) => link.textContent)",
            json!(text)
        ));
        assert_eq!(found, json!([address]), "{text}");
        let all = page.get(&format!("linked({}).textContent", json!(text)));
        assert_eq!(all, json!(text), "nothing is lost");
    }
    for (host, shown) in [
        // A Latin name with one Cyrillic letter, and a name with only Cyrillic letters.
        ("аpple.com", "xn--pple-43d.com"),
        ("аррӏе.com", "xn--80ak6aa92e.com"),
        ("exαmple.org", "xn--exmple-qxe.org"),
        ("bücher.de", "bücher.de"),
        ("日本語.jp", "日本語.jp"),
        ("пример.рф", "пример.рф"),
    ] {
        let found = page.get(&format!(
            "linked('https://{host}/').querySelector('a').textContent"
        ));
        assert_eq!(found, format!("https://{shown}/"));
    }
    for text in [
        "javascript:alert(1)",
        "https://google.com@evil.example/",
        "https://",
        "ftp://example.org",
    ] {
        let count = page.get(&format!(
            "linked({}).querySelectorAll('a').length",
            json!(text)
        ));
        assert_eq!(count, 0, "{text}");
    }
    // In topics, too.
    page.log_in("alice");
    page.send("/topic read https://example.org/(x).");
    page.wait("document.querySelector('#topic a')?.href === 'https://example.org/(x)'");
    assert_eq!(
        page.get("document.querySelector('#topic a').rel"),
        "noopener noreferrer"
    );
}

#[test]
fn strangers_do_not_stop_the_page() {
    for size in BOTH {
        let Some(page) = Page::open("strangers", size) else {
            return;
        };
        page.log_in("alice");
        // 1,500 users join, write and leave.
        let before = page.processor_time();
        page.run(
            "for (let n = 0; n < 1500; n += 1) {
                 session.heard(`<SERVER><command>USER JOINED</command><username>s${n}</username></SERVER>`);
                 session.heard(`<CLIENT from='s${n}' scope='direct' time='2026-11-29T12:00:00.000Z' id='${1e15 + n}'><message>buy</message></CLIENT>`);
                 session.heard(`<SERVER><command>USER LEFT</command><username>s${n}</username></SERVER>`);
             }",
        );
        page.wait("document.querySelector('#conversations .is-unread')");
        let took = page.processor_time() - before;
        assert!(took < 5.0, "{took} s");
        assert!(page.get("conversations.all.size").as_u64().unwrap() <= 20);
        // Beyond that number, messages share one conversation, in which each can be answered.
        page.run("choose('requests')");
        page.wait("chosen.items.length > 100 && document.querySelector('.message')");
        assert_eq!(page.get("document.getElementById('composer').hidden"), true);
        page.run("document.querySelector('.message .more').click()");
        page.press(".menu", "Private message");
        page.wait("chosen.kind === 'person'");
        // Every conversation can be closed.
        page.click("#room-menu");
        page.press(".menu", "Close the conversation");
        page.wait("chosen.kind !== 'person'");
        page.run("choose('requests')");
        page.click("#room-menu");
        page.press(".menu", "Close the conversation");
        page.wait("!conversations.get('requests')");
    }
}

#[test]
fn a_window_without_the_focus_notifies() {
    let Some(page) = Page::open("notify", LAPTOP) else {
        return;
    };
    page.log_in("alice");
    page.run(
        "window.notified = []; store.set('notify', true);
         window.Notification = class { constructor(title, options) { if (window.throws) throw new TypeError('Illegal constructor'); window.notified.push(title); } close() {} static permission = 'granted'; };
         document.hasFocus = () => false;",
    );
    let mut bob = page.member("bob");
    direct(&mut bob, "alice", "psst");
    page.wait("window.notified.length === 1");
    say(&mut bob, "not for you");
    say(&mut bob, "hello, ALICE!");
    page.wait("window.notified.length === 2");
    assert_eq!(page.get("window.notified"), json!(["bob", "bob in #lobby"]));
    // A browser on Android: the service worker shows the notification, or the page reports once
    // that this is not possible.
    page.run("window.throws = true; window.byWorker = []; alerts.worker = { showNotification: async (title) => { window.byWorker.push(title); } };");
    direct(&mut bob, "alice", "psst again");
    page.wait("window.byWorker.length === 1");
    page.run("alerts.worker = null");
    direct(&mut bob, "alice", "one");
    direct(&mut bob, "alice", "two");
    let said = "[...conversations.all.values()].flatMap((there) => there.items).filter((item) => item.note && item.text.includes('notifications'))";
    page.wait(&format!(
        "{said}.length === 1 && conversations.get('person:bob').items.length === 4"
    ));
    // While the window has the focus, there is no notification.
    page.run("window.throws = false; window.notified = []; document.hasFocus = () => true;");
    direct(&mut bob, "alice", "three");
    page.wait("conversations.get('person:bob').items.length === 5");
    assert_eq!(page.get("window.notified"), json!([]));
}

#[test]
fn small_things_are_right() {
    for size in BOTH {
        let Some(page) = Page::open("small", size) else {
            return;
        };
        assert_eq!(
            page.get("document.activeElement.id"),
            "name",
            "the focus at first"
        );
        page.log_in("alice");
        let mut bob = page.member("bob");
        // A touch on Send leaves the keyboard open.
        page.type_text("#text", "by touch");
        let kept = page.run(
            "const event = new PointerEvent('pointerdown', { bubbles: true, cancelable: true });
             document.getElementById('send').dispatchEvent(event); document.getElementById('send').click();
             return [event.defaultPrevented, document.activeElement.id]",
        );
        assert_eq!(kept, json!([true, "text"]));
        assert!(bob.line_with("<message>").contains("by touch"));
        for (typed, usage) in [
            ("/all", "/all TEXT"),
            ("/msg bob", "/msg NAME TEXT"),
            ("/me", "/me TEXT"),
            ("/report bob", "/report NAME REASON"),
        ] {
            page.run(&format!(
                "composer.set({}); composer.suggest([])",
                json!(typed)
            ));
            page.type_text("#text", ENTER);
            page.wait(&format!(
                "chosen.items.at(-1).text?.includes({})",
                json!(usage)
            ));
            page.run("composer.set('')");
        }
        assert!(bob.has_received_nothing());
        // The page hides the characters that a terminal hides.
        say(&mut bob, "a\u{202e}b\u{200b}c\u{e0001}d\u{2066}e");
        page.wait_for_text("a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e");
        // An old browser, which runs only the first script, gets a message.
        let told = page.run(
            "delete window.chatHasStarted; window.dispatchEvent(new Event('load')); return document.getElementById('too-old').checkVisibility()",
        );
        assert_eq!(told, true);
        // A message that was just sent is not taken for an older one with the same text.
        page.wait(
            "(() => {
                const lobby = new Conversation('room:x', 'room', 'x');
                const message = (id, text, mine) => ({ id, at: new Date(id * 1000), text, mine, me: false, old: true });
                for (let id = 101; id <= 160; id += 1) lobby.add(message(id, 'm', false));
                const own = { ...message(161, 'ok', true), id: null };
                lobby.add(own);
                lobby.addOlder([message(50, 'ok', true), message(51, 'm', false)]);
                const isBelow = own.id === null && lobby.items.at(-1) === own && lobby.newestId === 160;
                lobby.add(message(161, 'ok', true));
                const first = new Conversation('room:y', 'room', 'y');
                const sent = { ...message(9, 'ok', true), id: null };
                first.add(sent);
                first.addOlder([message(5, 'ok', true), message(9, 'ok', true)]);
                return isBelow && own.id === 161 && lobby.byId.has(50)
                    && sent.id === 9 && first.items.map((item) => item.id).join() === '5,9';
            })()",
        );
    }
}

#[test]
fn the_board_is_linked_where_it_can_be_reached() {
    let Some(page) = Page::open("board", LAPTOP) else {
        return;
    };
    let link = |board: Value| page.run(&format!("settings.board = {board}; return boardAddress()"));
    assert_eq!(
        link(json!({ "ip": "127.0.0.1", "port": 8050 })),
        "http://127.0.0.1:8050/"
    );
    assert_eq!(
        link(json!({ "ip": "0.0.0.0", "port": 8050 })),
        "http://127.0.0.1:8050/"
    );
    assert_eq!(
        link(json!({ "ip": "192.0.2.7", "port": 8050 })),
        Value::Null
    );
    assert_eq!(link(Value::Null), Value::Null);
    // Behind a proxy, the page has another port, and the board may not be reachable.
    page.run("settings.port += 1");
    assert_eq!(link(json!({ "ip": "0.0.0.0", "port": 8050 })), Value::Null);
    // The icon is the server's own.
    let icons = page.run(
        "return [...document.querySelectorAll('link')].map((link) => new URL(link.href).pathname)",
    );
    assert_eq!(
        icons,
        json!(["/icon.svg", "/icon-192.png", "/manifest.webmanifest"])
    );
}

// --- the page

#[test]
fn the_first_visit_is_one_card() {
    for size in BOTH {
        let settings = Settings {
            message_of_the_day: Some("Welcome to https://example.org/ & be kind.".to_owned()),
            accounts: accounts("card"),
            min_password: 8,
            ..Settings::default()
        };
        let Some(page) = Page::open_with("card", size, settings) else {
            return;
        };
        assert!(page.holds("document.getElementById('login').checkVisibility() && !document.getElementById('shell').checkVisibility()"));
        assert_eq!(
            page.get("document.getElementById('greeting').textContent"),
            "Welcome to https://example.org/ & be kind."
        );
        assert!(page.holds("document.querySelector('#greeting a')"));
        // The rules are shown before the error.
        assert!(
            page.get("document.getElementById('name-rule').textContent")
                .as_str()
                .unwrap()
                .contains("1 to 32")
        );
        page.type_text("#name", &format!("al ice{ENTER}"));
        page.wait("document.getElementById('login-wrong').textContent");
        page.run("document.getElementById('name').value = ''");
        page.type_text("#name", &format!("alice{ENTER}"));
        page.wait("document.getElementById('password-rule').checkVisibility()");
        assert!(
            page.get("document.getElementById('password-rule').textContent")
                .as_str()
                .unwrap()
                .contains("at least 8")
        );
        page.type_text("#password", &format!("short{ENTER}"));
        page.wait("document.getElementById('login-wrong').textContent.includes('8 characters')");
        page.click("#show-password");
        assert_eq!(page.get("document.getElementById('password').type"), "text");
        page.type_text("#password", &format!("long enough{ENTER}"));
        page.wait("chosen?.key === 'room:lobby' && chosen.isMember");
        assert_eq!(page.get("[document.getElementById('password').value, document.getElementById('password').type]"), json!(["", "password"]));
        // The connection's documents stay one click away.
        assert_eq!(page.get("document.getElementById('look').hidden"), true);
        page.click("#settings");
        page.press(".menu", "How you are connected");
        page.wait("document.querySelectorAll('#steps li').length === 3 && document.getElementById('look').checkVisibility()");
        let steps = page.get("document.getElementById('steps').textContent");
        for part in ["<Port>", "<HandshakePasscode>", "Connection successful"] {
            assert!(steps.as_str().unwrap().contains(part), "{steps}");
        }
        page.open_at("?look");
        page.wait("document.getElementById('look').checkVisibility()");
    }
}

#[test]
fn a_guest_talks_with_the_partner_only() {
    for size in BOTH {
        let Some(page) = Page::open("guest", size) else {
            return;
        };
        page.click("#guest");
        page.wait("chosen.key === 'partner' && document.getElementById('shell').checkVisibility()");
        let (mut bob, _) = page.server.seat();
        page.wait("document.getElementById('room-name').textContent.startsWith('Your partner: ')");
        page.send("hello beside me");
        assert!(bob.line_with("<message>").contains("hello beside me"));
        bob.send_line(&message("hello to you"));
        page.wait_for_text("hello to you");
        page.wait("chosen.items.find((item) => item.mine).state === 'sent'");
        page.click("#settings");
        page.press(".menu", "Log in");
        page.wait("document.getElementById('login').checkVisibility()");
        page.log_in("alice");
    }
}

/// A message that arrives while `/reply` is being typed does not redirect it.
#[test]
fn a_reply_goes_to_the_sender_who_was_on_the_page() {
    let Some(page) = Page::open("reply", LAPTOP) else {
        return;
    };
    page.log_in("alice");
    let mut others = ["carol", "dave"].map(|name| page.member(name));
    let direct = |text: &str| command("DM", &format!("<to>alice</to><message>{text}</message>"));
    others[0].send_line(&direct("from carol"));
    page.wait("lastSender === 'carol'");
    page.run("composer.box.value = '/reply yes'; composer.box.dispatchEvent(new Event('input'))");
    others[1].send_line(&direct("from dave"));
    page.wait("lastSender === 'dave'");
    page.run("composer.submit()");
    others[0].line_with("<message>yes<");
    page.send("/reply hello");
    others[1].line_with("<message>hello<");
}

#[test]
fn the_log_groups_separates_and_marks() {
    for size in BOTH {
        let Some(page) = Page::open("log", size) else {
            return;
        };
        page.log_in("alice");
        let names: Vec<String> = (0..7).map(|number| format!("user{number}")).collect();
        let mut others: Vec<Client> = names.iter().map(|name| page.member(name)).collect();
        for text in ["one", "two"] {
            say(&mut others[0], text);
            // Wait for the reply before another user sends a message.
            others[0].line_with("SENT");
        }
        say(&mut others[1], "three");
        page.wait_for_text("three");
        let first = "[...document.querySelectorAll('.message')].map((line) => line.classList.contains('first'))";
        assert_eq!(
            page.get(first),
            json!([true, false, true]),
            "grouped by author"
        );
        for other in &mut others[2..] {
            say(other, "hello");
        }
        page.send("mine");
        page.wait("document.querySelectorAll('.message.first').length === 8");
        let colours = page.get("new Set([...document.querySelectorAll('.message.first')].map((line) => line.style.getPropertyValue('--hue'))).size");
        assert_eq!(colours, 8, "colours of people in one room differ");
        assert_eq!(
            page.get("document.querySelectorAll('.message.mine').length"),
            1
        );
        page.wait("document.querySelector('.message.mine .state').title === 'delivered to 7'");
        assert_eq!(page.get("document.querySelectorAll('.day').length"), 1);
        // Days are relative, and their names change at midnight.
        let days = page.run(
            "const now = new Date(2026, 10, 29, 0, 5); const on = (day, hour) => dayOf(new Date(2026, 10, day, hour), now);
             return [on(29, 0), on(28, 23), on(28, 1), on(24, 12) === new Date(2026, 10, 24).toLocaleDateString(undefined, { weekday: 'long' }), on(1, 1).includes('2026')]",
        );
        assert_eq!(days, json!(["Today", "Yesterday", "Yesterday", true, true]));
        // At most 80 characters wide.
        let widest = page.run("const box = document.querySelector('.lines'); const ch = parseFloat(getComputedStyle(box).maxWidth); return [box.clientWidth <= innerWidth, document.querySelector('.message .text').clientWidth <= ch]");
        assert_eq!(widest, json!([true, true]));
        // Code stands out; everything else is literal.
        say(
            &mut others[0],
            "a `b <i>` c\n```rust\nlet x = 1;\n```\n**d** _e_ <b>f</b>"
                .replace('<', "&lt;")
                .as_str(),
        );
        page.wait_for_text("**d**");
        let shown = page.get("[...[...document.querySelectorAll('.message .text')].at(-1).querySelectorAll('*')].map((part) => `${part.tagName} ${part.textContent}`)");
        assert_eq!(
            shown,
            json!(["CODE b <i>", "PRE let x = 1;", "CODE let x = 1;"])
        );
    }
}

#[test]
fn the_sidebar_shows_unread_conversations_first() {
    let Some(page) = Page::open("sidebar", LAPTOP) else {
        return;
    };
    page.log_in("alice");
    let mut bob = page.member("bob");
    page.run("choose('partner')");
    bob.send_line(&command("PM", "<message>for everyone</message>"));
    page.wait("conversations.get('everyone').unread === 1");
    let names =
        "[...document.querySelectorAll('#conversations .name')].map((name) => name.textContent)";
    page.wait(&format!("{names}[0] === 'Everyone'"));
    say(&mut bob, "@alice, look");
    page.wait(&format!("{names}[0] === 'lobby'"));
    assert_eq!(
        page.get("document.querySelector('#conversations .is-mentioned .count').textContent"),
        "@1"
    );
    assert!(page.holds("document.title.startsWith('(2) ')"));
    page.press("#conversations", "#lobby");
    page.wait("chosen.key === 'room:lobby' && chosen.unread === 0");
    assert!(page.holds("document.querySelector('.separator.unread')"));
}

#[test]
fn a_reload_comes_back_signed_in() {
    for size in BOTH {
        let settings = Settings {
            accounts: accounts("reload"),
            ..Settings::default()
        };
        let Some(page) = Page::open_with("reload", size, settings) else {
            return;
        };
        page.type_text("#name", &format!("alice{ENTER}"));
        page.wait("!document.getElementById('password-part').hidden");
        page.type_text("#password", &format!("alices password{ENTER}"));
        page.wait("session.identity?.token && chosen?.isMember");
        page.run("joinRoom('cats')");
        page.wait("conversations.get('room:cats')?.isMember");
        page.send("said in cats");
        page.wait("chosen.items.at(-1).state === 'delivered'");
        page.type_text("#text", "half a thought");
        // The token is never in a URL, and the password is nowhere.
        assert!(
            !page
                .get("location.href")
                .as_str()
                .unwrap()
                .contains(page.get("session.identity.token").as_str().unwrap())
        );
        let stored = page.get("JSON.stringify(localStorage)");
        assert!(!stored.as_str().unwrap().contains("alices password"));
        assert_eq!(page.get("session.identity.password"), Value::Null);
        page.reload();
        page.wait("session.name === 'alice' && chosen.key === 'room:cats' && conversations.get('room:lobby').isMember");
        // (She was alone in cats, so the room closed when she left, and without a journal its
        // messages were lost.)
        assert_eq!(
            page.get("document.getElementById('text').value"),
            "half a thought"
        );
        assert_eq!(page.get("document.getElementById('welcome').hidden"), true);
        // The operator revokes her tokens: the card asks again, and states the reason.
        use portal_chat::sessions::tokens::SessionTokens as _;
        let alice = portal_chat::wire::Name::new("alice").unwrap();
        assert_eq!(page.server.server.tokens().end_all(&alice).unwrap(), 1);
        page.reload();
        page.wait("document.getElementById('login').checkVisibility() && document.getElementById('login-wrong').textContent.includes('no longer signed in')");
        assert_eq!(
            page.get("[document.getElementById('name').value, store.get('session', null)]"),
            json!(["alice", null])
        );
    }
}

#[test]
fn logging_out_and_a_new_password_end_the_token() {
    for size in BOTH {
        let settings = Settings {
            accounts: accounts("logout"),
            ..Settings::default()
        };
        let Some(page) = Page::open_with("logout", size, settings) else {
            return;
        };
        page.type_text("#name", &format!("alice{ENTER}"));
        page.wait("!document.getElementById('password-part').hidden");
        page.type_text("#password", &format!("first password{ENTER}"));
        page.wait("session.identity?.token && chosen?.isMember");
        let first = page.get("session.identity.token");
        page.click("#settings");
        page.press(".menu", "Change your password");
        page.type_text("dialog [name=old]", "wrong password");
        page.type_text("dialog [name=next]", "second password");
        page.type_text("dialog [name=again]", &format!("second password{ENTER}"));
        page.wait("document.querySelector('dialog .wrong').textContent.includes('rong password')");
        page.run("document.querySelector('dialog [name=old]').value = ''");
        page.type_text("dialog [name=old]", &format!("first password{ENTER}"));
        page.wait(&format!("!document.querySelector('dialog') && session.identity.token && session.identity.token !== {first}"));
        page.reload();
        page.wait("session.name === 'alice'");
        page.click("#settings");
        page.press(".menu", "Log out");
        page.wait(
            "document.getElementById('login').checkVisibility() && session.isIn && !session.name",
        );
        assert_eq!(page.get("store.get('session', null)"), Value::Null);
        page.server.wait_for_event("logged-out", None);
        page.reload();
        assert!(page.holds("document.getElementById('login').checkVisibility()"));
    }
}

#[test]
fn addresses_open_conversations() {
    for size in BOTH {
        let Some(page) = Page::open("address", size) else {
            return;
        };
        // A link to a room works before the login.
        page.open_at("#cats");
        page.type_text("#name", &format!("alice{ENTER}"));
        page.wait("chosen?.key === 'room:cats' && chosen.isMember && location.hash === '#cats'");
        page.run("choose('room:lobby'); choose('everyone')");
        let _bob = page.member("bob");
        page.run("talkTo('bob')");
        assert_eq!(page.get("location.hash"), "#@bob");
        page.run("history.back()");
        page.wait("chosen.key === 'everyone' && location.hash === '#!everyone'");
        page.run("history.back()");
        page.wait("chosen.key === 'room:lobby'");
        page.run("history.go(2)");
        page.wait("chosen.key === 'person:bob'");
        page.run("location.hash = '#dogs'");
        page.wait("chosen.key === 'room:dogs' && chosen.isMember");
        page.open_at("#@bob");
        page.wait("session.name === 'alice' && chosen.key === 'person:bob'");
        for hostile in ["#@alice", "#%3Cimg%20src=x%3E", "#%", "#!nothing"] {
            page.run(&format!("location.hash = {}", json!(hostile)));
            page.wait("chosen.key === 'person:bob'");
        }
        page.run("window.copied = null; copyText = (text) => { window.copied = text; }; choose('room:cats')");
        page.click("#room-menu");
        page.press(".menu", "Copy a link");
        assert_eq!(
            page.get("window.copied"),
            format!("http://{}/#cats", page.entrance())
        );
    }
}

#[test]
fn writing_is_comfortable() {
    for size in BOTH {
        let Some(page) = Page::open("writing", size) else {
            return;
        };
        page.log_in("alice");
        let mut bob = page.member("bobby");
        page.wait("chosen.members.has('bobby')");
        let text = "document.getElementById('text').value";
        page.type_text("#text", &format!("@bo{TAB}hello{ENTER}"));
        assert!(bob.line_with("<message>").contains("@bobby hello"));
        page.type_text("#text", &format!("bo{TAB}"));
        page.wait(&format!("{text} === 'bobby '"));
        page.run("composer.set('')");
        page.type_text("#text", &format!("/to{TAB}"));
        page.wait(&format!("{text}.startsWith('/to')"));
        page.run("composer.set('')");
        page.type_text("#text", &format!("/msg bo{TAB}psst{ENTER}"));
        assert!(bob.line_with("scope='direct'").contains("psst"));
        // Up brings back the last line, but does not replace a draft.
        page.type_text("#text", UP);
        assert_eq!(page.get(text), "/msg bobby psst");
        page.type_text("#text", UP);
        assert_eq!(page.get(text), "@bobby hello");
        page.run("composer.set('a draft')");
        page.type_text("#text", UP);
        assert_eq!(page.get(text), "a draft");
        page.run("composer.set('')");
        page.type_text("#text", &format!("two{SHIFT}{ENTER}{SHIFT}lines{ENTER}"));
        assert!(bob.line_with("two").contains("two&#10;lines"));
        // An Enter that ends an input method's composition sends nothing.
        page.run(
            "const box = document.getElementById('text'); composer.set('にほ');
             box.dispatchEvent(new CompositionEvent('compositionstart'));
             box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true }));",
        );
        assert_eq!(page.get(text), "にほ");
        page.run("document.getElementById('text').dispatchEvent(new CompositionEvent('compositionend')); composer.set('')");
        // A picture can't be pasted, and the page reports that.
        page.run(
            "const data = new DataTransfer(); data.items.add(new File(['x'], 'a.png', { type: 'image/png' }));
             document.getElementById('text').dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));",
        );
        page.wait("chosen.items.at(-1).text.includes('files')");
        // The text of one message can be copied, including with the keyboard.
        page.run("window.copied = null; copyText = (text) => { window.copied = text; }; document.querySelector('.message').focus()");
        page.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }))");
        page.press(".menu", "Copy text");
        assert_eq!(page.get("window.copied"), "@bobby hello");
    }
}

#[test]
fn people_are_reached_by_click_and_by_keyboard() {
    for size in BOTH {
        let Some(page) = Page::open("people", size) else {
            return;
        };
        page.log_in("alice");
        let mut bob = page.member("bob");
        let mut carol = page.member("carol");
        page.wait("chosen.members.size === 3");
        page.click("#show-people");
        page.wait("document.querySelectorAll('#names button').length === 3");
        let menu_of =
            |name: &str| page.press("#names", &format!("{}{name}", name[..1].to_uppercase()));
        menu_of("bob");
        page.press(".menu", "Private message");
        page.wait("chosen.key === 'person:bob'");
        page.send("hello bob");
        assert!(bob.line_with("scope='direct'").contains("hello bob"));
        page.run("choose('room:lobby'); people.toggle(true)");
        menu_of("carol");
        page.press(".menu", "Ignore");
        say(&mut carol, "you will not see this");
        say(&mut bob, "but this");
        page.wait_for_text("but this");
        assert!(!page.holds("document.getElementById('log').textContent.includes('will not see')"));
        page.run("people.toggle(true)");
        menu_of("carol");
        page.press(".menu", "Report");
        page.type_text("dialog input", &format!("spam{ENTER}"));
        let reported = page.server.wait_for_event("reported", None);
        assert!(reported.line().contains("spam"), "{}", reported.line());
        page.run("people.toggle(false)");
        // The menu with the keyboard: the arrows move, Escape returns the focus.
        page.run("document.getElementById('room-menu').focus(); document.getElementById('room-menu').click()");
        let first = page.get("document.activeElement.textContent");
        page.type_text(".menu button:focus", "\u{e015}");
        assert_ne!(page.get("document.activeElement.textContent"), first);
        page.type_text(".menu button:focus", ESCAPE);
        assert_eq!(
            page.get("[document.activeElement.id, document.querySelector('.menu')]"),
            json!(["room-menu", null])
        );
        page.click("#room-menu");
        page.press(".menu", "Leave the room");
        page.wait("!conversations.get('room:lobby')");
        page.server.wait_for_event("room-left", None);
        // A room that was left stays left.
        page.reload();
        page.wait("session.name === 'alice'");
        assert!(!page.holds("conversations.get('room:lobby')"));
    }
}

#[test]
fn rooms_have_rules() {
    let settings = Settings {
        moderators: true,
        ..Settings::default()
    };
    for (window, name) in [(PHONE, "rules-phone"), (LAPTOP, "rules")] {
        let Some(page) = Page::open_with(name, window, settings.clone()) else {
            return;
        };
        let mut bob = page.member("bob");
        page.log_in("alice");
        bob.line_with("ROOM JOINED");
        // bob created the room, so he sets its rules.
        page.send("/room lobby invite");
        page.wait_for_text("moderators of lobby");
        let rule = "<room>lobby</room><moderator>alice</moderator>";
        bob.send_line(&command("ROOM", rule));
        page.wait_for_text("moderators: bob, alice");
        page.send("/room lobby password tea time");
        page.wait_for_text("Usage: /room");
        page.run("composer.set('')");
        page.send("/room lobby password tea");
        bob.line_with("<access>password</access>");
        page.send("/mute bob in lobby 10m");
        page.wait_for_text("became a moderator before you");
        let (mut carol, _) = page.server.seat();
        carol.send_line(&login("carol"));
        carol.line_with("WELCOME");
        page.send("/invite carol");
        carol.line_with(">INVITED<");
        carol.send_line(&command("JOIN", "<room>lobby</room><here/>"));
        carol.line_with("JOINED");
        page.send("/kick carol in lobby too loud");
        assert!(carol.line_with(">LEFT<").contains("<reason>too loud<"));
        // From the other side: an invitation, and a room that needs a password.
        let rule = "<room>den</room><access>password</access><password>milk</password>";
        bob.send_line(&command("JOIN", "<room>den</room><here/>"));
        bob.line_with("JOINED");
        bob.send_line(&command("ROOM", rule));
        bob.line_with("<access>password</access>");
        page.send("/join den");
        page.wait_for_text("den requires a password");
        page.send("/join den milk");
        page.wait("chosen?.key === 'room:den' && chosen.isMember");
        bob.send_line(&command(
            "KICK",
            "<room>den</room><username>alice</username>",
        ));
        page.wait("!conversations.get('room:den')");
        page.wait_for_text("bob removed you from den");
        page.run("ignore('bob', true)");
        let invite = command("INVITE", "<room>den</room><username>alice</username>");
        bob.send_line(&invite);
        bob.line_with("alice may join den");
        // The reply arrives after the invitation.
        page.send("/msg carol hello");
        page.wait("conversations.get('person:carol')?.items.at(-1)?.state === 'delivered'");
        assert!(page.holds("conversations.sorted().every(({ items }) => !items.some(({ text }) => /invited/.test(text)))"));
        page.run("ignore('bob', false)");
        bob.send_line(&invite);
        page.wait_for_text("bob invited you to the room den");
    }
}

#[test]
fn moderators_have_a_menu() {
    let settings = Settings {
        accounts: accounts("moderators"),
        moderators: true,
        ..Settings::default()
    };
    let Some(page) = Page::open_with("moderators", LAPTOP, settings) else {
        return;
    };
    let alice = portal_chat::wire::Name::new("alice").unwrap();
    page.server
        .server
        .policies()
        .set_moderator(&alice, true)
        .unwrap();
    page.type_text("#name", &format!("alice{ENTER}"));
    page.wait("!document.getElementById('password-part').hidden");
    page.type_text("#password", &format!("alices password{ENTER}"));
    page.wait("session.isModerator && chosen?.isMember");
    let (mut bob, _) = page.server.seat();
    bob.send_line(&login("bob"));
    bob.line_with("PASSWORD");
    bob.send_line(&password("bobs password"));
    bob.line_with("WELCOME");
    page.run("askOrder('MUTE', 'bob')");
    page.type_text("dialog input", &format!("soon{ENTER}"));
    page.wait("document.querySelector('dialog .wrong').textContent");
    page.run("document.querySelector('dialog input').value = ''");
    page.type_text("dialog input", &format!("10m{ENTER}"));
    page.server.wait_for_event("muted", None);
    page.run("talkTo('bob')");
    page.click("#room-menu");
    page.press(".menu", "Kick");
    page.type_text("dialog input", &format!("too loud{ENTER}"));
    assert!(bob.line_with("KICKED").contains("too loud"));
    // Other users do not have these entries.
    page.run("session.isModerator = false");
    let labels = page.get("personMenu('bob').map((item) => item?.label).join()");
    assert!(!labels.as_str().unwrap().contains("Kick"), "{labels}");
}

#[test]
fn the_page_is_installable_small_and_known() {
    let Some(page) = Page::open("install", LAPTOP) else {
        return;
    };
    page.wait("alerts.worker");
    let manifest = page.run(
        "window.manifest = null; fetch(document.querySelector('[rel=manifest]').href).then((answer) => answer.json()).then((found) => { window.manifest = found; });",
    );
    assert_eq!(manifest, Value::Null);
    page.wait("window.manifest");
    assert_eq!(
        page.get(
            "[window.manifest.display, window.manifest.start_url, window.manifest.icons.length]"
        ),
        json!(["standalone", "./", 3])
    );
    page.run("window.loaded = 0; for (const { src } of window.manifest.icons) { const image = new Image(); image.onload = () => { window.loaded += image.naturalWidth > 0; }; image.src = src; }");
    page.wait("window.loaded === 3");
    // Nothing is loaded from other sites, and nothing violates the policy.
    let others = page.get("performance.getEntriesByType('resource').filter((entry) => new URL(entry.name).host !== location.host).length");
    assert_eq!(others, 0);
    let size = page.get("performance.getEntriesByType('navigation')[0].transferSize");
    assert!(size.as_u64().unwrap() <= 40 * 1024, "{size} bytes");
    // A browser that has the page receives only 304. (A navigation through a service worker reports
    // no transfer size.)
    page.run("window.again = null; fetch('?again').then((answer) => answer.text()).then(() => fetch('?again')).then((answer) => answer.text()).then(() => { window.again = performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('?again')).at(-1).transferSize; });");
    page.wait("window.again");
    let size = page.get("window.again");
    assert!(size.as_u64().unwrap() < 2000, "{size} bytes");
}

#[test]
fn ten_thousand_messages_scroll() {
    let Some(page) = Page::open("many", LAPTOP) else {
        return;
    };
    page.log_in("alice");
    let before = page.processor_time();
    for first in (0..10_000).step_by(500) {
        page.run(&format!(
            "for (let n = {first}; n < {first} + 500; n += 1) session.heard(`<CLIENT from='u${{n % 9}}' scope='room' room='lobby' time='2026-11-29T12:00:00.000Z' id='${{1e15 + n}}'><message>message ${{n}} with some words in it</message></CLIENT>`);",
        ));
    }
    page.wait("document.getElementById('log').textContent.includes('message 9999')");
    let took = page.processor_time() - before;
    assert!(took < 20.0, "{took} s for 10,000 messages");
    // Scroll through all of them, one frame at a time.
    let before = page.processor_time();
    page.run(
        "const log = document.getElementById('log'); let step = 0;
         const move = () => { step += 1; log.scrollTop -= 1500; if (step < 200) requestAnimationFrame(move); else window.scrolled = true; };
         requestAnimationFrame(move);",
    );
    page.wait("window.scrolled");
    let frame = (page.processor_time() - before) * 1000.0 / 200.0;
    assert!(frame < 50.0, "{frame} ms a frame");
    assert!(page.holds("document.querySelectorAll('.message').length > 4000"));
}

#[test]
fn older_messages_are_fetched_when_they_are_scrolled_to() {
    for size in BOTH {
        let Some(page) = Page::open("older", size) else {
            return;
        };
        let mut bob = page.member("bob");
        for number in 0..190 {
            say(&mut bob, &format!("line {number}"));
            bob.line_with("SENT");
        }
        page.log_in("alice");
        page.wait_for_text("line 189");
        assert!(!page.holds("chosen.items.some((item) => item.text === 'line 5')"));
        for _ in 0..3 {
            page.run("document.getElementById('log').scrollTop = 300");
            page.wait("!chosen.isLoading");
        }
        page.run("document.getElementById('log').scrollTop = 0");
        page.wait("chosen.items.some((item) => item.text === 'line 0') && !chosen.hasOlder");
        page.run("document.getElementById('log').scrollTop = 0");
        page.wait_for_text("line 0");
        page.wait_for_text("This is the beginning");
        let order = page.get("chosen.items.filter((item) => item.id).every((item, at, all) => !at || item.id > all[at - 1].id)");
        assert_eq!(order, true);
        let lines = page.get("[...document.querySelectorAll('.message .text')].map((text) => text.textContent).join()");
        let wanted: Vec<String> = (0..190).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, wanted.join(), "in the page, in order, each once");
    }
}

/// Every control has a name and can be reached; the log is a log. With AXE=FILE, the script of
/// axe-core also checks the views.
#[test]
fn the_page_is_accessible() {
    let themes = [
        (PHONE, "light"),
        (LAPTOP, "light"),
        (PHONE, "dark"),
        (LAPTOP, "dark"),
    ];
    for (size, theme) in themes {
        let Some(page) = Page::open("accessible", size) else {
            return;
        };
        page.browser.set_view(size.0, size.1, theme);
        let axe = std::env::var("AXE")
            .ok()
            .map(|file| std::fs::read_to_string(file).unwrap());
        let check = |view: &str| {
            let nameless = page.run(
                "return [...document.querySelectorAll('button, input, textarea, [role=log], [role=listbox]')].filter((part) => part.checkVisibility())
                    .filter((part) => !(part.textContent.trim() || part.getAttribute('aria-label') || part.getAttribute('aria-labelledby') || part.labels?.length)).map((part) => part.outerHTML)",
            );
            assert_eq!(nameless, json!([]), "{view}");
            if let Some(axe) = &axe {
                page.run(&format!("{axe}; window.found = null; axe.run().then((all) => {{ window.found = all.violations.map((one) => `${{one.id}}: ${{one.nodes.map((node) => node.html.slice(0, 150)).join(' | ')}}`); }});"));
                page.wait("window.found");
                assert_eq!(
                    page.get("window.found"),
                    json!([]),
                    "{view}, {theme} at {size:?}"
                );
            }
        };
        check("card");
        page.log_in("alice");
        let mut bob = page.member("bob");
        say(&mut bob, "hello https://example.org/ and `code`");
        say(&mut bob, "@alice");
        page.send("mine");
        page.send("/nothing");
        page.wait("chosen.items.at(-1).tone === 'trouble'");
        page.run("composer.set('')");
        check("room");
        page.click("#show-people");
        check("people");
        page.run("people.toggle(false)");
        if size == PHONE {
            page.click("#open-sidebar");
            check("drawer");
            // Elements behind the drawer can't be reached, and Escape closes it.
            assert_eq!(page.get("document.getElementById('main').inert"), true);
            page.type_text("#close-sidebar", ESCAPE);
            page.wait("!document.getElementById('sidebar').classList.contains('is-open')");
        }
        page.click("#room-menu");
        check("menu");
        page.run("closeMenu(); askRoom()");
        check("dialog");
        page.run("document.querySelector('dialog').close(); composer.set('/'); showLook(true)");
        check("suggestions");
        page.run("showLook(false); composer.set(''); session.leave()");
        page.wait("document.querySelector('#state button')");
        check("disconnected");
        assert_eq!(page.get("[document.getElementById('log').getAttribute('role'), document.getElementById('log').tabIndex]"), json!(["log", 0]));
    }
}

#[test]
fn without_its_server_the_page_says_so_and_offers_another_try() {
    let Some(page) = Page::open("offline", PHONE) else {
        return;
    };
    page.wait("navigator.serviceWorker.controller");
    let url = format!("http://{}/", page.entrance());
    let Page { browser, server } = page;
    server.stop();
    browser.open_url("about:blank");
    browser.open_url(&url);
    browser.wait_until("document.title === 'Chat is offline'");
    assert_eq!(
        browser.run("return document.links[0].textContent"),
        "Try again"
    );
}

#[test]
fn a_tap_on_a_notification_opens_its_conversation() {
    let Some(page) = Page::open("notification", PHONE) else {
        return;
    };
    page.log_in("alice");
    let mut bob = page.member("bob");
    direct(&mut bob, "alice", "look at this");
    page.wait("[...conversations.all.values()].some((there) => there.name === 'bob')");
    let key = page.get("[...conversations.all.values()].find((there) => there.name === 'bob').key");
    // The service worker sends this when the notification is tapped.
    page.run(&format!(
        "navigator.serviceWorker.dispatchEvent(new MessageEvent('message', {{ data: {{ open: {key} }} }}))"
    ));
    page.wait(&format!("chosen.key === {key}"));
    page.wait_for_text("look at this");
}

#[test]
fn nothing_moves_for_a_user_who_prefers_that() {
    let Some(page) = Page::open("motion", PHONE) else {
        return;
    };
    let moving = "[...document.querySelectorAll('*')].filter((part) => [null, '::before', '::after'].some((pseudo) => {
        const style = getComputedStyle(part, pseudo);
        return style.transitionDuration.split(',').some((time) => parseFloat(time) > 0) || style.animationName !== 'none';
    })).length";
    assert_ne!(page.get(moving), 0, "the drawer slides in");
    let feature = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
    let media = json!({ "features": [feature] });
    page.browser.devtools("Emulation.setEmulatedMedia", &media);
    assert_eq!(page.get(moving), 0);
}
