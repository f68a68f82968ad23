//! The forms of an answer: JSON, CSV, Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use serde_json::Value as Json;

use crate::answer::{Answer, AnswerColumn, Value};

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// With everything that is told with the answer.
    Json,
    /// The rows, and the totals as the last.
    Csv,
    /// The rows as an Arrow stream.
    Arrow,
}

impl Format {
    /// The best of what a client accepts. `None`: nothing of it.
    pub fn of(accept: Option<&str>) -> Option<Format> {
        let Some(accept) = accept else { return Some(Format::Json) };
        let mut best: Option<(f32, Format)> = None;
        for part in accept.split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let format = match parameters.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "*/*" | "application/*" | "application/json" => Format::Json,
                "text/csv" | "text/*" => Format::Csv,
                "application/vnd.apache.arrow.stream" => Format::Arrow,
                _ => continue,
            };
            let weight = parameters.find_map(|parameter| parameter.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            // Of equally good ones the first that is named.
            if weight > 0.0 && best.is_none_or(|(other, _)| weight > other) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// The answer as JSON.
pub fn json(answer: &Answer, meta: Json) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        columns: &'a [AnswerColumn],
        rows: &'a [Vec<Value>],
        #[serde(skip_serializing_if = "Option::is_none")]
        totals: Option<&'a [Value]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        compare: Option<&'a crate::answer::Comparison>,
        meta: Json,
    }
    serde_json::to_vec(&Body {
        columns: &answer.columns,
        rows: &answer.rows,
        totals: answer.totals.as_deref(),
        compare: answer.compare.as_ref(),
        meta,
    })
}

/// The answer as CSV (RFC 4180).
pub fn csv(answer: &Answer) -> String {
    let mut text = String::new();
    line(&mut text, answer.columns.iter().map(|column| Some(column.name.clone())));
    for row in answer.rows.iter().chain(answer.totals.iter()) {
        line(&mut text, row.iter().map(cell));
    }
    text
}

/// The text of a cell. Texts that a spreadsheet would take for a formula begin with an apostrophe.
/// Numbers stay as they are.
fn cell(value: &Value) -> Option<String> {
    let text = value.text()?;
    let is_formula = matches!(value, Value::Text(_)) && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    Some(if is_formula { format!("'{text}") } else { text })
}

fn line(text: &mut String, cells: impl Iterator<Item = Option<String>>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            text.push(',');
        }
        match cell {
            None => {}
            // An empty text is told apart from NULL.
            Some(cell) if cell.is_empty() || cell.contains(['"', ',', '\n', '\r']) => {
                text.push('"');
                text.push_str(&cell.replace('"', "\"\""));
                text.push('"');
            }
            Some(cell) => text.push_str(&cell),
        }
    }
    text.push_str("\r\n");
}

/// The rows of the answer as an Arrow stream.
pub fn arrow(answer: &Answer) -> Result<Vec<u8>, ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (place, column) in answer.columns.iter().enumerate() {
        let values = || answer.rows.iter().map(move |row| &row[place]);
        let array: ArrayRef = match column.value_type {
            "time" => {
                let times = values().map(|value| if let Value::Time(micros) = value { Some(*micros) } else { None });
                Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
            }
            "string" => {
                let texts =
                    values().map(|value| if let Value::Text(text) = value { Some(text.as_ref()) } else { None });
                Arc::new(StringArray::from_iter(texts))
            }
            "integer" if column.is_wide => {
                let numbers =
                    values().map(|value| if let Value::Integer(number) = value { Some(*number) } else { None });
                Arc::new(Decimal128Array::from_iter(numbers).with_precision_and_scale(38, 0)?)
            }
            "integer" => integers(values())?,
            "decimal" => {
                let scale =
                    values().find_map(|value| if let Value::Decimal(_, scale) = value { Some(*scale) } else { None });
                let decimals =
                    values().map(|value| if let Value::Decimal(number, _) = value { Some(*number) } else { None });
                Arc::new(Decimal128Array::from_iter(decimals).with_precision_and_scale(38, scale.unwrap_or(6))?)
            }
            _ => {
                let numbers =
                    values().map(|value| if let Value::Number(number) = value { Some(*number) } else { None });
                Arc::new(Float64Array::from_iter(numbers))
            }
        };
        fields.push(Field::new(&column.name, array.data_type().clone(), true));
        columns.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn integers<'a>(values: impl Iterator<Item = &'a Value>) -> Result<ArrayRef, ArrowError> {
    let numbers = values.map(|value| match value {
        Value::Integer(number) => i64::try_from(*number)
            .map(Some)
            .map_err(|_| ArrowError::ComputeError(format!("{number} does not fit into 64 bits"))),
        _ => Ok(None),
    });
    Ok(Arc::new(Int64Array::from(numbers.collect::<Result<Vec<_>, _>>()?)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, TimeUnit};
    use arrow::ipc::reader::StreamReader;

    use super::*;
    use crate::answer::Source;

    fn answer() -> Answer {
        let column = |name: &str, value_type| AnswerColumn {
            name: name.into(),
            role: "metric",
            value_type,
            unit: None,
            is_wide: false,
        };
        Answer {
            columns: vec![
                column("time", "time"),
                column("site", "string"),
                column("n", "integer"),
                column("m", "decimal"),
            ],
            rows: vec![
                vec![Value::Time(0), Value::Text("=1+1".into()), Value::Integer(-3), Value::Decimal(-5, 6)],
                vec![Value::Time(0), Value::Text("".into()), Value::Integer(0), Value::Null],
                vec![Value::Null, Value::Null, Value::Integer(1), Value::Decimal(1_500_000, 6)],
                vec![Value::Null, Value::Text("a,\"b\"".into()), Value::Null, Value::Null],
            ],
            totals: None,
            compare: None,
            source: Source::Memory,
            rows_in_all: 4,
            next_offset: None,
        }
    }

    #[test]
    fn csv_is_safe_in_spreadsheets_and_tells_empty_from_unknown() {
        let expected = "time,site,n,m\r\n1970-01-01T00:00:00Z,'=1+1,-3,-0.000005\r\n1970-01-01T00:00:00Z,\"\",0,\r\n\
                        ,,1,1.500000\r\n,\"a,\"\"b\"\"\",,\r\n";
        assert_eq!(csv(&answer()), expected);
    }

    #[test]
    fn arrow_has_types() {
        let bytes = arrow(&answer()).unwrap();
        let batch = StreamReader::try_new(bytes.as_slice(), None).unwrap().next().unwrap().unwrap();
        let types: Vec<DataType> = batch.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let times = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(types, [times, DataType::Utf8, DataType::Int64, DataType::Decimal128(38, 6)]);
        assert_eq!((batch.num_rows(), batch.column(3).null_count()), (4, 2));
    }

    #[test]
    fn the_best_accepted_format_is_chosen() {
        for (accept, expected) in [
            (None, Some(Format::Json)),
            (Some("*/*"), Some(Format::Json)),
            (Some("text/csv"), Some(Format::Csv)),
            (Some("text/csv;q=0.5, application/json"), Some(Format::Json)),
            (Some("text/html, application/vnd.apache.arrow.stream;q=0.1"), Some(Format::Arrow)),
            (Some("application/json;q=0"), None),
            (Some("image/png"), None),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept:?}");
        }
    }
}
