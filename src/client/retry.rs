//! Retries for a seat: pauses, limits and messages.

use std::time::Duration;

use super::options::Options;
use super::seek::{ClientSeat, SeekError, find_seat};

/// The pause after FULL (seed 000, rule 7).
const FULL_PAUSE: Duration = Duration::from_secs(2);
/// Maximum number of consecutive rejections by the worker; more than that can't be a coincidence.
const TURNED_AWAY: u32 = 3;
/// Maximum number of consecutive connections that the portal closes without an answer, and the
/// pause between them.
const HUNG_UP: u32 = 8;
const HUNG_UP_PAUSE: Duration = Duration::from_millis(500);

/// Retries until the client has a seat, or until another attempt would be pointless.
///
/// # Errors
///
/// A [`SeekError`] with the reason.
pub(super) fn find_first_seat(
    options: &Options,
    report: &dyn Fn(&str),
) -> Result<ClientSeat, SeekError> {
    let mut tries = Tries::default();
    loop {
        let error = match find_seat(options) {
            Ok(seat) => return Ok(seat),
            Err(error) => error,
        };
        let pause = tries.pause_after(&error, options);
        let Some(pause) = pause else {
            return Err(error);
        };
        report(&tries.describe(&error));
        std::thread::sleep(pause);
    }
}

/// Counts the failed attempts to get a seat.
#[derive(Default)]
pub(super) struct Tries {
    full: u32,
    turned_away: u32,
    hung_up: u32,
}

impl Tries {
    /// Returns the pause before the next attempt, or `None` if another attempt is pointless or not
    /// allowed.
    pub(super) fn pause_after(&mut self, error: &SeekError, options: &Options) -> Option<Duration> {
        match error {
            SeekError::Full => {
                self.full += 1;
                self.turned_away = 0;
                self.hung_up = 0;
                options
                    .retry
                    .is_none_or(|most| self.full <= most)
                    .then_some(FULL_PAUSE)
            }
            SeekError::TurnedAway => {
                self.turned_away += 1;
                (self.turned_away < TURNED_AWAY).then_some(Duration::ZERO)
            }
            SeekError::PortalHungUp { .. } => {
                self.hung_up += 1;
                (self.hung_up < HUNG_UP).then(|| HUNG_UP_PAUSE + jitter(HUNG_UP_PAUSE))
            }
            _ => None,
        }
    }

    pub(super) fn describe(&self, error: &SeekError) -> String {
        match error {
            SeekError::PortalHungUp { address, .. } => {
                format!("the portal at {address} closed the connection; asking again")
            }
            SeekError::Full => format!(
                "the server is full (attempt {}); trying again in 2 s (press Ctrl-C to give up)",
                self.full
            ),
            other => format!("{other}; asking the portal again"),
        }
    }
}

/// Returns a random extra delay of up to a quarter of `pause`, so that a class that has lost its
/// server does not reconnect all at the same time.
pub(super) fn jitter(pause: Duration) -> Duration {
    // Without random numbers, all clients retry at the same time, which is no worse than having no
    // jitter.
    let part = getrandom::u32().unwrap_or(0) % 256;
    pause * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_is_asked_again_as_often_as_allowed() {
        let mut options = Options {
            server: String::new(),
            port: 1,
            username: None,
            compat: None,
            callback: None,
            portal: crate::options::PortalProtocol::Tcp,
            retry: Some(2),
            password: None,
            commands: false,
            history: None,
            reconnect: false,
            server_timeout: None,
            color: false,
            dial: portal_net::Connector::default(),
            tls: None,
            trace: crate::trace::TraceOut::default(),
        };
        let mut tries = Tries::default();
        let pauses: Vec<_> = (0..3)
            .map(|_| tries.pause_after(&SeekError::Full, &options))
            .collect();
        assert_eq!(pauses, [Some(FULL_PAUSE), Some(FULL_PAUSE), None]);
        // After the portal hangs up, the client retries, but not forever.
        let hung_up = || SeekError::PortalHungUp {
            address: ([127, 0, 0, 1], 1).into(),
            error: std::io::ErrorKind::UnexpectedEof.into(),
        };
        let again = (0..HUNG_UP)
            .filter(|_| tries.pause_after(&hung_up(), &options).is_some())
            .count();
        assert_eq!(again, HUNG_UP as usize - 1);
        options.retry = None;
        assert_eq!(
            tries.pause_after(&SeekError::Full, &options),
            Some(FULL_PAUSE)
        );
    }
}
