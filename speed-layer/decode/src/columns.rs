//! Column builders: one per type, nested types included.
//!
//! A column may have fewer values than there are rows. The missing values at its end are NULL, and
//! are filled in when the next value comes or the batch ends. So fields that a source never sends
//! cost nothing per row.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::array::{ArrayRef, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use crate::cell::Cell;

/// Which rows have a value. Bits are stored only from the first NULL on.
#[derive(Debug, Default)]
struct Validity {
    rows: usize,
    /// A bit for each row, once there is a NULL.
    bits: Vec<u8>,
    nulls: usize,
}

impl Validity {
    #[inline]
    fn push(&mut self) {
        if self.nulls > 0 {
            self.set_next();
        }
        self.rows += 1;
    }

    #[inline]
    fn set_next(&mut self) {
        let (byte, bit) = (self.rows / 8, 1u8 << (self.rows % 8));
        match self.bits.get_mut(byte) {
            Some(byte) => *byte |= bit,
            None => self.bits.push(bit),
        }
    }

    fn push_nulls(&mut self, count: usize) {
        if self.nulls == 0 {
            self.bits.clear();
            self.bits.resize(self.rows / 8, 0xff);
            if !self.rows.is_multiple_of(8) {
                self.bits.push((1 << (self.rows % 8)) - 1);
            }
        }
        self.nulls += count;
        self.rows += count;
        self.bits.resize(self.rows.div_ceil(8), 0);
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        let Validity { rows, bits, nulls } = std::mem::take(self);
        (nulls > 0).then(|| NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows)))
    }
}

/// The capacity to reserve for a batch after one that used `used`. Batches differ a little in size.
/// A buffer without room for its last row would be copied into one of twice its size.
#[inline]
pub fn room_after(used: usize) -> usize {
    used + used / 8
}

/// Texts stored one after another, one per row.
#[derive(Debug)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// The start of the first text, and the end of each.
    offsets: Vec<i32>,
}

impl Texts {
    pub fn new() -> Texts {
        Texts { bytes: Vec::new(), offsets: vec![0] }
    }

    /// Appends the text of the next row.
    #[inline]
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        // A batch is finished long before its texts reach this length (see `Decoder::bytes`). If it
        // is not, `finish` reports an error.
        self.offsets.push(self.bytes.len() as i32);
    }

    fn push_empty(&mut self, count: usize) {
        let end = self.bytes.len() as i32;
        self.offsets.extend(std::iter::repeat_n(end, count));
    }

    /// Returns the texts so far, NULL where `nulls` says so. The builder is empty afterwards and
    /// reserves as much memory as they took.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let rows = self.offsets.len() - 1;
        // A column of NULLs alone reserves no memory.
        let is_empty = nulls.as_ref().is_some_and(|nulls| nulls.null_count() == rows);
        let room = if is_empty { (0, 1) } else { (room_after(self.bytes.len()), room_after(rows + 1)) };
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(room.0));
        let mut offsets = Vec::with_capacity(room.1);
        offsets.push(0);
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        if i32::try_from(bytes.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes.len()));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        if nulls.as_ref().is_some_and(|nulls| nulls.len() != rows) {
            return Err(ArrowError::ComputeError("a column has other rows than texts".to_owned()));
        }
        // SAFETY: the bytes are whole texts one after another, and the offsets are their ends. No
        // offset exceeds 2^31. There are as many rows as texts. Every text was checked to be UTF-8
        // when its record was read.
        let array = unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(bytes), nulls) };
        Ok(Arc::new(array))
    }
}

