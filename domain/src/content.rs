//! The content of an event and its hash. Two records are exact copies if their hashes are equal.
//!
//! The content is the fields as sent, decoded, in schema order, and `attributes` last. The hash is
//! XXH3-128 (seed 0) over all fields. A NULL field is one byte 0. Any other field is one byte 1,
//! the length of its bytes (u32, little-endian), and its bytes:
//!
//! - Texts: their UTF-8 bytes.
//! - Numbers, amounts, times and dates: their little-endian two's complement bytes.
//! - Doubles: their IEEE 754 bits, also little-endian.
//! - Booleans: one byte.
//! - Nested values: their canonical JSON text (below).
//!
//! The hash is stored as the 16 bytes of XXH3's canonical (big-endian) form. So its hex digits are
//! the hash as it is usually printed.
//!
//! Canonical JSON has no spaces:
//!
//! - A struct is an object of its fields in schema order, without those that are NULL.
//! - A list is an array, with `null` for NULL elements.
//! - A map is an object of its entries in stored order (ingest stores them sorted by key), with
//!   `null` for NULL values.
//! - Integers are decimal digits.
//! - Doubles are Rust's shortest decimal without exponent, or a string if they are not finite.
//! - In strings `"`, `\` and the characters below U+0020 are escaped: with the short form if JSON
//!   has one, else as `\u00xx` in lower case. All other characters stand for themselves.

use std::fmt::Write;

use arrow_array::builder::BinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch, StringArray,
    StructArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_128;

use crate::event::EventKind;
use crate::schema;

/// The name of the field that holds what the schema does not know. It is the last of the content.
pub const ATTRIBUTES: &str = "attributes";

/// The content hashes of a batch's rows. The batch has at least the content fields of its kind,
/// under their names.
///
/// It is an error if a content field is missing, or has a type that events do not have.
pub fn content_hashes_of_batch(kind: EventKind, batch: &RecordBatch) -> Result<BinaryArray, ArrowError> {
    let mut names: Vec<String> = schema::content_fields(kind).iter().map(|field| field.name().clone()).collect();
    names.push(ATTRIBUTES.to_string());
    let columns = names
        .iter()
        .map(|name| {
            let column = batch.column_by_name(name);
            column.cloned().ok_or_else(|| ArrowError::SchemaError(format!("no content field '{name}' in the batch")))
        })
        .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    content_hashes(&columns, batch.num_rows())
}

/// The content hashes of `rows` rows. `columns` are the content fields in schema order,
/// `attributes` last.
///
/// It is an error if a column is shorter, or has a type that events do not have.
pub fn content_hashes(columns: &[ArrayRef], rows: usize) -> Result<BinaryArray, ArrowError> {
    let columns = columns.iter().map(|column| Column::new(column, rows)).collect::<Result<Vec<_>, _>>()?;
    let mut hashes = BinaryBuilder::with_capacity(rows, rows * 16);
    let (mut bytes, mut json) = (Vec::with_capacity(1024), String::new());
    for row in 0..rows {
        bytes.clear();
        for column in &columns {
            column.write(row, &mut bytes, &mut json);
        }
        hashes.append_value(xxh3_128(&bytes).to_be_bytes());
    }
    Ok(hashes.finish())
}

/// Appends a nested value of an event to `out` as canonical JSON.
pub fn write_canonical_json(array: &dyn Array, row: usize, out: &mut String) -> Result<(), ArrowError> {
    Nested::new(array)?.write(row, out);
    Ok(())
}

/// A column by its type. The type is looked up once for all rows.
enum Column<'a> {
    /// NULL in every row.
    Null,
    Text(Present<'a>, &'a [i32], &'a [u8]),
    Int32(Present<'a>, &'a [i32]),
    Int64(Present<'a>, &'a [i64]),
    Float64(Present<'a>, &'a [f64]),
    Amount(Present<'a>, &'a [i128]),
    Boolean(Present<'a>, &'a BooleanBuffer),
    Nested(Present<'a>, Nested<'a>),
}

