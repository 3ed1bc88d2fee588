//! A run recorded with `--events FILE`, for replay.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Event, from_json};
use crate::limits::PIPED_RECORDING;
use crate::text_file;

/// Events that were renamed: the name up to version 0.2.0, and the name since then.
const RENAMED: [(&str, &str); 8] = [
    ("freed", "seat-free"),
    ("heard", "activity"),
    ("left", "closed"),
    ("nobody-there", "no-partner"),
    ("secured", "tls-established"),
    ("stray", "unexpected-connection"),
    ("ticket-again", "ticket-resent"),
    ("trouble", "error"),
];

/// The events in a file.
#[derive(Debug)]
pub struct Recording {
    /// The events, in order.
    pub events: Vec<Event>,
    left_out: usize,
}

/// The reason why a file can't be replayed.
#[derive(Debug)]
pub enum RecordingError {
    /// The file can't be read, or is not UTF-8 text: its name, the reason and the fix.
    File(String),
    /// A line is not an event: the file, the line's number from 1, and the reason.
    Line(PathBuf, usize, String),
    /// The file contains no event.
    Empty(PathBuf),
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordingError::File(sentence) => f.write_str(sentence),
            RecordingError::Line(path, line, reason) => write!(
                f,
                "line {line} of {} is not an event ({reason}): choose a file written with --events",
                path.display()
            ),
            RecordingError::Empty(path) => write!(
                f,
                "{} contains no events: choose a file written with --events",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RecordingError {}

impl Recording {
    /// Number of lines that are not events, such as lines torn by a crash.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Reads a file of events. Lines that begin with `#` are comments. Other lines that are not
    /// events are skipped, if the file contains any events.
    ///
    /// # Errors
    /// [`RecordingError`] if the file can't be read, or is not a recording.
    pub fn read(path: &Path) -> Result<Recording, RecordingError> {
        let bytes = text_file::read_bytes_up_to(path, PIPED_RECORDING)
            .map_err(|error| RecordingError::File(error.to_string()))?;
        // A byte damaged by a crash or an editor invalidates at most its own line.
        let text = String::from_utf8_lossy(&bytes);
        let (mut events, mut damage) = (Vec::new(), Vec::new());
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match from_json(line) {
                Ok(mut event) => {
                    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == event.kind) {
                        event.kind = (*new).into();
                    }
                    events.push(event);
                }
                Err(reason) => damage.push((number, reason)),
            }
        }
        let left_out = damage.len();
        match (events.is_empty(), damage.into_iter().next()) {
            (false, _) => Ok(Recording { events, left_out }),
            (true, Some((line, reason))) => {
                Err(RecordingError::Line(path.to_owned(), line, reason))
            }
            (true, None) => Err(RecordingError::Empty(path.to_owned())),
        }
    }
}
