//! Rung 6: rooms, each with a thread and a port of its own (seed 004).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{
    PortalTicket, error, expect_doc, expect_message, expect_rejected, handshake, is_refused,
    is_sent, is_welcome, login, newcomer,
};
use super::failure::{Failure, shown};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Scope, Secret, ServerDoc};

/// How many rooms there can be at a time: one for each port after the server's own.
const ROOMS: u16 = 16;

/// Under load, how many rooms with how many members each.
const CROWDED: usize = 10;
const MEMBERS: usize = 20;

/// How often something is asked again that takes the server a moment.
const AGAIN: Duration = Duration::from_millis(50);

const JOIN: &[&str] = &["join"];
const ENTER: &[&str] = &["join", "enter"];
const SAID: &[&str] = &["join", "enter", "said"];

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
            what: "who joins a room is told its port and a passcode",
            idea: "A room is a listener, a thread and a list. Who makes them, and when?",
            minutes: 20,
            needs: &[],
            play: |subject| {
                let mut alice = person(subject, "alice")?;
                ticket(&mut alice, "lobby").map(drop)
            },
        },
        Check {
            name: "enter",
            what: "who shows the passcode at the room's port is greeted there",
            idea: "It is a server like your first one, in a thread of its own, and the first line it reads decides.",
            minutes: 25,
            needs: JOIN,
            play: |subject| {
                let mut alice = person(subject, "alice")?;
                inside(subject, &mut alice, "alice", "lobby").map(drop)
            },
        },
        Check {
            name: "wrong-passcode",
            what: "a wrong passcode is turned away, and the right one is good after it as before",
            idea: "Whom does a stranger's mistake cost something?",
            minutes: 10,
            needs: ENTER,
            play: |subject| {
                let mut alice = person(subject, "alice")?;
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
            idea: "Where is it kept, and when is it taken out of there?",
            minutes: 5,
            needs: &["join", "enter", "wrong-passcode"],
            play: |subject| {
                let mut alice = person(subject, "alice")?;
                let ticket = ticket(&mut alice, "lobby")?;
                let _inside = enter(subject, &ticket, "alice", "lobby")?;
                let mut again =
                    subject.connect_to(ticket.port, "somebody with alice's passcode")?;
                again.send_doc(&handshake(&ticket.passcode))?;
                expect_rejected(&mut again, "room")
            },
        },
        Check {
            name: "said",
            what: "what a member says there comes to every other member",
            idea: "Rung 5 has this loop already. Over which list does it go here?",
            minutes: 15,
            needs: ENTER,
            play: |subject| {
                let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
                let mut alice_there = inside(subject, &mut alice, "alice", "lobby")?;
                let mut bob_there = inside(subject, &mut bob, "bob", "lobby")?;
                alice_there.send_doc(&ClientDoc::message("hello room"))?;
                expect_message(&mut bob_there, "alice", "hello room", &room("lobby"))?;
                is_sent(&mut alice_there, 1)
            },
        },
        Check {
            name: "to-members-only",
            what: "it comes to nobody else",
            idea: "Is there one list of members, or one for each room?",
            minutes: 5,
            needs: SAID,
            play: |subject| {
                let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
                let mut alice_there = inside(subject, &mut alice, "alice", "lobby")?;
                let mut alice_above = inside(subject, &mut alice, "alice", "attic")?;
                let mut bob_above = inside(subject, &mut bob, "bob", "attic")?;
                alice_there.send_doc(&ClientDoc::message("only in the lobby"))?;
                is_sent(&mut alice_there, 0)?;
                alice_above.send_doc(&ClientDoc::message("only in the attic"))?;
                expect_message(&mut bob_above, "alice", "only in the attic", &room("attic"))
            },
        },
        Check {
            name: "own-port",
            what: "each room has a port of its own, and all its members go there",
            idea: "A stack of free ports, and a table from a room's name to its room. Which lock guards which?",
            minutes: 15,
            needs: JOIN,
            play: own_port,
        },
        Check {
            name: "leave",
            what: "who leaves is told so, and its connection to the room is closed",
            idea: "The command comes on one connection and ends the other. Who knows both?",
            minutes: 20,
            needs: ENTER,
            play: |subject| {
                let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
                let mut alice_there = inside(subject, &mut alice, "alice", "lobby")?;
                let mut bob_there = inside(subject, &mut bob, "bob", "lobby")?;
                leave(&mut alice, "lobby")?;
                alice_there.end_after_news("the end of the connection to the room")?;
                bob_there.send_doc(&ClientDoc::message("is anybody here?"))?;
                is_sent(&mut bob_there, 0)
            },
        },
        Check {
            name: "rooms",
            what: "ROOMS tells which rooms there are, with the number of their members",
            idea: "You read what others change. What do you hold meanwhile, and for how long?",
            minutes: 10,
            needs: ENTER,
            play: |subject| {
                let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
                let _one = inside(subject, &mut alice, "alice", "lobby")?;
                let _two = inside(subject, &mut bob, "bob", "lobby")?;
                let _three = inside(subject, &mut bob, "bob", "attic")?;
                let wanted = "<SERVER><command>ROOMS</command><room members='1'>attic</room><room \
                              members='2'>lobby</room></SERVER>, in any order";
                let found = rooms(&mut alice, wanted)?;
                match found == [("attic".to_owned(), 1), ("lobby".to_owned(), 2)] {
                    true => Ok(()),
                    false => Err(alice.failure(wanted).came(format!("{found:?}"))),
                }
            },
        },
        Check {
            name: "vanishes",
            what: "a member whose connection to the room breaks is out, and the others are told",
            idea: "There are two ends of a visit in this room now. What do both have to do?",
            minutes: 15,
            needs: SAID,
            play: |subject| {
                let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
                let alice_there = inside(subject, &mut alice, "alice", "lobby")?;
                let mut bob_there = inside(subject, &mut bob, "bob", "lobby")?;
                alice_there.reset();
                expect_room_left(&mut bob_there, "alice", "lobby")?;
                bob_there.send_doc(&ClientDoc::message("is anybody here?"))?;
                is_sent(&mut bob_there, 0)
            },
        },
        Check {
            name: "main-connection-ends",
            what: "who goes leaves every room",
            idea: "Whoever ends the first connection has to find the others. Where do they stand?",
            minutes: 15,
            needs: SAID,
            play: |subject| {
                let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
                let mut alice_there = inside(subject, &mut alice, "alice", "lobby")?;
                let mut alice_above = inside(subject, &mut alice, "alice", "attic")?;
                let mut bob_there = inside(subject, &mut bob, "bob", "lobby")?;
                alice.reset();
                expect_room_left(&mut bob_there, "alice", "lobby")?;
                for there in [&mut alice_there, &mut alice_above] {
                    there.end_after_news("the end of her connections to rooms")?;
                }
                Ok(())
            },
        },
        Check {
            name: "room-ends",
            what: "when the last member has left, the room is gone, and nobody listens at its port",
            idea: "A thread that waits in accept() notices nothing. How do you wake it?",
            minutes: 25,
            needs: &["join", "enter", "leave", "rooms"],
            play: |subject| {
                let mut alice = person(subject, "alice")?;
                let ticket = ticket(&mut alice, "lobby")?;
                let _there = enter(subject, &ticket, "alice", "lobby")?;
                leave(&mut alice, "lobby")?;
                let wanted = "<SERVER><command>ROOMS</command></SERVER>, without the lobby";
                let until = Instant::now() + alice.patience();
                while !rooms(&mut alice, wanted)?.is_empty() {
                    if Instant::now() > until {
                        return Err(alice.failure(wanted).came("the lobby is still in it"));
                    }
                    thread::sleep(AGAIN);
                }
                subject.refuses_at(ticket.port)
            },
        },
        Check {
            name: "no-room-left",
            what: "when every port has a room, the next one is refused, until one has ended",
            idea: "What does an empty stack return, and who wants to know? Who pushes what was popped?",
            minutes: 15,
            needs: &["join", "enter", "own-port", "leave", "room-ends"],
            play: no_room_left,
        },
        Check {
            name: "made-again",
            what: "rooms come and go, and their ports are used again",
            idea: "Count: how many ports have you taken from the stack, and how many given back?",
            minutes: 10,
            needs: &["join", "enter", "leave", "room-ends", "no-room-left"],
            play: |subject| {
                let mut alice = person(subject, "alice")?;
                for number in 0..ROOMS + 9 {
                    let name = format!("room{number}");
                    let mut there = inside(subject, &mut alice, "alice", &name)?;
                    leave(&mut alice, &name)?;
                    there.end_after_news("the end of the connection to the room")?;
                }
                Ok(())
            },
        },
        Check {
            name: "load",
            what: "200 people in ten rooms, and everybody hears everybody in theirs",
            idea: "Which rooms wait for which lock? Does a room have to know of any other?",
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
    })
}

