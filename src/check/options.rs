//! The checker's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, value_parser};

use super::class::SUBMISSION;
use super::manual::MANUAL;
use super::program::{FOLDER, PORT};
use super::rung::Rung;
use portal_cli::command_line::{About, bad_value, read as read_words, refuse};

/// The last rung that the client's task covers.
const RUNGS_OF_THE_CLIENT: u8 = 3;

/// Check a server that you have written yourself, in any language
#[derive(Parser, Debug)]
#[command(
    name = "chatcheck",
    version,
    max_term_width = 100,
    after_help = "\
chatcheck 1                                  print the task of rung 1
chatcheck 1 'python3 server.py {port}'       check a server
chatcheck 1 --list                           list the checks of rung 1
chatcheck 1 --client                         print the client task of rung 1
chatcheck 1 --client 'python3 client.py {port}'

For each check, sh starts COMMAND, with a free port on 127.0.0.1 in place of {port} and an
empty folder in place of {folder}; afterwards, chatcheck stops COMMAND and every
process that it has started. Exit code 0: all checks passed, 1: a check failed, 2: nothing
was checked."
)]
struct CheckArguments {
    /// The rung of the ladder, from 1 to 7
    #[arg(value_parser = value_parser!(u8).range(1..=7), required_unless_present_any = ["man", "completions"])]
    rung: Option<u8>,
    /// The command that starts your server; `{port}` stands for its port, `{folder}` for an empty
    /// folder (rung 5). Without COMMAND, chatcheck prints the task
    command: Option<String>,
    /// Check COMMAND as a client for the servers of rungs 1 to 3: chatcheck plays the server and
    /// types the lines
    #[arg(long)]
    client: bool,
    /// List the rung's checks and exit
    #[arg(long)]
    list: bool,
    /// Run only this check (may be given more than once)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Continue after a failed check
    #[arg(long)]
    keep_going: bool,
    /// Print only JSON: one line for each check, and one for the summary
    #[arg(long)]
    json: bool,
    /// Write the results to FILE as JUnit XML, which most learning platforms can read
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Check again whenever a file named in COMMAND changes
    #[arg(long, conflicts_with_all = ["list", "json", "junit"])]
    watch: bool,
    /// Check every submission in FOLDER ({submission} in COMMAND stands for its path), and write a
    /// table of the results to FOLDER, as CSV and HTML
    #[arg(long, value_name = "FOLDER", requires = "command", conflicts_with_all = ["watch", "list", "json", "junit"])]
    class: Option<PathBuf>,
    /// Time limit for a reply, in seconds [default: 5, longer on a busy machine]
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u16).range(1..))]
    patience: Option<u16>,
    /// Time limit for the server to start listening, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = value_parser!(u16).range(1..))]
    start_within: u16,
    #[command(flatten)]
    about: About,
}

/// The options of a run.
#[derive(Debug)]
pub(super) struct CheckOptions {
    pub(super) rung: u8,
    pub(super) command: Option<String>,
    pub(super) client: bool,
    pub(super) list: bool,
    /// The names of the checks; empty means all.
    pub(super) only: Vec<String>,
    pub(super) keep_going: bool,
    pub(super) json: bool,
    pub(super) junit: Option<PathBuf>,
    pub(super) watch: bool,
    pub(super) class: Option<PathBuf>,
    /// The time limit for a reply; `None` means one that depends on the machine's load.
    pub(super) patience: Option<Duration>,
    pub(super) start_within: Duration,
}

/// Reads the command line, which begins with the program's name, for one of `rungs`. `Err` is the
/// exit code if there is nothing to run.
pub(super) fn read(
    words: impl IntoIterator<Item = OsString>,
    rungs: &[Rung],
) -> Result<CheckOptions, ExitCode> {
    // An error message should not contain the program's path.
    let words = ["chatcheck".into()]
        .into_iter()
        .chain(words.into_iter().skip(1));
    let given = read_words(words, &MANUAL, |given: &CheckArguments| &given.about)?;
    let Some(rung) = given.rung else {
        let sentence = "RUNG is missing; for example: chatcheck 1";
        return Err(refuse::<CheckArguments>(&bad_value::<CheckArguments>(
            sentence,
        )));
    };
    if let Some(command) = &given.command {
        let keeps = |there: &&Rung| there.number == rung && there.keeps_something;
        let folder = rungs.iter().find(keeps).map(|_| (FOLDER, "folder"));
        let submission = given.class.as_ref().map(|_| (SUBMISSION, "submission"));
        let places_needed: Vec<_> = [(PORT, "port")]
            .into_iter()
            .chain(folder)
            .chain(submission)
            .collect();
        let missing = places_needed
            .iter()
            .find(|(place, _)| !command.contains(place));
        if let Some((_, missing)) = missing {
            let places: Vec<_> = places_needed.iter().map(|(place, _)| *place).collect();
            let places = places.join(" ");
            let sentence = format!(
                "COMMAND must contain a placeholder for the {missing}, as in 'python3 server.py \
                 {places}'; this COMMAND does not: {command}"
            );
            return Err(refuse::<CheckArguments>(&bad_value::<CheckArguments>(
                sentence,
            )));
        }
    }
    if given.client && rung > RUNGS_OF_THE_CLIENT {
        let sentence =
            "only rungs 1 to 3 have a client task; for example: chatcheck 1 --client".to_owned();
        return Err(refuse::<CheckArguments>(&bad_value::<CheckArguments>(
            sentence,
        )));
    }
    Ok(CheckOptions {
        rung,
        command: given.command,
        client: given.client,
        list: given.list,
        only: given.only,
        keep_going: given.keep_going,
        json: given.json,
        junit: given.junit,
        watch: given.watch,
        class: given.class,
        patience: given
            .patience
            .map(|seconds| Duration::from_secs(seconds.into())),
        start_within: Duration::from_secs(given.start_within.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use portal_cli::test_support::{know_every_option, stand_on_the_page};

    #[test]
    fn completions_and_manual_page_have_every_option() {
        know_every_option(CheckArguments::command());
        let rungs = crate::RUNGS;
        let page = read(["chatcheck", "--man"].map(OsString::from), &rungs);
        let code = format!("{:?}", page.err());
        assert_eq!(
            code,
            format!("{:?}", Some(ExitCode::SUCCESS)),
            "--man needs no rung"
        );
    }

    #[test]
    fn the_options_stand_on_the_page_as_in_the_help() {
        stand_on_the_page(CheckArguments::command(), "chatcheck.md");
    }

    #[test]
    fn command_must_contain_the_port() {
        let rungs = crate::RUNGS;
        let read = |line: &str| read(line.split('|').map(OsString::from), &rungs);
        assert!(read("chatcheck|1|server 8080").is_err());
        assert_eq!(
            read("chatcheck|1|server {port}")
                .unwrap()
                .command
                .as_deref(),
            Some("server {port}")
        );
        assert!(read("chatcheck|9|server {port}").is_err());
        assert!(read("chatcheck|5|server {port}").is_err());
        assert!(read("chatcheck|5|server {port} {folder}").is_ok());
    }
}
