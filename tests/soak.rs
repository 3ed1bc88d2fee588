//! A real server, a crowd of hostile visitors, and honest clients that count every message.
//!
//! `make soak SECONDS=600 SEED=7` runs it for a long time (SOAK_EVENTS=FILE writes all events to
//! FILE, SOAK_TLS=1 uses TLS everywhere); `cargo test` runs it for a few seconds. The seed
//! determines the visitors' actions. Meanwhile, pairs, public messages, direct messages and a room
//! carry numbered messages: one that is lost, duplicated, out of order or delivered to the wrong
//! client fails the test. Afterwards, the server must be in the same state as before: every port on
//! the stack once, no thread, descriptor or room left over, no memory growth, no panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

#[path = "support/patience.rs"]
mod patience;
#[path = "support/running.rs"]
mod running;
#[cfg(feature = "tls")]
#[path = "support/tls.rs"]
mod tls;
#[path = "support/web.rs"]
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patience::PATIENCE;
use running::Running;
use socket2::SockRef;
use web::{Frame, TEXT, WebClient, masked};

const WORKERS: usize = 64;
const VISITORS: usize = 16;
/// The user whom the server's policies make a moderator.
const MODERATOR: &str = "moderator";

/// The server's reservation timeout. A reservation may last up to a tick longer.
const RESERVED: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_secs(1);

/// The browsers' entrance.
static ENTRANCE: OnceLock<SocketAddr> = OnceLock::new();

fn entrance_address() -> SocketAddr {
    *ENTRANCE.get().expect("the server has started")
}

/// Returns `true` if this run uses TLS.
fn uses_tls() -> bool {
    cfg!(feature = "tls") && std::env::var_os("SOAK_TLS").is_some()
}

/// Returns `stream`, or the near end of a TLS tunnel over it if this run uses TLS.
fn tunnelled(stream: TcpStream) -> TcpStream {
    #[cfg(feature = "tls")]
    let stream = tls::through_tunnel(stream);
    stream
}

/// A random number generator that depends only on the seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        &things[self.roll(things.len() as u64) as usize]
    }
}

/// Counts by kind.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    fn count(&self, what: &str) {
        *self.0.lock().entry(what.to_owned()).or_default() += 1;
    }

    fn report(&self) -> String {
        let counts = self.0.lock();
        let parts: Vec<String> = counts
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        parts.join(", ")
    }
}

/// The server's program, with its portal's address.
struct Server {
    child: Running,
    portal: SocketAddr,
    accounts: std::path::PathBuf,
    /// The output on standard error so far, and the thread that reads it.
    errors: Arc<Mutex<String>>,
    error_reader: thread::JoinHandle<()>,
}

/// A process's resource usage.
#[derive(Clone, Copy, Debug)]
struct Vitals {
    threads: u64,
    descriptors: usize,
    resident_kib: u64,
}

impl Server {
    fn start() -> Server {
        let accounts =
            std::env::temp_dir().join(format!("portal-chat-soak-{}", std::process::id()));
        let _ = fs::remove_file(&accounts);
        let policies = accounts.with_extension("policies");
        fs::write(&policies, format!("moderator {MODERATOR} on\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatserver"));
        #[cfg(feature = "journal")]
        {
            let journal = accounts.with_extension("journal");
            let _ = fs::remove_file(&journal);
            command.arg("--journal").arg(journal);
        }
        #[cfg(feature = "tls")]
        if uses_tls() {
            let folder = accounts.with_extension("tls");
            tls::use_tls_in_all_threads(tls::in_files(&folder));
            command
                .arg("--tls")
                .arg(folder.join("cert.pem"))
                .arg(folder.join("key.pem"));
        }
        command
            .args(["0", "--workers", &WORKERS.to_string(), "--rooms", "6"])
            .args(["--web", "127.0.0.1:0"])
            // Short, so that many sessions time out, but long enough for honest clients on a busy
            // machine.
            .args(["--reserve-timeout", &RESERVED.as_secs().to_string()])
            .args(["--handshake-timeout", "2", "--idle-timeout", "6"])
            .arg("--quiet")
            .arg("--events")
            .arg(std::env::var_os("SOAK_EVENTS").unwrap_or("/dev/null".into()))
            .arg("--accounts")
            .arg(&accounts)
            .arg("--policies")
            .arg(&policies)
            // Use one arena, and return free memory. The resident size is then the memory that the
            // server holds; otherwise it would depend on which thread frees memory in which arena,
            // and could grow for an hour without a leak.
            .envs([
                ("MALLOC_ARENA_MAX", "1"),
                ("MALLOC_TRIM_THRESHOLD_", "131072"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Running::start(&mut command);
        // Print errors immediately, in case this test does not survive.
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let errors = Arc::new(Mutex::new(String::new()));
        let errors_writer = Arc::clone(&errors);
        let error_reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("the server: {line}");
                errors_writer.lock().push_str(&(line + "\n"));
            }
        });
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        screen.read_line(&mut line).unwrap();
        // "portal   127.0.0.1:41234  (TCP and UDP): …"
        let portal = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        // "web      http://127.0.0.1:41235/  …"
        while !line.starts_with("web ") {
            line.clear();
            assert!(
                screen.read_line(&mut line).unwrap() > 0,
                "no entrance for browsers"
            );
        }
        let page = line.split_whitespace().nth(1).unwrap();
        let page = page.trim_end_matches('/').rsplit('/').next().unwrap();
        let _ = ENTRANCE.set(page.parse().unwrap());
        thread::spawn(move || io::copy(&mut screen, &mut io::sink()));
        Server {
            child,
            portal,
            accounts,
            errors,
            error_reader,
        }
    }

