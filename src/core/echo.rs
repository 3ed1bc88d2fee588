//! The core with another service than the chat: what a client sends comes back (seed 001). It shows
//! the parts of a server, and that the core needs nothing above it.
#![cfg(test)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portal_net::{Listener, Tap};
use portal_wire::limits::MAX_FRAME;
use portal_wire::{ClientCommand, ClientDoc, CloseReason, Handshake, ServerDoc};

use crate::accept_loop::AcceptLoop;
use crate::clock::{Clock, Ticks, TimerSubscription};
use crate::connection::Connection;
use crate::event::Events;
use crate::panics::Panics;
use crate::portal::Portal;
use crate::seat::{PasscodeKind, Seat, SeatNumber, Timeouts};
use crate::seats::{Seats, SharedSeat};
use crate::service::{AdmitAll, Service};
use crate::sockets::ConnectionFactory;
use crate::state::ServerState;
use crate::timer::SeatTimer;
use crate::transport::{Decoder, Input, XmlLines};
use crate::visit::Visit;
use crate::worker::{Dialer, Worker};

/// Sends each message back as a notice.
struct Echo;

impl Service for Echo {
    fn serve(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        welcome: &ServerDoc<'_>,
        decoder: &mut dyn Decoder,
    ) -> CloseReason {
        let outbox = &connection.outbox;
        outbox.send_doc(welcome);
        loop {
            match decoder.next_input() {
                Ok(Some(Input::Document { read, .. })) => match read {
                    Ok(ClientDoc::Message { text, .. }) => {
                        outbox.send_doc(&ServerDoc::Notice(text));
                        seat.with_seat(|slot| slot.seat.touch(connection.since));
                    }
                    Ok(ClientDoc::Command(ClientCommand::Terminate)) => {
                        return CloseReason::Terminate;
                    }
                    _ => {}
                },
                Ok(Some(Input::Alive { .. })) => {}
                Ok(None) => match decoder.read_from(&mut outbox.stream()) {
                    Ok(0) => return CloseReason::PeerClosed,
                    Ok(_) => {}
                    Err(error) => return CloseReason::of_read(&error),
                },
                Err(error) => return CloseReason::from(&error),
            }
        }
    }

    fn forget(&self, _: SeatNumber, _: &Arc<Connection>) {}

    fn welcomed(&self, _: SeatNumber) -> Option<Arc<Connection>> {
        None
    }

    fn listens_at(&self, _: u16) -> bool {
        false
    }

    fn connections_without_a_seat(&self) -> Vec<Arc<Connection>> {
        Vec::new()
    }
}

struct NeverDials;

impl Dialer for NeverDials {
    fn dial(&self, _: &mut Visit<'_>, _: &Handshake) -> Result<ServerDoc<'static>, CloseReason> {
        Err(CloseReason::Entrance("no-dialer"))
    }
}

fn bind() -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), &Tap::default()).unwrap()
}

/// An echo server with one seat, whose clock the test advances.
struct EchoServer {
    state: Arc<ServerState>,
    portal: Portal,
    worker: Worker,
    timer: TimerSubscription,
    listeners: [Listener; 2],
}

impl EchoServer {
    fn new() -> EchoServer {
        let clock = Clock::new();
        let events = Events::new(clock.clone());
        let panics = Panics::catching(&events);
        let listeners = [bind(), bind()];
        let second = Duration::from_secs(1);
        let ticks = |count| Ticks::covering(second * count, second);
        let timeouts = Timeouts {
            reserve: ticks(2),
            handshake: ticks(2),
            idle: Some(ticks(5)),
            idle_soon: None,
            total: None,
        };
        let timer = clock.subscribe_timer();
        let seat = SharedSeat::new(
            (SeatNumber::from_index(0), listeners[1].port()),
            Seat::new(PasscodeKind::Hex.random(), timeouts),
            timer.alarm(),
            timer.notifier(),
        );
        let seats = Seats::new(vec![seat], PasscodeKind::Hex, None, events.clone());
        let transport = Arc::new(XmlLines::new(MAX_FRAME));
        let accept_loop = AcceptLoop::new(events.clone(), transport.clone(), Arc::new(AdmitAll));
        let state = Arc::new(ServerState {
            clock: clock.clone(),
            events,
            panics: panics.clone(),
            seats: Arc::new(seats),
            accept_loop: accept_loop.clone(),
            service: Arc::new(Echo),
        });
        let portal = Portal {
            seats: Arc::clone(&state.seats),
            accept_loop,
            clock: clock.clone(),
            panics,
            takes_short_datagrams: false,
        };
        let worker = Worker {
            state: Arc::clone(&state),
            factory: ConnectionFactory {
                transport,
                tick: second,
                clock,
            },
            dialer: Arc::new(NeverDials),
        };
        EchoServer {
            state,
            portal,
            worker,
            timer,
            listeners,
        }
    }

