//! Rung 5: names with passwords, messages for everyone and for one, and a server that is killed and
//! knows them still.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{
    error, expect_doc, expect_message, is_refused, is_sent, is_welcome, login, newcomer,
};
use super::failure::Failure;
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_core::clock::slowed;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Scope, Secret, ServerDoc};

/// How many register at the same moment.
const AT_ONCE: usize = 20;

/// How many there are under load.
const CROWD: usize = 200;

/// Who has had no answer for so long, while somebody else has had theirs, is not let in.
const ANSWER: Duration = Duration::from_millis(500);

const PASSWORD: &str = "the moon is 384400 km away";

pub(super) const RUNG: Rung = Rung {
    number: 5,
    title: "names and passwords",
    task: include_str!("../lesson/tasks/5-names-and-passwords.md"),
    kind: Kind::Server,
    keeps_something: true,
    more_ports: 0,
    checks: &[
        Check {
            name: "new-account",
            what: "who asks for a name that nobody has yet is asked for a new password",
            idea: "LOGIN has two answers now. What do you have to look up to choose?",
            minutes: 10,
            needs: &[],
            play: |subject| {
                let mut alice = newcomer(subject, "alice")?;
                asks_for_a_password(&mut alice, "alice", true)
            },
        },
        Check {
            name: "register",
            what: "the first password for a name makes its account",
            idea: "What does the client's thread have to remember between LOGIN and PASSWORD?",
            minutes: 10,
            needs: &["new-account"],
            play: |subject| registered(subject, "alice").map(drop),
        },
        Check {
            name: "existing",
            what: "who has an account gets in with its password",
            idea: "Who is there now, and who has an account: are these the same list?",
            minutes: 15,
            needs: &["new-account", "register"],
            play: |subject| {
                registered(subject, "alice")?.reset();
                back(subject, "alice", PASSWORD).map(drop)
            },
        },
        Check {
            name: "wrong-password",
            what: "a wrong password is refused, and the right one is taken after it",
            idea: "Compare before you let in. Which state is the client in after the refusal?",
            minutes: 10,
            needs: &["new-account", "register", "existing"],
            play: |subject| {
                registered(subject, "alice")?.reset();
                let mut alice = newcomer(subject, "alice")?;
                asks_for_a_password(&mut alice, "alice", false)?;
                alice.send_doc(&password("the sun"))?;
                is_refused(&mut alice, ErrorCode::WrongPassword)?;
                alice.send_doc(&password(PASSWORD))?;
                is_welcome(&mut alice, "alice")
            },
        },
        Check {
            name: "three-wrong",
            what: "the third wrong password closes the connection",
            idea: "Whoever may guess for ever will guess it one day. Where is the count, and whose is it?",
            minutes: 5,
            needs: &["new-account", "register", "existing", "wrong-password"],
            play: |subject| {
                registered(subject, "alice")?.reset();
                let mut thief = newcomer(subject, "somebody who guesses")?;
                asks_for_a_password(&mut thief, "alice", false)?;
                for guess in ["the sun", "the earth", "the sea"] {
                    thief.send_doc(&password(guess))?;
                    is_refused(&mut thief, ErrorCode::WrongPassword)?;
                }
                thief.end()
            },
        },
        Check {
            name: "whatever-its-case",
            what: "ALICE and alice are one account, and its name stays as it was registered",
            idea: "The key that you look up need not be the name that you show.",
            minutes: 10,
            needs: &["new-account", "register", "existing"],
            play: |subject| {
                registered(subject, "alice")?.reset();
                let mut loud = newcomer(subject, "ALICE")?;
                asks_for_a_password(&mut loud, "ALICE", false)?;
                loud.send_doc(&password(PASSWORD))?;
                is_welcome(&mut loud, "alice")
            },
        },
        Check {
            name: "not-in-plain-text",
            what: "whoever reads the files finds no password in them",
            idea: "You need not know a password to check it. What can you keep instead, and what does the salt do?",
            minutes: 20,
            needs: &["new-account", "register"],
            play: |subject| {
                let _alice = registered(subject, "alice")?;
                let Some(folder) = subject.folder() else {
                    return Ok(());
                };
                let wanted = Failure::wanted("no file that holds a password as it was typed")
                    .sent("alice registered");
                match file_with(folder, PASSWORD.as_bytes()) {
                    Ok(None) => Ok(()),
                    Ok(Some(file)) => Err(wanted.came(format!("{file} holds hers"))),
                    Err(error) => Err(wanted.came(format!("a file that can't be read: {error}"))),
                }
            },
        },
        Check {
            name: "public",
            what: "a public message comes to everyone else, and its sender is told how many that are",
            idea: "Here is the loop over all clients. Is it the sender's turn in it, too?",
            minutes: 15,
            needs: &["new-account", "register"],
            play: |subject| {
                let mut alice = registered(subject, "alice")?;
                let mut bob = registered(subject, "bob")?;
                let mut carol = registered(subject, "carol")?;
                alice.send_doc(&public("hello everyone"))?;
                expect_message(&mut bob, "alice", "hello everyone", &Scope::Public)?;
                expect_message(&mut carol, "alice", "hello everyone", &Scope::Public)?;
                is_sent(&mut alice, 2)?;
                // Had it come to her as well, it would be the first that she hears.
                bob.send_doc(&public("hello alice"))?;
                expect_message(&mut alice, "bob", "hello alice", &Scope::Public)
            },
        },
        Check {
            name: "direct",
            what: "a direct message comes to one person, and to nobody else",
            idea: "It is rung 4's message with a command around it. Which function can do both?",
            minutes: 10,
            needs: &["new-account", "register"],
            play: |subject| {
                let mut alice = registered(subject, "alice")?;
                let mut bob = registered(subject, "bob")?;
                let mut carol = registered(subject, "carol")?;
                alice.send_doc(&direct("bob", "a secret"))?;
                expect_message(&mut bob, "alice", "a secret", &Scope::Direct)?;
                is_sent(&mut alice, 1)?;
                alice.send_doc(&direct("carol", "no secret"))?;
                expect_message(&mut carol, "alice", "no secret", &Scope::Direct)?;
                alice.send_doc(&direct("dave", "is anybody there?"))?;
                is_refused(&mut alice, ErrorCode::NoSuchUser)
            },
        },
        Check {
            name: "members-only",
            what: "who has not given a password yet neither speaks nor hears",
            idea: "When does a client come into the list of those who hear: when it names itself, or when it has \
                   proved who it is?",
            minutes: 10,
            needs: &["new-account", "register", "public"],
            play: |subject| {
                let mut alice = registered(subject, "alice")?;
                let mut bob = registered(subject, "bob")?;
                let mut carol = newcomer(subject, "carol, who has given no password")?;
                asks_for_a_password(&mut carol, "carol", true)?;
                alice.send_doc(&public("for members"))?;
                expect_message(&mut bob, "alice", "for members", &Scope::Public)?;
                is_sent(&mut alice, 1)?;
                carol.send_doc(&public("let me in"))?;
                // The message, had it come, would stand before the refusal.
                let wanted = error(ErrorCode::LoginFirst);
                let is_right = carol.document(&wanted, |doc| match doc {
                    ServerDoc::Error { code, .. } => Some(*code == ErrorCode::LoginFirst),
                    ServerDoc::Relay(_) | ServerDoc::Sent { .. } => Some(false),
                    _ => None,
                })?;
                if !is_right {
                    let came = "another error, the message, or an answer as if she were a member";
                    return Err(carol.failure(&wanted).came(came));
                }
                alice.send_doc(&public("among us"))?;
                expect_message(&mut bob, "alice", "among us", &Scope::Public)
            },
        },
        Check {
            name: "taken-over",
            what: "who gives the right password for a name that is there takes it over",
            idea: "A laptop whose lid is closed never says good-bye. Who ends the old connection, and what does its \
                   own thread do to the name when it notices?",
            minutes: 20,
            needs: &["new-account", "register", "existing", "direct"],
            play: |subject| {
                let mut old = registered(subject, "alice")?;
                let mut bob = registered(subject, "bob")?;
                let mut new = back(subject, "alice", PASSWORD)?;
                let farewell = "<SERVER><command>TAKEN OVER</command></SERVER>";
                expect_doc(&mut old, farewell, |doc| {
                    matches!(doc, ServerDoc::TakenOver)
                })?;
                old.end()?;
                bob.send_doc(&direct("alice", "are you back?"))?;
                expect_message(&mut new, "bob", "are you back?", &Scope::Direct)
            },
        },
        Check {
            name: "same-name-at-once",
            what: "of twenty who register one name at the same moment, one gets it",
            idea: "All twenty were told that it is new. What has to be one step, and which lock makes it one?",
            minutes: 20,
            needs: &["new-account", "register", "existing", "wrong-password"],
            play: same_name_at_once,
        },
        Check {
            name: "kept",
            what: "after kill -9 and a start, the account is there",
            idea: "A program that is killed tidies nothing up. What has to have happened before WELCOME is sent?",
            minutes: 20,
            needs: &["new-account", "register", "existing"],
            play: |subject| {
                let alice = registered(subject, "alice")?;
                kill_and_start(subject, [alice])?;
                back(subject, "alice", PASSWORD).map(drop)
            },
        },
        Check {
            name: "twenty-at-once",
            what: "twenty who register at the same moment are all there after kill -9",
            idea: "Twenty threads write one file. What does the second do to what the first has written?",
            minutes: 20,
            needs: &["new-account", "register", "existing", "kept"],
            play: |subject| {
                let names: Vec<String> =
                    (0..AT_ONCE).map(|number| format!("user{number}")).collect();
                let all = all_at_once(subject, &names)?;
                kill_and_start(subject, all)?;
                for name in &names {
                    back(subject, name, PASSWORD)?;
                }
                Ok(())
            },
        },
        Check {
            name: "load",
            what: "200 people, and each hears what one of them says to everyone",
            idea: "A password's hash takes long on purpose. Who waits while yours is made?",
            minutes: 15,
            needs: &["new-account", "register", "public"],
            play: |subject| {
                let names: Vec<String> = (0..CROWD).map(|number| format!("user{number}")).collect();
                let mut all = Vec::new();
                for some in names.chunks(AT_ONCE) {
                    all.extend(all_at_once(subject, some)?);
                }
                let (speaker, others) = all.split_first_mut().ok_or_else(nobody)?;
                speaker.send_doc(&public("hello everyone"))?;
                for other in others {
                    expect_message(other, &names[0], "hello everyone", &Scope::Public)?;
                }
                is_sent(speaker, CROWD - 1)
            },
        },
    ],
};

