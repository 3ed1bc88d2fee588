//! Files with secrets: keys, passwords, accounts, events and messages.
//!
//! Such a file must belong to the user who runs the program, or to root, and other users must not
//! have access to it. Otherwise another user could have put it there, or could read it. The checks
//! use the open file, so the file can't be exchanged between the check and its use.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The access that users other than the owner may have to a file, and whether symbolic links to it
/// are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privacy {
    /// A key or a password, which the operator provides and the program only reads. Other users
    /// must have no access, except that a group may read root's file if the program runs as
    /// another user: a service with its own user reads it that way. Links that belong to root or to
    /// this user are followed, because programs that renew certificates replace links.
    Secret,
    /// The accounts, to which the program also writes. Other users must not be able to write to the
    /// file. Symbolic links are not followed, and the caller removes read access.
    Accounts,
    /// A file of events or a journal, to which the program also writes. Its group may read it, for
    /// example so that a log collector can. No link is followed.
    Log,
}

/// The reason why a file with secrets can't be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotPrivate {
    path: PathBuf,
    exposure: Exposure,
}

#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(not(unix), expect(dead_code, reason = "these checks run only on Unix"))]
enum Exposure {
    /// The file is a symbolic link.
    Link,
    /// Another user owns the symbolic link.
    LinkOf { owner: u32 },
    /// There are more links than the system would follow.
    TooManyLinks,
    /// Another user owns the file.
    Owner { owner: u32 },
    /// The permissions in `excess` must be removed.
    Mode {
        mode: u32,
        excess: u32,
        is_owner: bool,
    },
}

impl fmt::Display for NotPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = in_shell(&self.path);
        let user = user();
        let sudo = |is_owner| if is_owner || user == 0 { "" } else { "sudo " };
        match self.exposure {
            Exposure::Link => write!(
                f,
                "it is a symbolic link; use the path of the file itself (`realpath {path}` prints \
                 it)"
            ),
            Exposure::LinkOf { owner } => write!(
                f,
                "the symbolic link {path} belongs to the user with id {owner}, who can point it at \
                 any file; check its target, then run `{}chown -h {user} {path}`",
                sudo(false)
            ),
            Exposure::TooManyLinks => f.write_str(
                "the path contains too many symbolic links; use the path of the file itself",
            ),
            Exposure::Owner { owner } => write!(
                f,
                "it belongs to the user with id {owner}, who can read and replace it; check its \
                 contents, then run `{}chown {user} {path}`",
                sudo(false)
            ),
            Exposure::Mode {
                mode,
                excess,
                is_owner,
            } => {
                let can = match (excess & 0o044 != 0, excess & 0o022 != 0) {
                    (true, true) => "read and change",
                    (false, true) => "change",
                    _ => "read",
                };
                let remove = match excess & 0o070 {
                    0 => "o=",
                    // The group keeps its read access to a log.
                    0o020 => "g-w,o=",
                    _ => "go=",
                };
                write!(
                    f,
                    "other users can {can} it (mode {mode:04o}); run `{}chmod {remove} {path}`",
                    sudo(is_owner)
                )
            }
        }
    }
}

impl std::error::Error for NotPrivate {}

/// For callers that add the file's name themselves.
impl From<NotPrivate> for io::Error {
    fn from(reason: NotPrivate) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, reason)
    }
}

impl NotPrivate {
    #[cfg(unix)]
    fn new(path: &Path, exposure: Exposure) -> NotPrivate {
        NotPrivate {
            path: path.to_owned(),
            exposure,
        }
    }

    /// Returns the reason for the refusal, if a refusal caused this error from [`open`].
    pub fn cause(error: &io::Error) -> Option<&NotPrivate> {
        error.get_ref()?.downcast_ref()
    }
}

/// Opens a file with `options` if only this user or root can have put it there, and other users
/// have no more access than `privacy` allows. A descriptor that the program has inherited, such as
/// `/dev/fd/63` of `<(pass show chat)` or `/dev/stdout`, is not checked.
///
/// # Errors
/// The system's error, with [`NotPrivate`] as its cause if the file is exposed to other users.
#[cfg(unix)]
pub fn open(options: &OpenOptions, path: &Path, privacy: Privacy) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let Some(target) = target(path, privacy)? else {
        return options.clone().custom_flags(AT_ONCE).open(path);
    };
    // If a link has replaced the file in the meantime, it is not followed.
    let opened = options
        .clone()
        .custom_flags(AT_ONCE | libc::O_NOFOLLOW)
        .open(&target);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => NotPrivate::new(&target, Exposure::Link).into(),
        _ => error,
    })?;
    check(&file, &target, privacy)?;
    Ok(file)
}

