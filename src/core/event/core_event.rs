//! The kinds of events that the core emits.

use std::net::SocketAddr;

use portal_wire::{CloseReason, ErrorCode, Port};

use super::{EventKind, Field, FieldValue, IntoField, add_field};
use crate::seat::SeatNumber;
use crate::tick::Ticks;

/// The place of a client: its port, or its seat if all clients share a single port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A worker's port.
    Port(Port),
    /// A seat of the single port, named after its thread.
    Seat(SeatNumber),
}

impl IntoField for Place {
    fn into_field(self) -> Option<FieldValue> {
        match self {
            Place::Port(port) => port.into_field(),
            Place::Seat(number) => format!("seat-{number}").into_field(),
        }
    }
}

crate::event_kinds! {
    /// An event in the core.
    ///
    /// `port` is a worker's or a room's; `asker` and `peer` are the client's addresses at the
    /// portal and at its worker. `passcode` is left out unless passcodes may be shown. `via` is the
    /// entrance, if it is not the portal.
    pub enum CoreEvent {
        /// The server has started. `period` is the length of a tick in seconds; the others are
        /// timeouts in ticks, 0 if there is none.
        Started = "started" {
            ports: Vec<Port>, period: u64, reserve: Ticks, handshake: Ticks, idle: u64, total: u64
        },
        /// A listener is bound. For the workers, `address` is that of the first one.
        Listening = "listening" { role: &'static str, address: SocketAddr },
        /// Workers' ports can't be bound yet; the server serves without their seats.
        PortsBusy = "ports-busy" { ports: Vec<Port>, reason: &'static str },
        /// A port that was busy is bound now, and on the workload stack.
        PortReady = "port-ready" { port: Port },
        /// A seat is reserved, and the client has its port and passcode.
        Ticket = "ticket" {
            port: Port, asker: SocketAddr, passcode: Option<String>, via: Option<&'static str>
        },
        /// A UDP client repeated its request while its reservation was valid.
        TicketResent = "ticket-resent" { port: Port, asker: SocketAddr },
        /// All seats are taken.
        Full = "full" { asker: SocketAddr },
        /// The client with the reservation did not connect in time.
        NoShow = "no-show" { port: Port },
        /// The client with the reservation has connected.
        Arrived = "arrived" { port: Port, peer: SocketAddr },
        /// An unexpected connection was rejected.
        UnexpectedConnection = "unexpected-connection" { port: Port, peer: SocketAddr },
        /// The first frame was not the passcode.
        WrongPasscode = "wrong-passcode" { port: Port, peer: SocketAddr },
        /// The first frame was the passcode, or none is needed. `seat` is the seat's number if all
        /// clients share a single port. The client's session runs on this event's thread.
        Seated = "seated" {
            port: Port, peer: SocketAddr, via: Option<&'static str>, seat: Option<u64>
        },
        /// A client was rejected because of a ban, or because it was removed a moment ago.
        Rejected = "rejected" { peer: SocketAddr, name: Option<String>, reason: String },
        /// A client's document was answered with an error.
        Refused = "refused" { port: Port, code: ErrorCode },
        /// A session has ended.
        Closed = "closed" { port: Port, peer: SocketAddr, end: CloseReason },
        /// The seat's passcode has changed, and its port is on the workload stack.
        SeatFree = "seat-free" { port: Port, passcode: Option<String> },
        /// A thread panicked while serving a client, and continues with the next one.
        Panicked = "panicked" { message: String, place: String },
        /// A system call failed; `times` counts repetitions since the last such event.
        Error = "error" { doing: &'static str, error: String, times: Option<u64> },
        /// Events before this one are missing from this reader's stream.
        LinesMissing = "lines-missing" { count: u64, reason: String },
        /// The clock has advanced, and the tick was sent to `told` threads.
        Ticked = "tick" { told: usize },
        /// The server is shutting down, because of a signal or the operator.
        ShuttingDown = "shutting-down" { why: Option<String> },
    }
}

/// A socket call that has returned. The event's kind is the call's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketCall {
    /// The name of the call, such as `read`.
    pub call: &'static str,
    /// The peer; for a listener, its own address.
    pub address: Option<SocketAddr>,
    /// Number of bytes that the caller asked for or offered.
    pub wanted: Option<usize>,
    /// Number of bytes transferred.
    pub got: Option<usize>,
    /// The error message, if the call failed.
    pub failed: Option<String>,
    /// The transferred bytes, escaped.
    pub bytes: Option<String>,
}

impl EventKind for SocketCall {
    fn into_parts(self) -> (&'static str, Vec<Field>) {
        let mut fields = Vec::new();
        add_field(&mut fields, "address", self.address);
        add_field(&mut fields, "wanted", self.wanted);
        add_field(&mut fields, "got", self.got);
        add_field(&mut fields, "failed", self.failed);
        add_field(&mut fields, "bytes", self.bytes);
        (self.call, fields)
    }
}
