//! Connections to Redis, for scripts or for streams.
//!
//! The `redis` crate does not reconnect, and without a timeout it would wait forever for a
//! suspended Redis. Each connection here therefore has a timeout. After any error, the owner closes
//! the connection and can't know whether the requests in flight were executed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, ConnectionInfo, ErrorKind, RedisError, Script, Value, cmd};

use crate::address::EngineAddress;

/// Timeout for connecting during startup, and for each reply on that connection. It is long because
/// no client is connected yet and the machine may be busy.
pub(super) const START_WITHIN: Duration = Duration::from_secs(10);

/// Timeout for connecting after startup.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Timeout for a reply, which normally takes less than a millisecond. It is short because a client
/// is waiting for the reply.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// Maximum time that Redis blocks a read from the streams.
pub(super) const READ_WAIT: Duration = Duration::from_secs(1);

/// Extra time for the reply to a blocking read. After that, the connection is considered broken.
const READ_GRACE: Duration = Duration::from_secs(1);

/// An atomic operation in Redis: a Lua script in `scripts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    RegisterServer,
    Renew,
    ReapServer,
    DeregisterServer,
    Sweep,
    Claim,
    Release,
    Publish,
    Topic,
    Direct,
    Ack,
    Attach,
    Join,
    Leave,
    Register,
    Seed,
    Account,
    Who,
    Rooms,
    Members,
    Tokens,
}

/// The scripts, in the order of [`Op`].
const SCRIPTS: [&str; 21] = [
    include_str!("scripts/register_server.lua"),
    include_str!("scripts/renew.lua"),
    include_str!("scripts/reap_server.lua"),
    include_str!("scripts/deregister_server.lua"),
    include_str!("scripts/sweep.lua"),
    include_str!("scripts/claim.lua"),
    include_str!("scripts/release.lua"),
    include_str!("scripts/publish.lua"),
    include_str!("scripts/topic.lua"),
    include_str!("scripts/direct.lua"),
    include_str!("scripts/ack.lua"),
    include_str!("scripts/attach.lua"),
    include_str!("scripts/join.lua"),
    include_str!("scripts/leave.lua"),
    include_str!("scripts/register.lua"),
    include_str!("scripts/seed.lua"),
    include_str!("scripts/account.lua"),
    include_str!("scripts/who.lua"),
    include_str!("scripts/rooms.lua"),
    include_str!("scripts/members.lua"),
    include_str!("scripts/tokens.lua"),
];

const PRELUDE: &str = include_str!("scripts/prelude.lua");

/// The start of every script that modifies state. It aborts the script if the calling server has
/// lost its lease, for example because it was suspended and resumed.
const FENCE: &str =
    "if redis.call('GET', p .. 'srv:' .. id) ~= incarnation then return { 'fenced' } end\n";

/// Returns the complete source of a script. All scripts that change something begin with the fence,
/// except the one that takes the lease.
fn code(index: usize) -> String {
    let free = [
        Op::RegisterServer,
        Op::Account,
        Op::Who,
        Op::Rooms,
        Op::Members,
    ];
    let is_free = free.map(|op| op as usize);
    let fence = if is_free.contains(&index) { "" } else { FENCE };
    [PRELUDE, fence, SCRIPTS[index]].concat()
}

/// A script and its arguments, except those common to all scripts.
#[derive(Clone, Debug)]
pub(super) struct ScriptCall {
    pub(super) op: Op,
    pub(super) args: Vec<String>,
}

/// An entry in a stream: its number and its fields.
pub(super) struct StreamEntry {
    pub(super) number: u64,
    fields: Vec<(String, String)>,
}

impl StreamEntry {
    /// Returns a field's value, or an empty string if the entry does not have that field.
    pub(super) fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(there, _)| there == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The end of a stream.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// The number of its last entry; 0 if it does not exist.
    pub(super) number: u64,
    /// The number of times the stream was created, if known.
    pub(super) born: Option<u64>,
}

/// The identity of the calling server. Its fields are the first arguments of every script.
#[derive(Clone, Debug)]
pub(super) struct CallingServer {
    pub(super) prefix: String,
    pub(super) id: String,
    pub(super) incarnation: String,
}

/// Encodes a boolean for the scripts.
pub(super) fn flag(is_so: bool) -> String {
    if is_so { "1" } else { "0" }.to_owned()
}

