//! Days, weeks and months of a zone, by the dates of the zone alone.

use anyhow::{Context, Result};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    Day,
    Week,
    Month,
}

impl Grain {
    pub fn name(self) -> &'static str {
        match self {
            Grain::Day => "day",
            Grain::Week => "week",
            Grain::Month => "month",
        }
    }

    /// The first date of the bucket of a date.
    fn first(self, date: NaiveDate) -> NaiveDate {
        match self {
            Grain::Day => date,
            Grain::Week => date - Days::new(date.weekday().num_days_from_monday().into()),
            Grain::Month => date - Days::new(date.day0().into()),
        }
    }

    fn next(self, first: NaiveDate) -> NaiveDate {
        match self {
            Grain::Day => first + Days::new(1),
            Grain::Week => first + Days::new(7),
            Grain::Month => first + Months::new(1),
        }
    }
}

/// What a range is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    PreviousPeriod,
    SameWeekdays,
    PreviousYear,
}

impl How {
    pub const ALL: [How; 3] = [How::PreviousPeriod, How::SameWeekdays, How::PreviousYear];

    pub fn name(self) -> &'static str {
        match self {
            How::PreviousPeriod => "previous_period",
            How::SameWeekdays => "same_weekdays",
            How::PreviousYear => "previous_year",
        }
    }
}

/// The instant at which a date begins: its midnight, or what follows where clocks skip it.
pub fn midnight(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let mut local = date.and_time(chrono::NaiveTime::MIN);
    loop {
        if let Some(at) = zone.from_local_datetime(&local).earliest() {
            return at.with_timezone(&Utc);
        }
        local += TimeDelta::minutes(30);
    }
}

/// The beginning of the bucket of an instant.
pub fn bucket(at: DateTime<Utc>, grain: Grain, zone: Tz) -> DateTime<Utc> {
    midnight(grain.first(at.with_timezone(&zone).date_naive()), zone)
}

/// The beginnings of all buckets of a range.
pub fn buckets((from, to): (NaiveDate, NaiveDate), grain: Grain, zone: Tz) -> Vec<DateTime<Utc>> {
    let mut all = Vec::new();
    let mut date = grain.first(from);
    while date < to {
        all.push(midnight(date, zone));
        date = grain.next(date);
    }
    all
}

/// The date that a date of a range is compared with.
pub fn before(date: NaiveDate, how: How, (from, to): (NaiveDate, NaiveDate)) -> Result<NaiveDate> {
    let days = u64::try_from((to - from).num_days())?;
    let earlier = match how {
        How::PreviousPeriod => date.checked_sub_days(Days::new(days)),
        How::SameWeekdays => date.checked_sub_days(Days::new(days.div_ceil(7) * 7)),
        How::PreviousYear => date.checked_sub_months(Months::new(12)),
    };
    earlier.context("no such date")
}
