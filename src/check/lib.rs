//! The program `chatcheck`. It starts a server (or a client) that a student has written in any
//! language, exchanges data with it over real sockets, and reports which checks pass. For a failed
//! check, it also prints an idea that may help.
//!
//! A rung is a task (`lesson/tasks`) and a list of checks. Each check starts a new process on a
//! free port, so that one fault does not affect later checks. It then stops that process and
//! everything that the process has started. `tests/check` has a correct server for each rung and a
//! faulty one for each check; `tests/check.rs` runs all of them.

mod accounts;
mod chat;
mod class;
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
mod watch;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use options::CheckOptions;
use portal_cli::output;
use program::{Launch, Programs};
use report::{CheckResult, Report};
use rung::{Check, Rung};

/// The exit code if a check failed.
const FAILED: u8 = 1;

/// The exit code if nothing was checked.
const NOT_CHECKED: u8 = 2;

/// The rungs with a task, in order.
const RUNGS: [Rung; 7] = [
    echo::RUNG,
    threads::RUNG,
    framing::RUNG,
    names::RUNG,
    accounts::RUNG,
    rooms::RUNG,
    workers::RUNG,
];

/// Runs the program with the command line `words`, which begins with the program's name. The exit
/// code is 0 if every selected check has passed, 1 if one has failed, and 2 if nothing was checked.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    match options::read(words, &RUNGS) {
        Err(code) => code,
        Ok(options) => match run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(error) => {
                output::report(&format!("chatcheck: {error}\n"));
                ExitCode::from(NOT_CHECKED)
            }
        },
    }
}

/// Runs the command that the command line selects. Returns `true` if no check has failed.
fn run(options: &CheckOptions) -> Result<bool, String> {
    let rung = match options.client {
        true => Some(&client::CLIENT),
        false => RUNGS.iter().find(|rung| rung.number == options.rung),
    };
    let rung = rung.ok_or_else(|| format!("there is no rung {}", options.rung))?;
    let checks = selected(rung, &options.only)?;
    let print = |text: &str| output::print(text).map_err(|error| output::not_written(&error));
    if options.list {
        return print(&report::list(&checks, options.json)).map(|()| true);
    }
    let Some(command) = &options.command else {
        return print(&report::task(rung)).map(|()| true);
    };
    let programs = Programs::ended_by_signals().map_err(|error| error.to_string())?;
    let launch = Launch {
        command,
        kind: rung.kind,
        more_ports: rung.more_ports,
        patience: options.patience,
        start_within: options.start_within,
        programs: &programs,
    };
    if let Some(folder) = &options.class {
        return class::run(rung, &checks, folder, &launch);
    }
    if !options.watch {
        return run_once(options, rung, &checks, &launch);
    }
    let watched = watch::Watched::of(command)?;
    loop {
        run_once(options, rung, &checks, &launch)?;
        print(&format!("\nWatching {watched}; press Ctrl-C to stop.\n\n"))?;
        watched.wait_for_change();
    }
}

/// Runs the checks and reports them. Returns `true` if all have passed.
fn run_once(
    options: &CheckOptions,
    rung: &'static Rung,
    checks: &[&'static Check],
    launch: &Launch<'_>,
) -> Result<bool, String> {
    let mut report = Report::of(rung, launch.command, options.json);
    for check in checks {
        let outcome = CheckResult::of(check, launch);
        let has_failed = outcome.failure.is_some();
        report.add(outcome);
        if has_failed && !options.keep_going {
            break;
        }
    }
    report.end();
    if let Some(file) = &options.junit {
        let written = std::fs::write(file, report.junit());
        written.map_err(|error| format!("can't write {}: {error}", file.display()))?;
    }
    match report.not_printed() {
        Some(error) => Err(output::not_written(error)),
        None => Ok(report.has_passed()),
    }
}

/// The checks of `rung` with the names in `only`, or all if that is empty.
fn selected(rung: &Rung, only: &[String]) -> Result<Vec<&'static Check>, String> {
    for name in only {
        if !rung.checks.iter().any(|check| check.name == name) {
            let rung = rung.name();
            return Err(format!(
                "{rung} has no check {name}; --list prints its checks"
            ));
        }
    }
    let is_selected =
        |check: &&Check| only.is_empty() || only.iter().any(|name| name == check.name);
    Ok(rung.checks.iter().filter(is_selected).collect())
}
