//! The file of known servers: each server to which this user has connected, with its certificate's
//! fingerprint.

use std::path::{Path, PathBuf};

use super::Fingerprint;
use portal_cli::text_file::{self, Fault, TextError};

/// The file of known servers. It has one line per server: host, port, fingerprint.
#[derive(Clone, Debug)]
pub struct KnownServers {
    path: PathBuf,
}

impl KnownServers {
    /// Uses the file at `path`, which need not exist yet.
    pub fn at(path: PathBuf) -> KnownServers {
        KnownServers { path }
    }

    /// Returns the file's path, for messages to a user who must edit it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the known fingerprint of the server whose portal is at `host` and `port`, if any.
    ///
    /// # Errors
    /// See [`TextError`]. A line for that server without a valid fingerprint is also an error,
    /// because the server must not count as unknown.
    pub fn find(&self, host: &str, port: u16) -> Result<Option<Fingerprint>, TextError> {
        let text = text_file::read_own(&self.path)?.unwrap_or_default();
        let mut found: Option<(usize, Fingerprint)> = None;
        for (line, number) in text.lines().zip(1..) {
            let at = |reason: String| Fault::Line(reason).at(&self.path, number);
            let mut words = line.split_whitespace();
            if !words.next().is_some_and(|word| is_about(word, host)) {
                continue;
            }
            let there = words.next().and_then(|word| word.parse::<u16>().ok());
            let there = there.ok_or_else(|| {
                at(format!(
                    "the line has no port after {host}; write HOST PORT FINGERPRINT, separated by spaces, or delete the line"
                ))
            })?;
            if there != port {
                continue;
            }
            let fingerprint = words.next().and_then(|word| word.parse().ok());
            let fingerprint = fingerprint.ok_or_else(|| {
                at("the line has no SHA-256 fingerprint; correct or delete the line".to_owned())
            })?;
            match found {
                Some((first, other)) if other != fingerprint => {
                    return Err(at(format!(
                        "line {first} has a different fingerprint for the same server; delete the line that is wrong"
                    )));
                }
                _ => found = Some((number, fingerprint)),
            }
        }
        Ok(found.map(|(_, fingerprint)| fingerprint))
    }

    /// Adds a server that is not in the file yet.
    ///
    /// # Errors
    /// See [`TextError`].
    pub fn keep(&self, host: &str, port: u16, shown: &Fingerprint) -> Result<(), TextError> {
        text_file::append_line(&self.path, &format!("{host} {port} {shown}"))
    }
}

/// Returns whether the first word of a line names the host, even if no space follows the name.
fn is_about(word: &str, host: &str) -> bool {
    let bare = word.strip_prefix('[').unwrap_or(word);
    let Some((begin, rest)) = bare.split_at_checked(host.len()) else {
        return false;
    };
    let rest = rest.strip_prefix(']').unwrap_or(rest);
    // A colon continues an IPv6 address.
    let ends = rest.is_empty()
        || (rest.starts_with(':') && (!host.contains(':') || bare.len() < word.len()))
        || rest.starts_with(['=', ',', ';', '|', '/']);
    begin.eq_ignore_ascii_case(host) && ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        // An editor may remove the line feed at the end of the file.
        let text = fs::read_to_string(known.path()).unwrap();
        fs::write(known.path(), text.trim_end()).unwrap();
        known.keep("chat.example", 50020, &one).unwrap();
        assert_eq!(known.find("chat.example", 50010).unwrap(), Some(other));
        assert_eq!(known.find("chat.example", 50020).unwrap(), Some(one));
        for (how, bytes) in portal_cli::test_support::same_texts(&text) {
            fs::write(known.path(), bytes).unwrap();
            assert_eq!(
                known.find("chat.example", 50000).unwrap(),
                Some(one),
                "{how}"
            );
            assert_eq!(
                known.find("chat.example", 50010).unwrap(),
                Some(other),
                "{how}"
            );
        }
        // An incomplete line must not cause a server to be trusted.
        fs::write(known.path(), "# mine\nchat.example 50000 AB:CD\n").unwrap();
        let refused = known.find("chat.example", 50000).unwrap_err().to_string();
        assert!(refused.contains("known_servers, line 2: "), "{refused}");
        for damaged in [
            "chat.example",
            "chat.example 5000o",
            "CHAT.example AB:CD",
            "chat.example:50000 AB:CD",
            "[chat.example]:50000 AB:CD",
            "chat.example,50000,AB:CD",
            "chat.example 500000 AB:CD",
            "chat.example 50000",
        ] {
            fs::write(known.path(), format!("# mine\n\n{damaged}\n")).unwrap();
            let refused = known.find("chat.example", 50000).unwrap_err().to_string();
            assert!(refused.contains("known_servers, line 3: "), "{refused}");
            assert_eq!(known.find("other.example", 50000).unwrap(), None);
            assert_eq!(known.find("chat.example.org", 50000).unwrap(), None);
        }
        let twice = format!("[::1] 50000 {one}\n::1 50000 {other}\n");
        fs::write(known.path(), twice).unwrap();
        let refused = known.find("::1", 50000).unwrap_err().to_string();
        assert!(refused.contains("line 2: line 1 has a"), "{refused}");
        assert_eq!(known.find("::", 50000).unwrap(), None);
        fs::write(known.path(), format!("[::1] 50000 {one}\n")).unwrap();
        assert_eq!(known.find("::1", 50000).unwrap(), Some(one));
        fs::remove_dir_all(folder).unwrap();
    }
}
