//! The rooms: who is in which, who is expected, what was said last.
//!
//! All of it is guarded by one lock, the one under which people join. That is what makes a room's
//! end safe: it ends when nobody is in it, expected or at its door, and nobody can join it while
//! that is being decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::room::{Gone, Joiner, Member, Old, PendingMember, Remembered, Room, RoomError};
use super::{Connection, Group, MessageBatch, RoomHandle};
use crate::backplane::HistoryEntry;
use crate::clock::{Deadline, Tick};
use crate::limits;
use crate::outbox::Queued;
use crate::seat::{
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
    /// How many messages a new member gets to see.
    history: usize,
    announces: bool,
}

/// A room that has ended: its threads are to be woken and joined, its port pushed.
pub(crate) struct Ended {
    /// The way to wake its threads.
    pub handle: Arc<RoomHandle>,
    /// The right to its port.
    pub token: PortToken,
}

/// What a caller's passcode came to.
pub(crate) enum Admission {
    /// In. The others are to be flushed, for they were told.
    Admitted {
        /// Who is in.
        name: Name,
        /// The main connection of the same person.
        main: Arc<Connection>,
        /// Where that sits.
        seat: SeatNumber,
        /// To be flushed.
        notified: Vec<Arc<Connection>>,
    },
    /// Not the passcode of anybody who is expected from there.
    Refused,
}

/// Who is to be told of a message, and by which group's rule.
pub(crate) struct RoomAudience {
    /// Decides who writes.
    pub group: Arc<Group>,
    /// The room's port.
    pub port: Port,
    /// Everyone in the room but the speaker.
    pub members: Vec<Arc<Connection>>,
}

impl Rooms {
    /// No rooms yet. A new member of one gets to see its last `history` messages.
    pub fn new(timeouts: Timeouts, history: usize) -> Rooms {
        Rooms {
            by_key: BTreeMap::new(),
            timeouts,
            history,
            announces: true,
        }
    }

    /// The same, on one of several servers: joins and departures are not announced when they
    /// happen, but by the backplane.
    pub fn without_announcements(mut self) -> Rooms {
        self.announces = false;
        self
    }

    /// How many old messages are wanted where a room begins.
    pub fn history(&self) -> usize {
        self.history
    }

