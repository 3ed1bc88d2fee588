//! The thread `cluster-in`, which reads the streams and delivers their entries.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use portal_sessions::backplane::{BackplaneEvent, Outcome, RemoteMessage};
use portal_sessions::chat::Unwritten;

use crate::engine::{
    CONNECT_WITHIN, Op, READ_WAIT, Reading, ScriptCall, StreamEntry, flag, reason,
};
use crate::limits;
use crate::out::{ScriptRequest, Task, stamp};
use crate::shared::{Checked, SharedState, Side};

/// Reads until the server stops, reconnecting whenever the connection breaks.
pub(super) fn run(shared: &Arc<SharedState>, asks: &Sender<Task>, link: Reading) {
    let mut link: Result<Reading, redis::RedisError> = Ok(link);
    while !shared.is_stopped() {
        let reason = match link {
            Ok(link) => read_on(shared, asks, link),
            Err(error) => reason(&error),
        };
        shared.mark_down(Side::In, &reason);
        let _ = asks.try_send(Task::Wake);
        shared.pause(limits::CLUSTER_RETRY);
        link = Reading::open(&shared.engine, CONNECT_WITHIN);
    }
}

/// Reads until the connection breaks, and returns the reason.
fn read_on(shared: &SharedState, asks: &Sender<Task>, mut link: Reading) -> String {
    let mut checked: Option<Instant> = None;
    while !shared.is_stopped() {
        // Redis may have been restored from an older snapshot, and a stream may have been deleted.
        if checked.is_none_or(|checked| checked.elapsed() >= READ_WAIT) {
            match check_places(shared, asks, &mut link) {
                Ok(true) => {}
                Ok(false) => {
                    shared.pause(limits::CLUSTER_RETRY);
                    continue;
                }
                Err(error) => return reason(&error),
            }
            checked = Some(Instant::now());
            // The connection counts as working only after this check: until then, positions may be
            // wrong and missed entries unreported.
            shared.works(Side::In);
        }
        match link.read(&places(shared), READ_WAIT) {
            Ok(streams) => {
                let mut unwritten = Unwritten::default();
                for (stream, entries) in streams {
                    let stream = shared.stream_name(&stream);
                    for entry in entries {
                        hand_on(shared, asks, stream, &entry, &mut unwritten);
                    }
                }
            }
            Err(error) => return reason(&error),
        }
    }
    String::new()
}

/// Returns the full names of the streams, and the positions up to which they have been read.
pub(super) fn places(shared: &SharedState) -> Vec<(String, u64)> {
    let places = shared.places.all().into_iter();
    places
        .map(|(stream, place)| (shared.stream(&stream), place))
        .collect()
}

/// Compares each stream's position with its end, and reports the streams that have lost entries.
/// Returns `false` if Redis has lost all its data and no server has acquired a lease since. Entries
/// from the next epoch must not be read as entries from this one.
pub(super) fn check_places(
    shared: &SharedState,
    asks: &Sender<Task>,
    link: &mut Reading,
) -> Result<bool, redis::RedisError> {
    let streams: Vec<String> = shared
        .places
        .all()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let keys: Vec<String> = streams.iter().map(|name| shared.stream(name)).collect();
    let (epoch, ends) = link.ends(&shared.stream("epoch"), &keys)?;
    if epoch.is_empty() {
        return Ok(false);
    }
    let mut is_told = false;
    for (stream, end) in streams.iter().zip(ends) {
        let checked = shared.places.check(stream, end, &epoch);
        if checked == Checked::Fine {
            continue;
        }
        if checked == Checked::NewEpoch {
            // One notice is enough for all streams.
            if !std::mem::replace(&mut is_told, true) {
                shared.missed(None, None);
            }
        } else if !stream.starts_with("inbox:") {
            shared.missed(stream.strip_prefix("room:"), None);
        }
        if let Checked::Overtook(last) = checked {
            let mut unwritten = Unwritten::default();
            for entry in link.up_to(&shared.stream(stream), last)? {
                deliver(shared, asks, stream, &entry, &mut unwritten);
            }
        }
    }
    Ok(true)
}

fn hand_on(
    shared: &SharedState,
    asks: &Sender<Task>,
    stream: &str,
    entry: &StreamEntry,
    unwritten: &mut Unwritten,
) {
    // Drop an entry that was already read, or whose stream is no longer being read.
    let Some(left_out) = shared.places.advance(stream, entry.number) else {
        return;
    };
    if left_out > 0
        && !stream.starts_with("inbox:")
        && let Some(host) = shared.host()
    {
        host.missed(stream.strip_prefix("room:"), Some(left_out));
    }
    deliver(shared, asks, stream, entry, unwritten);
    // From now on, messages delivered only on this server may follow this entry.
    shared.places.has_delivered(stream, entry.number);
}

fn deliver(
    shared: &SharedState,
    asks: &Sender<Task>,
    stream: &str,
    entry: &StreamEntry,
    unwritten: &mut Unwritten,
) {
    let Some(host) = shared.host() else { return };
    let mut hear = |event: BackplaneEvent<'_>| host.clients.on_event(event, unwritten);
    let room = stream.strip_prefix("room:");
    let owner = entry.field("o");
    let here = shared.session_here(owner);
    // The owner field ends with the client's name. Entries about a client that has left have no
    // owner, only a name field.
    let who = match owner.rsplit_once(' ') {
        Some((_, name)) => name,
        None => entry.field("w"),
    };
    let kind = entry.field("k");
    let message = RemoteMessage {
        from: who,
        text: entry.field("t"),
        me: kind == "acted" || entry.field("m") == "1",
        here,
        stamp: stamp(entry.field("i"), entry.field("at")),
    };
    let number = |name| entry.field(name).parse::<u64>().ok();
    match (kind, room) {
        ("joined", None) => hear(BackplaneEvent::Joined { name: who, here }),
        ("left", None) => hear(BackplaneEvent::Left { name: who }),
        ("said" | "acted", None) => hear(BackplaneEvent::Public(message)),
        ("joined", Some(room)) => hear(BackplaneEvent::RoomJoined {
            room,
            name: who,
            here,
        }),
        ("left", Some(room)) => hear(BackplaneEvent::RoomLeft { room, name: who }),
        ("said" | "acted", Some(room)) => hear(BackplaneEvent::Room { room, message }),
        ("topic", Some(room)) => hear(BackplaneEvent::Topic { room, message }),
        ("taken", None) => {
            if let Some(session) = number("s") {
                hear(BackplaneEvent::TakenOver(session));
            }
        }
        ("ack", None) => {
            let outcome = match entry.field("d") {
                "1" => Outcome::Sent(1, message.stamp),
                _ => Outcome::NoSuchUser,
            };
            shared.receipt(number("a").unwrap_or(0), outcome, unwritten);
        }
        ("direct", None) => {
            let mut queued = false;
            if let Some(to) = number("s") {
                hear(BackplaneEvent::Direct {
                    to,
                    message,
                    queued: &mut queued,
                });
            }
            let asked = |name: &str| entry.field(name).to_owned();
            let args = vec![asked("r"), asked("a"), flag(queued), asked("i")];
            // If the queue is full, the sender gets "unsure" after its timeout.
            let _ = asks.try_send(Task::Script(ScriptRequest {
                call: ScriptCall { op: Op::Ack, args },
                until: Some(Instant::now() + limits::CLUSTER_PATIENCE),
                done: Box::new(|_, _| {}),
            }));
        }
        // Ignore an entry from a newer version of the server.
        _ => {}
    }
}
