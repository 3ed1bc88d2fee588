//! The server's command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::limits;
use crate::server::{Portals, Rate, Settings};
use crate::wire::Revision;

/// What `chatserver --help` prints.
pub(super) const HELP: &str = "\
chatserver: a chat server with a thread for every connection

Usage: chatserver [PORT] [OPTIONS]
       chatserver replay FILE [--speed N] [--board [ADDRESS]]

  PORT                    the portal's port (50000); the workers get the ones after it.
                          0 lets the system choose all of them
  -p PORT                 the same, as seed 004 calls it

Where
  --bind ADDRESS          the address to listen on (127.0.0.1: this machine alone).
                          0.0.0.0 or [::] lets everyone on the network in
  --workers N             how many people can be in at a time (4); an even number,
                          because 50001 talks with 50002, 50003 with 50004, and so on
  --single-port           one port for everyone, without portal and passcodes
  --max-clients N         how many clients one port takes (100)
  --compat 0|1|2          speak as the original programs of that revision do: their
                          framing and words, their portal (0 and 1: TCP, 2: UDP),
                          their timeouts (idle 60, total 600); chat alone, no names
  --portal tcp|udp|both   how clients may ask for a port (both)

How long, in whole seconds
  --tick 1|2              how often the clock ticks (1)
  --reserve-timeout S     from the portal's answer to the connection (2)
  --handshake-timeout S   from the connection to the passcode (1)
  --idle-timeout S        without a word from a client (300); 0 = for ever
  --total-timeout S       a client may stay in all (0 = for ever)

Who
  --accounts FILE         where the accounts are kept (accounts.txt)
  --no-passwords          no accounts: a free name is yours while you are here
  --max-per-ip N          how many seats one address may have (as many as there are)
  --rate BURST/PER_SECOND how fast one client may talk; what is more is delayed (as it
                          likes)
  --announce N            tell people who comes and goes, while at most N are logged
                          in (100)
  --rooms N               how many rooms there can be at a time (16); their ports come
                          after the workers'
  --history N             how many of a room's last messages a new member sees (20)
  --motd FILE             greet whoever logs in with the text in FILE

What
  --max-message BYTES     the longest message taken (8192)
  --quiet                 print no events
  --show-messages         print what people say, too
  --events FILE           append every event to FILE as a line of JSON
  --board [ADDRESS]       a page on which to watch all of it (127.0.0.1:8050); what
                          people say is hidden there without --show-messages
  --show-passcodes        show passcodes, too, on the board and in the events
  --trace                 print every socket call with its bytes, passwords and all
  --chop N                write N bytes at a time, to see that one write is not one read

  --help, --version

Replay
  replay FILE             show a run that was recorded with --events FILE on the board;
                          with --trace at the time, there are bytes to see, too
  --speed N               N times as fast (1)

Start it, then type `chatclient` (in a checkout `make run-client`) in another terminal.
Ctrl-C ends it; a second Ctrl-C ends it at once.";

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// Run a server.
    Serve(Box<Settings>),
    /// Show a run that was recorded.
    Replay(Replay),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// What to replay, and how.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) file: PathBuf,
    pub(super) speed: f64,
    pub(super) board: SocketAddr,
    pub(super) show_passcodes: bool,
}

