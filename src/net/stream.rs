//! A TCP connection with features that std's type lacks.

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

/// A TCP connection, or a socket that is about to become one. Reading and writing need no `&mut`,
/// so two threads can share one descriptor.
#[derive(Debug)]
pub struct Stream {
    socket: Arc<TcpStream>,
    peer: SocketAddr,
    tap: Tap,
    /// `None` for a plain connection.
    tls: Option<Arc<Tls>>,
}

/// Sets the socket options that every client connection needs, whichever side connects.
///
/// A machine that loses power sends nothing, so its connection would stay open forever. Therefore
/// the system probes idle connections. ([`Stream::delivery`] covers those with unacknowledged
/// data.) The send buffer is limited to [`limits::SEND_BUFFER`], so that a client that does not
/// read ties up no more kernel memory than that.
pub(super) fn prepare_for_a_client(socket: &SockRef<'_>) {
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE_AFTER)
        .with_interval(limits::KEEPALIVE_EVERY)
        .with_retries(limits::KEEPALIVE_TRIES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // Otherwise window probes are up to two minutes apart, and it takes two unanswered ones to show
    // that a client has vanished.
    raw::limit_retransmission_timeout(socket, limits::RETRANSMIT_EVERY);
    let _ = socket.set_send_buffer_size(limits::SEND_BUFFER);
}

impl Stream {
    pub(super) fn accepted(socket: TcpStream, peer: SocketAddr, tap: Tap) -> Stream {
        // On Linux, the socket inherits these options from its listener, which saves system calls.
        #[cfg(not(target_os = "linux"))]
        prepare_for_a_client(&SockRef::from(&socket));
        Stream {
            socket: Arc::new(socket),
            peer,
            tap,
            tls: None,
        }
    }

    /// Connects to `to` within `patience`.
    ///
    /// # Errors
    /// Any I/O error. `ConnectionRefused` also means that the socket connected to itself: the
    /// client's port comes from a range that may include the server's port, and if no program
    /// listens there, TCP lets a socket connect to itself.
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

    /// Creates a socket bound to the address `from` (and any port), for [`Stream::call`] to `to`.
    /// Another thread can hold a handle to it and cancel the call.
    ///
    /// # Errors
    /// An I/O error: no socket is available, or `from` is not an address of this machine.
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

    /// Connects a socket that [`Stream::unconnected`] created. Gives up when another thread shuts
    /// the socket down, or at most one write timeout after `is_wanted` becomes false.
    ///
    /// # Errors
    /// The same errors as [`Stream::connect`].
    pub fn call(&self, is_wanted: impl Fn() -> bool) -> io::Result<()> {
        let to = self.peer.into();
        let connected = loop {
            if !is_wanted() {
                break Err(ErrorKind::ConnectionAborted.into());
            }
            match SockRef::from(&*self.socket).connect(&to) {
                // A shutdown has no effect while no `connect` is in progress, so a shutdown alone
                // is not enough to cancel the call.
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

    /// Returns the maximum time between two retransmissions; `None` if the kernel has no such
    /// option.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn longest_retransmission_timeout(&self) -> Option<Duration> {
        raw::longest_retransmission_timeout(&self.socket)
    }

    /// Returns the keepalive options: the idle time and the interval, both in seconds, and the
    /// number of probes.
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

    /// Switches the stream to TLS, as the server. No bytes may have been sent or received yet.
    ///
    /// # Errors
    /// [`HandshakeError`] if the server's configuration is unusable.
    pub(super) fn secured_as_server(
        mut self,
        server: &TlsServer,
    ) -> Result<Stream, HandshakeError> {
        self.tls = Some(Arc::new(Tls::server(server)?));
        Ok(self)
    }

    /// Switches the stream to TLS, as a client of the server `name` (a host name or an address). No
    /// bytes may have been sent or received yet.
    ///
    /// # Errors
    /// [`HandshakeError`] if `name` is not a valid server name.
    pub fn secured_as_client(
        mut self,
        client: &TlsClient,
        name: &str,
    ) -> Result<Stream, HandshakeError> {
        self.tls = Some(Arc::new(Tls::client(client, name)?));
        Ok(self)
    }

    /// Returns whether the connection uses TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Completes the TLS handshake, if the stream uses TLS. The reading thread calls this before
    /// its first read; bytes that other threads write earlier are sent after the handshake.
    /// `until`, if given, is the deadline for the whole handshake. Afterwards, the socket has no
    /// read timeout.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection can no longer be used.
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
    /// The same errors as [`Stream::shake_hands`], and those of `before_read`.
    pub(crate) fn shake_hands_after(
        &self,
        before_read: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), HandshakeError> {
        match &self.tls {
            None => Ok(()),
            Some(tls) => tls.shake_hands(&self.socket, before_read),
        }
    }

    /// Returns whether the peer has closed its sending side, even if earlier bytes are still
    /// unread. Never blocks. Always false on systems other than Linux.
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

    /// Peeks at the first bytes that have arrived (on a TLS stream, the ciphertext) and leaves them
    /// unread. Returns their number, 0 at the end of the stream. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock` if no byte has arrived; after any other error the connection is broken.
    pub fn peek_now(&self, into: &mut [u8]) -> io::Result<usize> {
        raw::peek_now(&self.socket, into)
    }

    /// Waits for the peer's next bytes, up to the read timeout, and leaves them unread. Returns
    /// their number, 0 at the end of the stream.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(into)
    }

    /// Returns the kernel's view of the bytes sent to the peer; `None` if the system does not
    /// report it.
    pub fn delivery(&self) -> Option<Delivery> {
        raw::delivery(&self.socket)
    }

    /// Makes the system close the connection if the peer accepts no data for
    /// [`limits::UNACKNOWLEDGED`], whether the peer has vanished or just does not read.
    pub fn break_when_stuck(&self) {
        // If the system does not support this, only the writer's own timeout applies.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&*self.socket).set_tcp_user_timeout(Some(limits::UNACKNOWLEDGED));
    }

    /// Returns the tap, for other sockets that belong to this one.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Returns the peer's address, or that of the client behind a proxy ([`Stream::on_behalf_of`]).
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns another handle to the same socket, for a thread that uses the socket or shuts it
    /// down. The socket is closed when the last handle is dropped.
    #[must_use]
    pub fn share(&self) -> Stream {
        Stream {
            socket: Arc::clone(&self.socket),
            peer: self.peer,
            tap: self.tap.clone(),
            tls: self.tls.clone(),
        }
    }

    /// Returns a handle to the same socket, with the address of the client on whose behalf a proxy
    /// opened the connection.
    #[must_use]
    pub fn on_behalf_of(&self, client: SocketAddr) -> Stream {
        let mut stream = self.share();
        stream.peer = client;
        stream
    }

    /// Sends `last_word` unencrypted on a connection that should be encrypted, for a client that
    /// does not use TLS. Never blocks.
    pub fn send_in_plain(&self, last_word: &[u8]) {
        let sent = raw::send_now(&self.socket, last_word);
        self.tap.moved("write", Some(self.peer), last_word, &sent);
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// Any I/O error; none is expected for a connected socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr().map(canonical)
    }

    /// Sets `TCP_NODELAY`: written bytes are sent immediately instead of waiting up to 40 ms for
    /// more.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn set_nodelay(&self, wanted: bool) -> io::Result<()> {
        self.socket.set_nodelay(wanted)
    }

