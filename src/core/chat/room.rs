//! One room: its members, who stands at its door, what was said in it last.
//!
//! A member's place is the worker's own [`Seat`], with its passcode and its reservation; but many
//! members share one port, so the passcode says which of them has come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Connection, Group, RoomHandle};
use crate::clock::Deadline;
use crate::limits;
use crate::outbox::Queued;
use crate::seat::{Passcode, Phase, PortToken, Seat, SeatNumber, WorkloadStack};
use portal_net::Port;
use portal_wire::{Name, Relay, Scope, ServerDoc, escaped_bytes, time};

/// One room.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Room {
    pub(super) name: Name,
    pub(super) port: Port,
    pub(super) token: PortToken,
    pub(super) handle: Arc<RoomHandle>,
    pub(super) group: Arc<Group>,
    /// The right to a place; as many as there can be members.
    pub(super) free_places: WorkloadStack,
    pub(super) members: Vec<Member>,
    /// Who is connected and has not said a passcode yet.
    pub(super) callers: Vec<PendingMember>,
    pub(super) remembered: Remembered,
    /// Otherwise joins and departures are announced in the common order of several servers.
    pub(super) announces: bool,
}

/// What a room knows of what was said in it.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Remembered {
    pub(super) history: VecDeque<Old>,
    /// What the room is about, and who said so.
    pub(super) topic: Option<(String, Arc<str>)>,
}

/// A member, from the `JOIN` on: while the place is reserved, while it is taken.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Member {
    pub(super) seat: Seat,
    /// Where the member's main connection sits.
    pub(super) seat_number: SeatNumber,
    /// The member's main connection.
    pub(super) main: Arc<Connection>,
    pub(super) name: Name,
    /// The connection on which the member hears the room, once it is there: one of the room's own,
    /// or the main one ("here").
    pub(super) connection: Option<Arc<Connection>>,
}

#[cfg_attr(test, derive(Clone))]
pub(super) struct PendingMember {
    pub(super) connection: Arc<Connection>,
    pub(super) until: Deadline,
}

#[cfg_attr(test, derive(Clone))]
pub(super) struct Old {
    pub(super) from: Arc<str>,
    pub(super) text: String,
    pub(super) me: bool,
    pub(super) sent_at: SystemTime,
}

/// The longest frame of an old message without its text and names, in bytes: the document
/// around it, an action's mark, the time, and the framing.
const OLD_FRAME_BYTES: usize = 160;

impl Old {
    /// The maximum number of bytes that it takes on the wire to a new member of `room`.
    fn written_bytes(&self, room: &Name) -> usize {
        let names = escaped_bytes(&self.from) + room.as_str().len();
        OLD_FRAME_BYTES + names + escaped_bytes(&self.text)
    }

    /// The document that replays it.
    fn doc(&self, room: &Name) -> ServerDoc<'_> {
        ServerDoc::Relay(Relay {
            scope: Scope::Room(room.to_string().into()),
            from: (&*self.from).into(),
            text: self.text.as_str().into(),
            me: self.me,
            old: true,
            time: Some(time::rfc_3339(self.sent_at).into()),
        })
    }
}

/// Somebody who is out of a room.
#[derive(Default)]
pub(super) struct Gone {
    /// Their connection to it.
    pub(super) connection: Option<Arc<Connection>>,
    /// Session and name, if they were in it, and not only on the way.
    pub(super) left: Option<(u64, Name)>,
    /// Who was told.
    pub(super) notified: Vec<Arc<Connection>>,
}

/// Somebody who wants into a room.
pub(crate) struct Joiner<'j> {
    /// Their main connection.
    pub main: &'j Arc<Connection>,
    /// Who they have logged in as.
    pub who: &'j Name,
    /// Where their main connection sits.
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

