//! Who a server is, and how its client knows: certificates, fingerprints, and the servers that one has met before.
//!
//! How what travels is encrypted is [`crate::net`]'s business.

mod certificate;
mod der;
mod fingerprint;
mod known;
mod trust;
mod unusable;

pub(crate) use certificate::{Identity, IdentityError};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use known::KnownServers;
pub(crate) use trust::{Trust, Untrusted};
