//! Rung 3: framing, or where one message ends and the next begins.
//!
//! TCP keeps the bytes in order, but not together: one `write` of the client may arrive in several
//! `read`s, and several writes in one. So the server collects bytes until it has a whole line, and
//! it gives up on a line that becomes too long.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;

/// Accepts clients and starts a thread for each, until the program is ended.
fn main() -> Result<(), String> {
    let port = env::args().nth(1).ok_or("usage: rung-3 PORT")?;
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
    // Bytes that have been read and are not a whole line yet. Each client needs its own.
    let mut kept = Vec::new();
    while let Some(line) = next_line(&stream, &mut kept)? {
        match answer(&line) {
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

/// Reads until `kept` holds a whole line, and takes it out. `None` is the end of the stream.
fn next_line(mut stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; 4096];
    loop {
        // Before reading: one read may have brought several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        // Blocks until at least one byte is available. How many come at once means nothing.
        match stream.read(&mut bytes)? {
            0 if kept.is_empty() => return Ok(None),
            // The client has finished sending: what is left is a line, too.
            0 => kept.push(b'\n'),
            count => kept.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Takes the first line out of `kept`, if it is whole: without its line feed and a `\r` before it.
///
/// The limit also applies to an incomplete line. Otherwise a client that never sends a
/// line feed could fill the server's memory.
fn take_line(kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let end = kept.iter().position(|byte| *byte == b'\n');
    let line = &kept[..end.unwrap_or(kept.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.len() > MAX_LINE {
        return Err(io::Error::other("a line is too long"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    // What stands behind the line feed stays: it begins the next line.
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
