//! A transport and an entrance in one file, which show that the core depends on neither: documents
//! are JSON lines, a list is sent as one frame per entry, and replies identify their client.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use portal_chat::core::sockets::ConnectionFactory;
use portal_chat::core::transport::{Decoder, Encoder, Encoding, Input, RequestId, Transport};
use portal_chat::core::visit::{Entrance, Visit};
use portal_chat::net::{Listener, Port, Stream, Tap};
use portal_chat::server::{Server, Settings};
use portal_chat::wire::{
    ClientCommand, ClientDoc, CloseReason, DocError, FrameError, FrameReader, Name, Scope,
    ServerDoc,
};
use serde_json::{Value, json};

use support::{Client, PATIENCE, TestServer, command};

struct JsonLines;

impl Transport for JsonLines {
    fn open(&self, _: &Stream, _: Port) -> (Box<dyn Decoder>, Box<dyn Encoder>) {
        let decoder = JsonDecoder(FrameReader::new(8192));
        (Box::new(decoder), Box::new(JsonEncoder { name: None }))
    }

    fn last_word(&self, _: &ServerDoc<'_>) -> Vec<u8> {
        b"{\"full\":true}\n".to_vec()
    }
}

/// The ID of requests whose replies repeat the command.
const WHO: RequestId = RequestId(1);

struct JsonDecoder(FrameReader);

impl Decoder for JsonDecoder {
    fn read_from(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.0.read_from(source)
    }

    fn next_input(&mut self) -> Result<Option<Input<'_>>, FrameError> {
        let Some(frame) = self.0.next_frame()? else {
            return Ok(None);
        };
        let value: Value = serde_json::from_slice(frame).unwrap_or_default();
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let (read, request) = if let Some(name) = text("login") {
            let username = name.into();
            (Ok(ClientCommand::Login { username }), RequestId::default())
        } else if let Some(room) = text("join") {
            let (room, here) = (room.into(), true);
            (
                Ok(ClientCommand::Join {
                    room,
                    here,
                    password: None,
                }),
                RequestId::default(),
            )
        } else if let (Some(room), Some(text_to_send)) = (text("room"), text("say")) {
            let (room, message) = (room.into(), text_to_send.into());
            let say = ClientCommand::Say {
                room,
                message,
                me: false,
            };
            (Ok(say), RequestId::default())
        } else if value["who"] == true {
            (Ok(ClientCommand::Who), WHO)
        } else {
            (Err(DocError::Missing("login")), RequestId::default())
        };
        Ok(Some(Input::Document {
            frame,
            read: read.map(ClientDoc::Command),
            is_verbatim: true,
            request,
        }))
    }
}

struct JsonEncoder {
    /// The client's own name, once it has logged in.
    name: Option<String>,
}

impl Encoder for JsonEncoder {
    /// Broadcasts do not contain the name.
    fn encoding(&self) -> Encoding {
        Encoding::of::<JsonEncoder>(0)
    }

