//! The state that all sessions share, and how the core reaches it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Accounts;
use crate::backplane::{Backplane, Sender};
use crate::chat::{Pairs, Users};
use crate::journal::History;
use crate::login_throttle::LoginThrottle;
use crate::pace::Rate;
use crate::policies::Policies;
use crate::room_manager::RoomManager;
use crate::tokens::SessionTokens;
use crate::{at_worker::AtWorker, turn::Session};
use portal_core::clock::Clock;
use portal_core::clock::Tick;
use portal_core::connection::Connection;
use portal_core::event::Events;
use portal_core::outbox::Queued;
use portal_core::panics::Panics;
use portal_core::seat::SeatNumber;
use portal_core::seats::{Seats, SharedSeat};
use portal_core::service::{AdmissionPolicy, Refusal, Service};
use portal_core::transport::Decoder;
use portal_net::lock::Mutex;
use portal_wire::{CloseReason, Elsewhere, ServerDoc};

/// The state that all sessions share. Each field that changes has its own lock.
pub struct ChatState {
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
    /// The rules set by the operator and the moderators.
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
    /// Delays joins after wrong room passwords, by the name of the user who sent them.
    pub room_guesses: LoginThrottle,
    /// The notice for each client that logs in. A leaf lock.
    pub message_of_the_day: Mutex<Option<String>>,
}

impl ChatState {
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
}

impl Service for ChatState {
    fn serve(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        welcome: &ServerDoc<'_>,
        decoder: &mut dyn Decoder,
    ) -> CloseReason {
        self.pairs.enter(seat.number, connection, welcome);
        Session::new(self, AtWorker::new(seat), connection).run(decoder)
    }

    fn forget(&self, seat: SeatNumber, connection: &Arc<Connection>) {
        self.rooms.leave_all(connection);
        self.users.leave(connection);
        if let Some(name) = connection.name() {
            self.backplane.release(Sender {
                session: connection.session(),
                name: &name,
            });
        }
        self.pairs.leave(seat, connection);
    }

    fn welcomed(&self, seat: SeatNumber) -> Option<Arc<Connection>> {
        self.pairs.connection(seat)
    }

    fn listens_at(&self, port: u16) -> bool {
        self.rooms.with(|rooms| rooms.listens_at(port))
    }

    fn connections_without_a_seat(&self) -> Vec<Arc<Connection>> {
        self.rooms.with(|rooms| rooms.connections())
    }
}

/// Admits clients according to the bans, and redirects them to other servers when this one is full.
pub struct AdmissionRules {
    /// The rules set by the operator and the moderators.
    pub policies: Arc<dyn Policies>,
    /// The other servers, if there are any.
    pub backplane: Arc<dyn Backplane>,
}

impl AdmissionPolicy for AdmissionRules {
    fn refuse_address(&self, address: IpAddr, now: Tick) -> Option<Refusal> {
        self.policies.refuse_address(address, now)
    }

    fn full_redirect(&self) -> Option<Elsewhere<'static>> {
        self.backplane.full_redirect()
    }
}
