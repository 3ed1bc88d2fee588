//! Rung 7: the portal and its workers (seed 000).
//!
//! The *portal* is the server's entrance. A client sends it a request over TCP or UDP, and receives
//! a *ticket*: the port of a free worker and a *passcode*. A *worker* is a thread with its own
//! port, which serves one client at a time. The place that it keeps for that client is the *seat*.
//! The *workload stack* holds the ports of the free workers. The client connects to the port in its
//! ticket and sends the passcode. A connection that the portal did not send there is a *stray*, and
//! is rejected.
//!
//! A ticker takes the place of a clock interrupt: at each tick, a timer for each worker checks its
//! deadlines. The clients of two neighbouring workers are *partners*: each receives the other's
//! messages.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, thread};

// The project uses these two, so its smallest portal does, too. The standard library also has both:
// its `lock` returns a `Result`, because a thread may have panicked while it held the lock;
// `parking_lot` has no such errors. A crossbeam channel may have several receivers, which this
// server does not need.
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use roxmltree::Document;

/// The longest line in bytes, without its line feed and without a `\r` before that.
const MAX_LINE: u64 = 8192;
/// The time for which a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_millis(50);
/// The number of workers. Their ports follow the portal's. Every two workers form a pair.
const WORKERS: u16 = 4;
/// The time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// The time for which a port is reserved for the client that the portal has sent there.
const RESERVATION: Duration = Duration::from_secs(1);
/// The time in which a client must send its passcode.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// The time for which a client may send nothing.
const IDLE: Duration = Duration::from_secs(2);
/// The time for which a client may stay.
const TOTAL: Duration = Duration::from_secs(6);

/// The time for which a worker waits for the bytes from a stray that it rejects.
const LAST_BYTES: Duration = Duration::from_millis(10);

/// The state that all threads share.
struct Server {
    /// The workload stack: the ports of the free workers. The thread that pops a port owns it until
    /// it is pushed again. So no port is on the stack twice, and no two clients get the same port.
    stack: Mutex<Vec<u16>>,
    /// In the order of their ports.
    workers: Vec<Worker>,
    /// A factor for `RESERVATION`, `HANDSHAKE`, `IDLE` and `TOTAL`: a person who is typing is
    /// slower than a program.
    slower: u32,
}

struct Worker {
    port: u16,
    listener: TcpListener,
    seat: Mutex<Seat>,
}

/// A worker's place for one client. It goes through these states from top to bottom, and from each
/// of them back to `Free`. A deadline is the time at which a state expires if the client does
/// nothing.
enum Seat {
    Free,
    /// The portal has sent a client here, which has not connected yet. It must know the passcode.
    Reserved {
        passcode: String,
        deadline: Instant,
    },
    /// The client has connected. It has not sent its passcode yet.
    Handshake {
        stream: Arc<TcpStream>,
        deadline: Instant,
    },
    /// The client is chatting. At `end`, its visit ends, whatever the client does.
    Seated {
        stream: Arc<TcpStream>,
        deadline: Instant,
        end: Instant,
    },
}

/// Listens on all ports and starts all threads. The first thread is the portal itself. An error
/// that `main` returns is printed, and the program exits with code 1.
fn main() -> Result<(), String> {
    let usage = "usage: rung-7 PORT [TIMES_SLOWER]";
    let port = env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.ok_or(usage)?;
    // 1, if there is no such argument.
    let slower = env::args().nth(2).map_or(Ok(1), |word| word.parse());
    let slower = slower.map_err(|_| usage)?.max(1);
    let portal = listen(port)?;
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        // `saturating_add` stops at 65535 instead of overflowing. Then `listen` fails.
        let port = port.saturating_add(number);
        let (listener, seat) = (listen(port)?, Mutex::new(Seat::Free));
        workers.push(Worker {
            port,
            listener,
            seat,
        });
    }
    // In this order, the first client pops the first port.
    let stack = workers.iter().rev().map(|worker| worker.port).collect();
    let stack = Mutex::new(stack);
    let server = &Server {
        stack,
        workers,
        slower,
    };
    println!("Listening on 127.0.0.1:{port} and the {WORKERS} ports after it");
    // The threads in a scope finish before it does, so they may borrow `server`. (These threads
    // never finish.)
    thread::scope(|threads| {
        let mut timers = Vec::new();
        for number in 0..server.workers.len() {
            // A channel for each timer, with room for one tick. If all timers received from one
            // channel, each tick would reach only one of them.
            let (timer, ticks) = bounded(1);
            timers.push(timer);
            // `move`, because each thread needs its own copy of `number`. (Of `server`, it copies
            // the reference.)
            threads.spawn(move || work(server, number));
            threads.spawn(move || keep_time(server, number, &ticks));
        }
        threads.spawn(move || tick(&timers));
        // TCP and UDP ports have the same numbers and nothing else in common. If another program
        // uses this port for UDP (the lessons' checker, `chatcheck`, does), clients can still send
        // requests over TCP.
        match UdpSocket::bind(("127.0.0.1", port)) {
            Ok(socket) => {
                threads.spawn(move || answer_datagrams(server, &socket));
            }
            Err(error) => eprintln!("cannot open a UDP portal on port {port}: {error}"),
        }
        answer_connections(server, &portal);
    });
    Ok(())
}

