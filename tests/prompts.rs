//! A line is sent to the recipient shown in its prompt, or not at all: tests the real client on a
//! real terminal, at every prompt, while its connections are lost in every possible order. A
//! scripted server decides that order and records what it receives.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use support::PATIENCE;
use support::sentences;
use support::terminal::Terminal;

const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");

/// A server with one port for all clients and one port for a room. It sends only what the test
/// determines.
struct ScriptedServer {
    main: TcpListener,
    room: TcpListener,
    /// All documents that clients have sent, on any link, in order.
    received: Receiver<(String, String)>,
    sender: Sender<(String, String)>,
    /// Received documents that no test has expected yet.
    kept: Vec<(String, String)>,
}

/// One connection from the client.
struct Link {
    stream: TcpStream,
    name: String,
}

impl Link {
    fn send_line(&mut self, document: &str) {
        writeln!(self.stream, "{document}").unwrap();
    }

    fn command(&mut self, name: &str, parts: &str) {
        self.send_line(&format!(
            "<SERVER><command>{name}</command>{parts}</SERVER>"
        ));
    }

    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl ScriptedServer {
    fn new() -> ScriptedServer {
        let (sender, received) = channel();
        ScriptedServer {
            main: TcpListener::bind("127.0.0.1:0").unwrap(),
            room: TcpListener::bind("127.0.0.1:0").unwrap(),
            received,
            sender,
            kept: Vec::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.main.local_addr().unwrap()
    }

    fn accept(&self, listener: &TcpListener, name: &str) -> Link {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (reading, sender) = (stream.try_clone().unwrap(), self.sender.clone());
        let named = name.to_owned();
        std::thread::spawn(move || {
            for line in BufReader::new(reading).lines().map_while(Result::ok) {
                let _ = sender.send((named.clone(), line));
            }
        });
        Link {
            stream,
            name: name.to_owned(),
        }
    }

    /// Waits until a document that contains `part` arrives on `link`.
    fn expect(&mut self, link: &str, part: &str) {
        let matches = |(on, line): &(String, String)| on == link && line.contains(part);
        if let Some(index) = self.kept.iter().position(matches) {
            self.kept.remove(index);
            return;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let received = self
                .received
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("{link} received no {part}, but: {:?}", self.kept));
            if matches(&received) {
                return;
            }
            self.kept.push(received);
        }
    }

    /// Returns the documents that contain `part`, each with its link.
    fn received_with(&mut self, part: &str) -> Vec<String> {
        self.kept.extend(self.received.try_iter());
        let with_it = self.kept.iter().filter(|(_, line)| line.contains(part));
        with_it.map(|(on, line)| format!("{on}: {line}")).collect()
    }

    /// Accepts alice on a new main link, with `partner` as her partner.
    fn welcome(&mut self, name: &str, partner: &str) -> Link {
        let mut main = self.accept(&self.main, name);
        main.send_line(
            "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>",
        );
        main.command("PARTNER JOINED", &format!("<partner>{partner}</partner>"));
        self.expect(name, "LOGIN");
        main.command("WELCOME", "<username>alice</username>");
        self.expect(name, "WHO");
        main.command(
            "WHO",
            "<user>alice</user><user>bob</user><user>carol</user>",
        );
        main
    }

    /// Admits her to the room.
    fn welcome_into_room(&mut self, main: &mut Link, name: &str) -> Link {
        self.expect(&main.name, "JOIN");
        self.joined(main, name)
    }

    /// Replies to her JOIN.
    fn joined(&mut self, main: &mut Link, name: &str) -> Link {
        let port = self.room.local_addr().unwrap().port();
        main.command(
            "JOINED",
            &format!(
                "<room>lobby</room><address>127.0.0.1</address><Port>{port}</Port>\
                 <HandshakePasscode>abc</HandshakePasscode>"
            ),
        );
        let mut room = self.accept(&self.room, name);
        self.expect(name, "abc");
        room.send_line(&format!(
            "<SERVER type='room' port='{port}' room='lobby'><message>Connection successful</message></SERVER>"
        ));
        room
    }
}

/// Starts the client of alice, whose partner is bob. Returns the server, her terminal and her main
/// link.
fn alice_with_bob() -> (ScriptedServer, Terminal, Link) {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice"], &[]);
    let main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    (server, alice, main)
}

/// Every kind of prompt, the line that leads to it, and its text.
const PROMPTS: [(&str, &str, &str); 11] = [
    ("partner", "", "alice to bob>"),
    ("room", "/to lobby", "alice in lobby>"),
    ("person", "/to carol", "alice to carol alone>"),
    ("query", "/query dave", "alice to dave alone>"),
    ("everyone", "/to all", "alice to everyone>"),
    ("PM", "PM", "message for everyone>"),
    ("DM", "DM", "recipient>"),
    ("DM to carol", "DM carol", "message for carol>"),
    (
        "confirm",
        "/pm carol hi",
        "send the message to everyone? (yes/no)>",
    ),
    ("passwd", "/passwd", "current password for alice>"),
    ("login", "", "password for alice>"),
];

/// The connection that is lost while a line is being typed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Lost {
    Room,
    Main,
    RoomThenMain,
    MainThenRoom,
    Partner,
}

