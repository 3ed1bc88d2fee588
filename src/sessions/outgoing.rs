//! Collects and delivers a client's messages and replies.
//!
//! A turn's messages to the same recipients are delivered with one write per recipient, by the
//! thread that read the messages. No other thread is woken.

use std::sync::Arc;

use crate::backplane::{Outcome, Recipients, Reply, Route, Sender};
use crate::chat::{Connection, MessageBatch, RoomError};
use crate::event::SessionEvent;
use crate::journal::{Conversation, History, Stamp};
use crate::limits;
use crate::pending_replies::PendingReplies;
use crate::state::ChatState;
use portal_core::event::{CoreEvent, Events};
use portal_core::outbox::Queued;
use portal_core::seat::SeatNumber;
use portal_core::transport::RequestId;
use portal_net::Port;
use portal_wire::{ErrorCode, Frames, Name, Scope, ServerDoc};

/// One client as the sender of messages and the recipient of replies.
pub(crate) struct Outgoing<'s> {
    state: &'s ChatState,
    pub(crate) connection: &'s Arc<Connection>,
    pub(crate) port: Port,
    /// The value of `from` in its messages.
    pub(crate) label: Arc<str>,
    /// The destination of the messages collected during a turn.
    to: Destination,
    batch: MessageBatch,
    /// Replies to the client itself, collected during a turn.
    answers: Frames,
    /// The request that is being answered.
    pub(crate) request: RequestId,
    /// Bytes of replies since the last [`Outgoing::take_replied`].
    replied: usize,
    /// Replies that depend on other servers. Created when the first one is reserved.
    pending: Option<Arc<PendingReplies>>,
}

/// The destination of a message.
#[derive(Clone, PartialEq)]
pub(crate) enum Destination {
    /// The partner of the client in this seat.
    Partner(SeatNumber),
    /// Clients that have logged in, on this server or on another.
    Users(Recipients<Name>),
}

impl Destination {
    pub(crate) const EVERYONE: Destination = Destination::Users(Recipients::Everyone);

    fn scope(&self) -> Scope<'static> {
        match self {
            Destination::Partner(_) => Scope::Partner,
            Destination::Users(recipients) => recipients.scope(),
        }
    }
}

