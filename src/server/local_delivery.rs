//! Delivers what comes from the other servers to this server's clients.

use std::sync::Weak;

use super::session::Sessions;
use crate::hall::{Said, Unwritten, flush_all, hand_to_all};
use crate::outbox::Handed;
use crate::wire::{CloseReason, Name, Scope, ServerDoc};
use portal_core::backplane::{BackplaneEvent, BackplaneEvents, HistoryEntry, RemoteMessage};

/// The clients of this server, as the backplane's threads know them.
pub(super) struct LocalDelivery {
    pub(super) sessions: Weak<Sessions>,
}

impl BackplaneEvents for LocalDelivery {
    fn on_event(&self, event: BackplaneEvent<'_>, unwritten: &mut Unwritten) {
        if let Some(sessions) = self.sessions.upgrade() {
            deliver(&sessions, event, unwritten);
        }
    }

    fn users(&self) -> Vec<(u64, Name)> {
        let sessions = self.sessions.upgrade();
        sessions.map_or_else(Vec::new, |sessions| sessions.people.sessions())
    }

    fn rooms(&self) -> Vec<Name> {
        let sessions = self.sessions.upgrade();
        sessions.map_or_else(Vec::new, |sessions| {
            sessions.rooms.with(|rooms| rooms.names())
        })
    }

    fn members(&self) -> Vec<(Name, u64, Name)> {
        let sessions = self.sessions.upgrade();
        sessions.map_or_else(Vec::new, |sessions| {
            sessions.rooms.with(|rooms| rooms.members())
        })
    }
}

fn deliver(sessions: &Sessions, event: BackplaneEvent<'_>, unwritten: &mut Unwritten) {
    let people = &sessions.people;
    match event {
        BackplaneEvent::Joined { name, here } => {
            let username = name.into();
            people.announce_remote(&ServerDoc::UserJoined { username }, here);
        }
        BackplaneEvent::Left { name } => {
            let username = name.into();
            people.announce_remote(&ServerDoc::UserLeft { username }, None);
        }
        BackplaneEvent::Public(message) => {
            let mut said = batch_of(Scope::Public, &message);
            people.deliver_remote(&mut said, message.here, unwritten);
        }
        BackplaneEvent::RoomJoined { room, name, here } => {
            flush_all(
                &sessions
                    .rooms
                    .with(|rooms| rooms.announce_remote(room, name, true, here)),
            );
        }
        BackplaneEvent::RoomLeft { room, name } => {
            flush_all(
                &sessions
                    .rooms
                    .with(|rooms| rooms.announce_remote(room, name, false, None)),
            );
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
            let there = sessions
                .rooms
                .with(|rooms| rooms.record_remote(room, entry));
            if let Some((name, _, members)) = there {
                let scope = Scope::Room(name.to_string().into());
                let mut said = batch_of(scope, &message);
                hand_to_all(&members, &mut said, message.here, unwritten);
            }
        }
        BackplaneEvent::Topic { room, message } => {
            let said = (message.from, message.text);
            let rooms = &sessions.rooms;
            flush_all(&rooms.with(|rooms| rooms.set_topic_remote(room, said, message.here)));
        }
        BackplaneEvent::Direct {
            to,
            message,
            queued,
        } => {
            if let Some(connection) = people.with_session(to) {
                let mut said = batch_of(Scope::Direct, &message);
                *queued = said.append_to(&connection, unwritten) == Handed::Taken;
            }
        }
        BackplaneEvent::TakenOver(session) => {
            if let Some(before) = people.with_session(session) {
                before.outbox.end(CloseReason::TakenOver);
                sessions.rooms.leave_all(&before);
            }
        }
        BackplaneEvent::Notice(text) => {
            sessions.notice(text);
        }
    }
}

fn batch_of(scope: Scope<'static>, message: &RemoteMessage<'_>) -> Said {
    let mut said = Said::default();
    said.begin(scope, &message.from.into());
    said.push(message.text, message.me);
    said
}
