//! The rooms, with their members, reservations, callers and history.
//!
//! One lock guards all of them. Clients also join under this lock, so a room can be closed safely:
//! a room is closed when it has no member, reservation or caller, and no client can join while that
//! is being checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::room::{Gone, Joiner, Member, PendingMember, Remembered, Room, RoomError};
use super::{Connection, Group, RoomHandle};
use crate::journal::HistoryEntry;
use crate::limits;
use portal_core::clock::{Deadline, Tick};
use portal_core::outbox::Queued;
use portal_core::seat::{
    Arrival, Asker, Expiry, Passcode, PortToken, Seat, SeatNumber, SeatRequest, Ticket, Timeouts,
    Verdict, WorkloadStack,
};
use portal_net::Port;
use portal_wire::{Name, ServerDoc};

/// All rooms.
#[cfg_attr(test, derive(Clone))]
pub struct Rooms {
    by_key: BTreeMap<String, Room>,
    timeouts: Timeouts,
    /// Number of old messages that a new member receives.
    history: usize,
    announces: bool,
}

/// A room that has ended. Its threads must be woken and joined, and its port token pushed.
pub(crate) struct Ended {
    /// Wakes its threads.
    pub handle: Arc<RoomHandle>,
    /// The token for its port.
    pub token: PortToken,
}

/// The result of a caller's first frame.
pub(crate) enum Admission {
    /// The caller is a member now, and the others were notified.
    Admitted {
        name: Name,
        /// The main connection of the member.
        main: Arc<Connection>,
        /// The seat of the main connection.
        seat: SeatNumber,
        /// The notified members, to be flushed.
        notified: Vec<Arc<Connection>>,
    },
    /// The passcode matches no reservation for the caller's address.
    Refused,
}

/// The recipients of a message, and their group.
pub(crate) struct RoomRecipients {
    /// Decides which threads write.
    pub group: Arc<Group>,
    pub port: Port,
    /// All members except the sender.
    pub members: Vec<Arc<Connection>>,
}

impl Rooms {
    /// Creates an empty set of rooms. A new member of a room receives its last `history` messages.
    pub fn new(timeouts: Timeouts, history: usize) -> Rooms {
        Rooms {
            by_key: BTreeMap::new(),
            timeouts,
            history,
            announces: true,
        }
    }

    /// Turns off the announcements of joins and departures. In a cluster, the backplane makes them.
    pub fn without_announcements(mut self) -> Rooms {
        self.announces = false;
        self
    }

    /// Number of old messages to request from the other servers when a room is created.
    pub fn history(&self) -> usize {
        self.history
    }

    /// Initializes a new room with its topic and history from the other servers or the journal.
    pub fn remember(
        &mut self,
        name: &Name,
        topic: Option<(String, String)>,
        history: Vec<HistoryEntry>,
    ) {
        let most = self.history;
        if let Some(room) = self.by_key.get_mut(&name.key()) {
            if let Some((who, text)) = topic {
                room.set_topic(&text, &who);
            }
            room.remembered.history.extend(history);
            room.forget(most);
        }
    }

    /// Records a message from any server. Returns the room's name, its port, and its members here.
    pub(crate) fn record_remote(
        &mut self,
        key: &str,
        entries: &[HistoryEntry],
    ) -> Option<(Name, Port, Vec<Arc<Connection>>)> {
        let most = self.history;
        let room = self.by_key.get_mut(key)?;
        room.remembered.history.extend(entries.iter().cloned());
        room.forget(most);
        let members = room.connections().cloned().collect();
        Some((room.name.clone(), room.port, members))
    }

    /// Announces a join or departure on any server, except to one session. Returns the connections
    /// to flush.
    pub(crate) fn announce_remote(
        &self,
        key: &str,
        who: &str,
        has_come: bool,
        except: Option<u64>,
    ) -> Vec<Arc<Connection>> {
        let Some(room) = self.by_key.get(key) else {
            return Vec::new();
        };
        let (username, name) = (who.into(), room.name.as_str().into());
        let doc = if has_come {
            ServerDoc::RoomJoined {
                username,
                room: name,
            }
        } else {
            ServerDoc::RoomLeft {
                username,
                room: name,
                reason: None,
            }
        };
        room.send(&doc, except)
    }

