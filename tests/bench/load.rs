//! The parts of the load: programs to start, clients to connect, and bytes to expect.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time and the id of a message.
pub const STAMP: &str = " time='####-##-##T##:##:##.###Z' id='################'";

/// A child process that is killed on drop.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    board: Option<SocketAddr>,
    /// The address of the browser entrance, if there is one.
    web: Option<SocketAddr>,
    /// The time from the start until it printed its address.
    pub start_up: Duration,
}

impl Program {
    pub fn server(options: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatserver"));
        command.args(["0", "--quiet", "--no-passwords", "--announce", "0"]);
        Program::start(command.args(options))
    }

    pub fn bare(what: &str) -> Program {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Program::start(command.args(["bare", what]))
    }

    fn start(command: &mut Command) -> Program {
        let begun = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        screen.read_line(&mut line).unwrap();
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        let start_up = begun.elapsed();
        // Only a server prints more: its workers' ports, and its board if it has one.
        let (mut board, mut web) = (None, None);
        let page = |line: &str, of: &str| -> Option<SocketAddr> {
            let page = line.strip_prefix(of)?.strip_prefix("http://")?;
            page.split('/').next()?.parse().ok()
        };
        while ["portal", "workers", "board", "web", "tls", "         "]
            .iter()
            .any(|word| line.starts_with(word))
        {
            line.clear();
            screen.read_line(&mut line).unwrap();
            board = board.or(page(&line, "board    "));
            web = web.or(page(&line, "web      "));
        }
        std::thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
        Program {
            child,
            address: address.unwrap_or_else(|| panic!("the program did not start: {line}")),
            board,
            web,
            start_up,
        }
    }

    /// The address of the browser entrance.
    pub fn web(&self) -> SocketAddr {
        self.web.unwrap()
    }

    /// The board's address, if there is one.
    pub fn board(&self) -> Option<SocketAddr> {
        self.board
    }

    /// The processor time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // The name, which may contain anything, is followed by the state and other fields. The 12th
        // and 13th of these are the times.
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // Linux reports 100 ticks per second.
        Duration::from_millis(ticks * 10)
    }

    pub fn resident_kib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or(f64::NAN)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that sends and expects exact bytes.
pub struct Line {
    pub stream: TcpStream,
    /// The TLS stream, if the connection is encrypted.
    #[cfg(feature = "tls")]
    secured: Option<portal_chat::net::Stream>,
    /// `true` for a browser's WebSocket, on which documents are sent and expected in frames.
    is_web: bool,
    buffer: Vec<u8>,
    /// `buffer[start..end]` has been received but not read.
    start: usize,
    end: usize,
}

impl Line {
    pub fn to(address: SocketAddr) -> Line {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Line {
            stream,
            #[cfg(feature = "tls")]
            secured: None,
            is_web: false,
            buffer: vec![0; 4096],
            start: 0,
            end: 0,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        #[cfg(feature = "tls")]
        if let Some(mut secured) = self.secured.as_ref() {
            return secured.write_all(bytes).unwrap();
        }
        self.stream.write_all(bytes).unwrap();
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let room = &mut self.buffer[self.end..];
        #[cfg(feature = "tls")]
        if let Some(mut secured) = self.secured.as_ref() {
            return secured.read(room);
        }
        self.stream.read(room)
    }

    pub fn is_web(&self) -> bool {
        self.is_web
    }

    /// Encodes documents, given as lines, as this client sends them.
    pub fn encode_sent(&self, lines: &str) -> Vec<u8> {
        match self.is_web {
            true => lines.lines().flat_map(masked).collect(),
            false => lines.as_bytes().to_vec(),
        }
    }

    /// Encodes documents, given as lines, as this client receives them.
    pub fn encode_received(&self, lines: &str) -> Vec<u8> {
        match self.is_web {
            true => frames(lines),
            false => lines.as_bytes().to_vec(),
        }
    }

    /// Sends documents, given as lines.
    pub fn send_lines(&mut self, lines: &str) {
        let bytes = self.encode_sent(lines);
        self.send(&bytes);
    }

    /// Expects exactly these documents, given as lines.
    pub fn expect_lines(&mut self, lines: &str) {
        let bytes = self.encode_received(lines);
        self.expect(&bytes);
    }

    fn read_more(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        let count = self.read();
        let count = count.unwrap_or_else(|error| panic!("nothing arrived: {error}"));
        assert!(count > 0, "the connection was closed");
        self.end += count;
    }

    /// Expects exactly these bytes, where `#` stands for any byte (see [`STAMP`]).
    pub fn expect(&mut self, bytes: &[u8]) {
        while self.end - self.start < bytes.len() {
            self.read_more();
        }
        let received = &self.buffer[self.start..self.start + bytes.len()];
        let is_as_expected = |(received, expected)| expected == b'#' || received == expected;
        let mut pairs = received.iter().copied().zip(bytes.iter().copied());
        assert!(
            received == bytes || pairs.all(is_as_expected),
            "expected {:?}, received {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(300)]),
            String::from_utf8_lossy(&received[..received.len().min(300)])
        );
        self.start += bytes.len();
    }

    /// Returns the next line, without its line feed, or a browser's next text frame.
    pub fn line(&mut self) -> &[u8] {
        if self.is_web {
            return self.text_frame();
        }
        let mut looked_at = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(offset) = memchr::memchr(b'\n', &unread[looked_at..]) {
                let line = self.start..self.start + looked_at + offset;
                self.start = line.end + 1;
                return &self.buffer[line];
            }
            looked_at = unread.len();
            self.read_more();
        }
    }

