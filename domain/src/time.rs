//! Parses times as they are sent, and computes the calendar of reports.
//!
//! Every time becomes microseconds since the epoch, UTC. These forms are read:
//!
//! - RFC 3339. The offset may also be `+0200` or `+02`. A space may stand for the `T`.
//! - `YYYY-MM-DD[T ]HH:MM[:SS[.f]]` and `YYYY-MM-DD` (midnight), in a configured zone.
//! - Basic ISO 8601 (`20260301T100000Z`).
//! - Epoch seconds (below 10^11), milliseconds (below 10^14) or microseconds, as a number or as
//!   digits, with or without a fraction.
//! - Other forms that a [`TimeFormat`] names.
//!
//! A fraction may have a comma in place of the point. A space may separate `Z`, `UTC` or an offset
//! from the time of day. Fractions of a microsecond are floored. A leap second (`:60`) is the
//! second after it. Dates that do not exist are refused, and so is everything outside the years
//! 1970 to 9999 in UTC.
//!
//! A change of clocks makes some local times ambiguous. They are the earlier instant. It skips
//! others. They get the offset from before the change, as in RFC 5545 and `java.time`.

mod format;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

pub use self::format::{TimeFormat, TimeFormatError};
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

/// Parses a text as a time. A time without an offset is in `zone`. Spaces around it are ignored.
pub fn parse_time(text: &str, zone: Tz) -> Result<i64, TimeError> {
    let bytes = text.trim_ascii().as_bytes();
    if is_extended(bytes) {
        parse_date_time(bytes, zone)
    } else if is_basic(bytes) {
        parse_basic(bytes, zone)
    } else {
        parse_epoch(text)
    }
}

/// Whether [`parse_time`] reads a text as an epoch number and not as a date.
pub fn is_epoch(text: &str) -> bool {
    let bytes = text.trim_ascii().as_bytes();
    !is_extended(bytes) && !is_basic(bytes)
}

/// Whether a text begins like `2026-03-01`.
fn is_extended(bytes: &[u8]) -> bool {
    bytes.len() >= 10 && bytes[4] == b'-' && bytes[..4].iter().all(u8::is_ascii_digit)
}

/// Whether a text begins like `20260301T1000`.
fn is_basic(bytes: &[u8]) -> bool {
    bytes.len() >= 13 && matches!(bytes[8], b'T' | b't' | b' ') && bytes[..8].iter().all(u8::is_ascii_digit)
}

/// Parses a decimal number as a time. Its magnitude decides between seconds, milliseconds and
/// microseconds.
pub fn parse_epoch(text: &str) -> Result<i64, TimeError> {
    let micros = Epoch::read(text)?.micros;
    in_range(i64::try_from(micros).map_err(|_| TimeError::OutOfRange)?)
}

/// An epoch number, whether or not it is in the accepted years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Its unit: seconds, milliseconds or microseconds.
    pub unit: &'static str,
    /// The time, in microseconds.
    pub micros: i128,
}

impl Epoch {
    /// Parses a decimal number.
    pub fn read(text: &str) -> Result<Epoch, TimeError> {
        let scaled = |scale: i32| parse_scaled(text, scale, Rounding::Floor);
        let from_number = |error: NumberError| match error {
            NumberError::OutOfRange => TimeError::OutOfRange,
            NumberError::NotANumber | NumberError::Fraction => TimeError::NotATime,
        };
        let whole = scaled(0).map_err(from_number)?;
        let (_, scale, unit) = epoch_unit(whole);
        Ok(Epoch { unit, micros: scaled(scale).map_err(from_number)? })
    }
}

/// An integer as a time. Its magnitude decides between seconds, milliseconds and microseconds.
pub fn time_from_integer(value: i64) -> Result<i64, TimeError> {
    let (factor, ..) = epoch_unit(value.into());
    in_range(value.checked_mul(factor).ok_or(TimeError::OutOfRange)?)
}

/// A double as a time, through its shortest decimal.
pub fn time_from_f64(value: f64) -> Result<i64, TimeError> {
    if !value.is_finite() {
        return Err(TimeError::NotATime);
    }
    parse_epoch(&format!("{value:e}"))
}

/// Converts a local time in `zone` to a time in UTC. `local` is in microseconds, as if it were UTC.
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

/// For an epoch number: the microseconds in its unit, their power of ten, and the unit's name.
fn epoch_unit(whole: i128) -> (i64, i32, &'static str) {
    match whole.unsigned_abs() {
        0..100_000_000_000 => (1_000_000, 6, "seconds"),
        100_000_000_000..100_000_000_000_000 => (1_000, 3, "milliseconds"),
        _ => (1, 0, "microseconds"),
    }
}

