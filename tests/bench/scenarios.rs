//! The scenarios. Each one measures our server and the limit alternately, and returns its rows.

use std::io::Write as _;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use super::load::Secret;
use super::load::{
    Line, Program, STAMP, SetOnDrop, crowd, frames, mixed_crowd, pair, pair_of_browsers, quantile,
    take_seat, text, ticket_by_tcp, ticket_by_udp,
};
use super::table::Row;

/// The amount of load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Only checks that everything runs.
    Trial,
    /// All scenarios in under a minute.
    Quick,
    Full,
}

impl Size {
    pub fn word(self) -> &'static str {
        match self {
            Size::Trial => "trial",
            Size::Quick => "quick",
            Size::Full => "full",
        }
    }

    pub fn from_word(word: &str) -> Size {
        match word {
            "trial" => Size::Trial,
            "quick" => Size::Quick,
            _ => Size::Full,
        }
    }

    /// Chooses one of three numbers.
    pub(super) fn of(self, trial: usize, quick: usize, full: usize) -> usize {
        match self {
            Size::Trial => trial,
            Size::Quick => quick,
            Size::Full => full,
        }
    }

    pub(super) fn rounds(self) -> usize {
        self.of(1, 3, 7)
    }
}

pub struct Scenario {
    pub name: &'static str,
    /// True if the server and the load are pinned to one core, so that a wake-up is only a context
    /// switch.
    pub on_one_core: bool,
    pub run: fn(Size) -> Vec<Row>,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pair-latency",
        on_one_core: true,
        run: pair_latency,
    },
    Scenario {
        name: "pair-throughput",
        on_one_core: false,
        run: pair_throughput,
    },
    Scenario {
        name: "fan-out",
        on_one_core: false,
        run: fan_out,
    },
    Scenario {
        name: "crowd",
        on_one_core: false,
        run: all_sending,
    },
    Scenario {
        name: "visits",
        on_one_core: false,
        run: visits,
    },
    Scenario {
        name: "many",
        on_one_core: true,
        run: many_seated,
    },
    Scenario {
        name: "not-reading",
        on_one_core: false,
        run: some_do_not_read,
    },
    Scenario {
        name: "board",
        on_one_core: true,
        run: watched,
    },
    Scenario {
        name: "web-latency",
        on_one_core: true,
        run: web_latency,
    },
    Scenario {
        name: "web-fan-out",
        on_one_core: false,
        run: web_fan_out,
    },
    #[cfg(feature = "tls")]
    Scenario {
        name: "tls-latency",
        on_one_core: true,
        run: tls_latency,
    },
    #[cfg(feature = "tls")]
    Scenario {
        name: "tls-fan-out",
        on_one_core: false,
        run: tls_fan_out,
    },
    #[cfg(feature = "tls")]
    Scenario {
        name: "tls-harassed",
        on_one_core: false,
        run: tls_harassed,
    },
    #[cfg(feature = "tls")]
    Scenario {
        name: "tls-many",
        on_one_core: true,
        run: tls_many,
    },
    #[cfg(feature = "cluster")]
    Scenario {
        name: "cluster-latency",
        // As for the pairs' latency: five threads wake each other, and in a virtual machine, waking
        // another core takes longer than all their work.
        on_one_core: true,
        run: super::cluster::latency,
    },
    #[cfg(feature = "cluster")]
    Scenario {
        name: "cluster-rate",
        on_one_core: false,
        run: super::cluster::rate,
    },
    #[cfg(feature = "cluster")]
    Scenario {
        name: "cluster-pair",
        on_one_core: true,
        run: super::cluster::pair_with_redis,
    },
    #[cfg(feature = "journal")]
    Scenario {
        name: "journal-chat",
        on_one_core: false,
        run: super::journal::chat,
    },
    #[cfg(feature = "journal")]
    Scenario {
        name: "journal-old",
        on_one_core: false,
        run: super::journal::old_messages,
    },
    Scenario {
        name: "fairness",
        on_one_core: false,
        run: fairness,
    },
];

fn message_line(number: usize) -> String {
    format!("<CLIENT><message>{}</message></CLIENT>\n", text(number))
}

fn delivered_line(from: &str, number: usize) -> String {
    format!(
        "<CLIENT from='{from}'><message>{}</message></CLIENT>\n",
        text(number)
    )
}

