//! TLS between a stream and its socket: encrypts what is written and decrypts what is read.
//!
//! Several threads use one connection at the same time and share its TLS state, so a lock guards
//! the state. The rules are the same as for a plain socket:
//!
//! 1. No thread holds the lock during a read. The reading thread waits for ciphertext without the
//!    lock and takes it only to decrypt up to 4 KiB.
//! 2. A write that must not block does not block. Bytes that the socket does not accept stay in the
//!    *tail* and are sent before anything else.
//! 3. Encryption can't be undone or repeated, so at most one piece of plaintext is encrypted while
//!    the tail is not empty. The tail must still be sent. Therefore, until it is empty, the last
//!    byte of that piece is reported as not written. The writer retries that byte like any other
//!    remainder, and it is not sent twice.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::handshake_error::HandshakeError;
use super::opening::TLS_HANDSHAKE;
use super::raw;
use crate::lock::{Mutex, MutexGuard, Rank};

/// Maximum number of bytes of ciphertext per read. With this limit, the plaintext buffered in
/// rustls stays below rustls's own limit of 16 KiB.
const STEP: usize = 4 * 1024;

/// Maximum number of bytes of plaintext in one record.
const RECORD: usize = 16 * 1024;

/// The type of an alert record.
const ALERT: u8 = 0x15;

/// The TLS state of one connection.
pub(super) struct Tls {
    state: Mutex<TlsState>,
    /// Number of bytes received since the last [`Tls::take_traffic`].
    came: AtomicUsize,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

struct TlsState {
    connection: Connection,
    /// Encrypted bytes that the socket has not accepted yet.
    tail: Vec<u8>,
    /// Set while a thread has taken the tail and is blocked while writing it. Nothing else may be
    /// sent before the tail.
    is_out: bool,
    /// Set if the first byte of the next write is already encrypted (rule 3).
    owes_a_byte: bool,
    /// Number of bytes encrypted since the last [`Tls::take_traffic`].
    encrypted: usize,
}

/// The TLS configuration of a server. Clones share it, so a new certificate applies to the next
/// connection on every listener.
#[derive(Clone)]
pub struct TlsServer {
    /// A leaf lock.
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl TlsServer {
    pub fn new(config: ServerConfig) -> TlsServer {
        TlsServer {
            config: Arc::new(Mutex::new(Arc::new(config))),
        }
    }

    /// Uses `config` for new connections. Existing connections are not affected.
    pub fn replace(&self, config: ServerConfig) {
        *self.config.lock() = Arc::new(config);
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer")
    }
}

/// The TLS configuration of a client.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    pub fn new(config: ClientConfig) -> TlsClient {
        TlsClient {
            config: Arc::new(config),
        }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClient")
    }
}

fn refused(error: &dyn fmt::Display) -> HandshakeError {
    HandshakeError::Refused(error.to_string())
}

impl Tls {
    /// Creates the server's end of a connection.
    ///
    /// # Errors
    /// The configuration is unusable for any connection.
    pub(super) fn server(server: &TlsServer) -> Result<Tls, HandshakeError> {
        let config = Arc::clone(&server.config.lock());
        let made = ServerConnection::new(config).map_err(|error| refused(&error))?;
        Ok(Tls::over(made.into()))
    }

