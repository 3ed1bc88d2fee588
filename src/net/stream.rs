//! One TCP connection: what std's has, and what it lacks.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::handshake_error::HandshakeError;
use super::tls::{Tls, TlsClient, TlsServer};
use super::{Delivery, Tap, canonical, raw};
use crate::limits;
use crate::lock::assert_free_for_io;

/// A TCP connection, or a socket that is about to become one. Reading and writing need no `&mut`:
/// two threads share one descriptor.
#[derive(Debug)]
pub struct Stream {
    socket: Arc<TcpStream>,
    peer: SocketAddr,
    tap: Tap,
    /// What encrypts it, if anything does.
    tls: Option<Arc<Tls>>,
}

/// What every socket to a client has, whichever side connects.
///
/// A machine that loses its power says nothing, and its connection would stand for ever: the system
/// is to ask whether it is still there, as long as nothing waits to be acknowledged (see
/// [`Stream::delivery`] for the rest). And a client that does not read holds no more of the
/// system's memory than [`limits::SEND_BUFFER`].
pub(super) fn prepare_for_a_client(socket: &SockRef<'_>) {
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE_AFTER)
        .with_interval(limits::KEEPALIVE_EVERY)
        .with_retries(limits::KEEPALIVE_TRIES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // Window probes are otherwise up to two minutes apart, and two unanswered ones are needed to
    // find that a client has vanished.
    raw::limit_retransmission_timeout(socket, limits::RETRANSMIT_EVERY);
    let _ = socket.set_send_buffer_size(limits::SEND_BUFFER);
}

impl Stream {
    pub(super) fn accepted(socket: TcpStream, peer: SocketAddr, tap: Tap) -> Stream {
        // On Linux it has inherited that from its listener, for no further system call.
        #[cfg(not(target_os = "linux"))]
        prepare_for_a_client(&SockRef::from(&socket));
        Stream {
            socket: Arc::new(socket),
            peer,
            tap,
            tls: None,
        }
    }

    /// Connects to `to`, which may take as long as `patience`.
    ///
    /// # Errors
    /// What the system reports; `ConnectionRefused` also when the connection has met itself: a
    /// client's port is drawn from a range in which the wanted one may lie, and if nobody listens
    /// there, TCP lets the two be the same socket.
    pub fn connect(to: SocketAddr, patience: Duration, tap: &Tap) -> io::Result<Stream> {
        let connected = connect_from_a_shared_port(to, patience).and_then(not_to_itself);
        tap.called("connect", Some(to), &connected);
        Ok(Stream {
            socket: Arc::new(connected?),
            peer: to,
            tap: tap.clone(),
            tls: None,
        })
    }

