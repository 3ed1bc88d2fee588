//! The portal: sends each caller a free worker's port and the passcode for it (seed 000, rules 2,
//! 5a and 7), over TCP or UDP.
//!
//! It never waits for a caller. Over TCP it sends its answer and closes the connection, unless a
//! request in another protocol has already arrived; over UDP it answers each datagram with a single
//! datagram. If an answer is lost, the caller's reservation expires.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use crate::accept_loop::{AcceptLoop, back_off, trouble};
use crate::clock::{Clock, Tick};
use crate::event::CoreEvent;
use crate::guard::udp_reply_limit::{UdpReply, UdpReplyLimit, longest_answer};
use crate::limits;
use crate::panics::Panics;
use crate::seat::{Asker, SeatNumber, Ticket};
use crate::seats::Seats;
use crate::service::Refusal;
use crate::transport::Transport;
use portal_net::{Datagrams, Listener, Port, Stream, host_of};
use portal_wire::{ServerDoc, server_datagram};

/// The portal's answer to a caller.
pub enum PortalReply {
    /// A seat is reserved.
    Ticket(Ticket),
    /// There is no free seat.
    Full,
    /// The caller's address is banned.
    Banned(Refusal),
}

/// The state shared by the TCP and UDP portals.
#[derive(Clone)]
pub struct Portal {
    /// The seats to reserve.
    pub seats: Arc<Seats>,
    /// Accepts callers and builds their answers.
    pub accept_loop: AcceptLoop,
    /// The portal stops when this clock stops.
    pub clock: Clock,
    /// Catches panics.
    pub panics: Panics,
    /// True if even datagrams that are shorter than the longest answer are answered.
    pub takes_short_datagrams: bool,
}

impl Portal {
    /// The TCP portal's thread: accepts until the clock stops.
    pub fn run_tcp(&self, listener: &Listener) {
        let is_over = || self.clock.is_stopped();
        let port = listener.port();
        let mut answered = RecentTickets::default();
        self.accept_loop
            .accept_each(listener, is_over, |stream, peer| {
                self.panics.caught(|| {
                    // Do this before serving the caller, so that the caller can get the seat of a
                    // revoked ticket.
                    for ticket in answered.screened(&*self.accept_loop.transport, port) {
                        self.seats.revoke(&ticket);
                    }
                    let Some(stream) = self.accept_loop.transport.screen(stream, port) else {
                        return;
                    };
                    let answer = self.answer(Asker::by_connection(peer), peer);
                    self.panics.fail_point("portal-tcp");
                    let document = self.as_document(&answer);
                    let document = self.accept_loop.transport.last_word(&document);
                    match answer {
                        PortalReply::Full | PortalReply::Banned(_) => {
                            stream.send_and_close(&document)
                        }
                        PortalReply::Ticket(ticket) => {
                            let _ = stream.send_now(&document);
                            let _ = stream.shutdown(Shutdown::Write);
                            answered.add(ticket, stream);
                        }
                    }
                });
            });
    }

    /// The UDP portal's thread: answers datagrams until the clock stops. It ignores their content.
    pub fn run_udp(&self, socket: &Datagrams) {
        let mut asked = AskedBefore::default();
        let mut courtesy = UdpReplyLimit::new();
        let mut datagram = [0; limits::DATAGRAM];
        let least = if self.takes_short_datagrams {
            0
        } else {
            longest_answer()
        };
        loop {
            let received = socket.recv_question(&mut datagram);
            if self.clock.is_stopped() {
                return;
            }
            let (length, question) = match received {
                Ok(received) => received,
                Err(error) => {
                    back_off(&self.accept_loop.events, "receive a datagram", &error);
                    continue;
                }
            };
            let (peer, request) = (question.peer, datagram.get(..length).unwrap_or(&datagram));
            // Otherwise two portals would answer each other forever.
            if is_an_answer(request) || is_this_portal(peer, socket.address()) {
                continue;
            }
            if length < least && !peer.ip().to_canonical().is_loopback() {
                continue;
            }
            self.panics.caught(|| {
                let Some(answer) = self.answer_to(peer, &mut asked, &mut courtesy) else {
                    return;
                };
                self.panics.fail_point("portal-udp");
                let answer = match answer {
                    // The original programs know no other refusal.
                    PortalReply::Banned(_) if self.takes_short_datagrams => PortalReply::Full,
                    answer => answer,
                };
                let answer = datagram_for(&answer);
                if let Err(error) = socket.answer(&answer, &question) {
                    trouble(&self.accept_loop.events, "answer a datagram", &error);
                }
            });
        }
    }