    /// Sets a topic from any server, and announces it except to one session. Returns the
    /// connections to flush.
    pub(crate) fn set_topic_remote(
        &mut self,
        key: &str,
        (who, text): (&str, &str),
        except: Option<u64>,
    ) -> Vec<Arc<Connection>> {
        let Some(room) = self.by_key.get_mut(key) else {
            return Vec::new();
        };
        let doc = room.set_topic(text, who);
        room.send(&doc, except)
    }

    /// Sends a document to all members of a room. Returns the connections to flush.
    pub(crate) fn announce(&self, name: &Name, doc: &ServerDoc<'_>) -> Vec<Arc<Connection>> {
        let room = self.by_key.get(&name.key());
        room.map_or_else(Vec::new, |room| room.send(doc, None))
    }

    /// The names of all rooms.
    pub fn names(&self) -> Vec<Name> {
        let rooms = self.by_key.values();
        rooms.map(|room| room.name.clone()).collect()
    }

    /// All members of all rooms, as room, session and name.
    pub fn members(&self) -> Vec<(Name, u64, Name)> {
        let rooms = self.by_key.values();
        let members = rooms.flat_map(|room| room.seated().map(move |(member, _)| (room, member)));
        members
            .map(|(room, member)| {
                (
                    room.name.clone(),
                    member.main.session(),
                    member.name.clone(),
                )
            })
            .collect()
    }

    /// The names of a room's members here.
    pub fn member_names(&self, name: &Name) -> Vec<String> {
        let room = self.by_key.get(&name.key());
        let names = room.into_iter().flat_map(|room| room.seated());
        names.map(|(member, _)| member.name.to_string()).collect()
    }