    fn vitals(&self) -> Vitals {
        let folder = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        Vitals {
            threads: number("Threads:"),
            descriptors: fs::read_dir(format!("{folder}/fd")).unwrap().count(),
            resident_kib: number("VmRSS:"),
        }
    }

    /// Stops the server as Ctrl-C does. Returns its exit code and its output on standard error.
    fn stop(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &id]).status();
        let code = self.child.wait().unwrap().code();
        self.error_reader.join().unwrap();
        for end in ["policies", "journal", "journal-wal", "journal-shm"] {
            let _ = fs::remove_file(self.accounts.with_extension(end));
        }
        let _ = fs::remove_file(&self.accounts);
        let errors = self.errors.lock().clone();
        (code, errors)
    }
}

/// A connection that sends and receives lines.
struct Line {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Line {
    fn to(address: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Line::over(tunnelled(stream))
    }

    fn over(stream: TcpStream) -> io::Result<Line> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Line { stream, reader })
    }

    fn send_line(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    fn receive(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    fn receive_with(&mut self, part: &str) -> io::Result<String> {
        let mut last = String::new();
        loop {
            let line = self.receive().map_err(|error| {
                io::Error::new(error.kind(), format!("{error}, after {last:?}"))
            })?;
            if line.contains(part) {
                return Ok(line);
            }
            last = line;
        }
    }

    /// Reads until the end of the connection, and counts the replies.
    fn read_to_end(&mut self, tally: &Tally) -> io::Result<()> {
        loop {
            tally_answer(&self.receive()?, tally);
        }
    }

    fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl WebClient {
    /// Reads until the end of the connection, and counts the replies.
    fn read_to_end(&mut self, tally: &Tally) -> io::Result<()> {
        loop {
            match self.try_frame()? {
                Frame::Text(text) => tally_answer(&text, tally),
                Frame::Close(code) => tally.count(&format!("closed {code}")),
                Frame::Ping | Frame::Pong(_) => {}
            }
        }
    }
}

/// Counts a reply, by its error code or command.
fn tally_answer(line: &str, tally: &Tally) {
    let between = |from: &str, to: &str| {
        let rest = line.split_once(from)?.1;
        Some(rest.split_once(to)?.0.to_owned())
    };
    if let Some(code) = between("<error code='", "'") {
        tally.count(&code);
    } else if line.contains("Wrong handshake passcode") {
        tally.count("wrong-passcode");
    } else if let Some(command) = between("<command>", "<")
        && ["FULL", "IDLE TIMEOUT", "TOO SLOW", "TAKEN OVER"].contains(&command.as_str())
    {
        tally.count(&command);
    }
}

struct Ticket {
    port: u16,
    passcode: String,
}

fn read_ticket(answer: &str) -> Option<Ticket> {
    let part = |name: &str| {
        let rest = answer.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once('<')?.0.to_owned())
    };
    Some(Ticket {
        port: part("Port")?.parse().ok()?,
        passcode: part("HandshakePasscode")?,
    })
}

fn request_port(portal: SocketAddr) -> io::Result<Option<Ticket>> {
    Ok(read_ticket(&Line::to(portal)?.receive()?))
}

fn handshake(passcode: &str) -> String {
    format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>")
}

fn message(text: &str) -> String {
    format!("<CLIENT><message>{text}</message></CLIENT>")
}

fn command(name: &str, parts: &str) -> String {
    format!("<CLIENT><command>{name}</command>{parts}</CLIENT>")
}

/// Requests a port from the portal and takes the seat.
fn take_seat(portal: SocketAddr) -> io::Result<Line> {
    let ticket = request_port(portal)?.ok_or(ErrorKind::ResourceBusy)?;
    let mut line = Line::to(SocketAddr::new(portal.ip(), ticket.port))?;
    line.send_line(&handshake(&ticket.passcode))?;
    if line.receive()?.contains("Connection successful") {
        Ok(line)
    } else {
        Err(ErrorKind::PermissionDenied.into())
    }
}

/// Takes a seat as a browser. Two threads translate between frames and lines, until either side has
/// closed.
fn take_seat_as_browser() -> Line {
    let mut browser = WebClient::connect(entrance_address());
    browser.stream.set_nodelay(true).unwrap();
    browser.take_seat();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let line = Line::over(here).unwrap();
    let (mut here, _) = listener.accept().unwrap();
    let mut sender = browser.stream.try_clone().unwrap();
    let lines = BufReader::new(here.try_clone().unwrap());
    browser.stream.set_read_timeout(None).unwrap();
    thread::spawn(move || {
        for text in lines.lines().map_while(Result::ok) {
            if sender.write_all(&masked(TEXT, text.as_bytes())).is_err() {
                break;
            }
        }
        let _ = sender.shutdown(std::net::Shutdown::Both);
    });
    thread::spawn(move || {
        while let Ok(frame) = browser.try_frame() {
            let result = match frame {
                Frame::Text(text) => here.write_all((text + "\n").as_bytes()),
                Frame::Ping => browser.try_send(0x8a, b""),
                Frame::Pong(_) => Ok(()),
                Frame::Close(_) => break,
            };
            if result.is_err() {
                break;
            }
        }
        let _ = here.shutdown(std::net::Shutdown::Both);
    });
    line
}

fn log_in(line: &mut Line, name: &str) -> io::Result<()> {
    line.send_line(&command("LOGIN", &format!("<username>{name}</username>")))?;
    line.receive_with("<command>PASSWORD")?;
    line.send_line(&command(
        "PASSWORD",
        &format!("<password>{name}</password>"),
    ))?;
    line.receive_with("<command>WELCOME")?;
    Ok(())
}

// ---------------------------------------------------------------- honest clients

/// The number of checked messages, and whether the run is over.
#[derive(Default)]
struct Ledger {
    checked: AtomicU64,
    over: AtomicBool,
}

/// An honest client: it sends numbered messages on `line`, formatted by `frame`, and checks that
/// each expected message arrives once and in order.
struct Honest {
    name: String,
    line: Line,
    frame: Box<dyn Fn(u64) -> String + Send>,
    /// The text before the number in the messages that this client expects, for each sender.
    expected: Vec<String>,
}

impl Honest {
    /// Sends until the ledger records that the run is over, and then waits for all expected
    /// messages.
    fn run(self, ledger: &Ledger, sent: &AtomicU64, pause: Duration) -> Vec<(String, u64)> {
        let Honest {
            name,
            line,
            frame,
            expected,
        } = self;
        let Line { mut stream, reader } = line;
        thread::scope(|threads| {
            let receiver = threads.spawn(|| receive_all(&name, reader, &expected, ledger));
            let mut number = 0;
            while !ledger.over.load(Ordering::Acquire) {
                let text = format!("{}\n", frame(number));
                stream.write_all(text.as_bytes()).unwrap_or_else(|error| {
                    panic!("{name} can't send number {number}: {error}");
                });
                number += 1;
                sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pause);
            }
            // The end mark follows all messages from this client.
            let last = format!("{}\n", frame(u64::MAX));
            stream
                .write_all(last.as_bytes())
                .expect("the end mark is sent");
            let received = receiver.join().expect("every message was right");
            let _ = stream.shutdown(std::net::Shutdown::Both);
            received
        })
    }
}

