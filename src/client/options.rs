//! The client's command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::config;
use super::trace::TraceOut;
use crate::hall::Name;
use crate::limits::FIRST_ORDINARY_PORT;
use crate::net::{Port, Tap};
use crate::wire::{Codec, Revision};

/// What `chatclient --help` prints.
pub(super) const HELP: &str = "\
chatclient: chat with whoever sits beside you

Usage: chatclient [SERVER [PORT [USERNAME]]] [OPTIONS]

  SERVER                the server's name or address (127.0.0.1)
  PORT                  its portal's port (50000)
  USERNAME              log in under this name; you are asked for the password.
                        Without it you talk with your partner, nameless
  -h HOST -p PORT -n NAME  the same three, as seed 004 calls them

  --callback [PORT]     listen on PORT (any) and let the worker connect to us
  --portal tcp|udp      how to ask the portal for a worker's port (tcp)
  --compat 0|1|2        speak as the original programs of that revision do
  --retry N             how often to ask again when the server is full, every 2 s
                        (for ever); 0 gives up at once, with exit code 3
  --reconnect           come back when the link is lost
  --server-timeout S    leave when nothing has come from the server for S seconds (60);
                        0 = never
  --password-file FILE  the password is the first line of FILE (or set CHAT_PASSWORD):
                        for scripts, and where there is no terminal to ask on
  --commands            in a pipe, too, PM, BM, DM and EX alone are commands
  --config FILE         where server, port, name and options are that count when no
                        SERVER is given (~/.config/portal-chat/client.conf)
  --save                keep server, port, name and options there
  --trace               print every socket call with its bytes, passwords and all
  --chop N              write N bytes at a time, to see that one write is not one read
  --no-color            no colours (NO_COLOR does the same)
  --help, --version

Type and press Enter to say something. /help lists the commands; /quit, Ctrl-D or
Ctrl-C leave. From a pipe, lines are sent one after the other, and the client waits
for the answers. Exit code 0: you left, 1: no connection, or the server ended it, or
(from a pipe) something was refused or not sent, 2: a bad option, 3: full.";

/// How to ask the portal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Portal {
    Tcp,
    Udp,
}

/// What the client was told at its start.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) server: String,
    pub(super) port: u16,
    /// Who to log in as, at once.
    pub(super) username: Option<String>,
    pub(super) portal: Portal,
    /// Speak with an original program of that revision (seed 000).
    pub(super) compat: Option<Revision>,
    /// Let the worker connect to us, on this port; 0 lets the system choose.
    pub(super) callback: Option<u16>,
    /// How often to ask again when the server is full; `None` is for ever.
    pub(super) retry: Option<u32>,
    pub(super) reconnect: bool,
    /// How long the server may be silent; `None` is for ever.
    pub(super) server_timeout: Option<Duration>,
    pub(super) color: bool,
    /// Given beforehand, in a file or a variable.
    pub(super) password: Option<String>,
    /// In a pipe, too, the operations of seed 002 alone in a line are commands.
    pub(super) commands: bool,
    /// Where the lines of earlier runs are.
    pub(super) history: Option<PathBuf>,
    /// What is done to every socket besides its work.
    pub(super) tap: Tap,
    /// Where the tap's lines go.
    pub(super) trace: TraceOut,
}

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    Chat(Box<Options>),
    Help,
    Version,
}

/// A command line that can't be followed; says what is wrong with which word.
#[derive(Debug)]
pub(super) struct BadOption(String);

impl Options {
    /// How the server is spoken to.
    pub(super) fn codec(&self) -> Codec {
        self.compat.map_or_else(Codec::default, Codec::original)
    }
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; `chatclient --help` lists the options", self.0)
    }
}

impl From<lexopt::Error> for BadOption {
    fn from(error: lexopt::Error) -> BadOption {
        BadOption(error.to_string())
    }
}

/// Reads the command line (without the program's name).
///
/// # Errors
/// [`BadOption`] for an unknown option, a missing or a senseless value.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, BadOption> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (command, config) = parse_words(arguments.clone())?;
    let Command::Chat(mut options) = command else {
        return Ok(command);
    };
    let file = config.file.clone().or_else(config::settings_file);
    if !config.server_given
        && let Some(file) = &file
    {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let words = config::read_settings(&text).into_iter().chain(arguments);
                let (command, _) = parse_words(words.collect())
                    .map_err(|error| BadOption(format!("{}: {}", file.display(), error.0)))?;
                let Command::Chat(with_settings) = command else {
                    return Ok(command);
                };
                options = with_settings;
            }
            // Without `--config`, a file that is not there is none that was forgotten.
            Err(error) if config.file.is_some() && !config.save => {
                return Err(BadOption(format!("--config {} ({error})", file.display())));
            }
            Err(_) => {}
        }
    }
    if options.password.is_none() {
        options.password = std::env::var("CHAT_PASSWORD").ok();
    }
    options.history = config::history_file();
    if config.save {
        save(&options, file)?;
    }
    Ok(Command::Chat(options))
}