/// `bytes` has at least ten bytes. The first four are digits, the fifth is a hyphen.
fn parse_date_time(bytes: &[u8], zone: Tz) -> Result<i64, TimeError> {
    if let Some(([year, month, day], clock, rest)) = well_formed(bytes) {
        return date_and_clock(midnight(year.into(), month, day)?, clock, rest, zone);
    }
    let (month, day) = (two_digits(bytes, 5)?, two_digits(bytes, 8)?);
    if bytes[7] != b'-' {
        return Err(TimeError::NotATime);
    }
    let midnight = midnight(year(bytes)?, month, day)?;
    if bytes.len() == 10 {
        return time_from_local(midnight, zone);
    }
    if bytes.len() < 16 || !matches!(bytes[10], b'T' | b't' | b' ') || bytes[13] != b':' {
        return Err(TimeError::NotATime);
    }
    let (hour, minute) = (two_digits(bytes, 11)?, two_digits(bytes, 14)?);
    match &bytes[16..] {
        [b':', ..] => {
            let clock = [hour, minute, two_digits(bytes, 17)?];
            date_and_clock(midnight, clock, &bytes[19..], zone)
        }
        rest => date_and_minute(midnight, [hour, minute], rest, zone),
    }
}

/// `bytes` has at least thirteen bytes. The first eight are digits.
fn parse_basic(bytes: &[u8], zone: Tz) -> Result<i64, TimeError> {
    let midnight = midnight(year(bytes)?, two_digits(bytes, 4)?, two_digits(bytes, 6)?)?;
    let (hour, minute) = (two_digits(bytes, 9)?, two_digits(bytes, 11)?);
    match &bytes[13..] {
        [b'0'..=b'9', ..] => {
            let clock = [hour, minute, two_digits(bytes, 13)?];
            date_and_clock(midnight, clock, &bytes[15..], zone)
        }
        rest => date_and_minute(midnight, [hour, minute], rest, zone),
    }
}

fn year(bytes: &[u8]) -> Result<i64, TimeError> {
    Ok(i64::from(two_digits(bytes, 0)?) * 100 + i64::from(two_digits(bytes, 2)?))
}

fn midnight(year: i64, month: u32, day: u32) -> Result<i64, TimeError> {
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(TimeError::NoSuchTime);
    }
    Ok(days_from_civil(year, month, day) * DAY)
}

/// `rest` follows the minutes, where there are no seconds. A minute has no fraction.
fn date_and_minute(midnight: i64, clock: [u32; 2], rest: &[u8], zone: Tz) -> Result<i64, TimeError> {
    match rest {
        [b'.' | b',', ..] => Err(TimeError::NotATime),
        rest => date_and_clock(midnight, [clock[0], clock[1], 0], rest, zone),
    }
}

/// `rest` follows the seconds.
fn date_and_clock(midnight: i64, clock: [u32; 3], rest: &[u8], zone: Tz) -> Result<i64, TimeError> {
    let [hour, minute, second] = clock;
    // Second 60 is a leap second. It counts as the first second of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeError::NoSuchTime);
    }
    let (fraction, rest) = match rest {
        [b'.' | b',', digits @ ..] => parse_fraction(digits)?,
        rest => (0, rest),
    };
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    let local = midnight + seconds * SECOND + fraction;
    match rest {
        [] => time_from_local(local, zone),
        [b'Z' | b'z'] | [b' ', b'Z' | b'z'] => in_range(local),
        [b' ', name @ ..] if name.eq_ignore_ascii_case(b"UTC") => in_range(local),
        offset => in_range(local - parse_offset(offset.strip_prefix(b" ").unwrap_or(offset))?),
    }
}

/// Parses `2025-06-01T12:30:00`, eight bytes at a time. Returns year, month and day, then hour,
/// minute and second, then the bytes that follow. `None`: a digit or a separator is not where it
/// should be.
fn well_formed(bytes: &[u8]) -> Option<([u32; 3], [u32; 3], &[u8])> {
    let (&[a, b, c, d, e, f, g, h, day_tens, day_ones, t, ref clock @ ..], rest) = bytes.split_first_chunk::<19>()?;
    let (date, date_is_good) = pairs([a, b, c, d, e, f, g, h], *b"0000-00-");
    let (clock, clock_is_good) = pairs(*clock, *b"00:00:00");
    let (tens, ones) = (day_tens.wrapping_sub(b'0'), day_ones.wrapping_sub(b'0'));
    if !(date_is_good && clock_is_good && tens <= 9 && ones <= 9 && matches!(t, b'T' | b't' | b' ')) {
        return None;
    }
    let at = |pairs: u64, place: u32| (pairs >> (8 * place)) as u32 & 0xff;
    let date = [at(date, 0) * 100 + at(date, 2), at(date, 5), u32::from(tens) * 10 + u32::from(ones)];
    Some((date, [at(clock, 0), at(clock, 3), at(clock, 6)], rest))
}

