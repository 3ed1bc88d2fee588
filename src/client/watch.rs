//! The client's clock and its timeouts.

use std::time::Duration;

use portal_core::clock::{Clock, Deadline, Subscription, Ticks};

/// The length of the client's ticks.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// The client's own timeout (seed 000, revision 1): pings a silent server, and gives up if it stays
/// silent.
pub(super) struct Watch {
    timeout: Option<(Ticks, Ticks)>,
    ping: Option<Deadline>,
    dead: Option<Deadline>,
    /// The deadline for the last replies, once there is nothing more to send.
    end: Option<Deadline>,
}

/// The result of checking the clock.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum IdleCheck {
    Fine,
    Quiet,
    Dead,
    Late,
}

impl Watch {
    pub(super) fn new(
        timeout: Option<Duration>,
        clock: &Clock,
        subscription: &Subscription,
    ) -> Watch {
        let ticks = |timeout: Duration| {
            (
                Ticks::covering(timeout / 4, TICK),
                Ticks::covering(timeout, TICK),
            )
        };
        let mut watch = Watch {
            timeout: timeout.map(ticks),
            ping: None,
            dead: None,
            end: None,
        };
        watch.touch(clock, subscription);
        watch
    }

    pub(super) fn touch(&mut self, clock: &Clock, subscription: &Subscription) {
        let now = clock.now();
        if let Some((ping, dead)) = self.timeout {
            self.ping = Some(Deadline::after(now, ping));
            self.dead = Some(Deadline::after(now, dead));
        }
        self.set_alarm(subscription);
    }

    pub(super) fn look(&mut self, clock: &Clock, subscription: &Subscription) -> IdleCheck {
        let now = clock.now();
        let is_past =
            |deadline: Option<Deadline>| deadline.is_some_and(|deadline| deadline.is_past(now));
        let look = if is_past(self.end) {
            IdleCheck::Late
        } else if is_past(self.dead) {
            IdleCheck::Dead
        } else if is_past(self.ping) {
            self.ping = self.timeout.map(|(ping, _)| Deadline::after(now, ping));
            IdleCheck::Quiet
        } else {
            IdleCheck::Fine
        };
        self.set_alarm(subscription);
        look
    }

    /// Sets the deadline for the last replies, when there is nothing more to send.
    pub(super) fn end_by(&mut self, end: Deadline, subscription: &Subscription) {
        self.end = Some(end);
        self.set_alarm(subscription);
    }

    fn set_alarm(&self, subscription: &Subscription) {
        subscription
            .alarm()
            .set(self.ping.into_iter().chain(self.dead).chain(self.end).min());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_pinged_and_then_given_up() {
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let mut watch = Watch::new(Some(Duration::from_secs(8)), &clock, &subscription);
        let mut looks = Vec::new();
        for _ in 0..9 {
            clock.beat();
            looks.push(watch.look(&clock, &subscription));
        }
        let pings = looks
            .iter()
            .filter(|look| **look == IdleCheck::Quiet)
            .count();
        assert_eq!(
            (pings, looks.last()),
            (2, Some(&IdleCheck::Dead)),
            "{looks:?}"
        );
    }

    #[test]
    fn a_word_from_the_server_starts_the_wait_anew() {
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let mut watch = Watch::new(Some(Duration::from_secs(8)), &clock, &subscription);
        for _ in 0..30 {
            clock.beat();
            watch.touch(&clock, &subscription);
            assert_eq!(watch.look(&clock, &subscription), IdleCheck::Fine);
        }
    }
}
