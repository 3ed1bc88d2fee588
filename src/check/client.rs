//! The client's task: here the student writes the other end, and the checker is the server.

use std::io;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use super::failure::{ENDED, Failure};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;

/// How often it is looked whether the program has come, or ended.
const AGAIN: Duration = Duration::from_millis(5);

/// How many lines are typed at once under load.
const LINES: usize = 500;

const SENDS: &[&str] = &["connects", "sends"];
const SHOWS: &[&str] = &["connects", "sends", "end-of-input", "shows"];

pub(super) const CLIENT: Rung = Rung {
    number: 1,
    title: "a client for the servers of rungs 1 to 3",
    task: include_str!("../lesson/tasks/client.md"),
    kind: Kind::Client,
    keeps_something: false,
    more_ports: 0,
    checks: &[
        Check {
            name: "connects",
            what: "the client connects to the port that it is given",
            idea: "One end listens and accepts. What does the other one do?",
            minutes: 10,
            needs: &[],
            play: |subject| subject.accept().map(drop),
        },
        Check {
            name: "sends",
            what: "a line that is typed is sent, with its line feed",
            idea: "The function that reads a line from the keyboard may take the line feed away.",
            minutes: 10,
            needs: &["connects"],
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types("hello\n")?;
                server.line("hello")
            },
        },
        Check {
            name: "end-of-input",
            what: "when the keyboard's input has ended, the client ends, with exit code 0",
            idea: "What does reading a line return when there will be none any more?",
            minutes: 5,
            needs: SENDS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types_no_more();
                server.end()?;
                subject.ends(true)
            },
        },
        Check {
            name: "shows",
            what: "the answer is shown",
            idea: "Read a line from the socket as you would from a file.",
            minutes: 10,
            needs: &["connects", "sends", "end-of-input"],
            play: |subject| {
                let mut server = subject.accept()?;
                answers(subject, &mut server, "hello")?;
                subject.types_no_more();
                server.end()?;
                subject.has_shown("From server -> hello")
            },
        },
        Check {
            name: "several-lines",
            what: "after an answer comes the next line",
            idea: "A visit is a loop. What are the two things that it waits for, and in which order?",
            minutes: 5,
            needs: SHOWS,
            play: |subject| {
                let mut server = subject.accept()?;
                for line in ["one", "two", "three"] {
                    answers(subject, &mut server, line)?;
                }
                subject.types_no_more();
                server.end()?;
                ["one", "two", "three"]
                    .iter()
                    .try_for_each(|line| subject.has_shown(&format!("From server -> {line}")))
            },
        },
        Check {
            name: "answer-in-parts",
            what: "an answer that comes in several parts is one line",
            idea: "TCP keeps bytes in order, and not together. When do you know that the answer is over?",
            minutes: 15,
            needs: &[
                "connects",
                "sends",
                "end-of-input",
                "shows",
                "several-lines",
            ],
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types("hello\n")?;
                server.line("hello")?;
                server.send_parts(["From ser", "ver -> he", "llo\n"])?;
                answers(subject, &mut server, "again")?;
                subject.types_no_more();
                server.end()?;
                subject.has_shown("From server -> hello")?;
                subject.has_shown("From server -> again")
            },
        },
        Check {
            name: "utf-8",
            what: "letters of several bytes are shown as what they are, even if they come in two parts",
            idea: "Which of your steps works on bytes, and which on letters?",
            minutes: 10,
            needs: &[
                "connects",
                "sends",
                "end-of-input",
                "shows",
                "answer-in-parts",
            ],
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types("grün €\n")?;
                server.line("grün €")?;
                server.send_parts([&b"From server -> gr\xc3"[..], b"\xbcn \xe2\x82", b"\xac\n"])?;
                subject.types_no_more();
                server.end()?;
                subject.has_shown("From server -> grün €")
            },
        },
        Check {
            name: "control-characters",
            what: "a control character in an answer does not reach the terminal",
            idea: "The server writes on your screen. What else than text could it write there?",
            minutes: 15,
            needs: SHOWS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types("hello\n")?;
                server.line("hello")?;
                server.send("From server -> \u{1b}[2Jgone\n")?;
                subject.types_no_more();
                server.end()?;
                subject.has_shown("gone")?;
                subject.has_not_shown('\u{1b}')
            },
        },
        Check {
            name: "exit",
            what: "Exit is sent, and then the client ends, with exit code 0",
            idea: "The server says nothing to Exit. What would you wait for?",
            minutes: 5,
            needs: SENDS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types("Exit\n")?;
                server.line("Exit")?;
                server.end()?;
                subject.ends(true)
            },
        },
        Check {
            name: "server-has-gone",
            what: "when the server closes instead of answering, the client says so and ends, with another exit code",
            idea: "What does reading from the socket return at its end? Is that an answer?",
            minutes: 10,
            needs: SENDS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.types("hello\n")?;
                server.line("hello")?;
                drop(server);
                subject.ends(false)
            },
        },
        Check {
            name: "nobody-listens",
            what: "when nobody listens there, the client says so and ends, with another exit code than 0",
            idea: "A call that fails returns or throws something. Who reads it?",
            minutes: 10,
            needs: &[],
            play: |subject| {
                subject.kill();
                subject.stop_listening();
                subject.start_again()?;
                subject.ends(false)?;
                subject.has_shown_something()
            },
        },
        Check {
            name: "load",
            what: "500 lines from a pipe are sent, and their answers shown, in order",
            idea: "Do you read more than one line at a time from anything, and what becomes of the rest?",
            minutes: 10,
            needs: &[
                "connects",
                "sends",
                "end-of-input",
                "shows",
                "several-lines",
            ],
            play: |subject| {
                let mut server = subject.accept()?;
                let lines: String = (0..LINES)
                    .map(|number| format!("line {number}\n"))
                    .collect();
                subject.types(&lines)?;
                subject.types_no_more();
                for number in 0..LINES {
                    server.line(&format!("line {number}"))?;
                    server.send(format!("From server -> line {number}\n"))?;
                }
                server.end()?;
                subject.ends(true)?;
                // What it has printed last is kept.
                let last = LINES - 1;
                subject.has_shown(&format!("From server -> line {last}"))
            },
        },
    ],
};