    /// A socket at the address `from` (with any port), for [`Stream::call`] to `to`. Until then
    /// another thread can have it, to call the whole thing off.
    ///
    /// # Errors
    /// What the system reports when it has no socket to give, or `from` is not ours.
    pub fn unconnected(mut from: SocketAddr, to: SocketAddr, tap: &Tap) -> io::Result<Stream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        let stream = Stream {
            socket: Arc::new(socket.into()),
            peer: to,
            tap: tap.clone(),
            tls: None,
        };
        prepare_for_a_client(&SockRef::from(&*stream.socket));
        from.set_port(0);
        let bound = SockRef::from(&*stream.socket).bind(&from.into());
        let chosen = stream.socket.local_addr().unwrap_or(from);
        tap.called("bind", Some(chosen), &bound);
        bound?;
        Ok(stream)
    }

    /// Connects a socket that [`Stream::unconnected`] made. It gives up when another thread shuts
    /// the socket down, or at the latest a write timeout after `is_wanted` has become false.
    ///
    /// # Errors
    /// As [`Stream::connect`].
    pub fn call(&self, is_wanted: impl Fn() -> bool) -> io::Result<()> {
        let to = self.peer.into();
        let connected = loop {
            if !is_wanted() {
                break Err(ErrorKind::ConnectionAborted.into());
            }
            match SockRef::from(&*self.socket).connect(&to) {
                // A shutdown that came while no `connect` was under way has been forgotten by the
                // system, which is why it is not enough to rely on that.
                Err(error) if is_still_connecting(&error) => {}
                Err(error) if error.raw_os_error() == Some(libc::EISCONN) => break Ok(()),
                result => break result,
            }
        };
        let connected = connected.and_then(|()| {
            if is_self_connection(&self.socket) {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(())
        });
        self.tap.called("connect", Some(self.peer), &connected);
        connected
    }

    /// The longest time between two retransmissions; `None` if the kernel has no such option.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn longest_retransmission_timeout(&self) -> Option<Duration> {
        raw::longest_retransmission_timeout(&self.socket)
    }

    /// After how many seconds the system asks a silent peer, how often, and how many times.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn keepalive(&self) -> Option<(u64, u64, u32)> {
        let socket = SockRef::from(&*self.socket);
        socket.keepalive().ok().filter(|on| *on)?;
        let (time, interval) = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
        Some((
            time.ok()?.as_secs(),
            interval.ok()?.as_secs(),
            socket.tcp_keepalive_retries().ok()?,
        ))
    }

    /// Speaks TLS from here on, as a server. Nothing may have been said before.
    ///
    /// # Errors
    /// [`HandshakeError`]: the server's configuration is of no use.
    pub(super) fn secured_as_server(
        mut self,
        server: &TlsServer,
    ) -> Result<Stream, HandshakeError> {
        self.tls = Some(Arc::new(Tls::server(server)?));
        Ok(self)
    }

    /// Speaks TLS from here on, with a server called `name` (or an address). Nothing may have been
    /// said before.
    ///
    /// # Errors
    /// [`HandshakeError`]: nothing can be called so.
    pub fn secured_as_client(
        mut self,
        client: &TlsClient,
        name: &str,
    ) -> Result<Stream, HandshakeError> {
        self.tls = Some(Arc::new(Tls::client(client, name)?));
        Ok(self)
    }

    /// Whether it is encrypted.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Comes to an understanding with the other side on how to encrypt, if the stream is to be
    /// encrypted. The thread that reads does this, before it reads; what others write before waits
    /// until then. All of it takes until `until` at most, if that is given; the socket has no read
    /// timeout after it.
    ///
    /// # Errors
    /// [`HandshakeError`]: there is nothing more to be said on this connection.
    pub fn shake_hands(&self, until: Option<Instant>) -> Result<(), HandshakeError> {
        if !self.is_secured() {
            return Ok(());
        }
        let Some(until) = until else {
            return self.shake_hands_after(&|| Ok(()));
        };
        self.shake_hands_after(&|| {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.set_read_timeout(Some(left))
        })?;
        self.set_read_timeout(None).map_err(HandshakeError::Io)
    }

    /// Like [`Stream::shake_hands`], but runs `before_read` before each read from the socket.
    ///
    /// # Errors
    /// As there, and those of `before_read`.
    pub(crate) fn shake_hands_after(
        &self,
        before_read: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), HandshakeError> {
        match &self.tls {
            None => Ok(()),
            Some(tls) => tls.shake_hands(&self.socket, before_read),
        }
    }

    /// Whether the peer has said that nothing more comes from it, whatever it has sent before that
    /// is still unread. Waits for nothing. Where the system does not tell, it has not.
    pub fn has_hung_up(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};

            let wanted = PollFlags::RDHUP;
            let mut look = [PollFd::new(&self.socket, wanted)];
            let ended = wanted | PollFlags::HUP | PollFlags::ERR;
            let now = Timespec::default();
            poll(&mut look, Some(&now)).is_ok() && look[0].revents().intersects(ended)
        }
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Peeks at the first bytes that have arrived (of an encrypted stream, the encrypted bytes) and
    /// leaves them unread. Returns their number, 0 at the end of the stream. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` if no byte has arrived; any other error means that the connection is broken.
    pub fn peek_now(&self, into: &mut [u8]) -> io::Result<usize> {
        raw::peek_now(&self.socket, into)
    }

    /// Waits for the peer's next bytes, as long as the read timeout allows, and leaves them unread.
    /// Returns their number, 0 at the end of the stream.
    ///
    /// # Errors
    /// The system's error.
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(into)
    }

    /// The kernel's state of the bytes sent to the peer; `None` if the system does not report it.
    pub fn delivery(&self) -> Option<Delivery> {
        raw::delivery(&self.socket)
    }

    /// Lets the system close the connection if the peer accepts no data for
    /// [`limits::UNACKNOWLEDGED`], no matter whether it has vanished or does not read.
    pub fn break_when_stuck(&self) {
        // If the system does not support this, only the writer's own timeout applies.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&*self.socket).set_tcp_user_timeout(Some(limits::UNACKNOWLEDGED));
    }

    /// For other sockets that belong together with this one.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The other side.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The same socket, for another thread to hold or to shut down. It is closed with the last of
    /// them.
    #[must_use]
    pub fn share(&self) -> Stream {
        Stream {
            socket: Arc::clone(&self.socket),
            peer: self.peer,
            tap: self.tap.clone(),
            tls: self.tls.clone(),
        }
    }

    /// The same socket, with the address of the client for which a proxy opened it.
    #[must_use]
    pub fn on_behalf_of(&self, client: SocketAddr) -> Stream {
        let mut stream = self.share();
        stream.peer = client;
        stream
    }

    /// Sends `last_word` unencrypted on a connection that should be encrypted, for a client that
    /// began without TLS. Never waits.
    pub fn send_in_plain(&self, last_word: &[u8]) {
        let sent = raw::send_now(&self.socket, last_word);
        self.tap.moved("write", Some(self.peer), last_word, &sent);
    }

    /// This side.
    ///
    /// # Errors
    /// What the system reports; not for a socket that is connected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr().map(canonical)
    }

    /// What is written goes out at once (`TCP_NODELAY`), instead of waiting up to 40 ms for more.
    ///
    /// # Errors
    /// What the system reports.
    pub fn set_nodelay(&self, wanted: bool) -> io::Result<()> {
        self.socket.set_nodelay(wanted)
    }

    /// How long a read may take; `None` is for ever.
    ///
    /// # Errors
    /// What the system reports; `InvalidInput` for zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// How long a write may take (and [`Stream::call`], before it looks whether it is wanted);
    /// `None` is for ever.
    ///
    /// # Errors
    /// What the system reports; `InvalidInput` for zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// Sends as much as the socket takes right now and never waits, whatever mode the socket is
    /// in. (Non-blocking mode would do the same to the thread that reads from it.)
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full; otherwise the connection is broken.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.tap.in_pieces(bytes, |_, part| self.send_piece(part))
    }

    fn send_piece(&self, bytes: &[u8]) -> io::Result<usize> {
        assert_free_for_io();
        let sent = match &self.tls {
            None => raw::send_now(&self.socket, bytes),
            Some(tls) => tls.write_now(&self.socket, bytes),
        };
        self.tap.moved("write", Some(self.peer), bytes, &sent);
        self.trace_records();
        sent
    }

    /// Beside a call with its plain text, tells how much of it went over the wire as TLS' records.
    fn trace_records(&self) {
        if let Some(tls) = &self.tls
            && self.tap.trace.is_some()
        {
            let (came, went) = tls.take_traffic();
            for (name, bytes) in [("records in", came), ("records out", went)] {
                if bytes > 0 {
                    self.tap.saw_records(name, self.peer, bytes);
                }
            }
        }
    }

    /// Ends one direction or both. Whoever is blocked in the other's read, or in one of ours,
    /// wakes; what was written before still arrives.
    ///
    /// # Errors
    /// What the system reports when the connection is over already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if let Some(tls) = &self.tls
            && how != Shutdown::Read
        {
            tls.send_close_notify(&self.socket);
        }
        let done = self.socket.shutdown(how);
        self.tap.called("shutdown", Some(self.peer), &done);
        done
    }

    /// Says the last word on a fresh connection and closes it, without ever waiting for the peer:
    /// sends, ends our direction, takes what has come unasked, drops.
    pub fn send_and_close(self, last_word: &[u8]) {
        // A fresh socket's buffer is empty, so a short answer always fits; if the peer is gone
        // already, there is nobody left to tell.
        let _ = self.send_now(last_word);
        self.close();
    }

    /// Closes a connection in order: what was sent before still arrives, because unread input
    /// (which would make the kernel reset the connection) is taken first, as far as it is there.
    pub fn close(self) {
        let _ = self.shutdown(Shutdown::Write);
        self.drain();
    }

    /// Ends it without TLS' last word.
    #[cfg(all(test, feature = "tls"))]
    pub(super) fn cut_for_a_test(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Takes what is there to read, without waiting and at most [`limits::DRAIN`] bytes, and throws
    /// it away. Returns how many there were.
    pub fn drain(&self) -> usize {
        let mut scrap = [MaybeUninit::uninit(); 4096];
        let mut taken = 0;
        while taken < limits::DRAIN {
            let read = raw::receive_now(&self.socket, &mut scrap);
            self.tap.thrown_away(self.peer, scrap.len(), &read);
            match read {
                Ok(0) | Err(_) => break,
                Ok(count) => taken += count,
            }
        }
        taken
    }

    /// Makes the coming close a reset. That is for a peer that goes on sending to a socket whose
    /// reading side was shut down: Linux never opens the window of such a socket again, and after
    /// an ordinary close the peer would be stuck in its write for a minute.
    pub fn reset_on_close(&self) {
        // If it fails, the peer waits for that minute; nothing else depends on it.
        let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// A connection without a tap, as a test makes it.
impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = socket.peer_addr().unwrap_or(nowhere);
        Stream::accepted(socket, canonical(peer), Tap::default())
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert_free_for_io();
        let read = match &self.tls {
            None => (&*self.socket).read(buffer),
            Some(tls) => tls.read(&self.socket, buffer),
        };
        self.tap.moved("read", Some(self.peer), buffer, &read);
        self.trace_records();
        read
    }
}

