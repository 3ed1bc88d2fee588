//! The interface to what clients do in their seats.
//!
//! The core brings a client to a seat and later removes the client again. What the client may ask
//! for there, and who receives its messages, is the matter of a [`Service`]: the chat, or an echo
//! in a test.

use std::net::IpAddr;
use std::sync::Arc;

use portal_wire::{CloseReason, Elsewhere, ErrorCode, ServerDoc};

use crate::connection::Connection;
use crate::seat::SeatNumber;
use crate::seats::SharedSeat;
use crate::tick::Tick;
use crate::transport::Decoder;

/// Serves the clients that have a seat. Each method is called on the thread of the client's visit,
/// unless it says otherwise.
pub trait Service: Send + Sync {
    /// Welcomes a client and serves it until its session ends. Returns the reason for the end.
    fn serve(
        &self,
        seat: &SharedSeat,
        connection: &Arc<Connection>,
        welcome: &ServerDoc<'_>,
        decoder: &mut dyn Decoder,
    ) -> CloseReason;

    /// Forgets a client whose connection is about to be closed, so that no other client finds it.
    /// The client may not have been welcomed, and after a panic the call is repeated.
    fn forget(&self, seat: SeatNumber, connection: &Arc<Connection>);

    /// The client in a seat, if it has been welcomed. Called on any thread.
    fn welcomed(&self, seat: SeatNumber) -> Option<Arc<Connection>>;

    /// Returns whether the service itself listens on a port, as a room does. Called on any thread.
    fn listens_at(&self, port: u16) -> bool;

    /// The connections that have no seat of their own, such as those of rooms. Called on any
    /// thread.
    fn connections_without_a_seat(&self) -> Vec<Arc<Connection>>;
}

/// Decides who may have a seat. The default methods admit everybody.
pub trait AdmissionPolicy: Send + Sync {
    /// Returns the reason for rejecting a client at `address`. It is asked before the client gets a
    /// seat, and again before it is welcomed. Never blocks.
    fn refuse_address(&self, address: IpAddr, now: Tick) -> Option<Refusal> {
        let _ = (address, now);
        None
    }

    /// Another server that has a free seat, if one is known. Asked when there is none here. Never
    /// blocks.
    fn full_redirect(&self) -> Option<Elsewhere<'static>> {
        None
    }
}

/// Admits everybody.
pub struct AdmitAll;

impl AdmissionPolicy for AdmitAll {}

/// The error sent to a client whose request is refused. An event contains the details for the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its code.
    pub code: ErrorCode,
    /// The reason and the fix.
    pub sentence: String,
}

impl Refusal {
    /// The document for the client.
    pub fn doc(&self) -> ServerDoc<'_> {
        ServerDoc::Error {
            code: self.code,
            sentence: self.sentence.as_str().into(),
        }
    }
}
