//! The two readers of a server's events: the console and the event file. Each has a thread, so
//! that a paused terminal or a slow disk makes nobody else wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::Builder;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::{Event, EventQueue, What};
use crate::files::is_elsewhere;
use crate::limits;

/// A reader's thread. It ends by itself once every [`super::Events`] handle is gone.
pub struct ReaderThread {
    /// Disconnects when the thread ends; a plain join could wait for ever on a paused terminal.
    done: Receiver<()>,
}

impl ReaderThread {
    /// Waits until the last event is written, but not longer than [`limits::CONSOLE_PATIENCE`].
    /// Returns whether it was.
    pub fn finish(self) -> bool {
        self.done.recv_timeout(limits::CONSOLE_PATIENCE) == Err(RecvTimeoutError::Disconnected)
    }

    fn start(name: &str, read: impl FnOnce() + Send + 'static) -> io::Result<ReaderThread> {
        let (running, done) = bounded::<()>(0);
        Builder::new()
            .name(name.to_owned())
            .stack_size(limits::THREAD_STACK)
            .spawn(move || {
                read();
                drop(running);
            })?;
        Ok(ReaderThread { done })
    }
}

/// Starts the thread `console`, which prints `greeting`, then each event as one line, and at the
/// end that it is the end. Without a queue it prints the greeting alone.
///
/// Nobody else prints to `out`: a terminal that is paused would hold them up.
///
/// Ticks that woke nobody are left out: there is one every second, and it says nothing. So are the
/// events that only a board needs: that somebody was heard, and what the greeting says already.
///
/// # Errors
/// What the system says when it has no thread to give.
pub fn start_console(
    queue: Option<EventQueue>,
    greeting: String,
    mut out: impl Write + Send + 'static,
) -> io::Result<ReaderThread> {
    ReaderThread::start("console", move || {
        let written = write!(out, "{greeting}").and_then(|()| out.flush());
        let Some(queue) = queue else { return };
        let lines = written.and_then(|()| {
            copy(&queue, &mut out, |event| match event.what {
                What::Ticked { told: 0 }
                | What::Heard { .. }
                | What::Started { .. }
                | What::ClusterServer { .. } => None,
                _ => Some(event.line()),
            })
        });
        // A terminal that has gone away can't be told so. The events go on without it.
        if lines.is_ok() {
            let _ = writeln!(out, "Stopped.");
        }
    })
}

/// The most that is put together for one write, in bytes.
const TOGETHER: usize = 256 * 1024;

/// A file of events. It is opened anew when it has been moved away or deleted, as log rotation does, and
/// rotated by itself when it has grown to `most` bytes: the file before is kept beside it, with `.1` at the
/// end of its name.
struct EventFile {
    file: File,
    path: PathBuf,
    most: Option<u64>,
    /// How many events could not be written since one could.
    missing: u64,
}

impl EventFile {
    fn open(path: &Path, most: Option<u64>) -> io::Result<EventFile> {
        let mut options = OpenOptions::new();
        options.read(true).create(true).append(true);
        // There may be words in it, and with --trace passwords: for its owner alone.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        // After a line that a crash has torn, the next one begins on its own. If that fails, so will
        // the first event, and that is told.
        let mut last = [b'\n'];
        if file.metadata()?.is_file() && file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            let _ = file.write_all(b"\n");
        }
        Ok(EventFile {
            file,
            path: path.to_owned(),
            most,
            missing: 0,
        })
    }

    /// Writes `lines`, of `count` events, all of them or none.
    fn write(&mut self, lines: &str, count: u64) -> io::Result<()> {
        let written = self.try_to_write(lines);
        self.missing = match written {
            Ok(()) => 0,
            Err(_) => self.missing + count,
        };
        written
    }

    fn try_to_write(&mut self, lines: &str) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let is_full = |most| length > 0 && length + lines.len() as u64 > most;
        if self.most.is_some_and(is_full) {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            std::fs::rename(&self.path, before)?;
        }
        // As long as there is no new one to be had, the old one does.
        if is_elsewhere(&self.file, &self.path).unwrap_or(false)
            && let Ok(new) = EventFile::open(&self.path, self.most)
        {
            self.file = new.file;
        }
        let length = self.file.metadata()?.len();
        let mut text = String::new();
        if self.missing > 0 {
            text = format!(
                "# {} events are missing: they could not be written\n",
                self.missing
            );
        }
        text += lines;
        self.file.write_all(text.as_bytes()).inspect_err(|_| {
            // What is half written goes again, where that is possible.
            let _ = self.file.set_len(length);
        })
    }
}

