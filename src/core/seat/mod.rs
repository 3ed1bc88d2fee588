//! Admission to a seat: the one-time passcode, the state machine of one seat, and the workload
//! stack.
//!
//! These types are pure: no sockets, threads, locks or clocks. Each method takes an event and the
//! tick, and returns what to do. A test can therefore try every possible order of the portal's
//! answers, the arrivals and the ticks (`machine/model.rs`).

mod machine;
mod passcode;
mod stack;

pub use machine::{Arrival, Asker, Expiry, Phase, Seat, SeatRequest, Ticket, Timeouts, Verdict};
pub use passcode::{Passcode, PasscodeKind};
pub use stack::{PortToken, SeatNumber, WorkloadStack};
