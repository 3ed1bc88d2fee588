//! The `chatserver` program, from the command line to the exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::lock::Mutex;
use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};

use super::effective_settings::{file, in_force};
use super::identity::TlsFiles;
#[cfg(feature = "journal")]
use super::journal;
use super::operator::{self, Obeyed, Operator};
use super::options::{Replay, ServerCommand, parse};
use super::reload::Running;
use crate::accounts::AccountError;
use crate::board::{Board, Redactor};
use crate::clock::{Clock, Ticker, slowed};
use crate::event::{
    Event, EventQueue, Events, ReaderThread, Recording, start_console, start_event_file,
};
use crate::files::{could_be_made, make_usual_folder_of};
use crate::interfaces::{address_for_others, default_route, interfaces, table};
use crate::invocation::Invocation;
use crate::limits;
use crate::metrics::ServerStatus;
use crate::net::Host;
use crate::output::{self, Output, counted};
use crate::signals::{self, Listening, Signal};
use crate::start::{Server, Settings, raise_descriptor_limit};
use crate::terminal::layout::{self, GOES_ON};
use crate::terminal::{
    Input, InputOptions, LineHistory, Palette, Prompt, PromptKind, TypeAhead, Typed, columns,
    has_terminal, is_in_foreground, is_interactive, unknown_time_zone,
};
use crate::threads::Roster;
use crate::web::status::StatusServer;
use crate::wire::printable_lines;

/// Interval at which a program in the background checks whether it has moved to the foreground.
const FOREGROUND_PAUSE: Duration = Duration::from_secs(1);
/// Exit code if the command line is invalid or the server can't start.
const REFUSED: u8 = 2;

/// Runs the server until a signal stops it. `arguments` excludes the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (mut settings, tls, config) = match parse(arguments.iter().cloned()) {
        Ok(ServerCommand::Serve {
            settings,
            tls,
            config,
            only_checks: false,
        }) => (settings, tls, config),
        Ok(ServerCommand::Serve {
            settings,
            tls,
            config,
            ..
        }) => {
            return match could_start(*settings, tls.as_ref(), config.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => refuse(&reason),
            };
        }
        Ok(ServerCommand::Replay(replay)) => {
            return match show_again(&replay) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => refuse(&reason),
            };
        }
        #[cfg(feature = "journal")]
        Ok(ServerCommand::Journal(export)) => {
            return match journal::export(&export) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => refuse(&reason),
            };
        }
        Ok(ServerCommand::Echo(echo)) => return echo.run(),
        Err(end) => return end,
    };
    let mut about_tls = String::new();
    if let Some(files) = &tls {
        match files.load() {
            Ok((tls, said)) => {
                settings.tls = Some(tls);
                about_tls = said;
            }
            Err(reason) => return refuse(&reason),
        }
    }
    let running = Running {
        arguments,
        config,
        settings: *settings,
        files: tls,
    };
    match serve(running, &about_tls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => refuse(&reason),
    }
}

