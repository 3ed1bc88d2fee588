//! The only reader of text files that users edit: settings, passwords, accounts, known servers,
//! history, greetings, certificates and keys, and lines from standard input.
//!
//! Editors and shells write the same text in different ways, and all of these are equivalent here:
//! with or without a byte order mark, with CRLF or LF, with or without a line feed at the end. Any
//! other text that is not UTF-8 is a [`TextError`], which states the file, the line and the fix.
//! The reader never silently replaces or skips a damaged line, because its intended content is
//! unknown.
//!
//! A file that is only read may be a pipe, such as `/dev/fd/63` of `--password-file <(pass show
//! chat)`. It is read to its end. No file blocks a program forever: a FIFO without a writer is an
//! immediate error, and a silent one is an error after [`PIPE_PATIENCE`]. A file that a program
//! also writes to must be a regular file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::{create_private, make_folder_of};
use crate::limits::{PIPE_PATIENCE, PIPED_TEXT};
use crate::private::{self, NotPrivate, Privacy};

/// A text file that can't be used.
#[derive(Debug)]
pub struct TextError {
    file: PathBuf,
    /// Counted from 1; `None` if the whole file is affected.
    line: Option<usize>,
    fault: Fault,
}

/// The reason why a text file can't be used.
#[derive(Debug)]
pub enum Fault {
    /// The system can't open, read or write it.
    System(io::Error),
    /// It is a directory.
    Directory,
    /// It is a symbolic link to a file that does not exist.
    DanglingLink,
    /// It is a pipe, a socket or a device, but only a regular file can be used.
    NotRegular,
    /// It is an empty pipe or FIFO that no process has opened for writing.
    NoWriter,
    /// It is a pipe, and its writer has not written for [`PIPE_PATIENCE`].
    Silent,
    /// It is not a regular file, and it contains more than this many bytes.
    Endless(usize),
    /// Other users have access to it, or could have put it there.
    NotPrivate(NotPrivate),
    /// It is UTF-16: it begins with a UTF-16 byte order mark, or contains NUL bytes.
    Utf16,
    /// A byte that is invalid UTF-8 at that position, as in Latin-1.
    NotUtf8(u8),
    /// Its first line should be a password, but is empty.
    EmptyFirstLine,
    /// A line that the program does not understand. Contains the reason and the fix.
    Line(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::System(error) => match error.kind() {
                io::ErrorKind::NotFound => write!(f, "it can't be read ({error}); check the path"),
                // systemd sets this variable for our unit, which runs as a user that systemd
                // creates.
                io::ErrorKind::PermissionDenied if std::env::var_os("STATE_DIRECTORY").is_some() => write!(
                    f,
                    "it can't be read ({error}); the service runs as its own user, so let systemd pass the \
                     file (LoadCredential= in `systemctl edit chatserver`)"
                ),
                io::ErrorKind::PermissionDenied => write!(
                    f,
                    "it can't be read ({error}); give read permission to the user who runs this program"
                ),
                _ => write!(f, "it can't be read or written ({error})"),
            },
            Fault::Directory => f.write_str("it is a directory; choose a file in it"),
            Fault::DanglingLink => {
                f.write_str("it is a symbolic link to a file that does not exist; create that file, or delete the link")
            }
            Fault::NotRegular => {
                f.write_str("the program also writes to it, but it is not a regular file; choose a \
                             regular file")
            }
            Fault::NoWriter => {
                f.write_str("it is a pipe that no process is writing to; start the writer first, \
                             or choose a regular file")
            }
            Fault::Silent => write!(
                f,
                "no data has arrived through this pipe for {} s; check the program that writes to it",
                PIPE_PATIENCE.as_secs()
            ),
            Fault::Endless(most) => write!(
                f,
                "it contains more than {most} bytes and is not a regular file; choose a text file"
            ),
            Fault::NotPrivate(reason) => reason.fmt(f),
            Fault::Utf16 => f.write_str(
                "it is UTF-16 or binary, not UTF-8; save it as UTF-8 (`iconv -f utf-16 -t utf-8` converts it)",
            ),
            Fault::NotUtf8(byte) => write!(
                f,
                "the byte 0x{byte:02X} is not UTF-8; save the text as UTF-8 (`iconv -f latin1 -t utf-8` converts it)"
            ),
            Fault::EmptyFirstLine => f.write_str("it is empty, but must contain the password"),
            Fault::Line(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TextError { file, line, fault } = self;
        match line {
            Some(line) => write!(f, "{}, line {line}: {fault}", file.display()),
            None => write!(f, "{}: {fault}", file.display()),
        }
    }
}

impl std::error::Error for TextError {}

/// For callers that add the file's name themselves.
impl From<Fault> for io::Error {
    fn from(fault: Fault) -> io::Error {
        match fault {
            Fault::System(error) => error,
            Fault::NotPrivate(reason) => reason.into(),
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        if let Some(reason) = NotPrivate::cause(&error) {
            return Fault::NotPrivate(reason.clone());
        }
        match error.kind() {
            io::ErrorKind::IsADirectory => Fault::Directory,
            _ => Fault::System(error),
        }
    }
}

impl Fault {
    /// Converts the fault to an error about the whole file.
    pub fn of(self, file: &Path) -> TextError {
        TextError {
            file: file.to_owned(),
            line: None,
            fault: self,
        }
    }

