//! The thread `cluster-out`, which sends queued requests in batches and renews the server's lease.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::RedisError;

use portal_accounts::{Account, AccountError};
use portal_sessions::backplane::{Attached, Outcome};
use portal_sessions::chat::Unwritten;
use portal_sessions::journal::{HistoryEntry, Stamp};
use portal_wire::Name;

use crate::engine::{ANSWER_WITHIN, Asking, Op, START_WITHIN, ScriptCall, StreamEnd, reason};
use crate::limits;
use crate::peer_server::PeerServer;
use crate::settings::ClusterError;
use crate::shared::{SharedState, Side, random_word};

/// A callback that receives a script's reply, or the reason why there is none.
pub(super) type ScriptCallback =
    Box<dyn FnOnce(Result<Vec<String>, Outcome>, &mut Unwritten) + Send>;

pub(super) enum Task {
    Script(ScriptRequest),
    /// Wakes the thread, which then notices a break or the shutdown.
    Wake,
}

/// A script to be run, and the callback for its reply.
pub(super) struct ScriptRequest {
    pub(super) call: ScriptCall,
    /// The time until which the caller waits for the reply. With `None`, the request reports a
    /// change that already happened here. It must be sent even if it is late; otherwise Redis would
    /// have the wrong state until the next reconnect.
    pub(super) until: Option<Instant>,
    pub(super) done: ScriptCallback,
}

impl ScriptRequest {
    /// Returns whether the caller is no longer waiting for the reply.
    fn is_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

/// Sends this server's requests to Redis.
struct RequestSender<'s> {
    shared: &'s SharedState,
    link: Option<Asking>,
    renewed: Instant,
    /// The duration of the last request.
    lag: Duration,
    /// The time before which no other server is considered dead: after an outage, the other servers
    /// may take as long to reconnect as this one did.
    judges_from: Instant,
}

/// A name or a membership that was sent to Redis: the room (`None` for the name itself), the
/// session and the name.
type SentRegistration = (Option<Name>, u64, Name);

enum Registered {
    Yes {
        epoch: String,
        all: StreamEnd,
        inbox: StreamEnd,
    },
    Missing {
        command: String,
        is_forbidden: bool,
    },
    Held {
        left: i64,
    },
    Differs {
        server: String,
        passwords: bool,
    },
}

const ALLOW: &str = "allow the command for this user (`ACL SETUSER NAME ~* +@all`), or choose another user with --cluster-secret FILE";
const RESTORE: &str = "use a Redis 7 server that supports the command, and check redis.conf for a \
                       rename-command line";

/// Returns the error for a failed connection at startup, with its fix.
pub(super) fn cant_use(shared: &SharedState, error: &RedisError) -> ClusterError {
    let reason = reason(error);
    let cure = match error.code() {
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => {
            "write Redis's password, or USER:PASSWORD, to a file and pass the file with \
             --cluster-secret FILE"
        }
        Some("NOAUTH" | "WRONGPASS") => {
            "write Redis's password, or USER:PASSWORD, to a file and pass the file with \
             --cluster-secret FILE"
        }
        Some("NOPERM") => ALLOW,
        Some("CROSSSLOT" | "MOVED" | "CLUSTERDOWN") => {
            "a Redis Cluster is not supported: choose a single Redis with --cluster redis://HOST:PORT"
        }
        _ if reason.contains("NoPerm") => ALLOW,
        _ if reason.contains("unknown command") => RESTORE,
        _ if reason.contains("InvalidContentType") || reason.contains("corrupt message") => {
            "this port does not use TLS: choose Redis's TLS port, or use redis://HOST:PORT"
        }
        _ if reason.contains("certificate") && reason.contains("NotValidForName") => {
            "use a host name that is in Redis's certificate"
        }
        _ if reason.contains("certificate") => {
            "this machine must trust the issuer of Redis's certificate (set SSL_CERT_FILE to a \
             file with other trusted certificates)"
        }
        _ => {
            "start a Redis 7 server at that address (`redis-server`), or choose another one with \
             --cluster redis://HOST:PORT"
        }
    };
    let is_loading = matches!(error.code(), Some("LOADING" | "MASTERDOWN"));
    ClusterError::Engine {
        address: shared.engine.to_string(),
        is_temporary: is_loading || error.is_io_error() || error.is_timeout(),
        reason,
        cure,
    }
}