    /// Returns the answer to a datagram, if there is one.
    fn answer_to(
        &self,
        peer: SocketAddr,
        asked: &mut AskedBefore,
        courtesy: &mut UdpReplyLimit,
    ) -> Option<PortalReply> {
        let now = self.clock.now();
        let mut allows = |answer| courtesy.allows(peer.ip(), answer, now);
        let before = asked.seats.get(&peer);
        if let Some(ticket) = before.and_then(|&seat| self.ticket_of(peer, seat, now)) {
            if !allows(UdpReply::Again) {
                return None;
            }
            self.accept_loop.events.emit(|| CoreEvent::TicketResent {
                port: ticket.port,
                asker: peer,
            });
            return Some(PortalReply::Ticket(ticket));
        }
        let host = host_of(peer.ip());
        let of_host = asked
            .seats
            .iter()
            .filter(|(there, _)| host_of(there.ip()) == host);
        let is_unused = |(there, seat): &(&SocketAddr, &SeatNumber)| {
            self.ticket_of(**there, **seat, now).is_some()
        };
        let unused = of_host.filter(is_unused).count();
        if !allows(UdpReply::Ticket { unused }) {
            return None;
        }
        let answer = self.answer(Asker::by_datagram(peer), peer);
        match &answer {
            PortalReply::Ticket(ticket) => {
                let mut seats = self.seats.all().iter();
                if let Some(seat) = seats.find(|seat| seat.port == ticket.port) {
                    asked.remember(peer, seat.number);
                }
            }
            PortalReply::Full | PortalReply::Banned(_) if !allows(UdpReply::Full) => return None,
            PortalReply::Full | PortalReply::Banned(_) => {}
        }
        Some(answer)
    }

    /// Reserves a seat for `asker`, or emits an event that states why it can't.
    pub fn answer(&self, asker: Asker, peer: SocketAddr) -> PortalReply {
        let events = &self.accept_loop.events;
        let now = self.clock.now();
        if let Some(refusal) = self.accept_loop.check_ban(peer, now) {
            return PortalReply::Banned(refusal);
        }
        let reply = |ticket: &Ticket| {
            events.emit(|| CoreEvent::Ticket {
                port: ticket.port,
                asker: peer,
                passcode: events.passcode(&ticket.passcode),
                via: None,
            });
        };
        let held = self.seats.take(asker.address());
        let ticket = held.ok().and_then(|held| {
            self.panics.fail_point("portal");
            self.seats.reserve(held, asker, now, reply)
        });
        if ticket.is_none() {
            events.emit(|| CoreEvent::Full { asker: peer });
        }
        ticket.map_or(PortalReply::Full, PortalReply::Ticket)
    }

    /// The document for an answer.
    pub fn as_document<'t>(&self, answer: &'t PortalReply) -> ServerDoc<'t> {
        match answer {
            PortalReply::Ticket(ticket) => as_ticket(ticket),
            PortalReply::Full => self.accept_loop.full(),
            PortalReply::Banned(refusal) => refusal.doc(),
        }
    }

    /// The unused ticket of `peer` for this seat.
    fn ticket_of(&self, peer: SocketAddr, seat: SeatNumber, now: Tick) -> Option<Ticket> {
        let asker = Asker::by_datagram(peer);
        self.seats
            .seat(seat)?
            .with_seat(|occupied| occupied.seat.ticket_again(asker, now))
    }
}

