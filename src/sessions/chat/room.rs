//! One room: its members, its callers, and its history.
//!
//! A member's place is a [`Seat`] like a worker's, with a passcode and a reservation. But many
//! members share one port, so the passcode identifies the member that has connected.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Connection, Group, RoomHandle};
use crate::journal::HistoryEntry;
use crate::limits;
use portal_core::clock::Deadline;
use portal_core::outbox::Queued;
use portal_core::seat::{Passcode, Phase, PortToken, Seat, SeatNumber, WorkloadStack};
use portal_net::Port;
use portal_wire::{Name, Scope, ServerDoc};

#[cfg_attr(test, derive(Clone))]
pub(super) struct Room {
    pub(super) name: Name,
    pub(super) port: Port,
    pub(super) token: PortToken,
    pub(super) handle: Arc<RoomHandle>,
    pub(super) group: Arc<Group>,
    /// The tokens for the free places. There are as many places as there can be members.
    pub(super) free_places: WorkloadStack,
    pub(super) members: Vec<Member>,
    /// Connections that have not sent a passcode yet.
    pub(super) callers: Vec<PendingMember>,
    pub(super) remembered: Remembered,
    /// If false, joins and departures are announced in the order that all servers share.
    pub(super) announces: bool,
}

/// The history and the topic of a room.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Remembered {
    pub(super) history: VecDeque<HistoryEntry>,
    /// The topic, and the name of the member that set it.
    pub(super) topic: Option<(String, Arc<str>)>,
}

/// A member, from the `JOIN` on: first with a reservation, then connected.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Member {
    pub(super) seat: Seat,
    /// The seat of the member's main connection.
    pub(super) seat_number: SeatNumber,
    pub(super) main: Arc<Connection>,
    pub(super) name: Name,
    /// The connection on which the member receives the room's messages, once it is connected: a
    /// room connection, or the main one ("here").
    pub(super) connection: Option<Arc<Connection>>,
}

#[cfg_attr(test, derive(Clone))]
pub(super) struct PendingMember {
    pub(super) connection: Arc<Connection>,
    pub(super) until: Deadline,
}

/// The result of a removal from a room.
#[derive(Default)]
pub(super) struct Gone {
    /// The member's connection to the room.
    pub(super) connection: Option<Arc<Connection>>,
    /// The session and name, unless the member only had a reservation.
    pub(super) left: Option<(u64, Name)>,
    /// The members that were notified.
    pub(super) notified: Vec<Arc<Connection>>,
}

/// A client that joins a room.
pub(crate) struct Joiner<'j> {
    /// Its main connection.
    pub main: &'j Arc<Connection>,
    /// The name with which it has logged in.
    pub who: &'j Name,
    /// The seat of its main connection.
    pub seat: SeatNumber,
}

impl Joiner<'_> {
    pub(super) fn member(&self, seat: Seat, connection: Option<Arc<Connection>>) -> Member {
        Member {
            seat,
            seat_number: self.seat,
            main: Arc::clone(self.main),
            name: self.who.clone(),
            connection,
        }
    }
}

/// The reason why a client can't join or leave a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RoomError {
    /// It is a member already, or has a reservation.
    AlreadyMember,
    /// The room does not exist.
    NoSuchRoom,
    /// It is not a member.
    NotAMember,
    /// The room is full.
    Full,
    /// It has joined [`limits::MAX_ROOMS_PER_USER`] rooms already.
    TooMany,
}