/// Sends one message at a time, in alternating directions. Returns the one-way times.
pub(super) fn ping_pong(pair: &mut [(Line, String); 2], count: usize, bare: bool) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let (speaker, listener) = (number % 2, 1 - number % 2);
        let message = message_line(number);
        let expected = if bare {
            message.clone()
        } else {
            delivered_line(&pair[speaker].1, number)
        };
        let (message, expected) = (
            pair[speaker].0.encode_sent(&message),
            pair[listener].0.encode_received(&expected),
        );
        let begun = Instant::now();
        pair[speaker].0.send(&message);
        pair[listener].0.expect(&expected);
        times.push(begun.elapsed());
    }
    times.split_off(count / 10)
}

fn bare_pair(program: &Program) -> [(Line, String); 2] {
    // The second one connects after the first one has been accepted, so that they are a pair.
    let one = Line::to(program.address);
    let other = Line::to(program.address);
    [(one, String::new()), (other, String::new())]
}

fn pair_latency(size: Size) -> Vec<Row> {
    let count = size.of(200, 5_000, 20_000);
    let (mut ours, mut bare) = ([vec![], vec![]], [vec![], vec![]]);
    let mut cpu = Vec::new();
    for _ in 0..size.rounds() {
        let program = Program::bare("relay");
        let mut times = ping_pong(&mut bare_pair(&program), count, true);
        bare[0].push(quantile(&mut times, 0.5));
        bare[1].push(quantile(&mut times, 0.99));
        let server = Program::server(&["--workers", "2"]);
        let mut seated = pair(&server);
        let before = server.cpu();
        let mut times = ping_pong(&mut seated, count, false);
        cpu.push((server.cpu() - before).as_secs_f64() * 1e6 / count as f64);
        ours[0].push(quantile(&mut times, 0.5));
        ours[1].push(quantile(&mut times, 0.99));
    }
    let ([p50, p99], [bare50, bare99]) = (ours, bare);
    vec![
        Row::new("pair latency p50, one core, µs", p50, bare50, "<= 1.10")
            .with_cpu(super::table::median(&cpu)),
        Row::new("pair latency p99, one core, µs", p99, bare99, "<= 1.3"),
    ]
}

/// Two browsers, compared with the bare relay of bytes.
fn web_latency(size: Size) -> Vec<Row> {
    let count = size.of(200, 5_000, 20_000);
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        let program = Program::bare("relay");
        let mut times = ping_pong(&mut bare_pair(&program), count, true);
        bare.push(quantile(&mut times, 0.5));
        let server = Program::server(&["--workers", "2", "--web", "127.0.0.1:0"]);
        let mut times = ping_pong(&mut pair_of_browsers(&server), count, false);
        ours.push(quantile(&mut times, 0.5));
    }
    let name = "pair in browsers p50, one core, µs";
    vec![Row::new(name, ours, bare, "<= 1.10")]
}

/// Two clients over TLS, compared with the bare relay of bytes.
#[cfg(feature = "tls")]
fn tls_latency(size: Size) -> Vec<Row> {
    let count = size.of(200, 5_000, 20_000);
    let secret = Secret::make();
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        let program = Program::bare("relay");
        let mut times = ping_pong(&mut bare_pair(&program), count, true);
        bare.push(quantile(&mut times, 0.5));
        let server = secret.server(&["--workers", "2"]);
        let mut times = ping_pong(&mut secret.pair(&server), count, false);
        ours.push(quantile(&mut times, 0.5));
    }
    let name = "pair over TLS p50, one core, µs";
    vec![Row::new(name, ours, bare, "<= 1.35")]
}

/// A crowd over TLS, compared with one without TLS.
#[cfg(feature = "tls")]
fn tls_fan_out(size: Size) -> Vec<Row> {
    let members = size.of(10, 500, 500);
    let windows = size.of(3, 100, 300);
    let secret = Secret::make();
    let (mut ours, mut plain) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        let seats = members.to_string();
        let server = Program::server(&["--workers", &seats]);
        plain.push(spread_out(&mut crowd(&server, members), 1, windows, false));
        let server = secret.server(&["--workers", &seats]);
        ours.push(spread_out(
            &mut secret.crowd(&server, members),
            1,
            windows,
            false,
        ));
    }
    let name = format!("{members} members over TLS, deliveries/s");
    vec![Row::new(&name, ours, plain, "reported")]
}

