//! An exhaustive model of the protocol for names: two servers, three clients that want one name, a
//! Redis whose clock may jump at any time, requests in flight, and servers that are suspended and
//! resumed.
//!
//! The model reimplements the scripts in `scripts`. [`ClusterWorld::check`] states the invariants.
//! Each variant of [`Bug`] omits one line of the protocol, and the search finds all of these bugs.
#![cfg(test)]

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

const SERVERS: usize = 2;
const PEOPLE: u8 = 3;
/// Maximum number of requests in flight from one server.
const QUEUE: usize = 2;
/// Maximum number of incarnations of a server. It makes the search finite.
const BOOTS: u8 = 3;

/// A line omitted from the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    /// Renewing a lease does not check its owner.
    RenewWithoutCompare,
    /// Releasing a name does not check its owner.
    ReleaseWithoutCompare,
    /// A session that loses its name is not notified.
    TakeWithoutTelling,
    /// A change does not check the lease.
    NoFence,
    /// A server does not resend its state after a reconnect.
    NothingSaidAnew,
}

type Owner = (usize, u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum ModelRequest {
    /// A client claims the name, and takes it over from its holder.
    Claim { incarnation: u8, person: u8 },
    /// A client has left.
    Release { incarnation: u8, person: u8 },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct ModelServer {
    incarnation: u8,
    is_stopped: bool,
    /// True if the server has noticed that it lost its lease and will reconnect.
    is_fenced: bool,
    /// The client here that received WELCOME and has not received TAKEN OVER since.
    has: Option<u8>,
    asks: VecDeque<ModelRequest>,
    /// The clients that lost the name; this server has not read these notices yet.
    inbox: VecDeque<u8>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct ClusterWorld {
    servers: [ModelServer; SERVERS],
    leases: [Option<u8>; SERVERS],
    name: Option<Owner>,
    /// Number of sessions so far. A returning client gets a new session.
    sessions: u8,
    /// True if a server without a valid lease changed anything.
    was_late: bool,
}

impl ClusterWorld {
    fn new() -> ClusterWorld {
        let server = || ModelServer {
            incarnation: 1,
            is_stopped: false,
            is_fenced: false,
            has: None,
            asks: VecDeque::new(),
            inbox: VecDeque::new(),
        };
        ClusterWorld {
            servers: [server(), server()],
            leases: [Some(1); SERVERS],
            name: None,
            sessions: 0,
            was_late: false,
        }
    }

    /// Returns the same representative for this world and its mirror image, because the two servers
    /// are interchangeable.
    fn canonical(self) -> ClusterWorld {
        let mut mirrored = self.clone();
        mirrored.servers.reverse();
        mirrored.leases.reverse();
        if let Some((server, ..)) = &mut mirrored.name {
            *server = 1 - *server;
        }
        self.min(mirrored)
    }

    fn is_alive(&self, (server, incarnation, _): Owner) -> bool {
        self.leases[server] == Some(incarnation)
    }

    /// Models `claim.lua`. Returns whether the caller now has the name.
    fn claim(&mut self, owner: Owner, takes_over: bool, bug: Bug) -> bool {
        match self.name {
            Some(holder) if holder == owner => return true,
            Some(holder) if self.is_alive(holder) => {
                if !takes_over {
                    return false;
                }
                if bug != Bug::TakeWithoutTelling {
                    self.servers[holder.0].inbox.push_back(holder.2);
                }
            }
            _ => {}
        }
        self.name = Some(owner);
        true
    }

    /// Models `cluster-out`: Redis runs the server's next request, and the server gets the reply.
    fn run_ask(&mut self, index: usize, bug: Bug) {
        let Some(ask) = self.servers[index].asks.pop_front() else {
            return;
        };
        let (ModelRequest::Claim {
            incarnation,
            person,
        }
        | ModelRequest::Release {
            incarnation,
            person,
        }) = ask;
        if bug != Bug::NoFence && self.leases[index] != Some(incarnation) {
            // Its unanswered requests have not been executed.
            self.servers[index].is_fenced = true;
            return;
        }
        let (owner, before) = (
            (index, incarnation, person),
            (self.name, self.servers[1 - index].inbox.len()),
        );
        match ask {
            ModelRequest::Claim { .. } => {
                if self.claim(owner, true, bug) {
                    self.servers[index].has = Some(person);
                }
            }
            ModelRequest::Release { .. } => {
                if self.name == Some(owner) || bug == Bug::ReleaseWithoutCompare {
                    self.name = None;
                }
            }
        }
        let after = (self.name, self.servers[1 - index].inbox.len());
        self.was_late |= before != after && self.leases[index] != Some(incarnation);
    }

    /// Models `renew.lua`, and marks the server as fenced if the lease has expired.
    fn renew(&mut self, index: usize, bug: Bug) {
        let incarnation = self.servers[index].incarnation;
        if bug == Bug::RenewWithoutCompare {
            self.leases[index] = Some(incarnation);
        } else if self.leases[index] != Some(incarnation) {
            self.servers[index].is_fenced = true;
        }
    }

    fn come_back(&mut self, index: usize, bug: Bug) {
        let server = &mut self.servers[index];
        server.incarnation += 1;
        server.is_fenced = false;
        // Requests under the lost lease are rejected.
        server.asks.clear();
        let (incarnation, has) = (server.incarnation, server.has);
        self.leases[index] = Some(incarnation);
        if bug == Bug::NothingSaidAnew {
            return;
        }
        if let Some(person) = has
            && !self.claim((index, incarnation, person), false, bug)
        {
            self.servers[index].has = None;
        }
        // `sweep.lua`: remove this server's outdated registrations.
        if self.name.is_some_and(|owner| {
            owner.0 == index && (owner.1 != incarnation || Some(owner.2) != self.servers[index].has)
        }) {
            self.name = None;
        }
    }

    /// Models `reap_server.lua`, run by the other server.
    fn reap(&mut self, index: usize) {
        if self.name.is_some_and(|owner| owner.0 == index) {
            self.name = None;
        }
    }

    /// Returns all successor worlds.
    fn next(&self, bug: Bug) -> Vec<ClusterWorld> {
        let mut worlds = Vec::new();
        let mut add = |change: &dyn Fn(&mut ClusterWorld)| {
            let mut world = self.clone();
            change(&mut world);
            worlds.push(world);
        };
        for index in 0..SERVERS {
            let server = &self.servers[index];
            // The clock of Redis jumps and the lease expires, even if the server is suspended.
            if self.leases[index].is_some() {
                add(&|world| world.leases[index] = None);
            } else if !self.servers[1 - index].is_stopped {
                add(&|world| world.reap(index));
            }
            if server.is_stopped {
                add(&|world| world.servers[index].is_stopped = false);
                continue;
            }
            add(&|world| world.servers[index].is_stopped = true);
            if server.is_fenced {
                if server.incarnation < BOOTS {
                    add(&|world| world.come_back(index, bug));
                }
                continue;
            }
            add(&|world| world.renew(index, bug));
            if !server.asks.is_empty() {
                add(&|world| world.run_ask(index, bug));
            }
            if let Some(lost) = server.inbox.front().copied() {
                add(&|world| {
                    world.servers[index].inbox.pop_front();
                    let server = &mut world.servers[index];
                    if server.has == Some(lost) {
                        server.has = None;
                        // The closing connection still releases its name, although another session
                        // has it now.
                        let (incarnation, person) = (server.incarnation, lost);
                        server.asks.push_back(ModelRequest::Release {
                            incarnation,
                            person,
                        });
                    }
                });
            }
            if server.asks.len() < QUEUE {
                let incarnation = server.incarnation;
                if self.sessions < PEOPLE {
                    add(&|world| {
                        world.sessions += 1;
                        let person = world.sessions;
                        let ask = ModelRequest::Claim {
                            incarnation,
                            person,
                        };
                        world.servers[index].asks.push_back(ask);
                    });
                }
                if let Some(person) = server.has {
                    add(&|world| {
                        world.servers[index].has = None;
                        let ask = ModelRequest::Release {
                            incarnation,
                            person,
                        };
                        world.servers[index].asks.push_back(ask);
                    });
                }
            }
        }
        worlds
    }

    /// Checks that no server without a valid lease changed anything. If nothing is in flight and
    /// all leases are held, also checks that at most one client has the name, and that Redis
    /// agrees.
    fn check(&self) -> Result<(), String> {
        if self.was_late {
            return Err("a late write changed something".to_owned());
        }
        let is_settled = |index: usize| {
            let server = &self.servers[index];
            !server.is_stopped
                && !server.is_fenced
                && server.asks.is_empty()
                && server.inbox.is_empty()
                && self.leases[index] == Some(server.incarnation)
        };
        if !(0..SERVERS).all(is_settled) {
            return Ok(());
        }
        let holders: Vec<Owner> = (0..SERVERS)
            .filter_map(|index| {
                let server = &self.servers[index];
                Some((index, server.incarnation, server.has?))
            })
            .collect();
        match (&holders[..], self.name) {
            ([], None) => Ok(()),
            ([one], Some(owner)) if *one == owner => Ok(()),
            _ => Err(format!(
                "{holders:?} believe that they have the name; according to Redis, {:?} has it",
                self.name
            )),
        }
    }
}

/// Searches all orders of events. Returns the number of worlds, or the violation in one of them and
/// the path to it.
fn walk(bug: Bug) -> Result<usize, String> {
    let start = Rc::new(ClusterWorld::new().canonical());
    // Maps each world to its predecessor.
    let mut seen = HashMap::from([(Rc::clone(&start), None)]);
    let mut open = VecDeque::from([start]);
    while let Some(world) = open.pop_front() {
        if let Err(error) = world.check() {
            let way = std::iter::successors(Some(&world), |world| seen[*world].as_ref());
            let way: Vec<String> = way.map(|world| format!("{world:?}")).collect();
            return Err(format!("{error}, after\n{}", way.join("\n")));
        }
        for next in world.next(bug) {
            if let Entry::Vacant(place) = seen.entry(Rc::new(next.canonical())) {
                open.push_back(Rc::clone(place.key()));
                place.insert(Some(Rc::clone(&world)));
            }
        }
    }
    Ok(seen.len())
}

#[test]
#[allow(clippy::disallowed_macros)]
fn in_every_order_of_events_a_name_has_one_holder() {
    let worlds = walk(Bug::None).unwrap();
    println!("{worlds} worlds");
    assert!(worlds > 10_000, "the search explored too few worlds");
}

#[test]
fn the_search_finds_every_bug() {
    for bug in [
        Bug::RenewWithoutCompare,
        Bug::ReleaseWithoutCompare,
        Bug::TakeWithoutTelling,
        Bug::NoFence,
        Bug::NothingSaidAnew,
    ] {
        let found = walk(bug);
        assert!(found.is_err(), "{bug:?} was not found in {found:?} worlds");
    }
}
