//! Connects a client to one server.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::handshake_error::HandshakeError;
use super::tls::TlsClient;
use super::{Stream, Tap};

/// The options shared by all connections to one server: to its portal, workers and rooms.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    /// The tap for each socket.
    pub tap: Tap,
    /// The TLS configuration, and the name or address of the expected server; `None` for plain
    /// connections.
    pub tls: Option<(TlsClient, String)>,
}

impl Connector {
    /// Connects to `to` and completes the TLS handshake, if TLS is configured. Takes at most twice
    /// `patience`.
    ///
    /// # Errors
    /// Any I/O error, or one with the message of a [`HandshakeError`].
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
                format!(
                    "the TLS handshake did not complete: {error}; was the server started with \
                     --tls?"
                ),
            ),
            error => io::Error::other(error),
        })
    }
}
