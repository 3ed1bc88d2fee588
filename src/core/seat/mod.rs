//! Who may sit where: the one-time passcode, the state machine of one seat, the workload stack.
//!
//! All of it is pure. No socket, no thread, no lock and no clock of its own: every method takes
//! what happened and the tick, and says what to do. So a test can walk every order in which the
//! portal, the arrivals and the ticks can come (`machine/model.rs`), and does.

mod machine;
mod passcode;
mod stack;

pub(crate) use machine::{Arrival, Expiry};
pub use machine::{Asker, Phase, Seat, SeatRequest, Ticket, Timeouts, Verdict};
pub use passcode::{Passcode, PasscodeKind};
pub use stack::{PortToken, SeatNumber, WorkloadStack};
