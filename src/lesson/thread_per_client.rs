//! A server with a thread for each client: no client waits for another.

use std::io;
use std::thread;

use super::{Print, welcome_and_echo};
use portal_net::Listener;

/// Serves until accepting fails, and then waits for the remaining clients.
///
/// This thread only accepts. Each client gets its own thread, named after the client's port, which
/// blocks in `read` nearly all the time and costs next to nothing there.
///
/// # Errors
/// The error from `accept`, or from starting a thread.
pub fn serve(listener: &Listener, print: Print<'_>) -> io::Result<()> {
    thread::scope(|threads| {
        loop {
            print("Waiting for a client…");
            let (stream, peer) = listener.accept()?;
            let name = format!("client-{}", peer.port());
            thread::Builder::new()
                .name(name)
                .spawn_scoped(threads, move || welcome_and_echo(&stream, print))?;
        }
    })
}
