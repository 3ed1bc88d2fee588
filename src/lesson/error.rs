//! The errors of an echo program: the three kinds in the slides (seed 001), each with its own
//! message.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use portal_net::Stream;

/// The error that stopped an echo program. An invalid address (the slides' `FormatException`) is
/// not here: the program reports it and continues with 127.0.0.1, as the slides' second client
/// does.
#[derive(Debug)]
pub enum EchoError {
    /// The server can't listen on the address (the server's `SocketException`).
    Listen(SocketAddr, io::Error),
    /// The client can't connect to the address (the client's `SocketException`).
    Connect(SocketAddr, io::Error),
    /// The server can't accept more connections, or start a thread for a client.
    Serve(io::Error),
    /// The connection was interrupted (the slides' `IOException`), or the server closed it, in
    /// which case there is no system error.
    Interrupted(SocketAddr, Option<io::Error>),
    /// Standard input can't be read.
    Keyboard(io::Error),
}

impl EchoError {
    /// The exit code, as in the README: 2 if a server can't start, 1 if a client has no server.
    pub fn code(&self) -> u8 {
        match self {
            EchoError::Listen(..) | EchoError::Serve(_) => 2,
            EchoError::Connect(..) | EchoError::Interrupted(..) | EchoError::Keyboard(_) => 1,
        }
    }

    /// Returns the error for a connection over `stream` that failed with `error`.
    pub fn interrupted(stream: &Stream, error: io::Error) -> EchoError {
        EchoError::Interrupted(stream.peer(), Some(error))
    }
}

impl fmt::Display for EchoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EchoError::Listen(address, error) => {
                write!(f, "can't listen on {address} ({error}): ")?;
                f.write_str(match error.kind() {
                    ErrorKind::AddrInUse => {
                        "stop the program that is using the port (`ss -tlnp` shows it), or choose another PORT"
                    }
                    ErrorKind::AddrNotAvailable => {
                        "this machine does not have that address; `ip address` lists its \
                         addresses, and 127.0.0.1 is always one of them"
                    }
                    ErrorKind::PermissionDenied => "choose a PORT of 1024 or higher",
                    _ => "choose another address or PORT",
                })
            }
            EchoError::Connect(address, error) => {
                write!(f, "can't connect to {address} ({error}): ")?;
                match error.kind() {
                    ErrorKind::ConnectionRefused => write!(
                        f,
                        "the machine responds, but no program is listening on that port; `chatserver echo {}` starts a server",
                        address.port()
                    ),
                    ErrorKind::TimedOut => f.write_str(
                        "the machine does not respond; is it on, and is a firewall blocking the \
                         connection?",
                    ),
                    _ => f.write_str("check the address"),
                }
            }
            EchoError::Serve(error) => write!(f, "can't accept more clients ({error})"),
            EchoError::Interrupted(peer, Some(error)) => {
                write!(f, "the connection to {peer} was interrupted ({error})")
            }
            EchoError::Interrupted(peer, None) => {
                write!(f, "the server at {peer} closed the connection")
            }
            EchoError::Keyboard(error) => write!(f, "can't read what you type ({error})"),
        }
    }
}

impl std::error::Error for EchoError {}