/// A command line that can't be followed; says what is wrong with which word.
#[derive(Debug)]
pub(super) struct BadOption(String);

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; `chatserver --help` lists the options", self.0)
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
    let mut settings = Settings {
        accounts: Some(DEFAULT_ACCOUNTS.into()),
        ..Settings::default()
    };
    let mut port_given = false;
    let (mut single_port, mut max_clients) = (false, None);
    let (mut idle_given, mut total_given) = (false, false);
    let mut parser = Parser::from_args(arguments);
    if parser.try_raw_args().is_some_and(|mut raw| {
        let is_replay = raw.peek().is_some_and(|first| first == "replay");
        is_replay && raw.next().is_some()
    }) {
        return replay(parser).map(Command::Replay);
    }
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Command::Version),
            Arg::Value(value) if !port_given => {
                settings.port = number("PORT", &value.string()?, 0, u16::MAX)?;
                port_given = true;
            }
            Arg::Short('p') => {
                settings.port = number("PORT", &parser.value()?.string()?, 0, u16::MAX)?;
            }
            Arg::Long("bind") => settings.bind = bind_address(&parser.value()?.string()?)?,
            Arg::Long("workers") => {
                let most = usize::from(u16::MAX) - 1;
                settings.workers = number("--workers", &parser.value()?.string()?, 2, most)?;
                if settings.workers % 2 == 1 {
                    return Err(BadOption(format!(
                        "--workers {}: it has to be an even number, because people talk in pairs",
                        settings.workers
                    )));
                }
            }
            Arg::Long("compat") => {
                settings.compat = Some(match parser.value()?.string()?.as_str() {
                    "0" => Revision::Zero,
                    "1" => Revision::One,
                    "2" => Revision::Two,
                    other => {
                        return Err(BadOption(format!("--compat {other}: it is 0, 1 or 2")));
                    }
                });
            }
            Arg::Long("single-port") => single_port = true,
            Arg::Long("max-clients") => {
                max_clients = Some(number(
                    "--max-clients",
                    &parser.value()?.string()?,
                    1,
                    MOST_CLIENTS,
                )?);
            }
            Arg::Long("portal") => {
                settings.portals = match parser.value()?.string()?.as_str() {
                    "tcp" => Portals::Tcp,
                    "udp" => Portals::Udp,
                    "both" => Portals::Both,
                    other => {
                        return Err(BadOption(format!(
                            "--portal {other}: it is tcp, udp or both"
                        )));
                    }
                };
            }
            Arg::Long("tick") => settings.tick = seconds("--tick", &mut parser, 1, 2)?,
            Arg::Long("reserve-timeout") => {
                settings.reserve_timeout = seconds("--reserve-timeout", &mut parser, 1, DAY)?;
            }
            Arg::Long("handshake-timeout") => {
                settings.handshake_timeout = seconds("--handshake-timeout", &mut parser, 1, DAY)?;
            }
            Arg::Long("idle-timeout") => {
                idle_given = true;
                settings.idle_timeout = or_never(seconds("--idle-timeout", &mut parser, 0, YEAR)?);
            }
            Arg::Long("total-timeout") => {
                total_given = true;
                settings.total_timeout =
                    or_never(seconds("--total-timeout", &mut parser, 0, YEAR)?);
            }
            Arg::Long("max-message") => {
                let (least, most) = (limits::MAX_FRAME_FLOOR, limits::MAX_FRAME_CEILING);
                settings.max_message =
                    number("--max-message", &parser.value()?.string()?, least, most)?;
            }
            Arg::Long("accounts") => settings.accounts = Some(parser.value()?.into()),
            Arg::Long("no-passwords") => settings.accounts = None,
            Arg::Long("max-per-ip") => {
                settings.max_per_address = Some(number(
                    "--max-per-ip",
                    &parser.value()?.string()?,
                    1,
                    usize::MAX,
                )?);
            }
            Arg::Long("rate") => settings.rate = Some(rate(&parser.value()?.string()?)?),
            Arg::Long("announce") => {
                settings.announce_up_to =
                    number("--announce", &parser.value()?.string()?, 0, usize::MAX)?;
            }
            Arg::Long("rooms") => {
                settings.rooms = number("--rooms", &parser.value()?.string()?, 0, MOST_ROOMS)?;
            }
            Arg::Long("history") => {
                settings.history = number("--history", &parser.value()?.string()?, 0, 1000)?;
            }
            Arg::Long("motd") => {
                settings.message_of_the_day = Some(message_of_the_day(&parser.value()?)?);
            }
            Arg::Long("quiet") => settings.quiet = true,
            Arg::Long("show-messages") => settings.show_messages = true,
            Arg::Long("events") => settings.event_file = Some(parser.value()?.into()),
            Arg::Long("board") => settings.board = Some(board_address(&mut parser)?),
            Arg::Long("show-passcodes") => settings.show_passcodes = true,
            Arg::Long("trace") => settings.trace = true,
            Arg::Long("chop") => {
                let piece: u16 = number("--chop", &parser.value()?.string()?, 1, u16::MAX)?;
                settings.chop = NonZeroUsize::new(piece.into());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    match (single_port, max_clients) {
        (true, most) => settings.single_port = Some(most.unwrap_or(DEFAULT_CLIENTS)),
        (false, None) => {}
        (false, Some(_)) => {
            return Err(BadOption(
                "--max-clients: it goes with --single-port; with a portal it is --workers"
                    .to_owned(),
            ));
        }
    }
    if let Some(revision) = settings.compat {
        if single_port {
            return Err(BadOption(
                "--compat: the original programs need a portal, so not with --single-port"
                    .to_owned(),
            ));
        }
        settings.portals = if revision.asks_by_udp() {
            Portals::Udp
        } else {
            Portals::Tcp
        };
        settings.accounts = None;
        if !idle_given {
            settings.idle_timeout = Some(ORIGINAL_IDLE);
        }
        if !total_given {
            settings.total_timeout = Some(ORIGINAL_TOTAL);
        }
    }
    Ok(Command::Serve(Box::new(settings)))
}