struct Setup {
    server: ScriptedServer,
    alice: Terminal,
    main: Link,
    room: Option<Link>,
}

fn set_up(prompt: (&str, &str, &str)) -> Setup {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let arguments = ["127.0.0.1", &port, "alice", "--reconnect", "--no-color"];
    let mut alice = Terminal::start(CLIENT, &arguments, &[]);
    let (name, line, text) = prompt;
    if name == "login" {
        let mut main = server.accept(&server.main, "main");
        main.send_line(
            "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>",
        );
        main.command("PARTNER JOINED", "<partner>bob</partner>");
        server.expect("main", "LOGIN");
        main.command("PASSWORD", "<account>existing</account>");
        alice.wait_for_prompt(text);
        return Setup {
            server,
            alice,
            main,
            room: None,
        };
    }
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join -n lobby");
    let room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
    match name {
        "PM" => {
            alice.type_line(line);
            server.expect("main", "<command>PM</command></CLIENT>");
            main.command("PM", "");
        }
        "DM" | "DM to carol" => {
            alice.type_line("DM");
            server.expect("main", "DM");
            main.command("DM", "<user>bob</user><user>carol</user>");
            if name != "DM" {
                alice.wait_for_prompt("recipient>");
                alice.type_line("carol");
            }
        }
        _ if !line.is_empty() => alice.type_line(line),
        _ => {}
    }
    alice.wait_for_prompt(text);
    Setup {
        server,
        alice,
        main,
        room: Some(room),
    }
}

