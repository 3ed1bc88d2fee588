//! A minimal HTTP server with an upgrade to WebSocket, and the chat page. The board uses the same
//! HTTP server for its own page.

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
