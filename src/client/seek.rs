//! The search for a seat: ask the portal, connect to the worker, send the passcode.

mod callback;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::options::{Options, PortalProtocol};
use portal_cli::invocation::Invocation;
use portal_core::clock::slowed;
use portal_net::limits;
use portal_net::{Connector, Datagrams, Port, Stream, Tap};
use portal_wire::{Codec, DocError, FrameReader, Handshake, Name, ServerDoc, portal_request};

/// Timeout for one address to accept a connection, and for its reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// The shortest and the longest timeout for a reply to a datagram, in milliseconds, and the number
/// of attempts. Each timeout is random, so that clients behind one address that asked at the same
/// time do not also retry at the same time.
const DATAGRAM_PATIENCE: [u64; 2] = [500, 1500];
const DATAGRAM_TRIES: u32 = 6;
/// Maximum number of servers to ask in a row, if each one is full and refers the client to the
/// next.
const MAX_SERVERS: usize = 16;

/// A seat: the connection to the worker, with the welcome already read.
pub(super) struct ClientSeat {
    pub(super) stream: Stream,
    /// The frame reader, which may already hold bytes that followed the welcome.
    pub(super) frames: FrameReader,
    pub(super) codec: Codec,
    /// The seat's location as shown to the user, such as `on port 50001`.
    pub(super) place: String,
    /// The connector for other connections to the same server.
    pub(super) dial: Connector,
}

/// The reason why there is no seat.
#[derive(Debug)]
pub(super) enum SeekError {
    /// Every worker is occupied; retry in 2 s.
    Full,
    /// Like [`SeekError::Full`], but another server in the chat, at this address, has free seats.
    FullHere { from: SocketAddr, there: SocketAddr },
    /// The worker did not accept the passcode: it arrived too late, or another connection had
    /// already used it. The client should ask the portal again.
    TurnedAway,
    /// The portal closed the connection before it answered. It may have more callers than it can
    /// serve, so the client should ask again.
    PortalHungUp {
        address: SocketAddr,
        error: io::Error,
    },
    /// The server's name is unknown.
    UnknownName { server: String, error: io::Error },
    /// None of the server's addresses could be reached. Contains the last one and its error.
    Unreachable {
        address: SocketAddr,
        whom: &'static str,
        error: io::Error,
    },
    /// The client can't listen for the worker's callback.
    CantListen {
        address: SocketAddr,
        error: io::Error,
    },
    /// The worker announced a callback, but did not connect. `strangers` counts other callers.
    NoCall { address: SocketAddr, strangers: u32 },
    /// The server refused the request, for this reason.
    Refused { sentence: String },
    /// The program at this address is not a chat server.
    Strange {
        address: SocketAddr,
        error: DocError,
    },
}