    /// Converts the fault to an error about one of the file's lines, counted from 1.
    pub fn at(self, file: &Path, line: usize) -> TextError {
        TextError {
            file: file.to_owned(),
            line: Some(line),
            fault: self,
        }
    }
}

impl TextError {
    /// Returns whether the file does not exist. (A service's home may not be a directory.)
    pub fn is_missing(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        self.system()
            .is_some_and(|error| matches!(error.kind(), NotFound | NotADirectory))
    }

    /// Returns the I/O error, if the fault is one.
    pub fn system(&self) -> Option<&io::Error> {
        match &self.fault {
            Fault::System(error) => Some(error),
            _ => None,
        }
    }

    /// Returns whether the file is exposed to other users, which only [`read_secret`] and
    /// [`read_secret_line`] check.
    pub fn is_not_private(&self) -> bool {
        matches!(self.fault, Fault::NotPrivate(_))
    }
}

/// Reads a file of any kind to its end. Returns its text with LF line endings, without a byte order
/// mark.
///
/// # Errors
/// See [`Fault`].
pub fn read(path: &Path) -> Result<String, TextError> {
    text_of(&read_bytes(path)?).map_err(|(line, fault)| fault.at(path, line))
}

/// Like [`read`]; returns `None` if the file does not exist.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, TextError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Like `read_if_there`, for a file that the program also writes to and that must be a regular
/// file.
///
/// # Errors
/// See [`Fault`].
pub fn read_own(path: &Path) -> Result<Option<String>, TextError> {
    let regular = open(path).and_then(|file| check_regular(&file.metadata()?));
    match regular.map_err(|fault| fault.of(path)) {
        Ok(()) => read_if_there(path),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a password from the first line in a file.
///
/// # Errors
///
/// See [`Fault`]; an empty line is [`Fault::EmptyFirstLine`].
pub fn read_password(path: &Path) -> Result<String, TextError> {
    first_line(path, &read(path)?)
}

/// Like [`read_password`], for a file to which no other user may have access.
///
/// # Errors
///
/// The same errors as [`read_password`], and also [`Fault::NotPrivate`].
pub fn read_secret_line(path: &Path) -> Result<String, TextError> {
    let text = text_of(&read_secret(path)?).map_err(|(line, fault)| fault.at(path, line))?;
    first_line(path, &text)
}

fn first_line(path: &Path, text: &str) -> Result<String, TextError> {
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Fault::EmptyFirstLine.at(path, 1)),
    }
}

/// Reads a file of any kind to its end, without its byte order mark. Meant for PEM files, which may
/// contain bytes that are not UTF-8 between their blocks.
///
/// # Errors
/// See [`Fault`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, TextError> {
    read_bytes_up_to(path, PIPED_TEXT)
}

/// Like [`read_bytes`], with a limit of `most` bytes for a pipe.
///
/// # Errors
/// See [`Fault`].
pub fn read_bytes_up_to(path: &Path, most: usize) -> Result<Vec<u8>, TextError> {
    let read = || read_to_end(open(path)?, most);
    read().map_err(|fault: Fault| fault.of(path))
}

/// Like [`read_bytes`], for a file to which no other user may have access: see
/// [`Privacy::Secret`].
///
/// # Errors
/// See [`Fault`]; in particular [`Fault::NotPrivate`].
pub fn read_secret(path: &Path) -> Result<Vec<u8>, TextError> {
    let read = || {
        let opened = private::open(OpenOptions::new().read(true), path, Privacy::Secret);
        read_to_end(opened_to_read(path, opened)?, PIPED_TEXT)
    };
    read().map_err(|fault: Fault| fault.of(path))
}

fn read_to_end(mut file: File, most: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.read_to_end(&mut bytes)?;
    } else {
        read_pipe(&mut file, &mut bytes, PIPE_PATIENCE, most)?;
    }
    without_mark(&bytes).map(<[u8]>::to_vec)
}

