//! What a browser is served with: as much HTTP as that needs, the way from there to a WebSocket,
//! and the page on which people chat. The board has its pages of its own and uses the same HTTP.

pub mod event;
mod fields;
mod forwarded;
mod hosts;
pub mod http;
mod page;
mod refusal;
mod upgrade;

pub use hosts::Authority;
pub use page::Page;
pub use upgrade::upgrade;
