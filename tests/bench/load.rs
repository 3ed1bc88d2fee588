//! What the load is made of: programs to start, clients to connect, and bytes that have to come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that was started for this, and is ended with it.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    board: Option<SocketAddr>,
    /// Where browsers get in, if it has such a door.
    web: Option<SocketAddr>,
    /// From the start until it said where it listens.
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
        // Only a server says more: where its workers are, and its board if it has one.
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
            address: address.unwrap_or_else(|| panic!("it did not start: {line}")),
            board,
            web,
            start_up,
        }
    }

    /// Where browsers get in.
    pub fn web(&self) -> SocketAddr {
        self.web.unwrap()
    }

    /// Where its board is, if it has one.
    pub fn board(&self) -> Option<SocketAddr> {
        self.board
    }

    /// Processor time so far, of all its threads.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // After the name, which may hold anything: state, and from there the 12th and 13th.
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // A hundred a second, on every Linux there is.
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

/// A connection that knows how many bytes it waits for.
pub struct Line {
    pub stream: TcpStream,
    /// What it is read and written through, if that is encrypted.
    #[cfg(feature = "tls")]
    secured: Option<portal_chat::net::Stream>,
    /// It is a browser's WebSocket: what is said and expected is framed as such.
    is_web: bool,
    buffer: Vec<u8>,
    /// `buffer[start..end]` has come and not been looked at.
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