/// A connection for scripts.
pub(super) struct Asking {
    connection: Connection,
    /// Timeout for one reply.
    within: Duration,
    hashes: Vec<String>,
}

/// A connection for streams.
pub(super) struct Reading(Connection);

/// Connects, waiting at most `within`. Each later reply may take up to `patience`.
fn connect(
    address: &EngineAddress,
    within: Duration,
    patience: Duration,
) -> Result<Connection, RedisError> {
    match (
        connect_as(&address.info, within, patience),
        &address.with_colon,
    ) {
        (Err(error), Some(info)) if error.kind() == ErrorKind::AuthenticationFailed => {
            connect_as(info, within, patience)
        }
        (connected, _) => connected,
    }
}

fn connect_as(
    info: &ConnectionInfo,
    within: Duration,
    patience: Duration,
) -> Result<Connection, RedisError> {
    // Each write is a whole batch, so Nagle's algorithm would only add delay.
    let at_once = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.clone().set_tcp_settings(at_once))?;
    let connection = client.get_connection_with_timeout(within)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(connection)
}

fn is_interrupted(error: &RedisError) -> bool {
    let cause = std::error::Error::source(error);
    let cause =
        cause.and_then(|cause| cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::Interrupted)
}

impl Asking {
    /// Connects, and loads the scripts into Redis. Each reply may take up to `within`.
    ///
    /// # Errors
    /// Redis is unreachable, or replies unexpectedly.
    pub(super) fn open(address: &EngineAddress, within: Duration) -> Result<Asking, RedisError> {
        let mut connection = connect(address, within.max(CONNECT_WITHIN), within)?;
        let hashes = load_scripts(&mut connection)?;
        Ok(Asking {
            connection,
            within,
            hashes,
        })
    }

    /// Returns Redis's eviction policy if it can evict keys that have no time to live, as ours have
    /// none. Returns `None` otherwise, or if this user may not query the policy.
    ///
    /// # Errors
    /// The connection is unusable.
    pub(super) fn evicting_policy(&mut self) -> Result<Option<String>, RedisError> {
        let info: String = match cmd("INFO").arg("memory").query(&mut self.connection) {
            Ok(info) => info,
            // An error reply, such as NOPERM. After any other error, the reply to INFO might still
            // arrive.
            Err(error) if error.code().is_some() => return Ok(None),
            Err(error) => return Err(error),
        };
        let policy = info
            .lines()
            .find_map(|line| line.strip_prefix("maxmemory_policy:"));
        let policy = policy.filter(|policy| policy.starts_with("allkeys-"));
        Ok(policy.map(str::to_owned))
    }

    /// Sets the timeout for all later replies.
    ///
    /// # Errors
    /// The connection is unusable.
    pub(super) fn set_within(&mut self, within: Duration) -> Result<(), RedisError> {
        self.within = within;
        self.connection.set_read_timeout(Some(within))
    }

    /// Sends all the scripts together; Redis runs them in order. Each reply is a list of words. An
    /// error in one script, for example because Redis is out of memory, affects only its own reply.
    ///
    /// If Redis has lost the scripts (`SCRIPT FLUSH`), they are loaded again, and the calls that
    /// failed for this reason are sent again. None of those calls changed anything.
    ///
    /// # Errors
    /// The connection is unusable; any of `calls` may or may not have been executed.
    pub(super) fn run(
        &mut self,
        caller: &CallingServer,
        calls: &[ScriptCall],
    ) -> Result<Vec<Result<Vec<String>, String>>, RedisError> {
        let begun = Instant::now();
        let all: Vec<&ScriptCall> = calls.iter().collect();
        let mut replies = self.send(caller, &all, begun)?;
        let done = done_before_a_lost_script(&replies)?;
        if done < calls.len() {
            self.hashes = load_scripts(&mut self.connection)?;
            replies.truncate(done);
            replies.extend(self.send(caller, &all[done..], begun)?);
        }
        let answer = |reply| match reply {
            Value::ServerError(error) => Err(RedisError::from(error).to_string()),
            value => Ok(words(value)),
        };
        Ok(replies.into_iter().map(answer).collect())
    }

