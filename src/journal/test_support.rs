//! Folders and events for tests.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use portal_core::clock::Clock;
use portal_core::event::{Event, EventQueue, Events};

/// A folder that is deleted on drop.
pub(crate) struct JournalFolder(PathBuf);

impl JournalFolder {
    pub(crate) fn new(name: &str) -> JournalFolder {
        let name = format!("portal-journal-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        JournalFolder(path)
    }

    /// The journal in the folder.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("journal.db")
    }

    /// Writes other content to the journal's file, readable only by its owner.
    pub(crate) fn write(&self, content: &[u8]) {
        std::fs::write(self.file(), content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(self.file(), private).unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for JournalFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Events, and their reader.
pub(crate) fn events() -> (Events, EventQueue) {
    let mut events = Events::new(Clock::new());
    let queue = events.add_reader(1000);
    (events, queue)
}

/// The events so far.
pub(crate) fn so_far(queue: &EventQueue) -> Vec<Event> {
    queue.events().try_iter().collect()
}
