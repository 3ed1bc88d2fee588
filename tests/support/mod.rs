//! Code shared by the end-to-end tests: a server whose clock ticks on demand, and clients that are
//! plain sockets.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs
)]

pub mod network;
mod patience;
pub mod running;
pub mod sentences;
pub mod terminal;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transcript;
pub mod web;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

pub use patience::PATIENCE;
use portal_chat::clock::Clock;
use portal_chat::event::{Event, EventQueue, Events};
use portal_chat::net::Port;
use portal_chat::server::{Server, Settings, StartError};
use portal_chat::wire::CloseReason;
use socket2::{Domain, SockRef, Socket, Type};

/// Returns `stream`, or the near end of a TLS tunnel over it if this thread's clients use TLS.
pub fn tunnelled(stream: TcpStream) -> TcpStream {
    #[cfg(feature = "tls")]
    let stream = tls::through_tunnel(stream);
    stream
}

/// A server on ports that the kernel chose, with a clock that ticks only on demand.
pub struct TestServer {
    pub server: Server,
    pub clock: Clock,
    queue: EventQueue,
    rooms: usize,
    pub is_single: bool,
}

/// Returns `true` if the event is about the client at `port`.
pub fn is_about(event: &Event, port: Port) -> bool {
    let about = event.number("port").or(event.number("from"));
    about == Some(port.get().into())
}

impl TestServer {
    pub fn start(settings: &Settings) -> TestServer {
        let settings = Settings {
            port: 0,
            ..settings.clone()
        };
        // Another process may listen on a port between its choice by the system and the server's
        // own `listen`.
        let mut attempts = (1..=5).map(|_| TestServer::try_start(&settings, |_| ()));
        let is_taken =
            |attempt: &Result<_, _>| matches!(attempt, Err(StartError::PortTaken { .. }));
        let started = attempts.find(|attempt| !is_taken(attempt));
        started.expect("a free port").expect("the server starts").0
    }

    /// Starts a server on the port in `settings`, with the event readers that `add_readers` adds.
    pub fn start_with<R>(
        settings: &Settings,
        add_readers: impl FnOnce(&mut Events) -> R,
    ) -> (TestServer, R) {
        TestServer::try_start(settings, add_readers).expect("the server starts")
    }

    fn try_start<R>(
        settings: &Settings,
        add_readers: impl FnOnce(&mut Events) -> R,
    ) -> Result<(TestServer, R), StartError> {
        let clock = Clock::new();
        let mut events = Events::new(clock.clone());
        events.show_texts();
        // The queue holds more events than any test emits. A longer one would dominate the cost of
        // starting a server.
        let queue = events.add_reader(1 << 14);
        let added = add_readers(&mut events);
        let server = Server::start(settings, clock.clone(), events)?;
        let server = TestServer {
            server,
            clock,
            queue,
            rooms: settings.rooms,
            is_single: settings.single_port.is_some(),
        };
        Ok((server, added))
    }

    pub fn with_workers(workers: usize) -> TestServer {
        TestServer::start(&Settings {
            workers,
            ..Settings::default()
        })
    }

    pub fn tick(&self, count: u64) {
        for _ in 0..count {
            self.clock.beat();
        }
    }

