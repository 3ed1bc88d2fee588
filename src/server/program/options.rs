//! The server's command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum, value_parser};

#[cfg(feature = "cluster")]
use super::cluster;
use super::config;
use super::identity::TlsFiles;
#[cfg(feature = "journal")]
use super::journal;
use super::manual::MANUAL;
use super::values::{
    DAY, bind_address, even, rate, size, socket_address, speed, trusted_proxy, web_address,
    web_name,
};
use crate::accounts::Register;
use crate::command_line::{
    About, bad_file, bad_options, described, join_value, refuse, revision, sentence_of,
};
use crate::files::server_folder;
use crate::lesson;
use crate::limits;
use crate::net::{Host, Network};
use crate::start::{Portals, Rate, Settings, WEB_ROOM, WebEntrance, port_conflict};
use crate::text_file;
use crate::web::Authority;
use crate::wire::{Name, Revision};

/// A chat server with a thread for every connection
#[derive(Parser, Debug)]
#[command(
    name = "chatserver",
    version,
    args_conflicts_with_subcommands = true,
    allow_negative_numbers = true,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
To chat, type `chatclient` in another terminal (in a checkout, `make run-client`).
Ctrl-C shuts the server down; a second Ctrl-C exits at once."
)]
struct ServerArguments {
    /// The portal's port; the workers use the ports that follow it. With 0, the system chooses all
    /// ports [default: 50000]
    port: Option<u16>,
    /// Same as PORT; the spelling used by seed 004
    #[arg(short = 'p', value_name = "PORT")]
    same_port: Option<u16>,

    /// The address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for the network over
    /// IPv4, :: for the network over IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = bind_address, help_heading = WHERE)]
    bind: Host,
    /// Maximum number of clients at a time; must be even, because clients are paired: 50001 with
    /// 50002, 50003 with 50004, and so on
    #[arg(long, value_name = "N", default_value = "4", value_parser = even, help_heading = WHERE)]
    workers: usize,
    /// Use one port for all clients, without a portal or passcodes
    #[arg(long, conflicts_with = "compat", help_heading = WHERE)]
    single_port: bool,
    /// Maximum number of clients on the single port [default: 100]; with a portal, use --workers
    #[arg(long, value_name = "N", requires = "single_port", value_parser = value_parser!(u16).range(1..=MOST_CLIENTS), help_heading = WHERE)]
    max_clients: Option<u16>,
    /// Behave like the original programs of this revision: use their framing and messages, their
    /// portal (0 and 1: TCP, 2: UDP) and their timeouts (idle 60 s, total 600 s); clients have no
    /// names and can chat only with their partners
    #[arg(long, value_name = "0|1|2", value_parser = revision, help_heading = WHERE)]
    compat: Option<Revision>,
    /// Transports over which clients may request a port
    #[arg(long, value_name = "WHICH", value_enum, default_value = "both", help_heading = WHERE)]
    portal: PortalChoice,

    /// Period of the clock, in seconds: 1 or 2
    #[arg(long, value_name = "S", default_value = "1", value_parser = value_parser!(u32).range(1..=2), help_heading = HOW_LONG)]
    tick: u32,
    /// Maximum time from the portal's reply to the client's connection
    #[arg(long, value_name = "S", default_value = "2", value_parser = value_parser!(u32).range(1..=DAY), help_heading = HOW_LONG)]
    reserve_timeout: u32,
    /// Maximum time from the client's connection to its passcode
    #[arg(long, value_name = "S", default_value = "1", value_parser = value_parser!(u32).range(1..=DAY), help_heading = HOW_LONG)]
    handshake_timeout: u32,
    /// Maximum time without activity from a client; 0 = no limit [default: 300]
    #[arg(long, value_name = "S", value_parser = value_parser!(u32).range(..=YEAR), help_heading = HOW_LONG)]
    idle_timeout: Option<u32>,
    /// Maximum time that a client may stay connected; 0 = no limit [default: 0]
    #[arg(long, value_name = "S", value_parser = value_parser!(u32).range(..=YEAR), help_heading = HOW_LONG)]
    total_timeout: Option<u32>,

