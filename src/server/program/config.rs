//! The configuration file (`--config FILE`): the options of the command line by their long names,
//! in TOML.

use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::command_line::{bad_file, sentence_of, similar};
use crate::text_file::{self, Fault};

/// Options that work only on the command line.
const NOT_A_SETTING: [&str; 6] = ["config", "check", "help", "version", "man", "completions"];

/// The setting for the positional PORT, and its short option on the command line.
const PORT: (&str, &str) = ("port", "-p");

/// A setting, converted to words of the command line.
struct FileSetting {
    /// Counted from 1.
    line: usize,
    key: String,
    /// Empty if the setting turns an option off; several words for a list.
    words: Vec<OsString>,
}

/// A value in the forms that it can have on the command line.
enum SettingValue {
    Flag(bool),
    One(String),
    Many(Vec<String>),
}

/// Parses the command line `words` (with the program's name), preceded by the settings in `file`.
/// The command line overrides the file.
///
/// # Errors
/// The file can't be read, or one of its lines is invalid.
pub(super) fn parse_with<C: CommandFactory + FromArgMatches>(
    file: &Path,
    words: &[OsString],
) -> Result<C, clap::Error> {
    let text = text_file::read(file).map_err(|error| bad_file(format!("--config {error}")))?;
    let at = |line, reason| bad_file(Fault::Line(reason).at(file, line));
    let mut command = C::command();
    command.build();
    let settings = read(&text, &command).map_err(|(line, reason)| at(line, reason))?;
    let given = C::command()
        .ignore_errors(true)
        .try_get_matches_from(words)?;
    let is_given = |key: &str| {
        let by_name = |id: &clap::Id| {
            let options = command.get_arguments();
            let mut options = options.filter(|option| option.get_id() == id);
            let option = options.next();
            let is_port = key == PORT.0 && (id == "port" || id == "same_port");
            is_port || option.is_some_and(|option| option.get_long() == Some(key))
        };
        let mut ids = given.ids().filter(|id| by_name(id));
        ids.any(|id| given.value_source(id.as_str()) == Some(ValueSource::CommandLine))
    };
    let settings: Vec<FileSetting> = settings
        .into_iter()
        .filter(|setting| !is_given(&setting.key))
        .collect();
    let parse = |without: Option<usize>| {
        let settings = settings.iter().enumerate();
        let settings = settings.filter(|(index, _)| Some(*index) != without);
        let from_file = settings.flat_map(|(_, setting)| &setting.words);
        let all = words.iter().take(1).chain(from_file);
        let all: Vec<&OsString> = all.chain(words.iter().skip(1)).collect();
        let matches = C::command().try_get_matches_from(all)?;
        C::from_arg_matches(&matches)
    };
    parse(None).map_err(|error| {
        // The culprit is the setting without which the others are valid.
        let is_culprit = |index: &usize| parse(Some(*index)).is_ok();
        match (0..settings.len()).find(is_culprit) {
            Some(index) => at(settings[index].line, sentence_of(&error)),
            None => bad_file(format!(
                "{} (including the settings from {})",
                sentence_of(&error),
                file.display()
            )),
        }
    })
}

/// Reads the settings in `text`, in the order of their lines.
///
/// # Errors
/// The number of the first invalid line, with the reason and the fix.
fn read(text: &str, command: &clap::Command) -> Result<Vec<FileSetting>, (usize, String)> {
    let line_at = |offset: usize| {
        let before = text.as_bytes().iter().take(offset);
        1 + before.filter(|&&byte| byte == b'\n').count()
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(span.start));
        let reason = error.message().replace('\n', ", ");
        (line, format!("invalid TOML: {reason}"))
    })?;
    let mut settings = Vec::new();
    for (key, value) in table.into_inner() {
        let line = line_at(key.span().start);
        let key = key.into_inner().into_owned();
        let words = words_of(&key, &value, command).map_err(|reason| (line, reason))?;
        settings.push(FileSetting { line, key, words });
    }
    settings.sort_by_key(|setting| setting.line);
    Ok(settings)
}