    /// All connections to rooms, including those that have not sent a passcode yet.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let connected = |room: &Room| -> Vec<Arc<Connection>> {
            let callers = room.callers.iter().map(|caller| &caller.connection);
            room.connections().chain(callers).cloned().collect()
        };
        self.by_key.values().flat_map(connected).collect()
    }

    /// Returns whether a room with this name exists.
    pub fn exists(&self, name: &Name) -> bool {
        self.by_key.contains_key(&name.key())
    }

    /// Returns whether a room uses this port.
    pub fn listens_at(&self, port: u16) -> bool {
        self.by_key.values().any(|room| room.port.get() == port)
    }

    /// Creates a room. The caller must join it under the same lock; otherwise it would be empty and
    /// never end.
    pub(crate) fn open(
        &mut self,
        name: &Name,
        (token, port): (PortToken, Port),
        places: usize,
        handle: Arc<RoomHandle>,
    ) {
        let room = Room {
            name: name.clone(),
            port,
            token,
            handle,
            group: Arc::default(),
            free_places: WorkloadStack::new(std::iter::repeat_n(port, places)),
            members: Vec::new(),
            callers: Vec::new(),
            remembered: Remembered::default(),
            announces: self.announces,
        };
        self.by_key.insert(name.key(), room);
    }

    /// Reserves a place for a client that has logged in. Returns the room's name in its original
    /// spelling, and the ticket.
    ///
    /// # Errors
    /// [`RoomError::AlreadyMember`], [`RoomError::Full`], [`RoomError::NoSuchRoom`],
    /// [`RoomError::TooMany`].
    pub(crate) fn reserve(
        &mut self,
        name: &Name,
        joiner: &Joiner<'_>,
        now: Tick,
    ) -> Result<(Name, Ticket), RoomError> {
        let (room, mut seat, token) = self.place_for(name, joiner.main)?;
        match seat.reserve(token, Asker::by_connection(joiner.main.peer), now) {
            Ok(ticket) => {
                room.members.push(joiner.member(seat, None));
                Ok((room.name.clone(), ticket))
            }
            Err(token) => {
                room.free_places.push(token);
                Err(RoomError::Full)
            }
        }
    }

    /// Adds a client that has logged in to a room, as a member on its main connection. The reply,
    /// the topic and the history are in its outbox before any later message, so it receives each
    /// message exactly once. Returns the room's port and the connections to flush.
    ///
    /// # Errors
    /// Like [`Rooms::reserve`].
    pub(crate) fn enter_here(
        &mut self,
        name: &Name,
        joiner: &Joiner<'_>,
        now: Tick,
    ) -> Result<(Port, Vec<Arc<Connection>>), RoomError> {
        let main = joiner.main;
        let (room, mut seat, token) = self.place_for(name, main)?;
        if let Err(token) = seat.occupy(token, now) {
            room.free_places.push(token);
            return Err(RoomError::Full);
        }
        room.members
            .push(joiner.member(seat, Some(Arc::clone(main))));
        main.outbox.append_doc(&ServerDoc::JoinedHere {
            room: room.name.as_str().into(),
        });
        let topic = room.append_topic(main, true);
        main.charge_reply(topic + room.append_history(main));
        let joined = ServerDoc::RoomJoined {
            username: joiner.who.as_str().into(),
            room: room.name.as_str().into(),
        };
        let notified = room.send_to_others(main, &joined);
        Ok((room.port, notified))
    }

    /// Checks whether the user with this main connection may join another room.
    ///
    /// # Errors
    /// [`RoomError::TooMany`].
    pub(crate) fn may_join_one_more(&self, main: &Arc<Connection>) -> Result<(), RoomError> {
        match self.rooms_of(main).len() < limits::MAX_ROOMS_PER_USER {
            true => Ok(()),
            false => Err(RoomError::TooMany),
        }
    }

    /// Takes a free place in a room for a client that is not in it yet.
    fn place_for(
        &mut self,
        name: &Name,
        main: &Arc<Connection>,
    ) -> Result<(&mut Room, Seat, PortToken), RoomError> {
        let timeouts = Timeouts {
            idle: None,
            total: None,
            ..self.timeouts
        };
        let one_more = self.may_join_one_more(main);
        let room = self
            .by_key
            .get_mut(&name.key())
            .ok_or(RoomError::NoSuchRoom)?;
        if room.place_of(main).is_some() {
            return Err(RoomError::AlreadyMember);
        }
        one_more?;
        let token = room.free_places.pop().ok_or(RoomError::Full)?;
        Ok((room, Seat::new(Passcode::random(), timeouts), token))
    }

    /// Returns the room's name in its original spelling, for a member.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], [`RoomError::NotAMember`].
    pub(crate) fn name_for(&self, name: &Name, main: &Arc<Connection>) -> Result<Name, RoomError> {
        let room = self.by_key.get(&name.key()).ok_or(RoomError::NoSuchRoom)?;
        let member = room.place_of(main).ok_or(RoomError::NotAMember)?;
        member.connection.as_ref().ok_or(RoomError::NotAMember)?;
        Ok(room.name.clone())
    }

    /// Sets a room's topic and notifies all members. With `None`, sends the topic only to the
    /// requesting member. Returns the connections to flush.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], [`RoomError::NotAMember`].
    pub(crate) fn topic(
        &mut self,
        name: &Name,
        main: &Arc<Connection>,
        topic: Option<&str>,
    ) -> Result<Vec<Arc<Connection>>, RoomError> {
        self.name_for(name, main)?;
        let room = self
            .by_key
            .get_mut(&name.key())
            .ok_or(RoomError::NoSuchRoom)?;
        let mut notified = vec![Arc::clone(main)];
        let Some(text) = topic else {
            main.charge_reply(room.append_topic(main, false));
            return Ok(notified);
        };
        let doc = room.set_topic(text, &main.label());
        // Each member receives the topic on one connection; the member that set it, on the main
        // connection.
        let others = room.seated();
        let others = others.filter(|(member, _)| !Arc::ptr_eq(&member.main, main));
        notified.extend(others.map(|(_, connection)| Arc::clone(connection)));
        notified.retain(|member| member.outbox.append_doc(&doc) == Queued::Yes);
        Ok(notified)
    }

    /// Appends the room's topic, if it has one, for a client that has just received a ticket for
    /// the room.
    pub(crate) fn append_topic(&self, name: &Name, main: &Arc<Connection>) {
        if let Some(room) = self.by_key.get(&name.key()) {
            main.charge_reply(room.append_topic(main, true));
        }
    }

    /// Adds a caller at the room's port. It must send the passcode before the handshake timeout.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`].
    pub(crate) fn add_caller(
        &mut self,
        name: &Name,
        connection: &Arc<Connection>,
        now: Tick,
    ) -> Result<(), RoomError> {
        let until = Deadline::after(now, self.timeouts.handshake);
        let room = self
            .by_key
            .get_mut(&name.key())
            .ok_or(RoomError::NoSuchRoom)?;
        room.callers.push(PendingMember {
            connection: Arc::clone(connection),
            until,
        });
        Ok(())
    }

    /// Handles a caller's passcode, or `None` if the first frame was anything else.
    pub(crate) fn admit(
        &mut self,
        name: &Name,
        caller: &Arc<Connection>,
        passcode: Option<&str>,
        now: Tick,
    ) -> Admission {
        let Some(room) = self.by_key.get_mut(&name.key()) else {
            return Admission::Refused;
        };
        let is_caller = |there: &PendingMember| Arc::ptr_eq(&there.connection, caller);
        let Some(index) = room.callers.iter().position(is_caller) else {
            // Too late: the handshake timeout has passed, or the room has ended and this is another
            // one with the same name.
            return Admission::Refused;
        };
        room.callers.remove(index);
        let address = caller.peer.ip();
        let Some(passcode) = passcode else {
            return Admission::Refused;
        };
        let expected = |member: &&mut Member| member.seat.would_admit(address, passcode, now);
        let Some(member) = room.members.iter_mut().find(expected) else {
            return Admission::Refused;
        };
        if member.seat.arrive(address, now) != Arrival::Expected
            || member
                .seat
                .check_passcode(Some(passcode), SeatRequest::Stay, now)
                != Verdict::Admitted
        {
            return Admission::Refused;
        }
        member.connection = Some(Arc::clone(caller));
        let (who, main, seat) = (
            member.name.clone(),
            Arc::clone(&member.main),
            member.seat_number,
        );
        caller.rename(&who, &main);
        // The welcome and the history are in the outbox before other threads can find the
        // connection, and later messages follow them. So the member receives each message exactly
        // once.
        let welcome = ServerDoc::Welcome {
            port: room.port,
            room: Some(room.name.as_str().into()),
            max: None,
        };
        caller.outbox.append_doc(&welcome);
        main.charge_reply(room.append_history(caller));
        let joined = ServerDoc::RoomJoined {
            username: who.as_str().into(),
            room: room.name.as_str().into(),
        };
        let notified = room.send_to_others(caller, &joined);
        Admission::Admitted {
            name: who,
            main,
            seat,
            notified,
        }
    }

    /// Records a member's messages, sent from its main connection or its room connection. Returns
    /// the recipients.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], and [`RoomError::NotAMember`] if the sender is not a member or
    /// has left.
    pub(crate) fn send(
        &mut self,
        name: &Name,
        speaker: &Arc<Connection>,
        entries: &[HistoryEntry],
    ) -> Result<RoomRecipients, RoomError> {
        let history = self.history;
        let room = self
            .by_key
            .get_mut(&name.key())
            .ok_or(RoomError::NoSuchRoom)?;
        let mut is_member = false;
        let others = room.seated().filter(|(member, connection)| {
            let is_speaker = Arc::ptr_eq(connection, speaker) || Arc::ptr_eq(&member.main, speaker);
            is_member |= is_speaker;
            !is_speaker
        });
        let members: Vec<Arc<Connection>> = others
            .map(|(_, connection)| Arc::clone(connection))
            .collect();
        if !is_member {
            return Err(RoomError::NotAMember);
        }
        room.remembered.history.extend(entries.iter().cloned());
        room.forget(history);
        Ok(RoomRecipients {
            group: Arc::clone(&room.group),
            port: room.port,
            members,
        })
    }

    /// Removes the user with this main connection from a room. Returns the work that follows.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], [`RoomError::NotAMember`].
    pub(crate) fn leave(
        &mut self,
        name: &Name,
        main: &Arc<Connection>,
    ) -> Result<Departure, RoomError> {
        let room = self
            .by_key
            .get_mut(&name.key())
            .ok_or(RoomError::NoSuchRoom)?;
        let index = room
            .members
            .iter()
            .position(|member| Arc::ptr_eq(&member.main, main));
        let departed = room.remove(index.ok_or(RoomError::NotAMember)?);
        Ok(self.end_if_empty(name, departed))
    }

    /// Handles the end of a connection to the room. The member leaves, unless it has left already.
    pub(crate) fn hang_up(&mut self, name: &Name, connection: &Arc<Connection>) -> Departure {
        let Some(room) = self.by_key.get_mut(&name.key()) else {
            return Departure::nobody();
        };
        room.callers
            .retain(|caller| !Arc::ptr_eq(&caller.connection, connection));
        let is_theirs = |member: &Member| {
            member
                .connection
                .as_ref()
                .is_some_and(|there| Arc::ptr_eq(there, connection))
        };
        let departed = match room.members.iter().position(is_theirs) {
            Some(index) => room.remove(index),
            None => Gone::default(),
        };
        self.end_if_empty(name, departed)
    }

    /// The rooms that a user has joined or has a reservation for.
    pub(crate) fn rooms_of(&self, main: &Arc<Connection>) -> Vec<Name> {
        let is_in = |room: &&Room| {
            room.members
                .iter()
                .any(|member| Arc::ptr_eq(&member.main, main))
        };
        self.by_key
            .values()
            .filter(is_in)
            .map(|room| room.name.clone())
            .collect()
    }

    /// The name of every room, and its number of members.
    pub fn list(&self) -> Vec<(String, usize)> {
        self.by_key
            .values()
            .map(|room| (room.name.to_string(), room.connections().count()))
            .collect()
    }

    /// Enforces a room's deadlines. Cancels the reservations that have expired, and removes the
    /// callers that have not sent a passcode in time. Returns these callers, to be disconnected,
    /// and the work that follows.
    pub(crate) fn expire(&mut self, name: &Name, now: Tick) -> (Vec<Arc<Connection>>, Departure) {
        let Some(room) = self.by_key.get_mut(&name.key()) else {
            return (Vec::new(), Departure::nobody());
        };
        let silent = room
            .callers
            .extract_if(.., |caller| caller.until.is_past(now));
        let silent = silent.map(|caller| caller.connection).collect();
        let mut index = 0;
        while index < room.members.len() {
            match room.members[index].seat.expire(now, Passcode::random) {
                Some(Expiry::NoShow(token)) => {
                    room.free_places.push(token);
                    room.members.remove(index);
                }
                _ => index += 1,
            }
        }
        (silent, self.end_if_empty(name, Gone::default()))
    }

    /// Restarts the handshake timeout after the caller's connection is encrypted, so that the
    /// passcode gets the full timeout.
    pub(crate) fn hands_shaken(&mut self, name: &Name, connection: &Arc<Connection>, now: Tick) {
        let until = Deadline::after(now, self.timeouts.handshake);
        let room = self.by_key.get_mut(&name.key());
        let callers = room
            .map(|room| room.callers.iter_mut())
            .into_iter()
            .flatten();
        for caller in callers.filter(|there| Arc::ptr_eq(&there.connection, connection)) {
            caller.until = until;
        }
    }

    /// The next deadline of a room, for its timer's alarm.
    pub fn deadline(&self, name: &Name) -> Option<Deadline> {
        let room = self.by_key.get(&name.key())?;
        let places = room
            .members
            .iter()
            .filter_map(|member| member.seat.deadline());
        places
            .chain(room.callers.iter().map(|caller| caller.until))
            .min()
    }

    /// Ends every room, for the server's shutdown. Returns each room with its connections.
    pub(crate) fn end_all(&mut self) -> Vec<(Ended, Vec<Arc<Connection>>)> {
        std::mem::take(&mut self.by_key)
            .into_values()
            .map(|room| {
                let callers = room
                    .callers
                    .iter()
                    .map(|caller| Arc::clone(&caller.connection));
                let connected = room.connections().cloned().chain(callers).collect();
                (
                    Ended {
                        handle: room.handle,
                        token: room.token,
                    },
                    connected,
                )
            })
            .collect()
    }

    /// The handle to a room's threads.
    pub(crate) fn handle(&self, name: &Name) -> Option<&Arc<RoomHandle>> {
        self.by_key.get(&name.key()).map(|room| &room.handle)
    }

    fn end_if_empty(&mut self, name: &Name, departed: Gone) -> Departure {
        let Gone {
            connection,
            left,
            notified,
        } = departed;
        let is_empty = |room: &Room| room.members.is_empty() && room.callers.is_empty();
        let ended = match self.by_key.get(&name.key()) {
            Some(room) if is_empty(room) => self.by_key.remove(&name.key()),
            _ => None,
        };
        let ended = ended.map(|room| Ended {
            handle: room.handle,
            token: room.token,
        });
        Departure {
            connection,
            left,
            notified,
            ended,
        }
    }
}

