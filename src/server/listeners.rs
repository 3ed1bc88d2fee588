//! Binding every port that the server needs, before any thread starts.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::guard::budget::Limit;
use super::settings::{Portals, Settings, WebDoor};
use crate::cluster::ClusterError;
use crate::hall::AccountError;
use crate::invocation::Invocation;
use crate::limits;
use crate::net::{Datagrams, Held, Holder, Listener, Port, Tap, TlsServer, Transport};
use crate::output;

/// Why a server did not start. Each message is one sentence that names the thing and the cure.
#[derive(Debug)]
pub enum StartError {
    /// Somebody else listens on that port.
    PortTaken {
        /// The port.
        address: SocketAddr,
        /// What it was wanted for.
        role: &'static str,
        /// Who has it, if the system tells.
        holder: Option<Holder>,
    },
    /// The address is not one of this machine's.
    NotOurs(IpAddr),
    /// The system does not let this user have that port.
    Denied(SocketAddr),
    /// There are not enough ports after the portal's.
    PortsRunOut {
        /// The portal's port.
        port: u16,
        /// How many were to follow.
        workers: usize,
    },
    /// The system would not give this process the threads or descriptors for it.
    Limits {
        /// How many workers (or clients, on a single port) were asked for.
        seats: usize,
        /// Every limit that is in the way.
        limits: Vec<Limit>,
    },
    /// The system has no more file descriptors for this process.
    NoDescriptors {
        /// How many listeners were wanted.
        wanted: usize,
    },
    /// The accounts can't be used.
    Accounts(AccountError),
    /// It can't be one chat with the other servers.
    Cluster(ClusterError),
    /// The system has no random numbers.
    NoRandomness(String),
    /// The system has no thread to give.
    NoThread(io::Error),
    /// Anything else that binding can report.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::PortTaken {
                address,
                role,
                holder,
            } => port_taken(f, *address, role, holder.as_ref()),
            StartError::NotOurs(address) => write!(
                f,
                "{address} is not an address of this machine: use 127.0.0.1 for this machine \
                 alone, 0.0.0.0 for everyone, or one that `ip address` lists"
            ),
            StartError::Denied(address) => write!(
                f,
                "the system does not let you listen on port {}: choose a PORT from 1024 on",
                address.port()
            ),
            StartError::PortsRunOut { port, workers } => write!(
                f,
                "{workers} workers need the ports after {port}, but ports end at 65535: choose a \
                 smaller PORT or fewer --workers"
            ),
            StartError::Limits { seats, limits } => {
                write!(f, "{seats} people at a time are too many for this machine")?;
                for limit in limits {
                    write!(f, "; {limit}")?;
                }
                f.write_str(". Or choose fewer --workers (or --max-clients)")
            }
            StartError::NoDescriptors { wanted } => write!(
                f,
                "this process may not open {wanted} listeners: raise the limit with \
                 `ulimit -n {}` or choose fewer --workers",
                wanted * 2 + 64
            ),
            StartError::Accounts(error) => error.fmt(f),
            StartError::Cluster(error) => error.fmt(f),
            StartError::NoRandomness(reason) => write!(
                f,
                "the system gives no random numbers ({reason}), and without them a passcode could \
                 be guessed: start where /dev/urandom is available"
            ),
            StartError::NoThread(error) => write!(
                f,
                "the system gives no more threads ({error}): choose fewer --workers (each takes \
                 two threads) or raise the limit with `ulimit -u`"
            ),
            StartError::Bind(address, error) => write!(
                f,
                "can't listen on {address} ({error}): choose another PORT or another --bind address"
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Who has the port, what it was wanted for, and what helps.
fn port_taken(
    f: &mut fmt::Formatter<'_>,
    address: SocketAddr,
    role: &str,
    holder: Option<&Holder>,
) -> fmt::Result {
    let (port, ip) = (address.port(), address.ip());
    let program = holder.and_then(|holder| holder.program.as_ref());
    let is_connection = holder.is_some_and(|holder| holder.what != Held::Listener);
    write!(f, "port {port} on {ip} is taken")?;
    match (is_connection, program) {
        (true, Some(program)) => write!(f, " by an outgoing connection of {program}")?,
        (true, None) => {
            f.write_str(" by an outgoing connection of some program (`ss -tuanp` names it)")?
        }
        (false, Some(program)) => write!(f, " by {program}")?,
        (false, None) => {}
    }
    write!(f, ", and the {role} needs it: ")?;
    if is_connection {
        write!(
            f,
            "the system gives connections such ports. Try again in a minute, keep the port for servers \
             (`sysctl net.ipv4.ip_local_reserved_ports={port}-{}`), or choose ",
            port.saturating_add(20)
        )?;
        return match role {
            WEB => f.write_str("one below 32768 with --web ADDRESS:PORT"),
            _ => write!(
                f,
                "a PORT below 32768, such as {}",
                Invocation::of_this_process().server_at(20000)
            ),
        };
    }
    f.write_str(match program {
        Some(_) => "stop that program",
        None => "stop the program that has it (`ss -tulnp` names it)",
    })?;
    match role {
        WEB => f.write_str(" or choose another one with --web ADDRESS:PORT"),
        _ => write!(
            f,
            " or choose another PORT, such as {}",
            Invocation::of_this_process().server_at(suggestion(port))
        ),
    }
}

/// What its port is wanted for.
const WEB: &str = "browser's door";
const UDP_PORTAL: &str = "UDP portal";

/// A port to try instead: well away, so that the workers' ports do not meet the old ones.
fn suggestion(port: u16) -> u16 {
    if port < 60000 {
        (port / 1000 + 1) * 1000
    } else {
        40000
    }
}

/// Every bound socket of a server that has not started yet.
pub(super) struct Listeners {
    pub(super) port: Port,
    pub(super) portal_tcp: Option<Listener>,
    pub(super) portal_udp: Option<Datagrams>,
    pub(super) workers: Vec<Listener>,
    pub(super) web: Option<Listener>,
}

impl Listeners {
    /// Binds the portals and all workers' ports. The workers' lie in the range from which the
    /// system gives clients theirs, so they are taken now and not when they are needed.
    pub(super) fn bind(settings: &Settings, tap: &Tap) -> Result<Listeners, StartError> {
        let single = Settings {
            portals: Portals::Tcp,
            workers: 0,
            ..settings.clone()
        };
        let settings = if settings.single_port.is_some() {
            &single
        } else {
            settings
        };
        let (portal_tcp, portal_udp, port) = bind_portals(settings, tap)?;
        if let Some(listener) = &portal_tcp {
            // The shorter backlog only turns a rush away sooner.
            let _ = listener.lengthen_backlog(limits::PORTAL_BACKLOG);
        }
        let all = settings.workers + 2;
        let any_port = settings.port == 0;
        let last = usize::from(port.get()) + settings.workers;
        if !any_port && last > usize::from(u16::MAX) {
            return Err(StartError::PortsRunOut {
                port: port.get(),
                workers: settings.workers,
            });
        }
        let mut workers = Vec::with_capacity(settings.workers);
        for number in (1..=settings.workers as u16).map(|offset| port.get().wrapping_add(offset)) {
            let wanted = settings.bind.at(if any_port { 0 } else { number });
            let bound = bind_patiently(wanted, tap, settings.tls.as_ref());
            workers.push(bound.map_err(|error| explain(error, wanted, "worker", all))?);
        }
        let bind_web = |web: &WebDoor| {
            let bound = bind_patiently(web.address, tap, settings.tls.as_ref());
            bound.map_err(|error| explain(error, web.address, WEB, all))
        };
        Ok(Listeners {
            web: settings.web.as_ref().map(bind_web).transpose()?,
            port,
            portal_tcp,
            portal_udp,
            workers,
        })
    }
}

/// Binds a port of the workers', the portal's or the browsers'.
fn bind_patiently(wanted: SocketAddr, tap: &Tap, tls: Option<&TlsServer>) -> io::Result<Listener> {
    let bound = patiently(Transport::Tcp, wanted, || Listener::bind(wanted, tap));
    bound.map(|listener| listener.secured(tls))
}

/// Binds a port. If an outgoing connection has it, it will be free: in a moment, or, if that has ended, within the minute
/// for which the system keeps such a port. That is said, and waited for.
fn patiently<S>(
    transport: Transport,
    wanted: SocketAddr,
    bind: impl Fn() -> io::Result<S>,
) -> io::Result<S> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        let error = match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
            bound => return bound,
        };
        let holder = Holder::of(transport, wanted).map(|holder| holder.what);
        let patience = match holder {
            Some(Held::EndedConnection) => limits::TIME_WAIT,
            Some(Held::Connection) => limits::BIND_PATIENCE,
            // Whoever listens stays. Nobody's is a port that has just become free.
            Some(Held::Listener) | None => Duration::ZERO,
        };
        if began.elapsed() >= patience {
            return Err(error);
        }
        if !std::mem::replace(&mut is_told, true) {
            let (whose, long) = match holder {
                Some(Held::EndedConnection) => {
                    ("a connection that has just ended", "up to a minute")
                }
                _ => ("an outgoing connection", "a moment"),
            };
            output::report(&format!(
                "chatserver: port {} belongs to {whose}; waiting {long} for it (Ctrl-C ends that)\n",
                wanted.port()
            ));
        }
        std::thread::sleep(limits::BIND_PAUSE);
    }
}