/// What the command line says of the settings file.
#[derive(Default)]
struct Config {
    server_given: bool,
    file: Option<PathBuf>,
    save: bool,
}

/// Keeps the options that somebody wants every time.
fn save(options: &Options, file: Option<PathBuf>) -> Result<(), BadOption> {
    let Some(file) = file else {
        return Err(BadOption(
            "--save: there is no HOME; name a file with --config".to_owned(),
        ));
    };
    let mut text = format!("server {}\nport {}\n", options.server, options.port);
    if let Some(username) = &options.username {
        text += &format!("name {username}\n");
    }
    if options.portal == Portal::Udp {
        text += "portal udp\n";
    }
    if options.reconnect {
        text += "reconnect\n";
    }
    if !options.color {
        text += "no-color\n";
    }
    let seconds = options
        .server_timeout
        .map_or(0, |timeout| timeout.as_secs());
    text += &format!("server-timeout {seconds}\n");
    config::save_settings(&file, &text).map_err(|error| {
        BadOption(format!(
            "--save: {} can't be written ({error})",
            file.display()
        ))
    })
}

/// The first line of a file, as a password.
fn password_in(file: &PathBuf) -> Result<String, BadOption> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| BadOption(format!("--password-file {}: {error}", file.display())))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(BadOption(format!(
            "--password-file {}: its first line is empty",
            file.display()
        ))),
    }
}

