//! Rung 2: a thread for each client (seed 001).
//!
//! The first thread only accepts. Each client gets its own thread, which is blocked in `read`
//! nearly all the time and uses no processor time there. No client waits for another. Nothing
//! limits the number of threads except the system: a program that connects repeatedly uses up all
//! of them.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// The text in front of each answer.
const PREFIX: &[u8] = b"From server -> ";

/// Accepts clients and starts a thread for each, until the program is terminated. An error that
/// `main` returns is printed, and the program exits with code 1.
fn main() -> Result<(), String> {
    // Word 0 of the command line is the program's name. Without word 1, `?` returns the error from
    // `main`.
    let port = env::args().nth(1).ok_or("usage: rung-2 PORT")?;
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // Each turn of this loop calls `accept`. It takes one connection out of the backlog, and blocks
    // while the backlog is empty.
    for stream in listener.incoming() {
        // `and_then` starts a thread if `accept` has not failed. `move` makes the new thread the
        // owner of the stream. A thread may outlive the function that started it, so it must not
        // borrow that function's variables (the compiler calls this `'static`). `thread::spawn`
        // would panic, and so stop the server, if the system could not create another thread;
        // `Builder` returns an error instead.
        let started = stream.and_then(|stream| thread::Builder::new().spawn(move || visit(stream)));
        // If the thread was started, its handle is dropped here. The thread continues without the
        // handle, but its result is lost. That is intended: a broken connection ends one visit, and
        // no other thread needs to know.
        if let Err(error) = started {
            eprintln!("cannot serve a client: {error}");
            // The usual reason is that the system has no file descriptor or no thread left. Trying
            // again immediately would fail again, and keep the processor busy. A pause gives
            // clients time to leave.
            thread::sleep(Duration::from_millis(100));
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
        // The client from seed 001 sends either spelling. A client on Windows may send `Exit\r\n`:
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
