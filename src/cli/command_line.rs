//! Shared code for the programs' command lines. Parsing, help, completions and the man page all
//! come from one clap description.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser};
use clap_complete::Shell;

use crate::manual::{self, Manual};
use crate::output;
use portal_wire::Revision;

/// Exit code for an invalid command line, or for output that can't be written.
const REFUSED: u8 = 2;

/// Options that print information about the program.
#[derive(Args, Debug, Default)]
pub struct About {
    /// Print a completion script for SHELL and exit
    #[arg(
        long,
        value_name = "SHELL",
        help_heading = "General",
        display_order = 900
    )]
    completions: Option<Shell>,
    /// Print the manual page and exit (for example: `… --man | man -l -`)
    #[arg(long, help_heading = "General", display_order = 900)]
    man: bool,
}

/// Parses a command line; the first word is the program's name. `Err` means that the program must
/// exit: it has printed the requested text (code 0), or an error that states the invalid word and
/// the fix (code 2).
pub fn read<C: Parser>(
    words: impl IntoIterator<Item = OsString>,
    manual: &Manual,
    about: impl Fn(&C) -> &About,
) -> Result<C, ExitCode> {
    described(C::try_parse_from(words), manual, about)
}

/// Like [`read`], for a command line that has been parsed.
pub fn described<C: Parser>(
    parsed: Result<C, clap::Error>,
    manual: &Manual,
    about: impl Fn(&C) -> &About,
) -> Result<C, ExitCode> {
    let command_line = parsed.map_err(|error| refuse::<C>(&error))?;
    let About { completions, man } = about(&command_line);
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    if let Some(shell) = completions {
        clap_complete::generate(*shell, &mut command, name, &mut text);
    } else if *man {
        text = manual::render(command, manual);
    } else {
        return Ok(command_line);
    }
    Err(print::<C>(&String::from_utf8_lossy(&text)))
}

/// Reports a command-line error, or prints the requested help or version. Returns the exit code.
pub fn refuse<C: CommandFactory>(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return print::<C>(&text);
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    output::report(&format!("{}: {text}", C::command().get_name()));
    ExitCode::from(REFUSED)
}

/// Creates an error about conflicting values, or about a value that fails our own validation.
pub fn bad_value<C: CommandFactory>(sentence: impl std::fmt::Display) -> clap::Error {
    C::command().error(ErrorKind::ValueValidation, sentence)
}

/// Creates an error about options with conflicting values. The sentence states the fix, so the
/// error omits the usage.
pub fn bad_options(sentence: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, format!("{sentence}\n"))
}

/// Creates an error about a file that can't be used. The command line itself is valid, so the error
/// omits the usage.
pub fn bad_file(sentence: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::Io, format!("{sentence}\n"))
}

/// Returns clap's message on one line, without the usage.
pub fn sentence_of(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraphs = text.split("\n\n");
    let sentences = paragraphs.take_while(|paragraph| {
        !["Usage:", "For more", "  tip:"]
            .iter()
            .any(|begin| paragraph.starts_with(begin))
    });
    let sentences: Vec<&str> = sentences.map(str::trim).collect();
    sentences.join("; ").replace('\n', " ")
}

/// Returns the option whose name is most similar to `key`, for a suggestion like clap's.
pub fn similar(key: &str, command: &clap::Command) -> Option<String> {
    let words = [command.get_name().to_owned(), format!("--{key}")];
    let error = command.clone().try_get_matches_from(words).err()?;
    match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => Some(option.trim_start_matches('-').to_owned()),
        _ => None,
    }
}

/// Prints `text` and returns the exit code, for a program that was started only to print it.
fn print<C: CommandFactory>(text: &str) -> ExitCode {
    match output::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let name = C::command().get_name().to_owned();
            output::report(&format!("{name}: {}\n", output::not_written(&error)));
            ExitCode::from(REFUSED)
        }
    }
}

/// Joins each `option` and the following word with `=` if that word `is_value`. Without this, an
/// option with an optional value would take any following word as its value.
pub fn join_value(
    words: impl IntoIterator<Item = OsString>,
    option: &str,
    is_value: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in words {
        match joined.last_mut() {
            Some(last) if last == option && word.to_str().is_some_and(&is_value) => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// Parses a revision of the original programs.
pub fn revision(text: &str) -> Result<Revision, &'static str> {
    match text {
        "0" => Ok(Revision::V0),
        "1" => Ok(Revision::V1),
        "2" => Ok(Revision::V2),
        _ => Err("must be 0, 1 or 2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_value_is_joined_only_if_it_is_valid() {
        let joined = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            let words = join_value(words, "--at", |word| word.starts_with('@'));
            words.join(&OsString::from(" ")).into_string().unwrap()
        };
        assert_eq!(
            joined("x --at @1 @2 --at 3 --at"),
            "x --at=@1 @2 --at 3 --at"
        );
    }
}
