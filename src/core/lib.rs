//! The server's core: the rules of a seat, connections and rooms, output to a client's socket, and
//! time in ticks.
//!
//! It uses threads, locks and channels, and does not depend on the project's other features.

#![warn(missing_docs)]

pub mod accept_loop;
pub mod accounts;
pub mod backplane;
pub mod chat;
pub mod clock;
pub mod event;
#[cfg(any(test, feature = "test-support"))]
pub mod exhaustive;
pub mod guard;
pub mod journal;
pub mod limits;
pub mod liveness;
pub mod local_delivery;
pub mod moderation;
pub mod notify;
pub mod outbox;
pub mod panics;
pub mod policies;
pub mod portal;
pub mod room_manager;
pub mod room_threads;
pub mod seat;
pub mod seats;
pub mod session;
pub mod sockets;
pub mod state;
pub mod tick;
pub mod timer;
pub mod tokens;
pub mod transport;
pub mod visit;
pub mod worker;
