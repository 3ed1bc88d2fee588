//! Names under load: many registrations at once, a public message to a crowd, accounts that survive
//! a killed server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use portal_chat::server::Settings;
use portal_chat::wire::CloseReason;
use support::running::{Running, program};
use support::sentences;
use support::{
    Client, TestServer, command, handshake, login, message, password, temporary_file, ticket,
    without_timeouts,
};

fn register(client: &mut Client, name: &str) -> String {
    client.send_line(&login(name));
    client.line_with("<command>PASSWORD");
    client.send_line(&password(&format!("secret of {name}")));
    client.line_with("<username>")
}

#[test]
fn pair_chats_while_two_hundred_register() {
    let file = temporary_file("two-hundred");
    let settings = Settings {
        workers: 202,
        accounts: Some(file.clone()),
        ..Settings::default()
    };
    let server = TestServer::start(&settings);
    let mut guests: Vec<Client> = (0..202).map(|_| server.seat().0).collect();
    let (mut bob, mut alice) = (guests.pop().unwrap(), guests.pop().unwrap());
    std::thread::scope(|threads| {
        for (number, client) in guests.iter_mut().enumerate() {
            threads.spawn(move || {
                let welcome = register(client, &format!("user-{number}"));
                assert!(welcome.contains("WELCOME"), "{welcome}");
            });
        }
        for number in 0..200 {
            alice.send_line(&message(&format!("number {number}.")));
            assert!(
                bob.line_with("<message>")
                    .contains(&format!("number {number}."))
            );
        }
    });
    server.server.stop();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line.contains(" $argon2id$"))
            .count(),
        200
    );
    assert_eq!(text.lines().count(), 200);
}

