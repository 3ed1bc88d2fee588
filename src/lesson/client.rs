//! The client of both servers: says a line, waits for the answer, and again.

use std::io::{self, BufRead, BufReader, Write};

use super::Say;
use crate::net::Stream;
use crate::wire::printable;

/// Talks until the person says `Exit` or `exit`, or either side has finished.
///
/// It is blocked in one `read` at a time: while it waits for the keyboard, it hears nothing from the
/// server. That is why a chat client needs two threads.
///
/// # Errors
/// What the socket or the keyboard reports.
pub fn talk(mut stream: &Stream, mut keyboard: impl BufRead, say: Say<'_>) -> io::Result<()> {
    let mut answers = BufReader::new(stream);
    loop {
        say("Enter something to send:");
        let mut line = String::new();
        if keyboard.read_line(&mut line)? == 0 {
            return Ok(());
        }
        stream.write_all(format!("{}\n", line.trim_end_matches(['\n', '\r'])).as_bytes())?;
        if matches!(line.trim(), "Exit" | "exit") {
            return Ok(());
        }
        let mut answer = String::new();
        if answers.read_line(&mut answer)? == 0 {
            say("The server has gone.");
            return Ok(());
        }
        say(&printable(answer.trim_end()));
    }
}