/// Converts a setting to words that can't be parsed as other arguments.
fn words_of(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    command: &clap::Command,
) -> Result<Vec<OsString>, String> {
    let value = value_of(key, value.get_ref())?;
    if key == PORT.0 {
        return match value {
            SettingValue::One(port) => Ok(vec![format!("{}{port}", PORT.1).into()]),
            _ => Err(format!("{key} must be a number, as in `{key} = 50000`")),
        };
    }
    if NOT_A_SETTING.contains(&key) {
        return Err(format!(
            "--{key} works only on the command line; delete this line"
        ));
    }
    let mut options = command.get_arguments();
    let Some(option) = options.find(|option| option.get_long() == Some(key)) else {
        return Err(unknown(key, command));
    };
    let number = option.get_num_args();
    let takes_values = option.get_action().takes_values();
    let is_optional = number.is_some_and(|number| number.min_values() == 0);
    let delimiter = option.get_value_delimiter();
    let is_list = matches!(option.get_action(), ArgAction::Append);
    let bare = || vec![OsString::from(format!("--{key}"))];
    let with = |value: &str| OsString::from(format!("--{key}={value}"));
    match value {
        SettingValue::Flag(false) if !takes_values || is_optional => Ok(Vec::new()),
        SettingValue::Flag(true) if !takes_values || is_optional => Ok(bare()),
        SettingValue::Flag(_) => Err(format!(
            "{key} needs a value: a number, or text in quotation marks, as in `{key} = \"…\"`"
        )),
        _ if !takes_values => Err(format!(
            "{key} takes no value; write `{key} = true` to turn it on, or delete this line to turn \
             it off"
        )),
        // Clap treats an empty value as a missing one.
        SettingValue::One(value) if value.is_empty() => Err(format!(
            "{key} is empty; write a value, or delete this line"
        )),
        SettingValue::One(value) => Ok(vec![with(&value)]),
        SettingValue::Many(values) => match delimiter {
            Some(delimiter) => Ok(vec![with(&values.join(&delimiter.to_string()))]),
            None if is_list => Ok(values.iter().map(|value| with(value)).collect()),
            None => Err(format!(
                "{key} takes only one value; write it without brackets"
            )),
        },
    }
}

fn value_of(key: &str, value: &DeValue<'_>) -> Result<SettingValue, String> {
    let plain = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().replace('_', "")),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        _ => Err(format!(
            "the value of {key} has the wrong type; write a number, text in quotation marks, true \
             or false"
        )),
    };
    match value {
        DeValue::Boolean(flag) => Ok(SettingValue::Flag(*flag)),
        DeValue::Array(values) => {
            let values = values.iter().map(|value| plain(value.get_ref()));
            Ok(SettingValue::Many(values.collect::<Result<_, _>>()?))
        }
        DeValue::Table(_) => Err(
            "a configuration file can't contain sections; delete this line, and write the settings \
             without a section"
                .to_owned(),
        ),
        value => plain(value).map(SettingValue::One),
    }
}