    /// Calls `action` while the clock is running, for programs that a test can't synchronize. The
    /// server must be started with [`without_timeouts`]; otherwise its timeouts would depend on the
    /// machine's speed.
    pub fn with_running_clock<T>(&self, action: impl FnOnce() -> T) -> T {
        const PERIOD: Duration = Duration::from_millis(100);
        std::thread::scope(|threads| {
            let (running, is_over) = std::sync::mpsc::channel::<()>();
            let clock = &self.clock;
            threads.spawn(move || {
                while is_over.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    clock.beat();
                }
            });
            let result = action();
            drop(running);
            result
        })
    }

    /// The port of the worker at `index`, counted from 0.
    pub fn worker(&self, index: usize) -> Port {
        self.server.workers()[index]
    }

    /// Waits for the next event that `wanted` accepts, and skips those before it.
    pub fn wait_for(&self, description: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut passed = Vec::new();
        // A limit for the whole wait: a server that emits an event every second would otherwise be
        // read forever.
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.queue.events().recv_timeout(left) {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => passed.push(event.line()),
                Err(_) => panic!("no event: {description}; skipped:\n{}", passed.join("\n")),
            }
        }
    }

    /// Waits for the next event of this kind, about `port` if one is given.
    pub fn wait_for_event(&self, kind: &str, port: Option<Port>) -> Event {
        self.wait_for(&format!("{kind} {port:?}"), |event| {
            event.kind == kind && port.is_none_or(|port| is_about(event, port))
        })
    }

    /// Waits for a session to end for this reason, at `port` if one is given.
    pub fn wait_for_close(&self, reason: CloseReason, port: Option<Port>) -> Event {
        self.wait_for(&format!("left {port:?} {reason:?}"), |event| {
            event.kind == "closed"
                && event.text("end") == Some(reason.word())
                && port.is_none_or(|port| is_about(event, port))
        })
    }

    /// The events emitted so far, except those that a call has waited for or skipped.
    pub fn pending_events(&self) -> Vec<Event> {
        self.queue.events().try_iter().collect()
    }

    /// Stops the server, and returns the remaining events.
    pub fn stop(self) -> Vec<Event> {
        self.server.stop();
        self.queue.events().try_iter().collect()
    }

    /// Gives the server's threads time to work: discards the pending events, and waits briefly for
    /// the next one.
    fn settle(&self) {
        self.queue.events().try_iter().for_each(drop);
        let _ = self.queue.events().recv_timeout(Duration::from_millis(10));
    }

    /// Checks invariant 1 at the end of a test: after all clients have left, each port is on the
    /// stack exactly once. Pending reservations expire first.
    pub fn assert_all_ports_freed(&self) {
        self.assert_all_ports_freed_except(&[]);
    }

    /// Like [`TestServer::assert_all_ports_freed`], except that these ports are still taken.
    pub fn assert_all_ports_freed_except(&self, taken: &[Port]) {
        let mut expected = self.server.workers().to_vec();
        expected.retain(|port| !taken.contains(port));
        expected.sort();
        let until = Instant::now() + PATIENCE;
        while self.server.free_ports().len() < expected.len() && Instant::now() < until {
            self.clock.beat();
            self.settle();
        }
        let mut free = self.server.free_ports();
        free.sort();
        assert_eq!(free, expected, "every port is on the stack, exactly once");
    }

    /// Checks that no room exists and every room's port is free, after all clients have left.
    pub fn assert_all_rooms_end(&self) {
        let until = Instant::now() + PATIENCE;
        while self.server.chat().rooms.free_ports() != self.rooms {
            assert!(
                Instant::now() < until,
                "{} of {} rooms' ports are free",
                self.server.chat().rooms.free_ports(),
                self.rooms
            );
            self.clock.beat();
            self.settle();
        }
    }

    pub fn request_port(&self) -> String {
        let mut portal = Client::connect(self.server.portal());
        portal.rest()
    }

    /// Requests a seat from the portal and takes it.
    pub fn seat(&self) -> (Client, Port) {
        if self.is_single {
            let mut client = Client::connect(self.server.portal());
            let welcome = client.line();
            assert!(
                welcome.starts_with("<SERVER type='single' seat='"),
                "{welcome}"
            );
            return (client, self.worker(0));
        }
        let (port, passcode) = ticket(&self.request_port());
        let mut client = self.connect(port);
        client.send_line(&handshake(&passcode));
        assert!(client.line().contains("Connection successful"));
        (client, port)
    }

    pub fn connect(&self, port: Port) -> Client {
        Client::connect(SocketAddr::new(self.server.portal().ip(), port.get()))
    }
}

/// Settings with timeouts longer than any test, for a server with a running clock.
pub fn without_timeouts() -> Settings {
    const NEVER: Duration = Duration::from_secs(1_000_000);
    Settings {
        reserve_timeout: NEVER,
        handshake_timeout: NEVER,
        idle_timeout: None,
        ..Settings::default()
    }
}

