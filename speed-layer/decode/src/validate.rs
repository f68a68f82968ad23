//! Decides what makes a record a dead letter, and converts its values to the types of their fields.
//!
//! A record is checked as a whole before any of it is stored. First come the fields, in schema
//! order: the first one that is missing or of the wrong type decides. Then comes the event: its
//! time and its money. Nothing is guessed and nothing is clipped. A value is exactly what was sent,
//! or the record is a dead letter that says why.

use adlake_domain::money::{self, NumberError, Rounding, parse_scaled};
use adlake_domain::time::{self, TimeError, is_epoch, parse_epoch, parse_time};
use bumpalo::Bump;

use crate::cell::Cell;
use crate::mapping::{Field, ReadTime, Shape, Times};
use crate::reject::{Reason, Reject};
use crate::settings::ValidationSettings;
use crate::value::Value;

/// Rejects events too far ahead of the clock. Late events are never rejected.
pub(crate) fn check_time(settings: &ValidationSettings, event_time: i64, ingested_at: i64) -> Result<(), Reject> {
    let allowed = i64::try_from(settings.future_max.as_micros()).unwrap_or(i64::MAX);
    let ahead = event_time.saturating_sub(ingested_at);
    if ahead <= allowed { Ok(()) } else { Err(too_far(event_time, ahead, allowed)) }
}

#[cold]
fn too_far(event_time: i64, ahead: i64, allowed: i64) -> Reject {
    let (unit, name) = match allowed {
        time::HOUR.. => (time::HOUR, "h"),
        _ => (time::SECOND, "s"),
    };
    let allowed = if allowed % unit == 0 {
        format!("{}", allowed / unit)
    } else {
        format!("{:.1}", allowed as f64 / unit as f64)
    };
    // Rounded up, so that the shown value always exceeds the limit.
    let tenths = ahead / (unit / 10) + i64::from(ahead % (unit / 10) > 0);
    let (read, whole, tenth) = (ReadTime(event_time), tenths / 10, tenths % 10);
    let detail = format!("{read} is {whole}.{tenth} {name} ahead; {allowed} {name} are allowed (ingest.future_max)");
    Reject::new(Reason::TooFarInFuture, detail)
}

/// Whether a value counts as missing for its field.
pub(crate) fn is_missing(field: &Field, value: Value<'_>) -> bool {
    match value {
        Value::Null => true,
        _ => value.is_empty_text() && (field.empty_is_missing || field.shape == Shape::Time),
    }
}

/// Converts a value to the type of its field, which is not nested.
#[inline]
pub(crate) fn cell<'a>(field: &Field, value: Value<'a>, times: &Times, arena: &'a Bump) -> Result<Cell<'a>, Reject> {
    // A fast path for the most common case.
    if let (Shape::Text, Value::Text(text) | Value::Cell(text)) = (field.shape, value) {
        return Ok(Cell::Text(text));
    }
    let cell = match field.shape {
        Shape::Text => match text(value, arena) {
            Some(cell) => Ok(cell),
            None if field.keeps_json => {
                let mut text = String::new();
                value.write_json(&mut text);
                Ok(Cell::Text(arena.alloc_str(&text)))
            }
            None => Err(bad_type("a text", value)),
        },
        Shape::Int32 => int32(value),
        Shape::Int64 => integer(value).map(Cell::Integer),
        Shape::Boolean => boolean(value),
        Shape::Time => event_time(value, times),
        Shape::Amount => amount(value),
        Shape::Double => double(value),
        Shape::Nested => Err(bad_type("a scalar", value)),
    };
    let cell = cell.map_err(|reject| reject.at(&field.name))?;
    match cell {
        Cell::Integer(number) if is_outside(field, number.into()) => Err(outside(field, value, number < 0)),
        Cell::Amount(number) if is_outside(field, number) => Err(outside(field, value, number < 0)),
        _ => Ok(cell),
    }
}

#[inline]
fn is_outside(field: &Field, number: i128) -> bool {
    number < field.min || number > field.max
}

/// Rejects a number that is out of range for one event.
#[cold]
fn outside(field: &Field, value: Value<'_>, is_negative: bool) -> Reject {
    let (name, sent) = (&field.name, value.describe());
    if is_negative && field.min == 0 {
        return Reject::new(Reason::NegativeNumber, format!("{name}: {sent} is below zero"));
    }
    let detail = format!("{name}: {sent} is out of range: one event's counts and milliseconds are at most 10^12");
    Reject::new(Reason::OutOfRange, detail)
}

