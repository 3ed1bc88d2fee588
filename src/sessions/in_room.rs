//! A session on a room connection: every message goes to the room, unless it specifies another
//! recipient (seed 004).

use std::sync::Arc;

use crate::backplane::Recipients;
use crate::chat::Connection;
use crate::outgoing::Destination;
use crate::turn::{Message, Role, Session};
use portal_core::clock::Tick;
use portal_core::seats::SharedSeat;
use portal_net::Port;
use portal_wire::{Addressed, ClientCommand, CloseReason, ErrorCode, Name};

/// A member's connection to a room.
pub(crate) struct InRoom<'s> {
    /// The room's port.
    pub(crate) port: Port,
    pub(crate) name: &'s Name,
    /// The member's main connection, and its seat.
    pub(crate) main: &'s Arc<Connection>,
    pub(crate) seat: Option<&'s SharedSeat>,
}

impl Role for InRoom<'_> {
    fn port(&self) -> Port {
        self.port
    }

    /// Restarts the idle timeout of the main connection, because the client is talking in a room.
    fn touch(&self, _: &Arc<Connection>, now: Tick) -> Option<Port> {
        let seat = self.seat?;
        seat.touch(self.main, now).then_some(seat.port)
    }

    fn message(session: &mut Session<'_, Self>, message: Message<'_>) -> Result<(), CloseReason> {
        let me = message.me;
        match message.addressed() {
            Addressed::Chat(_) if session.is_refused_here() => {}
            Addressed::Chat(text) => {
                let room = Destination::Users(Recipients::Room(session.role.name.clone()));
                session.outgoing.send(room, text, me);
            }
            Addressed::One { name, rest } => session.outgoing.send_direct(name, rest, me),
        }
        Ok(())
    }

    /// Rejects the command. Only commands that mean the same everywhere, such as `TERMINATE`, are
    /// valid on a room connection.
    fn obey(session: &mut Session<'_, Self>, _: ClientCommand<'_>) -> Result<(), CloseReason> {
        let sentence = "this command works only on the main connection, not on a room connection";
        session.refuse_as(ErrorCode::UnknownCommand, sentence)
    }
}