/// Reads until each expected sender's end mark has arrived.
fn receive_all(
    name: &str,
    mut reader: BufReader<TcpStream>,
    expected: &[String],
    ledger: &Ledger,
) -> Vec<(String, u64)> {
    let mut next = vec![0_u64; expected.len()];
    let mut open = expected.len();
    let mut last = String::new();
    while open > 0 {
        let mut line = String::new();
        let count = reader.read_line(&mut line);
        assert!(
            matches!(count, Ok(1..)),
            "{name} was disconnected: {count:?}, next {next:?}, after {last:?}"
        );
        last.clone_from(&line);
        // Only messages from honest clients contain this word.
        let Some((_, text)) = line.split_once("<message>honest ") else {
            continue;
        };
        let speaker = expected
            .iter()
            .position(|mark| text.starts_with(mark) && has_scope(&line, mark));
        let speaker = speaker.unwrap_or_else(|| panic!("{name} received an unexpected {line}"));
        let number = text[expected[speaker].len()..].split('<').next().unwrap();
        let number: u64 = number.trim().parse().unwrap();
        if number == u64::MAX {
            open -= 1;
            continue;
        }
        assert_eq!(number, next[speaker], "{name} received {line}");
        next[speaker] += 1;
        ledger.checked.fetch_add(1, Ordering::Relaxed);
    }
    expected.iter().cloned().zip(next).collect()
}

/// Returns `true` if the message has the scope that its text specifies.
fn has_scope(line: &str, mark: &str) -> bool {
    let way = mark.split(' ').next().unwrap();
    match way {
        "pair" => !line.contains(" scope="),
        way => line.contains(&format!(" scope='{way}'")),
    }
}

fn honest_clients(portal: SocketAddr) -> Vec<Honest> {
    let mut honest = Vec::new();
    let seat = |is_browser: bool| {
        let mut line = match is_browser {
            true => take_seat_as_browser(),
            false => take_seat(portal).expect("a seat on a quiet server"),
        };
        line.receive_with("PARTNER").unwrap();
        line
    };
    for pair in 0..4 {
        for side in 0..2 {
            // Two pairs over TCP, one mixed pair, and one pair of browsers.
            let line = seat(pair + side >= 3);
            honest.push(Honest {
                name: format!("pair {pair} {side}"),
                line,
                frame: Box::new(move |n| message(&format!("honest pair {pair} {side} {n}"))),
                expected: vec![format!("pair {pair} {} ", 1 - side)],
            });
        }
    }
    // Two clients send public messages, and two send direct messages to each other. All four
    // receive the public ones.
    let names = ["ann", "ben", "cat", "dan"];
    for name in names {
        let mut line = seat(name == "ben" || name == "dan");
        log_in(&mut line, name).unwrap();
        let publics = ["ann", "ben"].iter().filter(|other| **other != name);
        let mut expected: Vec<String> = publics.map(|other| format!("public {other} ")).collect();
        let frame: Box<dyn Fn(u64) -> String + Send> = match name {
            "cat" | "dan" => {
                let to = if name == "cat" { "dan" } else { "cat" };
                expected.push(format!("direct {to} "));
                Box::new(move |n| {
                    command(
                        "DM",
                        &format!("<to>{to}</to><message>honest direct {name} {n}</message>"),
                    )
                })
            }
            _ => Box::new(move |n| {
                command(
                    "PM",
                    &format!("<message>honest public {name} {n}</message>"),
                )
            }),
        };
        honest.push(Honest {
            name: name.to_owned(),
            line,
            frame,
            expected,
        });
    }
    honest
}

