//! Rung 1: one socket, one thread, one client at a time.
//!
//! This is the server of seed 001. (A *seed* is one of the five small programs with which this
//! project began.) It sends each line from a client back, with `From server -> ` in front. `Exit`
//! ends the *visit*: the time from a client's connection until the connection is closed. While one
//! client is served, the next ones wait in a queue in the operating system, the *backlog*. A client
//! that never leaves, or that never reads its answers, therefore blocks the server for all others.
//! Rung 2 changes that.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// The text in front of each answer.
const PREFIX: &[u8] = b"From server -> ";

/// Serves one client after the other, until the program is terminated. If `main` returns an error,
/// the program prints it (with `{:?}`, so in quotes) and exits with code 1.
fn main() -> Result<(), String> {
    // Word 0 of the command line is the program's name. Without word 1, `?` returns the error from
    // `main`, and makes a `String` of it.
    let port = env::args().nth(1).ok_or("usage: rung-1 PORT")?;
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // Each turn of this loop calls `accept`. It takes one connection out of the backlog, and blocks
    // while the backlog is empty.
    for stream in listener.incoming() {
        // `and_then` calls `visit` if `accept` has not failed. If one of them fails, that affects
        // only one client: the loop continues with the next one.
        if let Err(error) = stream.and_then(visit) {
            eprintln!("cannot accept a client, or its connection broke: {error}");
        }
    }
    // The loop above never ends, but the compiler does not know that.
    Ok(())
}

/// Serves one client. The connection is closed when `stream` goes out of scope at the end.
fn visit(stream: TcpStream) -> io::Result<()> {
    // `split` reads until a line feed and removes it. At the end of the stream, the bytes after the
    // last line feed are a line, too. A line may have any length here: rung 3 sets a limit.
    for line in BufReader::new(&stream).split(b'\n') {
        let Some(answer) = answer(&line?) else { break };
        // `Read` and `Write` are implemented for `&TcpStream`, too, because the system does the
        // work. So the reader above and the writer here can share one stream. (`write` may send
        // only part of the answer. `write_all` calls it again until everything is sent.)
        (&stream).write_all(&answer)?;
    }
    Ok(())
}

/// The answer to one line, or `None` at the end of the visit.
///
/// Lines are bytes here, not `String`s: they are returned exactly as received, in any encoding.
fn answer(line: &[u8]) -> Option<Vec<u8>> {
    match line {
        // Seed 001 prints this word in both spellings. A client on Windows may send `Exit\r\n`:
        // with the `\r`, it is a different word here. Rung 3 removes the `\r`.
        b"Exit" | b"exit" => None,
        // `concat` makes one `Vec` of the three parts.
        _ => Some([PREFIX, line, b"\n"].concat()),
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
