//! The `chatcheck` program: starts a server with a given command and tests it against one rung of
//! the ladder.

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    portal_chat::check::main(std::env::args_os())
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    let sentence =
        b"chatcheck can start and stop programs only on Unix; on Windows, run chatcheck under WSL\n";
    let _ = std::io::Write::write_all(&mut std::io::stderr(), sentence);
    ExitCode::from(2)
}
