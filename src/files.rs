//! Files that somebody may move away or replace while the server writes to them.

use std::fs::File;
use std::io;
use std::path::Path;

/// Whether `file` is no longer what `path` names: it was deleted, renamed (as log rotation does), or
/// replaced by another (as most editors do when they save).
///
/// # Errors
/// What the system says when it can't tell.
#[cfg(unix)]
pub(crate) fn is_elsewhere(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) != (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Elsewhere a file that is open can't be replaced.
#[cfg(not(unix))]
pub(crate) fn is_elsewhere(_: &File, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// A new file that its owner alone can read, from the first moment on.
///
/// # Errors
/// What the system reports; `AlreadyExists` for one that is there.
#[cfg(feature = "tls")]
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}
