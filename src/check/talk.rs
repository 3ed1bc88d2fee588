//! One client of the server that is checked: what it sends, what it waits for, and what it says
//! when something else comes.

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

/// Between two parts of what is written, so that a reader most often gets them one by one.
const PAUSE: Duration = Duration::from_millis(20);

/// How long to wait before a program that does not listen yet is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// The time for which nothing may follow a reply.
const MOMENT: Duration = Duration::from_millis(150);

/// A socket that has taken nothing for so long is full.
const FULL: Duration = Duration::from_secs(1);

/// What came while a line was waited for.
enum Came {
    Line(Vec<u8>),
    /// The connection's end, and what stood before it without a line feed.
    End(Vec<u8>),
    /// Nothing more in time, and what there was without a line feed.
    Nothing(Vec<u8>),
}

impl Subject<'_> {
    /// A new client of it, who is called `who` in what is said of it.
    ///
    /// # Errors
    /// When the program does not let it in.
    pub(super) fn connect(&self, who: &str) -> Result<Talk, Failure> {
        self.connect_to(self.address.port(), who)
    }

    /// A new client at another port of it.
    ///
    /// # Errors
    /// When the program does not let it in.
    pub(super) fn connect_to(&self, port: u16, who: &str) -> Result<Talk, Failure> {
        Talk::connect(self, SocketAddr::new(self.address.ip(), port), who)
    }

    /// Nobody listens at that port any more, or soon.
    ///
    /// # Errors
    /// When somebody does for too long.
    pub(super) fn refuses_at(&self, port: u16) -> Result<(), Failure> {
        let address = SocketAddr::new(self.address.ip(), port);
        let until = Instant::now() + self.patience;
        while TcpStream::connect_timeout(&address, self.patience).is_ok() {
            if Instant::now() > until {
                return Err(Failure::wanted("a refusal: nobody listens there any more")
                    .sent(format!("a client connected to port {port}"))
                    .came("it was let in"));
            }
            thread::sleep(AGAIN);
        }
        Ok(())
    }
}

/// What may come at any time, whatever one waits for: what others say and do, and that one's own
/// message has gone out.
fn is_news(doc: &ServerDoc<'_>) -> bool {
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
            | ServerDoc::PartnerJoined { .. }
            | ServerDoc::PartnerLeft { .. }
            | ServerDoc::NoPartner
            | ServerDoc::IdleSoon { .. }
    )
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Talk {
    who: String,
    stream: TcpStream,
    patience: Duration,
    /// What was sent last.
    sent: String,
    /// What has come and was not asked for yet.
    kept: Vec<u8>,
    /// The server has closed it.
    has_ended: bool,
}

impl Talk {
    /// A talk over `stream`, in which `who` has `sent` something already.
    pub(super) fn over(
        stream: TcpStream,
        patience: Duration,
        who: &str,
        sent: String,
    ) -> io::Result<Talk> {
        // Each part is sent when it is written.
        stream.set_nodelay(true)?;
        Ok(Talk {
            who: who.to_owned(),
            stream,
            patience,
            sent,
            kept: Vec::new(),
            has_ended: false,
        })
    }

