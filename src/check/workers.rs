//! Rung 7: the portal, its workers, their passcodes and their timeouts (seed 000, whose nine rules
//! are checked here).

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{PortalTicket, expect_doc, expect_message, expect_rejected, handshake};
use super::failure::Failure;
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_core::clock::slowed;
use portal_wire::{ClientCommand, ClientDoc, Scope, ServerDoc};

/// The workers' ports are so many after the portal's.
const WORKERS: u16 = 4;

/// How long a ticket is good, how long a caller has for its passcode, and how long a visit may be
/// silent and last. The task names them.
const RESERVATION: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(6);

fn reservation() -> Duration {
    slowed(RESERVATION)
}

fn handshake_time() -> Duration {
    slowed(HANDSHAKE)
}

fn idle() -> Duration {
    slowed(IDLE)
}

fn total_time() -> Duration {
    slowed(TOTAL)
}

/// How often the portal is asked while it is full, and how often somebody speaks who is not to be
/// idle.
const AGAIN: Duration = Duration::from_millis(50);
const SPEAK: Duration = Duration::from_millis(300);

/// Visits of the hostile crowd and of the large one, each by so many threads at once.
const HOSTILE: usize = 48;
const VISITS: usize = 200;

/// Rounds of the check `backlog`, and the strays that wait in each.
const BACKLOG_ROUNDS: usize = 3;
const WAITING: usize = 4;

/// Passcodes that are compared, the least length of one, and the least range of numeric ones.
const PASSCODES: usize = 24;
const SHORTEST_PASSCODE: usize = 6;
const NUMERIC_RANGE: u128 = 1_000_000;

const TICKET: &[&str] = &["ticket"];
const SEAT: &[&str] = &["ticket", "greeting"];
const BACK: &[&str] = &["ticket", "greeting", "full"];

