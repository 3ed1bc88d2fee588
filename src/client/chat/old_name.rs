//! Retries the login under a name that the server still holds for the old connection. The name is
//! free again once the server has given up on that connection.
//!
//! A link that breaks silently (a laptop that changes networks) leaves a connection on the server
//! that looks alive for up to `limits::VANISHED_WITHIN`. With a password, the owner of the name can
//! take it over immediately. Without passwords, the server can't tell the owner from another
//! client.

/// The number of the client's ticks between two attempts.
const EVERY: u32 = 10;
/// Maximum number of attempts. Together, they take longer than a server needs to detect that a
/// machine has vanished ([`portal_net::limits::VANISHED_WITHIN`]).
const TIMES: u32 = 25;

/// The user's previous name on this server, and the attempts to get it back.
#[derive(Default)]
pub(super) struct OldName {
    name: Option<String>,
    /// Ticks until the next attempt; 0 if there is none.
    wait: u32,
    asked: u32,
}

/// The reaction to a name that is in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameRefused {
    /// Another user has the name, or the attempts are used up: choose another name.
    GiveUp,
    /// The old connection probably has the name: retry later, and report this the first time.
    AskLater { is_first: bool },
}

impl OldName {
    /// Records that the server has accepted `name`.
    pub(super) fn had(&mut self, name: &str) {
        *self = OldName {
            name: Some(name.to_owned()),
            ..OldName::default()
        };
    }

    /// Stops the attempts, because there is a new link, or the user wants another name.
    pub(super) fn stop(&mut self) {
        (self.wait, self.asked) = (0, 0);
    }

    /// Handles the error that `name` is in use.
    pub(super) fn refused(&mut self, name: &str) -> NameRefused {
        let is_ours = self
            .name
            .as_ref()
            .is_some_and(|had| had.eq_ignore_ascii_case(name));
        if !is_ours || self.asked == TIMES {
            self.stop();
            return NameRefused::GiveUp;
        }
        self.wait = EVERY;
        self.asked += 1;
        NameRefused::AskLater {
            is_first: self.asked == 1,
        }
    }

    /// Counts a tick. Returns whether it is time to retry.
    pub(super) fn is_due(&mut self) -> bool {
        let was_waiting = self.wait > 0;
        self.wait = self.wait.saturating_sub(1);
        was_waiting && self.wait == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_one_had_is_asked_for_until_the_ghost_must_have_gone() {
        let mut old = OldName::default();
        assert_eq!(old.refused("alice"), NameRefused::GiveUp);
        old.had("alice");
        assert_eq!(old.refused("bob"), NameRefused::GiveUp);
        for time in 0..TIMES {
            let is_first = time == 0;
            assert_eq!(old.refused("Alice"), NameRefused::AskLater { is_first });
            let due: Vec<bool> = (0..EVERY).map(|_| old.is_due()).collect();
            assert_eq!(due.iter().filter(|&&due| due).count(), 1);
            assert!(due.last().unwrap());
            assert!(!old.is_due());
        }
        assert_eq!(old.refused("alice"), NameRefused::GiveUp);
        let asked_for = crate::watch::TICK * EVERY * TIMES;
        assert!(asked_for > portal_net::limits::VANISHED_WITHIN);
    }

    #[test]
    fn who_chooses_another_name_is_asked_no_more() {
        let mut old = OldName::default();
        old.had("alice");
        old.refused("alice");
        old.stop();
        assert!((0..2 * EVERY).all(|_| !old.is_due()));
    }
}
