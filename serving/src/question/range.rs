//! Ranges of time, and the ranges that they are compared with.

use adlake_domain::time;
use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::calendar::{Shift, date_of, start_of};

/// A half-open range of time. `None`: open at that end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// The first instant.
    pub from: Option<i64>,
    /// The first instant after it.
    pub to: Option<i64>,
}

/// The period that a range is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// As long, just before.
    PreviousPeriod,
    /// The same weekdays, as many weeks before as the range has.
    SameWeekdays,
    /// The same dates of the year before.
    PreviousYear,
}

/// A range that is compared, and the range before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// The range, cut to what is over.
    pub to_date: (i64, i64),
    /// The range before, cut to the same length.
    pub before: (i64, i64),
    /// How far it lies before.
    pub shift: Shift,
}

impl Range {
    /// Reads the range of a question. Both ends have to be the beginnings of hours of the cubes.
    pub fn read(range: Option<&(Option<String>, Option<String>)>, zone: Tz, report_zone: Tz) -> Result<Range, Invalid> {
        let Some((from, to)) = range else { return Ok(Range { from: None, to: None }) };
        let end = |text: &Option<String>, pointer: &str| match text {
            None => Ok(None),
            Some(text) => instant(text, zone, report_zone, pointer).map(Some),
        };
        let range = Range { from: end(from, "/time/range/0")?, to: end(to, "/time/range/1")? };
        match (range.from, range.to) {
            (Some(from), Some(to)) if from >= to => {
                Err(Invalid::new("bad_range", "/time/range", "the range ends before it begins, or is empty"))
            }
            _ => Ok(range),
        }
    }

    /// Whether both ends are the beginnings of days.
    pub fn has_whole_days(&self, zone: Tz) -> bool {
        [self.from, self.to].into_iter().flatten().all(|end| time::day_start(end, zone) == end)
    }

    /// Both ends as numbers.
    pub fn bounds(&self) -> (i64, i64) {
        (self.from.unwrap_or(i64::MIN), self.to.unwrap_or(i64::MAX))
    }

    /// The range to compare with, if the range has a beginning. What is not over at `now`, the
    /// beginning of an hour, is compared with as much of the range before.
    pub fn compared(&self, how: Compare, zone: Tz, now: i64) -> Option<Compared> {
        let from = self.from?;
        let to = self.to.unwrap_or(now).max(from);
        let whole_days = time::day_start(from, zone) == from && time::day_start(to, zone) == to;
        let days = (date_of(to, zone) - date_of(from, zone)).num_days().max(0) as u64;
        let shift = match how {
            Compare::PreviousPeriod if whole_days => Shift::Days(days.max(1)),
            // A range that is still running is as long as it is going to be.
            Compare::PreviousPeriod => Shift::Micros((to - from).max(time::HOUR)),
            Compare::SameWeekdays => {
                let last = date_of((to - 1).max(from), zone);
                let length = (last - date_of(from, zone)).num_days() as u64 + 1;
                Shift::Days(length.div_ceil(7) * 7)
            }
            Compare::PreviousYear => Shift::Years(1),
        };
        let over = to.min(now.max(from));
        let before = (shift.before(from, zone)?, shift.before(over, zone)?);
        Some(Compared { to_date: (from, over), before, shift })
    }
}

/// Reads one end: a date, or a time.
fn instant(text: &str, zone: Tz, report_zone: Tz, pointer: &str) -> Result<i64, Invalid> {
    let bad = |detail: String| Invalid::new("bad_range", pointer, detail);
    let form = || bad(format!("{text:?} is neither a day, like 2026-03-01, nor a time, like 2026-03-01T10:00:00Z"));
    let is_date = text.len() == 10;
    let instant = if is_date {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| form())?;
        start_of(date, zone).ok_or_else(|| bad(format!("{text} is outside the years 1970 to 9999")))?
    } else {
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| form())?.timestamp_micros();
        time::in_range(at).map_err(|error| bad(format!("{text} is {error}")))?
    };
    if time::hour_start(instant, report_zone) == instant {
        return Ok(instant);
    }
    if is_date && zone != report_zone {
        let detail = format!("days of {zone} do not begin with an hour of {report_zone}, by which events are counted");
        return Err(Invalid::new("bad_zone", "/time/zone", detail));
    }
    Err(bad(format!("{text} is not the beginning of an hour, and events are counted by the hour")))
}

#[cfg(test)]
mod tests {
    use chrono_tz::{Asia, Europe};

    use super::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    fn read(from: &str, to: &str, zone: Tz) -> Result<Range, Invalid> {
        Range::read(Some(&(Some(from.into()), Some(to.into()))), zone, Tz::UTC)
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let range = read("2026-03-29", "2026-03-30", Europe::Berlin).unwrap();
        assert_eq!(range.bounds(), (at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z")));
        assert!(!range.has_whole_days(Tz::UTC) && range.has_whole_days(Europe::Berlin));
        assert_eq!(read("2026-03-01", "2026-03-02", Asia::Kathmandu).unwrap_err().code, "bad_zone");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (from, to) in [
            ("2026-03-02", "2026-03-01"),
            ("2026-03-01", "2026-03-01"),
            ("2026-02-30", "2026-03-01"),
            ("2026-03-01T10:30:00Z", "2026-03-02"),
            ("yesterday", "2026-03-02"),
            ("1969-12-31", "2026-03-02"),
        ] {
            assert_eq!(read(from, to, Tz::UTC).unwrap_err().code, "bad_range", "{from} {to}");
        }
    }

    #[test]
    fn periods_are_compared_with_as_much_of_the_period_before() {
        let check = |range: (&str, &str), how, now: &str, to_date: (&str, &str), before: (&str, &str)| {
            let range = read(range.0, range.1, Tz::UTC).unwrap();
            let compared = range.compared(how, Tz::UTC, at(now)).unwrap();
            assert_eq!(compared.to_date, (at(to_date.0), at(to_date.1)), "{range:?} {how:?}");
            assert_eq!(compared.before, (at(before.0), at(before.1)), "{range:?} {how:?}");
        };
        let week = ("2026-03-02", "2026-03-09");
        let whole = ("2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z");
        let before = ("2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z");
        check(week, Compare::PreviousPeriod, "2026-04-01T00:00:00Z", whole, before);
        check(week, Compare::SameWeekdays, "2026-04-01T00:00:00Z", whole, before);
        let year = ("2025-03-02T00:00:00Z", "2025-03-09T00:00:00Z");
        check(week, Compare::PreviousYear, "2026-04-01T00:00:00Z", whole, year);
        // Two and a half days are over.
        let over = ("2026-03-02T00:00:00Z", "2026-03-04T12:00:00Z");
        let before = ("2026-02-23T00:00:00Z", "2026-02-25T12:00:00Z");
        check(week, Compare::PreviousPeriod, "2026-03-04T12:00:00Z", over, before);
        // Two days are compared with the same weekdays of the week before.
        let over = ("2026-03-02T00:00:00Z", "2026-03-04T00:00:00Z");
        let before = ("2026-02-23T00:00:00Z", "2026-02-25T00:00:00Z");
        check(("2026-03-02", "2026-03-04"), Compare::SameWeekdays, "2026-04-01T00:00:00Z", over, before);
        // Nothing is over yet.
        let none = ("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z");
        let before = ("2026-02-23T00:00:00Z", "2026-02-23T00:00:00Z");
        check(week, Compare::PreviousPeriod, "2026-03-01T00:00:00Z", none, before);
    }
}
