//! The states of one seat: free, reserved, greeting, seated, closing, and free again.
//!
//! ```text
//!          portal reserves              connects               right passcode
//!  Free ───────────────────▶ Reserved ───────────▶ Greeting ───────────────────▶ Seated
//!   ▲                           │ no-show             │ wrong, late, closed          │ terminate, idle,
//!   │                           │                     ▼                              ▼ total time, left
//!   └───────────────────────────┴─────────────────── Closing ◀───────────────────────┘
//!      (the passcode changes and the port token goes back)
//! ```
//!
//! If the client requests a callback, the seat goes from Greeting to Calling. From there it goes to
//! Seated when the call is answered, otherwise to Closing.
//!
//! Three threads call these methods, under the seat's lock. The portal reserves. The worker admits
//! the arrival, checks the passcode, closes and frees. The timer thread enforces the deadlines. (At
//! some entrances one thread is portal and worker; a room's seats are under the rooms' lock.)
//! Only the timer thread cancels a reservation, unless the portal revokes it or the server shuts
//! down. Only the worker goes from Closing to Free, so a session that ends late can't affect the
//! next client's reservation.

use std::net::{IpAddr, SocketAddr};

use super::{Passcode, PortToken};
use crate::clock::{Deadline, Tick, Ticks};
use portal_wire::Port;

/// The maximum duration of each phase.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(any(test, feature = "test-support"), derive(PartialEq))]
pub struct Timeouts {
    /// Time from the portal's answer to the connection.
    pub reserve: Ticks,
    /// Time from the connection to the passcode.
    pub handshake: Ticks,
    /// Time since the last activity; `None` for no limit.
    pub idle: Option<Ticks>,
    /// Interval between the warning and the idle timeout; `None` for clients that would not
    /// understand the warning.
    pub idle_soon: Option<Ticks>,
    /// Time since the connection, regardless of activity; `None` for no limit.
    pub total: Option<Ticks>,
}

impl Timeouts {
    /// Returns the idle deadline of a client that was active at `now`, and the time of the warning
    /// before it.
    fn idle_deadlines(&self, now: Tick) -> (Option<Deadline>, Option<Deadline>) {
        let idle = self.idle.map(|ticks| Deadline::after(now, ticks));
        let soon = idle.zip(self.idle_soon);
        (idle, soon.map(|(idle, soon)| idle.earlier_by(soon)))
    }

    fn seated(&self, token: PortToken, now: Tick, total: Option<Deadline>) -> SeatState {
        let (idle, idle_soon) = self.idle_deadlines(now);
        SeatState::Seated {
            token,
            idle,
            idle_soon,
            total,
        }
    }
}

/// The origin of a request for a seat, in canonical form: `::ffff:1.2.3.4` is `1.2.3.4`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asker {
    address: IpAddr,
    /// The source port, if the request was a datagram. A request from the same port repeats an
    /// earlier one whose answer may have been lost.
    datagram_port: Option<u16>,
}

impl Asker {
    /// Creates the asker of a request over TCP.
    pub fn by_connection(peer: SocketAddr) -> Asker {
        Asker {
            address: peer.ip().to_canonical(),
            datagram_port: None,
        }
    }

    /// The address of the request, in canonical form.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Creates the asker of a request over UDP.
    pub fn by_datagram(peer: SocketAddr) -> Asker {
        Asker {
            address: peer.ip().to_canonical(),
            datagram_port: Some(peer.port()),
        }
    }
}

/// The portal's answer to a client: the port to connect to and the passcode to send there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The worker's port.
    pub port: Port,
    /// The passcode, valid for one connection to this port.
    pub passcode: Passcode,
}

/// The result of a connection to the seat's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The seat is reserved for this address. The client may send the passcode, once.
    Expected,
    /// The seat is not reserved for this address. The caller must be rejected; the seat is
    /// unchanged.
    Unexpected,
}

/// The session that a client requests along with its passcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeatRequest {
    /// A session on this connection.
    Stay,
    /// A session on another connection, which the server opens to the client.
    BeCalled,
}

/// The result of a caller's first frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The passcode was right. The seat is now seated or calling.
    Admitted,
    /// The frame was not the passcode. There is no second attempt: the seat is closing.
    Refused,
    /// The seat was already closed, by a timeout or by the server's shutdown.
    TooLate,
}

