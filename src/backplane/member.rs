//! A server's membership in a cluster, and its requests to the other servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender as Queue, TrySendError, bounded};
use portal_accounts::{
    Account, AccountDirectory, AccountRequest, Decided, StoredToken, TokenDirectory,
};
use portal_net::lock::Mutex;
use portal_sessions::backplane::{
    Attached, Backplane, Claim, Outcome, Recipients, Reply, Route, Sender,
};
use portal_sessions::chat::Unwritten;
use portal_wire::{Elsewhere, Name, Port};

use crate::engine::{Asking, Op, Reading, START_WITHIN, ScriptCall, flag, number_of};
use crate::host::BackplaneHost;
use crate::incoming;
use crate::limits;
use crate::out::{self, ScriptCallback, ScriptRequest, Task};
use crate::peer_server::PeerServer;
use crate::settings::{ClusterError, ClusterSettings};
use crate::shared::{SharedState, Side};

/// A server's membership in a cluster that shares a Redis.
pub struct RedisBackplane {
    shared: Arc<SharedState>,
    asks: Queue<Task>,
    /// The queue of requests, until [`RedisBackplane::start`] passes it to `cluster-out`.
    queue: Mutex<Option<Receiver<Task>>>,
    wait: Option<fn(&ClusterError)>,
    /// True if clients may be redirected only to servers with TLS.
    over_tls: bool,
    /// Joined at shutdown. Guarded by a leaf lock.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl RedisBackplane {
    /// Creates the membership of a server that has not started yet. `passwords` is true if this
    /// server protects names with passwords, `over_tls` if clients use TLS.
    pub fn new(settings: &ClusterSettings, passwords: bool, over_tls: bool) -> RedisBackplane {
        let (asks, queue) = bounded(limits::CLUSTER_QUEUE);
        RedisBackplane {
            shared: Arc::new(SharedState::new(settings, passwords)),
            asks,
            queue: Mutex::new(Some(queue)),
            wait: settings.wait,
            over_tls,
            threads: Mutex::default(),
        }
    }

    /// Connects to Redis, takes the lease and starts the two threads.
    ///
    /// # Errors
    /// [`ClusterError`], with the reason and the fix.
    pub fn start(&self, host: BackplaneHost) -> Result<(), ClusterError> {
        let Some(queue) = self.queue.lock().take() else {
            return Ok(());
        };
        self.shared.set_host(host);
        let link = self.first_connection()?;
        // Try all read operations now, so that startup fails if one of them fails.
        let reading = Reading::open(&self.shared.engine, START_WITHIN).and_then(|mut reading| {
            incoming::check_places(&self.shared, &self.asks, &mut reading)?;
            reading.read(&incoming::places(&self.shared), Duration::from_millis(1))?;
            Ok(reading)
        });
        let reading = reading.map_err(|error| out::cant_use(&self.shared, &error))?;
        self.shared.works(Side::Out);
        self.shared.works(Side::In);
        let (shared, asks) = (Arc::clone(&self.shared), self.asks.clone());
        self.spawn("cluster-in", move || {
            incoming::run(&shared, &asks, reading);
        })?;
        let shared = Arc::clone(&self.shared);
        self.spawn("cluster-out", move || {
            out::run(&shared, &queue, link);
        })
    }

