//! How a connected socket becomes a connection, for every thread that accepts or calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::hall::Connection;
use crate::net::Stream;
use crate::outbox::Outbox;
use crate::wake::Waker;
use crate::wire::Codec;

/// What every socket of one server has in common.
#[derive(Clone)]
pub(super) struct Sockets {
    /// What is spoken over them.
    pub(super) codec: Codec,
    /// One tick, which is also the longest that a timekeeper's write may take.
    pub(super) tick: Duration,
    /// When a connection began.
    pub(super) clock: Clock,
}

impl Sockets {
    /// A connection that goes by `label` for now, and whose timekeeper is woken by `timer`.
    pub(super) fn connection(
        &self,
        stream: Stream,
        peer: SocketAddr,
        label: &str,
        timer: Waker,
    ) -> Arc<Connection> {
        let outbox = Outbox::new(stream, self.codec, timer, self.tick);
        Arc::new(Connection::new(outbox, peer, label, self.clock.now()))
    }
}
