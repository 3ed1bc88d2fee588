//! A UDP socket whose calls can be traced.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use super::listener::port_of;
use super::{Port, Tap, canonical, reachable, socket};

/// The sender of a request, and the local address at which the request arrived.
#[derive(Clone, Copy, Debug)]
pub struct DatagramSource {
    pub peer: SocketAddr,
    #[cfg(target_os = "linux")]
    here: Option<Here>,
}

#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
enum Here {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

#[cfg(target_os = "linux")]
fn address_of(storage: &nix::sys::socket::SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|&v6| SocketAddr::V6(v6.into()))
    })
}

/// Makes the kernel report the local address at which each datagram arrives.
#[cfg(target_os = "linux")]
fn enable_pktinfo(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};

    if address.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// A UDP socket with a [`Tap`].
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    address: SocketAddr,
    port: Port,
    tap: Tap,
}

impl Datagrams {
    /// Binds to `address`; port 0 lets the system choose a port.
    ///
    /// # Errors
    /// The same errors as [`Listener::bind`](crate::Listener::bind).
    pub fn bind(address: SocketAddr, tap: &Tap) -> io::Result<Datagrams> {
        let bound = socket::bound_udp(address);
        let actual = bound
            .as_ref()
            .ok()
            .and_then(|socket| socket.local_addr().ok());
        tap.called("bind", Some(actual.unwrap_or(address)), &bound);
        let socket = bound?;
        let address = socket.local_addr()?;
        #[cfg(target_os = "linux")]
        enable_pktinfo(&socket, address)?;
        Ok(Datagrams {
            address,
            port: port_of(address)?,
            socket,
            tap: tap.clone(),
        })
    }

    /// Connects the socket to `to`. From then on, it receives datagrams only from that address, and
    /// an error if no program is listening there.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        let done = self.socket.connect(self.reached_from_here(to));
        self.tap.called("connect", Some(to), &done);
        done
    }

    /// Waits for the next datagram. Bytes that do not fit in `buffer` are lost.
    ///
    /// # Errors
    /// Any I/O error, including one for an earlier datagram that could not be delivered.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.recv_from(buffer);
        let received = received.map(|(count, peer)| (count, canonical(peer)));
        if self.tap.trace.is_some() {
            let (count, peer) = match &received {
                Ok((count, peer)) => (Ok(*count), *peer),
                Err(error) => (Err(io::Error::from(error.kind())), self.address),
            };
            self.tap.moved("recv_from", Some(peer), buffer, &count);
        }
        received
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let sent = self.socket.send_to(datagram, self.reached_from_here(to));
        self.tap.moved("send_to", Some(to), datagram, &sent);
        sent
    }

    /// Converts `to` for this socket: an IPv6 socket needs a mapped address to reach an IPv4 peer.
    fn reached_from_here(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.address.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        }
    }

    /// Sets the timeout for [`Datagrams::recv_from`]; `None` means no timeout.
    ///
    /// # Errors
    /// Any I/O error; `InvalidInput` for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// Returns the local address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> Port {
        self.port
    }

    /// Waits for the next request. Bytes that do not fit in `buffer` are lost.
    ///
    /// # Errors
    /// The same errors as [`Datagrams::recv_from`].
    #[cfg(target_os = "linux")]
    pub fn recv_question(&self, buffer: &mut [u8]) -> io::Result<(usize, DatagramSource)> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let received = {
            let mut pieces = [io::IoSliceMut::new(buffer)];
            let flags = MsgFlags::empty();
            let descriptor = self.socket.as_raw_fd();
            recvmsg::<SockaddrStorage>(descriptor, &mut pieces, Some(&mut space), flags)
                .map_err(io::Error::from)
                .and_then(|message| {
                    let peer = message.address.as_ref().and_then(address_of);
                    let peer = canonical(peer.ok_or(io::ErrorKind::InvalidData)?);
                    let here = message.cmsgs()?.find_map(|word| match word {
                        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Here::V4(info)),
                        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Here::V6(info)),
                        _ => None,
                    });
                    Ok((message.bytes, DatagramSource { peer, here }))
                })
        };
        if self.tap.trace.is_some() {
            let (count, peer) = match &received {
                Ok((count, asked)) => (Ok(*count), asked.peer),
                Err(error) => (Err(io::Error::from(error.kind())), self.address),
            };
            self.tap.moved("recv_from", Some(peer), buffer, &count);
        }
        received
    }

    /// Sends a reply from the address at which the request arrived. A machine may have several
    /// addresses, and a client may accept a reply only from the address to which it sent the
    /// request.
    ///
    /// # Errors
    /// Any I/O error.
    #[cfg(target_os = "linux")]
    pub fn answer(&self, datagram: &[u8], asked: &DatagramSource) -> io::Result<usize> {
        use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

        let words = match &asked.here {
            Some(Here::V4(info)) => vec![ControlMessage::Ipv4PacketInfo(info)],
            Some(Here::V6(info)) => vec![ControlMessage::Ipv6PacketInfo(info)],
            None => Vec::new(),
        };
        let pieces = [io::IoSlice::new(datagram)];
        let to = SockaddrStorage::from(self.reached_from_here(asked.peer));
        let descriptor = self.socket.as_raw_fd();
        let sent = sendmsg(descriptor, &pieces, &words, MsgFlags::empty(), Some(&to))
            .map_err(io::Error::from);
        self.tap.moved("send_to", Some(asked.peer), datagram, &sent);
        sent
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// The same errors as [`Datagrams::recv_from`].
    #[cfg(not(target_os = "linux"))]
    pub fn recv_question(&self, buffer: &mut [u8]) -> io::Result<(usize, DatagramSource)> {
        let (count, peer) = self.recv_from(buffer)?;
        Ok((count, DatagramSource { peer }))
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// Any I/O error.
    #[cfg(not(target_os = "linux"))]
    pub fn answer(&self, datagram: &[u8], asked: &DatagramSource) -> io::Result<usize> {
        self.send_to(datagram, asked.peer)
    }

    /// Wakes a thread that is blocked in `recv_from`: the socket sends itself an empty datagram.
    pub fn wake(&self) {
        let _ = self.send_to(&[], reachable(self.address));
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.tap.called("close", Some(self.address), &Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_comes_from_the_address_that_received_the_request() {
        let everywhere = Datagrams::bind("0.0.0.0:0".parse().unwrap(), &Tap::default()).unwrap();
        let client = UdpSocket::bind("127.0.0.9:0").unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let at: SocketAddr = format!("127.0.0.2:{}", everywhere.port()).parse().unwrap();
        client.send_to(b"where?", at).unwrap();
        let mut buffer = [0; 100];
        let (count, asked) = everywhere.recv_question(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..count], asked.peer),
            (&b"where?"[..], client.local_addr().unwrap())
        );
        everywhere.answer(b"here", &asked).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (4, at));
    }
}
