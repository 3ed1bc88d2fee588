//! The files that keep a user's settings and command history between runs.
//!
//! The settings are a text file: `server`, `port` and `name`, and the options of the command line
//! without their dashes, one per line. They apply only if the command line specifies no server, so
//! `chatclient HOST PORT` works the same for every user.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use portal_cli::command_line::similar;
use portal_cli::files;

/// The default path of the settings file (see `--config`). `None` if there is no home directory.
pub(super) fn settings_file() -> Option<PathBuf> {
    files::settings_file("client.conf")
}

/// The history file. `None` if there is no home directory.
pub(super) fn history_file() -> Option<PathBuf> {
    files::state_file("history")
}

/// The file of known servers. `None` if there is no home directory.
pub(super) fn known_servers_file() -> Option<PathBuf> {
    files::state_file("known_servers")
}

/// Options that work only on the command line.
pub(super) const NOT_A_SETTING: [&str; 6] =
    ["config", "save", "help", "version", "man", "completions"];

/// The settings that are positional on the command line, with their options in seed 004.
const SEED_OPTIONS: [(&str, &str); 3] = [("server", "-h"), ("port", "-p"), ("name", "-n")];

/// A setting as a command line word, with its line number.
pub(super) struct Setting {
    pub(super) line: usize,
    pub(super) word: OsString,
}

/// Reads the settings in `text`, for a program with the options of `command`, which must be built
/// already.
///
/// # Errors
/// The number of the first invalid line, with the reason and the fix.
pub(super) fn read_settings(
    text: &str,
    command: &clap::Command,
) -> Result<Vec<Setting>, (usize, String)> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for (line, number) in text.lines().zip(1..) {
        let Some((key, value)) = key_and_value(line) else {
            continue;
        };
        let word = word_of(key, value, command).map_err(|reason| (number, reason))?;
        if let Some(first) = lines.insert(key, number) {
            let reason =
                format!("{key} is already set on line {first}; delete one of the two lines");
            return Err((number, reason));
        }
        // A setting that switches a flag off adds no word.
        settings.extend(word.map(|word| Setting {
            line: number,
            word: word.into(),
        }));
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

/// Formats a setting as one word, so that its value can't be parsed as another argument; `None` if
/// the setting switches a flag off.
fn word_of(key: &str, value: &str, command: &clap::Command) -> Result<Option<String>, String> {
    let short = SEED_OPTIONS
        .iter()
        .find_map(|&(there, short)| (there == key).then_some(short));
    if short.is_some() && value.is_empty() {
        return Err(format!("{key} needs a value: write `{key} VALUE`"));
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
    if option.is_none() {
        return Err(unknown(key, value, command));
    }
    let least = option.and_then(|option| Some(option.get_num_args()?.min_values()));
    let is_flag = option.is_some_and(|option| !option.get_action().takes_values());
    let word = match (least, value) {
        (_, "") => format!("--{key}"),
        (Some(0), "true" | "yes" | "on") => format!("--{key}"),
        (Some(0), "false" | "no" | "off") => return Ok(None),
        _ if is_flag => {
            return Err(format!(
                "to turn {key} on, write `{key} = true`; to turn it off, delete this line"
            ));
        }
        _ => format!("--{key}={value}"),
    };
    Ok(Some(word))
}

/// Explains why there is no setting with that name, and states the fix.
fn unknown(key: &str, value: &str, command: &clap::Command) -> String {
    let setting = |key: &str| format!("{key} {value}").trim_end().to_owned();
    let is_setting = |key: &str| {
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        let mut keys = SEED_OPTIONS.into_iter().map(|(key, _)| key).chain(options);
        keys.any(|there| there == key) && !NOT_A_SETTING.contains(&key)
    };
    if key.starts_with('[') {
        return "a settings file can't have sections; delete this line".to_owned();
    }
    let bare = key.trim_start_matches('-');
    if bare != key && is_setting(bare) {
        return format!("omit the dashes: write `{}`", setting(bare));
    }
    let letter = SEED_OPTIONS.iter().find(|(_, letter)| *letter == key);
    let plain = bare
        .trim_end_matches(':')
        .to_ascii_lowercase()
        .replace('_', "-");
    let other = match &*plain {
        "username" | "user" | "nick" | "nickname" | "login" => Some("name".to_owned()),
        "host" | "hostname" | "address" => Some("server".to_owned()),
        "password" => {
            return "a password must be in a separate file: write `password-file FILE`".to_owned();
        }
        plain if is_setting(plain) => Some(plain.to_owned()),
        _ => letter.map(|(key, _)| (*key).to_owned()),
    };
    if let Some(other) = other {
        return format!("there is no setting {key}; write `{}`", setting(&other));
    }
    match similar(&plain, command).filter(|similar| is_setting(similar)) {
        Some(similar) => format!("there is no setting {key}; did you mean `{similar}`?"),
        None => format!(
            "there is no setting {key}; the settings are server, port, name and the options that \
             `chatclient --help` lists, without their dashes"
        ),
    }
}

/// Returns `text` with these settings replaced or added. Comments, other settings and the order of
/// the lines are preserved.
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
        // If two lines set the same key, only the first one is kept.
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
    use crate::options::tests::command;

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
            ("tls\nreconnect = false", "--tls"),
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
                "line 2: to turn reconnect on, write",
            ),
            ("server", "line 1: server needs a value"),
            ("port 1\n\nport 1", "line 3: port is already set on line 1"),
            (
                "reconnect\nreconnect = false",
                "line 2: reconnect is already set on line 1",
            ),
            (
                "username = bob",
                "line 1: there is no setting username; write `name bob`",
            ),
            ("[chat]", "line 1: a settings file can't have sections"),
            ("[chat", "line 1: a settings file can't have sections"),
            ("--reconnect", "line 1: omit the dashes: write `reconnect`"),
            ("-port=1", "line 1: omit the dashes: write `port 1`"),
            ("-n bob", "line 1: there is no setting -n; write `name bob`"),
            (
                "port: 1",
                "line 1: there is no setting port:; write `port 1`",
            ),
            ("Port 1", "line 1: there is no setting Port; write `port 1`"),
            (
                "no_color",
                "line 1: there is no setting no_color; write `no-color`",
            ),
            (
                "reconect",
                "line 1: there is no setting reconect; did you mean `reconnect`?",
            ),
            (
                "password secret",
                "line 1: a password must be in a separate file",
            ),
            (
                "--",
                "line 1: there is no setting --; the settings are server, port,",
            ),
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
