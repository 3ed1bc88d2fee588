//! Rung 7: the portal, its workers, passcodes and timeouts (the nine rules in seed 000).

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::chat::{
    PASSCODES, PortalTicket, expect_doc, expect_message, expect_rejected, expect_unpredictable,
    handshake,
};
use super::failure::Failure;
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;
use portal_core::clock::slowed;
use portal_wire::{ClientCommand, ClientDoc, Scope, ServerDoc};

/// The number of workers. Their ports follow the portal's.
const WORKERS: u16 = 4;

/// The reservation timeout, the handshake timeout, the idle timeout and the total timeout, as in
/// the task.
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

/// The interval between requests to a full portal, and between the messages from a client that must
/// not become idle.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
const SEND_INTERVAL: Duration = Duration::from_millis(300);

/// The number of visits in `hostile_crowd` and in the check `load`. `WORKERS` threads share them.
const HOSTILE: usize = 48;
const VISITS: usize = 200;

/// The number of rounds in the check `backlog`, and of stray clients waiting in each.
const BACKLOG_ROUNDS: usize = 3;
const WAITING: usize = 4;

/// A connection that takes longer than this to establish was dropped once because the backlog was
/// full. (The kernel retransmits the SYN after a second.)
const DROPPED: Duration = Duration::from_millis(900);

