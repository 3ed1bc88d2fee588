//! Events as JSON lines, the format of the event file.

use std::fmt::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::Tick;
use crate::event::{Event, FieldValue};

/// Writes an event as one JSON object without control characters.
pub(crate) fn to_json(event: &Event) -> String {
    // A time outside jiff's range (years up to 9999) is written as the Unix epoch.
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

/// Parses an event that [`to_json`] wrote.
///
/// # Errors
/// The reason why the line is not an event.
pub(crate) fn from_json(json: &str) -> Result<Event, String> {
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
            _ => return Err(format!("{name} is not a string, a number or a boolean")),
        };
        fields.push((name.into(), field));
    }
    Ok(Event {
        time: SystemTime::from(time.ok_or("it has no timestamp")?),
        tick: tick.ok_or("it has no tick number")?,
        thread: thread.ok_or("it has no thread name")?,
        kind: kind.ok_or("it has no event name")?.into(),
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
            // JSON allows unescaped C1 characters, but the file may be shown on a terminal.
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
        assert_eq!(refused("{}"), "it has no timestamp");
        let begin = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"tick\":1,\"thread\":\"x\"";
        assert!(refused(&format!("{begin}}}")).contains("no event name"));
        assert!(refused(&format!("{begin},\"event\":\"x\",\"port\":-1}}")).contains("port"));
        assert!(refused(&format!("{begin},\"event\":\"x\",\"port\":[]}}")).contains("port"));
    }
}