impl Write for &Stream {
    /// Waits until the socket takes something. In pieces, the later ones may wait until the write
    /// timeout has passed since the first.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert_free_for_io();
        let until = match self.tap.chop {
            Some(_) => self
                .socket
                .write_timeout()?
                .map(|timeout| Instant::now() + timeout),
            None => None,
        };
        self.tap.in_pieces(bytes, |is_first, part| {
            if !is_first && until.is_some_and(|until| Instant::now() >= until) {
                return self.send_piece(part);
            }
            let written = match &self.tls {
                None => (&*self.socket).write(part),
                Some(tls) => tls.write(&self.socket, part),
            };
            self.tap.moved("write", Some(self.peer), part, &written);
            self.trace_records();
            written
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if Arc::strong_count(&self.socket) == 1 {
            self.tap.called("close", Some(self.peer), &Ok(()));
        }
    }
}

/// Whether the system or the process has no more descriptors.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns whether a read ended because of its timeout.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn is_still_connecting(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR)
    )
}

/// Connects from a port that the system chooses, such that a server may still listen there: the
/// system chooses from a range in which our servers' ports lie, and a connection, even one that has
/// ended a minute ago, would else keep a server from starting.
fn connect_from_a_shared_port(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    // Only Windows means something else by it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.connect_timeout(&to.into(), patience)?;
    Ok(socket.into())
}

