//! `chatcheck`: a rung and a command in, what that command's server can do out.

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    portal_chat::check::main(std::env::args_os())
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    let sentence =
        b"chatcheck: it starts and ends programs as Unix does; on Windows, use it under WSL\n";
    let _ = std::io::Write::write_all(&mut std::io::stderr(), sentence);
    ExitCode::from(2)
}