fn nobody() -> Failure {
    Failure::wanted("somebody")
}

fn password(password: &str) -> ClientDoc<'static> {
    ClientDoc::Command(ClientCommand::Password {
        password: Secret(Cow::Owned(password.to_owned())),
    })
}

fn public(text: &str) -> ClientDoc<'_> {
    ClientDoc::Command(ClientCommand::Public {
        message: Some(Cow::Borrowed(text)),
        me: false,
    })
}

fn direct<'a>(to: &'a str, text: &'a str) -> ClientDoc<'a> {
    ClientDoc::Command(ClientCommand::Direct {
        to: Cow::Borrowed(to),
        message: Cow::Borrowed(text),
        me: false,
    })
}

/// `client` says LOGIN, and is asked for the password of a new account, or of one that is there.
fn asks_for_a_password(client: &mut Talk, name: &str, new: bool) -> Result<(), Failure> {
    client.send_doc(&login(name))?;
    let kind = if new { "new" } else { "existing" };
    let wanted = format!("<SERVER><command>PASSWORD</command><account>{kind}</account></SERVER>");
    let is_right = client.document(&wanted, |doc| match doc {
        ServerDoc::Password { new_account } => Some(*new_account == new),
        _ => None,
    })?;
    match is_right {
        true => Ok(()),
        false => Err(client
            .failure(&wanted)
            .came("the password of the other kind of account is asked for")),
    }
}