fn not_to_itself(socket: TcpStream) -> io::Result<TcpStream> {
    if is_self_connection(&socket) {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

fn is_self_connection(socket: &TcpStream) -> bool {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::num::NonZeroUsize;
    use std::sync::mpsc;

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let ours = Stream::connect(to, Duration::from_secs(60), &Tap::default()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn send_now_reports_a_full_socket_instead_of_waiting() {
        let (sender, _silent) = pair();
        let chunk = vec![b'x'; 1 << 20];
        let mut taken = 0;
        let error = loop {
            match sender.send_now(&chunk) {
                Ok(count) => taken += count,
                Err(error) => break error,
            }
        };
        assert!(taken > 0);
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn the_last_word_arrives_though_the_peer_said_something_unasked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&[b'y'; 10_000]).unwrap();
        let (server, _) = listener.accept().unwrap();
        Stream::from(server).send_and_close(b"FULL");
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "FULL");
    }

    #[test]
    fn every_call_is_told_and_a_write_is_cut_into_pieces() {
        let (calls, told) = mpsc::channel();
        let tap = Tap {
            chop: NonZeroUsize::new(3),
            trace: Some(std::sync::Arc::new(move |call: &super::super::Call<'_>| {
                let line = call.line();
                let after_thread = line.split_once("  ").unwrap().1.trim_start().to_owned();
                calls.send(after_thread).unwrap();
            })),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let stream = Stream::connect(to, Duration::from_secs(60), &tap).unwrap();
        (&stream).write_all(b"hello\n").unwrap();
        stream.close();
        drop(tap);
        let told: Vec<String> = told.iter().collect();
        let expected = [
            format!("connect   {to}"),
            format!("write     {to}  wanted 3 got 3  \"hel\""),
            format!("write     {to}  wanted 3 got 3  \"lo\\n\""),
            format!("shutdown  {to}"),
        ];
        assert_eq!(told[..4], expected);
        assert!(
            told[4].contains("read") && told[5].contains("close"),
            "{told:?}"
        );
    }

    #[test]
    #[cfg(unix)]
    fn a_server_can_start_on_the_port_of_a_clients_connection() {
        // The system may give some other program the same port for a connection of its own; not
        // each time.
        let can_start = || {
            let (client, accepted) = pair();
            let there = client.local_addr().unwrap();
            // While it lives.
            drop(TcpListener::bind(there)?);
            // In the minute for which the system keeps the port of whoever closed first.
            client.close();
            drop(accepted);
            TcpListener::bind(there)
        };
        let mut tries = (0..20).map(|_| can_start());
        assert!(tries.any(|started| started.is_ok()));
    }

    #[test]
    fn a_call_that_nobody_answers_is_called_off_by_shutting_the_socket_down() {
        // A listener whose backlog is full answers nobody any more.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        full.listen(0).unwrap();
        let to = full.local_addr().unwrap().as_socket().unwrap();
        let waiting: Vec<Socket> = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&to.into());
                socket
            })
            .collect();
        let ours = Stream::unconnected(to, to, &Tap::default()).unwrap();
        // Long, so that it is the shutdown that wakes the call.
        ours.set_write_timeout(Some(Duration::from_secs(600)))
            .unwrap();
        std::thread::scope(|threads| {
            let calling = threads.spawn(|| ours.call(|| true));
            // Shut down too early, it is forgotten; so again, until it has been heard.
            while !calling.is_finished() {
                let _ = ours.shutdown(Shutdown::Both);
                std::thread::yield_now();
            }
            assert!(calling.join().unwrap().is_err());
        });
        drop(waiting);
    }
}