/// The effect of a deadline that has passed.
#[derive(PartialEq, Eq, Debug)]
pub enum Expiry {
    /// The client with the reservation did not connect in time. The passcode has changed and the
    /// seat is free. The port token must be pushed.
    NoShow(PortToken),
    /// The client connected, but did not send the passcode in time. The seat is closing.
    Handshake,
    /// The callback was not answered in time. The seat is closing.
    NoAnswer,
    /// The idle timeout is near. The seat is unchanged, except that it gives no further warning
    /// until the next activity.
    IdleSoon,
    /// The client was idle for too long. The seat is closing.
    Idle,
    /// The client has reached the total time limit. The seat is closing.
    Total,
}

/// The phase of a seat, without its data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Phase {
    /// The port is on the stack or held by a thread.
    #[default]
    Free,
    /// Reserved for an asker that has not connected yet.
    Reserved,
    /// A client is connected and has not sent the passcode yet.
    Greeting,
    /// The client has sent the passcode, and the server is calling it back.
    Calling,
    /// The client has been admitted, and its session runs.
    Seated,
    /// The session is over and the worker is cleaning up.
    Closing,
}

impl Phase {
    /// The name of the phase on the board.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Free => "free",
            Phase::Reserved => "reserved",
            Phase::Greeting => "greeting",
            Phase::Calling => "calling",
            Phase::Seated => "seated",
            Phase::Closing => "closing",
        }
    }
}

/// One seat: its passcode and its state.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "test-support"), derive(Clone, PartialEq))]
pub struct Seat {
    passcode: Passcode,
    timeouts: Timeouts,
    state: SeatState,
    /// The seat can no longer be reserved or taken: it is free, or its client is leaving.
    barred: bool,
}

#[derive(Debug)]
#[cfg_attr(any(test, feature = "test-support"), derive(Clone, PartialEq))]
enum SeatState {
    Free,
    Reserved {
        token: PortToken,
        asker: Asker,
        until: Deadline,
    },
    Greeting {
        token: PortToken,
        until: Deadline,
        total: Option<Deadline>,
    },
    Calling {
        token: PortToken,
        until: Deadline,
        total: Option<Deadline>,
    },
    Seated {
        token: PortToken,
        idle: Option<Deadline>,
        /// The time of the next idle warning, if one is due.
        idle_soon: Option<Deadline>,
        total: Option<Deadline>,
    },
    Closing {
        token: PortToken,
    },
}

impl Seat {
    /// Creates a free seat. Its port token is on the stack.
    pub fn new(passcode: Passcode, timeouts: Timeouts) -> Seat {
        Seat {
            passcode,
            timeouts,
            state: SeatState::Free,
            barred: false,
        }
    }

    /// Reserves the seat for `asker` and returns the ticket for it.
    ///
    /// # Errors
    /// Returns the port token if the seat is not free or the server is shutting down. In practice
    /// only a shutdown causes this, because a seat whose token was on the stack is free.
    pub fn reserve(
        &mut self,
        token: PortToken,
        asker: Asker,
        now: Tick,
    ) -> Result<Ticket, PortToken> {
        if self.barred || !matches!(self.state, SeatState::Free) {
            return Err(token);
        }
        let port = token.port();
        let until = Deadline::after(now, self.timeouts.reserve);
        self.state = SeatState::Reserved {
            token,
            asker,
            until,
        };
        Ok(Ticket {
            port,
            passcode: self.passcode.clone(),
        })
    }

    /// Takes the seat at an entrance that requires no reservation and no passcode
    /// (`--single-port`).
    ///
    /// # Errors
    /// Returns the port token, like [`Seat::reserve`].
    pub fn occupy(&mut self, token: PortToken, now: Tick) -> Result<(), PortToken> {
        if self.barred || !matches!(self.state, SeatState::Free) {
            return Err(token);
        }
        let total = self.timeouts.total.map(|ticks| Deadline::after(now, ticks));
        self.state = self.timeouts.seated(token, now, total);
        Ok(())
    }