/// From here on, clients can connect: the system completes their connections and keeps them in the
/// backlog, even while this program does not call `accept`.
fn listen(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))
}

/// The portal over TCP: it sends first, never reads, and closes.
fn answer_connections(server: &Server, portal: &TcpListener) {
    // `flatten` skips the errors from `accept`. (Rung 2 waits after such an error, because there
    // may be no file descriptor left. This server has few connections at a time.)
    for stream in portal.incoming().flatten() {
        // `let _ =` ignores an error. Here it means that the client has left already. Its port
        // comes back when its reservation expires, as for any client that does not connect.
        let _ = write(&stream, &ticket(server));
    }
}

/// The portal over UDP: it answers each datagram with a single datagram.
fn answer_datagrams(server: &Server, socket: &UdpSocket) {
    let mut datagram = [0; 1024];
    loop {
        // An answer from another portal gets no answer: two portals could continue forever.
        if let Ok((count, client)) = socket.recv_from(&mut datagram)
            && !datagram[..count].starts_with(b"<SERVER")
        {
            let _ = socket.send_to(ticket(server).as_bytes(), client);
        }
    }
}

/// A free worker's port with a new passcode, or FULL.
fn ticket(server: &Server) -> String {
    // The stack's lock is released at the end of this statement.
    let Some(port) = server.stack.lock().pop() else {
        return command("FULL");
    };
    let passcode = new_passcode();
    let first = server.workers[0].port;
    let worker = &server.workers[usize::from(port - first)];
    *worker.seat.lock() = Seat::Reserved {
        passcode: passcode.clone(),
        deadline: Instant::now() + RESERVATION * server.slower,
    };
    format!(
        "<SERVER type='worker'><Port>{port}</Port><HandshakePasscode>{passcode}</HandshakePasscode></SERVER>"
    )
}

/// A passcode that cannot be guessed: 64 random bits, as 16 hexadecimal digits.
fn new_passcode() -> String {
    // A server with guessable passcodes would be worse than no server.
    let number = getrandom::u64().unwrap_or_else(|error| panic!("no random numbers: {error}"));
    format!("{number:016x}")
}

/// Accepts one connection after the other: the whole life of a worker's thread.
fn work(server: &Server, number: usize) {
    for stream in server.workers[number].listener.incoming().flatten() {
        receive(server, number, Arc::new(stream));
    }
}

/// Serves a connection, if the portal has sent a client here.
///
/// A stray that connects between a ticket and its client takes the client's place: its passcode is
/// wrong, and the seat becomes free without the client. A server that other machines can reach
/// could compare the addresses at the portal and here. On one machine, all addresses are 127.0.0.1.
fn receive(server: &Server, number: usize, stream: Arc<TcpStream>) {
    let worker = &server.workers[number];
    let mut seat = worker.seat.lock();
    // `*seat` is the seat behind the guard of the lock.
    let Seat::Reserved { passcode, .. } = &*seat else {
        // A stray. The port is free, and stays free. The lock is released first: no other thread
        // needs to wait for a stray.
        drop(seat);
        reject(&stream, worker.port);
        return;
    };
    let passcode = passcode.clone();
    *seat = Seat::Handshake {
        stream: Arc::clone(&stream),
        deadline: Instant::now() + HANDSHAKE * server.slower,
    };
    // Without this, the lock would be held during the whole visit.
    drop(seat);
    let _ = visit(server, number, &stream, &passcode);
    // Every return from `visit` leads here, and no other thread gives back a port whose client has
    // connected: it is pushed exactly once. (Only a panic would not lead here. It would stop this
    // thread, and the port would be lost.) The connection is closed when both owners of the stream
    // have dropped it: the seat and this function.
    *worker.seat.lock() = Seat::Free;
    drop(stream);
    reject_backlog(worker);
    server.stack.lock().push(worker.port);
}

