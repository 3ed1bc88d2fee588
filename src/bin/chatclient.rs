//! `chatclient`: arguments in, conversation out.

use std::process::ExitCode;

use portal_chat::{client, lesson};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    match arguments.next_if(|word| word == "echo") {
        Some(_) => lesson::client_main(arguments),
        None => client::main(arguments),
    }
}
