//! Delivers events from the other servers to this server's clients.

use std::sync::Weak;

use crate::backplane::{BackplaneEvent, BackplaneEvents, RemoteMessage};
use crate::chat::{MessageBatch, Unwritten, flush_all, send_to_each};
use crate::journal::{Conversation, Stamp};
use crate::state::ChatState;
use portal_core::outbox::Queued;
use portal_wire::{CloseReason, Name, Scope, ServerDoc};

/// This server's clients, for the backplane's threads.
pub struct LocalDelivery {
    /// The server's state, while the server runs.
    pub state: Weak<ChatState>,
}

impl BackplaneEvents for LocalDelivery {
    fn on_event(&self, event: BackplaneEvent<'_>, unwritten: &mut Unwritten) {
        if let Some(state) = self.state.upgrade() {
            deliver(&state, event, unwritten);
        }
    }

    fn users(&self) -> Vec<(u64, Name)> {
        let state = self.state.upgrade();
        state.map_or_else(Vec::new, |state| state.users.sessions())
    }

    fn rooms(&self) -> Vec<Name> {
        let state = self.state.upgrade();
        state.map_or_else(Vec::new, |state| state.rooms.with(|rooms| rooms.names()))
    }

    fn members(&self) -> Vec<(Name, u64, Name)> {
        let state = self.state.upgrade();
        state.map_or_else(Vec::new, |state| state.rooms.with(|rooms| rooms.members()))
    }
}

fn deliver(state: &ChatState, event: BackplaneEvent<'_>, unwritten: &mut Unwritten) {
    let users = &state.users;
    match event {
        BackplaneEvent::Joined { name, here } => {
            let username = name.into();
            users.announce_remote(&ServerDoc::UserJoined { username }, here);
        }
        BackplaneEvent::Left { name } => {
            let (username, reason) = (name.into(), None);
            let left = ServerDoc::UserLeft { username, reason };
            users.announce_remote(&left, session_of(state, name));
        }
        BackplaneEvent::Public(message) => {
            let stamp = state.history.agreed(message.stamp);
            let mut batch = batch_of(Scope::Public, &message, stamp);
            let journal = state.history.journal();
            journal.append(&Conversation::Public, batch.entries());
            users.deliver_remote(&mut batch, message.here, unwritten);
        }
        BackplaneEvent::RoomJoined { room, name, here } => {
            flush_all(
                &state
                    .rooms
                    .with(|rooms| rooms.announce_remote(room, name, true, here)),
            );
        }
        BackplaneEvent::RoomLeft { room, name } => {
            let own = session_of(state, name);
            let rooms = &state.rooms;
            flush_all(&rooms.with(|rooms| rooms.announce_remote(room, name, false, own)));
        }
        BackplaneEvent::Room { room, message } => {
            let stamp = state.history.agreed(message.stamp);
            let entries = batch_of(Scope::default(), &message, stamp).entries();
            let there = state.rooms.with(|rooms| {
                let there = rooms.record_remote(room, &entries)?;
                let conversation = Conversation::room(&there.0);
                state.history.journal().append(&conversation, entries);
                Some(there)
            });
            if let Some((name, _, members)) = there {
                let scope = Scope::Room(name.to_string().into());
                let mut batch = batch_of(scope, &message, stamp);
                send_to_each(&members, &mut batch, message.here, unwritten);
            }
        }
        BackplaneEvent::Topic { room, message } => {
            let change = (message.from, message.text);
            let rooms = &state.rooms;
            flush_all(&rooms.with(|rooms| {
                if let Some(room) = Name::new(room) {
                    let journal = state.history.journal();
                    journal.set_topic(&room, message.text, message.from);
                }
                rooms.set_topic_remote(room, change, message.here)
            }));
        }
        BackplaneEvent::Direct {
            to,
            message,
            queued,
        } => {
            if let Some(connection) = users.with_session(to) {
                let stamp = state.history.agreed(message.stamp);
                let mut batch = batch_of(Scope::Direct, &message, stamp);
                *queued = batch.append_to(&connection, unwritten) == Queued::Yes;
                let names = Name::new(message.from).zip(connection.name());
                if let Some((from, to)) = names.filter(|_| *queued) {
                    let history = &state.history;
                    history.keep_direct((&from, &to), message.text, message.me, stamp);
                }
            }
        }
        BackplaneEvent::TakenOver(session) => {
            if let Some(before) = users.with_session(session) {
                before.outbox.end(CloseReason::TakenOver);
                state.rooms.leave_all(&before);
            }
        }
        BackplaneEvent::Notice(text) => {
            state.notice(text);
        }
        BackplaneEvent::Missed => state.history.note_gap(),
    }
}

/// The session here that has this name. Its client must not be notified of its own departure, which
/// other servers announce if this server was silent for too long.
fn session_of(state: &ChatState, name: &str) -> Option<u64> {
    let client = state.users.find(&Name::new(name)?)?;
    Some(client.session())
}

fn batch_of(scope: Scope<'static>, message: &RemoteMessage<'_>, stamp: Stamp) -> MessageBatch {
    let mut batch = MessageBatch::default();
    batch.begin(scope, &message.from.into());
    batch.push(message.text, message.me);
    batch.stamp(stamp);
    batch
}
