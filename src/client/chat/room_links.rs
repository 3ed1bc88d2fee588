//! The connections to the user's rooms.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_channel::Sender;

use crate::link::{Link, LinkEvent, LinkId};

pub(super) struct RoomLinks {
    /// The links, by the room's lower-case name.
    pub(super) by_key: BTreeMap<String, RoomLink>,
    /// Rooms that the user has left. Their last replies may still arrive until the server closes
    /// the link.
    pub(super) left: Vec<RoomLink>,
    /// The rooms to rejoin after the main link was lost.
    pub(super) wanted: BTreeSet<String>,
    /// The rooms that were requested after a reconnect, and not answered yet, in order.
    pub(super) rejoining: Vec<String>,
    /// The room of the last `JOIN` request, and whether it becomes the recipient of typed lines.
    pub(super) pending: Option<(String, bool)>,
    /// The channel for the links' events.
    pub(super) events: Sender<(LinkId, LinkEvent)>,
    pub(super) next_id: u64,
}

/// The progress of leaving a room. Once it has begun, the end of the link is not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// A `PING` checks that the room has received all earlier messages.
    Checking,
    /// `LEAVE` has been sent.
    Asked,
}

pub(super) struct RoomLink {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) leaving: Leaving,
    /// The number of messages to the room without a reply.
    pub(super) unanswered: u32,
}

impl RoomLinks {
    pub(super) fn new(events: Sender<(LinkId, LinkEvent)>) -> RoomLinks {
        RoomLinks {
            by_key: BTreeMap::new(),
            left: Vec::new(),
            wanted: BTreeSet::new(),
            rejoining: Vec::new(),
            pending: None,
            events,
            next_id: 0,
        }
    }

    /// Forgets all room links after the main link was replaced, but keeps the list of rooms to
    /// rejoin.
    pub(super) fn forget_connections(&mut self) {
        self.by_key.clear();
        self.left.clear();
        self.pending = None;
    }

    pub(super) fn is_in(&self, name: &str) -> bool {
        self.name_of(name).is_some()
    }

    /// The exact spelling of a joined room's name.
    pub(super) fn name_of(&self, name: &str) -> Option<String> {
        let room = self.by_key.get(&name.to_ascii_lowercase())?;
        Some(room.name.clone())
    }

    /// Removes a room from the rooms to rejoin.
    pub(super) fn not_wanted(&mut self, name: &str) {
        self.wanted
            .retain(|wanted| !wanted.eq_ignore_ascii_case(name));
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        let rooms = self.by_key.values().chain(&self.left);
        rooms.map(|room| &room.link)
    }
}