/// Prints the settings, starts a server with them, and stops it without serving clients. Files that
/// a first start would create (accounts, a certificate) are not created, because the check may not
/// run as the server's user.
fn could_start(
    mut settings: Settings,
    tls: Option<&TlsFiles>,
    config: Option<&Path>,
) -> Result<(), String> {
    let config = config.map_or_else(String::new, |config| {
        format!("  {:<20} {}\n", "--config", file(config))
    });
    let shown = config + &in_force(&settings, tls);
    let mut notes = String::new();
    let scratch = Scratch::new();
    if let Some(accounts) = &mut settings.accounts
        && !accounts.exists()
    {
        could_be_made(accounts)
            .map_err(|error| AccountError::File(accounts.clone(), error).to_string())?;
        notes += &format!(
            "The server will create {} when it starts.\n",
            file(accounts)
        );
        *accounts = scratch.file();
    }
    match tls {
        Some(files) if files.are_to_be_made() => {
            could_be_made(Path::new(&files.shown()))
                .map_err(|error| format!("--tls: {}: {error}", files.shown()))?;
            notes += "The server will create a certificate when it starts.\n";
        }
        Some(files) => settings.tls = Some(files.load()?.0),
        None => {}
    }
    if let Some(events) = &settings.event_file
        && !events.exists()
    {
        could_be_made(events).map_err(|error| no_event_file(events, &error))?;
        settings.event_file = None;
    }
    // A start would rename a damaged journal, so the check does not open it as a server would.
    #[cfg(feature = "journal")]
    if let Some(journal) = settings.journal.take() {
        notes += &journal::about(&journal.file)?;
    }
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &mut settings.cluster {
        cluster.wait = None;
    }
    print(&format!(
        "chatserver {} with these settings:\n\n{shown}\n{notes}",
        env!("CARGO_PKG_VERSION")
    ))?;
    raise_descriptor_limit();
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    let event_file = event_file(&settings, &mut events)?;
    let board = board(&settings, &mut events)?;
    let (_, metrics) = status(&mut settings, &mut events, board.as_ref())?;
    let signal = events.add_reader(limits::EVENT_QUEUE);
    let in_time_wait = Server::check(&settings, clock, events.clone());
    let in_time_wait = in_time_wait.map_err(|error| error.to_string())?;
    print(&damaged_accounts(&signal))?;
    drop(events);
    drop(board);
    drop(metrics);
    if let Some(event_file) = event_file {
        event_file.finish();
    }
    print(&(ports_in_time_wait(&in_time_wait) + "The server can start.\n"))
}

/// Returns a sentence about the ports in TIME_WAIT, if there are any.
fn ports_in_time_wait(ports: &[u16]) -> String {
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    let (list, them) = match &list[..] {
        [] => return String::new(),
        [port] => (format!("Port {port} is"), "it"),
        _ => (format!("Ports {} are", list.join(", ")), "they"),
    };
    format!(
        "{list} in TIME_WAIT because of a closed outgoing connection; {them} will be free within a \
         minute.\n"
    )
}

/// Converts the queued events to text: one line for each damaged line in the accounts and policies
/// files.
fn damaged_accounts(signal: &EventQueue) -> String {
    let sentence = |event: Event| {
        let text = |name| {
            event
                .text(name)
                .filter(|_| matches!(&*event.kind, "damaged-account" | "damaged-policy"))
        };
        let (file, reason, fix) = (text("file")?, text("reason")?, text("fix")?);
        let line = event.number("line")?;
        let about = text("name").map_or_else(String::new, |name| format!(" (of {name})"));
        Some(format!("{file}, line {line}{about}: {reason}; {fix}\n"))
    };
    signal.events().try_iter().filter_map(sentence).collect()
}

/// Prints text that the user requested.
fn print(text: &str) -> Result<(), String> {
    output::print(&printable_lines(text)).map_err(|error| output::not_written(&error))
}

