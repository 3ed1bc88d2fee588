//! The client of both servers: says a line, waits for the answer, and again.

use std::io::{self, BufRead, BufReader, Write};

use super::Say;
use crate::net::Stream;
use crate::wire::printable_text;

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
        // Bytes and no string: one that is no UTF-8 is no reason to end.
        let mut line = Vec::new();
        if keyboard.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        stream.write_all(format!("{}\n", line.trim_end_matches(['\n', '\r'])).as_bytes())?;
        if matches!(line.trim(), "Exit" | "exit") {
            return Ok(());
        }
        let mut answer = Vec::new();
        if answers.read_until(b'\n', &mut answer)? == 0 {
            say("The server has gone.");
            return Ok(());
        }
        say(&printable_text(String::from_utf8_lossy(&answer).trim_end()));
    }
}
