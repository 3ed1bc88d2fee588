//! The client: finds a seat, then lets the user chat.
//!
//! The main thread alone decides what to send and what to show, and owns the line being typed. It
//! blocks on channels that other threads feed: `keys` (the terminal, or piped standard input),
//! `listener` (the socket), `ticker` (the clock, for the client's own timeout) and `signals`. While
//! it looks for a server again, a thread `seek` connects, so that a slow connection does not block
//! the keyboard.
//!
//! The recipient of a line is a `Target`. Each prompt has one, and a line keeps the target of the
//! prompt under which it was begun.

mod app;
mod chat;
mod commands;
mod config;
mod introduction;
mod link;
mod manual;
mod options;
mod retry;
mod screen;
mod seek;
mod target;
mod trace;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use options::{ClientAction, parse};

/// The program's exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ExitStatus {
    /// The user left.
    Left,
    /// There was no connection, the connection was lost, or the server closed it.
    Lost,
    /// A script finished normally, but something in it was refused or not sent.
    Refused,
    /// An option, a file or the piped input is invalid.
    BadInput,
    /// The server was full, and all retries were used up.
    Full,
}

/// Runs the client. `arguments` do not include the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(arguments) {
        Ok(ClientAction::Chat(options)) => match app::chat(&options) {
            ExitStatus::Left => ExitCode::SUCCESS,
            ExitStatus::Lost | ExitStatus::Refused => ExitCode::from(1),
            ExitStatus::BadInput => ExitCode::from(2),
            ExitStatus::Full => ExitCode::from(3),
        },
        Ok(ClientAction::Echo(echo)) => echo.run(),
        Err(end) => end,
    }
}

/// Parses a line as if a user had typed it.
#[cfg(fuzzing)]
pub fn read_typed(line: &str) {
    let _ = commands::read(line, commands::Typist::Person);
    let _ = commands::pieces(line);
}

/// Parses a command line.
#[cfg(fuzzing)]
pub fn read_arguments(line: &str) {
    let _ = parse(line.split(' ').map(OsString::from));
}