/// Somebody who has come for the first time, and is logged in.
fn registered(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = newcomer(subject, name)?;
    asks_for_a_password(&mut client, name, true)?;
    client.send_doc(&password(PASSWORD))?;
    is_welcome(&mut client, name)?;
    Ok(client)
}

/// Somebody who has an account, and is logged in again.
fn back(subject: &Subject<'_>, name: &str, with: &str) -> Result<Talk, Failure> {
    let mut client = newcomer(subject, &format!("{name}, who is back,"))?;
    asks_for_a_password(&mut client, name, false)?;
    client.send_doc(&password(with))?;
    is_welcome(&mut client, name)?;
    Ok(client)
}

/// What `each` does for all of `items`, at the same time, in their order.
fn at_the_same_time<'i, I: Sync, T: Send>(
    items: &'i [I],
    each: impl Fn(&'i I) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    thread::scope(|threads| {
        let all: Vec<_> = items
            .iter()
            .map(|item| threads.spawn(|| each(item)))
            .collect();
        all.into_iter()
            .map(|one| one.join().map_err(|_| nobody())?)
            .collect()
    })
}

/// All of them register, and their passwords come at the same moment.
fn all_at_once(subject: &Subject<'_>, names: &[String]) -> Result<Vec<Talk>, Failure> {
    let asked = at_the_same_time(names, |name| {
        let mut client = newcomer(subject, name)?;
        asks_for_a_password(&mut client, name, true)?;
        Ok((name, parking_lot::Mutex::new(client)))
    })?;
    let start = Barrier::new(asked.len());
    at_the_same_time(&asked, |(name, client)| {
        let mut client = client.lock();
        start.wait();
        client.send_doc(&password(PASSWORD))?;
        is_welcome(&mut client, name)
    })?;
    let clients = asked.into_iter();
    Ok(clients.map(|(_, client)| client.into_inner()).collect())
}

