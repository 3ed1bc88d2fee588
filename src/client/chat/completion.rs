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

/// Completes the last word before the cursor: a command after a slash, the kind of argument that
/// the command takes, and names anywhere else. Returns the word's byte offset and its completions,
/// each with the text that follows it.
pub(crate) fn completions(before: &str, known: &CompletionWords) -> (usize, Vec<String>) {
    let start = before.rfind([' ', '\n']).map_or(0, |space| space + 1);
    let (lead, word) = before.split_at(start);
    let commands = |word: &str| -> Vec<String> {
        commands::beginning_with(word)
            .map(|name| format!("/{name} "))
            .collect()
    };
    if let (true, Some(command)) = (lead.is_empty(), word.strip_prefix('/')) {
        return (start, commands(command));
    }
    // Symbols before a name are not part of it.
    let bare = word.trim_start_matches(['@', '(', '"', '#']);
    let (bare, end) = match bare.strip_prefix('%') {
        Some(name) => (name, "%"),
        // A message that begins with a name is addressed to that user.
        None if lead.is_empty() && bare == word => (bare, ": "),
        None => (bare, " "),
    };
    let start = before.len() - bare.len();
    let of = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        let begins = |name: &&str| {
            name.get(..bare.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(bare))
        };
        names
            .filter(begins)
            .map(|name| name.to_owned() + end)
            .collect()
    };
    let (people, rooms) = (&known.people, &known.rooms);
    let people = || people.iter().map(String::as_str);
    let rooms = || rooms.iter().map(String::as_str);
    // Text after a command's first argument may contain names.
    let command = lead.trim_end().trim_end_matches(" -n").strip_prefix('/');
    let takes = command.map_or(Takes::Nothing, commands::takes);
    let words = match takes {
        Takes::Nothing if bare.is_empty() && !lead.is_empty() && end == " " => Vec::new(),
        Takes::Nothing | Takes::Name => of(&mut people()),
        Takes::Room => of(&mut rooms()),
        Takes::Whom => of(&mut std::iter::once("all").chain(rooms()).chain(people())),
        Takes::Values(values) => of(&mut values.split('|')),
        Takes::Command => commands(bare.trim_start_matches('/')),
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
            ("/qui", 0, vec!["/quit ", "/quiet "]),
            ("/QUI", 0, vec!["/quit ", "/quiet "]),
            ("/msg bo", 5, vec!["Bob ", "bobby "]),
            ("/msg bob ca", 9, vec!["carol "]),
            ("car", 0, vec!["carol: "]),
            ("@car", 1, vec!["carol "]),
            ("hello ca", 6, vec!["carol "]),
            ("hello @ca", 7, vec!["carol "]),
            ("hello (ca", 7, vec!["carol "]),
            ("%ca", 1, vec!["carol%"]),
            ("hello ", 6, vec![]),
            ("/all ca", 5, vec!["carol "]),
            ("/join a", 6, vec!["attic "]),
            ("/join -n #a", 10, vec!["attic "]),
            (
                "/to ",
                4,
                vec!["all ", "Bar ", "attic ", "Bob ", "bobby ", "carol "],
            ),
            ("/to b", 4, vec!["Bar ", "Bob ", "bobby "]),
            ("/bell ", 6, vec!["off ", "dm ", "mention ", "all "]),
            ("/timestamp d", 11, vec!["datetime "]),
            ("/help qui", 6, vec!["/quit ", "/quiet "]),
        ] {
            assert_eq!(
                completions(before, &known),
                (start, words.into_iter().map(str::to_owned).collect()),
                "{before}"
            );
        }
    }
}
