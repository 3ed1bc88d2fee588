//! Detects a suspended client: its kernel still answers TCP keepalives, so the server sends a ping
//! of the client's own protocol, which only the program answers.

use crate::clock::{Deadline, Tick, Ticks};

/// The tick by which a client must have sent something, and whether it has been pinged.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    every: Ticks,
    next: Deadline,
    pinged_at: Option<Tick>,
}

/// The action to take for a silent client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeepaliveAction {
    /// Ping the client.
    Ping,
    /// Disconnect the client, which has not answered the ping.
    GiveUp,
}

impl Keepalive {
    /// Creates the keepalive of a client that connects at `now`. The client is pinged whenever it
    /// has been silent for `every`.
    pub fn new(every: Ticks, now: Tick) -> Keepalive {
        Keepalive {
            every,
            next: Deadline::after(now, every),
            pinged_at: None,
        }
    }

    /// The time of the next check.
    pub fn deadline(&self) -> Deadline {
        self.next
    }

    /// Checks a client whose last input was read at `read_at`.
    pub(crate) fn check(&mut self, now: Tick, read_at: Option<Tick>) -> Option<KeepaliveAction> {
        if !self.next.is_past(now) {
            return None;
        }
        let quiet_until = read_at.map(|read_at| Deadline::after(read_at, self.every));
        if let Some(next) = quiet_until.filter(|until| !until.is_past(now)) {
            (self.next, self.pinged_at) = (next, None);
            return None;
        }
        self.next = Deadline::after(now, self.every);
        let pinged_at = self.pinged_at.replace(now);
        Some(match pinged_at {
            Some(pinged_at) if read_at < Some(pinged_at) => KeepaliveAction::GiveUp,
            _ => KeepaliveAction::Ping,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_silent_client_is_pinged_once_and_then_given_up() {
        let second = Duration::from_secs(1);
        let mut keepalive = Keepalive::new(Ticks::covering(second * 3, second), Tick(10));
        let mut actions = |ticks: std::ops::Range<u64>, read_at: Option<u64>| {
            let at = |tick| Some((tick, keepalive.check(Tick(tick), read_at.map(Tick))?));
            ticks.filter_map(at).collect::<Vec<_>>()
        };
        let ping = KeepaliveAction::Ping;
        assert_eq!(actions(10..16, None), [(14, ping)]);
        // The client answers, and then sends something else.
        assert_eq!(actions(16..20, Some(16)), []);
        assert_eq!(actions(20..22, Some(18)), []);
        assert_eq!(actions(22..23, Some(18)), [(22, ping)]);
        // Input in the same tick as the ping counts as an answer.
        assert_eq!(actions(23..30, Some(22)), [(26, ping)]);
        assert_eq!(actions(30..31, Some(22)), [(30, KeepaliveAction::GiveUp)]);
    }
}
