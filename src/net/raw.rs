//! What std's sockets can't do, on the bare socket.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use socket2::SockRef;

/// Sends as much as the socket takes right now and never waits, whatever mode the socket is in.
///
/// # Errors
/// `WouldBlock` when the socket is full; otherwise the connection is broken.
pub(super) fn send_now(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        match SockRef::from(socket).send_with_flags(bytes, flags) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            sent => return sent,
        }
    }
}
