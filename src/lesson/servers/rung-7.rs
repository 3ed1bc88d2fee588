//! Rung 7: the portal and its workers (seed 000).
//!
//! The *portal* is the server's entrance. A client asks it over TCP or UDP, and receives a
//! *ticket*: the port of a free worker and a *passcode*. A *worker* is a thread with a port of its
//! own, which serves one client at a time. Its place for that client is its *seat*. The ports of
//! the free workers wait on the *workload stack*. The client connects to its port and sends the
//! passcode. A connection that the portal has not sent is a *stray*, and is rejected.
//!
//! A ticker stands for a clock interrupt: at each tick, a timer for each worker checks its
//! deadlines. The clients of two neighbouring workers are *partners*: each receives what the other
//! one sends.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, process, str, thread};

// The design card of seed 000 asks for these two. The standard library has both, too: its `lock`
// returns a `Result`, because a thread may have panicked with the lock; `parking_lot` has no such
// errors. A crossbeam channel may have several receivers, which this server does not need.
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};
use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many workers there are. Their ports are the ones after the portal's. Two are a pair.
const WORKERS: u16 = 4;
/// How many connections wait in a listener's backlog at most: Rust asks the system for 128, and
/// Linux keeps one more.
const BACKLOG: usize = 129;
/// The time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// How long a port is kept for the client that the portal has sent there.
const RESERVATION: Duration = Duration::from_secs(1);
/// How long a client may take to send its passcode.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// How long a client may send nothing.
const IDLE: Duration = Duration::from_secs(2);
/// How long a client may stay.
const TOTAL: Duration = Duration::from_secs(6);
/// How long a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_secs(1);
/// How long a worker waits for the bytes of a stray that it rejects.
const LAST_BYTES: Duration = Duration::from_millis(10);

/// The state that all threads share.
struct Server {
    /// The workload stack: the ports of the free workers. The thread that pops a port owns it until
    /// it is pushed again. So no port is on the stack twice, and no two clients get the same one.
    stack: Mutex<Vec<u16>>,
    /// In the order of their ports.
    workers: Vec<Worker>,
    /// A factor for `RESERVATION`, `HANDSHAKE`, `IDLE` and `TOTAL`: a person who types is slower
    /// than a program.
    slower: u32,
}

struct Worker {
    port: u16,
    listener: TcpListener,
    seat: Mutex<Seat>,
}

/// A worker's place for one client.
///
/// The order of the locks: a thread that needs several of them takes first the seat with the lower
/// port, then the seat with the higher one, then the stack. If one thread took two of them in
/// another order, two threads could each hold one lock and wait for the other one for ever.
struct Seat {
    phase: Phase,
    /// The next client must know it. It changes whenever the seat becomes free.
    passcode: String,
    /// The time at which this phase ends if the client does nothing.
    deadline: Instant,
    /// The time at which the visit ends, whatever the client does.
    end: Instant,
    /// The connection of the client in this seat.
    stream: Option<Arc<TcpStream>>,
    /// Whether the client in this seat was told PARTNER JOINED, and not PARTNER LEFT since.
    has_partner: bool,
}

/// A seat goes through these from top to bottom. Each of them may be followed by `Free`.
#[derive(Debug, PartialEq)]
enum Phase {
    Free,
    /// The portal has sent a client here. It has not connected yet.
    Reserved,
    /// It has connected. It has not sent its passcode yet.
    Handshake,
    Seated,
    /// The visit has ended. The worker's thread has not given the port back yet.
    Closing,
}

