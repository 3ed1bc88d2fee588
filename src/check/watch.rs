//! `--watch`: runs the checks again when a file mentioned in the command changes.

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

/// The interval at which the files are compared.
const INTERVAL: Duration = Duration::from_millis(300);

/// The files that a command mentions, with their modification times.
pub(super) struct Watched(Vec<PathBuf>);

impl Watched {
    /// Finds the files among the words of `command`.
    ///
    /// # Errors
    /// The command contains no file name.
    pub(super) fn of(command: &str) -> Result<Watched, String> {
        let separators =
            |character: char| character.is_whitespace() || "\"';&|".contains(character);
        let words = command.split(separators).map(PathBuf::from);
        let files: Vec<PathBuf> = words.filter(|path| path.is_file()).collect();
        match files.is_empty() {
            true => Err(format!(
                "--watch: no word of the command is a file: {command}"
            )),
            false => Ok(Watched(files)),
        }
    }

    /// Blocks until one of the files has changed and all of them exist.
    pub(super) fn wait_for_change(&self) {
        let before = self.modified();
        loop {
            thread::sleep(INTERVAL);
            let now = self.modified();
            // An editor may briefly remove a file while replacing it.
            if now != before && now.iter().all(Option::is_some) {
                return;
            }
        }
    }

    fn modified(&self) -> Vec<Option<SystemTime>> {
        let time = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
        self.0.iter().map(time).collect()
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .0
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        f.write_str(&names.join(", "))
    }
}