/// Somebody who is logged in, with a password if the server wants one.
fn person(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = newcomer(subject, name)?;
    client.send_doc(&login(name))?;
    let wanted = format!(
        "<SERVER><command>WELCOME</command><username>{name}</username></SERVER>, or PASSWORD as at rung 5"
    );
    let asks = client.document(&wanted, |doc| match doc {
        ServerDoc::LoggedIn { .. } => Some(false),
        ServerDoc::Password { .. } => Some(true),
        _ => None,
    })?;
    if asks {
        client.send_doc(&ClientDoc::Command(ClientCommand::Password {
            password: Secret(Cow::Owned(format!("the password of {name}"))),
        }))?;
        is_welcome(&mut client, name)?;
    }
    Ok(client)
}

/// What `client` is answered when it joins.
fn ticket(client: &mut Talk, name: &str) -> Result<PortalTicket, Failure> {
    client.send_doc(&join(name))?;
    let wanted = format!(
        "<SERVER><command>JOINED</command><room>{name}</room><address>127.0.0.1</address><Port>…</Port>\
         <HandshakePasscode>…</HandshakePasscode></SERVER>"
    );
    client.document(&wanted, |doc| match doc {
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

/// `who`'s connection to the room.
fn enter(
    subject: &Subject<'_>,
    ticket: &PortalTicket,
    who: &str,
    name: &str,
) -> Result<Talk, Failure> {
    let mut there = subject.connect_to(ticket.port, &format!("{who}'s connection to {name}"))?;
    there.send_doc(&handshake(&ticket.passcode))?;
    let port = ticket.port;
    let wanted = format!(
        "<SERVER type='room' port='{port}' room='{name}'><message>Connection successful</message></SERVER>"
    );
    expect_doc(
        &mut there,
        &wanted,
        |doc| matches!(doc, ServerDoc::Welcome { port: at, room: Some(room), .. } if at.get() == port && room == name),
    )?;
    Ok(there)
}

/// `client` joins, and goes there.
fn inside(
    subject: &Subject<'_>,
    client: &mut Talk,
    who: &str,
    name: &str,
) -> Result<Talk, Failure> {
    let ticket = ticket(client, name)?;
    enter(subject, &ticket, who, name)
}

fn leave(client: &mut Talk, name: &str) -> Result<(), Failure> {
    client.send_doc(&ClientDoc::Command(ClientCommand::Leave {
        room: Cow::Borrowed(name),
    }))?;
    let wanted = format!("<SERVER><command>LEFT</command><room>{name}</room></SERVER>");
    expect_doc(
        client,
        &wanted,
        |doc| matches!(doc, ServerDoc::Left { room } if room == name),
    )
}

fn expect_room_left(client: &mut Talk, who: &str, name: &str) -> Result<(), Failure> {
    let wanted = format!(
        "<SERVER><command>ROOM LEFT</command><username>{who}</username><room>{name}</room></SERVER>"
    );
    expect_doc(
        client,
        &wanted,
        |doc| matches!(doc, ServerDoc::RoomLeft { username, room } if username == who && room == name),
    )
}

/// The rooms that there are, by name.
fn rooms(client: &mut Talk, wanted: &str) -> Result<Vec<(String, usize)>, Failure> {
    client.send_doc(&ClientDoc::Command(ClientCommand::Rooms))?;
    let mut found = client.document(wanted, |doc| match doc {
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
    let (mut alice, mut bob) = (person(subject, "alice")?, person(subject, "bob")?);
    let lobby = ticket(&mut alice, "lobby")?.port;
    let attic = ticket(&mut alice, "attic")?.port;
    let first = subject.address.port() + 1;
    let last = subject.address.port() + ROOMS;
    for port in [lobby, attic] {
        if !(first..=last).contains(&port) {
            let wanted = format!("a port from {first} to {last}");
            return Err(alice.failure(wanted).came(port));
        }
    }
    if lobby == attic {
        let came = format!("port {lobby} for both");
        let wanted = "another port for the attic than for the lobby";
        return Err(alice.failure(wanted).came(came));
    }
    let too = ticket(&mut bob, "lobby")?.port;
    match too == lobby {
        true => Ok(()),
        false => Err(bob
            .failure(format!("port {lobby}, to which alice was sent"))
            .came(format!("port {too}"))),
    }
}

fn no_room_left(subject: &Subject<'_>) -> Result<(), Failure> {
    // A server may limit how many rooms one person has.
    let mut people = Vec::new();
    let mut there = Vec::new();
    for number in 0..ROOMS {
        if number % 4 == 0 {
            people.push(person(subject, &format!("user{}", number / 4))?);
        }
        if let Some(client) = people.last_mut() {
            let who = format!("user{}", number / 4);
            there.push(inside(subject, client, &who, &format!("room{number}"))?);
        }
    }
    let mut late = person(subject, "late")?;
    late.send_doc(&join("one-more"))?;
    is_refused(&mut late, ErrorCode::NoRoomLeft)?;
    if let Some(first) = people.first_mut() {
        leave(first, "room0")?;
    }
    let wanted = "JOINED, now that one room has ended";
    let until = Instant::now() + late.patience();
    loop {
        late.send_doc(&join("one-more"))?;
        let is_in = late.document(wanted, |doc| match doc {
            ServerDoc::Joined { .. } => Some(true),
            ServerDoc::Error { .. } => Some(false),
            _ => None,
        })?;
        if is_in {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(late.failure(wanted).came(error(ErrorCode::NoRoomLeft)));
        }
        thread::sleep(AGAIN);
    }
}

fn load(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut people = Vec::new();
    for number in 0..CROWDED * MEMBERS {
        let name = format!("user{number}");
        let mut client = person(subject, &name)?;
        let there = inside(
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
            let wanted = format!("what each of {missing:?} said");
            let (from, text) = there.document(&wanted, |doc| match doc {
                ServerDoc::Relay(relay) if !relay.old => Some((
                    relay.from.clone().into_owned(),
                    relay.text.clone().into_owned(),
                )),
                _ => None,
            })?;
            if !missing.remove(&from) || text != format!("hello from {from}") {
                let came = format!("{} from {from}", shown(text.as_bytes()));
                return Err(there.failure(wanted).came(came));
            }
        }
    }
    Ok(())
}
