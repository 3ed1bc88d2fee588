//! Limits on the cost that one client can impose on the others.

pub mod keepalive;
pub mod per_address_limit;
pub(crate) mod udp_reply_limit;
