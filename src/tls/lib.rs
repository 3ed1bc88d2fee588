//! Who a server is, and how its client knows: certificates, fingerprints, and the servers that one
//! has met before.
//!
//! How what travels is encrypted is [`portal_net`]'s business.

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
