//! The export of messages, as lines of JSON or as text.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use portal_sessions::journal::{Conversation, HistoryEntry};
use portal_wire::{Name, printable, time};
use rusqlite::params;

use crate::store::{JournalReader, StoreError, entry, integer, name_of};

/// The messages to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only messages in this conversation.
    pub conversation: Option<Conversation>,
    /// Only messages that were sent at this time or later.
    pub since: Option<SystemTime>,
    /// Only messages that were sent before this time.
    pub until: Option<SystemTime>,
}

impl Selection {
    /// The messages in this room.
    pub fn room(name: &Name) -> Selection {
        Selection {
            conversation: Some(Conversation::room(name)),
            ..Selection::default()
        }
    }
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON object.
    Json,
    /// Text for people.
    Text,
}

/// The reason why a file can't be exported.
#[derive(Debug)]
pub struct ExportError {
    file: PathBuf,
    reason: String,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "can't read the journal {}: {}",
            self.file.display(),
            self.reason
        )
    }
}

impl std::error::Error for ExportError {}

/// Reads a journal, even while a server writes to it.
pub struct Exporter {
    connection: rusqlite::Connection,
    file: PathBuf,
}

impl Exporter {
    /// Opens the file.
    ///
    /// # Errors
    /// [`ExportError`] if it does not exist or is not a journal that this version can read.
    pub fn open(file: &Path) -> Result<Exporter, ExportError> {
        let connection = JournalReader::open(file).and_then(JournalReader::checked);
        let connection = connection.map_err(|error| failed(file, &error))?;
        let file = file.to_owned();
        Ok(Exporter { connection, file })
    }

    /// Calls `line` for each selected message, in the order in which they were sent, until it
    /// returns false. Its argument is the message as one line, without a line feed.
    ///
    /// # Errors
    /// [`ExportError`] if the file can't be read.
    pub fn lines(
        &self,
        selection: &Selection,
        form: Form,
        line: impl FnMut(&str) -> bool,
    ) -> Result<(), ExportError> {
        let result = self.read(selection, form, line);
        result.map_err(|error| failed(&self.file, &error))
    }

    fn read(
        &self,
        selection: &Selection,
        form: Form,
        mut line: impl FnMut(&str) -> bool,
    ) -> Result<(), StoreError> {
        let milliseconds = |time: SystemTime| integer(time::microseconds(time) / 1000);
        let mut statement = self.connection.prepare(
            "SELECT id, time, sender, recipient, action, text, name
                FROM messages JOIN conversations ON conversations.number = conversation
                WHERE (?1 IS NULL OR name = ?1) AND time >= ?2 AND time < ?3
                ORDER BY messages.number",
        )?;
        let mut rows = statement.query(params![
            selection.conversation.as_ref().map(name_of),
            selection.since.map_or(i64::MIN, milliseconds),
            selection.until.map_or(i64::MAX, milliseconds),
        ])?;
        while let Some(row) = rows.next()? {
            let (name, entry): (String, HistoryEntry) = (row.get(6)?, entry(row)?);
            let text = match form {
                Form::Json => json(&name, &entry),
                Form::Text => text(&name, &entry),
            };
            if !line(&text) {
                break;
            }
        }
        Ok(())
    }
}

fn failed(file: &Path, error: &StoreError) -> ExportError {
    ExportError {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}

/// Formats a message as a JSON object. Characters that a terminal obeys are escaped.
fn json(conversation: &str, entry: &HistoryEntry) -> String {
    let object = serde_json::json!({
        "conversation": conversation,
        "id": entry.stamp.id,
        "time": time::rfc_3339(entry.stamp.sent_at),
        "from": &*entry.from,
        "to": entry.to.as_deref(),
        "action": entry.me,
        "text": &*entry.text,
    });
    let mut safe = String::new();
    for character in object.to_string().chars() {
        let shown = printable(character.encode_utf8(&mut [0; 4]));
        if shown.chars().eq([character]) {
            safe.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                safe += &format!("\\u{unit:04x}");
            }
        }
    }
    safe
}

fn text(conversation: &str, entry: &HistoryEntry) -> String {
    let time = time::rfc_3339(entry.stamp.sent_at);
    let (from, text) = (printable(&entry.from), printable(&entry.text));
    let room = conversation.strip_prefix("room ");
    let place = room.map_or_else(String::new, |room| format!("[{}] ", printable(room)));
    let to = match (&entry.to, conversation) {
        (Some(to), _) => format!(" to {}", printable(to)),
        (None, "public") => " to all".to_owned(),
        (None, _) => String::new(),
    };
    match entry.me {
        true => format!("{time} {place}* {from}{to} {text}"),
        false => format!("{time} {place}{from}{to}: {text}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::queue::Item;
    use crate::store::Store;
    use crate::test_support::JournalFolder;
    use portal_sessions::journal::Stamp;

    fn item(conversation: &Conversation, id: u64, to: Option<&str>, text: &str, me: bool) -> Item {
        let entry = HistoryEntry {
            stamp: Stamp::of(id * 1_000_000),
            from: "alice".into(),
            to: to.map(Into::into),
            text: text.into(),
            me,
        };
        Item::Message(conversation.clone(), entry)
    }

    #[test]
    fn messages_are_selected_and_shown_without_control_characters() {
        let folder = JournalFolder::new("export");
        let lobby = Name::new("Lobby").unwrap();
        let bob = Name::new("bob").unwrap();
        let direct = Conversation::direct(&bob, &Name::new("alice").unwrap());
        let mut store = Store::open(&folder.file()).unwrap();
        store
            .write(&[
                item(&Conversation::Public, 1, None, "one", false),
                item(
                    &Conversation::room(&lobby),
                    2,
                    None,
                    "waves\u{1b}[2J\u{9b}",
                    true,
                ),
                item(&direct, 3, Some("Bob"), "three\n", false),
            ])
            .unwrap();
        let exporter = Exporter::open(&folder.file()).unwrap();
        let lines = |selection: &Selection, form| {
            let mut lines = Vec::new();
            let keep = |line: &str| {
                lines.push(line.to_owned());
                true
            };
            exporter.lines(selection, form, keep).unwrap();
            lines
        };
        assert_eq!(
            lines(&Selection::default(), Form::Text),
            [
                "1970-01-01T00:00:01.000Z alice to all: one",
                "1970-01-01T00:00:02.000Z [lobby] * alice waves\u{fffd}[2J\u{fffd}",
                "1970-01-01T00:00:03.000Z alice to Bob: three ",
            ]
        );
        assert_eq!(
            lines(&Selection::room(&lobby), Form::Json),
            [
                r#"{"conversation":"room lobby","id":2000000,"time":"1970-01-01T00:00:02.000Z","from":"alice","to":null,"action":true,"text":"waves\u001b[2J\u009b"}"#
            ]
        );
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        let middle = Selection {
            since: at(2),
            until: at(3),
            ..Selection::default()
        };
        assert_eq!(lines(&middle, Form::Text).len(), 1);
    }

    #[test]
    fn a_file_that_cant_be_exported_is_named_with_the_reason() {
        let folder = JournalFolder::new("export-none");
        let error = Exporter::open(&folder.file())
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("journal.db") && error.contains("unable to open"),
            "{error}"
        );
    }
}
