//! The original programs from seed 000 with our server, and our client with an original server, for
//! each of the three revisions: the wire format is that of .NET's `BinaryWriter` and
//! `BinaryReader`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use portal_chat::net::Port;
use portal_chat::server::{Portals, Settings};
use portal_chat::wire::{CloseReason, Revision};
use support::running::program;
use support::{PATIENCE, TestServer, UdpClient, ticket};

const REVISIONS: [Revision; 3] = [Revision::V0, Revision::V1, Revision::V2];

fn server(revision: Revision) -> TestServer {
    let portals = if revision.asks_by_udp() {
        Portals::Udp
    } else {
        Portals::Tcp
    };
    TestServer::start(&Settings {
        workers: 2,
        compat: Some(revision),
        portals,
        idle_timeout: Some(Duration::from_secs(5)),
        ..Settings::default()
    })
}

/// Writes a string as `BinaryWriter.Write(string)` does: the length one byte at a time, and then
/// the text.
fn write_string(stream: &mut TcpStream, text: &[u8]) {
    let mut length = text.len();
    loop {
        let more = if length >= 0x80 { 0x80 } else { 0 };
        stream.write_all(&[(length & 0x7f) as u8 | more]).unwrap();
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    stream.write_all(text).unwrap();
}

/// Reads a string as `BinaryReader.ReadString()` does. Returns `None` at the end of the stream.
fn read_string(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).unwrap();
    Some(text)
}

/// A client program like the seed's.
struct Original {
    stream: TcpStream,
    port: Port,
    revision: Revision,
}

impl Original {
    fn visit(server: &TestServer, revision: Revision) -> Original {
        let portal = server.server.portal();
        let reply = if revision.asks_by_udp() {
            UdpClient::new(portal).request_port()
        } else {
            let mut stream = connect(portal);
            let reply = read_string(&mut stream).unwrap();
            assert_eq!(
                read_string(&mut stream),
                None,
                "the portal closes the connection"
            );
            String::from_utf8(reply).unwrap()
        };
        let (port, passcode) = if revision == Revision::V0 {
            let rest = reply
                .strip_prefix("SERVER>>>Port=>")
                .unwrap_or_else(|| panic!("{reply}"));
            let (port, passcode) = rest.split_once(",HandshakeCode=").unwrap();
            (
                Port::new(port.parse().unwrap()).unwrap(),
                passcode.to_owned(),
            )
        } else {
            ticket(&reply)
        };
        let digits: u64 = passcode.parse().unwrap();
        assert!((100_000_000..=999_999_999).contains(&digits), "{passcode}");
        let mut original = Original {
            stream: connect(SocketAddr::new(portal.ip(), port.get())),
            port,
            revision,
        };
        let handshake = match revision {
            Revision::V0 => format!("CLIENT{port}>>>HandshakeCode={passcode}"),
            _ => format!("<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode></CLIENT>"),
        };
        original.send(&handshake);
        original.expect(&match revision {
            Revision::V0 => format!("SERVER{port}>>> Connection successful"),
            _ => format!("<SERVER type='worker' port='{port}'><message>Connection successful</message></SERVER>"),
        });
        original
    }

    fn send(&mut self, text: &str) {
        write_string(&mut self.stream, text.as_bytes());
    }

    fn expect(&mut self, text: &str) {
        let received = read_string(&mut self.stream).expect("a string");
        assert_eq!(
            String::from_utf8_lossy(&received),
            text,
            "{:?}",
            self.revision
        );
    }

