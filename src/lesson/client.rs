//! The client of both servers: says a line, waits for the answer, and again.

use std::io::{BufRead, BufReader, Write};

use super::Print;
use super::error::EchoError;
use portal_net::Stream;
use portal_wire::printable_text;

/// Talks until the person says `Exit` or `exit`, or the keyboard's input has ended.
///
/// It is blocked in one `read` at a time: while it waits for the keyboard, it hears nothing from
/// the server. That is why a chat client needs two threads.
///
/// # Errors
/// [`EchoError::Interrupted`] when the connection breaks or the server hangs up,
/// [`EchoError::Keyboard`].
pub fn talk(
    mut stream: &Stream,
    mut keyboard: impl BufRead,
    print: Print<'_>,
) -> Result<(), EchoError> {
    let interrupted = |error| EchoError::interrupted(stream, error);
    let mut answers = BufReader::new(stream);
    loop {
        print("Enter something to send:");
        // Bytes and no string: one that is no UTF-8 is no reason to end.
        let mut line = Vec::new();
        let typed = keyboard.read_until(b'\n', &mut line);
        if typed.map_err(EchoError::Keyboard)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let sent =
            stream.write_all(format!("{}\n", line.trim_end_matches(['\n', '\r'])).as_bytes());
        sent.map_err(interrupted)?;
        if matches!(line.trim(), "Exit" | "exit") {
            return Ok(());
        }
        let mut answer = Vec::new();
        let received = answers.read_until(b'\n', &mut answer);
        if received.map_err(interrupted)? == 0 {
            return Err(EchoError::Interrupted(stream.peer(), None));
        }
        print(&printable_text(String::from_utf8_lossy(&answer).trim_end()));
    }
}
