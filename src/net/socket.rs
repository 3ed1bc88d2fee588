//! Creates every socket that peers connect or send to.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};

/// Creates a TCP socket that is bound to `address` and does not listen yet.
pub(super) fn bound_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = new(address, Type::STREAM)?;
    // With this option, a port with earlier connections in TIME_WAIT can be bound again. On Windows
    // the option would let a second program take a port that is in use.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Creates a UDP socket that is bound to `address`.
pub(super) fn bound_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(address, Type::DGRAM)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Creates a socket for which `[::]` means every address of this machine, IPv4 included, even if
/// the system's default is IPv6 only (`net.ipv6.bindv6only` on Linux). IPv4 clients then have
/// mapped addresses (`::ffff:192.0.2.1`), which [`canonical`](super::canonical) converts back.
fn new(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}
