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
    check("9999-12-31T23:59:60Z", Err(OutOfRange));
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
        "2016-12-31T23:59:61Z",
        "20240230T000000Z",
        "20240229T240000Z",
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
        "2024-01-01T00",
        "2024-01-01T00:0",
        "2024-01-01T00:00.5",
        "2024-01-01T00:00,5Z",
        "2024-01-01T00:00:0",
        "2024-01-01T00:00:00,",
        "2024-01-01T00:00:00  Z",
        "2024-01-01T00:00:00 CET",
        "2024-01-01T00:00:00UTC",
        "20240101T00",
        "20240101T0000.5Z",
        "20240101T00000Z",
        "20240101T00:00:00Z",
        "2024-01-01T000000Z",
        "2024-01-01T00:00:00.",
        "2024-01-01T00:00:00.Z",
        "2024-01-01X00:00:00Z",
        "2024-01-01T00:00:00ZZ",
        "2024-01-01T00:00:00+1",
        "2024/01/01",
        "01-02-2024",
        "2024-1-01 00:00:00",
        "2024-01-01T00:00:00+01:0",
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
fn texts_as_others_write_them() {
    let check = |text: &str, expected: &str| {
        let expected = parse_time(expected, Tz::UTC).unwrap();
        assert_eq!(parse_time(text, Tz::UTC), Ok(expected), "{text:?}");
        assert!(!is_epoch(text), "{text:?}");
    };
    check("2026-03-01 10:00:00 UTC", "2026-03-01T10:00:00Z");
    check("2026-03-01 10:00:00.5 utc", "2026-03-01T10:00:00.5Z");
    check("2026-03-01 10:00:00 Z", "2026-03-01T10:00:00Z");
    check("2026-03-01 10:00:00 +00:00", "2026-03-01T10:00:00Z");
    check("2026-03-01 10:00:00 -0230", "2026-03-01T12:30:00Z");
    check("2026-03-01 10:00:00,123", "2026-03-01T10:00:00.123Z");
    check("2026-03-01 10:00:00,123 +02", "2026-03-01T08:00:00.123Z");
    check("2026-03-01 10:00", "2026-03-01T10:00:00Z");
    check("2026-03-01T10:00Z", "2026-03-01T10:00:00Z");
    check("2026-03-01 10:00 +02:00", "2026-03-01T08:00:00Z");
    check("2026-03-01T10:00:00+0200", "2026-03-01T08:00:00Z");
    check("20260301T100000Z", "2026-03-01T10:00:00Z");
    check("20260301T100000", "2026-03-01T10:00:00Z");
    check("20260301t1000", "2026-03-01T10:00:00Z");
    check("20260301 100000.25", "2026-03-01T10:00:00.25Z");
    check("20260301T100000,25+0200", "2026-03-01T08:00:00.25Z");
    check("20260301T1000-02", "2026-03-01T12:00:00Z");
    // A leap second is the second after it, in any zone.
    check("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z");
    check("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z");
    check("2017-01-01 05:29:60 +05:30", "2017-01-01T00:00:00Z");
    check("20161231T235960Z", "2017-01-01T00:00:00Z");
}

