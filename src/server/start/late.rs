//! The thread `late-workers`: starts the workers whose ports were in TIME_WAIT when the server
//! started.
//!
//! It tries to bind their ports once per tick. A seat's port is put on the workload stack only when
//! its worker is listening, so no client is sent to a port that refuses it. At shutdown the thread
//! wakes and joins these workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::clock::Subscription;
use crate::event::CoreEvent;
use crate::limits;
use crate::net::{BoundPort, Listener, PortProtocol, PortUse, TlsServer};
use crate::seat::{PortToken, SeatNumber};
use crate::start::ports::{Binder, reason};
use portal_core::accept_loop::trouble;
use portal_core::worker::Worker;

/// A seat whose worker is not listening yet.
pub(crate) struct MissingPort {
    /// The right to the seat, held by this thread until the worker is listening.
    pub(crate) token: PortToken,
    pub(crate) address: SocketAddr,
    /// The use of the port as reported by the last event.
    pub(crate) held: Option<PortUse>,
}

/// The state of the thread `late-workers`.
pub(crate) struct LateWorkers {
    pub(crate) worker: Arc<Worker>,
    pub(crate) tls: Option<TlsServer>,
    pub(crate) missing: Vec<MissingPort>,
    pub(crate) binder: Box<dyn Binder>,
    /// Subscribed before the first attempt, so that no tick is missed.
    pub(crate) ticks: Subscription,
}

impl LateWorkers {
    /// Runs the thread: retries until all workers are listening, then waits for the shutdown.
    pub(crate) fn run(mut self) {
        let clock = self.worker.state.clock.clone();
        let mut workers: Vec<(Arc<Listener>, JoinHandle<()>)> = Vec::new();
        let mut tried = clock.now();
        while !self.missing.is_empty() && self.ticks.wait_past(tried) {
            tried = clock.now();
            workers.extend(self.try_again());
        }
        // The channel disconnects when the clock stops.
        while self.ticks.ticks().recv().is_ok() {}
        for (listener, _) in &workers {
            listener.wake();
        }
        for (_, thread) in workers {
            let _ = thread.join();
        }
    }

