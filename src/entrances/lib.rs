//! Entrances other than the plain portal and worker, and their protocols.

pub mod browser;
pub mod callback;
mod foreign;
mod legacy;
pub mod limits;
mod screened;
pub mod single_port;
pub mod tls_portal;
mod web_socket;

pub use legacy::Legacy;
pub use screened::{OwnCallers, Screened};
pub use web_socket::WebSocket;