pub(super) const RUNG: Rung = Rung {
    number: 7,
    title: "the portal and its workers",
    task: include_str!("../lesson/tasks/7-the-portal-and-its-workers.md"),
    kind: Kind::Server,
    keeps_something: false,
    more_ports: WORKERS,
    checks: &[
        Check {
            name: "ticket",
            what: "who connects to the portal is told a worker's port and a passcode, and the connection is closed",
            idea: "The portal speaks first and never reads. Where does it take the port from?",
            minutes: 20,
            needs: &[],
            play: |subject| {
                let wanted = "a worker's ticket, since nobody is there yet";
                match ask(subject)? {
                    Some(_) => Ok(()),
                    None => Err(Failure::wanted(wanted)
                        .sent("a client connected to the portal")
                        .came("FULL")),
                }
            },
        },
        Check {
            name: "greeting",
            what: "who shows its passcode at the worker's port is greeted",
            idea: "Each worker is a thread with a listener, which serves one client at a time: rung 1.",
            minutes: 20,
            needs: TICKET,
            play: |subject| seated(subject).map(drop),
        },
        Check {
            name: "full",
            what: "when all four ports are given away, the portal says FULL, and gives none twice",
            idea: "What does the stack return when it is empty?",
            minutes: 10,
            needs: TICKET,
            play: each_once,
        },
        Check {
            name: "pairs",
            what: "what the client of one worker says comes to the client of its partner, and to nobody else",
            idea: "Given a worker's number, which number is its partner's? (Two of the operators on bits do it in one \
                   step.)",
            minutes: 20,
            needs: SEAT,
            play: pairs,
        },
        Check {
            name: "terminate",
            what: "TERMINATE ends the visit, and the port goes back, with another passcode",
            idea: "Which thread pushes the port, and what has to be over by then?",
            minutes: 15,
            needs: BACK,
            play: |subject| {
                let (mut client, ticket) = seated(subject)?;
                client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
                client.end_after_news("the end of the connection")?;
                comes_back(subject, &ticket, "said TERMINATE").map(drop)
            },
        },
        Check {
            name: "vanishes",
            what: "when a client's connection breaks, the port goes back as well",
            idea: "Every way out of a visit has to pass the place where the port is pushed.",
            minutes: 10,
            needs: BACK,
            play: |subject| {
                let (client, ticket) = seated(subject)?;
                client.reset();
                comes_back(subject, &ticket, "broke its connection off").map(drop)
            },
        },
        Check {
            name: "wrong-passcode",
            what: "a wrong passcode is turned away, and the right one is no good after it",
            idea: "Who may try again for ever will guess it. What changes after the one chance?",
            minutes: 15,
            needs: BACK,
            play: |subject| {
                let ticket = ask_again(subject)?;
                let mut guesser = subject.connect_to(ticket.port, "somebody who guesses")?;
                guesser.send_doc(&handshake("no such passcode"))?;
                expect_rejected(&mut guesser, "worker")?;
                let mut late =
                    subject.connect_to(ticket.port, "who tries the right one after that")?;
                late.send_doc(&handshake(&ticket.passcode))?;
                expect_rejected(&mut late, "worker")?;
                comes_back(subject, &ticket, "gave a wrong passcode").map(drop)
            },
        },
        Check {
            name: "no-show",
            what: "a port whose client does not come goes back after a second, and its passcode is worth nothing",
            idea: "Nothing happens, and something has to be done. Which thread is awake? (The seed has an interrupt \
                   that ticks.)",
            minutes: 30,
            needs: BACK,
            play: |subject| {
                let start = Instant::now();
                let ticket = ask_again(subject)?;
                let next = comes_back(subject, &ticket, "did not come")?;
                is_not_before(start, reservation(), "the port came back")?;
                let mut late = subject.connect_to(next.port, "who comes too late")?;
                late.send_doc(&handshake(&ticket.passcode))?;
                expect_rejected(&mut late, "worker")
            },
        },
        Check {
            name: "stray",
            what: "somebody whom nobody has sent is turned away, and costs nobody a port",
            idea: "The worker's port was on the stack all the time. Has this visit popped it?",
            minutes: 15,
            needs: &["ticket", "greeting", "full", "no-show"],
            play: |subject| {
                // It listens before its workers do, perhaps.
                let ticket = ask_again(subject)?;
                let others = subject.address.port() + 1..=subject.address.port() + WORKERS;
                for port in others.filter(|port| *port != ticket.port) {
                    let mut stray = subject.connect_to(port, "a stray")?;
                    stray.send_doc(&handshake("nobody has sent me"))?;
                    expect_rejected(&mut stray, "worker")?;
                }
                each_once(subject)
            },
        },
        Check {
            name: "backlog",
            what: "who calls a worker that has a client waits, is turned away when that has gone, and harms nobody",
            idea: "The system accepts for you; your accept() fetches later. Who is still in the queue when the port \
                   goes back?",
            minutes: 30,
            needs: &["ticket", "greeting", "full", "terminate"],
            play: |subject| {
                // Some wait silently: a worker that takes one of them for its next client waits for
                // its passcode while that client's reservation expires.
                for round in 0..BACKLOG_ROUNDS {
                    let (mut client, ticket) = seated(subject)?;
                    let mut waiting = Vec::new();
                    for number in 0..WAITING {
                        let mut stray =
                            subject.connect_to(ticket.port, "a stray that waits in the backlog")?;
                        if (number + round) % 2 == 0 {
                            stray.send_doc(&handshake(&ticket.passcode))?;
                        }
                        waiting.push(stray);
                    }
                    client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
                    client.end_after_news("the end of the connection")?;
                    let next = comes_back(subject, &ticket, "said TERMINATE")?;
                    let next = enter(subject, &next)?;
                    for stray in &mut waiting {
                        expect_rejected(stray, "worker")?;
                    }
                    drop(next);
                }
                Ok(())
            },
        },
        Check {
            name: "silent",
            what: "a caller that gives no passcode is told IDLE TIMEOUT after a second, and its port goes back",
            idea: "A read can be given a time. What does it return when that is over?",
            minutes: 20,
            needs: BACK,
            play: |subject| {
                let ticket = ask_again(subject)?;
                let start = Instant::now();
                let mut silent = subject.connect_to(ticket.port, "a caller that says nothing")?;
                is_idle(&mut silent)?;
                is_not_before(start, handshake_time(), "IDLE TIMEOUT came")?;
                comes_back(subject, &ticket, "gave no passcode").map(drop)
            },
        },
        Check {
            name: "idle",
            what: "a client that has said nothing for two seconds is told IDLE TIMEOUT; one that speaks is not",
            idea: "What does every message reset?",
            minutes: 20,
            needs: BACK,
            play: |subject| {
                let (mut client, ticket) = seated(subject)?;
                // Without it, it would be idle sooner than it may be.
                thread::sleep(idle() * 3 / 4);
                let start = Instant::now();
                client.send_doc(&ClientDoc::message("the last word"))?;
                is_idle(&mut client)?;
                is_not_before(start, idle(), "IDLE TIMEOUT came")?;
                comes_back(subject, &ticket, "was silent for too long").map(drop)
            },
        },
        Check {
            name: "total",
            what: "a client is told TOTAL TIME TIMEOUT after six seconds, however much it says",
            idea: "This one is reset by nothing. Is it the read's time, or the clock's?",
            minutes: 15,
            needs: BACK,
            play: total,
        },
        Check {
            name: "passcodes",
            what: "a passcode can't be guessed from the ones before it",
            idea: "How many passcodes would an attacker have to try? Ask the system for random bytes; a counter, the \
                   time and a small number are all guessable.",
            minutes: 10,
            needs: BACK,
            play: passcodes,
        },
        Check {
            name: "each-port-once",
            what: "after a hostile crowd each port is on the stack once",
            idea: "Two ways out of one visit, and both push. Could you write it so that a port can only be given back \
                   by whoever has it?",
            minutes: 30,
            needs: &[
                "ticket",
                "greeting",
                "full",
                "terminate",
                "vanishes",
                "wrong-passcode",
                "stray",
                "no-show",
                "silent",
            ],
            play: hostile_crowd,
        },
        Check {
            name: "load",
            what: "200 visits, four at a time",
            idea: "Between a port's going back and its next client nobody waits for a tick. Who does, in yours?",
            minutes: 10,
            needs: &["ticket", "greeting", "full", "terminate"],
            play: |subject| {
                by_four(VISITS, |_| {
                    let (mut client, _) = seated(subject)?;
                    client.send_doc(&ClientDoc::message("hello"))?;
                    client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
                    client.end_after_news("the end of the connection, after TERMINATE")
                })
            },
        },
    ],
};