/// Two clients over TLS, compared with the same two on a quiet server. A third client updates its
/// keys continuously, one byte at a time, and starts handshakes that never finish; a fourth sends
/// requests continuously and never reads.
#[cfg(feature = "tls")]
fn tls_harassed(size: Size) -> Vec<Row> {
    let count = size.of(200, 5_000, 20_000);
    let secret = Secret::make();
    let (mut ours, mut alone) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        let server = secret.server(&["--workers", "4"]);
        let mut pair = secret.pair(&server);
        alone.push(quantile(&mut ping_pong(&mut pair, count, false), 0.99));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let _end = SetOnDrop(&is_over);
            threads.spawn(|| secret.harass(server.address, &is_over));
            threads.spawn(|| secret.never_read(server.address, &is_over));
            ours.push(quantile(&mut ping_pong(&mut pair, count, false), 0.99));
        });
    }
    let name = "pair over TLS alongside two harassers, p99, µs";
    vec![Row::new(name, ours, alone, "<= 1.5")]
}

/// The memory of a thousand seated clients over TLS.
#[cfg(feature = "tls")]
fn tls_many(size: Size) -> Vec<Row> {
    let members = size.of(10, 1_000, 1_000);
    let secret = Secret::make();
    let (mut ours, mut plain) = (vec![], vec![]);
    for _ in 0..size.of(1, 1, 3) {
        let seats = members.to_string();
        for (each, secured) in [(&mut plain, false), (&mut ours, true)] {
            let server = match secured {
                true => secret.server(&["--workers", &seats]),
                false => Program::server(&["--workers", &seats]),
            };
            let before = server.resident_kib();
            let there: Vec<Line> = match secured {
                true => secret.crowd(&server, members),
                false => crowd(&server, members),
            };
            each.push((server.resident_kib() - before) / there.len() as f64);
        }
    }
    let name = format!("{members} seated over TLS, KiB each");
    vec![Row::new(&name, ours, plain, "<= 48 KiB")]
}

/// A crowd in which every second client is a browser, compared with one without browsers.
fn web_fan_out(size: Size) -> Vec<Row> {
    let members = size.of(10, 500, 500);
    let windows = size.of(3, 100, 300);
    let (mut half, mut none) = (vec![], vec![]);
    for _ in 0..size.rounds() {
        for (rates, is_browser) in [(&mut none, false), (&mut half, true)] {
            let seats = members.to_string();
            let server = Program::server(&["--workers", &seats, "--web", "127.0.0.1:0"]);
            let mut there = mixed_crowd(&server, members, |number| is_browser && number % 2 == 1);
            rates.push(spread_out(&mut there, 1, windows, false));
        }
    }
    let name = format!("{members} members, half in browsers, deliveries/s");
    vec![Row::new(&name, half, none, ">= 0.9")]
}

/// Sends windows of 64 messages in one direction. Returns messages per second.
fn stream(pairs: &mut [[(Line, String); 2]], windows: usize, bare: bool) -> f64 {
    const WINDOW: usize = 64;
    let begun = Instant::now();
    for window in 0..windows {
        let first = window * WINDOW;
        let batch: String = (first..first + WINDOW).map(message_line).collect();
        for pair in pairs.iter_mut() {
            pair[0].0.send(batch.as_bytes());
        }
        for pair in pairs.iter_mut() {
            if bare {
                pair[1].0.expect(batch.as_bytes());
            } else {
                let from = &pair[0].1;
                let expected: String = (first..first + WINDOW)
                    .map(|n| delivered_line(from, n))
                    .collect();
                pair[1].0.expect(expected.as_bytes());
            }
        }
    }
    (windows * WINDOW * pairs.len()) as f64 / begun.elapsed().as_secs_f64()
}