/// Appends a line to one of the program's own files. Creates the file with mode 0600 if it does not
/// exist. First completes the file's last line if it has no line feed. Uses the file's own line
/// ending.
///
/// # Errors
/// See [`Fault`].
pub fn append_line(path: &Path, line: &str) -> Result<(), TextError> {
    let append = || {
        make_folder_of(path)?;
        let mut file = open_to_append(path)?;
        let end = first_line_end(&mut file)?;
        let begin = if ends_its_line(&mut file)? {
            ""
        } else {
            end.as_str()
        };
        file.write_all(format!("{begin}{line}{}", end.as_str()).as_bytes())?;
        file.sync_all().map_err(Fault::from)
    };
    append().map_err(|fault| fault.of(path))
}

/// Atomically replaces the text of one of the program's own files: after a crash, the file has
/// either the old text or the new one. `text` has LF line endings; the file keeps its own line
/// endings.
///
/// # Errors
/// See [`Fault`].
pub fn replace(path: &Path, text: &str) -> Result<(), TextError> {
    let replace = || {
        make_folder_of(path)?;
        let text = match open(path) {
            Ok(mut before) => text.replace('\n', first_line_end(&mut before)?.as_str()),
            // The file does not exist yet.
            Err(_) => text.to_owned(),
        };
        // Replace the target of a symbolic link, not the link itself.
        let there = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = there.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = there.with_file_name(name);
        let mut file = create_private(&new)?;
        let mut written = || {
            if let Ok(before) = std::fs::metadata(&there) {
                check_regular(&before)?;
                file.set_permissions(before.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &there)?;
            Ok(())
        };
        written().inspect_err(|_: &Fault| drop(std::fs::remove_file(&new)))
    };
    replace().map_err(|fault| fault.of(path))
}

/// Opens a regular file for reading and appending, or creates one with mode 0600.
///
/// # Errors
/// See [`Fault`].
pub fn open_to_append(path: &Path) -> Result<File, Fault> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = at_once(&mut options).open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Like [`open_to_append`], for a file with secrets.
///
/// # Errors
/// See [`Fault`]; in particular [`Fault::NotPrivate`].
pub fn open_private_to_append(path: &Path, privacy: Privacy) -> Result<File, Fault> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = private::open(&options, path, privacy)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// The line ending of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    fn as_str(self) -> &'static str {
        match self {
            LineEnd::Lf => "\n",
            LineEnd::CrLf => "\r\n",
        }
    }
}

/// Returns the line ending of a regular file's first line.
fn first_line_end(file: &mut File) -> Result<LineEnd, Fault> {
    use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut first)?;
    Ok(if first.ends_with(b"\r\n") {
        LineEnd::CrLf
    } else {
        LineEnd::Lf
    })
}

/// Returns whether the file is empty or ends with a line feed.
fn ends_its_line(file: &mut File) -> Result<bool, Fault> {
    use std::io::{Seek as _, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Opens a file for reading, without waiting for the other end of a FIFO.
fn open(path: &Path) -> Result<File, Fault> {
    opened_to_read(path, at_once(OpenOptions::new().read(true)).open(path))
}

fn opened_to_read(path: &Path, opened: io::Result<File>) -> Result<File, Fault> {
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => Fault::DanglingLink,
        _ => error.into(),
    })?;
    if file.metadata()?.is_dir() {
        return Err(Fault::Directory);
    }
    Ok(file)
}

