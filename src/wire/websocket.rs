//! WebSocket's framing (RFC 6455): messages that a browser sends and takes, over one TCP
//! connection.
//!
//! ```text
//!   byte 0            byte 1           then, if the length is 126 or 127   then, from a client   then
//!  ┌───┬─────┬──────┐ ┌────┬────────┐ ┌─────────────────────────────────┐ ┌────────────────────┐ ┌─────────┐
//!  │FIN│ RSV │opcode│ │MASK│ length │ │ the length in 2 or 8 bytes       │ │ the mask, 4 bytes  │ │ payload │
//!  └───┴─────┴──────┘ └────┴────────┘ └─────────────────────────────────┘ └────────────────────┘ └─────────┘
//! ```
//!
//! A message may come in several frames (fragments), and between them a *control frame* may stand:
//! ping, pong, close. Whoever reads judges a frame by its header, before a byte of its payload is
//! waited for or kept.

use super::frame_error::FrameError;
use super::frames::Frames;

/// The longest header: two bytes, a length of eight, a mask of four.
pub(super) const LONGEST_HEADER: usize = 14;

/// A control frame's payload may be so long (RFC 6455, 5.5).
const LONGEST_CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Why a WebSocket is closed: the codes of RFC 6455, 7.4.1, that a server has a use for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCode {
    /// It has served its purpose.
    Normal = 1000,
    /// The server is going down.
    GoingAway = 1001,
    /// The frames break the rules.
    ProtocolError = 1002,
    /// Binary data, where text is spoken.
    Unsupported = 1003,
    /// Text that is no UTF-8.
    NotUtf8 = 1007,
    /// The client may not go on: a wrong passcode, a timeout, the operator.
    Refused = 1008,
    /// A message over the limit.
    TooLong = 1009,
    /// The server has failed.
    Failed = 1011,
    /// No seat is free; try again later.
    Full = 1013,
}

/// Appends a text frame, whose content `write` appends.
pub(super) fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(0x80 | TEXT);
    // Room for the header of most messages; a longer one is made room for.
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

/// Appends what came as one message, as it came: for an echo.
pub(super) fn write_echo(is_binary: bool, payload: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    write_text(out, |out| out.extend_from_slice(payload));
    if is_binary {
        out[at] = 0x80 | BINARY;
    }
}

/// Appends a ping, which the other side answers by itself.
pub(super) fn write_ping(out: &mut Vec<u8>) {
    write_control(PING, b"", out);
}

/// Appends the last frame of a connection.
pub fn write_close(code: u16, out: &mut Vec<u8>) {
    write_control(CLOSE, &code.to_be_bytes(), out);
}

fn write_control(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(LONGEST_CONTROL)];
    out.extend([0x80 | opcode, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// What a client's frame says of itself.
struct Header {
    is_final: bool,
    opcode: u8,
    payload: u64,
    /// `None`: it has not arrived yet, but the length has, and may be enough to refuse the frame.
    mask: Option<[u8; 4]>,
    /// How many bytes the header takes.
    length: usize,
}

impl Header {
    /// Reads as much of a header as is there; `None` when more has to arrive. What is wrong is said
    /// as soon as it can be seen.
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
            return broken("a frame has an opcode that means nothing");
        }
        if second & 0x80 == 0 {
            return broken("a client's frame is not masked");
        }
        let short = second & 0x7f;
        if is_control(opcode) && (!is_final || usize::from(short) > LONGEST_CONTROL) {
            return broken("a control frame is cut in pieces or longer than 125 bytes");
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
            return broken("a length has its highest bit set");
        }
        // A length that is written longer than it has to be is forbidden, but hurts nobody.
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

/// Puts a client's messages together.
#[derive(Debug)]
pub(super) struct Assembler {
    /// Takes binary messages, too. (For an echo; documents are text.)
    takes_binary: bool,
    /// The message of which fragments have come, and its opcode.
    message: Vec<u8>,
    begun: Option<u8>,
    /// The opcode of the message that came last.
    last: u8,
    /// How many fragments: each counts as a byte, or empty ones would never end.
    fragments: usize,
    /// The answers to pings, which have not been sent. They take no more room than the pings took
    /// in one read.
    pongs: Frames,
    /// What ended it.
    failed: Option<FrameError>,
}

/// Where the next message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextMessage {
    /// More has to arrive.
    Wait,
    /// `buffer[begin..end]`, in one frame. The next frame begins at `end`.
    Here { begin: usize, end: usize },
    /// It came in fragments, and is [`Assembler::message`]. The next frame begins at `end`.
    Assembled { end: usize },
    /// Nothing for the reader: a fragment, or a control frame. The next frame begins at `end`.
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

    /// The message that was put together.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Whether the message that came last was binary data.
    pub(super) fn was_binary(&self) -> bool {
        self.last == BINARY
    }

    /// The answers to the pings that have come, each a frame.
    pub(super) fn take_pongs(&mut self) -> Option<Frames> {
        (!self.pongs.is_empty()).then(|| std::mem::take(&mut self.pongs))
    }

    /// Looks at the frame at the start of `buffer[start..]`, and takes the mask off its payload if
    /// all of it is there.
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
        // It is no longer than the limit.
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

    /// Whether a frame with that header may come now, and may be so long.
    fn judge(&self, header: &Header, limit: usize) -> Result<(), FrameError> {
        if is_control(header.opcode) {
            return Ok(());
        }
        let is_first = header.opcode != CONTINUATION;
        if is_first && self.begun.is_some() {
            let rule = "a message begins before the one before it has ended";
            return Err(FrameError::NotWebSocket(rule));
        }
        if !is_first && self.begun.is_none() {
            let rule = "a message goes on that has not begun";
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

/// What a close frame says: an end, or one more broken rule.
fn closed(payload: &[u8]) -> FrameError {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            FrameError::Closed { code: None }
        } else {
            FrameError::NotWebSocket("a close frame has half a code")
        };
    };
    // Those that may be sent: RFC 6455, 7.4, and the registry's.
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return FrameError::NotWebSocket("a close frame has a code that may not be sent");
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
