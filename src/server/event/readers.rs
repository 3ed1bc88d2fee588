//! The console and the event file. Each has its own thread, so that a paused terminal or a slow
//! disk does not block the server.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::{CoreEvent, Event, EventQueue, TOO_FAST, to_json};
use crate::clock::Tick;
use crate::files::is_elsewhere;
use crate::limits;
use crate::output::{self, LineWriter};
use crate::private::{self, Privacy};

/// A reader thread. It exits when every [`super::Events`] handle has been dropped.
pub struct ReaderThread {
    /// Disconnects when the thread exits. A join has no timeout and could block forever on a paused
    /// terminal.
    done: Receiver<()>,
}

impl ReaderThread {
    /// Waits until the last event has been written, but no longer than
    /// [`limits::CONSOLE_PATIENCE`]. Returns whether it was written.
    pub fn finish(self) -> bool {
        self.done.recv_timeout(limits::CONSOLE_PATIENCE) == Err(RecvTimeoutError::Disconnected)
    }

    fn start(name: &str, read: impl FnOnce() + Send + 'static) -> io::Result<ReaderThread> {
        let (running, done) = bounded::<()>(0);
        crate::threads::start(name, move || {
            read();
            drop(running);
        })?;
        Ok(ReaderThread { done })
    }
}

/// Starts the thread `console`, which prints `greeting`, then each event as one line, and finally a
/// closing line. Without a queue, it prints only the greeting. `shape` wraps lines to the width of
/// a terminal.
///
/// No other thread prints to `out`, because a paused terminal would block that thread.
///
/// The console omits ticks that woke no thread, and events that only a board needs: client
/// activity, threads, and facts that are already in the greeting.
///
/// # Errors
/// The system can't start a thread.
pub(crate) fn start_console(
    queue: Option<EventQueue>,
    greeting: String,
    shape: impl Fn(&str) -> String + Send + 'static,
    out: impl Write + Send + 'static,
) -> io::Result<ReaderThread> {
    ReaderThread::start("console", move || {
        let mut stream = EventWriter {
            writer: LineWriter::new(out),
            format: |event: &Event| match &*event.kind {
                "activity" | "started" | "cluster-server" | "act-ended" | "thread-started"
                | "thread-ended" => None,
                "tick" if event.number("told") == Some(0) => None,
                _ => Some(shape(&(event.line() + "\n"))),
            },
            tick: Tick::default(),
        };
        // A console error can't be reported anywhere else.
        let _ = stream.write(&[shape(&greeting)]);
        let Some(queue) = queue else { return };
        while let Some(lines) = stream.next(&queue) {
            let _ = stream.write(&lines);
            let _ = stream.write_dropped(&queue);
        }
        let _ = stream.write(&["Stopped.\n".to_owned()]);
    })
}

/// Maximum number of bytes in one write.
const TOGETHER: usize = 256 * 1024;

/// Writes events as lines to a file or a terminal.
struct EventWriter<W, F> {
    writer: LineWriter<W>,
    /// Formats an event as a line with its line feed. Returns `None` for an event that is not
    /// shown.
    format: F,
    /// The time of the last event.
    tick: Tick,
}

impl<W: Write, F: Fn(&Event) -> Option<String>> EventWriter<W, F> {
    /// Waits for events, and returns the lines of all queued ones. Returns `None` after the last
    /// event.
    fn next(&mut self, queue: &EventQueue) -> Option<Vec<String>> {
        let first = queue.events().recv().ok()?;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for event in std::iter::once(first).chain(queue.events().try_iter()) {
            self.tick = event.tick;
            if let Some(line) = (self.format)(&event) {
                bytes += line.len();
                lines.push(line);
            }
            if bytes > TOGETHER {
                break;
            }
        }
        Some(lines)
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        let EventWriter {
            writer,
            format,
            tick,
        } = self;
        writer.write(lines, |count, reason| {
            let reason = reason.to_owned();
            let missing = Event::new(*tick, CoreEvent::LinesMissing { count, reason });
            format(&missing).unwrap_or_default()
        })
    }

