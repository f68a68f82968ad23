//! How a source writes its times: the time zone of times that name none, the formats that its
//! configuration lists, and the earliest time that digits are accepted as.
//!
//! A typed time (from Avro or a Kafka record) is exact and is accepted unchanged. So is a text in a
//! known format. If the value is only digits, their unit is a guess. They are accepted as an epoch
//! only if the resulting time is not before `ingest.event_time_min`.

use std::fmt;

use adlake_domain::event::EventKind;
use adlake_domain::time::{DAY, Epoch, TimeError, TimeFormat, is_epoch, parse_time};
use chrono::DateTime;
use chrono_tz::Tz;

use crate::error::DecodeError;
use crate::reject::{Reason, Reject};
use crate::settings::SourceSettings;

/// How a source writes its times.
#[derive(Debug)]
pub(crate) struct Times {
    pub zone: Tz,
    formats: Vec<TimeFormat>,
    /// The earliest time that digits are accepted as, in microseconds.
    pub epoch_min: i64,
}

impl Times {
    /// Compiles the formats. Errors name the configuration key.
    pub fn new(kind: EventKind, settings: &SourceSettings, epoch_min: i64) -> Result<Times, DecodeError> {
        let name = settings.time_zone();
        let zone = name.parse::<Tz>().map_err(|_| {
            DecodeError::settings(format!("sources.{kind}.time_zone"), format!("{name} is not an IANA time zone"))
        })?;
        Ok(Times { zone, formats: time_formats(kind, settings)?, epoch_min })
    }

    /// Whether the configuration lists no formats.
    #[inline]
    pub fn has_no_formats(&self) -> bool {
        self.formats.is_empty()
    }

    /// Reads a text with the first configured format that fits.
    pub fn by_format(&self, text: &str) -> Option<i64> {
        self.formats.iter().find_map(|format| format.read(text, self.zone))
    }

    /// Reads a text as a time in any known format.
    pub fn read(&self, text: &str) -> Result<i64, Reject> {
        if let Some(micros) = self.by_format(text) {
            return Ok(micros);
        }
        match parse_time(text, self.zone) {
            Ok(micros) if micros >= self.epoch_min || !is_epoch(text) => Ok(micros),
            parsed => self.judge(parsed, is_epoch(text).then_some(text), || text.to_owned()),
        }
    }

    /// Returns the time that was read, or the reason why it is rejected. `digits` is the text that
    /// was read as an epoch. `sent` returns the value for the message.
    #[cold]
    pub fn judge(
        &self,
        parsed: Result<i64, TimeError>,
        digits: Option<&str>,
        sent: impl Fn() -> String,
    ) -> Result<i64, Reject> {
        if let Some(digits) = digits
            && let Ok(Epoch { unit, micros }) = Epoch::read(digits)
            && micros < i128::from(self.epoch_min)
        {
            let shown = digits.trim_ascii().get(..40).unwrap_or(digits.trim_ascii());
            let read = ReadTime(i64::try_from(micros).unwrap_or(i64::MIN));
            let earliest = Earliest(self.epoch_min);
            let detail = format!("{shown} read as epoch {unit} is {read}, before ingest.event_time_min ({earliest})");
            return Err(Reject::new(Reason::ImplausibleTimestamp, detail));
        }
        parsed.map_err(|error| {
            let reason = match error {
                TimeError::OutOfRange => Reason::OutOfRange,
                TimeError::NotATime | TimeError::NoSuchTime => Reason::BadTimestamp,
            };
            Reject::new(reason, format!("{}: {error}", sent()))
        })
    }
}

/// The additional time formats that a source's configuration lists. Errors name the configuration
/// key.
pub fn time_formats(kind: EventKind, settings: &SourceSettings) -> Result<Vec<TimeFormat>, DecodeError> {
    let compile = |format: &String| {
        TimeFormat::new(format).map_err(|error| {
            DecodeError::settings(format!("sources.{kind}.time_formats"), format!("{format:?} {error}"))
        })
    };
    settings.time_formats.iter().map(compile).collect()
}

/// A time as it was read, shown to people as RFC 3339 in UTC.
pub(crate) struct ReadTime(pub i64);

impl fmt::Display for ReadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S%.fZ")),
            None => f.write_str("outside the calendar"),
        }
    }
}

/// As [`ReadTime`], but a midnight is shown as a date.
struct Earliest(i64);

impl fmt::Display for Earliest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) if self.0.rem_euclid(DAY) == 0 => write!(f, "{}", time.format("%Y-%m-%d")),
            _ => ReadTime(self.0).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ValidationSettings;

    fn times(formats: &[&str]) -> Result<Times, DecodeError> {
        let time_formats = formats.iter().map(|format| (*format).to_owned()).collect();
        let settings = SourceSettings { time_formats, ..SourceSettings::default() };
        Times::new(EventKind::Interaction, &settings, ValidationSettings::default().event_time_min)
    }

    #[test]
    fn digits_before_the_earliest_time_are_no_epoch() {
        let check = |text: &str, detail: &str| {
            let reject = times(&[]).unwrap().read(text).unwrap_err();
            assert_eq!((reject.reason, reject.detail.as_str()), (Reason::ImplausibleTimestamp, detail));
        };
        check(
            "14102100",
            "14102100 read as epoch seconds is 1970-06-13T05:15:00Z, before ingest.event_time_min (2000-01-01)",
        );
        check(
            "-1.5",
            "-1.5 read as epoch seconds is 1969-12-31T23:59:58.500Z, before ingest.event_time_min (2000-01-01)",
        );
        check(
            "-9e37",
            "-9e37 read as epoch microseconds is outside the calendar, before ingest.event_time_min (2000-01-01)",
        );
        let read = |text: &str| times(&[]).unwrap().read(text).map_err(|reject| reject.reason);
        assert_eq!(read("946684800"), Ok(946_684_800_000_000));
        assert_eq!(read("946684799.999999"), Err(Reason::ImplausibleTimestamp));
        assert_eq!(read("1999-12-31"), Ok(946_598_400_000_000));
        assert_eq!(read("253402300800000000"), Err(Reason::OutOfRange));
    }

    #[test]
    fn configured_formats_are_tried_first() {
        let times = times(&["%Y%m%d%H", "%Y%m%d"]).unwrap();
        assert_eq!(times.read("2026030110").ok(), parse_time("2026-03-01T10:00:00Z", Tz::UTC).ok());
        assert_eq!(times.read("20260301").ok(), parse_time("2026-03-01", Tz::UTC).ok());
        assert_eq!(times.read("1772359200").ok(), Some(1_772_359_200_000_000));
        assert_eq!(times.read("2026-03-01").ok(), parse_time("2026-03-01", Tz::UTC).ok());
    }

    #[test]
    fn a_format_that_cannot_work_names_its_key() {
        let error = times(&["%Y-%m-%d", "%H:%M"]).unwrap_err().to_string();
        assert!(error.contains("sources.interactions.time_formats") && error.contains("\"%H:%M\""), "{error}");
    }
}
