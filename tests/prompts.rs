//! A line goes where its prompt said, or nowhere: the real client on a real terminal, at every
//! prompt, while its links are lost in every order. A false server decides that order and keeps
//! what it heard.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use support::PATIENCE;
use support::terminal::Terminal;

const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");

/// A server with one port for everyone and one port for a room, which says only what it is told to.
struct FalseServer {
    main: TcpListener,
    room: TcpListener,
    /// Everything that clients said, on whichever link, in order.
    heard: Receiver<(String, String)>,
    hearing: Sender<(String, String)>,
    /// Heard, and not asked for yet.
    kept: Vec<(String, String)>,
}

/// One connection of the client.
struct Link {
    stream: TcpStream,
    name: String,
}

impl Link {
    fn says(&mut self, document: &str) {
        writeln!(self.stream, "{document}").unwrap();
    }

    fn command(&mut self, name: &str, parts: &str) {
        self.says(&format!(
            "<SERVER><command>{name}</command>{parts}</SERVER>"
        ));
    }

    fn wait_for_exit(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl FalseServer {
    fn new() -> FalseServer {
        let (hearing, heard) = channel();
        FalseServer {
            main: TcpListener::bind("127.0.0.1:0").unwrap(),
            room: TcpListener::bind("127.0.0.1:0").unwrap(),
            heard,
            hearing,
            kept: Vec::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.main.local_addr().unwrap()
    }

    fn accept(&self, listener: &TcpListener, name: &str) -> Link {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (reading, hearing) = (stream.try_clone().unwrap(), self.hearing.clone());
        let named = name.to_owned();
        std::thread::spawn(move || {
            for line in BufReader::new(reading).lines().map_while(Result::ok) {
                let _ = hearing.send((named.clone(), line));
            }
        });
        Link {
            stream,
            name: name.to_owned(),
        }
    }

    /// Waits until a document with `part` in it has come on that link.
    fn hears(&mut self, link: &str, part: &str) {
        let is_it = |(on, line): &(String, String)| on == link && line.contains(part);
        if let Some(index) = self.kept.iter().position(is_it) {
            self.kept.remove(index);
            return;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let heard = self
                .heard
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("{link} heard no {part}; heard: {:?}", self.kept));
            if is_it(&heard) {
                return;
            }
            self.kept.push(heard);
        }
    }

    /// Whether something with `part` in it has come on any link, and on which.
    fn where_heard(&mut self, part: &str) -> Vec<String> {
        self.kept.extend(self.heard.try_iter());
        let with_it = self.kept.iter().filter(|(_, line)| line.contains(part));
        with_it.map(|(on, line)| format!("{on}: {line}")).collect()
    }

    /// Lets alice in on a new main link, beside `partner`.
    fn welcome(&mut self, name: &str, partner: &str) -> Link {
        let mut main = self.accept(&self.main, name);
        main.says(
            "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>",
        );
        main.command("PARTNER JOINED", &format!("<partner>{partner}</partner>"));
        self.hears(name, "LOGIN");
        main.command("WELCOME", "<username>alice</username>");
        self.hears(name, "WHO");
        main.command(
            "WHO",
            "<user>alice</user><user>bob</user><user>carol</user>",
        );
        main
    }

    /// Lets her into the room.
    fn welcome_into_room(&mut self, main: &mut Link, name: &str) -> Link {
        self.hears(&main.name, "JOIN");
        self.joined(main, name)
    }

    /// Answers her JOIN.
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
        self.hears(name, "abc");
        room.says(&format!(
            "<SERVER type='room' port='{port}' room='lobby'><message>Connection successful</message></SERVER>"
        ));
        room
    }
}

/// Everything that a prompt can stand for, how one gets there, and what it looks like.
const PROMPTS: [(&str, &str, &str); 11] = [
    ("partner", "", "alice to bob>"),
    ("room", "/to lobby", "alice in lobby>"),
    ("person", "/to carol", "alice to carol alone>"),
    ("query", "/query dave", "alice to dave alone>"),
    ("everyone", "/to all", "alice to everyone>"),
    ("PM", "PM", "message for everyone>"),
    ("DM", "DM", "recipient>"),
    ("DM to carol", "DM carol", "message for carol>"),
    ("confirm", "/pm carol hi", "send to everyone? (yes/no)>"),
    ("passwd", "/passwd", "current password of alice>"),
    ("login", "", "password for alice>"),
];

/// What is lost while something is being typed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Lost {
    Room,
    Main,
    RoomThenMain,
    MainThenRoom,
    Partner,
}

