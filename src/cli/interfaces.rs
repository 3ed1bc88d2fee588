//! The machine's network interfaces, for a server that listens on all of them. (The seed's slides
//! show the same list.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, UdpSocket};

use getifaddrs::{InterfaceFlags, getifaddrs};

/// Returns the machine's host name, if the system provides one.
pub fn machine_name() -> Option<String> {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned);
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok();
    name
}

#[derive(Default, Debug)]
pub struct Interface {
    pub mac: Option<[u8; 6]>,
    pub addresses: Vec<IpAddr>,
    pub is_loopback: bool,
}

/// Returns the interfaces that are up, by name. Empty if the system does not list them.
pub fn interfaces() -> BTreeMap<String, Interface> {
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    let Ok(rows) = getifaddrs() else { return found };
    for row in rows.filter(|row| row.flags.contains(InterfaceFlags::UP)) {
        let interface = found.entry(row.name.clone()).or_default();
        interface.is_loopback |= row.flags.contains(InterfaceFlags::LOOPBACK);
        if let Some(mac) = row.address.mac_addr() {
            interface.mac = Some(mac);
        }
        interface.addresses.extend(row.address.ip_addr());
    }
    found
}

/// Formats the table of interfaces that the server prints at startup, one line per interface.
/// Without `ipv6`, omits IPv6 addresses, because the server does not listen on them.
pub fn table(interfaces: &BTreeMap<String, Interface>, ipv6: bool) -> String {
    let mut table = String::new();
    for (name, Interface { mac, addresses, .. }) in interfaces {
        let mac = mac.map_or_else(
            || "-".to_owned(),
            |bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"),
        );
        let addresses = addresses.iter().filter(|address| ipv6 || address.is_ipv4());
        let addresses: Vec<String> = addresses.map(IpAddr::to_string).collect();
        let _ = writeln!(
            table,
            "  {name:<12}  MAC {mac:<17}  IP {}",
            addresses.join(", ")
        );
    }
    table
}

/// Returns the machine's address on its default route, if there is one. Sends nothing: connecting a
/// datagram socket only makes the system choose a route.
pub fn default_route(is_ipv6: bool) -> Option<IpAddr> {
    // These addresses are reserved for documentation, so no machine has them.
    let (here, there) = if is_ipv6 {
        ("[::]:0", "[2001:db8::1]:9")
    } else {
        ("0.0.0.0:0", "192.0.2.1:9")
    };
    let socket = UdpSocket::bind(here).ok()?;
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns the address at which other machines should reach a server bound to `bind`, if there is
/// one. Excludes loopback addresses and link-local IPv6 addresses, which would need a zone. Prefers
/// IPv4.
pub fn address_for_others(
    interfaces: &BTreeMap<String, Interface>,
    bind: IpAddr,
    route: Option<IpAddr>,
) -> Option<IpAddr> {
    let outer = interfaces
        .values()
        .filter(|interface| !interface.is_loopback);
    let mut addresses: Vec<IpAddr> = outer
        .flat_map(|interface| interface.addresses.iter().copied())
        .collect();
    addresses.retain(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => bind.is_ipv6() && !address.is_unicast_link_local(),
    });
    addresses.sort_by_key(IpAddr::is_ipv6);
    // Prefer the address on the default route, rather than that of a container bridge.
    let routed = route.filter(|route| addresses.contains(route));
    routed.or_else(|| addresses.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(is_loopback: bool, addresses: &[&str]) -> Interface {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        Interface {
            mac: None,
            addresses,
            is_loopback,
        }
    }

    #[test]
    fn the_address_for_other_machines_is_reachable() {
        let lan = BTreeMap::from([
            (
                "eth0".to_owned(),
                interface(false, &["fe80::1", "192.0.2.7"]),
            ),
            ("lo".to_owned(), interface(true, &["127.0.0.1", "::1"])),
        ]);
        assert_eq!(
            address_for_others(&lan, "0.0.0.0".parse().unwrap(), None),
            "192.0.2.7".parse().ok()
        );
        // docker0 sorts first, but other machines can't reach it.
        let bridged = BTreeMap::from([
            ("docker0".to_owned(), interface(false, &["172.17.0.1"])),
            ("eth0".to_owned(), interface(false, &["192.0.2.7"])),
        ]);
        let any = "0.0.0.0".parse().unwrap();
        let route = "192.0.2.7".parse().ok();
        assert_eq!(address_for_others(&bridged, any, route), route);
        let elsewhere = "198.51.100.1".parse().ok();
        assert_eq!(
            address_for_others(&bridged, any, elsewhere),
            "172.17.0.1".parse().ok()
        );
        let alone = BTreeMap::from([("lo".to_owned(), interface(true, &["127.0.0.1"]))]);
        assert_eq!(
            address_for_others(&alone, "::".parse().unwrap(), None),
            None
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_interface() {
        let lo = BTreeMap::from([("lo".to_owned(), interface(true, &["127.0.0.1", "::1"]))]);
        let row = "  lo            MAC -                  IP 127.0.0.1";
        assert_eq!(table(&lo, true), format!("{row}, ::1\n"));
        assert_eq!(table(&lo, false), format!("{row}\n"));
    }
}
