//! The client's command line options.

use std::env::VarError;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand, ValueEnum, value_parser};

use super::commands;
use super::config::{self, Setting};
use super::manual::MANUAL;
use super::trace::TraceOut;
use portal_cli::command_line::{
    About, bad_file, bad_value, join_value, read, refuse, revision, sentence_of,
};
use portal_cli::terminal::{LineHistory, is_interactive};
use portal_cli::text_file::{self, Fault};
use portal_net::limits;
use portal_net::{Connector, Tap};
use portal_wire::{Codec, Name, Revision};

/// Chat with the partner in the neighbouring seat
#[derive(Parser, Debug)]
#[command(
    name = "chatclient",
    version,
    disable_help_flag = true,
    args_conflicts_with_subcommands = true,
    allow_negative_numbers = true,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
-h HOST, -p PORT and -n NAME are seed 004's options for the first three arguments.

Type a message and press Enter to send it. /help lists the commands; to leave, type
/quit or press Ctrl-D or Ctrl-C. If the input is a pipe, the client sends its lines in
order and waits for the replies. Exit code 0: you left, 1: the client could not connect,
the connection ended, or (from a pipe) a line was refused or not sent, 2: an option is
invalid, or a file or a pipe is not UTF-8 text, 3: the server is full."
)]
struct ClientArguments {
    /// The server's name or address [default: 127.0.0.1]
    #[arg(value_parser = server)]
    server: Option<String>,
    /// The portal's port [default: 50000]
    #[arg(value_parser = value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Name to log in with; the client prompts for the password. Without a name, you can talk only
    /// to your partner
    #[arg(value_parser = username)]
    username: Option<String>,
    #[arg(short = 'h', value_name = "HOST", value_parser = server, hide = true)]
    same_server: Option<String>,
    #[arg(short = 'p', value_name = "PORT", value_parser = value_parser!(u16).range(1..), hide = true)]
    same_port: Option<u16>,
    #[arg(short = 'n', value_name = "NAME", value_parser = username, hide = true)]
    same_username: Option<String>,

    /// Listen on PORT (any free port if omitted) and let the worker connect to this client
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0", value_parser = callback_port, conflicts_with = "compat")]
    callback: Option<u16>,
    /// How to ask the portal for a worker's port
    #[arg(long, value_name = "WHICH", value_enum, default_value = "tcp")]
    portal: PortalProtocol,
    /// Use TLS (the server must have been started with --tls). If no authority vouches for the
    /// certificate, ask whether to trust and remember it
    #[arg(long, conflicts_with_all = ["compat", "callback"])]
    tls: bool,
    /// Use TLS, and accept only the certificate with this SHA-256 fingerprint
    #[arg(long, value_name = "SHA256", conflicts_with_all = ["compat", "callback"])]
    tls_fingerprint: Option<String>,
    /// Use this revision of the original programs' protocol
    #[arg(long, value_name = "0|1|2", value_parser = revision)]
    compat: Option<Revision>,
    /// Number of retries, one every 2 s, while the server is full [default: no limit]; with 0, exit
    /// at once with code 3
    #[arg(long, value_name = "N")]
    retry: Option<u32>,
    /// Reconnect when the connection is lost
    #[arg(long)]
    reconnect: bool,
    /// Leave when the server has sent nothing for S seconds [default: 60]; 0 means never
    #[arg(long, value_name = "S")]
    server_timeout: Option<u32>,
    /// Read the password from the first line of FILE instead of prompting for it (or set
    /// CHAT_PASSWORD)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Treat a line with only PM, BM, DM or EX as a command in piped input, too
    #[arg(long)]
    commands: bool,
    /// Read the server, port, name and options from FILE if SERVER is omitted [default:
    /// ~/.config/portal-chat/client.conf]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Save the server, port, name and options of this command line in the --config file, and keep
    /// the file's other lines
    #[arg(long)]
    save: bool,
    /// Print every socket call with its bytes, including passwords
    #[arg(long)]
    trace: bool,
    /// Write N bytes at a time, to show that one write is not one read
    #[arg(long, value_name = "N")]
    chop: Option<NonZeroU16>,
    /// Disable colours (NO_COLOR does the same)
    #[arg(long)]
    no_color: bool,
    /// Print help (so does -h on its own)
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// The place in the settings file where `--tls-fingerprint` was set, if it was set there.
    #[arg(skip)]
    fingerprint_place: Option<String>,