/// Parses eight bytes that should look like `pattern`, in which `0` stands for any digit and any
/// other byte for itself. Returns whether `text` matches. If so, each byte of the number holds the
/// value (0 to 99) of the two digits that begin there, the lowest byte first. A separator counts as
/// digit 0.
fn pairs(text: [u8; 8], pattern: [u8; 8]) -> (u64, bool) {
    const NIBBLES: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ABOVE_NINE: u64 = 0x0606_0606_0606_0606;
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(pattern);
    // A correct separator is 0 after the XOR. A wrong one may be below 10 and look like a digit, so
    // separators are checked for 0 on their own.
    let marks = u64::from_le_bytes(pattern.map(|byte| if byte == b'0' { 0 } else { 0xff }));
    let is_good = (digits | digits.wrapping_add(ABOVE_NINE)) & NIBBLES == 0 && digits & marks == 0;
    (digits.wrapping_mul(10).wrapping_add(digits >> 8), is_good)
}

fn two_digits(bytes: &[u8], at: usize) -> Result<u32, TimeError> {
    match bytes.get(at..at + 2) {
        Some(&[tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => Ok(u32::from(tens - b'0') * 10 + u32::from(ones - b'0')),
        _ => Err(TimeError::NotATime),
    }
}

/// Parses the digits after the point as microseconds, floored. Also returns what follows them.
fn parse_fraction(bytes: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let (mut micros, mut unit) = (0, SECOND);
    let mut rest = bytes;
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        unit /= 10;
        micros += i64::from(digit - b'0') * unit;
        rest = after;
    }
    if rest.len() == bytes.len() { Err(TimeError::NotATime) } else { Ok((micros, rest)) }
}

/// Parses `+02:00`, `+0200` or `+02` as microseconds.
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

/// Days from the epoch to a date of the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The month (1 to 12) of a day since the epoch. From the same source.
fn month_of(days: i64) -> u32 {
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u32
}

/// The year, month and day of a day since the epoch, in the proleptic Gregorian calendar. From the
/// same source.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + shifted.div_euclid(146_097) * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// The offset from UTC of a local time, in microseconds.
fn offset_of_local(wall: NaiveDateTime, zone: Tz) -> i64 {
    let micros = |offset: <Tz as TimeZone>::Offset| i64::from(offset.fix().local_minus_utc()) * SECOND;
    match zone.offset_from_local_datetime(&wall) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => micros(offset),
        // No change skips more than a day (Samoa, 2011). So 25 hours before the skipped time is
        // before the change.
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

/// The UTC day of an instant, in days since the epoch. It is the partition of the event.
pub fn event_date(micros: i64) -> i32 {
    micros.div_euclid(DAY) as i32
}

/// The instant at which the local hour of an instant begins. A change of clocks within an hour
/// begins a new hour.
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

/// The instant at which the local day of an instant begins: midnight, and the earlier one if there
/// are two. If a change of clocks skips midnight, the day begins at the end of the change.
pub fn day_start(micros: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return micros - micros.rem_euclid(DAY);
    }
    let date = |instant: i64| (instant + offset_at(instant, zone)).div_euclid(DAY);
    let day = date(micros);
    let midnight = day * DAY;
    if let Some(wall) = DateTime::from_timestamp_micros(midnight) {
        let start = midnight - offset_of_local(wall.naive_utc(), zone);
        // Both conditions hold on all days except those whose midnight is skipped.
        if date(start) == day && date(start - 1) < day {
            return start;
        }
    }
    first_instant(midnight - 2 * DAY, micros, |instant| date(instant) >= day)
}

/// The first hour of a zone that begins on a UTC date, or after it.
pub fn first_hour_of(date: i32, zone: Tz) -> i64 {
    let begin = i64::from(date) * DAY;
    let begins = |instant: i64| hour_start(instant, zone) >= begin;
    if begins(begin) { begin } else { first_instant(begin, begin + 3 * HOUR, begins) }
}

/// The first day of a zone that begins on a UTC date, or after it.
pub fn first_day_of(date: i32, zone: Tz) -> i64 {
    let begin = i64::from(date) * DAY;
    let begins = |instant: i64| day_start(instant, zone) >= begin;
    if begins(begin) { begin } else { first_instant(begin, begin + 3 * DAY, begins) }
}

/// The first second from which on `holds` is true. It is false at `before`, true at `after`, and
/// changes once between them.
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
    /// `night` (0 to 5 h), `morning` (6 to 11 h), `afternoon` (12 to 17 h) or `evening` (18 to 23
    /// h).
    pub part_of_day: &'static str,
    /// `weekday` (Monday to Friday) or `weekend`.
    pub day_type: &'static str,
    /// Meteorological, northern hemisphere: `winter` (December to February), `spring`, `summer`,
    /// `autumn`.
    pub season: &'static str,
}

/// The parts of an instant, in `zone`.
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
mod tests;