fn pair_throughput(size: Size) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pairs, target) in [(1, ">= 0.65"), (16, ">= 900k")] {
        let windows = (size.of(10, 1_000, 4_000) / pairs).max(2);
        let (mut ours, mut bare, mut cpu) = (vec![], vec![], vec![]);
        for _ in 0..size.rounds() {
            let program = Program::bare("relay");
            let mut there: Vec<_> = (0..pairs).map(|_| bare_pair(&program)).collect();
            bare.push(stream(&mut there, windows, true));
            let server = Program::server(&["--workers", &(2 * pairs).to_string()]);
            let mut there: Vec<_> = (0..pairs).map(|_| pair(&server)).collect();
            let before = server.cpu();
            ours.push(stream(&mut there, windows, false));
            let messages = (windows * 64 * pairs) as f64;
            cpu.push((server.cpu() - before).as_secs_f64() * 1e6 / messages);
        }
        let name = format!("{pairs} pair(s), window 64, messages/s");
        rows.push(Row::new(&name, ours, bare, target).with_cpu(super::table::median(&cpu)));
    }
    rows
}

fn public(number: usize) -> String {
    format!(
        "<CLIENT><command>PM</command><message>{}</message></CLIENT>\n",
        text(number)
    )
}

fn public_delivered(from: usize, number: usize) -> String {
    format!(
        "<CLIENT from='m{from:04}' scope='public'{STAMP}><message>{}</message></CLIENT>\n",
        text(number)
    )
}

/// Sends windows of messages from the first member to all others. Returns deliveries per second.
pub(super) fn spread_out(members: &mut [Line], window: usize, windows: usize, bare: bool) -> f64 {
    let others = members.len() - 1;
    let sent = format!("<SERVER><command>SENT</command><count>{others}</count></SERVER>\n");
    let begun = Instant::now();
    for turn in 0..windows {
        let numbers = turn * window..(turn + 1) * window;
        let delivered: String = numbers.clone().map(|n| public_delivered(0, n)).collect();
        let (speaker, listeners) = members.split_first_mut().unwrap();
        if bare {
            // The bare program forwards its input, so its input is our server's output.
            speaker.send(delivered.as_bytes());
        } else {
            let message_line: String = numbers.map(public).collect();
            speaker.send_lines(&message_line);
        }
        // Encode the frames once, so that the load is the same for both kinds.
        let in_frames = frames(&delivered);
        for listener in listeners {
            match listener.is_web() {
                true => listener.expect(&in_frames),
                false => listener.expect(delivered.as_bytes()),
            }
        }
        if !bare {
            speaker.expect_lines(&sent.repeat(window));
        }
    }
    (windows * window * others) as f64 / begun.elapsed().as_secs_f64()
}

fn fan_out(size: Size) -> Vec<Row> {
    let members = size.of(10, 500, 500);
    let mut rows = Vec::new();
    for (window, bare, target) in [
        (1, "fan-out", ">= 0.95"),
        (16, "fan-out-together", ">= 1.0"),
    ] {
        let windows = size.of(3, 100, 300);
        let (mut ours, mut limit) = (vec![], vec![]);
        for _ in 0..size.rounds() {
            let program = Program::bare(bare);
            let mut there = accepted(&program, members);
            limit.push(spread_out(&mut there, window, windows, true));
            let server = Program::server(&["--workers", &members.to_string()]);
            let mut there = crowd(&server, members);
            ours.push(spread_out(&mut there, window, windows, false));
        }
        let name = format!("{members} members, window {window}, deliveries/s");
        rows.push(Row::new(&name, ours, limit, target));
    }
    rows
}

