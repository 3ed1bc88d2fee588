//! The cost of a cluster: a room across two servers, compared with Redis alone; and a pair on one
//! server of a cluster, compared with a single server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::streams::StreamReadReply;

use super::engine::Redis;
use super::load::{Line, Program, STAMP, pair, quantile, text};
use super::scenarios::{Size, ping_pong};
use super::table::Row;

/// Logs in to a server and joins the room.
fn member(server: &Program, name: &str) -> Line {
    let mut line = Line::to(server.address);
    line.line_with("type='single'");
    line.send_lines(&format!(
        "<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>\n"
    ));
    line.line_with("WELCOME");
    line.send_lines("<CLIENT><command>JOIN</command><room>r</room><here/></CLIENT>\n");
    line.line_with("JOINED");
    line
}

fn message_line(number: usize) -> String {
    let text = text(number);
    format!("<CLIENT><command>SAY</command><room>r</room><message>{text}</message></CLIENT>\n")
}

fn delivered_line(number: usize) -> String {
    let text = text(number);
    format!(
        "<CLIENT from='alice' scope='room' room='r'{STAMP}><message>{text}</message></CLIENT>\n"
    )
}

const SENT: &str = "<SERVER><command>SENT</command><count>1</count></SERVER>\n";

/// Two servers on the same Redis, and one member of a room on each.
struct Across {
    alice: Line,
    bob: Line,
    _servers: [Program; 2],
}

impl Across {
    fn new(redis: &Redis) -> Across {
        // The servers of the previous round were killed, so their data is removed.
        redis.command("FLUSHALL");
        let server = |id: &str| {
            let url = redis.url();
            Program::server(&["--single-port", "--cluster", &url, "--cluster-id", id])
        };
        let servers = [server("one"), server("two")];
        let mut alice = member(&servers[0], "alice");
        // Redis replies to this command after it has processed alice's JOIN, so bob does not
        // receive that event.
        alice.send_lines("<CLIENT><command>WHO</command></CLIENT>\n");
        alice.line_with("WHO");
        let bob = member(&servers[1], "bob");
        alice.line_with("ROOM JOINED");
        Across {
            alice,
            bob,
            _servers: servers,
        }
    }
}

/// Measures Redis alone: one connection appends to a stream, another one blocks in a read from it.
fn bare(redis: &Redis, count: usize) -> Vec<Duration> {
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let (mut writer, mut reader) = (connect(), connect());
    let mut times = Vec::with_capacity(count);
    let mut reply = [0; 4096];
    for number in 1..=count {
        let wait = format!("XREAD BLOCK 0 STREAMS bare {}-0\r\n", number - 1);
        reader.write_all(wait.as_bytes()).unwrap();
        // The reader is usually blocked by then; if not, the read merely completes sooner.
        thread::yield_now();
        let begun = Instant::now();
        let add = format!("XADD bare {number}-0 t x\r\n");
        writer.write_all(add.as_bytes()).unwrap();
        assert!(reader.read(&mut reply).unwrap() > 0);
        times.push(begun.elapsed());
        assert!(writer.read(&mut reply).unwrap() > 0);
    }
    times.split_off(count / 10)
}

/// Measures the entries per second through Redis alone, one window at a time: one connection
/// appends them, another one reads them.
fn bare_rate(redis: &Redis, windows: usize, window: usize) -> f64 {
    let connect = || {
        let client = redis::Client::open(redis.url()).unwrap();
        client.get_connection().unwrap()
    };
    let (mut writer, mut reader) = (connect(), connect());
    let (all, text) = (windows * window, text(0));
    let read_so_far = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read_so_far);
    let begun = Instant::now();
    let reading = thread::spawn(move || {
        while count.load(Ordering::Acquire) < all {
            let last = format!("{}-0", count.load(Ordering::Acquire));
            let mut read = redis::cmd("XREAD");
            read.arg(&["COUNT", "1000", "BLOCK", "0", "STREAMS", "bare", &last]);
            let reply: StreamReadReply = read.query(&mut reader).unwrap();
            count.fetch_add(reply.keys[0].ids.len(), Ordering::AcqRel);
        }
    });
    for number in 0..windows {
        let mut adds = redis::pipe();
        for entry in number * window + 1..=(number + 1) * window {
            adds.cmd("XADD")
                .arg("bare")
                .arg(format!("{entry}-0"))
                .arg("t")
                .arg(&text);
        }
        let _: Vec<String> = adds.query(&mut writer).unwrap();
        let expected = (number + 1) * window;
        loop {
            let has_ended = reading.is_finished();
            if read_so_far.load(Ordering::Acquire) >= expected {
                break;
            }
            assert!(!has_ended, "not all arrived");
            thread::yield_now();
        }
    }
    reading.join().unwrap();
    all as f64 / begun.elapsed().as_secs_f64()
}

/// Measures the one-way latency of a room's message from one server to the other.
pub fn latency(size: Size) -> Vec<Row> {
    let Some(redis) = Redis::start() else {
        return Vec::new();
    };
    let count = size.of(100, 2_000, 10_000);
    let (mut ours, mut alone) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        redis.command("DEL bare");
        alone.push(quantile(&mut bare(&redis, count), 0.5));
        let mut across = Across::new(&redis);
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            let begun = Instant::now();
            across.alice.send(message_line(number).as_bytes());
            across.bob.expect(delivered_line(number).as_bytes());
            times.push(begun.elapsed());
            across.alice.expect(SENT.as_bytes());
        }
        ours.push(quantile(&mut times, 0.5));
    }
    let name = "room across two servers p50, one core, µs (limit: XADD)";
    vec![Row::new(name, ours, alone, "<= 150 µs")]
}

/// Measures the messages per second from one server to the other.
pub fn rate(size: Size) -> Vec<Row> {
    const WINDOW: usize = 200;
    let Some(redis) = Redis::start() else {
        return Vec::new();
    };
    let windows = size.of(2, 100, 500);
    let (mut ours, mut alone) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        redis.command("DEL bare");
        alone.push(bare_rate(&redis, windows, WINDOW));
        let mut across = Across::new(&redis);
        let begun = Instant::now();
        for window in 0..windows {
            let numbers = window * WINDOW..(window + 1) * WINDOW;
            let lines: String = numbers.clone().map(message_line).collect();
            across.alice.send(lines.as_bytes());
            for number in numbers {
                across.bob.expect(delivered_line(number).as_bytes());
            }
            for _ in 0..WINDOW {
                across.alice.expect(SENT.as_bytes());
            }
        }
        ours.push((windows * WINDOW) as f64 / begun.elapsed().as_secs_f64());
    }
    let name = "room across two servers, messages/s (limit: XADD)";
    vec![Row::new(name, ours, alone, ">= 20000")]
}

/// Measures two partners on one server of a cluster, compared with two on a single server.
pub fn pair_with_redis(size: Size) -> Vec<Row> {
    let Some(redis) = Redis::start() else {
        return Vec::new();
    };
    let count = size.of(200, 5_000, 20_000);
    let (mut ours, mut alone) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        let server = Program::server(&["--workers", "2"]);
        let mut times = ping_pong(&mut pair(&server), count, false);
        alone.push(quantile(&mut times, 0.5));
        let url = redis.url();
        let server = Program::server(&["--workers", "2", "--cluster", &url, "--cluster-id", "x"]);
        let mut times = ping_pong(&mut pair(&server), count, false);
        ours.push(quantile(&mut times, 0.5));
    }
    let name = "pair on one of several p50, one core, µs";
    vec![Row::new(name, ours, alone, "<= 1.03")]
}
