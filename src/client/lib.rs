//! The client: finds a seat, then lets a person chat.
//!
//! The main thread conducts: it alone decides what is sent and what is shown. It blocks on
//! channels that three others feed: `keyboard` (the line editor, or piped standard input),
//! `listener` (the socket) and `ticker` (the clock, for the client's own timeout). On a terminal
//! `keys` reads what is typed for the editor, and `printer` shows lines above the one being typed,
//! because that can block. `signals` catches the signals and nothing else.
//!
//! Where a line goes is a value, a `Target`; a prompt stands for one, and a line carries the one
//! under which it was begun.

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

use options::{ClientCommand, parse};

/// How the program ends, as an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ExitStatus {
    /// The person left.
    Left,
    /// No connection, or it was lost, or the server ended it.
    Lost,
    /// A script has said all that it had to say, and something of it was refused or not sent.
    Refused,
    /// An option, a file or the piped input is invalid.
    BadInput,
    /// Everything was occupied and the tries were used up.
    Full,
}

/// Runs the client. `arguments` are those after the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(arguments) {
        Ok(ClientCommand::Chat(options)) => match app::chat(&options) {
            ExitStatus::Left => ExitCode::SUCCESS,
            ExitStatus::Lost | ExitStatus::Refused => ExitCode::from(1),
            ExitStatus::BadInput => ExitCode::from(2),
            ExitStatus::Full => ExitCode::from(3),
        },
        Ok(ClientCommand::Echo(echo)) => echo.run(),
        Err(end) => end,
    }
}

/// Reads a line as if somebody had typed it.
#[cfg(fuzzing)]
pub fn read_typed(line: &str) {
    let _ = commands::read(line, commands::Typist::Person);
    let _ = commands::pieces(line);
}

/// Reads a command line.
#[cfg(fuzzing)]
pub fn read_arguments(line: &str) {
    let _ = parse(line.split(' ').map(OsString::from));
}