/// Four members of a room. Their main connections are returned and must stay open. (Their number is
/// even: a hostile partner could flood a client until the server finds that it does not read fast
/// enough.)
fn room_members(portal: SocketAddr) -> (Vec<Honest>, Vec<Line>) {
    let names = ["eve", "fay", "gus", "hal"];
    let mut members = Vec::new();
    let mut mains = Vec::new();
    for name in names {
        let mut main = take_seat(portal).unwrap();
        log_in(&mut main, name).unwrap();
        main.send_line(&command("JOIN", "<room>calm</room>"))
            .unwrap();
        let ticket = read_ticket(&main.receive_with("<command>JOINED").unwrap()).unwrap();
        let mut line = Line::to(SocketAddr::new(portal.ip(), ticket.port)).unwrap();
        line.send_line(&handshake(&ticket.passcode)).unwrap();
        line.receive_with("Connection successful").unwrap();
        let others = names.iter().filter(|other| **other != name);
        members.push(Honest {
            name: format!("{name} in the room"),
            line,
            frame: Box::new(move |n| message(&format!("honest room {name} {n}"))),
            expected: others.map(|other| format!("room {other} ")).collect(),
        });
        mains.push(main);
    }
    (members, mains)
}

// ---------------------------------------------------------------- hostile visitors

struct Visitor<'v> {
    portal: SocketAddr,
    dice: Dice,
    tally: &'v Tally,
    /// A passcode from an earlier visit.
    stale: Option<Ticket>,
    /// Limits the number of registered names, however long the run takes.
    number: usize,
}

type Visit = for<'a, 'v> fn(&'a mut Visitor<'v>) -> io::Result<()>;

