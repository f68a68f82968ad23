//! Times in forms that a configuration names, in the notation of strftime (as chrono implements
//! it).

use chrono::format::{Fixed, Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, FixedOffset, NaiveTime};
use chrono_tz::Tz;

use super::{DAY, HOUR, SECOND, in_range, time_from_local};

/// A form of times, compiled from a strftime format.
#[derive(Debug, Clone)]
pub struct TimeFormat {
    items: Vec<Item<'static>>,
}

/// Why a text is no usable form of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeFormatError {
    /// It has a specifier that strftime does not know.
    #[error("is not a strftime format")]
    Unknown,
    /// It has a zone name. A name does not determine an offset.
    #[error(
        "has %Z: names of zones are not read. Use %z for an offset, or write the name as it stands in the data \
         and set the source's time_zone"
    )]
    ZoneName,
    /// Its output does not determine the day, or only a part of the time of day.
    #[error("does not determine a time: it needs a date, and of the time of day nothing or the hour (%I needs %p)")]
    Incomplete,
}

/// An instant whose parts all differ: 2024-02-29T13:45:56.789012Z.
const PROBE: i64 = 1_709_214_356_789_012;

impl TimeFormat {
    /// Compiles a format. It must be able to read its own output, so that mistakes are found here.
    pub fn new(format: &str) -> Result<TimeFormat, TimeFormatError> {
        let items = StrftimeItems::new(format).parse_to_owned().map_err(|_| TimeFormatError::Unknown)?;
        if items.contains(&Item::Fixed(Fixed::TimezoneName)) {
            return Err(TimeFormatError::ZoneName);
        }
        let format = TimeFormat { items };
        let written = format.write(PROBE).ok_or(TimeFormatError::Unknown)?;
        match format.read(&written, Tz::UTC) {
            // A format without a time of day reads midnight.
            Some(read) if PROBE.div_euclid(DAY) == read.div_euclid(DAY) && PROBE - read < 14 * HOUR => Ok(format),
            _ => Err(TimeFormatError::Incomplete),
        }
    }

    fn write(&self, micros: i64) -> Option<String> {
        use std::fmt::Write;
        let instant: DateTime<FixedOffset> = DateTime::from_timestamp_micros(micros)?.fixed_offset();
        let mut text = String::new();
        write!(text, "{}", instant.format_with_items(self.items.iter())).ok()?;
        Some(text)
    }

    /// Parses a text of this form as a time. A time without an offset is in `zone`. `None`: the
    /// text has another form, or is outside the accepted years.
    pub fn read(&self, text: &str, zone: Tz) -> Option<i64> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text.trim_ascii(), self.items.iter()).ok()?;
        if let Some(seconds) = parsed.timestamp() {
            let fraction = i64::from(parsed.nanosecond().unwrap_or(0) / 1000);
            return in_range(seconds.checked_mul(SECOND)?.checked_add(fraction)?).ok();
        }
        let date = parsed.to_naive_date().ok()?;
        let has_hour = parsed.hour_mod_12().is_some();
        if has_hour && parsed.minute().is_none() {
            parsed.set_minute(0).ok()?;
        }
        let others = [parsed.hour_div_12(), parsed.minute(), parsed.second(), parsed.nanosecond()];
        let has_clock = has_hour || others.iter().any(Option::is_some);
        let clock = if has_clock { parsed.to_naive_time().ok()? } else { NaiveTime::MIN };
        // A leap second counts as the second after it.
        let local = date.and_time(clock).and_utc().timestamp_micros();
        match parsed.offset() {
            Some(offset) => in_range(local - i64::from(offset) * SECOND).ok(),
            None => time_from_local(local, zone).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_time;

    #[test]
    fn texts_are_read_by_their_format() {
        let check = |format: &str, text: &str, zone: Tz, expected: Option<&str>| {
            let found = TimeFormat::new(format).unwrap().read(text, zone);
            assert_eq!(found, expected.map(|text| parse_time(text, Tz::UTC).unwrap()), "{text} by {format} in {zone}");
        };
        let (utc, berlin) = (Tz::UTC, Tz::Europe__Berlin);
        check("%d/%b/%Y:%H:%M:%S %z", "01/Mar/2026:10:00:00 +0100", utc, Some("2026-03-01T09:00:00Z"));
        check("%d.%m.%Y %H:%M", " 01.03.2026 10:00 ", berlin, Some("2026-03-01T09:00:00Z"));
        check("%m/%d/%Y %I:%M %p", "3/1/2026 1:05 PM", utc, Some("2026-03-01T13:05:00Z"));
        check("%d/%m/%y", "01/03/26", berlin, Some("2026-02-28T23:00:00Z"));
        check("%Y%m%d%H", "2026030110", utc, Some("2026-03-01T10:00:00Z"));
        check("%Y%m%d", "20260301", utc, Some("2026-03-01"));
        check("%Y-%m-%d %H:%M:%S%.f UTC", "2026-03-01 10:00:00.1234567 UTC", utc, Some("2026-03-01T10:00:00.123456Z"));
        check("%s", "14102100", utc, Some("1970-06-13T05:15:00Z"));
        check("%Y-%m-%d %H:%M:%S", "2016-12-31 23:59:60", utc, Some("2017-01-01"));
        check("%Y%m%d", "2026030", utc, None);
        check("%Y%m%d", "20260231", utc, None);
        check("%Y%m%d", "20260301x", utc, None);
        check("%Y%m%d", "19660301", utc, None);
        check("%a %d %b %Y", "Mon 01 Mar 2026", utc, None);
    }

    #[test]
    fn formats_that_tell_no_time_are_refused() {
        let check = |format: &str, expected: TimeFormatError| {
            assert_eq!(TimeFormat::new(format).err(), Some(expected), "{format:?}");
        };
        check("%Q", TimeFormatError::Unknown);
        check("%", TimeFormatError::Unknown);
        check("%Y-%m-%d %H:%M:%S %Z", TimeFormatError::ZoneName);
        for format in ["", "today", "%H:%M", "%d/%m", "%Y-%m", "%Y-%m-%d %I:%M", "%Y-%m-%d %M", "%F %S"] {
            check(format, TimeFormatError::Incomplete);
        }
    }
}
