//! The interface to the rules that keep order: bans, mutes and moderators.

use std::net::IpAddr;
use std::time::Duration;

use portal_net::Network;
use portal_wire::{Name, RoomAccess, ServerDoc};

use portal_core::clock::Tick;
use portal_core::service::Refusal;

/// The rules set by the operator and the moderators. The default methods are those of a server
/// without rules: no client is banned or muted, and there are no moderators.
pub trait Policies: Send + Sync {
    /// Returns the reason for rejecting a client at `address`. Called before the client has a seat,
    /// and again when it is admitted. Never blocks.
    fn refuse_address(&self, address: IpAddr, now: Tick) -> Option<Refusal> {
        let _ = (address, now);
        None
    }

    /// Returns the reason for rejecting a login as `name` from `address`. Never blocks.
    fn refuse_name(&self, name: &Name, address: IpAddr, now: Tick) -> Option<Refusal> {
        let _ = (name, address, now);
        None
    }

    /// Returns false if every message is allowed: no user is muted, and no room is moderated.
    /// Called for each message, so it must be quick.
    fn may_refuse_messages(&self) -> bool {
        false
    }

    /// Returns the reason for refusing a message from `name`. Never blocks.
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

    /// Records that `creator` has opened a room: it becomes the room's first moderator, unless the
    /// room already has rules. Called under the rooms' lock, so it never blocks.
    fn room_opened(&self, room: &Name, creator: &Name) {
        let _ = (room, creator);
    }

    /// Records that a room has ended. Called under the rooms' lock, so it never blocks.
    fn room_ended(&self, room: &Name) {
        let _ = room;
    }

    /// Checks whether a user may join a room. Blocks while it hashes a password.
    ///
    /// # Errors
    /// [`Refusal`] if the user may not.
    fn may_join(
        &self,
        room: &Name,
        name: &Name,
        password: Option<&str>,
        now: Tick,
    ) -> Result<(), Refusal> {
        let _ = (room, name, password, now);
        Ok(())
    }

    /// Returns the reason for refusing a member's message or topic in a room. Never blocks.
    fn refuse_in_room(&self, room: &Name, name: &Name, now: Tick) -> Option<Refusal> {
        let _ = (room, name, now);
        None
    }

    /// The rules of a room that exists or has stored rules.
    fn room(&self, room: &Name) -> Option<RoomRules> {
        let _ = room;
        None
    }

    /// Changes a rule of a room. `by` is the user; `None` is the operator. Blocks until the rule is
    /// on disk.
    ///
    /// # Errors
    /// [`Refusal`] if the user may not do that, or if the change can't be stored. In both cases,
    /// nothing has changed.
    fn change_room(
        &self,
        by: Option<&Name>,
        room: &Name,
        rule: &RoomRule,
        now: Tick,
    ) -> Result<(), Refusal> {
        let _ = (by, room, rule, now);
        Err(NoPolicies::refusal())
    }

    /// Adds or lifts a rule. Blocks until the change is on disk.
    ///
    /// # Errors
    /// [`Refusal`] if the change can't be stored. In that case, nothing has changed.
    fn change(&self, change: &Change<'_>, now: Tick) -> Result<(), Refusal>;
}

/// A change to the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'c> {
    /// The moderator; `None` is the operator.
    pub by: Option<&'c Name>,
    /// The rule to add or to lift.
    pub rule: Rule,
}

/// A rule to add or to lift. A duration of `None` makes the rule permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A ban is added, or replaces an earlier one.
    Ban(Banned, Option<Duration>, String),
    /// A ban is lifted.
    Unban(Banned),
    /// A mute is added, or replaces an earlier one.
    Mute(Name, Option<Duration>),
    /// A mute is lifted.
    Unmute(Name),
}

/// The part of a room's rules that every user may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRules {
    /// The name as the room's creator spelled it.
    pub name: Name,
    /// The users that may join.
    pub access: RoomAccess,
    /// Only moderators may send messages.
    pub moderated: bool,
    /// The room's moderators, in order of appointment.
    pub moderators: Vec<Name>,
}

impl RoomRules {
    /// The document for clients.
    pub fn doc(&self) -> ServerDoc<'_> {
        ServerDoc::Room {
            room: self.name.as_str().into(),
            access: self.access,
            moderated: self.moderated,
            moderators: self
                .moderators
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        }
    }
}

/// A change to a room's rules. A duration of `None` makes the rule permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomRule {
    /// Every user may join.
    Open,
    /// Only moderators and invited users may join.
    InviteOnly,
    /// A user who was not invited needs this password.
    Password(String),
    /// Only moderators may send messages (true), or every member may (false).
    Moderated(bool),
    /// The user becomes a moderator of the room (true), or stops being one (false).
    Moderator(Name, bool),
    /// The user may join.
    Invite(Name),
    /// The user may not send messages to the room.
    Mute(Name, Option<Duration>),
    /// A mute is lifted.
    Unmute(Name),
    /// The user is removed: no longer invited, and unable to join for a minute.
    Remove(Name),
}

impl RoomRule {
    /// Returns whether the rule is a part of [`RoomRules`].
    pub fn is_public(&self) -> bool {
        use RoomRule::{InviteOnly, Moderated, Moderator, Open, Password};
        matches!(
            self,
            Open | InviteOnly | Password(_) | Moderated(_) | Moderator(..)
        )
    }
}

impl std::fmt::Display for RoomRule {
    /// Writes the rule for an event, without a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RoomRule::Open => f.write_str("open"),
            RoomRule::InviteOnly => f.write_str("invite-only"),
            RoomRule::Password(_) => f.write_str("password"),
            RoomRule::Moderated(true) => f.write_str("moderated"),
            RoomRule::Moderated(false) => f.write_str("not-moderated"),
            RoomRule::Moderator(name, true) => write!(f, "moderator {name}"),
            RoomRule::Moderator(name, false) => write!(f, "not-moderator {name}"),
            RoomRule::Invite(name) => write!(f, "invite {name}"),
            RoomRule::Mute(name, _) => write!(f, "mute {name}"),
            RoomRule::Unmute(name) => write!(f, "unmute {name}"),
            RoomRule::Remove(name) => write!(f, "remove {name}"),
        }
    }
}

/// The clients that a ban covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Banned {
    /// The user with this name.
    Name(Name),
    /// All clients with an address in this network.
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

/// The policies of a server that has none.
pub struct NoPolicies;

impl NoPolicies {
    fn refusal() -> Refusal {
        Refusal {
            code: portal_wire::ErrorCode::NotSaved,
            sentence: "this server does not store policies".to_owned(),
        }
    }
}

impl Policies for NoPolicies {
    fn change(&self, _: &Change<'_>, _: Tick) -> Result<(), Refusal> {
        Err(NoPolicies::refusal())
    }
}
