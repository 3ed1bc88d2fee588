//! Why an echo program ends before its time: the slides' three kinds of errors (seed 001), each
//! with its own words.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use portal_net::Stream;

/// What ended an echo program. What is no address (the slides' `FormatException`) is not here: the
/// program says so and goes on with 127.0.0.1, as the slides' second client does.
#[derive(Debug)]
pub enum EchoError {
    /// There is no listening there (the server's `SocketException`).
    Listen(SocketAddr, io::Error),
    /// Nobody accepts there (the client's `SocketException`).
    Connect(SocketAddr, io::Error),
    /// There is no accepting any more, or no thread for a client.
    Serve(io::Error),
    /// The connection has broken off in the middle (the slides' `IOException`), or the server has
    /// hung up: then there is no error of the system's.
    Interrupted(SocketAddr, Option<io::Error>),
    /// The keyboard, or the file that stands for it, can't be read.
    Keyboard(io::Error),
}

impl EchoError {
    /// The exit code, as the README has it: 2 for a server that can't start, 1 for a client without
    /// a server.
    pub fn code(&self) -> u8 {
        match self {
            EchoError::Listen(..) | EchoError::Serve(_) => 2,
            EchoError::Connect(..) | EchoError::Interrupted(..) | EchoError::Keyboard(_) => 1,
        }
    }

    /// The connection over `stream` has ended with `error`.
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
                        "stop the program that has the port (`ss -tlnp` names it), or choose another PORT"
                    }
                    ErrorKind::AddrNotAvailable => {
                        "that is not an address of this machine; `ip address` lists them, and 127.0.0.1 always is one"
                    }
                    ErrorKind::PermissionDenied => "choose a PORT from 1024 on",
                    _ => "choose another address or PORT",
                })
            }
            EchoError::Connect(address, error) => {
                write!(f, "can't connect to {address} ({error}): ")?;
                match error.kind() {
                    ErrorKind::ConnectionRefused => write!(
                        f,
                        "that machine answers, but nobody listens there; `chatserver echo {}` starts a server",
                        address.port()
                    ),
                    ErrorKind::TimedOut => f.write_str(
                        "nobody answers; is the machine on, and is a firewall in between?",
                    ),
                    _ => f.write_str("check the address"),
                }
            }
            EchoError::Serve(error) => write!(f, "can't serve any more ({error})"),
            EchoError::Interrupted(peer, Some(error)) => {
                write!(
                    f,
                    "the connection with {peer} has been interrupted ({error})"
                )
            }
            EchoError::Interrupted(peer, None) => write!(f, "the server at {peer} has hung up"),
            EchoError::Keyboard(error) => write!(f, "can't read what you type ({error})"),
        }
    }
}

impl std::error::Error for EchoError {}
