//! Rung 6: rooms, each with its own thread and port (seed 004).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{
    PASSCODES, PortalTicket, connect_client, error, expect_doc, expect_error, expect_message,
    expect_rejected, expect_sent, expect_unpredictable, expect_welcome, handshake, login,
};
use super::failure::{Failure, shown};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_core::clock::slowed;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Scope, Secret, ServerDoc};

/// The maximum number of rooms: one for each port after the server's own.
const ROOMS: u16 = 16;

/// The number of rooms and of members per room in the check `load`.
const CROWDED: usize = 10;
const MEMBERS: usize = 20;

/// The time for which a room waits for a client that does not connect, as in the task.
const RESERVATION: Duration = Duration::from_secs(2);

/// The interval for repeating a request that the server may not be able to satisfy immediately.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

const JOIN: &[&str] = &["join"];
const ENTER: &[&str] = &["join", "enter"];
const TALK: &[&str] = &["join", "enter", "said"];

pub(super) const RUNG: Rung = Rung {
    number: 6,
    title: "rooms",
    task: include_str!("../lesson/tasks/6-rooms.md"),
    kind: Kind::Server,
    keeps_something: false,
    more_ports: ROOMS,
    checks: &[
        Check {
            name: "join",
            what: "a client that joins a room receives the room's port and a passcode",
            idea: "A room is a listener, a thread and a list. Which thread creates them, and when?",
            minutes: 20,
            needs: &[],
            play: |subject| {
                let mut alice = log_in(subject, "alice")?;
                ticket(&mut alice, "lobby").map(drop)
            },
        },
        Check {
            name: "enter",
            what: "the room's port greets a client that sends the right passcode",
            idea: "A room is a server like your first one, in its own thread. The first line that \
                   it reads decides whether it admits the client.",
            minutes: 25,
            needs: JOIN,
            play: |subject| {
                let mut alice = log_in(subject, "alice")?;
                join_and_enter(subject, &mut alice, "alice", "lobby").map(drop)
            },
        },
        Check {
            name: "wrong-passcode",
            what: "a wrong passcode is rejected, and the right one is still valid afterwards",
            idea: "Which client may lose something because of a stranger's mistake?",
            minutes: 10,
            needs: ENTER,
            play: |subject| {
                let mut alice = log_in(subject, "alice")?;
                let ticket = ticket(&mut alice, "lobby")?;
                let mut stranger = subject.connect_to(ticket.port, "a stranger at the room")?;
                stranger.send_doc(&handshake("no such passcode"))?;
                expect_rejected(&mut stranger, "room")?;
                enter(subject, &ticket, "alice", "lobby").map(drop)
            },
        },
        Check {
            name: "passcode-once",
            what: "a passcode admits one connection, once",
            idea: "Where do you keep a passcode, and when do you remove it?",
            minutes: 5,
            needs: &["join", "enter", "wrong-passcode"],
            play: |subject| {
                let mut alice = log_in(subject, "alice")?;
                let ticket = ticket(&mut alice, "lobby")?;
                let _inside = enter(subject, &ticket, "alice", "lobby")?;
                let mut again =
                    subject.connect_to(ticket.port, "another client with alice's passcode")?;
                again.send_doc(&handshake(&ticket.passcode))?;
                expect_rejected(&mut again, "room")
            },
        },
        Check {
            name: "passcodes",
            what: "a passcode can't be guessed from the ones before it",
            idea: "How many passcodes would an attacker have to try? A counter, the time and a \
                   small number can all be guessed. What does your operating system offer?",
            minutes: 10,
            needs: ENTER,
            play: |subject| {
                let mut seen = Vec::new();
                for number in 0..PASSCODES {
                    let mut client = log_in(subject, &format!("user{number}"))?;
                    seen.push(ticket(&mut client, "lobby")?.passcode);
                }
                expect_unpredictable(&seen, &format!("{PASSCODES} clients joined the lobby"))
            },
        },
        Check {
            name: "said",
            what: "a member's message reaches every other member",
            idea: "Rung 5 has this loop already. Which list does it use here?",
            minutes: 15,
            needs: ENTER,
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let mut alice_lobby = join_and_enter(subject, &mut alice, "alice", "lobby")?;
                let mut bob_lobby = join_and_enter(subject, &mut bob, "bob", "lobby")?;
                alice_lobby.send_doc(&ClientDoc::message("hello room"))?;
                expect_message(&mut bob_lobby, "alice", "hello room", &room("lobby"))?;
                expect_sent(&mut alice_lobby, 1)
            },
        },
        Check {
            name: "to-members-only",
            what: "a member's message reaches no client outside the room",
            idea: "Is there one list of members, or one for each room?",
            minutes: 5,
            needs: TALK,
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let mut alice_lobby = join_and_enter(subject, &mut alice, "alice", "lobby")?;
                let mut alice_attic = join_and_enter(subject, &mut alice, "alice", "attic")?;
                let mut bob_attic = join_and_enter(subject, &mut bob, "bob", "attic")?;
                alice_lobby.send_doc(&ClientDoc::message("only in the lobby"))?;
                expect_sent(&mut alice_lobby, 0)?;
                alice_attic.send_doc(&ClientDoc::message("only in the attic"))?;
                expect_message(&mut bob_attic, "alice", "only in the attic", &room("attic"))
            },
        },
        Check {
            name: "own-port",
            what: "each room has its own port, and all its members connect to it",
            idea: "There is a stack of free ports, and a table that maps a room's name to the \
                   room. Which lock guards which?",
            minutes: 15,
            needs: JOIN,
            play: own_port,
        },
        Check {
            name: "leave",
            what: "LEAVE is acknowledged, and closes the client's connection to the room",
            idea: "The command arrives on one connection and closes another one. Which part of \
                   your program knows both connections?",
            minutes: 20,
            needs: ENTER,
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let mut alice_lobby = join_and_enter(subject, &mut alice, "alice", "lobby")?;
                let mut bob_lobby = join_and_enter(subject, &mut bob, "bob", "lobby")?;
                leave(&mut alice, "lobby")?;
                alice_lobby.end_after_news("the end of the connection to the room")?;
                bob_lobby.send_doc(&ClientDoc::message("are you still here?"))?;
                expect_sent(&mut bob_lobby, 0)
            },
        },
        Check {
            name: "rooms",
            what: "ROOMS lists the rooms, with the number of their members",
            idea: "You read data that other threads change. Which lock do you hold meanwhile, and \
                   for how long?",
            minutes: 10,
            needs: ENTER,
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let _one = join_and_enter(subject, &mut alice, "alice", "lobby")?;
                let _two = join_and_enter(subject, &mut bob, "bob", "lobby")?;
                let _three = join_and_enter(subject, &mut bob, "bob", "attic")?;
                let expected = "<SERVER><command>ROOMS</command><room members='1'>attic</room><room \
                              members='2'>lobby</room></SERVER>, in any order";
                let found = rooms(&mut alice, expected)?;
                match found == [("attic".to_owned(), 1), ("lobby".to_owned(), 2)] {
                    true => Ok(()),
                    false => Err(alice.failure(expected).received(format!("{found:?}"))),
                }
            },
        },
        Check {
            name: "vanishes",
            what: "a member whose connection to the room breaks leaves the room, and the other \
                   members are notified",
            idea: "A visit to this room can end in two ways now. What must happen in both cases?",
            minutes: 15,
            needs: TALK,
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let alice_lobby = join_and_enter(subject, &mut alice, "alice", "lobby")?;
                let mut bob_lobby = join_and_enter(subject, &mut bob, "bob", "lobby")?;
                alice_lobby.reset();
                expect_room_left(&mut bob_lobby, "alice", "lobby")?;
                bob_lobby.send_doc(&ClientDoc::message("are you still here?"))?;
                expect_sent(&mut bob_lobby, 0)
            },
        },
        Check {
            name: "main-connection-ends",
            what: "a client whose main connection ends leaves every room",
            idea: "The thread that ends the main connection must find the client's other \
                   connections. Where are they kept?",
            minutes: 15,
            needs: TALK,
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let mut alice_lobby = join_and_enter(subject, &mut alice, "alice", "lobby")?;
                let mut alice_attic = join_and_enter(subject, &mut alice, "alice", "attic")?;
                let mut bob_lobby = join_and_enter(subject, &mut bob, "bob", "lobby")?;
                alice.reset();
                expect_room_left(&mut bob_lobby, "alice", "lobby")?;
                for there in [&mut alice_lobby, &mut alice_attic] {
                    there
                        .end_after_news("the end of alice's connections to rooms")
                        .map_err(|failure| failure.sent("alice's first connection was reset"))?;
                }
                Ok(())
            },
        },
        Check {
            name: "room-ends",
            what: "when the last member has left, the room is gone, and its port is closed",
            idea: "A thread that is blocked in accept() notices nothing. How do you wake it?",
            minutes: 25,
            needs: &["join", "enter", "leave", "rooms"],
            play: |subject| {
                let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
                let ticket = ticket(&mut alice, "lobby")?;
                let _there = enter(subject, &ticket, "alice", "lobby")?;
                let bobs_ticket = self::ticket(&mut bob, "lobby")?;
                leave(&mut alice, "lobby")?;
                let _bob_there = enter(subject, &bobs_ticket, "bob", "lobby").map_err(|failure| {
                    failure
                        .sent("alice, the only member, left the lobby while bob had a passcode for it")
                        .idea(
                            "Who else may still come when the last member has left? The room is \
                             empty only when nobody can come any more.",
                        )
                })?;
                leave(&mut bob, "lobby")?;
                expect_room_gone(&mut alice, "lobby")?;
                subject.expect_port_closed(ticket.port)?;
                self::ticket(&mut alice, "attic")?;
                expect_room_gone(&mut alice, "attic").map_err(|failure| {
                    failure
                        .sent("alice joined the attic, but did not connect to it")
                        .idea(
                            "The room waits for a client that does not connect. Which part of your \
                             program looks at the clock?",
                        )
                })
            },
        },
        Check {
            name: "no-room-left",
            what: "if every port has a room, the next JOIN gets an error until a room ends",
            idea: "What does an empty stack return, and what does the client receive then? When \
                   is a port pushed again?",
            minutes: 15,
            needs: &["join", "enter", "own-port", "leave", "room-ends"],
            play: no_room_left,
        },
        Check {
            name: "made-again",
            what: "rooms are created and end, and their ports are reused",
            idea: "Count the ports: how many did you pop from the stack, and how many did you \
                   push?",
            minutes: 10,
            needs: &["join", "enter", "leave", "room-ends", "no-room-left"],
            play: |subject| {
                let mut alice = log_in(subject, "alice")?;
                for number in 0..ROOMS + 9 {
                    let name = format!("room{number}");
                    let mut there = join_and_enter(subject, &mut alice, "alice", &name)?;
                    leave(&mut alice, &name)?;
                    there.end_after_news("the end of the connection to the room")?;
                }
                after_no_shows(subject)
            },
        },
        Check {
            name: "load",
            what: "with 200 clients in ten rooms, each message reaches every other member of its \
                   room",
            idea: "Which rooms wait for which lock? Must a room know about any other room?",
            minutes: 15,
            needs: &["join", "enter", "said", "to-members-only", "own-port"],
            play: load,
        },
    ],
};

