//! Helpers for tests in several crates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use clap_complete::Shell;

use crate::text_file::MARK;

/// Returns variants of `text`, as different editors and shells would write it.
pub fn same_texts(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let plain = text.as_bytes().to_vec();
    let marked = [MARK, &plain].concat();
    let crlf = text.replace('\n', "\r\n");
    let unended = text.strip_suffix('\n').unwrap_or(text);
    vec![
        ("as it is", plain),
        ("byte order mark", marked),
        ("CRLF", crlf.clone().into_bytes()),
        ("no final newline", unended.as_bytes().to_vec()),
        ("all of these", [MARK, crlf.trim_end().as_bytes()].concat()),
    ]
}

/// Checks that the completions and the manual page list each option of a program.
pub fn know_every_option(mut command: clap::Command) {
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

/// Checks that the file `page` in `src/guide`, which `make pages` generates, lists the same options
/// as the help.
pub fn stand_on_the_page(mut command: clap::Command, page: &str) {
    let there = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../guide")).join(page);
    command.build();
    let wanted = page_of(&command);
    if std::env::var_os("WRITE_PAGES").is_some() {
        std::fs::write(&there, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&there).unwrap();
    assert!(
        found == wanted,
        "src/guide/{page} differs from the help: run `make pages`"
    );
}

/// Formats a program's options, with a table for each heading of its help.
fn page_of(command: &clap::Command) -> String {
    let name = command.get_name();
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut page = format!(
        "# {name}'s options\n\n{about}. (`{name} --help` and `man {name}` show the same text; \
         `make pages` generates this page.)\n"
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
    // A vertical bar would end the cell, and a word in angle brackets would be read as a tag.
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    format!(
        "| `{}` | {} |\n",
        cell(&call),
        cell(&(help + &default + &possible))
    )
}
