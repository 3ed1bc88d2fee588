//! A room's threads (seed 004).
//!
//! `room-50005` accepts connections. Each one gets a thread from the pool of pending callers,
//! `member-1` and so on, which serves the connection until it is closed. A member also has a thread
//! `writer-50005`, which writes output that did not fit into a full socket. `timer-50005` enforces
//! the reservations and the handshake timeout.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::chat::RoomHandle;
use crate::chat::{Admission, Connection, flush_all};
use crate::event::SessionEvent;
use crate::in_room::InRoom;
use crate::limits;
use crate::room_manager::NewRoom;
use crate::state::ChatState;
use crate::turn::Session;
use portal_core::accept_loop::{AcceptLoop, trouble};
use portal_core::clock::Tick;
use portal_core::event::CoreEvent;
use portal_core::handshake::first_frame;
use portal_core::notify::{Notification, NotifyReceiver};
use portal_core::outbox::Flush;
use portal_core::sockets::ConnectionFactory;
use portal_core::transport::Decoder;
use portal_net::threads::spawn_with;
use portal_net::{Pending, PendingConnections, Share};
use portal_wire::{CloseReason, Name, ServerDoc};

/// The state shared by a room's threads.
pub struct RunningRoom {
    state: Arc<ChatState>,
    accepting: AcceptLoop,
    sockets: ConnectionFactory,
    name: Name,
    handle: Arc<RoomHandle>,
    /// Disconnects when the last thread that serves the room has exited.
    _running: Sender<()>,
}

/// Runs the thread `room-50005`: accepts until the room is closed, then cleans up.
pub fn run(
    state: Arc<ChatState>,
    accepting: AcceptLoop,
    sockets: ConnectionFactory,
    callers: &Arc<PendingConnections>,
    room: NewRoom,
) {
    let NewRoom {
        name,
        handle,
        listener,
        timer,
        timer_token,
    } = room;
    let (running, all_ended) = bounded(0);
    let room = Arc::new(RunningRoom {
        state,
        accepting,
        sockets,
        name,
        handle,
        _running: running,
    });
    let (port, events) = (room.handle.port, &room.accepting.events);
    let timing = Arc::clone(&room);
    let timer = spawn_with(timer_token, format!("timer-{port}"), move || {
        timing.run_until_stop(timer.notifications());
    });
    if let Err(error) = timer {
        trouble(
            events,
            "start a room's timer; its timeouts do not work",
            &error,
        );
    }
    let is_over = || room.handle.is_closed();
    room.accepting
        .accept_each(&listener, is_over, |stream, peer| {
            room.state.panics.caught(|| {
                room.state.panics.fail_point("room");
                // A parked caller must not keep the room from ending.
                let room = Arc::downgrade(&room);
                let share = Share(limits::ROOM_CALLERS_PER_ADDRESS);
                callers.admit(stream, share, "member", move |caller| {
                    if let Some(room) = room.upgrade() {
                        room.welcome(caller, peer);
                    }
                });
            });
        });
    let (state, name) = (Arc::clone(&room.state), room.name.clone());
    let handle = Arc::clone(&room.handle);
    drop(room);
    let _ = all_ended.recv();
    // Close it before the port is returned, so that the next room can bind it.
    drop(listener);
    state.rooms.put_back(&name, &handle);
}

impl RunningRoom {
    /// Serves one connection from accept to close.
    fn welcome(self: &Arc<Self>, caller: Pending, peer: SocketAddr) {
        let (rooms, port) = (&self.state.rooms, self.handle.port);
        let notifications = NotifyReceiver::new();
        let stream = caller.stream().share();
        let (connection, mut decoder) =
            self.sockets
                .connection(stream, port, &port.to_string(), notifications.notifier());
        let now = self.state.clock.now();
        let called = rooms.with_room(&self.name, &self.handle, |rooms| {
            rooms.add_caller(&self.name, &connection, now)
        });
        if let Some(Ok(())) = called {
            // A caller that is not admitted stays among the pending callers until its connection is
            // closed.
            let mut pending = Some(caller);
            let end = self
                .state
                .panics
                .ended_by(|| self.serve(&mut pending, &connection, &mut *decoder, notifications));
            self.part(&connection, end);
        } else {
            self.refuse(&connection);
            connection.outbox.cut(CloseReason::PeerClosed);
            self.accepting
                .events
                .emit(|| CoreEvent::UnexpectedConnection { port, peer });
        }
    }

    fn refuse(&self, connection: &Connection) {
        connection.outbox.send_doc(&ServerDoc::WrongPasscode {
            port: self.handle.port,
            room: Some(self.name.as_str().into()),
        });
    }

    /// Runs the thread `writer-50005`: writes output that did not fit into a full socket, until the
    /// connection is over.
    fn write(&self, connection: &Connection, notifications: &NotifyReceiver) {
        let outbox = &connection.outbox;
        let end = self.state.panics.ended_by(|| {
            self.state.panics.fail_point("room-writer");
            loop {
                notifications.next();
                while outbox.write_out() == Flush::More {}
                if outbox.has_ended() && outbox.write_out() == Flush::Done {
                    return CloseReason::PeerClosed;
                }
            }
        });
        outbox.cut(end);
    }

