//! Events as JSON lines, as the event file has them.

use std::fmt::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::Tick;
use crate::event::{Event, FieldValue};

/// Writes an event as one JSON object without control characters.
pub fn to_json(event: &Event) -> String {
    // Clocks outside of jiff's range (the years up to 9999) are not worth an error.
    let time = Timestamp::try_from(event.time).unwrap_or_default();
    let mut json = format!(
        "{{\"time\":\"{time:.3}\",\"tick\":{},\"thread\":{},\"event\":{}",
        event.tick.0,
        json_string(&event.thread),
        json_string(&event.kind)
    );
    for (name, value) in &event.fields {
        let value = match value {
            FieldValue::Text(text) => json_string(text),
            other => other.to_string(),
        };
        // Writing to a string can't fail.
        let _ = write!(json, ",\"{name}\":{value}");
    }
    json.push('}');
    json
}

/// Reads an event that [`to_json`] has written.
///
/// # Errors
/// What is wrong with it, in words.
pub fn from_json(json: &str) -> Result<Event, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let Value::Object(members) = value else {
        return Err("it is not a JSON object".to_owned());
    };
    let (mut time, mut tick, mut thread, mut kind) = (None, None, None, None);
    let mut fields = Vec::new();
    for (name, value) in members {
        let field = match (name.as_str(), value) {
            ("time", Value::String(text)) => {
                time = text.parse::<Timestamp>().ok();
                continue;
            }
            ("tick", Value::Number(number)) => {
                tick = number.as_u64().map(Tick);
                continue;
            }
            ("thread", Value::String(text)) => {
                thread = Some(text);
                continue;
            }
            ("event", Value::String(text)) => {
                kind = Some(text);
                continue;
            }
            (_, Value::String(text)) => FieldValue::Text(text.into()),
            (_, Value::Bool(flag)) => FieldValue::Flag(flag),
            (_, Value::Number(number)) => match number.as_u64() {
                Some(number) => FieldValue::Number(number),
                None => return Err(format!("{name} is not a whole number")),
            },
            _ => return Err(format!("{name} is neither a text nor a number")),
        };
        fields.push((name.into(), field));
    }
    Ok(Event {
        time: SystemTime::from(time.ok_or("it has no time")?),
        tick: tick.ok_or("it has no tick")?,
        thread: thread.ok_or("it has no thread")?,
        kind: kind.ok_or("it does not say what happened")?.into(),
        fields,
    })
}

fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            // JSON allows C1 characters as they are, but the file may be shown on a terminal.
            control if control.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Ticks;
    use crate::cluster::ClusterEvent;
    use crate::event::{ChatEvent, EntranceEvent, EventKind, Place, ServerEvent, SocketCall};
    use crate::net::Port;
    use crate::seat::SeatNumber;
    use crate::wire::{CloseReason, ErrorCode};

    proptest! {
        #[test]
        fn a_written_event_is_read(
            tick in 0u64..u64::MAX / 2,
            thread in "\\PC{0,20}",
            text in any::<String>(),
            number in any::<u64>(),
            flag in any::<bool>(),
        ) {
            let event = Event {
                time: SystemTime::UNIX_EPOCH,
                tick: Tick(tick),
                thread,
                kind: "public".into(),
                fields: vec![
                    ("text".into(), FieldValue::Text(text.into())),
                    ("count".into(), FieldValue::Number(number)),
                    ("lives".into(), FieldValue::Flag(flag)),
                ],
            };
            prop_assert_eq!(from_json(&to_json(&event)), Ok(event));
        }
    }

    #[test]
    fn a_line_that_is_not_an_event_is_refused_with_the_reason() {
        let refused = |json: &str| from_json(json).unwrap_err();
        assert!(refused("# 3 events dropped").contains("expected"));
        assert_eq!(refused("[]"), "it is not a JSON object");
        assert_eq!(refused("{}"), "it has no time");
        let begin = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"tick\":1,\"thread\":\"x\"";
        assert!(refused(&format!("{begin}}}")).contains("what happened"));
        assert!(refused(&format!("{begin},\"event\":\"x\",\"port\":-1}}")).contains("port"));
        assert!(refused(&format!("{begin},\"event\":\"x\",\"port\":[]}}")).contains("port"));
    }

    fn event(kind: impl EventKind) -> Event {
        Event {
            time: SystemTime::UNIX_EPOCH,
            thread: "worker-50001".to_owned(),
            ..Event::new(Tick(12), kind)
        }
    }

    /// One of each kind, with and without its optional fields.
    fn every() -> Vec<Event> {
        let port = Port::new(50001).unwrap();
        let other = Port::new(50002).unwrap();
        let peer: std::net::SocketAddr = "[2001:db8::1]:40000".parse().unwrap();
        let ticks = |count| {
            Ticks::covering(
                std::time::Duration::from_secs(count),
                std::time::Duration::from_secs(1),
            )
        };
        let name = || "alice".to_owned();
        let room = || "lobby".to_owned();
        let some = |text: &str| Some(text.to_owned());
        vec![
            event(ClusterEvent::ClusterLost {
                reason: "a reason".to_owned(),
            }),
            event(ClusterEvent::ClusterBack {}),
            event(ClusterEvent::ClusterServer {
                server: "two".to_owned(),
                lives: true,
                taken: 1,
                seats: 4,
                lag: 250,
            }),
            event(ClusterEvent::ClusterMissed {
                room: Some(room()),
                count: Some(3),
            }),
            event(ClusterEvent::ClusterMissed {
                room: None,
                count: None,
            }),
            event(ChatEvent::Started {
                ports: vec![port, other],
                period: 1,
                reserve: ticks(2),
                handshake: ticks(1),
                idle: 300,
                total: 0,
            }),
            event(ChatEvent::Listening {
                role: "workers",
                address: peer,
            }),
            event(ChatEvent::Ticket {
                port,
                asker: peer,
                passcode: some("abc"),
                via: None,
            }),
            event(ChatEvent::Ticket {
                port,
                asker: peer,
                passcode: None,
                via: Some("web"),
            }),
            event(ChatEvent::TicketAgain { port, asker: peer }),
            event(ChatEvent::Full { asker: peer }),
            event(ChatEvent::NoShow { port }),
            event(ChatEvent::Arrived { port, peer }),
            event(EntranceEvent::Calling { port, peer }),
            event(EntranceEvent::Secured { port, peer }),
            event(EntranceEvent::TlsFailed {
                port,
                peer,
                error: "a reason".to_owned(),
            }),
            event(EntranceEvent::WrongProtocol {
                port,
                peer,
                protocol: "http".to_owned(),
            }),
            event(EntranceEvent::HttpRefused {
                port,
                peer,
                status: "403 Forbidden".to_owned(),
                reason: "a reason".to_owned(),
            }),
            event(ChatEvent::Stray { port, peer }),
            event(ChatEvent::WrongPasscode { port, peer }),
            event(ChatEvent::Seated {
                port,
                peer,
                via: None,
            }),
            event(ChatEvent::Seated {
                port,
                peer,
                via: Some("web"),
            }),
            event(ChatEvent::Relayed {
                from: Place::Port(port),
                to: Place::Port(other),
                bytes: 2,
                text: some("h\u{85}i"),
            }),
            event(ChatEvent::Relayed {
                from: Place::Port(port),
                to: Place::Port(other),
                bytes: 2,
                text: None,
            }),
            event(ChatEvent::Relayed {
                from: Place::Seat(SeatNumber::from_index(0)),
                to: Place::Seat(SeatNumber::from_index(1)),
                bytes: 2,
                text: None,
            }),
            event(ChatEvent::NobodyThere {
                from: Place::Port(port),
            }),
            event(ChatEvent::PortsBusy {
                ports: vec![port, Port::new(50002).unwrap()],
                reason: "a reason",
            }),
            event(ChatEvent::PortReady { port }),
            event(ChatEvent::Registered { port, name: name() }),
            event(ChatEvent::LoggedIn { port, name: name() }),
            event(ChatEvent::PasswordChanged { port, name: name() }),
            event(ChatEvent::WrongPassword { port, name: name() }),
            event(ChatEvent::Public {
                port,
                name: name(),
                count: 3,
                text: some("a \"b\"\\\n"),
            }),
            event(ChatEvent::Direct {
                port,
                name: name(),
                to: "bob".to_owned(),
                text: None,
            }),
            event(ChatEvent::NoSuchUser {
                port,
                name: name(),
                to: "bob".to_owned(),
            }),
            event(ChatEvent::RoomOpened { port, room: room() }),
            event(ChatEvent::RoomEnded { port, room: room() }),
            event(ChatEvent::RoomJoined {
                port,
                room: room(),
                name: name(),
            }),
            event(ChatEvent::RoomLeft {
                room: room(),
                name: name(),
                end: CloseReason::ClientIdleTimeout,
            }),
            event(ChatEvent::RoomSaid {
                port,
                room: room(),
                name: name(),
                count: 0,
                text: some("hi"),
            }),
            event(ServerEvent::DamagedAccount {
                file: "accounts.txt".to_owned(),
                line: 7,
                reason: "it is not UTF-8",
                fix: "delete it",
                name: Some(name()),
            }),
            event(ChatEvent::Refused {
                port,
                code: ErrorCode::BadName,
            }),
            event(ChatEvent::Left {
                port,
                peer,
                end: CloseReason::TotalTimeout,
            }),
            event(ChatEvent::Freed {
                port,
                passcode: None,
            }),
            event(ChatEvent::Heard { port }),
            event(ServerEvent::Caption {
                text: "look".to_owned(),
            }),
            event(ChatEvent::Panicked {
                message: "oops".to_owned(),
                place: "here:1:2".to_owned(),
            }),
            event(ChatEvent::Trouble {
                doing: "accept",
                error: "no".to_owned(),
                times: None,
            }),
            event(ChatEvent::Trouble {
                doing: "accept",
                error: "no".to_owned(),
                times: Some(12),
            }),
            event(ChatEvent::LinesMissing {
                count: 3,
                reason: "a reason".to_owned(),
            }),
            event(SocketCall {
                call: "bind",
                address: Some(peer),
                wanted: None,
                got: None,
                failed: None,
                bytes: None,
            }),
            event(SocketCall {
                call: "read",
                address: Some(peer),
                wanted: Some(10),
                got: Some(2),
                failed: None,
                bytes: some("\"hi\""),
            }),
            event(SocketCall {
                call: "write",
                address: None,
                wanted: Some(10),
                got: None,
                failed: some("no"),
                bytes: None,
            }),
            event(ChatEvent::Ticked { told: 3 }),
            event(ChatEvent::ShuttingDown { why: None }),
            event(ChatEvent::ShuttingDown {
                why: some("operator"),
            }),
        ]
    }

    /// Programs read event files, and older recordings can be replayed.
    #[test]
    fn the_lines_of_events_stay_the_same() {
        let lines = every().into_iter();
        let lines: Vec<String> = lines
            .flat_map(|event| [event.line(), to_json(&event)])
            .collect();
        assert_eq!(lines.join("\n"), include_str!("lines.txt").trim_end());
    }
}