/// Which rows have a value.
struct Present<'a>(Option<&'a NullBuffer>);

impl Present<'_> {
    #[inline(always)]
    fn has(&self, row: usize) -> bool {
        self.0.is_none_or(|nulls| nulls.is_valid(row))
    }
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef, rows: usize) -> Result<Self, ArrowError> {
        if array.len() < rows {
            return Err(ArrowError::InvalidArgumentError(format!("a column has {} rows of {rows}", array.len())));
        }
        if array.null_count() == array.len() {
            return Ok(Column::Null);
        }
        let present = Present(array.nulls());
        Ok(match array.data_type() {
            DataType::Utf8 => {
                let texts: &StringArray = array.as_string();
                Column::Text(present, texts.value_offsets(), texts.value_data())
            }
            DataType::Int32 => Column::Int32(present, array.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Column::Int32(present, array.as_primitive::<Date32Type>().values()),
            DataType::Int64 => Column::Int64(present, array.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Column::Int64(present, array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Float64 => Column::Float64(present, array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(..) => Column::Amount(present, array.as_primitive::<Decimal128Type>().values()),
            DataType::Boolean => Column::Boolean(present, array.as_boolean().values()),
            _ => Column::Nested(present, Nested::new(array.as_ref())?),
        })
    }

    /// Appends the bytes of a row to `out`. `json` is scratch memory.
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>, json: &mut String) {
        match self {
            Column::Text(present, offsets, bytes) if present.has(row) => {
                write_bytes(&bytes[offsets[row] as usize..offsets[row + 1] as usize], out);
            }
            Column::Int32(present, values) if present.has(row) => write_bytes(&values[row].to_le_bytes(), out),
            Column::Int64(present, values) if present.has(row) => write_bytes(&values[row].to_le_bytes(), out),
            Column::Float64(present, values) if present.has(row) => write_bytes(&values[row].to_le_bytes(), out),
            Column::Amount(present, values) if present.has(row) => write_bytes(&values[row].to_le_bytes(), out),
            Column::Boolean(present, values) if present.has(row) => write_bytes(&[u8::from(values.value(row))], out),
            Column::Nested(present, nested) if present.has(row) => {
                json.clear();
                nested.write_valid(row, json);
                write_bytes(json.as_bytes(), out);
            }
            _ => out.push(0),
        }
    }
}

#[inline(always)]
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let header = (bytes.len() as u64) << 8 | 1;
    out.extend_from_slice(&header.to_le_bytes());
    // The length has only four bytes.
    out.truncate(out.len() - 3);
    out.extend_from_slice(bytes);
}

/// A value inside a nested column, by its type.
enum Nested<'a> {
    Text(&'a StringArray),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Boolean(&'a BooleanArray),
    /// Each child has the text before its value: its name and a colon.
    Struct(&'a StructArray, Vec<(String, Nested<'a>)>),
    List(&'a ListArray, Box<Nested<'a>>),
    Map(&'a MapArray, &'a StringArray, Box<Nested<'a>>),
}

