//! Writes one value as text, the same in every text format. Nested values are JSON.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray,
    StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How a value is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is: a number, `true`, an object.
    Bare,
    /// In quotes.
    Quoted,
}

/// Whether columns of this type are numbers, which are aligned right.
pub fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Appends the value at `row`, which is not NULL, as tables and CSV show it. Returns how JSON
/// writes it.
pub fn value(out: &mut String, array: &ArrayRef, row: usize) -> Shape {
    macro_rules! number {
        ($type:ty) => {{
            let _ = write!(out, "{}", array.as_primitive::<$type>().value(row));
            Shape::Bare
        }};
    }
    macro_rules! float {
        ($type:ty) => {{
            let value = array.as_primitive::<$type>().value(row);
            // Debug writes the shortest text that reads back as the same number, with an exponent
            // if that is shorter.
            let _ = write!(out, "{value:?}");
            if value.is_finite() { Shape::Bare } else { Shape::Quoted }
        }};
    }
    match array.data_type() {
        DataType::Boolean => {
            let values: &BooleanArray = array.as_boolean();
            out.push_str(if values.value(row) { "true" } else { "false" });
            Shape::Bare
        }
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => float!(Float32Type),
        DataType::Float64 => float!(Float64Type),
        DataType::Decimal128(_, scale) => {
            decimal(out, &array.as_primitive::<Decimal128Type>().value(row).to_string(), *scale);
            Shape::Bare
        }
        DataType::Decimal256(_, scale) => {
            decimal(out, &array.as_primitive::<Decimal256Type>().value(row).to_string(), *scale);
            Shape::Bare
        }
        DataType::Timestamp(unit, zone) => {
            let (value, per_second) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
            };
            timestamp(out, value, per_second, zone.is_some());
            Shape::Quoted
        }
        DataType::Date32 => {
            date(out, array.as_primitive::<Date32Type>().value(row).into());
            Shape::Quoted
        }
        DataType::Utf8 => {
            out.push_str(array.as_string::<i32>().value(row));
            Shape::Quoted
        }
        DataType::LargeUtf8 => {
            out.push_str(array.as_string::<i64>().value(row));
            Shape::Quoted
        }
        DataType::Utf8View => {
            out.push_str(array.as_string_view().value(row));
            Shape::Quoted
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            for byte in bytes(array, row) {
                let _ = write!(out, "{byte:02x}");
            }
            Shape::Quoted
        }
        DataType::Dictionary(_, _) => match arrow::compute::cast(&array.slice(row, 1), &element_type(array)) {
            Ok(element) => value(out, &element, 0),
            Err(_) => Shape::Quoted,
        },
        DataType::List(_) => list(out, &array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(out, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(_, _) => list(out, &array.as_fixed_size_list().value(row)),
        DataType::Struct(_) => structure(out, array.as_struct(), row),
        DataType::Map(_, _) => map(out, &array.as_map().value(row)),
        _ => {
            // Times of day, intervals and other types: as Arrow prints them.
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default());
            if let Ok(formatter) = formatter {
                let _ = write!(out, "{}", formatter.value(row));
            }
            Shape::Quoted
        }
    }
}

/// Appends the value at `row` as JSON.
pub fn json(out: &mut String, array: &ArrayRef, row: usize) {
    if array.is_null(row) || array.data_type().is_null() {
        out.push_str("null");
        return;
    }
    let from = out.len();
    if value(out, array, row) == Shape::Quoted {
        let text = out.split_off(from);
        string(out, &text);
    }
}