/// Listens at all ports and starts all threads. The first thread is the portal itself.
fn main() {
    let usage = "usage: rung-7 PORT [TIMES_SLOWER]";
    let number = |word: String| word.parse::<u32>().ok().filter(|number| *number > 0);
    let port = env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.unwrap_or_else(|| fail(usage));
    let slower = env::args().nth(2).map_or(Some(1), number);
    let slower = slower.unwrap_or_else(|| fail(usage));
    let last = port
        .checked_add(WORKERS)
        .unwrap_or_else(|| fail("the workers' ports end above 65535"));
    let portal = listen(port);
    let server = Arc::new(Server {
        // In this order, the first client pops the first port.
        stack: Mutex::new((port + 1..=last).rev().collect()),
        workers: (port + 1..=last).map(Worker::new).collect(),
        slower,
    });
    let mut timers = Vec::new();
    for number in 0..server.workers.len() {
        // A channel for each timer. If all timers received from one channel, each tick would reach
        // only one of them.
        let (timer, ticks) = bounded(1);
        timers.push(timer);
        let port = server.workers[number].port;
        start(format!("worker-{port}"), &server, move |server| {
            work(server, number);
        });
        start(format!("timer-{port}"), &server, move |server| {
            keep_time(server, number, &ticks);
        });
    }
    start("ticker".to_owned(), &server, move |_| tick(&timers));
    // TCP and UDP ports have the same numbers and nothing else in common. If another program has
    // this one for UDP (the lessons' checker, `chatcheck`, does), clients can still ask over TCP.
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(socket) => start("portal-udp".to_owned(), &server, move |server| {
            answer_datagrams(server, &socket);
        }),
        Err(error) => eprintln!("no portal over UDP on port {port}: {error}"),
    }
    println!("Listening on 127.0.0.1:{port}, with workers up to port {last}");
    answer_connections(&server, &portal);
}

/// Ends the program with one sentence about the reason. `!` means that it never returns.
fn fail(reason: &str) -> ! {
    eprintln!("{reason}");
    process::exit(1)
}

fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .unwrap_or_else(|error| fail(&format!("cannot listen on port {port}: {error}")))
}

/// Starts a thread. Its name is shown by `ps -L` and `top -H`.
fn start(name: String, server: &Arc<Server>, run: impl FnOnce(&Server) + Send + 'static) {
    let server = Arc::clone(server);
    let thread = thread::Builder::new().name(name);
    if let Err(error) = thread.spawn(move || run(&server)) {
        fail(&format!("cannot start a thread: {error}"));
    }
}

/// The portal over TCP: it sends first, never reads, and closes.
fn answer_connections(server: &Server, portal: &TcpListener) {
    for stream in portal.incoming() {
        match stream {
            // `let _ =` ignores an error. Here it means that the client has left already. Its port
            // comes back when its reservation ends, as for any client that does not connect.
            Ok(stream) => {
                let _ = tell(&stream, &ticket(server));
            }
            Err(error) => pause(&error),
        }
    }
}

/// The portal over UDP: for each datagram that arrives, it sends one.
fn answer_datagrams(server: &Server, socket: &UdpSocket) {
    let mut datagram = [0; 1024];
    loop {
        match socket.recv_from(&mut datagram) {
            // The answer of another portal. Otherwise two of them could answer each other for ever.
            Ok((count, _)) if datagram[..count].starts_with(b"<SERVER") => {}
            Ok((_, client)) => {
                let _ = socket.send_to(ticket(server).as_bytes(), client);
            }
            Err(error) => pause(&error),
        }
    }
}

/// Waits a moment after an error. The usual reason is that no file descriptor is left. Trying again
/// at once would fail again, and keep the processor busy.
fn pause(error: &io::Error) {
    eprintln!("cannot receive a client: {error}");
    thread::sleep(Duration::from_millis(100));
}

/// A free worker's port with its passcode, or FULL.
fn ticket(server: &Server) -> String {
    // The stack's lock is released at the end of this statement. To hold it while locking the seat
    // would be the wrong order.
    let Some(port) = server.stack.lock().pop() else {
        return command("FULL");
    };
    let first = server.workers[0].port;
    let mut seat = server.workers[usize::from(port - first)].seat.lock();
    seat.phase = Phase::Reserved;
    seat.deadline = Instant::now() + RESERVATION * server.slower;
    let passcode = &seat.passcode;
    format!(
        "<SERVER type='worker'><Port>{port}</Port><HandshakePasscode>{passcode}</HandshakePasscode></SERVER>"
    )
}

/// Accepts one connection after the other: the whole life of a worker's thread.
fn work(server: &Server, number: usize) {
    for stream in server.workers[number].listener.incoming() {
        match stream {
            Ok(stream) => receive(server, number, stream),
            Err(error) => pause(&error),
        }
    }
}