/// All members send, each with one message in flight.
/// Lets every member send `messages` messages to all others. Returns the deliveries per second, and
/// the 99th percentile of their times in milliseconds.
pub(super) fn all_send(there: Vec<Line>, messages: usize, bare: bool) -> (f64, f64) {
    let members = there.len();
    let epoch = Instant::now();
    let times: Vec<Vec<Duration>> = std::thread::scope(|threads| {
        let senders: Vec<_> = there
            .into_iter()
            .enumerate()
            .map(|(me, line)| {
                let talk = move || talk(line, me, members, messages, epoch, bare);
                threads.spawn(talk)
            })
            .collect();
        senders.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let took = epoch.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    let tail = quantile(&mut times, 0.99) / 1000.0;
    (times.len() as f64 / took, tail)
}

fn all_sending(size: Size) -> Vec<Row> {
    let members = size.of(6, 50, 50);
    let messages = size.of(20, 300, 1_500);
    let (mut rates, mut tails): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    for _ in 0..size.rounds() {
        for bare in [true, false] {
            let (_program, there) = if bare {
                let program = Program::bare("mailboxes");
                let there = accepted(&program, members);
                (program, there)
            } else {
                let server = Program::server(&["--workers", &members.to_string()]);
                let there = crowd(&server, members);
                (server, there)
            };
            let (rate, tail) = all_send(there, messages, bare);
            rates[usize::from(bare)].push(rate);
            tails[usize::from(bare)].push(tail);
        }
    }
    let ([rate, bare_rate], [tail, bare_tail]) = (rates, tails);
    let name = |what: &str| format!("{members} all talking, {what}");
    vec![
        Row::new(&name("deliveries/s"), rate, bare_rate, ">= 1800k"),
        Row::new(&name("p99, ms"), tail, bare_tail, "< 4"),
    ]
}

/// Opens `count` connections to a bare program, and waits until it has accepted them.
fn accepted(program: &Program, count: usize) -> Vec<Line> {
    let there = (0..count).map(|_| Line::to(program.address)).collect();
    std::thread::sleep(Duration::from_millis(100));
    there
}

/// Runs one member: it sends the next message once the last one is confirmed, and receives the
/// messages from all others. Returns their delivery times. A bare program confirms a message by
/// sending it back.
fn talk(
    mut line: Line,
    me: usize,
    members: usize,
    messages: usize,
    epoch: Instant,
    bare: bool,
) -> Vec<Duration> {
    const BEFORE_NAME: &[u8] = b"<CLIENT from='m";
    let before_text = format!("<CLIENT from='m0000' scope='public'{STAMP}><message>");
    let mut times = Vec::with_capacity((members - 1) * messages);
    let mut next = vec![0; members];
    let (mut confirmed, mut delivered_line) = (0, 0);
    let message = |number: usize, line: &mut Line| {
        let now = epoch.elapsed().as_nanos();
        let text = format!("{number:08} {now:015} the quick brown fox jumps over the lazy");
        let frame = if bare {
            format!(
                "<CLIENT from='m{me:04}' scope='public'{STAMP}><message>{text}</message></CLIENT>\n"
            )
        } else {
            format!("<CLIENT><command>PM</command><message>{text}</message></CLIENT>\n")
        };
        line.send(frame.as_bytes());
    };
    let number = |digits: &[u8]| {
        let digits = digits.iter().map(|&digit| {
            assert!(digit.is_ascii_digit());
            u64::from(digit - b'0')
        });
        digits.fold(0, |number, digit| 10 * number + digit)
    };
    message(0, &mut line);
    while confirmed < messages || delivered_line < (members - 1) * messages {
        let line_bytes = line.line();
        let is_confirmed = if line_bytes.starts_with(BEFORE_NAME) {
            let from = number(&line_bytes[BEFORE_NAME.len()..][..4]) as usize;
            let text = &line_bytes[before_text.len()..];
            let message_line = number(&text[..8]);
            assert_eq!(
                message_line, next[from],
                "m{me} received m{from} out of order"
            );
            assert!(text.ends_with(b" the quick brown fox jumps over the lazy</message></CLIENT>"));
            next[from] += 1;
            if from != me {
                let then = Duration::from_nanos(number(&text[9..24]));
                times.push(epoch.elapsed().saturating_sub(then));
                delivered_line += 1;
            }
            from == me
        } else {
            let text = String::from_utf8_lossy(line_bytes);
            // Some members finish and leave before others.
            assert!(
                text.contains("SENT") || text.contains("PARTNER LEFT"),
                "{text}"
            );
            text.contains("SENT")
        };
        if is_confirmed {
            confirmed += 1;
            if confirmed < messages {
                message(confirmed, &mut line);
            }
        }
    }
    times
}

const TERMINATE: &str = "<CLIENT><command>TERMINATE</command></CLIENT>\n";

/// Runs one full visit: portal, worker, passcode, one message, TERMINATE.
fn visit(server: &Program, by_udp: Option<&UdpSocket>) {
    let ticket = match by_udp {
        Some(socket) => ticket_by_udp(socket),
        None => ticket_by_tcp(server.address),
    };
    assert!(ticket.contains("<Port>"), "refused: {ticket}");
    let (mut line, _) = take_seat(server.address, &ticket);
    // Behaves like a program that sends one message and leaves: the reply arrives before the
    // connection is closed.
    line.send(format!("{}{TERMINATE}", message_line(1)).as_bytes());
    line.line_with("<SERVER><command>NO PARTNER</command></SERVER>");
    line.rest();
}

fn visits(size: Size) -> Vec<Row> {
    let count = size.of(5, 300, 1_000);
    let rate = |visit: &dyn Fn()| {
        let begun = Instant::now();
        (0..count).for_each(|_| visit());
        count as f64 / begun.elapsed().as_secs_f64()
    };
    let by_tcp = |program: &Program| rate(&|| visit(program, None));
    let by_udp = |program: &Program| {
        rate(&|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(program.address).unwrap();
            visit(program, Some(&socket));
        })
    };
    let (mut ours, mut steps): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    let (mut echo, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds() {
        let program = Program::bare("echo");
        echo.push(rate(&|| {
            let mut line = Line::to(program.address);
            line.send(message_line(1).as_bytes());
            line.expect(message_line(1).as_bytes());
            line.rest();
        }));
        let program = Program::bare("steps");
        steps[0].push(by_tcp(&program));
        steps[1].push(by_udp(&program));
        // One client per pair, so that each message gets a reply.
        let server = Program::server(&["--workers", "16"]);
        ours[0].push(by_tcp(&server));
        ours[1].push(by_udp(&server));
        tails.push(many_visits(size));
    }
    let ([by_tcp, by_udp], [steps_tcp, steps_udp]) = (ours, steps);
    let row = |name: &str, ours: &[f64], limit: Vec<f64>, target| {
        Row::new(name, ours.to_vec(), limit, target)
    };
    vec![
        row(
            "full visits, TCP / bare echo, visits/s",
            &by_tcp,
            echo.clone(),
            ">= 0.5",
        ),
        row(
            "full visits, UDP / bare echo, visits/s",
            &by_udp,
            echo,
            ">= 0.75",
        ),
        row(
            "full visits, TCP / their bare steps",
            &by_tcp,
            steps_tcp,
            "",
        ),
        row(
            "full visits, UDP / their bare steps",
            &by_udp,
            steps_udp,
            "",
        ),
        row("64 visits at once, p99, ms", &tails, vec![], "< 25"),
    ]
}

/// Runs sixty-four visits at a time. Returns the 99th percentile of their times, in milliseconds.
fn many_visits(size: Size) -> f64 {
    let (at_once, each) = (size.of(4, 64, 64), size.of(2, 10, 20));
    let server = Program::server(&["--workers", "512"]);
    let times = std::thread::scope(|threads| {
        let visitors: Vec<_> = (0..at_once)
            .map(|_| {
                threads.spawn(|| {
                    let one = |_| {
                        let begun = Instant::now();
                        let ticket = ticket_by_tcp(server.address);
                        assert!(ticket.contains("<Port>"), "refused");
                        let (mut line, _) = take_seat(server.address, &ticket);
                        line.send(message_line(1).as_bytes());
                        line.send(TERMINATE.as_bytes());
                        line.rest();
                        let took = begun.elapsed();
                        assert!(
                            matches!(size, Size::Trial) || took < Duration::from_secs(1),
                            "took over a second: {took:?}"
                        );
                        took
                    };
                    (0..each).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        let times = visitors
            .into_iter()
            .flat_map(|visitor| visitor.join().unwrap());
        times.collect::<Vec<Duration>>()
    });
    let mut times = times;
    quantile(&mut times, 0.99) / 1000.0
}

fn many_seated(size: Size) -> Vec<Row> {
    let count = size.of(10, 1_000, 8_000);
    let server = Program::server(&["--workers", &count.to_string(), "--idle-timeout", "0"]);
    let start_up = server.start_up.as_secs_f64();
    let mut seated: Vec<(Line, String)> = (0..count)
        .map(|_| take_seat(server.address, &ticket_by_tcp(server.address)))
        .collect();
    for (line, _) in &mut seated {
        line.send(b"<CLIENT><command>PING</command></CLIENT>\n");
        line.line_with("PONG");
    }
    let each = server.resident_kib() / count as f64;
    let seconds = size.of(0, 3, 10) as u64;
    let before = server.cpu();
    std::thread::sleep(Duration::from_secs(seconds));
    let idle = (server.cpu() - before).as_secs_f64() / seconds.max(1) as f64 * 100.0;

    let exchanges = size.of(50, 3_000, 10_000);
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    let mut first: Vec<(Line, String)> = seated.drain(..2).collect();
    let other = first.pop().unwrap();
    let mut among_many = [first.pop().unwrap(), other];
    for _ in 0..size.rounds() {
        let two = Program::server(&["--workers", "2"]);
        let mut times = ping_pong(&mut pair(&two), exchanges, false);
        alone.push(quantile(&mut times, 0.5));
        let mut times = ping_pong(&mut among_many, exchanges, false);
        ours.push(quantile(&mut times, 0.5));
    }
    vec![
        Row::new(
            &format!("{count} workers, start-up, s"),
            vec![start_up],
            vec![],
            "< 5",
        ),
        Row::new(
            &format!("{count} seated, KiB each"),
            vec![each],
            vec![],
            "<= 32",
        ),
        Row::new(
            &format!("{count} seated, idle, % of a core"),
            vec![idle],
            vec![],
            "< 1",
        ),
        Row::new(
            &format!("pair p50 among {count} / 2, µs"),
            ours,
            alone,
            "<= 1.1",
        ),
    ]
}

/// One member sends to 500, some of which do not read. Measures the delivery times to the others.
fn some_do_not_read(size: Size) -> Vec<Row> {
    let members = size.of(20, 500, 500);
    let not_reading = members / 20;
    let messages = size.of(10, 200, 1_000);
    let (mut tails, mut all_reading) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds() {
        for (results, not_reading) in [(&mut all_reading, 0), (&mut tails, not_reading)] {
            let server = Program::server(&["--workers", &members.to_string()]);
            let mut there = crowd(&server, members);
            let mut times = Vec::with_capacity(members * messages);
            for number in 0..messages {
                let long = "x".repeat(2000);
                let begun = Instant::now();
                let (speaker, listeners) = there.split_first_mut().unwrap();
                let frame = format!(
                    "<CLIENT><command>PM</command><message>{number}{long}</message></CLIENT>\n"
                );
                speaker.send(frame.as_bytes());
                let expected = format!(
                    "<CLIENT from='m0000' scope='public'{STAMP}><message>{number}{long}</message></CLIENT>\n"
                );
                let reading = listeners.len() - not_reading;
                for listener in &mut listeners[..reading] {
                    listener.expect(expected.as_bytes());
                    times.push(begun.elapsed());
                }
                speaker.line_with("SENT");
            }
            results.push(quantile(&mut times, 0.99));
        }
    }
    vec![Row::new(
        &format!("p99 with {not_reading} of {members} not reading / all, µs"),
        tails,
        all_reading,
        "<= 1.2",
    )]
}

/// A pair and a crowd, with and without a board that a viewer watches.
fn watched(size: Size) -> Vec<Row> {
    let exchanges = size.of(100, 5_000, 20_000);
    let members = size.of(10, 500, 500);
    let windows = size.of(3, 60, 200);
    // The medians and tails of a pair, and the deliveries of a fan-out: with the board, and
    // without.
    let mut figures: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..size.rounds() {
        for (with, figures) in figures.iter_mut().enumerate() {
            let (server, _watching) = board(with == 0, 2);
            let mut times = ping_pong(&mut pair(&server), exchanges, false);
            figures[0].push(quantile(&mut times, 0.5));
            figures[1].push(quantile(&mut times, 0.99));
            let (server, _watching) = board(with == 0, members);
            let mut there = crowd(&server, members);
            // Neither the crowd's arrival nor the board's work for it is measured.
            std::thread::sleep(Duration::from_millis(500));
            figures[2].push(spread_out(&mut there, 1, windows, false));
        }
    }
    let [with, without] = figures;
    let names = [
        ("pair p50, board watched / not, one core, µs", "<= 1.05"),
        ("pair p99, board watched / not, one core, µs", ""),
        ("500 members, board watched / not, deliveries/s", ">= 0.95"),
    ];
    let rows = names.iter().zip(with.into_iter().zip(without));
    rows.map(|((name, target), (with, without))| Row::new(name, with, without, target))
        .collect()
}

/// Starts a server, with a board and a viewer if `is_watched`. The viewer reads everything.
fn board(is_watched: bool, workers: usize) -> (Program, Option<std::net::TcpStream>) {
    let workers = workers.to_string();
    let mut options = vec!["--workers", &workers];
    if is_watched {
        options.extend(["--board=127.0.0.1:0", "--show-messages"]);
    }
    let server = Program::server(&options);
    let watching = server.board().map(|address| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reading = stream.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
        stream
    });
    assert_eq!(watching.is_some(), is_watched);
    (server, watching)
}

/// A pair's latency alongside a client that takes more than its share, compared with the pair
/// alone.
fn fairness(size: Size) -> Vec<Row> {
    let count = size.of(200, 3_000, 10_000);
    let names = [
        "a thousand messages per second",
        "a full socket",
        "a stuck room",
    ];
    let mut beside: [Vec<f64>; 3] = Default::default();
    let mut alone: [Vec<f64>; 3] = Default::default();
    for _ in 0..size.rounds() {
        for kind in 0..names.len() {
            // A greedy client's port may still be in use when its flood ends. On the same server,
            // the next client's ports might then not be partners.
            let server = Program::server(&["--workers", "8"]);
            let mut honest = pair(&server);
            let mut times = ping_pong(&mut honest, count, false);
            alone[kind].push(quantile(&mut times, 0.99));
            let stop = AtomicBool::new(false);
            let floods = AtomicUsize::new(0);
            std::thread::scope(|threads| {
                let _end = SetOnDrop(&stop);
                let (stop, floods, server) = (&stop, &floods, &server);
                let flood = threads.spawn(move || greedy(kind, server, stop, floods));
                // The flood has begun after its first message.
                while floods.load(Ordering::Acquire) == 0 {
                    assert!(!flood.is_finished(), "{} ended", names[kind]);
                    std::thread::yield_now();
                }
                let mut times = ping_pong(&mut honest, count, false);
                beside[kind].push(quantile(&mut times, 0.99));
            });
        }
    }
    let rows = names.iter().zip(beside.into_iter().zip(alone));
    let rows = rows.map(|(name, (beside, alone))| {
        Row::new(
            &format!("pair p99 alongside {name}, µs"),
            beside,
            alone,
            "<= 1.5",
        )
    });
    rows.collect()
}

/// Uses more than its fair share of the server until `stop` is set.
fn greedy(kind: usize, server: &Program, stop: &AtomicBool, floods: &AtomicUsize) {
    let seat = || take_seat(server.address, &ticket_by_tcp(server.address)).0;
    let (mut speaker, mut listener) = (seat(), seat());
    listener.line_with("PARTNER JOINED");
    let mut number = 0;
    let mut flood = |stream: &mut Line, frame: &str, pause: Duration| {
        while !stop.load(Ordering::Acquire) {
            // If the server disconnects the client, the flood stops.
            if stream.stream.write_all(frame.as_bytes()).is_err() {
                break;
            }
            number += 1;
            floods.store(number, Ordering::Release);
            std::thread::sleep(pause);
        }
        floods.store(number.max(1), Ordering::Release);
    };
    let long = format!("<CLIENT><message>{}</message></CLIENT>\n", "x".repeat(4000));
    match kind {
        0 => {
            let reading = listener.stream.try_clone().unwrap();
            std::thread::scope(|threads| {
                threads.spawn(|| std::io::copy(&mut &reading, &mut std::io::sink()));
                flood(&mut speaker, &message_line(1), Duration::from_millis(1));
                let _ = reading.shutdown(std::net::Shutdown::Both);
            });
        }
        // The listener never reads.
        1 => flood(&mut speaker, &long, Duration::from_micros(500)),
        _ => {
            let mut in_room = Vec::new();
            for (main, name) in [(&mut speaker, "loud"), (&mut listener, "silent")] {
                let login = format!(
                    "<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>\n"
                );
                main.send(login.as_bytes());
                main.line_with("<command>WELCOME");
                main.send(b"<CLIENT><command>JOIN</command><room>r</room></CLIENT>\n");
                let joined = main.line_with("<command>JOINED");
                in_room.push(take_seat(server.address, &joined).0);
            }
            flood(&mut in_room[0], &long, Duration::from_micros(500));
        }
    }
}