impl<'a> Nested<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Utf8 => Nested::Text(array.as_string()),
            DataType::Int32 => Nested::Int32(array.as_primitive()),
            DataType::Int64 => Nested::Int64(array.as_primitive()),
            DataType::Float64 => Nested::Float64(array.as_primitive()),
            DataType::Boolean => Nested::Boolean(array.as_boolean()),
            DataType::Struct(fields) => {
                let array = array.as_struct();
                // A field that is NULL in all rows appears in no text.
                let present = |child: &ArrayRef| child.null_count() < child.len();
                let children = fields
                    .iter()
                    .zip(array.columns())
                    .filter(|(_, child)| present(child))
                    .map(|(field, child)| {
                        let mut name = String::new();
                        write_json_string(field.name(), &mut name);
                        name.push(':');
                        Ok((name, Nested::new(child.as_ref())?))
                    })
                    .collect::<Result<Vec<_>, ArrowError>>()?;
                Nested::Struct(array, children)
            }
            DataType::List(_) => {
                let array: &ListArray = array.as_list();
                Nested::List(array, Box::new(Nested::new(array.values().as_ref())?))
            }
            DataType::Map(..) => {
                let array = array.as_map();
                let keys = array.keys().as_string_opt::<i32>();
                let keys = keys.ok_or_else(|| ArrowError::SchemaError("map keys are not texts".into()))?;
                Nested::Map(array, keys, Box::new(Nested::new(array.values().as_ref())?))
            }
            other => return Err(ArrowError::SchemaError(format!("events have no values of type {other}"))),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Nested::Text(array) => array.is_null(row),
            Nested::Int32(array) => array.is_null(row),
            Nested::Int64(array) => array.is_null(row),
            Nested::Float64(array) => array.is_null(row),
            Nested::Boolean(array) => array.is_null(row),
            Nested::Struct(array, _) => array.is_null(row),
            Nested::List(array, _) => array.is_null(row),
            Nested::Map(array, ..) => array.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
        } else {
            self.write_valid(row, out);
        }
    }

    /// Writes a value that is not NULL.
    fn write_valid(&self, row: usize, out: &mut String) {
        // Writing to a String cannot fail.
        match self {
            Nested::Text(array) => write_json_string(array.value(row), out),
            Nested::Int32(array) => out.push_str(itoa::Buffer::new().format(array.value(row))),
            Nested::Int64(array) => out.push_str(itoa::Buffer::new().format(array.value(row))),
            Nested::Float64(array) => write_json_double(array.value(row), out),
            Nested::Boolean(array) => out.push_str(if array.value(row) { "true" } else { "false" }),
            Nested::Struct(_, children) => {
                out.push('{');
                let mut first = true;
                for (name, child) in children.iter().filter(|(_, child)| !child.is_null(row)) {
                    separate(&mut first, out);
                    out.push_str(name);
                    child.write_valid(row, out);
                }
                out.push('}');
            }
            Nested::List(array, child) => {
                out.push('[');
                let mut first = true;
                for at in range(array.value_offsets(), row) {
                    separate(&mut first, out);
                    child.write(at, out);
                }
                out.push(']');
            }
            Nested::Map(array, keys, values) => {
                out.push('{');
                let mut first = true;
                for at in range(array.value_offsets(), row) {
                    separate(&mut first, out);
                    write_json_string(keys.value(at), out);
                    out.push(':');
                    values.write(at, out);
                }
                out.push('}');
            }
        }
    }
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

/// Appends a string of canonical JSON to `out`, with its quotes.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    if text.as_bytes().chunks(ESCAPE_BYTES).any(|chunk| chunk.iter().fold(false, |any, byte| any | is_escaped(*byte))) {
        write_escaped(text, out);
    } else {
        out.push_str(text);
    }
    out.push('"');
}

