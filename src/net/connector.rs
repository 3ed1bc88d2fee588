//! How a client's connections to one server are made.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::handshake_error::HandshakeError;
use super::tls::TlsClient;
use super::{Stream, Tap};

/// What every connection to one server has: to its portal, a worker, a room.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    /// Is done to each socket besides its work.
    pub tap: Tap,
    /// What it speaks TLS with, and whom it wants to reach: a name or an address.
    pub tls: Option<(TlsClient, String)>,
}

impl Connector {
    /// Connects to `to`, and comes to speak TLS, if it is to be spoken. All of it takes as long as
    /// `patience`, at most twice.
    ///
    /// # Errors
    /// What the system reports, or the sentence of a [`HandshakeError`].
    pub fn connect(&self, to: SocketAddr, patience: Duration) -> io::Result<Stream> {
        let stream = Stream::connect(to, patience, &self.tap)?;
        let Some((client, name)) = &self.tls else {
            return Ok(stream);
        };
        let secured = stream.secured_as_client(client, name);
        let shaken = secured.and_then(|stream| {
            stream.shake_hands(Some(Instant::now() + patience))?;
            Ok(stream)
        });
        shaken.map_err(|error| match error {
            HandshakeError::Io(error) => io::Error::new(
                error.kind(),
                format!("the TLS handshake broke off: {error}; is the server started with --tls?"),
            ),
            error => io::Error::other(error),
        })
    }
}
