//! Times as they are sent, and the calendar of reports.
//!
//! Every time becomes microseconds since the epoch, UTC. Read are RFC 3339 (offsets also as `+0200` and `+02`, a
//! space in place of the `T`); `YYYY-MM-DD[T ]HH:MM:SS[.f]` and `YYYY-MM-DD` (midnight), in a configured zone; and
//! epoch seconds (below 10^11), milliseconds (below 10^14) or microseconds, as number or digits, with or without a
//! fraction. Fractions of a microsecond are floored. Refused are dates that do not exist, leap seconds (`:60`), and
//! everything outside the years 1970 to 9999 in UTC.
//!
//! Local times that a change of clocks makes ambiguous are the earlier instant; those that it skips are taken with
//! the offset from before the change, as RFC 5545 and `java.time` do.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::money::{NumberError, Rounding, parse_scaled};

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of an hour.
pub const HOUR: i64 = 3600 * SECOND;
/// Microseconds of a day.
pub const DAY: i64 = 24 * HOUR;

/// The first instant of the year 10000.
const END: i64 = 253_402_300_800 * SECOND;

/// Why a text or number is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// None of the accepted forms.
    #[error("not a time")]
    NotATime,
    /// The right form, but no such date or time of day.
    #[error("no such date or time of day")]
    NoSuchTime,
    /// Outside the years 1970 to 9999, UTC.
    #[error("outside the years 1970 to 9999")]
    OutOfRange,
}

/// A text as a time; what has no offset of its own is in `zone`. Spaces around it are ignored.
pub fn parse_time(text: &str, zone: Tz) -> Result<i64, TimeError> {
    let bytes = text.trim_ascii().as_bytes();
    if bytes.len() >= 10 && bytes[4] == b'-' && bytes[..4].iter().all(u8::is_ascii_digit) {
        parse_date_time(bytes, zone)
    } else {
        parse_epoch(text)
    }
}

/// A decimal number as a time: seconds, milliseconds or microseconds by its magnitude.
pub fn parse_epoch(text: &str) -> Result<i64, TimeError> {
    let scaled = |scale: i32| parse_scaled(text, scale, Rounding::Floor);
    let from_number = |error: NumberError| match error {
        NumberError::OutOfRange => TimeError::OutOfRange,
        NumberError::NotANumber | NumberError::Fraction => TimeError::NotATime,
    };
    let whole = scaled(0).map_err(from_number)?;
    let micros = scaled(epoch_unit(whole).1).map_err(from_number)?;
    in_range(i64::try_from(micros).map_err(|_| TimeError::OutOfRange)?)
}

/// An integer as a time: seconds, milliseconds or microseconds by its magnitude.
pub fn time_from_integer(value: i64) -> Result<i64, TimeError> {
    let (factor, _) = epoch_unit(value.into());
    in_range(value.checked_mul(factor).ok_or(TimeError::OutOfRange)?)
}

/// A double as a time, by its shortest decimal.
pub fn time_from_f64(value: f64) -> Result<i64, TimeError> {
    if !value.is_finite() {
        return Err(TimeError::NotATime);
    }
    parse_epoch(&format!("{value:e}"))
}

/// Local wall-clock microseconds (as if they were UTC) as a time in `zone`.
pub fn time_from_local(local: i64, zone: Tz) -> Result<i64, TimeError> {
    if zone == Tz::UTC {
        return in_range(local);
    }
    let wall = DateTime::from_timestamp_micros(local).ok_or(TimeError::OutOfRange)?.naive_utc();
    in_range(local.checked_sub(offset_of_local(wall, zone)).ok_or(TimeError::OutOfRange)?)
}

/// A time, if it is in the accepted years.
pub fn in_range(micros: i64) -> Result<i64, TimeError> {
    if (0..END).contains(&micros) { Ok(micros) } else { Err(TimeError::OutOfRange) }
}

/// The microseconds in the unit of an epoch number, and their power of ten.
fn epoch_unit(whole: i128) -> (i64, i32) {
    match whole.unsigned_abs() {
        0..100_000_000_000 => (1_000_000, 6),
        100_000_000_000..100_000_000_000_000 => (1_000, 3),
        _ => (1, 0),
    }
}