fn room(name: &str) -> Scope<'_> {
    Scope::Room(Cow::Borrowed(name))
}

fn join(name: &str) -> ClientDoc<'_> {
    ClientDoc::Command(ClientCommand::Join {
        room: Cow::Borrowed(name),
        here: false,
        password: None,
    })
}

/// Connects a client and logs in, with a password if the server asks for one.
fn log_in(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = connect_client(subject, name)?;
    client.send_doc(&login(name))?;
    let expected = format!(
        "<SERVER><command>WELCOME</command><username>{name}</username></SERVER>, or PASSWORD as at rung 5"
    );
    let asks = client.document(&expected, |doc| match doc {
        ServerDoc::LoggedIn { .. } => Some(false),
        ServerDoc::Password { .. } => Some(true),
        _ => None,
    })?;
    if asks {
        client.send_doc(&ClientDoc::Command(ClientCommand::Password {
            password: Secret(Cow::Owned(format!("the password of {name}"))),
        }))?;
        expect_welcome(&mut client, name)?;
    }
    Ok(client)
}

/// Sends JOIN and returns the ticket in the reply.
fn ticket(client: &mut Talk, name: &str) -> Result<PortalTicket, Failure> {
    client.send_doc(&join(name))?;
    let expected = format!(
        "<SERVER><command>JOINED</command><room>{name}</room><address>127.0.0.1</address><Port>…</Port>\
         <HandshakePasscode>…</HandshakePasscode></SERVER>"
    );
    client.document(&expected, |doc| match doc {
        ServerDoc::Joined {
            room,
            port,
            passcode,
            ..
        } if room == name => Some(PortalTicket {
            port: port.get(),
            passcode: passcode.clone().into_owned(),
        }),
        _ => None,
    })
}

