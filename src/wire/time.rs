//! Times on the wire.

use std::time::{Duration, SystemTime};

/// The first second of the year 10000, in seconds since the Unix epoch.
const YEAR_10000: u64 = 253_402_300_800;

/// Formats a time as in RFC 3339, in UTC and to the millisecond: `2026-11-29T12:34:56.789Z`. A time
/// before 1970 or after 9999 becomes the Unix epoch.
pub fn rfc_3339(time: SystemTime) -> String {
    let is_writable =
        |time: &SystemTime| *time < SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_10000);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok();
    let time = since.map(|_| time).filter(is_writable);
    humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

/// Returns the number of microseconds from the Unix epoch to `time`; 0 for an earlier time.
pub fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// Returns the time this many microseconds after the Unix epoch. A number that [`rfc_3339`] can't
/// write becomes the Unix epoch.
pub fn from_microseconds(microseconds: u64) -> SystemTime {
    from_seconds(microseconds / 1_000_000) + Duration::from_micros(microseconds % 1_000_000)
}

/// Returns the time this many seconds after the Unix epoch. A number that [`rfc_3339`] can't write
/// becomes the Unix epoch.
pub fn from_seconds(seconds: u64) -> SystemTime {
    let seconds = if seconds < YEAR_10000 { seconds } else { 0 };
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Reads a time that [`rfc_3339`] has written.
pub fn read_rfc_3339(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// The longest duration that [`read_duration`] accepts, in seconds: about a hundred years.
const LONGEST_DURATION: u64 = 100 * 365 * 24 * 60 * 60;

/// Reads a duration such as `30s`, `10m`, `2h` or `7d`: a number of at least 1 with a unit.
pub fn read_duration(text: &str) -> Option<Duration> {
    let is_number_with_unit = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let read = humantime::parse_duration(text).ok();
    let read = read.map(|duration| Duration::from_secs(duration.as_secs()));
    read.filter(|duration| {
        is_number_with_unit && (1..=LONGEST_DURATION).contains(&duration.as_secs())
    })
}

/// Formats a duration in its largest fitting unit, rounded up: `45 seconds`, `10 minutes`,
/// `3 days`.
pub fn duration_in_words(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds.div_ceil(MINUTE), "minute"),
        7200..172_800 => (seconds.div_ceil(HOUR), "hour"),
        _ => (seconds.div_ceil(DAY), "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_written() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_796_000_000, "2026-11-30T00:53:20.000Z"),
            (YEAR_10000 - 1, "9999-12-31T23:59:59.000Z"),
            (YEAR_10000, "1970-01-01T00:00:00.000Z"),
            (u64::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc_3339(from_seconds(seconds)), written);
        }
        assert_eq!(from_seconds(YEAR_10000), SystemTime::UNIX_EPOCH);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc_3339(before), "1970-01-01T00:00:00.000Z");
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_10000);
        assert_eq!(rfc_3339(after), "1970-01-01T00:00:00.000Z");
        let then = from_microseconds(1_796_000_000_123_456);
        assert_eq!(rfc_3339(then), "2026-11-30T00:53:20.123Z");
        assert_eq!(microseconds(then), 1_796_000_000_123_456);
        assert_eq!(microseconds(before), 0);
    }

    #[test]
    fn a_written_time_can_be_read() {
        let time = from_seconds(1_796_000_000);
        assert_eq!(read_rfc_3339(&rfc_3339(time)), Some(time));
        assert_eq!(read_rfc_3339("tomorrow"), None);
    }

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, seconds) in [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("10min", Some(600)),
            ("2h", Some(7200)),
            ("7d", Some(604_800)),
            ("2w", Some(1_209_600)),
            ("10", None),
            ("0s", None),
            ("m", None),
            ("-1m", None),
            ("1.5h", None),
            ("36500d", Some(3_153_600_000)),
            ("36501d", None),
            ("101y", None),
            ("99999999999999999999d", None),
            ("spam", None),
            ("", None),
        ] {
            let read = read_duration(text).map(|duration| duration.as_secs());
            assert_eq!(read, seconds, "{text}");
        }
    }

    #[test]
    fn a_duration_in_words_is_rounded_up() {
        for (seconds, words) in [
            (1, "1 second"),
            (119, "119 seconds"),
            (121, "3 minutes"),
            (600, "10 minutes"),
            (7201, "3 hours"),
            (86_400, "24 hours"),
            (172_801, "3 days"),
        ] {
            assert_eq!(duration_in_words(Duration::from_secs(seconds)), words);
        }
    }
}