/// Returns the values so far, NULL where `nulls` says so. The builder is empty afterwards and
/// reserves as much memory as they took.
pub(crate) fn finish_values<P: ArrowPrimitiveType>(
    values: &mut Vec<P::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let is_empty = nulls.as_ref().is_some_and(|nulls| nulls.null_count() == values.len());
    let room = if is_empty { 0 } else { room_after(values.len()) };
    let values = std::mem::replace(values, Vec::with_capacity(room));
    let array = PrimitiveArray::<P>::try_new(ScalarBuffer::from(values), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

/// Builds one column.
#[derive(Debug)]
pub(crate) struct Column {
    valid: Validity,
    values: Values,
}

/// One value per row. The value of a row that is NULL is arbitrary.
#[derive(Debug)]
enum Values {
    Text(Texts),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    /// One byte per value.
    Boolean(Vec<u8>),
    Time(Vec<i64>, DataType),
    Amount(Vec<i128>, DataType),
    /// The children may have fewer values than there are rows, as columns may.
    Struct {
        fields: Fields,
        children: Vec<Column>,
    },
    List {
        element: FieldRef,
        child: Box<Column>,
        offsets: Vec<i32>,
    },
    Map {
        entry: FieldRef,
        keys: Texts,
        values: Box<Column>,
        offsets: Vec<i32>,
    },
}

impl Column {
    /// An empty column. Fails for types that events do not have.
    pub fn new(data_type: &DataType) -> Result<Column, ArrowError> {
        let values = match data_type {
            DataType::Utf8 => Values::Text(Texts::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float64 => Values::Double(Vec::new()),
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Time(Vec::new(), data_type.clone()),
            DataType::Decimal128(..) => Values::Amount(Vec::new(), data_type.clone()),
            DataType::Struct(fields) => Values::Struct {
                fields: fields.clone(),
                children: fields
                    .iter()
                    .map(|field| Column::new(field.data_type()))
                    .collect::<Result<_, ArrowError>>()?,
            },
            DataType::List(element) => Values::List {
                element: element.clone(),
                child: Box::new(Column::new(element.data_type())?),
                offsets: vec![0],
            },
            DataType::Map(entry, _) => Values::Map {
                entry: entry.clone(),
                keys: Texts::new(),
                values: Box::new(Column::texts()),
                offsets: vec![0],
            },
            other => return Err(ArrowError::SchemaError(format!("events have no values of type {other}"))),
        };
        Ok(Column { valid: Validity::default(), values })
    }

    /// An empty column of texts.
    pub fn texts() -> Column {
        Column { valid: Validity::default(), values: Values::Text(Texts::new()) }
    }

    /// An empty column of whole numbers.
    pub fn integers() -> Column {
        Column { valid: Validity::default(), values: Values::Int64(Vec::new()) }
    }

    /// Fills the column with NULL up to `rows` rows.
    #[inline]
    pub fn pad(&mut self, rows: usize) {
        if self.valid.rows < rows {
            self.push_nulls(rows - self.valid.rows);
        }
    }

    fn push_nulls(&mut self, count: usize) {
        self.valid.push_nulls(count);
        let rows = self.valid.rows;
        match &mut self.values {
            Values::Text(texts) => texts.push_empty(count),
            Values::Int32(values) => values.resize(rows, 0),
            Values::Int64(values) | Values::Time(values, _) => values.resize(rows, 0),
            Values::Double(values) => values.resize(rows, 0.0),
            Values::Boolean(values) => values.resize(rows, 0),
            Values::Amount(values, _) => values.resize(rows, 0),
            Values::Struct { .. } => {}
            Values::List { offsets, .. } | Values::Map { offsets, .. } => {
                let end = offsets.last().copied().unwrap_or(0);
                offsets.resize(rows + 1, end);
            }
        }
    }

    /// Sets the value of row `row`, which is the next row or a later one. A value of another type
    /// than the column's becomes NULL (the decoder never makes one).
    #[inline]
    pub fn set(&mut self, row: usize, cell: &Cell<'_>) {
        self.pad(row);
        match (&mut self.values, cell) {
            (Values::Text(texts), Cell::Text(text)) => texts.push(text),
            (Values::Int32(values), Cell::Integer(value)) => values.push(*value as i32),
            (Values::Int64(values) | Values::Time(values, _), Cell::Integer(value)) => values.push(*value),
            (Values::Double(values), Cell::Double(value)) => values.push(*value),
            (Values::Boolean(values), Cell::Boolean(value)) => values.push(u8::from(*value)),
            (Values::Amount(values, _), Cell::Amount(value)) => values.push(*value),
            (values, cell) => {
                if !values.set_nested(row, cell) {
                    return self.push_nulls(1);
                }
            }
        }
        self.valid.push();
    }

    /// As [`Column::set`], for a column of texts.
    #[inline]
    pub fn set_text(&mut self, row: usize, text: &str) {
        self.pad(row);
        if let Values::Text(texts) = &mut self.values {
            texts.push(text);
            self.valid.push();
        }
    }

    /// Returns the column of `rows` rows. The builder is empty afterwards.
    pub fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        let nulls = self.valid.finish();
        match &mut self.values {
            Values::Text(texts) => texts.finish(nulls),
            Values::Int32(values) => finish_values::<Int32Type>(values, nulls, &DataType::Int32),
            Values::Int64(values) => finish_values::<Int64Type>(values, nulls, &DataType::Int64),
            Values::Double(values) => finish_values::<Float64Type>(values, nulls, &DataType::Float64),
            Values::Boolean(values) => {
                let bits = values.drain(..).map(|value| value != 0).collect();
                Ok(Arc::new(BooleanArray::new(bits, nulls)))
            }
            Values::Time(values, data_type) => finish_values::<TimestampMicrosecondType>(values, nulls, data_type),
            Values::Amount(values, data_type) => finish_values::<Decimal128Type>(values, nulls, data_type),
            Values::Struct { fields, children } => {
                let arrays = children.iter_mut().map(|child| child.finish(rows)).collect::<Result<_, _>>()?;
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?))
            }
            Values::List { element, child, offsets } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let values = child.finish(offsets.last().copied().unwrap_or(0) as usize)?;
                let offsets = OffsetBuffer::new(offsets.into());
                Ok(Arc::new(ListArray::try_new(element.clone(), offsets, values, nulls)?))
            }
            Values::Map { entry, keys, values, offsets } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let entries = offsets.last().copied().unwrap_or(0) as usize;
                let offsets = OffsetBuffer::new(offsets.into());
                let DataType::Struct(fields) = entry.data_type() else {
                    return Err(ArrowError::SchemaError("the entries of a map are no struct".to_owned()));
                };
                let columns = vec![keys.finish(None)?, values.finish(entries)?];
                let entries = StructArray::try_new(fields.clone(), columns, None)?;
                Ok(Arc::new(MapArray::try_new(entry.clone(), offsets, entries, nulls, false)?))
            }
        }
    }
}

