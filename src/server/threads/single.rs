//! One port for everyone (`--single-port`; seeds 001, 002 and 003): no portal and no passcode.
//!
//! The thread that accepts hands each connection to a thread of its own, and that thread stays with
//! it. Everything behind the door is as on a worker's port: the same seats from the same stack, the
//! same timers, the same sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::clock::{Deadline, Tick, Ticks};
use crate::event::{End, What};
use crate::hall::Connection;
use crate::limits;
use crate::net::{Listener, Stream};
use crate::seat::SeatNumber;
use crate::server::accepting::{Accepting, trouble};
use crate::server::seats::SharedSeat;
use crate::server::session::{AtWorker, Session, Sessions, shake_hands};
use crate::server::sockets::Sockets;
use crate::wire::ServerDoc;

/// What the single port's thread uses.
pub(crate) struct SinglePort {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) accepting: Accepting,
    pub(crate) sockets: Sockets,
    /// How long somebody may sit there without a word when others want in.
    pub(crate) handshake: Ticks,
}

impl SinglePort {
    /// The thread `single-50000`: accepts until the clock stops, and then waits for the connections.
    pub(crate) fn run(&self, listener: &Listener) {
        let (sessions, mut connections) = (&self.sessions, Vec::new());
        let is_over = || sessions.clock.is_stopped();
        self.accepting
            .accept_each(listener, is_over, |stream, peer| {
                connections.retain(|thread: &JoinHandle<()>| !thread.is_finished());
                sessions.panics.caught(|| {
                    sessions.panics.may_panic("single");
                    match self.sit_down(stream, peer) {
                        Ok((number, connection)) => {
                            connections.extend(self.start(number, connection));
                        }
                        Err(stream) => connections.extend(self.say_full(stream, peer)),
                    }
                });
            });
        for connection in connections {
            // Each catches what may panic; if one ended by a panic all the same, it ended.
            let _ = connection.join();
        }
    }

    /// Tells a caller that there is no seat. With TLS that takes a while, and a thread.
    fn say_full(&self, stream: Stream, peer: SocketAddr) -> Option<JoinHandle<()>> {
        if !stream.is_secured() {
            self.accepting.say_full(stream, peer);
            return None;
        }
        let accepting = self.accepting.clone();
        let builder = Builder::new()
            .name("full".to_owned())
            .stack_size(limits::THREAD_STACK);
        let telling = builder.spawn(move || {
            let until = Instant::now() + limits::TIME_FOR_FULL;
            if stream.shake_hands(Some(until)).is_ok() {
                accepting.say_full(stream, peer);
            }
        });
        telling.ok()
    }

    /// Nobody has to prove anything here, so the seat is taken in one step. Without one the caller is
    /// handed back.
    fn sit_down(
        &self,
        stream: Stream,
        peer: SocketAddr,
    ) -> Result<(SeatNumber, Arc<Connection>), Stream> {
        let now = self.sessions.clock.now();
        let Some(held) = self.sessions.seats.take(peer.ip()) else {
            self.end_one_who_never_spoke(now);
            return Err(stream);
        };
        held.sit(
            stream,
            |seat, lease| seat.sit(lease, now),
            |shared, occupied, (), stream| {
                let (label, timer) = (shared.number.to_string(), shared.timer.clone());
                let connection = self.sockets.connection(stream, peer, &label, timer);
                occupied.connection = Some(Arc::clone(&connection));
                (shared.number, connection)
            },
        )
    }

    /// All seats are taken, or all that this address may have: whoever has sat there for longest without
    /// a word, and for longer than a caller of a worker may, goes for the next one. Nobody had to prove
    /// anything here, so sockets that only sit would else keep everybody out.
    fn end_one_who_never_spoke(&self, now: Tick) {
        let connections = self.sessions.seats.all().iter();
        let silent = connections
            .filter_map(SharedSeat::connection)
            .filter(|there| there.heard_at().is_none() && !there.outbox.has_ended())
            .min_by_key(|there| there.since);
        if let Some(silent) = silent
            && Deadline::after(silent.since, self.handshake).is_past(now)
        {
            silent.outbox.end(End::Silent);
        }
    }

    /// Starts the thread of a newcomer, or says FULL.
    fn start(&self, number: SeatNumber, connection: Arc<Connection>) -> Option<JoinHandle<()>> {
        let (sessions, served) = (Arc::clone(&self.sessions), Arc::clone(&connection));
        let builder = Builder::new()
            .name(format!("seat-{number}"))
            .stack_size(limits::THREAD_STACK);
        let thread = builder.spawn(move || {
            if let Some(seat) = sessions.seats.seat(number) {
                let end = sessions.panics.ended_by(|| serve(&sessions, seat, &served));
                sessions.end(seat, &served, end);
                sessions.seats.free(seat);
            }
        });
        thread
            .map_err(|error| {
                trouble(
                    &self.accepting.events,
                    "start a connection's thread",
                    &error,
                );
                connection.outbox.send_doc(&ServerDoc::Full);
                if let Some(seat) = self.sessions.seats.seat(number) {
                    self.sessions.end(seat, &connection, End::Gone);
                    self.sessions.seats.free(seat);
                }
            })
            .ok()
    }
}

fn serve(sessions: &Sessions, seat: &SharedSeat, connection: &Arc<Connection>) -> End {
    let (port, peer) = (seat.port, connection.peer);
    if let Err(end) = shake_hands(connection, port, &sessions.events, || {}) {
        return end;
    }
    sessions.events.tell(|| What::Seated {
        port,
        peer,
        via: None,
    });
    let codec = connection.outbox.codec();
    let welcome = ServerDoc::WelcomeSingle {
        seat: seat.number.get(),
        max: codec.announced_max(),
    };
    sessions.pairs.enter(seat.number, connection, &welcome);
    Session::new(sessions, AtWorker::new(seat), connection)
        .refusing_http()
        .run(&mut codec.reader())
}