/// Collects passcodes from one visit after another, and looks for a pattern.
fn passcodes(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut seen = Vec::new();
    for _ in 0..PASSCODES {
        let (mut client, ticket) = seated(subject)?;
        client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
        client.end_after_news("the end of the connection")?;
        seen.push(ticket.passcode);
    }
    let sent = format!("{PASSCODES} clients visited, one after the other");
    let wrong = |came: String| {
        let wanted = "passcodes that can't be guessed";
        Err(Failure::wanted(wanted).sent(&sent).came(came))
    };
    if let Some(short) = seen.iter().find(|code| code.len() < SHORTEST_PASSCODE) {
        return wrong(format!(
            "{short:?}, which is shorter than {SHORTEST_PASSCODE} characters"
        ));
    }
    let mut sorted = seen.clone();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("{:?} twice", pair[0]));
    }
    // A counter and the time show as numbers in a small range, decimal or hexadecimal.
    for radix in [10, 16] {
        let numbers: Result<Vec<u128>, _> = seen
            .iter()
            .map(|code| u128::from_str_radix(code, radix))
            .collect();
        let Ok(numbers) = numbers else {
            continue;
        };
        let (least, most) = (numbers.iter().min(), numbers.iter().max());
        if let (Some(least), Some(most)) = (least, most)
            && most - least < NUMERIC_RANGE
        {
            let first: Vec<&str> = seen.iter().take(4).map(String::as_str).collect();
            return wrong(format!(
                "numbers close to each other: {}, …",
                first.join(", ")
            ));
        }
    }
    Ok(())
}

/// Asks the portal once. `None` when it is full.
fn ask(subject: &Subject<'_>) -> Result<Option<PortalTicket>, Failure> {
    let mut client = subject.connect("a client of the portal")?;
    let wanted = "<SERVER type='worker'><Port>…</Port><HandshakePasscode>…</HandshakePasscode></SERVER> \
                  or <SERVER><command>FULL</command></SERVER>";
    let ticket = client.document(wanted, |doc| match doc {
        ServerDoc::Ticket { port, passcode } => Some(Some(PortalTicket {
            port: port.get(),
            passcode: passcode.clone().into_owned(),
        })),
        ServerDoc::Full => Some(None),
        _ => None,
    })?;
    client.end()?;
    let first = subject.address.port() + 1;
    let last = subject.address.port() + WORKERS;
    match ticket {
        Some(ticket) if !(first..=last).contains(&ticket.port) => Err(client
            .failure(format!("a port from {first} to {last}"))
            .came(ticket.port)),
        ticket => Ok(ticket),
    }
}

/// Asks the portal until it has a port.
fn ask_again(subject: &Subject<'_>) -> Result<PortalTicket, Failure> {
    // Whoever is there is gone after so long.
    let until = Instant::now() + total_time() + subject.patience;
    loop {
        if let Some(ticket) = ask(subject)? {
            return Ok(ticket);
        }
        if Instant::now() > until {
            return Err(Failure::wanted("a port, sooner or later")
                .sent("a client asked the portal again and again")
                .came("FULL, each time"));
        }
        thread::sleep(AGAIN);
    }
}

