//! Frames that were written one after the other, and where each ends.

/// Whole frames. Where one ends is known and not looked for, so that a frame may hold any byte.
#[derive(Default, Clone, Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// After how many of the bytes each frame ends.
    ends: Vec<usize>,
}

impl Frames {
    /// Lets `write` append one frame, or nothing.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.len() > before {
            self.ends.push(self.bytes.len());
        }
    }

    /// Appends the frames of `others`.
    pub fn append(&mut self, others: &Frames) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&others.bytes);
        self.ends.extend(others.ends.iter().map(|end| before + end));
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// After how many of the bytes each frame ends, in order.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// How many bytes they take.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Throws them away and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
