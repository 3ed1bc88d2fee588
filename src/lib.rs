//! map
pub mod limits;
pub mod net;
pub mod clock;
pub mod wire;
pub mod seat;
pub mod event;
pub mod outbox;
pub mod hall;
pub mod server;
