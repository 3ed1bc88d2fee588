//! The checker's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, value_parser};

use super::manual::MANUAL;
use super::program::{FOLDER, PORT};
use super::rung::Rung;
use portal_cli::command_line::{About, bad_value, read as read_words, refuse};

/// The client's task is for the servers of the rungs up to this one.
const RUNGS_OF_THE_CLIENT: u8 = 3;

/// Check a server that you have written yourself, in any language
#[derive(Parser, Debug)]
#[command(
    name = "chatcheck",
    version,
    max_term_width = 100,
    after_help = "\
chatcheck 1                                  what is to be built at rung 1
chatcheck 1 'python3 server.py {port}'       check that server
chatcheck 1 --list                           the checks of rung 1
chatcheck 1 --client                         what is to be built as a client
chatcheck 1 --client 'python3 client.py {port}'

COMMAND is started anew for each check, by sh, with a free port of 127.0.0.1 in place of
{port} and an empty folder in place of {folder}, and is ended again with everything that
it has started. Exit code 0: all passed, 1: one has failed, 2: nothing was checked."
)]
struct CheckArguments {
    /// Which rung of the ladder
    #[arg(value_parser = value_parser!(u8).range(1..=7), required_unless_present_any = ["man", "completions"])]
    rung: Option<u8>,
    /// What starts the server; `{port}` stands for the port at which it listens, `{folder}` for an
    /// empty folder (rung 5). Without it, the task is printed
    command: Option<String>,
    /// COMMAND is a client, for the servers of rungs 1 to 3: the checker is its server, and types
    #[arg(long)]
    client: bool,
    /// Print the checks of the rung, and leave
    #[arg(long)]
    list: bool,
    /// Play this check alone (may be given more than once)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Go on after a check that has failed
    #[arg(long)]
    keep_going: bool,
    /// Print one line of JSON for each check, and one for all, and nothing else
    #[arg(long)]
    json: bool,
    /// Write the result into FILE as JUnit's XML, which most learning platforms read
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How long an answer may take
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = value_parser!(u16).range(1..))]
    patience: u16,
    /// How long the server may take until it listens
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = value_parser!(u16).range(1..))]
    start_within: u16,
    #[command(flatten)]
    about: About,
}

/// What the checker is to do.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) rung: u8,
    pub(super) command: Option<String>,
    pub(super) client: bool,
    pub(super) list: bool,
    /// Names of checks; empty for all.
    pub(super) only: Vec<String>,
    pub(super) keep_going: bool,
    pub(super) json: bool,
    pub(super) junit: Option<PathBuf>,
    pub(super) patience: Duration,
    pub(super) start_within: Duration,
}

/// Reads the command line, whose first word is the program's name, about one of these `rungs`.
/// `Err` is the program's end.
pub(super) fn read(
    words: impl IntoIterator<Item = OsString>,
    rungs: &[Rung],
) -> Result<Wanted, ExitCode> {
    // Its path is of no interest to whoever reads a complaint.
    let words = ["chatcheck".into()]
        .into_iter()
        .chain(words.into_iter().skip(1));
    let given = read_words(words, &MANUAL, |given: &CheckArguments| &given.about)?;
    let Some(rung) = given.rung else {
        let sentence = "it is asked for a RUNG, such as chatcheck 1";
        return Err(refuse::<CheckArguments>(&bad_value::<CheckArguments>(
            sentence,
        )));
    };
    if let Some(command) = &given.command {
        let keeps = |there: &&Rung| there.number == rung && there.keeps_something;
        let folder = rungs.iter().find(keeps).map(|_| (FOLDER, "folder"));
        let wanted: Vec<_> = [(PORT, "port")].into_iter().chain(folder).collect();
        let missing = wanted.iter().find(|(place, _)| !command.contains(place));
        if let Some((_, missing)) = missing {
            let places: Vec<_> = wanted.iter().map(|(place, _)| *place).collect();
            let places = places.join(" ");
            let sentence = format!(
                "the command has to say where the {missing} goes, such as 'python3 server.py {places}'; this one does \
                 not: {command}"
            );
            return Err(refuse::<CheckArguments>(&bad_value::<CheckArguments>(
                sentence,
            )));
        }
    }
    if given.client && rung > RUNGS_OF_THE_CLIENT {
        let sentence =
            "there is one task for a client, that of rungs 1 to 3: chatcheck 1 --client".to_owned();
        return Err(refuse::<CheckArguments>(&bad_value::<CheckArguments>(
            sentence,
        )));
    }
    Ok(Wanted {
        rung,
        command: given.command,
        client: given.client,
        list: given.list,
        only: given.only,
        keep_going: given.keep_going,
        json: given.json,
        junit: given.junit,
        patience: Duration::from_secs(given.patience.into()),
        start_within: Duration::from_secs(given.start_within.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use portal_cli::test_support::{know_every_option, stand_on_the_page};

    #[test]
    fn completions_and_manual_page_know_every_option() {
        know_every_option(CheckArguments::command());
        let rungs = crate::RUNGS;
        let page = read(["chatcheck", "--man"].map(OsString::from), &rungs);
        let code = format!("{:?}", page.err());
        assert_eq!(
            code,
            format!("{:?}", Some(ExitCode::SUCCESS)),
            "it needs no rung"
        );
    }

    #[test]
    fn the_options_stand_on_the_page_as_in_the_help() {
        stand_on_the_page(CheckArguments::command(), "chatcheck.md");
    }

    #[test]
    fn a_command_has_to_say_where_the_port_goes() {
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
