//! The rooms' ports and threads: creating a room, joining and leaving it, and ending it (seed 004).
//!
//! The first `JOIN` creates a room, and the room ends when its last member leaves. The thread that
//! finds the room empty closes it under the lock that `JOIN` takes. The room's own thread then
//! wakes, waits for the room's other threads, and returns the port.
//!
//! No port is bound and no thread is started or joined under that lock. Instead, the thread that
//! creates a room marks the room's name, and only requests for the same room wait until it exists.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::backplane::{Backplane, Sender};
use crate::chat::{Connection, Departure, Joiner, RoomError, RoomHandle, Rooms, flush_all};
use crate::event::SessionEvent;
use crate::journal::History;
use crate::policies::Policies;
use portal_core::accept_loop::trouble;
use portal_core::clock::{Clock, TimerSubscription};
use portal_core::event::Events;
use portal_core::seat::{PortToken, Ticket, WorkloadStack};
use portal_net::lock::{Condvar, Mutex, Rank};
use portal_net::threads::{ThreadBudget, ThreadToken, spawn, take};
use portal_net::{Host, Listener};
use portal_wire::{CloseReason, Name};

/// The function that runs on a room's thread. It is passed in so that this module does not depend
/// on it.
pub(crate) type ServeRoom = Box<dyn Fn(NewRoom) + Send + Sync>;

/// Listens on an address. The error is the reason for the failure.
pub(crate) type ListenAt = Box<dyn Fn(SocketAddr) -> Result<Listener, String> + Send + Sync>;

/// A new room, passed to the thread that runs it.
pub struct NewRoom {
    pub(crate) name: Name,
    pub(crate) handle: Arc<RoomHandle>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) timer: TimerSubscription,
    /// The right to start the room's timer thread, acquired before the room opens, because the
    /// room's timeouts need the timer.
    pub(crate) timer_token: ThreadToken,
}

/// The ports that are available to rooms.
pub struct RoomPorts {
    /// The free ports, under a leaf lock.
    pub free: Mutex<WorkloadStack>,
    /// The host on which rooms listen.
    pub bind: Host,
    /// True if the system chooses the ports.
    pub any_port: bool,
    /// Listens on an address, or returns the reason for the failure.
    pub listen: ListenAt,
}

/// A port taken from the stack that no room has yet. Dropping it puts the port back.
struct HeldPort<'p> {
    ports: &'p RoomPorts,
    token: Option<PortToken>,
}

impl Drop for HeldPort<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.ports.free.lock().push(token);
        }
    }
}

impl RoomPorts {
    /// Takes the next port that can be bound; `None` if no port is left.
    fn bind_next(&self, events: &Events) -> Option<(HeldPort<'_>, Listener)> {
        let mut passed_over = Vec::new();
        let bound = loop {
            // The lock is released before the port is bound.
            let token = self.free.lock().pop();
            let Some(token) = token else { break None };
            let number = if self.any_port { 0 } else { token.port().get() };
            let held = HeldPort {
                ports: self,
                token: Some(token),
            };
            let wanted = self.bind.at(number);
            match (self.listen)(wanted) {
                Ok(listener) => break Some((held, listener)),
                Err(reason) => {
                    // Do not wait for this port; try the next one.
                    events.emit_failure("bind a room's port", reason);
                    passed_over.push(held);
                }
            }
        };
        // Put the ports back in reverse, to restore the order of the stack.
        while let Some(held) = passed_over.pop() {
            drop(held);
        }
        bound
    }
}

/// All rooms of a server.
pub struct RoomManager {
    /// The lock under which clients join rooms and rooms end.
    directory: Mutex<RoomDirectory>,
    /// Notified when a room has been created, or could not be created.
    made: Condvar,
    pub(crate) ports: RoomPorts,
    budget: ThreadBudget,
    serve: Arc<ServeRoom>,
    /// The rooms' threads, which must be joined. A leaf lock.
    running: Mutex<Vec<JoinHandle<()>>>,
    clock: Clock,
    events: Events,
    backplane: Arc<dyn Backplane>,
    history: Arc<History>,
    policies: Arc<dyn Policies>,
    /// The maximum number of members of a room.
    places: usize,
}

/// The state guarded by the rooms' lock.
struct RoomDirectory {
    rooms: Rooms,
    /// The keys of the rooms that are being created.
    opening: BTreeSet<String>,
}

