//! Consecutive frames, and the position at which each ends.

/// Whole frames. The ends are stored, not searched for, so a frame may contain any byte.
#[derive(Default, Clone, Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// The end of each frame, as an offset into `bytes`.
    ends: Vec<usize>,
}

impl Frames {
    /// Calls `write`, which appends one frame or nothing.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.len() > before {
            self.ends.push(self.bytes.len());
        }
    }

    /// Appends the frames in `others`.
    pub fn append(&mut self, others: &Frames) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&others.bytes);
        self.ends.extend(others.ends.iter().map(|end| before + end));
    }

    /// Returns the bytes of all frames.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the end of each frame, in order, as an offset into the bytes.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Returns the number of bytes, not of frames.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes all frames and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_keeps_its_end() {
        let mut frames = Frames::default();
        assert!(frames.is_empty());
        frames.push(|out| out.extend_from_slice(b"one\n"));
        frames.push(|_| ());
        let mut others = Frames::default();
        others.push(|out| out.extend_from_slice(b"a\nb\n"));
        others.push(|out| out.push(b'\n'));
        frames.append(&others);
        assert_eq!(frames.bytes(), b"one\na\nb\n\n");
        assert_eq!(frames.ends(), [4, 8, 9]);
        assert_eq!((frames.len(), frames.is_empty()), (9, false));
        frames.clear();
        assert_eq!((frames.bytes(), frames.ends()), (&b""[..], &[][..]));
    }
}