    /// Connects to Redis. If `wait` is set, retries until Redis is reachable.
    fn first_connection(&self) -> Result<Asking, ClusterError> {
        let mut is_told = false;
        loop {
            match (out::begin(&self.shared), self.wait) {
                (Err(error), Some(wait)) if error.is_temporary() => {
                    if !std::mem::replace(&mut is_told, true) {
                        wait(&error);
                    }
                    self.shared.pause(limits::CLUSTER_START_RETRY);
                }
                (result, _) => return result,
            }
        }
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), ClusterError> {
        let thread = portal_net::threads::start_large(name, run);
        let thread = thread.map_err(ClusterError::NoThread)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Returns whether Redis is reachable.
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// Returns the known servers, including this one.
    pub fn servers(&self) -> Vec<PeerServer> {
        self.shared.servers()
    }

    pub fn id(&self) -> &str {
        &self.shared.server_id
    }

    fn ask(&self, op: Op, args: Vec<String>, done: ScriptCallback) {
        if !self.is_up() {
            return done(Err(Outcome::Unreachable), &mut Unwritten::default());
        }
        let ask = Task::Script(ScriptRequest {
            call: ScriptCall { op, args },
            until: Some(Instant::now() + limits::CLUSTER_PATIENCE),
            done,
        });
        match self.asks.try_send(ask) {
            Ok(()) => {}
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => {
                if let Task::Script(ask) = task {
                    (ask.done)(Err(Outcome::Unreachable), &mut Unwritten::default());
                }
            }
        }
    }

    /// Queues a change made on this server for the other servers, without waiting for a reply. May
    /// be called under a lock, because it does not notify clients. While Redis is unreachable, the
    /// change is dropped, because the complete state is sent again after a reconnect.
    fn send(&self, op: Op, args: Vec<String>) {
        if !self.is_up() {
            return;
        }
        let ask = Task::Script(ScriptRequest {
            call: ScriptCall { op, args },
            until: None,
            done: Box::new(|_, _| {}),
        });
        if self.asks.try_send(ask).is_err() {
            let reason = "the request queue is full";
            self.shared.give_up(Side::Out, reason);
        }
    }

    /// Queues a request, and waits for the reply.
    fn ask_and_wait(&self, op: Op, args: Vec<String>) -> Result<Vec<String>, Outcome> {
        let (sender, receiver) = bounded(1);
        self.ask(
            op,
            args,
            Box::new(move |answer, _| drop(sender.send(answer))),
        );
        receiver.recv().unwrap_or(Err(Outcome::Unsure))
    }

    /// Returns the name and the server id of each client that is logged in on any server, sorted by
    /// name, or `None` if Redis is unreachable. Waits for at most 1 s.
    pub fn users_and_servers(&self) -> Option<Vec<(String, String)>> {
        let words = self.ask_and_wait(Op::Who, Vec::new()).ok()?;
        let mut names: Vec<(String, String)> = pairs(&words[1..]).collect();
        names.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        Some(names)
    }

    /// Deregisters this server's clients from the cluster, and joins both threads. If Redis is
    /// unreachable, this takes up to 2 s.
    pub fn stop(&self) {
        self.shared.stop();
        // Wake `cluster-out`, which wakes `cluster-in` before it exits.
        let _ = self.asks.try_send(Task::Wake);
        // Release the lock before joining, because joining can take a long time.
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn has_pending(&self, sender: Option<Sender<'_>>, room: Option<&Name>) -> bool {
        let is_read_back = |sender: Sender<'_>| {
            let places = &self.shared.places;
            places.is_read_back(&stream_of(room), sender.session)
        };
        !sender.is_none_or(is_read_back)
    }

    /// Returns the route of a message while Redis is unreachable. A message delivered only on this
    /// server must not overtake the client's earlier messages.
    fn route_alone(&self, sender: Option<Sender<'_>>, room: Option<&Name>) -> Route {
        match self.has_pending(sender, room) {
            true => Route::Refused(Outcome::Unreachable),
            false => Route::Local,
        }
    }

    fn publish_message(
        &self,
        sender: Sender<'_>,
        room: Option<&Name>,
        (text, me): (&str, bool),
        done: Reply,
    ) {
        let mut args = args_of(sender);
        args.push(room.map(Name::key).unwrap_or_default());
        args.push(text.to_owned());
        args.push(flag(me));
        self.append(Op::Publish, args, sender, room, done);
    }

    /// Runs a script that appends an entry from the sender to a stream.
    fn append(
        &self,
        op: Op,
        args: Vec<String>,
        sender: Sender<'_>,
        room: Option<&Name>,
        done: Reply,
    ) {
        let (shared, stream) = (Arc::clone(&self.shared), stream_of(room));
        let session = sender.session;
        shared.places.count_sending(&stream, session);
        let answered = move |answer: Result<Vec<String>, Outcome>, unwritten: &mut Unwritten| {
            let outcome = match answer.as_deref() {
                Ok([ok, count, id]) if ok == "ok" => {
                    let number = number_of(id);
                    shared.places.count_sent(&stream, session, Ok(number));
                    return done(Outcome::Sent(count.parse().unwrap_or(0), None), unwritten);
                }
                Ok(_) => Outcome::NotYours,
                Err(outcome) => *outcome,
            };
            shared.places.count_sent(&stream, session, Err(outcome));
            done(outcome, unwritten);
        };
        self.ask(op, args, Box::new(answered));
    }

    fn direct(&self, sender: Sender<'_>, to: &Name, (text, me): (&str, bool), done: Reply) {
        let awaited = self.shared.await_receipt(done);
        let mut args = args_of(sender);
        args.push(awaited.to_string());
        args.push(to.key());
        args.push(text.to_owned());
        args.push(flag(me));
        let shared = Arc::clone(&self.shared);
        let answered = move |answer: Result<Vec<String>, Outcome>, unwritten: &mut Unwritten| {
            let outcome = match answer {
                // The recipient's server sends a receipt.
                Ok(words) if words[0] == "passed-on" => return,
                Ok(words) if words[0] == "nobody" => Outcome::NoSuchUser,
                Ok(_) => Outcome::NotYours,
                Err(outcome) => outcome,
            };
            shared.receipt(awaited, outcome, unwritten);
        };
        self.ask(Op::Direct, args, Box::new(answered));
    }
}

impl Backplane for RedisBackplane {
    fn publish(
        &self,
        sender: Option<Sender<'_>>,
        to: Recipients<&Name>,
        messages: &mut dyn Iterator<Item = (&str, bool)>,
        reply: &mut dyn FnMut((&str, bool)) -> Reply,
    ) -> Route {
        let (room, direct) = match to {
            Recipients::Everyone => (None, None),
            Recipients::Room(room) => (Some(room), None),
            Recipients::One(name) => (None, Some(name)),
        };
        let Some(sender) = sender.filter(|_| self.is_up()) else {
            return match direct {
                Some(_) => Route::Refused(Outcome::Unreachable),
                None => self.route_alone(sender, room),
            };
        };
        for message in messages {
            let reply = reply(message);
            match direct {
                Some(name) => self.direct(sender, name, message, reply),
                None => self.publish_message(sender, room, message, reply),
            }
        }
        Route::Pending
    }

