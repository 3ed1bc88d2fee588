//! Limits on what one client can cost the others.

pub(crate) mod courtesy;
pub mod guesses;
pub mod keepalive;
pub mod pace;
pub mod per_tick;
