//! Distinguishes a vanished peer from one that does not read.

use std::time::{Duration, Instant};

use portal_net::Delivery;

/// Measures how long a peer's kernel has left data or window probes unanswered.
///
/// A receiver that does not read closes its window, but its kernel still acknowledges retransmitted
/// data and window probes. Both stay unanswered only if the peer has vanished or the network is
/// down.
#[derive(Default)]
pub(super) struct Silence {
    /// The start of the silence, if an answer is overdue.
    since: Option<Instant>,
}

impl Silence {
    /// Checks the connection at `now`. Returns whether the silence has lasted for `limit`.
    pub(super) fn lasts(&mut self, delivery: &Delivery, now: Instant, limit: Duration) -> bool {
        if !delivery.awaits_answer() {
            self.since = None;
            return false;
        }
        // The last answer may be older than the last data sent, because an idle peer has nothing to
        // acknowledge.
        let answered = now.checked_sub(delivery.since_acknowledgement);
        let since = self.since.unwrap_or(now).max(answered.unwrap_or(now));
        self.since = Some(since);
        now.saturating_duration_since(since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(100);
    const IDLE: Delivery = Delivery {
        unacknowledged: 0,
        unanswered_probes: 0,
        since_sent: Duration::from_secs(3600),
        since_acknowledgement: Duration::from_secs(3600),
    };

    /// Returns the number of the check at which the peer is considered vanished. There is one check
    /// every 10 s.
    fn given_up_at(looks: impl IntoIterator<Item = Delivery>) -> Option<usize> {
        let (mut silence, begin) = (
            Silence::default(),
            Instant::now() + Duration::from_secs(7200),
        );
        looks
            .into_iter()
            .enumerate()
            .position(|(number, delivery)| {
                let now = begin + Duration::from_secs(10) * number as u32;
                silence.lasts(&delivery, now, LIMIT)
            })
    }

    fn sent_again(number: u64, acknowledged_before: u64) -> Delivery {
        Delivery {
            unacknowledged: 3,
            since_sent: Duration::from_secs(number % 5),
            since_acknowledgement: Duration::from_secs(acknowledged_before),
            ..IDLE
        }
    }

    #[test]
    fn a_vanished_peer_is_given_up_one_limit_after_the_silence_begins() {
        // The peer had been idle for an hour.
        let vanished = (0..20).map(|number| sent_again(number, 3600 + 10 * number));
        assert_eq!(given_up_at(vanished), Some(10));
        // The peer's window was closed, so the kernel sends window probes.
        let probed = (0..20).map(|number| Delivery {
            unanswered_probes: 2,
            since_acknowledgement: Duration::from_secs(10 * number),
            ..IDLE
        });
        assert_eq!(given_up_at(probed), Some(10));
    }

    #[test]
    fn a_peer_whose_kernel_answers_is_never_given_up() {
        assert_eq!(given_up_at((0..100).map(|_| IDLE)), None);
        // On older kernels, window probes are two minutes apart, and one may be lost.
        let probed = (0..100).map(|number| Delivery {
            unanswered_probes: u8::from(number % 24 < 12),
            since_acknowledgement: Duration::from_secs(10 * (number % 24)),
            ..IDLE
        });
        assert_eq!(given_up_at(probed), None);
        // A busy connection: at each check, the last segment is not acknowledged yet.
        let busy = (0..100).map(|_| Delivery {
            unacknowledged: 1,
            since_sent: Duration::ZERO,
            since_acknowledgement: Duration::from_millis(1),
            ..IDLE
        });
        assert_eq!(given_up_at(busy), None);
        // Data that does not fit into a shrunken window is retransmitted, and rejected each time.
        let refused = (0..100).map(|number| Delivery {
            unacknowledged: 1,
            since_sent: Duration::from_secs(10 * (number % 12) + 1),
            since_acknowledgement: Duration::from_secs(10 * (number % 12) + 1),
            ..IDLE
        });
        assert_eq!(given_up_at(refused), None);
        // An outage shorter than the limit.
        let outage = (0..9).map(|number| sent_again(number, 10 * number));
        let outages = outage.clone().chain([IDLE]).chain(outage);
        assert_eq!(given_up_at(outages), None);
    }
}
