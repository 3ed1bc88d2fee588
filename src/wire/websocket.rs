//! WebSocket framing (RFC 6455): the messages that a browser sends and receives over one TCP
//! connection.
//!
//! ```text
//!   byte 0            byte 1           then, if the length is 126 or 127   then, from a client   then
//!  ┌───┬─────┬──────┐ ┌────┬────────┐ ┌─────────────────────────────────┐ ┌────────────────────┐ ┌─────────┐
//!  │FIN│ RSV │opcode│ │MASK│ length │ │ the length in 2 or 8 bytes       │ │ the mask, 4 bytes  │ │ payload │
//!  └───┴─────┴──────┘ └────┴────────┘ └─────────────────────────────────┘ └────────────────────┘ └─────────┘
//! ```
//!
//! A message may consist of several frames (fragments), and *control frames* (ping, pong, close)
//! may come between them. The reader checks a frame by its header, before it waits for or stores a
//! byte of the payload.

use super::frame_error::FrameError;
use super::frames::Frames;

/// The size of the longest header, in bytes: two bytes, a length of eight, a mask of four.
pub(super) const LONGEST_HEADER: usize = 14;

/// The maximum payload of a control frame, in bytes (RFC 6455, 5.5).
const LONGEST_CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The reason for closing a WebSocket: the codes from RFC 6455, 7.4.1, that the server uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCode {
    /// The connection has fulfilled its purpose.
    Normal = 1000,
    /// The server is shutting down.
    GoingAway = 1001,
    /// The frames violate the protocol.
    ProtocolError = 1002,
    /// Binary data instead of text.
    Unsupported = 1003,
    /// Text that is not UTF-8.
    NotUtf8 = 1007,
    /// The client may not continue: a wrong passcode, a timeout, or a decision by the operator or a
    /// moderator.
    Refused = 1008,
    /// A message over the limit.
    TooLong = 1009,
    /// The server failed.
    Failed = 1011,
    /// No seat is free; try again later.
    Full = 1013,
}

/// Appends a text frame. `write` appends its content.
pub(super) fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(0x80 | TEXT);
    // Room for the header of most messages. A longer header is inserted.
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    match length {
        0..=125 => out[at] = length as u8,
        126..=0xffff => {
            out[at] = 126;
            out.splice(at + 1..at + 1, (length as u16).to_be_bytes());
        }
        _ => {
            out[at] = 127;
            out.splice(at + 1..at + 1, (length as u64).to_be_bytes());
        }
    }
}

/// Appends a received message unchanged, for an echo.
pub(super) fn write_echo(is_binary: bool, payload: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    write_text(out, |out| out.extend_from_slice(payload));
    if is_binary {
        out[at] = 0x80 | BINARY;
    }
}

/// Appends a ping, which the peer answers automatically.
pub(super) fn write_ping(out: &mut Vec<u8>) {
    write_control(PING, b"", out);
}

/// Appends a close frame, the last one of a connection.
pub fn write_close(code: u16, out: &mut Vec<u8>) {
    write_control(CLOSE, &code.to_be_bytes(), out);
}

fn write_control(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(LONGEST_CONTROL)];
    out.extend([0x80 | opcode, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// The header of a client's frame.
struct Header {
    is_final: bool,
    opcode: u8,
    payload: u64,
    /// `None` if the mask has not arrived yet. The length has, and may be enough to reject the
    /// frame.
    mask: Option<[u8; 4]>,
    /// The size of the header, in bytes.
    length: usize,
}

impl Header {
    /// Reads as much of a header as has arrived; `None` if more bytes must arrive. Reports an error
    /// as early as possible.
    fn read(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let broken = |rule| Err(FrameError::NotWebSocket(rule));
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return broken("a reserved bit is set");
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return broken("a frame has an undefined opcode");
        }
        if second & 0x80 == 0 {
            return broken("a client's frame is not masked");
        }
        let short = second & 0x7f;
        if is_control(opcode) && (!is_final || usize::from(short) > LONGEST_CONTROL) {
            return broken("a control frame is fragmented or longer than 125 bytes");
        }
        let (payload, rest, before) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest, 4),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest, 10),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 2),
        };
        if payload > u64::MAX / 2 {
            return broken("a frame's length has its highest bit set");
        }
        // A length in more bytes than necessary is forbidden, but harmless.
        Ok(Some(Header {
            is_final,
            opcode,
            payload,
            mask: rest.first_chunk::<4>().copied(),
            length: before + 4,
        }))
    }
}

fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

/// Assembles a client's messages from frames.
#[derive(Debug)]
pub(super) struct Assembler {
    /// Set if binary messages are also accepted. (For an echo; documents are text.)
    takes_binary: bool,
    /// The message whose fragments are arriving, and its opcode in `begun`.
    message: Vec<u8>,
    begun: Option<u8>,
    /// The opcode of the last message.
    last: u8,
    /// The number of fragments. Each counts as a byte; otherwise empty fragments would never reach
    /// the limit.
    fragments: usize,
    /// The replies to pings, not sent yet. They take no more memory than the pings from one read
    /// did.
    pongs: Frames,
    /// The error that ended the stream.
    failed: Option<FrameError>,
}

