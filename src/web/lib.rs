//! A minimal HTTP server with an upgrade to WebSocket, the chat page, and the server's status for
//! monitoring programs. The board uses the same HTTP server for its own page.

mod document;
pub mod event;
mod fields;
mod forwarded;
mod hosts;
pub mod http;
mod page;
mod refusal;
pub mod status;
mod upgrade;

pub use hosts::Authority;
pub use page::{Page, PageSettings};
pub use upgrade::upgrade;