    /// Writes the number of events that did not fit into the queue, unless it is zero.
    fn write_dropped(&mut self, queue: &EventQueue) -> io::Result<()> {
        let dropped = queue.take_dropped();
        if dropped == 0 {
            return Ok(());
        }
        self.writer.miss(dropped, TOO_FAST);
        self.write(&[])
    }
}

/// A file of events. It is reopened if log rotation moves or deletes it. It also rotates itself
/// when it reaches `most` bytes, and keeps one old file with the suffix `.1`.
struct EventFile {
    file: File,
    path: PathBuf,
    most: Option<u64>,
}

impl EventFile {
    /// Opens or creates the file. Also returns whether it ends in a torn line, cut off by a crash
    /// or a full disk.
    fn open(path: &Path, most: Option<u64>) -> io::Result<(EventFile, bool)> {
        #[cfg(unix)]
        if is_fifo(path) {
            let file = open_fifo(path)?;
            let path = path.to_owned();
            return Ok((EventFile { file, path, most }, false));
        }
        let mut options = OpenOptions::new();
        options.read(true).create(true).append(true);
        // It may contain messages and, with --trace, passwords, so only its owner may read it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = private::open(&options, path, Privacy::Log)?;
        #[cfg(unix)]
        wait_for_readers(&file)?;
        let mut last = [b'\n'];
        if file.metadata()?.is_file() && file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        let opened = EventFile {
            file,
            path: path.to_owned(),
            most,
        };
        Ok((opened, last != *b"\n"))
    }

    /// Makes room for `bytes` more bytes. If the file was replaced, returns whether the new one
    /// ends in a torn line.
    fn make_room(&mut self, bytes: usize) -> io::Result<Option<bool>> {
        let length = self.file.metadata()?.len();
        let is_full = |most| length > 0 && length + bytes as u64 > most;
        if self.most.is_some_and(is_full) {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            std::fs::rename(&self.path, before)?;
        }
        // Keep the old file until a new one can be opened.
        if is_elsewhere(&self.file, &self.path).unwrap_or(false)
            && let Ok((new, is_torn)) = EventFile::open(&self.path, self.most)
        {
            *self = new;
            return Ok(Some(is_torn));
        }
        Ok(None)
    }
}

#[cfg(unix)]
fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo())
}

/// Opens a FIFO for writing, without waiting for a reader.
#[cfg(unix)]
fn open_fifo(path: &Path) -> io::Result<File> {
    use rustix::io::Errno;
    let mut options = OpenOptions::new();
    options.write(true);
    let file = private::open(&options, path, Privacy::Log).map_err(|error| {
        if Errno::from_io_error(&error) == Some(Errno::NXIO) {
            let reason = "no process is reading from this FIFO; start its reader first";
            io::Error::new(io::ErrorKind::NotConnected, reason)
        } else {
            error
        }
    })?;
    wait_for_readers(&file)?;
    Ok(file)
}

/// Makes writes block, so that a slow reader delays only the thread `event-file`.
#[cfg(unix)]
fn wait_for_readers(file: &File) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    fcntl_setfl(file, fcntl_getfl(file)? - OFlags::NONBLOCK)?;
    Ok(())
}

impl Write for EventFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread `event-file`, which appends each event to the file at `path` as a JSON line.
/// If the file is moved or deleted, or reaches `most` bytes, a new one replaces it. An error is
/// reported once on standard error. When writing succeeds again, an event states the number of
/// missing events.
///
/// # Errors
/// The file can't be opened for appending, or the system can't start a thread.
pub fn start_event_file(
    queue: EventQueue,
    path: &Path,
    most: Option<u64>,
) -> io::Result<ReaderThread> {
    let (file, is_torn) = EventFile::open(path, most)?;
    let mut stream = EventWriter {
        writer: LineWriter::new(file),
        format: |event: &Event| Some(to_json(event) + "\n"),
        tick: Tick::default(),
    };
    stream.writer.restart(is_torn);
    ReaderThread::start("event-file", move || {
        while let Some(lines) = stream.next(&queue) {
            let written = append(&mut stream, &lines).and_then(|()| stream.write_dropped(&queue));
            if let Err(error) = written {
                output::report(&format!(
                    "chatserver: can't write to the event file {} ({error}); the server keeps \
                     running and will resume writing when possible\n",
                    stream.writer.out().path.display()
                ));
            }
        }
        // This is the last chance to write the number of missing events.
        let _ = stream.write(&[]);
    })
}

