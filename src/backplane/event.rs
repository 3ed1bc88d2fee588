//! The kinds of events about the other servers.

portal_core::event_kinds! {
    /// An event about Redis or another server.
    pub enum ClusterEvent {
        /// The connection to Redis is lost.
        ClusterLost = "cluster-lost" { reason: String },
        /// The connection to Redis is restored.
        ClusterBack = "cluster-back" {},
        /// The last known state of another server. `lag` is the duration of its last request to
        /// Redis, in microseconds.
        ClusterServer = "cluster-server" {
            server: String, lives: bool, taken: usize, seats: usize, lag: u64
        },
        /// Messages from other servers were lost: those in `room`, or public ones if it is `None`.
        ClusterMissed = "cluster-missed" { room: Option<String>, count: Option<u64> },
    }
}