/// Goes where `ticket` leads.
fn enter(subject: &Subject<'_>, ticket: &PortalTicket) -> Result<Talk, Failure> {
    let port = ticket.port;
    let mut client = subject.connect_to(port, &format!("the client of worker {port}"))?;
    client.send_doc(&handshake(&ticket.passcode))?;
    let wanted = format!(
        "<SERVER type='worker' port='{port}'><message>Connection successful</message></SERVER>"
    );
    expect_doc(
        &mut client,
        &wanted,
        |doc| matches!(doc, ServerDoc::Welcome { port: at, room: None, .. } if at.get() == port),
    )?;
    Ok(client)
}

/// Somebody at a worker's port.
fn seated(subject: &Subject<'_>) -> Result<(Talk, PortalTicket), Failure> {
    let ticket = ask_again(subject)?;
    Ok((enter(subject, &ticket)?, ticket))
}

fn is_idle(client: &mut Talk) -> Result<(), Failure> {
    let wanted = "<SERVER><command>IDLE TIMEOUT</command></SERVER>";
    client.patient(idle() + client.patience());
    expect_doc(client, wanted, |doc| matches!(doc, ServerDoc::IdleTimeout))?;
    client.end()
}

/// Less than `least` since `start` would be too early for `what`.
fn is_not_before(start: Instant, least: Duration, what: &str) -> Result<(), Failure> {
    let after = start.elapsed();
    match after >= least {
        true => Ok(()),
        false => Err(
            Failure::wanted(format!("nothing before {} s were over", least.as_secs()))
                .sent("a client did nothing")
                .came(format!("{what} after {} ms", after.as_millis())),
        ),
    }
}

/// The port of `ticket`, whose client has done `what`, is given to somebody else, with another
/// passcode.
fn comes_back(
    subject: &Subject<'_>,
    ticket: &PortalTicket,
    what: &str,
) -> Result<PortalTicket, Failure> {
    let until = Instant::now() + reservation() + subject.patience;
    loop {
        // Those of other ports are left to themselves: their clients do not come.
        match ask(subject)? {
            Some(next) if next.port == ticket.port && next.passcode != ticket.passcode => {
                return Ok(next);
            }
            Some(next) if next.port == ticket.port => {
                return Err(
                    Failure::wanted(format!("another passcode for port {}", next.port))
                        .sent(format!("its client {what}"))
                        .came("the same one"),
                );
            }
            Some(_) | None => {}
        }
        if Instant::now() > until {
            return Err(Failure::wanted(format!(
                "port {}, sooner or later, from the portal",
                ticket.port
            ))
            .sent(format!("its client {what}, and others asked the portal"))
            .came("other ports and FULL"));
        }
        thread::sleep(AGAIN);
    }
}

/// Nobody is there any more, or will soon not be: then each port is given away once, and then the
/// portal is full.
fn each_once(subject: &Subject<'_>) -> Result<(), Failure> {
    let until = Instant::now() + total_time() + subject.patience;
    let sent = "clients asked the portal, one after the other";
    let mut pause = reservation();
    loop {
        let mut given: BTreeMap<u16, Instant> = BTreeMap::new();
        let mut asked_at = Instant::now();
        while let Some(ticket) = ask(subject)? {
            let now = Instant::now();
            // From before the one was asked for until after the other has come: no shorter than
            // what is between them. Should even an answer take longer than that, it does not go on
            // for ever.
            let before = given.insert(ticket.port, asked_at);
            asked_at = now;
            if before.is_some_and(|before| now.duration_since(before) < reservation())
                || now > until
            {
                let wanted = "each port once, and then FULL";
                let came = format!("port {} for two of them", ticket.port);
                return Err(Failure::wanted(wanted).sent(sent).came(came));
            }
        }
        if given.len() == usize::from(WORKERS) {
            return Ok(());
        }
        if Instant::now() > until {
            let wanted = format!("{WORKERS} ports, and then FULL");
            let came = format!("{} of them, and then FULL", given.len());
            return Err(Failure::wanted(wanted).sent(sent).came(came));
        }
        // Until the tickets that were just taken are worth nothing. Longer each time, or one that
        // comes back a little late would be missing again and again.
        pause += reservation() / 2;
        thread::sleep(pause);
    }
}