/// Connects for the first time, and takes the lease.
pub(super) fn begin(shared: &SharedState) -> Result<Asking, ClusterError> {
    let failed = |error: RedisError| cant_use(shared, &error);
    let mut link = Asking::open(&shared.engine, START_WITHIN).map_err(failed)?;
    if let Some(policy) = link.evicting_policy().map_err(failed)? {
        return Err(ClusterError::Engine {
            address: shared.engine.to_string(),
            reason: format!("its maxmemory-policy {policy} may evict names, rooms and messages"),
            cure: "set another policy, both now (`redis-cli config set maxmemory-policy \
                   noeviction`) and in redis.conf",
            is_temporary: false,
        });
    }
    let mut left_before = i64::MAX;
    let patience = Instant::now() + shared.lease + shared.lease / 2;
    loop {
        match register(shared, &mut link).map_err(failed)? {
            Registered::Yes { epoch, all, inbox } => {
                // Remove the clients from a previous run. If this server was killed and restarted
                // before its lease expired, no other server removed them.
                let sweep = ScriptCall {
                    op: Op::Sweep,
                    args: Vec::new(),
                };
                // A Redis before version 7 can't number stream entries. Detect that now rather than
                // at the first message.
                let both = [sweep, wake(shared)];
                let answers = link.run(&shared.caller(), &both).map_err(failed)?;
                for answer in answers {
                    answer.map_err(answered_wrongly).map_err(failed)?;
                }
                shared.places.set_epoch(&epoch);
                shared.places.set("all", all);
                shared
                    .places
                    .set(&format!("inbox:{}", shared.server_id), inbox);
                link.set_within(ANSWER_WITHIN).map_err(failed)?;
                return Ok(link);
            }
            Registered::Missing {
                command,
                is_forbidden,
            } => {
                let (why, cure) = match is_forbidden {
                    true => (
                        "this user does not have permission to run the command",
                        ALLOW,
                    ),
                    false => ("it does not support the command", RESTORE),
                };
                return Err(ClusterError::Engine {
                    address: shared.engine.to_string(),
                    reason: format!("{why} {command}"),
                    cure,
                    is_temporary: false,
                });
            }
            Registered::Differs { server, passwords } => {
                return Err(ClusterError::OtherRules { server, passwords });
            }
            // After a crash, the lease of the previous run expires. A lease that keeps being
            // renewed belongs to a running server.
            Registered::Held { left } => {
                if left > left_before || Instant::now() > patience {
                    return Err(ClusterError::IdTaken(shared.server_id.clone()));
                }
                left_before = left;
                shared.pause(shared.lease / 12);
            }
        }
    }
}

fn answered_wrongly(error: String) -> RedisError {
    RedisError::from((redis::ErrorKind::Client, "unexpected reply", error))
}

fn register(shared: &SharedState, link: &mut Asking) -> Result<Registered, RedisError> {
    let args = vec![
        shared.lease.as_millis().to_string(),
        shared.rules.to_owned(),
        shared.info(Duration::ZERO),
        random_word(),
    ];
    let call = ScriptCall {
        op: Op::RegisterServer,
        args,
    };
    let answers = link.run(&shared.caller(), &[call])?;
    let words = answers.into_iter().next().unwrap_or_else(|| Ok(Vec::new()));
    let words = words.map_err(answered_wrongly)?;
    let place = |index: usize| StreamEnd::read(words.get(index).map_or("", |word| word));
    match words.first().map(String::as_str) {
        Some("ok") => Ok(Registered::Yes {
            epoch: words.get(1).cloned().unwrap_or_default(),
            all: place(2),
            inbox: place(3),
        }),
        Some("held") => Ok(Registered::Held {
            left: words
                .get(1)
                .and_then(|word| word.parse().ok())
                .unwrap_or(i64::MAX),
        }),
        Some("missing") => Ok(Registered::Missing {
            command: words.get(1).cloned().unwrap_or_default(),
            is_forbidden: words.get(2).is_some_and(|known| known == "1"),
        }),
        Some("differs") => Ok(Registered::Differs {
            server: words.get(1).cloned().unwrap_or_default(),
            passwords: words.get(2).is_some_and(|rules| rules == "passwords"),
        }),
        _ => Err((
            redis::ErrorKind::Client,
            "it did not reply like a Redis server",
        )
            .into()),
    }
}

