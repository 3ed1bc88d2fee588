//! The rooms' ports and threads: a room's beginning, who goes in and out, its end (seed 004).
//!
//! The first `JOIN` makes a room, the last member's leaving ends it. Whoever finds the room empty,
//! under the lock that `JOIN` takes, closes it; then its thread wakes, joins the others and puts
//! the port back. No port is bound and no thread started or joined under that lock: whoever makes a
//! room marks its name, and only those who want the same room wait until it is made.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::accept_loop::trouble;
use crate::backplane::{Backplane, Sender};
use crate::chat::{Connection, Departure, Joiner, RoomError, RoomHandle, Rooms, flush_all};
use crate::clock::{Clock, TimerSubscription};
use crate::event::{ChatEvent, Events};
use crate::seat::{PortToken, Ticket, WorkloadStack};
use portal_net::lock::{Condvar, Mutex, Rank};
use portal_net::threads::{ThreadBudget, ThreadToken, spawn, take};
use portal_net::{Host, Listener};
use portal_wire::{CloseReason, Name};

/// What a room's thread does. Whoever makes rooms is handed it, and need not know it.
pub(crate) type ServeRoom = Box<dyn Fn(NewRoom) + Send + Sync>;

/// Listens at an address.
pub(crate) type ListenAt = Box<dyn Fn(SocketAddr) -> Result<Listener, String> + Send + Sync>;

/// A room whose thread begins.
pub struct NewRoom {
    pub(crate) name: Name,
    pub(crate) handle: Arc<RoomHandle>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) timer: TimerSubscription,
    /// For the room's timekeeper: a room without one would never end.
    pub(crate) timer_token: ThreadToken,
}

/// The ports that rooms may have.
pub struct RoomPorts {
    /// A leaf lock.
    pub free: Mutex<WorkloadStack>,
    /// Where rooms listen, and whether the system chooses their ports.
    pub bind: Host,
    /// The system chooses the ports.
    pub any_port: bool,
    /// Listens at an address, or explains why that can't be.
    pub listen: ListenAt,
}

/// A room's port on its way from the stack to the room. Dropped, it goes back.
struct HeldPort<'p> {
    ports: &'p RoomPorts,
    lease: Option<PortToken>,
}

impl Drop for HeldPort<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.ports.free.lock().push(lease);
        }
    }
}

impl RoomPorts {
    /// Takes the next port that can be bound; `None` when there is none left.
    fn bind_next(&self, events: &Events) -> Option<(HeldPort<'_>, Listener)> {
        let mut passed_over = Vec::new();
        let bound = loop {
            // The lock is released before the port is bound.
            let lease = self.free.lock().pop();
            let Some(lease) = lease else { break None };
            let number = if self.any_port { 0 } else { lease.port().get() };
            let held = HeldPort {
                ports: self,
                lease: Some(lease),
            };
            let wanted = self.bind.at(number);
            match (self.listen)(wanted) {
                Ok(listener) => break Some((held, listener)),
                Err(reason) => {
                    // Whoever waits for the room does not wait for this port: it gets the next one.
                    events.emit_failure("bind a room's port", reason);
                    passed_over.push(held);
                }
            }
        };
        // Put back in the order in which they lay there.
        while let Some(held) = passed_over.pop() {
            drop(held);
        }
        bound
    }
}

/// All rooms of a server.
pub struct RoomManager {
    /// The one lock under which people join and rooms end.
    directory: Mutex<RoomDirectory>,
    /// Notified when a room has been made, or could not be.
    made: Condvar,
    pub(crate) ports: RoomPorts,
    budget: ThreadBudget,
    serve: Arc<ServeRoom>,
    /// The rooms' own threads, to be joined. A leaf lock.
    running: Mutex<Vec<JoinHandle<()>>>,
    clock: Clock,
    events: Events,
    backplane: Arc<dyn Backplane>,
    /// How many members a room can have.
    places: usize,
}

/// Guarded by the rooms' lock.
struct RoomDirectory {
    rooms: Rooms,
    /// The keys of the rooms that are being made.
    opening: BTreeSet<String>,
}

/// Marks a room that is being made. Dropped, also by a panic, it lets the others try.
struct RoomOpening<'r> {
    threads: &'r RoomManager,
    key: Option<String>,
}

impl RoomOpening<'_> {
    fn ends(&mut self, directory: &mut RoomDirectory) {
        if let Some(key) = self.key.take() {
            directory.opening.remove(&key);
            self.threads.made.notify_all();
        }
    }
}

impl Drop for RoomOpening<'_> {
    fn drop(&mut self) {
        if self.key.is_some() {
            let threads = self.threads;
            self.ends(&mut threads.directory.lock());
        }
    }
}

