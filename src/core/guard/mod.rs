//! Limits on what one client can cost the others.

pub mod keepalive;
pub mod per_address_limit;
pub(crate) mod udp_reply_limit;
