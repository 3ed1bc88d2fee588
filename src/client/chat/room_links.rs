//! The connections to the rooms that the person is in.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_channel::Sender;

use crate::link::{Link, LinkEvent, LinkId};

/// The connections to rooms.
pub(super) struct RoomLinks {
    /// By lower-case name.
    pub(super) by_key: BTreeMap<String, RoomLink>,
    /// Rooms that have been left. The last answers may still come, until the server ends the link.
    pub(super) left: Vec<RoomLink>,
    /// The rooms to go back into after the link was lost.
    pub(super) wanted: BTreeSet<String>,
    /// The room that the server was asked for last.
    pub(super) pending: Option<String>,
    /// Where the links' listeners tell what they hear.
    pub(super) events: Sender<(LinkId, LinkEvent)>,
    pub(super) next_id: u64,
}

/// How far one is in leaving a room. Once it has begun, the end of the link is no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The room has been asked whether it has heard all that was said there.
    Checking,
    /// `LEAVE` has been sent.
    Asked,
}

pub(super) struct RoomLink {
    pub(super) name: String,
    pub(super) link: Link,
    /// How far the person is in leaving.
    pub(super) leaving: Leaving,
    /// What has been said there and not been answered.
    pub(super) unanswered: u32,
}

impl RoomLinks {
    pub(super) fn new(events: Sender<(LinkId, LinkEvent)>) -> RoomLinks {
        RoomLinks {
            by_key: BTreeMap::new(),
            left: Vec::new(),
            wanted: BTreeSet::new(),
            pending: None,
            events,
            next_id: 0,
        }
    }

    /// The main link is a new one: no room of the one before is left. Which they were is kept.
    pub(super) fn forget_connections(&mut self) {
        self.by_key.clear();
        self.left.clear();
        self.pending = None;
    }

    pub(super) fn is_in(&self, name: &str) -> bool {
        self.name_of(name).is_some()
    }

    /// How a room that one is in is spelled.
    pub(super) fn name_of(&self, name: &str) -> Option<String> {
        let room = self.by_key.get(&name.to_ascii_lowercase())?;
        Some(room.name.clone())
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        let rooms = self.by_key.values().chain(&self.left);
        rooms.map(|room| &room.link)
    }
}
