//! Compares an answer with the oracle's. Both must be the same multiset of rows; otherwise the
//! message names the rows that differ, and how.
//!
//! Integers, decimals, times, text and truth values are compared exactly (decimals by value).
//! Ratios may differ by 1e-9 of their size. Only the oracle's columns are compared, but the answer
//! must have all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::record_batch::RecordBatch;

use super::value::{Row, Value};

/// How many keys with differences a message shows.
const SHOWN: usize = 4;

/// The rows of an answer from any source.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The names of its columns.
    pub columns: BTreeSet<String>,
    /// Its rows.
    pub rows: Vec<Row>,
}

impl Answer {
    /// The rows of record batches. `schema` names the columns if there is no batch.
    pub fn of_batches(schema: &arrow::datatypes::Schema, batches: &[RecordBatch]) -> Result<Answer> {
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut rows = Vec::new();
        for batch in batches {
            let start = rows.len();
            rows.resize(start + batch.num_rows(), Row::new());
            for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                let values = values_of(column).with_context(|| format!("column {}", field.name()))?;
                for (row, value) in rows[start..].iter_mut().zip(values) {
                    row.insert(field.name().clone(), value);
                }
            }
        }
        Ok(Answer { columns, rows })
    }

    /// Parses rows from a JSON array of objects, or from objects one after the other.
    ///
    /// JSON has fewer types than a view, so each column is read as the type that it has in
    /// `expected`.
    pub fn of_json(text: &str, expected: &[Row]) -> Result<Answer> {
        let mut objects = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
            match value.context("not JSON")? {
                serde_json::Value::Array(elements) => objects.extend(elements),
                object => objects.push(object),
            }
        }
        let mut answer = Answer::default();
        for object in objects {
            let serde_json::Value::Object(fields) = object else { bail!("not an object: {object}") };
            let mut row = Row::new();
            for (name, value) in fields {
                let like = expected.iter().filter_map(|row| row.get(&name)).find(|value| **value != Value::Null);
                let value = of_json_value(&value, like).with_context(|| format!("column {name}: {value}"))?;
                answer.columns.insert(name.clone());
                row.insert(name, value);
            }
            answer.rows.push(row);
        }
        Ok(answer)
    }
}

fn of_json_value(value: &serde_json::Value, like: Option<&Value>) -> Result<Value> {
    let text = match value {
        serde_json::Value::Null => return Ok(Value::Null),
        serde_json::Value::Bool(value) => return Ok(Value::Bool(*value)),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::String(text) => text.clone(),
        nested => return Ok(Value::Text(nested.to_string())),
    };
    Ok(match like {
        Some(Value::Int(_)) => Value::Int(text.parse()?),
        Some(Value::Float(_)) => Value::Float(text.parse()?),
        Some(Value::Decimal { .. }) => decimal_of(&text)?,
        Some(Value::Time(_)) => Value::Time(time_of(&text)?),
        Some(Value::Text(_)) if value.is_string() => Value::Text(text),
        Some(other) => bail!("the oracle has {other}"),
        None if value.is_string() => Value::Text(text),
        None => decimal_of(&text)?,
    })
}

fn decimal_of(text: &str) -> Result<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    Ok(Value::decimal(format!("{whole}{fraction}").parse()?, i8::try_from(fraction.len())?))
}

fn time_of(text: &str) -> Result<i64> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    let plain = text.replace(' ', "T");
    let time = chrono::NaiveDateTime::parse_from_str(plain.trim_end_matches('Z'), "%Y-%m-%dT%H:%M:%S%.f")?;
    Ok(time.and_utc().timestamp_micros())
}

