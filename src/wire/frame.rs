//! Message boundaries. TCP does not preserve them, so a line feed ends each message.
//!
//! One `send` is not one `recv`. A read may return half a frame, or three and a half, so the reader
//! keeps an incomplete frame until the rest arrives.

use std::io::{self, Read};

use super::frame_error::FrameError;
use super::frames::Frames;
use super::websocket::{self, Assembler, NextMessage};
use crate::limits;

/// The way a stream is split into frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// A line feed ends each frame.
    Line,
    /// A length precedes each frame, as .NET's `BinaryWriter.Write(string)` writes it. The length
    /// takes 1 to 5 bytes, with seven bits in each, the lowest first. The eighth bit is set if more
    /// bytes follow.
    LengthPrefixed,
    /// WebSocket text messages, read and written as the server's side.
    WebSocket,
}

impl Framing {
    /// Appends one frame. `write` appends its content.
    pub fn write(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Framing::Line => {
                write(out);
                out.push(b'\n');
            }
            Framing::LengthPrefixed => {
                let mut content = Vec::with_capacity(128);
                write(&mut content);
                let mut length = content.len();
                while length >= 0x80 {
                    out.push(length as u8 | 0x80);
                    length >>= 7;
                }
                out.push(length as u8);
                out.extend_from_slice(&content);
            }
            Framing::WebSocket => websocket::write_text(out, write),
        }
    }
}

/// Input from a WebSocket.
#[derive(Debug)]
pub enum WebInput<'f> {
    /// A complete message.
    Message(&'f [u8]),
    /// The replies to pings, one frame each.
    Pongs(Frames),
}

/// Splits a byte stream into frames. It keeps the bytes that were read but not yet taken, at most
/// the longest frame or [`limits::READ_BUFFER_MOST`], whichever is more.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// `buffer[start..end]` was read but not yet taken.
    start: usize,
    end: usize,
    /// No line feed is in `buffer[start..scanned]`, so each byte of a slow sender's frame is
    /// searched only once.
    scanned: usize,
    max_frame: usize,
    framing: Framing,
    /// Only for WebSocket.
    assembler: Option<Box<Assembler>>,
}

impl FrameReader {
    /// Creates a reader for lines of up to `max_frame` bytes, not counting the line feed or a CR
    /// before it.
    pub fn new(max_frame: usize) -> FrameReader {
        FrameReader::with(Framing::Line, max_frame)
    }

    /// Creates a reader for frames of this kind with up to `max_frame` bytes of content.
    pub fn with(framing: Framing, max_frame: usize) -> FrameReader {
        FrameReader {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            scanned: 0,
            max_frame,
            framing,
            assembler: (framing == Framing::WebSocket).then(|| Box::new(Assembler::new())),
        }
    }

    /// Starts this reader with `bytes`, which were read before it was created.
    pub fn after(mut self, bytes: &[u8]) -> FrameReader {
        self.buffer = bytes.to_vec();
        self.end = bytes.len();
        self
    }

    /// Takes the replies to the WebSocket pings received since the last call, one frame each.
    pub fn take_pongs(&mut self) -> Option<Frames> {
        self.assembler.as_mut()?.take_pongs()
    }

