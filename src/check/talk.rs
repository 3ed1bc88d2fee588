//! The checker's end of one connection: what it sends, what it expects, and the failure if
//! something else arrives.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::failure::{ENDED, Failure, Symptom, last_action, record_action, shown};
use super::program::Subject;
use portal_core::clock::slowed;
use portal_wire::limits;
use portal_wire::{ClientDoc, Codec, ServerDoc};

/// The pause between two parts of a write, so that the peer usually reads them one by one.
const PAUSE: Duration = Duration::from_millis(20);

/// The interval between attempts to connect to a program that is not listening yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The time after a reply during which nothing more may arrive.
const MOMENT: Duration = Duration::from_millis(150);

/// A socket that has accepted no data for this long is considered full.
const FULL: Duration = Duration::from_secs(1);

/// The result of waiting for a line.
enum Reply {
    Line(Vec<u8>),
    /// The connection was closed. Contains the bytes received before that without a line feed.
    End(Vec<u8>),
    /// A timeout, and the bytes received so far, which had no line feed.
    Nothing(Vec<u8>),
}

impl Subject<'_> {
    /// Connects a client, which failures refer to as `name`.
    ///
    /// # Errors
    /// The program does not accept the connection.
    pub(super) fn connect(&self, name: &str) -> Result<Talk, Failure> {
        self.connect_to(self.address.port(), name)
    }

    /// Connects a client to another port of the program.
    ///
    /// # Errors
    /// The program does not accept the connection.
    pub(super) fn connect_to(&self, port: u16, name: &str) -> Result<Talk, Failure> {
        Talk::connect(self, SocketAddr::new(self.address.ip(), port), name)
    }

    /// Expects the port to be closed now or soon.
    ///
    /// # Errors
    /// The program still listens on it after `patience`.
    pub(super) fn expect_port_closed(&self, port: u16) -> Result<(), Failure> {
        let address = SocketAddr::new(self.address.ip(), port);
        let until = Instant::now() + self.patience;
        while TcpStream::connect_timeout(&address, self.patience).is_ok() {
            if Instant::now() > until {
                return Err(
                    Failure::expected("a refused connection, because the port is closed")
                        .sent(format!("a client connected to port {port}"))
                        .received("an accepted connection"),
                );
            }
            thread::sleep(RETRY_INTERVAL);
        }
        Ok(())
    }
}

/// The idea for a line that is nearly the expected one.
fn idea_for(expected: &[u8], received: &Reply) -> Option<&'static str> {
    match received {
        Reply::Nothing(rest) | Reply::End(rest) if [rest, &b"\n"[..]].concat() == expected => {
            Some("The text is right. What tells the client that the line is complete?")
        }
        Reply::Line(line)
            if line.len() < expected.len() && without_space(line) == without_space(expected) =>
        {
            Some(
                "Only white space is missing. Which of your functions removes more than just the \
                 line feed?",
            )
        }
        _ => None,
    }
}

/// Returns `true` for a frame that shows a misplaced line feed.
fn is_joined(frame: &[u8]) -> bool {
    let text = String::from_utf8_lossy(frame);
    let roots = text.matches("<SERVER").count() + text.matches("<CLIENT").count();
    text.is_empty() || roots > 1
}

fn without_space(line: &[u8]) -> Vec<u8> {
    let bytes = line.iter().copied();
    bytes.filter(|byte| !byte.is_ascii_whitespace()).collect()
}