fn replay(mut parser: Parser) -> Result<Replay, BadOption> {
    let (mut file, mut speed, mut board, mut show_passcodes) = (None, 1.0, BOARD, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) if file.is_none() => file = Some(PathBuf::from(value)),
            Arg::Long("speed") => {
                let text = parser.value()?.string()?;
                let number: Option<f64> = text.parse().ok();
                speed = number
                    .filter(|speed| (0.01..=1000.0).contains(speed))
                    .ok_or_else(|| {
                        BadOption(format!("--speed {text}: it is a number from 0.01 to 1000"))
                    })?;
            }
            Arg::Long("board") => board = board_address(&mut parser)?,
            Arg::Long("show-passcodes") => show_passcodes = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let file = file.ok_or_else(|| {
        BadOption("replay: which file? Give one that was written with --events".to_owned())
    })?;
    Ok(Replay {
        file,
        speed,
        board,
        show_passcodes,
    })
}

/// Where the board is unless told otherwise: on this machine alone.
const BOARD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8050);

/// The address after `--board`, or [`BOARD`] where there is none. (A portal's port is never an
/// address.)
fn board_address(parser: &mut Parser) -> Result<SocketAddr, BadOption> {
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    if let Some(value) = parser.optional_value() {
        let text = value.string()?;
        return address(&text).ok_or_else(|| {
            BadOption(format!(
                "--board {text}: it is an address with a port, such as 127.0.0.1:8050"
            ))
        });
    }
    let next = parser.try_raw_args().and_then(|raw| {
        let next = raw.peek()?.to_str()?;
        address(next)
    });
    if next.is_some() {
        parser.value()?;
    }
    Ok(next.unwrap_or(BOARD))
}

/// Beside where the server runs.
const DEFAULT_ACCOUNTS: &str = "accounts.txt";

/// The longest message of the day, in bytes: a screen full.
const LONGEST_MESSAGE_OF_THE_DAY: usize = 4096;

fn message_of_the_day(path: &OsStr) -> Result<String, BadOption> {
    let shown = path.to_string_lossy();
    let text = std::fs::read_to_string(path)
        .map_err(|error| BadOption(format!("--motd {shown}: it can't be read ({error})")))?;
    let text = text.trim_end();
    if text.len() > LONGEST_MESSAGE_OF_THE_DAY {
        return Err(BadOption(format!(
            "--motd {shown}: it has {} bytes, and {LONGEST_MESSAGE_OF_THE_DAY} are allowed",
            text.len()
        )));
    }
    Ok(text.to_owned())
}

/// The original programs' timeouts.
const ORIGINAL_IDLE: Duration = Duration::from_secs(60);
const ORIGINAL_TOTAL: Duration = Duration::from_secs(600);

const DEFAULT_CLIENTS: usize = 100;
const MOST_CLIENTS: usize = 10_000;
const MOST_ROOMS: usize = 10_000;

const DAY: u64 = 24 * 60 * 60;
const YEAR: u64 = 365 * DAY;

fn seconds(
    option: &str,
    parser: &mut Parser,
    least: u64,
    most: u64,
) -> Result<Duration, BadOption> {
    Ok(Duration::from_secs(number(
        option,
        &parser.value()?.string()?,
        least,
        most,
    )?))
}

fn or_never(timeout: Duration) -> Option<Duration> {
    (!timeout.is_zero()).then_some(timeout)
}

