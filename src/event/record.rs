//! An event as it is written down: a word and details, in a line for people or as an object of JSON,
//! and read again from such an object.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::clock::Tick;
use crate::wire::printable;

/// One event, without the types of what happened: this is what a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The time of day.
    pub time: Timestamp,
    /// The clock's count.
    pub tick: Tick,
    /// The thread that did it.
    pub thread: String,
    /// The word for what happened, such as `seated`.
    pub event: String,
    /// What else there is to say, each with its name: texts and whole numbers.
    pub details: Map<String, Value>,
}

impl Record {
    /// The text of that name, if there is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.details.get(name)?.as_str()
    }

    /// The number of that name, if there is one.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.details.get(name)?.as_u64()
    }

    /// The details for people, each with its name. Nothing in it can move a cursor.
    pub fn shown_details(&self) -> String {
        let mut shown = String::new();
        for (name, detail) in &self.details {
            let detail = match detail {
                Value::String(text) => printable(text),
                number => number.to_string(),
            };
            // Writing to a string can't fail.
            let _ = write!(shown, "  {name} {detail}");
        }
        shown
    }

    /// One aligned line for people: tick, thread, what, who. Nothing in it can move a cursor.
    pub fn line(&self) -> String {
        let Record {
            tick,
            thread,
            event,
            ..
        } = self;
        let details = self.shown_details();
        format!("{:>6}  {thread:<15}  {event:<14}{details}", tick.0)
    }

    /// One JSON object, for programs.
    pub fn json(&self) -> String {
        let mut json = format!(
            "{{\"time\":\"{:.3}\",\"tick\":{},\"thread\":{},\"event\":{}",
            self.time,
            self.tick.0,
            json_string(&self.thread),
            json_string(&self.event)
        );
        for (name, detail) in &self.details {
            let detail = match detail {
                Value::String(text) => json_string(text),
                number => number.to_string(),
            };
            let _ = write!(json, ",\"{name}\":{detail}");
        }
        json.push('}');
        json
    }

    /// Reads what [`Record::json`] wrote.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(json: &str) -> Result<Record, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let Value::Object(members) = value else {
            return Err("it is no JSON object".to_owned());
        };
        let (mut time, mut tick, mut thread, mut event) = (None, None, None, None);
        let mut details = Map::new();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("time", Value::String(text)) => time = text.parse().ok(),
                ("tick", Value::Number(number)) => tick = number.as_u64().map(Tick),
                ("thread", Value::String(text)) => thread = Some(text),
                ("event", Value::String(text)) => event = Some(text),
                (_, Value::Number(number)) if number.as_u64().is_none() => {
                    return Err(format!("{name} is no whole number"));
                }
                (_, detail @ (Value::String(_) | Value::Number(_))) => {
                    details.insert(name, detail);
                }
                _ => return Err(format!("{name} is neither a text nor a number")),
            }
        }
        Ok(Record {
            time: time.ok_or("it has no time")?,
            tick: tick.ok_or("it has no tick")?,
            thread: thread.ok_or("it has no thread")?,
            event: event.ok_or("it does not say what happened")?,
            details,
        })
    }
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
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            tick in 0u64..u64::MAX / 2,
            thread in "\\PC{0,20}",
            text in any::<String>(),
            number in any::<u64>(),
        ) {
            let record = Record {
                time: Timestamp::UNIX_EPOCH,
                tick: Tick(tick),
                thread,
                event: "said".into(),
                details: [
                    ("text".to_owned(), Value::from(text)),
                    ("count".to_owned(), Value::from(number)),
                ]
                .into_iter()
                .collect(),
            };
            prop_assert_eq!(Record::parse(&record.json()), Ok(record));
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_reason() {
        let refused = |json: &str| Record::parse(json).unwrap_err();
        assert!(refused("# 3 events dropped").contains("expected"));
        assert_eq!(refused("[]"), "it is no JSON object");
        assert_eq!(refused("{}"), "it has no time");
        let begin = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"tick\":1,\"thread\":\"x\"";
        assert!(refused(&format!("{begin}}}")).contains("what happened"));
        assert!(refused(&format!("{begin},\"event\":\"x\",\"port\":-1}}")).contains("port"));
        assert!(refused(&format!("{begin},\"event\":\"x\",\"port\":[]}}")).contains("port"));
    }
}