/// Why somebody can't join or leave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RoomError {
    /// In it already, or on the way.
    AlreadyMember,
    /// There is no such room.
    NoSuchRoom,
    /// Not in it.
    NotAMember,
    /// No place is left in it.
    Full,
    /// In as many rooms as one person may be in.
    TooMany,
}

impl Room {
    pub(super) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.seated().map(|(_, connection)| connection)
    }

    /// Who is in the room, each with the connection on which it hears.
    pub(super) fn seated(&self) -> impl Iterator<Item = (&Member, &Arc<Connection>)> {
        let seated = self
            .members
            .iter()
            .filter(|member| member.seat.phase() == Phase::Seated);
        seated.filter_map(|member| Some((member, member.connection.as_ref()?)))
    }

    /// The place of the person with that main connection, from the `JOIN` on.
    pub(super) fn place_of(&self, main: &Arc<Connection>) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| Arc::ptr_eq(&member.main, main))
    }

    /// Keeps the last `most` of what was said, and no more than [`limits::HISTORY`].
    pub(super) fn forget(&mut self, most: usize) {
        let mut bytes = 0;
        let fits = self
            .remembered
            .history
            .iter()
            .rev()
            .take(most)
            .take_while(|old| {
                bytes += old.written_bytes(&self.name);
                bytes <= limits::HISTORY
            });
        let surplus = self.remembered.history.len() - fits.count();
        self.remembered.history.drain(..surplus);
    }

    /// Replays the history to a new member. Returns the number of bytes appended.
    pub(super) fn append_history(&self, member: &Connection) -> usize {
        let history = self.remembered.history.iter();
        let replayed = history.map(|old| member.outbox.append_history(&old.doc(&self.name)));
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

    /// Sets the topic, or removes it if it is empty; returns the document to send. Cuts a topic of
    /// more than [`limits::MAX_TOPIC_BYTES`], which only an older server accepts.
    pub(super) fn set_topic(&mut self, topic: &str, by: &str) -> ServerDoc<'static> {
        let topic = &topic[..topic.floor_char_boundary(limits::MAX_TOPIC_BYTES)];
        self.remembered.topic = (!topic.is_empty()).then(|| (topic.to_owned(), by.into()));
        ServerDoc::Topic {
            room: self.name.to_string().into(),
            topic: topic.to_owned().into(),
            username: by.to_owned().into(),
        }
    }

    /// Appends `doc` for every member but the session `except`; returns them, for the flush after
    /// the lock.
    pub(super) fn send(&self, doc: &ServerDoc<'_>, except: Option<u64>) -> Vec<Arc<Connection>> {
        self.connections()
            .filter(|member| except.is_none() || Some(member.session()) != except)
            .filter(|member| member.outbox.append_doc(doc) == Queued::Yes)
            .cloned()
            .collect()
    }

    /// Appends `doc` for every member but `about`; returns them, for the flush after the lock.
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
        // A reservation is given up, a session closed; either way the right to the place is back
        // exactly once.
        let token = member
            .seat
            .close_for_shutdown()
            .or_else(|| member.seat.free(Passcode::random()));
        if let Some(token) = token {
            self.free_places.push(token);
        }
        let notified = match &member.connection {
            Some(connection) => {
                let left = ServerDoc::RoomLeft {
                    username: member.name.as_str().into(),
                    room: self.name.as_str().into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use portal_wire::Codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_old_message_is_never_longer_than_it_is_counted(text in any::<String>(), me: bool) {
            let (room, longest) = (Name::new(&"r".repeat(portal_wire::limits::MAX_NAME_BYTES)).unwrap(), "n".repeat(portal_wire::limits::MAX_NAME_BYTES));
            let old = Old { from: longest.as_str().into(), text, me, sent_at: SystemTime::now() };
            for codec in [Codec::xml(8192), Codec::web(8192)] {
                let mut frame = Vec::new();
                codec.write_server(&old.doc(&room), &mut frame);
                prop_assert!(frame.len() <= old.written_bytes(&room), "{}", frame.len());
            }
        }
    }
}