#[cold]
fn bad_type(wanted: &str, value: Value<'_>) -> Reject {
    Reject::new(Reason::BadType, format!("{} is not {wanted}", value.describe()))
}

#[cold]
fn out_of_range(value: Value<'_>) -> Reject {
    Reject::new(Reason::OutOfRange, format!("{} is out of range", value.describe()))
}

/// A scalar as text. `None` for objects and lists.
pub(crate) fn text<'a>(value: Value<'a>, arena: &'a Bump) -> Option<Cell<'a>> {
    value.to_text(arena).map(Cell::Text)
}

/// A whole number: an integer, a number without a fraction (`3.0`), or a text of digits.
fn integer(value: Value<'_>) -> Result<i64, Reject> {
    let number = match value {
        Value::Integer(number) => return Ok(number),
        Value::Number(text) | Value::Cell(text) => parse_scaled(text, 0, Rounding::Exact),
        Value::Text(text) => {
            // A text may hold only digits and a sign: "3.0" is not an integer there.
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                parse_scaled(text, 0, Rounding::Exact)
            } else {
                Err(NumberError::NotANumber)
            }
        }
        Value::Double(number) => parse_scaled(&format!("{number:e}"), 0, Rounding::Exact),
        Value::Float(number) => parse_scaled(&format!("{number:e}"), 0, Rounding::Exact),
        Value::Decimal(decimal) => {
            let divisor = 10i128.checked_pow(decimal.scale);
            match divisor {
                Some(divisor) if decimal.unscaled % divisor == 0 => Ok(decimal.unscaled / divisor),
                _ => Err(NumberError::Fraction),
            }
        }
        _ => Err(NumberError::NotANumber),
    };
    match number {
        Ok(number) => i64::try_from(number).map_err(|_| out_of_range(value)),
        Err(NumberError::OutOfRange) => Err(out_of_range(value)),
        Err(NumberError::NotANumber | NumberError::Fraction) => Err(bad_type("a whole number", value)),
    }
}

/// A whole number of 32 bits.
pub(crate) fn int32<'a>(value: Value<'a>) -> Result<Cell<'a>, Reject> {
    let number = integer(value)?;
    if i32::try_from(number).is_ok() { Ok(Cell::Integer(number)) } else { Err(out_of_range(value)) }
}

/// `true` and `false`, 0 and 1, and their texts in any case.
fn boolean<'a>(value: Value<'a>) -> Result<Cell<'a>, Reject> {
    let parsed = match value {
        Value::Bool(value) => Some(value),
        Value::Integer(number) => (number & !1 == 0).then_some(number == 1),
        Value::Number(text) | Value::Text(text) | Value::Cell(text) => match text.trim_ascii() {
            "1" => Some(true),
            "0" => Some(false),
            word if word.eq_ignore_ascii_case("true") => Some(true),
            word if word.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        },
        _ => None,
    };
    parsed.map(Cell::Boolean).ok_or_else(|| bad_type("true or false", value))
}

/// A finite double, the nearest to the decimal that was sent.
pub(crate) fn double<'a>(value: Value<'a>) -> Result<Cell<'a>, Reject> {
    let number = match value {
        Value::Double(number) => Some(number),
        // Converted through its shortest decimal, as amounts are.
        Value::Float(number) => format!("{number:e}").parse().ok(),
        Value::Integer(number) => Some(number as f64),
        // Rust also parses "inf" and "nan". They are rejected below, because they are not finite.
        Value::Number(text) | Value::Text(text) | Value::Cell(text) => text.trim_ascii().parse().ok(),
        Value::Decimal(_) => {
            let mut text = String::new();
            value.write_json(&mut text);
            text.parse().ok()
        }
        _ => None,
    };
    match number {
        Some(number) if f64::is_finite(number) => Ok(Cell::Double(number)),
        Some(_) => Err(out_of_range(value)),
        None => Err(bad_type("a number", value)),
    }
}

