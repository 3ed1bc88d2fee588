//! Rung 7: the portal and its workers (seed 000).
//!
//! A client asks the portal, over TCP or UDP. The portal pops a port off the workload stack and
//! sends it with a passcode. At that port a worker, one thread, serves one client at a time. A
//! ticker stands for a clock interrupt: at each tick, a timer for each worker checks its deadlines.
//! The clients of two neighbouring workers are partners: what one says comes to the other.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, process, str, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many workers there are. Their ports are the ones after the portal's.
const WORKERS: u16 = 4;
/// How many connections the system keeps at most until a worker accepts them.
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
/// How long a worker waits for the words of a stray that it turns away.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// The state that all threads share.
struct Server {
    /// The workload stack: the ports of the free workers. The thread that pops a port owns it until
    /// it is pushed again. So no port is on the stack twice, and no two clients get the same one.
    stack: Mutex<Vec<u16>>,
    /// In the order of their ports.
    workers: Vec<Worker>,
    /// A factor for the limits above, for a client that is a person who types.
    slower: u32,
}

struct Worker {
    port: u16,
    listener: TcpListener,
    seat: Mutex<Seat>,
}

/// A worker's place for one client. A thread that needs this lock and the stack's takes this one
/// first: if another one did it the other way round, the two could wait for each other for ever.
struct Seat {
    phase: Phase,
    /// The next client must know it. It changes whenever the seat becomes free.
    passcode: String,
    /// The time at which this phase ends if the client does nothing.
    deadline: Instant,
    /// The time at which the visit ends, whatever the client does.
    end: Instant,
    /// The connection of the client that is here.
    stream: Option<Arc<TcpStream>>,
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
    /// The timer has ended the visit. The worker's thread has not noticed it yet.
    Closing,
}

/// Listens at all ports and starts all threads. The first thread is the portal itself.
fn main() -> Result<(), String> {
    let port = env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.ok_or("usage: rung-7 PORT [TIMES_SLOWER]")?;
    let slower = env::args().nth(2).unwrap_or("1".to_owned());
    let slower = slower
        .parse()
        .map_err(|_| "usage: rung-7 PORT [TIMES_SLOWER]")?;
    let last = port
        .checked_add(WORKERS)
        .ok_or("the workers' ports end above 65535")?;
    let portal = listen(port)?;
    let mut workers = Vec::new();
    for port in port + 1..=last {
        let (listener, seat) = (listen(port)?, Mutex::new(Seat::new()));
        workers.push(Worker {
            port,
            listener,
            seat,
        });
    }
    // In this order, the first client pops the first port.
    let stack = Mutex::new((port + 1..=last).rev().collect());
    let server = Arc::new(Server {
        stack,
        workers,
        slower,
    });
    let mut timers = Vec::new();
    for (number, worker) in server.workers.iter().enumerate() {
        // A channel for each timer: if all of them shared one, only one of them would get each
        // tick.
        let (timer, ticks) = bounded(1);
        timers.push(timer);
        start(format!("worker-{}", worker.port), &server, move |server| {
            work(server, number)
        })?;
        start(format!("timer-{}", worker.port), &server, move |server| {
            keep_time(server, number, &ticks);
        })?;
    }
    start("ticker".to_owned(), &server, move |_| tick(&timers))?;
    // TCP and UDP ports have the same numbers and nothing else in common. If another program has
    // this one for UDP (`chatcheck` does), clients can still ask over TCP.
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(socket) => start("portal-udp".to_owned(), &server, move |server| {
            answer_datagrams(server, &socket);
        })?,
        Err(error) => eprintln!("no portal over UDP on port {port}: {error}"),
    }
    println!("Listening on 127.0.0.1:{port}, with workers up to port {last}");
    answer_connections(&server, &portal);
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))
}

