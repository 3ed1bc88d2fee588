//! Rung 1: one socket, one client after another.

use super::failure::{Failure, Symptom};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};

/// The number of lines whose replies a client does not read.
const UNREAD: usize = 20_000;

pub(super) const RUNG: Rung = Rung {
    number: 1,
    title: "one socket",
    task: include_str!("../lesson/tasks/1-one-socket.md"),
    kind: Kind::Server,
    keeps_something: false,
    more_ports: 0,
    checks: &[
        Check {
            name: "one-line",
            what: "the server sends a line back",
            idea: "Compare the reply with the task, character by character.",
            minutes: 20,
            needs: &[],
            play: one_line,
        },
        Check {
            name: "several-lines",
            what: "a client may send more than one line",
            idea: "A visit is a loop that reads a line and writes the reply.",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.echo("one")?;
                client.echo("two")?;
                client.echo("three, with  two spaces")
            },
        },
        Check {
            name: "empty-line",
            what: "an empty line gets a reply, too",
            idea: "How does your library distinguish an empty line from the end of the stream?",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.echo("")
            },
        },
        Check {
            name: "utf-8",
            what: "non-English letters come back unchanged",
            idea: "A socket carries bytes. Either decode none of them, or decode and encode them \
                   all as UTF-8.",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| subject.connect("a client")?.echo("grüße, 你好 🦀"),
        },
        Check {
            name: "exit",
            what: "`Exit` ends the visit, and gets no reply",
            idea: "To end a connection, close it; the client then reads the end of the stream.",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| ends_at(subject, "Exit"),
        },
        Check {
            name: "exit-in-small-letters",
            what: "`exit` ends the visit, too",
            idea: "Read the condition of your loop aloud: for each of the two words, when does \
                   the loop continue?",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| ends_at(subject, "exit"),
        },
        Check {
            name: "only-exit",
            what: "a line that only resembles `Exit` gets a reply",
            idea: "Compare the whole line, and nothing else.",
            minutes: 5,
            needs: &["one-line", "several-lines"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                for line in ["Exit now", "exits", "EXIT", "please exit"] {
                    client.echo(line)?;
                }
                Ok(())
            },
        },
        Check {
            name: "last-line",
            what: "the last line counts even without a line feed",
            idea: "When a read reports the end of the stream, is any input left to which you have \
                   not replied?",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send("no line feed")?;
                client.finish();
                client.line("From server -> no line feed")?;
                client.end()
            },
        },
        Check {
            name: "next-client",
            what: "after one client has left, the server serves the next one",
            idea: "What must happen once for the whole server, and what must happen once per client?",
            minutes: 10,
            needs: &["one-line", "exit"],
            play: |subject| {
                for name in ["the first client", "the second client", "the third client"] {
                    let mut client = subject.connect(name)?;
                    client.echo("hello")?;
                    client.send("Exit\n")?;
                    client.end()?;
                }
                Ok(())
            },
        },
        Check {
            name: "hang-up",
            what: "a client that disconnects without `Exit` does not stop the server",
            idea: "The end of the stream is not a line. What does your library return for it, and \
                   what is the first thing your code does with that value?",
            minutes: 15,
            needs: &["one-line", "next-client"],
            play: |subject| {
                drop(subject.connect("a client that disconnects at once")?);
                let mut client = subject.connect("a client that disconnects after a line")?;
                client.echo("hello")?;
                drop(client);
                subject
                    .connect("the client after it")?
                    .echo("still there?")?;
                after_a_reset(subject)
                    .and_then(|()| after_unread_replies(subject))
                    .map_err(|failure| {
                        failure.idea(
                        "When a connection breaks, a read or a write fails. Whose visit is over \
                         then, and which loop must continue?",
                    )
                    })
            },
        },
        Check {
            name: "the-second-waits",
            what: "a second client may connect and send while the first is being served, and gets its reply afterwards",
            idea: "The operating system accepts connections before your program does, and keeps \
                   them in the backlog. You need no code for that, but your code can lose such a \
                   connection.",
            minutes: 10,
            needs: &["one-line", "several-lines", "exit", "next-client"],
            play: |subject| {
                let mut first = subject.connect("the first client")?;
                first.echo("hello")?;
                let mut second = subject.connect("the second client")?;
                second.send("I was second\n")?;
                first.echo("and I am first")?;
                first.send("Exit\n")?;
                first.end()?;
                second.line("From server -> I was second")
            },
        },
        Check {
            name: "load",
            what: "the server serves 200 clients, one after another",
            idea: "Does each visit release everything that it acquired, above all its socket?",
            minutes: 10,
            needs: &["one-line", "exit", "next-client"],
            play: |subject| {
                for number in 1..=200 {
                    let mut client = subject.connect(&format!("client {number}"))?;
                    client.echo(&format!("I am number {number}"))?;
                    client.send("Exit\n")?;
                    client.end()?;
                }
                Ok(())
            },
        },
    ],
};

/// Resets a connection, and expects the next client to be served.
fn after_a_reset(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut client = subject.connect("a client that resets its connection")?;
    client.echo("hello")?;
    client.reset();
    subject.connect("the client after it")?.echo("hello")
}

/// Closes a connection that has many unread replies, so that the server's writes fail. Expects the
/// next client to be served.
fn after_unread_replies(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut client = subject.connect("a client that closes before it reads its replies")?;
    client.try_send("x\n".repeat(UNREAD));
    drop(client);
    subject.connect("the client after it")?.echo("hello")
}

fn ends_at(subject: &Subject<'_>, word: &str) -> Result<(), Failure> {
    let mut client = subject.connect("a client")?;
    client.send(format!("{word}\n"))?;
    client.end().map_err(|failure| {
        failure.hint(
            Symptom::Silence,
            "Does your server close the connection? If it does, something else still holds the \
             socket open, such as a file object made from the socket (makefile). Close that object \
             too, or shut the socket down first.",
        )
    })
}

/// Sends a line, and expects its reply and nothing else. Rungs 1 to 3 begin with it.
pub(super) fn one_line(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut client = subject.connect("a client").map_err(|failure| {
        failure.hint(
            Symptom::NotListening,
            "A server binds a port, listens on it, and accepts a connection; then it reads and \
             writes on the socket that accept returns. Is the address the one from the task, and \
             is the port the one from the command line?",
        )
    })?;
    let replied = client.echo("hello").and_then(|()| client.nothing_more());
    replied.map_err(|failure| {
        failure
            .hint(
                Symptom::Silence,
                "The connection is open, but no complete line has arrived. Does the reply end with \
                 a line feed? Is the reply still in one of your program's buffers (flush it)? Does \
                 your read wait for more than one line?",
            )
            .hint(
                Symptom::Closed,
                "The connection was closed instead. Did the visit end with an exception? Look at \
                 what your program printed.",
            )
    })
}
