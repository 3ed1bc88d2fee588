//! What the programs' command lines have in common. How one is read, its help, its completions and its man
//! page all come from one description of it, which is clap's.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser};
use clap_complete::Shell;

use crate::wire::Revision;

/// A command line that can't be followed.
const REFUSED: u8 = 2;

/// What a program prints of itself.
#[derive(Args, Debug, Default)]
pub(crate) struct About {
    /// Print what makes SHELL complete these options, and leave
    #[arg(
        long,
        value_name = "SHELL",
        help_heading = "About it",
        display_order = 900
    )]
    completions: Option<Shell>,
    /// Print the manual page, and leave (`chatserver --man | man -l -`)
    #[arg(long, help_heading = "About it", display_order = 900)]
    man: bool,
}

/// Reads a command line, whose first word is the program's name. `Err` is the program's end: it has printed
/// what was asked for (code 0), or what is wrong with which word and what helps (code 2).
pub(crate) fn read<C: Parser>(
    words: impl IntoIterator<Item = OsString>,
    about: impl Fn(&C) -> &About,
) -> Result<C, ExitCode> {
    let command_line = C::try_parse_from(words).map_err(|error| refuse::<C>(&error))?;
    let About { completions, man } = about(&command_line);
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    if let Some(shell) = completions {
        clap_complete::generate(*shell, &mut command, name, &mut text);
    } else if *man {
        // Writing into memory does not fail.
        let _ = clap_mangen::Man::new(command).render(&mut text);
    } else {
        return Ok(command_line);
    }
    Err(print(&text))
}

/// Ends a program whose command line is wrong, or asks for help.
pub(crate) fn refuse<C: CommandFactory>(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return print(text.as_bytes());
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // In one piece, and standard error may be closed, too.
    let text = format!("{}: {text}", C::command().get_name());
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(REFUSED)
}

/// Two values that don't go together, or one that is wrong for a reason of ours.
pub(crate) fn bad_value<C: CommandFactory>(sentence: impl std::fmt::Display) -> clap::Error {
    C::command().error(ErrorKind::ValueValidation, sentence)
}

fn print(text: &[u8]) -> ExitCode {
    // Whoever reads may have gone (`chatserver --help | head`); that is no failure.
    let _ = io::stdout().write_all(text);
    ExitCode::SUCCESS
}

/// The words with each `option` and the word after it as one, where that word `is_value`. An option whose
/// value may be left out would else take the next word, whatever it is.
pub(crate) fn join_value(
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

/// Which of the original programs.
pub(crate) fn revision(text: &str) -> Result<Revision, &'static str> {
    match text {
        "0" => Ok(Revision::Zero),
        "1" => Ok(Revision::One),
        "2" => Ok(Revision::Two),
        _ => Err("it is 0, 1 or 2"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Completions and manual page name each option of a program.
    pub(crate) fn know_every_option(mut command: clap::Command) {
        command.build();
        let mut texts = Vec::new();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "program", &mut text);
            texts.push(String::from_utf8(text).unwrap());
        }
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.clone());
        man.render(&mut page).unwrap();
        texts.push(String::from_utf8(page).unwrap().replace("\\-", "-"));
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        for option in options {
            let lacking = texts.iter().position(|text| !text.contains(option));
            assert_eq!(lacking, None, "{option}");
        }
    }

    #[test]
    fn a_value_that_may_be_left_out_is_joined_only_if_it_is_one() {
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