/// Serves the client that the portal has sent.
fn visit(
    server: &Server,
    number: usize,
    stream: &Arc<TcpStream>,
    passcode: &str,
) -> io::Result<()> {
    // `^` (XOR) with 1 flips only the last bit of a number: 0 and 1 are partners, as are 2 and 3.
    let (worker, partner) = (&server.workers[number], &server.workers[number ^ 1]);
    // Without this, a write to a client that does not read would wait forever.
    stream.set_write_timeout(Some(WRITE))?;
    // `as_ref` is the `&TcpStream` in the `Arc`. The system does the work of reading and writing,
    // so several threads can use one stream.
    let mut reader = BufReader::new(stream.as_ref());
    let line = next_line(&mut reader).unwrap_or_default();
    // A client has one chance: with several, it could try passcodes until one is right.
    if child_text(&line, "HandshakePasscode").as_deref() != Some(passcode) {
        reject(stream, worker.port);
        return Ok(());
    }
    let mut seat = worker.seat.lock();
    // First the greeting, then the messages from the partner: the partner cannot see the new state
    // before the lock is released.
    write(stream, &greeting(worker.port, "Connection successful"))?;
    write(stream, &command("NO PARTNER"))?;
    let now = Instant::now();
    *seat = Seat::Seated {
        stream: Arc::clone(stream),
        deadline: now + IDLE * server.slower,
        end: now + TOTAL * server.slower,
    };
    drop(seat);
    // First set the new state, then look at the partner. If both arrive at the same time, at least
    // one of them sees the other. (Then each may be notified twice. The project's own chat client
    // waits for this before it sends its user's input.)
    let has_partner = tell(&partner.seat.lock(), &news("PARTNER JOINED", worker.port));
    if has_partner {
        tell(&worker.seat.lock(), &news("PARTNER JOINED", partner.port));
    }
    while let Some(line) = next_line(&mut reader) {
        // Any line postpones the deadline. The lock is released after the block.
        if let Seat::Seated { deadline, .. } = &mut *worker.seat.lock() {
            *deadline = Instant::now() + IDLE * server.slower;
        }
        if child_text(&line, "command").as_deref() == Some("TERMINATE") {
            break;
        }
        answer(&line, worker, partner);
    }
    // Again, set the new state first: a client that arrives now must not take this client for its
    // partner.
    *worker.seat.lock() = Seat::Free;
    tell(&partner.seat.lock(), &news("PARTNER LEFT", worker.port));
    Ok(())
}

/// Delivers a client's message to its partner, or notifies the client why it was not delivered. At
/// most one seat is locked at a time: with both locked, two partners could wait for each other
/// forever.
fn answer(line: &str, worker: &Worker, partner: &Worker) {
    let Some(text) = child_text(line, "message") else {
        let refusal = refusal("unknown-command", "this request is not supported");
        tell(&worker.seat.lock(), &refusal);
        return;
    };
    let (from, text) = (worker.port, escape(&text));
    let message = format!("<CLIENT from='{from}'><message>{text}</message></CLIENT>");
    // The partner's seat is locked until the end of this statement.
    let is_delivered = tell(&partner.seat.lock(), &message);
    if !is_delivered {
        tell(&worker.seat.lock(), &command("NO PARTNER"));
    }
}

/// Writes a document to the client that is seated here. Returns whether it was written.
///
/// The caller holds the seat's lock, so documents from two threads do not mix. A client that does
/// not read delays its partner until the write times out. That happens only once, because the
/// client's connection is then closed: part of the document may have been written, and nothing may
/// follow it.
fn tell(seat: &Seat, document: &str) -> bool {
    let Seat::Seated { stream, .. } = seat else {
        return false;
    };
    let is_written = write(stream, document).is_ok();
    if !is_written {
        let _ = stream.shutdown(Shutdown::Both);
    }
    is_written
}

