//! Where a person's own settings and typed lines are kept between runs.
//!
//! The settings are a text file: `server`, `port` and `name`, and the options of the command line
//! without their dashes, one to a line. They count only where the command line names no server, so
//! `chatclient HOST PORT` is the same for everybody.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::files;

/// Where the settings are, unless `--config` says otherwise; `None` without a home.
pub(super) fn settings_file() -> Option<PathBuf> {
    files::settings_file("client.conf")
}

/// Where the lines are that were typed.
pub(super) fn history_file() -> Option<PathBuf> {
    files::state_file("history")
}

/// Where the servers are that were met before, or `None` without a home.
#[cfg(feature = "tls")]
pub(super) fn known_servers_file() -> Option<PathBuf> {
    files::state_file("known_servers")
}

/// The settings as words of a command line.
pub(super) fn read_settings(text: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line
            .split_once(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or((line, ""));
        let value = value.trim_start_matches([' ', '\t', '=']).trim();
        words.push(match key {
            "server" => "-h".into(),
            "port" => "-p".into(),
            "name" => "-n".into(),
            other => format!("--{other}").into(),
        });
        if !value.is_empty() {
            words.push(value.into());
        }
    }
    words
}

/// Keeps settings for the next run.
///
/// # Errors
/// What the system says.
pub(super) fn save_settings(path: &Path, text: &str) -> io::Result<()> {
    files::make_folder_of(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_options_without_their_dashes() {
        let text = "# mine\nserver = chat.example\nport 6000\nname=alice\n\n reconnect \nserver-timeout 30\n";
        let words: Vec<String> = read_settings(text)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        assert_eq!(
            words.join(" "),
            "-h chat.example -p 6000 -n alice --reconnect --server-timeout 30"
        );
    }
}
