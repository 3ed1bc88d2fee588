//! A server with one thread: one client after another.

use std::io;

use super::{Print, welcome_and_echo};
use portal_net::Listener;

/// Serves until accepting fails.
///
/// While one client is served, no thread calls `accept`. A second client can still connect and even
/// send: the operating system completes the connection and keeps it in the listener's queue, the
/// *backlog*. Only the reply has to wait until the first client has left.
///
/// # Errors
/// The error from `accept`.
pub fn serve(listener: &Listener, print: Print<'_>) -> io::Result<()> {
    loop {
        print("Waiting for a client…");
        let (stream, _) = listener.accept()?;
        welcome_and_echo(&stream, print);
    }
}
