//! Joins several servers into one chat through a shared Redis.
//!
//! Names, accounts, public and direct messages and rooms are shared. Seats, passcodes and pairs
//! belong to each server. Redis does the distributed part: every atomic change is a script that
//! Redis runs (`scripts`), and the order of messages is their order in its streams. A running
//! server holds a *lease*, a key that expires unless the server renews it. Every change checks the
//! lease first; this check is the *fence*.
//!
//! There are two threads. `cluster-out` (`out.rs`) takes requests from a queue and sends them in
//! batches. `cluster-in` (`incoming.rs`) blocks in a read from the streams, and delivers their
//! entries through [`portal_sessions::backplane::BackplaneEvents`]. All recipients, including those
//! on the sender's own server, receive a message when it is read back, so all servers deliver
//! messages in the same order.
//!
//! Each request has a callback, which `cluster-out` calls with the outcome; senders do not wait. If
//! the connection breaks while requests are in flight, the outcome of each is
//! [`portal_sessions::backplane::Outcome::Unsure`]. They are not sent again, so nothing is done
//! twice. After every reconnect, the server sends all its names and members again, and the scripts
//! update the state in Redis to match.

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
