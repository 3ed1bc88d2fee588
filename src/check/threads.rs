//! Rung 2: a thread for each client.

use std::thread;
use std::time::Duration;

use super::echo::one_line;
use super::failure::{Failure, Symptom};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;

/// The number of clients in the check `load`.
const CROWD: usize = 200;

/// The idea if a client's visit has ended while it was silent.
const OWN_PACE: &str = "The client was silent for two seconds, and it is allowed to stay silent \
                        for longer. What ended its visit: a timeout, or an exception?";

/// The time for which a client is silent.
const QUIET: Duration = Duration::from_secs(2);

/// The idea if one client's line contains another client's text.
const OWN_BUFFER: &str = "Whose text is in the reply? Which variable holds an unfinished line, and \
                          does each client have its own variable?";

/// The number of connections that are reset, one after another.
const BROKEN: usize = 10;

/// The maximum number of bytes that a client sends without reading: more than the socket buffers
/// hold.
const UNREAD: usize = 64 * 1024 * 1024;

pub(super) const RUNG: Rung = Rung {
    number: 2,
    title: "a thread for each client",
    task: include_str!("../lesson/tasks/2-a-thread-for-each-client.md"),
    kind: Kind::Server,
    keeps_something: false,
    more_ports: 0,
    checks: &[
        Check {
            name: "one-line",
            what: "the server sends a line back, as at rung 1",
            idea: "Does your server still pass the checks of rung 1?",
            minutes: 5,
            needs: &[],
            play: one_line,
        },
        Check {
            name: "two-at-once",
            what: "a second client gets a reply while the first one is still connected",
            idea: "A thread can be blocked in only one read. Which thread accepts the next client \
                   meanwhile? If you already start a thread: do you pass it the function, or the \
                   result of calling the function? Does anything wait for the thread to end \
                   (join), or hold a lock while the thread reads?",
            minutes: 20,
            needs: &["one-line"],
            play: |subject| {
                let mut first = subject.connect("the first client")?;
                first.echo("hello")?;
                subject.connect("the second client")?.echo("hello, too")
            },
        },
        Check {
            name: "a-silent-one",
            what: "a client that sends nothing delays no other client",
            idea: "The thread that accepts must do nothing that waits for a client: no read, and no greeting.",
            minutes: 10,
            needs: &["one-line", "two-at-once"],
            play: |subject| {
                let _silent = subject.connect("a silent client")?;
                let mut second = subject.connect("the second client")?;
                second.echo("hello?")
            },
        },
        Check {
            name: "own-answers",
            what: "each client receives the replies to its own lines",
            idea: "Which variables do the threads share? A running thread uses the variable's \
                   current value, not the value at the time when the thread was started.",
            minutes: 15,
            needs: &["one-line", "two-at-once"],
            play: |subject| {
                let mut first = subject.connect("the first client")?;
                first.echo("one")?;
                let mut second = subject.connect("the second client")?;
                second.echo("two")?;
                first.echo("three")?;
                second.echo("four")
            },
        },
        Check {
            name: "half-a-line",
            what: "a client that stops in the middle of a line delays no other client",
            idea: "Is there a lock, and does a thread hold it while it waits for the network?",
            minutes: 10,
            needs: &["one-line", "two-at-once", "own-answers"],
            play: |subject| {
                let mut first = subject.connect("the first client")?;
                first.send("half a")?;
                let mut second = subject.connect("the second client")?;
                let mut echo = |line| {
                    let echoed = second.echo(line);
                    echoed.map_err(|failure| failure.hint(Symptom::Different, OWN_BUFFER))
                };
                // By the second line, the server has also read the half line.
                echo("hello")?;
                echo("a whole line")?;
                thread::sleep(QUIET);
                let line = first
                    .send(" line\n")
                    .and_then(|()| first.line("From server -> half a line"));
                line.map_err(|failure| {
                    failure
                        .hint(Symptom::Different, OWN_BUFFER)
                        .hint(Symptom::Closed, OWN_PACE)
                })
            },
        },
        Check {
            name: "twenty-at-once",
            what: "twenty clients at once all get a reply, the last one first",
            idea: "Is the number of your threads fixed? A thread belongs to one client for as \
                   long as the client stays.",
            minutes: 10,
            needs: &["one-line", "two-at-once", "a-silent-one", "own-answers"],
            play: |subject| crowd(subject, 20),
        },
        Check {
            name: "exit-ends-one",
            what: "`Exit` ends one visit, and not the others",
            idea: "What ends: the thread, the connection, the listener, or the program?",
            minutes: 10,
            needs: &["one-line", "two-at-once"],
            play: |subject| {
                let mut first = subject.connect("the first client")?;
                first.echo("hello")?;
                let mut second = subject.connect("the second client")?;
                second.echo("hello")?;
                second.send("Exit\n")?;
                second.end()?;
                // A thread that waits in accept() may get one more client from a listener that has
                // been closed.
                for name in ["a third client", "a fourth client", "a fifth client"] {
                    subject.connect(name)?.echo("hello")?;
                }
                Ok(())
            },
        },
        Check {
            name: "reset",
            what: "a client's broken connection does not end any other visit",
            idea: "Reads and writes can fail, too. When one of them fails, whose visit is over?",
            minutes: 15,
            needs: &["one-line", "two-at-once", "own-answers"],
            play: |subject| {
                let mut first = subject.connect("the first client")?;
                first.echo("hello")?;
                // A server that crashes because of a broken connection may take a while to exit. It
                // is gone before the tenth connection breaks.
                for _ in 0..BROKEN {
                    let mut second = subject.connect("a client that resets its connection")?;
                    second.echo("hello")?;
                    second.reset();
                    first.echo("I am still here")?;
                }
                subject
                    .connect("a client, after others have reset their connections")?
                    .echo("hello")
            },
        },
        Check {
            name: "half-close",
            what: "a client that has finished sending still receives its replies",
            idea: "A connection has two directions, and each is closed separately. What is still \
                   missing after the client has closed one direction?",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                // Two lines in one write are the subject of rung 3.
                client.echo("one")?;
                client.send("two")?;
                client.finish();
                client.line("From server -> two")?;
                client.end()
            },
        },
        Check {
            name: "who-does-not-read",
            what: "a client that reads no replies delays no other client",
            idea: "A write also blocks if the peer does not read. What does the blocked thread \
                   hold meanwhile?",
            minutes: 15,
            needs: &["one-line", "two-at-once", "half-a-line"],
            play: |subject| {
                let mut non_reader = subject.connect("a client that reads nothing")?;
                non_reader.fill(&b"anybody?\n".repeat(1000), UNREAD);
                let mut other = subject.connect("another client")?;
                other.echo("hello")
            },
        },
        Check {
            name: "load",
            what: "200 clients at once all get a reply",
            idea: "What does each client cost, and what is limited: threads, descriptors, the \
                   backlog?",
            minutes: 15,
            needs: &[
                "one-line",
                "two-at-once",
                "a-silent-one",
                "own-answers",
                "twenty-at-once",
            ],
            play: |subject| crowd(subject, CROWD),
        },
    ],
};

/// Connects `count` clients at the same time, and expects a reply for each, the last one first.
fn crowd(subject: &Subject<'_>, count: usize) -> Result<(), Failure> {
    let clients = (1..=count).map(|number| subject.connect(&format!("client {number} of {count}")));
    let mut clients = clients.collect::<Result<Vec<Talk>, Failure>>()?;
    for (number, client) in clients.iter_mut().enumerate().rev() {
        client.echo(&format!("I am number {number}"))?;
    }
    Ok(())
}