fn parse_words(arguments: Vec<OsString>) -> Result<(Command, Config), BadOption> {
    let mut config = Config::default();
    let mut options = Options {
        server: "127.0.0.1".to_owned(),
        port: 50000,
        username: None,
        portal: Portal::Tcp,
        compat: None,
        callback: None,
        retry: None,
        reconnect: false,
        server_timeout: Some(Duration::from_secs(60)),
        color: true,
        password: None,
        commands: false,
        history: None,
        tap: Tap::default(),
        trace: TraceOut::default(),
    };
    let mut timeout_given = false;
    let mut positional = 0;
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") => return Ok((Command::Help, config)),
            // Seed 004 calls it `-p PORT -h HOST -n NAME`; without a host, -h asks for help.
            Arg::Short('h') => match host(&mut parser)? {
                Some(host) => {
                    options.server = server(&host)?;
                    config.server_given = true;
                }
                None => return Ok((Command::Help, config)),
            },
            Arg::Short('p') => options.port = port(&parser.value()?.string()?)?,
            Arg::Short('n') => options.username = Some(username(parser.value()?.string()?)?),
            Arg::Long("version") | Arg::Short('V') => return Ok((Command::Version, config)),
            Arg::Value(value) if positional == 0 => {
                options.server = server(&value.string()?)?;
                config.server_given = true;
                positional = 1;
            }
            Arg::Value(value) if positional == 1 => {
                options.port = port(&value.string()?)?;
                positional = 2;
            }
            Arg::Value(value) if positional == 2 => {
                options.username = Some(username(value.string()?)?);
                positional = 3;
            }
            Arg::Long("portal") => {
                options.portal = match parser.value()?.string()?.as_str() {
                    "tcp" => Portal::Tcp,
                    "udp" => Portal::Udp,
                    other => return Err(BadOption(format!("--portal {other}: it is tcp or udp"))),
                };
            }
            Arg::Long("compat") => {
                options.compat = Some(match parser.value()?.string()?.as_str() {
                    "0" => Revision::Zero,
                    "1" => Revision::One,
                    "2" => Revision::Two,
                    other => {
                        return Err(BadOption(format!("--compat {other}: it is 0, 1 or 2")));
                    }
                });
            }
            Arg::Long("callback") => options.callback = Some(callback_port(&mut parser)?),
            Arg::Long("retry") => {
                let text = parser.value()?.string()?;
                let bad = || whole_number("--retry", &text, 0, u32::MAX.into());
                options.retry = Some(text.parse().map_err(|_| bad())?);
            }
            Arg::Long("reconnect") => options.reconnect = true,
            Arg::Long("server-timeout") => {
                let text = parser.value()?.string()?;
                let bad = || whole_number("--server-timeout", &text, 0, u32::MAX.into());
                timeout_given = true;
                let seconds: u32 = text.parse().map_err(|_| bad())?;
                options.server_timeout = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            }
            Arg::Long("password-file") => {
                options.password = Some(password_in(&PathBuf::from(parser.value()?))?);
            }
            Arg::Long("commands") => options.commands = true,
            Arg::Long("config") => config.file = Some(PathBuf::from(parser.value()?)),
            Arg::Long("save") => config.save = true,
            Arg::Long("no-color") => options.color = false,
            Arg::Long("trace") => options.tap.trace = Some(options.trace.printing()),
            Arg::Long("chop") => {
                let text = parser.value()?.string()?;
                let bad = || whole_number("--chop", &text, 1, u16::MAX.into());
                let piece: NonZeroU16 = text.parse().map_err(|_| bad())?;
                options.tap.chop = Some(piece.into());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(revision) = options.compat {
        options.portal = if revision.asks_by_udp() {
            Portal::Udp
        } else {
            Portal::Tcp
        };
        if options.username.is_some() {
            return Err(BadOption(
                "--compat: the original programs know no names".to_owned(),
            ));
        }
        if options.callback.is_some() {
            return Err(BadOption(
                "--compat: the original programs call nobody, so not with --callback".to_owned(),
            ));
        }
        // They answer no PING, so their silence means nothing.
        if !timeout_given {
            options.server_timeout = None;
        }
    }
    Ok((Command::Chat(Box::new(options)), config))
}

/// The word after `-h`, unless there is none or it is another option.
fn host(parser: &mut Parser) -> Result<Option<String>, BadOption> {
    if let Some(attached) = parser.optional_value() {
        return Ok(Some(attached.string()?));
    }
    let is_host = parser.try_raw_args().is_some_and(|words| {
        let next = words.peek().map(|word| word.to_string_lossy().into_owned());
        next.is_some_and(|word| !word.starts_with('-'))
    });
    if is_host {
        Ok(Some(parser.value()?.string()?))
    } else {
        Ok(None)
    }
}

/// The number after `--callback`, or 0 where there is none. (A server is never a mere number.)
fn callback_port(parser: &mut Parser) -> Result<u16, BadOption> {
    let is_number = |word: &OsStr| word.to_string_lossy().parse::<u64>().is_ok();
    let text = match parser.optional_value() {
        Some(attached) => attached.string()?,
        None => {
            let words = parser.try_raw_args();
            if !words.is_some_and(|words| words.peek().is_some_and(is_number)) {
                return Ok(0);
            }
            parser.value()?.string()?
        }
    };
    match text.parse() {
        Ok(port) if port >= FIRST_ORDINARY_PORT => Ok(port),
        _ => Err(whole_number(
            "--callback",
            &text,
            FIRST_ORDINARY_PORT.into(),
            u16::MAX.into(),
        )),
    }
}

fn server(text: &str) -> Result<String, BadOption> {
    if text.parse::<u16>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return Err(BadOption(format!(
            "SERVER {text}: the server comes first and then, after a space, the port"
        )));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    Ok(bare.unwrap_or(text).to_owned())
}

fn port(text: &str) -> Result<u16, BadOption> {
    let port = text.parse().ok().and_then(Port::new);
    Ok(port
        .ok_or_else(|| whole_number("PORT", text, 1, u16::MAX.into()))?
        .get())
}

fn username(text: String) -> Result<String, BadOption> {
    match Name::new(&text) {
        Some(_) => Ok(text),
        None => Err(BadOption(format!(
            "USERNAME {text}: it is 1 to 32 letters, digits, _ . or -"
        ))),
    }
}

fn whole_number(option: &str, text: &str, least: u64, most: u64) -> BadOption {
    BadOption(format!(
        "{option} {text}: it is a whole number from {least} to {most}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Command::Chat(options)) => Ok(*options),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_option_is_understood_and_explained() {
        let line = "[::1] 6000 alice --portal udp --retry 0 --reconnect --server-timeout 0 --no-color \
             --trace --chop 1 --commands --callback";
        let options = parsed(line).unwrap();
        assert_eq!((options.server.as_str(), options.port), ("::1", 6000));
        assert_eq!((options.portal, options.retry), (Portal::Udp, Some(0)));
        assert!(options.reconnect && options.server_timeout.is_none() && !options.color);
        for option in line
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            assert!(HELP.contains(option), "{option} is not in the help");
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
            assert_eq!(parsed(help).unwrap_err(), "Help", "{help}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (line, named) in [
            ("41000", "SERVER 41000"),
            ("127.0.0.1:41000", "after a space"),
            ("here 0", "PORT 0"),
            ("here there", "PORT there"),
            ("--portal both", "--portal both"),
            ("--retry x", "--retry x"),
            ("--chop 0", "--chop 0"),
            ("--callback 80", "--callback 80"),
            ("--callback=x", "--callback x"),
            ("--callback --compat 0", "--callback"),
            ("--server-timeout -1", "--server-timeout -1"),
            ("one 2 three 4", "\"4\""),
            ("one 2 no/name", "USERNAME no/name"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(
                error.contains(named) && error.contains("--help"),
                "{line}: {error}"
            );
        }
    }
}