/// Opens the connection of the client `name` to a room.
fn enter(
    subject: &Subject<'_>,
    ticket: &PortalTicket,
    user: &str,
    name: &str,
) -> Result<Talk, Failure> {
    let mut there = subject.connect_to(ticket.port, &format!("{user}'s connection to {name}"))?;
    there.send_doc(&handshake(&ticket.passcode))?;
    let port = ticket.port;
    let expected = format!(
        "<SERVER type='room' port='{port}' room='{name}'><message>Connection successful</message></SERVER>"
    );
    expect_doc(
        &mut there,
        &expected,
        |doc| matches!(doc, ServerDoc::Welcome { port: at, room: Some(room), .. } if at.get() == port && room == name),
    )?;
    Ok(there)
}

/// Sends JOIN and opens the connection to the room.
fn join_and_enter(
    subject: &Subject<'_>,
    client: &mut Talk,
    user: &str,
    name: &str,
) -> Result<Talk, Failure> {
    let ticket = ticket(client, name)?;
    enter(subject, &ticket, user, name)
}

fn leave(client: &mut Talk, name: &str) -> Result<(), Failure> {
    client.send_doc(&ClientDoc::Command(ClientCommand::Leave {
        room: Cow::Borrowed(name),
    }))?;
    let expected = format!("<SERVER><command>LEFT</command><room>{name}</room></SERVER>");
    expect_doc(
        client,
        &expected,
        |doc| matches!(doc, ServerDoc::Left { room, .. } if room == name),
    )
}

