//! The users: the clients that have logged in, by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Connection, Group, MessageBatch, Unwritten, flush_all};
use portal_core::outbox::Queued;
use portal_net::lock::{Mutex, Rank};
use portal_wire::{Name, ServerDoc};

/// All users. Each name has one connection.
pub struct Users {
    /// The group that receives public messages.
    public: Group,
    /// Maximum number of users for which joins and departures are announced. The cost grows with
    /// the square of the number of users.
    announce_up_to: usize,
    /// If false, joins and departures are announced in the common order of several servers, by
    /// [`Users::announce_remote`].
    announces: bool,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    by_key: BTreeMap<String, Person>,
    /// The same users, by session number.
    by_session: HashMap<u64, Arc<Connection>>,
    /// All connections in `by_key`, for the fan-out. Created on demand, and dropped at each join
    /// and departure, so a burst of logins does not copy the list each time.
    everyone: Option<Arc<[Arc<Connection>]>>,
}

struct Person {
    name: Name,
    connection: Arc<Connection>,
}

/// The result of claiming a name.
pub enum NameClaim {
    /// The name was free.
    Entered,
    /// Another connection had the name and has lost it. That connection must be closed.
    TookOver(Arc<Connection>),
    /// Another connection has the name and keeps it.
    InUse,
}

impl Users {
    /// Creates an empty registry of users. Joins and departures are announced while it has at most
    /// `announce_up_to` users.
    pub fn new(announce_up_to: usize) -> Users {
        Users {
            public: Group::default(),
            announce_up_to,
            announces: true,
            registry: Mutex::ranked(Rank::Registry, Registry::default()),
        }
    }

    /// Turns off the announcements of joins and departures. In a cluster, the backplane makes them.
    pub fn without_announcements(mut self) -> Users {
        self.announces = false;
        self
    }

    /// Announces a join or departure on any server to all users here, except one session.
    pub(crate) fn announce_remote(&self, doc: &ServerDoc<'_>, except: Option<u64>) {
        let everyone = self.everyone();
        if everyone.len() > self.announce_up_to {
            return;
        }
        for there in everyone.iter() {
            if Some(there.session()) != except {
                there.outbox.send_doc(doc);
            }
        }
    }

    /// All users, as session and name.
    pub fn sessions(&self) -> Vec<(u64, Name)> {
        let registry = self.registry.lock();
        let users = registry.by_key.values();
        users
            .map(|person| (person.connection.session(), person.name.clone()))
            .collect()
    }

    /// The connection with this session, if it has logged in here.
    pub(crate) fn with_session(&self, session: u64) -> Option<Arc<Connection>> {
        self.registry.lock().by_session.get(&session).cloned()
    }

    /// Delivers messages from any server to all users here except one session. Returns the number
    /// of recipients.
    pub(crate) fn deliver_remote(
        &self,
        batch: &mut MessageBatch,
        except: Option<u64>,
        unwritten: &mut Unwritten,
    ) -> usize {
        super::send_to_each(&self.everyone(), batch, except, unwritten)
    }

    /// Registers `connection` as `name`, appends `welcome` for it, and announces the join. With
    /// `take_over`, another connection with this name loses it in the same step, and no join is
    /// announced.
    pub fn enter(
        &self,
        name: &Name,
        connection: &Arc<Connection>,
        take_over: bool,
        welcome: &ServerDoc<'_>,
    ) -> NameClaim {
        let mut registry = self.registry.lock();
        if !take_over && registry.by_key.contains_key(&name.key()) {
            return NameClaim::InUse;
        }
        connection.set_name(name);
        connection.outbox.append_doc(welcome);
        let person = Person {
            name: name.clone(),
            connection: Arc::clone(connection),
        };
        let before = registry.by_key.insert(name.key(), person);
        if let Some(before) = &before {
            registry.by_session.remove(&before.connection.session());
        }
        let session = connection.session();
        registry.by_session.insert(session, Arc::clone(connection));
        registry.everyone = None;
        let notified = if before.is_none() {
            self.announce(
                &registry,
                connection,
                &ServerDoc::UserJoined {
                    username: name.as_str().into(),
                },
            )
        } else {
            Vec::new()
        };
        drop(registry);
        connection.outbox.flush();
        flush_all(&notified);
        match before {
            Some(before) => NameClaim::TookOver(before.connection),
            None => NameClaim::Entered,
        }
    }

    /// Removes `connection` and announces the departure. Does nothing if it has not logged in, or
    /// has lost its name to another connection.
    pub fn leave(&self, connection: &Arc<Connection>) {
        let Some(name) = connection.name() else {
            return;
        };
        let mut registry = self.registry.lock();
        let key = name.key();
        if !registry
            .by_key
            .get(&key)
            .is_some_and(|person| Arc::ptr_eq(&person.connection, connection))
        {
            return;
        }
        registry.by_key.remove(&key);
        registry.by_session.remove(&connection.session());
        registry.everyone = None;
        let notified = self.announce(
            &registry,
            connection,
            &ServerDoc::UserLeft {
                username: name.as_str().into(),
                reason: connection.reason_for_others(),
            },
        );
        drop(registry);
        flush_all(&notified);
    }