    /// Connects to `subject`. As long as nobody has been let in, a refusal only means that it does
    /// not listen yet.
    fn connect(subject: &Subject<'_>, to: SocketAddr, who: &str) -> Result<Talk, Failure> {
        let wanted = || {
            Failure::wanted("to be let in").sent(format!("{who} connected to port {}", to.port()))
        };
        let until = Instant::now() + subject.start_within;
        loop {
            // Asked before: several may be on their way, and another one may be let in right after
            // this one was refused.
            let was_reached = subject.has_been_reached();
            match TcpStream::connect_timeout(&to, subject.patience) {
                Ok(stream) => {
                    subject.is_reached();
                    record_action(&format!("{who} connected"));
                    let talk =
                        Talk::over(stream, subject.patience, who, format!("{who} connected"));
                    return talk.map_err(|error| wanted().came(error));
                }
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                    return Err(wanted().came(error));
                }
                Err(_) => {}
            }
            let refused = || wanted().symptom(Symptom::NotListening);
            if let Some(status) = subject.end() {
                return Err(refused().came(format!("{ENDED} ({status})")));
            }
            if was_reached {
                return Err(refused().came("refused: nothing listens on that port any longer"));
            }
            if Instant::now() > until {
                let waited = subject.start_within.as_secs();
                return Err(refused().came(format!(
                    "refused: after {waited} s nothing listens on 127.0.0.1 at that port"
                )));
            }
            thread::sleep(AGAIN);
        }
    }

    fn acted(&mut self, action: String) {
        record_action(&action);
        self.sent = action;
    }

    /// Sends these bytes in one write.
    ///
    /// # Errors
    /// When the connection is broken, or the server takes nothing for too long.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        let bytes = bytes.as_ref();
        self.acted(format!("{} sent {}", self.who, shown(bytes)));
        let sent = self
            .stream
            .set_write_timeout(Some(self.patience))
            .and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|error| {
            let came = match error.kind() {
                ErrorKind::WouldBlock => "the server took nothing more".to_owned(),
                _ => format!("the connection was closed ({error})"),
            };
            self.failure("the server to take it").came(came)
        })
    }

    /// Sends these bytes whether or not somebody takes them.
    pub(super) fn send_to_whoever(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.send(bytes);
    }

    /// Sends `bytes` again and again, without reading, until the server takes nothing more for a
    /// moment, has ended the connection, or `most` bytes have gone.
    pub(super) fn fill(&mut self, bytes: &[u8], most: usize) {
        self.acted(format!(
            "{} sent {} again and again",
            self.who,
            shown(bytes)
        ));
        let _ = self.stream.set_write_timeout(Some(FULL));
        let mut gone = 0;
        while gone < most {
            match self.stream.write(bytes) {
                Ok(count) => gone += count,
                Err(_) => return,
            }
        }
    }

    /// Sends each part in a write of its own, with a moment between them.
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
        self.acted(format!("{} sent one after the other {parts}", self.who));
        Ok(())
    }

    /// Says that it sends nothing more; it reads on.
    pub(super) fn finish(&mut self) {
        self.acted(format!("{} and finished sending", self.sent));
        // The server may have closed it.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Breaks the connection off, as a program that is killed does.
    pub(super) fn reset(self) {
        // Without it, it is an ordinary end.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Waits for exactly this line (without its line feed).
    pub(super) fn line(&mut self, wanted: &str) -> Result<(), Failure> {
        let wanted = [wanted.as_bytes(), b"\n"].concat();
        match self.next(self.patience) {
            Came::Line(line) if line == wanted => Ok(()),
            Came::Line(line) if line == b"\n" => Err(self
                .other(shown(&wanted), Came::Line(line))
                .idea("A reply had one line feed too many. Does the text that you have read still end with its own?")),
            came => Err(self.other(shown(&wanted), came)),
        }
    }

    /// Checks that nothing more arrives for a moment.
    ///
    /// # Errors
    /// Something did.
    pub(super) fn nothing_more(&mut self) -> Result<(), Failure> {
        match self.next(slowed(MOMENT)) {
            Came::Nothing(rest) if rest.is_empty() => Ok(()),
            Came::Line(line) if line == b"\n" => Err(self
                .other("nothing more", Came::Line(line))
                .idea("A reply had one line feed too many. Does the text that you have read still end with its own?")),
            came => Err(self.other("nothing more", came)),
        }
    }

    /// Says a line, and waits for the answer of an echo server.
    pub(super) fn echo(&mut self, line: &str) -> Result<(), Failure> {
        self.send(format!("{line}\n"))?;
        self.line(&format!("From server -> {line}"))
    }

    /// Waits for the connection's end, before which nothing else comes.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self.next(self.patience) {
            Came::End(rest) if rest.is_empty() => Ok(()),
            came => Err(self.other("the end of the connection", came)),
        }
    }

    /// Sends a document.
    pub(super) fn send_doc(&mut self, doc: &ClientDoc<'_>) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        Codec::default().write_client(doc, &mut bytes);
        self.send(bytes)
    }

    /// Waits for the next document that `is` something. News are passed over, since a server may
    /// tell more than the rung asks for; another answer is not. `wanted` shows what it would look
    /// like.
    pub(super) fn document<T>(
        &mut self,
        wanted: &str,
        mut is: impl FnMut(&ServerDoc<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + self.patience;
        let mut others = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match self.next(left) {
                Came::Line(line) => line,
                came => {
                    let mut failure = self.other(wanted, came);
                    if !others.is_empty() {
                        failure.came = format!("{others}then {}", failure.came);
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
                    if !is_news(&doc) {
                        let came = format!("{others}{} (to {})", shown(frame), self.who);
                        return Err(self.failure(wanted).came(came));
                    }
                }
                Err(error) => {
                    let came = format!("{}, which is no document: {error}", shown(&line));
                    return Err(self.failure(wanted).came(came));
                }
            }
            others.push_str(&shown(frame));
            others.push_str(", ");
        }
    }

    /// Waits for the connection's end, before which there may be news; `wanted` is what is missing
    /// otherwise.
    pub(super) fn end_after_news(&mut self, wanted: &str) -> Result<(), Failure> {
        match self.document::<()>(wanted, |_| None) {
            Err(failure) if !self.has_ended => Err(failure),
            _ => Ok(()),
        }
    }

    /// Whether the server has closed the connection, as far as that has been read.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// An answer may take so long from now on.
    pub(super) fn patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// What is said when `wanted` does not come.
    pub(super) fn failure(&self, wanted: impl Display) -> Failure {
        let last = last_action();
        Failure::wanted(wanted).sent(if last.is_empty() { &self.sent } else { &last })
    }

    fn other(&self, wanted: impl Display, came: Came) -> Failure {
        let symptom = match &came {
            Came::Line(_) => Symptom::Different,
            Came::End(_) => Symptom::Closed,
            Came::Nothing(_) => Symptom::Silence,
        };
        let came = match came {
            Came::Line(line) => shown(&line),
            Came::End(rest) if rest.is_empty() => "the end of the connection".to_owned(),
            Came::End(rest) => {
                format!("{} and the end of the connection", shown(&rest))
            }
            Came::Nothing(rest) => {
                let waited = self.patience.as_secs();
                match rest.is_empty() {
                    true => format!("nothing, for {waited} s"),
                    false => format!("{} and nothing more, for {waited} s", shown(&rest)),
                }
            }
        };
        self.failure(wanted)
            .came(format!("{came} (to {})", self.who))
            .symptom(symptom)
    }

    fn ended(&mut self) -> Came {
        self.has_ended = true;
        Came::End(std::mem::take(&mut self.kept))
    }

    /// What comes next within that time.
    fn next(&mut self, within: Duration) -> Came {
        let until = Instant::now() + within;
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                return Came::Line(self.kept.drain(..=end).collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            // A timeout of zero would be none.
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
                    // The rest of it may come yet.
                    return Came::Nothing(self.kept.clone());
                }
                // A server that closes with something unread resets the connection; it ended it all
                // the same.
                Err(_) => return self.ended(),
            }
            if self.kept.len() > limits::MAX_SERVER_FRAME {
                return Came::Line(std::mem::take(&mut self.kept));
            }
        }
    }
}