    fn set_topic(
        &self,
        sender: Option<Sender<'_>>,
        room: &Name,
        topic: &str,
        reply: &mut dyn FnMut((&str, bool)) -> Reply,
    ) -> Route {
        let Some(sender) = sender.filter(|_| self.is_up()) else {
            return self.route_alone(sender, Some(room));
        };
        let mut args = args_of(sender);
        args.push(room.key());
        args.push(topic.to_owned());
        self.append(Op::Topic, args, sender, Some(room), reply((topic, false)));
        Route::Pending
    }

    fn announces_presence(&self) -> bool {
        true
    }

    fn claim(
        &self,
        sender: Sender<'_>,
        take_over: bool,
        is_ours: bool,
        granted: Box<dyn FnOnce(bool) + Send>,
    ) -> Claim {
        if !self.is_up() {
            // No other server grants a name that a session here has.
            if is_ours {
                granted(take_over);
                return Claim::Granted;
            }
            return Claim::Unreachable;
        }
        let mut args = args_of(sender);
        args.push(flag(take_over));
        let (known, claim) = bounded(1);
        let answered = move |answer: Result<Vec<String>, Outcome>, _: &mut Unwritten| {
            let claim = match answer {
                Ok(words) if words[0] == "in-use" => Claim::InUse,
                Ok(_) => {
                    granted(true);
                    Claim::Granted
                }
                Err(_) => Claim::Unreachable,
            };
            let _ = known.send(claim);
        };
        self.ask(Op::Claim, args, Box::new(answered));
        claim.recv().unwrap_or(Claim::Unreachable)
    }

    fn release(&self, sender: Sender<'_>) {
        self.send(Op::Release, args_of(sender));
    }

    fn attach(&self, room: &Name, history: usize) -> Option<Attached> {
        let args = vec![room.key(), room.to_string(), history.to_string()];
        let words = self.ask_and_wait(Op::Attach, args).ok()?;
        let attached = out::attached(&self.shared, room, &words);
        let wake = out::wake(&self.shared);
        self.send(wake.op, wake.args);
        attached
    }

    fn detach(&self, room: &Name, token: u64) {
        self.shared.places.detach(&room.key(), token);
    }

    /// If the room was created here without a reply to [`Backplane::attach`] although Redis is
    /// reachable, reconnects in order to send everything again. Without this reconnect, clients
    /// here would receive none of the room's messages from other servers.
    fn join(&self, sender: Sender<'_>, room: &Name) {
        if self.is_up() && !self.shared.places.has(&stream_of(Some(room))) {
            let reason = "Redis did not send a room's state in time";
            self.shared.give_up(Side::Out, reason);
            // If the queue is full, `cluster-out` is awake already.
            let _ = self.asks.try_send(Task::Wake);
            return;
        }
        let mut args = args_of(sender);
        args.extend([room.key(), room.to_string()]);
        self.send(Op::Join, args);
    }

    fn leave(&self, sender: Sender<'_>, room: &Name) {
        let mut args = args_of(sender);
        args.push(room.key());
        self.send(Op::Leave, args);
    }

    fn users(&self) -> Option<Vec<String>> {
        let names = self.users_and_servers()?.into_iter();
        Some(names.map(|(name, _)| name).collect())
    }

    fn rooms(&self) -> Option<Vec<(String, usize)>> {
        let words = self.ask_and_wait(Op::Rooms, Vec::new()).ok()?;
        let rooms = pairs(&words[1..]).map(|(room, count)| (room, count.parse().unwrap_or(0)));
        let mut rooms: Vec<(String, usize)> = rooms.collect();
        rooms.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        Some(rooms)
    }

    fn room_members(&self, room: &Name) -> Option<Vec<String>> {
        let words = self.ask_and_wait(Op::Members, vec![room.key()]).ok()?;
        Some(words[1..].to_vec())
    }