#[test]
fn epochs_tell_their_unit() {
    let check = |text: &str, expected: (&'static str, i128)| {
        let (unit, micros) = expected;
        assert_eq!(Epoch::read(text), Ok(Epoch { unit, micros }), "{text}");
        assert!(is_epoch(text), "{text}");
    };
    check("14102100", ("seconds", 14_102_100_000_000));
    check("20260301", ("seconds", 20_260_301_000_000));
    check("1709210096000", ("milliseconds", LEAP_DAY.into()));
    check("-5.5", ("seconds", -5_500_000));
    check("-1709210096000000", ("microseconds", -i128::from(LEAP_DAY)));
    assert_eq!(Epoch::read("2026-03"), Err(NotATime));
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
    // A skipped local time gets the offset from before the change.
    check("2024-03-31 02:30:00", Europe::Berlin, "2024-03-31T01:30:00Z");
    check("2011-12-30 12:00:00", Pacific::Apia, "2011-12-30T22:00:00Z");
    // An ambiguous local time is the earlier instant.
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
    // The hour that occurs twice counts as two hours, but its day as one.
    check("2024-10-27T00:30:00Z", Europe::Berlin, "2024-10-27T00:00:00Z", "2024-10-26T22:00:00Z");
    check("2024-10-27T01:30:00Z", Europe::Berlin, "2024-10-27T01:00:00Z", "2024-10-26T22:00:00Z");
    check("2024-10-27T22:59:59Z", Europe::Berlin, "2024-10-27T22:00:00Z", "2024-10-26T22:00:00Z");
    // Lord Howe: half an hour back at 02:00 (15:00 UTC), half an hour forward at 02:00 (15:30 UTC).
    let howe = Australia::Lord_Howe;
    check("2024-04-06T14:59:59Z", howe, "2024-04-06T14:00:00Z", "2024-04-06T13:00:00Z");
    check("2024-04-06T15:10:00Z", howe, "2024-04-06T15:00:00Z", "2024-04-06T13:00:00Z");
    check("2024-04-06T15:30:00Z", howe, "2024-04-06T15:30:00Z", "2024-04-06T13:00:00Z");
    check("2024-10-05T15:40:00Z", howe, "2024-10-05T15:30:00Z", "2024-10-05T13:30:00Z");
    // Beirut and Sao Paulo skip midnight. Havana has it twice.
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
    fn never_panics_on_near_times(
        text in "[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ][0-9]{2}:?[0-9]{2}(:?[0-9]{2})?[.,+Z -]?[0-9:éUTC]{0,8}",
    ) {
        let _ = parse_time(&text, America::New_York);
    }

    #[test]
    fn basic_times_are_what_extended_ones_are(micros in 0..END) {
        let instant = DateTime::from_timestamp_micros(micros).unwrap();
        prop_assert_eq!(parse_time(&instant.format("%Y%m%dT%H%M%S%.6fZ").to_string(), Tz::UTC), Ok(micros));
        prop_assert_eq!(
            parse_time(&instant.format("%Y%m%dT%H%M").to_string(), Europe::Berlin),
            parse_time(&instant.format("%Y-%m-%d %H:%M:00").to_string(), Europe::Berlin)
        );
    }
}

#[test]
fn eight_bytes_at_a_time_digits_are_what_they_are_one_by_one() {
    let good = *b"2025-06-17T23:45:59.5Z";
    for place in 0..19 {
        for byte in 0..=255 {
            let mut text = good;
            text[place] = byte;
            let expected = match good[place] {
                b'T' => matches!(byte, b'T' | b't' | b' '),
                mark @ (b'-' | b':') => byte == mark,
                _ => byte.is_ascii_digit(),
            };
            let at = |at: usize| two_digits(&text, at).unwrap_or_default();
            let parts = ([at(0) * 100 + at(2), at(5), at(8)], [at(11), at(14), at(17)], &b".5Z"[..]);
            assert_eq!(well_formed(&text), expected.then_some(parts), "{:?}", text.escape_ascii().to_string());
        }
    }
    assert_eq!(well_formed(&good[..18]), None);
}

#[test]
fn days_are_those_of_the_calendar() {
    for days in (-800_000..800_000).step_by(7) {
        let (year, month, day) = civil_from_days(days);
        assert_eq!((days_from_civil(year, month, day), month), (days, month_of(days)), "{days}");
        let date = chrono::NaiveDate::from_ymd_opt(year as i32, month, day).unwrap();
        assert_eq!(date - chrono::Duration::days(days), chrono::NaiveDate::default(), "{days}");
    }
}

#[test]
fn hours_and_days_belong_to_the_date_on_which_they_begin() {
    for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns"] {
        let zone: Tz = zone.parse().unwrap();
        for date in (14_950..15_400).step_by(7).chain(15_330..15_345) {
            let (hour, day) = (first_hour_of(date, zone), first_day_of(date, zone));
            let begin = i64::from(date) * DAY;
            assert!(hour >= begin && hour_start(hour, zone) == hour && hour_start(hour - 1, zone) < begin, "{zone}");
            assert!(day >= begin && day_start(day, zone) == day && day_start(day - 1, zone) < begin, "{zone} {date}");
        }
    }
}
