//! The program `chatserver`: from the command line to the exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

use crossbeam_channel::{Receiver, bounded, never, select};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::operator::{self, Obeyed};
use super::options::{Command, HELP, Replay, parse};
use super::{Server, Settings};
use crate::board::{Board, Recording, Veil};
use crate::clock::{Clock, Ticker};
use crate::event::{EventQueue, Events, ReaderThread, What, start_console, start_event_file};
use crate::interfaces::{address_for_others, interfaces, table};
use crate::limits;
use crate::terminal::{
    Complete, Keyboard, Palette, Printer, Prompt, Typed, is_interactive, is_waking_the_editor,
    restore_terminal,
};
use crate::wire::Revision;

/// A command line or a port that can't be had.
const REFUSED: u8 = 2;
/// Ended by a second Ctrl-C, as a shell reports it.
const INTERRUPTED: i32 = 130;

/// Runs the server until a signal ends it. `arguments` are those after the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let settings = match parse(arguments) {
        Ok(Command::Serve(settings)) => settings,
        Ok(Command::Replay(replay)) => {
            return match show_again(&replay) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => refuse(&reason),
            };
        }
        Ok(Command::Help) => return print(HELP),
        Ok(Command::Version) => return print(concat!("chatserver ", env!("CARGO_PKG_VERSION"))),
        Err(error) => return refuse(&error),
    };
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => refuse(&reason),
    }
}