impl RoomManager {
    /// No rooms yet. Each can have as many members as there are `places`.
    pub fn new(
        rooms: Rooms,
        ports: RoomPorts,
        budget: ThreadBudget,
        serve: ServeRoom,
        (clock, events): (Clock, Events),
        backplane: Arc<dyn Backplane>,
        places: usize,
    ) -> RoomManager {
        RoomManager {
            directory: Mutex::ranked(
                Rank::Registry,
                RoomDirectory {
                    rooms,
                    opening: BTreeSet::new(),
                },
            ),
            made: Condvar::new(),
            ports,
            budget,
            serve: Arc::new(serve),
            running: Mutex::default(),
            clock,
            events,
            backplane,
            places,
        }
    }

    /// Does something under the rooms' lock. Nothing in `action` may wait.
    pub fn with<T>(&self, action: impl FnOnce(&mut Rooms) -> T) -> T {
        action(&mut self.directory.lock().rooms)
    }

    /// As [`RoomManager::with`], for the room of that name, if it is still the one that has
    /// `handle` (it may have ended, and another one of that name begun). Then the alarm is set to
    /// what the room waits for.
    pub(crate) fn with_room<T>(
        &self,
        name: &Name,
        handle: &Arc<RoomHandle>,
        action: impl FnOnce(&mut Rooms) -> T,
    ) -> Option<T> {
        self.with(|rooms| {
            let is_ours = rooms
                .handle(name)
                .is_some_and(|there| Arc::ptr_eq(there, handle));
            is_ours.then(|| {
                let result = action(rooms);
                handle.alarm.set(rooms.deadline(name));
                result
            })
        })
    }

    /// Reserves a place in a room for somebody who has logged in, and makes the room if there is
    /// none.
    ///
    /// # Errors
    /// [`RoomError::AlreadyMember`]; [`RoomError::Full`] also when there is no port or thread left.
    pub(crate) fn join(
        &self,
        name: &Name,
        joiner: &Joiner<'_>,
    ) -> Result<(Name, Ticket), RoomError> {
        self.enter(name, |rooms| {
            let joined = rooms.reserve(name, joiner, self.clock.now());
            if let Some(handle) = rooms.handle(name) {
                handle.alarm.set(rooms.deadline(name));
            }
            joined
        })
    }

    /// Takes somebody who has logged in into a room in which they speak and hear on their main
    /// connection, and makes the room if there is none.
    ///
    /// # Errors
    /// As [`RoomManager::join`].
    pub(crate) fn join_here(&self, name: &Name, joiner: &Joiner<'_>) -> Result<(), RoomError> {
        let notified = self.enter(name, |rooms| {
            let (port, notified) = rooms.enter_here(name, joiner, self.clock.now())?;
            self.emit_joined(name, joiner.main.session(), joiner.who);
            // Told under the lock, before anybody can be told that they have left.
            self.events.emit(|| ChatEvent::RoomJoined {
                port,
                room: name.to_string(),
                name: joiner.who.to_string(),
            });
            Ok(notified)
        })?;
        joiner.main.outbox.flush();
        flush_all(&notified);
        Ok(())
    }

    /// Lets somebody into a room, which is made if there is none. A room has to be joined under the
    /// lock under which it is opened, or it would be empty and never end.
    fn enter<T>(
        &self,
        name: &Name,
        enter: impl FnOnce(&mut Rooms) -> Result<T, RoomError>,
    ) -> Result<T, RoomError> {
        let mut directory = self.directory.lock();
        loop {
            if self.clock.is_stopped() {
                return Err(RoomError::Full);
            }
            if directory.rooms.exists(name) {
                return enter(&mut directory.rooms);
            }
            if directory.opening.insert(name.key()) {
                break;
            }
            self.made.wait(&mut directory);
        }
        drop(directory);
        let mut opening = RoomOpening {
            threads: self,
            key: Some(name.key()),
        };
        let (mut held, handle) = self.begin(name).ok_or(RoomError::Full)?;
        let history = self.with(|rooms| rooms.history());
        let elsewhere = self.backplane.attach(name, history);
        // As it is spelled where it began.
        let spelled = elsewhere
            .as_ref()
            .and_then(|there| Name::new(&there.name))
            .unwrap_or_else(|| name.clone());
        let name = &spelled;
        let mut directory = self.directory.lock();
        opening.ends(&mut directory);
        // Looked at again under the lock under which the server's end ends all rooms.
        let lease = held.lease.take_if(|_| !self.clock.is_stopped());
        let Some(lease) = lease else {
            drop(directory);
            handle.close(None);
            return Err(RoomError::Full);
        };
        let port = handle.port;
        directory
            .rooms
            .open(name, (lease, port), self.places, Arc::clone(&handle));
        if let Some(there) = elsewhere {
            handle.token.store(there.token, Ordering::Release);
            directory.rooms.remember(name, there.topic, there.history);
        }
        self.events.emit(|| ChatEvent::RoomOpened {
            port,
            room: name.to_string(),
        });
        enter(&mut directory.rooms)
    }

