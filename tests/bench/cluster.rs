//! What it costs to be one of several servers: a room across two of them, against the engine alone;
//! and a pair on one server that has others, against one that has none.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::streams::StreamReadReply;

use super::engine::Redis;
use super::load::{Line, Program, pair, quantile, text};
use super::scenarios::{Size, ping_pong};
use super::table::Row;

/// Somebody in the room, on that server.
fn member(server: &Program, name: &str) -> Line {
    let mut line = Line::to(server.address);
    line.line_with("type='single'");
    line.say_lines(&format!(
        "<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>\n"
    ));
    line.line_with("WELCOME");
    line.say_lines("<CLIENT><command>JOIN</command><room>r</room><here/></CLIENT>\n");
    line.line_with("JOINED");
    line
}

fn said(number: usize) -> String {
    let text = text(number);
    format!("<CLIENT><command>SAY</command><room>r</room><message>{text}</message></CLIENT>\n")
}

fn heard(number: usize) -> String {
    let text = text(number);
    format!("<CLIENT from='alice' scope='room' room='r'><message>{text}</message></CLIENT>\n")
}

const SENT: &str = "<SERVER><command>SENT</command><count>1</count></SERVER>\n";

/// Two servers on the same engine, and a member of one room on each.
struct Across {
    alice: Line,
    bob: Line,
    _servers: [Program; 2],
}

impl Across {
    fn new(redis: &Redis) -> Across {
        // The servers of the round before were killed: nothing of theirs may be in the way.
        redis.command("FLUSHALL");
        let server = |id: &str| {
            let url = redis.url();
            Program::server(&["--single-port", "--cluster", &url, "--cluster-id", id])
        };
        let servers = [server("one"), server("two")];
        let mut alice = member(&servers[0], "alice");
        // The engine answers this after it has heard that she is in the room: bob does not hear of
        // it after he has come in.
        alice.say_lines("<CLIENT><command>WHO</command></CLIENT>\n");
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

/// What the engine takes alone: one connection appends to a stream, another one is blocked in a
/// read of it.
fn bare(redis: &Redis, count: usize) -> Vec<Duration> {
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let (mut writer, mut reader) = (connect(), connect());
    let mut times = Vec::with_capacity(count);
    let mut answer = [0; 4096];
    for number in 1..=count {
        let wait = format!("XREAD BLOCK 0 STREAMS bare {}-0\r\n", number - 1);
        reader.write_all(wait.as_bytes()).unwrap();
        // It is blocked by then, most of the time; if not, it is only quicker.
        thread::yield_now();
        let begun = Instant::now();
        let add = format!("XADD bare {number}-0 t x\r\n");
        writer.write_all(add.as_bytes()).unwrap();
        assert!(reader.read(&mut answer).unwrap() > 0);
        times.push(begun.elapsed());
        assert!(writer.read(&mut answer).unwrap() > 0);
    }
    times.split_off(count / 10)
}

/// How many entries a second go through the engine alone, a window of them at a time: one
/// connection appends them, another one reads them.
fn bare_rate(redis: &Redis, windows: usize, window: usize) -> f64 {
    let connect = || {
        let client = redis::Client::open(redis.url()).unwrap();
        client.get_connection().unwrap()
    };
    let (mut writer, mut reader) = (connect(), connect());
    let (all, text) = (windows * window, text(0));
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
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
        while heard.load(Ordering::Acquire) < (number + 1) * window {
            thread::yield_now();
        }
    }
    reading.join().unwrap();
    all as f64 / begun.elapsed().as_secs_f64()
}

/// One way of a message in a room, from one server to the other.
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
            across.alice.say(said(number).as_bytes());
            across.bob.expect(heard(number).as_bytes());
            times.push(begun.elapsed());
            across.alice.expect(SENT.as_bytes());
        }
        ours.push(quantile(&mut times, 0.5));
    }
    let name = "room across two servers p50, one core, µs (limit: XADD)";
    vec![Row::new(name, ours, alone, "<= 150 µs")]
}

/// How many messages a second go from one server to the other.
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
            let lines: String = numbers.clone().map(said).collect();
            across.alice.say(lines.as_bytes());
            for number in numbers {
                across.bob.expect(heard(number).as_bytes());
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

/// Two who sit beside each other, on a server that has others.
pub fn pair_beside_an_engine(size: Size) -> Vec<Row> {
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