    /// Calls `read` on `source` exactly once and keeps the bytes. Returns their number; 0 means the
    /// end of the stream.
    ///
    /// # Errors
    /// Any error from `read` except `Interrupted`, after which the read is retried.
    pub fn read_from(&mut self, source: &mut (impl Read + ?Sized)) -> io::Result<usize> {
        self.make_room();
        loop {
            match source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Handles the end of the stream: if frames are lines, bytes after the last line feed become
    /// one more line. Returns whether there is such a line.
    pub fn end_last_line(&mut self) -> bool {
        if self.framing != Framing::Line || self.start == self.end {
            return false;
        }
        self.make_room();
        self.buffer[self.end] = b'\n';
        self.end += 1;
        true
    }

    /// Returns the received bytes that do not form a complete frame yet.
    pub fn unfinished(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns the next complete frame, without its line feed or a CR before it; `None` if the rest
    /// of it has not arrived.
    ///
    /// # Errors
    /// [`FrameError`], as soon as it is known, and on every later call.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        match self.framing {
            Framing::Line => self.next_line(),
            Framing::LengthPrefixed => self.next_counted(),
            Framing::WebSocket => Ok(match self.next_web_message()? {
                Some(NextMessage::Here { begin, end }) => Some(&self.buffer[begin..end]),
                Some(_) => self.assembler.as_ref().map(|there| there.message()),
                None => None,
            }),
        }
    }

    /// Returns the next complete WebSocket message. If there is none, returns the replies to the
    /// pings received since the last call.
    ///
    /// # Errors
    /// The same errors as [`FrameReader::next_frame`].
    pub fn next_web_input(&mut self) -> Result<Option<WebInput<'_>>, FrameError> {
        let next = self.next_web_message()?;
        let assembler = self.assembler.as_mut();
        Ok(match next {
            Some(NextMessage::Here { begin, end }) => {
                Some(WebInput::Message(&self.buffer[begin..end]))
            }
            Some(_) => assembler.map(|there| WebInput::Message(there.message())),
            None => assembler
                .and_then(|there| there.take_pongs())
                .map(WebInput::Pongs),
        })
    }

    fn next_web_message(&mut self) -> Result<Option<NextMessage>, FrameError> {
        let limit = self.max_frame;
        let Some(assembler) = &mut self.assembler else {
            return Ok(None);
        };
        loop {
            let next = assembler.next(&mut self.buffer[..self.end], self.start, limit)?;
            let end = match next {
                NextMessage::Wait => return Ok(None),
                NextMessage::Here { end, .. }
                | NextMessage::Assembled { end }
                | NextMessage::Passed { end } => end,
            };
            self.start = end;
            self.scanned = end;
            if !matches!(next, NextMessage::Passed { .. }) {
                return Ok(Some(next));
            }
        }
    }

    fn next_counted(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some((length, prefix)) = dotnet_length(&self.buffer[self.start..self.end])? else {
            return Ok(None);
        };
        if length > self.max_frame {
            let limit = self.max_frame;
            return Err(FrameError::TooLong { limit });
        }
        let begin = self.start + prefix;
        if self.end - begin < length {
            return Ok(None);
        }
        self.start = begin + length;
        // Kept in sync for `make_room`; there is nothing to search for.
        self.scanned = self.start;
        Ok(Some(&self.buffer[begin..begin + length]))
    }

    fn next_line(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let limit = self.max_frame;
        let Some(offset) = memchr::memchr(b'\n', &self.buffer[self.scanned..self.end]) else {
            self.scanned = self.end;
            // The byte after the limit may still turn out to be a CR.
            return if self.end - self.start > limit + 1 {
                Err(FrameError::TooLong { limit })
            } else {
                Ok(None)
            };
        };
        let line_feed = self.scanned + offset;
        let line = &self.buffer[self.start..line_feed];
        let frame = line.strip_suffix(b"\r").unwrap_or(line);
        if frame.len() > limit {
            return Err(FrameError::TooLong { limit });
        }
        self.start = line_feed + 1;
        self.scanned = self.start;
        Ok(Some(frame))
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end, self.scanned) = (0, 0, 0);
        } else if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.end -= self.start;
            self.start = 0;
        }
        // Grow only if a read filled the buffer, so an idle client keeps a small one.
        let most = limits::READ_BUFFER_MOST.max(self.max_frame + LONGEST_FRAME_OVERHEAD);
        if self.end == self.buffer.len() {
            let more = (self.buffer.len() * 2).clamp(limits::READ_BUFFER, most);
            self.buffer.resize(more, 0);
        }
    }
}

/// The maximum size of .NET's length prefix, in bytes.
const LONGEST_PREFIX: usize = 5;

/// The maximum number of bytes before or after a frame's content.
const LONGEST_FRAME_OVERHEAD: usize = websocket::LONGEST_HEADER;

