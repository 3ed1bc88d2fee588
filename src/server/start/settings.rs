//! The settings of a server, and their defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Register;
use crate::clock::Ticks;
use crate::limits;
use crate::metrics::Counters;
use crate::net::{Host, Network, PendingLimits, TlsServer};
use crate::seat::Timeouts;
use crate::wire::Revision;
#[cfg(feature = "cluster")]
use portal_backplane::ClusterSettings;
#[cfg(feature = "journal")]
use portal_journal::JournalSettings;
use portal_sessions::pace::Rate;

/// The open portals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Portals {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// Both, on the same port number.
    Both,
}

impl Portals {
    /// Returns whether the TCP portal is open.
    pub fn tcp(self) -> bool {
        self != Portals::Udp
    }

    /// Returns whether the UDP portal is open.
    pub fn udp(self) -> bool {
        self != Portals::Tcp
    }
}

/// The default of `--web-room`.
pub const WEB_ROOM: &str = "lobby";

/// The entrance for browsers.
#[derive(Clone, Debug)]
pub struct WebEntrance {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Names under which browsers may request the page, besides its addresses and `localhost`:
    /// `NAME` or `NAME:PORT`.
    pub names: Vec<String>,
    /// Reverse proxies that are trusted to report their clients' addresses.
    pub trusted_proxies: Vec<Network>,
    /// The room that users join when they log in.
    pub room: String,
}

impl WebEntrance {
    /// Creates an entrance at the given address, with no extra names and no proxies.
    pub fn at(address: SocketAddr) -> WebEntrance {
        WebEntrance {
            address,
            names: Vec::new(),
            trusted_proxies: Vec::new(),
            room: WEB_ROOM.to_owned(),
        }
    }
}

/// The server's settings. `chatserver --help` describes the options that set them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The portal's port; with 0 the system chooses this port and the workers'.
    pub port: u16,
    /// The address to listen on.
    pub bind: Host,
    /// Number of workers; even, so that every seat has a partner seat.
    pub workers: usize,
    /// The revision of the original programs to be compatible with (seed 000).
    pub compat: Option<Revision>,
    /// The maximum number of clients on a single port; `None` for a portal with workers.
    pub single_port: Option<usize>,
    /// The open portals.
    pub portals: Portals,
    /// The clock's period.
    pub tick: Duration,
    /// The maximum time from the portal's answer to the connection.
    pub reserve_timeout: Duration,
    /// The maximum time from the connection to the passcode.
    pub handshake_timeout: Duration,
    /// The maximum time since a client's last activity; `None` means no limit.
    pub idle_timeout: Option<Duration>,
    /// The maximum time since the connection, regardless of activity; `None` means no limit.
    pub total_timeout: Option<Duration>,
    /// The time after which a client whose kernel acknowledges nothing is disconnected.
    pub unacknowledged: Duration,
    /// The limits on connections that are not authenticated yet.
    pub pending: PendingLimits,
    /// The maximum length of a client's frame, in bytes.
    pub max_message: usize,
    /// The accounts file; `None` if any client may use a free name without a password.
    pub accounts: Option<PathBuf>,
    /// The clients that may register accounts.
    pub register: Register,
    /// The minimum number of characters in a new password.
    pub min_password: usize,
    /// True if the moderators in the policies may use their commands. Without passwords, any client
    /// could take a moderator's name.
    pub moderators: bool,
    /// The file of bans, mutes, moderators and invitations; `None` to keep them only in memory.
    pub policies: Option<PathBuf>,
    /// Maximum number of seats that one address may have reserved or taken.
    pub max_per_address: Option<usize>,
    /// The rate limit for one client's documents.
    pub rate: Option<Rate>,
    /// The maximum number of logged-in users for which logins and logouts are announced.
    pub announce_up_to: usize,
    /// Maximum number of rooms.
    pub rooms: usize,
    /// Number of recent messages that a room sends to each new member.
    pub history: usize,
    /// The notice that each client receives when it logs in.
    pub message_of_the_day: Option<String>,
    /// Suppresses events on the console.
    pub quiet: bool,
    /// Includes the text of messages in the events.
    pub show_messages: bool,
    /// Includes passcodes in the events.
    pub show_passcodes: bool,
    /// Emits every socket call as an event, with its bytes, including passwords.
    pub trace: bool,
    /// Maximum number of bytes in one write to a socket.
    pub chop: Option<NonZeroUsize>,
    /// The address of the board.
    pub board: Option<SocketAddr>,
    /// The entrance for browsers.
    pub web: Option<WebEntrance>,
    /// The TLS configuration of all TCP ports; `None` if they do not use TLS.
    pub tls: Option<TlsServer>,
    /// The settings for joining a cluster.
    #[cfg(feature = "cluster")]
    pub cluster: Option<ClusterSettings>,
    /// The settings of the journal, which keeps messages and topics; `None` for no journal.
    #[cfg(feature = "journal")]
    pub journal: Option<JournalSettings>,
    /// The file to which events are appended as JSON lines.
    pub event_file: Option<PathBuf>,
    /// The length at which that file is rotated, in bytes.
    pub event_file_most: Option<u64>,
    /// The address of the listener for metrics and health checks.
    pub metrics: Option<SocketAddr>,
    /// Counts the bytes of all sockets. No option sets it.
    pub counters: Option<Arc<Counters>>,
}

impl Settings {
    /// Returns the timeouts of a seat, in ticks.
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

    /// Returns the time before the idle timeout at which a client is warned: [`limits::IDLE_SOON`],
    /// or a third of the timeout if that is shorter, but at least a tick. Returns `None` if there
    /// is no idle timeout, and for the original programs, which do not support this message.
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
            pending: PendingLimits::default(),
            max_message: limits::MAX_FRAME,
            accounts: None,
            register: Register::Open,
            min_password: 1,
            moderators: true,
            policies: None,
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
            #[cfg(feature = "journal")]
            journal: None,
            event_file: None,
            event_file_most: None,
            metrics: None,
            counters: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_warning_comes_a_minute_or_a_third_or_a_tick_early() {
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