fn expect_room_left(client: &mut Talk, user: &str, name: &str) -> Result<(), Failure> {
    let expected = format!(
        "<SERVER><command>ROOM LEFT</command><username>{user}</username><room>{name}</room></SERVER>"
    );
    expect_doc(
        client,
        &expected,
        |doc| matches!(doc, ServerDoc::RoomLeft { username, room, .. } if username == user && room == name),
    )
}

/// Expects the room to be gone, and no other room to exist.
fn expect_room_gone(client: &mut Talk, name: &str) -> Result<(), Failure> {
    let expected = format!("<SERVER><command>ROOMS</command></SERVER>, without the {name}");
    let until = Instant::now() + slowed(RESERVATION) + client.patience();
    while !rooms(client, &expected)?.is_empty() {
        if Instant::now() > until {
            let received = format!("the {name} is still listed");
            return Err(client.failure(&expected).received(received));
        }
        thread::sleep(RETRY_INTERVAL);
    }
    Ok(())
}

/// Sends ROOMS and returns the rooms, sorted by name.
fn rooms(client: &mut Talk, expected: &str) -> Result<Vec<(String, usize)>, Failure> {
    client.send_doc(&ClientDoc::Command(ClientCommand::Rooms))?;
    let mut found = client.document(expected, |doc| match doc {
        ServerDoc::Rooms { rooms } => {
            let rooms = rooms.iter();
            Some(
                rooms
                    .map(|(name, members)| (name.clone().into_owned(), *members))
                    .collect::<Vec<_>>(),
            )
        }
        _ => None,
    })?;
    found.sort();
    Ok(found)
}

