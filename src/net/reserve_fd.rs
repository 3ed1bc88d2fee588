//! A descriptor that is kept back for the moment in which there is no other.

use std::net::{Ipv4Addr, UdpSocket};

use super::Listener;
use crate::lock::{Mutex, Rank};

/// One descriptor in reserve. Without it, a server that has run out of them could not even tell its
/// callers so: to talk to somebody takes a descriptor.
#[derive(Debug)]
pub struct ReserveFd {
    /// Any socket does; it is never used.
    held: Mutex<Option<UdpSocket>>,
}

impl ReserveFd {
    /// Takes a descriptor and holds it.
    pub fn hold() -> ReserveFd {
        ReserveFd {
            held: Mutex::ranked(Rank::ReserveFd, any_socket()),
        }
    }

    /// Gives the descriptor up for one caller who waits at `listener`, says `last_word` to that
    /// caller, and takes it back. Does nothing if nobody waits, or somebody was quicker to use it.
    pub fn turn_one_away(&self, listener: &Listener, last_word: &[u8]) {
        let mut held = self.held.lock();
        drop(held.take());
        // A listener that waited here would keep the lock.
        if listener.set_nonblocking(true).is_ok() {
            if let Ok((stream, _)) = listener.accept() {
                stream.send_and_close(last_word);
            }
            // One that stayed non-blocking would make its thread spin, so insist.
            while listener.set_nonblocking(false).is_err() {
                std::thread::yield_now();
            }
        }
        *held = any_socket();
    }
}

fn any_socket() -> Option<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()
}
