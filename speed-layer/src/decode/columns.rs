//! Columns in the making: one builder per type, nested types included.
//!
//! A column may lag behind the rows: what is missing at its end is NULL, and is filled in when a value comes or the
//! batch ends. Fields that a source never sends cost nothing per row.

use std::sync::Arc;

use arrow::array::builder::{
    BooleanBuilder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder, NullBufferBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

/// A value of the type of its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(&'a str),
    /// Also times, in microseconds.
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// 10^-12 units.
    Amount(i128),
    /// In the order of the type's fields.
    Struct(&'a [Cell<'a>]),
    List(&'a [Cell<'a>]),
    /// Sorted by key.
    Map(&'a [(&'a str, Option<&'a str>)]),
}

impl<'a> Cell<'a> {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A part of a struct.
    pub fn part(&self, index: usize) -> Cell<'a> {
        match self {
            Cell::Struct(cells) => cells.get(index).copied().unwrap_or(Cell::Null),
            _ => Cell::Null,
        }
    }
}

/// A column in the making.
#[derive(Debug)]
pub(crate) enum Column {
    Text(StringBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
    Amount(Decimal128Builder),
    Struct { fields: Fields, children: Vec<Column>, valid: NullBufferBuilder },
    List { element: FieldRef, child: Box<Column>, offsets: Vec<i32>, valid: NullBufferBuilder },
    Map { entry: FieldRef, keys: StringBuilder, values: StringBuilder, offsets: Vec<i32>, valid: NullBufferBuilder },
}

impl Column {
    /// An empty column; errors for types that events do not have.
    pub fn new(data_type: &DataType) -> Result<Column, ArrowError> {
        Ok(match data_type {
            DataType::Utf8 => Column::Text(StringBuilder::new()),
            DataType::Int32 => Column::Int32(Int32Builder::new()),
            DataType::Int64 => Column::Int64(Int64Builder::new()),
            DataType::Float64 => Column::Double(Float64Builder::new()),
            DataType::Boolean => Column::Boolean(BooleanBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Column::Time(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::Decimal128(..) => Column::Amount(Decimal128Builder::new().with_data_type(data_type.clone())),
            DataType::Struct(fields) => Column::Struct {
                fields: fields.clone(),
                children: fields
                    .iter()
                    .map(|field| Column::new(field.data_type()))
                    .collect::<Result<_, ArrowError>>()?,
                valid: NullBufferBuilder::new(0),
            },
            DataType::List(element) => Column::List {
                element: element.clone(),
                child: Box::new(Column::new(element.data_type())?),
                offsets: vec![0],
                valid: NullBufferBuilder::new(0),
            },
            DataType::Map(entry, _) => Column::Map {
                entry: entry.clone(),
                keys: StringBuilder::new(),
                values: StringBuilder::new(),
                offsets: vec![0],
                valid: NullBufferBuilder::new(0),
            },
            other => return Err(ArrowError::SchemaError(format!("events have no values of type {other}"))),
        })
    }

    /// The rows it has so far.
    fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match self {
            Column::Text(builder) => builder.len(),
            Column::Int32(builder) => builder.len(),
            Column::Int64(builder) => builder.len(),
            Column::Double(builder) => builder.len(),
            Column::Boolean(builder) => builder.len(),
            Column::Time(builder) => builder.len(),
            Column::Amount(builder) => builder.len(),
            Column::Struct { valid, .. } | Column::List { valid, .. } | Column::Map { valid, .. } => valid.len(),
        }
    }

    /// NULL up to `rows` rows.
    #[inline]
    pub fn pad(&mut self, rows: usize) {
        let missing = rows - self.len().min(rows);
        if missing > 0 {
            self.append_nulls(missing);
        }
    }

    #[cold]
    fn append_nulls(&mut self, count: usize) {
        match self {
            Column::Text(builder) => builder.append_nulls(count),
            Column::Int32(builder) => builder.append_nulls(count),
            Column::Int64(builder) => builder.append_nulls(count),
            Column::Double(builder) => builder.append_nulls(count),
            Column::Boolean(builder) => builder.append_nulls(count),
            Column::Time(builder) => builder.append_nulls(count),
            Column::Amount(builder) => builder.append_nulls(count),
            Column::Struct { valid, .. } => valid.append_n_nulls(count),
            Column::List { offsets, valid, .. } | Column::Map { offsets, valid, .. } => {
                let end = offsets.last().copied().unwrap_or(0);
                offsets.extend(std::iter::repeat_n(end, count));
                valid.append_n_nulls(count);
            }
        }
    }

    /// The value of row `row`, which is the next or a later one; a value of another type than the column's is NULL
    /// (the decoder never makes one).
    #[inline]
    pub fn set(&mut self, row: usize, cell: &Cell<'_>) {
        self.pad(row);
        match (self, cell) {
            (Column::Text(builder), Cell::Text(text)) => builder.append_value(text),
            (Column::Int32(builder), Cell::Integer(value)) => builder.append_value(*value as i32),
            (Column::Int64(builder), Cell::Integer(value)) => builder.append_value(*value),
            (Column::Time(builder), Cell::Integer(value)) => builder.append_value(*value),
            (Column::Double(builder), Cell::Double(value)) => builder.append_value(*value),
            (Column::Boolean(builder), Cell::Boolean(value)) => builder.append_value(*value),
            (Column::Amount(builder), Cell::Amount(value)) => builder.append_value(*value),
            (Column::Struct { children, valid, .. }, Cell::Struct(cells)) => {
                for (child, cell) in children.iter_mut().zip(*cells) {
                    if !matches!(cell, Cell::Null) {
                        child.set(row, cell);
                    }
                }
                valid.append_non_null();
            }
            (Column::List { child, offsets, valid, .. }, Cell::List(cells)) => {
                let start = offsets.last().copied().unwrap_or(0);
                for (at, cell) in cells.iter().enumerate() {
                    child.set(start as usize + at, cell);
                }
                let end = start + cells.len() as i32;
                child.pad(end as usize);
                offsets.push(end);
                valid.append_non_null();
            }
            (Column::Map { keys, values, offsets, valid, .. }, Cell::Map(entries)) => {
                for (key, value) in *entries {
                    keys.append_value(key);
                    values.append_option(*value);
                }
                offsets.push(offsets.last().copied().unwrap_or(0) + entries.len() as i32);
                valid.append_non_null();
            }
            (column, _) => column.append_nulls(1),
        }
    }

    /// The column of `rows` rows; what follows begins a new one.
    pub fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        Ok(match self {
            Column::Text(builder) => finish_text(builder),
            Column::Int32(builder) => Arc::new(builder.finish()),
            Column::Int64(builder) => Arc::new(builder.finish()),
            Column::Double(builder) => Arc::new(builder.finish()),
            Column::Boolean(builder) => Arc::new(builder.finish()),
            Column::Time(builder) => Arc::new(builder.finish()),
            Column::Amount(builder) => Arc::new(builder.finish()),
            Column::Struct { fields, children, valid } => {
                let arrays = children.iter_mut().map(|child| child.finish(rows)).collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, valid.finish(), rows)?)
            }
            Column::List { element, child, offsets, valid } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let values = child.finish(offsets.last().copied().unwrap_or(0) as usize)?;
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(ListArray::try_new(element.clone(), offsets, values, valid.finish())?)
            }
            Column::Map { entry, keys, values, offsets, valid } => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let DataType::Struct(fields) = entry.data_type() else {
                    return Err(ArrowError::SchemaError("the entries of a map are no struct".to_owned()));
                };
                let entries = StructArray::try_new(fields.clone(), vec![finish_text(keys), finish_text(values)], None)?;
                Arc::new(MapArray::try_new(entry.clone(), offsets, entries, valid.finish(), false)?)
            }
        })
    }
}

