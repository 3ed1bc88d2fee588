//! This server's people, for the other servers: what comes from those is handed on here.

use std::sync::{Arc, Weak};

use super::session::Sessions;
use crate::accounts::{Account, Accounts};
use crate::cluster::{Cluster, ClusterEvent, Hears, Load, News, Spoken};
use crate::hall::{Heard, Said, Unwritten, flush_all};
use crate::outbox::Handed;
use crate::wire::{CloseReason, Name, Scope, ServerDoc, time};

/// This server, as `cluster-in` and `cluster-out` know it.
pub(super) struct Here {
    pub(super) sessions: Weak<Sessions>,
    /// What does not change of what it says of itself.
    pub(super) load: Load,
}

impl Hears for Here {
    fn hear(&self, news: News<'_>, unwritten: &mut Unwritten) {
        if let Some(sessions) = self.sessions.upgrade() {
            hear(&sessions, news, unwritten);
        }
    }

    fn people(&self) -> Vec<(u64, Name)> {
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

    fn accounts(&self) -> Vec<Account> {
        let sessions = self.sessions.upgrade();
        let accounts = sessions
            .as_ref()
            .and_then(|there| there.logins.accounts.as_ref());
        accounts.map_or_else(Vec::new, Accounts::all)
    }

    fn load(&self) -> Load {
        let free = |sessions: Arc<Sessions>| sessions.seats.free_ports().len();
        Load {
            free: self.sessions.upgrade().map_or(0, free),
            ..self.load.clone()
        }
    }
}

fn hear(sessions: &Sessions, news: News<'_>, unwritten: &mut Unwritten) {
    let people = &sessions.people;
    match news {
        News::Joined { name, here } => {
            let username = name.into();
            people.tell(&ServerDoc::UserJoined { username }, here);
        }
        News::Left { name } => {
            let username = name.into();
            people.tell(&ServerDoc::UserLeft { username }, None);
        }
        News::Said(spoken) => {
            let mut said = as_said(Scope::Public, &spoken);
            people.hear(&mut said, spoken.here, unwritten);
        }
        News::RoomJoined { room, name, here } => {
            flush_all(
                &sessions
                    .rooms
                    .with(|rooms| rooms.hear_of(room, name, true, here)),
            );
        }
        News::RoomLeft { room, name } => {
            flush_all(
                &sessions
                    .rooms
                    .with(|rooms| rooms.hear_of(room, name, false, None)),
            );
        }
        News::RoomSaid { room, spoken, at } => hear_in_room(sessions, room, &spoken, at, unwritten),
        News::Topic { room, spoken } => {
            let said = (spoken.from, spoken.text);
            let rooms = &sessions.rooms;
            flush_all(&rooms.with(|rooms| rooms.hear_topic(room, said, spoken.here)));
        }
        News::Direct { to, spoken, handed } => {
            if let Some(connection) = people.with_session(to) {
                let mut said = as_said(Scope::Direct, &spoken);
                *handed = said.append_to(&connection, unwritten) == Handed::Taken;
            }
        }
        News::TakenOver(session) => {
            if let Some(before) = people.with_session(session) {
                before.outbox.end(CloseReason::TakenOver);
                sessions.rooms.leave_all(&before);
            }
        }
        News::Lost { reason } => {
            let reason = reason.to_owned();
            sessions
                .events
                .emit(|| ClusterEvent::ClusterLost { reason });
            sessions.notice(
                "the other servers can't be reached: until they are back, what you say reaches only people on this one",
            );
        }
        News::Back => {
            sessions.events.emit(|| ClusterEvent::ClusterBack {});
            sessions.notice("the other servers are back");
        }
        News::Servers(servers) => {
            let own = sessions.cluster().map(Cluster::id);
            for there in servers.iter().filter(|there| Some(&*there.id) != own) {
                sessions.events.emit_pulse(|| ClusterEvent::ClusterServer {
                    server: there.id.clone(),
                    lives: there.lives,
                    taken: there.load.seats.saturating_sub(there.load.free),
                    seats: there.load.seats,
                    lag: u64::try_from(there.lag.as_micros()).unwrap_or(u64::MAX),
                });
            }
        }
        News::Missed { room, count } => tell_missed(sessions, room, count),
        News::Trouble { doing, error } => sessions.events.emit_failure(doing, error),
    }
}

fn as_said(scope: Scope<'static>, spoken: &Spoken<'_>) -> Said {
    let mut said = Said::default();
    said.begin(scope, &spoken.from.into());
    said.push(spoken.text, spoken.me);
    said
}

fn hear_in_room(
    sessions: &Sessions,
    room: &str,
    spoken: &Spoken<'_>,
    at: u64,
    unwritten: &mut Unwritten,
) {
    let heard = Heard {
        from: spoken.from.to_owned(),
        text: spoken.text.to_owned(),
        me: spoken.me,
        said_at: time::from_seconds(at),
    };
    let Some((name, _, members)) = sessions.rooms.with(|rooms| rooms.hear(room, heard)) else {
        return;
    };
    let scope = Scope::Room(name.to_string().into());
    let mut said = as_said(scope, spoken);
    crate::hall::hand_to_all(&members, &mut said, spoken.here, unwritten);
}

fn tell_missed(sessions: &Sessions, room: Option<&str>, count: Option<u64>) {
    let what = room.map(str::to_owned);
    sessions
        .events
        .emit(|| ClusterEvent::ClusterMissed { room: what, count });
    let of = room.map_or_else(|| "here".to_owned(), |room| format!("in {room}"));
    sessions.notice(&match count {
        Some(1) => format!("1 thing that was said {of} on other servers can't be had any more"),
        Some(count) => {
            format!("{count} things that were said {of} on other servers can't be had any more")
        }
        None => "the engine between the servers has lost its memory: what others said meanwhile may be missing, and how much is not known".to_owned(),
    });
}