/// Returns `true` for documents that may arrive at any time: messages, events, and the recipient
/// count of the client's own message.
fn is_unsolicited(doc: &ServerDoc<'_>) -> bool {
    matches!(
        doc,
        ServerDoc::Relay(_)
            | ServerDoc::Sent { .. }
            | ServerDoc::Notice(_)
            | ServerDoc::UserJoined { .. }
            | ServerDoc::UserLeft { .. }
            | ServerDoc::RoomJoined { .. }
            | ServerDoc::RoomLeft { .. }
            | ServerDoc::Topic { .. }
            | ServerDoc::Room { .. }
            | ServerDoc::Invited { .. }
            | ServerDoc::PartnerJoined { .. }
            | ServerDoc::PartnerLeft { .. }
            | ServerDoc::PartnerLoggedIn { .. }
            | ServerDoc::NoPartner
            | ServerDoc::IdleSoon { .. }
    )
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Talk {
    name: String,
    stream: TcpStream,
    patience: Duration,
    /// The last action.
    sent: String,
    /// The bytes that have been received but not yet read.
    kept: Vec<u8>,
    /// True once the peer has closed the connection.
    has_ended: bool,
}

impl Talk {
    /// Wraps `stream`. `sent` is the first action.
    pub(super) fn over(
        stream: TcpStream,
        patience: Duration,
        name: &str,
        sent: String,
    ) -> io::Result<Talk> {
        // Send each part immediately.
        stream.set_nodelay(true)?;
        Ok(Talk {
            name: name.to_owned(),
            stream,
            patience,
            sent,
            kept: Vec::new(),
            has_ended: false,
        })
    }

    /// Connects to `subject`. Until a connection has been accepted, a refusal only means that the
    /// program is not listening yet.
    fn connect(subject: &Subject<'_>, to: SocketAddr, name: &str) -> Result<Talk, Failure> {
        let expected = || {
            Failure::expected("an accepted connection")
                .sent(format!("{name} connected to port {}", to.port()))
        };
        let until = Instant::now() + subject.start_within;
        loop {
            // Read before connecting: several clients may connect at the same time, and another one
            // may be accepted right after this one was refused.
            let was_reached = subject.has_been_reached();
            match TcpStream::connect_timeout(&to, subject.patience) {
                Ok(stream) => {
                    subject.record_reached();
                    record_action(&format!("{name} connected"));
                    let talk =
                        Talk::over(stream, subject.patience, name, format!("{name} connected"));
                    return talk.map_err(|error| expected().received(error));
                }
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                    return Err(expected().received(error));
                }
                Err(_) => {}
            }
            let refused = || expected().symptom(Symptom::NotListening);
            if let Some(status) = subject.end() {
                return Err(refused().received(format!("{ENDED} ({status})")));
            }
            if was_reached {
                return Err(refused()
                    .received("connection refused: nothing is listening on that port any more"));
            }
            if Instant::now() > until {
                let waited = subject.start_within.as_secs();
                return Err(refused().received(format!(
                    "connection refused: after {waited} s, nothing has started to listen on that \
                     port on 127.0.0.1"
                )));
            }
            thread::sleep(RETRY_INTERVAL);
        }
    }

    fn record(&mut self, action: String) {
        record_action(&action);
        self.sent = action;
    }

    /// Sends these bytes in one write.
    ///
    /// # Errors
    /// The connection is broken, or the peer accepts no data for too long.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        let bytes = bytes.as_ref();
        self.record(format!("{} sent {}", self.name, shown(bytes)));
        let sent = self
            .stream
            .set_write_timeout(Some(self.patience))
            .and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|error| {
            let received = match error.kind() {
                ErrorKind::WouldBlock => "the server stopped reading".to_owned(),
                _ => format!("the connection was closed ({error})"),
            };
            self.failure("the server to read it").received(received)
        })
    }

    /// Sends these bytes, and ignores errors.
    pub(super) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.send(bytes);
    }

    /// Sends `bytes` repeatedly, without reading, until the peer accepts no more data, has closed
    /// the connection, or `most` bytes have been sent.
    pub(super) fn fill(&mut self, bytes: &[u8], most: usize) {
        self.record(format!("{} repeatedly sent {}", self.name, shown(bytes)));
        let _ = self.stream.set_write_timeout(Some(FULL));
        let mut written = 0;
        while written < most {
            match self.stream.write(bytes) {
                Ok(count) => written += count,
                Err(_) => return,
            }
        }
    }

    /// Sends each part in a separate write, with a pause between them.
    pub(super) fn send_parts<P: AsRef<[u8]>>(
        &mut self,
        parts: impl IntoIterator<Item = P>,
    ) -> Result<(), Failure> {
        let mut all = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            if number > 0 {
                thread::sleep(slowed(PAUSE));
            }
            self.send(&part)?;
            all.push(shown(part.as_ref()));
        }
        let mut parts = all.join(", ");
        if all.len() > 12 {
            parts = format!("{}, … ({} parts)", all[..12].join(", "), all.len());
        }
        self.record(format!("{} sent one after another {parts}", self.name));
        Ok(())
    }

    /// Shuts down the sending direction. The client can still read.
    pub(super) fn finish(&mut self) {
        self.record(format!("{} and finished sending", self.sent));
        // The peer may have closed the connection.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Resets the connection, as a crashing program may.
    pub(super) fn reset(self) {
        // If that fails, the connection is closed normally.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Expects exactly this line (given without its line feed).
    pub(super) fn line(&mut self, expected: &str) -> Result<(), Failure> {
        let expected = [expected.as_bytes(), b"\n"].concat();
        match self.next(self.patience) {
            Reply::Line(line) if line == expected => Ok(()),
            Reply::Line(line) if line == b"\n" => Err(self
                .mismatch(shown(&expected), Reply::Line(line))
                .idea("A reply had an extra line feed. Does the text that you read still include the line feed that ended the line?")),
            received => {
                let idea = idea_for(&expected, &received);
                let failure = self.mismatch(shown(&expected), received);
                Err(match idea {
                    Some(idea) => failure.idea(idea),
                    None => failure,
                })
            }
        }
    }

    /// Checks that nothing more arrives within [`MOMENT`].
    ///
    /// # Errors
    /// More data arrived.
    pub(super) fn nothing_more(&mut self) -> Result<(), Failure> {
        match self.next(slowed(MOMENT)) {
            // A connection that is closed too early is the subject of other checks.
            Reply::Nothing(rest) | Reply::End(rest) if rest.is_empty() => Ok(()),
            Reply::Line(line) if line == b"\n" => Err(self
                .mismatch("nothing more", Reply::Line(line))
                .idea("A reply had an extra line feed. Does the text that you read still include the line feed that ended the line?")),
            received => Err(self.mismatch("nothing more", received)),
        }
    }

    /// Sends a line, and expects an echo server's reply.
    pub(super) fn echo(&mut self, line: &str) -> Result<(), Failure> {
        self.send(format!("{line}\n"))?;
        self.line(&format!("From server -> {line}"))
    }

    /// Expects the connection to be closed, with nothing sent before that.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self.next(self.patience) {
            Reply::End(rest) if rest.is_empty() => Ok(()),
            received => Err(self.mismatch("the end of the connection", received)),
        }
    }

    /// Sends a document.
    pub(super) fn send_doc(&mut self, doc: &ClientDoc<'_>) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        Codec::default().write_client(doc, &mut bytes);
        self.send(bytes)
    }

    /// Returns the first document for which `is` returns a value. Unsolicited documents are
    /// skipped, because a server may send more than the rung requires; any other document is a
    /// failure. `expected` describes the document.
    pub(super) fn document<T>(
        &mut self,
        expected: &str,
        mut is: impl FnMut(&ServerDoc<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + self.patience;
        let mut others = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match self.next(left) {
                Reply::Line(line) => line,
                received => {
                    let mut failure = self.mismatch(expected, received);
                    if !others.is_empty() {
                        failure.received = format!("{others}then {}", failure.received);
                    }
                    return Err(failure);
                }
            };
            let frame = line.strip_suffix(b"\n").unwrap_or(&line);
            let frame = frame.strip_suffix(b"\r").unwrap_or(frame);
            match Codec::default().read_server(frame) {
                Ok(doc) => {
                    if let Some(found) = is(&doc) {
                        return Ok(found);
                    }
                    if !is_unsolicited(&doc) {
                        let received = format!("{others}{} (to {})", shown(frame), self.name);
                        return Err(self.failure(expected).received(received));
                    }
                }
                Err(error) => {
                    let received = format!("{}, which is not a document: {error}", shown(&line));
                    let failure = self.failure(expected).received(received);
                    return Err(match is_joined(frame) {
                        true => failure.idea(
                            "This is two documents on one line, or an empty line. Which thread \
                             writes the line feed, and can another thread write to the same socket \
                             first?",
                        ),
                        false => failure,
                    });
                }
            }
            others.push_str(&shown(frame));
            others.push_str(", ");
        }
    }

    /// Expects the connection to be closed, possibly after unsolicited documents. If it is not
    /// closed, `expected` describes what is missing.
    pub(super) fn end_after_news(&mut self, expected: &str) -> Result<(), Failure> {
        match self.document::<()>(expected, |_| None) {
            Err(failure) if !self.has_ended => Err(failure),
            _ => Ok(()),
        }
    }

    /// Returns `true` if the end of the stream has been read.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Sets the time limit for a reply.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The time limit for a reply.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The failure if `expected` does not arrive.
    pub(super) fn failure(&self, expected: impl Display) -> Failure {
        let last = last_action();
        Failure::expected(expected).sent(if last.is_empty() { &self.sent } else { &last })
    }

    fn mismatch(&self, expected: impl Display, received: Reply) -> Failure {
        let symptom = match &received {
            Reply::Line(_) => Symptom::Different,
            Reply::End(_) => Symptom::Closed,
            Reply::Nothing(_) => Symptom::Silence,
        };
        let received = match received {
            Reply::Line(line) => shown(&line),
            Reply::End(rest) if rest.is_empty() => "the end of the connection".to_owned(),
            Reply::End(rest) => {
                format!("{} and the end of the connection", shown(&rest))
            }
            Reply::Nothing(rest) => {
                let waited = self.patience.as_secs();
                match rest.is_empty() {
                    true => format!("nothing, for {waited} s"),
                    false => format!("{} and nothing more, for {waited} s", shown(&rest)),
                }
            }
        };
        self.failure(expected)
            .received(format!("{received} (to {})", self.name))
            .symptom(symptom)
    }

    fn ended(&mut self) -> Reply {
        self.has_ended = true;
        Reply::End(std::mem::take(&mut self.kept))
    }

    /// Waits for the next line until `within` has passed.
    fn next(&mut self, within: Duration) -> Reply {
        let until = Instant::now() + within;
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                return Reply::Line(self.kept.drain(..=end).collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            // A timeout of zero is an error.
            let left = left.max(Duration::from_millis(1));
            let mut bytes = [0; 16 * 1024];
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(&mut bytes));
            match read {
                Ok(0) => return self.ended(),
                Ok(count) => self.kept.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    // The rest of the line may still arrive.
                    return Reply::Nothing(self.kept.clone());
                }
                // A server that closes a socket with unread data resets the connection. That counts
                // as closed.
                Err(_) => return self.ended(),
            }
            if self.kept.len() > limits::MAX_SERVER_FRAME {
                return Reply::Line(std::mem::take(&mut self.kept));
            }
        }
    }
}
