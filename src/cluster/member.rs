//! A server's part in a chat of several: what can be asked of the others.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::asks::{Attached, Claimed, Done, Fate, Speaker};
use super::engine::{Call, Op, Reading, START_WITHIN, flag, number_of};
use super::incoming;
use super::news::{Hears, Neighbour};
use super::out::{self, Answered, Ask, Task};
use super::settings::{ClusterError, ClusterSettings};
use super::shared::{Shared, Side};
use crate::accounts::{Account, Decided};
use crate::hall::Unwritten;
use crate::limits;
use crate::lock::Mutex;
use crate::wire::Name;

/// A server's part in a chat of several.
pub struct Cluster {
    shared: Arc<Shared>,
    asks: Sender<Task>,
    /// To be joined at the end. A leaf lock.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cluster {
    /// Connects to the engine, takes the lease and starts the two threads. `passwords`: names have them here.
    ///
    /// # Errors
    /// [`ClusterError`]: each says what to do about it.
    pub fn start(
        settings: &ClusterSettings,
        passwords: bool,
        hears: Arc<dyn Hears>,
    ) -> Result<Cluster, ClusterError> {
        let shared = Arc::new(Shared::new(settings, passwords, hears));
        let (link, epoch) = out::begin(&shared)?;
        let reading = Reading::open(&shared.engine, START_WITHIN);
        let reading = reading.map_err(|error| out::cant_use(&shared, &error))?;
        // Before anybody is let in.
        shared.works(Side::Out);
        shared.works(Side::In);
        let (asks, queue) = bounded(limits::CLUSTER_QUEUE);
        let cluster = Cluster {
            shared,
            asks,
            threads: Mutex::default(),
        };
        let (shared, asks) = (Arc::clone(&cluster.shared), cluster.asks.clone());
        cluster.spawn("cluster-in", move || {
            incoming::run(&shared, &asks, reading);
        })?;
        let shared = Arc::clone(&cluster.shared);
        cluster.spawn("cluster-out", move || {
            out::run(&shared, &queue, (link, epoch));
        })?;
        Ok(cluster)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), ClusterError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(ClusterError::NoThread)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Whether the engine can be asked.
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// What is known of the servers, this one among them.
    pub fn servers(&self) -> Vec<Neighbour> {
        self.shared.servers()
    }

    /// What this server is called.
    pub fn id(&self) -> &str {
        &self.shared.caller_id
    }

    /// Another server that has free seats (and speaks TLS, if it has to be `over_tls`), for somebody for whom there is none here.
    pub fn elsewhere(&self, over_tls: bool) -> Option<Neighbour> {
        let mut others = self.servers();
        others.retain(|there| {
            let is_fine = there.load.tls || !over_tls;
            is_fine && there.lives && there.id != self.shared.caller_id && there.load.free > 0
        });
        others.into_iter().max_by_key(|there| there.load.free)
    }

    fn ask(&self, op: Op, args: Vec<String>, done: Answered) {
        if !self.is_up() {
            return done(Err(Fate::Unreachable), &mut Unwritten::default());
        }
        let ask = Task::Ask(Ask {
            call: Call { op, args },
            until: Some(Instant::now() + limits::CLUSTER_PATIENCE),
            done,
        });
        match self.asks.try_send(ask) {
            Ok(()) => {}
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => {
                if let Task::Ask(ask) = task {
                    (ask.done)(Err(Fate::Unreachable), &mut Unwritten::default());
                }
            }
        }
    }

    /// Queues a change on this server for the other servers, without waiting for a reply. May be
    /// called under a lock, because it notifies no one. While Redis is unreachable, the change is
    /// dropped: after a break, everything is sent again.
    fn tell(&self, op: Op, args: Vec<String>) {
        if !self.is_up() {
            return;
        }
        let ask = Task::Ask(Ask {
            call: Call { op, args },
            until: None,
            done: Box::new(|_, _| {}),
        });
        if self.asks.try_send(ask).is_err() {
            let reason = "there is more to be said to it than it takes";
            self.shared.give_up(Side::Out, reason);
        }
    }

