//! Rung 4: clients that address each other. From here on, each line contains one document
//! (`protocol`).

use std::collections::VecDeque;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{
    GREETING, connect_as, connect_client, expect_doc, expect_error, expect_message, expect_welcome,
    login,
};
use super::failure::{Failure, Symptom};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_wire::{ClientDoc, ErrorCode, Scope, ServerDoc};

/// The number and length in bytes of the messages to a client that does not read: together, they
/// exceed the capacity of the socket buffers.
const UNREAD: usize = 2_000;
const UNREAD_BYTES: usize = 7_900;

/// The number of clients that send to one at the same time, and the number and length in bytes of
/// their messages.
const SPEAKERS: usize = 30;
const SPOKEN: usize = 30;
const SPOKEN_BYTES: usize = 40;

/// The number of messages that are sent before their replies are read. (If a server does not set
/// TCP_NODELAY, its kernel holds back the second of two small replies for about 40 ms, once in each
/// batch.)
const BATCH: usize = 50;

pub(super) const RUNG: Rung = Rung {
    number: 4,
    title: "clients that address each other",
    task: include_str!("../lesson/tasks/4-clients-that-address-each-other.md"),
    kind: Kind::Server,
    keeps_something: false,
    more_ports: 0,
    checks: &[
        Check {
            name: "greeting",
            what: "the server greets each client and gives it a seat",
            idea: "Here the server speaks first, and every document ends with a line feed.",
            minutes: 10,
            needs: &[],
            play: |subject| {
                let seat = |client: &mut Talk| {
                    client.document(GREETING, |doc| match doc {
                        ServerDoc::WelcomeSingle { seat, .. } => Some(*seat),
                        _ => None,
                    })
                };
                let mut connected: VecDeque<(Talk, u32)> = VecDeque::new();
                for number in 1..=5 {
                    // From the third client on, an earlier client leaves first.
                    if number > 2
                        && let Some((mut leaving, _)) = connected.pop_front()
                    {
                        leaving.finish();
                        // Another check requires the server to close its end.
                        let _ = leaving.end();
                    }
                    let mut client = subject.connect(&format!("client {number}"))?;
                    let seat = seat(&mut client)?;
                    if connected.iter().any(|(_, taken)| *taken == seat) {
                        let left = match number {
                            ..=2 => String::new(),
                            _ => format!("client {} left, and then ", number - 2),
                        };
                        return Err(client
                            .failure("a different seat for each connected client")
                            .sent(format!("{left}client {number} connected"))
                            .received(format!("seat {seat} for two clients"))
                            .idea("Which variable counts the clients, and what changes it?"));
                    }
                    connected.push_back((client, seat));
                }
                Ok(())
            },
        },
        Check {
            name: "login",
            what: "a client that asks for a free name gets it",
            idea: "The requests are XML: let a parser read them, and look for the elements that \
                   you need.",
            minutes: 20,
            needs: &["greeting"],
            play: |subject| connect_as(subject, "alice").map(drop),
        },
        Check {
            name: "to-one",
            what: "%bob%hello from alice reaches bob as hello",
            idea: "Alice's thread needs the socket of another client. Where can all threads find \
                   it?",
            minutes: 20,
            needs: &["greeting", "login"],
            play: |subject| {
                let (mut alice, mut bob) =
                    (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
                alice.send_doc(&ClientDoc::message("%bob%hello"))?;
                expect_message(&mut bob, "alice", "hello", &Scope::Direct)?;
                bob.send_doc(&ClientDoc::message("%alice%hello yourself"))?;
                expect_message(&mut alice, "bob", "hello yourself", &Scope::Direct)
            },
        },
        Check {
            name: "sent",
            what: "the sender of a message receives SENT",
            idea: "Each message concerns two clients. What does each of them receive?",
            minutes: 5,
            needs: &["greeting", "login"],
            play: |subject| {
                let (mut alice, _bob) =
                    (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
                alice.send_doc(&ClientDoc::message("%bob%hello"))?;
                expect_doc(
                    &mut alice,
                    "<SERVER><command>SENT</command><count>1</count></SERVER>",
                    |doc| matches!(doc, ServerDoc::Sent { count: 1 }),
                )
            },
        },
        Check {
            name: "to-nobody-else",
            what: "a message to one client reaches no other client",
            idea: "If you loop over all clients, why?",
            minutes: 5,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) =
                    (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
                let mut carol = connect_as(subject, "carol")?;
                alice.send_doc(&ClientDoc::message("%bob%a secret"))?;
                expect_message(&mut bob, "alice", "a secret", &Scope::Direct)?;
                // A client receives its messages in order: if the secret had reached carol, it
                // would be the first one.
                alice.send_doc(&ClientDoc::message("%carol%no secret"))?;
                expect_message(&mut carol, "alice", "no secret", &Scope::Direct)
            },
        },
        Check {
            name: "no-such-user",
            what: "a message to an unknown name gets an error",
            idea: "What does looking up a name return if no client has it, and which client should \
                   receive the error?",
            minutes: 5,
            needs: &["greeting", "login"],
            play: |subject| {
                let mut alice = connect_as(subject, "alice")?;
                alice.send_doc(&ClientDoc::message("%bob%are you there?"))?;
                expect_error(&mut alice, ErrorCode::NoSuchUser)
            },
        },
        Check {
            name: "login-first",
            what: "a client without a name can't send messages",
            idea: "What would the message's `from` attribute be?",
            minutes: 5,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let mut bob = connect_as(subject, "bob")?;
                let mut nameless = connect_client(subject, "a client without a name")?;
                nameless.send_doc(&ClientDoc::message("%bob%who am I?"))?;
                expect_error(&mut nameless, ErrorCode::LoginFirst)?;
                let mut alice = connect_as(subject, "alice")?;
                alice.send_doc(&ClientDoc::message("%bob%it is me"))?;
                expect_message(&mut bob, "alice", "it is me", &Scope::Direct)
            },
        },
        Check {
            name: "name-in-use",
            what: "a name belongs to one client at a time",
            idea: "You check that a name is free, and then you take it. What may another thread \
                   do in between?",
            minutes: 15,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) =
                    (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
                let mut other = connect_client(subject, "another client")?;
                other.send_doc(&login("alice"))?;
                expect_error(&mut other, ErrorCode::NameInUse)?;
                // The name still belongs to the first client.
                bob.send_doc(&ClientDoc::message("%alice%hello"))?;
                expect_message(&mut alice, "bob", "hello", &Scope::Direct)?;
                (0..RACES).try_for_each(|race| race_for(subject, &format!("racer{race}")))
            },
        },
        Check {
            name: "bad-name",
            what: "a name with other characters, or with more than 32, gets an error",
            idea: "In many languages, a function that looks for letters also finds é and 你. Which \
                   characters does the task allow?",
            minutes: 5,
            needs: &["greeting", "login"],
            play: |subject| {
                let mut client = connect_client(subject, "a client")?;
                for name in ["zoé", "two words", "a/b", "你好", &"n".repeat(33)] {
                    client.send_doc(&login(name))?;
                    expect_error(&mut client, ErrorCode::BadName)?;
                }
                let longest = "A-Za-z0-9_.".repeat(3)[..32].to_owned();
                client.send_doc(&login(&longest))?;
                expect_welcome(&mut client, &longest)
            },
        },
        Check {
            name: "percent",
            what: "everything after the second % is the text",
            idea: "How many times may your function split the text?",
            minutes: 5,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) =
                    (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
                alice.send_doc(&ClientDoc::message("%bob%50% of 100% is %x%"))?;
                expect_message(&mut bob, "alice", "50% of 100% is %x%", &Scope::Direct)
            },
        },
        Check {
            name: "markup",
            what: "text that looks like XML arrives as text",
            idea: "In a document, text is escaped (&lt; for <). Which part of your program unescapes \
                   its input, and which one escapes its output?",
            minutes: 10,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) =
                    (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
                let text = "if a < b && c > d: </message> \"x\" 'y' &amp;";
                alice.send_doc(&ClientDoc::message(format!("%bob%{text}")))?;
                expect_message(&mut bob, "alice", text, &Scope::Direct)
            },
        },
        Check {
            name: "any-xml",
            what: "a document has the same meaning, no matter how it is written in XML",
            idea: "White space in tags, the order of elements, character references, CDATA and \
                   comments: a parser handles them all, a regular expression does not.",
            minutes: 15,
            needs: &["greeting", "login", "to-one", "markup"],
            play: any_xml,
        },
        Check {
            name: "cut-and-glued",
            what: "documents may be split and joined, just like lines",
            idea: "A document is a line. Which rung solved this?",
            minutes: 10,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let mut bob = connect_as(subject, "bob")?;
                let mut alice = connect_client(subject, "alice")?;
                alice.send_parts([
                    "<CLIENT><command>LOG",
                    "IN</command><username>alice</username></CLIENT>\n<CLIENT><message>%bob%one</message></CLIENT>\n\
                     <CLIENT><mess",
                    "age>%bob%two</message></CLIENT>\n",
                ])?;
                expect_message(&mut bob, "alice", "one", &Scope::Direct)?;
                expect_message(&mut bob, "alice", "two", &Scope::Direct)
            },
        },
        Check {
            name: "name-is-free-again",
            what: "a client's name is free again after it has left",
            idea: "In what ways can a visit end, and what must happen in each case?",
            minutes: 10,
            needs: &["greeting", "login"],
            play: |subject| {
                connect_as(subject, "bob")?.finish();
                expect_bob_is_free(subject)
            },
        },
        Check {
            name: "name-after-a-reset",
            what: "the name is also free after the connection is reset",
            idea: "A failed read also ends a visit. Does your language have a block that runs no matter how a function exits?",
            minutes: 10,
            needs: &["greeting", "login"],
            play: |subject| {
                connect_as(subject, "bob")?.reset();
                expect_bob_is_free(subject)
            },
        },
        Check {
            name: "who-does-not-read",
            what: "a client that does not read does not delay any other client, not even the senders",
            idea: "A write to a full socket blocks. Which thread is blocked then? What if each \
                   client had a queue, and the queue were full?",
            minutes: 45,
            needs: &[
                "greeting",
                "login",
                "to-one",
                "sent",
                "to-nobody-else",
                "no-such-user",
                "cut-and-glued",
            ],
            play: recipient_does_not_read,
        },
        Check {
            name: "load",
            what: "200 clients, each sending a message to the next",
            idea: "What do all threads share, and for how long does each of them keep it locked?",
            minutes: 15,
            needs: &["greeting", "login", "to-one", "to-nobody-else"],
            play: |subject| {
                let name = |number: usize| format!("user{}", number % 200);
                let clients = (0..200).map(|number| connect_as(subject, &name(number)));
                let mut clients = clients.collect::<Result<Vec<Talk>, Failure>>()?;
                for (number, client) in clients.iter_mut().enumerate() {
                    let next = name(number + 1);
                    client.send_doc(&ClientDoc::message(format!("%{next}%hello from {number}")))?;
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    let before = (number + 199) % 200;
                    expect_message(
                        client,
                        &name(before),
                        &format!("hello from {before}"),
                        &Scope::Direct,
                    )?;
                }
                many_to_one(&mut clients)
            },
        },
    ],
};

