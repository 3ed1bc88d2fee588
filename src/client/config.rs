//! Where a person's own settings and typed lines are kept between runs.
//!
//! The settings are a text file: `server`, `port` and `name`, and the options of the command line
//! without their dashes, one to a line. They count only where the command line names no server, so
//! `chatclient HOST PORT` is the same for everybody.

use std::ffi::OsString;
use std::path::PathBuf;

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

/// Options that work only on the command line.
pub(super) const NOT_A_SETTING: [&str; 6] =
    ["config", "save", "help", "version", "man", "completions"];

/// A setting in the form of a command line word, with its line number.
pub(super) struct Setting {
    pub(super) line: usize,
    pub(super) word: OsString,
}

/// Reads the settings in `text`, for a program with the options of `command` (already built).
///
/// # Errors
/// The number of the first invalid line, with the reason and the fix.
pub(super) fn read_settings(
    text: &str,
    command: &clap::Command,
) -> Result<Vec<Setting>, (usize, String)> {
    let mut settings: Vec<Setting> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let Some((key, value)) = key_and_value(line) else {
            continue;
        };
        let option = format!("--{key}");
        match word_of(key, value, command).map_err(|reason| (number, reason))? {
            Some(word) => settings.push(Setting {
                line: number,
                word: word.into(),
            }),
            // `reconnect = false` overrides an earlier line.
            None => settings.retain(|setting| setting.word != *option),
        }
    }
    Ok(settings)
}

/// The key and the value of a line; `None` for a comment or an empty line.
fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '=' || c.is_whitespace());
    let (key, value) = line.split_at(end.unwrap_or(line.len()));
    let value = value.trim_start();
    let value = value.strip_prefix('=').unwrap_or(value).trim();
    let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    Some((key, quoted('"').or_else(|| quoted('\'')).unwrap_or(value)))
}

/// Formats a setting as one word, so that its value can't be parsed as another argument. `None` if
/// it switches a flag off.
fn word_of(key: &str, value: &str, command: &clap::Command) -> Result<Option<String>, String> {
    let short = match key {
        "server" => Some("-h"),
        "port" => Some("-p"),
        "name" => Some("-n"),
        _ => None,
    };
    if short.is_some() && value.is_empty() {
        return Err(format!("{key} has no value; write one after it"));
    }
    if let Some(short) = short {
        return Ok(Some(format!("{short}={value}")));
    }
    if NOT_A_SETTING.contains(&key) {
        return Err(format!(
            "--{key} works only on the command line; delete this line"
        ));
    }
    let option = command
        .get_arguments()
        .find(|option| option.get_long() == Some(key));
    let least = option.and_then(|option| Some(option.get_num_args()?.min_values()));
    let is_flag = option.is_some_and(|option| !option.get_action().takes_values());
    let word = match (least, value) {
        // For an unknown option, the command line parser reports the error.
        (_, "") => format!("--{key}"),
        (Some(0), "true" | "yes" | "on") => format!("--{key}"),
        (Some(0), "false" | "no" | "off") => return Ok(None),
        _ if is_flag => {
            return Err(format!(
                "{key} is either on or off; write `{key} = true`, or delete this line"
            ));
        }
        _ => format!("--{key}={value}"),
    };
    Ok(Some(word))
}

/// Returns `text` with these settings replaced or added. Comments, other settings and the order
/// stay.
pub(super) fn with_settings(text: &str, settings: &[(String, String)]) -> String {
    let mut merged = String::new();
    let mut missing: Vec<&(String, String)> = settings.iter().collect();
    for line in text.lines() {
        let key = key_and_value(line).map(|(key, _)| key);
        let Some((key, value)) = settings.iter().find(|(there, _)| Some(&**there) == key) else {
            merged += line;
            merged.push('\n');
            continue;
        };
        // If two lines set the same key, only the first one stays.
        let before = missing.len();
        missing.retain(|(there, _)| there != key);
        if missing.len() < before {
            merged += &line_of(key, value, line.contains('='));
        }
    }
    let new = missing
        .into_iter()
        .map(|(key, value)| line_of(key, value, false));
    merged + &new.collect::<String>()
}

fn line_of(key: &str, value: &str, has_sign: bool) -> String {
    let sign = if has_sign { " = " } else { " " };
    let is_bare = value.trim() == value && !value.starts_with(['=', '"', '\'']);
    match (value.is_empty(), is_bare) {
        (true, _) => format!("{key}\n"),
        (false, true) => format!("{key}{sign}{value}\n"),
        (false, false) => format!("{key}{sign}\"{value}\"\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::options::tests::command;

    fn words(text: &str) -> Result<String, String> {
        let settings = read_settings(text, &command());
        let settings = settings.map_err(|(line, reason)| format!("line {line}: {reason}"))?;
        let words = settings
            .iter()
            .map(|setting| setting.word.to_str().unwrap());
        Ok(words.collect::<Vec<&str>>().join(" "))
    }

    #[test]
    fn settings_are_options_without_their_dashes() {
        let text = "# mine\nserver = chat.example\nport 6000\nname=alice\n\n reconnect \nserver-timeout 30\n";
        assert_eq!(
            words(text).unwrap(),
            "-h=chat.example -p=6000 -n=alice --reconnect --server-timeout=30"
        );
    }

    #[test]
    fn a_flag_may_have_a_truth_value_and_a_value_may_have_quotes() {
        for (text, wanted) in [
            ("reconnect = true", "--reconnect"),
            ("reconnect=yes\ntls on", "--reconnect --tls"),
            ("reconnect\nreconnect = false", ""),
            ("callback = true", "--callback"),
            ("callback 6000", "--callback=6000"),
            (
                "server = \"chat.example\"\nname 'alice'",
                "-h=chat.example -n=alice",
            ),
            ("password-file = \"a b\"", "--password-file=a b"),
        ] {
            assert_eq!(words(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn a_line_that_can_not_be_a_setting_is_refused_by_its_number() {
        for (text, wanted) in [
            (
                "# mine\nreconnect = maybe",
                "line 2: reconnect is either on or off",
            ),
            ("server", "line 1: server has no value"),
            (
                "tls\n\nsave",
                "line 3: --save works only on the command line",
            ),
        ] {
            let reason = words(text).unwrap_err();
            assert!(reason.starts_with(wanted), "{text}: {reason}");
        }
    }

    #[test]
    fn saving_keeps_every_other_setting_and_comment() {
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let text = "# mine\nserver = old.example\ntls-fingerprint AB:CD\n\n# often\nreconnect = false\nserver other";
        let settings = [
            set("server", "new.example"),
            set("reconnect", ""),
            set("port", "6000"),
        ];
        assert_eq!(
            with_settings(text, &settings),
            "# mine\nserver = new.example\ntls-fingerprint AB:CD\n\n# often\nreconnect\nport 6000\n"
        );
        let odd = [set("password-file", " a\"b ")];
        assert_eq!(
            words(&with_settings("", &odd)).unwrap(),
            "--password-file= a\"b "
        );
    }
}