/// Opens the file without checks, because these apply only to Unix permissions.
#[cfg(not(unix))]
pub fn open(options: &OpenOptions, path: &Path, _: Privacy) -> io::Result<File> {
    options.open(path)
}

/// Flags with which opening a FIFO or a terminal does not wait.
#[cfg(unix)]
const AT_ONCE: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Maximum number of symbolic links that are followed, as in Linux.
#[cfg(unix)]
const MOST_LINKS: usize = 40;

/// Follows the symbolic links at `path`, if `privacy` allows that. Returns `None` if they lead to
/// an open descriptor.
#[cfg(unix)]
fn target(path: &Path, privacy: Privacy) -> io::Result<Option<PathBuf>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        let link = match target.symlink_metadata() {
            Ok(link) if link.is_symlink() => link,
            // If the file does not exist, opening it creates it or returns the error.
            _ => return Ok(Some(target)),
        };
        let folder = target.parent().unwrap_or(Path::new("/"));
        if folder
            .canonicalize()
            .is_ok_and(|folder| folder.starts_with("/proc"))
        {
            return Ok(None);
        }
        if !is_trusted(link.uid()) {
            let owner = link.uid();
            return Err(NotPrivate::new(&target, Exposure::LinkOf { owner }).into());
        }
        target = folder.join(target.read_link()?);
        if privacy != Privacy::Secret && !leads_to_descriptor(&target) {
            return Err(NotPrivate::new(path, Exposure::Link).into());
        }
    }
    Err(NotPrivate::new(path, Exposure::TooManyLinks).into())
}

/// Returns whether a link's target is an open descriptor, as for `/dev/stdout` and `/dev/stderr`.
#[cfg(unix)]
fn leads_to_descriptor(target: &Path) -> bool {
    let folder = target
        .parent()
        .and_then(|folder| folder.canonicalize().ok());
    folder.is_some_and(|folder| folder.starts_with("/proc"))
}

/// Checks the owner and the permissions of an open file.
#[cfg(unix)]
fn check(file: &File, path: &Path, privacy: Privacy) -> Result<(), io::Error> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let there = file.metadata()?;
    if !there.is_file() && !there.file_type().is_fifo() {
        return Ok(());
    }
    let owner = there.uid();
    if !is_trusted(owner) {
        return Err(NotPrivate::new(path, Exposure::Owner { owner }).into());
    }
    let is_owner = owner == user();
    let forbidden = match privacy {
        Privacy::Secret if is_owner => 0o077,
        Privacy::Secret => 0o037,
        Privacy::Accounts => 0o022,
        Privacy::Log => 0o027,
    };
    let mode = there.mode() & 0o7777;
    let excess = mode & forbidden;
    if excess != 0 {
        let exposure = Exposure::Mode {
            mode,
            excess,
            is_owner,
        };
        return Err(NotPrivate::new(path, exposure).into());
    }
    Ok(())
}

#[cfg(unix)]
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == user()
}

/// The id of the user who runs this program.
#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> u32 {
    0
}

