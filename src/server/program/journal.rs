//! The options of the journal, and `chatserver journal`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{ValueEnum, value_parser};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use portal_cli::private::NotPrivate;
use portal_journal::{ExportError, Exporter, Form, JournalSettings, Selection, limits};

use super::effective_settings::file;
use super::values::{DAY, size};
use crate::files::could_be_made;
use crate::output;
use crate::wire::Name;
use portal_sessions::journal::Conversation;

/// The options of the journal.
#[derive(clap::Args, Debug)]
pub(super) struct JournalArguments {
    /// Keep messages and topics in FILE, an SQLite database, so that they survive a restart;
    /// clients read them with HISTORY or `/history`
    #[arg(long, value_name = "FILE", conflicts_with = "compat", help_heading = KEPT)]
    journal: Option<PathBuf>,
    /// Number of days to keep messages
    #[arg(long, value_name = "DAYS", requires = "journal", default_value_t = limits::KEEP_DAYS, value_parser = value_parser!(u32).range(1..=MOST_DAYS), help_heading = KEPT)]
    journal_keep: u32,
    /// Delete the oldest messages when the file reaches SIZE bytes (such as 500K, 20M or 1G)
    #[arg(long, value_name = "SIZE", requires = "journal", default_value = "1G", value_parser = journal_size, help_heading = KEPT)]
    journal_max: u64,
    /// Also keep direct messages
    #[arg(long, value_name = "WHETHER", requires = "journal", value_enum, default_value = "on", help_heading = KEPT)]
    journal_direct: OnOff,
}

const KEPT: &str = "Stored messages";
const MOST_DAYS: i64 = 100 * 365;
/// Minimum value of `--journal-max`, in bytes. An empty file is about a tenth of this size.
const LEAST_SIZE: u64 = 1 << 20;

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OnOff {
    On,
    Off,
}

impl JournalArguments {
    /// Returns the settings of the journal, if there is one.
    pub(super) fn settings(self) -> Option<JournalSettings> {
        Some(JournalSettings {
            file: self.journal?,
            keep: Duration::from_secs(u64::from(self.journal_keep) * DAY as u64),
            max_bytes: self.journal_max,
            direct: self.journal_direct == OnOff::On,
        })
    }
}

fn journal_size(text: &str) -> Result<u64, &'static str> {
    let size = size(text)?;
    let is_fine = size >= LEAST_SIZE;
    is_fine.then_some(size).ok_or("expected at least 1M")
}

/// The options of `chatserver journal`.
#[derive(clap::Args, Debug)]
pub(super) struct Export {
    /// A file written with --journal; a server may still be writing to it
    file: PathBuf,
    /// Only the messages in this room
    #[arg(long, value_name = "ROOM", value_parser = name, conflicts_with_all = ["public", "direct"])]
    room: Option<Name>,
    /// Only the public messages
    #[arg(long, conflicts_with = "direct")]
    public: bool,
    /// Only the direct messages between these two people
    #[arg(long, value_names = ["NAME", "NAME"], num_args = 2, value_parser = name)]
    direct: Option<Vec<Name>>,
    /// Only messages from TIME or later: a date, or a date and time, such as 2026-11-29,
    /// 2026-11-29T18:30 or 2026-11-29T17:30Z; without Z, in local time
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<SystemTime>,
    /// Only messages before TIME
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<SystemTime>,
    /// Print JSON lines instead of text
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::new(text)
        .ok_or("expected a name of 1 to 32 characters: letters (a to z), digits, `_`, `.` or `-`")
}

fn time(text: &str) -> Result<SystemTime, &'static str> {
    let local = |time: DateTime| Some(time.to_zoned(TimeZone::system()).ok()?.timestamp());
    // A time with `Z` or an offset is a timestamp. Any other time is local; a day begins at
    // midnight.
    let timestamp = text.parse().ok();
    let time = timestamp
        .or_else(|| local(text.parse::<DateTime>().ok()?))
        .or_else(|| {
            local(
                text.parse::<Date>()
                    .ok()?
                    .to_datetime(jiff::civil::Time::midnight()),
            )
        });
    time.map(SystemTime::from)
        .ok_or("expected a date, or a date and time, such as 2026-11-29 or 2026-11-29T18:30")
}

/// Prints the selected messages.
pub(super) fn export(export: &Export) -> Result<(), String> {
    let direct = match export.direct.as_deref() {
        Some([one, other]) => Some(Conversation::direct(one, other)),
        _ => None,
    };
    let room = export.room.as_ref().map(Conversation::room);
    let public = export.public.then_some(Conversation::Public);
    let selection = Selection {
        conversation: room.or(public).or(direct),
        since: export.since,
        until: export.until,
    };
    let form = if export.json { Form::Json } else { Form::Text };
    let unreadable = |error: ExportError| error.to_string();
    let mut printed = Ok(());
    let mut lines = String::new();
    let mut print = |lines: &mut String| {
        printed = output::print(lines);
        lines.clear();
        printed.is_ok()
    };
    let exporter = Exporter::open(&export.file).map_err(unreadable)?;
    let all = exporter.lines(&selection, form, |line| {
        lines += line;
        lines.push('\n');
        lines.len() < CHUNK || print(&mut lines)
    });
    if !lines.is_empty() {
        print(&mut lines);
    }
    printed.map_err(|error| output::not_written(&error))?;
    all.map_err(unreadable)
}

/// Returns a note if the file can't be used as a journal yet but the server would start anyway.
///
/// # Errors
/// The reason why the server would not start: it can't create the file, or other users can read or
/// replace it.
pub(super) fn about(path: &Path) -> Result<String, String> {
    if !path.exists() {
        could_be_made(path).map_err(|error| format!("--journal: {}: {error}", file(path)))?;
        return Ok(format!(
            "The server will create {} when it starts.\n",
            file(path)
        ));
    }
    // Any other error does not prevent a start.
    match portal_journal::check_privacy(path) {
        Err(error) if NotPrivate::cause(&error).is_some() => {
            return Err(format!("the journal {} can't be used: {error}", file(path)));
        }
        _ => {}
    }
    let opened = Exporter::open(path);
    Ok(opened.map_or_else(|error| format!("{error}.\n"), |_| String::new()))
}

/// Number of bytes printed at a time.
const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_a_day_or_include_hours_and_a_zone() {
        let seconds = |text| {
            let time: SystemTime = time(text).unwrap();
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        assert_eq!(seconds("2026-11-29T17:30Z"), 1_795_973_400);
        assert_eq!(seconds("2026-11-29T18:30+01:00"), 1_795_973_400);
        assert_eq!(seconds("2026-11-29"), seconds("2026-11-29T00:00"));
        assert_eq!(seconds("2026-11-30") - seconds("2026-11-29"), 24 * 60 * 60);
        assert!(time("yesterday").is_err());
    }
}
