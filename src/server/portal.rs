//! The portal: tells each caller which worker's port is free and the passcode for it (seed 000,
//! rules 2, 5a and 7), over TCP or UDP.
//!
//! It never waits for a caller. Over TCP it speaks first and hangs up; over UDP one datagram gets
//! one datagram back. An answer that is lost costs its caller a no-show.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::accepting::{accept_each, back_off, trouble};
use super::courtesy::Courtesy;
use super::house::House;
use super::panics::caught;
use crate::event::What;
use crate::limits;
use crate::net::{Datagrams, Listener};
use crate::seat::{Asker, SeatNumber, Ticket};
use crate::wire::{ServerDoc, server_datagram};

/// The TCP portal's thread: accepts until the clock stops.
pub(super) fn serve_tcp(house: &House, listener: &Listener) {
    let is_over = || house.clock.is_stopped();
    accept_each(listener, &house.callers(), is_over, |stream, peer| {
        caught(&house.events, || {
            let answer = answer(house, Asker::by_connection(peer), peer);
            house.may_panic("portal-tcp");
            stream.send_and_close(&house.codec.server_frame(&as_document(answer.as_ref())));
        });
    });
}

/// The UDP portal's thread: answers datagrams until the clock stops. What they say is not looked
/// at.
pub(super) fn serve_udp(house: &House, socket: &Datagrams) {
    let mut asked = AskedBefore::default();
    let mut courtesy = Courtesy::new();
    let mut datagram = [0; limits::DATAGRAM];
    loop {
        let received = socket.recv_from(&mut datagram);
        if house.clock.is_stopped() {
            return;
        }
        match received {
            // Two portals would answer each other for ever.
            Ok((length, peer))
                if is_an_answer(datagram.get(..length).unwrap_or(&datagram))
                    || is_this_portal(peer, socket.address()) => {}
            // The original programs ask with short datagrams.
            Ok((length, peer))
                if !house.codec.is_original()
                    && !courtesy.allows(peer.ip(), length, house.clock.now()) => {}
            Ok((_, peer)) => caught(&house.events, || {
                answer_datagram(house, socket, &mut asked, peer)
            }),
            Err(error) => back_off(&house.events, "receive a datagram", &error),
        }
    }
}

/// Whether a datagram begins as a server's answer does: then whoever sent it asks for nothing.
fn is_an_answer(datagram: &[u8]) -> bool {
    let words = datagram.trim_ascii_start();
    words.starts_with(b"<SERVER") || words.starts_with(b"SERVER")
}

/// Whether a datagram seems to come from the portal itself.
fn is_this_portal(peer: SocketAddr, here: SocketAddr) -> bool {
    let address = peer.ip().to_canonical();
    peer.port() == here.port() && (address.is_loopback() || address == here.ip().to_canonical())
}

fn answer_datagram(house: &House, socket: &Datagrams, asked: &mut AskedBefore, peer: SocketAddr) {
    let ticket = asked.ticket_again(house, peer).or_else(|| {
        let ticket = answer(house, Asker::by_datagram(peer), peer);
        asked.remember(house, peer, ticket.as_ref());
        ticket
    });
    house.may_panic("portal-udp");
    let datagram = server_datagram(&as_document(ticket.as_ref()));
    if let Err(error) = socket.send_to(&datagram, peer) {
        trouble(&house.events, "answer a datagram", &error);
    }
}

fn answer(house: &House, asker: Asker, peer: SocketAddr) -> Option<Ticket> {
    let ticket = house.reserve(asker, |ticket| {
        house.events.tell(|| What::Ticket {
            port: ticket.port,
            asker: peer,
            passcode: house.events.passcode(&ticket.passcode),
        });
    });
    if ticket.is_none() {
        house.events.tell(|| What::Full { asker: peer });
    }
    ticket
}

fn as_document(ticket: Option<&Ticket>) -> ServerDoc<'_> {
    match ticket {
        Some(Ticket { port, passcode }) => ServerDoc::Ticket {
            port: *port,
            passcode: passcode.reveal().into(),
        },
        None => ServerDoc::Full,
    }
}

/// Who got which seat by datagram, so that a client whose answer was lost gets the same one
/// again. It holds one entry a seat at most, so a flood of senders can't make it grow.
#[derive(Default)]
struct AskedBefore {
    seats: HashMap<SocketAddr, SeatNumber>,
    senders: HashMap<SeatNumber, SocketAddr>,
}

impl AskedBefore {
    fn ticket_again(&self, house: &House, peer: SocketAddr) -> Option<Ticket> {
        let post = &house.posts[self.seats.get(&peer)?.index()];
        let now = house.clock.now();
        let ticket =
            post.with_seat(|occupied| occupied.seat.ticket_again(Asker::by_datagram(peer), now))?;
        house.events.tell(|| What::TicketAgain {
            port: ticket.port,
            asker: peer,
        });
        Some(ticket)
    }

    fn remember(&mut self, house: &House, peer: SocketAddr, ticket: Option<&Ticket>) {
        let seat = ticket.and_then(|ticket| {
            house
                .posts
                .iter()
                .find(|post| post.port == ticket.port)
                .map(|post| post.number)
        });
        let Some(seat) = seat else { return };
        if let Some(before) = self.senders.insert(seat, peer)
            && self.seats.get(&before) == Some(&seat)
        {
            self.seats.remove(&before);
        }
        self.seats.insert(peer, seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_does_not_answer_itself() {
        let address = |text: &str| text.parse().unwrap();
        for (peer, here, is_it) in [
            ("127.0.0.1:50000", "0.0.0.0:50000", true),
            ("[::ffff:192.0.2.1]:50000", "192.0.2.1:50000", true),
            ("127.0.0.1:50001", "127.0.0.1:50000", false),
            ("192.0.2.2:50000", "192.0.2.1:50000", false),
        ] {
            assert_eq!(
                is_this_portal(address(peer), address(here)),
                is_it,
                "{peer} {here}"
            );
        }
    }

    #[test]
    fn what_a_portal_says_asks_for_nothing() {
        let ticket = ServerDoc::Ticket {
            port: crate::net::Port::new(50001).unwrap(),
            passcode: "abc".into(),
        };
        for answer in [
            server_datagram(&ticket),
            server_datagram(&ServerDoc::Full),
            b" \r\n\t<SERVER/>".to_vec(),
            b"SERVER>>> FULL".to_vec(),
        ] {
            assert!(is_an_answer(&answer));
        }
        for question in [
            crate::wire::portal_request(),
            b"x".to_vec(),
            Vec::new(),
            b"<CLIENT>".to_vec(),
        ] {
            assert!(!is_an_answer(&question));
        }
    }
}