/// Returns a call that appends to this server's own inbox. The entry wakes `cluster-in`, which then
/// also reads the streams that were added in the meantime.
pub(super) fn wake(shared: &SharedState) -> ScriptCall {
    let to_nobody = ["0", "0", ""].map(str::to_owned);
    ScriptCall {
        op: Op::Ack,
        args: [vec![shared.server_id.clone()], to_nobody.to_vec()].concat(),
    }
}

/// Returns a message's stamp. It is made from the message's id or, if an older server sent the
/// message, from its time in seconds.
pub(super) fn stamp(id: &str, at: &str) -> Option<Stamp> {
    let id = id.parse().ok();
    let at = || Some(at.parse::<u64>().ok()?.saturating_mul(1_000_000));
    id.or_else(at).map(Stamp::of)
}

/// Parses the reply from `attach.lua`, and registers the room's stream for reading. `cluster-in`
/// reads it after the next wake-up.
pub(super) fn attached(shared: &SharedState, room: &Name, words: &[String]) -> Option<Attached> {
    let [ok, name, place, topic, history @ ..] = words else {
        return None;
    };
    if ok != "ok" {
        return None;
    }
    let stream = format!("room:{}", room.key());
    let token = shared.places.set(&stream, StreamEnd::read(place));
    let old = |words: &[String]| HistoryEntry {
        stamp: stamp(&words[0], &words[1]).unwrap_or_else(|| Stamp::of(0)),
        from: words[2].as_str().into(),
        to: None,
        me: words[3] == "1",
        text: words[4].as_str().into(),
    };
    Some(Attached {
        token,
        name: name.clone(),
        topic: topic
            .split_once(' ')
            .map(|(who, text)| (who.to_owned(), text.to_owned())),
        history: history.chunks_exact(5).map(old).collect(),
    })
}

/// Sends requests, renews the lease, and reconnects after a break, until the server stops.
pub(super) fn run(shared: &Arc<SharedState>, queue: &Receiver<Task>, link: Asking) {
    let mut sender = RequestSender {
        shared,
        link: Some(link),
        renewed: Instant::now(),
        lag: Duration::ZERO,
        judges_from: Instant::now() + shared.lease,
    };
    let _ = sender.seed();
    let (mut tries, mut connected) = (0, Instant::now());
    while !shared.is_stopped() {
        if sender.link.is_none() || !shared.is_out_fine() {
            shared.report_loss();
            shared.notify();
            refuse_all(queue);
            // If the connection keeps breaking soon after a reconnect, lengthen the pauses.
            if tries == 0 && connected.elapsed() < limits::CLUSTER_STABLE {
                tries = 1;
            }
            if tries > 0 {
                let pause = limits::CLUSTER_RETRY * 2_u32.pow(tries - 1);
                // The pause is at most a third of the lease, so that no running server is reaped
                // after an outage.
                let pause = jittered(pause.min(limits::CLUSTER_LONGEST_PAUSE));
                shared.pause(pause.min(shared.lease / 3));
            }
            tries = (tries + 1).min(6);
            if sender.come_back().is_ok() {
                connected = Instant::now();
            }
            continue;
        }
        if connected.elapsed() >= limits::CLUSTER_STABLE {
            tries = 0;
        }
        sender.serve(queue);
        shared.notify();
        shared.give_up_receipts(limits::CLUSTER_PATIENCE);
    }
    sender.deregister();
    refuse_all(queue);
    shared.give_up_receipts(Duration::ZERO);
}

/// Returns whether Redis rejected a script before it changed anything, because Redis can't save to
/// disk, is out of memory, or does not accept writes.
fn is_refusal(error: &str) -> bool {
    const REFUSALS: [&str; 6] = [
        "MISCONF",
        "OOM",
        "READONLY",
        "LOADING",
        "NOREPLICAS",
        "MASTERDOWN",
    ];
    REFUSALS.iter().any(|code| error.contains(code))
}

