//! What waits for a socket, in pieces.

use std::collections::VecDeque;

use crate::limits::FLUSH_CHUNK;

/// Bytes in the order in which they came, in pieces of about [`FLUSH_CHUNK`].
///
/// A queue in one piece would take up to a mebibyte at a time from the allocator; and glibc, once it
/// has seen a piece of that size come back, keeps as much in each of its arenas for good. (Measured
/// after minutes of hostile visitors: 60 MB and growing, against 36 MB that stand still.)
#[derive(Default)]
pub(super) struct Waiting {
    /// None of them is empty.
    pieces: VecDeque<Vec<u8>>,
    len: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `bytes`.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = match self.pieces.back() {
                Some(last) if last.len() < FLUSH_CHUNK => FLUSH_CHUNK - last.len(),
                _ => FLUSH_CHUNK,
            };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.push_with(|piece| piece.extend_from_slice(now));
            bytes = later;
        }
    }

    /// Lets `write` append something, all of it to one piece.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
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

    /// Takes the first piece, which may be empty if nothing waits.
    pub(super) fn pop(&mut self) -> Vec<u8> {
        let piece = self.pieces.pop_front().unwrap_or_default();
        self.len -= piece.len();
        piece
    }

    /// Puts a piece that was taken, or the rest of it, back to the front.
    pub(super) fn put_back(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_front(piece);
        }
    }

    /// Keeps only what comes up to and with the first `end`, if there is one, and else nothing.
    pub(super) fn truncate_after(&mut self, end: u8) {
        let mut kept = Waiting::default();
        while !self.is_empty() {
            let piece = self.pop();
            let at = memchr::memchr(end, &piece);
            kept.push(&piece[..at.map_or(piece.len(), |at| at + 1)]);
            if at.is_some() {
                *self = kept;
                return;
            }
        }
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        *self = Waiting::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(waiting: &mut Waiting) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !waiting.is_empty() {
            let piece = waiting.pop();
            assert!(!piece.is_empty());
            bytes.extend(piece);
        }
        assert_eq!((waiting.len(), waiting.pop()), (0, Vec::new()));
        bytes
    }

    #[test]
    fn only_the_torn_frame_is_kept() {
        let long = "x".repeat(FLUSH_CHUNK + 10);
        let mut waiting = Waiting::default();
        waiting.push(format!("{long}\nsecond\n").as_bytes());
        waiting.truncate_after(b'\n');
        assert_eq!(all(&mut waiting), format!("{long}\n").into_bytes());
        waiting.push(b"no end");
        waiting.truncate_after(b'\n');
        assert!(waiting.is_empty());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order_in_pieces_that_are_not_large(
            sizes in prop::collection::vec(0usize..3 * FLUSH_CHUNK, 0..8),
            taken in 0usize..FLUSH_CHUNK,
        ) {
            let (mut waiting, mut expected) = (Waiting::default(), Vec::new());
            for (number, size) in sizes.into_iter().enumerate() {
                let bytes = vec![number as u8; size];
                waiting.push(&bytes);
                waiting.push_with(|piece| piece.push(b'.'));
                expected.extend(bytes);
                expected.push(b'.');
            }
            prop_assert_eq!(waiting.len(), expected.len());
            prop_assert!(waiting.pieces.iter().all(|piece| piece.len() <= FLUSH_CHUNK + 1));
            let mut first = waiting.pop();
            let taken = taken.min(first.len());
            first.drain(..taken);
            waiting.put_back(first);
            prop_assert_eq!(all(&mut waiting), &expected[taken..]);
        }
    }
}
