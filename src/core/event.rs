//! Events: a record of the server's actions for the console, the event file, the board and the
//! tests.
//!
//! Emitting an event never blocks: each reader has a bounded queue, and an event that finds the
//! queue full is dropped and counted for that reader. Without a reader or an observer, events are
//! not even built.

mod core_event;
mod emit;
mod traffic_gate;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use portal_wire::{CloseReason, ErrorCode, Port, printable};

use crate::tick::{Tick, Ticks};

pub use core_event::{CoreEvent, Place, SocketCall};
pub use emit::{EventObserver, EventQueue, Events};
pub use traffic_gate::TrafficGate;

/// The reason in [`CoreEvent::LinesMissing`] if a reader's queue was full.
pub const TOO_FAST: &str = "events arrived faster than they could be written";

/// A named value in an event.
pub type Field = (Cow<'static, str>, FieldValue);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The tick at which the event was emitted.
    pub tick: Tick,
    /// The time of day, because an event file may contain several runs.
    pub time: SystemTime,
    /// The name of the thread that emitted the event.
    pub thread: String,
    /// The kind's name, such as `seated`.
    pub kind: Cow<'static, str>,
    /// The fields, in order.
    pub fields: Vec<Field>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Text, an address or a list.
    Text(Cow<'static, str>),
    /// A port or a count.
    Number(u64),
    /// Yes or no.
    Flag(bool),
}

/// An event before it has a time and a thread. Each crate defines the kinds that it emits, with
/// [`event_kinds!`](crate::event_kinds).
pub trait EventKind {
    /// Returns the kind's name and the fields in order.
    fn into_parts(self) -> (&'static str, Vec<Field>);
}

/// A type that a field's value can have. `None` leaves the field out.
pub trait IntoField {
    /// Returns the field's value.
    fn into_field(self) -> Option<FieldValue>;
}

/// Defines an enum of event kinds, each with its name in the event file and its fields.
#[macro_export]
macro_rules! event_kinds {
    (
        $(#[$about:meta])*
        $visibility:vis enum $kinds:ident {
            $(
                $(#[$kind_about:meta])*
                $kind:ident = $name:literal { $( $field:ident: $type:ty ),* $(,)? }
            ),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[allow(missing_docs)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility enum $kinds {
            $( $(#[$kind_about])* $kind { $( $field: $type ),* } ),*
        }

        impl $crate::event::EventKind for $kinds {
            fn into_parts(self) -> (&'static str, Vec<$crate::event::Field>) {
                match self {
                    $( $kinds::$kind { $( $field ),* } => {
                        #[allow(unused_mut)]
                        let mut fields = Vec::new();
                        $( $crate::event::add_field(&mut fields, stringify!($field), $field); )*
                        ($name, fields)
                    } ),*
                }
            }
        }
    };
}

/// Adds the named field, unless it is left out.
///
/// It is never inlined: the fields of all kinds together would take 6 KiB of the stack of each
/// thread that emits an event, and a thread keeps the pages that it has touched.
#[inline(never)]
pub fn add_field(fields: &mut Vec<Field>, name: &'static str, value: impl IntoField) {
    if let Some(value) = value.into_field() {
        fields.push((name.into(), value));
    }
}

impl Event {
    /// An event from the current thread at the current time of day.
    pub fn new(tick: Tick, kind: impl EventKind) -> Event {
        let (kind, fields) = kind.into_parts();
        Event::of_parts(tick, kind, fields)
    }

    fn of_parts(tick: Tick, kind: &'static str, fields: Vec<Field>) -> Event {
        Event {
            tick,
            time: SystemTime::now(),
            thread: std::thread::current().name().unwrap_or("?").to_owned(),
            kind: kind.into(),
            fields,
        }
    }

    /// The field's value, if the event has the field.
    pub fn field(&self, name: &str) -> Option<&FieldValue> {
        let mut fields = self.fields.iter();
        fields
            .find(|(there, _)| there == name)
            .map(|(_, value)| value)
    }

    /// The field's text, if the event has the field and the field is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.field(name)? {
            FieldValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The field's number, if the event has the field and the field is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.field(name)? {
            FieldValue::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The names and values of all fields, without control characters.
    pub(crate) fn shown_fields(&self) -> String {
        let fields = self.fields.iter();
        fields
            .map(|(name, value)| format!("  {name} {}", printable(&value.to_string())))
            .collect()
    }

    /// One aligned, human-readable line without control characters or a line feed: tick, thread,
    /// kind, fields.
    pub fn line(&self) -> String {
        format!(
            "{:>6}  {:<15}  {:<14}{}",
            self.tick.0,
            self.thread,
            self.kind,
            self.shown_fields()
        )
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldValue::Text(text) => f.write_str(text),
            FieldValue::Number(number) => number.fmt(f),
            FieldValue::Flag(flag) => flag.fmt(f),
        }
    }
}

impl<T: IntoField> IntoField for Option<T> {
    fn into_field(self) -> Option<FieldValue> {
        self?.into_field()
    }
}

macro_rules! fields_as {
    ($($type:ty: $value:ident => $field:expr),* $(,)?) => {
        $(impl IntoField for $type {
            fn into_field(self) -> Option<FieldValue> {
                let $value = self;
                Some($field)
            }
        })*
    };
}

fields_as! {
    String: text => FieldValue::Text(text.into()),
    &'static str: text => FieldValue::Text(text.into()),
    SocketAddr: address => FieldValue::Text(address.to_string().into()),
    CloseReason: reason => FieldValue::Text(reason.word().into()),
    ErrorCode: code => FieldValue::Text(code.word().into()),
    // Shows consecutive ports as ranges.
    Vec<Port>: ports => FieldValue::Text(ranges(&ports).into()),
    Port: port => FieldValue::Number(port.get().into()),
    Ticks: ticks => FieldValue::Number(ticks.get()),
    usize: number => FieldValue::Number(number as u64),
    u64: number => FieldValue::Number(number),
    bool: flag => FieldValue::Flag(flag),
}

/// Formats ports in order, consecutive ones as a range: `50001-50004 50010`.
fn ranges(ports: &[Port]) -> String {
    let follows = |one: &Port, other: &Port| u32::from(one.get()) + 1 == u32::from(other.get());
    let range = |range: &[Port]| match range {
        [first, .., last] => format!("{first}-{last}"),
        ports => ports.iter().map(Port::to_string).collect(),
    };
    let ranges: Vec<String> = ports.chunk_by(follows).map(range).collect();
    ranges.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::event_kinds! {
        enum TestEvent {
            Relayed = "relayed" { from: Place, to: Place, bytes: usize, text: Option<String> },
        }
    }

    #[test]
    fn consecutive_ports_are_a_range() {
        let ports = [50001, 50002, 50003, 7, 65535, 9].map(|port| Port::new(port).unwrap());
        assert_eq!(ranges(&ports), "50001-50003 7 65535 9");
    }

    #[test]
    fn a_line_is_aligned_and_has_no_control_characters() {
        let text = Some("\u{1b}[2Jhi".to_owned());
        let place = |port| Place::Port(Port::new(port).unwrap());
        let (from, to) = (place(50001), place(50002));
        let kind = TestEvent::Relayed {
            from,
            to,
            bytes: 6,
            text,
        };
        let event = Event {
            thread: "worker-50001".to_owned(),
            ..Event::new(Tick(12), kind)
        };
        assert_eq!(
            event.line(),
            "    12  worker-50001     relayed         from 50001  to 50002  bytes 6  text \u{fffd}[2Jhi"
        );
        assert_eq!(event.number("from"), Some(50001));
        assert_eq!(event.text("via"), None);
    }
}