/// Starts the thread `event-file`, which appends each event to the file at `path` as a JSON line.
/// If the file is moved away or deleted, or has grown to `most` bytes, a new one takes its place. When it
/// can't be written, that is said once on standard error; it goes on when it can, and says how many are missing.
///
/// # Errors
/// What the system says when the file can't be opened for appending, or has no thread to give.
pub fn start_event_file(
    queue: EventQueue,
    path: &Path,
    most: Option<u64>,
) -> io::Result<ReaderThread> {
    let mut file = EventFile::open(path, most)?;
    ReaderThread::start("event-file", move || {
        while let Ok(first) = queue.events().recv() {
            let (mut lines, mut count) = (String::new(), 0);
            for event in std::iter::once(first).chain(queue.events().try_iter()) {
                lines += &event.json();
                lines.push('\n');
                count += 1;
                if lines.len() > TOGETHER {
                    break;
                }
            }
            lines += &dropped(&queue);
            let was_well = file.missing == 0;
            if let Err(error) = file.write(&lines, count)
                && was_well
            {
                eprintln!(
                    "chatserver: the event file {} can't be written ({error}); \
                     the server goes on, and writes it again when that is possible",
                    file.path.display()
                );
            }
        }
    })
}

/// A line that says how many events were dropped, if any were.
fn dropped(queue: &EventQueue) -> String {
    match queue.take_dropped() {
        0 => String::new(),
        count => {
            format!("# {count} events dropped: they came faster than they could be written\n")
        }
    }
}

/// Writes events until there are no more to come, and flushes whenever none waits.
fn copy(
    queue: &EventQueue,
    out: &mut impl Write,
    format: impl Fn(&Event) -> Option<String>,
) -> io::Result<()> {
    while let Ok(first) = queue.events().recv() {
        for event in std::iter::once(first).chain(queue.events().try_iter()) {
            if let Some(line) = format(&event) {
                writeln!(out, "{line}")?;
            }
        }
        write!(out, "{}", dropped(queue))?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::event::Events;

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
        let path = std::env::temp_dir().join(format!("portal-chat-events-{}", std::process::id()));
        let moved = path.with_extension("1");
        let mut events = Events::new(Clock::new(), false);
        let queue = events.add_reader(8);
        let thread = start_event_file(queue, &path, None).unwrap();
        let tell_and_wait = |path: &Path| {
            events.tell(|| What::ShuttingDown { why: None });
            while std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
                std::thread::yield_now();
            }
        };
        tell_and_wait(&path);
        std::fs::rename(&path, &moved).unwrap();
        // This one still goes to the file that it was about to go to; then the new one is there.
        events.tell(|| What::ShuttingDown { why: None });
        while !path.exists() {
            std::thread::yield_now();
        }
        tell_and_wait(&path);
        drop(events);
        assert!(thread.finish());
        for path in [path, moved] {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("shutting-down"), "{text}");
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn after_a_torn_line_the_next_event_begins_on_its_own() {
        let path = std::env::temp_dir().join(format!("portal-chat-torn-{}", std::process::id()));
        std::fs::write(&path, "{\"time\":").unwrap();
        let mut events = Events::new(Clock::new(), false);
        let thread = start_event_file(events.add_reader(8), &path, None).unwrap();
        events.tell(|| What::ShuttingDown { why: None });
        drop(events);
        assert!(thread.finish());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "{\"time\":"));
        assert!(lines[1].ends_with("\"event\":\"shutting-down\"}"), "{text}");
    }

    #[test]
    fn what_was_dropped_is_counted_in_the_output() {
        let mut events = Events::new(Clock::new(), false);
        let queue = events.add_reader(1);
        for _ in 0..3 {
            events.tell(|| What::ShuttingDown { why: None });
        }
        drop(events);
        let mut out = Vec::new();
        copy(&queue, &mut out, |event| Some(event.what.described().0)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().next(), Some("shutting-down"));
        assert!(text.contains("2 events dropped"), "{text}");
    }

    #[test]
    fn a_file_that_has_grown_too_long_is_kept_beside_a_new_one() {
        let path = std::env::temp_dir().join(format!("portal-chat-grown-{}", std::process::id()));
        let before = path.with_extension("1");
        let mut file = EventFile::open(&path, Some(10)).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            file.write(line, 1).unwrap();
        }
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(
            (text(&before), text(&path)),
            ("three\n".to_owned(), "four\n".to_owned())
        );
        for path in [path, before] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn after_a_full_disk_it_says_how_many_events_are_missing() {
        let path = std::env::temp_dir().join(format!("portal-chat-full-{}", std::process::id()));
        let mut file = EventFile::open(Path::new("/dev/full"), None).unwrap();
        assert!(file.write("one\ntwo\n", 2).is_err() && file.write("three\n", 1).is_err());
        // There is room again.
        file.file = EventFile::open(&path, None).unwrap().file;
        file.path = path.clone();
        file.write("four\n", 1).unwrap();
        file.write("five\n", 1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(
            text,
            "# 3 events are missing: they could not be written\nfour\nfive\n"
        );
    }
}
