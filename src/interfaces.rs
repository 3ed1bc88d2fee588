//! The machine's network interfaces, for a server that listens on all of them (the seed's slides
//! list them, too).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use getifaddrs::{InterfaceFlags, getifaddrs};

/// One interface, as people know it.
#[derive(Default, Debug)]
pub(crate) struct Interface {
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) is_loopback: bool,
}

/// The interfaces that are up, by name. Empty when the system does not tell.
pub(crate) fn interfaces() -> BTreeMap<String, Interface> {
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

/// The table of interfaces for the start of the server, one line each.
pub(crate) fn table(interfaces: &BTreeMap<String, Interface>) -> String {
    let mut table = String::new();
    for (name, Interface { mac, addresses, .. }) in interfaces {
        let mac = mac.map_or_else(
            || "-".to_owned(),
            |bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"),
        );
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let _ = writeln!(
            table,
            "  {name:<12}  MAC {mac:<17}  IP {}",
            addresses.join(", ")
        );
    }
    table
}

/// The address that others on the network should type, if there is one that a bind to `bind`
/// listens on: not the loopback, and IPv4 rather than a link-local IPv6 address that would need
/// a zone.
pub(crate) fn address_for_others(
    interfaces: &BTreeMap<String, Interface>,
    bind: IpAddr,
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
    addresses.first().copied()
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
    fn others_are_told_an_address_that_they_can_reach() {
        let lan = BTreeMap::from([
            (
                "eth0".to_owned(),
                interface(false, &["fe80::1", "192.0.2.7"]),
            ),
            ("lo".to_owned(), interface(true, &["127.0.0.1", "::1"])),
        ]);
        assert_eq!(
            address_for_others(&lan, "0.0.0.0".parse().unwrap()),
            "192.0.2.7".parse().ok()
        );
        let alone = BTreeMap::from([("lo".to_owned(), interface(true, &["127.0.0.1"]))]);
        assert_eq!(address_for_others(&alone, "::".parse().unwrap()), None);
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let table = table(&BTreeMap::from([(
            "lo".to_owned(),
            interface(true, &["127.0.0.1", "::1"]),
        )]));
        assert_eq!(
            table,
            "  lo            MAC -                  IP 127.0.0.1, ::1\n"
        );
    }
}
