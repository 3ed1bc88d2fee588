//! Rung 5: names with passwords, public and direct messages, and accounts that survive `kill -9`.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{
    connect_client, error, expect_doc, expect_error, expect_message, expect_sent, expect_welcome,
    login,
};
use super::failure::{Failure, Symptom};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_core::clock::slowed;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Scope, Secret, ServerDoc};

/// The number of clients that register at the same time.
const AT_ONCE: usize = 20;

/// The number of rounds in the check `twenty-at-once`. Each round is a race.
const ROUNDS: usize = 3;

/// The number of clients in the check `load`.
const CROWD: usize = 200;

/// Once one client is logged in, a client without a reply for this long counts as rejected.
const ANSWER: Duration = Duration::from_millis(500);

/// The idea to show if the server does not start again.
const PORT_IN_USE: &str = "Look at what your program printed. If the address is in use, the reason \
                           may be that the system remembers a port's old connections for a minute \
                           (TIME_WAIT). Which socket option lets a server bind the port anyway?";

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
            what: "for a name without an account, the server asks for a new password",
            idea: "LOGIN has two possible replies now. Which lookup decides between them?",
            minutes: 10,
            needs: &[],
            play: |subject| {
                let mut alice = connect_client(subject, "alice")?;
                expect_password_request(&mut alice, "alice", true)
            },
        },
        Check {
            name: "register",
            what: "the first password for a name creates its account",
            idea: "What must the client's thread remember between LOGIN and PASSWORD?",
            minutes: 10,
            needs: &["new-account"],
            play: |subject| register(subject, "alice").map(drop),
        },
        Check {
            name: "existing",
            what: "a client logs in to an existing account with its password",
            idea: "Is the list of clients that are online the same as the list of accounts?",
            minutes: 15,
            needs: &["new-account", "register"],
            play: |subject| {
                register(subject, "alice")?.reset();
                log_in(subject, "alice", PASSWORD).map(drop)
            },
        },
        Check {
            name: "wrong-password",
            what: "a wrong password is rejected, and the right one is still accepted afterwards",
            idea: "Compare first, then log the client in. What state is the client in after the \
                   error?",
            minutes: 10,
            needs: &["new-account", "register", "existing"],
            play: |subject| {
                register(subject, "alice")?.reset();
                let mut alice = connect_client(subject, "alice")?;
                expect_password_request(&mut alice, "alice", false)?;
                alice.send_doc(&password("the sun"))?;
                expect_error(&mut alice, ErrorCode::WrongPassword)?;
                alice.send_doc(&password(PASSWORD))?;
                expect_welcome(&mut alice, "alice")
            },
        },
        Check {
            name: "three-wrong",
            what: "the third wrong password closes the connection",
            idea: "With unlimited guesses, an attacker will eventually find any password. Where do \
                   you count wrong passwords, and to what does each count belong?",
            minutes: 5,
            needs: &["new-account", "register", "existing", "wrong-password"],
            play: |subject| {
                register(subject, "alice")?.reset();
                let mut thief = connect_client(subject, "a client that guesses passwords")?;
                expect_password_request(&mut thief, "alice", false)?;
                for guess in ["the sun", "the earth", "the sea"] {
                    thief.send_doc(&password(guess))?;
                    expect_error(&mut thief, ErrorCode::WrongPassword)?;
                }
                thief.end()
            },
        },
        Check {
            name: "whatever-its-case",
            what: "ALICE and alice are one account, which keeps the spelling with which it was registered",
            idea: "The key that you look up need not be the name that you show.",
            minutes: 10,
            needs: &["new-account", "register", "existing"],
            play: |subject| {
                register(subject, "alice")?.reset();
                let mut loud = connect_client(subject, "ALICE")?;
                expect_password_request(&mut loud, "ALICE", false)?;
                loud.send_doc(&password(PASSWORD))?;
                expect_welcome(&mut loud, "alice")
            },
        },
        Check {
            name: "not-in-plain-text",
            what: "the server's files contain no password in plain text",
            idea: "You can check a password without storing it. What can you store instead, and \
                   what is the salt for? Does anything else, such as a log, keep what arrives?",
            minutes: 20,
            needs: &["new-account", "register"],
            play: |subject| {
                let _alice = register(subject, "alice")?;
                let Some(folder) = subject.folder() else {
                    return Ok(());
                };
                let expected = Failure::expected("no file that contains a password in plain text")
                    .sent("alice registered");
                match file_with(folder, PASSWORD.as_bytes()) {
                    Ok(None) => Ok(()),
                    Ok(Some(file)) => {
                        Err(expected.received(format!("{file} contains alice's password")))
                    }
                    Err(error) => {
                        Err(expected.received(format!("a file that can't be read: {error}")))
                    }
                }
            },
        },
        Check {
            name: "public",
            what: "a public message reaches everyone else, and its sender receives the number of recipients",
            idea: "Here you need a loop over all clients. Does it include the sender?",
            minutes: 15,
            needs: &["new-account", "register"],
            play: |subject| {
                let mut alice = register(subject, "alice")?;
                let mut bob = register(subject, "bob")?;
                let mut carol = register(subject, "carol")?;
                alice.send_doc(&public("hello everyone"))?;
                expect_message(&mut bob, "alice", "hello everyone", &Scope::Public)?;
                expect_message(&mut carol, "alice", "hello everyone", &Scope::Public)?;
                expect_sent(&mut alice, 2)?;
                // If the message had reached alice too, it would be the first one that she
                // receives.
                bob.send_doc(&public("hello alice"))?;
                expect_message(&mut alice, "bob", "hello alice", &Scope::Public)
            },
        },
        Check {
            name: "direct",
            what: "a direct message reaches only its recipient",
            idea: "A direct message is rung 4's message inside a command. Which function can send \
                   both?",
            minutes: 10,
            needs: &["new-account", "register"],
            play: |subject| {
                let mut alice = register(subject, "alice")?;
                let mut bob = register(subject, "bob")?;
                let mut carol = register(subject, "carol")?;
                alice.send_doc(&direct("bob", "a secret"))?;
                expect_message(&mut bob, "alice", "a secret", &Scope::Direct)?;
                expect_sent(&mut alice, 1)?;
                alice.send_doc(&direct("carol", "no secret"))?;
                expect_message(&mut carol, "alice", "no secret", &Scope::Direct)?;
                alice.send_doc(&direct("dave", "are you there?"))?;
                expect_error(&mut alice, ErrorCode::NoSuchUser)
            },
        },
        Check {
            name: "members-only",
            what: "a client that has not sent its password can neither send nor receive messages",
            idea: "When does a client join the list of recipients: when it sends a name, or when \
                   it has proved its identity?",
            minutes: 10,
            needs: &["new-account", "register", "public"],
            play: |subject| {
                let mut alice = register(subject, "alice")?;
                let mut bob = register(subject, "bob")?;
                let mut carol = connect_client(subject, "carol, without a password")?;
                expect_password_request(&mut carol, "carol", true)?;
                alice.send_doc(&public("for members"))?;
                expect_message(&mut bob, "alice", "for members", &Scope::Public)?;
                expect_sent(&mut alice, 1)?;
                carol.send_doc(&public("let me in"))?;
                // If the message had reached carol, it would precede the error.
                let expected = error(ErrorCode::LoginFirst);
                let is_right = carol.document(&expected, |doc| match doc {
                    ServerDoc::Error { code, .. } => Some(*code == ErrorCode::LoginFirst),
                    ServerDoc::Relay(_) | ServerDoc::Sent { .. } => Some(false),
                    _ => None,
                })?;
                if !is_right {
                    let received =
                        "another error, the message, or a reply as if carol were logged in";
                    return Err(carol.failure(&expected).received(received));
                }
                alice.send_doc(&public("among us"))?;
                expect_message(&mut bob, "alice", "among us", &Scope::Public)
            },
        },
        Check {
            name: "taken-over",
            what: "logging in with the right password takes over a name that is online",
            idea: "A laptop whose lid is closed does not close its connection. Which thread closes \
                   the old connection, and what does that connection's own thread do with the name \
                   when it notices?",
            minutes: 20,
            needs: &["new-account", "register", "existing", "direct"],
            play: |subject| {
                let mut old = register(subject, "alice")?;
                let mut bob = register(subject, "bob")?;
                let mut new = log_in(subject, "alice", PASSWORD)?;
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
            what: "if twenty clients register the same name at the same time, exactly one of them gets it",
            idea: "All twenty received PASSWORD for a new account. What must happen in one step, \
                   and which lock ensures that?",
            minutes: 20,
            needs: &["new-account", "register", "existing", "wrong-password"],
            play: same_name_at_once,
        },
        Check {
            name: "kept",
            what: "an account survives kill -9 and a restart",
            idea: "A killed program does not clean up. What must have happened before WELCOME is \
                   sent?",
            minutes: 20,
            needs: &["new-account", "register", "existing"],
            play: |subject| {
                let alice = register(subject, "alice")?;
                // The server's end is closed first, so it stays in TIME_WAIT. The server must be
                // able to bind its port nevertheless.
                subject.kill();
                drop(alice);
                subject.start_again()?;
                log_in(subject, "alice", PASSWORD)
                    .map_err(|failure| failure.hint(Symptom::NotListening, PORT_IN_USE))
                    .map(drop)
            },
        },
        Check {
            name: "twenty-at-once",
            what: "twenty accounts that are registered at the same time all survive kill -9",
            idea: "Twenty threads write to one file. What does the second write do to the first?",
            minutes: 20,
            needs: &["new-account", "register", "existing", "kept"],
            play: |subject| {
                for round in 0..ROUNDS {
                    let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
                    let names: Vec<String> =
                        numbers.map(|number| format!("user{number}")).collect();
                    let all = register_all(subject, &names)?;
                    kill_and_start(subject, all)?;
                    for name in &names {
                        log_in(subject, name, PASSWORD)?;
                    }
                }
                Ok(())
            },
        },
        Check {
            name: "load",
            what: "with 200 clients, a public message reaches all clients except its sender",
            idea: "A password hash is slow on purpose. Which clients wait while your server \
                   computes one?",
            minutes: 15,
            needs: &["new-account", "register", "public"],
            play: |subject| {
                let names: Vec<String> = (0..CROWD).map(|number| format!("user{number}")).collect();
                let mut all = Vec::new();
                for some in names.chunks(AT_ONCE) {
                    all.extend(register_all(subject, some)?);
                }
                let (speaker, others) = all.split_first_mut().ok_or_else(no_client)?;
                speaker.send_doc(&public("hello everyone"))?;
                for other in others {
                    expect_message(other, &names[0], "hello everyone", &Scope::Public)?;
                }
                expect_sent(speaker, CROWD - 1)
            },
        },
    ],
};