fn same_name_at_once(subject: &Subject<'_>) -> Result<(), Failure> {
    let passwords: Vec<String> = (0..AT_ONCE)
        .map(|number| format!("secret{number}"))
        .collect();
    let asked = at_the_same_time(&passwords, |secret| {
        let mut client = newcomer(subject, "one of twenty who want to be alice")?;
        asks_for_a_password(&mut client, "alice", true)?;
        Ok((secret, parking_lot::Mutex::new(client)))
    })?;
    let wanted = "WELCOME for one of the twenty, and for no other";
    let start = Barrier::new(asked.len());
    let decided = OnceLock::new();
    let let_in = at_the_same_time(&asked, |(secret, client)| {
        let mut client = client.lock();
        let until = Instant::now() + client.patience();
        start.wait();
        client.send_doc(&password(secret))?;
        client.patient(slowed(ANSWER));
        loop {
            let answer = client.document(wanted, |doc| match doc {
                ServerDoc::LoggedIn { .. } => Some(true),
                ServerDoc::Error { .. } => Some(false),
                _ => None,
            });
            match answer {
                Ok(true) => {
                    decided.get_or_init(Instant::now);
                    return Ok(Some(*secret));
                }
                Ok(false) => return Ok(None),
                Err(_) if client.has_ended() => return Ok(None),
                // A server may let those wait who are wrong.
                Err(_)
                    if decided
                        .get()
                        .is_some_and(|at| at.elapsed() > slowed(ANSWER)) =>
                {
                    return Ok(None);
                }
                Err(failure) if Instant::now() > until => return Err(failure),
                Err(_) => {}
            }
        }
    })?;
    let let_in: Vec<&String> = let_in.into_iter().flatten().collect();
    let sent =
        format!("{AT_ONCE} clients sent PASSWORD for alice, each another one, at the same moment");
    let failure = Failure::wanted(wanted).sent(sent);
    match let_in[..] {
        [winner] => back(subject, "alice", winner).map(drop),
        [] => Err(failure.came("an error for each")),
        _ => Err(failure.came(format!("WELCOME for {} of them", let_in.len()))),
    }
}

/// Kills the server, under which these are logged in, and starts it again.
fn kill_and_start(
    subject: &Subject<'_>,
    clients: impl IntoIterator<Item = Talk>,
) -> Result<(), Failure> {
    subject.kill();
    // Connections that end in the ordinary way would keep the port for a minute from a server that
    // has not asked for SO_REUSEADDR.
    clients.into_iter().for_each(Talk::reset);
    subject.start_again()
}

/// The first file in `folder` or below it that holds `bytes`.
fn file_with(folder: &Path, bytes: &[u8]) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // No link is followed: it may lead round in a circle.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = file_with(&path, bytes)? {
                return Ok(Some(found));
            }
        } else if kind.is_file()
            && fs::read(&path)?
                .windows(bytes.len())
                .any(|part| part == bytes)
        {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}