const VISITS: &[(&str, Visit)] = &[
    ("no-show", |v| {
        v.stale = request_port(v.portal)?;
        if v.stale.is_none() {
            v.tally.count("FULL");
        }
        Ok(())
    }),
    ("no-show by datagram", |v| {
        if uses_tls() {
            return Ok(());
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let until = Instant::now() + PATIENCE;
        // A flood may displace datagrams; a repeated request gets a reply.
        loop {
            socket.send_to(&[b'?'; 200], v.portal)?;
            let mut answer = [0; 2000];
            match socket.recv(&mut answer) {
                Ok(count) => {
                    tally_answer(&String::from_utf8_lossy(&answer[..count]), v.tally);
                    return Ok(());
                }
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => v.tally.count("datagram lost"),
            }
        }
    }),
    ("wrong passcode", |v| {
        let mut line = v.at_worker()?.0;
        line.send_line(&handshake("00000000000000000000000000000000"))?;
        line.read_to_end(v.tally)
    }),
    ("stale passcode", |v| {
        let Some(stale) = v.stale.take() else {
            return Ok(());
        };
        // The reservation expires after a while, and the port may then be reserved for another
        // client or free.
        thread::sleep(Duration::from_millis(v.dice.roll(3000)));
        let mut line = Line::to(SocketAddr::new(v.portal.ip(), stale.port))?;
        line.send_line(&handshake(&stale.passcode))?;
        line.stream.shutdown(std::net::Shutdown::Write)?;
        line.read_to_end(v.tally)
    }),
    ("stray", |v| {
        let Some(ticket) = request_port(v.portal)? else {
            return Ok(());
        };
        // A nearby port: occupied, reserved for another client, or free.
        let near = ticket
            .port
            .saturating_add(v.dice.roll(9) as u16)
            .wrapping_sub(4);
        let mut line = Line::to(SocketAddr::new(v.portal.ip(), near))?;
        line.send_line(&handshake(&ticket.passcode))?;
        if v.dice.roll(2) == 0 {
            line.reset();
        }
        Ok(())
    }),
    ("connects and sends nothing", |v| {
        let mut line = v.at_worker()?.0;
        line.read_to_end(v.tally)
    }),
    ("requests history and reads nothing", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        let (join, leave) = ("<room>loud</room><here/>", "<room>loud</room>");
        line.send_line(&command("JOIN", join))?;
        // Escaped, an apostrophe takes six bytes.
        let text = "'".repeat(4000);
        for _ in 0..10 {
            let parts = format!("<room>loud</room><message>{text}</message>");
            line.send_line(&command("SAY", &parts))?;
        }
        for _ in 0..100 {
            line.send_line(&command("LEAVE", leave))?;
            line.send_line(&command("JOIN", join))?;
            line.send_line(&command("TOPIC", leave))?;
        }
        thread::sleep(Duration::from_millis(v.dice.roll(3000)));
        line.reset();
        Ok(())
    }),
    ("pauses before it reads", |v| {
        let mut line = take_seat(v.portal)?;
        for _ in 0..200 {
            line.send_line(&command("PING", ""))?;
        }
        thread::sleep(Duration::from_millis(v.dice.roll(4000)));
        line.send_line(&command("TERMINATE", ""))?;
        line.read_to_end(v.tally)
    }),
    ("a browser at the portal", |v| {
        let mut stream = TcpStream::connect(v.portal)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        if v.dice.roll(2) == 0 {
            // The request is sent after the reply.
            let _ = stream.read(&mut [0; 1024])?;
        }
        stream.write_all(request)?;
        let _ = stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }),
    ("a crowd of silent callers", |v| {
        let entrance = *v.dice.of(&[v.portal, entrance_address()]);
        let crowd: Vec<io::Result<TcpStream>> =
            (0..40).map(|_| TcpStream::connect(entrance)).collect();
        thread::sleep(Duration::from_millis(v.dice.roll(1500)));
        drop(crowd);
        Ok(())
    }),
    ("half a frame", |v| {
        let mut line = take_seat(v.portal)?;
        line.stream.write_all(b"<CLIENT><message>half")?;
        if v.dice.roll(2) == 0 {
            line.reset();
            return Ok(());
        }
        line.read_to_end(v.tally)
    }),
    ("giant frame", |v| {
        let mut line = take_seat(v.portal)?;
        let size = 9_000 + v.dice.roll(200_000) as usize;
        line.stream.write_all(&vec![b'x'; size])?;
        line.read_to_end(v.tally)
    }),
    ("broken and bombing XML", |v| {
        let mut line = take_seat(v.portal)?;
        let deep = "<a>".repeat(2000);
        let wide = format!(
            "<CLIENT {}/>",
            (0..500).map(|n| format!("a{n}='' ")).collect::<String>()
        );
        let bombs = [
            "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><CLIENT><message>&b;</message></CLIENT>",
            &deep,
            &wide,
            "<CLIENT><message>&#0;&#27;</message></CLIENT>",
            "<CLIENT><message>&lt;</CLIENT>",
            "]]>",
        ];
        for _ in 0..12 {
            let bomb: &&str = v.dice.of(&bombs);
            line.send_line(bomb)?;
        }
        line.read_to_end(v.tally)
    }),
    ("not UTF-8", |v| {
        let mut line = take_seat(v.portal)?;
        for _ in 0..12 {
            line.stream
                .write_all(b"<CLIENT><message>\xff\xfe\xc0</message></CLIENT>\n")?;
        }
        line.read_to_end(v.tally)
    }),
    ("terminal escapes", |v| {
        let mut line = take_seat(v.portal)?;
        line.send_line("\x1b[2J\x1b]0;owned\x07")?;
        line.send_line(&message("&#x9b;2J \u{9b}31m \u{202e}"))?;
        line.send_line(&command("LOGIN", "<username>\u{1b}[31mroot</username>"))?;
        line.receive_with("bad-name")
            .map(|_| v.tally.count("bad-name"))
    }),
    ("reset at any time", |v| {
        let (mut line, ticket) = v.at_worker()?;
        let words = [
            String::new(),
            handshake(&ticket.passcode),
            handshake(&ticket.passcode) + "\n" + &message("bye"),
        ];
        let words = v.dice.of(&words).clone();
        line.send_line(&words)?;
        thread::sleep(Duration::from_micros(v.dice.roll(2000)));
        line.reset();
        Ok(())
    }),
    ("never reads", |v| {
        let mut line = take_seat(v.portal)?;
        // Public messages go to this client, too, and it does not read them.
        log_in(&mut line, &v.name())?;
        thread::sleep(Duration::from_millis(v.dice.roll(2500)));
        Ok(())
    }),
    ("never stops writing", |v| {
        let mut line = take_seat(v.portal)?;
        line.stream
            .set_write_timeout(Some(Duration::from_secs(2)))?;
        let until = Instant::now() + Duration::from_millis(300);
        let flood = (message("flood") + "\n").repeat(100);
        while Instant::now() < until {
            line.stream.write_all(flood.as_bytes())?;
        }
        Ok(())
    }),
    ("storm of logins", |v| {
        let mut line = take_seat(v.portal)?;
        line.send_line(&command(
            "LOGIN",
            &format!("<username>{}</username>", v.name()),
        ))?;
        for _ in 0..4 {
            line.send_line(&command("PASSWORD", "<password>guess</password>"))?;
        }
        line.read_to_end(v.tally)
    }),
    ("joins and leaves rooms", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        for _ in 0..3 {
            let room = format!("<room>r{}</room>", v.dice.roll(8));
            line.send_line(&command("JOIN", &room))?;
            let answer = line.receive_with("<SERVER>")?;
            tally_answer(&answer, v.tally);
            if let Some(ticket) = read_ticket(&answer)
                && v.dice.roll(3) > 0
            {
                let mut there = Line::to(SocketAddr::new(v.portal.ip(), ticket.port))?;
                there.send_line(&handshake(&ticket.passcode))?;
                there.send_line(&message("in passing"))?;
                there.receive_with("SENT")?;
                match v.dice.roll(3) {
                    0 => there.reset(),
                    1 => line.send_line(&command("LEAVE", &room))?,
                    _ => {}
                }
            }
        }
        Ok(())
    }),
    ("connects to a room repeatedly", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        let room = format!("<room>k{}</room>", v.dice.roll(4));
        line.send_line(&command("JOIN", &room))?;
        let answer = line.receive_with("<SERVER>")?;
        tally_answer(&answer, v.tally);
        let Some(ticket) = read_ticket(&answer) else {
            return Ok(());
        };
        let room = SocketAddr::new(v.portal.ip(), ticket.port);
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(Line::to(room)?);
        }
        let mut member = Line::to(room)?;
        member.send_line(&handshake(&ticket.passcode))?;
        member.receive_with("Connection successful")?;
        v.tally.count("admitted alongside 40 callers");
        Ok(())
    }),
    ("joins every room", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        for number in 0..16 {
            line.send_line(&command(
                "JOIN",
                &format!("<room>all{number}</room><here/>"),
            ))?;
        }
        line.receive_with("no-room-left")?;
        v.tally.count("no-room-left");
        Ok(())
    }),
    ("lists by the dozen", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        for list in ["WHO", "ROOMS", "DM"] {
            for _ in 0..30 {
                line.send_line(&command(list, ""))?;
            }
        }
        line.receive_with("<command>WHO")?;
        line.receive_with("<command>WHO").map(drop)
    }),
    ("far behind and wrong ten times", |v| {
        let mut line = take_seat(v.portal)?;
        // More replies are queued than have been read when the last line arrives.
        for _ in 0..3000 {
            line.send_line(&command("PING", ""))?;
        }
        for _ in 0..10 {
            line.send_line(&command("DANCE", ""))?;
        }
        line.receive_with("too-many-errors")?;
        v.tally.count("too-many-errors");
        Ok(())
    }),
    ("guesses and disconnects", |v| {
        let mut line = take_seat(v.portal)?;
        line.send_line(&command("LOGIN", "<username>guessed</username>"))?;
        line.send_line(&command("PASSWORD", "<password>guess</password>"))?;
        Ok(())
    }),
    ("a passcode in another encoding", |v| {
        let (mut line, ticket) = v.at_worker()?;
        let passcode = handshake(&ticket.passcode);
        match v.dice.roll(3) {
            0 => line.send_line(&passcode.replace('>', ">\n"))?,
            1 => {
                let utf_16: Vec<u8> = passcode.encode_utf16().flat_map(u16::to_le_bytes).collect();
                line.stream.write_all(&utf_16)?;
            }
            _ => line.stream.write_all(passcode.as_bytes())?,
        }
        line.receive_with("malformed")?;
        v.tally.count("malformed");
        Ok(())
    }),
    ("a thousand attributes", |v| {
        let mut line = take_seat(v.portal)?;
        let attributes: String = (0..1000).map(|n| format!("a{n}='' ")).collect();
        line.send_line(&format!(
            "<CLIENT {attributes}><command>PING</command></CLIENT>"
        ))?;
        line.receive_with("malformed").map(drop)
    }),
    ("callback to nowhere", |v| {
        let (mut line, ticket) = v.at_worker()?;
        let targets = [
            "<Port>1</Port>".to_owned(),
            "<Port>9</Port><Address>192.0.2.1</Address>".to_owned(),
            format!("<Port>{}</Port>", v.portal.port()),
            format!("<Port>{}</Port>", ticket.port),
            "<Port>65535</Port>".to_owned(),
        ];
        let target = v.dice.of(&targets);
        line.send_line(&format!(
            "<CLIENT><HandshakePasscode>{}</HandshakePasscode><callback>{target}</callback></CLIENT>",
            ticket.passcode
        ))?;
        line.read_to_end(v.tally)
    }),
    ("flood of datagrams", |v| {
        if uses_tls() {
            return Ok(());
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        for _ in 0..200 {
            let size = v.dice.roll(1500) as usize;
            socket.send_to(&vec![b'x'; size], v.portal)?;
        }
        Ok(())
    }),
    ("a browser that sends nothing", |v| {
        let mut browser = v.browser()?;
        browser.read_to_end(v.tally)
    }),
    ("a browser that leaves before its passcode", |v| {
        let browser = v.browser()?;
        if v.dice.roll(2) == 0 {
            let _ = SockRef::from(&browser.stream).set_linger(Some(Duration::ZERO));
        }
        Ok(())
    }),
    ("a browser that breaks the rules of frames", |v| {
        let mut browser = v.browser()?;
        let first = v.dice.roll(256) as u8;
        let bytes: Vec<u8> = (0..v.dice.roll(300))
            .map(|_| v.dice.roll(256) as u8)
            .collect();
        match v.dice.roll(5) {
            0 => browser.stream.write_all(&bytes)?,
            1 => browser.try_send(first, &bytes)?,
            2 => browser
                .stream
                .write_all(&masked(TEXT, &bytes)[..1 + bytes.len() / 2])?,
            3 => {
                browser.try_send(0x01, b"")?;
                for _ in 0..9000 {
                    browser.try_send(0x00, b"")?;
                }
            }
            _ => browser
                .stream
                .write_all(b"\x81\xff\x00\x00\x01\x00\x00\x00\x00\x00")?,
        }
        browser.read_to_end(v.tally)
    }),
    ("a browser that sends and vanishes", |v| {
        let mut browser = v.browser()?;
        let Frame::Text(answer) = browser.try_frame()? else {
            return Ok(());
        };
        let Some(ticket) = read_ticket(&answer) else {
            v.tally.count("FULL");
            return Ok(());
        };
        browser.try_send(TEXT, handshake(&ticket.passcode).as_bytes())?;
        for _ in 0..v.dice.roll(20) {
            let text = match v.dice.roll(3) {
                0 => message("from a page"),
                1 => command("WHO", ""),
                _ => "nonsense".to_owned(),
            };
            browser.try_send(TEXT, text.as_bytes())?;
            browser.try_send(0x89, b"ping")?;
        }
        let _ = SockRef::from(&browser.stream).set_linger(Some(Duration::ZERO));
        Ok(())
    }),
    ("a request that never ends", |v| {
        let mut stream = tunnelled(TcpStream::connect(entrance_address())?);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n")?;
        for _ in 0..v.dice.roll(2000) {
            stream.write_all(b"A: b\r\n")?;
        }
        if v.dice.roll(2) == 0 {
            return Ok(());
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(drop)
    }),
    ("a stranger's page", |v| {
        let (_, head) = WebClient::try_request(
            entrance_address(),
            "Host: localhost\r\nOrigin: http://evil.example\r\n",
        )?;
        v.tally.count(head.split(' ').nth(1).unwrap_or("no answer"));
        Ok(())
    }),
    ("a moderator acts on the others", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, MODERATOR)?;
        for _ in 0..20 {
            let user = format!("<username>{}</username>", v.any_name());
            let seconds = 1 + v.dice.roll(3);
            let duration = format!("<duration>{seconds}s</duration>");
            let (name, parts) = match v.dice.roll(5) {
                0 => ("KICK", user),
                1 => ("MUTE", user + &duration),
                2 => ("UNMUTE", user),
                3 => ("BAN", user + &duration + "<reason>soak</reason>"),
                _ => ("UNBAN", user),
            };
            line.send_line(&command(name, &parts))?;
        }
        line.send_line(&command("TERMINATE", ""))?;
        line.read_to_end(v.tally)
    }),
    ("opens a room for invited users", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        let room = format!("<room>closed-{}</room>", v.dice.roll(3));
        line.send_line(&command("JOIN", &format!("{room}<here/>")))?;
        for _ in 0..20 {
            let user = format!("<username>{}</username>", v.any_name());
            let (name, parts) = match v.dice.roll(8) {
                0 => ("ROOM", "<access>invite</access>".to_owned()),
                1 => (
                    "ROOM",
                    "<access>password</access><password>tea</password>".to_owned(),
                ),
                2 => ("ROOM", "<access>open</access>".to_owned()),
                3 => ("ROOM", "<moderated>yes</moderated>".to_owned()),
                4 => ("ROOM", "<moderated>no</moderated>".to_owned()),
                5 => ("INVITE", user),
                6 => ("KICK", user),
                _ => ("MUTE", user + "<duration>1s</duration>"),
            };
            line.send_line(&command(name, &(room.clone() + &parts)))?;
            let parts = format!("{room}<message>in the room</message>");
            line.send_line(&command("SAY", &parts))?;
        }
        line.send_line(&command("ROOM", &format!("{room}<access>open</access>")))?;
        line.send_line(&command("TERMINATE", ""))?;
        line.read_to_end(v.tally)
    }),
    ("tries closed rooms", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        for number in 0..3 {
            let password = v.dice.of(&["tea", "coffee"]);
            let parts =
                format!("<room>closed-{number}</room><here/><password>{password}</password>");
            line.send_line(&command("JOIN", &parts))?;
        }
        line.send_line(&command("TERMINATE", ""))?;
        line.read_to_end(v.tally)
    }),
    ("reads history", |v| {
        let mut line = take_seat(v.portal)?;
        log_in(&mut line, &v.name())?;
        let mut before = String::new();
        for _ in 0..1 + v.dice.roll(5) {
            line.send_line(&command("HISTORY", &before))?;
            let reply = line.receive_with("<command>HISTORY")?;
            let count = reply
                .split("<count>")
                .nth(1)
                .and_then(|rest| rest.split('<').next());
            let count: u64 = count.unwrap().parse().unwrap();
            let mut last = 0;
            for index in 0..count {
                let old = line.receive_with(" old='yes'")?;
                let id = old.split(" id='").nth(1).unwrap().split('\'').next();
                let id: u64 = id.unwrap().parse().unwrap();
                assert!(id > last, "history is out of order: {old}");
                last = id;
                if index == 0 {
                    before = format!("<before>{id}</before>");
                }
            }
        }
        let other = v.any_name();
        for parts in [
            format!("<with>{other}</with>"),
            "<room>calm</room>".to_owned(),
        ] {
            line.send_line(&command("HISTORY", &parts))?;
        }
        line.send_line(&command("TERMINATE", ""))?;
        line.read_to_end(v.tally)
    }),
    ("idles out", |v| {
        let mut line = take_seat(v.portal)?;
        line.read_to_end(v.tally)
    }),
    ("too many errors", |v| {
        let mut line = take_seat(v.portal)?;
        for _ in 0..11 {
            line.send_line(&command("DANCE", ""))?;
        }
        line.read_to_end(v.tally)
    }),
];

