//! Rung 4: clients that address each other. From here on, documents travel (`protocol`), one in
//! each line.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{expect_doc, expect_message, is_refused, is_welcome, login, named, newcomer};
use super::failure::Failure;
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_wire::{ClientDoc, ErrorCode, Scope, ServerDoc};

/// How many messages are sent to somebody who does not read, and how long each is: together more
/// than the sockets on the way hold.
const UNREAD: usize = 2_000;
const UNREAD_BYTES: usize = 7_900;

/// How many of them are sent before their answers are read. (The system of a server that does not
/// ask for TCP_NODELAY keeps back the second of two small answers for some 40 ms, once in each
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
            what: "who connects is greeted, with a seat",
            idea: "The server speaks first here, and every document ends with a line feed.",
            minutes: 10,
            needs: &[],
            play: |subject| newcomer(subject, "a client").map(drop),
        },
        Check {
            name: "login",
            what: "who asks for a free name gets it",
            idea: "What comes is XML: let a parser read it, and look for the elements that you need.",
            minutes: 20,
            needs: &["greeting"],
            play: |subject| named(subject, "alice").map(drop),
        },
        Check {
            name: "to-one",
            what: "%bob%hello comes to bob as hello, from alice",
            idea: "Alice's thread has to find the socket of somebody else. Where do all threads find it?",
            minutes: 20,
            needs: &["greeting", "login"],
            play: |subject| {
                let (mut alice, mut bob) = (named(subject, "alice")?, named(subject, "bob")?);
                alice.send_doc(&ClientDoc::message("%bob%hello"))?;
                expect_message(&mut bob, "alice", "hello", &Scope::Direct)?;
                bob.send_doc(&ClientDoc::message("%alice%hello yourself"))?;
                expect_message(&mut alice, "bob", "hello yourself", &Scope::Direct)
            },
        },
        Check {
            name: "sent",
            what: "who has sent something is told so",
            idea: "Two people hear of each message: one gets it, the other gets an answer.",
            minutes: 5,
            needs: &["greeting", "login"],
            play: |subject| {
                let (mut alice, _bob) = (named(subject, "alice")?, named(subject, "bob")?);
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
            what: "a message to one person comes to nobody else",
            idea: "Who is in the loop over all clients, and why is there one?",
            minutes: 5,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) = (named(subject, "alice")?, named(subject, "bob")?);
                let mut carol = named(subject, "carol")?;
                alice.send_doc(&ClientDoc::message("%bob%a secret"))?;
                expect_message(&mut bob, "alice", "a secret", &Scope::Direct)?;
                // What comes to one client comes in order: had the secret come to carol, it would
                // be first.
                alice.send_doc(&ClientDoc::message("%carol%no secret"))?;
                expect_message(&mut carol, "alice", "no secret", &Scope::Direct)
            },
        },
        Check {
            name: "no-such-user",
            what: "who writes to a name that nobody has is told so",
            idea: "What does looking a name up return when there is none, and who wants to know?",
            minutes: 5,
            needs: &["greeting", "login"],
            play: |subject| {
                let mut alice = named(subject, "alice")?;
                alice.send_doc(&ClientDoc::message("%bob%is anybody there?"))?;
                is_refused(&mut alice, ErrorCode::NoSuchUser)
            },
        },
        Check {
            name: "login-first",
            what: "who has no name yet writes to nobody",
            idea: "What would `from` be?",
            minutes: 5,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let mut bob = named(subject, "bob")?;
                let mut nobody = newcomer(subject, "a client without a name")?;
                nobody.send_doc(&ClientDoc::message("%bob%who am I?"))?;
                is_refused(&mut nobody, ErrorCode::LoginFirst)?;
                let mut alice = named(subject, "alice")?;
                alice.send_doc(&ClientDoc::message("%bob%it is me"))?;
                expect_message(&mut bob, "alice", "it is me", &Scope::Direct)
            },
        },
        Check {
            name: "name-in-use",
            what: "a name belongs to one client at a time",
            idea: "Looking whether a name is free and taking it have to be one step. What else may happen between \
                   two?",
            minutes: 15,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) = (named(subject, "alice")?, named(subject, "bob")?);
                let mut other = newcomer(subject, "another client")?;
                other.send_doc(&login("alice"))?;
                is_refused(&mut other, ErrorCode::NameInUse)?;
                // It still leads to who had it first.
                bob.send_doc(&ClientDoc::message("%alice%hello"))?;
                expect_message(&mut alice, "bob", "hello", &Scope::Direct)?;
                (0..RACES).try_for_each(|race| race_for(subject, &format!("racer{race}")))
            },
        },
        Check {
            name: "percent",
            what: "what follows the second % is the text, whatever is in it",
            idea: "How often may your function split?",
            minutes: 5,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) = (named(subject, "alice")?, named(subject, "bob")?);
                alice.send_doc(&ClientDoc::message("%bob%50% of 100% is %x%"))?;
                expect_message(&mut bob, "alice", "50% of 100% is %x%", &Scope::Direct)
            },
        },
        Check {
            name: "markup",
            what: "text that looks like XML comes as text",
            idea: "Whoever puts text into XML escapes it; whoever takes it out gets it back.",
            minutes: 10,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let (mut alice, mut bob) = (named(subject, "alice")?, named(subject, "bob")?);
                let text = "if a < b && c > d: </message> \"x\" 'y' &amp;";
                alice.send_doc(&ClientDoc::message(format!("%bob%{text}")))?;
                expect_message(&mut bob, "alice", text, &Scope::Direct)
            },
        },
        Check {
            name: "any-xml",
            what: "the same document, written in another way, means the same",
            idea: "White space in tags, the order of elements, character references, CDATA and comments: a parser \
                   knows them all, a regular expression does not.",
            minutes: 15,
            needs: &["greeting", "login", "to-one"],
            play: any_xml,
        },
        Check {
            name: "cut-and-glued",
            what: "documents are cut and glued as lines are",
            idea: "A document is a line: rung 3 has solved it.",
            minutes: 10,
            needs: &["greeting", "login", "to-one"],
            play: |subject| {
                let mut bob = named(subject, "bob")?;
                let mut alice = newcomer(subject, "alice")?;
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
            what: "when a client has gone, its name is free",
            idea: "On which ways can a visit end, and what is done on all of them?",
            minutes: 10,
            needs: &["greeting", "login"],
            play: |subject| {
                named(subject, "bob")?.finish();
                is_free_again(subject)
            },
        },
        Check {
            name: "name-after-a-reset",
            what: "it is free, too, when a client's connection has broken",
            idea: "A read that fails ends a visit as well. Does your language have something that is done however a \
                   block is left?",
            minutes: 10,
            needs: &["greeting", "login"],
            play: |subject| {
                named(subject, "bob")?.reset();
                is_free_again(subject)
            },
        },
        Check {
            name: "who-does-not-read",
            what: "somebody who does not read holds up nobody, not even who writes to them",
            idea: "A write into a full socket waits. Whose thread is it that waits then? What if each client had a \
                   queue, and it were full?",
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
            play: who_does_not_read,
        },
        Check {
            name: "load",
            what: "200 clients, each of whom writes to the next one",
            idea: "What do all threads use, and for how long does each have it to itself?",
            minutes: 15,
            needs: &["greeting", "login", "to-one", "to-nobody-else"],
            play: |subject| {
                let name = |number: usize| format!("user{}", number % 200);
                let clients = (0..200).map(|number| named(subject, &name(number)));
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
                Ok(())
            },
        },
    ],
};