/// Lets several clients send to the first one at the same time, and expects whole documents. (A
/// server may drop messages that do not fit.)
fn many_to_one(clients: &mut [Talk]) -> Result<(), Failure> {
    const LAST: &str = "the last one";
    let Some((reader, others)) = clients.split_first_mut() else {
        return Ok(());
    };
    let speakers = others.len().min(SPEAKERS);
    let start = Barrier::new(speakers);
    thread::scope(|scope| {
        for speaker in &mut others[..speakers] {
            let start = &start;
            scope.spawn(move || {
                let text = "x".repeat(SPOKEN_BYTES);
                let doc =
                    |text: &str| format!("<CLIENT><message>%user0%{text}</message></CLIENT>\n");
                let docs = doc(&text).repeat(SPOKEN - 1) + &doc(LAST);
                start.wait();
                // A broken connection is detected below, as a missing message.
                speaker.try_send(docs);
            });
        }
        let mut missing = speakers;
        while missing > 0 {
            let expected = "a whole document in each line";
            let is_last = reader.document(expected, |doc| match doc {
                ServerDoc::Relay(relay) => Some(relay.text == LAST),
                _ => None,
            });
            match is_last {
                Ok(is_last) => missing -= usize::from(is_last),
                Err(failure) if failure.symptom == Symptom::Different => {
                    return Err(failure
                        .sent(format!(
                            "{speakers} clients sent messages to user0 at the same time"
                        ))
                        .idea(
                            "Several threads write to one socket. What keeps a document and its \
                             line feed together?",
                        ));
                }
                Err(_) => break,
            }
        }
        Ok(())
    })
}

