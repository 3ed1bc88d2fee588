//! What is said of a check that has failed.

use std::fmt::Display;

/// What is said of a program that does not run any more.
pub(super) const ENDED: &str = "the program has ended";

/// How much of what was sent or came is shown, in characters.
const SHOWN: usize = 160;

/// What was not as it has to be.
#[derive(Debug)]
pub(super) struct Failure {
    /// Who did what before.
    pub(super) sent: String,
    pub(super) came: String,
    pub(super) wanted: String,
}

impl Failure {
    /// Something else came than `wanted`.
    pub(super) fn wanted(wanted: impl Display) -> Failure {
        Failure {
            sent: "nothing".to_owned(),
            came: "nothing".to_owned(),
            wanted: wanted.to_string(),
        }
    }

    pub(super) fn came(self, came: impl Display) -> Failure {
        let came = came.to_string();
        Failure { came, ..self }
    }

    pub(super) fn sent(self, sent: impl Display) -> Failure {
        let sent = sent.to_string();
        Failure { sent, ..self }
    }
}

/// Bytes as they are shown: what is no ordinary character as an escape, and of much the beginning.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = format!("{:?}", String::from_utf8_lossy(bytes));
    if text.chars().count() <= SHOWN {
        return text;
    }
    let beginning: String = text.chars().take(SHOWN).collect();
    format!("{beginning}…\" ({} bytes)", bytes.len())
}