/// A temporary accounts file, deleted on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        // Use a random name, so that no other user can have created a file with this name.
        let number = getrandom::u64().unwrap_or_default();
        let name = format!("portal-chat-check-{number:016x}");
        Scratch(std::env::temp_dir().join(name))
    }

    fn file(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Prints a sentence on standard error.
fn report(sentence: &impl std::fmt::Display) {
    output::report(&format!("chatserver: {sentence}\n"));
}

fn refuse(reason: &impl std::fmt::Display) -> ExitCode {
    report(&reason);
    ExitCode::from(REFUSED)
}

fn serve(mut running: Running, about_tls: &str) -> Result<(), String> {
    let mut settings = running.settings.clone();
    // All threads that start from here on are shown on the board.
    Roster::of_this_thread();
    // Handle signals first, so that a Ctrl-C during startup also cleans up.
    let signals = signals::listen().map_err(|error| format!("can't wait for signals: {error}"))?;
    raise_descriptor_limit();
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    if settings.show_messages {
        events.show_texts();
    }
    let event_file = event_file(&settings, &mut events)?;
    let console_queue = (!settings.quiet).then(|| events.add_reader(limits::EVENT_QUEUE));
    let board = board(&settings, &mut events)?;
    let (status, metrics) = status(&mut settings, &mut events, board.as_ref())?;

    // Nothing needs to be cleaned up yet, and startup may wait for a port, so the first signal
    // exits immediately.
    signals.ending.store(true, Ordering::Release);
    if let Some(accounts) = &settings.accounts {
        make_usual_folder_of(accounts)
            .map_err(|error| AccountError::File(accounts.clone(), error).to_string())?;
    }
    let server = Server::start(&settings, clock.clone(), events.clone())
        .map_err(|error| error.to_string())?;
    signals.ending.store(false, Ordering::Release);
    // Closing a terminal also sends SIGHUP, and in that case the server must stop. A service has no
    // terminal, and a reload must not stop it, even if there is no file to reload.
    let reads_anew = if running.files.is_some() || running.config.is_some() {
        !is_interactive()
    } else {
        !has_terminal()
    };
    signals.reads_anew.store(reads_anew, Ordering::Release);
    let server = Arc::new(server);
    if let Some(status) = &status {
        status.has_started(&server);
    }
    let shown_at = board.as_ref().map(Board::address);
    let asked_at = metrics.as_ref().map(StatusServer::address);
    let mut greeting = welcome(&settings, about_tls, &server, (shown_at, asked_at));
    if is_interactive()
        && let Some(sentence) = unknown_time_zone()
    {
        greeting += &format!("time     {sentence}\n");
    }
    let (mut console, printing) = Console::start(greeting, Arc::downgrade(&server), console_queue)
        .map_err(|error| format!("can't start the console: {error}"))?;
    let telling = events.clone();
    let beaten = move |_, signal| telling.emit_tick(signal);
    let ticker = Ticker::start(clock, slowed(settings.tick), beaten)
        .map_err(|error| format!("can't start the ticker thread: {error}"))?;

    let reloaded = Arc::clone(&server);
    let read_anew = move || {
        if running.can_reload() {
            running.reload(&reloaded)
        } else {
            "only the certificate, --config and --motd can be reloaded, and this server uses none \
             of them"
                .to_owned()
        }
    };
    let why = console.serve_until_stopped(&server, &signals, read_anew);
    signals.ending.store(true, Ordering::Release);
    if let Some(status) = &status {
        status.will_stop();
    }
    server.will_stop(&why.to_string());
    // Restore the terminal before anything else is printed.
    console.close_input();
    // Dropping the server stops it. It must stop before the ticker does: it announces the shutdown,
    // then stops the clock, and only then do the timers end the sessions.
    drop(server);
    ticker.stop();
    drop(events);
    drop(board);
    drop(metrics);
    for reader in std::iter::once(printing).chain(event_file) {
        reader.finish();
    }
    Ok(())
}

/// The operator's console: its output and its input.
struct Console {
    /// The thread `console` prints its lines here while there is a prompt.
    above: Arc<Mutex<Option<Sender<String>>>>,
    lines: Receiver<String>,
    /// `None` if standard input or output is not a terminal, and in the background (`chatserver
    /// &`), where the system would stop a program that reads from the terminal.
    input: Option<Input<()>>,
    /// Set if the input has failed or its terminal was closed. The server continues without it.
    is_given_up: bool,
    server: Weak<Server>,
}

/// The reason for a shutdown.
enum Why {
    Signal(&'static str),
    Operator,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Signal(signal) => write!(f, "signal {signal}"),
            Why::Operator => f.write_str("operator"),
        }
    }
}

impl Console {
    fn start(
        greeting: String,
        server: Weak<Server>,
        queue: Option<EventQueue>,
    ) -> io::Result<(Console, ReaderThread)> {
        let above = Arc::default();
        let out = AboveTheLine {
            lines: Arc::clone(&above),
        };
        let mut console = Console {
            above,
            lines: never(),
            input: None,
            is_given_up: false,
            server,
        };
        // Before the greeting, which would otherwise race with the prompt.
        console.take_up()?;
        let printing = start_console(queue, greeting, as_wide_as_the_terminal, out)?;
        Ok((console, printing))
    }

