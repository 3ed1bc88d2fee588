//! Rung 2: a thread for each client (seed 001).
//!
//! The first thread does nothing but accept. Each client gets its own thread, which is blocked in
//! `read` nearly all the time and costs next to nothing there. No client waits for another.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// Accepts clients and starts a thread for each, until the program is ended.
fn main() -> Result<(), String> {
    let port = env::args().nth(1).ok_or("usage: rung-2 PORT")?;
    // From here on the system accepts connections, whether or not this program calls `accept`.
    // With 0.0.0.0 instead of 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // Each turn of this loop calls `accept`, which blocks until a connection is in the backlog.
    for stream in listener.incoming() {
        // `move` gives the stream to the new thread. An error in `visit` ends that thread alone;
        // its result is dropped together with its handle. (`thread::spawn` would panic if the
        // system had no thread left, and so end the server for all; `Builder` returns an error.)
        let started = stream.and_then(|stream| thread::Builder::new().spawn(move || visit(stream)));
        // No descriptor or no thread is left. Without the pause, this loop would try again at once,
        // and take the processor from the clients whose leaving would help.
        if let Err(error) = started {
            eprintln!("cannot serve a client: {error}");
            thread::sleep(Duration::from_millis(100));
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
/// Lines are bytes here, not `String`s: what comes back is what came, in any encoding.
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
