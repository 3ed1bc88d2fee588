//! The address of a machine: an IP address and, if it is link-local, its zone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use super::canonical;

/// An address without a port.
///
/// `fe80::1` can be a different machine on each network to which this machine is connected. A
/// link-local address therefore comes with a *zone*, the interface to use (RFC 4007):
/// `fe80::1%eth0`. Without a zone, the system refuses to bind or connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// The port is always 0.
    address: SocketAddr,
}

impl Host {
    /// Returns the address without its zone.
    pub fn ip(self) -> IpAddr {
        self.address.ip()
    }

    /// Returns the address with this port.
    pub fn at(self, port: u16) -> SocketAddr {
        let mut address = self.address;
        address.set_port(port);
        address
    }
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Host {
        let mut address = canonical(address);
        address.set_port(0);
        Host { address }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Host {
        Host::from(SocketAddr::new(ip, 0))
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Host {
        Host::from(IpAddr::from(ip))
    }
}

/// The text is not an address, or its zone is not an interface of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAddress;

/// Parses `127.0.0.1`, `::1`, `[::1]`, `fe80::1%eth0` and `fe80::1%2`. Does not look up names.
impl FromStr for Host {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Host, NoAddress> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Host::from(ip));
        }
        match bare.split_once('%') {
            // Let the system look up the interface.
            Some((ip, _)) if ip.parse::<IpAddr>().is_ok() => {
                let mut found = (bare, 0).to_socket_addrs().map_err(|_| NoAddress)?;
                found.next().map(Host::from).ok_or(NoAddress)
            }
            _ => Err(NoAddress),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                write!(f, "{}%{}", address.ip(), address.scope_id())
            }
            address => write!(f, "{}", address.ip()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_keeps_its_zone() {
        for (text, at) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::]", "[::]:80"),
            ("::ffff:127.0.0.1", "127.0.0.1:80"),
            // The loopback interface has index 1.
            ("fe80::1%1", "[fe80::1%1]:80"),
            ("[fe80::1%lo]", "[fe80::1%1]:80"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.at(80).to_string(), at);
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        for text in ["localhost", "fe80::1%no-such", "1.2.3", "", "%lo"] {
            assert_eq!(text.parse::<Host>(), Err(NoAddress), "{text}");
        }
    }
}
