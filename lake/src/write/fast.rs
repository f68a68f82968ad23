//! Encodes a file in less time than the Parquet library alone: columns of texts and of wide numbers
//! with dictionaries are encoded here ([`CodedColumn`]), all other columns by the library
//! (docs/decisions/0008).

use std::slice;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Fields, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::ZstdLevel;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;

use super::encoder::FileEncoder;
use super::pieces::Pieces;

mod coded_column;
mod dictionary;
mod hybrid;
mod texts;

use coded_column::{CodedColumn, Compressor, Parent};
use texts::{Texts, WideNumbers};

/// Encodes rows of one schema.
pub(super) struct FastEncoder {
    schema: SchemaRef,
    file: SerializedFileWriter<Pieces>,
    library: ArrowRowGroupWriterFactory,
    compressor: Compressor,
    row_group_rows: usize,
    /// The leaf columns in the schema's order. The columns of a struct are at the struct's place.
    columns: Vec<Column>,
    /// Rows of the open row group.
    rows: usize,
}

impl std::fmt::Debug for FastEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FastEncoder").field("columns", &self.columns).field("rows", &self.rows).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Column {
    Coded(Box<CodedColumn>),
    /// The writer of the open row group's column.
    Library(Option<Box<ArrowColumnWriter>>),
}

/// The structs that contain a column, the outermost first.
type Structs<'a> = Vec<(&'a FieldRef, Option<&'a NullBuffer>)>;

impl FastEncoder {
    pub(super) fn new(schema: SchemaRef, properties: WriterProperties, level: ZstdLevel) -> Result<FastEncoder> {
        let row_group_rows = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let writer = ArrowWriter::try_new(Pieces::default(), schema.clone(), Some(properties))?;
        let (file, library) = writer.into_serialized_writer()?;
        let properties = file.properties();
        let column = |descriptor: &ColumnDescPtr| match CodedColumn::is_for(descriptor, properties) {
            true => Column::Coded(Box::new(CodedColumn::new(descriptor.clone(), properties))),
            false => Column::Library(None),
        };
        let columns = file.schema_descr().columns().iter().map(column).collect();
        let compressor = Compressor::new(level)?;
        Ok(FastEncoder { schema, file, library, compressor, row_group_rows, columns, rows: 0 })
    }

    fn begin_row_group(&mut self) -> Result<()> {
        let library = self.library.create_column_writers(self.file.flushed_row_groups().len())?;
        for (column, library) in self.columns.iter_mut().zip(library) {
            if let Column::Library(column) = column {
                *column = Some(Box::new(library));
            }
        }
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<()> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let mut row_group = self.file.next_row_group()?;
        for column in &mut self.columns {
            match column {
                Column::Coded(column) => column.append_to(&mut row_group, &mut self.compressor)?,
                Column::Library(column) => {
                    if let Some(column) = column.take() {
                        column.close()?.append_to_row_group(&mut row_group)?;
                    }
                }
            }
        }
        row_group.close()?;
        Ok(())
    }
}

impl FileEncoder for FastEncoder {
    fn encode(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut first = 0;
        while first < batch.num_rows() {
            if self.rows == 0 {
                self.begin_row_group()?;
            }
            let rows = (batch.num_rows() - first).min(self.row_group_rows - self.rows);
            let part = batch.slice(first, rows);
            let mut columns = self.columns.iter_mut();
            for (field, array) in self.schema.fields().iter().zip(part.columns()) {
                write(field, array, &mut Vec::new(), &mut columns, &mut self.compressor)?;
            }
            self.rows += rows;
            if self.rows == self.row_group_rows {
                self.end_row_group()?;
            }
            first += rows;
        }
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.file.bytes_written() + self.columns.iter().map(Column::encoded_bytes).sum::<usize>()
    }

    fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().map(Column::memory_bytes).sum::<usize>();
        self.file.bytes_written() + self.compressor.memory_bytes() + columns
    }

    fn finish(mut self: Box<Self>) -> Result<(Vec<Bytes>, ParquetMetaData)> {
        self.end_row_group()?;
        let metadata = self.file.finish()?;
        Ok((std::mem::take(self.file.inner_mut()).finish(), metadata))
    }
}

impl Column {
    fn encoded_bytes(&self) -> usize {
        match self {
            Column::Coded(column) => column.encoded_bytes(),
            Column::Library(column) => column.as_ref().map_or(0, |column| column.get_estimated_total_bytes()),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Column::Coded(column) => column.memory_bytes(),
            Column::Library(column) => column.as_ref().map_or(0, |column| column.memory_size()),
        }
    }
}

/// Writes a field's rows to its columns.
fn write<'a>(
    field: &'a FieldRef,
    array: &'a ArrayRef,
    structs: &mut Structs<'a>,
    columns: &mut slice::IterMut<'_, Column>,
    compressor: &mut Compressor,
) -> Result<()> {
    match (field.data_type(), columns.as_slice().first()) {
        (DataType::Struct(fields), _) => {
            let array = array.as_struct();
            structs.push((field, array.nulls()));
            for (field, array) in fields.iter().zip(array.columns()) {
                write(field, array, structs, columns, compressor)?;
            }
            structs.pop();
            Ok(())
        }
        (_, Some(Column::Coded(_))) => {
            let Some(Column::Coded(column)) = columns.next() else { return Err(too_many(field)) };
            let parent = |&(field, nulls): &(&FieldRef, _)| Parent { is_nullable: field.is_nullable(), nulls };
            let parents: Vec<Parent<'_>> = structs.iter().map(parent).collect();
            if let Some(numbers) = array.as_primitive_opt::<Decimal128Type>() {
                let numbers = WideNumbers::of(numbers);
                return column.write(&numbers.texts(), field.is_nullable(), &parents, compressor);
            }
            // Cast, because a table may hold texts in another of Arrow's text types.
            let texts = cast(array, &DataType::Utf8)?;
            column.write(&Texts::of(texts.as_string()), field.is_nullable(), &parents, compressor)
        }
        _ => {
            let (field, array) = within(structs, field, array)?;
            for leaf in compute_leaves(&field, &array)? {
                match columns.next() {
                    Some(Column::Library(Some(column))) => column.write(&leaf)?,
                    _ => return Err(too_many(&field)),
                }
            }
            Ok(())
        }
    }
}

/// Wraps a field in its structs, without their other fields. The library computes the column's
/// definition levels from them.
fn within(structs: &Structs<'_>, field: &FieldRef, array: &ArrayRef) -> Result<(FieldRef, ArrayRef)> {
    let mut inner = (field.clone(), array.clone());
    for (parent, nulls) in structs.iter().rev() {
        let fields = Fields::from(vec![inner.0]);
        let array = StructArray::try_new(fields.clone(), vec![inner.1], nulls.cloned())?;
        let field = Field::new(parent.name(), DataType::Struct(fields), parent.is_nullable());
        inner = (Arc::new(field), Arc::new(array));
    }
    Ok(inner)
}

fn too_many(field: &Field) -> ParquetError {
    ParquetError::General(format!("column {} has other parts than the file's schema says", field.name()))
}
