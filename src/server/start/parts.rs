//! Makes the parts of a server from its settings. [`super::Server`] connects them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::listeners::explain;
use super::{Settings, StartError};
use crate::accounts::policies::SharedPolicies;
use crate::accounts::{
    AccountDirectory, Registration, SharedAccounts, SharedTokens, TokenDirectory,
};
use crate::clock::{Clock, TimerSubscription};
use crate::event::{Events, SocketCall};
use crate::lock::Mutex;
use crate::net::{BoundPort, Call, Listener, Port, Tap};
use crate::seat::{PasscodeKind, Seat, SeatNumber, Timeouts, WorkloadStack};
#[cfg(feature = "cluster")]
use portal_backplane::RedisBackplane;
#[cfg(feature = "journal")]
use portal_cli::private::NotPrivate;
use portal_core::seats::SharedSeat;
use portal_core::transport::{Transport, XmlLines};
use portal_entrances::{Legacy, OwnCallers, Screened};
#[cfg(feature = "journal")]
use portal_journal::FileJournal;
use portal_sessions::backplane::Backplane;
use portal_sessions::room_manager::RoomPorts;

/// Returns the rooms' ports, which follow the last worker's. If the system chooses ports, these
/// numbers serve only to distinguish the rooms.
fn room_numbers(settings: &Settings, portal: Port) -> impl Iterator<Item = Port> + use<> {
    let first = match settings.port {
        0 => 1,
        _ if settings.single_port.is_some() => usize::from(portal.get()) + 1,
        _ => usize::from(portal.get()) + settings.workers + 1,
    };
    let numbers = (first..first + settings.rooms).filter_map(|number| u16::try_from(number).ok());
    numbers.filter_map(Port::new)
}

pub(super) fn room_ports(settings: &Settings, portal: Port, tap: Tap) -> RoomPorts {
    let tls = settings.tls.clone();
    RoomPorts {
        free: Mutex::new(WorkloadStack::new(room_numbers(settings, portal))),
        bind: settings.bind,
        any_port: settings.port == 0,
        listen: Box::new(move |wanted| match Listener::bind(wanted, &tap) {
            Ok(listener) => Ok(listener.secured(tls.as_ref())),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(explain(error, wanted, "room", 1).to_string())
            }
            Err(error) => Err(error.to_string()),
        }),
    }
}

/// Creates a free seat for each port, and the subscription of its timer thread.
pub(super) fn make_seats(
    ports: &[Port],
    passcodes: PasscodeKind,
    timeouts: Timeouts,
    clock: &Clock,
) -> (Vec<SharedSeat>, Vec<TimerSubscription>) {
    let seat = |(index, port): (usize, &Port)| {
        let timer = clock.subscribe_timer();
        let place = (SeatNumber::from_index(index), *port);
        let seat = Seat::new(passcodes.random(), timeouts);
        let seat = SharedSeat::new(place, seat, timer.alarm(), timer.notifier());
        (seat, timer)
    };
    ports.iter().enumerate().map(seat).unzip()
}

/// Returns the transport of TCP clients, which recognises other protocols and says so.
pub(super) fn screened_transport(
    settings: &Settings,
    events: Events,
    needs_passcode: bool,
    own_callers: OwnCallers,
) -> Arc<dyn Transport> {
    match settings.compat {
        None => {
            let xml = XmlLines::new(settings.max_message);
            Arc::new(Screened::new(xml, events, needs_passcode, own_callers))
        }
        Some(revision) => {
            let legacy = Legacy::new(revision);
            Arc::new(Screened::new(legacy, events, needs_passcode, own_callers))
        }
    }
}

/// Returns a worker's port, which may not be bound yet.
pub(super) fn worker_port((address, bound): &(SocketAddr, Option<BoundPort>)) -> Port {
    let wanted = Port::new(address.port());
    let bound = bound.as_ref().map(BoundPort::port);
    // Only a port with a fixed number can be missing.
    wanted.or(bound).unwrap_or(Port::MAX)
}

/// The interfaces to the other servers and to the shared accounts.
pub(super) type Seams = (
    Arc<dyn Backplane>,
    Option<Arc<dyn AccountDirectory>>,
    Option<Arc<dyn TokenDirectory>>,
);