impl Room {
    pub(super) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.seated().map(|(_, connection)| connection)
    }

    /// The connected members, each with the connection on which it receives the room's messages.
    pub(super) fn seated(&self) -> impl Iterator<Item = (&Member, &Arc<Connection>)> {
        let seated = self
            .members
            .iter()
            .filter(|member| member.seat.phase() == Phase::Seated);
        seated.filter_map(|member| Some((member, member.connection.as_ref()?)))
    }

    /// The place of the user with this main connection, from the `JOIN` on.
    pub(super) fn place_of(&self, main: &Arc<Connection>) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| Arc::ptr_eq(&member.main, main))
    }

    /// The scope of its messages.
    fn scope(&self) -> Scope<'static> {
        Scope::Room(self.name.to_string().into())
    }

    /// Drops the oldest messages until at most `most` messages and [`limits::HISTORY`] bytes are
    /// left.
    pub(super) fn forget(&mut self, most: usize) {
        let scope = self.scope();
        let mut bytes = 0;
        let fits = self
            .remembered
            .history
            .iter()
            .rev()
            .take(most)
            .take_while(|old| {
                bytes += old.written_bytes(&scope);
                bytes <= limits::HISTORY
            });
        let surplus = self.remembered.history.len() - fits.count();
        self.remembered.history.drain(..surplus);
    }

    /// Replays the history to a new member. Returns the number of bytes appended.
    pub(super) fn append_history(&self, member: &Connection) -> usize {
        let history = self.remembered.history.iter();
        let replayed = history.map(|old| {
            member
                .outbox
                .append_exempt_reply(&old.doc(self.scope(), false))
        });
        replayed.sum()
    }

    /// Appends the topic for a member; with `joins`, only if there is a topic. Returns the number
    /// of bytes appended.
    pub(super) fn append_topic(&self, member: &Connection, joins: bool) -> usize {
        if joins && self.remembered.topic.is_none() {
            return 0;
        }
        let (topic, username) = match &self.remembered.topic {
            Some((topic, by)) => (topic.as_str(), &**by),
            None => ("", ""),
        };
        member.outbox.append_reply(&ServerDoc::Topic {
            room: self.name.as_str().into(),
            topic: topic.into(),
            username: username.into(),
        })
    }

    /// Sets the topic, or removes it if `topic` is empty; returns the document to send. Truncates a
    /// topic longer than [`limits::MAX_TOPIC_BYTES`], which only an older server accepts.
    pub(super) fn set_topic(&mut self, topic: &str, by: &str) -> ServerDoc<'static> {
        let topic = &topic[..topic.floor_char_boundary(limits::MAX_TOPIC_BYTES)];
        self.remembered.topic = (!topic.is_empty()).then(|| (topic.to_owned(), by.into()));
        ServerDoc::Topic {
            room: self.name.to_string().into(),
            topic: topic.to_owned().into(),
            username: by.to_owned().into(),
        }
    }

    /// Appends `doc` for all members except the session `except`. Returns these members, to be
    /// flushed after the lock is released.
    pub(super) fn send(&self, doc: &ServerDoc<'_>, except: Option<u64>) -> Vec<Arc<Connection>> {
        self.connections()
            .filter(|member| except.is_none() || Some(member.session()) != except)
            .filter(|member| member.outbox.append_doc(doc) == Queued::Yes)
            .cloned()
            .collect()
    }

    /// Appends `doc` for all members except `about`, if this server announces joins and departures.
    /// Returns these members, to be flushed after the lock is released.
    pub(super) fn send_to_others(
        &self,
        about: &Arc<Connection>,
        doc: &ServerDoc<'_>,
    ) -> Vec<Arc<Connection>> {
        if !self.announces {
            return Vec::new();
        }
        self.connections()
            .filter(|member| !Arc::ptr_eq(member, about))
            .filter(|member| member.outbox.append_doc(doc) == Queued::Yes)
            .cloned()
            .collect()
    }

    pub(super) fn remove(&mut self, index: usize) -> Gone {
        let mut member = self.members.remove(index);
        // Cancel a reservation or close a session. Either way, the token for the place is returned
        // exactly once.
        let token = member
            .seat
            .bar()
            .or_else(|| member.seat.free(Passcode::random()));
        if let Some(token) = token {
            self.free_places.push(token);
        }
        let notified = match &member.connection {
            Some(connection) => {
                let reason = member.main.reason_for_others();
                let left = ServerDoc::RoomLeft {
                    username: member.name.as_str().into(),
                    room: self.name.as_str().into(),
                    reason: reason.or_else(|| connection.reason_for_others()),
                };
                self.send_to_others(connection, &left)
            }
            None => Vec::new(),
        };
        let left = member.connection.as_ref();
        Gone {
            left: left.map(|_| (member.main.session(), member.name.clone())),
            connection: member.connection,
            notified,
        }
    }
}
