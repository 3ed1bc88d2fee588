//! Bound TCP ports and listeners.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::stream::prepare_for_a_client;
use super::tls::TlsServer;
use super::{Port, Stream, Tap, canonical, reachable, socket};
use crate::limits;

/// The default accept backlog, the same as std's.
const BACKLOG: i32 = limits::WORKER_BACKLOG as i32;

/// A bound TCP port that does not listen yet. No other program can listen on it, and the system
/// refuses connections instead of queueing them for a server that is still starting.
#[derive(Debug)]
pub struct BoundPort {
    socket: Socket,
    address: SocketAddr,
    port: Port,
    tap: Tap,
}

impl BoundPort {
    /// Binds to `address`; port 0 lets the system choose a port.
    ///
    /// # Errors
    /// The error from `bind`: the port is in use, the address does not belong to this machine, or
    /// this user may not bind to it.
    pub fn bind(address: SocketAddr, tap: &Tap) -> io::Result<BoundPort> {
        let bound = socket::bound_tcp(address);
        let actual = bound.as_ref().ok().and_then(local_address);
        tap.called("bind", Some(actual.unwrap_or(address)), &bound);
        let socket = bound?;
        let address = actual.unwrap_or(address);
        Ok(BoundPort {
            address,
            port: port_of(address)?,
            socket,
            tap: tap.clone(),
        })
    }

    /// Listens with a backlog of `backlog` connections.
    ///
    /// # Errors
    /// The error from `listen`; `AddrInUse` if another program bound the port at the same time and
    /// listened first.
    pub fn listen(self, backlog: i32) -> io::Result<Listener> {
        prepare_for_a_client(&SockRef::from(&self.socket));
        let done = self.socket.listen(backlog);
        self.tap.called("listen", Some(self.address), &done);
        done?;
        Ok(Listener {
            socket: self.socket.into(),
            address: self.address,
            port: self.port,
            tap: self.tap,
            tls: None,
        })
    }

    /// Returns the local address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> Port {
        self.port
    }
}

fn local_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

/// A TCP listener. Every connection gets the listener's [`Tap`].
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    port: Port,
    tap: Tap,
    /// `None` for plain connections.
    tls: Option<TlsServer>,
}

impl Listener {
    /// Binds to `address` and listens with a backlog of 128 connections; port 0 lets the system
    /// choose a port.
    ///
    /// # Errors
    /// The same errors as [`BoundPort::bind`].
    pub fn bind(address: SocketAddr, tap: &Tap) -> io::Result<Listener> {
        BoundPort::bind(address, tap)?.listen(BACKLOG)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// The error from `accept`, for example if the process is out of file descriptors. The next
    /// call may succeed.
    pub fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let accepted = self.socket.accept();
        let peer = accepted.as_ref().ok().map(|(_, peer)| canonical(*peer));
        self.tap
            .called("accept", Some(peer.unwrap_or(self.address)), &accepted);
        let (socket, peer) = accepted?;
        let peer = canonical(peer);
        let stream = Stream::accepted(socket, peer, self.tap.clone());
        match &self.tls {
            None => Ok((stream, peer)),
            Some(tls) => match stream.secured_as_server(tls) {
                Ok(stream) => Ok((stream, peer)),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }

    /// Makes this listener's connections use TLS, if `tls` is given.
    #[must_use]
    pub fn secured(mut self, tls: Option<&TlsServer>) -> Listener {
        self.tls = tls.cloned();
        self
    }

    /// Returns whether its connections use TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Accepts connections until `is_over` returns true. Passes each caller to `serve` and each
    /// error from `accept` to `failed`, which should pause. A connection that only wakes this
    /// thread at shutdown is not passed on.
    pub fn accept_each(
        &self,
        is_over: impl Fn() -> bool,
        mut serve: impl FnMut(Stream, SocketAddr),
        failed: impl Fn(&io::Error),
    ) {
        // Also check before the accept. The connection meant to wake this thread may already have
        // been accepted while a backlog was cleared or a caller was rejected for lack of a
        // descriptor, and no other connection follows.
        while !is_over() {
            let accepted = self.accept();
            if is_over() {
                return;
            }
            match accepted {
                Ok((stream, peer)) => {
                    // This can't fail on a socket that was just accepted. If it did, the connection
                    // would only be slower.
                    let _ = stream.set_nodelay(true);
                    serve(stream, peer);
                }
                Err(error) => failed(&error),
            }
        }
    }

    /// Returns the local address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> Port {
        self.port
    }

    /// Sets whether `accept` fails with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn set_nonblocking(&self, wanted: bool) -> io::Result<()> {
        self.socket.set_nonblocking(wanted)
    }

    /// Sets the time after which `accept` fails with `WouldBlock`. (std has no such timeout. Linux
    /// uses the read timeout; on a system that does not, `accept` waits forever.)
    ///
    /// # Errors
    /// Any I/O error.
    pub fn set_accept_timeout(&self, timeout: Duration) -> io::Result<()> {
        SockRef::from(&self.socket).set_read_timeout(Some(timeout))
    }

    /// Wakes a thread that is blocked in `accept`. Shuts down the listener, which is enough on
    /// Linux and needs no new descriptor. On other systems, makes a connection, which is the only
    /// other way. The thread must check why it was woken.
    pub fn wake(&self) {
        let done = SockRef::from(&self.socket).shutdown(Shutdown::Both);
        self.tap.called("shutdown", Some(self.address), &done);
        if done.is_err() {
            let _ =
                TcpStream::connect_timeout(&reachable(self.address), Duration::from_millis(250));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tap.called("close", Some(self.address), &Ok(()));
    }
}

pub(super) fn port_of(address: SocketAddr) -> io::Result<Port> {
    let never = || io::Error::new(io::ErrorKind::InvalidData, "bound to port 0");
    Port::new(address.port()).ok_or_else(never)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::raw;
    use super::*;

    #[test]
    fn the_system_probes_a_silent_peer() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &Tap::default()).unwrap();
        let _peer = TcpStream::connect(listener.address()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(stream.keepalive(), Some((60, 15, 4)));
    }

    #[test]
    fn window_probes_are_at_most_a_minute_apart() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &Tap::default()).unwrap();
        let peer = TcpStream::connect(listener.address()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let Some(usual) = raw::longest_retransmission_timeout(&peer) else {
            #[allow(clippy::disallowed_macros)]
            {
                eprintln!("NOT TESTED: the kernel is older than Linux 6.15");
            }
            return;
        };
        assert!(usual > limits::RETRANSMIT_EVERY);
        let own = stream.longest_retransmission_timeout();
        assert_eq!(own, Some(limits::RETRANSMIT_EVERY));
    }
}
