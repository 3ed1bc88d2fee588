//! The board shows the actual threads: a real browser's list is compared with the kernel's, name by
//! name and call by call. Needs Linux, `chromium` and `chromedriver`; without them, the test
//! reports that it did not run, unless REQUIRE_BROWSER is set.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
#[cfg(feature = "tls")]
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use browser::Browser;
use support::running::{Running, program};
use support::web::WebClient;
use support::{Client, PATIENCE, command, handshake, login, ticket};

/// The threads of a process, by name, with the calls in which the threads of that name are blocked,
/// sorted.
type Threads = BTreeMap<String, Vec<String>>;

/// A running server with its addresses, by the first word of the line that announces them.
struct TestProgram {
    running: Running,
    addresses: BTreeMap<String, SocketAddr>,
}

impl TestProgram {
    fn start(arguments: &[&str]) -> TestProgram {
        let mut running = Running::start(
            program(env!("CARGO_BIN_EXE_chatserver"))
                .args(["0", "--no-passwords", "--board", "127.0.0.1:0"])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped()),
        );
        let output = BufReader::new(running.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let mut addresses = BTreeMap::new();
        for line in lines.by_ref().take_while(|line| !line.starts_with("Now ")) {
            let word = line.split_whitespace().next().unwrap_or_default();
            let address = line.split("127.0.0.1:").nth(1).and_then(|rest| {
                let end = rest.find(|digit: char| !digit.is_ascii_digit());
                rest[..end?].parse::<u16>().ok()
            });
            if let Some(port) = address {
                addresses.insert(word.to_owned(), SocketAddr::from(([127, 0, 0, 1], port)));
            }
        }
        thread::spawn(move || lines.count());
        TestProgram { running, addresses }
    }

    fn seat(&self) -> Client {
        let (client, passcode) = self.greet();
        admit(client, &handshake(&passcode))
    }

    /// Connects to the worker that the portal assigns.
    fn greet(&self) -> (Client, String) {
        let portal = self.addresses["portal"];
        let (port, passcode) = ticket(&Client::connect(portal).rest());
        let worker = SocketAddr::new(portal.ip(), port.get());
        (Client::connect(worker), passcode)
    }

    /// Seats a WebSocket client.
    fn seat_browser(&self) -> WebClient {
        let mut browser = WebClient::connect(self.addresses["web"]);
        browser.take_seat();
        browser
    }

    /// Returns the kernel's list of threads. A thread that is running has the call `busy`.
    fn threads(&self) -> Threads {
        let mut threads = Threads::new();
        let pid = self.running.id();
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let task = task.unwrap().path();
            // The thread may have exited since.
            let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
            let is_main = task.ends_with(pid.to_string());
            let name = match read("comm").trim_end() {
                "" => continue,
                // The kernel uses the program's name; the board shows `main`.
                _ if is_main => "main".to_owned(),
                name => name.to_owned(),
            };
            let call = call_of(&read("syscall"), &read("wchan"));
            threads.entry(name).or_default().push(call.to_owned());
        }
        sorted(threads)
    }
}

fn sorted(mut threads: Threads) -> Threads {
    threads.values_mut().for_each(|calls| calls.sort());
    threads
}

/// Returns the board's name for the system call in which a thread is blocked.
fn call_of(syscall: &str, wait_channel: &str) -> &'static str {
    let number = syscall.split_whitespace().next().unwrap_or_default();
    match number.parse::<libc::c_long>() {
        Ok(libc::SYS_accept4) => "accept",
        Ok(libc::SYS_futex) => "channel",
        // Only datagrams are waited for in this channel.
        Ok(libc::SYS_recvfrom | libc::SYS_recvmsg) if wait_channel.contains("skb_wait") => {
            "recv_from"
        }
        Ok(libc::SYS_recvfrom | libc::SYS_recvmsg | libc::SYS_read) => "read",
        _ => "busy",
    }
}

fn admit(mut client: Client, line: &str) -> Client {
    client.send_line(line);
    client.line_with("Connection successful");
    client
}

/// Returns the board's list of threads.
fn on_the_board(browser: &Browser) -> Threads {
    let list = browser.run(
        "return [...document.querySelectorAll('#threads li')].map((item) =>
            [item.dataset.thread, Number(item.dataset.count), item.querySelector('.call').textContent])",
    );
    let items = list.as_array().unwrap().iter().map(|item| {
        let call = item[2].as_str().unwrap().to_owned();
        let count = item[1].as_u64().unwrap() as usize;
        (item[0].as_str().unwrap().to_owned(), vec![call; count])
    });
    items.collect()
}

