//! Translation of command names in the server's sentences.

/// Replaces the server's command names in a sentence with those that the user types.
pub(super) fn in_our_words(sentence: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("INVITATION", "/invitation CODE"),
        ("REPORT", "/report"),
        ("WHO", "/names"),
        ("LOGIN and a username", "/login NAME"),
        ("LOGIN", "/login"),
        ("ROOMS", "/rooms"),
        ("JOIN", "/join"),
        ("LEAVE", "/leave"),
    ];
    let mut ours = sentence.to_owned();
    for (theirs, word) in WORDS {
        let mut from = 0;
        while let Some(at) = ours[from..].find(theirs).map(|at| from + at) {
            let is_edge = |character: Option<char>| !character.is_some_and(char::is_alphanumeric);
            let end = at + theirs.len();
            if is_edge(ours[..at].chars().next_back()) && is_edge(ours[end..].chars().next()) {
                ours.replace_range(at..end, word);
                from = at + word.len();
            } else {
                from = end;
            }
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_servers_sentence_are_named_as_they_are_typed() {
        for (theirs, ours) in [
            (
                "bob is not online; WHO lists the users",
                "bob is not online; /names lists the users",
            ),
            (
                "log in first, with LOGIN and a username",
                "log in first, with /login NAME",
            ),
            ("WHOEVER is here", "WHOEVER is here"),
            ("ROOMS tells, WHO tells", "/rooms tells, /names tells"),
        ] {
            assert_eq!(in_our_words(theirs), ours);
        }
    }
}
