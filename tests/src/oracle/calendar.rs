//! The hours and days in the report's time zone. They are found by going back in time, one minute
//! at a time.

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

const MINUTE: i64 = 60_000_000;

/// The local date, the local hour and the offset from UTC at an instant.
fn local(zone: Tz, time: i64) -> (NaiveDate, u32, i32) {
    let utc = DateTime::<Utc>::from_timestamp_micros(time).expect("a time within chrono's range");
    let there = zone.from_utc_datetime(&utc.naive_utc());
    (there.date_naive(), there.hour(), there.offset().fix().local_minus_utc())
}

/// Goes back minute by minute as long as `same` is true of the minute before. Returns the last
/// minute reached.
fn walk_back(time: i64, same: impl Fn(i64) -> bool) -> i64 {
    let mut begin = time - time.rem_euclid(MINUTE);
    while same(begin - MINUTE) {
        begin -= MINUTE;
    }
    begin
}

/// The instant at which the local hour begins. If the clock is put back, the hour that comes twice
/// counts as two hours.
pub(super) fn hour(zone: Tz, time: i64) -> i64 {
    let own = local(zone, time);
    walk_back(time, |instant| local(zone, instant) == own)
}

/// The instant at which the local day begins.
pub(super) fn day(zone: Tz, time: i64) -> i64 {
    let own = local(zone, time).0.num_days_from_ce();
    walk_back(time, |instant| local(zone, instant).0.num_days_from_ce() == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: &str, time: &str, expected_hour: &str, expected_day: &str) {
        let micros = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let zone: Tz = zone.parse().unwrap();
        assert_eq!(hour(zone, micros(time)), micros(expected_hour), "hour of {time} in {zone}");
        assert_eq!(day(zone, micros(time)), micros(expected_day), "day of {time} in {zone}");
    }

    #[test]
    fn hours_and_days_begin_at_local_ones() {
        check("UTC", "2026-10-25T00:59:59.999999Z", "2026-10-25T00:00:00Z", "2026-10-25T00:00:00Z");
        check("Asia/Kolkata", "2026-10-25T18:40:00Z", "2026-10-25T18:30:00Z", "2026-10-25T18:30:00Z");
        // Berlin's clock goes back from 3:00 to 2:00 at 01:00 UTC.
        check("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-24T22:00:00Z");
        check("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-24T22:00:00Z");
        check("Europe/Berlin", "2026-10-25T23:30:00Z", "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z");
    }
}
