//! The other servers, behind an engine that exists: a Redis keeps what all servers of a chat have
//! in common.
//!
//! Names, public and direct messages and rooms are shared; seats, passcodes and pairs stay each
//! server's own. Nothing distributed is invented here. What has to happen in one step is a script
//! that the engine runs (`scripts`); order is the order of its streams; a server that lives holds a
//! *lease*, a key that the engine forgets when it is not renewed, and every change asks for it
//! first, which is the *fence*.
//!
//! Two threads do it. `cluster-out` (`out.rs`) takes asks from a queue, and sends those that have
//! gathered as one batch. `cluster-in` (`incoming.rs`) is blocked in a read of the streams, and
//! hands on what comes to the server, by [`portal_core::backplane::BackplaneEvents`]. Everybody,
//! also on the speaker's own server, hears what was said when it is read back: so there is one
//! order for all.
//!
//! Who asks for something gives a function that is called with what became of it, by `cluster-out`:
//! a speaker does not wait. If the connection breaks while asks are in flight, what became of them
//! is [`portal_core::backplane::Outcome::Unsure`], and they are not sent again: so nothing is done
//! twice. After every break the server says anew what it has, names and members, and the engine's
//! notes are made to fit that.

mod address;
mod engine;
mod event;
mod host;
mod incoming;
pub mod limits;
mod member;
#[cfg(test)]
mod model;
mod out;
mod peer_server;
mod settings;
mod shared;

pub use address::EngineAddress;
pub use event::ClusterEvent;
pub use host::BackplaneHost;
pub use member::RedisBackplane;
pub use peer_server::{Load, PeerServer};
pub use settings::{ClusterError, ClusterSettings, is_cluster_id};