/// A line is typed, comes, and is answered.
fn answers(subject: &Subject<'_>, server: &mut Talk, line: &str) -> Result<(), Failure> {
    subject.types(&format!("{line}\n"))?;
    server.line(line)?;
    server.send(format!("From server -> {line}\n"))
}

impl Subject<'_> {
    /// The client's connection.
    ///
    /// # Errors
    /// When it does not connect.
    fn accept(&self) -> Result<Talk, Failure> {
        let wanted = || {
            Failure::wanted(format!("a connection to port {}", self.address.port()))
                .sent("the client was started")
        };
        let listener = self.listener.lock();
        let listener = listener.as_ref().ok_or_else(wanted)?;
        let wrong = |error: io::Error| wanted().came(error);
        listener.set_nonblocking(true).map_err(wrong)?;
        let until = Instant::now() + self.start_within;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(wrong)?;
                    let sent = "the server accepted a connection".to_owned();
                    return Talk::over(stream, self.patience, "the server", sent).map_err(wrong);
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(wrong(error));
                }
                Err(_) => {}
            }
            if let Some(status) = self.end() {
                return Err(wanted().came(format!("{ENDED} ({status})")));
            }
            if Instant::now() > until {
                return Err(wanted());
            }
            thread::sleep(AGAIN);
        }
    }

    /// From now on nobody listens there.
    fn stop_listening(&self) {
        *self.listener.lock() = None;
    }

    /// Waits until it has ended by itself.
    fn has_ended(&self) -> Result<ExitStatus, Failure> {
        let until = Instant::now() + self.patience;
        loop {
            if let Some(status) = self.end() {
                return Ok(status);
            }
            if Instant::now() > until {
                let came = format!("it still runs, after {} s", self.patience.as_secs());
                return Err(Failure::wanted("the client to end")
                    .sent("there was nothing more to do for the client")
                    .came(came));
            }
            thread::sleep(AGAIN);
        }
    }

    /// It ends by itself, as after a success or a failure.
    fn ends(&self, well: bool) -> Result<(), Failure> {
        let status = self.has_ended()?;
        let wanted = if well {
            "exit code 0"
        } else {
            "another exit code than 0"
        };
        match status.success() == well {
            true => Ok(()),
            false => Err(Failure::wanted(wanted)
                .sent("the client ended")
                .came(status)),
        }
    }

    /// All that it has printed by its end.
    fn shown(&self) -> Result<String, Failure> {
        // A program whose output goes into a pipe may keep it until then.
        self.has_ended()?;
        Ok(self.printed())
    }

    fn has_shown(&self, text: &str) -> Result<(), Failure> {
        match self.shown()?.contains(text) {
            true => Ok(()),
            false => Err(
                Failure::wanted(format!("{text:?} among what the client prints"))
                    .sent(format!("the server sent {text:?}"))
                    .came("something else, which stands below"),
            ),
        }
    }

    fn has_not_shown(&self, control: char) -> Result<(), Failure> {
        match self.shown()?.contains(control) {
            false => Ok(()),
            true => Err(
                Failure::wanted("no control character in what the client prints")
                    .sent(format!("the server sent {control:?}"))
                    .came("it was printed as it came"),
            ),
        }
    }

    fn has_shown_something(&self) -> Result<(), Failure> {
        match self.shown()?.trim().is_empty() {
            false => Ok(()),
            true => {
                Err(Failure::wanted("a sentence that says what is wrong").sent("the client ended"))
            }
        }
    }
}
