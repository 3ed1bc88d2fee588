//! The server's speed, compared with the limits of the sockets that it uses.
//!
//! Each scenario runs the server and, alternating with it, a bare program that does the minimum
//! that the sockets allow: a relay that copies bytes, a fan-out that parses nothing, an echo. The
//! result is the ratio, because machines differ. Every message's sender, number and content are
//! checked; one that is lost, duplicated or out of order aborts the run.
//!
//! `make bench` runs everything, `make bench-quick` takes less than a minute, and
//! `make bench-compare` shows two saved results side by side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    unreachable_pub
)]

mod bare;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
#[path = "../support/engine.rs"]
mod engine;
#[cfg(feature = "journal")]
mod journal;
mod load;
mod scenarios;
mod table;

use std::io::Write as _;
use std::process::{Command, Stdio};

use scenarios::{SCENARIOS, Size};
use table::{Row, Table};

/// The time limit for starting Redis.
#[cfg(feature = "cluster")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["bare", what, ..] => bare::serve(what),
        ["scenario", name, size, ..] => run_here(name, size),
        ["compare", before, after, ..] => table::compare(before, after),
        _ => {
            let has = |option: &str| words.contains(&option);
            let size = match (has("--bench"), has("--quick")) {
                // `cargo test --bench chat` only checks that everything runs.
                (false, _) => Size::Trial,
                (true, true) => Size::Quick,
                (true, false) => Size::Full,
            };
            run_all(
                size,
                words.iter().find(|word| !word.starts_with('-')).copied(),
            );
        }
    }
}

/// Runs the scenarios (those with names that begin with `only`), each in its own process.
fn run_all(size: Size, only: Option<&str>) {
    let mut table = Table::default();
    println!("{}", Row::head());
    for scenario in SCENARIOS {
        if only.is_some_and(|only| !scenario.name.starts_with(only)) {
            continue;
        }
        for row in run_apart(scenario.name, scenario.on_one_core, size) {
            println!("{}", row.line());
            table.rows.push(row);
        }
    }
    if size != Size::Trial {
        let path = table.save();
        println!("\nsaved to {}", path.display());
    }
}

/// Runs a scenario in a child process, pinned to one core if required and possible. The programs
/// that it starts are pinned, too.
fn run_apart(name: &str, on_one_core: bool, size: Size) -> Vec<Row> {
    let program = std::env::current_exe().unwrap();
    let mut command = if on_one_core && Command::new("taskset").arg("-V").output().is_ok() {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let output = command
        .args(["scenario", name, size.word()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(Row::parse).collect()
}

fn run_here(name: &str, size: &str) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let mut out = std::io::stdout();
    for row in (scenario.expect("a scenario's name").run)(Size::from_word(size)) {
        writeln!(out, "{}", row.record()).unwrap();
    }
}
