//! What keeps one client from costing the others: threads, talk, guesses, datagrams.

pub(super) mod budget;
pub(super) mod courtesy;
pub(super) mod guesses;
pub(super) mod keepalive;
pub(super) mod pace;
pub(super) mod per_tick;
