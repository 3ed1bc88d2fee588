//! Server identities and the client's trust in them: certificates, fingerprints and known servers.
//!
//! The TLS connections themselves are in [`portal_net`].

mod certificate;
mod der;
mod fingerprint;
mod known;
mod trust;
mod unusable;

pub use certificate::{Identity, IdentityError};
pub use fingerprint::Fingerprint;
pub use known::KnownServers;
pub use trust::{Trust, Untrusted};
