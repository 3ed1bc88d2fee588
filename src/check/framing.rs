//! Rung 3: framing. Where one message ends and the next begins, TCP does not know.

use super::echo::one_line;
use super::failure::Failure;
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;

/// The longest line, without its line feed.
const LONGEST: usize = 8192;

/// What a line without end is at least, in bytes, when the server has to have ended it.
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
            what: "a line comes back, as at rung 2",
            idea: "Does it still pass the checks of rung 2?",
            minutes: 5,
            needs: &[],
            play: one_line,
        },
        Check {
            name: "byte-by-byte",
            what: "a line that comes a byte at a time is one line",
            idea: "One write of the client is not one read of the server. What does your read return, and when is \
                   that a whole line?",
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
            what: "three lines that come at once are three lines",
            idea: "One read may bring more than one line. What becomes of the rest?",
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
            what: "two lines, cut in two at every place, are the same two lines",
            idea: "One read may bring the end of a line and the beginning of the next. Keep what is not whole yet.",
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
            what: "two line feeds in a row are an empty line",
            idea: "Whoever splits text at line feeds gets empty pieces, too. Which of them are lines?",
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
            what: "a letter of two bytes may come in two reads",
            idea: "Decode whole lines, not whatever a read has brought.",
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
            what: "a carriage return before the line feed does not belong to the line",
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
            what: "spaces, tabs and a carriage return inside a line belong to the line",
            idea: "Remove only what ends a line. Functions such as strip remove more; a file in text mode translates \
                   line ends. Does it pass with bytes?",
            minutes: 5,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.echo("  two spaces before, a tab after\t")?;
                client.echo("\ta tab  and  double  spaces ")?;
                client.echo("a\rcarriage return inside")
            },
        },
        Check {
            name: "exit-in-between",
            what: "what comes after `Exit` in one piece with it is not answered",
            idea: "The visit is over at `Exit`, whatever has been read already.",
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
            what: "a last line without a line feed counts, after others, too",
            idea: "At the end of the stream, look at what you have kept.",
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
            what: "a line of 8,193 bytes ends the connection, without an answer",
            idea: "Where is the length of a line looked at: before it is answered?",
            minutes: 10,
            needs: &["one-line"],
            play: |subject| {
                let mut client = subject.connect("a client")?;
                client.send_to_whoever("x".repeat(LONGEST + 1) + "\n");
                client.end()
            },
        },
        Check {
            name: "endless",
            what: "a line that never ends does not fill the memory: the connection is ended",
            idea: "If you wait for a line feed and none comes, how much have you kept by then?",
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
            what: "two thousand short lines in one go are all answered",
            idea: "A limit for one line is no limit for what a read brings.",
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
            what: "200 clients at once, whose lines are cut and glued",
            idea: "Each client needs a place of its own for what is not whole yet.",
            minutes: 10,
            needs: &["one-line", "byte-by-byte", "glued", "cut-anywhere"],
            play: crowd,
        },
    ],
};

/// Everybody sends the first parts before anybody sends the last ones.
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