    /// Runs the portal's, the worker's and the timer's threads while the test acts as a client.
    fn run(&self, test: impl FnOnce(&EchoServer)) {
        let [portal, worker] = &self.listeners;
        let timer = SeatTimer {
            seats: Arc::clone(&self.state.seats),
            events: self.state.events.clone(),
            panics: self.state.panics.clone(),
            idle_soon: None,
        };
        let seat = &self.state.seats.all()[0];
        thread::scope(|threads| {
            threads.spawn(|| self.portal.run_tcp(portal));
            threads.spawn(|| self.worker.run(seat, worker));
            threads.spawn(|| timer.run(seat, &self.timer));
            let _stop = StopAtTheEnd(self);
            test(self);
        });
    }

    /// Connects to an address and reads one line.
    fn ask(address: SocketAddr) -> (BufReader<TcpStream>, String) {
        let mut socket = BufReader::new(TcpStream::connect(address).unwrap());
        let mut line = String::new();
        let patience = Duration::from_secs(20);
        socket.get_ref().set_read_timeout(Some(patience)).unwrap();
        socket.read_line(&mut line).unwrap();
        (socket, line)
    }

    /// Asks the portal for the passcode, and presents it to the worker.
    fn connect(&self) -> EchoClient {
        let (_, ticket) = EchoServer::ask(self.listeners[0].address());
        let tag = "<HandshakePasscode>";
        let (_, rest) = ticket.split_once(tag).expect(&ticket);
        let (passcode, _) = rest.split_once('<').unwrap();
        let address = self.listeners[1].address();
        let mut client = EchoClient(BufReader::new(TcpStream::connect(address).unwrap()));
        client.sends(&format!("{tag}{passcode}</HandshakePasscode>"));
        client.reads("successful");
        client
    }
}

/// Ends the threads, even if the test fails.
struct StopAtTheEnd<'s>(&'s EchoServer);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.state.clock.stop();
        self.0.listeners.iter().for_each(Listener::wake);
    }
}

struct EchoClient(BufReader<TcpStream>);

impl EchoClient {
    fn sends(&mut self, inner: &str) {
        writeln!(self.0.get_mut(), "<CLIENT>{inner}</CLIENT>").unwrap();
    }

    fn reads(&mut self, part: &str) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.contains(part), "{line:?} instead of {part}");
    }
}

#[test]
fn the_core_serves_an_echo_with_portal_passcode_worker_and_timer() {
    EchoServer::new().run(|server| {
        let mut client = server.connect();
        let (_, full) = EchoServer::ask(server.listeners[0].address());
        assert!(full.contains("FULL"), "{full}");
        client.sends("<message>hello</message>");
        client.reads("hello");
        client.sends("<command>TERMINATE</command>");
        let mut rest = String::new();
        let _ = client.0.read_line(&mut rest);
        drop(client);
        // The seat is free again, for one who lets the idle timeout pass.
        let mut client = loop {
            if !server.state.seats.free_ports().is_empty() {
                break server.connect();
            }
            thread::yield_now();
        };
        for _ in 0..6 {
            server.state.clock.beat();
        }
        client.reads("IDLE TIMEOUT");
    });
}
