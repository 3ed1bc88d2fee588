//! A worker's timer: a thread that enforces the seat's deadlines and flushes output that did not
//! fit into a full socket.
//!
//! The worker can't do either, because it is blocked in a read. The timer blocks on one channel,
//! which carries the ticks at which a deadline is due, and an outbox's notifications that there is
//! output to flush. It compares deadlines with the tick that arrived on the channel. It ends a
//! session by shutting the socket down, which makes the worker's read return.

use std::sync::Arc;

use crate::clock::{Tick, TimerSubscription};
use crate::connection::Connection;
use crate::event::{CoreEvent, Events};
use crate::guard::keepalive::KeepaliveAction;
use crate::notify::Notification;
use crate::outbox::Flush;
use crate::panics::Panics;
use crate::seat::Expiry;
use crate::seats::{Seats, SharedSeat};
use portal_wire::{CloseReason, ServerDoc};

/// The client did not accept the connection that it had asked for.
pub const NO_ANSWER: CloseReason = CloseReason::Entrance("no-answer");

/// The state shared by all workers' timers.
#[derive(Clone)]
pub struct SeatTimer {
    /// All seats.
    pub seats: Arc<Seats>,
    /// Emits events.
    pub events: Events,
    /// Catches panics.
    pub panics: Panics,
    /// Time of the warning, in seconds before the idle timeout; `None` for no warning.
    pub idle_soon: Option<u64>,
}

impl SeatTimer {
    /// The timer's thread: runs until the clock stops, then disconnects its client.
    pub fn run(&self, seat: &SharedSeat, timer: &TimerSubscription) {
        let mut now = Tick::default();
        let mut is_stopped = false;
        while !is_stopped {
            let end = self.panics.ended_by(|| {
                self.run_until_stop(seat, timer, &mut now);
                is_stopped = true;
                CloseReason::Shutdown
            });
            if !is_stopped && let Some(connection) = seat.connection() {
                connection.outbox.cut(end);
            }
        }
        self.shut_down(seat);
    }

    /// Enforces the deadlines at each tick, and flushes spilled output, until the clock stops. Each
    /// write takes at most a tick, and the channel is read between two writes, so a full socket
    /// does not delay a deadline.
    fn run_until_stop(&self, seat: &SharedSeat, timer: &TimerSubscription, now: &mut Tick) {
        let notifications = timer.notifications();
        let mut left = Flush::Done;
        loop {
            let wake = if left == Flush::More {
                notifications.try_next().unwrap_or(Notification::Work)
            } else {
                notifications.next()
            };
            self.panics.fail_point("timer");
            match wake {
                Notification::Tick(tick) => *now = tick,
                Notification::Work => {}
                Notification::Stop => return,
            }
            let connection = self.enforce_deadlines(seat, *now);
            left = connection.map_or(Flush::Done, |connection| connection.outbox.write_out());
        }
    }

    /// Ends a session or reservation that is past its deadline. Returns the seat's connection.
    fn enforce_deadlines(&self, seat: &SharedSeat, now: Tick) -> Option<Arc<Connection>> {
        let mut shown = None;
        let (expiry, action, connection) = seat.with_seat(|occupied| {
            let next = || {
                let (next, how) = self.seats.next_passcode();
                shown = how;
                next
            };
            let read_at = occupied
                .connection
                .as_ref()
                .and_then(|there| there.read_at());
            let keepalive = occupied.keepalive.as_mut();
            let action = keepalive.and_then(|keepalive| keepalive.check(now, read_at));
            let expiry = occupied.seat.expire(now, next);
            (expiry, action, occupied.connection.clone())
        });
        match (action, &connection) {
            (Some(KeepaliveAction::Ping), Some(connection)) => {
                connection.outbox.send_ping();
            }
            (Some(KeepaliveAction::GiveUp), Some(connection)) => {
                connection.outbox.end(CloseReason::PingTimeout);
            }
            _ => {}
        }
        let end = match expiry {
            None => return connection,
            Some(Expiry::NoShow(token)) => {
                self.events.emit(|| CoreEvent::NoShow { port: seat.port });
                self.seats.put_back(token, shown);
                return connection;
            }
            Some(Expiry::IdleSoon) => {
                if let (Some(connection), Some(seconds)) = (&connection, self.idle_soon) {
                    connection.outbox.send_doc(&ServerDoc::IdleSoon { seconds });
                }
                return connection;
            }
            Some(Expiry::Handshake) => {
                if let Some(connection) = &connection {
                    connection.end_silent();
                }
                return connection;
            }
            Some(Expiry::NoAnswer) => NO_ANSWER,
            Some(Expiry::Idle) => CloseReason::IdleTimeout,
            Some(Expiry::Total) => CloseReason::TotalTimeout,
        };
        if let Some(connection) = &connection {
            connection.outbox.end(end);
        }
        connection
    }

    /// Closes the seat at shutdown, and disconnects its client.
    fn shut_down(&self, seat: &SharedSeat) {
        let (token, connection) =
            seat.with_seat(|occupied| (occupied.seat.bar(), occupied.connection.clone()));
        if let Some(token) = token {
            // The passcode is no longer valid.
            self.seats.put_back(token, None);
        }
        if let Some(connection) = connection {
            connection.outbox.end(CloseReason::Shutdown);
            connection.outbox.write_out();
        }
    }
}
