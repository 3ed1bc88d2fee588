//! Traces every socket call (`--trace`) and splits writes into pieces (`--chop`).

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Maximum number of bytes shown for each call.
const SHOWN: usize = 300;

/// Receives each call. It must not use the socket that made the call.
pub type Trace = Arc<dyn Fn(&Call<'_>) + Send + Sync>;

/// Diagnostic options of a socket: trace its calls, and split its writes. A listener passes its tap
/// on to every connection. Without either option, a tap costs one comparison per call.
#[derive(Clone, Default)]
pub struct Tap {
    /// Maximum number of bytes per write. (Many small pieces fill a socket sooner than a few large
    /// ones, so a client that would otherwise keep up may count as too slow.)
    pub chop: Option<NonZeroUsize>,
    /// Receives each call after it has returned, except `close`, which it receives just before.
    pub trace: Option<Trace>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("chop", &self.chop)
            .field("trace", &self.trace.is_some())
            .finish()
    }
}

/// A completed system call.
#[derive(Debug)]
pub struct Call<'c> {
    /// The name of the system call: `bind`, `listen`, `accept`, `connect`, `read`, `write`,
    /// `shutdown`, `close` and, for datagrams, `recv_from` and `send_to`. `frame`
    /// ([`Tap::saw_frame`]), `records in` and `records out` are not system calls.
    pub name: &'static str,
    /// The peer's address; for a listener, its own address.
    pub address: Option<SocketAddr>,
    /// Number of bytes requested or offered, if the call transfers bytes.
    pub wanted: Option<usize>,
    /// Number of bytes transferred, or the reason for the failure.
    pub result: Result<usize, String>,
    /// The bytes transferred.
    pub bytes: &'c [u8],
}

impl Call<'_> {
    /// Formats the call as one line that begins with this thread's name. Bytes that are not
    /// printable ASCII are escaped, as in `\n` and `\x1b`.
    pub fn line(&self) -> String {
        let thread = std::thread::current();
        let mut line = format!("{:<15}  {:<9}", thread.name().unwrap_or("?"), self.name);
        if let Some(address) = self.address {
            let _ = write!(line, " {address}");
        }
        if let Some(wanted) = self.wanted {
            let _ = write!(line, "  wanted {wanted}");
        }
        match &self.result {
            Ok(got) if self.wanted.is_some() => {
                let _ = write!(line, " got {got}");
            }
            Ok(_) => {}
            Err(reason) => {
                let _ = write!(line, "  failed: {reason}");
            }
        }
        if !self.bytes.is_empty() {
            let _ = write!(line, "  {}", self.shown_bytes());
        }
        line
    }

    /// Returns the bytes in quotation marks, with unprintable ones escaped. A long sequence is
    /// truncated.
    pub fn shown_bytes(&self) -> String {
        if self.bytes.is_empty() {
            String::new()
        } else {
            escaped(self.bytes)
        }
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().min(SHOWN) + 16);
    text.push('"');
    for byte in bytes.iter().take(SHOWN) {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text.push('"');
    if bytes.len() > SHOWN {
        let _ = write!(text, " and {} more", bytes.len() - SHOWN);
    }
    text
}

impl Tap {
    /// Traces the content of a frame from `peer`. The traced calls do not show the content, because
    /// browsers mask it. This is not a system call.
    pub fn saw_frame(&self, peer: SocketAddr, content: &[u8]) {
        if let Some(trace) = &self.trace {
            trace(&Call {
                name: "frame",
                address: Some(peer),
                wanted: None,
                result: Ok(content.len()),
                bytes: content,
            });
        }
    }

    /// Traces the number of bytes that a call's plaintext took on the wire. This is not a system
    /// call either.
    pub(super) fn saw_records(&self, name: &'static str, peer: SocketAddr, bytes: usize) {
        if let Some(trace) = &self.trace {
            trace(&Call {
                name,
                address: Some(peer),
                wanted: Some(bytes),
                result: Ok(bytes),
                bytes: &[],
            });
        }
    }

