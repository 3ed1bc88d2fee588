//! A room's threads (seed 004).
//!
//! `room-50005` accepts; for each connection there is a `member-50005`, which lets it say the passcode
//! and then serves it, and a `writer-50005`, which writes what a full socket left over; `timer-50005`
//! enforces the reservations and the handshake timeout.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::accepting::{accept_each, trouble};
use super::budget::ThreadToken;
use super::handshake::first_frame;
use super::house::House;
use super::panics::{caught, report_panic};
use super::room_handle::RoomHandle;
use super::rooms::{finish, flush, set_alarm, spawn, spawn_with, tell_left};
use super::session::{Home, Session};
use crate::clock::{Tick, Timekeeping};
use crate::event::{End, What};
use crate::hall::{Admission, AtTheDoor, Guest, Name};
use crate::net::{Listener, Stream};
use crate::outbox::{Flush, Outbox};
use crate::wake::{Wake, Wakes};
use crate::wire::ServerDoc;

/// `room-50005`: accepts until the door is closed, and clears up.
pub(super) fn serve(
    house: &Arc<House>,
    name: &Name,
    door: &Arc<RoomHandle>,
    listener: Arc<Listener>,
    timer: Timekeeping,
    token: ThreadToken,
) {
    let mut threads = Vec::new();
    let (timing, name_there, own) = (Arc::clone(house), name.clone(), Arc::clone(door));
    match spawn_with(token, format!("timer-{}", door.port), move || {
        keep_time(&timing, &name_there, &own, timer.wakes());
    }) {
        Ok(timer) => threads.push(timer),
        Err(error) => trouble(
            &house.events,
            "start a room's timer; its timeouts do not work",
            &error,
        ),
    }
    let is_over = || door.is_closed();
    accept_each(&listener, &house.callers(), is_over, |stream, peer| {
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
        caught(&house.events, || {
            house.may_panic("room");
            match welcome_caller(house, name, door, stream, peer) {
                Ok(started) => threads.extend(started),
                Err(error) => trouble(&house.events, "start a member's thread", &error),
            }
        });
    });
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
    door: &Arc<RoomHandle>,
    stream: Stream,
    peer: SocketAddr,
) -> io::Result<Vec<JoinHandle<()>>> {
    // It can't fail on a socket that has just been accepted.
    let _ = stream.set_nodelay(true);
    let wakes = Wakes::new();
    let now = house.clock.now();
    let outbox = Outbox::new(stream, house.codec, wakes.waker(), house.tick);
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
            write_out(&writing, &wakes);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            writing
                .outbox
                .cut(report_panic(&watching.events, panic.as_ref()));
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
                &house.events,
                "start a member's threads",
                &error.unwrap_or(io::ErrorKind::Other).into(),
            );
            Ok([writer, member].into_iter().flatten().collect())
        }
    }
}

/// `writer-50005`: writes what a full socket left over, until the connection is over.
fn write_out(guest: &Guest, wakes: &Wakes) {
    loop {
        wakes.next();
        while matches!(guest.outbox.write_out(), Flush::More | Flush::Stuck) {}
        if guest.outbox.is_over() && guest.outbox.write_out() == Flush::Empty {
            return;
        }
    }
}

/// `timer-50005`: ends reservations that nobody takes up and callers who say nothing.
fn keep_time(house: &House, name: &Name, door: &Arc<RoomHandle>, wakes: &Wakes) {
    while !door.is_closed() {
        let now = match wakes.next() {
            Wake::Tick(now) => now,
            // The room has ended, or is about to; the loop looks.
            Wake::Work => continue,
            Wake::Stop => return,
        };
        caught(&house.events, || {
            house.may_panic("room-timer");
            end_what_is_late(house, name, door, now);
        });
    }
}

fn end_what_is_late(house: &House, name: &Name, door: &Arc<RoomHandle>, now: Tick) {
    let mut rooms = house.rooms.lock();
    let is_ours = rooms
        .door(name)
        .is_some_and(|there| Arc::ptr_eq(there, door));
    if !is_ours {
        return;
    }
    let (silent, gone) = rooms.expire(name, now);
    set_alarm(&rooms, name);
    drop(rooms);
    for caller in silent {
        caller.outbox.end(End::Silent);
    }
    finish(gone);
}

/// `member-50005`: one connection to the room, from the first word to the last.
fn receive(house: &House, name: &Name, door: &RoomHandle, guest: &Arc<Guest>) {
    let end = catch_unwind(AssertUnwindSafe(|| visit(house, name, door, guest)))
        .unwrap_or_else(|panic| report_panic(&house.events, panic.as_ref()));
    depart(house, name, guest, end);
}

fn visit(house: &House, name: &Name, door: &RoomHandle, guest: &Arc<Guest>) -> End {
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