    #[command(flatten)]
    about: About,
    #[command(subcommand)]
    other: Option<ClientSubcommand>,
}

#[derive(Subcommand, Debug)]
enum ClientSubcommand {
    /// The lessons' client
    Echo(portal_lesson::EchoClient),
}

/// The protocol for requests to the portal.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PortalProtocol {
    Tcp,
    Udp,
}

/// The TLS settings.
#[derive(Clone, Debug)]
pub(super) struct TlsWanted {
    /// The fingerprint that the server's certificate must have.
    pub(super) fingerprint: Option<Given>,
}

/// A value, and the place where the user set it.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: String,
    /// The place as it appears in messages, such as `--tls-fingerprint on the command line`.
    pub(super) place: String,
}

/// The client's options.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) server: String,
    pub(super) port: u16,
    /// The name to log in with immediately.
    pub(super) username: Option<String>,
    pub(super) portal: PortalProtocol,
    /// The revision of the original programs (seed 000) that the server uses.
    pub(super) compat: Option<Revision>,
    /// The port on which the worker connects to us; 0 lets the system choose.
    pub(super) callback: Option<u16>,
    /// Maximum number of retries when the server is full; `None` means no limit.
    pub(super) retry: Option<u32>,
    pub(super) reconnect: bool,
    /// Maximum time that the server may send nothing; `None` means no limit.
    pub(super) server_timeout: Option<Duration>,
    pub(super) color: bool,
    /// The password from a file or a variable.
    pub(super) password: Option<Given>,
    /// Set if the operations of seed 002, alone on a line, are commands in piped input, too.
    pub(super) commands: bool,
    /// The lines from earlier runs, for a user at a terminal.
    pub(super) history: Option<LineHistory>,
    /// The connector for all connections.
    pub(super) dial: Connector,
    /// `None` means no TLS.
    pub(super) tls: Option<TlsWanted>,
    /// The destination of the tap's lines.
    pub(super) trace: TraceOut,
}

/// The action that the command line requests.
#[derive(Debug)]
pub(super) enum ClientAction {
    Chat(Box<Options>),
    /// The lessons' client.
    Echo(portal_lesson::EchoClient),
}

impl Options {
    /// The encoding of documents for this server.
    pub(super) fn codec(&self) -> Codec {
        self.compat.map_or_else(Codec::default, Codec::legacy)
    }
}

/// Parses the command line (without the program's name). `Err` means that the program must exit.
pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ClientAction, ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let read = read(words(&[], &arguments), &MANUAL, |read: &ClientArguments| {
        &read.about
    })?;
    command(read, &arguments).map_err(|error| refuse::<ClientArguments>(&error))
}

/// Returns the words of the settings file, followed by those of the command line, as clap expects
/// them.
fn words(settings: &[OsString], arguments: &[OsString]) -> Vec<OsString> {
    let program = OsString::from("chatclient");
    let all = std::iter::once(&program).chain(settings).chain(arguments);
    // A server is never just a number.
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let mut words = join_value(all.cloned(), "--callback", is_number);
    // In seed 004, -h specifies the host; alone, it requests help.
    for index in 0..words.len() {
        let next = words.get(index + 1);
        let is_alone = next.is_none_or(|next| next.to_string_lossy().starts_with('-'));
        if words[index] == "-h" && is_alone {
            words[index] = "--help".into();
        }
    }
    words
}

