//! The protocol of names, walked in every order: two servers, three people who want one name, an
//! engine whose clock may jump at any moment, asks that are on their way, and servers that are
//! stopped and wake.
//!
//! The scripts are written here once more, in the words of `cluster/scripts`. What has to hold is
//! [`ClusterWorld::check`]. Each of [`Bug`] is a line that somebody could forget; the walk finds
//! every one of them.
#![cfg(test)]

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

const SERVERS: usize = 2;
const PEOPLE: u8 = 3;
/// How many asks may be on their way from one server.
const QUEUE: usize = 2;
/// How often a server may take a new incarnation: so that the walk ends.
const BOOTS: u8 = 3;

/// A line that is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    /// A lease is renewed without a look at whose it is.
    RenewWithoutCompare,
    /// A name is given up without a look at whose it is.
    ReleaseWithoutCompare,
    /// Who loses a name is not told.
    TakeWithoutTelling,
    /// A change does not ask for the lease.
    NoFence,
    /// After a break, a server does not say anew what it has.
    NothingSaidAnew,
}

type Owner = (usize, u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum ModelRequest {
    /// A person wants the name, and takes it from whoever has it.
    Claim { incarnation: u8, person: u8 },
    /// A person has gone.
    Release { incarnation: u8, person: u8 },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct ModelServer {
    incarnation: u8,
    is_stopped: bool,
    /// It has noticed that its lease is gone, and is to come back.
    is_fenced: bool,
    /// Who has been told WELCOME here, and not TAKEN OVER since.
    has: Option<u8>,
    asks: VecDeque<ModelRequest>,
    /// Who has lost the name, for this server to read.
    inbox: VecDeque<u8>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct ClusterWorld {
    servers: [ModelServer; SERVERS],
    leases: [Option<u8>; SERVERS],
    name: Option<Owner>,
    /// How many have come: each is another session, also the same person who comes again.
    sessions: u8,
    /// Somebody has changed something who was taken for dead.
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

    /// Which of the two servers is which makes no difference: one of both views.
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

    /// `claim.lua`. Returns whether the name is the asker's now.
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

    /// The next ask of a server arrives at the engine, and the answer at the server: `cluster-out`.
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
            // What it has asked and not been answered has not been done.
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

    /// `renew.lua`, and coming back if that was too late.
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
        // Asks of before are refused.
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
        // `sweep.lua`: what is noted of this server and is not so.
        if self.name.is_some_and(|owner| {
            owner.0 == index && (owner.1 != incarnation || Some(owner.2) != self.servers[index].has)
        }) {
            self.name = None;
        }
    }

    /// `reap.lua`, by the other server.
    fn reap(&mut self, index: usize) {
        if self.name.is_some_and(|owner| owner.0 == index) {
            self.name = None;
        }
    }

    /// Every world that can come next.
    fn next(&self, bug: Bug) -> Vec<ClusterWorld> {
        let mut worlds = Vec::new();
        let mut add = |change: &dyn Fn(&mut ClusterWorld)| {
            let mut world = self.clone();
            change(&mut world);
            worlds.push(world);
        };
        for index in 0..SERVERS {
            let server = &self.servers[index];
            // The engine's clock jumps, also while it is stopped itself.
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
                        // Whose connection ends gives up what it had; by now, that is somebody
                        // else's.
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

    /// Nobody changes anything who was taken for dead. And where nothing is on its way and every
    /// lease is held, one at most has the name, and the engine knows who.
    fn check(&self) -> Result<(), String> {
        if self.was_late {
            return Err("a late write has changed something".to_owned());
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
                "{holders:?} are told that they have it; the engine says {:?}",
                self.name
            )),
        }
    }
}

/// Walks every order; returns how many worlds there are, or what is wrong in one of them.
fn walk(bug: Bug) -> Result<usize, String> {
    let start = Rc::new(ClusterWorld::new().canonical());
    // Each world, and the one before it.
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
    assert!(worlds > 10_000, "the walk went nowhere");
}

#[test]
fn the_walk_finds_each_line_that_somebody_could_forget() {
    for bug in [
        Bug::RenewWithoutCompare,
        Bug::ReleaseWithoutCompare,
        Bug::TakeWithoutTelling,
        Bug::NoFence,
        Bug::NothingSaidAnew,
    ] {
        let found = walk(bug);
        assert!(found.is_err(), "{bug:?} is not found in {found:?} worlds");
    }
}