/// Types half a line, loses the connection, types the other half, and checks where the line went.
/// If `waits`, Enter follows after the prompt has been replaced; otherwise it races with that.
fn check_line_goes_where_its_prompt_said(prompt: (&str, &str, &str), lost: Lost, waits: bool) {
    let context = format!("{} while {lost:?} is lost, waits {waits}", prompt.0);
    let Setup {
        mut server,
        mut alice,
        mut main,
        room,
    } = set_up(prompt);
    let is_hidden = prompt.2.contains("password");
    alice.type_text("the sec");
    if !is_hidden {
        alice.wait_for("the half line", |alice| alice.line().ends_with("the sec"));
    }
    let end_room = || {
        if let Some(room) = &room {
            room.close();
        }
    };
    match lost {
        Lost::Room => end_room(),
        Lost::Main => main.close(),
        Lost::RoomThenMain => {
            end_room();
            main.close();
        }
        Lost::MainThenRoom => {
            main.close();
            end_room();
        }
        Lost::Partner => {
            main.command("PARTNER LEFT", "<partner>bob</partner>");
            main.command("PARTNER JOINED", "<partner>mallory</partner>");
        }
    }
    let main_is_lost = !matches!(lost, Lost::Room | Lost::Partner);
    if main_is_lost {
        if waits {
            alice.wait_for_prompt("not connected>");
        }
        // Another server with the same address: alice has a different partner.
        let mut again = server.welcome("main again", "mallory");
        if room.is_some() {
            server.welcome_into_room(&mut again, "room again");
            alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
        }
        main = again;
    }
    if waits {
        alice.wait_for("another prompt, or the same", |alice| {
            let line = alice.line();
            !line.starts_with("not connected>") && !line.starts_with("alice, not with")
        });
    }
    alice.type_text("ret\r");
    let mut destinations = Vec::new();
    alice.wait_for("the line's destination, and the next prompt", |alice| {
        destinations = server.received_with("secret");
        let contents = alice.contents();
        let refused = contents.contains("not sent")
            || contents.contains(sentences::MAY_HAVE_BEEN_LOST)
            || contents.contains(sentences::ANSWER_YES_OR_NO);
        let line = alice.line();
        // The first of two consecutive questions has its answer.
        let is_next_question = line.starts_with(sentences::NEW_PASSWORD_FOR)
            || line.starts_with("message for the secret");
        (!destinations.is_empty() || refused || is_next_question) && line.ends_with('>')
    });
    alice.type_line("/cancel");
    alice.wait_for("a chat prompt", |alice| {
        let line = alice.line();
        line.ends_with('>') && (line.starts_with("alice to") || line.starts_with("alice in"))
    });
    alice.type_line("/names all");
    server.expect(&main.name, "<command>WHO</command>");
    destinations = server.received_with("secret");
    let is_allowed = |line: &String| {
        let (link, document) = line.split_once(": ").unwrap();
        match prompt.0 {
            "partner" => link == "main" && !document.contains("command"),
            "room" => link.starts_with("room"),
            "person" | "DM to carol" => document.contains("<to>carol</to>"),
            "query" => document.contains("<to>dave</to>"),
            "everyone" => document.contains("<command>PM</command>"),
            // The line is the message after PM on this link.
            "PM" => link == "main" && !main_is_lost,
            "passwd" => document.contains("<command>PASSWD</command>"),
            "login" => document.contains("<command>PASSWORD</command>"),
            _ => false,
        }
    };
    for line in &destinations {
        assert!(is_allowed(line), "{context}: {line}");
    }
    assert!(destinations.len() <= 1, "{context}: {destinations:?}");
}

fn check_every_prompt(lost: Lost, waits: bool) {
    // Before the login there is no room, and a lost partner affects only the partner's prompt.
    let prompts = PROMPTS.iter().copied();
    let prompts = prompts.filter(|prompt| prompt.0 != "login" || lost == Lost::Main);
    // The client waits a second before it reconnects, so all of them run in parallel.
    thread::scope(|threads| {
        for prompt in prompts {
            threads.spawn(move || check_line_goes_where_its_prompt_said(prompt, lost, waits));
        }
    });
}

#[test]
fn room_is_lost() {
    check_every_prompt(Lost::Room, true);
    check_every_prompt(Lost::Room, false);
}

#[test]
fn server_is_lost() {
    check_every_prompt(Lost::Main, true);
}

#[test]
fn server_is_lost_before_enter() {
    check_every_prompt(Lost::Main, false);
}

#[test]
fn room_then_server_is_lost() {
    check_every_prompt(Lost::RoomThenMain, true);
}

#[test]
fn server_then_room_is_lost() {
    check_every_prompt(Lost::MainThenRoom, true);
}

#[test]
fn partner_changes() {
    check_every_prompt(Lost::Partner, true);
    check_every_prompt(Lost::Partner, false);
}

