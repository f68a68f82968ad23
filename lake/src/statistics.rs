//! Column statistics of a data file, in the form of Delta's log: the number of rows, minima,
//! maxima, and the number of NULLs.
//!
//! They come from the Parquet footer. Texts are cut to [`TEXT_MAX`] characters. A maximum that is
//! cut is raised, so that it is still an upper bound. Only NULLs are counted in columns without an
//! order that all readers share: decimals, floats, bytes, lists and maps.

use std::collections::BTreeMap;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::data_type::AsBytes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// The most characters of a text in the statistics.
const TEXT_MAX: usize = 32;

/// The statistics of a column over all row groups. A bound of `None` is unknown.
struct Bounds {
    min: Option<Bound>,
    max: Option<Bound>,
    nulls: Option<u64>,
}

#[derive(Clone, PartialEq, PartialOrd)]
enum Bound {
    Integer(i64),
    Text(Vec<u8>),
}

/// The `stats` of an `add` action, as JSON.
pub(crate) fn delta_statistics(metadata: &ParquetMetaData) -> String {
    let mut columns: BTreeMap<usize, Bounds> = BTreeMap::new();
    for group in metadata.row_groups() {
        for (place, column) in group.columns().iter().enumerate() {
            let found = bounds(column);
            columns.entry(place).and_modify(|known| known.widen(&found)).or_insert(found);
        }
    }
    let schema = metadata.file_metadata().schema_descr();
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (place, bounds) in columns {
        let column = schema.column(place);
        if column.max_rep_level() > 0 {
            continue;
        }
        let path = column.path().parts();
        let kind = column.logical_type_ref();
        let is_date = matches!(kind, Some(LogicalType::Date));
        let is_time = matches!(kind, Some(LogicalType::Timestamp { .. }));
        let show = |bound: &Bound, upper: bool| match bound {
            Bound::Integer(days) if is_date => date(*days),
            Bound::Integer(micros) if is_time => time(*micros, upper),
            Bound::Integer(number) => Some(json!(number)),
            Bound::Text(text) => shorten(text, upper).map(Value::String),
        };
        if let (Some(low), Some(high)) = (&bounds.min, &bounds.max)
            && let (Some(low), Some(high)) = (show(low, false), show(high, true))
        {
            put(&mut min, path, low);
            put(&mut max, path, high);
        }
        if let Some(count) = bounds.nulls {
            put(&mut nulls, path, json!(count));
        }
    }
    let rows = metadata.file_metadata().num_rows();
    json!({"numRecords": rows, "minValues": min, "maxValues": max, "nullCount": nulls}).to_string()
}

impl Bounds {
    fn widen(&mut self, other: &Bounds) {
        self.min = match (self.min.take(), &other.min) {
            (Some(a), Some(b)) => Some(if *b < a { b.clone() } else { a }),
            _ => None,
        };
        self.max = match (self.max.take(), &other.max) {
            (Some(a), Some(b)) => Some(if *b > a { b.clone() } else { a }),
            _ => None,
        };
        self.nulls = self.nulls.zip(other.nulls).map(|(a, b)| a + b);
    }
}

fn bounds(column: &ColumnChunkMetaData) -> Bounds {
    let Some(statistics) = column.statistics() else { return Bounds { min: None, max: None, nulls: None } };
    let nulls = statistics.null_count_opt();
    let kind = column.column_descr().logical_type_ref();
    let text =
        column.column_descr().converted_type() == ConvertedType::UTF8 || matches!(kind, Some(LogicalType::String));
    let integer = match kind {
        None | Some(LogicalType::Date | LogicalType::Integer { .. }) => true,
        Some(LogicalType::Timestamp(time)) => time.unit == TimeUnit::MICROS,
        _ => false,
    };
    let (min, max) = match statistics {
        Statistics::Int32(values) if integer => (
            values.min_opt().map(|v| Bound::Integer(i64::from(*v))),
            values.max_opt().map(|v| Bound::Integer(i64::from(*v))),
        ),
        Statistics::Int64(values) if integer => {
            (values.min_opt().map(|v| Bound::Integer(*v)), values.max_opt().map(|v| Bound::Integer(*v)))
        }
        Statistics::ByteArray(values) if text && column.column_type() == Type::BYTE_ARRAY => (
            values.min_opt().map(|v| Bound::Text(v.as_bytes().to_vec())),
            values.max_opt().map(|v| Bound::Text(v.as_bytes().to_vec())),
        ),
        _ => (None, None),
    };
    Bounds { min, max, nulls }
}

fn put(values: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            values.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            if let Value::Object(inner) = values.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())) {
                put(inner, rest, value);
            }
        }
    }
}

fn date(days: i64) -> Option<Value> {
    let date = chrono::DateTime::UNIX_EPOCH.checked_add_signed(chrono::Duration::try_days(days)?)?;
    Some(json!(date.format("%Y-%m-%d").to_string()))
}

/// Delta's readers compare times in the statistics by milliseconds, so a maximum is rounded up.
fn time(micros: i64, upper: bool) -> Option<Value> {
    let millis = if upper { micros.checked_add(999)?.div_euclid(1000) } else { micros.div_euclid(1000) };
    let time = chrono::DateTime::from_timestamp_millis(millis)?;
    Some(json!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
}

/// A bound for a text, of at most [`TEXT_MAX`] characters: the text is cut, and raised if it is an
/// upper bound.
fn shorten(text: &[u8], upper: bool) -> Option<String> {
    // Parquet may have cut the bytes inside a character.
    let (text, whole) = match std::str::from_utf8(text) {
        Ok(text) => (text, true),
        Err(error) => (std::str::from_utf8(&text[..error.valid_up_to()]).ok()?, false),
    };
    let mut characters: Vec<char> = text.chars().take(TEXT_MAX).collect();
    if whole && text.chars().nth(TEXT_MAX).is_none() || !upper {
        return Some(characters.into_iter().collect());
    }
    while let Some(last) = characters.pop() {
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_bound_from_both_sides() {
        let long = "a".repeat(40);
        assert_eq!(shorten(b"abc", true).unwrap(), "abc");
        assert_eq!(shorten(long.as_bytes(), false).unwrap(), "a".repeat(32));
        assert_eq!(shorten(long.as_bytes(), true).unwrap(), format!("{}b", "a".repeat(31)));
        assert_eq!(shorten(char::MAX.to_string().repeat(40).as_bytes(), true), None);
        let exact = "é".repeat(32);
        assert_eq!(shorten(exact.as_bytes(), true).unwrap(), exact);
    }

    #[test]
    fn times_are_rounded_outwards() {
        assert_eq!(time(1_500, false).unwrap(), json!("1970-01-01T00:00:00.001Z"));
        assert_eq!(time(1_500, true).unwrap(), json!("1970-01-01T00:00:00.002Z"));
        assert_eq!(time(-1, false).unwrap(), json!("1969-12-31T23:59:59.999Z"));
    }
}