    /// File that stores the accounts, readable only by its owner [default:
    /// ~/.local/state/portal-chat/accounts.txt, or accounts.txt in the current folder if it exists]
    #[arg(long, value_name = "FILE", help_heading = WHO)]
    accounts: Option<PathBuf>,
    /// Which clients may register a name: all (open), only those with a code from the console
    /// command `invite` (invite), or none (closed)
    #[arg(long, value_name = "WHO", value_enum, default_value = "open", conflicts_with = "no_passwords", help_heading = WHO)]
    register: RegisterChoice,
    /// Minimum number of characters in a new password [default: 1, or 8 if --bind or --web is open
    /// to the network]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=128), help_heading = WHO)]
    min_password: Option<u8>,
    /// File that stores bans, mutes, moderators and invitations [default: policies.txt next to the
    /// accounts file; without accounts, they are lost when the server stops]
    #[arg(long, value_name = "FILE", help_heading = WHO)]
    policies: Option<PathBuf>,
    /// Use no accounts: a client may use any free name while it is connected
    #[arg(long, help_heading = WHO)]
    no_passwords: bool,
    /// Maximum number of seats per client address [default: no limit, or 100 if --bind or --web is
    /// open to the network]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..), help_heading = WHO)]
    max_per_ip: Option<u32>,
    /// Maximum message rate per client; messages beyond it are delayed [default: no limit, or 50/20
    /// if --bind or --web is open to the network]
    #[arg(long, value_name = "BURST/PER_SECOND", value_parser = rate, help_heading = WHO)]
    rate: Option<Rate>,
    /// Announce logins and logouts while at most N users are logged in
    #[arg(long, value_name = "N", default_value = "100", help_heading = WHO)]
    announce: u32,
    /// Maximum number of rooms at a time; their ports follow the workers' ports
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u16).range(..=MOST_ROOMS), help_heading = WHO)]
    rooms: u16,
    /// Number of recent messages that a room sends to each new member
    #[arg(long, value_name = "N", default_value = "20", value_parser = value_parser!(u16).range(..=1000), help_heading = WHO)]
    history: u16,
    /// Send the text in FILE to each client that logs in
    #[arg(long, value_name = "FILE", help_heading = WHO)]
    motd: Option<PathBuf>,

    /// Maximum length of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value = "8192", value_parser = value_parser!(u16).range(LEAST_MESSAGE..=MOST_MESSAGE), help_heading = WHAT)]
    max_message: u16,
    /// Print no events
    #[arg(long, help_heading = WHAT)]
    quiet: bool,
    /// Also print the text of messages
    #[arg(long, help_heading = WHAT)]
    show_messages: bool,
    /// Append every event to FILE, as one line of JSON
    #[arg(long, value_name = "FILE", help_heading = WHAT)]
    events: Option<PathBuf>,
    /// Start a new event file when FILE reaches SIZE bytes (such as 500K, 20M or 1G), and keep the
    /// old one as FILE.1
    #[arg(long, value_name = "SIZE", requires = "events", value_parser = size, help_heading = WHAT)]
    events_max: Option<u64>,
    /// Serve a page that shows what happens inside the server [default: 127.0.0.1:8050]; the page
    /// hides messages unless --show-messages is given
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_missing_value = BOARD, value_parser = socket_address, help_heading = WHAT)]
    board: Option<SocketAddr>,
    /// Serve the server's state to monitoring programs: /healthz, /readyz and, for Prometheus,
    /// /metrics [default: 127.0.0.1:9464]; the board also serves these paths
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_missing_value = METRICS, value_parser = socket_address, help_heading = WHAT)]
    metrics: Option<SocketAddr>,
    /// Require TLS on all TCP ports and turn off the UDP portal. CERT and KEY are PEM files
    /// [default: a certificate generated once and kept in portal-chat-cert.pem]
    #[arg(long, value_names = ["CERT", "KEY"], num_args = 0..=2, require_equals = true, value_delimiter = BETWEEN_FILES, conflicts_with_all = ["compat", "portal"], help_heading = WHERE)]
    tls: Option<Vec<PathBuf>>,
    /// Serve a page for chatting in a browser [default: 127.0.0.1:8080]; with 0.0.0.0, other
    /// machines on the network can open the page
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_missing_value = WEB, value_parser = web_address, help_heading = WHERE)]
    web: Option<SocketAddr>,
    /// A name under which browsers may request the web page, besides localhost and this machine's
    /// addresses; add the port if a reverse proxy listens on a port other than 80 or 443; may be
    /// repeated
    #[arg(long, value_name = "NAME[:PORT]", requires = "web", value_parser = web_name, help_heading = WHERE)]
    web_name: Vec<String>,
    /// Address of a reverse proxy in front of the web page: limits and events use the client
    /// address from its X-Forwarded-For or Forwarded header; may be repeated
    #[arg(long, value_name = "ADDRESS[/BITS]", requires = "web", value_parser = trusted_proxy, help_heading = WHERE)]
    trusted_proxy: Vec<Network>,
    /// The room that people join when they log in on the web page
    #[arg(long, value_name = "ROOM", default_value = WEB_ROOM, requires = "web", value_parser = web_room, help_heading = WHERE)]
    web_room: String,
    /// Has no effect: callers without a seat share one bounded pool of threads at every entrance
    #[arg(long, value_name = "N", requires = "web", hide = true)]
    web_clients: Option<u16>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: cluster::ClusterArguments,
    /// Share one chat with other servers; not supported by this build
    #[cfg(not(feature = "cluster"))]
    #[arg(long, value_name = "URL", value_parser = no_cluster, hide = true)]
    cluster: Option<String>,
    #[cfg(feature = "journal")]
    #[command(flatten)]
    journal: journal::JournalArguments,
    /// Keep messages in a file; not supported by this build
    #[cfg(not(feature = "journal"))]
    #[arg(long, value_name = "FILE", value_parser = no_journal, hide = true)]
    journal: Option<String>,
    /// Also read options from FILE, in TOML and by their long names (`workers = 30`); the command
    /// line overrides them; without a terminal, SIGHUP reloads FILE
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "General",
        display_order = 898
    )]
    config: Option<PathBuf>,
    /// Print the effective settings, check whether a server could start with them, and exit with
    /// code 0 if it could; otherwise, print the reason and exit with code 2
    #[arg(long, help_heading = "General", display_order = 899)]
    check: bool,
    /// Also show passcodes, on the board and in the events
    #[arg(long, help_heading = WHAT)]
    show_passcodes: bool,
    /// Print every socket call with its bytes, including passwords
    #[arg(long, help_heading = WHAT)]
    trace: bool,
    /// Write N bytes at a time, to show that one write is not one read
    #[arg(long, value_name = "N", help_heading = WHAT)]
    chop: Option<NonZeroU16>,

    #[command(flatten)]
    about: About,
    #[command(subcommand)]
    other: Option<ServerSubcommand>,
}