    /// Takes a port and starts a room's thread. `None` when there is no port or thread left.
    fn begin(&self, name: &Name) -> Option<(HeldPort<'_>, Arc<RoomHandle>)> {
        let (held, listener) = self.ports.bind_next(&self.events)?;
        let (port, listener) = (listener.port(), Arc::new(listener));
        let timer = self.clock.subscribe_timer();
        let handle = Arc::new(RoomHandle {
            port,
            listener: Arc::downgrade(&listener),
            alarm: timer.alarm(),
            timer: timer.notifier(),
            closed: AtomicBool::new(false),
            token: AtomicU64::new(0),
            lease: Mutex::new(None),
        });
        let room = NewRoom {
            name: name.clone(),
            handle: Arc::clone(&handle),
            listener,
            timer,
            timer_token: self.budget.take()?,
        };
        let serve = Arc::clone(&self.serve);
        let thread = spawn(&self.budget, format!("room-{port}"), move || serve(room));
        match thread {
            Ok(thread) => self.keep(thread),
            Err(error) => {
                trouble(&self.events, "start a room's thread", &error);
                return None;
            }
        }
        Some((held, handle))
    }

    /// Keeps a room's thread for the server's end, and joins those of rooms that have ended.
    fn keep(&self, thread: JoinHandle<()>) {
        let mut running = self.running.lock();
        let ended: Vec<JoinHandle<()>> = running
            .extract_if(.., |thread| thread.is_finished())
            .collect();
        running.push(thread);
        drop(running);
        join_all(ended);
    }

    /// The right to keep one more thread.
    ///
    /// # Errors
    /// When the server has as many threads as it may have.
    pub(crate) fn thread_token(&self) -> io::Result<ThreadToken> {
        take(&self.budget)
    }

    /// The last step of a room's thread, when its listener is closed: the port goes back.
    pub(crate) fn put_back(&self, name: &Name, handle: &RoomHandle) {
        let Some(lease) = handle.lease.lock().take() else {
            return;
        };
        // Told under the lock, before the next room can have the port.
        let mut free = self.ports.free.lock();
        free.push(lease);
        self.events.emit(|| ChatEvent::RoomEnded {
            port: handle.port,
            room: name.to_string(),
        });
    }

    /// Takes the person with this main connection out of a room.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`], [`RoomError::NotAMember`].
    pub(crate) fn leave(&self, name: &Name, main: &Arc<Connection>) -> Result<(), RoomError> {
        let departure = self.with(|rooms| {
            let departure = rooms.leave(name, main)?;
            self.note(name, &departure);
            Ok(departure)
        })?;
        if let Some(connection) = &departure.connection {
            self.emit_left(name, connection, CloseReason::Terminate);
            // Who is "here" goes on talking on that connection.
            if !Arc::ptr_eq(connection, main) {
                connection.outbox.end(CloseReason::Terminate);
            }
        }
        self.follow(departure);
        Ok(())
    }

    /// Takes somebody whose main connection is over out of every room.
    pub(crate) fn leave_all(&self, main: &Arc<Connection>) {
        if main.name().is_none() {
            return;
        }
        for name in self.with(|rooms| rooms.rooms_of(main)) {
            // A room that has ended meanwhile has been left, too.
            let _ = self.leave(&name, main);
        }
    }

    /// Tells the other servers that somebody is in a room. Called under the rooms' lock, so that a
    /// farewell comes after it; it does not wait.
    pub(crate) fn emit_joined(&self, room: &Name, session: u64, name: &Name) {
        self.backplane.join(Sender { session, name }, room);
    }

    /// Tells the other servers who has left a room, or that nobody here is in it any more. As
    /// [`RoomManager::emit_joined`].
    pub(crate) fn note(&self, room: &Name, departure: &Departure) {
        if let Some((session, name)) = &departure.left {
            let session = *session;
            self.backplane.leave(Sender { session, name }, room);
        }
        if let Some(ended) = &departure.ended {
            let token = ended.handle.token.load(Ordering::Acquire);
            self.backplane.detach(room, token);
        }
    }

    pub(crate) fn emit_left(&self, name: &Name, connection: &Connection, end: CloseReason) {
        self.events.emit(|| ChatEvent::RoomLeft {
            room: name.to_string(),
            name: connection.label().to_string(),
            end,
        });
    }

    /// What follows, without the lock, when somebody is out of a room.
    pub(crate) fn follow(&self, departure: Departure) {
        flush_all(&departure.notified);
        if let Some(ended) = departure.ended {
            ended.handle.close(Some(ended.lease));
        }
    }

    /// How many rooms could be made now.
    pub fn free_ports(&self) -> usize {
        self.ports.free.lock().ports().len()
    }

    /// The server is going down: everyone in every room is told, and every room ends. The clock has
    /// been stopped, so none begins any more.
    pub fn end_all(&self) {
        for (ended, connected) in self.with(Rooms::end_all) {
            for connection in connected {
                connection.outbox.end(CloseReason::Shutdown);
            }
            ended.handle.close(Some(ended.lease));
        }
        // Taken out first, because a thread that ends may want the lock.
        let threads = std::mem::take(&mut *self.running.lock());
        join_all(threads);
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // Each catches what may panic; if one ended by a panic all the same, it ended.
        let _ = thread.join();
    }
}
