//! Starts and stops the server's threads.
//!
//! [`Server::start`] first binds every listener, so that it detects a port in use before anything
//! else is open. Then it starts the threads: the portal, and for each port a worker and a timer.
//! [`Server::stop`] stops and joins them all. Each thread is documented in the module named after
//! it.

mod budget;
mod conflict;
mod late;
mod listeners;
#[cfg(test)]
mod panic_tests;
mod parts;
mod ports;
#[cfg(test)]
mod session_tests;
mod settings;
mod thread_events;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::unbounded;

use crate::accounts::policies::SharedPolicies;
use crate::accounts::{Register, Registration, SharedAccounts, SharedTokens};
use crate::chat::{Connection, Pairs, Rooms, Users};
use crate::clock::{Clock, Tick, Ticks, TimerSubscription};
use crate::event::{CoreEvent, Events};
use crate::limits;
use crate::lock::Mutex;
use crate::net::{
    BoundPort, Datagrams, Listener, Network, PendingConnections, Port, PortUse, Tap, TlsServer,
};
use crate::seat::{Passcode, PasscodeKind, SeatNumber};
use crate::web::http::{self, Hosts, Refusal, Rules, SharedRules};
use crate::web::{Page, PageSettings};
use budget::Needs;
use late::{LateWorkers, MissingPort};
use listeners::{Listeners, PORTAL, WEB, explain};
#[cfg(feature = "cluster")]
use portal_backplane::{BackplaneHost, Load, RedisBackplane};
use portal_core::accept_loop::AcceptLoop;
use portal_core::guard::per_address_limit::PerAddressLimit;
use portal_core::liveness::Liveness;
use portal_core::panics::Panics;
use portal_core::portal::Portal;
use portal_core::seats::Seats;
use portal_core::sockets::ConnectionFactory;
use portal_core::state::ServerState;
use portal_core::timer::SeatTimer;
use portal_core::worker::Worker;
use portal_entrances::WebSocket;
use portal_entrances::browser::BrowserEntrance;
use portal_entrances::callback::Callbacks;
use portal_entrances::single_port::SinglePort;
use portal_entrances::{OwnCallers, tls_portal};
#[cfg(feature = "journal")]
use portal_journal::FileJournal;
use portal_sessions::backplane::Alone;
use portal_sessions::journal::{History, Journal, MemoryJournal};
#[cfg(feature = "cluster")]
use portal_sessions::local_delivery::LocalDelivery;
use portal_sessions::login_throttle::LoginThrottle;
use portal_sessions::room_manager::{NewRoom, RoomManager};
use portal_sessions::room_threads;
use portal_sessions::state::{AdmissionRules, ChatState, Logins};
use ports::Binder;

pub use budget::Limit;
pub(crate) use budget::raise_descriptor_limit;
pub use conflict::PortConflict;
pub(crate) use conflict::port_conflict;
pub use listeners::StartError;
pub use portal_sessions::pace::Rate;
pub use settings::{Portals, Settings, WEB_ROOM, WebEntrance};

/// A running server.
pub struct Server {
    state: Arc<ServerState>,
    chat: Arc<ChatState>,
    policies: Arc<SharedPolicies>,
    accounts: Option<Arc<SharedAccounts>>,
    tokens: Arc<SharedTokens>,
    #[cfg(feature = "cluster")]
    cluster: parts::Cluster,
    /// The journal and its thread.
    #[cfg(feature = "journal")]
    journal: Option<(Arc<FileJournal>, JoinHandle<()>)>,
    #[cfg(test)]
    panics: Panics,
    threads: Vec<JoinHandle<()>>,
    /// Dropping it stops the events about threads that start and exit.
    _thread_events: Option<Arc<Events>>,
    /// Callers at all entrances that are not authenticated yet.
    callers: Arc<PendingConnections>,
    /// The listeners on which threads block in `accept`. Shutdown wakes these threads.
    tcp: Vec<Arc<Listener>>,
    udp: Option<Arc<Datagrams>>,
    /// The address of the portal or of the single port.
    portal: SocketAddr,
    /// The address of the browser entrance.
    web: Option<SocketAddr>,
    /// The rules of the browser entrance.
    web_rules: SharedRules,
    /// The chat page, which shows the message of the day.
    page: Option<Arc<Page>>,
    tick: Duration,
    tls: Option<TlsServer>,
    /// The port of each seat.
    workers: Vec<Port>,
    /// Number of these ports that were busy at startup.
    missing: usize,
    /// The reason for the shutdown. A leaf lock.
    why: Mutex<Option<String>>,
}

