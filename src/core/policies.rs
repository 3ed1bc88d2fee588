//! The interface to the rules that keep order: bans, mutes and moderators.

use std::net::IpAddr;
use std::time::Duration;

use portal_net::Network;
use portal_wire::{Name, ServerDoc};

pub use crate::accounts::Refusal;
use crate::clock::Tick;

/// The rules of the operator and the moderators. Without an implementation of its own, nobody is
/// banned or muted, and there are no moderators.
pub trait Policies: Send + Sync {
    /// Returns the reason for rejecting a client at `address`, before it has a seat and again when
    /// it is admitted. Never blocks.
    fn refuse_address(&self, address: IpAddr, now: Tick) -> Option<Refusal> {
        let _ = (address, now);
        None
    }

    /// Returns the reason for rejecting a login as `name` from `address`. Never blocks.
    fn refuse_name(&self, name: &Name, address: IpAddr, now: Tick) -> Option<Refusal> {
        let _ = (name, address, now);
        None
    }

    /// Returns whether any user is muted. Called for each message, so it must be quick.
    fn has_mutes(&self) -> bool {
        false
    }

    /// Returns the reason for refusing a message of `name`. Never blocks.
    fn refuse_message(&self, name: &Name, now: Tick) -> Option<Refusal> {
        let _ = (name, now);
        None
    }

    /// Returns whether the user may moderate.
    fn is_moderator(&self, name: &Name) -> bool {
        let _ = name;
        false
    }

    /// Records that a client was removed: it may not return for a minute. `name` is `None` for a
    /// client that had not logged in, if no other client has its address.
    fn removed(&self, name: Option<&Name>, address: IpAddr, now: Tick) {
        let _ = (name, address, now);
    }

    /// Stores a rule, or ends one. Blocks until it is on the disk.
    ///
    /// # Errors
    /// [`Refusal`] if it can't be stored; then nothing has changed.
    fn change(&self, change: &Change<'_>, now: Tick) -> Result<(), Refusal>;
}

/// A change of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'c> {
    /// The moderator; `None` is the operator.
    pub by: Option<&'c Name>,
    /// What changes.
    pub rule: Rule,
}

/// A rule that begins or ends. A duration of `None` has no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A ban begins, or replaces an earlier one.
    Ban(Banned, Option<Duration>, String),
    /// A ban ends.
    Unban(Banned),
    /// A mute begins, or replaces an earlier one.
    Mute(Name, Option<Duration>),
    /// A mute ends.
    Unmute(Name),
}

/// The clients that a ban covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Banned {
    /// The user of that name.
    Name(Name),
    /// All clients with an address in that network.
    Network(Network),
}

impl std::fmt::Display for Banned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Banned::Name(name) => name.fmt(f),
            Banned::Network(network) => network.fmt(f),
        }
    }
}

/// The policies of a server without any.
pub struct NoPolicies;

impl Policies for NoPolicies {
    fn change(&self, _: &Change<'_>, _: Tick) -> Result<(), Refusal> {
        Err(Refusal {
            code: portal_wire::ErrorCode::NotSaved,
            sentence: "this server keeps no policies".to_owned(),
        })
    }
}

impl Refusal {
    /// The document for the client.
    pub fn doc(&self) -> ServerDoc<'_> {
        ServerDoc::Error {
            code: self.code,
            sentence: self.sentence.as_str().into(),
        }
    }
}
