//! The smallest servers, which teach one thing each (seed 001). Read them before the chat server.
//!
//! - [`one_at_a_time`]: a socket, and one client after the other. The second one waits in the
//!   backlog: the system has accepted its connection, the program has not.
//! - [`thread_per_client`]: the same with a thread for each client, and nobody waits.
//! - [`client`]: the other end of both.
//!
//! [`ladder`] leads from these to the whole server, in seven rungs.
//!
//! `chatserver echo [PORT] [--one-at-a-time]` and `chatclient echo [SERVER] [PORT]` run them.

pub mod client;
pub mod ladder;
pub mod one_at_a_time;
mod options;
pub mod thread_per_client;

pub use options::{EchoClient, EchoServer};

use std::io::Write as _;
use std::net::SocketAddr;

use crate::limits;
use crate::net::Stream;
use crate::wire::{FrameReader, printable};

/// Where a lesson's program says what happens.
pub type Say<'s> = &'s (dyn Fn(&str) + Sync);

/// Talks with one client: every line comes back, until it says `Exit` or `exit` or has finished.
pub fn echo(mut stream: &Stream, peer: SocketAddr, say: Say<'_>) {
    let mut lines = FrameReader::new(limits::MAX_FRAME);
    // One read may bring half a line or three: see `wire/frame.rs` for how lines are cut.
    while let Ok(count @ 1..) = lines.read_from(&mut stream) {
        let _ = count;
        while let Ok(Some(line)) = lines.next_frame() {
            let text = String::from_utf8_lossy(line);
            if matches!(&*text, "Exit" | "exit") {
                return;
            }
            say(&format!(
                "From client -> {}  (from {peer})",
                printable(&text)
            ));
            if stream
                .write_all(format!("From server -> {text}\n").as_bytes())
                .is_err()
            {
                return;
            }
        }
        if lines.next_frame().is_err() {
            say("That line is too long; the client has to go.");
            return;
        }
    }
}
