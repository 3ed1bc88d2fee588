//! Binds every port that the server needs, before any thread starts.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::budget::{Limit, raise_descriptors};
use super::ports::{Binder, bind_patiently, bind_workers};
use super::settings::{Portals, Settings};
use crate::accounts::policies::PolicyError;
use crate::accounts::{AccountError, TokenError};
use crate::invocation::Invocation;
use crate::net::{BoundPort, Datagrams, Port, PortOwner, PortProtocol, PortUse, Tap};
#[cfg(feature = "cluster")]
use portal_backplane::ClusterError;

/// The reason why a server did not start. Each message is one sentence that states the cause and
/// the fix.
#[derive(Debug)]
pub enum StartError {
    /// Another program is using the port.
    PortTaken {
        /// The port.
        address: SocketAddr,
        /// The purpose for which the server needs it.
        role: &'static str,
        /// The program that uses it, if the system reveals it.
        holder: Option<PortOwner>,
    },
    /// The address does not belong to this machine.
    NotOurs(IpAddr),
    /// This user has no permission to listen on the port.
    Denied(SocketAddr),
    /// There are not enough ports after the portal's.
    PortsRunOut {
        /// The portal's port.
        port: u16,
        /// Number of ports needed after it.
        workers: usize,
    },
    /// The limits on this process's threads or descriptors are too low.
    Limits {
        /// Number of workers (or clients, on a single port) in the settings.
        seats: usize,
        /// Every limit that is too low.
        limits: Vec<Limit>,
    },
    /// This process has no file descriptors left.
    NoDescriptors {
        /// Number of listeners that the server needs.
        wanted: usize,
    },
    /// The accounts can't be used.
    Accounts(AccountError),
    /// The bans and moderators can't be read.
    Policies(PolicyError),
    /// The session tokens can't be read.
    Tokens(TokenError),
    /// The server can't join the cluster.
    #[cfg(feature = "cluster")]
    Cluster(ClusterError),
    /// Other users can read or replace the journal.
    #[cfg(feature = "journal")]
    Journal(std::path::PathBuf, io::Error),
    /// The system can't provide random numbers.
    NoRandomness(String),
    /// The system can't start a thread.
    NoThread(io::Error),
    /// Binding failed for another reason.
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
                "{address} is not an address of this machine: use 127.0.0.1 for this machine only, \
                 0.0.0.0 for the network, or an address that `ip address` lists"
            ),
            StartError::Denied(address) => write!(
                f,
                "you don't have permission to listen on port {}: choose a PORT of 1024 or higher",
                address.port()
            ),
            StartError::PortsRunOut { port, workers } => write!(
                f,
                "{workers} workers need the ports after {port}, but the highest port is 65535: choose a \
                 smaller PORT or fewer --workers"
            ),
            StartError::Limits { seats, limits } => {
                write!(
                    f,
                    "this machine can't serve {seats} clients at the same time"
                )?;
                for limit in limits {
                    write!(f, "; {limit}")?;
                }
                f.write_str(". Or choose fewer --workers (or --max-clients)")
            }
            StartError::NoDescriptors { wanted } => write!(
                f,
                "this process can't open {wanted} listeners: raise the limit with `{}` or \
                 choose fewer --workers",
                raise_descriptors(wanted * 2 + 64)
            ),
            StartError::Accounts(error) => error.fmt(f),
            StartError::Policies(error) => error.fmt(f),
            #[cfg(feature = "journal")]
            StartError::Journal(path, error) => {
                write!(f, "the journal {} can't be used: {error}", path.display())
            }
            StartError::Tokens(error) => error.fmt(f),
            #[cfg(feature = "cluster")]
            StartError::Cluster(error) => error.fmt(f),
            StartError::NoRandomness(reason) => write!(
                f,
                "the system can't provide random numbers ({reason}), and without them a passcode \
                 could be guessed: start the server where /dev/urandom is available"
            ),
            // An error without an OS error code already names the cause, a sandbox that forbids
            // threads.
            StartError::NoThread(error) if error.raw_os_error().is_none() => error.fmt(f),
            StartError::NoThread(error) => write!(
                f,
                "the system can't start more threads ({error}): choose fewer --workers (each needs \
                 two threads) or raise the limit with `ulimit -u`"
            ),
            StartError::Bind(address, error) => write!(
                f,
                "can't listen on {address} ({error}): choose another PORT or --bind address"
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Writes the owner of the port, the purpose for which the server needs it, and the fix.
fn port_taken(
    f: &mut fmt::Formatter<'_>,
    address: SocketAddr,
    role: &str,
    holder: Option<&PortOwner>,
) -> fmt::Result {
    let (port, ip) = (address.port(), address.ip());
    let program = holder.and_then(|holder| holder.program.as_ref());
    let is_connection = holder.is_some_and(|holder| holder.what != PortUse::Listener);
    write!(f, "port {port} on {ip} is taken")?;
    match (is_connection, program) {
        (true, Some(program)) => write!(f, " by an outgoing connection of {program}")?,
        (true, None) => {
            f.write_str(" by a program's outgoing connection (`ss -tuanp` names the program)")?
        }
        (false, Some(program)) => write!(f, " by {program}")?,
        (false, None) => {}
    }
    write!(f, ", and the {role} needs it: ")?;
    if is_connection {
        write!(
            f,
            "the system assigns such ports to connections. Try again in a minute, reserve the port for servers \
             (`sysctl net.ipv4.ip_local_reserved_ports={port}-{}`), or choose ",
            port.saturating_add(20)
        )?;
        return match role {
            WEB => f.write_str("a port below 32768 with --web ADDRESS:PORT"),
            _ => write!(
                f,
                "a PORT below 32768, such as {}",
                Invocation::of_this_process().server_at(20000)
            ),
        };
    }
    f.write_str(match program {
        Some(_) => "stop that program",
        None => "stop the program that is using the port (`ss -tulnp` shows which one)",
    })?;
    match role {
        WEB => f.write_str(" or choose another port with --web ADDRESS:PORT"),
        _ => write!(
            f,
            " or choose another PORT, such as {}",
            Invocation::of_this_process().server_at(suggestion(port))
        ),
    }
}

/// The roles in [`StartError::PortTaken`].
pub(super) const WEB: &str = "browser entrance";
pub(super) const PORTAL: &str = "TCP portal";
const UDP_PORTAL: &str = "UDP portal";

/// Suggests another port, far enough away that the workers' ports do not overlap the old ones.
fn suggestion(port: u16) -> u16 {
    if port < 60000 {
        (port / 1000 + 1) * 1000
    } else {
        40000
    }
}

/// The sockets of a server that has not started yet. The TCP ports are bound but not listening, so
/// the system refuses callers.
pub(super) struct Listeners {
    pub(super) port: Port,
    pub(super) portal_tcp: Option<BoundPort>,
    pub(super) portal_udp: Option<Datagrams>,
    /// The address of each worker, and its port if that is free.
    pub(super) workers: Vec<(SocketAddr, Option<BoundPort>)>,
    pub(super) web: Option<BoundPort>,
}

impl Listeners {
    /// Binds the portals and all workers' ports. The workers' ports are in the range from which the
    /// system assigns ports to outgoing connections, so they are bound now rather than later, when
    /// another program might be using one of them.
    pub(super) fn bind(
        settings: &Settings,
        binder: &mut dyn Binder,
        tap: &Tap,
    ) -> Result<Listeners, StartError> {
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
        let last = usize::from(settings.port) + settings.workers;
        if settings.port != 0 && last > usize::from(u16::MAX) {
            return Err(StartError::PortsRunOut {
                port: settings.port,
                workers: settings.workers,
            });
        }
        let all = settings.workers + 2;
        let portal = settings.bind.at(settings.port);
        let (portal_tcp, mut portal_udp) = match settings.portals {
            Portals::Both if settings.port == 0 => bind_both(portal, binder, tap, all)?,
            Portals::Both | Portals::Tcp => (Some(bind_tcp(portal, binder, PORTAL, all)?), None),
            Portals::Udp => (None, None),
        };
        let numbers = 1..=settings.workers as u16;
        let workers: Vec<SocketAddr> = numbers
            .map(|offset| match settings.port {
                0 => portal,
                port => settings.bind.at(port + offset),
            })
            .collect();
        let bound = bind_workers(&workers, binder)
            .map_err(|(address, error)| explain(error, address, "worker", all))?;
        let web = settings.web.as_ref();
        let web = web.map(|web| bind_tcp(web.address, binder, WEB, all));
        let web = web.transpose()?;
        // The UDP port is bound last. Otherwise, datagrams would queue up there while startup waits
        // for other ports.
        if settings.portals.udp() && portal_udp.is_none() {
            portal_udp = Some(
                bind_udp(portal, binder, tap)
                    .map_err(|error| explain(error, portal, UDP_PORTAL, all))?,
            );
        }
        let port = portal_tcp.as_ref().map(BoundPort::port);
        let port = port.or(portal_udp.as_ref().map(Datagrams::port));
        Ok(Listeners {
            web,
            // At least one of the two portals is open, so the fallback is never used.
            port: port.unwrap_or(Port::MAX),
            portal_tcp,
            portal_udp,
            workers: workers.into_iter().zip(bound).collect(),
        })
    }
}

fn bind_tcp(
    address: SocketAddr,
    binder: &mut dyn Binder,
    role: &'static str,
    all: usize,
) -> Result<BoundPort, StartError> {
    let bound = bind_patiently(PortProtocol::Tcp, address, binder, |binder| {
        binder.bind(address)
    });
    bound.map_err(|error| explain(error, address, role, all))
}

fn bind_udp(address: SocketAddr, binder: &mut dyn Binder, tap: &Tap) -> io::Result<Datagrams> {
    bind_patiently(PortProtocol::Udp, address, binder, |_| {
        Datagrams::bind(address, tap)
    })
}

type BothPortals = (Option<BoundPort>, Option<Datagrams>);

/// Binds both portals to a port that the system chooses. If another program uses the same UDP port,
/// the system chooses again.
fn bind_both(
    address: SocketAddr,
    binder: &mut dyn Binder,
    tap: &Tap,
    all: usize,
) -> Result<BothPortals, StartError> {
    const TRIES: u32 = 16;
    let mut tries = 0;
    loop {
        tries += 1;
        let tcp = bind_tcp(address, binder, PORTAL, all)?;
        match Datagrams::bind(tcp.address(), tap) {
            Ok(udp) => return Ok((Some(tcp), Some(udp))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => {}
            Err(error) => return Err(explain(error, tcp.address(), UDP_PORTAL, all)),
        }
    }
}

/// Converts an `error` from binding `address` for `role`.
pub(super) fn explain(
    error: io::Error,
    address: SocketAddr,
    role: &'static str,
    listeners: usize,
) -> StartError {
    let transport = match role {
        UDP_PORTAL => PortProtocol::Udp,
        _ => PortProtocol::Tcp,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken {
            address,
            role,
            holder: PortOwner::of(transport, address),
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
    fn the_fix_depends_on_the_ports_owner_and_role() {
        let said = |role, what: Option<PortUse>| {
            let program = None;
            let taken = StartError::PortTaken {
                address: ([127, 0, 0, 1], 40000).into(),
                role,
                holder: what.map(|what| PortOwner { what, program }),
            };
            taken.to_string()
        };
        for (role, what, cure) in [
            ("worker", None, "another PORT"),
            ("worker", Some(PortUse::Listener), "another PORT"),
            ("worker", Some(PortUse::Connection), "a PORT below 32768"),
            (
                UDP_PORTAL,
                Some(PortUse::EndedConnection),
                "a PORT below 32768",
            ),
            (WEB, None, "another port with --web"),
            (WEB, Some(PortUse::Listener), "another port with --web"),
            (
                WEB,
                Some(PortUse::Connection),
                "a port below 32768 with --web",
            ),
        ] {
            let said = said(role, what);
            assert!(said.contains(cure) && said.contains(role), "{said}");
            let is_web = role == WEB;
            assert_eq!(said.contains("--web"), is_web, "{said}");
        }
    }
}