impl fmt::Display for SeekError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeekError::Full => f.write_str("the server is full; try again when a seat is free"),
            SeekError::FullHere { there, .. } => {
                write!(
                    f,
                    "the server is full; {there}, another server of the same chat, has free seats"
                )
            }
            SeekError::TurnedAway => f.write_str(
                "the worker rejected the passcode: either it has changed in the meantime, or the \
                 connections to the portal and to the worker came from different addresses (a \
                 router with several addresses can cause that)",
            ),
            SeekError::PortalHungUp { address, error } => {
                write!(
                    f,
                    "the portal at {address} closed the connection without answering ({error}): \
                     too many clients may be connecting; try again in a minute"
                )
            }
            SeekError::UnknownName { server, error } => {
                write!(
                    f,
                    "can't find a machine named {server} ({error}): check the name, or use its address"
                )?;
                match Name::new(server) {
                    Some(name) if !server.contains('.') => write!(
                        f,
                        "; to log in as {name} on this machine, use `chatclient 127.0.0.1 50000 {name}`"
                    ),
                    _ => Ok(()),
                }
            }
            SeekError::Unreachable {
                address,
                whom: "portal",
                error,
            } if error.kind() == ErrorKind::ConnectionRefused
                && !address.ip().to_canonical().is_loopback() =>
            {
                write!(
                    f,
                    "can't reach the portal at {address} ({error}): if the server is running there, \
                     restart it with --bind 0.0.0.0; by default it accepts only clients on its own machine"
                )
            }
            SeekError::Unreachable {
                address,
                whom: "worker",
                error,
            } => write!(
                f,
                "the portal answered, but the worker at {address} can't be reached ({error}): a \
                 firewall may allow only the portal's port; allow the workers' ports, too, or \
                 start the server with --single-port"
            ),
            SeekError::Unreachable {
                address,
                whom,
                error,
            } => write!(
                f,
                "can't reach the {whom} at {address} ({error}): is the server running there? `{}` \
                 starts a server; `{}` connects to another one",
                Invocation::of_this_process().server(),
                Invocation::of_this_process().client_elsewhere(),
            ),
            SeekError::CantListen { address, error } => write!(
                f,
                "can't listen on {address} for the worker's connection ({error}): choose another \
                 port with --callback PORT, or omit PORT"
            ),
            SeekError::NoCall { address, strangers } => {
                write!(
                    f,
                    "the worker did not connect to this client on {address}: a firewall may be \
                     blocking the connection; without --callback, the client connects to the \
                     worker instead"
                )?;
                match strangers {
                    0 => Ok(()),
                    count => write!(f, " ({count} callers without the passcode were rejected)"),
                }
            }
            SeekError::Refused { sentence } => {
                write!(f, "the server refused the request: {sentence}")
            }
            SeekError::Strange { address, error } => write!(
                f,
                "the program at {address} is not a chat server ({error}): check SERVER and PORT; --compat \
                 must be given to both sides or to neither"
            ),
        }
    }
}

/// Asks the portal once and takes the assigned seat. Tries every address of the server. A server
/// with one port has no portal: its first document is the welcome.
///
/// # Errors
///
/// [`SeekError`]; after `Full`, `TurnedAway` and `PortalHungUp`, the caller should retry.
pub(super) fn find_seat(options: &Options) -> Result<ClientSeat, SeekError> {
    let mut asked = Vec::new();
    let mut found = ask(options);
    // A full server may refer the client to another server in the same chat that has free seats.
    // Ask each of them once.
    while let Err(SeekError::FullHere { from, there }) = found {
        if !may_follow(from, there) || asked.contains(&there) || asked.len() + 1 == MAX_SERVERS {
            return Err(SeekError::Full);
        }
        asked.push(there);
        let answer = ask_by_tcp(there, options.codec(), &options.dial);
        found = answer
            .map_err(|_| SeekError::Full)
            .and_then(|answer| follow(there, answer, options));
    }
    found
}

/// Returns whether a client may connect to `there` when the server at `from` directs it there. A
/// server on another machine must not make this one connect to itself, and no server may make it
/// connect to a system service.
fn may_follow(from: SocketAddr, there: SocketAddr) -> bool {
    let is_this_machine = |address: SocketAddr| {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || ip.is_unspecified()
    };
    there.port() >= limits::FIRST_ORDINARY_PORT
        && (is_this_machine(from) || !is_this_machine(there))
}

/// Asks the server that the options specify.
fn ask(options: &Options) -> Result<ClientSeat, SeekError> {
    let unknown = |error| SeekError::UnknownName {
        server: options.server.clone(),
        error,
    };
    let addresses = (options.server.as_str(), options.port)
        .to_socket_addrs()
        .map_err(unknown)?;
    let codec = options.codec();
    let mut failed = unknown(ErrorKind::NotFound.into());
    for address in addresses {
        let answer = match options.portal {
            PortalProtocol::Tcp => ask_by_tcp(address, codec, &options.dial),
            PortalProtocol::Udp => ask_by_udp(address, &options.dial.tap),
        };
        match answer {
            Ok(answer) => return follow(address, answer, options),
            Err(error) if is_hang_up(&error) => failed = SeekError::PortalHungUp { address, error },
            Err(error) => {
                failed = SeekError::Unreachable {
                    address,
                    whom: "portal",
                    error,
                };
            }
        }
    }
    Err(failed)
}