    /// Starts the input if the program is in the foreground of a terminal and the input is not
    /// running yet.
    fn take_up(&mut self) -> io::Result<()> {
        if self.input.is_some()
            || self.is_given_up
            || !is_interactive()
            || !is_in_foreground(io::stdin())
        {
            return Ok(());
        }
        let server = Weak::clone(&self.server);
        let input = Input::start(InputOptions {
            palette: Palette::new(true),
            complete: Box::new(move |before| {
                let names = server.upgrade().map(|server| server.labels());
                operator::completions(before, &names.unwrap_or_default())
            }),
            history: LineHistory::default(),
            only_in_foreground: true,
        })?;
        if input.is_editing() {
            let (lines, waiting) = bounded(LINES_WAITING);
            *self.above.lock() = Some(lines);
            self.lines = waiting;
        }
        self.input = Some(input);
        self.ask();
        Ok(())
    }

    fn ask(&mut self) {
        if let Some(input) = &mut self.input {
            let prompt = Prompt {
                name: "operator".to_owned(),
                ask: PromptKind::Line,
                target: (),
            };
            input.prompt(prompt, TypeAhead::Meant);
        }
    }

    fn show(&mut self, answer: &str) {
        let answer = as_wide_as_the_terminal(&format!("{answer}\n"));
        match &mut self.input {
            Some(input) if input.is_editing() => input.print(&answer),
            // If this fails, the operator can ask again.
            _ => _ = Output::Stdout.print(&answer),
        }
    }

    /// Restores the terminal. Later lines are printed without the editor.
    fn close_input(&mut self) {
        *self.above.lock() = None;
        if let Some(mut input) = self.input.take() {
            for lines in std::mem::replace(&mut self.lines, never()).try_iter() {
                input.print(&lines);
            }
            input.close();
        }
    }

    /// Continues without input.
    fn give_up(&mut self) {
        self.is_given_up = true;
        self.close_input();
    }

    /// Runs the operator's commands until a signal or `stop` shuts the server down.
    fn serve_until_stopped(
        &mut self,
        server: &Arc<Server>,
        signals: &Listening,
        mut read_anew: impl FnMut() -> String,
    ) -> Why {
        let no_events = never();
        let no_lines = never();
        let mut operator = Operator::default();
        let mut went_on = false;
        loop {
            while let Some(typed) = self.input.as_mut().and_then(Input::next_typed) {
                if self.is_stopped_by(typed, server, &mut operator, &mut read_anew) {
                    return Why::Operator;
                }
            }
            if let Some(input) = &mut self.input {
                input.draw();
            }
            // A shell does not notify a running job when it moves to the foreground, so a
            // background job checks once per second.
            let is_waiting = match &self.input {
                // After SIGCONT, the input thread may not have noticed yet that the program is in
                // the background.
                Some(input) => input.is_parked() || went_on,
                None => is_interactive() && !self.is_given_up,
            };
            let look = if is_waiting {
                after(FOREGROUND_PAUSE)
            } else {
                never()
            };
            let events = self.input.as_ref().map_or(&no_events, Input::events);
            // While the terminal is paused, the lines stay in the channel from the thread
            // `console`.
            let is_behind = self.input.as_ref().is_some_and(Input::is_behind);
            let lines = if is_behind { &no_lines } else { &self.lines };
            select! {
                recv(signals.receiver) -> signal => match signal {
                    Ok(Signal::GoesOn) => {
                        went_on = true;
                        if let Some(input) = &mut self.input {
                            input.resume();
                        }
                    }
                    Ok(Signal::Resized) => {
                        if let Some(input) = &mut self.input {
                            input.resize();
                        }
                    }
                    Ok(Signal::End(signal)) => return Why::Signal(signal),
                    Ok(Signal::ReadAnew) => report(&read_anew()),
                    // The signal thread has exited, so nothing else could stop the server.
                    Err(_) => return Why::Signal("thread has ended"),
                },
                recv(look) -> _ => {
                    went_on = false;
                    if let Some(input) = &self.input {
                        input.look();
                    }
                    // On failure (no thread), the server continues without a console.
                    let _ = self.take_up();
                }
                recv(lines) -> lines => {
                    if let (Ok(lines), Some(input)) = (lines, &mut self.input) {
                        input.print(&lines);
                    }
                }
                recv(events) -> event => {
                    if let Some(input) = &mut self.input {
                        input.take(event);
                    }
                }
            }
        }
    }