#[test]
fn client_waits_for_its_old_name() {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    main.close();
    let mut main = server.accept(&server.main, "main again");
    main.send_line(
        "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>",
    );
    server.expect("main again", "LOGIN");
    main.send_line(
        "<SERVER><error code='name-in-use'>the name alice is already in use</error></SERVER>",
    );
    alice.wait_for_text(sentences::IS_STILL_USING_THE_NAME_ALICE);
    // Meanwhile, the client has a prompt, and may log in as another user.
    alice.wait_for_prompt("you, alone>");
    alice.type_line("/login alicia");
    server.expect("main again", "alicia");
    assert!(!alice.contents().contains("server: somebody here"));
}

#[test]
fn line_typed_while_disconnected_is_not_sent() {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    main.close();
    alice.wait_for_prompt("not connected>");
    alice.type_line("first secret");
    alice.wait_for_text(sentences::NOT_SENT_YOU_ARE_NOT_CONNECTED);
    alice.wait_for_prompt("not connected>");
    alice.type_text("second sec");
    let _main = server.welcome("main again", "mallory");
    alice.wait_for_prompt("alice to mallory>");
    alice.type_text("ret\r");
    alice.wait_for_text("when you typed this line, you had no recipient");
    alice.wait_for_prompt("alice to mallory>");
    // The arrow key recalls it, and then it goes to the recipient in the prompt.
    alice.type_text("\x1b[A");
    alice.wait_for("the line again", |alice| {
        alice.line() == "alice to mallory> second secret"
    });
    alice.type_text("\r");
    server.expect("main again", "<message>second secret</message>");
    assert_eq!(server.received_with("first secret"), Vec::<String>::new());
}

#[test]
fn room_prompt_returns_after_reconnect() {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join -n lobby");
    let _room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
    alice.type_line("/to lobby");
    alice.wait_for_prompt("alice in lobby>");
    main.close();
    alice.wait_for_prompt("not connected>");
    let mut main = server.welcome("main again", "mallory");
    alice.wait_for_prompt("alice, not with lobby yet>");
    alice.type_line("a secret");
    alice.wait_for_text("not sent");
    let _room = server.welcome_into_room(&mut main, "room again");
    alice.wait_for_prompt("alice in lobby>");
    alice.type_line("hello again");
    server.expect("room again", "hello again");
    assert_eq!(server.received_with("a secret"), Vec::<String>::new());
}

#[test]
fn a_rejoined_room_repeats_no_message() {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join -n lobby");
    let mut room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
    let message = |id: u64, old: &str| {
        format!(
            "<CLIENT from='carol' scope='room' room='lobby' id='{id}'{old}>\
             <message>number {id}</message></CLIENT>"
        )
    };
    let old = " old='yes'";
    room.send_line(&message(1, old));
    room.send_line(&message(2, ""));
    alice.wait_for_text("number 2");
    alice.type_line("/send lobby number 0");
    server.expect("room", "number 0");
    room.command("SENT", "<count>1</count>");
    // The confirmation has been read.
    room.send_line("<SERVER><notice>a notice</notice></SERVER>");
    alice.wait_for_text("a notice");
    main.close();
    alice.wait_for_prompt("not connected>");
    let mut main = server.welcome("main again", "bob");
    let mut room = server.welcome_into_room(&mut main, "room again");
    room.send_line(&message(1, old));
    room.send_line(&message(2, old));
    room.send_line(
        "<CLIENT from='alice' scope='room' room='lobby' id='3' old='yes'>\
         <message>number 0</message></CLIENT>",
    );
    room.send_line(&message(4, old).replace("number 4", "number 3"));
    let replay = [1, 2, 3].map(|id| message(id, old)).join("\n");
    alice.wait_for_text("number 3");
    let times = |alice: &mut Terminal| {
        let screen = alice.contents();
        [0, 1, 2, 3].map(|id| screen.matches(&format!("number {id}")).count())
    };
    // Her own message is there as the line that she typed.
    assert_eq!(times(&mut alice), [1, 1, 1, 1]);
    // The reply to `/history` is always shown.
    alice.type_line("/to lobby");
    alice.type_line("/history");
    server.expect("main again", "HISTORY");
    main.command("HISTORY", "<room>lobby</room><count>3</count>");
    main.send_line(&replay);
    alice.wait_for("all three again", |alice| times(alice) == [1, 2, 2, 2]);
}

