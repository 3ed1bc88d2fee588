//! The bytes queued for a socket, in pieces, and the ends of the frames in them.

use std::collections::VecDeque;

use crate::limits::FLUSH_CHUNK;
use portal_wire::Frames;

/// Queued bytes, in order, in pieces of about [`FLUSH_CHUNK`].
///
/// A queue in one piece would take up to a mebibyte at a time from the allocator. Once a block of
/// that size has been freed, glibc permanently keeps as much memory in each of its arenas.
/// (Measured after minutes of hostile clients: 60 MB and growing, compared with a constant 36 MB.)
///
/// Positions are counted from the first byte that the connection queued.
///
/// The fields that every message to an idle socket reads come first, next to the lock before them:
/// in a fan-out to five hundred clients, each additional cache line is noticeable.
#[derive(Default)]
#[repr(C)]
pub(super) struct Backlog {
    /// Number of bytes that no thread is writing.
    len: usize,
    /// Number of bytes that a thread has taken out and is writing. No other thread may write until
    /// it has finished.
    in_flight: usize,
    /// Set if the last byte written was not the end of a frame.
    mid_frame: bool,
    /// The position up to which the socket has accepted everything.
    written: u64,
    /// The bytes that no thread is writing. No piece is empty.
    pieces: VecDeque<Vec<u8>>,
    /// The ends of all frames that are not completely written.
    ends: VecDeque<u64>,
}

impl Backlog {
    /// Returns whether no bytes are left for another write.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether a thread is writing.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// The number of bytes that the socket has not accepted yet.
    pub(super) fn pending(&self) -> usize {
        self.in_flight + self.len
    }

    fn end(&self) -> u64 {
        self.written + self.pending() as u64
    }

    /// Appends `frames`, of which the socket has already accepted the first `taken` bytes. Those
    /// can have been written only while nothing else was queued.
    pub(super) fn push(&mut self, frames: &Frames, taken: usize) {
        if taken > 0 {
            self.mid_frame = frames.ends().binary_search(&taken).is_err();
        }
        let begin = self.end();
        let ends = frames.ends().iter().filter(|&&end| end > taken);
        self.ends
            .extend(ends.map(|end| begin + (end - taken) as u64));
        let mut bytes = &frames.bytes()[taken..];
        while !bytes.is_empty() {
            let room = match self.pieces.back() {
                Some(last) if last.len() < FLUSH_CHUNK => FLUSH_CHUNK - last.len(),
                _ => FLUSH_CHUNK,
            };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.append(|piece| piece.extend_from_slice(now));
            bytes = later;
        }
    }

