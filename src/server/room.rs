//! A room: a port and threads of its own (seed 004).
//!
//! The first `JOIN` makes it, the last member's leaving ends it. `room-50005` accepts; for each
//! connection there is a `member-50005`, which lets it say the passcode and then serves it, and a
//! `writer-50005`, which writes what a full socket left over; `timer-50005` enforces the
//! reservations and the handshake timeout. Whoever finds the room empty, under the lock that
//! `JOIN` takes, closes its door; then `room-50005` wakes, joins the others and puts the port back.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

use super::budget::ThreadToken;
use super::house::House;
use super::panics::{caught, report_panic};
use super::portal::{accept_failed, trouble};
use super::session::{Home, Session};
use super::worker::first_frame;
use crate::bell::Bell;
use crate::clock::{Alarm, Subscription};
use crate::event::{End, What};
use crate::hall::{Admission, AtTheDoor, Gone, Guest, Name, RoomError, Rooms};
use crate::limits;
use crate::net::{Listener, Port, Stream};
use crate::outbox::{Flush, Outbox};
use crate::seat::{Lease, SeatNumber, Ticket};
use crate::wire::ServerDoc;

/// What the server keeps with each room: the way to wake its threads.
pub(super) struct Door {
    pub(super) port: Port,
    /// `room-50005` has the other end, and closes the listener when it ends.
    listener: Weak<Listener>,
    /// The next tick that `timer-50005` has to see. Written only under the rooms' lock.
    alarm: Alarm,
    /// Wakes `timer-50005`.
    timer: Bell,
    closed: AtomicBool,
    /// The right to the room's port, from the moment the room has ended.
    lease: Mutex<Option<Lease>>,
}

