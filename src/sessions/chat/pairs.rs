//! The pairs of partners: seats 1 and 2, 3 and 4, and so on.

use std::sync::Arc;

use super::Connection;
use portal_core::seat::SeatNumber;
use portal_net::lock::{Mutex, Rank};
use portal_wire::ServerDoc;

/// All pairs of seats. Each pair has its own lock, so one pair never waits for another.
pub struct Pairs {
    pairs: Vec<Mutex<[Option<Side>; 2]>>,
}

/// One of the two clients in a pair.
struct Side {
    connection: Arc<Connection>,
    /// The label that the partner knows.
    announced: Arc<str>,
}

impl Pairs {
    /// Creates the pairs for `seats` seats. If that is an odd number, the last seat has no partner.
    pub fn new(seats: usize) -> Pairs {
        Pairs {
            pairs: (0..seats.div_ceil(2))
                .map(|_| Mutex::ranked(Rank::Registry, [None, None]))
                .collect(),
        }
    }

    /// Adds `connection` to its pair. Its first frames are `welcome` and then its partner's label
    /// or `NO PARTNER`. The partner is notified.
    ///
    /// The welcome is in the outbox before other threads can find the connection, so no message
    /// from a quick partner can overtake it.
    pub fn enter(&self, seat: SeatNumber, connection: &Arc<Connection>, welcome: &ServerDoc<'_>) {
        let (pair, side) = seat.pair_and_side();
        let mut sides = self.pairs[pair].lock();
        connection.outbox.append_doc(welcome);
        let label = connection.label();
        let partner = sides[1 - side].as_mut().map(|partner| {
            partner.announced = partner.connection.label();
            connection.outbox.append_doc(&joined(&partner.announced));
            partner.connection.outbox.append_doc(&joined(&label));
            Arc::clone(&partner.connection)
        });
        if partner.is_none() {
            connection.outbox.append_doc(&ServerDoc::NoPartner);
        }
        sides[side] = Some(Side {
            connection: Arc::clone(connection),
            announced: label,
        });
        drop(sides);
        connection.outbox.flush();
        if let Some(partner) = partner {
            partner.outbox.flush();
        }
    }

    /// Removes `connection` from its pair and notifies the partner. Does nothing if the connection
    /// is not in `seat`, for example because the seat already has a new connection.
    pub fn leave(&self, seat: SeatNumber, connection: &Arc<Connection>) {
        let (pair, side) = seat.pair_and_side();
        let mut sides = self.pairs[pair].lock();
        if !sides[side]
            .as_ref()
            .is_some_and(|there| Arc::ptr_eq(&there.connection, connection))
        {
            return;
        }
        sides[side] = None;
        let partner = sides[1 - side].as_ref();
        let partner = partner.map(|partner| Arc::clone(&partner.connection));
        if let Some(partner) = &partner {
            let label = connection.label();
            partner.outbox.append_doc(&ServerDoc::PartnerLeft {
                partner: (&*label).into(),
                reason: connection.reason_for_others(),
            });
        }
        drop(sides);
        if let Some(partner) = partner {
            partner.outbox.flush();
        }
    }

    /// Notifies the partner of the client in `seat` that the client has logged in, unless the
    /// partner knows its new label already.
    pub fn logged_in(&self, seat: SeatNumber) {
        let (pair, side) = seat.pair_and_side();
        let mut sides = self.pairs[pair].lock();
        let [first, second] = &mut *sides;
        let (own, partner) = match side {
            0 => (first, second),
            _ => (second, first),
        };
        let (Some(own), Some(partner)) = (own, partner) else {
            return;
        };
        let label = own.connection.label();
        if own.announced == label {
            return;
        }
        partner
            .connection
            .outbox
            .append_doc(&ServerDoc::PartnerLoggedIn {
                partner: (&*label).into(),
            });
        own.announced = label;
        let partner = Arc::clone(&partner.connection);
        drop(sides);
        partner.outbox.flush();
    }

    fn connection_of(side: &Option<Side>) -> Option<Arc<Connection>> {
        side.as_ref().map(|side| Arc::clone(&side.connection))
    }

    /// The connection in `seat`, if it has been welcomed.
    pub fn connection(&self, seat: SeatNumber) -> Option<Arc<Connection>> {
        let (pair, side) = seat.pair_and_side();
        Self::connection_of(&self.pairs[pair].lock()[side])
    }

    /// The connection in the partner seat of `seat`, if it has been welcomed.
    pub fn partner(&self, seat: SeatNumber) -> Option<Arc<Connection>> {
        let (pair, side) = seat.pair_and_side();
        Self::connection_of(&self.pairs[pair].lock()[1 - side])
    }
}

fn joined(label: &str) -> ServerDoc<'_> {
    ServerDoc::PartnerJoined {
        partner: label.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portal_core::test_support::{connection, received};
    use portal_net::Port;

    #[test]
    fn partners_are_notified_and_the_welcome_comes_first() {
        let pairs = Pairs::new(2);
        let (one, two) = (SeatNumber::from_index(0), SeatNumber::from_index(1));
        let welcome = ServerDoc::Welcome {
            port: Port::new(50001).unwrap(),
            room: None,
            max: None,
        };
        let (alice, bob) = (connection("50001"), connection("50002"));
        pairs.enter(one, &alice.0, &welcome);
        pairs.enter(two, &bob.0, &welcome);
        assert!(Arc::ptr_eq(&pairs.partner(two).unwrap(), &alice.0));
        pairs.leave(two, &bob.0);
        pairs.leave(two, &bob.0);
        assert!(pairs.partner(one).is_none());
        assert_eq!(
            received(alice),
            [
                "Connection successful",
                "NO PARTNER",
                "PARTNER JOINED",
                "PARTNER LEFT"
            ]
        );
        assert_eq!(received(bob), ["Connection successful", "PARTNER JOINED"]);
    }

    #[test]
    fn a_partner_is_notified_of_a_login_unless_it_knows_the_name_already() {
        let pairs = Pairs::new(2);
        let (one, two) = (SeatNumber::from_index(0), SeatNumber::from_index(1));
        let (alice, bob) = (connection("50001"), connection("50002"));
        let name = |name: &str| portal_wire::Name::new(name).unwrap();
        pairs.enter(one, &alice.0, &ServerDoc::Pong);
        alice.0.rename(&name("alice"), &alice.0);
        pairs.enter(two, &bob.0, &ServerDoc::Pong);
        pairs.logged_in(one);
        bob.0.rename(&name("bob"), &bob.0);
        pairs.logged_in(two);
        pairs.logged_in(two);
        assert_eq!(
            received(alice),
            ["PONG", "NO PARTNER", "PARTNER JOINED", "PARTNER LOGGED IN"]
        );
        assert_eq!(received(bob), ["PONG", "PARTNER JOINED"]);
    }

    #[test]
    fn a_late_leave_does_not_remove_the_next_client() {
        let pairs = Pairs::new(2);
        let seat = SeatNumber::from_index(0);
        let (old, next) = (connection("50001"), connection("50001"));
        pairs.enter(seat, &old.0, &ServerDoc::Pong);
        pairs.enter(seat, &next.0, &ServerDoc::Pong);
        pairs.leave(seat, &old.0);
        assert!(pairs.partner(SeatNumber::from_index(1)).is_some());
    }
}
