//! `chatcheck`: a rung and a command in, what that command's server can do out.

use std::process::ExitCode;

fn main() -> ExitCode {
    portal_chat::check::main(std::env::args_os())
}