    /// Handles input. Returns whether it stops the server.
    fn is_stopped_by(
        &mut self,
        typed: Typed<()>,
        server: &Server,
        operator: &mut Operator,
        read_anew: &mut dyn FnMut() -> String,
    ) -> bool {
        match typed {
            Typed::Line { text, .. } => {
                // A paste may contain several commands, one per line.
                for line in text.lines() {
                    match operator.obey(server, line) {
                        Obeyed::Show(text) if text.is_empty() => {}
                        Obeyed::Show(text) => self.show(&text),
                        Obeyed::Reload => {
                            let report = read_anew();
                            self.show(&format!("  {}", report.replace('\n', "\n  ")));
                        }
                        Obeyed::Stop => return true,
                    }
                }
                self.ask();
            }
            Typed::TooMuch { bytes, lines } => {
                let lines = counted(lines, "line", "lines");
                self.show(&format!(
                    "  the paste was rejected because it is too long ({lines}, {bytes} bytes)"
                ));
            }
            Typed::NotText(error) => {
                self.show(&format!("  {error}"));
                self.ask();
            }
            Typed::PassedOver | Typed::NoTerminal => {}
            Typed::End => return true,
            // The terminal is gone, but the server continues until a signal stops it.
            Typed::Gone => self.give_up(),
            Typed::Failed => {
                self.give_up();
                report(
                    &"the operator's console has failed; the server keeps running without it, and \
                      Ctrl-C stops the server",
                );
            }
        }
        false
    }
}

/// Maximum number of chunks of output queued for a paused terminal.
const LINES_WAITING: usize = 16;

/// A writer that prints above the operator's input line, if there is one.
struct AboveTheLine {
    lines: Arc<Mutex<Option<Sender<String>>>>,
}

/// Wraps lines at the terminal's width. Continuation lines are marked, so that a client's text
/// can't look like a line from the console.
fn as_wide_as_the_terminal(lines: &str) -> String {
    if !io::stdout().is_terminal() {
        return lines.to_owned();
    }
    let cut = |line: &str| {
        let pieces = layout::lines(line, 0, Some(columns()));
        pieces.join(&format!("\n{GOES_ON}")) + "\n"
    };
    lines.lines().map(cut).collect()
}

impl io::Write for AboveTheLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let above = self.lines.lock().clone();
        let lines = String::from_utf8_lossy(bytes).into_owned();
        if above.is_some_and(|above| above.send(lines).is_ok()) {
            return Ok(bytes.len());
        }
        // Without an editor, the terminal gets plain lines.
        Output::Stdout.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn board(settings: &Settings, events: &mut Events) -> Result<Option<Board>, String> {
    let Some(address) = settings.board else {
        return Ok(None);
    };
    let redactor = Redactor {
        texts: settings.show_messages,
        secrets: settings.show_passcodes,
    };
    let names = settings.web.as_ref().map_or(&[][..], |web| &web.names);
    let board = Board::live(address, events, redactor, settings.tls.as_ref(), names);
    board.map(Some).map_err(|error| no_board(address, &error))
}

/// Starts the listener of `--metrics`. Counting is enabled if this listener or a board can serve
/// the counts.
fn status(
    settings: &mut Settings,
    events: &mut Events,
    board: Option<&Board>,
) -> Result<(Option<Arc<ServerStatus>>, Option<StatusServer>), String> {
    if settings.metrics.is_none() && board.is_none() {
        return Ok((None, None));
    }
    let (status, counters) = ServerStatus::new(settings, events);
    settings.counters = Some(counters);
    if let Some(board) = board {
        board.answer_status(Arc::clone(&status) as _);
    }
    let Some(address) = settings.metrics else {
        return Ok((Some(status), None));
    };
    let names = settings.web.as_ref().map_or(&[][..], |web| &web.names);
    let answering = Arc::clone(&status) as _;
    let server = StatusServer::start(address, answering, settings.tls.as_ref(), names);
    let server = server.map_err(|error| {
        format!(
            "can't listen on {address} for --metrics ({error}): choose another --metrics \
             ADDRESS:PORT"
        )
    })?;
    Ok((Some(status), Some(server)))
}

fn no_board(address: SocketAddr, error: &io::Error) -> String {
    format!(
        "can't listen on {address} for the board ({error}): choose another --board ADDRESS:PORT"
    )
}

