//! Times on the wire.

use std::time::{Duration, SystemTime};

/// The first second of the year 10000, in seconds since 1970.
const YEAR_10000: u64 = 253_402_300_800;

/// Formats a time as in RFC 3339, in UTC and to the second: `2026-11-29T12:34:56Z`. A time before
/// 1970 or after 9999 becomes the beginning of 1970.
pub fn rfc_3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    humantime::format_rfc3339_seconds(from_seconds(seconds)).to_string()
}

/// Returns the time this many seconds after the beginning of 1970. A number that [`rfc_3339`] can't
/// write becomes the beginning of 1970.
pub fn from_seconds(seconds: u64) -> SystemTime {
    let seconds = if seconds < YEAR_10000 { seconds } else { 0 };
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_written() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_796_000_000, "2026-11-30T00:53:20Z"),
            (YEAR_10000 - 1, "9999-12-31T23:59:59Z"),
            (YEAR_10000, "1970-01-01T00:00:00Z"),
            (u64::MAX, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc_3339(from_seconds(seconds)), written);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc_3339(before), "1970-01-01T00:00:00Z");
    }
}