/// Serves a connection, if the portal has sent a client here.
///
/// A stray that connects between a ticket and its client takes the client's place: its passcode is
/// wrong, and the seat becomes free without the client. A server that is reached from other
/// machines can compare the addresses at the portal and here. On one machine, all are 127.0.0.1.
fn receive(server: &Server, number: usize, stream: TcpStream) {
    let worker = &server.workers[number];
    let mut seat = worker.seat.lock();
    if seat.phase != Phase::Reserved {
        // A stray. The port is on the stack, where it stays. The lock is released first: no other
        // thread needs to wait for a stray.
        drop(seat);
        reject(&stream, worker.port);
        return;
    }
    let stream = Arc::new(stream);
    seat.phase = Phase::Handshake;
    seat.deadline = Instant::now() + HANDSHAKE * server.slower;
    seat.stream = Some(Arc::clone(&stream));
    // Without this, the lock would be held during the whole visit.
    drop(seat);
    let _ = visit(server, number, &stream);
    // Every return from `visit` leads here, and no other thread gives back a port whose client has
    // connected: it is pushed exactly once. (Only a panic would not lead here. It would end this
    // thread, and the port would be lost.) The connection closes when both owners of the stream are
    // gone.
    worker.seat.lock().stream = None;
    drop(stream);
    reject_backlog(worker);
    worker.seat.lock().give_back(worker.port, &server.stack);
}

/// Serves the client that the portal has sent.
fn visit(server: &Server, number: usize, stream: &TcpStream) -> io::Result<()> {
    let worker = &server.workers[number];
    // Without this, the system may delay a small document until the one before it is acknowledged.
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE))?;
    // Bytes that have been read and are not a whole line yet.
    let mut kept = Vec::new();
    let Some(line) = next_line(stream, &mut kept)? else {
        return Ok(());
    };
    if !admit(server, number, &line) {
        return tell(stream, &greeting(worker.port, "Wrong handshake passcode"));
    }
    let result = talk(server, number, stream, &mut kept);
    let (mut seat, mut partner) = lock_pair(server, number);
    seat.phase = Phase::Closing;
    if partner.has_partner {
        partner.has_partner = false;
        partner.tell(&news("PARTNER LEFT", worker.port));
    }
    result
}

/// Seats the client if the line holds the right passcode. It has one chance: with several, it could
/// try passcodes until one is right.
fn admit(server: &Server, number: usize, line: &[u8]) -> bool {
    let passcode = parse(line).and_then(|document| child_text(&document, "HandshakePasscode"));
    // Both seats stay locked until the end of this function. So two clients that arrive at the same
    // time see each other once: the first one finds no partner, the second one finds the first.
    let (mut seat, mut partner) = lock_pair(server, number);
    if seat.phase != Phase::Handshake || passcode.as_ref() != Some(&seat.passcode) {
        return false;
    }
    let (port, now) = (server.workers[number].port, Instant::now());
    seat.phase = Phase::Seated;
    seat.deadline = now + IDLE * server.slower;
    seat.end = now + TOTAL * server.slower;
    seat.tell(&greeting(port, "Connection successful"));
    if partner.phase == Phase::Seated {
        seat.has_partner = true;
        partner.has_partner = true;
        partner.tell(&news("PARTNER JOINED", port));
        let partner_port = server.workers[partner_of(number)].port;
        seat.tell(&news("PARTNER JOINED", partner_port));
    } else {
        seat.tell(&command("NO PARTNER"));
    }
    true
}

/// The number of the partner's worker. `^` (XOR) with 1 changes only the last bit of a number: 0
/// and 1 are partners, and 2 and 3.
fn partner_of(number: usize) -> usize {
    number ^ 1
}

/// Locks the seat of a worker and the seat of its partner, in the order that `Seat` explains.
fn lock_pair(server: &Server, number: usize) -> (MutexGuard<'_, Seat>, MutexGuard<'_, Seat>) {
    let own = &server.workers[number].seat;
    let partner = &server.workers[partner_of(number)].seat;
    if number < partner_of(number) {
        let own = own.lock();
        (own, partner.lock())
    } else {
        let partner = partner.lock();
        (own.lock(), partner)
    }
}