const WHERE: &str = "Ports and protocols";
const HOW_LONG: &str = "Timeouts, in whole seconds";
const WHO: &str = "Users and rooms";
const WHAT: &str = "Messages and events";

/// The board's default address, on this machine only.
const BOARD: &str = "127.0.0.1:8050";

/// The default address for metrics, on this machine only. OpenTelemetry's exporters for Prometheus
/// use the same port.
const METRICS: &str = "127.0.0.1:9464";

/// The browser entrance's default address, on this machine only.
const WEB: &str = "127.0.0.1:8080";

/// The separator between the two files of `--tls` when they are joined into one word. No reasonable
/// file name contains it.
const BETWEEN_FILES: char = '\n';

/// The original programs' timeouts, in seconds.
const LEGACY_IDLE: u32 = 60;
const LEGACY_TOTAL: u32 = 600;

/// The default name of the accounts file.
const ACCOUNTS: &str = "accounts.txt";

/// The default name of the policies file.
const POLICIES: &str = "policies.txt";

const DEFAULT_CLIENTS: u16 = 100;
const MOST_CLIENTS: i64 = 10_000;
const MOST_ROOMS: i64 = 10_000;
const YEAR: i64 = 365 * DAY;
const LEAST_MESSAGE: i64 = limits::MAX_FRAME_FLOOR as i64;
const MOST_MESSAGE: i64 = limits::MAX_FRAME_CEILING as i64;

#[derive(Subcommand, Debug)]
enum ServerSubcommand {
    /// Show, on the board, a run recorded with --events FILE, including its bytes if it was also
    /// recorded with --trace
    Replay(Replay),
    /// Print the messages in a file written with --journal
    #[cfg(feature = "journal")]
    Journal(journal::Export),
    /// Run the lessons' server, which echoes every line
    Echo(lesson::EchoServer),
}