struct Stage {
    server: FalseServer,
    alice: Terminal,
    main: Link,
    room: Option<Link>,
}

fn stage(prompt: (&str, &str, &str)) -> Stage {
    let mut server = FalseServer::new();
    let port = server.address().port().to_string();
    let arguments = ["127.0.0.1", &port, "alice", "--reconnect", "--no-color"];
    let mut alice = Terminal::start(CLIENT, &arguments, &[]);
    let (name, line, looks) = prompt;
    if name == "login" {
        let mut main = server.accept(&server.main, "main");
        main.says(
            "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>",
        );
        main.command("PARTNER JOINED", "<partner>bob</partner>");
        server.hears("main", "LOGIN");
        main.command("PASSWORD", "<account>existing</account>");
        alice.wait_for_prompt(looks);
        return Stage {
            server,
            alice,
            main,
            room: None,
        };
    }
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join lobby");
    let room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text("you joined lobby");
    match name {
        "PM" => {
            alice.type_line(line);
            server.hears("main", "<command>PM</command></CLIENT>");
            main.command("PM", "");
        }
        "DM" | "DM to carol" => {
            alice.type_line("DM");
            server.hears("main", "DM");
            main.command("DM", "<user>bob</user><user>carol</user>");
            if name != "DM" {
                alice.wait_for_prompt("recipient>");
                alice.type_line("carol");
            }
        }
        _ if !line.is_empty() => alice.type_line(line),
        _ => {}
    }
    alice.wait_for_prompt(looks);
    Stage {
        server,
        alice,
        main,
        room: Some(room),
    }
}