/// Returns whether a datagram begins like a server's answer, in which case its sender is not asking
/// for a seat.
fn is_an_answer(datagram: &[u8]) -> bool {
    let words = datagram.trim_ascii_start();
    words.starts_with(b"<SERVER") || words.starts_with(b"SERVER")
}

/// Returns whether a datagram seems to come from the portal itself.
fn is_this_portal(peer: SocketAddr, here: SocketAddr) -> bool {
    let address = peer.ip().to_canonical();
    peer.port() == here.port() && (address.is_loopback() || address == here.ip().to_canonical())
}

/// The datagram for an answer. It never redirects to another server, because the sender's address
/// may be forged, and is never longer than a ticket, so it can't be used for amplification.
fn datagram_for(answer: &PortalReply) -> Vec<u8> {
    match answer {
        PortalReply::Ticket(ticket) => server_datagram(&as_ticket(ticket)),
        PortalReply::Full => server_datagram(&ServerDoc::Full),
        PortalReply::Banned(refusal) => {
            let mut refusal = refusal.clone();
            let mut datagram = server_datagram(&refusal.doc());
            while datagram.len() > longest_answer() && refusal.sentence.pop().is_some() {
                datagram = server_datagram(&refusal.doc());
            }
            datagram
        }
    }
}

fn as_ticket(Ticket { port, passcode }: &Ticket) -> ServerDoc<'_> {
    ServerDoc::Ticket {
        port: *port,
        passcode: passcode.reveal().into(),
    }
}

/// Callers that have received a ticket and may turn out to use another protocol. The portal sends
/// first, so such a request may arrive after its ticket was sent. The portal does not wait for it,
/// but checks when the next caller connects. Most clients have closed their connection before that.
/// The oldest callers are forgotten, and their reservations expire.
#[derive(Default)]
struct RecentTickets {
    callers: VecDeque<(Ticket, Stream)>,
}

impl RecentTickets {
    /// Maximum number of remembered callers; each costs a descriptor.
    const MOST: usize = 64;

    fn add(&mut self, ticket: Ticket, stream: Stream) {
        if self.callers.len() == RecentTickets::MOST {
            self.callers.pop_front();
        }
        self.callers.push_back((ticket, stream));
    }

    /// Removes callers that have sent data or closed the connection. Returns the tickets of those
    /// that use another protocol.
    fn screened(&mut self, transport: &dyn Transport, port: Port) -> Vec<Ticket> {
        let mut foreign = Vec::new();
        for (ticket, stream) in std::mem::take(&mut self.callers) {
            let Some(stream) = transport.screen(stream, port) else {
                foreign.push(ticket);
                continue;
            };
            let nothing = stream.peek_now(&mut [0]);
            if nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.callers.push_back((ticket, stream));
            } else {
                // Read the input: otherwise the kernel resets the connection and the ticket may be
                // lost.
                stream.drain();
            }
        }
        foreign
    }
}

/// The seat assigned to each address by datagram. A client whose answer was lost gets the same seat
/// again. There is at most one entry per seat, so a flood of senders can't make it grow.
#[derive(Default)]
struct AskedBefore {
    seats: HashMap<SocketAddr, SeatNumber>,
    senders: HashMap<SeatNumber, SocketAddr>,
}

impl AskedBefore {
    fn remember(&mut self, peer: SocketAddr, seat: SeatNumber) {
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
    fn a_portals_answer_is_not_a_request() {
        let ticket = ServerDoc::Ticket {
            port: portal_net::Port::new(50001).unwrap(),
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
            portal_wire::portal_request(),
            b"x".to_vec(),
            Vec::new(),
            b"<CLIENT>".to_vec(),
        ] {
            assert!(!is_an_answer(&question));
        }
    }
}
