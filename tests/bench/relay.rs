//! How long a message takes from one client to its partner, against a bare relay of two threads
//! that copy bytes. Both run as processes of their own, in turns, so that what else the machine
//! does hits both.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const WARM_UP: usize = 500;
const EXCHANGES: usize = 5_000;
const TEXT_BYTES: usize = 64;
const LOGINS: usize = 200;
const LOGIN_ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "bare-relay") {
        return bare_relay();
    }
    // `cargo test --benches` only wants to know that it runs.
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let (rounds, exchanges) = if is_test {
        (1, 100)
    } else {
        (ROUNDS, EXCHANGES)
    };

    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(measure(exchanges, &mut start_bare()));
        ours.push(measure(exchanges, &mut start_server()));
    }
    println!(
        "one-way latency of {TEXT_BYTES}-byte texts, one in flight, {rounds} rounds of {exchanges} exchanges"
    );
    println!(
        "{:<14} {:>10} {:>10} {:>10} {:>10}",
        "", "p50", "least", "most", "p99"
    );
    print_row("bare relay", &bare);
    print_row("chatserver", &ours);
    let ratio = |of: fn(&Latency) -> f64| median(ours.iter().map(of)) / median(bare.iter().map(of));
    println!(
        "ratio: p50 {:.2}, p99 {:.2}",
        ratio(|l| l.p50),
        ratio(|l| l.p99)
    );
    measure_during_logins(
        if is_test { 4 } else { LOGINS },
        rounds.min(LOGIN_ROUNDS),
        exchanges,
    );
}

/// The same pair while a crowd registers, each a password to be hashed, against the pair alone.
fn measure_during_logins(logins: usize, rounds: usize, exchanges: usize) {
    let (mut idle, mut crowded) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let accounts =
            std::env::temp_dir().join(format!("portal-chat-bench-{}", std::process::id()));
        let path = accounts.display().to_string();
        let workers = (logins + 2).to_string();
        let options = [
            "--workers",
            &workers,
            "--accounts",
            &path,
            "--handshake-timeout",
            "20",
        ];
        let mut pair = start_server_with(&options);
        idle.push(measure(exchanges, &mut pair));
        let portal = pair.portal;
        let registering: Vec<_> = (0..logins)
            .map(|number| {
                let mut stream = take_seat(portal);
                thread::spawn(move || {
                    writeln!(
                        stream,
                        "<CLIENT><command>LOGIN</command><username>u{number}</username></CLIENT>"
                    )
                    .unwrap();
                    writeln!(
                        stream,
                        "<CLIENT><command>PASSWORD</command><password>x</password></CLIENT>"
                    )
                    .unwrap();
                    stream
                        .set_read_timeout(Some(Duration::from_secs(60)))
                        .unwrap();
                    let welcome = BufReader::new(&stream).lines().map_while(Result::ok);
                    welcome.into_iter().any(|line| line.contains("WELCOME"))
                })
            })
            .collect();
        // As long as somebody is still being hashed; the last exchanges may be after that.
        crowded.push(measure(exchanges, &mut pair));
        for registered in registering {
            assert!(registered.join().unwrap(), "a registration failed");
        }
        drop(pair);
        let lines = std::fs::read_to_string(&accounts).unwrap().lines().count();
        assert_eq!(lines, logins, "every account is in the file");
        std::fs::remove_file(&accounts).unwrap();
    }
    println!("\nthe same while {logins} people register at once, {rounds} rounds");
    println!(
        "{:<14} {:>10} {:>10} {:>10} {:>10}",
        "", "p50", "least", "most", "p99"
    );
    print_row("nobody else", &idle);
    print_row("registering", &crowded);
    let ratio =
        |of: fn(&Latency) -> f64| median(crowded.iter().map(of)) / median(idle.iter().map(of));
    println!(
        "ratio: p50 {:.2}, p99 {:.2}",
        ratio(|l| l.p50),
        ratio(|l| l.p99)
    );
}

struct Latency {
    p50: f64,
    p99: f64,
}

