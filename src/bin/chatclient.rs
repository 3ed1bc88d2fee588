//! The `chatclient` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    portal_chat::client::main(std::env::args_os().skip(1))
}