/// Shows a recorded run until a signal terminates the program.
fn show_again(replay: &Replay) -> Result<(), String> {
    // Signal handlers are installed only after this, so a signal still terminates the program while
    // it waits for a pipe.
    let recording = Recording::read(&replay.file).map_err(|error| error.to_string())?;
    let signals = signals::listen().map_err(|error| format!("can't wait for signals: {error}"))?;
    if recording.left_out() > 0 {
        report(&format!(
            "{}: skipped {}",
            replay.file.display(),
            counted(
                recording.left_out(),
                "line that is not an event",
                "lines that are not events"
            )
        ));
    }
    let redactor = Redactor {
        // The options of the recorded run determined which texts the file contains.
        texts: true,
        secrets: replay.show_passcodes,
    };
    let board = Board::replay(replay.board, recording.events, replay.speed, redactor)
        .map_err(|error| no_board(replay.board, &error))?;
    // The board works even if its address can't be printed.
    if let Err(sentence) = print(&format!(
        "board    {}  replays the recording in a browser; press Ctrl-C to exit\n",
        page(board.address(), false)
    )) {
        report(&sentence);
    }
    while matches!(
        signals.receiver.recv(),
        Ok(Signal::GoesOn | Signal::Resized | Signal::ReadAnew)
    ) {}
    board.stop();
    Ok(())
}

/// Returns an address as a QR code for a phone's camera: black on white, if colours are enabled.
fn picture_of(address: &str) -> String {
    use qrcode::render::unicode::Dense1x2;
    let Ok(code) = qrcode::QrCode::new(address) else {
        return String::new();
    };
    let palette = Palette::new(true);
    // A wrapped QR code can't be read, and a dumb terminal may not be able to show one.
    const INDENT: usize = 2;
    const QUIET_ZONE: usize = 8;
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
    if is_dumb || columns() <= code.width() + QUIET_ZONE + INDENT {
        return String::new();
    }
    let picture = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    let lines = picture
        .lines()
        .map(|line| format!("  {}\n", palette.white_on_black(line)));
    lines.collect()
}

fn page(there: SocketAddr, is_secured: bool) -> String {
    let scheme = if is_secured { "https" } else { "http" };
    format!("{scheme}://{}/", crate::net::reachable(there))
}

fn event_file(settings: &Settings, events: &mut Events) -> Result<Option<ReaderThread>, String> {
    let Some(path) = &settings.event_file else {
        return Ok(None);
    };
    let queue = events.add_reader(limits::EVENT_QUEUE);
    // A replay also lists the threads.
    events.show_threads();
    let most = settings.event_file_most;
    start_event_file(queue, path, most)
        .map(Some)
        .map_err(|error| no_event_file(path, &error))
}

fn no_event_file(path: &Path, error: &io::Error) -> String {
    format!(
        "can't write to the event file {} ({error}): choose another --events FILE",
        path.display()
    )
}

