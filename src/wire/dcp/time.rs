//! Timestamps: what `Date.parse` accepts in practice, and what `toISOString` writes.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::domain::clock::Millis;

/// Length of a timestamp as written, in bytes: `2026-01-02T03:04:05.678Z`.
pub const TIMESTAMP_BYTES: usize = 24;

/// Longest text that is looked at; the longest sensible one, with nanoseconds and offset, has 35 bytes.
const MAX_TEXT_BYTES: usize = 64;

/// 9999-12-30T22:00:00.999Z, the last moment that the calendar can show.
const LAST: i64 = 253_402_207_200_999;

/// The moment that `text` names; `None` if it names none.
///
/// Accepts RFC 3339 with `Z` or an offset, with or without a fraction; the same without zone, taken as UTC
/// (JavaScript takes its own local time, which no other machine knows); and a date alone, taken as its first
/// moment in UTC. A fraction finer than milliseconds is cut off. A moment before 1970 becomes 1970, for it is
/// a valid date, only far from any that matters.
#[must_use]
pub fn parse(text: &str) -> Option<Millis> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    Some(Millis(u64::try_from(moment.as_millisecond()).unwrap_or(0)))
}

/// `at` as `toISOString` writes it, without touching the heap. Moments past the year 9999 show as its end.
#[must_use]
pub fn to_bytes(at: Millis) -> [u8; TIMESTAMP_BYTES] {
    let millis = i64::try_from(at.0).unwrap_or(LAST).min(LAST);
    let moment = Offset::UTC.to_datetime(Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX));
    let mut out = *b"0000-00-00T00:00:00.000Z";
    put(&mut out[0..4], moment.year());
    put(&mut out[5..7], i16::from(moment.month()));
    put(&mut out[8..10], i16::from(moment.day()));
    put(&mut out[11..13], i16::from(moment.hour()));
    put(&mut out[14..16], i16::from(moment.minute()));
    put(&mut out[17..19], i16::from(moment.second()));
    put(&mut out[20..23], moment.millisecond());
    out
}

/// Appends `at` to `out`, as [`to_bytes`] writes it.
pub fn write_to(at: Millis, out: &mut Vec<u8>) {
    out.extend_from_slice(&to_bytes(at));
}

/// `at` as text, as [`to_bytes`] writes it.
#[must_use]
pub fn format(at: Millis) -> String {
    to_bytes(at).iter().map(|byte| char::from(*byte)).collect()
}

/// Fills `digits` with the decimal digits of `number`, which is not negative, last one last.
fn put(digits: &mut [u8], number: i16) {
    let mut rest = number.unsigned_abs();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: Millis = Millis(1_767_323_045_678);

    #[test]
    fn the_spellings_in_use_name_the_same_moment() {
        for text in [
            "2026-01-02T03:04:05.678Z",
            "2026-01-02T03:04:05.678999Z",
            "2026-01-02T03:04:05.678901234+00:00",
            "2026-01-02T05:34:05.678+02:30",
            "2026-01-01T19:04:05.678-08:00",
            "2026-01-02T03:04:05.678",
        ] {
            assert_eq!(parse(text), Some(SAMPLE), "{text}");
        }
        assert_eq!(parse("2026-01-02T03:04:05Z"), Some(Millis(1_767_323_045_000)));
        assert_eq!(parse("2026-01-02T03:04:05"), Some(Millis(1_767_323_045_000)));
        assert_eq!(parse("2026-01-02T03:04"), Some(Millis(1_767_323_040_000)));
        assert_eq!(parse("2026-01-02"), Some(Millis(1_767_312_000_000)));
        assert_eq!(parse("1900-01-01T00:00:00Z"), Some(Millis(0)));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        let long = format!("2026-01-02T03:04:05.{}Z", "6".repeat(60));
        for text in ["", "now", "1767323045678", "2026-13-01", "2026-02-30T00:00:00Z", "2026-01-02T25:00:00Z", &long] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_written_as_javascript_does() {
        assert_eq!(format(SAMPLE), "2026-01-02T03:04:05.678Z");
        assert_eq!(format(Millis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(format(Millis(951_782_400_007)), "2000-02-29T00:00:00.007Z");
        assert_eq!(format(Millis(u64::MAX)), "9999-12-30T22:00:00.999Z");
        let mut out = b"at ".to_vec();
        write_to(SAMPLE, &mut out);
        assert_eq!(out, b"at 2026-01-02T03:04:05.678Z");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(millis in 0..=u64::try_from(LAST).unwrap()) {
            prop_assert_eq!(parse(&format(Millis(millis))), Some(Millis(millis)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,70}|[0-9TZ:.+ -]{0,40}") {
            prop_assert!(parse(&text).is_none_or(|at| at.0 <= u64::try_from(LAST).unwrap()));
        }
    }
}