    pub fn say(&mut self, bytes: &[u8]) {
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

    /// Documents, which are given as lines, as they are said here.
    pub fn as_said(&self, lines: &str) -> Vec<u8> {
        match self.is_web {
            true => lines.lines().flat_map(masked).collect(),
            false => lines.as_bytes().to_vec(),
        }
    }

    /// Documents, which are given as lines, as they come here.
    pub fn as_heard(&self, lines: &str) -> Vec<u8> {
        match self.is_web {
            true => frames(lines),
            false => lines.as_bytes().to_vec(),
        }
    }

    /// Says documents, which are given as lines.
    pub fn say_lines(&mut self, lines: &str) {
        let bytes = self.as_said(lines);
        self.say(&bytes);
    }

    /// Exactly these documents have to come next, which are given as lines.
    pub fn expect_lines(&mut self, lines: &str) {
        let bytes = self.as_heard(lines);
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
        let count = count.unwrap_or_else(|error| panic!("nothing came: {error}"));
        assert!(count > 0, "the connection was closed");
        self.end += count;
    }

    /// Exactly these bytes have to come next.
    pub fn expect(&mut self, bytes: &[u8]) {
        while self.end - self.start < bytes.len() {
            self.read_more();
        }
        let came = &self.buffer[self.start..self.start + bytes.len()];
        assert!(
            came == bytes,
            "expected {:?}, but {:?} came",
            String::from_utf8_lossy(&bytes[..bytes.len().min(300)]),
            String::from_utf8_lossy(&came[..came.len().min(300)])
        );
        self.start += bytes.len();
    }

    /// The next line, without its line feed; of a browser, the next text.
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
            // Short ones and those of two bytes' length are all that a server says here.
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

    /// A line that speaks TLS with a server that `secret` knows.
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
    let mut answer = [0; 500];
    let count = socket.recv(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// Takes the seat that the portal named. Its welcome has been read, and no more.
pub fn take_seat(portal: SocketAddr, ticket: &str) -> (Line, String) {
    let port = part(ticket, "Port");
    let mut line = Line::to(SocketAddr::new(portal.ip(), port.parse().unwrap()));
    let passcode = part(ticket, "HandshakePasscode");
    line.say(
        format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n").as_bytes(),
    );
    line.line_with("Connection successful");
    (line, port)
}

/// Documents that are given as lines, each as a server's text frame.
pub fn frames(lines: &str) -> Vec<u8> {
    lines.lines().flat_map(framed).collect()
}

/// A server's text frame.
fn framed(text: &str) -> Vec<u8> {
    let mut frame = head(text.len(), 0);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A client's. The mask's value makes no difference to the work.
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

/// Takes a seat as a browser does. Its welcome has been read, and no more.
pub fn sit_as_a_browser(door: SocketAddr) -> (Line, String) {
    let mut line = Line::to(door);
    line.say(
        format!(
            "GET /chat HTTP/1.1\r\nHost: {door}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .as_bytes(),
    );
    while line.line() != b"\r" {}
    line.is_web = true;
    let ticket = String::from_utf8_lossy(line.line()).into_owned();
    let passcode = part(&ticket, "HandshakePasscode");
    line.say_lines(&format!(
        "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n"
    ));
    line.line_with("Connection successful");
    (line, part(&ticket, "Port"))
}

/// Two who sit beside each other, and what stands in `from` for each.
pub fn pair(server: &Program) -> [(Line, String); 2] {
    pair_of(|| take_seat(server.address, &ticket_by_tcp(server.address)))
}

/// The same, in two browsers.
pub fn pair_of_browsers(server: &Program) -> [(Line, String); 2] {
    pair_of(|| sit_as_a_browser(server.web()))
}

fn pair_of(seat: impl Fn() -> (Line, String)) -> [(Line, String); 2] {
    let (mut one, mut other) = (seat(), seat());
    one.0.line_with("PARTNER JOINED");
    other.0.line_with("PARTNER JOINED");
    [one, other]
}

/// So many who have logged in as m0000, m0001 and so on: names that sort as numbers do, so that the
/// server writes in the order in which the load reads, as it is with the bare fan-out. (In any
/// other order the load sleeps until one of the last has been written to, and no longer reads
/// beside it.)
pub fn crowd(server: &Program, count: usize) -> Vec<Line> {
    mixed_crowd(server, count, |_| false)
}

/// The same, of whom those are browsers whose number `is_browser` says so of.
pub fn mixed_crowd(
    server: &Program,
    count: usize,
    is_browser: impl Fn(usize) -> bool,
) -> Vec<Line> {
    let members = (0..count).map(|number| {
        let (mut line, _) = match is_browser(number) {
            true => sit_as_a_browser(server.web()),
            false => take_seat(server.address, &ticket_by_tcp(server.address)),
        };
        let login =
            format!("<CLIENT><command>LOGIN</command><username>m{number:04}</username></CLIENT>\n");
        line.say_lines(&login);
        line.line_with("<command>WELCOME");
        line
    });
    let mut members: Vec<Line> = members.collect();
    // What else they have been told by now (whom they sit beside) is over with the answer to this.
    for member in &mut members {
        member.say_lines("<CLIENT><command>PING</command></CLIENT>\n");
        member.line_with("PONG");
    }
    members
}

/// Sixty-four bytes of text that begin with a number.
pub fn text(number: usize) -> String {
    format!("{number:08} the quick brown fox jumps over the lazy dog, again a")
}

/// `part` of a sorted row of times, in microseconds.
pub fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = ((times.len() - 1) as f64 * part) as usize;
    times[index].as_secs_f64() * 1e6
}

/// A server's certificate in files, and a client that trusts it.
#[cfg(feature = "tls")]
pub struct Secret {
    client: portal_chat::net::TlsClient,
    /// The same, for who wants to do what a well-behaved client does not.
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
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
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

    /// A server that shows it.
    pub fn server(&self, options: &[&str]) -> Program {
        let (certificate, key) = (self.folder.join("cert.pem"), self.folder.join("key.pem"));
        let files = [
            "--tls",
            certificate.to_str().unwrap(),
            key.to_str().unwrap(),
        ];
        Program::server(&[options, &files].concat())
    }

    /// Takes a seat there.
    pub fn take_seat(&self, portal: SocketAddr) -> (Line, String) {
        let ticket = String::from_utf8_lossy(Line::secured_to(portal, self).line()).into_owned();
        let port = part(&ticket, "Port");
        let worker = SocketAddr::new(portal.ip(), port.parse().unwrap());
        let mut line = Line::secured_to(worker, self);
        let passcode = part(&ticket, "HandshakePasscode");
        line.say(
            format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n")
                .as_bytes(),
        );
        line.line_with("Connection successful");
        (line, port)
    }

    /// Takes a seat over a connection whose records are the caller's own to write.
    fn sit_bare(&self, portal: SocketAddr) -> (rustls::ClientConnection, TcpStream) {
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
        let said = format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n");
        tls.writer().write_all(said.as_bytes()).unwrap();
        tls.write_tls(&mut worker).unwrap();
        (tls, worker)
    }

    /// Takes a seat and never stops changing its keys, each record a byte at a time; and knocks at
    /// the portal with handshakes that never end. Until `is_over`.
    pub fn harass(&self, portal: SocketAddr, is_over: &std::sync::atomic::AtomicBool) {
        use std::sync::atomic::Ordering;
        let (mut tls, mut worker) = self.sit_bare(portal);
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

    /// Takes a seat, asks without end, and reads no answer; takes another one when the server has
    /// ended it. Until `is_over`.
    pub fn never_read(&self, portal: SocketAddr, is_over: &std::sync::atomic::AtomicBool) {
        use std::sync::atomic::Ordering;
        let hundred = PING.repeat(100);
        while !is_over.load(Ordering::Acquire) {
            let (mut tls, mut worker) = self.sit_bare(portal);
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

    /// Two who sit beside each other.
    pub fn pair(&self, server: &Program) -> [(Line, String); 2] {
        pair_of(|| self.take_seat(server.address))
    }

    /// So many who have logged in, as in [`crowd`].
    pub fn crowd(&self, server: &Program, count: usize) -> Vec<Line> {
        let members = (0..count).map(|number| {
            let (mut line, _) = self.take_seat(server.address);
            line.say_lines(&format!(
                "<CLIENT><command>LOGIN</command><username>m{number:04}</username></CLIENT>\n"
            ));
            line.line_with("<command>WELCOME");
            line.say_lines("<CLIENT><command>PING</command></CLIENT>\n");
            line.line_with("PONG");
            line
        });
        let mut members: Vec<Line> = members.collect();
        // Whom each sits beside is told after that.
        for member in &mut members {
            member.say_lines("<CLIENT><command>PING</command></CLIENT>\n");
            member.line_with("PONG");
        }
        members
    }
}

/// What whoever harasses the server says.
#[cfg(feature = "tls")]
const PING: &[u8] = b"<CLIENT><command>PING</command></CLIENT>\n";

#[cfg(feature = "tls")]
impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