    fn full_redirect(&self) -> Option<Elsewhere<'static>> {
        let mut others = self.servers();
        others.retain(|there| {
            let is_fine = there.load.tls || !self.over_tls;
            is_fine && there.lives && there.id != self.shared.server_id && there.load.free > 0
        });
        let there = others.into_iter().max_by_key(|there| there.load.free)?;
        let (address, port) = (there.address?, Port::new(there.load.port)?);
        let scheme = if there.load.tls { "https" } else { "http" };
        let page = |port| format!("{scheme}://{}/", SocketAddr::new(address, port)).into();
        Some(Elsewhere {
            address,
            port,
            web: there.load.web.map(page),
        })
    }
}

impl AccountDirectory for RedisBackplane {
    fn find(&self, name: &Name) -> Option<Account> {
        account(&self.ask_and_wait(Op::Account, vec![name.key()]).ok()?)
    }

    fn decide(&self, wish: AccountRequest<'_>) -> Decided {
        let (name, before, hash) = match wish {
            AccountRequest::New { name, hash } => (name, 0, hash),
            AccountRequest::Change { account, hash } => (&account.name, account.version, hash),
        };
        let args = vec![
            name.key(),
            name.to_string(),
            before.to_string(),
            hash.to_owned(),
        ];
        match self.ask_and_wait(Op::Register, args) {
            Ok(words) if words[0] == "ok" => Decided::Ours,
            Ok(words) => account(&words).map_or(Decided::Unknown, Decided::Theirs),
            Err(_) => Decided::Unknown,
        }
    }
}

impl TokenDirectory for RedisBackplane {
    fn add(&self, name: &Name, token: &StoredToken, most: usize) -> Option<()> {
        let args = [&token.hash, &token.until.to_string(), &most.to_string()];
        self.tokens("add", name, &args.map(String::clone)).map(drop)
    }

    fn has(&self, name: &Name, hash: &str) -> Option<bool> {
        let count = self.tokens("has", name, &[hash.to_owned()])?;
        Some(count > 0)
    }

    fn remove(&self, name: &Name, hash: Option<&str>) -> Option<usize> {
        self.tokens("remove", name, &[hash.unwrap_or_default().to_owned()])
    }
}

impl RedisBackplane {
    /// Runs the script for tokens; returns the number in its reply.
    fn tokens(&self, what: &str, name: &Name, more: &[String]) -> Option<usize> {
        let args = [&[what.to_owned(), name.key()], more].concat();
        let words = self.ask_and_wait(Op::Tokens, args).ok()?;
        words.get(1)?.parse().ok()
    }
}

fn args_of(sender: Sender<'_>) -> Vec<String> {
    vec![
        sender.session.to_string(),
        sender.name.key(),
        sender.name.to_string(),
    ]
}

fn pairs(words: &[String]) -> impl Iterator<Item = (String, String)> {
    words
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
}

fn stream_of(room: Option<&Name>) -> String {
    room.map_or_else(|| "all".to_owned(), |room| format!("room:{}", room.key()))
}

/// Parses an account from a script's reply: a status word, version, hash and name.
fn account(words: &[String]) -> Option<Account> {
    let [_, version, hash, name] = words else {
        return None;
    };
    Some(Account {
        name: Name::new(name)?,
        hash: hash.clone(),
        version: version.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::StreamEnd;

    #[test]
    fn while_redis_is_unreachable_no_message_overtakes_an_undelivered_one() {
        let settings = ClusterSettings::new("redis://127.0.0.1".parse().unwrap(), "one");
        let backplane = RedisBackplane::new(&settings, false, false);
        let (alice, lobby) = (Name::new("alice").unwrap(), Name::new("lobby").unwrap());
        let (session, name) = (7, &alice);
        let routes = || {
            let sender = Some(Sender { session, name });
            let mut reply = |_: (&str, bool)| -> Reply { unreachable!("nothing is sent") };
            let mut messages = [("hello", false)].into_iter();
            let to = Recipients::Room(&lobby);
            [
                backplane.publish(sender, to, &mut messages, &mut reply),
                backplane.set_topic(sender, &lobby, "cats", &mut reply),
            ]
        };
        let places = &backplane.shared.places;
        places.set("room:lobby", StreamEnd { end: 0, born: 0 });
        assert_eq!(routes(), [Route::Local; 2]);
        places.count_sending("room:lobby", session);
        assert_eq!(routes(), [Route::Refused(Outcome::Unreachable); 2]);
        places.count_sent("room:lobby", session, Ok(1));
        places.advance("room:lobby", 1);
        assert_eq!(routes(), [Route::Refused(Outcome::Unreachable); 2]);
        places.has_delivered("room:lobby", 1);
        assert_eq!(routes(), [Route::Local; 2]);
    }
}