fn print_row(name: &str, rounds: &[Latency]) {
    let p50 = || rounds.iter().map(|latency| latency.p50);
    println!(
        "{name:<14} {:>7.1} µs {:>7.1} µs {:>7.1} µs {:>7.1} µs",
        median(p50()),
        p50().fold(f64::INFINITY, f64::min),
        p50().fold(0.0, f64::max),
        median(rounds.iter().map(|latency| latency.p99)),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two connected clients and the process between them.
struct Pair {
    child: Child,
    portal: SocketAddr,
    one: TcpStream,
    other: TcpStream,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a frame there and back again, `exchanges` times; half of each round trip counts.
fn measure(exchanges: usize, pair: &mut Pair) -> Latency {
    let frame = format!(
        "<CLIENT><message>{}</message></CLIENT>\n",
        "x".repeat(TEXT_BYTES)
    );
    let mut echo = BufReader::new(pair.other.try_clone().unwrap());
    let mut echo_out = pair.other.try_clone().unwrap();
    let answer = frame.clone();
    let echoing = thread::spawn(move || {
        let mut line = String::new();
        for _ in 0..WARM_UP + exchanges {
            line.clear();
            echo.read_line(&mut line).unwrap();
            assert!(line.contains("<message>xx"), "{line}");
            echo_out.write_all(answer.as_bytes()).unwrap();
        }
    });
    let mut lines = BufReader::new(pair.one.try_clone().unwrap());
    let mut line = String::new();
    let mut times = Vec::with_capacity(exchanges);
    for exchange in 0..WARM_UP + exchanges {
        let start = Instant::now();
        pair.one.write_all(frame.as_bytes()).unwrap();
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("<message>xx"), "{line}");
        if exchange >= WARM_UP {
            times.push(start.elapsed() / 2);
        }
    }
    echoing.join().unwrap();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    Latency {
        p50: at(0.5),
        p99: at(0.99),
    }
}

fn start_server() -> Pair {
    start_server_with(&["--workers", "2", "--no-passwords"])
}

fn start_server_with(options: &[&str]) -> Pair {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chatserver"))
        .args(["0", "--quiet"])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let portal: SocketAddr = first.split_whitespace().nth(1).unwrap().parse().unwrap();
    // One after the other, so that it is known who hears of whom.
    let one = take_seat(portal);
    read_lines(&one, 2);
    let other = take_seat(portal);
    read_lines(&other, 2);
    read_lines(&one, 1);
    Pair {
        child,
        portal,
        one,
        other,
    }
}

/// Asks the portal and says the passcode; what the worker answers is still to be read.
fn take_seat(portal: SocketAddr) -> TcpStream {
    let mut ticket = String::new();
    TcpStream::connect(portal)
        .unwrap()
        .read_to_string(&mut ticket)
        .unwrap();
    let part = |name: &str| {
        let rest = ticket.split(&format!("<{name}>")).nth(1).unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    let mut stream = connect(SocketAddr::new(portal.ip(), part("Port").parse().unwrap()));
    let passcode = part("HandshakePasscode");
    writeln!(
        stream,
        "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
    )
    .unwrap();
    stream
}

/// Passes over the welcome and who the partner is: byte by byte, so that nothing is read ahead.
fn read_lines(mut stream: &TcpStream, count: usize) {
    let mut lines = 0;
    let mut byte = [0];
    while lines < count {
        stream.read_exact(&mut byte).unwrap();
        lines += usize::from(byte[0] == b'\n');
    }
}

fn start_bare() -> Pair {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("bare-relay")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut address)
        .unwrap();
    let address: SocketAddr = address.trim().parse().unwrap();
    let (one, other) = (connect(address), connect(address));
    Pair {
        child,
        portal: address,
        one,
        other,
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// The limit: a thread for each direction that reads bytes and writes them.
fn bare_relay() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (one, other) = (listener.accept().unwrap().0, listener.accept().unwrap().0);
    one.set_nodelay(true).unwrap();
    other.set_nodelay(true).unwrap();
    let copy = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from, to);
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
    };
    thread::scope(|threads| {
        threads.spawn(|| copy(&one, &other));
        copy(&other, &one);
    });
}