    /// What a room that has just been opened is about elsewhere, and what was said there last.
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
            room.remembered.history.extend(history.into_iter().map(old));
            room.forget(most);
        }
    }

    /// Records a message from whatever server. Returns the room's name, its port and the members
    /// here.
    pub(crate) fn record_remote(
        &mut self,
        key: &str,
        entry: HistoryEntry,
    ) -> Option<(Name, Port, Vec<Arc<Connection>>)> {
        let most = self.history;
        let room = self.by_key.get_mut(key)?;
        room.remembered.history.push_back(old(entry));
        room.forget(most);
        let members = room.connections().cloned().collect();
        Some((room.name.clone(), room.port, members))
    }

    /// Announces a join or departure, on whatever server, except to one session. Returns the
    /// connections to flush.
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
            }
        };
        room.send(&doc, except)
    }

    /// Sets a topic from whatever server, and announces it except to one session. Returns the
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

    /// Every room's name.
    pub fn names(&self) -> Vec<Name> {
        let rooms = self.by_key.values();
        rooms.map(|room| room.name.clone()).collect()
    }

    /// Every member of a room: the room, the session and the name.
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

    /// All connections to rooms, including those that have not sent a passcode yet.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let connected = |room: &Room| -> Vec<Arc<Connection>> {
            let callers = room.callers.iter().map(|caller| &caller.connection);
            room.connections().chain(callers).cloned().collect()
        };
        self.by_key.values().flat_map(connected).collect()
    }

    /// Whether there is a room of that name.
    pub fn exists(&self, name: &Name) -> bool {
        self.by_key.contains_key(&name.key())
    }

    /// Whether some room is at that port.
    pub fn listens_at(&self, port: u16) -> bool {
        self.by_key.values().any(|room| room.port.get() == port)
    }

    /// Makes a room. It has to be joined under the same lock, or it would be empty and never end.
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

    /// Reserves a place for somebody who has logged in. Returns the room's name as it was first
    /// spelled, and the ticket.
    ///
    /// # Errors
    /// [`RoomError::AlreadyMember`], [`RoomError::Full`], [`RoomError::NoSuchRoom`].
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

    /// Takes somebody who has logged in into a room in which they speak and hear on their main
    /// connection. The answer, what the room is about and what was said before are in its outbox
    /// before anything that is said from now on: none of it twice, none of it not at all. Returns
    /// whom to flush, and the room's port.
    ///
    /// # Errors
    /// As [`Rooms::reserve`].
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

    /// A place in a room for somebody who has none there yet.
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
        let in_rooms = self.rooms_of(main).len();
        let room = self
            .by_key
            .get_mut(&name.key())
            .ok_or(RoomError::NoSuchRoom)?;
        if room.place_of(main).is_some() {
            return Err(RoomError::AlreadyMember);
        }
        if in_rooms >= limits::MAX_ROOMS_PER_USER {
            return Err(RoomError::TooMany);
        }
        let token = room.free_places.pop().ok_or(RoomError::Full)?;
        Ok((room, Seat::new(Passcode::random(), timeouts), token))
    }

    /// The room of that name as it is spelled, for a member of it.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], [`RoomError::NotAMember`].
    pub(crate) fn name_for(&self, name: &Name, main: &Arc<Connection>) -> Result<Name, RoomError> {
        let room = self.by_key.get(&name.key()).ok_or(RoomError::NoSuchRoom)?;
        let member = room.place_of(main).ok_or(RoomError::NotAMember)?;
        member.connection.as_ref().ok_or(RoomError::NotAMember)?;
        Ok(room.name.clone())
    }

    /// A member says what a room is about: every member is told. `None` asks: the member alone is.
    /// Returns whom to flush.
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
        // Each member receives it on one connection; the member who set it, on the main one.
        let others = room.seated();
        let others = others.filter(|(member, _)| !Arc::ptr_eq(&member.main, main));
        notified.extend(others.map(|(_, connection)| Arc::clone(connection)));
        notified.retain(|member| member.outbox.append_doc(&doc) == Queued::Yes);
        Ok(notified)
    }

    /// What a room is about, for somebody who has just got a ticket for it.
    pub(crate) fn append_topic(&self, name: &Name, main: &Arc<Connection>) {
        if let Some(room) = self.by_key.get(&name.key()) {
            main.charge_reply(room.append_topic(main, true));
        }
    }

    /// Adds a caller at the room's port. It must send the passcode before the handshake timeout.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`].
    pub(crate) fn call(
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

    /// A caller has said something, `None` if it was no passcode, or has gone.
    pub(crate) fn admit(
        &mut self,
        name: &Name,
        caller: &Arc<Connection>,
        batch: Option<&str>,
        now: Tick,
    ) -> Admission {
        let Some(room) = self.by_key.get_mut(&name.key()) else {
            return Admission::Refused;
        };
        let is_caller = |there: &PendingMember| Arc::ptr_eq(&there.connection, caller);
        let Some(index) = room.callers.iter().position(is_caller) else {
            // Too late: its time was up, or the room that it called at has ended and this is
            // another one of that name.
            return Admission::Refused;
        };
        room.callers.remove(index);
        let address = caller.peer.ip();
        let Some(passcode) = batch else {
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
        // The welcome and what was said before are in the outbox before anybody can find it, and
        // what is said from now on comes after: none of it twice, none of it not at all.
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

    /// Notes what a member said at `now`, on the main connection or on one to the room, and returns
    /// who is to hear it.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], and [`RoomError::NotAMember`] if the speaker is none (any more).
    pub(crate) fn send(
        &mut self,
        name: &Name,
        speaker: &Arc<Connection>,
        batch: &MessageBatch,
        now: SystemTime,
    ) -> Result<RoomAudience, RoomError> {
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
        for (text, me) in batch.texts() {
            room.remembered.history.push_back(Old {
                from: speaker.label(),
                text: text.to_owned(),
                me,
                sent_at: now,
            });
        }
        room.forget(history);
        Ok(RoomAudience {
            group: Arc::clone(&room.group),
            port: room.port,
            members,
        })
    }

    /// Takes the person with this main connection out of a room. Returns their connection to it,
    /// to be ended, who was told, and the room if it has ended by that.
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

    /// A connection to the room is over: its member has left, if that has not happened before.
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

    /// The rooms that somebody is in or on the way to.
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

    /// Every room's name and how many are in it.
    pub fn list(&self) -> Vec<(String, usize)> {
        self.by_key
            .values()
            .map(|room| (room.name.to_string(), room.connections().count()))
            .collect()
    }

    /// A look at the deadlines of a room: reservations that nobody took up end, and callers who
    /// said nothing are returned, to be told.
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

    /// A caller's encryption is established, for which it had the handshake timeout. From here on
    /// it has as long for the passcode.
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

    /// Ends every room, for the server's end. Returns everyone who is connected to each.
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

    /// What the server keeps with a room.
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

fn old(entry: HistoryEntry) -> Old {
    Old {
        from: entry.from.as_str().into(),
        text: entry.text,
        me: entry.me,
        sent_at: entry.sent_at,
    }
}

/// What follows when somebody is out of a room.
pub(crate) struct Departure {
    /// Their connection to the room, to be ended.
    pub connection: Option<Arc<Connection>>,
    /// Session and name, if they were in it, and not only on the way.
    pub left: Option<(u64, Name)>,
    /// Who was told, to be flushed.
    pub notified: Vec<Arc<Connection>>,
    /// The room, if they were the last.
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
    use crate::clock::Ticks;

    #[test]
    fn a_longer_topic_of_an_older_server_is_cut_off_between_two_characters() {
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
