//! Socket operations that std lacks.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

/// Flags that keep a call from blocking, whatever the socket's mode, and from raising SIGPIPE.
/// (Rust programs ignore SIGPIPE anyway, so it does no harm that macOS has no flag for it.)
#[cfg(target_os = "linux")]
const NOW: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(all(unix, not(target_os = "linux")))]
const NOW: libc::c_int = libc::MSG_DONTWAIT;

/// Sends as many bytes as the socket accepts right now. Never blocks, whatever the socket's mode.
///
/// # Errors
/// `WouldBlock` if the socket is full; after any other error the connection is broken.
pub(super) fn send_now(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send_once(socket, bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            sent => return sent,
        }
    }
}

/// Receives the bytes that are available right now. Never blocks.
///
/// # Errors
/// `WouldBlock` if no byte is available; after any other error the connection is broken.
pub(super) fn receive_now(socket: &TcpStream, into: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    #[cfg(unix)]
    return SockRef::from(socket).recv_with_flags(into, libc::MSG_DONTWAIT);
    #[cfg(not(unix))]
    return at_once(socket, |socket| socket.recv(into));
}

/// Peeks at the received bytes without blocking and without removing them.
///
/// # Errors
/// The same errors as [`receive_now`].
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

/// The delivery status of the bytes sent to a peer, as the kernel reports it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Segments sent but not acknowledged.
    pub unacknowledged: u32,
    /// Number of window probes or keepalive probes since the last acknowledgement.
    pub unanswered_probes: u8,
    /// Time since data was last sent or retransmitted.
    pub since_sent: Duration,
    /// Time since the last acknowledgement of any kind.
    pub since_acknowledgement: Duration,
}

impl Delivery {
    /// Returns whether an answer from the peer's kernel is overdue. A single unanswered probe does
    /// not count, because it may have been lost, and the next one may not follow for two minutes.
    pub fn awaits_answer(&self) -> bool {
        let has_sent = self.unacknowledged > 0 && self.since_acknowledgement > self.since_sent;
        has_sent || self.unanswered_probes > 1
    }
}

#[cfg(target_os = "linux")]
mod tcp_info {
    use nix::{getsockopt_impl, sockopt_impl};

    // The kernel's `struct tcp_info` up to `tcpi_total_retrans`, available since Linux 2.6: eight
    // one-byte fields and 24 four-byte fields.
    sockopt_impl!(
        TcpInfo,
        GetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        [u32; 26]
    );
}

#[cfg(target_os = "linux")]
mod rto_max {
    use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

    /// `TCP_RTO_MAX_MS`, available since Linux 6.15 (`include/uapi/linux/tcp.h`).
    const TCP_RTO_MAX_MS: libc::c_int = 44;

    sockopt_impl!(
        /// The maximum time between two retransmissions or window probes, in milliseconds.
        RtoMax,
        Both,
        libc::IPPROTO_TCP,
        TCP_RTO_MAX_MS,
        u32
    );
}

/// Limits the time between two retransmissions or window probes. The system's own limit is 120 s.
/// Linux kernels before 6.15 and other systems do not support this.
pub(super) fn limit_retransmission_timeout(socket: &SockRef<'_>, most: Duration) {
    #[cfg(target_os = "linux")]
    if let Ok(most) = u32::try_from(most.as_millis()) {
        let _ = nix::sys::socket::setsockopt(&**socket, rto_max::RtoMax, &most);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, most);
}

/// Returns the maximum time between two retransmissions; `None` if the kernel has no such option.
#[cfg(all(test, target_os = "linux"))]
pub(super) fn longest_retransmission_timeout(socket: &TcpStream) -> Option<Duration> {
    let millis = nix::sys::socket::getsockopt(socket, rto_max::RtoMax).ok()?;
    Some(Duration::from_millis(millis.into()))
}

/// Returns the delivery status; `None` if the system does not report it.
#[cfg(target_os = "linux")]
pub(super) fn delivery(socket: &TcpStream) -> Option<Delivery> {
    const UNACKED: usize = 6;
    const LAST_DATA_SENT: usize = 11;
    const LAST_ACK_RECV: usize = 14;
    let info = nix::sys::socket::getsockopt(socket, tcp_info::TcpInfo).ok()?;
    let [_state, _ca_state, _retransmits, probes] = info[0].to_ne_bytes();
    let millis = |index: usize| Duration::from_millis(info[index].into());
    Some(Delivery {
        unacknowledged: info[UNACKED],
        unanswered_probes: probes,
        since_sent: millis(LAST_DATA_SENT),
        since_acknowledgement: millis(LAST_ACK_RECV),
    })
}

/// Returns the delivery status; `None` if the system does not report it.
#[cfg(not(target_os = "linux"))]
pub(super) fn delivery(_: &TcpStream) -> Option<Delivery> {
    None
}

#[cfg(unix)]
fn send_once(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(socket).send_with_flags(bytes, NOW)
}

#[cfg(not(unix))]
fn send_once(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    at_once(socket, |socket| socket.send(bytes))
}

/// Windows has no such flag, so this makes the socket non-blocking for the duration of one call. A
/// read that another thread has already begun continues, but a read that begins during the call
/// fails and disconnects the client. That would not be good enough for a server on Windows; the
/// client calls this function only on exit.
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