/// Answers each line of a seated client until the visit ends.
fn talk(server: &Server, number: usize, stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<()> {
    let worker = &server.workers[number];
    let partner = &server.workers[partner_of(number)];
    while let Some(line) = next_line(stream, kept)? {
        let mut seat = worker.seat.lock();
        // The timer may have ended the visit. Lines that arrived before can still be read.
        if seat.phase != Phase::Seated {
            break;
        }
        seat.deadline = Instant::now() + IDLE * server.slower;
        // `answer` locks one seat at a time. With this one still locked, it would wait for itself.
        drop(seat);
        if !answer(&line, worker, partner) {
            break;
        }
    }
    Ok(())
}

/// Does what a client asks for in one line. Returns `false` if the visit has ended.
fn answer(line: &[u8], worker: &Worker, partner: &Worker) -> bool {
    let document = parse(line);
    let child = |name| child_text(document.as_ref()?, name);
    let answer = match (child("command").as_deref(), child("message")) {
        (Some("TERMINATE"), _) => return false,
        (None, Some(text)) => {
            let (from, text) = (worker.port, escape(&text));
            let message = format!("<CLIENT from='{from}'><message>{text}</message></CLIENT>");
            // The partner's seat is locked until the end of this statement.
            let is_delivered = partner.seat.lock().tell(&message);
            if is_delivered {
                return true;
            }
            command("NO PARTNER")
        }
        _ => refusal("unknown-command", "this server does not know that"),
    };
    worker.seat.lock().tell(&answer)
}

impl Worker {
    fn new(port: u16) -> Worker {
        let (listener, seat) = (listen(port), Mutex::new(Seat::new()));
        Worker {
            port,
            listener,
            seat,
        }
    }
}

impl Seat {
    fn new() -> Seat {
        let now = Instant::now();
        Seat {
            phase: Phase::Free,
            passcode: new_passcode(),
            deadline: now,
            end: now,
            stream: None,
            has_partner: false,
        }
    }

    /// Writes a document to the client that is seated here. Returns whether it was written.
    ///
    /// Only a thread that holds the seat's lock writes: documents of two threads do not mix. A
    /// client that does not read delays its partner until the write times out. That happens once,
    /// because its connection ends then.
    fn tell(&self, document: &str) -> bool {
        match &self.stream {
            Some(stream) if self.phase == Phase::Seated => {
                let is_written = tell(stream, document).is_ok();
                if !is_written {
                    // A part of the document may have been written. Nothing may follow it.
                    let _ = stream.shutdown(Shutdown::Both);
                }
                is_written
            }
            _ => false,
        }
    }

    /// Ends a visit for its timeout. The worker's thread is blocked in `read`. The shutdown wakes
    /// it with the end of the stream, and it gives the port back.
    fn close(&mut self, farewell: &str) {
        self.phase = Phase::Closing;
        if let Some(stream) = &self.stream {
            let _ = tell(stream, &command(farewell));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Makes the seat free. The next client needs another passcode: the last one may be known.
    fn give_back(&mut self, port: u16, stack: &Mutex<Vec<u16>>) {
        *self = Seat::new();
        stack.lock().push(port);
    }
}

/// Rejects the connections that arrived while the worker served another client. If one of them were
/// accepted after the port went back, it would take the place of the next client.
fn reject_backlog(worker: &Worker) {
    // From here on, `accept` fails if the backlog is empty, instead of waiting.
    let _ = worker.listener.set_nonblocking(true);
    // Not more than these: clients that connect again and again must not keep the worker here.
    for _ in 0..BACKLOG {
        let Ok((stream, _)) = worker.listener.accept() else {
            break;
        };
        reject(&stream, worker.port);
    }
    let _ = worker.listener.set_nonblocking(false);
}

/// Rejects a stray.
fn reject(mut stream: &TcpStream, port: u16) {
    let _ = tell(stream, &greeting(port, "Wrong handshake passcode"));
    // If a connection is closed with unread bytes, it is reset, and the stray's system may drop the
    // document. So the server ends only its own direction, and reads what the stray has sent.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(LAST_BYTES));
    let _ = stream.read(&mut [0; MAX_LINE]);
}

/// A timer's thread: at each tick, it checks the deadlines of one worker.
fn keep_time(server: &Server, number: usize, ticks: &Receiver<()>) {
    let worker = &server.workers[number];
    for () in ticks {
        let mut seat = worker.seat.lock();
        // By the clock, not by counting ticks: none of the limits may end too early.
        let now = Instant::now();
        match seat.phase {
            // The client did not connect. If it connects later, it is a stray.
            Phase::Reserved if now >= seat.deadline => seat.give_back(worker.port, &server.stack),
            Phase::Seated if now >= seat.end => seat.close("TOTAL TIME TIMEOUT"),
            Phase::Handshake | Phase::Seated if now >= seat.deadline => seat.close("IDLE TIMEOUT"),
            _ => {}
        }
    }
}

/// The ticker's thread: it stands for an interrupt of a real-time clock.
fn tick(timers: &[Sender<()>]) {
    loop {
        thread::sleep(TICK);
        for timer in timers {
            // If a timer is late, its channel holds a tick already, which is enough. `send` would
            // wait for that timer, and the ticks of all others would be late.
            let _ = timer.try_send(());
        }
    }
}

/// Writes one document. (`Write` is implemented for `&TcpStream`, too, because the system does the
/// work. `write_all` wants a `&mut` of what it writes to: of the `&TcpStream`, hence the `mut`.)
fn tell(mut stream: &TcpStream, document: &str) -> io::Result<()> {
    stream.write_all(format!("{document}\n").as_bytes())
}

/// A passcode that cannot be guessed: 128 random bits.
fn new_passcode() -> String {
    let mut bytes = [0; 16];
    // With passcodes that can be guessed, the server would be worse than no server.
    if let Err(error) = getrandom::fill(&mut bytes) {
        fail(&format!("the system has no random numbers: {error}"));
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The document that greets a client at a worker's port, or rejects it.
fn greeting(port: u16, text: &str) -> String {
    format!("<SERVER type='worker' port='{port}'><message>{text}</message></SERVER>")
}

/// The document that notifies a client of its partner.
fn news(word: &str, partner: u16) -> String {
    format!("<SERVER><command>{word}</command><partner>{partner}</partner></SERVER>")
}

/// The document in a line, or `None` if there is none.
///
/// A parser knows both kinds of quotes, entities and CDATA. A search for "<message>" does not.
fn parse(line: &[u8]) -> Option<Document<'_>> {
    Document::parse(str::from_utf8(line).ok()?).ok()
}

/// The text of the element `name` in a document.
fn child_text(document: &Document, name: &str) -> Option<String> {
    let mut children = document.root_element().children();
    let child = children.find(|child| child.has_tag_name(name))?;
    // A comment inside divides a text into parts. `text()` alone would return its words, too.
    let parts = child.children().filter(|part| part.is_text());
    Some(parts.filter_map(|part| part.text()).collect())
}

/// Text as it may stand in a document.
///
/// A client can put a line feed into its text, by writing `&#10;`. As a raw line feed it would end
/// the document early, and the rest of the text would look like a document of the server.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;") // The first one, or it would change the `&` of the others.
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
        .replace('\r', "&#13;")
}

/// The document that refuses a request.
fn refusal(code: &str, sentence: &str) -> String {
    format!("<SERVER><error code='{code}'>{sentence}</error></SERVER>")
}

/// The document that is one command.
fn command(word: &str) -> String {
    format!("<SERVER><command>{word}</command></SERVER>")
}

/// Reads until `kept` holds a whole line, and takes it out. `None` is the end of the stream.
///
/// (`read` wants a `&mut` of what it reads from. That is the `&TcpStream` here, hence the `mut`.)
fn next_line(mut stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    // A longer buffer would save calls of `read` for long lines; most lines are short.
    let mut bytes = [0; 4096];
    loop {
        // Before reading: one read may have brought several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        // Blocks until at least one byte has arrived. How many arrive together means nothing.
        match stream.read(&mut bytes)? {
            0 if kept.is_empty() => return Ok(None),
            // The client has finished sending, and its last line has no line feed. With one, it is
            // a whole line, which the next turn of the loop takes. After that, `kept` is empty.
            0 => kept.push(b'\n'),
            count => kept.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Takes the first line out of `kept`, if it is whole. The line feed is removed, and so is a `\r`
/// before it: programs on Windows end a line with both.
///
/// The limit also applies to an incomplete line. Otherwise a client that never sends a line feed
/// could fill the server's memory.
fn take_line(kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let end = kept.iter().position(|byte| *byte == b'\n');
    let line = &kept[..end.unwrap_or(kept.len())];
    // A copy, because the original is removed from `kept` below.
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.len() > MAX_LINE {
        // This ends the visit without an answer. The client is still sending and does not read, and
        // when a connection is closed with unread bytes, its system may drop an answer anyway.
        return Err(io::Error::other("a line is too long"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    // Removes the line and its line feed. What follows stays: it begins the next line. (`drain`
    // also returns the removed bytes. It removes them even if they are not used.)
    kept.drain(..=end);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose workers listen at ports that were free.
    fn server() -> Server {
        let worker = |port| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            Worker {
                port,
                listener,
                seat: Mutex::new(Seat::new()),
            }
        };
        let workers = (50001..=50004).map(worker).collect();
        Server {
            stack: Mutex::new(vec![50002, 50001]),
            workers,
            slower: 1,
        }
    }

    fn handshake(passcode: &str) -> Vec<u8> {
        format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>").into()
    }

    #[test]
    fn each_port_is_given_once_and_then_the_portal_is_full() {
        let server = server();
        assert!(ticket(&server).contains("<Port>50001</Port>"));
        assert!(ticket(&server).contains("<Port>50002</Port>"));
        assert!(ticket(&server).contains("FULL"));
        let worker = &server.workers[1];
        worker.seat.lock().give_back(worker.port, &server.stack);
        assert!(ticket(&server).contains("<Port>50002</Port>"));
    }

    #[test]
    fn a_passcode_changes_when_the_port_goes_back() {
        let server = server();
        let worker = &server.workers[0];
        let told = ticket(&server);
        let passcode = worker.seat.lock().passcode.clone();
        assert!(told.contains(&passcode));
        // The client has not connected yet.
        assert!(!admit(&server, 0, &handshake(&passcode)));
        worker.seat.lock().give_back(worker.port, &server.stack);
        ticket(&server);
        worker.seat.lock().phase = Phase::Handshake;
        assert!(!admit(&server, 0, &handshake(&passcode)));
        assert!(!admit(&server, 0, b"no document"));
    }

    #[test]
    fn partners_are_two_neighbours() {
        let server = server();
        let connect = |number: usize| {
            let listener = &server.workers[number].listener;
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut seat = server.workers[number].seat.lock();
            seat.phase = Phase::Handshake;
            seat.stream = Some(Arc::new(listener.accept().unwrap().0));
            let line = handshake(&seat.passcode);
            drop(seat);
            assert!(admit(&server, number, &line));
            client
        };
        let answer = |number: usize, line: &str| {
            let partner = &server.workers[partner_of(number)];
            answer(line.as_bytes(), &server.workers[number], partner)
        };
        let hello = "<CLIENT><message>hello</message></CLIENT>";
        let mut kept = Vec::new();
        let mut told = |stream| String::from_utf8(next_line(stream, &mut kept).unwrap().unwrap());
        let welcome = |port| greeting(port, "Connection successful");
        let third = connect(2);
        assert_eq!(told(&third).unwrap(), welcome(50003));
        assert_eq!(told(&third).unwrap(), command("NO PARTNER"));
        assert!(answer(2, hello));
        assert_eq!(told(&third).unwrap(), command("NO PARTNER"));
        let fourth = connect(3);
        assert_eq!(told(&third).unwrap(), news("PARTNER JOINED", 50004));
        assert_eq!(told(&fourth).unwrap(), welcome(50004));
        assert_eq!(told(&fourth).unwrap(), news("PARTNER JOINED", 50003));
        assert!(answer(2, hello));
        let message = "<CLIENT from='50003'><message>hello</message></CLIENT>";
        assert_eq!(told(&fourth).unwrap(), message);
        assert!(!answer(2, "<CLIENT><command>TERMINATE</command></CLIENT>"));
    }
}
