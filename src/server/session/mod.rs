//! What a client says and what the server does about it: the handshake, the turn, and what it means at a
//! worker and in a room.

mod at_worker;
#[cfg(test)]
mod flood;
mod handshake;
mod in_room;
mod login;
mod pending_replies;
mod shared;
mod speaker;
mod turn;

pub(super) use at_worker::AtWorker;
pub(super) use handshake::first_frame;
pub(super) use in_room::InRoom;
pub(super) use shared::{Logins, Sessions};
pub(super) use turn::Session;
