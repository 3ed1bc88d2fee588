//! The servers of a cluster, and their descriptions of themselves.

use std::net::IpAddr;
use std::time::Duration;

/// A server's description of itself, for the other servers and their operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Number of seats.
    pub seats: usize,
    /// Number of free seats.
    pub free: usize,
    /// The portal's port.
    pub port: u16,
    /// The port for browsers, if there is one.
    pub web: Option<u16>,
    /// All ports speak TLS.
    pub tls: bool,
}

/// A server of the cluster, as Redis knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerServer {
    /// Its id.
    pub id: String,
    /// Its lease has not expired.
    pub lives: bool,
    /// The address to which other servers redirect clients, if it has been configured.
    pub address: Option<IpAddr>,
    /// Its latest description.
    pub load: Load,
    /// The duration of its last request to Redis.
    pub lag: Duration,
}