/// Returns the console's greeting: the addresses of all listeners, and the commands to type next.
fn welcome(
    settings: &Settings,
    about_tls: &str,
    server: &Server,
    (board, metrics): (Option<SocketAddr>, Option<SocketAddr>),
) -> String {
    let is_secured = settings.tls.is_some();
    let portal = server.portal();
    let kinds = match (settings.portals.tcp(), settings.portals.udp()) {
        (true, true) => "TCP and UDP",
        (true, false) => "TCP",
        (false, _) => "UDP",
    };
    let ports = server.workers();
    let workers = match ports {
        [first, .., last] if settings.port != 0 => format!("{first} to {last}"),
        _ => {
            // The system chose the ports, in no particular order, so showing a few is enough.
            const SHOWN: usize = 8;
            let shown: Vec<String> = ports.iter().take(SHOWN).map(ToString::to_string).collect();
            shown.join(", ") + if ports.len() > SHOWN { ", …" } else { "" }
        }
    };
    let missing = match server.missing_at_start() {
        0 => String::new(),
        count => format!(
            "         {count} of these workers will start within a minute: closed connections \
             still occupy their ports\n"
        ),
    };
    let mut text = if settings.single_port.is_some() {
        format!(
            "single   {portal}  (TCP): one port for up to {}, one thread each\n",
            counted(ports.len(), "client", "clients")
        )
    } else {
        format!(
            "portal   {portal}  ({kinds}): sends each client to a free worker\n\
         workers  {workers}  ({} of them, TCP): one client each\n",
            ports.len()
        ) + &missing
    };
    if let Some(board) = board {
        let page = page(board, is_secured);
        text += &format!("board    {page}  shows in a browser what happens inside the server\n");
    }
    if let Some(metrics) = metrics {
        let page = page(metrics, is_secured);
        text +=
            &format!("metrics  {page}metrics  metrics for Prometheus; also /healthz and /readyz\n");
    }
    if let Some(web) = server.web() {
        let page = page(web, is_secured);
        text += &format!("web      {page}  chat page for browsers\n");
    }
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &settings.cluster {
        text += &format!(
            "cluster  {}  connects all of this chat's servers; this one is {}\n",
            cluster.engine, cluster.id
        );
    }
    if let Some(accounts) = &settings.accounts {
        text += &format!(
            "accounts {}  stores names and password hashes\n",
            file(accounts)
        );
    }
    #[cfg(feature = "journal")]
    if let Some(journal) = &settings.journal {
        text += &format!(
            "journal  {}  keeps messages and topics\n",
            file(&journal.file)
        );
    }
    text += &printable_lines(about_tls);
    let web = server.web().filter(|web| web.ip().is_unspecified());
    if settings.bind.ip().is_unspecified() || web.is_some() {
        let interfaces = interfaces();
        let everywhere = [Some(settings.bind.ip()), web.map(|web| web.ip())];
        let ipv6 = |ip: &IpAddr| ip.is_unspecified() && ip.is_ipv6();
        let ipv6 = everywhere.iter().flatten().any(ipv6);
        let over = if ipv6 { "IPv4 and IPv6" } else { "IPv4" };
        text += &format!(
            "\nListening on all interfaces, over {over}:\n{}",
            table(&interfaces, ipv6)
        );
        let route = default_route(false).or_else(|| default_route(true));
        let for_others = |bind| address_for_others(&interfaces, bind, route);
        if settings.bind.ip().is_unspecified()
            && let Some(address) = for_others(settings.bind.ip())
        {
            let port = portal.port();
            text += &format!(
                "\nOther people on your network can connect with:\n  {}\n",
                command_for(SocketAddr::new(address, port), settings)
            );
        }
        if let Some(web) = web
            && let Some(address) = for_others(web.ip())
        {
            let page = page(SocketAddr::new(address, web.port()), is_secured);
            text += &format!(
                "\nOther people on your network can open this page in a browser:\n  {page}\n"
            );
            if is_interactive() {
                text += &picture_of(&page);
            }
        }
    }
    let is_beyond = |ip: IpAddr| !ip.to_canonical().is_loopback();
    let is_open =
        is_beyond(settings.bind.ip()) || server.web().is_some_and(|web| is_beyond(web.ip()));
    if is_open && !is_secured {
        let command = Invocation::of_this_process().server_with_tls(server.web().is_some());
        text += &format!(
            "\nPasswords and messages are not encrypted: everyone on the network path can read \
             them.\n\
             {command} encrypts them.\n"
        );
    }
    let here = crate::net::reachable(portal);
    text += &format!(
        "\nNow type this in another terminal (and in a third one, for a partner to chat with):\n  \
         {}\n\nPress Ctrl-C to stop the server.{}\n\n",
        command_for(here, settings),
        if is_interactive() {
            " Type `help` for a list of commands."
        } else {
            ""
        }
    );
    text
}

fn command_for(portal: SocketAddr, settings: &Settings) -> String {
    let defaults = Settings::default();
    let server = Some(Host::from(portal)).filter(|address| *address != defaults.bind);
    let port = Some(portal.port()).filter(|port| *port != defaults.port);
    let options = match settings.compat {
        Some(revision) => format!("--compat {revision}"),
        None if settings.tls.is_some() => "--tls".to_owned(),
        None if !settings.portals.tcp() => "--portal udp".to_owned(),
        None => String::new(),
    };
    Invocation::of_this_process().client(server, port, &options)
}
