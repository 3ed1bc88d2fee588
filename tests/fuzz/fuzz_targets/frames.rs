//! The boundaries of reads do not affect the frames, and no frame exceeds the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portal_chat::wire::{FrameReader, Framing};

/// Returns the frames, and whether the stream ended in an error.
fn frames(framing: Framing, mut bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut reader = FrameReader::with(framing, 64);
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(step.min(bytes.len()));
        let mut piece = piece;
        while !piece.is_empty() {
            reader.read_from(&mut piece).unwrap();
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => {
                        assert!(frame.len() <= 64);
                        frames.push(frame.to_vec());
                    }
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
        }
        bytes = rest;
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    for framing in [Framing::Line, Framing::LengthPrefixed] {
        let whole = frames(framing, bytes, usize::MAX);
        let cut = frames(framing, bytes, usize::from(step) + 1);
        assert_eq!(whole.0, cut.0, "{framing:?}");
        // An oversized frame may be found sooner or later, but before the next one.
        assert_eq!(whole.1, cut.1, "{framing:?}");
    }
});