    /// Runs the thread `timer-50005`: cancels reservations and handshakes that have timed out.
    fn run_until_stop(&self, notifications: &NotifyReceiver) {
        while !self.handle.is_closed() {
            let now = match notifications.next() {
                Notification::Tick(now) => now,
                // The room has ended or is about to end; the loop's condition checks that.
                Notification::Work => continue,
                Notification::Stop => return,
            };
            self.state.panics.caught(|| {
                self.state.panics.fail_point("room-timer");
                self.end_what_is_late(now);
            });
        }
    }

    fn end_what_is_late(&self, now: Tick) {
        let rooms = &self.state.rooms;
        let late = rooms.with_room(&self.name, &self.handle, |rooms| {
            let expired = rooms.expire(&self.name, now);
            self.state.rooms.report_departure(&self.name, &expired.1);
            expired
        });
        if let Some((silent, departure)) = late {
            for caller in silent {
                caller.end_silent();
            }
            rooms.follow(departure);
        }
    }

    /// Serves a connection until its session ends. Releases the caller's place when it becomes a
    /// member.
    fn serve(
        self: &Arc<Self>,
        pending: &mut Option<Pending>,
        connection: &Arc<Connection>,
        decoder: &mut dyn Decoder,
        notifications: NotifyReceiver,
    ) -> CloseReason {
        let (port, peer, outbox) = (self.handle.port, connection.peer, &connection.outbox);
        let events = &self.accepting.events;
        let rooms = &self.state.rooms;
        let mut established = || {
            let (rooms, now) = (&self.state.rooms, self.state.clock.now());
            rooms.with_room(&self.name, &self.handle, |rooms| {
                rooms.hands_shaken(&self.name, connection, now);
            });
        };
        let transport = &self.sockets.transport;
        let said = transport
            .establish(connection, pending.as_ref(), port, &mut established)
            .and_then(|()| first_frame(connection, pending.as_ref(), decoder));
        let said = match said.and_then(|said| {
            self.accepting
                .reject_if_banned(connection, self.state.clock.now())
                .map(|()| said)
        }) {
            Ok(said) => said,
            Err(end) => return end,
        };
        // The member needs this thread and the writer until it leaves.
        let tokens = rooms
            .thread_token()
            .and_then(|kept| Ok((kept, rooms.thread_token()?)));
        let (_kept, writers) = match tokens {
            Ok(tokens) => tokens,
            Err(error) => {
                trouble(events, "start a member's threads", &error);
                return CloseReason::PeerClosed;
            }
        };
        // Only a worker calls back. A room ignores the request for a callback, and admits the
        // client as usual.
        let passcode = said.map(|handshake| handshake.passcode);
        let now = self.state.clock.now();
        let admission = rooms.with_room(&self.name, &self.handle, |rooms| {
            let admission = rooms.admit(&self.name, connection, passcode.as_deref(), now);
            if let Admission::Admitted {
                name: who, main, ..
            } = &admission
            {
                self.state
                    .rooms
                    .report_joined(&self.name, main.session(), who);
                // Emit this under the lock, before an event can report that the client has left.
                events.emit(|| SessionEvent::RoomJoined {
                    port,
                    room: self.name.to_string(),
                    name: who.to_string(),
                });
            }
            admission
        });
        let Some(Admission::Admitted {
            main,
            seat,
            notified,
            ..
        }) = admission
        else {
            events.emit(|| CoreEvent::WrongPasscode { port, peer });
            self.refuse(connection);
            return CloseReason::WrongPasscode;
        };
        *pending = None;
        if outbox.stream().set_read_timeout(None).is_err() {
            return CloseReason::ConnectionReset;
        }
        let (room, written) = (Arc::clone(self), Arc::clone(connection));
        let writer = spawn_with(writers, format!("writer-{port}"), move || {
            room.write(&written, &notifications);
        });
        if let Err(error) = writer {
            trouble(events, "start a member's threads", &error);
            return CloseReason::PeerClosed;
        }
        outbox.flush();
        flush_all(&notified);
        let role = InRoom {
            port,
            name: &self.name,
            main: &main,
            seat: self.state.seats.seat(seat),
        };
        Session::new(&self.state, role, connection).run(decoder)
    }

    /// Closes a connection and, if it belongs to a member, removes the member from the room.
    fn part(&self, connection: &Arc<Connection>, end: CloseReason) {
        let rooms = &self.state.rooms;
        let departure = rooms.with(|held| {
            let departure = held.hang_up(&self.name, connection);
            rooms.report_departure(&self.name, &departure);
            departure
        });
        let was_member = departure.connection.is_some();
        let outbox = &connection.outbox;
        outbox.hang_up(end);
        outbox.notify_timer();
        if was_member {
            rooms.emit_left(&self.name, connection, outbox.ended().unwrap_or(end));
        }
        rooms.follow(departure);
    }
}