/// Returns the path as one word of a shell's command line.
fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    struct TestFolder(PathBuf);

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    impl TestFolder {
        fn new(name: &str) -> TestFolder {
            let name = format!("portal-chat-private-{name}-{}", std::process::id());
            let folder = TestFolder(std::env::temp_dir().join(name));
            std::fs::create_dir_all(&folder.0).unwrap();
            folder
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, "secret\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    const ALL: [Privacy; 3] = [Privacy::Secret, Privacy::Accounts, Privacy::Log];
    /// A user other than root and the tests' own.
    const OTHER: u32 = 54321;

    fn opened(path: &Path, privacy: Privacy) -> Result<(), String> {
        let opened = open(OpenOptions::new().read(true), path, privacy);
        opened.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn excess_permissions_are_refused_with_the_command_that_removes_them() {
        let folder = TestFolder::new("modes");
        for (mode, privacy, command) in [
            (0o600, Privacy::Secret, None),
            (0o400, Privacy::Secret, None),
            (
                0o640,
                Privacy::Secret,
                Some("read it (mode 0640); run `chmod go= "),
            ),
            (
                0o604,
                Privacy::Secret,
                Some("read it (mode 0604); run `chmod o= "),
            ),
            (0o602, Privacy::Secret, Some("change it (mode 0602)")),
            (0o666, Privacy::Secret, Some("read and change it")),
            (0o644, Privacy::Accounts, None),
            (
                0o620,
                Privacy::Accounts,
                Some("change it (mode 0620); run `chmod "),
            ),
            (0o640, Privacy::Log, None),
            (
                0o644,
                Privacy::Log,
                Some("read it (mode 0644); run `chmod o= "),
            ),
            (
                0o660,
                Privacy::Log,
                Some("change it (mode 0660); run `chmod g-w,o= "),
            ),
        ] {
            let path = folder.file("file", mode);
            match (opened(&path, privacy), command) {
                (Ok(()), None) => {}
                (Err(reason), Some(command)) => {
                    assert!(reason.contains(command), "{mode:o} {privacy:?}: {reason}");
                    let (_, command) = reason.split_once("run `").unwrap();
                    let command = command.trim_end_matches('`');
                    let shell = std::process::Command::new("sh")
                        .args(["-c", command])
                        .status();
                    assert!(shell.unwrap().success(), "{command}");
                    assert_eq!(opened(&path, privacy), Ok(()), "after {command}");
                }
                (result, _) => panic!("{mode:o} {privacy:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_link_is_followed_only_to_secrets_that_the_program_does_not_write() {
        let folder = TestFolder::new("links");
        let file = folder.file("file", 0o600);
        let link = folder.0.join("a 'link'");
        symlink("file", &link).unwrap();
        assert_eq!(opened(&link, Privacy::Secret), Ok(()));
        for privacy in [Privacy::Accounts, Privacy::Log] {
            let reason = opened(&link, privacy).unwrap_err();
            assert!(reason.contains("it is a symbolic link"), "{reason}");
            assert!(reason.contains(r"a '\''link'\'''`"), "{reason}");
        }
        // The link's target is checked, too.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let reason = opened(&link, Privacy::Secret).unwrap_err();
        assert!(
            reason.contains(&format!("chmod go= {}", file.display())),
            "{reason}"
        );
        let circle = folder.0.join("circle");
        symlink("circle", &circle).unwrap();
        for privacy in ALL {
            opened(&circle, privacy).unwrap_err();
        }
        // Links to the program's own descriptors.
        for privacy in ALL {
            assert_eq!(opened(Path::new("/dev/null"), privacy), Ok(()));
            assert_eq!(opened(Path::new("/dev/stdin"), privacy), Ok(()));
        }
    }

    #[test]
    fn a_missing_file_is_reported_with_the_systems_error() {
        for privacy in ALL {
            let error = open(
                OpenOptions::new().read(true),
                Path::new("/no/file"),
                privacy,
            );
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_file_or_a_link_of_another_user_is_refused() {
        if user() != 0 {
            crate::output::report(
                "NOT TESTED in part: only root can give a file to another user\n",
            );
            return;
        }
        let folder = TestFolder::new("owners");
        let (ours, theirs) = (folder.file("ours", 0o600), folder.file("theirs", 0o600));
        chown(&theirs, Some(OTHER), None).unwrap();
        for privacy in ALL {
            assert_eq!(opened(&ours, privacy), Ok(()));
            let reason = opened(&theirs, privacy).unwrap_err();
            assert!(reason.contains("the user with id 54321"), "{reason}");
            let command = format!("run `chown 0 {}`", theirs.display());
            assert!(reason.contains(&command), "{reason}");
        }
        let (link, planted) = (folder.0.join("link"), folder.0.join("planted"));
        symlink("theirs", &link).unwrap();
        let reason = opened(&link, Privacy::Secret).unwrap_err();
        assert!(
            reason.contains(&format!("chown 0 {}", theirs.display())),
            "{reason}"
        );
        // Another user's link to our file.
        symlink("ours", &planted).unwrap();
        lchown(&planted, Some(OTHER), None).unwrap();
        for privacy in ALL {
            let reason = opened(&planted, privacy).unwrap_err();
            let command = format!("chown -h 0 {}", planted.display());
            assert!(reason.contains(&command), "{privacy:?}: {reason}");
        }
    }
}
