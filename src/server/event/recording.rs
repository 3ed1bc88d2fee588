//! A run that was recorded with `--events FILE`, to be played again.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Event, from_json};
use crate::limits::PIPED_RECORDING;
use crate::text_file;

/// The events of a file.
#[derive(Debug)]
pub struct Recording {
    /// The events in their order.
    pub events: Vec<Event>,
    left_out: usize,
}

/// Why a file can't be played.
#[derive(Debug)]
pub enum RecordingError {
    /// It can't be read, or is not UTF-8 text: its name, the reason and the fix.
    File(String),
    /// A line is no event: its number, counted from 1, and what is wrong with it.
    Line(PathBuf, usize, String),
    /// It holds no event.
    Empty(PathBuf),
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordingError::File(sentence) => f.write_str(sentence),
            RecordingError::Line(path, line, reason) => write!(
                f,
                "line {line} of {} is no event ({reason}): give a file that was written with \
                 --events",
                path.display()
            ),
            RecordingError::Empty(path) => write!(
                f,
                "there is no event in {}: give a file that was written with --events",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RecordingError {}

impl Recording {
    /// How many lines were no events: those that a crash has torn.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Reads a file of events. Lines that begin with `#` are comments; others that are no events are
    /// left out, if there are any that are.
    ///
    /// # Errors
    /// [`RecordingError`] when it can't be read, or is something else.
    pub fn read(path: &Path) -> Result<Recording, RecordingError> {
        let bytes = text_file::read_bytes_up_to(path, PIPED_RECORDING)
            .map_err(|error| RecordingError::File(error.to_string()))?;
        // A byte that a crash or an editor has spoilt costs its line at most.
        let text = String::from_utf8_lossy(&bytes);
        let (mut events, mut damage) = (Vec::new(), Vec::new());
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match from_json(line) {
                Ok(event) => events.push(event),
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