impl Visitor<'_> {
    /// Connects to the worker that the portal has assigned, and sends nothing yet.
    fn at_worker(&mut self) -> io::Result<(Line, Ticket)> {
        let ticket = request_port(self.portal)?.ok_or(ErrorKind::ResourceBusy)?;
        let line = Line::to(SocketAddr::new(self.portal.ip(), ticket.port))?;
        Ok((line, ticket))
    }

    /// Opens a WebSocket, and sends nothing yet.
    fn browser(&mut self) -> io::Result<WebClient> {
        let (browser, head) = WebClient::try_request(entrance_address(), "Host: localhost\r\n")?;
        if head.starts_with("HTTP/1.1 101") {
            Ok(browser)
        } else {
            Err(ErrorKind::ResourceBusy.into())
        }
    }

    /// The name of a visitor, perhaps this visitor's own.
    fn any_name(&mut self) -> String {
        let number = self.dice.roll(VISITORS as u64);
        format!("visitor-{number}-{}", self.dice.roll(4))
    }

    fn name(&mut self) -> String {
        format!("visitor-{}-{}", self.number, self.dice.roll(4))
    }

    fn visit(&mut self) {
        let (name, visit) = *self.dice.of(VISITS);
        self.tally.count(&format!("[{name}]"));
        match visit(self) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ResourceBusy => self.tally.count("FULL"),
            // Rejections, closed connections and resets are expected here.
            Err(error)
                if error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut => {
            }
            Err(error) if name == "never stops writing" => drop(error),
            Err(error) => panic!("{name}: the server never replied: {error}"),
        }
    }
}

