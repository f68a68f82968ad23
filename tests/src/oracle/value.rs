//! The values of the oracle's answers.

use std::collections::BTreeMap;
use std::fmt;

/// A row of a view: its values by column name.
pub type Row = BTreeMap<String, Value>;

/// The largest difference between a ratio and the oracle's, relative to its size.
const RATIO_TOLERANCE: f64 = 1e-9;

/// A value of a view, independent of the width in which the view stores it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer of any width.
    Int(i128),
    /// `unscaled / 10^scale`.
    Decimal {
        /// The digits.
        unscaled: i128,
        /// How many of the digits are fractional.
        scale: i8,
    },
    /// A ratio.
    Float(f64),
    /// Text.
    Text(String),
    /// An instant, microseconds since 1970 UTC.
    Time(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// A decimal with `scale` fractional digits.
    pub fn decimal(unscaled: i128, scale: i8) -> Value {
        Value::Decimal { unscaled, scale }
    }

    /// Equality as the contract defines it: ratios may differ by 1e-9, decimals are equal by value,
    /// and all other values are equal exactly and in type.
    pub fn same(&self, other: &Value) -> bool {
        match (self.reduced(), other.reduced()) {
            (Value::Float(a), Value::Float(b)) => {
                a == b || (a - b).abs() <= RATIO_TOLERANCE * a.abs().max(b.abs()) || (a.is_nan() && b.is_nan())
            }
            (a, b) => a == b,
        }
    }

    /// A decimal without its trailing zeros; everything else as it is.
    fn reduced(&self) -> Value {
        let Value::Decimal { mut unscaled, mut scale } = *self else { return self.clone() };
        while unscaled != 0 && scale > 0 && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        Value::Decimal { unscaled, scale: if unscaled == 0 { 0 } else { scale } }
    }

    /// Text that is equal if and only if the values are [`Self::same`]. Ratios have no such text.
    pub(super) fn sort_text(&self) -> String {
        match self.reduced() {
            Value::Float(_) => String::new(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Decimal { unscaled, scale } => {
                let width = usize::try_from(*scale).unwrap_or(0) + 1;
                let digits = format!("{:0width$}", unscaled.unsigned_abs());
                let (whole, fraction) = digits.split_at(digits.len() + 1 - width);
                let sign = if *unscaled < 0 { "-" } else { "" };
                write!(f, "{sign}{whole}{}{fraction}", if fraction.is_empty() { "" } else { "." })
            }
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Text(value) => write!(f, "{value:?}"),
            Value::Time(value) => match chrono::DateTime::from_timestamp_micros(*value) {
                Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
                None => write!(f, "time {value}"),
            },
            Value::Bytes(value) => write!(f, "{} bytes {:02x?}", value.len(), &value[..value.len().min(16)]),
        }
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_string())
    }
}

impl From<i128> for Value {
    fn from(value: i128) -> Value {
        Value::Int(value)
    }
}

impl From<Option<&String>> for Value {
    fn from(value: Option<&String>) -> Value {
        value.map_or(Value::Null, |value| Value::Text(value.clone()))
    }
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Value {
        value.map_or(Value::Null, Value::Bool)
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Value {
        value.map_or(Value::Null, |value| Value::Int(value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_compared_and_written_by_value() {
        assert!(Value::decimal(1_500_000, 6).same(&Value::decimal(1_500_000_000, 9)));
        assert!(!Value::decimal(1_500_000, 6).same(&Value::decimal(1_500_000_001, 9)));
        assert!(!Value::decimal(15, 0).same(&Value::Int(15)));
        assert_eq!(Value::decimal(-1_234, 6).to_string(), "-0.001234");
        assert_eq!(Value::decimal(12, 0).to_string(), "12");
    }

    #[test]
    fn ratios_are_compared_closely() {
        assert!(Value::Float(0.1 + 0.2).same(&Value::Float(0.3)));
        assert!(!Value::Float(0.3).same(&Value::Float(0.300_000_01)));
        assert!(!Value::Float(0.0).same(&Value::Null));
    }
}
