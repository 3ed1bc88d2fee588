//! The smallest servers, which teach one thing each (seed 001). Read them before the chat server.
//!
//! - [`one_at_a_time`]: a socket, and one client after another. The second one waits in the
//!   backlog: the operating system has accepted its connection, but the program has not.
//! - [`thread_per_client`]: a server with a thread for each client, so no client waits.
//! - [`client`]: the other end of both.
//!
//! The ladder (`lesson/ladder`) leads from these to the complete server, in nine rungs. The first
//! seven are also tasks (`lesson/tasks`), as is writing a client: `make grade` checks a student's
//! program for one of them.
//!
//! `chatserver echo [PORT] [--one-at-a-time]` and `chatclient echo [SERVER] [PORT]` run them.

pub mod client;
mod error;
pub mod one_at_a_time;
mod options;
pub mod thread_per_client;

pub use error::EchoError;
pub use options::{EchoClient, EchoServer};

use std::io::Write as _;

use portal_net::Stream;
use portal_wire::{FrameReader, limits, printable};

/// The output of a lesson's program.
pub type Print<'s> = &'s (dyn Fn(&str) + Sync);

/// Serves one client, and reports when it connects and leaves.
fn welcome_and_echo(stream: &Stream, print: Print<'_>) {
    let peer = stream.peer();
    match stream.local_addr() {
        // A server that listens on every interface learns only here which of its addresses the
        // client connected to.
        Ok(local) => print(&format!("Client connected: {peer} to {local}")),
        Err(_) => print(&format!("Client connected: {peer}")),
    }
    match echo(stream, print) {
        Ok(()) => print(&format!("The client {peer} has left.")),
        Err(error) => print(&format!("{error}; the client has left.")),
    }
}

/// Echoes one client's lines, until it sends `Exit` or `exit` or finishes sending.
///
/// # Errors
/// [`EchoError::Interrupted`] if the connection breaks, for example because the client was killed.
pub fn echo(mut stream: &Stream, print: Print<'_>) -> Result<(), EchoError> {
    let interrupted = |error| EchoError::interrupted(stream, error);
    let peer = stream.peer();
    let mut lines = FrameReader::new(limits::MAX_FRAME);
    // One read may return half a line or three: see `wire/frame.rs` for the framing.
    let mut is_over = false;
    while !is_over {
        // At the end of the stream, the data after the last line feed is a line, too.
        is_over = lines.read_from(&mut stream).map_err(interrupted)? == 0;
        if is_over && !lines.end_last_line() {
            break;
        }
        while let Ok(Some(line)) = lines.next_frame() {
            let text = String::from_utf8_lossy(line);
            if matches!(&*text, "Exit" | "exit") {
                return Ok(());
            }
            print(&format!(
                "From client -> {}  (from {peer})",
                printable(&text)
            ));
            let reply = format!("From server -> {text}\n");
            stream.write_all(reply.as_bytes()).map_err(interrupted)?;
        }
        if lines.next_frame().is_err() {
            print(&format!(
                "The client {peer} sent a line that is too long; closing the connection."
            ));
            return Ok(());
        }
    }
    Ok(())
}
