//! Reasons for closing a connection, and the last document that the client receives.

use std::io;

use crate::{FrameError, ServerDoc};

/// The reason for closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent `TERMINATE`.
    Terminate,
    /// The client stopped waiting for a silent server.
    ClientIdleTimeout,
    /// The client had been connected for as long as it wanted.
    ClientTotalTimeout,
    /// The client closed the connection without `TERMINATE`.
    PeerClosed,
    /// A read or write failed.
    ConnectionReset,
    /// The client's kernel has acknowledged nothing for too long.
    Unacknowledged,
    /// The client sent no passcode within the handshake timeout.
    HandshakeTimeout,
    /// The client sent a wrong passcode.
    WrongPasscode,
    /// The client sent nothing within the idle timeout.
    IdleTimeout,
    /// The client was connected for the total timeout.
    TotalTimeout,
    /// The client did not answer a ping: its device is suspended or has vanished.
    PingTimeout,
    /// The client sent a frame over the limit.
    TooLong,
    /// The client sent too many invalid documents in a row.
    TooManyErrors,
    /// The client did not read what was sent to it.
    TooSlow,
    /// The client sent too many wrong passwords.
    WrongPassword,
    /// The same user logged in on another connection.
    TakenOver,
    /// The operator or a moderator removed the client.
    Kicked,
    /// The client's address or name is banned, or was removed less than a minute ago.
    Banned,
    /// The single port was full and needed the seat; the client had no partner and had sent
    /// nothing.
    Evicted,
    /// The server is shutting down.
    Shutdown,
    /// The thread that served the client panicked.
    Panicked,
    /// A reason that only one entrance has, such as a protocol other than the chat's. It contains
    /// the word for event lines.
    Entrance(&'static str),
}

impl CloseReason {
    /// Frames that violate the WebSocket protocol (RFC 6455).
    pub const BAD_FRAMES: CloseReason = CloseReason::Entrance("bad-frames");
    /// Binary data on a WebSocket.
    pub const BINARY: CloseReason = CloseReason::Entrance("binary");
    /// The text of a WebSocket is not UTF-8.
    pub const NOT_UTF8: CloseReason = CloseReason::Entrance("not-utf8");

    /// Returns the reason's word in an event line.
    pub fn word(self) -> &'static str {
        match self {
            CloseReason::Terminate => "terminate",
            CloseReason::ClientIdleTimeout => "client-idle-timeout",
            CloseReason::ClientTotalTimeout => "client-total-time-timeout",
            CloseReason::PeerClosed => "gone",
            CloseReason::ConnectionReset => "broken",
            CloseReason::Unacknowledged => "no-acknowledgement",
            CloseReason::HandshakeTimeout => "handshake-timeout",
            CloseReason::WrongPasscode => "wrong-passcode",
            CloseReason::IdleTimeout => "idle-timeout",
            CloseReason::TotalTimeout => "total-time-timeout",
            CloseReason::PingTimeout => "asleep",
            CloseReason::TooLong => "too-long",
            CloseReason::TooManyErrors => "too-many-errors",
            CloseReason::TooSlow => "too-slow",
            CloseReason::WrongPassword => "wrong-password",
            CloseReason::TakenOver => "taken-over",
            CloseReason::Kicked => "kicked",
            CloseReason::Banned => "banned",
            CloseReason::Evicted => "evicted",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Panicked => "panicked",
            CloseReason::Entrance(word) => word,
        }
    }

    /// Returns the word that the other users receive if the client did not leave of its own accord.
    pub fn word_for_others(self) -> Option<&'static str> {
        let is_announced = matches!(
            self,
            CloseReason::IdleTimeout
                | CloseReason::TotalTimeout
                | CloseReason::TooSlow
                | CloseReason::Kicked
                | CloseReason::Banned
                | CloseReason::PingTimeout
                | CloseReason::Unacknowledged
        );
        is_announced.then(|| self.word())
    }

    /// Returns the last document to send to the client, if the server is closing the connection and
    /// has not yet sent the reason.
    pub fn farewell(self) -> Option<ServerDoc<'static>> {
        match self {
            CloseReason::HandshakeTimeout | CloseReason::IdleTimeout => {
                Some(ServerDoc::IdleTimeout)
            }
            CloseReason::TotalTimeout => Some(ServerDoc::TotalTimeTimeout),
            CloseReason::TooSlow => Some(ServerDoc::TooSlow),
            CloseReason::TakenOver => Some(ServerDoc::TakenOver),
            CloseReason::Shutdown => Some(ServerDoc::Shutdown),
            CloseReason::Terminate
            | CloseReason::ClientIdleTimeout
            | CloseReason::ClientTotalTimeout
            | CloseReason::PeerClosed
            | CloseReason::ConnectionReset
            | CloseReason::Unacknowledged
            | CloseReason::WrongPasscode
            | CloseReason::PingTimeout
            | CloseReason::TooLong
            | CloseReason::TooManyErrors
            | CloseReason::WrongPassword
            | CloseReason::Kicked
            | CloseReason::Banned
            | CloseReason::Evicted
            | CloseReason::Panicked
            | CloseReason::Entrance(_) => None,
        }
    }

    /// Returns the reason for closing a connection after a failed read. The kernel may detect a
    /// vanished peer before the server does.
    pub fn of_read(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => CloseReason::Unacknowledged,
            _ => CloseReason::ConnectionReset,
        }
    }
}

impl From<&FrameError> for CloseReason {
    /// Returns the reason for closing a connection after this error in its stream.
    fn from(error: &FrameError) -> CloseReason {
        match error {
            FrameError::TooLong { .. } | FrameError::BadLength => CloseReason::TooLong,
            FrameError::NotWebSocket(_) => CloseReason::BAD_FRAMES,
            FrameError::Binary => CloseReason::BINARY,
            FrameError::NotUtf8 => CloseReason::NOT_UTF8,
            FrameError::Closed { .. } => CloseReason::PeerClosed,
            FrameError::Rejected { reason, .. } => *reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_announced_to_those_whom_it_concerns() {
        use CloseReason::{Banned, Entrance, HandshakeTimeout, IdleTimeout, Kicked, Terminate};
        let farewell = Some(ServerDoc::IdleTimeout);
        for (reason, word, word_for_others, farewell) in [
            (Terminate, "terminate", None, None),
            (
                HandshakeTimeout,
                "handshake-timeout",
                None,
                farewell.clone(),
            ),
            (IdleTimeout, "idle-timeout", Some("idle-timeout"), farewell),
            (Kicked, "kicked", Some("kicked"), None),
            (Banned, "banned", Some("banned"), None),
            (Entrance("binary"), "binary", None, None),
        ] {
            assert_eq!(reason.word(), word);
            assert_eq!(reason.word_for_others(), word_for_others, "{word}");
            assert_eq!(reason.farewell(), farewell, "{word}");
        }
    }

    #[test]
    fn a_kernel_timeout_is_reported_as_unacknowledged() {
        for (error, reason) in [
            (io::ErrorKind::TimedOut, CloseReason::Unacknowledged),
            (io::ErrorKind::HostUnreachable, CloseReason::Unacknowledged),
            (
                io::ErrorKind::NetworkUnreachable,
                CloseReason::Unacknowledged,
            ),
            (io::ErrorKind::ConnectionReset, CloseReason::ConnectionReset),
            (io::ErrorKind::BrokenPipe, CloseReason::ConnectionReset),
        ] {
            assert_eq!(CloseReason::of_read(&error.into()), reason, "{error}");
        }
    }
}
