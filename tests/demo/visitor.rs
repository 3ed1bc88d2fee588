//! A scripted client for the demonstrations.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A worker's address and its passcode.
pub type Ticket = (SocketAddr, String);

/// Requests a port from the portal. Returns `None` if the portal is full.
pub fn request_port(portal: SocketAddr) -> Option<Ticket> {
    let reply = Visitor::at(portal).receive("<");
    let part = |element: &str| {
        let rest = reply.split_once(&format!("<{element}>"))?.1;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let port = part("Port")?.parse().ok()?;
    let worker = SocketAddr::new(portal.ip(), port);
    Some((worker, part("HandshakePasscode")?))
}

/// A client that is acted out, over a real connection.
pub struct Visitor(BufReader<TcpStream>);

impl Visitor {
    pub fn at(address: SocketAddr) -> Visitor {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Visitor(BufReader::new(stream))
    }

    pub fn send_line(&mut self, line: &str) {
        // The next reply shows whether it has arrived.
        let _ = writeln!(self.0.get_mut(), "{line}");
    }

    pub fn message(&mut self, text: &str) {
        self.send_line(&format!("<CLIENT><message>{text}</message></CLIENT>"));
    }

    /// Closes the connection, as a client that has read everything does.
    pub fn leave(mut self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Write);
        let _ = self.0.read_to_end(&mut Vec::new());
    }

    /// Returns the connection, without a timeout and without what was read ahead.
    pub fn into_stream(self) -> TcpStream {
        let stream = self.0.into_inner();
        stream.set_read_timeout(None).unwrap();
        stream
    }

    /// Sends a passcode.
    pub fn passcode(&mut self, passcode: &str) {
        self.send_line(&format!(
            "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"
        ));
    }

    /// Sends a command with its elements.
    pub fn command(&mut self, command: &str, elements: &str) {
        self.send_line(&format!(
            "<CLIENT><command>{command}</command>{elements}</CLIENT>"
        ));
    }

    pub fn log_in(&mut self, name: &str) {
        self.command("LOGIN", &format!("<username>{name}</username>"));
        self.receive("WELCOME");
    }

    /// Returns the next line that contains `part`.
    pub fn receive(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.0.read_line(&mut line).expect(part) > 0 {
            if line.contains(part) {
                return line;
            }
            line.clear();
        }
        panic!("the connection was closed before {part:?}");
    }

    /// Reads for `patience`, and returns whether a line contained `part`.
    pub fn receives_within(&mut self, part: &str, patience: Duration) -> bool {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
        let mut line = String::new();
        while self.0.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line.contains(part) {
                return true;
            }
            line.clear();
        }
        false
    }
}