/// A connected client.
pub(crate) struct Connected {
    pub(crate) seat: SeatNumber,
    pub(crate) port: Port,
    /// The names of the two threads that serve the client.
    pub(crate) threads: String,
    pub(crate) connection: Arc<Connection>,
}

impl Server {
    /// Binds every listener and starts every thread. The caller advances `clock` (with a
    /// [`crate::clock::Ticker`], or by hand in a test).
    ///
    /// # Errors
    /// [`StartError`] if a port is in use, the address is not this machine's, or the system can't
    /// provide a thread or random numbers. In that case nothing stays open or running.
    pub fn start(settings: &Settings, clock: Clock, events: Events) -> Result<Server, StartError> {
        Server::start_with(settings, clock, events, |tap| {
            Box::new(ports::System { tap: tap.clone() })
        })
    }

    /// Starts a server with these settings and stops it again. Does not wait for ports in
    /// TIME_WAIT, but returns them; a real start would wait up to a minute for them.
    ///
    /// # Errors
    /// Like [`Server::start`].
    pub fn check(
        settings: &Settings,
        clock: Clock,
        events: Events,
    ) -> Result<Vec<u16>, StartError> {
        let (in_time_wait, ports) = unbounded();
        let server = Server::start_with(settings, clock, events, |tap| {
            let system = ports::System { tap: tap.clone() };
            Box::new(ports::Checking {
                system,
                in_time_wait,
            })
        })?;
        server.stop();
        Ok(ports.try_iter().collect())
    }