    fn terminate(&mut self) {
        self.send(match self.revision {
            Revision::V0 => "CLIENT>>> TERMINATE",
            _ => "<CLIENT><command>TERMINATE</command></CLIENT>",
        });
        assert_eq!(read_string(&mut self.stream), None);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn original_clients_chat_through_our_server() {
    for revision in REVISIONS {
        let server = server(revision);
        let mut one = Original::visit(&server, revision);
        let mut other = Original::visit(&server, revision);
        assert_ne!(one.port, other.port);
        let long = "x".repeat(300);
        for text in [
            "hello",
            "",
            "no <XML> & not meant to be",
            "SERVER>>> FULL",
            "<CLIENT><message>in a document</message></CLIENT>",
            "<CLIENT><command>FULL</command></CLIENT>",
            &long,
        ] {
            one.send(text);
            other.expect(text);
            other.send(text);
            one.expect(text);
        }
        write_string(&mut one.stream, b"not \xff UTF-8");
        other.expect("not \u{fffd} UTF-8");
        one.terminate();
        server.wait_for_close(CloseReason::Terminate, None);
        // The other client receives nothing, because the original protocol has no such message; it
        // times out.
        other.send("anybody?");
        server.wait_for_event("no-partner", None);
        server.tick(6);
        other.expect(match revision {
            Revision::V0 => "SERVER>>> IDLE TIMEOUT",
            _ => "<SERVER><command>IDLE TIMEOUT</command></SERVER>",
        });
        assert_eq!(read_string(&mut other.stream), None);
        server.assert_all_ports_freed();
    }
}

#[test]
fn original_client_receives_full_and_rejection() {
    for revision in REVISIONS {
        let server = server(revision);
        let guests = [
            Original::visit(&server, revision),
            Original::visit(&server, revision),
        ];
        let full = match revision {
            Revision::V0 => "SERVER>>> FULL",
            _ => "<SERVER><command>FULL</command></SERVER>",
        };
        if revision.asks_by_udp() {
            assert_eq!(UdpClient::new(server.server.portal()).request_port(), full);
        } else {
            let mut stream = connect(server.server.portal());
            assert_eq!(read_string(&mut stream).unwrap(), full.as_bytes());
        }
        let port = guests[0].port;
        let address = SocketAddr::new(server.server.portal().ip(), port.get());
        drop(guests);
        server.wait_for_event("seat-free", Some(port));
        let mut stray = connect(address);
        let refusal = match revision {
            Revision::V0 => format!("SERVER{port}>>> Wrong handshake passcode"),
            _ => format!(
                "<SERVER type='worker' port='{port}'><message>Wrong handshake passcode</message></SERVER>"
            ),
        };
        assert_eq!(read_string(&mut stray).unwrap(), refusal.as_bytes());
    }
}

#[test]
fn invalid_lengths_close_only_their_session() {
    let server = server(Revision::V1);
    let mut partner = Original::visit(&server, Revision::V1);
    for lie in [
        &b"\xff\xff\xff\xff\x0f"[..],
        b"\x80\x80\x80\x80\x14",
        b"\x80\x80\x80\x80\x80\x80",
        b"\xff\xff\x7f",
    ] {
        let mut liar = Original::visit(&server, Revision::V1);
        liar.stream.write_all(lie).unwrap();
        assert_eq!(read_string(&mut liar.stream), None, "without a reply");
        server.wait_for_event("seat-free", Some(liar.port));
    }
    // An incomplete string waits for the rest, until the client leaves.
    let mut short = Original::visit(&server, Revision::V1);
    short.stream.write_all(b"\x05ab").unwrap();
    let port = short.port;
    drop(short);
    server.wait_for_event("seat-free", Some(port));
    let mut honest = Original::visit(&server, Revision::V1);
    honest.send("still here");
    partner.expect("still here");
}

/// A minimal server of this revision: it serves one client, which it greets, echoes once and then
/// times out.
fn legacy_server(revision: Revision) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let worker = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = worker.local_addr().unwrap().port();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let portal = if revision.asks_by_udp() {
        udp.local_addr()
    } else {
        tcp.local_addr()
    };
    let plain = revision == Revision::V0;
    let served = std::thread::spawn(move || {
        let ticket = if plain {
            format!("SERVER>>>Port=>{port},HandshakeCode=123456789")
        } else {
            format!(
                "<SERVER type='worker'><Port>{port}</Port><HandshakePasscode>123456789</HandshakePasscode></SERVER>"
            )
        };
        if revision.asks_by_udp() {
            let (_, peer) = udp.recv_from(&mut [0; 1000]).unwrap();
            udp.send_to(ticket.as_bytes(), peer).unwrap();
        } else {
            write_string(&mut tcp.accept().unwrap().0, ticket.as_bytes());
        }
        let mut stream = worker.accept().unwrap().0;
        let mut received = Vec::new();
        let mut receive = |stream: &mut TcpStream| {
            received.push(String::from_utf8(read_string(stream).unwrap()).unwrap());
        };
        receive(&mut stream);
        let welcome = if plain {
            format!("SERVER{port}>>> Connection successful")
        } else {
            format!(
                "<SERVER type='worker' port='{port}'><message>Connection successful</message></SERVER>"
            )
        };
        write_string(&mut stream, welcome.as_bytes());
        receive(&mut stream);
        let echo = if plain {
            "bare <text>".to_owned()
        } else {
            "<CLIENT><message>bare &lt;text&gt;</message></CLIENT>".to_owned()
        };
        write_string(&mut stream, echo.as_bytes());
        receive(&mut stream);
        assert_eq!(read_string(&mut stream), None);
        received
    });
    (portal.unwrap().port(), served)
}

#[test]
fn our_client_chats_through_an_original_server() {
    for (revision, number) in REVISIONS.into_iter().zip(["0", "1", "2"]) {
        let (portal, served) = legacy_server(revision);
        let mut child = program(env!("CARGO_BIN_EXE_chatclient"))
            .args(["127.0.0.1", &portal.to_string(), "--compat", number])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut keyboard = child.stdin.take().unwrap();
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        keyboard.write_all("it's me\n".as_bytes()).unwrap();
        let mut shown = String::new();
        while !shown.contains("partner: bare <text>\n") {
            assert_ne!(screen.read_line(&mut shown).unwrap(), 0, "{shown}");
        }
        drop(keyboard);
        assert!(child.wait().unwrap().success());
        let received = served.join().unwrap();
        match revision {
            Revision::V0 => {
                assert!(
                    received[0].starts_with("CLIENT")
                        && received[0].ends_with(">>>HandshakeCode=123456789"),
                    "{received:?}"
                );
                assert_eq!(received[1..], ["it's me", "CLIENT>>> TERMINATE"]);
            }
            _ => assert_eq!(
                received,
                [
                    "<CLIENT><HandshakePasscode>123456789</HandshakePasscode></CLIENT>",
                    "<CLIENT><message>it&apos;s me</message></CLIENT>",
                    "<CLIENT><command>TERMINATE</command></CLIENT>",
                ]
            ),
        }
    }
}