fn pairs(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut clients = BTreeMap::new();
    for _ in 0..WORKERS {
        let (client, ticket) = seated(subject)?;
        clients.insert(ticket.port, client);
    }
    let mut clients: Vec<(u16, Talk)> = clients.into_iter().collect();
    // Twice: had a message gone to somebody else as well, it would be the first that they hear
    // then.
    for round in 0..2 {
        for speaker in 0..clients.len() {
            let (port, client) = &mut clients[speaker];
            let from = port.to_string();
            let text = format!("message {round} from {from}");
            client.send_doc(&ClientDoc::message(text.as_str()))?;
            let (_, partner) = &mut clients[speaker ^ 1];
            expect_message(partner, &from, &text, &Scope::Partner)?;
        }
    }
    Ok(())
}

fn total(subject: &Subject<'_>) -> Result<(), Failure> {
    let ticket = ask_again(subject)?;
    let start = Instant::now();
    let mut client = enter(subject, &ticket)?;
    let wanted = "<SERVER><command>TOTAL TIME TIMEOUT</command></SERVER>";
    let until = start + total_time() + subject.patience;
    client.patient(SPEAK);
    loop {
        let told = expect_doc(&mut client, wanted, |doc| {
            matches!(doc, ServerDoc::TotalTimeTimeout)
        });
        match told {
            Ok(()) => break,
            Err(failure) if client.has_ended() || Instant::now() > until => return Err(failure),
            // What it writes may break on a connection that has just been closed; what came before
            // that counts.
            Err(_) => client.send_to_whoever("<CLIENT><message>still here</message></CLIENT>\n"),
        }
    }
    is_not_before(start, total_time(), "TOTAL TIME TIMEOUT came")?;
    client.patient(subject.patience);
    client.end()?;
    comes_back(subject, &ticket, "was there for too long").map(drop)
}

/// Does `each` for so many numbers, in four threads.
fn by_four(
    count: usize,
    each: impl Fn(usize) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let each = &each;
    let threads = usize::from(WORKERS);
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || (first..count).step_by(threads).try_for_each(each)))
            .collect();
        all.into_iter().try_for_each(|one| {
            one.join()
                .map_err(|_| Failure::wanted("a client that goes on"))?
        })
    })
}

/// In how many ways a visit goes wrong.
const WAYS: usize = 8;

/// How long a worker may take to see that its client has gone, before the portal is asked.
const SETTLE: Duration = Duration::from_millis(100);

fn hostile_crowd(subject: &Subject<'_>) -> Result<(), Failure> {
    // First each way by itself, a client at each port: in a crowd, a port that was pushed twice may
    // be given to two whose visits end as one, and nothing shows it.
    // More than once, because each is a race between the worker and its timer.
    let ways: Vec<usize> = (0..WAYS).cycle().take(2 * WAYS).collect();
    for ways in ways.chunks(usize::from(WORKERS)) {
        let tickets: Result<Vec<PortalTicket>, Failure> =
            ways.iter().map(|_| ask_again(subject)).collect();
        for (way, ticket) in ways.iter().zip(tickets?) {
            goes_wrong(subject, &ticket, *way)?;
        }
        thread::sleep(slowed(SETTLE));
        each_once(subject)?;
    }
    by_four(HOSTILE, |number| {
        let ticket = ask_again(subject)?;
        goes_wrong(subject, &ticket, number / usize::from(WORKERS) % WAYS)
    })?;
    each_once(subject)
}

/// A client comes with `ticket` and goes in one of so many `WAYS`.
fn goes_wrong(subject: &Subject<'_>, ticket: &PortalTicket, way: usize) -> Result<(), Failure> {
    let mut caller = subject.connect_to(ticket.port, "one of a hostile crowd")?;
    match way {
        0 => caller.reset(),
        1 => caller.send_to_whoever("<CLIENT><Handshake"),
        2 => caller.send_to_whoever("no document at all\n"),
        3 => {
            caller.send_to_whoever("<CLIENT><HandshakePasscode>00</HandshakePasscode></CLIENT>\n");
            caller.reset();
        }
        4 => {
            // Two come with one passcode.
            let _ = caller.send_doc(&handshake(&ticket.passcode));
            let mut twin = subject.connect_to(ticket.port, "its twin")?;
            let _ = twin.send_doc(&handshake(&ticket.passcode));
            caller.reset();
        }
        5 => {
            let _ = caller.send_doc(&handshake(&ticket.passcode));
            caller.send_to_whoever(vec![b'x'; 20_000]);
        }
        6 => {
            let _ = caller.send_doc(&handshake(&ticket.passcode));
            let _ = caller.send_doc(&ClientDoc::Command(ClientCommand::Terminate));
            let _ = caller.send_doc(&ClientDoc::Command(ClientCommand::Terminate));
            caller.reset();
        }
        // Does not come at all, as far as the worker sees, or comes and says nothing.
        _ => caller.finish(),
    }
    Ok(())
}