/// `bytes` has at least ten bytes, the first four of them digits, the fifth a hyphen.
fn parse_date_time(bytes: &[u8], zone: Tz) -> Result<i64, TimeError> {
    let year = i64::from(two_digits(bytes, 0)?) * 100 + i64::from(two_digits(bytes, 2)?);
    let (month, day) = (two_digits(bytes, 5)?, two_digits(bytes, 8)?);
    if bytes[7] != b'-' {
        return Err(TimeError::NotATime);
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(TimeError::NoSuchTime);
    }
    let midnight = days_from_civil(year, month, day) * DAY;
    if bytes.len() == 10 {
        return time_from_local(midnight, zone);
    }
    if bytes.len() < 19 || !matches!(bytes[10], b'T' | b't' | b' ') || bytes[13] != b':' || bytes[16] != b':' {
        return Err(TimeError::NotATime);
    }
    let (hour, minute, second) = (two_digits(bytes, 11)?, two_digits(bytes, 14)?, two_digits(bytes, 17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return Err(TimeError::NoSuchTime);
    }
    let (fraction, rest) = match &bytes[19..] {
        [b'.', digits @ ..] => parse_fraction(digits)?,
        rest => (0, rest),
    };
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    let local = midnight + seconds * SECOND + fraction;
    match rest {
        [] => time_from_local(local, zone),
        [b'Z' | b'z'] => in_range(local),
        _ => in_range(local - parse_offset(rest)?),
    }
}

fn two_digits(bytes: &[u8], at: usize) -> Result<u32, TimeError> {
    match bytes.get(at..at + 2) {
        Some(&[tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => Ok(u32::from(tens - b'0') * 10 + u32::from(ones - b'0')),
        _ => Err(TimeError::NotATime),
    }
}

/// The digits after the point as microseconds, floored, and what follows them.
fn parse_fraction(bytes: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err(TimeError::NotATime);
    }
    let mut micros = 0;
    let padded = bytes[..digits].iter().copied().chain(std::iter::repeat(b'0'));
    for digit in padded.take(6) {
        micros = micros * 10 + i64::from(digit - b'0');
    }
    Ok((micros, &bytes[digits..]))
}

/// `+02:00`, `+0200` or `+02`, in microseconds.
fn parse_offset(bytes: &[u8]) -> Result<i64, TimeError> {
    let sign = match bytes.first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(TimeError::NotATime),
    };
    let hours = two_digits(bytes, 1)?;
    let minutes = match bytes.len() {
        3 => 0,
        5 => two_digits(bytes, 3)?,
        6 if bytes[3] == b':' => two_digits(bytes, 4)?,
        _ => return Err(TimeError::NotATime),
    };
    if hours > 23 || minutes > 59 {
        return Err(TimeError::NoSuchTime);
    }
    Ok(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60) * SECOND)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the epoch of a proleptic Gregorian date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The month (1 to 12) of a day since the epoch, from the same source.
fn month_of(days: i64) -> u32 {
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u32
}

/// The offset from UTC, in microseconds, that turns this wall clock into an instant.
fn offset_of_local(wall: NaiveDateTime, zone: Tz) -> i64 {
    let micros = |offset: <Tz as TimeZone>::Offset| i64::from(offset.fix().local_minus_utc()) * SECOND;
    match zone.offset_from_local_datetime(&wall) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => micros(offset),
        // No change skips more than a day (Samoa, 2011), so 25 hours before the skipped time is before the change.
        MappedLocalTime::None => match zone.offset_from_local_datetime(&(wall - TimeDelta::hours(25))) {
            MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => micros(offset),
            MappedLocalTime::None => 0,
        },
    }
}

/// The offset from UTC at an instant, in microseconds.
fn offset_at(micros: i64, zone: Tz) -> i64 {
    match DateTime::from_timestamp_micros(micros) {
        Some(instant) => {
            i64::from(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()) * SECOND
        }
        None => 0,
    }
}

/// The UTC day of an instant, in days since the epoch: the partition it is stored in.
pub fn event_date(micros: i64) -> i32 {
    micros.div_euclid(DAY) as i32
}

/// The instant at which the local hour of an instant begins. Where a change of clocks falls within an hour, an hour
/// begins with it.
pub fn hour_start(micros: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return micros - micros.rem_euclid(HOUR);
    }
    let offset = offset_at(micros, zone);
    let start = micros - (micros + offset).rem_euclid(HOUR);
    if offset_at(start, zone) == offset {
        return start;
    }
    first_instant(start, micros, |instant| offset_at(instant, zone) == offset)
}

/// The instant at which the local day of an instant begins: midnight, or the end of the change of clocks that skips
/// it; the earlier of two midnights.
pub fn day_start(micros: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return micros - micros.rem_euclid(DAY);
    }
    let date = |instant: i64| (instant + offset_at(instant, zone)).div_euclid(DAY);
    let day = date(micros);
    let midnight = day * DAY;
    if let Some(wall) = DateTime::from_timestamp_micros(midnight) {
        let start = midnight - offset_of_local(wall.naive_utc(), zone);
        // Both hold on all days but those on which midnight is skipped.
        if date(start) == day && date(start - 1) < day {
            return start;
        }
    }
    first_instant(midnight - 2 * DAY, micros, |instant| date(instant) >= day)
}