/// Writes one document. (`Write` is implemented for `&TcpStream`, too. `write_all` needs a `&mut`
/// to its destination, the `&TcpStream`, hence the `mut`.)
fn write(mut stream: &TcpStream, document: &str) -> io::Result<()> {
    stream.write_all(format!("{document}\n").as_bytes())
}

/// Rejects the connections that arrived while the worker served another client. If one of them were
/// accepted after the port went back, it would take the place of the next client.
fn reject_backlog(worker: &Worker) {
    // From here on, `accept` fails if the backlog is empty, instead of waiting.
    let _ = worker.listener.set_nonblocking(true);
    while let Ok((stream, _)) = worker.listener.accept() {
        reject(&stream, worker.port);
    }
    let _ = worker.listener.set_nonblocking(false);
}

/// Rejects a stray, or a client with a wrong passcode.
fn reject(mut stream: &TcpStream, port: u16) {
    let _ = write(stream, &greeting(port, "Wrong handshake passcode"));
    // If a connection is closed with unread bytes, it is reset, and the stray's system may drop the
    // document. So the server shuts down only its own direction, and reads the bytes that the stray
    // has sent.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(LAST_BYTES));
    let _ = stream.read(&mut [0; 1024]);
}

/// A timer's thread: at each tick, it checks the deadlines of one worker.
fn keep_time(server: &Server, number: usize, ticks: &Receiver<()>) {
    let worker = &server.workers[number];
    // A tick is an empty value: only its arrival counts. The loop would end if the ticker stopped.
    for () in ticks {
        let mut seat = worker.seat.lock();
        // By the clock, not by counting ticks: none of the limits may expire too early.
        let now = Instant::now();
        match &*seat {
            // The client did not connect. If it connects later, it is a stray.
            Seat::Reserved { deadline, .. } if now >= *deadline => {
                *seat = Seat::Free;
                server.stack.lock().push(worker.port);
            }
            Seat::Seated { stream, end, .. } if now >= *end => close(stream, "TOTAL TIME TIMEOUT"),
            Seat::Handshake { stream, deadline }
            | Seat::Seated {
                stream, deadline, ..
            } if now >= *deadline => {
                close(stream, "IDLE TIMEOUT");
            }
            _ => {}
        }
    }
}

/// Ends a visit because it has timed out. The worker's thread is blocked in `read`. The shutdown
/// wakes the thread, which sees the end of the stream and gives the port back. (If it has not done
/// so at the next tick, this happens again, and has no effect.)
fn close(stream: &TcpStream, farewell: &str) {
    let _ = write(stream, &command(farewell));
    let _ = stream.shutdown(Shutdown::Both);
}

/// The ticker's thread: it takes the place of the interrupts of a real-time clock.
fn tick(timers: &[Sender<()>]) {
    loop {
        thread::sleep(TICK);
        for timer in timers {
            // If a timer is late, its channel holds a tick already, which is enough. `send` would
            // wait for that timer, and the ticks for all other timers would be late.
            let _ = timer.try_send(());
        }
    }
}

/// Reads the next line. Returns `None` at the end of the visit: at the end of the stream, or if the
/// connection is broken, or if the line is too long or not UTF-8.
///
/// `BufReader` does here what rung 3 does by hand: it keeps the bytes that it has read beyond the
/// line feed. `take` ends the line after that many bytes (it consumes the `&mut`, not the reader).
/// Otherwise a client that never sends a line feed could fill the memory. (The line feed stays in
/// the line. An XML parser skips it.)
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let count = reader.take(MAX_LINE + 2).read_line(&mut line).ok()?;
    // Only the end of the line may be beyond the limit. The last line of a stream may have none.
    let text = line.strip_suffix('\n').unwrap_or(&line);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let is_whole = count > 0 && text.len() as u64 <= MAX_LINE;
    is_whole.then_some(line)
}

/// The text of the element `name` in a line's document. `None` if there is no such element, or the
/// line contains no document.
///
/// A parser understands attributes, both kinds of quotes, entities and CDATA. A search for
/// "<message>" does not. (Rereading the line for each element is simple, and these lines are
/// short.)
fn child_text(line: &str, name: &str) -> Option<String> {
    let document = Document::parse(line).ok()?;
    let mut children = document.root_element().children();
    let child = children.find(|child| child.has_tag_name(name))?;
    // A comment inside a text splits it into parts. `text()` alone would return its words, too.
    let parts = child.children().filter(|part| part.is_text());
    Some(parts.filter_map(|part| part.text()).collect())
}