fn event_time<'a>(value: Value<'a>, times: &Times) -> Result<Cell<'a>, Reject> {
    if !times.has_no_formats()
        && let Some(micros) = time_by_format(value, times)
    {
        return Ok(Cell::Integer(micros));
    }
    let parsed = match value {
        Value::Text(text) | Value::Cell(text) => parse_time(text, times.zone),
        Value::Number(text) => parse_epoch(text),
        Value::Integer(number) => time::time_from_integer(number),
        Value::Double(number) => time::time_from_f64(number),
        Value::Float(number) => time::time_from_f64(f64::from(number)),
        Value::Time(micros) => time::in_range(micros),
        Value::LocalTime(micros) => time::time_from_local(micros, times.zone),
        _ => Err(TimeError::NotATime),
    };
    match parsed {
        Ok(micros) if micros >= times.epoch_min => Ok(Cell::Integer(micros)),
        parsed => odd_time(value, parsed, times),
    }
}

/// Reads a text, or a number written in digits, with the configured formats.
#[cold]
fn time_by_format(value: Value<'_>, times: &Times) -> Option<i64> {
    match value {
        Value::Text(text) | Value::Cell(text) | Value::Number(text) => times.by_format(text),
        Value::Integer(number) => times.by_format(&number.to_string()),
        _ => None,
    }
}

/// Handles a time that is early or invalid. A time from digits must not be early.
#[cold]
fn odd_time<'a>(value: Value<'a>, parsed: Result<i64, TimeError>, times: &Times) -> Result<Cell<'a>, Reject> {
    let digits = match value {
        Value::Text(text) | Value::Cell(text) => is_epoch(text).then(|| text.to_owned()),
        Value::Number(text) => Some(text.to_owned()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    };
    times.judge(parsed, digits.as_deref(), || value.describe()).map(Cell::Integer)
}