fn values_of(column: &ArrayRef) -> Result<Vec<Value>> {
    let len = column.len();
    let each = |value: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..len).map(|i| if column.is_null(i) { Value::Null } else { value(i) }).collect()
    };
    Ok(match column.data_type() {
        DataType::Null => vec![Value::Null; len],
        DataType::Boolean => each(&|i| Value::Bool(column.as_boolean().value(i))),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let wide = cast(column, &DataType::Int64)?;
            each(&|i| Value::Int(wide.as_primitive::<Int64Type>().value(i).into()))
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let wide = cast(column, &DataType::UInt64)?;
            each(&|i| Value::Int(wide.as_primitive::<UInt64Type>().value(i).into()))
        }
        DataType::Float32 | DataType::Float64 => {
            let wide = cast(column, &DataType::Float64)?;
            each(&|i| Value::Float(wide.as_primitive::<Float64Type>().value(i)))
        }
        // A whole number of any width.
        DataType::Decimal128(_, 0) => each(&|i| Value::Int(column.as_primitive::<Decimal128Type>().value(i))),
        DataType::Decimal128(_, scale) => {
            each(&|i| Value::decimal(column.as_primitive::<Decimal128Type>().value(i), *scale))
        }
        DataType::Decimal256(_, scale) => each(&|i| {
            let digits = column.as_primitive::<Decimal256Type>().value(i);
            Value::decimal(digits.to_i128().unwrap_or(i128::MAX), *scale)
        }),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
            let plain = cast(column, &DataType::Utf8)?;
            each(&|i| Value::Text(plain.as_string::<i32>().value(i).to_string()))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let plain = cast(column, &DataType::Binary)?;
            each(&|i| Value::Bytes(plain.as_binary::<i32>().value(i).to_vec()))
        }
        DataType::Timestamp(_, zone) => {
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            each(&|i| Value::Time(micros.as_primitive::<TimestampMicrosecondType>().value(i)))
        }
        // The oracle does not use this type: its values are shown, and never equal.
        other => {
            let shown = arrow::util::display::array_value_to_string;
            let name = format!("{other}");
            each(&|i| Value::Text(format!("{name}: {}", shown(column, i).unwrap_or_default())))
        }
    })
}

/// The columns that identify a row of a view.
fn key_columns(view: &str) -> &'static [&'static str] {
    match view {
        "impressions" => &["impression_id"],
        "clicks" | "conversions" => &["interaction_id", "conversion_type", "event_time"],
        "bid_requests" => &["auction_id", "imp_id"],
        "attributions" => {
            &["interaction_id", "interaction_type", "interaction_time", "touchpoint_kind", "touchpoint_id"]
        }
        "campaign_hourly" => {
            &["hour", "campaign_id", "website", "ad_creative_id", "device_type", "country", "region", "conversion_type"]
        }
        "interactions" => &["interaction_id", "conversion_type", "event_time"],
        "campaign_daily" | "campaign_reach" => &["day", "campaign_id"],
        "campaign_kpis" => &["campaign_id"],
        "geo_daily" => &["day", "campaign_id", "country", "region"],
        "site_daily" => &["day", "campaign_id", "website"],
        "funnel" => &["campaign_id", "stage"],
        "user_segments" => &["user_id"],
        "invalid_traffic" => &["day", "campaign_id", "kind", "reason"],
        _ => &[],
    }
}

/// Describes how the answer differs from the oracle's rows; `None` if it does not.
pub fn difference(view: &str, expected: &[Row], actual: &Answer) -> Option<String> {
    let columns: BTreeSet<String> = expected.iter().flat_map(|row| row.keys().cloned()).collect();
    let missing: Vec<&String> = columns.difference(&actual.columns).collect();
    if !missing.is_empty() {
        return Some(format!("{view}: columns are missing: {missing:?}; there are {:?}", actual.columns));
    }
    let expected = by_key(view, expected, &columns);
    let found = by_key(view, &actual.rows, &columns);
    let nothing = Vec::new();
    let keys: BTreeSet<&Vec<String>> = expected.keys().chain(found.keys()).collect();
    let mut message = String::new();
    let mut differing = 0;
    for key in keys {
        let (missing, surplus) = unmatched(expected.get(key).unwrap_or(&nothing), found.get(key).unwrap_or(&nothing));
        if missing.is_empty() && surplus.is_empty() {
            continue;
        }
        differing += 1;
        if differing <= SHOWN {
            describe(&mut message, key_columns(view), key, &missing, &surplus);
        }
    }
    let count = |rows: &BTreeMap<Vec<String>, Vec<Row>>| rows.values().map(Vec::len).sum::<usize>();
    (differing > 0).then(|| {
        let counts = format!("the oracle has {} rows, the answer {}", count(&expected), count(&found));
        format!("{view}: {differing} keys differ ({counts})\n{message}")
    })
}

/// Fails and shows the first differing rows, unless the answer equals the oracle's.
pub fn assert_same(view: &str, expected: &[Row], actual: &Answer) {
    let difference = difference(view, expected, actual);
    assert!(difference.is_none(), "{}", difference.unwrap_or_default());
}

fn by_key(view: &str, rows: &[Row], columns: &BTreeSet<String>) -> BTreeMap<Vec<String>, Vec<Row>> {
    let mut groups: BTreeMap<Vec<String>, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let key = key_columns(view).iter().map(|name| row.get(*name).unwrap_or(&Value::Null).sort_text()).collect();
        let own = columns.iter().map(|name| (name.clone(), row.get(name).cloned().unwrap_or(Value::Null))).collect();
        groups.entry(key).or_default().push(own);
    }
    for group in groups.values_mut() {
        group.sort_by_cached_key(|row| row.values().map(Value::sort_text).collect::<Vec<String>>());
    }
    groups
}