impl<'s> Outgoing<'s> {
    pub(crate) fn new(
        state: &'s ChatState,
        connection: &'s Arc<Connection>,
        port: Port,
    ) -> Outgoing<'s> {
        Outgoing {
            state,
            connection,
            port,
            label: connection.label(),
            to: Destination::EVERYONE,
            batch: MessageBatch::default(),
            answers: Frames::default(),
            request: RequestId::default(),
            replied: 0,
            pending: None,
        }
    }

    /// Adds a message to the batch.
    pub(crate) fn send(&mut self, to: Destination, text: &str, me: bool) {
        // Deliver messages to different recipients in the order in which they were sent, because
        // one client may receive both.
        if to != self.to {
            self.deliver();
            self.to = to;
        }
        if self.batch.count() == 0 {
            self.batch.begin(self.to.scope(), &self.label);
        }
        self.batch.push(text, me);
        self.connection.count_sent(text.len());
        if self.batch.bytes() > limits::MAX_TURN_BYTES {
            self.deliver();
        }
    }

    /// Adds a message for the client with this name, which may not exist.
    pub(crate) fn send_direct(&mut self, name: &str, text: &str, me: bool) {
        match Name::new(name) {
            Some(name) => self.send(Destination::Users(Recipients::One(name)), text, me),
            None => {
                self.deliver();
                self.reply_no_such_user(name);
                let sentence = format!("not a valid name: {name}");
                self.answer(&ServerDoc::Error {
                    code: ErrorCode::NoSuchUser,
                    sentence: sentence.into(),
                });
            }
        }
    }

    /// Delivers the batch and answers each message: with `SENT`, or with the reason why it was not
    /// delivered.
    pub(crate) fn deliver(&mut self) {
        if self.batch.count() == 0 {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        match self.to.clone() {
            Destination::Partner(seat) => self.deliver_to_partner(seat, &mut batch),
            Destination::Users(Recipients::Everyone) => self.deliver_to_everyone(&mut batch),
            Destination::Users(Recipients::One(name)) => self.deliver_to_one(&name, &mut batch),
            Destination::Users(Recipients::Room(name)) => self.deliver_to_room(&name, &mut batch),
        }
        // Keep the allocated memory for the next turn.
        self.batch = batch;
        self.batch.clear();
    }

    fn deliver_to_partner(&mut self, seat: SeatNumber, batch: &mut MessageBatch) {
        let pairs = &self.state.pairs;
        let queued = match pairs.partner(seat) {
            Some(partner) => {
                let queued = batch.send_to(&partner, false);
                if queued == Queued::Closed {
                    // The partner's connection has ended, and its worker is about to clean up.
                    // Announce its departure before this reply: until then, this client believes
                    // that it has a partner.
                    pairs.leave(seat.partner(), &partner);
                }
                queued
            }
            None => Queued::Closed,
        };
        let events = &self.state.events;
        let seats = &self.state.seats;
        let (from, to) = (seats.place(seat), seats.place(seat.partner()));
        for (text, _) in batch.texts() {
            match queued {
                Queued::Yes => events.emit_traffic(|| SessionEvent::Relayed {
                    from,
                    to,
                    bytes: text.len(),
                    text: events.text(text),
                }),
                Queued::Closed => {
                    self.write_answer(&ServerDoc::NoPartner);
                    events.emit_traffic(|| SessionEvent::NoPartner { from });
                }
            }
        }
    }

    /// Publishes the batch through the backplane. Returns whether it must be delivered only on this
    /// server.
    fn publish(&mut self, to: Recipients<&Name>, batch: &MessageBatch) -> bool {
        let name = self.name();
        let sender = name.as_ref().map(|name| Sender {
            session: self.connection.session(),
            name,
        });
        let backplane = Arc::clone(&self.state.backplane);
        let conclusion = self.conclusion(to);
        let mut reply = |message: (&str, bool)| self.reply_later(message, conclusion.clone());
        match backplane.publish(sender, to, &mut batch.texts(), &mut reply) {
            Route::Local => return true,
            Route::Pending => {}
            Route::Refused(outcome) => {
                for message in batch.texts() {
                    let doc = conclusion.conclude(outcome, message);
                    self.write_answer(&doc);
                }
            }
        }
        false
    }

    /// Sets a room's topic through the backplane. Returns whether it must be set only on this
    /// server.
    pub(crate) fn publish_topic(&mut self, room: &Name, topic: &str) -> bool {
        self.deliver();
        let name = self.name();
        let sender = name.as_ref().map(|name| Sender {
            session: self.connection.session(),
            name,
        });
        let backplane = Arc::clone(&self.state.backplane);
        let conclusion = Conclusion {
            is_topic: true,
            ..self.conclusion(Recipients::Room(room))
        };
        let mut reply = |topic: (&str, bool)| self.reply_later(topic, conclusion.clone());
        match backplane.set_topic(sender, room, topic, &mut reply) {
            Route::Local => return true,
            Route::Pending => {}
            Route::Refused(outcome) => {
                let doc = conclusion.conclude(outcome, (topic, false));
                self.write_answer(&doc);
            }
        }
        false
    }

    /// The client's name. On a room connection, the label is the name.
    pub(crate) fn name(&self) -> Option<Name> {
        self.connection.name().or_else(|| Name::new(&self.label))
    }

    fn conclusion(&self, to: Recipients<&Name>) -> Conclusion {
        Conclusion {
            events: self.state.events.clone(),
            history: Arc::clone(&self.state.history),
            port: self.port,
            name: Arc::clone(&self.label),
            to: to.cloned(),
            is_topic: false,
        }
    }

    /// Reserves a place for a later reply, after sending the replies so far.
    fn reply_later(&mut self, (text, me): (&str, bool), conclusion: Conclusion) -> Reply {
        if !self.answers.is_empty() {
            self.connection.outbox.send(&self.answers);
            self.answers.clear();
        }
        let connection = self.connection;
        let pending = self
            .pending
            .get_or_insert_with(|| PendingReplies::new(connection));
        let (pending, slot) = (Arc::clone(pending), pending.reserve(self.request));
        let text = text.to_owned();
        Box::new(move |outcome, unwritten| {
            let doc = conclusion.conclude(outcome, (&text, me));
            pending.fulfil(slot, &doc, unwritten);
        })
    }

    fn deliver_to_room(&mut self, name: &Name, batch: &mut MessageBatch) {
        if !self.publish(Recipients::Room(name), batch) {
            return;
        }
        let history = &self.state.history;
        // Stamp them under the lock, so that the ids in a room follow the order of its history.
        let recipients = self.state.rooms.with(|rooms| {
            batch.stamp(history.stamp(batch.count()));
            let entries = batch.entries();
            let recipients = rooms.send(name, self.connection, &entries)?;
            let journal = history.journal();
            journal.append(&Conversation::room(name), entries);
            Ok::<_, RoomError>(recipients)
        });
        let Ok(recipients) = recipients else {
            for _ in 0..batch.count() {
                self.write_answer(&ServerDoc::Error {
                    code: ErrorCode::NotAMember,
                    sentence: format!("you are not in {name}").into(),
                });
            }
            return;
        };
        let count = recipients
            .group
            .deliver(&recipients.members, self.connection, batch);
        let events = &self.state.events;
        for (text, _) in batch.texts() {
            self.write_answer(&ServerDoc::Sent { count });
            events.emit_traffic(|| SessionEvent::RoomSaid {
                port: recipients.port,
                room: name.to_string(),
                name: self.label.to_string(),
                count,
                text: events.text(text),
            });
        }
    }

    fn deliver_to_everyone(&mut self, batch: &mut MessageBatch) {
        if !self.publish(Recipients::Everyone, batch) {
            return;
        }
        let history = &self.state.history;
        batch.stamp(history.stamp(batch.count()));
        let journal = history.journal();
        journal.append(&Conversation::Public, batch.entries());
        let count = self.state.users.send_to_all(self.connection, batch);
        self.conclude(Recipients::Everyone, Outcome::Sent(count, None), batch);
    }

    fn deliver_to_one(&mut self, to: &Name, batch: &mut MessageBatch) {
        let recipient = self.state.users.find(to);
        if recipient.is_none() && !self.publish(Recipients::One(to), batch) {
            return;
        }
        let stamp = self.state.history.stamp(batch.count());
        batch.stamp(stamp);
        let queued = match &recipient {
            Some(recipient) => batch.append_unwritten(recipient).0,
            None => Queued::Closed,
        };
        let outcome = match queued {
            Queued::Yes => Outcome::Sent(1, Some(stamp)),
            Queued::Closed => Outcome::NoSuchUser,
        };
        self.conclude(Recipients::One(to), outcome, batch);
        // Only now are the messages in the history, where their recipient may look for them.
        if let Some(recipient) = recipient {
            recipient.outbox.flush();
        }
    }

    /// Answers each message in a batch with the same outcome. The stamp in `outcome` is that of the
    /// first message.
    fn conclude(&mut self, to: Recipients<&Name>, mut outcome: Outcome, batch: &MessageBatch) {
        let conclusion = self.conclusion(to);
        for message in batch.texts() {
            self.write_answer(&conclusion.conclude(outcome, message));
            if let Outcome::Sent(_, Some(stamp)) = &mut outcome {
                stamp.id += 1;
            }
        }
    }

    fn reply_no_such_user(&self, to: &str) {
        self.state.events.emit_traffic(|| SessionEvent::NoSuchUser {
            port: self.port,
            name: self.label.to_string(),
            to: to.to_owned(),
        });
    }

    /// Answers the client, after all earlier replies.
    pub(crate) fn answer(&mut self, doc: &ServerDoc<'_>) {
        self.deliver();
        self.write_answer(doc);
    }

    fn write_answer(&mut self, doc: &ServerDoc<'_>) {
        let outbox = &self.connection.outbox;
        let before = self.answers.len();
        if let Some(pending) = &self.pending {
            let mut frames = Frames::default();
            outbox.encode(doc, self.request, &mut frames);
            if pending.queue_behind(&frames) {
                self.replied += frames.len();
                return;
            }
            self.answers.append(&frames);
        } else {
            outbox.encode(doc, self.request, &mut self.answers);
        }
        self.replied += self.answers.len() - before;
        if self.answers.len() > limits::MAX_TURN_BYTES {
            outbox.send(&self.answers);
            self.answers.clear();
        }
    }

    /// Returns the bytes of replies since the last call.
    pub(crate) fn take_replied(&mut self) -> usize {
        std::mem::take(&mut self.replied)
    }

    /// Sends the replies so far. Called before any long operation, so that the client and its
    /// recipients do not wait for that operation.
    pub(crate) fn send_answers(&mut self) {
        self.deliver();
        if !self.answers.is_empty() {
            self.connection.outbox.send(&self.answers);
            self.answers.clear();
        }
    }

    /// Like [`Outgoing::send_answers`], and waits for the replies that depend on other servers.
    /// Called before output that bypasses the queue of replies.
    pub(crate) fn wait_for_pending(&mut self) {
        self.send_answers();
        if let Some(pending) = &self.pending {
            pending.wait();
        }
    }

    /// Answers with an error.
    pub(crate) fn error(&mut self, code: ErrorCode, sentence: &str) {
        let port = self.port;
        self.state
            .events
            .emit_traffic(|| CoreEvent::Refused { port, code });
        self.answer(&ServerDoc::Error {
            code,
            sentence: sentence.into(),
        });
    }
}

