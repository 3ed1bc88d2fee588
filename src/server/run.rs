//! The program `chatserver`: from the command line to the exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::thread::Builder;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::interfaces::{address_for_others, interfaces, table};
use super::options::{Command, HELP, parse};
use super::{Server, Settings};
use crate::clock::{Clock, Ticker};
use crate::event::{Events, ReaderThread, What, start_console, start_event_file};
use crate::limits;

/// A command line or a port that can't be had.
const REFUSED: u8 = 2;
/// Ended by a second Ctrl-C, as a shell reports it.
const INTERRUPTED: i32 = 130;

/// Runs the server until a signal ends it. `arguments` are those after the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let settings = match parse(arguments) {
        Ok(Command::Serve(settings)) => settings,
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
    let console_queue = (!settings.quiet).then(|| events.add_reader(limits::EVENT_QUEUE));

    let server =
        Server::start(settings, clock.clone(), events.clone()).map_err(|e| e.to_string())?;
    let console = start_console(console_queue, welcome(settings, &server), io::stdout())
        .map_err(|error| format!("can't start the console's thread: {error}"))?;
    let telling = events.clone();
    let beaten = move |_, told| telling.tell(|| What::Ticked { told });
    let ticker = Ticker::start(clock, settings.tick, beaten)
        .map_err(|error| format!("can't start the ticker's thread: {error}"))?;

    // Disconnected would mean that the signal thread is gone; then nothing could stop the server.
    let _ = signals.recv();
    ticker.stop();
    server.stop();
    drop(events);
    for reader in std::iter::once(console).chain(event_file) {
        reader.finish();
    }
    Ok(())
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
    Builder::new()
        .name("signals".to_owned())
        .stack_size(limits::THREAD_STACK)
        .spawn(move || {
            let mut stopping = false;
            for _ in signals.forever() {
                if stopping {
                    std::process::exit(INTERRUPTED);
                }
                stopping = true;
                let _ = sender.try_send(());
            }
        })?;
    Ok(first)
}

/// What the first screen says: what listens where, and what to type next.
fn welcome(settings: &Settings, server: &Server) -> String {
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
    let mut text = format!(
        "portal   {portal}  ({kinds}): tells clients which worker's port is free\n\
         workers  {workers}  ({} of them, TCP): each talks with one client\n",
        ports.len()
    );
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
         Ctrl-C ends the server.\n\n",
        command_for(here, settings)
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
    if !settings.portals.tcp() {
        command += " ARGS='--portal udp'";
    }
    command
}
