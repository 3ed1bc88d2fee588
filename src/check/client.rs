//! The client's task: the student writes the client, and the checker is its server.

use std::io;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use super::failure::{ENDED, Failure};
use super::program::{Kind, Subject};
use super::rung::{Check, Rung};
use super::talk::Talk;

/// The interval for checking whether the program has connected or exited.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The number of lines in the check `load`.
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
            what: "the client connects to the given port",
            idea: "A server listens and accepts. What does a client do?",
            minutes: 10,
            needs: &[],
            play: |subject| subject.accept().map(drop),
        },
        Check {
            name: "sends",
            what: "the client sends a typed line, including its line feed",
            idea: "The function that reads a line from the keyboard may remove the line feed.",
            minutes: 10,
            needs: &["connects"],
            play: |subject| {
                let mut server = subject.accept()?;
                subject.type_text("hello\n")?;
                server.line("hello")
            },
        },
        Check {
            name: "end-of-input",
            what: "at the end of its keyboard input, the client exits with code 0",
            idea: "What does your function that reads a line return at the end of the input?",
            minutes: 5,
            needs: SENDS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.close_keyboard();
                server.end()?;
                subject.expect_exit(true)
            },
        },
        Check {
            name: "shows",
            what: "the client prints the reply",
            idea: "Read a line from the socket as you would from a file.",
            minutes: 10,
            needs: &["connects", "sends", "end-of-input"],
            play: |subject| {
                let mut server = subject.accept()?;
                exchange(subject, &mut server, "hello")?;
                subject.close_keyboard();
                server.end()?;
                subject.expect_output("From server -> hello")
            },
        },
        Check {
            name: "several-lines",
            what: "after the reply, the client sends the next line",
            idea: "A visit is a loop. Which two things does it wait for, and in which order?",
            minutes: 5,
            needs: SHOWS,
            play: |subject| {
                let mut server = subject.accept()?;
                for line in ["one", "two", "three"] {
                    exchange(subject, &mut server, line)?;
                }
                subject.close_keyboard();
                server.end()?;
                ["one", "two", "three"]
                    .iter()
                    .try_for_each(|line| subject.expect_output(&format!("From server -> {line}")))
            },
        },
        Check {
            name: "answer-in-parts",
            what: "a reply that arrives in several parts is still one line",
            idea: "TCP preserves the order of the bytes, but not the boundaries of the writes. \
                   How do you know that the reply is complete?",
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
                subject.type_text("hello\n")?;
                server.line("hello")?;
                server.send_parts(["From ser", "ver -> he", "llo\n"])?;
                exchange(subject, &mut server, "again")?;
                subject.close_keyboard();
                server.end()?;
                subject.expect_output("From server -> hello")?;
                subject.expect_output("From server -> again")
            },
        },
        Check {
            name: "utf-8",
            what: "the client prints multi-byte characters correctly, even if they arrive in two parts",
            idea: "Which of your steps works on bytes, and which on characters?",
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
                subject.type_text("grün €\n")?;
                server.line("grün €")?;
                server.send_parts([&b"From server -> gr\xc3"[..], b"\xbcn \xe2\x82", b"\xac\n"])?;
                subject.close_keyboard();
                server.end()?;
                subject.expect_output("From server -> grün €")
            },
        },
        Check {
            name: "control-characters",
            what: "no control character in a reply reaches the terminal",
            idea: "The server writes to your screen. What could it write there besides text?",
            minutes: 15,
            needs: SHOWS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.type_text("hello\n")?;
                server.line("hello")?;
                server.send("From server -> \u{1b}[2Jgone\n")?;
                subject.close_keyboard();
                server.end()?;
                subject.expect_output("gone")?;
                subject.expect_no_output_of('\u{1b}')
            },
        },
        Check {
            name: "exit",
            what: "the client sends Exit, and then exits with code 0",
            idea: "The server does not reply to Exit. What would your client be waiting for?",
            minutes: 5,
            needs: SENDS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.type_text("Exit\n")?;
                server.line("Exit")?;
                server.end()?;
                subject.expect_exit(true)
            },
        },
        Check {
            name: "server-has-gone",
            what: "if the server closes the connection instead of replying, the client reports that and exits with a code other than 0",
            idea: "What does reading from the socket return at the end of the stream? Is that \
                   value a reply?",
            minutes: 10,
            needs: SENDS,
            play: |subject| {
                let mut server = subject.accept()?;
                subject.type_text("hello\n")?;
                server.line("hello")?;
                drop(server);
                subject.expect_exit(false)
            },
        },
        Check {
            name: "nobody-listens",
            what: "if nothing is listening on the port, the client reports that and exits with a code other than 0",
            idea: "A call that fails returns an error or throws. Which part of your program \
                   handles the failure?",
            minutes: 10,
            needs: &[],
            play: |subject| {
                subject.kill();
                subject.stop_listening();
                subject.start_again()?;
                subject.expect_exit(false)?;
                subject.expect_any_output()
            },
        },
        Check {
            name: "load",
            what: "the client sends 500 lines from a pipe, and prints the replies in order",
            idea: "Do you ever read more than one line at a time? What happens to the rest?",
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
                subject.type_text(&lines)?;
                subject.close_keyboard();
                for number in 0..LINES {
                    server.line(&format!("line {number}"))?;
                    server.send(format!("From server -> line {number}\n"))?;
                }
                server.end()?;
                subject.expect_exit(true)?;
                // Only the end of the output is kept.
                let last = LINES - 1;
                subject.expect_output(&format!("From server -> line {last}"))
            },
        },
    ],
};