fn check_regular(kind: &std::fs::Metadata) -> Result<(), Fault> {
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(Fault::Directory),
        _ => Err(Fault::NotRegular),
    }
}

/// Makes opening a FIFO or a terminal return without waiting.
fn at_once(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Reads a pipe, a terminal or a device to its end.
fn read_pipe(
    file: &mut File,
    bytes: &mut Vec<u8>,
    patience: Duration,
    most: usize,
) -> Result<(), Fault> {
    let mut chunk = [0; 4096];
    let mut is_fifo_without_writer = is_fifo(file);
    loop {
        match file.read(&mut chunk) {
            Ok(0) if is_fifo_without_writer => return Err(Fault::NoWriter),
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait(file, patience)? {
                    return Err(Fault::Silent);
                }
            }
            Err(error) => return Err(error.into()),
        }
        // If data arrives, or the read would block, the pipe has or had a writer.
        is_fifo_without_writer = false;
        if bytes.len() > most {
            return Err(Fault::Endless(most));
        }
    }
}

#[cfg(unix)]
fn is_fifo(file: &File) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    file.metadata()
        .is_ok_and(|there| there.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_fifo(_: &File) -> bool {
    false
}

/// Waits until the file is readable; returns `false` after `patience`.
#[cfg(unix)]
fn wait(file: &File, patience: Duration) -> Result<bool, Fault> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let most = Timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: patience.subsec_nanos().into(),
    };
    loop {
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&most)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

#[cfg(not(unix))]
fn wait(_: &File, _: Duration) -> Result<bool, Fault> {
    Ok(false)
}

pub(crate) const MARK: &[u8] = "\u{feff}".as_bytes();

/// Removes a byte order mark from the start of a text.
///
/// # Errors
/// [`Fault::Utf16`] if it is a UTF-16 byte order mark, or if one of the first two bytes is NUL.
pub fn without_mark(bytes: &[u8]) -> Result<&[u8], Fault> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => Err(Fault::Utf16),
        _ => Ok(bytes.strip_prefix(MARK).unwrap_or(bytes)),
    }
}

/// Returns a line without its line ending.
///
/// # Errors
///
/// [`Fault::Utf16`], [`Fault::NotUtf8`].
pub fn line_of(bytes: &[u8]) -> Result<&str, Fault> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&0) {
        return Err(Fault::Utf16);
    }
    std::str::from_utf8(line).map_err(|error| {
        let byte = line.get(error.valid_up_to()).copied();
        Fault::NotUtf8(byte.unwrap_or_default())
    })
}

