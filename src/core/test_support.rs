//! Connections for tests.
#![allow(clippy::unwrap_used)]

use crate::clock::Tick;
use crate::connection::Connection;
use crate::outbox::Outbox;
use crate::transport::XmlLineEncoder;
use portal_wire::CloseReason;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A connection, and the client's end of it.
pub fn connection(label: &str) -> (Arc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, peer) = listener.accept().unwrap();
    let timer = crate::notify::NotifyReceiver::new().notifier();
    let outbox = Outbox::new(
        stream.into(),
        Box::<XmlLineEncoder>::default(),
        timer,
        std::time::Duration::from_secs(1),
    );
    (
        Arc::new(Connection::new(outbox, peer, label, Tick(0))),
        client,
    )
}

/// A connection from `peer`, with its other end closed.
pub fn guest_from(peer: std::net::SocketAddr) -> Arc<Connection> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let timer = crate::notify::NotifyReceiver::new().notifier();
    let outbox = Outbox::new(
        client.into(),
        Box::<XmlLineEncoder>::default(),
        timer,
        std::time::Duration::from_secs(1),
    );
    Arc::new(Connection::new(outbox, peer, "?", Tick(0)))
}

/// The commands and chat messages that a connection's client has received.
pub fn received((connection, mut client): (Arc<Connection>, TcpStream)) -> Vec<String> {
    connection.outbox.end(CloseReason::Terminate);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    let word = |line: &str| {
        let after = line
            .split("<command>")
            .nth(1)
            .or(line.split("<message>").nth(1));
        after
            .and_then(|rest| rest.split('<').next())
            .unwrap_or(line)
            .to_owned()
    };
    text.lines().map(word).collect()
}
