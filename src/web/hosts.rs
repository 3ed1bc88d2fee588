//! The names under which browsers may request pages, and the origins that may open a WebSocket.

use std::net::IpAddr;

/// A host and an optional port, from a URL, a `Host` field or an `Origin`. The name is in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The name or the address. An IPv6 address includes its brackets.
    name: String,
    port: Option<u16>,
}

impl Authority {
    /// Parses `NAME` or `NAME:PORT`. `NAME` may be an address; an IPv6 address has brackets (RFC
    /// 3986). Returns `None` if `text` has neither form.
    pub fn parse(text: &str) -> Option<Authority> {
        let end = match text.starts_with('[') {
            true => text.find(']')? + 1,
            false => text.find(':').unwrap_or(text.len()),
        };
        let (name, port) = text.split_at(end);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            _ => return None,
        };
        let is_name =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
        let is_host = match name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !name.is_empty() && name.bytes().all(is_name),
        };
        is_host.then(|| Authority {
            name: name.to_ascii_lowercase(),
            port,
        })
    }

    /// Returns the host without its port and brackets.
    pub fn host(&self) -> &str {
        self.name.trim_matches(['[', ']'])
    }

    /// Returns whether `page`, whose scheme has this default port, is on this host and port.
    fn is_named_by(&self, page: &Authority, default_port: u16) -> bool {
        self == page
            || (page.port.is_none() && self.port == Some(default_port) && self.name == page.name)
    }
}

/// The host names that a browser may use for this machine.
#[derive(Clone, Default, Debug)]
pub struct Hosts {
    /// Additional names. Addresses and `localhost` are always allowed, because no DNS server can
    /// redirect them.
    names: Vec<Authority>,
}

impl Hosts {
    /// Parses names of the form `NAME` or `NAME:PORT`.
    pub fn new(names: &[String]) -> Hosts {
        Hosts {
            names: names
                .iter()
                .filter_map(|name| Authority::parse(name))
                .collect(),
        }
    }

    /// Returns whether the `Host` of a request is a name of this machine. Any port is allowed.
    pub(super) fn mean(&self, host: &Authority) -> bool {
        host.name == "localhost"
            || host.host().parse::<IpAddr>().is_ok()
            || self.names.iter().any(|own| own.name == host.name)
    }

    /// Returns whether a page from `origin` is this server's own, given that the browser requested
    /// `host`. The host and the port must match those of `host` or of one of the names. The scheme
    /// is not compared, because a proxy may terminate TLS in front of this server.
    pub(super) fn own_page(&self, origin: &str, host: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else {
            return false;
        };
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let Some(page) = Authority::parse(authority) else {
            return false;
        };
        let host = Authority::parse(host);
        let mut own = host.iter().chain(&self.names);
        own.any(|own| own.is_named_by(&page, default_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_an_optional_port() {
        for text in [
            "localhost",
            "LOCALHOST:8050",
            "localhost:",
            "192.0.2.7:1",
            "[2001:DB8::1]",
            "[::1]:65535",
            "xn--caf-dma.example",
        ] {
            assert!(Authority::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            ":80",
            "a:b",
            "a:+80",
            "a:65536",
            "a:80:90",
            "::1",
            "[::1",
            "[::1]80",
            "[a]",
            "a b",
            "caf\u{e9}",
            "a/b",
            "a@b",
            "a?b",
            "a\"b",
            "[fe80::1%1]",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_names_that_cannot_be_redirected_mean_this_machine() {
        let hosts = Hosts::new(&["chat.example".to_owned(), "other.example:8443".to_owned()]);
        let mean = |text: &str| hosts.mean(&Authority::parse(text).unwrap());
        for host in [
            "127.0.0.1",
            "192.0.2.7:8080",
            "[2001:db8::1]:8080",
            "localhost:1",
            "Chat.Example",
            "chat.example:81",
            "other.example",
        ] {
            assert!(mean(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "chat.example.",
            "127.0.0.1.evil",
        ] {
            assert!(!mean(host), "{host}");
        }
    }

    #[test]
    fn a_page_is_own_if_host_and_port_match_with_any_scheme() {
        let hosts = Hosts::new(&["chat.example".to_owned(), "other.example:8443".to_owned()]);
        for (origin, host) in [
            ("http://192.0.2.7:8080", "192.0.2.7:8080"),
            ("https://192.0.2.7:8080", "192.0.2.7:8080"),
            ("https://localhost", "localhost"),
            ("https://localhost", "localhost:443"),
            ("http://localhost", "localhost:80"),
            ("https://[2001:db8::1]", "[2001:db8::1]"),
            // A proxy may send its upstream's address as the Host.
            ("https://chat.example", "127.0.0.1:8080"),
            ("http://chat.example", "127.0.0.1:8080"),
            ("https://other.example:8443", "127.0.0.1:8080"),
            ("https://chat.example:444", "chat.example:444"),
        ] {
            assert!(hosts.own_page(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "localhost"),
            ("", "localhost"),
            ("https://", ""),
            ("https://localhost", "localhost:8080"),
            ("https://localhost", "localhost:80"),
            ("http://localhost", "localhost:443"),
            ("http://localhost:3000", "localhost:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("https://evil.example", "localhost"),
            ("https://chat.example:8443", "127.0.0.1:8080"),
            ("https://other.example", "127.0.0.1:8080"),
            ("https://chat.example.evil.example", "127.0.0.1:8080"),
            ("https://evil.example@localhost", "localhost"),
            ("file://localhost", "localhost"),
            ("https://localhost/", "localhost"),
            ("https://localhost, https://evil.example", "localhost"),
        ] {
            assert!(!hosts.own_page(origin, host), "{origin} {host}");
        }
    }
}
