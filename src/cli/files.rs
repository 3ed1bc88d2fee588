//! Locations of the programs' files, and detection of files that are moved or replaced while the
//! server writes to them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The project's folder name inside the user's configuration and state folders.
const FOLDER: &str = "portal-chat";

/// Returns the path of a settings file, or `None` if there is no home directory.
pub fn settings_file(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name);
    let folder = in_home(&variable, "XDG_CONFIG_HOME", ".config")?;
    Some(folder.join(name))
}

/// Returns the path of a file that a program keeps between runs, or `None` if there is no home
/// directory.
pub fn state_file(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name);
    let folder = in_home(&variable, "XDG_STATE_HOME", ".local/state")?;
    Some(folder.join(name))
}

/// Returns the default folder for a server's files with these `names`. This is the current folder
/// (an empty path) if one of the files is there. Otherwise it is systemd's state folder
/// (`/var/lib/portal-chat`) or the user's own.
pub fn server_folder(names: &[&str]) -> PathBuf {
    let is_here = |name: &&str| Path::new(name).symlink_metadata().is_ok();
    if names.iter().any(is_here) {
        return PathBuf::new();
    }
    server_folder_elsewhere(&|name| std::env::var_os(name)).unwrap_or_default()
}

fn server_folder_elsewhere(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // systemd may pass several folders; our unit has one.
    let given = variable("STATE_DIRECTORY").and_then(|folders| {
        let first = std::env::split_paths(&folders).next();
        first.filter(|folder| folder.is_absolute())
    });
    given.or_else(|| in_home(variable, "XDG_STATE_HOME", ".local/state"))
}

/// Creates the folder that contains a server's file, if it is the default folder. A folder that the
/// user specified should already exist; if it does not, its name may be misspelled.
///
/// # Errors
///
/// Any I/O error.
pub fn make_usual_folder_of(file: &Path) -> io::Result<()> {
    let usual = server_folder_elsewhere(&|name| std::env::var_os(name));
    if file.parent() == usual.as_deref() {
        make_folder_of(file)?;
    }
    Ok(())
}

/// Checks whether this user could create `file`, which does not exist: its folder must exist, unless
/// it is the default folder, and the user must be able to write to the nearest one that exists.
///
/// # Errors
///
/// An I/O error that explains why not.
pub fn could_be_made(file: &Path) -> io::Result<()> {
    let whole = std::path::absolute(file)?;
    let folders = whole.ancestors().skip(1);
    let mut there = folders.filter(|folder| folder.exists());
    let folder = there.next().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let usual = server_folder_elsewhere(&|name| std::env::var_os(name));
    if let Some(parent) = whole.parent()
        && parent != folder
        && Some(parent) != usual.as_deref()
    {
        let sentence = format!("the folder {} does not exist", parent.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, sentence));
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    }
    Ok(())
}

/// Returns a folder according to the XDG base directory specification: the variable's value if it
/// is an absolute path, otherwise a folder in the user's home.
fn in_home(
    variable: &dyn Fn(&str) -> Option<OsString>,
    name: &str,
    in_home: &str,
) -> Option<PathBuf> {
    let folder = |name: &str| {
        let path = variable(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let folder = folder(name).or_else(|| Some(folder("HOME")?.join(in_home)))?;
    Some(folder.join(FOLDER))
}

/// Creates the folder of `file` if it does not exist, accessible only by its owner.
///
/// # Errors
///
/// Any I/O error.
pub(crate) fn make_folder_of(file: &Path) -> io::Result<()> {
    let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Returns whether `path` no longer refers to `file`, because the file was deleted, renamed (as log
/// rotation does) or replaced (as most editors do when they save).
///
/// # Errors
///
/// An I/O error if this can't be determined.
#[cfg(unix)]
pub fn is_elsewhere(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) != (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Always `false`: on other systems, an open file can't be replaced.
#[cfg(not(unix))]
pub fn is_elsewhere(_: &File, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Creates a new file that only its owner can read from the moment it is created.
///
/// # Errors
///
/// Any I/O error; `AlreadyExists` if the file exists.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_only_be_made_in_a_folder_that_exists() {
        let here = std::env::temp_dir();
        assert!(could_be_made(&here.join("portal-chat-nothing")).is_ok());
        let missing = here.join("portal-chat-no-folder");
        let error = could_be_made(&missing.join("file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(
            error
                .to_string()
                .contains("portal-chat-no-folder does not exist")
        );
    }

    #[test]
    fn a_servers_files_are_in_the_standard_folders() {
        let files = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(there, _)| *there == name);
                found.map(|(_, value)| OsString::from(value))
            };
            let folder = server_folder_elsewhere(&variable);
            folder.map(|folder| folder.display().to_string())
        };
        let home = ("HOME", "/home/alice");
        let folder = |text: &str| Some(text.to_owned());
        assert_eq!(files(&[]), None, "without a home directory");
        assert_eq!(
            files(&[home]),
            folder("/home/alice/.local/state/portal-chat")
        );
        let own = ("XDG_STATE_HOME", "/state");
        assert_eq!(files(&[home, own]), folder("/state/portal-chat"));
        let relative = ("XDG_STATE_HOME", "state");
        assert_eq!(
            files(&[home, relative]),
            folder("/home/alice/.local/state/portal-chat")
        );
        let service = ("STATE_DIRECTORY", "/var/lib/portal-chat:/var/lib/other");
        assert_eq!(files(&[home, own, service]), folder("/var/lib/portal-chat"));
    }
}
