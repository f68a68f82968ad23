//! A Parquet file that is being written. Text columns with dictionaries are encoded here
//! ([`TextColumn`]). The Parquet library encodes all other columns.

use std::slice;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::ZstdLevel;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;

use super::pieces::Pieces;
use super::texts::{Compressor, Parent, TextColumn};

/// Writes rows of one schema into one file, which is held in memory.
pub(super) struct FileWriter {
    schema: SchemaRef,
    file: SerializedFileWriter<Pieces>,
    library: ArrowRowGroupWriterFactory,
    compressor: Compressor,
    row_group_rows: usize,
    /// The leaf columns in the schema's order. The columns of a struct are at the struct's place.
    columns: Vec<Column>,
    /// Rows of the open row group.
    rows: usize,
    /// Whether a write failed halfway, so that the columns differ in length.
    is_torn: bool,
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter").field("columns", &self.columns).field("rows", &self.rows).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Column {
    Texts(Box<TextColumn>),
    /// The writer of the open row group's column.
    Library(Option<Box<ArrowColumnWriter>>),
}

/// The structs that contain a column, the outermost first.
type Structs<'a> = Vec<(&'a FieldRef, Option<&'a NullBuffer>)>;

impl FileWriter {
    pub(super) fn new(schema: SchemaRef, properties: WriterProperties, level: ZstdLevel) -> Result<FileWriter> {
        let row_group_rows = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let writer = ArrowWriter::try_new(Pieces::default(), schema.clone(), Some(properties))?;
        let (file, library) = writer.into_serialized_writer()?;
        let properties = file.properties();
        let column = |descriptor: &ColumnDescPtr| match TextColumn::is_for(descriptor, properties) {
            true => Column::Texts(Box::new(TextColumn::new(descriptor.clone(), properties))),
            false => Column::Library(None),
        };
        let columns = file.schema_descr().columns().iter().map(column).collect();
        let compressor = Compressor::new(level)?;
        Ok(FileWriter { schema, file, library, compressor, row_group_rows, columns, rows: 0, is_torn: false })
    }

    /// Bytes of the file so far and of the open row group, approximately.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.file.bytes_written() + self.columns.iter().map(Column::encoded_bytes).sum::<usize>()
    }

    /// Bytes held in memory, approximately.
    pub(super) fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().map(Column::memory_bytes).sum::<usize>();
        self.file.bytes_written() + self.compressor.memory_bytes() + columns
    }

    /// Encodes rows. They must have the file's schema. After an error the file is unusable.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if std::mem::replace(&mut self.is_torn, true) {
            return Err(torn());
        }
        self.add(batch)?;
        self.is_torn = false;
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
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
                Column::Texts(column) => column.append_to(&mut row_group, &mut self.compressor)?,
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

    /// Ends the file and returns its bytes and its metadata.
    pub(super) fn finish(mut self) -> Result<(Vec<Bytes>, ParquetMetaData)> {
        if self.is_torn {
            return Err(torn());
        }
        self.end_row_group()?;
        let metadata = self.file.finish()?;
        Ok((std::mem::take(self.file.inner_mut()).finish(), metadata))
    }
}

impl Column {
    fn encoded_bytes(&self) -> usize {
        match self {
            Column::Texts(column) => column.encoded_bytes(),
            Column::Library(column) => column.as_ref().map_or(0, |column| column.get_estimated_total_bytes()),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Column::Texts(column) => column.memory_bytes(),
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
        (_, Some(Column::Texts(_))) => {
            let Some(Column::Texts(column)) = columns.next() else { return Err(too_many(field)) };
            let parent = |&(field, nulls): &(&FieldRef, _)| Parent { is_nullable: field.is_nullable(), nulls };
            let parents: Vec<Parent<'_>> = structs.iter().map(parent).collect();
            // Cast, because a table may hold texts in another of Arrow's text types.
            let texts = cast(array, &DataType::Utf8)?;
            column.write(texts.as_string(), field.is_nullable(), &parents, compressor)
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

fn torn() -> ParquetError {
    ParquetError::General("rows of this file were refused before".to_owned())
}

fn too_many(field: &Field) -> ParquetError {
    ParquetError::General(format!("{} is not as its schema says", field.name()))
}
