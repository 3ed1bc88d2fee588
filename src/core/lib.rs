//! The server of the design card: the portal, the workers with their seats and passcodes, the ticker
//! and the timers, and output to a client's socket.
//!
//! It uses threads, locks and channels. What a client does in its seat is behind
//! [`service::Service`].

#![warn(missing_docs)]

pub mod accept_loop;
pub mod clock;
pub mod connection;
#[cfg(test)]
mod echo;
pub mod event;
#[cfg(any(test, feature = "test-support"))]
pub mod exhaustive;
pub mod guard;
pub mod handshake;
pub mod limits;
pub mod liveness;
pub mod notify;
pub mod outbox;
pub mod panics;
pub mod portal;
pub mod seat;
pub mod seats;
pub mod service;
pub mod sockets;
pub mod state;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod tick;
pub mod timer;
pub mod transport;
pub mod visit;
pub mod worker;
