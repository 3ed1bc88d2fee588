//! Rung 1: one socket, one thread, one client at a time (seed 001).
//!
//! Every line of a client comes back with `From server -> ` in front of it. `Exit` ends the visit.
//! While one client is served, the next one waits in the listener's queue, the *backlog*.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Serves one client after the other, until the program is ended.
fn main() -> Result<(), String> {
    let port = env::args().nth(1).ok_or("usage: rung-1 PORT")?;
    // From here on the system accepts connections, whether or not this program calls `accept`.
    // With 0.0.0.0 instead of 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // Each turn of this loop calls `accept`, which blocks until a connection is in the backlog.
    for stream in listener.incoming() {
        // A client that breaks its connection ends its own visit. With `?`, it would end the
        // server.
        if let Err(error) = stream.and_then(visit) {
            eprintln!("a visit ended early: {error}");
        }
    }
    Ok(())
}

/// Talks with one client. The connection closes when `stream` goes out of scope at the end.
fn visit(stream: TcpStream) -> io::Result<()> {
    // `split` reads until a line feed and removes it. At the end of the stream, the bytes after the
    // last line feed are a line, too. A line may have any length here: rung 3 sets a limit.
    for line in BufReader::new(&stream).split(b'\n') {
        match answer(&line?) {
            // `write` may send only a part of the answer; `write_all` repeats it until all is sent.
            Some(answer) => (&stream).write_all(&answer)?,
            None => break,
        }
    }
    Ok(())
}

/// The answer to one line, or `None` at the end of the visit.
///
/// Lines are bytes here, not `String`s: they are returned exactly as received, in any encoding.
fn answer(line: &[u8]) -> Option<Vec<u8>> {
    match line {
        b"Exit" | b"exit" => None,
        _ => Some([&b"From server -> "[..], line, b"\n"].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back() {
        assert_eq!(answer(b"hello").unwrap(), b"From server -> hello\n");
        assert_eq!(answer(b"").unwrap(), b"From server -> \n");
    }

    #[test]
    fn only_exit_ends_the_visit() {
        assert_eq!(answer(b"Exit"), None);
        assert_eq!(answer(b"exit"), None);
        assert!(answer(b"Exit now").is_some());
        assert!(answer(b"EXIT").is_some());
    }
}