/// Appends a JSON string.
pub fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => _ = write!(out, "\\u{:04x}", control as u32),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn decimal(out: &mut String, unscaled: &str, scale: i8) {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    out.push_str(sign);
    if scale <= 0 {
        out.push_str(digits);
        if digits != "0" {
            out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        return;
    }
    let scale = scale as usize;
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.push_str(whole);
    out.push('.');
    out.push_str(fraction);
}

fn timestamp(out: &mut String, value: i64, per_second: i64, zoned: bool) {
    let seconds = value.div_euclid(per_second);
    date(out, seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let _ = write!(out, "T{:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let fraction = value.rem_euclid(per_second);
    if fraction != 0 {
        let width = per_second.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    if zoned {
        out.push('Z');
    }
}

fn date(out: &mut String, day: i64) {
    let (year, month, day) = adlake_domain::time::civil_from_days(day);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

fn bytes(array: &ArrayRef, row: usize) -> &[u8] {
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<BinaryArray>() {
        array.value(row)
    } else if let Some(array) = any.downcast_ref::<LargeBinaryArray>() {
        array.value(row)
    } else if let Some(array) = any.downcast_ref::<BinaryViewArray>() {
        array.value(row)
    } else if let Some(array) = any.downcast_ref::<FixedSizeBinaryArray>() {
        array.value(row)
    } else {
        &[]
    }
}

fn element_type(array: &ArrayRef) -> DataType {
    match array.data_type() {
        DataType::Dictionary(_, element) => element.as_ref().clone(),
        other => other.clone(),
    }
}

fn list(out: &mut String, elements: &ArrayRef) -> Shape {
    out.push('[');
    for row in 0..elements.len() {
        if row > 0 {
            out.push(',');
        }
        json(out, elements, row);
    }
    out.push(']');
    Shape::Bare
}

fn structure(out: &mut String, array: &StructArray, row: usize) -> Shape {
    out.push('{');
    for (place, (name, column)) in array.column_names().iter().zip(array.columns()).enumerate() {
        if place > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        json(out, column, row);
    }
    out.push('}');
    Shape::Bare
}

fn map(out: &mut String, entries: &StructArray) -> Shape {
    out.push('{');
    for row in 0..entries.len() {
        if row > 0 {
            out.push(',');
        }
        let mut key = String::new();
        value(&mut key, entries.column(0), row);
        string(out, &key);
        out.push(':');
        json(out, entries.column(1), row);
    }
    out.push('}');
    Shape::Bare
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Decimal128Array, Float64Array, Int64Array, ListArray, NullArray, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn check(array: impl Array + 'static, text: &[&str], in_json: &[&str]) {
        let array: ArrayRef = Arc::new(array);
        for row in 0..array.len() {
            let (mut plain, mut quoted) = (String::new(), String::new());
            if !array.is_null(row) && !array.data_type().is_null() {
                value(&mut plain, &array, row);
            }
            json(&mut quoted, &array, row);
            assert_eq!((plain.as_str(), quoted.as_str()), (text[row], in_json[row]));
        }
    }

    #[test]
    fn decimals_are_exact() {
        let decimals =
            |scale, values: Vec<i128>| Decimal128Array::from(values).with_precision_and_scale(38, scale).unwrap();
        let exact = ["0.000000", "1.500000", "-0.000001", "99999999999999999999999999999999.999999"];
        check(decimals(6, vec![0, 1_500_000, -1, 10_i128.pow(38) - 1]), &exact, &exact);
        check(decimals(0, vec![-7]), &["-7"], &["-7"]);
        check(decimals(-2, vec![3, 0]), &["300", "0"], &["300", "0"]);
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        let times = TimestampMicrosecondArray::from(vec![0, 1_735_689_600_500_000, -1]);
        let expected = ["1970-01-01T00:00:00Z", "2025-01-01T00:00:00.5Z", "1969-12-31T23:59:59.999999Z"];
        let quoted = expected.map(|time| format!("\"{time}\""));
        let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
        check(times.clone().with_timezone("UTC"), &expected, &quoted);
        check(times.slice(0, 1), &["1970-01-01T00:00:00"], &["\"1970-01-01T00:00:00\""]);
    }

    #[test]
    fn the_rest() {
        check(Int64Array::from(vec![i64::MIN]), &["-9223372036854775808"], &["-9223372036854775808"]);
        check(
            Float64Array::from(vec![0.1, 1.0, 1e300, f64::NAN]),
            &["0.1", "1.0", "1e300", "NaN"],
            &["0.1", "1.0", "1e300", "\"NaN\""],
        );
        check(
            StringArray::from(vec![Some("a\"\n\u{1}é"), None]),
            &["a\"\n\u{1}é", ""],
            &["\"a\\\"\\n\\u0001é\"", "null"],
        );
        check(BinaryArray::from(vec![&[0_u8, 255][..]]), &["00ff"], &["\"00ff\""]);
        check(NullArray::new(1), &[""], &["null"]);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]);
        check(list, &["[1,null]"], &["[1,null]"]);
        let fields = Fields::from(vec![Field::new("a", DataType::Utf8, true)]);
        let structure = StructArray::new(fields, vec![Arc::new(StringArray::from(vec!["x"]))], None);
        check(structure, &["{\"a\":\"x\"}"], &["{\"a\":\"x\"}"]);
    }
}
