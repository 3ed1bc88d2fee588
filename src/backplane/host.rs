//! The backplane threads' interface to this server.

use std::sync::Arc;

use portal_accounts::Account;
use portal_core::event::Events;
use portal_sessions::backplane::{BackplaneEvent, BackplaneEvents};
use portal_sessions::chat::Unwritten;

use crate::event::ClusterEvent;
use crate::peer_server::{Load, PeerServer};

/// The callbacks through which the backplane queries and notifies this server.
pub struct BackplaneHost {
    pub events: Events,
    pub clients: Arc<dyn BackplaneEvents>,
    /// Returns the load that this server publishes.
    pub load: Box<dyn Fn() -> Load + Send + Sync>,
    /// Returns all accounts in this server's file.
    pub accounts: Box<dyn Fn() -> Vec<Account> + Send + Sync>,
}

impl BackplaneHost {
    fn notice(&self, text: &str) {
        let unwritten = &mut Unwritten::default();
        self.clients
            .on_event(BackplaneEvent::Notice(text), unwritten);
    }

    pub(super) fn lost(&self, reason: &str) {
        let reason = reason.to_owned();
        self.events.emit(|| ClusterEvent::ClusterLost { reason });
    }

    pub(super) fn back(&self) {
        self.events.emit(|| ClusterEvent::ClusterBack {});
    }

    /// Notifies all clients that the other servers are unreachable, or reachable again.
    pub(super) fn notify(&self, is_lost: bool) {
        self.notice(match is_lost {
            true => {
                "the other servers are unreachable: until they are back, your messages reach only \
                 people on this server"
            }
            false => "the other servers are back",
        });
    }

    /// Reports lost messages: those in `room`, or public ones if it is `None`. `count` is `None` if
    /// the number is unknown.
    pub(super) fn missed(&self, room: Option<&str>, count: Option<u64>) {
        self.clients
            .on_event(BackplaneEvent::Missed, &mut Unwritten::default());
        let in_room = room.map(str::to_owned);
        self.events.emit(|| ClusterEvent::ClusterMissed {
            room: in_room,
            count,
        });
        let place = room.map_or_else(
            || "in the public chat".to_owned(),
            |room| format!("in {room}"),
        );
        self.notice(&match count {
            Some(1) => format!("1 message from other servers was lost {place}"),
            Some(count) => {
                format!("{count} messages from other servers were lost {place}")
            }
            None => "Redis has lost data that the servers share: some messages may be missing"
                .to_owned(),
        });
    }

    pub(super) fn update_load(&self, servers: &[PeerServer], own: &str) {
        for there in servers.iter().filter(|there| there.id != own) {
            self.events.emit_pulse(|| ClusterEvent::ClusterServer {
                server: there.id.clone(),
                lives: there.lives,
                taken: there.load.seats.saturating_sub(there.load.free),
                seats: there.load.seats,
                lag: u64::try_from(there.lag.as_micros()).unwrap_or(u64::MAX),
            });
        }
    }
}