/// The documents of `to-one` in other words of XML.
fn any_xml(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut bob = named(subject, "bob")?;
    let mut alice = newcomer(subject, "alice")?;
    alice.send(
        "<CLIENT >\t<username >alice</username ><!-- a comment --><command>LOGIN</command></CLIENT >\n",
    )?;
    is_welcome(&mut alice, "alice")?;
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

/// How often clients race for a name, and how many of them.
const RACES: usize = 25;
const RACERS: usize = 8;

/// Several clients ask for one name at the same moment: one of them gets it.
fn race_for(subject: &Subject<'_>, name: &str) -> Result<(), Failure> {
    let racers = (0..RACERS).map(|_| newcomer(subject, "one of several clients"));
    let mut racers = racers.collect::<Result<Vec<Talk>, Failure>>()?;
    let start = Barrier::new(RACERS);
    thread::scope(|scope| {
        for racer in &mut racers {
            scope.spawn(|| {
                start.wait();
                // A connection that is closed shows below.
                let _ = racer.send_doc(&login(name));
            });
        }
    });
    let wanted = "WELCOME, or the error name-in-use";
    let mut winners = 0;
    for racer in &mut racers {
        winners += racer.document(wanted, |doc| match doc {
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
        _ => Err(Failure::wanted("WELCOME for one of them")
            .sent(format!(
                "{RACERS} clients asked for the name {name} at the same moment"
            ))
            .came(format!("WELCOME for {winners}"))),
    }
}

/// Bob has gone: his name has to become free, as soon as the server has noticed. (Nothing is sent
/// to him meanwhile: a write into a broken connection would tell the server in another way than its
/// read.)
fn is_free_again(subject: &Subject<'_>) -> Result<(), Failure> {
    let wanted = "<SERVER><command>WELCOME</command><username>bob</username></SERVER>, now that bob has gone";
    let mut client = newcomer(subject, "somebody who wants to be bob, too")?;
    let until = Instant::now() + client.patience();
    loop {
        client.send_doc(&login("bob"))?;
        let is_free = client.document(wanted, |doc| match doc {
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
            let came = "name-in-use, again and again";
            return Err(client.failure(wanted).came(came));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn who_does_not_read(subject: &Subject<'_>) -> Result<(), Failure> {
    let _deaf = named(subject, "carol")?;
    let (mut alice, mut bob) = (named(subject, "alice")?, named(subject, "bob")?);
    let long = format!("%carol%{}", "x".repeat(UNREAD_BYTES));
    for _ in 0..UNREAD / BATCH {
        for _ in 0..BATCH {
            alice.send_doc(&ClientDoc::message(long.as_str()))?;
        }
        for _ in 0..BATCH {
            // Sent, or dropped because she does not read: the rung leaves it open.
            let wanted = "an answer, SENT or an error, though carol does not read";
            expect_doc(&mut alice, wanted, |doc| {
                matches!(doc, ServerDoc::Sent { .. } | ServerDoc::Error { .. })
            })?;
        }
    }
    alice.send_doc(&ClientDoc::message("%bob%she does not listen"))?;
    expect_message(&mut bob, "alice", "she does not listen", &Scope::Direct)
}