/// Waits until the board and the kernel agree.
fn compare(browser: &Browser, server: &TestProgram, scenario: &str) -> Threads {
    let until = Instant::now() + PATIENCE;
    loop {
        let (mut shown, mut real) = (on_the_board(browser), server.threads());
        // A browser may open a connection before it needs one, and its thread waits for the
        // request.
        for threads in [&mut shown, &mut real] {
            for (name, calls) in threads.iter_mut() {
                if name.starts_with("viewer-") {
                    calls
                        .iter_mut()
                        .for_each(|call| *call = "its viewer".to_owned());
                }
            }
        }
        if shown == real {
            return real;
        }
        if Instant::now() > until {
            assert_eq!(
                shown, real,
                "{scenario}: the board's threads, and the kernel's"
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the threads that a card shows, with their calls.
fn on_the_card(browser: &Browser, seat: u16) -> Vec<String> {
    let chips = browser.run(&format!(
        "return [...document.querySelectorAll('#card-{seat} .thread')].map((chip) => chip.title)"
    ));
    let chips = chips.as_array().unwrap().iter();
    chips
        .map(|chip| chip.as_str().unwrap().to_owned())
        .collect()
}

/// Starts a server, connects clients, and compares its threads with the board's. Returns the
/// threads that are blocked in `call`.
fn check(
    browser: &Browser,
    scenario: &str,
    arguments: &[&str],
    connect: impl FnOnce(&TestProgram) -> Box<dyn Any>,
    see: impl FnOnce(&TestProgram, &Threads),
) {
    let server = TestProgram::start(arguments);
    let scheme = if scenario == "TLS" { "https" } else { "http" };
    browser.open_url(&format!(
        "{scheme}://{}/?view=threads",
        server.addresses["board"]
    ));
    browser.wait_until("timeline.mode === 'live' && state.threads.size > 0");
    let clients = connect(&server);
    let threads = compare(browser, &server, scenario);
    browser.run("document.getElementById('show-board').click()");
    see(&server, &threads);
    browser.run("document.getElementById('show-threads').click()");
    drop(clients);
    // The board also forgets the threads that have exited.
    compare(browser, &server, &format!("{scenario}, without clients"));
}

/// Returns the names of the threads that begin with `role` and are blocked in `call`.
fn blocked<'t>(threads: &'t Threads, role: &str, call: &str) -> Vec<&'t str> {
    let is_it = |(name, calls): &(&String, &Vec<String>)| {
        name.starts_with(role) && calls.iter().any(|there| there == call)
    };
    threads
        .iter()
        .filter(is_it)
        .map(|(name, _)| &**name)
        .collect()
}

#[cfg(feature = "tls")]
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("portal-chat-threads-{}", std::process::id()))
}