/// Rejects the queued requests, which have not been sent.
fn refuse_all(queue: &Receiver<Task>) {
    let mut unwritten = Unwritten::default();
    for task in queue.try_iter() {
        if let Task::Script(ask) = task {
            (ask.done)(Err(Outcome::Unreachable), &mut unwritten);
        }
    }
}

/// Randomizes a pause by ±50 %, because all servers lose Redis at the same time.
fn jittered(time: Duration) -> Duration {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    time / 2 + time * u32::from(byte[0]) / 256
}

impl RequestSender<'_> {
    /// Sends one batch, or renews the lease.
    fn serve(&mut self, queue: &Receiver<Task>) {
        let period = self.shared.lease / 3;
        let due = (self.renewed + period).saturating_duration_since(Instant::now());
        if due.is_zero() {
            return self.renew();
        }
        let first = match queue.recv_timeout(due.min(limits::CLUSTER_PATIENCE / 4)) {
            Ok(Task::Script(ask)) => ask,
            Ok(Task::Wake) | Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return self.shared.stop(),
        };
        let mut asks = vec![first];
        let more = queue.try_iter().take(limits::CLUSTER_BATCH - 1);
        asks.extend(more.filter_map(|task| match task {
            Task::Script(ask) => Some(ask),
            Task::Wake => None,
        }));
        // Requests whose callers are no longer waiting must not be executed.
        let now = Instant::now();
        let (asks, late): (Vec<ScriptRequest>, Vec<ScriptRequest>) =
            asks.into_iter().partition(|ask| !ask.is_late(now));
        let mut unwritten = Unwritten::default();
        for ask in late {
            (ask.done)(Err(Outcome::Unreachable), &mut unwritten);
        }
        let calls: Vec<ScriptCall> = asks.iter().map(|ask| ask.call.clone()).collect();
        if calls.is_empty() {
            return;
        }
        let answers = self.run(&calls);
        let (mut is_fenced, mut refused) = (false, None);
        match answers {
            Ok(answers) => {
                for (ask, answer) in asks.into_iter().zip(answers) {
                    let answer = match answer {
                        Ok(words) if words.first().is_some_and(|word| word == "fenced") => {
                            is_fenced = true;
                            Err(Outcome::Unreachable)
                        }
                        Ok(words) if !words.is_empty() => Ok(words),
                        Ok(_) => Err(Outcome::Unsure),
                        Err(error) if is_refusal(&error) => {
                            refused = Some(error);
                            Err(Outcome::Unreachable)
                        }
                        Err(error) => {
                            self.shared.trouble("change the state in Redis", error);
                            Err(Outcome::Unsure)
                        }
                    };
                    (ask.done)(answer, &mut unwritten);
                }
                if is_fenced {
                    self.is_fenced();
                } else if let Some(error) = refused {
                    self.is_refused(&error);
                }
            }
            Err(()) => {
                for ask in asks {
                    (ask.done)(Err(Outcome::Unsure), &mut unwritten);
                }
            }
        }
    }

    /// Runs scripts. After `Err`, the connection is closed and its failure has been reported.
    fn run(&mut self, calls: &[ScriptCall]) -> Result<Vec<Result<Vec<String>, String>>, ()> {
        let Some(link) = &mut self.link else {
            return Err(());
        };
        let begun = Instant::now();
        match link.run(&self.shared.caller(), calls) {
            Ok(answers) => {
                self.lag = begun.elapsed();
                Ok(answers)
            }
            Err(error) => {
                self.link = None;
                self.shared.mark_down(Side::Out, &reason(&error));
                Err(())
            }
        }
    }

    /// Disconnects because Redis rejects writes. Until it accepts them again, this server works
    /// alone.
    fn is_refused(&mut self, error: &str) {
        self.link = None;
        let reason = format!("it refuses writes: {error}");
        self.shared.mark_down(Side::Out, &reason);
    }

    /// Handles a lost lease. Either this server was suspended for longer than the lease, or Redis
    /// has lost its data.
    fn is_fenced(&mut self) {
        self.link = None;
        self.shared
            .mark_down(Side::Out, "this server's lease expired");
        self.shared.boot_anew();
    }

    /// Renews the lease, and removes the servers whose leases have expired.
    fn renew(&mut self) {
        let args = vec![
            self.shared.lease.as_millis().to_string(),
            self.shared.rules.to_owned(),
            self.shared.info(self.lag),
        ];
        self.renewed = Instant::now();
        let call = ScriptCall {
            op: Op::Renew,
            args,
        };
        let Ok(answers) = self.run(&[call]) else {
            return;
        };
        match answers.into_iter().next() {
            Some(Ok(words)) if words.first().is_some_and(|word| word == "ok") => {
                let servers = words.get(2..).unwrap_or_default().chunks_exact(3);
                let servers: Vec<PeerServer> = servers
                    .filter_map(|three| {
                        PeerServer::read(three[0].clone(), three[1] == "1", &three[2])
                    })
                    .collect();
                self.shared.set_servers(servers);
                self.reap();
            }
            Some(Err(error)) if is_refusal(&error) => self.is_refused(&error),
            Some(Err(error)) => self.shared.trouble("renew this server's lease", error),
            _ => self.is_fenced(),
        }
    }

    fn reap(&mut self) {
        if Instant::now() < self.judges_from {
            return;
        }
        let dead = |there: PeerServer| (!there.lives).then_some(there.id);
        for id in self.shared.servers().into_iter().filter_map(dead) {
            let call = ScriptCall {
                op: Op::ReapServer,
                args: vec![id],
            };
            if self.run(&[call]).is_err() {
                return;
            }
        }
    }

    /// Reconnects after a break, takes the lease, and sends this server's complete state again.
    fn come_back(&mut self) -> Result<(), ()> {
        let mut link = Asking::open(&self.shared.engine, ANSWER_WITHIN).map_err(drop)?;
        let enlisted = register(self.shared, &mut link).map_err(drop)?;
        match enlisted {
            Registered::Yes { epoch, .. } => self.shared.places.set_epoch(&epoch),
            Registered::Missing { command, .. } => {
                let error = format!("Redis no longer allows the command {command}");
                self.shared.trouble("rejoin the chat", error);
                return Err(());
            }
            Registered::Held { .. } => {
                // Another server has the lease, or this server's own previous lease has not expired
                // yet.
                self.shared.boot_anew();
                return Err(());
            }
            Registered::Differs { server, .. } => {
                let error = format!("the server {server} now has a different password setting");
                self.shared.trouble("rejoin the chat", error);
                return Err(());
            }
        }
        self.link = Some(link);
        self.renewed = Instant::now();
        self.judges_from = Instant::now() + self.shared.lease;
        let registered = self.register_all(&BTreeSet::new())?;
        let mut sessions: Vec<String> = registered
            .iter()
            .map(|(_, session, _)| session.to_string())
            .collect();
        sessions.dedup();
        let sweep = ScriptCall {
            op: Op::Sweep,
            args: sessions,
        };
        self.run(&[sweep])?;
        self.seed()?;
        self.shared.works(Side::Out);
        // Send the joins and departures that happened in the meantime.
        let now = self.register_all(&registered)?;
        let gone: Vec<ScriptCall> = registered.difference(&now).map(farewell).collect();
        self.run_all(&gone).map(drop)
    }

    /// Sends every account in this server's file to Redis.
    fn seed(&mut self) -> Result<(), ()> {
        let accounts = self.shared.host().map(|host| (host.accounts)());
        let accounts = accounts.unwrap_or_default();
        let call = |account: &Account| ScriptCall {
            op: Op::Seed,
            args: vec![
                account.name.key(),
                account.name.to_string(),
                account.version.to_string(),
                account.hash.clone(),
            ],
        };
        let calls: Vec<ScriptCall> = accounts.iter().map(call).collect();
        let answers = self.run_all(&calls)?;
        for (account, answer) in accounts.into_iter().zip(answers) {
            if answer.is_ok_and(|words| words[..] == ["differs"]) {
                let error = AccountError::Differs(account.name).to_string();
                self.shared
                    .trouble("make an account available on the other servers", error);
            }
        }
        Ok(())
    }

    /// Claims the names of all clients here, and joins their rooms, except those already sent
    /// (`before`). Notifies clients that lost their name in the meantime.
    fn register_all(
        &mut self,
        before: &BTreeSet<SentRegistration>,
    ) -> Result<BTreeSet<SentRegistration>, ()> {
        let Some(host) = self.shared.host() else {
            return Err(());
        };
        let clients = Arc::clone(&host.clients);
        for room in clients.rooms() {
            if !self.shared.places.has(&format!("room:{}", room.key())) {
                let attach = ScriptCall {
                    op: Op::Attach,
                    args: vec![room.key(), room.to_string(), "0".to_owned()],
                };
                if let Some(Ok(words)) = self.run(&[attach])?.into_iter().next() {
                    attached(self.shared, &room, &words);
                    self.run(&[wake(self.shared)])?;
                }
            }
        }
        let people = clients.users().into_iter();
        let people = people.map(|(session, name)| (None, session, name));
        let members = clients.members().into_iter();
        let members = members.map(|(room, session, name)| (Some(room), session, name));
        // Register the names first, because a room's members must have names.
        let mut registered: BTreeSet<SentRegistration> = people.chain(members).collect();
        let new: Vec<SentRegistration> = registered.difference(before).cloned().collect();
        let calls: Vec<ScriptCall> = new.iter().map(greeting).collect();
        let answers = self.run_all(&calls)?;
        let mut lost = HashMap::new();
        for ((room, session, _), answer) in new.iter().zip(answers) {
            if room.is_none() && answer.is_ok_and(|words| words[..] == ["in-use"]) {
                lost.insert(*session, ());
            }
        }
        registered.retain(|(_, session, _)| !lost.contains_key(session));
        for session in lost.into_keys() {
            self.shared.taken_over(session);
        }
        Ok(registered)
    }

    fn run_all(&mut self, calls: &[ScriptCall]) -> Result<Vec<Result<Vec<String>, String>>, ()> {
        let mut answers = Vec::new();
        for batch in calls.chunks(limits::CLUSTER_BATCH) {
            answers.extend(self.run(batch)?);
        }
        Ok(answers)
    }

    /// Deregisters this server, and wakes `cluster-in`.
    fn deregister(&mut self) {
        let note = wake(self.shared);
        let deregister = ScriptCall {
            op: Op::DeregisterServer,
            args: Vec::new(),
        };
        // If Redis is unreachable, the lease expires instead.
        let _ = self.run(&[note, deregister]);
    }
}

