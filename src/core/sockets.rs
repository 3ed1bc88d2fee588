//! How a connected socket becomes a connection, for every thread that accepts or calls.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::hall::Connection;
use crate::outbox::Outbox;
use crate::transport::{Decoder, Encoder, Transport};
use crate::wake::Waker;
use portal_net::{Port, Stream};

/// What every socket of one server has in common.
#[derive(Clone)]
pub struct ConnectionFactory {
    /// What is spoken over them.
    pub transport: Arc<dyn Transport>,
    /// One tick, which is also the longest that a timekeeper's write may take.
    pub tick: Duration,
    /// When a connection began.
    pub clock: Clock,
}

/// A connection, and the decoder of what it receives.
pub type Opened = (Arc<Connection>, Box<dyn Decoder>);

impl ConnectionFactory {
    /// A connection of a client at `port` that goes by `label` for now, and whose timekeeper is woken
    /// by `timer`.
    pub fn connection(&self, stream: Stream, port: Port, label: &str, timer: Waker) -> Opened {
        let halves = self.transport.open(&stream, port);
        self.connection_with(stream, halves, label, timer)
    }

    /// As [`ConnectionFactory::connection`], with a decoder and an encoder of the caller's.
    pub fn connection_with(
        &self,
        stream: Stream,
        (decoder, encoder): (Box<dyn Decoder>, Box<dyn Encoder>),
        label: &str,
        timer: Waker,
    ) -> Opened {
        let peer = stream.peer();
        let outbox = Outbox::new(stream, encoder, timer, self.tick);
        let connection = Connection::new(outbox, peer, label, self.clock.now());
        (Arc::new(connection), decoder)
    }
}
