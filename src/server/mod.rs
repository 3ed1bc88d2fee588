//! The server: every thread of it is started here.
//!
//! [`Server::start`] binds every listener first, so that a port which is taken is found out while
//! nothing is half open, and then starts the threads: the portal, and for each port a worker and
//! a timer. [`Server::stop`] ends and joins them all. What each does is in the module of its name.

mod accepting;
mod budget;
mod callback;
mod courtesy;
mod guesses;
mod handshake;
mod house;
mod leaving;
mod listeners;
mod login;
mod pace;
mod panics;
mod portal;
mod room;
mod room_handle;
mod rooms;
mod session;
mod settings;
mod single;
mod timer;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Tick, Ticks, Timekeeping};
use crate::event::{End, Events, What};
use crate::hall::{Accounts, Damage, Guest, Pairs, People, Rooms};
use crate::limits;
use crate::net::{Call, Datagrams, Listener, Port, Spare, Tap};
use crate::outbox::Handed;
use crate::seat::{Passcode, PasscodeKind, Seat, SeatNumber, Timeouts, WorkloadStack};
use crate::wire::{Codec, ServerDoc};
use budget::{Needs, ThreadBudget};
use guesses::Guesses;
use house::{House, Post, Visitors};
use listeners::Listeners;

pub use budget::Limit;
pub use listeners::StartError;
pub use pace::Rate;
pub use settings::{Portals, Settings};

/// The ports after the last worker's. Where the system chooses, the numbers only tell the rooms
/// apart.
fn room_ports(settings: &Settings, portal: Port) -> Vec<Port> {
    let first = match settings.port {
        0 => 1,
        _ if settings.single_port.is_some() => usize::from(portal.get()) + 1,
        _ => usize::from(portal.get()) + settings.workers + 1,
    };
    let numbers = (first..first + settings.rooms).filter_map(|number| u16::try_from(number).ok());
    numbers.filter_map(Port::new).collect()
}

fn open_accounts(settings: &Settings, events: &Events) -> Result<Option<Accounts>, StartError> {
    let Some(path) = &settings.accounts else {
        return Ok(None);
    };
    let (accounts, damage) = Accounts::open(path).map_err(StartError::Accounts)?;
    for Damage { line, reason } in damage {
        events.tell(|| What::DamagedAccount { line, reason });
    }
    Ok(Some(accounts))
}

/// Refuses what this machine can't carry, before anything starts.
fn check_limits(settings: &Settings) -> Result<ThreadBudget, StartError> {
    let seats = settings.single_port.unwrap_or(settings.workers);
    let listeners = if settings.single_port.is_some() {
        1
    } else {
        // A worker's each, and the portal's two.
        seats + 2
    };
    let (viewers, board) = match settings.board {
        // Each who watches, and who lets them in; the feed.
        Some(_) => (limits::VIEWERS, 2),
        None => (0, 0),
    };
    // A timer and a worker each, or a timer and a connection's thread; the ticker and those that
    // accept or receive on the portal.
    let needs = Needs {
        threads: 2 * seats + 3 + viewers + board,
        sockets: listeners + seats + viewers + board,
    };
    budget::check(needs).map_err(|limits| StartError::Limits { seats, limits })
}

/// What every socket of the server gets: each call becomes an event, if that is wanted.
fn tap(settings: &Settings, events: &Events) -> Tap {
    let mut tap = Tap {
        chop: settings.chop,
        trace: None,
    };
    if events.want_calls() {
        let events = events.clone();
        tap.trace = Some(Arc::new(move |call: &Call<'_>| {
            events.tell_call(|| What::Called {
                call: call.name,
                address: call.address,
                wanted: call.wanted,
                result: call.result.clone(),
                bytes: call.shown_bytes(),
            });
        }));
    }
    tap
}

/// A running server.
pub struct Server {
    house: Arc<House>,
    threads: Vec<JoinHandle<()>>,
    /// Where threads are blocked in `accept` or `recv_from`, to be woken at the end.
    tcp: Vec<Arc<Listener>>,
    udp: Option<Arc<Datagrams>>,
    bind: IpAddr,
    port: Port,
    /// The port of each seat.
    workers: Vec<Port>,
    /// Why it is about to be stopped. A leaf lock.
    why: Mutex<Option<String>>,
}

/// Somebody who is connected.
pub(crate) struct Connected {
    pub(crate) seat: SeatNumber,
    pub(crate) port: Port,
    /// The names of the two that serve them.
    pub(crate) threads: String,
    pub(crate) guest: Arc<Guest>,
}

