//! The server's threads: one file for each kind.

mod callback;
pub(super) mod late;
pub(super) mod liveness;
pub(super) mod portal;
pub(super) mod room;
pub(super) mod single;
pub(super) mod timer;
pub(super) mod web;
pub(super) mod worker;