/// Runs the hostile visitors for `duration`.
fn run_visitors(portal: SocketAddr, seed: u64, duration: Duration, tally: &Tally) {
    let until = Instant::now() + duration;
    thread::scope(|threads| {
        for number in 0..VISITORS {
            threads.spawn(move || {
                let mut visitor = Visitor {
                    portal,
                    dice: Dice(seed.wrapping_mul(1000).wrapping_add(number as u64)),
                    tally,
                    stale: None,
                    number,
                };
                while Instant::now() < until {
                    visitor.visit();
                }
            });
        }
    });
}

/// Reserves all free seats, and returns their ports. `None` if this took so long that the first
/// reservations expired and their ports may have been reserved again.
fn free_ports(portal: SocketAddr) -> Option<Vec<u16>> {
    let begun = Instant::now();
    let mut ports = Vec::new();
    while let Some(ticket) = request_port(portal).unwrap() {
        if begun.elapsed() >= RESERVED {
            return None;
        }
        ports.push(ticket.port);
        assert!(
            ports.len() <= WORKERS,
            "more ports than there are: {ports:?}"
        );
    }
    Some(ports)
}

/// Waits until all seats except `taken` are free, and returns the free ones.
fn wait_for_free_ports(portal: SocketAddr, taken: usize) -> BTreeSet<u16> {
    let until = Instant::now() + PATIENCE;
    loop {
        let ports = free_ports(portal);
        // Let these reservations expire.
        thread::sleep(RESERVED + 2 * TICK);
        let late = Instant::now() > until;
        let Some(ports) = ports else {
            assert!(!late, "the portal answers too slowly");
            continue;
        };
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len(), "assigned twice: {ports:?}");
        if distinct.len() == WORKERS - taken {
            return distinct;
        }
        assert!(
            !late,
            "{} ports of {} are free",
            distinct.len(),
            WORKERS - taken
        );
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn honest_clients_survive_a_hostile_crowd() {
    let seconds = from_environment("SOAK_SECONDS").unwrap_or(6);
    let seed = from_environment("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("soak: {seconds} s, SEED={seed}");
    let server = Server::start();
    let portal = server.portal;
    let (tally, ledger) = (Tally::default(), Arc::new(Ledger::default()));
    let sent = Arc::new(AtomicU64::new(0));

    let mut honest = honest_clients(portal);
    let (members, mains) = room_members(portal);
    honest.extend(members);
    let taken = 12 + mains.len();
    // These connections receive joins and departures, so a thread must read them.
    let mains: Vec<_> = mains
        .into_iter()
        .map(|Line { stream, reader }| {
            let mut line = Line {
                stream: stream.try_clone().unwrap(),
                reader,
            };
            let reading = thread::spawn(move || line.receive_with("<command>ROOMS").unwrap());
            (stream, reading)
        })
        .collect();
    let running_clients: Vec<_> = honest
        .into_iter()
        .map(|person| {
            let (ledger, sent) = (Arc::clone(&ledger), Arc::clone(&sent));
            thread::spawn(move || person.run(&ledger, &sent, Duration::from_millis(10)))
        })
        .collect();

    // The server first grows to its working size: buffers stay in the allocator's arenas at random,
    // and it takes a while until all arenas have reached their maximum.
    let slice = Duration::from_secs((seconds / 20).clamp(3, 30));
    let (mut slices, mut size, mut still) = (0, 0, 0);
    // A short run has no time for that, and uses a looser limit.
    while seconds >= 60 && still < 2 && slices < 20 {
        let discarded = Tally::default();
        run_visitors(portal, seed ^ (0xffff + slices), slice, &discarded);
        wait_for_free_ports(portal, taken);
        slices += 1;
        let grown = server.vitals().resident_kib;
        // Twice in a row, because once may be a coincidence.
        still = if grown * 100 <= size * 102 {
            still + 1
        } else {
            0
        };
        size = grown;
    }
    println!("warm after {} s", slices * slice.as_secs());
    let mut before = server.vitals();
    // The last visits of each part take up to ten more seconds.
    let parts = if seconds < 60 { 1 } else { 10 };
    let part = Duration::from_secs(seconds) / parts;
    for number in 0..u64::from(parts) {
        run_visitors(portal, seed.wrapping_add(number << 32), part, &tally);
        println!("{:?}", server.vitals());
        // Some visits briefly make the server hold megabytes, and by chance several of them may
        // coincide late in a run: the run with seed 2901 grew by 4 MB in its fourth part, and not
        // in the six after it. A leak grows in the second half, too.
        if number < u64::from(parts / 2) {
            before.resident_kib = before.resident_kib.max(server.vitals().resident_kib);
        }
    }
    wait_for_free_ports(portal, taken);
    let after = server.vitals();

    ledger.over.store(true, Ordering::Release);
    let received: Vec<Vec<(String, u64)>> = running_clients
        .into_iter()
        .map(|person| {
            person
                .join()
                .expect("the honest clients were not disturbed")
        })
        .collect();
    for (mut stream, reading) in mains {
        writeln!(stream, "{}", command("ROOMS", "")).unwrap();
        let rooms = reading.join().unwrap();
        let others = rooms.matches("<room ").count() - rooms.matches(">calm<").count();
        assert_eq!(others, 0, "a room was left over: {rooms}");
    }
    let ports = wait_for_free_ports(portal, 0);
    assert_eq!(ports.len(), WORKERS);
    let (code, errors) = server.stop();

    println!("visits and refusals: {}", tally.report());
    println!(
        "{} messages sent, {} received and checked by {} clients",
        sent.load(Ordering::Relaxed),
        ledger.checked.load(Ordering::Relaxed),
        received.len()
    );
    println!("before {before:?}, after {after:?}");
    assert_eq!(code, Some(0), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    // The portal keeps the last caller's connection until the next caller.
    assert_eq!(after.threads, before.threads);
    // The journal opens each of its four readers, with three files, when all others are busy. That
    // may be late in a run, and so may be the first change of the policies file. A leak is larger.
    let files = 13;
    assert!(
        after.descriptors <= before.descriptors + files,
        "{before:?}, {after:?}"
    );
    // The allocator keeps the memory of threads that have exited; in a short run it is still
    // growing.
    let slack = if seconds < 60 { 48 * 1024 } else { 0 };
    assert!(
        after.resident_kib * 10 <= (before.resident_kib + slack) * 11,
        "memory grew: {before:?}, {after:?}"
    );
    // All recipients received the same number of messages from a sender.
    let mut by_speaker: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (speaker, count) in received.into_iter().flatten() {
        assert!(count > 0, "no client received {speaker}");
        by_speaker.entry(speaker).or_default().insert(count);
    }
    assert!(
        by_speaker.values().all(|counts| counts.len() == 1),
        "{by_speaker:?}"
    );
}