/// Returns the length at the start of `bytes` and the size of its prefix; `None` if more bytes must
/// arrive. A prefix may be longer than necessary, as .NET's reader allows, but the length must not
/// be negative.
fn dotnet_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut length: u64 = 0;
    for (index, byte) in bytes.iter().take(LONGEST_PREFIX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // .NET reads a signed 32-bit number; a value that does not fit is negative or invalid.
            return match i32::try_from(length) {
                Ok(length) => Ok(Some((length.unsigned_abs() as usize, index + 1))),
                Err(_) => Err(FrameError::BadLength),
            };
        }
    }
    if bytes.len() < LONGEST_PREFIX {
        Ok(None)
    } else {
        Err(FrameError::BadLength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A source that returns its bytes in pieces of at most `step`, as a network does.
    struct Trickle<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(self.bytes.len()).min(into.len());
            into[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    fn frames(bytes: &[u8], step: usize, max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut reader = FrameReader::new(max);
        let mut source = Trickle { bytes, step };
        let mut found = Vec::new();
        loop {
            while let Some(frame) = reader.next_frame()? {
                found.push(frame.to_vec());
            }
            if reader.read_from(&mut source).unwrap() == 0 {
                return Ok(found);
            }
        }
    }

    #[test]
    fn a_line_feed_ends_a_frame_and_a_cr_before_it_is_dropped() {
        let found = frames(b"one\r\ntwo\n\nthr\ree\nunfinished", 1000, 100).unwrap();
        assert_eq!(found, [&b"one"[..], b"two", b"", b"thr\ree"]);
    }

    #[test]
    fn the_limit_counts_neither_line_feed_nor_cr() {
        assert_eq!(frames(b"12345\r\n", 1, 5).unwrap(), [b"12345"]);
        assert_eq!(
            frames(b"123456\n", 1, 5),
            Err(FrameError::TooLong { limit: 5 })
        );
        assert_eq!(
            frames(b"123456\r\n", 1000, 5),
            Err(FrameError::TooLong { limit: 5 })
        );
    }

    #[test]
    fn a_giant_frame_is_refused_before_its_end_and_not_stored() {
        let mut reader = FrameReader::new(8192);
        let mut endless = io::repeat(b'x');
        let mut read = 0;
        let error = loop {
            read += reader.read_from(&mut endless).unwrap();
            if let Err(error) = reader.next_frame() {
                break error;
            }
        };
        assert_eq!(error, FrameError::TooLong { limit: 8192 });
        assert!(
            read <= limits::READ_BUFFER_MOST,
            "read {read} bytes of a frame of 8192"
        );
    }

    #[test]
    fn an_interrupted_read_is_repeated_and_an_error_is_returned() {
        struct Errors(Vec<io::ErrorKind>);
        impl Read for Errors {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                match self.0.pop() {
                    Some(kind) => Err(kind.into()),
                    None => (&b"hi\n"[..]).read(into),
                }
            }
        }
        let interrupted = io::ErrorKind::Interrupted;
        let mut reader = FrameReader::new(100);
        assert_eq!(
            reader.read_from(&mut Errors(vec![interrupted; 3])).unwrap(),
            3
        );
        let failing = vec![io::ErrorKind::ConnectionReset, interrupted];
        let error = reader.read_from(&mut Errors(failing)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(reader.next_frame(), Ok(Some(&b"hi"[..])));
    }

    /// The buffer moves what is left of a frame to its start before it grows, and it grows only
    /// when it is full.
    #[test]
    fn the_buffer_grows_with_the_frames_up_to_a_limit() {
        let size = |reader: &FrameReader| reader.buffer.len();
        let mut reader = FrameReader::new(100_000);
        let mut read = |bytes: &[u8]| {
            let mut rest = bytes;
            while !rest.is_empty() {
                reader.read_from(&mut rest).unwrap();
            }
            reader.make_room();
            let sizes = (size(&reader), reader.unfinished().len());
            while reader.next_frame().unwrap().is_some() {}
            sizes
        };
        assert_eq!(read(b"a short line\n"), (limits::READ_BUFFER, 13));
        let half = vec![b'x'; limits::READ_BUFFER / 2];
        assert_eq!(read(&half), (limits::READ_BUFFER, half.len()));
        assert_eq!(read(&half), (2 * limits::READ_BUFFER, 2 * half.len()));
        let longest = vec![b'x'; 100_000 - 2 * half.len()];
        let most = limits::READ_BUFFER_MOST.max(100_000 + LONGEST_FRAME_OVERHEAD);
        assert_eq!(read(&longest), (most, 100_000));
        assert_eq!(read(b"\nrest"), (most, 100_005));
        // The space of the frame that was taken is used again.
        let mut fill = vec![b'x'; most - 4];
        fill[50_000] = b'\n';
        assert_eq!(read(&fill), (most, most));
    }

    fn counted(bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut reader = FrameReader::with(Framing::LengthPrefixed, 70_000);
        let mut source = Trickle { bytes, step };
        let mut found = Vec::new();
        loop {
            while let Some(frame) = reader.next_frame()? {
                found.push(frame.to_vec());
            }
            if reader.read_from(&mut source).unwrap() == 0 {
                return Ok(found);
            }
        }
    }

    /// Returns a client's frame with this first byte.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 77, 177, 255];
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend((long as u16).to_be_bytes());
            }
        }
        frame.extend(mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn web(bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut reader = FrameReader::with(Framing::WebSocket, 1000);
        let mut source = Trickle { bytes, step };
        let mut found = Vec::new();
        loop {
            while let Some(frame) = reader.next_frame()? {
                found.push(frame.to_vec());
            }
            if reader.read_from(&mut source).unwrap() == 0 {
                return Ok(found);
            }
        }
    }

    #[test]
    fn a_servers_frames_begin_with_their_length() {
        for (length, head) in [
            (5, &[0x81, 5][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = b"before".to_vec();
            Framing::WebSocket.write(&mut out, |content| {
                content.resize(content.len() + length, b'x')
            });
            assert_eq!(&out[6..6 + head.len()], head);
            assert_eq!(out.len(), 6 + head.len() + length);
        }
    }

    /// A masked text frame with this mask leaves its payload as it is.
    fn from_browser(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = 0x80 | payload.len() as u8;
        [&[first, length, 0, 0, 0, 0][..], payload].concat()
    }

    #[test]
    fn pongs_follow_the_messages_that_came_before() {
        let bytes = [
            from_browser(0x89, b"1"),
            from_browser(0x81, b"hi"),
            from_browser(0x89, b"2"),
        ]
        .concat();
        let mut reader = FrameReader::with(Framing::WebSocket, 100);
        reader.read_from(&mut &bytes[..]).unwrap();
        let Ok(Some(WebInput::Message(message))) = reader.next_web_input() else {
            panic!("no message")
        };
        assert_eq!(message, b"hi");
        let Ok(Some(WebInput::Pongs(pongs))) = reader.next_web_input() else {
            panic!("no pongs")
        };
        assert_eq!(pongs.bytes(), b"\x8a\x011\x8a\x012");
        assert!(matches!(reader.next_web_input(), Ok(None)));

        let mut reader = FrameReader::with(Framing::WebSocket, 100).after(&bytes);
        assert_eq!(reader.next_frame(), Ok(Some(&b"hi"[..])));
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(reader.take_pongs().is_some() && reader.take_pongs().is_none());
    }

    #[test]
    fn only_lines_may_end_with_the_stream() {
        for (framing, is_line) in [
            (Framing::Line, true),
            (Framing::LengthPrefixed, false),
            (Framing::WebSocket, false),
        ] {
            let mut reader = FrameReader::with(framing, 100);
            assert!(!reader.end_last_line(), "nothing has arrived");
            reader.read_from(&mut &b"\x81hi"[..]).unwrap();
            assert_eq!(reader.end_last_line(), is_line);
            assert_eq!(reader.unfinished().ends_with(b"\n"), is_line);
        }
    }

    #[test]
    fn length_prefixes_match_dotnet() {
        assert_eq!(
            counted(b"\x02hi\x00\x83\x80\x00abc", 1).unwrap(),
            [&b"hi"[..], b"", b"abc"]
        );
        let mut long = vec![0xac, 0x02];
        long.extend([b'x'; 300]);
        assert_eq!(counted(&long, 7).unwrap(), [vec![b'x'; 300]]);
        assert_eq!(counted(&[0x80; 5], 1), Err(FrameError::BadLength));
        let read = |max| FrameReader::with(Framing::LengthPrefixed, max).after(b"\x02hi");
        assert_eq!(read(2).next_frame(), Ok(Some(&b"hi"[..])));
        assert_eq!(read(1).next_frame(), Err(FrameError::TooLong { limit: 1 }));
        let mut out = Vec::new();
        Framing::LengthPrefixed.write(&mut out, |content| content.extend([b'x'; 300]));
        assert_eq!(out, long);
    }

    #[test]
    fn invalid_lengths_are_detected() {
        // Negative, five gigabytes, six bytes, too long, and one that is only truncated.
        assert_eq!(
            counted(b"\xff\xff\xff\xff\x0f", 1),
            Err(FrameError::BadLength)
        );
        assert_eq!(
            counted(b"\x80\x80\x80\x80\x14", 1),
            Err(FrameError::BadLength)
        );
        assert_eq!(
            counted(b"\x80\x80\x80\x80\x80\x00", 1),
            Err(FrameError::BadLength)
        );
        assert_eq!(
            counted(b"\xff\xff\x7f", 1),
            Err(FrameError::TooLong { limit: 70_000 })
        );
        assert_eq!(counted(b"\x05abc", 1).unwrap(), Vec::<Vec<u8>>::new());
    }

    proptest! {
        #[test]
        fn length_prefixed_frames_do_not_depend_on_how_the_stream_is_split(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            step in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            for text in &texts {
                Framing::LengthPrefixed.write(&mut bytes, |content| content.extend(text));
            }
            prop_assert_eq!(counted(&bytes, step).unwrap(), texts);
        }

        #[test]
        fn websocket_messages_do_not_depend_on_how_they_and_the_stream_are_split(
            texts in prop::collection::vec(("[a-zäß€👋]{0,200}", 1usize..80), 0..10),
            step in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            for (text, piece) in &texts {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(*piece).collect();
                let pieces = if pieces.is_empty() { vec![&b""[..]] } else { pieces };
                for (index, piece) in pieces.iter().enumerate() {
                    let opcode = u8::from(index == 0);
                    let last = if index + 1 == pieces.len() { 0x80 } else { 0 };
                    bytes.extend(masked(last | opcode, piece));
                    // A ping may come between any two of them.
                    bytes.extend(masked(0x89, b"there?"));
                }
            }
            let expected: Vec<Vec<u8>> = texts.iter().map(|(text, _)| text.as_bytes().to_vec()).collect();
            prop_assert_eq!(web(&bytes, step).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_the_websocket_reader_panic_or_hoard(
            mut bytes in prop::collection::vec(any::<u8>(), 0..500),
            step in 1usize..70,
        ) {
            // Most first bytes are rejected immediately, so these begin like frames.
            if let [first, second, ..] = &mut bytes[..] {
                *first = 0x81;
                *second |= 0x80;
            }
            if let Ok(found) = web(&bytes, step) {
                prop_assert!(found.iter().all(|frame| frame.len() <= 1000));
            }
        }

        #[test]
        fn no_bytes_make_the_length_prefixed_reader_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            step in 1usize..70,
        ) {
            let _ = counted(&bytes, step);
        }

        #[test]
        fn frames_do_not_depend_on_how_the_stream_is_split(
            texts in prop::collection::vec("[^\n\r]{0,40}", 0..30),
            step in 1usize..50,
        ) {
            let bytes: String = texts.iter().map(|text| format!("{text}\n")).collect();
            let expected: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            prop_assert_eq!(frames(bytes.as_bytes(), step, 1000).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_hoard(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            step in 1usize..700,
        ) {
            if let Ok(found) = frames(&bytes, step, 64) {
                prop_assert!(found.iter().all(|frame| frame.len() <= 64));
            }
        }
    }
}