/// Returns the text of a file, with CRLF replaced by LF.
fn text_of(bytes: &[u8]) -> Result<String, (usize, Fault)> {
    let mut text = String::with_capacity(bytes.len());
    for (line, number) in bytes.split_inclusive(|&byte| byte == b'\n').zip(1..) {
        text += line_of(line).map_err(|fault| (number, fault))?;
        if line.ends_with(b"\n") {
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::same_texts;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            let name = format!("portal-chat-text-{test}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir(&folder).unwrap();
            Folder(folder)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_same_text_is_read_from_each_variant() {
        let folder = Folder::new("same");
        for (how, bytes) in same_texts("päss wörd\n\nmore\n") {
            let path = folder.write("text", &bytes);
            let text = read(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines, ["päss wörd", "", "more"], "{how}");
            assert_eq!(read_password(&path).unwrap(), "päss wörd", "{how}");
        }
    }

    #[test]
    fn a_text_that_is_not_utf8_is_refused_with_file_line_and_fix() {
        let folder = Folder::new("other");
        let utf16 = |begin: &[u8], text: &str| {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            begin.iter().copied().chain(units).collect::<Vec<u8>>()
        };
        for (bytes, wanted) in [
            (
                b"one\ntw\xf6\n".to_vec(),
                "text, line 2: the byte 0xF6 is not UTF-8",
            ),
            // A character that is cut off at the end of the file.
            (
                b"one\xc3".to_vec(),
                "text, line 1: the byte 0xC3 is not UTF-8",
            ),
            (utf16(b"\xff\xfe", "one\n"), "text: it is UTF-16"),
            (utf16(b"", "one\n"), "text: it is UTF-16"),
            (b"one\nt\0w\0o\0".to_vec(), "text, line 2: it is UTF-16"),
            (b"\xfe\xff\0o\0n\0e".to_vec(), "text: it is UTF-16"),
        ] {
            let message = read(&folder.write("text", &bytes)).unwrap_err().to_string();
            assert!(
                message.contains(wanted) && message.contains("save"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_appended_line_begins_on_a_new_line() {
        let folder = Folder::new("append");
        let path = folder.0.join("deeper").join("text");
        append_line(&path, "one").unwrap();
        append_line(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap(), "one\ntwo\n");
        std::fs::write(&path, "one").unwrap();
        append_line(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap(), "one\ntwo\n");
        // Appending keeps the file's own line endings.
        std::fs::write(&path, "one\r\ntwo").unwrap();
        append_line(&path, "three").unwrap();
        let bytes = std::fs::read_to_string(&path).unwrap();
        assert_eq!(bytes, "one\r\ntwo\r\nthree\r\n");
        replace(&path, "four\nfive\n").unwrap();
        let bytes = std::fs::read_to_string(&path).unwrap();
        assert_eq!(bytes, "four\r\nfive\r\n");
    }

    #[test]
    fn a_missing_file_is_none_and_a_directory_is_an_error() {
        let folder = Folder::new("missing");
        let missing = folder.0.join("text");
        #[cfg(unix)]
        {
            let link = folder.0.join("link");
            std::os::unix::fs::symlink(&missing, &link).unwrap();
            for refused in [
                read_if_there(&link).unwrap_err(),
                read_own(&link).unwrap_err(),
            ] {
                let message = refused.to_string();
                assert!(message.contains("link: it is a symbolic link"), "{message}");
            }
        }
        assert!(read_if_there(&missing).unwrap().is_none());
        assert!(read_own(&missing).unwrap().is_none());
        for refused in [
            read(&folder.0).unwrap_err(),
            read_own(&folder.0).unwrap_err(),
            append_line(&folder.0, "one").unwrap_err(),
        ] {
            assert!(
                refused.to_string().contains("it is a directory"),
                "{refused}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_to_its_end_without_waiting_forever() {
        use std::os::fd::{AsRawFd as _, OwnedFd};
        let path_of = |pipe: &OwnedFd| PathBuf::from(format!("/dev/fd/{}", pipe.as_raw_fd()));
        let pipe = || rustix::pipe::pipe().unwrap();

        let (reader, writer) = pipe();
        let writing = std::thread::spawn(move || {
            let mut writer = File::from(writer);
            writer.write_all(b"sec").unwrap();
            writer.write_all(b"ret\r\n").unwrap();
        });
        assert_eq!(read_password(&path_of(&reader)).unwrap(), "secret");
        writing.join().unwrap();

        // A pipe whose writer sends nothing.
        let (reader, _writer) = pipe();
        let mut file = open(&path_of(&reader)).unwrap();
        let silent = read_pipe(&mut file, &mut Vec::new(), Duration::ZERO, PIPED_TEXT);
        assert!(matches!(silent, Err(Fault::Silent)), "{silent:?}");

        let (reader, _writer) = pipe();
        let refused = read_own(&path_of(&reader)).unwrap_err().to_string();
        assert!(refused.contains("choose a regular file"), "{refused}");

        let folder = Folder::new("fifo");
        let fifo = folder.0.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for refused in [
            read(&fifo).unwrap_err(),
            read_own(&fifo).unwrap_err(),
            append_line(&fifo, "one").unwrap_err(),
        ] {
            assert!(refused.to_string().contains("a regular file"), "{refused}");
        }
        assert_eq!(read(Path::new("/dev/null")).unwrap(), "");
        let zeros = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(zeros.contains("is not a regular file"), "{zeros}");
    }
}