/// Returns why a setting is unknown, and how to fix it.
fn unknown(key: &str, command: &clap::Command) -> String {
    let is_setting = |key: &str| {
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        let mut keys = options.chain([PORT.0]);
        keys.any(|there| there == key) && !NOT_A_SETTING.contains(&key)
    };
    let plain = key
        .trim_start_matches('-')
        .to_ascii_lowercase()
        .replace('_', "-");
    if is_setting(&plain) {
        return format!("there is no setting {key}; write `{plain}`");
    }
    match similar(&plain, command).filter(|similar| is_setting(similar)) {
        Some(similar) => format!("there is no setting {key}; did you mean `{similar}`?"),
        None => format!(
            "there is no setting {key}; the settings are port and the options that `chatserver \
             --help` lists, without the leading dashes"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    /// A file with these settings, deleted on drop.
    struct ConfigFile(std::path::PathBuf);

    impl ConfigFile {
        fn new(text: &str) -> ConfigFile {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("portal-chat-config-{}-{number}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            ConfigFile(path)
        }
    }

    impl Drop for ConfigFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[derive(Parser, Debug, PartialEq, Eq, Default)]
    #[command(name = "chatserver", args_override_self = true)]
    struct ConfigOptions {
        port: Option<u16>,
        #[arg(short = 'p')]
        same_port: Option<u16>,
        #[arg(long)]
        workers: Option<u16>,
        #[arg(long)]
        quiet: bool,
        #[arg(long)]
        rate: Option<String>,
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "here")]
        web: Option<String>,
        #[arg(long, requires = "web")]
        web_name: Vec<String>,
        #[arg(long, num_args = 0..=2, require_equals = true, value_delimiter = '\n')]
        tls: Option<Vec<String>>,
        #[arg(long, conflicts_with = "tls")]
        compat: Option<u16>,
    }

    fn parsed(text: &str, line: &str) -> Result<ConfigOptions, String> {
        let file = ConfigFile::new(text);
        let words = std::iter::once("chatserver").chain(line.split_whitespace());
        let words: Vec<OsString> = words.map(OsString::from).collect();
        let parsed = parse_with::<ConfigOptions>(&file.0, &words);
        parsed.map_err(|error| {
            let name = file.0.display().to_string();
            let text = error.to_string().replace(&name, "FILE");
            text.trim_start_matches("error: ").trim_end().to_owned()
        })
    }

    #[test]
    fn every_kind_of_option_can_be_set_in_the_file() {
        let text = "# ours\nport = 6_000\nworkers = 30\nquiet = true\nrate = \"20/5\"\nweb = true\n\
                    web-name = [\"chat.example\", \"chat\"]\ntls = [\"a cert\", \"a key\"]\n";
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let wanted = ConfigOptions {
            same_port: Some(6000),
            workers: Some(30),
            quiet: true,
            rate: Some("20/5".to_owned()),
            web: Some("here".to_owned()),
            web_name: strings(&["chat.example", "chat"]),
            tls: Some(strings(&["a cert", "a key"])),
            ..ConfigOptions::default()
        };
        assert_eq!(parsed(text, "").unwrap(), wanted);
        // The order of the lines does not matter.
        let lines: String = text
            .lines()
            .rev()
            .map(|line| format!("{line}\r\n"))
            .collect();
        assert_eq!(parsed(&lines, "").unwrap(), wanted);
        let off = parsed("quiet = false\nweb = false\ntls = false", "").unwrap();
        assert_eq!(off, ConfigOptions::default());
        let one = parsed("web = \"there\"\nweb-name = \"chat\"", "").unwrap();
        assert_eq!((one.web.as_deref(), one.web_name.len()), (Some("there"), 1));
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let text = "port = 6000\nworkers = 30\nweb = \"there\"\nweb-name = [\"a\", \"b\"]\n";
        let both = parsed(text, "7000 --workers 4 --web-name c").unwrap();
        assert_eq!(
            (both.port, both.same_port, both.workers),
            (Some(7000), None, Some(4))
        );
        assert_eq!(
            (both.web.as_deref(), &*both.web_name),
            (Some("there"), &["c".to_owned()][..])
        );
        assert_eq!(parsed(text, "-p 7000").unwrap().same_port, Some(7000));
        // An invalid value that is overridden has no effect.
        assert_eq!(
            parsed("workers = \"many\"", "--workers 4").unwrap().workers,
            Some(4)
        );
    }

    #[test]
    fn an_invalid_line_is_reported_with_the_fix() {
        for (text, wanted) in [
            (
                "workers = 3\nworker = 4",
                "FILE, line 2: there is no setting worker; did you mean `workers`?",
            ),
            (
                "web_name = \"a\"",
                "FILE, line 1: there is no setting web_name; write `web-name`",
            ),
            (
                "Quiet = true",
                "FILE, line 1: there is no setting Quiet; write `quiet`",
            ),
            (
                "zzz = 1",
                "FILE, line 1: there is no setting zzz; the settings are port and the options",
            ),
            (
                "\n[web]\nname = \"a\"",
                "FILE, line 2: a configuration file can't contain sections",
            ),
            (
                "config = \"b\"",
                "FILE, line 1: --config works only on the command line",
            ),
            (
                "check = true",
                "FILE, line 1: --check works only on the command line",
            ),
            ("workers = true", "FILE, line 1: workers needs a value"),
            ("workers = \"\"", "FILE, line 1: workers is empty"),
            (
                "workers = [1, 2]",
                "FILE, line 1: workers takes only one value",
            ),
            (
                "workers = 2026-12-29",
                "FILE, line 1: the value of workers has the wrong type",
            ),
            ("quiet = 1", "FILE, line 1: quiet takes no value"),
            ("port = true", "FILE, line 1: port must be a number"),
            (
                "# a\nquiet = true\nworkers = 70000",
                "FILE, line 3: invalid value '70000' for '--workers",
            ),
            (
                "compat = 1\ntls = true",
                "FILE, line 1: the argument '--compat",
            ),
            (
                "web-name = \"a\"",
                "FILE, line 1: the following required arguments",
            ),
            (
                "workers = 1\nworkers = 2",
                "FILE, line 2: invalid TOML: duplicate key",
            ),
            ("workers 1", "FILE, line 1: invalid TOML: "),
            ("workers = 1\nrate = 20/5", "FILE, line 2: invalid TOML: "),
        ] {
            let reason = parsed(text, "").unwrap_err();
            assert!(reason.starts_with(wanted), "{text}\n{reason}\n{wanted}");
            assert!(reason.lines().count() == 1, "{reason}");
        }
        let missing = parse_with::<ConfigOptions>(Path::new("/no/file"), &["chatserver".into()]);
        let reason = missing.unwrap_err().to_string();
        assert!(
            reason.contains("--config /no/file: it can't be read"),
            "{reason}"
        );
    }
}
