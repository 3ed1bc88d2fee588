//! Why a session is over, and what its client is told last.

use std::io;

use serde::{Serialize, Serializer};

use crate::wire::{CloseCode, FrameError, ServerDoc};

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said `TERMINATE`.
    Terminate,
    /// The client gave up on a silent server.
    ClientIdle,
    /// The client had been connected for as long as it wanted.
    ClientTotal,
    /// The client closed the connection without a word.
    Gone,
    /// The connection broke.
    Broken,
    /// The client's kernel has acknowledged nothing for [`crate::limits::UNACKNOWLEDGED`].
    Vanished,
    /// No passcode within the handshake timeout.
    Silent,
    /// The wrong passcode.
    WrongPasscode,
    /// A callback that nobody may ask for.
    BadCallback,
    /// Nobody answered the worker's call.
    NoAnswer,
    /// Nothing heard within the idle timeout.
    Idle,
    /// Connected for the total timeout.
    Total,
    /// A web page's browser, at a port without a passcode.
    Http,
    /// One side speaks TLS, and the other does not or not so.
    NoTls,
    /// A frame over the limit.
    TooLong,
    /// Frames that break the rules of WebSocket.
    BadFrames,
    /// Binary data on a WebSocket.
    Binary,
    /// A WebSocket's text that is no UTF-8.
    NotUtf8,
    /// A browser that answers no ping: its phone sleeps, or has gone.
    Asleep,
    /// Too many refusals in a row.
    TooManyErrors,
    /// The client did not read what was sent to it.
    TooSlow,
    /// Too many wrong passwords.
    WrongPassword,
    /// The same person logged in elsewhere.
    TakenOver,
    /// The operator removed the client.
    Kicked,
    /// A full single port needed the seat, and the client had no partner and had sent nothing.
    Evicted,
    /// The server is going down.
    Shutdown,
    /// The thread that served the client panicked.
    Panicked,
}

impl End {
    /// The word for it in an event line.
    pub fn word(self) -> &'static str {
        match self {
            End::Terminate => "terminate",
            End::ClientIdle => "client-idle-timeout",
            End::ClientTotal => "client-total-time-timeout",
            End::Gone => "gone",
            End::Broken => "broken",
            End::Vanished => "no-acknowledgement",
            End::Silent => "handshake-timeout",
            End::WrongPasscode => "wrong-passcode",
            End::BadCallback => "bad-callback",
            End::NoAnswer => "no-answer",
            End::Idle => "idle-timeout",
            End::Total => "total-time-timeout",
            End::Http => "http-request",
            End::NoTls => "tls-failed",
            End::TooLong => "too-long",
            End::BadFrames => "bad-frames",
            End::Binary => "binary",
            End::NotUtf8 => "not-utf8",
            End::Asleep => "asleep",
            End::TooManyErrors => "too-many-errors",
            End::TooSlow => "too-slow",
            End::WrongPassword => "wrong-password",
            End::TakenOver => "taken-over",
            End::Kicked => "kicked",
            End::Evicted => "evicted",
            End::Shutdown => "shutdown",
            End::Panicked => "panicked",
        }
    }

    /// What the client is told as the last thing, when it is the server that ends the session
    /// and has not told it already.
    pub fn farewell(self) -> Option<ServerDoc<'static>> {
        match self {
            End::Silent | End::Idle => Some(ServerDoc::IdleTimeout),
            End::Total => Some(ServerDoc::TotalTimeTimeout),
            End::TooSlow => Some(ServerDoc::TooSlow),
            End::TakenOver => Some(ServerDoc::TakenOver),
            End::Shutdown => Some(ServerDoc::Shutdown),
            End::Terminate
            | End::ClientIdle
            | End::ClientTotal
            | End::Gone
            | End::Broken
            | End::Vanished
            | End::WrongPasscode
            | End::BadCallback
            | End::NoAnswer
            | End::Http
            | End::NoTls
            | End::TooLong
            | End::BadFrames
            | End::Binary
            | End::NotUtf8
            | End::Asleep
            | End::TooManyErrors
            | End::WrongPassword
            | End::Kicked
            | End::Evicted
            | End::Panicked => None,
        }
    }
}

impl End {
    /// The code with which a WebSocket is closed for it.
    pub fn close_code(self) -> CloseCode {
        match self {
            End::Terminate
            | End::ClientIdle
            | End::ClientTotal
            | End::Gone
            | End::Broken
            | End::Vanished
            | End::Asleep => CloseCode::Normal,
            End::Shutdown => CloseCode::GoingAway,
            End::BadFrames => CloseCode::ProtocolError,
            End::Binary => CloseCode::Unsupported,
            End::NotUtf8 => CloseCode::NotUtf8,
            End::TooLong => CloseCode::TooLong,
            End::Panicked => CloseCode::Failed,
            End::Silent
            | End::WrongPasscode
            | End::BadCallback
            | End::NoAnswer
            | End::Idle
            | End::Total
            | End::Http
            | End::NoTls
            | End::TooManyErrors
            | End::TooSlow
            | End::WrongPassword
            | End::TakenOver
            | End::Kicked
            | End::Evicted => CloseCode::Refused,
        }
    }
}

impl End {
    /// The end of a connection after an error of a read. If a peer has vanished, the kernel may find
    /// that earlier than the server does.
    pub fn of_read(error: &io::Error) -> End {
        match error.kind() {
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => End::Vanished,
            _ => End::Broken,
        }
    }
}

impl From<&FrameError> for End {
    /// Why a session is over in which that came.
    fn from(error: &FrameError) -> End {
        match error {
            FrameError::TooLong { .. } | FrameError::BadLength => End::TooLong,
            FrameError::NotWebSocket(_) => End::BadFrames,
            FrameError::Binary => End::Binary,
            FrameError::NotUtf8 => End::NotUtf8,
            FrameError::Closed { .. } => End::Gone,
        }
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_the_kernel_gave_up_has_vanished() {
        for (error, end) in [
            (libc::ETIMEDOUT, End::Vanished),
            (libc::EHOSTUNREACH, End::Vanished),
            (libc::ENETUNREACH, End::Vanished),
            (libc::ECONNRESET, End::Broken),
            (libc::EPIPE, End::Broken),
        ] {
            let error = io::Error::from_raw_os_error(error);
            assert_eq!(End::of_read(&error), end, "{error}");
        }
    }
}