/// Starts a thread. Its name is shown by `ps -L` and `top -H`.
fn start(
    name: String,
    server: &Arc<Server>,
    run: impl FnOnce(&Server) + Send + 'static,
) -> Result<(), String> {
    let server = Arc::clone(server);
    let started = thread::Builder::new()
        .name(name)
        .spawn(move || run(&server));
    started
        .map(drop)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

/// The portal over TCP: it speaks first, never reads, and closes.
fn answer_connections(server: &Server, portal: &TcpListener) {
    for stream in portal.incoming() {
        match stream {
            // If the client has gone, its port comes back as that of any client that does not come.
            Ok(stream) => drop(tell(&stream, &ticket(server))),
            Err(error) => pause(&error),
        }
    }
}

/// The portal over UDP: one datagram comes, one goes back.
fn answer_datagrams(server: &Server, socket: &UdpSocket) {
    let mut datagram = [0; 1024];
    loop {
        match socket.recv_from(&mut datagram) {
            // The answer of another portal. Otherwise two of them could answer each other for ever.
            Ok((count, _)) if datagram[..count].starts_with(b"<SERVER") => {}
            Ok((_, client)) => drop(socket.send_to(ticket(server).as_bytes(), client)),
            Err(error) => pause(&error),
        }
    }
}

/// Waits a moment. Most often no descriptor is left, and a loop that tried again at once would take
/// the processor from the clients whose leaving would help.
fn pause(error: &io::Error) {
    eprintln!("cannot receive a client: {error}");
    thread::sleep(Duration::from_millis(100));
}

/// A free worker's port with its passcode, or FULL.
fn ticket(server: &Server) -> String {
    let Some(port) = server.stack.lock().pop() else {
        return command("FULL");
    };
    let first = server.workers[0].port;
    let mut seat = server.workers[usize::from(port - first)].seat.lock();
    seat.phase = Phase::Reserved;
    seat.deadline = Instant::now() + RESERVATION * server.slower;
    format!(
        "<SERVER type='worker'><Port>{port}</Port><HandshakePasscode>{}</HandshakePasscode></SERVER>",
        seat.passcode
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
fn receive(server: &Server, number: usize, stream: TcpStream) {
    let worker = &server.workers[number];
    let mut seat = worker.seat.lock();
    if seat.phase != Phase::Reserved {
        // A stray. The port is on the stack, where it stays.
        drop(seat);
        turn_away(stream, worker.port);
        return;
    }
    let stream = Arc::new(stream);
    seat.phase = Phase::Handshake;
    seat.deadline = Instant::now() + HANDSHAKE * server.slower;
    seat.stream = Some(Arc::clone(&stream));
    drop(seat);
    let _ = visit(server, number, &stream);
    // Every way out of `visit` leads here, and no other thread gives back a port whose client has
    // come: it is pushed exactly once. The connection closes before.
    worker.seat.lock().stream = None;
    drop(stream);
    turn_away_backlog(worker);
    worker.seat.lock().give_back(worker.port, &server.stack);
}

/// Serves the client that the portal has sent.
fn visit(server: &Server, number: usize, stream: &TcpStream) -> io::Result<()> {
    let worker = &server.workers[number];
    // 0 and 1 are partners, and 2 and 3: the last bit makes the difference.
    let partner = &server.workers[number ^ 1];
    // Without this, the system may delay a small document until the one before it is acknowledged.
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE))?;
    // Bytes that have been read and are not a whole line yet.
    let mut kept = Vec::new();
    let Some(line) = next_line(stream, &mut kept)? else {
        return Ok(());
    };
    if !admit(server, worker, &line) {
        return tell(stream, &greeting(worker.port, "Wrong handshake passcode"));
    }
    let joined = |port| {
        format!("<SERVER><command>PARTNER JOINED</command><partner>{port}</partner></SERVER>")
    };
    let is_there = partner.seat.lock().tell(&joined(worker.port));
    let news = if is_there {
        joined(partner.port)
    } else {
        command("NO PARTNER")
    };
    worker.seat.lock().tell(&news);
    while let Some(line) = next_line(stream, &mut kept)? {
        let mut seat = worker.seat.lock();
        // What had arrived before the timer ended the visit can still be read.
        if seat.phase != Phase::Seated {
            break;
        }
        seat.deadline = Instant::now() + IDLE * server.slower;
        // Never two seats at a time: the partner's thread could hold them in the other order.
        drop(seat);
        if !answer(&line, worker, partner) {
            break;
        }
    }
    Ok(())
}

/// Seats the client if the line holds the right passcode. It has one chance: with several, it could
/// try passcodes until one is right.
fn admit(server: &Server, worker: &Worker, line: &[u8]) -> bool {
    let passcode = child_text(line, "HandshakePasscode").unwrap_or_default();
    let mut seat = worker.seat.lock();
    if seat.phase != Phase::Handshake || passcode != seat.passcode {
        return false;
    }
    let now = Instant::now();
    seat.phase = Phase::Seated;
    seat.deadline = now + IDLE * server.slower;
    seat.end = now + TOTAL * server.slower;
    // With the lock still held, so that the greeting comes before the partner's messages.
    seat.tell(&greeting(worker.port, "Connection successful"));
    true
}

/// Does what a client asks for in one line. Returns `false` if the visit has ended.
fn answer(line: &[u8], worker: &Worker, partner: &Worker) -> bool {
    match (
        child_text(line, "command").as_deref(),
        child_text(line, "message"),
    ) {
        (Some("TERMINATE"), _) => false,
        (None, Some(text)) => {
            let (from, text) = (worker.port, escape(&text));
            let message = format!("<CLIENT from='{from}'><message>{text}</message></CLIENT>");
            let is_delivered = partner.seat.lock().tell(&message);
            is_delivered || worker.seat.lock().tell(&command("NO PARTNER"))
        }
        _ => worker.seat.lock().tell(&refusal(
            "unknown-command",
            "this server does not know that",
        )),
    }
}

impl Seat {
    fn new() -> Seat {
        let now = Instant::now();
        let passcode = new_passcode();
        Seat {
            phase: Phase::Free,
            passcode,
            deadline: now,
            end: now,
            stream: None,
        }
    }

    /// Writes a document to the client that is seated here. `false` if there is none.
    ///
    /// The lock of the seat is the right to write: documents of two threads do not mix. A client
    /// that does not read delays its partner until the write times out, once: then its connection
    /// ends.
    fn tell(&self, document: &str) -> bool {
        let Some(stream) = self.stream.as_ref().filter(|_| self.phase == Phase::Seated) else {
            return false;
        };
        // Perhaps a part of the document was written. Nothing can follow it.
        if tell(stream, document).is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        true
    }

    /// Ends a visit for its timeout. The worker's thread is blocked in `read`: it cannot be told,
    /// but the shutdown wakes it with the end of the stream. It then gives the port back.
    fn close(&mut self, farewell: &str) {
        self.phase = Phase::Closing;
        if let Some(stream) = &self.stream {
            let _ = tell(stream, &command(farewell));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Makes the seat free. The next client needs another passcode: the last one may be known.
    fn give_back(&mut self, port: u16, stack: &Mutex<Vec<u16>>) {
        self.phase = Phase::Free;
        self.passcode = new_passcode();
        stack.lock().push(port);
    }
}

/// Turns away the connections that came while the worker served another client. If one of them were
/// accepted after the port went back, it would be taken for the next client, and cost it its seat.
fn turn_away_backlog(worker: &Worker) {
    // From here on, `accept` fails when the backlog is empty, instead of waiting.
    let _ = worker.listener.set_nonblocking(true);
    // A crowd that connects again and again must not keep the worker here: with `take`, it ends.
    for stream in worker
        .listener
        .incoming()
        .take(BACKLOG)
        .map_while(Result::ok)
    {
        turn_away(stream, worker.port);
    }
    let _ = worker.listener.set_nonblocking(false);
}

/// Turns a stray away.
fn turn_away(stream: TcpStream, port: u16) {
    let _ = tell(&stream, &greeting(port, "Wrong handshake passcode"));
    // Closing with unread bytes resets the connection, and the client's system may then drop what
    // it was told. So this says that no more will come, and reads what the stray has sent already.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(LAST_WORDS));
    let _ = (&stream).read(&mut [0; MAX_LINE]);
}

/// A timer's thread: at each tick, it checks the deadlines of one worker.
fn keep_time(server: &Server, number: usize, ticks: &Receiver<()>) {
    let worker = &server.workers[number];
    for () in ticks {
        let mut seat = worker.seat.lock();
        // By the clock, not by counting ticks: none of the limits may end too early.
        let now = Instant::now();
        match seat.phase {
            // The client did not come. It is a stray from now on.
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
            // wait for it, and all others would be late as well.
            let _ = timer.try_send(());
        }
    }
}

/// Writes one document.
fn tell(mut stream: &TcpStream, document: &str) -> io::Result<()> {
    stream.write_all(format!("{document}\n").as_bytes())
}

/// A passcode that cannot be guessed: 128 random bits.
fn new_passcode() -> String {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // No server is better than one with passcodes that can be guessed.
        eprintln!("the system has no random numbers: {error}");
        process::exit(1);
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The document that greets a client at a worker's port, or turns it away.
fn greeting(port: u16, text: &str) -> String {
    format!("<SERVER type='worker' port='{port}'><message>{text}</message></SERVER>")
}

/// The text of the element `name` in a client's document. `None` if the line is no document, too.
///
/// A parser knows both kinds of quotes, entities and CDATA. A search for "<message>" does not.
fn child_text(line: &[u8], name: &str) -> Option<String> {
    let document = Document::parse(str::from_utf8(line).ok()?).ok()?;
    let root = document.root_element();
    let child = root.children().find(|child| child.has_tag_name(name))?;
    // Only a comment or another element inside it makes several parts of a text.
    let parts = child.children().filter(|part| part.is_text());
    Some(parts.filter_map(|part| part.text()).collect())
}

/// Text as it may stand in a document. A raw line feed would end the document, and the client could
/// write the next one in the server's name.
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
fn next_line(mut stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; 4096];
    loop {
        // Before reading: one read may have brought several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        // Blocks until at least one byte is there. How many come at once means nothing.
        match stream.read(&mut bytes)? {
            0 if kept.is_empty() => return Ok(None),
            // The client has finished sending: what is left is a line, too.
            0 => kept.push(b'\n'),
            count => kept.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Takes the first line out of `kept`, if it is whole: without its line feed and a `\r` before it.
///
/// The limit also applies to a line that is not whole yet. Otherwise a client that never sends a
/// line feed could fill the server's memory.
fn take_line(kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let end = kept.iter().position(|byte| *byte == b'\n');
    let line = &kept[..end.unwrap_or(kept.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.len() > MAX_LINE {
        return Err(io::Error::other("a line is too long"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    // What stands behind the line feed stays: it begins the next line.
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
        assert!(!admit(&server, worker, &handshake(&passcode)));
        worker.seat.lock().give_back(worker.port, &server.stack);
        ticket(&server);
        worker.seat.lock().phase = Phase::Handshake;
        assert!(!admit(&server, worker, &handshake(&passcode)));
        assert!(!admit(&server, worker, b"no document"));
    }

    #[test]
    fn partners_are_two_neighbours() {
        let server = server();
        let connect = |number: usize| {
            let listener = &server.workers[number].listener;
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut seat = server.workers[number].seat.lock();
            seat.phase = Phase::Seated;
            seat.stream = Some(Arc::new(listener.accept().unwrap().0));
            client
        };
        let answer = |number: usize, line: &str| {
            let partner = &server.workers[number ^ 1];
            answer(line.as_bytes(), &server.workers[number], partner)
        };
        let hello = "<CLIENT><message>hello</message></CLIENT>";
        let told = |stream| String::from_utf8(next_line(stream, &mut Vec::new()).unwrap().unwrap());
        let third = connect(2);
        assert!(answer(2, hello));
        assert_eq!(told(&third).unwrap(), command("NO PARTNER"));
        let fourth = connect(3);
        assert!(answer(2, hello));
        let message = "<CLIENT from='50003'><message>hello</message></CLIENT>";
        assert_eq!(told(&fourth).unwrap(), message);
        assert!(!answer(2, "<CLIENT><command>TERMINATE</command></CLIENT>"));
    }
}