/// The document that greets a client at a worker's port, or rejects it.
fn greeting(port: u16, text: &str) -> String {
    format!("<SERVER type='worker' port='{port}'><message>{text}</message></SERVER>")
}

/// The document that notifies a client of its partner.
fn news(word: &str, partner: u16) -> String {
    format!("<SERVER><command>{word}</command><partner>{partner}</partner></SERVER>")
}

/// The document that is one command.
fn command(word: &str) -> String {
    format!("<SERVER><command>{word}</command></SERVER>")
}

/// Text as it may appear in a document: `<` becomes `&#60;`.
///
/// A client can put a line feed into its text, by writing `&#10;`. As a raw line feed, it would end
/// the document early, and the rest of the text would look like a document from the server.
fn escape(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '&' | '<' | '>' | '\'' | '"' | '\n' | '\r' => format!("&#{};", u32::from(letter)),
        _ => letter.to_string(),
    });
    escaped.collect()
}

/// The document that refuses a request.
fn refusal(code: &str, sentence: &str) -> String {
    format!("<SERVER><error code='{code}'>{sentence}</error></SERVER>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with two workers on ports that were free.
    fn server() -> Server {
        let worker = |port| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let seat = Mutex::new(Seat::Free);
            Worker {
                port,
                listener,
                seat,
            }
        };
        let workers = (50001..=50002).map(worker).collect();
        let stack = Mutex::new(vec![50002, 50001]);
        Server {
            stack,
            workers,
            slower: 1,
        }
    }

    /// The passcode in a ticket.
    fn passcode(ticket: &str) -> String {
        child_text(ticket, "HandshakePasscode").unwrap()
    }

    /// Connects a client to a worker, and serves it as the worker's thread does, in another thread.
    /// Returns what the client receives.
    fn connect(server: &Server, number: usize, lines: &str) -> Vec<String> {
        let listener = &server.workers[number].listener;
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(lines.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (stream, _) = listener.accept().unwrap();
        receive(server, number, Arc::new(stream));
        BufReader::new(client).lines().map(Result::unwrap).collect()
    }

    fn handshake(passcode: &str) -> String {
        format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n")
    }

    #[test]
    fn each_port_is_given_once_and_then_the_portal_is_full() {
        let server = server();
        assert!(ticket(&server).contains("<Port>50001</Port>"));
        assert!(ticket(&server).contains("<Port>50002</Port>"));
        assert_eq!(ticket(&server), command("FULL"));
    }

    #[test]
    fn a_passcode_is_valid_once_and_the_port_comes_back_once() {
        let server = server();
        let wrong = greeting(50001, "Wrong handshake passcode");
        let right = greeting(50001, "Connection successful");
        let first = passcode(&ticket(&server));
        let answer = |passcode: &str| connect(&server, 0, &handshake(passcode)).remove(0);
        assert_eq!(answer("guessed"), wrong);
        // A wrong passcode has used up the right one.
        assert_eq!(answer(&first), wrong);
        let second = passcode(&ticket(&server));
        assert_ne!(first, second);
        assert_eq!(answer(&second), right);
        assert_eq!(answer(&second), wrong);
        assert_eq!(*server.stack.lock(), [50002, 50001]);
    }

    #[test]
    fn a_message_reaches_the_partner_if_there_is_one() {
        let server = server();
        let hello = "<CLIENT><message>a &lt; b</message></CLIENT>\n";
        let lines = handshake(&passcode(&ticket(&server))) + hello;
        assert_eq!(connect(&server, 0, &lines)[2], command("NO PARTNER"));
        // The test itself takes the partner's seat.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let partner = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let later = Instant::now() + TOTAL;
        *server.workers[1].seat.lock() = Seat::Seated {
            stream: Arc::new(listener.accept().unwrap().0),
            deadline: later,
            end: later,
        };
        let lines = handshake(&passcode(&ticket(&server))) + hello;
        let received = connect(&server, 0, &lines);
        assert_eq!(received.len(), 3);
        assert_eq!(received[2], news("PARTNER JOINED", 50002));
        let mut partner = BufReader::new(partner).lines();
        for document in [
            &news("PARTNER JOINED", 50001),
            "<CLIENT from='50001'><message>a &#60; b</message></CLIENT>",
            &news("PARTNER LEFT", 50001),
        ] {
            assert_eq!(partner.next().unwrap().unwrap(), document);
        }
    }
}
