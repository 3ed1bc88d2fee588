//! Binds the server's ports, and waits for ports that were recently used by outgoing connections.
//!
//! The system's range of ports for outgoing connections includes ours, and the system keeps the
//! port of a closed connection occupied for another minute (TIME_WAIT). A worker's port in that
//! state is *missing*: the server starts with the other seats, and adds this one when its port is
//! free. While startup waits, no port is listening, so the system refuses callers instead of
//! leaving them without an answer.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::limits;
use crate::net::{BoundPort, PortProtocol, PortUse, Tap};
use crate::output;

/// The interface to the system and the clock. Tests replace both.
pub(super) trait Binder: Send {
    /// Binds a TCP port.
    fn bind(&mut self, address: SocketAddr) -> io::Result<BoundPort>;
    /// Looks up what uses each of these ports.
    fn held(&mut self, transport: PortProtocol, addresses: &[SocketAddr]) -> Vec<Option<PortUse>>;
    /// Waits before the next attempt, and returns how long it waited.
    fn pause(&mut self) -> Duration;
    /// Reports to the operator why startup is delayed.
    fn report(&mut self, reason: &str);
}

/// The real system.
pub(super) struct System {
    pub(super) tap: Tap,
}

impl Binder for System {
    fn bind(&mut self, address: SocketAddr) -> io::Result<BoundPort> {
        BoundPort::bind(address, &self.tap)
    }

    fn held(&mut self, transport: PortProtocol, addresses: &[SocketAddr]) -> Vec<Option<PortUse>> {
        PortUse::each(transport, addresses)
    }

    fn pause(&mut self) -> Duration {
        let began = Instant::now();
        std::thread::sleep(limits::BIND_PAUSE);
        began.elapsed()
    }

    fn report(&mut self, reason: &str) {
        output::report(&format!("chatserver: {reason}\n"));
    }
}

/// A binder that checks whether a server could start. Rather than wait for a port in TIME_WAIT, it
/// binds a different port.
pub(super) struct Checking {
    pub(super) system: System,
    /// Receives the ports in TIME_WAIT.
    pub(super) in_time_wait: Sender<u16>,
}

impl Binder for Checking {
    fn bind(&mut self, address: SocketAddr) -> io::Result<BoundPort> {
        let error = match self.system.bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
            bound => return bound,
        };
        let held = self.held(PortProtocol::Tcp, &[address]).pop().flatten();
        if held != Some(PortUse::EndedConnection) {
            return Err(error);
        }
        // The receiver lives as long as the check.
        let _ = self.in_time_wait.send(address.port());
        let mut any = address;
        any.set_port(0);
        self.system.bind(any)
    }

    fn held(&mut self, transport: PortProtocol, addresses: &[SocketAddr]) -> Vec<Option<PortUse>> {
        self.system.held(transport, addresses)
    }

    fn pause(&mut self) -> Duration {
        self.system.pause()
    }

    fn report(&mut self, reason: &str) {
        self.system.report(reason);
    }
}

/// Describes why a port can't be bound.
pub(super) fn reason(held: Option<PortUse>) -> &'static str {
    match held {
        Some(PortUse::EndedConnection) => {
            "a closed outgoing connection still occupies it (TIME_WAIT)"
        }
        Some(PortUse::Connection) => "an outgoing connection is using it",
        Some(PortUse::Listener) => "another program is listening on it",
        None => "it is in use",
    }
}

/// The time that startup has waited for ports, and whether the operator has been notified.
#[derive(Default)]
struct Wait {
    waited: Duration,
    is_reported: bool,
}

impl Wait {
    /// Waits once for a port that is in use. Returns `false` if the time limit has passed.
    fn goes_on(&mut self, binder: &mut dyn Binder, port: u16, held: Option<PortUse>) -> bool {
        let patience = match held {
            Some(PortUse::EndedConnection) => limits::TIME_WAIT,
            Some(PortUse::Connection) => limits::BIND_PATIENCE,
            Some(PortUse::Listener) => Duration::ZERO,
            // The port became free between the attempt and the lookup, or the system does not
            // support the lookup.
            None => limits::BIND_PAUSE,
        };
        if self.waited >= patience {
            return false;
        }
        let why = match held {
            Some(PortUse::EndedConnection) => {
                Some(("a closed outgoing connection (TIME_WAIT)", "up to a minute"))
            }
            Some(PortUse::Connection) => Some(("an outgoing connection", "up to 3 s")),
            _ => None,
        };
        if let (Some((whose, long)), false) = (why, self.is_reported) {
            self.is_reported = true;
            binder.report(&format!(
                "port {port} is in use by {whose}; waiting {long} for it to become free; until \
                 then, the server does not listen on any port (Ctrl-C cancels startup)"
            ));
        }
        self.waited += binder.pause();
        true
    }
}

