//! `chatserver`: arguments in, server out.

use std::process::ExitCode;

use portal_chat::{lesson, program};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    match arguments.next_if(|word| word == "echo") {
        Some(_) => lesson::server_main(arguments),
        None => program::main(arguments),
    }
}
