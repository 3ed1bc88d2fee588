//! Coming back to a server that still knows the old connection: its name is free once that has been
//! given up.
//!
//! A link that breaks without a word (a laptop that changes its network) leaves a connection at the
//! server that looks alive for up to `limits::VANISHED_WITHIN`. With a password its owner takes the
//! name over at once; without passwords, nobody can tell the owner from another.

/// How many ticks of the client pass between two questions.
const EVERY: u32 = 10;
/// Number of attempts: longer than a server needs to find that a machine has vanished
/// ([`portal_net::limits::VANISHED_WITHIN`]).
const TIMES: u32 = 25;

/// The name that this person has had here, and how long it is still asked for.
#[derive(Default)]
pub(super) struct OldName {
    name: Option<String>,
    /// Ticks until it is asked for again; 0: it is not waited for.
    wait: u32,
    asked: u32,
}

/// What to do when the name is refused because somebody has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameRefused {
    /// Somebody else's, or it has been theirs for too long: choose another.
    GiveUp,
    /// Most likely the old connection's: ask later, and say so if this is the first time.
    AskLater { is_first: bool },
}

impl OldName {
    /// The server has let us in under `name`.
    pub(super) fn had(&mut self, name: &str) {
        *self = OldName {
            name: Some(name.to_owned()),
            ..OldName::default()
        };
    }

    /// The link is another one, or the person wants another name: nothing is waited for.
    pub(super) fn stop(&mut self) {
        (self.wait, self.asked) = (0, 0);
    }

    /// `name` is somebody's.
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

    /// A tick has passed. Returns whether to ask now.
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