#[test]
fn board_and_kernel_name_the_same_threads_in_the_same_calls() {
    let Some(browser) = Browser::start_with("threads", &["--ignore-certificate-errors"]) else {
        return;
    };

    check(
        &browser,
        "TCP pair",
        &[],
        |server| Box::new((server.seat(), server.seat())),
        |_, threads| {
            assert_eq!(blocked(threads, "worker-", "read").len(), 2);
            assert_eq!(blocked(threads, "worker-", "accept").len(), 2);
            assert_eq!(threads["portal-udp"], ["recv_from"]);
        },
    );

    check(
        &browser,
        "browser pair",
        &["--web=127.0.0.1:0"],
        |server| {
            let (mut one, mut other) = (server.seat_browser(), server.seat_browser());
            one.send_text(&login("alice"));
            one.text_with("WELCOME");
            other.send_text(&login("bob"));
            other.text_with("WELCOME");
            Box::new((one, other))
        },
        |_, threads| {
            // The workers accept, although clients have their seats.
            assert_eq!(blocked(threads, "worker-", "accept").len(), 4);
            let readers = blocked(threads, "browser-", "read");
            assert_eq!(readers.len(), 2);
            browser.wait_until("state.cards.size === 4 && [...state.cards.values()].filter((card) => card.name).length === 2");
            let seat =
                browser.run("return [...state.cards].find(([, card]) => card.name === 'alice')[0]");
            let seat = u16::try_from(seat.as_u64().unwrap()).unwrap();
            let shown = on_the_card(&browser, seat);
            assert_eq!(shown[0], format!("worker-{seat}: accept"));
            assert!(
                readers
                    .iter()
                    .any(|reader| shown[1] == format!("{reader}: read")),
                "{shown:?}"
            );
            // The ladder has a lane for the browser's thread, and none for the worker's.
            browser.run("document.getElementById('show-ladder').click()");
            let heads = browser.run("return [...document.querySelectorAll('#ladder .names title')].map((title) => title.textContent)");
            for reader in readers {
                assert!(
                    heads.as_array().unwrap().iter().any(|head| head == reader),
                    "{reader}: {heads}"
                );
            }
            assert!(!heads.to_string().contains("worker-"), "{heads}");
        },
    );

    check(
        &browser,
        "callback",
        &[],
        |server| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (mut asker, passcode) = server.greet();
            asker.send_line(&format!(
                "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode><callback><Port>{port}</Port></callback></CLIENT>"
            ));
            let mut called = Client::over(listener.accept().unwrap().0);
            called.line_with("Connection successful");
            Box::new((called, server.seat()))
        },
        |_, threads| assert_eq!(blocked(threads, "worker-", "read").len(), 2),
    );

    check(
        &browser,
        "single port",
        &["--single-port", "--max-clients", "4", "--web=127.0.0.1:0"],
        |server| {
            let mut clients: Vec<Client> = Vec::new();
            for _ in 0..2 {
                let mut client = Client::connect(server.addresses["single"]);
                client.line_with("Connection successful");
                clients.push(client);
            }
            let mut browser = WebClient::connect(server.addresses["web"]);
            browser.text_with("Connection successful");
            Box::new((clients, browser))
        },
        |_, threads| {
            assert_eq!(blocked(threads, "seat-", "read"), ["seat-1", "seat-2"]);
            let [reader] = blocked(threads, "browser-", "read")[..] else {
                panic!("one browser: {threads:?}")
            };
            browser.wait_until("state.cards.get(3)?.phase === 'seated'");
            assert_eq!(on_the_card(&browser, 1)[0], "seat-1: read");
            assert_eq!(on_the_card(&browser, 3)[0], format!("{reader}: read"));
            assert!(blocked(threads, "worker-", "accept").is_empty());
        },
    );

    check(
        &browser,
        "room",
        &[],
        |server| {
            let mut members = Vec::new();
            for name in ["alice", "bob"] {
                let mut member = server.seat();
                member.send_line(&login(name));
                member.line_with("WELCOME");
                member.send_line(&command("JOIN", "<room>lobby</room>"));
                let (port, passcode) = ticket(&member.line_with("JOINED"));
                let room = SocketAddr::new(server.addresses["portal"].ip(), port.get());
                members.push((admit(Client::connect(room), &handshake(&passcode)), member));
            }
            Box::new(members)
        },
        |_, threads| {
            let rooms = blocked(threads, "room-", "accept");
            assert_eq!(rooms.len(), 1);
            let readers = blocked(threads, "member-", "read");
            assert_eq!(readers.len(), 2);
            let writers: Vec<&Vec<String>> = threads
                .iter()
                .filter(|(name, _)| name.starts_with("writer-"))
                .map(|(_, calls)| calls)
                .collect();
            assert_eq!(
                writers,
                [&["channel", "channel"]],
                "one of each member, of one name"
            );
            browser.wait_until("state.rooms[0]?.members.length === 2");
            let shown = browser.run("return document.getElementById('rooms').textContent");
            for thread in rooms.iter().chain(&readers) {
                assert!(
                    shown.as_str().unwrap().contains(*thread),
                    "{thread}: {shown}"
                );
            }
        },
    );

    #[cfg(feature = "tls")]
    {
        let folder = folder();
        let trusting = support::tls::in_files(Path::new(&folder));
        let [certificate, key] =
            ["cert.pem", "key.pem"].map(|file| folder.join(file).to_str().unwrap().to_owned());
        check(
            &browser,
            "TLS",
            &["--tls", &certificate, &key],
            |server| {
                support::tls::use_tls(Some(trusting));
                let pair = (server.seat(), server.seat());
                support::tls::use_tls(None);
                Box::new(pair)
            },
            |_, threads| {
                assert_eq!(blocked(threads, "worker-", "read").len(), 2);
                assert_eq!(threads["portal-tcp"], ["accept"]);
            },
        );
        let _ = fs::remove_dir_all(folder);
    }
}