fn no_such_user(to: &str) -> ServerDoc<'static> {
    ServerDoc::Error {
        code: ErrorCode::NoSuchUser,
        sentence: format!("{to} is not online; WHO lists the users").into(),
    }
}

/// Turns the outcome of a message, immediate or later, into an event and a reply, and keeps a
/// direct message that was delivered.
#[derive(Clone)]
struct Conclusion {
    events: Events,
    history: Arc<History>,
    port: Port,
    /// The sender's name.
    name: Arc<str>,
    to: Recipients<Name>,
    is_topic: bool,
}

impl Conclusion {
    fn conclude(&self, outcome: Outcome, (text, me): (&str, bool)) -> ServerDoc<'static> {
        let recipient = || match &self.to {
            Recipients::Everyone => String::new(),
            Recipients::Room(name) | Recipients::One(name) => name.to_string(),
        };
        let (code, sentence) = match outcome {
            Outcome::Sent(..) if self.is_topic => {
                return ServerDoc::Topic {
                    room: recipient().into(),
                    topic: text.to_owned().into(),
                    username: self.name.to_string().into(),
                };
            }
            Outcome::Sent(count, stamp) => {
                if let Recipients::One(to) = &self.to {
                    self.keep_direct(to, stamp, text, me);
                }
                self.emit_sent(count, text);
                return ServerDoc::Sent { count };
            }
            Outcome::NoSuchUser => {
                self.events.emit_traffic(|| SessionEvent::NoSuchUser {
                    port: self.port,
                    name: self.name.to_string(),
                    to: recipient(),
                });
                return no_such_user(&recipient());
            }
            Outcome::NotYours => match &self.to {
                Recipients::Room(room) => (ErrorCode::NotAMember, format!("you are not in {room}")),
                Recipients::Everyone | Recipients::One(_) => (
                    ErrorCode::LoginFirst,
                    "another user has your name now; log in again".to_owned(),
                ),
            },
            Outcome::Unreachable => (
                ErrorCode::Unreachable,
                "the other servers are unreachable, so nothing was sent; try again later"
                    .to_owned(),
            ),
            Outcome::Unsure => (
                ErrorCode::Unsure,
                "the other servers did not answer in time; it is unknown whether your message was \
                 delivered"
                    .to_owned(),
            ),
        };
        let sentence = sentence.into();
        ServerDoc::Error { code, sentence }
    }

    /// Keeps a direct message that was delivered. If the recipient is on another server, that
    /// server also keeps it.
    fn keep_direct(&self, to: &Name, stamp: Option<Stamp>, text: &str, me: bool) {
        if let Some(from) = Name::new(&self.name) {
            let stamp = self.history.agreed(stamp);
            self.history.keep_direct((&from, to), text, me, stamp);
        }
    }

    fn emit_sent(&self, count: usize, text: &str) {
        let (port, name) = (self.port, || self.name.to_string());
        let text = || self.events.text(text);
        self.events.emit_traffic(|| match &self.to {
            Recipients::Everyone => SessionEvent::Public {
                port,
                name: name(),
                count,
                text: text(),
            },
            Recipients::Room(room) => SessionEvent::RoomSaid {
                port,
                room: room.to_string(),
                name: name(),
                count,
                text: text(),
            },
            Recipients::One(to) => SessionEvent::Direct {
                port,
                name: name(),
                to: to.to_string(),
                text: text(),
            },
        });
    }
}