fn command(mut read: ClientArguments, arguments: &[OsString]) -> Result<ClientAction, clap::Error> {
    if let Some(ClientSubcommand::Echo(echo)) = read.other {
        return Ok(ClientAction::Echo(echo));
    }
    let (config, save_wanted) = (read.config.clone(), read.save);
    let file = config.clone().or_else(config::settings_file);
    if read.server.is_none()
        && read.same_server.is_none()
        && let Some(file) = &file
    {
        match text_file::read(file) {
            Ok(text) => read = with_settings(file, &text, arguments)?,
            // A missing file is an error only with `--config` and without `--save`.
            Err(error) if error.is_missing() && (config.is_none() || save_wanted) => {}
            Err(error) => return Err(bad_file(error)),
        }
    }
    let mut options = options(read)?;
    if options.password.is_none() {
        options.password = match std::env::var("CHAT_PASSWORD") {
            Ok(value) => {
                let place = "CHAT_PASSWORD".to_owned();
                Some(Given { value, place })
            }
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                return Err(bad_file(
                    "CHAT_PASSWORD is not UTF-8; set it in a UTF-8 locale, or use --password-file",
                ));
            }
        };
    }
    if is_interactive() {
        let history = config::history_file()
            .map(|file| LineHistory::read(file, commands::has_secret))
            .transpose();
        options.history = history.map_err(bad_file)?;
    }
    if save_wanted {
        save(&options, file, arguments)?;
    }
    Ok(ClientAction::Chat(Box::new(options)))
}

/// Parses the command line, preceded by the settings in `text`, which is the text of `file`.
fn with_settings(
    file: &Path,
    text: &str,
    arguments: &[OsString],
) -> Result<ClientArguments, clap::Error> {
    let mut described = ClientArguments::command();
    described.build();
    let at = |line, reason| bad_file(Fault::Line(reason).at(file, line));
    let settings =
        config::read_settings(text, &described).map_err(|(line, reason)| at(line, reason))?;
    let parse = |settings: &[Setting], arguments: &[OsString]| {
        let settings: Vec<OsString> = settings
            .iter()
            .map(|setting| setting.word.clone())
            .collect();
        ClientArguments::try_parse_from(words(&settings, arguments))
    };
    let read = parse(&settings, arguments).map_err(|error| {
        // Find the first line that is invalid together with the lines before it.
        for (last, setting) in settings.iter().enumerate() {
            if let Err(error) = parse(&settings[..=last], &[]) {
                return at(setting.line, sentence_of(&error));
            }
        }
        let sentence = sentence_of(&error);
        bad_file(format!(
            "{sentence} (including the settings from {})",
            file.display()
        ))
    });
    let mut read = read?;
    // The command line overrides the settings.
    let is_given = |words: &[OsString]| words.iter().any(|word| is_option(word, FINGERPRINT));
    if !is_given(arguments) {
        let setting = settings
            .iter()
            .find(|setting| is_option(&setting.word, FINGERPRINT));
        read.fingerprint_place = setting.map(|setting| {
            let (file, line) = (file.display(), setting.line);
            format!("tls-fingerprint in {file}, line {line}")
        });
    }
    Ok(read)
}

const FINGERPRINT: &str = "--tls-fingerprint";