fn speaker(session: u64, name: &Name) -> Vec<String> {
    vec![session.to_string(), name.key(), name.to_string()]
}

fn greeting((room, session, name): &SentRegistration) -> ScriptCall {
    let mut args = speaker(*session, name);
    match room {
        Some(room) => {
            args.extend([room.key(), room.to_string()]);
            ScriptCall { op: Op::Join, args }
        }
        None => {
            args.push("0".to_owned());
            ScriptCall {
                op: Op::Claim,
                args,
            }
        }
    }
}

fn farewell((room, session, name): &SentRegistration) -> ScriptCall {
    let mut args = speaker(*session, name);
    match room {
        Some(room) => {
            args.push(room.key());
            ScriptCall {
                op: Op::Leave,
                args,
            }
        }
        None => ScriptCall {
            op: Op::Release,
            args,
        },
    }
}

/// A client's request must not time out before the request to Redis does.
const _: () = assert!(ANSWER_WITHIN.as_millis() <= limits::CLUSTER_PATIENCE.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_sent_even_if_late_but_requests_only_while_the_caller_waits() {
        let now = Instant::now();
        let ask = |until| ScriptRequest {
            call: ScriptCall {
                op: Op::Leave,
                args: Vec::new(),
            },
            until,
            done: Box::new(|_, _| {}),
        };
        let later = now + limits::CLUSTER_PATIENCE;
        assert!(!ask(None).is_late(later));
        assert!(!ask(Some(later)).is_late(now));
        assert!(ask(Some(later)).is_late(later));
    }
}
