//! The state shared by all sessions of a server.

use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Accounts;
use crate::backplane::{Backplane, Sender};
use crate::chat::{Connection, Pairs, Users};
use crate::clock::Clock;
use crate::event::Events;
use crate::guard::login_throttle::LoginThrottle;
use crate::guard::pace::Rate;
use crate::journal::History;
use crate::outbox::Queued;
use crate::panics::Panics;
use crate::policies::Policies;
use crate::room_manager::RoomManager;
use crate::seats::{Seats, SharedSeat};
use crate::tokens::SessionTokens;
use portal_net::lock::Mutex;
use portal_wire::{CloseReason, ServerDoc};

/// The state of a running server. Each field has its own lock.
pub struct ServerState {
    /// The time in ticks, and the stop signal.
    pub clock: Clock,
    /// Emits events.
    pub events: Events,
    /// Catches panics.
    pub panics: Panics,
    /// All seats, and the workload stack.
    pub seats: Arc<Seats>,
    /// The clients in seats, by pairs.
    pub pairs: Pairs,
    /// The clients that have logged in. Shared with the backplane, which grants names.
    pub users: Arc<Users>,
    /// The rooms.
    pub rooms: RoomManager,
    /// The other servers, if there are any.
    pub backplane: Arc<dyn Backplane>,
    /// The rules of the operator and the moderators.
    pub policies: Arc<dyn Policies>,
    /// The ids of messages, and the journal.
    pub history: Arc<History>,
    /// The rules for names.
    pub logins: Logins,
    /// The limit on one client's message rate, if there is one, and the length of a tick. It
    /// applies to sessions that begin after it is set. A leaf lock.
    pub rate: Mutex<Option<(Rate, Duration)>>,
}

/// The rules for names.
pub struct Logins {
    /// `None` if names are not protected by passwords.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// The session tokens.
    pub tokens: Arc<dyn SessionTokens>,
    /// Delays logins after wrong passwords.
    pub guesses: LoginThrottle,
    /// Delays joins after wrong passwords of rooms.
    pub room_guesses: LoginThrottle,
    /// The notice for each client that logs in. A leaf lock.
    pub message_of_the_day: Mutex<Option<String>>,
}

impl ServerState {
    /// Sends a notice to every connected client; returns their number.
    pub fn notice(&self, text: &str) -> usize {
        let notice = ServerDoc::Notice(text.into());
        let seats = self.seats.all().iter();
        // A client that has not been welcomed yet must not receive a notice.
        seats
            .filter_map(|seat| self.pairs.connection(seat.number))
            .filter(|connection| connection.outbox.send_doc(&notice) == Queued::Yes)
            .count()
    }

    /// Returns whether a worker or a room listens on this port.
    pub fn listens_at(&self, port: u16) -> bool {
        let mut seats = self.seats.all().iter();
        seats.any(|seat| seat.port.get() == port) || self.rooms.with(|rooms| rooms.listens_at(port))
    }

    /// Removes a connection from all registries and closes it. Afterwards, the seat is closing.
    /// Returns the effective reason, which is the earlier one if the timer or a full socket had
    /// already ended the connection.
    pub(crate) fn take_out(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        end: CloseReason,
    ) -> CloseReason {
        self.rooms.leave_all(connection);
        self.users.leave(connection);
        if let Some(name) = connection.name() {
            self.backplane.release(Sender {
                session: connection.session(),
                name: &name,
            });
        }
        self.pairs.leave(seat.number, connection);
        seat.with_seat(|occupied| {
            occupied.seat.close();
            occupied.connection = None;
            occupied.keepalive = None;
        });
        connection.outbox.hang_up(end);
        connection.outbox.ended().unwrap_or(end)
    }
}
