//! What std's sockets can't do, on the bare socket.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::TcpStream;

use socket2::SockRef;

/// Not to wait, whatever mode the socket is in, and no SIGPIPE. (Rust's programs ignore that signal anyway, so its flag may
/// be missing, as on macOS.)
#[cfg(target_os = "linux")]
const NOW: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(all(unix, not(target_os = "linux")))]
const NOW: libc::c_int = libc::MSG_DONTWAIT;

/// Sends as much as the socket takes right now and never waits, whatever mode the socket is in.
///
/// # Errors
/// `WouldBlock` when the socket is full; otherwise the connection is broken.
pub(super) fn send_now(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send_once(socket, bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            sent => return sent,
        }
    }
}

/// Receives what is there right now and never waits.
///
/// # Errors
/// `WouldBlock` when there is nothing; otherwise the connection is broken.
pub(super) fn receive_now(socket: &TcpStream, into: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    #[cfg(unix)]
    return SockRef::from(socket).recv_with_flags(into, libc::MSG_DONTWAIT);
    #[cfg(not(unix))]
    return at_once(socket, |socket| socket.recv(into));
}

/// Looks at what there is to receive right now and leaves it there.
///
/// # Errors
/// As [`receive_now`].
pub(super) fn peek_now(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    #[cfg(unix)]
    {
        use rustix::net::{RecvFlags, recv};

        let (count, _) = recv(socket, into, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        Ok(count)
    }
    #[cfg(not(unix))]
    {
        socket.set_nonblocking(true)?;
        let peeked = socket.peek(into);
        socket.set_nonblocking(false)?;
        peeked
    }
}

#[cfg(unix)]
fn send_once(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(socket).send_with_flags(bytes, NOW)
}

#[cfg(not(unix))]
fn send_once(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    at_once(socket, |socket| socket.send(bytes))
}

/// Windows knows no such flag, so the socket does not block for the length of one call. A read of another thread that
/// is under way goes on, but one that begins in that moment fails, and its client is cut off: a server there would need
/// more than this. The client does it only at its end.
#[cfg(not(unix))]
fn at_once(
    socket: &TcpStream,
    call: impl FnOnce(&SockRef<'_>) -> io::Result<usize>,
) -> io::Result<usize> {
    socket.set_nonblocking(true)?;
    let result = call(&SockRef::from(socket));
    socket.set_nonblocking(false)?;
    result
}
