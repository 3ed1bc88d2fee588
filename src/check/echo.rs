//! Rung 1: one socket, one client after the other.

use super::failure::{Failure, Symptom};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};

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
            what: "a line comes back",
            idea: "Compare the reply with the task, character by character.",
            minutes: 20,
            needs: &[],
            play: one_line,
        },
        Check {
            name: "several-lines",
            what: "a client may say more than one line",
            idea: "A visit is a loop around reading a line and writing the answer.",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.echo("one")?;
                client.echo("two")?;
                client.echo("three, with  two spaces ")
            },
        },
        Check {
            name: "empty-line",
            what: "an empty line is a line, too",
            idea: "How does your library tell an empty line from the end of the stream? They are not the same.",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.echo("")
            },
        },
        Check {
            name: "utf-8",
            what: "letters beyond English come back as they were",
            idea: "What travels is bytes. Either nobody decodes them, or everybody does it as UTF-8.",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| subject.connect("a client")?.echo("grüße, 你好 🦀"),
        },
        Check {
            name: "exit",
            what: "`Exit` ends the visit, and has no answer",
            idea: "Who ends a connection closes it; the other side then reads its end.",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| ends_at(subject, "Exit"),
        },
        Check {
            name: "exit-in-small-letters",
            what: "`exit` ends it, too",
            idea: "Read the condition of your loop aloud: when does it go on, for each of the two words?",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| ends_at(subject, "exit"),
        },
        Check {
            name: "only-exit",
            what: "a line that only resembles `Exit` is answered",
            idea: "Compare the whole line, and nothing but it.",
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
            what: "a last line counts although no line feed ends it",
            idea: "When reading says that nothing more comes, is there something left that has not been answered?",
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
            what: "when one client has gone, the next is served",
            idea: "What has to be done once for the whole server, and what once for each client?",
            minutes: 10,
            needs: &["one-line", "exit"],
            play: |subject| {
                for who in ["the first client", "the second client", "the third client"] {
                    let mut client = subject.connect(who)?;
                    client.echo("hello")?;
                    client.send("Exit\n")?;
                    client.end()?;
                }
                Ok(())
            },
        },
        Check {
            name: "hang-up",
            what: "a client that hangs up without a word does not end the server",
            idea: "The end of the stream is no line. What does your library return for it, and what do you do with \
                   that first?",
            minutes: 15,
            needs: &["one-line", "next-client"],
            play: |subject| {
                drop(subject.connect("a client that hangs up at once")?);
                let mut client = subject.connect("a client that hangs up after a line")?;
                client.echo("hello")?;
                drop(client);
                subject.connect("the client after it")?.echo("still there?")
            },
        },
        Check {
            name: "the-second-waits",
            what: "a second client may connect and speak while the first is served, and is answered afterwards",
            idea: "The system accepts connections before your program does, and keeps them in the backlog. Nothing \
                   has to be done for it, except not to throw it away.",
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
            what: "200 clients, one after the other",
            idea: "Is everything given back that a visit has taken: its socket, above all?",
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

fn ends_at(subject: &Subject<'_>, word: &str) -> Result<(), Failure> {
    let mut client = subject.connect("a client")?;
    client.send(format!("{word}\n"))?;
    client.end().map_err(|failure| {
        failure.hint(
            Symptom::Silence,
            "Does your server close the connection? If it does, something else still holds the \
             socket open, such as a file object made from it (makefile). Close that too, or shut \
             the socket down first.",
        )
    })
}

/// Sends a line, and expects its reply and nothing else. Rungs 1 to 3 begin with it.
pub(super) fn one_line(subject: &Subject<'_>) -> Result<(), Failure> {
    let mut client = subject.connect("a client").map_err(|failure| {
        failure.hint(
            Symptom::NotListening,
            "A server binds a port, listens on it, and accepts; then it reads and writes on the \
             socket that accept returns. Is the port the one from the command line?",
        )
    })?;
    let replied = client.echo("hello").and_then(|()| client.nothing_more());
    replied.map_err(|failure| {
        failure
            .hint(
                Symptom::Silence,
                "The connection is open, but no whole line arrived. Does the reply end with a line \
                 feed? Is it still in a buffer of your program (flush it)? Does your read wait for \
                 more than one line?",
            )
            .hint(
                Symptom::Closed,
                "The connection was closed instead. Did the visit end with an exception? See what \
                 your program printed.",
            )
    })
}
