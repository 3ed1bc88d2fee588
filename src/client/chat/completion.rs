//! Completion with the Tab key.

use std::collections::BTreeSet;

use crate::commands::{self, Takes};

/// The words that Tab completes: online users and rooms. The chat updates them, and the editor's
/// thread reads them.
#[derive(Default)]
pub(crate) struct CompletionWords {
    pub(super) people: BTreeSet<String>,
    pub(super) rooms: BTreeSet<String>,
}

/// Completes the last word before the cursor: a command after a slash, a name at the start of a
/// line, or the kind of argument that the command takes. Returns the word's byte offset and its
/// completions.
pub(crate) fn completions(before: &str, known: &CompletionWords) -> (usize, Vec<String>) {
    let start = before.rfind([' ', '\n']).map_or(0, |space| space + 1);
    let (lead, word) = before.split_at(start);
    let commands = |word: &str| -> Vec<String> {
        commands::beginning_with(word)
            .map(|name| format!("/{name}"))
            .collect()
    };
    if let (true, Some(command)) = (lead.is_empty(), word.strip_prefix('/')) {
        return (start, commands(command));
    }
    let begins = |name: &&String| {
        name.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let of = |names: &BTreeSet<String>| -> Vec<String> {
        names.iter().filter(begins).cloned().collect()
    };
    let takes = match lead.trim_end().strip_prefix('/') {
        Some(command) => commands::takes(command),
        None if lead.is_empty() => Takes::Name,
        None => Takes::Nothing,
    };
    let words = match takes {
        Takes::Nothing => Vec::new(),
        Takes::Name => of(&known.people),
        Takes::Room => of(&known.rooms),
        Takes::Whom => {
            let all = ["all".to_owned()];
            let all = all.into_iter().filter(|all| begins(&all));
            all.chain(of(&known.rooms))
                .chain(of(&known.people))
                .collect()
        }
        Takes::Values(values) => values
            .iter()
            .map(|value| (*value).to_owned())
            .filter(|value| begins(&value))
            .collect(),
        Takes::Command => commands(word.trim_start_matches('/')),
    };
    (start, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_commands_names_rooms_and_values() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let known = CompletionWords {
            people: set(&["Bob", "bobby", "carol"]),
            rooms: set(&["attic", "Bar"]),
        };
        for (before, start, words) in [
            ("/qui", 0, vec!["/quiet", "/quit"]),
            ("/QUI", 0, vec!["/quiet", "/quit"]),
            ("/msg bo", 5, vec!["Bob", "bobby"]),
            ("/msg bob ca", 9, vec![]),
            ("car", 0, vec!["carol"]),
            ("hello ca", 6, vec![]),
            ("/all ca", 5, vec![]),
            ("/join a", 6, vec!["attic"]),
            (
                "/to ",
                4,
                vec!["all", "Bar", "attic", "Bob", "bobby", "carol"],
            ),
            ("/to b", 4, vec!["Bar", "Bob", "bobby"]),
            ("/bell ", 6, vec!["off", "dm", "all"]),
            ("/timestamp d", 11, vec!["datetime"]),
            ("/help qui", 6, vec!["/quiet", "/quit"]),
        ] {
            assert_eq!(
                completions(before, &known),
                (start, words.into_iter().map(str::to_owned).collect()),
                "{before}"
            );
        }
    }
}