    /// Takes the seat for a connected caller and returns the ticket for it, at an entrance where
    /// one connection serves as portal and as worker. No arrival follows, so the passcode is due
    /// within the reservation timeout. Until then, connections to the seat's own port are rejected.
    ///
    /// # Errors
    /// Returns the port token, like [`Seat::reserve`].
    pub fn begin_handshake(&mut self, token: PortToken, now: Tick) -> Result<Ticket, PortToken> {
        if self.barred || !matches!(self.state, SeatState::Free) {
            return Err(token);
        }
        let port = token.port();
        self.state = SeatState::Greeting {
            token,
            until: Deadline::after(now, self.timeouts.reserve),
            total: self.timeouts.total.map(|ticks| Deadline::after(now, ticks)),
        };
        Ok(Ticket {
            port,
            passcode: self.passcode.clone(),
        })
    }

    /// Returns the same ticket to a UDP client that repeats its request during its reservation,
    /// because the first answer may have been lost. This does not extend the reservation.
    pub(crate) fn ticket_again(&self, asker: Asker, now: Tick) -> Option<Ticket> {
        match &self.state {
            SeatState::Reserved {
                token,
                asker: first,
                until,
            } if *first == asker && asker.datagram_port.is_some() && !until.is_past(now) => {
                Some(Ticket {
                    port: token.port(),
                    passcode: self.passcode.clone(),
                })
            }
            _ => None,
        }
    }

    /// Returns whether [`Seat::arrive`] from `address` and then [`Seat::check_passcode`] with
    /// `passcode` would admit the caller. If many seats share a port, this finds the right one.
    pub fn would_admit(&self, address: IpAddr, passcode: &str, now: Tick) -> bool {
        match &self.state {
            SeatState::Reserved { asker, until, .. } => {
                asker.address == address.to_canonical()
                    && !until.is_past(now)
                    && self.passcode.matches(passcode)
            }
            _ => false,
        }
    }

    /// Handles a connection from `address` to the seat's port.
    pub fn arrive(&mut self, address: IpAddr, now: Tick) -> Arrival {
        match &self.state {
            SeatState::Reserved { asker, until, .. }
                if asker.address == address.to_canonical() && !until.is_past(now) => {}
            _ => return Arrival::Unexpected,
        }
        let until = Deadline::after(now, self.timeouts.handshake);
        let total = self.timeouts.total.map(|ticks| Deadline::after(now, ticks));
        if let Some(token) = self.free_and_take_token() {
            self.state = SeatState::Greeting {
                token,
                until,
                total,
            };
        }
        Arrival::Expected
    }

    /// Restarts the handshake timeout after the caller's connection is encrypted, so that the
    /// passcode gets the full timeout.
    pub(crate) fn hands_shaken(&mut self, now: Tick) {
        if let SeatState::Greeting { until, .. } = &mut self.state {
            *until = Deadline::after(now, self.timeouts.handshake);
        }
    }

    /// Checks the passcode in the caller's first frame; `None` if the frame was anything else. A
    /// callback may take as long as a reservation.
    pub fn check_passcode(
        &mut self,
        passcode: Option<&str>,
        wish: SeatRequest,
        now: Tick,
    ) -> Verdict {
        let SeatState::Greeting { total, .. } = &self.state else {
            return Verdict::TooLate;
        };
        let total = *total;
        let right = passcode.is_some_and(|passcode| self.passcode.matches(passcode));
        let Some(token) = self.free_and_take_token() else {
            return Verdict::TooLate;
        };
        if !right {
            self.state = SeatState::Closing { token };
            return Verdict::Refused;
        }
        self.state = match wish {
            SeatRequest::Stay => self.timeouts.seated(token, now, total),
            SeatRequest::BeCalled => SeatState::Calling {
                token,
                until: Deadline::after(now, self.timeouts.reserve),
                total,
            },
        };
        Verdict::Admitted
    }

    /// Admits the client after it has answered the callback. Returns false if the seat was already
    /// closed.
    pub fn answered(&mut self, now: Tick) -> bool {
        let SeatState::Calling { total, .. } = &self.state else {
            return false;
        };
        let total = *total;
        if let Some(token) = self.free_and_take_token() {
            self.state = self.timeouts.seated(token, now, total);
        }
        true
    }

