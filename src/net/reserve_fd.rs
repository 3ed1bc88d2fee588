//! A file descriptor held in reserve for when no other is free.

use std::net::{Ipv4Addr, UdpSocket};

use super::Listener;
use crate::lock::{Mutex, Rank};

/// One file descriptor held in reserve. Without it, a server that is out of descriptors could not
/// even send its callers the reason, because accepting a connection takes a descriptor.
#[derive(Debug)]
pub struct ReserveFd {
    /// Any socket will do; it is never used.
    held: Mutex<Option<UdpSocket>>,
}

impl ReserveFd {
    /// Reserves a descriptor.
    pub fn hold() -> ReserveFd {
        ReserveFd {
            held: Mutex::ranked(Rank::ReserveFd, any_socket()),
        }
    }

    /// Releases the descriptor to accept one caller waiting at `listener`, sends it `last_word`,
    /// and reserves a descriptor again. Does nothing if no caller is waiting or another thread
    /// takes the descriptor first.
    pub fn turn_one_away(&self, listener: &Listener, last_word: &[u8]) {
        let mut held = self.held.lock();
        drop(held.take());
        // An accept that blocked here would keep the lock held.
        if listener.set_nonblocking(true).is_ok() {
            if let Ok((stream, _)) = listener.accept() {
                stream.send_and_close(last_word);
            }
            // A listener that stayed non-blocking would make its thread spin, so retry until this
            // succeeds.
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