/// The number of attempts in the check `stack`.
const STACK_ROUNDS: usize = 3;

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
            what: "the portal sends each client a worker's port and a passcode, and closes the connection",
            idea: "The portal speaks first and never reads. Where does it get the port from?",
            minutes: 20,
            needs: &[],
            play: |subject| {
                let expected = "a worker's ticket, because no client is connected yet";
                match request_port(subject)? {
                    Some(_) => Ok(()),
                    None => Err(Failure::expected(expected)
                        .sent("a client connected to the portal")
                        .received("FULL")),
                }
            },
        },
        Check {
            name: "greeting",
            what: "the worker's port greets a client that sends the right passcode",
            idea: "Each worker is a thread with a listener that serves one client at a time. \
                   Which rung was that?",
            minutes: 20,
            needs: TICKET,
            play: |subject| connect_to_worker(subject).map(drop),
        },
        Check {
            name: "full",
            what: "once all four ports are assigned, the portal sends FULL, and assigns no port twice",
            idea: "What does the stack return when it is empty?",
            minutes: 10,
            needs: TICKET,
            play: expect_each_port_once,
        },
        Check {
            name: "pairs",
            what: "a client's message reaches the client of the partner worker, and no other \
                   client",
            idea: "Given a worker's number, from 1 to 4, what is its partner's? (The ports do not \
                   tell: the portal's may be odd or even.)",
            minutes: 20,
            needs: SEAT,
            play: pairs,
        },
        Check {
            name: "terminate",
            what: "TERMINATE ends the visit, and the port returns to the stack, with a new passcode",
            idea: "Which thread pushes the port, and what must be finished by then?",
            minutes: 15,
            needs: BACK,
            play: |subject| {
                let (mut client, ticket) = connect_to_worker(subject)?;
                client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
                client.end_after_news("the end of the connection")?;
                expect_port_again(subject, &ticket, "sent TERMINATE").map(drop)
            },
        },
        Check {
            name: "stack",
            what: "the port that returned last is the first one to be assigned again",
            idea: "A stack has one end. At which end of your list do you push, and at which one do \
                   you pop?",
            minutes: 5,
            needs: &["ticket", "greeting", "full", "terminate"],
            play: stack,
        },
        Check {
            name: "vanishes",
            what: "after a client's connection has broken, the port returns to the stack as well",
            idea: "Every way a visit can end must reach the code that pushes the port.",
            minutes: 10,
            needs: BACK,
            play: |subject| {
                let (client, ticket) = connect_to_worker(subject)?;
                client.reset();
                expect_port_again(subject, &ticket, "reset its connection").map(drop)
            },
        },
        Check {
            name: "wrong-passcode",
            what: "a wrong passcode is rejected, and the right one is invalid afterwards",
            idea: "With unlimited attempts, a client will eventually find any passcode. What \
                   changes after the only allowed attempt?",
            minutes: 15,
            needs: BACK,
            play: |subject| {
                let ticket = wait_for_port(subject)?;
                let mut guesser = subject.connect_to(ticket.port, "a client that guesses")?;
                guesser.send_doc(&handshake("no such passcode"))?;
                expect_rejected(&mut guesser, "worker")?;
                let mut late = subject.connect_to(
                    ticket.port,
                    "a client that sends the right passcode afterwards",
                )?;
                late.send_doc(&handshake(&ticket.passcode))?;
                expect_rejected(&mut late, "worker")?;
                expect_port_again(subject, &ticket, "sent a wrong passcode").map(drop)
            },
        },
        Check {
            name: "no-show",
            what: "if a client does not connect within a second, its port returns to the stack, and its passcode is invalid",
            idea: "Nothing happens, but something must be done. Which thread is awake? (The seed \
                   has a clock interrupt.)",
            minutes: 30,
            needs: BACK,
            play: |subject| {
                let start = Instant::now();
                let ticket = wait_for_port(subject)?;
                let next = expect_port_again(subject, &ticket, "did not connect")?;
                expect_not_before(
                    start,
                    reservation(),
                    "the portal assigned a port, and no client connected to it",
                    "the port was assigned again",
                )?;
                let mut late = subject.connect_to(next.port, "a client that is too late")?;
                late.send_doc(&handshake(&ticket.passcode))?;
                expect_rejected(&mut late, "worker")
            },
        },
        Check {
            name: "stray",
            what: "a client without a reservation is rejected, and no port is lost",
            idea: "The worker's port was on the stack the whole time. Did this visit pop it?",
            minutes: 15,
            needs: &["ticket", "greeting", "full", "no-show"],
            play: |subject| {
                // The portal may listen before its workers do.
                let ticket = wait_for_port(subject)?;
                let others = subject.address.port() + 1..=subject.address.port() + WORKERS;
                for port in others.filter(|port| *port != ticket.port) {
                    let mut stray = subject.connect_to(port, "a stray")?;
                    stray.send_doc(&handshake("no reservation"))?;
                    expect_rejected(&mut stray, "worker")?;
                }
                expect_each_port_once(subject)
            },
        },
        Check {
            name: "backlog",
            what: "a client that connects to a busy worker waits, is rejected after the visit, and affects no other client",
            idea: "The operating system accepts connections before your accept() returns them. \
                   Which connections are still queued when the port is pushed?",
            minutes: 30,
            needs: &["ticket", "greeting", "full", "terminate"],
            play: |subject| {
                // Some strays wait silently. If a worker takes one of them for its next client, it
                // waits for that stray's passcode while the real client's reservation expires.
                for round in 0..BACKLOG_ROUNDS {
                    let (mut client, ticket) = connect_to_worker(subject)?;
                    let mut waiting = Vec::new();
                    for number in 0..WAITING {
                        let start = Instant::now();
                        let mut stray =
                            subject.connect_to(ticket.port, "a stray that waits in the backlog")?;
                        if start.elapsed() > DROPPED {
                            return Err(Failure::expected("an accepted connection, at once")
                                .sent(format!("stray number {} connected", number + 1))
                                .received(format!(
                                    "nothing, for {} ms",
                                    start.elapsed().as_millis()
                                ))
                                .idea(
                                    "The operating system accepts only as many connections as \
                                     your program has asked for. Where do you set that number?",
                                ));
                        }
                        if (number + round) % 2 == 0 {
                            stray.send_doc(&handshake(&ticket.passcode))?;
                        }
                        waiting.push(stray);
                    }
                    client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
                    client.end_after_news("the end of the connection")?;
                    let next = expect_port_again(subject, &ticket, "sent TERMINATE")?;
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
            what: "a client that sends no passcode receives IDLE TIMEOUT after a second, and its port returns to the stack",
            idea: "A read can have a timeout. What does the read return when the timeout expires?",
            minutes: 20,
            needs: BACK,
            play: |subject| {
                let ticket = wait_for_port(subject)?;
                let start = Instant::now();
                let mut silent = subject.connect_to(ticket.port, "a caller that sends nothing")?;
                expect_idle_timeout(&mut silent)?;
                expect_not_before(
                    start,
                    handshake_time(),
                    "a client connected to the worker, and sent nothing",
                    "IDLE TIMEOUT arrived",
                )?;
                expect_port_again(subject, &ticket, "sent no passcode").map(drop)
            },
        },
        Check {
            name: "idle",
            what: "a client that has sent nothing for two seconds receives IDLE TIMEOUT; a client \
                   that keeps sending does not",
            idea: "What does every message reset?",
            minutes: 20,
            needs: BACK,
            play: |subject| {
                let before = Instant::now();
                let (mut client, ticket) = connect_to_worker(subject)?;
                // Send late, so that a server that ignores the message times out too early.
                thread::sleep(idle() * 3 / 4);
                expect_no_idle_timeout(&mut client, before)?;
                let start = Instant::now();
                client.send_doc(&ClientDoc::message("the last word"))?;
                expect_idle_timeout(&mut client)?;
                expect_not_before(
                    start,
                    idle(),
                    "the client sent a message, and then nothing",
                    "IDLE TIMEOUT arrived",
                )?;
                expect_port_again(subject, &ticket, "was silent for too long").map(drop)
            },
        },
        Check {
            name: "total",
            what: "a client receives TOTAL TIME TIMEOUT after six seconds, no matter how much it sends",
            idea: "Nothing resets this timeout. Does it limit a single read, or the whole visit?",
            minutes: 15,
            needs: BACK,
            play: total,
        },
        Check {
            name: "passcodes",
            what: "a passcode can't be guessed from the ones before it",
            idea: "How many passcodes would an attacker have to try? A counter, the time and a \
                   small number can all be guessed. What does your operating system offer?",
            minutes: 10,
            needs: &["ticket", "greeting", "full", "terminate"],
            play: passcodes,
        },
        Check {
            name: "each-port-once",
            what: "after a crowd of hostile clients, each port is on the stack exactly once",
            idea: "If a visit ends in two ways at once, both of them push the port. Can you write \
                   your code so that only the owner of a port can push it?",
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
            what: "the server serves 200 visits, four at a time, and then partners can still talk",
            idea: "In the reference server, a freed port does not wait for a tick. What does it \
                   wait for in your server?",
            minutes: 10,
            needs: &["ticket", "greeting", "full", "pairs", "terminate"],
            play: |subject| {
                in_four_threads(VISITS, |_| {
                    let (mut client, _) = connect_to_worker(subject)?;
                    client.send_doc(&ClientDoc::message("hello"))?;
                    client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
                    client.end_after_news("the end of the connection, after TERMINATE")
                })?;
                pairs(subject).map_err(|failure| {
                    failure.idea(
                        "Is a worker's partner computed from its number among the workers, or from \
                         its port? The portal may have any port.",
                    )
                })
            },
        },
    ],
};

