//! What every session of a server uses.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{ChatEvent, Events};
use crate::hall::{Connection, Pairs, People};
use crate::lock::Mutex;
use crate::outbox::Handed;
use crate::server::guard::guesses::Guesses;
use crate::server::guard::pace::Rate;
use crate::server::guard::per_tick::PerTick;
use crate::server::panics::Panics;
use crate::server::rooms::RoomThreads;
use crate::server::seats::{Seats, SharedSeat};
use crate::wire::{CloseReason, ServerDoc};
use portal_core::accounts::Accounts;
use portal_core::backplane::{Backplane, Sender};

/// Who is here, which rooms there are, what time it is. Each field guards itself.
pub(crate) struct Sessions {
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) panics: Panics,
    pub(crate) seats: Arc<Seats>,
    pub(crate) pairs: Pairs,
    /// Shared with those who give names out in the order of several servers.
    pub(crate) people: Arc<People>,
    pub(crate) rooms: RoomThreads,
    /// The other servers, if there are any.
    pub(crate) backplane: Arc<dyn Backplane>,
    pub(crate) logins: Logins,
    /// How many callbacks each address has been given. A leaf lock.
    pub(crate) callbacks: Mutex<PerTick>,
    /// The portal's port and the board's.
    pub(crate) other_ports: Vec<u16>,
    /// How fast one client may talk, if that is limited, and how long a tick is.
    pub(crate) rate: Option<(Rate, Duration)>,
}

/// Who may have which name.
pub(crate) struct Logins {
    /// `None` where names are not protected by passwords.
    pub(crate) accounts: Option<Arc<dyn Accounts>>,
    /// Who has guessed passwords.
    pub(crate) guesses: Guesses,
    /// What greets whoever logs in.
    pub(crate) message_of_the_day: Option<String>,
}

impl Sessions {
    /// Tells everyone who is connected something in words; returns how many.
    pub(crate) fn notice(&self, text: &str) -> usize {
        let notice = ServerDoc::Notice(text.into());
        let seats = self.seats.all().iter();
        // Whoever is still on the way in has not been welcomed, so nothing else may be said to them yet.
        seats
            .filter_map(|seat| self.pairs.connection(seat.number))
            .filter(|connection| connection.outbox.send_doc(&notice) == Handed::Taken)
            .count()
    }

    /// Whether this server itself listens at that port.
    pub(crate) fn listens_at(&self, port: u16) -> bool {
        let mut seats = self.seats.all().iter();
        self.other_ports.contains(&port)
            || seats.any(|seat| seat.port.get() == port)
            || self.rooms.with(|rooms| rooms.listens_at(port))
    }

    /// Takes a connection out of everything, closes it and tells of it. The seat is closing after it, and still
    /// to be freed.
    pub(crate) fn end(&self, seat: &SharedSeat, connection: &Arc<Connection>, end: CloseReason) {
        let end = self.take_out(seat, connection, end);
        self.events.emit(|| ChatEvent::Left {
            port: seat.port,
            peer: connection.peer,
            end,
        });
    }

    /// As [`Sessions::end`], and tells nobody. Returns why it is over: if the timekeeper or a full socket has
    /// ended it before, that is the reason that counts.
    pub(crate) fn take_out(
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
