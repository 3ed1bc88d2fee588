//! The kinds of events about the other servers.

portal_core::event_kinds! {
    /// An event about Redis or another server.
    pub enum ClusterEvent {
        /// The connection to Redis is lost.
        ClusterLost = "cluster-lost" { reason: String },
        /// The connection to Redis is restored.
        ClusterBack = "cluster-back" {},
        /// Another server as it was last seen; `lag` is Redis' last response time to it in
        /// microseconds.
        ClusterServer = "cluster-server" {
            server: String, lives: bool, taken: usize, seats: usize, lag: u64
        },
        /// Messages from other servers were lost: in that room, or public ones.
        ClusterMissed = "cluster-missed" { room: Option<String>, count: Option<u64> },
    }
}