fn no_client() -> Failure {
    Failure::expected("a client")
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

/// The request for the password for a new account, or for an existing one.
fn request_for(new: bool) -> String {
    let kind = if new { "new" } else { "existing" };
    format!("<SERVER><command>PASSWORD</command><account>{kind}</account></SERVER>")
}

/// Sends LOGIN and expects the request for the password for a new account, or for an existing one.
fn expect_password_request(client: &mut Talk, name: &str, new: bool) -> Result<(), Failure> {
    client.send_doc(&login(name))?;
    let expected = request_for(new);
    let is_right = client.document(&expected, |doc| match doc {
        ServerDoc::Password { new_account } => Some(*new_account == new),
        _ => None,
    })?;
    match is_right {
        true => Ok(()),
        false => Err(client.failure(&expected).received(request_for(!new))),
    }
}

/// Connects a client and registers `name`.
fn register(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = connect_client(subject, name)?;
    expect_password_request(&mut client, name, true)?;
    client.send_doc(&password(PASSWORD))?;
    expect_welcome(&mut client, name)?;
    Ok(client)
}

/// Connects a client and logs in to the existing account `name`.
fn log_in(subject: &Subject<'_>, name: &str, with: &str) -> Result<Talk, Failure> {
    let mut client = connect_client(subject, &format!("{name}'s new client"))?;
    expect_password_request(&mut client, name, false)?;
    client.send_doc(&password(with))?;
    expect_welcome(&mut client, name)?;
    Ok(client)
}

/// Calls `each` for all of `items` in parallel. The results are in the order of the items.
fn in_parallel<'i, I: Sync, T: Send>(
    items: &'i [I],
    each: impl Fn(&'i I) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    thread::scope(|threads| {
        let all: Vec<_> = items
            .iter()
            .map(|item| threads.spawn(|| each(item)))
            .collect();
        all.into_iter()
            .map(|one| one.join().map_err(|_| no_client())?)
            .collect()
    })
}