impl Server {
    /// Binds every listener and starts every thread. Time is `clock`'s: whoever starts the server
    /// lets it tick (a [`crate::clock::Ticker`], or a test by hand).
    ///
    /// # Errors
    /// [`StartError`] when a port is taken, the address is not this machine's, or the system has
    /// no thread or no random number to give. Nothing is left open or running then.
    pub fn start(
        settings: &Settings,
        clock: Clock,
        mut events: Events,
    ) -> Result<Server, StartError> {
        if settings.trace {
            events.show_calls();
        }
        if settings.show_passcodes {
            events.show_passcodes();
        }
        Passcode::try_random().map_err(|error| StartError::NoRandomness(error.to_string()))?;
        panics::remember_places();
        let thread_budget = check_limits(settings)?;
        let tap = tap(settings, &events);
        let listeners = Listeners::bind(settings, &tap)?;
        let accounts = open_accounts(settings, &events)?;
        let port = listeners.port;
        // With one port for everyone, every seat is at that port.
        let workers: Vec<Port> = match settings.single_port {
            Some(clients) => vec![port; clients],
            None => listeners.workers.iter().map(Listener::port).collect(),
        };

        let timeouts = Timeouts {
            reserve: Ticks::covering(settings.reserve_timeout, settings.tick),
            handshake: Ticks::covering(settings.handshake_timeout, settings.tick),
            idle: settings
                .idle_timeout
                .map(|timeout| Ticks::covering(timeout, settings.tick)),
            idle_soon: settings.warning_before_idle(),
            total: settings
                .total_timeout
                .map(|timeout| Ticks::covering(timeout, settings.tick)),
        };
        let (codec, passcodes) = match settings.compat {
            None => (Codec::xml(settings.max_message), PasscodeKind::Hex),
            Some(revision) => (Codec::original(revision), PasscodeKind::NineDigits),
        };
        let (mut posts, mut timekeeping) = (Vec::new(), Vec::new());
        for (index, port) in workers.iter().enumerate() {
            let timer = clock.subscribe_timekeeper();
            let seat = Seat::new(passcodes.random(), timeouts);
            let place = (SeatNumber::from_index(index), *port);
            posts.push(Post::new(place, seat, timer.alarm(), timer.waker()));
            timekeeping.push(timer);
        }
        events.tell(|| What::Started {
            ports: workers.clone(),
            tick_seconds: settings.tick.as_secs(),
            reserve: timeouts.reserve,
            handshake: timeouts.handshake,
            idle: timeouts.idle,
            total: timeouts.total,
        });
        let room_ports = room_ports(settings, port);
        let house = Arc::new_cyclic(|this| House {
            clock,
            events,
            codec,
            passcodes,
            tick: settings.tick,
            stack: Mutex::new(WorkloadStack::new(workers.iter().copied())),
            pairs: Pairs::new(posts.len()),
            people: People::new(settings.announce_up_to),
            rooms: Mutex::new(Rooms::new(room_ports, timeouts, settings.history)),
            room_threads: Mutex::default(),
            serve_room: room::serve,
            bind: settings.bind,
            any_port: settings.port == 0,
            tap,
            thread_budget,
            portal: port,
            spare: Spare::hold(),
            guesses: Guesses::default(),
            rate: settings.rate,
            idle_soon: timeouts.idle_soon,
            visitors: settings.max_per_address.map(Visitors::of),
            this: this.clone(),
            accounts,
            message_of_the_day: settings.message_of_the_day.clone(),
            #[cfg(test)]
            panic_at: Mutex::default(),
            posts,
        });

        let mut server = Server {
            house,
            threads: Vec::new(),
            tcp: Vec::new(),
            udp: None,
            bind: settings.bind,
            port,
            workers,
            why: Mutex::default(),
        };
        // From here on a failure drops the server, which stops what has been started.
        server
            .start_threads(listeners, timekeeping, settings.single_port.is_some())
            .map_err(StartError::NoThread)?;
        Ok(server)
    }

    fn start_threads(
        &mut self,
        listeners: Listeners,
        timekeeping: Vec<Timekeeping>,
        is_single: bool,
    ) -> io::Result<()> {
        for (index, timer) in timekeeping.into_iter().enumerate() {
            let post = &self.house.posts[index];
            let name = if is_single {
                format!("timer-{}", post.number)
            } else {
                format!("timer-{}", post.port)
            };
            self.spawn(name, move |house| {
                timer::serve(house, &house.posts[index], &timer);
            })?;
        }
        for (index, listener) in listeners.workers.into_iter().enumerate() {
            let port = listener.port();
            let listener = Arc::new(listener);
            self.tcp.push(Arc::clone(&listener));
            self.spawn(format!("worker-{port}"), move |house| {
                worker::serve(house, &house.posts[index], &listener);
            })?;
        }
        if let Some(first) = self.tcp.first() {
            let address = first.address();
            self.house.events.tell(|| What::Listening {
                role: "workers",
                address,
            });
        }
        // The portal comes last: whoever it sends to a worker finds it at work.
        if let Some(listener) = listeners.portal_tcp {
            let address = listener.address();
            let role = if is_single { "single" } else { "portal-tcp" };
            self.house.events.tell(|| What::Listening { role, address });
            let listener = Arc::new(listener);
            self.tcp.push(Arc::clone(&listener));
            if is_single {
                self.spawn(format!("single-{}", address.port()), move |house| {
                    single::serve(house, &listener);
                })?;
            } else {
                self.spawn("portal-tcp".to_owned(), move |house| {
                    portal::serve_tcp(house, &listener);
                })?;
            }
        }
        if let Some(socket) = listeners.portal_udp {
            let address = socket.address();
            self.house.events.tell(|| What::Listening {
                role: "portal-udp",
                address,
            });
            let socket = Arc::new(socket);
            self.udp = Some(Arc::clone(&socket));
            self.spawn("portal-udp".to_owned(), move |house| {
                portal::serve_udp(house, &socket);
            })?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: String, run: impl FnOnce(&House) + Send + 'static) -> io::Result<()> {
        let house = Arc::clone(&self.house);
        let builder = Builder::new().name(name).stack_size(limits::THREAD_STACK);
        self.threads.push(builder.spawn(move || run(&house))?);
        Ok(())
    }

    /// The portal's address.
    pub fn portal(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port.get())
    }

