//! What the programs' command lines have in common. How one is read, its help, its completions and its man
//! page all come from one description of it, which is clap's.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser};
use clap_complete::Shell;

use crate::output;
use crate::wire::Revision;

/// An invalid command line, or output that can't be written.
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
    Err(print::<C>(&String::from_utf8_lossy(&text)))
}

/// Ends a program whose command line is wrong, or asks for help.
pub(crate) fn refuse<C: CommandFactory>(error: &clap::Error) -> ExitCode {
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

/// Two values that don't go together, or one that is wrong for a reason of ours.
pub(crate) fn bad_value<C: CommandFactory>(sentence: impl std::fmt::Display) -> clap::Error {
    C::command().error(ErrorKind::ValueValidation, sentence)
}

/// Options whose values exclude each other. The sentence names the fix, so the error omits the usage.
pub(crate) fn bad_options(sentence: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, format!("{sentence}\n"))
}

/// A file that can't be used. The command line itself is valid, so the error omits the usage.
pub(crate) fn bad_file(sentence: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::Io, format!("{sentence}\n"))
}

/// Prints `text` and ends a program that was started only for it.
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
    use std::path::Path;

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
        let shown = command
            .get_arguments()
            .filter(|option| !option.is_hide_set());
        for option in shown.filter_map(clap::Arg::get_long) {
            let lacking = texts.iter().position(|text| !text.contains(option));
            assert_eq!(lacking, None, "{option}");
        }
    }

    /// The file `page` in `src/guide` says what the help says. `make pages` writes it anew.
    pub(crate) fn stand_on_the_page(mut command: clap::Command, page: &str) {
        let there = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/guide")
            .join(page);
        command.build();
        let wanted = page_of(&command);
        if std::env::var_os("WRITE_PAGES").is_some() {
            std::fs::write(&there, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&there).unwrap();
        assert!(
            found == wanted,
            "src/guide/{page} is not what the help says: `make pages` writes it anew"
        );
    }

    /// A program's options, a table for each heading of its help.
    fn page_of(command: &clap::Command) -> String {
        let name = command.get_name();
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut page = format!(
            "# {name}'s options\n\n{about}. (`{name} --help` and `man {name}` say the same; `make pages` writes this page.)\n"
        );
        let arguments = || {
            command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
        };
        let mut headings: Vec<Option<&str>> = Vec::new();
        for argument in arguments() {
            if !headings.contains(&argument.get_help_heading()) {
                headings.push(argument.get_help_heading());
            }
        }
        for heading in headings {
            page += &match heading {
                Some(heading) => format!("\n## {heading}\n\n"),
                None => "\n".to_owned(),
            };
            page += "| | |\n|---|---|\n";
            for argument in arguments().filter(|argument| argument.get_help_heading() == heading) {
                page += &row(argument);
            }
        }
        for other in command.get_subcommands() {
            let about = other
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            page += &format!(
                "\n## `{name} {}`\n\n{about}\n\n| | |\n|---|---|\n",
                other.get_name()
            );
            for argument in other
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
            {
                page += &row(argument);
            }
        }
        page
    }

    fn row(argument: &clap::Arg) -> String {
        let values: Vec<String> = match argument.get_value_names() {
            Some(names) if argument.get_action().takes_values() => {
                names.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        let dashed = |word: String| format!("{word} {}", values.join(" ")).trim_end().to_owned();
        let call = match (argument.get_long(), argument.get_short()) {
            (Some(long), _) => dashed(format!("--{long}")),
            (None, Some(short)) => dashed(format!("-{short}")),
            (None, None) => values.join(" "),
        };
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let default = match defaults.as_slice() {
            _ if argument.is_hide_default_value_set() || !argument.get_action().takes_values() => {
                String::new()
            }
            [] => String::new(),
            values => format!(" [default: {}]", values.join(" ")),
        };
        let possible: Vec<_> = argument
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
        let possible = match possible.as_slice() {
            _ if !argument.get_action().takes_values() => String::new(),
            [] => String::new(),
            values => format!(" [one of: {}]", values.join(", ")),
        };
        // A bar would end the cell, and a word in angle brackets would be a tag.
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        format!(
            "| `{}` | {} |\n",
            cell(&call),
            cell(&(help + &default + &possible))
        )
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