/// The options of `chatserver replay`.
#[derive(clap::Args, Debug)]
pub(super) struct Replay {
    /// A file written with --events
    pub(super) file: PathBuf,
    /// Replay N times as fast
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub(super) speed: f64,
    /// The address of the board [default: 127.0.0.1:8050]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_value = BOARD, default_missing_value = BOARD, hide_default_value = true)]
    pub(super) board: SocketAddr,
    /// Also show passcodes and passwords
    #[arg(long)]
    pub(super) show_passcodes: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum PortalChoice {
    Tcp,
    Udp,
    Both,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum RegisterChoice {
    Open,
    Invite,
    Closed,
}

/// The default of `--min-password` if the server is open to the network.
const MIN_PASSWORD_BEYOND: usize = 8;
/// The default of `--max-per-ip` if the server is open to the network. A class of 40 behind one
/// router, with two clients each and some reconnecting, does not reach it.
const MAX_PER_IP_BEYOND: usize = 100;
/// The default of `--rate` if the server is open to the network. People type more slowly, and a
/// paste of 50 lines is not delayed.
const RATE_BEYOND: &str = "50/20";

/// Returns whether clients on other machines can connect.
fn is_open_to_network(bind: &Host, web: Option<SocketAddr>) -> bool {
    let is_beyond = |address: std::net::IpAddr| !address.to_canonical().is_loopback();
    is_beyond(bind.ip()) || web.is_some_and(|web| is_beyond(web.ip()))
}

/// The action that the command line requests.
#[derive(Debug)]
pub(super) enum ServerCommand {
    /// Run a server.
    Serve {
        settings: Box<Settings>,
        /// The files from which `settings.tls` will be loaded.
        tls: Option<TlsFiles>,
        /// The configuration file.
        config: Option<PathBuf>,
        /// True if the program should only report whether the server could start.
        only_checks: bool,
    },
    /// Show a recorded run.
    Replay(Replay),
    /// Print the messages in a journal.
    #[cfg(feature = "journal")]
    Journal(journal::Export),
    /// Run the lessons' server.
    Echo(lesson::EchoServer),
}

/// Parses the command line (without the program's name). `Err` contains the exit code with which
/// the program must exit.
pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ServerCommand, ExitCode> {
    let arguments = described(arguments_of(arguments), &MANUAL, |arguments| {
        &arguments.about
    })?;
    command(arguments).map_err(|error| refuse::<ServerArguments>(&error))
}

/// Parses the same command line again while the server is running.
///
/// # Errors
/// The reason why it is invalid now, on one line.
pub(super) fn parse_again(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ServerCommand, String> {
    let again = arguments_of(arguments).and_then(command);
    again.map_err(|error| sentence_of(&error))
}

/// Parses the command line, preceded by the settings from the configuration file if the command
/// line specifies one.
fn arguments_of(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ServerArguments, clap::Error> {
    let program = OsString::from("chatserver");
    let words = with_joined_values(std::iter::once(program).chain(arguments));
    // The command line may be complete only together with the file, so ignore its errors here.
    let alone = ServerArguments::command().ignore_errors(true);
    let config = alone.try_get_matches_from(&words).ok().and_then(|given| {
        let has_other = given.subcommand_name().is_some();
        given
            .get_one::<PathBuf>("config")
            .filter(|_| !has_other)
            .cloned()
    });
    match config {
        Some(file) => config::parse_with(&file, &words),
        None => ServerArguments::try_parse_from(words),
    }
}

/// Joins each option that has an optional value with the next word, if that word can be its value.
/// The portal's port can't be such a value, because it is not an address.
fn with_joined_values(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let is_address = |word: &str| word.parse::<SocketAddr>().is_ok();
    let words = join_value(words, "--board", is_address);
    let words = join_value(words, "--metrics", is_address);
    let words = join_value(words, "--web", |word| web_address(word).is_ok());
    join_files(words)
}

/// Joins `--tls CERT KEY` into one word. Port numbers and options are not file names.
fn join_files(words: Vec<OsString>) -> Vec<OsString> {
    let is_file = |word: &OsString| {
        let word = word.to_string_lossy();
        !word.starts_with('-') && word.parse::<u16>().is_err()
    };
    let mut joined = Vec::with_capacity(words.len());
    let mut words = words.into_iter().peekable();
    while let Some(mut word) = words.next() {
        if word == "--tls"
            && let Some(certificate) = words.next_if(is_file)
        {
            word.push("=");
            word.push(certificate);
            if let Some(key) = words.next_if(is_file) {
                word.push(BETWEEN_FILES.to_string());
                word.push(key);
            }
        }
        joined.push(word);
    }
    joined
}

fn command(arguments: ServerArguments) -> Result<ServerCommand, clap::Error> {
    match arguments.other {
        Some(ServerSubcommand::Replay(replay)) => return Ok(ServerCommand::Replay(replay)),
        #[cfg(feature = "journal")]
        Some(ServerSubcommand::Journal(export)) => return Ok(ServerCommand::Journal(export)),
        Some(ServerSubcommand::Echo(echo)) => return Ok(ServerCommand::Echo(echo)),
        None => {}
    }
    let defaults = Settings::default();
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let or_never = |timeout: u32| (timeout > 0).then(|| seconds(timeout));
    let compat = arguments.compat;
    let (mut idle, mut total) = (arguments.idle_timeout, arguments.total_timeout);
    if compat.is_some() {
        idle = idle.or(Some(LEGACY_IDLE));
        total = total.or(Some(LEGACY_TOTAL));
    }
    let portals = match (compat.map(Revision::asks_by_udp), arguments.portal) {
        (Some(true), _) | (None, PortalChoice::Udp) => Portals::Udp,
        (Some(false), _) | (None, PortalChoice::Tcp) => Portals::Tcp,
        (None, PortalChoice::Both) => Portals::Both,
    };
    // Datagrams would carry passcodes in plain text.
    let portals = match arguments.tls {
        Some(_) => Portals::Tcp,
        None => portals,
    };
    let usual = || server_folder(&[ACCOUNTS]).join(ACCOUNTS);
    let accounts = Some(arguments.accounts.unwrap_or_else(usual));
    let accounts = accounts.filter(|_| !arguments.no_passwords && compat.is_none());
    let policies = arguments.policies.or_else(|| {
        let beside = |accounts: &PathBuf| accounts.with_file_name(POLICIES);
        accounts.as_ref().map(beside)
    });
    let moderators = accounts.is_some();
    let single_port = arguments
        .single_port
        .then_some(arguments.max_clients.unwrap_or(DEFAULT_CLIENTS).into());
    let tls = arguments
        .tls
        .map(|files| TlsFiles::new(&files, &hosts(&arguments.web_name)))
        .transpose()
        .map_err(bad_options)?;
    let port = arguments
        .same_port
        .or(arguments.port)
        .unwrap_or(defaults.port);
    #[cfg(feature = "cluster")]
    let cluster = arguments.cluster.settings(&arguments.bind, port)?;
    let is_open = is_open_to_network(&arguments.bind, arguments.web) && compat.is_none();
    let min_password = arguments.min_password.map(usize::from);
    let min_password = min_password.unwrap_or(match is_open {
        true => MIN_PASSWORD_BEYOND,
        false => defaults.min_password,
    });
    let max_per_address = arguments.max_per_ip.map(|most| most as usize);
    let settings = Box::new(Settings {
        port,
        #[cfg(feature = "cluster")]
        cluster,
        #[cfg(feature = "journal")]
        journal: arguments.journal.settings(),
        bind: arguments.bind,
        workers: arguments.workers,
        compat,
        single_port,
        portals,
        tick: seconds(arguments.tick),
        reserve_timeout: seconds(arguments.reserve_timeout),
        handshake_timeout: seconds(arguments.handshake_timeout),
        idle_timeout: idle.map_or(defaults.idle_timeout, or_never),
        total_timeout: total.map_or(defaults.total_timeout, or_never),
        unacknowledged: defaults.unacknowledged,
        pending: defaults.pending,
        max_message: arguments.max_message.into(),
        accounts,
        register: match arguments.register {
            RegisterChoice::Open => Register::Open,
            RegisterChoice::Invite => Register::Invite,
            RegisterChoice::Closed => Register::Closed,
        },
        min_password,
        moderators,
        policies,
        max_per_address: max_per_address.or(is_open.then_some(MAX_PER_IP_BEYOND)),
        rate: arguments
            .rate
            .or(rate(RATE_BEYOND).ok().filter(|_| is_open)),
        announce_up_to: arguments.announce as usize,
        rooms: arguments.rooms.into(),
        history: arguments.history.into(),
        message_of_the_day: arguments
            .motd
            .map(message_of_the_day)
            .transpose()?
            // An empty file means no message.
            .filter(|text| !text.is_empty()),
        quiet: arguments.quiet,
        show_messages: arguments.show_messages,
        show_passcodes: arguments.show_passcodes,
        web: arguments.web.map(|address| WebEntrance {
            address,
            names: arguments.web_name,
            trusted_proxies: arguments.trusted_proxy,
            room: arguments.web_room,
        }),
        tls: None,
        trace: arguments.trace,
        chop: arguments.chop.map(Into::into),
        board: arguments.board,
        event_file: arguments.events,
        event_file_most: arguments.events_max,
        metrics: arguments.metrics,
        counters: None,
    });
    if let Some(conflict) = port_conflict(&settings) {
        return Err(bad_options(conflict));
    }
    if let Some(conflict) = file_conflict(&settings) {
        return Err(bad_options(conflict));
    }
    Ok(ServerCommand::Serve {
        settings,
        tls,
        config: arguments.config,
        only_checks: arguments.check,
    })
}

/// Returns a sentence about two options that name the same file, of which one would overwrite the
/// other's.
fn file_conflict(settings: &Settings) -> Option<String> {
    #[cfg(feature = "journal")]
    let journal = settings.journal.as_ref().map(|journal| &journal.file);
    #[cfg(not(feature = "journal"))]
    let journal = None;
    let files = [
        ("--accounts", settings.accounts.as_ref()),
        ("--policies", settings.policies.as_ref()),
        ("--events", settings.event_file.as_ref()),
        ("--journal", journal),
    ];
    let named = files.into_iter().filter_map(|(option, file)| {
        let file: PathBuf = std::path::absolute(file?).ok()?;
        Some((option, file))
    });
    let named: Vec<(&str, PathBuf)> = named.collect();
    let mut pairs = named.iter().enumerate().flat_map(|(at, one)| {
        let others = named[at + 1..].iter();
        others.map(move |other| (one, other))
    });
    let ((one, file), (other, _)) = pairs.find(|((_, one), (_, other))| one == other)?;
    let file = file.display();
    Some(format!(
        "{one} and {other} name the same file, {file}; each needs a file of its own"
    ))
}

/// Maximum length of the message of the day, in bytes: about a screenful.
const LONGEST_MESSAGE_OF_THE_DAY: usize = 4096;

fn message_of_the_day(path: PathBuf) -> Result<String, clap::Error> {
    let shown = path.display();
    let text = text_file::read(&path).map_err(|error| bad_file(format!("--motd {error}")))?;
    let text = text.trim_end();
    if text.len() > LONGEST_MESSAGE_OF_THE_DAY {
        return Err(bad_file(format!(
            "--motd {shown}: the text is {} bytes long, but the limit is \
             {LONGEST_MESSAGE_OF_THE_DAY}; shorten it",
            text.len()
        )));
    }
    Ok(text.to_owned())
}

#[cfg(not(feature = "cluster"))]
fn no_cluster(_: &str) -> Result<String, &'static str> {
    Err(
        "this program was built without Redis support; `make run-server ARGS='--cluster …'` and \
         `cargo build --release` build it with Redis support",
    )
}

#[cfg(not(feature = "journal"))]
fn no_journal(_: &str) -> Result<String, &'static str> {
    Err(
        "this program was built without SQLite support; `make run-server ARGS='--journal …'` and \
         `cargo build --release` build it with SQLite support",
    )
}

fn web_room(text: &str) -> Result<String, &'static str> {
    let name = Name::new(text)
        .ok_or("expected 1 to 32 characters: letters (a to z), digits, `_`, `.` or `-`");
    name.map(|name| name.to_string())
}

/// Returns the names without their ports.
fn hosts(names: &[String]) -> Vec<String> {
    let names = names.iter().filter_map(|name| Authority::parse(name));
    names.map(|name| name.host().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the settings from the command line, or the error message.
    fn parsed(line: &str) -> Result<Settings, String> {
        let arguments = arguments_of(line.split_whitespace().map(OsString::from));
        match arguments.and_then(command) {
            Ok(ServerCommand::Serve { settings, .. }) => Ok(*settings),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_option_definitions_are_consistent() {
        ServerArguments::command().debug_assert();
    }

    #[test]
    fn without_options_the_settings_are_the_defaults() {
        let settings = parsed("").unwrap();
        let accounts = settings.accounts.clone();
        assert!(accounts.as_ref().unwrap().ends_with(ACCOUNTS));
        assert!(settings.policies.as_ref().unwrap().ends_with(POLICIES));
        let defaults = Settings {
            accounts,
            policies: settings.policies.clone(),
            ..Settings::default()
        };
        assert_eq!(format!("{settings:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn every_option_is_understood_and_explained() {
        let line = "6000 --bind [::1] --workers 6 --portal udp --tick 2 --reserve-timeout 3 \
                    --handshake-timeout 4 --idle-timeout 0 --total-timeout 5 --max-message 1000 \
                    --single-port --max-clients 5 --accounts a.txt --announce 7 --rooms 3 --history 9 --quiet --show-messages --events log.json --events-max 20M \
                    --max-per-ip 2 --rate 20/5 --trace --chop 3";
        let settings = parsed(line).unwrap();
        assert_eq!(
            (settings.port, settings.workers, settings.max_message),
            (6000, 6, 1000)
        );
        assert_eq!(settings.bind, "::1".parse().unwrap());
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
        let help = ServerArguments::command().render_help().to_string();
        for option in line
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            assert!(help.contains(option), "{option} is not in the help");
        }
    }

    #[test]
    fn tls_takes_two_files_or_none() {
        assert!(parsed("--tls").is_ok() && parsed("--tls a.crt a.key").is_ok());
        for (line, part) in [
            ("--tls a.crt", "--tls a.crt KEY"),
            ("--tls=a.crt", "--tls a.crt KEY"),
            ("--tls a.crt --quiet", "--tls a.crt KEY"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn each_option_needs_a_file_of_its_own() {
        let here = std::env::current_dir().unwrap();
        for line in [
            "--accounts a --policies a".to_owned(),
            "--accounts a --events ./a".to_owned(),
            format!("--policies a --events {}", here.join("a").display()),
            #[cfg(feature = "journal")]
            "--accounts a --journal a".to_owned(),
        ] {
            let error = parsed(&line).unwrap_err();
            assert!(error.contains("name the same file"), "{line}: {error}");
        }
    }

    #[test]
    fn an_original_program_gets_its_own_portal_and_timeouts() {
        let two = parsed("--compat 2 --portal tcp").unwrap();
        assert_eq!(
            (two.compat, two.portals),
            (Some(Revision::V2), Portals::Udp)
        );
        assert_eq!(two.idle_timeout, Some(Duration::from_secs(60)));
        assert_eq!(two.total_timeout, Some(Duration::from_secs(600)));
        let zero = parsed("--idle-timeout 5 --compat 0").unwrap();
        assert_eq!(
            (zero.portals, zero.idle_timeout),
            (Portals::Tcp, Some(Duration::from_secs(5)))
        );
        assert!(
            parsed("--compat 3")
                .unwrap_err()
                .contains("must be 0, 1 or 2")
        );
        assert!(
            parsed("--compat 1 --single-port")
                .unwrap_err()
                .contains("--single-port")
        );
    }

    #[test]
    fn open_to_the_network_some_defaults_are_safer() {
        for (line, is_open) in [
            ("", false),
            ("--bind 127.0.0.2", false),
            ("--bind ::1", false),
            ("--web", false),
            ("--bind 0.0.0.0", true),
            ("--bind ::", true),
            ("--bind 192.0.2.1", true),
            ("--web 0.0.0.0", true),
            ("--bind 0.0.0.0 --compat 1", false),
        ] {
            let settings = parsed(line).unwrap();
            let Settings {
                min_password,
                max_per_address,
                rate,
                ..
            } = settings;
            let is_safer = (min_password, max_per_address, rate.is_some());
            let expected = match is_open {
                true => (8, Some(100), true),
                false => (1, None, false),
            };
            assert_eq!(is_safer, expected, "{line}");
        }
        let chosen = "--bind 0.0.0.0 --min-password 1 --max-per-ip 3 --rate 2/1";
        let settings = parsed(chosen).unwrap();
        assert_eq!(
            (settings.min_password, settings.max_per_address),
            (1, Some(3))
        );
        assert_eq!(settings.rate.unwrap().burst.get(), 2);
    }

    #[test]
    fn registration_is_for_servers_with_passwords() {
        assert_eq!(
            parsed("--register closed").unwrap().register,
            Register::Closed
        );
        let error = parsed("--register invite --no-passwords").unwrap_err();
        assert!(error.contains("--no-passwords"), "{error}");
        let policies = |line| parsed(line).unwrap().policies;
        assert_eq!(policies("--no-passwords"), None);
        assert!(!parsed("--no-passwords --policies p").unwrap().moderators);
        assert_eq!(policies("--no-passwords --policies p"), Some("p".into()));
        assert_eq!(
            policies("--accounts a/b.txt"),
            Some("a/policies.txt".into())
        );
    }

    #[test]
    fn the_port_may_be_given_with_p() {
        assert_eq!(parsed("-p 6000").unwrap().port, 6000);
    }

    #[test]
    fn an_invalid_option_is_refused_by_name() {
        for (line, named) in [
            ("--workers 3", "clients are paired"),
            ("--workers 0", "--workers"),
            ("--tick 3", "3 is not in 1..=2"),
            ("--idle-timeout 5m", "'5m'"),
            ("--idle-timeout -1", "'-1'"),
            ("--bind localhost", "0.0.0.0"),
            ("70000", "70000 is not in 0..=65535"),
            ("--max-clients 5", "--single-port"),
            ("--events x --events-max 5T", "20M"),
            ("--events-max 5M", "--events"),
            ("1 2", "'2'"),
            ("--frobnicate", "--frobnicate"),
            ("--worker 4", "'--workers'"),
            ("--events", "--events"),
            ("--board localhost", "'localhost'"),
            #[cfg(feature = "journal")]
            ("--journal-keep 3", "--journal"),
            #[cfg(feature = "journal")]
            ("--journal x --journal-max 3K", "at least 1M"),
            #[cfg(feature = "journal")]
            ("--journal x --compat 1", "--compat"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(
                error.contains(named) && error.contains("--help"),
                "{line}: {error}"
            );
        }
        let error = parsed("--motd /nowhere").unwrap_err();
        assert!(error.contains("--motd /nowhere: "), "{error}");
    }

    #[test]
    fn an_empty_message_of_the_day_is_none() {
        let name = format!("portal-chat-motd-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        for text in ["", "\n", " \r\n\r\n", "\u{feff}"] {
            std::fs::write(&path, text).unwrap();
            let settings = parsed(&format!("--motd {}", path.display())).unwrap();
            assert_eq!(settings.message_of_the_day, None, "{text:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_board_takes_an_address_but_not_the_portals_port() {
        let board = |line| parsed(line).unwrap();
        assert_eq!(board("--board 6000").port, 6000);
        assert_eq!(board("--board 6000").board, Some(BOARD.parse().unwrap()));
        let elsewhere = board("--board 127.0.0.2:81 6000");
        assert_eq!(elsewhere.board, Some("127.0.0.2:81".parse().unwrap()));
        assert_eq!(
            board("--board=[::1]:81").board,
            Some("[::1]:81".parse().unwrap())
        );
    }

    #[test]
    fn metrics_are_local_unless_an_address_is_given() {
        let metrics = |line| parsed(line).unwrap().metrics;
        assert_eq!(metrics(""), None);
        assert!(metrics("--metrics 6000").unwrap().ip().is_loopback());
        let elsewhere = Some("[::]:9100".parse().unwrap());
        assert_eq!(metrics("--metrics [::]:9100"), elsewhere);
        let error = parsed("--board --metrics 127.0.0.1:8050").unwrap_err();
        assert!(
            error.contains("--metrics 127.0.0.1:8050 both need port 8050"),
            "{error}"
        );
    }

    #[test]
    fn the_browser_entrance_takes_an_address_with_or_without_a_port() {
        let web = |line| parsed(line).unwrap().web.unwrap();
        for (line, address) in [
            ("--web", "127.0.0.1:8080"),
            ("--web 6000", "127.0.0.1:8080"),
            ("--web 0.0.0.0", "0.0.0.0:8080"),
            ("--web 0.0.0.0:80 6000", "0.0.0.0:80"),
            ("--web=[::]", "[::]:8080"),
            ("--web=[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("--web [::1]:81", "[::1]:81"),
        ] {
            assert_eq!(web(line).address, address.parse().unwrap(), "{line}");
        }
        let named = web("--web --web-name chat.example --web-name chat --web-clients 5");
        assert_eq!(named.names.len(), 2);
        assert_eq!(named.room, "lobby");
        assert_eq!(web("--web --web-room cats").room, "cats");
        let behind = web(
            "--web --web-name chat.example:8443 --trusted-proxy ::1 --trusted-proxy 10.0.0.0/8",
        );
        assert_eq!(behind.names, ["chat.example:8443"]);
        assert_eq!(behind.trusted_proxies.len(), 2);
        for (line, part) in [
            ("--web-name chat", "--web"),
            ("--trusted-proxy ::1", "--web"),
            ("--web localhost", "'localhost'"),
            ("--web --web-name https://chat.example/", "without https://"),
            ("--web --web-name caf\u{e9}.example", "xn--"),
            ("--web-room cats", "--web"),
            ("--web --web-room a/b", "1 to 32"),
            ("--web --trusted-proxy nginx", "10.0.0.0/8"),
            ("--web --trusted-proxy 10.0.0.0/33", "10.0.0.0/8"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn completions_and_the_manual_page_know_every_option() {
        portal_cli::test_support::know_every_option(ServerArguments::command());
    }

    #[test]
    fn the_options_stand_on_the_page_as_in_the_help() {
        portal_cli::test_support::stand_on_the_page(ServerArguments::command(), "chatserver.md");
    }
}