    /// Like [`Server::start`], but binds the ports with `binder`.
    fn start_with(
        settings: &Settings,
        clock: Clock,
        mut events: Events,
        binder: impl FnOnce(&Tap) -> Box<dyn Binder>,
    ) -> Result<Server, StartError> {
        if settings.trace {
            events.show_calls();
        }
        if settings.show_passcodes {
            events.show_passcodes();
        }
        Passcode::try_random().map_err(|error| StartError::NoRandomness(error.to_string()))?;
        let panics = Panics::catching(&events);
        let thread_budget = budget::check(Needs::of(settings)).map_err(|limits| {
            let seats = settings.single_port.unwrap_or(settings.workers);
            StartError::Limits { seats, limits }
        })?;
        let tap = parts::tap(settings, &events);
        let mut binder = binder(&tap);
        let listeners = Listeners::bind(settings, &mut *binder, &tap)?;
        let alone = || -> parts::Seams { (Arc::new(Alone), None, None) };
        #[cfg(feature = "cluster")]
        let cluster = parts::cluster(settings);
        #[cfg(feature = "cluster")]
        let (backplane, directory, tokens) = cluster.as_ref().map_or_else(alone, |cluster| {
            let shared = Some(Arc::clone(cluster));
            (
                Arc::clone(cluster) as _,
                shared.clone().map(|there| there as _),
                shared.map(|there| there as _),
            )
        });
        #[cfg(not(feature = "cluster"))]
        let (backplane, directory, tokens) = alone();
        let policies = parts::open_policies(settings, &clock, &events)?;
        let accounts = parts::open_accounts(settings, directory, &policies, &events)?;
        let tokens = parts::open_tokens(settings, accounts.as_ref(), tokens, &events)?;
        let port = listeners.port;
        // In single-port mode, every seat has the same port.
        let workers: Vec<Port> = match settings.single_port {
            Some(clients) => vec![port; clients],
            None => listeners.workers.iter().map(parts::worker_port).collect(),
        };
        let timeouts = settings.timeouts();
        let own_callers = OwnCallers::default();
        let transport = |needs_passcode| {
            let (events, own) = (events.clone(), own_callers.clone());
            parts::screened_transport(settings, events, needs_passcode, own)
        };
        let passcodes = match settings.compat {
            None => PasscodeKind::Hex,
            Some(_) => PasscodeKind::NineDigits,
        };
        // A room's client must have logged in, so a web page can't connect there.
        let transport_of_rooms = transport(true);
        let transport = transport(settings.single_port.is_none());
        let (seats, timekeeping) = parts::make_seats(&workers, passcodes, timeouts, &clock);
        events.emit(|| CoreEvent::Started {
            ports: workers.clone(),
            period: settings.tick.as_secs(),
            reserve: timeouts.reserve,
            handshake: timeouts.handshake,
            idle: timeouts.idle.map_or(0, Ticks::get),
            total: timeouts.total.map_or(0, Ticks::get),
        });
        let thread_events = thread_events::report_threads(&events);
        let callers = Arc::new(PendingConnections::new(settings.pending));
        let callers_of_rooms = Arc::clone(&callers);
        let admission = Arc::new(AdmissionRules {
            policies: Arc::clone(&policies) as _,
            backplane: Arc::clone(&backplane),
        });
        let accept_loop = AcceptLoop::new(
            events.clone(),
            Arc::clone(&transport),
            Arc::clone(&admission) as _,
        );
        let factory = ConnectionFactory {
            transport,
            tick: settings.tick,
            clock: clock.clone(),
        };
        let other_ports = [
            Some(port.get()),
            settings.board.map(|board| board.port()),
            settings.metrics.map(|metrics| metrics.port()),
            listeners.web.as_ref().map(|web| web.port().get()),
        ];
        let dialer = Arc::new(Callbacks {
            factory: factory.clone(),
            other_ports: other_ports.into_iter().flatten().collect(),
            per_address: Mutex::new(PerAddressLimit::new(limits::CALLBACKS_A_TICK)),
        });
        let (mut users, mut rooms) = (
            Users::new(settings.announce_up_to),
            Rooms::new(timeouts, settings.history),
        );
        if backplane.announces_presence() {
            (users, rooms) = (users.without_announcements(), rooms.without_announcements());
        }
        #[cfg(feature = "journal")]
        let file = parts::open_journal(settings, &events)?;
        #[cfg(feature = "journal")]
        let journal: Arc<dyn Journal> = match &file {
            Some(file) => Arc::clone(file) as _,
            None => Arc::new(MemoryJournal::default()),
        };
        #[cfg(not(feature = "journal"))]
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let history = Arc::new(History::new(journal, accounts.is_some()));
        #[cfg(feature = "cluster")]
        if settings.cluster.is_some() {
            // Other servers may have sent messages while this one was stopped.
            history.note_gap();
        }
        let chat = Arc::new_cyclic(|chat: &Weak<ChatState>| {
            let chat = chat.clone();
            let accept_loop =
                AcceptLoop::new(events.clone(), Arc::clone(&transport_of_rooms), admission);
            let factory = ConnectionFactory {
                transport: transport_of_rooms,
                ..factory.clone()
            };
            let serve_room = Box::new(move |new: NewRoom| {
                // The server joins its rooms before it drops the state, so this succeeds.
                if let Some(chat) = chat.upgrade() {
                    room_threads::run(
                        chat,
                        accept_loop.clone(),
                        factory.clone(),
                        &callers_of_rooms,
                        new,
                    );
                }
            });
            ChatState {
                pairs: Pairs::new(seats.len()),
                users: Arc::new(users),
                rooms: RoomManager::new(
                    rooms,
                    parts::room_ports(settings, port, tap),
                    thread_budget,
                    serve_room,
                    (clock.clone(), events.clone()),
                    (
                        Arc::clone(&backplane),
                        Arc::clone(&history),
                        Arc::clone(&policies) as _,
                    ),
                    seats.len(),
                ),
                seats: Arc::new(Seats::new(
                    seats,
                    passcodes,
                    settings.max_per_address,
                    events.clone(),
                )),
                policies: Arc::clone(&policies) as _,
                history,
                logins: Logins {
                    accounts: accounts.clone().map(|there| there as _),
                    tokens: Arc::clone(&tokens) as _,
                    guesses: LoginThrottle::default(),
                    room_guesses: LoginThrottle::default(),
                    message_of_the_day: Mutex::new(settings.message_of_the_day.clone()),
                },
                backplane,
                rate: Mutex::new(settings.rate.map(|rate| (rate, settings.tick))),
                clock,
                events,
                panics: panics.clone(),
            }
        });
        let state = Arc::new(ServerState {
            clock: chat.clock.clone(),
            events: chat.events.clone(),
            panics: chat.panics.clone(),
            seats: Arc::clone(&chat.seats),
            accept_loop: accept_loop.clone(),
            service: Arc::clone(&chat) as _,
        });
        let mut server = Server {
            state,
            chat,
            policies,
            accounts: accounts.clone(),
            tokens,
            #[cfg(feature = "cluster")]
            cluster: None,
            #[cfg(feature = "journal")]
            journal: None,
            #[cfg(test)]
            panics,
            threads: Vec::new(),
            _thread_events: thread_events,
            callers,
            tcp: Vec::new(),
            udp: None,
            portal: settings.bind.at(port.get()),
            web: listeners.web.as_ref().map(BoundPort::address),
            web_rules: SharedRules::default(),
            page: None,
            tick: settings.tick,
            tls: settings.tls.clone(),
            workers,
            missing: 0,
            why: Mutex::default(),
        };
        // From here on, a failure drops the server, which stops the threads started so far.
        #[cfg(feature = "journal")]
        if let Some(file) = file {
            let thread = file.start().map_err(StartError::NoThread)?;
            server.journal = thread.map(|thread| (file, thread));
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &cluster {
            server.join_cluster(cluster, accounts)?;
        }
        server.start_timekeepers(timekeeping, settings)?;
        server.start_liveness(settings)?;
        let worker = Worker {
            state: Arc::clone(&server.state),
            factory: factory.clone(),
            dialer,
        };
        server.start_workers(listeners.workers, settings, binder, worker)?;
        if let (Some(port), Some(web)) = (listeners.web, &settings.web) {
            server.start_web(port, web, &accept_loop, settings, own_callers)?;
        }
        match (listeners.portal_tcp, settings.single_port) {
            (Some(port), Some(_)) => {
                let single = SinglePort {
                    state: Arc::clone(&server.state),
                    accept_loop,
                    factory,
                    handshake: timeouts.handshake,
                    callers: Arc::clone(&server.callers),
                };
                server.start_single(port, single)?;
            }
            (tcp, _) => server.start_portals(
                tcp,
                listeners.portal_udp,
                accept_loop,
                settings.compat.is_some(),
            )?,
        }
        Ok(server)
    }

    /// Joins the cluster, before any client is admitted.
    #[cfg(feature = "cluster")]
    fn join_cluster(
        &mut self,
        cluster: &Arc<RedisBackplane>,
        accounts: Option<Arc<SharedAccounts>>,
    ) -> Result<(), StartError> {
        let chat = Arc::downgrade(&self.chat);
        let load = Load {
            seats: self.workers.len(),
            free: 0,
            port: self.portal.port(),
            web: self.web.map(|web| web.port()),
            tls: self.tls.is_some(),
        };
        let free = |chat: Arc<ChatState>| chat.seats.free_ports().len();
        // The accounts hold a reference to the backplane, so the backplane must not keep them
        // alive.
        let accounts = accounts.as_ref().map(Arc::downgrade);
        let all = |accounts: &Weak<SharedAccounts>| Some(accounts.upgrade()?.all());
        let host = BackplaneHost {
            events: self.state.events.clone(),
            clients: Arc::new(LocalDelivery {
                state: chat.clone(),
            }),
            load: Box::new(move || Load {
                free: chat.upgrade().map_or(0, free),
                ..load.clone()
            }),
            accounts: Box::new(move || accounts.as_ref().and_then(all).unwrap_or_default()),
        };
        self.cluster = Some(Arc::clone(cluster));
        cluster.start(host).map_err(StartError::Cluster)
    }

    /// Returns the server's state, for an entrance that is not started here.
    pub fn state(&self) -> &Arc<ServerState> {
        &self.state
    }

    /// Returns a handle to the backplane, if this server is in a cluster.
    #[cfg(feature = "cluster")]
    pub(crate) fn shared_cluster(&self) -> Option<&Arc<RedisBackplane>> {
        self.cluster.as_ref()
    }

    /// Returns the state of the sessions.
    pub fn chat(&self) -> &Arc<ChatState> {
        &self.chat
    }

    /// Returns the backplane, if this server is in a cluster.
    #[cfg(feature = "cluster")]
    pub fn cluster(&self) -> Option<&RedisBackplane> {
        self.cluster.as_deref()
    }

    fn start_timekeepers(
        &mut self,
        timekeeping: Vec<TimerSubscription>,
        settings: &Settings,
    ) -> Result<(), StartError> {
        let keeper = SeatTimer {
            seats: Arc::clone(&self.state.seats),
            events: self.state.events.clone(),
            panics: self.state.panics.clone(),
            idle_soon: settings
                .warning_before_idle()
                .map(|soon| soon.get().saturating_mul(settings.tick.as_secs().max(1))),
        };
        for (index, timer) in timekeeping.into_iter().enumerate() {
            let number = SeatNumber::from_index(index);
            let name = match settings.single_port {
                Some(_) => format!("timer-{number}"),
                None => format!("timer-{}", self.workers[index]),
            };
            let keeper = keeper.clone();
            self.spawn(name, move || {
                if let Some(seat) = keeper.seats.seat(number) {
                    keeper.run(seat, &timer);
                }
            })?;
        }
        Ok(())
    }

    fn start_liveness(&mut self, settings: &Settings) -> Result<(), StartError> {
        let liveness = Liveness {
            state: Arc::clone(&self.state),
            limit: settings.unacknowledged,
            every: Ticks::covering(settings.unacknowledged / 10, settings.tick),
        };
        let subscription = self.state.clock.subscribe();
        self.spawn("liveness".to_owned(), move || liveness.run(&subscription))
    }

    fn start_workers(
        &mut self,
        ports: Vec<(SocketAddr, Option<BoundPort>)>,
        settings: &Settings,
        binder: Box<dyn Binder>,
        worker: Worker,
    ) -> Result<(), StartError> {
        let worker = Arc::new(worker);
        let is_missing = |seat: SeatNumber| {
            let port = ports.get(seat.index());
            port.is_some_and(|(_, bound)| bound.is_none())
        };
        let missing = self.state.seats.hold_back(is_missing).into_iter();
        let missing: Vec<MissingPort> = missing
            .map(|token| MissingPort {
                address: settings.bind.at(token.port().get()),
                token,
                held: Some(PortUse::EndedConnection),
            })
            .collect();
        for (index, (_, bound)) in ports.into_iter().enumerate() {
            let Some(bound) = bound else { continue };
            let listener = self.listen(bound, "worker", limits::WORKER_BACKLOG as i32)?;
            let port = listener.port();
            let worker = Arc::clone(&worker);
            self.spawn(format!("worker-{port}"), move || {
                if let Some(seat) = worker.state.seats.seat(SeatNumber::from_index(index)) {
                    worker.run(seat, &listener);
                }
            })?;
        }
        if let Some(first) = self.tcp.first() {
            self.emit_listening("workers", first.address());
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.missing = missing.len();
        let events = &self.state.events;
        events.emit(|| CoreEvent::PortsBusy {
            ports: missing.iter().map(|there| there.token.port()).collect(),
            reason: ports::reason(Some(PortUse::EndedConnection)),
        });
        let late = LateWorkers {
            worker,
            tls: settings.tls.clone(),
            missing,
            binder,
            ticks: self.state.clock.subscribe(),
        };
        self.spawn("late-workers".to_owned(), move || late.run())
    }

    /// Listens on a port whose thread is about to start.
    fn listen(
        &mut self,
        port: BoundPort,
        role: &'static str,
        backlog: i32,
    ) -> Result<Arc<Listener>, StartError> {
        let address = port.address();
        let listener = port
            .listen(backlog)
            .map_err(|error| explain(error, address, role, self.workers.len() + 2))?;
        let tls = self.tls.as_ref();
        let listener = Arc::new(listener.secured(tls));
        self.tcp.push(Arc::clone(&listener));
        Ok(listener)
    }

    fn start_web(
        &mut self,
        port: BoundPort,
        web: &WebEntrance,
        accept_loop: &AcceptLoop,
        settings: &Settings,
        own_callers: OwnCallers,
    ) -> Result<(), StartError> {
        self.web_rules = SharedRules::new(Rules {
            hosts: Hosts::new(&web.names),
            proxies: web.trusted_proxies.clone(),
        });
        let about = PageSettings {
            board: settings.board,
            port: port.port(),
            room: web.room.clone(),
            has_passwords: settings.accounts.is_some(),
            min_password: settings.min_password,
            greeting: settings.message_of_the_day.clone(),
        };
        let page = Arc::new(Page::new(about));
        self.page = Some(Arc::clone(&page));
        let web_socket = Arc::new(WebSocket::new(settings.max_message));
        let no_descriptor = http::refusal(Refusal::Unavailable);
        let door = BrowserEntrance {
            state: Arc::clone(&self.state),
            accept_loop: accept_loop.speaking(web_socket.clone(), no_descriptor.as_bytes()),
            factory: ConnectionFactory {
                transport: web_socket.clone(),
                tick: settings.tick,
                clock: self.state.clock.clone(),
            },
            callers: Arc::clone(&self.callers),
            rules: self.web_rules.clone(),
            port: port.port(),
            page,
            web_socket,
            own_callers,
            ping_every: Ticks::covering(limits::PROBE_EVERY, settings.tick),
            workers: settings.single_port.is_none().then_some(settings.bind),
        };
        let listener = self.listen(port, WEB, limits::WORKER_BACKLOG as i32)?;
        let address = listener.address();
        self.emit_listening("web", address);
        self.spawn(format!("web-{}", address.port()), move || {
            door.run(&listener);
        })
    }

    fn start_single(&mut self, port: BoundPort, single: SinglePort) -> Result<(), StartError> {
        let listener = self.listen(port, PORTAL, limits::PORTAL_BACKLOG)?;
        let address = listener.address();
        self.emit_listening("single", address);
        self.spawn(format!("single-{}", address.port()), move || {
            single.run(&listener);
        })
    }

    /// Starts the portals. They start last, when the workers to which they send clients are
    /// running.
    fn start_portals(
        &mut self,
        tcp: Option<BoundPort>,
        udp: Option<Datagrams>,
        accept_loop: AcceptLoop,
        takes_short_datagrams: bool,
    ) -> Result<(), StartError> {
        let portal = Portal {
            takes_short_datagrams,
            seats: Arc::clone(&self.state.seats),
            accept_loop,
            clock: self.state.clock.clone(),
            panics: self.state.panics.clone(),
        };
        if let Some(port) = tcp {
            let listener = self.listen(port, PORTAL, limits::PORTAL_BACKLOG)?;
            self.emit_listening("portal-tcp", listener.address());
            let (portal, callers) = (portal.clone(), Arc::clone(&self.callers));
            self.spawn("portal-tcp".to_owned(), move || {
                match listener.is_secured() {
                    true => tls_portal::run(&portal, &callers, &listener),
                    false => portal.run_tcp(&listener),
                }
            })?;
        }
        if let Some(socket) = udp {
            let socket = Arc::new(socket);
            self.emit_listening("portal-udp", socket.address());
            self.udp = Some(Arc::clone(&socket));
            self.spawn("portal-udp".to_owned(), move || portal.run_udp(&socket))?;
        }
        Ok(())
    }

    fn emit_listening(&self, role: &'static str, address: SocketAddr) {
        let events = &self.state.events;
        events.emit(|| CoreEvent::Listening { role, address });
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = crate::threads::start(name, run).map_err(StartError::NoThread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Returns the portal's address.
    pub fn portal(&self) -> SocketAddr {
        self.portal
    }

    /// Returns the address of the browser entrance, if there is one.
    pub fn web(&self) -> Option<SocketAddr> {
        self.web
    }

    /// Returns the workers' ports, in the order of their seats.
    pub fn workers(&self) -> &[Port] {
        &self.workers
    }

    /// Returns the number of workers' ports that were busy at startup. They are added when they
    /// become free.
    pub fn missing_at_start(&self) -> usize {
        self.missing
    }

    /// Returns the ports on the workload stack, from top to bottom.
    pub fn free_ports(&self) -> Vec<Port> {
        self.state.seats.free_ports()
    }

    /// Returns whether all seats share one port.
    fn is_single(&self) -> bool {
        self.workers.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Returns all connected clients, in the order of their seats.
    pub(crate) fn connected(&self) -> Vec<Connected> {
        let seats = self.state.seats.all().iter();
        seats
            .filter_map(|seat| {
                // A client in its handshake has not been welcomed, so nothing else may be sent to
                // it yet.
                let connection = self.chat.pairs.connection(seat.number)?;
                let timer = match self.is_single() {
                    true => seat.number.to_string(),
                    false => seat.port.to_string(),
                };
                let threads = format!("{} timer-{timer}", connection.thread());
                Some(Connected {
                    seat: seat.number,
                    port: seat.port,
                    threads,
                    connection,
                })
            })
            .collect()
    }

    /// Returns the label (name or port) of every connected client.
    pub(crate) fn labels(&self) -> Vec<String> {
        let connected = self.connected().into_iter();
        connected
            .map(|connected| connected.connection.label().to_string())
            .collect()
    }

    /// Sends a notice to every connected client; returns their number.
    pub fn broadcast(&self, text: &str) -> usize {
        self.chat.notice(text)
    }

    /// Disconnects the client with this name, or in the seat with this port, and sends it `reason`.
    /// Returns whether such a client was connected.
    pub fn kick(&self, name: &str, reason: &str) -> bool {
        self.chat.remove(None, name, reason).is_ok()
    }

    /// Returns the accounts; `None` if names are not protected by passwords.
    pub fn accounts(&self) -> Option<&Arc<SharedAccounts>> {
        self.accounts.as_ref()
    }

    /// Returns the session tokens.
    pub fn tokens(&self) -> &Arc<SharedTokens> {
        &self.tokens
    }

    /// Returns whether a registration needs an invitation.
    pub(crate) fn needs_invitations(&self) -> bool {
        let accounts = self.accounts.as_ref();
        accounts.is_some_and(|there| there.registration().register == Register::Invite)
    }

    /// Replaces the rules for registrations, if names are protected by passwords.
    pub(crate) fn set_registration(&self, register: Register, min_password: usize) {
        if let Some(accounts) = &self.accounts {
            accounts.set_registration(Registration {
                register,
                min_password,
            });
        }
        if let Some(page) = &self.page {
            page.change(|page| page.min_password = min_password);
        }
    }

    /// Returns the rules set by the operator and the moderators.
    pub fn policies(&self) -> &Arc<SharedPolicies> {
        &self.policies
    }

    /// Replaces the notice for clients that log in from now on.
    pub(crate) fn set_message_of_the_day(&self, text: Option<String>) {
        if let Some(page) = &self.page {
            page.change(|page| page.greeting.clone_from(&text));
        }
        *self.chat.logins.message_of_the_day.lock() = text;
    }

    /// Replaces the limit on documents from clients that are admitted from now on.
    pub(crate) fn set_rate(&self, rate: Option<Rate>) {
        *self.chat.rate.lock() = rate.map(|rate| (rate, self.tick));
    }

    /// Replaces the limit on the seats per address.
    pub(crate) fn set_max_per_address(&self, most: Option<usize>) {
        self.state.seats.limit_per_address(most);
    }

    /// Replaces the set of reverse proxies that are trusted to report their clients' addresses.
    pub(crate) fn set_trusted_proxies(&self, proxies: &[Network]) {
        self.web_rules.set_proxies(proxies);
    }

    pub(crate) fn now(&self) -> Tick {
        self.state.clock.now()
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    /// Notifies every client, joins every thread and closes every listener. After it returns, the
    /// ports can be bound again.
    pub fn stop(self) {
        drop(self);
    }

    /// Sets the reason for the event `shutting-down`.
    pub(crate) fn will_stop(&self, why: &str) {
        *self.why.lock() = Some(why.to_owned());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let why = self.why.lock().take();
        self.state.events.emit_last_counts();
        self.state.events.emit(|| CoreEvent::ShuttingDown { why });
        // The timers send farewells and shut the sockets down, which wakes workers blocked in
        // `read`.
        self.state.clock.stop();
        self.chat.rooms.end_all();
        for listener in &self.tcp {
            listener.wake();
        }
        if let Some(socket) = &self.udp {
            socket.wake();
        }
        for thread in self.threads.drain(..) {
            // Every loop catches panics. If a thread panicked anyway, it has exited.
            let _ = thread.join();
        }
        self.callers.end(limits::CONSOLE_PATIENCE);
        // Close the rooms that were being created during the first call.
        self.chat.rooms.end_all();
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            cluster.stop();
        }
        // The journal stops last, because other servers may send messages until the cluster is
        // left.
        #[cfg(feature = "journal")]
        if let Some((journal, thread)) = self.journal.take() {
            journal.stop();
            let _ = thread.join();
        }
    }
}
