//! Watching sockets at work: every call as a line (`--trace`), and writes cut into pieces
//! (`--chop`).

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// How many of a call's bytes are shown.
const SHOWN: usize = 300;

/// Who is told of each call. It must not call the socket that it is told of.
pub type Trace = Arc<dyn Fn(&Call<'_>) + Send + Sync>;

/// What a socket does beside its work: tell of its calls, and cut its writes. A listener hands its
/// own tap on to every connection. Without either it costs one comparison a call.
#[derive(Clone, Default)]
pub struct Tap {
    /// Writes go out so many bytes at a time, and no more together. (Many small pieces fill a
    /// socket sooner than few large ones: a client may be found too slow that otherwise is not.)
    pub chop: Option<NonZeroUsize>,
    /// Is told of each call when it has returned; of `close`, when it is about to happen.
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

/// One call to the system, as it returned.
#[derive(Debug)]
pub struct Call<'c> {
    /// What the system calls it: `bind`, `listen`, `accept`, `connect`, `read`, `write`,
    /// `shutdown`, `close`, and for datagrams `recv_from` and `send_to`. `frame` is none of them
    /// ([`Tap::saw_frame`]).
    pub name: &'static str,
    /// The other side; for a listener, its own address.
    pub address: Option<SocketAddr>,
    /// How many bytes were asked for or offered, where the call is about bytes.
    pub wanted: Option<usize>,
    /// How many there were, or why it failed.
    pub result: Result<usize, String>,
    /// The bytes that were there.
    pub bytes: &'c [u8],
}

impl Call<'_> {
    /// The call in one line that begins with this thread's name, with the bytes escaped: anything
    /// but printable ASCII as `\n`, `\x1b`.
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

    /// The bytes between quotation marks, each of them visible; of many, the first.
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
    /// Tells what was in a frame from `peer` that can't be read in the bytes of the calls, because
    /// a browser masks them. That is no call to the system.
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

    /// Tells how many bytes a call's plain text took on the wire. That is no call either.
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

    /// Tells of a call that moves no bytes.
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

    /// Tells of a call that moved some of `bytes`.
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

    /// Tells of a read whose bytes nobody has looked at.
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

    /// Writes `bytes` with `write`, in pieces if that is wanted, until a piece is not taken whole.
    /// `write` is told whether it is the first piece.
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
                // What has gone out counts; the next write meets the same trouble.
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

    /// The line after the thread's name.
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
    fn writes_are_cut_and_stop_at_the_first_piece_that_is_not_taken() {
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
