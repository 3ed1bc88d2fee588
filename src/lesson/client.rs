//! The client of both servers: it alternately sends a line and waits for the reply.

use std::io::{BufRead, BufReader, Write};

use super::Print;
use super::error::EchoError;
use portal_net::Stream;
use portal_wire::printable_text;

/// Runs until the user types `Exit` or `exit`, or the keyboard input ends.
///
/// This thread blocks in one `read` at a time: while it waits for the keyboard, it receives nothing
/// from the server. A chat client therefore needs two threads.
///
/// # Errors
/// [`EchoError::Interrupted`] if the connection breaks or the server closes it,
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
        // Bytes, because invalid UTF-8 is no reason to exit.
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