/// The membership in a cluster, before the connection is made.
#[cfg(feature = "cluster")]
pub(super) type Cluster = Option<Arc<RedisBackplane>>;

#[cfg(feature = "cluster")]
pub(super) fn cluster(settings: &Settings) -> Cluster {
    let (passwords, tls) = (settings.accounts.is_some(), settings.tls.is_some());
    let cluster = settings.cluster.as_ref();
    cluster.map(|cluster| Arc::new(RedisBackplane::new(cluster, passwords, tls)))
}

pub(super) fn open_policies(
    settings: &Settings,
    clock: &Clock,
    events: &Events,
) -> Result<Arc<SharedPolicies>, StartError> {
    let path = settings.policies.as_deref();
    let policies = SharedPolicies::open(path, settings.tick, clock, events);
    let policies = policies.map_err(StartError::Policies)?;
    let policies = match settings.moderators {
        true => policies,
        false => policies.without_moderators(),
    };
    #[cfg(feature = "cluster")]
    if settings.cluster.is_some() {
        let reason =
            "rooms in a cluster are open to everyone, because each server has its own rules";
        return Ok(Arc::new(policies.with_open_rooms(reason)));
    }
    Ok(Arc::new(policies))
}

pub(super) fn open_accounts(
    settings: &Settings,
    directory: Option<Arc<dyn AccountDirectory>>,
    policies: &Arc<SharedPolicies>,
    events: &Events,
) -> Result<Option<Arc<SharedAccounts>>, StartError> {
    let Some(path) = &settings.accounts else {
        return Ok(None);
    };
    let registration = Registration {
        register: settings.register,
        min_password: settings.min_password,
    };
    let policies = Arc::clone(policies);
    let accounts = SharedAccounts::open(path, directory, registration, policies, events);
    Ok(Some(Arc::new(accounts.map_err(StartError::Accounts)?)))
}

/// Opens the file of session tokens, next to the accounts file.
pub(super) fn open_tokens(
    settings: &Settings,
    accounts: Option<&Arc<SharedAccounts>>,
    directory: Option<Arc<dyn TokenDirectory>>,
    events: &Events,
) -> Result<Arc<SharedTokens>, StartError> {
    let path = settings.accounts.clone().map(|accounts| {
        let mut path = accounts.into_os_string();
        path.push(".tokens");
        PathBuf::from(path)
    });
    let tokens = SharedTokens::open(path.as_deref(), accounts.cloned(), directory, events);
    Ok(Arc::new(tokens.map_err(StartError::Tokens)?))
}

/// Opens the journal's file, if the settings name one.
#[cfg(feature = "journal")]
pub(super) fn open_journal(
    settings: &Settings,
    events: &Events,
) -> Result<Option<Arc<FileJournal>>, StartError> {
    let Some(settings) = &settings.journal else {
        return Ok(None);
    };
    match portal_journal::check_privacy(&settings.file) {
        Err(error) if NotPrivate::cause(&error).is_some() => {
            Err(StartError::Journal(settings.file.clone(), error))
        }
        // An event reports any other error.
        _ => Ok(Some(Arc::new(FileJournal::open(settings, events)))),
    }
}

/// Returns the tap for all of the server's sockets. Each socket call becomes an event if any event
/// reader wants socket calls, and its bytes are counted if the settings have counters.
pub(super) fn tap(settings: &Settings, events: &Events) -> Tap {
    let mut tap = Tap {
        chop: settings.chop,
        trace: None,
    };
    let counters = settings.counters.clone();
    let wants_calls = events.want_calls();
    if wants_calls || counters.is_some() {
        let events = events.clone();
        tap.trace = Some(Arc::new(move |call: &Call<'_>| {
            if let Some(counters) = &counters {
                counters.count_call(call);
            }
            if !wants_calls {
                return;
            }
            events.emit_call(|| SocketCall {
                call: call.name,
                address: call.address,
                wanted: call.wanted,
                got: call.result.clone().ok().filter(|_| call.wanted.is_some()),
                failed: call.result.clone().err(),
                bytes: Some(call.shown_bytes()).filter(|bytes| !bytes.is_empty()),
            });
        }));
    }
    tap
}