fn same_row(a: &Row, b: &Row) -> bool {
    a.iter().all(|(name, value)| b.get(name).is_some_and(|other| value.same(other)))
}

/// Pairs every row with an equal row of the other side, and returns the rows of both sides that
/// remain.
fn unmatched<'a>(expected: &'a [Row], found: &'a [Row]) -> (Vec<&'a Row>, Vec<&'a Row>) {
    let mut surplus: Vec<&Row> = found.iter().collect();
    let mut missing = Vec::new();
    for row in expected {
        match surplus.iter().position(|other| same_row(row, other)) {
            Some(place) => drop(surplus.remove(place)),
            None => missing.push(row),
        }
    }
    (missing, surplus)
}

fn describe(message: &mut String, names: &[&str], key: &[String], missing: &[&Row], surplus: &[&Row]) {
    let shown: Vec<String> = names.iter().zip(key).map(|(name, value)| format!("{name}={value}")).collect();
    let _ = writeln!(message, "  {}", shown.join(" "));
    for place in 0..missing.len().max(surplus.len()).min(3) {
        match (missing.get(place), surplus.get(place)) {
            (Some(expected), Some(found)) => {
                for (name, value) in *expected {
                    let other = found.get(name).unwrap_or(&Value::Null);
                    if !value.same(other) {
                        let _ = writeln!(message, "    {name}: oracle {value}, answer {other}");
                    }
                }
            }
            (Some(row), None) => {
                let _ = writeln!(message, "    only the oracle has {}", text(row));
            }
            (None, Some(row)) => {
                let _ = writeln!(message, "    only the answer has {}", text(row));
            }
            (None, None) => {}
        }
    }
}

/// A short form of a row: its values that are neither NULL nor zero.
fn text(row: &Row) -> String {
    let telling = row
        .iter()
        .filter(|(_, value)| !matches!(value, Value::Null | Value::Int(0) | Value::Decimal { unscaled: 0, .. }));
    telling.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int32Array, StringViewArray, TimestampMicrosecondArray};

    use super::*;

    fn rows(pairs: &[(&str, i128)]) -> Vec<Row> {
        let row = |(id, reach): &(&str, i128)| {
            Row::from([("campaign_id".to_string(), (*id).into()), ("reach".to_string(), Value::Int(*reach))])
        };
        pairs.iter().map(row).collect()
    }

    fn answer(pairs: &[(&str, i128)]) -> Answer {
        Answer { columns: ["campaign_id", "reach"].map(String::from).into(), rows: rows(pairs) }
    }

    #[test]
    fn rows_are_compared_as_a_multiset() {
        let expected = rows(&[("a", 1), ("a", 1), ("b", 2)]);
        assert_same("campaign_kpis", &expected, &answer(&[("b", 2), ("a", 1), ("a", 1)]));
        let difference = |pairs: &[(&str, i128)]| difference("campaign_kpis", &expected, &answer(pairs)).unwrap();
        assert!(difference(&[("b", 2), ("a", 1)]).contains("only the oracle has campaign_id=\"a\" reach=1"));
        assert!(difference(&[("b", 3), ("a", 1), ("a", 1)]).contains("reach: oracle 2, answer 3"));
        assert!(
            difference(&[("b", 2), ("a", 1), ("a", 1), ("c", 0)]).contains("only the answer has campaign_id=\"c\"")
        );
    }

    #[test]
    fn a_missing_column_is_a_difference() {
        let mut found = answer(&[("a", 1)]);
        found.columns.remove("reach");
        assert!(difference("campaign_kpis", &rows(&[("a", 1)]), &found).unwrap().contains("missing: [\"reach\"]"));
    }

    #[test]
    fn batches_and_json_mean_the_same() {
        let batch = RecordBatch::try_from_iter([
            ("stage", Arc::new(StringViewArray::from(vec![Some("wins"), None])) as ArrayRef),
            ("count", Arc::new(Int32Array::from(vec![Some(-3), None]))),
            ("spend", Arc::new(Decimal128Array::from(vec![1_250_000, 0]).with_precision_and_scale(38, 6).unwrap())),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, 0]).with_timezone("UTC"))),
        ])
        .unwrap();
        let arrow = Answer::of_batches(&batch.schema(), &[batch]).unwrap();
        let text = r#"[{"stage":"wins","count":-3,"spend":"1.25","at":"1970-01-01T00:00:01.500Z"},
            {"stage":null,"count":null,"spend":0,"at":"1970-01-01T00:00:00"}]"#;
        let json = Answer::of_json(text, &arrow.rows).unwrap();
        assert_same("", &arrow.rows, &json);
        assert_same("", &json.rows, &arrow);
    }
}
