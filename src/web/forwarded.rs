//! Determines the client behind trusted reverse proxies from `X-Forwarded-For`,
//! `X-Forwarded-Proto` and `Forwarded` (RFC 7239).
//!
//! A client can send these fields itself, and a proxy may forward them and append its own values.
//! They are therefore read from right to left, and only as far as the addresses are trusted.

use std::net::{IpAddr, SocketAddr};

use super::fields::Fields;
use portal_net::Network;

/// The client's address, and whether the client uses TLS, if the proxy states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forwarded {
    pub(super) client: SocketAddr,
    pub(super) is_https: Option<bool>,
}

/// One element of such a field: the client's address, and its port and scheme if given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    address: IpAddr,
    port: Option<u16>,
    is_https: Option<bool>,
}

impl Forwarded {
    /// Reads the `fields` of a request from `peer`. If the peer is not a trusted proxy, or reports
    /// no address, the peer is the client itself.
    ///
    /// A proxy writes one of the two fields and forwards the other unchanged. If they report
    /// different addresses, both are therefore ignored.
    pub(super) fn read(peer: SocketAddr, fields: &Fields, proxies: &[Network]) -> Forwarded {
        let trusts = |address| proxies.iter().any(|proxy| proxy.contains(address));
        let direct = Forwarded {
            client: peer,
            is_https: None,
        };
        if !trusts(peer.ip()) {
            return direct;
        }
        let simple: Vec<Option<Hop>> = fields
            .all("x-forwarded-for")
            .flat_map(simple_hops)
            .collect();
        let standard: Vec<Option<Hop>> = fields.all("forwarded").flat_map(hops).collect();
        let scheme = fields.all("x-forwarded-proto").last();
        let scheme = scheme.and_then(|value| is_https(value.rsplit(',').next()?.trim()));
        let hop = match (nearest(&simple, trusts), nearest(&standard, trusts)) {
            (hop, _) if standard.is_empty() => hop,
            (_, hop) if simple.is_empty() => hop,
            (Some(one), Some(other)) if one.address == other.address => Some(Hop {
                is_https: other.is_https,
                port: one.port.or(other.port),
                ..one
            }),
            _ => None,
        };
        let Some(hop) = hop else {
            return Forwarded {
                is_https: scheme,
                ..direct
            };
        };
        Forwarded {
            // If no port is given, use that of the proxy's connection, to distinguish the
            // connections of one client.
            client: SocketAddr::new(hop.address.to_canonical(), hop.port.unwrap_or(peer.port())),
            is_https: hop.is_https.or(scheme),
        }
    }
}

/// Returns the rightmost hop that is not a trusted proxy, or the leftmost one if all are trusted.
/// Returns `None` if the proxy reports no address.
fn nearest(hops: &[Option<Hop>], trusts: impl Fn(IpAddr) -> bool) -> Option<Hop> {
    let mut nearest = None;
    for hop in hops.iter().rev() {
        // Any client could have written the elements to the left of an invalid one.
        let Some(hop) = hop else { break };
        nearest = Some(*hop);
        if !trusts(hop.address) {
            break;
        }
    }
    nearest
}