fn amount<'a>(value: Value<'a>) -> Result<Cell<'a>, Reject> {
    let parsed = match value {
        Value::Number(text) | Value::Text(text) | Value::Cell(text) => money::parse_amount(text),
        Value::Integer(number) => money::amount_from_decimal(number.into(), 0),
        Value::Double(number) => money::amount_from_f64(number),
        Value::Float(number) => money::amount_from_f32(number),
        Value::Decimal(decimal) => money::amount_from_decimal(decimal.unscaled, decimal.scale),
        _ => Err(NumberError::NotANumber),
    };
    parsed.map(Cell::Amount).map_err(|error| match error {
        NumberError::OutOfRange => out_of_range(value),
        NumberError::NotANumber | NumberError::Fraction => bad_type("a decimal number", value),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adlake_domain::event::EventKind;

    use super::*;
    use crate::mapping::Mapping;
    use crate::settings::SourceSettings;
    use crate::value::Decimal;

    fn check(kind: EventKind, field: &str, value: Value<'_>, expected: Result<Cell<'_>, Reason>) {
        let mapping = Mapping::new(kind, &SourceSettings::default()).unwrap();
        let arena = Bump::new();
        let field = &mapping.fields()[mapping.index(field).unwrap()];
        let found = cell(field, value, mapping.times(), &arena);
        assert_eq!(found.map_err(|reject| reject.reason), expected, "{}: {value:?}", field.name);
    }

    #[test]
    fn integers() {
        let check = |value, expected| check(EventKind::Impression, "cost_micros", value, expected);
        check(Value::Number("3"), Ok(Cell::Integer(3)));
        check(Value::Number("3.0"), Ok(Cell::Integer(3)));
        check(Value::Number("3e2"), Ok(Cell::Integer(300)));
        check(Value::Text("3"), Ok(Cell::Integer(3)));
        check(Value::Cell("3.0"), Ok(Cell::Integer(3)));
        check(Value::Integer(3), Ok(Cell::Integer(3)));
        check(Value::Double(3.0), Ok(Cell::Integer(3)));
        check(Value::Decimal(&Decimal { unscaled: 300, scale: 2 }), Ok(Cell::Integer(3)));
        check(Value::Number("9223372036854775807"), Ok(Cell::Integer(i64::MAX)));
        check(Value::Number("9223372036854775808"), Err(Reason::OutOfRange));
        check(Value::Number("-9223372036854775808"), Err(Reason::NegativeNumber));
        check(Value::Decimal(&Decimal { unscaled: i128::MAX, scale: 0 }), Err(Reason::OutOfRange));
        check(Value::Number("1e99"), Err(Reason::OutOfRange));
        check(Value::Number("-1"), Err(Reason::NegativeNumber));
        for value in [
            Value::Number("3.5"),
            Value::Text("3.0"),
            Value::Text("three"),
            Value::Text(""),
            Value::Text("-"),
            Value::Bool(true),
            Value::Json("{}"),
            Value::Double(f64::NAN),
            Value::Double(0.5),
        ] {
            check(value, Err(Reason::BadType));
        }
    }

    #[test]
    fn money_as_sent_is_taken_as_far_as_its_type_holds_it() {
        let [interaction, bid] = [EventKind::Interaction, EventKind::BidRequest];
        let most = "99999999999999999999999999.999999999999";
        for (kind, field) in [(interaction, "value"), (bid, "bid_price"), (bid, "clearing_price")] {
            check(kind, field, Value::Cell("20000000000"), Ok(Cell::Amount(2 * 10i128.pow(22))));
            check(kind, field, Value::Cell(most), Ok(Cell::Amount(10i128.pow(38) - 1)));
            check(kind, field, Value::Number("100000000000000000000000000"), Err(Reason::OutOfRange));
            check(kind, field, Value::Double(1e26), Err(Reason::OutOfRange));
            check(kind, field, Value::Decimal(&Decimal { unscaled: i128::MAX, scale: 12 }), Err(Reason::OutOfRange));
        }
        let negative = format!("-{most}");
        check(interaction, "value", Value::Cell(&negative), Ok(Cell::Amount(1 - 10i128.pow(38))));
        check(interaction, "value", Value::Number("-1e26"), Err(Reason::OutOfRange));
        check(bid, "bid_price", Value::Cell(&negative), Err(Reason::NegativeNumber));
    }

    #[test]
    fn one_events_counts_are_bounded() {
        let [impression, interaction] = [EventKind::Impression, EventKind::Interaction];
        let most = 10i64.pow(12);
        for (kind, field) in
            [(impression, "view_time_ms"), (impression, "interaction_depth"), (interaction, "quantity")]
        {
            check(kind, field, Value::Integer(most), Ok(Cell::Integer(most)));
            check(kind, field, Value::Integer(most + 1), Err(Reason::OutOfRange));
        }
        check(interaction, "quantity", Value::Integer(-most), Ok(Cell::Integer(-most)));
        check(interaction, "quantity", Value::Integer(-most - 1), Err(Reason::OutOfRange));
    }

    #[test]
    fn small_integers() {
        check(EventKind::Impression, "width", Value::Number("2147483647"), Ok(Cell::Integer(2_147_483_647)));
        check(EventKind::Impression, "width", Value::Number("2147483648"), Err(Reason::OutOfRange));
        check(EventKind::Impression, "width", Value::Number("-5"), Err(Reason::NegativeNumber));
        check(EventKind::BidRequest, "at", Value::Number("-5"), Ok(Cell::Integer(-5)));
    }

    #[test]
    fn texts() {
        let check = |field, value, expected| check(EventKind::Impression, field, value, expected);
        check("user_id", Value::Number("7"), Ok(Cell::Text("7")));
        check("user_id", Value::Number("7.0"), Ok(Cell::Text("7.0")));
        check("user_id", Value::Integer(7), Ok(Cell::Text("7")));
        check("user_id", Value::Text(" x "), Ok(Cell::Text(" x ")));
        check("user_id", Value::Bool(true), Ok(Cell::Text("true")));
        check("user_id", Value::Json("{}"), Err(Reason::BadType));
        check("consent", Value::Json(r#"{"gdpr": 1}"#), Ok(Cell::Text(r#"{"gdpr": 1}"#)));
        check("content_category", Value::Json(r#"["IAB1"]"#), Ok(Cell::Text(r#"["IAB1"]"#)));
    }

    #[test]
    fn booleans() {
        let check = |value, expected| check(EventKind::Impression, "viewable", value, expected);
        for value in
            [Value::Bool(true), Value::Number("1"), Value::Text("true"), Value::Cell("TRUE"), Value::Integer(1)]
        {
            check(value, Ok(Cell::Boolean(true)));
        }
        for value in [Value::Bool(false), Value::Number("0"), Value::Text("0"), Value::Cell("False"), Value::Integer(0)]
        {
            check(value, Ok(Cell::Boolean(false)));
        }
        for value in [Value::Number("2"), Value::Text("yes"), Value::Text(""), Value::Integer(-1)] {
            check(value, Err(Reason::BadType));
        }
    }

    #[test]
    fn amounts_and_times() {
        let amount = |field, value, expected| {
            let kind = if field == "value" { EventKind::Interaction } else { EventKind::BidRequest };
            check(kind, field, value, expected);
        };
        amount("value", Value::Cell("12.50"), Ok(Cell::Amount(12_500_000_000_000)));
        amount("value", Value::Cell("-12.50"), Ok(Cell::Amount(-12_500_000_000_000)));
        amount("value", Value::Cell("12,50"), Err(Reason::BadType));
        amount("value", Value::Number("1e26"), Err(Reason::OutOfRange));
        amount("bid_price", Value::Float(0.1), Ok(Cell::Amount(100_000_000_000)));
        amount("bid_price", Value::Number("-0.1"), Err(Reason::NegativeNumber));
        let time = |value, expected| check(EventKind::Impression, "event_time", value, expected);
        time(Value::Number("1700000000"), Ok(Cell::Integer(1_700_000_000_000_000)));
        time(Value::Text("1700000000"), Ok(Cell::Integer(1_700_000_000_000_000)));
        time(Value::Time(5), Ok(Cell::Integer(5)));
        time(Value::Time(-5), Err(Reason::OutOfRange));
        time(Value::LocalTime(5), Ok(Cell::Integer(5)));
        time(Value::Text("1970-01-01T00:00:00.000005Z"), Ok(Cell::Integer(5)));
        for value in [
            Value::Text("14102100"),
            Value::Cell("20260301"),
            Value::Number("0"),
            Value::Number("-1"),
            Value::Integer(946_684_799),
            Value::Double(14_102_100.5),
            Value::Float(0.0),
        ] {
            time(value, Err(Reason::ImplausibleTimestamp));
        }
        time(Value::Integer(946_684_800), Ok(Cell::Integer(946_684_800_000_000)));
        time(Value::Text("2024-02-30"), Err(Reason::BadTimestamp));
        time(Value::Bool(true), Err(Reason::BadTimestamp));
        time(Value::Json("[]"), Err(Reason::BadTimestamp));
    }

    #[test]
    fn doubles() {
        let check = |value: Value<'_>, expected: Result<f64, Reason>| {
            let found = double(value).map_err(|reject| reject.reason);
            assert_eq!(found, expected.map(Cell::Double), "{value:?}");
        };
        check(Value::Number("52.5"), Ok(52.5));
        check(Value::Text("-1e3"), Ok(-1000.0));
        check(Value::Float(0.1), Ok(0.1));
        check(Value::Decimal(&Decimal { unscaled: -15, scale: 1 }), Ok(-1.5));
        check(Value::Number("1e999"), Err(Reason::OutOfRange));
        check(Value::Text("inf"), Err(Reason::OutOfRange));
        check(Value::Text("x"), Err(Reason::BadType));
    }

    #[test]
    fn the_future_has_a_limit_and_the_past_has_none() {
        let settings = ValidationSettings::default();
        let now = 1_700_000_000_000_000;
        assert!(check_time(&settings, now + time::DAY, now).is_ok());
        assert_eq!(check_time(&settings, now + time::DAY + 1, now).unwrap_err().reason, Reason::TooFarInFuture);
        assert!(check_time(&settings, 0, now).is_ok());
        let detail = |ahead: i64, hours: u64| {
            let settings = ValidationSettings { future_max: Duration::from_secs(hours * 3600), ..settings };
            check_time(&settings, now + ahead, now).unwrap_err().detail
        };
        assert_eq!(
            detail(24 * time::HOUR + 36 * time::HOUR / 60, 24),
            "2023-11-15T22:49:20Z is 24.6 h ahead; 24 h are allowed (ingest.future_max)"
        );
        assert!(detail(24 * time::HOUR + 1, 24).contains(" 24.1 h ahead; 24 h are allowed"));
        assert!(detail(1_500_000, 0).contains(" 1.5 s ahead; 0 s are allowed"));
    }
}