fn own_port(subject: &Subject<'_>) -> Result<(), Failure> {
    let (mut alice, mut bob) = (log_in(subject, "alice")?, log_in(subject, "bob")?);
    let lobby = ticket(&mut alice, "lobby")?.port;
    let attic = ticket(&mut alice, "attic")?.port;
    let first = subject.address.port() + 1;
    let last = subject.address.port() + ROOMS;
    for port in [lobby, attic] {
        if !(first..=last).contains(&port) {
            let expected = format!("a port from {first} to {last}");
            return Err(alice.failure(expected).received(port));
        }
    }
    if lobby == attic {
        let received = format!("port {lobby} for both rooms");
        let expected = "different ports for the attic and the lobby";
        return Err(alice.failure(expected).received(received));
    }
    let too = ticket(&mut bob, "lobby")?.port;
    match too == lobby {
        true => Ok(()),
        false => Err(bob
            .failure(format!("port {lobby}, the same as alice's"))
            .received(format!("port {too}"))),
    }
}

fn no_room_left(subject: &Subject<'_>) -> Result<(), Failure> {
    // A server may limit the number of rooms per user.
    let mut people = Vec::new();
    let mut there = Vec::new();
    for number in 0..ROOMS {
        if number % 4 == 0 {
            people.push(log_in(subject, &format!("user{}", number / 4))?);
        }
        if let Some(client) = people.last_mut() {
            let user = format!("user{}", number / 4);
            there.push(join_and_enter(
                subject,
                client,
                &user,
                &format!("room{number}"),
            )?);
        }
    }
    let mut late = log_in(subject, "late")?;
    late.send_doc(&join("one-more"))?;
    expect_error(&mut late, ErrorCode::NoRoomLeft)?;
    if let Some(first) = people.first_mut() {
        leave(first, "room0")?;
    }
    expect_room_again(&mut late, "JOINED, after one room has ended")
}

/// Uses every port for a room to which no client connects, and expects the ports to be free
/// afterwards.
fn after_no_shows(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut people = Vec::new();
    for number in 0..ROOMS {
        if number % 4 == 0 {
            people.push(log_in(subject, &format!("absent{}", number / 4))?);
        }
        if let Some(client) = people.last_mut() {
            ticket(client, &format!("room{number}"))?;
        }
    }
    let mut late = log_in(subject, "late")?;
    expect_room_gone(&mut late, "rooms to which nobody has connected")?;
    expect_room_again(&mut late, "JOINED, because no room exists").map_err(|failure| {
        failure
            .sent(format!(
                "clients joined {ROOMS} rooms but did not connect, and, once these were gone, another room"
            ))
            .idea(
                "A room can end without ever having had a member. Does that end push the port, too?",
            )
    })
}

/// Sends JOIN until there is a room, whose port may be freed at any moment.
fn expect_room_again(late: &mut Talk, expected: &str) -> Result<(), Failure> {
    let until = Instant::now() + late.patience();
    loop {
        late.send_doc(&join("one-more"))?;
        let is_in = late.document(expected, |doc| match doc {
            ServerDoc::Joined { .. } => Some(true),
            ServerDoc::Error { .. } => Some(false),
            _ => None,
        })?;
        if is_in {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(late
                .failure(expected)
                .received(error(ErrorCode::NoRoomLeft)));
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

fn load(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut people = Vec::new();
    for number in 0..CROWDED * MEMBERS {
        let name = format!("user{number}");
        let mut client = log_in(subject, &name)?;
        let there = join_and_enter(
            subject,
            &mut client,
            &name,
            &format!("room{}", number % CROWDED),
        )?;
        people.push((client, there));
    }
    for (number, (_, there)) in people.iter_mut().enumerate() {
        there.send_doc(&ClientDoc::message(format!("hello from user{number}")))?;
    }
    for (number, (_, there)) in people.iter_mut().enumerate() {
        let others = (number % CROWDED..CROWDED * MEMBERS).step_by(CROWDED);
        let mut missing: BTreeSet<String> = others
            .filter(|other| *other != number)
            .map(|other| format!("user{other}"))
            .collect();
        while !missing.is_empty() {
            let expected = format!("the messages of {missing:?}");
            let (from, text) = there.document(&expected, |doc| match doc {
                ServerDoc::Relay(relay) if !relay.old => Some((
                    relay.from.clone().into_owned(),
                    relay.text.clone().into_owned(),
                )),
                _ => None,
            })?;
            if !missing.remove(&from) || text != format!("hello from {from}") {
                let received = format!("{} from {from}", shown(text.as_bytes()));
                return Err(there.failure(expected).received(received));
            }
        }
    }
    Ok(())
}