#[test]
fn damaged_account_is_reserved_and_reported() {
    let file = temporary_file("damaged");
    std::fs::write(&file, "# ours\nbob $argon2id$v=19$torn").unwrap();
    let server = TestServer::start(&Settings {
        accounts: Some(file.clone()),
        ..Settings::default()
    });
    let carol_done = server.wait_for_event("damaged-account", None).line();
    for part in [
        "line 2",
        "name bob",
        "restore the line",
        file.to_str().unwrap(),
    ] {
        assert!(carol_done.contains(part), "{carol_done}");
    }
    let (mut mallory, _) = server.seat();
    mallory.send_line(&login("Bob"));
    let reply = mallory.line_with("<error");
    assert!(
        reply.contains("not-saved") && reply.contains(sentences::TELL_THE_OPERATOR),
        "{reply}"
    );
    assert!(register(&mut mallory, "mallory").contains("WELCOME"));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn password_is_normalised() {
    let server = TestServer::start(&Settings {
        accounts: Some(temporary_file("keyboards")),
        ..Settings::default()
    });
    let (mut alice, _) = server.seat();
    alice.send_line(&login("alice"));
    alice.line_with("<command>PASSWORD");
    alice.send_line(&password("in\u{200b}visible"));
    let reply = alice.line_with("<error");
    assert!(
        reply.contains("bad-password") && reply.contains("invisible"),
        "{reply}"
    );
    alice.send_line(&password("cafe\u{301} au\u{a0}lait"));
    alice.line_with("WELCOME");
    let (mut phone, _) = server.seat();
    phone.send_line(&login("alice"));
    phone.line_with("<command>PASSWORD");
    phone.send_line(&password("caf\u{e9} au lait"));
    phone.line_with("WELCOME");
}

#[test]
fn concurrent_registrations_make_one_account() {
    let file = temporary_file("one-name");
    let settings = Settings {
        workers: 8,
        accounts: Some(file.clone()),
        ..without_timeouts()
    };
    let server = TestServer::start(&settings);
    let guests: Vec<Client> = (0..8).map(|_| server.seat().0).collect();
    // The server treats the fourth wrong password as a guess, and delays it.
    let register_all = || -> Vec<String> {
        std::thread::scope(|threads| {
            let threads: Vec<_> = guests
                .into_iter()
                .enumerate()
                .map(|(number, mut client)| {
                    threads.spawn(move || {
                        client.send_line(&login("alice"));
                        client.line_with("<command>PASSWORD");
                        client.send_line(&password(&format!("secret {number}")));
                        loop {
                            let line = client.line();
                            if line.contains("<username>alice") || line.contains("<error") {
                                return line;
                            }
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    };
    let results = server.with_running_clock(register_all);
    assert_eq!(
        results.iter().filter(|end| end.contains("WELCOME")).count(),
        1,
        "{results:?}"
    );
    assert_eq!(
        results
            .iter()
            .filter(|end| end.contains("wrong-password"))
            .count(),
        7,
        "{results:?}"
    );
    server.server.stop();
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn public_message_reaches_499_others_in_order() {
    const GUESTS: usize = 500;
    const MESSAGES: usize = 20;
    let server = TestServer::start(&Settings {
        workers: GUESTS,
        ..Settings::default()
    });
    let mut guests: Vec<Client> = (0..GUESTS).map(|_| server.seat().0).collect();
    for (number, guest) in guests.iter_mut().enumerate() {
        guest.send_line(&login(&format!("n{number}")));
        guest.line_with("WELCOME");
    }
    // The last one never reads; two send at the same time.
    let non_reader = guests.pop().unwrap();
    let (first, rest) = guests.split_at_mut(1);
    let (second, rest) = rest.split_at_mut(1);
    std::thread::scope(|threads| {
        for speaker in [&mut first[0], &mut second[0]] {
            threads.spawn(move || {
                for number in 0..MESSAGES {
                    speaker.send_line(&command(
                        "PM",
                        &format!("<message>number {number}.</message>"),
                    ));
                    let sent = speaker.line_with("SENT");
                    assert!(sent.contains("<count>499</count>"), "{sent}");
                }
            });
        }
    });
    for guest in rest {
        let mut next = [0; 2];
        while next.iter().sum::<usize>() < 2 * MESSAGES {
            let line = guest.line_with("scope='public'");
            let speaker = usize::from(line.contains("from='n1'"));
            assert!(
                line.contains(&format!("number {}.", next[speaker])),
                "{line} instead of {next:?}"
            );
            next[speaker] += 1;
        }
    }
    drop(non_reader);
}

#[test]
fn slow_client_is_dropped_and_not_counted() {
    let server = TestServer::start(&Settings {
        workers: 4,
        ..Settings::default()
    });
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    let (mut non_reader, non_reader_port) = server.seat();
    for (client, name) in [
        (&mut alice, "alice"),
        (&mut bob, "bob"),
        (&mut non_reader, "deaf"),
    ] {
        client.send_line(&login(name));
        client.line_with("WELCOME");
    }
    // Bob reads continuously; otherwise he would be dropped next.
    let reader = std::thread::spawn(move || bob.line_with("the last one"));
    let text = "x".repeat(8000);
    let mut counted = String::new();
    for _ in 0..10_000 {
        alice.send_line(&command("PM", &format!("<message>{text}</message>")));
        counted = alice.line_with("SENT");
        if counted.contains("<count>1</count>") {
            break;
        }
    }
    assert!(counted.contains("<count>1</count>"), "{counted}");
    server.wait_for_close(CloseReason::TooSlow, Some(non_reader_port));
    alice.send_line(&command("PM", "<message>the last one</message>"));
    reader.join().unwrap();
}

#[test]
fn two_servers_do_not_share_an_accounts_file() {
    let file = temporary_file("shared");
    let settings = Settings {
        workers: 2,
        accounts: Some(file.clone()),
        ..Settings::default()
    };
    let first = TestServer::start(&settings);
    let output = program(env!("CARGO_BIN_EXE_chatserver"))
        .args(["0", "--workers", "2", "--accounts"])
        .arg(&file)
        .output()
        .unwrap();
    let output_text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        output_text.contains("another server") && output_text.contains("--accounts"),
        "{output_text}"
    );
    first.server.stop();
    std::fs::remove_file(&file).unwrap();
}

/// Connects with a read timeout: after the server has been killed, its ports may belong to another
/// process that sends nothing.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    Ok(stream)
}

/// A server process that can be killed.
struct Victim {
    child: Running,
    portal: SocketAddr,
}

impl Victim {
    fn start(accounts: &Path) -> Victim {
        let mut child = Running::start(
            program(env!("CARGO_BIN_EXE_chatserver"))
                .args(["0", "--workers", "50", "--quiet", "--accounts"])
                .arg(accounts)
                .stdout(Stdio::piped()),
        );
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let portal = first.split_whitespace().nth(1).unwrap().parse().unwrap();
        Victim { child, portal }
    }

    /// Registers names, one connection after another, until the server is gone. Adds each confirmed
    /// name to `confirmed`.
    fn register_until_it_ends(
        &self,
        names: impl Iterator<Item = String>,
        confirmed: &Mutex<Vec<String>>,
    ) {
        for name in names {
            let attempt = || -> std::io::Result<bool> {
                let mut reply = String::new();
                connect(self.portal)?.read_to_string(&mut reply)?;
                if !reply.contains("<Port>") {
                    return Ok(false);
                }
                let (port, passcode) = ticket(&reply);
                let mut stream = connect(SocketAddr::new(self.portal.ip(), port.get()))?;
                writeln!(
                    stream,
                    "{}\n{}\n{}",
                    handshake(&passcode),
                    login(&name),
                    password("x")
                )?;
                for line in BufReader::new(&stream).lines() {
                    if line?.contains("WELCOME") {
                        return Ok(true);
                    }
                }
                Ok(false)
            };
            match attempt() {
                Ok(true) => confirmed.lock().unwrap().push(name),
                Ok(false) => {}
                // A slow server may reject a client; a killed one is gone.
                Err(_) if TcpStream::connect(self.portal).is_err() => return,
                Err(_) => {}
            }
        }
    }
}

#[test]
fn confirmed_account_survives_kill_9() {
    let file = temporary_file("kill");
    let confirmed = Mutex::new(Vec::new());
    for round in 0..10 {
        let mut victim = Victim::start(&file);
        let before = confirmed.lock().unwrap().len();
        std::thread::scope(|threads| {
            let (victim, confirmed) = (&victim, &confirmed);
            for caller in 0..4 {
                threads.spawn(move || {
                    let names = (0..50).map(move |number| format!("r{round}-{caller}-{number}"));
                    victim.register_until_it_ends(names, confirmed);
                });
            }
            // In the middle of the run, once a few names have been confirmed.
            let start = std::time::Instant::now();
            while confirmed.lock().unwrap().len() < before + 3 + round
                && start.elapsed() < support::PATIENCE
            {
                std::thread::yield_now();
            }
            let killed = Command::new("kill")
                .args(["-9", &victim.child.id().to_string()])
                .status();
            assert!(killed.unwrap().success());
        });
        victim.child.wait().unwrap();
    }
    let opened = portal_chat::accounts::Accounts::open(&file).unwrap();
    let (accounts, damage) = (opened.accounts, opened.damage);
    let confirmed = confirmed.into_inner().unwrap();
    for name in &confirmed {
        assert!(
            accounts.knows(&portal_chat::wire::Name::new(name).unwrap()),
            "{name} is lost"
        );
    }
    assert!(confirmed.len() > 30, "too few names were confirmed");
    println!(
        "{} confirmed accounts, {} damaged lines",
        confirmed.len(),
        damage.len()
    );
    drop(accounts);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn large_turns_drop_no_reading_client() {
    const TURNS: usize = 100;
    const FRAMES: usize = 8;
    let server = TestServer::start(&Settings {
        workers: 4,
        ..Settings::default()
    });
    let mut guests: Vec<Client> = (0..3).map(|_| server.seat().0).collect();
    for (number, guest) in guests.iter_mut().enumerate() {
        guest.send_line(&login(&format!("n{number}")));
        guest.line_with("WELCOME");
    }
    let mut carol = guests.pop().unwrap();
    let (mut bob, mut alice) = (guests.pop().unwrap(), guests.pop().unwrap());
    // Escaped, an apostrophe takes six bytes, so one turn of 64 KiB becomes 384 KiB.
    let turn = format!(
        "<CLIENT><command>PM</command><message>{}</message></CLIENT>\n",
        "'".repeat(8000)
    )
    .repeat(FRAMES);
    // The sender waits until the others have read each turn, so no client falls more than one turn
    // behind, and none should be dropped for falling behind.
    let (carol_done, carol_read) = std::sync::mpsc::channel();
    let (bob_done, bob_read) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for _ in 0..TURNS {
                alice.send(turn.as_bytes());
                for _ in 0..FRAMES {
                    alice.line_with("SENT");
                }
                carol_read.recv().unwrap();
                bob_read.recv().unwrap();
            }
        });
        threads.spawn(move || {
            for _ in 0..TURNS {
                bob.send_line(&command("PM", "<message>x</message>"));
                let mut received = 0;
                while received < FRAMES {
                    received += usize::from(bob.line().contains("scope='public'"));
                }
                bob_done.send(()).unwrap();
            }
        });
        for _ in 0..TURNS {
            let mut received = 0;
            while received < FRAMES {
                received += usize::from(carol.line().contains("from='n0'"));
            }
            carol_done.send(()).unwrap();
        }
    });
    carol.send_line(&command("PING", ""));
    carol.line_with("PONG");
}
