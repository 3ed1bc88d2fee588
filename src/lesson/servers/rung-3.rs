//! Rung 3: framing, or where one message ends and the next begins.
//!
//! TCP keeps the bytes in order, but not together: one `write` by the client may arrive in several
//! `read`s, and several writes in one. So the server collects bytes until it has a whole line.
//! `split`, which rungs 1 and 2 use for that, has no limit: a client that never sends a line feed
//! fills the memory. Here, a line that is too long ends the visit.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// The longest line in bytes, without its line feed. The number is a choice: far more than a person
/// types, and little memory even for thousands of clients.
const MAX_LINE: usize = 8192;
/// The text in front of each answer.
const PREFIX: &[u8] = b"From server -> ";

/// Accepts clients and starts a thread for each, until the program is terminated. An error that
/// `main` returns is printed, and the program exits with code 1.
fn main() -> Result<(), String> {
    // Word 0 of the command line is the program's name. Without word 1, `?` returns the error from
    // `main`.
    let port = env::args().nth(1).ok_or("usage: rung-3 PORT")?;
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
        // borrow that function's variables (`'static`). `thread::spawn` would panic, and so stop
        // the server, if the system could not create another thread; `Builder` returns an error
        // instead.
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
    // Bytes that have been read but not handled yet. Each client needs its own buffer.
    let mut kept = Vec::new();
    while let Some(line) = next_line(&stream, &mut kept)? {
        let Some(answer) = answer(&line) else { break };
        // `Read` and `Write` are implemented for `&TcpStream`, too, because the system does the
        // work. So reading and writing need no `&mut TcpStream`. (`write` may send only part of the
        // answer. `write_all` calls it again until everything is sent.)
        (&stream).write_all(&answer)?;
    }
    Ok(())
}

/// The answer to one line, or `None` at the end of the visit.
///
/// Lines are bytes here, not `String`s: they are returned as received, in any encoding.
fn answer(line: &[u8]) -> Option<Vec<u8>> {
    match line {
        // The client of seed 001 sends either spelling.
        b"Exit" | b"exit" => None,
        // `concat` makes one `Vec` of the three parts.
        _ => Some([PREFIX, line, b"\n"].concat()),
    }
}

/// Reads until `kept` contains a whole line, and takes the line out. `None` is the end of the
/// stream.
///
/// (`read` needs a `&mut` to its source. The source is the `&TcpStream` here, hence the `mut`.)
fn next_line(mut stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    // A longer buffer would save calls to `read` for long lines; most lines are short.
    let mut bytes = [0; 4096];
    loop {
        // Check before reading: one read may have returned several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        // Blocks until at least one byte has arrived. The number of bytes that arrive together
        // means nothing.
        match stream.read(&mut bytes)? {
            0 if kept.is_empty() => return Ok(None),
            // The client has finished sending, and its last line has no line feed. With a line
            // feed, it is a whole line, which the next turn of the loop takes. After that, `kept`
            // is empty.
            0 => kept.push(b'\n'),
            count => kept.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Takes the first line out of `kept`, if it is whole. The line feed is removed, and so is a `\r`
/// before it: programs on Windows end a line with both.
///
/// The limit also applies to an incomplete line. Otherwise a client that never sends a line feed
/// could fill the server's memory.
fn take_line(kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let end = kept.iter().position(|byte| *byte == b'\n');
    let line = &kept[..end.unwrap_or(kept.len())];
    // A copy, because the original is removed from `kept` below.
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.len() > MAX_LINE {
        // This ends the visit without an answer. The client is still sending and does not read, and
        // when a connection is closed with unread bytes, the client's system may drop all answers
        // that the client has not read yet.
        return Err(io::Error::other("a line is too long"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    // Removes the line and its line feed. The bytes after it stay: they begin the next line.
    // (`drain` also returns the removed bytes. It removes them even if they are not used.)
    kept.drain(..=end);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole lines in `kept`, which keeps the rest.
    fn lines(kept: &mut Vec<u8>) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = take_line(kept).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        lines
    }

    #[test]
    fn lines_do_not_depend_on_the_reads() {
        let bytes = "one\n\ntwo\r\ngrüße\nrest".as_bytes();
        for cut in 0..=bytes.len() {
            let mut kept = bytes[..cut].to_vec();
            let mut found = lines(&mut kept);
            kept.extend_from_slice(&bytes[cut..]);
            found.extend(lines(&mut kept));
            assert_eq!(found, ["one", "", "two", "grüße"], "cut at byte {cut}");
            assert_eq!(kept, b"rest");
        }
    }

    #[test]
    fn a_line_may_have_8192_bytes() {
        let longest = "x".repeat(MAX_LINE);
        assert_eq!(
            lines(&mut format!("{longest}\n").into()),
            [longest.as_str()]
        );
        assert_eq!(
            lines(&mut format!("{longest}\r\n").into()),
            [longest.as_str()]
        );
        assert!(take_line(&mut format!("{longest}x\n").into()).is_err());
    }

    #[test]
    fn an_endless_line_is_not_collected() {
        assert_eq!(take_line(&mut vec![b'x'; MAX_LINE]).unwrap(), None);
        assert!(take_line(&mut vec![b'x'; MAX_LINE + 1]).is_err());
    }

    #[test]
    fn only_exit_ends_the_visit() {
        assert_eq!(answer(b"hello").unwrap(), b"From server -> hello\n");
        assert_eq!(answer(b"Exit"), None);
        assert!(answer(b"Exit now").is_some());
    }
}
