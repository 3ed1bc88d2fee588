//! What a browser is served with: as much HTTP as that needs, the way from there to a WebSocket, and the page on
//! which people chat. The board has its pages of its own and uses the same HTTP.

mod fields;
mod forwarded;
mod hosts;
pub(crate) mod http;
mod page;
mod refusal;
mod upgrade;

pub(crate) use hosts::Authority;
pub(crate) use page::Page;
pub(crate) use upgrade::upgrade;
