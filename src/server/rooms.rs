//! Who goes into a room, and out of it; a room's beginning and its end (seed 004).
//!
//! The first `JOIN` makes a room, the last member's leaving ends it. Whoever finds the room empty, under
//! the lock that `JOIN` takes, closes it; then its thread wakes, joins the others and puts the port
//! back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

use super::accepting::trouble;
use super::budget::ThreadToken;
use super::house::House;
use super::room_handle::RoomHandle;
use crate::event::{End, What};
use crate::hall::{Gone, Guest, Name, RoomError, Rooms};
use crate::limits;
use crate::net::{Listener, Port};
use crate::seat::{SeatNumber, Ticket};

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

/// Takes somebody who has logged in into a room in which they speak and hear on their main connection,
/// and makes the room if there is none.
pub(super) fn join_here(
    house: &House,
    name: &Name,
    main: &Arc<Guest>,
    who: &Name,
    seat: SeatNumber,
) -> Result<(), RoomError> {
    let told = {
        let mut rooms = house.rooms.lock();
        if house.clock.is_stopped() {
            return Err(RoomError::Full);
        }
        if !rooms.exists(name) {
            open(house, &mut rooms, name).ok_or(RoomError::Full)?;
        }
        let (port, told) = rooms.enter_here(name, main, who, seat, house.clock.now())?;
        // Told under the lock, before anybody can be told that they have left.
        house.events.tell(|| What::RoomJoined {
            port,
            room: name.to_string(),
            name: who.to_string(),
        });
        told
    };
    main.outbox.flush();
    flush(&told);
    Ok(())
}

pub(super) fn set_alarm(rooms: &Rooms<Arc<RoomHandle>>, name: &Name) {
    if let Some(door) = rooms.door(name) {
        door.alarm.set(rooms.deadline(name));
    }
}

/// Takes a port that can be bound and starts the room's threads. `None` when there is none left.
fn open(house: &House, rooms: &mut Rooms<Arc<RoomHandle>>, name: &Name) -> Option<()> {
    let mut passed_over = Vec::new();
    let bound = loop {
        let Some(lease) = rooms.pop_port() else {
            break None;
        };
        match bind(house, lease.port()) {
            Ok(listener) => break Some((lease, listener)),
            Err(error) => {
                trouble(&house.events, "bind a room's port", &error);
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
    let timer = house.clock.subscribe_timekeeper();
    let door = Arc::new(RoomHandle {
        port,
        listener: Arc::downgrade(&listener),
        alarm: timer.alarm(),
        timer: timer.waker(),
        closed: AtomicBool::new(false),
        lease: Mutex::new(None),
    });
    // For the room's timer, now: a room without one would never end.
    let Some(token) = house.thread_budget.take() else {
        rooms.push_port(lease);
        return None;
    };
    let (serving, name_there, own) = (house.this.upgrade()?, name.clone(), Arc::clone(&door));
    let serve = house.serve_room;
    let thread = spawn(house, format!("room-{port}"), move || {
        serve(&serving, &name_there, &own, listener, timer, token);
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
            trouble(&house.events, "start a room's thread", &error);
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

pub(super) fn spawn(
    house: &House,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let too_many = || io::Error::other("the server has as many threads as this machine allows");
    spawn_with(house.thread_budget.take().ok_or_else(too_many)?, name, run)
}

pub(super) fn spawn_with(
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

pub(super) fn tell_left(house: &House, name: &Name, guest: &Guest, end: End) {
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
        // Who is "here" goes on talking on that connection.
        if !Arc::ptr_eq(connection, main) {
            connection.outbox.end(End::Terminate);
        }
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
pub(super) fn finish(gone: Gone<Arc<RoomHandle>>) {
    flush(&gone.told);
    if let Some(ended) = gone.ended {
        ended.door.close(ended.lease);
    }
}

pub(super) fn flush(guests: &[Arc<Guest>]) {
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
