//! The servers in a cluster, and the information that they publish about themselves.

use std::net::IpAddr;
use std::time::Duration;

/// A server's load and ports, which it publishes for the other servers and their operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub seats: usize,
    pub free: usize,
    /// The portal's port.
    pub port: u16,
    /// The port for browsers.
    pub web: Option<u16>,
    /// True if all ports use TLS.
    pub tls: bool,
}

/// A server in the cluster, as Redis knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerServer {
    pub id: String,
    /// True if its lease has not expired.
    pub lives: bool,
    /// The address to which other servers redirect clients, if known.
    pub address: Option<IpAddr>,
    pub load: Load,
    /// The duration of its last request to Redis.
    pub lag: Duration,
}
