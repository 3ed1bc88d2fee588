//! The lines from earlier runs, and the file in which they are stored.

use std::path::PathBuf;

use crate::text_file::{self, TextError};

/// Maximum number of lines kept from earlier runs.
const LINES: usize = 1000;

/// The history, oldest line first.
#[derive(Clone, Debug, Default)]
pub struct LineHistory {
    /// `None`: the lines last only as long as the program.
    file: Option<HistoryFile>,
    pub(super) lines: Vec<String>,
}

#[derive(Clone, Debug)]
struct HistoryFile {
    path: PathBuf,
    /// Returns whether a line contains a secret. Such a line is never written.
    has_secret: fn(&str) -> bool,
}

impl LineHistory {
    /// Reads the file, which may not exist yet. A file with 2000 lines or more is truncated to its
    /// last 1000. Lines for which `has_secret` returns true last only as long as the program.
    ///
    /// # Errors
    /// See [`TextError`].
    pub fn read(path: PathBuf, has_secret: fn(&str) -> bool) -> Result<LineHistory, TextError> {
        let text = text_file::read_own(&path)?.unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        let recent = &all[all.len().saturating_sub(LINES)..];
        if all.len() >= 2 * LINES {
            // If this fails, the next run tries again.
            let _ = text_file::replace(&path, &(recent.join("\n") + "\n"));
        }
        Ok(LineHistory {
            file: Some(HistoryFile { path, has_secret }),
            lines: recent.iter().map(|line| unescaped(line)).collect(),
        })
    }

    #[cfg(test)]
    pub(super) fn of(lines: Vec<String>) -> LineHistory {
        LineHistory { file: None, lines }
    }

    /// Adds a line, also to the file, which only the user may read (mode 0600). If the write fails,
    /// the line is missing from the next run.
    pub(super) fn add(&mut self, text: &str) {
        if text.trim().is_empty() || self.lines.last().is_some_and(|last| last == text) {
            return;
        }
        self.lines.push(text.to_owned());
        if let Some(file) = &self.file
            && !text.lines().any(file.has_secret)
        {
            let _ = text_file::append_line(&file.path, &escaped(text));
        }
    }
}

/// Escapes line endings, NUL bytes and backslashes, so that the text fits on one line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\0', "\\0")
}

fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('0') => text.push('\0'),
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_is_one_line_of_history() {
        for text in [
            "plain",
            "two\nlines",
            "back\\slash \\n",
            "\\",
            "a\\\nb",
            "\0\\0\r",
        ] {
            let line = escaped(text);
            assert!(!line.contains(['\n', '\r', '\0']));
            assert_eq!(unescaped(&line), text);
        }
    }

    #[test]
    fn a_file_that_has_grown_is_cut_to_its_last_lines() {
        let file = std::env::temp_dir().join(format!("portal-history-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        for last in [2 * LINES - 1, 2 * LINES] {
            let lines: Vec<String> = (1..=last).map(|number| format!("line {number}")).collect();
            std::fs::write(&file, lines.join("\n") + "\n").unwrap();
            let history = LineHistory::read(file.clone(), |line| line.contains("secret")).unwrap();
            assert_eq!(history.lines, lines[last - LINES..]);
            let kept = std::fs::read_to_string(&file).unwrap().lines().count();
            assert_eq!(kept, if last == 2 * LINES { LINES } else { last });
        }
        let mut history = LineHistory::read(file.clone(), |line| line.contains("secret")).unwrap();
        history.add("a secret");
        history.add("several lines\nand a secret");
        history.add("the last line");
        assert_eq!(history.lines[history.lines.len() - 3], "a secret");
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(!kept.contains("secret") && kept.ends_with("the last line\n"));
        std::fs::remove_file(&file).unwrap();
    }
}
