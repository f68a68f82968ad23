//! Buckets of time: hours, days, weeks and months of a zone, and ranges that lie before others.

use adlake_domain::time;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
}

/// The local date of an instant.
pub fn date_of(instant: i64, zone: Tz) -> NaiveDate {
    let utc = DateTime::from_timestamp_micros(instant).unwrap_or_default().naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    (utc + offset).date()
}

/// The instant at which a local day begins. `None`: it is outside the years that times may have.
pub fn start_of(date: NaiveDate, zone: Tz) -> Option<i64> {
    let midnight = date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros();
    Some(time::day_start(time::time_from_local(midnight, zone).ok()?, zone))
}

/// The instant at which the bucket of an instant begins.
pub fn bucket_start(instant: i64, grain: Grain, zone: Tz) -> i64 {
    let date = || date_of(instant, zone);
    let begin = |date: Option<NaiveDate>| date.and_then(|date| start_of(date, zone));
    let start = match grain {
        Grain::Hour => return time::hour_start(instant, zone),
        Grain::Day => return time::day_start(instant, zone),
        Grain::Week => begin(date().checked_sub_days(Days::new(date().weekday().num_days_from_monday().into()))),
        Grain::Month => begin(date().with_day(1)),
    };
    // Only the first week of all times has no beginning.
    start.unwrap_or(0)
}

/// The instant at which the next bucket begins.
pub fn next_bucket(start: i64, grain: Grain, zone: Tz) -> Option<i64> {
    let date = date_of(start, zone);
    match grain {
        // An hour may be cut by a change of clocks, so the next one begins at most an hour later.
        Grain::Hour => {
            let later = time::hour_start(start + time::HOUR, zone);
            Some(if later > start { later } else { start + time::HOUR })
        }
        Grain::Day => start_of(date.checked_add_days(Days::new(1))?, zone),
        Grain::Week => start_of(date.checked_add_days(Days::new(7))?, zone),
        Grain::Month => start_of(date.checked_add_months(Months::new(1))?, zone),
    }
}

/// How far a range is moved into the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// So many local days. The time of day stays.
    Days(u64),
    /// So many microseconds.
    Micros(i64),
    /// So many years. 29 February becomes the 28th.
    Years(u32),
}

impl Shift {
    /// The instant that lies so far before another.
    pub fn before(self, instant: i64, zone: Tz) -> Option<i64> {
        let moved = |date: NaiveDate| {
            // The time since the day began stays, as far as that day is long enough.
            let within = instant - start_of(date_of(instant, zone), zone)?;
            let start = start_of(date, zone)?;
            let end = start_of(date.checked_add_days(Days::new(1))?, zone)?;
            Some((start + within).min(end))
        };
        match self {
            Shift::Micros(micros) => instant.checked_sub(micros).filter(|instant| *instant >= 0),
            Shift::Days(days) => moved(date_of(instant, zone).checked_sub_days(Days::new(days))?),
            Shift::Years(years) => moved(date_of(instant, zone).checked_sub_months(Months::new(12 * years))?),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Europe};

    use super::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn buckets_begin_where_the_calendar_says() {
        let check = |instant: &str, grain, zone, start: &str, next: &str| {
            assert_eq!(bucket_start(at(instant), grain, zone), at(start), "{instant} {grain:?} {zone}");
            assert_eq!(next_bucket(at(start), grain, zone), Some(at(next)), "{instant} {grain:?} {zone}");
        };
        check("2026-03-04T10:20:30Z", Grain::Hour, Tz::UTC, "2026-03-04T10:00:00Z", "2026-03-04T11:00:00Z");
        check("2026-03-04T10:20:30Z", Grain::Week, Tz::UTC, "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z");
        check("2026-02-28T23:30:00Z", Grain::Month, Tz::UTC, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        // The day on which the clocks go forward has 23 hours.
        let berlin = Europe::Berlin;
        check("2026-03-29T12:00:00Z", Grain::Day, berlin, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check("2026-03-29T12:00:00Z", Grain::Week, berlin, "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z");
        check("2026-10-25T00:30:00Z", Grain::Hour, berlin, "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
        // A day without midnight.
        check("2018-11-04T12:00:00Z", Grain::Day, America::Sao_Paulo, "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    }

    #[test]
    fn what_lies_before_keeps_its_time_of_day() {
        let check = |instant: &str, shift: Shift, expected: &str| {
            assert_eq!(shift.before(at(instant), Europe::Berlin), Some(at(expected)), "{instant} {shift:?}");
        };
        check("2026-03-30T08:00:00Z", Shift::Days(7), "2026-03-23T09:00:00Z");
        check("2026-03-30T08:00:00Z", Shift::Micros(7 * time::DAY), "2026-03-23T08:00:00Z");
        check("2024-02-29T11:00:00Z", Shift::Years(1), "2023-02-28T11:00:00Z");
    }
}