    /// Asks, and waits for the answer.
    fn ask_and_wait(&self, op: Op, args: Vec<String>) -> Result<Vec<String>, Fate> {
        let (sender, receiver) = bounded(1);
        self.ask(
            op,
            args,
            Box::new(move |answer, _| drop(sender.send(answer))),
        );
        receiver.recv().unwrap_or(Err(Fate::Unsure))
    }

    /// An account as all servers have it. Waits for the engine, a second at most.
    ///
    /// # Errors
    /// Why it can't be told.
    pub fn account(&self, name: &Name) -> Result<Option<Account>, Fate> {
        let words = self.ask_and_wait(Op::Account, vec![name.key()])?;
        Ok(account(&words))
    }

    /// Makes an account, or gives it another password, if it is the same everywhere: `before` is the version that it has
    /// had here, 0 if there was none. Waits as [`Cluster::account`] does.
    pub fn register(&self, name: &Name, before: u64, hash: &str) -> Decided {
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

    /// Wants a name for a session; with `take_over` also if somebody has it, who is told then. `done` is called in the
    /// order in which names were given.
    pub fn claim(
        &self,
        speaker: Speaker<'_>,
        take_over: bool,
        done: Box<dyn FnOnce(Claimed) + Send>,
    ) {
        let mut args = speaker.args();
        args.push(flag(take_over));
        self.ask(
            Op::Claim,
            args,
            Box::new(move |answer, _| {
                done(match answer {
                    Ok(words) if words[0] == "in-use" => Claimed::InUse,
                    Ok(_) => Claimed::Yes,
                    Err(_) => Claimed::Unreachable,
                });
            }),
        );
    }

    /// Gives a name up, after everything that was said under it.
    pub fn release(&self, speaker: Speaker<'_>) {
        self.tell(Op::Release, speaker.args());
    }

    /// Says something to all who have logged in, or in a room.
    pub fn say(
        &self,
        speaker: Speaker<'_>,
        room: Option<&Name>,
        (text, me): (&str, bool),
        done: Done,
    ) {
        let mut args = speaker.args();
        args.push(room.map(Name::key).unwrap_or_default());
        args.push(text.to_owned());
        args.push(flag(me));
        let (shared, stream) = (Arc::clone(&self.shared), stream_of(room));
        let session = speaker.session;
        shared.places.says(&stream, session);
        self.ask(
            Op::Say,
            args,
            Box::new(move |answer, unwritten| {
                let fate = match answer.as_deref() {
                    Ok([ok, count, id]) if ok == "ok" => {
                        let number = number_of(id);
                        shared.places.has_said(&stream, session, Ok(number));
                        return done(Fate::Sent(count.parse().unwrap_or(0)), unwritten);
                    }
                    Ok(_) => Fate::NotYours,
                    Err(fate) => fate.clone(),
                };
                shared.places.has_said(&stream, session, Err(&fate));
                done(fate, unwritten);
            }),
        );
    }

    /// Whether a session may say something here alone, in public or in a room, while the engine is away: not if something
    /// is still on the way that it said before.
    pub fn may_go_on_alone(&self, session: u64, room: Option<&Name>) -> bool {
        self.shared.places.is_heard_out(&stream_of(room), session)
    }

    /// Says what a room is about.
    pub fn topic(&self, speaker: Speaker<'_>, room: &Name, topic: &str, done: Done) {
        let mut args = speaker.args();
        args.push(room.key());
        args.push(topic.to_owned());
        self.ask(
            Op::Topic,
            args,
            Box::new(move |answer, unwritten| {
                let fate = answer.map_or_else(
                    |fate| fate,
                    |words| match words[0].as_str() {
                        "ok" => Fate::Sent(0),
                        _ => Fate::NotYours,
                    },
                );
                done(fate, unwritten);
            }),
        );
    }

    /// Says something to one person, on whatever server.
    pub fn direct(&self, speaker: Speaker<'_>, to: &Name, (text, me): (&str, bool), done: Done) {
        let awaited = self.shared.await_receipt(done);
        let mut args = speaker.args();
        args.push(awaited.to_string());
        args.push(to.key());
        args.push(text.to_owned());
        args.push(flag(me));
        let shared = Arc::clone(&self.shared);
        self.ask(
            Op::Direct,
            args,
            Box::new(move |answer, unwritten| {
                let fate = match answer {
                    // The other server says whether it has handed it over.
                    Ok(words) if words[0] == "passed-on" => return,
                    Ok(words) if words[0] == "nobody" => Fate::Nobody,
                    Ok(_) => Fate::NotYours,
                    Err(fate) => fate,
                };
                shared.receipt(awaited, fate, unwritten);
            }),
        );
    }

    /// A room begins here: what the others know of it. Waits for the engine, a second at most; `None` if it is away.
    pub fn attach(&self, room: &Name, history: usize) -> Option<Attached> {
        let args = vec![room.key(), room.to_string(), history.to_string()];
        let words = self.ask_and_wait(Op::Attach, args).ok()?;
        let attached = out::attached(&self.shared, room, &words);
        let wake = out::wake(&self.shared);
        self.tell(wake.op, wake.args);
        attached
    }

    /// A room has ended here, which was attached with that token.
    pub fn detach(&self, room: &Name, token: u64) {
        self.shared.places.detach(&room.key(), token);
    }

    /// Somebody here is in a room. If that began here without an answer of [`Cluster::attach`], although the engine is
    /// there, everything is said anew, or nobody here would hear the others until the next break.
    pub fn join(&self, speaker: Speaker<'_>, room: &Name) {
        if self.is_up() && !self.shared.places.has(&stream_of(Some(room))) {
            let reason = "it has not said in time what it knows of a room";
            self.shared.give_up(Side::Out, reason);
            // If the queue is full, `cluster-out` is awake anyway.
            let _ = self.asks.try_send(Task::Wake);
            return;
        }
        let mut args = speaker.args();
        args.extend([room.key(), room.to_string()]);
        self.tell(Op::Join, args);
    }

    /// Somebody here has left a room, after everything that they said in it.
    pub fn leave(&self, speaker: Speaker<'_>, room: &Name) {
        let mut args = speaker.args();
        args.push(room.key());
        self.tell(Op::Leave, args);
    }

    /// Everyone who has logged in on any server, by name, and the server's id. Waits as [`Cluster::attach`] does.
    pub fn who(&self) -> Option<Vec<(String, String)>> {
        let words = self.ask_and_wait(Op::Who, Vec::new()).ok()?;
        let mut names: Vec<(String, String)> = pairs(&words[1..]).collect();
        names.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        Some(names)
    }

    /// The end: the others hear that this server's people have left, and both threads are joined. Without an engine it
    /// takes up to two seconds.
    pub fn stop(&self) {
        self.shared.stop();
        // Wakes `cluster-out`, whose last act wakes `cluster-in`.
        let _ = self.asks.try_send(Task::Wake);
        // Taken out first, because joining takes long.
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Every room on any server, and how many are in it. Waits as [`Cluster::attach`] does.
    pub fn rooms(&self) -> Option<Vec<(String, usize)>> {
        let words = self.ask_and_wait(Op::Rooms, Vec::new()).ok()?;
        let rooms = pairs(&words[1..]).map(|(room, count)| (room, count.parse().unwrap_or(0)));
        let mut rooms: Vec<(String, usize)> = rooms.collect();
        rooms.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        Some(rooms)
    }
}

fn pairs(words: &[String]) -> impl Iterator<Item = (String, String)> {
    words
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
}

fn stream_of(room: Option<&Name>) -> String {
    room.map_or_else(|| "all".to_owned(), |room| format!("room:{}", room.key()))
}

/// An account, of a script's answer: a word, version, hash and name.
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