/// Marks a room that is being created. Dropping it, even during a panic, lets other clients try.
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
    /// Creates a manager without rooms. Each room can have up to `places` members.
    pub fn new(
        rooms: Rooms,
        ports: RoomPorts,
        budget: ThreadBudget,
        serve: ServeRoom,
        (clock, events): (Clock, Events),
        (backplane, history, policies): (Arc<dyn Backplane>, Arc<History>, Arc<dyn Policies>),
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
            history,
            policies,
            places,
        }
    }

    /// Runs `action` under the rooms' lock. `action` must not block.
    pub fn with<T>(&self, action: impl FnOnce(&mut Rooms) -> T) -> T {
        action(&mut self.directory.lock().rooms)
    }

    /// Like [`RoomManager::with`], for the room with this name, if it still has `handle`: the room
    /// may have ended, and another one with its name may have begun. Afterwards, sets the alarm to
    /// the room's next deadline.
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

    /// Reserves a place in a room for a client that has logged in. Creates the room if it does not
    /// exist.
    ///
    /// # Errors
    /// [`RoomError::AlreadyMember`]; [`RoomError::TooMany`]; [`RoomError::Full`], which also means
    /// that no port or thread is left, or that the server is shutting down.
    pub(crate) fn join(
        &self,
        name: &Name,
        joiner: &Joiner<'_>,
    ) -> Result<(Name, Ticket), RoomError> {
        self.enter(name, joiner, |rooms| {
            let joined = rooms.reserve(name, joiner, self.clock.now());
            if let Some(handle) = rooms.handle(name) {
                handle.alarm.set(rooms.deadline(name));
            }
            joined
        })
    }

    /// Adds a client that has logged in to a room, in which it sends and receives on its main
    /// connection. Creates the room if it does not exist.
    ///
    /// # Errors
    /// The same errors as [`RoomManager::join`].
    pub(crate) fn join_here(&self, name: &Name, joiner: &Joiner<'_>) -> Result<(), RoomError> {
        let notified = self.enter(name, joiner, |rooms| {
            let (port, notified) = rooms.enter_here(name, joiner, self.clock.now())?;
            self.report_joined(name, joiner.main.session(), joiner.who);
            // Emit this under the lock, before an event can report that the client has left.
            self.events.emit(|| SessionEvent::RoomJoined {
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

    /// Adds a client to a room, which is created if it does not exist. The lock is held from the
    /// room's creation until the client has entered: otherwise the room would be empty and never
    /// end.
    fn enter<T>(
        &self,
        name: &Name,
        joiner: &Joiner<'_>,
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
            // Do not create a room for a client that can't enter it.
            directory.rooms.may_join_one_more(joiner.main)?;
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
        let most = self.with(|rooms| rooms.history());
        let kept = self.history.journal().begin_room(name, most);
        let elsewhere = self.backplane.attach(name, most);
        // The name as the room's creator spelled it.
        let spelled = elsewhere
            .as_ref()
            .and_then(|there| Name::new(&there.name))
            .unwrap_or_else(|| name.clone());
        let name = &spelled;
        let mut directory = self.directory.lock();
        opening.ends(&mut directory);
        // Check again under the lock, because the shutdown ends all rooms under it.
        let token = held.token.take_if(|_| !self.clock.is_stopped());
        let Some(token) = token else {
            drop(directory);
            handle.close(None);
            return Err(RoomError::Full);
        };
        let port = handle.port;
        directory
            .rooms
            .open(name, (token, port), self.places, Arc::clone(&handle));
        let (topic, mut history) = match elsewhere {
            Some(there) => {
                handle.attachment.store(there.token, Ordering::Release);
                (there.topic, there.history)
            }
            None => (kept.topic, Vec::new()),
        };
        // Without messages from the other servers, use those in the journal.
        if history.is_empty() {
            history = kept.history;
        }
        directory.rooms.remember(name, topic, history);
        self.policies.room_opened(name, joiner.who);
        self.events.emit(|| SessionEvent::RoomOpened {
            port,
            room: name.to_string(),
        });
        let entered = enter(&mut directory.rooms);
        // Only the client's own thread adds it to rooms, so the limit has not been reached since.
        debug_assert!(entered.is_ok(), "a new room has a place for its creator");
        entered
    }

    /// Takes a port and starts a room's thread. `None` if no port or thread is available.
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
            attachment: AtomicU64::new(0),
            token: Mutex::new(None),
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

    /// Keeps a room's thread, to join it at shutdown, and joins the threads of rooms that have
    /// ended.
    fn keep(&self, thread: JoinHandle<()>) {
        let mut running = self.running.lock();
        let ended: Vec<JoinHandle<()>> = running
            .extract_if(.., |thread| thread.is_finished())
            .collect();
        running.push(thread);
        drop(running);
        join_all(ended);
    }

    /// Reserves one more thread.
    ///
    /// # Errors
    /// The server already has its maximum number of threads.
    pub(crate) fn thread_token(&self) -> io::Result<ThreadToken> {
        take(&self.budget)
    }

    /// The last step of a room's thread, after its listener is closed: returns the port.
    pub(crate) fn put_back(&self, name: &Name, handle: &RoomHandle) {
        let Some(token) = handle.token.lock().take() else {
            return;
        };
        // Emit this under the lock, before another room can take the port.
        let mut free = self.ports.free.lock();
        free.push(token);
        self.events.emit(|| SessionEvent::RoomEnded {
            port: handle.port,
            room: name.to_string(),
        });
    }

    /// Removes the client with this main connection from a room.
    pub(crate) fn leave(&self, name: &Name, main: &Arc<Connection>) -> Result<(), RoomError> {
        let departure = self.with(|rooms| {
            let departure = rooms.leave(name, main)?;
            self.report_departure(name, &departure);
            Ok(departure)
        })?;
        if let Some(connection) = &departure.connection {
            self.emit_left(name, connection, CloseReason::Terminate);
            // A member that is in the room through its main connection keeps that connection.
            if !Arc::ptr_eq(connection, main) {
                connection.outbox.end(CloseReason::Terminate);
            }
        }
        self.follow(departure);
        Ok(())
    }

    /// Removes a client from every room after its main connection has ended.
    pub(crate) fn leave_all(&self, main: &Arc<Connection>) {
        if main.name().is_none() {
            return;
        }
        for name in self.with(|rooms| rooms.rooms_of(main)) {
            // An error means that the room has ended in the meantime, so the client has left it.
            let _ = self.leave(&name, main);
        }
    }

    /// Reports a new member to the other servers. Called under the rooms' lock, so that the
    /// member's departure is reported later. Does not block.
    pub(crate) fn report_joined(&self, room: &Name, session: u64, name: &Name) {
        self.backplane.join(Sender { session, name }, room);
    }

    /// Reports a departure to the other servers, and whether the room has ended here. Called like
    /// [`RoomManager::report_joined`].
    pub(crate) fn report_departure(&self, room: &Name, departure: &Departure) {
        if let Some((session, name)) = &departure.left {
            let session = *session;
            self.backplane.leave(Sender { session, name }, room);
        }
        if let Some(ended) = &departure.ended {
            let token = ended.handle.attachment.load(Ordering::Acquire);
            self.backplane.detach(room, token);
            self.history.journal().end_room(room);
            self.policies.room_ended(room);
        }
    }

    pub(crate) fn emit_left(&self, name: &Name, connection: &Connection, end: CloseReason) {
        self.events.emit(|| SessionEvent::RoomLeft {
            room: name.to_string(),
            name: connection.label().to_string(),
            end,
        });
    }

    /// Completes a departure without the lock: flushes the notifications, and closes a room that
    /// has ended.
    pub(crate) fn follow(&self, departure: Departure) {
        flush_all(&departure.notified);
        if let Some(ended) = departure.ended {
            ended.handle.close(Some(ended.token));
        }
    }

    /// The number of rooms that can be created now.
    pub fn free_ports(&self) -> usize {
        self.ports.free.lock().ports().len()
    }

    /// Ends every room at shutdown, and notifies every member. The clock has been stopped, so no
    /// new room begins.
    pub fn end_all(&self) {
        for (ended, connected) in self.with(Rooms::end_all) {
            for connection in connected {
                connection.outbox.end(CloseReason::Shutdown);
            }
            ended.handle.close(Some(ended.token));
        }
        // Take the threads out first, because a thread that is ending may need the lock.
        let threads = std::mem::take(&mut *self.running.lock());
        join_all(threads);
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // Each thread catches panics. A thread that panicked anyway has exited, too.
        let _ = thread.join();
    }
}
