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
    /// The message whose fragments are arriving, if one `has_begun`.
    message: Vec<u8>,
    has_begun: bool,
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
    pub(super) fn new() -> Assembler {
        Assembler {
            message: Vec::new(),
            has_begun: false,
            fragments: 0,
            pongs: Frames::default(),
            failed: None,
        }
    }

    /// Returns the assembled message.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
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
            check_text(payload)?;
            return Ok(NextMessage::Here { begin, end });
        }
        self.message.extend_from_slice(payload);
        self.fragments += 1;
        self.has_begun = !header.is_final;
        if self.has_begun {
            return Ok(NextMessage::Passed { end });
        }
        check_text(&self.message)?;
        Ok(NextMessage::Assembled { end })
    }

    /// Checks whether a frame with this header may arrive now, and whether its length is allowed.
    fn judge(&self, header: &Header, limit: usize) -> Result<(), FrameError> {
        if is_control(header.opcode) {
            return Ok(());
        }
        let is_first = header.opcode != CONTINUATION;
        if is_first && self.has_begun {
            let rule = "a message begins before the previous one has ended";
            return Err(FrameError::NotWebSocket(rule));
        }
        if !is_first && !self.has_begun {
            let rule = "a continuation frame has no message to continue";
            return Err(FrameError::NotWebSocket(rule));
        }
        if header.opcode == BINARY {
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

fn check_text(payload: &[u8]) -> Result<(), FrameError> {
    match std::str::from_utf8(payload) {
        Ok(_) => Ok(()),
        Err(_) => Err(FrameError::NotUtf8),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 70_000;

    /// A client's frame, masked as RFC 6455 prescribes.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_text(&mut frame, |out| out.extend_from_slice(payload));
        frame[0] = first;
        frame[1] |= 0x80;
        let begin = frame.len() - payload.len();
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        unmask(&mut frame[begin..], mask);
        frame.splice(begin..begin, mask);
        frame
    }

    /// Gives a client's bytes to a reader. Returns the messages and the error at the end.
    fn read_with(
        mut reader: Assembler,
        mut bytes: Vec<u8>,
        limit: usize,
    ) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let (mut start, mut messages) = (0, Vec::new());
        loop {
            start = match reader.next(&mut bytes, start, limit) {
                Ok(NextMessage::Wait) => return (messages, None),
                Ok(NextMessage::Here { begin, end }) => {
                    messages.push(bytes[begin..end].to_vec());
                    end
                }
                Ok(NextMessage::Assembled { end }) => {
                    messages.push(reader.message().to_vec());
                    end
                }
                Ok(NextMessage::Passed { end }) => end,
                Err(error) => return (messages, Some(error)),
            }
        }
    }

    fn read(bytes: Vec<u8>) -> (Vec<Vec<u8>>, Option<FrameError>) {
        read_with(Assembler::new(), bytes, LIMIT)
    }

    fn is_rejected(bytes: Vec<u8>) -> bool {
        matches!(read(bytes), (messages, Some(FrameError::NotWebSocket(_))) if messages.is_empty())
    }

    /// The examples of RFC 6455, 5.7.
    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        let mut out = Vec::new();
        write_text(&mut out, |out| out.extend_from_slice(b"Hello"));
        assert_eq!(out, b"\x81\x05Hello");
        let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(frame(0x81, b"Hello"), masked);
        assert_eq!(read(masked.to_vec()), (vec![b"Hello".to_vec()], None));
        let in_two = [frame(0x01, b"Hel"), frame(0x80, b"lo")].concat();
        assert_eq!(read(in_two), (vec![b"Hello".to_vec()], None));
        let mut ping = Vec::new();
        write_ping(&mut ping);
        assert_eq!(ping, b"\x89\x00");
        let mut close = Vec::new();
        write_close(1000, &mut close);
        assert_eq!(close, b"\x88\x02\x03\xe8");
    }

    #[test]
    fn lengths_take_one_three_or_nine_bytes() {
        for (length, header) in [
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (0xffff, vec![0x81, 126, 0xff, 0xff]),
            (0x1_0000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = vec![b'x'; length];
            let mut out = Vec::new();
            write_text(&mut out, |out| out.extend_from_slice(&text));
            assert_eq!(out[..header.len()], header);
            assert_eq!(out[header.len()..], text);
            assert_eq!(read(frame(0x81, &text)), (vec![text], None));
        }
    }

    #[test]
    fn a_frame_is_read_once_it_is_complete() {
        for payload in [&b"Hello"[..], &[b'x'; 300]] {
            let whole = frame(0x81, payload);
            for end in 0..whole.len() {
                assert_eq!(read(whole[..end].to_vec()), (vec![], None), "{end}");
            }
        }
    }

    #[test]
    fn a_ping_between_fragments_is_answered() {
        let mut reader = Assembler::new();
        let mut bytes = [frame(0x01, b"a"), frame(0x89, b"you"), frame(0x8a, b"")].concat();
        let mut start = 0;
        for _ in 0..3 {
            let Ok(NextMessage::Passed { end }) = reader.next(&mut bytes, start, LIMIT) else {
                panic!("a message")
            };
            start = end;
        }
        let pongs = reader.take_pongs().expect("a pong");
        assert_eq!(pongs.bytes(), b"\x8a\x03you");
        assert!(reader.take_pongs().is_none());
        let mut rest = frame(0x80, b"b");
        assert_eq!(
            reader.next(&mut rest, 0, LIMIT),
            Ok(NextMessage::Assembled { end: 7 })
        );
        assert_eq!(reader.message(), b"ab");
    }

    #[test]
    fn a_violation_of_the_rfc_ends_the_stream() {
        let unmasked = b"\x81\x05Hello".to_vec();
        let mut too_long = vec![0x81, 0xff];
        too_long.extend(u64::MAX.to_be_bytes());
        for bytes in [
            unmasked,
            too_long,
            // Reserved bits, and undefined opcodes.
            frame(0xc1, b"a"),
            frame(0xa1, b"a"),
            frame(0x91, b"a"),
            frame(0x83, b"a"),
            frame(0x8b, b"a"),
            // Control frames must be whole and short.
            frame(0x09, b"a"),
            frame(0x89, &[b'a'; 126]),
            // Fragments out of order.
            frame(0x80, b"a"),
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            // Close frames with half a code, or with one that may not be sent.
            frame(0x88, b"\x03"),
            frame(0x88, b"\x03\xed"),
            frame(0x88, b"\x0b\xb7"),
        ] {
            assert!(is_rejected(bytes.clone()), "{bytes:x?}");
        }
        assert!(!is_rejected(frame(0x89, &[b'a'; 125])));
    }

    #[test]
    fn a_close_reports_its_code() {
        for (payload, error) in [
            (&b""[..], FrameError::Closed { code: None }),
            (b"\x03\xe8", FrameError::Closed { code: Some(1000) }),
            (b"\x0b\xb8bye", FrameError::Closed { code: Some(3000) }),
            (b"\x03\xe8\xff", FrameError::NotUtf8),
        ] {
            assert_eq!(read(frame(0x88, payload)), (vec![], Some(error)));
        }
    }

    #[test]
    fn messages_must_be_text_in_utf_8() {
        // A character may be split between two fragments.
        let split = [frame(0x01, b"\xc3"), frame(0x80, b"\xa9")].concat();
        assert_eq!(read(split), (vec!["é".into()], None));
        for bytes in [
            frame(0x81, b"\xc3"),
            [frame(0x01, b"\xc3"), frame(0x80, b"a")].concat(),
        ] {
            assert_eq!(read(bytes), (vec![], Some(FrameError::NotUtf8)));
        }
        let binary = frame(0x82, b"\xff");
        assert_eq!(read(binary), (vec![], Some(FrameError::Binary)));
    }

    /// Fragments count, too, so that empty ones also reach the limit.
    #[test]
    fn a_message_over_the_limit_is_rejected_by_its_header() {
        let over = Some(FrameError::TooLong { limit: 4 });
        let read = |bytes| read_with(Assembler::new(), bytes, 4);
        assert_eq!(read(frame(0x81, b"abcd")), (vec![b"abcd".to_vec()], None));
        assert_eq!(
            read(frame(0x81, b"abcde")[..2].to_vec()),
            (vec![], over.clone())
        );
        let two = |first: &[u8], second: &[u8]| [frame(0x01, first), frame(0x80, second)].concat();
        assert_eq!(read(two(b"ab", b"c")), (vec![b"abc".to_vec()], None));
        assert_eq!(read(two(b"ab", b"cd")), (vec![], over.clone()));
        let empty = [vec![frame(0x01, b"")], vec![frame(0x00, b""); 4]].concat();
        assert_eq!(read(empty.concat()), (vec![], over));
    }

    #[test]
    fn an_error_is_repeated() {
        let mut reader = Assembler::new();
        let mut bad = frame(0x83, b"a");
        let error = reader.next(&mut bad, 0, LIMIT).unwrap_err();
        let mut good = frame(0x81, b"a");
        assert_eq!(reader.next(&mut good, 0, LIMIT), Err(error));
    }
}