fn print(text: &str) -> ExitCode {
    // Whoever reads may have gone (`chatserver --help | head`); that is no failure.
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn refuse(reason: &impl std::fmt::Display) -> ExitCode {
    eprintln!("chatserver: {reason}");
    ExitCode::from(REFUSED)
}

fn serve(settings: &Settings) -> Result<(), String> {
    // The signals come first: a Ctrl-C during the start must not leave anything behind either.
    let signals =
        listen_for_signals().map_err(|error| format!("can't listen for Ctrl-C: {error}"))?;
    let clock = Clock::new();
    let mut events = Events::new(clock.clone(), settings.show_messages);
    let event_file = event_file(settings, &mut events)?;
    let board = board(settings, &mut events)?;
    let console_queue = (!settings.quiet).then(|| events.add_reader(limits::EVENT_QUEUE));

    let server = Server::start(settings, clock.clone(), events.clone())
        .map_err(|error| error.to_string())?;
    let server = Arc::new(server);
    let shown_at = board.as_ref().map(Board::address);
    let console = Console::start(settings, &server, console_queue, shown_at)
        .map_err(|error| format!("can't start the console: {error}"))?;
    let telling = events.clone();
    let beaten = move |_, told| telling.tell(|| What::Ticked { told });
    let ticker = Ticker::start(clock, settings.tick, beaten)
        .map_err(|error| format!("can't start the ticker's thread: {error}"))?;

    console.serve_until_stopped(&server, &signals);
    STOPPING.store(true, Ordering::Release);
    let Console { printing, keyboard } = console;
    // The terminal comes back to its ordinary state first, for whatever is still to be printed.
    if let Some(keyboard) = keyboard {
        keyboard.close();
    }
    ticker.stop();
    // The editor's thread, which had the other handle, has ended.
    drop(server);
    drop(events);
    drop(board);
    for reader in std::iter::once(printing).chain(event_file) {
        reader.finish();
    }
    Ok(())
}

/// What the person at the server's terminal sees and types.
struct Console {
    printing: ReaderThread,
    /// Absent where standard input or output is no terminal.
    keyboard: Option<Keyboard>,
}

impl Console {
    fn start(
        settings: &Settings,
        server: &Arc<Server>,
        queue: Option<EventQueue>,
        board: Option<SocketAddr>,
    ) -> io::Result<Console> {
        let greeting = welcome(settings, server, board);
        if !is_interactive() {
            let printing = start_console(queue, greeting, io::stdout())?;
            return Ok(Console {
                printing,
                keyboard: None,
            });
        }
        let asking = Arc::downgrade(server);
        let complete: Complete = Box::new(move |before| {
            let names = asking.upgrade().map(|server| server.labels());
            operator::completions(before, &names.unwrap_or_default())
        });
        let (keyboard, printer) = Keyboard::start(Palette::new(true), complete)?;
        let printing = match printer {
            Some(printer) => start_console(
                queue,
                greeting,
                AboveTheLine {
                    printer,
                    line: Vec::new(),
                },
            )?,
            None => start_console(queue, greeting, io::stdout())?,
        };
        Ok(Console {
            printing,
            keyboard: Some(keyboard),
        })
    }

    /// Obeys the operator until a signal or `stop` ends the server.
    fn serve_until_stopped(&self, server: &Server, signals: &Receiver<()>) {
        let nothing = never();
        let typed = self.keyboard.as_ref().map_or(&nothing, Keyboard::typed);
        loop {
            if let Some(keyboard) = &self.keyboard {
                keyboard.prompt(Prompt {
                    name: "operator".to_owned(),
                    hidden: false,
                });
            }
            select! {
                // Disconnected would mean that the signal thread is gone; then nothing else could
                // stop the server.
                recv(signals) -> _ => return,
                recv(typed) -> typed => match typed {
                    Ok(Typed::Line { text: line, .. }) => match operator::obey(server, &line) {
                        // Until the next prompt nobody edits, so the terminal takes plain lines.
                        Obeyed::Show(text) if text.is_empty() => {}
                        Obeyed::Show(text) => {
                            let _ = writeln!(io::stdout(), "{text}");
                        }
                        Obeyed::Stop => return,
                    },
                    Ok(Typed::End) | Err(_) => return,
                },
            }
        }
    }
}

/// Prints whole lines above the operator's.
struct AboveTheLine {
    printer: Printer,
    line: Vec<u8>,
}

impl io::Write for AboveTheLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') {
            let lines: Vec<u8> = self.line.drain(..=end).collect();
            let lines = String::from_utf8_lossy(&lines).into_owned();
            if (self.printer)(lines.clone()).is_err() {
                // The editor has gone; the terminal is in its ordinary state again.
                io::stdout().write_all(lines.as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn board(settings: &Settings, events: &mut Events) -> Result<Option<Board>, String> {
    let Some(address) = settings.board else {
        return Ok(None);
    };
    let veil = Veil {
        texts: settings.show_messages,
        secrets: settings.show_passcodes,
    };
    let board = Board::live(address, events, veil);
    board.map(Some).map_err(|error| no_board(address, &error))
}

fn no_board(address: SocketAddr, error: &io::Error) -> String {
    format!("the board can't listen on {address} ({error}): choose another --board ADDRESS:PORT")
}

/// Shows a recorded run until a signal ends it.
fn show_again(replay: &Replay) -> Result<(), String> {
    let signals =
        listen_for_signals().map_err(|error| format!("can't listen for Ctrl-C: {error}"))?;
    let recording = Recording::read(&replay.file).map_err(|error| error.to_string())?;
    if recording.left_out() > 0 {
        eprintln!(
            "chatserver: {} lines of {} are no events and are left out",
            recording.left_out(),
            replay.file.display()
        );
    }
    let veil = Veil {
        // Whoever recorded them wanted to see them.
        texts: true,
        secrets: replay.show_passcodes,
    };
    let board = Board::replay(replay.board, recording, replay.speed, veil)
        .map_err(|error| no_board(replay.board, &error))?;
    // Whoever reads may have gone; the board is there all the same.
    let _ = writeln!(
        io::stdout(),
        "board    {}  shows it, in a browser; Ctrl-C ends this",
        page(board.address())
    );
    let _ = signals.recv();
    STOPPING.store(true, Ordering::Release);
    board.stop();
    Ok(())
}

/// What to open in a browser.
fn page(board: SocketAddr) -> String {
    format!("http://{}/", crate::net::reachable(board))
}

fn event_file(settings: &Settings, events: &mut Events) -> Result<Option<ReaderThread>, String> {
    let Some(path) = &settings.event_file else {
        return Ok(None);
    };
    let queue = events.add_reader(limits::EVENT_QUEUE);
    start_event_file(queue, path).map(Some).map_err(|error| {
        format!(
            "can't write the event file {} ({error}): choose another --events FILE",
            path.display()
        )
    })
}

/// Starts the thread `signals`. The first signal goes to the channel; a second one means that
/// whoever pressed the keys will not wait, and ends the process on the spot.
fn listen_for_signals() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (sender, first) = bounded(1);
    let thread = Builder::new()
        .name("signals".to_owned())
        .stack_size(limits::THREAD_STACK);
    thread.spawn(move || {
        // The signal that ends the line editor is our own; it must not count as a second Ctrl-C.
        for _ in signals.forever().filter(|_| !is_waking_the_editor()) {
            if STOPPING.swap(true, Ordering::AcqRel) {
                restore_terminal();
                std::process::exit(INTERRUPTED);
            }
            let _ = sender.try_send(());
        }
    })?;
    Ok(first)
}

/// The server is on its way down: by a signal, or by the operator's `stop`, Ctrl-C or Ctrl-D,
/// which are keys and no signals while the editor runs. The next signal ends the process at once.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// What the first screen says: what listens where, and what to type next.
fn welcome(settings: &Settings, server: &Server, board: Option<SocketAddr>) -> String {
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
            // The system's choice, in no order: a few of them will do.
            const SHOWN: usize = 8;
            let shown: Vec<String> = ports.iter().take(SHOWN).map(ToString::to_string).collect();
            shown.join(", ") + if ports.len() > SHOWN { ", …" } else { "" }
        }
    };
    let mut text = if settings.single_port.is_some() {
        format!(
            "single   {portal}  (TCP): one port for up to {} clients, a thread each\n",
            ports.len()
        )
    } else {
        format!(
            "portal   {portal}  ({kinds}): tells clients which worker's port is free\n\
         workers  {workers}  ({} of them, TCP): each talks with one client\n",
            ports.len()
        )
    };
    if let Some(board) = board {
        text += &format!("board    {}  shows all of it, in a browser\n", page(board));
    }
    if settings.bind.is_unspecified() {
        let interfaces = interfaces();
        text += &format!("\nListening on every interface:\n{}", table(&interfaces));
        if let Some(address) = address_for_others(&interfaces, settings.bind) {
            let port = portal.port();
            text += &format!(
                "\nThe others on your network type:\n  {}\n",
                command_for(SocketAddr::new(address, port), settings)
            );
        }
    }
    let here = crate::net::reachable(portal);
    text += &format!(
        "\nNow, in another terminal (and in a third one, for somebody to talk to):\n  {}\n\n\
         Ctrl-C ends the server.{}\n\n",
        command_for(here, settings),
        if is_interactive() {
            " `help` lists what you can type here."
        } else {
            ""
        }
    );
    text
}

fn command_for(portal: SocketAddr, settings: &Settings) -> String {
    let defaults = Settings::default();
    let mut command = "make run-client".to_owned();
    let address: IpAddr = portal.ip();
    if address != defaults.bind {
        command += &format!(" SERVER={address}");
    }
    if portal.port() != defaults.port {
        command += &format!(" PORT={}", portal.port());
    }
    if let Some(revision) = settings.compat {
        let number = match revision {
            Revision::Zero => 0,
            Revision::One => 1,
            Revision::Two => 2,
        };
        command += &format!(" ARGS='--compat {number}'");
    } else if !settings.portals.tcp() {
        command += " ARGS='--portal udp'";
    }
    command
}