/// The first frame from a server, and its connection, if there is one.
struct FirstFrame {
    frame: Vec<u8>,
    connection: Option<(Stream, FrameReader)>,
}

/// Acts on the first reply.
fn follow(
    address: SocketAddr,
    answer: FirstFrame,
    options: &Options,
) -> Result<ClientSeat, SeekError> {
    let (codec, dial) = (options.codec(), &options.dial);
    let strange = |error| SeekError::Strange { address, error };
    let doc = codec.read_server(&answer.frame).map_err(strange)?;
    match (doc, answer.connection) {
        (ServerDoc::Ticket { port, passcode }, _) => {
            let mut worker = address;
            worker.set_port(port.get());
            match options.callback {
                None => take_seat(worker, &passcode, codec, dial),
                Some(port) => callback::take_seat(worker, &passcode, port, codec, dial),
            }
        }
        (ServerDoc::Full, _) => Err(SeekError::Full),
        (ServerDoc::Error { sentence, .. }, _) => Err(SeekError::Refused {
            sentence: sentence.into_owned(),
        }),
        (ServerDoc::FullHere { there }, _) => Err(SeekError::FullHere {
            from: address,
            there: SocketAddr::new(there.address, there.port.get()),
        }),
        (ServerDoc::WelcomeSingle { seat, max }, Some((stream, frames))) => {
            let unreachable = |error| SeekError::Unreachable {
                address,
                whom: "server",
                error,
            };
            stream.set_read_timeout(None).map_err(unreachable)?;
            Ok(ClientSeat {
                stream,
                frames,
                codec: codec.taking(max),
                dial: dial.clone(),
                place: match options.callback {
                    None => format!("in seat {seat}"),
                    Some(_) => format!(
                        "in seat {seat} (a server with a single port does not support callbacks)"
                    ),
                },
            })
        }
        _ => Err(strange(DocError::Missing("Port"))),
    }
}

fn ask_by_tcp(address: SocketAddr, codec: Codec, dial: &Connector) -> io::Result<FirstFrame> {
    let stream = connect(address, dial)?;
    let mut frames = codec.reader_of_server();
    let frame = first_frame(&stream, &mut frames, slowed(PATIENCE))?;
    Ok(FirstFrame {
        frame,
        connection: Some((stream, frames)),
    })
}

