//! What a client says to others, gathered and delivered, and what it is answered.
//!
//! The messages of a turn to the same people are handed to each of them with one write, by this thread.
//! Nobody else is woken.

use std::sync::Arc;

use std::time::SystemTime;

use super::answers::Answers;
use super::shared::Sessions;
use crate::cluster::{self, Cluster, Fate};
use crate::event::ChatEvent;
use crate::hall::{Connection, Said, Unwritten};
use crate::limits;
use crate::net::Port;
use crate::outbox::Handed;
use crate::seat::SeatNumber;
use crate::wire::{ErrorCode, Frames, Name, Scope, ServerDoc};
use portal_core::transport::Request;

/// One client as somebody who speaks and is answered.
pub(super) struct Speaker<'s> {
    sessions: &'s Sessions,
    pub(super) connection: &'s Arc<Connection>,
    /// The port that it is connected to.
    pub(super) port: Port,
    /// What `from` says in its messages.
    pub(super) label: Arc<str>,
    /// Messages gathered during a turn, and who they are for.
    audience: Audience,
    said: Said,
    /// Answers to the client itself, gathered during a turn.
    answers: Frames,
    /// The request that is being answered.
    pub(super) request: Request,
    /// Bytes of replies since the last [`Speaker::take_replied`].
    replied: usize,
    /// The answers that other servers have a part in, where there are any.
    owed: Option<Arc<Answers>>,
}

/// Who a message is for.
#[derive(Clone, PartialEq)]
pub(super) enum Audience {
    /// Who sits beside that seat.
    Partner(SeatNumber),
    /// All who have logged in.
    Everyone,
    /// That person.
    One(Name),
    /// The members of that room.
    Room(Name),
}

impl Audience {
    fn scope(&self) -> Scope<'static> {
        match self {
            Audience::Room(name) => Scope::Room(name.to_string().into()),
            Audience::Partner(_) => Scope::Partner,
            Audience::Everyone => Scope::Public,
            Audience::One(_) => Scope::Direct,
        }
    }
}