/// Bytes that are checked together. The check has no early exit, so the compiler can vectorize it.
const ESCAPE_BYTES: usize = 32;

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_escaped(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(is_escaped) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            byte => _ = write!(out, "\\u{byte:04x}"),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Appends a double of canonical JSON to `out`.
pub fn write_json_double(value: f64, out: &mut String) {
    if value.is_finite() {
        _ = write!(out, "{value}");
    } else {
        _ = write!(out, "\"{value}\"");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder, StructBuilder};
    use arrow_array::{Decimal128Array, Int64Array, TimestampMicrosecondArray, new_null_array};
    use arrow_schema::{Field, Fields};

    use super::*;

    fn hash(columns: Vec<ArrayRef>) -> u128 {
        let hashes = content_hashes(&columns, 1).unwrap();
        u128::from_be_bytes(hashes.value(0).try_into().unwrap())
    }

    fn text(value: Option<&str>) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    #[test]
    fn bytes_are_as_defined() {
        let columns: Vec<ArrayRef> = vec![
            text(Some("ab")),
            text(None),
            text(Some("")),
            Arc::new(Int64Array::from(vec![-2])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            Arc::new(Decimal128Array::from(vec![5]).with_precision_and_scale(38, 12).unwrap()),
        ];
        let mut bytes = vec![1, 2, 0, 0, 0, b'a', b'b', 0, 1, 0, 0, 0, 0];
        bytes.extend([1, 8, 0, 0, 0]);
        bytes.extend((-2i64).to_le_bytes());
        bytes.extend([1, 1, 0, 0, 0, 1]);
        bytes.extend([1, 8, 0, 0, 0]);
        bytes.extend(1i64.to_le_bytes());
        bytes.extend([1, 16, 0, 0, 0]);
        bytes.extend(5i128.to_le_bytes());
        assert_eq!(hash(columns), xxh3_128(&bytes));
    }

    #[test]
    fn boundaries_and_nulls_tell() {
        let distinct = [
            hash(vec![text(Some("ab")), text(Some("c"))]),
            hash(vec![text(Some("a")), text(Some("bc"))]),
            hash(vec![text(None), text(Some("abc"))]),
            hash(vec![text(Some("")), text(Some("abc"))]),
            hash(vec![text(Some("abc")), text(None)]),
        ];
        for (at, one) in distinct.iter().enumerate() {
            assert!(distinct[at + 1..].iter().all(|other| one != other));
        }
    }

    #[test]
    fn nested_values_are_canonical_json() {
        let fields = Fields::from(vec![Field::new("id", DataType::Utf8, true), Field::new("w", DataType::Int32, true)]);
        let mut list = ListBuilder::new(StructBuilder::new(
            fields,
            vec![Box::new(StringBuilder::new()), Box::new(Int32Builder::new())],
        ));
        let item = list.values();
        item.field_builder::<StringBuilder>(0).unwrap().append_value("a\"\\\n\u{1}é");
        item.field_builder::<Int32Builder>(1).unwrap().append_value(-7);
        item.append(true);
        let item = list.values();
        item.field_builder::<StringBuilder>(0).unwrap().append_null();
        item.field_builder::<Int32Builder>(1).unwrap().append_null();
        item.append(true);
        let item = list.values();
        item.field_builder::<StringBuilder>(0).unwrap().append_null();
        item.field_builder::<Int32Builder>(1).unwrap().append_null();
        item.append(false);
        list.append(true);
        let array = list.finish();
        let mut out = String::new();
        write_canonical_json(&array, 0, &mut out).unwrap();
        assert_eq!(out, r#"[{"id":"a\"\\\n\u0001é","w":-7},{},null]"#);

        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.keys().append_value("n");
        map.values().append_null();
        map.append(true).unwrap();
        let mut out = String::new();
        write_canonical_json(&map.finish(), 0, &mut out).unwrap();
        assert_eq!(out, r#"{"k":"v","n":null}"#);
    }

    #[test]
    fn doubles_are_shortest() {
        let check = |value: f64, expected: &str| {
            let mut out = String::new();
            write_json_double(value, &mut out);
            assert_eq!(out, expected);
        };
        check(0.1, "0.1");
        check(1.0, "1");
        check(-0.0, "-0");
        check(1e21, "1000000000000000000000");
        check(f64::NAN, "\"NaN\"");
    }

    #[test]
    fn every_kind_can_be_hashed() {
        for kind in EventKind::ALL {
            let schema = schema::raw_schema(kind);
            let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), 3)).collect();
            let batch = RecordBatch::try_new(schema, columns).unwrap();
            let hashes = content_hashes_of_batch(kind, &batch).unwrap();
            let nulls = vec![0u8; schema::content_fields(kind).len() + 1];
            assert_eq!(hashes.value(2), xxh3_128(&nulls).to_be_bytes());
        }
    }
}