    /// Tries each missing port once, and starts the workers of the free ones.
    fn try_again(&mut self) -> Vec<(Arc<Listener>, JoinHandle<()>)> {
        let (mut started, mut in_use) = (Vec::new(), Vec::new());
        let tried = std::mem::take(&mut self.missing);
        let mut absent: Vec<SeatNumber> = tried.iter().map(|there| there.token.seat()).collect();
        for missing in tried {
            let bound = self.binder.bind(missing.address);
            match bound.and_then(|port| self.start_worker(&missing.token, port)) {
                Ok(worker) => {
                    started.push(worker);
                    let seat = missing.token.seat();
                    absent.retain(|there| *there != seat);
                    let seats = &self.worker.state.seats;
                    seats.add(missing.token, |seat| absent.contains(&seat));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => in_use.push(missing),
                Err(error) => {
                    trouble(
                        &self.worker.state.accept_loop.events,
                        "start a worker",
                        &error,
                    );
                    self.missing.push(missing);
                }
            }
        }
        self.report_owners(&mut in_use);
        self.missing.extend(in_use);
        started
    }

    /// Emits an event for each port whose use has changed.
    fn report_owners(&mut self, in_use: &mut [MissingPort]) {
        let addresses: Vec<SocketAddr> = in_use.iter().map(|there| there.address).collect();
        let held = self.binder.held(PortProtocol::Tcp, &addresses);
        for (missing, held) in in_use.iter_mut().zip(held) {
            if held.is_some() && missing.held != held {
                missing.held = held;
                let ports = vec![missing.token.port()];
                let reason = reason(held);
                let events = &self.worker.state.accept_loop.events;
                events.emit(|| CoreEvent::PortsBusy { ports, reason });
            }
        }
    }

    fn start_worker(
        &self,
        token: &PortToken,
        port: BoundPort,
    ) -> io::Result<(Arc<Listener>, JoinHandle<()>)> {
        let listener = port.listen(limits::WORKER_BACKLOG as i32)?;
        let listener = Arc::new(listener.secured(self.tls.as_ref()));
        let (worker, seat) = (Arc::clone(&self.worker), token.seat());
        let accepts = Arc::clone(&listener);
        let name = format!("worker-{}", token.port());
        let thread = crate::threads::start(name, move || {
            if let Some(seat) = worker.state.seats.seat(seat) {
                worker.run(seat, &accepts);
            }
        })?;
        Ok((listener, thread))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;

    use crate::clock::Clock;
    use crate::event::{EventQueue, Events};
    use crate::net::PortUse;
    use crate::start::ports::tests::{ENDED, Scripted};
    use crate::start::{Portals, Server, Settings};

    const LISTENS: Option<PortUse> = Some(PortUse::Listener);
    const PATIENCE: Duration = Duration::from_secs(60);

    struct PortStage {
        server: Server,
        clock: Clock,
        events: EventQueue,
        binder: Scripted,
    }

    impl PortStage {
        /// Starts a server with workers 40001 to 40004.
        fn start(scripts: &[(u16, &[Option<PortUse>])]) -> PortStage {
            let clock = Clock::new();
            let mut events = Events::new(clock.clone());
            let queue = events.add_reader(1000);
            let settings = Settings {
                port: 40000,
                portals: Portals::Tcp,
                ..Settings::default()
            };
            let binder = Scripted::new(scripts);
            let given = Box::new(binder.clone());
            let server = Server::start_with(&settings, clock.clone(), events, |_| given).unwrap();
            PortStage {
                server,
                clock,
                events: queue,
                binder,
            }
        }

        fn free(&self) -> Vec<u16> {
            let ports = self.server.free_ports().into_iter();
            ports.map(|port| port.get()).collect()
        }

        /// Advances the clock until an event line contains `part`.
        fn ticks_until(&self, part: &str) -> String {
            for _ in 0..PATIENCE.as_millis() / 10 {
                let event = self.events.events().recv_timeout(Duration::from_millis(10));
                match event.map(|event| event.line()) {
                    Ok(line) if line.contains(part) => return line,
                    Ok(_) => {}
                    Err(_) => drop(self.clock.beat()),
                }
            }
            panic!("no event: {part}");
        }

        fn connect(&self, port: u16) -> BufReader<TcpStream> {
            let really = self.binder.0.lock().really[&port];
            let stream = TcpStream::connect(really).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            BufReader::new(stream)
        }

        /// Requests a seat from the portal, takes it, and returns its port.
        fn claim_seat(&self) -> (u16, BufReader<TcpStream>) {
            let mut ticket = String::new();
            self.connect(40000).read_to_string(&mut ticket).unwrap();
            let part = |element: &str| {
                let rest = ticket.split_once(&format!("<{element}>")).expect(&ticket).1;
                rest.split_once('<').unwrap().0.to_owned()
            };
            let (port, passcode) = (part("Port").parse().unwrap(), part("HandshakePasscode"));
            let mut seat = self.connect(port);
            let handshake =
                format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>\n");
            seat.get_mut().write_all(handshake.as_bytes()).unwrap();
            let mut welcome = String::new();
            seat.read_line(&mut welcome).unwrap();
            assert!(welcome.contains("Connection successful"), "{welcome}");
            (port, seat)
        }
    }

    #[test]
    fn a_server_serves_at_once_and_adds_seats_as_their_ports_become_free() {
        let stage = PortStage::start(&[(40002, &[ENDED; 3]), (40003, &[ENDED; 5])]);
        assert_eq!(stage.server.missing_at_start(), 2);
        assert_eq!(stage.free(), [40001, 40004]);
        stage.ticks_until("ports-busy      ports 40002-40003  reason a closed outgoing connection");
        let (port, _first) = stage.claim_seat();
        assert_eq!((port, stage.free()), (40001, vec![40004]));
        // The client in 40001 has no partner yet; the next client becomes its partner.
        stage.ticks_until("port-ready      port 40002");
        let (port, mut second) = stage.claim_seat();
        assert_eq!(port, 40002);
        let mut partner = String::new();
        second.read_line(&mut partner).unwrap();
        assert!(partner.contains("PARTNER JOINED"), "{partner}");
        stage.ticks_until("port-ready      port 40003");
        let mut free = stage.free();
        free.sort_unstable();
        assert_eq!(free, [40003, 40004]);
        stage.claim_seat();
        // The shutdown must wake and join these workers, too.
        stage.server.stop();
    }

    #[test]
    fn a_port_taken_by_another_program_is_reported_and_added_when_free() {
        let script = [ENDED, ENDED, LISTENS, LISTENS, LISTENS];
        let stage = PortStage::start(&[(40001, &script)]);
        assert_eq!(stage.free(), [40003, 40004, 40002], "the whole pair first");
        stage.ticks_until("ports-busy      ports 40001  reason another program is listening on it");
        stage.ticks_until("port-ready      port 40001");
        assert_eq!(stage.free(), [40003, 40004, 40002, 40001]);
        let reports = stage.events.events().try_iter();
        assert_eq!(
            reports
                .filter(|event| event.line().contains("port-"))
                .count(),
            0
        );
    }

    #[test]
    fn a_server_that_stops_does_not_wait_for_ports() {
        let stage = PortStage::start(&[(40002, &[ENDED; 1000])]);
        stage.server.stop();
    }
}