impl<'s> Speaker<'s> {
    pub(super) fn new(
        sessions: &'s Sessions,
        connection: &'s Arc<Connection>,
        port: Port,
    ) -> Speaker<'s> {
        Speaker {
            sessions,
            connection,
            port,
            label: connection.label(),
            audience: Audience::Everyone,
            said: Said::default(),
            answers: Frames::default(),
            request: Request::default(),
            replied: 0,
            owed: sessions.cluster().map(|_| Answers::new(connection)),
        }
    }

    /// Gathers a message for `audience`.
    pub(super) fn say(&mut self, audience: Audience, text: &str, me: bool) {
        // Messages to different people go out in the order in which they were said, because some
        // may hear both.
        if audience != self.audience {
            self.deliver();
            self.audience = audience;
        }
        if self.said.count() == 0 {
            self.said.begin(self.audience.scope(), &self.label);
        }
        self.said.push(text, me);
        self.connection.said(text.len());
        // A frame is some 64 bytes longer than its text.
        if self.said.bytes() + 64 * self.said.count() > limits::TURN {
            self.deliver();
        }
    }

    /// A message for one person, who may not exist.
    pub(super) fn say_to(&mut self, name: &str, text: &str, me: bool) {
        match Name::new(name) {
            Some(name) => self.say(Audience::One(name), text, me),
            None => {
                self.deliver();
                self.tell_no_such_user(name);
                let sentence = format!("nobody can be called {name}");
                self.answer(&ServerDoc::Error {
                    code: ErrorCode::NoSuchUser,
                    sentence: sentence.into(),
                });
            }
        }
    }

    /// Hands over what was gathered, and answers each message: `SENT`, or that it reached nobody.
    pub(super) fn deliver(&mut self) {
        if self.said.count() == 0 {
            return;
        }
        let mut said = std::mem::take(&mut self.said);
        match self.audience.clone() {
            Audience::Partner(seat) => self.deliver_to_partner(seat, &mut said),
            Audience::Everyone => self.deliver_to_everyone(&mut said),
            Audience::One(name) => self.deliver_to_one(&name, &mut said),
            Audience::Room(name) => self.deliver_to_room(&name, &mut said),
        }
        // The memory that it took is kept for the next turn.
        self.said = said;
        self.said.clear();
    }

    fn deliver_to_partner(&mut self, seat: SeatNumber, said: &mut Said) {
        let pairs = &self.sessions.pairs;
        let handed = match pairs.partner(seat) {
            Some(partner) => {
                let handed = said.hand_to(&partner, false);
                if handed == Handed::Ended {
                    // Its connection has ended, and its worker is about to clear up. That it has left is
                    // told before this answer: who has heard of nothing has a partner.
                    pairs.leave(seat.partner(), &partner);
                }
                handed
            }
            None => Handed::Ended,
        };
        let events = &self.sessions.events;
        let seats = &self.sessions.seats;
        let (from, to) = (seats.place(seat), seats.place(seat.partner()));
        for (text, _) in said.texts() {
            match handed {
                Handed::Taken => events.emit_traffic(|| ChatEvent::Relayed {
                    from,
                    to,
                    bytes: text.len(),
                    text: events.text(text),
                }),
                Handed::Ended => {
                    self.write_answer(&ServerDoc::NoPartner);
                    events.emit_traffic(|| ChatEvent::NobodyThere { from });
                }
            }
        }
    }

    /// What is said by way of the other servers, who say later what became of it. `false` if it is to be said here
    /// alone: there are no others, or they can't be reached.
    fn deliver_among_others(&mut self, room: Option<&Name>, said: &Said) -> bool {
        let Some((cluster, who, session)) = self.among_others() else {
            let session = self.connection.session();
            let may_go_on = |cluster: &Cluster| cluster.may_go_on_alone(session, room);
            if self.sessions.cluster().is_none_or(may_go_on) {
                return false;
            }
            for _ in 0..said.count() {
                self.write_answer(&answer_of(&Fate::Unreachable, None));
            }
            return true;
        };
        let speaker = cluster::Speaker {
            session,
            name: &who,
        };
        for (text, me) in said.texts() {
            let (pay, events) = (self.owe(), self.sessions.events.clone());
            let (port, name) = (self.port, who.to_string());
            let (to, shown) = (room.map(Name::to_string), events.text(text));
            let done = move |fate: Fate, unwritten: &mut Unwritten| {
                if let Fate::Sent(count) = fate {
                    events.emit_traffic(|| match to.clone() {
                        Some(room) => ChatEvent::RoomSaid {
                            port,
                            room,
                            name,
                            count,
                            text: shown,
                        },
                        None => ChatEvent::Public {
                            port,
                            name,
                            count,
                            text: shown,
                        },
                    });
                }
                pay(answer_of(&fate, to.as_deref()), unwritten);
            };
            cluster.say(speaker, room, (text, me), Box::new(done));
        }
        true
    }

    /// The other servers, if they can be reached and the client has logged in: with its name and session.
    fn among_others(&self) -> Option<(&'s Cluster, Name, u64)> {
        let cluster = self.sessions.cluster()?;
        // On a connection of a room's own, the label is the name of the main one.
        let name = self.connection.name().or_else(|| Name::new(&self.label))?;
        cluster
            .is_up()
            .then(|| (cluster, name, self.connection.session()))
    }

    /// An answer that comes later. What was answered before goes out before.
    fn owe(&mut self) -> impl FnOnce(ServerDoc<'_>, &mut Unwritten) + Send + use<> {
        if !self.answers.is_empty() {
            self.connection.outbox.send(&self.answers);
            self.answers.clear();
        }
        let (owed, request) = (self.owed.clone(), self.request);
        let number = owed.as_ref().map_or(0, |owed| owed.owe());
        move |answer, unwritten| {
            if let Some(owed) = owed {
                owed.pay((number, request), &answer, unwritten);
            }
        }
    }

    /// Says what a room is about, by way of the other servers. `false` if that is to be said here alone.
    pub(super) fn topic_among_others(&mut self, room: &Name, topic: &str) -> bool {
        self.deliver();
        let Some((cluster, who, session)) = self.among_others() else {
            return false;
        };
        let pay = self.owe();
        let (room_name, topic_text, username) =
            (room.to_string(), topic.to_owned(), who.to_string());
        let done = move |fate: Fate, unwritten: &mut Unwritten| {
            let answer = match fate {
                Fate::Sent(_) => ServerDoc::Topic {
                    room: room_name.as_str().into(),
                    topic: topic_text.as_str().into(),
                    username: username.as_str().into(),
                },
                fate => answer_of(&fate, Some(&room_name)),
            };
            pay(answer, unwritten);
        };
        let speaker = cluster::Speaker {
            session,
            name: &who,
        };
        cluster.topic(speaker, room, topic, Box::new(done));
        true
    }

    fn deliver_to_room(&mut self, name: &Name, said: &mut Said) {
        let is_member = || {
            let rooms = &self.sessions.rooms;
            rooms.with(|rooms| rooms.is_member(name, self.connection))
        };
        if self.owed.is_some() && is_member() && self.deliver_among_others(Some(name), said) {
            return;
        }
        let now = SystemTime::now();
        let heard_by = self
            .sessions
            .rooms
            .with(|rooms| rooms.say(name, self.connection, said, now));
        let Ok(audience) = heard_by else {
            for _ in 0..said.count() {
                self.write_answer(&ServerDoc::Error {
                    code: ErrorCode::NotAMember,
                    sentence: format!("you are not in {name}").into(),
                });
            }
            return;
        };
        let count = audience
            .group
            .deliver(&audience.members, self.connection, said);
        let events = &self.sessions.events;
        for (text, _) in said.texts() {
            self.write_answer(&ServerDoc::Sent { count });
            events.emit_traffic(|| ChatEvent::RoomSaid {
                port: audience.port,
                room: name.to_string(),
                name: self.label.to_string(),
                count,
                text: events.text(text),
            });
        }
    }

    fn deliver_to_everyone(&mut self, said: &mut Said) {
        if self.owed.is_some() && self.deliver_among_others(None, said) {
            return;
        }
        let count = self.sessions.people.say(self.connection, said);
        let events = &self.sessions.events;
        for (text, _) in said.texts() {
            self.write_answer(&ServerDoc::Sent { count });
            events.emit_traffic(|| ChatEvent::Public {
                port: self.port,
                name: self.label.to_string(),
                count,
                text: events.text(text),
            });
        }
    }

    fn deliver_to_one(&mut self, to: &Name, said: &mut Said) {
        let target = self.sessions.people.find(to);
        if target.is_none() && self.owed.is_some() && self.deliver_elsewhere(to, said) {
            return;
        }
        let handed = target.map_or(Handed::Ended, |target| said.hand_to(&target, false));
        let events = &self.sessions.events;
        for (text, _) in said.texts() {
            match handed {
                Handed::Taken => {
                    events.emit_traffic(|| ChatEvent::Direct {
                        port: self.port,
                        name: self.label.to_string(),
                        to: to.to_string(),
                        text: events.text(text),
                    });
                    self.write_answer(&ServerDoc::Sent { count: 1 });
                }
                Handed::Ended => {
                    self.tell_no_such_user(to.as_str());
                    self.write_answer(&no_such_user(to.as_str()));
                }
            }
        }
    }

    /// For somebody who is not here, but may be on another server. `false` if there is no other.
    fn deliver_elsewhere(&mut self, to: &Name, said: &Said) -> bool {
        let Some((cluster, who, session)) = self.among_others() else {
            if self.sessions.cluster().is_none() {
                return false;
            }
            for _ in 0..said.count() {
                self.write_answer(&answer_of(&Fate::Unreachable, None));
            }
            return true;
        };
        let speaker = cluster::Speaker {
            session,
            name: &who,
        };
        for (text, me) in said.texts() {
            let (pay, events) = (self.owe(), self.sessions.events.clone());
            let (from, name, target) = (self.port, who.to_string(), to.to_string());
            let shown = events.text(text);
            let done = move |fate: Fate, unwritten: &mut Unwritten| {
                events.emit_traffic(|| match fate {
                    Fate::Nobody => ChatEvent::NoSuchUser {
                        port: from,
                        name,
                        to: target.clone(),
                    },
                    _ => ChatEvent::Direct {
                        port: from,
                        name,
                        to: target.clone(),
                        text: shown,
                    },
                });
                let answer = match fate {
                    Fate::Nobody => no_such_user(&target),
                    fate => answer_of(&fate, None),
                };
                pay(answer, unwritten);
            };
            cluster.direct(speaker, to, (text, me), Box::new(done));
        }
        true
    }

    fn tell_no_such_user(&self, to: &str) {
        self.sessions.events.emit_traffic(|| ChatEvent::NoSuchUser {
            port: self.port,
            name: self.label.to_string(),
            to: to.to_owned(),
        });
    }

    /// Answers the client, after the answers to what it said before.
    pub(super) fn answer(&mut self, doc: &ServerDoc<'_>) {
        self.deliver();
        self.write_answer(doc);
    }

    fn write_answer(&mut self, doc: &ServerDoc<'_>) {
        let outbox = &self.connection.outbox;
        if let Some(owed) = &self.owed {
            let mut frames = Frames::default();
            outbox.encode(doc, self.request, &mut frames);
            if owed.put_behind(&frames) {
                self.replied += frames.len();
                return;
            }
        }
        let before = self.answers.len();
        outbox.encode(doc, self.request, &mut self.answers);
        self.replied += self.answers.len() - before;
        if self.answers.len() > limits::TURN {
            outbox.send(&self.answers);
            self.answers.clear();
        }
    }

    /// Returns the bytes of replies since the last call.
    pub(super) fn take_replied(&mut self) -> usize {
        std::mem::take(&mut self.replied)
    }

    /// Sends the answers so far. Before anything that takes long, the client and those whom it
    /// talked to should have what is theirs.
    pub(super) fn send_answers(&mut self) {
        self.deliver();
        if !self.answers.is_empty() {
            self.connection.outbox.send(&self.answers);
            self.answers.clear();
        }
    }

    /// As [`Speaker::send_answers`], and waits for those that other servers have a part in: before something that is
    /// handed to the client past them.
    pub(super) fn settle_answers(&mut self) {
        self.send_answers();
        if let Some(owed) = &self.owed {
            owed.wait();
        }
    }

    /// Answers that something can't be done.
    pub(super) fn error(&mut self, code: ErrorCode, sentence: &str) {
        let port = self.port;
        self.sessions
            .events
            .emit_traffic(|| ChatEvent::Refused { port, code });
        self.answer(&ServerDoc::Error {
            code,
            sentence: sentence.into(),
        });
    }
}

fn no_such_user(to: &str) -> ServerDoc<'static> {
    ServerDoc::Error {
        code: ErrorCode::NoSuchUser,
        sentence: format!("{to} is not here; WHO tells who is").into(),
    }
}

/// What a speaker is answered; `room` is where it was said.
fn answer_of(fate: &Fate, room: Option<&str>) -> ServerDoc<'static> {
    let (code, sentence) = match (fate, room) {
        (Fate::Sent(count), _) => return ServerDoc::Sent { count: *count },
        (Fate::NotYours, Some(room)) => (ErrorCode::NotAMember, format!("you are not in {room}")),
        (Fate::NotYours | Fate::Nobody, _) => (
            ErrorCode::LoginFirst,
            "your name is somebody else's by now; log in again".to_owned(),
        ),
        (Fate::Unreachable, _) => (
            ErrorCode::Unreachable,
            "the other servers can't be reached now, so nobody has heard it; say it again later"
                .to_owned(),
        ),
        (Fate::Unsure, _) => (
            ErrorCode::Unsure,
            "the other servers did not answer in time; whether it was heard is not known"
                .to_owned(),
        ),
    };
    ServerDoc::Error {
        code,
        sentence: sentence.into(),
    }
}