impl Values {
    /// As [`Column::set`], for nested types. Returns `false` if the value is of another type.
    fn set_nested(&mut self, row: usize, cell: &Cell<'_>) -> bool {
        match (self, cell) {
            (Values::Struct { children, .. }, Cell::Struct(cells)) => {
                for (child, cell) in children.iter_mut().zip(*cells) {
                    if !matches!(cell, Cell::Null) {
                        child.set(row, cell);
                    }
                }
            }
            (Values::List { child, offsets, .. }, Cell::List(cells)) => {
                let start = offsets.last().copied().unwrap_or(0);
                for (at, cell) in cells.iter().enumerate() {
                    child.set(start as usize + at, cell);
                }
                let end = start + cells.len() as i32;
                child.pad(end as usize);
                offsets.push(end);
            }
            (Values::Map { keys, values, offsets, .. }, Cell::Map(entries)) => {
                let start = offsets.last().copied().unwrap_or(0);
                for (at, (key, value)) in entries.iter().enumerate() {
                    keys.push(key);
                    if let Some(value) = value {
                        values.set(start as usize + at, &Cell::Text(value));
                    }
                }
                offsets.push(start + entries.len() as i32);
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;
    use adlake_domain::schema;
    use arrow::array::{Array, AsArray};
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
    fn values_and_nulls_are_those_that_were_set() {
        // Every seventh pattern of fifteen rows. The columns are reused: what was finished before
        // must not matter.
        let (mut texts, mut numbers) = (Column::new(&DataType::Utf8).unwrap(), Column::new(&DataType::Int64).unwrap());
        for pattern in (0..1u32 << 15).step_by(7) {
            let expected: Vec<Option<i64>> = (0..15).map(|row| (pattern >> row & 1 == 1).then_some(row)).collect();
            let words: Vec<Option<String>> = expected.iter().map(|row| Some("é".repeat((*row)? as usize))).collect();
            for row in 0..15 {
                if let (Some(number), Some(word)) = (expected[row], &words[row]) {
                    numbers.set(row, &Cell::Integer(number));
                    texts.set(row, &Cell::Text(word));
                }
            }
            let found = numbers.finish(15).unwrap();
            assert_eq!(found.as_primitive::<Int64Type>(), &PrimitiveArray::<Int64Type>::from(expected));
            let found = texts.finish(15).unwrap();
            assert_eq!(found.as_string::<i32>(), &StringArray::from(words));
            found.to_data().validate_full().unwrap();
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