    /// Sends all `calls` and reads one reply for each.
    fn send(
        &mut self,
        caller: &CallingServer,
        calls: &[&ScriptCall],
        begun: Instant,
    ) -> Result<Vec<Value>, RedisError> {
        let mut packed = Vec::new();
        for call in calls {
            let hash = &self.hashes[call.op as usize];
            let mut eval = cmd("EVALSHA");
            eval.arg(hash).arg(1).arg(&caller.prefix);
            eval.arg(&caller.id)
                .arg(&caller.incarnation)
                .arg(&call.args);
            eval.write_packed_command(&mut packed);
        }
        self.connection.send_packed_command(&packed)?;
        let mut replies = Vec::new();
        for _ in calls {
            replies.push(self.connection.recv_response()?);
            if begun.elapsed() > 2 * self.within {
                return Err(late());
            }
        }
        Ok(replies)
    }
}

/// Returns the number of calls before the first one whose script was missing.
///
/// # Errors
/// A later call found its script, because another server loaded the scripts in between. Resending
/// the failed calls would change the order.
fn done_before_a_lost_script(replies: &[Value]) -> Result<usize, RedisError> {
    let lost =
        |reply: &Value| matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT");
    let done = replies.iter().take_while(|reply| !lost(reply)).count();
    if replies[done..].iter().all(lost) {
        Ok(done)
    } else {
        Err((ErrorKind::Client, "some of the scripts were lost").into())
    }
}

/// Loads all scripts, and returns their hashes in the order of [`Op`].
fn load_scripts(connection: &mut Connection) -> Result<Vec<String>, RedisError> {
    (0..SCRIPTS.len())
        .map(|index| Script::new(&code(index)).load(connection))
        .collect()
}

impl Reading {
    /// Connects, waiting at most `within`.
    ///
    /// # Errors
    /// Redis is unreachable or rejects the connection.
    pub(super) fn open(address: &EngineAddress, within: Duration) -> Result<Reading, RedisError> {
        connect(address, within, READ_WAIT + READ_GRACE).map(Reading)
    }

    /// Returns the value of the key `epoch`, and the end of each stream.
    ///
    /// # Errors
    /// The connection is unusable.
    pub(super) fn ends(
        &mut self,
        epoch: &str,
        streams: &[String],
    ) -> Result<(String, Vec<End>), RedisError> {
        let mut packed = Vec::new();
        cmd("GET").arg(epoch).write_packed_command(&mut packed);
        for stream in streams {
            cmd("XINFO")
                .arg("STREAM")
                .arg(stream)
                .write_packed_command(&mut packed);
            cmd("GET")
                .arg(format!("{stream}:born"))
                .write_packed_command(&mut packed);
        }
        self.0.send_packed_command(&packed)?;
        let epoch = word(self.0.recv_response()?);
        let mut ends = Vec::new();
        for _ in streams {
            let (info, born) = (self.0.recv_response()?, self.0.recv_response()?);
            ends.push(End {
                number: last_id(info)?,
                born: word(born).parse().ok(),
            });
        }
        Ok((epoch, ends))
    }

    /// Reads the entries in a stream up to the number `last`.
    ///
    /// # Errors
    /// The connection is unusable.
    pub(super) fn up_to(
        &mut self,
        stream: &str,
        last: u64,
    ) -> Result<Vec<StreamEntry>, RedisError> {
        let last = format!("0-{last}");
        let entries = cmd("XRANGE")
            .arg(stream)
            .arg("-")
            .arg(last)
            .query(&mut self.0)?;
        let Value::Array(entries) = entries else {
            return Ok(Vec::new());
        };
        Ok(entries.into_iter().filter_map(entry).collect())
    }

    /// Reads the entries after the given positions. If there are none, waits up to `wait`, which
    /// must be at most [`READ_WAIT`].
    ///
    /// # Errors
    /// The connection is unusable.
    pub(super) fn read(
        &mut self,
        places: &[(String, u64)],
        wait: Duration,
    ) -> Result<Vec<(String, Vec<StreamEntry>)>, RedisError> {
        let mut read: Cmd = cmd("XREAD");
        read.arg("COUNT").arg(1000);
        read.arg("BLOCK")
            .arg(u64::try_from(wait.as_millis()).unwrap_or(1));
        read.arg("STREAMS");
        for (stream, _) in places {
            read.arg(stream);
        }
        for (_, place) in places {
            read.arg(format!("0-{place}"));
        }
        // Suspending and resuming this process (Ctrl-Z and `fg`, a debugger) interrupts a read that
        // has a timeout. Send the request again; the library skips the reply to the interrupted
        // one.
        loop {
            match read.query::<Value>(&mut self.0) {
                Err(error) if is_interrupted(&error) => {}
                answer => return answer.map(streams),
            }
        }
    }
}