fn append<F: Fn(&Event) -> Option<String>>(
    stream: &mut EventWriter<EventFile, F>,
    lines: &[String],
) -> io::Result<()> {
    let bytes = lines.iter().map(String::len).sum();
    match stream.writer.out().make_room(bytes) {
        Ok(None) => {}
        Ok(Some(is_torn)) => stream.writer.restart(is_torn),
        Err(error) => return stream.writer.fail(lines.len(), error),
    }
    stream.write(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use crate::lock::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::event::{Events, from_json};

    #[cfg(unix)]
    #[test]
    fn an_event_file_that_is_not_private_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
        let folder = std::env::temp_dir().join(format!("portal-chat-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, link) = (folder.join("events"), folder.join("link"));
        EventFile::open(&path, None).unwrap();
        let refused = |path: &Path| EventFile::open(path, None).err().unwrap().to_string();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        // The group may read it, for example so that a log collector can.
        mode(0o640);
        EventFile::open(&path, None).unwrap();
        for open in [0o644, 0o620, 0o602] {
            mode(open);
            let reason = refused(&path);
            assert!(reason.contains("run `chmod "), "{reason}");
        }
        mode(0o600);
        symlink("events", &link).unwrap();
        let reason = refused(&link);
        assert!(reason.contains("it is a symbolic link"), "{reason}");
        // If the server followed a dangling link, it would create the file that the link names.
        symlink("missing", folder.join("dangling")).unwrap();
        let reason = refused(&folder.join("dangling"));
        assert!(reason.contains("it is a symbolic link"), "{reason}");
        assert!(!folder.join("missing").exists());
        if chown(&path, Some(54321), None).is_ok() {
            let reason = refused(&path);
            assert!(reason.contains("run `chown 0 "), "{reason}");
        } else {
            crate::output::report(
                "NOT TESTED in part: only root can give a file to another user\n",
            );
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_moved_event_file_is_replaced_by_a_new_one() {
        let path = std::env::temp_dir().join(format!("portal-chat-events-{}", std::process::id()));
        let moved = path.with_extension("1");
        let mut events = Events::new(Clock::new());
        let queue = events.add_reader(8);
        let thread = start_event_file(queue, &path, None).unwrap();
        let tell_and_wait = |path: &Path| {
            events.emit(|| CoreEvent::ShuttingDown { why: None });
            while std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
                std::thread::yield_now();
            }
        };
        tell_and_wait(&path);
        std::fs::rename(&path, &moved).unwrap();
        // Wait until the thread has noticed the move and created a new file.
        events.emit(|| CoreEvent::ShuttingDown { why: None });
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

    #[cfg(unix)]
    #[test]
    fn a_fifo_gets_events_if_it_has_a_reader() {
        let path = std::env::temp_dir().join(format!("portal-chat-fifo-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let mut events = Events::new(Clock::new());
        let Err(refused) = start_event_file(events.add_reader(8), &path, None) else {
            panic!("a FIFO without a reader was opened");
        };
        assert!(refused.to_string().contains("start its reader first"));
        let mut options = OpenOptions::new();
        options.read(true);
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let mut reader = options.open(&path).unwrap();
        let thread = start_event_file(events.add_reader(8), &path, None).unwrap();
        events.emit(|| CoreEvent::ShuttingDown { why: None });
        drop(events);
        assert!(thread.finish());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(text.contains("shutting-down"), "{text}");
    }

    #[test]
    fn after_a_torn_line_the_next_event_begins_on_a_new_line() {
        let path = std::env::temp_dir().join(format!("portal-chat-torn-{}", std::process::id()));
        std::fs::write(&path, "{\"time\":").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, mode).unwrap();
        }
        let mut events = Events::new(Clock::new());
        let thread = start_event_file(events.add_reader(8), &path, None).unwrap();
        events.emit(|| CoreEvent::ShuttingDown { why: None });
        drop(events);
        assert!(thread.finish());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "{\"time\":"));
        assert!(lines[1].ends_with("\"event\":\"shutting-down\"}"), "{text}");
    }

    /// The console's output, for a test to inspect.
    #[derive(Clone, Default)]
    struct SharedBuffer(Arc<Mutex<(Vec<u8>, VecDeque<io::ErrorKind>)>>);

    impl Write for SharedBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (text, errors) = &mut *self.0.lock();
            if let Some(error) = errors.pop_front() {
                return Err(error.into());
            }
            text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The event names in a console's output.
    fn words(out: &SharedBuffer) -> Vec<String> {
        let text = String::from_utf8(out.0.lock().0.clone()).unwrap();
        let words = text.lines().map(|line| line.split_whitespace().nth(2));
        words.map(|word| word.unwrap_or("-").to_owned()).collect()
    }

    #[test]
    fn dropped_events_are_counted_in_the_console() {
        let mut events = Events::new(Clock::new());
        let queue = events.add_reader(1);
        for _ in 0..3 {
            events.emit(|| CoreEvent::ShuttingDown { why: None });
        }
        drop(events);
        let out = SharedBuffer::default();
        let console = start_console(Some(queue), String::new(), str::to_owned, out.clone());
        assert!(console.unwrap().finish());
        assert_eq!(words(&out), ["shutting-down", "lines-missing", "-"]);
        let text = String::from_utf8(out.0.lock().0.clone()).unwrap();
        assert!(
            text.contains("lines-missing   count 2  reason events arrived faster"),
            "{text}"
        );
    }

    #[test]
    fn a_recovered_console_reports_the_missing_events() {
        let mut events = Events::new(Clock::new());
        let queue = events.add_reader(8);
        let out = SharedBuffer::default();
        // The greeting and two events fail; the events are emitted one at a time.
        out.0.lock().1 = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::WouldBlock,
            io::ErrorKind::BrokenPipe,
        ]
        .into();
        let console = start_console(
            Some(queue),
            "hello\n".to_owned(),
            str::to_owned,
            out.clone(),
        );
        let console = console.unwrap();
        let left = |count| {
            while out.0.lock().1.len() > count {
                std::thread::yield_now();
            }
        };
        left(2);
        for count in [1, 0] {
            events.emit(|| CoreEvent::ShuttingDown { why: None });
            left(count);
        }
        events.emit(|| CoreEvent::ShuttingDown { why: None });
        drop(events);
        assert!(console.finish());
        assert_eq!(words(&out), ["lines-missing", "shutting-down", "-"]);
        let text = String::from_utf8(out.0.lock().0.clone()).unwrap();
        assert!(text.contains("count 3"), "{text}");
    }

    fn file_stream(
        path: &Path,
        most: Option<u64>,
    ) -> EventWriter<EventFile, fn(&Event) -> Option<String>> {
        let (file, is_torn) = EventFile::open(path, most).unwrap();
        let mut writer = LineWriter::new(file);
        writer.restart(is_torn);
        EventWriter {
            writer,
            format: |event| Some(to_json(event) + "\n"),
            tick: Tick::default(),
        }
    }

    #[test]
    fn a_full_event_file_is_rotated() {
        let path = std::env::temp_dir().join(format!("portal-chat-grown-{}", std::process::id()));
        let before = path.with_extension("1");
        let mut stream = file_stream(&path, Some(10));
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            append(&mut stream, &[line.to_owned()]).unwrap();
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
    fn after_a_full_disk_an_event_reports_the_number_of_missing_events() {
        let path = std::env::temp_dir().join(format!("portal-chat-full-{}", std::process::id()));
        let mut stream = file_stream(Path::new("/dev/full"), None);
        let lines = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<Vec<_>>()
        };
        assert!(append(&mut stream, &lines(&["one", "two"])).is_err());
        assert!(
            append(&mut stream, &lines(&["three"])).is_ok(),
            "an error is reported once"
        );
        // The disk has space again.
        *stream.writer.out() = EventFile::open(&path, None).unwrap().0;
        append(&mut stream, &lines(&["four"])).unwrap();
        append(&mut stream, &lines(&["five"])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..], ["four", "five"]);
        let missing = from_json(lines[0]).unwrap();
        assert_eq!(
            (&*missing.kind, missing.number("count")),
            ("lines-missing", Some(3))
        );
        assert!(missing.text("reason").unwrap().contains("No space left"));
    }
}
