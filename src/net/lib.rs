//! Sockets with features that std lacks: ports that are never 0, writes that never block, closes
//! that do not lose the last bytes sent, and a trace of every call.
//!
//! [`Stream`], [`Listener`] and [`Datagrams`] have the methods of the corresponding std types. A
//! [`Tap`] can observe each call.

mod connector;
mod datagrams;
mod handshake_error;
mod host;
pub mod limits;
mod listener;
pub mod lock;
mod network;
mod opening;
mod pending;
mod port_owner;
mod raw;
mod reserve_fd;
mod socket;
mod stream;
mod tap;
pub mod threads;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

pub use connector::Connector;
pub use datagrams::{DatagramSource, Datagrams};
pub use handshake_error::HandshakeError;
pub use host::{Host, NoAddress};
pub use listener::{BoundPort, Listener};
pub use network::{Network, NoNetwork};
pub use opening::Opening;
pub use pending::{Pending, PendingConnections, PendingLimits, Share, greediest};
pub use port_owner::{PortOwner, PortProtocol, PortUse, Program, overlap};
pub use portal_wire::Port;
pub use raw::Delivery;
pub use reserve_fd::ReserveFd;
pub use stream::Stream;
pub use stream::{is_timeout, lacks_descriptors};
pub use tap::{Call, Tap, Trace};
pub use tls::{TlsClient, TlsServer};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Returns the host that `address` counts as for per-address limits. `::ffff:1.2.3.4` counts as
/// `1.2.3.4`. A whole IPv6 /64 counts as one host, because a single host may own all of it. All
/// link-local addresses share one /64 although they belong to different hosts, so each counts
/// separately.
pub fn host_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() && !ip.is_unicast_link_local() => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64))
        }
        other => other,
    }
}

/// Converts a mapped address (`[::ffff:192.0.2.1]:80`) to the IPv4 address (`192.0.2.1:80`). Events
/// and limits use the IPv4 address for both kinds of socket.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // Keep the zone, if any.
        IpAddr::V6(_) => address,
    }
}

/// Returns the address at which this machine reaches its own listener: an unspecified address
/// (`0.0.0.0`, `[::]`) becomes the loopback address of its family.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        // Keep the zone, if any.
        _ => return address,
    };
    SocketAddr::new(loopback, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_64_bits_is_one_host() {
        let host = |text: &str| host_of(text.parse().unwrap()).to_string();
        assert_eq!(host("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(host("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(
            (host("::1"), host("127.0.0.2")),
            ("::1".into(), "127.0.0.2".into())
        );
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4_and_a_zone_is_kept() {
        for (address, shown) in [
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("[::1]:80", "[::1]:80"),
            // A deprecated IPv6 form, which is not a mapped address.
            ("[::192.0.2.1]:80", "[::c000:201]:80"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(canonical(address).to_string(), shown);
        }
    }
}
