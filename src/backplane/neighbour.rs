//! The servers of a chat, and what each says about itself.

use std::net::IpAddr;
use std::time::Duration;

/// What this server says of itself, for the others and their operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Seats in all, and how many are free.
    pub seats: usize,
    /// How many of them are free.
    pub free: usize,
    /// The portal's port.
    pub port: u16,
    /// Where browsers are let in, if they are.
    pub web: Option<u16>,
    /// All ports speak TLS.
    pub tls: bool,
}

/// A server of the chat, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What it is called.
    pub id: String,
    /// It holds its lease.
    pub lives: bool,
    /// Where it sends people to itself, if it knows.
    pub address: Option<IpAddr>,
    /// How much is going on there.
    pub load: Load,
    /// How long the engine took to answer it last.
    pub lag: Duration,
}