    /// Creates the client's end of a connection to the server `name`, a host name or an address.
    ///
    /// # Errors
    /// The same errors as [`Tls::server`], or `name` is not a valid server name.
    pub(super) fn client(client: &TlsClient, name: &str) -> Result<Tls, HandshakeError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|error| refused(&error))?;
        let made = ClientConnection::new(Arc::clone(&client.config), name);
        let made = made.map_err(|error| refused(&error))?;
        Ok(Tls::over(made.into()))
    }

    fn over(mut connection: Connection) -> Tls {
        // rustls buffers bytes that are written before the handshake is complete. The outbox has
        // its own limit.
        connection.set_buffer_limit(None);
        Tls {
            state: Mutex::ranked(
                Rank::Tls,
                TlsState {
                    connection,
                    tail: Vec::new(),
                    is_out: false,
                    owes_a_byte: false,
                    encrypted: 0,
                },
            ),
            came: AtomicUsize::new(0),
        }
    }

    /// Completes the handshake. `before_read` runs before each read, and the read waits up to the
    /// socket's timeout.
    #[inline(never)]
    pub(super) fn shake_hands(
        &self,
        socket: &TcpStream,
        before_read: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), HandshakeError> {
        let mut is_first = true;
        loop {
            let mut state = self.state.lock();
            self.flush(&mut state, socket).map_err(HandshakeError::Io)?;
            if !state.connection.is_handshaking() {
                return Ok(());
            }
            drop(state);
            before_read().map_err(HandshakeError::Io)?;
            let mut ciphertext = [0; STEP];
            let count = read(socket, &mut ciphertext).map_err(HandshakeError::Io)?;
            if count == 0 {
                return Err(HandshakeError::Io(ErrorKind::UnexpectedEof.into()));
            }
            if std::mem::take(&mut is_first) && !matches!(ciphertext[0], TLS_HANDSHAKE | ALERT) {
                return Err(HandshakeError::PlainText(ciphertext[..count].to_vec()));
            }
            let mut state = self.state.lock();
            if let Err(error) = state.take_in(&ciphertext[..count]) {
                // Send the reason to the peer.
                let _ = state.offer(socket);
                return Err(refused(&error));
            }
        }
    }

    /// Like a read from the socket; 0 means that the peer has sent `close_notify`. (Never inlined,
    /// like the other functions here: otherwise every thread of a plain connection would also need
    /// the 4 KiB of stack for ciphertext.)
    #[inline(never)]
    pub(super) fn read(&self, socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        // Plaintext left over from the last read.
        match self.state.lock().connection.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
        loop {
            let mut ciphertext = [0; STEP];
            let count = read(socket, &mut ciphertext)?;
            self.came.fetch_add(count, Ordering::Relaxed);
            if count == 0 {
                // The stream ended without `close_notify`: a third party may have truncated it.
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut state = self.state.lock();
            let taken = state.take_in(&ciphertext[..count]);
            // Send replies to TLS's own messages, or the alert that ends the connection.
            if state.connection.wants_write() {
                state.offer(socket)?;
            }
            taken.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            match state.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Like a write to the socket, but never blocks.
    #[inline(never)]
    pub(super) fn write_now(&self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.offer(socket)?;
        if !state.tail.is_empty() || state.is_out {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = state.skip_the_owed(bytes);
        while taken < bytes.len() {
            taken += state.encrypt(&bytes[taken..])?;
            state.offer(socket)?;
            if !state.tail.is_empty() {
                state.owes_a_byte = true;
                return Ok(taken - 1);
            }
        }
        Ok(taken)
    }

    /// Like a write to the socket: blocks until the socket has accepted a record, the tail of one,
    /// or as much as it accepts within the write timeout.
    #[inline(never)]
    pub(super) fn write(&self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        self.flush(&mut state, socket)?;
        let mut taken = state.skip_the_owed(bytes);
        if taken == 0 && !bytes.is_empty() {
            taken += state.encrypt(bytes)?;
            match self.flush(&mut state, socket) {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    state.owes_a_byte = true;
                    taken -= 1;
                }
                Err(error) => return Err(error),
            }
        }
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    /// Sends as much of `close_notify` as the socket accepts right now.
    pub(super) fn send_close_notify(&self, socket: &TcpStream) {
        let mut state = self.state.lock();
        // Before the handshake is complete, there is no session to close.
        if !state.connection.is_handshaking() {
            state.connection.send_close_notify();
            let _ = state.offer(socket);
        }
    }

    /// Returns the number of bytes received and the number sent since the last call.
    pub(super) fn take_traffic(&self) -> (usize, usize) {
        // Encrypted bytes in the tail count as sent, because their plaintext does, too.
        let went = std::mem::take(&mut self.state.lock().encrypted);
        (self.came.swap(0, Ordering::Relaxed), went)
    }

    /// Writes the tail. Does not hold the lock while it waits for the socket.
    ///
    /// # Errors
    /// The socket's error; `WouldBlock` if it did not accept the whole tail in time.
    fn flush(&self, state: &mut MutexGuard<'_, TlsState>, socket: &TcpStream) -> io::Result<()> {
        loop {
            state.gather();
            if state.tail.is_empty() {
                return Ok(());
            }
            if state.is_out {
                // Two blocking writes never coincide, because the writers to a client take turns.
                return Err(ErrorKind::WouldBlock.into());
            }
            let tail = std::mem::take(&mut state.tail);
            let length = tail.len();
            state.is_out = true;
            let mut socket = socket;
            let written = MutexGuard::unlocked(state, || socket.write(&tail));
            state.is_out = false;
            let count = *written.as_ref().unwrap_or(&0);
            // The unwritten rest precedes the bytes that were encrypted in the meantime.
            let later = std::mem::replace(&mut state.tail, tail);
            state.tail.drain(..count);
            state.tail.extend(later);
            match written {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                // The write timeout has expired.
                Ok(_) if count < length => return Err(ErrorKind::WouldBlock.into()),
                Ok(_) => {}
            }
        }
    }
}

impl TlsState {
    /// Decrypts received bytes.
    fn take_in(&mut self, mut ciphertext: &[u8]) -> Result<(), rustls::Error> {
        while !ciphertext.is_empty() {
            let taken = self.connection.read_tls(&mut ciphertext);
            let processed = self.connection.process_new_packets();
            processed?;
            // After the peer's `close_notify`, rustls accepts no more bytes.
            if !matches!(taken, Ok(1..)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Encrypts at most one record of `bytes`. Returns the number of bytes encrypted.
    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let record = &bytes[..bytes.len().min(RECORD)];
        self.connection.writer().write_all(record)?;
        self.gather();
        Ok(record.len())
    }

    /// Moves encrypted bytes from rustls to the tail.
    fn gather(&mut self) {
        while self.connection.wants_write() {
            // A Vec accepts everything.
            match self.connection.write_tls(&mut self.tail) {
                Ok(count) => self.encrypted += count,
                Err(_) => return,
            }
        }
    }

    /// Writes as much of the tail as the socket accepts right now.
    ///
    /// # Errors
    /// The connection is broken. A full socket is not an error.
    fn offer(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.gather();
        while !self.tail.is_empty() && !self.is_out {
            match raw::send_now(socket, &self.tail) {
                Ok(count) => drop(self.tail.drain(..count)),
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns how many bytes at the start of `bytes` are already encrypted: one or none.
    fn skip_the_owed(&mut self, bytes: &[u8]) -> usize {
        let owed = self.owes_a_byte && !bytes.is_empty();
        self.owes_a_byte &= !owed;
        usize::from(owed)
    }
}

fn read(mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener};
    use std::time::{Duration, Instant};

    use rustls::RootCertStore;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::version::{TLS12, TLS13};

    use crate::Stream;

    /// Returns a server called `localhost` and a client that trusts it.
    fn both() -> (TlsServer, TlsClient) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (TlsServer::new(server), TlsClient::new(client))
    }

    fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    /// Returns the server's end and the client's end of a connection after the handshake.
    fn pair() -> (Stream, Stream) {
        let (server, client) = both();
        let (ours, theirs) = sockets();
        let ours = Stream::from(ours).secured_as_server(&server).unwrap();
        let theirs = Stream::from(theirs)
            .secured_as_client(&client, "localhost")
            .unwrap();
        std::thread::scope(|threads| {
            let server = threads.spawn(|| ours.shake_hands(None));
            theirs.shake_hands(None).unwrap();
            server.join().unwrap().unwrap();
        });
        (ours, theirs)
    }

    fn read_all(mut stream: &Stream) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn data_and_the_end_of_the_stream_arrive() {
        let (ours, theirs) = pair();
        (&ours).write_all(b"hello").unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&theirs).unwrap(), b"hello");
    }

    #[test]
    fn an_end_without_close_notify_is_an_error() {
        let (ours, theirs) = pair();
        (&ours).write_all(b"hello").unwrap();
        // Simulate a third party that cuts the connection.
        ours.cut_for_a_test();
        let error = read_all(&theirs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn output_that_does_not_fit_arrives_later_in_order_and_once() {
        let (ours, theirs) = pair();
        // Use numbers, so that the test detects lost or repeated bytes.
        let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut sent = 0;
        // The peer does not read, so the socket eventually fills up, and no call blocks.
        loop {
            match ours.send_now(&bytes[sent..(sent + 10_000).min(bytes.len())]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            assert!(sent < bytes.len(), "the socket is never full");
        }
        std::thread::scope(|threads| {
            let reading = threads.spawn(|| read_all(&theirs).unwrap());
            // Send the rest as the outbox does, alternating between non-blocking and blocking
            // writes.
            let mut waits = false;
            while sent < bytes.len() {
                let rest = &bytes[sent..];
                waits = !waits;
                let written = match waits {
                    true => (&ours).write(&rest[..rest.len().min(5_000)]),
                    false => ours.send_now(&rest[..rest.len().min(70_000)]),
                };
                match written {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
            ours.shutdown(Shutdown::Write).unwrap();
            assert!(reading.join().unwrap() == bytes, "the bytes differ");
        });
    }

    #[test]
    fn both_directions_work_at_once_with_several_writers() {
        let (ours, theirs) = pair();
        let line = |who: usize, number: usize| format!("{who} {number:06}\n");
        // The writers share a lock, as they do in the outbox.
        let turn = Mutex::ranked(Rank::Outbox, ());
        std::thread::scope(|threads| {
            let writing: Vec<_> = (0..2)
                .map(|who| {
                    let (ours, turn) = (&ours, &turn);
                    threads.spawn(move || {
                        for number in 0..20_000 {
                            let _turn = turn.lock();
                            (&mut &*ours)
                                .write_all(line(who, number).as_bytes())
                                .unwrap();
                        }
                    })
                })
                .collect();
            let back = threads.spawn(|| {
                for number in 0..20_000 {
                    (&theirs).write_all(line(9, number).as_bytes()).unwrap();
                }
                theirs.shutdown(Shutdown::Write).unwrap();
            });
            let there = threads.spawn(|| read_all(&theirs).unwrap());
            let heard = read_all(&ours).unwrap();
            let expected: String = (0..20_000).map(|number| line(9, number)).collect();
            assert!(heard == expected.as_bytes());
            back.join().unwrap();
            for one in writing {
                one.join().unwrap();
            }
            ours.shutdown(Shutdown::Write).unwrap();
            let heard = String::from_utf8(there.join().unwrap()).unwrap();
            for who in 0..2 {
                let expected: String = (0..20_000).map(|number| line(who, number)).collect();
                let prefix = who.to_string();
                let of_one: String = heard
                    .split_inclusive('\n')
                    .filter(|line| line.starts_with(&prefix))
                    .collect();
                assert!(of_one == expected);
            }
        });
    }

    #[test]
    fn plain_text_is_distinguished_from_a_failed_handshake() {
        let (server, client) = both();
        let (ours, mut theirs) = sockets();
        theirs.write_all(b"<CLIENT>").unwrap();
        let ours = Stream::from(ours).secured_as_server(&server).unwrap();
        assert!(matches!(
            ours.shake_hands(None),
            Err(HandshakeError::PlainText(_))
        ));
        // A client that expects another name does not trust this server.
        let (ours, theirs) = sockets();
        let ours = Stream::from(ours).secured_as_server(&server).unwrap();
        let theirs = Stream::from(theirs)
            .secured_as_client(&client, "elsewhere")
            .unwrap();
        std::thread::scope(|threads| {
            let serving = threads.spawn(|| ours.shake_hands(None));
            assert!(matches!(
                theirs.shake_hands(None),
                Err(HandshakeError::Refused(_))
            ));
            drop(theirs);
            assert!(serving.join().unwrap().is_err());
        });
        // A silent peer has only this much time.
        let (ours, _silent) = sockets();
        let ours = Stream::from(ours).secured_as_server(&server).unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(matches!(
            ours.shake_hands(Some(soon)),
            Err(HandshakeError::Io(_))
        ));
    }
}