/// The first second after `before` (where `holds` does not) and up to `after` (where it does) at which `holds`; it
/// changes once in between.
fn first_instant(before: i64, after: i64, holds: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (before.div_euclid(SECOND), after.div_euclid(SECOND));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle * SECOND) { high = middle } else { low = middle }
    }
    high * SECOND
}

/// The parts of a local time by which campaigns are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeParts {
    /// `night` (0 to 5 h), `morning` (6 to 11 h), `afternoon` (12 to 17 h) or `evening` (18 to 23 h).
    pub part_of_day: &'static str,
    /// `weekday` (Monday to Friday) or `weekend`.
    pub day_type: &'static str,
    /// Meteorological, northern hemisphere: `winter` (December to February), `spring`, `summer`, `autumn`.
    pub season: &'static str,
}

/// The parts of an instant in `zone`.
pub fn time_parts(micros: i64, zone: Tz) -> TimeParts {
    let local = if zone == Tz::UTC { micros } else { micros + offset_at(micros, zone) };
    let days = local.div_euclid(DAY);
    TimeParts {
        part_of_day: part_of_day(local.rem_euclid(DAY) / HOUR),
        day_type: day_type(days),
        season: season(month_of(days)),
    }
}

fn part_of_day(hour: i64) -> &'static str {
    match hour {
        ..6 => "night",
        6..12 => "morning",
        12..18 => "afternoon",
        18.. => "evening",
    }
}

fn day_type(days: i64) -> &'static str {
    // 1970-01-01 was a Thursday; 0 is Monday.
    if (days + 3).rem_euclid(7) >= 5 { "weekend" } else { "weekday" }
}