/// Returns whether a word of the command line is `option`, with or without its value.
fn is_option(word: &OsStr, option: &str) -> bool {
    let rest = word.to_str().and_then(|word| word.strip_prefix(option));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

fn options(read: ClientArguments) -> Result<Options, clap::Error> {
    let username = read.username.or(read.same_username);
    if read.compat.is_some() && username.is_some() {
        let sentence = "--compat does not support names; omit USERNAME";
        return Err(bad_value::<ClientArguments>(sentence));
    }
    // The original programs do not answer PING, so their silence means nothing.
    let patience = if read.compat.is_some() { 0 } else { 60 };
    let server_timeout = read.server_timeout.unwrap_or(patience);
    let password = read.password_file.map(|file| {
        let value = text_file::read_password(&file)
            .map_err(|error| bad_file(format!("--password-file {error}")))?;
        let place = file.display().to_string();
        Ok::<Given, clap::Error>(Given { value, place })
    });
    let fingerprint = read.tls_fingerprint.map(|value| Given {
        value,
        place: read
            .fingerprint_place
            .unwrap_or_else(|| format!("{FINGERPRINT} on the command line")),
    });
    let trace = TraceOut::default();
    let tap = Tap {
        chop: read.chop.map(Into::into),
        trace: read.trace.then(|| trace.printing()),
    };
    Ok(Options {
        server: read
            .server
            .or(read.same_server)
            .unwrap_or_else(|| "127.0.0.1".to_owned()),
        port: read.port.or(read.same_port).unwrap_or(50000),
        username,
        portal: match read.compat.map(Revision::asks_by_udp) {
            Some(true) => PortalProtocol::Udp,
            Some(false) => PortalProtocol::Tcp,
            None => read.portal,
        },
        compat: read.compat,
        callback: read.callback,
        retry: read.retry,
        reconnect: read.reconnect,
        server_timeout: (server_timeout > 0).then(|| Duration::from_secs(server_timeout.into())),
        color: !read.no_color,
        password: password.transpose()?,
        commands: read.commands,
        history: None,
        tls: (read.tls || fingerprint.is_some()).then_some(TlsWanted { fingerprint }),
        dial: Connector { tap, tls: None },
        trace,
    })
}

/// Saves the server, the port, the name and the options of this command line in `file`.
fn save(
    options: &Options,
    file: Option<PathBuf>,
    arguments: &[OsString],
) -> Result<(), clap::Error> {
    let refuse = |sentence: String| bad_file(format!("--save: {sentence}"));
    let Some(file) = file else {
        return Err(refuse(
            "HOME is not set; choose a file with --config FILE".to_owned(),
        ));
    };
    let before = text_file::read_own(&file).map_err(|error| refuse(error.to_string()))?;
    let mut settings = vec![
        ("server".to_owned(), options.server.clone()),
        ("port".to_owned(), options.port.to_string()),
    ];
    if let Some(username) = &options.username {
        settings.push(("name".to_owned(), username.clone()));
    }
    settings.extend(given(arguments).map_err(refuse)?);
    let text = config::with_settings(&before.unwrap_or_default(), &settings);
    with_settings(&file, &text, &[])
        .map_err(|error| refuse(format!("nothing was saved: {}", sentence_of(&error))))?;
    text_file::replace(&file, &text).map_err(|error| refuse(error.to_string()))
}

/// The options of this command line that can be settings, and their values.
fn given(arguments: &[OsString]) -> Result<Vec<(String, String)>, String> {
    let mut described = ClientArguments::command();
    // This command line has already been parsed without an error.
    let Ok(matches) = described.try_get_matches_from_mut(words(&[], arguments)) else {
        return Ok(Vec::new());
    };
    let mut settings = Vec::new();
    for option in described.get_arguments() {
        let (id, Some(long)) = (option.get_id().as_str(), option.get_long()) else {
            continue;
        };
        if config::NOT_A_SETTING.contains(&long)
            || matches.value_source(id) != Some(ValueSource::CommandLine)
        {
            continue;
        }
        let mut value = OsString::new();
        if option.get_action().takes_values() {
            let last = matches.get_raw(id).and_then(Iterator::last);
            value = last.unwrap_or_default().to_owned();
        }
        if id == "password_file" {
            let file = Path::new(&value);
            if !file.is_file() {
                return Err(format!(
                    "{} is not a regular file, so it may not exist the next time; omit \
                     --password-file",
                    file.display()
                ));
            }
            // The saved path must work from every folder.
            let whole = std::path::absolute(file);
            value = whole.map_err(|error| error.to_string())?.into_os_string();
        }
        let value = value
            .into_string()
            .ok()
            .filter(|value| !value.contains('\n'));
        let value = value
            .ok_or_else(|| format!("the value of --{long} must be a single line of UTF-8 text"))?;
        settings.push((long.to_owned(), value));
    }
    Ok(settings)
}

fn callback_port(text: &str) -> Result<u16, String> {
    let least = limits::FIRST_ORDINARY_PORT;
    match text.parse() {
        Ok(port) if port == 0 || port >= least => Ok(port),
        _ => Err(format!("must be a whole number from {least} to 65535")),
    }
}

fn server(text: &str) -> Result<String, String> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a server's name or address must not contain spaces".to_owned());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(format!(
            "that is a web address: open it in a browser, or give the server and its portal's \
             port: {host} 50000"
        ));
    }
    let with_port = text.rsplit_once(':').filter(|(host, port)| {
        // A bare IPv6 address contains colons itself.
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if let Some((host, port)) = with_port {
        return Err(format!("write the port after a space: {host} {port}"));
    }
    if text.parse::<u16>().is_ok() {
        return Err("give the server first and then, after a space, the port".to_owned());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    Ok(bare.unwrap_or(text).to_owned())
}

fn username(text: &str) -> Result<String, &'static str> {
    Name::new(text)
        .map(|_| text.to_owned())
        .ok_or("must be 1 to 32 characters: letters, digits, `_`, `.` or `-`")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The description of the command line, to parse settings.
    pub(crate) fn command() -> clap::Command {
        let mut command = ClientArguments::command();
        command.build();
        command
    }

    /// Parses a command line; returns the options or the error message.
    fn parsed(line: &str) -> Result<Options, String> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let read = ClientArguments::try_parse_from(words(&[], &arguments));
        read.and_then(options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_description_has_no_contradictions() {
        ClientArguments::command().debug_assert();
    }

    #[test]
    fn completions_and_the_manual_page_know_every_option() {
        portal_cli::test_support::know_every_option(ClientArguments::command());
    }

    #[test]
    fn the_options_stand_on_the_page_as_in_the_help() {
        portal_cli::test_support::stand_on_the_page(ClientArguments::command(), "chatclient.md");
    }

    #[test]
    fn every_option_is_understood_and_explained() {
        let line = "[::1] 6000 alice --portal udp --retry 0 --reconnect --server-timeout 0 --no-color \
             --trace --chop 1 --commands --callback";
        let options = parsed(line).unwrap();
        assert_eq!((options.server.as_str(), options.port), ("::1", 6000));
        assert_eq!(
            (options.portal, options.retry),
            (PortalProtocol::Udp, Some(0))
        );
        assert!(options.reconnect && options.server_timeout.is_none() && !options.color);
        let help = ClientArguments::command().render_help().to_string();
        for option in line
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            assert!(help.contains(option), "{option} is not in the help");
        }
    }

    #[test]
    fn the_port_of_a_callback_may_be_left_out() {
        for (line, port, server) in [
            ("--callback", Some(0), "127.0.0.1"),
            ("--callback 6000", Some(6000), "127.0.0.1"),
            ("--callback here", Some(0), "here"),
            ("--callback=6000 here 50000", Some(6000), "here"),
            ("--callback 6000 here 50000", Some(6000), "here"),
            ("here", None, "here"),
        ] {
            let options = parsed(line).unwrap();
            assert_eq!(
                (options.callback, &*options.server),
                (port, server),
                "{line}"
            );
        }
    }

    #[test]
    fn seed_004_calls_it_with_letters() {
        let options = parsed("-p 6000 -h localhost -n alice").unwrap();
        let called = (
            options.server.as_str(),
            options.port,
            options.username.as_deref(),
        );
        assert_eq!(called, ("localhost", 6000, Some("alice")));
        for help in ["-h", "-h -p 6000", "--help"] {
            assert!(parsed(help).unwrap_err().contains("Usage: "), "{help}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (line, named) in [
            ("41000", "'41000'"),
            ("127.0.0.1:41000", "after a space: 127.0.0.1 41000"),
            ("localhost:50000", "after a space: localhost 50000"),
            ("[::1]:50000", "after a space: [::1] 50000"),
            ("http://chat.example:8080/", "chat.example 50000"),
            ("https://localhost", "open it in a browser"),
            ("here 0", "0 is not in 1..=65535"),
            ("here there", "'there'"),
            ("--portal both", "'both'"),
            ("--retry x", "'x'"),
            ("--chop 0", "--chop"),
            ("--callback 80", "from 1024"),
            ("--callback=x", "'x'"),
            ("--callback --compat 0", "--callback"),
            ("--server-timeout -1", "'-1'"),
            ("one 2 three 4", "'4'"),
            ("one 2 no/name", "'no/name'"),
            ("--reconect", "'--reconnect'"),
            ("alice --compat 3", "must be 0, 1 or 2"),
            ("here 2 alice --compat 0", "does not support names"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(
                error.contains(named) && error.contains("--help"),
                "{line}: {error}"
            );
        }
    }
}
