//! Detects two options that need the same port, before any port is bound.
//!
//! Without this check, the second bind would fail with "address in use", and the program using the
//! address would be this server itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::settings::Settings;
use crate::net::overlap;

/// Two options that need the same TCP port. The message is one sentence that includes the fix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConflict {
    first: Needed,
    second: Needed,
    /// A free port for the second option, if there is one.
    instead: Option<u16>,
}

/// A listener that the settings require.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Needed {
    whose: Whose,
    address: SocketAddr,
}

/// The option that requires a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Portal,
    Worker { portal: u16, workers: usize },
    Web,
    Board,
    Metrics,
}

impl Whose {
    /// The option's name; `None` for the ports that PORT determines.
    fn option(self) -> Option<&'static str> {
        match self {
            Whose::Portal | Whose::Worker { .. } => None,
            Whose::Web => Some("--web"),
            Whose::Board => Some("--board"),
            Whose::Metrics => Some("--metrics"),
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whose {
            Whose::Portal => write!(f, "PORT {}", self.address.port()),
            Whose::Worker { portal, workers } => {
                let last = usize::from(portal) + workers;
                write!(
                    f,
                    "PORT {portal} with --workers {workers} (ports {portal} to {last})"
                )
            }
            Whose::Web | Whose::Board | Whose::Metrics => {
                let option = self.whose.option().unwrap_or_default();
                write!(f, "{option} {}", self.address)
            }
        }
    }
}

impl fmt::Display for PortConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortConflict { first, second, .. } = self;
        write!(
            f,
            "{first} and {second} both need port {}: choose another port",
            second.address.port()
        )?;
        match (second.whose.option(), self.instead) {
            (Some(option), Some(port)) => {
                let address = SocketAddr::new(second.address.ip(), port);
                write!(f, " for one of them, such as {option} {address}")
            }
            _ => f.write_str(" for one of them"),
        }
    }
}

/// Returns the first two options that need the same port. Port 0 never conflicts, because the
/// system chooses a free port. A UDP port does not conflict with a TCP port. The rooms' ports are
/// not checked, because rooms skip ports that are in use.
pub(crate) fn port_conflict(settings: &Settings) -> Option<PortConflict> {
    let web = settings.web.as_ref().map(|web| (Whose::Web, web.address));
    let board = settings.board.map(|board| (Whose::Board, board));
    let metrics = settings.metrics.map(|metrics| (Whose::Metrics, metrics));
    let wanted: Vec<Needed> = [web, board, metrics]
        .into_iter()
        .flatten()
        .map(|(whose, address)| Needed { whose, address })
        .collect();
    for (index, &second) in wanted.iter().enumerate() {
        let port_of = |port| SocketAddr::new(second.address.ip(), port);
        let others = &wanted[..index];
        let first = user_of(settings, others, second.address);
        if let Some(first) = first {
            let rooms = last_port(settings) + settings.rooms;
            let is_free = |&port: &u16| {
                let all = wanted.iter().all(|other| other.address.port() != port);
                let is_room =
                    settings.port != 0 && port > settings.port && usize::from(port) <= rooms;
                all && !is_room && user_of(settings, &wanted, port_of(port)).is_none()
            };
            let port = second.address.port();
            let instead = (port..=u16::MAX).chain(1024..port).find(is_free);
            return Some(PortConflict {
                first,
                second,
                instead,
            });
        }
    }
    None
}

/// The last port that PORT and `--workers` determine.
fn last_port(settings: &Settings) -> usize {
    let workers = match settings.single_port {
        Some(_) => 0,
        None => settings.workers,
    };
    usize::from(settings.port) + workers
}

/// Returns the listener, among the portal, the workers and `others`, that uses the TCP port of
/// `address`.
fn user_of(settings: &Settings, others: &[Needed], address: SocketAddr) -> Option<Needed> {
    let port = address.port();
    if port == 0 {
        return None;
    }
    let at = settings.bind.at(port);
    let has_portal = settings.single_port.is_some() || settings.portals.tcp();
    let whose = if settings.port == 0 {
        None
    } else if port == settings.port {
        has_portal.then_some(Whose::Portal)
    } else {
        let is_worker = port > settings.port && usize::from(port) <= last_port(settings);
        is_worker.then_some(Whose::Worker {
            portal: settings.port,
            workers: settings.workers,
        })
    };
    let fixed = whose.map(|whose| Needed { whose, address: at });
    let mut all = fixed.into_iter().chain(others.iter().copied());
    all.find(|other| other.address.port() == port && do_overlap(other.address, address))
}