/// The position of the next message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextMessage {
    /// More bytes must arrive.
    Wait,
    /// `buffer[begin..end]`, in one frame. The next frame begins at `end`.
    Here { begin: usize, end: usize },
    /// The message arrived in fragments and is in [`Assembler::message`]. The next frame begins at
    /// `end`.
    Assembled { end: usize },
    /// No message: a fragment or a control frame. The next frame begins at `end`.
    Passed { end: usize },
}

impl Assembler {
    pub(super) fn new(takes_binary: bool) -> Assembler {
        Assembler {
            takes_binary,
            message: Vec::new(),
            begun: None,
            last: TEXT,
            fragments: 0,
            pongs: Frames::default(),
            failed: None,
        }
    }

    /// Returns the assembled message.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Returns whether the last message was binary data.
    pub(super) fn was_binary(&self) -> bool {
        self.last == BINARY
    }

    /// Takes the replies to the received pings, one frame each.
    pub(super) fn take_pongs(&mut self) -> Option<Frames> {
        (!self.pongs.is_empty()).then(|| std::mem::take(&mut self.pongs))
    }

    /// Checks the frame at the start of `buffer[start..]`, and unmasks its payload if all of it has
    /// arrived.
    pub(super) fn next(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        limit: usize,
    ) -> Result<NextMessage, FrameError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let next = self.step(buffer, start, limit);
        if let Err(error) = &next {
            self.failed = Some(error.clone());
        }
        next
    }

    fn step(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        limit: usize,
    ) -> Result<NextMessage, FrameError> {
        let Some(header) = Header::read(&buffer[start..])? else {
            return Ok(NextMessage::Wait);
        };
        self.judge(&header, limit)?;
        let Some(mask) = header.mask else {
            return Ok(NextMessage::Wait);
        };
        // The payload is no longer than the limit.
        let begin = start + header.length;
        let end = begin + header.payload as usize;
        if end > buffer.len() {
            return Ok(NextMessage::Wait);
        }
        let payload = &mut buffer[begin..end];
        unmask(payload, mask);
        match header.opcode {
            CLOSE => return Err(closed(payload)),
            PING => {
                self.pongs.push(|out| write_control(PONG, payload, out));
                return Ok(NextMessage::Passed { end });
            }
            PONG => return Ok(NextMessage::Passed { end }),
            _ => {}
        }
        let is_first = header.opcode != CONTINUATION;
        if is_first {
            self.message.clear();
            self.fragments = 0;
        }
        if is_first && header.is_final {
            check_text(header.opcode, payload)?;
            self.last = header.opcode;
            return Ok(NextMessage::Here { begin, end });
        }
        self.message.extend_from_slice(payload);
        self.fragments += 1;
        if is_first {
            self.begun = Some(header.opcode);
        }
        if !header.is_final {
            return Ok(NextMessage::Passed { end });
        }
        let opcode = self.begun.take().unwrap_or(TEXT);
        check_text(opcode, &self.message)?;
        self.last = opcode;
        Ok(NextMessage::Assembled { end })
    }

    /// Checks whether a frame with this header may arrive now, and whether its length is allowed.
    fn judge(&self, header: &Header, limit: usize) -> Result<(), FrameError> {
        if is_control(header.opcode) {
            return Ok(());
        }
        let is_first = header.opcode != CONTINUATION;
        if is_first && self.begun.is_some() {
            let rule = "a message begins before the previous one has ended";
            return Err(FrameError::NotWebSocket(rule));
        }
        if !is_first && self.begun.is_none() {
            let rule = "a continuation frame has no message to continue";
            return Err(FrameError::NotWebSocket(rule));
        }
        if header.opcode == BINARY && !self.takes_binary {
            return Err(FrameError::Binary);
        }
        let so_far = if is_first {
            0
        } else {
            self.message.len() + self.fragments
        };
        if header.payload > limit.saturating_sub(so_far) as u64 {
            return Err(FrameError::TooLong { limit });
        }
        if !is_first && self.fragments >= limit {
            return Err(FrameError::TooLong { limit });
        }
        Ok(())
    }
}

fn check_text(opcode: u8, payload: &[u8]) -> Result<(), FrameError> {
    if opcode == TEXT && std::str::from_utf8(payload).is_err() {
        return Err(FrameError::NotUtf8);
    }
    Ok(())
}

/// Interprets the payload of a close frame: a close, or another violation.
fn closed(payload: &[u8]) -> FrameError {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            FrameError::Closed { code: None }
        } else {
            FrameError::NotWebSocket("a close frame contains only half a status code")
        };
    };
    // The codes that may be sent: RFC 6455, 7.4, and the registry.
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return FrameError::NotWebSocket(
            "a close frame contains a status code that must not be sent",
        );
    }
    if std::str::from_utf8(reason).is_err() {
        return FrameError::NotUtf8;
    }
    FrameError::Closed { code: Some(code) }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let mut words = payload.chunks_exact_mut(4);
    for four in &mut words {
        if let Ok(bytes) = <[u8; 4]>::try_from(&*four) {
            four.copy_from_slice(&(u32::from_ne_bytes(bytes) ^ word).to_ne_bytes());
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}
