//! Builds record batches of raw rows. Their schema is exactly `adlake_domain::schema::raw_schema`.

use std::sync::Arc;

use adlake_domain::content::content_hashes;
use adlake_domain::event::EventKind;
use adlake_domain::schema::raw_schema;
use anyhow::{Context, Result, bail, ensure};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields};
use arrow::record_batch::RecordBatch;

use crate::oracle::content::Content;
use crate::oracle::raw::RawRow;

const DAY: i64 = 86_400_000_000;

/// A batch of a raw table. The implementation itself computes `content_hash`, over the columns
/// before it.
pub fn table<R: RawRow>(kind: EventKind, rows: &[R]) -> Result<RecordBatch> {
    let schema = raw_schema(kind);
    let field_type = |name: &str| -> Result<DataType> { Ok(schema.field_with_name(name)?.data_type().clone()) };
    let contents: Vec<Vec<Content>> = rows.iter().map(RawRow::content).collect();
    let width = schema.index_of("content_hash")?;
    ensure!(contents.iter().all(|content| content.len() == width), "{kind}: the structs and the schema differ");
    let mut columns: Vec<ArrayRef> = Vec::new();
    for place in 0..width {
        let field = schema.field(place);
        let values: Vec<Content> = contents.iter().map(|content| content[place].clone()).collect();
        columns.push(array(&values, field.data_type()).with_context(|| format!("{kind}: {}", field.name()))?);
    }
    let hashes = content_hashes(&columns, rows.len())?;
    columns.push(Arc::new(hashes));
    let enriched: Vec<Content> = rows.iter().map(RawRow::enriched).collect();
    columns.push(array(&enriched, &field_type("enriched")?)?);
    let sources: Vec<Content> = rows
        .iter()
        .map(|row| {
            let source = row.source();
            Content::Struct(vec![
                ("topic", Content::Text(source.topic.clone())),
                ("partition", Content::Int32(source.partition)),
                ("offset", Content::Int64(source.offset)),
            ])
        })
        .collect();
    columns.push(array(&sources, &field_type("source")?)?);
    let ingested: Vec<Content> = rows.iter().map(|row| Content::Time(row.ingested_at())).collect();
    columns.push(array(&ingested, &field_type("ingested_at")?)?);
    let dates = rows.iter().map(|row| Some(row.event_time().div_euclid(DAY) as i32));
    columns.push(Arc::new(dates.collect::<Date32Array>()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn array(values: &[Content], data_type: &DataType) -> Result<ArrayRef> {
    macro_rules! plain {
        ($array:ty, $variant:ident) => {{
            let mut plain = Vec::with_capacity(values.len());
            for value in values {
                plain.push(match value {
                    Content::Null => None,
                    Content::$variant(value) => Some(value.clone()),
                    other => bail!("{other:?} is not of {data_type}"),
                });
            }
            plain.into_iter().collect::<$array>()
        }};
    }
    Ok(match data_type {
        DataType::Utf8 => Arc::new(plain!(StringArray, Text)),
        DataType::Boolean => Arc::new(plain!(BooleanArray, Bool)),
        DataType::Int32 => Arc::new(plain!(Int32Array, Int32)),
        DataType::Int64 => Arc::new(plain!(Int64Array, Int64)),
        DataType::Timestamp(_, _) => Arc::new(plain!(TimestampMicrosecondArray, Time).with_timezone("UTC")),
        DataType::Decimal128(precision, scale) => {
            Arc::new(plain!(Decimal128Array, Decimal).with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Float64 => {
            let doubles = values.iter().map(|value| match value {
                Content::Double(double) => Some(double.0),
                _ => None,
            });
            Arc::new(doubles.collect::<Float64Array>())
        }
        DataType::Struct(fields) => Arc::new(structure(values, fields)?),
        DataType::List(element) => {
            let lists = elements(values, |value| match value {
                Content::List(elements) => Some(elements.clone()),
                _ => None,
            });
            let child = array(&lists.children, element.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(element), lists.offsets, child, lists.valid)?)
        }
        DataType::Map(entry, ordered) => {
            let maps = elements(values, |value| match value {
                Content::Map(entries) => Some(
                    entries
                        .iter()
                        .map(|(key, value)| {
                            Content::Struct(vec![("key", Content::Text(key.clone())), ("value", value.clone())])
                        })
                        .collect(),
                ),
                _ => None,
            });
            let DataType::Struct(fields) = entry.data_type() else { bail!("a map without entries") };
            let entries = structure(&maps.children, fields)?;
            Arc::new(MapArray::try_new(Arc::clone(entry), maps.offsets, entries, maps.valid, *ordered)?)
        }
        other => bail!("raw tables have no {other}"),
    })
}

fn structure(values: &[Content], fields: &Fields) -> Result<StructArray> {
    let mut columns = Vec::new();
    for (place, field) in fields.iter().enumerate() {
        let own: Vec<Content> = values
            .iter()
            .map(|value| match value {
                Content::Struct(contents) => {
                    let (name, value) = contents.get(place).context("a struct has a field too few")?;
                    ensure!(name == field.name(), "{name} stands where {} should", field.name());
                    Ok(value.clone())
                }
                _ => Ok(Content::Null),
            })
            .collect::<Result<_>>()?;
        columns.push(array(&own, field.data_type())?);
    }
    let valid: NullBuffer = values.iter().map(|value| *value != Content::Null).collect();
    Ok(StructArray::try_new(fields.clone(), columns, Some(valid))?)
}

struct Elements {
    children: Vec<Content>,
    offsets: OffsetBuffer<i32>,
    valid: Option<NullBuffer>,
}

fn elements(values: &[Content], of: impl Fn(&Content) -> Option<Vec<Content>>) -> Elements {
    let lists: Vec<Option<Vec<Content>>> = values.iter().map(of).collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)));
    let valid: NullBuffer = lists.iter().map(Option::is_some).collect();
    Elements { children: lists.into_iter().flatten().flatten().collect(), offsets, valid: Some(valid) }
}