    /// Lets `write` append one frame, or nothing, to a single piece.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.len;
        self.append(write);
        if self.len > before {
            self.ends.push_back(self.end());
        }
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut last = match self.pieces.back() {
            Some(last) if last.len() < FLUSH_CHUNK => self.pieces.pop_back().unwrap_or_default(),
            _ => Vec::new(),
        };
        let before = last.len();
        write(&mut last);
        self.len += last.len() - before;
        if !last.is_empty() {
            self.pieces.push_back(last);
        }
    }

    /// Takes out the first piece for writing; it is empty if nothing is queued. [`Backlog::wrote`]
    /// must then be called with everything that was taken out.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let piece = self.pieces.pop_front().unwrap_or_default();
        self.len -= piece.len();
        self.in_flight += piece.len();
        piece
    }

    /// Records that the socket has accepted the first `count` bytes of `pieces`, which are all that
    /// were taken out. Puts the rest back at the front.
    pub(super) fn wrote(&mut self, count: usize, pieces: Vec<Vec<u8>>) {
        self.in_flight = 0;
        self.written += count as u64;
        let mut before = count;
        let mut rest = Vec::new();
        for mut piece in pieces {
            let taken = before.min(piece.len());
            before -= taken;
            piece.drain(..taken);
            rest.push(piece);
        }
        for piece in rest.into_iter().rev().filter(|piece| !piece.is_empty()) {
            self.len += piece.len();
            self.pieces.push_front(piece);
        }
        if count > 0 {
            self.mid_frame = true;
        }
        while self.ends.front().is_some_and(|&end| end <= self.written) {
            self.mid_frame = self.ends.pop_front() != Some(self.written);
        }
    }

    /// Drops the bytes that no thread is writing, except the rest of a partly written frame.
    pub(super) fn keep_torn_frame(&mut self) {
        let out = self.written + self.in_flight as u64;
        let is_between_frames =
            self.ends.contains(&out) || (self.in_flight == 0 && !self.mid_frame);
        let end = match self.ends.iter().find(|&&end| end > out) {
            Some(&end) if !is_between_frames => end,
            _ => out,
        };
        let mut left = (end - out) as usize;
        self.len = left;
        self.ends.retain(|&there| there <= end);
        self.pieces.retain_mut(|piece| {
            piece.truncate(left);
            left -= piece.len();
            !piece.is_empty()
        });
    }

    /// Drops the bytes that no thread is writing.
    pub(super) fn clear(&mut self) {
        self.pieces = VecDeque::new();
        self.len = 0;
        let out = self.written + self.in_flight as u64;
        self.ends.retain(|&end| end <= out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(sizes: &[usize]) -> Frames {
        let mut frames = Frames::default();
        for (number, &size) in sizes.iter().enumerate() {
            // Line feeds inside a frame do not end it.
            frames.push(|out| {
                out.extend((0..size).map(|at| if at % 3 == 1 { b'\n' } else { number as u8 }));
            });
        }
        frames
    }

    fn all(waiting: &mut Backlog) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !waiting.is_empty() {
            let piece = waiting.take();
            assert!(!piece.is_empty() && piece.len() <= FLUSH_CHUNK);
            bytes.extend(&piece);
            waiting.wrote(piece.len(), vec![piece]);
        }
        assert_eq!((waiting.len, waiting.ends.len()), (0, 0));
        bytes
    }

    #[test]
    fn only_the_rest_of_a_frame_is_kept() {
        for (taken, kept) in [(0, 0), (4, 6), (10, 0), (13, 7)] {
            let mut waiting = Backlog::default();
            waiting.push(&frames(&[10, 10]), taken);
            // A write that achieved nothing changes nothing.
            let first = waiting.take();
            waiting.wrote(0, vec![first]);
            waiting.keep_torn_frame();
            assert_eq!(waiting.pending(), kept, "{taken}");
        }
    }

    /// A document may be no frame at all in some encodings.
    #[test]
    fn frames_that_are_pushed_one_by_one_have_ends() {
        for (written, kept) in [(0, 0), (4, 6), (10, 0), (15, 5), (20, 0)] {
            let mut waiting = Backlog::default();
            for size in [0, 10, 0, 10] {
                waiting.push_with(|out| out.extend(vec![b'x'; size]));
            }
            assert_eq!(waiting.ends, [10, 20]);
            let first = waiting.take();
            assert_eq!(first.len(), 20, "small frames share a piece");
            waiting.wrote(written, vec![first]);
            waiting.keep_torn_frame();
            assert_eq!(waiting.pending(), kept, "{written}");
        }
    }

    #[test]
    fn pieces_are_filled_before_others_are_begun() {
        let mut waiting = Backlog::default();
        for size in [FLUSH_CHUNK / 2 + 1, FLUSH_CHUNK / 2 + 1, FLUSH_CHUNK] {
            waiting.push(&frames(&[size]), 0);
        }
        let sizes: Vec<usize> = waiting.pieces.iter().map(Vec::len).collect();
        assert_eq!(sizes, [FLUSH_CHUNK, FLUSH_CHUNK, 2]);
    }

    #[test]
    fn clearing_leaves_only_what_is_being_written() {
        let mut waiting = Backlog::default();
        waiting.push(&frames(&[10, FLUSH_CHUNK, 10]), 5);
        let first = waiting.take();
        waiting.clear();
        assert_eq!((waiting.is_empty(), waiting.pending()), (true, FLUSH_CHUNK));
        assert_eq!(waiting.ends, [5], "the second frame is torn");
        waiting.wrote(FLUSH_CHUNK, vec![first]);
        assert_eq!((waiting.pending(), waiting.ends.len()), (0, 0));
    }

    #[test]
    fn what_was_not_written_of_several_pieces_stays_in_order() {
        let mut waiting = Backlog::default();
        let frames = frames(&[FLUSH_CHUNK, FLUSH_CHUNK, FLUSH_CHUNK]);
        for written in [0, 5, FLUSH_CHUNK, FLUSH_CHUNK + 5, 3 * FLUSH_CHUNK] {
            waiting.push(&frames, 0);
            let pieces = vec![waiting.take(), waiting.take(), waiting.take()];
            assert_eq!(
                (waiting.is_empty(), waiting.pending()),
                (true, frames.len())
            );
            waiting.wrote(written, pieces);
            assert_eq!(all(&mut waiting), &frames.bytes()[written..], "{written}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_in_small_pieces(
            sizes in prop::collection::vec(0usize..2 * FLUSH_CHUNK, 0..8),
            taken in 0usize..FLUSH_CHUNK,
        ) {
            let mut waiting = Backlog::default();
            let frames = frames(&sizes);
            waiting.push(&frames, 0);
            prop_assert_eq!(waiting.len, frames.len());
            let first = waiting.take();
            let taken = taken.min(first.len());
            waiting.wrote(taken, vec![first]);
            prop_assert_eq!(all(&mut waiting), &frames.bytes()[taken..]);
        }

        #[test]
        fn only_the_torn_frame_is_kept(
            sizes in prop::collection::vec(1usize..FLUSH_CHUNK, 1..8),
            at_once in 0usize..2 * FLUSH_CHUNK,
            later in 0usize..2 * FLUSH_CHUNK,
            is_in_flight: bool,
        ) {
            let frames = frames(&sizes);
            let mut waiting = Backlog::default();
            let at_once = at_once.min(frames.len());
            waiting.push(&frames, at_once);
            let first = waiting.take();
            let later = later.min(first.len());
            // If the writer has not finished yet, everything that it took will be written.
            let out = at_once + if is_in_flight { first.len() } else { later };
            if is_in_flight {
                waiting.keep_torn_frame();
                waiting.wrote(first.len(), vec![first]);
            } else {
                waiting.wrote(later, vec![first]);
                waiting.keep_torn_frame();
            }
            let ends = frames.ends();
            let begins = out == 0 || ends.contains(&out);
            let end = ends.iter().find(|&&end| end >= out).copied();
            let kept = if begins { out } else { end.unwrap_or(out) };
            prop_assert_eq!(all(&mut waiting), &frames.bytes()[out..kept]);
        }
    }
}
