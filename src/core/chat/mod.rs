//! The connections, the partners of each pair of seats, the people by name, and the rooms.
//!
//! The hall holds outboxes, never a socket. Under its locks frames are only appended; they are
//! written after the lock is released, so nobody's slow socket holds up the hall, and yet
//! everyone hears of comings and goings in the order in which they happened.

mod batch;
mod connection;
mod group;
mod pairs;
mod room;
mod room_handle;
mod rooms;
mod users;

pub use batch::MessageBatch;
pub(crate) use connection::flush_all;
pub use connection::{Connection, Unwritten};
pub(crate) use group::{Group, send_to_each};
pub use pairs::Pairs;
pub(crate) use room::{Joiner, RoomError};
pub(crate) use room_handle::RoomHandle;
pub use rooms::Rooms;
pub(crate) use rooms::{Admission, Departure};
pub use users::{NameClaim, Users};

#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
