//! The server's core: the rules of a seat, the connections and rooms, the way to a client's
//! socket, and time in ticks.
//!
//! It knows threads, locks and channels, and nothing of what else this project does with them.

#![warn(missing_docs)]

pub mod accounts;
pub mod backplane;
pub mod clock;
pub mod event;
pub mod hall;
pub mod limits;
pub mod outbox;
pub mod seat;
pub mod tick;
pub mod transport;
pub mod wake;
#[cfg(any(test, feature = "test-support"))]
pub mod walk;