/// The work that follows a removal from a room.
pub(crate) struct Departure {
    /// The connection to the room, which must be closed.
    pub connection: Option<Arc<Connection>>,
    /// The session and name, unless the member only had a reservation.
    pub left: Option<(u64, Name)>,
    /// The members that were notified, to be flushed.
    pub notified: Vec<Arc<Connection>>,
    /// The room, if it has ended.
    pub ended: Option<Ended>,
}

impl Departure {
    fn nobody() -> Departure {
        Departure {
            connection: None,
            left: None,
            notified: Vec::new(),
            ended: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use portal_core::clock::Ticks;

    #[test]
    fn an_older_servers_long_topic_is_cut_at_a_character_boundary() {
        let ticks = Ticks::covering(Duration::ZERO, Duration::ZERO);
        let timeouts = Timeouts {
            reserve: ticks,
            handshake: ticks,
            idle: None,
            idle_soon: None,
            total: None,
        };
        let mut rooms: Rooms = Rooms::new(timeouts, 20);
        let (name, port) = (Name::new("lobby").unwrap(), Port::new(1).unwrap());
        let token = WorkloadStack::new([port]).pop().unwrap();
        rooms.open(&name, (token, port), 1, RoomHandle::for_test(port));
        let topic = |rooms: &Rooms| rooms.by_key["lobby"].remembered.topic.clone();
        let long = "x".to_owned() + &"é".repeat(limits::MAX_TOPIC_BYTES);
        rooms.set_topic_remote("lobby", ("bob", &long), None);
        assert_eq!(topic(&rooms).unwrap().0.len(), limits::MAX_TOPIC_BYTES - 1);
        rooms.set_topic_remote("lobby", ("bob", ""), None);
        assert_eq!(topic(&rooms), None);
        rooms.remember(&name, Some(("bob".to_owned(), long)), Vec::new());
        assert_eq!(topic(&rooms).unwrap().0.len(), limits::MAX_TOPIC_BYTES - 1);
    }
}

#[cfg(test)]
mod model;