    /// Restarts the idle timeout.
    pub fn touch(&mut self, now: Tick) {
        if let SeatState::Seated {
            idle, idle_soon, ..
        } = &mut self.state
        {
            (*idle, *idle_soon) = self.timeouts.idle_deadlines(now);
        }
    }

    /// Applies the deadline that has passed at `now`, if any. `next` creates the passcode that
    /// follows a no-show.
    pub fn expire(&mut self, now: Tick, next: impl FnOnce() -> Passcode) -> Option<Expiry> {
        let past =
            |deadline: Option<Deadline>| deadline.is_some_and(|deadline| deadline.is_past(now));
        let expiry = match &self.state {
            SeatState::Reserved { until, .. } if until.is_past(now) => {
                // Create the passcode first: if that panics, nothing has changed.
                let next = next();
                let token = self.free_and_take_token()?;
                self.passcode = next;
                return Some(Expiry::NoShow(token));
            }
            SeatState::Greeting { until, .. } if until.is_past(now) => Expiry::Handshake,
            SeatState::Calling { until, .. } if until.is_past(now) => Expiry::NoAnswer,
            SeatState::Seated { total, .. } if past(*total) => Expiry::Total,
            SeatState::Seated { idle, .. } if past(*idle) => Expiry::Idle,
            SeatState::Seated { idle_soon, .. } if past(*idle_soon) => Expiry::IdleSoon,
            _ => return None,
        };
        if expiry == Expiry::IdleSoon {
            if let SeatState::Seated { idle_soon, .. } = &mut self.state {
                *idle_soon = None;
            }
        } else {
            self.close();
        }
        Some(expiry)
    }

    /// Revokes the reservation of a caller that turned out not to be a client. If `passcode` is
    /// still the reservation's, replaces it with `next`, frees the seat, and returns the port token
    /// to push.
    pub(crate) fn revoke(
        &mut self,
        passcode: &Passcode,
        next: impl FnOnce() -> Passcode,
    ) -> Option<PortToken> {
        if !matches!(self.state, SeatState::Reserved { .. }) || self.passcode != *passcode {
            return None;
        }
        // Create the passcode first: if that panics, nothing has changed.
        let next = next();
        let token = self.free_and_take_token()?;
        self.passcode = next;
        Some(token)
    }

    /// Ends the session, for any reason. The worker cleans up and then frees the seat. Does nothing
    /// if no client is connected.
    pub fn close(&mut self) {
        if matches!(
            self.state,
            SeatState::Greeting { .. } | SeatState::Calling { .. } | SeatState::Seated { .. }
        ) && let Some(token) = self.free_and_take_token()
        {
            self.state = SeatState::Closing { token };
        }
    }

    /// Frees a closing seat after the worker has cleaned up. Sets the passcode to `next` and
    /// returns the port token to push. If the seat is not closing, changes nothing and returns
    /// `None`.
    pub fn free(&mut self, next: Passcode) -> Option<PortToken> {
        if !matches!(self.state, SeatState::Closing { .. }) {
            return None;
        }
        self.passcode = next;
        self.free_and_take_token()
    }

    /// Closes the seat for good, at shutdown or because a member has left its room. A reservation is
    /// canceled, and its port token is returned to be pushed.
    pub fn bar(&mut self) -> Option<PortToken> {
        self.barred = true;
        self.close();
        if matches!(self.state, SeatState::Reserved { .. }) {
            self.free_and_take_token()
        } else {
            None
        }
    }

    /// The next deadline, for the timer's alarm.
    pub fn deadline(&self) -> Option<Deadline> {
        match &self.state {
            SeatState::Free | SeatState::Closing { .. } => None,
            SeatState::Reserved { until, .. }
            | SeatState::Greeting { until, .. }
            | SeatState::Calling { until, .. } => Some(*until),
            SeatState::Seated {
                idle,
                idle_soon,
                total,
                ..
            } => idle.iter().chain(idle_soon).chain(total).min().copied(),
        }
    }

