//! A value as a record sends it, the same for all formats. Scalars hold their text or binary value.
//! Objects and lists are either JSON text, which is opened when needed, or decoded already.
//!
//! Values are `Copy`: they borrow from the record's bytes or from the row's arena, so a row costs
//! no allocation.

use std::fmt::Write;

use adlake_domain::content::{write_json_double, write_json_string};
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use chrono::DateTime;

use crate::reject::Reject;

/// A value as it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// Absent, or sent as null.
    Null,
    Bool(bool),
    Integer(i64),
    Float(f32),
    Double(f64),
    Decimal(&'a Decimal),
    /// Microseconds since the epoch.
    Time(i64),
    /// Microseconds of a local time without a time zone, counted as if it were UTC.
    LocalTime(i64),
    /// A JSON number, as written.
    Number(&'a str),
    /// A text.
    Text(&'a str),
    /// A CSV cell: a text, or the text of a number.
    Cell(&'a str),
    Bytes(&'a [u8]),
    /// A JSON object or list, as written.
    Json(&'a str),
    List(&'a [Value<'a>]),
    Object(&'a [(&'a str, Value<'a>)]),
}

/// The number `unscaled` times 10^-`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub unscaled: i128,
    pub scale: u32,
}

/// A nested value, opened into its parts.
pub(crate) enum Opened<'a> {
    List(&'a [Value<'a>]),
    Object(&'a [(&'a str, Value<'a>)]),
    /// Not nested.
    Scalar,
}

impl<'a> Value<'a> {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether the value is an empty text. It counts as a value only where there is no other.
    #[inline]
    pub fn is_empty_text(&self) -> bool {
        matches!(self, Value::Text("") | Value::Cell("") | Value::Bytes([]))
    }

    pub fn is_nested(&self) -> bool {
        matches!(self, Value::Json(_) | Value::List(_) | Value::Object(_))
    }

    /// Appends the value to `out` as JSON text. JSON stays as written, times are RFC 3339, bytes
    /// are hex digits.
    pub fn write_json(&self, out: &mut String) {
        // Writing to a String cannot fail.
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Integer(value) => _ = write!(out, "{value}"),
            Value::Float(value) if value.is_finite() => _ = write!(out, "{value}"),
            Value::Float(value) => write_json_double(f64::from(*value), out),
            Value::Double(value) => write_json_double(*value, out),
            Value::Decimal(decimal) => decimal.write(out),
            Value::Time(micros) => write_time(*micros, "%Y-%m-%dT%H:%M:%S%.6fZ", out),
            Value::LocalTime(micros) => write_time(*micros, "%Y-%m-%dT%H:%M:%S%.6f", out),
            Value::Number(text) | Value::Json(text) => out.push_str(text),
            Value::Text(text) | Value::Cell(text) => write_json_string(text, out),
            Value::Bytes(bytes) => {
                out.push('"');
                bytes.iter().for_each(|byte| _ = write!(out, "{byte:02x}"));
                out.push('"');
            }
            Value::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_json_string(name, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// The value as text, if it is a scalar other than null.
    pub fn to_text(self, arena: &'a Bump) -> Option<&'a str> {
        match self {
            Value::Text(text) | Value::Cell(text) | Value::Number(text) => Some(text),
            Value::Bool(value) => Some(if value { "true" } else { "false" }),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(text),
                Err(_) => {
                    let mut text = String::with_capacity(bytes.len() * 2);
                    bytes.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
                    Some(arena.alloc_str(&text))
                }
            },
            Value::Integer(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Decimal(_)
            | Value::Time(_)
            | Value::LocalTime(_) => {
                let mut text = String::new();
                self.write_json(&mut text);
                Some(arena.alloc_str(text.trim_matches('"')))
            }
            Value::Null | Value::Json(_) | Value::List(_) | Value::Object(_) => None,
        }
    }

    /// Describes the value for people.
    pub fn describe(&self) -> String {
        let name = match self {
            Value::Null => return "nothing".to_owned(),
            Value::List(_) => return "a list".to_owned(),
            Value::Object(_) => return "an object".to_owned(),
            Value::Json(text) if text.starts_with('[') => return "a list".to_owned(),
            Value::Json(_) => return "an object".to_owned(),
            _ => {
                let mut text = String::new();
                self.write_json(&mut text);
                text
            }
        };
        // These characters are enough to recognise the value: the dead letter also holds the
        // payload.
        match name.char_indices().nth(60) {
            Some((end, _)) => format!("{}...", &name[..end]),
            None => name,
        }
    }
}

impl Decimal {
    /// Writes all digits, with `scale` of them after the decimal point.
    fn write(&self, out: &mut String) {
        let digits = format!("{:0>width$}", self.unscaled.unsigned_abs(), width = self.scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale as usize);
        if self.unscaled < 0 {
            out.push('-');
        }
        out.push_str(whole);
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
    }
}

fn write_time(micros: i64, format: &str, out: &mut String) {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => _ = write!(out, "\"{}\"", time.format(format)),
        None => _ = write!(out, "{micros}"),
    }
}

/// Collects parts, each of which may fail, into a list in the arena.
pub(crate) fn collect<T: Copy>(items: impl Iterator<Item = Result<T, Reject>>, arena: &Bump) -> Result<&[T], Reject> {
    let mut list = BumpVec::new_in(arena);
    for item in items {
        list.push(item?);
    }
    Ok(list.into_bump_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_text() {
        let check = |value: Value<'_>, expected: &str| {
            let mut out = String::new();
            value.write_json(&mut out);
            assert_eq!(out, expected);
        };
        check(Value::Decimal(&Decimal { unscaled: -5, scale: 3 }), "-0.005");
        check(Value::Decimal(&Decimal { unscaled: 1234, scale: 2 }), "12.34");
        check(Value::Decimal(&Decimal { unscaled: 7, scale: 0 }), "7");
        check(Value::Time(1), "\"1970-01-01T00:00:00.000001Z\"");
        check(Value::LocalTime(0), "\"1970-01-01T00:00:00.000000\"");
        check(Value::Float(0.1), "0.1");
        check(Value::Double(f64::INFINITY), "\"inf\"");
        check(Value::Bytes(&[0, 255]), "\"00ff\"");
        check(Value::Number("1e5"), "1e5");
        check(Value::Text("a\"b"), r#""a\"b""#);
        check(
            Value::Object(&[("k", Value::List(&[Value::Null, Value::Integer(3)])), ("l", Value::Bool(true))]),
            r#"{"k":[null,3],"l":true}"#,
        );
    }

    #[test]
    fn texts_of_scalars() {
        let check = |value: Value<'_>, expected: Option<&str>| {
            let arena = Bump::new();
            assert_eq!(value.to_text(&arena), expected);
        };
        check(Value::Number("7.0"), Some("7.0"));
        check(Value::Integer(-7), Some("-7"));
        check(Value::Bool(false), Some("false"));
        check(Value::Bytes(b"abc"), Some("abc"));
        check(Value::Bytes(&[255]), Some("ff"));
        check(Value::Json("{}"), None);
    }
}