    /// Appends `doc` for all users except `about`. Returns them, to be flushed after the lock is
    /// released.
    fn announce(
        &self,
        registry: &Registry,
        about: &Arc<Connection>,
        doc: &ServerDoc<'_>,
    ) -> Vec<Arc<Connection>> {
        if !self.announces || registry.by_key.len() > self.announce_up_to {
            return Vec::new();
        }
        let others = registry.by_key.values().map(|person| &person.connection);
        others
            .filter(|other| !Arc::ptr_eq(other, about))
            .filter(|other| other.outbox.append_doc(doc) == Queued::Yes)
            .cloned()
            .collect()
    }

    /// The names of all users, sorted regardless of case.
    pub fn names(&self) -> Vec<String> {
        self.registry
            .lock()
            .by_key
            .values()
            .map(|person| person.name.to_string())
            .collect()
    }

    /// The connection with this name.
    pub fn find(&self, name: &Name) -> Option<Arc<Connection>> {
        self.registry
            .lock()
            .by_key
            .get(&name.key())
            .map(|person| Arc::clone(&person.connection))
    }

    /// Delivers a batch to all users except the sender. Returns the number of recipients.
    pub(crate) fn send_to_all(&self, speaker: &Arc<Connection>, batch: &mut MessageBatch) -> usize {
        self.public.deliver(&self.everyone(), speaker, batch)
    }

    fn everyone(&self) -> Arc<[Arc<Connection>]> {
        let mut registry = self.registry.lock();
        if let Some(everyone) = &registry.everyone {
            return Arc::clone(everyone);
        }
        let everyone: Arc<[Arc<Connection>]> = registry
            .by_key
            .values()
            .map(|person| Arc::clone(&person.connection))
            .collect();
        registry.everyone = Some(Arc::clone(&everyone));
        everyone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portal_core::test_support::{connection, received};
    use portal_wire::Scope;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn enter(
        users: &Users,
        text: &str,
        connection: &Arc<Connection>,
        take_over: bool,
    ) -> NameClaim {
        users.enter(
            &name(text),
            connection,
            take_over,
            &ServerDoc::LoggedIn {
                username: text.into(),
                moderator: false,
            },
        )
    }

    #[test]
    fn joins_departures_and_messages_reach_all_other_users() {
        let users = Users::new(100);
        let (alice, bob, carol) = (connection("1"), connection("2"), connection("3"));
        for (text, connection) in [("alice", &alice), ("Bob", &bob), ("carol", &carol)] {
            assert!(matches!(
                enter(&users, text, &connection.0, false),
                NameClaim::Entered
            ));
        }
        assert_eq!(users.names(), ["alice", "Bob", "carol"]);
        let mut batch = MessageBatch::default();
        batch.begin(Scope::Public, &bob.0.label());
        batch.push("hi", false);
        assert_eq!(users.send_to_all(&bob.0, &mut batch), 2);
        users.leave(&bob.0);
        users.leave(&bob.0);
        assert!(users.find(&name("bob")).is_none());
        assert_eq!(received(bob), ["WELCOME", "USER JOINED"]);
        assert_eq!(
            received(alice),
            ["WELCOME", "USER JOINED", "USER JOINED", "hi", "USER LEFT"]
        );
        assert_eq!(received(carol), ["WELCOME", "hi", "USER LEFT"]);
    }

    #[test]
    fn a_takeover_is_one_step_and_is_not_announced() {
        let users = Users::new(100);
        let (old, new, other) = (connection("1"), connection("2"), connection("3"));
        enter(&users, "alice", &old.0, true);
        enter(&users, "bob", &other.0, true);
        assert!(matches!(
            enter(&users, "ALICE", &new.0, false),
            NameClaim::InUse
        ));
        let NameClaim::TookOver(before) = enter(&users, "alice", &new.0, true) else {
            panic!("no takeover")
        };
        assert!(Arc::ptr_eq(&before, &old.0));
        users.leave(&old.0);
        assert!(
            Arc::ptr_eq(&users.find(&name("alice")).unwrap(), &new.0),
            "the old connection can't release it"
        );
        assert_eq!(received(other), ["WELCOME"]);
    }

    #[test]
    fn of_two_concurrent_claims_to_a_name_one_succeeds() {
        let users = Users::new(0);
        let connections = [connection("1").0, connection("2").0];
        // Two sleeping threads would not wake at the same time, so these threads spin instead.
        let arrived = AtomicUsize::new(0);
        let together = |count: usize| {
            arrived.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0;
            while arrived.load(Ordering::Acquire) < count {
                spins += 1;
                if spins % 10_000 == 0 {
                    std::thread::yield_now();
                }
            }
        };
        let entered = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for connection in &connections {
                threads.spawn(|| {
                    for round in 0..3000 {
                        together(4 * round + 2);
                        if !matches!(enter(&users, "alice", connection, false), NameClaim::InUse) {
                            entered.fetch_add(1, Ordering::Relaxed);
                        }
                        together(4 * round + 4);
                        users.leave(connection);
                    }
                });
            }
        });
        assert_eq!(entered.load(Ordering::Relaxed), 3000, "one per round");
    }

    #[test]
    fn a_crowd_is_not_announced() {
        let users = Users::new(2);
        let connections: Vec<_> = (0..4)
            .map(|number| connection(&number.to_string()))
            .collect();
        for (number, connection) in connections.iter().enumerate() {
            enter(&users, &format!("n{number}"), &connection.0, false);
        }
        let first = connections.into_iter().next().unwrap();
        assert_eq!(
            received(first),
            ["WELCOME", "USER JOINED"],
            "the second, but not the third"
        );
    }
}