fn number<T>(option: &str, text: &str, least: T, most: T) -> Result<T, BadOption>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(BadOption(format!(
            "{option} {text}: it is a whole number from {least} to {most}"
        ))),
    }
}

fn rate(text: &str) -> Result<Rate, BadOption> {
    let numbers = text.split_once('/').and_then(|(burst, per_second)| {
        Some(Rate {
            burst: burst.parse().ok()?,
            per_second: per_second.parse().ok()?,
        })
    });
    numbers.ok_or_else(|| {
        BadOption(format!(
            "--rate {text}: it is BURST/PER_SECOND, two whole numbers from 1 on, such as 20/5"
        ))
    })
}

fn bind_address(text: &str) -> Result<std::net::IpAddr, BadOption> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().map_err(|_| {
        BadOption(format!(
            "--bind {text}: it is an IP address such as 127.0.0.1, 0.0.0.0 or [::]"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Settings, String> {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Command::Serve(settings)) => Ok(*settings),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_option_is_understood_and_explained() {
        let line = "6000 --bind [::1] --workers 6 --portal udp --tick 2 --reserve-timeout 3 \
                    --handshake-timeout 4 --idle-timeout 0 --total-timeout 5 --max-message 1000 \
                    --single-port --max-clients 5 --accounts a.txt --announce 7 --rooms 3 --history 9 --quiet --show-messages --events log.json \
                    --max-per-ip 2 --rate 20/5 --trace --chop 3";
        let settings = parsed(line).unwrap();
        assert_eq!(
            (settings.port, settings.workers, settings.max_message),
            (6000, 6, 1000)
        );
        assert_eq!(settings.bind, "::1".parse::<std::net::IpAddr>().unwrap());
        assert_eq!(settings.portals, Portals::Udp);
        assert_eq!(
            (settings.idle_timeout, settings.total_timeout),
            (None, Some(Duration::from_secs(5)))
        );
        assert!(settings.quiet && settings.show_messages && settings.event_file.is_some());
        let rate = settings.rate.unwrap();
        assert_eq!((rate.burst.get(), rate.per_second.get()), (20, 5));
        assert_eq!(settings.max_per_address, Some(2));
        assert!(settings.trace && settings.chop.is_some_and(|piece| piece.get() == 3));
        for nonsense in [
            "--rate 5",
            "--rate 0/1",
            "--rate a/b",
            "--max-per-ip 0",
            "--chop 0",
        ] {
            let error = parsed(nonsense).unwrap_err();
            let option = nonsense.split(' ').next().unwrap();
            assert!(error.contains(option), "{nonsense}: {error}");
        }
        for option in line
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            assert!(HELP.contains(option), "{option} is not in the help");
        }
    }

    #[test]
    fn an_original_program_gets_its_own_portal_and_timeouts() {
        let two = parsed("--compat 2 --portal tcp").unwrap();
        assert_eq!(
            (two.compat, two.portals),
            (Some(Revision::Two), Portals::Udp)
        );
        assert_eq!(two.idle_timeout, Some(Duration::from_secs(60)));
        assert_eq!(two.total_timeout, Some(Duration::from_secs(600)));
        let zero = parsed("--idle-timeout 5 --compat 0").unwrap();
        assert_eq!(
            (zero.portals, zero.idle_timeout),
            (Portals::Tcp, Some(Duration::from_secs(5)))
        );
        assert!(parsed("--compat 3").unwrap_err().contains("--compat 3"));
        assert!(
            parsed("--compat 1 --single-port")
                .unwrap_err()
                .contains("--single-port")
        );
    }

    #[test]
    fn the_port_may_come_with_a_letter() {
        assert_eq!(parsed("-p 6000").unwrap().port, 6000);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (line, named) in [
            ("--workers 3", "--workers 3"),
            ("--workers 0", "--workers 0"),
            ("--tick 3", "--tick 3"),
            ("--idle-timeout 5m", "--idle-timeout 5m"),
            ("--bind localhost", "--bind localhost"),
            ("70000", "PORT 70000"),
            ("--max-clients 5", "--single-port"),
            ("1 2", "\"2\""),
            ("--frobnicate", "--frobnicate"),
            ("--events", "--events"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(
                error.contains(named) && error.contains("--help"),
                "{line}: {error}"
            );
        }
    }
}
