//! The interface of the backplane's two threads to this server.

use std::sync::Arc;

use portal_accounts::Account;
use portal_core::backplane::{BackplaneEvent, BackplaneEvents};
use portal_core::chat::Unwritten;
use portal_core::event::Events;

use crate::event::ClusterEvent;
use crate::peer_server::{Load, PeerServer};

/// The callbacks through which the backplane reads and notifies this server.
pub struct BackplaneHost {
    /// Gets the events about Redis and the other servers.
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
            true => "the other servers can't be reached: until they are back, what you say reaches only people on this one",
            false => "the other servers are back",
        });
    }

    /// Reports lost messages: those of a room, or public ones. Without a count, Redis has lost all
    /// its data.
    pub(super) fn missed(&self, room: Option<&str>, count: Option<u64>) {
        let in_room = room.map(str::to_owned);
        self.events.emit(|| ClusterEvent::ClusterMissed {
            room: in_room,
            count,
        });
        let of = room.map_or_else(|| "here".to_owned(), |room| format!("in {room}"));
        self.notice(&match count {
            Some(1) => format!("1 thing that was said {of} on other servers can't be had any more"),
            Some(count) => {
                format!("{count} things that were said {of} on other servers can't be had any more")
            }
            None => "the engine between the servers has lost its memory: what others said meanwhile may be missing, and how much is not known".to_owned(),
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