    /// Traces a call that transfers no bytes.
    pub(super) fn called<T>(
        &self,
        name: &'static str,
        address: Option<SocketAddr>,
        result: &io::Result<T>,
    ) {
        if let Some(trace) = &self.trace {
            trace(&Call {
                name,
                address,
                wanted: None,
                result: result
                    .as_ref()
                    .map(|_| 0)
                    .map_err(|error| error.to_string()),
                bytes: &[],
            });
        }
    }

    /// Traces a call that transferred some of `bytes`.
    pub(super) fn moved(
        &self,
        name: &'static str,
        address: Option<SocketAddr>,
        bytes: &[u8],
        result: &io::Result<usize>,
    ) {
        if let Some(trace) = &self.trace {
            trace(&Call {
                name,
                address,
                wanted: Some(bytes.len()),
                result: result.as_ref().copied().map_err(|error| error.to_string()),
                bytes: &bytes[..result.as_ref().map_or(0, |count| *count)],
            });
        }
    }

    /// Traces a read whose bytes are discarded.
    pub(super) fn thrown_away(
        &self,
        address: SocketAddr,
        wanted: usize,
        result: &io::Result<usize>,
    ) {
        if let Some(trace) = &self.trace {
            trace(&Call {
                name: "read",
                address: Some(address),
                wanted: Some(wanted),
                result: result.as_ref().copied().map_err(|error| error.to_string()),
                bytes: &[],
            });
        }
    }

    /// Passes `bytes` to `write`, in pieces if `chop` is set, until a piece is not accepted in
    /// full. The first argument of `write` is true for the first piece.
    pub(super) fn in_pieces(
        &self,
        bytes: &[u8],
        mut write: impl FnMut(bool, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(piece) = self.chop else {
            return write(true, bytes);
        };
        let mut written = 0;
        for part in bytes.chunks(piece.get()) {
            match write(written == 0, part) {
                Ok(count) => {
                    written += count;
                    if count < part.len() {
                        break;
                    }
                }
                // Report the bytes already written; the next write will return the same error.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the line without the thread's name.
    fn line(call: &Call<'_>) -> String {
        let thread = std::thread::current().name().unwrap().to_owned();
        let line = call.line();
        line.strip_prefix(&thread).unwrap().trim_start().to_owned()
    }

    #[test]
    fn a_call_is_one_line_and_shows_every_byte() {
        let read = Call {
            name: "read",
            address: Some("127.0.0.1:4000".parse().unwrap()),
            wanted: Some(4096),
            result: Ok(7),
            bytes: b"a\\\n\x1b\xc3\xa4!",
        };
        assert_eq!(
            line(&read),
            "read      127.0.0.1:4000  wanted 4096 got 7  \"a\\\\\\n\\x1b\\xc3\\xa4!\""
        );
        let failed = Call {
            name: "connect",
            address: None,
            wanted: None,
            result: Err("refused".to_owned()),
            bytes: &[],
        };
        assert_eq!(line(&failed), "connect    failed: refused");
    }

    #[test]
    fn writes_are_split_and_stop_at_the_first_incomplete_piece() {
        let tap = Tap {
            chop: NonZeroUsize::new(2),
            trace: None,
        };
        let mut pieces = Vec::new();
        let written = tap.in_pieces(b"abcde", |first, part| {
            pieces.push((first, part.to_vec()));
            Ok(part.len())
        });
        assert_eq!(written.unwrap(), 5);
        let expected = [(true, "ab"), (false, "cd"), (false, "e")];
        assert_eq!(pieces, expected.map(|(first, part)| (first, part.into())));

        let full = tap.in_pieces(b"abcde", |first, part| {
            if first {
                Ok(part.len())
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        });
        assert_eq!(full.unwrap(), 2);
    }
}