#[test]
fn a_room_that_refuses_to_be_rejoined_is_left() {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join lobby");
    let _room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_prompt("alice in lobby>");
    main.close();
    alice.wait_for_prompt("not connected>");
    let mut main = server.welcome("main again", "bob");
    server.expect("main again", "JOIN");
    alice.wait_for_prompt("alice, not with lobby yet>");
    main.send_line(
        "<SERVER><error code='invite-only'>only invited users may join</error></SERVER>",
    );
    alice.wait_for_text("you are no longer in lobby");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("hello");
    server.expect("main again", "<message>hello</message>");
}

/// The rest of a paste waits for the reply to JOIN. In the meantime, alice gets another partner.
#[test]
fn rest_of_a_paste_keeps_its_recipient() {
    let (mut server, mut alice, mut main) = alice_with_bob();
    alice.type_text("\x1b[200~/join -n lobby\na secret\x1b[201~\r");
    server.expect("main", "JOIN");
    main.command("PARTNER LEFT", "<partner>bob</partner>");
    main.command("PARTNER JOINED", "<partner>mallory</partner>");
    let _room = server.joined(&mut main, "room");
    alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
    alice.wait_for_prompt("alice to mallory>");
    alice.type_line("hello");
    server.expect("main", "hello");
    assert_eq!(server.received_with("a secret"), Vec::<String>::new());
    assert!(alice.contents().contains(sentences::NOT_SENT));
}

#[test]
fn messages_are_sent_before_leaving() {
    let (mut server, mut alice, mut main) = alice_with_bob();
    alice.type_line("/join -n lobby");
    let mut room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
    alice.type_text("/send lobby one\r/leave lobby\r");
    server.expect("room", "one");
    server.expect("room", "PING");
    assert_eq!(
        server.received_with("LEAVE"),
        Vec::<String>::new(),
        "LEAVE uses another link"
    );
    room.command("PONG", "");
    server.expect("main", "LEAVE");
    main.command("LEFT", "<room>lobby</room>");
    // Close like a server. Otherwise the client would wait for the last reply on this link, too.
    room.close();
    alice.wait_for_text(sentences::YOU_LEFT_LOBBY);
    // The same happens when the client exits.
    alice.type_line("/join -n lobby");
    let mut room = server.welcome_into_room(&mut main, "room again");
    alice.wait_for("the room again", |alice| {
        alice.contents().matches("you joined lobby").count() == 2
    });
    alice.type_text("/send lobby two\r/quit\r");
    server.expect("room again", "two");
    server.expect("room again", "PING");
    assert_eq!(server.received_with("TERMINATE"), Vec::<String>::new());
    room.command("PONG", "");
    server.expect("main", "PING");
    main.command("PONG", "");
    server.expect("main", "TERMINATE");
    main.close();
    assert_eq!(alice.wait_for_exit(), 0);
}

/// The name of a partner, a user or a room comes from the server.
#[test]
fn prompt_of_a_hostile_server_is_filtered() {
    const NAME: &str = "b\u{9b}31m\u{202e}o&#10;12:00 bob: b\u{1f600}";
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice"], &[]);
    let mut main = server.accept(&server.main, "main");
    main.send_line(
        "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>",
    );
    main.command("PARTNER JOINED", &format!("<partner>{NAME}</partner>"));
    server.expect("main", "LOGIN");
    main.command("WELCOME", &format!("<username>al{NAME}</username>"));
    server.expect("main", "WHO");
    main.command("WHO", "<user>alice</user>");
    alice.wait_for("the prompt", |alice| {
        let line = alice.line();
        line.starts_with("alb") && line.ends_with('>')
    });
    main.command("PARTNER LOGGED IN", &format!("<partner>c{NAME}</partner>"));
    alice.wait_for("the partner's new name", |alice| {
        alice.line().contains(" to cb")
    });
    let screen = alice.contents();
    assert!(!screen.contains(['\u{9b}', '\u{202e}']), "{screen}");
    assert!(
        !screen.lines().any(|row| row.starts_with("12:00 bob")),
        "{screen}"
    );
}