/// A path in the temporary folder at which no file exists. `name` identifies the test.
pub fn temporary_file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("portal-chat-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Removes other users' access to a file.
#[cfg(unix)]
pub fn make_private(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
pub fn make_private(_: &std::path::Path) {}

pub fn login(name: &str) -> String {
    format!("<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>")
}

pub fn password(password: &str) -> String {
    format!("<CLIENT><command>PASSWORD</command><password>{password}</password></CLIENT>")
}

pub fn command(name: &str, parts: &str) -> String {
    format!("<CLIENT><command>{name}</command>{parts}</CLIENT>")
}

/// The port and the passcode of a ticket.
pub fn ticket(document: &str) -> (Port, String) {
    let part = |element: &str| {
        let rest = document
            .split_once(&format!("<{element}>"))
            .unwrap_or_else(|| panic!("no ticket: {document}"))
            .1;
        rest.split_once('<').unwrap().0.to_owned()
    };
    (
        Port::new(part("Port").parse().unwrap()).unwrap(),
        part("HandshakePasscode"),
    )
}

pub fn handshake(passcode: &str) -> String {
    format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>")
}

pub fn message(text: &str) -> String {
    format!("<CLIENT><message>{text}</message></CLIENT>")
}

/// A TCP client that knows nothing about the protocol except the line ending.
pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
    /// For the panic message of a test that times out.
    latest: VecDeque<String>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&address, PATIENCE).expect("connects"))
    }

    pub fn connect_from(local: IpAddr, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(local, 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Client::over(socket.into())
    }

    pub fn over(stream: TcpStream) -> Client {
        let stream = tunnelled(stream);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            received: Vec::new(),
            latest: VecDeque::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sends");
    }

    /// Sends, and ignores errors: the server may have closed the connection already.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn send_line(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    /// Returns the next line, or `None` if the server has closed the connection.
    pub fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = String::from_utf8(line[..end].to_vec()).expect("UTF-8");
                self.latest.truncate(9);
                self.latest.push_front(line.clone());
                return Some(line);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if is_reset(&error) => break,
                Err(error) => panic!(
                    "nothing arrived: {error}; the latest lines, newest first: {:#?}",
                    self.latest
                ),
            }
        }
        assert!(
            self.received.is_empty(),
            "half a line: {:?}",
            String::from_utf8_lossy(&self.received)
        );
        None
    }

    pub fn line(&mut self) -> String {
        self.next_line()
            .expect("a line, but the connection was closed")
    }

    /// Returns the next line that contains `part`, and skips those before it.
    pub fn line_with(&mut self, part: &str) -> String {
        // A limit for the whole wait, as in `TestServer::wait_for`.
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
            assert!(Instant::now() < until, "no line with {part:?}");
        }
    }

    /// Reads lines until the end of the connection.
    pub fn rest(&mut self) -> String {
        let mut lines = String::new();
        while let Some(line) = self.next_line() {
            lines += &line;
            lines.push('\n');
        }
        lines
    }

    pub fn assert_closed(&mut self) {
        assert_eq!(self.next_line(), None, "the connection should be closed");
    }

    /// Reads until the end of the connection, which may be in the middle of a line.
    pub fn rest_of_bytes(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.received);
        // A reset counts as a close.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Returns `true` if there is no unread data.
    pub fn has_received_nothing(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let result = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.received.is_empty() && result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Returns `true` if all lines that have arrived contain `part`.
    pub fn has_received_only(&mut self, part: &str) -> bool {
        while !self.has_received_nothing() {
            if !self.line().contains(part) {
                return false;
            }
        }
        true
    }

    /// Waits until data arrives or the connection is closed. Returns `true` if it was closed
    /// without data.
    pub fn is_closed_without_data(&mut self) -> bool {
        self.received.is_empty() && matches!(self.stream.peek(&mut [0]), Ok(0) | Err(_))
    }

    /// Closes the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

/// A client of the UDP portal, with its own socket.
pub struct UdpClient(UdpSocket);

impl UdpClient {
    pub fn new(portal: SocketAddr) -> UdpClient {
        let any: SocketAddr = if portal.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        }
        .parse()
        .unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(portal).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        UdpClient(socket)
    }

    pub fn request_port(&self) -> String {
        self.0.send(&[b' '; 300]).unwrap();
        let mut reply = [0; 4096];
        let count = self
            .0
            .recv(&mut reply)
            .expect("a reply from the UDP portal");
        String::from_utf8(reply[..count].to_vec()).unwrap()
    }
}
