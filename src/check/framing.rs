//! Rung 3: framing. TCP does not preserve message boundaries.

use super::echo::one_line;
use super::failure::Failure;
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;

/// The maximum length of a line, without its line feed, in bytes.
const LONGEST: usize = 8192;

/// The number of bytes of an endless line by which the server must have closed the connection.
const ENDLESS: usize = 32 * 1024 * 1024;

pub(super) const RUNG: Rung = Rung {
    number: 3,
    title: "framing",
    task: include_str!("../lesson/tasks/3-framing.md"),
    kind: Kind::Server,
    keeps_something: false,
    more_ports: 0,
    checks: &[
        Check {
            name: "one-line",
            what: "the server sends a line back, as at rung 2",
            idea: "Does your server still pass the checks of rung 2?",
            minutes: 5,
            needs: &[],
            play: one_line,
        },
        Check {
            name: "byte-by-byte",
            what: "a line that arrives one byte at a time is one line",
            idea: "One write of the client is not one read of the server. What does your read \
                   return, and when do you have a whole line?",
            minutes: 20,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send_parts(b"hello\n".chunks(1))?;
                client.line("From server -> hello")
            },
        },
        Check {
            name: "glued",
            what: "three lines in one write are three lines",
            idea: "One read may return more than one line. What happens to the rest? (A file \
                   object reads ahead, too. If you use one for both directions, does a write \
                   discard what the object has already read?)",
            minutes: 15,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send("one\ntwo\nthree\n")?;
                client.line("From server -> one")?;
                client.line("From server -> two")?;
                client.line("From server -> three")
            },
        },
        Check {
            name: "cut-anywhere",
            what: "two lines that are split at any byte are still the same two lines",
            idea: "One read may return the end of one line and the beginning of the next. What \
                   must you keep until the next read?",
            minutes: 15,
            needs: &["one-line", "byte-by-byte", "glued"],
            play: |subject| {
                let bytes = b"first\nsecond\n";
                for cut in 1..bytes.len() {
                    let mut client = subject.connect("a client")?;
                    client.send_parts([&bytes[..cut], &bytes[cut..]])?;
                    client.line("From server -> first")?;
                    client.line("From server -> second")?;
                }
                Ok(())
            },
        },
        Check {
            name: "empty-lines",
            what: "two line feeds in a row have an empty line between them",
            idea: "If you split text at line feeds, you also get empty pieces. Which of them are \
                   lines?",
            minutes: 10,
            needs: &["one-line", "glued"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send("a\n\nb\n")?;
                client.line("From server -> a")?;
                client.line("From server -> ")?;
                client.line("From server -> b")
            },
        },
        Check {
            name: "a-letter-cut-in-two",
            what: "the bytes of one letter may arrive in two reads",
            idea: "Decode whole lines, not the result of a single read.",
            minutes: 15,
            needs: &["one-line", "byte-by-byte"],
            play: |subject| {
                let line = "grüße 🦀\n".as_bytes();
                for cut in [3, 5, 9, 10, 11] {
                    let mut client = subject.connect("a client")?;
                    client.send_parts([&line[..cut], &line[cut..]])?;
                    client.line("From server -> grüße 🦀")?;
                }
                Ok(())
            },
        },
        Check {
            name: "carriage-return",
            what: "a carriage return before the line feed is not part of the line",
            idea: "Windows and telnet end a line with two bytes.",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send("hello\r\n")?;
                client.line("From server -> hello")?;
                client.send("Exit\r\n")?;
                client.end()
            },
        },
        Check {
            name: "spaces",
            what: "spaces, tabs and a carriage return inside a line are part of the line",
            idea: "Only the line feed ends a line. Which characters do your functions remove, and \
                   which ones do they treat as the end of a line? (Think of strip, splitlines and \
                   files in text mode.)",
            minutes: 5,
            needs: &["one-line", "carriage-return"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.echo("  two spaces before, a tab after\t")?;
                client.echo("\ta tab  and  double  spaces ")?;
                client.echo("a\rcarriage return inside")?;
                // Only the carriage return directly before the line feed is not part of the line.
                client.send("another one at the end\r\r\n")?;
                client.line("From server -> another one at the end\r")
            },
        },
        Check {
            name: "exit-in-between",
            what: "data after `Exit` in the same write gets no reply",
            idea: "The visit is over at `Exit`, no matter how much you have already read.",
            minutes: 10,
            needs: &["one-line", "glued"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send("one\nExit\ntwo\n")?;
                client.line("From server -> one")?;
                client.end()
            },
        },
        Check {
            name: "last-line",
            what: "after other lines, too, the last line counts without a line feed",
            idea: "At the end of the stream, look at the bytes that you have kept.",
            minutes: 5,
            needs: &["one-line", "glued", "cut-anywhere"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send("one\ntwo")?;
                client.finish();
                client.line("From server -> one")?;
                client.line("From server -> two")?;
                client.end()
            },
        },
        Check {
            name: "the-longest-line",
            what: "a line of 8,192 bytes comes back whole",
            idea: "How large is your buffer, and does the line feed count?",
            minutes: 10,
            needs: &["one-line", "byte-by-byte"],
            play: |subject| subject.connect("a client")?.echo(&"x".repeat(LONGEST)),
        },
        Check {
            name: "too-long",
            what: "a line of 8,193 bytes closes the connection, without a reply",
            idea: "Do you check the length of a line before you reply?",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.try_send("x".repeat(LONGEST + 1) + "\n");
                client.end()?;
                let mut client = subject.connect("another client")?;
                client.try_send("ü".repeat(LONGEST / 2 + 1) + "\n");
                client.end().map_err(|failure| {
                    failure.idea(
                        "Does your limit count letters or bytes? The letter in this line takes two \
                         bytes.",
                    )
                })
            },
        },
        Check {
            name: "endless",
            what: "a line that never ends does not exhaust the server's memory: the server closes \
                   the connection",
            idea: "If you wait for a line feed that never arrives, how much do you keep?",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.fill(&[b'x'; 64 * 1024], ENDLESS);
                client.end()?;
                subject.connect("another client")?.echo("hello")
            },
        },
        Check {
            name: "many-at-once",
            what: "two thousand short lines in one write all get a reply",
            idea: "A limit for one line is not a limit for one read.",
            minutes: 10,
            needs: &["one-line", "glued", "cut-anywhere"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                let lines: String = (0..2000).map(|number| format!("line {number}\n")).collect();
                client.send(lines)?;
                for number in 0..2000 {
                    client.line(&format!("From server -> line {number}"))?;
                }
                Ok(())
            },
        },
        Check {
            name: "load",
            what: "200 clients at once all get their replies, even if their lines are split and \
                   joined",
            idea: "Where do you keep an incomplete line, and how many of them can there be at a \
                   time?",
            minutes: 10,
            needs: &["one-line", "byte-by-byte", "glued", "cut-anywhere"],
            play: crowd,
        },
    ],
};

/// All clients send their first parts before any client sends its last one.
fn crowd(subject: &Subject<'_>) -> Result<(), Failure> {
    let clients = (0..200).map(|number| subject.connect(&format!("client {number} of 200")));
    let mut clients = clients.collect::<Result<Vec<Talk>, Failure>>()?;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("one {number}\ntw"))?;
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        client.send(format!("o {number}\n"))?;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.line(&format!("From server -> one {number}"))?;
        client.line(&format!("From server -> two {number}"))?;
    }
    Ok(())
}