/// Both links are closed at the same time, in either order, and the room is the recipient again.
#[test]
fn room_is_the_recipient_again_whichever_link_ends_first() {
    for room_first in [true, false] {
        let mut server = ScriptedServer::new();
        let port = server.address().port().to_string();
        let arguments = ["127.0.0.1", &port, "alice", "--reconnect", "--no-color"];
        let mut alice = Terminal::start(CLIENT, &arguments, &[]);
        let mut main = server.welcome("main", "bob");
        alice.wait_for_prompt("alice to bob>");
        alice.type_line("/join #lobby");
        let room = server.welcome_into_room(&mut main, "room");
        alice.wait_for_prompt("alice in lobby>");
        // The members of the room.
        server.expect("main", "<command>MEMBERS</command><room>lobby</room>");
        main.command(
            "MEMBERS",
            "<room>lobby</room><user>alice</user><user>carol</user>",
        );
        alice.wait_for_text("in lobby (2): alice, carol");
        if room_first {
            room.close();
            alice.wait_for_prompt("alice to bob>");
        }
        main.close();
        room.close();
        alice.wait_for_prompt("not connected>");
        let mut main = server.welcome("main again", "bob");
        let _room = server.welcome_into_room(&mut main, "room again");
        alice.wait_for_prompt("alice in lobby>");
        alice.type_line("hello again");
        server.expect("room again", "hello again");
    }
}

#[test]
fn messages_elsewhere_are_counted_in_the_prompt() {
    let (_server, mut alice, mut main) = alice_with_bob();
    main.send_line("<CLIENT from='carol' scope='direct'><message>psst</message></CLIENT>");
    main.send_line("<CLIENT from='dave' scope='public'><message>one</message></CLIENT>");
    main.send_line("<CLIENT from='dave' scope='public'><message>two</message></CLIENT>");
    alice.wait_for_prompt("alice to bob [all 2, carol 1]>");
    alice.type_line("/to all");
    alice.wait_for_prompt("alice to everyone [carol 1]>");
    alice.type_line("/unread");
    alice.wait_for_text(sentences::UNREAD_MESSAGES_CAROL_1);
    alice.type_line("/query carol");
    alice.wait_for_prompt("alice to carol alone>");
}

#[test]
fn commands_of_seed_004_are_recognised_without_a_slash() {
    let (mut server, mut alice, mut main) = alice_with_bob();
    // It could be meant for bob.
    alice.type_line("join lobby");
    alice.wait_for_prompt("run /join lobby, or send it as text?");
    alice.type_line("send");
    server.expect("main", "<message>join lobby</message>");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("join lobby");
    alice.wait_for_prompt("run /join lobby");
    alice.type_line("run");
    let _room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_prompt("alice in lobby>");
    alice.type_line("disconnect");
    alice.wait_for_prompt("run /disconnect");
    alice.type_line("yes");
    server.expect("room", "PING");
}

#[test]
fn one_departure_is_one_line() {
    let (_server, mut alice, mut main) = alice_with_bob();
    main.command("USER LEFT", "<username>bob</username>");
    main.command("PARTNER LEFT", "<partner>bob</partner>");
    main.command("USER LEFT", "<username>carol</username>");
    alice.wait_for_text("carol left");
    assert_eq!(alice.contents().matches("bob left").count(), 1);
}

