//! The `chatserver` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    portal_chat::program::main(std::env::args_os().skip(1))
}