/// Sends the documents from `to-one` in different XML notations.
fn any_xml(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut bob = connect_as(subject, "bob")?;
    let mut alice = connect_client(subject, "alice")?;
    alice.send(
        "<CLIENT >\t<username >alice</username ><!-- a comment --><command>LOGIN</command></CLIENT >\n",
    )?;
    expect_welcome(&mut alice, "alice")?;
    for (message, text) in [
        (
            "<message>%bob%caf&#233; &#x1F980; &lt;3</message>",
            "café 🦀 <3",
        ),
        (
            "<message><![CDATA[%bob%a < b && c > d]]></message>",
            "a < b && c > d",
        ),
        (
            "<message>%bob%<!-- not shown -->one text</message>",
            "one text",
        ),
        (
            "<message lang=\"en\" x='>'>%bob%attributes</message>",
            "attributes",
        ),
    ] {
        alice.send(format!("<CLIENT>{message}</CLIENT>\n"))?;
        expect_message(&mut bob, "alice", text, &Scope::Direct)?;
    }
    Ok(())
}

/// The number of races for a name, and of clients in each.
const RACES: usize = 25;
const RACERS: usize = 8;

/// Lets several clients request one name at the same time: exactly one of them must get it.
fn race_for(subject: &Subject<'_>, name: &str) -> Result<(), Failure> {
    let racers = (0..RACERS).map(|_| connect_client(subject, "one of several clients"));
    let mut racers = racers.collect::<Result<Vec<Talk>, Failure>>()?;
    let start = Barrier::new(RACERS);
    thread::scope(|scope| {
        for racer in &mut racers {
            scope.spawn(|| {
                start.wait();
                // A closed connection is detected below.
                let _ = racer.send_doc(&login(name));
            });
        }
    });
    let expected = "WELCOME, or the error name-in-use";
    let mut winners = 0;
    for racer in &mut racers {
        winners += racer.document(expected, |doc| match doc {
            ServerDoc::LoggedIn { .. } => Some(1),
            ServerDoc::Error {
                code: ErrorCode::NameInUse,
                ..
            } => Some(0),
            _ => None,
        })?;
    }
    match winners {
        1 => Ok(()),
        _ => Err(Failure::expected("WELCOME for one of them")
            .sent(format!(
                "{RACERS} clients asked for the name {name} at the same time"
            ))
            .received(format!("WELCOME for {winners}"))),
    }
}