fn do_overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let zone = |address: SocketAddr| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let (ip, other_ip): (IpAddr, IpAddr) = (one.ip(), other.ip());
    let are_two_links = ip == other_ip && zone(one) != zone(other);
    overlap(ip, other_ip) && !are_two_links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::{Portals, WebEntrance};

    /// Returns the message about settings with these ports, or `None` if they do not conflict.
    fn sentence_about(
        (bind, port): (&str, u16),
        change: impl FnOnce(&mut Settings),
        web: Option<&str>,
        board: Option<&str>,
    ) -> Option<String> {
        let mut settings = Settings {
            bind: bind.parse().unwrap(),
            port,
            web: web.map(|web| WebEntrance::at(web.parse().unwrap())),
            board: board.map(|board| board.parse().unwrap()),
            ..Settings::default()
        };
        change(&mut settings);
        port_conflict(&settings).map(|conflict| conflict.to_string())
    }

    #[test]
    fn two_options_with_one_port_are_named_with_a_free_one() {
        let all = |_: &mut Settings| {};
        for (portal, web, board, sentence) in [
            (
                ("127.0.0.1", 8080),
                Some("127.0.0.1:8080"),
                None,
                "PORT 8080 and --web 127.0.0.1:8080 both need port 8080: choose another port for \
                 one of them, such as --web 127.0.0.1:8101",
            ),
            (
                ("127.0.0.1", 8077),
                Some("0.0.0.0:8080"),
                None,
                "PORT 8077 with --workers 4 (ports 8077 to 8081) and --web 0.0.0.0:8080 both need \
                 port 8080: choose another port for one of them, such as --web 0.0.0.0:8098",
            ),
            (
                ("::", 50000),
                None,
                Some("127.0.0.1:50000"),
                "PORT 50000 and --board 127.0.0.1:50000 both need port 50000: choose another port \
                 for one of them, such as --board 127.0.0.1:50021",
            ),
            (
                ("127.0.0.1", 50000),
                Some("[::1]:9000"),
                Some("[::1]:9000"),
                "--web [::1]:9000 and --board [::1]:9000 both need port 9000: choose another port \
                 for one of them, such as --board [::1]:9001",
            ),
        ] {
            let found = sentence_about(portal, all, web, board);
            assert_eq!(found.as_deref(), Some(sentence));
        }
        // After 65535, the search continues at 1024.
        let found = sentence_about(
            ("0.0.0.0", 50000),
            all,
            Some("0.0.0.0:65535"),
            Some("0.0.0.0:65535"),
        );
        assert!(found.unwrap().ends_with("--board 0.0.0.0:1024"));
    }

    #[test]
    fn ports_that_differ_in_number_address_or_transport_do_not_conflict() {
        let all = |_: &mut Settings| {};
        for (portal, web, board) in [
            (
                ("127.0.0.1", 50000),
                Some("127.0.0.1:8080"),
                Some("127.0.0.1:8050"),
            ),
            (("127.0.0.1", 8080), Some("127.0.0.2:8080"), None),
            (("0.0.0.0", 8080), Some("[::1]:8080"), None),
            (("fe80::1%1", 8080), Some("[fe80::1%2]:8080"), None),
            (("127.0.0.1", 0), Some("127.0.0.1:0"), Some("127.0.0.1:0")),
            // The rooms' ports follow the workers' ports, and the rooms skip a port in use.
            (("127.0.0.1", 8070), Some("127.0.0.1:8080"), None),
        ] {
            assert_eq!(sentence_about(portal, all, web, board), None, "{portal:?}");
        }
        let udp = |settings: &mut Settings| settings.portals = Portals::Udp;
        let web = Some("127.0.0.1:8080");
        assert_eq!(sentence_about(("127.0.0.1", 8080), udp, web, None), None);
        // The workers' ports are TCP, even without a TCP portal.
        assert!(sentence_about(("127.0.0.1", 8079), udp, web, None).is_some());
        // A single port has no workers.
        let single = |settings: &mut Settings| settings.single_port = Some(10);
        assert_eq!(sentence_about(("127.0.0.1", 8079), single, web, None), None);
        assert!(sentence_about(("127.0.0.1", 8080), single, web, None).is_some());
    }
}
