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

mod chat;
mod commands;
mod conductor;
mod config;
mod introduction;
mod link;
mod options;
mod screen;
mod seek;
mod target;
mod trace;
mod tries;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use options::{Command, parse};

/// How the program ends, as an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
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
        Ok(Command::Chat(options)) => match conductor::chat(&options) {
            Outcome::Left => ExitCode::SUCCESS,
            Outcome::Lost | Outcome::Refused => ExitCode::from(1),
            Outcome::BadInput => ExitCode::from(2),
            Outcome::Full => ExitCode::from(3),
        },
        Ok(Command::Echo(echo)) => echo.run(),
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
