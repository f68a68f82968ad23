//! The values of an answer, and how they are written.

use std::cmp::Ordering;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use serde::{Serialize, Serializer};

/// A value of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unknown, or a ratio whose denominator is 0.
    Null,
    /// A text.
    Text(Arc<str>),
    /// An instant, in microseconds.
    Time(i64),
    /// A whole number.
    Integer(i128),
    /// A number times `10^-scale`.
    Decimal(i128, i8),
    /// A ratio.
    Number(f64),
}

impl Value {
    /// How two values of one column are ordered. NULL is the least.
    pub fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => Ordering::Less,
            (_, Value::Null) => Ordering::Greater,
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
            // The values of a column have one scale.
            (Value::Decimal(a, _), Value::Decimal(b, _)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
            _ => Ordering::Equal,
        }
    }

    /// How it compares with a number, which is also given in billionths. `None`: it is no number.
    pub fn compare_number(&self, billionths: i128, number: f64) -> Option<Ordering> {
        let scaled = |value: i128, scale: i8| value.checked_mul(10_i128.pow(9 - u32::from(scale.unsigned_abs())));
        match self {
            Value::Integer(value) => scaled(*value, 0).map(|value| value.cmp(&billionths)),
            Value::Decimal(value, scale) => scaled(*value, *scale).map(|value| value.cmp(&billionths)),
            Value::Number(value) => value.partial_cmp(&number),
            _ => None,
        }
    }

    /// The text of the value. NULL has none.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Null => None,
            Value::Text(text) => Some(text.to_string()),
            Value::Time(micros) => Some(time_text(*micros)),
            Value::Integer(value) => Some(value.to_string()),
            Value::Decimal(value, scale) => Some(decimal_text(*value, *scale)),
            Value::Number(value) => Some(value.to_string()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_none(),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Time(micros) => serializer.serialize_str(&time_text(*micros)),
            Value::Integer(value) => match i64::try_from(*value) {
                Ok(value) => serializer.serialize_i64(value),
                Err(_) => serializer.serialize_i128(*value),
            },
            Value::Decimal(value, scale) => serializer.serialize_str(&decimal_text(*value, *scale)),
            Value::Number(value) => serializer.serialize_f64(*value),
        }
    }
}

/// A time as RFC 3339 in UTC. A fraction is only written if there is one.
pub fn time_text(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A scaled number with all its digits.
pub fn decimal_text(value: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_all_digits() {
        for (value, scale, expected) in
            [(0, 6, "0.000000"), (-1, 6, "-0.000001"), (812_450_000, 6, "812.450000"), (5, 9, "0.000000005")]
        {
            assert_eq!(decimal_text(value, scale), expected);
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(time_text(1_772_355_600_113_000), "2026-03-01T09:00:00.113Z");
    }

    #[test]
    fn values_compare_with_numbers_exactly() {
        let value = Value::Decimal(10_500_000, 6);
        assert_eq!(value.compare_number(10_500_000_000, 10.5), Some(Ordering::Equal));
        assert_eq!(value.compare_number(10_500_000_001, 10.5), Some(Ordering::Less));
        assert_eq!(Value::Null.compare_number(0, 0.0), None);
    }
}