/// The finished texts; the builder's successor begins with the room that they took.
pub(crate) fn finish_text(builder: &mut StringBuilder) -> ArrayRef {
    let (rows, bytes) = (builder.offsets_slice().len(), builder.values_slice().len());
    let array = builder.finish();
    // A column of NULLs alone keeps none.
    if array.null_count() < array.len() {
        *builder = StringBuilder::with_capacity(rows, bytes);
    }
    Arc::new(array)
}

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;
    use adlake_domain::schema;
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn every_content_type_can_be_built_and_lags() {
        for kind in EventKind::ALL {
            for field in schema::content_fields(kind) {
                let mut column = Column::new(field.data_type()).unwrap();
                let array = column.finish(3).unwrap();
                assert_eq!((array.len(), array.null_count()), (3, 3), "{field}");
                assert_eq!(array.data_type(), field.data_type());
                assert_eq!(column.finish(0).unwrap().len(), 0);
            }
        }
    }

    #[test]
    fn nested_values_land_where_they_belong() {
        let mut column =
            Column::new(&DataType::List(Arc::new(arrow::datatypes::Field::new("element", schema::imp_type(), true))))
                .unwrap();
        let mut imp = [Cell::Null; 8];
        imp[0] = Cell::Text("a");
        let banner = [Cell::Integer(300), Cell::Null, Cell::Null];
        let mut other = [Cell::Null; 8];
        other[6] = Cell::Struct(&banner);
        column.set(1, &Cell::List(&[Cell::Struct(&imp), Cell::Null, Cell::Struct(&other)]));
        column.set(2, &Cell::List(&[]));
        column.set(4, &Cell::List(&[Cell::Struct(&imp)]));
        let array = column.finish(5).unwrap();
        let list = array.as_list::<i32>();
        assert_eq!(list.null_count(), 2);
        assert_eq!(list.value_offsets(), [0, 0, 3, 3, 3, 4]);
        let imps = list.values().as_struct();
        assert!(imps.is_null(1));
        let ids: Vec<_> = imps.column_by_name("id").unwrap().as_string::<i32>().iter().collect();
        assert_eq!(ids, [Some("a"), None, None, Some("a")]);
        let banner = imps.column_by_name("banner").unwrap().as_struct();
        assert!(banner.is_null(0) && banner.is_valid(2) && banner.is_null(3));
        assert_eq!(banner.column(0).as_primitive::<Int32Type>().value(2), 300);
    }
}
