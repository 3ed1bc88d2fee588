//! The connected clients: their connections, the pairs of partners, the users by name, and the
//! rooms.
//!
//! These types hold outboxes, never sockets. Under their locks, frames are only appended; they are
//! written after the lock is released. A slow socket therefore blocks no other client, and all
//! clients still see joins and departures in the order in which they happened.

mod batch;
mod group;
mod pairs;
mod room;
mod room_handle;
mod rooms;
mod users;

pub use batch::MessageBatch;
pub(crate) use group::{Group, send_to_each};
pub use pairs::Pairs;
pub(crate) use portal_core::connection::flush_all;
pub use portal_core::connection::{Connection, Unwritten};
pub(crate) use room::{Joiner, RoomError};
pub(crate) use room_handle::RoomHandle;
pub use rooms::Rooms;
pub(crate) use rooms::{Admission, Departure};
pub use users::{NameClaim, Users};
