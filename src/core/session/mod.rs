//! A client's requests: the handshake, the turn, and the rules at a worker and in a room.

mod at_worker;
mod handshake;
mod in_room;
mod login;
mod moderate;
mod outgoing;
mod pending_replies;
mod room_rules;
mod turn;

pub use at_worker::AtWorker;
pub use handshake::first_frame;
pub(crate) use in_room::InRoom;
pub use turn::Session;
