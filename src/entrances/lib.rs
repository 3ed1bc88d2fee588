//! Entrances besides the plain portal and worker, and the protocols that clients speak there.

mod foreign;
mod legacy;
mod screened;
mod web_socket;

pub use foreign::{Foreign, HTTP_REQUEST, TLS_FAILED};
pub use legacy::Legacy;
pub use screened::Screened;
pub use web_socket::WebSocket;