#[test]
fn reply_goes_to_the_sender_who_was_on_the_screen() {
    let (mut server, mut alice, mut main) = alice_with_bob();
    main.send_line("<CLIENT from='carol' scope='direct'><message>psst</message></CLIENT>");
    alice.wait_for_prompt("alice to bob [carol 1]>");
    alice.type_text("/reply yes");
    alice.wait_for("the line", |alice| alice.line().ends_with("/reply yes"));
    main.send_line("<CLIENT from='dave' scope='direct'><message>hello</message></CLIENT>");
    alice.wait_for("dave's message", |alice| {
        alice.line().contains("carol 1, dave 1")
    });
    alice.type_text("\r");
    server.expect("main", "<to>carol</to><message>yes</message>");
    alice.wait_for_text("your reply goes to carol");
    alice.type_line("/reply hello, dave");
    server.expect("main", "<to>dave</to><message>hello, dave</message>");
}

#[test]
fn line_without_prompts_does_not_go_to_a_partner_who_has_just_joined() {
    for has_talked in [true, false] {
        let mut server = ScriptedServer::new();
        let port = server.address().port().to_string();
        let arguments = ["127.0.0.1", &port, "alice"];
        let mut alice = Terminal::start(CLIENT, &arguments, &[("TERM", "dumb")]);
        let mut main = server.welcome("main", "bob");
        if has_talked {
            alice.type_line("for bob");
            server.expect("main", "<message>for bob</message>");
        }
        main.command("PARTNER LEFT", "<partner>bob</partner>");
        main.command("PARTNER JOINED", "<partner>mallory</partner>");
        alice.wait_for_text("you are talking to mallory");
        alice.type_line("a secret for bob");
        alice.wait_for_text("your partner has changed");
        alice.type_line("for mallory");
        server.expect("main", "<message>for mallory</message>");
        assert_eq!(server.received_with("secret"), Vec::<String>::new());
    }
}

#[test]
fn line_typed_after_an_idle_timeout_is_not_sent() {
    let mut server = ScriptedServer::new();
    let port = server.address().port().to_string();
    for term in ["xterm", "dumb"] {
        let arguments = ["127.0.0.1", &port, "alice", "--reconnect"];
        let mut alice = Terminal::start(CLIENT, &arguments, &[("TERM", term)]);
        let mut main = server.welcome("main", "bob");
        alice.wait_for_text("talking to bob");
        main.command("IDLE TIMEOUT", "");
        main.close();
        alice.wait_for_text("press Enter to reconnect");
        alice.type_line("a draft");
        alice.wait_for_text(sentences::NOT_SENT_YOU_ARE_NOT_CONNECTED);
        let _main = server.welcome("main again", "mallory");
        alice.wait_for_text("talking to mallory");
        assert_eq!(server.received_with("a draft"), Vec::<String>::new());
    }
}

#[test]
fn recipient_that_a_line_names_by_mistake_is_explained() {
    let (mut server, mut alice, mut main) = alice_with_bob();
    alice.type_line("%50% off");
    server.expect("main", "<message>%50% off</message>");
    main.send_line("<SERVER><error code='no-such-user'>50 is not online</error></SERVER>");
    alice.wait_for_text("type %%");
    alice.type_line("%%50% off");
    server.expect("main", "<message>%%50% off</message>");
    alice.type_line("%carol%hello");
    server.expect("main", "<message>%carol%hello</message>");
    // A user has the name of a room.
    main.command("USER JOINED", "<username>lobby</username>");
    alice.type_line("/join lobby");
    let _room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_prompt("alice in lobby>");
    alice.type_line("/to lobby");
    alice.wait_for_text("lobby is a room and a user");
    alice.type_line("/query lobby");
    alice.wait_for_prompt("alice to lobby alone>");
    alice.type_line("/to #lobby");
    alice.wait_for_prompt("alice in lobby>");
}