    fn text_frame(&mut self) -> &[u8] {
        loop {
            let unread = &self.buffer[self.start..self.end];
            // The server's frames here have a length of 7 or 16 bits.
            let (head, length) = match unread {
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
                [_, short, ..] if *short < 126 => (2, usize::from(*short)),
                _ => (2, usize::MAX / 2),
            };
            if unread.len() >= head + length {
                let text = self.start + head..self.start + head + length;
                self.start = text.end;
                return &self.buffer[text];
            }
            self.read_more();
        }
    }

    pub fn line_with(&mut self, part: &str) -> String {
        loop {
            let line = String::from_utf8_lossy(self.line()).into_owned();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Reads to the end of the connection.
    pub fn rest(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// Connects over TLS to a server with the certificate from `secret`.
    #[cfg(feature = "tls")]
    pub fn secured_to(address: SocketAddr, secret: &Secret) -> Line {
        let mut line = Line::to(address);
        let stream = portal_chat::net::Stream::from(line.stream.try_clone().unwrap());
        let stream = stream
            .secured_as_client(&secret.client, "localhost")
            .unwrap();
        stream.shake_hands(None).unwrap();
        line.secured = Some(stream);
        line
    }
}

fn part(text: &str, element: &str) -> String {
    let (_, rest) = text.split_once(&format!("<{element}>")).expect(text);
    rest.split_once('<').unwrap().0.to_owned()
}

pub fn ticket_by_tcp(portal: SocketAddr) -> String {
    String::from_utf8_lossy(Line::to(portal).line()).into_owned()
}

pub fn ticket_by_udp(socket: &UdpSocket) -> String {
    socket.send(&[b' '; 160]).unwrap();
    let mut reply = [0; 500];
    let count = socket.recv(&mut reply).unwrap();
    String::from_utf8_lossy(&reply[..count]).into_owned()
}

/// Takes the seat that a ticket reserves, and reads only the welcome.
pub fn take_seat(portal: SocketAddr, ticket: &str) -> (Line, String) {
    let port = part(ticket, "Port");
    let mut line = Line::to(SocketAddr::new(portal.ip(), port.parse().unwrap()));
    let passcode = part(ticket, "HandshakePasscode");
    line.send(
        format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n").as_bytes(),
    );
    line.line_with("Connection successful");
    (line, port)
}

/// Encodes documents, given as lines, as a server's text frames.
pub fn frames(lines: &str) -> Vec<u8> {
    lines.lines().flat_map(framed).collect()
}

/// A server's text frame.
fn framed(text: &str) -> Vec<u8> {
    let mut frame = head(text.len(), 0);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A client's text frame. The mask's value makes no difference to the work.
fn masked(text: &str) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = head(text.len(), 0x80);
    frame.extend(mask);
    frame.extend(
        text.bytes()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

fn head(length: usize, mask_bit: u8) -> Vec<u8> {
    match length {
        short @ 0..=125 => vec![0x81, mask_bit | short as u8],
        long => {
            let [high, low] = (long as u16).to_be_bytes();
            vec![0x81, mask_bit | 126, high, low]
        }
    }
}

/// Takes a seat as a browser does, and reads only the welcome.
pub fn take_seat_as_browser(entrance: SocketAddr) -> (Line, String) {
    let mut line = Line::to(entrance);
    line.send(
        format!(
            "GET /chat HTTP/1.1\r\nHost: {entrance}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .as_bytes(),
    );
    while line.line() != b"\r" {}
    line.is_web = true;
    let ticket = String::from_utf8_lossy(line.line()).into_owned();
    let passcode = part(&ticket, "HandshakePasscode");
    line.send_lines(&format!(
        "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n"
    ));
    line.line_with("Connection successful");
    (line, part(&ticket, "Port"))
}

/// Two partners, each with its `from` attribute.
pub fn pair(server: &Program) -> [(Line, String); 2] {
    pair_of(|| take_seat(server.address, &ticket_by_tcp(server.address)))
}

/// Two partners in browsers.
pub fn pair_of_browsers(server: &Program) -> [(Line, String); 2] {
    pair_of(|| take_seat_as_browser(server.web()))
}

fn pair_of(seat: impl Fn() -> (Line, String)) -> [(Line, String); 2] {
    let (mut one, mut other) = (seat(), seat());
    one.0.line_with("PARTNER JOINED");
    other.0.line_with("PARTNER JOINED");
    [one, other]
}

/// Logs in `count` clients as m0000, m0001 and so on. These names sort as their numbers do, so that
/// the server writes in the order in which the load reads, as the bare fan-out does. (In any other
/// order, the load would sleep, without reading, until one of the last clients is written to.)
pub fn crowd(server: &Program, count: usize) -> Vec<Line> {
    mixed_crowd(server, count, |_| false)
}

/// Like [`crowd`], except that clients are browsers if `is_browser` returns `true` for their
/// number.
pub fn mixed_crowd(
    server: &Program,
    count: usize,
    is_browser: impl Fn(usize) -> bool,
) -> Vec<Line> {
    let members = (0..count).map(|number| {
        let (mut line, _) = match is_browser(number) {
            true => take_seat_as_browser(server.web()),
            false => take_seat(server.address, &ticket_by_tcp(server.address)),
        };
        let login =
            format!("<CLIENT><command>LOGIN</command><username>m{number:04}</username></CLIENT>\n");
        line.send_lines(&login);
        line.line_with("<command>WELCOME");
        line
    });
    let mut members: Vec<Line> = members.collect();
    settle(&mut members);
    members
}

/// Waits until everybody has received all documents about its partner. After a member's first PONG,
/// its worker has announced its login; after the second one, it has received its partner's.
fn settle(members: &mut [Line]) {
    for _ in 0..2 {
        for member in &mut *members {
            member.send_lines("<CLIENT><command>PING</command></CLIENT>\n");
            member.line_with("PONG");
        }
    }
}

/// Sixty-four bytes of text that begin with a number.
pub fn text(number: usize) -> String {
    format!("{number:08} the quick brown fox jumps over the lazy dog, again a")
}

/// Sorts the times and returns their quantile `part`, in microseconds.
pub fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = ((times.len() - 1) as f64 * part) as usize;
    times[index].as_secs_f64() * 1e6
}

/// A server's certificate in files, and a client that trusts it.
#[cfg(feature = "tls")]
pub struct Secret {
    client: portal_chat::net::TlsClient,
    /// The TLS configuration, for clients that misbehave.
    config: std::sync::Arc<rustls::ClientConfig>,
    folder: std::path::PathBuf,
}

#[cfg(feature = "tls")]
impl Secret {
    pub fn make() -> Secret {
        use rustls::version::{TLS12, TLS13};
        let folder = std::env::temp_dir().join(format!("portal-chat-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        let mut key = std::fs::OpenOptions::new();
        key.write(true).create(true).truncate(true);
        // The server refuses a key that other users can read.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut key, 0o600);
        let mut key = key.open(folder.join("key.pem")).unwrap();
        key.write_all(made.signing_key.serialize_pem().as_bytes())
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Secret {
            client: portal_chat::net::TlsClient::new(config.clone()),
            config: std::sync::Arc::new(config),
            folder,
        }
    }

    /// Starts a server with this certificate.
    pub fn server(&self, options: &[&str]) -> Program {
        let (certificate, key) = (self.folder.join("cert.pem"), self.folder.join("key.pem"));
        let files = [
            "--tls",
            certificate.to_str().unwrap(),
            key.to_str().unwrap(),
        ];
        Program::server(&[options, &files].concat())
    }

    pub fn take_seat(&self, portal: SocketAddr) -> (Line, String) {
        let ticket = String::from_utf8_lossy(Line::secured_to(portal, self).line()).into_owned();
        let port = part(&ticket, "Port");
        let worker = SocketAddr::new(portal.ip(), port.parse().unwrap());
        let mut line = Line::secured_to(worker, self);
        let passcode = part(&ticket, "HandshakePasscode");
        line.send(
            format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n")
                .as_bytes(),
        );
        line.line_with("Connection successful");
        (line, port)
    }

    /// Takes a seat over a connection on which the caller writes the TLS records itself.
    fn take_seat_with_raw_tls(&self, portal: SocketAddr) -> (rustls::ClientConnection, TcpStream) {
        let ticket = String::from_utf8_lossy(Line::secured_to(portal, self).line()).into_owned();
        let port = part(&ticket, "Port").parse().unwrap();
        let name = "localhost".try_into().unwrap();
        let mut tls =
            rustls::ClientConnection::new(std::sync::Arc::clone(&self.config), name).unwrap();
        let mut worker = TcpStream::connect(SocketAddr::new(portal.ip(), port)).unwrap();
        worker.set_nodelay(true).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut worker).unwrap();
        }
        let passcode = part(&ticket, "HandshakePasscode");
        let handshake =
            format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n");
        tls.writer().write_all(handshake.as_bytes()).unwrap();
        tls.write_tls(&mut worker).unwrap();
        (tls, worker)
    }

    /// Takes a seat and updates its keys continuously, sending each record one byte at a time, and
    /// starts handshakes at the portal that never finish, until `is_over`.
    pub fn harass(&self, portal: SocketAddr, is_over: &AtomicBool) {
        let (mut tls, mut worker) = self.take_seat_with_raw_tls(portal);
        let mut half_open = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            let mut records = Vec::new();
            for _ in 0..20 {
                tls.refresh_traffic_keys().unwrap();
                tls.writer().write_all(PING).unwrap();
                while tls.wants_write() {
                    tls.write_tls(&mut records).unwrap();
                }
            }
            for byte in records {
                if worker.write_all(&[byte]).is_err() || is_over.load(Ordering::Acquire) {
                    return;
                }
            }
            if let Ok(mut stream) = TcpStream::connect(portal) {
                let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1]);
                half_open.push(stream);
            }
            half_open.truncate(50);
        }
    }

    /// Takes a seat, sends requests continuously and reads no reply, until `is_over`. Takes another
    /// seat whenever the server closes the connection.
    pub fn never_read(&self, portal: SocketAddr, is_over: &AtomicBool) {
        let hundred = PING.repeat(100);
        while !is_over.load(Ordering::Acquire) {
            let (mut tls, mut worker) = self.take_seat_with_raw_tls(portal);
            let soon = std::time::Duration::from_millis(50);
            worker.set_write_timeout(Some(soon)).unwrap();
            let mut records: Vec<u8> = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                if records.is_empty() {
                    tls.writer().write_all(&hundred).unwrap();
                    while tls.wants_write() {
                        tls.write_tls(&mut records).unwrap();
                    }
                }
                match worker.write(&records) {
                    Ok(count) => drop(records.drain(..count)),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        }
    }

    pub fn pair(&self, server: &Program) -> [(Line, String); 2] {
        pair_of(|| self.take_seat(server.address))
    }

    /// Logs in `count` clients, as [`crowd`] does.
    pub fn crowd(&self, server: &Program, count: usize) -> Vec<Line> {
        let members = (0..count).map(|number| {
            let (mut line, _) = self.take_seat(server.address);
            line.send_lines(&format!(
                "<CLIENT><command>LOGIN</command><username>m{number:04}</username></CLIENT>\n"
            ));
            line.line_with("<command>WELCOME");
            line
        });
        let mut members: Vec<Line> = members.collect();
        settle(&mut members);
        members
    }
}

/// The request that the misbehaving clients send.
#[cfg(feature = "tls")]
const PING: &[u8] = b"<CLIENT><command>PING</command></CLIENT>\n";

/// Sets its flag when dropped, so that even a panic ends the threads that wait for the flag.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(feature = "tls")]
impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