    /// The seat's phase.
    pub fn phase(&self) -> Phase {
        match &self.state {
            SeatState::Free => Phase::Free,
            SeatState::Reserved { .. } => Phase::Reserved,
            SeatState::Greeting { .. } => Phase::Greeting,
            SeatState::Calling { .. } => Phase::Calling,
            SeatState::Seated { .. } => Phase::Seated,
            SeatState::Closing { .. } => Phase::Closing,
        }
    }

    /// Frees the seat and returns the port token, if the seat had one.
    fn free_and_take_token(&mut self) -> Option<PortToken> {
        match std::mem::replace(&mut self.state, SeatState::Free) {
            SeatState::Free => None,
            SeatState::Reserved { token, .. }
            | SeatState::Greeting { token, .. }
            | SeatState::Calling { token, .. }
            | SeatState::Seated { token, .. }
            | SeatState::Closing { token } => Some(token),
        }
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seat::WorkloadStack;
    use std::time::Duration;

    const HERE: &str = "127.0.0.1";
    const THERE: &str = "127.0.0.2";

    fn seconds(count: u64) -> Ticks {
        Ticks::covering(Duration::from_secs(count), Duration::from_secs(1))
    }

    fn seat() -> (Seat, WorkloadStack) {
        let timeouts = Timeouts {
            reserve: seconds(2),
            handshake: seconds(1),
            idle: Some(seconds(5)),
            idle_soon: None,
            total: Some(seconds(8)),
        };
        (
            Seat::new(Passcode::from_bits(1), timeouts),
            WorkloadStack::new(Port::new(50001)),
        )
    }

    fn asker() -> Asker {
        Asker::by_connection(format!("{HERE}:4000").parse().unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn reserved() -> (Seat, WorkloadStack, Ticket) {
        let (mut seat, mut stack) = seat();
        let ticket = seat
            .reserve(stack.pop().unwrap(), asker(), Tick(0))
            .unwrap();
        (seat, stack, ticket)
    }

    fn seated() -> Seat {
        let (mut seat, _, ticket) = reserved();
        assert_eq!(seat.arrive(ip(HERE), Tick(0)), Arrival::Expected);
        assert_eq!(
            seat.check_passcode(Some(ticket.passcode.reveal()), SeatRequest::Stay, Tick(0)),
            Verdict::Admitted
        );
        seat
    }

    #[test]
    fn a_seat_is_reserved_taken_and_freed() {
        let mut seat = seated();
        assert_eq!(seat.phase(), Phase::Seated);
        seat.close();
        assert_eq!(seat.phase(), Phase::Closing);
        let token = seat.free(Passcode::from_bits(2)).unwrap();
        assert_eq!((token.port().get(), seat.phase()), (50001, Phase::Free));
        assert_eq!(
            seat.free(Passcode::from_bits(3)),
            None,
            "freed exactly once"
        );
    }

    /// The `next` of tests in which no reservation can expire.
    fn never() -> Passcode {
        panic!("no passcode is created")
    }

    fn calling() -> Seat {
        let (mut seat, _, ticket) = reserved();
        seat.arrive(ip(HERE), Tick(0));
        let passcode = Some(ticket.passcode.reveal());
        assert_eq!(
            seat.check_passcode(passcode, SeatRequest::BeCalled, Tick(1)),
            Verdict::Admitted
        );
        assert_eq!(seat.phase(), Phase::Calling);
        seat
    }

    #[test]
    fn an_answered_callback_starts_a_session_timed_from_the_first_connection() {
        let mut seat = calling();
        assert!(seat.answered(Tick(2)));
        assert!(!seat.answered(Tick(2)), "once");
        assert_eq!(seat.phase(), Phase::Seated);
        assert_eq!(seat.expire(Tick(7), never), None);
        seat.touch(Tick(7));
        assert_eq!(seat.expire(Tick(8), never), None);
        assert_eq!(seat.expire(Tick(9), never), Some(Expiry::Total));
    }

    #[test]
    fn an_unanswered_callback_ends_at_the_reservation_timeout() {
        let mut seat = calling();
        assert_eq!(seat.expire(Tick(3), never), None);
        assert_eq!(seat.expire(Tick(4), never), Some(Expiry::NoAnswer));
        assert!(!seat.answered(Tick(4)), "too late");
        assert!(seat.free(Passcode::from_bits(2)).is_some());
    }

    #[test]
    fn a_no_show_changes_the_passcode_and_returns_the_token_once() {
        let (mut seat, mut stack, first) = reserved();
        assert_eq!(
            seat.expire(Tick(2), || Passcode::from_bits(2)),
            None,
            "two ticks are in time"
        );
        let Some(Expiry::NoShow(token)) = seat.expire(Tick(3), || Passcode::from_bits(2)) else {
            panic!("the reservation should have ended")
        };
        assert_eq!(seat.expire(Tick(4), || Passcode::from_bits(3)), None);
        stack.push(token);
        let second = seat
            .reserve(stack.pop().unwrap(), asker(), Tick(4))
            .unwrap();
        assert_ne!(first.passcode, second.passcode);
    }

    #[test]
    fn an_unexpected_connection_changes_nothing() {
        let (mut seat, _, ticket) = reserved();
        assert_eq!(seat.arrive(ip(THERE), Tick(1)), Arrival::Unexpected);
        assert_eq!(seat.phase(), Phase::Reserved);
        assert_eq!(
            seat.arrive(ip("::ffff:127.0.0.1"), Tick(1)),
            Arrival::Expected,
            "canonical form"
        );
        assert_eq!(
            seat.arrive(ip(HERE), Tick(1)),
            Arrival::Unexpected,
            "one chance"
        );
        assert_eq!(
            seat.check_passcode(Some(ticket.passcode.reveal()), SeatRequest::Stay, Tick(1)),
            Verdict::Admitted
        );
    }

    #[test]
    fn only_the_asker_with_the_passcode_in_time_would_be_admitted() {
        let (seat, _, ticket) = reserved();
        let right = ticket.passcode.reveal();
        let wrong = Passcode::from_bits(2);
        for (address, passcode, now, admits) in [
            (HERE, right, 2, true),
            ("::ffff:127.0.0.1", right, 2, true),
            (THERE, right, 2, false),
            (HERE, right, 3, false),
            (HERE, wrong.reveal(), 2, false),
        ] {
            let would_admit = seat.would_admit(ip(address), passcode, Tick(now));
            assert_eq!(would_admit, admits, "{address} {passcode} {now}");
        }
        assert!(
            !seated().would_admit(ip(HERE), right, Tick(1)),
            "it is taken"
        );
    }

    #[test]
    fn an_encrypted_connection_has_the_whole_handshake_timeout_for_its_passcode() {
        let (mut seat, _, ticket) = reserved();
        seat.arrive(ip(HERE), Tick(0));
        seat.hands_shaken(Tick(1));
        assert_eq!(seat.expire(Tick(2), never), None);
        let passcode = Some(ticket.passcode.reveal());
        let verdict = seat.check_passcode(passcode, SeatRequest::Stay, Tick(2));
        assert_eq!(verdict, Verdict::Admitted);
    }

    #[test]
    fn a_handshake_begins_only_at_a_free_seat() {
        let (mut seat, mut stack) = seat();
        let token = stack.pop().unwrap();
        let ticket = seat.begin_handshake(token.clone(), Tick(0)).unwrap();
        assert_eq!((ticket.port, seat.phase()), (token.port(), Phase::Greeting));
        for mut taken in [seat.clone(), seated(), reserved().0] {
            let state = taken.clone();
            assert_eq!(
                taken.begin_handshake(token.clone(), Tick(0)),
                Err(token.clone())
            );
            assert_eq!(taken, state, "and nothing has changed");
        }
        seat.close();
        seat.free(Passcode::from_bits(2)).unwrap();
        seat.bar();
        assert_eq!(seat.begin_handshake(token.clone(), Tick(0)), Err(token));
    }

    #[test]
    fn any_other_first_frame_closes_the_seat() {
        for passcode in [None, Some(""), Some("00000000000000000000000000000002")] {
            let (mut seat, _, _) = reserved();
            seat.arrive(ip(HERE), Tick(0));
            assert_eq!(
                seat.check_passcode(passcode, SeatRequest::Stay, Tick(0)),
                Verdict::Refused
            );
            assert_eq!(seat.phase(), Phase::Closing);
            assert_eq!(
                seat.check_passcode(
                    Some(Passcode::from_bits(1).reveal()),
                    SeatRequest::Stay,
                    Tick(0)
                ),
                Verdict::TooLate
            );
        }
    }

    #[test]
    fn each_deadline_fires_in_its_phase() {
        let none = || -> Passcode { panic!("only a no-show changes the passcode here") };
        let (mut greeting, _, _) = reserved();
        greeting.arrive(ip(HERE), Tick(0));
        assert_eq!(greeting.expire(Tick(1), none), None);
        assert_eq!(greeting.expire(Tick(2), none), Some(Expiry::Handshake));

        let mut idle = seated();
        assert_eq!(idle.expire(Tick(5), none), None);
        assert_eq!(idle.expire(Tick(6), none), Some(Expiry::Idle));

        let mut active = seated();
        active.touch(Tick(5));
        assert_eq!(active.expire(Tick(8), none), None);
        assert_eq!(
            active.expire(Tick(9), none),
            Some(Expiry::Total),
            "however active"
        );
    }

    #[test]
    fn an_idle_client_is_warned_once_per_idle_period() {
        let (mut seat, mut stack) = seat();
        seat.timeouts.idle_soon = Some(seconds(2));
        seat.timeouts.total = None;
        seat.occupy(stack.pop().unwrap(), Tick(0)).unwrap();
        assert_eq!(seat.deadline().map(Deadline::fires_at), Some(Tick(4)));
        assert_eq!(seat.expire(Tick(3), never), None);
        assert_eq!(seat.expire(Tick(4), never), Some(Expiry::IdleSoon));
        assert_eq!(seat.phase(), Phase::Seated);
        assert_eq!(seat.expire(Tick(5), never), None, "once");
        assert_eq!(seat.deadline().map(Deadline::fires_at), Some(Tick(6)));
        seat.touch(Tick(5));
        assert_eq!(seat.expire(Tick(8), never), None);
        assert_eq!(seat.expire(Tick(9), never), Some(Expiry::IdleSoon));
        assert_eq!(seat.expire(Tick(11), never), Some(Expiry::Idle));
    }

    #[test]
    fn only_a_datagram_from_the_same_socket_repeats_the_ticket() {
        let (mut seat, mut stack) = seat();
        let socket = "127.0.0.1:4000".parse().unwrap();
        let other = "127.0.0.1:4001".parse().unwrap();
        let ticket = seat
            .reserve(stack.pop().unwrap(), Asker::by_datagram(socket), Tick(0))
            .unwrap();
        assert_eq!(
            seat.ticket_again(Asker::by_datagram(socket), Tick(0)),
            Some(ticket)
        );
        assert_eq!(seat.ticket_again(Asker::by_datagram(other), Tick(0)), None);
        seat.arrive(ip(HERE), Tick(0));
        assert_eq!(
            seat.ticket_again(Asker::by_datagram(socket), Tick(0)),
            None,
            "the reservation is over"
        );
        let (by_connection, ..) = reserved();
        assert_eq!(by_connection.ticket_again(asker(), Tick(0)), None);
    }

    #[test]
    fn a_seat_without_reservation_is_taken_once_and_timed() {
        let (mut seat, mut stack) = seat();
        seat.occupy(stack.pop().unwrap(), Tick(0)).unwrap();
        let mut other = WorkloadStack::new(Port::new(50002));
        let refused = seat.occupy(other.pop().unwrap(), Tick(0)).unwrap_err();
        let none = || -> Passcode { panic!("only a no-show changes the passcode here") };
        assert_eq!(seat.expire(Tick(6), none), Some(Expiry::Idle));
        assert!(seat.free(Passcode::from_bits(2)).is_some());
        seat.bar();
        assert!(seat.occupy(refused, Tick(0)).is_err(), "barred");
    }

    #[test]
    fn a_barred_seat_admits_no_client_and_returns_its_token() {
        let (mut seat, mut stack, _) = reserved();
        stack.push(seat.bar().unwrap());
        assert!(
            seat.reserve(stack.pop().unwrap(), asker(), Tick(0))
                .is_err()
        );
        let mut connection = seated();
        assert_eq!(connection.bar(), None);
        assert_eq!(connection.phase(), Phase::Closing);
    }
}