    /// Sets the read timeout; `None` means no timeout.
    ///
    /// # Errors
    /// Any I/O error; `InvalidInput` for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// Sets the write timeout; `None` means no timeout. [`Stream::call`] checks `is_wanted` again
    /// after each write timeout.
    ///
    /// # Errors
    /// Any I/O error; `InvalidInput` for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// Sends as many bytes as the socket accepts right now. Never blocks, whatever the socket's
    /// mode. (Non-blocking mode would also affect the thread that reads from the socket.)
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full; after any other error the connection is broken.
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

    /// Traces the size of the TLS records that a call sent and received, in addition to its
    /// plaintext.
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

    /// Shuts down one direction or both. Wakes the peer and our own threads from blocked reads.
    /// Bytes written earlier still arrive.
    ///
    /// # Errors
    /// An I/O error if the connection has already been closed.
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

    /// Sends `last_word` on a fresh connection and closes it without waiting for the peer: shuts
    /// down the sending direction, discards unread input, and drops the socket.
    pub fn send_and_close(self, last_word: &[u8]) {
        // The send buffer of a fresh socket is empty, so a short reply always fits. If the send
        // fails, the peer has already disconnected.
        let _ = self.send_now(last_word);
        self.close();
    }

    /// Closes a connection gracefully. Bytes sent earlier still arrive, because unread input, which
    /// would make the kernel reset the connection, is discarded first.
    pub fn close(self) {
        let _ = self.shutdown(Shutdown::Write);
        self.drain();
    }

    /// Closes the connection without sending TLS's `close_notify`.
    #[cfg(all(test, feature = "tls"))]
    pub(super) fn cut_for_a_test(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Reads and discards the available input without blocking, at most about [`limits::DRAIN`]
    /// bytes. Returns the number of bytes discarded.
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

    /// Makes the next close a reset, for a peer that keeps sending to a socket whose reading side
    /// was shut down. Linux never reopens the window of such a socket, so after an ordinary close,
    /// the peer's write would block for a minute.
    pub fn reset_on_close(&self) {
        // If this fails, the peer waits for a minute; nothing else depends on it.
        let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Creates a connection without a tap, for tests.
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
    /// Blocks until the socket accepts some bytes. If the write is split into pieces, the write
    /// timeout is counted from the first piece.
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

/// Returns whether the system or the process is out of file descriptors.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns whether a read failed because of its timeout.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn is_still_connecting(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR)
    )
}

/// Connects from a port that the system chooses, and on which a server can still listen. The system
/// chooses from a range that includes our servers' ports. Without address reuse, a connection would
/// keep a server from starting on that port, for up to a minute after the connection was closed.
fn connect_from_a_shared_port(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    // On Windows, this option has a different meaning.
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
    fn the_last_word_arrives_despite_unread_input() {
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
    fn every_call_is_traced_and_writes_are_split() {
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
        // The system may give the same port to another program's connection, but not every time.
        let can_start = || {
            let (client, accepted) = pair();
            let there = client.local_addr().unwrap();
            // Bind while the connection is open.
            drop(TcpListener::bind(there)?);
            // Allow binding during the minute or so for which the system reserves the port
            // (TIME_WAIT) when this side closed first.
            client.close();
            drop(accepted);
            TcpListener::bind(there)
        };
        let mut tries = (0..20).map(|_| can_start());
        assert!(tries.any(|started| started.is_ok()));
    }

    #[test]
    fn shutting_the_socket_down_cancels_an_unanswered_call() {
        // A listener with a full backlog does not answer new connections.
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
        // Use a long timeout, so that only the shutdown can wake the call.
        ours.set_write_timeout(Some(Duration::from_secs(600)))
            .unwrap();
        std::thread::scope(|threads| {
            let calling = threads.spawn(|| ours.call(|| true));
            // A shutdown that comes too early has no effect, so repeat it until the call returns.
            while !calling.is_finished() {
                let _ = ours.shutdown(Shutdown::Both);
                std::thread::yield_now();
            }
            assert!(calling.join().unwrap().is_err());
        });
        drop(waiting);
    }
}