/// Parses the number of a stream's last entry from the reply to `XINFO STREAM`.
///
/// # Errors
/// The reply is an error other than "no such key".
fn last_id(info: Value) -> Result<u64, RedisError> {
    let pairs: Vec<(Value, Value)> = match info {
        Value::ServerError(error) if error.to_string().contains("no such key") => return Ok(0),
        Value::ServerError(error) => return Err(error.into()),
        Value::Map(pairs) => pairs,
        Value::Array(values) => {
            let mut values = values.into_iter();
            std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
        }
        _ => Vec::new(),
    };
    let mut pairs = pairs.into_iter();
    let last = pairs.find_map(|(name, value)| {
        let name = word(name);
        (name == "last-generated-id").then(|| word(value))
    });
    Ok(last.map_or(0, |last| number_of(&last)))
}

/// Returns the reason why Redis is unusable. Timeouts get their own text, because the system's text
/// is "Resource temporarily unavailable".
pub(super) fn reason(error: &RedisError) -> String {
    if error.is_timeout() {
        "it did not reply in time".to_owned()
    } else {
        error.to_string()
    }
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Converts a flat reply to words.
fn words(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.into_iter().map(word).collect(),
        value => vec![word(value)],
    }
}

fn word(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Value::SimpleString(text) => text,
        Value::Int(number) => number.to_string(),
        Value::Okay => "OK".to_owned(),
        _ => String::new(),
    }
}

/// Parses the number in a stream entry's id, such as `0-17`. An invalid id yields 0.
pub(super) fn number_of(id: &str) -> u64 {
    let number = id
        .split_once('-')
        .and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(0)
}

/// The end of a stream, as the scripts return it, for example `0-17 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamEnd {
    /// The number of its last entry.
    pub(super) end: u64,
    /// The number of times the stream was created.
    pub(super) born: u64,
}

impl StreamEnd {
    pub(super) fn read(text: &str) -> StreamEnd {
        let (id, born) = text.split_once(' ').unwrap_or((text, "0"));
        StreamEnd {
            end: number_of(id),
            born: born.parse().unwrap_or(0),
        }
    }
}

/// Parses the reply to `XREAD`: the entries in each stream.
fn streams(value: Value) -> Vec<(String, Vec<StreamEntry>)> {
    match value {
        Value::Array(streams) => streams
            .into_iter()
            .filter_map(|value| stream(two(value)?))
            .collect(),
        // The RESP3 form, which can be selected in the address.
        Value::Map(streams) => streams.into_iter().filter_map(stream).collect(),
        _ => Vec::new(),
    }
}

fn stream((name, entries): (Value, Value)) -> Option<(String, Vec<StreamEntry>)> {
    let Value::Array(entries) = entries else {
        return None;
    };
    let entries = entries.into_iter().filter_map(entry).collect();
    Some((word(name), entries))
}

fn entry(value: Value) -> Option<StreamEntry> {
    let (id, fields) = two(value)?;
    let number = number_of(&word(id));
    let mut words = words(fields).into_iter();
    let fields = std::iter::from_fn(|| Some((words.next()?, words.next()?))).collect();
    Some(StreamEntry { number, fields })
}

fn two(value: Value) -> Option<(Value, Value)> {
    let Value::Array(two) = value else {
        return None;
    };
    let [first, second] = <[Value; 2]>::try_from(two).ok()?;
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn calls_are_sent_again_only_if_that_keeps_their_order() {
        let lost = redis::parse_redis_value(b"-NOSCRIPT No matching script.\r\n").unwrap();
        let done = Value::Okay;
        for (replies, expected) in [
            (vec![], Some(0)),
            (vec![done.clone(), done.clone()], Some(2)),
            (vec![done.clone(), lost.clone(), lost.clone()], Some(1)),
            (vec![lost.clone(), lost.clone()], Some(0)),
            (vec![lost, done], None),
        ] {
            assert_eq!(done_before_a_lost_script(&replies).ok(), expected);
        }
    }

    #[test]
    fn a_timeout_has_its_own_message() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", silent.local_addr().unwrap());
        let address: EngineAddress = url.parse().unwrap();
        let error = Asking::open(&address, Duration::from_millis(1))
            .err()
            .unwrap();
        assert_eq!(reason(&error), "it did not reply in time");
        assert_eq!(reason(&late()), "it did not reply in time");
    }
}
