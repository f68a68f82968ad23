//! Which hours a rule looks at.

use adlake_domain::time;
use chrono::{DateTime, Days, TimeZone};
use chrono_tz::Tz;

use super::super::detect::{Detect, Kind};
use super::super::rule::{Against, Rule};

/// The weeks by which it is known whether data is expected, for rules that compare with nothing.
pub const EXPECTED_WEEKS: u32 = 4;

/// The windows of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The newest one that is over.
    pub complete: (i64, i64),
    /// The one that ends with the running hour, where it may be looked at.
    pub running: Option<(i64, i64)>,
}

/// The windows of a rule at a moment.
pub fn windows(rule: &Rule, now: i64, zone: Tz) -> Windows {
    let hour = time::hour_start(now - rule.delay, zone);
    let length = i64::from(rule.window_hours) * time::HOUR;
    let may_run = match (rule.detect, rule.metric.kind()) {
        (_, Kind::Share | Kind::Ratio) => true,
        // What is too much already will not become less.
        (Detect::Threshold { below: None, .. }, _) => true,
        _ => false,
    };
    let next = hour + time::HOUR;
    Windows { complete: (hour - length, hour), running: may_run.then_some((next - length, next)) }
}

/// The windows that a window is compared with, the newest first.
pub fn baseline(rule: &Rule, (from, to): (i64, i64), zone: Tz) -> Vec<(i64, i64)> {
    let length = to - from;
    let weeks = match rule.against {
        Against::Previous => return vec![(from - length, from)],
        Against::HourOfWeek(weeks) => weeks,
        Against::Nothing if rule.times.no_data.is_some() => EXPECTED_WEEKS,
        Against::Nothing => 0,
    };
    let earlier = (1..=weeks).filter_map(|week| weeks_before(from, week, zone));
    earlier.map(|start| (start, start + length)).collect()
}

/// The same time of the local clock, weeks before. `None`: the clock did not show it on that day.
fn weeks_before(at: i64, weeks: u32, zone: Tz) -> Option<i64> {
    let local = DateTime::from_timestamp_micros(at)?.with_timezone(&zone).naive_local();
    let earlier = local.checked_sub_days(Days::new(7 * u64::from(weeks)))?;
    Some(zone.from_local_datetime(&earlier).earliest()?.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::read;
    use crate::metrics::Catalogue;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn hours_of_earlier_weeks_are_those_of_the_local_clock() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let check = |at: &str, weeks: u32, expected: Option<&str>| {
            assert_eq!(weeks_before(micros(at), weeks, zone), expected.map(micros), "{at}");
        };
        // Summer time began on 2026-03-29 at 02:00.
        check("2026-03-30T10:00:00+02:00", 1, Some("2026-03-23T10:00:00+01:00"));
        check("2026-04-05T02:00:00+02:00", 1, None);
        check("2026-04-05T02:00:00+02:00", 2, Some("2026-03-22T02:00:00+01:00"));
        // It ended on 2026-10-25: 02:30 came twice.
        check("2026-11-01T02:00:00+01:00", 1, Some("2026-10-25T02:00:00+02:00"));
    }

    #[test]
    fn the_running_hour_is_looked_at_where_it_can_be_judged() {
        let rules = read::read(None, true, &Catalogue::new(&Default::default())).unwrap();
        let of = |name: &str| rules.iter().find(|rule| rule.name == name).unwrap();
        let now = micros("2026-03-10T12:20:00Z");
        let found = windows(of("ctr_drop"), now, Tz::UTC);
        let range = |from: &str, to: &str| (micros(from), micros(to));
        assert_eq!(found.complete, range("2026-03-10T09:00:00Z", "2026-03-10T12:00:00Z"));
        assert_eq!(found.running, Some(range("2026-03-10T10:00:00Z", "2026-03-10T13:00:00Z")));
        assert_eq!(windows(of("conversions_silent"), now, Tz::UTC).running, None);
        let earlier = baseline(of("ctr_drop"), found.complete, Tz::UTC);
        assert_eq!(earlier.len(), 6);
        assert_eq!(earlier[5], range("2026-01-27T09:00:00Z", "2026-01-27T12:00:00Z"));
    }
}