/// Expects the name of bob, who has left, to become free. (Nothing is sent to him in the meantime:
/// the server must notice his departure when it reads, not when a write to the broken connection
/// fails.)
fn expect_bob_is_free(subject: &Subject<'_>) -> Result<(), Failure> {
    let expected =
        "<SERVER><command>WELCOME</command><username>bob</username></SERVER>, after bob has left";
    let mut client = connect_client(subject, "a client that asks for the name bob")?;
    let until = Instant::now() + client.patience();
    loop {
        client.send_doc(&login("bob"))?;
        let is_free = client.document(expected, |doc| match doc {
            ServerDoc::LoggedIn { .. } => Some(true),
            ServerDoc::Error {
                code: ErrorCode::NameInUse,
                ..
            } => Some(false),
            _ => None,
        })?;
        if is_free {
            return Ok(());
        }
        if Instant::now() > until {
            let received = "name-in-use, every time";
            return Err(client.failure(expected).received(received));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn recipient_does_not_read(subject: &Subject<'_>) -> Result<(), Failure> {
    let _not_reading = connect_as(subject, "carol")?;
    let (mut alice, mut bob) = (connect_as(subject, "alice")?, connect_as(subject, "bob")?);
    let long = format!("%carol%{}", "x".repeat(UNREAD_BYTES));
    for _ in 0..UNREAD / BATCH {
        for _ in 0..BATCH {
            alice.send_doc(&ClientDoc::message(long.as_str()))?;
        }
        for _ in 0..BATCH {
            // The message was sent, or dropped because carol does not read: the rung allows both.
            let expected = "a reply (SENT or an error), even though carol is not reading";
            expect_doc(&mut alice, expected, |doc| {
                matches!(doc, ServerDoc::Sent { .. } | ServerDoc::Error { .. })
            })?;
        }
    }
    alice.send_doc(&ClientDoc::message("%bob%she does not read"))?;
    expect_message(&mut bob, "alice", "she does not read", &Scope::Direct)
}