fn season(month: u32) -> &'static str {
    match month {
        3..=5 => "spring",
        6..=8 => "summer",
        9..=11 => "autumn",
        _ => "winter",
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate, Timelike};
    use chrono_tz::{America, Australia, Europe, Pacific};
    use proptest::prelude::*;

    use super::TimeError::*;
    use super::*;

    /// 2024-02-29T12:34:56Z.
    const LEAP_DAY: i64 = 1_709_210_096 * SECOND;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Result<i64, TimeError>| {
            assert_eq!(parse_time(text, Tz::UTC), expected, "{text:?}");
        };
        check("2024-02-29T12:34:56Z", Ok(LEAP_DAY));
        check("2024-02-29t12:34:56z", Ok(LEAP_DAY));
        check("2024-02-29 12:34:56", Ok(LEAP_DAY));
        check(" 2024-02-29T12:34:56 ", Ok(LEAP_DAY));
        check("2024-02-29T12:34:56.5Z", Ok(LEAP_DAY + 500_000));
        check("2024-02-29T12:34:56.123456999999Z", Ok(LEAP_DAY + 123_456));
        check("2024-02-29T12:34:56.000001", Ok(LEAP_DAY + 1));
        check("2024-02-29T14:34:56+02:00", Ok(LEAP_DAY));
        check("2024-02-29 14:34:56.25+0200", Ok(LEAP_DAY + 250_000));
        check("2024-02-29T07:04:56-05:30", Ok(LEAP_DAY));
        check("2024-02-29T14:34:56+02", Ok(LEAP_DAY));
        check("2024-02-29T12:34:56-00:00", Ok(LEAP_DAY));
        check("2024-02-29", Ok(LEAP_DAY - 45_296 * SECOND));
        check("1970-01-01T00:00:00Z", Ok(0));
        check("9999-12-31T23:59:59.999999Z", Ok(END - 1));
        check("1969-12-31T23:59:59Z", Err(OutOfRange));
        check("1970-01-01T00:00:00+01:00", Err(OutOfRange));
        check("9999-12-31T23:59:59-01:00", Err(OutOfRange));
        check("0001-01-01T00:00:00Z", Err(OutOfRange));
        for text in [
            "2023-02-29T00:00:00Z",
            "1900-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-04-31",
            "2024-01-00",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+01:60",
        ] {
            check(text, Err(NoSuchTime));
        }
        for text in [
            "",
            " ",
            "yesterday",
            "2024-01-01T",
            "2024-01-01T00:00",
            "2024-01-01T00:00:00.",
            "2024-01-01T00:00:00.Z",
            "2024-01-01X00:00:00Z",
            "2024-01-01T00:00:00ZZ",
            "2024-01-01T00:00:00+1",
            "2024-01-01T00:00:00 Z",
            "2024/01/01",
            "01-02-2024",
            "2024-1-01 00:00:00",
            "2024-01-01T00:00:00+01:0",
            "20240101T000000Z",
            "2024-01-01T0a:00:00Z",
            "+2024-01-01",
            "２０２４-01-01",
            "1e",
            "NaN",
        ] {
            check(text, Err(NotATime));
        }
    }

    #[test]
    fn epochs() {
        let check = |text: &str, expected: Result<i64, TimeError>| {
            assert_eq!(parse_time(text, Tz::UTC), expected, "{text:?}");
        };
        check("0", Ok(0));
        check("1709210096", Ok(LEAP_DAY));
        check("1709210096000", Ok(LEAP_DAY));
        check("1709210096000000", Ok(LEAP_DAY));
        check("1709210096.1234569", Ok(LEAP_DAY + 123_456));
        check("1709210096000.1239", Ok(LEAP_DAY + 123));
        check("1709210096000000.9", Ok(LEAP_DAY));
        check("1.709210096e9", Ok(LEAP_DAY));
        check("99999999999", Ok(99_999_999_999 * SECOND));
        check("100000000000", Ok(100_000_000 * SECOND));
        check("99999999999999", Ok(99_999_999_999_999 * 1000));
        check("100000000000000", Ok(100_000_000 * SECOND));
        check("-1", Err(OutOfRange));
        check("-0.0000001", Err(OutOfRange));
        check("253402300800000000", Err(OutOfRange));
        check("1e30", Err(OutOfRange));
        check("1e300", Err(OutOfRange));
        assert_eq!(time_from_integer(1_709_210_096), Ok(LEAP_DAY));
        assert_eq!(time_from_integer(1_709_210_096_000), Ok(LEAP_DAY));
        assert_eq!(time_from_integer(LEAP_DAY), Ok(LEAP_DAY));
        assert_eq!(time_from_integer(i64::MIN), Err(OutOfRange));
        assert_eq!(time_from_f64(1_709_210_096.25), Ok(LEAP_DAY + 250_000));
        assert_eq!(time_from_f64(f64::NAN), Err(NotATime));
    }

    #[test]
    fn zones_and_changes_of_clocks() {
        let check = |text: &str, zone: Tz, expected: &str| {
            assert_eq!(parse_time(text, zone), parse_time(expected, Tz::UTC), "{text} in {zone}");
        };
        check("2024-07-01 12:00:00", Europe::Berlin, "2024-07-01T10:00:00Z");
        check("2024-07-01 12:00:00Z", Europe::Berlin, "2024-07-01T12:00:00Z");
        check("2024-07-01", America::New_York, "2024-07-01T04:00:00Z");
        // Skipped: the offset from before the change.
        check("2024-03-31 02:30:00", Europe::Berlin, "2024-03-31T01:30:00Z");
        check("2011-12-30 12:00:00", Pacific::Apia, "2011-12-30T22:00:00Z");
        // Twice: the earlier.
        check("2024-10-27 02:30:00", Europe::Berlin, "2024-10-27T00:30:00Z");
    }

    #[test]
    fn hours_and_days_begin() {
        let time = |text: &str| parse_time(text, Tz::UTC).unwrap();
        let check = |text: &str, zone: Tz, hour: &str, day: &str| {
            assert_eq!(hour_start(time(text), zone), time(hour), "hour of {text} in {zone}");
            assert_eq!(day_start(time(text), zone), time(day), "day of {text} in {zone}");
        };
        check("2024-07-01T12:34:56.789Z", Tz::UTC, "2024-07-01T12:00:00Z", "2024-07-01T00:00:00Z");
        check("2024-07-01T12:34:56Z", Europe::Berlin, "2024-07-01T12:00:00Z", "2024-06-30T22:00:00Z");
        check("2024-07-01T12:34:56Z", chrono_tz::Asia::Kolkata, "2024-07-01T12:30:00Z", "2024-06-30T18:30:00Z");
        // The hour that comes twice is two hours, and its day is one.
        check("2024-10-27T00:30:00Z", Europe::Berlin, "2024-10-27T00:00:00Z", "2024-10-26T22:00:00Z");
        check("2024-10-27T01:30:00Z", Europe::Berlin, "2024-10-27T01:00:00Z", "2024-10-26T22:00:00Z");
        check("2024-10-27T22:59:59Z", Europe::Berlin, "2024-10-27T22:00:00Z", "2024-10-26T22:00:00Z");
        // Lord Howe: half an hour back at 02:00 (15:00 UTC), half an hour forward at 02:00 (15:30 UTC).
        let howe = Australia::Lord_Howe;
        check("2024-04-06T14:59:59Z", howe, "2024-04-06T14:00:00Z", "2024-04-06T13:00:00Z");
        check("2024-04-06T15:10:00Z", howe, "2024-04-06T15:00:00Z", "2024-04-06T13:00:00Z");
        check("2024-04-06T15:30:00Z", howe, "2024-04-06T15:30:00Z", "2024-04-06T13:00:00Z");
        check("2024-10-05T15:40:00Z", howe, "2024-10-05T15:30:00Z", "2024-10-05T13:30:00Z");
        // Beirut and Sao Paulo skip midnight; Havana has it twice.
        let sao_paulo = America::Sao_Paulo;
        check("2018-11-04T12:30:00Z", sao_paulo, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z");
        check("2024-11-03T12:30:00Z", America::Havana, "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z");
        // Samoa had no 30 December 2011.
        check("2011-12-30T10:30:00Z", Pacific::Apia, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z");
        check("2011-12-30T09:30:00Z", Pacific::Apia, "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z");
    }

    #[test]
    fn parts() {
        let check = |text: &str, zone: Tz, expected: (&str, &str, &str)| {
            let parts = time_parts(parse_time(text, Tz::UTC).unwrap(), zone);
            assert_eq!((parts.part_of_day, parts.day_type, parts.season), expected, "{text} in {zone}");
        };
        check("1970-01-01T00:00:00Z", Tz::UTC, ("night", "weekday", "winter"));
        check("2024-03-01T06:00:00Z", Tz::UTC, ("morning", "weekday", "spring"));
        check("2024-02-29T17:59:59Z", Tz::UTC, ("afternoon", "weekday", "winter"));
        check("2024-08-31T18:00:00Z", Tz::UTC, ("evening", "weekend", "summer"));
        check("2024-09-01T23:59:59Z", Tz::UTC, ("evening", "weekend", "autumn"));
        check("2024-09-01T23:59:59Z", Europe::Berlin, ("night", "weekday", "autumn"));
    }

    #[test]
    fn dates() {
        assert_eq!(event_date(0), 0);
        assert_eq!(event_date(DAY - 1), 0);
        assert_eq!(event_date(DAY), 1);
        assert_eq!(event_date(-1), -1);
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(micros in 0..END) {
            let instant = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(parse_time(&instant.to_rfc3339(), Tz::UTC), Ok(micros));
            prop_assert_eq!(parse_time(&instant.format("%Y-%m-%d %H:%M:%S%.6f").to_string(), Tz::UTC), Ok(micros));
            prop_assert_eq!(month_of(micros.div_euclid(DAY)), instant.month());
        }

        #[test]
        fn accepts_the_dates_that_exist(year in 1970i32..=9999, month in 0u32..15, day in 0u32..35) {
            let expected = NaiveDate::from_ymd_opt(year, month, day)
                .map(|date| date.and_time(Default::default()).and_utc().timestamp_micros());
            prop_assert_eq!(parse_time(&format!("{year:04}-{month:02}-{day:02}"), Tz::UTC).ok(), expected);
        }

        #[test]
        fn starts_are_stable(
            micros in 0..4_000_000_000i64 * SECOND,
            zone in prop::sample::select(vec![
                Europe::Berlin, America::New_York, America::Sao_Paulo, America::Havana, Australia::Lord_Howe,
                Pacific::Apia, chrono_tz::Asia::Kathmandu, chrono_tz::Asia::Beirut, chrono_tz::Africa::Cairo,
            ]),
        ) {
            let hour = hour_start(micros, zone);
            prop_assert!(hour <= micros && micros - hour < HOUR);
            prop_assert_eq!(hour_start(hour, zone), hour);
            let day = day_start(micros, zone);
            prop_assert!(day <= micros && micros - day < 26 * HOUR);
            prop_assert_eq!(day_start(day, zone), day);
            let local = |at: i64| zone.from_utc_datetime(&DateTime::from_timestamp_micros(at).unwrap().naive_utc());
            prop_assert_eq!(local(day).date_naive(), local(micros).date_naive());
            prop_assert_eq!(local(hour).hour(), local(micros).hour());
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = parse_time(&text, Europe::Berlin);
        }

        #[test]
        fn never_panics_on_near_times(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[.+Z-]?[0-9:é]{0,8}") {
            let _ = parse_time(&text, America::New_York);
        }
    }
}