impl Door {
    /// Nobody comes in any more: `room-50005` clears up and puts `lease` back.
    fn close(&self, lease: Lease) {
        *self.lease.lock() = Some(lease);
        self.closed.store(true, Ordering::Release);
        self.timer.ring();
        if let Some(listener) = self.listener.upgrade() {
            listener.wake();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Reserves a place in a room for somebody who has logged in, and makes the room if there is none.
pub(super) fn join(
    house: &House,
    name: &Name,
    main: &Arc<Guest>,
    who: &Name,
    seat: SeatNumber,
) -> Result<(Name, Ticket), RoomError> {
    let mut rooms = house.rooms.lock();
    if house.clock.is_stopped() {
        return Err(RoomError::Full);
    }
    if !rooms.exists(name) {
        open(house, &mut rooms, name).ok_or(RoomError::Full)?;
    }
    let joined = rooms.reserve(name, main, who, seat, house.clock.now());
    set_alarm(&rooms, name);
    joined
}

fn set_alarm(rooms: &Rooms<Arc<Door>>, name: &Name) {
    if let Some(door) = rooms.door(name) {
        door.alarm.set(rooms.deadline(name));
    }
}

/// Takes a port that can be bound and starts the room's threads. `None` when there is none left.
fn open(house: &House, rooms: &mut Rooms<Arc<Door>>, name: &Name) -> Option<()> {
    let mut passed_over = Vec::new();
    let bound = loop {
        let Some(lease) = rooms.pop_port() else {
            break None;
        };
        match bind(house, lease.port()) {
            Ok(listener) => break Some((lease, listener)),
            Err(error) => {
                trouble(house, "bind a room's port", &error);
                passed_over.push(lease);
            }
        }
    };
    // In the order in which they lay there.
    for lease in passed_over.into_iter().rev() {
        rooms.push_port(lease);
    }
    let (lease, listener) = bound?;
    let port = listener.port();
    let listener = Arc::new(listener);
    let timer = Bell::new();
    let subscription = house.clock.subscribe_ringing(&timer);
    let door = Arc::new(Door {
        port,
        listener: Arc::downgrade(&listener),
        alarm: subscription.alarm(),
        timer: timer.clone(),
        closed: AtomicBool::new(false),
        lease: Mutex::new(None),
    });
    // For the room's timer, now: a room without one would never end.
    let Some(token) = house.thread_budget.take() else {
        rooms.push_port(lease);
        return None;
    };
    let (serving, name_there, own) = (house.this.upgrade()?, name.clone(), Arc::clone(&door));
    let thread = spawn(house, format!("room-{port}"), move || {
        serve(
            &serving,
            &name_there,
            &own,
            listener,
            (subscription, timer),
            token,
        );
    });
    match thread {
        Ok(thread) => {
            let mut threads = house.room_threads.lock();
            // Those of rooms that have ended are joined here; the rest at the server's end.
            for ended in threads.extract_if(.., |thread: &mut JoinHandle<()>| thread.is_finished())
            {
                let _ = ended.join();
            }
            threads.push(thread);
        }
        Err(error) => {
            trouble(house, "start a room's thread", &error);
            rooms.push_port(lease);
            return None;
        }
    }
    rooms.open(name, lease, port, house.posts.len(), door);
    house.events.tell(|| What::RoomOpened {
        port,
        room: name.to_string(),
    });
    Some(())
}

fn bind(house: &House, port: Port) -> io::Result<Listener> {
    let number = if house.any_port { 0 } else { port.get() };
    Listener::bind(SocketAddr::new(house.bind, number), &house.tap)
}

fn spawn(
    house: &House,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let too_many = || io::Error::other("the server has as many threads as this machine allows");
    spawn_with(house.thread_budget.take().ok_or_else(too_many)?, name, run)
}

fn spawn_with(
    token: ThreadToken,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name(name)
        .stack_size(limits::THREAD_STACK)
        .spawn(move || {
            run();
            drop(token);
        })
}

/// `room-50005`: accepts until the door is closed, and clears up.
fn serve(
    house: &Arc<House>,
    name: &Name,
    door: &Arc<Door>,
    listener: Arc<Listener>,
    (subscription, bell): (Subscription, Bell),
    token: ThreadToken,
) {
    let mut threads = Vec::new();
    let (timing, name_there, own) = (Arc::clone(house), name.clone(), Arc::clone(door));
    match spawn_with(token, format!("timer-{}", door.port), move || {
        keep_time(&timing, &name_there, &own, &subscription, &bell);
    }) {
        Ok(timer) => threads.push(timer),
        Err(error) => trouble(
            house,
            "start a room's timer; its timeouts do not work",
            &error,
        ),
    }
    while !door.is_closed() {
        let accepted = listener.accept();
        if door.is_closed() {
            break;
        }
        match accepted {
            Ok((stream, peer)) => {
                threads.retain(|thread| !thread.is_finished());
                caught(house, || {
                    house.may_panic("room");
                    match welcome_caller(house, name, door, stream, peer) {
                        Ok(started) => threads.extend(started),
                        Err(error) => trouble(house, "start a member's thread", &error),
                    }
                });
            }
            Err(error) => accept_failed(house, &listener, &error),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
    // Closed before the port goes back, so that the next room can bind it.
    drop(listener);
    // Told under the lock, before the next room can have the port.
    let mut rooms = house.rooms.lock();
    if let Some(lease) = door.lease.lock().take() {
        rooms.push_port(lease);
    }
    house.events.tell(|| What::RoomEnded {
        port: door.port,
        room: name.to_string(),
    });
}

/// Somebody is at the door: notes it, and starts the threads for them.
fn welcome_caller(
    house: &Arc<House>,
    name: &Name,
    door: &Arc<Door>,
    stream: Stream,
    peer: SocketAddr,
) -> io::Result<Vec<JoinHandle<()>>> {
    // It can't fail on a socket that has just been accepted.
    let _ = stream.set_nodelay(true);
    let bell = Bell::new();
    let now = house.clock.now();
    let outbox = Outbox::new(stream, house.codec, bell.clone(), house.tick);
    let guest = Arc::new(Guest::new(outbox, peer, &door.port.to_string(), now));
    {
        let mut rooms = house.rooms.lock();
        // The room may have ended a moment ago, and another one of that name begun elsewhere.
        let is_ours = rooms
            .door(name)
            .is_some_and(|there| Arc::ptr_eq(there, door));
        let at_the_door = if is_ours {
            rooms.call(name, &guest, now)
        } else {
            AtTheDoor::NoRoom
        };
        if at_the_door != AtTheDoor::Waits {
            drop(rooms);
            let (port, room) = (door.port, Some(name.as_str().into()));
            guest
                .outbox
                .send_doc(&ServerDoc::WrongPasscode { port, room });
            guest.outbox.cut(End::Gone);
            house.events.tell(|| What::Stray { port, peer });
            return Ok(Vec::new());
        }
        set_alarm(&rooms, name);
    }
    let (watching, writing) = (Arc::clone(house), Arc::clone(&guest));
    let writer = spawn(house, format!("writer-{}", door.port), move || {
        let work = || {
            watching.may_panic("room-writer");
            write_out(&writing, &bell);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            writing.outbox.cut(report_panic(&watching, panic.as_ref()));
        }
    });
    let (serving, name_there, own) = (Arc::clone(house), name.clone(), Arc::clone(door));
    let serving_guest = Arc::clone(&guest);
    let member = spawn(house, format!("member-{}", door.port), move || {
        receive(&serving, &name_there, &own, &serving_guest);
    });
    match (writer, member) {
        (Ok(writer), Ok(member)) => Ok(vec![writer, member]),
        (writer, member) => {
            // Whichever has started finds the connection cut and ends.
            depart(house, name, &guest, End::Gone);
            let error = writer
                .as_ref()
                .err()
                .or(member.as_ref().err())
                .map(io::Error::kind);
            trouble(
                house,
                "start a member's threads",
                &error.unwrap_or(io::ErrorKind::Other).into(),
            );
            Ok([writer, member].into_iter().flatten().collect())
        }
    }
}

/// `writer-50005`: writes what a full socket left over, until the connection is over.
fn write_out(guest: &Guest, bell: &Bell) {
    loop {
        bell.wait();
        while matches!(guest.outbox.write_out(), Flush::More | Flush::Stuck) {}
        if guest.outbox.is_over() && guest.outbox.write_out() == Flush::Empty {
            return;
        }
    }
}

/// `timer-50005`: ends reservations that nobody takes up and callers who say nothing.
fn keep_time(
    house: &House,
    name: &Name,
    door: &Arc<Door>,
    subscription: &Subscription,
    bell: &Bell,
) {
    while !door.is_closed() {
        bell.wait();
        let _ = subscription.ticks().try_recv();
        if house.clock.is_stopped() {
            return;
        }
        caught(house, || {
            house.may_panic("room-timer");
            end_what_is_late(house, name, door);
        });
    }
}

fn end_what_is_late(house: &House, name: &Name, door: &Arc<Door>) {
    let mut rooms = house.rooms.lock();
    let is_ours = rooms
        .door(name)
        .is_some_and(|there| Arc::ptr_eq(there, door));
    if !is_ours {
        return;
    }
    let (silent, gone) = rooms.expire(name, house.clock.now());
    set_alarm(&rooms, name);
    drop(rooms);
    for caller in silent {
        caller.outbox.end(End::Silent);
    }
    finish(gone);
}

/// `member-50005`: one connection to the room, from the first word to the last.
fn receive(house: &House, name: &Name, door: &Door, guest: &Arc<Guest>) {
    let end = catch_unwind(AssertUnwindSafe(|| visit(house, name, door, guest)))
        .unwrap_or_else(|panic| report_panic(house, panic.as_ref()));
    depart(house, name, guest, end);
}

fn visit(house: &House, name: &Name, door: &Door, guest: &Arc<Guest>) -> End {
    let (port, peer) = (door.port, guest.peer);
    let mut frames = guest.outbox.codec().reader();
    let said = match first_frame(&guest.outbox, port, &mut frames) {
        Ok(said) => said,
        Err(end) => return end,
    };
    // Only a worker calls back; whoever wants that of a room is let in as everybody is.
    let passcode = said.map(|handshake| handshake.passcode);
    let admission = {
        let mut rooms = house.rooms.lock();
        let admission = rooms.admit(name, guest, passcode.as_deref(), house.clock.now());
        set_alarm(&rooms, name);
        if let Admission::Admitted { name: who, .. } = &admission {
            // Told under the lock, before anybody can be told that they have left.
            house.events.tell(|| What::RoomJoined {
                port,
                room: name.to_string(),
                name: who.to_string(),
            });
        }
        admission
    };
    match admission {
        Admission::Refused => {
            house.events.tell(|| What::WrongPasscode { port, peer });
            let room = Some(name.as_str().into());
            guest
                .outbox
                .send_doc(&ServerDoc::WrongPasscode { port, room });
            End::WrongPasscode
        }
        Admission::Admitted {
            main, seat, told, ..
        } => {
            guest.outbox.flush();
            flush(&told);
            let home = Home::Room {
                port,
                name,
                main: &main,
                seat,
            };
            Session::new(house, home, guest).run(&mut frames)
        }
    }
}

/// A connection to a room is over, or is to be.
fn depart(house: &House, name: &Name, guest: &Arc<Guest>, end: End) {
    let gone = house.rooms.lock().hang_up(name, guest);
    let was_member = gone.connection.is_some();
    guest.outbox.hang_up(end);
    guest.outbox.wake_timer();
    if was_member {
        tell_left(house, name, guest, guest.outbox.ended().unwrap_or(end));
    }
    finish(gone);
}

fn tell_left(house: &House, name: &Name, guest: &Guest, end: End) {
    house.events.tell(|| What::RoomLeft {
        room: name.to_string(),
        name: guest.label().to_string(),
        end,
    });
}

/// Takes the person with this main connection out of a room.
pub(super) fn leave(house: &House, name: &Name, main: &Arc<Guest>) -> Result<(), RoomError> {
    let gone = house.rooms.lock().leave(name, main)?;
    if let Some(connection) = &gone.connection {
        tell_left(house, name, connection, End::Terminate);
        connection.outbox.end(End::Terminate);
    }
    finish(gone);
    Ok(())
}

/// Takes somebody whose main connection is over out of every room.
pub(super) fn leave_all(house: &House, main: &Arc<Guest>) {
    if main.name().is_none() {
        return;
    }
    let names = house.rooms.lock().rooms_of(main);
    for name in names {
        // A room that has ended meanwhile has been left, too.
        let _ = leave(house, &name, main);
    }
}

/// What follows, without the lock, when somebody is out of a room.
fn finish(gone: Gone<Arc<Door>>) {
    flush(&gone.told);
    if let Some(ended) = gone.ended {
        ended.door.close(ended.lease);
    }
}

fn flush(guests: &[Arc<Guest>]) {
    for guest in guests {
        guest.outbox.flush();
    }
}

/// The server is going down: everyone in every room is told, and every room ends.
pub(super) fn end_all(house: &House) {
    let ended = house.rooms.lock().end_all();
    for (ended, connected) in ended {
        for guest in connected {
            guest.outbox.end(End::Shutdown);
        }
        ended.door.close(ended.lease);
    }
    // Taken out first, because a thread that ends may want the lock.
    let threads = std::mem::take(&mut *house.room_threads.lock());
    for thread in threads {
        let _ = thread.join();
    }
}