/// Binds one port with `bind`. Waits while an outgoing connection uses the port or keeps it in
/// TIME_WAIT.
pub(super) fn bind_patiently<S>(
    transport: PortProtocol,
    address: SocketAddr,
    binder: &mut dyn Binder,
    bind: impl Fn(&mut dyn Binder) -> io::Result<S>,
) -> io::Result<S> {
    let mut wait = Wait::default();
    loop {
        let error = match bind(binder) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
            bound => return bound,
        };
        let held = binder.held(transport, &[address]).pop().flatten();
        if !wait.goes_on(binder, address.port(), held) {
            return Err(error);
        }
    }
}

/// Binds the workers' ports. `None` stands for a port in TIME_WAIT. At least one port is bound: if
/// all are in TIME_WAIT, this waits for the first.
///
/// # Errors
/// The first address that can't be bound for another reason, with that reason.
pub(super) fn bind_workers(
    addresses: &[SocketAddr],
    binder: &mut dyn Binder,
) -> Result<Vec<Option<BoundPort>>, (SocketAddr, io::Error)> {
    let mut bound: Vec<Option<BoundPort>> = addresses.iter().map(|_| None).collect();
    let mut wait = Wait::default();
    loop {
        let mut in_use = Vec::new();
        for (slot, &address) in bound.iter_mut().zip(addresses) {
            if slot.is_some() {
                continue;
            }
            match binder.bind(address) {
                Ok(port) => *slot = Some(port),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    in_use.push((address, error));
                }
                Err(error) => return Err((address, error)),
            }
        }
        let wanted: Vec<SocketAddr> = in_use.iter().map(|(address, _)| *address).collect();
        let held = binder.held(PortProtocol::Tcp, &wanted);
        let mut in_use: Vec<_> = in_use.into_iter().zip(held).collect();
        let is_time_wait = |held: &Option<PortUse>| *held == Some(PortUse::EndedConnection);
        let others = in_use.iter().position(|(_, held)| !is_time_wait(held));
        if others.is_none() && (in_use.is_empty() || bound.iter().any(Option::is_some)) {
            return Ok(bound);
        }
        let ((address, error), held) = in_use.swap_remove(others.unwrap_or(0));
        if !wait.goes_on(binder, address.port(), held) {
            return Err((address, error));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{HashMap, VecDeque};
    use std::sync::Arc;

    use crate::lock::Mutex;

    use super::*;

    /// The use of a port at each attempt to bind it; after these attempts the port is free.
    pub(in crate::start) type Script = VecDeque<Option<PortUse>>;

    /// A binder that follows a script. In place of a free port, it binds one that the system
    /// chooses.
    #[derive(Clone, Default)]
    pub(in crate::start) struct Scripted(pub(in crate::start) Arc<Mutex<PortState>>);

    #[derive(Default)]
    pub(in crate::start) struct PortState {
        pub(in crate::start) scripts: HashMap<u16, Script>,
        /// The use of each port at the last failed attempt.
        held: HashMap<u16, Option<PortUse>>,
        /// The real address of each port.
        pub(in crate::start) really: HashMap<u16, SocketAddr>,
        pub(in crate::start) reports: Vec<String>,
        pauses: u32,
    }

    impl Scripted {
        pub(in crate::start) fn new(scripts: &[(u16, &[Option<PortUse>])]) -> Scripted {
            let scripts = scripts
                .iter()
                .map(|(port, script)| (*port, script.iter().copied().collect()));
            let scripted = Scripted::default();
            scripted.0.lock().scripts = scripts.collect();
            scripted
        }
    }

    impl Binder for Scripted {
        fn bind(&mut self, address: SocketAddr) -> io::Result<BoundPort> {
            let mut state = self.0.lock();
            let port = address.port();
            let script = state.scripts.entry(port).or_default();
            if let Some(held) = script.pop_front() {
                state.held.insert(port, held);
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let bound = BoundPort::bind(([127, 0, 0, 1], 0).into(), &Tap::default())?;
            state.really.insert(port, bound.address());
            Ok(bound)
        }

        fn held(&mut self, _: PortProtocol, addresses: &[SocketAddr]) -> Vec<Option<PortUse>> {
            let state = self.0.lock();
            let held = |address: &SocketAddr| state.held.get(&address.port()).copied().flatten();
            addresses.iter().map(held).collect()
        }

        fn pause(&mut self) -> Duration {
            self.0.lock().pauses += 1;
            limits::BIND_PAUSE
        }

        fn report(&mut self, reason: &str) {
            self.0.lock().reports.push(reason.to_owned());
        }
    }

    pub(in crate::start) const ENDED: Option<PortUse> = Some(PortUse::EndedConnection);
    const CONNECTED: Option<PortUse> = Some(PortUse::Connection);
    const LISTENS: Option<PortUse> = Some(PortUse::Listener);
    const ENOUGH: usize = 1000;

    /// Returns the ports, out of 1 to 4, that are bound at startup, or the port that is refused;
    /// the number of pauses; and the number of reports to the operator.
    fn start(scripts: &[(u16, &[Option<PortUse>])]) -> (Result<Vec<u16>, u16>, u32, usize) {
        let addresses: Vec<SocketAddr> =
            (1..=4).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let mut binder = Scripted::new(scripts);
        let bound = bind_workers(&addresses, &mut binder);
        let bound = bound.map(|bound| {
            let ports = (1..=4).zip(bound);
            ports
                .filter_map(|(port, bound)| bound.map(|_| port))
                .collect()
        });
        let state = binder.0.lock();
        let refused = bound.map_err(|(address, _)| address.port());
        (refused, state.pauses, state.reports.len())
    }

    #[test]
    fn startup_skips_ports_in_time_wait_if_another_is_free() {
        let long: &[Option<PortUse>] = &[ENDED; ENOUGH];
        assert_eq!(start(&[]), (Ok(vec![1, 2, 3, 4]), 0, 0));
        assert_eq!(start(&[(2, long)]), (Ok(vec![1, 3, 4]), 0, 0));
        assert_eq!(
            start(&[(1, long), (2, long), (4, long)]),
            (Ok(vec![3]), 0, 0)
        );
    }

    #[test]
    fn if_all_ports_are_in_time_wait_startup_reports_it_and_waits() {
        let [one, two, long]: [&[Option<PortUse>]; 3] =
            [&[ENDED; 3], &[ENDED; 5], &[ENDED; ENOUGH]];
        let all = [(1, long), (2, two), (3, one), (4, long)];
        assert_eq!(start(&all), (Ok(vec![3]), 3, 1));
        // A port that stays in use longer than any TIME_WAIT is refused.
        let never = [(1, long), (2, long), (3, long), (4, long)];
        let tries = limits::TIME_WAIT
            .as_millis()
            .div_ceil(limits::BIND_PAUSE.as_millis());
        assert_eq!(start(&never), (Err(1), tries as u32, 1));
    }

    #[test]
    fn a_port_used_by_a_program_is_refused() {
        let ended: &[Option<PortUse>] = &[ENDED; ENOUGH];
        assert_eq!(start(&[(1, ended), (2, &[LISTENS])]), (Err(2), 0, 0));
        // At startup, the server waits briefly for an outgoing connection that occupies one of its
        // ports, even if other ports are free.
        let tries = limits::BIND_PATIENCE.as_millis() / limits::BIND_PAUSE.as_millis();
        let connected: &[Option<PortUse>] = &[CONNECTED; ENOUGH];
        assert_eq!(start(&[(3, connected)]), (Err(3), tries as u32, 1));
        // If the connection closes in that time, its port counts as missing, like any other port in
        // TIME_WAIT.
        let ends: Vec<Option<PortUse>> =
            [CONNECTED; 2].into_iter().chain([ENDED; ENOUGH]).collect();
        assert_eq!(start(&[(3, &ends)]), (Ok(vec![1, 2, 4]), 2, 1));
        // A port that becomes free between the attempt and the lookup is tried once more.
        assert_eq!(start(&[(3, &[None])]), (Ok(vec![1, 2, 3, 4]), 1, 0));
        assert_eq!(start(&[(3, &[None; ENOUGH])]), (Err(3), 1, 0));
    }

    #[test]
    fn startup_waits_for_a_portal_in_time_wait() {
        let address = ([127, 0, 0, 1], 7).into();
        for (script, pauses, is_bound) in [
            (vec![ENDED; 4], 4, true),
            (vec![LISTENS], 0, false),
            (vec![CONNECTED, ENDED, LISTENS], 2, false),
        ] {
            let mut binder = Scripted::new(&[(7, &script)]);
            let bind = |binder: &mut dyn Binder| binder.bind(address);
            let bound = bind_patiently(PortProtocol::Tcp, address, &mut binder, bind);
            assert_eq!((bound.is_ok(), binder.0.lock().pauses), (is_bound, pauses));
        }
    }
}
