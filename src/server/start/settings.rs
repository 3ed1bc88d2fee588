//! What a server can be told at its start, and what it does when it is told nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Ticks;
use crate::limits;
use crate::net::{Host, Network, TlsServer};
use crate::seat::Timeouts;
use crate::wire::Revision;
#[cfg(feature = "cluster")]
use portal_backplane::ClusterSettings;
use portal_core::guard::pace::Rate;

/// Which portals are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Portals {
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
    /// Both, on the same port number.
    Both,
}

impl Portals {
    /// Whether the TCP portal is open.
    pub fn tcp(self) -> bool {
        self != Portals::Udp
    }

    /// Whether the UDP portal is open.
    pub fn udp(self) -> bool {
        self != Portals::Tcp
    }
}

/// The entrance for browsers.
#[derive(Clone, Debug)]
pub struct WebEntrance {
    /// Where the page is.
    pub address: SocketAddr,
    /// Names besides its addresses and `localhost` under which browsers may request the page:
    /// `NAME` or `NAME:PORT`.
    pub names: Vec<String>,
    /// Reverse proxies whose statements about their clients are trusted.
    pub trusted_proxies: Vec<Network>,
}

impl WebEntrance {
    /// The page at that address.
    pub fn at(address: SocketAddr) -> WebEntrance {
        WebEntrance {
            address,
            names: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// The server's settings; the command line's options, in `chatserver --help`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The portal's port; 0 lets the system choose this one and the workers'.
    pub port: u16,
    /// The address to listen on.
    pub bind: Host,
    /// How many workers; even, so that nobody sits alone.
    pub workers: usize,
    /// Speak as the original programs of that revision do (seed 000).
    pub compat: Option<Revision>,
    /// One port for so many clients, instead of a portal and workers.
    pub single_port: Option<usize>,
    /// Which portals are open.
    pub portals: Portals,
    /// The clock's period.
    pub tick: Duration,
    /// From the portal's answer to the connection.
    pub reserve_timeout: Duration,
    /// From the connection to the passcode.
    pub handshake_timeout: Duration,
    /// From the last thing heard; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// From the connection, however active; `None` is never.
    pub total_timeout: Option<Duration>,
    /// The time after which a client whose kernel acknowledges nothing is disconnected.
    pub unacknowledged: Duration,
    /// The longest frame taken from a client, in bytes.
    pub max_message: usize,
    /// Where the accounts are; `None` where a free name is anybody's, without a password.
    pub accounts: Option<PathBuf>,
    /// How many seats one address may have reserved or taken.
    pub max_per_address: Option<usize>,
    /// How fast one client may talk.
    pub rate: Option<Rate>,
    /// Up to how many people are told of each other's comings and goings.
    pub announce_up_to: usize,
    /// How many rooms there can be at a time.
    pub rooms: usize,
    /// How many of a room's last messages a new member gets to see.
    pub history: usize,
    /// What greets whoever logs in.
    pub message_of_the_day: Option<String>,
    /// Print no events.
    pub quiet: bool,
    /// Chat texts in the events, too.
    pub show_messages: bool,
    /// Passcodes in the events, too.
    pub show_passcodes: bool,
    /// Tell of every socket call as an event, with its bytes: passwords, too.
    pub trace: bool,
    /// Write so many bytes at a time, and no more together.
    pub chop: Option<NonZeroUsize>,
    /// Serve a page about it at this address.
    pub board: Option<SocketAddr>,
    /// Let browsers in.
    pub web: Option<WebEntrance>,
    /// What all TCP ports speak TLS with; `None` if they speak without it.
    pub tls: Option<TlsServer>,
    /// Be one chat with other servers.
    #[cfg(feature = "cluster")]
    pub cluster: Option<ClusterSettings>,
    /// Append events to this file as JSON lines.
    pub event_file: Option<PathBuf>,
    /// How long that file may grow before it is rotated, in bytes.
    pub event_file_most: Option<u64>,
}

impl Settings {
    /// The timeouts of a seat, in ticks.
    pub(super) fn timeouts(&self) -> Timeouts {
        let ticks = |timeout| Ticks::covering(timeout, self.tick);
        Timeouts {
            reserve: ticks(self.reserve_timeout),
            handshake: ticks(self.handshake_timeout),
            idle: self.idle_timeout.map(ticks),
            idle_soon: self.warning_before_idle(),
            total: self.total_timeout.map(ticks),
        }
    }

    /// How long before the idle timeout a connection is warned: a minute, a third of the timeout if
    /// that is shorter, and at least a tick. `None` where there is no such timeout, or where the
    /// clients are original programs, which know no such word.
    pub(crate) fn warning_before_idle(&self) -> Option<Ticks> {
        let idle = self.idle_timeout.filter(|_| self.compat.is_none())?;
        let warning = limits::IDLE_SOON.min(idle / 3);
        let whole = warning.as_nanos() / self.tick.as_nanos().max(1);
        let whole = u32::try_from(whole).unwrap_or(u32::MAX).max(1);
        Some(Ticks::covering(self.tick * whole, self.tick))
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            port: 50000,
            bind: Ipv4Addr::LOCALHOST.into(),
            workers: 4,
            compat: None,
            single_port: None,
            portals: Portals::Both,
            tick: Duration::from_secs(1),
            reserve_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(1),
            idle_timeout: Some(Duration::from_secs(300)),
            total_timeout: None,
            unacknowledged: limits::UNACKNOWLEDGED,
            max_message: limits::MAX_FRAME,
            accounts: None,
            max_per_address: None,
            rate: None,
            announce_up_to: 100,
            rooms: 16,
            history: 20,
            message_of_the_day: None,
            quiet: false,
            show_messages: false,
            show_passcodes: false,
            trace: false,
            chop: None,
            board: None,
            web: None,
            tls: None,
            #[cfg(feature = "cluster")]
            cluster: None,
            event_file: None,
            event_file_most: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_a_minute_before_or_a_third_or_a_tick() {
        for (idle, tick, warning) in [
            (300, 1, Some(60)),
            (300, 2, Some(30)),
            (60, 1, Some(20)),
            (5, 1, Some(1)),
            (1, 2, Some(1)),
            (0, 1, None),
        ] {
            let settings = Settings {
                idle_timeout: (idle > 0).then(|| Duration::from_secs(idle)),
                tick: Duration::from_secs(tick),
                ..Settings::default()
            };
            let told = settings.warning_before_idle().map(Ticks::get);
            assert_eq!(told, warning, "idle {idle}, tick {tick}");
            let original = Settings {
                compat: Some(Revision::V1),
                ..settings
            };
            assert_eq!(original.warning_before_idle(), None);
        }
    }
}