/// Types a line, expects it at the server, and replies.
fn exchange(subject: &Subject<'_>, server: &mut Talk, line: &str) -> Result<(), Failure> {
    subject.type_text(&format!("{line}\n"))?;
    server.line(line)?;
    server.send(format!("From server -> {line}\n"))
}

impl Subject<'_> {
    /// Accepts the client's connection.
    ///
    /// # Errors
    /// The client did not connect in time.
    fn accept(&self) -> Result<Talk, Failure> {
        let expected = || {
            Failure::expected(format!("a connection to port {}", self.address.port()))
                .sent("the client was started")
        };
        let listener = self.listener.lock();
        let listener = listener.as_ref().ok_or_else(expected)?;
        let wrong = |error: io::Error| expected().received(error);
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
                return Err(expected().received(format!("{ENDED} ({status})")));
            }
            if Instant::now() > until {
                return Err(expected());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Closes the listener.
    fn stop_listening(&self) {
        *self.listener.lock() = None;
    }

    /// Waits until the program exits.
    fn wait_for_exit(&self) -> Result<ExitStatus, Failure> {
        let until = Instant::now() + self.patience;
        loop {
            if let Some(status) = self.end() {
                return Ok(status);
            }
            if Instant::now() > until {
                let received = format!(
                    "the client is still running after {} s",
                    self.patience.as_secs()
                );
                return Err(Failure::expected("the client to exit")
                    .sent("the client had nothing more to do")
                    .received(received));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Expects the program to exit, with code 0 if `success`, otherwise with another code.
    fn expect_exit(&self, success: bool) -> Result<(), Failure> {
        let status = self.wait_for_exit()?;
        let expected = if success {
            "exit code 0"
        } else {
            "an exit code other than 0"
        };
        match status.success() == success {
            true => Ok(()),
            false => Err(Failure::expected(expected)
                .sent("the client exited")
                .received(status)),
        }
    }

    /// The program's output, after it has exited.
    fn output(&self) -> Result<String, Failure> {
        // If its output is a pipe, a program may buffer it until it exits.
        self.wait_for_exit()?;
        Ok(self.printed())
    }

    fn expect_output(&self, text: &str) -> Result<(), Failure> {
        match self.output()?.contains(text) {
            true => Ok(()),
            false => Err(
                Failure::expected(format!("{text:?} in the client's output"))
                    .sent(format!("the server sent {text:?}"))
                    .received("other output (see below)"),
            ),
        }
    }

    fn expect_no_output_of(&self, control: char) -> Result<(), Failure> {
        match self.output()?.contains(control) {
            false => Ok(()),
            true => Err(
                Failure::expected("no control character in the client's output")
                    .sent(format!("the server sent {control:?}"))
                    .received("the client printed it unchanged"),
            ),
        }
    }

    fn expect_any_output(&self) -> Result<(), Failure> {
        match self.output()?.trim().is_empty() {
            false => Ok(()),
            true => {
                Err(Failure::expected("a sentence that explains the error")
                    .sent("the client exited"))
            }
        }
    }
}