fn is_https(scheme: &str) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    (is("https") || is("http")).then(|| is("https"))
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`. The
/// port may be obfuscated (`_x`).
fn node(text: &str) -> Option<Hop> {
    let hop = |address, port| Hop {
        address,
        port,
        is_https: None,
    };
    if let Ok(address) = text.parse() {
        return Some(hop(address, None));
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => {
            let (address, port) = text.split_at(text.find(':')?);
            (IpAddr::V4(address.parse().ok()?), port)
        }
    };
    match port.strip_prefix(':') {
        None => port.is_empty().then(|| hop(address, None)),
        Some(hidden) if hidden.starts_with('_') => Some(hop(address, None)),
        // No client has port 0.
        Some(port) => {
            let port: u16 = port.parse().ok()?;
            Some(hop(address, Some(port).filter(|&port| port > 0)))
        }
    }
}

fn simple_hops(line: &str) -> Vec<Option<Hop>> {
    let nodes = line.split(',').map(str::trim);
    nodes.filter(|text| !text.is_empty()).map(node).collect()
}

/// Returns the hops of one `Forwarded` line. An invalid line counts as a single unknown hop, so a
/// line from the client can't invalidate the one that its proxy adds.
fn hops(line: &str) -> Vec<Option<Hop>> {
    let Some(elements) = elements(line) else {
        return vec![None];
    };
    let hop = |pairs: Vec<(String, String)>| {
        let value = |name: &str| {
            let mut values = pairs.iter().filter(|(there, _)| there == name);
            let first = values.next().map(|(_, value)| value.as_str());
            first.filter(|_| values.next().is_none())
        };
        let hop = node(value("for")?)?;
        let is_https = value("proto").and_then(is_https);
        Some(Hop { is_https, ..hop })
    };
    let elements = elements.into_iter().filter(|pairs| !pairs.is_empty());
    elements.map(hop).collect()
}

/// Returns the comma-separated elements of a `Forwarded` line, each a list of pairs with lower-case
/// names. Returns `None` if the line is invalid.
fn elements(line: &str) -> Option<Vec<Vec<(String, String)>>> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut elements = vec![Vec::new()];
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(BLANK);
        let end = rest.find(['=', ';', ',']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if let Some(after) = after.strip_prefix('=') {
            let (value, after) = value(after)?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            let pair = is_name.then(|| (name.to_ascii_lowercase(), value))?;
            elements.last_mut()?.push(pair);
            rest = after.trim_start_matches(BLANK);
        } else if name.is_empty() {
            rest = after;
        } else {
            return None;
        }
        let Some(separator) = rest.chars().next() else {
            return Some(elements);
        };
        match separator {
            ';' => {}
            ',' => elements.push(Vec::new()),
            _ => return None,
        }
        rest = &rest[1..];
    }
}

/// Parses a value, and returns it with the rest of the text. RFC 7239 forbids colons and brackets
/// outside quotes, but they are common.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t', '"']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Trusts 127.0.0.1, `10.0.0.0/8` and `2001:db8:5::/48`.
    fn read(peer: &str, lines: &[(&str, &str)]) -> (String, Option<bool>) {
        let proxies = ["127.0.0.1", "10.0.0.0/8", "2001:db8:5::/48"];
        let proxies = proxies.map(|text| text.parse().unwrap());
        let fields = Fields::from_lines(lines);
        let forwarded = Forwarded::read(peer.parse().unwrap(), &fields, &proxies);
        (forwarded.client.to_string(), forwarded.is_https)
    }

    const FOR: &str = "x-forwarded-for";
    const FORWARDED: &str = "forwarded";

    #[test]
    fn only_a_trusted_proxy_names_its_client() {
        let lines = [(FOR, "203.0.113.9"), ("x-forwarded-proto", "https")];
        for (peer, wanted) in [
            ("127.0.0.1:5", ("203.0.113.9:5", Some(true))),
            ("[::ffff:127.0.0.1]:5", ("203.0.113.9:5", Some(true))),
            ("127.0.0.2:5", ("127.0.0.2:5", None)),
            ("[::1]:5", ("[::1]:5", None)),
        ] {
            assert_eq!(
                read(peer, &lines),
                (wanted.0.to_owned(), wanted.1),
                "{peer}"
            );
        }
        let none: Forwarded = Forwarded::read(
            "127.0.0.1:5".parse().unwrap(),
            &Fields::from_lines(&lines),
            &[],
        );
        assert_eq!(none.client.to_string(), "127.0.0.1:5");
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_trusted() {
        let client = |lines: &[(&str, &str)]| read("127.0.0.1:5", lines).0;
        for (value, wanted) in [
            ("203.0.113.9", "203.0.113.9:5"),
            ("198.51.100.1, 203.0.113.9", "203.0.113.9:5"),
            ("198.51.100.1,203.0.113.9,10.0.0.2", "203.0.113.9:5"),
            ("203.0.113.9, 10.0.0.3,10.0.0.2", "203.0.113.9:5"),
            // All hops are trusted, so the client is the first one.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3:5"),
            ("2001:db8::7, 2001:db8:5::1", "[2001:db8::7]:5"),
            ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
            ("203.0.113.9:4711", "203.0.113.9:4711"),
            ("::ffff:203.0.113.9", "203.0.113.9:5"),
            (" 203.0.113.9 ,, ", "203.0.113.9:5"),
            // The proxy reports no client, or the nearest valid hop is a proxy.
            ("203.0.113.9, unknown", "127.0.0.1:5"),
            ("203.0.113.9, nonsense, 10.0.0.2", "10.0.0.2:5"),
            ("", "127.0.0.1:5"),
        ] {
            assert_eq!(client(&[(FOR, value)]), wanted, "{value}");
        }
        // Multiple lines form a single list.
        let lines = [
            (FOR, "198.51.100.1"),
            (FOR, "203.0.113.9"),
            (FOR, "10.1.1.1"),
        ];
        assert_eq!(client(&lines), "203.0.113.9:5");
    }

    #[test]
    fn forwarded_is_parsed_as_rfc_7239_specifies() {
        for (value, client, is_https) in [
            (
                "for=192.0.2.60;proto=https;by=203.0.113.43",
                "192.0.2.60:5",
                Some(true),
            ),
            (
                "For=\"192.0.2.60:4711\" ; Proto=HTTP",
                "192.0.2.60:4711",
                Some(false),
            ),
            (
                "for=\"[2001:db8:cafe::17]:4711\"",
                "[2001:db8:cafe::17]:4711",
                None,
            ),
            ("for=[2001:db8:cafe::17]", "[2001:db8:cafe::17]:5", None),
            ("for=192.0.2.60:_hidden", "192.0.2.60:5", None),
            (
                "for=198.51.100.1;proto=https, for=192.0.2.60;proto=http, for=10.0.0.1;proto=https",
                "192.0.2.60:5",
                Some(false),
            ),
            ("for=\"1\\92.0.2.60\"", "192.0.2.60:5", None),
            (
                "host=\"a,b;for=10.9.9.9\";for=192.0.2.60",
                "192.0.2.60:5",
                None,
            ),
            (
                "by=\"a \\\" b, for=198.51.100.1\", for=192.0.2.60",
                "192.0.2.60:5",
                None,
            ),
            ("for=192.0.2.60,,", "192.0.2.60:5", None),
            // No client is reported.
            ("for=unknown", "127.0.0.1:5", None),
            ("for=_secret", "127.0.0.1:5", None),
            ("proto=https", "127.0.0.1:5", None),
            ("for=192.0.2.60;for=192.0.2.61", "127.0.0.1:5", None),
            ("for=\"192.0.2.60", "127.0.0.1:5", None),
            ("for=\"192.0.2.60\"x", "127.0.0.1:5", None),
            ("192.0.2.60", "127.0.0.1:5", None),
            ("=192.0.2.60", "127.0.0.1:5", None),
        ] {
            let read = read("127.0.0.1:5", &[(FORWARDED, value)]);
            assert_eq!(read, (client.to_owned(), is_https), "{value}");
        }
        // A line that the client sent itself has no effect.
        let lines = [
            (FORWARDED, "for=\"198.51.100.1"),
            (FORWARDED, "for=192.0.2.60"),
        ];
        assert_eq!(read("127.0.0.1:5", &lines).0, "192.0.2.60:5");
    }

    #[test]
    fn both_fields_are_ignored_if_they_name_different_addresses() {
        let both =
            |simple, standard| read("127.0.0.1:5", &[(FOR, simple), (FORWARDED, standard)]).0;
        assert_eq!(both("192.0.2.60", "for=198.51.100.1"), "127.0.0.1:5");
        assert_eq!(both("192.0.2.60", "for=unknown"), "127.0.0.1:5");
        assert_eq!(
            both("192.0.2.60, 10.0.0.1", "for=192.0.2.60:7"),
            "192.0.2.60:7"
        );
    }

    #[test]
    fn the_scheme_is_the_last_one_named() {
        for (value, is_https) in [
            ("https", Some(true)),
            ("https, http", Some(false)),
            ("wss", None),
            ("", None),
        ] {
            let lines = [(FOR, "192.0.2.60"), ("x-forwarded-proto", value)];
            assert_eq!(read("127.0.0.1:5", &lines).1, is_https, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic(value in "[ -~\t\u{fffd}]{0,80}", quoted in "[=;,\" \\\\a\u{fffd}]{0,20}") {
            for value in [&value, &quoted] {
                read("127.0.0.1:5", &[(FORWARDED, value), (FOR, value)]);
            }
        }
    }
}
