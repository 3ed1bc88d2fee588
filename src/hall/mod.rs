//! Who is here: the partners of each pair of seats.
//!
//! The hall holds outboxes, never a socket. Under its locks frames are only appended; they are
//! written after the lock is released, so nobody's slow socket holds up the hall, and yet
//! everyone hears of comings and goings in the order in which they happened.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::outbox::Outbox;
use crate::seat::SeatNumber;
use crate::wire::ServerDoc;

/// Somebody who is seated.
#[derive(Clone)]
pub struct Guest {
    /// The way to their socket.
    pub outbox: Arc<Outbox>,
    /// What `from` says in their messages.
    pub name: Arc<str>,
}

/// All pairs of seats. Each pair has its own lock, so that one pair's talk never waits for
/// another's.
pub struct Hall {
    pairs: Vec<Mutex<[Option<Guest>; 2]>>,
}

impl Hall {
    /// A hall with this many seats; an odd last seat has nobody beside it.
    pub fn new(seats: usize) -> Hall {
        Hall {
            pairs: (0..seats.div_ceil(2)).map(|_| Mutex::default()).collect(),
        }
    }

    /// Seats `guest`: its first frames are `welcome` and then who the partner is; the partner is
    /// told of it.
    ///
    /// The welcome is in the outbox before anybody can find that outbox here, so nothing that a
    /// quick partner says can overtake it.
    pub fn enter(&self, seat: SeatNumber, guest: &Guest, welcome: &ServerDoc<'_>) {
        let (pair, side) = seat.pair_and_side();
        let mut sides = self.pairs[pair].lock();
        guest.outbox.append_doc(welcome);
        let partner = sides[1 - side].clone();
        match &partner {
            Some(partner) => {
                guest.outbox.append_doc(&joined(partner));
                partner.outbox.append_doc(&joined(guest));
            }
            None => {
                guest.outbox.append_doc(&ServerDoc::NoPartner);
            }
        }
        sides[side] = Some(guest.clone());
        drop(sides);
        guest.outbox.flush();
        if let Some(partner) = partner {
            partner.outbox.flush();
        }
    }

    /// Takes `guest` out of its seat and tells the partner. Does nothing if somebody else sits
    /// there by now.
    pub fn leave(&self, seat: SeatNumber, guest: &Guest) {
        let (pair, side) = seat.pair_and_side();
        let mut sides = self.pairs[pair].lock();
        let is_mine = |there: &Guest| Arc::ptr_eq(&there.outbox, &guest.outbox);
        if !sides[side].as_ref().is_some_and(is_mine) {
            return;
        }
        sides[side] = None;
        let partner = sides[1 - side].clone();
        if let Some(partner) = &partner {
            partner.outbox.append_doc(&ServerDoc::PartnerLeft {
                partner: (&*guest.name).into(),
            });
        }
        drop(sides);
        if let Some(partner) = partner {
            partner.outbox.flush();
        }
    }

    /// Who sits in the partner seat of `seat`.
    pub fn partner(&self, seat: SeatNumber) -> Option<Guest> {
        let (pair, side) = seat.pair_and_side();
        self.pairs[pair].lock()[1 - side].clone()
    }
}

fn joined(guest: &Guest) -> ServerDoc<'_> {
    ServerDoc::PartnerJoined {
        partner: (&*guest.name).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::End;
    use crate::net::Port;
    use crate::wire::Codec;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn guest(name: &str) -> (Guest, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let (timer, _) = crossbeam_channel::bounded(1);
        let outbox = Arc::new(Outbox::new(stream, Codec::default(), timer));
        (
            Guest {
                outbox,
                name: name.into(),
            },
            client,
        )
    }

    fn heard((guest, mut client): (Guest, TcpStream)) -> String {
        guest.outbox.end(End::Terminate);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn partners_hear_of_each_other_and_the_welcome_comes_first() {
        let hall = Hall::new(2);
        let (one, two) = (SeatNumber::from_index(0), SeatNumber::from_index(1));
        let welcome = ServerDoc::Welcome {
            port: Port::new(50001).unwrap(),
        };
        let (alice, bob) = (guest("50001"), guest("50002"));
        hall.enter(one, &alice.0, &welcome);
        hall.enter(two, &bob.0, &welcome);
        assert!(Arc::ptr_eq(
            &hall.partner(two).unwrap().outbox,
            &alice.0.outbox
        ));
        hall.leave(two, &bob.0);
        hall.leave(two, &bob.0);
        assert!(hall.partner(one).is_none());
        let alice = heard(alice);
        let order: Vec<_> = alice
            .lines()
            .map(|line| {
                line.split("<command>")
                    .nth(1)
                    .map_or("welcome", |rest| rest.split('<').next().unwrap())
            })
            .collect();
        assert_eq!(
            order,
            ["welcome", "NO PARTNER", "PARTNER JOINED", "PARTNER LEFT"]
        );
        assert!(heard(bob).contains("PARTNER JOINED</command><partner>50001<"));
    }

    #[test]
    fn a_late_leaver_does_not_take_the_next_guest_along() {
        let hall = Hall::new(2);
        let seat = SeatNumber::from_index(0);
        let welcome = ServerDoc::Pong;
        let (old, next) = (guest("50001"), guest("50001"));
        hall.enter(seat, &old.0, &welcome);
        hall.enter(seat, &next.0, &welcome);
        hall.leave(seat, &old.0);
        assert!(hall.partner(SeatNumber::from_index(1)).is_some());
    }
}
