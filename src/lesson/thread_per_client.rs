//! A server with a thread for each client: nobody waits for anybody.

use std::io;
use std::thread;

use super::{Print, welcome_and_echo};
use portal_net::Listener;

/// Serves until accepting fails, and then waits for those who are still being served.
///
/// This thread does nothing but accept. Each client gets a thread of its own, named after the
/// client's port, which is blocked in `read` nearly all its life and costs next to nothing there.
///
/// # Errors
/// What `accept` reports, or what the system says when it has no thread to give.
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