type PortalSockets = (Option<Listener>, Option<Datagrams>, Port);

fn bind_portals(settings: &Settings, tap: &Tap) -> Result<PortalSockets, StartError> {
    let wanted = settings.bind.at(settings.port);
    let all = settings.workers + 2;
    let bind_tcp = || {
        let bound = bind_patiently(wanted, tap, settings.tls.as_ref());
        bound.map_err(|error| explain(error, wanted, "TCP portal", all))
    };
    let bind_udp = |wanted| patiently(Transport::Udp, wanted, || Datagrams::bind(wanted, tap));
    let explain_udp = |error, address| explain(error, address, UDP_PORTAL, all);
    match settings.portals {
        Portals::Tcp => {
            let tcp = bind_tcp()?;
            let port = tcp.port();
            Ok((Some(tcp), None, port))
        }
        Portals::Udp => {
            let bound = bind_udp(wanted);
            let udp = bound.map_err(|error| explain_udp(error, wanted))?;
            let port = udp.port();
            Ok((None, Some(udp), port))
        }
        Portals::Both => {
            // When the system chooses the TCP port, the same UDP port may be somebody else's;
            // then it chooses again.
            const TRIES: u32 = 16;
            let mut tries = 0;
            loop {
                tries += 1;
                let tcp = bind_tcp()?;
                match bind_udp(tcp.address()) {
                    Ok(udp) => {
                        let port = tcp.port();
                        return Ok((Some(tcp), Some(udp), port));
                    }
                    Err(error)
                        if error.kind() == io::ErrorKind::AddrInUse
                            && settings.port == 0
                            && tries < TRIES => {}
                    Err(error) => return Err(explain_udp(error, tcp.address())),
                }
            }
        }
    }
}

