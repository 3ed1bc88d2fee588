//! Delivers events from the other servers to this server's clients.

use std::sync::Weak;

use crate::backplane::{BackplaneEvent, BackplaneEvents, HistoryEntry, RemoteMessage};
use crate::chat::{MessageBatch, Unwritten, flush_all, send_to_each};
use crate::outbox::Queued;
use crate::state::ServerState;
use portal_wire::{CloseReason, Name, Scope, ServerDoc};

/// This server's clients, for the backplane's threads.
pub struct LocalDelivery {
    /// The server's state, while the server runs.
    pub state: Weak<ServerState>,
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

fn deliver(state: &ServerState, event: BackplaneEvent<'_>, unwritten: &mut Unwritten) {
    let users = &state.users;
    match event {
        BackplaneEvent::Joined { name, here } => {
            let username = name.into();
            users.announce_remote(&ServerDoc::UserJoined { username }, here);
        }
        BackplaneEvent::Left { name } => {
            let username = name.into();
            users.announce_remote(&ServerDoc::UserLeft { username }, session_of(state, name));
        }
        BackplaneEvent::Public(message) => {
            let mut batch = batch_of(Scope::Public, &message);
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
        BackplaneEvent::Room {
            room,
            message,
            sent_at,
        } => {
            let entry = HistoryEntry {
                from: message.from.to_owned(),
                text: message.text.to_owned(),
                me: message.me,
                sent_at,
            };
            let there = state.rooms.with(|rooms| rooms.record_remote(room, entry));
            if let Some((name, _, members)) = there {
                let scope = Scope::Room(name.to_string().into());
                let mut batch = batch_of(scope, &message);
                send_to_each(&members, &mut batch, message.here, unwritten);
            }
        }
        BackplaneEvent::Topic { room, message } => {
            let batch = (message.from, message.text);
            let rooms = &state.rooms;
            flush_all(&rooms.with(|rooms| rooms.set_topic_remote(room, batch, message.here)));
        }
        BackplaneEvent::Direct {
            to,
            message,
            queued,
        } => {
            if let Some(connection) = users.with_session(to) {
                let mut batch = batch_of(Scope::Direct, &message);
                *queued = batch.append_to(&connection, unwritten) == Queued::Yes;
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
    }
}

/// The session here that has that name. Its client must not be notified of its own departure, which
/// other servers announce if this one was silent for too long.
fn session_of(state: &ServerState, name: &str) -> Option<u64> {
    let client = state.users.find(&Name::new(name)?)?;
    Some(client.session())
}

fn batch_of(scope: Scope<'static>, message: &RemoteMessage<'_>) -> MessageBatch {
    let mut batch = MessageBatch::default();
    batch.begin(scope, &message.from.into());
    batch.push(message.text, message.me);
    batch
}