/// Registers all names. The passwords are sent at the same time.
fn register_all(subject: &Subject<'_>, names: &[String]) -> Result<Vec<Talk>, Failure> {
    let asked = in_parallel(names, |name| {
        let mut client = connect_client(subject, name)?;
        expect_password_request(&mut client, name, true)?;
        Ok((name, parking_lot::Mutex::new(client)))
    })?;
    let start = Barrier::new(asked.len());
    in_parallel(&asked, |(name, client)| {
        let mut client = client.lock();
        start.wait();
        client.send_doc(&password(PASSWORD))?;
        let welcome = expect_welcome(&mut client, name);
        welcome.map_err(|failure| {
            failure.hint(
                Symptom::Closed,
                "Many clients register at once. Did an exception end this visit? Look at what your \
                 program printed: which data, or which file, do several threads change at once?",
            )
        })
    })?;
    let clients = asked.into_iter();
    Ok(clients.map(|(_, client)| client.into_inner()).collect())
}

fn same_name_at_once(subject: &Subject<'_>) -> Result<(), Failure> {
    let passwords: Vec<String> = (0..AT_ONCE)
        .map(|number| format!("secret{number}"))
        .collect();
    let asked = in_parallel(&passwords, |secret| {
        let mut client = connect_client(subject, "one of twenty clients that register alice")?;
        expect_password_request(&mut client, "alice", true)?;
        Ok((secret, parking_lot::Mutex::new(client)))
    })?;
    let expected = "WELCOME for one of the twenty, and for no other";
    let start = Barrier::new(asked.len());
    let decided = OnceLock::new();
    let logged_in = in_parallel(&asked, |(secret, client)| {
        let mut client = client.lock();
        let until = Instant::now() + client.patience();
        start.wait();
        client.send_doc(&password(secret))?;
        client.set_patience(slowed(ANSWER));
        loop {
            let answer = client.document(expected, |doc| match doc {
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
                // A server may delay its reply to a wrong password.
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
    let logged_in: Vec<&String> = logged_in.into_iter().flatten().collect();
    let sent = format!(
        "{AT_ONCE} clients sent PASSWORD for alice, each with its own password, at the same time"
    );
    let failure = Failure::expected(expected).sent(sent);
    match logged_in[..] {
        [winner] => log_in(subject, "alice", winner).map(drop),
        [] => Err(failure.received("an error for each of them")),
        _ => Err(failure.received(format!("WELCOME for {} of them", logged_in.len()))),
    }
}

/// Kills the server to which `clients` are logged in, and starts it again.
fn kill_and_start(
    subject: &Subject<'_>,
    clients: impl IntoIterator<Item = Talk>,
) -> Result<(), Failure> {
    subject.kill();
    // Connections that are closed normally would stay in TIME_WAIT for a minute, and a server that
    // does not set SO_REUSEADDR could not bind its port until then.
    clients.into_iter().for_each(Talk::reset);
    subject.start_again()
}

/// The first file in `folder` or its subfolders that contains `bytes`.
fn file_with(folder: &Path, bytes: &[u8]) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // Symbolic links are not followed, because they may form a cycle.
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
