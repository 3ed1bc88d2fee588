//! The servers that a client has met before, each with its certificate's fingerprint: one file for all of them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Fingerprint;
use crate::files::make_folder_of;

/// The file. A line for each server: host, port, fingerprint.
#[derive(Clone, Debug)]
pub(crate) struct KnownServers {
    path: PathBuf,
}

impl KnownServers {
    /// What is kept at `path`, which need not be there yet.
    pub(crate) fn at(path: PathBuf) -> KnownServers {
        KnownServers { path }
    }

    /// The file's name, for a person who has to change something in it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The fingerprint of the server whose portal is there, if it was met before.
    ///
    /// # Errors
    /// What reading the file reports; `InvalidData` for a line about that server that has no fingerprint: it
    /// must not be taken for one that was never met.
    pub(crate) fn find(&self, host: &str, port: u16) -> io::Result<Option<Fingerprint>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let port = port.to_string();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (there, at) = (words.next(), words.next());
            if there.is_some_and(|there| there.eq_ignore_ascii_case(host)) && at == Some(&*port) {
                let fingerprint = words.next().and_then(|word| word.parse().ok());
                return fingerprint
                    .map(Some)
                    .ok_or(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(None)
    }

    /// Keeps a server that was not there.
    ///
    /// # Errors
    /// What writing reports.
    pub(crate) fn keep(&self, host: &str, port: u16, shown: &Fingerprint) -> io::Result<()> {
        make_folder_of(&self.path)?;
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&self.path)?;
        file.write_all(format!("{host} {port} {shown}\n").as_bytes())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_known_by_host_and_port() {
        let folder = std::env::temp_dir().join(format!("portal-chat-known-{}", std::process::id()));
        let known = KnownServers::at(folder.join("deeper").join("known_servers"));
        assert_eq!(known.find("chat.example", 50000).unwrap(), None);
        let (one, other) = (Fingerprint::of(b"one"), Fingerprint::of(b"other"));
        known.keep("chat.example", 50000, &one).unwrap();
        known.keep("chat.example", 50010, &other).unwrap();
        assert_eq!(known.find("Chat.Example", 50000).unwrap(), Some(one));
        assert_eq!(known.find("chat.example", 50010).unwrap(), Some(other));
        assert_eq!(known.find("chat.example.org", 50000).unwrap(), None);
        // Half a line is no reason to believe anybody.
        fs::write(known.path(), "chat.example 50000 AB:CD\n").unwrap();
        assert!(known.find("chat.example", 50000).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