/// Asks over UDP. If no reply arrives, asks again from the same socket, so that the portal sends
/// the same ticket again.
fn ask_by_udp(address: SocketAddr, tap: &Tap) -> io::Result<FirstFrame> {
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = Datagrams::bind(any, tap)?;
    // Only a connected socket gets an error if no program listens there.
    socket.connect(address)?;
    let mut answer = [0; 2048];
    for _ in 0..DATAGRAM_TRIES {
        socket.set_read_timeout(Some(datagram_patience()))?;
        socket.send_to(&portal_request(), address)?;
        match socket.recv_from(&mut answer) {
            Ok((count, _)) => {
                return Ok(FirstFrame {
                    frame: answer[..count].to_vec(),
                    connection: None,
                });
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        "no answer to six datagrams; a firewall may be blocking UDP: try --portal tcp",
    ))
}

fn datagram_patience() -> Duration {
    let [least, most] = DATAGRAM_PATIENCE;
    let mut dice = [0; 8];
    // Without random numbers, all timeouts are equal, which is no worse than a fixed timeout.
    let _ = getrandom::fill(&mut dice);
    slowed(Duration::from_millis(
        least + u64::from_le_bytes(dice) % (most - least),
    ))
}

/// Connects to a worker's or a room's port and sends the passcode.
///
/// # Errors
///
/// [`SeekError`]; after `TurnedAway`, the caller should ask for another passcode.
pub(super) fn take_seat(
    worker: SocketAddr,
    passcode: &str,
    codec: Codec,
    dial: &Connector,
) -> Result<ClientSeat, SeekError> {
    let unreachable = |error| SeekError::Unreachable {
        address: worker,
        whom: "worker",
        error,
    };
    let stream = connect(worker, dial).map_err(unreachable)?;
    let handshake = Handshake {
        passcode: passcode.to_owned(),
        callback: None,
    };
    let (answer, frames) = shake_hands(&stream, worker, &handshake, codec)?;
    match codec.read_server(&answer) {
        Ok(ServerDoc::Welcome { port, max, .. }) => {
            stream.set_read_timeout(None).map_err(unreachable)?;
            Ok(ClientSeat {
                stream,
                frames,
                codec: codec.taking(max),
                dial: dial.clone(),
                place: format!("on port {port}"),
            })
        }
        // The server has no free descriptor for this client.
        Ok(ServerDoc::Full) => Err(SeekError::Full),
        Ok(_) => Err(SeekError::TurnedAway),
        Err(error) => Err(SeekError::Strange {
            address: worker,
            error,
        }),
    }
}

/// Sends the first frame to a worker or a room, and returns the reply.
fn shake_hands(
    stream: &Stream,
    worker: SocketAddr,
    handshake: &Handshake,
    codec: Codec,
) -> Result<(Vec<u8>, FrameReader), SeekError> {
    let mut frames = codec.reader_of_server();
    let mut handshake_bytes = Vec::new();
    let port = Port::new(worker.port()).ok_or(SeekError::TurnedAway)?;
    codec.write_handshake(port, handshake, &mut handshake_bytes);
    let answer = io::Write::write_all(&mut &*stream, &handshake_bytes)
        .and_then(|()| first_frame(stream, &mut frames, slowed(PATIENCE)));
    // Closing the connection without a reply is also a rejection.
    answer
        .map(|answer| (answer, frames))
        .map_err(|_| SeekError::TurnedAway)
}

fn connect(address: SocketAddr, dial: &Connector) -> io::Result<Stream> {
    let stream = dial.connect(address, slowed(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(slowed(PATIENCE)))?;
    stream.set_write_timeout(Some(slowed(PATIENCE)))?;
    Ok(stream)
}

fn first_frame(
    stream: &Stream,
    frames: &mut FrameReader,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    // Use one deadline for the whole frame: a server that trickles bytes must not delay the user.
    let deadline = Instant::now() + patience;
    let silent = || {
        io::Error::new(
            ErrorKind::TimedOut,
            "the connection was accepted, but nothing arrived; --tls and --compat must be given to \
             both sides or to neither",
        )
    };
    loop {
        let invalid = |error| io::Error::new(ErrorKind::InvalidData, error);
        if let Some(frame) = frames.next_frame().map_err(invalid)? {
            return Ok(frame.to_vec());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent());
        }
        stream.set_read_timeout(Some(left))?;
        match frames.read_from(&mut &*stream) {
            Ok(0) => {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "end of stream"));
            }
            Ok(_) => {}
            Err(error) if is_timeout(&error) => return Err(silent()),
            Err(error) => return Err(error),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn options(port: u16, portal: PortalProtocol) -> Options {
        Options {
            server: "127.0.0.1".to_owned(),
            port,
            username: None,
            compat: None,
            callback: None,
            portal,
            retry: Some(0),
            password: None,
            commands: false,
            history: None,
            reconnect: false,
            server_timeout: None,
            color: false,
            dial: Connector::default(),
            tls: None,
            trace: crate::trace::TraceOut::default(),
        }
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_cure() {
        // The socket is bound but not listening, so no other process can take the port, and no
        // connection succeeds.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let Err(error) = find_seat(&options(port, PortalProtocol::Tcp)) else {
            panic!("a program answered")
        };
        // `make run-server` under cargo; the program's own name if the test runs on its own.
        let cure = Invocation::of_this_process().server();
        assert!(error.to_string().contains(&cure), "{error}");
    }

    #[test]
    fn a_portal_that_hangs_up_is_told_from_one_that_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let busy = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let answer = find_seat(&options(port, PortalProtocol::Tcp));
        busy.join().unwrap();
        assert!(matches!(answer, Err(SeekError::PortalHungUp { .. })));
    }

    fn full_here(there: SocketAddr) -> Vec<u8> {
        let (ip, port) = (there.ip(), there.port());
        format!(
            "<SERVER><command>FULL</command><elsewhere><address>{ip}</address><Port>{port}</Port>\
             </elsewhere></SERVER>\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_server_does_not_lead_to_this_machine_nor_to_a_system_service() {
        let [here, other, third]: [SocketAddr; 3] =
            ["127.0.0.1:50000", "192.0.2.7:50000", "[2001:db8::1]:50010"]
                .map(|it| it.parse().unwrap());
        assert!(may_follow(here, here) && may_follow(here, other) && may_follow(other, third));
        for there in [
            "127.0.0.1:50000",
            "127.9.9.9:50000",
            "[::1]:50000",
            "0.0.0.0:50000",
            "[::]:50000",
            "[::ffff:127.0.0.1]:50000",
        ] {
            assert!(!may_follow(other, there.parse().unwrap()), "{there}");
        }
        assert!(!may_follow(here, "127.0.0.1:22".parse().unwrap()));
        assert!(!may_follow(other, "192.0.2.7:1023".parse().unwrap()));
    }

    #[test]
    fn sixteen_full_servers_are_enough() {
        // Each connection is referred to another address of the same listener.
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            for asked in 1.. {
                let (stream, _) = listener.accept().unwrap();
                if stream.peer_addr().unwrap().ip() == Ipv4Addr::new(127, 0, 0, 9) {
                    return asked - 1;
                }
                let next = SocketAddr::from((Ipv4Addr::new(127, 0, 1, asked), port));
                Stream::from(stream).send_and_close(&full_here(next));
            }
            0
        });
        let answer = find_seat(&options(port, PortalProtocol::Tcp));
        assert!(matches!(answer, Err(SeekError::Full)));
        // A connection from another address stops the thread.
        let end = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        end.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), 0)).into())
            .unwrap();
        end.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
            .unwrap();
        assert_eq!(usize::from(answering.join().unwrap()), MAX_SERVERS);
    }

    #[test]
    fn a_stranger_is_told_from_a_chat_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stranger = std::thread::spawn(move || {
            Stream::from(listener.accept().unwrap().0).send_and_close(b"220 smtp ready\r\n");
        });
        let answer = find_seat(&options(port, PortalProtocol::Tcp));
        stranger.join().unwrap();
        assert!(matches!(answer, Err(SeekError::Strange { .. })));
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_from_the_same_socket() {
        let portal = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = portal.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            let mut request = [0; 2048];
            let (first_length, first) = portal.recv_from(&mut request).unwrap();
            let (_, second) = portal.recv_from(&mut request).unwrap();
            portal
                .send_to(b"<SERVER><command>FULL</command></SERVER>", second)
                .unwrap();
            (first == second, first_length)
        });
        assert!(matches!(
            find_seat(&options(port, PortalProtocol::Udp)),
            Err(SeekError::Full)
        ));
        let (same_socket, length) = answering.join().unwrap();
        assert!(same_socket);
        let longest = ServerDoc::Ticket {
            port: Port::new(65535).unwrap(),
            passcode: "f".repeat(32).into(),
        };
        assert!(
            length >= portal_wire::server_datagram(&longest).len(),
            "never shorter than an answer"
        );
    }
}
