//! map
pub mod client;
pub mod clock;
pub mod event;
pub mod hall;
pub mod limits;
pub mod net;
pub mod outbox;
pub mod seat;
pub mod server;
pub mod wire;