/// Collects passcodes from one visit after another, and looks for a pattern.
fn passcodes(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut seen = Vec::new();
    for _ in 0..PASSCODES {
        let (mut client, ticket) = connect_to_worker(subject)?;
        client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
        client.end_after_news("the end of the connection")?;
        seen.push(ticket.passcode);
    }
    let sent = format!("{PASSCODES} clients visited, one after another");
    expect_unpredictable(&seen, &sent)
}

/// Requests a port from the portal once. Returns `None` if the portal is full.
fn request_port(subject: &Subject<'_>) -> Result<Option<PortalTicket>, Failure> {
    let mut client = subject.connect("a client of the portal")?;
    let expected = "<SERVER type='worker'><Port>…</Port><HandshakePasscode>…</HandshakePasscode></SERVER> \
                  or <SERVER><command>FULL</command></SERVER>";
    let ticket = client.document(expected, |doc| match doc {
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
            .received(ticket.port)),
        ticket => Ok(ticket),
    }
}

/// Requests a port until the portal assigns one.
fn wait_for_port(subject: &Subject<'_>) -> Result<PortalTicket, Failure> {
    // By then, every visit has reached the total timeout.
    let until = Instant::now() + total_time() + subject.patience;
    loop {
        if let Some(ticket) = request_port(subject)? {
            return Ok(ticket);
        }
        if Instant::now() > until {
            return Err(Failure::expected("a port within the time limit")
                .sent("a client connected to the portal repeatedly")
                .received("FULL, each time"));
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Connects to the worker of `ticket`.
fn enter(subject: &Subject<'_>, ticket: &PortalTicket) -> Result<Talk, Failure> {
    let port = ticket.port;
    let mut client = subject.connect_to(port, &format!("the client of worker {port}"))?;
    client.send_doc(&handshake(&ticket.passcode))?;
    let expected = format!(
        "<SERVER type='worker' port='{port}'><message>Connection successful</message></SERVER>"
    );
    expect_doc(
        &mut client,
        &expected,
        |doc| matches!(doc, ServerDoc::Welcome { port: at, room: None, .. } if at.get() == port),
    )?;
    Ok(client)
}

/// Requests a port and connects to its worker.
fn connect_to_worker(subject: &Subject<'_>) -> Result<(Talk, PortalTicket), Failure> {
    let ticket = wait_for_port(subject)?;
    Ok((enter(subject, &ticket)?, ticket))
}

fn expect_idle_timeout(client: &mut Talk) -> Result<(), Failure> {
    let expected = "<SERVER><command>IDLE TIMEOUT</command></SERVER>";
    client.set_patience(idle() + client.patience());
    expect_doc(client, expected, |doc| {
        matches!(doc, ServerDoc::IdleTimeout)
    })?;
    client.end()
}

/// Expects no IDLE TIMEOUT yet for a client that has been silent since `before` or later.
fn expect_no_idle_timeout(client: &mut Talk, before: Instant) -> Result<(), Failure> {
    let patience = client.patience();
    client.set_patience(RETRY_INTERVAL);
    let has_come = expect_doc(client, "", |doc| matches!(doc, ServerDoc::IdleTimeout)).is_ok();
    client.set_patience(patience);
    let passed = before.elapsed();
    if !has_come || passed >= idle() {
        return Ok(());
    }
    Err(client
        .failure(format!(
            "no IDLE TIMEOUT before {} s had passed",
            idle().as_secs()
        ))
        .received(format!("it after {} ms at most", passed.as_millis()))
        .idea(
            "One time limit applies before the passcode, and another one after it. Where does your \
             program switch from one to the other?",
        ))
}

/// Expects `what` to have happened no earlier than `least` after `start`, when `after` happened.
fn expect_not_before(
    start: Instant,
    least: Duration,
    after: &str,
    what: &str,
) -> Result<(), Failure> {
    let passed = start.elapsed();
    match passed >= least {
        true => Ok(()),
        false => Err(
            Failure::expected(format!("nothing before {} s had passed", least.as_secs()))
                .sent(after)
                .received(format!("{what} after {} ms", passed.as_millis())),
        ),
    }
}

/// Expects the port of `ticket` to be assigned again, with a new passcode, after the ticket's
/// client has done `what`.
fn expect_port_again(
    subject: &Subject<'_>,
    ticket: &PortalTicket,
    what: &str,
) -> Result<PortalTicket, Failure> {
    let until = Instant::now() + reservation() + subject.patience;
    loop {
        // The reservations of other ports are left to expire.
        match request_port(subject)? {
            Some(next) if next.port == ticket.port && next.passcode != ticket.passcode => {
                return Ok(next);
            }
            Some(next) if next.port == ticket.port => {
                return Err(
                    Failure::expected(format!("a new passcode for port {}", next.port))
                        .sent(format!("the client of port {} {what}", next.port))
                        .received("the same passcode"),
                );
            }
            Some(_) | None => {}
        }
        if Instant::now() > until {
            return Err(Failure::expected(format!(
                "port {} from the portal, within the time limit",
                ticket.port
            ))
            .sent(format!(
                "the client of port {} {what}, and others connected to the portal",
                ticket.port
            ))
            .received("other ports and FULL"));
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Once all visits have ended, expects each port to be assigned once, and the portal to be full
/// then.
fn expect_each_port_once(subject: &Subject<'_>) -> Result<(), Failure> {
    let until = Instant::now() + total_time() + subject.patience;
    let sent = "clients connected to the portal, one after another";
    let mut pause = reservation();
    loop {
        let mut given: BTreeMap<u16, Instant> = BTreeMap::new();
        let mut requested_at = Instant::now();
        while let Some(ticket) = request_port(subject)? {
            let now = Instant::now();
            // The measured interval begins before the first request and ends after the second
            // reply, so it is not shorter than the actual one. `until` stops the loop even if a
            // reply takes longer than the reservation.
            let before = given.insert(ticket.port, requested_at);
            requested_at = now;
            let is_second = before.is_some_and(|before| now.duration_since(before) < reservation());
            if is_second || (now > until && given.len() == usize::from(WORKERS)) {
                let expected = "each port once, and then FULL";
                let received = match is_second {
                    true => format!("port {} for two of the clients", ticket.port),
                    false => "ports, and never FULL".to_owned(),
                };
                return Err(Failure::expected(expected).sent(sent).received(received));
            }
            if now > until {
                break;
            }
        }
        if given.len() == usize::from(WORKERS) {
            return Ok(());
        }
        if Instant::now() > until {
            let expected = format!("{WORKERS} ports, and then FULL");
            let received = format!(
                "only {} ports, assigned again and again, and then FULL",
                given.len()
            );
            return Err(Failure::expected(expected).sent(sent).received(received));
        }
        // Wait until the reservations just made have expired. The pause grows; otherwise a port
        // that is freed a little late would be missing every time.
        pause += reservation() / 2;
        thread::sleep(pause);
    }
}

/// Lets the four clients leave in a known order, and expects their ports in the reverse order.
fn stack(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut wrong = None;
    // On a busy machine, a port may be pushed later than the one after it. A server without a stack
    // is wrong in every round.
    for _ in 0..STACK_ROUNDS {
        let mut clients = Vec::new();
        for _ in 0..WORKERS {
            clients.push(connect_to_worker(subject)?);
        }
        let mut pushed = Vec::new();
        for (mut client, ticket) in clients {
            client.send_doc(&ClientDoc::Command(ClientCommand::Terminate))?;
            client.end_after_news("the end of the connection")?;
            thread::sleep(slowed(SETTLE));
            pushed.push(ticket.port);
        }
        pushed.reverse();
        let mut assigned = Vec::new();
        while let Some(ticket) = request_port(subject)?
            && assigned.len() < pushed.len()
        {
            assigned.push(ticket.port);
        }
        if assigned == pushed {
            return Ok(());
        }
        wrong = Some(
            Failure::expected(format!("the ports in the order {pushed:?}"))
                .sent(format!(
                    "the client of port {} left last; then other clients connected to the portal",
                    pushed[0]
                ))
                .received(format!("{assigned:?}")),
        );
    }
    wrong.map_or(Ok(()), Err)
}

fn pairs(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut clients = BTreeMap::new();
    for _ in 0..WORKERS {
        let (client, ticket) = connect_to_worker(subject)?;
        clients.insert(ticket.port, client);
    }
    let mut clients: Vec<(u16, Talk)> = clients.into_iter().collect();
    // Two rounds: a message that was also sent to another client would be the first one that the
    // client receives in the second round.
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
    let ticket = wait_for_port(subject)?;
    let start = Instant::now();
    let mut client = enter(subject, &ticket)?;
    let expected = "<SERVER><command>TOTAL TIME TIMEOUT</command></SERVER>";
    let until = start + total_time() + subject.patience;
    client.set_patience(SEND_INTERVAL);
    loop {
        let result = expect_doc(&mut client, expected, |doc| {
            matches!(doc, ServerDoc::TotalTimeTimeout)
        });
        match result {
            Ok(()) => break,
            Err(failure) if client.has_ended() => return Err(failure),
            Err(failure) if Instant::now() > until => {
                let passed = start.elapsed().as_secs();
                let received = format!("no timeout within {passed} s");
                return Err(failure.received(received));
            }
            // The write may fail on a connection that has just been closed; data received before
            // that still counts.
            Err(_) => client.try_send("<CLIENT><message>still here</message></CLIENT>\n"),
        }
    }
    expect_not_before(
        start,
        total_time(),
        "the client connected to the worker",
        "TOTAL TIME TIMEOUT arrived",
    )?;
    client.set_patience(subject.patience);
    client.end()?;
    expect_port_again(subject, &ticket, "stayed too long").map(drop)
}

/// Calls `each` for the numbers below `count`, in four threads.
fn in_four_threads(
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
                .map_err(|_| Failure::expected("a client that does not panic"))?
        })
    })
}

/// The number of ways in which `misbehave` ends a visit.
const WAYS: usize = 8;

/// The time for a worker to notice that its client has left, before the portal is asked for a port.
const SETTLE: Duration = Duration::from_millis(100);

fn hostile_crowd(subject: &Subject<'_>) -> Result<(), Failure> {
    // First, try each way separately, with one client per port: in a crowd, a port that was pushed
    // twice could go unnoticed. Try each way more than once, because each is a race between the
    // worker and its timer.
    let ways: Vec<usize> = (0..WAYS).cycle().take(2 * WAYS).collect();
    for ways in ways.chunks(usize::from(WORKERS)) {
        let tickets: Result<Vec<PortalTicket>, Failure> =
            ways.iter().map(|_| wait_for_port(subject)).collect();
        for (way, ticket) in ways.iter().zip(tickets?) {
            misbehave(subject, &ticket, *way)?;
        }
        thread::sleep(slowed(SETTLE));
        expect_each_port_once(subject)?;
    }
    in_four_threads(HOSTILE, |number| {
        let ticket = wait_for_port(subject)?;
        misbehave(subject, &ticket, number / usize::from(WORKERS) % WAYS)
    })?;
    expect_each_port_once(subject)
}

/// Connects with `ticket`, and ends the visit in one of the [`WAYS`] ways.
fn misbehave(subject: &Subject<'_>, ticket: &PortalTicket, way: usize) -> Result<(), Failure> {
    let mut caller = subject.connect_to(ticket.port, "one of many hostile clients")?;
    match way {
        0 => caller.reset(),
        1 => caller.try_send("<CLIENT><Handshake"),
        2 => caller.try_send("not a document\n"),
        3 => {
            caller.try_send("<CLIENT><HandshakePasscode>00</HandshakePasscode></CLIENT>\n");
            caller.reset();
        }
        4 => {
            // Two clients send the same passcode.
            let _ = caller.send_doc(&handshake(&ticket.passcode));
            let mut twin =
                subject.connect_to(ticket.port, "a second client with the same passcode")?;
            let _ = twin.send_doc(&handshake(&ticket.passcode));
            caller.reset();
        }
        5 => {
            let _ = caller.send_doc(&handshake(&ticket.passcode));
            caller.try_send(vec![b'x'; 20_000]);
        }
        6 => {
            let _ = caller.send_doc(&handshake(&ticket.passcode));
            let _ = caller.send_doc(&ClientDoc::Command(ClientCommand::Terminate));
            let _ = caller.send_doc(&ClientDoc::Command(ClientCommand::Terminate));
            caller.reset();
        }
        // A connection that sends nothing, or that the worker never notices.
        _ => caller.finish(),
    }
    Ok(())
}
