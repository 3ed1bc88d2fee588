//! Whether a browser that says nothing is still there: its system may answer for it while it sleeps.
//!
//! A phone that goes to sleep closes no socket, and TCP's keepalive is answered by what never sleeps in it. So
//! the framing's own ping is sent, which only the browser answers.

use crate::clock::{Deadline, Tick, Ticks};

/// When the browser in a seat was read from last, and whether it has been asked since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    every: Ticks,
    next: Deadline,
    is_asked: bool,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Ask it.
    Ask,
    /// It was asked, and has not answered for as long again: it is not there.
    GiveUp,
}

impl Probe {
    /// It is there at `now`, and asked after `every`.
    pub(crate) fn new(every: Ticks, now: Tick) -> Probe {
        Probe {
            every,
            next: Deadline::after(now, every),
            is_asked: false,
        }
    }

    /// Something has come from it.
    pub(crate) fn alive(&mut self, now: Tick) {
        *self = Probe::new(self.every, now);
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Deadline {
        self.next
    }

    /// A look at the time.
    pub(crate) fn look(&mut self, now: Tick) -> Option<Look> {
        if !self.next.is_past(now) {
            return None;
        }
        self.next = Deadline::after(now, self.every);
        let look = if self.is_asked {
            Look::GiveUp
        } else {
            Look::Ask
        };
        self.is_asked = true;
        Some(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_is_silent_is_asked_once_and_given_up_when_there_is_no_answer() {
        let second = Duration::from_secs(1);
        let mut probe = Probe::new(Ticks::covering(second * 3, second), Tick(10));
        let looks = |probe: &mut Probe, ticks: std::ops::Range<u64>| -> Vec<(u64, Look)> {
            ticks
                .filter_map(|tick| Some((tick, probe.look(Tick(tick))?)))
                .collect()
        };
        let asked = looks(&mut probe, 10..16);
        assert_eq!(asked.len(), 1);
        let (at, look) = asked[0];
        assert_eq!(look, Look::Ask);
        probe.alive(Tick(16));
        assert_eq!(looks(&mut probe, 16..(16 + at - 10)), []);
        let silent = looks(&mut probe, (16 + at - 10)..30);
        assert_eq!(silent[0].1, Look::Ask);
        assert_eq!(silent[1].1, Look::GiveUp);
    }
}
