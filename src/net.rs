//! What std's sockets lack: ports that are ports, a write that never waits, and a close that
//! does not destroy the last words.

use std::fmt;
use std::io::{self, Read};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::num::NonZeroU16;
use std::time::Duration;

use socket2::SockRef;

use crate::limits;

/// A port that something can listen on: 1 to 65535, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port of that number, or `None` for 0, which means "any" to the system.
    pub fn new(number: u16) -> Option<Port> {
        NonZeroU16::new(number).map(Port)
    }

    /// The number, 1 to 65535.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The port of a bound socket's address.
///
/// # Errors
/// `InvalidData` when the system reports port 0, which a bound socket never has.
pub fn port_of(address: SocketAddr) -> io::Result<Port> {
    Port::new(address.port())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "bound to port 0"))
}

/// Whether the two ends of a connection are the same socket. It happens when a client asks for a
/// free port in the range that the system draws its own ports from, and nobody listens there:
/// TCP then lets it meet itself. Such a connection counts as refused.
pub fn is_self_connection(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer,
        _ => false,
    }
}

/// Sends as much as the socket takes right now and never waits, whatever mode the socket is in.
/// (Non-blocking mode would do the same to the thread that reads from it.)
///
/// # Errors
/// `WouldBlock` when the socket is full; otherwise the connection is broken.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        match SockRef::from(stream).send_with_flags(bytes, flags) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Says the last word on a fresh connection and closes it, without ever waiting for the peer:
/// sends, ends our direction, takes what has come unasked, drops.
pub fn send_and_close(stream: TcpStream, last_word: &[u8]) {
    // A fresh socket's buffer is empty, so a short answer always fits; if the peer is gone
    // already, there is nobody left to tell.
    let _ = send_now(&stream, last_word);
    close(stream);
}

/// Closes a connection in order: what was sent before still arrives, because unread input (which
/// would make the kernel reset the connection) is taken first, as far as it is there.
pub fn close(stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    drain(&stream);
}

/// Takes what is there to read, without waiting and at most [`limits::DRAIN`] bytes. Returns how
/// many there were.
pub fn drain(mut stream: &TcpStream) -> usize {
    let mut taken = 0;
    if stream.set_nonblocking(true).is_err() {
        return taken;
    }
    let mut scrap = [0; 4096];
    while taken < limits::DRAIN {
        match stream.read(&mut scrap) {
            Ok(0) | Err(_) => break,
            Ok(count) => taken += count,
        }
    }
    taken
}

/// Makes the coming close a reset. That is for a peer that goes on sending to a socket whose
/// reading side was shut down: Linux never opens the window of such a socket again, and after an
/// ordinary close the peer would be stuck in its write for a minute.
pub fn reset_on_close(stream: &TcpStream) {
    // If it fails, the peer waits for that minute; nothing else depends on it.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The address at which this machine reaches a listener of its own: an unspecified address
/// (`0.0.0.0`, `[::]`) becomes the loopback of its family.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Wakes a thread that is blocked in `accept` on `listener`. Linux does so when the listener is
/// shut down, and that needs no new descriptor; elsewhere it takes one connection, which is the
/// only way that std offers. The thread has to look why it woke.
pub fn wake_accept(listener: &TcpListener) {
    if SockRef::from(listener).shutdown(Shutdown::Both).is_ok() {
        return;
    }
    if let Ok(address) = listener.local_addr() {
        let _ = TcpStream::connect_timeout(&reachable(address), Duration::from_millis(250));
    }
}

/// Wakes a thread that is blocked in `recv_from` on `socket`, with an empty datagram from the
/// socket to itself.
pub fn wake_receive(socket: &UdpSocket) {
    if let Ok(address) = socket.local_addr() {
        let _ = socket.send_to(&[], reachable(address));
    }
}

/// Makes the queue of a listener's waiting connections `backlog` long (std chooses 128).
///
/// # Errors
/// What `listen` reports; the listener goes on with the shorter queue.
pub fn lengthen_backlog(listener: &TcpListener, backlog: i32) -> io::Result<()> {
    SockRef::from(listener).listen(backlog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_is_no_port() {
        assert_eq!(Port::new(0), None);
        assert_eq!(Port::new(50001).map(Port::get), Some(50001));
    }

    #[test]
    fn send_now_reports_a_full_socket_instead_of_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _silent = listener.accept().unwrap();
        let chunk = vec![b'x'; 1 << 20];
        let mut taken = 0;
        let error = loop {
            match send_now(&sender, &chunk) {
                Ok(count) => taken += count,
                Err(error) => break error,
            }
        };
        assert!(taken > 0);
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_last_word_arrives_though_the_peer_said_something_unasked() {
        use std::io::Write;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&[b'y'; 10_000]).unwrap();
        let (server, _) = listener.accept().unwrap();
        send_and_close(server, b"FULL");
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "FULL");
    }
}
