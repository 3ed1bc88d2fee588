//! What every session of a server uses.

use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Accounts;
use crate::backplane::{Backplane, Sender};
use crate::clock::Clock;
use crate::event::Events;
use crate::guard::guesses::Guesses;
use crate::guard::pace::Rate;
use crate::hall::{Connection, Pairs, People};
use crate::outbox::Handed;
use crate::panics::Panics;
use crate::room_manager::RoomManager;
use crate::seats::{Seats, SharedSeat};
use portal_wire::{CloseReason, ServerDoc};

/// Who is here, which rooms there are, what time it is. Each field guards itself.
pub struct ServerState {
    /// The time in ticks, and the end.
    pub clock: Clock,
    /// What happens.
    pub events: Events,
    /// Catches panics.
    pub panics: Panics,
    /// All seats, and the workload stack.
    pub seats: Arc<Seats>,
    /// The clients in seats, by pairs.
    pub pairs: Pairs,
    /// The clients that have logged in. Shared with the backplane, which grants names.
    pub people: Arc<People>,
    /// The rooms.
    pub rooms: RoomManager,
    /// The other servers, if there are any.
    pub backplane: Arc<dyn Backplane>,
    /// The rules for names.
    pub logins: Logins,
    /// How fast one client may talk, if that is limited, and how long a tick is.
    pub rate: Option<(Rate, Duration)>,
}

/// Who may have which name.
pub struct Logins {
    /// `None` where names are not protected by passwords.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// Who has guessed passwords.
    pub guesses: Guesses,
    /// What greets whoever logs in.
    pub message_of_the_day: Option<String>,
}

impl ServerState {
    /// Tells everyone who is connected something in words; returns how many.
    pub fn notice(&self, text: &str) -> usize {
        let notice = ServerDoc::Notice(text.into());
        let seats = self.seats.all().iter();
        // Whoever is still on the way in has not been welcomed, so nothing else may be said to them yet.
        seats
            .filter_map(|seat| self.pairs.connection(seat.number))
            .filter(|connection| connection.outbox.send_doc(&notice) == Handed::Taken)
            .count()
    }

    /// Whether a worker or a room listens at that port.
    pub fn listens_at(&self, port: u16) -> bool {
        let mut seats = self.seats.all().iter();
        seats.any(|seat| seat.port.get() == port) || self.rooms.with(|rooms| rooms.listens_at(port))
    }

    /// Takes a connection out of all registries and closes it; its seat is closing after that. Returns
    /// the reason that counts: if the timer or a full socket has ended the connection before, theirs.
    pub fn take_out(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        end: CloseReason,
    ) -> CloseReason {
        self.rooms.leave_all(connection);
        self.people.leave(connection);
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
