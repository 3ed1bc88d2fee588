//! The program `chatcheck`: it starts a server (or a client) that a student has written, in any
//! language, talks with it over real sockets, and says what works, what does not, and which idea
//! helps.
//!
//! Each rung is a task (`lesson/tasks`) and a list of checks. Each check starts the program anew on
//! a free port, so that one fault does not spoil the checks after it, and ends it again with
//! everything that it started. `tests/check` has a correct server for each rung and a faulty one
//! for each check; `tests/check.rs` plays all of them against each other.

mod accounts;
mod chat;
mod client;
mod echo;
mod failure;
mod framing;
mod manual;
mod names;
mod options;
mod program;
mod report;
mod rooms;
mod rung;
mod talk;
mod threads;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use options::Wanted;
use portal_cli::output;
use program::{Launch, Programs};
use report::{CheckResult, Report};
use rung::{Check, Rung};

/// The exit code when a check has failed.
const FAILED: u8 = 1;

/// The exit code when nothing could be checked.
const NOT_CHECKED: u8 = 2;

/// The rungs that can be climbed, in order.
const RUNGS: [Rung; 7] = [
    echo::RUNG,
    threads::RUNG,
    framing::RUNG,
    names::RUNG,
    accounts::RUNG,
    rooms::RUNG,
    workers::RUNG,
];

/// Runs the program whose command line is `words`, its own name first. The exit code is 0 if every
/// check that was asked for has passed, 1 if one has not, 2 if nothing was checked.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    match options::read(words, &RUNGS) {
        Err(code) => code,
        Ok(wanted) => match run(&wanted) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(error) => {
                output::report(&format!("chatcheck: {error}\n"));
                ExitCode::from(NOT_CHECKED)
            }
        },
    }
}

/// Does what is `wanted`; `true` if nothing has failed.
fn run(wanted: &Wanted) -> Result<bool, String> {
    let rung = match wanted.client {
        true => Some(&client::CLIENT),
        false => RUNGS.iter().find(|rung| rung.number == wanted.rung),
    };
    let rung = rung.ok_or_else(|| format!("there is no rung {}", wanted.rung))?;
    let checks = chosen(rung, &wanted.only)?;
    let print = |text: &str| output::print(text).map_err(|error| output::not_written(&error));
    if wanted.list {
        return print(&report::list(&checks, wanted.json)).map(|()| true);
    }
    let Some(command) = &wanted.command else {
        return print(&report::task(rung)).map(|()| true);
    };
    let programs = Programs::ended_by_signals().map_err(|error| error.to_string())?;
    let mut report = Report::of(rung, command, wanted.json);
    let launch = Launch {
        command,
        kind: rung.kind,
        more_ports: rung.more_ports,
        patience: wanted.patience,
        start_within: wanted.start_within,
        programs: &programs,
    };
    for check in checks {
        let outcome = CheckResult::of(check, &launch);
        let has_failed = outcome.failure.is_some();
        report.add(outcome);
        if has_failed && !wanted.keep_going {
            break;
        }
    }
    report.end();
    if let Some(file) = &wanted.junit {
        let written = std::fs::write(file, report.junit());
        written.map_err(|error| format!("{} can't be written: {error}", file.display()))?;
    }
    match report.not_printed() {
        Some(error) => Err(output::not_written(error)),
        None => Ok(report.has_passed()),
    }
}

/// The checks of `rung` that were asked for: all, or those with the names in `only`.
fn chosen(rung: &Rung, only: &[String]) -> Result<Vec<&'static Check>, String> {
    for name in only {
        if !rung.checks.iter().any(|check| check.name == name) {
            let rung = rung.name();
            return Err(format!(
                "{rung} has no check {name}; --list tells which it has"
            ));
        }
    }
    let is_wanted = |check: &&Check| only.is_empty() || only.iter().any(|name| name == check.name);
    Ok(rung.checks.iter().filter(is_wanted).collect())
}
