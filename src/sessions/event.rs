//! The kinds of events that sessions emit.

use portal_core::event::Place;
use portal_net::Port;
use portal_wire::CloseReason;

portal_core::event_kinds! {
    /// An event in a session.
    ///
    /// `port` is a worker's or a room's. `text` is omitted unless messages may be shown.
    pub enum SessionEvent {
        /// A message was queued for the partner.
        Relayed = "relayed" { from: Place, to: Place, bytes: usize, text: Option<String> },
        /// A message had no recipient, because the partner's seat is empty.
        NoPartner = "no-partner" { from: Place },
        /// An account was registered and written to disk.
        Registered = "registered" { port: Port, name: String },
        /// A client has logged in.
        LoggedIn = "logged-in" { port: Port, name: String },
        /// A password was changed and written to disk.
        PasswordChanged = "password-changed" { port: Port, name: String },
        /// A client tried to log in with a wrong password.
        WrongPassword = "password-wrong" { port: Port, name: String },
        /// A client tried to log in with a session token that is not valid.
        WrongToken = "token-wrong" { port: Port, name: String },
        /// A client has revoked its session token.
        LoggedOut = "logged-out" { port: Port, name: String },
        /// A public message was queued for `count` clients.
        Public = "public" { port: Port, name: String, count: usize, text: Option<String> },
        /// A direct message was queued for its recipient.
        Direct = "direct" { port: Port, name: String, to: String, text: Option<String> },
        /// The recipient of a direct message is not connected.
        NoSuchUser = "no-such-user" { port: Port, name: String, to: String },
        /// A room was created.
        RoomOpened = "room-opened" { port: Port, room: String },
        /// A room was removed, and its port is free.
        RoomEnded = "room-ended" { port: Port, room: String },
        /// A client has joined a room.
        RoomJoined = "room-joined" { port: Port, room: String, name: String },
        /// A client has left a room.
        RoomLeft = "room-left" { room: String, name: String, end: CloseReason },
        /// A message was queued for `count` members of a room.
        RoomSaid = "room-said" {
            port: Port, room: String, name: String, count: usize, text: Option<String>
        },
        /// The operator or the moderator `by` disconnected a client.
        Kicked = "kicked" { name: String, by: String, reason: String },
        /// The operator or a moderator banned a name or a network. Without `seconds`, the ban is
        /// permanent.
        Banned = "banned" { whom: String, by: String, seconds: Option<u64>, reason: String },
        /// A ban was lifted.
        Unbanned = "unbanned" { whom: String, by: String },
        /// The operator or a moderator muted a user. Without `seconds`, the mute is permanent.
        Muted = "muted" { name: String, by: String, seconds: Option<u64> },
        /// A mute was lifted.
        Unmuted = "unmuted" { name: String, by: String },
        /// The operator, a moderator, or a moderator of the room changed one of the room's rules.
        RoomRule = "room-rule" { room: String, by: String, rule: String },
        /// A user has reported another one.
        Reported = "reported" { name: String, by: String, reason: String },
        /// A client's first frame in this tick, which restarts its idle timeout.
        Activity = "activity" { port: Port },
    }
}