    /// The workers' ports, in the order of their seats.
    pub fn workers(&self) -> &[Port] {
        &self.workers
    }

    /// The ports on the workload stack, the next one to be handed out first.
    pub fn free_ports(&self) -> Vec<Port> {
        let mut ports: Vec<Port> = self.house.stack.lock().ports().collect();
        ports.reverse();
        ports
    }

    /// Whether all seats are at one port.
    fn is_single(&self) -> bool {
        self.workers.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Everyone who is connected, in the order of the seats.
    pub(crate) fn connected(&self) -> Vec<Connected> {
        let posts = self.house.posts.iter();
        posts
            .filter_map(|post| {
                // Whoever is still on the way in has not been welcomed, so nothing else may be
                // said to them yet.
                let guest = self.house.pairs.guest(post.number)?;
                let threads = if self.is_single() {
                    format!("seat-{0} timer-{0}", post.number)
                } else {
                    format!("worker-{0} timer-{0}", post.port)
                };
                Some(Connected {
                    seat: post.number,
                    port: post.port,
                    threads,
                    guest,
                })
            })
            .collect()
    }

    /// The names (or ports) that everyone who is connected goes by.
    pub(crate) fn labels(&self) -> Vec<String> {
        let connected = self.connected().into_iter();
        connected
            .map(|connected| connected.guest.label().to_string())
            .collect()
    }

    /// Tells everyone who is connected something in words; returns how many.
    pub fn say(&self, text: &str) -> usize {
        let notice = ServerDoc::Notice(text.into());
        self.connected()
            .iter()
            .filter(|connected| connected.guest.outbox.send_doc(&notice) == Handed::Over)
            .count()
    }

    /// Removes the guest of that name, or in the seat with that port, telling them `reason`.
    /// Returns whether there was one.
    pub fn kick(&self, name: &str, reason: &str) -> bool {
        let farewell = ServerDoc::Kicked {
            reason: reason.into(),
        };
        let connected = self.connected();
        // The port first: somebody may have chosen another one's port for a name.
        let by_port = connected
            .iter()
            .find(|there| there.port.to_string() == name);
        let by_name = |there: &&Connected| there.guest.label().eq_ignore_ascii_case(name);
        let by_port = by_port.filter(|_| !self.is_single());
        let found = by_port.or_else(|| connected.iter().find(by_name));
        found.is_some_and(|connected| {
            let outbox = &connected.guest.outbox;
            outbox.end_saying(End::Kicked, Some(&farewell))
        })
    }

    pub(crate) fn now(&self) -> Tick {
        self.house.clock.now()
    }

    pub(crate) fn tick(&self) -> Duration {
        self.house.tick
    }

    /// How many rooms could be made now.
    pub fn free_rooms(&self) -> usize {
        self.house.rooms.lock().free_ports().len()
    }

    /// Tells every client, joins every thread and closes every listener. When it returns, the
    /// ports can be bound again.
    pub fn stop(self) {
        drop(self);
    }

    /// Notes why it is about to be stopped, for the event that tells of it.
    pub fn will_stop(&self, why: &str) {
        *self.why.lock() = Some(why.to_owned());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let why = self.why.lock().take();
        self.house.events.tell(|| What::ShuttingDown { why });
        // The timers see their guests out and shut the sockets, which wakes workers in a read.
        self.house.clock.stop();
        rooms::end_all(&self.house);
        for listener in &self.tcp {
            listener.wake();
        }
        if let Some(socket) = &self.udp {
            socket.wake();
        }
        for thread in self.threads.drain(..) {
            // Every loop catches what may panic; if one ended by a panic all the same, it ended.
            let _ = thread.join();
        }
    }
}
