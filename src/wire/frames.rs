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