    fn encode(&mut self, doc: &ServerDoc<'_>, request: RequestId, out: &mut Vec<u8>) {
        if let ServerDoc::LoggedIn { username, .. } = doc {
            self.name = Some(username.to_string());
        }
        let to = &self.name;
        let lines = match doc {
            ServerDoc::LoggedIn { .. } => vec![json!({ "to": to, "welcome": true })],
            ServerDoc::JoinedHere { room } => vec![json!({ "to": to, "joined": room })],
            ServerDoc::Sent { count } => vec![json!({ "to": to, "sent": count })],
            ServerDoc::Who { users, .. } => {
                let user = |user| json!({ "to": to, "user": user });
                let end = json!({ "to": to, "end of": if request == WHO { "who" } else { "?" } });
                users.iter().map(user).chain([end]).collect()
            }
            ServerDoc::Error { sentence, .. } => vec![json!({ "to": to, "error": sentence })],
            ServerDoc::Relay(relay) => match &relay.scope {
                Scope::Room(room) => vec![json!({
                    "room": room,
                    "from": relay.from,
                    "text": relay.text,
                })],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        for line in lines {
            out.extend(format!("{line}\n").bytes());
        }
    }
}

/// Admits every client that finds a free seat.
struct ToyEntrance;

impl Entrance for ToyEntrance {
    fn name(&self) -> Option<&'static str> {
        Some("toy")
    }

    fn admit(&self, visit: &mut Visit<'_>) -> Result<ServerDoc<'static>, CloseReason> {
        let seat = visit.seat.number.get();
        Ok(ServerDoc::WelcomeSingle { seat, max: None })
    }
}

/// Accepts clients at its own port, each with a thread, while the server runs.
fn open_entrance(server: &Server, clients: usize) -> (u16, thread::JoinHandle<()>) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &Tap::default()).unwrap();
    let state = Arc::clone(server.state());
    let port = listener.address().port();
    let factory = ConnectionFactory {
        transport: Arc::new(JsonLines),
        tick: std::time::Duration::from_secs(1),
        clock: state.clock.clone(),
    };
    let accepting = thread::spawn(move || {
        thread::scope(|threads| {
            for _ in 0..clients {
                let (stream, peer) = listener.accept().unwrap();
                let (state, factory) = (&state, &factory);
                threads.spawn(move || {
                    let now = state.clock.now();
                    let Ok(held) = state.seats.take(peer.ip()) else {
                        panic!("no free seat");
                    };
                    let taken = held.claim_with(
                        stream,
                        |seat, lease| seat.occupy(lease, now),
                        |seat, occupied, (), stream| {
                            let (label, timer) = (seat.number.to_string(), seat.timer.clone());
                            let opened = factory.connection(stream, seat.port, &label, timer);
                            occupied.connection = Some(Arc::clone(&opened.0));
                            (seat.number, opened)
                        },
                    );
                    let Ok((number, opened)) = taken else {
                        panic!("its own seat is taken");
                    };
                    let seat = state.seats.seat(number).unwrap();
                    Visit::new(state, seat, opened).run(&ToyEntrance);
                });
            }
        });
    });
    (port, accepting)
}

struct Toy(BufReader<TcpStream>);

impl Toy {
    fn connect(port: u16) -> Toy {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Toy(BufReader::new(stream))
    }

    fn send(&mut self, value: &Value) {
        let line = format!("{value}\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn request(&mut self, value: &Value) -> Value {
        self.send(value);
        self.receive()
    }
}

fn join_lobby(client: &mut Client, name: &str) {
    client.send_line(&command("LOGIN", &format!("<username>{name}</username>")));
    client.line_with("WELCOME");
    client.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    client.line_with("JOINED");
}

#[test]
fn toy_and_xml_clients_chat_in_one_room() {
    let server = TestServer::start(&Settings {
        workers: 4,
        ..Settings::default()
    });
    let (port, accepting) = open_entrance(&server.server, 2);
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    join_lobby(&mut alice, "alice");
    join_lobby(&mut bob, "bob");

    let (mut carol, mut dave) = (Toy::connect(port), Toy::connect(port));
    for (toy, name) in [(&mut carol, "carol"), (&mut dave, "dave")] {
        assert!(Name::new(name).is_some());
        let welcome = json!({ "to": name, "welcome": true });
        assert_eq!(toy.request(&json!({ "login": name })), welcome);
        let joined = json!({ "to": name, "joined": "lobby" });
        assert_eq!(toy.request(&json!({ "join": "lobby" })), joined);
    }
    // A list is sent as several frames, the last of which identifies the request.
    carol.send(&json!({ "who": true }));
    for user in ["alice", "bob", "carol", "dave"] {
        assert_eq!(carol.receive(), json!({ "to": "carol", "user": user }));
    }
    assert_eq!(carol.receive(), json!({ "to": "carol", "end of": "who" }));

    let sent = carol.request(&json!({ "room": "lobby", "say": "hello <b>" }));
    assert_eq!(sent, json!({ "to": "carol", "sent": 3 }));
    for client in [&mut alice, &mut bob] {
        let line = client.line_with("from='carol'");
        assert!(line.contains("hello &lt;b&gt;"), "{line}");
    }
    let from = |name: &str, text: &str| json!({ "room": "lobby", "from": name, "text": text });
    assert_eq!(dave.receive(), from("carol", "hello <b>"));
    alice.send_line(&command(
        "SAY",
        "<room>lobby</room><message>welcome</message>",
    ));
    alice.line_with("SENT");
    assert_eq!(carol.receive(), from("alice", "welcome"));
    assert_eq!(dave.receive(), from("alice", "welcome"));

    drop((carol, dave));
    accepting.join().unwrap();
    drop((alice, bob));
    server.assert_all_ports_freed();
}