/// Types half a line, loses what is to be lost, types the other half, and looks where it went. With
/// `waits`, Enter comes once the prompt has been replaced; else it races with that.
fn a_line_goes_where_its_prompt_said(prompt: (&str, &str, &str), lost: Lost, waits: bool) {
    let context = format!("{} while {lost:?} is lost, waits {waits}", prompt.0);
    let Stage {
        mut server,
        mut alice,
        mut main,
        room,
    } = stage(prompt);
    let is_hidden = prompt.2.contains("password");
    alice.type_text("the sec");
    if !is_hidden {
        alice.wait_for("the half line", |alice| alice.line().ends_with("the sec"));
    }
    let end_room = || {
        if let Some(room) = &room {
            room.wait_for_exit();
        }
    };
    match lost {
        Lost::Room => end_room(),
        Lost::Main => main.wait_for_exit(),
        Lost::RoomThenMain => {
            end_room();
            main.wait_for_exit();
        }
        Lost::MainThenRoom => {
            main.wait_for_exit();
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
        // Another server with the same address: beside alice sits somebody else.
        let mut again = server.welcome("main again", "mallory");
        if room.is_some() {
            server.welcome_into_room(&mut again, "room again");
            alice.wait_for_text("you joined lobby");
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
    let mut went = Vec::new();
    alice.wait_for(
        "where the line went, and a prompt for the next one",
        |alice| {
            went = server.where_heard("secret");
            let contents = alice.contents();
            let refused = contents.contains("not sent") || contents.contains("answer yes or no");
            let line = alice.line();
            // Of two questions in a row, the first has its answer.
            let is_next_question =
                line.starts_with("new password for") || line.starts_with("message for the secret");
            (!went.is_empty() || refused || is_next_question) && line.ends_with('>')
        },
    );
    alice.type_line("/cancel");
    alice.wait_for("a prompt to talk at", |alice| {
        let line = alice.line();
        line.ends_with('>') && (line.starts_with("alice to") || line.starts_with("alice in"))
    });
    alice.type_line("/names");
    server.hears(&main.name, "<command>WHO</command>");
    went = server.where_heard("secret");
    let may = |line: &String| {
        let (link, document) = line.split_once(": ").unwrap();
        match prompt.0 {
            "partner" => link == "main" && !document.contains("command"),
            "room" => link.starts_with("room"),
            "person" | "DM to carol" => document.contains("<to>carol</to>"),
            "query" => document.contains("<to>dave</to>"),
            "everyone" => document.contains("<command>PM</command>"),
            // The message after the PM of this very link.
            "PM" => link == "main" && !main_is_lost,
            "passwd" => document.contains("<command>PASSWD</command>"),
            "login" => document.contains("<command>PASSWORD</command>"),
            _ => false,
        }
    };
    for line in &went {
        assert!(may(line), "{context}: {line}");
    }
    assert!(went.len() <= 1, "{context}: {went:?}");
}

fn at_every_prompt(lost: Lost, waits: bool) {
    // Who is nobody yet has no room; and a partner is the business of the partner's prompt.
    let prompts = PROMPTS.iter().copied();
    let prompts = prompts.filter(|prompt| prompt.0 != "login" || lost == Lost::Main);
    // The client waits a second before it comes back: let them all wait at the same time.
    thread::scope(|threads| {
        for prompt in prompts {
            threads.spawn(move || a_line_goes_where_its_prompt_said(prompt, lost, waits));
        }
    });
}

#[test]
fn the_room_is_lost() {
    at_every_prompt(Lost::Room, true);
    at_every_prompt(Lost::Room, false);
}

#[test]
fn the_server_is_lost() {
    at_every_prompt(Lost::Main, true);
}

#[test]
fn the_server_is_lost_and_enter_comes_at_once() {
    at_every_prompt(Lost::Main, false);
}

#[test]
fn the_room_is_lost_and_then_the_server() {
    at_every_prompt(Lost::RoomThenMain, true);
}

#[test]
fn the_server_is_lost_and_then_the_room() {
    at_every_prompt(Lost::MainThenRoom, true);
}

#[test]
fn the_partner_is_another_one() {
    at_every_prompt(Lost::Partner, true);
    at_every_prompt(Lost::Partner, false);
}

#[test]
fn the_name_that_the_dead_connection_still_has_is_waited_for_and_not_given_up() {
    let mut server = FalseServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    main.wait_for_exit();
    let mut main = server.accept(&server.main, "main again");
    main.says("<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>");
    server.hears("main again", "LOGIN");
    main.says(
        "<SERVER><error code='name-in-use'>the name alice is already in use</error></SERVER>",
    );
    alice.wait_for_text("holds the name alice");
    // It has a prompt meanwhile, and may be somebody else.
    alice.wait_for_prompt("you, alone>");
    alice.type_line("/login alicia");
    server.hears("main again", "alicia");
    assert!(!alice.contents().contains("server: somebody here"));
}

#[test]
fn a_line_typed_while_not_connected_is_said_to_nobody() {
    let mut server = FalseServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    main.wait_for_exit();
    alice.wait_for_prompt("not connected>");
    alice.type_line("first secret");
    alice.wait_for_text("not sent: you are not connected");
    alice.wait_for_prompt("not connected>");
    alice.type_text("second sec");
    let _main = server.welcome("main again", "mallory");
    alice.wait_for_prompt("alice to mallory>");
    alice.type_text("ret\r");
    alice.wait_for_text("when you typed it, there was no recipient");
    alice.wait_for_prompt("alice to mallory>");
    // The arrow key brings it back, and then it is meant for whoever the prompt names.
    alice.type_text("\x1b[A");
    alice.wait_for("the line again", |alice| {
        alice.line() == "alice to mallory> second secret"
    });
    alice.type_text("\r");
    server.hears("main again", "<message>second secret</message>");
    assert_eq!(server.where_heard("first secret"), Vec::<String>::new());
}

#[test]
fn the_room_is_talked_to_again_after_a_return_and_nobody_in_between() {
    let mut server = FalseServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice", "--reconnect"], &[]);
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join lobby");
    let _room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text("you joined lobby");
    alice.type_line("/to lobby");
    alice.wait_for_prompt("alice in lobby>");
    main.wait_for_exit();
    alice.wait_for_prompt("not connected>");
    let mut main = server.welcome("main again", "mallory");
    alice.wait_for_prompt("alice, not with lobby yet>");
    alice.type_line("a secret");
    alice.wait_for_text("not sent");
    let _room = server.welcome_into_room(&mut main, "room again");
    alice.wait_for_prompt("alice in lobby>");
    alice.type_line("hello again");
    server.hears("room again", "hello again");
    assert_eq!(server.where_heard("a secret"), Vec::<String>::new());
}

/// The rest of a paste waits for the answer to JOIN, and meanwhile somebody else sits beside alice.
#[test]
fn the_rest_of_a_paste_goes_to_whom_it_was_pasted_for() {
    let mut server = FalseServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice"], &[]);
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_text("\x1b[200~/join lobby\na secret\x1b[201~\r");
    server.hears("main", "JOIN");
    main.command("PARTNER LEFT", "<partner>bob</partner>");
    main.command("PARTNER JOINED", "<partner>mallory</partner>");
    let _room = server.joined(&mut main, "room");
    alice.wait_for_text("you joined lobby");
    alice.wait_for_prompt("alice to mallory>");
    alice.type_line("hello");
    server.hears("main", "hello");
    assert_eq!(server.where_heard("a secret"), Vec::<String>::new());
    assert!(alice.contents().contains("not sent: "));
}

#[test]
fn who_leaves_a_room_has_been_heard_there_first() {
    let mut server = FalseServer::new();
    let port = server.address().port().to_string();
    let mut alice = Terminal::start(CLIENT, &["127.0.0.1", &port, "alice"], &[]);
    let mut main = server.welcome("main", "bob");
    alice.wait_for_prompt("alice to bob>");
    alice.type_line("/join lobby");
    let mut room = server.welcome_into_room(&mut main, "room");
    alice.wait_for_text("you joined lobby");
    alice.type_text("/send lobby one\r/leave lobby\r");
    server.hears("room", "one");
    server.hears("room", "PING");
    assert_eq!(
        server.where_heard("LEAVE"),
        Vec::<String>::new(),
        "it goes over another link"
    );
    room.command("PONG", "");
    server.hears("main", "LEAVE");
    main.command("LEFT", "<room>lobby</room>");
    // Close like a server. Otherwise the client would wait for the last reply on this link, too.
    room.wait_for_exit();
    alice.wait_for_text("you left lobby");
    // And so has who leaves altogether.
    alice.type_line("/join lobby");
    let mut room = server.welcome_into_room(&mut main, "room again");
    alice.wait_for("the room again", |alice| {
        alice.contents().matches("you joined lobby").count() == 2
    });
    alice.type_text("/send lobby two\r/quit\r");
    server.hears("room again", "two");
    server.hears("room again", "PING");
    assert_eq!(server.where_heard("TERMINATE"), Vec::<String>::new());
    room.command("PONG", "");
    server.hears("main", "PING");
    main.command("PONG", "");
    server.hears("main", "TERMINATE");
    main.wait_for_exit();
    assert_eq!(alice.wait_for_exit(), 0);
}
