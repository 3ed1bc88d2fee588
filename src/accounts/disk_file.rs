//! A file to which only this server appends lines.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use portal_cli::files::is_elsewhere;
use portal_cli::private::Privacy;
use portal_cli::text_file::open_private_to_append;

/// An open file, locked against other servers.
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
    /// The length without the remains of a failed write, in bytes.
    length: u64,
    /// `fsync`; a test replaces it to simulate a slow disk.
    sync: Sync,
}

pub(super) type Sync = Box<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

impl DiskFile {
    /// Opens the file, or creates it with mode 0600, and locks it against other servers. Returns
    /// the file with its bytes, and whether other users had access to the file. Any such access has
    /// been removed. `Ok(None)` if another server has locked it.
    ///
    /// # Errors
    /// The system's errors, and `InvalidInput` for a symbolic link: a user with write access to the
    /// folder could point it at another user's file, to which this server would then append.
    pub(super) fn open(path: &Path) -> io::Result<Option<(DiskFile, Vec<u8>, bool)>> {
        let is_new = !path.exists();
        let mut file = open_private_to_append(path, Privacy::Accounts)?;
        let was_open_to_others = keep_to_owner(&file)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_new {
            sync_folder_of(path)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.last().is_some_and(|&last| last != b'\n') {
            // Keep a line torn by a crash, but start the next entry on a new line.
            file.write_all(b"\n").and_then(|()| file.sync_all())?;
        }
        let length = file.metadata()?.len();
        let disk = DiskFile {
            file,
            path: path.to_owned(),
            length,
            sync: Box::new(File::sync_data),
        };
        Ok(Some((disk, bytes, was_open_to_others)))
    }

    /// Returns whether the file at the path is now a different one.
    ///
    /// # Errors
    /// The system's error if the answer is unknown.
    pub(super) fn is_elsewhere(&self) -> io::Result<bool> {
        is_elsewhere(&self.file, &self.path)
    }

    /// Opens the file that is now at the path, and returns the file with its bytes.
    ///
    /// # Errors
    /// The same errors as [`DiskFile::open`], and an error if another server uses the file.
    pub(super) fn reopen(&self) -> io::Result<(DiskFile, Vec<u8>)> {
        let opened = DiskFile::open(&self.path)?;
        let (disk, bytes, _) =
            opened.ok_or_else(|| io::Error::other("another server is using the new file"))?;
        Ok((disk, bytes))
    }

    /// Appends lines and waits until they are on disk. A failed write is undone, so that the next
    /// write does not continue a partial line.
    ///
    /// # Errors
    /// The system's errors.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        // An editor may have changed the file, or part of a failed write may remain. In either
        // case, start on a new line. Truncating to `length` never removes text that the server did
        // not write.
        let length = self.file.metadata()?.len();
        let begin = if length == self.length { "" } else { "\n" };
        self.length = length;
        let text = begin.to_owned() + lines;
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| (self.sync)(&self.file));
        match written {
            Ok(()) => {
                self.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If this fails, too, the next append starts on a new line.
                let _ = self.file.set_len(length);
                Err(error)
            }
        }
    }

    /// Replaces `fsync`.
    #[cfg(test)]
    pub(super) fn sync_with(&mut self, sync: Sync) {
        self.sync = sync;
    }
}

/// Syncs the folder of a new file: the file survives a power cut only if its folder entry is on
/// disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Restricts the file to its owner. Returns whether other users had access to it.
#[cfg(unix)]
fn keep_to_owner(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;

    let mut permissions = file.metadata()?.permissions();
    let is_open = file.metadata()?.is_file() && permissions.mode() & 0o077 != 0;
    if is_open {
        permissions.set_mode(0o600);
        file.set_permissions(permissions)?;
    }
    Ok(is_open)
}

#[cfg(not(unix))]
fn keep_to_owner(_: &File) -> io::Result<bool> {
    Ok(false)
}
