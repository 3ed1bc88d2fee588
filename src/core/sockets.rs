//! Turns a connected socket into a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::connection::Connection;
use crate::notify::Notifier;
use crate::outbox::Outbox;
use crate::transport::{Decoder, Encoder, Transport};
use portal_net::{Port, Stream};

/// Creates the connections of one server's port or entrance.
#[derive(Clone)]
pub struct ConnectionFactory {
    /// The transport of the connections.
    pub transport: Arc<dyn Transport>,
    /// The length of a tick. It is also the time limit for a single write by a timer thread.
    pub tick: Duration,
    /// Supplies the tick at which a connection begins.
    pub clock: Clock,
}

/// A connection, and the decoder for its input.
pub type OpenedConnection = (Arc<Connection>, Box<dyn Decoder>);

impl ConnectionFactory {
    /// Creates the connection of a client at `port`. `label` is its name until it has logged in;
    /// `timer` wakes its timer thread.
    pub fn connection(
        &self,
        stream: Stream,
        port: Port,
        label: &str,
        timer: Notifier,
    ) -> OpenedConnection {
        let halves = self.transport.open(&stream, port);
        self.connection_with(stream, halves, label, timer)
    }

    /// Like [`ConnectionFactory::connection`], with the caller's decoder and encoder.
    pub fn connection_with(
        &self,
        stream: Stream,
        (decoder, encoder): (Box<dyn Decoder>, Box<dyn Encoder>),
        label: &str,
        timer: Notifier,
    ) -> OpenedConnection {
        let peer = stream.peer();
        let outbox = Outbox::new(stream, encoder, timer, self.tick);
        let connection = Connection::new(outbox, peer, label, self.clock.now());
        (Arc::new(connection), decoder)
    }
}