/// What there is to say to `error`, which came of binding `address` for `role`.
pub(super) fn explain(
    error: io::Error,
    address: SocketAddr,
    role: &'static str,
    listeners: usize,
) -> StartError {
    let transport = match role {
        UDP_PORTAL => Transport::Udp,
        _ => Transport::Tcp,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken {
            address,
            role,
            holder: Holder::of(transport, address),
        },
        io::ErrorKind::AddrNotAvailable => StartError::NotOurs(address.ip()),
        io::ErrorKind::PermissionDenied => StartError::Denied(address),
        _ if error.raw_os_error() == Some(libc::EMFILE) => {
            StartError::NoDescriptors { wanted: listeners }
        }
        _ => StartError::Bind(address, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_port_and_what_it_was_for_decide_what_helps() {
        let said = |role, what: Option<Held>| {
            let program = None;
            let taken = StartError::PortTaken {
                address: ([127, 0, 0, 1], 40000).into(),
                role,
                holder: what.map(|what| Holder { what, program }),
            };
            taken.to_string()
        };
        for (role, what, cure) in [
            ("worker", None, "another PORT"),
            ("worker", Some(Held::Listener), "another PORT"),
            ("worker", Some(Held::Connection), "a PORT below 32768"),
            (
                UDP_PORTAL,
                Some(Held::EndedConnection),
                "a PORT below 32768",
            ),
            (WEB, None, "another one with --web"),
            (WEB, Some(Held::Listener), "another one with --web"),
            (WEB, Some(Held::Connection), "one below 32768 with --web"),
        ] {
            let said = said(role, what);
            assert!(said.contains(cure) && said.contains(role), "{said}");
            let is_web = role == WEB;
            assert_eq!(said.contains("--web"), is_web, "{said}");
        }
    }
}
